r"""Jacobians of steps and of sequences, and their spectra: singular values, spectral radius, Lyapunov exponents.

States are flattened: a state of S numbers (h and c of an LSTM concatenated) has an S × S Jacobian
:math:`J_{ij} = ∂s_{t,i} / ∂s_{t-1,j}`. Integers in a state, such as counters, are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.compat import ravel
from jaxrnn.gradients import checks as gradient_checks
from jaxrnn.precision import widen
from jaxrnn.types import Array, Params, PyTree, State
from jaxrnn.unroll import default_state, sequence_shape, trajectory


def flatten(state: State) -> tuple[Array, Callable[[Array], State]]:
    """The floating numbers of a state as one vector ``[S]``, and the inverse, which keeps the other leaves."""
    leaves, tree = jax.tree.flatten(state)
    floating = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]
    vector, unravel = ravel([leaf for leaf, is_float in zip(leaves, floating) if is_float])

    def unflatten(vector: Array) -> State:
        new = iter(unravel(vector))
        return jax.tree.unflatten(tree, [next(new) if is_float else leaf for leaf, is_float in zip(leaves, floating)])

    return vector, unflatten


def step_jacobian(cell: Any, params: Params, state: State, x: PyTree) -> Array:
    r"""Jacobian of the new state with respect to the old one, at one state and input without batch axes.

    .. math:: J = \frac{∂s_t}{∂s_{t-1}}; \qquad \text{vanilla: } J = \mathrm{diag}(f'(z_t)) \, w_{hh}^\top

    Args:
        cell: a cell, or a stack that can be stepped.
        params: its parameters.
        state: one state, without batch axes.
        x: one input.

    Returns:
        ``[S, S]``.

    Raises:
        TypeError, ValueError: the state does not fit the cell or has batch axes.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.LSTM(3, 5)
        >>> params, state = cell.init(jax.random.key(0)), cell.initial_state()
        >>> rnn.gradients.step_jacobian(cell, params, state, jnp.ones(3)).shape
        (10, 10)
    """
    checks.model("cell", cell)
    gradient_checks.one_input(cell, x)
    flat, unflatten = flatten(checks.state_like("state", cell, state, ()))
    return jax.jacfwd(lambda s: flatten(cell.step(params, unflatten(s), x)[0])[0])(flat)


def trajectory_jacobians(cell: Any, params: Params, xs: PyTree, state: State | None = None) -> Array:
    """The Jacobian of every step of a sequence without batch axes, ``[T, S, S]``."""
    _, before = _states_before(cell, params, xs, state)
    return jax.vmap(lambda s, x: step_jacobian(cell, params, s, x))(before, xs)


def product_singular_values(jacobians: Array) -> Array:
    r"""Singular values of the Jacobian products of backpropagation, by lag.

    .. math:: σ(J_T J_{T-1} ⋯ J_{T-k+1}), \qquad k = 1 … T

    Args:
        jacobians: ``[T, S, S]`` of :func:`trajectory_jacobians`.

    Returns:
        ``[T, S]``, descending; entry k - 1 is that of k steps. The error of all is the rounding error of the largest.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(3, 5, activation=lambda z: z, w_hh_init=rnn.initializers.orthogonal(0.5))
        >>> jacobians = rnn.gradients.trajectory_jacobians(cell, cell.init(jax.random.key(0)), jnp.ones((4, 3)))
        >>> rnn.gradients.product_singular_values(jacobians)[:, 0].round(4).tolist()
        [0.5, 0.25, 0.125, 0.0625]
    """
    jacobians = gradient_checks.square("jacobians", jacobians, 3)

    def step(product: Array, jacobian: Array) -> tuple[Array, Array]:
        product = product @ jacobian
        return product, jnp.linalg.svd(product, compute_uv=False)

    start = jnp.eye(jacobians.shape[-1], dtype=jacobians.dtype)
    return jax.lax.scan(step, start, jacobians[::-1])[1]


def spectral_radius(w: Array) -> Array:
    """Largest absolute eigenvalue of a square matrix ``[..., S, S]``: of ``w_hh`` or a Jacobian. On CPU only.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(3, 5, w_hh_init=rnn.initializers.orthogonal(0.5))
        >>> round(float(rnn.gradients.spectral_radius(cell.init(jax.random.key(0)).w_hh)), 4)
        0.5
    """
    return jnp.abs(jnp.linalg.eigvals(gradient_checks.square("w", w))).max(-1)


def lyapunov_spectrum(
    cell: Any, params: Params, xs: PyTree, state: State | None = None, *, exponents: int | None = None
) -> Array:
    r"""Finite-time Lyapunov exponents along a sequence, by repeated QR decomposition.

    .. math:: Q_t R_t = J_t Q_{t-1}, \qquad λ_i = \frac{1}{T} \sum_t \log |R_{t,ii}|

    Nearby states diverge as :math:`e^{λ t}`: the largest exponent is below 0 if the network forgets (gradients vanish)
    and above 0 if it is chaotic (gradients explode). No ``[T, S, S]`` array is allocated.

    Args:
        cell: a cell, or a stack that can be stepped.
        params: its parameters.
        xs: ``[T, I]`` inputs, without batch axes.
        state: the state before the first step.
        exponents: the number of largest exponents; by default all S.

    Returns:
        ``[exponents]``, in nats a step, descending up to errors of finite T: the initial directions are random and
        converge to those of the largest growth.

    Raises:
        TypeError, ValueError: ``xs`` has batch axes; an argument does not fit the cell.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(3, 5, activation=lambda z: z, w_hh_init=rnn.initializers.orthogonal(0.5))
        >>> exponents = rnn.gradients.lyapunov_spectrum(cell, cell.init(jax.random.key(0)), jnp.ones((50, 3)))
        >>> bool(jnp.allclose(exponents, jnp.log(0.5), atol=1e-4))
        True

    Source: Benettin et al. (1980), Meccanica 15; in recurrent networks Vogt et al. (2022), arXiv:2006.14123.
    """
    start, before = _states_before(cell, params, xs, state)
    gradient_checks.at_least_one_step(len(jax.tree.leaves(xs)[0]), xs)
    flat, _ = flatten(start)
    if not flat.size:
        checks.refuse("cell", "a cell with a state of floating numbers", repr(cell), error=TypeError)
    count = flat.size if exponents is None else exponents
    checks.size("exponents", count)
    if count > flat.size:
        checks.refuse("exponents", f"at most {flat.size}, the numbers of a state", count)

    def qr_step(q: Array, inputs: tuple[State, PyTree]) -> tuple[Array, Array]:
        s, x = inputs
        flat, unflatten = flatten(s)
        _, jvp = jax.linearize(lambda f: flatten(cell.step(params, unflatten(f), x)[0])[0], flat)
        q, r = jnp.linalg.qr(widen(jax.vmap(jvp, 1, 1)(q.astype(flat.dtype))))
        return q, jnp.log(jnp.abs(jnp.diagonal(r)))

    random = jax.random.normal(jax.random.key(0), (flat.size, flat.size), widen(flat).dtype)  # not axis-aligned
    logs = jax.lax.scan(qr_step, jnp.linalg.qr(random)[0][:, :count], (before, xs))[1]
    return logs.mean(0)


def _states_before(cell: Any, params: Params, xs: PyTree, state: State | None) -> tuple[State, State]:
    """The first state, and the state before each step, ``[T, ...]``."""
    checks.model("cell", cell)
    checks.sequence("xs", cell, xs)
    if sequence_shape(cell, xs)[1]:
        checks.refuse("xs", "one sequence, without batch axes", checks.describe(xs), "jax.vmap takes one after another")
    start = default_state(cell, params, xs) if state is None else checks.state_like("state", cell, state, ())
    after = trajectory(cell, params, xs, start)
    return start, jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest])[:-1], start, after)
