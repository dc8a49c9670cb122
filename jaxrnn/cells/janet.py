"""JANET: an LSTM with a forget gate only."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn import checks, initializers
from jaxrnn.cells import common
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.types import Array, Mask, PyTree, Recurrence, exportable, unmasked


@exportable
class JANETParams(NamedTuple):
    """``w_xh [I, 2H]``, ``w_hh [H, 2H]``, ``b_h [2H]`` or None; the forget gate, then c̃."""

    w_xh: Array
    w_hh: Array
    b_h: Array | None


class JANETGates(NamedTuple):
    """Intermediate values of a step, each ``[..., H]``: ``f = σ(s)`` and ``i = 1 - σ(s - β)``."""

    f: Array
    i: Array
    candidate: Array


@hyperparameters
class JANET:
    r"""JANET ("just another network"): an LSTM with a forget gate only, on one state.

    .. math::
        s &= [x_t, h_{t-1}] w_s + b_s \\
        \tilde c &= \tanh([x_t, h_{t-1}] w_{\tilde c} + b_{\tilde c}) \\
        h_t &= σ(s) ⊙ h_{t-1} + (1 - σ(s - β)) ⊙ \tilde c

    With β = 0 it is an average of the old state and the candidate; β > 0 lets more of the input in. For long memory
    the paper starts with the biases of Tallec & Ollivier (2018): ``forget_bias_init=rnn.initializers.chrono(T)`` for
    memories of up to T steps. The state is ``h [..., H]``, c of the paper, and so is the output.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of units.
        beta: β.
        use_bias: whether there is a ``b_h``.
        w_xh_init, w_hh_init: initializers, by name or callable, gate by gate.
        b_h_init, forget_bias_init: those of ``b_h``: of the part of c̃, and of that of the forget gate.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.JANET(3, 5, forget_bias_init=rnn.initializers.chrono(100))
        >>> params = cell.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)))  # [T, B, I]
        >>> ys.shape, final.shape
        ((7, 2, 5), (2, 5))

    Source: van der Westhuizen & Lasenby (2018), "The unreasonable effectiveness of the forget gate".
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    beta: float = 1.0
    use_bias: bool = True
    w_xh_init: str | Initializer = "glorot_uniform"
    w_hh_init: str | Initializer = "orthogonal"
    b_h_init: str | Initializer = "zeros"
    forget_bias_init: str | Initializer = "ones"
    dtype: str = "float32"

    num_gates: ClassVar[int] = 2

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.number("beta", self.beta)
        checks.initializer("forget_bias_init", self.forget_bias_init, initializers.NAMED)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array) -> JANETParams:
        """Draw ``w_xh [I, 2H]``, ``w_hh [H, 2H]`` and ``b_h [2H]``."""
        keys, H = jax.random.split(key, 4), self.hidden_size
        w_xh, w_hh, b_h = common.init_weights(self, keys[:3], self.num_gates)
        if b_h is not None:
            forget_bias = initializers.draw("forget_bias_init", self.forget_bias_init, keys[3], (H,), self.dtype)
            b_h = b_h.at[:H].set(forget_bias)
        return JANETParams(w_xh, w_hh, b_h)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Array:
        """``h_0 = 0``, of shape ``[*batch_shape, H]``."""
        return common.zero_state(self, batch_shape)

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "JANET")

    def step(self, params: JANETParams, state: Array, x: Array) -> tuple[Array, Array]:
        """One step: ``x [..., I]``, ``h [..., H]`` to the next ``h`` and the output, which is ``h``."""
        return self.masked_step(params, state, x)

    def masked_step(
        self, params: JANETParams, state: Array, x: Array, *, recurrent: Mask = unmasked, candidate: Mask = unmasked
    ) -> tuple[Array, Array]:
        """One step with ``recurrent(h)`` in the products and ``candidate(c̃)`` in the update, for dropout."""
        params, state = checks.step_arguments(self, params, state, x)
        x_blocks, preactivations = common.precomputed_projection(params, x, self._gate_sizes)
        h, _ = self._equations(state, preactivations(x_blocks, recurrent(state))[0], candidate)
        return h, h

    def gates(self, params: JANETParams, state: Array, x: Array) -> dict[str, Array]:
        """The factors f and i of one step, each ``[..., H]``, and ``keep``: the fraction of the state kept, f."""
        x_blocks, preactivations = common.precomputed_projection(params, x, self._gate_sizes)
        _, (f, i, _) = self._equations(state, preactivations(x_blocks, state)[0])
        return {"f": f, "i": i, "keep": f}

    def _equations(self, h: Array, z: tuple[Array, ...], mask: Mask = unmasked) -> tuple[Array, JANETGates]:
        """The equations above, from ``h_{t-1}`` and the pre-activations ``x w_xh + h w_hh + b_h``."""
        s, z_c = z
        f = sigmoid(s)
        i = sigmoid(self.beta - s)  # 1 - σ(s - β)
        candidate = mask(tanh(z_c))
        return f * h + i * candidate, JANETGates(f, i, candidate)

    @property
    def _gate_sizes(self) -> tuple[int, ...]:
        return (self.hidden_size,) * self.num_gates

    # ---- the differential, for jaxrnn.bptt ----

    def precompute_projection(self, rows: int) -> bool:
        """Whether it is faster on a CPU: the rule of an LSTM.

        In the step it took 0.9, 1.0 and 0.9 times as long at 16 × 32, 32 × 128 and 64 × 256, roughly.
        """
        return rows <= 20 or self.hidden_size >= 256

    def recurrence(self, params: JANETParams, xs: Array) -> tuple[PyTree, Recurrence]:
        """The step; its residuals are the gates."""
        projection = common.precomputed_projection if common.should_precompute(self, xs) else common.fused_projection
        zs, preactivations = projection(params, xs, self._gate_sizes)
        return zs, lambda h, z: self._equations(h, preactivations(z, h)[0])

    def output(self, h: Array, residuals: Any) -> Array:
        """The state is the output."""
        return h

    def differential(
        self, params: JANETParams, dparams: JANETParams, xs: Array, dxs: Array | None,
        before: Array, after: Array, gates: JANETGates,
    ) -> tuple[PyTree, Recurrence]:  # fmt: skip
        """``v = dx w_xh + x dw_xh + db_h + h_{t-1} dw_hh``."""
        v = common.input_projection_tangent(params, dparams, xs, dxs) + common.weight_tangent(before, dparams.w_hh)
        matmul_w_hh = common.right_matmul(params.w_hh)

        def step(dh: Array, inputs: tuple) -> tuple[Array, Array]:
            before, (f, i, candidate), v = inputs
            ds, dz_c = common.split_gates(v + matmul_w_hh(dh), self._gate_sizes)
            df = f * (1 - f) * ds
            di = -i * (1 - i) * ds
            dh = f * dh + before * df + candidate * di + i * (1 - candidate**2) * dz_c
            return dh, dh

        return (before, gates, v), step
