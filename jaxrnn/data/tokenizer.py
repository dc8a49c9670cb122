"""Subword tokenizers of the package ``tokenizers``: trained, saved and compared as one JSON text."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxrnn import checks, stored
from jaxrnn.data.checks import ids_below, writable_file
from jaxrnn.data.splitting import sentences as strings_of

KINDS = ("bpe", "wordpiece")


@stored.storable
@dataclasses.dataclass(frozen=True, repr=False)
class Tokenizer:
    """A subword tokenizer: a text to ids and back.

    It can stand for a :class:`~jaxrnn.data.Vocabulary` with ``split``: both have ``encode`` of a string, ``text``,
    ``id``, ``len``, ``symbols``, ``unknown``, ``save`` and ``load``, and checkpoints store both. It needs the package
    tokenizers, ``pip install 'jaxrnn[text]'``.

    Args:
        definition: the JSON text of a tokenizer of that package. :meth:`train` makes one, :meth:`load` reads any
            ``tokenizer.json``.

    Example:
        .. code-block:: python

            tokenizer = Tokenizer.train(sentences, size=8000, special=("<pad>", "<start>", "<end>"))
            ids = tokenizer.encode("a new sentence")  # int32 [N]
            tokenizer.decode(ids)  # 'a new sentence'

    Source: Sennrich, Haddow and Birch (2016), `Neural machine translation of rare words with subword units
    <https://arxiv.org/abs/1508.07909>`_; Schuster and Nakajima (2012), "Japanese and Korean voice search".
    """

    definition: str

    def __post_init__(self) -> None:
        if not isinstance(self.definition, str):
            checks.refuse("definition", "the JSON text of a tokenizer", checks.describe(self.definition),
                          "Tokenizer.train(sentences, size=...) makes one", TypeError)  # fmt: skip

    @classmethod
    def train(
        cls,
        sentences: Iterable[str],
        *,
        size: int,
        kind: str = "bpe",
        special: Sequence[str] = (),
        unknown: str = "<unk>",
    ) -> Tokenizer:
        """Learn the subwords of a text.

        Nothing is lower-cased or normalised. ``"bpe"`` joins the most frequent pairs of subwords; a word starts with a
        mark for the space before it, so that ``decode`` gives back the text, except for a space at its start.
        ``"wordpiece"`` joins pairs by their likelihood within words and punctuation marks; white space is lost.

        Args:
            sentences: the sentences, or one sentence, a string.
            size: the largest number of symbols, with ``special`` and ``unknown``; fewer if the text has fewer.
            kind: ``"bpe"`` or ``"wordpiece"``.
            special: symbols with ids 0, 1, 2, …, such as ``("<pad>", "<start>", "<end>")``. In a text to be encoded
                they are one symbol each.
            unknown: the symbol for characters that the text lacks, and for what exceeds ``size``; the next id, unless
                it is one of ``special``.

        Raises:
            ImportError: the package tokenizers is missing.
            ValueError: ``size`` is too small for the special symbols and the characters of the text.
            TypeError: a sentence is not a string.
        """
        checks.size("size", size)
        checks.one_of("kind", kind, KINDS)
        if isinstance(special, str):
            checks.refuse("special", "a tuple of symbols", f"the string {special!r}", f"special=({special!r},)",
                          TypeError)  # fmt: skip
        if not isinstance(unknown, str):
            checks.refuse("unknown", "a symbol for what the text lacks", unknown, 'unknown="<unk>"', TypeError)
        own = [*special, *(() if unknown in special else (unknown,))]
        if size <= len(own):
            checks.refuse("size", f"more than the {len(own)} of special and unknown", size)
        package = _package()
        options = {"vocab_size": size, "special_tokens": own, "limit_alphabet": size - len(own), "show_progress": False}
        if kind == "bpe":
            backend = package.Tokenizer(package.models.BPE(unk_token=unknown))
            backend.pre_tokenizer, backend.decoder = package.pre_tokenizers.Metaspace(), package.decoders.Metaspace()
            trainer = package.trainers.BpeTrainer(**options)
        else:
            backend = package.Tokenizer(package.models.WordPiece(unk_token=unknown))
            backend.pre_tokenizer = package.pre_tokenizers.BertPreTokenizer()
            backend.decoder = package.decoders.WordPiece()
            trainer = package.trainers.WordPieceTrainer(**options)
        backend.train_from_iterator(strings_of("sentences", sentences), trainer)
        if backend.get_vocab_size() > size:
            checks.refuse("size", f"at least {backend.get_vocab_size()}, the characters of the text", size)
        return cls(backend.to_str())

    @functools.cached_property
    def _backend(self) -> Any:
        return _package().Tokenizer.from_str(self.definition)

    def __getstate__(self) -> dict[str, str]:
        return {"definition": self.definition}

    def __len__(self) -> int:
        return self._backend.get_vocab_size()

    def __repr__(self) -> str:
        return f"Tokenizer({self.definition[:40]!r}…)"

    @property
    def symbols(self) -> tuple[str, ...]:
        """The subwords, in the order of their ids."""
        return tuple(map(self._backend.id_to_token, range(len(self))))

    @property
    def unknown(self) -> str | None:
        """The symbol for what the tokenizer does not know."""
        return json.loads(self.definition)["model"].get("unk_token")

    def encode(self, text: str) -> np.ndarray:
        """Return the ids ``int32 [N]`` of a text, without further ones at its start and end."""
        if not isinstance(text, str):
            checks.refuse("text", "a string", checks.describe(text),
                          "[tokenizer.encode(sentence) for sentence in text]", TypeError)  # fmt: skip
        return np.array(self._backend.encode(text, add_special_tokens=False).ids, np.int32)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return the text of ids, special symbols included; a number outside of the vocabulary is refused."""
        return self._backend.decode(ids_below("ids", ids, len(self)).tolist(), skip_special_tokens=False)

    def text(self, ids: Sequence[int] | np.ndarray) -> str:
        """The same as :meth:`decode`; a vocabulary has this method too."""
        return self.decode(ids)

    def id(self, symbol: str) -> int:
        """Return the id of one symbol, which must be one of the tokenizer."""
        found = self._backend.token_to_id(symbol)
        if found is None:
            checks.refuse("symbol", f"one of the {len(self)} symbols of the tokenizer", repr(symbol),
                          "Tokenizer.train(sentences, special=(...)) adds some")  # fmt: skip
        return found

    def save(self, path: str | os.PathLike) -> None:
        """Write the tokenizer to a JSON file, which the package tokenizers reads too.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        writable_file("path", path).write_text(self.definition, "utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Tokenizer:
        """Read a tokenizer that :meth:`save` wrote, or another ``tokenizer.json``; its padding and truncation are off.

        Raises:
            ImportError: the package tokenizers is missing.
            FileNotFoundError: there is no such file.
            ValueError: the file is not a saved tokenizer.
        """
        path = pathlib.Path(path)
        if not path.is_file():
            checks.refuse("path", "a file that Tokenizer.save wrote", f"no file {path}", error=FileNotFoundError)
        package = _package()
        try:
            backend = package.Tokenizer.from_str(path.read_text("utf-8"))
        except Exception as error:  # the package raises Exception itself
            checks.refuse("path", "a file that Tokenizer.save wrote", f"{path} with something else ({error})")
        backend.no_padding()
        backend.no_truncation()
        return cls(backend.to_str())


def _package() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise ImportError("Tokenizer needs the package tokenizers; pip install 'jaxrnn[text]'") from None
    return tokenizers
