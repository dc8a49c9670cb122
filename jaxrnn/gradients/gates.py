"""Gates at every step, and their statistics: how often they are closed or open, and the time constants of units."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.bptt import unroll_cell
from jaxrnn.constructor import replace_cells
from jaxrnn.gradients import checks as gradient_checks
from jaxrnn.gradients.wrapper import CellWrapper
from jaxrnn.precision import widen
from jaxrnn.scan import sequence_mask
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State, keyed_step
from jaxrnn.unroll import sequence_shape, trajectory


class GateStatistics(NamedTuple):
    """Statistics of one gate over all steps and sequences; each ``[H]``, one number a unit."""

    closed: Array  # fraction of steps below the margin
    open: Array  # fraction of steps above 1 - margin
    mean: Array
    time_constant: Array | None  # in steps, of "keep" only


class GateRecord(NamedTuple):
    """The gates of one cell at every step, by name; empty for a cell without gates."""

    gates: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class GateRecorder(CellWrapper):
    """A cell as a layer that returns its gates in place of its states."""

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> tuple[State, PyTree]:
        """One step, with the output ``(y, gates)``."""
        gates = gradient_checks.gates(self.cell.gates(params, state, x)) if hasattr(self.cell, "gates") else {}
        new, y = keyed_step(self.cell, key)(params, state, x)
        return new, (y, gates)

    def over_time(
        self, params: Params, state: State, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[State, PyTree, PyTree | None]:
        final, (ys, gates), _ = unroll_cell(self, params, state, xs, options._replace(return_states=False), key)
        return final, ys, GateRecord(gates) if options.return_states else None


def gates(model: Any, params: Params, xs: PyTree, state: State | None = None, **options: Any) -> PyTree:
    """The gates of every cell at every step, as to be drawn over a text.

    Custom cells are included if they have a method ``gates(params, state, x)`` that returns a dict of arrays.

    Args:
        model: a cell, layer or whole model.
        params: its parameters.
        xs: ``[T, ..., I]`` inputs.
        state: the state before the first step.
        **options: ``lengths``, ``resets``, ``reverse``, ``key`` of :func:`~jaxrnn.unroll`.

    Returns:
        For every cell a dict by gate name of arrays ``[T, ..., H]``, including ``"keep"``, the factor on the previous
        state, in the structure of :func:`~jaxrnn.trajectory`; ``{}`` for a cell without gates. In the padding they have
        no meaning.

    Raises:
        TypeError, ValueError: a layer handles the states of the cells in it, as :class:`~jaxrnn.Clockwork` does; an
            argument does not fit the model or another argument.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.LSTM(3, 5, peepholes="ifo")
        >>> gates = rnn.gradients.gates(cell, cell.init(jax.random.key(0)), jnp.zeros((20, 2, 3)))
        >>> sorted(gates), gates["f"].shape
        (['f', 'i', 'keep', 'o'], (20, 2, 5))
    """
    checks.model("model", model)
    gradient_checks.leaves_states_to_cells(model)
    checks.parameters(model, params)
    records = trajectory(replace_cells(model, GateRecorder), params, xs, state, **options)
    return _of_each(records, lambda gates: gates)


def _of_each(records: PyTree, function: Callable[[dict[str, Array]], Any]) -> PyTree:
    """A function of the gates of every cell; None for the clock of a layer."""

    def of_record(record: Any) -> Any:
        return function(record.gates) if isinstance(record, GateRecord) else None

    return jax.tree.map(of_record, records, is_leaf=lambda r: isinstance(r, GateRecord))


def gate_statistics(
    model: Any,
    params: Params,
    xs: PyTree,
    state: State | None = None,
    *,
    lengths: Array | None = None,
    input_mask: Array | None = None,
    margin: float = 0.1,
    **options: Any,
) -> PyTree:
    r"""Saturation of the gates of every cell over a batch, and the time constants of its units.

    A gate is closed below ``margin`` and open above ``1 - margin``. The factor on the previous state of a unit, f of an
    LSTM and 1 - z of a GRU, named ``"keep"``, gives its effective time constant

    .. math:: τ = -1 / \overline{\log f_t}

    the number of steps in which a value decays to 1/e: a mean of logarithms, since the factors multiply. Custom cells
    are included if they have a method ``gates(params, state, x)`` that returns a dict of arrays in [0, 1].

    Args:
        model: a cell, layer or whole model.
        params: its parameters.
        xs: ``[T, ..., I]`` inputs.
        state: the state before the first step.
        lengths: ``[...]`` ints; padding does not count.
        input_mask: ``[T, ...]`` bools of :func:`~jaxrnn.unroll`; masked steps do not count.
        margin: distance from 0 or 1 that counts as saturated, in [0, 0.5).
        **options: ``resets``, ``reverse``, ``key`` of :func:`~jaxrnn.unroll`.

    Returns:
        For every cell a dict of :class:`GateStatistics` by gate name, including ``"keep"``, in the structure of
        :func:`~jaxrnn.trajectory`; ``{}`` for a cell without gates.

    Raises:
        TypeError, ValueError: the margin is out of range; a layer handles the states of the cells in it, as
            :class:`~jaxrnn.Clockwork` does; an argument does not fit the model or another argument.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.LSTM(3, 5, forget_bias=2.0)
        >>> gates = rnn.gradients.gate_statistics(cell, cell.init(jax.random.key(0)), jnp.zeros((20, 2, 3)))
        >>> round(float(gates["keep"].time_constant[0]), 1)  # 1 / -log σ(2)
        7.9
    """
    checks.model("model", model)
    gradient_checks.leaves_states_to_cells(model)
    checks.parameters(model, params)
    checks.sequence("xs", model, xs)
    checks.number("margin", margin)
    if not 0 <= margin < 0.5:
        checks.refuse("margin", "a number in [0, 0.5)", margin, "it is the distance from 0 and from 1")
    steps, batch = sequence_shape(model, xs)
    options |= {"lengths": lengths, "input_mask": input_mask}
    records = trajectory(replace_cells(model, GateRecorder), params, xs, state, **options)
    mask = jnp.ones((steps, *batch), bool)
    if lengths is not None:
        mask = sequence_mask(steps, lengths)
    if input_mask is not None:
        mask &= input_mask

    def statistics(name: str, gate: Array) -> GateStatistics:
        axes = tuple(range(1 + len(batch)))
        gate_mask = mask.reshape(*mask.shape, *[1] * (gate.ndim - mask.ndim))
        gate = widen(gate)
        total = jnp.maximum(mask.sum(), 1).astype(gate.dtype)

        def mean(values: Array) -> Array:
            return jnp.where(gate_mask, values, jnp.zeros((), values.dtype)).astype(gate.dtype).sum(axes) / total

        time_constant = 1 / jnp.abs(mean(jnp.log(gate))) if name == "keep" else None
        return GateStatistics(mean(gate < margin), mean(gate > 1 - margin), mean(gate), time_constant)

    return _of_each(records, lambda gates: {name: statistics(name, gate) for name, gate in gates.items()})
