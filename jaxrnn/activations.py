"""Activation functions: by name, and with parameters: hashable, printed as the calls that make them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrnn.cells.vanilla import ACTIVATIONS
from jaxrnn.constructor import hyperparameters
from jaxrnn.types import Array

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    **ACTIVATIONS,
    "softmax": jax.nn.softmax,  # these over the features
    "log_softmax": jax.nn.log_softmax,
}


@hyperparameters
class Elu:
    """``x`` where it is at least 0, else ``alpha (e^x - 1)``."""

    alpha: float = 1.0

    def __call__(self, x: Array) -> Array:
        return jax.nn.elu(x, self.alpha)


@hyperparameters
class Gelu:
    """``x Φ(x)`` with the distribution function of a normal variable, not its approximation by tanh."""

    def __call__(self, x: Array) -> Array:
        return jax.nn.gelu(x, approximate=False)


@hyperparameters
class LeakyRelu:
    """``x`` where it is above 0, else ``alpha x``; the derivative at 0 is alpha, as in PyTorch."""

    alpha: float = 0.01

    def __call__(self, x: Array) -> Array:
        return jnp.where(x > 0, x, self.alpha * x)


@hyperparameters
class Softplus:
    """``log(1 + e^(beta x)) / beta``, and ``x`` where ``beta x`` is above ``threshold``."""

    beta: float = 1.0
    threshold: float = 20.0

    def __call__(self, x: Array) -> Array:
        scaled = self.beta * x
        return jnp.where(scaled > self.threshold, x, jax.nn.softplus(scaled) / self.beta)


@hyperparameters
class Affine:
    """``alpha x + beta``."""

    alpha: float
    beta: float

    def __call__(self, x: Array) -> Array:
        return self.alpha * x + self.beta


@hyperparameters
class ThresholdedRelu:
    """``x`` where it is above ``alpha``, else 0."""

    alpha: float = 1.0

    def __call__(self, x: Array) -> Array:
        return jnp.where(x > self.alpha, x, 0)


@hyperparameters
class ScaledTanh:
    """``alpha tanh(beta x)``."""

    alpha: float
    beta: float

    def __call__(self, x: Array) -> Array:
        return self.alpha * jnp.tanh(self.beta * x)


@hyperparameters
class HardSigmoid:
    """``alpha x + beta``, at least 0 and at most 1."""

    alpha: float = 0.2
    beta: float = 0.5

    def __call__(self, x: Array) -> Array:
        return jnp.clip(self.alpha * x + self.beta, 0, 1)


@hyperparameters
class Clipped:
    """``f(x)`` with x limited to ``[-limit, limit]``: the attribute ``clip`` of an RNN."""

    function: str | Callable[[Array], Array]
    limit: float

    def __call__(self, x: Array) -> Array:
        f = self.function if callable(self.function) else FUNCTIONS[self.function]
        return f(jnp.clip(x, -self.limit, self.limit))
