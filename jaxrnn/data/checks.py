"""Checks of what data are made of. Wording and form are those of jaxrnn.checks."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrnn.checks import describe, refuse


def id_stream(argument: str, value: Any) -> None:
    """One row of integer ids."""
    if not hasattr(value, "ndim") or value.ndim != 1 or not np.issubdtype(value.dtype, np.integer):
        refuse(argument, "integers [N]", describe(value), "Vocabulary.of(text).encode(text) makes them", TypeError)
