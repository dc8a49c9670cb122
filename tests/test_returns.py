"""Returns and advantages against a plain loop in float64; refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refuses

from jaxrnn.losses import discounted_returns, generalized_advantages

REWARDS, DONES = jnp.ones((4, 2)), jnp.zeros((4, 2), bool)


def draw(steps, batch, seed=0):
    """Rewards, values and ends of episodes."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(steps, *batch)), rng.normal(size=(steps + 1, *batch)), rng.random((steps, *batch)) < 0.3


def plain_advantages(rewards, values, dones, discount, trace):
    """Each advantage as the sum of the errors that follow it within its episode."""
    advantages = np.zeros_like(rewards)
    for t in range(len(rewards)):
        weight = np.ones(rewards.shape[1:])
        for k in range(t, len(rewards)):
            follows = ~dones[k]
            error = rewards[k] + discount * follows * values[k + 1] - values[k]
            advantages[t] += weight * error
            weight = weight * discount * trace * follows
    return advantages


@pytest.mark.parametrize(
    ("steps", "batch"),
    [pytest.param(1, (), marks=pytest.mark.slow), (12, (5,)), pytest.param(7, (2, 3), marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(("discount", "trace"), [(0.9, 0.7), (1.0, 1.0), (0.9, 0.0)])
def test_generalized_advantages(steps, batch, discount, trace, x64):
    """The recurrence is the sum; λ = 0 is the error of one step, λ = 1 the return less the value."""
    rewards, values, dones = draw(steps, batch)
    found = generalized_advantages(*map(jnp.asarray, (rewards, values, dones)), discount=discount, trace=trace)
    np.testing.assert_allclose(found, plain_advantages(rewards, values, dones, discount, trace), atol=1e-12)
    if trace == 1.0:
        returns = discounted_returns(*map(jnp.asarray, (rewards, dones, values[-1])), discount=discount)
        np.testing.assert_allclose(found, returns - values[:-1], atol=1e-12)


def test_discounted_returns(x64):
    """The discounted sum up to the end of the episode, and the last value where it goes on."""
    rewards, values, dones = draw(10, (4,), seed=1)
    found = discounted_returns(jnp.asarray(rewards), jnp.asarray(dones), jnp.asarray(values[-1]), discount=0.8)
    for t, b in np.ndindex(10, 4):
        ends = [k for k in range(t, 10) if dones[k, b]]
        last = ends[0] if ends else 9
        expected = sum(0.8 ** (k - t) * rewards[k, b] for k in range(t, last + 1))
        expected += 0 if ends else 0.8 ** (10 - t) * values[-1, b]
        assert found[t, b] == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
def test_a_step_ignores_other_episodes():
    """No gradient reaches over an end."""
    rewards, values, dones = (jnp.asarray(x) for x in draw(6, (), seed=2))
    dones = jnp.array([False, False, True, False, False, False])

    def first(rewards, values):
        return generalized_advantages(rewards, values, dones, discount=0.9, trace=0.9)[0]

    by_reward, by_value = jax.grad(first, (0, 1))(rewards, values)
    assert [bool(g) for g in by_reward] == [True, True, True, False, False, False]
    assert [bool(g) for g in by_value] == [True, True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("TypeError rewards: expected floating numbers [T, ...], got int32[4, 2]; .astype(float)",
         lambda: discounted_returns(REWARDS.astype(int), DONES, jnp.zeros(2), discount=1)),
        ("TypeError dones: expected bool[4, 2], got float32[4, 2]; dones[t] is True where step t ended its episode",
         lambda: discounted_returns(REWARDS, REWARDS, jnp.zeros(2), discount=1)),
        ("ValueError dones: expected shape [4, 2], that of rewards, got bool[3, 2]",
         lambda: discounted_returns(REWARDS, DONES[1:], jnp.zeros(2), discount=1)),
        ("ValueError last_value: expected shape [2], one value for each sequence, got float32[]",
         lambda: discounted_returns(REWARDS, DONES, jnp.array(0.0), discount=1)),
        ("ValueError discount: expected a number in [0, 1], got 2",
         lambda: discounted_returns(REWARDS, DONES, jnp.zeros(2), discount=2)),
        ("ValueError trace: expected a number in [0, 1], got -1",
         lambda: generalized_advantages(REWARDS, jnp.ones((5, 2)), DONES, discount=1, trace=-1)),
        ("ValueError values: expected shape [5, 2], one step more than rewards, got float32[4, 2]; the value of…",
         lambda: generalized_advantages(REWARDS, REWARDS, DONES, discount=1, trace=1)),
    ],
)  # fmt: skip
def test_refusals(message, call):
    """Exact messages."""
    refuses(message, call)
