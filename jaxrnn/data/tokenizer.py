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
        definition = _train(kind, list(strings_of("sentences", sentences)), size, own, unknown)
        needed = len(definition["model"]["vocab"])
        if needed > size:
            checks.refuse("size", f"at least {needed}: special symbols and characters of the text", size,
                          "a larger one, or leave out what has rare characters")  # fmt: skip
        return cls(json.dumps(definition, ensure_ascii=False))

    @functools.cached_property
    def _backend(self) -> Any:
        try:
            return _package().Tokenizer.from_str(self.definition)
        except ImportError:
            raise
        except Exception as error:  # the package raises Exception itself
            checks.refuse("definition", "the JSON text of a tokenizer", f"{self.definition[:40]!r} ({error})",
                          "Tokenizer.load(path) reads a file")  # fmt: skip

    def __getstate__(self) -> dict[str, str]:
        return {"definition": self.definition}

    def __len__(self) -> int:
        return self._backend.get_vocab_size()

    def __repr__(self) -> str:
        try:
            model = json.loads(self.definition)["model"]
            return f"Tokenizer({model['type']} of {len(model['vocab'])} symbols)"
        except (ValueError, LookupError, TypeError):
            return f"Tokenizer({self.definition[:40]!r})"

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
        tokenizer = cls(path.read_text("utf-8"))
        try:
            backend = tokenizer._backend
        except ValueError as error:
            checks.refuse("path", "a file that Tokenizer.save wrote", f"{path} with something else ({error})")
        backend.no_padding()
        backend.no_truncation()
        return cls(json.dumps(json.loads(backend.to_str()), ensure_ascii=False))


def _train(kind: str, sentences: list[str], size: int, special: list[str], unknown: str) -> dict[str, Any]:
    """The definition of a trained tokenizer; the same for the same text."""
    package = _package()
    options = {"vocab_size": size, "show_progress": False}
    if kind == "bpe":
        tokenizer = package.Tokenizer(package.models.BPE(unk_token=unknown))
        tokenizer.pre_tokenizer = package.pre_tokenizers.Sequence(
            [package.pre_tokenizers.Metaspace(prepend_scheme="first"), package.pre_tokenizers.Split("\n", "isolated")]
        )
        tokenizer.decoder = package.decoders.Metaspace(prepend_scheme="first")
        tokenizer.train_from_iterator(sentences, package.trainers.BpeTrainer(special_tokens=special, **options))
        return json.loads(tokenizer.to_str())
    tokenizer = package.Tokenizer(package.models.WordPiece(unk_token=unknown))
    tokenizer.pre_tokenizer, tokenizer.decoder = package.pre_tokenizers.BertPreTokenizer(), package.decoders.WordPiece()
    # The package numbers the letters within words, ##a, in random order, and breaks ties by it: so a first training
    # collects them, and the second takes them in order, as if they were special.
    inner: list[str] = []
    for _ in range(2):
        trainer = package.trainers.WordPieceTrainer(special_tokens=special + inner, **options)
        tokenizer.train_from_iterator(sentences, trainer)
        inner = sorted(s for s in tokenizer.get_vocab() if s.startswith("##") and len(s) == 3 and s not in special)
    definition = json.loads(tokenizer.to_str())
    definition["added_tokens"] = [token for token in definition["added_tokens"] if token["content"] in special]
    return definition


def _package() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise ImportError("Tokenizer needs the package tokenizers; pip install 'jaxrnn[text]'") from None
    return tokenizers
