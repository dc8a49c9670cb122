"""One real-valued time series, with what is known about it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from jaxrnn import checks


class Series:
    """A time series of D values a step; NaN marks a missing value.

    Args:
        values: ``[N]`` or ``[N, D]`` numbers, oldest first. NaN where a value is missing.
        covariates: ``[N + future, K]`` or ``[N + future]`` numbers that are known in advance, such as a price or a
            holiday. A forecast needs those of its horizon: they reach past the end of the values.
        static: ``[S]`` numbers that hold for the whole series, such as the size of a shop.
        times: ``[N + future]`` numbers or ``datetime64``, increasing, where the steps are not of equal length. Models
            see the time since the step before.
        name: what errors call the series.

    Attributes:
        values: float64 ``[N, D]``.
        covariates: float64 ``[N + future, K]``; K is 0 without any.
        static: float64 ``[S]``; S is 0 without any.

    Raises:
        TypeError, ValueError: an array has another shape or kind, a value is infinite, a covariate is missing, times
            do not increase; the message names series and row.

    Example:
        >>> import numpy as np
        >>> from jaxrnn.data import Series
        >>> Series([1.0, np.nan, 3.0], covariates=[[0], [1], [0], [1]], name="sales")
        Series(3 steps of 1 value, 1 missing, covariates [4, 1], name='sales')
    """

    def __init__(
        self, values: Any, *, covariates: Any = None, static: Any = None, times: Any = None, name: str | None = None
    ) -> None:
        if name is not None and not isinstance(name, str):
            checks.refuse("name", "a string", checks.describe(name), error=TypeError)
        self.name = name
        self.values = self._numbers("values", values, "[N] or [N, D]", (1, 2), missing="missing values are NaN")
        if not self.values.size:
            self._refuse("values", "at least one", "none")
        self.values = self.values.reshape(len(self.values), -1)
        count = len(self)
        self.covariates = np.zeros((count, 0))
        if covariates is not None:
            covariates = self._numbers("covariates", covariates, "[N + future, K]", (1, 2))
            self._check_rows("covariates", covariates)
            self.covariates = covariates.reshape(len(covariates), -1)
        self.static = np.zeros(0)
        if static is not None:
            self.static = self._numbers("static", static, "[S]", (1,))
        self.times = None if times is None else self._increasing(times)
        if self.times is not None and covariates is None:
            self.covariates = np.zeros((len(self.times), 0))
        if self.times is not None and len(self.times) != len(self.covariates):
            self._refuse("times", f"{len(self.covariates)}, one for each row of the covariates", len(self.times))

    def __repr__(self) -> str:
        """Sizes, no arrays."""
        width, missing = self.values.shape[1], int(np.isnan(self.values).sum())
        parts = [f"{len(self):,} steps of {width} value{'s' * (width != 1)}"]
        parts += [f"{missing:,} missing"] * bool(missing)
        parts += [f"covariates {list(self.covariates.shape)}"] * bool(self.covariates.shape[1])
        parts += [f"static [{len(self.static)}]"] * bool(len(self.static)) + ["times"] * (self.times is not None)
        return f"Series({', '.join(parts)}{f', name={self.name!r}' if self.name is not None else ''})"

    def __len__(self) -> int:
        """N, the number of steps with values."""
        return len(self.values)

    @property
    def known(self) -> int:
        """The number of steps whose covariates and times are known; with neither of them there is no limit."""
        unlimited = self.times is None and not self.covariates.shape[1]
        return int(np.iinfo(np.int64).max) if unlimited else len(self.covariates)

    def until(self, end: int) -> Series:
        """The first ``end`` steps, without what is known of the later ones."""
        part = copy.copy(self)
        part.values, part.covariates = self.values[:end], self.covariates[:end]
        part.times = None if self.times is None else self.times[:end]
        return part

    def features(self) -> np.ndarray:
        """All that is known in advance, float64 ``[N + future, K + S + 1]``: covariates, static ones, time steps.

        The last column is the time since the step before (the first step repeats the second); it exists with ``times``.
        """
        rows = len(self.covariates)
        columns = [self.covariates, np.broadcast_to(self.static, (rows, len(self.static)))]
        if self.times is not None:
            steps = np.diff(_as_numbers(self.times))
            columns.append(np.concatenate([steps[:1] if len(steps) else np.ones(rows), steps])[:, None])
        return np.concatenate(columns, 1)

    # ---- checks ----

    def _numbers(self, argument: str, value: Any, shape: str, axes: tuple, missing: str = "") -> np.ndarray:
        """Real numbers as float64; NaN is refused unless it marks missing values."""
        array = np.asarray(value)
        if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
            self._refuse(argument, f"numbers {shape}", checks.describe(array), missing, TypeError)
        if array.ndim not in axes:
            self._refuse(argument, shape, checks.describe(array), "time first")
        array = array.astype(np.float64)
        wrong = np.isinf(array) if missing else ~np.isfinite(array)
        if wrong.any():
            row = int(np.argwhere(wrong)[0, 0])
            fix = missing or "what is not known in advance belongs into the values"
            self._refuse(f"{argument}[{row}]", "finite numbers", array[row], fix)
        return array

    def _increasing(self, times: Any) -> np.ndarray:
        array = np.asarray(times)
        if array.ndim != 1 or array.dtype.kind not in "fiuM":
            self._refuse("times", "numbers or datetime64 [N + future]", checks.describe(array),
                         'np.array(dates, "datetime64[s]") converts dates', TypeError)  # fmt: skip
        self._check_rows("times", array)
        numbers = _as_numbers(array)
        wrong = ~np.isfinite(numbers) | np.concatenate([[False], ~(np.diff(numbers) > 0)])
        if wrong.any():
            row = int(wrong.argmax())
            before = f" after {array[row - 1]}" if row else ""
            self._refuse(f"times[{row}]", "a later time than the one before", f"{array[row]}{before}",
                         "sort the rows by time, and merge those of the same time")  # fmt: skip
        return array

    def _check_rows(self, argument: str, array: np.ndarray) -> None:
        if len(array) < len(self):
            self._refuse(argument, f"at least {len(self)} rows, one for each step of the values", len(array))

    def _refuse(
        self, argument: str, expected: str, got: Any, fix: str = "", error: type[Exception] = ValueError
    ) -> NoReturn:
        where = "" if self.name is None else f" of series {self.name!r}"
        checks.refuse(f"{argument}{where}", expected, got, fix, error)


def _as_numbers(times: np.ndarray) -> np.ndarray:
    """Times as float64; dates as seconds."""
    if times.dtype.kind != "M" or not len(times):
        return times.astype(np.float64)
    seconds = (times - times[0]) / np.timedelta64(1, "s")
    return np.where(np.isnat(times), np.nan, seconds)


def as_list(argument: str, series: Series | Sequence[Series]) -> list[Series]:
    """One series or several, with the same numbers of values, covariates and static covariates."""
    found = [series] if isinstance(series, Series) else list(series) if isinstance(series, (list, tuple)) else []
    if not found or not all(isinstance(one, Series) for one in found):
        checks.refuse(argument, "a Series or a list of them", checks.describe(series), "data.Series(values) makes one",
                      TypeError)  # fmt: skip
    for n, one in enumerate(found):
        if _widths(one) != _widths(found[0]):
            checks.refuse(f"{argument}[{n}]", f"{_widths(found[0])}, as {argument}[0] has", _widths(one),
                          "all series of a model have the same columns")  # fmt: skip
    return found


def label(series: Sequence[Series], n: int) -> str:
    """What an error calls series n."""
    return f"series[{n}]" if series[n].name is None else f"series[{n}] ({series[n].name})"


def _widths(series: Series) -> str:
    times = ", times" if series.times is not None else ""
    return (
        f"{series.values.shape[1]} values, {series.covariates.shape[1]} covariates, {len(series.static)} static{times}"
    )
