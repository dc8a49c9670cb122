r"""The loss around a point, along one direction or in a plane.

.. math:: f(a) = L(θ + a δ), \qquad f(a, b) = L(θ + a δ + b η)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.gradients import checks as gradient_checks
from jaxrnn.precision import wide_dtype, widen
from jaxrnn.types import Array, Params


class Landscape(NamedTuple):
    """The loss at N steps along each direction."""

    steps: np.ndarray  # [N], a and b, from -radius to radius
    losses: np.ndarray  # [N], or [N, N] of two directions: losses[i, j] is f(steps[i], steps[j])


def random_direction(key: Array, params: Params) -> Params:
    r"""Draw a random direction in the space of the parameters, filter by filter of the norm of the parameters.

    .. math:: δ_j ← \frac{δ_j}{\|δ_j\|} \|w_j\|

    A filter is what enters one unit: a column of ``w [I, H]``. So a step of 1 is as large as the weights themselves,
    and landscapes of different networks can be compared. Vectors, such as biases, and integers do not move.

    Args:
        key: random key.
        params: the parameters at which the landscape is taken.

    Returns:
        A tree like ``params``.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> params = rnn.GRU(3, 5).init(jax.random.key(0))
        >>> direction = rnn.gradients.random_direction(jax.random.key(1), params)
        >>> norm = lambda w: jnp.linalg.norm(w, axis=0)
        >>> bool(jnp.allclose(norm(direction.w_hh), norm(params.w_hh))), float(jnp.abs(direction.b_h).max())
        (True, 0.0)

    Source: Li et al. (2018), "Visualizing the loss landscape of neural nets", arXiv:1712.09913.
    """
    leaves, tree = jax.tree.flatten(params)

    def draw(key: Array, w: Array) -> Array:
        if jnp.ndim(w) < 2 or not jnp.issubdtype(w.dtype, jnp.floating):
            return jnp.zeros_like(w)
        inputs = tuple(range(w.ndim - 1))
        delta = jax.random.normal(key, w.shape, wide_dtype(w.dtype))
        delta_norm, w_norm = (jnp.sqrt(jnp.sum(a**2, inputs, keepdims=True)) for a in (delta, widen(w)))
        return (delta / delta_norm * w_norm).astype(w.dtype)

    return jax.tree.unflatten(tree, map(draw, jax.random.split(key, max(len(leaves), 1)), leaves))


def loss_landscape(
    loss: Callable[[Params], Array], params: Params, *directions: Params, radius: float = 1.0, points: int = 41
) -> Landscape:
    """Compute a loss around the parameters, along one direction or in the plane of two.

    Args:
        loss: ``loss(params) -> number``.
        params: θ, the parameters in the middle.
        *directions: δ, or δ and η, trees like ``params``: of :func:`random_direction`, or the difference of two trained
            networks, along which step 0 is the one and step 1 the other.
        radius: the largest step.
        points: N, the number of steps, at least 2; an odd one has step 0 among them.

    Returns:
        :class:`Landscape`. One evaluation after another, in the memory of one.

    Raises:
        TypeError, ValueError: there are not one or two directions, or one is not like ``params``.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> found = rnn.gradients.loss_landscape(lambda p: (p["w"] ** 2).sum(), {"w": jnp.zeros(2)},
        ...                                      {"w": jnp.array([3.0, 4.0])}, points=5)
        >>> found.steps.tolist(), found.losses.tolist()
        ([-1.0, -0.5, 0.0, 0.5, 1.0], [25.0, 6.25, 0.0, 6.25, 25.0])

    Source: Goodfellow, Vinyals & Saxe (2015), "Qualitatively characterizing neural network optimization problems"; Li
    et al. (2018), "Visualizing the loss landscape of neural nets".
    """
    gradient_checks.loss_function(loss, "loss(params)")
    checks.size("points", points)
    if points < 2:
        checks.refuse("points", "at least 2, from -radius to radius", points)
    checks.number("radius", radius)
    if radius <= 0:
        checks.refuse("radius", "a number above 0", radius)
    if len(directions) not in (1, 2):
        checks.refuse("directions", "one or two", len(directions), "random_direction(key, params) draws one")
    shapes = jax.eval_shape(lambda: params)
    for n, direction in enumerate(directions):
        checks.same_tree(f"directions[{n}]", shapes, direction, "random_direction(key, params) draws one")

    def at(step: Array) -> Array:
        def move(w: Array, *deltas: Array) -> Array:
            return w + sum(a.astype(w.dtype) * delta for a, delta in zip(step, deltas))

        return gradient_checks.loss_value(loss(jax.tree.map(move, params, *directions)))

    steps = np.linspace(-radius, radius, points)
    grid = np.stack(np.meshgrid(*[steps] * len(directions), indexing="ij"), -1)
    losses = jax.jit(lambda grid: jax.lax.map(at, grid))(grid.reshape(-1, len(directions)))
    return Landscape(steps, np.asarray(losses, float).reshape(grid.shape[:-1]))
