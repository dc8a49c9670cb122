"""Real values: normal, Student's t, and mixtures of normal distributions."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc, logsumexp
from jax.scipy.stats import norm

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters
from jaxrnn.distributions.base import Distribution, bisect, multiply, positive, repeat, stirling_error, unstack
from jaxrnn.types import Array


class LocationScale(NamedTuple):
    """Location and scale, each ``[..., D]``."""

    location: Array
    scale: Array


class StudentTParameters(NamedTuple):
    """Location, scale and degrees of freedom, each ``[..., D]``."""

    location: Array
    scale: Array
    degrees: Array


class MixtureParameters(NamedTuple):
    """Log weights, locations and scales of the components, each ``[..., D, K]``."""

    location: Array
    scale: Array
    log_weights: Array


@hyperparameters
class Gaussian(Distribution):
    r"""Normal distribution of real values.

    .. math:: μ = o_1, \qquad σ = \log(1 + e^{o_2}), \qquad
              -\log p(y) = \tfrac{1}{2} ((y - μ) / σ)^2 + \log σ + \tfrac{1}{2} \log 2 π

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> distribution = rnn.distributions.Gaussian()
        >>> outputs = jnp.zeros((7, 2, 3 * distribution.size))  # [T, B, D · size]
        >>> distribution.sample(jax.random.key(0), outputs).shape
        (7, 2, 3)
    """

    size = 2

    def parameters(self, outputs: Array, scale: Array | None = None) -> LocationScale:
        location, raw = unstack(self._split(outputs))
        return LocationScale(multiply(location, scale), multiply(positive(raw), scale))

    def sample(self, key: Array, outputs: Array, scale: Array | None = None) -> Array:
        """Draw one value ``[..., D]``."""
        location, deviation = self.parameters(outputs, scale)
        return location + deviation * jax.random.normal(key, location.shape, location.dtype)

    def mean(self, outputs: Array, scale: Array | None = None) -> Array:
        """The mean ``[..., D]``."""
        return self.parameters(outputs, scale).location

    def _log_probability(self, parameters: LocationScale, targets: Array) -> Array:
        return norm.logpdf(targets, *parameters)

    def _cdf(self, parameters: LocationScale, values: Array) -> Array:
        return norm.cdf(values, *parameters)

    def _quantile(self, parameters: LocationScale, level: Array) -> Array:
        return parameters.location + parameters.scale * norm.ppf(level)


@hyperparameters
class StudentT(Distribution):
    r"""Student's t distribution of real values, with heavier tails than the normal one: outliers weigh less.

    .. math:: μ = o_1, \qquad σ = \log(1 + e^{o_2}), \qquad ν = 2 + \log(1 + e^{o_3})

    More than 2 degrees of freedom ν have a finite variance.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> outputs = jnp.zeros((7, 2, 3))
        >>> rnn.distributions.StudentT().negative_log_likelihood(outputs, jnp.ones((7, 2, 1))).shape
        (7, 2, 1)
    """

    size = 3

    def parameters(self, outputs: Array, scale: Array | None = None) -> StudentTParameters:
        location, raw, degrees = unstack(self._split(outputs))
        return StudentTParameters(multiply(location, scale), multiply(positive(raw), scale), 2 + positive(degrees))

    def sample(self, key: Array, outputs: Array, scale: Array | None = None) -> Array:
        """Draw one value ``[..., D]``."""
        location, deviation, degrees = self.parameters(outputs, scale)
        return location + deviation * jax.random.t(key, degrees, location.shape, location.dtype)

    def mean(self, outputs: Array, scale: Array | None = None) -> Array:
        """The mean ``[..., D]``."""
        return self.parameters(outputs, scale).location

    def _log_probability(self, parameters: StudentTParameters, targets: Array) -> Array:
        location, scale, ν = parameters
        z = (targets - location) / scale
        gammas = stirling_error((ν + 1) / 2) - stirling_error(ν / 2) + ν / 2 * jnp.log1p(1 / ν) - 0.5
        constant = gammas - math.log(2 * math.pi) / 2 - jnp.log(scale)
        return constant - (ν + 1) / 2 * jnp.log1p(z**2 / ν)

    def _cdf(self, parameters: StudentTParameters, values: Array) -> Array:
        location, scale, ν = parameters
        return _student_cdf((values - location) / scale, ν)

    def _quantile(self, parameters: StudentTParameters, level: Array) -> Array:
        location, scale, ν = parameters
        tail = jnp.minimum(level, 1 - level)  # z ≤ 0 by symmetry, on the scale of sinh for the tails
        low, high = jnp.full_like(ν, -20.0), jnp.zeros_like(ν)
        z = jnp.sinh(bisect(lambda u: _student_cdf(jnp.sinh(u), ν) >= tail, low, high))
        return location + scale * jnp.where(level < 0.5, z, -z)


@hyperparameters
class Mixture(Distribution):
    r"""Mixture of K normal distributions: a mixture density network, for values with several likely ranges.

    .. math:: p(y) = \sum_k w_k \, \mathcal{N}(y; μ_k, σ_k^2), \qquad w = \mathrm{softmax}(o_1 … o_K)

    Locations are the next K outputs, and ``log(1 + exp(o))`` of the last K are the standard deviations.

    Args:
        components: K.

    Raises:
        TypeError, ValueError: ``components`` is not a positive int.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> distribution = rnn.distributions.Mixture(4)
        >>> distribution.size
        12
        >>> distribution.mean(jnp.zeros((7, 2, 12))).shape
        (7, 2, 1)

    Source: Bishop (1994), "Mixture density networks", Aston University NCRG/94/004.
    """

    components: int

    def __post_init__(self) -> None:
        checks.size("components", self.components)

    @property
    def size(self) -> int:
        return 3 * self.components

    def parameters(self, outputs: Array, scale: Array | None = None) -> MixtureParameters:
        logits, location, raw = jnp.split(self._split(outputs), 3, -1)
        if scale is not None:
            scale = jnp.broadcast_to(jnp.asarray(scale), location.shape[:-1])[..., None]
        return MixtureParameters(multiply(location, scale), multiply(positive(raw), scale), jax.nn.log_softmax(logits))

    def sample(self, key: Array, outputs: Array, scale: Array | None = None) -> Array:
        """Draw one value ``[..., D]``."""
        location, deviation, log_weights = self.parameters(outputs, scale)
        which, value = jax.random.split(key)
        component = jax.random.categorical(which, log_weights)[..., None]
        location, deviation = (jnp.take_along_axis(x, component, -1)[..., 0] for x in (location, deviation))
        return location + deviation * jax.random.normal(value, location.shape, location.dtype)

    def mean(self, outputs: Array, scale: Array | None = None) -> Array:
        """The mean ``[..., D]``."""
        location, _, log_weights = self.parameters(outputs, scale)
        return (jnp.exp(log_weights) * location).sum(-1)

    def _log_probability(self, parameters: MixtureParameters, targets: Array) -> Array:
        location, scale, log_weights = parameters
        return logsumexp(log_weights + norm.logpdf(repeat(targets, location), location, scale), axis=-1)

    def _cdf(self, parameters: MixtureParameters, values: Array) -> Array:
        location, scale, log_weights = parameters
        return (jnp.exp(log_weights) * norm.cdf(repeat(values, location), location, scale)).sum(-1)

    def _quantile(self, parameters: MixtureParameters, level: Array) -> Array:
        ends = parameters.location + parameters.scale * norm.ppf(level)  # it lies between those of the components
        return bisect(lambda y: self._cdf(parameters, y) >= level, ends.min(-1), ends.max(-1))


def _student_cdf(z: Array, ν: Array) -> Array:
    near = jnp.abs(z) < 1  # I_x(a, b) = 1 - I_{1 - x}(b, a): of the two that which is exact there
    a, b = jnp.where(near, 0.5, ν / 2), jnp.where(near, ν / 2, 0.5)
    part = betainc(a, b, jnp.where(near, z**2, ν) / (ν + z**2)) / 2
    tail = jnp.where(near, 0.5 - part, part)
    return jnp.where(z < 0, tail, 1 - tail)
