"""The gated recurrent unit, reset before or after the product."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn import checks, initializers
from jaxrnn.cells import common
from jaxrnn.cells.normalization import (
    LayerNormParams,
    ProjectionNorms,
    Standardized,
    along_input,
    centred_weights,
    init_layer_norm,
    layer_norm,
    tangent,
)
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.precision import add_bias
from jaxrnn.types import Array, Mask, PyTree, Recurrence, exportable, unmasked


@exportable
class GRUParams(NamedTuple):
    """``w_xh [I, 3H]``, ``w_hh [H, 3H]``, ``b_h [3H]`` or None, ``b_hh [3H]`` or None; gates z, r, h̃."""

    w_xh: Array
    w_hh: Array
    b_h: Array | None
    b_hh: Array | None
    layer_norm: ProjectionNorms | None = None


class GRUGates(NamedTuple):
    """Intermediate values of a step, each ``[..., H]``; with ``reset_after``, r multiplies ``h_h``.

    With layer norm ``hw`` and ``rhw`` are the standardized products ``h w`` and, without ``reset_after``,
    ``(r ⊙ h) w_h̃``.
    """

    z: Array
    r: Array
    candidate: Array
    h_h: Any  # LN(h w_hh̃) + b_hh̃; None without reset_after
    hw: Standardized | None
    rhw: Standardized | None


class RecurrentWeights(NamedTuple):
    """``w_hh``, ``b_hh`` and norm; with the reset before the product the columns of h̃ are apart, in ``…_candidate``."""

    w: Array
    w_candidate: Any  # None with reset_after
    b: Array | None
    norm: LayerNormParams | None = None
    norm_candidate: LayerNormParams | None = None


@hyperparameters
class GRU:
    r"""The gated recurrent unit: an update gate and a reset gate on one state.

    .. math::
        z &= σ([x_t, h_{t-1}] w_z + b_z) \\
        r &= σ([x_t, h_{t-1}] w_r + b_r) \\
        \tilde h &= \tanh([x_t, r ⊙ h_{t-1}] w_{\tilde h} + b_{\tilde h}) \\
        h_t &= (1 - z) ⊙ h_{t-1} + z ⊙ \tilde h

    z = 0 keeps the state, r = 0 ignores it in the candidate. With ``reset_after`` (cuDNN, PyTorch) the reset gate acts
    after the product, and every gate has a second bias: :math:`\tilde h = \tanh(x_t w_{x\tilde h} + b_{\tilde h}
    + r ⊙ (h_{t-1} w_{h\tilde h} + b_{hh}))`. The state is ``h [..., H]``, and so is the output.

    With *layer norm* (:mod:`jaxrnn.cells.normalization`) each of these products is normalized before the biases are
    added: those of z and r together, over 2H, those of the candidate over H:

    .. math::
        [z, r] &= σ(\mathrm{LN}(x_t w_{x}) + \mathrm{LN}(h_{t-1} w_{h}) + b) \\
        \tilde h &= \tanh(\mathrm{LN}(x_t w_{x\tilde h}) + b_{\tilde h}
                    + \mathrm{LN}((r ⊙ h_{t-1}) w_{h\tilde h})) \\
        \tilde h &= \tanh(\mathrm{LN}(x_t w_{x\tilde h}) + b_{\tilde h}
                    + r ⊙ (\mathrm{LN}(h_{t-1} w_{h\tilde h}) + b_{hh})) \quad \text{(reset\_after)}

    The paper's GRU is the last one.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of units.
        reset_after: whether the reset gate acts after the product with ``w_hh``.
        use_bias: whether there is a ``b_h``, and with ``reset_after`` a ``b_hh``.
        layer_norm: whether both projections are normalized; ``params.layer_norm`` are the gains and biases ``[3H]``,
            initially 1 and 0.
        w_xh_init, w_hh_init, b_h_init: initializers, by name or callable, gate by gate; ``b_hh`` is
            drawn by ``b_h_init`` too.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.GRU(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)))  # [T, B, I]
        >>> ys.shape, final.shape
        ((7, 2, 5), (2, 5))

    Source: Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder"; layer norm: Ba et al.
    (2016), the supplement.
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    reset_after: bool = False
    use_bias: bool = True
    layer_norm: bool = False
    w_xh_init: str | Initializer = "glorot_uniform"
    w_hh_init: str | Initializer = "orthogonal"
    b_h_init: str | Initializer = "zeros"
    dtype: str = "float32"

    num_gates: ClassVar[int] = 3

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.flag("reset_after", self.reset_after)
        checks.flag("layer_norm", self.layer_norm)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array) -> GRUParams:
        """Draw ``w_xh [I, 3H]``, ``w_hh [H, 3H]``, ``b_h [3H]``, with ``reset_after`` ``b_hh [3H]``; gains are 1."""
        keys = jax.random.split(key, 4)
        weights = common.init_weights(self, keys[:3], self.num_gates)
        b_hh = norms = None
        if self.use_bias and self.reset_after:
            b_hh = initializers.per_gate(
                "b_h_init", self.b_h_init, keys[3], self.num_gates, (self.hidden_size,), self.dtype
            )
        if self.layer_norm:
            size = self.num_gates * self.hidden_size
            norms = ProjectionNorms(init_layer_norm(size, self.dtype), init_layer_norm(size, self.dtype))
        return GRUParams(*weights, b_hh, norms)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Array:
        """``h_0 = 0``, of shape ``[*batch_shape, H]``."""
        return common.zero_state(self, batch_shape)

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "GRU")

    def step(self, params: GRUParams, state: Array, x: Array) -> tuple[Array, Array]:
        """One step: ``x [..., I]``, ``h [..., H]`` to the next ``h`` and the output, which is ``h``."""
        return self.masked_step(params, state, x)

    def masked_step(
        self, params: GRUParams, state: Array, x: Array, *, recurrent: Mask = unmasked, candidate: Mask = unmasked
    ) -> tuple[Array, Array]:
        """One step with ``recurrent(h)`` in the products and ``candidate(h̃)`` in the update, for dropout."""
        params, state = checks.step_arguments(self, params, state, x)
        params = centred_weights(params, self._norm_sizes)
        weights, z = self._recurrent_weights(params), self._input_projection(params, x)
        h, _ = self._equations(weights, state, z, recurrent, candidate)
        return h, h

    def gates(self, params: GRUParams, state: Array, x: Array) -> dict[str, Array]:
        """The gates z, r of one step, each ``[..., H]``, and ``keep = 1 - z``, the fraction of the state kept."""
        params = centred_weights(params, self._norm_sizes)
        _, gates = self._equations(self._recurrent_weights(params), state, self._input_projection(params, x))
        return {"z": gates.z, "r": gates.r, "keep": 1 - gates.z}

    def _equations(
        self, weights: RecurrentWeights, h: Array, input_projection: tuple[Array, ...],
        recurrent: Mask = unmasked, mask: Mask = unmasked,
    ) -> tuple[Array, GRUGates]:  # fmt: skip
        """The equations above, from ``h_{t-1}`` and the input projection ``x_t w_x + b`` of each gate."""
        x_z, x_r, x_h = input_projection
        h_read = recurrent(h)
        h_h: Any = None
        rhw = None
        if self.reset_after:
            product, hw = layer_norm(weights.norm, h_read @ weights.w, self._norm_sizes)
            h_z, h_r, h_h = common.split_gates(add_bias(product, weights.b), self._gate_sizes)
        else:
            product, hw = layer_norm(weights.norm, h_read @ weights.w)
            h_z, h_r = common.split_gates(product, self._gate_sizes[1:])
        z = sigmoid(x_z + h_z)
        r = sigmoid(x_r + h_r)
        if self.reset_after:
            product = r * h_h
        else:
            product, rhw = layer_norm(weights.norm_candidate, (r * h_read) @ weights.w_candidate)
        candidate = mask(tanh(x_h + product))
        return (1 - z) * h + z * candidate, GRUGates(z, r, candidate, h_h, hw, rhw)

    def _input_projection(self, params: GRUParams, x: Array) -> tuple[Array, ...]:
        """``x w_xh + b_h`` of z, r and h̃."""
        projection = common.input_projection(params, x, _norms(params).x, self._norm_sizes)
        return common.split_gates(projection, self._gate_sizes)

    def _recurrent_weights(self, params: GRUParams) -> RecurrentWeights:
        """The weights, the bias and the norms of the products with the state."""
        norm = _norms(params).h
        if self.reset_after:
            return RecurrentWeights(params.w_hh, None, params.b_hh, norm, None)
        w, w_candidate = common.split_gates(params.w_hh, self._norm_sizes)
        # without the barrier XLA moves the slices into the products of a loop: a CPU decoded at half the speed
        w, w_candidate = jax.lax.optimization_barrier((w, w_candidate))
        if norm is None:
            return RecurrentWeights(w, w_candidate, None, None, None)
        parts = zip(*(common.split_gates(p, self._norm_sizes) for p in jax.tree.leaves(norm)), strict=True)
        return RecurrentWeights(w, w_candidate, None, *(LayerNormParams(*part) for part in parts))

    @property
    def _gate_sizes(self) -> tuple[int, ...]:
        return (self.hidden_size,) * self.num_gates

    @property
    def _norm_sizes(self) -> tuple[int, ...]:
        """The blocks that are normalized: z and r together, and h̃."""
        return 2 * self.hidden_size, self.hidden_size

    # ---- the differential, for jaxrnn.bptt ----

    def precompute_projection(self, rows: int) -> bool:
        """Whether it is faster on a CPU, measured as :func:`jaxrnn.cells.common.should_precompute` describes.

        ==================  ======  =======  =======  ========  ========  ========  ========  ========
        ..                  1 × 32  1 × 128  16 × 32  32 × 128  20 × 200  64 × 256  32 × 512  8 × 1024
        ==================  ======  =======  =======  ========  ========  ========  ========  ========
        reset before           1.7      1.3      1.2       1.2       1.3       1.0       0.9       2.0
        reset after            1.1      1.3      1.1       1.2       1.2       1.2       1.0       1.9
        ==================  ======  =======  =======  ========  ========  ========  ========  ========

        The gradient took 1.1 times as long with the projection before the scan at 64 × 256 and 32 × 512.
        """
        return rows * self.hidden_size <= 8192

    def recurrence(self, params: GRUParams, xs: Array) -> tuple[PyTree, Recurrence]:
        """The step; its residuals are the gates."""
        params = centred_weights(params, self._norm_sizes)
        weights = self._recurrent_weights(params)
        if common.should_precompute(self, xs):
            return self._input_projection(params, xs), lambda h, z: self._equations(weights, h, z)
        return xs, lambda h, x: self._equations(weights, h, self._input_projection(params, x))

    def output(self, h: Array, residuals: Any) -> Array:
        """The state is the output."""
        return h

    def differential(
        self, params: GRUParams, dparams: GRUParams, xs: Array, dxs: Array | None,
        before: Array, after: Array, gates: GRUGates,
    ) -> tuple[PyTree, Recurrence]:  # fmt: skip
        """``v = dx w_xh + x dw_xh + db_h``, plus ``h_{t-1} dw_hh`` with the reset gate as in the equations."""
        params, dparams = (centred_weights(p, self._norm_sizes) for p in (params, dparams))
        weights, dweights = self._recurrent_weights(params), self._recurrent_weights(dparams)
        sizes = self._norm_sizes if self.reset_after else ()
        v_h = tangent(weights.norm, dweights.norm, gates.hw, common.weight_tangent(before, dweights.w), sizes)
        if self.reset_after:
            v_hz, v_hr, v_hh = common.split_gates(add_bias(v_h, dweights.b), self._gate_sizes)
            v_h = jnp.concatenate([v_hz, v_hr, gates.r * v_hh], -1)
        else:
            v_hh = common.weight_tangent(gates.r * before, dweights.w_candidate)
            v_h = jnp.concatenate([v_h, tangent(weights.norm_candidate, dweights.norm_candidate, gates.rhw, v_hh)], -1)
        norm, dnorm = _norms(params).x, _norms(dparams).x
        v = common.input_projection_tangent(params, dparams, xs, dxs, norm, dnorm, self._norm_sizes) + v_h
        matmuls = [common.right_matmul(w) for w in weights[:2] if w is not None]
        return (before, gates, v), lambda dh, inputs: self._tangent(weights, matmuls, dh, *inputs)

    def _tangent(
        self, weights: RecurrentWeights, matmuls: list, dh: Array, before: Array, gates: GRUGates, v: Array
    ) -> tuple[Array, Array]:
        """The differential of the equations, line by line; ``matmuls`` multiply by the recurrent weights."""
        z, r, candidate, h_h, hw, rhw = gates
        v_z, v_r, v_h = common.split_gates(v, self._gate_sizes)
        if self.reset_after:
            dhw = along_input(weights.norm, hw, matmuls[0](dh), self._norm_sizes)
            dh_z, dh_r, dh_h = common.split_gates(dhw, self._gate_sizes)
        else:
            dh_z, dh_r = common.split_gates(along_input(weights.norm, hw, matmuls[0](dh)), self._gate_sizes[1:])
        dz = z * (1 - z) * (v_z + dh_z)
        dr = r * (1 - r) * (v_r + dh_r)
        if self.reset_after:
            dproduct = r * dh_h + h_h * dr
        else:
            dproduct = along_input(weights.norm_candidate, rhw, matmuls[1](r * dh + before * dr))
        dcandidate = (1 - candidate**2) * (v_h + dproduct)
        dh = (1 - z) * dh + (candidate - before) * dz + z * dcandidate
        return dh, dh


def _norms(params: GRUParams) -> ProjectionNorms:
    """The layer norms of both projections, None for each without them."""
    return params.layer_norm or ProjectionNorms()
