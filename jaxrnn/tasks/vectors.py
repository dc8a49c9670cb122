"""States as vectors: what an encoder ends in as one vector, and what a decoder starts from out of one."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxrnn.layers import FreshState
from jaxrnn.types import Array, State


def float_leaves(state: State) -> list[Array]:
    """The floating arrays of a state."""
    return [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def given_leaves(state: State) -> list[Array]:
    """The floating arrays of a state, but those that are fresh states of a LearnedState."""
    parts = jax.tree.leaves(state, is_leaf=is_learned)
    return [leaf for part in parts if not is_learned(part) for leaf in float_leaves(part)]


def is_learned(state: State) -> bool:
    """Whether a part of a state is that of a LearnedState."""
    return isinstance(state, FreshState)


def state_size(state: State) -> int:
    """Features of a state without batch axes."""
    return sum(leaf.size for leaf in float_leaves(state))


def concatenate_state(state: State, batch: tuple[int, ...]) -> Array:
    """Flatten and concatenate the floating arrays ``[..., *features]`` of a state: ``[..., C]``."""
    return jnp.concatenate([leaf.reshape(*batch, -1) for leaf in float_leaves(state)], -1)


def split_state(vector: Array, like: State) -> State:
    """Split a vector ``[..., C]`` into the floating arrays of a state that are not learned."""
    leaves, structure = jax.tree.flatten(like, is_leaf=is_learned)
    batch, start, new = vector.shape[:-1], 0, []
    for leaf in leaves:
        if not is_learned(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating):
            size = math.prod(leaf.shape[len(batch) :])
            leaf, start = vector[..., start : start + size].reshape(leaf.shape), start + size
        new.append(leaf)
    return jax.tree.unflatten(structure, new)
