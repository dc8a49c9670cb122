"""Checks of the arguments of losses and distributions. Messages have the form of those in jaxrnn.checks."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn.checks import describe, number, refuse


def same_shape(argument: str, value: Any, other: str, like: Any) -> None:
    """A floating array with the shape of another."""
    if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jnp.floating):
        refuse(
            argument,
            f"floating numbers like {other} {describe(like)}",
            describe(value),
            ".astype(float)",
            TypeError,
        )
    if tuple(value.shape) != tuple(like.shape):
        single = (*value.shape, 1) == tuple(like.shape)
        fix = f"{argument}[..., None] adds the axis of a single output" if single else ""
        refuse(argument, f"shape {list(like.shape)}, that of {other}", describe(value), fix)


def levels(argument: str, value: Any) -> tuple[float, ...]:
    """A number in (0, 1), or increasing ones; returns a tuple of floats."""
    single = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    try:
        found = [value] if single else list(value)
    except TypeError:
        refuse(argument, "a number in (0, 1), or several", describe(value), error=TypeError)
    for level in found:
        number(argument, level)
    if not found or not all(a < b for a, b in zip([0, *found], [*found, 1], strict=True)):
        refuse(argument, "increasing numbers in (0, 1)", value, "(0.1, 0.5, 0.9) is a median and an interval of 80 %")
    return tuple(float(level) for level in found)


def outputs_and_targets(outputs: Any, targets: Any, size: int) -> None:
    """Floating targets ``[T, ..., q]``, and ``size`` outputs for each of them."""
    for name, value in (("outputs", outputs), ("targets", targets)):
        if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jnp.floating):
            refuse(name, "floating numbers", describe(value), ".astype(float)", TypeError)
    if targets.ndim == 0:
        refuse("targets", "[T, ..., q]", describe(targets), "targets[..., None] adds the axis of features")
    expected = (*targets.shape[:-1], targets.shape[-1] * size)
    if tuple(outputs.shape) != expected:
        refuse("outputs", f"shape {list(expected)}, {size} for each of the targets {list(targets.shape)}",
               describe(outputs), "a readout Linear(hidden, targets * size) makes them")  # fmt: skip
