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

import jaxrnn as rnn
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
    for nodes in ("/LSTM", 3):
        with refused(TypeError, "nodes", "a list of names", f"{type(nodes).__name__} {nodes}", f"nodes=[{nodes!r}]"):
            from_model(proto, nodes=nodes)
    with refused(TypeError, "weights", "arrays by the names of inputs, {name: array}", "list of 1"):
        from_model(proto, weights=[1])
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


def test_refused_files(tmp_path):
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"no protobuf")
    with refused(ValueError, "proto_or_path", "a file of ONNX", f"{str(path)!r}, DecodeError"):
        from_model(path)
    path.write_bytes(b"")
    with refused(ValueError, "proto_or_path", "a graph with outputs", "none"):
        from_model(path)


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


def test_names_of_operators_in_messages():
    nodes = [helper.make_node("LSTM", ["x", "W", "R", "B"], [f"Y{n}"], name=f"layer{n}", hidden_size=H) for n in "0123"]
    proto = graph([*nodes, node("Erf", "Y0", "y")], {"x": ("T", "B", I)}, {"y": None}, arrays("LSTM"))
    with refused(ValueError, "node '/Erf'", f"{ALONE}, here 'layer0', 'layer1', 'layer2', …"):
        from_model(proto)


# ---- casts -------------------------------------------------------------------------------------------------------


def casts(source: str, to: list[str], after: list, constants: Any = None, size: int = V) -> Any:
    """Casts of an input one after another, then nodes that read ``s``."""
    names = [source, *(f"c{n}" for n in range(len(to) - 1)), "s"]
    nodes = [node("Cast", names[n], names[n + 1], to=getattr(kinds, kind)) for n, kind in enumerate(to)]
    weights = arrays("LSTM") | {"table": random(size, I)} | (constants or {})
    return graph([*nodes, *after], {source: ("T", "B", I) if source == "x" else ("T", "B")}, {"Y": None}, weights)


TO_VECTORS = [node("LSTM", "s W R B", "Y", hidden_size=H)]
TO_IDS = [node("Gather", "table s", "v"), node("LSTM", "v W R B", "Y", hidden_size=H)]


@pytest.mark.parametrize("to", [["BOOL", "FLOAT"], ["INT32", "FLOAT"], ["FLOAT16", "FLOAT"], ["BFLOAT16", "FLOAT"]])
def test_refused_casts_of_vectors(to):
    with refused(ValueError, "node '/Cast'", "all values of 'x', float32", to[0].lower(), "whoever calls the model"):
        from_model(casts("x", to, TO_VECTORS))


def test_casts_that_change_no_value():
    assert from_model(casts("x", ["DOUBLE", "FLOAT"], TO_VECTORS))[0] == rnn.LSTM(I, H)
    for to in (["INT32", "INT64"], ["UINT8", "INT64"], ["FLOAT", "INT64"]):
        assert from_model(casts("ids", to, TO_IDS))[0] == rnn.Stack(rnn.Embedding(V, I), rnn.LSTM(I, H))


def test_refused_casts_of_ids():
    for to in (["UINT8", "INT64"], ["BOOL", "INT64"]):
        with refused(ValueError, "node '/Gather'", "the same in [0, 300)", "others"):
            from_model(casts("ids", to, TO_IDS, size=300))


def test_refused_casts_of_outputs():
    proto = around(["Tanh x > t", "Cast t > y"], more={"Cast": {"to": kinds.FLOAT16}})
    with refused(ValueError, "node '/Cast'", "float32, the dtype of the layers below", "float16"):
        from_model(proto)


# ---- sizes that the file leaves open -----------------------------------------------------------------------------

AXIS = "it depends on the size of the axis"
FAR = {"axis0": np.array([0]), "end": np.array([64]), "start": np.array([-64]), "far": np.array([500])}
FAR |= {"all": np.array([2**63 - 1]), "none": np.array([2**31 - 1]), "axis1": np.array([1])}


def sliced(bounds: str, where: str = "x") -> Any:
    """A slice of the steps before or after an LSTM."""
    cut = node("Slice", f"{where} {bounds} axis0", "s")
    lstm = node("LSTM", ("s" if where == "x" else "x") + " W R B", "Y", hidden_size=H)
    nodes = [cut, lstm] if where == "x" else [lstm, node("Squeeze", "Y axis1", "z"), cut]
    output = "Y" if where == "x" else "s"
    return graph(nodes, {"x": ("T", "B", I)}, {output: None}, arrays("LSTM") | FAR)


@pytest.mark.parametrize("bounds", ["axis0 end", "start all", "axis0 far", "start none"])
def test_refused_truncation(bounds):
    with refused(ValueError, "node '/LSTM'", "the whole sequence of inputs", "a part of it", AXIS, "T = "):
        from_model(sliced(bounds))
    with refused(ValueError, "output 's'", "all steps of all sequences", AXIS, "T = "):
        from_model(sliced(bounds, "z"))


def test_ends_of_axes_are_no_truncation():
    for bounds in ("axis0 all", "axis0 none"):
        assert from_model(sliced(bounds))[0] == rnn.LSTM(I, H)
    fixed = sliced("axis0 end")
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 64
    assert from_model(fixed)[0] == rnn.LSTM(I, H)
    nodes = [node("Slice", "W0 axis0 wide axis1", "W"), node("LSTM", "x W R B", "Y", hidden_size=H)]  # of weights
    known = arrays("LSTM", inputs="RB") | {"W0": arrays("LSTM")["W"], "wide": np.array([5000])} | FAR
    assert from_model(graph(nodes, {"x": ("T", "B", I)}, {"Y": None}, known))[0] == rnn.LSTM(I, H)


