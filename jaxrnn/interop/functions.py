"""Functions of other libraries as layers: an :class:`~jaxrnn.Activation` applies one to all steps at once.

Those that jax lacks are here, hashable, and printed as the calls that make them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.checks import describe, refuse
from jaxrnn.constructor import hyperparameters
from jaxrnn.layers import Activation
from jaxrnn.layers.pointwise import FUNCTIONS
from jaxrnn.types import Array


def from_function(place: str, function: Any) -> Activation:
    """A function that acts on each vector of features by itself, as a layer; by its name where it has one here.

    Other functions are tried on an array ``[T, B, F]``: one that mixes steps or sequences is refused.
    """
    names = {id(known): name for name, known in FUNCTIONS.items()}
    if id(function) not in names:
        _same_by_vector(place, function)
    return Activation(names.get(id(function), function))


def to_function(function: str | Callable) -> Callable[[Any], Any]:
    """The function of an Activation or a VanillaRNN, which may be given by its name."""
    return function if callable(function) else FUNCTIONS[function]


def _same_by_vector(place: str, function: Callable[[Any], Any]) -> None:
    """Refuse a function of ``[T, B, F]`` that is not that of each vector ``[F]``, on an example."""
    x = jnp.linspace(-2, 2, 12).reshape(2, 2, 3)
    got = describe(function)
    try:
        by_vector = np.array([[function(vector) for vector in row] for row in x])
        same = by_vector.shape == x.shape and np.allclose(function(x), by_vector, rtol=1e-5, atol=1e-5)
    except Exception as error:  # whatever a user's function raises
        same, got = False, f"{got}, which raises {type(error).__name__}: {error}"
    if not same:
        refuse(place, "a function of each vector of features by itself, of any size, which it keeps", got,
               "convert the parts around it, and apply it between them")  # fmt: skip


# ---- functions that jax lacks ------------------------------------------------------------------------------------


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
