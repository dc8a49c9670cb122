"""What the built-in cells share: the input projection, and the hyperparameters of their weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks, initializers
from jaxrnn.types import Array, mesh_axes


def project(params: Any, x: Array) -> Array:
    """``x w_xh + b_h``, the part of a step that needs no state and may run for all steps at once."""
    z = x @ params.w_xh  # [..., G·H]
    return z if params.b_h is None else z + params.b_h


def drive(params: Any, dparams: Any, x: Array, dx: Array | None) -> Array:
    """The differential of :func:`project`: ``dx w_xh + x dw_xh + db_h``; a ``dx`` of None is 0."""
    v = of_weights(x, dparams.w_xh)
    v = v if dx is None else v + dx @ params.w_xh
    return v if dparams.b_h is None else v + dparams.b_h


def of_weights(x: Array, dw: Array) -> Array:
    """``x dw`` for all steps at once.

    On a CPU with one axis of rows, so that the transposed product, the gradient of w, has one axis to sum over: two of
    them make XLA copy an operand, which cost a quarter of the whole gradient at B 64, T 128, H 256. Where the batch may
    be spread over devices its axis is left alone, since a merged one would have to be gathered.
    """
    if jax.default_backend() == "cpu" and (jax.device_count() == 1 or mesh_axes(x)):
        return (x.reshape(-1, x.shape[-1]) @ dw).reshape(*x.shape[:-1], dw.shape[-1])
    return x @ dw


def per_gate(z: Array, hidden_size: int) -> list[Array]:
    """Split ``[..., G·H]`` into its G gates."""
    return list(jax.lax.split(z, (hidden_size,) * (z.shape[-1] // hidden_size), axis=z.ndim - 1))


def zeros(cell: Any, batch_shape: tuple[int, ...]) -> Array:
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


class Drawn(NamedTuple):
    """The arrays that every built-in cell has."""

    w_xh: Array
    w_hh: Array
    b_h: Array | None


def draw(cell: Any, keys: Array, gates: int) -> Drawn:
    """Draw ``w_xh [I, G·H]``, ``w_hh [H, G·H]`` and ``b_h [G·H]``, gate by gate, from three keys."""
    H = cell.hidden_size
    return Drawn(
        initializers.per_gate("w_xh_init", cell.w_xh_init, keys[0], gates, (cell.input_size, H), cell.dtype),
        initializers.per_gate("w_hh_init", cell.w_hh_init, keys[1], gates, (H, H), cell.dtype),
        initializers.per_gate("b_h_init", cell.b_h_init, keys[2], gates, (H,), cell.dtype) if cell.use_bias else None,
    )
