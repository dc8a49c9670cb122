"""Numbers of 16 bits: sums of many terms are accumulated in float32.

The gradient of an array that is used many times is a sum: of a bias over all T·B rows, of a row of an embedding over
its tokens, of all parameters over the steps of a scan. Autodiff accumulates it in the dtype of the parameter, and a sum
in bfloat16, with 8 significant bits, stops growing after 256 equal terms. The transpose of a cast before the use is a
cast of the gradient after the sum. So such an array is cast to float32, used, and cast back: the value is the same, the
sum is in float32, and only its result is rounded. Matrix products need no cast, as XLA accumulates them in float32
(see :func:`matmul` for an exception).

In float32 and float64 every function here leaves the program unchanged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from jaxrnn.compat import typed_sharding
from jaxrnn.types import Array, Params, PyTree, State


def is_narrow(x: Any) -> bool:
    """Whether an array has a floating dtype of fewer than 32 bits; a Python number has none."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits < 32


def wide_dtype(dtype: Any) -> Any:
    """Float32 for narrower floating dtypes; others unchanged."""
    return jnp.dtype(jnp.float32) if is_narrow(jax.ShapeDtypeStruct((), dtype)) else dtype


def widen(tree: PyTree) -> PyTree:
    """Narrow arrays cast to float32; others unchanged."""
    return jax.tree.map(lambda x: x.astype(jnp.float32) if is_narrow(x) else x, tree)


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """Floating arrays cast to a dtype; integers, bools, complex numbers and random keys unchanged."""
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """Arrays cast to the dtypes of another tree of the same structure."""
    return jax.tree.map(lambda x, like: x if x.dtype == like.dtype else x.astype(like.dtype), tree, like)


def broadcast(x: Array, shape: tuple[int, ...], sharding: NamedSharding | None = None) -> Array:
    """``x`` broadcast to a shape; its gradient, a sum over the broadcast axes, is accumulated in float32."""
    return jnp.broadcast_to(widen(x), shape, out_sharding=sharding).astype(x.dtype)


def broadcast_rows(vector: Array, like: Array) -> Array:
    """A vector ``[H]``, such as a bias or a peephole weight, broadcast to the rows of ``like [..., H]``.

    Also to their sharding, where it is part of the type: otherwise all rows of the gradient would be gathered first.
    """
    return broadcast(vector, like.shape, typed_sharding(like))


def matmul(x: Array, w: Array) -> Array:
    """``x w``, whose gradient by w is accumulated in float32.

    XLA does so by itself, but for jaxlib 0.12 on a CPU, where a product that is fused with the loss lost a tenth of the
    gradient of a readout in bfloat16.
    """
    if is_narrow(x) and x.dtype == w.dtype and jax.default_backend() == "cpu":
        return jnp.matmul(x, w, preferred_element_type=jnp.float32).astype(x.dtype)
    return x @ w


def add_bias(x: Array, b: Array | None) -> Array:
    """``x [..., H]`` plus a bias ``[H]``; None adds nothing."""
    return x if b is None else x + broadcast_rows(b, x)


def differentiable_step(step: Callable, params: Params) -> Callable[[State, PyTree], tuple[State, PyTree]]:
    """The step of any cell as a function of state and input, whose derivatives are accumulated in float32.

    With narrow parameters the tangent is that of the step computed in float32 at the same point. The parameters are
    cast to float32 outside of the function, so that their gradient is a sum in float32 over the steps of a scan.
    """
    if not any(map(is_narrow, jax.tree.leaves(params))):
        return functools.partial(step, params)

    @jax.custom_jvp
    def narrow(wide: Params, state: State, x: PyTree) -> tuple[State, PyTree]:
        return step(cast_like(wide, params), state, x)

    @narrow.defjvp
    def jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
        outputs = narrow(*primals)
        return outputs, wide_tangent(step, primals, tangents, outputs)

    return functools.partial(narrow, widen(params))


def wide_tangent(f: Callable, primals: tuple, tangents: tuple, like: PyTree) -> PyTree:
    """The tangent of ``f`` in float32 or better, rounded to the dtypes of its outputs ``like``."""
    with jax.numpy_dtype_promotion("standard"):  # constants in f may be narrow
        tangent = jax.jvp(f, widen(primals), widen(tangents))[1]

    def rounded(dy: Array, y: Array) -> Array:
        return dy if dy.dtype == jax.dtypes.float0 else dy.astype(y.dtype)

    return jax.tree.map(rounded, tangent, like)
