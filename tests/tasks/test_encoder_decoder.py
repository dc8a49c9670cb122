"""Encoder and decoder against a plain loop, against decoding and exhaustive search; sampling, padding, bad input."""

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


def both_ways(d):
    return rnn.Stack(rnn.Embedding(7, I, dtype=d), rnn.Bidirectional(rnn.GRU(I, H, dtype=d)))


def words(d, *layers):
    return rnn.Stack(rnn.Embedding(V, I, dtype=d), *layers)


def additive(d):
    attention = AdditiveAttention(2 * H, H, 6, dtype=d)
    cell = AttentionCell(rnn.GRU(I + 2 * H, H, dtype=d), attention)
    return EncoderDecoder(both_ways(d), words(d, cell, rnn.Linear(3 * H, V, dtype=d)))


def general(d):
    deep = rnn.Stack(rnn.LSTM(I + H, 3, dtype=d), rnn.Dropout(0.5), rnn.GRU(3, 2, dtype=d))
    cell = rnn.Residual(AttentionCell(deep, GeneralAttention(H, 2, dtype=d)), "concat")
    return EncoderDecoder(rnn.LSTM(I, H, dtype=d), words(d, cell, rnn.Linear(I + 2 + H, V, dtype=d)))


def dot(d):
    cell = AttentionCell(rnn.VanillaRNN(I + H, H, dtype=d), DotAttention(H))
    layer = rnn.Stack(cell, rnn.Linear(2 * H, I, dtype=d))
    return EncoderDecoder(rnn.VanillaRNN(I, H, dtype=d), rnn.Tied(rnn.Embedding(V, I, dtype=d), layer))


def conditioned(d):
    cell = ContextCell(rnn.LSTM(I + 2 * H, 3, dtype=d), 2 * H)
    return EncoderDecoder(both_ways(d), words(d, cell, rnn.Linear(3 + 2 * H, V, dtype=d)))


def handed_over(d):
    decoder = words(d, rnn.GRU(I, H, dtype=d), rnn.Linear(H, V, dtype=d))
    return EncoderDecoder(rnn.GRU(I, H, dtype=d), decoder, bridge=False)


def captioner(d):
    cell = rnn.Residual(ContextCell(rnn.GRU(I + 6, H, dtype=d), 6), "concat")
    return Captioner(rnn.Linear(I, 6, dtype=d), words(d, cell, rnn.Linear(I + H + 6, V, dtype=d)))


MODELS = {f.__name__: f for f in (additive, general, dot, conditioned, handed_over, captioner)}
ATTENDING = ["additive", "general", "dot"]
SOME = ["dot", "conditioned", "captioner"]  # where compiling them all would take too long


def make(name, dtype="float64"):
    """A model, random parameters, the inputs, sentences, and what is told of their lengths."""
    model = MODELS[name](dtype)
    one = isinstance(model, Captioner)
    xs = inputs(rnn.GRU(I, H) if one else model.encoder, S, (B,), dtype=dtype)
    tokens = jnp.asarray(np.random.default_rng(3).integers(0, V, (T + 1, B)), jnp.int32)
    lengths = {"token_lengths": TOKEN_LENGTHS} | ({} if one else {"lengths": LENGTHS})
    return model, random_params(model), xs[0] if one else xs, tokens, lengths


def plainly(model, params, xs, tokens, lengths, **kwargs):
    """The twin's scores and weights of each sentence, cut at its own ends."""
    for b in range(B):
        x = xs[b] if "lengths" not in lengths else list(np.asarray(xs)[: LENGTHS[b], b])
        yield plain_encoder_decoder.logits(model, params, x, np.asarray(tokens)[: TOKEN_LENGTHS[b], b].tolist(), **kwargs)


@functools.cache
def computed(name):
    """All that a model says of its sentences, in one compiled call."""
    model, params, xs, tokens, lengths = make(name)

    @jax.jit
    def everything(params, xs, tokens, p):
        start = model.start_decoder(params, xs, lengths=lengths.get("lengths"))
        ends = jnp.asarray(TOKEN_LENGTHS) - 1
        looked = model.alignment(params, xs, tokens, **lengths) if name in ATTENDING else None
        taught = {"taught": model.logits(params, xs, tokens, **lengths), "alignment": looked}
        if name not in SOME:
            return taught
        return taught | {
            "sampled": model.logits(params, xs, tokens, teacher_forcing=p, key=KEY, **lengths),
            "free": model.logits(params, xs, tokens, teacher_forcing=0.0, **lengths),
            "loss": model.loss(params, xs, tokens, **lengths),
            "written": rnn.decoding.greedy(model.decoder, *start, tokens[0], steps=T).tokens,
            "each": rnn.decoding.log_probabilities(model.decoder, *start, tokens[0], tokens[1:], lengths=ends),
        }

    return everything(params, xs, tokens, jnp.asarray(1.0))


