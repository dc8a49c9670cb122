"""jaxrnn: recurrent networks for JAX, as plain functions.

A cell or layer holds hyperparameters only; parameters and state are always arguments.
"""

from jaxrnn import (
    data,
    decoding,
    distributions,
    gradients,
    initializers,
    interop,
    learning,
    losses,
    metrics,
    plots,
    tasks,
)
from jaxrnn.cells import GRU, LSTM, GRUParams, IndRNN, LSTMParams, LSTMState, VanillaParams, VanillaRNN
from jaxrnn.constructor import from_repr
from jaxrnn.layers import (
    Activation,
    Bidirectional,
    Dropout,
    Embedding,
    Linear,
    MixedPrecision,
    Residual,
    Reverse,
    Stack,
    Tied,
)
from jaxrnn.types import Cell, Layer
from jaxrnn.unroll import trajectory, unroll

__version__ = "0.1.0"
__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "Bidirectional",
    "Cell",
    "Dropout",
    "Embedding",
    "GRUParams",
    "IndRNN",
    "LSTMParams",
    "LSTMState",
    "Layer",
    "Linear",
    "MixedPrecision",
    "Residual",
    "Reverse",
    "Stack",
    "Tied",
    "VanillaParams",
    "VanillaRNN",
    "data",
    "decoding",
    "distributions",
    "from_repr",
    "gradients",
    "initializers",
    "interop",
    "learning",
    "losses",
    "metrics",
    "plots",
    "tasks",
    "trajectory",
    "unroll",
]
