"""Dropout: active with a key, inactive without, and never on the recurrent connections."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from contract import KINDS, assert_identical, make
from zoo import B, I, T, inputs, random_params, random_state

import jaxrnn as rnn

pytestmark = pytest.mark.usefixtures("x64")

RATE, MANY = 0.25, 4000


def dropped(model, key, steps=MANY, state=None):
    """Outputs for inputs of 1."""
    return np.asarray(rnn.unroll(model, model.init(key), jnp.ones((steps, I)), state, key=key)[1])


def test_dropout_needs_a_key():
    """Without a key nothing is dropped; rate 0 drops nothing either."""
    xs = inputs(rnn.Dropout(RATE))
    for model, key in ((rnn.Dropout(RATE), None), (rnn.Dropout(0.0), jax.random.key(0))):
        assert_identical(rnn.unroll(model, (), xs, key=key)[1], xs)


def test_dropout_keeps_the_mean():
    """The mean is 1 to within four standard errors: features are 0 or ``1 / (1 - rate)``."""
    ys = dropped(rnn.Dropout(RATE), jax.random.key(0))
    assert set(np.unique(ys)) == {0.0, 1 / (1 - RATE)}
    error = np.sqrt(RATE / (1 - RATE) / ys.size)
    assert abs(ys.mean() - 1) < 4 * error


def test_dropout_follows_its_key():
    """The same key gives the same mask, eager or jitted, typed or raw; another key another mask."""
    model, key = rnn.Dropout(RATE), jax.random.key(3)
    ys = dropped(model, key)
    np.testing.assert_array_equal(dropped(model, key), ys)
    np.testing.assert_array_equal(jax.jit(lambda k: rnn.unroll(model, (), jnp.ones((MANY, I)), key=k)[1])(key), ys)
    np.testing.assert_array_equal(dropped(model, jax.random.key_data(key)), ys)
    assert (dropped(model, jax.random.key(4)) != ys).any()


@pytest.mark.parametrize(
    "model",
    [
        rnn.Stack(rnn.Dropout(RATE), rnn.Dropout(RATE)),
        rnn.Stack(rnn.Stack(rnn.Dropout(RATE)), rnn.Dropout(RATE)),
        rnn.Stack(rnn.Dropout(RATE), rnn.Stack(rnn.Dropout(RATE), rnn.Dropout(0.0))),
        rnn.Bidirectional(rnn.Dropout(RATE), merge="product"),
        rnn.Bidirectional(rnn.Stack(rnn.Dropout(RATE)), merge="product"),
    ],
    ids=repr,
)
def test_dropout_layers_are_independent(model):
    """Two independent masks keep (1 - rate)² of the features; one mask used twice would keep 1 - rate."""
    kept = (dropped(model, jax.random.key(0)) > 0).mean()
    expected = (1 - RATE) ** 2
    assert abs(kept - expected) < 4 * np.sqrt(expected * (1 - expected) / (MANY * I))


def test_dropout_in_a_residual_and_in_tied_weights():
    """Layers pass the key to the layers in them."""
    ys = dropped(rnn.Residual(rnn.Dropout(RATE)), jax.random.key(0))
    assert set(np.unique(ys)) == {1.0, 1 + 1 / (1 - RATE)}
    model = rnn.Tied(zoo.embedding("float64"), rnn.Stack(zoo.gru("float64", I, I), rnn.Dropout(RATE)))
    params, xs = random_params(model), inputs(model)
    assert (
        np.asarray(rnn.unroll(model, params, xs, key=jax.random.key(0))[1])
        != np.asarray(rnn.unroll(model, params, xs)[1])
    ).any()


def test_dropout_is_no_part_of_the_recurrence():
    """Dropout does not change the state of the layer below; the gradient is 0 where an output is dropped."""
    model = rnn.Stack(zoo.gru("float64"), rnn.Dropout(0.5))
    params, xs, key = random_params(model), inputs(model), jax.random.key(0)
    final, ys = rnn.unroll(model, params, xs, key=key)
    final_without, ys_without = rnn.unroll(model, params, xs)
    assert_identical(final, final_without)
    kept = np.asarray(ys) != 0
    assert 0 < kept.mean() < 1
    np.testing.assert_allclose(np.asarray(ys)[kept], 2 * np.asarray(ys_without)[kept], rtol=1e-12)
    layer = rnn.Dropout(0.5)
    xs = jnp.ones((T, B, I))
    ys, pull = jax.vjp(lambda x: rnn.unroll(layer, (), x, key=key)[1], xs)
    np.testing.assert_array_equal(pull(xs)[0], ys)


@pytest.mark.parametrize("name", [name for name in KINDS if "dropout" not in name and "mixed" not in name])
def test_a_key_changes_nothing_without_dropout(name):
    """Models without dropout give the same with a key as without."""
    model, params = make(name)
    xs = inputs(model)
    got = rnn.unroll(model, params, xs, key=jax.random.key(0))
    assert_identical(got, rnn.unroll(model, params, xs))


def test_steps_of_a_stack_take_a_key():
    """With a key, dropout is active in ``step``; the same key gives the same mask."""
    model = rnn.Stack(zoo.gru("float64"), rnn.Dropout(0.5), rnn.Residual(rnn.Dropout(0.5)))
    params, state, x = random_params(model), random_state(model), inputs(model)[0]
    without = model.step(params, state, x)[1]
    ys = [np.asarray(model.step(params, state, x, key=jax.random.key(seed))[1]) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(ys[0], ys[1])
    assert (ys[0] != ys[2]).any()
    for y in ys:
        ratio = y / np.asarray(without)  # without dropout y = h + h; with it 0, 2h + 0 or 2h + 4h
        assert np.isclose(ratio[..., None], [0, 1, 3], atol=1e-12).any(-1).all()
