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
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.precision import broadcast_rows
from jaxrnn.types import Array, PyTree, Recurrence, exportable


@exportable
class GRUParams(NamedTuple):
    """``w_xh [I, 3H]``, ``w_hh [H, 3H]``, ``b_h [3H]`` or None, ``b_hh [3H]`` or None; gates z, r, h̃."""

    w_xh: Array
    w_hh: Array
    b_h: Array | None
    b_hh: Array | None


class GRUGates(NamedTuple):
    """What a step computes on its way, each ``[..., H]``; ``h_h``, with ``reset_after``, is what r multiplies."""

    z: Array
    r: Array
    candidate: Array
    h_h: Array | None


class StateProjection(NamedTuple):
    """Weights and bias of the products with the state; ``w_candidate`` where the reset comes before the product."""

    w: Array
    w_candidate: Array | None
    b: Array | None


@hyperparameters
class GRU:
    r"""The gated recurrent unit: one state, that an update gate renews and a reset gate hides.

    .. math::
        z &= σ([x_t, h_{t-1}] w_z + b_z) \\
        r &= σ([x_t, h_{t-1}] w_r + b_r) \\
        \tilde h &= \tanh([x_t, r ⊙ h_{t-1}] w_{\tilde h} + b_{\tilde h}) \\
        h_t &= (1 - z) ⊙ h_{t-1} + z ⊙ \tilde h

    z → 0 keeps the state, r → 0 forgets the past. With ``reset_after`` (cuDNN, PyTorch) the reset gate acts after
    the product, and every gate has a second bias: :math:`\tilde h = \tanh(x_t w_{x\tilde h} + b_{\tilde h}
    + r ⊙ (h_{t-1} w_{h\tilde h} + b_{hh}))`. The state is ``h [..., H]``, and so is the output.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the units of the state.
        reset_after: whether the reset gate acts after the product with ``w_hh``.
        use_bias: whether there is a ``b_h``, and with ``reset_after`` a ``b_hh``.
        w_xh_init, w_hh_init, b_h_init: initializers, by name or callable, gate by gate; ``b_hh`` is
            drawn by ``b_h_init`` too.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.GRU(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)))  # [T, B, I]
        >>> ys.shape, final.shape
        ((7, 2, 5), (2, 5))

    Source: Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder".
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    reset_after: bool = False
    use_bias: bool = True
    w_xh_init: str | Initializer = "glorot_uniform"
    w_hh_init: str | Initializer = "orthogonal"
    b_h_init: str | Initializer = "zeros"
    dtype: str = "float32"

    blocks: ClassVar[int] = 3

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.flag("reset_after", self.reset_after)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array) -> GRUParams:
        """Draw ``w_xh [I, 3H]``, ``w_hh [H, 3H]``, ``b_h [3H]`` and, with ``reset_after``, ``b_hh [3H]``."""
        keys = jax.random.split(key, 4)
        drawn = common.init_weights(self, keys[:3], self.blocks)
        b_hh = None
        if self.use_bias and self.reset_after:
            b_hh = initializers.per_gate(
                "b_h_init", self.b_h_init, keys[3], self.blocks, (self.hidden_size,), self.dtype
            )
        return GRUParams(*drawn, b_hh)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Array:
        """``h_0 = 0``, of shape ``[*batch_shape, H]``."""
        return common.zero_state(self, batch_shape)

    def check_input(self, argument: str, x: Array) -> None:
        """Refuse an input whose last axis is not I."""
        checks.features(argument, x, self.input_size, "GRU")

    def step(self, params: GRUParams, state: Array, x: Array) -> tuple[Array, Array]:
        """One step: ``x [..., I]``, ``h [..., H]`` to the next ``h`` and the output, which is ``h``."""
        params, state = checks.step_arguments(self, params, state, x)
        h, _ = self._equations(self._state_projection(params), state, self._input_projection(params, x))
        return h, h

    def gates(self, params: GRUParams, state: Array, x: Array) -> dict[str, Array]:
        """The gates z, r of one step, each ``[..., H]``, and ``keep``: the share of the state that stays, 1 - z."""
        _, gates = self._equations(self._state_projection(params), state, self._input_projection(params, x))
        return {"z": gates.z, "r": gates.r, "keep": 1 - gates.z}

    def _equations(self, of_h: StateProjection, h: Array, x: common.Blocks) -> tuple[Array, GRUGates]:
        """The equations above, from ``h_{t-1}`` and the parts of the gates that the input makes."""
        x_z, x_r, x_h = x
        h_h: Any = None
        if of_h.w_candidate is None:
            product = h @ of_h.w
            product = product if of_h.b is None else product + broadcast_rows(of_h.b, product)
            h_z, h_r, h_h = common.split_gates(product, self._each)
        else:
            h_z, h_r = common.split_gates(h @ of_h.w, self._each[1:])
        z = sigmoid(x_z + h_z)
        r = sigmoid(x_r + h_r)
        candidate = tanh(x_h + (r * h_h if of_h.w_candidate is None else (r * h) @ of_h.w_candidate))
        return (1 - z) * h + z * candidate, GRUGates(z, r, candidate, h_h)

    def _input_projection(self, params: GRUParams, x: Array) -> common.Blocks:
        """The parts of z, r and h̃ that the input makes."""
        return common.split_gates(common.project(params, x), self._each)

    def _state_projection(self, params: GRUParams) -> StateProjection:
        """What multiplies the state: with the reset before the product, gates and candidate apart."""
        if self.reset_after:
            return StateProjection(params.w_hh, None, params.b_hh)
        w, w_candidate = common.split_gates(params.w_hh, (2 * self.hidden_size, self.hidden_size))
        # held apart, or XLA puts the slices into the products of a loop: a CPU decoded at half the speed
        w, w_candidate = jax.lax.optimization_barrier((w, w_candidate))
        return StateProjection(w, w_candidate, None)

    @property
    def _each(self) -> tuple[int, ...]:
        return (self.hidden_size,) * self.blocks

    # ---- the differential, for jaxrnn.bptt ----

    def precompute_projection(self, rows: int) -> bool:
        """Measured on a CPU, see :func:`jaxrnn.cells.common.precompute_projection`.

        ==================  ======  =======  =======  ========  ========  ========  ========  ========
        ..                  1 × 32  1 × 128  16 × 32  32 × 128  20 × 200  64 × 256  32 × 512  8 × 1024
        ==================  ======  =======  =======  ========  ========  ========  ========  ========
        reset before           1.7      1.3      1.2       1.2       1.3       1.0       0.9       2.0
        reset after            1.1      1.3      1.1       1.2       1.2       1.2       1.0       1.9
        ==================  ======  =======  =======  ========  ========  ========  ========  ========

        The gradient took 1.1 times as long with the product before the scan at 64 × 256 and 32 × 512.
        """
        return rows * self.hidden_size <= 8192

    def recurrence(self, params: GRUParams, xs: Array) -> tuple[PyTree, Recurrence]:
        """The step, with its gates."""
        of_h = self._state_projection(params)
        if common.precompute_projection(self, xs):
            return self._input_projection(params, xs), lambda h, z: self._equations(of_h, h, z)
        return xs, lambda h, x: self._equations(of_h, h, self._input_projection(params, x))

    def output(self, h: Array, residuals: Any) -> Array:
        """The state is the output."""
        return h

    def differential(
        self, params: GRUParams, dparams: GRUParams, xs: Array, dxs: Array | None,
        before: Array, after: Array, gates: GRUGates,
    ) -> tuple[PyTree, Recurrence]:  # fmt: skip
        """``v = dx w_xh + x dw_xh + db_h``, and ``h_{t-1} dw_hh`` with the reset gate in its place."""
        of_h, dof_h = self._state_projection(params), self._state_projection(dparams)
        product = common.weight_tangent(before, dof_h.w)
        matmul_by = [common.matmul_by(w) for w in of_h[:2] if w is not None]
        if dof_h.w_candidate is None:
            product = product if dof_h.b is None else product + broadcast_rows(dof_h.b, product)
            v_z, v_r, v_h = common.split_gates(product, self._each)
            parts = [v_z, v_r, gates.r * v_h]
        else:
            parts = [product, common.weight_tangent(gates.r * before, dof_h.w_candidate)]
        v = common.projection_tangent(params, dparams, xs, dxs) + jnp.concatenate(parts, -1)
        return (before, gates, v), lambda dh, at: self._tangent(matmul_by, dh, *at)

    def _tangent(self, matmul_by: list, dh: Array, before: Array, gates: GRUGates, v: Array) -> tuple[Array, Array]:
        """The differential of the equations, line by line."""
        z, r, candidate, h_h = gates
        v_z, v_r, v_h = common.split_gates(v, self._each)
        d_z, d_r, *d_h = common.split_gates(matmul_by[0](dh), self._each if self.reset_after else self._each[1:])
        dz = z * (1 - z) * (v_z + d_z)
        dr = r * (1 - r) * (v_r + d_r)
        dh_h = matmul_by[1](r * dh + before * dr) if h_h is None else r * d_h[0] + h_h * dr
        dcandidate = (1 - candidate**2) * (v_h + dh_h)
        dh = (1 - z) * dh + (candidate - before) * dz + z * dcandidate
        return dh, dh
