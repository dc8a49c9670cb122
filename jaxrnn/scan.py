"""The scan over time: masks, resets, direction, and rematerialised chunks.

:func:`masked_scan` scans the step of a cell or, in :mod:`jaxrnn.bptt`, the step of its differential.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.precision import cast_like
from jaxrnn.types import Array, PyTree, Recurrence, State


def masked_scan(
    step: Recurrence,
    initial_state: State,
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
        initial_state: the state after a reset; it may have wider dtypes than ``state``.
        state: the state before the first step.
        xs: inputs ``[T, ...]``.
        mask: ``[T, ...]`` bools: where False the state is unchanged and the output is 0. None: everywhere True.
        resets: ``[T, ...]`` bools: before these steps, masked or not, the state is set to ``initial_state``. None: no
            resets.
        reverse: from the last step to the first.
        return_states: whether the state after every step is returned.

    Returns:
        The final state, the outputs ``[T, ...]``, and the states after each step or None.
    """
    masked = masked_step(step, initial_state)

    def body(state: State, inputs: tuple) -> tuple[State, tuple]:
        new, y = masked(state, inputs)
        return new, (y, new if return_states else None)

    final, (ys, states) = jax.lax.scan(body, state, (xs, mask, resets), reverse=reverse)
    return final, ys, states


def masked_step(step: Recurrence, initial_state: State) -> Recurrence:
    """The step of a state and ``(x, mask, reset)``: see :func:`masked_scan`."""

    def masked(state: State, inputs: tuple) -> tuple[State, PyTree]:
        x, mask, reset = inputs
        if reset is not None:
            state = where(reset, cast_like(initial_state, state), state)
        new, y = step(state, x)
        return (new, y) if mask is None else (where(mask, new, state), where(mask, y))

    return masked


def scan_chunks(
    scan_chunk: Callable[[State, PyTree], tuple[State, PyTree]],
    state: State,
    inputs: PyTree,
    reverse: bool,
    chunk: int | None,
) -> tuple[State, PyTree]:
    """Apply ``scan_chunk(state, inputs)`` to successive chunks of ``chunk`` steps; None: to all steps at once.

    With ``jax.checkpoint(scan_chunk)``, autodiff stores only the states between chunks.

    Source: Chen et al. (2016), "Training deep nets with sublinear memory cost"; for recurrent networks Gruslys et al.
    (2016), "Memory-efficient backpropagation through time".
    """
    if chunk is None:
        return scan_chunk(state, inputs)
    steps = jax.tree.leaves(inputs)[0].shape[0]
    whole = steps // chunk * chunk  # the remaining steps are a shorter chunk at the end
    chunks = jax.tree.map(lambda x: x[:whole].reshape(whole // chunk, chunk, *x.shape[1:]), inputs)
    rest = jax.tree.map(lambda x: x[whole:], inputs)
    has_rest = whole < steps
    if reverse and has_rest:
        state, ys_rest = scan_chunk(state, rest)
    state, ys = jax.lax.scan(scan_chunk, state, chunks, reverse=reverse)
    ys = jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), ys)
    if not has_rest:
        return state, ys
    if not reverse:
        state, ys_rest = scan_chunk(state, rest)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, ys_rest)


def previous_states(state: State, states: PyTree, reverse: bool = False) -> PyTree:
    """The state before each step, ``[T, ...]``, from the first one and the states after each step."""

    def shift(s: Array, after: Array) -> Array:
        before = [after[1:], s[None]] if reverse else [s[None], after[:-1]]
        return jnp.concatenate(before)[: after.shape[0]]  # empty where T is 0

    return jax.tree.map(shift, state, states)


def sequence_mask(steps: int, lengths: Array) -> Array:
    """Bools ``[T, ...]`` from lengths ``[...]``: True before the end of a sequence, False in its padding."""
    return jnp.arange(steps, dtype=jnp.int32).reshape(-1, *[1] * lengths.ndim) < lengths.astype(jnp.int32)[None]


def fill_padding(mask: Array, xs: PyTree) -> PyTree:
    """Replace the padding of floating inputs ``[T, ..., I]`` by each sequence's first input, by 1 in empty sequences.

    Masked steps are computed too, and their gradient is 0 times a derivative, which is NaN where the derivative is not
    finite. So they are computed at a valid input; 0 would not be one for a cell that divides by its input.
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
    """Leaves ``[..., *features]`` of ``tree`` where the mask ``[...]`` is True, else of ``other``, by default 0."""

    def select(a: Array, b: Any) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    if other is None:
        return jax.tree.map(lambda a: select(a, jnp.zeros((), a.dtype)), tree)
    return jax.tree.map(select, tree, other)
