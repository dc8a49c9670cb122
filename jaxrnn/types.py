"""Axes, and the protocols that the rest of the library is written against.

Axes: ``T`` time, ``B`` batch, ``I`` input size, ``H`` hidden size, ``G`` gates, ``V`` vocabulary.
Sequences are time-major, ``[T, ..., I]``; the axes between are batch and may be absent.
The order of a pair is always ``(state, y)``, as in :func:`jax.lax.scan`.

- A *step* applies a model to one time step: ``step(params, state, x) -> (state, y)``.
- A *scan* is one :func:`jax.lax.scan` of a step over time, with masks and resets (:mod:`jaxrnn.scan`).
- An *unroll* applies a model to a whole sequence (:func:`jaxrnn.unroll`). A cell is scanned; a layer unrolls itself in
  :meth:`Layer.over_time`.

The three methods of :class:`Cell` are all that a user's cell needs: it is differentiated by autodiff. Two things may be
added for speed, and all built-in cells have both:

- A cell declares its differential with the three methods of :class:`Differential`, defined in its own class.
- What needs no state, such as the input projection ``x w_xh + b_h``, may be computed for all steps before the scan or
  within each step; :meth:`Differential.recurrence` returns one form or the other. A method
  ``precompute_projection(rows) -> bool`` states which is faster on a CPU for so many rows, the product of the batch
  axes. :func:`jaxrnn.cells.common.should_precompute` calls it with the rows of the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import jax
import jax.export
import numpy as np

__all__ = ["Cell", "Complex", "Differential", "Layer", "LinearRecurrence", "Maskable", "ScanOptions"]

N = TypeVar("N")
Array: TypeAlias = jax.Array
PyTree: TypeAlias = Any
Params: TypeAlias = PyTree
State: TypeAlias = PyTree


def exportable(cls: type[N]) -> type[N]:
    """Register a named tuple, so that ``jax.export`` can serialise functions that take or return it.

    Unless it defines ``__repr__``, it prints in a few lines: an array of more than ten numbers by its dtype and shape.
    """
    if cls.__repr__.__module__ == "collections":  # that of every named tuple
        cls.__repr__ = _short_repr  # type: ignore[method-assign]
    return jax.export.register_namedtuple_serialization(cls, serialized_name=f"jaxrnn.{cls.__name__}")


def _short_repr(named: Any) -> str:
    def short(value: Any) -> str:
        size = math.prod(value.shape) if hasattr(value, "shape") and hasattr(value, "dtype") else 0
        return repr(value) if isinstance(size, int) and size <= 10 else f"{value.dtype}{list(value.shape)}"

    options = named._field_defaults  # parameters of options that a cell may have: not shown where it has not
    shown = [(name, value) for name, value in named._asdict().items() if value is not None or name not in options]
    fields = ", ".join(f"{name}={short(value)}" for name, value in shown)
    return f"{type(named).__name__}({fields})"


class Cell(Protocol):
    """One step of a recurrence. Any object with these three methods is a cell; no base class is needed.

    An attribute ``input_ndim`` is the number of axes of one input without batch axes, by default 1: a token id has 0,
    an image 2 or 3. ``input_size`` and ``output_size``, where present, let :class:`~jaxrnn.Stack` check that sizes
    match.

    A ``step`` that takes a keyword ``key`` has noise: an unroll with a key gives step t the key ``fold_in(key, t)``, t
    the place in the inputs. Without a key it gives None, and the step is to be deterministic.
    """

    def init(self, key: Array) -> Params:
        """Draw the parameters."""

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """Return the state before the first step; the shape of every leaf starts with ``batch_shape``."""

    def step(self, params: Params, state: State, x: PyTree) -> tuple[State, PyTree]:
        """Take ``x [..., I]`` and return the next state and the output."""


class ScanOptions(NamedTuple):
    """How a sequence is scanned; the same for every cell of a model."""

    mask: Array | None  # [T, ...] bool: False in the padding and where there is no input; None: everywhere True
    resets: Array | None  # [T, ...] bool: the state is set to the initial state before step t
    reverse: bool  # from the last step to the first
    return_states: bool  # return the state after every step, not only the final one
    chunk: int | None  # number of steps in a rematerialised chunk; None: store all residuals
    derivative: str  # "rule", "linearized" or "autodiff": how a cell is differentiated, see jaxrnn.bptt
    initial: State | None = None  # [..., *features]: the state after a reset; None: the initial state of the model
    parallel: str | None = None  # "sequential", "scan" or "newton", see unroll; None: chosen by backend and shape
    tolerance: float | None = None  # of parallel="newton"

    def part(self, index: int | str) -> ScanOptions:
        """The options of a part of a model, whose state is that entry or field of the model's state."""
        if self.initial is None:
            return self
        return self._replace(initial=getattr(self.initial, index) if isinstance(index, str) else self.initial[index])


