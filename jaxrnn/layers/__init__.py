"""Layers: they have the methods of a cell, and nest freely."""

from jaxrnn.layers.bidirectional import Bidirectional
from jaxrnn.layers.clock import ClockState
from jaxrnn.layers.mixed_precision import MixedPrecision
from jaxrnn.layers.pointwise import Activation, Dropout, Embedding, EmbeddingParams, Linear, LinearParams
from jaxrnn.layers.regularizers import RecurrentDropout, VariationalDropout, Zoneout
from jaxrnn.layers.stack import Stack
from jaxrnn.layers.weight_drop import WeightDrop, WordDropout
from jaxrnn.layers.wrappers import Residual, Reverse, Tied, TiedParams

__all__ = [
    "Activation",
    "Bidirectional",
    "ClockState",
    "Dropout",
    "Embedding",
    "EmbeddingParams",
    "Linear",
    "LinearParams",
    "MixedPrecision",
    "RecurrentDropout",
    "Residual",
    "Reverse",
    "Stack",
    "Tied",
    "TiedParams",
    "VariationalDropout",
    "WeightDrop",
    "WordDropout",
    "Zoneout",
]
