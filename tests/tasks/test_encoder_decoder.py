"""Encoder-decoders against a plain loop, decoding and exhaustive search; scheduled sampling, padding, bad input."""

import functools
import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import plain_encoder_decoder
import pytest
from contract import assert_close
from refusals import refuses
from zoo import I, few, inputs, random_params

import jaxrnn as rnn
from jaxrnn.tasks import (
    AdditiveAttention,
    AttentionCell,
    Captioner,
    ContextCell,
    DotAttention,
    EncoderDecoder,
    GeneralAttention,
)

S, T, B, H, V = 4, 5, 3, 4, 5
LENGTHS, TOKEN_LENGTHS = np.array([S, 2, 0]), np.array([3, T + 1, 2])
KEY = jax.random.key(0)


def bidirectional(d):
    return rnn.Stack(rnn.Embedding(7, I, dtype=d), rnn.Bidirectional(rnn.GRU(I, H, dtype=d)))


def decoder(d, *layers):
    return rnn.Stack(rnn.Embedding(V, I, dtype=d), *layers)


def additive(d):
    attention = AdditiveAttention(2 * H, H, 6, dtype=d)
    cell = AttentionCell(rnn.GRU(I + 2 * H, H, dtype=d), attention)
    return EncoderDecoder(bidirectional(d), decoder(d, cell, rnn.Linear(3 * H, V, dtype=d)))


def general(d):
    deep = rnn.Stack(rnn.LSTM(I + H, 3, dtype=d), rnn.Dropout(0.5), rnn.GRU(3, 2, dtype=d))
    cell = rnn.Residual(AttentionCell(deep, GeneralAttention(H, 2, dtype=d)), "concat")
    return EncoderDecoder(rnn.LSTM(I, H, dtype=d), decoder(d, cell, rnn.Linear(I + 2 + H, V, dtype=d)))


def dot(d):
    cell = AttentionCell(rnn.VanillaRNN(I + H, H, dtype=d), DotAttention(H))
    layer = rnn.Stack(cell, rnn.Linear(2 * H, I, dtype=d))
    return EncoderDecoder(rnn.VanillaRNN(I, H, dtype=d), rnn.Tied(rnn.Embedding(V, I, dtype=d), layer))


def context(d):
    cell = ContextCell(rnn.LSTM(I + 2 * H, 3, dtype=d), 2 * H)
    return EncoderDecoder(bidirectional(d), decoder(d, cell, rnn.Linear(3 + 2 * H, V, dtype=d)))


def no_bridge(d):
    gru = decoder(d, rnn.GRU(I, H, dtype=d), rnn.Linear(H, V, dtype=d))
    return EncoderDecoder(rnn.GRU(I, H, dtype=d), gru, bridge=False)


def captioner(d):
    cell = rnn.Residual(ContextCell(rnn.GRU(I + 6, H, dtype=d), 6), "concat")
    return Captioner(rnn.Linear(I, 6, dtype=d), decoder(d, cell, rnn.Linear(I + H + 6, V, dtype=d)))


MODELS = {f.__name__: f for f in (additive, general, dot, context, no_bridge, captioner)}
WITH_ATTENTION = ["additive", "general", "dot"]
SOME = ["dot", "context", "captioner"]  # to compile fewer programs


def make(name, dtype="float64"):
    """A model, random parameters, inputs, target sequences, and their lengths as keyword arguments."""
    model = MODELS[name](dtype)
    single = isinstance(model, Captioner)
    xs = inputs(rnn.GRU(I, H) if single else model.encoder, S, (B,), dtype=dtype)
    tokens = jnp.asarray(np.random.default_rng(3).integers(0, V, (T + 1, B)), jnp.int32)
    lengths = {"token_lengths": TOKEN_LENGTHS} | ({} if single else {"lengths": LENGTHS})
    return model, random_params(model), xs[0] if single else xs, tokens, lengths


def reference(model, params, xs, tokens, lengths, **kwargs):
    """Logits and attention weights of each sequence, without padding, by the plain loop."""
    for b in range(B):
        x = xs[b] if "lengths" not in lengths else list(np.asarray(xs)[: LENGTHS[b], b])
        targets = np.asarray(tokens)[: TOKEN_LENGTHS[b], b].tolist()
        yield plain_encoder_decoder.logits(model, params, x, targets, **kwargs)


