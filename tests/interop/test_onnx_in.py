"""Models of ONNX read: its own node tests, files of exporters against ONNX Runtime, round trips, and refusals.

The reference evaluator of ONNX ignores sequence_lens, activations, clip and input_forget, so ONNX Runtime is
the oracle.
"""

from __future__ import annotations

import importlib
import io
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_graphs import GATES, B, H, I, T, V, around, arrays, graph, helper, kinds, layer, node, onnx, random, run_onnx
from zoo import OPTIONS, RARE, UNWRITTEN, ZOO, few, random_params, reads_ids

import jaxrnn as rnn
from jaxrnn.activations import (
    Affine,
    Clipped,
    Elu,
    HardSigmoid,
    LeakyRelu,
    ScaledTanh,
    ThresholdedRelu,
)
from jaxrnn.interop.onnx import from_model, to_model

ATOL = 1e-5


def equal(a: Any, b: Any) -> None:
    """Two trees that are equal to the bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def close(a: Any, b: Any, atol: float = ATOL) -> None:
    np.testing.assert_allclose(np.asarray(a), b, rtol=0, atol=atol)


# ---- the node tests of ONNX --------------------------------------------------------------------------------------


def node_tests() -> list[tuple]:
    """Each test of the operators that onnx ships: its name, node, inputs and outputs."""
    found: list[tuple] = []

    def expect(node: Any, inputs: Any, outputs: Any, name: str, **_: Any) -> None:
        found.append((name, node, inputs, outputs))

    for name in GATES:
        module = importlib.import_module(f"onnx.backend.test.case.node.{name.lower()}")
        original, module.expect = module.expect, expect
        try:
            for method in dir(getattr(module, name)):
                if method.startswith("export"):
                    getattr(getattr(module, name), method)()
        finally:
            module.expect = original
    return found


NODE_TESTS = node_tests()
FAST = ("test_lstm_with_peepholes",)


def test_all_node_tests_are_found():
    assert len(NODE_TESTS) >= 18
    assert {test[0] for test in NODE_TESTS} >= set(FAST)


@pytest.mark.parametrize(
    "index", few(list(range(len(NODE_TESTS))), [n for n, t in enumerate(NODE_TESTS) if t[0] in FAST])
)
def test_node_tests(index):
    _, one, inputs, outputs = NODE_TESTS[index]
    attributes = {a.name: helper.get_attribute_value(a) for a in one.attribute}
    feed = dict(zip(filter(None, one.input), inputs, strict=True))
    names = list(filter(None, one.output))
    shapes = [
        {name: array.shape for name, array in group.items()} for group in (feed, dict(zip(names, outputs, strict=True)))
    ]
    proto = graph([one], *shapes, {})
    model, params = from_model(proto, weights={name: feed[name] for name in feed if name in "WRBP"})

    batch_first = attributes.get("layout", 0) == 1
    xs = feed["X"].swapaxes(0, 1) if batch_first else feed["X"]
    initial = [feed[name] for name in ("initial_h", "initial_c") if name in feed]
    state = None
    if initial:
        assert not batch_first
        assert len(initial[0]) == 1
        state = rnn.layers.Stack(model).initial_state()[0]
        state = jax.tree.unflatten(jax.tree.structure(state), [jnp.array(a[0]) for a in initial])
    lengths = feed.get("sequence_lens")
    final, ys = rnn.unroll(model, params, jnp.array(xs), state, lengths=None if lengths is None else jnp.array(lengths))

    D = len(feed["W"])
    got = {"Y": ys.reshape(*ys.shape[:2], D, -1).swapaxes(1, 2)}  # [T, D, B, H]
    per_direction = [jax.tree.leaves(part) for part in (final if D == 2 else (final,))]
    got |= {
        name: jnp.stack(parts) for name, parts in zip(("Y_h", "Y_c"), zip(*per_direction, strict=True), strict=False)
    }
    if batch_first:
        got = {name: a.transpose(2, 0, 1, 3) if name == "Y" else a.swapaxes(0, 1) for name, a in got.items()}
    named = {"Y": "Y", "Y_h": "Y_h", "Y_c": "Y_c"}
    for name, expected in zip(names, outputs, strict=True):
        close(got[named[name]], expected, 1e-6)


# ---- files of exporters ------------------------------------------------------------------------------------------


def exported(module: Any, x: Any) -> bytes:
    """The file that PyTorch writes, with open sizes of time and batch."""
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.onnx.export(module.eval(), (x,), buffer, dynamo=False, input_names=["x"], dynamic_axes={"x": [0, 1]})
    return buffer.getvalue()


def tagger(kind: str, layers: int, bidirectional: bool, batch_first: bool) -> Any:
    """A torch module: an embedding, recurrent layers, a readout."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(V, I)
            self.rnn = getattr(nn, kind)(I, H, layers, bidirectional=bidirectional, batch_first=batch_first)
            self.readout = nn.Linear(H * (1 + bidirectional), 2)

        def forward(self, ids: Any) -> Any:
            return torch.relu(self.readout(self.rnn(self.embedding(ids))[0]))

    torch.manual_seed(0)
    return Tagger()


