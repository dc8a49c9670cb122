"""Checks of the arguments of data sources. The form of messages is that of jaxrnn.checks."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from jaxrnn.checks import describe, flag, fraction, number, refuse


def bucket_lengths(argument: str, value: Any) -> None:
    """At least one length, ints of at least 0."""
    if isinstance(value, str) or not isinstance(value, Collection):
        refuse(argument, "ints, lengths of buckets", describe(value), error=TypeError)
    if not len(value):
        refuse(argument, "one length at least", "none", "buckets= chooses them")
    for length in value:
        is_int = isinstance(length, (int, np.integer)) and not isinstance(length, bool)
        if not is_int or length < 0:
            refuse(argument, "ints of at least 0", length if is_int else describe(length),
                   error=ValueError if is_int else TypeError)  # fmt: skip


def is_aligned(inputs: Sequence[np.ndarray], targets: Sequence, aligned: bool | None) -> bool:
    """Whether there is a target for each step of the inputs ``[T_n, ...]``; None infers it from the shapes."""
    if aligned is not None:
        flag("aligned", aligned)
    shapes = [np.shape(target) for target in targets]
    fits = [shape[:1] == x.shape[:1] for x, shape in zip(inputs, shapes, strict=True)]
    if aligned and not all(fits):
        n = fits.index(False)
        refuse("targets", f"a target for each of the {len(inputs[n])} steps of inputs[{n}], since aligned=True",
               f"shape {list(shapes[n])}", "aligned=False takes labels, one a sequence")  # fmt: skip
    if aligned is None and all(fits) and len(set(shapes)) == 1:
        refuse("aligned", f"True or False, since all inputs have {len(inputs[0])} steps and all targets the shape "
               f"{list(shapes[0])}", None,
               "aligned=True: a target for each step; aligned=False: a label for each sequence")  # fmt: skip
    return all(fits) if aligned is None else aligned


def id_stream(argument: str, value: Any) -> None:
    """Integer ids ``[N]``."""
    if not hasattr(value, "ndim") or value.ndim != 1 or not np.issubdtype(value.dtype, np.integer):
        refuse(argument, "integers [N]", describe(value), "Vocabulary.of(text).encode(text) makes them", TypeError)


def ids_below(argument: str, value: Any, size: int) -> np.ndarray:
    """Integer ids ``[N]`` of a vocabulary of that size."""
    array = np.asarray(value) if len(value) else np.zeros(0, int)
    id_stream(argument, array)
    if array.size and not 0 <= array.min() <= array.max() < size:
        invalid = array[(array < 0) | (array >= size)][0]
        refuse(argument, f"ids in [0, {size})", invalid, "they are of a larger vocabulary, or padding")
    return array


def writable_file(argument: str, value: str | os.PathLike) -> pathlib.Path:
    """A path in a folder that exists."""
    path = pathlib.Path(value)
    if not path.parent.is_dir():
        refuse(argument, "a file in a folder that exists", f"no folder {path.parent}",
               "Path.mkdir(parents=True) makes it", FileNotFoundError)  # fmt: skip
    return path


def part_size(argument: str, value: Any, lengths: np.ndarray) -> np.ndarray:
    """The steps of a part of each series: a fraction of its length, or a number of steps."""
    number(argument, value)
    if isinstance(value, (int, np.integer)):
        if value < 0:
            refuse(argument, "steps, 0 or more, or a fraction below 1", value)
        return np.full(len(lengths), value)
    fraction(argument, value, "an int is a number of steps")
    return np.floor(lengths * value).astype(int)
