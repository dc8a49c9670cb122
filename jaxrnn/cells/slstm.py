"""The sLSTM of xLSTM: exponential gates, normalised and stabilised."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, sigmoid
from jax.numpy import exp, tanh

from jaxrnn import checks, initializers
from jaxrnn.cells import common
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.types import Array, Mask, exportable, unmasked


@exportable
class SLSTMState(NamedTuple):
    """Output ``h``, cell state ``c``, normaliser ``n`` and stabiliser ``m``, each ``[..., H]``."""

    h: Array
    c: Array
    n: Array
    m: Array

    @property
    def unit_fields(self) -> tuple[str]:
        """The other three are one number: c / n, both in units of exp(m)."""
        return ("h",)


@exportable
class SLSTMParams(NamedTuple):
    """``w_xh [I, 4H]``, ``w_hh [H/N, 4H]``, ``b_h [4H]`` or None; gates i, f, o, z, and in each the N heads.

    A column of ``w_hh`` has a weight for each unit of its own head: with one head it is ``[H, 4H]``.
    """

    w_xh: Array
    w_hh: Array
    b_h: Array | None


class SLSTMGates(NamedTuple):
    """Intermediate values of a step, each ``[..., H]``: the gates after stabilisation."""

    i: Array
    f: Array
    o: Array


@hyperparameters
class SLSTM:
    r"""The sLSTM: an LSTM with an exponential input gate, whose cell state is a weighted mean of what it was given.

    .. math::
        \tilde i, \tilde f, \tilde o, \tilde z &= [x_t, h_{t-1}] w_* + b_* \\
        m_t &= \max(\log f + m_{t-1}, \tilde i), \qquad \log f = \log σ(\tilde f) \\
        i' &= \exp(\tilde i - m_t), \quad f' = \exp(\log f + m_{t-1} - m_t) \\
        c_t &= f' ⊙ c_{t-1} + i' ⊙ \tanh(\tilde z) \\
        n_t &= f' ⊙ n_{t-1} + i' \\
        h_t &= σ(\tilde o) ⊙ c_t / n_t

    The stabiliser m only scales c and n, so that nothing overflows; h is that of :math:`i = \exp(\tilde i)` and f
    without it, and so is its gradient. Where nothing is stored yet, n = 0, m is :math:`\tilde i`. With
    ``forget="exponential"`` :math:`\log f = \tilde f`. With N *heads* the units are N groups, and h is an input of the
    gates of its own group only. The state is ``SLSTMState(h, c, n, m)``, each ``[..., H]`` and at first 0; the output
    is ``h_t``. It is differentiated by autodiff. Zoneout and learned initial states are those of h alone.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of units.
        heads: N, a divisor of H.
        forget: the forget gate, ``"sigmoid"`` or ``"exponential"``.
        forget_bias: added to the forget gate's part of ``b_h`` by ``init``, never at run time.
        use_bias: whether there is a ``b_h``.
        w_xh_init, w_hh_init, b_h_init: initializers, by name or callable, gate by gate; of ``w_hh`` head by head too.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range, or H is not a multiple of the heads.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.SLSTM(3, 6, heads=2)
        >>> params = cell.init(jax.random.key(0))
        >>> params.w_hh.shape
        (3, 24)
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)))  # [T, B, I]
        >>> ys.shape, final.n.shape
        ((7, 2, 6), (2, 6))

    Source: Beck et al. (2024), "xLSTM: extended long short-term memory".
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    heads: int = 1
    forget: str = "sigmoid"
    forget_bias: float = 1.0
    use_bias: bool = True
    w_xh_init: str | Initializer = "glorot_uniform"
    w_hh_init: str | Initializer = "orthogonal"
    b_h_init: str | Initializer = "zeros"
    dtype: str = "float32"

    num_gates: ClassVar[int] = 4

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.size("heads", self.heads)
        if self.hidden_size % self.heads:
            checks.refuse("heads", f"a divisor of hidden_size {self.hidden_size}", self.heads, "heads are of one size")
        checks.one_of("forget", self.forget, ("sigmoid", "exponential"))
        checks.number("forget_bias", self.forget_bias)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array) -> SLSTMParams:
        """Draw ``w_xh [I, 4H]``, ``w_hh [H/N, 4H]`` and ``b_h [4H]``."""
        keys, H, size = jax.random.split(key, 3), self.hidden_size, self.hidden_size // self.heads
        w_xh, _, b_h = common.init_weights(self, keys, self.num_gates)
        if b_h is not None:
            b_h = b_h.at[H : 2 * H].add(self.forget_bias)
        blocks = self.num_gates * self.heads
        w_hh = initializers.per_gate("w_hh_init", self.w_hh_init, keys[1], blocks, (size, size), self.dtype)
        return SLSTMParams(w_xh, w_hh, b_h)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> SLSTMState:
        """``h_0 = c_0 = n_0 = m_0 = 0``, each of shape ``[*batch_shape, H]``."""
        return SLSTMState(*[common.zero_state(self, batch_shape) for _ in SLSTMState._fields])

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "SLSTM")

    def step(self, params: SLSTMParams, state: SLSTMState, x: Array) -> tuple[SLSTMState, Array]:
        """One step: ``x [..., I]`` and ``(h, c, n, m)`` to the next ones and the output, which is ``h``."""
        return self.masked_step(params, state, x)

    def masked_step(
        self, params: SLSTMParams, state: SLSTMState, x: Array, *,
        recurrent: Mask = unmasked, candidate: Mask = unmasked,
    ) -> tuple[SLSTMState, Array]:  # fmt: skip
        """One step with ``recurrent(h)`` in the products and ``candidate(tanh(z̃))`` in the update, for dropout."""
        params, state = checks.step_arguments(self, params, state, x)
        new, _ = self._equations(params, state, x, recurrent, candidate)
        return new, new.h

    def gates(self, params: SLSTMParams, state: SLSTMState, x: Array) -> dict[str, Array]:
        """The gates of one step as weights of a mean, each ``[..., H]``, since an exponential has no upper limit.

        ``c_t / n_t = f c_{t-1} / n_{t-1} + i tanh(z̃)`` with ``i + f = 1``. ``keep`` is f, and 1 where nothing is stored
        yet, since nothing is lost there.
        """
        new, (i, f, o) = self._equations(params, state, x)
        f_share = f * state.n / new.n
        return {"i": i / new.n, "f": f_share, "o": o, "keep": jnp.where(state.n == 0, jnp.ones_like(f), f_share)}

    def _equations(
        self, params: SLSTMParams, state: SLSTMState, x: Array, recurrent: Mask = unmasked, candidate: Mask = unmasked
    ) -> tuple[SLSTMState, SLSTMGates]:
        """The equations above."""
        h, c, n, m = state
        z = common.input_projection(params, x) + self._recurrent_product(params.w_hh, recurrent(h))
        z_i, z_f, z_o, z_z = common.split_gates(z, (self.hidden_size,) * self.num_gates)
        log_f = log_sigmoid(z_f) if self.forget == "sigmoid" else z_f
        log_fm = jnp.where(n == 0, -jnp.inf, log_f + m)  # nothing is stored at first: the input alone sets the scale
        m_new = jnp.maximum(log_fm, z_i)
        i = exp(z_i - m_new)
        f = exp(log_fm - m_new)
        o = sigmoid(z_o)
        c_new = f * c + i * candidate(tanh(z_z))
        n_new = f * n + i
        return SLSTMState(o * c_new / n_new, c_new, n_new, m_new), SLSTMGates(i, f, o)

    def _recurrent_product(self, w_hh: Array, h: Array) -> Array:
        """``h w_hh [..., 4H]``, where w_hh has one block for each gate and head."""
        if self.heads == 1:
            return h @ w_hh
        size = self.hidden_size // self.heads
        w = w_hh.reshape(size, self.num_gates, self.heads, size)
        product = jnp.einsum("...nd,dgne->...gne", h.reshape(*h.shape[:-1], self.heads, size), w)
        return product.reshape(*h.shape[:-1], self.num_gates * self.hidden_size)
