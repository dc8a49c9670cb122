"""A model as an ONNX model: its inputs and outputs, and what it says of itself."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

import jaxrnn
from jaxrnn import checks
from jaxrnn.interop.arrays import one_dtype
from jaxrnn.interop.checks import library
from jaxrnn.interop.onnx.writer.graph import Body, Graph, Node, Store, Value, by_name, named
from jaxrnn.interop.onnx.writer.layers import over_time
from jaxrnn.interop.onnx.writer.pooling import logits
from jaxrnn.interop.onnx.writer.recurrent import Options
from jaxrnn.interop.onnx.writer.tracing import traced
from jaxrnn.layers.bidirectional import sees_future
from jaxrnn.precision import cast
from jaxrnn.scan import sequence_mask, where
from jaxrnn.tasks import Classifier
from jaxrnn.types import Params, input_ndim

DTYPES = ("float32", "float64")
OPSET, IR_VERSION = 17, 8  # of 2022; ONNX Runtime reads them since 1.12


def to_model(
    model: Any,
    params: Params,
    *,
    lengths: bool = False,
    state: bool = False,
    step: bool = False,
    features: int | None = None,
    dtype: str | None = None,
) -> Any:
    """Convert a model and its parameters to an ONNX model, for sequences of any length in batches of any size.

    A VanillaRNN, LSTM or GRU becomes an RNN, LSTM or GRU of ONNX, and two alike in a Bidirectional become one. Other
    cells, such as your own, an LSTM with ``output_peephole="previous"`` or a float64 one, which ONNX Runtime does not
    compute, become a Scan of their step. Dropout is one of ONNX, the identity in inference. Weights are called after
    their place in the parameters, such as ``params.1.w``, and nodes after that in the model, ``model.layers[1]/LSTM``.

    ===================  ===================================  =====================================================
    inputs               ``xs [T, B, I]``, ids ``[T, B]``     int32 ids, which are not checked
    ..                   ``lengths [B]``, int32               with ``lengths=True``
    ..                   ``state``, ``state.1.h`` and so on   with ``state=True``, ``[B, ...]``, after their place
    outputs              ``ys [T, B, H]``                     ``ys.0``, ``ys.1`` of ``merge="both"``
    ..                   ``final``, ``final.1.h`` and so on   with ``state=True``
    one step             ``x``, ``state``; ``y``, ``final``   with ``step=True``, without the axis T
    Classifier           ``logits [B, classes]``              in place of ``ys``
    ===================  ===================================  =====================================================

    The operators are those of opset 17, in IR version 8: ONNX Runtime reads them since 1.12. The file has the size of
    the parameters and a few kB. Above 2 GB it needs a second file beside it,
    ``onnx.save_model(proto, path, save_as_external_data=True)``.

    Args:
        model: a cell, a layer, or a :class:`~jaxrnn.tasks.Classifier`.
        params: its parameters, all float32 or all float64.
        lengths: whether there is an input ``lengths``: outputs in the padding are then 0, states stop at the end.
        state: whether the initial state is an input and the final state an output; else the model starts from its
            ``initial_state``.
        step: whether to convert one step instead, for streaming or decoding; its state is always given.
        features: I, for a model that has no ``input_size``.
        dtype: ``"float32"`` or ``"float64"``: cast the parameters to it and compute in it, also what is in a
            :class:`~jaxrnn.MixedPrecision`. By default the dtype of the parameters.

    Returns:
        An ``onnx.ModelProto``. Its metadata have the version of jaxrnn and the constructor call of the model.

    Raises:
        ImportError: onnx is not installed.
        TypeError, ValueError: a part of the model, a dtype or an argument has no counterpart.
        NotImplementedError: the step of a cell uses a primitive of JAX that ONNX does not have.

    Example:
        .. code-block:: python

            model = rnn.Stack(rnn.Embedding(65, 8), rnn.Bidirectional(rnn.LSTM(8, 16)), rnn.Linear(32, 5))
            proto = rnn.interop.onnx.to_model(model, params, lengths=True)
            session = onnxruntime.InferenceSession(proto.SerializeToString())
            (ys,) = session.run(["ys"], {"xs": ids, "lengths": lengths})  # ids [T, B], int32
    """
    onnx = library("onnx", "ONNX", "'jaxrnn[onnx]'")
    for name, value in (("lengths", lengths), ("state", state), ("step", step)):
        checks.flag(name, value)
    if type(model) is not Classifier:
        checks.model("model", model)
    _check_options(model, lengths, state, step)
    params = checks.parameters(model, params)
    float_dtype = _float_dtype(params, dtype)

    store = Store()
    graph = Graph(store, [], "model")
    T: Any
    T, B = export.symbolic_shape("T, B")
    ids = input_ndim(model if type(model) is not Classifier else model.encoder) == 0
    shape = (T, B)[step:] if ids else (*(T, B)[step:], _features(model, features))
    x = graph.value("x" if step else "xs", shape, np.int32 if ids else float_dtype)
    inputs = [x]
    store.axes |= {str(axis): (x, n) for n, axis in enumerate(shape) if not isinstance(axis, int)}
    weights = named("params", params, lambda name, p: graph.initializer(name, _cast(p, float_dtype)))

    n = mask = before = None
    xs = x
    if lengths:
        n = graph.value("lengths", (B,), np.int32)
        mask = traced(graph, lambda n: sequence_mask(T, n), n)
        xs = traced(graph, where, mask, xs)
        inputs.append(n)
    if state or step:
        like = jax.eval_shape(lambda: cast(model.initial_state((B,)), float_dtype))
        before = named("state", like, graph.like)
        inputs += jax.tree.leaves(before)
    options = Options(n, mask, False, float_dtype, dtype is not None)

    if type(model) is Classifier:
        outputs = {"logits": logits(graph, model, weights, xs, options)}
    else:
        if step:
            xs = traced(graph, lambda x: x[None], xs)
        final, ys = over_time(graph, model, weights, before, xs, options)
        if step:
            ys = traced(graph, lambda ys: jax.tree.map(lambda y: jnp.squeeze(y, 0), ys), ys)
        outputs = by_name("y" if step else "ys", ys) | by_name("final", final)
    returned = graph.returned(list(outputs.values()), list(outputs))
    body = Body([*store.sizes.values(), *graph.nodes], inputs, returned)
    return _proto(onnx, model, body, store.initializers)


def _check_options(model: Any, lengths: bool, state: bool, step: bool) -> None:
    if step and lengths:
        checks.refuse("lengths", "False with step=True", "True", "one step has no padding")
    if type(model) is Classifier and (state or step):
        checks.refuse("state" if state else "step", "False for a Classifier", "True", "convert its encoder", TypeError)
    if step and sees_future(model):
        checks.refuse("step", "False for a model with a backward direction", "True", "it needs the future inputs",
                      TypeError)  # fmt: skip


def _features(model: Any, features: int | None) -> Any:
    """I, the features of one input."""
    model = model.encoder if type(model) is Classifier else model
    if input_ndim(model) != 1:
        checks.refuse("model", "inputs that are vectors or token ids", f"{model!r}",
                      f"its inputs have {input_ndim(model)} axes")  # fmt: skip
    known = getattr(model, "input_size", None)
    if features is not None:
        checks.size("features", features)
        if known not in (None, features):
            checks.refuse("features", f"{known}, the input size of the model", features, "leave it out")
    elif known is None:
        checks.refuse("features", "the number of features of an input", "None",
                      f"{model!r} has no input_size, so features=N says it")  # fmt: skip
    return known if features is None else features


def _float_dtype(params: Params, dtype: str | None) -> np.dtype:
    """The dtype of the graph: that of the parameters, or another one if the user says so."""
    if dtype is None:
        fix = 'to_model(..., dtype="float32") casts them'
        floats = [p for p in map(np.asarray, jax.tree.leaves(params)) if jnp.issubdtype(p.dtype, jnp.floating)]
        dtype = one_dtype("params", floats, fix) if floats else "float32"
        if dtype not in DTYPES:
            checks.refuse("params", " or ".join(DTYPES), dtype, f"ONNX Runtime computes in these; {fix}")
    checks.one_of("dtype", dtype, DTYPES)
    checks.dtype_available(dtype)
    return np.dtype(dtype)


def _cast(p: Any, dtype: np.dtype) -> np.ndarray:
    """A parameter in NumPy; floating ones in the dtype of the graph."""
    return np.asarray(p).astype(dtype) if jnp.issubdtype(p.dtype, jnp.floating) else np.asarray(p)


# ---- protocol buffers --------------------------------------------------------------------------------------------


def _proto(onnx: Any, model: Any, body: Body, initializers: dict[str, np.ndarray]) -> Any:
    helper, version = onnx.helper, jaxrnn.__version__
    graph = _graph(onnx, "jaxrnn", body, initializers)
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
        producer_name="jaxrnn", producer_version=version, doc_string=repr(model),
    )  # fmt: skip
    helper.set_model_props(proto, {"jaxrnn": version, "model": repr(model)})
    return proto


def _graph(onnx: Any, name: str, body: Body, initializers: dict[str, np.ndarray]) -> Any:
    """A graph with its nodes, and those initializers that are read."""
    helper = onnx.helper

    def info(value: Value) -> Any:
        shape = [n if isinstance(n, int) else str(n) for n in value.shape]
        return helper.make_tensor_value_info(value.name, helper.np_dtype_to_tensor_dtype(value.dtype), shape)

    def attribute(value: Any, node: str) -> Any:
        if isinstance(value, Body):
            return _graph(onnx, node, value, {})
        return helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value

    nodes = [
        helper.make_node(
            node.operator, node.inputs, node.outputs, name=node.outputs[0],
            **{key: attribute(value, node.outputs[0]) for key, value in node.attributes.items()},
        )
        for node in body.nodes
    ]  # fmt: skip
    read = {name for node in _all_nodes(body) for name in node.inputs}
    constants = [onnx.numpy_helper.from_array(array, n) for n, array in initializers.items() if n in read]
    return helper.make_graph(nodes, name, [*map(info, body.inputs)], [*map(info, body.outputs)], constants)


def _all_nodes(body: Body) -> list[Node]:
    """The nodes of a graph and of the bodies in it."""
    inner = [value for node in body.nodes for value in node.attributes.values() if isinstance(value, Body)]
    return [*body.nodes, *(node for part in inner for node in _all_nodes(part))]
