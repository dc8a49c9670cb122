"""The operators that are layers of jaxrnn: each function gives the outputs of a node, or None if it only moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn.interop.arrays import to_numpy
from jaxrnn.interop.onnx.activations import NAMES, SCALED
from jaxrnn.interop.onnx.reader.chains import Chain, Scan, with_bias
from jaxrnn.interop.onnx.reader.graph import place_of
from jaxrnn.interop.onnx.reader.labels import ZERO, take
from jaxrnn.interop.onnx.reader.recurrent import check_initial, recurrent
from jaxrnn.interop.onnx.reader.walk import Arithmetic, Constant, Moved, Value, Walk
from jaxrnn.layers import (
    Activation,
    Bidirectional,
    Dropout,
    Embedding,
    EmbeddingParams,
    Linear,
    LinearParams,
)

# ---- pointwise layers --------------------------------------------------------------------------------------------


def gather(walk: Walk, node: Any, inputs: list[Value]) -> list[Value] | None:
    """Gather: an embedding, if constant rows are taken by ids."""
    table, ids = inputs
    if isinstance(ids, Constant):
        return None
    if not isinstance(table, Constant):
        walk.refuse(node, "an index that is computed", "a constant index, or a constant table")
    if table.array.ndim != 2 or walk.file.attributes(node).get("axis", 0) != 0:
        walk.refuse(node, f"{table.array.ndim} axes", "a table [V, size], of which rows are taken")
    w = to_numpy(place_of(node), walk.array(node, table, "table"))
    V, size = w.shape
    if isinstance(ids, Arithmetic):
        ids = _same_ids(walk, node, ids, V)
    assert isinstance(ids, Moved)
    tensors = walk.labels.of(ids.labels)
    if len(tensors) != 1 or tensors[0].chain.layers:
        walk.refuse(node, "the output of a layer", "ids that are an input of the graph")
    model = Embedding(V, size, dtype=w.dtype.name)
    chain = tensors[0].chain.then(model, EmbeddingParams(jnp.array(w)))
    tensor = dataclasses.replace(tensors[0], features=1)
    return walk.give(tensor, ids.labels - tensor.first, chain, size)


def _same_ids(walk: Walk, node: Any, ids: Arithmetic, V: int) -> Moved:
    """The ids of an input, where a file computes what in [0, V) are the same ids."""
    whole = walk.whole(ids.source)
    for start in range(0, V, whole.size):
        tried = (start + np.arange(whole.size).reshape(whole.shape)) % V
        if not np.array_equal(walk.computed(node.input[1], ids.source, tried), tried):
            walk.refuse(node, "others", f"ids, after what is computed from them, that are the same in [0, {V})")
    return Moved(whole)


def matmul(walk: Walk, node: Any, inputs: list[Value]) -> list[Value] | None:
    """MatMul by a matrix: a readout without a bias."""
    x, w = inputs
    return _linear(walk, node, x, w, None)


def gemm(walk: Walk, node: Any, inputs: list[Value]) -> list[Value] | None:
    """Gemm: a readout."""
    x, w, b = (*inputs, None)[:3]
    attributes = walk.file.attributes(node)
    if attributes.get("transA", 0):
        walk.refuse(node, "transA=1", "rows of outputs")
    alpha, beta = (np.float32(attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    array = walk.array(node, w, "weights")
    array = array.T if attributes.get("transB", 0) else array
    bias = None if b is None else walk.array(node, b, "biases")
    return _linear(
        walk, node, x,
        Constant(array if alpha == 1 else (alpha * array).astype(array.dtype)),
        bias if bias is None or beta == 1 else (beta * bias).astype(bias.dtype),
    )  # fmt: skip


def _linear(walk: Walk, node: Any, x: Value, w: Value, b: np.ndarray | None) -> list[Value]:
    array = to_numpy(place_of(node), walk.array(node, w, "weights"))
    tensor, rows = walk.read(node, x)
    if array.ndim != 2 or len(array) != tensor.features:
        walk.refuse(node, f"weights {list(array.shape)}", f"weights [{tensor.features}, out]")
    model = Linear(*array.shape, use_bias=b is not None, dtype=array.dtype.name)
    bias = None if b is None else jnp.array(_vector(walk, node, b, array.shape[1]))
    chain = tensor.chain.then(model, LinearParams(jnp.array(array), bias))
    return walk.give(tensor, rows, chain, array.shape[1])


def _vector(walk: Walk, node: Any, b: np.ndarray, features: int) -> np.ndarray:
    """A bias that is the same for all rows, ``[features]``."""
    if b.size not in (1, features) or (b.ndim and b.size != b.shape[-1]):
        walk.refuse(node, f"{list(b.shape)}", f"a bias [{features}]")
    return np.broadcast_to(b.reshape(-1), (features,))


def activation(walk: Walk, node: Any, inputs: list[Value]) -> list[Value] | None:
    """An elementwise function, or a softmax of the features."""
    assert isinstance(inputs[0], Moved)
    name, attributes = node.op_type, walk.file.attributes(node)
    if name in ("Softmax", "LogSoftmax"):
        rank = inputs[0].labels.ndim
        axis = attributes.get("axis", -1 if walk.file.opset >= 13 else 1)
        if axis not in (-1, rank - 1):
            walk.refuse(node, f"axis {axis}", "a softmax over the last axis, the features")
        function: Any = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}[name]
    else:
        function = NAMES[name] if name in NAMES else SCALED[name](**attributes)
    return walk.layer(node, inputs[0], Activation(function))


def dropout(walk: Walk, node: Any, inputs: list[Value]) -> list[Value] | None:
    """Dropout, which acts in training only."""
    _, ratio, training = (*inputs, None, None)[:3]
    if training is not None and walk.array(node, training, "training_mode").any():
        walk.refuse(
            node, "training_mode", "dropout that does not act in inference", "export the model in inference mode"
        )
    rate = walk.file.attributes(node).get("ratio", 0.5) if ratio is None else walk.array(node, ratio, "ratio")
    return walk.layer(node, inputs[0], Dropout(float(rate)))


def cast(walk: Walk, node: Any, inputs: list[Value]) -> list[Value] | None:
    """Cast: nothing where no value changes; what it does to other integers is computed."""
    if not isinstance(inputs[0], Moved):
        return None
    to = walk.file.onnx.helper.tensor_dtype_to_np_dtype(walk.file.attributes(node)["to"])
    for tensor in walk.labels.of(inputs[0].labels):
        had = walk.dtypes[tensor.chain.source]
        if tensor.is_mask:
            continue
        if tensor.chain.layers:
            dtype = tensor.chain.dtype or had.name
            if to.name != dtype:
                walk.refuse(node, to, f"{dtype}, the dtype of the layers below", "jaxrnn computes in one dtype")
        elif walk.ids(inputs[0]):
            if to != had and to.name not in ("int32", "int64"):
                return walk.arithmetic(node, inputs)
        elif not np.can_cast(had, to):
            walk.refuse(node, to, f"a dtype that has all values of {tensor.chain.source!r}, {had}",
                        "leave the cast to whoever calls the model")  # fmt: skip
    return [inputs[0]]


# ---- two values --------------------------------------------------------------------------------------------------


def add(walk: Walk, node: Any, inputs: list[Value]) -> list[Value] | None:
    """Add, Sum: a bias, a residual connection, or the sum of both directions."""
    if len(inputs) != 2:
        return None
    a, b = inputs
    if isinstance(a, Moved) and isinstance(b, Moved):
        return _merge(walk, node, a, b, "sum")
    if isinstance(a, Constant):
        a, b = b, a
    tensor, rows = walk.read(node, a)
    bias = _vector(walk, node, walk.array(node, b, "bias"), tensor.features or 1)
    chain = with_bias(tensor.chain, jnp.array(bias))
    if chain is None:
        walk.refuse(node, "a constant added to other outputs", "a bias of a readout without one")
    return walk.give(tensor, rows, chain, tensor.features)


def multiply(walk: Walk, node: Any, inputs: list[Value]) -> list[Value] | None:
    """Mul, Div: the product of both directions, half of their sum, or outputs that are 0 in the padding."""
    a, b = inputs
    if isinstance(a, Moved) and isinstance(b, Moved):
        masks = [any(t.is_mask for t in walk.labels.of(value.labels)) for value in (a, b)]
        if any(masks):
            return _masked(walk, node, *((b, a) if masks[0] else (a, b)))
        return _merge(walk, node, a, b, "product") if node.op_type == "Mul" else None
    if isinstance(a, Constant) and node.op_type == "Mul":
        a, b = b, a
    tensor, rows = walk.read(node, a)
    last = tensor.chain.layers[-1] if tensor.chain.layers else None
    halves = walk.array(node, b, "factor") == (0.5 if node.op_type == "Mul" else 2)
    if last is None or not isinstance(last.model, Bidirectional) or last.model.merge != "sum" or not halves.all():
        walk.refuse(node, "a constant factor of other outputs", "half of the sum of both directions")
    chain = tensor.chain.instead(dataclasses.replace(last.model, merge="mean"), last.params)
    return walk.give(tensor, rows, chain, tensor.features)


def reduce(walk: Walk, node: Any, inputs: list[Value]) -> list[Value] | None:
    """ReduceSum, ReduceMean, ReduceProd over the axis of directions, and Mean: both directions as one."""
    assert isinstance(inputs[0], Moved)
    how = {"ReduceSum": "sum", "ReduceMean": "mean", "ReduceProd": "product", "Mean": "mean"}[node.op_type]
    if node.op_type == "Mean":
        a, b = inputs if len(inputs) == 2 else (None, None)
        return _merge(walk, node, a, b, how) if isinstance(a, Moved) and isinstance(b, Moved) else None
    attributes = walk.file.attributes(node)
    axes = attributes.get("axes") if len(inputs) == 1 else walk.array(node, inputs[1], "axes").tolist()
    labels = inputs[0].labels
    if how == "sum" and axes and len(axes) == 1 and ((labels != ZERO).sum(axes[0]) == 1).all():
        return [Moved(labels.max(axes[0], keepdims=bool(attributes.get("keepdims", 1))))]
    if axes is None or len(axes) != 1 or labels.shape[axes[0]] != 2 or axes[0] in (-1, labels.ndim - 1):
        walk.refuse(node, f"axes {axes}", "a reduction over both directions")
    first, second = (Moved(labels.take(index, axes[0])) for index in (0, 1))
    (merged,) = _merge(walk, node, first, second, how)
    assert isinstance(merged, Moved)
    return [Moved(np.expand_dims(merged.labels, axes[0])) if attributes.get("keepdims", 1) else merged]


def _merge(walk: Walk, node: Any, a: Moved, b: Moved, how: str) -> list[Value]:
    both = walk.labels.merge(walk.read(node, a), walk.read(node, b), how)
    if both is None:
        walk.refuse(node, "outputs of other kinds", f"a {how} of both directions, or of a layer and its inputs")
    return [Moved(take(*both))]


# ---- padding -----------------------------------------------------------------------------------------------------


def less(walk: Walk, node: Any, inputs: list[Value]) -> list[Value] | None:
    """Less: steps before lengths, the mask of a padded batch."""
    steps, n = inputs if node.op_type == "Less" else inputs[::-1]
    if not (isinstance(steps, Constant) and isinstance(n, Moved)):
        return None
    steps_, lengths = _broadcast(walk, node, steps.array, n.labels)
    found = walk.labels.of(n.labels)
    T, B = int(steps.array.max()) + 1, found[0].rows
    if len(found) != 1 or found[0].chain.layers or T == 1 or not np.array_equal(steps.array.ravel(), np.arange(T)):
        return None
    scan = Scan(np.arange(T * B).reshape(T, B), found[0].chain.source)
    tensor = walk.labels.new(Chain(found[0].chain.source, scan=scan), T * B, 1, is_mask=True)
    return [Moved(tensor.first + steps_.astype(int) * B + lengths - found[0].first)]


def where(walk: Walk, node: Any, inputs: list[Value]) -> list[Value] | None:
    """Where: outputs, or inputs, that are 0 in the padding; or outputs that are 0 but for the last step."""
    mask, x, otherwise = inputs
    if not isinstance(x, Moved):
        return None
    if isinstance(mask, Arithmetic) and all(tensor.is_state for tensor in walk.labels.of(x.labels)):
        return _of_sequences(walk, node, mask, x, otherwise)
    if not isinstance(otherwise, Constant) or otherwise.array.any():
        return None
    if isinstance(mask, Constant):
        steps, labels = _broadcast(walk, node, mask.array, x.labels)
        return [Moved(np.where(steps, labels, ZERO))]
    return _masked(walk, node, x, mask) if isinstance(mask, Moved) else _last_step(walk, node, mask, x)


def _last_step(walk: Walk, node: Any, mask: Value, x: Moved) -> list[Value] | None:
    """The last steps before lengths, at the last step of all; 0 elsewhere."""
    tensor, rows = walk.read(node, x)
    chain = tensor.chain
    if not isinstance(mask, Arithmetic) or chain.scan is None or chain.last_step is None or rows.ndim != 2:
        return None
    steps = np.arange(len(rows)).reshape(-1, 1, 1)
    for n in (0, 1, 2):
        last = (steps == (n - 1 if chain.last_step else 0)) & (n > 0)
        if mask.source != chain.scan.lengths or not (walk.computed(node.input[0], mask.source, n) == last).all():
            walk.refuse(node, "another", "the mask of the last step before sequence_lens")
    final = walk.labels.new(dataclasses.replace(chain, final="h"), rows.shape[1], tensor.features)
    labels = np.full_like(x.labels, ZERO)
    labels[-1] = take(final, np.arange(rows.shape[1]))
    return [Moved(labels)]


def _of_sequences(walk: Walk, node: Any, mask: Arithmetic, state: Moved, initial: Value) -> list[Value]:
    """The final state itself, where that of an empty sequence is the initial one, as it is here."""
    check_initial(walk, node, initial)
    for n in (0, 1, 2):
        if not (walk.computed(node.input[0], mask.source, n) == (n > 0)).all():
            walk.refuse(node, "another", "the mask of sequences that are not empty")
    return [state]


def _broadcast(walk: Walk, node: Any, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
    try:
        return np.broadcast_arrays(a, b)
    except ValueError:
        walk.refuse(node, f"{list(a.shape)} and {list(b.shape)}", "a mask of all steps of all sequences")


def _masked(walk: Walk, node: Any, x: Moved, mask: Moved) -> list[Value] | None:
    """The outputs themselves, where lengths do the same here."""
    tensors = walk.labels.of(mask.labels)
    if len(tensors) != 1 or not tensors[0].is_mask:
        return None
    steps, labels = _broadcast(walk, node, mask.labels - tensors[0].first, x.labels)
    if any(tensor.chain.scan for tensor in walk.labels.of(x.labels)):
        _, rows = walk.read(node, Moved(labels))
        if not np.array_equal(steps, np.broadcast_to(rows[..., None], steps.shape)):
            walk.refuse(node, "another", "the mask of the steps before lengths")
    walk.masks.add(tensors[0].chain.source)
    return [Moved(labels)]


OPERATORS: dict[str, Callable] = {
    **dict.fromkeys(("RNN", "GRU", "LSTM"), recurrent),
    **dict.fromkeys(
        ("Tanh", "Relu", "Sigmoid", "Softsign", "Softplus", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Elu",
         "Softmax", "LogSoftmax"), activation,
    ),
    **dict.fromkeys(("Add", "Sum"), add),
    **dict.fromkeys(("Mul", "Div"), multiply),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceProd", "Mean"), reduce),
    **dict.fromkeys(("Less", "Greater"), less),
    "Gather": gather, "MatMul": matmul, "Gemm": gemm, "Dropout": dropout, "Cast": cast, "Where": where,
}  # fmt: skip
