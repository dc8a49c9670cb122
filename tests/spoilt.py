"""Cells with one mistake each."""

import dataclasses

import jax
import jax.numpy as jnp

SIZE = 3


class NoStep:
    """A cell that forgot how to step."""

    def init(self, key):
        return ()

    def initial_state(self, batch_shape=()):
        return ()


class Own:
    """A user's cell, to be spoilt below."""

    def init(self, key):
        return ()

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, SIZE))

    def step(self, params, state, x):
        return state + x, state


@dataclasses.dataclass
class Unhashable(Own):
    """A cell that can change, and so has no hash."""


@dataclasses.dataclass(frozen=True)
class Holding(Own):
    """A frozen cell that holds an array, and so has no hash all the same."""

    weights: jax.Array


@dataclasses.dataclass(frozen=True)
class Growing(Own):
    """A cell whose step returns another shape."""

    def step(self, params, state, x):
        return jnp.concatenate([state, x], axis=-1), x


@dataclasses.dataclass(frozen=True)
class Reshaping(Own):
    """A cell whose step returns another structure."""

    def step(self, params, state, x):
        return (state, x), x


@dataclasses.dataclass(frozen=True)
class Unbatched(Own):
    """A cell whose state knows no batch axes."""

    def initial_state(self, batch_shape=()):
        return jnp.zeros(())

    def step(self, params, state, x):
        return state + x.mean(), x


@dataclasses.dataclass(frozen=True)
class Widening(Own):
    """A cell with outputs wider than its inputs, and no word of it."""

    def step(self, params, state, x):
        return state, jnp.concatenate([x, x], axis=-1)
