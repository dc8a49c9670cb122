"""Plots of forecasts: what is drawn, and refusals."""

import itertools

import numpy as np
import pytest
from figures import agg_backend, legend, matplotlib, plain_axes  # noqa: F401  (a fixture)
from refusals import refuses

from jaxrnn import plots

SAMPLES = np.arange(101.0)[:, None] * [1, 2, 3]  # quantiles of step n: p * 100 n


def bounds(band, at):
    """The lowest and highest point of a filled band at a position."""
    path = band.get_paths()[0].vertices
    return path[path[:, 0] == at][:, 1].min(), path[path[:, 0] == at][:, 1].max()


def test_forecast():
    """Intervals, the widest first, the median, and the values before and after at their steps."""
    axes = plots.forecast(SAMPLES, before=[7, np.nan], truth=[50, np.nan, 0], levels=(0.5, 0.9))
    axes.figure.canvas.draw()
    wide, narrow = axes.collections
    np.testing.assert_allclose([bounds(wide, n) for n in (1, 3)], [(5, 95), (15, 285)])
    np.testing.assert_allclose(bounds(narrow, 2), (50, 150))
    median, before, truth = axes.lines
    np.testing.assert_array_equal(median.get_xydata(), [[1, 50], [2, 100], [3, 150]])
    np.testing.assert_array_equal(before.get_xydata(), [[-1, 7], [0, np.nan]])
    np.testing.assert_array_equal(truth.get_xydata(), [[1, 50], [2, np.nan], [3, 0]])
    assert legend(axes) == ["90 %", "50 %", "median", "until then", "what came"]


def test_forecast_at_times():
    """Steps may be times, which go on to the left; without a name there is no legend."""
    days = np.array(["2024-01-01", "2024-01-02", "2024-01-03"], "datetime64[D]")
    own = matplotlib.pyplot.subplots()[1]
    assert plots.forecast(SAMPLES, days, own, before=[1, 2], name=None) is own
    own.figure.canvas.draw()
    assert own.get_legend() is None
    assert own.get_legend_handles_labels()[1] == []
    assert own.lines[1].get_xdata()[0] == np.datetime64("2023-12-30")


def test_forecast_of_one_step():
    """The intervals are vertical bars, the narrower ones wider, and the median is a point."""
    for step in (None, np.array(["2024-01-01"], "datetime64[D]")):
        axes = plots.forecast(SAMPLES[:, :1], step, before=[1], levels=(0.5, 0.9))
        axes.figure.canvas.draw()
        wide, narrow, median, *_ = axes.lines
        np.testing.assert_allclose([wide.get_ydata(), narrow.get_ydata()], [[5, 95], [25, 75]])
        assert narrow.get_linewidth() > wide.get_linewidth() > 4
        assert median.get_marker() == "."
        assert legend(axes) == ["90 %", "50 %", "median", "until then"]


def test_steps_and_dates():
    """Counted steps have a label and ticks at integers; dates do not overlap; given labels stay."""
    axes = plots.forecast(SAMPLES)
    axes.figure.canvas.draw()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "")
    assert axes.get_xticks().tolist() == [0, 1, 2, 3, 4]
    axes.set_xlabel("day")
    assert plots.forecast(SAMPLES, None, axes).get_xlabel() == "day"
    days = np.arange("2024-01-01", "2024-01-31", dtype="datetime64[D]")
    axes = plots.forecast(np.ones((4, 30)), days, plain_axes(), before=np.ones(300))
    axes.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert len(boxes) > 3
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
    assert axes.get_xlabel() == ""


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("ValueError samples: expected numbers [S, h]…, got …[3]…", lambda: plots.forecast(SAMPLES[0])),
        ("ValueError samples: …", lambda: plots.forecast(SAMPLES[:0])),
        ("ValueError samples: expected finite numbers, got …", lambda: plots.forecast(SAMPLES * np.nan)),
        ("ValueError steps: expected [3], …, got …[2]", lambda: plots.forecast(SAMPLES, [1, 2])),
        ("ValueError levels: expected shares …, got 80; 0.8 …", lambda: plots.forecast(SAMPLES, levels=(80,))),
        ("ValueError truth: expected numbers [3], …", lambda: plots.forecast(SAMPLES, truth=[1])),
        ("ValueError before: expected numbers [L], …", lambda: plots.forecast(SAMPLES, before=[[1]])),
    ],
)
def test_refusals(message, call):
    """Shapes that do not fit are refused by name."""
    refuses(message, call)
