"""The arrays of ONNX's operators RNN, GRU and LSTM, and the parameters of a cell: one direction, both ways.

====  ==============  ====================================================================================
W     ``[G·H, I]``    ``w_xh`` transposed, a block of H rows for each gate: h; z, r, h; i, o, f, c
R     ``[G·H, H]``    ``w_hh``, likewise
B     ``[2·G·H]``     the bias of the inputs, then that of the state; the second is 0 for a cell with one bias
P     ``[3·H]``       peepholes of i, o, f; 0 for a gate that has none
====  ==============  ====================================================================================

ONNX's z is 1 - z of jaxrnn. With ``input_forget`` it takes f = 1 - i where jaxrnn takes i = 1 - f. Since
1 - σ(a) = σ(-a), the weights of both change sign: those of our f become its i, and the block of its f, unread, is 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxrnn.cells import GRU, LSTM, VanillaRNN
from jaxrnn.interop.layouts import Layout, Weights, from_params, fuse, negate, split, to_params

LAYOUTS = {
    VanillaRNN: Layout("RNN", "h", "", {"activation": ("tanh", "relu", "sigmoid")}, "ONNX's RNN has these, by name"),
    LSTM: Layout("LSTM", "iofc", "", {"output_peephole": ("current",)}, "in ONNX's LSTM the gate o sees the new c"),
    GRU: Layout("GRU", "zrh", "z"),
}
COUPLED = Layout("LSTM", "foc", "f")  # without the block of f; the negated f is ONNX's i


class Arrays(NamedTuple):
    """The arrays of one direction of an operator, without the axis of directions."""

    W: np.ndarray
    R: np.ndarray
    B: np.ndarray | None = None
    P: np.ndarray | None = None


def operator(cell: Any) -> tuple[str, dict[str, Any]]:
    """The operator of a cell, and the attributes that its hyperparameters give, but ``activations`` of an RNN."""
    if type(cell) is GRU:
        return "GRU", {"linear_before_reset": int(cell.reset_after)}
    return ("LSTM", {"input_forget": int(cell.coupled)}) if type(cell) is LSTM else ("RNN", {})


def to_arrays(cell: Any, params: Any) -> Arrays:
    """The arrays of a cell, from its parameters."""
    w_xh, w_hh, b_x, b_h = from_params(params)
    B = None
    if b_x is not None:
        B = np.concatenate([_theirs(cell, b_x), _theirs(cell, np.zeros_like(b_x) if b_h is None else b_h)])
    return Arrays(_theirs(cell, w_xh).T, _theirs(cell, w_hh).T, B, _peepholes_to(cell, params))


def from_arrays(cell: Any, arrays: Arrays) -> Any:
    """The parameters of a cell, from the arrays of an operator: the inverse of :func:`to_arrays`."""
    biases = [None, None] if arrays.B is None else np.split(arrays.B, 2)
    weights = [None if a is None else _ours(cell, a) for a in (arrays.W.T, arrays.R.T, *biases)]
    return to_params(cell, Weights(*weights), _peepholes_from(cell, arrays.P))  # type: ignore[arg-type]


def _theirs(cell: Any, a: np.ndarray) -> np.ndarray:
    """Blocks along the last axis, in the order and with the signs of ONNX."""
    if not getattr(cell, "coupled", False):
        return LAYOUTS[type(cell)].theirs(a)
    blocks = split(COUPLED.theirs(a), "ioc")
    return fuse({**blocks, "f": np.zeros_like(blocks["i"])}, "iofc")


def _ours(cell: Any, a: np.ndarray) -> np.ndarray:
    """The inverse of :func:`_theirs`."""
    if not getattr(cell, "coupled", False):
        return LAYOUTS[type(cell)].ours(a)
    return COUPLED.ours(fuse(split(a, "iofc"), "ioc"))


def _peepholes_to(cell: Any, params: Any) -> np.ndarray | None:
    """P from the rows ``[gates, H]`` that the cell has."""
    if not getattr(cell, "peepholes", ""):
        return None
    rows = dict(zip(cell.peepholes, np.asarray(params.peepholes), strict=True))
    none = np.zeros_like(next(iter(rows.values())))
    if cell.coupled:
        rows = {("i" if gate == "f" else gate): row for gate, row in negate(rows, "f").items()}
    return fuse({gate: rows.get(gate, none) for gate in "iof"}, "iof")


def _peepholes_from(cell: Any, P: np.ndarray | None) -> np.ndarray | None:
    """The rows of the gates that the cell has: the inverse of :func:`_peepholes_to`."""
    if not getattr(cell, "peepholes", ""):
        return None
    rows = split(np.zeros(3 * cell.hidden_size, cell.dtype) if P is None else P, "iof")
    if cell.coupled:
        rows["f"] = -rows["i"]
    return np.stack([rows[gate] for gate in cell.peepholes])
