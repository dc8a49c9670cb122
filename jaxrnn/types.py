"""The words of the library: axes, and the two protocols that everything else is written against.

Axes: ``T`` time, ``B`` batch, ``I`` input size, ``H`` hidden size, ``G`` gates, ``V`` vocabulary.
Sequences are time-major, ``[T, ..., I]``; the axes between are batch and may be absent.
The order of a pair is always ``(state, y)``, as in :func:`jax.lax.scan`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import jax
import jax.export

N = TypeVar("N")
Array: TypeAlias = jax.Array
PyTree: TypeAlias = Any
Params: TypeAlias = PyTree
State: TypeAlias = PyTree


def exportable(cls: type[N]) -> type[N]:
    """Let a named tuple stand in the arguments and results of a function that ``jax.export`` serialises."""
    return jax.export.register_namedtuple_serialization(cls, serialized_name=f"jaxrnn.{cls.__name__}")


class Cell(Protocol):
    """One step of a recurrence. An object with these three methods is a cell; it inherits from nothing.

    A cell whose single input has another number of axes than one (a token id has none, a picture two or
    three) says so in an attribute ``input_ndim``; ``input_size`` and ``output_size``, where present, let
    :class:`~jaxrnn.Stack` check that widths fit.
    """

    def init(self, key: Array) -> Params:
        """Draw the parameters."""

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """Return the state before the first step; every leaf starts with ``batch_shape``."""

    def step(self, params: Params, state: State, x: PyTree) -> tuple[State, PyTree]:
        """Take ``x [..., I]`` and return the next state and the output."""


class ScanOptions(NamedTuple):
    """How a sequence is walked; the same for every cell of a model."""

    mask: Array | None  # [T, ...] bool: step t lies before its sequence's end; None: all do
    resets: Array | None  # [T, ...] bool: the state returns to the initial one before step t
    reverse: bool  # from the last step to the first
    return_states: bool  # collect every state, not only the last
    chunk: int | None  # differentiate in rematerialised chunks of so many steps; None: keep all that is needed
    derivative: str  # "rule", "linearized" or "autodiff": how a cell is differentiated, see jaxrnn.bptt


class Layer(Cell, Protocol):
    """A cell that walks time by itself, because it is built of parts or has no memory.

    Its ``step`` and ``over_time`` take a random key; without one the pass is deterministic.
    """

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> tuple[State, PyTree]:
        """Take one step with every part."""

    def over_time(
        self, params: Params, state: State, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[State, PyTree, PyTree | None]:
        """Return the final state, the outputs of all steps, and all states (None unless asked for)."""


class Differential(Cell, Protocol):
    r"""A cell that writes down its own differential, which :mod:`jaxrnn.bptt` scans in place of autodiff.

    .. math:: ds_t = \frac{∂F}{∂s}\, ds_{t-1} + v_t

    Both methods below are called once for a whole sequence, and return what is scanned, ``[T, ...]``, and a step that
    takes one entry of it: what needs no state is computed before the scan. A class declares its differential by
    having these methods itself; a subclass that changes the step is differentiated by autodiff.
    """

    def recurrence(self, params: Params, xs: PyTree) -> tuple[PyTree, Recurrence]:
        """``zs`` and ``step(state, z) -> (state, residuals)``: what the differential needs beside the states is kept."""

    def output(self, state: State, residuals: PyTree) -> PyTree:
        """The output, from the new state and what was kept."""

    def differential(
        self,
        params: Params,
        dparams: Params,
        xs: PyTree,
        dxs: PyTree | None,
        before: State,
        after: State,
        residuals: PyTree,
    ) -> tuple[PyTree, Recurrence]:
        """``vs`` and ``step(ds, v) -> (ds, dy)``, linear in ``dparams``, ``dxs`` (None for 0) and ``ds``.

        States before and after each step and what was kept are ``[T, ...]``, as ``xs`` are.
        """


Recurrence: TypeAlias = Callable[[State, PyTree], tuple[State, PyTree]]


def has_differential(cell: Any) -> bool:
    """Whether the cell's own class, not one that it inherits from, writes down its differential."""
    return "differential" in vars(type(cell))


def is_layer(model: Any) -> bool:
    """Whether the model walks time by itself; otherwise it is a cell, to be scanned."""
    return hasattr(model, "over_time")


def input_ndim(model: Any) -> int:
    """Axes of one input without batch axes: 1 for a vector, 0 for a token id."""
    return getattr(model, "input_ndim", 1)
