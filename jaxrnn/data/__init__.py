"""Text and sequences, made into arrays."""

from jaxrnn.data.sequences import Chunk, Streams
from jaxrnn.data.text import Vocabulary, python_reference

__all__ = ["Chunk", "Streams", "Vocabulary", "python_reference"]
