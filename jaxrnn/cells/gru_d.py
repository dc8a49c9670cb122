"""GRU-D: a gated recurrent unit for series with missing values and irregular steps."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn import checks, initializers
from jaxrnn.cells import common
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.precision import add_bias, broadcast_rows
from jaxrnn.types import Array, Mask, exportable, unmasked


@exportable
class GRUDState(NamedTuple):
    """``h [..., H]``; of each feature the last observed value, and the time since: ``[..., D]``."""

    h: Array
    last: Array
    elapsed: Array

    @property
    def unit_fields(self) -> tuple[str]:
        """The other two record the inputs."""
        return ("h",)


@exportable
class GRUDParams(NamedTuple):
    """``w_xh [2 D, 3H]``, ``w_hh [H, 3H]``, ``b_h [3H]`` or None; gates z, r, h̃. The rows of ``w_xh`` are x̂, then m.

    Of the decays ``w_decay_x [D]``, ``b_decay_x [D]``, ``w_decay_h [D, H]``, ``b_decay_h [H]``.
    """

    w_xh: Array
    w_hh: Array
    b_h: Array | None
    w_decay_x: Array
    b_decay_x: Array
    w_decay_h: Array
    b_decay_h: Array


class GRUDGates(NamedTuple):
    """Intermediate values of a step, each ``[..., H]``: gates, and the decay of the state."""

    z: Array
    r: Array
    decay: Array


@hyperparameters
class GRUD:
    r"""GRU-D, for missing values and irregular steps: what was not observed decays, the faster the longer ago it was.

    .. math::
        γ_x &= \exp(-\max(0, w_{γx} ⊙ δ_t + b_{γx})), \qquad γ_h = \exp(-\max(0, δ_t w_{γh} + b_{γh})) \\
        \hat x &= m_t ⊙ x_t + (1 - m_t) ⊙ γ_x ⊙ x_{\mathrm{last}}, \qquad \hat h = γ_h ⊙ h_{t-1} \\
        z &= σ([\hat x, m_t, \hat h] w_z + b_z) \\
        r &= σ([\hat x, m_t, \hat h] w_r + b_r) \\
        \tilde h &= \tanh([\hat x, m_t, r ⊙ \hat h] w_{\tilde h} + b_{\tilde h}) \\
        h_t &= (1 - z) ⊙ \hat h + z ⊙ \tilde h

    An input is ``[x, m]``: D values, and whether each is observed (1 or 0; a value that is not may be anything, even
    NaN), as :class:`~jaxrnn.data.Windows` and forecasters have them. A last feature, if there is one, is the time since
    the step before; without it that is 1. From it the cell counts δ, the time since each feature was observed. A value
    decays to the mean of its feature, which is 0 here: scale the values to mean 0.

    With the time, ``unroll(..., reverse=True)`` needs that between a step and the one after it, and so there is no
    :class:`~jaxrnn.Bidirectional`, whose directions have the same inputs. A step without any value is one whose flags
    are 0: a step that ``input_mask`` or :class:`~jaxrnn.Clockwork` skips is none, and its time is not counted. Zoneout
    and learned initial states are those of h alone.

    The state is ``GRUDState(h, last, elapsed)``; the output is ``h_t``. It has no rule for its derivative: autodiff.

    Args:
        input_size: I, ``2 D``, or ``2 D + 1`` with the time.
        hidden_size: H, the number of units.
        use_bias: whether there is a ``b_h``; the decays always have one.
        w_xh_init, w_hh_init, b_h_init: initializers, by name or callable, gate by gate.
        w_decay_x_init, w_decay_h_init, b_decay_init: those of the decays.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, jaxrnn as rnn
        >>> values = np.array([[[0.3, np.nan]], [[np.nan, np.nan]], [[np.nan, -1.2]]], "float32")  # [T, B, D]
        >>> time = np.array([0, 0.5, 2.0], "float32").reshape(3, 1, 1)  # since the step before
        >>> xs = np.concatenate([values, ~np.isnan(values), time], -1)
        >>> cell = rnn.GRUD(5, 4)
        >>> final, ys = rnn.unroll(cell, cell.init(jax.random.key(0)), jnp.asarray(xs))
        >>> ys.shape, final.last.tolist(), final.elapsed.tolist()
        ((3, 1, 4), [[0.30000001192092896, -1.2000000476837158]], [[2.5, 0.0]])

    Source: Che et al. (2018), "Recurrent neural networks for multivariate time series with missing values",
    Scientific Reports 8.
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    use_bias: bool = True
    w_xh_init: str | Initializer = "glorot_uniform"
    w_hh_init: str | Initializer = "orthogonal"
    b_h_init: str | Initializer = "zeros"
    w_decay_x_init: str | Initializer = "ones"
    w_decay_h_init: str | Initializer = "glorot_uniform"
    b_decay_init: str | Initializer = "zeros"
    dtype: str = "float32"

    num_gates: ClassVar[int] = 3
    takes_values_only: ClassVar[bool] = False  # inputs hold flags and times too, which no mask may scale

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        for name in ("w_decay_x_init", "w_decay_h_init", "b_decay_init"):
            checks.initializer(name, getattr(self, name), initializers.NAMED)
        if self.input_size < 2:
            checks.refuse("input_size", "2 D or 2 D + 1, at least 2", self.input_size,
                          "an input is D values, whether each is observed, and the time since the step before",
                          )  # fmt: skip

    @property
    def output_size(self) -> int:
        return self.hidden_size

    @property
    def reads_intervals(self) -> bool:
        """Whether an input holds the time since the step before."""
        return self.input_size % 2 == 1

    @property
    def num_values(self) -> int:
        """D, the values of one input."""
        return self.input_size // 2

    def init(self, key: Array) -> GRUDParams:
        """Draw the parameters of the gates, then those of the decays."""
        D, H, keys = self.num_values, self.hidden_size, jax.random.split(key, 7)

        def draw(name: str, key: Array, *shape: int) -> Array:
            return initializers.draw(name, getattr(self, name), key, shape, self.dtype)

        return GRUDParams(
            *common.init_weights(self, keys[:3], self.num_gates, input_size=2 * D),
            draw("w_decay_x_init", keys[3], D),
            draw("b_decay_init", keys[4], D),
            draw("w_decay_h_init", keys[5], D, H),
            draw("b_decay_init", keys[6], H),
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> GRUDState:
        """All 0: nothing was observed, and every value is at its mean."""
        zeros = jnp.zeros((*batch_shape, self.num_values), self.dtype)
        return GRUDState(common.zero_state(self, batch_shape), zeros, zeros)

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "GRUD")

    def step(self, params: GRUDParams, state: GRUDState, x: Array) -> tuple[GRUDState, Array]:
        """One step: ``x [..., I]`` and the state to the next state and the output, which is ``h``."""
        return self.masked_step(params, state, x)

    def masked_step(
        self, params: GRUDParams, state: GRUDState, x: Array, *, recurrent: Mask = unmasked, candidate: Mask = unmasked
    ) -> tuple[GRUDState, Array]:
        """One step with ``recurrent(ĥ)`` in the products and ``candidate(h̃)`` in the update, for dropout."""
        params, state = checks.step_arguments(self, params, state, x)
        new, _ = self._equations(params, state, x, recurrent, candidate)
        return new, new.h

    def gates(self, params: GRUDParams, state: GRUDState, x: Array) -> dict[str, Array]:
        """The gates z, r and the decay γ_h of one step, each ``[..., H]``, and ``keep = (1 - z) ⊙ γ_h``."""
        _, (z, r, decay) = self._equations(params, state, x)
        return {"z": z, "r": r, "decay": decay, "keep": (1 - z) * decay}

    def _equations(
        self, params: GRUDParams, state: GRUDState, x: Array, recurrent: Mask = unmasked, mask: Mask = unmasked
    ) -> tuple[GRUDState, GRUDGates]:
        """The equations above, from the state and the three parts of an input."""
        D, H = self.num_values, self.hidden_size
        x, m, time = x[..., :D], x[..., D : 2 * D], x[..., 2 * D :]
        observed = m > 0
        δ = state.elapsed + (time if time.shape[-1] else jnp.ones_like(x))
        decay_x = jnp.exp(-jnp.maximum(0, add_bias(broadcast_rows(params.w_decay_x, δ) * δ, params.b_decay_x)))
        decay_h = jnp.exp(-jnp.maximum(0, add_bias(δ @ params.w_decay_h, params.b_decay_h)))
        x_hat = jnp.where(observed, x, decay_x * state.last)
        h = decay_h * state.h
        h_read = recurrent(h)

        inputs = jnp.concatenate([x_hat, observed.astype(x.dtype)], -1)
        x_z, x_r, x_h = common.split_gates(common.input_projection(params, inputs), (H, H, H))
        w_gates, w_candidate = common.split_gates(params.w_hh, (2 * H, H))
        h_z, h_r = common.split_gates(h_read @ w_gates, (H, H))
        z = sigmoid(x_z + h_z)
        r = sigmoid(x_r + h_r)
        candidate = mask(tanh(x_h + (r * h_read) @ w_candidate))
        h = (1 - z) * h + z * candidate
        last, elapsed = jnp.where(observed, x, state.last), jnp.where(observed, jnp.zeros_like(δ), δ)
        return GRUDState(h, last, elapsed), GRUDGates(z, r, decay_h)
