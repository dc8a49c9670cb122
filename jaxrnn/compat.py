"""Differences between the supported versions of JAX, from 0.7 on; no other module asks for a version.

Each function names the versions that need it, and can be removed when they are no longer supported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding, PartitionSpec

from jaxrnn.types import Array, PyTree

SCANS_ARE_TRANSPOSED = jax.__version_info__ >= (0, 10)

# Raised by a condition on a symbolic size; 0.7 has it in jax.core, later versions in jax.errors
_errors: Any = jax.errors if hasattr(jax.errors, "InconclusiveDimensionOperation") else jax.core
InconclusiveDimensionOperation: type[Exception] = _errors.InconclusiveDimensionOperation


def linear_map(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """A ``function(constants, *xs)`` that is linear in ``xs``, such that JAX can transpose the scans in it.

    Before 0.10 JAX transposes a scan only with respect to arguments that ``jvp`` has marked as linear. There the
    function is replaced by its differential at 0, which is the same map; the value at 0 is unused and compiled away.
    """
    if SCANS_ARE_TRANSPOSED:
        return function

    def differential(constants: Any, *xs: PyTree) -> PyTree:
        zeros = jax.tree.map(jnp.zeros_like, xs)
        return jax.jvp(lambda *xs: function(constants, *xs), zeros, xs)[1]

    return differential


def mesh_axes(x: Any) -> frozenset[str]:
    """The mesh axes over which an array varies inside ``jax.shard_map``; none outside of it.

    They are in ``manual_axis_type`` from 0.10 on, and in ``vma`` before.
    """
    aval = jax.typeof(x)
    varying = aval.manual_axis_type.varying if hasattr(aval, "manual_axis_type") else getattr(aval, "vma", ())
    return frozenset(varying)


def typed_sharding(x: Any, *features: None) -> NamedSharding | None:
    """The sharding of an array where it is part of its type, with further unsharded axes; None where it is not.

    It is part of the type on a mesh with axes of type ``Explicit``, for the axes that are sharded.
    """
    sharding = jax.typeof(x).sharding
    sharded = any(axis is not None for axis in sharding.spec)
    return NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec, *features)) if sharded else None


def pvary(x: Array, axes: frozenset[str]) -> Array:
    """The same array, marked as varying over mesh axes, as the carry of a scan must be if its inputs are.

    It is ``jax.lax.pcast`` from 0.9 on, and ``jax.lax.pvary`` before.
    """
    missing = tuple(sorted(axes - mesh_axes(x)))
    if not missing:
        return x
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(x, missing, to="varying")
    return jax.lax.pvary(x, missing)  # type: ignore[attr-defined]


def ravel(tree: PyTree) -> tuple[Array, Callable[[Array], PyTree]]:
    """:func:`jax.flatten_util.ravel_pytree`, which before 0.8 returns a scalar for a tree without leaves."""
    return ravel_pytree(tree) if jax.tree.leaves(tree) else (jnp.zeros(0), lambda _: tree)
