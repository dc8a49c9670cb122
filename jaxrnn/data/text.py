"""Vocabularies: symbols to ids and back; and a text that is part of every CPython."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

import numpy as np

from jaxrnn import checks
from jaxrnn.data.checks import id_stream


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A vocabulary: symbols in a fixed order; the id of a symbol is its index.

    Symbols are characters or words: a string is a sequence of characters, a list of strings one of words. :meth:`of`
    collects the symbols of a text.

    Args:
        symbols: the symbols, each once.
        unknown: the symbol for everything that is not in the vocabulary; None refuses it.

    Raises:
        ValueError: there is no symbol, a symbol occurs twice, or ``unknown`` is not among them.

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
    def of(
        cls,
        text: Iterable[str],
        *,
        most: int | None = None,
        least: int = 1,
        unknown: str | None = None,
        special: Sequence[str] = (),
    ) -> Vocabulary:
        """Collect the symbols of a text: first the special ones, then those of the text, sorted.

        Args:
            text: the text.
            most: the largest size of the vocabulary, including ``unknown`` and the special symbols; the most frequent
                symbols are kept.
            least: the smallest number of occurrences of a symbol that is kept.
            unknown: a symbol for those that are not kept; required with ``most`` and ``least``.
            special: symbols that need not occur in the text, such as ``("<pad>", "<start>", "<end>")``; their ids are
                0, 1, 2, ….

        Example:
            >>> from jaxrnn.data import Vocabulary
            >>> words = "the cat and the dog and the owl".split()
            >>> vocabulary = Vocabulary.of(words, least=2, unknown="<unk>", special=("<pad>", "<unk>", "<end>"))
            >>> vocabulary.symbols, vocabulary.id("<end>")
            (('<pad>', '<unk>', '<end>', 'and', 'the'), 2)
            >>> vocabulary.encode(["the", "cow"])
            array([4, 1], dtype=int32)
        """
        checks.size("least", least)
        if most is not None:
            checks.size("most", most)
        if unknown is None and (most is not None or least > 1):
            checks.refuse("unknown", f"a symbol for what is left out by {'least' if most is None else 'most'}", None,
                          'unknown="<unk>"')  # fmt: skip
        extra = () if unknown is None or unknown in special else (unknown,)
        counts = collections.Counter(text)
        if not counts and not special and unknown is None:
            checks.refuse("text", "one symbol at least", "an empty text", "what it was read from may be empty")
        kept = {symbol for symbol, count in counts.items() if count >= least} - {*special, *extra}
        if most is not None:
            ranked = sorted(kept, key=lambda symbol: (-counts[symbol], symbol))
            kept = set(ranked[: max(most - len(special) - len(extra), 0)])
        return cls((*special, *sorted({*kept, *extra})), unknown)

    def __len__(self) -> int:
        return len(self.symbols)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    @functools.cached_property
    def _is_word_level(self) -> bool:
        return sum(len(symbol) > 1 for symbol in self.symbols) > len(self) / 2

    def encode(self, text: Iterable[str]) -> np.ndarray:
        """Return ids ``int32 [N]``; a symbol that is not in the vocabulary becomes ``unknown``, or is refused.

        A string is encoded character by character. A vocabulary of words (most symbols have more than one character)
        refuses a string with characters that are not among its symbols.
        """
        if isinstance(text, str) and self._is_word_level and not set(text) <= self._ids.keys():
            checks.refuse("text", "words, one after another", f"the characters of {text[:40]!r}",
                          "text.split() makes a list of words", TypeError)  # fmt: skip
        if self.unknown is not None:
            unknown = self._ids[self.unknown]
            return np.fromiter((self._ids.get(symbol, unknown) for symbol in text), np.int32)
        try:
            return np.fromiter(map(self._ids.__getitem__, text), np.int32)
        except KeyError as error:
            checks.refuse("text", f"only the {len(self)} symbols of the vocabulary", repr(error.args[0]),
                          "Vocabulary.of(text, unknown='<unk>') takes others too")  # fmt: skip

    def decode(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Return the symbols of ids; a number outside of the vocabulary is refused."""
        array = np.asarray(ids) if len(ids) else np.zeros(0, int)
        id_stream("ids", array)
        if array.size and not 0 <= array.min() <= array.max() < len(self):
            invalid = array[(array < 0) | (array >= len(self))][0]
            checks.refuse("ids", f"ids in [0, {len(self)})", invalid, "they are of a larger vocabulary, or padding")
        return [self.symbols[i] for i in array]

    def id(self, symbol: str) -> int:
        """Return the id of one symbol, which must be in the vocabulary."""
        if symbol not in self._ids:
            checks.refuse("symbol", f"one of the {len(self)} symbols of the vocabulary", repr(symbol),
                          "Vocabulary.of(text, special=(...)) adds some")  # fmt: skip
        return self._ids[symbol]

    def save(self, path: str | os.PathLike) -> None:
        """Write the vocabulary to a JSON file for :meth:`load`."""
        folder, content = pathlib.Path(path).parent, {"symbols": self.symbols, "unknown": self.unknown}
        if not folder.is_dir():
            checks.refuse("path", "a file in a folder that exists", f"no folder {folder}",
                          "Path.mkdir(parents=True) makes it", FileNotFoundError)  # fmt: skip
        pathlib.Path(path).write_text(json.dumps(content, ensure_ascii=False, indent=0), "utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Vocabulary:
        """Read a vocabulary that :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not a saved vocabulary.
        """
        path = pathlib.Path(path)
        if not path.is_file():
            checks.refuse("path", "a file that Vocabulary.save wrote", f"no file {path}", error=FileNotFoundError)
        try:
            content = json.loads(path.read_text("utf-8"))
            return cls(tuple(content["symbols"]), content["unknown"])
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
            checks.refuse("path", "a file that Vocabulary.save wrote", f"{path} with something else")


def python_reference() -> str:
    """The prose of Python's language reference, about 0.25 MB of English that every CPython includes.

    Paragraphs are one line each, separated by blank lines, and occur once. Headings, grammar, tables and code are left
    out: a paragraph is prose if it ends with a punctuation mark and at least 70 % of its words are letters alone. The
    text differs a little between Python versions.

    Example:
        >>> from jaxrnn.data import python_reference
        >>> len(python_reference()) > 200_000
        True
    """
    from pydoc_data.topics import topics

    prose: dict[str, None] = {}  # in order, each once
    for _, topic in sorted(topics.items()):
        for paragraph in re.split(r"\n\s*\n", topic):
            words = re.sub(r"^\s*\* |\*{1,2}(?=\w)|(?<=\w)\*{1,2}", "", paragraph).split()  # no bullet, no emphasis
            plain = sum(re.fullmatch(r"[(“]*[A-Za-z’-]+[.,:;)”]*", word) is not None for word in words)
            if len(words) > 3 and plain >= 0.7 * len(words) and re.search(r"[a-z)”\"][.,:;]$", words[-1]):
                prose[" ".join(words)] = None
    return "\n\n".join(prose)
