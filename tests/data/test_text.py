"""Vocabulary: encoding, decoding, saving, refusals."""

import json
import os
import pickle
import re

import numpy as np
import pytest
from refusals import refuses

from jaxrnn.data import Vocabulary, python_reference
from jaxrnn.data.splitting import split_words

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
    """Ids are indices into the sorted symbols, and decode to the text."""
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
    """Encoding and decoding return nothing."""
    vocabulary = Vocabulary.of("ab")
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.decode([]) == []


def test_equal_by_symbols_hashed_and_pickled():
    """Equality, hash and pickling depend on the symbols alone."""
    vocabulary = Vocabulary.of("בקר ערב")
    before = pickle.dumps(vocabulary)
    vocabulary.encode("ערב")
    for other in (pickle.loads(before), pickle.loads(pickle.dumps(vocabulary)), Vocabulary(list(vocabulary.symbols))):
        assert other == vocabulary
        assert hash(other) == hash(vocabulary)
        assert other.encode("ערב").tolist() == vocabulary.encode("ערב").tolist()
    assert vocabulary != Vocabulary(vocabulary.symbols[::-1])
    assert Vocabulary("ab") == Vocabulary(("a", "b"))


def test_the_order_of_symbols_is_kept():
    """``of`` sorts, the constructor does not."""
    assert Vocabulary(("b", "a")).encode("ab").tolist() == [1, 0]


def test_rare_words_become_unknown():
    """The most frequent symbols are kept, ties in order, including ``unknown``, which replaces all others."""
    text = ["c", "a", "a", "b", "b", "b", "d"]
    vocabulary = Vocabulary.of(text, most=4, unknown="<unk>")
    assert vocabulary.symbols == ("<unk>", "a", "b", "c")
    assert vocabulary.decode(vocabulary.encode(["d", "a", "x"])) == ["<unk>", "a", "<unk>"]
    assert Vocabulary.of(text, most=99, unknown="<unk>").symbols == ("<unk>", "a", "b", "c", "d")
    assert Vocabulary.of([*text, "<unk>"], most=2, unknown="<unk>").symbols == ("<unk>", "b")


SPECIAL = ("<pad>", "<unk>", "<start>", "<end>")


def test_special_symbols_are_first():
    """Their ids are 0, 1, 2, …, whether they are in the text or not; unknown may be one of them."""
    text = ["b", "b", "<end>", "a", "b", "a", "<end>", "!"]
    vocabulary = Vocabulary.of(text, least=2, unknown="<unk>", special=SPECIAL)
    assert vocabulary.symbols == (*SPECIAL, "a", "b")
    assert [vocabulary.id(symbol) for symbol in SPECIAL] == [0, 1, 2, 3]
    assert vocabulary.encode(["a", "!", "<end>"]).tolist() == [4, 1, 3]
    assert Vocabulary.of(text, most=5, unknown="<unk>", special=SPECIAL).symbols == (*SPECIAL, "b")
    assert Vocabulary.of(text, most=2, unknown="<unk>", special=("<pad>",)).symbols == ("<pad>", "<unk>")
    assert Vocabulary.of("ab", special=("<pad>",)).symbols == ("<pad>", "a", "b")


@pytest.mark.parametrize("least", [1, 2, 3, 4])
def test_rare_words_fall_below_the_least_frequency(least):
    """A word with at least ``least`` occurrences is kept."""
    counts = {"a": 1, "b": 2, "c": 3}
    text = [symbol for symbol, n in counts.items() for _ in range(n)]
    vocabulary = Vocabulary.of(text, least=least, unknown="?")
    assert vocabulary.symbols == ("?", *(symbol for symbol, n in counts.items() if n >= least))


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("unknown", [None, "<unk>"])
def test_saved_and_loaded(tmp_path, name, unknown):
    """The file is readable JSON, and is loaded as an equal vocabulary."""
    vocabulary = Vocabulary.of(TEXTS[name], unknown=unknown, special=("<pad>",))
    path = tmp_path / "vocabulary.json"
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary
    assert json.loads(path.read_text("utf-8"))["symbols"] == list(vocabulary.symbols)
    assert vocabulary.symbols[-1] in path.read_text("utf-8")  # no \\u escapes


