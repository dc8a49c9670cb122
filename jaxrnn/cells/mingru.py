"""The minimal GRU and the minimal LSTM, whose gates read the input only, so that the state enters linearly."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from jaxrnn import checks, initializers
from jaxrnn.cells import common
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.types import Array, exportable


@exportable
class MinGRUParams(NamedTuple):
    """``w_xh [I, 2H]``, ``b_h [2H]`` or None; gates z, h̃."""

    w_xh: Array
    b_h: Array | None


@exportable
class MinLSTMParams(NamedTuple):
    """``w_xh [I, 3H]``, ``b_h [3H]`` or None; gates f, i, h̃."""

    w_xh: Array
    b_h: Array | None


@hyperparameters
class MinGRU:
    r"""The minimal GRU: no reset gate, no tanh, and an update gate that does not read the state.

    .. math::
        z &= σ(x_t w_{xz} + b_z) \\
        \tilde h &= x_t w_{x\tilde h} + b_{\tilde h} \\
        h_t &= (1 - z) ⊙ h_{t-1} + z ⊙ \tilde h

    The state is ``h [..., H]``, and so is the output. All states can be computed in parallel:
    ``unroll(..., parallel="scan")``.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of units.
        positive: whether :math:`\tilde h` is :math:`g(x_t w_{x\tilde h} + b_{\tilde h})`, with g(a) = a + 1/2 where
            a ≥ 0 and σ(a) elsewhere. With it the paper computes the states as logarithms; here they need none, since
            a product of factors between 0 and 1 cannot overflow.
        use_bias: whether there is a ``b_h``.
        w_xh_init, b_h_init: initializers, by name or callable, gate by gate.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.MinGRU(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)), parallel="scan")  # [T, B, I]
        >>> ys.shape, final.shape
        ((7, 2, 5), (2, 5))

    Source: Feng et al. (2024), "Were RNNs all we needed?", arXiv:2410.01201.
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    positive: bool = False
    use_bias: bool = True
    w_xh_init: str | Initializer = "glorot_uniform"
    b_h_init: str | Initializer = "zeros"
    dtype: str = "float32"

    num_gates: ClassVar[int] = 2

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.flag("positive", self.positive)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array) -> MinGRUParams:
        """Draw ``w_xh [I, 2H]`` and ``b_h [2H]``."""
        return MinGRUParams(*input_weights(self, key))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Array:
        """``h_0 = 0``, of shape ``[*batch_shape, H]``."""
        return common.zero_state(self, batch_shape)

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "MinGRU")

    def step(self, params: MinGRUParams, state: Array, x: Array) -> tuple[Array, Array]:
        """One step: ``x [..., I]``, ``h [..., H]`` to the next ``h`` and the output, which is ``h``."""
        return common.linear_step(self, params, state, x)

    def gates(self, params: MinGRUParams, state: Array, x: Array) -> dict[str, Array]:
        """The gate z of one step, ``[..., H]``, and ``keep = 1 - z``, the fraction of the state kept."""
        z, _ = preactivations(self, params, x)
        return {"z": sigmoid(z), "keep": sigmoid(-z)}

    def linear_recurrence(self, params: MinGRUParams, xs: Array) -> tuple[Array, Array]:
        """The factor on the state, ``1 - z``, and what is added to it, ``z ⊙ h̃``."""
        z, candidate = preactivations(self, params, xs)
        return sigmoid(-z), sigmoid(z) * (g(candidate) if self.positive else candidate)

    def readout(self, params: MinGRUParams, h: Array, xs: Array) -> Array:
        """The state is the output."""
        return h


