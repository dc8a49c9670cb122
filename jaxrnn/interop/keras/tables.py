"""What corresponds to what: cells and the layout of their weights, merges, activations."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.activations import Gelu
from jaxrnn.cells import GRU, LSTM, ConvLSTM, VanillaRNN
from jaxrnn.cells.vanilla import ACTIVATIONS as ELEMENTWISE
from jaxrnn.interop.checks import library
from jaxrnn.interop.layouts import Layout

FUNCTIONS: dict[str, Any] = {  # a name of keras.activations: the function of rnn.Activation and of a VanillaRNN
    **dict(zip(ELEMENTWISE, ELEMENTWISE, strict=True)),
    "linear": jax.nn.identity,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "celu": jax.nn.celu,
    "silu": jax.nn.silu,
    "gelu": Gelu(),
    "mish": jax.nn.mish,
    "relu6": jax.nn.relu6,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "log_sigmoid": jax.nn.log_sigmoid,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_tanh": jax.nn.hard_tanh,
    "exponential": jnp.exp,
}
OVER_FEATURES = {"softmax": "softmax", "log_softmax": "log_softmax"}  # not for the cells of a VanillaRNN

LAYOUTS = {
    VanillaRNN: Layout("SimpleRNN", "h"),
    LSTM: Layout("LSTM", "ifco", "", {"peepholes": ("",), "coupled": (False,)},
                 "keras.layers.LSTM has neither peepholes nor coupled gates"),
    GRU: Layout("GRU", "zrh", "z"),
    ConvLSTM: Layout("ConvLSTM", "ifco", "", {"peepholes": (False,)}, "keras.layers.ConvLSTM2D has no peepholes"),
}  # fmt: skip

CONVOLUTIONS = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
ONE_DIRECTION = ("LSTM", "GRU", "SimpleRNN", "RNN", *CONVOLUTIONS)  # the recurrent layers besides Bidirectional
MERGES = {"concat": "concat", "sum": "sum", "ave": "mean", "mul": "product", None: "both"}  # of Bidirectional
RESIDUALS: dict[str, str] = {
    "Add": "sum",
    "Concatenate": "concat",
}  # layers that merge the input and the output of others


def keras() -> Any:
    """Keras, on any backend."""
    return library("keras", "Keras 3", "'jaxrnn[keras]', and set KERAS_BACKEND=jax before the first import of keras")


def prefix_lengths(argument: str, mask: Any) -> Any:
    """The lengths ``[B]`` of a mask ``[B, T]`` of padding at the end; other masks are refused where concrete."""
    if checks.is_concrete(mask) and not prefixes(np.asarray(mask)).all():
        checks.refuse(argument, "padding at the end only", "masked steps before the last one of a sequence",
                      "jaxrnn takes lengths, not masks: leave these steps out")  # fmt: skip
    return mask.sum(1, dtype="int32")


def prefixes(mask: Any) -> Any:
    """Whether each row of a mask ``[B, T]`` leaves out its end only, bools ``[B]``: no step after a masked one."""
    return (mask[:, :-1] >= mask[:, 1:]).all(1)
