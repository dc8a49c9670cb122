r"""Back-propagation through time: the differential of a recurrence is a linear recurrence.

.. math::
    s_t &= F(θ, s_{t-1}, x_t) \\
    ds_t &= \frac{∂F}{∂s}\, ds_{t-1} + v_t, \qquad v_t = \frac{∂F}{∂θ}\, dθ + \frac{∂F}{∂x}\, dx_t

Autodiff of a scan accumulates the gradient of the weights inside the loop, with a product of few rows at every step.
Here ``v_t`` is computed for all steps at once, and only the linear recurrence is scanned. Its transpose is
back-propagation through time with one product over all T·B rows for each weight matrix; the loop holds nothing but the
gradient of the state. It is a rule for the differential (``jax.custom_jvp``), not for the gradient, so that forward
mode, second derivatives and ``vmap`` need no rules of their own.

A built-in cell declares its differential (:class:`~jaxrnn.types.Differential`): ``recurrence`` is the step, which
returns its gates as residuals; ``differential`` is ``v_t`` for all steps and one step of the linear recurrence. A cell
whose state enters linearly (LRU, MinGRU, MinLSTM, SRU) declares that recurrence instead
(:class:`~jaxrnn.types.LinearRecurrence`), which :mod:`jaxrnn.parallel` differentiates. Autodiff is left to the others:
GRU-D, sLSTM, SRU with peepholes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks, compat
from jaxrnn.adaptor import KeyedCell
from jaxrnn.compat import mesh_axes, pvary
from jaxrnn.parallel import unroll_linear, unroll_nonlinear
from jaxrnn.precision import cast_like, differentiable_step, wide_tangent, widen
from jaxrnn.scan import fill_padding, masked_scan, previous_states, scan_chunks, where
from jaxrnn.types import (
    Array,
    Params,
    PyTree,
    Recurrence,
    ScanOptions,
    State,
    has_differential,
    is_linear,
    takes_key,
)


def unroll_cell(
    cell: Any, params: Params, state: State, xs: PyTree, options: ScanOptions, key: Array | None = None
) -> tuple[State, PyTree, PyTree | None]:
    """Scan a cell over time, and choose how it is differentiated; step t of a cell with noise has its own key."""
    for mask in (options.mask, options.resets):
        if mask is not None:
            checks.batch_leading(state, mask.shape[1:])
    state = _carry_like_output(cell.step, params, state, xs)
    xs = xs if options.mask is None else fill_padding(options.mask, xs)
    single_dtype = _single_dtype(params, state, xs)
    if key is not None and takes_key(cell):
        steps = jnp.arange(jax.tree.leaves(xs)[0].shape[0])
        cell, xs = KeyedCell(cell), (xs, jax.vmap(jax.random.fold_in, (None, 0))(key, steps))
    unroll = _unroll_by_autodiff
    in_parallel = options.parallel in ("scan", "newton")
    if is_linear(cell) and (in_parallel or options.derivative == "rule"):
        unroll = unroll_linear
    elif in_parallel:
        unroll = unroll_nonlinear
    elif options.derivative != "autodiff" and single_dtype:
        if options.derivative == "linearized":
            cell = Linearized(cell)
        unroll = _unroll_by_rule if has_differential(cell) else _unroll_by_autodiff
    spec = ScanSpec(cell, options.reverse, options.return_states, options.parallel, options.tolerance)
    initial = state_after_reset(cell, state, options)
    wide_params = widen(params)  # the gradient is a sum over chunks

    def scan_chunk(state: State, inputs: tuple) -> tuple[State, tuple]:
        final, ys, states = unroll(spec, cast_like(wide_params, params), initial, state, *inputs)
        return final, (ys, states)

    inputs = xs, options.mask, options.resets
    rematerialised = functools.partial(jax.checkpoint, prevent_cse=False)(scan_chunk)
    final, (ys, states) = scan_chunks(
        scan_chunk if options.chunk is None else rematerialised, state, inputs, options.reverse, options.chunk
    )
    return final, ys, states


class ScanSpec(NamedTuple):
    """The static arguments of a scan."""

    cell: Any
    reverse: bool
    return_states: bool
    parallel: str | None
    tolerance: float | None


def state_after_reset(cell: Any, state: State, options: ScanOptions) -> State | None:
    """The state after a reset, rounded to the dtype of ``state``; None without resets.

    It is returned in float32 or better, as its gradient is a sum over the resets.
    """
    if options.resets is None:
        return None
    initial = cell.initial_state(options.resets.shape[1:]) if options.initial is None else options.initial
    return jax.tree.map(lambda s, like: pvary(s, mesh_axes(like)), widen(cast_like(initial, state)), state)


def _unroll_by_autodiff(
    spec: ScanSpec, params: Params, initial: State | None, state: State, xs: PyTree, mask: Array | None,
    resets: Array | None,
) -> tuple[State, PyTree, PyTree | None]:  # fmt: skip
    """Scan the step of any cell; autodiff differentiates it."""
    axes = frozenset().union(*map(mesh_axes, jax.tree.leaves((state, xs))))
    params = jax.tree.map(lambda p: pvary(p, axes), params)  # in shard_map: one sum over devices, not one at every step
    cell_step = differentiable_step(spec.cell.step, params)

    def step(state: State, x: PyTree) -> tuple[State, PyTree]:
        new, y = cell_step(state, x)
        return cast_like(checks.next_state(state, new), state), y

    return masked_scan(step, initial, state, xs, mask, resets, reverse=spec.reverse, return_states=spec.return_states)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _unroll_by_rule(
    spec: ScanSpec, params: Params, initial: State | None, state: State, xs: Array, mask: Array | None,
    resets: Array | None,
) -> tuple[State, Array, PyTree | None]:  # fmt: skip
    """Scan a cell that declares its differential."""
    return _forward_scan(spec, spec.cell.output, params, initial, state, xs, mask, resets, spec.return_states)


@functools.partial(_unroll_by_rule.defjvp, symbolic_zeros=True)
def _unroll_jvp(spec: ScanSpec, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    """Scan with residuals and states stored, then the linear recurrence that they define."""
    params, initial, state, xs, mask, resets = primals
    dparams, dinitial, dstate = jax.tree.map(_instantiate, tangents[:3], primals[:3], is_leaf=_is_zero)
    dinitial = None if _differentiated(tangents[1]) is None else dinitial  # what is not differentiated costs nothing
    dxs = _differentiated(tangents[3])
    cell = spec.cell
    final, residuals, states = _forward_scan(
        spec, lambda _, residuals: residuals, params, initial, state, xs, mask, resets, return_states=True
    )
    ys = cell.output(states, residuals)
    ys = ys if mask is None else where(mask, ys)

    @functools.partial(jax.checkpoint, prevent_cse=False)  # only its arguments are stored
    @compat.linear_map
    def tangent_scan(
        primals: tuple, dparams: Params, dinitial: State | None, dstate: State, dxs: Array | None
    ) -> tuple:
        params, initial, state, xs, residuals, states = primals
        before = previous_states(state, states, spec.reverse)
        if resets is not None:
            before = where(resets, _at_every_step(initial, before), before)
        vs, step = cell.differential(params, dparams, xs, dxs, before, states, residuals)
        step = functools.partial(jax.checkpoint, prevent_cse=False)(step)
        dreset = jax.tree.map(jnp.zeros_like, dstate) if dinitial is None else dinitial
        return masked_scan(
            step, dreset, dstate, vs, mask, resets, reverse=spec.reverse, return_states=spec.return_states
        )

    tangent = tangent_scan((params, initial, state, xs, residuals, states), dparams, dinitial, dstate, dxs)
    return (final, ys, states if spec.return_states else None), tangent


def _forward_scan(
    spec: ScanSpec, collect: Any, params: Params, initial: State | None, state: State, xs: PyTree, mask: Array | None,
    resets: Array | None, return_states: bool,
) -> tuple[State, PyTree, PyTree | None]:  # fmt: skip
    """Scan the recurrence of the cell, with ``collect(state, residuals)`` of each step as the output."""

    def scan_chunk(state: State, inputs: tuple) -> tuple[State, tuple]:
        xs, mask, resets = inputs
        zs, recur = spec.cell.recurrence(params, xs)

        def step(state: State, z: PyTree) -> tuple[State, PyTree]:
            new, residuals = recur(state, z)
            return new, collect(new, residuals)

        final, ys, states = masked_scan(
            step, initial, state, zs, mask, resets, reverse=spec.reverse, return_states=return_states
        )
        return final, (ys, states)

    inputs, chunk = (xs, mask, resets), projection_chunk(spec.cell, params, xs)
    final, (ys, states) = scan_chunks(scan_chunk, state, inputs, spec.reverse, chunk)
    return final, ys, states


def projection_chunk(cell: Any, params: Params, xs: PyTree) -> int | None:
    """The number of steps for which a CPU computes the scanned inputs at a time; None: all steps.

    Fresh memory costs a CPU more than a second pass over memory in its cache: the gradient of an LSTM of 20 × 200,
    T 128, took 43 ms with 8 MB computed before the scan, and 35 ms with 2 MB at a time.
    """
    zs = jax.eval_shape(lambda params, xs: cell.recurrence(params, xs)[0], params, xs)
    size, input_size = (sum(x.size for x in jax.tree.leaves(tree)) for tree in (zs, xs))
    symbolic = not (isinstance(size, int) and isinstance(input_size, int))  # in a program exported for any T or B
    if jax.default_backend() != "cpu" or symbolic or size <= max(input_size, 2**20):
        return None
    steps = jax.tree.leaves(xs)[0].shape[0]
    most = max(1, steps * 2**19 // size)
    return next((n for n in range(most, most // 2, -1) if steps % n == 0), most)  # a divisor of T where there is one


@dataclasses.dataclass(frozen=True)
class Linearized:
    """Any cell, with a differential that autodiff derives from its step: ``v_t`` for all steps at once.

    Only the states are stored, and each step is computed again. Measured on 2 cores with an LSTM and a GRU as user's
    cells, it took 0.7 to 0.8 times as long as autodiff with 8 rows and 1,024 units, 1.1 to 1.6 times with 20 rows or
    more: autodiff is the default for them.
    """

    cell: Any

    def initial_state(self, batch_shape: tuple[int, ...]) -> State:
        return self.cell.initial_state(batch_shape)

    def recurrence(self, params: Params, xs: PyTree) -> tuple[PyTree, Recurrence]:
        def step(state: State, x: PyTree) -> tuple[State, PyTree]:
            new, y = self.cell.step(params, state, x)
            return cast_like(checks.next_state(state, new), state), y

        return xs, step

    def output(self, state: State, y: PyTree) -> PyTree:
        return y

    def differential(
        self, params: Params, dparams: Params, xs: PyTree, dxs: PyTree, before: State, after: State, ys: PyTree
    ) -> tuple[PyTree, Recurrence]:
        def step(params: Params, state: State, x: PyTree) -> tuple[State, PyTree]:
            return self.recurrence(params, x)[1](state, x)

        wide_params, dwide = widen(params), widen(dparams)  # outside vmap: the gradient is a sum over steps

        def v(state: State, x: PyTree, dx: PyTree) -> PyTree:
            ds = jax.tree.map(jnp.zeros_like, state)
            like, dx = jax.eval_shape(step, params, state, x), jax.tree.map(_tangent, x, dx)
            return wide_tangent(step, (wide_params, state, x), (dwide, ds, dx), like)

        def tangent_step(ds: State, inputs: tuple) -> tuple[State, PyTree]:
            state, x, v_t = inputs
            from_state = jax.jvp(lambda state: step(params, state, x), (state,), (ds,))[1]
            return jax.tree.map(jnp.add, from_state, v_t)

        dxs = jax.tree.map(lambda _: None, xs) if dxs is None else dxs
        return (before, xs, jax.vmap(v)(before, xs, dxs)), tangent_step


def _at_every_step(state: State, like: PyTree) -> PyTree:
    """A state ``[...]`` in the shapes ``[T, ...]`` and dtypes of others."""
    return jax.tree.map(lambda s, like: jnp.broadcast_to(s, like.shape), cast_like(state, like), like)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _differentiated(tangents: PyTree) -> PyTree | None:
    """The tangents with None in place of 0; None where all are 0."""
    tangents = jax.tree.map(lambda dx: None if _is_zero(dx) else dx, tangents, is_leaf=_is_zero)
    return tangents if jax.tree.leaves(tangents) else None


def _tangent(x: Array, dx: Array | None) -> Any:
    """A tangent of 0 for None; keys and integers have none."""
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return np.zeros(x.shape, jax.dtypes.float0)
    return jnp.zeros_like(x) if dx is None else dx


def _instantiate(tangent: Any, primal: Array) -> Array:
    return pvary(jnp.zeros_like(primal), mesh_axes(primal)) if _is_zero(tangent) else tangent


def _single_dtype(*trees: PyTree) -> bool:
    """Whether all arrays have one floating dtype; others are left to autodiff, which promotes as the step does."""
    dtypes = {jnp.result_type(x) for x in jax.tree.leaves(trees)}
    return len(dtypes) == 1 and all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes)


def _carry_like_output(step: Any, params: Params, state: State, xs: PyTree) -> State:
    """The state with the dtype and the sharding that a step returns, as the carry of a scan must have."""

    def first_step(x: Array) -> Any:
        return jax.eval_shape(lambda x: x[0], x) if x.shape[0] != 0 else jax.ShapeDtypeStruct(x.shape[1:], x.dtype)

    after, _ = checks.step_result("step", jax.eval_shape(step, params, state, jax.tree.map(first_step, xs)))
    after = checks.next_state(state, after)
    axes = frozenset().union(*map(mesh_axes, jax.tree.leaves((params, state, xs))))

    def convert(old: Array, new: Any) -> Array:
        if old.dtype != new.dtype:
            with jax.numpy_dtype_promotion("standard"):
                old = old.astype(jnp.promote_types(old.dtype, new.dtype))
        old = pvary(old, axes)
        spec = None if axes else getattr(getattr(new, "sharding", None), "spec", None)  # where it is part of the type
        return old if spec in (None, jax.typeof(old).sharding.spec) else jax.sharding.reshard(old, new.sharding)

    return jax.tree.map(convert, state, after)
