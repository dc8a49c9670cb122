"""Modules of PyTorch without parameters, and the functions that they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxrnn import checks
from jaxrnn.activations import Elu, Gelu, LeakyRelu, Softplus
from jaxrnn.interop.torch.state_dicts import torch_library
from jaxrnn.layers import Activation


class Function(NamedTuple):
    """A module with certain options, and its function: of this library by name, or of jax."""

    module: str
    ours: str | Callable
    options: Mapping[str, Any] = {}


FUNCTIONS = [  # values and gradients are those of PyTorch everywhere, kinks included
    Function("Tanh", "tanh"),
    Function("ReLU", "relu"),
    Function("Sigmoid", "sigmoid"),
    Function("Softmax", "softmax", {"dim": -1}),
    Function("LogSoftmax", "log_softmax", {"dim": -1}),
    Function("Identity", jax.nn.identity),
    Function("SiLU", jax.nn.silu),
    Function("GELU", jax.nn.gelu, {"approximate": "tanh"}),
    Function("GELU", Gelu(), {"approximate": "none"}),
    Function("ELU", jax.nn.elu, {"alpha": 1.0}),
    Function("CELU", jax.nn.celu, {"alpha": 1.0}),
    Function("SELU", jax.nn.selu),
    Function("Mish", jax.nn.mish),
    Function("Softsign", jax.nn.soft_sign),
    Function("LogSigmoid", jax.nn.log_sigmoid),
    Function("ReLU6", jax.nn.relu6),
    Function("Hardswish", jax.nn.hard_silu),
]
FAMILIES: dict[str, tuple[type, tuple[str, ...]]] = {  # modules, their functions, and the options that are its fields
    "ELU": (Elu, ("alpha",)),
    "LeakyReLU": (LeakyRelu, ("negative_slope",)),
    "Softplus": (Softplus, ("beta", "threshold")),
}
NAMES = {function.module for function in FUNCTIONS} | {*FAMILIES}
ANY = "rnn.Activation(function) takes any: convert the parts around it, Stack(a, Activation(function), b)"


def from_function(place: str, module: Any) -> Activation:
    """The layer that a module in ``NAMES`` is."""
    name = type(module).__name__
    known = [function for function in FUNCTIONS if function.module == name]
    for function in known:
        if all(getattr(module, option) == value for option, value in function.options.items()):
            return Activation(function.ours)
    if name in FAMILIES:
        kind, options = FAMILIES[name]
        return Activation(kind(*[getattr(module, option) for option in options]))
    ((option, value),) = known[0].options.items()
    fix = f"{place}.dim = -1 is the same where the features are the last axis" if option == "dim" else ANY
    checks.refuse(f"{place}.{option}", repr(value), repr(getattr(module, option)), fix)


def to_function(place: str, layer: Activation) -> Any:
    """The module that an Activation is; the inverse of :func:`from_function`."""
    nn = torch_library().nn
    for name, ours, options in FUNCTIONS:
        if ours == layer.function:
            return getattr(nn, name)(**options)
    for name, (kind, fields) in FAMILIES.items():
        if type(layer.function) is kind:
            return getattr(nn, name)(**dict(zip(fields, vars(layer.function).values(), strict=True)))
    known = ", ".join(repr(Activation(function.ours))[len("Activation(") : -1] for function in FUNCTIONS)
    checks.refuse(f"{place}.function", f"one of {known}", repr(layer)[len("Activation(") : -1],
                  "PyTorch has no such module")  # fmt: skip
