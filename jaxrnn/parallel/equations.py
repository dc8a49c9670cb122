r"""Newton's method in time: all states of a nonlinear recurrence at once.

.. math:: r_t = f_t(s_{t-1}) - s_t = 0, \qquad t = 1 … T

The states solve these T equations. Each iteration of Newton's method linearizes them at the states of the last one, and
solves the linear recurrence that is left (:mod:`jaxrnn.parallel.affine`) for the changes d of all states at once:

.. math:: d_t = J_t\, d_{t-1} + r_t, \qquad J_t = \frac{∂f_t}{∂s_{t-1}}, \qquad s ← s + d

Every iteration makes at least one state more exact, from the first on. A network that forgets needs few iterations,
whatever T is. Where nearby states diverge (a largest Lyapunov exponent above 0) it needs about as many as there are
steps, and in between the products of Jacobians overflow.

The derivative is that of the equations at their solution (implicit function theorem), not of the iterations: the linear
recurrence :math:`ds_t = J_t\, ds_{t-1} + v_t` of :mod:`jaxrnn.bptt`, with the full Jacobian, solved in the same way.

Source: Lim et al. (2024), "Parallelizing non-linear sequential models over the sequence length" (DEER); diagonal and
damped forms: Gonzalez et al. (2024), "Towards scalable and stable parallelization of nonlinear RNNs".
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.parallel.affine import affine_scan, damped_affine_scan, diagonal_jacobian, full_jacobian
from jaxrnn.precision import cast_like, differentiable_step, widen
from jaxrnn.scan import masked_step, previous_states
from jaxrnn.types import Array, Params, PyTree, Recurrence, State


class Method(NamedTuple):
    """How the equations are solved, see :func:`~jaxrnn.parallel.newton`."""

    jacobian: str = "full"
    damping: float | None = None
    tolerance: float | None = None
    max_iterations: int = 100


class Problem(NamedTuple):
    """The equations, besides the cell; time runs forwards."""

    params: Params
    initial: State | None  # after a reset
    state: State
    xs: PyTree
    mask: Array | None
    resets: Array | None


class Solution(NamedTuple):
    """The states after each step, ``[T, ...]``, and how they were found."""

    states: State
    iterations: Array
    residual: Array


# ---- the equations -------------------------------------------------------------------------------------------------


def single_step(cell: Any, problem: Problem) -> Recurrence:
    """``f_t``: from a state and one entry of inputs, mask and resets to the next state and the output."""
    cell_step = differentiable_step(cell.step, problem.params)

    def step(state: State, x: PyTree) -> tuple[State, PyTree]:
        new, y = cell_step(state, x)
        return cast_like(checks.next_state(state, new), state), y

    return masked_step(step, problem.initial)


def take_steps(cell: Any, problem: Problem, before: State) -> tuple[State, PyTree]:
    """Every step from the state before it, ``[T, ...]``: the states after them, and the outputs."""
    return jax.vmap(single_step(cell, problem))(before, (problem.xs, problem.mask, problem.resets))


def to_rows(states: State, axes: int) -> Array:
    """The numbers of a state as one row, ``[..., S]``, after so many axes of time and batch."""
    rows = [s.reshape(*s.shape[:axes], math.prod(s.shape[axes:])) for s in jax.tree.leaves(states)]
    return jnp.concatenate(rows, -1)


def from_rows(rows: Array, state: State) -> State:
    """States ``[T, ...]`` from rows ``[T, ..., S]``; the other argument is like one of them."""
    leaves, tree = jax.tree.flatten(state)
    features = [leaf.shape[rows.ndim - 2 :] for leaf in leaves]
    parts = jnp.split(rows, np.cumsum([math.prod(shape) for shape in features])[:-1], -1)
    states = [part.reshape(*rows.shape[:-1], *shape) for part, shape in zip(parts, features, strict=True)]
    return cast_like(jax.tree.unflatten(tree, states), state)


def residual(rows: Array, after: Array) -> Array:
    r"""The largest error of a step, relative to numbers above 1.

    .. math:: \max \frac{|f_t(s_{t-1}) - s_t|}{\max(1, |f_t(s_{t-1})|)}
    """
    return jnp.max(jnp.abs(after - rows) / jnp.maximum(1, jnp.abs(after)), initial=0)


def largest_residual(method: Method, dtype: Any) -> float:
    """The largest residual of a solution: by default ten times the rounding error."""
    return 10 * float(jnp.finfo(dtype).eps) if method.tolerance is None else method.tolerance


# ---- their solution ------------------------------------------------------------------------------------------------


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def solve(cell: Any, method: Method | None, problem: Problem) -> Solution:
    """Iterate until the residual is small enough; steps are computed in float32 or better.

    Without a method one step is taken after another, and only the differential is parallel.
    """
    if method is None:
        step = single_step(cell, problem)
        inputs = problem.xs, problem.mask, problem.resets
        states = jax.lax.scan(lambda s, inputs: (step(s, inputs)[0],) * 2, problem.state, inputs)[1]
        return Solution(states, jnp.int32(0), jnp.zeros(()))
    wide, axes = widen(problem), _batch_axes(cell, problem)
    first = to_rows(wide.state, axes)
    steps = jax.tree.leaves(problem.xs)[0].shape[0]

    def f(before: Array) -> Array:
        return to_rows(take_steps(cell, wide, from_rows(before, wide.state))[0], axes + 1)

    def improve(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        iteration, rows, after = carry
        new = rows + changes(f, method, previous_states(first, rows), after - rows)
        new = jnp.where(jnp.isfinite(new), new, rows)  # an overflow spoils no step before it
        return iteration + 1, new, f(previous_states(first, new))

    def unsolved(carry: tuple[Array, Array, Array]) -> Array:
        iteration, rows, after = carry
        return (iteration < method.max_iterations) & ~(residual(rows, after) <= largest_residual(method, first.dtype))

    guess = jnp.broadcast_to(first, (steps, *first.shape))
    start = jnp.int32(0), guess, f(previous_states(first, guess))
    iterations, rows, after = jax.lax.while_loop(unsolved, improve, start)
    return Solution(from_rows(rows, problem.state), iterations, residual(rows, after))


def changes(f: Any, method: Method, before: Array, errors: Array) -> Array:
    """The solution d of the linearized equations, whole, with the diagonal of the Jacobian, or damped."""
    linear_solve = affine_scan
    if method.damping is not None:
        linear_solve = functools.partial(damped_affine_scan, damping=method.damping)
    if method.jacobian == "full":
        return linear_solve(full_jacobian(f, before), errors)
    diagonal = diagonal_jacobian(f, before)  # every number of a state is a recurrence of its own
    return linear_solve(diagonal[..., None, None], errors[..., None])[..., 0]


@solve.defjvp
def _solve_jvp(cell: Any, method: Method | None, primals: tuple[Problem], tangents: tuple[Problem]) -> tuple:
    """The linear recurrence of the differential, at the solution."""
    (problem,), axes = primals, _batch_axes(cell, primals[0])
    found = solve(cell, method, problem)

    def from_problem(problem: Problem) -> Array:
        return to_rows(take_steps(cell, problem, previous_states(problem.state, found.states))[0], axes + 1)

    def from_before(before: Array) -> Array:
        return to_rows(take_steps(cell, problem, from_rows(before, problem.state))[0], axes + 1)

    v = jax.jvp(from_problem, primals, tangents)[1]  # of the first state too
    jacobian = full_jacobian(from_before, to_rows(previous_states(problem.state, found.states), axes + 1))
    dstates = from_rows(affine_scan(widen(jacobian), widen(v)), problem.state)
    no_tangent: Any = np.zeros((), jax.dtypes.float0)  # of an integer
    return found, Solution(dstates, no_tangent, jnp.zeros_like(found.residual))


def run(cell: Any, method: Method | None, problem: Problem, reverse: bool) -> tuple[State, PyTree, State, Array, Array]:
    """The final state, outputs, states, iterations and residual; one step more from the solution gives the outputs."""
    if reverse:
        problem = problem._replace(**{name: _flip(getattr(problem, name)) for name in ("xs", "mask", "resets")})
    found = solve(cell, method, problem)
    states, ys = take_steps(cell, problem, previous_states(problem.state, found.states))
    final = jax.tree.map(lambda s, after: jnp.concatenate([s[None], after])[-1], problem.state, states)
    ys, states = _flip((ys, states)) if reverse else (ys, states)
    return final, ys, states, found.iterations, found.residual


def _flip(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jnp.flip(x, 0), tree)


def _batch_axes(cell: Any, problem: Problem) -> int:
    one, state = jax.eval_shape(cell.initial_state), problem.state  # without and with batch axes
    return jax.tree.leaves(state)[0].ndim - jax.tree.leaves(one)[0].ndim
