"""Plots of forecasts of real-valued series: :mod:`jaxrnn.tasks` gives their samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.typing import ArrayLike

from jaxrnn import checks
from jaxrnn.plots.drawing import BLUE, as_finite, as_numbers, dots, faint, finish, grid, ink, new_axes, whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def forecast(
    samples: ArrayLike,
    steps: ArrayLike | None = None,
    axes: Axes | None = None,
    *,
    before: ArrayLike | None = None,
    truth: ArrayLike | None = None,
    levels: Sequence[float] = (0.8, 0.95),
    color: str = BLUE,
    name: str | None = "median",
) -> Axes:
    r"""Plot a forecast: the median of its samples, and central intervals that hold a share p of them.

    .. math:: [q_{(1 - p)/2},\; q_{(1 + p)/2}], \quad q_a \text{ the } a\text{-quantile of the samples of a step}

    Args:
        samples: ``[S, h]``: S samples of each of h steps, in the unit of the series.
        steps: ``[h]``, the positions of the steps, numbers or times; by default 1 to h, labelled "step".
        axes: the axes to draw into; by default a new figure.
        before: ``[L]``, the values until the first step, a line; NaN where one is missing.
        truth: ``[h]``, what came, as points; NaN where it is not known.
        levels: shares p of the intervals.
        color: of median and intervals.
        name: of the median in the legend; with None there is no legend, and nothing of this forecast in a later one.

    Raises:
        TypeError, ValueError: shapes do not fit; samples are not finite; a level is not between 0 and 1.

    Example:
        >>> import numpy as np, jaxrnn as rnn
        >>> samples = np.cumsum(np.random.default_rng(0).normal(size=(100, 12)), 1)
        >>> axes = rnn.plots.forecast(samples, before=np.zeros(24), truth=np.arange(12) / 4)
        >>> [text.get_text() for text in axes.get_legend().get_texts()]
        ['95 %', '80 %', 'median', 'until then', 'what came']
    """
    drawn = as_finite("samples", samples, "numbers [S, h]: S samples of h steps")
    if drawn.ndim != 2 or not drawn.size:
        checks.refuse("samples", "numbers [S, h]: S samples of h steps", checks.describe(drawn),
                      "of a batch of series, those of one: samples[:, :, b, 0]")  # fmt: skip
    count = drawn.shape[1]
    at = np.arange(1, count + 1) if steps is None else np.asarray(steps)
    if at.shape != (count,):
        checks.refuse("steps", f"[{count}], a position for each step of samples", checks.describe(at))
    for level in levels:
        if not 0 < level < 1:
            checks.refuse("levels", "shares between 0 and 1", level, "0.8 for 80 %")
    axes = new_axes(axes)

    def label(text: str) -> str | None:
        return None if name is None else text

    for n, level in enumerate(sorted(levels, reverse=True)):
        band = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
        options: dict[str, Any] = {
            "color": color,
            "alpha": min(faint(axes) * (n + 1), 0.9),
            "label": label(f"{100 * level:g} %"),
        }
        if count > 1:
            axes.fill_between(at, *band, lw=0, **options)
        else:  # a band without a width; the narrower intervals are wider lines
            axes.plot(np.repeat(at, 2), band.ravel(), lw=5 * (n + 1), solid_capstyle="butt", **options)
    median = np.median(drawn, 0)
    axes.plot(at, median, color=color, lw=1.6, label=name, **dots(median, "."))
    if before is not None:
        values = as_numbers("before", before, "numbers [L]")
        if values.ndim != 1:
            checks.refuse("before", "numbers [L]", checks.describe(values))
        step = at[1] - at[0] if count > 1 else 1
        past = at[0] - step * np.arange(len(values), 0, -1)
        axes.plot(past, values, color=ink(axes), lw=1.2, label=label("until then"), **dots(values, "."))
    if truth is not None:
        values = as_numbers("truth", truth, f"numbers [{count}], one for each step")
        if values.shape != (count,):
            checks.refuse("truth", f"numbers [{count}], one for each step", checks.describe(values))
        axes.plot(at, values, "o", color=ink(axes), ms=3, label=label("what came"))
    _name_steps(axes, steps is None)
    if name is None:
        grid(axes)
        return axes
    return finish(axes)


def _name_steps(axes: Axes, counted: bool) -> None:
    """A label for counted steps, and short dates for times."""
    from matplotlib.dates import AutoDateFormatter, AutoDateLocator, ConciseDateFormatter

    locator = axes.xaxis.get_major_locator()
    if isinstance(locator, AutoDateLocator) and isinstance(axes.xaxis.get_major_formatter(), AutoDateFormatter):
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    if counted:
        whole(axes.xaxis)
        axes.set_xlabel(axes.get_xlabel() or "step")
