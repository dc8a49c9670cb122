"""How a sentence becomes symbols: words and punctuation marks, characters, or a function of your own."""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxrnn import checks

Split = str | Callable[[str], Iterable[str]]


def split_words(sentence: str) -> list[str]:
    """Words, and each other mark alone; white space is dropped, case is kept.

    A word is letters, digits and ``_``, with apostrophes inside of it. A vowel point or accent that is a character of
    its own belongs to the letter before it.

    Example:
        >>> from jaxrnn.data.splitting import split_words
        >>> split_words("It's a well-made film, isn't it?")
        ["It's", 'a', 'well', '-', 'made', 'film', ',', "isn't", 'it', '?']
    """
    return _pattern().findall(sentence)


@functools.cache
def _pattern() -> re.Pattern:
    r"""The regular expression; ``\w`` has neither the combining marks of Unicode nor the two joiners."""
    marks = "".join(c for c in map(chr, range(0x300, 0x1F000)) if unicodedata.category(c).startswith("M"))
    letter = rf"[\w{marks}\u200c\u200d]"
    return re.compile(rf"{letter}+(?:['’׳]{letter}+)*|[^\w\s][{marks}]*")


NAMED: dict[str, Callable[[str], Iterable[str]]] = {"words": split_words, "characters": list}


def split_sentence(split: Split, sentence: str) -> list[str]:
    """The symbols of a sentence."""
    symbols = (NAMED[split] if isinstance(split, str) else split)(sentence)
    if isinstance(symbols, str):
        checks.refuse("split", "symbols from it, a list of strings", f"the string {symbols[:40]!r}",
                      "str.split, for instance", TypeError)  # fmt: skip
    symbols = list(symbols)
    wrong = next((symbol for symbol in symbols if not isinstance(symbol, str)), None)
    if wrong is not None:
        fix = "re.findall with a group gives tuples: (?:...)" if isinstance(wrong, tuple) else "str(...) of each"
        checks.refuse("split", "strings from it", checks.describe(wrong), fix, TypeError)
    return symbols


def split_sentences(split: Split, text: Any) -> Iterator[str]:
    """The symbols of all sentences, one after another."""
    return itertools.chain.from_iterable(split_sentence(split, sentence) for sentence in sentences("text", text))


def sentences(argument: str, text: Any) -> Iterator[str]:
    """The sentences of a text: its strings, or one string."""
    if isinstance(text, str):
        text = [text]
    elif not isinstance(text, Iterable):
        checks.refuse(argument, "sentences, or one", checks.describe(text), error=TypeError)
    for n, sentence in enumerate(text):
        if not isinstance(sentence, str):
            checks.refuse(f"{argument}[{n}]", "a sentence, that is a string", checks.describe(sentence),
                          '" ".join(...) of a list of words' if isinstance(sentence, (list, tuple))
                          else "leave it out, or str(...) of it", TypeError)  # fmt: skip
        yield sentence


def symbols_of(text: Any) -> Iterable[Any]:
    """The symbols of a text that is split already; refuses sentences, and lists of words, among them."""
    if isinstance(text, str):
        return text
    if not isinstance(text, Iterable):
        checks.refuse("text", "a string or a list of strings", checks.describe(text), error=TypeError)
    symbols = list(text)
    for symbol in symbols:
        if isinstance(symbol, (list, tuple)):
            checks.refuse("text", "symbols, which are strings", f"the {type(symbol).__name__} {str(symbol)[:40]}",
                          "itertools.chain.from_iterable(text) joins lists of words", TypeError)  # fmt: skip
        if is_phrase(symbol):
            checks.refuse("text", "symbols, one after another: the characters of a string, or a list of words",
                          f"{type(text).__name__} with {symbol[:40]!r}", 'split="words" takes sentences, '
                          "Vocabulary(tuple(sorted(set(text)))) each string as one symbol")  # fmt: skip
    return symbols


def is_phrase(symbol: Any) -> bool:
    """Whether it is a string of several words, with white space between them."""
    return isinstance(symbol, str) and len(symbol) > 2 and len(symbol.split()) > 1
