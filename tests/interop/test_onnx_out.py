"""ONNX out: the results of ONNX Runtime are ours, with lengths, from any state, at any T and B, step by step too."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import (
    OPTIONS,
    RARE,
    UNWRITTEN,
    ZOO,
    Average,
    H,
    I,
    V,
    few,
    filled,
    inputs,
    random_params,
    random_state,
    reads_ids,
)

import jaxrnn as rnn
from jaxrnn.interop.onnx import operators
from jaxrnn.interop.onnx.writer.graph import by_name
from jaxrnn.interop.onnx.writer.model import IR_VERSION, OPSET

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
to_model = rnn.interop.onnx.to_model

CLOSE = {"float32": 1e-5, "float64": 1e-10}
RECURRENT = {"RNN", "GRU", "LSTM", "Scan"}
WITHOUT_OPERATOR = ["vanilla-callable", "lstm-peephole-previous", "user", "user-in-stack", "user-in-bidirectional"]
WITHOUT_OPERATOR += [*OPTIONS, *(name for name in ZOO if name.startswith(RARE))]


def converted(model, params, **options):
    """The model in ONNX, checked."""
    known = reads_ids(model) or getattr(model, "input_size", None) or type(model) is rnn.tasks.Classifier
    proto = to_model(model, params, features=None if known else I, **options)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def session(proto):
    """ONNX Runtime on one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    source = proto if isinstance(proto, str) else proto.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(proto, **feed):
    """The outputs by name; a tree is fed by the names of its leaves."""
    running = proto if isinstance(proto, onnxruntime.InferenceSession) else session(proto)
    arrays = {name: np.asarray(a) for root, tree in feed.items() for name, a in by_name(root, tree).items()}
    names = [output.name for output in running.get_outputs()]
    return dict(zip(names, running.run(names, arrays), strict=True))


def assert_same(outputs, trees, dtype="float32"):
    """Outputs by name are the leaves of trees, with their shapes and dtypes."""
    expected = {name: leaf for root, tree in trees.items() for name, leaf in by_name(root, tree).items()}
    assert set(outputs) == set(expected)
    for name, leaf in expected.items():
        assert outputs[name].dtype == leaf.dtype, name
        np.testing.assert_allclose(outputs[name], leaf, rtol=CLOSE[dtype], atol=CLOSE[dtype], err_msg=name)


@st.composite
def cells(draw):
    """A built-in cell with any options."""
    bias, T, B, H = draw(st.booleans()), *(draw(st.integers(1, 5)) for _ in range(3))
    kind = draw(st.sampled_from(["vanilla", "lstm", "gru"]))
    if kind == "vanilla":
        cell = rnn.VanillaRNN(I, H, use_bias=bias, activation=draw(st.sampled_from(["tanh", "relu", "sigmoid"])))
    elif kind == "gru":
        cell = rnn.GRU(I, H, use_bias=bias, reset_after=draw(st.booleans()))
    else:
        coupled = draw(st.booleans())
        peepholes = draw(st.sampled_from(["", "f", "o", "fo"] if coupled else ["", "i", "fo", "ifo"]))
        cell = rnn.LSTM(I, H, use_bias=bias, coupled=coupled, peepholes=peepholes)
    model = draw(st.sampled_from([cell, rnn.Reverse(cell), rnn.Bidirectional(cell), rnn.Residual(cell, "concat")]))
    return model, T, np.array([draw(st.integers(0, T)) for _ in range(B)], np.int32)


def operators_of(proto):
    return {node.op_type for node in proto.graph.node}


def unread(graph):
    """Outputs that nothing reads, but for those of nodes that have several."""
    read = {output.name for output in graph.output}
    for node in graph.node:
        read |= set(node.input)
        for attribute in node.attribute:
            read |= {name for inner in attribute.g.node for name in inner.input}
    return [node.output[0] for node in graph.node if len(node.output) == 1 and node.output[0] not in read]


