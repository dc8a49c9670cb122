"""Subword tokenizers: round trips, ids, the face of a vocabulary, refusals."""

import json
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from jaxrnn import stored
from jaxrnn.data import Tokenizer, Vocabulary

TEXT = ["the cat sat on the mat.", "the dog sat on the log!", "two  spaces\nline", "שלום עולם"] * 3
SPECIAL = ("<pad>", "<end>")


@pytest.fixture(scope="module")
def trained():
    """A tokenizer of each kind."""
    pytest.importorskip("tokenizers")
    return {kind: Tokenizer.train(TEXT, size=60, kind=kind, special=SPECIAL) for kind in ("bpe", "wordpiece")}


@pytest.fixture(params=["bpe", "wordpiece"])
def tokenizer(request, trained):
    """One tokenizer."""
    return trained[request.param]


def test_bpe_gives_back_the_text(trained):
    """White space included; characters that the text lacks are unknown."""
    bpe = trained["bpe"]
    for sentence in (*TEXT, "mat on the log", "a\n\nl", ""):
        ids = bpe.encode(sentence)
        assert ids.dtype == np.int32
        assert bpe.decode(ids) == bpe.text(list(map(int, ids))) == sentence
    assert bpe.decode(bpe.encode("the zoo")) == "the <unk>oo"
    assert len(bpe.encode(TEXT[0])) < len(TEXT[0]) / 2


@settings(deadline=None, max_examples=50)
@given(sentence=st.text("acst \n.!ש"))
def test_bpe_gives_back_any_text_of_its_characters(trained, sentence):
    """But for a space at the start."""
    bpe = trained["bpe"]
    assert bpe.decode(bpe.encode(sentence)) == sentence.removeprefix(" ")


def test_wordpiece_gives_back_the_words(trained):
    """A word whose parts the text lacks is unknown."""
    wordpiece = trained["wordpiece"]
    assert wordpiece.decode(wordpiece.encode(TEXT[0])) == TEXT[0]
    assert wordpiece.decode(wordpiece.encode("the zoo")) == "the <unk>"
    assert wordpiece.id("##a") not in wordpiece.encode("##a")  # in a text it is three characters


def test_ids(tokenizer):
    """Those of special symbols come first; each symbol has the id of its place."""
    assert tokenizer.symbols[:3] == ("<pad>", "<end>", "<unk>")
    assert len(tokenizer) == len(tokenizer.symbols) == len(set(tokenizer.symbols)) <= 60
    assert [tokenizer.id(symbol) for symbol in tokenizer.symbols] == list(range(len(tokenizer)))
    assert tokenizer.unknown == "<unk>"
    assert tokenizer.encode("the<end><pad>").tolist() == [*tokenizer.encode("the").tolist(), 1, 0]


def test_the_same_text_gives_the_same_tokenizer(tokenizer, trained):
    """Also from a generator; equality and hash depend on the definition alone."""
    kind = next(kind for kind, other in trained.items() if other is tokenizer)
    again = Tokenizer.train(iter(TEXT), size=60, kind=kind, special=SPECIAL)
    assert again == tokenizer
    assert hash(again) == hash(tokenizer)
    assert again != Tokenizer.train(TEXT, size=50, kind=kind, special=SPECIAL)
    assert repr(again) == f"Tokenizer({'BPE' if kind == 'bpe' else 'WordPiece'} of {len(again)} symbols)"


def test_saved_loaded_pickled_stored(tokenizer, tmp_path):
    """Every way gives an equal tokenizer with equal ids; the package reads the file."""
    import tokenizers

    tokenizer.save(tmp_path / "t.json")
    assert "ש" in (tmp_path / "t.json").read_text("utf-8")
    value = json.loads(json.dumps(stored.encode("tokenizer", tokenizer)))
    copies = (Tokenizer.load(tmp_path / "t.json"), pickle.loads(pickle.dumps(tokenizer)), stored.decode("t", value))
    for again in copies:
        assert again == tokenizer
        assert again.encode(TEXT[3]).tolist() == tokenizer.encode(TEXT[3]).tolist()
    package = tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
    assert package.encode(TEXT[0]).ids == tokenizer.encode(TEXT[0]).tolist()
    package.enable_truncation(2)
    package.enable_padding()
    package.save(str(tmp_path / "t.json"))
    assert Tokenizer.load(tmp_path / "t.json").encode(TEXT[0]).tolist() == tokenizer.encode(TEXT[0]).tolist()


