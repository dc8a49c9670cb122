"""Checks of what data are made of. Wording and form are those of jaxrnn.checks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from jaxrnn.checks import describe, refuse


def bucket_lengths(argument: str, value: Any) -> None:
    """One length of a bucket, or several."""
    if isinstance(value, str) or not isinstance(value, Collection):
        refuse(argument, "ints, lengths of buckets", describe(value), error=TypeError)
    if not len(value):
        refuse(argument, "one length at least", "none", "buckets= chooses them")
    for length in value:
        whole = isinstance(length, (int, np.integer)) and not isinstance(length, bool)
        if not whole or length < 0:
            refuse(argument, "ints of at least 0", length if whole else describe(length),
                   error=ValueError if whole else TypeError)  # fmt: skip


def id_stream(argument: str, value: Any) -> None:
    """One row of integer ids."""
    if not hasattr(value, "ndim") or value.ndim != 1 or not np.issubdtype(value.dtype, np.integer):
        refuse(argument, "integers [N]", describe(value), "Vocabulary.of(text).encode(text) makes them", TypeError)
