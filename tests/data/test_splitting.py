"""Words and marks of sentences, in several scripts."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrnn.data.splitting import split_words


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("It's 3.14, ok?!", ["It's", "3", ".", "14", ",", "ok", "?", "!"]),
        ("'quoted' don’t rock'", ["'", "quoted", "'", "don’t", "rock", "'"]),
        ("a_b well-made…\n\tend", ["a_b", "well", "-", "made", "…", "end"]),
        ("בְּרֵאשִׁית בָּרָא", ["בְּרֵאשִׁית", "בָּרָא"]),
        ("ג׳ירפה, שלום!", ["ג׳ירפה", ",", "שלום", "!"]),
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया", "।"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("cafe\u0301 café", ["cafe\u0301", "café"]),
        ("❤\ufe0f", ["❤\ufe0f"]),
        ("  ", []),
        ("", []),
    ],
)
def test_words(sentence, words):
    """A mark of Unicode stays with its letter; apostrophes are inside of a word alone."""
    assert split_words(sentence) == words


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_nothing_but_white_space_is_lost(sentence):
    """The words and marks are the sentence without its white space, and each is either a word or one mark."""
    words = split_words(sentence)
    assert "".join(words) == "".join(sentence.split())
    for word in words:
        base = [c for c in word if not unicodedata.category(c).startswith("M")]
        assert len(base) <= 1 or any(c.isalnum() or c in "_\u200c\u200d" for c in base)
