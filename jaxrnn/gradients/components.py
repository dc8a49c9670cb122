r"""Principal components of states: the directions of state space in which they vary most.

.. math:: s - \bar s = U \, \mathrm{diag}(σ) \, V, \qquad \text{share}_i = σ_i^2 / \sum_j σ_j^2
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.types import State


class PrincipalComponents(NamedTuple):
    """The directions of S numbers of state, that of the largest variance first."""

    mean: np.ndarray  # [S]
    directions: np.ndarray  # [min(N, S), S], orthonormal rows
    share: np.ndarray  # [min(N, S)], of the variance

    def project(self, states: State, count: int = 2) -> np.ndarray:
        """The coordinates ``[..., count]`` of states ``[..., S]`` along the first directions."""
        return (state_vectors("states", states, size=len(self.mean)) - self.mean) @ self.directions[:count].T


def principal_components(states: State) -> PrincipalComponents:
    """Find the principal components of states, such as those of :func:`~jaxrnn.trajectory`.

    The sign of a direction is such that its largest entry is positive.

    Args:
        states: each leaf ``[..., H]``; h and c of an LSTM are concatenated, and integers, such as counters, left out.

    Returns:
        :class:`PrincipalComponents`.

    Raises:
        TypeError, ValueError: they are no states, or not finite.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> states = jnp.array([[0.0, 0, 5], [3, 4, 5], [6, 8, 5]])  # along one line
        >>> found = rnn.gradients.principal_components(states)
        >>> found.directions[0].round(3), found.share.round(3), found.project(states, 1)[:, 0].round(3)
        (array([0.6, 0.8, 0. ]), array([1., 0., 0.]), array([-5.,  0.,  5.]))
    """
    vectors = state_vectors("states", states)
    vectors = vectors.reshape(-1, vectors.shape[-1])
    mean = vectors.mean(0)
    _, sigma, directions = np.linalg.svd(vectors - mean, full_matrices=False)
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
    share = sigma**2 / max(np.sum(sigma**2), np.finfo(float).tiny)
    return PrincipalComponents(mean, directions * np.where(largest < 0, -1, 1), share)


def state_vectors(argument: str, states: Any, expected: str = "", size: int | None = None) -> np.ndarray:
    """States as vectors ``[..., S]`` in float64: all leaves side by side but integers, such as counters."""
    expected = expected or f"states [..., {'H' if size is None else size}]"
    leaves = [leaf for leaf in jax.tree.leaves(states) if not _is_counter(leaf)]
    try:
        arrays = [np.asarray(leaf, float) for leaf in leaves]
    except (TypeError, ValueError):
        checks.refuse(argument, expected, checks.tree_summary(states), "rnn.trajectory gives them", TypeError)
    fit = arrays and min(a.ndim for a in arrays) > 0 and len({a.shape[:-1] for a in arrays}) == 1
    if not fit or not arrays[0].size or size not in (None, sum(a.shape[-1] for a in arrays)):
        checks.refuse(argument, expected, checks.tree_summary(states), "rnn.trajectory gives them")
    vectors = np.concatenate(arrays, -1)
    if not np.isfinite(vectors).all():
        checks.refuse(argument, "finite numbers", f"{(~np.isfinite(vectors)).sum()} that are not")
    return vectors


def _is_counter(leaf: Any) -> bool:
    """Whether a leaf of a state is an integer, such as a counter, which is not part of the state space."""
    return hasattr(leaf, "dtype") and not jnp.issubdtype(leaf.dtype, jnp.inexact)
