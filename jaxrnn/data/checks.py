"""Checks of what data are made of. Wording and form are those of jaxrnn.checks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from jaxrnn.checks import describe, flag, refuse


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


def is_aligned(inputs: Sequence[np.ndarray], targets: Sequence, said: bool | None) -> bool:
    """Whether there is a target for each step of the inputs ``[T_n, ...]``; the shapes may leave it open."""
    if said is not None:
        flag("aligned", said)
    shapes = [np.shape(target) for target in targets]
    each = [shape[:1] == x.shape[:1] for x, shape in zip(inputs, shapes, strict=True)]
    if said and not all(each):
        n = each.index(False)
        refuse("targets", f"a target for each of the {len(inputs[n])} steps of inputs[{n}], since aligned=True",
               f"shape {list(shapes[n])}", "aligned=False takes labels, one a sequence")  # fmt: skip
    if said is None and all(each) and len(set(shapes)) == 1:
        refuse("aligned", f"True or False, since all inputs have {len(inputs[0])} steps and all targets the shape "
               f"{list(shapes[0])}", None,
               "aligned=True: a target for each step; aligned=False: a label for each sequence")  # fmt: skip
    return all(each) if said is None else said


def id_stream(argument: str, value: Any) -> None:
    """One row of integer ids."""
    if not hasattr(value, "ndim") or value.ndim != 1 or not np.issubdtype(value.dtype, np.integer):
        refuse(argument, "integers [N]", describe(value), "Vocabulary.of(text).encode(text) makes them", TypeError)
