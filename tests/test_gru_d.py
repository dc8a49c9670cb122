"""GRU-D beyond the contract of all cells: what is not observed has no influence, and how it is fed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as rnn

T, B, D, H = 6, 3, 2, 4


def series(dtype="float64", seed=0):
    """Values, some of them missing, and the time since the step before."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((T, B, D)) < 0.5, rng.normal(size=(T, B, D)), np.nan)
    return values.astype(dtype), rng.exponential(size=(T, B, 1)).astype(dtype)


def as_inputs(values, *time):
    return jnp.asarray(np.concatenate([values, ~np.isnan(values), *time], -1))


@pytest.mark.slow
def test_a_missing_value_may_be_anything(x64):
    """NaN or a number: the same output and gradient, and no gradient of it."""
    values, time = series()
    cell = rnn.GRUD(2 * D + 1, H, dtype="float64")
    params = cell.init(jax.random.key(0))
    missing = np.isnan(values)
    nan = as_inputs(values, time)
    number = nan.at[..., :D].set(jnp.where(missing, 3.0, nan[..., :D]))

    def loss(params, xs):
        return (rnn.unroll(cell, params, xs)[1] ** 2).sum()

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    got, expected = run(params, nan), run(params, number)
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert (np.asarray(got[1][1])[..., :D][missing] == 0).all()


@pytest.mark.slow
def test_elapsed_is_the_time_since_each_value(x64):
    """δ of the paper: the sum of the times from the last observation on; 1 a step where no time is given."""
    values, time = series()
    for xs, times in [(as_inputs(values, time), time[..., 0]), (as_inputs(values), np.ones((T, B)))]:
        cell = rnn.GRUD(xs.shape[-1], H, dtype="float64")
        states = rnn.trajectory(cell, cell.init(jax.random.key(0)), xs)
        for t, b, d in np.ndindex(T, B, D):
            seen = [s for s in range(t + 1) if not np.isnan(values[s, b, d])]
            since = seen[-1] + 1 if seen else 0
            np.testing.assert_allclose(states.elapsed[t, b, d], times[since : t + 1, b].sum())
            np.testing.assert_array_equal(states.last[t, b, d], values[seen[-1], b, d] if seen else 0)


@pytest.mark.slow
def test_it_is_the_core_of_a_forecaster():
    """Its inputs are those of a forecaster of windows with missing values."""
    values = np.sin(np.arange(60.0))
    values[::3] = np.nan
    train, _, _ = rnn.data.Windows.split(rnn.data.Series(values), context=10, horizon=3, batch=4)
    model = rnn.tasks.Forecaster(rnn.GRUD(train.input_size, H), **train.sizes)
    params = model.init(jax.random.key(0))
    (loss, _), gradient = jax.value_and_grad(model.loss, has_aux=True)(params, train[0])
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
@pytest.mark.parametrize(
    "convert",
    [
        lambda *of: rnn.interop.torch.to_module(*of),
        lambda *of: rnn.interop.nnx.to_module(*of),
        lambda *of: rnn.interop.keras.to_module(*of),
        lambda *of: rnn.interop.haiku.to_params(*of),
        lambda *of: rnn.interop.equinox.to_module(*of),
    ],
)
def test_no_other_library_has_it(convert):
    """It is refused by name."""
    cell = rnn.GRUD(3, H)
    with pytest.raises(TypeError, match=r"expected .*, got GRUD\(3, 4\)"):
        convert(cell, cell.init(jax.random.key(0)))


def test_the_time_has_a_direction():
    """From the other side the time since the step before is another: no Bidirectional reads it, one without it does."""
    for layer in (rnn.GRUD(3, H), rnn.Stack(rnn.Zoneout(rnn.GRUD(3, H), 0.1), rnn.Linear(H, 2))):
        with pytest.raises(ValueError, match=r"backward: expected a layer whose inputs do not hold the time .*, got"):
            rnn.Bidirectional(layer)
    assert rnn.Bidirectional(rnn.GRUD(4, H)).output_size == 2 * H
