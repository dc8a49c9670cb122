"""Plots of the results of :mod:`jaxrnn.gradients`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxrnn import checks
from jaxrnn.plots.drawing import BLUE, GREY, ORANGE, RED, as_numbers, by_name, dot, finish, new_axes, styles
from jaxrnn.types import State

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxrnn.gradients import FixedPoints, GateStatistics


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
    by_name("curves", curves, "norms over time by name, such as {'GRU': flow}")
    if not curves:
        checks.refuse("curves", "one curve at least", "none")
    norms = {name: as_numbers(f"curves[{name!r}]", curve, "norms [T, ...]")[::-1] for name, curve in curves.items()}
    axes = new_axes(axes)
    widths = np.linspace(3, 1.5, max(len(norms), 2))  # later curves are thinner, so that earlier ones stay visible
    for (name, curve), style, width in zip(norms.items(), styles(), widths):
        visible = (curve > 0) & np.isfinite(curve)  # on a logarithmic axis
        rows = np.where(visible, curve, np.nan).reshape(len(curve), -1)
        median, lags = _median(rows), np.arange(len(rows))
        label = name if visible.any() else f"{name} (0 or not finite throughout)"
        (line,) = axes.plot(lags, median, label=label, lw=width, marker=dot(rows), **style)
        if rows.shape[1] > 1:
            low, high = np.fmin.reduce(rows, 1), np.fmax.reduce(rows, 1)
            axes.fill_between(lags, low, high, color=line.get_color(), alpha=0.15, lw=0)
    axes.set(yscale="log", xlabel="lag k [steps]", ylabel=quantity)
    return finish(axes)


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
    sigma = as_numbers("values", values, "[T, S], those of product_singular_values")
    if sigma.ndim != 2 or not sigma.size:
        checks.refuse("values", "[T, S], those of product_singular_values", checks.describe(values))
    axes = new_axes(axes)
    dtype = getattr(values, "dtype", sigma.dtype)
    eps = jax.dtypes.finfo(dtype if jax.dtypes.issubdtype(dtype, np.floating) else sigma.dtype).eps
    significant = sigma > float(eps) * sigma[:, :1]  # the rest is rounding error of the largest
    sigma, lags, count = np.where(significant, sigma, np.nan), np.arange(1, len(sigma) + 1), sigma.shape[1]
    for n in range(count):
        axes.plot(lags, sigma[:, n], color=_viridis(n / max(count - 1, 1)), lw=0.8, alpha=0.8)
    labels = {count // 2: "median", count - 1: "smallest", 0: "largest"}  # of one value only "largest"
    for n, name in sorted(labels.items()):
        axes.plot(lags, sigma[:, n], color=_viridis(n / max(count - 1, 1)), lw=2.5, label=name, marker=dot(sigma))
    axes.axhline(1, color=GREY, lw=0.8)
    axes.set(yscale="log", xlabel="lag k [steps]", ylabel="singular values of the product of k Jacobians")
    return finish(axes)


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
    by_name("statistics", statistics, "those of one cell", "of a stack, statistics[n] belongs to layer n")
    names = [name for name in statistics if name != "keep"] or list(statistics)
    if not names:
        checks.refuse("statistics", "those of a cell with gates", "none", "gate_statistics gives one dict a cell")
    for name, gate in statistics.items():
        if not np.size(getattr(gate, "closed", ())):
            checks.refuse(f"statistics[{name!r}]", "those of one gate, from gate_statistics", checks.tree_summary(gate),
                          error=TypeError)  # fmt: skip
    axes = new_axes(axes)
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
    return finish(axes, below=3)


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
    numbers = as_numbers("values", values, "eigenvalues", complex).ravel()
    if not np.isfinite(numbers).all():
        checks.refuse("values", "finite numbers", f"{(~np.isfinite(numbers)).sum()} that are not, of {numbers.size}")
    axes = new_axes(axes, (4.8, 5.2))
    angle = np.linspace(0, 2 * np.pi, 400)
    axes.plot(np.cos(angle), np.sin(angle), color=GREY, lw=1, label="unit circle")
    for inside, marker, colour, name in ((True, "o", BLUE, "decays"), (False, "^", RED, "grows or stays")):
        some = numbers[(np.abs(numbers) < 1) == inside]
        axes.plot(some.real, some.imag, marker, color=colour, ms=5, alpha=0.7, label=f"{name} ({len(some)})")
    axes.set(xlabel="real part", ylabel="imaginary part")
    axes.set_aspect("equal", "datalim")
    return finish(axes, below=3)


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
    leaves = [as_numbers("trajectories", s, expected) for s in jax.tree.leaves(trajectories) if not _is_counter(s)]
    same_shape = len({leaf.shape[:-1] for leaf in leaves}) == 1 and min(leaf.ndim for leaf in leaves) > 1
    if not same_shape or sum(leaf.shape[-1] for leaf in leaves) != size:
        checks.refuse("trajectories", expected, checks.tree_summary(trajectories), "rnn.trajectory gives them")
    states = np.concatenate(leaves, -1)  # [T, ..., S]
    if not np.isfinite(states).all():
        checks.refuse("trajectories", "finite numbers", f"{(~np.isfinite(states)).sum()} that are not")
    if size < 2:
        checks.refuse("found", "points of two numbers or more, for a plane", "points of 1 number")
    axes = new_axes(axes, (5.6, 5.2))
    states = states.reshape(len(states), -1, size)
    centre = states.mean((0, 1))
    _, spread, directions = np.linalg.svd((states - centre).reshape(-1, size), full_matrices=False)
    share = spread**2 / max(np.sum(spread**2), np.finfo(float).tiny)
    projected, points = (states - centre) @ directions[:2].T, (found.points - centre) @ directions[:2].T
    for n in range(projected.shape[1]):
        axes.plot(*projected[:, n].T, color=GREY, lw=0.5, alpha=0.35, zorder=1, marker=dot(projected),
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
    return finish(axes, below=2)


def _is_counter(leaf: Any) -> bool:
    """Whether a leaf of a state is an integer, such as a counter, which is not part of the state space."""
    return hasattr(leaf, "dtype") and not np.issubdtype(leaf.dtype, np.inexact)


def _viridis(share: float) -> Any:
    import matplotlib

    return matplotlib.colormaps["viridis"](0.9 * share)


def _median(rows: np.ndarray) -> np.ndarray:
    """The median of each row without its NaNs; NaN for a row of NaNs."""
    finite = np.isfinite(rows).any(1)
    return np.where(finite, np.nanmedian(np.where(finite[:, None], rows, 0), 1), np.nan)
