"""Layers: they have the methods of a cell, and nest freely."""

from jaxrnn.layers.bidirectional import Bidirectional
from jaxrnn.layers.clock import ClockState
from jaxrnn.layers.clockwork import Clockwork, ClockworkState
from jaxrnn.layers.highway import Highway, HighwayParams
from jaxrnn.layers.learned_state import FreshState, LearnedState, LearnedStateParams
from jaxrnn.layers.mixed_precision import MixedPrecision
from jaxrnn.layers.pointwise import (
    Activation,
    Dropout,
    Embedding,
    EmbeddingParams,
    Flatten,
    Linear,
    LinearParams,
)
from jaxrnn.layers.regularizers import RecurrentDropout, VariationalDropout, Zoneout
from jaxrnn.layers.stack import SkipStack, Stack
from jaxrnn.layers.weight_drop import WeightDrop, WordDropout
from jaxrnn.layers.wrappers import Residual, Reverse, Tied, TiedParams

__all__ = [
    "Activation",
    "Bidirectional",
    "ClockState",
    "Clockwork",
    "ClockworkState",
    "Dropout",
    "Embedding",
    "EmbeddingParams",
    "Flatten",
    "FreshState",
    "Highway",
    "HighwayParams",
    "LearnedState",
    "LearnedStateParams",
    "Linear",
    "LinearParams",
    "MixedPrecision",
    "RecurrentDropout",
    "Residual",
    "Reverse",
    "SkipStack",
    "Stack",
    "Tied",
    "TiedParams",
    "VariationalDropout",
    "WeightDrop",
    "WordDropout",
    "Zoneout",
]