def test_refused_truncation_beyond_all_sizes():
    proto = sliced("axis0 end")
    (end,) = (tensor for tensor in proto.graph.initializer if tensor.name == "end")
    end.CopyFrom(onnx.numpy_helper.from_array(np.array([5000]), "end"))
    with refused(ValueError, "graph", "meet no number above 2048", "5000", ALONE):
        from_model(proto)


@pytest.mark.parametrize("steps", [17, 23])
def test_refused_lengths_that_are_a_size(steps):
    """Constant sequence_lens that happen to be what stands for T."""
    proto = graph([node("LSTM", "x W R B n", "Y", hidden_size=H)], {"x": ("T", 2, I)}, {"Y": None},
                  arrays("LSTM") | {"n": np.array([steps, steps], np.int32)})  # fmt: skip
    with refused(ValueError, "node '/LSTM'", "sequence_lens that are an input of the graph, or T"):
        from_model(proto)


def test_refused_model_that_depends_on_a_size():
    """The outputs of one layer below 64 steps, those of another from there on."""
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["a"], name="first", hidden_size=H),
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["b"], name="second", hidden_size=H, direction="reverse"),
        node("Concat", "a b", "both", axis=0), node("Shape", "x", "T", start=0, end=1), node("Div", "T end", "many"),
        node("Min", "many axis1", "second"), node("Mul", "second T", "from"), node("Add", "from T", "to"),
        node("Slice", "both from to axis0", "Y"),
    ]  # fmt: skip
    with refused(ValueError, "graph", "one model for all sizes of open axes", "another one for T = ", ALONE):
        from_model(graph(nodes, {"x": ("T", "B", I)}, {"Y": None}, arrays("LSTM") | FAR))


def test_refused_masks_of_other_sizes():
    """A constant mask of 17 steps."""
    proto = around(["Squeeze Y one > s", "Where mask s nil > y"],
                   {"mask": np.ones((17, 1, 1), bool), "nil": np.float32(0)})  # fmt: skip
    with refused(ValueError, "node '/Where'", "a mask of all steps of all sequences", "[17, 1, 1]", AXIS):
        from_model(proto)


def test_refused_frames():
    """Two steps for each one of the input."""
    proto = graph([node("Reshape", "x shape", "s"), node("LSTM", "s W R B", "Y", layout=1, hidden_size=H)],
                  {"x": ("B", "T", 2 * I)}, {"Y": None}, arrays("LSTM") | {"shape": np.array([0, -1, I])})  # fmt: skip
    with refused(ValueError, "node '/LSTM'", "the whole sequence of inputs", "another order"):
        from_model(proto)


# ---- one step ----------------------------------------------------------------------------------------------------


def read_out(texts: list[str], step: int, **kw: Any) -> Any:
    """A readout of one step of ``s [T, B, …]``."""
    nodes = [*texts, "Gather s step > l", "MatMul l v > y"]
    width = 2 * H if kw.get("direction") == "bidirectional" else H
    return around(nodes, {"step": np.int64(step), "v": random(width, 2), "merged": np.array([0, 0, 2 * H])},
                  more={"Transpose": {"perm": [0, 2, 1, 3]}}, **kw)  # fmt: skip


@pytest.mark.parametrize("kind", ["bidirectional", "reverse", "forward"])
def test_refused_steps(kind):
    texts = ["Transpose Y > t", "Reshape t merged > s"] if kind == "bidirectional" else ["Squeeze Y one > s"]
    if kind == "forward":
        with refused(ValueError, "node '/MatMul'", "the last one of each direction", "another step"):
            from_model(read_out(texts, -2, direction=kind))
        return
    with refused(ValueError, "node '/MatMul'", "the last one of each direction", "the last step of the backward",
                 "it has seen one input only there; h_n is meant"):  # fmt: skip
        from_model(read_out(texts, -1, direction=kind))


def residual(outputs: list[str], constants: Any, tail: list) -> Any:
    """Inputs and the outputs of a backward LSTM."""
    back = helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y", "h"], name="back", direction="reverse", hidden_size=H)
    nodes = [back, node("Squeeze", "Y axis1", "y0"), node("Add", "x y0", "r"), *tail]
    known = arrays("LSTM", size=H) | {"axis1": np.array([1]), "axis0": np.array([0]), **constants}
    return graph(nodes, {"x": ("T", "B", H)}, dict.fromkeys(outputs), known)


@pytest.mark.parametrize("step", [0, -1])
def test_refused_last_step_of_a_residual_in_reverse(step):
    tail = [node("Gather", "r step", "l", axis=0), node("MatMul", "l v", "y")]
    with refused(ValueError, "node '/MatMul'", "the last one of each", "one step of Residual(Reverse(LSTM", "inside"):
        from_model(residual(["y"], {"step": np.int64(step), "v": random(H, 2)}, tail))


def test_refused_classifier_without_a_last_step():
    """Final states of two layers, in opposite directions, added."""
    below = helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y0", "h0"], name="below", hidden_size=H)
    above = helper.make_node("LSTM", ["s", "W", "R", "B"], ["Y", "h"], name="above", hidden_size=H, direction="reverse")
    nodes = [below, node("Squeeze", "Y0 axis1", "s"), above, node("Add", "h0 h", "sum"),
             node("Squeeze", "sum axis0", "l"), node("MatMul", "l v", "y")]  # fmt: skip
    constants = {"axis1": np.array([1]), "axis0": np.array([0]), "v": random(H, 2)}
    with refused(ValueError, "graph", "the last step of each direction", "Residual(Reverse(LSTM", "inside another"):
        from_model(graph(nodes, {"x": ("T", "B", H)}, {"y": None}, arrays("LSTM", size=H) | constants))
