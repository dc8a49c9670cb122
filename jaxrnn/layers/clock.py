"""Masks of dropout that follow the steps of a sequence, not the chunks or the batch in which it comes.

A layer with a :class:`ClockState` counts the steps that a sequence has taken, and keeps the step at which it began: 0,
or that of its last reset. With a key, row r of the batch has masks drawn from

- ``fold_in(fold_in(k, start), r)`` where one mask holds for the whole sequence,
- ``fold_in(fold_in(k, time), r)`` where every step has its own,

k being ``jax.random.split(key)[0]``; the cell inside has the other half. So chunks with the same key and the carried
state have the masks of one long unroll, wherever they are cut, a resumed run has those of an uninterrupted one, and a
batch split over devices those of a single one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import replace_cells
from jaxrnn.layers.pointwise import Embedding
from jaxrnn.layers.wrappers import Wrapper, named_state
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State, exportable, is_layer
from jaxrnn.unroll import one_step, over_time


@exportable
class ClockState(NamedTuple):
    """The state of the cell, the number of steps taken ``[...]``, and how many were before the present sequence."""

    state: State
    time: Array
    start: Array


class Clock(NamedTuple):
    """Time, and the start of the sequence, before a step ``[*batch]`` or before every step ``[T, *batch]``.

    Where the start is the same for all steps, it is ``[1, *batch]``.
    """

    time: Array
    start: Array
    batch: tuple[int, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        """``(T,)``, or ``()`` for one step."""
        return self.time.shape[: self.time.ndim - len(self.batch)]


class ClockedWrapper(Wrapper):
    """A layer around a cell whose masks follow a clock.

    A subclass is a dataclass with a field ``cell``, and overrides ``prepare``.
    """

    cell: Any

    @property
    def layer(self) -> Any:
        return self.cell

    @property
    def adapted(self) -> Any:
        return self.cell

    def prepare(
        self, key: Array | None, clock: Clock, params: Params, x: PyTree
    ) -> tuple[Callable[[Any], Any], PyTree]:
        """What becomes of the cell, and the inputs that it then takes, of one step or of all."""
        return unchanged, x

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> ClockState:
        """The initial state of the cell, and the clock at 0."""
        zero = jnp.zeros(batch_shape, jnp.int32)
        return ClockState(self.cell.initial_state(batch_shape), zero, zero)

    def step(self, params: Params, state: ClockState, x: PyTree, *, key: Array | None = None) -> tuple[ClockState, Any]:
        """One step; with the key of an unroll it has the masks of that step of it."""
        inner, time, start = named_state(state, ClockState)
        mask_key, cell_key = split(key)
        change, x = self.prepare(mask_key, Clock(time, start, jnp.shape(time)), params, x)
        inner, y = one_step(replace_cells(self.cell, change), params, inner, x, cell_key)
        return ClockState(inner, time + 1, start), y

    def over_time(
        self, params: Params, state: ClockState, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[ClockState, PyTree, PyTree | None]:
        mask_key, cell_key = split(key)
        clock, after, last = clocks(state, options, jax.tree.leaves(xs)[0].shape[0])
        change, xs = self.prepare(mask_key, clock, params, xs)
        if options.initial is not None:
            options = options._replace(initial=options.initial.state)
        model = replace_cells(self.cell, change)
        final, ys, states = over_time(model, params, state.state, xs, options, cell_key)
        return ClockState(final, *last), ys, ClockState(states, *after) if options.return_states else None


def unchanged(cell: Any) -> Any:
    """The cell itself."""
    return cell


def split(key: Array | None) -> Any:
    """The key of the masks and that of the cell."""
    return (None, None) if key is None else jax.random.split(key)


def innermost(model: Any) -> Any:
    """The cell in wrappers of cells."""
    return innermost(model.adapted) if hasattr(model, "adapted") else model


def check_cell(owner: str, cell: Any) -> None:
    """A hashable cell, or one in other wrappers of cells."""
    checks.layer("cell", cell)
    if is_layer(innermost(cell)):
        fix = "rnn.WordDropout drops words" if isinstance(cell, Embedding) else "wrap each cell in it"
        checks.refuse("cell", f"a cell for {owner}", repr(cell), fix, TypeError)


def clocks(state: ClockState, options: ScanOptions, steps: int) -> tuple[Clock, tuple, tuple]:
    """The clock before every step; time and start after every step, and after the last. Padding takes no time."""
    _, time, start = state
    taken = jnp.ones((steps, *time.shape), jnp.int32) if options.mask is None else options.mask.astype(jnp.int32)
    times = time[None] + jax.lax.cumsum(taken, 0, reverse=options.reverse) - taken
    starts, last = start[None], start
    if options.resets is not None:  # time never decreases: the latest reset is the largest
        begun = (times + 1) * options.resets.astype(jnp.int32) - 1  # where there is none, -1
        starts = jnp.maximum(starts, jax.lax.cummax(begun, 0, reverse=options.reverse))
        last = jnp.maximum(last, begun.max(0, initial=-1))
    after = times + taken, jnp.broadcast_to(starts, times.shape)
    return Clock(times, starts, time.shape), after, (time + taken.sum(0, dtype=jnp.int32), last)


def bernoulli(key: Array, clock: Array, batch: tuple[int, ...], rate: float, shape: tuple[int, ...]) -> Array:
    """True with probability ``rate``, ``[..., *batch, *shape]`` for a clock ``[..., *batch]``."""
    return over_axes(clock.ndim, lambda key: jax.random.bernoulli(key, float(rate), shape))(row_keys(key, clock, batch))


def row_keys(key: Array, clock: Array, batch: tuple[int, ...]) -> Array:
    """``fold_in(fold_in(key, clock), row)`` for a clock ``[..., *batch]``."""
    rows = jnp.arange(math.prod(batch), dtype=clock.dtype).reshape((1,) * (clock.ndim - len(batch)) + batch)
    rows = rows + jnp.zeros_like(clock)  # split over devices as the clock is
    fold_in = jax.random.fold_in
    return over_axes(clock.ndim, lambda time, row: fold_in(fold_in(key, time), row))(clock, rows)


def dropout_mask(
    key: Array, clock: Array, batch: tuple[int, ...], rate: float, shape: tuple[int, ...], dtype: Any
) -> Array:
    """0 with probability ``rate``, else ``1 / (1 - rate)``."""
    return jnp.where(bernoulli(key, clock, batch, rate, shape), 0, jnp.asarray(1 / (1 - rate), dtype))


def over_axes(axes: int, f: Callable) -> Callable:
    """A function of single entries, over several leading axes: none is merged, as each may be sharded."""
    return f if axes == 0 else jax.vmap(over_axes(axes - 1, f))
