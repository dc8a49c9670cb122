"""Normalization of single windows: each by its own context, undone in the forecast."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn.types import Array

SCALES = ("none", "window", "instance")
FLOOR = 1e-5  # of a variance


class Normalization(NamedTuple):
    """``z = (y - shift) / scale`` of the values ``[..., B, D]`` of each window; None for 0 and 1."""

    shift: Array | None  # [B, D]
    scale: Array | None  # [B, D]

    def apply(self, values: Any) -> Any:
        """The inputs of a network; ``values`` may hold several rows of D in the last axis, such as lagged ones."""
        if self.shift is not None:
            values = values - _like(self.shift, values)
        return values if self.scale is None else values / _like(self.scale, values)

    def centre(self, values: Any) -> Any:
        """The values without the shift: a distribution has the scale, but no shift."""
        return values if self.shift is None else values - _like(self.shift, values)

    def uncentre(self, values: Any) -> Any:
        """The inverse of :meth:`centre`."""
        return values if self.shift is None else values + _like(self.shift, values)


def of_context(kind: str, values: Array, observed: Array) -> Normalization:
    r"""From a context ``[L, B, D]`` with 0 where it is not observed.

    ``"window"`` divides by the mean absolute value, ``"instance"`` subtracts the mean and divides by the standard
    deviation; without any observed value they do nothing.
    """
    if kind == "none":
        return Normalization(None, None)
    count = jnp.maximum(observed.sum(0), 1).astype(values.dtype)
    if kind == "window":
        scale = jnp.abs(values).sum(0) / count
        return Normalization(None, jnp.where(scale > 0, scale, 1))
    mean = values.sum(0) / count
    variance = jnp.where(observed, (values - mean[None]) ** 2, 0).sum(0) / count
    several = observed.sum(0) > 1  # a single value has no deviation
    return Normalization(mean, jnp.where(several, jnp.sqrt(variance + FLOOR), 1))


def _like(x: Array, values: Any) -> Array:
    """``[B, D]`` for values ``[..., B, n · D]``."""
    return jnp.broadcast_to(jnp.tile(x, values.shape[-1] // x.shape[-1]), values.shape).astype(values.dtype)
