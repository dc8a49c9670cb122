"""Distributions without a likelihood: quantiles, and a single value."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters
from jaxrnn.distributions.base import Distribution, as_dtype_of, divide, multiply
from jaxrnn.losses.checks import levels as checked_levels
from jaxrnn.losses.checks import outputs_and_targets
from jaxrnn.losses.values import pinball
from jaxrnn.precision import widen
from jaxrnn.types import Array

ERRORS = ("squared", "absolute", "huber")


@hyperparameters
class Quantiles(Distribution):
    """Quantiles of real values, without a form of the distribution: quantile regression.

    Between its levels the distribution is interpolated linearly, and nothing is beyond the outermost ones. The loss is
    :func:`jaxrnn.losses.quantile`, of values divided by ``scale``. Quantiles that cross are sorted.

    Args:
        levels: increasing numbers in (0, 1).

    Raises:
        TypeError, ValueError: the levels are something else.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> distribution = rnn.distributions.Quantiles((0.1, 0.5, 0.9))
        >>> float(distribution.quantile(jnp.array([-1.0, 0.0, 3.0]), 0.7)[0])
        1.5

    Source: Koenker & Bassett (1978), "Regression quantiles", Econometrica 46; for networks Wen et al. (2017), "A
    multi-horizon quantile recurrent forecaster".
    """

    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", checked_levels("levels", self.levels))

    @property
    def size(self) -> int:
        return len(self.levels)

    def parameters(self, outputs: Array, scale: Array | None = None) -> tuple[Array]:
        """The quantiles ``[..., D, Q]``, sorted."""
        values = jnp.sort(self._split(outputs), -1)
        if scale is not None:
            scale = jnp.broadcast_to(jnp.asarray(scale), values.shape[:-1])[..., None]
        return (multiply(values, scale),)

    def negative_log_likelihood(self, outputs: Array, targets: Array, scale: Array | None = None) -> Array:
        """Raises TypeError: quantiles have no likelihood."""
        checks.refuse("distribution", "one with a likelihood", repr(self), "its loss is losses.quantile", TypeError)

    def loss(self, outputs: Array, targets: Array, scale: Array | None = None) -> Array:
        """The quantile loss of each of the targets ``[..., D]``, the mean over levels."""
        outputs_and_targets(outputs, targets, self.size)
        return pinball(widen(outputs), divide(widen(targets), scale), self.levels)

    def sample(self, key: Array, outputs: Array, scale: Array | None = None) -> Array:
        """Draw one value ``[..., D]`` of the interpolated distribution."""
        (values,) = self.parameters(outputs, scale)
        return self._interpolate(values, jax.random.uniform(key, values.shape[:-1], values.dtype))

    def mean(self, outputs: Array, scale: Array | None = None) -> Array:
        """The mean ``[..., D]`` of the interpolated distribution."""
        (values,) = self.parameters(outputs, scale)
        borders = jnp.asarray((0, *self.levels, 1), values.dtype)
        padded = jnp.concatenate([values[..., :1], values, values[..., -1:]], -1)
        return (
            (padded[..., 1:] + padded[..., :-1]) / 2 * jnp.broadcast_to(jnp.diff(borders), padded[..., 1:].shape)
        ).sum(-1)

    def quantile(self, outputs: Array, levels: float | Sequence[float], scale: Array | None = None) -> Array:
        """As of every distribution, for levels from the first to the last of its own."""
        several = checked_levels("levels", levels)
        if several[0] < self.levels[0] or several[-1] > self.levels[-1]:
            checks.refuse("levels", f"levels from {self.levels[0]} to {self.levels[-1]}, those of {self!r}", levels,
                          "beyond them nothing is known")  # fmt: skip
        return super().quantile(outputs, levels, scale)

    def _quantile(self, parameters: tuple[Array], level: Array) -> Array:
        (values,) = parameters
        return self._interpolate(values, jnp.broadcast_to(level, values.shape[:-1]))

    def _interpolate(self, values: Array, level: Array) -> Array:
        """The quantile function of ``values [..., Q]`` at ``level [...]``; constant beyond the outermost levels."""
        if self.size == 1:
            return values[..., 0]
        known = jnp.asarray(self.levels, values.dtype)
        above = jnp.clip(jnp.searchsorted(known, level), 1, self.size - 1)
        weight = jnp.clip((level - known[above - 1]) / (known[above] - known[above - 1]), 0, 1)
        low, high = (jnp.take_along_axis(values, index[..., None], -1)[..., 0] for index in (above - 1, above))
        return low + weight * (high - low)


@hyperparameters
class Point(Distribution):
    """A single value without a spread: forecasts of the mean or the median alone.

    Every sample and every quantile is that value.

    Args:
        error: ``"squared"`` for the mean, ``"absolute"`` for the median, or ``"huber"``; of values divided by
            ``scale``.

    Raises:
        TypeError, ValueError: ``error`` is something else.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> rnn.distributions.Point("absolute").loss(jnp.zeros((2, 1)), jnp.full((2, 1), 3.0)).tolist()
        [[3.0], [3.0]]
    """

    error: str = "squared"

    size = 1

    def __post_init__(self) -> None:
        checks.one_of("error", self.error, ERRORS)

    def parameters(self, outputs: Array, scale: Array | None = None) -> tuple[Array]:
        return (multiply(self._split(outputs)[..., 0], scale),)

    def negative_log_likelihood(self, outputs: Array, targets: Array, scale: Array | None = None) -> Array:
        """Raises TypeError: a point has no likelihood."""
        checks.refuse("distribution", "one with a likelihood", repr(self), "Gaussian() has one", TypeError)

    def loss(self, outputs: Array, targets: Array, scale: Array | None = None) -> Array:
        """The error of each of the targets ``[..., D]``."""
        outputs_and_targets(outputs, targets, self.size)
        (values,) = self.parameters(outputs)
        error = values - divide(as_dtype_of((values,), targets), scale)
        return {"squared": jnp.square, "absolute": jnp.abs, "huber": optax.huber_loss}[self.error](error)

    def sample(self, key: Array, outputs: Array, scale: Array | None = None) -> Array:
        """The value ``[..., D]``."""
        return self.mean(outputs, scale)

    def mean(self, outputs: Array, scale: Array | None = None) -> Array:
        """The value ``[..., D]``."""
        return self.parameters(outputs, scale)[0]

    def _quantile(self, parameters: tuple[Array], level: Array) -> Array:
        return parameters[0]
