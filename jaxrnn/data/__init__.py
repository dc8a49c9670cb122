"""Data: vocabularies, tokenizers, batches of long streams and padded sequences, public data sets, synthetic tasks."""

from jaxrnn.data import datasets, synthetic
from jaxrnn.data.counted import targets_and_mask
from jaxrnn.data.ragged import Buckets, PaddedBatch, PairBatch, Pairs
from jaxrnn.data.sequences import Chunk, Streams
from jaxrnn.data.text import Vocabulary, python_reference
from jaxrnn.data.tokenizer import Tokenizer

__all__ = [
    "Buckets",
    "Chunk",
    "PaddedBatch",
    "PairBatch",
    "Pairs",
    "Streams",
    "Tokenizer",
    "Vocabulary",
    "datasets",
    "python_reference",
    "synthetic",
    "targets_and_mask",
]
