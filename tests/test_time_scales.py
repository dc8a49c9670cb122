"""Layers that step more rarely, see past each other or skip inputs: clockwork, skip stacks, highways, input masks."""

import jax
import jax.numpy as jnp
import numpy as np
import plain_loop
import pytest
from contract import RESETS, assert_close, floats, make, weighted
from refusals import refuses
from zoo import B, H, I, T, gru, inputs, lstm, random_params, random_state

import jaxrnn as rnn

pytestmark = pytest.mark.usefixtures("x64")

HOLES = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0]], bool)  # [T, B]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reverse"),
    [
        (name, reverse)
        for name in ("lstm-peephole-ifo", "stack-mixed", "user-in-learned-state", "clockwork", "learned-state")
        for reverse in (False, True)
    ],
)
def test_input_mask_is_the_sequence_without_the_steps(name, reverse):
    """Values and gradients are those of the sequence with masked steps cut out; outputs there are 0."""
    model, params = make(name)
    xs, state = inputs(model), random_state(model)
    dirty = jnp.where(HOLES[..., None], xs, jnp.nan)

    def loss(at):
        final, ys = rnn.unroll(model, *at, state, input_mask=HOLES, reverse=reverse)
        return weighted([jnp.sin(leaf) for leaf in floats((final, ys))]), (final, ys)

    (_, (final, ys)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))((params, dirty))
    assert (np.asarray(gradient[1])[~HOLES] == 0).all()

    def cut(params, n):
        keep = np.flatnonzero(HOLES[:, n])
        one = jax.tree.map(lambda s: s[n], state)
        one_final, one_ys = rnn.unroll(model, params, xs[keep, n], one, reverse=reverse)
        return one_final, jnp.zeros((T, *one_ys.shape[1:])).at[keep].set(one_ys)

    def slow_loss(params):
        one = [cut(params, n) for n in range(B)]
        final = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(f for f, _ in one))
        ys = jnp.stack([y for _, y in one], 1)
        return weighted([jnp.sin(leaf) for leaf in floats((final, ys))]), (final, ys)

    (_, expected), slow_gradient = jax.value_and_grad(slow_loss, has_aux=True)(params)
    assert_close((final, ys), expected)
    assert_close(gradient[0], slow_gradient)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "clockwork"])
def test_resets_at_masked_steps_count(name):
    """A document that starts at a step without an input starts at its first one."""
    model, params = make(name)
    xs, resets = inputs(model), jnp.zeros((T, B), bool).at[1].set(True)
    mask = jnp.ones((T, B), bool).at[1:3].set(False)
    _, ys = rnn.unroll(model, params, xs, input_mask=mask, resets=resets)
    assert_close(ys[3:], rnn.unroll(model, params, xs[3:])[1])
    with jax.disable_jit():
        _, ys = rnn.unroll(rnn.Reverse(model), params, xs, input_mask=mask, resets=resets)
        assert_close(ys[:1], rnn.unroll(rnn.Reverse(model), params, xs[:1])[1])


@pytest.mark.slow
def test_input_mask_with_lengths_equals_the_shorter_mask():
    """Both together: a step needs both."""
    model, params = make("gru")
    xs, lengths = inputs(model), jnp.array([4, 2, 0])
    both = HOLES & (np.arange(T)[:, None] < np.asarray(lengths))
    got = rnn.unroll(model, params, xs, lengths=lengths, input_mask=HOLES)
    assert_close(got, rnn.unroll(model, params, xs, input_mask=both))
    refuses("TypeError input_mask: …bool[5, 3]…", lambda: rnn.unroll(model, params, xs, input_mask=jnp.ones((T, B))))


@pytest.mark.slow
def test_input_mask_is_that_of_keras(monkeypatch):
    """The outputs and the final state of a masked GRU of Keras, in float32."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    layer = keras.layers.GRU(H, return_sequences=True, return_state=True, zero_output_for_mask=True)
    xs = np.where(HOLES[..., None], np.asarray(inputs(gru("float32"))), 0).astype("float32")
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        ys, final = layer(xs.swapaxes(0, 1), mask=jnp.asarray(HOLES.T))
    model, params = rnn.interop.keras.from_module(layer)
    got_final, got = rnn.unroll(model, params, jnp.asarray(xs), input_mask=(xs != 0).any(-1))
    assert_close((got.swapaxes(0, 1), got_final), (np.asarray(ys), np.asarray(final)), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("period", [1, 2, 3, 7])
def test_periods(period, reverse):
    """Every period against the plain loop, with and without resets, and in chunks that do not fit it."""
    model = rnn.Clockwork(lstm("float64"), period)
    params, xs = random_params(model), inputs(model, steps=11)
    resets = jnp.asarray(np.resize(RESETS, (11, B)))
    for options in (
        {},
        {"resets": resets},
        {"lengths": jnp.array([11, 4, 0])},
        {"remat": 3},
        {"resets": resets, "remat": 4},
    ):
        got = rnn.unroll(model, params, xs, reverse=reverse, **options)
        options.pop("remat", None)
        assert_close(got, plain_loop.unroll(model, params, xs, reverse=reverse, **options)[:2])
    cut = slice(0, 4), slice(4, 11)
    state, ys = None, {}
    for part in cut[::-1] if reverse else cut:
        state, ys[part.start] = rnn.unroll(model, params, xs[part], state, reverse=reverse)
    assert_close((state, jnp.concatenate([ys[0], ys[4]])), rnn.unroll(model, params, xs, reverse=reverse))


def test_only_active_steps_are_computed():
    """Without resets the inner scan has ⌈T/k⌉ steps."""
    model = rnn.Clockwork(gru("float64"), 4)
    program = jax.make_jaxpr(lambda p, x: rnn.unroll(model, p, x)[1])(random_params(model), inputs(model, steps=10))
    assert "length=3" in str(program)
    assert "length=10" not in str(program)


def test_skip_and_highway_sizes():
    """Sizes that do not fit are refused by name."""
    cell = gru("float64")
    refuses(f"ValueError layers[1]: …input size {I + H}…", lambda: rnn.SkipStack(cell, gru("float64", H, H)))
    refuses("ValueError layers: …at least one…", lambda: rnn.SkipStack())
    refuses("ValueError outputs: …'all', 'last'…", lambda: rnn.SkipStack(cell, outputs="first"))
    refuses("ValueError layer: …input_size…", lambda: rnn.Highway(cell))
    refuses("TypeError transform_bias: …a number…", lambda: rnn.Highway(gru("float64", H, H), transform_bias="-1"))
    refuses("ValueError period: …a positive int…", lambda: rnn.Clockwork(cell, 0))
    refuses("TypeError layer: …output_size…", lambda: rnn.Clockwork(rnn.Dropout(0.5), 2))


@pytest.mark.slow
def test_a_highway_starts_near_the_identity():
    """With a very negative bias the output is the input."""
    model = rnn.Highway(lstm("float64", I, I), transform_bias=-40.0, dtype="float64")
    xs = inputs(model)
    assert_close(rnn.unroll(model, model.init(jax.random.key(0)), xs)[1], xs, 1e-12)
