"""Plots of forecasts."""

from __future__ import annotations

from typing import Any

import common
import numpy as np

import jaxrnn as rnn
from forecasting.measures import Origins, seasonal_scale
from forecasting.problems import Problem
from forecasting.tables import times
from jaxrnn.data import Table

PANELS = 6  # series that are drawn, at most


def ahead(problem: Problem, table: Table | None, samples: np.ndarray, origins: Origins) -> Any:
    """The end of each series, and the forecasts beyond it with their intervals."""
    figure, panels = _panels(len(origins.numbers))
    for k, axes in enumerate(panels):
        n, start = origins.numbers[k], origins.starts[k]
        shown = np.arange(max(0, start - max(5 * problem.horizon, 2 * min(problem.season, 5 * problem.horizon))), start)
        _history(axes, times(table, n, shown), problem.series[n].values[shown, 0])
        rnn.plots.forecast(samples[:, k], times(table, n, start + np.arange(problem.horizon)), axes, name="forecast")
        _label(axes, problem, problem.series[n].name)
    panels[0].legend()
    return figure


def test(
    problem: Problem, table: Table | None, forecasts: dict[str, np.ndarray], origins: Origins, until: list[int]
) -> Any:
    """Forecasts of the test that do not overlap, and the error by the number of steps ahead."""
    numbers = np.unique(origins.numbers)[: PANELS - 1]
    figure, panels = _panels(len(numbers) + 1)
    network, naive = forecasts.values()
    for axes, n in zip(panels, numbers.tolist()):
        here = np.flatnonzero(origins.numbers == n).tolist()
        chosen: list[int] = []
        for k in here:
            if len(chosen) < 8 and (not chosen or origins.starts[k] >= origins.starts[chosen[-1]] + problem.horizon):
                chosen.append(k)
        first, last = origins.starts[chosen[0]], origins.starts[chosen[-1]] + problem.horizon
        shown = np.arange(max(0, first - problem.horizon), last)
        _history(axes, times(table, n, shown), problem.series[n].values[shown, 0])
        for k in chosen:
            steps = times(table, n, origins.starts[k] + np.arange(-1, problem.horizon))
            before, steps = steps[0], steps[1:]
            rnn.plots.forecast(network[:, k], steps, axes, name="forecast" if k == chosen[0] else None)
            axes.plot(steps, np.median(naive[:, k], 0), color=rnn.plots.COLOURS[1], lw=1, ls="--",
                      label="the season before" if k == chosen[0] else None)  # fmt: skip
            axes.axvline(before + (steps[0] - before) / 2, color=rnn.plots.GREY, lw=0.6, ls=":")
        _label(axes, problem, f"{problem.series[n].name or problem.name}: test, each forecast from a dotted line")
        if table is None or not table.columns["time"]:
            axes.set_xlabel(f"{problem.step}, from the start of the series")
    panels[0].legend(fontsize=8)
    truth, axes = origins.truth(problem.series, problem.horizon), panels[-1]
    scale = np.array([seasonal_scale(one, problem.season, end) for one, end in zip(problem.series, until)])
    for (name, drawn), colour, style in zip(forecasts.items(), rnn.plots.COLOURS, rnn.plots.DASHES):
        errors = np.abs(np.median(drawn, 0) - truth) / scale[origins.numbers, None]
        axes.plot(np.arange(1, problem.horizon + 1), _mean(errors), color=colour, ls=style, label=name)
    axes.set(xlabel="steps ahead", ylabel="MASE", title=f"{len(truth):,} forecasts", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _mean(errors: np.ndarray) -> np.ndarray:
    known = np.isfinite(errors)
    return np.where(known, errors, 0).sum(0) / np.maximum(known.sum(0), 1)


def _panels(count: int) -> tuple[Any, list[Any]]:
    count = min(count, PANELS)
    columns = 1 if count == 1 else 2
    rows = -(-count // columns)
    figure, grid = common.subplots(rows, columns, figsize=(8 if columns == 1 else 13, 3.6 * rows), squeeze=False)
    for axes in grid.flat[count:]:
        axes.remove()
    return figure, list(grid.flat[:count])


def _history(axes: Any, steps: Any, values: np.ndarray) -> None:
    """Values as a line, with points where there are few, or where a missing one leaves a single point."""
    points = "." if len(values) < 100 or np.isnan(values).any() else None
    axes.plot(steps, values, color="black", lw=1.4, marker=points, ms=4, label="values")


def _label(axes: Any, problem: Problem, title: str | None) -> None:
    axes.set(ylabel=problem.unit, title=title or problem.name)
    axes.grid(alpha=0.3)
    axes.tick_params(axis="x", labelrotation=20)
