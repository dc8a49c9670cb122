r"""How time is differentiated: the differential of a recurrence is a linear recurrence.

.. math::
    s_t &= F(θ, s_{t-1}, x_t) \\
    ds_t &= \frac{∂F}{∂s}\, ds_{t-1} + v_t, \qquad v_t = \frac{∂F}{∂θ}\, dθ + \frac{∂F}{∂x}\, dx_t

Autodiff of a scan adds up the gradient of the weights inside the loop, a thin product at every step. Here ``v_t`` is
formed for all steps at once, and only the linear recurrence is scanned: transposed, that is back-propagation through
time with one product over all T·B rows for each weight matrix, and nothing but the state's own gradient in the loop.
It is written as a rule for the differential, not for the gradient, so that forward mode, second derivatives and
``vmap`` follow from it by themselves.

A built-in cell writes down its own differential (:class:`~jaxrnn.types.Differential`): ``record`` is a step that keeps
its gates, ``drive`` is ``v_t``, ``tangent`` one step of the linear recurrence.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.types import Array, Params, PyTree, State, Time, has_differential, mesh_axes
from jaxrnn.walk import in_chunks, walk, where


def scan(cell: Any, params: Params, state: State, xs: PyTree, time: Time) -> tuple[State, PyTree, PyTree | None]:
    """Run a cell over time, and choose how that is differentiated."""
    for mask in (time.alive, time.resets):
        if mask is not None:
            checks.batched(state, mask.shape[1:])
    state = _fixed_point(cell.step, params, state, xs)
    run = _by_autodiff
    if time.derivative != "autodiff" and _one_dtype(params, state, xs):
        if time.derivative == "linearized":
            cell = Linearized(cell)
        run = _by_rule if has_differential(cell) else _by_autodiff
    how = How(cell, time.reverse, time.keep_states)

    def part(state: State, inputs: tuple) -> tuple[State, tuple]:
        final, ys, states = run(how, params, state, *inputs)
        return final, (ys, states)

    inputs = xs, time.alive, time.resets
    if time.chunk is None:
        final, (ys, states) = part(state, inputs)
    else:
        final, (ys, states) = in_chunks(part, state, inputs, time.reverse, time.chunk)
    return final, ys, states


class How(NamedTuple):
    """What is known of a walk before any array is."""

    cell: Any
    reverse: bool
    keep_states: bool

    def first(self, state: State, resets: Array | None) -> State:
        """The state that a reset returns to, in the dtype of the state."""
        return None if resets is None else like(state, self.cell.initial_state(resets.shape[1:]))


def _by_autodiff(
    how: How, params: Params, state: State, xs: PyTree, alive: Array | None, resets: Array | None
) -> tuple[State, PyTree, PyTree | None]:
    """The walk as it is, for any cell."""

    def step(state: State, x: PyTree) -> tuple[State, PyTree]:
        new, y = how.cell.step(params, state, x)
        return like(state, checks.next_state(state, new)), y

    first = how.first(state, resets)
    return walk(step, first, state, xs, alive, resets, reverse=how.reverse, keep_states=how.keep_states)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _by_rule(
    how: How, params: Params, state: State, xs: Array, alive: Array | None, resets: Array | None
) -> tuple[State, Array, PyTree | None]:
    """The walk of a cell that knows its differential."""
    zs, project = projection(how.cell, params, xs)

    def step(state: State, z: Array) -> tuple[State, Array]:
        return how.cell.recur(params, state, project(z))

    first = how.first(state, resets)
    return walk(step, first, state, zs, alive, resets, reverse=how.reverse, keep_states=how.keep_states)


@functools.partial(_by_rule.defjvp, symbolic_zeros=True)
def _differential(how: How, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    """The walk once more, with gates and states kept, and the linear recurrence that they define."""
    params, state, xs, alive, resets = primals
    dparams, dstate = jax.tree.map(_instantiate, tangents[:2], primals[:2], is_leaf=_is_zero)
    dxs = None if _is_zero(tangents[2]) else tangents[2]  # inputs that nothing moves, data for instance, cost nothing
    cell, first = how.cell, how.first(state, resets)
    zs, project = projection(cell, params, xs)

    def step(state: State, z: Array) -> tuple[State, PyTree]:
        return cell.record(params, state, project(z))

    final, kept, states = walk(step, first, state, zs, alive, resets, reverse=how.reverse, keep_states=True)
    ys = cell.output(states, kept)
    ys = ys if alive is None else where(alive, ys)

    @functools.partial(jax.checkpoint, prevent_cse=False)  # keeps its arguments, and what follows from them not
    def linear(given: tuple, dparams: Params, dstate: State, dxs: Array | None) -> tuple:
        params, state, xs, kept, states = given
        before = _shifted(state, states, how.reverse)
        if resets is not None:
            before = where(resets, jax.tree.map(lambda f, b: jnp.broadcast_to(f, b.shape), first, before), before)
        v = cell.drive(params, dparams, xs, dxs, before, states, kept)

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def step(ds: State, at: tuple) -> tuple[State, PyTree]:
            return cell.tangent(params, *at, ds)

        none = jax.tree.map(jnp.zeros_like, dstate)  # a reset returns to a state that nothing moves
        at = before, states, kept, v
        return walk(step, none, dstate, at, alive, resets, reverse=how.reverse, keep_states=how.keep_states)

    differential = linear((params, state, xs, kept, states), dparams, dstate, dxs)
    return (final, ys, states if how.keep_states else None), differential


@dataclasses.dataclass(frozen=True)
class Linearized:
    """Any cell, with a differential that autodiff has from its step: direct effects for all steps at once.

    It keeps the states alone, and takes each step once more. Measured on 2 cores with an LSTM and a GRU as
    cells of a user's own, that took 0.7 to 0.8 times the time of autodiff with 8 rows and 1,024 units, 1.1 to 1.6 times
    with 20 rows or more: autodiff is the default for them.
    """

    cell: Any

    def initial_state(self, batch_shape: tuple[int, ...]) -> State:
        return self.cell.initial_state(batch_shape)

    def project(self, params: Params, x: PyTree) -> PyTree:
        return x

    def recur(self, params: Params, state: State, x: PyTree) -> tuple[State, PyTree]:
        new, y = self.cell.step(params, state, x)
        return like(state, checks.next_state(state, new)), y

    record = recur

    def output(self, state: State, y: PyTree) -> PyTree:
        return y

    def drive(
        self, params: Params, dparams: Params, x: PyTree, dx: PyTree, before: State, after: State, y: PyTree
    ) -> tuple:  # fmt: skip
        dx = jax.tree.map(jnp.zeros_like, x) if dx is None else dx

        def direct(state: State, x: PyTree, dx: PyTree) -> PyTree:
            none = jax.tree.map(jnp.zeros_like, state)
            return jax.jvp(self.recur, (params, state, x), (dparams, none, dx))[1]

        return x, jax.vmap(direct)(before, x, dx)

    def tangent(
        self, params: Params, before: State, after: State, y: PyTree, v: tuple, ds: State
    ) -> tuple[State, PyTree]:  # fmt: skip
        x, v = v
        along = jax.jvp(lambda state: self.recur(params, state, x), (before,), (ds,))[1]
        return jax.tree.map(jnp.add, along, v)


def projection(cell: Any, params: Params, xs: Array) -> tuple[Array, Any]:
    """Where ``z = x w_xh + b_h`` is computed: for all steps before the scan, or in each step.

    Returns what is scanned, and the function that a step applies to it. Before the scan it is one large product; in
    the step, on a CPU, its result is still in the cache when the gates need it. On an accelerator a step is bound by
    its latency, and the less there is in it, the better.
    """
    rows = math.prod(xs.shape[1:-1])
    if jax.default_backend() != "cpu" or rows <= ROWS_AHEAD.get(type(cell).__name__, 0):
        return cell.project(params, xs), lambda z: z
    return xs, lambda x: cell.project(params, x)


# Up to so many rows the product before the scan is the quicker one on a CPU. Forward, float32, 2 cores: for an LSTM
# it took 0.5 to 0.95 times the time of that in the step at 1 to 16 rows, 1.4 times at 64; for a GRU with the reset
# after the product 1.2 to 2.6 times at 1 to 16 rows. The GRU with the reset before it was not measured.
ROWS_AHEAD = {"VanillaRNN": 8, "LSTM": 16, "GRU": 0}


def _shifted(state: State, states: PyTree, reverse: bool) -> PyTree:
    """The state before each step, ``[T, ...]``, from the states after them."""

    def shift(s: Array, after: Array) -> Array:
        parts = [after[1:], s[None]] if reverse else [s[None], after[:-1]]
        return jnp.concatenate(parts)[: len(after)]  # none where there is no step

    return jax.tree.map(shift, state, states)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _instantiate(tangent: Any, primal: Array) -> Array:
    return spread(jnp.zeros_like(primal), mesh_axes(primal)) if _is_zero(tangent) else tangent


def spread(x: Array, axes: frozenset[str]) -> Array:
    """The same array, said to differ along axes of a device mesh, as what it is joined with in a scan does."""
    missing = tuple(sorted(axes - mesh_axes(x)))
    return jax.lax.pcast(x, missing, to="varying") if missing else x


def _one_dtype(*trees: PyTree) -> bool:
    """Whether all arrays are of one floating dtype; a mixture is left to autodiff, which promotes as the step does."""
    dtypes = {jnp.result_type(x) for x in jax.tree.leaves(trees)}
    return len(dtypes) == 1 and all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes)


def like(state: State, new: State) -> State:
    """A state in the dtypes of another."""
    return jax.tree.map(lambda old, new: new.astype(old.dtype), state, new)


def _fixed_point(step: Any, params: Params, state: State, xs: PyTree) -> State:
    """The state as a step gives it back, so that it can be carried: its dtype, and the devices it is spread over."""

    def first(x: Array) -> Any:
        return jax.eval_shape(lambda x: x[0], x) if len(x) else jax.ShapeDtypeStruct(x.shape[1:], x.dtype)

    after, _ = checks.pair("step", jax.eval_shape(step, params, state, jax.tree.map(first, xs)))
    after = checks.next_state(state, after)
    axes = frozenset().union(*map(mesh_axes, jax.tree.leaves((params, state, xs))))

    def carried(old: Array, new: Any) -> Array:
        old = spread(old.astype(jnp.promote_types(old.dtype, new.dtype)), axes)
        placed = None if axes else getattr(getattr(new, "sharding", None), "spec", None)  # where it is part of the type
        return old if placed in (None, jax.typeof(old).sharding.spec) else jax.sharding.reshard(old, placed)

    return jax.tree.map(carried, state, after)