def check_tagger(module: Any, file: bytes, layers: int, batch_first: bool, shape: tuple[int, int]) -> None:
    """The outputs are those of ONNX Runtime, the weights those that interop.torch reads."""
    model, params = from_model(onnx.load_from_string(file))
    ids = np.random.default_rng(0).integers(0, V, shape)
    (expected,) = run_onnx(file, {onnx.load_from_string(file).graph.input[0].name: ids})
    _, ys = rnn.unroll(model, params, jnp.array(ids.T if batch_first else ids, jnp.int32))
    close(ys.swapaxes(0, 1) if batch_first else ys, expected)

    inner, weights = rnn.interop.torch.from_module(module.rnn)
    parts, known = (params[1:-2], weights) if layers > 1 else (params[1], weights)
    equal(parts, known)
    found = model.layers[1:-2]
    assert (rnn.Stack(*found) if layers > 1 else found[0]) == inner
    equal(params[0].w, jnp.array(module.embedding.weight.detach().numpy()))
    assert isinstance(model.layers[-1], rnn.Activation)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_taggers_of_torch(kind, layers, bidirectional):
    batch_first = bidirectional == (layers == 2)
    module = tagger(kind, layers, bidirectional, batch_first)
    file = exported(module, pytest.importorskip("torch").zeros(B, T, dtype=int))
    check_tagger(module, file, layers, batch_first, (2, 9))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_other_exporter_of_torch():
    """That on torch.export, which may write the sizes it saw into the file, and an nn.RNN step by step."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    nn = torch.nn

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(V, I)
            self.below = nn.LSTM(I, H, 2, bidirectional=True, batch_first=True)
            self.above = nn.GRU(2 * H, H, batch_first=True)
            self.readout = nn.Linear(H, 2)

        def forward(self, ids: Any) -> Any:
            return self.readout(self.above(self.below(self.embedding(ids))[0])[0])

    torch.manual_seed(0)
    module = Tagger().eval()
    ids = torch.randint(0, V, (B, T))
    program = torch.onnx.export(module, (ids,), dynamo=True, verbose=False)
    model, params = from_model(program.model_proto)
    (below, w_below), (above, w_above) = map(rnn.interop.torch.from_module, (module.below, module.above))
    assert model == rnn.Stack(rnn.Embedding(V, I), *below.layers, above, rnn.Linear(H, 2))
    equal(params[1:4], (*w_below, w_above))
    _, ys = rnn.unroll(model, params, jnp.array(ids.numpy().T, jnp.int32))
    (name,) = (info.name for info in program.model_proto.graph.input)
    close(ys.swapaxes(0, 1), run_onnx(program.model_proto, {name: ids.numpy()})[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("state", [False, True])
def test_recurrent_modules_of_torch(kind, state):
    """Initial and final states as inputs and outputs of the file; a stack in both directions."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(I, H, 2, bidirectional=True)
    h = torch.randn(4, B, H)
    inputs = (torch.zeros(T, B, I), *([(h, h) if kind == "LSTM" else h] if state else []))
    buffer = io.BytesIO()
    names = ["x", "h", "c"][: (3 if kind == "LSTM" else 2) if state else 1]
    axes = {name: [0, 1] if name == "x" else [1] for name in names}
    torch.onnx.export(module.eval(), inputs, buffer, dynamo=False, input_names=names, dynamic_axes=axes)
    model, params = from_model(onnx.load_from_string(buffer.getvalue()))
    expected, weights = rnn.interop.torch.from_module(module)
    assert model == expected
    equal(params, weights)
    xs = random(T, B, I)
    ours = None
    if state:
        ours = rnn.interop.torch.state_from_torch(model, (h, h) if kind == "LSTM" else h)
    final, ys = rnn.unroll(model, params, jnp.array(xs), ours)
    found = run_onnx(buffer.getvalue(), {"x": xs} | {name: h.numpy() for name in names[1:]})
    final = rnn.interop.torch.state_to_torch(model, final)
    for a, b in zip([ys, *(final if kind == "LSTM" else [final])], found, strict=True):
        close(a, b)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["last output", "last state", "both directions"])
