"""Actor-critic: rollout and unroll agree over resets, the loss against a plain loop, and what memory buys."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refuses

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data.environments import RepeatPrevious, TMaze
from jaxrnn.tasks import ActorCritic

KEY, MAZE = jax.random.key(0), TMaze(1)  # short, so that many episodes follow one another
AGENT = ActorCritic(rnn.LSTM(3, 4), 4)


@pytest.fixture(scope="module")
def lived():
    """Parameters, two successive rollouts of 12 steps in 5 environments, and the moments between."""

    @jax.jit
    def live():
        params = jax.tree.map(lambda p: 3 * p, AGENT.init(KEY))
        start = AGENT.start(MAZE, batch=5, key=KEY)
        middle, first = AGENT.rollout(params, MAZE, start, steps=12, key=jax.random.key(1))
        end, second = AGENT.rollout(params, MAZE, middle, steps=12, key=jax.random.key(2))
        return params, (start, middle, end), (first, second)

    return live()


@pytest.mark.slow
def test_memory_is_that_of_the_episode(lived):
    """Acting step by step, with resets, has the memory of each episode alone, from its own start."""
    params, (_, middle, end), (first, second) = lived
    assert bool(first.resets[0].all())
    assert not bool(second.resets[0].all())
    assert int(first.dones.sum()) > 4
    observations = jnp.concatenate([first.observations[:-1], second.observations])
    resets = np.concatenate([first.resets[:-1], second.resets])
    memory, _ = AGENT.apply(params, observations[:-1], resets=jnp.asarray(resets[:-1]))
    for one, other in zip(memory, end.memory, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    for b in range(2):
        begin = max(t for t in range(24) if resets[t, b])
        alone, _ = AGENT.apply(params, observations[begin:24, b])
        np.testing.assert_allclose(alone.h, end.memory.h[b], atol=1e-6)
    np.testing.assert_array_equal(first.observations[-1], middle.observation)
    np.testing.assert_array_equal(first.resets[-1], middle.reset)


def test_dtypes():
    """A body of low precision widens its memory in the first step; a start has the dtypes of what follows."""
    agent = ActorCritic(rnn.VanillaRNN(3, 2, dtype="bfloat16"), 4)
    with jax.numpy_dtype_promotion("standard"):
        start = agent.start(MAZE, batch=2, key=KEY)
        after, _ = agent.rollout(agent.init(KEY), MAZE, start, steps=1, key=KEY)
    assert jax.tree.map(jnp.result_type, start) == jax.tree.map(jnp.result_type, after)


@pytest.mark.slow
def test_actions_follow_the_policy():
    """Their frequencies are the probabilities; a new agent is nearly uniform."""
    agent, memoryless = AGENT, ActorCritic(rnn.Linear(3, 4), 4)
    _, (logits, values) = agent.apply(agent.init(KEY), jnp.ones((2, 7, 3)))
    assert (logits.shape, values.shape) == ((2, 7, 4), (2, 7))
    np.testing.assert_allclose(jax.nn.softmax(logits), 0.25, atol=0.01)
    params = jax.tree.map(jnp.zeros_like, memoryless.init(KEY))
    params = params._replace(policy=params.policy._replace(b=jnp.log(jnp.array([0.5, 0.25, 0.2, 0.05]))))
    start = memoryless.start(MAZE, batch=50, key=KEY)
    _, lived = memoryless.rollout(params, MAZE, start, steps=80, key=KEY)
    shares = np.bincount(np.asarray(lived.actions).ravel()) / lived.actions.size
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.2, 0.05], atol=0.03)


def test_loss(lived):
    """Against a plain loop over steps; its metrics."""
    params, _, (_, lived) = lived
    loss, metrics = AGENT.loss(params, lived, discount=0.9, trace=0.8, value_weight=0.3, entropy_weight=0.2)
    _, (logits, values) = AGENT.apply(params, lived.observations, lived.memory, resets=lived.resets)
    logits, values, rewards, dones = (np.asarray(x, float) for x in (logits, values, lived.rewards, lived.dones))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    total, after, entropies = 0.0, np.zeros(5), []
    for t in reversed(range(12)):
        after = rewards[t] + 0.9 * (1 - dones[t]) * values[t + 1] - values[t] + 0.72 * (1 - dones[t]) * after
        for b in range(5):
            entropies.append(-sum(q * np.log(q) for q in p[t, b]))
            total -= after[b] * np.log(p[t, b, lived.actions[t, b]]) - 0.3 * after[b] ** 2 + 0.2 * entropies[-1]
    assert float(loss) == pytest.approx(total / 60, rel=1e-5)
    assert float(metrics["reward"]) == pytest.approx(rewards.mean(), abs=1e-6)
    assert float(metrics["episodes"]) == pytest.approx(dones.mean(), abs=1e-6)
    assert float(metrics["entropy"]) == pytest.approx(np.mean(entropies), rel=1e-5)


@pytest.mark.slow
def test_gradient(lived):
    """The value learns its target, and no gradient flows through advantages: the gradient is that of a fixed target."""
    params, _, (_, lived) = lived
    _, (_, values) = AGENT.apply(params, lived.observations, lived.memory, resets=lived.resets)
    options = {"discount": 0.9, "trace": 0.8}
    advantages = rnn.losses.generalized_advantages(lived.rewards, values, lived.dones, **options)

    def fixed(params):
        _, (logits, now) = AGENT.apply(params, lived.observations, lived.memory, resets=lived.resets)
        chosen = (jax.nn.log_softmax(logits[:-1]) * jax.nn.one_hot(lived.actions, 4)).sum(-1)
        return jnp.mean(-advantages * chosen + 0.5 * (advantages + values[:-1] - now[:-1]) ** 2)

    found = jax.grad(lambda params: AGENT.loss(params, lived, entropy_weight=0.0, **options)[0])(params)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(jax.grad(fixed)(params)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def train(agent, environment, updates, seed=0, batch=64, steps=16):
    """The mean reward of a step over the last tenth of the updates."""

    def loss(params, moment, batch, key):
        moment, experience = agent.rollout(params, environment, moment, steps=steps, key=key)
        value, metrics = agent.loss(params, experience, discount=0.95)
        return value, (moment, metrics)

    optimizer, keys = optax.adam(1e-2), jax.random.split(jax.random.key(seed), 3)
    start = agent.start(environment, batch=batch, key=keys[0])
    state = learning.train_state(agent.init(keys[1]), optimizer, carry=start)
    advance = jax.jit(learning.scan_steps(learning.train_step(loss, optimizer)))
    _, metrics = advance(state, jnp.zeros(updates), keys[2])
    last = slice(-updates // 10, None)
    return float(metrics["reward"][last].sum() / metrics["episodes"][last].sum())


@pytest.mark.slow
@pytest.mark.parametrize(
    "body", [rnn.LSTM(3, 16), rnn.GRU(3, 16), rnn.Stack(rnn.Linear(3, 16), rnn.Activation("tanh"))]
)
def test_what_memory_buys(body, optimised):
    """With memory nearly the whole return of the maze, without it half."""
    found = train(ActorCritic(body, 4), TMaze(3), 400)
    if isinstance(body, rnn.Stack):
        assert 1.5 < found < 2.1
    else:
        assert found > 3.7


@pytest.mark.slow
def test_repeat_previous(optimised):
    """A GRU repeats the symbol before last more often than guessing, 8 in 3."""
    assert train(ActorCritic(rnn.GRU(3, 32), 3), RepeatPrevious(2, 3, 10), 600) > 6


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("ValueError actions: expected a positive int, got 0", lambda: ActorCritic(rnn.GRU(3, 4), 0)),
        ("TypeError body: expected a cell or layer with init, initial_state and step, got int…",
         lambda: ActorCritic(3, 4)),
        ("ValueError features: expected a positive int, got 0", lambda: ActorCritic(rnn.GRU(3, 4), 4, features=0)),
        ("ValueError features: expected the width of the body's outputs, got None; Activation('tanh') has no…",
         lambda: ActorCritic(rnn.Activation("tanh"), 4)),
        ("ValueError batch: expected a positive int, got 0", lambda: AGENT.start(MAZE, batch=0, key=KEY)),
        ("ValueError steps: expected a positive int, got 0",
         lambda: AGENT.rollout((), MAZE, (), steps=0, key=KEY)),
    ],
)  # fmt: skip
def test_refusals(message, call):
    """Exact messages."""
    refuses(message, call)
