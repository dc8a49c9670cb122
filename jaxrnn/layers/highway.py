"""Highway layers: a gate between a layer and its input."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks, initializers
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.layers.wrappers import Wrapper
from jaxrnn.precision import add_bias
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State, exportable
from jaxrnn.unroll import one_step, over_time


@exportable
class HighwayParams(NamedTuple):
    """The layer's parameters, and the transform gate's ``w_t [I, I]`` and ``b_t [I]``."""

    layer: Params
    w_t: Array
    b_t: Array


@hyperparameters
class Highway(Wrapper):
    r"""A layer with a gated connection past it.

    .. math::
        t &= σ(x w_t + b_t) \\
        y &= t ⊙ F(x) + (1 - t) ⊙ x

    The gate starts mostly closed, so that a deep stack starts near the identity and can be trained. The state is that
    of the layer.

    Args:
        layer: a cell or layer whose outputs have the size of its inputs.
        transform_bias: the first value of ``b_t``.
        w_init: initializer of ``w_t``, by name or callable.
        dtype: dtype of ``w_t`` and ``b_t``.

    Raises:
        TypeError, ValueError: an argument is of the wrong type; input and output size differ or are unknown.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Linear(3, 8), *[rnn.Highway(rnn.LSTM(8, 8))] * 4)
        >>> final, ys = rnn.unroll(model, model.init(jax.random.key(0)), jnp.ones((7, 2, 3)))
        >>> ys.shape
        (7, 2, 8)

    Source: Srivastava, Greff & Schmidhuber (2015), "Highway networks".
    """

    layer: Any
    _: dataclasses.KW_ONLY
    transform_bias: float = -1.0
    w_init: str | Initializer = "glorot_uniform"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        checks.layer("layer", self.layer)
        checks.number("transform_bias", self.transform_bias)
        checks.initializer("w_init", self.w_init, initializers.NAMED)
        object.__setattr__(self, "dtype", checks.float_dtype("dtype", self.dtype))
        if self.input_size is None or self.input_size != self.output_size:
            sizes = f"{self.input_size} and {self.output_size}"
            checks.refuse("layer", "an input_size, and an output_size equal to it", sizes, "the gate mixes them")

    def init(self, key: Array) -> HighwayParams:
        """Draw the parameters of the layer and ``w_t [I, I]``; ``b_t [I]`` is ``transform_bias``."""
        layer_key, w_key = jax.random.split(key)
        size: Any = self.input_size
        w_t = initializers.draw("w_init", self.w_init, w_key, (size, size), self.dtype)
        return HighwayParams(self.layer.init(layer_key), w_t, jnp.full(size, self.transform_bias, self.dtype))

    def step(self, params: HighwayParams, state: State, x: Array, *, key: Array | None = None) -> tuple[State, Array]:
        """One step of the layer, mixed with its input."""
        state, y = one_step(self.layer, params.layer, state, x, key)
        return state, _mix(params, x, y)

    def over_time(
        self, params: HighwayParams, state: State, xs: Array, options: ScanOptions, key: Array | None
    ) -> tuple[State, Array, PyTree | None]:
        final, ys, states = over_time(self.layer, params.layer, state, xs, options, key)
        return final, _mix(params, xs, ys), states


def _mix(params: HighwayParams, x: Array, y: Array) -> Array:
    """``t ⊙ y + (1 - t) ⊙ x``; 0 in the padding, where both are."""
    t = jax.nn.sigmoid(add_bias(x @ params.w_t, params.b_t))
    return t * y + (1 - t) * x
