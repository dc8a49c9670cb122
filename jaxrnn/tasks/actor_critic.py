"""Reinforcement learning with memory: a recurrent policy and a value, learned by advantage actor-critic."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import orthogonal
from jaxrnn.layers import Linear, LinearParams
from jaxrnn.layers.bidirectional import sees_future
from jaxrnn.losses.returns import generalized_advantages
from jaxrnn.types import Array, Params, State, exportable
from jaxrnn.unroll import unroll


@exportable
class ActorCriticParams(NamedTuple):
    """Parameters of the body and of the two heads."""

    body: Params
    policy: LinearParams
    value: LinearParams


@exportable
class Moment(NamedTuple):
    """Where B environments and the agent in each of them are, before the next action."""

    environment: State  # of each environment, [B, ...]
    observation: Array  # [B, ...]
    reset: Array  # bool [B]: the observation is the first of its episode
    memory: State  # of the body, after the observation before


@exportable
class Experience(NamedTuple):
    """T steps in B environments. What the last action led to is there too: entry T + 1 of the first two."""

    observations: Array  # [T + 1, B, ...]
    resets: Array  # bool [T + 1, B]: entry t is the first observation of an episode, step t - 1 the last of another
    actions: Array  # int [T, B]
    rewards: Array  # [T, B]
    memory: State  # of the body, before the first observation

    @property
    def dones(self) -> Array:
        """Bools ``[T, B]``: whether a step ended its episode."""
        return self.resets[1:]


@hyperparameters
class ActorCritic:
    r"""A body with two heads: the probabilities of actions, and the return that is expected from here on.

    .. math:: π_t = \mathrm{softmax}(h_t w_π + b_π), \qquad V_t = h_t w_v + b_v

    h are the outputs of the body over all observations so far of the episode. Whole episodes follow one another in
    time, and ``resets`` empty the body's memory between them.

    Args:
        body: a cell or layer from observations to h.
        actions: the number of actions.
        features: width of h, for a body without an ``output_size``.
        dtype: dtype of the heads; the body has its own.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range; the width is not known; the body sees
            the observations to come.

    Example:
        >>> import jax, jaxrnn as rnn, optax
        >>> from jaxrnn import learning
        >>> maze = rnn.data.environments.TMaze(5)
        >>> agent = rnn.tasks.ActorCritic(rnn.LSTM(maze.observation_size, 16), maze.actions)
        >>> key, optimizer = jax.random.key(0), optax.adam(1e-3)
        >>> def loss(params, moment, batch, key):
        ...     moment, experience = agent.rollout(params, maze, moment, steps=20, key=key)
        ...     value, metrics = agent.loss(params, experience, discount=0.98)
        ...     return value, (moment, metrics)
        >>> start = agent.start(maze, batch=8, key=key)
        >>> state = learning.train_state(agent.init(key), optimizer, carry=start)
        >>> step = jax.jit(learning.train_step(loss, optimizer))
        >>> state, metrics = step(state, (), key)
        >>> metrics["reward"].shape, state.carry.observation.shape
        ((), (8, 3))

    Source: Mnih et al. (2016), "Asynchronous methods for deep reinforcement learning", ICML; with a recurrent policy:
    Wierstra, Förster, Peters & Schmidhuber (2010), "Recurrent policy gradients".
    """

    body: Any
    actions: int
    _: dataclasses.KW_ONLY
    features: int | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        checks.layer("body", self.body)
        if sees_future(self.body):
            checks.refuse("body", "one that can be stepped", repr(self.body),
                          "an action is chosen before the observations to come", TypeError)  # fmt: skip
        checks.size("actions", self.actions)
        object.__setattr__(self, "dtype", checks.float_dtype("dtype", self.dtype))
        if self.features is None and getattr(self.body, "output_size", None) is None:
            checks.refuse("features", "the width of the body's outputs", None,
                          f"{self.body!r} has no output_size, so features=N says it")  # fmt: skip
        if self.features is not None:
            checks.size("features", self.features)

    @property
    def policy(self) -> Linear:
        """The head of the policy; its small weights make the first policy nearly uniform."""
        width = self.features or self.body.output_size
        return Linear(width, self.actions, w_init=orthogonal(0.01), dtype=self.dtype)

    @property
    def value(self) -> Linear:
        """The head of the value."""
        return Linear(self.features or self.body.output_size, 1, dtype=self.dtype)

    def init(self, key: Array) -> ActorCriticParams:
        """Draw the parameters of body and heads."""
        keys = jax.random.split(key, 3)
        return ActorCriticParams(self.body.init(keys[0]), self.policy.init(keys[1]), self.value.init(keys[2]))

    def apply(
        self,
        params: ActorCriticParams,
        observations: Array,
        memory: State | None = None,
        *,
        resets: Array | None = None,
    ) -> tuple[State, tuple[Array, Array]]:
        """Unroll the agent over observations.

        Args:
            params: parameters from :meth:`init`.
            observations: ``[T, ..., I]``.
            memory: the state of the body before them, by default the initial one.
            resets: ``[T, ...]`` bools: where an observation is the first of its episode.

        Returns:
            ``(memory, (logits [T, ..., actions], values [T, ...]))``.
        """
        memory, hs = unroll(self.body, params.body, observations, memory, resets=resets)
        return memory, (self.policy.apply(params.policy, hs), self.value.apply(params.value, hs)[..., 0])

    def start(self, environment: Any, *, batch: int, key: Array) -> Moment:
        """The first moment of a batch of environments.

        Args:
            environment: one of :mod:`jaxrnn.data.environments`, or any object with their ``reset`` and ``step``.
            batch: B, the number of environments.
            key: a random key.
        """
        checks.size("batch", batch)
        checks.random_key("key", key)
        state, observation = jax.vmap(environment.reset)(jax.random.split(key, batch))
        first = Moment(state, observation, jnp.ones(batch, bool), self.body.initial_state((batch,)))
        step, params = functools.partial(self._step, environment), jax.eval_shape(self.init, key)
        after, _ = jax.eval_shape(step, params, first, key)  # a step may give other dtypes than a start
        return jax.tree.map(lambda a, b: a if a.dtype == b.dtype else a.astype(b.dtype), first, after)

    def _step(
        self, environment: Any, params: ActorCriticParams, moment: Moment, key: Array
    ) -> tuple[Moment, tuple[Array, ...]]:
        """One action in every environment: the moment after it, and what happened."""
        state, observation, reset, memory = moment
        action_key, step_key = jax.random.split(key)
        memory, (logits, _) = self.apply(params, observation[None], memory, resets=reset[None])
        action = jax.random.categorical(action_key, logits[0])
        keys = jax.random.split(step_key, len(reset))
        state, after, reward, done = jax.vmap(environment.step)(keys, state, action)
        return Moment(state, after, done, memory), (observation, reset, action, reward)

    def rollout(
        self, params: ActorCriticParams, environment: Any, moment: Moment, *, steps: int, key: Array
    ) -> tuple[Moment, Experience]:
        r"""Act for some steps in every environment: :math:`a_t \sim π_t`.

        Args:
            params: parameters from :meth:`init`.
            environment: that of :meth:`start`.
            moment: where to begin, of :meth:`start` or of the rollout before.
            steps: T.
            key: a random key, for actions and environments.

        Returns:
            ``(moment, experience)``: the moment after the last step, and what happened. No gradient flows through it.
        """
        checks.size("steps", steps)
        checks.random_key("key", key)
        step = functools.partial(self._step, environment, jax.lax.stop_gradient(params))
        last, (observations, resets, actions, rewards) = jax.lax.scan(step, moment, jax.random.split(key, steps))
        observations = jnp.concatenate([observations, last.observation[None]])
        resets = jnp.concatenate([resets, last.reset[None]])
        return last, Experience(observations, resets, actions, rewards, moment.memory)

    def loss(
        self, params: ActorCriticParams, experience: Experience, *, discount: float = 0.99, trace: float = 0.95,
        value_weight: float = 0.5, entropy_weight: float = 0.01,
    ) -> tuple[Array, dict[str, Array]]:  # fmt: skip
        r"""The loss of advantage actor-critic.

        .. math::
            L = \frac{1}{T B} \sum_t -A_t \log π_t(a_t) + c_v (A_t + V_t' - V_t)^2 - c_H H(π_t)

        with the advantages A of :func:`jaxrnn.losses.generalized_advantages`, V' being V without a gradient, and the
        entropy :math:`H(π) = -\sum_a π(a) \log π(a)`, which keeps the policy trying other actions.

        Args:
            params: parameters from :meth:`init`.
            experience: of :meth:`rollout`, with these parameters.
            discount, trace: γ and λ, see :func:`jaxrnn.losses.generalized_advantages`.
            value_weight: :math:`c_v`.
            entropy_weight: :math:`c_H`.

        Returns:
            The loss, and the metrics ``reward`` (of a step, mean), ``episodes`` (that ended, per step), ``entropy`` and
            ``value_loss``. The mean return of an episode is ``reward / episodes``, over enough steps.
        """
        observations, resets, actions, rewards, memory = experience
        _, (logits, values) = self.apply(params, observations, memory, resets=resets)
        fixed = jax.lax.stop_gradient(values)
        advantages = generalized_advantages(rewards, fixed, resets[1:], discount=discount, trace=trace)
        log_π = jax.nn.log_softmax(logits[:-1])
        log_π_of_actions = jnp.take_along_axis(log_π, actions[..., None], -1)[..., 0]
        entropy = -(jnp.exp(log_π) * log_π).sum(-1).mean()
        value_loss = jnp.square(advantages + fixed[:-1] - values[:-1]).mean()
        loss = -(advantages * log_π_of_actions).mean() + value_weight * value_loss - entropy_weight * entropy
        episodes = resets[1:].astype(rewards.dtype).mean()
        return loss, {"reward": rewards.mean(), "episodes": episodes, "entropy": entropy, "value_loss": value_loss}
