"""Symbols to ids and back, and a text that every Python carries."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np

from jaxrnn import checks


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The symbols of a text in a fixed order; a symbol's id is its place.

    A string is a sequence of characters; a list of words makes a vocabulary of words.

    Args:
        symbols: the symbols, each once.
        unknown: the symbol that stands for every other, if there is one.

    Raises:
        ValueError: there is no symbol, one stands twice, or ``unknown`` is none of them.

    Example:
        >>> from jaxrnn.data import Vocabulary
        >>> vocabulary = Vocabulary.of("abracadabra")
        >>> vocabulary.encode("bar")
        array([1, 0, 4], dtype=int32)
        >>> "".join(vocabulary.decode([1, 0, 4]))
        'bar'
    """

    symbols: tuple[str, ...]
    unknown: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbols", tuple(self.symbols))
        different = len(set(self.symbols))
        if not different or different < len(self.symbols):
            checks.refuse("symbols", "at least one symbol, each once", f"{len(self.symbols)}, {different} different",
                          "Vocabulary.of(text) collects those of a text")  # fmt: skip
        if self.unknown is not None and self.unknown not in self.symbols:
            checks.refuse("unknown", "one of the symbols", repr(self.unknown))

    @classmethod
    def of(cls, text: Iterable[str], *, most: int | None = None, unknown: str | None = None) -> Vocabulary:
        """Collect the symbols of a text, sorted.

        Args:
            text: the text.
            most: keep only so many of the most frequent, ``unknown`` counted in.
            unknown: a symbol for the others; needed with ``most``.
        """
        counts = collections.Counter(text)
        kept = set(counts)
        if most is not None:
            checks.size("most", most)
            if unknown is None:
                checks.refuse("unknown", "a symbol for what is left out by most", None, 'unknown="<unk>"')
            ranked = sorted(kept - {unknown}, key=lambda symbol: (-counts[symbol], symbol))
            kept = set(ranked[: most - 1])
        if unknown is not None:
            kept.add(unknown)
        return cls(tuple(sorted(kept)), unknown)

    def __len__(self) -> int:
        return len(self.symbols)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    def encode(self, text: Iterable[str]) -> np.ndarray:
        """Symbols to ids, ``int32 [N]``; a symbol that is not in the vocabulary is refused, or becomes ``unknown``."""
        if self.unknown is not None:
            stranger = self._ids[self.unknown]
            return np.fromiter((self._ids.get(symbol, stranger) for symbol in text), np.int32)
        try:
            return np.fromiter(map(self._ids.__getitem__, text), np.int32)
        except KeyError as error:
            checks.refuse("text", f"only the {len(self)} symbols of the vocabulary", repr(error.args[0]),
                          "Vocabulary.of(text, unknown='<unk>') takes others too")  # fmt: skip

    def decode(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Ids to symbols."""
        return [self.symbols[i] for i in ids]


def python_reference() -> str:
    """The prose of Python's language reference, about 0.5 MB of English that every CPython carries.

    It varies a little with the Python version.
    """
    from pydoc_data.topics import topics

    return "\n\n".join(text.strip() for _, text in sorted(topics.items()))
