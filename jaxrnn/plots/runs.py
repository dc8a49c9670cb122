"""Plots of the metrics of a run of :func:`~jaxrnn.learning.fit`."""

from __future__ import annotations

import functools
import json
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxrnn import checks
from jaxrnn.plots.drawing import (
    BLUE,
    GREEN,
    RED,
    as_numbers,
    by_name,
    dots,
    finish,
    grid,
    ink,
    new_axes,
    new_panels,
    outside,
    styles,
    whole,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxrnn.learning import Fit

NOT_DRAWN = ("step", "finite", "count")
EACH, MEAN, EVALUATION = KINDS = "training, each step", "training, running mean", "evaluation"  # of curves
SHARES = ("accuracy", "f1", "precision", "recall", "coverage")  # metrics between 0 and 1, also as parts of names
POINTS = 2000  # of a curve, at most: more than a screen shows


def loss_curve(
    metrics: Fit | str | os.PathLike | Mapping[str, Any],
    axes: Axes | None = None,
    *,
    clip: float | None = None,
    quantity: str = "loss",
) -> Axes:
    """Plot the loss of every step, the validation losses, and the gradient norm with the steps that were clipped.

    Args:
        metrics: what :func:`~jaxrnn.learning.fit` returned, its JSON-lines file, or arrays by name: ``loss [K]`` and
            optionally ``step [K]`` and ``grad_norm [K]``.
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
    run = _run("metrics", metrics)
    axes, norm, steps = new_axes(axes), run.training.get("grad_norm"), run.training["step"]
    handles = _draw(axes, run, "loss", color=BLUE)
    if "loss" in run.evaluations:
        points = run.evaluated("loss")
        handles += axes.plot(*points, "o-", color=ink(axes), ms=5, lw=1, label="validation")
    if norm is not None:
        right = axes.twinx()
        handles += right.plot(steps, norm, color=RED, label="gradient norm (right)", **_thin(norm))
        right.set(yscale="log", ylabel="gradient norm before clipping")
        right.yaxis.set_minor_formatter(functools.partial(_minor_label, right))
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
    whole(axes.xaxis)
    return finish(axes, handles, below=3)


def history(
    run: Fit | str | os.PathLike | Mapping[str, Any] | tuple[Mapping[str, Any], Mapping[str, Any]],
    axes: Axes | None = None,
    *,
    figure: Figure | None = None,
    metrics: Collection[str] | None = None,
    quantity: str = "loss",
) -> Axes:
    """Plot all metrics of a run: running means of training, evaluations as points, the best one marked.

    The loss is in the first panel, shares between 0 and 1 (accuracy, f1, precision, recall, coverage, error, and names
    with one of the first five in them) are in one, and each other metric has its own.

    Args:
        run: what :func:`~jaxrnn.learning.fit` returned, its JSON-lines file, arrays by name ``[K]``, or a pair of
            them: of the steps, and of the evaluations with their ``"step"``.
        axes: the axes to draw the loss into, alone; by default all panels in a figure.
        figure: the figure, which is cleared; by default a new one. To draw a growing run, give it again.
        metrics: names of those to draw; by default all.
        quantity: the loss and its unit, label of the vertical axis.

    Returns:
        The axes of the first panel; ``axes.figure.axes`` are those of all.

    Raises:
        TypeError, ValueError: it is no run, both axes and figure are given, or a name is not among the metrics.

    Example:
        >>> import numpy as np, jaxrnn as rnn
        >>> steps = np.arange(1, 301)
        >>> training = {"step": steps, "loss": 1 / steps, "accuracy": 1 - 1 / steps, "grad_norm": 5 / steps}
        >>> evaluations = {"step": steps[99::100], "loss": 2 / steps[99::100]}
        >>> axes = rnn.plots.history((training, evaluations))
        >>> [panel.get_ylabel() for panel in axes.figure.axes]
        ['loss', 'accuracy', 'gradient norm']
    """
    found = _run("run", run)
    names = list(dict.fromkeys(n for n in (*found.training, *found.evaluations) if n not in NOT_DRAWN))
    for name in metrics or ():
        checks.one_of("metrics", name, names)
    if axes is not None and figure is not None:
        checks.refuse("figure", "None where axes are given", "both", "axes of a figure belong to it already")
    groups = _panels(found, ["loss"] if axes is not None else [n for n in names if not metrics or n in metrics])
    panels: Sequence[Axes] = new_panels(figure, len(groups)) if axes is None else [new_axes(axes)]
    kinds: dict[str, Any] = {}  # one line of each kind, for the legend
    for panel, group in zip(panels, groups, strict=True):
        taken = sum(line.get_label() == EACH for line in panel.lines)  # by other runs
        drawn = {name: _draw_all(panel, found, name, style, len(group) > 1)
                 for name, style in zip(group, styles(panel, taken))}  # fmt: skip
        kinds = {line.get_label(): line for lines in drawn.values() for line in lines} | kinds
        grid(panel)
        if len(group) > 1:
            place = outside(panel, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
            panel.legend([lines[-1] for lines in drawn.values()], list(drawn), fontsize="small", **place)
        else:
            panel.set_ylabel({"loss": quantity, "grad_norm": "gradient norm"}.get(group[0], group[0]))
        if group == ["grad_norm"] and np.nanmax(found.training.get("grad_norm", 0)) > 0:
            panel.set_yscale("log")
            panel.yaxis.set_minor_formatter(functools.partial(_minor_label, panel))
    if (names_of_first := panels[0].get_legend()) is not None:
        panels[0].add_artist(names_of_first)  # or the legend of the kinds would replace it
    order = sorted(kinds, key=lambda label: [*KINDS, label].index(label))
    place = outside(panels[0], loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    panels[0].legend(handles=[kinds[label] for label in order], fontsize="small", **place)
    panels[-1].set_xlabel("optimizer step")
    whole(panels[-1].xaxis)
    return panels[0]


def _minor_label(axes: Axes, value: float, _: int) -> str:
    """Between powers of ten: 2 and 5, where the axis has hardly one of them; there is little room."""
    low, high = axes.get_ylim()
    return f"{value:g}" if high < 30 * low and f"{value:e}"[0] in "25" else ""


class _Run(NamedTuple):
    """The metrics of a run: ``"step"`` and one array ``[K]`` for each."""

    training: dict[str, np.ndarray]
    evaluations: dict[str, np.ndarray]
    best_step: int | None

    def evaluated(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of the evaluations that have this number."""
        values = self.evaluations[name]
        return self.evaluations["step"][~np.isnan(values)], values[~np.isnan(values)]


def _panels(run: _Run, names: list[str]) -> list[list[str]]:
    """The names by panel: the loss, shares between 0 and 1, each other one, the norm of the gradient."""

    def is_share(name: str) -> bool:
        if name != "error" and not any(share in name.lower() for share in SHARES):
            return False
        values = np.concatenate([part[name] for part in (run.training, run.evaluations) if name in part])
        return bool(np.all((values >= 0) & (values <= 1) | np.isnan(values)))

    others = [name for name in names if name not in ("loss", "grad_norm")]
    shares = [name for name in others if is_share(name)]
    alone = [[name] for name in others if name not in shares]
    first, last = (names.count(name) * [[name]] for name in ("loss", "grad_norm"))
    return [*first, *([shares] if shares else []), *alone, *last]


def _draw(axes: Axes, run: _Run, name: str, **style: Any) -> list[Any]:
    """A metric of the steps, and its running mean if there are many; returns the lines for the legend."""
    values = run.training[name]
    steps, each = _fewer(run.training["step"]), _fewer(values)
    handles = axes.plot(steps, each, **{**style, "ls": "-"}, label=EACH, **_thin(each))
    if len(values) >= 100:
        handles += axes.plot(steps, _fewer(_smooth(values)), **style, lw=1.8, label=MEAN)
    return handles


def _draw_all(axes: Axes, run: _Run, name: str, style: dict[str, Any], shared: bool) -> list[Any]:
    """A metric of steps and evaluations; the best evaluation is marked."""
    handles = _draw(axes, run, name, **style) if name in run.training else []
    if name in run.evaluations:
        steps, values = run.evaluated(name)
        colour = style["color"] if shared else ink(axes)
        handles += axes.plot(steps, values, "o-", color=colour, ms=4, lw=1, label=EVALUATION)
        best = steps == run.best_step
        axes.plot(steps[best], values[best], "*", color=GREEN, mec=ink(axes), mew=0.5, ms=12)
    if run.best_step is not None:
        axes.axvline(run.best_step, color=GREEN, lw=1, ls=":")
        handles = [*axes.plot([], [], "*", color=GREEN, mec=ink(axes), mew=0.5, ms=9, ls=":",
                              label=f"best, step {run.best_step}"), *handles]  # fmt: skip
    return handles


def _thin(values: np.ndarray) -> dict[str, Any]:
    """The line of single steps: thin where a running mean is drawn over it."""
    return {**dots(values), **({"lw": 0.6, "alpha": 0.45} if len(values) >= 100 else {"lw": 1.5})}


def _fewer(values: np.ndarray) -> np.ndarray:
    """Of many values every n-th one, and the last one."""
    every = -(-len(values) // POINTS)
    return values[(len(values) - 1) % every :: every] if every > 1 else values


def _smooth(values: np.ndarray) -> np.ndarray:
    """The running mean of finite values, over a window of 1/50 of all steps."""
    window, finite = max(len(values) // 50, 1), np.isfinite(values)
    sums, counts = (np.cumsum(np.pad(a, (window, 0))) for a in (np.where(finite, values, 0), finite.astype(float)))
    with np.errstate(invalid="ignore"):
        return (sums[window:] - sums[:-window]) / (counts[window:] - counts[:-window])


# ---- reading -----------------------------------------------------------------------------------------------------


def _run(argument: str, value: Any) -> _Run:
    """The metrics of what ``fit`` returned, of its log, or of dicts of arrays."""
    if hasattr(value, "history") and hasattr(value, "evaluations"):
        return _arrays(argument, value.history, value.evaluations, value.best_step)
    if isinstance(value, (str, os.PathLike)):
        return _read(argument, value)
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, Mapping) for part in value):
        return _arrays(argument, *value)
    by_name(argument, value, "a path, or arrays by name")
    return _arrays(argument, value, {})


def _read(argument: str, path: str | os.PathLike) -> _Run:
    """The log of a run."""
    try:
        lines = [json.loads(line) for line in pathlib.Path(path).read_text("utf-8").splitlines()]
    except OSError as error:
        checks.refuse(argument, "a file that learning.fit wrote", f"{path}: {error.strerror}", error=type(error))
    except ValueError as error:
        checks.refuse(argument, "lines of JSON, as learning.fit writes them", f"{path}: {error}")
    lines = [line for line in lines if isinstance(line, dict)]
    steps = [line for line in lines if "loss" in line]
    if not steps:
        checks.refuse(argument, "lines with a loss, as learning.fit writes them", f"{path} with none")
    evaluations = [{"step": line["step"], **line["evaluation"]} for line in lines if "evaluation" in line]
    return _arrays(argument, _columns(steps), _columns(evaluations))


def _columns(rows: list[dict[str, Any]]) -> dict[str, list]:
    """The entries of all rows by name; None where one is missing."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _arrays(
    argument: str, training: Mapping[str, Any], evaluations: Mapping[str, Any], best_step: int | None = None
) -> _Run:
    """Arrays of floats; null in a log (not finite) becomes NaN."""
    if "loss" not in training:
        checks.refuse(argument, "a path, or arrays by name with a loss among them", ", ".join(training) or "none")
    arrays = {n: as_numbers(f"{argument}[{n!r}]", v, "numbers [K], one a step") for n, v in training.items()}
    for name, values in arrays.items():
        if values.shape != arrays["loss"].shape or values.ndim != 1:
            checks.refuse(f"{argument}[{name!r}]", f"as many numbers as there are losses, {arrays['loss'].shape}",
                          checks.describe(values))  # fmt: skip
    arrays.setdefault("step", np.arange(1, len(arrays["loss"]) + 1))
    evaluated = {n: np.asarray(v, float) for n, v in evaluations.items() if len(v)}
    return _Run(arrays, evaluated, best_step)
