"""An operator RNN, GRU or LSTM as cells and their parameters, one of each for every direction."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrnn.activations import Clipped
from jaxrnn.cells import GRU, LSTM, VanillaRNN
from jaxrnn.checks import one_of, refuse
from jaxrnn.interop.arrays import one_dtype, shape, to_numpy
from jaxrnn.interop.onnx.activations import NAMES, SCALED
from jaxrnn.interop.onnx.operators import Arrays, from_arrays
from jaxrnn.interop.onnx.reader.chains import Layer
from jaxrnn.layers import Reverse

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
ACTIVATIONS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
DIRECTIONS = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}  # whether each is backward
ALONE = "{} here has no other; an RNN takes any"


def directions(place: str, operator: str, attributes: dict[str, Any], inputs: dict[str, np.ndarray]) -> list[Layer]:
    """The cell of each direction with its parameters; that of a backward direction is in a Reverse.

    Args:
        place: the node, for messages.
        operator: RNN, GRU or LSTM.
        attributes: of the node, as its opset defines them.
        inputs: W, R and, where present, B and P.
    """
    direction = attributes.get("direction", "forward")
    one_of(f"{place}.direction", direction, DIRECTIONS)
    backward = DIRECTIONS[direction]
    D, G = len(backward), GATES[operator]
    arrays = {name: to_numpy(f"{place}.{name}", array) for name, array in inputs.items()}
    dtype = one_dtype(place, arrays.values(), "cast the weights to one")
    H, I = arrays["R"].shape[-1], arrays["W"].shape[-1]  # noqa: E741
    expected = {"W": (D, G * H, I), "R": (D, G * H, H), "B": (D, 2 * G * H), "P": (D, 3 * H)}
    for name, array in arrays.items():
        shape(f"{place}.{name}", array, expected[name])
    if attributes.get("hidden_size", H) != H:
        refuse(f"{place}.hidden_size", f"{H}, that of R", attributes["hidden_size"])

    functions = _activations(place, operator, attributes, D)
    layers = []
    for d, reverse in enumerate(backward):
        here = Arrays(**{name: array[d] for name, array in arrays.items()})
        cell = _cell(operator, attributes, functions[d], here, I, H, dtype)
        layers.append(Layer(Reverse(cell) if reverse else cell, from_arrays(cell, here)))
    return layers


def _cell(operator: str, attributes: dict[str, Any], f: Any, arrays: Arrays, I: int, H: int, dtype: str) -> Any:  # noqa: E741
    """The cell of one direction. A row of P that is 0 is no peephole."""
    common: dict[str, Any] = {"use_bias": arrays.B is not None, "dtype": dtype}
    if operator == "RNN":
        return VanillaRNN(I, H, activation=f, **common)
    if operator == "GRU":
        return GRU(I, H, reset_after=bool(attributes.get("linear_before_reset", 0)), **common)
    coupled = bool(attributes.get("input_forget", 0))
    read = {"f": 0, "o": 1} if coupled else {"i": 0, "o": 1, "f": 2}  # coupled: ONNX's i is what is f here, negated
    P = np.zeros((3, H)) if arrays.P is None else arrays.P.reshape(3, H)
    peepholes = "".join(gate for gate, row in read.items() if P[row].any())
    return LSTM(I, H, peepholes=peepholes, coupled=coupled, **common)


def _activations(place: str, operator: str, attributes: dict[str, Any], D: int) -> list[Any]:
    """The activation of an RNN in each direction; None for gated cells, which have one set of functions only."""
    usual = ACTIVATIONS[operator]
    names = attributes.get("activations") or usual * D
    clip = attributes.get("clip", np.inf)
    if operator != "RNN":
        if names != usual * D:
            refuse(f"{place}.activations", ", ".join(usual * D), ", ".join(names), ALONE.format(f"a {operator}"))
        if clip < np.finfo(np.float32).max:
            refuse(f"{place}.clip", "no clip", clip, "gates here have no limits; an RNN's activation may have them")
        return [None] * D
    if len(names) != D:
        refuse(f"{place}.activations", f"{D}, one for each direction", ", ".join(names))
    values = {key: list(attributes.get(f"activation_{key}", [])) for key in ("alpha", "beta")}
    functions = [_function(f"{place}.activations", name, values) for name in names]
    return functions if clip >= np.finfo(np.float32).max else [Clipped(f, clip) for f in functions]


def _function(place: str, name: str, values: dict[str, list[float]]) -> Any:
    """One function; it takes its alpha and beta from the front of the values."""
    if name in NAMES:
        return NAMES[name]
    if name not in SCALED:
        refuse(place, f"one of {', '.join([*NAMES, *SCALED])}", repr(name))
    kind = SCALED[name]
    parameters = {field: values[field].pop(0) for field in kind.__dataclass_fields__ if values[field]}
    missing = [f for f, known in kind.__dataclass_fields__.items() if f not in parameters and not _has_default(known)]
    if missing:
        refuse(place, f"activation_{missing[0]} with {name}", "none", "ONNX defines no default of it")
    return kind(**parameters)


def _has_default(field: Any) -> bool:
    return isinstance(field.default, float)
