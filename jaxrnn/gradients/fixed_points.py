r"""Fixed points of a recurrence under a constant input, and what happens near them.

.. math:: q(s) = \tfrac{1}{2} \|F(s, x) - s\|^2

Many states descend q at once by the method of Levenberg and Marquardt, with the Jacobian J of F(s, x) - s:

.. math:: s ← s - (J^\top J + μ I)^{-1} J^\top (F(s, x) - s)

where a step that does not help is not taken and the next one is shorter (a larger μ). So each state stays near where
it starts, and saddles are found like any other point. Those that end with q small enough are fixed points; the
eigenvalues of the Jacobian there say which directions are kept and which are pushed out.

Source: Sussillo & Barak (2013), "Opening the black box", Neural Computation 25.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve

from jaxrnn import checks
from jaxrnn.gradients import checks as gradient_checks
from jaxrnn.gradients.jacobians import flatten, step_jacobian
from jaxrnn.precision import widen
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
    steps: int = 100,
    slow: float = 1e-8,
    apart: float = 1e-2,
) -> FixedPoints:
    """Search the fixed points of a cell under a constant input from many states.

    Args:
        cell: a cell, or a stack that can be stepped.
        params: its parameters.
        x: the input, ``[I]``.
        starts: states to start from, each leaf ``[N, ...]``: those of a trajectory on the task, for instance, with
            some noise to find what lies between them.
        steps: steps of the search.
        slow: largest speed q that counts as fixed.
        apart: points nearer to each other than this are one.

    Returns:
        The points found, which may be none.

    Raises:
        TypeError, ValueError: an argument is out of range or does not fit the cell.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(1, 2, w_hh_init=rnn.initializers.identity(2.0))  # h ← tanh(2 h), each unit by itself
        >>> starts = jax.random.uniform(jax.random.key(1), (100, 2), minval=-1, maxval=1)
        >>> found = rnn.gradients.fixed_points(cell, cell.init(jax.random.key(0)), jnp.zeros(1), starts)
        >>> len(found.points), int(found.stable.sum())  # 0 and ± 0.9575 in each unit
        (9, 4)
    """
    checks.model("cell", cell)
    checks.size("steps", steps)
    for name, value in (("slow", slow), ("apart", apart)):
        checks.number(name, value)
        if value <= 0:
            checks.refuse(name, "a number above 0", value)
    gradient_checks.one_input(cell, x)
    many = next((jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(starts)), ())
    if many in ((), (0,)):
        checks.refuse("starts", "states with a leading axis, [N, ...], N at least 1", checks.describe(starts))
    starts = checks.state_like("starts", cell, starts, many)
    _, rebuild = flatten(jax.tree.map(lambda a: a[0], starts))

    def change(s: Array) -> Array:
        return flatten(cell.step(params, rebuild(s), x)[0])[0] - s

    def speed(s: Array) -> Array:
        return 0.5 * jnp.sum(change(s) ** 2)

    @jax.jit
    @jax.vmap
    def search(s: Array) -> tuple[Array, Array]:
        def improve(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            s, damping = carry
            J, change_here = map(widen, (jax.jacfwd(change)(s), change(s)))
            step = solve(J.T @ J + damping * jnp.eye(s.size, dtype=J.dtype), J.T @ change_here, assume_a="pos")
            step = step.astype(s.dtype)
            good = speed(s - step) < speed(s)  # never of what is not finite
            damping = jnp.clip(jnp.where(good, damping / 3, damping * 3), 1e-7, 1e7)
            return (jnp.where(good, s - step, s), damping), None

        (s, _), _ = jax.lax.scan(improve, (s, widen(jnp.ones((), s.dtype))), length=steps)
        return s, speed(s)

    points, speeds = map(np.asarray, search(jax.vmap(lambda state: flatten(state)[0])(starts)))
    order = [n for n in np.argsort(speeds, kind="stable") if speeds[n] < slow]
    kept: list[int] = []
    for n in order:
        if all(np.linalg.norm(points[n] - points[m]) >= apart for m in kept):
            kept.append(int(n))
    points, speeds = points[kept], speeds[kept]
    states = jax.vmap(rebuild)(jnp.asarray(points))
    jacobians = np.asarray(widen(jax.vmap(lambda state: step_jacobian(cell, params, state, x))(states)))
    eigenvalues = np.linalg.eigvals(jacobians) + 0j
    eigenvalues = np.take_along_axis(eigenvalues, np.argsort(-np.abs(eigenvalues), axis=-1), axis=-1)
    stable = np.all(np.abs(eigenvalues) < 1, axis=-1)
    return FixedPoints(states, points, speeds, jacobians, eigenvalues, stable)
