"""Data: vocabularies, batches of long streams, padded sequences and time series, public data sets, synthetic tasks."""

from jaxrnn.data import datasets, synthetic
from jaxrnn.data.ragged import Buckets, PaddedBatch
from jaxrnn.data.scaling import Scaling
from jaxrnn.data.sequences import Chunk, Streams
from jaxrnn.data.series import Series
from jaxrnn.data.tables import Table, read_table
from jaxrnn.data.text import Vocabulary, python_reference
from jaxrnn.data.windows import Window, Windows

__all__ = [
    "Buckets",
    "Chunk",
    "PaddedBatch",
    "Scaling",
    "Series",
    "Streams",
    "Table",
    "Vocabulary",
    "Window",
    "Windows",
    "datasets",
    "python_reference",
    "read_table",
    "synthetic",
]
