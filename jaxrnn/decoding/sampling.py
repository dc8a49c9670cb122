"""Sampling and greedy decoding; in one loop, or as a stream of tokens."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import is_immutable
from jaxrnn.decoding.checks import at_most, concrete, one_sequence, temperature_range, top_p_range
from jaxrnn.decoding.generation import (
    Decoded,
    compile_per_model,
    generation_loop,
    lengths,
    log_softmax,
    prepare,
    step,
    take_token,
)
from jaxrnn.decoding.largest import largest
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
    r"""Sample a sequence from a language model.

    .. math:: y_t \sim \mathrm{softmax}(o_t / τ), \qquad x_{t+1} = y_t

    :func:`log_probabilities` gives the log probabilities of the sampled tokens, :func:`lengths` their number.

    Args:
        model: a cell or layer from token ids ``[...]`` to logits ``[..., V]``.
        params: its parameters.
        state: the state before ``token``.
        token: ``[...]`` ints, the first input.
        steps: number of tokens to sample.
        key: random key.
        temperature: τ; below 1 likely tokens become more likely, at 0 the most likely token is taken.
        top_k: sample among the k most likely tokens only.
        top_p: nucleus sampling: sample among the smallest set of most likely tokens whose probability, at this
            temperature and after top_k, is p or more in total.
        eos: token that ends a sequence; after it only ``eos`` follows, and the loop stops once all sequences have
            ended. Such a loop has no reverse-mode gradient.

    Returns:
        ``(state, tokens)``: the state before the last sampled token (or before ``eos``), which has not been fed yet,
        and the tokens ``[steps, ...]``.

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
    sampler = _sampler(key, temperature, top_k, top_p, vocabulary)
    return _sample(model, params, state, token, sampler, steps=steps, eos=eos)


def greedy(model: Any, params: Params, state: State, token: Array, *, steps: int, eos: int | None = None) -> Decoded:
    r"""Take the most likely token at every step.

    .. math:: y_t = \arg\max_v o_{tv}, \qquad x_{t+1} = y_t

    Arguments are those of :func:`sample`. Of equally likely tokens the first is taken.

    Returns:
        :class:`Decoded`: ``(state, tokens, lengths, log_probabilities)``.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(5, 8), rnn.GRU(8, 8), rnn.Linear(8, 5))
        >>> params = model.init(jax.random.key(0))
        >>> decoded = rnn.decoding.greedy(model, params, model.initial_state((2,)), jnp.zeros(2, int), steps=7, eos=4)
        >>> decoded.tokens.shape, decoded.lengths.shape
        ((7, 2), (2,))
    """
    state, token, _ = prepare(model, params, state, token, steps, eos)
    return _generate(model, params, state, token, steps=steps, eos=eos)


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
    """Yield the tokens of :func:`sample` one by one as they are sampled.

    One step is compiled, once for each model. The tokens are those of :func:`sample` with the same key.

    Args:
        model, params, state, key, temperature, top_k, top_p: as in :func:`sample`.
        token: the first input of one sequence, without batch axes.
        steps: maximal number of tokens; by default there is no limit.
        eos: the stream ends after this token.

    Raises:
        TypeError, ValueError: as :func:`sample`, at the call and not at the first token; the token has batch axes.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(5, 8), rnn.GRU(8, 8), rnn.Linear(8, 5))
        >>> params = model.init(jax.random.key(0))
        >>> for token in rnn.decoding.stream(model, params, model.initial_state(), 0, key=jax.random.key(1), steps=3):
        ...     assert token in range(5)
    """
    for name, value in (("params", params), ("state", state), ("token", token), ("key", key)):
        concrete(name, value, "sample() is the loop for inside of jax.jit")
    state, first, vocabulary = prepare(model, params, state, token, 1 if steps is None else steps, eos)
    one_sequence("token", first)
    sampler = _sampler(key, temperature, top_k, top_p, vocabulary)
    sample_next: Any = functools.partial(_jit_stream_step, model)
    if not is_immutable(model):  # compiled for this call alone
        sample_next = jax.jit(functools.partial(_stream_step, model))

    def tokens(state: State, token: Array) -> Iterator[int]:
        for t in itertools.count() if steps is None else range(steps):
            state, token = sample_next(params, state, token, sampler, t)
            yield (value := int(token))
            if value == eos:
                return

    return tokens(state, first)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["key", "temperature", "top_p"], meta_fields=["top_k"])
@dataclasses.dataclass(frozen=True)
class Sampler:
    """The sampling arguments of :func:`sample` and :func:`stream`; a pytree with a static ``top_k``."""

    key: Array
    temperature: Any
    top_p: Any
    top_k: int | None

    def token(self, key: Array, logits: Array) -> Array:
        return sample_token(key, logits, self.temperature, top_k=self.top_k, top_p=self.top_p)


def _sampler(key: Any, temperature: Any, top_k: Any, top_p: Any, vocabulary: int) -> Sampler:
    """Check the sampling arguments."""
    checks.required("key", key, "jax.random.key(0) makes one")
    checks.random_key("key", key)
    temperature_range("temperature", temperature)
    if top_k is not None:
        at_most("top_k", top_k, vocabulary, "the size of the vocabulary")
    if top_p is not None:
        top_p_range("top_p", top_p)
    return Sampler(key, temperature, top_p, top_k)


