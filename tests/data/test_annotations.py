"""Annotations of a text against a reader that takes one symbol after another."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from jaxrnn.data import annotations


def read(text):
    """All annotations, one symbol at a time, as a reader keeps them in mind."""
    quoted, in_pair, depth, position, spaces, letters = False, 0, 0, 0, 0, 0
    at_start, rows = True, []
    for symbol in text:
        quoted ^= symbol == '"'
        in_pair = max(in_pair + (symbol == "“") - (symbol == "”"), 0)
        depth = max(depth + (symbol in "([{") - (symbol in ")]}"), 0)
        position += 1
        at_start = at_start and symbol == " "
        spaces += at_start
        letters = letters + 1 if symbol.isalnum() else 0
        if symbol == "\n":
            position, spaces, at_start = 0, 0, True
        rows.append((quoted, in_pair > 0, depth, position, spaces, letters))
    return np.array(rows, int).T


@settings(max_examples=60, deadline=None)
@given(st.text('ab0 \n"“”()]{', min_size=1, max_size=40))
def test_a_reader(text):
    """Every annotation of every text is that of the reader, and of the list of its characters."""
    got = [
        annotations.inside_quotes(text),
        annotations.inside_quotes(text, "“”"),
        annotations.bracket_depth(text),
        annotations.line_position(text),
        annotations.indentation(text),
        annotations.word_position(list(text)),
    ]
    np.testing.assert_array_equal(np.array(got, int), read(text))
    inside = annotations.matches(text, r"[0-9]+|\(.")
    spans = [range(*match.span()) for match in re.finditer(r"[0-9]+|\(.", text)]
    np.testing.assert_array_equal(inside, [any(n in span for span in spans) for n in range(len(text))])


def test_words():
    """A symbol may be a word."""
    words = ["print", "(", "x", ")", "\n", '"', "yes", '"']
    assert annotations.bracket_depth(words).tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert annotations.inside_quotes(words).tolist() == [False] * 5 + [True, True, False]
    assert annotations.line_position(words).tolist() == [1, 2, 3, 4, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: annotations.line_position(""), "ValueError text: expected one symbol at least, got none"),
        (
            lambda: annotations.line_position([1, 2]),
            "TypeError text: expected a string, or a list of them, got list of 2; vocabulary.decode…",
        ),
        (lambda: annotations.indentation(3), "TypeError text: expected a string, or a list of them, got int 3…"),
        (
            lambda: annotations.inside_quotes("a", "abc"),
            "ValueError marks: expected one mark or two, such as '“”', got str abc",
        ),
        (
            lambda: annotations.bracket_depth("a", "()["),
            "ValueError brackets: expected pairs of brackets, such as '()[]', got str ()[",
        ),
        (lambda: annotations.matches("a", "("), "ValueError pattern: expected a regular expression, got '(': …"),
        (lambda: annotations.matches(["a"], "a"), "TypeError text: expected a string, got list of 1; ''.join…"),
    ],
)
def test_refusals(call, message):
    """The message names the argument."""
    refuses(message, call)