@pytest.mark.parametrize("content", ["{", "[]", '{"symbols": 3, "unknown": null}', '{"symbols": ["a"]}'])
def test_another_file_is_refused(tmp_path, content):
    """Neither another JSON file nor a partial one is loaded."""
    path = tmp_path / "vocabulary.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"^path: expected a file that Vocabulary\.save wrote, got .*something else$"):
        Vocabulary.load(path)
    with pytest.raises(FileNotFoundError, match=r"^path: expected a file that Vocabulary\.save wrote, got no file"):
        Vocabulary.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Vocabulary.of("ab").decode([0, 2, 1]),
         "ids: expected ids in [0, 2), got 2; they are of a larger vocabulary, or padding"),
        (lambda: Vocabulary.of("ab").decode(np.array([-1])),
         "ids: expected ids in [0, 2), got -1; they are of a larger vocabulary, or padding"),
        (lambda: Vocabulary.of("ab").id("c"),
         "symbol: expected one of the 2 symbols of the vocabulary, got 'c'; "
         "Vocabulary.of(text, special=(...)) adds some"),
        (lambda: Vocabulary.of("ab", least=2),
         "unknown: expected a symbol for what is left out by least, got None; unknown=\"<unk>\""),
        (lambda: Vocabulary.of("ab", least=0), "least: expected a positive int, got 0"),
        (lambda: Vocabulary.of("ab", special=("x", "x")),
         "symbols: expected at least one symbol, each once, got 4, 3 different; "
         "Vocabulary.of(text) collects those of a text"),
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
        (lambda: Vocabulary.of(""),
         "text: expected one symbol at least, got an empty text; what it was read from may be empty"),
        (lambda: Vocabulary(("a",), unknown="?"), "unknown: expected one of the symbols, got '?'"),
        (lambda: Vocabulary.of("ab", most=1),
         "unknown: expected a symbol for what is left out by most, got None; unknown=\"<unk>\""),
        (lambda: Vocabulary.of("ab", most=0, unknown="?"), "most: expected a positive int, got 0"),
    ],
)  # fmt: skip
def test_refusals(call, words):
    """Exact messages."""
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        call()


def test_a_string_is_refused_by_a_vocabulary_of_words():
    """It would encode each letter as unknown; a vocabulary of characters has few longer symbols."""
    text = "the cat and a dog"
    for unknown in (None, "<unk>"):
        vocabulary = Vocabulary.of(text.split(), unknown=unknown)
        assert vocabulary.decode(vocabulary.encode(text.split())) == text.split()
        assert vocabulary.decode(vocabulary.encode("a")) == ["a"]
        refuses("TypeError text: expected words, one after another, got the characters of 'the cat and a dog'; "
                "text.split() makes a list of words", lambda v=vocabulary: v.encode(text))  # fmt: skip
    letters = Vocabulary.of("ab", unknown="<unk>", special=SPECIAL)
    assert letters.encode("ba").tolist() == [5, 4]


def test_saving_into_a_missing_folder(tmp_path):
    """The message names the folder."""
    path = tmp_path / "none" / "vocabulary.json"
    refuses(f"FileNotFoundError path: expected a file in a folder that exists, got no folder {path.parent}; "
            "Path.mkdir(parents=True) makes it", lambda: Vocabulary.of("ab").save(path))  # fmt: skip


SENTENCES = ["A great film.", "A dull one,", "great!"]


def test_sentences_are_split_into_words():
    """The symbols of all sentences; a new sentence is encoded in the same way, its text is words and spaces."""
    vocabulary = Vocabulary.of(SENTENCES, split="words", unknown="<unk>", special=("<pad>",))
    words = [word for sentence in SENTENCES for word in split_words(sentence)]
    assert vocabulary == Vocabulary(Vocabulary.of(words, unknown="<unk>", special=("<pad>",)).symbols, "<unk>", "words")
    assert vocabulary.id("<pad>") == 0
    ids = vocabulary.encode("A great day.")
    assert ids.dtype == np.int32
    assert vocabulary.decode(ids) == ["A", "great", "<unk>", "."]
    assert vocabulary.text(ids) == "A great <unk> ."
    assert vocabulary.encode(["A", "great"]).tolist() == vocabulary.encode("A great").tolist()
    assert vocabulary.encode("great").tolist() == [vocabulary.id("great")]  # one word, not characters
    assert "a" not in vocabulary.symbols  # case is kept
    assert Vocabulary.of(iter(SENTENCES), split="words", unknown="<unk>", special=("<pad>",)) == vocabulary
    rare = Vocabulary.of(SENTENCES, split="words", least=2, unknown="<unk>")
    assert rare.symbols == ("<unk>", "A", "great")


def test_a_single_string_is_one_sentence():
    """Not a sequence of sentences of one character."""
    assert Vocabulary.of("the cat the", split="words").symbols == ("cat", "the")
    assert Vocabulary.of("abba", split="characters").symbols == ("a", "b")
    assert Vocabulary.of("a b", split=str.split) == Vocabulary(("a", "b"), split=str.split)


@pytest.mark.parametrize("split", [None, "characters"])
def test_the_text_of_characters_is_that_which_was_encoded(split):
    """White space included; sentences of characters are their strings."""
    text = "two  spaces\nand שלום"
    vocabulary = Vocabulary.of(text if split is None else [text, "b"], split=split)
    assert vocabulary.text(vocabulary.encode(text)) == text
    assert Vocabulary.of(["the", "cat"]).text([1, 0]) == "the cat"
    assert vocabulary.text([]) == ""


