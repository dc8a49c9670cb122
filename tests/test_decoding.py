"""Sampling against a plain Python loop, and the distribution that is drawn from."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as rnn
from jaxrnn.decoding import choose, sample

V, B, STEPS = 5, 3, 12


class Counter:
    """A user's own model over token ids: its state counts the tokens, its scores prefer the count modulo V."""

    input_ndim = 0

    def init(self, key):
        return {"sharpness": jnp.asarray(3.0)}

    def initial_state(self, batch_shape=()):
        return {"n": jnp.zeros(batch_shape, jnp.int32)}

    def step(self, params, state, token):
        n = state["n"] + 1 + token.astype(jnp.int32)
        return {"n": n}, params["sharpness"] * jax.nn.one_hot(n % V, V)


def lstm():
    return rnn.Stack(rnn.Embedding(V, 4), rnn.LSTM(4, 6), rnn.Dropout(0.5), rnn.Linear(6, V))


def start(model, batch=(B,), scale=3.0):
    """Parameters that prefer some tokens, a state that is not the first one, and a token."""
    params = jax.tree.map(lambda p: scale * p, model.init(jax.random.key(0)))
    state, _ = model.step(params, model.initial_state(batch), jnp.ones(batch, jnp.int32))
    return params, state, jnp.full(batch, 2, jnp.int32)


def by_hand(model, params, state, token, steps, key, temperature):
    """Step, draw, feed back: one key a step."""
    tokens = []
    for step_key in jax.random.split(key, steps):
        state, scores = model.step(params, state, token)
        if temperature == 0:
            token = jnp.argmax(scores, -1).astype(token.dtype)
        else:
            token = jax.random.categorical(step_key, scores / temperature).astype(token.dtype)
        tokens.append(token)
    return state, np.stack(tokens)


@pytest.mark.parametrize(
    ("build", "temperature"), [(Counter, 0.0), (Counter, 0.5), (Counter, 1.0), (Counter, 2), (lstm, 0.0), (lstm, 0.5)]
)
def test_sample_is_a_plain_loop(build, temperature):
    """Same keys, same tokens, same state, which has not seen the last token."""
    model = build()
    params, state, token = start(model)
    key = jax.random.key(1)
    expected_state, expected = by_hand(model, params, state, token, STEPS, key, temperature)
    final, tokens = sample(model, params, state, token, steps=STEPS, key=key, temperature=temperature)
    np.testing.assert_array_equal(tokens, expected)
    assert tokens.dtype == token.dtype
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), final, expected_state)
    if temperature:
        assert len(np.unique(expected)) > 1  # no constant sequence, which any loop would give


def test_the_rest_may_be_drawn_later():
    """The state has not seen the last token, so both go on where the draw ended."""
    model = lstm()
    params, state, token = start(model)
    greedy = {"key": jax.random.key(2), "temperature": 0.0}
    final, whole = sample(model, params, state, token, steps=STEPS, **greedy)
    middle, first = sample(model, params, state, token, steps=5, **greedy)
    end, rest = sample(model, params, middle, first[-1], steps=STEPS - 5, **greedy)
    np.testing.assert_array_equal(np.concatenate([first, rest]), whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), end, final)


def test_jit_and_vmap():
    """Compiled with a traced temperature, and over keys and temperatures at once, the same tokens come out."""
    model = lstm()
    params, state, token = start(model)

    def draw(key, temperature):
        return sample(model, params, state, token, steps=STEPS, key=key, temperature=temperature)[1]

    keys, heats = jax.random.split(jax.random.key(3), 3), jnp.array([0.0, 0.7, 2.0])
    expected = np.stack([by_hand(model, params, state, token, STEPS, *each)[1] for each in zip(keys, heats)])
    compiled = jax.jit(draw)
    np.testing.assert_array_equal(np.stack([compiled(*each) for each in zip(keys, heats)]), expected)
    np.testing.assert_array_equal(jax.vmap(draw)(keys, heats), expected)
    assert (expected[0] != expected[1]).any()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_tokens_keep_their_dtype(dtype):
    """And a plain int will do as the first token of one sequence."""
    model = Counter()
    params, state = model.init(None), model.initial_state()
    greedy = {"steps": 4, "key": jax.random.key(0), "temperature": 0.0}
    _, tokens = sample(model, params, state, jnp.asarray(1, dtype), **greedy)
    assert tokens.dtype == dtype
    np.testing.assert_array_equal(tokens, [2, 0, 1, 3])  # n = 2, 5, 6, 8: the count of tokens and their sum, modulo 5
    np.testing.assert_array_equal(sample(model, params, state, 1, **greedy)[1], tokens)


