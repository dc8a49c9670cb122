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
from jaxrnn.decoding.checks import at_most, concrete, one_sequence, temperature_range, top_p_range
from jaxrnn.decoding.generation import Decoded, generation_loop, lengths, log_softmax, prepare, step, take_token
from jaxrnn.precision import widen
from jaxrnn.scan import where
from jaxrnn.types import Array, Params, State


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
    eos: int | None = None,
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
        eos: token that ends a sequence; after it only ``eos`` follows, and the loop stops once all have ended. Such a
            loop has no gradient in reverse mode.

    Returns:
        ``(state, tokens)``: the state before the last token drawn (or before ``eos``), which has not been fed yet, and
        the tokens ``[steps, ...]``.

    Raises:
        TypeError, ValueError: an argument is out of range or does not fit another, the model cannot be stepped.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(5, 8), rnn.GRU(8, 8), rnn.Linear(8, 5))
        >>> params = model.init(jax.random.key(0))
        >>> args = model, params, model.initial_state((2,)), jnp.zeros(2, int)
        >>> state, tokens = rnn.decoding.sample(*args, steps=7, key=jax.random.key(1), top_k=3)
        >>> tokens.shape
        (7, 2)

    Source: Karpathy (2015), "The unreasonable effectiveness of recurrent neural networks"; top-k: Fan, Lewis & Dauphin
    (2018), "Hierarchical neural story generation"; top-p: Holtzman et al. (2020), "The curious case of neural text
    degeneration".
    """
    state, token, vocabulary = prepare(model, params, state, token, steps, eos)
    _check_sampling(key, temperature, top_k, top_p, vocabulary)
    run = _jit_sample if is_immutable(model) else _sample
    return run(model, params, state, token, key, temperature, top_p, top_k=top_k, steps=steps, eos=eos)


def greedy(model: Any, params: Params, state: State, token: Array, *, steps: int, eos: int | None = None) -> Decoded:
    r"""Take the likeliest token at every step.

    .. math:: y_t = \arg\max_v o_{tv}, \qquad x_{t+1} = y_t

    Arguments are those of :func:`sample`. Of equally likely tokens the first is taken.

    Returns:
        :class:`Decoded`: ``(state, tokens, lengths, log_probabilities)``.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(5, 8), rnn.GRU(8, 8), rnn.Linear(8, 5))
        >>> params = model.init(jax.random.key(0))
        >>> written = rnn.decoding.greedy(model, params, model.initial_state((2,)), jnp.zeros(2, int), steps=7, eos=4)
        >>> written.tokens.shape, written.lengths.shape
        ((7, 2), (2,))
    """
    state, token, _ = prepare(model, params, state, token, steps, eos)
    run = _jit_generate if is_immutable(model) else _generate
    return run(model, params, state, token, steps=steps, eos=eos)


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
    eos: int | None = None,
) -> Iterator[int]:
    """Yield the tokens of :func:`sample` one by one as they are drawn, for a reader who watches.

    One step is compiled, once for each model. The tokens are those of :func:`sample` with the same key.

    Args:
        model, params, state, key, temperature, top_k, top_p: as in :func:`sample`.
        token: the first input of one sequence, without batch axes.
        steps: how many tokens at most; by default there is no limit.
        eos: token that is the last one.

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
        concrete(name, value, "sample() is the loop for inside of jax.jit")
    state, x, vocabulary = prepare(model, params, state, token, 1 if steps is None else steps, eos)
    one_sequence("token", x)
    _check_sampling(key, temperature, top_k, top_p, vocabulary)
    draw: Any = functools.partial(_jit_stream_step, model)
    if not is_immutable(model):  # compiled for this call alone
        draw = jax.jit(functools.partial(_stream_step, model), static_argnames="top_k")

    def write(state: State, token: Array) -> Iterator[int]:
        for t in itertools.count() if steps is None else range(steps):
            state, token = draw(params, state, token, key, t, temperature, top_p, top_k=top_k)
            yield (written := int(token))
            if written == eos:
                return

    return write(state, x)


def _sample_step(
    model: Any, params: Params, state: State, token: Array, key: Array, temperature: Any, top_p: Any, top_k: int | None
) -> tuple[State, Array, Array]:
    """Feed a token and draw the next; returns the scores as well."""
    state, logits = step(model, params, state, token)
    return state, sample_token(key, logits, temperature, top_k=top_k, top_p=top_p).astype(token.dtype), logits


def _stream_step(
    model: Any, params: Params, state: State, token: Array, key: Array, t: Array, temperature: Any, top_p: Any,
    *, top_k: int | None,
) -> tuple[State, Array]:  # fmt: skip
    """Feed a token and draw number t."""
    return _sample_step(model, params, state, token, jax.random.fold_in(key, t), temperature, top_p, top_k)[:2]


