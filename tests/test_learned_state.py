"""A learned initial state: wherever a sequence starts, and with a gradient from all of these starts."""

import jax
import jax.numpy as jnp
import numpy as np
import plain_loop
import pytest
from contract import LENGTHS, RESETS, assert_close, assert_identical, floats, weighted
from refusals import refuses
from test_bptt import first_order
from zoo import B, H, I, T, filled, gru, inputs, lstm, random_params

import jaxrnn as rnn

pytestmark = pytest.mark.usefixtures("x64")


def learned(cell=None, **options):
    model = rnn.LearnedState(cell or lstm("float64"), **options)
    return model, random_params(model)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("remat", "reverse", "derivative"),
    [(2, False, "rule"), (False, True, "rule"), (2, True, "linearized"), (False, False, "linearized")],
)
def test_rule_equals_autodiff(remat, reverse, derivative):
    """Backward, forward and for an ensemble, the gradient of the learned state with resets in the middle included."""
    model, params = learned()
    at = params, inputs(model)

    def loss(derivative):
        def value(at):
            results = rnn.unroll(
                model, *at, lengths=LENGTHS, resets=RESETS, reverse=reverse, remat=remat, derivative=derivative
            )
            return weighted([jnp.sin(leaf) for leaf in floats(results)])

        return value

    got, expected = (
        jax.jit(lambda f=f: first_order(f, at, filled(at, 7), filled(at, 8)))()
        for f in (loss(derivative), loss("autodiff"))
    )
    assert all(jnp.abs(leaf).min() > 0 for leaf in jax.tree.leaves(expected[0][0].state))
    assert_close(got, expected)


@pytest.mark.slow
def test_second_order():
    """The Hessian of the learned state."""
    model, params = learned(gru("float64"))
    xs = inputs(model)

    def hessian(derivative):
        def loss(state):
            _, ys = rnn.unroll(model, params._replace(state=state), xs, resets=RESETS, derivative=derivative)
            return weighted(jnp.sin(ys))

        return jax.jit(jax.hessian(loss))(params.state)

    assert_close(hessian("rule"), hessian("autodiff"))


@pytest.mark.slow
def test_resets_are_new_sequences():
    """A reset gives the outputs of a new unroll; so does the state of a new sequence in a stream of chunks."""
    model, params = learned(rnn.Stack(lstm("float64"), gru("float64", H, H)))
    xs, resets = inputs(model), jnp.zeros((T, B), bool).at[2].set(True)
    _, ys = rnn.unroll(model, params, xs, resets=resets)
    assert_close(ys[2:], rnn.unroll(model, params, xs[2:])[1])
    carry, _ = rnn.unroll(model, params, xs[:2])
    assert_close(rnn.unroll(model, params, xs[2:], carry, resets=resets[2:])[1], ys[2:])
    assert not carry.fresh.any()


def test_a_sequence_without_steps_stays_fresh():
    """Its state is that of ``initial_state``, and it starts from the learned one later."""
    model, params = learned()
    xs = inputs(model)
    final, _ = rnn.unroll(model, params, xs, lengths=jnp.array([T, 2, 0]))
    assert final.fresh.tolist() == [False, False, True]
    assert_identical(jax.tree.map(lambda s: s[2], final), model.initial_state())
    _, ys = rnn.unroll(model, params, xs, final)
    assert_close(ys[:, 2], rnn.unroll(model, params, xs[:, 2])[1])


@pytest.mark.slow
def test_real_time_recurrent_learning():
    """The first step replaces the state, so the influence of the learned state is that of backpropagation."""
    model, params = learned(gru("float64"))
    xs, targets = inputs(model)[:, 0], jnp.zeros((T, H))

    def squared(y, target):
        return ((y - target) ** 2).sum()

    _, (_, gradient) = rnn.gradients.rtrl(model, params, xs, targets, squared)
    assert_close(gradient, jax.grad(lambda p: squared(rnn.unroll(model, p, xs)[1], targets))(params))


@pytest.mark.slow
def test_context():
    """The learned state as a function of a context, against the plain loop; also with a leading axis, as of beams."""
    model, params = learned(context_size=2)
    params = model.with_context(params, filled(jnp.zeros((B, 2)), 9))
    xs = inputs(model)
    _, ys = rnn.unroll(model, params, xs, resets=RESETS)
    for n in range(B):
        one = params._replace(context=params.context[n])
        assert_close(ys[:, n], plain_loop.unroll(model, one, xs[:, n], resets=RESETS[:, n])[1])
    two = jnp.stack([xs[0], xs[1]])
    _, first = model.step(params, model.initial_state((2, B)), two)
    assert_close(first[1], model.step(params, model.initial_state((B,)), xs[1])[1])


