"""The activation functions of ONNX that jaxrnn has no names for: hashable, and printed as the calls that make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.constructor import hyperparameters
from jaxrnn.interop.functions import Elu, LeakyRelu
from jaxrnn.layers.pointwise import FUNCTIONS
from jaxrnn.types import Array


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


NAMES: dict[str, Any] = {  # of ONNX, and what they are here
    "Tanh": "tanh",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Softsign": jax.nn.soft_sign,
    "Softplus": jax.nn.softplus,
}
SCALED = {kind.__name__: kind for kind in (Affine, LeakyRelu, ThresholdedRelu, ScaledTanh, HardSigmoid, Elu)}
