r"""Affine recurrences with a matrix for every step, solved for all steps at once.

.. math:: s_t = A_t s_{t-1} + b_t

Two affine maps compose to one, which is an associative operation: all states are a prefix scan of :math:`\log_2 T`
levels, with :math:`O(T S^3)` operations for states of S numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.compat import mesh_axes, pvary
from jaxrnn.types import Array


def affine_scan(A: Array, b: Array, *, reverse: bool = False) -> Array:
    """All states of the recurrence from ``s_0 = 0``: ``A [T, ..., S, S]`` and ``b [T, ..., S]`` to ``[T, ..., S]``.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.parallel.affine import affine_scan
        >>> affine_scan(jnp.full((4, 1, 1), 0.5), jnp.ones((4, 1)))[:, 0].tolist()
        [1.0, 1.5, 1.75, 1.875]
    """

    def compose(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        (A_1, b_1), (A_2, b_2) = first, second
        return A_2 @ A_1, matvec(A_2, b_1) + b_2

    return jax.lax.associative_scan(compose, (A, b), reverse=reverse)[1]


def damped_affine_scan(A: Array, b: Array, damping: float) -> Array:
    r"""The states that solve the recurrence from ``s_0 = 0`` as well as they can while they stay near 0.

    .. math:: \min_s \sum_t \|s_t - A_t s_{t-1} - b_t\|^2 + λ \|s_t\|^2

    It is the mean of the states of a linear Gaussian model with unit noise, given observations 0 of variance 1/λ: a
    Kalman filter forwards and a smoother backwards, each a prefix scan.

    Source: Särkkä and García-Fernández (2021), "Temporal parallelization of Bayesian smoothers".
    """
    A = A.at[:1].set(0)  # the first state follows from none
    transposed, one = A.mT, jnp.broadcast_to(jnp.eye(A.shape[-1], dtype=A.dtype), A.shape)
    gain = damping / (1 + damping)
    kept = 1 - gain
    steps = Filtering(kept * A, kept * b, kept * one, -gain * matvec(transposed, b), gain * transposed @ A)
    filtered = jax.lax.associative_scan(Filtering.then, steps)
    mean, covariance = filtered.b, filtered.C
    later, b_later = (jnp.concatenate([x[1:], jnp.zeros_like(x[:1])]) for x in (A, b))  # no step after the last
    back = divide(covariance @ later.mT, later @ covariance @ later.mT + one)
    return affine_scan(back, mean - matvec(back, matvec(later, mean) + b_later), reverse=True)


class Filtering(NamedTuple):
    """What some steps of a Kalman filter know: the state after them given the one before, and the likelihood of that.

    Given s before them, the state is normal with mean ``A s + b`` and covariance C; the log likelihood of s is
    ``ηᵀ s - sᵀ J s / 2``.
    """

    A: Array
    b: Array
    C: Array
    η: Array
    J: Array

    def then(self, late: Filtering) -> Filtering:
        """These steps, and the later ones after them."""
        one = jnp.broadcast_to(jnp.eye(self.A.shape[-1], dtype=self.A.dtype), self.A.shape)
        forth = divide(late.A, one + self.C @ late.J)
        back = divide(self.A.mT, one + late.J @ self.C)
        return Filtering(
            forth @ self.A,
            matvec(forth, self.b + matvec(self.C, late.η)) + late.b,
            forth @ self.C @ late.A.mT + late.C,
            matvec(back, late.η - matvec(late.J, self.b)) + self.η,
            back @ late.J @ self.A + self.J,
        )


def matvec(A: Array, b: Array) -> Array:
    return (A @ b[..., None])[..., 0]


def divide(A: Array, B: Array) -> Array:
    """``A B⁻¹``."""
    if B.shape[-1] == 1:
        return A / B
    return jnp.linalg.solve(B.mT, A.mT).mT


# ---- Jacobians -----------------------------------------------------------------------------------------------------


def at_every_row(unit: Array, s: Array) -> Array:
    return pvary(jnp.broadcast_to(unit, s.shape), mesh_axes(s))


def full_jacobian(f: Callable[[Array], Array], s: Array) -> Array:
    """``∂f_i / ∂s_j`` of a map of rows, ``[..., S]`` to ``[..., S, S]``."""

    def column(unit: Array) -> Array:
        return jax.jvp(f, (s,), (at_every_row(unit, s),))[1]

    return jax.vmap(column, out_axes=-1)(jnp.eye(s.shape[-1], dtype=s.dtype))


def diagonal_jacobian(f: Callable[[Array], Array], s: Array) -> Array:
    """``∂f_i / ∂s_i`` of a map of rows, ``[..., S]``, one column after another: no ``[..., S, S]`` is stored."""

    def entry(unit: Array) -> Array:
        return jax.jvp(f, (s,), (at_every_row(unit, s),))[1] @ unit

    return jnp.moveaxis(jax.lax.map(entry, jnp.eye(s.shape[-1], dtype=s.dtype)), 0, -1)
