"""How good forecasts are, and from where they are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxrnn.data import Series

LEVELS = np.arange(1, 200) / 200  # of the quantiles that stand for a distribution with a formula


class Origins(NamedTuple):
    """Forecasts are made of the h steps from ``starts [n]`` of the series ``numbers [n]``."""

    numbers: np.ndarray
    starts: np.ndarray

    def truth(self, series: Sequence[Series], horizon: int) -> np.ndarray:
        """The values ``[n, h]``, NaN where one is missing."""
        return np.stack([series[n].values[at : at + horizon, 0] for n, at in zip(self.numbers, self.starts)])


def seasonal_scale(series: Series, season: int, end: int) -> float:
    """The mean absolute difference to the season before, up to ``end``: what errors are divided by for the MASE.

    Where all seasons are the same it is the mean absolute difference of one step, and 1 if no value ever changes.

    Source: Hyndman & Koehler (2006), "Another look at measures of forecast accuracy", International Journal of
    Forecasting 22.
    """
    values = series.values[:end, 0]
    season = season if season < len(values) - 1 else 1
    least = 1e-12 * np.abs(values[np.isfinite(values)]).max(initial=0.0)  # less is rounding
    for back in (season, 1):
        differences = np.abs(values[back:] - values[:-back])
        differences = differences[np.isfinite(differences)]
        if len(differences) and differences.mean() > least:
            return float(differences.mean())
    return 1.0


def measure(samples: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> dict[str, float]:
    """Measures of samples or quantiles ``[S, n, h]`` against values ``[n, h]``.

    ``mase`` is of the median, ``crps`` is divided by the same ``scale [n]``; ``cover80`` and ``cover95`` are the shares
    of the values in the central intervals.
    """
    known = np.isfinite(truth) & np.isfinite(scale)[:, None]
    if not known.any():
        return dict.fromkeys(("mase", "crps", "cover80", "cover95"), float("nan"))
    x = np.sort(samples[:, known], 0).astype(np.float64)
    y, by = truth[known], np.broadcast_to(scale[:, None], truth.shape)[known]
    weights = (2 * np.arange(1, len(x) + 1) - len(x) - 1) / len(x) ** 2
    crps = np.abs(x - y).mean(0) - (weights[:, None] * x).sum(0)  # E|X - y| - E|X - X'| / 2
    low95, low80, median, high80, high95 = np.quantile(x, [0.025, 0.1, 0.5, 0.9, 0.975], axis=0)
    return {
        "mase": float((np.abs(median - y) / by).mean()),
        "crps": float((np.maximum(crps, 0) / by).mean()),  # not -0 by rounding
        "cover80": float(((low80 <= y) & (y <= high80)).mean()),
        "cover95": float(((low95 <= y) & (y <= high95)).mean()),
    }
