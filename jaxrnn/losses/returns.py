"""Returns and advantages of reinforcement learning, over episodes that follow one another in one sequence.

Both are a recurrence from the last step to the first, which is cut where an episode ends. ``dones[t]`` is True if step
t was the last of its episode: then step t + 1 is of another one, and nothing of it counts.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.types import Array


def discounted_returns(rewards: Array, dones: Array, last_value: Array, *, discount: float) -> Array:
    r"""Sum the rewards that follow, discounted, up to the end of the episode.

    .. math:: R_t = r_t + γ (1 - d_t) R_{t+1}, \qquad R_{T+1} = V_{T+1}

    Args:
        rewards: r, ``[T, ...]``.
        dones: d, bools ``[T, ...]``: whether step t ended its episode.
        last_value: ``[...]``, the estimated return after the last step, 0 if nothing follows.
        discount: γ in [0, 1].

    Returns:
        ``[T, ...]``.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> dones = jnp.array([False, True, False])
        >>> rnn.losses.discounted_returns(jnp.ones(3), dones, jnp.array(10.0), discount=0.5).tolist()
        [1.5, 1.0, 6.0]

    Source: Sutton & Barto (2018), "Reinforcement Learning", 2nd edition, section 3.3.
    """
    _check(rewards, dones, discount=discount)
    if jnp.shape(last_value) != rewards.shape[1:]:
        checks.refuse("last_value", f"shape {list(rewards.shape[1:])}, one value for each sequence",
                      checks.describe(last_value))  # fmt: skip
    return _backwards(rewards, discount * (~dones).astype(rewards.dtype), jnp.asarray(last_value, rewards.dtype))


def generalized_advantages(rewards: Array, values: Array, dones: Array, *, discount: float, trace: float) -> Array:
    r"""Estimate by how much each action was better than expected: generalised advantage estimation.

    .. math::
        δ_t &= r_t + γ (1 - d_t) V_{t+1} - V_t \\
        A_t &= δ_t + γ λ (1 - d_t) A_{t+1}, \qquad A_{T+1} = 0

    λ = 0 takes the error of one step, with the bias of V; λ = 1 takes all that follows, :math:`R_t - V_t`, with its
    variance. :math:`A_t + V_t` is the λ-return, the target of the value.

    Args:
        rewards: r, ``[T, ...]``.
        values: V, ``[T + 1, ...]``: one more than rewards, as the last step is followed by something too.
        dones: d, bools ``[T, ...]``: whether step t ended its episode.
        discount: γ in [0, 1].
        trace: λ in [0, 1].

    Returns:
        ``[T, ...]``.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> rewards, values, dones = jnp.ones(3), jnp.array([1.0, 1, 1, 10]), jnp.array([False, True, False])
        >>> rnn.losses.generalized_advantages(rewards, values, dones, discount=0.5, trace=1.0).tolist()
        [0.5, 0.0, 5.0]

    Source: Schulman, Moritz, Levine, Jordan & Abbeel (2016), "High-dimensional continuous control using generalized
    advantage estimation", ICLR.
    """
    _check(rewards, dones, discount=discount, trace=trace)
    expected = (rewards.shape[0] + 1, *rewards.shape[1:])
    if jnp.shape(values) != expected:
        checks.refuse("values", f"shape {list(expected)}, one step more than rewards", checks.describe(values),
                      "the value of what follows the last step is one too")  # fmt: skip
    goes_on = (~dones).astype(rewards.dtype)
    errors = rewards + discount * goes_on * values[1:] - values[:-1]
    return _backwards(errors, discount * trace * goes_on, jnp.zeros_like(errors[0]))


def _backwards(terms: Array, factors: Array, last: Array) -> Array:
    """``s_t = a_t + f_t s_{t+1}`` from the last step to the first."""

    def step(after: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        term, factor = inputs
        now = term + factor * after
        return now, now

    return jax.lax.scan(step, last, (terms, factors), reverse=True)[1]


def _check(rewards: Array, dones: Array, **shares: float) -> None:
    if not hasattr(rewards, "dtype") or not jnp.issubdtype(rewards.dtype, jnp.floating):
        checks.refuse("rewards", "floating numbers [T, ...]", checks.describe(rewards), ".astype(float)", TypeError)
    if not hasattr(dones, "dtype") or dones.dtype != jnp.bool_:
        checks.refuse("dones", f"bool{list(rewards.shape)}", checks.describe(dones),
                      "dones[t] is True where step t ended its episode", TypeError)  # fmt: skip
    if dones.shape != rewards.shape:
        checks.refuse("dones", f"shape {list(rewards.shape)}, that of rewards", checks.describe(dones))
    for name, value in shares.items():
        checks.number(name, value)
        if not 0 <= value <= 1:
            checks.refuse(name, "a number in [0, 1]", value)