@functools.cache
def computed(name):
    """All results of a model, in one compiled call."""
    model, params, xs, tokens, lengths = make(name)

    @jax.jit
    def everything(params, xs, tokens, p):
        start = model.start_decoder(params, xs, lengths=lengths.get("lengths"))
        ends = jnp.asarray(TOKEN_LENGTHS) - 1
        alignment = model.alignment(params, xs, tokens, **lengths) if name in WITH_ATTENTION else None
        results = {"forced": model.logits(params, xs, tokens, **lengths), "alignment": alignment}
        if name not in SOME:
            return results
        return results | {
            "sampled": model.logits(params, xs, tokens, teacher_forcing=p, key=KEY, **lengths),
            "free": model.logits(params, xs, tokens, teacher_forcing=0.0, **lengths),
            "loss": model.loss(params, xs, tokens, **lengths),
            "greedy": rnn.decoding.greedy(model.decoder, *start, tokens[0], steps=T).tokens,
            "log_probs": rnn.decoding.log_probabilities(model.decoder, *start, tokens[0], tokens[1:], lengths=ends),
        }

    return everything(params, xs, tokens, jnp.asarray(1.0))


@pytest.mark.parametrize("name", few(list(MODELS), ["additive", "general", "context", "captioner"]))
def test_is_the_plain_loop(name, x64):
    """Logits of every sequence, 0 in its padding; also for an input of length 0."""
    model, params, xs, tokens, lengths = make(name)
    got = np.asarray(computed(name)["forced"])
    assert got.shape == (T, B, V)
    for b, (expected, _) in enumerate(reference(model, params, xs, tokens, lengths)):
        assert_close(got[: len(expected), b], np.array(expected))
        assert not got[len(expected) :, b].any()


@pytest.mark.parametrize("name", SOME)
def test_without_teacher_forcing_is_greedy(name, x64):
    """At p = 0 each sequence continues from its own predictions, as greedy decoding and the plain loop do."""
    model, params, xs, tokens, lengths = make(name)
    got, greedy = computed(name)["free"], computed(name)["greedy"]
    for b, (expected, _) in enumerate(reference(model, params, xs, tokens, lengths, forced=False)):
        assert_close(got[: len(expected), b], np.array(expected))
        np.testing.assert_array_equal(got.argmax(-1)[: len(expected), b], greedy[: len(expected), b])


@pytest.mark.parametrize("name", SOME)
def test_scheduled_sampling_at_1_is_teacher_forcing(name, x64):
    """The loop of scheduled sampling with a traced p = 1, against ``unroll``."""
    assert_close(computed(name)["sampled"], computed(name)["forced"])


@pytest.mark.parametrize("name", SOME)
def test_loss_is_that_of_the_teacher_forced_text(name, x64):
    """The negative mean of the log probabilities of decoding, over the targets without padding."""
    total = float(computed(name)["log_probs"].sum())
    assert_close(computed(name)["loss"], -total / np.sum(TOKEN_LENGTHS - 1))


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_alignment_is_that_of_the_plain_loop(name, x64):
    """Attention weights of every target, 0 in the padding of inputs and targets."""
    model, params, xs, tokens, lengths = make(name)
    got = np.array(computed(name)["alignment"])
    for b, (_, weights) in enumerate(reference(model, params, xs, tokens, lengths)):
        assert_close(got[: len(weights), : LENGTHS[b], b], np.array(weights))
        got[: len(weights), : LENGTHS[b], b] = 0
    assert not got.any()


class Successor:
    """A decoder that predicts its input token plus 1."""

    input_ndim = 0

    def init(self, key):
        return ()

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, 1))

    def step(self, params, state, token):
        return state, jax.nn.one_hot(token + 1, 50)


def test_each_token_is_forced_independently_with_probability_p():
    """The targets are all 0 and predictions never are, so that the logits show which tokens were fed."""
    model = Captioner(rnn.Linear(1, 1), Successor())
    params, steps, batch, p = model.init(KEY), 40, 100, 0.3
    logits = model.logits(
        params, jnp.ones((batch, 1)), jnp.zeros((steps + 1, batch), jnp.int32), teacher_forcing=p, key=jax.random.key(5)
    )
    fed = np.asarray(logits.argmax(-1)) - 1  # [T, B]
    forced = fed == 0
    assert forced[0].all()
    np.testing.assert_array_equal(fed[1:][~forced[1:]], fed[:-1][~forced[1:]] + 1)  # its own last prediction
    deviation = np.sqrt(p * (1 - p) / (steps - 1) / batch)
    assert abs(forced[1:].mean() - p) < 4 * deviation
    assert 0.1 < np.mean(forced[1:-1] & forced[2:]) / p < 0.5  # independent: after a forced token, again p


