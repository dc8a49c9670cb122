"""What the plots share: axes, legends, colours, and checks of what is drawn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

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
    """Add grid and legend; with ``below`` the legend is below the axes, in that many columns, if there is room."""
    grid(axes)
    options: dict[str, Any] = {} if handles is None else {"handles": handles}
    if below:
        options |= outside(axes, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=below, frameon=False)
    axes.legend(**options, fontsize="small")
    return axes


def outside(axes: Axes, **options: Any) -> dict[str, Any]:
    """Options of a legend beside the axes; without a layout that makes room for it, those of one inside."""
    figure = axes.get_figure(root=True)
    return options if figure is not None and figure.get_layout_engine() is not None else {"loc": "best"}


def grid(axes: Axes) -> None:
    """Add a grid behind what is drawn."""
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)


def dots(values: np.ndarray, marker: str = "o") -> dict[str, Any]:
    """Markers of the points of a line ``[K]`` or ``[K, N]`` that have no neighbour, so that no line shows them."""
    numbers: np.ndarray = np.ma.filled(np.ma.asarray(values, float), np.nan)
    there = np.all(np.isfinite(numbers.reshape(len(numbers), -1)), axis=1)
    before, after = np.append(False, there[:-1]), np.append(there[1:], False)
    alone = np.flatnonzero(there & ~before & ~after).tolist()
    return {"marker": marker, "markevery": alone} if alone else {"marker": ""}


def whole(axis: Any) -> None:
    """Ticks at integers, unless the axis has ticks of its own kind."""
    from matplotlib.ticker import MaxNLocator

    if isinstance(axis.get_major_locator(), MaxNLocator):
        axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


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


def is_dark(axes: Axes) -> bool:
    """Whether the ground of the axes is darker than it is light."""
    from matplotlib.colors import to_rgba

    figure = axes.get_figure(root=True)
    *rgb, alpha = to_rgba(axes.get_facecolor())
    if not alpha and figure is not None:
        rgb = list(to_rgba(figure.get_facecolor())[:3])
    return float(np.dot(rgb, (0.299, 0.587, 0.114))) < 0.5


def ink(axes: Axes) -> str:
    """The colour that is seen best on the ground of the axes, black or white."""
    return "#FFFFFF" if is_dark(axes) else "#000000"


def paper(axes: Axes) -> str:
    """The opposite of :func:`ink`."""
    return "#000000" if is_dark(axes) else "#FFFFFF"


def faint(axes: Axes) -> float:
    """The opacity of a band: light on black is seen less than dark on white."""
    return 0.2 if is_dark(axes) else 0.15


def colours(axes: Axes) -> tuple[str, ...]:
    """Colours of curves, with the ink of these axes for black."""
    return tuple(ink(axes) if colour == "#000000" else colour for colour in COLOURS)


def styles(axes: Axes, taken: int | None = None) -> Iterator[dict[str, Any]]:
    """Colours and line styles of successive curves, after those taken: by default those in the legend."""
    taken = len(axes.get_legend_handles_labels()[1]) if taken is None else taken
    cycle = zip(itertools.cycle(colours(axes)), itertools.cycle(DASHES))
    return ({"color": c, "ls": d} for c, d in itertools.islice(cycle, taken, None))


def viridis(axes: Axes) -> Any:
    """The colours of viridis that are seen on the ground of the axes; the first ones are seen best."""
    import matplotlib
    from matplotlib.colors import ListedColormap

    ends = (1.0, 0.3) if is_dark(axes) else (0.0, 0.9)
    return ListedColormap(matplotlib.colormaps["viridis"](np.linspace(*ends, 256)))


# ---- colour scales -----------------------------------------------------------------------------------------------


class Scale(NamedTuple):
    """Numbers to colours: blue below the centre, white at it, red above; only one side where all numbers are there."""

    low: float
    high: float
    colours: tuple[str, ...]

    @property
    def options(self) -> dict[str, Any]:
        """Those of an image of matplotlib."""
        from matplotlib.colors import LinearSegmentedColormap

        colours = LinearSegmentedColormap.from_list("scale", list(self.colours), 257)  # one of them the centre
        return {"vmin": self.low, "vmax": self.high, "cmap": colours}

    def rgb(self, value: float) -> tuple[int, ...]:
        """The colour of a number, three of 0 to 255."""
        stops = np.linspace(self.low, self.high, len(self.colours))
        channels = zip(*[bytes.fromhex(colour[1:]) for colour in self.colours])
        return tuple(round(float(np.interp(value, stops, channel))) for channel in channels)


def scale_of(values: np.ndarray, centre: float, limit: float | None) -> Scale:
    """The scale of some numbers, as far as ``limit`` from the centre, or as far as they are."""
    checks.number("centre", centre)
    if limit is not None:
        checks.number("limit", limit)
        if limit <= 0:
            checks.refuse("limit", "a number above 0", limit, "it is the largest distance from the centre")
        return Scale(centre - limit, centre + limit, (BLUE, "#FFFFFF", RED))
    reach = float(np.abs(values - centre).max()) or 1.0
    if (values >= centre).all():
        return Scale(centre, centre + reach, ("#FFFFFF", RED))
    if (values <= centre).all():
        return Scale(centre - reach, centre, (BLUE, "#FFFFFF"))
    return Scale(centre - reach, centre + reach, (BLUE, "#FFFFFF", RED))


# ---- tokens ------------------------------------------------------------------------------------------------------

VISIBLE = {n: chr(0x2400 + n) for n in range(32)} | {ord(" "): "·", ord("\n"): "↵", ord("\t"): "⇥", 127: "␡"}
# other control characters, ends of lines, directions of writing, and signs without width
HIDDEN = (*range(0x80, 0xA0), 0x61C, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
VISIBLE |= {n: f"‹{n:04X}›" for n in HIDDEN} | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")  # half characters
LONGEST = 24  # characters of a label
SMALLEST = 4.0  # points of a label that can be read


def visible(token: str) -> str:
    """A token with marks for white space and control characters; ∅ is an empty one."""
    return token.translate(VISIBLE) or "∅"


def short(token: str) -> str:
    """A visible token, of 24 characters at most."""
    label = visible(token)
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"


def room_for(tokens: list[str]) -> float:
    """Inches that a new figure needs for labels of more than 8 characters."""
    return max(0.0, 0.075 * (max(len(short(token)) for token in tokens) - 8))


def as_tokens(argument: str, value: Any) -> list[str]:
    """The characters of a string, or a list of strings."""
    is_text = isinstance(value, Sequence) and all(isinstance(token, str) for token in value)
    if not is_text:
        checks.refuse(argument, "a string, or a list of them", checks.describe(value),
                      "vocabulary.decode(ids) makes one of ids", TypeError)  # fmt: skip
    if not len(value):
        checks.refuse(argument, "one token at least", "none")
    return list(value)


def numbers_of(tokens: list[str], argument: str, values: Any) -> np.ndarray:
    """One finite number for each token, ``[T]``."""
    numbers = as_finite(argument, values, f"numbers [{len(tokens)}], one a token")
    if numbers.shape != (len(tokens),):
        checks.refuse(argument, f"numbers [{len(tokens)}], one a token", checks.describe(numbers))
    return numbers


def as_finite(argument: str, value: Any, expected: str) -> np.ndarray:
    """Finite numbers, as :func:`as_numbers` has them."""
    numbers = as_numbers(argument, value, expected)
    if not np.isfinite(numbers).all():
        checks.refuse(argument, "finite numbers", f"{(~np.isfinite(numbers)).sum()} that are not, of {numbers.size}")
    return numbers


def label_tokens(axis: Any, tokens: list[str], name: str, number: str = "token number") -> None:
    """Label an axis with tokens, in a size at which they do not overlap; words on a horizontal axis stand upright.

    Where that is too small to be read there are numbers of tokens instead, and ``number`` is the name of the axis.
    """
    import matplotlib

    labels, box = list(map(short, tokens)), axis.axes.get_window_extent()
    words = max(map(len, labels)) > 1
    horizontal = axis.axis_name == "x"
    room = 72 / axis.axes.figure.dpi * (box.width if horizontal else box.height) / len(tokens)  # points a token
    size = min(9.0, room / (0.62 if horizontal and not words else 1.15))
    if size < SMALLEST:
        whole(axis)
        axis.set_label_text(number)
        return
    fonts = ["monospace", *matplotlib.rcParams["font.family"]]  # the next one where a character is missing
    axis.set_ticks(range(len(tokens)), labels, parse_math=False, family=fonts, fontsize=size,
                   rotation=90 if horizontal and words else 0)  # fmt: skip
    axis.set_tick_params(length=2 if words else 0)
    axis.set_label_text(name)