def _stream_step(
    model: Any, params: Params, state: State, token: Array, sampler: Sampler, t: Array
) -> tuple[State, Array]:
    """Feed a token and sample token number t."""
    state, logits = step(model, params, state, token)
    return state, sampler.token(jax.random.fold_in(sampler.key, t), logits).astype(token.dtype)


_jit_stream_step = jax.jit(_stream_step, static_argnums=0)


@compile_per_model("steps", "eos")
def _generate(
    model: Any, params: Params, state: State, token: Array, sampler: Sampler | None = None,
    *, steps: int, eos: int | None,
) -> Decoded:  # fmt: skip
    """The loop of :func:`sample`; without a sampler, that of :func:`greedy`."""
    keys: Any = None if sampler is None else jax.vmap(jax.random.fold_in, (None, 0))(sampler.key, jnp.arange(steps))

    def body(carry: tuple, t: Array) -> tuple[tuple, tuple]:
        state, token, ended = carry
        new, logits = step(model, params, state, token)
        next_token = jnp.argmax(logits, -1) if sampler is None else sampler.token(keys[t], logits)
        next_token = next_token.astype(token.dtype)
        log_prob = take_token(log_softmax(logits), next_token)
        if eos is not None:
            new, log_prob = where(ended, state, new), where(~ended, log_prob)
            next_token = jnp.where(ended, jnp.asarray(eos, token.dtype), next_token)
            ended = ended | (next_token == eos)
        return (new, next_token, ended), (next_token, log_prob)

    carry = state, token, jnp.zeros_like(token, bool)
    if eos is None:
        (state, *_), (tokens, log_probs) = generation_loop(body, carry, steps)
        return Decoded(state, tokens, jnp.full_like(token, steps, jnp.int32), log_probs)
    log_prob = jax.eval_shape(body, carry, 0)[1][1]
    fill = jnp.full_like(token, eos), jnp.zeros_like(token, log_prob.dtype)
    (state, *_), (tokens, log_probs) = generation_loop(body, carry, steps, lambda carry: carry[2].all(), fill)
    return Decoded(state, tokens, lengths(tokens, eos), log_probs)


@compile_per_model("steps", "eos")
def _sample(*args: Any, **options: Any) -> tuple[State, Array]:
    """State and tokens of :func:`_generate`; under ``jit`` the log probabilities are then not computed."""
    return _generate(*args, **options)[:2]


def sample_token(
    key: Array,
    logits: Array,
    temperature: float | Array = 1.0,
    *,
    top_k: int | None = None,
    top_p: float | Array | None = None,
) -> Array:
    """Sample one token for each row of logits ``[..., V]``; at temperature 0 take the most likely one.

    Arguments are those of :func:`sample`.
    """
    logits = widen(logits)
    is_greedy = jnp.asarray(temperature) == 0
    scaled = logits / jnp.where(is_greedy, 1, temperature).astype(logits.dtype)
    if top_k is None and top_p is None:
        token = jax.random.categorical(key, scaled)
    else:
        scaled, candidates = filter_logits(scaled, top_k=top_k, top_p=top_p)
        token = take_token(candidates, jax.random.categorical(key, scaled))
    return jnp.where(is_greedy, jnp.argmax(logits, -1).astype(token.dtype), token)


def filter_logits(
    logits: Array, *, top_k: int | None = None, top_p: float | Array | None = None
) -> tuple[Array, Array]:
    r"""Top-k and top-p filtering: the tokens that may be sampled, the most likely first.

    With probabilities :math:`q_1 ≥ q_2 ≥ …` of the k most likely tokens, normalised to sum to 1, the r-th is kept if
    :math:`q_1 + … + q_{r-1} < p`. Equally likely tokens stay in order; at least one is kept.

    Args:
        logits: ``[..., V]``.
        top_k: number of tokens to keep, by default all.
        top_p: probability to keep, in (0, 1].

    Returns:
        ``(logits, tokens)``, each ``[..., k]``: the logits in descending order, -∞ for a token removed by top_p, and
        the tokens that they belong to.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> logits, tokens = rnn.decoding.filter_logits(jnp.log(jnp.array([0.2, 0.5, 0.3])), top_p=0.7)
        >>> tokens.tolist(), jnp.isfinite(logits).tolist()
        ([1, 2, 0], [True, True, False])
    """
    if top_k is not None:
        at_most("top_k", top_k, logits.shape[-1], "the size of the vocabulary")
    logits, tokens = largest(logits, logits.shape[-1] if top_k is None else top_k)
    if top_p is not None:
        q = jax.nn.softmax(logits)
        top_p = jnp.asarray(top_p, q.dtype)
        kept = (jnp.cumsum(q, -1) - q < top_p) | (top_p >= 1)
        logits = jnp.where(kept, logits, -jnp.inf)
    return logits, tokens
