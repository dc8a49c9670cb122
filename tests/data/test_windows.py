"""Windows of series: against plain slices, nothing of later parts in earlier ones, missing values, refusals."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from jaxrnn.data import Scaling, Series, Window, Windows

SIZES = {"context": 4, "horizon": 2, "batch": 3}


def assert_same(a, b):
    for name, x, y in zip(a._fields, a, b, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y, err_msg=name)


def plain(series, n, origin, scaling, context, horizon, lags=()):
    """One window, one step at a time."""
    rows = {name: [] for name in ("values", "observed", "covariates")}
    one = series[n]
    width = one.values.shape[1]
    scaled = scaling.apply(one.values, n)
    for t in range(origin - context, origin + horizon):
        value = scaled[t] if 0 <= t < len(one) else np.full(width, np.nan)
        known = scaling.apply_features(one.features()[t]) if 0 <= t < len(one.covariates) else None
        columns = [np.zeros(len(scaling.feature_offset)) if known is None else known]
        columns += [
            np.nan_to_num(scaled[t - lag]) if t >= lag and t - lag < len(one) else np.zeros(width) for lag in lags
        ]
        rows["values"].append(np.nan_to_num(value))
        rows["observed"].append(~np.isnan(value))
        rows["covariates"].append(np.concatenate(columns))
    values, observed, covariates = map(np.array, rows.values())
    return values[:context], observed[:context], covariates, values[context:], observed[context:], n, origin


def some_series(rng, lengths=(11, 3, 8), future=2):
    """Series of 2 values with covariates, static ones, irregular times and missing values."""
    for n, length in enumerate(lengths):
        values = rng.normal(5, 2, (length, 2))
        values[rng.random(values.shape) < 0.2] = np.nan
        times = np.cumsum(rng.integers(1, 5, length + future)).astype("datetime64[h]")
        yield Series(values, covariates=rng.normal(size=(length + future, 1)), static=[n, 1.0], times=times)


@pytest.mark.parametrize("per_series", [False, True])
def test_is_what_plain_slices_give(per_series):
    """Every window of an epoch, and the fillers of the last batch; nothing is left out, nothing twice."""
    series = list(some_series(np.random.default_rng(0)))
    scaling = Scaling.fit(series, per_series=per_series)
    windows = Windows(series, **SIZES, scaling=scaling, lags=(3, 2), stride=2)
    found = []
    for window in windows:
        for b in range(SIZES["batch"]):
            origin, n = int(window.start[b]), int(window.series[b])
            if origin == 0:  # a filler
                assert not window.observed[:, b].any()
                assert not any(leaf[:, b].any() for leaf in window[:5])
                continue
            found.append((n, origin))
            expected = plain(series, n, origin, scaling, 4, 2, (3, 2))
            for got, one in zip(window[:5], expected[:5], strict=True):
                np.testing.assert_allclose(got[:, b], one, rtol=1e-5, atol=1e-6)
    # from a full context on; from one value on in the series of 3 steps
    every = {(0, o) for o in (4, 6, 8)} | {(1, 1)} | {(2, o) for o in (4, 6)}
    assert set(found) == {(n, o) for n, o in every if not np.isnan(series[n].values[o : o + 2]).all()}
    assert len(found) == len(set(found)) == len(windows._origins)
    assert windows.covariates == windows[0].covariates.shape[-1] == 1 + 2 + 1 + 4
    assert windows.input_size == 2 * 2 + 8


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["standard", "minmax", "mean"]), per_series=st.booleans())
def test_nothing_later_enters_an_earlier_part(seed, kind, per_series):
    """Other values, covariates and times after the end of the training part change neither its windows nor the scaling.

    Nor do those after the end of the validation part change that.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 30, 3)
    series = list(some_series(rng, lengths))
    options = SIZES | {"validation": 0.3, "test": 0.3, "lags": (2,), "scaling": kind, "per_series": per_series}
    parts = Windows.split(series, **options)
    assert parts[0].scaling is parts[1].scaling is parts[2].scaling

    def changed_from(rows):
        for one, row in zip(series, rows, strict=True):
            new = {name: getattr(one, name).copy() for name in ("values", "covariates", "times")}
            new["values"][row:] = rng.normal(100, 50, new["values"][row:].shape)
            new["covariates"][row:] += 77
            new["times"][row:] += np.timedelta64(1000, "h")
            yield Series(**new, static=one.static)

    test_from = [length - int(length * 0.3) for length in lengths]
    validation_from = [end - int(length * 0.3) for end, length in zip(test_from, lengths, strict=True)]
    for index, rows in enumerate((validation_from, test_from)):
        again = Windows.split(list(changed_from(rows)), **options)[index]
        assert len(again) == len(parts[index])
        for ours, theirs in zip(parts[index], again, strict=True):
            assert_same(ours, theirs)
        for n, origin in zip(parts[index]._numbers, parts[index]._origins, strict=True):
            assert origin + 2 <= rows[n]  # targets end within the part
            assert index == 0 or origin >= validation_from[n]
        assert np.array_equal(parts[0].scaling.scale, again.scaling.scale)


