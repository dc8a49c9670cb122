"""The layers of a model as nodes: each function follows the ``over_time`` of its layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrnn import checks
from jaxrnn.interop.onnx.writer import recurrent
from jaxrnn.interop.onnx.writer.graph import Graph, Value
from jaxrnn.interop.onnx.writer.recurrent import Options
from jaxrnn.interop.onnx.writer.tracing import traced
from jaxrnn.layers import (
    Activation,
    Bidirectional,
    Dropout,
    Embedding,
    Linear,
    MixedPrecision,
    Residual,
    Reverse,
    Stack,
    Tied,
)
from jaxrnn.layers.bidirectional import MERGES
from jaxrnn.layers.pointwise import Pointwise
from jaxrnn.scan import where
from jaxrnn.types import PyTree, is_layer

OPERATORS = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid", "softmax": "Softmax", "log_softmax": "LogSoftmax"}


def over_time(
    graph: Graph, model: Any, params: PyTree, state: PyTree | None, xs: Value, options: Options
) -> tuple[PyTree, Any]:
    """Append the nodes of a model over a sequence.

    Args:
        graph: where they go, at the place of the model.
        model: a cell or layer.
        params: its parameters, a tree of initializers.
        state: the initial state, a tree of values, or None for the default one.
        xs: ``[T, B, I]`` or ids ``[T, B]``.
        options: how the sequence is scanned.

    Returns:
        The final state, None without a state, and the outputs.
    """
    if type(model) in LAYERS:
        return LAYERS[type(model)](graph, model, params, state, xs, options)
    if isinstance(model, Pointwise) and type(model).over_time is Pointwise.over_time:
        return _pointwise(graph, model, params, state, xs, options)
    if is_layer(model):
        written = ", ".join(kind.__name__ for kind in LAYERS)
        checks.refuse(graph.place, f"{written}, your own Pointwise layer, or a cell", repr(model),
                      "only these are written as nodes", TypeError)  # fmt: skip
    return recurrent.over_time(graph, model, params, state, xs, options)


def _stack(graph: Graph, model: Stack, params: Any, state: Any, xs: Any, options: Options) -> tuple[PyTree, Any]:
    finals = []
    states = [None] * len(model.layers) if state is None else state
    for index, (layer, p, s) in enumerate(zip(model.layers, params, states, strict=True)):
        final, xs = over_time(graph.at(f"{graph.place}.layers[{index}]"), layer, p, s, xs, options)
        finals.append(final)
    return None if state is None else tuple(finals), xs


def _bidirectional(
    graph: Graph, model: Bidirectional, params: Any, state: Any, xs: Value, options: Options
) -> tuple[PyTree, Any]:
    finals, ys = directions(graph, model, params, state, xs, options)
    return finals, merged(graph, model.merge, *ys)


def directions(
    graph: Graph, model: Bidirectional, params: Any, state: Any, xs: Value, options: Options
) -> tuple[PyTree, list[Value]]:
    """The final states and the outputs of both directions: one operator where ONNX has it, else two."""
    states = (None, None) if state is None else state
    if recurrent.share_an_operator(model.directions, options):
        finals, ys = recurrent.native(graph, model.directions, params, states, xs, options)
    else:
        finals, ys = [], []
        for name, layer, p, s in zip(("forward", "backward"), model.directions, params, states, strict=True):
            direction = options._replace(reverse=options.reverse ^ (name == "backward"))
            final, y = over_time(graph.at(f"{graph.place}.{name}"), layer, p, s, xs, direction)
            finals.append(final)
            ys.append(y)
    return None if state is None else tuple(finals), ys


def merged(graph: Graph, merge: str, a: Value, b: Value) -> Any:
    """Two outputs as a layer merges them."""
    return (a, b) if merge == "both" else traced(graph, MERGES[merge], a, b)


def _residual(
    graph: Graph, model: Residual, params: Any, state: Any, xs: Value, options: Options
) -> tuple[PyTree, Any]:
    final, ys = over_time(graph.at(f"{graph.place}.layer"), model.layer, params, state, xs, options)
    return final, merged(graph, model.merge, xs, ys)


def _reverse(graph: Graph, model: Reverse, params: Any, state: Any, xs: Value, options: Options) -> tuple[PyTree, Any]:
    options = options._replace(reverse=not options.reverse)
    return over_time(graph.at(f"{graph.place}.layer"), model.layer, params, state, xs, options)


def _mixed_precision(
    graph: Graph, model: MixedPrecision, params: Any, state: Any, xs: Value, options: Options
) -> tuple[PyTree, Any]:
    check_precision(graph, model, options)
    return over_time(graph.at(f"{graph.place}.layer"), model.layer, params, state, xs, options)


def check_precision(graph: Graph, model: MixedPrecision, options: Options) -> None:
    """A layer that computes in the dtype of the graph, or may."""
    for name in ("compute_dtype", "output_dtype"):
        if getattr(model, name) != options.dtype.name and not options.convert:
            checks.refuse(f"{graph.place}.{name}", f"{options.dtype.name!r}, that of the parameters",
                          repr(getattr(model, name)),
                          f"to_model(..., dtype={options.dtype.name!r}) computes everything in that dtype")  # fmt: skip


def _tied(graph: Graph, model: Tied, params: Any, state: Any, xs: Value, options: Options) -> tuple[PyTree, Any]:
    vectors = _gather(graph.at(f"{graph.place}.embedding"), params.embedding.w, xs)
    final, ys = over_time(graph.at(f"{graph.place}.layer"), model.layer, params.layer, state, vectors, options)
    return final, _without_padding(graph, traced(graph, model._readout, params, ys), options)


# ---- layers without state ----------------------------------------------------------------------------------------


def _pointwise(graph: Graph, model: Any, params: Any, state: Any, xs: Value, options: Options) -> tuple[PyTree, Any]:
    return None if state is None else (), _without_padding(graph, apply(graph, model, params, xs), options)


def apply(graph: Graph, model: Any, params: Any, x: Value) -> Value:
    """The layer at every step, or of one vector."""
    if type(model) is Embedding:
        return _gather(graph, params.w, x)
    if type(model) is Activation and model.function in OPERATORS:
        axis = {"axis": -1} if "softmax" in model.function else {}
        return graph.add(OPERATORS[model.function], [x], x.shape, x.dtype, **axis)
    if type(model) is Dropout:  # the identity, but in training
        return graph.add("Dropout", [x, graph.constant(model.rate, np.float64)], x.shape, x.dtype)
    return traced(graph, model.apply, params, x)


def _gather(graph: Graph, w: Value, ids: Value) -> Value:
    return graph.add("Gather", [w, ids], (*ids.shape, *w.shape[1:]), w.dtype, axis=0)


def _without_padding(graph: Graph, ys: Value, options: Options) -> Value:
    return ys if options.mask is None else traced(graph, where, options.mask, ys)


LAYERS: dict[type, Callable[..., tuple[PyTree, Any]]] = {
    Stack: _stack,
    Bidirectional: _bidirectional,
    Residual: _residual,
    Reverse: _reverse,
    MixedPrecision: _mixed_precision,
    Tied: _tied,
    **dict.fromkeys((Linear, Activation, Dropout, Embedding), _pointwise),
}
