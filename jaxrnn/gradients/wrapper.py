"""A cell wrapped in a layer with another step or another ``over_time``."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxrnn import checks
from jaxrnn.types import Array, Params, State, input_ndim


@dataclasses.dataclass(frozen=True)
class CellWrapper:
    """Base class of layers that replace every cell of a model; a subclass adds ``step`` and ``over_time``."""

    cell: Any

    @property
    def adapted(self) -> Any:
        """The cell whose step takes a key or does not."""
        return self.cell

    @property
    def input_ndim(self) -> int:
        return input_ndim(self.cell)

    @property
    def input_size(self) -> int | None:
        return getattr(self.cell, "input_size", None)

    @property
    def output_size(self) -> int | None:
        return getattr(self.cell, "output_size", None)

    def init(self, key: Array) -> Params:
        """The parameters of the cell."""
        return self.cell.init(key)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """The initial state of the cell."""
        return self.cell.initial_state(batch_shape)

    def check_input(self, argument: str, x: Any) -> None:
        """Refuse what the cell cannot take."""
        checks.input_of(self.cell, argument, x)