def test_classifier_of_torch(how):
    torch = pytest.importorskip("torch")
    nn, both = torch.nn, how == "both directions"

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(I, H, 2, batch_first=True, bidirectional=both)
            self.readout = nn.Linear(H * (1 + both), 2)

        def forward(self, x: Any) -> Any:
            ys, (h, _) = self.rnn(x)
            last = {"last output": ys[:, -1], "last state": h[-1], "both directions": torch.cat([h[-2], h[-1]], 1)}
            return self.readout(last[how])

    file = exported(Net(), torch.zeros(B, T, I))
    model, params = from_model(onnx.load_from_string(file))
    assert isinstance(model, rnn.tasks.Classifier)
    xs = random(2, 9, I)
    close(model.apply(params, jnp.array(xs.swapaxes(0, 1))), run_onnx(file, {"x": xs})[0])


def keras_like() -> Any:
    """The graph that tf2onnx writes for Keras layers Embedding, Bidirectional(LSTM), LSTM and Dense, built by hand.

    Negative ids are moved by V, time and batch exchanged around each operator, states made of the shape of the inputs,
    and the output axes squeezed; lengths are T for each sequence.
    """
    down, up = arrays("LSTM", 2), arrays("LSTM", 1, size=2 * H, seed=1)
    constants = {
        "table": random(V, I), "V": np.int64(V), "zero": np.float32(0), "axis0": np.array([0]), "axis1": np.array([1]),
        "one": np.array([1]), "two": np.array([2]), "H": np.array([H], np.int32), "w": random(H, 2), "b": random(2),
        "first": np.int64(0), "second": np.int64(1),
        **{f"{name}0": array for name, array in down.items()}, **{f"{name}1": array for name, array in up.items()},
    }  # fmt: skip
    nodes = [
        node("Add", "ids V", "moved"),
        node("Cast", "ids", "float_ids", to=kinds.FLOAT),
        node("Less", "float_ids zero", "negative"),
        node("Not", "negative", "positive"),
        node("Cast", "negative", "if_negative", to=kinds.INT64),
        node("Cast", "positive", "if_positive", to=kinds.INT64),
        node("Mul", "moved if_negative", "a"),
        node("Mul", "ids if_positive", "b_"),
        node("Add", "a b_", "rows"),
        node("Gather", "table rows", "vectors", axis=0),
        node("Transpose", "vectors", "time_major", perm=[1, 0, 2]),
        node("Shape", "vectors", "shape"),
        node("Cast", "shape", "shape32", to=kinds.INT32),
        node("Slice", "shape32 axis0 one axis0", "batch"),
        node("Slice", "shape32 one two axis0", "steps"),
        node("Concat", "batch H", "state_shape32", axis=0),
        node("Cast", "state_shape32", "state_shape", to=kinds.INT64),
        node("Expand", "zero state_shape", "zeros"),
        node("Unsqueeze", "zeros axis0", "state"),
        node("Concat", "state state", "states", axis=0),
        node("Cast", "batch", "batch64", to=kinds.INT64),
        node("Expand", "steps batch64", "n_steps"),
        helper.make_node("LSTM", ["time_major", "W0", "R0", "B0", "n_steps", "states", "states"], ["Y0"], name="LSTM0",
                         direction="bidirectional", hidden_size=H, activations=["Sigmoid", "Tanh", "Tanh"] * 2),
        node("Split", "Y0", "forward backward", axis=1),
        node("Squeeze", "forward axis1", "f"),
        node("Squeeze", "backward axis1", "g"),
        node("Transpose", "f", "f_", perm=[1, 0, 2]),
        node("Transpose", "g", "g_", perm=[1, 0, 2]),
        node("Concat", "f_ g_", "merged", axis=-1),
        node("Transpose", "merged", "next", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["next", "W1", "R1", "B1", "", "state", "state"], ["Y1"], name="LSTM1", hidden_size=H),
        node("Squeeze", "Y1 axis1", "ys"),
        node("Transpose", "ys", "batch_major", perm=[1, 0, 2]),
        node("MatMul", "batch_major w", "product"),
        node("Add", "product b", "logits"),
        node("Softmax", "logits", "y", axis=-1),
    ]  # fmt: skip
    return graph(nodes, {"ids": ("B", "T")}, {"y": ("B", "T", 2)}, constants)


