"""Beam search against exhaustive search, a plain Python search, greedy decoding and the teacher-forced pass."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from writers import MODELS, B, Narrow, V, begin, everything, forced, log_softmax, lstm, row
from zoo import few

import jaxrnn as rnn
from jaxrnn.decoding import beam_search, greedy, log_probabilities

STEPS = 6


def written(found, place, batch=()):
    """The tokens of one sequence up to its end."""
    return tuple(np.asarray(found.tokens)[:, place][(slice(None), *batch)][: found.lengths[(place, *batch)]].tolist())


@pytest.mark.parametrize(("name", "end"), [("user", None), ("lstm", 2), ("tied", 1)])
def test_width_1_is_greedy(name, end):
    """In tokens, lengths, log probabilities and state."""
    model = MODELS[name]()
    told = model, *begin(model)
    found = beam_search(*told, steps=STEPS, width=1, end=end, length_penalty=0.6)
    expected = greedy(*told, steps=STEPS, end=end)
    np.testing.assert_array_equal(found.tokens[:, 0], expected.tokens)
    np.testing.assert_array_equal(found.lengths[0], expected.lengths)
    np.testing.assert_allclose(found.log_probabilities[:, 0], expected.log_probabilities, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, atol=1e-6), found.state, expected.state)


def agree(found, expected, alpha, batch=()):
    """The n best are the first n of all, with their scores; their log probabilities add up to the scores."""
    for place, (score, tokens) in enumerate(expected[: len(found.scores)]):
        at = (place, *batch)
        assert written(found, place, batch) == tokens
        np.testing.assert_allclose(found.scores[at], score, atol=1e-5)
        total = found.log_probabilities[(slice(None), *at)].sum()
        np.testing.assert_allclose(total / float(found.lengths[at]) ** alpha, score, atol=1e-5)


ALPHAS = (0.0, 0.7, 2.0)


@pytest.mark.parametrize(("steps", "end"), few([(2, None), (2, 3), (3, None), (3, 3)], [(2, None), (3, 3)]))
def test_wide_enough_is_exhaustive(steps, end):
    """All V^(steps - 1) beginnings are kept, so all is seen; each sequence of the batch by itself."""
    model, width = lstm(), V ** (steps - 1)
    params, state, token = begin(model)
    for alpha in ALPHAS:
        told = {"steps": steps, "end": end}
        found = beam_search(model, params, state, token, **told, width=width, best=width, length_penalty=alpha)
        firsts = set()
        for b in range(B):
            expected = everything(model, params, row(state, b), token[b], size=V, alpha=alpha, **told)
            assert len(expected) == (V**steps if end is None else V * (V - 1) ** (steps - 1) + (V - 1) ** (steps - 2) +
                                     (steps == 3))  # fmt: skip
            agree(found, expected, alpha, (b,))
            firsts.add(expected[0][1])
        assert len(firsts) > 1


@pytest.mark.parametrize(
    ("branches", "end", "steps", "alpha", "count"),
    [(2, None, 3, 0.5, 8), (1, 0, 4, 0.0, 5), (1, 0, 4, 0.9, 5)],
)
def test_deep_and_exhaustive(branches, end, steps, alpha, count):
    """Where few tokens are possible the beam holds all sequences there are, and places of probability 0 beyond."""
    size = 8
    model = Narrow(size, branches, end)
    params, state, token = begin(model, ())
    expected = everything(model, params, state, token, size=size, steps=steps, end=end, alpha=alpha)
    assert len(expected) == count
    found = beam_search(model, params, state, token, steps=steps, width=size, best=size, end=end, length_penalty=alpha)
    agree(found, expected, alpha)
    assert (found.scores[count:] == -jnp.inf).all()
    assert (found.log_probabilities[:, count:].sum(0) == -jnp.inf).all()
    assert not found.lengths[count:].any()
    if end is not None:
        assert len(set(np.asarray(found.lengths[:count]).tolist())) > 2


def by_hand(model, params, state, token, *, steps, width, end, alpha):
    """Beam search for one sequence, as lists."""
    beam, ended, step = [([], 0.0, state, token)], [], jax.jit(model.step)

    def score(entry):
        return entry[1] / len(entry[0]) ** alpha

    for _ in range(steps):
        grown = []
        for tokens, total, state, last in beam:
            new, scores = step(params, state, last)
            each = log_softmax(scores)
            grown += [([*tokens, v], total + each[v], new, jnp.int32(v)) for v in range(V)]
        grown = sorted(grown, key=lambda entry: entry[1], reverse=True)[:width]
        ended += [entry for entry in grown if entry[0][-1] == end]
        beam = [entry for entry in grown if entry[0][-1] != end]
    return [(score(entry), tuple(entry[0]), entry[2]) for entry in sorted(ended + beam, key=score, reverse=True)]


@pytest.mark.parametrize(("name", "end", "width", "best"), [("lstm", 1, 2, 2), ("lstm", 2, 8, 5), ("tied", None, 3, 3)])
def test_a_narrow_beam_is_a_plain_search(name, end, width, best):
    """Step by step with lists, in float64 totals; the state is that of each sequence's own past."""
    model = MODELS[name]()
    params, state, token = begin(model)
    told, seen = {"steps": STEPS, "width": width, "end": end}, set()
    for alpha in ALPHAS:
        found = beam_search(model, params, state, token, **told, best=best, length_penalty=alpha)
        for b in range(B):
            expected = by_hand(model, params, row(state, b), token[b], **told, alpha=alpha)[:best]
            agree(found, [entry[:2] for entry in expected], alpha, (b,))
            for place, (_, _, past) in enumerate(expected):
                jax.tree.map(
                    lambda a, c, i=place, j=b: np.testing.assert_allclose(a[i, j], c, atol=1e-5), found.state, past
                )
        seen |= set(np.unique(found.lengths))
        past_end = np.arange(STEPS)[:, None, None] >= np.asarray(found.lengths)
        assert (np.asarray(found.tokens)[past_end] == end).all()
        assert (np.asarray(found.log_probabilities)[past_end] == 0).all()
    assert len(seen) > 1 or end is None


