"""Newton's method in time for users: with all its options and a report, and as a way to unroll a cell."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import is_immutable
from jaxrnn.parallel.equations import Method, Problem, largest_residual, run, single_step
from jaxrnn.precision import cast_like
from jaxrnn.scan import fill_padding, sequence_mask, where
from jaxrnn.types import Array, Params, PyTree, State, exportable, is_layer


@exportable
class Newton(NamedTuple):
    """The result of :func:`newton`: what ``unroll`` and ``trajectory`` return, and what it took."""

    final: State
    ys: PyTree  # [T, ...]
    states: State  # [T, ...]
    iterations: Array  # how many were needed
    residual: Array  # the largest error of a step that is left


def newton(
    cell: Any,
    params: Params,
    xs: PyTree,
    state: State | None = None,
    *,
    jacobian: str = "full",
    damping: float | None = None,
    tolerance: float | None = None,
    max_iterations: int = 100,
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
) -> Newton:
    r"""Unroll a cell by Newton's method in time, and report the iterations and the residual.

    .. math::
        d_t = J_t\, d_{t-1} + f_t(s_{t-1}) - s_t, \qquad J_t = \frac{∂f_t}{∂s_{t-1}}, \qquad s ← s + d

    The result is that of the last iteration, converged or not: compare the residual with the tolerance. It can be
    differentiated in every mode, at the cost of one linear recurrence with the full Jacobian.

    It is meant for small states and long sequences on a device with many idle cores. It did not pay on a CPU: vanilla
    networks and GRUs of 4 and 16 units took 5 to 11 times as long as the scan with 100 steps, and 14 to 88 times with
    1,000 (``scripts/BENCHMARKS.md``).

    Args:
        cell: a cell whose state is of floating numbers. Layers: ``unroll(model, ..., parallel="newton")``.
        params, xs, state, lengths, resets, reverse: as in :func:`jaxrnn.unroll`.
        jacobian: ``"full"`` takes few iterations, each with :math:`O(T S^3)` operations for a state of S numbers, and
            :math:`O(T S^2)` memory. ``"diagonal"`` leaves out the influence of one number on another: less memory,
            more iterations.
        damping: λ, the weight of :math:`\|d\|^2` against the squared errors of the linearized steps (Levenberg and
            Marquardt), solved by a Kalman smoother. Iterates stay bounded where the plain ones overflow, but all
            converge slower, and each takes several times as long. It did not help near chaos and in it: of 16 vanilla
            units, with exponents of -0.04 and 0.3, the plain iterations found 100 states in 49 and 80 iterations, those
            with λ = 0.1 or 1 not in 105.
        tolerance: the largest residual at which the iterations end, by default ten times the rounding error.
        max_iterations: the number at which they end in any case.

    Returns:
        :class:`Newton`: ``(final, ys, states, iterations, residual)``. The residual is the largest
        :math:`|f_t(s_{t-1}) - s_t|` of any number, relative to numbers above 1; where states diverge, errors of states
        are larger than it.

    Raises:
        TypeError, ValueError: an argument does not fit the cell or is out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.GRU(3, 5)
        >>> params, xs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (100, 2, 3))
        >>> found = rnn.parallel.newton(cell, params, xs)
        >>> bool(jnp.allclose(found.ys, rnn.unroll(cell, params, xs)[1], atol=1e-5)), int(found.iterations) < 10
        (True, True)

    Source: Lim et al. (2024), "Parallelizing non-linear sequential models over the sequence length"; diagonal and
    damped forms: Gonzalez et al. (2024), "Towards scalable and stable parallelization of nonlinear RNNs".
    """
    from jaxrnn.unroll import default_state, sequence_shape  # it imports this module

    checks.model("cell", cell)
    if is_layer(cell):
        checks.refuse("cell", "a cell", repr(cell), 'a layer: rnn.unroll(model, ..., parallel="newton")', TypeError)
    params = checks.parameters(cell, params)
    checks.sequence("xs", cell, xs)
    steps, batch = sequence_shape(cell, xs)
    checks.one_of("jacobian", jacobian, ("full", "diagonal"))
    for name, value in (("damping", damping), ("tolerance", tolerance)):
        if value is not None:
            positive(name, value)
    checks.size("max_iterations", max_iterations)
    checks.flag("reverse", reverse)
    mask = None
    if lengths is not None:
        checks.lengths(lengths, steps, batch)
        mask = sequence_mask(steps, lengths)
        xs = fill_padding(mask, where(mask, xs))
    if resets is not None:
        checks.resets(resets, steps, batch)
        resets = resets if mask is None else resets & mask
    state = default_state(cell, params, xs) if state is None else checks.state_like("state", cell, state, batch)
    initial = None if resets is None else cast_like(cell.initial_state(batch), state)
    method = Method(jacobian, damping, tolerance, max_iterations)
    return _solve(cell, method, Problem(params, initial, state, xs, mask, resets), reverse)


def unroll_nonlinear(
    spec: Any, params: Params, initial: State | None, state: State, xs: PyTree, mask: Array | None,
    resets: Array | None,
) -> tuple[State, PyTree, State]:  # fmt: skip
    """Unroll a cell in parallel: ``"newton"``, or ``"scan"``, in which only the differential is.

    Where the iterations do not converge, an error is raised if values are concrete; under ``jit`` all results are NaN.
    """
    cell, problem = spec.cell, Problem(params, initial, state, xs, mask, resets)
    if not isinstance(steps := jax.tree.leaves(xs)[0].shape[0], int):
        got = f"{spec.parallel!r} for {steps} steps of {cell!r}"
        checks.refuse("parallel", "'sequential' in a program exported for any number of steps", got)
    if spec.parallel == "scan":
        return _solve(cell, None, problem, spec.reverse)[:3]
    method = Method(tolerance=spec.tolerance)
    *found, iterations, residual = _solve(cell, method, problem, spec.reverse)
    residual = jax.lax.stop_gradient(residual)
    converged = residual <= largest_residual(method, residual.dtype)
    if checks.is_concrete(converged) and not converged:
        for name, values in (("xs", xs), ("params", params), ("state", state)):
            if not all(bool(jnp.isfinite(a).all()) for a in jax.tree.leaves(values) if checks.is_concrete(a)):
                checks.refuse(name, "finite numbers, for parallel='newton'", "some that are not")
        checks.refuse(
            "parallel",
            "'newton' for states that it finds",
            f"a residual of {residual:.1e} after {iterations} iterations in {cell!r}, with a largest Lyapunov exponent "
            f"of about {largest_exponent(cell, jax.lax.stop_gradient(problem)):.2f} nats a step",
            "above 0, where states are chaotic, parallel=None takes step after step",
        )
    valid = jnp.where(converged, 1.0, jnp.nan)  # a factor: gradients are NaN too
    return jax.tree.map(lambda x: x * valid.astype(x.dtype), tuple(found))


def largest_exponent(cell: Any, problem: Problem) -> Array:
    """An estimate of the largest Lyapunov exponent of a batch, in nats a step: the growth of one random direction."""
    step = single_step(cell, problem._replace(mask=None, resets=None))
    leaves, tree = jax.tree.flatten(problem.state)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    start = jax.tree.unflatten(tree, [jax.random.normal(k, s.shape, s.dtype) for k, s in zip(keys, leaves)])

    def grow(carry: tuple[State, State], x: PyTree) -> tuple[tuple[State, State], Array]:
        state, direction = carry
        state, direction = jax.jvp(lambda s: step(s, (x, None, None))[0], (state,), (direction,))
        norm = jnp.sqrt(sum(jnp.sum(d**2) for d in jax.tree.leaves(direction)))
        return (state, jax.tree.map(lambda d: d / norm, direction)), jnp.log(norm)

    return jax.lax.scan(grow, (problem.state, start), problem.xs)[1].mean()


def positive(argument: str, value: Any) -> None:
    """A number above 0."""
    checks.number(argument, value)
    if value <= 0:
        checks.refuse(argument, "a number above 0", value)


def _solve(cell: Any, method: Method | None, problem: Problem, reverse: bool) -> Newton:
    """Solve, compiled once for each immutable cell."""
    if not all(jnp.issubdtype(s.dtype, jnp.floating) for s in jax.tree.leaves(problem.state)):
        fix = "parallel=None takes step after step"
        checks.refuse("state", "floating numbers only", checks.tree_summary(problem.state), fix, TypeError)
    return Newton(*(_jit_run if is_immutable(cell) else run)(cell, method, problem, reverse))


_jit_run = jax.jit(run, static_argnums=(0, 1, 3))