@pytest.mark.slow
@pytest.mark.parametrize("bridge", [True, False])
def test_context_of_a_decoder(bridge):
    """An encoder-decoder sets it; a decoder whose states are all learned has no bridge."""
    encoder = rnn.Stack(rnn.Embedding(7, I), rnn.GRU(I, 5))
    cell = rnn.LearnedState(rnn.LSTM(I, H), context_size=5)
    model = rnn.tasks.EncoderDecoder(encoder, rnn.Stack(rnn.Embedding(7, I), cell, rnn.Linear(H, 7)), bridge=bridge)
    params, tokens = model.init(jax.random.key(0)), jnp.ones((4, B), int)
    assert params.bridge == ()
    gradient = jax.grad(model.loss)(params, tokens, tokens)
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves((gradient.encoder[1], gradient.decoder[1].w)))
    decoder_params, state = model.start_decoder(params, tokens)
    got = rnn.decoding.greedy(model.decoder, decoder_params, state, tokens[0], steps=1).tokens
    start = (
        jnp.tensordot(decoder_params[1].context, params.decoder[1].w.h, 1),
        decoder_params[1].context @ params.decoder[1].w.c,
    )
    _, logits = rnn.unroll(
        rnn.Stack(rnn.Embedding(7, I), rnn.LSTM(I, H), rnn.Linear(H, 7)),
        (params.decoder[0], params.decoder[1].layer, params.decoder[2]), tokens[:1], ((), start, ()),
    )  # fmt: skip
    assert (got[0] == logits[0].argmax(-1)).all()


@pytest.mark.slow
def test_decoding_starts_from_it():
    """Greedy and beam search of ``initial_state`` are those from the learned state passed to the bare cell."""
    parts = rnn.Embedding(7, I), rnn.GRU(I, H), rnn.Linear(H, 7)
    model, bare = rnn.Stack(parts[0], rnn.LearnedState(parts[1]), parts[2]), rnn.Stack(*parts)
    params, token = random_params(model), jnp.ones(B, int)
    bare_params = params[0], params[1].layer, params[2]
    state = ((), jnp.broadcast_to(params[1].state, (B, H)), ())
    for decode in (rnn.decoding.greedy, lambda *a, **k: rnn.decoding.beam_search(*a, width=2, eos=0, **k)):
        got = decode(model, params, model.initial_state((B,)), token, steps=4)
        expected = decode(bare, bare_params, state, token, steps=4)
        assert (got.tokens == expected.tokens).all()


@pytest.mark.slow
def test_gradient_flow_and_gates():
    """It is a cell to :mod:`jaxrnn.gradients`: flow, temporal components and gates are those from the same state."""
    model, params = learned(gru("float64"))
    xs, state = inputs(model), jnp.broadcast_to(params.state, (B, H))

    def loss(final, ys):
        return weighted(ys)

    got = rnn.gradients.gradient_flow(model, params, xs, loss)
    assert_close(got.state, rnn.gradients.gradient_flow(model.layer, params.layer, xs, loss, state))
    got = rnn.gradients.temporal_components(model, params, xs, loss)
    assert_close(got.layer, rnn.gradients.temporal_components(model.layer, params.layer, xs, loss, state))
    assert_close(got.state.sum(0), jax.grad(lambda p: loss(*rnn.unroll(model, p, xs)))(params).state)
    assert_close(
        rnn.gradients.gate_statistics(model, params, xs),
        rnn.gradients.gate_statistics(model.layer, params.layer, xs, state),
    )


@pytest.mark.slow
def test_bfloat16_sums_in_float32():
    """The gradient of a learned state is a sum over sequences and resets, in float32."""
    model = rnn.MixedPrecision(rnn.LearnedState(rnn.VanillaRNN(1, 1, activation=lambda z: z)))
    params = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0)))
    params = params._replace(layer=params.layer._replace(w_hh=jnp.ones((1, 1))))
    xs, resets = jnp.zeros((600, 3, 1), "float32"), jnp.ones((600, 3), bool)
    gradient = jax.grad(lambda p: rnn.unroll(model, p, xs, resets=resets)[1].sum())(params)
    np.testing.assert_allclose(gradient.state, 1800, rtol=1e-2)


@pytest.mark.slow
def test_state_init():
    """The initializer draws every floating array of the state; integers have no parameter."""
    model = rnn.LearnedState(lstm("float64"), state_init="ones")
    assert_close(model.init(jax.random.key(0)).state, (jnp.ones(H), jnp.ones(H)))


def test_refusals():
    """An argument that is wrong, or a context that is not set, is named."""
    refuses("TypeError layer: …a cell or layer…", lambda: rnn.LearnedState(3))
    refuses("ValueError context_size: …a positive int…", lambda: rnn.LearnedState(gru("float64"), context_size=0))
    refuses("ValueError state_init: …one of…", lambda: rnn.LearnedState(gru("float64"), state_init="nought"))
    model, params = learned(context_size=2)
    refuses("TypeError params.context: …with_context…", lambda: rnn.unroll(model, params, inputs(model)))
    refuses("ValueError context: …last axis 2…", lambda: model.with_context(params, jnp.ones((B, 3))))
    plain, params = learned()
    refuses(
        "ValueError context_size: …context_size=C…",
        lambda: plain.with_context(params, jnp.ones((B, 3))),
    )


def test_units_alone_are_learnt():
    """c, n and m of an sLSTM are one number, a weighted mean; what GRU-D records of its inputs is not learnt."""
    init = rnn.initializers.normal(1.0)
    models = [rnn.LearnedState(cell(3, 4, dtype="float64"), state_init=init) for cell in (rnn.GRUD, rnn.SLSTM)]
    for model in models:
        params = model.init(jax.random.key(0))
        assert [leaf.shape for leaf in jax.tree.leaves(params.state)] == [(4,)]
    _, ys = rnn.unroll(model, params, jnp.ones((5, 2, 3)))
    assert jnp.abs(ys).max() <= 1
