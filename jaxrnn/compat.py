"""What differs between the versions of JAX that the library runs on, from 0.7 on; nothing else asks for a version.

Each function says which versions need it, and can go with the last of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxrnn.types import Array, PyTree

SCANS_ARE_TRANSPOSED = jax.__version_info__ >= (0, 10)


def linear_map(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """A ``function(constants, *xs)`` that is linear in ``xs``, such that the scans in it can be transposed.

    Before 0.10 JAX transposes a scan only along arguments that ``jvp`` has marked as linear, so there the function is
    taken as the differential at 0 of itself. What that computes at 0 is used by nothing, and compiled away.
    """
    if SCANS_ARE_TRANSPOSED:
        return function

    def differential(constants: Any, *xs: PyTree) -> PyTree:
        zeros = jax.tree.map(jnp.zeros_like, xs)
        return jax.jvp(lambda *xs: function(constants, *xs), zeros, xs)[1]

    return differential


def mesh_axes(x: Any) -> frozenset[str]:
    """The axes of a device mesh along which this part of an array differs, inside of ``jax.shard_map``; else none.

    They stand in ``manual_axis_type`` from 0.10 on, and in ``vma`` before.
    """
    kind = jax.typeof(x)
    varying = kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else getattr(kind, "vma", ())
    return frozenset(varying)


def pvary(x: Array, axes: frozenset[str]) -> Array:
    """The same array, said to differ along axes of a device mesh, as what it is joined with in a scan does.

    ``jax.lax.pcast`` is there from 0.9 on, and ``jax.lax.pvary`` before.
    """
    missing = tuple(sorted(axes - mesh_axes(x)))
    if not missing:
        return x
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(x, missing, to="varying")
    return jax.lax.pvary(x, missing)  # type: ignore[attr-defined]


def ravel(tree: PyTree) -> tuple[Array, Callable[[Array], PyTree]]:
    """:func:`jax.flatten_util.ravel_pytree`, which before 0.8 makes a number of a tree without leaves."""
    return ravel_pytree(tree) if jax.tree.leaves(tree) else (jnp.zeros(0), lambda _: tree)
