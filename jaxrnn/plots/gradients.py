"""Plots of the results of :mod:`jaxrnn.gradients`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxrnn import checks
from jaxrnn.plots.drawing import (
    BLUE,
    GREY,
    ORANGE,
    as_numbers,
    by_name,
    dots,
    faint,
    finish,
    new_axes,
    styles,
    viridis,
    whole,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxrnn.gradients import GateStatistics, Landscape


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
    for (name, curve), style, width in zip(norms.items(), styles(axes), widths):
        visible = (curve > 0) & np.isfinite(curve)  # on a logarithmic axis
        rows = np.where(visible, curve, np.nan).reshape(len(curve), -1)
        median, lags = _median(rows), np.arange(len(rows))
        label = name if visible.any() else f"{name} (0 or not finite throughout)"
        (line,) = axes.plot(lags, median, label=label, lw=width, **dots(median), **style)
        if rows.shape[1] > 1:
            low, high = np.fmin.reduce(rows, 1), np.fmax.reduce(rows, 1)
            axes.fill_between(lags, low, high, color=line.get_color(), alpha=faint(axes), lw=0)
    axes.set(yscale="log", xlabel="lag k [steps]", ylabel=quantity)
    whole(axes.xaxis)
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
    shades = viridis(axes)(np.linspace(0, 1, count))
    for n in range(count):
        axes.plot(lags, sigma[:, n], color=shades[n], lw=0.8, alpha=0.8)
    labels = {count // 2: "median", count - 1: "smallest", 0: "largest"}  # of one value only "largest"
    for n, name in sorted(labels.items()):
        axes.plot(lags, sigma[:, n], color=shades[n], lw=2.5, label=name, **dots(sigma[:, n]))
    axes.axhline(1, color=GREY, lw=0.8)
    axes.set(yscale="log", xlabel="lag k [steps]", ylabel="singular values of the product of k Jacobians")
    whole(axes.xaxis)
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


def loss_landscape(found: Landscape, axes: Axes | None = None, *, quantity: str = "loss") -> Axes:
    """Plot the loss around a point: a curve along one direction, contours in the plane of two.

    The point is marked. Contours are at equal ratios if the largest loss is far above the smallest. Where the loss is
    not finite nothing is drawn.

    Args:
        found: of :func:`~jaxrnn.gradients.loss_landscape`.
        axes: the axes to draw into; by default a new figure.
        quantity: the loss and its unit.

    Raises:
        TypeError, ValueError: it is not what ``loss_landscape`` gives; no loss is finite.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell, key = rnn.VanillaRNN(2, 4), jax.random.key(0)
        >>> params, loss = cell.init(key), lambda p: (rnn.unroll(cell, p, jnp.ones((5, 2)))[1] ** 2).mean()
        >>> directions = [rnn.gradients.random_direction(k, params) for k in jax.random.split(key)]
        >>> axes = rnn.plots.loss_landscape(rnn.gradients.loss_landscape(loss, params, *directions, points=11))
        >>> axes = rnn.plots.loss_landscape(rnn.gradients.loss_landscape(loss, params, directions[0], points=11))

    Source: Li et al. (2018), "Visualizing the loss landscape of neural nets", arXiv:1712.09913.
    """
    if not hasattr(found, "losses"):
        checks.refuse("found", "what gradients.loss_landscape gives", checks.tree_summary(found), error=TypeError)
    steps, losses = np.asarray(found.steps), np.ma.masked_invalid(found.losses)
    if losses.mask.all():
        checks.refuse("found", "finite losses", "none", "a smaller radius stays where the loss is finite")
    if losses.ndim == 1:
        axes = new_axes(axes)
        axes.plot(steps, losses, color=BLUE, **dots(losses))
        axes.axvline(0, color=GREY, lw=1, ls=":", label="the parameters")
        axes.set(xlabel="step along the direction", ylabel=quantity)
        return finish(axes)
    axes = new_axes(axes, (6.2, 4.8))
    low, high = losses.min(), losses.max()
    far = low > 0 and high > 20 * low
    options: dict[str, Any] = {"levels": np.geomspace(low, high, 21), "norm": "log"} if far else {"levels": 20}
    contours = axes.contourf(steps, steps, losses.T, cmap="viridis", **options)
    axes.contour(contours, colors="white", linewidths=0.3)
    axes.figure.colorbar(contours, ax=axes, label=quantity, ticks=_powers_of_ten() if far else None)
    axes.plot(0, 0, "*", color=ORANGE, mec="black", ms=13, label="the parameters")
    axes.set(xlabel="step along direction 1", ylabel="step along direction 2", box_aspect=1)
    axes.locator_params(nbins=5)
    axes.legend(loc="upper right", fontsize="small")
    return axes


def _powers_of_ten() -> Any:
    from matplotlib.ticker import LogLocator

    return LogLocator()


def _median(rows: np.ndarray) -> np.ndarray:
    """The median of each row without its NaNs; NaN for a row of NaNs."""
    finite = np.isfinite(rows).any(1)
    return np.where(finite, np.nanmedian(np.where(finite[:, None], rows, 0), 1), np.nan)