SCORES = np.array([1.0, -0.5, 0.0, 2.0, -3.0, 0.7], np.float32)
DRAWS = 20_000


def chi_square(temperature, drawn_at, dtype="float32"):
    """How far the counts of many draws are from softmax(scores / temperature)."""
    keys = jax.random.split(jax.random.key(4), DRAWS)
    tokens = jax.vmap(lambda key: choose(key, jnp.asarray(SCORES, dtype), drawn_at))(keys)
    expected = np.exp(SCORES / temperature) / np.exp(SCORES / temperature).sum() * DRAWS
    return (((np.bincount(tokens, minlength=len(SCORES)) - expected) ** 2) / expected).sum()


@pytest.mark.parametrize("temperature", [0.6, 1.0, 3.0])
def test_draws_follow_the_softmax(temperature):
    """5 degrees of freedom: above 25 once in 7,000 times; another temperature is far beyond."""
    assert chi_square(temperature, temperature) < 25
    assert chi_square(temperature, jnp.asarray(temperature)) < 25
    assert chi_square(temperature, 1.3 * temperature) > 50


def test_a_row_each():
    """Rows are drawn by themselves: one certain, one even."""
    scores = jnp.array([[0.0, 50.0, 0.0], [1.0, 1.0, 1.0]])
    tokens = jax.vmap(lambda key: choose(key, scores))(jax.random.split(jax.random.key(5), 300))
    assert (tokens[:, 0] == 1).all()
    assert np.bincount(tokens[:, 1]).min() > 60


@pytest.mark.parametrize("temperature", [0, 0.0, jnp.asarray(0.0)])
def test_cold_takes_the_likeliest(temperature):
    """At 0 the key does not matter, and even infinite scores do no harm."""
    scores = jnp.array([[1.0, 3.0, -jnp.inf], [2.0, -jnp.inf, 1.9]])
    for seed in range(5):
        np.testing.assert_array_equal(choose(jax.random.key(seed), scores, temperature), [1, 0])


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"temperature": -0.5}, ValueError, "temperature: expected a number of at least 0, got -0.5; "
                                            "0 takes the likeliest, 1 the model's own distribution"),
        ({"temperature": "hot"}, TypeError, "temperature: expected a number, got str hot"),
        ({"temperature": np.nan}, ValueError, "temperature: expected a finite number, got nan"),
        ({"temperature": jnp.ones(B)}, ValueError, "temperature: expected a single number, got float32[3]; "
                                                   "jax.vmap takes one for each sequence"),
        ({"steps": 0}, ValueError, "steps: expected a positive int, got 0"),
        ({"steps": 2.5}, TypeError, "steps: expected a positive int, got float 2.5"),
        ({"key": None}, TypeError, "key: expected a value, got None; jax.random.key(0) makes one"),
        ({"key": 7}, TypeError, "key: expected a random key, got int 7; jax.random.key(0) makes one"),
        ({"model": rnn.LSTM}, TypeError, "model: expected a cell or layer, got the class LSTM; make one: LSTM(...)"),
        ({"model": 3}, TypeError, "model: expected a cell or layer with init, initial_state and step, got int without "
                                  "init, initial_state, step; a cell is any object with these three methods"),
    ],
)  # fmt: skip
def test_refusals(change, kind, words):
    """Word for word."""
    model = Counter()
    told = {"model": model, "params": model.init(None), "state": model.initial_state((B,)),
            "token": jnp.zeros(B, int), "steps": 2, "key": jax.random.key(0), "temperature": 1.0}  # fmt: skip
    with pytest.raises(kind, match=f"^{re.escape(words)}$"):
        sample(**{**told, **change})


def test_bidirectional_models_cannot_write():
    """They say why."""
    model = rnn.Stack(rnn.Embedding(V, 4), rnn.Bidirectional(rnn.GRU(4, 4)), rnn.Linear(8, V))
    with pytest.raises(TypeError, match="a model that decodes step by step needs forward cells only"):
        sample(model, model.init(jax.random.key(0)), model.initial_state((B,)), jnp.zeros(B, int),
               steps=2, key=jax.random.key(0))  # fmt: skip
