"""Layers: they have the methods of a cell, and nest freely."""

from jaxrnn.layers.bidirectional import Bidirectional
from jaxrnn.layers.mixed_precision import MixedPrecision
from jaxrnn.layers.pointwise import Activation, Dropout, Embedding, EmbeddingParams, Linear, LinearParams
from jaxrnn.layers.stack import Stack
from jaxrnn.layers.wrappers import Residual, Reverse, Tied, TiedParams

__all__ = [
    "Activation",
    "Bidirectional",
    "Dropout",
    "Embedding",
    "EmbeddingParams",
    "Linear",
    "LinearParams",
    "MixedPrecision",
    "Residual",
    "Reverse",
    "Stack",
    "Tied",
    "TiedParams",
]
