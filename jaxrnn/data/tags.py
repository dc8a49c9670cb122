"""Spans of a sequence, such as named entities, as one tag a step.

===========  =========  ======================================  =======================
scheme       also       tags of spans of one, two, three steps  source
===========  =========  ======================================  =======================
``"bio"``    IOB2       ``B``, ``B I``, ``B I I``               Ramshaw & Marcus (1995)
``"bioes"``  IOBES      ``S``, ``B E``, ``B I E``               Ratinov & Roth (2009)
===========  =========  ======================================  =======================

A tag is ``"O"``, outside of all spans, or such a letter and a kind, ``"B-person"``. A step *continues* the span of the
step before if its letter is I or E, that of the step before B or I, and their kinds are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxrnn import checks

LETTERS = {"bio": "OBI", "bioes": "OBIES"}
Tag = tuple[str, str]  # the letter and the kind


class Span(NamedTuple):
    """The steps from ``start`` up to, not including, ``stop``."""

    kind: str
    start: int
    stop: int


def spans(tags: Sequence[str], scheme: str | None = None) -> list[Span]:
    """The spans of a sequence of tags.

    A tagger may predict tags that are no spans, such as ``O I-x``. As in the CoNLL evaluation, a span begins wherever a
    step is not outside and does not continue the step before. With a ``scheme`` only the spans of its table count: they
    begin with B or S, and in BIOES they end with E or S.

    Args:
        tags: the tag of each step.
        scheme: None, ``"bio"`` or ``"bioes"``.

    Raises:
        TypeError, ValueError: a tag of another form, or that is not in the scheme.

    Example:
        >>> from jaxrnn.data import spans
        >>> spans(["B-person", "I-person", "O", "I-place"])
        [Span(kind='person', start=0, stop=2), Span(kind='place', start=3, stop=4)]
        >>> spans(["B-person", "I-person", "O", "I-place"], "bio")
        [Span(kind='person', start=0, stop=2)]
    """
    split, found, start = split_tags("tags", tags, scheme), [], 0
    for t, tag in enumerate(split):
        if t == 0 or not continues(split[t - 1], tag):
            start = t
        ends = t + 1 == len(split) or not continues(tag, split[t + 1])
        if ends and tag != ("O", "") and is_span(split[start], tag, scheme):
            found.append(Span(tag[1], start, t + 1))
    return found


def forbidden_transitions(tags: Sequence[str], scheme: str = "bio") -> tuple[tuple[int | None, int | None], ...]:
    """The pairs of tags that do not follow one another in the spans of a scheme, for :class:`~jaxrnn.tasks.CRF`.

    Args:
        tags: the tags in the order of their ids.
        scheme: ``"bio"`` or ``"bioes"``.

    Returns:
        Pairs of ids ``(before, after)``; None is the start of a sequence, or its end.

    Raises:
        TypeError, ValueError: a tag of another form, or that is not in the scheme; another scheme.

    Example:
        >>> from jaxrnn.data import forbidden_transitions
        >>> forbidden_transitions(["O", "B-x", "I-x"])  # no I after an O, nor at the start
        ((0, 2), (None, 2))
    """
    checks.one_of("scheme", scheme, LETTERS)
    known: list[tuple[int | None, Tag]] = [*enumerate(split_tags("tags", tags, scheme)), (None, ("O", ""))]
    return tuple(
        (i, j) for i, before in known for j, after in known
        if not continues(before, after) and (after[0] in "IE" or (scheme == "bioes" and before[0] in "BI"))
    )  # fmt: skip


def continues(before: Tag, after: Tag) -> bool:
    """Whether a step continues the span of the step before."""
    return before[0] in "BI" and after[0] in "IE" and before[1] == after[1]


def is_span(first: Tag, last: Tag, scheme: str | None) -> bool:
    """Whether steps that continue one another, from the first to the last, are a span."""
    return scheme is None or (first[0] in "BS" and (scheme == "bio" or last[0] in "ES"))


def split_tags(argument: str, tags: Any, scheme: str | None = None) -> list[Tag]:
    """The letter and the kind of each tag."""
    if scheme is not None:
        checks.one_of("scheme", scheme, LETTERS, also=" or None")
    letters = LETTERS["bioes" if scheme is None else scheme]
    split = []
    for tag in [tags] if isinstance(tags, str) else tags:
        letter, dash, kind = tag.partition("-") if isinstance(tag, str) else ("", "", "")
        if letter not in [*letters] or (letter == "O") == bool(dash) or bool(dash) != bool(kind):
            checks.refuse(argument, f"O, or one of {', '.join(letters[1:])} with a kind, such as B-person", repr(tag),
                          'scheme="bioes" has E and S' if letter in ("E", "S") else "")  # fmt: skip
        split.append((letter, kind))
    return split
