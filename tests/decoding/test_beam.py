"""Beam search against exhaustive search, a Python reference, greedy decoding and the teacher-forced pass."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from language_models import MODELS, B, Narrow, V, all_sequences, log_softmax, lstm, random_start, row, teacher_forced
from zoo import few

import jaxrnn as rnn
from jaxrnn.decoding import beam_search, greedy, log_probabilities

STEPS = 6


def tokens_of(beams, n, batch=()):
    """The tokens of sequence n up to its end."""
    return tuple(np.asarray(beams.tokens)[:, n][(slice(None), *batch)][: beams.lengths[(n, *batch)]].tolist())


@pytest.mark.parametrize(("name", "eos"), [("user", None), ("lstm", 2), ("tied", 1)])
def test_width_1_is_greedy(name, eos):
    """Tokens, lengths, log probabilities and state are those of greedy decoding."""
    model = MODELS[name]()
    args = model, *random_start(model)
    found = beam_search(*args, steps=STEPS, width=1, eos=eos, length_penalty=0.6)
    expected = greedy(*args, steps=STEPS, eos=eos)
    np.testing.assert_array_equal(found.tokens[:, 0], expected.tokens)
    np.testing.assert_array_equal(found.lengths[0], expected.lengths)
    np.testing.assert_allclose(found.log_probabilities[:, 0], expected.log_probabilities, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, atol=1e-6), found.state, expected.state)


def assert_n_best(found, expected, alpha, batch=()):
    """The n best are the first n expected, with their scores; their log probabilities add up to the scores."""
    for n, (score, tokens) in enumerate(expected[: len(found.scores)]):
        index = (n, *batch)
        assert tokens_of(found, n, batch) == tokens
        np.testing.assert_allclose(found.scores[index], score, atol=1e-5)
        total = found.log_probabilities[(slice(None), *index)].sum()
        np.testing.assert_allclose(total / float(found.lengths[index]) ** alpha, score, atol=1e-5)


ALPHAS = (0.0, 0.7, 2.0)


@pytest.mark.parametrize(("steps", "eos"), few([(2, None), (2, 3), (3, None), (3, 3)], [(2, None), (3, 3)]))
def test_wide_enough_is_exhaustive(steps, eos):
    """With width V^(steps - 1) the search is exhaustive, for each sequence of the batch."""
    model, width = lstm(), V ** (steps - 1)
    params, state, token = random_start(model)
    for alpha in ALPHAS:
        kwargs = {"steps": steps, "eos": eos}
        found = beam_search(model, params, state, token, **kwargs, width=width, n_best=width, length_penalty=alpha)
        firsts = set()
        for b in range(B):
            expected = all_sequences(model, params, row(state, b), token[b], size=V, alpha=alpha, **kwargs)
            assert len(expected) == (V**steps if eos is None else V * (V - 1) ** (steps - 1) + (V - 1) ** (steps - 2) +
                                     (steps == 3))  # fmt: skip
            assert_n_best(found, expected, alpha, (b,))
            firsts.add(expected[0][1])
        assert len(firsts) > 1


@pytest.mark.parametrize(
    ("branches", "eos", "steps", "alpha", "count"),
    [(2, None, 3, 0.5, 8), (1, 0, 4, 0.0, 5), (1, 0, 4, 0.9, 5)],
)
def test_deep_and_exhaustive(branches, eos, steps, alpha, count):
    """With few allowed tokens the beam holds all sequences; the remaining entries have probability 0."""
    size = 8
    model = Narrow(size, branches, eos)
    params, state, token = random_start(model, ())
    expected = all_sequences(model, params, state, token, size=size, steps=steps, eos=eos, alpha=alpha)
    assert len(expected) == count
    found = beam_search(
        model, params, state, token, steps=steps, width=size, n_best=size, eos=eos, length_penalty=alpha
    )
    assert_n_best(found, expected, alpha)
    assert (found.scores[count:] == -jnp.inf).all()
    assert (found.log_probabilities[:, count:].sum(0) == -jnp.inf).all()
    assert not found.lengths[count:].any()
    if eos is not None:
        assert len(set(np.asarray(found.lengths[:count]).tolist())) > 2


def reference_search(model, params, state, token, *, steps, width, eos, alpha):
    """Beam search for one sequence, with Python lists."""
    beam, finished, step = [([], 0.0, state, token)], [], jax.jit(model.step)

    def score(entry):
        return entry[1] / len(entry[0]) ** alpha

    for _ in range(steps):
        candidates = []
        for tokens, total, state, last in beam:
            new, logits = step(params, state, last)
            log_probs = log_softmax(logits)
            candidates += [([*tokens, v], total + log_probs[v], new, jnp.int32(v)) for v in range(V)]
        candidates = sorted(candidates, key=lambda entry: entry[1], reverse=True)[:width]
        finished += [entry for entry in candidates if entry[0][-1] == eos]
        beam = [entry for entry in candidates if entry[0][-1] != eos]
    return [(score(entry), tuple(entry[0]), entry[2]) for entry in sorted(finished + beam, key=score, reverse=True)]


@pytest.mark.parametrize(
    ("name", "eos", "width", "n_best"), [("lstm", 1, 2, 2), ("lstm", 2, 8, 5), ("tied", None, 3, 3)]
)
def test_a_narrow_beam_is_the_reference_search(name, eos, width, n_best):
    """Tokens, scores and the state of each sequence are those of a search with lists, with float64 totals."""
    model = MODELS[name]()
    params, state, token = random_start(model)
    kwargs, all_lengths = {"steps": STEPS, "width": width, "eos": eos}, set()
    for alpha in ALPHAS:
        found = beam_search(model, params, state, token, **kwargs, n_best=n_best, length_penalty=alpha)
        for b in range(B):
            expected = reference_search(model, params, row(state, b), token[b], **kwargs, alpha=alpha)[:n_best]
            assert_n_best(found, [entry[:2] for entry in expected], alpha, (b,))
            for n, (_, _, last) in enumerate(expected):
                jax.tree.map(
                    lambda a, c, n=n, b=b: np.testing.assert_allclose(a[n, b], c, atol=1e-5), found.state, last
                )
        all_lengths |= set(np.unique(found.lengths))
        padding = np.arange(STEPS)[:, None, None] >= np.asarray(found.lengths)
        assert (np.asarray(found.tokens)[padding] == eos).all()
        assert (np.asarray(found.log_probabilities)[padding] == 0).all()
    assert len(all_lengths) > 1 or eos is None


@dataclasses.dataclass(frozen=True)
class Table:
    """A bigram model: its parameters are the log probabilities ``[V, V]`` of the next token."""

    input_ndim: ClassVar[int] = 0

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, 1), int)

    def init(self, key):
        return jnp.zeros((40, 40))

    def step(self, params, state, token):
        return state + 1, params[token]


def search(probabilities, model=None, **kwargs):
    """Beam search from token 0 with eos 1, by probabilities ``{token: {next token: probability}}``."""
    table = np.full((40, 40), -np.inf, np.float32)
    for token, following in probabilities.items():
        table[token, list(following)] = np.log(list(following.values()))
    return beam_search(model or Table(), jnp.asarray(table), jnp.zeros(1, int), jnp.asarray(0), eos=1, **kwargs)


def test_a_finished_sequence_is_not_lost():
    """Of probability 0.3 it is the best, although for one step all unfinished sequences are more likely."""
    uniform = dict.fromkeys(range(10, 40), 1 / 30)
    probabilities = {0: {1: 0.3, 2: 0.7}, 2: {3: 0.5, 4: 0.5}, 3: uniform, 4: uniform}
    for width, n_best in ((2, 1), (3, 2), (60, 60)):
        found = search(probabilities, steps=3, width=width, n_best=n_best)
        assert (tokens_of(found, 0), found.state[0]) == ((1,), 1)
        np.testing.assert_allclose(np.exp(found.scores), [0.3, *[0.35 / 30] * 59][:n_best], rtol=1e-5)


@pytest.mark.parametrize(("alpha", "tokens", "calls"), [(0.0, (1,), 1), (1.0, (2,) * 50, 50)])
def test_stops_when_no_other_can_be_better(alpha, tokens, calls):
    """By the score that a sequence can still reach: after a token of probability 0.1 a long one has a better mean."""
    steps = []

    class Counted(Table):
        def step(self, params, state, token):
            jax.debug.callback(lambda _: steps.append(1), token)
            return super().step(params, state, token)

    found = search({0: {1: 0.9, 2: 0.1}, 2: {2: 1.0}}, Counted(), steps=50, width=2, length_penalty=alpha)
    jax.effects_barrier()
    assert tokens_of(found, 0) == tokens
    assert len(steps) == calls


def test_probabilities_are_those_of_a_teacher_forced_pass():
    """All n sequences as a leading batch axis, by ``log_probabilities`` and by ``unroll``."""
    model = lstm()
    params, state, token = random_start(model)
    n = 3
    found = beam_search(model, params, state, token, steps=STEPS, width=3, n_best=n, eos=2, length_penalty=0.8)
    state, token = jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), (state, token))
    again = log_probabilities(model, params, state, token, found.tokens, lengths=found.lengths)
    np.testing.assert_allclose(found.log_probabilities, again, atol=1e-5)
    mask = np.arange(STEPS)[:, None, None] < np.asarray(found.lengths)
    np.testing.assert_allclose(
        found.log_probabilities, mask * teacher_forced(model, params, state, token, found.tokens), atol=1e-5
    )
    assert not mask.all()


def test_batched_is_one_by_one():
    """With two batch axes, and with none under vmap."""
    model = lstm()
    params, state, token = random_start(model, (2, B))
    kwargs = {"steps": STEPS, "width": 3, "n_best": 2, "eos": 1, "length_penalty": 0.5}
    found = beam_search(model, params, state, token, **kwargs)

    def alone(state, token):
        return beam_search(model, params, state, token, **kwargs)

    expected = jax.jit(jax.vmap(jax.vmap(alone)))(state, token)
    for name in ("tokens", "lengths", "log_probabilities", "scores"):
        lead = 2 if name in ("tokens", "log_probabilities") else 1
        got = np.moveaxis(np.asarray(getattr(found, name)), range(lead), range(-lead, 0))
        np.testing.assert_allclose(got, getattr(expected, name), atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.moveaxis(a, 0, 2), b, atol=1e-5), found.state, expected.state
    )


@dataclasses.dataclass(frozen=True)
class Reader:
    """A decoder with attention over a sentence [S, B, E] among its parameters."""

    input_ndim: ClassVar[int] = 0

    def init(self, key):
        return jax.random.normal(key, (V, 4)), jax.random.normal(jax.random.key(9), (5, B, 4))

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, 4))

    def step(self, params, h, token):
        w, memory = params
        attention = jax.nn.softmax(jnp.einsum("...be,sbe->...bs", h + w[token], memory))
        h = jnp.tanh(h + w[token] + jnp.einsum("...bs,sbe->...be", attention, memory))
        return h, h @ w.T


def test_arrays_in_parameters_are_shared_by_the_beam():
    """An encoded sentence needs no beam axis, and is never copied for each sequence of the beam."""
    model = Reader()
    params, *start = random_start(model)
    kwargs = {"steps": 4, "width": 3, "n_best": 3, "eos": 0}
    found = beam_search(model, params, *start, **kwargs)
    for b in range(B):
        alone = beam_search(model, (params[0], params[1][:, b : b + 1]), *row(start, slice(b, b + 1)), **kwargs)
        np.testing.assert_array_equal(alone.tokens[:, :, 0], found.tokens[:, :, b])
    text = str(jax.make_jaxpr(lambda *args: beam_search(model, *args, **kwargs))(params, *start))
    assert "f32[3,3,4]" in text  # the state of a beam of 3
    assert "f32[3,5,3,4]" not in text  # copies of the sentences
    assert "f32[3,3,5,4]" not in text


def test_the_penalty_may_be_traced():
    """α under vmap; here a larger one makes the best sequence longer."""
    model = Narrow(8, 1, 0)
    params, state, token = random_start(model, (), scale=0.5)

    def search(alpha):
        return beam_search(model, params, state, token, steps=4, width=8, eos=0, length_penalty=alpha)

    found = jax.jit(jax.vmap(search))(jnp.array([0.0, 5.0]))
    assert found.lengths[:, 0].tolist() == [1, 4]


def test_nan_under_jit():
    """NaN in parameters does not hang the search, and shows in the scores."""
    model = lstm()
    params, state, token = random_start(model)
    params = jax.tree.map(lambda x: np.full(x.shape, np.nan, x.dtype), params)
    found = jax.jit(lambda params: beam_search(model, params, state, token, steps=3, width=2, eos=1))(params)
    assert np.isnan(found.scores).all()
    assert ((found.tokens >= 0) & (found.tokens < V)).all()


def test_bfloat16():
    """Log probabilities are added in float32."""
    model = lstm(dtype="bfloat16")
    params, state, token = random_start(model)
    found = beam_search(model, params, state, token, steps=STEPS, width=2)
    assert found.log_probabilities.dtype == found.scores.dtype == jnp.float32
    assert found.state[1].h.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.log_probabilities.sum(0), found.scores, rtol=1e-6)
    again = log_probabilities(model, params, state, token, found.tokens[:, 0])
    np.testing.assert_allclose(found.log_probabilities[:, 0], again, atol=0.05)  # by 8 bits of mantissa


def test_float64(x64):
    """Log probabilities have the dtype of the logits if that is wider than float32."""
    model = rnn.Stack(rnn.Embedding(V, 4, dtype="float64"), rnn.Linear(4, V, dtype="float64"))
    params, state, token = random_start(model, ())
    found = beam_search(model, params, state, token, steps=3, width=2, eos=1, length_penalty=1.0)
    assert found.scores.dtype == jnp.float64
    log_probs = teacher_forced(model, params, state, token, found.tokens[:, 0])[: found.lengths[0]]
    np.testing.assert_allclose(found.scores[0], log_probs.mean(), rtol=1e-12)
