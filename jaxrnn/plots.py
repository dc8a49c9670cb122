"""Plots of the results of :mod:`jaxrnn.gradients` and of the metrics of a run.

Each function draws into ``axes``, or into a new figure, and returns the axes: ``axes.figure.savefig("flow.png")``.
Plots need matplotlib, imported at the first call: ``pip install 'jaxrnn[scripts]'``.
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxrnn import checks
from jaxrnn.types import PyTree, State

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxrnn.gradients import FixedPoints, GateStatistics

# Okabe & Ito (2008): distinguishable with any colour vision; in print by line style
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#000000", "#CC79A7", "#56B4E9")
DASHES = ("-", "--", "-.", "-", (0, (4, 4)), (0, (5, 1, 1, 1, 1, 1)))
BLUE, RED, GREEN, ORANGE, GREY = *COLOURS[:4], "#777777"


def flow_by_lag(curves: Mapping[str, ArrayLike], axes: Axes | None = None, *, quantity: str = "gradient norm") -> Axes:
    """Plot the norm of a gradient after k steps backwards, of several cells, on one logarithmic axis.

    Args:
        curves: by name, norms ``[T, ...]`` over time, of :func:`~jaxrnn.gradients.gradient_flow` or
            :func:`~jaxrnn.gradients.sensitivity`. Over batch axes the median is drawn, and a band from the smallest to
            the largest. The h and c of an LSTM are two curves.
        axes: the axes to draw into; by default a new figure.
        quantity: label of the vertical axis.

    Raises:
        TypeError, ValueError: a curve is not an array, or is empty.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cells = {"vanilla": rnn.VanillaRNN(3, 8), "GRU": rnn.GRU(3, 8)}
        >>> curves = {name: rnn.gradients.sensitivity(cell, cell.init(jax.random.key(0)), jnp.ones((20, 4, 3))).by_input
        ...           for name, cell in cells.items()}
        >>> axes = rnn.plots.flow_by_lag(curves, quantity="‖∂hₙ / ∂xₙ₋ₖ‖ / √q")
        >>> axes.get_xlabel(), axes.get_yscale()
        ('lag k [steps]', 'log')
    """
    _by_name("curves", curves, "norms over time by name, such as {'GRU': flow}")
    if not curves:
        checks.refuse("curves", "one curve at least", "none")
    norms = {name: _numbers(f"curves[{name!r}]", curve, "norms [T, ...]")[::-1] for name, curve in curves.items()}
    axes = _axes(axes)
    widths = np.linspace(3, 1.5, max(len(norms), 2))  # later curves are thinner, so that earlier ones stay visible
    for (name, curve), style, width in zip(norms.items(), _styles(), widths):
        visible = (curve > 0) & np.isfinite(curve)  # on a logarithmic axis
        rows = np.where(visible, curve, np.nan).reshape(len(curve), -1)
        median, lags = _median(rows), np.arange(len(rows))
        label = name if visible.any() else f"{name} (0 or not finite throughout)"
        (line,) = axes.plot(lags, median, label=label, lw=width, marker=_dot(rows), **style)
        if rows.shape[1] > 1:
            low, high = np.fmin.reduce(rows, 1), np.fmax.reduce(rows, 1)
            axes.fill_between(lags, low, high, color=line.get_color(), alpha=0.15, lw=0)
    axes.set(yscale="log", xlabel="lag k [steps]", ylabel=quantity)
    return _finish(axes)


def singular_values(values: ArrayLike, axes: Axes | None = None) -> Axes:
    """Plot the singular values of products of Jacobians by lag: directions above 1 grow, those below 1 decay.

    A line ends where its value is below the rounding error of the largest one.

    Args:
        values: ``[T, S]`` of :func:`~jaxrnn.gradients.product_singular_values`.
        axes: the axes to draw into; by default a new figure.

    Raises:
        TypeError, ValueError: the values are not ``[T, S]``.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.GRU(3, 8)
        >>> jacobians = rnn.gradients.trajectory_jacobians(cell, cell.init(jax.random.key(0)), jnp.ones((20, 3)))
        >>> axes = rnn.plots.singular_values(rnn.gradients.product_singular_values(jacobians))
    """
    sigma = _numbers("values", values, "[T, S], those of product_singular_values")
    if sigma.ndim != 2 or not sigma.size:
        checks.refuse("values", "[T, S], those of product_singular_values", checks.describe(values))
    axes = _axes(axes)
    dtype = getattr(values, "dtype", sigma.dtype)
    eps = jax.dtypes.finfo(dtype if jax.dtypes.issubdtype(dtype, np.floating) else sigma.dtype).eps
    significant = sigma > float(eps) * sigma[:, :1]  # the rest is rounding error of the largest
    sigma, lags, count = np.where(significant, sigma, np.nan), np.arange(1, len(sigma) + 1), sigma.shape[1]
    for n in range(count):
        axes.plot(lags, sigma[:, n], color=_viridis(n / max(count - 1, 1)), lw=0.8, alpha=0.8)
    labels = {count // 2: "median", count - 1: "smallest", 0: "largest"}  # of one value only "largest"
    for n, name in sorted(labels.items()):
        axes.plot(lags, sigma[:, n], color=_viridis(n / max(count - 1, 1)), lw=2.5, label=name, marker=_dot(sigma))
    axes.axhline(1, color=GREY, lw=0.8)
    axes.set(yscale="log", xlabel="lag k [steps]", ylabel="singular values of the product of k Jacobians")
    return _finish(axes)


def gate_saturation(statistics: Mapping[str, GateStatistics], axes: Axes | None = None) -> Axes:
    """Plot how often each gate of a cell is closed, open or in between, and for how long its units remember.

    Args:
        statistics: of one cell, by name of the gate, of :func:`~jaxrnn.gradients.gate_statistics`.
        axes: the axes to draw into; by default a new figure.

    Raises:
        TypeError, ValueError: they are those of a model with several cells, or of a cell without gates.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.LSTM(3, 8)
        >>> gates = rnn.gradients.gate_statistics(cell, cell.init(jax.random.key(0)), jnp.ones((20, 4, 3)))
        >>> axes = rnn.plots.gate_saturation(gates)
    """
    _by_name("statistics", statistics, "those of one cell", "of a stack, statistics[n] belongs to layer n")
    names = [name for name in statistics if name != "keep"] or list(statistics)
    if not names:
        checks.refuse("statistics", "those of a cell with gates", "none", "gate_statistics gives one dict a cell")
    for name, gate in statistics.items():
        if not np.size(getattr(gate, "closed", ())):
            checks.refuse(f"statistics[{name!r}]", "those of one gate, from gate_statistics", checks.tree_summary(gate),
                          error=TypeError)  # fmt: skip
    axes = _axes(axes)
    closed, open_ = (np.array([np.mean(getattr(statistics[n], part)) for n in names]) for part in ("closed", "open"))
    between = 1 - closed - open_
    left = np.zeros(len(names))
    for share, name, colour in ((closed, "closed", BLUE), (between, "in between", "#DDDDDD"), (open_, "open", ORANGE)):
        axes.barh(names, 100 * share, left=100 * left, color=colour, label=name, height=0.5)
        for row, (start, width) in enumerate(zip(left, share)):
            if width > 0.06:
                text_colour = "white" if name == "closed" else "black"
                axes.text(100 * (start + width / 2), row, f"{width:.0%}", ha="center", va="center", color=text_colour)
        left = left + share
    axes.set(xlabel="steps and units [%]", ylabel="gate", xlim=(0, 100))
    axes.invert_yaxis()
    if "keep" in statistics and statistics["keep"].time_constant is not None:
        low, median, high = np.quantile(
            np.asarray(statistics["keep"].time_constant, float), (0, 0.5, 1), method="nearest"
        )
        axes.set_title(f"units remember {median:.3g} steps (median; {low:.3g} to {high:.3g})", fontsize="medium")
    return _finish(axes, below=3)


def loss_curve(
    metrics: str | os.PathLike | Mapping[str, Any],
    axes: Axes | None = None,
    *,
    clip: float | None = None,
    quantity: str = "loss",
) -> Axes:
    """Plot the loss of every step, the validation losses, and the gradient norm with the steps that were clipped.

    Args:
        metrics: the JSON-lines file of :func:`~jaxrnn.learning.fit`, or arrays by name: ``loss [K]`` and optionally
            ``step [K]`` and ``grad_norm [K]``.
        axes: the axes to draw into; by default a new figure. The norm has its own vertical axis at the right,
            ``figure.axes[-1]``.
        clip: the norm at which the optimizer clips the gradient.
        quantity: the loss and its unit, label of the vertical axis.

    Raises:
        TypeError, ValueError: there is no loss among the metrics, or arrays have unequal lengths.

    Example:
        >>> import numpy as np, jaxrnn as rnn
        >>> steps = np.arange(1, 101)
        >>> axes = rnn.plots.loss_curve({"loss": 1 / steps, "grad_norm": 5 / steps}, clip=1.0, quantity="loss [nats]")
        >>> axes.get_ylabel(), axes.figure.axes[-1].get_ylabel()
        ('loss [nats]', 'gradient norm before clipping')
    """
    if not isinstance(metrics, (str, os.PathLike)):
        _by_name("metrics", metrics, "a path, or arrays by name")
    lines, evaluations = (_arrays(metrics), []) if isinstance(metrics, Mapping) else _read(metrics)
    axes, loss, norm = _axes(axes), lines["loss"], lines.get("grad_norm")
    steps = lines.get("step", np.arange(1, len(loss) + 1))
    many = len(loss) >= 100
    thin: dict[str, Any] = {"lw": 0.6, "alpha": 0.45} if many else {"lw": 1.5, "marker": _dot(loss)}
    handles = axes.plot(steps, loss, color=BLUE, label="training, each step", **thin)
    if many:
        handles += axes.plot(steps, _smooth(loss), color=BLUE, lw=1.8, label="training, running mean")
    if evaluations:
        handles += axes.plot(*zip(*evaluations), "o-", color="black", ms=5, lw=1, label="validation")
    if norm is not None:
        right = axes.twinx()
        handles += right.plot(steps, norm, color=RED, label="gradient norm (right)", **thin)
        right.set(yscale="log", ylabel="gradient norm before clipping")
        right.yaxis.label.set_color(RED)
        if clip is not None:
            clipped = norm > clip
            handles.append(right.axhline(clip, color=RED, lw=1, ls="--", label=f"clipped above {clip:g}"))
            share = f"clipping acted, {np.mean(clipped):.0%} of steps"
            handles += right.plot(steps[clipped], np.full(clipped.sum(), 0.015), "|", color=RED, ms=7, mew=0.6,
                                  alpha=0.6, transform=right.get_xaxis_transform(), label=share)  # fmt: skip
        axes.set_zorder(right.get_zorder() + 1)
        axes.patch.set_visible(False)
    axes.set(xlabel="optimizer step", ylabel=quantity)
    if axes.get_xscale() == "linear":
        axes.locator_params(axis="x", integer=True)
    return _finish(axes, handles, below=3)


def eigenvalues(values: ArrayLike, axes: Axes | None = None) -> Axes:
    """Plot eigenvalues in the complex plane: inside the unit circle a direction decays, outside it grows.

    Args:
        values: complex numbers of any shape: of ``w_hh``, of a Jacobian, of fixed points.
        axes: the axes to draw into; by default a new figure.

    Raises:
        TypeError, ValueError: the values are not numbers, or not finite.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> params = rnn.VanillaRNN(3, 50).init(jax.random.key(0))
        >>> axes = rnn.plots.eigenvalues(jnp.linalg.eigvals(params.w_hh))
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('real part', 'imaginary part')
    """
    numbers = _numbers("values", values, "eigenvalues", complex).ravel()
    if not np.isfinite(numbers).all():
        checks.refuse("values", "finite numbers", f"{(~np.isfinite(numbers)).sum()} that are not, of {numbers.size}")
    axes = _axes(axes, (4.8, 5.2))
    angle = np.linspace(0, 2 * np.pi, 400)
    axes.plot(np.cos(angle), np.sin(angle), color=GREY, lw=1, label="unit circle")
    for inside, marker, colour, name in ((True, "o", BLUE, "decays"), (False, "^", RED, "grows or stays")):
        some = numbers[(np.abs(numbers) < 1) == inside]
        axes.plot(some.real, some.imag, marker, color=colour, ms=5, alpha=0.7, label=f"{name} ({len(some)})")
    axes.set(xlabel="real part", ylabel="imaginary part")
    axes.set_aspect("equal", "datalim")
    return _finish(axes, below=3)


def fixed_points(found: FixedPoints, trajectories: State, axes: Axes | None = None) -> Axes:
    """Plot fixed points and trajectories in the first two principal components of the trajectories.

    Args:
        found: of :func:`~jaxrnn.gradients.fixed_points`.
        trajectories: states ``[T, ..., H]`` of :func:`~jaxrnn.trajectory`.
        axes: the axes to draw into; by default a new figure.

    Raises:
        TypeError, ValueError: the trajectories are of another model, or states have a single component.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(2, 8, w_hh_init=rnn.initializers.orthogonal(1.2))
        >>> params, xs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (30, 5, 2))
        >>> states = rnn.trajectory(cell, params, xs)
        >>> found = rnn.gradients.fixed_points(cell, params, jnp.zeros(2), states[-1])
        >>> axes = rnn.plots.fixed_points(found, states)
    """
    if not hasattr(found, "points"):
        checks.refuse("found", "what gradients.fixed_points gives", checks.tree_summary(found), error=TypeError)
    size = np.shape(found.points)[-1]
    expected = f"states [T, ..., {size}], those of the fixed points"
    leaves = [_numbers("trajectories", s, expected) for s in jax.tree.leaves(trajectories) if not _is_counter(s)]
    same_shape = len({leaf.shape[:-1] for leaf in leaves}) == 1 and min(leaf.ndim for leaf in leaves) > 1
    if not same_shape or sum(leaf.shape[-1] for leaf in leaves) != size:
        checks.refuse("trajectories", expected, checks.tree_summary(trajectories), "rnn.trajectory gives them")
    states = np.concatenate(leaves, -1)  # [T, ..., S]
    if not np.isfinite(states).all():
        checks.refuse("trajectories", "finite numbers", f"{(~np.isfinite(states)).sum()} that are not")
    if size < 2:
        checks.refuse("found", "points of two numbers or more, for a plane", "points of 1 number")
    axes = _axes(axes, (5.6, 5.2))
    states = states.reshape(len(states), -1, size)
    centre = states.mean((0, 1))
    _, spread, directions = np.linalg.svd((states - centre).reshape(-1, size), full_matrices=False)
    share = spread**2 / max(np.sum(spread**2), np.finfo(float).tiny)
    projected, points = (states - centre) @ directions[:2].T, (found.points - centre) @ directions[:2].T
    for n in range(projected.shape[1]):
        axes.plot(*projected[:, n].T, color=GREY, lw=0.5, alpha=0.35, zorder=1, marker=_dot(projected),
                  label=None if n else "trajectories")  # fmt: skip
    unstable = (np.abs(found.eigenvalues) >= 1).sum(-1)  # number of unstable directions of each point
    for some, marker, colour, name in (
        (unstable == 0, "o", BLUE, "stable"),
        (unstable == 1, "X", RED, "one unstable direction"),
        (unstable > 1, "^", ORANGE, "several unstable directions"),
    ):
        if some.any():
            axes.plot(*points[some].T, marker, color=colour, ms=9, mec="black", label=f"{name} ({some.sum()})")
    for name, part in zip("xy", share):
        axes.set(**{f"{name}label": f"principal component {'xy'.index(name) + 1} ({part:.0%} of the variance)"})
    return _finish(axes, below=2)


# ---- common to all plots -----------------------------------------------------------------------------------------


def _axes(axes: Axes | None, size: tuple[float, float] = (6.4, 4.2)) -> Axes:
    """The axes, or those of a new figure."""
    try:
        import matplotlib.axes
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError("rnn.plots: drawing needs matplotlib; pip install 'jaxrnn[scripts]'") from None
    if axes is None:
        return plt.subplots(figsize=size, layout="constrained")[1]
    if not isinstance(axes, matplotlib.axes.Axes):
        checks.refuse("axes", "Axes of matplotlib", checks.describe(axes), "of several, one: axes[0]", TypeError)
    return axes


def _finish(axes: Axes, handles: list | None = None, below: int = 0) -> Axes:
    """Add grid and legend; with ``below`` the legend is below the axes, in that many columns."""
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    options: dict[str, Any] = {} if handles is None else {"handles": handles}
    if below:
        options |= {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": below, "frameon": False}
    axes.legend(**options, fontsize="small")
    return axes


def _dot(rows: np.ndarray) -> str:
    """A marker, if there are too few points for a visible line."""
    return "o" if len(rows) < 2 else ""


def _by_name(argument: str, value: Any, expected: str, fix: str = "") -> None:
    """A dict."""
    if not isinstance(value, Mapping):
        checks.refuse(argument, f"{expected}, a dict", checks.tree_summary(value), fix, TypeError)


def _numbers(argument: str, value: Any, expected: str, dtype: Any = float) -> np.ndarray:
    """Numbers as an array that is not empty and has at least one axis."""
    if hasattr(value, "_fields"):
        fields = " and ".join(f".{name}" for name in value._fields)
        checks.refuse(
            argument, f"an array, {expected}", checks.tree_summary(value), f"each of {fields} is one", TypeError
        )
    try:
        array = np.asarray(value, dtype)
    except (TypeError, ValueError):
        checks.refuse(argument, f"an array, {expected}", checks.tree_summary(value), error=TypeError)
    if not array.ndim:
        checks.refuse(argument, f"an array, {expected}", checks.describe(value), error=TypeError)
    if not array.size:
        checks.refuse(argument, f"an array, {expected}", checks.describe(array))
    return array


def _is_counter(leaf: Any) -> bool:
    """Whether a leaf of a state is an integer, such as a counter, which is not part of the state space."""
    return hasattr(leaf, "dtype") and not np.issubdtype(leaf.dtype, np.inexact)


def _styles() -> Any:
    """Colours and line styles of successive curves."""
    return ({"color": c, "ls": d} for c, d in zip(itertools.cycle(COLOURS), itertools.cycle(DASHES)))


def _viridis(share: float) -> Any:
    import matplotlib

    return matplotlib.colormaps["viridis"](0.9 * share)


def _median(rows: np.ndarray) -> np.ndarray:
    """The median of each row without its NaNs; NaN for a row of NaNs."""
    finite = np.isfinite(rows).any(1)
    return np.where(finite, np.nanmedian(np.where(finite[:, None], rows, 0), 1), np.nan)


def _smooth(loss: np.ndarray) -> np.ndarray:
    """The running mean of finite losses, over a window of 1/50 of all steps."""
    window, finite = max(len(loss) // 50, 1), np.isfinite(loss)
    sums, counts = (np.cumsum(np.pad(a, (window, 0))) for a in (np.where(finite, loss, 0), finite.astype(float)))
    with np.errstate(invalid="ignore"):
        return (sums[window:] - sums[:-window]) / (counts[window:] - counts[:-window])


def _read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], list[tuple[int, float]]]:
    """The log of a run: arrays over steps, and (step, loss) of each evaluation."""
    try:
        lines = [json.loads(line) for line in pathlib.Path(path).read_text("utf-8").splitlines()]
    except OSError as error:
        checks.refuse("metrics", "a file that learning.fit wrote", f"{path}: {error.strerror}", error=type(error))
    except ValueError as error:
        checks.refuse("metrics", "lines of JSON, as learning.fit writes them", f"{path}: {error}")
    steps = [line for line in lines if isinstance(line, dict) and "loss" in line]
    if not steps:
        checks.refuse("metrics", "lines with a loss, as learning.fit writes them", f"{path} with none")
    evaluations = [(line["step"], line["evaluation"].get("loss")) for line in lines
              if isinstance(line, dict) and "evaluation" in line]  # fmt: skip
    names = [name for name in ("step", "loss", "grad_norm") if name in steps[0]]
    arrays = {name: [line.get(name) for line in steps] for name in names}
    return _arrays(arrays), [(step, loss) for step, loss in evaluations if loss is not None]


def _arrays(metrics: Mapping[str, PyTree]) -> dict[str, np.ndarray]:
    """The metrics as arrays of floats; null in a log (not finite) becomes NaN."""
    if "loss" not in metrics:
        checks.refuse("metrics", "a path, or arrays by name with a loss among them", ", ".join(metrics) or "none")
    names = [name for name in ("step", "loss", "grad_norm") if name in metrics]
    arrays = {name: _numbers(f"metrics[{name!r}]", metrics[name], "numbers [K], one a step") for name in names}
    for name, values in arrays.items():
        if values.shape != arrays["loss"].shape or values.ndim != 1:
            checks.refuse(f"metrics[{name!r}]", f"as many numbers as there are losses, {arrays['loss'].shape}",
                          checks.describe(values))  # fmt: skip
    return arrays