@hyperparameters
class MinLSTM:
    r"""The minimal LSTM: no output gate, no tanh, and gates that do not read the state and sum to 1.

    .. math::
        f &= σ(x_t w_{xf} + b_f), \qquad i = σ(x_t w_{xi} + b_i) \\
        \tilde h &= x_t w_{x\tilde h} + b_{\tilde h} \\
        h_t &= \frac{f}{f + i} ⊙ h_{t-1} + \frac{i}{f + i} ⊙ \tilde h

    The state is ``h [..., H]``, and so is the output. All states can be computed in parallel:
    ``unroll(..., parallel="scan")``.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of units.
        positive: as of :class:`~jaxrnn.MinGRU`.
        use_bias: whether there is a ``b_h``.
        w_xh_init, b_h_init: initializers, by name or callable, gate by gate.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.MinLSTM(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)), parallel="scan")  # [T, B, I]
        >>> ys.shape, final.shape
        ((7, 2, 5), (2, 5))

    Source: Feng et al. (2024), "Were RNNs all we needed?", arXiv:2410.01201.
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    positive: bool = False
    use_bias: bool = True
    w_xh_init: str | Initializer = "glorot_uniform"
    b_h_init: str | Initializer = "zeros"
    dtype: str = "float32"

    num_gates: ClassVar[int] = 3

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.flag("positive", self.positive)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array) -> MinLSTMParams:
        """Draw ``w_xh [I, 3H]`` and ``b_h [3H]``."""
        return MinLSTMParams(*input_weights(self, key))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Array:
        """``h_0 = 0``, of shape ``[*batch_shape, H]``."""
        return common.zero_state(self, batch_shape)

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "MinLSTM")

    def step(self, params: MinLSTMParams, state: Array, x: Array) -> tuple[Array, Array]:
        """One step: ``x [..., I]``, ``h [..., H]`` to the next ``h`` and the output, which is ``h``."""
        return common.linear_step(self, params, state, x)

    def gates(self, params: MinLSTMParams, state: Array, x: Array) -> dict[str, Array]:
        """The gates f, i of one step, each ``[..., H]``, and ``keep = f / (f + i)``, the fraction of the state kept."""
        f, i, _ = preactivations(self, params, x)
        return {"f": sigmoid(f), "i": sigmoid(i), "keep": sigmoid(log_ratio(f, i))}

    def linear_recurrence(self, params: MinLSTMParams, xs: Array) -> tuple[Array, Array]:
        """The factor on the state, ``f / (f + i)``, and what is added to it, ``i / (f + i) ⊙ h̃``."""
        f, i, candidate = preactivations(self, params, xs)
        keep = log_ratio(f, i)
        return sigmoid(keep), sigmoid(-keep) * (g(candidate) if self.positive else candidate)

    def readout(self, params: MinLSTMParams, h: Array, xs: Array) -> Array:
        """The state is the output."""
        return h


def input_weights(cell: Any, key: Array) -> tuple[Array, Array | None]:
    """Draw ``w_xh [I, G·H]`` and ``b_h [G·H]``."""
    w_key, b_key = jax.random.split(key)
    shape, gates = (cell.input_size, cell.hidden_size), cell.num_gates
    w_xh = initializers.per_gate("w_xh_init", cell.w_xh_init, w_key, gates, shape, cell.dtype)
    if not cell.use_bias:
        return w_xh, None
    return w_xh, initializers.per_gate("b_h_init", cell.b_h_init, b_key, gates, shape[1:], cell.dtype)


def preactivations(cell: Any, params: Any, x: Array) -> tuple[Array, ...]:
    """``x w_xh + b_h`` of each gate."""
    return common.split_gates(common.input_projection(params, x), (cell.hidden_size,) * cell.num_gates)


def log_ratio(f: Array, i: Array) -> Array:
    """``log σ(f) - log σ(i)``: its σ is ``σ(f) / (σ(f) + σ(i))``, also where both are 0 to rounding."""
    return jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i)


def g(a: Array) -> Array:
    """A positive candidate: ``a + 1/2`` where a ≥ 0, ``σ(a)`` elsewhere."""
    return jnp.where(a >= 0, a + 0.5, sigmoid(a))
