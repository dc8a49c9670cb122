"""Cells whose state enters linearly, over a sequence: :func:`jaxrnn.bptt.unroll_cell` calls them here."""

from __future__ import annotations

from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.parallel.linear import last, linear_recurrence, multiply, ones_like
from jaxrnn.precision import cast_like, widen
from jaxrnn.scan import where
from jaxrnn.types import Array, Params, PyTree, State, is_linear


def unroll_linear(
    spec: Any, params: Params, state: State, xs: PyTree, mask: Array | None, resets: Array | None
) -> tuple[State, PyTree, PyTree | None]:
    """Final state, outputs and states of a cell that declares its recurrence (:class:`~jaxrnn.types.LinearRecurrence`).

    A reset and the padding are steps of the recurrence too: the first has decay 0 and the next of the initial state as
    its update, the second decay 1 and update 0. In 16 bits the recurrence is computed in float32.
    """
    decay, update = widen(spec.cell.linear_recurrence(params, xs))
    if resets is not None:
        initial = jax.tree.map(lambda s: s[None], widen(spec.initial_state(state, resets)))
        update = where(resets, jax.tree.map(jnp.add, multiply(decay, initial), update), update)
        decay = where(~resets, decay)
    if mask is not None:
        decay, update = where(mask, decay, ones_like(decay)), where(mask, update)
    algorithm = choose_algorithm(spec.parallel, decay)
    wide = linear_recurrence(decay, update, widen(state), reverse=spec.reverse, algorithm=algorithm)
    states = cast_like(wide, state)
    ys = spec.cell.readout(params, states, xs)
    ys = ys if mask is None else where(mask, ys)
    final = last(state, states, spec.reverse)
    return final, ys, states if spec.return_states else None


def choose_algorithm(parallel: str | None, decay: PyTree) -> str:
    """The algorithm of a recurrence: as asked for; by default in parallel on an accelerator, not on a CPU.

    Newton's method would find the states of a linear recurrence in one iteration, which is the prefix scan.
    """
    steps = jax.tree.leaves(decay)[0].shape[0]
    if not isinstance(steps, int):  # in a program exported for any T
        return "sequential"
    if parallel is None:
        return "sequential" if jax.default_backend() == "cpu" else "scan"
    return "sequential" if parallel == "sequential" else "scan"


def refuse_scan(cell: Any, derivative: str) -> NoReturn:
    """Raise an error for ``parallel="scan"`` of a cell that cannot be computed so."""
    if is_linear(cell):
        checks.refuse("derivative", '"rule" for parallel="scan"', repr(derivative))
    kind = type(cell).__name__
    checks.refuse("parallel", f'"sequential" or None for {kind}', '"scan"', "its state does not enter linearly")
