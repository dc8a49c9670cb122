r"""Fixed points of a recurrence under a constant input, and what happens near them.

.. math:: q(s) = \tfrac{1}{2} \|F(s, x) - s\|^2

Many states descend q at once with Adam and are then polished by Newton's method on F(s, x) - s; those that end with
q small enough are fixed points. The eigenvalues of the Jacobian there say which directions are kept or pushed out.

Source: Sussillo & Barak (2013), "Opening the black box", Neural Computation 25.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jaxrnn import checks
from jaxrnn.gradients.jacobians import step_jacobian
from jaxrnn.types import Array, Params, PyTree, State


class FixedPoints(NamedTuple):
    """N distinct fixed points, slowest first to last fastest; flat states ``[N, S]``."""

    states: State  # each leaf [N, ...]
    points: np.ndarray  # [N, S], the same, flat
    speeds: np.ndarray  # [N], q
    jacobians: np.ndarray  # [N, S, S]
    eigenvalues: np.ndarray  # complex [N, S], by falling size
    stable: np.ndarray  # bool [N], all eigenvalues inside the unit circle


def fixed_points(
    cell: Any,
    params: Params,
    x: PyTree,
    starts: State,
    *,
    steps: int = 1000,
    rate: float = 0.05,
    newton_steps: int = 20,
    slow: float = 1e-8,
    apart: float = 1e-2,
) -> FixedPoints:
    """Search the fixed points of a cell under a constant input from many states.

    Args:
        cell: a cell, or a stack that can be stepped.
        params: its parameters.
        x: the input, ``[I]``.
        starts: states to start from, each leaf ``[N, ...]``: those of a trajectory on the task, for instance.
        steps: steps of Adam.
        rate: its learning rate at the start; it falls to 0 as a cosine.
        newton_steps: steps of Newton's method after that.
        slow: largest speed q that counts as fixed.
        apart: points nearer to each other than this are one.

    Returns:
        The points found, which may be none.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(1, 2, w_hh_init=rnn.initializers.identity(2.0))  # h ← tanh(2 h), each unit by itself
        >>> starts = jax.random.uniform(jax.random.key(1), (100, 2), minval=-1, maxval=1)
        >>> found = rnn.gradients.fixed_points(cell, cell.init(jax.random.key(0)), jnp.zeros(1), starts)
        >>> len(found.points), int(found.stable.sum())  # 0 and ± 0.9575 in each unit
        (9, 4)
    """
    for name, value in (("steps", steps), ("newton_steps", newton_steps)):
        checks.size(name, value)
    one = jax.tree.map(lambda a: a[0], starts)
    _, unravel = ravel_pytree(one)

    def change(s: Array) -> Array:
        return ravel_pytree(cell.step(params, unravel(s), x)[0])[0] - s

    def speed(s: Array) -> Array:
        return 0.5 * jnp.sum(change(s) ** 2)

    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    @jax.jit
    @jax.vmap
    def search(s: Array) -> tuple[Array, Array]:
        def descend(carry: tuple, _: None) -> tuple[tuple, None]:
            s, memory = carry
            updates, memory = optimizer.update(jax.grad(speed)(s), memory)
            return (s + updates, memory), None

        def newton(s: Array, _: None) -> tuple[Array, None]:
            better = s - jnp.linalg.lstsq(jax.jacfwd(change)(s), change(s))[0]
            good = jnp.isfinite(better).all() & (speed(better) < speed(s))
            return jnp.where(good, better, s), None

        (s, _), _ = jax.lax.scan(descend, (s, optimizer.init(s)), length=steps)
        s, _ = jax.lax.scan(newton, s, length=newton_steps)
        return s, speed(s)

    points, speeds = map(np.asarray, search(jax.vmap(lambda state: ravel_pytree(state)[0])(starts)))
    order = [n for n in np.argsort(speeds, kind="stable") if speeds[n] < slow]
    kept: list[int] = []
    for n in order:
        if all(np.linalg.norm(points[n] - points[m]) >= apart for m in kept):
            kept.append(int(n))
    points, speeds = points[kept], speeds[kept]
    states = jax.vmap(unravel)(jnp.asarray(points))
    jacobians = np.asarray(jax.vmap(lambda state: step_jacobian(cell, params, state, x))(states))
    eigenvalues = np.linalg.eigvals(jacobians)
    eigenvalues = np.take_along_axis(eigenvalues, np.argsort(-np.abs(eigenvalues), axis=-1), axis=-1)
    return FixedPoints(states, points, speeds, jacobians, eigenvalues, (np.abs(eigenvalues) < 1).all(-1))
