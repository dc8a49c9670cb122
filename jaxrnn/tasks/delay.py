"""Outputs delayed by one step, for bidirectional models that predict each step from the others."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters
from jaxrnn.types import Array, Params, PyTree, State, exportable, input_ndim
from jaxrnn.unroll import one_step


@exportable
class DelayCellState(NamedTuple):
    """The cell's state, and its last output ``[..., H]``."""

    cell: State
    y: Array


@hyperparameters
class DelayCell:
    r"""A cell whose output is delayed by one step: it depends on the inputs before t, not on the one at t.

    .. math:: y_t = h_{t-1}, \qquad y_1 = 0

    In both directions, the output at step t depends on every input but the one at t:

    .. math:: H_t = [\overrightarrow{h}_{t-1}, \overleftarrow{h}_{t+1}]

    Args:
        cell: a cell, or a layer that can be stepped, with an ``output_size``. Its dropout is never applied.

    Raises:
        TypeError: ``cell`` is not a cell, is not hashable, or has no ``output_size``.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> layer = rnn.Bidirectional(rnn.tasks.DelayCell(rnn.GRU(8, 16)), rnn.tasks.DelayCell(rnn.GRU(8, 16)))
        >>> model = rnn.Stack(rnn.Embedding(5, 8), layer, rnn.Linear(32, 5))
        >>> ids = jnp.array([3, 1, 4, 1, 2])
        >>> _, logits = rnn.unroll(model, model.init(jax.random.key(0)), ids)
        >>> _, others = rnn.unroll(model, model.init(jax.random.key(0)), ids.at[2].set(0))
        >>> (logits == others).all(-1).tolist()  # the input at step 2 changes the logits of every other step
        [False, False, True, False, False]

    Source: Schuster & Paliwal (1997), "Bidirectional recurrent neural networks", section II.
    """

    cell: Any

    def __post_init__(self) -> None:
        checks.layer("cell", self.cell)
        if getattr(self.cell, "output_size", None) is None:
            checks.refuse("cell", "a cell with an output_size, to know the shape of y_1 = 0", repr(self.cell),
                          "give it this attribute", TypeError)  # fmt: skip

    @property
    def input_ndim(self) -> int:
        return input_ndim(self.cell)

    @property
    def input_size(self) -> int | None:
        return getattr(self.cell, "input_size", None)

    @property
    def output_size(self) -> int:
        return self.cell.output_size

    def init(self, key: Array) -> Params:
        """Draw the parameters of the cell."""
        return self.cell.init(key)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> DelayCellState:
        """The initial state of the cell, and the output 0."""
        state = self.cell.initial_state(batch_shape)
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return DelayCellState(state, jnp.zeros((*batch_shape, self.output_size), *dtypes[:1]))

    def check_input(self, argument: str, x: Any) -> None:
        """Refuse what the cell cannot take."""
        checks.input_of(self.cell, argument, x)

    def step(self, params: Params, state: DelayCellState, x: PyTree) -> tuple[DelayCellState, Array]:
        """One step of the cell; returns its output of the previous step."""
        cell, y = one_step(self.cell, params, state.cell, x, None)
        return DelayCellState(cell, y), state.y