@dataclasses.dataclass(frozen=True)
class Table:
    """The next token hangs on the last one alone; its parameters are the log probabilities ``[V, V]``."""

    input_ndim: ClassVar[int] = 0

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, 1), int)

    def init(self, key):
        return jnp.zeros((40, 40))

    def step(self, params, state, token):
        return state + 1, params[token]


def search(chances, model=None, **told):
    """From token 0, where 1 is the end: ``{token: {next: probability}}``."""
    table = np.full((40, 40), -np.inf, np.float32)
    for token, nexts in chances.items():
        table[token, list(nexts)] = np.log(list(nexts.values()))
    return beam_search(model or Table(), jnp.asarray(table), jnp.zeros(1, int), jnp.asarray(0), end=1, **told)


def test_what_has_ended_is_not_lost():
    """Of .3, it is the best, though for one step all that the beam holds is likelier."""
    flat = dict.fromkeys(range(10, 40), 1 / 30)
    chances = {0: {1: 0.3, 2: 0.7}, 2: {3: 0.5, 4: 0.5}, 3: flat, 4: flat}
    for width, best in ((2, 1), (3, 2), (60, 60)):
        found = search(chances, steps=3, width=width, best=best)
        assert (written(found, 0), found.state[0]) == ((1,), 1)
        np.testing.assert_allclose(np.exp(found.scores), [0.3, *[0.35 / 30] * 59][:best], rtol=1e-5)


@pytest.mark.parametrize(("alpha", "tokens", "calls"), [(0.0, (1,), 1), (1.0, (2,) * 50, 50)])
def test_stops_when_no_other_can_be_better(alpha, tokens, calls):
    """By the score that a sequence may still reach: of .1, but certain from then on, a long one has a better mean."""
    seen = []

    class Counted(Table):
        def step(self, params, state, token):
            jax.debug.callback(lambda _: seen.append(1), token)
            return super().step(params, state, token)

    found = search({0: {1: 0.9, 2: 0.1}, 2: {2: 1.0}}, Counted(), steps=50, width=2, length_penalty=alpha)
    jax.effects_barrier()
    assert written(found, 0) == tokens
    assert len(seen) == calls


