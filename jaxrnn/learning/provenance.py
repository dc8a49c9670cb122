"""The origin of a run (data, key, metadata): stored with each checkpoint of ``fit``, compared when it is resumed."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from typing import Any

import jax
import numpy as np

from jaxrnn import checks, stored
from jaxrnn.learning.sources import Reader
from jaxrnn.types import PyTree

MISSING = object()


def as_json(argument: str, value: Any) -> Any:
    """A value as the JSON that checkpoints hold, see :func:`jaxrnn.stored.encode`; of what is JSON, itself."""
    return stored.encode(argument, value)


def fingerprint(reader: Reader) -> dict[str, Any]:
    """The number of batches of a source that repeats, and dtype, shape and SHA-256 of each array of the first batch.

    One batch is cheap to read, and almost surely differs for other data: it holds a piece of each of B streams, or B
    sequences drawn from the whole data set.
    """
    repeats = reader.epoch_length is not None and not reader.is_list  # a list may grow with the steps
    origin: dict[str, Any] = {"len(batches)": reader.epoch_length} if repeats else {}
    return origin | {f"batches[0]{path}": array for path, array in digest(reader.first).items()}


def digest(tree: PyTree) -> dict[str, str]:
    """Dtype, shape and SHA-256 of each array by its path."""
    return {jax.tree_util.keystr(path): _digest(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def check_origin(folder: os.PathLike, before: dict[str, Any], current: dict[str, Any]) -> None:
    """Refuse to resume the run in ``folder`` unless its origin is the current one; names the first difference.

    Both may hold objects, as the metadata of a checkpoint that was read do: their JSON is compared.
    """
    difference = _first_difference("", _as_json_by_name(before), _as_json_by_name(current))
    if difference is not None:
        path, old, new = difference
        checks.refuse(path, f"{_excerpt(old, new)} as in the run in {folder}", _excerpt(new, old),
                      "resume with what the run was made from, or start in another folder; fit(..., "
                      'resume="anyway") continues with other ones')  # fmt: skip


def _as_json_by_name(origin: dict[str, Any]) -> dict[str, Any]:
    return {name: as_json(name, value) for name, value in origin.items()}


def _digest(leaf: Any) -> str:
    if isinstance(leaf, jax.Array):
        if not leaf.is_fully_addressable:
            return f"{checks.describe(leaf)} of several processes"
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    return f"{checks.describe(array)} of SHA-256 {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"


def _first_difference(path: str, old: Any, new: Any) -> tuple[str, Any, Any] | None:
    """The first path at which two trees of JSON differ, and both values there."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = {**old, **new}
        entries = [(f"{path}[{n!r}]" if path else n, old.get(n, MISSING), new.get(n, MISSING)) for n in names]
    elif isinstance(old, list) and isinstance(new, list):
        pairs = itertools.zip_longest(old, new, fillvalue=MISSING)
        entries = [(f"{path}[{n}]", *pair) for n, pair in enumerate(pairs)]
    else:
        both_nan = all(isinstance(value, float) and math.isnan(value) for value in (old, new))
        return None if old == new or both_nan else (path, old, new)
    return next((found for entry in entries if (found := _first_difference(*entry)) is not None), None)


def _excerpt(value: Any, other: Any) -> str:
    """At most 80 characters of a value; of a longer one, those around the first that differs from the other's."""
    if value is MISSING:
        return "nothing"
    text = repr(value)
    common = next((n for n, (a, b) in enumerate(zip(text, repr(other), strict=False)) if a != b), 0)
    start = max(0, common - 20) if len(text) > 80 else 0
    return "…" * (start > 0) + text[start : start + 80] + "…" * (start + 80 < len(text))
