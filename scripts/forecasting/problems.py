"""What is forecast: series with their season and horizon; public ones by name."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxrnn.data import Series, datasets


class Problem(NamedTuple):
    """Series to forecast, all with the same season and horizon."""

    name: str
    series: list[Series]
    season: int  # steps
    horizon: int  # h
    unit: str = ""
    step: str = "step"
    log: bool = False  # whether the logarithm is forecast


class Known(NamedTuple):
    """A public problem without its series."""

    season: int
    horizon: int
    unit: str
    step: str
    log: bool = False


KNOWN = {
    "mackey-glass": Known(50, 50, "x", "time"),
    "airline-passengers": Known(12, 12, "thousands of passengers", "month", log=True),
    "daily-min-temperatures": Known(365, 14, "°C", "day"),
    "monthly-sunspots": Known(132, 24, "sunspot number", "month"),
    "el-nino": Known(12, 12, "°C", "month"),
    "co2": Known(12, 12, "ppm", "month"),
    "us-economy": Known(4, 8, "", "quarter", log=True),
}
# A series without noise is worth a larger network and more steps; more than one network adds nothing
SETTINGS = {"mackey-glass": {"method": "direct", "representation": "level", "units": 64, "members": 1, "steps": 1000,
                             "rate": 1e-2}}  # fmt: skip
STATSMODELS = ("el-nino", "co2", "us-economy")  # which has the data


def problem(name: str, folder: str | None = None) -> Problem:
    """A problem by its name; the CSV files are read from a folder or downloaded."""
    return Problem(name, load(name, folder), *KNOWN[name])


def load(name: str, folder: str | None) -> list[Series]:
    """The series of a problem."""
    if name == "mackey-glass":
        return [Series(mackey_glass(), name=name)]
    if name not in STATSMODELS:
        return [Series(datasets.time_series(name, folder).values, name=name)]
    import statsmodels.datasets as sets

    if name == "el-nino":  # a row for each year, a column for each month
        return [Series(sets.elnino.load_pandas().data.to_numpy()[:, 1:].ravel(), name=name)]
    if name == "co2":  # means of the months of a weekly series, some without a value
        return [Series(sets.co2.load_pandas().data["co2"].resample("MS").mean().to_numpy(), name=name)]
    table: Any = sets.macrodata.load_pandas().data
    columns = ("realgdp", "realcons", "realinv", "cpi", "m1", "unemp")
    return [Series(table[column].to_numpy(), name=column) for column in columns]


def mackey_glass(count: int = 3000, delay: int = 17, seed: int = 0) -> np.ndarray:
    """The solution of x' = 0.2 x(t - 17) / (1 + x(t - 17)¹⁰) - 0.1 x at whole times, by steps of 0.1."""
    per, x = 10, [1.2 + 0.05 * np.random.default_rng(seed).normal()]
    for n in range((count + 500) * per):
        past = x[n - delay * per] if n >= delay * per else 0.0
        x.append(x[-1] + (0.2 * past / (1 + past**10) - 0.1 * x[-1]) / per)
    return np.array(x[500 * per :: per][:count])


# ---- what is found out about the series of a table -------------------------------------------------------------------


def lag(season: int, horizon: int) -> int:
    """Whole seasons, at least a horizon long."""
    return -(-horizon // season) * season


def find_season(series: list[Series], candidates: tuple[int, ...], horizon: int, share: float = 0.6) -> int:
    """The shortest season whose last values forecast well, in the first ``share`` of each series; 1 for none."""
    training = [one.values[: int(share * len(one)), 0] for one in series]
    longest = max(map(len, training))
    found = candidates or _peaks(max(training, key=len))
    usable = [m for m in sorted({1, *found}) if lag(m, horizon) <= longest // 3]

    def error(season: int) -> float:
        """Of the seasonal naive forecast, over all steps of the horizon."""
        errors = []
        for x in training:
            deviation = x[~np.isnan(x)].std() if (~np.isnan(x)).any() else 0.0
            for back in (lag(season, step) for step in range(1, horizon + 1)):
                errors.append(np.abs(x[back:] - x[:-back]) / (deviation or 1))
        known = [e[np.isfinite(e)].mean() for e in errors if np.isfinite(e).any()]
        return float(np.mean(known)) if known else np.inf

    errors = {season: error(season) for season in usable}
    best = min(errors, key=lambda m: errors[m], default=1)
    return 1 if best == 1 else min(m for m in usable if m > 1 and errors[m] <= 1.2 * errors[best])  # not 24 for 12


def _peaks(values: np.ndarray) -> tuple[int, ...]:
    """The three lags of the highest peaks of the autocorrelation, after a straight line is taken away."""
    known = ~np.isnan(values)
    steps = np.arange(len(values))
    x = np.where(known, values - np.polyval(np.polyfit(steps[known], values[known], 1), steps), 0)
    size = len(x) // 3
    correlation = np.correlate(x, x, "full")[len(x) - 1 :][: size + 1] / max((x * x).sum(), 1e-300)
    inner = np.flatnonzero((correlation[1:-1] > correlation[:-2]) & (correlation[1:-1] >= correlation[2:])) + 1
    likely = [int(n) for n in inner if n > 1 and correlation[n] > 0.2]
    return tuple(sorted(likely, key=lambda n: -correlation[n])[:3])


def is_multiplicative(series: list[Series], season: int, share: float = 0.6) -> bool:
    """Whether the spread within blocks of a season grows with their mean, so that the logarithm is clearly steadier.

    Source: Guerrero (1993), "Time-series analysis supported by power transformations", Journal of Forecasting 12.
    """
    votes = []
    for one in series:
        x = one.values[: int(share * len(one)), 0]
        if (one.values <= 0).any():  # also a late one, whose logarithm does not exist either
            return False
        size = max(season, 4)
        blocks = x[: len(x) // size * size].reshape(-1, size)
        blocks = blocks[(~np.isnan(blocks)).sum(1) > 1]
        mean, spread = np.nanmean(blocks, 1), np.nanstd(blocks, 1)
        if len(mean) > 2 and (spread > 0).any():
            variation = [np.nanstd(ratio) / np.nanmean(ratio) for ratio in (spread / mean, spread)]
            votes.append(bool(variation[0] < 0.8 * variation[1]))
    return bool(sum(votes) > len(votes) / 2)