def test_training_is_that_of_the_training_part_alone():
    """As if nothing had been recorded later; a series without a training part has no window there."""
    series = list(some_series(np.random.default_rng(0), (12, 8, 4), future=0))
    options = SIZES | {"lags": (2,), "seed": 3}
    train = Windows.split(series, **options, validation=2, test=3)[0]
    alone = Windows([series[0].until(7), series[1].until(3), series[2].until(0)], **options, scaling=train.scaling)
    assert len(train) == len(alone) > 0
    for n in range(2 * len(train)):
        assert_same(train[n], alone[n])
    grown = [Series(np.pad(one.values, ((0, 9), (0, 0))), static=one.static) for one in series]
    short = [Series(one.values, static=one.static) for one in series]
    parts = [Windows.split(some, **options, validation=2, test=test)[0] for some, test in ((short, 3), (grown, 12))]
    assert_same(parts[0][0], parts[1][0])


def test_every_epoch_has_its_own_order():
    """The number of a batch and the seed determine it; each epoch has every window once."""
    series = Series(np.arange(40.0))
    windows, again = (Windows(series, **SIZES, seed=1) for _ in range(2))
    epochs = [[windows[e * len(windows) + n] for n in range(len(windows))] for e in range(2)]
    assert_same(again[len(windows) + 2], epochs[1][2])
    starts = [np.concatenate([w.start[w.observed.any((0, 2))] for w in epoch]) for epoch in epochs]
    assert sorted(starts[0]) == sorted(starts[1]) == list(range(4, 39))
    assert list(starts[0]) != list(starts[1])
    in_order = Windows(series, **SIZES, shuffle=False)
    assert in_order[1].start.tolist() == in_order[len(in_order) + 1].start.tolist() == [7, 8, 9]


def test_latest_is_the_end_of_every_series():
    """Values up to the last one, covariates h steps further, targets unknown; a window of one value is enough."""
    series = [Series([1.0, 2.0], covariates=np.arange(4.0)), Series([3.0, 4, 5, 6, 7], covariates=np.arange(9.0))]
    window = Windows(series, **SIZES).latest()
    assert window.values[..., 0].T.tolist() == [[0, 0, 1, 2], [4, 5, 6, 7]]
    assert window.observed[..., 0].T.tolist() == [[False, False, True, True], [True] * 4]
    assert window.covariates[..., 0].T.tolist() == [[0, 0, 0, 1, 2, 3], [1, 2, 3, 4, 5, 6]]
    assert not window.targets_observed.any()
    assert window.start.tolist() == [2, 5]
    assert Windows(series, **SIZES).latest([1, 1, 0]).start.tolist() == [5, 5, 2]
    targets, mask = Windows([series[1]], **SIZES)[0]._replace(targets=1, targets_observed=2).targets_and_mask()
    assert (targets, mask) == (1, 2)


def test_parts_of_several_kinds():
    """Fractions, numbers of steps, and common times; an evaluation part may be empty."""
    series = [Series(np.ones(n), times=np.arange(n) + 100) for n in (20, 12)]

    def bounds(**how):
        parts = Windows.split(series, **SIZES, **how)
        ends = [[int(p._origins[p._numbers == n].max(initial=-2)) + 2 for n in (0, 1)] for p in parts]
        return ends

    assert bounds(validation=0.25, test=0.25) == [[10, 6], [15, 9], [20, 12]]
    assert bounds(validation=2, test=3) == [[15, 7], [17, 9], [20, 12]]
    assert bounds(at=(108, 110)) == [[8, 8], [10, 10], [20, 12]]
    assert bounds(validation=0, test=0) == [[20, 12], [0, 0], [0, 0]]
    assert len(Windows.split(series, **SIZES, validation=0)[1]) == 0


def test_all_leaves_are_split_alike_over_devices():
    """``[T, B, ...]`` or ``[B]``, and a window passes through jit as it is."""
    window = Windows(Series(np.arange(9.0)), **SIZES)[0]
    assert {leaf.shape[1] if leaf.ndim > 1 else leaf.shape[0] for leaf in window} == {3}
    assert isinstance(jax.jit(lambda w: w)(window), Window)


def make(values=(1.0, 2.0), **options):
    return lambda: Series(values, **options)


def windows(series=None, **options):
    return lambda: Windows(Series(np.arange(9.0)) if series is None else series, **(SIZES | options))


def split(series=None, **options):
    return lambda: Windows.split(Series(np.arange(9.0)) if series is None else series, **(SIZES | options))


