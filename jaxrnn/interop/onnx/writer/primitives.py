"""The primitives of JAX that have counterparts among ONNX's operators.

``PRIMITIVES[name](graph, equation, *operands)`` appends the nodes of one equation of a jaxpr and returns its result, or
the list of its results.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrnn import checks
from jaxrnn.interop.onnx.writer.elementwise import ELEMENTWISE, Writer, cast
from jaxrnn.interop.onnx.writer.graph import Graph, Shape, Value

# ---- shapes ------------------------------------------------------------------------------------------------------


def _whole(write: Writer) -> Writer:
    """A primitive that is not elementwise: its operands are broadcast before it."""

    def wrapped(graph: Graph, equation: Any, *operands: Value) -> Any:
        avals = [atom.aval for atom in equation.invars]
        return write(graph, equation, *[graph.expand(v, a.shape) for v, a in zip(operands, avals, strict=True)])

    return wrapped


def _broadcast_in_dim(graph: Graph, equation: Any, x: Value, *_: Value) -> Value:
    """New axes of size 1 between those of x; leading ones, and larger sizes, follow by broadcasting."""
    axes, rank = equation.params["broadcast_dimensions"], len(equation.params["shape"])
    lacking = len(equation.invars[0].aval.shape) - len(x.shape)  # leading axes that x lacks already
    axes = axes[lacking:]
    first = min(axes, default=rank)
    return _unsqueeze(graph, x, [axis for axis in range(first, rank) if axis not in axes], first)


def _unsqueeze(graph: Graph, x: Value, new: list[int], first: int = 0) -> Value:
    """New axes of size 1, at indices of the result counted from ``first``."""
    if not new:
        return x
    sizes = iter(x.shape)
    axes = [axis - first for axis in new]
    shape = [1 if axis in axes else next(sizes) for axis in range(len(x.shape) + len(axes))]
    return graph.add("Unsqueeze", [x, graph.constant(axes, np.int64)], shape, x.dtype)


def _reshape(graph: Graph, equation: Any, x: Value) -> Value:
    shape = equation.outvars[0].aval.shape
    if shape == x.shape:
        return x
    if [n for n in shape if n != 1] == [n for n in x.shape if n != 1] and 1 not in x.shape:
        return _unsqueeze(graph, x, [axis for axis, n in enumerate(shape) if n == 1])
    unknown = [n for n in shape if not isinstance(n, int)]
    if len(unknown) > 1:
        target = graph.shape(shape)
    else:
        target = graph.constant([n if isinstance(n, int) else -1 for n in shape], np.int64)
    return graph.add("Reshape", [x, target], shape, x.dtype)


def _squeeze(graph: Graph, equation: Any, x: Value) -> Value:
    axes = graph.constant(equation.params["dimensions"], np.int64)
    return graph.add("Squeeze", [x, axes], equation.outvars[0].aval.shape, x.dtype)


def _transpose(graph: Graph, equation: Any, x: Value) -> Value:
    order = equation.params["permutation"]
    return graph.add("Transpose", [x], equation.outvars[0].aval.shape, x.dtype, perm=list(order))


def _concatenate(graph: Graph, equation: Any, *operands: Value) -> Value:
    aval = equation.outvars[0].aval
    return graph.add("Concat", operands, aval.shape, aval.dtype, axis=equation.params["dimension"])


def _stack(graph: Graph, equation: Any, *operands: Value) -> Value:
    """A concatenation along a new axis."""
    aval, axis = equation.outvars[0].aval, equation.params["axis"]
    parts = [_unsqueeze(graph, x, [axis]) for x in operands]
    return parts[0] if len(parts) == 1 else graph.add("Concat", parts, aval.shape, aval.dtype, axis=axis)


def _unstack(graph: Graph, equation: Any, x: Value) -> list[Value]:
    """Each entry along an axis."""
    axis, outputs = equation.params["axis"], [var.aval for var in equation.outvars]
    indices = [graph.constant(index, np.int64) for index in range(len(outputs))]
    return [graph.add("Gather", [x, n], y.shape, y.dtype, axis=axis) for n, y in zip(indices, outputs, strict=True)]


def _split(graph: Graph, equation: Any, x: Value) -> list[Value]:
    sizes = graph.constant(equation.params["sizes"], np.int64)
    outputs = [var.aval for var in equation.outvars]
    return graph.add_many("Split", [x, sizes], outputs, axis=equation.params["axis"])


def _slice(graph: Graph, equation: Any, x: Value) -> Value:
    starts, ends = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or (1,) * len(starts)
    axes = [n for n, size in enumerate(x.shape) if (starts[n], steps[n]) != (0, 1) or ends[n] != size]
    if not axes:
        return x
    vectors = [graph.shape(tuple(values[n] for n in axes)) for values in (starts, ends)]
    vectors += [graph.constant(values, np.int64) for values in (axes, [steps[n] for n in axes])]
    return graph.add("Slice", [x, *vectors], equation.outvars[0].aval.shape, x.dtype)


def _dynamic_slice(graph: Graph, equation: Any, x: Value, *starts: Value) -> Value:
    """From starts that are computed, along the axes that are not whole; a slice that would not fit is moved."""
    sizes = equation.params["slice_sizes"]
    axes = [n for n, size in enumerate(sizes) if size != x.shape[n]]
    if not axes:
        return x
    parts = [_unsqueeze(graph, cast(graph, starts[n], np.int64), [0]) for n in axes]
    start = parts[0] if len(parts) == 1 else graph.add("Concat", parts, (len(parts),), np.int64, axis=0)
    return _slice_from(graph, x, _inside(graph, x, start, axes, sizes), axes, sizes)


def _inside(graph: Graph, x: Value, starts: Value, axes: list[int], sizes: Shape) -> Value:
    """The nearest starts ``[..., axes]`` from which slices of these sizes fit."""
    whole, size = (graph.shape(tuple(of[n] for n in axes)) for of in (x.shape, sizes))
    largest = graph.add("Sub", [whole, size], whole.shape, np.int64)
    starts = graph.add("Min", [starts, largest], starts.shape, np.int64)
    return graph.add("Max", [starts, graph.constant([0], np.int64)], starts.shape, np.int64)


def _slice_from(graph: Graph, x: Value, start: Value, axes: list[int], sizes: Shape) -> Value:
    """Slices of these sizes, from a start for each of these axes."""
    size = graph.shape(tuple(sizes[n] for n in axes))
    end = graph.add("Add", [start, size], start.shape, np.int64)
    return graph.add("Slice", [x, start, end, graph.constant(axes, np.int64)], sizes, x.dtype)


def _gather(graph: Graph, equation: Any, x: Value, indices: Value) -> Value:
    """``x[..., 1:3]`` of an array with symbolic axes, or entries along one axis.

    Indices outside are those of the nearest entries, also where they are promised to be inside, as XLA has it; with
    the mode "fill" the result is the fill value there.
    """
    numbers, sizes, mode = (equation.params[name] for name in ("dimension_numbers", "slice_sizes", "mode"))
    axes, collapsed = list(numbers.start_index_map), list(numbers.collapsed_slice_dims)
    aval, rank = equation.outvars[0].aval, len(indices.shape) - 1
    axis, others = axes[0], [n for n in range(len(x.shape)) if n != axes[0]]
    places = tuple(n if n < axis else n - 1 + rank for n in others)  # of the other axes in the result
    entries = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    along_one = axes == collapsed and tuple(sizes) == entries and tuple(numbers.offset_dims) == places
    if mode.name not in ("CLIP", "PROMISE_IN_BOUNDS", "FILL_OR_DROP") or (rank and not along_one):
        checks.refuse(graph.place, "indices along one axis, or one slice", f"'gather' in another form ({mode.name})",
                      "jnp.take along one axis", NotImplementedError)  # fmt: skip
    indices = cast(graph, indices, np.int64)
    inside = _inside(graph, x, indices, axes, sizes)
    if rank == 0:
        part = _slice_from(graph, x, inside, axes, sizes)
        squeezed = [part, graph.constant(collapsed, np.int64)]
        result = graph.add("Squeeze", squeezed, aval.shape, x.dtype) if collapsed else part
    else:
        ids = graph.add("Squeeze", [inside, graph.constant([-1], np.int64)], indices.shape[:-1], np.int64)
        result = graph.add("Gather", [x, ids], aval.shape, x.dtype, axis=axis)
    if mode.name != "FILL_OR_DROP":
        return result
    fits = graph.add("Equal", [indices, inside], indices.shape, np.bool_)
    fits = cast(graph, fits, np.int32)
    fits = graph.add("ReduceMin", [fits], indices.shape[:-1], np.int32, axes=[-1], keepdims=0)
    fits = _unsqueeze(graph, fits, list(range(rank, rank + len(x.shape) - 1 - axis)) if rank else [])
    fill = graph.constant(equation.params["fill_value"], x.dtype)
    return graph.add("Where", [cast(graph, fits, np.bool_), result, fill], aval.shape, x.dtype)


def _reverse(graph: Graph, equation: Any, x: Value) -> Value:
    axes = equation.params["dimensions"]
    ends = [np.iinfo(np.int64).min] * len(axes)
    vectors = [graph.constant(values, np.int64) for values in ([-1] * len(axes), ends, axes, [-1] * len(axes))]
    return graph.add("Slice", [x, *vectors], x.shape, x.dtype)


def _iota(graph: Graph, equation: Any) -> Value:
    """0, 1, 2, ... along one axis; the others follow by broadcasting."""
    shape, axis, dtype = (equation.params[name] for name in ("shape", "dimension", "dtype"))
    size = shape[axis]
    if isinstance(size, int):
        numbers = graph.constant(np.arange(size), dtype)
    else:
        limit = graph.add("Squeeze", [graph.size(size)], (), np.int64)
        bounds = [graph.constant(0, np.int64), limit, graph.constant(1, np.int64)]
        numbers = cast(graph, graph.add("Range", bounds, (size,), np.int64), dtype)
    return _unsqueeze(graph, numbers, list(range(1, len(shape) - axis)))


def _dimension(graph: Graph, equation: Any) -> Value:
    """A symbolic size as a number."""
    aval = equation.outvars[0].aval
    return cast(graph, graph.add("Squeeze", [graph.size(equation.params["dim"])], (), np.int64), aval.dtype)


# ---- sums and products -------------------------------------------------------------------------------------------


def _reduce(operator: str, *, of_bools: bool = False) -> Writer:
    """A reduction over some axes. ONNX reduces numbers only: bools are 0 and 1 in between."""

    def write(graph: Graph, equation: Any, x: Value) -> Value:
        axes, aval = list(equation.params["axes"]), equation.outvars[0].aval
        x = cast(graph, x, np.int32) if of_bools else x
        if operator == "ReduceSum":  # its axes are an input
            return graph.add(operator, [x, graph.constant(axes, np.int64)], aval.shape, x.dtype, keepdims=0)
        return cast(graph, graph.add(operator, [x], aval.shape, x.dtype, axes=axes, keepdims=0), aval.dtype)

    return write


def _arg(operator: str) -> Writer:
    def write(graph: Graph, equation: Any, x: Value) -> Value:
        aval, (axis,) = equation.outvars[0].aval, equation.params["axes"]
        return cast(graph, graph.add(operator, [x], aval.shape, np.int64, axis=axis, keepdims=0), aval.dtype)

    return write


def _cumulative_sum(graph: Graph, equation: Any, x: Value) -> Value:
    axis, reverse = equation.params["axis"], int(equation.params["reverse"])
    return graph.add("CumSum", [x, graph.constant(axis, np.int64)], x.shape, x.dtype, reverse=reverse)


def _dot(graph: Graph, equation: Any, a: Value, b: Value) -> Value:
    """MatMul for rows times a matrix, otherwise Einsum."""
    (contract_a, contract_b), (batch_a, batch_b) = equation.params["dimension_numbers"]
    aval = equation.outvars[0].aval
    if len(b.shape) == 2 and tuple(contract_a) == (len(a.shape) - 1,) and not batch_a:
        if tuple(contract_b) == (1,):
            b = graph.add("Transpose", [b], b.shape[::-1], b.dtype, perm=[1, 0])
        return graph.add("MatMul", [a, b], aval.shape, aval.dtype)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    of_a = [next(letters) for _ in a.shape]
    pairs = dict(zip((*contract_b, *batch_b), (*contract_a, *batch_a), strict=True))  # axes of b and of a
    of_b = [of_a[pairs[axis]] if axis in pairs else next(letters) for axis in range(len(b.shape))]
    result = [of_a[axis] for axis in batch_a]
    result += [letter for axis, letter in enumerate(of_a) if axis not in (*contract_a, *batch_a)]
    result += [letter for axis, letter in enumerate(of_b) if axis not in pairs]
    formula = f"{''.join(of_a)},{''.join(of_b)}->{''.join(result)}"
    return graph.add("Einsum", [a, b], aval.shape, aval.dtype, equation=formula)


# ---- the table ---------------------------------------------------------------------------------------------------

PRIMITIVES: dict[str, Writer] = {
    **ELEMENTWISE,
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _whole(_reshape),
    "squeeze": _whole(_squeeze),
    "transpose": _whole(_transpose),
    "concatenate": _whole(_concatenate),
    "stack": _whole(_stack),
    "unstack": _whole(_unstack),
    "split": _whole(_split),
    "slice": _whole(_slice),
    "dynamic_slice": _whole(_dynamic_slice),
    "gather": _whole(_gather),
    "rev": _whole(_reverse),
    "iota": _iota,
    "dim_as_value": _dimension,
    "reduce_sum": _whole(_reduce("ReduceSum")),
    "reduce_max": _whole(_reduce("ReduceMax")),
    "reduce_min": _whole(_reduce("ReduceMin")),
    "reduce_prod": _whole(_reduce("ReduceProd")),
    "reduce_and": _whole(_reduce("ReduceMin", of_bools=True)),
    "reduce_or": _whole(_reduce("ReduceMax", of_bools=True)),
    "argmax": _whole(_arg("ArgMax")),
    "argmin": _whole(_arg("ArgMin")),
    "cumsum": _whole(_cumulative_sum),
    "dot_general": _whole(_dot),
}
