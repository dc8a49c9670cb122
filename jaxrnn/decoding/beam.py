"""Beam search: the likeliest sequences among those that stayed likely all the way."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.constructor import is_immutable
from jaxrnn.decoding.checks import at_most, penalty
from jaxrnn.decoding.writing import log_softmax, loop, of_token, start, step, wide
from jaxrnn.types import Array, Params, State
from jaxrnn.walk import where


class Beams(NamedTuple):
    """The n best sequences, the best first: :class:`Decoded` with an axis n before the batch, and what ranks them.

    A sequence of probability 0, with score -∞, fills a place where there are fewer than n others.
    """

    state: State  # leaves [n, ..., *features]: before the last token, which has not been fed yet
    tokens: Array  # [steps, n, ...]
    lengths: Array  # [n, ...] tokens up to and with the first ``end``
    log_probabilities: Array  # [steps, n, ...] of each token after those before it; 0 past the end
    scores: Array  # [n, ...] log probability of the sequence over length^α


class Beam(NamedTuple):
    """The K sequences kept so far."""

    state: State
    token: Array  # [K, ...] the last one
    total: Array  # [K, ...] log probability
    length: Array  # [K, ...]
    ended: Array  # [K, ...] bool


def beam_search(
    model: Any,
    params: Params,
    state: State,
    token: Array,
    *,
    steps: int,
    width: int,
    end: int | None = None,
    length_penalty: float | Array = 0.0,
    best: int = 1,
) -> Beams:
    r"""Search for the sequences of the highest score, keeping the K best at every step.

    .. math:: \mathrm{score}(y_1 … y_L) = \frac{1}{L^α} \sum_{t=1}^L \log p(y_t | y_1 … y_{t-1})

    A sequence that has ended stays in the beam as it is, in one of its K places, as long as it is among the K best;
    the loop stops once all have ended. Its length L counts ``end``. Sequences that have not ended after the last step
    are ranked among the others. Width 1 is :func:`greedy`.

    The beams are a leading batch axis: the model is stepped with tokens ``[K, ...]`` and a state of batch shape
    ``(K, ...)``. Whatever it takes within ``params``, an encoded sentence ``[S, B, E]`` for instance, is broadcast over
    the beams and never copied.

    Args:
        model: a cell or layer from token ids ``[...]`` to scores ``[..., V]``.
        params: its parameters.
        state: the state before ``token``.
        token: ``[...]`` ints, the first input.
        steps: how many tokens at most.
        width: K, the sequences kept, at most V.
        end: token that ends a sequence.
        length_penalty: α ≥ 0. At 0 the score is the log probability, which favours the short; at 1 it is the mean log
            probability of a token.
        best: n, how many sequences to return, at most K.

    Returns:
        :class:`Beams`: ``(state, tokens, lengths, log_probabilities, scores)``.

    Raises:
        TypeError, ValueError: an argument is out of range or does not fit another, the model cannot be stepped.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(5, 8), rnn.GRU(8, 8), rnn.Linear(8, 5))
        >>> params = model.init(jax.random.key(0))
        >>> told = model, params, model.initial_state((2,)), jnp.zeros(2, int)
        >>> found = rnn.decoding.beam_search(*told, steps=7, width=4, end=0, length_penalty=0.7, best=3)
        >>> found.tokens.shape, found.scores.shape
        ((7, 3, 2), (3, 2))

    Source: Graves (2012), "Sequence transduction with recurrent neural networks"; Sutskever, Vinyals & Le (2014),
    "Sequence to sequence learning with neural networks"; the division by length^α: Zhang et al., "Dive into deep
    learning", 10.8.
    """
    state, token, vocabulary = start(model, params, state, token, steps, end)
    at_most("width", width, vocabulary, "the size of the vocabulary: no more tokens can come first")
    at_most("best", best, width, "the width of the beam")
    penalty("length_penalty", length_penalty)
    search = _compiled if is_immutable(model) else _search
    return search(model, params, state, token, length_penalty, steps=steps, width=width, best=best, end=end)


def _search(
    model: Any, params: Params, state: State, token: Array, length_penalty: Any,
    *, steps: int, width: int, best: int, end: int | None,
) -> Beams:  # fmt: skip
    batch = token.shape
    places = jnp.arange(width, dtype=jnp.int32).reshape(width, *[1] * len(batch))  # [K, ...]
    places = jnp.broadcast_to(places, (width, *batch))

    def score(total: Array, length: Array) -> Array:
        return total / length.astype(total.dtype) ** jnp.asarray(length_penalty, total.dtype)

    def body(beam: Beam, t: Array) -> tuple[Beam, tuple]:
        new, scores = step(model, params, beam.state, beam.token)  # [K, ..., V]
        each = log_softmax(scores)
        length = beam.length + 1
        if end is not None:  # what has ended goes on as it is, with certainty
            as_it_is = jnp.where(jnp.arange(each.shape[-1]) == end, 0, -jnp.inf).astype(each.dtype)
            each = jnp.where(beam.ended[..., None], as_it_is, each)
            new, length = where(beam.ended, beam.state, new), jnp.where(beam.ended, beam.length, length)
        parent, token = best_of(score(beam.total[..., None] + each, length[..., None]))
        state, each, total, length, ended = take((new, each, beam.total, length, beam.ended), parent)
        each, token = of_token(each, token), token.astype(beam.token.dtype)
        ended = ended if end is None else ended | (token == end)
        return Beam(state, token, total + each, length, ended), (token, parent, each)

    def best_of(scores: Array) -> tuple[Array, Array]:
        """Where the K best of ``[K, ..., V]`` come from, and their tokens, each ``[K, ...]``."""
        V = scores.shape[-1]
        _, chosen = jax.lax.top_k(jnp.moveaxis(scores, 0, -2).reshape(*batch, width * V), width)
        chosen = jnp.moveaxis(chosen, -1, 0)
        return chosen // V, chosen % V

    def finished(beam: Beam) -> Array:
        return (beam.ended | (beam.total == -jnp.inf)).all()  # a sequence of probability 0 leads nowhere

    def back(place: Array, step: tuple) -> tuple[Array, tuple]:
        token, parent, each = take(step, place)
        return parent, (token, each)

    def spread(x: Array) -> Array:
        return jnp.broadcast_to(x, (width, *x.shape))

    scores = jax.eval_shape(model.step, params, state, token)[1]
    total = jnp.where(places == 0, 0, -jnp.inf).astype(wide(scores.dtype))  # there is but one sequence to begin with
    nothing = jnp.zeros_like(places)
    beam = Beam(jax.tree.map(spread, state), spread(token), total, nothing, nothing.astype(bool))
    fill = None if end is None else (jnp.full_like(beam.token, end), places, jnp.zeros_like(total))
    beam, trace = loop(body, beam, steps, None if end is None else finished, fill)
    _, (tokens, each) = jax.lax.scan(back, places[:best], trace, reverse=True)
    state, total, length = jax.tree.map(lambda x: x[:best], (beam.state, beam.total, beam.length))
    return Beams(state, tokens, length, each, score(total, length))


def take(tree: Any, places: Array) -> Any:
    """Reorder the leading axis of arrays ``[K, ..., *features]`` by places ``[K, ...]``, each row by its own."""

    def of(x: Array) -> Array:
        return jnp.take_along_axis(x, places.reshape(places.shape + (1,) * (x.ndim - places.ndim)), 0)

    return jax.tree.map(of, tree)


_compiled = jax.jit(_search, static_argnames=("model", "steps", "width", "best", "end"), inline=True)
