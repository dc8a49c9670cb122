"""Partially observable environments: what is seen now does not say what to do, so a policy needs memory.

================== ================================= ==================================== =========================
environment        to be remembered                  an episode ends                      return without memory
================== ================================= ==================================== =========================
``TMaze``          a sign at the start of a corridor with a choice at the corridor's end  at most 1.95 of 4
``RepeatPrevious`` the symbol shown k steps ago      after a fixed number of steps        1 / symbols of the largest
================== ================================= ==================================== =========================

An environment holds hyperparameters only, as a cell does; its state is an argument::

    state, observation = environment.reset(key)
    state, observation, reward, done = environment.step(key, state, action)

Both are pure functions of one environment: ``jax.vmap`` makes a batch of them, ``jax.lax.scan`` an experience of many
steps, as :meth:`jaxrnn.tasks.ActorCritic.rollout` does. After the last step of an episode, where ``done`` is True, the
state and the observation are already the first of the next episode, see :func:`auto_reset`; so ``done`` of a step is
what ``rnn.unroll(..., resets=)`` needs at the next one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters
from jaxrnn.types import Array, State, exportable

Transition: TypeAlias = tuple[State, Array, Array, Array]  # state, observation, reward, done


def auto_reset(
    step: Callable[[Any, Array, State, Array], Transition],
) -> Callable[[Any, Array, State, Array], Transition]:
    """Decorate the ``step`` of an environment, so that a new episode starts where one has ended.

    Where ``done`` is True the state and the observation are those of ``reset``; reward and ``done`` are unchanged.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxrnn.data.environments import auto_reset
        >>> class Countdown:
        ...     def reset(self, key):
        ...         return jnp.array(3), jnp.zeros(1)
        ...     @auto_reset
        ...     def step(self, key, left, action):
        ...         return left - 1, jnp.ones(1), jnp.array(0.0), left == 1
        >>> left, observation = Countdown().reset(jax.random.key(0))
        >>> for _ in range(4):
        ...     left, observation, reward, done = Countdown().step(jax.random.key(1), left, jnp.array(0))
        ...     print(left, bool(done))
        2 False
        1 False
        3 True
        2 False
    """

    @functools.wraps(step)
    def step_or_reset(environment: Any, key: Array, state: State, action: Array) -> Transition:
        step_key, reset_key = jax.random.split(key)
        *after, reward, done = step(environment, step_key, state, action)
        first = environment.reset(reset_key)
        state, observation = jax.tree.map(lambda new, old: jnp.where(done, new, old), first, tuple(after))
        return state, observation, reward, done

    return step_or_reset


NORTH, EAST, SOUTH, WEST = range(4)


@exportable
class TMazeState(NamedTuple):
    """Where the agent is, and where it should turn."""

    position: Array  # int [], steps east of the start
    goal: Array  # int [], NORTH or SOUTH


@hyperparameters
class TMaze:
    r"""A corridor with a junction at its end; a sign at its start says where to turn there.

    The agent moves north, east, south or west (0 to 3). It starts at the west end, and the junction is ``length`` steps
    east of it. Observations ``[3]``:

    .. math::
        o = \begin{cases} (0, 1, 1) & \text{at the start, if the goal is north} \\
        (1, 1, 0) & \text{at the start, if it is south} \\
        (1, 0, 1) & \text{in the corridor} \\
        (0, 1, 0) & \text{at the junction} \end{cases}

    Going north or south at the junction ends the episode: the reward is 4 towards the goal and -0.1 away from it. A
    move into a wall leaves the agent where it is, with the reward -0.1; all others have the reward 0. The largest
    return is 4. A policy without memory cannot know the goal at the junction, so it turns rightly in half of the
    episodes: its return is at most 1.95.

    Args:
        length: steps from the start to the junction.

    Raises:
        TypeError, ValueError: the length is not a positive int.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxrnn.data.environments import EAST, TMaze
        >>> maze, key = TMaze(2), jax.random.key(0)
        >>> state, observation = maze.reset(key)
        >>> for action in (EAST, EAST, state.goal):
        ...     print(observation)
        ...     state, observation, reward, done = maze.step(key, state, action)
        [1. 1. 0.]
        [1. 0. 1.]
        [0. 1. 0.]
        >>> float(reward), bool(done), int(state.position)
        (4.0, True, 0)

    Source: Bakker (2002), "Reinforcement learning with long short-term memory", NIPS 14.
    """

    length: int

    observation_size: ClassVar[int] = 3
    actions: ClassVar[int] = 4

    def __post_init__(self) -> None:
        checks.size("length", self.length)

    def reset(self, key: Array) -> tuple[TMazeState, Array]:
        """The start, with the goal north or south with equal probability."""
        goal = jnp.where(jax.random.bernoulli(key), NORTH, SOUTH)
        state = TMazeState(jnp.zeros_like(goal), goal)
        return state, self._observe(state)

    @auto_reset
    def step(self, key: Array, state: TMazeState, action: Array) -> Transition:
        """Move; turning at the junction ends the episode."""
        turns = (action == NORTH) | (action == SOUTH)
        done = turns & (state.position == self.length)
        east = jnp.where(action == EAST, 1, jnp.where(action == WEST, -1, 0))
        position = jnp.clip(state.position + east, 0, self.length)
        stands = ~done & (position == state.position)
        reward = jnp.where(done & (action == state.goal), 4.0, jnp.where(done | stands, -0.1, 0.0))
        state = TMazeState(position, state.goal)
        return state, self._observe(state), reward, done

    def _observe(self, state: TMazeState) -> Array:
        start = jnp.where(state.goal == NORTH, jnp.array([0.0, 1, 1]), jnp.array([1.0, 1, 0]))
        later = jnp.where(state.position == self.length, jnp.array([0.0, 1, 0]), jnp.array([1.0, 0, 1]))
        return jnp.where(state.position == 0, start, later)


@exportable
class RepeatPreviousState(NamedTuple):
    """The symbols to be remembered, and the time."""

    shown: Array  # int [back + 1], the newest first
    time: Array  # int [], steps since the start of the episode


@hyperparameters
class RepeatPrevious:
    r"""Symbols come at random; the right action is the symbol shown some steps ago.

    Observations ``[symbols]``: the symbol of this step, one-hot. The reward of action a at step t is

    .. math:: r_t = [t ≥ k] \; [a_t = x_{t-k}], \qquad t = 0 … n - 1

    k being ``back``, n ``length``. The largest return is n - k; without memory it is at most (n - k) / ``symbols``.

    Args:
        back: k, how many steps ago the symbol was shown, at least 1.
        symbols: the number of symbols, which is that of actions.
        length: n, the steps of an episode, above k.

    Raises:
        TypeError, ValueError: an argument is not a positive int, or the length not above ``back``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxrnn.data.environments import RepeatPrevious
        >>> environment, key = RepeatPrevious(back=1, length=5), jax.random.key(0)
        >>> state, first = environment.reset(key)
        >>> state, second, *_ = environment.step(key, state, jnp.array(0))
        >>> state, third, reward, done = environment.step(key, state, first.argmax())
        >>> float(reward), bool(done)
        (1.0, False)

    Source: Morad, Kortvelesy, Bettini, Liwicki & Prorok (2023), "POPGym: Benchmarking partially observable
    reinforcement learning", ICLR; with another scale of the reward.
    """

    back: int = 4
    symbols: int = 4
    length: int = 50

    def __post_init__(self) -> None:
        for name in ("back", "symbols", "length"):
            checks.size(name, getattr(self, name))
        if self.length <= self.back:
            checks.refuse("length", f"more than back = {self.back} steps", self.length, "no step would have a reward")

    @property
    def observation_size(self) -> int:
        return self.symbols

    @property
    def actions(self) -> int:
        return self.symbols

    def reset(self, key: Array) -> tuple[RepeatPreviousState, Array]:
        """The first symbol."""
        shown = jax.random.randint(key, (self.back + 1,), 0, self.symbols)
        return RepeatPreviousState(shown, jnp.zeros_like(shown[0])), jax.nn.one_hot(shown[0], self.symbols)

    @auto_reset
    def step(self, key: Array, state: RepeatPreviousState, action: Array) -> Transition:
        """Compare the action with the oldest symbol, and show a new one."""
        right = (state.time >= self.back) & (action == state.shown[-1])
        new = jax.random.randint(key, (1,), 0, self.symbols)
        after = RepeatPreviousState(jnp.concatenate([new, state.shown[:-1]]), state.time + 1)
        observation = jax.nn.one_hot(new[0], self.symbols)
        return after, observation, right.astype(observation.dtype), after.time == self.length
