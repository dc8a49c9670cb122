"""The simple recurrent unit: a light recurrence, and a highway from the input."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from jaxrnn import checks, initializers
from jaxrnn.cells import common
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.precision import add_bias, broadcast_rows
from jaxrnn.types import Array, exportable


@exportable
class SRUParams(NamedTuple):
    """``w_xh [I, 3H]``, of c̃, f, r, and if I ≠ H ``[I, 4H]``; ``b_h [2H]`` of f, r; ``peepholes [2, H]`` or None."""

    w_xh: Array
    b_h: Array | None
    peepholes: Array | None


@hyperparameters
class SRU:
    r"""The simple recurrent unit.

    .. math::
        f &= σ(x_t w_f + v_f ⊙ c_{t-1} + b_f) \\
        r &= σ(x_t w_r + v_r ⊙ c_{t-1} + b_r) \\
        c_t &= f ⊙ c_{t-1} + (1 - f) ⊙ (x_t w_{\tilde c}) \\
        h_t &= r ⊙ c_t + (1 - r) ⊙ α x_t

    The terms with :math:`v` are there with ``peepholes`` only. Without them the state enters linearly, and all states
    can be computed in parallel: ``unroll(..., parallel="scan")``; with them the cell is differentiated by autodiff. The
    state is ``c [..., H]``, the output ``h``. If I ≠ H, a projection :math:`x_t w_s` takes the place of :math:`x_t` in
    the last line.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of units.
        peepholes: whether f and r read the state.
        use_bias: whether there is a ``b_h``.
        highway_bias: b, added to the drawn :math:`b_r`; below 0, the output is at first closer to the input. The scale
            :math:`α = \sqrt{1 + 2 e^b}` then keeps the variance of the input.
        w_xh_init, b_h_init: initializers, by name or callable, gate by gate; ``peepholes`` start at 0.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.SRU(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)), parallel="scan")  # [T, B, I]
        >>> ys.shape, final.shape
        ((7, 2, 5), (2, 5))

    Source: Lei et al. (2018), "Simple recurrent units for highly parallelizable recurrence".
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    peepholes: bool = False
    use_bias: bool = True
    highway_bias: float = 0.0
    w_xh_init: str | Initializer = "lecun_uniform"
    b_h_init: str | Initializer = "zeros"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.flag("peepholes", self.peepholes)
        checks.number("highway_bias", self.highway_bias)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    @property
    def is_linear(self) -> bool:
        return not self.peepholes

    @property
    def num_gates(self) -> int:
        return 3 + (self.input_size != self.hidden_size)

    def init(self, key: Array) -> SRUParams:
        """Draw ``w_xh [I, 3H]`` or ``[I, 4H]`` and ``b_h [2H]``."""
        w_key, b_key = jax.random.split(key)
        I, H = self.input_size, self.hidden_size  # noqa: E741
        w_xh = initializers.per_gate("w_xh_init", self.w_xh_init, w_key, self.num_gates, (I, H), self.dtype)
        b_h = None
        if self.use_bias:
            b_h = initializers.per_gate("b_h_init", self.b_h_init, b_key, 2, (H,), self.dtype)
            b_h = b_h.at[H:].add(self.highway_bias)
        return SRUParams(w_xh, b_h, jnp.zeros((2, H), self.dtype) if self.peepholes else None)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Array:
        """``c_0 = 0``, of shape ``[*batch_shape, H]``."""
        return common.zero_state(self, batch_shape)

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "SRU")

    def step(self, params: SRUParams, state: Array, x: Array) -> tuple[Array, Array]:
        """One step: ``x [..., I]``, ``c [..., H]`` to the next ``c`` and the output ``h``."""
        if self.is_linear:
            return common.linear_step(self, params, state, x)
        params, c = checks.step_arguments(self, params, state, x)
        f, candidate = self._recurrence(params, x, c)
        r, skip = self._highway(params, x, c)
        c = f * c + (1 - f) * candidate
        return c, r * c + (1 - r) * skip

    def gates(self, params: SRUParams, state: Array, x: Array) -> dict[str, Array]:
        """The gates f, r of one step, each ``[..., H]``; ``keep`` is f."""
        f, _ = self._recurrence(params, x, state)
        r, _ = self._highway(params, x, state)
        return {"f": f, "r": r, "keep": f}

    def linear_recurrence(self, params: SRUParams, xs: Array) -> tuple[Array, Array]:
        """The factor on the state, f, and what is added to it, ``(1 - f) ⊙ (x w_c̃)``; without peepholes."""
        f, candidate = self._recurrence(params, xs)
        return f, (1 - f) * candidate

    def readout(self, params: SRUParams, c: Array, xs: Array) -> Array:
        """``h = r ⊙ c + (1 - r) ⊙ α x``; without peepholes."""
        r, skip = self._highway(params, xs)
        return r * c + (1 - r) * skip

    def _recurrence(self, params: SRUParams, x: Array, c: Array | None = None) -> tuple[Array, Array]:
        """f, and the candidate ``x w_c̃``."""
        H = self.hidden_size
        candidate, f = common.split_gates(x @ params.w_xh[:, : 2 * H], (H, H))
        return self._gate(params, 0, f, c), candidate

    def _highway(self, params: SRUParams, x: Array, c: Array | None = None) -> tuple[Array, Array]:
        """r, and ``α x``."""
        H = self.hidden_size
        r, *projected = common.split_gates(x @ params.w_xh[:, 2 * H :], (H,) * (self.num_gates - 2))
        alpha = math.sqrt(1 + 2 * math.exp(self.highway_bias))
        return self._gate(params, 1, r, c), alpha * (projected[0] if projected else x)

    def _gate(self, params: SRUParams, n: int, z: Array, c: Array | None) -> Array:
        """``σ(z + v_n ⊙ c + b_n)``; without the state there are no peepholes."""
        H = self.hidden_size
        z = z if params.b_h is None else add_bias(z, params.b_h[n * H : (n + 1) * H])
        return sigmoid(z if c is None or params.peepholes is None else z + broadcast_rows(params.peepholes[n], z) * c)
