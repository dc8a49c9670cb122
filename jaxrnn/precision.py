"""Numbers of 16 bits: where sums of many terms are held in float32.

The gradient of what is used many times is a sum: of a bias over all T·B rows, of a row of an embedding over its tokens,
of all parameters over the steps of a scan. Autodiff adds it up in the dtype of the parameter, and bfloat16, with 8
significant bits, stops growing after 256 equal terms. A cast before the use is a cast of the gradient after the sum, so
here what is used many times is cast to float32, used, and cast back: the value is the same, the sum is in float32, and
only its result is rounded. Matrix products need no help, as XLA accumulates them in float32.

In float32 and float64 every function here leaves the program as it was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.types import Array, Params, PyTree, State


def is_narrow(x: Any) -> bool:
    """Whether an array holds floating numbers of fewer than 32 bits; a number of Python does not."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits < 32


def wide_dtype(dtype: Any) -> Any:
    """Float32 for narrower floating dtypes, others as they are."""
    return jnp.dtype(jnp.float32) if is_narrow(jax.ShapeDtypeStruct((), dtype)) else dtype


def widen(tree: PyTree) -> PyTree:
    """Narrow arrays in float32, others as they are."""
    return jax.tree.map(lambda x: x.astype(jnp.float32) if is_narrow(x) else x, tree)


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """Floating arrays in a dtype; integers, bools, complex numbers and random keys as they are."""
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """Arrays in the dtypes of another tree of the same structure."""
    return jax.tree.map(lambda x, like: x if x.dtype == like.dtype else x.astype(like.dtype), tree, like)


def broadcast(x: Array, shape: tuple[int, ...]) -> Array:
    """``x`` repeated to a shape; its gradient, the sum over the repetitions, in float32."""
    return jnp.broadcast_to(widen(x), shape).astype(x.dtype)


def broadcast_rows(vector: Array, like: Array) -> Array:
    """A vector ``[H]`` for every row of ``like [..., H]``: a bias, a peephole weight."""
    return broadcast(vector, like.shape)


def differentiable_step(step: Callable, params: Params) -> Callable[[State, PyTree], tuple[State, PyTree]]:
    """The step of any cell as a function of state and input, whose derivatives sum in float32.

    Nothing is known of the step, so where an array is narrow the tangent is that of the step in float32, at the same
    point. Parameters are held in float32, for the sum over the steps of a scan around it.
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
