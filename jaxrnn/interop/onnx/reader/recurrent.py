"""The recurrent operators in a graph: their inputs in time and batch, lengths, and states."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxrnn.interop.onnx.reader.cells import directions
from jaxrnn.interop.onnx.reader.chains import Chain, Scan
from jaxrnn.interop.onnx.reader.graph import place_of
from jaxrnn.interop.onnx.reader.labels import Tensor, in_order, take
from jaxrnn.interop.onnx.reader.walk import Constant, Moved, Value, Walk
from jaxrnn.layers import Reverse


def recurrent(walk: Walk, node: Any, inputs: list[Value]) -> list[Value]:
    """RNN, GRU, LSTM: cells on rows ``[T, B]``, which must be those of the layer below."""
    attributes = walk.file.attributes(node)
    batch_first = attributes.get("layout", 0) == 1
    inputs = inputs + [None] * (8 - len(inputs))
    x, W, R, B, lengths, h, c, P = inputs
    if not isinstance(x, Moved) or x.labels.ndim != 3:
        walk.refuse(node, "a value of other axes", "inputs [T, B, I]")
    given = {"W": W, "R": R} | {name: value for name, value in (("B", B), ("P", P)) if value is not None}
    arrays = {name: walk.array(node, value, name) for name, value in given.items()}
    layers = directions(place_of(node), node.op_type, attributes, arrays)

    tensor, rows = walk.read(node, x)
    rows = rows.T if batch_first else rows
    n = _lengths(walk, node, lengths, len(rows))
    rows, flipped = _in_order(walk, node, tensor, rows, n)
    scan = _scan(walk, node, tensor.chain, rows, n)
    for initial in (h, c):
        check_initial(walk, node, initial)

    (T, batch), H = rows.shape, arrays["R"].shape[-1]
    order = np.arange(T * batch).reshape(T, batch)
    ys: list[np.ndarray] = []
    final: dict[str, list[np.ndarray]] = {"h": [], "c": []}
    for layer in layers:
        model = layer.model
        if flipped:
            model = model.layer if isinstance(model, Reverse) else Reverse(model)
        chain = tensor.chain.then(model, layer.params, scan=scan)
        y = walk.labels.new(chain, T * batch, H)
        ys.append(take(y, order[::-1] if flipped else order))
        for name, found in final.items():
            last = dataclasses.replace(chain, final=name)
            outputs = y if name == "h" and T == 1 and n is None else None
            state = walk.labels.new(last, batch, H, is_state=True, outputs=outputs)
            found.append(take(state, np.arange(batch)))
    Y = np.stack(ys, 1)  # [T, directions, B, H]
    axis = int(batch_first)
    return [Moved(Y.transpose(2, 0, 1, 3) if batch_first else Y), *(Moved(np.stack(a, axis)) for a in final.values())]


def _lengths(walk: Walk, node: Any, value: Value, T: int) -> str | None:
    """The input of the graph that holds lengths; None if they are T."""
    if value is None or (isinstance(value, Constant) and (value.array == T).all()):
        return None
    name = walk.ids(value)
    if name is None or not isinstance(value, Moved) or not np.array_equal(value.labels, walk.whole(name).ravel()):
        walk.refuse(node, "other lengths", "sequence_lens that are an input of the graph, or T", "make them an input")
    return name


def _in_order(walk: Walk, node: Any, tensor: Tensor, rows: np.ndarray, n: str | None) -> tuple[np.ndarray, bool]:
    """The rows ``[T, B]`` in the order of time, and whether the operator sees them in reverse."""
    scan, shape = tensor.chain.scan, walk.whole(tensor.chain.source).shape  # of ids, or of vectors
    grid = scan.rows.shape if scan else shape if np.prod(shape) == rows.size else shape[:-1]
    for flipped in (False, True):
        ordered = rows[::-1] if flipped else rows
        if rows.size == tensor.rows and in_order(ordered, grid):
            if flipped and n:
                walk.refuse(node, "inputs in reverse", "a direction with sequence_lens", "direction=reverse knows them")
            return ordered, flipped
    walk.refuse(node, "a part of it, or another order", "the whole sequence of inputs")


def _scan(walk: Walk, node: Any, chain: Chain, rows: np.ndarray, n: str | None) -> Scan:
    """What all recurrent operators of a chain share."""
    if chain.scan is None:
        return Scan(rows, n)
    if chain.scan.rows.shape != rows.shape or not np.array_equal(rows.ravel(), np.arange(rows.size)):
        walk.refuse(node, "other axes", "the same axes of time and batch as in the recurrent layer below")
    if chain.scan.lengths != n:
        walk.refuse(node, f"{n}", f"sequence_lens {chain.scan.lengths}, those of the recurrent layer below")
    return chain.scan


def check_initial(walk: Walk, node: Any, value: Value) -> None:
    """An initial state that is 0 or an input of the graph."""
    if isinstance(value, Constant) and value.array.any():
        walk.refuse(node, "a constant one", "an initial state that is 0 or an input of the graph",
                    "make it an input of the graph, and pass it to rnn.unroll as state")  # fmt: skip
    if isinstance(value, Moved) and any(tensor.chain.layers for tensor in walk.labels.of(value.labels)):
        walk.refuse(node, "the output of a layer", "an initial state that is 0 or an input of the graph",
                    "nodes=[...] gives each part of such a network by itself")  # fmt: skip