class Layer(Cell, Protocol):
    """A model that unrolls itself: it is composed of other models, or has no state.

    Its ``step`` and ``over_time`` take a random key for dropout; without one the pass is deterministic.
    """

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> tuple[State, PyTree]:
        """Take one step of every model that the layer is composed of."""

    def over_time(
        self, params: Params, state: State, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[State, PyTree, PyTree | None]:
        """Return the final state, the outputs of all steps, and all states (None unless ``return_states``)."""


class Differential(Cell, Protocol):
    r"""A cell that declares its own differential, which :mod:`jaxrnn.bptt` scans in place of autodiff.

    .. math:: ds_t = \frac{∂F}{∂s}\, ds_{t-1} + v_t

    ``recurrence`` and ``differential`` are called once for a whole sequence. Both return scanned inputs, ``[T, ...]``,
    and a step that takes one entry of them: what does not depend on the state is computed before the scan. The methods
    must be defined in the class of the cell itself: a subclass, which may change the step, is differentiated by
    autodiff. The ``recurrence`` of a cell with noise takes ``keys [T]`` too, by keyword, and draws it for all steps.
    """

    def recurrence(self, params: Params, xs: PyTree) -> tuple[PyTree, Recurrence]:
        """``zs`` and ``step(state, z) -> (state, residuals)``; the differential needs residuals and states."""

    def output(self, state: State, residuals: PyTree) -> PyTree:
        """The output, from the new state and the residuals of its step."""

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
        """``vs`` and ``step(ds, v) -> (ds, dy)``, linear in the tangents ``dparams``, ``dxs`` (None for 0) and ``ds``.

        The states before and after each step and the residuals are ``[T, ...]``, as ``xs`` are.
        """


Recurrence: TypeAlias = Callable[[State, PyTree], tuple[State, PyTree]]
Mask: TypeAlias = Callable[[Array], Array]


class Maskable(Cell, Protocol):
    """A cell that lets :class:`~jaxrnn.RecurrentDropout` and :class:`~jaxrnn.VariationalDropout` into its equations.

    ``masked_step`` is its step, with one function applied to h where it enters a product with ``w_hh``, another to the
    candidate c̃ or h̃, which the step writes into the state. A cell in whose step h enters by products alone may also
    have ``mask_state(state, mask)``, the state with h multiplied by the mask: then its differential is kept.
    """

    def masked_step(
        self, params: Params, state: State, x: PyTree, *, recurrent: Mask, candidate: Mask
    ) -> tuple[State, PyTree]:
        """Take one step with ``recurrent(h)`` in the products and ``candidate(c̃)`` in the update."""


def units(state: State) -> PyTree:
    """For each array of a state whether it holds units, that may be kept or learned one by one.

    They are floating; a state with ``unit_fields`` names its fields that hold some, the others belong together.
    """

    def mark(part: Any) -> Any:
        if not hasattr(part, "unit_fields"):
            return jax.dtypes.issubdtype(part.dtype, np.floating)
        others = set(part._fields) - set(part.unit_fields)
        return jax.tree.map(lambda _: True, part)._replace(**dict.fromkeys(others, False))

    return jax.tree.map(mark, state, is_leaf=lambda part: hasattr(part, "unit_fields"))


class LinearRecurrence(Cell, Protocol):
    r"""A cell whose state enters linearly: all of its states are computed in parallel, see :mod:`jaxrnn.parallel`.

    .. math:: s_t = a(x_t) ⊙ s_{t-1} + b(x_t), \qquad y_t = g(s_t, x_t)

    Both methods take one input or those of all steps. As for :class:`Differential`, they must be defined in the class
    of the cell itself. A cell that is linear for some hyperparameters only has a property ``is_linear``.
    """

    def linear_recurrence(self, params: Params, xs: PyTree) -> tuple[State, State]:
        """``a`` and ``b``, each of the structure of a state; axes along which ``a`` is the same may be 1."""

    def readout(self, params: Params, states: State, xs: PyTree) -> PyTree:
        """The outputs, from the states after each step and its inputs."""


@exportable
class Complex(NamedTuple):
    """Complex numbers as two real arrays: no dtype, file format or optimizer needs to know of them."""

    real: Array
    imag: Array


def has_differential(cell: Any) -> bool:
    """Whether the class of the cell itself, not one of its bases, declares a differential; so must a cell adapted."""
    declared = "differential" in vars(type(cell))
    return declared and (has_differential(cell.adapted) if hasattr(cell, "adapted") else True)


def takes_key(model: Any) -> bool:
    """Whether the step takes a random key: that of every layer, and of a cell with noise."""
    return takes_key(model.adapted) if hasattr(model, "adapted") else "key" in signature(model.step).parameters


def keyed_step(model: Any, key: Array | None) -> Callable[[Params, State, PyTree], tuple[State, PyTree]]:
    """The step of a model, with the key where it takes one."""
    return model.step if key is None or not takes_key(model) else partial(model.step, key=key)


def unmasked(x: Array) -> Array:
    """No mask: x itself."""
    return x


def is_linear(cell: Any) -> bool:
    """Whether the state of the cell enters linearly, as the class of the cell itself declares."""
    return "linear_recurrence" in vars(type(cell)) and getattr(cell, "is_linear", True)


def is_layer(model: Any) -> bool:
    """Whether the model unrolls itself; otherwise it is a cell, to be scanned."""
    return hasattr(model, "over_time")


def input_ndim(model: Any) -> int:
    """Number of axes of one input without batch axes: 1 for a vector, 0 for a token id."""
    return getattr(model, "input_ndim", 1)
