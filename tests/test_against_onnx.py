"""Values against ONNX Runtime in float32: every cell, every direction, with lengths, states and without biases.

The conversion of weights is implemented here independently of the library's own converters.
``output_peephole="previous"`` has no counterpart in ONNX.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import numpy as np
import pytest

import jaxrnn as rnn

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SEED = 0
OPSET, IR_VERSION = 14, 8
ATOL = 1e-5
FAR = 1e-2  # the least error of wrong weights, in outputs, h and c
SHAPE = (6, 4, 3, 5)  # T, B, I, H
SHAPES = [(1, 1, 1, 1), (2, 3, 8, 2), (17, 5, 2, 9)]
DIRECTIONS = ["forward", "reverse", "bidirectional"]

CELLS = {
    **{f: functools.partial(rnn.VanillaRNN, activation=f) for f in ("tanh", "relu", "sigmoid")},
    "lstm": rnn.LSTM,
    **{f"lstm-{p}": functools.partial(rnn.LSTM, peepholes=p) for p in ("i", "f", "o", "if", "io", "fo", "ifo")},
    "coupled": functools.partial(rnn.LSTM, coupled=True),
    **{f"coupled-{p}": functools.partial(rnn.LSTM, coupled=True, peepholes=p) for p in ("f", "o", "fo")},
    "gru": rnn.GRU,
    "gru-after": functools.partial(rnn.GRU, reset_after=True),
}

FULL = ("lstm-ifo", "coupled-fo", "gru-after")
KINDS = ("tanh", "lstm", *FULL, "gru")  # one activation, and three sets of peepholes


def slow(*values: Any, unless: bool) -> Any:
    """A case of ``pytest -m slow``, unless ``unless`` is True."""
    return pytest.param(*values, marks=[] if unless else pytest.mark.slow)


FEW = [slow(name, unless=name in FULL) for name in CELLS]

INPUTS = {
    "RNN": ["X", "W", "R", "B", "sequence_lens", "initial_h"],
    "GRU": ["X", "W", "R", "B", "sequence_lens", "initial_h"],
    "LSTM": ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"],
}
OUTPUTS = {"RNN": ["Y", "Y_h"], "GRU": ["Y", "Y_h"], "LSTM": ["Y", "Y_h", "Y_c"]}
RANK = {"B": 2, "P": 2, "sequence_lens": 1, "Y": 4}  # all others: 3

# Each block of rows in ONNX as (our gate, sign); sign 0 leaves it empty. 1 - σ(z) = σ(-z), so a gate that is
# one minus ours has negated weights: ONNX's z, and its coupled input gate, with f = 1 - i there, i = 1 - f here.
BLOCKS = {
    "RNN": [(0, 1)],
    "GRU": [(0, -1), (1, 1), (2, 1)],  # z, r, h̃
    "LSTM": [(0, 1), (2, 1), (1, 1), (3, 1)],  # i, o, f, c̃ out of i, f, o, c̃
    "coupled": [(0, -1), (1, 1), (0, 0), (2, 1)],  # i, o, none, c̃ out of f, o, c̃
}


def operator(cell: Any) -> tuple[str, dict]:
    """The ONNX operator of a cell and its attributes."""
    if isinstance(cell, rnn.VanillaRNN):
        return "RNN", {"activations": (cell.activation.capitalize(),)}
    if isinstance(cell, rnn.GRU):
        return "GRU", {"linear_before_reset": int(cell.reset_after)}
    return "LSTM", {"input_forget": int(cell.coupled)}


def weights(cell: Any, params: Any) -> dict[str, np.ndarray]:
    """The inputs W, R, B and P of one direction; B and P only where the cell has them."""
    kind = "coupled" if getattr(cell, "coupled", False) else operator(cell)[0]

    def rows(array: Any) -> np.ndarray:  # [..., G·H] to [G·H, ...]
        gates = np.split(np.asarray(array), cell.num_gates, axis=-1)
        return np.concatenate([sign * gates[index] for index, sign in BLOCKS[kind]], axis=-1).T

    found = {"W": rows(params.w_xh), "R": rows(params.w_hh)}
    if params.b_h is not None:
        b_hh = getattr(params, "b_hh", None)
        found["B"] = np.concatenate([rows(params.b_h), rows(np.zeros_like(params.b_h) if b_hh is None else b_hh)])
    if getattr(params, "peepholes", None) is not None:
        none = np.zeros(cell.hidden_size, np.float32)
        p = dict(zip(cell.peepholes, np.asarray(params.peepholes), strict=True))
        if cell.coupled:
            p["i"], p["f"] = -p.get("f", none), none
        found["P"] = np.concatenate([p.get(gate, none) for gate in "iof"])
    return found


@functools.cache
def session(op: str, inputs: tuple[str, ...], attributes: tuple[tuple[str, Any], ...]) -> Any:
    """A model of one node, whose inputs are everything but the attributes."""
    helper, kinds = onnx.helper, onnx.TensorProto

    def values(names: Any) -> list:
        dtypes = {"sequence_lens": kinds.INT32}
        return [helper.make_tensor_value_info(n, dtypes.get(n, kinds.FLOAT), [None] * RANK.get(n, 3)) for n in names]

    node = helper.make_node(op, [n if n in inputs else "" for n in INPUTS[op]], OUTPUTS[op], **dict(attributes))
    graph = helper.make_graph([node], "one_node", values(inputs), values(OUTPUTS[op]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_onnx(op: str, attributes: dict, feed: dict) -> dict[str, np.ndarray]:
    """The results of ONNX Runtime: ys ``[T, B, dirs·H]``, h and c ``[dirs, B, H]``."""
    Y, *final = session(op, tuple(feed), tuple(attributes.items())).run(None, feed)
    T, _, B, _ = Y.shape
    initial = [feed[name] if name in feed else np.zeros_like(final[0]) for name in ("initial_h", "initial_c")]
    if "sequence_lens" in feed:  # undefined in ONNX for an empty sequence; here it is the initial state
        empty = feed["sequence_lens"][:, None] == 0
        final = [np.where(empty, first, last) for first, last in zip(initial, final)]
    return {"ys": Y.swapaxes(1, 2).reshape(T, B, -1), **dict(zip("hc", final))}


class Case:
    """One random model with random inputs, for the library and for ONNX."""

    def __init__(
        self,
        name: str,
        direction: str,
        shape: tuple[int, ...] = SHAPE,
        *,
        use_bias: bool = True,
        lengths: bool = True,
        state: bool = True,
    ):
        T, B, features, H = shape
        rng = np.random.default_rng(SEED)

        def normal(like: Any, scale: float) -> np.ndarray:
            return (scale * rng.normal(size=like.shape)).astype(np.float32)

        cell = CELLS[name](features, H, use_bias=use_bias)
        both = direction == "bidirectional"
        self.model = rnn.Bidirectional(cell) if both else cell
        drawn = jax.eval_shape(self.model.init, jax.random.key(0))
        self.params = jax.tree.map(lambda p: normal(p, H**-0.5), drawn)  # biases and peepholes too; no ReLU explodes
        self.state = jax.tree.map(lambda s: normal(s, 1), self.model.initial_state((B,))) if state else None
        self.xs = normal(np.empty((T, B, features)), 1)  # padding is random too
        self.lengths = np.roll(np.linspace(T, 0, B, dtype=np.int32), 1) if lengths else None
        self.reverse = direction == "reverse"

        self.op, attributes = operator(cell)
        self.attributes = {"hidden_size": H, "direction": direction, **attributes}
        if "activations" in attributes:
            self.attributes["activations"] *= 1 + both
        self.feed = {"X": self.xs}
        arrays = [weights(cell, p) for p in (self.params if both else [self.params])]  # of each direction
        self.feed |= {name: np.stack([a[name] for a in arrays]) for name in arrays[0]}
        if lengths:
            self.feed["sequence_lens"] = self.lengths
        if state:
            self.feed |= {f"initial_{name}": value for name, value in self.state_arrays(self.state).items()}

    def state_arrays(self, state: Any) -> dict[str, np.ndarray]:
        """The state as h and c, each ``[dirs, B, H]``."""
        states = state if isinstance(self.model, rnn.Bidirectional) else [state]  # of each direction
        states = [s if isinstance(s, rnn.cells.LSTMState) else (s,) for s in states]
        return {name: np.stack(leaves) for name, leaves in zip("hc", zip(*states))}

    def errors(self, attributes: dict | None = None, feed: dict | None = None) -> dict[str, float]:
        """The largest absolute differences in ys, h and c; the arguments override attributes and inputs of ONNX."""
        final, ys = rnn.unroll(self.model, self.params, self.xs, self.state, lengths=self.lengths, reverse=self.reverse)
        ours = {"ys": np.asarray(ys), **self.state_arrays(final)}
        theirs = run_onnx(self.op, self.attributes | (attributes or {}), self.feed | (feed or {}))
        assert {n: a.shape for n, a in ours.items()} == {n: a.shape for n, a in theirs.items()}
        return {name: float(np.max(np.abs(ours[name] - theirs[name]))) for name in ours}


# ---- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "direction", "lengths"),
    [
        slow(name, direction, lengths, unless=direction == "bidirectional" and lengths)
        for name, direction, lengths in itertools.product(CELLS, DIRECTIONS, [False, True])
    ],
)
def test_outputs_and_final_state(name, direction, lengths, optimised):
    """From a random state, every cell has the outputs and the final state of its ONNX operator."""
    errors = Case(name, direction, lengths=lengths).errors()
    assert all(error <= ATOL for error in errors.values()), errors


@pytest.mark.parametrize("absent", [["use_bias"], ["state"], ["use_bias", "state", "lengths"]], ids="-".join)
@pytest.mark.parametrize("name", FEW)
def test_optional_inputs(name, absent):
    """Without bias, state or lengths: the same as zeros and full lengths."""
    errors = Case(name, "bidirectional", **dict.fromkeys(absent, False)).errors()
    assert all(error <= ATOL for error in errors.values()), errors


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FEW)
def test_shapes(name, shape):
    """One step, one unit, one sequence; more and fewer inputs than units; many steps."""
    errors = Case(name, "bidirectional", shape).errors()
    assert all(error <= ATOL for error in errors.values()), errors


# ---- wrong weights are detected ----------------------------------------------------------------------------------


def swapped(array: np.ndarray, a: int, b: int, blocks: int) -> np.ndarray:
    """``[dirs, blocks·H, ...]`` with two blocks exchanged."""
    order = list(range(blocks))
    order[a], order[b] = b, a
    return np.concatenate([np.split(array, blocks, axis=1)[block] for block in order], axis=1)


PAIRS = [
    *[(name, *pair) for name in ("gru", "gru-after") for pair in itertools.combinations(range(3), 2)],
    *[("lstm-ifo", *pair) for pair in itertools.combinations(range(4), 2)],
    *[("coupled-fo", *pair) for pair in itertools.combinations((0, 1, 3), 2)],
]


@pytest.mark.parametrize(("name", "a", "b"), PAIRS)
def test_swapped_gates_are_detected(name, a, b):
    """Two gates swapped in all weights of ONNX, or in W, R or B alone, change outputs and states."""
    case = Case(name, "bidirectional")
    blocks = len(BLOCKS[case.op])
    W, R = (swapped(case.feed[n], a, b, blocks) for n in "WR")
    B = np.concatenate([swapped(half, a, b, blocks) for half in np.split(case.feed["B"], 2, axis=1)], axis=1)
    for wrong in ({"W": W, "R": R, "B": B}, {"W": W}, {"R": R}, {"B": B}):
        assert min(case.errors(feed=wrong).values()) > FAR, list(wrong)


@pytest.mark.parametrize(("a", "b"), [(0, 1), (0, 2), (1, 2)])
def test_swapped_peepholes_are_detected(a, b):
    """Two peepholes swapped change outputs and states."""
    case = Case("lstm-ifo", "bidirectional")
    assert min(case.errors(feed={"P": swapped(case.feed["P"], a, b, 3)}).values()) > FAR


WRONG_INPUTS = {
    "initial_h": lambda feed: 0 * feed["initial_h"],
    "initial_c": lambda feed: 0 * feed["initial_c"],
    "sequence_lens": lambda feed: np.full_like(feed["sequence_lens"], len(feed["X"])),
    "X": lambda feed: feed["X"][::-1],
    "P": lambda feed: 0 * feed["P"],
    "B": lambda feed: 0 * feed["B"],
}


@pytest.mark.parametrize("wrong", WRONG_INPUTS)
def test_other_inputs_are_detected(wrong):
    """Omitted states, lengths, peepholes or biases, and flipped inputs, change outputs and states."""
    case = Case("lstm-ifo", "bidirectional")
    assert min(case.errors(feed={wrong: WRONG_INPUTS[wrong](case.feed)}).values()) > FAR


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("tanh", {"activations": ("Sigmoid",)}),
        ("relu", {"activations": ("Tanh",)}),
        ("sigmoid", {"activations": ("Relu",)}),
        ("gru", {"linear_before_reset": 1}),
        ("gru-after", {"linear_before_reset": 0}),
        ("coupled", {"input_forget": 0}),
        ("lstm", {"input_forget": 1}),
        ("lstm", {"direction": "reverse"}),
    ],
)
def test_other_attributes_are_detected(name, attributes):
    """Another activation, form or direction changes outputs and states."""
    assert min(Case(name, "forward").errors(attributes).values()) > FAR


@pytest.mark.parametrize("name", ["gru", "gru-after", "coupled"])
def test_the_sign_is_detected(name):
    """An update gate or coupled input gate with the other sign of its weights changes outputs and states."""
    case = Case(name, "bidirectional")
    H = case.attributes["hidden_size"]
    for weight in "WRB":
        wrong = case.feed[weight].copy()
        wrong[:, :H] *= -1
        assert min(case.errors(feed={weight: wrong}).values()) > FAR, weight
