"""How bad input is refused: in one form, which the tables of the tests write out as the message itself."""

import re

import pytest

FORM = r"\S.*: expected .+, got .+"  # argument: expected …, got …; fix


def refuses(text, call):
    """``"ErrorType argument: expected …, got …; fix"``, where … stands for anything, is what the call raises."""
    error, _, message = text.partition(" ")
    with pytest.raises((TypeError, ValueError, OSError)) as refusal:
        call()
    assert refusal.type.__name__ == error
    assert re.fullmatch(FORM, str(refusal.value))
    assert re.fullmatch(".*".join(map(re.escape, message.split("…"))), str(refusal.value)), str(refusal.value)
