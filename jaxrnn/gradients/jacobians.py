r"""The derivative of one step, of many, and what their spectra say about long times.

States are flattened here: a state of S numbers (an LSTM's h and c one after the other) has an S × S Jacobian
:math:`J_{ij} = ∂s_{t,i} / ∂s_{t-1,j}`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxrnn import checks
from jaxrnn.types import Array, Params, PyTree, State
from jaxrnn.unroll import first_state, trajectory


def step_jacobian(cell: Any, params: Params, state: State, x: PyTree) -> Array:
    r"""Derivative of the new state with respect to the old one, at one state and input without batch axes.

    .. math:: J = \frac{∂s_t}{∂s_{t-1}}; \qquad \text{vanilla: } J = \mathrm{diag}(f'(z_t)) \, w_{hh}^\top

    Args:
        cell: a cell, or a stack that can be stepped.
        params: its parameters.
        state: one state, without batch axes.
        x: one input.

    Returns:
        ``[S, S]``.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.LSTM(3, 5)
        >>> params, state = cell.init(jax.random.key(0)), cell.initial_state()
        >>> rnn.gradients.step_jacobian(cell, params, state, jnp.ones(3)).shape
        (10, 10)
    """
    flat, unravel = ravel_pytree(state)
    return jax.jacfwd(lambda s: ravel_pytree(cell.step(params, unravel(s), x)[0])[0])(flat)


def trajectory_jacobians(cell: Any, params: Params, xs: PyTree, state: State | None = None) -> Array:
    """The Jacobian of every step along a walk without batch axes, ``[T, S, S]``."""
    _, before = _before(cell, params, xs, state)
    return jax.vmap(lambda s, x: step_jacobian(cell, params, s, x))(before, xs)


def product_singular_values(jacobians: Array) -> Array:
    r"""Singular values of the products that gradients flow through, by lag.

    .. math:: σ(J_T J_{T-1} ⋯ J_{T-k+1}), \qquad k = 1 … T

    Args:
        jacobians: ``[T, S, S]`` of :func:`trajectory_jacobians`.

    Returns:
        ``[T, S]``, descending; entry k - 1 belongs to k steps.
    """

    def longer(product: Array, jacobian: Array) -> tuple[Array, Array]:
        product = product @ jacobian
        return product, jnp.linalg.svd(product, compute_uv=False)

    start = jnp.eye(jacobians.shape[-1], dtype=jacobians.dtype)
    return jax.lax.scan(longer, start, jacobians[::-1])[1]


def spectral_radius(w: Array) -> Array:
    """Largest absolute eigenvalue of a square matrix ``[..., S, S]``: of ``w_hh`` or a Jacobian. On CPUs only."""
    return jnp.abs(jnp.linalg.eigvals(w)).max(-1)


def lyapunov_spectrum(
    cell: Any, params: Params, xs: PyTree, state: State | None = None, *, exponents: int | None = None
) -> Array:
    r"""Finite-time Lyapunov exponents of a walk, by repeated QR decomposition.

    .. math:: Q_t R_t = J_t Q_{t-1}, \qquad λ_i = \frac{1}{T} \sum_t \log |R_{t,ii}|

    Nearby states part as :math:`e^{λ t}`: the largest exponent is below 0 where the network forgets (gradients vanish)
    and above 0 where it is chaotic (they explode). No ``[T, S, S]`` array is made.

    Args:
        cell: a cell, or a stack that can be stepped.
        params: its parameters.
        xs: ``[T, I]`` inputs, without batch axes.
        state: the state before the first step.
        exponents: how many of the largest; by default all S.

    Returns:
        ``[exponents]``, in nats a step.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(3, 5, activation=lambda z: z, w_hh_init=rnn.initializers.orthogonal(0.5))
        >>> exponents = rnn.gradients.lyapunov_spectrum(cell, cell.init(jax.random.key(0)), jnp.ones((50, 3)))
        >>> bool(jnp.allclose(exponents, jnp.log(0.5), atol=1e-4))
        True

    Source: Benettin et al. (1980), Meccanica 15; in recurrent networks Vogt et al. (2022), arXiv:2006.14123.
    """
    start, before = _before(cell, params, xs, state)
    flat, unravel = ravel_pytree(start)
    count = flat.size if exponents is None else exponents
    checks.size("exponents", count)
    if count > flat.size:
        checks.refuse("exponents", f"at most {flat.size}, the numbers of a state", count)

    def turn(q: Array, inputs: tuple[State, PyTree]) -> tuple[Array, Array]:
        s, x = inputs
        _, push = jax.linearize(lambda f: ravel_pytree(cell.step(params, unravel(f), x)[0])[0], ravel_pytree(s)[0])
        q, r = jnp.linalg.qr(jax.vmap(push, 1, 1)(q))
        return q, jnp.log(jnp.abs(jnp.diagonal(r)))

    logs = jax.lax.scan(turn, jnp.eye(flat.size, count, dtype=flat.dtype), (before, xs))[1]
    return logs.mean(0)


def _before(cell: Any, params: Params, xs: PyTree, state: State | None) -> tuple[State, State]:
    """The first state, and the state before each step, ``[T, ...]``."""
    checks.sequence("xs", cell, xs)
    start = first_state(cell, params, xs) if state is None else state
    after = trajectory(cell, params, xs, start)
    return start, jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), start, after)
