"""What from_model refuses: the message has the name of the node, what was expected and what came."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx_graphs import H, I, V, around, arrays, graph, helper, kinds, layer, node, onnx, random
from refusals import FORM

from jaxrnn.interop.onnx import from_model

ALONE = "nodes=[...] gives recurrent operators alone"


@contextlib.contextmanager
def refused(error: type, *parts: str) -> Iterator[None]:
    """The block raises an error whose message has the common form and these parts, in order."""
    with pytest.raises(error) as refusal:
        yield
    message = str(refusal.value)
    assert refusal.type is error
    assert re.fullmatch(FORM, message, re.DOTALL), message
    assert re.search(".*".join(map(re.escape, parts)), message, re.DOTALL), message


REFUSED: dict[str, tuple] = {  # nodes after Y, or a graph, and the parts of the message
    "operator": (["Squeeze Y one > s", "Erf s > y"], ("node '/Erf'", "a layer of jaxrnn", "Erf", ALONE)),
    "bias": (["Squeeze Y one > s", "MatMul s w > m", "Add m wide > y"], ("node '/Add'", "a bias [2]", "[1, 4]")),
    "axes mixed": (
        ["Squeeze Y one > s", "Reshape s mixed > y"],
        ("output 'y'", "all steps of all sequences", "another order"),
    ),
    "constant added": (["Squeeze Y one > s", "Add s h > y"], ("node '/Add'", "a constant added to other outputs")),
    "scaled": (["Squeeze Y one > s", "Mul s two > y"], ("node '/Mul'", "half of the sum of both directions")),
    "two chains": (["Squeeze Y one > s", "Squeeze Y_c zero > c", "Add s c > y"], ("node '/Add'", "cell states c")),
    "computed weights": (
        ["Squeeze Y one > s", "MatMul s s > y"],
        ("node '/MatMul'", "constant weights", "weights={name: array}"),
    ),
    "softmax": (["Squeeze Y one > s", "Softmax s > y"], ("node '/Softmax'", "over the last axis", "axis 1")),
    "training": (
        ["Squeeze Y one > s", "Dropout s half yes > y"],
        ("node '/Dropout'", "training_mode", "inference mode"),
    ),
    "some steps": (
        ["Squeeze Y one > s", "Slice s zero four zero > y"],
        ("output 'y'", "all steps of all sequences", "some steps"),
    ),
    "features apart": (["Squeeze Y one > s", "Transpose s > y"], ("output 'y'", "features last", "another order")),
    "two outputs": (["Squeeze Y one > s", "MatMul s w > y"], ("graph", "one output besides final states", "s, y")),
    "head": (
        ["Squeeze Y_h zero > s", "MatMul s w > l", "Sigmoid l > y"],
        ("graph", "as a Classifier", "Activation('sigmoid')"),
    ),
    "constant output": (["Identity h > y"], ("output 'y'", "the outputs of a layer", "does not depend on the inputs")),
    "other dtype": (
        ["Squeeze Y one > s", "Cast s > y"],
        ("node '/Cast'", "float32, the dtype of the layers below", "float16"),
    ),
    "open sizes": (
        ["Squeeze Y one > s", "Reshape s fixed > y"],
        ("node '/Reshape'", "for any sizes that the graph leaves open"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_around(name):
    texts, parts = REFUSED[name]
    constants = {
        "yes": np.bool_(True),
        "four": np.array([4]),
        "wide": random(1, 4),
        "mixed": np.array([19, 17, H]),
        "fixed": np.array([6, 3, H]),
    }
    more = {"Softmax": {"axis": 1}, "Transpose": {"perm": [1, 2, 0]}, "Cast": {"to": kinds.FLOAT16}}
    outputs = {"s": None, "y": None} if name == "two outputs" else None
    with refused(ValueError, *parts):
        from_model(around(texts, constants, outputs, more))


OPERATOR: dict[str, tuple] = {  # attributes of an operator, and the parts of the message
    "clip": ("LSTM", {"clip": 3.0}, ("node '/LSTM'.clip", "no clip", "3.0", "an RNN's activation may have them")),
    "lstm": (
        "LSTM",
        {"activations": ["Sigmoid", "Relu", "Tanh"]},
        ("node '/LSTM'.activations", "Sigmoid, Tanh, Tanh", "Relu"),
    ),
    "gru": (
        "GRU",
        {"activations": ["HardSigmoid", "Tanh"]},
        ("node '/GRU'.activations", "Sigmoid, Tanh", "an RNN takes any"),
    ),
    "unknown": ("RNN", {"activations": ["Gelu"]}, ("node '/RNN'.activations", "one of Tanh, Relu", "'Gelu'")),
    "count": ("RNN", {"activations": ["Tanh", "Tanh"]}, ("node '/RNN'.activations", "1, one for each direction")),
    "no alpha": ("RNN", {"activations": ["Affine"]}, ("activation_alpha with Affine", "ONNX defines no default")),
    "direction": (
        "RNN",
        {"direction": "sideways"},
        ("node '/RNN'.direction", "'forward', 'reverse', 'bidirectional'", "'sideways'"),
    ),
}


@pytest.mark.parametrize("name", OPERATOR)
def test_refused_attributes(name):
    operator, attributes, parts = OPERATOR[name]
    with refused(ValueError, *parts):
        from_model(layer(operator, **attributes))


def test_refused_hidden_size():
    proto = layer()
    proto.graph.node[0].attribute[0].i = H + 1
    with refused(ValueError, "node '/LSTM'.hidden_size", f"{H}, that of R", str(H + 1)):
        from_model(proto)


def test_refused_shapes_and_dtypes():
    weights = arrays("LSTM")
    one = node("LSTM", "x W R B", "Y")
    for name, array, parts in (
        ("B", weights["B"][:, 1:], ("node '/LSTM'.B", f"shape {[1, 8 * H]}")),
        ("R", weights["R"].astype(np.float16), ("node '/LSTM'", "one dtype", "float16 and float32")),
    ):
        with refused(ValueError, *parts):
            from_model(graph([one], {"x": ("T", "B", I)}, {"Y": None}, weights | {name: array}))


@pytest.mark.parametrize("kind", ["constant", "of another layer"])
def test_refused_initial_states(kind):
    weights = arrays("LSTM")
    nodes = [node("LSTM", "x W R B - h h", "Y", hidden_size=H)]
    constants = weights | {"h": np.ones((1, 1, H), np.float32)}
    if kind != "constant":
        nodes = [helper.make_node("LSTM", ["x", "W", "R", "B"], ["", "h"], name="encoder", hidden_size=H), *nodes]
        constants = weights
    got = {"constant": "a constant one", "of another layer": "the output of a layer"}[kind]
    with refused(ValueError, "node '/LSTM'", "an initial state that is 0 or an input of the graph", got):
        from_model(graph(nodes, {"x": ("T", "B", I)}, {"Y": None}, constants))


def stacked(first: str, second: str, between: list, inputs: Any = None, constants: Any = None) -> Any:
    """Two LSTMs, with nodes between them."""
    up = {f"{name}1": array for name, array in arrays("LSTM", size=H).items()}
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B", first], ["Y0"], name="first", hidden_size=H),
        *between,
        helper.make_node("LSTM", ["s", "W1", "R1", "B1", second], ["Y"], name="second", hidden_size=H),
    ]
    known = {"one": np.array([1]), **(constants or {})}
    return graph(nodes, {"x": ("T", "B", I)} | (inputs or {}), {"Y": None}, arrays("LSTM") | up | known)


def test_refused_order_of_steps():
    squeeze = node("Squeeze", "Y0 one", "s")
    across = [node("Squeeze", "Y0 one", "r"), node("Transpose", "r", "s", perm=[1, 0, 2])]
    with refused(ValueError, "node 'second'", "the same axes of time and batch as in the recurrent layer below"):
        from_model(stacked("", "", across))
    part = [node("Squeeze", "Y0 one", "r"), node("Slice", "r one three zero", "s")]
    with refused(ValueError, "node 'second'", "the whole sequence of inputs", "a part of it, or another order"):
        from_model(stacked("", "", part, constants={"three": np.array([3]), "zero": np.array([0])}))
    with refused(ValueError, "node 'second'", "sequence_lens None, those of the recurrent layer below", "n"):
        from_model(stacked("", "n", [squeeze], {"n": ("B",)}))
    with refused(
        ValueError, "node 'first'", "sequence_lens that are an input of the graph, or T", "make them an input"
    ):
        from_model(stacked("three", "", [squeeze], constants={"three": np.array([3], np.int32)}))


def test_refused_tables():
    weights = arrays("LSTM")
    lstm, inputs, out = node("LSTM", "v W R B", "Y"), {"ids": ("T", "B")}, {"Y": None}
    with refused(ValueError, "node '/Gather'", "a table [V, size]", "3 axes"):
        from_model(graph([node("Gather", "table ids", "v"), lstm], inputs, out, weights | {"table": random(V, 2, I)}))
    shifted = [node("Add", "ids one", "next"), node("Gather", "table next", "v"), lstm]
    with refused(ValueError, "node '/Gather'", f"that are the same in [0, {V})", "others"):
        from_model(graph(shifted, inputs, out, weights | {"table": random(V, I), "one": np.int64(1)}))


def test_refused_arguments():
    proto = layer()
    with refused(TypeError, "proto_or_path", "an onnx.ModelProto or the path of a file", "bytes"):
        from_model(proto.SerializeToString())
    with refused(ValueError, "nodes", "names of recurrent operators, '/LSTM'", "'/GRU'"):
        from_model(proto, nodes=["/GRU"])
    with refused(ValueError, "weights", "names of inputs of the graph, x", "W"):
        from_model(proto, weights={"W": random(1, 4 * H, I)})
    with refused(ValueError, "output 'x'", "the outputs of a layer", "an input of the graph"):
        from_model(graph([], {"x": ("T", "B", I)}, {"x": None}, {}))
    unknown = layer()
    unknown.graph.input[0].type.tensor_type.ClearField("shape")
    with refused(ValueError, "input 'x'", "a shape", "none", ALONE):
        from_model(unknown)
    foreign = layer()
    foreign.graph.node[0].domain = "com.microsoft"
    with refused(ValueError, "node '/LSTM'", "com.microsoft.LSTM"):
        from_model(foreign)
    with refused(ValueError, "node '/LSTM'", "constant W", "a value that is computed", "weights={name: array}"):
        inputs = {"x": ("T", "B", I), "W": (1, 4 * H, I)}
        from_model(graph([node("LSTM", "x W R B", "Y")], inputs, {"Y": None}, arrays("LSTM", inputs="RB")))


def test_refused_external_data(tmp_path):
    onnx.save(layer(), tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    bare = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    with refused(ValueError, "initializer 'W'", "its data", "a reference to another file", "from_model(path)"):
        from_model(bare)


def test_refused_masks():
    """Outputs that are 0 after lengths, of an operator that does not know them."""
    constants = arrays("LSTM") | {
        "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "start": np.int64(0), "step": np.int64(1),
        "nil": np.float32(0),
    }  # fmt: skip
    inputs = {"x": ("T", "B", I), "n": ("B",)}

    def masked(lengths: str) -> Any:
        nodes = [
            node("Shape", "x", "T", start=0, end=1), node("Squeeze", "T zero", "t"), node("Range", "start t step", "a"),
            node("Unsqueeze", "a one", "steps"), node("Cast", "n", "lengths", to=kinds.INT64),
            node("Less", "steps lengths", "m"), node("LSTM", f"x W R B {lengths}", "Y", hidden_size=H),
            node("Squeeze", "Y one", "s"), node("Unsqueeze", "m two", "mask"), node("Where", "mask s nil", "y"),
        ]  # fmt: skip
        return graph(nodes, inputs, {"y": None}, constants)

    with refused(ValueError, "graph", "one input of lengths, that of all recurrent layers", "n"):
        from_model(masked("-"))
    from_model(masked("n"))


def test_refused_loops():
    loop = helper.make_node("Loop", ["", "", "s"], ["y"], name="/Loop", body=helper.make_graph([], "body", [], []))
    proto = around(["Squeeze Y one > s"])
    proto.graph.node.append(loop)
    with refused(ValueError, "node '/Loop'", "an operator that is a layer of jaxrnn", "Loop", ALONE):
        from_model(proto)
