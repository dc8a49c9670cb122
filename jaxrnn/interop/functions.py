"""Functions of other libraries as layers: an :class:`~jaxrnn.Activation` applies one to all steps at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn.activations import FUNCTIONS
from jaxrnn.checks import describe, refuse
from jaxrnn.layers import Activation


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
