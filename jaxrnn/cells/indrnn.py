"""The independently recurrent network: every unit sees its own past only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks, initializers
from jaxrnn.cells import common
from jaxrnn.cells.vanilla import ACTIVATIONS, SLOPES
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.precision import broadcast_rows
from jaxrnn.types import Array, Mask, PyTree, Recurrence, exportable, unmasked


@exportable
class IndRNNParams(NamedTuple):
    """``w_xh [I, H]``, ``w_hh [H]``, ``b_h [H]`` or None."""

    w_xh: Array
    w_hh: Array
    b_h: Array | None


@hyperparameters
class IndRNN:
    r"""The independently recurrent network: the recurrent weights are a vector, one weight for each unit.

    .. math:: h_t = f(x_t w_{xh} + u ⊙ h_{t-1} + b_h)

    u is ``w_hh``, or ``w_hh`` clipped to ``±recurrent_max``. Over T steps a unit multiplies the gradient by at most
    :math:`|u|^T`, so :math:`|u| ≤ 2^{1/T}` bounds it by 2 (for ReLU): ``recurrent_max=2 ** (1 / T)`` for sequences of T
    steps. Units mix in the next layer only: stack two or more. The state is ``h [..., H]``, and so is the output.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of units.
        activation: f: ``"tanh"``, ``"relu"``, ``"sigmoid"`` or any elementwise callable.
        recurrent_max: the largest ``|u|``; None: not bounded. A weight beyond it has no gradient.
        use_bias: whether there is a ``b_h``.
        w_xh_init, w_hh_init, b_h_init: initializers, by name or callable (:mod:`jaxrnn.initializers`); u is drawn from
            [0, 1]. In a last layer that is read after T steps only, the paper draws it near 1:
            ``w_hh_init=uniform(2 ** (1 / T), low=0.5 ** (1 / T))``.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> bound = 2 ** (1 / 7)
        >>> model = rnn.Stack(rnn.IndRNN(3, 5, recurrent_max=bound), rnn.IndRNN(5, 5, recurrent_max=bound))
        >>> params = model.init(jax.random.key(0))
        >>> params[0].w_hh.shape
        (5,)
        >>> final, ys = rnn.unroll(model, params, jnp.ones((7, 2, 3)))  # [T, B, I]
        >>> ys.shape, final[0].shape
        ((7, 2, 5), (2, 5))

    Source: Li et al. (2018), "Independently recurrent neural network (IndRNN): building a longer and deeper RNN".
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    activation: str | Callable[[Array], Array] = "relu"
    recurrent_max: float | None = None
    use_bias: bool = True
    w_xh_init: str | Initializer = "glorot_uniform"
    w_hh_init: str | Initializer = initializers.uniform(1.0, low=0.0)
    b_h_init: str | Initializer = "zeros"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.function_or_name("activation", self.activation, ACTIVATIONS)
        if self.recurrent_max is not None:
            checks.number("recurrent_max", self.recurrent_max)
            if self.recurrent_max <= 0:
                checks.refuse("recurrent_max", "a number above 0", self.recurrent_max, "None sets no bound")

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array) -> IndRNNParams:
        """Draw ``w_xh [I, H]``, ``w_hh [H]`` and ``b_h [H]``."""
        keys, H = jax.random.split(key, 3), self.hidden_size
        return IndRNNParams(
            initializers.draw("w_xh_init", self.w_xh_init, keys[0], (self.input_size, H), self.dtype),
            initializers.draw("w_hh_init", self.w_hh_init, keys[1], (H,), self.dtype),
            initializers.draw("b_h_init", self.b_h_init, keys[2], (H,), self.dtype) if self.use_bias else None,
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Array:
        """``h_0 = 0``, of shape ``[*batch_shape, H]``."""
        return common.zero_state(self, batch_shape)

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "IndRNN")

    def step(self, params: IndRNNParams, state: Array, x: Array) -> tuple[Array, Array]:
        """One step: ``x [..., I]``, ``h [..., H]`` to the next ``h`` and the output, which is ``h``."""
        return self.masked_step(params, state, x)

    def masked_step(
        self, params: IndRNNParams, state: Array, x: Array, *, recurrent: Mask = unmasked, candidate: Mask = unmasked
    ) -> tuple[Array, Array]:
        """One step with ``recurrent(h_{t-1})`` in the product with u and ``candidate(h_t)``, for dropout."""
        params, state = checks.step_arguments(self, params, state, x)
        u = broadcast_rows(self._u(params.w_hh), state)
        h = candidate(self._f(common.input_projection(params, x) + u * recurrent(state)))
        return h, h

    def mask_state(self, state: Array, mask: Array) -> Array:
        """``h ⊙ mask``: h enters the equation by the product alone."""
        return state * mask

    # ---- the differential, for jaxrnn.bptt ----

    def recurrence(self, params: IndRNNParams, xs: Array) -> tuple[PyTree, Recurrence]:
        """The step; its residual is ``a = x_t w_xh + u ⊙ h_{t-1} + b_h`` where f'(a) is no function of ``f(a)``.

        The input projection is computed before the scan, which has no other product.
        """
        w_hh = self._u(params.w_hh)

        def step(h: Array, z: Array) -> tuple[Array, Array | None]:
            a = z + broadcast_rows(w_hh, h) * h
            return self._f(a), None if isinstance(self.activation, str) else a

        return common.input_projection(params, xs), step

    def output(self, h: Array, residuals: Any) -> Array:
        """The state is the output."""
        return h

    def differential(
        self, params: IndRNNParams, dparams: IndRNNParams, xs: Array, dxs: Array | None,
        before: Array, after: Array, a: Any,
    ) -> tuple[PyTree, Recurrence]:  # fmt: skip
        """``v = dx w_xh + x dw_xh + db_h + h_{t-1} ⊙ du``, and ``dh_t = f'(a) ⊙ (u ⊙ dh_{t-1} + v)``."""
        u, du = jax.jvp(self._u, (params.w_hh,), (dparams.w_hh,))
        v = common.input_projection_tangent(params, dparams, xs, dxs) + broadcast_rows(du, before) * before

        def step(dh: Array, inputs: tuple) -> tuple[Array, Array]:
            after, a, v = inputs
            da = broadcast_rows(u, dh) * dh + v
            if isinstance(self.activation, str):
                dh = SLOPES[self.activation](after) * da
            else:
                dh = jax.jvp(self._f, (a,), (da,))[1]
            return dh, dh

        return (after, a, v), step

    def _u(self, w_hh: Array) -> Array:
        """The recurrent weights, within their bound."""
        return w_hh if self.recurrent_max is None else jnp.clip(w_hh, -self.recurrent_max, self.recurrent_max)

    @property
    def _f(self) -> Callable[[Array], Array]:
        return ACTIVATIONS[self.activation] if isinstance(self.activation, str) else self.activation
