"""Symbols to ids and back."""

import pickle
import re

import numpy as np
import pytest

from jaxrnn.data import Vocabulary, python_reference

TEXTS = {
    "english": "the quick brown fox\njumps\tover",
    "hebrew": "שלום עולם, מה שלומך?",
    "vowel points": "בְּרֵאשִׁית בָּרָא",
    "beyond 16 bits": "a😀b𝄞",
    "words": ["the", "cat", "sat", "on", "the", "mat"],
    "one symbol": "aaaa",
}


@pytest.mark.parametrize("name", TEXTS)
def test_round_trip(name):
    """Ids are the places in the sorted symbols, and decode to the text."""
    text = list(TEXTS[name])
    vocabulary = Vocabulary.of(TEXTS[name])
    ids = vocabulary.encode(TEXTS[name])
    assert vocabulary.symbols == tuple(sorted(set(text)))
    assert len(vocabulary) == len(set(text))
    assert ids.dtype == np.int32
    assert ids.tolist() == [sorted(set(text)).index(symbol) for symbol in text]
    assert vocabulary.decode(ids) == text
    assert vocabulary.decode([int(i) for i in ids]) == text


def test_empty_text_has_no_ids():
    """Nothing in, nothing out."""
    vocabulary = Vocabulary.of("ab")
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.decode([]) == []


def test_equal_by_symbols_hashed_and_pickled():
    """A vocabulary is its symbols, however they were given, used before or not."""
    vocabulary = Vocabulary.of("בקר ערב")
    before = pickle.dumps(vocabulary)
    vocabulary.encode("ערב")
    for other in (pickle.loads(before), pickle.loads(pickle.dumps(vocabulary)), Vocabulary(list(vocabulary.symbols))):
        assert other == vocabulary
        assert hash(other) == hash(vocabulary)
        assert other.encode("ערב").tolist() == vocabulary.encode("ערב").tolist()
    assert vocabulary != Vocabulary(vocabulary.symbols[::-1])
    assert Vocabulary("ab") == Vocabulary(("a", "b"))


def test_order_is_kept_as_given():
    """Without ``of`` the order is the caller's."""
    assert Vocabulary(("b", "a")).encode("ab").tolist() == [1, 0]


def test_rare_words_become_unknown():
    """The most frequent are kept, ties in order, ``unknown`` counted in; all else is read as it."""
    text = ["c", "a", "a", "b", "b", "b", "d"]
    vocabulary = Vocabulary.of(text, most=4, unknown="<unk>")
    assert vocabulary.symbols == ("<unk>", "a", "b", "c")
    assert vocabulary.decode(vocabulary.encode(["d", "a", "x"])) == ["<unk>", "a", "<unk>"]
    assert Vocabulary.of(text, most=99, unknown="<unk>").symbols == ("<unk>", "a", "b", "c", "d")
    assert Vocabulary.of([*text, "<unk>"], most=2, unknown="<unk>").symbols == ("<unk>", "b")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Vocabulary.of("ab").encode("abx"),
         "text: expected only the 2 symbols of the vocabulary, got 'x'; "
         "Vocabulary.of(text, unknown='<unk>') takes others too"),
        (lambda: Vocabulary.of("אב").encode("ג"),
         "text: expected only the 2 symbols of the vocabulary, got 'ג'; "
         "Vocabulary.of(text, unknown='<unk>') takes others too"),
        (lambda: Vocabulary(()), "symbols: expected at least one symbol, each once, got 0, 0 different; "
                                 "Vocabulary.of(text) collects those of a text"),
        (lambda: Vocabulary(("a", "b", "a")), "symbols: expected at least one symbol, each once, got 3, 2 different; "
                                              "Vocabulary.of(text) collects those of a text"),
        (lambda: Vocabulary(("a",), unknown="?"), "unknown: expected one of the symbols, got '?'"),
        (lambda: Vocabulary.of("ab", most=1),
         "unknown: expected a symbol for what is left out by most, got None; unknown=\"<unk>\""),
        (lambda: Vocabulary.of("ab", most=0, unknown="?"), "most: expected a positive int, got 0"),
    ],
)  # fmt: skip
def test_refusals(call, words):
    """Word for word."""
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        call()


def test_python_reference_is_prose():
    """Half a megabyte of English, the same at every call."""
    text = python_reference()
    assert len(text) > 300_000
    assert text == python_reference()
    assert " is a " in text
    assert "The assert statement" in text or "The \"assert\" statement" in text  # fmt: skip
    assert 50 < len(Vocabulary.of(text)) < 300
