"""One token after another: drawn, or the likeliest; in one loop, or one at a time as they come."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import is_immutable
from jaxrnn.decoding.checks import at_most, known, one_sequence, share, warmth
from jaxrnn.decoding.writing import Decoded, lengths, log_softmax, loop, of_token, start, step
from jaxrnn.precision import widen
from jaxrnn.types import Array, Params, State
from jaxrnn.walk import where


def sample(
    model: Any,
    params: Params,
    state: State,
    token: Array,
    *,
    steps: int,
    key: Array,
    temperature: float | Array = 1.0,
    top_k: int | None = None,
    top_p: float | Array | None = None,
    end: int | None = None,
) -> tuple[State, Array]:
    r"""Draw a sequence from a language model.

    .. math:: y_t \sim \mathrm{softmax}(o_t / τ), \qquad x_{t+1} = y_t

    :func:`log_probabilities` tells how likely the model finds what was drawn, :func:`lengths` where it ends.

    Args:
        model: a cell or layer from token ids ``[...]`` to scores ``[..., V]``.
        params: its parameters.
        state: the state before ``token``.
        token: ``[...]`` ints, the first input.
        steps: how many tokens to draw.
        key: random key.
        temperature: τ; below 1 the likely becomes likelier, at 0 the likeliest is taken always.
        top_k: draw among the k likeliest only.
        top_p: draw among the likeliest only: the fewest whose probability, at this temperature and after top_k, is p
            or more together.
        end: token that ends a sequence; after it only ``end`` follows, and the loop stops once all have ended. Such a
            loop has no gradient in reverse mode.

    Returns:
        ``(state, tokens)``: the state before the last token drawn (or before ``end``), which has not been fed yet, and
        the tokens ``[steps, ...]``.

    Raises:
        TypeError, ValueError: an argument is out of range or does not fit another, the model cannot be stepped.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(5, 8), rnn.GRU(8, 8), rnn.Linear(8, 5))
        >>> params = model.init(jax.random.key(0))
        >>> told = model, params, model.initial_state((2,)), jnp.zeros(2, int)
        >>> state, tokens = rnn.decoding.sample(*told, steps=7, key=jax.random.key(1), top_k=3)
        >>> tokens.shape
        (7, 2)

    Source: Karpathy (2015), "The unreasonable effectiveness of recurrent neural networks"; top-k: Fan, Lewis & Dauphin
    (2018), "Hierarchical neural story generation"; top-p: Holtzman et al. (2020), "The curious case of neural text
    degeneration".
    """
    state, token, vocabulary = start(model, params, state, token, steps, end)
    _check_drawing(key, temperature, top_k, top_p, vocabulary)
    run = _jit_sample if is_immutable(model) else _sample
    return run(model, params, state, token, key, temperature, top_p, top_k=top_k, steps=steps, end=end)


def greedy(model: Any, params: Params, state: State, token: Array, *, steps: int, end: int | None = None) -> Decoded:
    r"""Take the likeliest token at every step.

    .. math:: y_t = \arg\max_v o_{tv}, \qquad x_{t+1} = y_t

    Arguments are those of :func:`sample`. Of equally likely tokens the first is taken.

    Returns:
        :class:`Decoded`: ``(state, tokens, lengths, log_probabilities)``.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(5, 8), rnn.GRU(8, 8), rnn.Linear(8, 5))
        >>> params = model.init(jax.random.key(0))
        >>> written = rnn.decoding.greedy(model, params, model.initial_state((2,)), jnp.zeros(2, int), steps=7, end=4)
        >>> written.tokens.shape, written.lengths.shape
        ((7, 2), (2,))
    """
    state, token, _ = start(model, params, state, token, steps, end)
    run = _jit_write if is_immutable(model) else _write
    return run(model, params, state, token, steps=steps, end=end)


def stream(
    model: Any,
    params: Params,
    state: State,
    token: int | Array,
    *,
    key: Array,
    steps: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    end: int | None = None,
) -> Iterator[int]:
    """Yield the tokens of :func:`sample` one by one as they are drawn, for a reader who watches.

    One step is compiled, once for each model. The tokens are those of :func:`sample` with the same key.

    Args:
        model, params, state, key, temperature, top_k, top_p: as in :func:`sample`.
        token: the first input of one sequence, without batch axes.
        steps: how many tokens at most; by default there is no limit.
        end: token that is the last one.

    Raises:
        TypeError, ValueError: as :func:`sample`, at once and not at the first token; the token has batch axes.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(5, 8), rnn.GRU(8, 8), rnn.Linear(8, 5))
        >>> params = model.init(jax.random.key(0))
        >>> for token in rnn.decoding.stream(model, params, model.initial_state(), 0, key=jax.random.key(1), steps=3):
        ...     assert token in range(5)
    """
    for name, value in (("params", params), ("state", state), ("token", token), ("key", key)):
        known(name, value, "sample() is the loop for inside of jax.jit")
    state, x, vocabulary = start(model, params, state, token, 1 if steps is None else steps, end)
    one_sequence("token", x)
    _check_drawing(key, temperature, top_k, top_p, vocabulary)
    draw: Any = functools.partial(_jit_next, model)
    if not is_immutable(model):  # compiled for this call alone
        draw = jax.jit(functools.partial(_next, model), static_argnames="top_k")

    def write(state: State, token: Array) -> Iterator[int]:
        for t in itertools.count() if steps is None else range(steps):
            state, token = draw(params, state, token, key, t, temperature, top_p, top_k=top_k)
            yield (written := int(token))
            if written == end:
                return

    return write(state, x)


def _draw(
    model: Any, params: Params, state: State, token: Array, key: Array, temperature: Any, top_p: Any, top_k: int | None
) -> tuple[State, Array, Array]:
    """Feed a token and draw the next; returns the scores as well."""
    state, scores = step(model, params, state, token)
    return state, choose(key, scores, temperature, top_k=top_k, top_p=top_p).astype(token.dtype), scores


def _next(
    model: Any, params: Params, state: State, token: Array, key: Array, t: Array, temperature: Any, top_p: Any,
    *, top_k: int | None,
) -> tuple[State, Array]:  # fmt: skip
    """Feed a token and draw number t."""
    return _draw(model, params, state, token, jax.random.fold_in(key, t), temperature, top_p, top_k)[:2]


def _write(
    model: Any, params: Params, state: State, token: Array, key: Array | None = None, temperature: Any = None,
    top_p: Any = None, *, top_k: int | None = None, steps: int, end: int | None,
) -> Decoded:  # fmt: skip
    """The loop: drawn with a key, the likeliest without one."""
    keys = None if key is None else jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(steps))

    def body(carry: tuple, t: Array) -> tuple[tuple, tuple]:
        state, token, ended = carry
        if keys is None:
            new, scores = step(model, params, state, token)
            drawn = jnp.argmax(scores, -1).astype(token.dtype)
        else:
            new, drawn, scores = _draw(model, params, state, token, keys[t], temperature, top_p, top_k)
        each = of_token(log_softmax(scores), drawn)
        if end is not None:
            new, each = where(ended, state, new), where(~ended, each)
            drawn = jnp.where(ended, jnp.asarray(end, token.dtype), drawn)
            ended = ended | (drawn == end)
        return (new, drawn, ended), (drawn, each)

    carry = state, token, jnp.zeros(token.shape, bool)
    if end is None:
        (state, *_), (tokens, each) = loop(body, carry, steps)
        return Decoded(state, tokens, jnp.full(token.shape, steps, jnp.int32), each)
    each = jax.eval_shape(body, carry, 0)[1][1]
    fill = jnp.full_like(token, end), jnp.zeros(each.shape, each.dtype)
    (state, *_), (tokens, each) = loop(body, carry, steps, finished=lambda carry: carry[2].all(), fill=fill)
    return Decoded(state, tokens, lengths(tokens, end), each)


def _sample(*told: Any, **options: Any) -> tuple[State, Array]:
    """The same without log probabilities, which are then not computed."""
    return _write(*told, **options)[:2]


_jit_write, _jit_sample = (
    jax.jit(f, static_argnums=0, static_argnames=("top_k", "steps", "end"), inline=True) for f in (_write, _sample)
)
_jit_next = jax.jit(_next, static_argnums=0, static_argnames="top_k")


def _check_drawing(key: Any, temperature: Any, top_k: Any, top_p: Any, vocabulary: int) -> None:
    checks.given("key", key, "jax.random.key(0) makes one")
    checks.random_key("key", key)
    warmth("temperature", temperature)
    if top_k is not None:
        at_most("top_k", top_k, vocabulary, "the size of the vocabulary")
    if top_p is not None:
        share("top_p", top_p)


def choose(
    key: Array,
    scores: Array,
    temperature: float | Array = 1.0,
    *,
    top_k: int | None = None,
    top_p: float | Array | None = None,
) -> Array:
    """Draw one token a row from scores ``[..., V]``; at temperature 0 take the likeliest."""
    scores = widen(scores)
    cold = jnp.asarray(temperature) == 0
    warm = scores / jnp.where(cold, 1, temperature).astype(scores.dtype)
    if top_k is None and top_p is None:
        drawn = jax.random.categorical(key, warm)
    else:
        warm, tokens = candidates(warm, top_k=top_k, top_p=top_p)
        drawn = of_token(tokens, jax.random.categorical(key, warm))
    return jnp.where(cold, jnp.argmax(scores, -1).astype(drawn.dtype), drawn)


def candidates(scores: Array, *, top_k: int | None = None, top_p: float | Array | None = None) -> tuple[Array, Array]:
    r"""The tokens that may be drawn, the likeliest first.

    With probabilities :math:`q_1 ≥ q_2 ≥ …` of the k likeliest tokens, which sum to 1, the r-th stays if
    :math:`q_1 + … + q_{r-1} < p`. Of equally likely tokens the first comes first; one always stays.

    Args:
        scores: ``[..., V]``.
        top_k: how many to keep, by default all.
        top_p: how much probability to keep, in (0, 1].

    Returns:
        ``(scores, tokens)``, each ``[..., k]``: scores in falling order, -∞ for a token left out by top_p, and whose
        they are.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> scores, tokens = rnn.decoding.candidates(jnp.log(jnp.array([0.2, 0.5, 0.3])), top_p=0.7)
        >>> tokens.tolist(), jnp.isfinite(scores).tolist()
        ([1, 2, 0], [True, True, False])
    """
    if top_k is not None:
        at_most("top_k", top_k, scores.shape[-1], "the size of the vocabulary")
    scores, tokens = jax.lax.top_k(scores, scores.shape[-1] if top_k is None else top_k)
    if top_p is not None:
        q = jax.nn.softmax(scores)
        top_p = jnp.asarray(top_p, q.dtype)
        stays = (jnp.cumsum(q, -1) - q < top_p) | (top_p >= 1)
        scores = jnp.where(stays, scores, -jnp.inf)
    return scores, tokens
