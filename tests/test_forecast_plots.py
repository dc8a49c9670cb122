"""Plots of forecasts: what is drawn, and refusals."""

import numpy as np
import pytest
from figures import agg_backend, legend, matplotlib  # noqa: F401  (a fixture)
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
    """Steps may be times, which go on to the left; without a name there is no legend; one step is a point."""
    days = np.array(["2024-01-01", "2024-01-02", "2024-01-03"], "datetime64[D]")
    own = matplotlib.pyplot.subplots()[1]
    assert plots.forecast(SAMPLES, days, own, before=[1, 2], name=None) is own
    own.figure.canvas.draw()
    assert own.get_legend() is None
    assert own.get_legend_handles_labels()[1] == []
    assert own.lines[1].get_xdata()[0] == np.datetime64("2023-12-30")
    assert plots.forecast(SAMPLES[:, :1], before=[1]).lines[0].get_marker() == "."


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
