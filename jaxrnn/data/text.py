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

from jaxrnn import checks, stored
from jaxrnn.data.checks import ids_below, writable_file
from jaxrnn.data.splitting import NAMED, Split, is_phrase, split_sentence, split_sentences, symbols_of


@stored.storable
@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A vocabulary: symbols in a fixed order; the id of a symbol is its index.

    Symbols are characters or words. :meth:`of` collects those of a text. With ``split`` a string is a sentence, which
    is split into symbols; without, a string is a sequence of characters and a list of strings one of words.

    The names of classes are a vocabulary too: ``Vocabulary(("bad", "good"))`` makes ids of labels, ``encode``, and
    names of predictions, ``decode``. Both kinds belong into the metadata of a checkpoint, which gives them back.

    Args:
        symbols: the symbols, each once.
        unknown: the symbol for everything that is not in the vocabulary; None refuses it.
        split: how a sentence is split into symbols: ``"words"`` (:func:`~jaxrnn.data.splitting.split_words`: words, and
            each other mark alone; case is kept), ``"characters"``, or a function from a string to a list of strings,
            such as ``str.split``. To be saved it must be a function that another program can import. None: a text is
            a sequence of symbols already.

    Raises:
        ValueError: there is no symbol, a symbol occurs twice, or ``unknown`` is not among them.

    Example:
        >>> from jaxrnn.data import Vocabulary
        >>> vocabulary = Vocabulary.of("abracadabra")
        >>> vocabulary.encode("bar")
        array([1, 0, 4], dtype=int32)
        >>> vocabulary.decode([1, 0, 4]), vocabulary.text([1, 0, 4])
        (['b', 'a', 'r'], 'bar')
        >>> labels = Vocabulary(("bad", "good"))
        >>> labels.encode(["good", "good", "bad"]), labels.decode([0, 1])
        (array([1, 1, 0], dtype=int32), ['bad', 'good'])
    """

    symbols: tuple[str, ...]
    unknown: str | None = None
    split: Split | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbols", tuple(self.symbols))
        different = len(set(self.symbols))
        if not different or different < len(self.symbols):
            checks.refuse("symbols", "at least one symbol, each once", f"{len(self.symbols)}, {different} different",
                          "Vocabulary.of(text) collects those of a text")  # fmt: skip
        if self.unknown is not None and self.unknown not in self.symbols:
            checks.refuse("unknown", "one of the symbols", repr(self.unknown))
        if self.split is not None:
            checks.function_or_name("split", self.split, NAMED)

    @classmethod
    def of(
        cls,
        text: Iterable[str],
        *,
        split: Split | None = None,
        most: int | None = None,
        least: int = 1,
        unknown: str | None = None,
        special: Sequence[str] = (),
    ) -> Vocabulary:
        """Collect the symbols of a text: first the special ones, then those of the text, sorted.

        Args:
            text: with ``split`` the sentences, or one sentence, a string. Without, the symbols: a string is a sequence
                of characters, a list of strings one of words.
            split: how a sentence is split into symbols, see :class:`Vocabulary`, which remembers it.
            most: the largest size of the vocabulary, including ``unknown`` and the special symbols; the most frequent
                symbols are kept.
            least: the smallest number of occurrences of a symbol that is kept.
            unknown: a symbol for those that are not kept; required with ``most`` and ``least``.
            special: symbols that need not occur in the text, such as ``("<pad>", "<start>", "<end>")``; their ids are
                0, 1, 2, …. In a sentence they are split as any text is; ``str.split`` leaves them whole.

        Raises:
            ValueError: the text is empty, or without ``split`` one of sentences.
            TypeError: with ``split`` a sentence is not a string.

        Example:
            >>> from jaxrnn.data import Vocabulary
            >>> films = Vocabulary.of(["A great film.", "A dull one."], split="words", unknown="<unk>")
            >>> films.symbols
            ('.', '<unk>', 'A', 'dull', 'film', 'great', 'one')
            >>> films.encode("A great one!"), films.text([2, 3, 4, 0])
            (array([2, 5, 6, 1], dtype=int32), 'A dull film .')
            >>> words = "the cat and the dog and the owl".split()
            >>> vocabulary = Vocabulary.of(words, least=2, unknown="<unk>", special=("<pad>", "<unk>", "<end>"))
            >>> vocabulary.symbols, vocabulary.id("<end>")
            (('<pad>', '<unk>', '<end>', 'and', 'the'), 2)
            >>> vocabulary.encode(["the", "cow"])
            array([4, 1], dtype=int32)
        """
        checks.size("least", least)
        if split is not None:
            checks.function_or_name("split", split, NAMED)
        if isinstance(special, str) and len(special) > 1:
            checks.refuse("special", "a tuple of symbols", f"the string {special!r}", f"special=({special!r},)",
                          TypeError)  # fmt: skip
        if most is not None:
            checks.size("most", most)
        if unknown is None and (most is not None or least > 1):
            checks.refuse("unknown", f"a symbol for what is left out by {'least' if most is None else 'most'}", None,
                          'unknown="<unk>"')  # fmt: skip
        extra = () if unknown is None or unknown in special else (unknown,)
        counts = collections.Counter(symbols_of(text) if split is None else split_sentences(split, text))
        if not counts and not special and unknown is None:
            checks.refuse("text", "one symbol at least", "an empty text", "what it was read from may be empty")
        kept = {symbol for symbol, count in counts.items() if count >= least} - {*special, *extra}
        if most is not None:
            ranked = sorted(kept, key=lambda symbol: (-counts[symbol], symbol))
            kept = set(ranked[: max(most - len(special) - len(extra), 0)])
        return cls((*special, *sorted({*kept, *extra})), unknown, split)

    def __len__(self) -> int:
        return len(self.symbols)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    @functools.cached_property
    def _is_word_level(self) -> bool:
        return sum(len(symbol) > 1 for symbol in self.symbols) > len(self) / 2

    @functools.cached_property
    def _has_phrases(self) -> bool:
        return any(map(is_phrase, self.symbols))

    def encode(self, text: Iterable[str]) -> np.ndarray:
        """Return ids ``int32 [N]``; a symbol that is not in the vocabulary becomes ``unknown``, or is refused.

        A string is split as the text of the vocabulary was; without ``split`` it is encoded character by character,
        which a vocabulary of words (most symbols have more than one character) refuses unless they are among its
        symbols. Any other ``text`` is a sequence of symbols; sentences are encoded one by one.
        """
        if isinstance(text, str) and self.split is not None:
            text = split_sentence(self.split, text)
        elif isinstance(text, str):
            if self._is_word_level and not set(text) <= self._ids.keys():
                checks.refuse("text", "words, one after another", f"the characters of {text[:40]!r}",
                              "text.split() makes a list of words", TypeError)  # fmt: skip
        elif not self._has_phrases:
            text = list(text)
            self._refuse_phrases(text)
        if self.unknown is not None:
            unknown = self._ids[self.unknown]
            return np.fromiter((self._ids.get(symbol, unknown) for symbol in text), np.int32)
        try:
            return np.fromiter(map(self._ids.__getitem__, text), np.int32)
        except KeyError as error:
            checks.refuse("text", f"only the {len(self)} symbols of the vocabulary", repr(error.args[0]),
                          "Vocabulary.of(text, unknown='<unk>') takes others too")  # fmt: skip

    def _refuse_phrases(self, symbols: list) -> None:
        """A sentence where a symbol is expected would be unknown as a whole."""
        phrase = next((symbol for symbol in symbols if symbol not in self._ids and is_phrase(symbol)), None)
        if phrase is not None:
            fix = ("[vocabulary.encode(sentence) for sentence in text]" if self.split is not None else
                   'Vocabulary.of(sentences, split="words") takes sentences')  # fmt: skip
            checks.refuse("text", "one sentence, or a sequence of symbols" if self.split else "a sequence of symbols",
                          f"{phrase[:40]!r} as a symbol", fix)  # fmt: skip

    def decode(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Return the symbols of ids; a number outside of the vocabulary is refused."""
        return [self.symbols[i] for i in ids_below("ids", ids, len(self))]

    def text(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return the text of ids: characters follow one another, words are joined by single spaces.

        Special symbols are part of it. Without ``split`` the symbols are words if most have more than one character.
        """
        are_characters = self.split == "characters" or (self.split is None and not self._is_word_level)
        return ("" if are_characters else " ").join(self.decode(ids))

    def id(self, symbol: str) -> int:
        """Return the id of one symbol, which must be in the vocabulary."""
        if symbol not in self._ids:
            checks.refuse("symbol", f"one of the {len(self)} symbols of the vocabulary", repr(symbol),
                          "Vocabulary.of(text, special=(...)) adds some")  # fmt: skip
        return self._ids[symbol]

    def save(self, path: str | os.PathLike) -> None:
        """Write the vocabulary to a JSON file for :meth:`load`.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: ``split`` is a function that another program cannot import.
        """
        fields = stored.encode("vocabulary", self)
        content = {"symbols": self.symbols, "unknown": self.unknown}
        content |= {"split": fields["split"]} if self.split is not None else {}
        writable_file("path", path).write_text(json.dumps(content, ensure_ascii=False, indent=0), "utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Vocabulary:
        """Read a vocabulary that :meth:`save` wrote; if ``split`` is a function, its module is imported.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not a saved vocabulary, or ``split`` cannot be imported.
        """
        path = pathlib.Path(path)
        if not path.is_file():
            checks.refuse("path", "a file that Vocabulary.save wrote", f"no file {path}", error=FileNotFoundError)
        try:
            content = json.loads(path.read_text("utf-8"))
            symbols, unknown = tuple(content["symbols"]), content["unknown"]
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
            checks.refuse("path", "a file that Vocabulary.save wrote", f"{path} with something else")
        split = stored.decode("split", content.get("split"), may_import=True)
        return cls(symbols, unknown, split)


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
