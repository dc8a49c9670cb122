"""Sampling against a plain Python loop, and its distribution, with and without top-k and top-p."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from language_models import B, Counter, log_softmax, lstm, random_start

from jaxrnn.decoding import filter_logits, lengths, sample, sample_token

STEPS = 12


def by_hand(model, params, state, token, steps, key, temperature):
    """Step, sample, feed back, with one key a step."""
    tokens = []
    for step_key in jax.random.split(key, steps):
        state, logits = model.step(params, state, token)
        if temperature == 0:
            token = jnp.argmax(logits, -1).astype(token.dtype)
        else:
            token = jax.random.categorical(step_key, logits / temperature).astype(token.dtype)
        tokens.append(token)
    return state, np.stack(tokens)


@pytest.mark.parametrize(
    ("build", "temperature"), [(Counter, 0.0), (Counter, 0.5), (Counter, 1.0), (Counter, 2), (lstm, 0.0), (lstm, 0.5)]
)
def test_sample_is_a_plain_loop(build, temperature):
    """The same keys give the same tokens and state; the last token has not been fed."""
    model = build()
    params, state, token = random_start(model)
    key = jax.random.key(1)
    expected_state, expected = by_hand(model, params, state, token, STEPS, key, temperature)
    final, tokens = sample(model, params, state, token, steps=STEPS, key=key, temperature=temperature)
    np.testing.assert_array_equal(tokens, expected)
    assert tokens.dtype == token.dtype
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), final, expected_state)
    if temperature:
        assert len(np.unique(expected)) > 1  # not a constant sequence, which any loop would give


def test_sampling_can_be_continued():
    """The last token has not been fed to the state: both continue the sequence."""
    model = lstm()
    params, state, token = random_start(model)
    greedy = {"key": jax.random.key(2), "temperature": 0.0}
    final, whole = sample(model, params, state, token, steps=STEPS, **greedy)
    middle, first = sample(model, params, state, token, steps=5, **greedy)
    end, rest = sample(model, params, middle, first[-1], steps=STEPS - 5, **greedy)
    np.testing.assert_array_equal(np.concatenate([first, rest]), whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), end, final)


def test_jit_and_vmap():
    """The same tokens under jit with a traced temperature, and under vmap over keys and temperatures."""
    model = lstm()
    params, state, token = random_start(model)

    def draw(key, temperature):
        return sample(model, params, state, token, steps=STEPS, key=key, temperature=temperature)[1]

    keys, temperatures = jax.random.split(jax.random.key(3), 3), jnp.array([0.0, 0.7, 2.0])
    expected = np.stack([by_hand(model, params, state, token, STEPS, *each)[1] for each in zip(keys, temperatures)])
    compiled = jax.jit(draw)
    np.testing.assert_array_equal(np.stack([compiled(*each) for each in zip(keys, temperatures)]), expected)
    np.testing.assert_array_equal(jax.vmap(draw)(keys, temperatures), expected)
    assert (expected[0] != expected[1]).any()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_tokens_keep_their_dtype(dtype):
    """A plain int is accepted as the first token of one sequence."""
    model = Counter()
    params, state = model.init(None), model.initial_state()
    greedy = {"steps": 4, "key": jax.random.key(0), "temperature": 0.0}
    _, tokens = sample(model, params, state, jnp.asarray(1, dtype), **greedy)
    assert tokens.dtype == dtype
    np.testing.assert_array_equal(tokens, [2, 5, 5, 5])  # n = 2, 5, 11, 17: the count of tokens and their sum, modulo 6
    np.testing.assert_array_equal(sample(model, params, state, 1, **greedy)[1], tokens)


LOGITS = np.array([1.0, -0.5, 0.0, 2.0, -3.0, 0.7], np.float32)
DRAWS = 20_000


def chi_square(temperature, sampled_at, dtype="float32"):
    """χ² of the counts of many samples against softmax(logits / temperature)."""
    keys = jax.random.split(jax.random.key(4), DRAWS)
    tokens = jax.vmap(lambda key: sample_token(key, jnp.asarray(LOGITS, dtype), sampled_at))(keys)
    expected = np.exp(LOGITS / temperature) / np.exp(LOGITS / temperature).sum() * DRAWS
    return (((np.bincount(tokens, minlength=len(LOGITS)) - expected) ** 2) / expected).sum()


@pytest.mark.parametrize("temperature", [0.6, 1.0, 3.0])
def test_draws_follow_the_softmax(temperature):
    """χ² of 5 degrees of freedom is above 25 once in 7,000 times; at another temperature it is far above."""
    assert chi_square(temperature, temperature) < 25
    assert chi_square(temperature, jnp.asarray(temperature)) < 25
    assert chi_square(temperature, 1.3 * temperature) > 50


def test_a_row_each():
    """Rows are independent: one certain, one uniform."""
    logits = jnp.array([[0.0, 50.0, 0.0], [1.0, 1.0, 1.0]])
    tokens = jax.vmap(lambda key: sample_token(key, logits))(jax.random.split(jax.random.key(5), 300))
    assert (tokens[:, 0] == 1).all()
    assert np.bincount(tokens[:, 1]).min() > 60


@pytest.mark.parametrize("temperature", [0, 0.0, jnp.asarray(0.0)])
def test_temperature_0_takes_the_most_likely(temperature):
    """The key does not matter, and infinite logits are allowed."""
    logits = jnp.array([[1.0, 3.0, -jnp.inf], [2.0, -jnp.inf, 1.9]])
    for seed in range(5):
        np.testing.assert_array_equal(sample_token(jax.random.key(seed), logits, temperature), [1, 0])


def kept(logits, top_k, top_p):
    """The definition, for one row: the most likely first, of equals the first, until the probability is reached."""
    q = np.exp(log_softmax(logits))
    order = sorted(range(len(logits)), key=lambda v: (-logits[v], v))[:top_k]
    total, chosen = 0.0, []
    for v in order:
        if top_p in (None, 1) or total < top_p:
            chosen.append(v)
        total += q[v] / q[order].sum()
    return chosen


@pytest.mark.parametrize(
    ("top_k", "top_p"),
    [(3, None), (1, None), (8, None), (None, 0.5), (None, 0.9), (None, 1e-9), (None, 1.0), (4, 0.6), (2, 1.0)],
)
def test_filter_logits(top_k, top_p):
    """Against the definition: random rows, ties, tokens of probability 0, one that is certain."""
    rows = np.random.default_rng(0).normal(0, 2, (6, 8)).astype(np.float32)
    rows[1] = [0, 1, 1, 0, 1, 0, 1, 1]
    rows[2, 3:] = -np.inf
    rows[3] = 0
    rows[4, 5] = 60
    logits, tokens = filter_logits(jnp.asarray(rows), top_k=top_k, top_p=top_p)
    for row, filtered, ids in zip(rows, np.asarray(logits), np.asarray(tokens)):
        chosen = kept(row, top_k, top_p)
        possible = [v for v in chosen if row[v] > -np.inf]
        assert ids[filtered > -np.inf].tolist() == possible
        np.testing.assert_array_equal(filtered[: len(chosen)], row[chosen])
        if top_p == 1e-9:
            assert len(chosen) == 1


@pytest.mark.parametrize(("top_k", "top_p"), [(3, None), (None, 0.8), (4, jnp.asarray(0.9))])
def test_draws_follow_the_filtered_softmax(top_k, top_p):
    """Removed tokens are never sampled; the probabilities of the others keep their ratios."""
    temperature = 1.5
    keys = jax.random.split(jax.random.key(6), DRAWS)
    draw = jax.jit(jax.vmap(lambda key: sample_token(key, jnp.asarray(LOGITS), temperature, top_k=top_k, top_p=top_p)))
    counts = np.bincount(draw(keys), minlength=len(LOGITS))
    chosen = kept(LOGITS / temperature, top_k, top_p)
    assert 1 < len(chosen) < len(LOGITS)
    assert counts[chosen].sum() == DRAWS
    expected = np.exp(LOGITS[chosen] / temperature) / np.exp(LOGITS[chosen] / temperature).sum() * DRAWS
    assert (((counts[chosen] - expected) ** 2) / expected).sum() < 25


def test_fine_differences_in_bfloat16():
    """Sampled in float32: 400 equal tokens are equally frequent; noise of 8 bits would prefer the first."""
    draw = jax.jit(jax.vmap(lambda key: sample_token(key, jnp.zeros(400, jnp.bfloat16))))
    tokens = draw(jax.random.split(jax.random.key(7), DRAWS))
    assert abs(tokens.mean() - 199.5) < 5 * 400 / np.sqrt(12 * DRAWS)


@pytest.mark.parametrize("top_k", [None, 4])
def test_after_eos_only_eos_follows(top_k):
    """Up to its end each sequence is the one sampled without an eos; its state is the one before its eos."""
    model = lstm()
    params, state, token = random_start(model)
    kwargs = {"key": jax.random.key(8), "top_k": top_k}
    _, free = sample(model, params, state, token, steps=STEPS, **kwargs)
    eos = int(free[2, 0])
    final, tokens = sample(model, params, state, token, steps=STEPS, eos=eos, **kwargs)
    count = lengths(tokens, eos)
    free = np.asarray(free)
    for b in range(B):
        n = int(count[b])
        np.testing.assert_array_equal(tokens[:n, b], free[:n, b])
        assert n == ([*free[:, b].tolist(), eos].index(eos) + 1 if eos in free[:, b] else STEPS)
        assert (np.asarray(tokens)[n:, b] == eos).all()
        last = state
        for fed in [token, *free[: n - 1]]:
            last, _ = model.step(params, last, jnp.asarray(fed))
        jax.tree.map(lambda a, e, b=b: np.testing.assert_allclose(a[b], e[b], atol=1e-5), final, last)
    assert len(set(count.tolist())) > 1


def test_old_keys():
    """Raw keys give the same samples as typed keys."""
    args = Counter(), {"sharpness": jnp.asarray(0.5)}, {"n": jnp.int32(0)}, 1
    _, tokens = sample(*args, steps=4, key=jax.random.key(0))
    _, again = sample(*args, steps=4, key=jax.random.PRNGKey(0))
    np.testing.assert_array_equal(tokens, again)