def test_probabilities_are_those_of_a_teacher_forced_pass():
    """All n at once, with the n as a batch axis; by ``unroll`` as well."""
    model = lstm()
    params, state, token = begin(model)
    n = 3
    found = beam_search(model, params, state, token, steps=STEPS, width=3, best=n, end=2, length_penalty=0.8)
    state, token = jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), (state, token))
    again = log_probabilities(model, params, state, token, found.tokens, lengths=found.lengths)
    np.testing.assert_allclose(found.log_probabilities, again, atol=1e-5)
    counts = np.arange(STEPS)[:, None, None] < np.asarray(found.lengths)
    np.testing.assert_allclose(
        found.log_probabilities, counts * forced(model, params, state, token, found.tokens), atol=1e-5
    )
    assert not counts.all()


def test_batched_is_one_by_one():
    """Two batch axes, and none under vmap."""
    model = lstm()
    params, state, token = begin(model, (2, B))
    told = {"steps": STEPS, "width": 3, "best": 2, "end": 1, "length_penalty": 0.5}
    found = beam_search(model, params, state, token, **told)

    def alone(state, token):
        return beam_search(model, params, state, token, **told)

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
    """A decoder that looks back at a sentence [S, B, E], which it takes along with its weights."""

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


def test_what_parameters_hold_is_shared_by_the_beams():
    """A sentence to look back at needs no beam axis, and no array of all beams' copies is ever made."""
    model = Reader()
    params, *start = begin(model)
    told = {"steps": 4, "width": 3, "best": 3, "end": 0}
    found = beam_search(model, params, *start, **told)
    for b in range(B):
        alone = beam_search(model, (params[0], params[1][:, b : b + 1]), *row(start, slice(b, b + 1)), **told)
        np.testing.assert_array_equal(alone.tokens[:, :, 0], found.tokens[:, :, b])
    text = str(jax.make_jaxpr(lambda *args: beam_search(model, *args, **told))(params, *start))
    assert "f32[3,3,4]" in text  # the state of 3 beams
    assert "f32[3,5,3,4]" not in text  # their sentences
    assert "f32[3,3,5,4]" not in text


def test_the_penalty_may_be_mapped():
    """A traced α; a larger one never makes the best sequence shorter here."""
    model = Narrow(8, 1, 0)
    params, state, token = begin(model, (), scale=0.5)

    def search(alpha):
        return beam_search(model, params, state, token, steps=4, width=8, end=0, length_penalty=alpha)

    found = jax.jit(jax.vmap(search))(jnp.array([0.0, 5.0]))
    assert found.lengths[:, 0].tolist() == [1, 4]


def test_nan_does_not_hang():
    """And shows, where it is not known beforehand and refused."""
    model = lstm()
    params, state, token = begin(model)
    params = jax.tree.map(lambda x: np.full(x.shape, np.nan, x.dtype), params)
    found = jax.jit(lambda params: beam_search(model, params, state, token, steps=3, width=2, end=1))(params)
    assert np.isnan(found.scores).all()
    assert ((found.tokens >= 0) & (found.tokens < V)).all()


def test_bfloat16():
    """Totals are summed in float32."""
    model = lstm(dtype="bfloat16")
    params, state, token = begin(model)
    found = beam_search(model, params, state, token, steps=STEPS, width=2)
    assert found.log_probabilities.dtype == found.scores.dtype == jnp.float32
    assert found.state[1].h.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.log_probabilities.sum(0), found.scores, rtol=1e-6)
    again = log_probabilities(model, params, state, token, found.tokens[:, 0])
    np.testing.assert_allclose(found.log_probabilities[:, 0], again, atol=0.05)  # by 8 bits of mantissa


def test_float64(x64):
    """Log probabilities in the dtype of the scores where that is better."""
    model = rnn.Stack(rnn.Embedding(V, 4, dtype="float64"), rnn.Linear(4, V, dtype="float64"))
    params, state, token = begin(model, ())
    found = beam_search(model, params, state, token, steps=3, width=2, end=1, length_penalty=1.0)
    assert found.scores.dtype == jnp.float64
    each = forced(model, params, state, token, found.tokens[:, 0])[: found.lengths[0]]
    np.testing.assert_allclose(found.scores[0], each.mean(), rtol=1e-12)
