"""What is forecast: series with their season and horizon, public ones by name."""

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


def mackey_glass(count: int = 3000, delay: int = 17, seed: int = 0) -> np.ndarray:
    """The solution of x' = 0.2 x(t - 17) / (1 + x(t - 17)¹⁰) - 0.1 x at whole times, by steps of 0.1."""
    per, x = 10, [1.2 + 0.05 * np.random.default_rng(seed).normal()]
    for n in range((count + 500) * per):
        past = x[n - delay * per] if n >= delay * per else 0.0
        x.append(x[-1] + (0.2 * past / (1 + past**10) - 0.1 * x[-1]) / per)
    return np.array(x[500 * per :: per][:count])


# season, horizon, unit, step, whether the logarithm is forecast
KNOWN: dict[str, tuple[int, int, str, str, bool]] = {
    "mackey-glass": (50, 50, "x", "time", False),
    "airline-passengers": (12, 12, "thousands of passengers", "month", True),
    "daily-min-temperatures": (365, 14, "°C", "day", False),
    "monthly-sunspots": (132, 24, "sunspot number", "month", False),
    "el-nino": (12, 12, "°C", "month", False),
    "co2": (12, 12, "ppm", "month", False),
    "us-economy": (4, 8, "", "quarter", True),
}
STATSMODELS = ("el-nino", "co2", "us-economy")  # data sets of that package


def problem(name: str, folder: str | None = None) -> Problem:
    """A problem by its name; the CSV files are read from a folder or downloaded."""
    return Problem(name, load(name, folder), *KNOWN[name])


def load(name: str, folder: str | None) -> list[Series]:
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