def test_graph_of_tf2onnx():
    proto = keras_like()
    model, params = from_model(proto)
    assert model == rnn.Stack(
        rnn.Embedding(V, I), rnn.Bidirectional(rnn.LSTM(I, H)), rnn.LSTM(2 * H, H), rnn.Linear(H, 2),
        rnn.Activation("softmax"),
    )  # fmt: skip
    ids = np.random.default_rng(0).integers(0, V, (B, T))
    _, ys = rnn.unroll(model, params, jnp.array(ids.T, jnp.int32))
    close(ys.swapaxes(0, 1), run_onnx(proto, {"ids": ids})[0])
    alone, weights = from_model(proto, nodes=["LSTM0", "LSTM1"])
    assert alone == rnn.Stack(*model.layers[1:3])
    equal(weights, params[1:3])


def test_path_with_external_data(tmp_path):
    proto = layer()
    expected = from_model(proto)
    onnx.save(proto, tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    model, params = from_model(tmp_path / "model.onnx")
    assert model == expected[0]
    equal(params, expected[1])


# ---- attributes --------------------------------------------------------------------------------------------------

FUNCTIONS: dict[str, tuple] = {  # of an RNN: attributes, and what they are here
    "tanh": ({}, "tanh"),
    "relu": ({"activations": ["Relu"]}, "relu"),
    "sigmoid": ({"activations": ["Sigmoid"]}, "sigmoid"),
    "softsign": ({"activations": ["Softsign"]}, jax.nn.soft_sign),
    "softplus": ({"activations": ["Softplus"]}, jax.nn.softplus),
    "affine": ({"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.25]}, Affine(0.5, 0.25)),
    "leaky": ({"activations": ["LeakyRelu"]}, LeakyRelu(0.01)),
    "leaky 0.5": ({"activations": ["LeakyRelu"], "activation_alpha": [0.5]}, LeakyRelu(0.5)),
    "thresholded": ({"activations": ["ThresholdedRelu"], "activation_alpha": [0.5]}, ThresholdedRelu(0.5)),
    "scaled": (
        {"activations": ["ScaledTanh"], "activation_alpha": [0.5], "activation_beta": [2.0]},
        ScaledTanh(0.5, 2.0),
    ),
    "hard": ({"activations": ["HardSigmoid"]}, HardSigmoid(0.2, 0.5)),
    "elu": ({"activations": ["Elu"]}, Elu(1.0)),
    "clip": ({"clip": 0.5}, Clipped("tanh", 0.5)),
}


@pytest.mark.parametrize("name", few(list(FUNCTIONS), ["softsign", "leaky", "scaled", "clip"]))
def test_activations(name):
    """The attributes become a function that prints as its call; its values are those of ONNX Runtime, cell by cell."""
    attributes, function = FUNCTIONS[name]
    proto = layer("RNN", **attributes)
    model, _ = from_model(proto)
    if isinstance(function, (LeakyRelu, Affine, ThresholdedRelu, ScaledTanh, HardSigmoid, Elu)):
        found = {field: pytest.approx(value) for field, value in vars(function).items()}
        assert type(model.activation) is type(function)
        assert vars(model.activation) == found
    else:
        assert model.activation == function
    assert rnn.from_repr(repr(model)) == model
    x, weights = random(1, B, I), arrays("RNN")
    a = x[0] @ weights["W"][0].T + weights["B"][0].reshape(2, H).sum(0)
    f = model.activation if callable(model.activation) else rnn.layers.pointwise.FUNCTIONS[model.activation]
    close(f(jnp.array(a)), run_onnx(proto, {"x": x})[0][0, 0])


def test_alpha_goes_to_those_who_take_it():
    proto = layer("RNN", direction="bidirectional", activations=["LeakyRelu", "Elu"], activation_alpha=[0.5, 0.25])
    model, _ = from_model(proto)
    assert [cell.activation for cell in model.directions] == [LeakyRelu(0.5), Elu(0.25)]
    proto = layer("RNN", direction="bidirectional", activations=["Tanh", "Elu"], activation_alpha=[0.25])
    model, _ = from_model(proto)
    assert [cell.activation for cell in model.directions] == ["tanh", Elu(0.25)]


@pytest.mark.parametrize(
    "options", [{"layout": 1}, {"direction": "reverse"}, {"given": "WR"}, {"input_forget": 1}], ids=str
)
def test_options(options):
    shape = ("B", "T", I) if "layout" in options else ("T", "B", I)
    model, params = from_model(layer(shape=shape, **options))
    cell = rnn.LSTM(I, H, use_bias=options.get("given") != "WR", coupled="input_forget" in options)
    assert model == (rnn.Reverse(cell) if "direction" in options else cell)
    if "input_forget" in options:
        i = arrays("LSTM")["W"][0, :H]  # the first block
        np.testing.assert_array_equal(params.w_xh[:, :H], -i.T)


CASES = st.fixed_dictionaries(
    {
        "operator": st.sampled_from(["RNN", "GRU", "LSTM"]),
        "direction": st.sampled_from(["forward", "reverse", "bidirectional"]),
        "batch_first": st.booleans(),
        "B": st.booleans(),
        "P": st.booleans(),
        "lengths": st.booleans(),
        "state": st.booleans(),
        "option": st.booleans(),  # linear_before_reset, input_forget, or another activation
        "activation": st.sampled_from(sorted(FUNCTIONS)),
        "sizes": st.tuples(*[st.integers(1, 4)] * 3),
        "seed": st.integers(0, 9),
    }
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(CASES)
def test_attributes_against_onnx_runtime(case):
    """ONNX Runtime has no layout=1 on a CPU: there it runs the same operator between transposes."""
    operator, (steps, batch, size) = case["operator"], case["sizes"]
    D = 2 if case["direction"] == "bidirectional" else 1
    given_ = "WR" + "B" * case["B"] + "P" * (case["P"] and operator == "LSTM")
    weights = arrays(operator, D, given_, size, case["seed"])
    attributes: dict[str, Any] = {"direction": case["direction"], "hidden_size": H}
    if case["option"] and operator == "RNN":
        found = FUNCTIONS[case["activation"]][0]
        attributes |= {key: value * D if isinstance(value, list) else value for key, value in found.items()}
    elif case["option"]:
        attributes["linear_before_reset" if operator == "GRU" else "input_forget"] = 1
    states = ["h", "c"][: (2 if operator == "LSTM" else 1)]
    names = ["x", "W", "R", "B" if case["B"] else "-", "n" if case["lengths"] else "-"]
    names += states if case["state"] else ["-"] * len(states)
    names += ["P"] if "P" in given_ else []
    outs = ["Y", "Y_h", "Y_c"][: 1 + len(states)]

    xs = random(steps, batch, size, seed=case["seed"])
    feed = {"x": xs}
    if case["lengths"]:
        feed["n"] = np.random.default_rng(case["seed"]).integers(1, steps + 1, batch).astype(np.int32)
    if case["state"]:
        feed |= {name: random(D, batch, H, seed=n) for n, name in enumerate(states)}

    def build(layout: int) -> Any:
        shapes = {"x": ("B", "T", size) if layout else ("T", "B", size), "n": ("B",)}
        shapes |= dict.fromkeys(states, ("B", D, H) if layout else (D, "B", H))
        one = node(operator, " ".join(names), " ".join(outs), **attributes, layout=layout)
        return graph([one], {name: shapes[name] for name in feed}, dict.fromkeys(outs), weights)

    expected = dict(zip(outs, run_onnx(build(0), feed), strict=True))
    model, params = from_model(build(int(case["batch_first"])))
    state = None
    if case["state"]:
        parts = [[jnp.array(feed[name][d]) for name in states] for d in range(D)]
        like = jax.tree.structure(model.initial_state((batch,)))
        state = jax.tree.unflatten(like, [a for part in parts for a in part])
    n = jnp.array(feed["n"]) if case["lengths"] else None
    final, ys = rnn.unroll(model, params, jnp.array(xs), state, lengths=n)
    close(ys.reshape(steps, batch, D, H).swapaxes(1, 2), expected["Y"])
    leaves = jax.tree.leaves(final)
    for offset, name in enumerate(outs[1:]):
        close(jnp.stack(leaves[offset :: len(states)]), expected[name])


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["RNN", "GRU", "LSTM"])
def test_float64(operator, x64):
    """Against the reference evaluator, since ONNX Runtime computes these operators in float32 only."""
    proto = layer(operator, outputs="Y", linear_before_reset=1) if operator == "GRU" else layer(operator)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
        )
    proto.graph.input[0].type.tensor_type.elem_type = kinds.DOUBLE
    model, params = from_model(proto)
    xs = random(T, B, I).astype(np.float64)
    (expected,) = importlib.import_module("onnx.reference").ReferenceEvaluator(proto).run(["Y"], {"x": xs})
    close(rnn.unroll(model, params, jnp.array(xs))[1], expected[:, 0], 1e-10)


# ---- round trips -------------------------------------------------------------------------------------------------

NATIVE = [
    name for name in ZOO
    if name not in ("vanilla-callable", "lstm-peephole-previous", "mixed-precision")
    and "user" not in name and name not in (*UNWRITTEN, *OPTIONS) and not name.startswith(RARE)
]  # fmt: skip
RICH = [("stack-of-bidirectional", True), ("residual-concat", False), ("tied", True)]


@pytest.mark.parametrize(("name", "ragged"), few(list(itertools.product(NATIVE, (False, True))), RICH))
def test_round_trip(name, ragged):
    model = ZOO[name].build("float32")
    params = random_params(model)
    features = None if reads_ids(model) or getattr(model, "input_size", None) else 3
    found, again = from_model(to_model(model, params, features=features, lengths=ragged, state=ragged))
    assert repr(found) == repr(model)  # but for initializers, which a file does not have
    equal(again, params)


PEEPHOLES = [(False, gates) for gates in ("i", "f", "o", "if", "io")] + [(True, gates) for gates in ("f", "o")]


@pytest.mark.parametrize(("coupled", "peepholes"), few(PEEPHOLES, [(True, "o")]))
def test_round_trip_of_peepholes(coupled, peepholes):
    model = rnn.LSTM(I, H, coupled=coupled, peepholes=peepholes)
    params = random_params(model)
    found, again = from_model(to_model(model, params))
    assert found == model
    equal(again, params)


@pytest.mark.parametrize("lengths", few([False, True], [True]))
def test_round_trip_of_a_classifier(lengths):
    encoder = rnn.Stack(rnn.Embedding(V, I), rnn.Bidirectional(rnn.GRU(I, H)), rnn.Activation("tanh"))
    model = rnn.tasks.Classifier(encoder, 3)
    params = random_params(model)
    found, again = from_model(to_model(model, params, lengths=lengths))
    assert repr(found) == repr(model)
    equal(again, params)


# ---- layers around the operators ---------------------------------------------------------------------------------

AROUND: dict[str, tuple] = {  # nodes after Y [T, 1, B, H], what they are, and shapes of constants
    "squeeze": (["Squeeze Y one > y"], rnn.LSTM(I, H)),
    "reshape": (["Reshape Y flat > y"], rnn.LSTM(I, H)),
    "time and batch merged": (
        ["Reshape Y rows > r", "MatMul r w > y"],
        rnn.Stack(rnn.LSTM(I, H), rnn.Linear(H, 2, use_bias=False)),
    ),
    "gemm": (["Reshape Y rows > r", "Gemm r w b > y"], rnn.Stack(rnn.LSTM(I, H), rnn.Linear(H, 2))),
    "bias": (["Squeeze Y one > s", "MatMul s w > m", "Add b m > y"], rnn.Stack(rnn.LSTM(I, H), rnn.Linear(H, 2))),
    "dropout": (["Squeeze Y one > s", "Dropout s half > y"], rnn.Stack(rnn.LSTM(I, H), rnn.Dropout(0.5))),
    "identity": (["Squeeze Y one > s", "Identity s > y"], rnn.LSTM(I, H)),
    "leaky": (["Squeeze Y one > s", "LeakyRelu s > y"], rnn.Stack(rnn.LSTM(I, H), rnn.Activation(LeakyRelu(0.01)))),
}


@pytest.mark.parametrize("name", AROUND)
def test_layers_around(name):
    texts, expected = AROUND[name]
    if name == "squeeze":
        texts = ["Squeeze Y one > y"]
    if name == "reshape":
        texts = ["Transpose Y > t", "Reshape t flat > y"]
    model, _ = from_model(around(texts, more={"Transpose": {"perm": [0, 2, 1, 3]}}))
    assert repr(model) == repr(expected)


@pytest.mark.parametrize(
    ("text", "merge"),
    [("ReduceSum Y one > y", "sum"), ("ReduceMean Y > y", "mean"), ("ReduceProd Y > y", "product")],
)
def test_merges_over_the_axis_of_directions(text, merge):
    attributes = {"keepdims": 0} | ({} if merge == "sum" else {"axes": [1]})
    more = {text.split()[0]: attributes}
    model, _ = from_model(around([text], direction="bidirectional", more=more))
    assert model == rnn.Bidirectional(rnn.LSTM(I, H), merge=merge)


def test_final_states_alone_are_those_of_the_cell():
    model, _ = from_model(around([], outputs={"Y_h": None, "Y_c": None}))
    assert model == rnn.LSTM(I, H)


def test_gates_that_a_file_reorders():
    """Weights computed from constants: slices, concatenation, a new axis, as exporters write them."""
    weights = arrays("LSTM")
    i, o, f, c = np.split(weights["W"][0], 4)
    parts = {"i": i, "foc": np.concatenate([f, c, o])}
    nodes = [
        node("Split", "foc", "f c o", axis=0),
        node("Concat", "i o f c", "w", axis=0),
        helper.make_node("Constant", [], ["zero"], value=onnx.numpy_helper.from_array(np.array([0]))),
        node("Unsqueeze", "w zero", "W"),
        node("LSTM", "x W R B", "Y", hidden_size=H),
    ]
    del weights["W"]
    _, params = from_model(graph(nodes, {"x": ("T", "B", I)}, {"Y": None}, weights | parts))
    equal(params, from_model(layer())[1])


def test_one_step():
    """A file for one step, whose output is read from the final state."""
    nodes = [node("LSTM", "x W R B - h c", "- Y_h Y_c", hidden_size=H), node("MatMul", "Y_h w", "y")]
    state = dict.fromkeys(("h", "c"), (1, "B", H))
    outputs = dict.fromkeys(("y", "Y_h", "Y_c"))
    proto = graph(nodes, {"x": (1, "B", I), **state}, outputs, arrays("LSTM") | {"w": random(H, 2)})
    model, _ = from_model(proto)
    assert model == rnn.Stack(rnn.LSTM(I, H), rnn.Linear(H, 2, use_bias=False))


def test_operator_inside_an_if():
    """Taken by name from the branch of an If, with weights that are constants of the branch."""
    constants = [
        helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(array))
        for name, array in arrays("LSTM").items()
    ]
    lstm = [*constants, node("LSTM", "x W R B", "Y", hidden_size=H)]
    branches = {
        name: helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, kinds.FLOAT, None)])
        for name, nodes, output in (("then_branch", lstm, "Y"), ("else_branch", [node("Unsqueeze", "x one", "Z")], "Z"))
    }
    either = helper.make_node("If", ["flag"], ["y"], name="/If", **branches)
    constants = {"one": np.array([1]), "flag": np.array([True])}
    model, params = from_model(graph([either], {"x": ("T", "B", I)}, {"y": None}, constants), nodes=["/LSTM"])
    assert model == rnn.LSTM(I, H)
    equal(params, from_model(layer())[1])