def _generate(
    model: Any, params: Params, state: State, token: Array, key: Array | None = None, temperature: Any = None,
    top_p: Any = None, *, top_k: int | None = None, steps: int, eos: int | None,
) -> Decoded:  # fmt: skip
    """The loop: drawn with a key, the likeliest without one."""
    keys = None if key is None else jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(steps))

    def body(carry: tuple, t: Array) -> tuple[tuple, tuple]:
        state, token, ended = carry
        if keys is None:
            new, logits = step(model, params, state, token)
            drawn = jnp.argmax(logits, -1).astype(token.dtype)
        else:
            new, drawn, logits = _sample_step(model, params, state, token, keys[t], temperature, top_p, top_k)
        each = take_token(log_softmax(logits), drawn)
        if eos is not None:
            new, each = where(ended, state, new), where(~ended, each)
            drawn = jnp.where(ended, jnp.asarray(eos, token.dtype), drawn)
            ended = ended | (drawn == eos)
        return (new, drawn, ended), (drawn, each)

    carry = state, token, jnp.zeros(token.shape, bool)
    if eos is None:
        (state, *_), (tokens, each) = generation_loop(body, carry, steps)
        return Decoded(state, tokens, jnp.full(token.shape, steps, jnp.int32), each)
    each = jax.eval_shape(body, carry, 0)[1][1]
    fill = jnp.full_like(token, eos), jnp.zeros(each.shape, each.dtype)
    (state, *_), (tokens, each) = generation_loop(body, carry, steps, finished=lambda carry: carry[2].all(), fill=fill)
    return Decoded(state, tokens, lengths(tokens, eos), each)


def _sample(*args: Any, **options: Any) -> tuple[State, Array]:
    """The same without log probabilities, which are then not computed."""
    return _generate(*args, **options)[:2]


_jit_generate, _jit_sample = (
    jax.jit(f, static_argnums=0, static_argnames=("top_k", "steps", "eos"), inline=True) for f in (_generate, _sample)
)
_jit_stream_step = jax.jit(_stream_step, static_argnums=0, static_argnames="top_k")


def _check_sampling(key: Any, temperature: Any, top_k: Any, top_p: Any, vocabulary: int) -> None:
    checks.required("key", key, "jax.random.key(0) makes one")
    checks.random_key("key", key)
    temperature_range("temperature", temperature)
    if top_k is not None:
        at_most("top_k", top_k, vocabulary, "the size of the vocabulary")
    if top_p is not None:
        top_p_range("top_p", top_p)


def sample_token(
    key: Array,
    logits: Array,
    temperature: float | Array = 1.0,
    *,
    top_k: int | None = None,
    top_p: float | Array | None = None,
) -> Array:
    """Draw one token a row from scores ``[..., V]``; at temperature 0 take the likeliest."""
    logits = widen(logits)
    cold = jnp.asarray(temperature) == 0
    warm = logits / jnp.where(cold, 1, temperature).astype(logits.dtype)
    if top_k is None and top_p is None:
        drawn = jax.random.categorical(key, warm)
    else:
        warm, tokens = filter_logits(warm, top_k=top_k, top_p=top_p)
        drawn = take_token(tokens, jax.random.categorical(key, warm))
    return jnp.where(cold, jnp.argmax(logits, -1).astype(drawn.dtype), drawn)


def filter_logits(
    logits: Array, *, top_k: int | None = None, top_p: float | Array | None = None
) -> tuple[Array, Array]:
    r"""The tokens that may be drawn, the likeliest first.

    With probabilities :math:`q_1 ≥ q_2 ≥ …` of the k likeliest tokens, which sum to 1, the r-th stays if
    :math:`q_1 + … + q_{r-1} < p`. Of equally likely tokens the first comes first; one always stays.

    Args:
        logits: ``[..., V]``.
        top_k: how many to keep, by default all.
        top_p: how much probability to keep, in (0, 1].

    Returns:
        ``(logits, tokens)``, each ``[..., k]``: scores in falling order, -∞ for a token left out by top_p, and whose
        they are.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> logits, tokens = rnn.decoding.filter_logits(jnp.log(jnp.array([0.2, 0.5, 0.3])), top_p=0.7)
        >>> tokens.tolist(), jnp.isfinite(logits).tolist()
        ([1, 2, 0], [True, True, False])
    """
    if top_k is not None:
        at_most("top_k", top_k, logits.shape[-1], "the size of the vocabulary")
    logits, tokens = jax.lax.top_k(logits, logits.shape[-1] if top_k is None else top_k)
    if top_p is not None:
        q = jax.nn.softmax(logits)
        top_p = jnp.asarray(top_p, q.dtype)
        stays = (jnp.cumsum(q, -1) - q < top_p) | (top_p >= 1)
        logits = jnp.where(stays, logits, -jnp.inf)
    return logits, tokens