@pytest.mark.parametrize("name", few(list(MODELS), ["additive", "general", "conditioned", "captioner"]))
def test_is_the_plain_loop(name, x64):
    """Scores of every sentence, each cut at its own length, 0 past its end; of an empty source too."""
    model, params, xs, tokens, lengths = make(name)
    got = np.asarray(computed(name)["taught"])
    assert got.shape == (T, B, V)
    for b, (expected, _) in enumerate(plainly(model, params, xs, tokens, lengths)):
        assert_close(got[: len(expected), b], np.array(expected))
        assert not got[len(expected) :, b].any()


@pytest.mark.parametrize("name", SOME)
def test_without_teaching_is_greedy(name, x64):
    """At p = 0 each sentence goes on from what it wrote, as decoding and the plain loop do."""
    model, params, xs, tokens, lengths = make(name)
    got, written = computed(name)["free"], computed(name)["written"]
    for b, (expected, _) in enumerate(plainly(model, params, xs, tokens, lengths, taught=False)):
        assert_close(got[: len(expected), b], np.array(expected))
        np.testing.assert_array_equal(got.argmax(-1)[: len(expected), b], written[: len(expected), b])


@pytest.mark.parametrize("name", SOME)
def test_always_taught_is_teacher_forcing(name, x64):
    """The loop of scheduled sampling at p = 1, against the walk over all steps at once."""
    assert_close(computed(name)["sampled"], computed(name)["taught"])


@pytest.mark.parametrize("name", SOME)
def test_loss_is_that_of_the_teacher_forced_text(name, x64):
    """The mean over the tokens that count of what decoding says of them."""
    total = float(computed(name)["each"].sum())
    assert_close(computed(name)["loss"], -total / np.sum(TOKEN_LENGTHS - 1))


@pytest.mark.parametrize("name", ATTENDING)
def test_alignment_is_where_the_plain_loop_looked(name, x64):
    """Weights of every word written, 0 past the ends of source and target."""
    model, params, xs, tokens, lengths = make(name)
    got = np.array(computed(name)["alignment"])
    for b, (_, looked) in enumerate(plainly(model, params, xs, tokens, lengths)):
        assert_close(got[: len(looked), : LENGTHS[b], b], np.array(looked))
        got[: len(looked), : LENGTHS[b], b] = 0
    assert not got.any()


class Parrot:
    """A decoder that says the token after the one it is given."""

    input_ndim = 0

    def init(self, key):
        return ()

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, 1))

    def step(self, params, state, token):
        return state, jax.nn.one_hot(token + 1, 50)


def test_each_token_is_taught_by_itself_with_probability_p():
    """The right tokens are all 0 and what the parrot writes never is, so that it tells what it was given."""
    model = Captioner(rnn.Linear(1, 1), Parrot())
    params, steps, batch, p = model.init(KEY), 40, 100, 0.3
    kwargs = model.logits(
        params, jnp.ones((batch, 1)), jnp.zeros((steps + 1, batch), jnp.int32), teacher_forcing=p, key=jax.random.key(5)
    )
    given = np.asarray(kwargs.argmax(-1)) - 1  # [T, B]
    taught = given == 0
    assert taught[0].all()
    np.testing.assert_array_equal(given[1:][~taught[1:]], given[:-1][~taught[1:]] + 1)  # its own last word
    spread = np.sqrt(p * (1 - p) / (steps - 1) / batch)
    assert abs(taught[1:].mean() - p) < 4 * spread
    assert 0.1 < np.mean(taught[1:-1] & taught[2:]) / p < 0.5  # of those that follow one taught: p again


def test_padding_stays_out(x64):
    """Of source and target: any value, NaN and ids out of range too, and gradient exactly 0."""
    model, params, xs, tokens, lengths = make("dot")
    past_source, past_target = (np.arange(n)[:, None] >= at for n, at in ((S, LENGTHS), (T + 1, TOKEN_LENGTHS)))
    spoilt, strange = jnp.where(past_source[..., None], jnp.nan, xs), jnp.where(past_target, -7, tokens)
    loss = jax.jit(
        jax.value_and_grad(lambda params, xs, tokens: model.loss(params, xs, tokens, **lengths), argnums=(0, 1))
    )
    value, (by_params, by_xs) = loss(params, xs, tokens)
    again, same = loss(params, spoilt, strange)
    assert value == again
    assert_close(same, (by_params, by_xs), 0)
    np.testing.assert_array_equal(np.abs(by_xs).sum(-1) > 0, ~past_source)


