"""The same weights in the layout of every library, for NumPy, JAX and PyTorch arrays alike.

Here a cell's parameters are those of :func:`benchmarks.cases.weights`. Each function takes them as a dict and a
function that concatenates along the last axis. All are affine, so their transposes bring gradients back.
An update gate that is 1 minus ours has its weights negated: 1 - σ(a) = σ(-a).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Part = dict[str, Any]
Cat = Callable[[list], Any]


def blocks(a: Any, gates: str) -> dict[str, Any]:
    """The gates of ``[..., G·H]``, each ``[..., H]``."""
    H = a.shape[-1] // len(gates)
    return {gate: a[..., n * H : (n + 1) * H] for n, gate in enumerate(gates)}


def regate(a: Any, ours: str, theirs: str, cat: Cat, negated: str = "") -> Any:
    """``[..., G·H]`` with its gates in another order and some of them negated."""
    by_gate = blocks(a, ours)
    return cat([-by_gate[gate] if gate in negated else by_gate[gate] for gate in theirs])


def linen(kind: str, part: Part, cat: Cat) -> Part:
    """Flax linen: a matrix a gate, ``i?`` on the input, ``h?`` on the state."""
    if kind == "vanilla":
        return {"i": {"kernel": part["w_xh"], "bias": part["b_h"]}, "h": {"kernel": part["w_hh"]}}
    ours, theirs = ("ifoc", "ifog") if kind == "lstm" else ("zrh", "zrn")
    w_xh, w_hh, b_h = (blocks(part[name], ours) for name in ("w_xh", "w_hh", "b_h"))
    found: Part = {}
    if kind == "lstm":
        for gate, name in zip(ours, theirs, strict=True):
            found[f"i{name}"] = {"kernel": w_xh[gate]}
            found[f"h{name}"] = {"kernel": w_hh[gate], "bias": b_h[gate]}
        return found
    b_hh = blocks(part["b_hh"], ours)
    for gate, name in zip(ours, theirs, strict=True):
        sign = -1 if gate == "z" else 1
        both = b_h[gate] if gate == "h" else b_h[gate] + b_hh[gate]
        found[f"i{name}"] = {"kernel": sign * w_xh[gate], "bias": sign * both}
        found[f"h{name}"] = {"kernel": sign * w_hh[gate]}
    found["hn"]["bias"] = b_hh["h"]
    return found


def nnx(kind: str, part: Part, cat: Cat) -> Part:
    """Flax nnx: gates side by side. Its GRU has no bias inside the reset."""
    if kind == "vanilla":
        return {"dense_i": {"kernel": part["w_xh"], "bias": part["b_h"]}, "dense_h": {"kernel": part["w_hh"]}}
    if kind == "lstm":
        w_xh, w_hh, b_h = (regate(part[name], "ifoc", "ifco", cat) for name in ("w_xh", "w_hh", "b_h"))
        return {"dense_i": {"kernel": w_xh}, "dense_h": {"kernel": w_hh, "bias": b_h}}
    w_xh, w_hh, b_h, b_hh = (regate(part[n], "zrh", "rzh", cat, "z") for n in ("w_xh", "w_hh", "b_h", "b_hh"))
    gates = blocks(b_hh, "rzh")
    inside = cat([gates["r"], gates["z"], 0 * gates["h"]])
    return {"dense_i": {"kernel": w_xh, "bias": b_h + inside}, "dense_h": {"kernel": w_hh}}


def haiku(kind: str, part: Part, cat: Cat) -> Part:
    """Haiku: one matrix on [x, h] for the LSTM, which adds 1 to the forget gate at run time; the GRU as here."""
    if kind == "lstm":
        w_xh, w_hh, b_h = (regate(part[name], "ifoc", "icfo", cat) for name in ("w_xh", "w_hh", "b_h"))
        gates = blocks(b_h, "icfo")
        w = cat([w_xh.T, w_hh.T]).T
        return {"w": w, "b": cat([gates["i"], gates["c"], gates["f"] - 1, gates["o"]])}
    return {"w_i": part["w_xh"], "w_h": part["w_hh"], "b": part["b_h"]}


def keras(kind: str, part: Part, cat: Cat) -> list:
    """Keras: kernel, recurrent kernel and bias; a GRU with reset after has two rows of biases."""
    if kind == "vanilla":
        return [part["w_xh"], part["w_hh"], part["b_h"]]
    if kind == "lstm":
        return [regate(part[name], "ifoc", "ifco", cat) for name in ("w_xh", "w_hh", "b_h")]
    w_xh, w_hh, b_h = (regate(part[name], "zrh", "zrh", cat, "z") for name in ("w_xh", "w_hh", "b_h"))
    if kind == "gru":
        return [w_xh, w_hh, b_h]
    b_hh = regate(part["b_hh"], "zrh", "zrh", cat, "z")
    return [w_xh, w_hh, cat([b_h[:, None], b_hh[:, None]]).T]


def equinox(kind: str, part: Part, cat: Cat) -> Part:
    """Equinox: PyTorch's order, one bias, and ``bias_n`` inside the reset of the GRU."""
    if kind == "lstm":
        w_xh, w_hh, b_h = (regate(part[name], "ifoc", "ifco", cat) for name in ("w_xh", "w_hh", "b_h"))
        return {"weight_ih": w_xh.T, "weight_hh": w_hh.T, "bias": b_h}
    w_xh, w_hh, b_h, b_hh = (regate(part[n], "zrh", "rzh", cat, "z") for n in ("w_xh", "w_hh", "b_h", "b_hh"))
    gates = blocks(b_hh, "rzh")
    bias = b_h + cat([gates["r"], gates["z"], 0 * gates["h"]])
    return {"weight_ih": w_xh.T, "weight_hh": w_hh.T, "bias": bias, "bias_n": gates["h"]}


def torch(kind: str, part: Part, cat: Cat) -> list:
    """PyTorch: weight_ih, weight_hh, bias_ih, bias_hh, the last 0 but for the GRU. Also cuDNN's order."""
    if kind == "vanilla":
        return [part["w_xh"].T, part["w_hh"].T, part["b_h"], 0 * part["b_h"]]
    if kind == "lstm":
        w_xh, w_hh, b_h = (regate(part[name], "ifoc", "ifco", cat) for name in ("w_xh", "w_hh", "b_h"))
        return [w_xh.T, w_hh.T, b_h, 0 * b_h]
    w_xh, w_hh, b_h, b_hh = (regate(part[n], "zrh", "rzh", cat, "z") for n in ("w_xh", "w_hh", "b_h", "b_hh"))
    return [w_xh.T, w_hh.T, b_h, b_hh]
