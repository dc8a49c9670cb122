"""The primitives of JAX that have counterparts among ONNX's operators.

``PRIMITIVES[name](graph, equation, *operands)`` appends the nodes of one equation of a jaxpr and returns its result, or
the list of its results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrnn import checks
from jaxrnn.interop.onnx.writer.graph import Graph, Shape, Value

Writer = Callable[..., Any]


# ---- elementwise -------------------------------------------------------------------------------------------------


def _elementwise(*operators: str) -> Writer:
    """The operators one after another; the operands go to the first."""

    def write(graph: Graph, equation: Any, *operands: Value) -> Value:
        shape = _broadcast(*[value.shape for value in operands])
        dtype = equation.outvars[0].aval.dtype
        first, *rest = operators
        value = graph.add(first, operands, shape, dtype)
        for operator in rest:
            value = graph.add(operator, [value], shape, dtype)
        return value

    return write


def _broadcast(*shapes: Shape) -> Shape:
    """The shape of an elementwise result; axes are compared from the last one."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(next((n for n in sizes if not (isinstance(n, int) and n == 1)), 1) for sizes in zip(*padded))


def _of_bools(operator: str) -> Writer:
    """An operator that ONNX has for bools only."""

    def write(graph: Graph, equation: Any, *operands: Value) -> Value:
        if operands[0].dtype != np.bool_:
            checks.refuse(graph.place, f"bools as operands of {equation.primitive.name!r}", str(operands[0].dtype),
                          "ONNX has no other", NotImplementedError)  # fmt: skip
        return _elementwise(operator)(graph, equation, *operands)

    return write


def _with_constant(operator: str, number: Callable[[Any], Any], *, first: bool = False) -> Writer:
    """An operator of the operand and a number, which the equation gives."""

    def write(graph: Graph, equation: Any, x: Value) -> Value:
        constant = graph.constant(number(equation), x.dtype)
        return _elementwise(operator)(graph, equation, *((constant, x) if first else (x, constant)))

    return write


def _not_equal(graph: Graph, equation: Any, a: Value, b: Value) -> Value:
    return _elementwise("Equal", "Not")(graph, equation, a, b)


def _log1p(graph: Graph, equation: Any, x: Value) -> Value:
    """log(1 + x), whose absolute error is that of the dtype."""
    return _elementwise("Log")(graph, equation, _with_constant("Add", lambda _: 1)(graph, equation, x))


def _expm1(graph: Graph, equation: Any, x: Value) -> Value:
    """exp(x) - 1, whose absolute error is that of the dtype."""
    return _with_constant("Sub", lambda _: 1)(graph, equation, _elementwise("Exp")(graph, equation, x))


def _square(graph: Graph, equation: Any, x: Value) -> Value:
    return _elementwise("Mul")(graph, equation, x, x)


def _clamp(graph: Graph, equation: Any, low: Value, x: Value, high: Value) -> Value:
    return _elementwise("Min")(graph, equation, _elementwise("Max")(graph, equation, x, low), high)


def _is_finite(graph: Graph, equation: Any, x: Value) -> Value:
    """The difference of x and x is 0 for finite numbers, otherwise NaN."""
    zero = graph.add("Sub", [x, x], x.shape, x.dtype)
    return graph.add("Equal", [zero, graph.constant(0, x.dtype)], x.shape, np.bool_)


def _round(graph: Graph, equation: Any, x: Value) -> Value:
    """To even numbers where two are as near."""
    method = equation.params["rounding_method"].name
    if method != "TO_NEAREST_EVEN":
        checks.refuse(graph.place, "'round' to the nearest even number, as jnp.round does", method,
                      error=NotImplementedError)  # fmt: skip
    return _elementwise("Round")(graph, equation, x)


def _remainder(graph: Graph, equation: Any, a: Value, b: Value) -> Value:
    """With the sign of a."""
    return graph.add("Mod", [a, b], _broadcast(a.shape, b.shape), a.dtype, fmod=1)


def _select(graph: Graph, equation: Any, which: Value, *cases: Value) -> Value:
    """Where, whose cases come in the other order."""
    if which.dtype != np.bool_:
        checks.refuse(graph.place, "a choice between two arrays", f"{len(cases)} cases by an integer",
                      "jnp.where takes bools", NotImplementedError)  # fmt: skip
    return _elementwise("Where")(graph, equation, which, *reversed(cases))


