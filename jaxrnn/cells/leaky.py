"""The leaky continuous-time rate network of computational neuroscience, with noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax

from jaxrnn import checks
from jaxrnn.cells import common
from jaxrnn.cells.vanilla import ACTIVATIONS, SLOPES
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.types import Array, Mask, PyTree, Recurrence, exportable, unmasked


@exportable
class LeakyParams(NamedTuple):
    """``w_xh [I, H]``, ``w_hh [H, H]``, ``b_h [H]`` or None."""

    w_xh: Array
    w_hh: Array
    b_h: Array | None


@hyperparameters
class LeakyRNN:
    r"""A leaky continuous-time network of firing rates, in steps of Euler's method, with noise from a key.

    .. math::
        a &= h_{t-1} w_{hh} + x_t w_{xh} + b_h + \sqrt{2 / α} \, σ \, ξ_t, \qquad ξ_t \sim N(0, 1) \\
        h_t &= (1 - α) \, h_{t-1} + α \, f(a)

    These are steps of length Δt of :math:`τ \dot h = -h + f(h w_{hh} + x w_{xh} + b_h + \sqrt{2 τ} σ ξ(t))` with α = Δt
    / τ. Without a key there is no noise; with one, step t draws from ``fold_in(key, t)``, t from the start of
    this call: each chunk and each ``step`` needs another key. The state is ``h [..., H]``,
    the rates, and so is the output. The noise is inside of f, as in Yang et al. (2019); in Song et al. (2016) the state
    is the current, with the noise outside of f, and the rate is f of it.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of units.
        alpha: α = Δt / τ in (0, 1]; 1 is :class:`~jaxrnn.VanillaRNN`.
        noise: σ, the standard deviation of the noise; 0.05 in Yang et al.
        activation: f: ``"relu"``, ``"tanh"``, ``"sigmoid"`` or any elementwise callable, such as ``jax.nn.softplus``.
        use_bias: whether there is a ``b_h``.
        w_xh_init, w_hh_init, b_h_init: initializers, by name or callable.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.LeakyRNN(3, 5, alpha=0.2, noise=0.05)
        >>> params = cell.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))  # [T, B, I]
        >>> ys.shape, final.shape
        ((7, 2, 5), (2, 5))

    Source: Yang, Joglekar, Song, Newsome & Wang (2019), "Task representations in neural networks trained to perform
    many cognitive tasks", Nature Neuroscience 22; Song, Yang & Wang (2016), "Training excitatory-inhibitory recurrent
    neural networks for cognitive tasks", PLOS Computational Biology 12.
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    alpha: float = 0.2
    noise: float = 0.0
    activation: str | Callable[[Array], Array] = "relu"
    use_bias: bool = True
    w_xh_init: str | Initializer = "glorot_uniform"
    w_hh_init: str | Initializer = "orthogonal"
    b_h_init: str | Initializer = "zeros"
    dtype: str = "float32"

    num_gates: ClassVar[int] = 1

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.function_or_name("activation", self.activation, ACTIVATIONS)
        checks.number("alpha", self.alpha)
        if not 0 < self.alpha <= 1:
            checks.refuse("alpha", "a number in (0, 1]", self.alpha, "it is the time step divided by the time constant")
        checks.number("noise", self.noise)
        if self.noise < 0:
            checks.refuse("noise", "a number of at least 0", self.noise, "it is a standard deviation")

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: Array) -> LeakyParams:
        """Draw ``w_xh [I, H]``, ``w_hh [H, H]`` and ``b_h [H]``."""
        return LeakyParams(*common.init_weights(self, jax.random.split(key, 3), self.num_gates))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Array:
        """``h_0 = 0``, of shape ``[*batch_shape, H]``."""
        return common.zero_state(self, batch_shape)

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "LeakyRNN")

    def step(self, params: LeakyParams, state: Array, x: Array, *, key: Array | None = None) -> tuple[Array, Array]:
        """One step: ``x [..., I]``, ``h [..., H]`` to the next ``h`` and the output, which is ``h``."""
        return self.masked_step(params, state, x, key=key)

    def masked_step(
        self, params: LeakyParams, state: Array, x: Array, *, key: Array | None = None,
        recurrent: Mask = unmasked, candidate: Mask = unmasked,
    ) -> tuple[Array, Array]:  # fmt: skip
        """One step with ``recurrent(h)`` in the product and ``candidate(f(a))`` in the update, for dropout."""
        params, state = checks.step_arguments(self, params, state, x)
        z = self._add_noise(common.input_projection(params, x), key)
        h, _ = self._equations(params, state, z, recurrent, candidate)
        return h, h

    def _equations(
        self, params: LeakyParams, h: Array, z: Array, recurrent: Mask = unmasked, candidate: Mask = unmasked
    ) -> tuple[Array, tuple[Array, Array]]:
        """The equations above, from ``h_{t-1}`` and ``z = x w_xh + b_h`` with the noise; also a and ``f(a)``."""
        a = recurrent(h) @ params.w_hh + z
        rate = candidate(self._f(a))
        return (1 - self.alpha) * h + self.alpha * rate, (a, rate)

    def _add_noise(self, z: Array, key: Array | None) -> Array:
        if key is None or self.noise == 0:
            return z
        return z + (2 / self.alpha) ** 0.5 * self.noise * jax.random.normal(key, z.shape, z.dtype)

    # ---- the differential, for jaxrnn.bptt ----

    def precompute_projection(self, rows: int) -> bool:
        """Whether it is faster on a CPU: the products are those of :class:`~jaxrnn.VanillaRNN`."""
        return self.hidden_size > 32

    def recurrence(self, params: LeakyParams, xs: Array, *, keys: Array | None = None) -> tuple[PyTree, Recurrence]:
        """The step; its residual is ``f(a)``, or a where f'(a) is no function of it. Noise is drawn before the scan."""
        precomputed = keys is not None or common.should_precompute(self, xs)

        def step(h: Array, z: Array) -> tuple[Array, Array]:
            h, (a, rate) = self._equations(params, h, z if precomputed else common.input_projection(params, z))
            return h, rate if isinstance(self.activation, str) else a

        zs = common.input_projection(params, xs) if precomputed else xs
        return zs if keys is None else jax.vmap(self._add_noise)(zs, keys), step

    def output(self, h: Array, residuals: Any) -> Array:
        """The state is the output."""
        return h

    def differential(
        self, params: LeakyParams, dparams: LeakyParams, xs: Array, dxs: Array | None,
        before: Array, after: Array, residuals: Array,
    ) -> tuple[PyTree, Recurrence]:  # fmt: skip
        """``v = dx w_xh + x dw_xh + db_h + h_{t-1} dw_hh``, and the differential of the second equation.

        ``dh_t = (1 - α) dh_{t-1} + α f'(a) ⊙ (dh_{t-1} w_hh + v)``.
        """
        v = common.input_projection_tangent(params, dparams, xs, dxs) + common.weight_tangent(before, dparams.w_hh)
        matmul_w_hh = common.right_matmul(params.w_hh)

        def step(dh: Array, inputs: tuple) -> tuple[Array, Array]:
            residual, v = inputs
            da = matmul_w_hh(dh) + v
            if isinstance(self.activation, str):
                drate = SLOPES[self.activation](residual) * da
            else:
                drate = jax.jvp(self._f, (residual,), (da,))[1]
            dh = (1 - self.alpha) * dh + self.alpha * drate
            return dh, dh

        return (residuals, v), step

    @property
    def _f(self) -> Callable[[Array], Array]:
        return ACTIVATIONS[self.activation] if isinstance(self.activation, str) else self.activation
