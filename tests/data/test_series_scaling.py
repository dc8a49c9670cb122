"""Scaling: its definition, the way back, missing and constant values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from refusals import refuses

from jaxrnn.data import Scaling, Series
from jaxrnn.data.scaling import KINDS

VALUES = arrays(np.float64, (6, 2), elements=st.floats(0.01, 1e4) | st.just(np.nan))


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(VALUES, min_size=1, max_size=3), kind=st.sampled_from(KINDS), each=st.booleans(), log=st.booleans()
)
def test_undo_is_the_inverse(values, kind, each, log):
    """NaN stays NaN, nothing else becomes NaN or infinite, also with constant or no values."""
    scaling = Scaling.fit([Series(one) for one in values], kind, per_series=each, log=log)
    for n, one in enumerate(values):
        scaled = scaling.apply(one, n)
        assert np.array_equal(np.isfinite(scaled), ~np.isnan(one))
        np.testing.assert_allclose(scaling.undo(scaled, n), one, rtol=1e-8, atol=1e-8)


def test_is_what_its_name_says():
    """Mean and deviation, extremes, mean absolute value; the logarithm first; NaN passed over."""
    x = np.array([[1.0, -2.0], [np.nan, 4.0], [4.0, 1.0], [10.0, np.nan]])

    def applied(kind, **how):
        return Scaling.fit(Series(x if not how else abs(x)), kind, **how).apply(abs(x) if how else x)

    np.testing.assert_allclose(
        [np.nanmean(applied("standard"), 0), np.nanstd(applied("standard"), 0)], [[0, 0], [1, 1]], atol=1e-15
    )
    np.testing.assert_allclose(applied("minmax")[:, 0], [0, np.nan, 1 / 3, 1])
    np.testing.assert_allclose(applied("mean"), x / [5, 7 / 3])
    np.testing.assert_array_equal(applied("none"), x)
    np.testing.assert_allclose(np.nanmean(applied("standard", log=True), 0), [0, 0], atol=1e-15)


def test_one_row_for_each_series_and_any_leading_axes():
    """NumPy and JAX, under jit, with the numbers of a batch; samples and quantiles have axes in front."""
    series = [Series([1.0, 3.0]), Series([10.0, 10.0]), Series([np.nan])]
    scaling = Scaling.fit(series, per_series=True)
    assert scaling.offset.tolist() == [[2], [10], [6]]
    assert scaling.scale[:2].tolist() == [[1], [1]]  # a constant series is not divided by 0
    samples = np.ones((5, 4, 2, 1), np.float32)
    expected = np.broadcast_to(np.array([[11.0], [3.0]]), samples.shape)
    for undo, numbers in ((scaling.undo, np.array([1, 0])), (jax.jit(scaling.undo), jnp.array([1, 0]))):
        got = undo(samples, numbers)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected)
    assert isinstance(scaling.undo(jnp.asarray(samples), numbers), jax.Array)
    assert isinstance(scaling.undo(samples, np.array([1, 0])), np.ndarray)
    assert scaling.apply([[1]], 0).tolist() == [[-1.0]]


def test_features_are_standardised():
    """Covariates and time steps, unless nothing is scaled; a constant one becomes 0."""
    series = Series(np.ones(4), covariates=[[1, 5], [3, 5], [1, 5], [3, 5]], static=[7], times=[0, 1, 3, 4])
    scaled = Scaling.fit(series).apply_features(series.features())
    np.testing.assert_allclose(scaled[:, :3], [[-1, 0, 0], [1, 0, 0]] * 2)
    np.testing.assert_allclose(scaled[:, 3] * 3**0.5, [-1, -1, 3, -1])
    assert Scaling.fit(series, "none").apply_features(series.features()).tolist() == series.features().tolist()


REFUSED = {
    "ValueError kind: expected one of 'standard', 'minmax', 'mean', 'none', got 'robust'": lambda: Scaling.fit(
        Series([1.0]), "robust"
    ),
    "ValueError series[0] (a).values[1]: expected values above 0, with log=True, got [0.]; …": lambda: Scaling.fit(
        Series([1.0, 0.0], name="a"), log=True
    ),
    "ValueError values: expected [..., 1], the features of the series last, got float64[3]; …": lambda: Scaling.fit(
        Series([1.0])
    ).apply(np.ones(3)),
    "TypeError series: expected numbers in [0, 2), each series has its own scaling, got None; …": lambda: Scaling.fit(
        [Series([1.0]), Series([2.0])], per_series=True
    ).apply(np.ones((3, 1))),
    "ValueError series: expected numbers in [0, 2), as many as were fitted, got 2 to 2; …": lambda: Scaling.fit(
        [Series([1.0]), Series([2.0])], per_series=True
    ).apply(np.ones((3, 1)), 2),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refuses(text):
    """Errors name the argument, the series and the row."""
    refuses(text, REFUSED[text])
