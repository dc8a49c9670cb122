r"""Fixed points of a recurrence under a constant input, and its linearization there.

.. math:: q(s) = \tfrac{1}{2} \|F(s, x) - s\|^2

q is minimized from many initial states at once by the Levenberg-Marquardt method, with the Jacobian J of F(s, x) - s:

.. math:: s ← s - (J^\top J + μ I)^{-1} J^\top (F(s, x) - s)

where a step that does not decrease q is rejected, and the next one is shorter (a larger μ). So each state stays near
its initial value, and saddle points are found like stable ones. States with a final q below the tolerance are fixed
points; the eigenvalues of the Jacobian there show the stable and the unstable directions.

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
    """N distinct fixed points in order of increasing speed q."""

    states: State  # each leaf [N, ...]
    points: np.ndarray  # [N, S], the states, flattened
    speeds: np.ndarray  # [N], q
    jacobians: np.ndarray  # [N, S, S]
    eigenvalues: np.ndarray  # complex [N, S], in descending order of absolute value
    stable: np.ndarray  # bool [N], all eigenvalues inside the unit circle


def fixed_points(
    cell: Any,
    params: Params,
    x: PyTree,
    initial_states: State,
    *,
    steps: int = 100,
    tolerance: float = 1e-8,
    min_distance: float = 1e-2,
) -> FixedPoints:
    """Search for the fixed points of a cell under a constant input, from many initial states.

    Args:
        cell: a cell, or a stack that can be stepped.
        params: its parameters.
        x: the input, ``[I]``.
        initial_states: each leaf ``[N, ...]``: for instance those of a trajectory on the task, with some noise to find
            fixed points between them.
        steps: steps of the optimization.
        tolerance: largest speed q of a fixed point.
        min_distance: points nearer to each other than this are one.

    Returns:
        :class:`FixedPoints`; N may be 0.

    Raises:
        TypeError, ValueError: an argument is out of range or does not fit the cell.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(1, 2, w_hh_init=rnn.initializers.identity(2.0))  # h ← tanh(2 h), for each unit
        >>> states = jax.random.uniform(jax.random.key(1), (100, 2), minval=-1, maxval=1)
        >>> found = rnn.gradients.fixed_points(cell, cell.init(jax.random.key(0)), jnp.zeros(1), states)
        >>> len(found.points), int(found.stable.sum())  # 0 and ± 0.9575 in each unit
        (9, 4)
    """
    checks.model("cell", cell)
    checks.size("steps", steps)
    for name, value in (("tolerance", tolerance), ("min_distance", min_distance)):
        checks.number(name, value)
        if value <= 0:
            checks.refuse(name, "a number above 0", value)
    gradient_checks.one_input(cell, x)
    batch = next((jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(initial_states)), ())
    if batch in ((), (0,)):
        checks.refuse("initial_states", "states with a leading axis, [N, ...], N at least 1",
                      checks.describe(initial_states))  # fmt: skip
    initial_states = checks.state_like("initial_states", cell, initial_states, batch)
    _, unflatten = flatten(jax.tree.map(lambda a: a[0], initial_states))

    def residual(s: Array) -> Array:
        return flatten(cell.step(params, unflatten(s), x)[0])[0] - s

    def speed(s: Array) -> Array:
        return 0.5 * jnp.sum(residual(s) ** 2)

    @jax.jit
    @jax.vmap
    def search(s: Array) -> tuple[Array, Array]:
        def improve(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            s, damping = carry
            J, r = map(widen, (jax.jacfwd(residual)(s), residual(s)))
            step = solve(J.T @ J + damping * jnp.eye(s.size, dtype=J.dtype), J.T @ r, assume_a="pos")
            step = step.astype(s.dtype)
            accepted = speed(s - step) < speed(s)  # False if not finite
            damping = jnp.clip(jnp.where(accepted, damping / 3, damping * 3), 1e-7, 1e7)
            return (jnp.where(accepted, s - step, s), damping), None

        (s, _), _ = jax.lax.scan(improve, (s, widen(jnp.ones((), s.dtype))), length=steps)
        return s, speed(s)

    points, speeds = map(np.asarray, search(jax.vmap(lambda state: flatten(state)[0])(initial_states)))
    order = [n for n in np.argsort(speeds, kind="stable") if speeds[n] < tolerance]
    distinct: list[int] = []
    for n in order:
        if all(np.linalg.norm(points[n] - points[m]) >= min_distance for m in distinct):
            distinct.append(int(n))
    points, speeds = points[distinct], speeds[distinct]
    states = jax.vmap(unflatten)(jnp.asarray(points))
    jacobians = np.asarray(widen(jax.vmap(lambda state: step_jacobian(cell, params, state, x))(states)))
    eigenvalues = np.linalg.eigvals(jacobians) + 0j
    eigenvalues = np.take_along_axis(eigenvalues, np.argsort(-np.abs(eigenvalues), axis=-1), axis=-1)
    stable = np.all(np.abs(eigenvalues) < 1, axis=-1)
    return FixedPoints(states, points, speeds, jacobians, eigenvalues, stable)
