"""The multiplicative LSTM: its gates read a product of the state and the input in place of the state."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn import checks, initializers
from jaxrnn.cells import common
from jaxrnn.cells.common import Weights
from jaxrnn.cells.lstm import LSTMState
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.types import Array, Mask, PyTree, Recurrence, exportable, unmasked


@exportable
class MultiplicativeLSTMParams(NamedTuple):
    """``w_xm [I, H]``, ``w_hm [H, H]``, ``w_xh [I, 4H]``, ``w_mh [H, 4H]``, ``b_h [4H]`` or None; gates i, f, o, c̃."""

    w_xm: Array
    w_hm: Array
    w_xh: Array
    w_mh: Array
    b_h: Array | None

    @property
    def gates(self) -> Weights:
        """The weights of the pre-activations, in which m has the place of h."""
        return Weights(self.w_xh, self.w_mh, self.b_h)


class MultiplicativeLSTMGates(NamedTuple):
    """Intermediate values of a step, each ``[..., H]``."""

    x_m: Array  # x w_xm
    h_m: Array  # h w_hm
    i: Array
    f: Array
    o: Array
    candidate: Array


@hyperparameters
class MultiplicativeLSTM:
    r"""The multiplicative LSTM: each input has its own recurrent matrix, ``w_hm diag(x w_xm) w_mh``.

    .. math::
        m &= (x_t w_{xm}) ⊙ (h_{t-1} w_{hm}) \\
        i, f, o &= σ([x_t, m] w_* + b_*) \\
        \tilde c &= \tanh([x_t, m] w_{\tilde c} + b_{\tilde c}) \\
        c_t &= f ⊙ c_{t-1} + i ⊙ \tilde c \\
        h_t &= \tanh(o ⊙ c_t)

    With ``output_gate="outside"`` the last line is that of an LSTM, :math:`h_t = o ⊙ \tanh(c_t)`, as in Radford et al.
    (2017). The state is ``LSTMState(h, c)``, each ``[..., H]``; the output is ``h_t``.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of units, and of those of m.
        output_gate: where o acts: ``"inside"`` or ``"outside"`` of the tanh.
        forget_bias: added to the forget gate's part of ``b_h`` by ``init``, never at run time.
        use_bias: whether there is a ``b_h``.
        w_xh_init, w_hh_init, b_h_init: initializers, by name or callable, gate by gate, of ``w_xh`` and ``w_xm``, of
            ``w_mh`` and ``w_hm``, and of ``b_h``.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.MultiplicativeLSTM(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)))  # [T, B, I]
        >>> ys.shape, final.c.shape
        ((7, 2, 5), (2, 5))

    Source: Krause, Lu, Murray & Renals (2016), "Multiplicative LSTM for sequence modelling"; ``"outside"``: Radford,
    Jozefowicz & Sutskever (2017), "Learning to generate reviews and discovering sentiment".
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    output_gate: str = "inside"
    forget_bias: float = 1.0
    use_bias: bool = True
    w_xh_init: str | Initializer = "glorot_uniform"
    w_hh_init: str | Initializer = "orthogonal"
    b_h_init: str | Initializer = "zeros"
    dtype: str = "float32"

    num_gates: ClassVar[int] = 4

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.one_of("output_gate", self.output_gate, ("inside", "outside"))
        checks.number("forget_bias", self.forget_bias)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array) -> MultiplicativeLSTMParams:
        """Draw ``w_xm [I, H]``, ``w_hm [H, H]``, ``w_xh [I, 4H]``, ``w_mh [H, 4H]`` and ``b_h [4H]``."""
        keys, I, H = jax.random.split(key, 5), self.input_size, self.hidden_size  # noqa: E741
        w_xh, w_mh, b_h = common.init_weights(self, keys[:3], self.num_gates)
        if b_h is not None:
            b_h = b_h.at[H : 2 * H].add(self.forget_bias)
        w_xm = initializers.draw("w_xh_init", self.w_xh_init, keys[3], (I, H), self.dtype)
        w_hm = initializers.draw("w_hh_init", self.w_hh_init, keys[4], (H, H), self.dtype)
        return MultiplicativeLSTMParams(w_xm, w_hm, w_xh, w_mh, b_h)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> LSTMState:
        """``h_0 = c_0 = 0``, each of shape ``[*batch_shape, H]``."""
        return LSTMState(common.zero_state(self, batch_shape), common.zero_state(self, batch_shape))

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "MultiplicativeLSTM")

    def step(self, params: MultiplicativeLSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        """One step: ``x [..., I]`` and ``(h, c)`` to the next ``(h, c)`` and the output, which is ``h``."""
        return self.masked_step(params, state, x)

    def masked_step(
        self, params: MultiplicativeLSTMParams, state: LSTMState, x: Array, *,
        recurrent: Mask = unmasked, candidate: Mask = unmasked,
    ) -> tuple[LSTMState, Array]:  # fmt: skip
        """One step with ``recurrent(h)`` in the product and ``candidate(c̃)`` in the update, for dropout."""
        params, state = checks.step_arguments(self, params, state, x)
        z, step = self._equations(params, x, candidate)
        new, _ = step(state._replace(h=recurrent(state.h)), z)
        return new, new.h

    def mask_state(self, state: LSTMState, mask: Array) -> LSTMState:
        """``(h ⊙ mask, c)``: h enters the equations by a product alone."""
        return state._replace(h=state.h * mask)

    def gates(self, params: MultiplicativeLSTMParams, state: LSTMState, x: Array) -> dict[str, Array]:
        """The gates i, f, o of one step, each ``[..., H]``, and ``keep``: the fraction of the state that is kept, f."""
        z, step = self._equations(params, x)
        _, gates = step(state, z)
        return {"i": gates.i, "f": gates.f, "o": gates.o, "keep": gates.f}

    def _equations(
        self, params: MultiplicativeLSTMParams, xs: Array, mask: Mask = unmasked
    ) -> tuple[PyTree, Recurrence]:
        """The equations above: the products with x, and a function of the state and of them."""
        x_blocks, preactivations = common.precomputed_projection(params.gates, xs, self._gate_sizes)

        def step(state: LSTMState, z: tuple) -> tuple[LSTMState, MultiplicativeLSTMGates]:
            x_m, x_blocks = z
            h_m = state.h @ params.w_hm
            (z_i, z_f, z_o, z_c), _ = preactivations(x_blocks, x_m * h_m)
            i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o)
            candidate = mask(tanh(z_c))
            c = f * state.c + i * candidate
            h = tanh(o * c) if self.output_gate == "inside" else o * tanh(c)
            return LSTMState(h, c), MultiplicativeLSTMGates(x_m, h_m, i, f, o, candidate)

        return (xs @ params.w_xm, x_blocks), step

    @property
    def _gate_sizes(self) -> tuple[int, ...]:
        return (self.hidden_size,) * self.num_gates

    # ---- the differential, for jaxrnn.bptt ----

    def recurrence(self, params: MultiplicativeLSTMParams, xs: Array) -> tuple[PyTree, Recurrence]:
        """The step; its residuals are the gates. The products with x are computed before the scan."""
        return self._equations(params, xs)

    def output(self, state: LSTMState, gates: MultiplicativeLSTMGates) -> Array:
        """``h``."""
        return state.h

    def differential(
        self, params: MultiplicativeLSTMParams, dparams: MultiplicativeLSTMParams, xs: Array, dxs: Array | None,
        before: LSTMState, after: LSTMState, gates: MultiplicativeLSTMGates,
    ) -> tuple[PyTree, Recurrence]:  # fmt: skip
        """``v = dx w_xh + x dw_xh + db_h + m dw_mh`` and ``v_m = d(x w_xm) ⊙ h w_hm + x w_xm ⊙ h dw_hm``."""
        x_m, h_m = gates.x_m, gates.h_m
        dx_m = common.weight_tangent(xs, dparams.w_xm) + (0 if dxs is None else dxs @ params.w_xm)
        v_m = dx_m * h_m + x_m * common.weight_tangent(before.h, dparams.w_hm)
        v = common.input_projection_tangent(params, dparams, xs, dxs) + common.weight_tangent(x_m * h_m, dparams.w_mh)
        matmul_w_hm, matmul_w_mh = common.right_matmul(params.w_hm), common.right_matmul(params.w_mh)

        def step(ds: LSTMState, inputs: tuple) -> tuple[LSTMState, Array]:
            c_before, (h, c), (x_m, _, i, f, o, candidate), v_m, v = inputs
            dm = v_m + x_m * matmul_w_hm(ds.h)
            dz_i, dz_f, dz_o, dz_c = common.split_gates(v + matmul_w_mh(dm), self._gate_sizes)
            di, df, do = i * (1 - i) * dz_i, f * (1 - f) * dz_f, o * (1 - o) * dz_o
            dc = f * ds.c + c_before * df + i * (1 - candidate**2) * dz_c + candidate * di
            if self.output_gate == "inside":
                dh = (1 - h**2) * (o * dc + c * do)
            else:
                tanh_c = tanh(c)
                dh = o * (1 - tanh_c**2) * dc + tanh_c * do
            return LSTMState(dh, dc), dh

        return (before.c, after, gates, v_m, v), step