# ---- every model -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", few([name for name in ZOO if name not in UNWRITTEN], ["stack-of-bidirectional", "user-in-stack"])
)
def test_every_model(name):
    """Ragged batches from a random state, at two sizes, in one session; an empty sequence keeps its state."""
    model = ZOO[name].build("float32")
    params = random_params(model)
    proto = converted(model, params, lengths=True, state=True)
    assert not unread(proto.graph)
    assert ("Scan" in operators_of(proto)) == (name in WITHOUT_OPERATOR)
    running = session(proto)
    for steps, lengths in ((6, [6, 0, 3, 1]), (2, [1])):
        lengths = np.array(lengths, np.int32)
        xs, state = inputs(model, steps, (len(lengths),), dtype="float32"), random_state(model, (len(lengths),))
        final, ys = rnn.unroll(model, params, xs, state, lengths=lengths)
        assert_same(run(running, xs=xs, lengths=lengths, state=state), {"ys": ys, "final": final})


@pytest.mark.parametrize("name", few(UNWRITTEN, ["conv", "clockwork"]))
def test_refused_by_name(name):
    """A layer that cannot be written as nodes is named, and where it is in the model."""
    model = ZOO[name].build("float32")
    with pytest.raises((TypeError, ValueError), match=r"^model\S*: expected .*, got [A-Z]\w+\(.*\); .*"):
        to_model(model, random_params(model), features=None if getattr(model, "input_size", None) else I)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["lstm-peephole-ifo", "dropout", "stack-mixed", "bidirectional-both", "tied", "user-in-stack"]
)
def test_without_lengths_and_state(name):
    """From the initial state of the model, without padding: the only output is ys."""
    model = ZOO[name].build("float32")
    params = random_params(model)
    xs = inputs(model, dtype="float32")
    proto = converted(model, params)
    assert not unread(proto.graph)
    assert_same(run(proto, xs=xs), {"ys": rnn.unroll(model, params, xs)[1]})


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vanilla-relu", "lstm-coupled-peephole-fo", "gru-after", "stack-of-bidirectional", "user-in-stack"]
)
def test_float64(name, x64):
    """All cells as a Scan, as ONNX Runtime has the recurrent operators in float32 only."""
    model = ZOO[name].build("float64")
    params = random_params(model)
    proto = converted(model, params, lengths=True, state=True)
    assert not operators_of(proto) & {"RNN", "GRU", "LSTM"}
    xs, lengths, state = inputs(model, 4, (3,)), np.array([4, 2, 0], np.int32), random_state(model, (3,))
    final, ys = rnn.unroll(model, params, xs, state, lengths=lengths)
    assert_same(run(proto, xs=xs, lengths=lengths, state=state), {"ys": ys, "final": final}, "float64")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm-peephole-previous", "stack-mixed", "residual-concat", "tied", "user-in-stack"])
def test_step_and_chunks(name):
    """Steps one by one, and two calls that pass the state on, give what one call gives."""
    model = ZOO[name].build("float32")
    params = random_params(model)
    xs, state = inputs(model, dtype="float32"), random_state(model)
    final, ys = rnn.unroll(model, params, xs, state)

    def chained(proto, root_x, root_y, chunks):
        running, feed, outputs = session(proto), by_name("state", state), []
        for x in chunks:
            found = run(running, **{root_x: x}, **feed)
            outputs.append(found.pop(root_y))
            feed = {n.replace("final", "state", 1): a for n, a in found.items()}
        return outputs, {n.replace("state", "final", 1): a for n, a in feed.items()}

    outputs, last = chained(converted(model, params, step=True), "x", "y", xs)
    assert_same({"ys": np.stack(outputs), **last}, {"ys": ys, "final": final})
    outputs, last = chained(converted(model, params, state=True), "xs", "ys", (xs[:2], xs[2:]))
    assert_same({"ys": np.concatenate(outputs), **last}, {"ys": ys, "final": final})


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True)
@given(cells(), st.booleans())
def test_any_cell(case, lengths):
    """Every option of the cells in every direction, at any size."""
    model, steps, ends = case
    params, xs = random_params(model), inputs(model, steps, ends.shape, dtype="float32")
    state, rest = random_state(model, ends.shape), {"lengths": ends} if lengths else {}
    final, ys = rnn.unroll(model, params, xs, state, **rest)
    found = run(converted(model, params, lengths=lengths, state=True), xs=xs, state=state, **rest)
    assert_same(found, {"ys": ys, "final": final})