def test_it_stands_for_a_vocabulary(tokenizer):
    """A function of either, from sentence to text."""
    for symbols in (tokenizer, Vocabulary.of(TEXT, split="words", unknown="<unk>", special=SPECIAL)):
        ids = np.append(symbols.encode("the dog sat on the mat"), symbols.id("<end>"))
        assert ids.max() < len(symbols)
        assert symbols.text(ids[:-1]) == "the dog sat on the mat"
        assert symbols.symbols[symbols.id("<pad>")] == "<pad>"


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("ValueError ids: expected ids in [0, 60), got 60; …", lambda t: t.decode([60])),
        ("ValueError symbol: expected one of the 60 symbols of the tokenizer, got 'q'; …", lambda t: t.id("q")),
        ("TypeError text: expected a string, got list of 1; [tokenizer.encode(sentence) for sentence in text]",
         lambda t: t.encode(["a"])),
        ("TypeError definition: expected the JSON text of a tokenizer, got int 3; …", lambda t: Tokenizer(3)),
        ("ValueError definition: expected the JSON text of a tokenizer, got 'x' (…); …",
         lambda t: Tokenizer("x").encode("x")),
        ("ValueError path: expected a file that Tokenizer.save wrote, got … with something else (…)",
         lambda t: Tokenizer.load(__file__)),
        ("FileNotFoundError path: expected a file that Tokenizer.save wrote, got no file none.json",
         lambda t: Tokenizer.load("none.json")),
        ("FileNotFoundError path: expected a file in a folder that exists, got no folder none; …",
         lambda t: t.save("none/t.json")),
        ("ValueError size: expected more than the 3 of special and unknown, got 3",
         lambda t: Tokenizer.train(TEXT, size=3, special=SPECIAL)),
        ("ValueError size: expected at least …: special symbols and characters of the text, got 9; …",
         lambda t: Tokenizer.train(TEXT, size=9)),
        ("ValueError kind: expected one of 'bpe', 'wordpiece', got 'word'",
         lambda t: Tokenizer.train(TEXT, size=9, kind="word")),
        ("TypeError special: expected a tuple of symbols, got the string '<pad>'; special=('<pad>',)",
         lambda t: Tokenizer.train(TEXT, size=9, special="<pad>")),
        ("TypeError unknown: expected a symbol for what the text lacks, got None; unknown=\"<unk>\"",
         lambda t: Tokenizer.train(TEXT, size=9, unknown=None)),
        ("TypeError sentences[0]: expected a sentence, that is a string, got list of 1; …",
         lambda t: Tokenizer.train([["a"]], size=9)),
    ],
)  # fmt: skip
def test_refusals(message, call, trained):
    """Exact messages."""
    refuses(message, lambda: call(trained["bpe"]))


def test_without_the_package(monkeypatch):
    """A tokenizer can be read from a checkpoint, compared and stored; what needs the package says so."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    tokenizer = Tokenizer('{"model": {"type": "BPE", "vocab": {"a": 0}, "unk_token": "a"}}')
    assert stored.decode("t", stored.encode("t", tokenizer)) == tokenizer
    assert (repr(tokenizer), tokenizer.unknown) == ("Tokenizer(BPE of 1 symbols)", "a")
    for call in (lambda: tokenizer.encode("a"), lambda: Tokenizer.train(["a"], size=9)):
        with pytest.raises(ImportError, match=r"^Tokenizer needs the package tokenizers; pip install 'jaxrnn\[text\]'"):
            call()
