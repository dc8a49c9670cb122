"""Plots along a text: activations, saliency and attention with the tokens on the axes, and the units that tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.typing import ArrayLike

from jaxrnn import checks
from jaxrnn.plots.drawing import (
    BLUE,
    GREY,
    RED,
    as_finite,
    as_tokens,
    finish,
    grid,
    label_tokens,
    new_axes,
    numbers_of,
    room_for,
    scale_of,
    whole,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxrnn.gradients import Units


def activations(
    tokens: str | Sequence[str] | None,
    values: ArrayLike | Mapping[str, ArrayLike],
    axes: Axes | None = None,
    *,
    quantity: str = "activation",
    centre: float = 0.0,
    limit: float | None = None,
) -> Axes:
    """Plot units or gates over a text: one row each, blue below the centre, red above.

    About 300 characters fit side by side; of more the axis has the numbers, from 0. :func:`~jaxrnn.plots.text` takes
    more.

    A character that the fonts of matplotlib do not have is an empty box: ``plt.rcParams["font.family"]`` is the place
    for one that has it. :func:`~jaxrnn.plots.text` shows all characters.

    Args:
        tokens: a string, whose characters are the tokens, a list of strings, or None, for the number of the step.
        values: ``[T, H]``, the states or one gate of all units, or a dict of ``[T]`` by name, such as the gates of one.
        axes: the axes to draw into; by default a new figure.
        quantity: what the numbers are, label of the colours.
        centre: the number that is white. Gates have ``centre=0.5, limit=0.5``.
        limit: the distance from the centre at which colours are full; by default the largest.

    Raises:
        TypeError, ValueError: there is not one row of finite numbers a token; the limit is not above 0.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> words = rnn.data.Vocabulary.of("a cat and a hat")
        >>> model = rnn.Stack(rnn.Embedding(len(words), 4), rnn.LSTM(4, 8))
        >>> _, gates = rnn.gradients.gates(model, model.init(jax.random.key(0)), words.encode("a cat and a hat"))
        >>> axes = rnn.plots.activations("a cat and a hat", gates["f"], quantity="forget gate", centre=0.5, limit=0.5)
        >>> of_one = {name: gates[name][:, 3] for name in "ifo"}
        >>> axes = rnn.plots.activations("a cat and a hat", of_one, quantity="gates of unit 3", centre=0.5, limit=0.5)
    """
    names = list(values) if isinstance(values, Mapping) else None
    if isinstance(values, Mapping):
        if not values:
            checks.refuse("values", "one row at least", "none")
        rows = [as_finite(f"values[{name!r}]", row, "numbers [T]") for name, row in values.items()]
        if len({row.shape for row in rows}) > 1 or rows[0].ndim != 1:
            checks.refuse("values", "rows [T] of one length", ", ".join(map(checks.describe, rows)))
        array = np.stack(rows, -1)
    else:
        array = as_finite("values", values, "numbers [T, H]")
    symbols = None if tokens is None else as_tokens("tokens", tokens)
    if array.ndim != 2 or len(array) != len(symbols or array):
        checks.refuse("values", f"numbers [{len(symbols) if symbols else 'T'}, H], a row a token",
                      checks.describe(array), "of a batch, one sequence: values[:, n]")  # fmt: skip
    height = np.clip(0.16 * array.shape[1] + 1.4, 2.2, 9) + room_for(symbols or [""])
    axes = new_axes(axes, (np.clip(0.12 * len(array) + 2, 6.4, 16), height))
    image = axes.imshow(array.T, aspect="auto", interpolation="nearest", **scale_of(array, centre, limit).options)
    axes.figure.colorbar(image, ax=axes, label=quantity, pad=0.01)
    axes.set(xlabel="step", ylabel="unit")
    whole(axes.xaxis)
    if symbols is not None:
        label_tokens(axes.xaxis, symbols, "text")
    if names is not None:
        axes.set_yticks(range(len(names)), names)
        axes.set_ylabel("")
    else:
        whole(axes.yaxis)
    return axes


def saliency(
    tokens: str | Sequence[str], values: ArrayLike, axes: Axes | None = None, *, quantity: str = "gradient × input"
) -> Axes:
    """Plot a bar for each token: how much it raises or lowers the output.

    A character that the fonts of matplotlib do not have is an empty box: ``plt.rcParams["font.family"]`` is the place
    for one that has it. :func:`~jaxrnn.plots.text` shows all characters.

    Args:
        tokens: a string, whose characters are the tokens, or a list of strings.
        values: ``[T]``, ``times_input`` or ``norm`` of :func:`~jaxrnn.gradients.saliency`.
        axes: the axes to draw into; by default a new figure.
        quantity: what the numbers are, label of the vertical axis.

    Raises:
        TypeError, ValueError: there is not one finite number a token.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> words = rnn.data.Vocabulary.of(["a dull and long film"], split="words")
        >>> model = rnn.tasks.Classifier(rnn.Stack(rnn.Embedding(len(words), 4), rnn.GRU(4, 8)), 2)
        >>> ids = words.encode("a dull film")
        >>> found = rnn.gradients.saliency(model, model.init(jax.random.key(0)), ids, lambda logits: logits[1])
        >>> axes = rnn.plots.saliency(words.decode(ids), found.times_input)
        >>> axes.get_ylabel()
        'gradient × input'
    """
    symbols = as_tokens("tokens", tokens)
    numbers = numbers_of(symbols, "values", values)
    axes = new_axes(axes, (np.clip(0.18 * len(symbols) + 1.5, 4.8, 16), 3.4 + room_for(symbols)))
    for some, colour, name in ((numbers > 0, RED, "raises the output"), (numbers < 0, BLUE, "lowers the output")):
        axes.bar(np.flatnonzero(some), numbers[some], color=colour, label=name)
    axes.axhline(0, color=GREY, lw=0.8)
    axes.set(ylabel=quantity, xlim=(-0.6, len(symbols) - 0.4))
    label_tokens(axes.xaxis, symbols, "token")
    if (numbers < 0).any():
        return finish(axes)
    grid(axes)
    return axes


def attention(
    source: str | Sequence[str], target: str | Sequence[str], weights: ArrayLike, axes: Axes | None = None
) -> Axes:
    """Plot where each token of the target attends in the source: a row of weights, which sum to 1.

    A character that the fonts of matplotlib do not have is an empty box: ``plt.rcParams["font.family"]`` is the place
    for one that has it. :func:`~jaxrnn.plots.text` shows all characters.

    Args:
        source: S tokens, a string or a list of strings.
        target: T tokens, those that are predicted: all but the first.
        weights: ``[T, S]``, of :meth:`~jaxrnn.tasks.EncoderDecoder.alignment`, of one sentence.
        axes: the axes to draw into; by default a new figure.

    Raises:
        TypeError, ValueError: the weights are not ``[T, S]``, or not finite.

    Example:
        >>> import jaxrnn as rnn
        >>> axes = rnn.plots.attention(["das", "Haus", "."], ["the", "house", "."],
        ...                            [[0.8, 0.1, 0.1], [0.1, 0.9, 0.0], [0.0, 0.2, 0.8]])

    Source: Bahdanau, Cho & Bengio (2015), "Neural machine translation by jointly learning to align and translate".
    """
    columns, rows = as_tokens("source", source), as_tokens("target", target)
    expected = f"[{len(rows)}, {len(columns)}], target by source"
    alpha = as_finite("weights", weights, expected)
    if alpha.shape != (len(rows), len(columns)):
        checks.refuse("weights", expected, checks.describe(alpha), "of a batch weights[:T, :S, n]; the target is "
                      "without its first token, and both without padding")  # fmt: skip
    width = np.clip(0.3 * len(columns) + 2.2, 3.6, 14) + room_for(rows)
    axes = new_axes(axes, (width, np.clip(0.3 * len(rows) + 1.4, 2.8, 12) + room_for(columns)))
    image = axes.imshow(alpha, cmap="Blues", vmin=0, vmax=max(alpha.max(), 1e-9))
    axes.figure.colorbar(image, ax=axes, label="attention weight", shrink=0.8)
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    label_tokens(axes.xaxis, columns, "source", "source, token number")
    label_tokens(axes.yaxis, rows, "target", "target, token number")
    return axes


def units(found: Units, axes: Axes | None = None, *, most: int = 10, feature: str = "the feature") -> Axes:
    """Plot how well the best units tell a feature.

    Args:
        found: of :func:`~jaxrnn.gradients.find_units`.
        axes: the axes to draw into; by default a new figure.
        most: the number of units.
        feature: its name.

    Raises:
        TypeError, ValueError: it is not what ``find_units`` gives; ``most`` is not a positive int.

    Example:
        >>> import numpy as np, jaxrnn as rnn
        >>> text = 'say "yes" or "no"'
        >>> states = np.random.default_rng(0).normal(size=(len(text), 8))
        >>> found = rnn.gradients.find_units(states, rnn.data.annotations.inside_quotes(text))
        >>> axes = rnn.plots.units(found, most=3, feature="a quotation is open")
        >>> axes.get_xlabel()
        'area under the curve (AUC): a quotation is open'
    """
    if not hasattr(found, "order"):
        checks.refuse("found", "what gradients.find_units gives", checks.tree_summary(found), error=TypeError)
    checks.size("most", most)
    best = found.order[:most]
    if found.auc is not None:
        numbers, middle, low, name = found.auc[best], 0.5, 0.0, f"area under the curve (AUC): {feature}"
    else:
        numbers, middle, low, name = found.correlation[best], 0.0, -1.0, f"correlation with {feature}"
    axes = new_axes(axes, (6.4, 0.28 * len(best) + 1.2))
    labels = [f"unit {unit}" for unit in best]
    axes.barh(labels, numbers - middle, left=middle, color=[RED if n > middle else BLUE for n in numbers], height=0.7)
    for row, number in enumerate(numbers):
        side = "left" if number >= middle else "right"
        axes.annotate(f"{number:.2f}", (number, row), (3 if side == "left" else -3, 0), textcoords="offset points",
                      ha=side, va="center", fontsize="small")  # fmt: skip
    axes.axvline(middle, color=GREY, lw=0.8)
    axes.set(xlabel=name, xlim=(low - 0.08 * (1 - low), 1 + 0.08 * (1 - low)))
    axes.invert_yaxis()
    grid(axes)
    return axes
