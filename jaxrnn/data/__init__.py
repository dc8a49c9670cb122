"""Data: vocabularies, batches of texts, padded sequences and time series, public data sets, synthetic tasks,
trials of neuroscience, environments of reinforcement learning.
"""

from jaxrnn.data import annotations, datasets, environments, synthetic, trials
from jaxrnn.data.counted import targets_and_mask
from jaxrnn.data.ragged import Buckets, PaddedBatch, PairBatch, Pairs
from jaxrnn.data.scaling import Scaling
from jaxrnn.data.sequences import Chunk, Streams
from jaxrnn.data.series import Series
from jaxrnn.data.tables import Table, read_table
from jaxrnn.data.tags import Span, forbidden_transitions, spans
from jaxrnn.data.text import Vocabulary, python_reference
from jaxrnn.data.tokenizer import Tokenizer
from jaxrnn.data.windows import Window, Windows

__all__ = [
    "Buckets",
    "Chunk",
    "PaddedBatch",
    "PairBatch",
    "Pairs",
    "Scaling",
    "Series",
    "Span",
    "Streams",
    "Table",
    "Tokenizer",
    "Vocabulary",
    "Window",
    "Windows",
    "annotations",
    "datasets",
    "environments",
    "forbidden_transitions",
    "python_reference",
    "read_table",
    "spans",
    "synthetic",
    "targets_and_mask",
    "trials",
]
