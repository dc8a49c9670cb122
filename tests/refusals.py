"""The common form of error messages; tables of tests hold the messages themselves."""

import re

import pytest

FORM = r"\S.*: expected .+, got .+"  # argument: expected …, got …; fix


def refuses(text, call):
    """Assert that the call raises ``"ErrorType argument: expected …, got …; fix"``, where … matches anything."""
    error, _, message = text.partition(" ")
    with pytest.raises((TypeError, ValueError, OSError)) as refusal:
        call()
    assert refusal.type.__name__ == error
    assert re.fullmatch(FORM, str(refusal.value))
    assert re.fullmatch(".*".join(map(re.escape, message.split("…"))), str(refusal.value)), str(refusal.value)