def test_beams_are_exhaustive():
    """As wide as the vocabulary, over two tokens: the best of all sentences, by the scores of teacher forcing."""
    model, params, xs, _, _ = make("additive", "float32")
    start = model.start_decoder(params, xs, lengths=LENGTHS)
    first = jnp.asarray([0, 1, 2])
    found = rnn.decoding.beam_search(model.decoder, *start, first, steps=2, width=V, best=V)
    for b in range(B):
        texts = np.array([(first[b], *two) for two in itertools.product(range(V), repeat=2)], np.int32).T
        many = texts.shape[1]
        x, n = jnp.repeat(xs[:, b, None], many, 1), np.full(many, LENGTHS[b])
        logs = jax.nn.log_softmax(model.logits(params, x, texts, lengths=n))
        total = np.take_along_axis(np.asarray(logs), texts[1:, :, None], -1).sum((0, 2))
        order = np.argsort(-total)[:V]
        np.testing.assert_array_equal(found.tokens[:, :, b], texts[1:, order])
        np.testing.assert_allclose(found.scores[:, b], total[order], atol=1e-5)


def test_backward_encoder_starts_at_each_end(x64):
    """A sentence in a padded batch is coded as it is alone."""
    model, params, xs, _, _ = make("additive")
    together = model.encode(params, xs, lengths=LENGTHS)
    alone = model.encode(params, xs[:2, 1])
    assert_close(together.vector[1], alone.vector)
    assert_close(together.memory[:2, 1], alone.memory)
    assert not np.asarray(together.memory[2:, 1]).any()


def test_dropout_inside_attention_acts_with_a_key():
    """Otherwise never; each step has a mask of its own."""
    cell = AttentionCell(rnn.Stack(rnn.Linear(1 + H, H), rnn.Dropout(0.5)), DotAttention(H))
    params = cell.init(KEY)
    params = params._replace(source=cell.attention.prepare((), jnp.zeros((1, H))))  # the context is 0
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
    """One sentence, one token after another."""
    model, params, xs, tokens, _ = make("additive", "float32")
    whole = model.logits(params, xs, tokens)
    np.testing.assert_allclose(model.logits(params, xs[:, 0], tokens[:, 0]), whole[:, 0], atol=1e-5)


def calls():
    model, params, xs, tokens, _ = make("additive", "float32")
    other = make("captioner", "float32")
    ends = np.full(B, T + 1)
    gru = rnn.Stack(rnn.Embedding(V, I), rnn.GRU(I, H))
    plain = EncoderDecoder(both_ways("float32"), gru)
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
        "ValueError tokens: expected shape [T + 1, 3], the batch axes of xs, got int32[6, 2]; a sentence for each…": (
            lambda: model.loss(params, xs, tokens[:, :2], token_lengths=TOKEN_LENGTHS[:2])
        ),
        "ValueError tokens: expected shape [T + 1, 3], the batch axes of xs, got int32[6]; …": lambda: other[0].loss(
            other[1], other[2], tokens[:, 0]
        ),
        "ValueError teaching: expected a number in [0, 1], got 1.5; …": lambda: model.logits(
            params, xs, tokens, teacher_forcing=1.5
        ),
        "TypeError key: expected a value, got None; …chance…": lambda: model.logits(
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
        "TypeError params.memory: expected a value, got None; EncoderDecoder.begin…": lambda: rnn.unroll(
            model.decoder, params.decoder, tokens
        ),
        "ValueError bridge: expected True, or 4 features coded by the encoder…, got False and 8; …": lambda: (
            EncoderDecoder(both_ways("float32"), gru, bridge=False)
        ),
        "TypeError decoder: expected one that takes token ids, got GRU(3, 4), which takes vectors of 3; …": lambda: (
            Captioner(rnn.Linear(I, 6), rnn.GRU(I, H))
        ),
        "ValueError decoder: expected scores for at most 5 tokens, those that its Embedding holds, got 6; …": lambda: (
            Captioner(rnn.Linear(I, 6), rnn.Stack(rnn.Embedding(V, I), rnn.GRU(I, 6)))
        ),
        "TypeError encoder: expected a layer that says its output_size, got …": lambda: Captioner(Parrot, gru),
        "ValueError lengths: expected None, got int64[3]; …EncoderDecoder…": lambda: other[0].start_decoder(
            other[1], other[2], lengths=LENGTHS
        ),
        "TypeError memory: expected a value, got None; …Conditioned…": lambda: Captioner(
            rnn.Linear(I, 6), model.decoder
        ).start_decoder(
            params._replace(encoder=rnn.Linear(I, 6).init(KEY), bridge=rnn.Linear(6, 3 * H).init(KEY)), other[2]
        ),
        "ValueError decoder: expected an Attending among its layers, got Stack(…": lambda: plain.alignment(
            plain.init(KEY), xs, tokens
        ),
    }


CALLS = calls()


@pytest.mark.parametrize("message", CALLS)
def test_refusals(message):
    refuses(message, CALLS[message])
