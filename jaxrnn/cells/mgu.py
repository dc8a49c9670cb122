"""The minimal gated unit: a GRU with one gate."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn import checks, initializers
from jaxrnn.cells import common
from jaxrnn.cells.gru import RecurrentWeights
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.precision import add_bias
from jaxrnn.types import Array, Mask, PyTree, Recurrence, exportable, unmasked

RESETS = {"update": (0, 1), "keep": (1, -1), "none": (1, 0)}  # r = a + b f


@exportable
class MGUParams(NamedTuple):
    """``w_xh [I, 2H]``, ``w_hh [H, 2H]``, ``b_h [2H]`` or None, ``b_hh [H]`` or None; gates f, h̃."""

    w_xh: Array
    w_hh: Array
    b_h: Array | None
    b_hh: Array | None


class MGUGates(NamedTuple):
    """Intermediate values of a step, each ``[..., H]``; with ``reset_after``, r multiplies ``h_h = h w_hh̃ + b_hh``."""

    f: Array
    candidate: Array
    h_h: Any  # None without reset_after


@hyperparameters
class MGU:
    r"""The minimal gated unit: one gate both updates the state and resets it in the candidate.

    .. math::
        f &= σ([x_t, h_{t-1}] w_f + b_f) \\
        \tilde h &= \tanh([x_t, r ⊙ h_{t-1}] w_{\tilde h} + b_{\tilde h}), \qquad r = f \\
        h_t &= (1 - f) ⊙ h_{t-1} + f ⊙ \tilde h

    f = 0 keeps the state. With ``reset="keep"`` r is ``1 - f``, the fraction of the state that is kept, with ``"none"``
    it is 1. With ``reset_after`` r acts after the product, as in a :class:`~jaxrnn.GRU`: :math:`\tilde h = \tanh(x_t
    w_{x\tilde h} + b_{\tilde h} + r ⊙ (h_{t-1} w_{h\tilde h} + b_{hh}))`. Flax's MGUCell is ``reset="keep",
    reset_after=True``, and its f is ``1 - f`` here. The state is ``h [..., H]``, and so is the output.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of units.
        reset: r: ``"update"`` for f, ``"keep"`` for 1 - f, ``"none"`` for 1.
        reset_after: whether r acts after the product with ``w_hh``.
        use_bias: whether there is a ``b_h``, and a ``b_hh`` if r acts after the product.
        w_xh_init, w_hh_init, b_h_init: initializers, by name or callable, gate by gate; ``b_hh`` is
            drawn by ``b_h_init`` too.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.MGU(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)))  # [T, B, I]
        >>> ys.shape, final.shape
        ((7, 2, 5), (2, 5))

    Source: Zhou, Wu, Zhang & Zhou (2016), "Minimal gated unit for recurrent neural networks".
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    reset: str = "update"
    reset_after: bool = False
    use_bias: bool = True
    w_xh_init: str | Initializer = "glorot_uniform"
    w_hh_init: str | Initializer = "orthogonal"
    b_h_init: str | Initializer = "zeros"
    dtype: str = "float32"

    num_gates: ClassVar[int] = 2

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.one_of("reset", self.reset, RESETS)
        checks.flag("reset_after", self.reset_after)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array) -> MGUParams:
        """Draw ``w_xh [I, 2H]``, ``w_hh [H, 2H]``, ``b_h [2H]`` and, where r acts after the product, ``b_hh [H]``."""
        keys = jax.random.split(key, 4)
        weights = common.init_weights(self, keys[:3], self.num_gates)
        b_hh = None
        if self.use_bias and self.reset_after and self.reset != "none":
            b_hh = initializers.draw("b_h_init", self.b_h_init, keys[3], (self.hidden_size,), self.dtype)
        return MGUParams(*weights, b_hh)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Array:
        """``h_0 = 0``, of shape ``[*batch_shape, H]``."""
        return common.zero_state(self, batch_shape)

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "MGU")

    def step(self, params: MGUParams, state: Array, x: Array) -> tuple[Array, Array]:
        """One step: ``x [..., I]``, ``h [..., H]`` to the next ``h`` and the output, which is ``h``."""
        return self.masked_step(params, state, x)

    def masked_step(
        self, params: MGUParams, state: Array, x: Array, *, recurrent: Mask = unmasked, candidate: Mask = unmasked
    ) -> tuple[Array, Array]:
        """One step with ``recurrent(h)`` in the products and ``candidate(h̃)`` in the update, for dropout."""
        params, state = checks.step_arguments(self, params, state, x)
        weights, z = self._recurrent_weights(params), self._input_projection(params, x)
        h, _ = self._equations(weights, state, z, recurrent, candidate)
        return h, h

    def gates(self, params: MGUParams, state: Array, x: Array) -> dict[str, Array]:
        """The gate f of one step, ``[..., H]``, and ``keep = 1 - f``, the fraction of the state that is kept."""
        _, gates = self._equations(self._recurrent_weights(params), state, self._input_projection(params, x))
        return {"f": gates.f, "keep": 1 - gates.f}

    def _equations(
        self, weights: RecurrentWeights, h: Array, input_projection: tuple[Array, ...],
        recurrent: Mask = unmasked, mask: Mask = unmasked,
    ) -> tuple[Array, MGUGates]:  # fmt: skip
        """The equations above, from ``h_{t-1}`` and the input projection ``x_t w_x + b`` of f and h̃."""
        x_f, x_h = input_projection
        h_read = recurrent(h)
        h_f = h_read @ weights.w
        h_h: Any = None
        if self.reset_after:
            h_f, h_h = common.split_gates(h_f, self._gate_sizes)
            h_h = add_bias(h_h, weights.b)
        f = sigmoid(x_f + h_f)
        r = self._reset(f)
        candidate = mask(tanh(x_h + (r * h_h if self.reset_after else (r * h_read) @ weights.w_candidate)))
        return (1 - f) * h + f * candidate, MGUGates(f, candidate, h_h)

    def _reset(self, f: Array) -> Array:
        """r: f, 1 - f or 1."""
        a, b = RESETS[self.reset]
        return a + b * f

    def _input_projection(self, params: MGUParams, x: Array) -> tuple[Array, ...]:
        """``x w_xh + b_h`` of f and h̃."""
        return common.split_gates(common.input_projection(params, x), self._gate_sizes)

    def _recurrent_weights(self, params: MGUParams) -> RecurrentWeights:
        """The weights and bias of the products with the state."""
        if self.reset_after:
            return RecurrentWeights(params.w_hh, None, params.b_hh)
        w, w_candidate = common.split_gates(params.w_hh, self._gate_sizes)
        w, w_candidate = jax.lax.optimization_barrier((w, w_candidate))  # as in a GRU
        return RecurrentWeights(w, w_candidate, None)

    @property
    def _gate_sizes(self) -> tuple[int, ...]:
        return (self.hidden_size,) * self.num_gates

    # ---- the differential, for jaxrnn.bptt ----

    def precompute_projection(self, rows: int) -> bool:
        """Whether it is faster on a CPU: the rule of a GRU.

        In the step it took 1.1, 0.8 and 1.1 times as long at 16 × 32, 32 × 128 and 64 × 256, roughly.
        """
        return rows * self.hidden_size <= 8192

    def recurrence(self, params: MGUParams, xs: Array) -> tuple[PyTree, Recurrence]:
        """The step; its residuals are the gates."""
        weights = self._recurrent_weights(params)
        if common.should_precompute(self, xs):
            return self._input_projection(params, xs), lambda h, z: self._equations(weights, h, z)
        return xs, lambda h, x: self._equations(weights, h, self._input_projection(params, x))

    def output(self, h: Array, residuals: Any) -> Array:
        """The state is the output."""
        return h

    def differential(
        self, params: MGUParams, dparams: MGUParams, xs: Array, dxs: Array | None,
        before: Array, after: Array, gates: MGUGates,
    ) -> tuple[PyTree, Recurrence]:  # fmt: skip
        """``v = dx w_xh + x dw_xh + db_h``, plus ``h_{t-1} dw_hh`` with r as in the equations."""
        weights, dweights = self._recurrent_weights(params), self._recurrent_weights(dparams)
        r, v_f = self._reset(gates.f), common.weight_tangent(before, dweights.w)
        if self.reset_after:
            v_f, v_h = common.split_gates(v_f, self._gate_sizes)
            v_h = r * add_bias(v_h, dweights.b)
        else:
            v_h = common.weight_tangent(r * before, dweights.w_candidate)
        v = common.input_projection_tangent(params, dparams, xs, dxs) + jnp.concatenate([v_f, v_h], -1)
        matmuls = [common.right_matmul(w) for w in weights[:2] if w is not None]
        return (before, gates, v), lambda dh, inputs: self._tangent(matmuls, dh, *inputs)

    def _tangent(self, matmuls: list, dh: Array, before: Array, gates: MGUGates, v: Array) -> tuple[Array, Array]:
        """The differential of the equations, line by line; ``matmuls`` multiply by the recurrent weights."""
        f, candidate, h_h = gates
        v_f, v_h = common.split_gates(v, self._gate_sizes)
        dh_f = matmuls[0](dh)
        if self.reset_after:
            dh_f, dh_h = common.split_gates(dh_f, self._gate_sizes)
        df = f * (1 - f) * (v_f + dh_f)
        r, dr = self._reset(f), RESETS[self.reset][1] * df
        dproduct = r * dh_h + h_h * dr if self.reset_after else matmuls[1](r * dh + before * dr)
        dcandidate = (1 - candidate**2) * (v_h + dproduct)
        dh = (1 - f) * dh + (candidate - before) * df + f * dcandidate
        return dh, dh
