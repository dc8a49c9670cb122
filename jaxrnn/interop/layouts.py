"""The algebra of weight layouts: order and signs of gates, one or two biases.

All libraries concatenate or list the gates of a cell; they differ in the order, in the sign of the update gate, in
transposes and in the number of biases. Here gates are letters, ``h`` of a vanilla network, ``ifoc`` of an LSTM,
``zrh`` of a GRU, ``zh`` of an MGU, and a layout is a string of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrnn.cells import GRU, LSTM, MGU, GRUParams, LSTMParams, MGUParams, VanillaParams, VanillaRNN

PLAIN = {"layer_norm": False, "projection_size": None, "cell_clip": None, "projection_clip": None}  # what most lack


class Layout(NamedTuple):
    """How a library stores the gates of one kind of cell, and which options of the cell it has."""

    name: str  # of the cell in that library
    gates: str  # in the order of that library
    negated: str = ""  # gates that are 1 minus those of jaxrnn: σ(-a) = 1 - σ(a), so their weights change sign
    options: Mapping[str, tuple] = {}  # hyperparameters, and their values that the library has
    reason: str = ""  # why it has no others
    extras: tuple[str, ...] = ()  # the options in PLAIN that the library has, with any value

    def lacking(self, cell: Any) -> Iterator[tuple[str, tuple, str]]:
        """The options of a cell that the library lacks, with the values that it has, and why it has no others."""
        for name, values in self.options.items():
            if getattr(cell, name) not in values:
                yield name, values, self.reason
        for name, plain in PLAIN.items():
            if name not in self.extras and getattr(cell, name, plain) != plain:
                yield name, (plain,), f"the {self.name} there has no such option"

    def ours(self, a: np.ndarray, axis: int = -1) -> np.ndarray:
        """Reorder the gates along one axis from the order of the library to that of jaxrnn."""
        return reorder(a, self.gates, _ours(self.gates), self.negated, axis)

    def theirs(self, a: np.ndarray, axis: int = -1) -> np.ndarray:
        """Reorder the gates along one axis from the order of jaxrnn to that of the library."""
        return reorder(a, _ours(self.gates), self.gates, self.negated, axis)


def _ours(gates: str) -> str:
    """The same gates in the order of jaxrnn."""
    return "".join(sorted(gates, key="zrhifoc".index))


def split(a: np.ndarray, gates: str, axis: int = -1) -> dict[str, np.ndarray]:
    """The blocks of an array by gate."""
    return dict(zip(gates, np.split(np.asarray(a), len(gates), axis), strict=True))


def fuse(blocks: Mapping[str, np.ndarray], gates: str, axis: int = -1) -> np.ndarray:
    """The inverse of :func:`split`: blocks by gate as one array, in this order."""
    return np.concatenate([blocks[gate] for gate in gates], axis)


def negate(blocks: Mapping[str, np.ndarray], negated: str) -> dict[str, np.ndarray]:
    """Blocks by gate, those of ``negated`` gates with the other sign."""
    return {gate: -block if gate in negated else block for gate, block in blocks.items()}


def reorder(a: np.ndarray, source: str, target: str, negated: str = "", axis: int = -1) -> np.ndarray:
    """Blocks along one axis, in the order ``source``, in the order ``target``; ``negated`` ones change sign."""
    return fuse(negate(split(a, source, axis), negated), target, axis)


def add_to_gate(b: np.ndarray, gate: str, value: float, gates: str = "ifoc") -> np.ndarray:
    """A bias with ``value`` added to one gate, rounded to its dtype: what another library adds at run time."""
    blocks = split(b, gates)
    return fuse(blocks | {gate: blocks[gate] + b.dtype.type(value)}, gates)


# ---- parameters of a cell ----------------------------------------------------------------------------------------


class Weights(NamedTuple):
    """The arrays of a cell, in the order of gates of jaxrnn; with a bias of the inputs and one of the state."""

    w_xh: np.ndarray  # [I, G·H]
    w_hh: np.ndarray  # [H, G·H]
    b_x: np.ndarray | None = None  # [G·H]
    b_h: np.ndarray | None = None  # [G·H]; None is 0


def to_params(cell: Any, weights: Weights, peepholes: np.ndarray | None = None) -> Any:
    """Parameters of a cell. Two biases are summed, but for a GRU or an MGU that resets after the product."""
    rest: tuple = {VanillaRNN: (), LSTM: (peepholes,), GRU: (None,), MGU: (None,)}[type(cell)]
    b = None
    if cell.use_bias:
        zeros = np.zeros(weights.w_hh.shape[1:], weights.w_hh.dtype)
        b = one_bias(weights)
        if getattr(cell, "reset_after", False):
            b, b_hh = weights.b_x, zeros if weights.b_h is None else weights.b_h
            rest = (b_hh if type(cell) is GRU else b_hh[-cell.hidden_size :],)
        b = zeros if b is None else b
    kind: Any = {VanillaRNN: VanillaParams, LSTM: LSTMParams, GRU: GRUParams, MGU: MGUParams}[type(cell)]
    return kind(*[None if a is None else jnp.array(a) for a in (weights.w_xh, weights.w_hh, b, *rest)])


def from_params(params: Any) -> Weights:
    """The weights of parameters; ``b_h`` is None for a cell with one bias, both are without biases."""
    b_hh = getattr(params, "b_hh", None)
    if isinstance(params, MGUParams) and b_hh is not None:
        b_hh = np.concatenate([np.zeros_like(b_hh), b_hh])  # of the candidate only
    arrays = (params.w_xh, params.w_hh, params.b_h, b_hh)
    return Weights(*[None if a is None else np.asarray(a) for a in arrays])  # type: ignore[arg-type]


def one_bias(weights: Weights) -> np.ndarray | None:
    """The only bias ``[G·H]`` of a library that adds one to ``x w + h w``: the sum of both."""
    if weights.b_x is None or weights.b_h is None:
        return weights.b_x if weights.b_h is None else weights.b_h
    return weights.b_x + weights.b_h


def candidate_bias(weights: Weights) -> tuple[np.ndarray, np.ndarray] | None:
    """``b [G·H]`` of the inputs and ``b_n [H]`` of the state in a cell that resets after; those of its gates summed."""
    if weights.b_x is None:
        return None
    b_state = np.zeros_like(weights.b_x) if weights.b_h is None else weights.b_h
    gates, H = weights.b_x + b_state, len(weights.w_hh)  # the candidate is last
    return np.concatenate([gates[:-H], weights.b_x[-H:]]), b_state[-H:]


def state_bias(b_n: np.ndarray) -> np.ndarray:
    """The bias of the state ``[3H]`` of a GRU that resets after, of which only ``b_n [H]`` is not 0."""
    zeros = np.zeros_like(b_n)
    return fuse({"z": zeros, "r": zeros, "h": b_n}, "zrh")
