"""What the plots share: axes, legends, colours, and checks of what is drawn."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrnn import checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008): distinguishable with any colour vision; in print by line style
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#000000", "#CC79A7", "#56B4E9")
DASHES = ("-", "--", "-.", "-", (0, (4, 4)), (0, (5, 1, 1, 1, 1, 1)))
BLUE, RED, GREEN, ORANGE, GREY = *COLOURS[:4], "#777777"


def new_axes(axes: Axes | None, size: tuple[float, float] = (6.4, 4.2)) -> Axes:
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


def new_panels(figure: Figure | None, count: int) -> list[Axes]:
    """Panels over one horizontal axis, the first one the highest; in a given figure, which is cleared."""
    height = 3.2 + 1.6 * (count - 1) + (count == 1)
    if figure is None:
        figure = new_axes(None, (6.4, height)).get_figure(root=True)
    assert figure is not None
    figure.clear()
    figure.set_figheight(max(height, figure.get_figheight()))
    ratios = [2.0] + [1.0] * (count - 1)
    return list(figure.subplots(count, 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0])


def finish(axes: Axes, handles: list | None = None, below: int = 0) -> Axes:
    """Add grid and legend; with ``below`` the legend is below the axes, in that many columns."""
    grid(axes)
    options: dict[str, Any] = {} if handles is None else {"handles": handles}
    if below:
        options |= {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": below, "frameon": False}
    axes.legend(**options, fontsize="small")
    return axes


def grid(axes: Axes) -> None:
    """Add a grid behind what is drawn."""
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)


def dot(rows: np.ndarray) -> str:
    """A marker, if there are too few points for a visible line."""
    return "o" if len(rows) < 2 else ""


def by_name(argument: str, value: Any, expected: str, fix: str = "") -> None:
    """A dict."""
    if not isinstance(value, Mapping):
        checks.refuse(argument, f"{expected}, a dict", checks.tree_summary(value), fix, TypeError)


def as_numbers(argument: str, value: Any, expected: str, dtype: Any = float) -> np.ndarray:
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


def styles() -> Any:
    """Colours and line styles of successive curves."""
    return ({"color": c, "ls": d} for c, d in zip(itertools.cycle(COLOURS), itertools.cycle(DASHES)))
