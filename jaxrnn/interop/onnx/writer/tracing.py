"""Functions of JAX as nodes of ONNX, by their jaxpr: one node for each primitive, calls inlined.

A broadcast needs no node where an elementwise operator follows, since those of ONNX broadcast as NumPy does. So a value
may have the size 1, or lack leading axes, where the jaxpr has a larger array; :meth:`Graph.expand` comes before all
other operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxrnn import checks
from jaxrnn.interop.onnx.writer.graph import Graph, Value
from jaxrnn.interop.onnx.writer.primitives import PRIMITIVES
from jaxrnn.types import PyTree

CALLS = {  # primitives that call a jaxpr, and the parameter that holds it
    **dict.fromkeys(("jit", "pjit", "remat", "checkpoint"), "jaxpr"),
    **dict.fromkeys(("closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
}


def traced(graph: Graph, f: Callable, *trees: PyTree) -> PyTree:
    """Append the nodes of ``f(*trees)``, for trees of values; returns the tree of its results."""
    arguments = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), trees)
    closed, results = jax.make_jaxpr(f, return_shape=True)(*arguments)
    values = _write(graph, closed.jaxpr, closed.consts, jax.tree.leaves(trees))
    leaves, structure = jax.tree.flatten(results)
    whole = [graph.expand(value, leaf.shape) for value, leaf in zip(values, leaves, strict=True)]
    return jax.tree.unflatten(structure, whole)


def _write(graph: Graph, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Value]) -> list[Value]:
    """Append the nodes of a jaxpr."""
    values = dict(zip(jaxpr.invars, arguments, strict=True))
    values |= {var: graph.constant(const, var.aval.dtype) for var, const in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> Value:
        return values[atom] if _is_variable(atom) else graph.constant(atom.val, atom.aval.dtype)

    for equation in _used(jaxpr):
        name, operands = equation.primitive.name, [read(atom) for atom in equation.invars]
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            results = _write(graph, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), operands)
        elif name in PRIMITIVES:
            results = PRIMITIVES[name](graph, equation, *operands)
        else:
            checks.refuse(graph.place, "primitives of JAX that ONNX has", repr(name),
                          "write that part of the function with other ones", NotImplementedError)  # fmt: skip
        values |= zip(equation.outvars, results if isinstance(results, list) else [results], strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def _used(jaxpr: Any) -> list[Any]:
    """The equations that the results depend on; a check, for instance, leaves others behind."""
    needed, found = set(filter(_is_variable, jaxpr.outvars)), []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed |= set(filter(_is_variable, equation.invars))
            found.append(equation)
    return found[::-1]


def _is_variable(atom: Any) -> bool:
    """A literal number is the other kind of operand."""
    return not hasattr(atom, "val")
