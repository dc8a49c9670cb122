"""The environments, step for step against plain Python; what a policy without memory gets."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refuses

from jaxrnn.data.environments import EAST, NORTH, SOUTH, WEST, RepeatPrevious, TMaze

KEY, B, T = jax.random.key(5), 16, 60
ENVIRONMENTS = {"t_maze": TMaze(2), "repeat_previous": RepeatPrevious(2, 3, 7)}
SIGNS = {NORTH: [0, 1, 1], SOUTH: [1, 1, 0]}


@functools.cache
def history(name):
    """T steps of B environments under random actions, as NumPy arrays, compiled as one scan."""
    environment = ENVIRONMENTS[name]

    @jax.jit
    def run(key):
        start = jax.vmap(environment.reset)(jax.random.split(key, B))

        def step(carry, key):
            state, observation = carry
            action = jax.random.randint(key, (B,), 0, environment.actions)
            *after, reward, done = jax.vmap(environment.step)(jax.random.split(key, B), state, action)
            return tuple(after), (state, observation, action, reward, done)

        return jax.lax.scan(step, start, jax.random.split(key, T))[1]

    return jax.tree.map(np.asarray, run(KEY))


def test_t_maze():
    """Positions, rewards and ends by the rules; the observation names no position; both goals come."""
    states, observations, actions, rewards, dones = history("t_maze")
    length, seen = ENVIRONMENTS["t_maze"].length, set()
    for b in range(B):
        position, goal = 0, states.goal[0, b]
        for t in range(T):
            assert (states.position[t, b], states.goal[t, b]) == (position, goal)
            expected = SIGNS[goal] if position == 0 else [0, 1, 0] if position == length else [1, 0, 1]
            assert observations[t, b].tolist() == expected
            action = actions[t, b]
            ends = position == length and action in (NORTH, SOUTH)
            moved = min(max(position + {EAST: 1, WEST: -1}.get(action, 0), 0), length)
            reward = 4 if ends and action == goal else -0.1 if ends or moved == position else 0
            assert (rewards[t, b], dones[t, b]) == (np.float32(reward), ends)
            seen.add((position, action, goal))
            if ends and t + 1 < T:
                position, goal = 0, states.goal[t + 1, b]
            else:
                position = moved
    assert seen == {(p, a, g) for p in range(length + 1) for a in range(4) for g in (NORTH, SOUTH)}


@pytest.mark.slow
def test_t_maze_without_memory():
    """A fixed turn is right in half of the episodes; the sign tells the right one."""
    maze = TMaze(1)
    state, observation = jax.vmap(maze.reset)(jax.random.split(KEY, 2000))
    assert abs(np.mean(np.asarray(state.goal) == NORTH) - 0.5) < 0.04
    told = jnp.where(observation[:, 2] == 1, NORTH, SOUTH)
    step = jax.jit(jax.vmap(maze.step))
    state, observation, *_ = step(jax.random.split(KEY, 2000), state, jnp.full(2000, EAST))
    assert (np.asarray(observation) == [0, 1, 0]).all()
    for action, best in ((jnp.full(2000, NORTH), 1.95), (told, 4.0)):
        *_, reward, done = step(jax.random.split(KEY, 2000), state, action)
        assert np.asarray(done).all()
        assert np.mean(np.asarray(reward)) == pytest.approx(best, abs=0.15 if best < 4 else 1e-6)


def test_repeat_previous():
    """The right action is the symbol of two steps before; episodes have seven steps."""
    states, observations, actions, rewards, dones = history("repeat_previous")
    environment, symbols = ENVIRONMENTS["repeat_previous"], observations.argmax(-1)
    assert (observations.sum(-1) == 1).all()
    for t in range(T):
        place = t % environment.length
        assert (states.time[t] == place).all()
        assert (dones[t] == (place == environment.length - 1)).all()
        right = actions[t] == symbols[t - environment.back] if place >= environment.back else np.zeros(B, bool)
        assert (rewards[t] == right).all()
    assert np.bincount(symbols.ravel()).min() > 0.9 * symbols.size / environment.symbols


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_key_determines_the_episode(name):
    """The same key gives the same start, other keys other ones; an environment is its constructor call."""
    environment = ENVIRONMENTS[name]
    starts = [environment.reset(jax.random.key(n))[1].tolist() for n in (0, 0, *range(1, 9))]
    assert starts[0] == starts[1]
    assert any(start != starts[0] for start in starts)
    assert eval(repr(environment)) == environment
    assert environment.reset(KEY)[1].shape == (environment.observation_size,)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("ValueError length: expected a positive int, got 0", lambda: TMaze(0)),
        ("TypeError length: expected a positive int, got float 3.0", lambda: TMaze(3.0)),
        ("ValueError back: expected a positive int, got 0", lambda: RepeatPrevious(0)),
        ("ValueError length: expected more than back = 4 steps, got 4; no step would have a reward",
         lambda: RepeatPrevious(4, length=4)),
    ],
)  # fmt: skip
def test_refusals(message, call):
    """Exact messages."""
    refuses(message, call)
