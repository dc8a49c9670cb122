"""Mixed precision: parameters in one dtype, computation in a narrower one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters
from jaxrnn.layers.wrappers import Wrapper
from jaxrnn.precision import cast, cast_like
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State
from jaxrnn.unroll import one_step, over_time


@hyperparameters
class MixedPrecision(Wrapper):
    r"""A layer that computes in a narrower dtype than that of its parameters.

    .. math:: \tilde s_t, \tilde y_t = \mathrm{layer}(\tilde θ, \tilde s_{t-1}, \tilde x_t)

    where a tilde is a cast to ``compute_dtype``; :math:`s_t` and :math:`y_t` are cast back.

    Parameters, gradients, the optimizer state and the recurrent state between two calls keep their dtypes, by default
    float32; within a call all floating arrays have ``compute_dtype``. So small updates of a parameter are not rounded
    to 0, and the loss is computed from outputs in ``output_dtype``. Sums of many terms, such as the gradient of a bias,
    are accumulated in float32 (:mod:`jaxrnn.precision`). It wraps a whole model, or some of its layers; parameters and
    state are those of the layer.

    Args:
        layer: a cell or layer.
        compute_dtype: ``"bfloat16"``, which has the range of float32, or ``"float16"``, whose gradients are 0 below
            6e-8: scale the loss up and the gradients down.
        output_dtype: dtype of the outputs.

    Raises:
        TypeError, ValueError: the layer is not a hashable cell or layer, or a dtype is not a floating dtype.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.MixedPrecision(rnn.Stack(rnn.Embedding(65, 8), rnn.LSTM(8, 16), rnn.Linear(16, 65)))
        >>> params = model.init(jax.random.key(0))
        >>> final, logits = rnn.unroll(model, params, jnp.zeros((7, 2), int))
        >>> params[1].w_xh.dtype.name, final[1].c.dtype.name, logits.dtype.name
        ('float32', 'float32', 'float32')

    Source: Micikevicius et al. (2018), "Mixed precision training"; bfloat16: Kalamkar et al. (2019), "A study of
    BFLOAT16 for deep learning training".
    """

    layer: Any
    compute_dtype: str = "bfloat16"
    output_dtype: str = "float32"

    def __post_init__(self) -> None:
        checks.layer("layer", self.layer)
        for name in ("compute_dtype", "output_dtype"):
            object.__setattr__(self, name, checks.float_dtype(name, getattr(self, name)))

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> tuple[State, PyTree]:
        """One step of the layer in ``compute_dtype``."""
        params, narrow, x = self.narrow(params, state, x)
        new, y = one_step(self.layer, params, narrow, x, key)
        return cast_like(new, state), cast(y, self.output_dtype)

    def over_time(
        self, params: Params, state: State, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[State, PyTree, PyTree | None]:
        params, narrow, xs, initial = self.narrow(params, state, xs, options.initial)
        final, ys, states = over_time(self.layer, params, narrow, xs, options._replace(initial=initial), key)
        states = cast_like(states, state) if options.return_states else None
        return cast_like(final, state), cast(ys, self.output_dtype), states

    def narrow(self, *trees: PyTree) -> tuple[PyTree, ...]:
        """Trees with their floating arrays cast to ``compute_dtype``."""
        return cast(jax.tree.map(jnp.asarray, trees), self.compute_dtype)
