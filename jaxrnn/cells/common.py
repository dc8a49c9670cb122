"""What the built-in cells share: the input projection, and the hyperparameters of their weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxrnn import checks, initializers
from jaxrnn.compat import mesh_axes
from jaxrnn.precision import broadcast_rows
from jaxrnn.types import Array, PyTree

Blocks: TypeAlias = tuple[Array, ...]  # z = x w_xh + h w_hh + b_h by blocks of its gates
Affine: TypeAlias = Callable[[PyTree, Array], Blocks]  # the same as a function of what is scanned and of h


def project(params: Any, x: Array) -> Array:
    """``x w_xh + b_h``, the part of a step that needs no state."""
    z = x @ params.w_xh  # [..., G·H]
    return z if params.b_h is None else z + broadcast_rows(params.b_h, z)


# ---- the form of a step: where x w_xh + h w_hh + b_h is computed, the same on paper and not on a machine ----


def precomputed_projection(params: Any, xs: Array, sizes: tuple[int, ...]) -> tuple[Blocks, Affine]:
    """The products with x before the scan: one large product, and less to do in each step.

    Returns what is scanned, and the sum as a function of one entry of it and of h. Blocks are scanned apart: XLA on a
    CPU does not vectorise over slices of a slice, and with one array for all gates the scan took up to twice as long.
    """

    def affine(z: Blocks, h: Array) -> Blocks:
        return tuple(a + b for a, b in zip(z, split_gates(h @ params.w_hh, sizes), strict=True))

    return split_gates(project(params, xs), sizes), affine


def fused_projection(params: Any, xs: Array, sizes: tuple[int, ...]) -> tuple[Array, Affine]:
    """One product of ``[x, h]`` in each step, whose result is still in the cache when the gates need it."""
    w = jnp.concatenate([params.w_xh, params.w_hh])

    def affine(x: Array, h: Array) -> Blocks:
        z = jnp.concatenate([x, h], -1) @ w
        return split_gates(z if params.b_h is None else z + broadcast_rows(params.b_h, z), sizes)

    return xs, affine


def precompute_projection(cell: Any, xs: Array) -> bool:
    """Whether the products with inputs ``[T, ..., I]`` are best computed before the scan.

    An accelerator is bound by the latency of a step: the less there is in it the better. On a CPU it depends on the
    shape, and each cell says what was measured for it, ``cell.precompute_projection(rows)``, rows being those of one
    step, the product of its batch axes. Measured: forward, float32, T 64 or 128, I = H, 2 cores of an AMD EPYC; the
    tables show, by rows × units, how many times as long it took with the product in the step.
    """
    rows = math.prod(xs.shape[1:-1])
    known = isinstance(rows, int)  # not so in a program exported for any batch
    return jax.default_backend() != "cpu" or not known or cell.precompute_projection(rows)


# ---- the differential ----


def projection_tangent(params: Any, dparams: Any, x: Array, dx: Array | None) -> Array:
    """The differential of :func:`project`: ``dx w_xh + x dw_xh + db_h``; a ``dx`` of None is 0."""
    v = weight_tangent(x, dparams.w_xh)
    v = v if dx is None else v + dx @ params.w_xh
    return v if dparams.b_h is None else v + broadcast_rows(dparams.b_h, v)


def matmul_by(w: Array) -> Callable[[Array], Array]:
    """``dh ↦ dh w`` for every step of a scan, with w laid out for the way back, ``dz ↦ dz wᵀ``, which most scans take.

    On a CPU that took 0.6 to 0.9 times as long as to have each product read w across.
    """
    w_t = w.T
    return lambda dh: jax.lax.dot_general(dh, w_t, (((dh.ndim - 1,), (1,)), ((), ())))


def weight_tangent(x: Array, dw: Array) -> Array:
    """``x dw`` for all steps at once.

    On a CPU with one axis of rows, so that the transposed product, the gradient of w, has one axis to sum over: two of
    them make XLA copy an operand, which cost a quarter of the whole gradient at B 64, T 128, H 256. Where the batch may
    be spread over devices its axis is left alone, since a merged one would have to be gathered.
    """
    spread = any(axis is not None for axis in jax.typeof(x).sharding.spec)  # known where shardings are part of types
    if jax.default_backend() == "cpu" and (jax.device_count() == 1 or mesh_axes(x)) and not spread:
        return (x.reshape(-1, x.shape[-1]) @ dw).reshape(*x.shape[:-1], dw.shape[-1])
    return x @ dw


def split_gates(z: Array, sizes: tuple[int, ...]) -> Blocks:
    """Split ``[..., G·H]`` into blocks of its last axis."""
    return tuple(jax.lax.split(z, sizes, axis=z.ndim - 1))


def zero_state(cell: Any, batch_shape: tuple[int, ...]) -> Array:
    """The state before the first step, ``[*batch_shape, H]``."""
    checks.dtype_available(cell.dtype)
    return jnp.zeros((*batch_shape, cell.hidden_size), cell.dtype)


def check_hyperparameters(cell: Any) -> None:
    """The checks that all built-in cells share; normalises the dtype to its name."""
    checks.size("input_size", cell.input_size)
    checks.size("hidden_size", cell.hidden_size)
    checks.flag("use_bias", cell.use_bias)
    for name in ("w_xh_init", "w_hh_init", "b_h_init"):
        checks.initializer(name, getattr(cell, name), initializers.NAMED)
    object.__setattr__(cell, "dtype", checks.float_dtype("dtype", cell.dtype))


class Weights(NamedTuple):
    """The arrays that every built-in cell has."""

    w_xh: Array
    w_hh: Array
    b_h: Array | None


def init_weights(cell: Any, keys: Array, gates: int) -> Weights:
    """Draw ``w_xh [I, G·H]``, ``w_hh [H, G·H]`` and ``b_h [G·H]``, gate by gate, from three keys."""
    H = cell.hidden_size
    return Weights(
        initializers.per_gate("w_xh_init", cell.w_xh_init, keys[0], gates, (cell.input_size, H), cell.dtype),
        initializers.per_gate("w_hh_init", cell.w_hh_init, keys[1], gates, (H, H), cell.dtype),
        initializers.per_gate("b_h_init", cell.b_h_init, keys[2], gates, (H,), cell.dtype) if cell.use_bias else None,
    )