def _cast(graph: Graph, equation: Any, x: Value) -> Value:
    return cast(graph, x, equation.params["new_dtype"])


def cast(graph: Graph, x: Value, dtype: Any) -> Value:
    """The value in another dtype."""
    if x.dtype == dtype:
        return x
    return graph.add("Cast", [x], x.shape, dtype, to=np.dtype(dtype))


def _same(graph: Graph, equation: Any, *operands: Value) -> list[Value]:
    return list(operands)


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
    parts = [_unsqueeze(graph, cast(graph, starts[n], np.int64), [0]) for n in axes]
    start = parts[0] if len(parts) == 1 else graph.add("Concat", parts, (len(parts),), np.int64, axis=0)
    whole, size = (graph.shape(tuple(of[n] for n in axes)) for of in (x.shape, sizes))
    largest = graph.add("Sub", [whole, size], start.shape, np.int64)
    start = graph.add("Min", [start, largest], start.shape, np.int64)
    start = graph.add("Max", [start, graph.constant([0], np.int64)], start.shape, np.int64)
    return _slice_from(graph, x, start, axes, sizes)


def _slice_from(graph: Graph, x: Value, start: Value, axes: list[int], sizes: Shape) -> Value:
    """Slices of these sizes, from a start for each of these axes."""
    size = graph.shape(tuple(sizes[n] for n in axes))
    end = graph.add("Add", [start, size], start.shape, np.int64)
    return graph.add("Slice", [x, start, end, graph.constant(axes, np.int64)], sizes, x.dtype)


def _gather(graph: Graph, equation: Any, x: Value, indices: Value) -> Value:
    """``x[..., 1:3]`` of an array with symbolic axes, or entries along one axis by indices, which are not checked."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    axes, collapsed, shape = (
        list(numbers.start_index_map),
        list(numbers.collapsed_slice_dims),
        equation.outvars[0].aval.shape,
    )
    indices, rank = cast(graph, indices, np.int64), len(indices.shape) - 1
    if rank == 0:
        part = _slice_from(graph, x, indices, axes, sizes)
        return graph.add("Squeeze", [part, graph.constant(collapsed, np.int64)], shape, x.dtype) if collapsed else part
    axis, others = axes[0], [n for n in range(len(x.shape)) if n != axes[0]]
    places = tuple(n if n < axis else n - 1 + rank for n in others)  # of the other axes in the result
    entries = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    if axes != collapsed or tuple(sizes) != entries or tuple(numbers.offset_dims) != places:
        checks.refuse(graph.place, "indices along one axis, or one slice", "'gather' in another form",
                      "jnp.take along one axis", NotImplementedError)  # fmt: skip
    ids = graph.add("Squeeze", [indices, graph.constant([-1], np.int64)], indices.shape[:-1], np.int64)
    return graph.add("Gather", [x, ids], shape, x.dtype, axis=axis)


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

ELEMENTWISE = {
    "add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min",
    "neg": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil",
    "exp": "Exp", "log": "Log", "pow": "Pow", "sqrt": "Sqrt", "tanh": "Tanh", "logistic": "Sigmoid", "erf": "Erf",
    "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan",
    "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual",
}  # fmt: skip

PRIMITIVES: dict[str, Writer] = {
    **{name: _elementwise(operator) for name, operator in ELEMENTWISE.items()},
    **{name: _of_bools(operator) for name, operator in {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}.items()},
    **dict.fromkeys(("stop_gradient", "optimization_barrier", "copy", "copy_p", "sharding_constraint"), _same),
    "ne": _not_equal,
    "rsqrt": _elementwise("Sqrt", "Reciprocal"),
    "square": _square,
    "integer_pow": _with_constant("Pow", lambda equation: equation.params["y"]),
    "exp2": _with_constant("Pow", lambda equation: 2, first=True),
    "log1p": _log1p,
    "expm1": _expm1,
    "clamp": _clamp,
    "round": _round,
    "rem": _remainder,
    "is_finite": _is_finite,
    "select_n": _select,
    "convert_element_type": _cast,
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
