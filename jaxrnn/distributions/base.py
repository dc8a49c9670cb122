"""What all distributions share, and functions of their parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from jaxrnn import checks
from jaxrnn.losses.checks import levels as checked_levels
from jaxrnn.losses.checks import outputs_and_targets
from jaxrnn.precision import widen
from jaxrnn.types import Array

FLOOR = 1e-4  # of what is above 0: scales, means of counts, overdispersions
BISECTIONS = 64  # halvings of an interval: down to the spacing of float64


class Distribution:
    """Base class: what follows from the parameters, the likelihood and one quantile."""

    size: Any
    of_counts = False  # whether the targets are counts, which cannot be shifted

    def parameters(self, outputs: Array, scale: Array | None = None) -> Any:
        """The parameters, each ``[..., D]``, in float32 or better."""
        raise NotImplementedError

    def negative_log_likelihood(self, outputs: Array, targets: Array, scale: Array | None = None) -> Array:
        """``-log p(y)`` in nats of each of the targets ``[..., D]``."""
        outputs_and_targets(outputs, targets, self.size)
        parameters = self.parameters(outputs, scale)
        return -self._log_probability(parameters, as_dtype_of(parameters, targets))

    def loss(self, outputs: Array, targets: Array, scale: Array | None = None) -> Array:
        """What training minimises, of each of the targets ``[..., D]``: the negative log likelihood."""
        return self.negative_log_likelihood(outputs, targets, scale)

    def cdf(self, outputs: Array, values: Array, scale: Array | None = None) -> Array:
        """Probability of at most ``values [..., D]``."""
        parameters = self.parameters(outputs, scale)
        return self._cdf(parameters, as_dtype_of(parameters, values))

    def quantile(self, outputs: Array, levels: float | Sequence[float], scale: Array | None = None) -> Array:
        """Values ``[..., D]`` that a target exceeds with probability 1 - level; ``[Q, ..., D]`` for Q levels."""
        several = checked_levels("levels", levels)
        parameters = self.parameters(outputs, scale)
        found = jax.vmap(lambda level: self._quantile(parameters, level))(jnp.asarray(several, parameters[0].dtype))
        return found if hasattr(levels, "__len__") else found[0]

    def _log_probability(self, parameters: Any, targets: Array) -> Array:
        raise NotImplementedError

    def _cdf(self, parameters: Any, values: Array) -> Array:
        raise NotImplementedError

    def _quantile(self, parameters: Any, level: Array) -> Array:
        raise NotImplementedError

    def _split(self, outputs: Array) -> Array:
        """Outputs ``[..., D · size]`` as ``[..., D, size]``, in float32 or better."""
        outputs = jnp.asarray(outputs)
        width = outputs.shape[-1] if outputs.ndim else 0
        if not width or width % self.size or not jnp.issubdtype(outputs.dtype, jnp.floating):
            checks.refuse("outputs", f"floating numbers [..., D · {self.size}], {self.size} a target of {self!r}",
                          checks.describe(outputs), "a readout Linear(hidden, targets * size) makes them")  # fmt: skip
        return widen(outputs).reshape(*outputs.shape[:-1], width // self.size, self.size)


# ---- functions of arrays ----


def positive(x: Array) -> Array:
    """``log(1 + exp(x))``, with a floor that keeps likelihoods finite."""
    return jax.nn.softplus(x) + FLOOR


def unstack(outputs: Array) -> list[Array]:
    """The outputs ``[..., D, size]`` as ``size`` arrays ``[..., D]``."""
    return [outputs[..., n] for n in range(outputs.shape[-1])]


def multiply(x: Array, scale: Array | None) -> Array:
    return x if scale is None else x * jnp.broadcast_to(jnp.asarray(scale).astype(x.dtype), x.shape)


def divide(x: Array, scale: Array | None) -> Array:
    return x if scale is None else x / jnp.broadcast_to(jnp.asarray(scale).astype(x.dtype), x.shape)


def as_dtype_of(parameters: Any, values: Array) -> Array:
    """Values in the dtype of the parameters."""
    return jnp.asarray(values).astype(parameters[0].dtype)


def repeat(values: Array, like: Array) -> Array:
    """Values ``[..., D]`` for each of K components."""
    return jnp.broadcast_to(values[..., None], like.shape)


def stirling_error(x: Array) -> Array:
    r"""``log Γ(x + 1)`` without Stirling's approximation ``(x + ½) log x - x + ½ log 2 π``, small for large x.

    In likelihoods the large terms of log Γ cancel. Written with this function they do so by algebra, not in float32.

    Source: Loader (2000), "Fast and accurate computation of binomial probabilities".
    """
    small, large = jnp.minimum(x, 10), jnp.maximum(x, 10)
    inverse = 1 / large**2
    series = (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - inverse / 1188) * inverse) * inverse) * inverse) / large
    exact = gammaln(small + 1) - (small + 0.5) * jnp.log(small) + small - math.log(2 * math.pi) / 2
    return jnp.where(x < 10, exact, series)


def bisect(is_above: Any, low: Array, high: Array, whole: bool = False) -> Array:
    """The smallest value in (low, high] where ``is_above`` is True, as it is at ``high``; the smallest whole one."""

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = jnp.floor((low + high) / 2) if whole else (low + high) / 2
        above = is_above(middle)
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    return jax.lax.fori_loop(0, BISECTIONS, halve, (low, high))[1]
