"""What all decoding methods share: checks, compilation and the loop; log probabilities of a given text."""

from __future__ import annotations

import functools
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

FORWARD = ScanOptions(None, None, reverse=False, return_states=False, chunk=None, derivative="rule")


@exportable
class Decoded(NamedTuple):
    """Generated sequences, time first.

    The log probabilities are those of the model, at temperature 1 and without top-k or top-p; their sum over time is
    the log probability of the sequence. After the end of a sequence, tokens are ``eos`` and log probabilities 0.
    """

    state: State  # before the last token, which has not been fed yet
    tokens: Array  # [steps, ...]
    lengths: Array  # [...] number of tokens up to the first ``eos``, inclusive
    log_probabilities: Array  # [steps, ...] of each token given the tokens before it


def compile_per_model(*static_argnames: str) -> Callable[[Callable], Callable]:
    """Decorate ``function(model, ...)``: it is compiled once for each immutable model; with others it runs as it is."""

    def decorate(function: Callable) -> Callable:
        compiled = jax.jit(function, static_argnums=0, static_argnames=static_argnames, inline=True)

        @functools.wraps(function)
        def call(model: Any, *args: Any, **options: Any) -> Any:
            return (compiled if is_immutable(model) else function)(model, *args, **options)

        return call

    return decorate


def prepare(
    model: Any, params: Params, state: State, token: Any, steps: int = 1, eos: int | None = None
) -> tuple[State, Array, int]:
    """Check the arguments that all decoding methods share; returns state and token as arrays to be carried, and V."""
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

    def promote(old: Any, new: Any) -> Array:  # to the dtype that a step returns
        old = jnp.asarray(old)
        return old.astype(jnp.promote_types(old.dtype, new.dtype))

    return jax.tree.map(promote, state, checks.next_state(state, after)), token, vocabulary


def step(model: Any, params: Params, state: State, token: Array) -> tuple[State, Array]:
    """One step of the model; the new state has the structure and the dtypes of the old one."""
    new, logits = model.step(params, state, token)
    return jax.tree.map(lambda old, new: new.astype(old.dtype), state, checks.next_state(state, new)), logits


def generation_loop(
    body: Callable, carry: PyTree, steps: int, finished: Callable | None = None, fill: PyTree = None
) -> tuple[PyTree, PyTree]:
    """:func:`jax.lax.scan` over ``arange(steps)``; with ``finished`` it stops as soon as ``finished(carry)`` is true.

    The outputs of the remaining steps are ``fill``.
    """
    if finished is None:
        return jax.lax.scan(body, carry, jnp.arange(steps, dtype=jnp.int32))

    def unfinished(loop: tuple) -> Array:
        t, carry, _ = loop
        return (t < steps) & ~finished(carry)

    def iterate(loop: tuple) -> tuple:
        t, carry, outputs = loop
        carry, output = body(carry, t)
        return t + 1, carry, jax.tree.map(lambda all, one: all.at[t].set(one), outputs, output)

    outputs = repeat(fill, steps)
    _, carry, outputs = jax.lax.while_loop(unfinished, iterate, (jnp.int32(0), carry, outputs))
    return carry, outputs


def repeat(tree: PyTree, count: int) -> PyTree:
    """Arrays ``[...]`` repeated along a new leading axis; the other axes are sharded as before."""
    return jax.tree.map(lambda x: jax.lax.broadcast(x, (count,)), tree)


def log_softmax(logits: Array) -> Array:
    """Log probabilities ``[..., V]``, in float32 or better."""
    return jax.nn.log_softmax(widen(logits))


def take_token(values: Array, token: Array) -> Array:
    """The entry of each row of ``[..., V]`` at the index ``token [...]``."""
    return jnp.take_along_axis(values, token[..., None].astype(jnp.int32), -1)[..., 0]


def log_probabilities(
    model: Any, params: Params, state: State, token: Array, tokens: Array, *, lengths: Array | None = None
) -> Array:
    r"""Log probability of each token of a given text, by a differentiable teacher-forced pass.

    .. math:: \log p(y_t | y_1 … y_{t-1}) = \log \mathrm{softmax}(o_t)_{y_t}, \qquad x_1 = \mathtt{token},
              \quad x_{t+1} = y_t

    Args:
        model, params, state, token: as in :func:`sample`.
        tokens: ``[T, ...]`` ints, the text after ``token``.
        lengths: ``[...]`` ints, the number of tokens of each text; later ones are padding.

    Returns:
        ``[T, ...]``, float32 or better; 0 in the padding. The sum over time is the log probability of the text.

    Raises:
        TypeError, ValueError: the arguments do not fit each other, the model cannot be stepped.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(5, 8), rnn.GRU(8, 8), rnn.Linear(8, 5))
        >>> params = model.init(jax.random.key(0))
        >>> args = model, params, model.initial_state(), jnp.asarray(0)
        >>> decoded = rnn.decoding.greedy(*args, steps=7)
        >>> again = rnn.decoding.log_probabilities(*args, decoded.tokens)
        >>> bool(jnp.allclose(again, decoded.log_probabilities, atol=1e-5))
        True
    """
    state, token, _ = prepare(model, params, state, token)
    continuation("tokens", tokens, token)
    tokens = jnp.asarray(tokens)
    checks.input_of(model, "tokens", tokens)
    if lengths is not None:
        checks.lengths(lengths, tokens.shape[0], token.shape)
    return _teacher_forced(model, params, state, token, tokens, lengths)


@compile_per_model()
def _teacher_forced(
    model: Any, params: Params, state: State, token: Array, tokens: Array, lengths: Array | None
) -> Array:
    inputs = jnp.concatenate([token[None].astype(tokens.dtype), tokens[:-1]])
    _, logits, _ = over_time(model, params, state, inputs, FORWARD, None)
    log_probs = take_token(log_softmax(logits), tokens)
    return log_probs if lengths is None else where(sequence_mask(tokens.shape[0], lengths), log_probs)


def lengths(tokens: Array, eos: int) -> Array:
    """Number of tokens ``[T, ...]`` up to the first ``eos``, inclusive; T without an ``eos``.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> rnn.decoding.lengths(jnp.array([[3, 1], [0, 2], [0, 2]]), eos=0).tolist()
        [2, 3]
    """
    is_eos = jnp.asarray(tokens) == eos
    return jnp.where(is_eos.any(0), jnp.argmax(is_eos, 0) + 1, is_eos.shape[0]).astype(jnp.int32)