# ---- operators ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coupled", [False, True])
def test_arrays_of_an_operator_and_back(coupled):
    """Parameters to W, R, B, P and back: equal to the bit."""
    for cell in (
        rnn.LSTM(I, H, peepholes="fo", coupled=coupled), rnn.GRU(I, H, reset_after=coupled), rnn.VanillaRNN(I, H)
    ):  # fmt: skip
        params = random_params(cell)
        arrays = operators.to_arrays(cell, params)
        again = operators.from_arrays(cell, arrays)
        assert jax.tree.structure(again) == jax.tree.structure(params)
        jax.tree.map(np.testing.assert_array_equal, again, params)


DIRECTIONS = [
    (rnn.Bidirectional(rnn.LSTM(I, H)), ["LSTM"]),
    (rnn.Bidirectional(rnn.VanillaRNN(I, H), rnn.VanillaRNN(I, H, activation="relu")), ["RNN"]),
    (rnn.Bidirectional(rnn.LSTM(I, H, peepholes="i"), rnn.LSTM(I, H)), ["LSTM"]),
    (rnn.Bidirectional(rnn.LSTM(I, H, coupled=True), rnn.LSTM(I, H)), ["LSTM", "LSTM"]),
    (rnn.Bidirectional(rnn.GRU(I, H, reset_after=True), rnn.GRU(I, H)), ["GRU", "GRU"]),
    (rnn.Bidirectional(rnn.GRU(I, H), rnn.GRU(I, 2)), ["GRU", "GRU"]),
    (rnn.Bidirectional(rnn.GRU(I, H), rnn.GRU(I, H, use_bias=False)), ["GRU", "GRU"]),
    (rnn.Reverse(rnn.Bidirectional(rnn.GRU(I, H))), ["GRU", "GRU"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "expected"), DIRECTIONS, ids=repr)
def test_two_directions_in_one_operator(model, expected):
    """Where ONNX has it, and with the values of ours; two operators else."""
    params = random_params(model)
    proto = converted(model, params, lengths=True, state=True)
    assert [node.op_type for node in proto.graph.node if node.op_type in RECURRENT] == expected
    xs, lengths, state = inputs(model, dtype="float32"), np.array([5, 0, 2], np.int32), random_state(model)
    final, ys = rnn.unroll(model, params, xs, state, lengths=lengths)
    assert_same(run(proto, xs=xs, lengths=lengths, state=state), {"ys": ys, "final": final})


def test_names_and_metadata():
    """Weights are called after the parameters, nodes after the model; version, model and sizes are in the file."""
    model = rnn.Stack(rnn.Embedding(V, I), rnn.Bidirectional(rnn.LSTM(I, H, peepholes="o")), rnn.Linear(2 * H, 2))
    proto = converted(model, random_params(model), lengths=True, state=True)
    weights = {tensor.name for tensor in proto.graph.initializer if tensor.name.startswith("params")}
    assert weights == {"params.0.w", *(f"params.1.{name}" for name in "WRBP"), "params.2.w", "params.2.b"}
    assert {"model.layers[0]/Gather", "model.layers[1]/LSTM", "model.layers[2]/MatMul"} <= {
        n.name for n in proto.graph.node
    }
    assert [x.name for x in proto.graph.input][:3] == ["xs", "lengths", "state.1.0.h"]
    axes = [
        [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim]
        for x in (proto.graph.input[0], proto.graph.output[0])
    ]
    assert axes == [["T", "B"], ["T", "B", 2]]
    assert {p.key: p.value for p in proto.metadata_props} == {"jaxrnn": rnn.__version__, "model": repr(model)}
    assert (proto.ir_version, proto.opset_import[0].version) == (IR_VERSION, OPSET) == (8, 17)
    assert (proto.producer_name, proto.producer_version) == ("jaxrnn", rnn.__version__)


def test_files(tmp_path):
    """One file of about the size of the parameters, or weights beside it, as above 2 GB."""
    model = rnn.Stack(rnn.LSTM(I, 64), rnn.Linear(64, 2))
    params = random_params(model)
    proto, xs = converted(model, params), inputs(model, dtype="float32")
    whole, split = tmp_path / "whole.onnx", tmp_path / "split.onnx"
    onnx.save_model(proto, whole)
    size = sum(a.nbytes for a in jax.tree.leaves(params))
    assert size < whole.stat().st_size < size + 5000
    expected = run(session(str(whole)), xs=xs)
    onnx.save_model(proto, split, save_as_external_data=True, location="split.data", size_threshold=1000)
    assert split.stat().st_size < 5000
    assert (tmp_path / "split.data").stat().st_size > size / 2
    np.testing.assert_array_equal(run(session(str(split)), xs=xs)["ys"], expected["ys"])


# ---- any cell, any function --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Everything:
    """A cell that uses many functions, of vectors of I features."""

    input_size: ClassVar[int] = I

    def init(self, key):
        return {"w": jnp.zeros((2, I, I)), "v": jnp.zeros(I)}

    def initial_state(self, batch_shape=()):
        return jnp.ones((*batch_shape, 2, I))

    def step(self, params, state, x):
        w, v = params["w"], jnp.broadcast_to(params["v"], x.shape)
        attention = jax.nn.softmax(jnp.einsum("...ki,...i->...k", state, x), axis=-1)  # [..., 2]
        read = jnp.einsum("...k,...ki->...i", attention, state)
        mixed = jnp.stack([read @ w[0], x @ w[1].T], axis=-2)
        mixed = mixed / jnp.sqrt(1e-3 + jnp.square(mixed).mean(-1, keepdims=True))
        state = jnp.where(state > mixed, jnp.tanh(state), jax.nn.silu(mixed) ** 3)
        first, *_ = jnp.split(jnp.flip(read * v, -1), [1, 2], axis=-1)
        rank = jax.nn.one_hot(jnp.argmax(read, -1), I, dtype=x.dtype) * jnp.sign(x)
        parts = [first, jax.nn.gelu(read), jax.nn.softplus(x), jnp.clip(x, -0.5, 0.5), rank, jnp.cumsum(x, -1)]
        parts += [jax.nn.elu(v - x), jnp.min(state, axis=-2) % 2.0, jax.scipy.special.erf(x), jnp.abs(x) ** 1.5]
        parts += [jnp.broadcast_to(jnp.arange(2.0), (*x.shape[:-1], 2)), jnp.round(x * 3), jnp.exp2(x)]
        parts += [x[..., 1:], w[0][:, jnp.array([2, 0])][jnp.argmax(x, -1)], state[..., 1, :2], x[..., -1:]]
        parts += [jax.lax.dynamic_slice_in_dim(x, state.shape[-1] - 1 + jnp.argmax(w[0, 0]), 2, -1)]
        return state, jnp.concatenate(parts, axis=-1).astype(x.dtype)


def test_functions_of_a_cell():
    """A Scan whose body has softmax, einsum, split, where, one_hot and so on, of a batch of any size."""
    model = Everything()
    params, xs = random_params(model), inputs(model, dtype="float32")
    lengths = np.array([5, 0, 2], np.int32)
    found = run(converted(model, params, lengths=True), xs=xs, lengths=lengths)
    assert_same(found, {"ys": rnn.unroll(model, params, xs, lengths=lengths)[1]})


NUMBERS = np.concatenate([np.logspace(-40, 38, 400), [0.0, 1e-30, 1.0, np.inf]])
NUMBERS = np.concatenate([NUMBERS, -NUMBERS, [np.nan]])


@pytest.mark.parametrize("name", ["log1p", "expm1"])
def test_near_zero(name):
    """Exact to some units in the last place, of numbers of all magnitudes."""
    xs = NUMBERS.astype("float32")[:, None, None]
    found = run(to_model(rnn.Activation(getattr(jnp, name)), (), features=1), xs=xs)["ys"]
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(xs.astype("float64")).astype("float32")
    np.testing.assert_allclose(found, expected, rtol=6e-7, atol=1e-38)


@pytest.mark.parametrize("dtype", few(["int8", "uint8", "int16", "uint16", "int32", "uint32"], ["uint8", "int32"]))
def test_floats_to_integers(dtype):
    """Beyond the integers the last of them, as JAX has it."""
    xs = np.concatenate([NUMBERS, [-1.7, -0.5, 2.7, 255.5, 2.0**31, 2.0**31 - 128]]).astype("float32")[:, None, None]
    found = run(to_model(rnn.Activation(lambda x: x.astype(dtype)), (), features=1), xs=xs)["ys"]
    np.testing.assert_array_equal(found, jnp.asarray(xs).astype(dtype))


TABLE = jnp.arange(1.0, 11.0).reshape(5, 2)
INDICES = [
    lambda i: jnp.take(TABLE, i, axis=0, mode="clip"),
    lambda i: jnp.take(TABLE, i, axis=0, mode="wrap"),
    lambda i: jnp.take(TABLE, i, axis=0),
    lambda i: jnp.take(TABLE[:, 0].astype("int32"), i, mode="fill", fill_value=7),
    lambda i: TABLE[i],
    lambda i: TABLE.T.at[:, i].get(mode="fill", fill_value=-1.0, wrap_negative_indices=False),
    lambda i: jnp.moveaxis(TABLE.T[:, i], 0, -1),
]


@pytest.mark.parametrize("take", few(INDICES, INDICES[:3]))
def test_indices_outside(take):
    """Clamped, wrapped or filled as JAX does it, of vectors of indices."""
    xs = np.array([0, 4, 5, 8, -1, -5, -6, -11, 2**20, -(2**20)], "float32")[:, None, None]
    layer = rnn.Activation(lambda x: take(x.astype("int32")[..., 0]).reshape(*x.shape[:-1], -1))
    found = run(to_model(layer, (), features=1), xs=xs)["ys"]
    np.testing.assert_array_equal(found, rnn.unroll(layer, (), xs)[1])


@pytest.mark.slow
@pytest.mark.parametrize("function", ["tanh", "relu", "sigmoid", "softmax", "log_softmax", jax.nn.gelu])
def test_activations(function):
    """By name as the operator of that name."""
    model = rnn.Activation(function)
    xs = inputs(model, dtype="float32")
    assert_same(run(converted(model, ()), xs=xs), {"ys": rnn.unroll(model, (), xs)[1]})


@pytest.mark.parametrize("precision", few(["bfloat16", "float16"], []))
def test_mixed_precision_computed_in_float32(precision):
    """``dtype=`` casts narrow parameters, and computes everything in that dtype."""
    cell = rnn.GRU(I, H, dtype=precision)
    wide = rnn.Stack(rnn.GRU(I, H), rnn.LSTM(H, H))
    model = rnn.Stack(cell, rnn.MixedPrecision(rnn.LSTM(H, H), precision))
    params = random_params(model)
    xs = inputs(model, dtype="float32")
    cast = jax.tree.map(lambda p: p.astype("float32"), params)
    assert_same(run(converted(model, params, dtype="float32"), xs=xs), {"ys": rnn.unroll(wide, cast, xs)[1]})


# ---- tasks -------------------------------------------------------------------------------------------------------

ENCODERS = {
    "bidirectional": rnn.Stack(
        rnn.Embedding(V, I), rnn.Bidirectional(rnn.GRU(I, H)), rnn.Dropout(0.5), rnn.Linear(2 * H, H)
    ),
    "forward": rnn.Stack(rnn.LSTM(I, H), rnn.GRU(H, H)),
    "reverse": rnn.Stack(rnn.Bidirectional(rnn.LSTM(I, H)), rnn.Reverse(rnn.Residual(rnn.GRU(2 * H, 2 * H)))),
    "mixed": rnn.MixedPrecision(rnn.Stack(rnn.Bidirectional(rnn.GRU(I, H), merge="mean"), rnn.Linear(H, 2)), "float32"),
}
CASES = [(name, pooling) for name in ENCODERS for pooling in ("last", "mean", "max", "attention")]


@pytest.mark.parametrize(("name", "pooling"), few(CASES, []))
def test_classifier(name, pooling):
    """Logits of every pooling, with and without lengths."""
    model = rnn.tasks.Classifier(ENCODERS[name], 2, pooling=pooling, attention_size=3)
    params = random_params(model)
    xs, lengths = inputs(model.encoder, dtype="float32"), np.array([5, 0, 2], np.int32)
    found = run(converted(model, params, lengths=True), xs=xs, lengths=lengths)
    assert_same(found, {"logits": model.apply(params, xs, lengths=lengths)})
    assert_same(run(converted(model, params), xs=xs), {"logits": model.apply(params, xs)})


@pytest.mark.slow
def test_greedy_decoding_by_steps():
    """A loop of one-step calls writes the text that :func:`rnn.decoding.greedy` writes."""
    model = rnn.Tied(rnn.Embedding(V, H), rnn.Stack(rnn.GRU(H, 5, reset_after=True), rnn.LSTM(5, H)))
    params, state = jax.tree.map(lambda p: 2 * p, random_params(model)), random_state(model)
    token = np.array([1, 2, 3], np.int32)
    running = session(converted(model, params, step=True))
    feed, tokens = {"x": token, **by_name("state", state)}, []
    for _ in range(8):
        found = run(running, **feed)
        tokens.append(found.pop("y").argmax(-1).astype(np.int32))
        feed = {"x": tokens[-1], **{name.replace("final", "state"): a for name, a in found.items()}}
    expected = rnn.decoding.greedy(model, params, state, jnp.asarray(token), steps=8).tokens
    np.testing.assert_array_equal(np.stack(tokens), expected)
    assert len(np.unique(expected)) > 1


# ---- refusals ----------------------------------------------------------------------------------------------------


class Sorting(Average):
    """A cell whose step has no counterpart."""

    def step(self, params, state, x):
        return super().step(params, state, jnp.sort(x))


class Conditional(Average):
    """A cell whose step depends on the size of the batch."""

    def step(self, params, state, x):
        return super().step(params, state, x if x.shape[0] > 2 else -x)


class Own(rnn.Stack):
    """A layer that may unroll itself in another way."""


GRU, TAGGER = rnn.GRU(I, H), rnn.Bidirectional(rnn.GRU(I, H))
REFUSALS = [
    (rnn.Stack(GRU, Sorting(H)), {}, NotImplementedError,
     r"model.layers\[1\] \(Sorting\): expected primitives of JAX that ONNX has, got 'sort'"),
    (Conditional(I), {"features": I}, TypeError, "model .Conditional.: expected a step that JAX"),
    (Own(GRU), {}, TypeError, "model: expected Stack, .*, Embedding, your own Pointwise layer, or a cell, got"),
    (rnn.Dropout(0.5), {}, ValueError, "features: expected the number of features of an input, got None"),
    (GRU, {"features": 5}, ValueError, "features: expected 3, the input size of the model, got 5"),
    (GRU, {"step": True, "lengths": True}, ValueError, "lengths: expected False with step=True"),
    (TAGGER, {"step": True}, TypeError, "step: expected False for a model with a backward direction"),
    (rnn.tasks.Classifier(GRU, 2), {"state": True}, TypeError, "state: expected False for a Classifier"),
    (rnn.tasks.Classifier(rnn.Residual(TAGGER, "concat"), 2), {}, TypeError,
     "model.encoder: expected a Bidirectional of cells at the top of a Stack"),
    (rnn.MixedPrecision(GRU), {}, ValueError, "model.compute_dtype: expected 'float32', that of the parameters"),
    (rnn.GRU(I, H, dtype="bfloat16"), {}, ValueError, "params: expected float32 or float64, got bfloat16"),
    (rnn.Stack(GRU, rnn.GRU(H, H, dtype="float16")), {}, ValueError, "params: expected one dtype"),
    (GRU, {"dtype": "bfloat16"}, ValueError, "dtype: expected"),
    (GRU, {"dtype": "float64"}, ValueError, "float64"),
    (GRU, {"lengths": 1}, TypeError, "lengths: expected True or False"),
    ("a GRU", {}, TypeError, "model: expected"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "options", "error", "message"), REFUSALS, ids=[case[-1][:40] for case in REFUSALS])
def test_refusals(model, options, error, message):
    """What cannot be converted is refused with the place and the reason."""
    params = filled(jax.eval_shape(model.init, jax.random.key(0))) if hasattr(model, "init") else ()
    with pytest.raises(error, match=message):
        to_model(model, params, **options)
