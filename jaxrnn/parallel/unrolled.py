"""Cells whose state enters linearly, over a sequence: :func:`jaxrnn.bptt.unroll_cell` calls them here."""

from __future__ import annotations

from typing import Any

import jax

from jaxrnn.parallel.linear import from_state, last, linear_recurrence, ones_like
from jaxrnn.precision import cast_like, widen
from jaxrnn.scan import where
from jaxrnn.types import Array, Params, PyTree, State


def unroll_linear(
    spec: Any, params: Params, initial: State | None, state: State, xs: PyTree, mask: Array | None,
    resets: Array | None,
) -> tuple[State, PyTree, PyTree | None]:  # fmt: skip
    """Final state, outputs and states of a cell that declares its recurrence (:class:`~jaxrnn.types.LinearRecurrence`).

    A reset and the padding are steps of the recurrence too: the first has decay 0 and the next of the initial state as
    its update, the second decay 1 and update 0. In 16 bits the recurrence is computed in float32.
    """
    decay, update = widen(spec.cell.linear_recurrence(params, xs))
    if mask is not None:
        decay, update = where(mask, decay, ones_like(decay)), where(mask, update)
    if resets is not None:  # at a masked step too
        update = where(resets, from_state(decay, update, initial), update)
        decay = where(~resets, decay)
    algorithm = choose_algorithm(spec.parallel, update)
    wide = linear_recurrence(decay, update, widen(state), reverse=spec.reverse, algorithm=algorithm)
    states = cast_like(wide, state)
    ys = spec.cell.readout(params, states, xs)
    ys = ys if mask is None else where(mask, ys)
    final = last(state, states, spec.reverse)
    return final, ys, states if spec.return_states else None


def choose_algorithm(parallel: str | None, update: PyTree) -> str:
    """The algorithm of a recurrence: as asked for; by default in parallel on an accelerator, not on a CPU.

    Measured on 2 cores, see ``scripts/BENCHMARKS.md``: on a CPU the loop over time costs next to nothing; chunks
    took 0.8 to 2 times as long, the prefix scan 1.6 to 8 times. On an accelerator, where nothing was measured, each
    step costs a launch, and the prefix scan has fewest. Newton's method would find the states of a linear
    recurrence in one iteration, which is a prefix scan.
    """
    steps = jax.tree.leaves(update)[0].shape[0]
    on_cpu = jax.default_backend() == "cpu"
    symbolic = not isinstance(steps, int)  # in a program exported for any T
    if parallel == "sequential" or symbolic or (parallel is None and on_cpu):
        return "sequential"
    return "chunks" if on_cpu else "prefix"
