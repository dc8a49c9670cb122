"""The k largest entries of each row, without a gather where the rows are sharded over devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrnn.compat import mesh_axes
from jaxrnn.types import Array

MOST_PASSES = 64


def largest(values: Array, count: int) -> tuple[Array, Array]:
    """The ``count`` largest of ``[..., N]`` in descending order, and their indices; of equals the first, NaN as +∞.

    :func:`jax.lax.top_k`, except where the rows may be sharded: XLA cannot partition it, gathers all rows on every
    device and computes there what each device needs for its own rows only. It can partition a maximum, taken once for
    each of a few entries, and a sort. On a CPU (8 × 4,000 and 8 × 40,000) 4 passes took twice as long as ``top_k``, and
    the sort a hundred times as long; at 8 × 10,000 a sort costs as much as 260 passes, at 8 × 100 as 70.
    """
    if jax.device_count() == 1 or mesh_axes(values):
        return jax.lax.top_k(values, count)
    order = jax.lax.stop_gradient(jnp.where(jnp.isnan(values), jnp.inf, values))
    indices = _by_passes(order, count) if count <= MOST_PASSES else _by_sort(order, count)
    return jnp.take_along_axis(values, indices, -1), indices


def _by_passes(values: Array, count: int) -> Array:
    positions = jax.lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1)

    def body(taken: Array, _: None) -> tuple[Array, Array]:
        maximum = jnp.where(taken, -jnp.inf, values).max(-1, keepdims=True)
        index = jnp.where((values == maximum) & ~taken, positions, values.shape[-1]).min(-1)
        return taken | (positions == index[..., None]), index

    return jnp.moveaxis(jax.lax.scan(body, jnp.zeros_like(values, bool), None, length=count)[1], 0, -1)


def _by_sort(values: Array, count: int) -> Array:
    positions = jax.lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1)
    return jax.lax.sort((-values, positions), num_keys=1, is_stable=True)[1][..., :count]
