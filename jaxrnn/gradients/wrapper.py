"""A cell in disguise: a layer with all that a cell has, that walks time in a way of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxrnn import checks
from jaxrnn.types import Array, Params, State, input_ndim


@dataclasses.dataclass(frozen=True)
class CellWrapper:
    """What all disguises share; one adds ``step`` and ``over_time``, and takes the place of every cell of a model."""

    cell: Any

    @property
    def input_ndim(self) -> int:
        return input_ndim(self.cell)

    def init(self, key: Array) -> Params:
        """The parameters are those of the cell."""
        return self.cell.init(key)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """And so is the state, unless told otherwise."""
        return self.cell.initial_state(batch_shape)

    def check_input(self, argument: str, x: Any) -> None:
        """Refuse what the cell cannot take."""
        checks.input_of(self.cell, argument, x)
