"""Writing sequences: one token after another, fed back as the next input."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.types import Array, Params, State


def sample(
    model: Any, params: Params, state: State, token: Array, *, steps: int, key: Array, temperature: float | Array = 1.0
) -> tuple[State, Array]:
    r"""Draw a sequence from a language model, in one loop that may be jitted.

    .. math:: y_t \sim \mathrm{softmax}(o_t / τ), \qquad x_{t+1} = y_t

    Args:
        model: a cell or layer from token ids ``[...]`` to scores ``[..., V]``.
        params: its parameters.
        state: the state before ``token``.
        token: ``[...]`` ints, the first input.
        steps: how many tokens to draw.
        key: random key.
        temperature: τ > 0; below 1 the likely becomes likelier, at 0 the likeliest is taken always.

    Returns:
        ``(state, tokens)``: the state before the last token drawn, which has not been fed yet, and the tokens
        ``[steps, ...]``.

    Raises:
        TypeError, ValueError: the temperature is negative, the model cannot be stepped.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(5, 8), rnn.GRU(8, 8), rnn.Linear(8, 5))
        >>> params = model.init(jax.random.key(0))
        >>> start = model.initial_state((2,)), jnp.zeros(2, int)
        >>> state, tokens = rnn.decoding.sample(model, params, *start, steps=7, key=jax.random.key(1))
        >>> tokens.shape
        (7, 2)

    Source: Karpathy (2015), "The unreasonable effectiveness of recurrent neural networks".
    """
    checks.model("model", model)
    checks.size("steps", steps)
    checks.given("key", key, "jax.random.key(0) makes one")
    checks.random_key("key", key)
    checks.temperature("temperature", temperature)

    def body(carry: tuple, key: Array) -> tuple[tuple, Array]:
        state, token = carry
        state, scores = model.step(params, state, token)
        token = choose(key, scores, temperature).astype(token.dtype)
        return (state, token), token

    (state, _), tokens = jax.lax.scan(body, (state, jnp.asarray(token)), jax.random.split(key, steps))
    return state, tokens


def choose(key: Array, scores: Array, temperature: float | Array = 1.0) -> Array:
    """Draw one token a row from scores ``[..., V]``; at temperature 0 take the likeliest."""
    cold = jnp.asarray(temperature) == 0
    drawn = jax.random.categorical(key, scores / jnp.where(cold, 1, temperature).astype(scores.dtype))
    return jnp.where(cold, jnp.argmax(scores, -1), drawn)
