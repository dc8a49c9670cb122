"""Plots of trials of neuroscience, :mod:`jaxrnn.data.trials`: what is shown in one, and choices over many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.typing import ArrayLike

from jaxrnn import checks
from jaxrnn.plots.drawing import as_numbers, finish, ink, new_axes, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxrnn.data.trials import Trials


def trial(trials: Trials, number: int = 0, axes: Axes | None = None, *, names: Sequence[str] = ()) -> Axes:
    """Plot the inputs of one trial over time, one below the other, with the names of its epochs.

    Args:
        trials: of :mod:`jaxrnn.data.trials`.
        number: which trial of the batch.
        axes: the axes to draw into; by default a new figure.
        names: of the inputs; by default their numbers.

    Raises:
        TypeError, ValueError: there is no such trial, or another number of inputs.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> trials = rnn.data.trials.decision(jax.random.key(0), batch=4)
        >>> axes = rnn.plots.trial(trials, 2, names=("fixation", "evidence 1", "evidence 2"))
        >>> axes.get_xlabel()
        'time [ms]'
    """
    if not hasattr(trials, "epochs"):
        checks.refuse("trials", "what data.trials gives", checks.tree_summary(trials), error=TypeError)
    inputs, times = np.asarray(trials.inputs), np.asarray(trials.times)
    steps, batch, width = inputs.shape
    if not 0 <= number < batch:
        checks.refuse("number", f"one of the {batch} trials, from 0", number)
    if names and len(names) != width:
        checks.refuse("names", f"{width}, one for each input", f"{len(names)}")
    axes = new_axes(axes, (6.4, 1.2 + 0.5 * width))
    edges = np.append(times, 2 * times[-1] - times[-2] if steps > 1 else times[-1] + 1)
    scale = 2.4 * np.abs(inputs[:, number]).max(initial=1e-9)
    for n, style in zip(range(width), styles(axes)):
        axes.stairs(-n + inputs[:, number, n] / scale, edges, baseline=None, color=style["color"], lw=1.3)
    axes.set(xlabel="time [ms]", xlim=(edges[0], edges[-1]), ylim=(0.7 - width, 0.7))
    rows = [-np.inf] * 3  # where names above one another end
    for epoch, bounds in trials.epochs.items():
        first, last = edges[np.asarray(bounds)[:, number]]
        axes.axvline(first, color=ink(axes), lw=0.6, ls=":")
        _name_epoch(axes, epoch, (first + last) / 2, rows)
    axes.set_yticks(-np.arange(width), names or [f"input {n}" for n in range(width)])
    return axes


def _name_epoch(axes: Axes, name: str, middle: float, rows: list[float]) -> None:
    """Write the name of an epoch above the axes, in the lowest row that has room for it, or not at all."""
    text = axes.annotate(name, (middle, 0.75), (0, 0), textcoords="offset points", ha="center", va="bottom",
                         fontsize="small", annotation_clip=False)  # fmt: skip
    box = text.get_window_extent()
    for row, end in enumerate(rows):
        if box.x0 > end:
            text.set_position((0, 10.5 * row))
            rows[row] = box.x1 + 0.3 * box.height
            return
    text.remove()


def psychometric(
    levels: ArrayLike, choices: dict[str, ArrayLike], axes: Axes | None = None, *, quantity: str = "coherence"
) -> Axes:
    r"""Plot the share of one choice by the level of a stimulus, with its standard error :math:`\sqrt{p (1 - p) / n}`.

    Args:
        levels: ``[N]``, the level in each trial, or a dict of them, with the names of ``choices``.
        choices: by name, bools ``[N]``: whether the choice was made, such as ``choice == 1``.
        axes: the axes to draw into; by default a new figure.
        quantity: label of the horizontal axis.

    Raises:
        TypeError, ValueError: choices are not bools, or not as many as levels.

    Example:
        >>> import numpy as np, jaxrnn as rnn
        >>> levels = np.repeat([-0.2, 0.2], 50)
        >>> axes = rnn.plots.psychometric(levels, {"network": levels > np.linspace(-0.3, 0.3, 100)})
        >>> [round(float(share)) for share in axes.lines[0].get_ydata()]
        [34, 66]
    """
    if not isinstance(choices, dict) or not choices:
        checks.refuse("choices", "bools by name, a dict", checks.tree_summary(choices), error=TypeError)
    axes = new_axes(axes)
    for (name, made), style in zip(choices.items(), styles(axes)):
        made = _bools(f"choices[{name!r}]", made)
        level = as_numbers("levels", levels[name] if isinstance(levels, dict) else levels, "numbers [N]")
        if level.shape != made.shape:
            checks.refuse(f"choices[{name!r}]", f"shape {list(level.shape)}, that of levels", checks.describe(made))
        different = np.unique(level)
        share = np.array([made[level == value].mean() for value in different])
        error = np.sqrt(share * (1 - share) / [(level == value).sum() for value in different])
        axes.errorbar(different, 100 * share, 100 * error, marker="o", ms=4, capsize=3, label=name, **style)
    axes.axhline(50, color=ink(axes), lw=0.6, ls=":")
    axes.axvline(0, color=ink(axes), lw=0.6, ls=":")
    axes.set(xlabel=quantity, ylabel="choice 1 [% of trials]", ylim=(-3, 103))
    return finish(axes)


def _bools(argument: str, value: ArrayLike) -> np.ndarray:
    """Bools, or integers 0 and 1, ``[N]``."""
    made = as_numbers(argument, value, "bools, choice == 1", None)
    if made.dtype.kind not in "biu":
        checks.refuse(argument, "bools, choice == 1", checks.describe(made), error=TypeError)
    if made.dtype.kind != "b" and not np.isin(made, (0, 1)).all():
        checks.refuse(argument, "bools, choice == 1", f"numbers of {made.min()} to {made.max()}")
    return made.astype(bool)
