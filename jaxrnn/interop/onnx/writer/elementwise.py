"""The primitives of JAX that work element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.interop.onnx.writer.graph import Graph, Shape, Value

Writer = Callable[..., Any]


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
    """log(1 + x); for abs(x) < 1 it is x log(u) / (u - 1) with u = 1 + x as rounded, or x where u is 1."""

    def node(operator: str, *operands: Value, dtype: Any = x.dtype) -> Value:
        return graph.add(operator, operands, x.shape, dtype)

    one = graph.constant(1, x.dtype)
    u = node("Add", x, one)
    log = node("Log", u)
    ratio = node("Div", x, node("Sub", u, one))
    near = node("Where", node("Equal", u, one, dtype=np.bool_), x, node("Mul", log, ratio))
    return node("Where", node("Less", node("Abs", x), one, dtype=np.bool_), near, log)


def _expm1(graph: Graph, equation: Any, x: Value) -> Value:
    """exp(x) - 1 = tanh(x / 2) (exp(x) + 1), without a difference of near numbers."""

    def node(operator: str, *operands: Value) -> Value:
        return graph.add(operator, operands, x.shape, x.dtype)

    one, half = (graph.constant(number, x.dtype) for number in (1, 0.5))
    return node("Mul", node("Tanh", node("Mul", x, half)), node("Add", node("Exp", x), one))


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
    """The value in another dtype; a float beyond all integers becomes the last of them, NaN becomes 0."""
    dtype = np.dtype(equation.params["new_dtype"])
    if not jnp.issubdtype(x.dtype, jnp.floating) or not jnp.issubdtype(dtype, jnp.integer):
        return cast(graph, x, dtype)

    def node(operator: str, *operands: Value, dtype: Any = x.dtype) -> Value:
        return graph.add(operator, operands, x.shape, dtype)

    ends, high = jnp.iinfo(dtype), x.dtype.type(jnp.iinfo(dtype).max)
    if float(high) > ends.max:  # rounded up, as the largest integer is no float
        high = np.nextafter(high, x.dtype.type(0))
    low, highest, zero = (graph.constant(number, x.dtype) for number in (ends.min, high, 0))
    number = node("Where", node("Equal", x, x, dtype=np.bool_), x, zero)
    whole = cast(graph, node("Min", node("Max", number, low), highest), dtype)
    if float(high) == ends.max:
        return whole
    largest = graph.constant(ends.max, dtype)
    return node("Where", node("Greater", x, highest, dtype=np.bool_), largest, whole, dtype=dtype)


def cast(graph: Graph, x: Value, dtype: Any) -> Value:
    """The value in another dtype."""
    if x.dtype == dtype:
        return x
    return graph.add("Cast", [x], x.shape, dtype, to=np.dtype(dtype))


def _same(graph: Graph, equation: Any, *operands: Value) -> list[Value]:
    return list(operands)


# ---- the table ---------------------------------------------------------------------------------------------------

OPERATORS = {
    "add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min",
    "neg": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil",
    "exp": "Exp", "log": "Log", "pow": "Pow", "sqrt": "Sqrt", "tanh": "Tanh", "logistic": "Sigmoid", "erf": "Erf",
    "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan",
    "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual",
}  # fmt: skip

ELEMENTWISE: dict[str, Writer] = {
    **{name: _elementwise(operator) for name, operator in OPERATORS.items()},
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
}
