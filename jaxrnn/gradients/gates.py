"""What the gates of a network do: how often they are shut or open, and how long the cells remember."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters, replace_cells
from jaxrnn.types import Array, Params, PyTree, State, input_ndim
from jaxrnn.unroll import extent, trajectory


class GateStatistics(NamedTuple):
    """One gate over all steps and sequences; shares and means are ``[H]``, one a unit."""

    shut: Array  # share of steps below the margin
    open: Array  # share of steps above 1 - margin
    mean: Array
    memory: Array | None  # of the gate "keep": effective time constant in steps


class WatchedState(NamedTuple):
    """A cell's state, and the gates of the step that led to it."""

    state: State
    gates: dict[str, Array]


@hyperparameters
class Watched:
    """A cell whose state carries the gates along, where it has any: a method ``gates(params, state, x)``."""

    cell: Any

    @property
    def input_ndim(self) -> int:
        return input_ndim(self.cell)

    def init(self, key: Array) -> Params:
        return self.cell.init(key)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> WatchedState:
        state = self.cell.initial_state(batch_shape)
        if not hasattr(self.cell, "gates"):
            return WatchedState(state, {})
        x = jnp.zeros((*batch_shape, self.cell.input_size), self.cell.dtype)
        params = jax.eval_shape(self.cell.init, jax.random.key(0))
        gates = jax.eval_shape(self.cell.gates, params, state, x)
        return WatchedState(state, jax.tree.map(lambda g: jnp.zeros(g.shape, g.dtype), gates))

    def step(self, params: Params, state: WatchedState, x: PyTree) -> tuple[WatchedState, PyTree]:
        gates = self.cell.gates(params, state.state, x) if state.gates else {}
        new, y = self.cell.step(params, state.state, x)
        return WatchedState(new, gates), y


def gate_statistics(
    model: Any, params: Params, xs: PyTree, *, lengths: Array | None = None, margin: float = 0.1, **walk: Any
) -> PyTree:
    r"""How saturated the gates of every cell are over a batch, and how long its units remember.

    A gate is shut below ``margin`` and open above ``1 - margin``. From the share of its state that a unit keeps at each
    step, f of an LSTM and 1 - z of a GRU, follows its effective time constant

    .. math:: τ = -1 / \overline{\log f_t}

    the steps after which a value has decayed to 1/e: the mean is taken of the logarithm, since shares multiply.

    Args:
        model: a cell, layer or whole model.
        params: its parameters.
        xs: ``[T, ..., I]`` inputs.
        lengths: ``[...]`` ints; padding does not count.
        margin: distance from 0 or 1 that counts as saturated, in [0, 0.5).
        **walk: ``resets``, ``reverse`` of :func:`~jaxrnn.unroll`.

    Returns:
        For every cell a dict of :class:`GateStatistics` by the gate's name, ``"keep"`` among them, in the structure of
        :func:`~jaxrnn.trajectory`; ``{}`` for a cell without gates.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.LSTM(3, 5, forget_bias=2.0)
        >>> gates = rnn.gradients.gate_statistics(cell, cell.init(jax.random.key(0)), jnp.zeros((20, 2, 3)))
        >>> round(float(gates["keep"].memory[0]), 1)  # 1 / -log σ(2)
        7.9
    """
    checks.fraction("margin", margin, "it is the distance from 0 and from 1")
    checks.sequence("xs", model, xs)
    steps, batch = extent(model, xs)
    states = trajectory(replace_cells(model, Watched), params, xs, lengths=lengths, **walk)
    alive = jnp.ones((steps, *batch), bool)
    if lengths is not None:
        alive = jnp.arange(steps).reshape(-1, *[1] * len(batch)) < lengths

    def statistics(name: str, gate: Array) -> GateStatistics:
        axes = tuple(range(1 + len(batch)))
        counts = alive.reshape(*alive.shape, *[1] * (gate.ndim - alive.ndim))
        total = jnp.maximum(alive.sum(), 1).astype(gate.dtype)

        def mean(values: Array) -> Array:
            return jnp.where(counts, values, jnp.zeros((), values.dtype)).astype(gate.dtype).sum(axes) / total

        memory = -1 / mean(jnp.log(gate)) if name == "keep" else None
        return GateStatistics(mean(gate < margin), mean(gate > 1 - margin), mean(gate), memory)

    def of_cell(watched: WatchedState) -> dict[str, GateStatistics]:
        return {name: statistics(name, gate) for name, gate in watched.gates.items()}

    return jax.tree.map(of_cell, states, is_leaf=lambda s: isinstance(s, WatchedState))
