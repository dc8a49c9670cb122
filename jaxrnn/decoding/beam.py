"""Beam search: the most likely sequences among those that are among the most likely at every step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.decoding.checks import at_most, length_penalty_range
from jaxrnn.decoding.generation import (
    compile_per_model,
    generation_loop,
    log_softmax,
    prepare,
    repeat,
    step,
    take_token,
)
from jaxrnn.decoding.largest import largest
from jaxrnn.precision import wide_dtype
from jaxrnn.types import Array, Params, State, exportable


@exportable
class Beams(NamedTuple):
    """The n best sequences, the best first: :class:`Decoded` with an axis n before the batch axes, and their scores.

    If fewer than n sequences were found, the remaining entries have length 0, probability 0 and score -∞.
    """

    state: State  # leaves [n, ..., *features]: before the last token, which has not been fed yet
    tokens: Array  # [steps, n, ...]
    lengths: Array  # [n, ...] number of tokens up to the first ``eos``, inclusive
    log_probabilities: Array  # [steps, n, ...] of each token given the tokens before it; 0 after the end
    scores: Array  # [n, ...] log probability of the sequence over length^α


class Beam(NamedTuple):
    """The K unfinished sequences."""

    state: State
    token: Array  # [K, ...] the last one
    log_prob: Array  # [K, ...] of the sequence; -∞ for an empty entry or a finished sequence


class Candidates(NamedTuple):
    """The n best sequences so far; an empty entry has length 0 and score -∞."""

    state: State
    score: Array  # [n, ...]
    length: Array  # [n, ...]
    beam_index: Array  # [n, ...] in the beam after ``length`` steps


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
    r"""Search for the sequences of the highest score, with the K best at every step.

    .. math:: \mathrm{score}(y_1 … y_L) = \frac{1}{L^α} \sum_{t=1}^L \log p(y_t | y_1 … y_{t-1})

    A finished sequence, one of the K best of its step that ends with ``eos``, leaves the beam and is stored separately,
    so that it is not lost to longer sequences that score higher for a few steps. The next step again selects the K
    best continuations of the unfinished sequences. The length L of a sequence includes ``eos``. Sequences that are
    unfinished after the last step are ranked with the others. The loop stops as soon as the n best are certain: log
    probabilities only decrease, so an unfinished sequence cannot reach a score above its log probability over steps^α.

    Width 1 is :func:`greedy`: if the most likely token is ``eos``, the beam is empty.

    The beam is a leading batch axis: the model is stepped with tokens ``[K, ...]`` and a state of batch shape
    ``(K, ...)``. Arrays in ``params`` with batch axes, an encoded sentence ``[S, B, E]`` for instance, are broadcast
    over the beam and never copied.

    Args:
        model, params, state, token: as in :func:`sample`.
        steps: maximal number of tokens.
        width: K, the number of sequences at each step. It may exceed V: after the first step there are up to K·V
            candidates.
        eos: token that ends a sequence.
        length_penalty: α ≥ 0. At 0 the score is the log probability, which favours short sequences; at 1 it is the mean
            log probability of a token.
        n_best: n, the number of sequences to return, at most K.

    Returns:
        :class:`Beams`: ``(state, tokens, lengths, log_probabilities, scores)``.

    Raises:
        TypeError, ValueError: an argument is out of range or does not fit another, the model cannot be stepped.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(5, 8), rnn.GRU(8, 8), rnn.Linear(8, 5))
        >>> params = model.init(jax.random.key(0))
        >>> args = model, params, model.initial_state((2,)), jnp.zeros(2, int)
        >>> beams = rnn.decoding.beam_search(*args, steps=7, width=4, eos=0, length_penalty=0.7, n_best=3)
        >>> beams.tokens.shape, beams.scores.shape
        ((7, 3, 2), (3, 2))

    Source: Graves (2012), "Sequence transduction with recurrent neural networks"; Sutskever, Vinyals & Le (2014),
    "Sequence to sequence learning with neural networks", section 3.2: a finished sequence leaves the beam; the division
    by length^α: Zhang et al., "Dive into deep learning", 10.8.
    """
    state, token, _ = prepare(model, params, state, token, steps, eos)
    checks.size("width", width)
    at_most("n_best", n_best, width, "the width of the beam")
    length_penalty_range("length_penalty", length_penalty)
    return _search(model, params, state, token, length_penalty, steps=steps, width=width, n_best=n_best, eos=eos)


@compile_per_model("steps", "width", "n_best", "eos")
def _search(
    model: Any, params: Params, state: State, token: Array, length_penalty: Any,
    *, steps: int, width: int, n_best: int, eos: int | None,
) -> Beams:  # fmt: skip
    batch = token.shape
    dtype = wide_dtype(jax.eval_shape(model.step, params, state, token)[1].dtype)

    zeros = jnp.zeros_like(token, jnp.int32)  # like the token, so that the batch stays sharded as it is
    indices = jnp.arange(width, dtype=jnp.int32).reshape(width, *[1] * len(batch)) + repeat(zeros, width)  # [K, ...]

    def score(log_prob: Array, length: Array) -> Array:
        return log_prob / length.astype(log_prob.dtype) ** jnp.asarray(length_penalty, log_prob.dtype)

    def candidates(t: Array, beam: Beam) -> Candidates:  # the sequences in the beam, of t tokens
        return Candidates(beam.state, score(beam.log_prob, t), jnp.full_like(indices, t), indices)

    def body(carry: tuple[Beam, Candidates], t: Array) -> tuple[tuple[Beam, Candidates], tuple]:
        beam, best = carry
        new, logits = step(model, params, beam.state, beam.token)  # [K, ..., V]
        empty = (beam.log_prob == -jnp.inf)[..., None]
        log_probs = jnp.where(empty, -jnp.inf, log_softmax(logits))  # logits after an end may even be NaN
        parent, token = k_best(beam.log_prob[..., None] + log_probs)
        new, log_probs, total = gather((new, log_probs, beam.log_prob), parent)
        log_prob, token = take_token(log_probs, token), token.astype(beam.token.dtype)
        beam = Beam(new, token, total + log_prob)
        if eos is not None:
            finished = token == eos
            best = merge(best, candidates(t + 1, select(finished, beam)))
            beam = select(~finished, beam)
        return (beam, best), (token, parent, log_prob)

    def k_best(totals: Array) -> tuple[Array, Array]:
        """The parents of the K best of ``[K, ..., V]`` and their tokens, each ``[K, ...]``."""
        V = totals.shape[-1]
        chosen = top_indices(width, jnp.moveaxis(totals, -1, 1).reshape(width * V, *batch))
        return chosen // V, chosen % V

    def select(mask: Array, beam: Beam) -> Beam:
        return beam._replace(log_prob=jnp.where(mask, beam.log_prob, -jnp.inf))

    def merge(best: Candidates, others: Candidates) -> Candidates:
        """The n best of both, the best first."""
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), best, others)
        return gather(both, top_indices(n_best, both.score))

    def certain(carry: tuple[Beam, Candidates]) -> Array:
        beam, best = carry
        return (score(beam.log_prob, jnp.int32(steps)) <= best.score[-1:]).all()

    def backtrack(index: Array, step: tuple) -> tuple[Array, tuple]:
        t, trace = step
        token, parent, log_prob = gather(trace, index)
        mask = t < best.length
        return jnp.where(mask, parent, index), (jnp.where(mask, token, eos or 0), jnp.where(mask, log_prob, 0))

    log_prob = jnp.where(indices == 0, 0, -jnp.inf).astype(dtype)  # a single sequence at the start
    beam = Beam(repeat(state, width), repeat(token, width), log_prob)
    none = repeat(zeros, n_best)
    best = Candidates(repeat(state, n_best), jnp.full_like(none, -jnp.inf, dtype), none, none)
    fill = beam.token, indices, log_prob
    (beam, best), trace = generation_loop(body, (beam, best), steps, None if eos is None else certain, fill)
    best = merge(best, candidates(jnp.int32(steps), beam))  # after an early stop none of the beam is better
    times = jnp.arange(steps, dtype=jnp.int32)
    _, (tokens, log_probs) = jax.lax.scan(backtrack, best.beam_index, (times, trace), reverse=True)
    log_probs = jnp.where(best.length == 0, -jnp.inf, log_probs)
    return Beams(best.state, tokens, best.length, log_probs, best.score)


def top_indices(count: int, scores: Array) -> Array:
    """Indices of the largest along the first axis, the first of equals; NaN counts as +∞, so that it is not hidden."""
    scores = jnp.moveaxis(jnp.where(jnp.isnan(scores), jnp.inf, scores), 0, -1)
    return jnp.moveaxis(largest(scores, count)[1], -1, 0)


def gather(tree: Any, indices: Array) -> Any:
    """Index the leading axis of arrays ``[K, ..., *features]`` by ``indices [K, ...]``, for each batch entry."""

    def leaf(x: Array) -> Array:
        return jnp.take_along_axis(x, indices.reshape(indices.shape + (1,) * (x.ndim - indices.ndim)), 0)

    return jax.tree.map(leaf, tree)
