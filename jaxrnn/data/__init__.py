"""Data: vocabularies, tokenizers, batches of long streams and padded sequences, public data sets, synthetic tasks."""

from jaxrnn.data import datasets, synthetic
from jaxrnn.data.ragged import Buckets, PaddedBatch
from jaxrnn.data.sequences import Chunk, Streams
from jaxrnn.data.text import Vocabulary, python_reference
from jaxrnn.data.tokenizer import Tokenizer

__all__ = [
    "Buckets",
    "Chunk",
    "PaddedBatch",
    "Streams",
    "Tokenizer",
    "Vocabulary",
    "datasets",
    "python_reference",
    "synthetic",
]
