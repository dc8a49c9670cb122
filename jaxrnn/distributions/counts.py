"""Counts: the negative binomial distribution."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc

from jaxrnn.constructor import hyperparameters
from jaxrnn.distributions.base import Distribution, bisect, multiply, positive, stirling_error, unstack
from jaxrnn.types import Array


class CountParameters(NamedTuple):
    """Mean μ and overdispersion α, each ``[..., D]``: the variance is μ + α μ²."""

    mean: Array
    overdispersion: Array


@hyperparameters
class NegativeBinomial(Distribution):
    r"""Negative binomial distribution of counts, by its mean and overdispersion.

    .. math:: μ = \log(1 + e^{o_1}), \qquad α = \log(1 + e^{o_2}), \qquad
              p(y) = \frac{Γ(y + 1/α)}{Γ(y + 1) Γ(1/α)} \frac{(α μ)^y}{(1 + α μ)^{y + 1/α}}

    The variance is μ + α μ². The targets are the counts themselves: the scaling of their windows is ``"none"``, and
    ``scale`` adapts the distribution to large ones, with ν μ and α / √ν. The loss of what is not a count is NaN.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> mean = rnn.distributions.NegativeBinomial().mean(jnp.zeros((7, 2, 2)), scale=jnp.array([[100.0], [1000.0]]))
        >>> mean[0, :, 0].round().tolist()  # of two series of different size
        [69.0, 693.0]

    Source: Salinas et al. (2020), "DeepAR: probabilistic forecasting with autoregressive recurrent networks",
    International Journal of Forecasting 36.
    """

    size = 2
    of_counts = True

    def parameters(self, outputs: Array, scale: Array | None = None) -> CountParameters:
        mean, overdispersion = map(positive, unstack(self._split(outputs)))
        root = None if scale is None else 1 / jnp.sqrt(jnp.asarray(scale))
        return CountParameters(multiply(mean, scale), multiply(overdispersion, root))

    def sample(self, key: Array, outputs: Array, scale: Array | None = None) -> Array:
        """Draw one count ``[..., D]``: of a Poisson distribution whose rate has a gamma distribution."""
        mean, α = self.parameters(outputs, scale)
        rate_key, count_key = jax.random.split(key)
        rate = jax.random.gamma(rate_key, 1 / α, mean.shape, mean.dtype) * α * mean
        return jax.random.poisson(count_key, rate, mean.shape).astype(mean.dtype)

    def mean(self, outputs: Array, scale: Array | None = None) -> Array:
        """The mean ``[..., D]``, not a whole number."""
        return self.parameters(outputs, scale).mean

    def _log_probability(self, parameters: CountParameters, targets: Array) -> Array:
        μ, α = parameters
        is_count = (targets >= 0) & (targets == jnp.round(targets))
        n = 1 / α
        y = jnp.where(is_count & (targets > 0), targets, 1)
        gammas = stirling_error(n + y) - stirling_error(n) - stirling_error(y)
        # deviances of n and y from their expectations among n + y
        expected_n, expected_y = (n + y) / (1 + α * μ), (n + y) * (α * μ / (1 + α * μ))
        deviances = _deviance(n, expected_n) + _deviance(y, expected_y)
        log_p = gammas - deviances - jnp.log(2 * math.pi * y * (1 + α * y)) / 2
        log_p = jnp.where(targets == 0, -n * jnp.log1p(α * μ), log_p)
        return jnp.where(is_count, log_p, jnp.nan)

    def _cdf(self, parameters: CountParameters, values: Array) -> Array:
        μ, α = parameters
        y = jnp.floor(values)
        return jnp.where(y < 0, 0, betainc(1 / α, jnp.maximum(y, 0) + 1, 1 / (1 + α * μ)))

    def _quantile(self, parameters: CountParameters, level: Array) -> Array:
        μ, α = parameters
        # Cantelli's inequality bounds the quantile: y ≤ μ + σ √(level / (1 - level)).
        high = jnp.ceil(μ + jnp.sqrt((μ + α * μ**2) * level / (1 - level))) + 1
        return bisect(lambda y: self._cdf(parameters, y) >= level, jnp.full_like(μ, -1.0), high, whole=True)


def _deviance(x: Array, expected: Array) -> Array:
    """``x log (x / expected) - x + expected``, without cancellation where both are close and large."""
    relative = (x - expected) / expected
    near = jnp.clip(relative, -0.5, 1.0)
    return jnp.where(
        near == relative,
        expected * ((1 + near) * jnp.log1p(near) - near),
        x * (jnp.log(x) - jnp.log(expected)) - x + expected,
    )
