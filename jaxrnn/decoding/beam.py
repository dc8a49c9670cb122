"""Beam search: the likeliest sequences among those that stayed likely all the way."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import is_immutable
from jaxrnn.decoding.checks import at_most, length_penalty_range
from jaxrnn.decoding.generation import generation_loop, log_softmax, prepare, step, take_token
from jaxrnn.precision import wide_dtype
from jaxrnn.types import Array, Params, State, exportable


@exportable
class Beams(NamedTuple):
    """The n best sequences, the best first: :class:`Decoded` with an axis n before the batch, and what ranks them.

    A place that is left over where fewer than n sequences were found has length 0, probability 0 and score -∞.
    """

    state: State  # leaves [n, ..., *features]: before the last token, which has not been fed yet
    tokens: Array  # [steps, n, ...]
    lengths: Array  # [n, ...] tokens up to and with the first ``eos``
    log_probabilities: Array  # [steps, n, ...] of each token after those before it; 0 past the end
    scores: Array  # [n, ...] log probability of the sequence over length^α


class Beam(NamedTuple):
    """The K sequences that go on."""

    state: State
    token: Array  # [K, ...] the last one
    total: Array  # [K, ...] log probability; -∞ where there is no sequence, or one that has ended


class Found(NamedTuple):
    """Sequences that may be returned; a place without one has length 0 and score -∞."""

    state: State
    score: Array  # [n, ...]
    length: Array  # [n, ...]
    place: Array  # [n, ...] where in the beam it was after ``length`` steps


def beam_search(
    model: Any,
    params: Params,
    state: State,
    token: Array,
    *,
    steps: int,
    width: int,
    eos: int | None = None,
    length_penalty: float | Array = 0.0,
    n_best: int = 1,
) -> Beams:
    r"""Search for the sequences of the highest score, keeping the K best at every step.

    .. math:: \mathrm{score}(y_1 … y_L) = \frac{1}{L^α} \sum_{t=1}^L \log p(y_t | y_1 … y_{t-1})

    A sequence that has ended, as one of the K best of its step, leaves the beam and is kept apart, so that none is lost
    to longer ones that seemed better for a while. The others go on, and at the next step there are K places again. The
    length L of a sequence counts ``eos``. Sequences that have not ended after the last step are ranked among the
    others. The loop stops as soon as the n best are certain: a log probability only falls, so no sequence that goes on
    will have a score above its log probability over steps^α.

    Width 1 is :func:`greedy`: if the likeliest token is ``eos``, no sequence goes on.

    The beams are a leading batch axis: the model is stepped with tokens ``[K, ...]`` and a state of batch shape
    ``(K, ...)``. Whatever it takes within ``params``, an encoded sentence ``[S, B, E]`` for instance, is broadcast over
    the beams and never copied.

    Args:
        model: a cell or layer from token ids ``[...]`` to scores ``[..., V]``.
        params: its parameters.
        state: the state before ``token``.
        token: ``[...]`` ints, the first input.
        steps: how many tokens at most.
        width: K, the sequences kept at each step. It may exceed V: after the first step there are up to K·V candidates.
        eos: token that ends a sequence.
        length_penalty: α ≥ 0. At 0 the score is the log probability, which favours the short; at 1 it is the mean log
            probability of a token.
        n_best: n, how many sequences to return, at most K.

    Returns:
        :class:`Beams`: ``(state, tokens, lengths, log_probabilities, scores)``.

    Raises:
        TypeError, ValueError: an argument is out of range or does not fit another, the model cannot be stepped.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(5, 8), rnn.GRU(8, 8), rnn.Linear(8, 5))
        >>> params = model.init(jax.random.key(0))
        >>> args = model, params, model.initial_state((2,)), jnp.zeros(2, int)
        >>> found = rnn.decoding.beam_search(*args, steps=7, width=4, eos=0, length_penalty=0.7, n_best=3)
        >>> found.tokens.shape, found.scores.shape
        ((7, 3, 2), (3, 2))

    Source: Graves (2012), "Sequence transduction with recurrent neural networks"; Sutskever, Vinyals & Le (2014),
    "Sequence to sequence learning with neural networks", section 3.2: what has ended leaves the beam; the division by
    length^α: Zhang et al., "Dive into deep learning", 10.8.
    """
    state, token, _ = prepare(model, params, state, token, steps, eos)
    checks.size("width", width)
    at_most("n_best", n_best, width, "the width of the beam")
    length_penalty_range("length_penalty", length_penalty)
    search = _compiled if is_immutable(model) else _search
    return search(model, params, state, token, length_penalty, steps=steps, width=width, n_best=n_best, eos=eos)


def _search(
    model: Any, params: Params, state: State, token: Array, length_penalty: Any,
    *, steps: int, width: int, n_best: int, eos: int | None,
) -> Beams:  # fmt: skip
    batch = token.shape
    dtype = wide_dtype(jax.eval_shape(model.step, params, state, token)[1].dtype)

    places = jnp.arange(width, dtype=jnp.int32).reshape(width, *[1] * len(batch))  # [K, ...]
    places = jnp.broadcast_to(places, (width, *batch))

    def score(total: Array, length: Array) -> Array:
        return total / length.astype(total.dtype) ** jnp.asarray(length_penalty, total.dtype)

    def found_at(t: Array, beam: Beam) -> Found:  # the sequences in the beam, of t tokens
        return Found(beam.state, score(beam.total, t), jnp.broadcast_to(t, places.shape), places)

    def body(carry: tuple[Beam, Found], t: Array) -> tuple[tuple[Beam, Found], tuple]:
        beam, found = carry
        new, scores = step(model, params, beam.state, beam.token)  # [K, ..., V]
        none = (beam.total == -jnp.inf)[..., None]
        each = jnp.where(none, -jnp.inf, log_softmax(scores))  # whatever is scored after an end, NaN even
        parent, token = best_of(beam.total[..., None] + each)
        new, each, total = take((new, each, beam.total), parent)
        each, token = take_token(each, token), token.astype(beam.token.dtype)
        beam = Beam(new, token, total + each)
        if eos is not None:
            ends = token == eos
            found = better(found, found_at(t + 1, only(ends, beam)))
            beam = only(~ends, beam)
        return (beam, found), (token, parent, each)

    def best_of(totals: Array) -> tuple[Array, Array]:
        """Where the K best of ``[K, ..., V]`` come from, and their tokens, each ``[K, ...]``."""
        V = totals.shape[-1]
        chosen = first(width, jnp.moveaxis(totals, -1, 1).reshape(width * V, *batch))
        return chosen // V, chosen % V

    def only(these: Array, beam: Beam) -> Beam:
        return beam._replace(total=jnp.where(these, beam.total, -jnp.inf))

    def better(found: Found, others: Found) -> Found:
        """The n best of both, the best first."""
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), found, others)
        return take(both, first(n_best, both.score))

    def certain(carry: tuple[Beam, Found]) -> Array:
        beam, found = carry
        return (score(beam.total, jnp.int32(steps)) <= found.score[-1:]).all()

    def back(place: Array, step: tuple) -> tuple[Array, tuple]:
        t, trace = step
        token, parent, each = take(trace, place)
        inside = t < found.length
        return jnp.where(inside, parent, place), (jnp.where(inside, token, eos or 0), jnp.where(inside, each, 0))

    def repeat_beams(x: Array, count: int) -> Array:
        return jnp.broadcast_to(x, (count, *x.shape))

    total = jnp.where(places == 0, 0, -jnp.inf).astype(dtype)  # there is but one sequence to begin with
    beam = Beam(jax.tree.map(lambda x: repeat_beams(x, width), state), repeat_beams(token, width), total)
    empty = jnp.zeros((n_best, *batch), jnp.int32)
    found = Found(
        jax.tree.map(lambda x: repeat_beams(x, n_best), state), jnp.full(empty.shape, -jnp.inf, dtype), empty, empty
    )
    carry, trace = generation_loop(
        body, (beam, found), steps, None if eos is None else certain, (beam.token, places, total)
    )
    found = better(carry[1], found_at(jnp.int32(steps), carry[0]))  # none of an earlier stop is better
    times = jnp.arange(steps, dtype=jnp.int32)
    _, (tokens, each) = jax.lax.scan(back, found.place, (times, trace), reverse=True)
    each = jnp.where(found.length == 0, -jnp.inf, each)
    return Beams(found.state, tokens, found.length, each, found.score)


def first(count: int, scores: Array) -> Array:
    """Places of the largest along the first axis, the first of equals; NaN before all, so that it shows."""
    scores = jnp.moveaxis(jnp.where(jnp.isnan(scores), jnp.inf, scores), 0, -1)
    return jnp.moveaxis(jax.lax.top_k(scores, count)[1], -1, 0)


def take(tree: Any, places: Array) -> Any:
    """Reorder the leading axis of arrays ``[K, ..., *features]`` by places ``[K, ...]``, each row by its own."""

    def of(x: Array) -> Array:
        return jnp.take_along_axis(x, places.reshape(places.shape + (1,) * (x.ndim - places.ndim)), 0)

    return jax.tree.map(of, tree)


_compiled = jax.jit(_search, static_argnames=("model", "steps", "width", "n_best", "eos"), inline=True)
