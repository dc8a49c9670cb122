"""Shared by the built-in cells: projections, their tangents, and the initialisation and checks of a cell."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxrnn import checks, initializers
from jaxrnn.cells.normalization import LayerNormParams, ProjectionNorms, Standardized, layer_norm, standardized, tangent
from jaxrnn.compat import mesh_axes
from jaxrnn.parallel.linear import from_state
from jaxrnn.precision import add_bias, cast_like, widen
from jaxrnn.types import Array, PyTree

NO_NORMS = ProjectionNorms()
Preactivations: TypeAlias = Callable[[PyTree, Array], tuple[tuple[Array, ...], Standardized | None]]

# ---- the two forms of a step: how the pre-activations x w_xh + h w_hh + b_h are computed ----


def input_projection(
    params: Any, x: Array, norm: LayerNormParams | None = None, norm_sizes: tuple[int, ...] = ()
) -> Array:
    """``x w_xh + b_h [..., G·H]``, the part of the pre-activations that does not depend on the state."""
    projection, _ = layer_norm(norm, x @ params.w_xh, norm_sizes)
    return add_bias(projection, params.b_h)


def precomputed_projection(
    params: Any, xs: Array, sizes: tuple[int, ...], norms: Any = NO_NORMS
) -> tuple[PyTree, Preactivations]:
    """The input projection of all steps before the scan: one large product, and less work in each step.

    Returns the scanned inputs, and a function of one entry of them and of h: the pre-activations, in blocks of
    ``sizes``, and with layer norm the standardized ``h w_hh``, which its tangent needs. The blocks are scanned as
    separate arrays: XLA on a CPU does not vectorise over slices of a slice, and with one array for all gates the scan
    took up to twice as long.
    """

    def preactivations(x_blocks: tuple[Array, ...], h: Array) -> tuple[tuple[Array, ...], Standardized | None]:
        projection, hw = layer_norm(norms.h, h @ params.w_hh)
        return tuple(a + b for a, b in zip(x_blocks, split_gates(projection, sizes), strict=True)), hw

    return split_gates(input_projection(params, xs, norms.x), sizes), preactivations


def fused_projection(params: Any, xs: Array, sizes: tuple[int, ...]) -> tuple[PyTree, Preactivations]:
    """One product of ``[x, h]`` in each step, whose result is still in the cache when the gates read it.

    Returns the same as :func:`precomputed_projection`.
    """
    w = jnp.concatenate([params.w_xh, params.w_hh])

    def preactivations(x: Array, h: Array) -> tuple[tuple[Array, ...], None]:
        return split_gates(add_bias(jnp.concatenate([x, h], -1) @ w, params.b_h), sizes), None

    return xs, preactivations


def should_precompute(cell: Any, xs: Array) -> bool:
    """Whether the input projection of ``xs [T, ..., I]`` is computed before the scan.

    On an accelerator always: it is bound by the latency of a step, so less work in it is faster. On a CPU it depends on
    the shape, and each cell has its measurements, ``cell.precompute_projection(rows)``, where rows are the product of
    the batch axes. Measured: forward, float32, T 64 or 128, I = H, 2 cores of an AMD EPYC. The tables show, by rows ×
    units, the time with the projection in the step divided by the time with the projection before the scan.
    """
    rows = math.prod(xs.shape[1:-1])
    symbolic = not isinstance(rows, int)  # in a program exported for any batch
    return jax.default_backend() != "cpu" or symbolic or cell.precompute_projection(rows)


# ---- the differential ----


def input_projection_tangent(
    params: Any, dparams: Any, x: Array, dx: Array | None, norm: LayerNormParams | None = None,
    dnorm: LayerNormParams | None = None, norm_sizes: tuple[int, ...] = (),
) -> Array:  # fmt: skip
    """The tangent of :func:`input_projection`, ``dx w_xh + x dw_xh + db_h``; a ``dx`` of None is 0."""
    v = weight_tangent(x, dparams.w_xh)
    v = v if dx is None else v + dx @ params.w_xh
    if norm is not None:
        v = tangent(norm, dnorm, standardized(x @ params.w_xh, norm_sizes), v, norm_sizes)
    return add_bias(v, dparams.b_h)


def weight_tangent(x: Array, dw: Array) -> Array:
    """``x dw`` for all steps at once, the tangent of ``x w`` along the weights.

    On a CPU with one axis of rows, so that the transposed product, the gradient of w, has one axis to sum over: with
    two of them XLA copies an operand, which cost a quarter of the whole gradient at B 64, T 128, H 256. Where the batch
    may be sharded its axis is not merged with time, since a merged axis would have to be gathered.
    """
    sharded = any(axis is not None for axis in jax.typeof(x).sharding.spec)  # known where shardings are part of types
    if jax.default_backend() == "cpu" and (jax.device_count() == 1 or mesh_axes(x)) and not sharded:
        return (x.reshape(-1, x.shape[-1]) @ dw).reshape(*x.shape[:-1], dw.shape[-1])
    return x @ dw


def right_matmul(w: Array) -> Callable[[Array], Array]:
    """``dh ↦ dh w`` for every step of a scan, with w stored transposed, as the backward scan reads it: ``dz ↦ dz wᵀ``.

    On a CPU that took 0.6 to 0.9 times as long as products with w itself.
    """
    w_t = w.T
    return lambda dh: jax.lax.dot_general(dh, w_t, (((dh.ndim - 1,), (1,)), ((), ())))


# ---- gates, states, parameters ----


def split_gates(z: Array, sizes: tuple[int, ...]) -> tuple[Array, ...]:
    """Split the last axis of ``[..., G·H]`` into blocks of the given sizes."""
    return tuple(jax.lax.split(z, sizes, axis=z.ndim - 1))


def zero_state(cell: Any, batch_shape: tuple[int, ...], size: int | None = None) -> Array:
    """The state before the first step, ``[*batch_shape, H]``, or of another size."""
    checks.dtype_available(cell.dtype)
    return jnp.zeros((*batch_shape, size or cell.hidden_size), cell.dtype)


def linear_step(cell: Any, params: Any, state: Any, x: Array) -> tuple[Any, Array]:
    """One step of a cell that declares its linear recurrence (:class:`jaxrnn.types.LinearRecurrence`)."""
    params, state = checks.step_arguments(cell, params, state, x)
    decay, update = widen(cell.linear_recurrence(params, x))  # in 16 bits a decay near 1 would be 1
    new = cast_like(from_state(decay, update, widen(state)), state)
    return new, cell.readout(params, new, x)


def check_hyperparameters(cell: Any) -> None:
    """Check the hyperparameters that all built-in cells have; replaces the dtype by its name."""
    checks.size("input_size", cell.input_size)
    checks.size("hidden_size", cell.hidden_size)
    checks.flag("use_bias", cell.use_bias)
    for name in ("w_xh_init", "w_hh_init", "b_h_init"):
        if hasattr(cell, name):
            checks.initializer(name, getattr(cell, name), initializers.NAMED)
    object.__setattr__(cell, "dtype", checks.float_dtype("dtype", cell.dtype))


class Weights(NamedTuple):
    """The parameters that every built-in cell has."""

    w_xh: Array
    w_hh: Array
    b_h: Array | None


def init_weights(
    cell: Any, keys: Array, gates: int, *, input_size: int | None = None, fed_back: int | None = None,
    kernel: tuple[int, ...] = (),
) -> Weights:  # fmt: skip
    """Draw ``w_xh [*kernel, I, G·H]``, ``w_hh [*kernel, H, G·H]``, ``b_h [G·H]``, gate by gate, from three keys.

    Where the state that is fed back to the gates has another size than H, ``w_hh`` has as many rows.
    """
    I, H = input_size or cell.input_size, cell.hidden_size  # noqa: E741
    return Weights(
        initializers.per_gate("w_xh_init", cell.w_xh_init, keys[0], gates, (*kernel, I, H), cell.dtype),
        initializers.per_gate("w_hh_init", cell.w_hh_init, keys[1], gates, (*kernel, fed_back or H, H), cell.dtype),
        initializers.per_gate("b_h_init", cell.b_h_init, keys[2], gates, (H,), cell.dtype) if cell.use_bias else None,
    )