def test_padding_stays_out(x64):
    """Padding of inputs and targets may hold any value, also NaN and ids out of range; its gradient is exactly 0."""
    model, params, xs, tokens, lengths = make("dot")
    padding, target_padding = (np.arange(n)[:, None] >= at for n, at in ((S, LENGTHS), (T + 1, TOKEN_LENGTHS)))
    xs_with_nan, invalid_tokens = jnp.where(padding[..., None], jnp.nan, xs), jnp.where(target_padding, -7, tokens)
    loss = jax.jit(
        jax.value_and_grad(lambda params, xs, tokens: model.loss(params, xs, tokens, **lengths), argnums=(0, 1))
    )
    value, (by_params, by_xs) = loss(params, xs, tokens)
    again, same = loss(params, xs_with_nan, invalid_tokens)
    assert value == again
    assert_close(same, (by_params, by_xs), 0)
    np.testing.assert_array_equal(np.abs(by_xs).sum(-1) > 0, ~padding)


@pytest.mark.slow
def test_beams_are_exhaustive():
    """With width V and two tokens: the best of all sequences, by their teacher-forced log probabilities."""
    model, params, xs, _, _ = make("additive", "float32")
    start = model.start_decoder(params, xs, lengths=LENGTHS)
    first = jnp.asarray([0, 1, 2])
    found = rnn.decoding.beam_search(model.decoder, *start, first, steps=2, width=V, n_best=V)
    for b in range(B):
        sequences = np.array([(first[b], *two) for two in itertools.product(range(V), repeat=2)], np.int32).T
        batch = sequences.shape[1]
        x, n = jnp.repeat(xs[:, b, None], batch, 1), np.full(batch, LENGTHS[b])
        log_probs = jax.nn.log_softmax(model.logits(params, x, sequences, lengths=n))
        total = np.take_along_axis(np.asarray(log_probs), sequences[1:, :, None], -1).sum((0, 2))
        order = np.argsort(-total)[:V]
        np.testing.assert_array_equal(found.tokens[:, :, b], sequences[1:, order])
        np.testing.assert_allclose(found.scores[:, b], total[order], atol=1e-5)


def test_backward_encoder_starts_at_each_end(x64):
    """A sequence is encoded in a padded batch as it is alone."""
    model, params, xs, _, _ = make("additive")
    together = model.encode(params, xs, lengths=LENGTHS)
    alone = model.encode(params, xs[:2, 1])
    assert_close(together.vector[1], alone.vector)
    assert_close(together.memory[:2, 1], alone.memory)
    assert not np.asarray(together.memory[2:, 1]).any()


