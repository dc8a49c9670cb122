"""What every way of writing shares: where it starts, the loop, and what the model thinks of a given text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import is_immutable
from jaxrnn.decoding.checks import (
    continuation,
    eos_token,
    first_token,
    no_nan,
    step_logits,
    token_model,
    vocabulary_fits,
)
from jaxrnn.precision import widen
from jaxrnn.scan import sequence_mask, where
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State, exportable
from jaxrnn.unroll import over_time

FORWARDS = ScanOptions(None, None, reverse=False, return_states=False, chunk=None, derivative="rule")


@exportable
class Decoded(NamedTuple):
    """What was written, time first.

    The log probabilities are those of the model itself, at temperature 1 and without top-k or top-p; their sum over
    time is that of the text. Past a text's end, tokens are ``eos`` and log probabilities 0.
    """

    state: State  # before the last token, which has not been fed yet
    tokens: Array  # [steps, ...]
    lengths: Array  # [...] tokens up to and with the first ``eos``
    log_probabilities: Array  # [steps, ...] of each token after those before it


def prepare(
    model: Any, params: Params, state: State, token: Any, steps: int = 1, eos: int | None = None
) -> tuple[State, Array, int]:
    """Check what every way of writing is told; returns state and token as arrays to be carried, and V."""
    checks.model("model", model)
    checks.size("steps", steps)
    token = first_token("token", token)
    token_model("model", model)
    checks.input_of(model, "token", token)
    state = checks.state_like("state", model, state, token.shape)
    no_nan(params=params, state=state)
    after, logits = checks.step_result("model.step", jax.eval_shape(model.step, params, state, token))
    vocabulary = step_logits(logits, token)
    vocabulary_fits("model", model, vocabulary)
    if eos is not None:
        eos_token("eos", eos, vocabulary)

    def carried(old: Any, new: Any) -> Array:  # in the dtype that a step gives it back in
        old = jnp.asarray(old)
        return old.astype(jnp.promote_types(old.dtype, new.dtype))

    return jax.tree.map(carried, state, checks.next_state(state, after)), token, vocabulary


def step(model: Any, params: Params, state: State, token: Array) -> tuple[State, Array]:
    """One step of the model, whose next state has the structure and dtypes of the last."""
    new, logits = model.step(params, state, token)
    return jax.tree.map(lambda old, new: new.astype(old.dtype), state, checks.next_state(state, new)), logits


def generation_loop(
    body: Callable, carry: PyTree, steps: int, finished: Callable | None = None, fill: PyTree = None
) -> tuple[PyTree, PyTree]:
    """:func:`jax.lax.scan` over ``arange(steps)``, or the same that stops once ``finished(carry)`` holds.

    The outputs of the steps not taken are ``fill``.
    """
    if finished is None:
        return jax.lax.scan(body, carry, jnp.arange(steps, dtype=jnp.int32))

    def going(generation_loop: tuple) -> Array:
        t, carry, _ = generation_loop
        return (t < steps) & ~finished(carry)

    def once(generation_loop: tuple) -> tuple:
        t, carry, outs = generation_loop
        carry, out = body(carry, t)
        return t + 1, carry, jax.tree.map(lambda all, one: all.at[t].set(one), outs, out)

    outs = jax.tree.map(lambda x: jnp.broadcast_to(x, (steps, *x.shape)), fill)
    _, carry, outs = jax.lax.while_loop(going, once, (jnp.int32(0), carry, outs))
    return carry, outs


def log_softmax(logits: Array) -> Array:
    """Log probabilities ``[..., V]``, in float32 or better."""
    return jax.nn.log_softmax(widen(logits))


def take_token(each: Array, token: Array) -> Array:
    """The entry of each row ``[..., V]`` that a token ``[...]`` names."""
    return jnp.take_along_axis(each, token[..., None].astype(jnp.int32), -1)[..., 0]


def log_probabilities(
    model: Any, params: Params, state: State, token: Array, tokens: Array, *, lengths: Array | None = None
) -> Array:
    r"""Log probability of each token of a given text: the teacher-forced pass, which has a gradient.

    .. math:: \log p(y_t | y_1 … y_{t-1}) = \log \mathrm{softmax}(o_t)_{y_t}, \qquad x_1 = \mathtt{token},
              \quad x_{t+1} = y_t

    Args:
        model: a cell or layer from token ids ``[...]`` to scores ``[..., V]``.
        params: its parameters.
        state: the state before ``token``.
        token: ``[...]`` ints, the first input.
        tokens: ``[T, ...]`` ints, the text that follows it.
        lengths: ``[...]`` ints; later tokens do not count.

    Returns:
        ``[T, ...]``, float32 or better; 0 past the end. The sum over time is the log probability of the text.

    Raises:
        TypeError, ValueError: the arguments do not fit each other, the model cannot be stepped.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(5, 8), rnn.GRU(8, 8), rnn.Linear(8, 5))
        >>> params = model.init(jax.random.key(0))
        >>> args = model, params, model.initial_state(), jnp.asarray(0)
        >>> written = rnn.decoding.greedy(*args, steps=7)
        >>> again = rnn.decoding.log_probabilities(*args, written.tokens)
        >>> bool(jnp.allclose(again, written.log_probabilities, atol=1e-5))
        True
    """
    state, token, _ = prepare(model, params, state, token)
    continuation("tokens", tokens, token)
    tokens = jnp.asarray(tokens)
    checks.input_of(model, "tokens", tokens)
    if lengths is not None:
        checks.lengths(lengths, tokens.shape[0], token.shape)
    run = _jit_teacher_forced if is_immutable(model) else _teacher_forced
    return run(model, params, state, token, tokens, lengths)


def _teacher_forced(
    model: Any, params: Params, state: State, token: Array, tokens: Array, lengths: Array | None
) -> Array:
    inputs = jnp.concatenate([token[None].astype(tokens.dtype), tokens[:-1]])
    _, logits, _ = over_time(model, params, state, inputs, FORWARDS, None)
    each = take_token(log_softmax(logits), tokens)
    return each if lengths is None else where(sequence_mask(tokens.shape[0], lengths), each)


_jit_teacher_forced = jax.jit(_teacher_forced, static_argnums=0, inline=True)


def lengths(tokens: Array, eos: int) -> Array:
    """How many tokens ``[T, ...]`` there are up to and with the first ``eos``; all where there is none.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> rnn.decoding.lengths(jnp.array([[3, 1], [0, 2], [0, 2]]), eos=0).tolist()
        [2, 3]
    """
    ended = jnp.asarray(tokens) == eos
    return jnp.where(ended.any(0), jnp.argmax(ended, 0) + 1, ended.shape[0]).astype(jnp.int32)
