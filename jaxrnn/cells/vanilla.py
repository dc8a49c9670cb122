"""The vanilla (Elman) recurrent network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.cells import common
from jaxrnn.cells.normalization import LayerNormParams, affine, along_input, centred_weights, layer_norm, tangent
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.types import Array, Mask, PyTree, Recurrence, exportable, unmasked

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}
SLOPES: dict[str, Callable[[Array], Array]] = {  # f'(a) from h = f(a)
    "tanh": lambda h: 1 - h**2,
    "relu": lambda h: (h > 0).astype(h.dtype),
    "sigmoid": lambda h: h * (1 - h),
}


@exportable
class VanillaParams(NamedTuple):
    """``w_xh [I, H]``, ``w_hh [H, H]``, ``b_h [H]`` or None; with layer norm its gain, and the bias is in there."""

    w_xh: Array
    w_hh: Array
    b_h: Array | None
    layer_norm: LayerNormParams | None = None


@hyperparameters
class VanillaRNN:
    r"""The vanilla (Elman) recurrent network.

    .. math:: h_t = f(h_{t-1} w_{hh} + x_t w_{xh} + b_h)

    With *layer norm* the sum of both projections is normalized, and ``b_h`` is the bias of the norm:
    :math:`h_t = f(\mathrm{LN}(h_{t-1} w_{hh} + x_t w_{xh}))` (:mod:`jaxrnn.cells.normalization`). The state is
    ``h [..., H]``, and so is the output.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of units.
        activation: f: ``"tanh"``, ``"relu"``, ``"sigmoid"`` or any elementwise callable.
        use_bias: whether there is a ``b_h``.
        layer_norm: whether the pre-activations are normalized; ``params.layer_norm`` is their gain and bias.
        w_xh_init, w_hh_init, b_h_init: initializers, by name or callable (:mod:`jaxrnn.initializers`);
            ``w_hh_init="identity"`` is the usual start of a ReLU network (Le et al. 2015).
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(3, 5, activation="relu", w_hh_init="identity")
        >>> params = cell.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)))  # [T, B, I]
        >>> ys.shape, final.shape
        ((7, 2, 5), (2, 5))

    Source: Elman (1990), "Finding structure in time", Cognitive Science 14; layer norm: Ba et al. (2016), equation 4.
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    activation: str | Callable[[Array], Array] = "tanh"
    use_bias: bool = True
    layer_norm: bool = False
    w_xh_init: str | Initializer = "glorot_uniform"
    w_hh_init: str | Initializer = "orthogonal"
    b_h_init: str | Initializer = "zeros"
    dtype: str = "float32"

    num_gates: ClassVar[int] = 1

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.flag("layer_norm", self.layer_norm)
        checks.function_or_name("activation", self.activation, ACTIVATIONS)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array) -> VanillaParams:
        """Draw ``w_xh [I, H]``, ``w_hh [H, H]`` and ``b_h [H]``; a gain is 1."""
        w_xh, w_hh, b_h = common.init_weights(self, jax.random.split(key, 3), self.num_gates)
        if not self.layer_norm:
            return VanillaParams(w_xh, w_hh, b_h)
        return VanillaParams(w_xh, w_hh, None, LayerNormParams(jnp.ones(self.hidden_size, self.dtype), b_h))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Array:
        """``h_0 = 0``, of shape ``[*batch_shape, H]``."""
        return common.zero_state(self, batch_shape)

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "VanillaRNN")

    def step(self, params: VanillaParams, state: Array, x: Array) -> tuple[Array, Array]:
        """One step: ``x [..., I]``, ``h [..., H]`` to the next ``h`` and the output, which is ``h``."""
        return self.masked_step(params, state, x)

    def masked_step(
        self, params: VanillaParams, state: Array, x: Array, *, recurrent: Mask = unmasked, candidate: Mask = unmasked
    ) -> tuple[Array, Array]:
        """One step with ``recurrent(h_{t-1})`` in the product and ``candidate(h_t)``, for dropout."""
        params, state = checks.step_arguments(self, params, state, x)
        params = centred_weights(params)
        a = recurrent(state) @ params.w_hh + common.input_projection(params, x)
        h = candidate(self._f(layer_norm(params.layer_norm, a)[0]))
        return h, h

    def mask_state(self, state: Array, mask: Array) -> Array:
        """``h ⊙ mask``: h enters the equation by the product alone."""
        return state * mask

    # ---- the differential, for jaxrnn.bptt ----

    def precompute_projection(self, rows: int) -> bool:
        """Whether it is faster on a CPU, measured as :func:`jaxrnn.cells.common.should_precompute` describes.

        ==================  ======  =======  =======  ========  ========  ========  ========  ========
        ..                  1 × 32  1 × 128  16 × 32  32 × 128  20 × 200  64 × 256  32 × 512  8 × 1024
        ==================  ======  =======  =======  ========  ========  ========  ========  ========
        vanilla                0.9      1.2      0.9       1.3       1.3       1.3       1.1       1.1
        ==================  ======  =======  =======  ========  ========  ========  ========  ========
        """
        return self.hidden_size > 32

    def recurrence(self, params: VanillaParams, xs: Array) -> tuple[PyTree, Recurrence]:
        """The step; its residual is ``a = h_{t-1} w_hh + x_t w_xh + b_h`` where the differential needs more than h.

        With layer norm it is the standardized a.
        """
        params = centred_weights(params)
        precomputed = common.should_precompute(self, xs)

        def step(h: Array, z: Array) -> tuple[Array, Any]:
            a = h @ params.w_hh + (z if precomputed else common.input_projection(params, z))
            if self.layer_norm:
                a, â = layer_norm(params.layer_norm, a)
                return self._f(a), â
            return self._f(a), None if isinstance(self.activation, str) else a

        return common.input_projection(params, xs) if precomputed else xs, step

    def output(self, h: Array, residuals: Any) -> Array:
        """The state is the output."""
        return h

    def differential(
        self, params: VanillaParams, dparams: VanillaParams, xs: Array, dxs: Array | None,
        before: Array, after: Array, a: Any,
    ) -> tuple[PyTree, Recurrence]:  # fmt: skip
        """``v = dx w_xh + x dw_xh + db_h + h_{t-1} dw_hh``, and ``dh_t = f'(a) ⊙ (dh_{t-1} w_hh + v)``.

        With layer norm, ``dh_t = f'(LN(a)) ⊙ (LN'(a) dh_{t-1} w_hh + v)``, and v is normalized too.
        """
        params, dparams = centred_weights(params), centred_weights(dparams)
        norm = params.layer_norm
        v = common.input_projection_tangent(params, dparams, xs, dxs) + common.weight_tangent(before, dparams.w_hh)
        if norm is not None:
            v = tangent(norm, dparams.layer_norm, a, v)
        matmul_w_hh = common.right_matmul(params.w_hh)

        def step(dh: Array, inputs: tuple) -> tuple[Array, Array]:
            after, a, v = inputs
            da = along_input(norm, a, matmul_w_hh(dh)) + v
            if isinstance(self.activation, str):
                dh = SLOPES[self.activation](after) * da
            else:
                dh = jax.jvp(self._f, (a if norm is None else affine(norm, a),), (da,))[1]
            return dh, dh

        return (after, a, v), step

    @property
    def _f(self) -> Callable[[Array], Array]:
        return ACTIVATIONS[self.activation] if isinstance(self.activation, str) else self.activation