REFUSED = {
    "TypeError values of series 'a': expected numbers [N] or [N, D], got <U1[1]; …": make(["x"], name="a"),
    "ValueError values: expected [N] or [N, D], got float64[1, 1, 1]; time first": make([[[1.0]]]),
    "ValueError values[1]: expected finite numbers, got [inf]; …": make([[1.0], [np.inf]]),
    "ValueError values: expected at least one, got none": make([]),
    "ValueError covariates[1] of series 'b': expected finite numbers, got nan; …": make(
        covariates=[0, np.nan], name="b"
    ),
    "ValueError covariates: expected at least 2 rows…": make(covariates=[0]),
    "ValueError times[1]: expected a later time than the one before, got 1 after 1; …": make(times=[1, 1]),
    "ValueError times[1]: expected a later time…": make(times=np.array(["2020", "nat"], "datetime64[D]")),
    "ValueError times: expected 3, one for each row…": make(times=[1, 2], covariates=[1, 2, 3]),
    "TypeError series: expected a Series or a list of them, got float64[3]; …": windows(np.ones(3)),
    "ValueError series[1]: expected 1 values, 0 covariates, 0 static, as series[0] has, got 2 values…": windows(
        [Series([1.0]), Series([[1.0, 2.0]])]
    ),
    "ValueError context: expected a positive int, got 0": windows(context=0),
    "ValueError lags[0]: expected at least 2, the horizon, got 1; … 2 is known": windows(lags=(1,)),
    "TypeError lags: expected ints…": windows(lags=3),
    "ValueError history: expected at most 4, the context, got 5": windows(history=5),
    "TypeError scaling: expected a Scaling…": windows(scaling="standard"),
    "ValueError windows: expected a series of 1 + 2 steps or more…got none of 2 to 2 steps; …": lambda: windows(
        Series([1.0, 2.0])
    )()[0],
    "ValueError series[0] (c): expected covariates and times of 4 steps, 2 more than values, got 3; …": lambda: windows(
        Series([1.0, 2.0], covariates=[0, 0, 0], name="c")
    )().latest(),
    "ValueError validation, test: expected less than the 9 steps…": split(validation=5, test=4),
    "ValueError test: expected a number in [0, 1), got 1.0; …": split(test=1.0),
    "ValueError series[0]: expected times, since at= is given, got none; …": split(at=(1, 2)),
    "ValueError at: expected two times…": split(at=(2,)),
    "ValueError series[0].values[0]: expected values above 0, with log=True, got [0.]; …": split(log=True),
    "ValueError per_series, log: expected False with a scaling…": split(
        scaling=Scaling.fit(Series([1.0])), per_series=True
    ),
    "ValueError series: expected 2, as many as the scaling…": windows(
        scaling=Scaling.fit([Series([1.0]), Series([2.0])], per_series=True)
    ),
    "ValueError scaling: expected one of 1 values and 0 covariates, got 2 and 0; …": windows(
        scaling=Scaling.fit(Series([[1.0, 2.0]]))
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refuses(text):
    """Errors name the argument, the series and the row."""
    refuses(text, REFUSED[text])


def test_common_times_of_dates():
    """Texts and datetime64 name the same day; what is no date, or not in order, is refused."""
    days = np.datetime64("2024-01-01") + np.arange(40)
    series, options = Series(np.arange(40.0), times=days), {"context": 3, "horizon": 2, "batch": 4}
    parts = [Windows.split(series, at=at, **options) for at in
             (("2024-01-21", "2024-01-31"), (days[20], days[30]), (days[20].item(), days[30].item()))]  # fmt: skip
    assert len({str(part) for part in parts}) == 1
    for at in ((20, 30), ("2024-01-31", "2024-01-21"), ("soon", "later")):
        with pytest.raises(ValueError, match=r"^at: expected two times in order: .*; dates such as"):
            Windows.split(series, at=at, **options)


@pytest.mark.parametrize("values", [np.full(100, np.nan), np.arange(30.0)])
def test_nothing_is_left_for_training(values):
    """No value, or no room for the horizon."""
    with pytest.raises(ValueError, match=r"^horizon, validation, test: expected windows for training"):
        Windows.split(Series(values), context=10, horizon=20, batch=4)


def test_numbers_of_latest():
    """Those of series, not their names."""
    windows = Windows(Series(np.arange(30.0), name="a"), context=3, horizon=2, batch=4)
    with pytest.raises(TypeError, match=r"^numbers: expected numbers of series, from 0 to 0, got .*index\(name\)$"):
        windows.latest(["a"])
    with pytest.raises(ValueError, match=r"^numbers: expected numbers from 0 to 0, got values from 1 to 1"):
        windows.latest([1])
    with pytest.raises(
        ValueError, match=r"^lags\[0\]: expected less than 30, the steps of the longest series, got 30$"
    ):
        Windows(Series(np.arange(30.0)), context=3, horizon=2, batch=4, lags=(30,))
