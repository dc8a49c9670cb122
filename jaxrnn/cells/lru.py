"""The linear recurrent unit: a diagonal, complex, linear recurrence."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.cells import common
from jaxrnn.constructor import hyperparameters
from jaxrnn.precision import broadcast_rows, wide_dtype, widen
from jaxrnn.types import Array, Complex, exportable


@exportable
class LRUParams(NamedTuple):
    """``nu, theta, gamma [H]``; ``w_xh [I, 2H]`` and ``w_hy [2H, H]``, real and imaginary parts; ``w_xy [I, H]``."""

    nu: Array
    theta: Array
    gamma: Array
    w_xh: Array
    w_hy: Array
    w_xy: Array


@hyperparameters
class LRU:
    r"""The linear recurrent unit.

    .. math::
        λ &= \exp(-e^ν + i e^θ) \\
        h_t &= λ ⊙ h_{t-1} + e^γ ⊙ (x_t w_{xh}) \\
        y_t &= \mathrm{Re}(h_t w_{hy}) + x_t w_{xy}

    The state h and the weights ``w_xh``, ``w_hy`` are complex, inputs and outputs are real. Every λ is inside of the
    unit circle, so that the state stays bounded. The state is a pair of real arrays, ``Complex(real, imag)``, each
    ``[..., H]``; the parameters are real as well, so that every dtype, optimizer and file format can hold them. All
    states can be computed in parallel: ``unroll(..., parallel="scan")``.

    At first λ is uniform on a ring of the unit disk, ``r_min ≤ |λ| ≤ r_max``, with a phase up to ``max_phase``;
    :math:`e^γ = \sqrt{1 - |λ|^2}` gives the state the variance of its input. An ``r_min`` near 1 remembers for longer,
    a small ``max_phase`` oscillates less.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of complex numbers in the state, and of outputs.
        r_min, r_max: the radii of the ring, from 0 to 1.
        max_phase: the largest phase of λ, up to 2π.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.LRU(3, 5, r_min=0.9, r_max=0.999)
        >>> params = cell.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)), parallel="scan")  # [T, B, I]
        >>> ys.shape, final.real.shape
        ((7, 2, 5), (2, 5))

    Source: Orvieto et al. (2023), "Resurrecting recurrent neural networks for long sequences".
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 2 * math.pi
    dtype: str = "float32"

    def __post_init__(self) -> None:
        checks.size("input_size", self.input_size)
        checks.size("hidden_size", self.hidden_size)
        for name in ("r_min", "r_max", "max_phase"):
            checks.number(name, getattr(self, name))
        if not 0 <= self.r_min < self.r_max <= 1:
            checks.refuse("r_min, r_max", "0 ≤ r_min < r_max ≤ 1", f"{self.r_min}, {self.r_max}")
        if not 0 < self.max_phase <= 2 * math.pi:
            checks.refuse("max_phase", "a phase over 0, up to 2π", self.max_phase)
        object.__setattr__(self, "dtype", checks.float_dtype("dtype", self.dtype))

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array) -> LRUParams:
        """Draw λ on the ring, and the weights with a variance of 1 over the number of their inputs."""
        checks.dtype_available(self.dtype)
        I, H = self.input_size, self.hidden_size  # noqa: E741
        keys = jax.random.split(key, 5)
        tiny = 1e-6  # of the unit interval: log and phase are finite
        u, v = (jax.random.uniform(k, (H,), wide_dtype(self.dtype), tiny, 1 - tiny) for k in keys[:2])
        squared = self.r_min**2 + u * (self.r_max**2 - self.r_min**2)  # of the radius: uniform by area
        nu, theta, gamma = jnp.log(-jnp.log(squared) / 2), jnp.log(self.max_phase * v), jnp.log1p(-squared) / 2
        w_xh = jax.random.normal(keys[2], (I, 2 * H), self.dtype) / (2 * I) ** 0.5
        w_hy = jax.random.normal(keys[3], (2 * H, H), self.dtype) / H**0.5
        w_xy = jax.random.normal(keys[4], (I, H), self.dtype) / I**0.5
        nu, theta, gamma = (p.astype(self.dtype) for p in (nu, theta, gamma))
        return LRUParams(nu, theta, gamma, w_xh, w_hy, w_xy)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Complex:
        """``h_0 = 0``, each part of shape ``[*batch_shape, H]``."""
        return Complex(common.zero_state(self, batch_shape), common.zero_state(self, batch_shape))

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "LRU")

    def step(self, params: LRUParams, state: Complex, x: Array) -> tuple[Complex, Array]:
        """One step: ``x [..., I]`` and the state to the next state and the output ``[..., H]``."""
        return common.linear_step(self, params, state, x)

    def linear_recurrence(self, params: LRUParams, xs: Array) -> tuple[Complex, Complex]:
        """λ ``[1, ..., H]``, the same for every step, and ``exp(γ) ⊙ (x w_xh)``."""
        nu, theta = widen((params.nu, params.theta))  # 16 bits would move λ off the ring
        radius, phase = jnp.exp(-jnp.exp(nu)), jnp.exp(theta)
        update = [self._scaled(params, part) for part in common.split_gates(xs @ params.w_xh, (self.hidden_size,) * 2)]
        row = (1,) * (xs.ndim - 1) + radius.shape
        decay = Complex((radius * jnp.cos(phase)).reshape(row), (radius * jnp.sin(phase)).reshape(row))
        return decay, Complex(*update)

    def _scaled(self, params: LRUParams, part: Array) -> Array:
        return broadcast_rows(jnp.exp(params.gamma), part) * part

    def readout(self, params: LRUParams, h: Complex, xs: Array) -> Array:
        """``Re(h w_hy) + x w_xy``; the rows of ``w_hy`` are its real part, then its imaginary part."""
        return jnp.concatenate([h.real, -h.imag], -1) @ params.w_hy + xs @ params.w_xy
