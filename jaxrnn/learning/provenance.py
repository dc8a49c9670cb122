"""What a run was made from: stored with each checkpoint of ``fit``, compared when the run is resumed."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from typing import Any

import jax
import numpy as np

from jaxrnn import checks
from jaxrnn.learning.checks import batch, is_plain_sequence
from jaxrnn.types import PyTree

NOTHING = object()


def as_json(argument: str, value: Any) -> Any:
    """A value as JSON gives it back: tuples are lists, the keys of dicts texts."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        checks.refuse(argument, "what JSON can hold", str(error), "int(...), float(...) or .tolist() of an array",
                      TypeError)  # fmt: skip


def fingerprint(batches: Any, steps: int) -> dict[str, Any]:
    """How many batches there are, where the source goes round, and each array of the first: dtype, shape, SHA-256.

    One batch is cheap to read, and of other data it differs almost surely: it holds a piece of each of B streams, or B
    sequences drawn from all of them.
    """
    goes_round = hasattr(batches, "__len__") and not is_plain_sequence(batches)  # a list may grow with the steps
    told: dict[str, Any] = {"len(batches)": len(batches)} if goes_round else {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch(batches, 0, steps)):
        told[f"batches[0]{jax.tree_util.keystr(path)}"] = _array(leaf)
    return told


def check_origin(folder: os.PathLike, run: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with a run in ``folder`` that was made from something else; names the first difference."""
    found = _difference("", run, now)
    if found is not None:
        place, was, given = found
        checks.refuse(place, f"{_word(was, given)} as in the run in {folder}", _word(given, was),
                      "resume with what the run was made from, or start in another folder; fit(..., "
                      'resume="anyway") goes on with other things on purpose')  # fmt: skip


def _array(leaf: PyTree) -> str:
    array = np.asarray(leaf)
    return f"{checks.describe(array)} of SHA-256 {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"


def _difference(place: str, run: Any, now: Any) -> tuple[str, Any, Any] | None:
    """The first place where two trees of JSON differ, and what stands there in each."""
    if isinstance(run, dict) and isinstance(now, dict):
        names = {**run, **now}
        pairs = [(f"{place}[{n!r}]" if place else n, run.get(n, NOTHING), now.get(n, NOTHING)) for n in names]
    elif isinstance(run, list) and isinstance(now, list):
        both = itertools.zip_longest(run, now, fillvalue=NOTHING)
        pairs = [(f"{place}[{n}]", was, given) for n, (was, given) in enumerate(both)]
    else:
        not_numbers = all(isinstance(value, float) and math.isnan(value) for value in (run, now))
        return None if run == now or not_numbers else (place, run, now)
    return next((found for pair in pairs if (found := _difference(*pair)) is not None), None)


def _word(value: Any, other: Any) -> str:
    """A value in short, from where it begins to differ from the other."""
    if value is NOTHING:
        return "nothing"
    text = repr(value)
    same_shape = sum(
        1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(text, repr(other), strict=False))
    )
    start = max(0, same_shape - 20) if len(text) > 80 else 0
    return "…" * (start > 0) + text[start : start + 80] + "…" * (start + 80 < len(text))
