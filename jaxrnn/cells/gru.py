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
from jaxrnn.types import Array


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
        drawn = common.draw(self, keys[:3], self.blocks)
        b_hh = None
        if self.use_bias and self.reset_after:
            b_hh = initializers.per_gate(
                "b_h_init", self.b_h_init, keys[3], self.blocks, (self.hidden_size,), self.dtype
            )
        return GRUParams(*drawn, b_hh)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Array:
        """``h_0 = 0``, of shape ``[*batch_shape, H]``."""
        return common.zeros(self, batch_shape)

    def check_input(self, argument: str, x: Array) -> None:
        """Refuse an input whose last axis is not I."""
        checks.features(argument, x, self.input_size, "GRU")

    def step(self, params: GRUParams, state: Array, x: Array) -> tuple[Array, Array]:
        """One step: ``x [..., I]``, ``h [..., H]`` to the next ``h`` and the output, which is ``h``."""
        params, state = checks.stepping(self, params, state, x)
        return self.recur(params, state, self.project(params, x))

    def project(self, params: GRUParams, x: Array) -> Array:
        """``x w_xh + b_h``, for one step or for all at once."""
        return common.project(params, x)

    def recur(self, params: GRUParams, h: Array, x_z: Array) -> tuple[Array, Array]:
        """The equations above, from ``h_{t-1}`` and the projected input ``[..., 3H]``."""
        h, _ = self._equations(params, h, x_z)
        return h, h

    def gates(self, params: GRUParams, state: Array, x: Array) -> dict[str, Array]:
        """The gates z, r of one step, each ``[..., H]``, and ``keep``: the share of the state that stays, 1 - z."""
        _, (z, r, _, _) = self._equations(params, state, self.project(params, x))
        return {"z": z, "r": r, "keep": 1 - z}

    def _equations(self, params: GRUParams, h: Array, x_z: Array) -> tuple[Array, GRUGates]:
        H = self.hidden_size
        x_z, x_r, x_h = common.per_gate(x_z, H)
        if self.reset_after:
            product = h @ params.w_hh if params.b_hh is None else h @ params.w_hh + params.b_hh
            h_z, h_r, h_h = common.per_gate(product, H)
        else:
            h_z, h_r = common.per_gate(h @ params.w_hh[:, : 2 * H], H)
            h_h = None
        z = sigmoid(x_z + h_z)
        r = sigmoid(x_r + h_r)
        candidate = tanh(x_h + ((r * h) @ params.w_hh[:, 2 * H :] if h_h is None else r * h_h))
        return (1 - z) * h + z * candidate, GRUGates(z, r, candidate, h_h)

    # ---- the differential, for jaxrnn.bptt ----

    def record(self, params: GRUParams, h: Array, x_z: Array) -> tuple[Array, GRUGates]:
        """The step, with its gates."""
        return self._equations(params, h, x_z)

    def output(self, h: Array, kept: Any) -> Array:
        """The state is the output."""
        return h

    def drive(
        self,
        params: GRUParams,
        dparams: GRUParams,
        x: Array,
        dx: Array | None,
        before: Array,
        after: Array,
        gates: GRUGates,
    ) -> Array:
        """``dx w_xh + x dw_xh + db_h``, and ``h_{t-1} dw_hh`` with the reset gate in its place."""
        H = self.hidden_size
        if self.reset_after:
            product = common.of_weights(before, dparams.w_hh)
            v_z, v_r, v_h = common.per_gate(product if dparams.b_hh is None else product + dparams.b_hh, H)
            parts = [v_z, v_r, gates.r * v_h]
        else:
            dw_zr, dw_h = dparams.w_hh[:, : 2 * H], dparams.w_hh[:, 2 * H :]
            parts = [common.of_weights(before, dw_zr), common.of_weights(gates.r * before, dw_h)]
        return common.drive(params, dparams, x, dx) + jnp.concatenate(parts, -1)

    def tangent(
        self, params: GRUParams, before: Array, after: Array, gates: GRUGates, v: Array, dh: Array
    ) -> tuple[Array, Array]:
        """The differential of the equations, line by line."""
        H, (z, r, candidate, h_h) = self.hidden_size, gates
        v_z, v_r, v_h = common.per_gate(v, H)
        if self.reset_after:
            d_z, d_r, d_h = common.per_gate(dh @ params.w_hh, H)
        else:
            d_z, d_r = common.per_gate(dh @ params.w_hh[:, : 2 * H], H)
        dz = z * (1 - z) * (v_z + d_z)
        dr = r * (1 - r) * (v_r + d_r)
        dh_h = (r * dh + before * dr) @ params.w_hh[:, 2 * H :] if h_h is None else r * d_h + h_h * dr
        dcandidate = (1 - candidate**2) * (v_h + dh_h)
        dh = (1 - z) * dh + (candidate - before) * dz + z * dcandidate
        return dh, dh