@pytest.mark.parametrize("split", ["words", "characters", str.split, os.path.split])
def test_the_split_is_saved(split, tmp_path):
    """Also a function that can be imported; a vocabulary without one is saved as ever."""
    vocabulary = Vocabulary.of(SENTENCES, split=split)
    vocabulary.save(tmp_path / "v.json")
    again = Vocabulary.load(tmp_path / "v.json")
    assert again == vocabulary
    assert again.encode(SENTENCES[0]).tolist() == vocabulary.encode(SENTENCES[0]).tolist()
    Vocabulary(("a",)).save(tmp_path / "v.json")
    assert json.loads((tmp_path / "v.json").read_text()) == {"symbols": ["a"], "unknown": None}


def test_symbols_with_white_space_that_are_no_sentences():
    """White space alone or at the edges, special symbols, and those that are given to the constructor."""
    text = ["\n", "  ", " the", "cat\n", "a"]
    assert Vocabulary.of(text, special=("end of text",)).symbols == ("end of text", *sorted(text))
    cities = Vocabulary(("New York", "Paris"), unknown="Paris")
    assert cities.encode(["New York", "Los Angeles"]).tolist() == [0, 1]


def nested():
    """A function that is not at the top level of a module."""
    return lambda sentence: sentence.split()


WORDS = Vocabulary.of(SENTENCES, split="words", unknown="<unk>")


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("ValueError text: expected symbols, one after another: the characters of a string, or a list of words, got "
         "list with 'A great film.'; split=\"words\" takes sentences, Vocabulary(tuple(sorted(set(text)))) each string "
         "as one symbol", lambda: Vocabulary.of(SENTENCES)),
        ("TypeError text: expected symbols, which are strings, got the list ['a', 'b']; "
         "itertools.chain.from_iterable(text) joins lists of words", lambda: Vocabulary.of([["a", "b"], ["c"]])),
        ("TypeError text: expected symbols, which are strings, got the tuple ('a',); …",
         lambda: Vocabulary.of([("a",)])),
        ("TypeError text: expected a string or a list of strings, got int 3", lambda: Vocabulary.of(3)),
        ("TypeError text: expected sentences, or one, got int 3", lambda: Vocabulary.of(3, split="words")),
        ("TypeError text[1]: expected a sentence, that is a string, got list of 1; \" \".join(...) of a list of words",
         lambda: Vocabulary.of(["a", ["b"]], split="words")),
        ("TypeError text[1]: expected a sentence, that is a string, got float nan; leave it out, or str(...) of it",
         lambda: Vocabulary.of(["a", float("nan")], split="characters")),
        ("TypeError special: expected a tuple of symbols, got the string '<pad>'; special=('<pad>',)",
         lambda: Vocabulary.of("ab", special="<pad>")),
        ("TypeError split: expected symbols from it, a list of strings, got the string 'a great film.'; …",
         lambda: Vocabulary.of(SENTENCES, split=str.lower)),
        ("TypeError split: expected strings from it, got tuple of 2; re.findall with a group gives tuples: (?:...)",
         lambda: Vocabulary.of(SENTENCES, split=re.compile("(a)(.)").findall)),
        ("ValueError split: expected one of 'words', 'characters' or a callable, got 'word'",
         lambda: Vocabulary.of(SENTENCES, split="word")),
        ("TypeError split: expected one of 'words', 'characters' or a callable, got int 3",
         lambda: Vocabulary(("a",), split=3)),
        ("ValueError text: expected one symbol at least, got an empty text; …",
         lambda: Vocabulary.of([], split="words")),
        ("ValueError text: expected one sentence, or a sequence of symbols, got 'A great film.' as a symbol; "
         "[vocabulary.encode(sentence) for sentence in text]", lambda: WORDS.encode(SENTENCES)),
        ("ValueError text: expected a sequence of symbols, got 'A great film.' as a symbol; "
         'Vocabulary.of(sentences, split="words") takes sentences',
         lambda: Vocabulary.of(["a", "b"], unknown="?").encode(SENTENCES)),
        ("ValueError vocabulary['split']: expected a function that another program can import, got <function …>; "
         "define it at the top level of a module of your own and import it from there",
         lambda: Vocabulary.of(SENTENCES, split=nested()).save("v.json")),
    ],
)  # fmt: skip
def test_refusals_of_sentences(message, call):
    """What was meant as something else than it was given as is refused with the fix."""
    refuses(message, call)


def test_python_reference_is_prose():
    """A quarter of a megabyte of English in paragraphs of one line, the same at every call."""
    text = python_reference()
    assert len(text) > 200_000
    assert text == python_reference()
    assert " is a " in text
    paragraphs = text.split("\n\n")
    assert len(paragraphs) == len(set(paragraphs)) > 1000
    assert not any("\n" in paragraph for paragraph in paragraphs)
    assert not any(mark in text for mark in ("  ", "::=", "***"))  # no indentation, no grammar, no headings
    assert 50 < len(Vocabulary.of(text)) < 300
