"""Windows of real-valued series: a context and the values that follow it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrnn import checks
from jaxrnn.data.checks import part_size
from jaxrnn.data.scaling import Scaling, check_positive
from jaxrnn.data.series import Series, as_list, label
from jaxrnn.types import Array, exportable


@exportable
class Window(NamedTuple):
    """B contexts of L steps and the h steps after each, scaled; a missing value is 0 and not observed.

    Not observed is also what lies before the start of a series, after its end, and all of an entry that fills the last
    batch.
    """

    values: np.ndarray | Array  # [L, B, D]
    observed: np.ndarray | Array  # bool [L, B, D]
    covariates: np.ndarray | Array  # [L + h, B, K']: known in advance, static, time steps, lagged values
    targets: np.ndarray | Array  # [h, B, D]
    targets_observed: np.ndarray | Array  # bool [h, B, D]
    series: np.ndarray | Array  # int32 [B], the number of the series
    start: np.ndarray | Array  # int32 [B], the row of the first target in its series

    def targets_and_mask(self) -> tuple[np.ndarray | Array, np.ndarray | Array]:
        """The targets ``[h, B, D]``, and which of them are observed."""
        return self.targets, self.targets_observed


class Windows:
    """Shuffled batches of windows of one series or of many, of unequal length.

    ``windows[n]`` is batch n, counted from the start of training. Each epoch of ``len(windows)`` batches has its own
    order, which follows from the seed, so the number n alone is the position in the data. The last batch of an epoch is
    filled with entries of which nothing is observed.

    A window is given by the row of its first target. The first one of a series has a full context, or, in a series
    shorter than ``context + horizon``, a context of one value: the steps before are not observed. ``history`` sets
    another number. Windows without any observed target are left out.

    Args:
        series: a :class:`Series` or a list of them.
        context: L, the steps that a model reads.
        horizon: h, the steps that it forecasts.
        batch: B.
        stride: steps from one window to the next.
        scaling: of :meth:`Scaling.fit`; None leaves values and covariates as they are.
        lags: values so many steps ago become covariates, ``lags=(24,)`` the value of the day before; each at least the
            horizon, so that it is known when the forecast is made. They are 0 where they are missing.
        history: the least number of steps of a context that lie within the series.
        start, end: the targets lie in rows [start, end) of their series: a number, or one for each series.
        shuffle: whether epochs are shuffled; otherwise the windows of a series follow one another.
        seed: seed of the shuffling.

    Attributes:
        targets, covariates: the numbers of features D and K', as models need them.
        input_size: of the core of a forecaster, ``2 D + K'``.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range; the message names the series.

    Example:
        >>> import numpy as np
        >>> from jaxrnn.data import Series, Windows
        >>> windows = Windows(Series(np.arange(10.0)), context=3, horizon=2, batch=4, shuffle=False)
        >>> windows
        Windows(1 series, 6 windows, context=3, horizon=2, batch=4, 2 batches)
        >>> windows[0].values[:, 1, 0], windows[0].targets[:, 1, 0]
        (array([1., 2., 3.], dtype=float32), array([4., 5.], dtype=float32))
    """

    def __init__(
        self,
        series: Series | Sequence[Series],
        *,
        context: int,
        horizon: int,
        batch: int,
        stride: int = 1,
        scaling: Scaling | None = None,
        lags: Sequence[int] = (),
        history: int | None = None,
        start: int | Sequence[int] = 0,
        end: int | Sequence[int] | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        for name, value in (("context", context), ("horizon", horizon), ("batch", batch), ("stride", stride)):
            checks.size(name, value)
        checks.flag("shuffle", shuffle)
        self.series = as_list("series", series)
        self.context, self.horizon, self.batch, self.stride = context, horizon, batch, stride
        self.lags = self._checked_lags(lags)
        self.history = self._checked_history(history)
        self.scaling = Scaling.fit(self.series, "none") if scaling is None else scaling
        self._check_scaling()
        self.shuffle, self.seed = shuffle, seed
        self._prepare_rows()
        self._select(start, end)

    def __repr__(self) -> str:
        """Sizes, no arrays."""
        sizes = f"context={self.context}, horizon={self.horizon}, batch={self.batch}, {len(self):,} batches"
        return f"Windows({len(self.series):,} series, {len(self._origins):,} windows, {sizes})"

    # ---- sizes ----

    @property
    def targets(self) -> int:
        """D, the values of a step."""
        return self.series[0].values.shape[1]

    @property
    def covariates(self) -> int:
        """K', what is known of a step in advance: covariates, static ones, time steps, lagged values."""
        return self._features.shape[1] + len(self.lags) * self.targets

    @property
    def input_size(self) -> int:
        """Inputs of the core of a forecaster: values, whether they are observed, and covariates."""
        return 2 * self.targets + self.covariates

    @property
    def sizes(self) -> dict[str, int]:
        """The hyperparameters that a forecaster of these windows needs: ``Forecaster(core, **windows.sizes)``."""
        return {"horizon": self.horizon, "targets": self.targets, "covariates": self.covariates, "lags": len(self.lags)}

    # ---- batches ----

    def __len__(self) -> int:
        """Batches of one epoch."""
        return -(-len(self._origins) // self.batch)

    def __iter__(self) -> Iterator[Window]:
        """The batches of the first epoch, while ``windows[n]`` takes any n."""
        return (self[n] for n in range(len(self)))

    def __getitem__(self, n: int) -> Window:
        if not len(self):
            lengths = [len(one) for one in self.series]
            checks.refuse("windows", f"a series of {self.history or 1} + {self.horizon} steps or more up to the end of "
                          "this part, with an observed target", f"none of {min(lengths)} to {max(lengths)} steps",
                          "a shorter horizon, or other parts; latest() needs no targets")  # fmt: skip
        epoch, position = divmod(n, len(self))
        order = self._order(epoch)[position * self.batch : (position + 1) * self.batch]
        return self._gather(self._numbers[order], self._origins[order], self.batch)

    def latest(self, numbers: Sequence[int] | None = None) -> Window:
        """The end of every series, to forecast the h steps after it; the targets are unknown.

        Args:
            numbers: B numbers of series; by default all, in their order.

        Raises:
            ValueError: the covariates or times of a series do not reach h steps past its end.
        """
        chosen = np.arange(len(self.series)) if numbers is None else np.asarray(numbers)
        checks.integers("numbers", chosen, f"numbers of series, from 0 to {len(self.series) - 1}",
                        "[series.name for series in windows.series].index(name)")  # fmt: skip
        checks.within("numbers", chosen, 0, len(self.series) - 1, f"numbers from 0 to {len(self.series) - 1}", "")
        for n in map(int, chosen):
            one = self.series[n]
            if one.known < len(one) + self.horizon:
                checks.refuse(f"{label(self.series, n)}", f"covariates and times of {len(one) + self.horizon} steps, "
                              f"{self.horizon} more than values", one.known,
                              "Series(values, covariates=...) may reach past the end of the values")  # fmt: skip
        return self._gather(chosen, self._lengths[chosen], len(chosen))

    @classmethod
    def split(
        cls,
        series: Series | Sequence[Series],
        *,
        context: int,
        horizon: int,
        batch: int,
        validation: float | int = 0.2,
        test: float | int = 0.2,
        at: tuple | None = None,
        scaling: str | Scaling | None = "standard",
        per_series: bool = False,
        log: bool = False,
        **options: Any,
    ) -> tuple[Windows, Windows, Windows]:
        """Split series by time into training, validation and test.

        The targets of a part lie wholly in it; contexts reach back into the parts before. The scaling is fitted on the
        training part. Nothing of a later part enters an earlier one.

        Args:
            series, context, horizon, batch: as above.
            validation, test: a fraction of each series, or a number of steps at its end; 0 for no such part.
            at: instead of these, the two times at which validation and test begin, as in the ``times`` of the series:
                numbers, or ``("2024-01-01", "2024-07-01")`` for dates.
            scaling: the kind of :meth:`Scaling.fit`, which also takes ``per_series`` and ``log``; or a scaling.
            options: ``stride``, ``lags``, ``history``, ``shuffle`` and ``seed``. Only the training part is shuffled.

        Returns:
            ``(train, validation, test)``, all with the same ``scaling``.

        Raises:
            TypeError, ValueError: an argument is of the wrong kind, or nothing is left for training.

        Example:
            >>> import numpy as np
            >>> from jaxrnn.data import Series, Windows
            >>> series = Series(np.sin(np.arange(100.0)))
            >>> train, validation, test = Windows.split(series, context=20, horizon=5, batch=8)
            >>> train
            Windows(1 series, 36 windows, context=20, horizon=5, batch=8, 5 batches)
        """
        found = as_list("series", series)
        lengths = np.array([len(one) for one in found])
        if at is None:
            test_from = np.maximum(lengths - part_size("test", test, lengths), 0)
            validation_from = np.maximum(test_from - part_size("validation", validation, lengths), 0)
        else:
            validation_from, test_from = _common_times(found, at)
        if (validation_from <= 0).all():
            checks.refuse("validation, test", f"less than the {lengths.max()} steps of the longest series",
                          (validation, test) if at is None else at, "nothing is left for training")  # fmt: skip
        if scaling is None or isinstance(scaling, str):
            training = [one.until(end) for one, end in zip(found, validation_from, strict=True)]
            scaling = Scaling.fit(training, scaling or "none", per_series=per_series, log=log)
        elif per_series or log:
            checks.refuse("per_series, log", "False with a scaling that is fitted", (per_series, log))
        make = cls(
            found, context=context, horizon=horizon, batch=batch, scaling=scaling, end=validation_from, **options
        )
        if not len(make):
            checks.refuse("horizon, validation, test", "windows for training: an observed value, and after one step at "
                          f"least {horizon} steps of targets", f"{validation_from.max()} steps of the longest series, "
                          "and none", "fewer steps for horizon, validation or test")  # fmt: skip
        return make, make._part(validation_from, test_from), make._part(test_from, lengths)

    # ---- the rows of all series, one after another ----

    def _prepare_rows(self) -> None:
        """Scaled values and features ``[rows, ...]`` of all series, and where each series begins."""
        scaled = [self.scaling.apply(one.values, n) for n, one in enumerate(self.series)]
        values = np.concatenate(scaled)
        self._observed = ~np.isnan(values)
        self._values = np.where(self._observed, values, 0).astype(np.float32)
        self._lengths = np.array([len(one) for one in self.series])
        self._first = np.cumsum(self._lengths) - self._lengths
        features = [self.scaling.apply_features(one.features()) for one in self.series]
        self._features = np.concatenate(features).astype(np.float32)
        self._known = np.array([len(one) for one in features])
        self._first_known = np.cumsum(self._known) - self._known

    def _select(self, start: Any, end: Any) -> None:
        """The windows whose targets lie in [start, end): numbers of their series, rows of their first targets."""
        count = len(self.series)
        starts, ends = (
            np.broadcast_to(np.asarray(value), (count,)) for value in (start, self._lengths if end is None else end)
        )
        found = [self._origins_of(n, int(starts[n]), int(ends[n])) for n in range(count)]
        self._numbers = np.repeat(np.arange(count), [len(one) for one in found])
        self._origins = np.concatenate(found)
        self._cached: tuple[int, np.ndarray] = (-1, self._origins)

    def _origins_of(self, n: int, start: int, end: int) -> np.ndarray:
        """The rows of the first targets in series n."""
        length = len(self.series[n])
        end = min(end, length)
        full = end >= self.context + self.horizon
        least = self.history if self.history is not None else self.context if full else 1
        origins = np.arange(max(start, least), end - self.horizon + 1, self.stride)
        observed = self._observed[self._first[n] : self._first[n] + length].any(1)
        before = np.concatenate([[0], np.cumsum(observed)])
        return origins[before[origins + self.horizon] > before[origins]]

    def _part(self, start: np.ndarray, end: np.ndarray) -> Windows:
        """The same series and scaling with other targets, in order."""
        part = copy.copy(self)
        part.shuffle = False
        part._select(start, end)
        return part

    def _order(self, epoch: int) -> np.ndarray:
        if self._cached[0] != epoch:
            rng, count = np.random.default_rng([self.seed, epoch]), len(self._origins)
            self._cached = epoch, rng.permutation(count) if self.shuffle else np.arange(count)
        return self._cached[1]

    def _gather(self, numbers: np.ndarray, origins: np.ndarray, batch: int) -> Window:
        """The windows of series ``numbers [b]`` at ``origins [b]``, filled up to ``batch`` entries."""
        steps = origins + np.arange(-self.context, self.horizon)[:, None]  # [L + h, b], rows of each series
        values, observed = self._values_at(numbers, steps)
        lagged = [self._values_at(numbers, steps - lag)[0] for lag in self.lags]
        known = (steps >= 0) & (steps < self._known[numbers])
        rows = np.where(known, self._first_known[numbers] + steps, 0)
        features = np.where(known[..., None], self._features[rows], 0)
        covariates = np.concatenate([features, *lagged], -1)
        L, count = self.context, len(numbers)

        def fill(array: Any) -> np.ndarray:  # the batch is the last axis of [B], else axis 1
            missing = [(0, 0)] * array.ndim
            missing[min(1, array.ndim - 1)] = (0, batch - count)
            return np.pad(array, missing)

        window = Window(values[:L], observed[:L], covariates, values[L:], observed[L:],
                        numbers.astype(np.int32), origins.astype(np.int32))  # fmt: skip
        return Window._make(map(fill, window))

    def _values_at(self, numbers: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values ``[T, b, D]`` at rows of each series, and which are observed; 0 outside of the series."""
        inside = (steps >= 0) & (steps < self._lengths[numbers])
        rows = np.where(inside, self._first[numbers] + steps, 0)
        observed = inside[..., None] & self._observed[rows]
        return np.where(observed, self._values[rows], 0), observed

    # ---- checks ----

    def _checked_lags(self, lags: Any) -> tuple[int, ...]:
        if isinstance(lags, str) or not hasattr(lags, "__len__"):
            checks.refuse("lags", "ints", checks.describe(lags), "(12,) is a tuple of one", TypeError)
        for n, lag in enumerate(lags):
            checks.size(f"lags[{n}]", lag)
            if lag < self.horizon:
                known = -(-self.horizon // int(lag)) * int(lag)
                checks.refuse(f"lags[{n}]", f"at least {self.horizon}, the horizon", lag,
                              f"{lag} steps before the last target is a target too; {known} is known")  # fmt: skip
            longest = max(map(len, self.series))
            if lag >= longest:
                checks.refuse(f"lags[{n}]", f"less than {longest}, the steps of the longest series", lag)
        return tuple(map(int, lags))

    def _checked_history(self, history: Any) -> int | None:
        if history is not None:
            checks.size("history", history)
            if history > self.context:
                checks.refuse("history", f"at most {self.context}, the context", history)
        return history

    def _check_scaling(self) -> None:
        scaling, first = self.scaling, self.series[0]
        checks.instance("scaling", scaling, Scaling, "Scaling.fit(series) makes one; Windows.split takes its kind")
        widths, expected = (scaling.offset.shape[1], len(scaling.feature_offset)), first.features().shape[1]
        if widths != (first.values.shape[1], expected):
            checks.refuse("scaling", f"one of {first.values.shape[1]} values and {expected} covariates",
                          f"{widths[0]} and {widths[1]}", "fit it on series with the same columns")  # fmt: skip
        if scaling.per_series and len(scaling.offset) != len(self.series):
            checks.refuse("series", f"{len(scaling.offset)}, as many as the scaling of each series was fitted on",
                          len(self.series), "per_series=False also suits new series")  # fmt: skip
        if scaling.log:
            check_positive(self.series)


def _common_times(series: Sequence[Series], at: Any) -> tuple[np.ndarray, np.ndarray]:
    """The rows of each series at two common times."""
    expected = "two times in order: the beginning of validation and of test"
    if not isinstance(at, (tuple, list)) or len(at) != 2:
        checks.refuse("at", expected, checks.describe(at))
    for n, one in enumerate(series):
        if one.times is None:
            checks.refuse(label(series, n), "times, since at= is given", "none", "Series(values, times=...)")
    times = [one.times for one in series if one.times is not None]
    dates = times[0].dtype.kind == "M"
    try:
        borders = [np.datetime64(time) if dates else float(time) for time in at]
        in_order = borders[0] <= borders[1]
    except (TypeError, ValueError):
        in_order = False
    if not in_order:
        kind = "dates such as '2024-01-31'" if dates else "numbers"
        checks.refuse("at", f"{expected}; {kind}, as the times of the series", at)
    rows = [
        [int(np.searchsorted(one[: len(s)], time)) for time in borders] for one, s in zip(times, series, strict=True)
    ]
    return np.array(rows)[:, 0], np.array(rows)[:, 1]
