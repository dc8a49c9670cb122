"""Greedy decoding, log probabilities of given text, streaming, early stopping, and the number of compilations."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from language_models import MODELS, B, Counter, V, log_softmax, lstm, random_start, row, teacher_forced

import jaxrnn as rnn
from jaxrnn.decoding import beam_search, greedy, lengths, log_probabilities, sample, stream

STEPS = 8


@pytest.mark.parametrize(("name", "eos"), [("user", 1), ("lstm", None), ("tied", 1)])
def test_greedy_is_a_plain_loop(name, eos):
    """The most likely token of each step; the state of a finished sequence does not change."""
    model = MODELS[name]()
    params, state, token = random_start(model)
    found = greedy(model, params, state, token, steps=STEPS, eos=eos)
    step = jax.jit(model.step)
    for b in range(B):
        last, x, tokens, log_probs = row(state, b), token[b], [], []
        while len(tokens) < STEPS and (not tokens or tokens[-1] != eos):
            last, logits = step(params, last, x)
            tokens.append(int(jnp.argmax(logits)))
            log_probs.append(log_softmax(logits)[tokens[-1]])
            x = jnp.int32(tokens[-1])
        n = len(tokens)
        assert found.tokens[:, b].tolist() == tokens + [eos] * (STEPS - n)
        assert found.lengths[b] == n
        np.testing.assert_allclose(found.log_probabilities[:, b], log_probs + [0.0] * (STEPS - n), atol=1e-5)
        jax.tree.map(lambda a, e, b=b: np.testing.assert_allclose(a[b], e, atol=1e-5), found.state, last)


def test_sampling_at_temperature_0_is_greedy():
    """With an eos."""
    model = lstm()
    args = model, *random_start(model)
    found = greedy(*args, steps=STEPS, eos=3)
    state, tokens = sample(*args, steps=STEPS, eos=3, key=jax.random.key(0), temperature=0.0)
    np.testing.assert_array_equal(tokens, found.tokens)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state, found.state)


def test_log_probabilities_are_those_of_unroll():
    """Of any text; 0 in the padding, whatever it holds; those that greedy decoding returns are the same."""
    model = lstm()
    params, state, token = random_start(model)
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, V, (STEPS, B)))
    log_probs = log_probabilities(model, params, state, token, tokens)
    np.testing.assert_allclose(log_probs, teacher_forced(model, params, state, token, tokens), atol=1e-5)
    count = np.array([STEPS, 3, 0])
    short = log_probabilities(model, params, state, token, tokens, lengths=count)
    np.testing.assert_allclose(short, np.where(np.arange(STEPS)[:, None] < count, log_probs, 0), atol=1e-6)
    found = greedy(model, params, state, token, steps=STEPS)
    again = log_probabilities(model, params, state, token, found.tokens)
    np.testing.assert_allclose(found.log_probabilities, again, atol=1e-5)


def test_log_probabilities_have_a_gradient():
    """It is the gradient of the negative cross entropy."""
    model = lstm()
    params, state, token = random_start(model)
    tokens = jnp.asarray(np.random.default_rng(2).integers(0, V, (4, B)))

    def cross_entropy(params):
        _, logits = rnn.unroll(model, params, jnp.concatenate([token[None], tokens[:-1]]), state)
        return rnn.losses.cross_entropy(logits, tokens)

    got = jax.jit(jax.grad(lambda params: -log_probabilities(model, params, state, token, tokens).mean()))(params)
    expected = jax.jit(jax.grad(cross_entropy))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, expected)


def test_bfloat16():
    """Log probabilities are float32, the state keeps its dtype."""
    model = lstm(dtype="bfloat16")
    args = model, *random_start(model)
    found = greedy(*args, steps=STEPS, eos=0)
    assert found.log_probabilities.dtype == jnp.float32
    assert found.state[1].c.dtype == jnp.bfloat16
    again = log_probabilities(*args, found.tokens, lengths=found.lengths)
    np.testing.assert_allclose(found.log_probabilities, again, atol=0.05)  # by 8 bits of mantissa


def test_under_vmap():
    """Over parameters: each sequence ends at the same step as alone."""
    model = lstm()
    params, state, token = random_start(model, ())
    many = jax.tree.map(lambda p: np.stack([p, 0.5 * p, -p]), params)

    def decode(params):
        return greedy(model, params, state, token, steps=STEPS, eos=1)

    found = jax.jit(jax.vmap(decode))(many)
    alone = [decode(row(many, i)) for i in range(3)]
    np.testing.assert_array_equal(found.tokens, np.stack([one.tokens for one in alone]))
    np.testing.assert_array_equal(found.lengths, np.stack([one.lengths for one in alone]))
    assert len(set(found.lengths.tolist())) > 1


@pytest.mark.parametrize("tokens", [np.zeros((3, 0), int), [[1, 0], [0, 1], [0, 0]], [[1, 1], [1, 1], [0, 1]]])
def test_lengths(tokens):
    """Up to the first eos, inclusive."""
    tokens = np.asarray(tokens)
    expected = [[*column, 0].index(0) + 1 if 0 in column else len(tokens) for column in tokens.T.tolist()]
    assert lengths(tokens, 0).tolist() == expected


# ---- streaming ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kwargs", [{}, {"temperature": 0.6, "top_k": 3, "top_p": 0.9}])
def test_a_stream_is_sample(kwargs):
    """The same tokens from the same key, as Python ints."""
    model = lstm()
    params, state, token = random_start(model, ())
    _, expected = sample(model, params, state, token, steps=STEPS, key=jax.random.key(3), **kwargs)
    tokens = list(stream(model, params, state, token, steps=STEPS, key=jax.random.key(3), **kwargs))
    assert tokens == expected.tolist()
    assert {type(token) for token in tokens} == {int}
    endless = stream(model, params, state, token, key=jax.random.key(3), **kwargs)
    assert list(itertools.islice(endless, STEPS)) == tokens
    eos = tokens[3]
    assert (
        list(stream(model, params, state, token, key=jax.random.key(3), eos=eos, **kwargs))
        == tokens[: tokens.index(eos) + 1]
    )


@dataclasses.dataclass(frozen=True)
class Traced(Counter):
    """Counts the traces of its step, and its executions."""

    name: str

    TRACES, RUNS = [], []

    def step(self, params, state, token):
        self.TRACES.append(self.name)
        jax.debug.callback(lambda: self.RUNS.append(self.name))
        return super().step(params, state, token)


class Mutable(Traced):
    """The same, not known to be immutable."""

    __hash__ = None


def count(names, model):
    jax.effects_barrier()
    return names.count(model.name)


def test_a_stream_is_compiled_once():
    """Once for each model: other keys, tokens, temperatures and numbers of steps reuse the compiled step."""
    model = Traced("stream")
    params, state = model.init(None), model.initial_state()
    list(stream(model, params, state, 1, key=jax.random.key(0), steps=2))
    before = count(Traced.TRACES, model)
    for seed, steps in ((1, 1), (2, 30)):
        list(stream(model, params, state, seed, key=jax.random.key(seed), steps=steps, temperature=0.5 * seed))
    assert count(Traced.TRACES, model) == before + 2  # one shape evaluation a call


@pytest.mark.parametrize("decode", [greedy, sample, beam_search])
def test_a_loop_is_compiled_once(decode):
    """Once for each immutable model, also outside of jit."""
    model = Traced(decode.__name__)
    params, state = model.init(None), model.initial_state()
    kwargs = {"greedy": {}, "sample": {"key": jax.random.key(0)}, "beam_search": {"width": 2}}[decode.__name__]
    decode(model, params, state, 1, steps=3, **kwargs)
    before = count(Traced.TRACES, model)
    decode(model, params, state, 2, steps=3, **kwargs)
    assert count(Traced.TRACES, model) == before + 1


@pytest.mark.parametrize("decode", [greedy, sample, beam_search])
def test_the_loop_stops_when_all_have_ended(decode):
    """Of 1,000 steps only those of the longest sequence are executed."""
    model = Traced(f"{decode.__name__}-end")
    params, state = model.init(None), model.initial_state((2,))
    kwargs = {"greedy": {}, "sample": {"key": jax.random.key(0), "temperature": 0.0}, "beam_search": {"width": 1}}
    found = decode(model, params, state, jnp.array([1, 4]), steps=1000, eos=5, **kwargs[decode.__name__])
    tokens = np.asarray(found[1]).reshape(1000, 2)
    assert tokens[:3].T.tolist() == [[2, 5, 5], [5, 5, 5]]
    assert count(Traced.RUNS, model) == lengths(tokens, 5).max() == 2


def test_a_mutable_model():
    """Its step is compiled once for each stream."""
    model = Mutable("mutable")
    params, state = model.init(None), model.initial_state()
    assert len(list(stream(model, params, state, 1, key=jax.random.key(0), steps=20))) == 20
    assert count(Traced.TRACES, model) <= 3


def test_nan_under_jit():
    """Neither sampling nor greedy decoding hangs; the log probabilities show it."""
    model = lstm()
    params, state, token = random_start(model)
    params = jax.tree.map(lambda x: np.full(x.shape, np.nan, x.dtype), params)
    found = jax.jit(lambda params: greedy(model, params, state, token, steps=3, eos=1))(params)
    assert np.isnan(found.log_probabilities[0]).all()
    kwargs = {"key": jax.random.key(0), "top_k": 4, "top_p": 0.5}
    _, tokens = jax.jit(lambda params: sample(model, params, state, token, steps=3, eos=1, **kwargs))(params)
    assert ((tokens >= 0) & (tokens < V)).all()
