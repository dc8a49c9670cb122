"""Annotations of a text, one number a symbol: what is known after reading it.

They are what :func:`~jaxrnn.gradients.find_units` searches the units of a network for. A text is a string, a sequence
of characters, or a list of strings, one of words.

Source: Karpathy, Johnson & Fei-Fei (2015), "Visualizing and understanding recurrent networks", arXiv:1506.02078.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from jaxrnn import checks


def inside_quotes(text: str | Sequence[str], marks: str = '"') -> np.ndarray:
    """Whether a quotation is open; its first mark is inside, its last one is not.

    Args:
        text: the symbols.
        marks: the mark that opens and closes, or the two, such as ``"“”"``.

    Returns:
        Bools ``[T]``.

    Raises:
        TypeError, ValueError: the text is empty or not made of strings; there are not one or two marks.

    Example:
        >>> import jaxrnn as rnn
        >>> rnn.data.annotations.inside_quotes('a "b" c').astype(int)
        array([0, 0, 1, 1, 0, 0, 0])
    """
    read = _symbols(text)
    if not isinstance(marks, str) or len(marks) not in (1, 2):
        checks.refuse("marks", "one mark or two, such as '“”'", checks.describe(marks))
    if len(marks) == 2:
        return bracket_depth(text, marks) > 0
    return np.cumsum(read == marks) % 2 == 1


def bracket_depth(text: str | Sequence[str], brackets: str = "()[]{}") -> np.ndarray:
    """How many brackets are open; one that closes none is ignored.

    Args:
        text: the symbols.
        brackets: pairs of an opening and a closing bracket, each a symbol.

    Returns:
        Ints ``[T]``.

    Raises:
        TypeError, ValueError: the text is empty or not made of strings; the brackets are not pairs.

    Example:
        >>> import jaxrnn as rnn
        >>> rnn.data.annotations.bracket_depth("f(a[1])")
        array([0, 1, 1, 2, 2, 1, 0])
    """
    read = _symbols(text)
    if not isinstance(brackets, str) or not brackets or len(brackets) % 2:
        checks.refuse("brackets", "pairs of brackets, such as '()[]'", checks.describe(brackets))
    opened = np.cumsum(np.isin(read, list(brackets[::2])).astype(int) - np.isin(read, list(brackets[1::2])))
    return opened - np.minimum(np.minimum.accumulate(opened), 0)


def line_position(text: str | Sequence[str]) -> np.ndarray:
    r"""How many symbols of the line have been read; 0 at its end, ``"\n"``.

    Returns:
        Ints ``[T]``.

    Raises:
        TypeError, ValueError: the text is empty or not made of strings.

    Example:
        >>> import jaxrnn as rnn
        >>> rnn.data.annotations.line_position("ab\ncd")
        array([1, 2, 0, 1, 2])
    """
    end = _symbols(text) == "\n"
    return _count(~end, end)


def indentation(text: str | Sequence[str]) -> np.ndarray:
    r"""How many spaces the line began with, as far as it has been read.

    Returns:
        Ints ``[T]``.

    Raises:
        TypeError, ValueError: the text is empty or not made of strings.

    Example:
        >>> import jaxrnn as rnn
        >>> rnn.data.annotations.indentation("  ab\nc")
        array([1, 2, 2, 2, 0, 0])
    """
    read = _symbols(text)
    end, space = read == "\n", read == " "
    return _count(space & (_count(~space, end) == 0), end)


def word_position(text: str | Sequence[str]) -> np.ndarray:
    """How many letters and digits of the word have been read; 0 between words.

    Returns:
        Ints ``[T]``.

    Raises:
        TypeError, ValueError: the text is empty or not made of strings.

    Example:
        >>> import jaxrnn as rnn
        >>> rnn.data.annotations.word_position("a cat")
        array([1, 0, 1, 2, 3])
    """
    letter = np.char.isalnum(_symbols(text))
    return _count(letter, ~letter)


def matches(text: str, pattern: str) -> np.ndarray:
    """Whether a character belongs to a match of a regular expression: an address, a comment, a number.

    Args:
        text: the characters.
        pattern: a regular expression of :mod:`re`.

    Returns:
        Bools ``[T]``.

    Raises:
        TypeError, ValueError: the text is empty or not a string; the pattern is no regular expression.

    Example:
        >>> import jaxrnn as rnn
        >>> rnn.data.annotations.matches("in 2015", r"[0-9]+").astype(int)
        array([0, 0, 0, 1, 1, 1, 1])
    """
    if not isinstance(text, str):
        checks.refuse("text", "a string", checks.describe(text), "''.join(symbols) makes one", TypeError)
    inside = np.zeros(len(_symbols(text)), bool)
    try:
        found = re.finditer(pattern, text)
    except (re.error, TypeError) as error:
        checks.refuse("pattern", "a regular expression", f"{pattern!r}: {error}")
    for match in found:
        inside[slice(*match.span())] = True
    return inside


def _symbols(text: str | Sequence[str]) -> np.ndarray:
    """The symbols as an array of strings, ``[T]``."""
    symbols = list(text) if isinstance(text, (str, list, tuple)) else []
    if not isinstance(text, (str, list, tuple)) or not all(isinstance(symbol, str) for symbol in symbols):
        checks.refuse("text", "a string, or a list of them", checks.describe(text),
                      "vocabulary.decode(ids) makes one of ids", TypeError)  # fmt: skip
    if not symbols:
        checks.refuse("text", "one symbol at least", "none")
    return np.array(symbols)


def _count(what: np.ndarray, restart: np.ndarray) -> np.ndarray:
    """How often ``what`` was True since ``restart`` last was, ``[T]``."""
    count = np.cumsum(what)
    return count - np.maximum.accumulate(np.where(restart, count, 0))
