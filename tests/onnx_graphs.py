"""Graphs of ONNX for tests, and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
helper, kinds = onnx.helper, onnx.TensorProto

T, B, I, H, V = 6, 3, 4, 5, 11  # noqa: E741
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def arrays(operator: str, D: int = 1, inputs: str = "WRB", size: int = I, seed: int = 0) -> dict[str, np.ndarray]:
    """Random W, R, B, P of an operator."""
    rng, G = np.random.default_rng(seed), GATES[operator]
    shapes = {"W": (D, G * H, size), "R": (D, G * H, H), "B": (D, 2 * G * H), "P": (D, 3 * H)}
    return {name: rng.normal(0, 0.5, shapes[name]).astype(np.float32) for name in inputs}


def graph(nodes: Any, inputs: Any, outputs: Any, constants: Any, opset: int = 17) -> Any:
    """A model of ONNX; inputs and outputs are shapes by name, ids and lengths of int64 and int32."""
    dtypes = {"ids": kinds.INT64, "n": kinds.INT32, "sequence_lens": kinds.INT32}
    infos = [
        [helper.make_tensor_value_info(name, dtypes.get(name, kinds.FLOAT), shape) for name, shape in group.items()]
        for group in (inputs, outputs)
    ]
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    for n, one in enumerate(nodes):
        if one.name in [other.name for other in nodes[:n]]:
            one.name += f"_{n}"
    proto = helper.make_graph(nodes, "test", *infos, tensors)
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """A node, called after its operator; a missing input is ``-``."""
    names = [["" if name == "-" else name for name in text.split()] for text in (inputs, outputs)]
    return helper.make_node(operator, *names, name=f"/{operator}", **attributes)


def layer(operator: str = "LSTM", outputs: str = "Y", shape: Any = ("T", "B", I), inputs: str = "", **kw: Any) -> Any:
    """A graph of one recurrent operator; ``inputs`` are others than x and the weights, ``kw`` its attributes."""
    D = 2 if kw.get("direction") == "bidirectional" else 1
    given = kw.pop("given", "WRB")
    weights = arrays(operator, D, given)
    names = ["x", *(name if name in given else "" for name in "WRB"), *inputs.split()]
    one = node(operator, " ".join(name or "-" for name in names), outputs, hidden_size=H, **kw)
    more = {name: {"n": ("B",)}.get(name, (D, "B", H)) for name in inputs.split() if name not in ("-", "P")}
    return graph([one], {"x": shape} | more, {name: None for name in outputs.split() if name != "-"}, weights | (
        {"P": weights["P"]} if "P" in given else {}
    ))  # fmt: skip


def run_onnx(proto: Any, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = proto if isinstance(proto, bytes) else proto.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"]).run(None, feed)


def random(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def around(texts: list[str], constants: Any = None, outputs: Any = None, more: Any = (), **kw: Any) -> Any:
    """An LSTM and nodes after it, written as ``operator inputs > outputs``."""
    kw = {"hidden_size": H} | kw
    D = 2 if kw.get("direction") == "bidirectional" else 1
    known = {
        "one": np.array([1]),
        "flat": np.array([0, 0, -1]),
        "rows": np.array([-1, H]),
        "w": random(H, 2),
        "b": random(2),
        "half": np.float32(0.5),
        "zero": np.array([0]),
        "h": random(1, 1, H),
        "minus": np.int64(-1),
        "two": np.float32(2),
        **arrays("LSTM", D),
        **(constants or {}),
    }
    nodes = [node("LSTM", "x W R B", "Y Y_h Y_c", **kw)]
    for text in texts:
        left, _, right = text.partition(" > ")
        operator, _, names = left.partition(" ")
        nodes.append(node(operator, names, right, **dict(more).get(operator, {})))
    used = {name for one in nodes for name in one.input}
    outputs = outputs or {"y": None}
    return graph(nodes, {"x": ("T", "B", I)}, outputs, {name: a for name, a in known.items() if name in used})
