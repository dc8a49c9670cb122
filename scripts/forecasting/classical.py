"""Seasonal naive forecasts, and exponential smoothing and ARIMA of statsforecast, where it is installed.

Each is fitted on the training part once, as a network is, and applied to the values before each origin.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from forecasting.measures import LEVELS, Origins
from jaxrnn.data import Series

AUTOMATIC = ("AutoETS", "AutoARIMA")


def available() -> bool:
    """Whether statsforecast is installed."""
    return importlib.util.find_spec("statsforecast") is not None


def filled(values: np.ndarray) -> np.ndarray:
    """Values ``[N]`` with those between for missing ones."""
    known = np.flatnonzero(~np.isnan(values))
    return np.interp(np.arange(len(values)), known, values[known])


def seasonal_naive(
    series: Sequence[Series], origins: Origins, season: int, horizon: int, ends: Sequence[int]
) -> np.ndarray:
    """The value one season before; quantiles ``[S, n, h]`` of a normal distribution, whose variance grows by season.

    The variance of one season is that of the differences in the training part, up to ``ends``.
    Source: Hyndman & Athanasopoulos, Forecasting: principles and practice (3rd edition), section 5.5.
    """
    steps = np.arange(horizon)
    found = []
    for n, start in zip(origins.numbers, origins.starts):
        values = filled(series[n].values[:start, 0])
        m = min(season, len(values))
        training = series[n].values[: ends[n], 0]
        lag = season if season < len(training) - 1 else 1
        squares = (training[lag:] - training[:-lag]) ** 2
        squares = squares[~np.isnan(squares)]
        deviation = np.sqrt(squares.mean() if len(squares) else 0.0) * np.sqrt(steps // m + 1)
        found.append(values[start - m + steps % m] + deviation * norm.ppf(LEVELS)[:, None])
    return np.stack(found, 1)


def automatic(
    method: str, series: Sequence[Series], origins: Origins, season: int, horizon: int, ends: Sequence[int], log: bool
) -> np.ndarray:
    """AutoETS or AutoARIMA: quantiles ``[S, n, h]`` of their normal distributions.

    A season of more than 24 steps is passed over, as statsforecast does for exponential smoothing.
    """
    import statsforecast.models as models

    found: list[Any] = [None] * len(origins.numbers)
    for n, end in enumerate(ends):
        here = np.flatnonzero(origins.numbers == n)
        values = filled(series[n].values[:, 0])
        values = np.log(values) if log else values
        model = getattr(models, method)(season_length=season if season <= 24 else 1).fit(values[:end])
        for k in here:
            out = {name: np.asarray(value) for name, value in
                   model.forward(values[: origins.starts[k]], horizon, level=[80]).items()}  # fmt: skip
            deviation = (out["hi-80"] - out["lo-80"]) / (2 * norm.ppf(0.9))
            quantiles = out["mean"] + deviation * norm.ppf(LEVELS)[:, None]
            found[k] = np.exp(quantiles) if log else quantiles
    return np.stack(found, 1)
