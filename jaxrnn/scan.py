"""The one scan over time in the library: a step, its masks, its direction.

What :func:`masked_scan` scans may be the step of a cell or, in :mod:`jaxrnn.bptt`, the differential of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.types import Array, PyTree, State


def masked_scan(
    step: Callable[[State, PyTree], tuple[State, PyTree]],
    first: State,
    state: State,
    xs: PyTree,
    mask: Array | None,
    resets: Array | None,
    *,
    reverse: bool,
    return_states: bool,
) -> tuple[State, PyTree, PyTree | None]:
    """Scan ``step(state, x) -> (state, y)`` over ``xs [T, ...]``.

    Args:
        step: one step.
        first: the state that a reset returns to.
        state: the state before the first step.
        xs: inputs ``[T, ...]``.
        mask: ``[T, ...]`` bools: where False the state stops and the output is 0. None: everywhere True.
        resets: ``[T, ...]`` bools: before these steps the state is ``first``. None: nowhere.
        reverse: from the last step to the first.
        return_states: whether all states are collected.

    Returns:
        The last state, the outputs ``[T, ...]`` and the states after each step, or None.
    """

    def body(state: State, inputs: tuple) -> tuple[State, tuple]:
        x, mask, reset = inputs
        new, y = step(state if reset is None else where(reset, first, state), x)
        if mask is not None:
            new, y = where(mask, new, state), where(mask, y)
        return new, (y, new if return_states else None)

    final, (ys, states) = jax.lax.scan(body, state, (xs, mask, resets), reverse=reverse)
    return final, ys, states


def scan_chunks(
    run: Callable[[State, PyTree], tuple[State, PyTree]], state: State, inputs: PyTree, reverse: bool, chunk: int | None
) -> tuple[State, PyTree]:
    """``run(state, inputs)`` on one chunk of ``chunk`` steps after the other; None: on all steps at once.

    Rematerialised, with ``jax.checkpoint(run)``, autodiff keeps only the states at their borders.

    Source: Chen et al. (2016), "Training deep nets with sublinear memory cost"; for recurrent networks Gruslys et al.
    (2016), "Memory-efficient backpropagation through time".
    """
    if chunk is None:
        return run(state, inputs)
    steps = jax.tree.leaves(inputs)[0].shape[0]
    whole = steps // chunk * chunk  # what is left over is a shorter chunk at the end
    head = jax.tree.map(lambda x: x[:whole].reshape(whole // chunk, chunk, *x.shape[1:]), inputs)
    rest = jax.tree.map(lambda x: x[whole:], inputs)
    left_over = whole < steps
    if reverse and left_over:
        state, tail = run(state, rest)
    state, ys = jax.lax.scan(run, state, head, reverse=reverse)
    ys = jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), ys)
    if not left_over:
        return state, ys
    if not reverse:
        state, tail = run(state, rest)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, tail)


def sequence_mask(steps: int, lengths: Array) -> Array:
    """Which steps lie before their sequence's end, ``[T, ...]`` bools from lengths ``[...]``."""
    return jnp.arange(steps, dtype=jnp.int32).reshape(-1, *[1] * lengths.ndim) < lengths.astype(jnp.int32)[None]


def fill_padding(mask: Array, xs: PyTree) -> PyTree:
    """Floating inputs ``[T, ..., I]`` with the first of each sequence in its padding, and 1 where there is none.

    A step that is masked is taken all the same, and its gradient is 0 times its derivative: NaN where that is not
    finite. So it is taken at an input that may occur, which 0 is not for a cell that divides by it.
    """
    if mask.shape[0] == 0:
        return xs

    def fill(x: Array) -> Array:
        if not jnp.issubdtype(x.dtype, jnp.inexact) or x.shape[: mask.ndim] != mask.shape:
            return x
        first = jax.lax.stop_gradient(where(mask[0], x[0], jnp.ones_like(x[0])))
        return where(mask, x, jnp.broadcast_to(first[None], x.shape))

    return jax.tree.map(fill, xs)


def where(mask: Array, tree: PyTree, other: PyTree = None) -> PyTree:
    """``tree`` where the mask ``[...]`` holds, else ``other`` or 0; leaves are ``[..., *features]``."""

    def select(a: Array, b: Any) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    if other is None:
        return jax.tree.map(lambda a: select(a, jnp.zeros((), a.dtype)), tree)
    return jax.tree.map(select, tree, other)