def test_dropout_inside_attention_needs_a_key():
    """Without a key there is none; each step has another mask."""
    cell = AttentionCell(rnn.Stack(rnn.Linear(1 + H, H), rnn.Dropout(0.5)), DotAttention(H))
    params = cell.init(KEY)
    params = params._replace(memory=cell.attention.prepare((), jnp.zeros((1, H))))  # the context is 0
    xs = jnp.ones((20, 1))
    _, plain = rnn.unroll(cell, params, xs)
    _, dropped = rnn.unroll(cell, params, xs, key=KEY)
    assert np.ptp(plain, axis=0).max() == 0
    zeros = np.asarray(dropped[:, :H] == 0)
    assert 0.2 < zeros.mean() < 0.8
    assert len({row.tobytes() for row in zeros}) > 5
    np.testing.assert_allclose(dropped[:, :H][~zeros], 2 * plain[:, :H][~zeros], rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_is_its_constructor_call(name):
    model = MODELS[name]("float32")
    assert rnn.from_repr(repr(model)) == model
    assert pickle.loads(pickle.dumps(model)) == model
    assert hash(model) == hash(MODELS[name]("float32"))


def test_shapes_without_batch():
    """One sequence without batch axes."""
    model, params, xs, tokens, _ = make("additive", "float32")
    whole = model.logits(params, xs, tokens)
    np.testing.assert_allclose(model.logits(params, xs[:, 0], tokens[:, 0]), whole[:, 0], atol=1e-5)


def calls():
    model, params, xs, tokens, _ = make("additive", "float32")
    other = make("captioner", "float32")
    ends = np.full(B, T + 1)
    gru = rnn.Stack(rnn.Embedding(V, I), rnn.GRU(I, H))
    plain = EncoderDecoder(bidirectional("float32"), gru)
    return {
        "ValueError tokens: expected at least 2 tokens…, got int32[1, 3]; …": lambda: model.loss(
            params, xs, tokens[:1]
        ),
        "TypeError tokens: expected integer token ids [T + 1, ...], got float32…": lambda: model.loss(
            params, xs, jnp.ones((T + 1, B))
        ),
        "ValueError tokens: expected token ids in [0, 5), got values from 0 to 9; …": lambda: model.loss(
            params, xs, jnp.zeros_like(tokens).at[1, 0].set(9)
        ),
        "ValueError tokens: expected token ids in [0, 5), got values from -1 to 0; …": lambda: model.loss(
            params, xs, jnp.zeros_like(tokens).at[-1, 0].set(-1)
        ),
        "ValueError tokens: expected token ids in [0, 5), got values from 0 to 8; …": lambda: model.alignment(
            params, xs, jnp.zeros_like(tokens).at[2, 1].set(8), token_lengths=TOKEN_LENGTHS
        ),
        "ValueError tokens: expected shape [T + 1, 3], the batch axes of xs, got int32[6, 2]; one sequence for each…": (
            lambda: model.loss(params, xs, tokens[:, :2], token_lengths=TOKEN_LENGTHS[:2])
        ),
        "ValueError tokens: expected shape [T + 1, 3], the batch axes of xs, got int32[6]; …": lambda: other[0].loss(
            other[1], other[2], tokens[:, 0]
        ),
        "ValueError teacher_forcing: expected a number in [0, 1], got 1.5; …": lambda: model.logits(
            params, xs, tokens, teacher_forcing=1.5
        ),
        "TypeError key: expected a value, got None; scheduled sampling…": lambda: model.logits(
            params, xs, tokens, teacher_forcing=0.5
        ),
        "ValueError token_lengths: expected values in [0, 6]…, got 7 to 7; …": lambda: model.logits(
            params, xs, tokens, token_lengths=ends + 1
        ),
        "ValueError lengths: expected values in [0, 4]…, got 5 to 5; …": lambda: model.start_decoder(
            params, xs, lengths=np.full(B, S + 1)
        ),
        "ValueError xs: expected token ids in [0, 7), got values from 7 to 7; …": lambda: model.start_decoder(
            params, xs * 0 + 7
        ),
        "TypeError params.memory: expected a value, got None; start_decoder of EncoderDecoder…": lambda: rnn.unroll(
            model.decoder, params.decoder, tokens
        ),
        "ValueError bridge: expected True, or 4 features from the encoder…, got False and 8; …": lambda: EncoderDecoder(
            bidirectional("float32"), gru, bridge=False
        ),
        "TypeError decoder: expected one that takes token ids, got GRU(3, 4), which takes vectors of 3; …": lambda: (
            Captioner(rnn.Linear(I, 6), rnn.GRU(I, H))
        ),
        "ValueError decoder: expected logits for at most 5 tokens, those that its Embedding holds, got 6; …": lambda: (
            Captioner(rnn.Linear(I, 6), rnn.Stack(rnn.Embedding(V, I), rnn.GRU(I, 6)))
        ),
        "TypeError encoder: expected a layer with an output_size, got …": lambda: Captioner(Successor, gru),
        "ValueError lengths: expected None, got int64[3]; …EncoderDecoder…": lambda: other[0].start_decoder(
            other[1], other[2], lengths=LENGTHS
        ),
        "TypeError memory: expected a value, got None; …ContextCell…": lambda: Captioner(
            rnn.Linear(I, 6), model.decoder
        ).start_decoder(
            params._replace(encoder=rnn.Linear(I, 6).init(KEY), bridge=rnn.Linear(6, 3 * H).init(KEY)), other[2]
        ),
        "ValueError decoder: expected an AttentionCell among its layers, got Stack(…": lambda: plain.alignment(
            plain.init(KEY), xs, tokens
        ),
    }


CALLS = calls()


@pytest.mark.parametrize("message", CALLS)
def test_refusals(message):
    refuses(message, CALLS[message])
