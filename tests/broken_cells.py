"""Cells with one mistake each."""

import dataclasses

import jax
import jax.numpy as jnp

SIZE = 3


class NoStep:
    """A cell without a step."""

    def init(self, key):
        return ()

    def initial_state(self, batch_shape=()):
        return ()


class UserCell:
    """A correct user's cell, the base of those below."""

    def init(self, key):
        return ()

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, SIZE))

    def step(self, params, state, x):
        return state + x, state


@dataclasses.dataclass
class Unhashable(UserCell):
    """A mutable cell, which has no hash."""


@dataclasses.dataclass(frozen=True)
class Holding(UserCell):
    """A frozen cell that holds an array, so that it cannot be hashed."""

    weights: jax.Array


@dataclasses.dataclass(frozen=True)
class Growing(UserCell):
    """A cell whose step returns another shape."""

    def step(self, params, state, x):
        return jnp.concatenate([state, x], axis=-1), x


@dataclasses.dataclass(frozen=True)
class Reshaping(UserCell):
    """A cell whose step returns another structure."""

    def step(self, params, state, x):
        return (state, x), x


@dataclasses.dataclass(frozen=True)
class Unbatched(UserCell):
    """A cell whose state has no batch axes."""

    def initial_state(self, batch_shape=()):
        return jnp.zeros(())

    def step(self, params, state, x):
        return state + x.mean(), x


@dataclasses.dataclass(frozen=True)
class Widening(UserCell):
    """A cell with outputs wider than its inputs, without attributes for its sizes."""

    def step(self, params, state, x):
        return state, jnp.concatenate([x, x], axis=-1)
