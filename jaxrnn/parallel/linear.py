r"""Linear recurrences over time: step after step, by a parallel prefix scan, or in chunks.

.. math:: s_t = a_t ⊙ s_{t-1} + b_t

Two steps are one step of the same form: :math:`(a, b)` and then :math:`(a', b')` is :math:`(a' a,\; a' b + b')`. This
operation is associative, so that all states are a prefix scan, of :math:`\log_2 T` levels (Blelloch 1990).

The recurrence is also a system of equations, :math:`s_t - a_t ⊙ s_{t-1} = b_t`, and each algorithm solves it. It is
given to JAX as such (:func:`jax.lax.custom_linear_solve`), with the consequences of :mod:`jaxrnn.bptt`: the
differential is the same recurrence with :math:`db_t + da_t ⊙ s_{t-1}` in place of :math:`b_t`, and the gradient is its
transpose, a recurrence from the last step to the first. Both run by the algorithm that was chosen; nothing inside of
it is stored or differentiated.

Source: Martin and Cundy (2018), "Parallelizing linear recurrent neural nets over sequence length".
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.compat import mesh_axes, pvary
from jaxrnn.scan import previous_states
from jaxrnn.types import Array, Complex, PyTree, State


def linear_recurrence(
    decay: PyTree, update: PyTree, initial: State, *, reverse: bool = False, algorithm: str = "sequential"
) -> PyTree:
    """All states of ``s_t = decay_t ⊙ s_{t-1} + update_t``.

    Args:
        decay, update: trees of arrays ``[T, ..., H]``, or of :class:`~jaxrnn.types.Complex` pairs of them. Axes of a
            decay that is the same for all steps or rows are 1.
        initial: the state before the first step, ``[..., H]``.
        reverse: from the last step to the first.
        algorithm: a name in ``ALGORITHMS``; the states are equal to rounding.

    Returns:
        The states after each step, ``[T, ..., H]``.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.parallel import linear_recurrence
        >>> linear_recurrence(jnp.full(4, 0.5), jnp.ones(4), jnp.array(0.0), algorithm="chunks").tolist()
        [1.0, 1.5, 1.75, 1.875]
    """
    recurrence = functools.partial(_recurrence, reverse=reverse, run=ALGORITHMS[algorithm])
    return jax.tree.map(recurrence, decay, update, initial, is_leaf=is_complex)  # arrays do not act on each other


def _recurrence(decay: Any, update: Any, initial: Any, *, reverse: bool, run: Any) -> Any:
    """All states of one array, or of one complex pair, which is one array to the solver, as it takes all or nothing."""
    steps = jax.tree.leaves(update)[0].shape[0]
    decay = jax.tree.map(lambda a: jnp.broadcast_to(a, (steps, *a.shape[1:])), decay)
    axes = frozenset().union(*map(mesh_axes, jax.tree.leaves((decay, update, initial))))
    decay, update, initial = jax.tree.map(lambda x: pvary(x, axes), (decay, update, initial))
    if axes:  # in shard_map, where JAX 0.12 does not transpose a solve: autodiff of the algorithm
        return run(decay, update, initial, reverse)
    zero = jax.tree.map(jnp.zeros_like, initial)

    def pack(states: Any) -> Array:
        return jnp.stack(states) if is_complex(decay) else states

    def unpack(states: Array) -> Any:
        return Complex(*states) if is_complex(decay) else states

    def difference(states: Array) -> Array:
        kept = multiply(decay, previous_states(zero, unpack(states), reverse))
        return pack(jax.tree.map(jnp.subtract, unpack(states), kept))

    def solve(_: Any, update: Array) -> Array:
        return pack(run(decay, unpack(update), zero, reverse))

    def solve_transposed(_: Any, update: Array) -> Array:
        following = jax.tree.map(lambda x: jnp.roll(x, 1 if reverse else -1, 0), conjugate(decay))  # the last: of 0
        return pack(run(following, unpack(update), zero, not reverse))

    if isinstance(steps, int) and steps == 0:
        return update
    first = -1 if reverse else 0  # the initial state acts on the first step alone
    kept = multiply(jax.tree.map(lambda a: a[first], decay), initial)
    update = jax.tree.map(lambda b, s: b.at[first].add(s), update, kept)
    return unpack(jax.lax.custom_linear_solve(difference, pack(update), solve, solve_transposed))


# ---- algorithms: (decay, update, initial, reverse) -> states -------------------------------------------------------


def sequential(decay: PyTree, update: PyTree, initial: State, reverse: bool) -> PyTree:
    """Step after step."""

    def step(state: State, inputs: tuple) -> tuple[State, State]:
        state = from_state(inputs[0], inputs[1], state)
        return state, state

    return jax.lax.scan(step, initial, (decay, update), reverse=reverse)[1]


def prefix_scan(decay: PyTree, update: PyTree, initial: State, reverse: bool) -> PyTree:
    """All steps at once, in log₂ T levels."""
    if jax.tree.leaves(update)[0].shape[0] == 0:
        return update
    decays, updates = jax.lax.associative_scan(compose, (decay, update), reverse=reverse)
    return from_state(decays, updates, initial)


def chunks(decay: PyTree, update: PyTree, initial: State, reverse: bool) -> PyTree:
    """Step after step within √T chunks of √T steps, all chunks at once; then from chunk to chunk."""

    def split(x: Array) -> Array:
        padding = jnp.zeros((count * length - steps, *x.shape[1:]), x.dtype)
        filled = jnp.concatenate([x, pvary(padding, mesh_axes(x))])
        return filled.reshape(count, length, *x.shape[1:]).swapaxes(0, 1)

    def backwards(x: Array) -> Array:
        return x[::-1]

    def within(early: tuple, step: tuple) -> tuple[tuple, tuple]:
        return (both := compose(early, step)), both

    def between(state: State, chunk: tuple) -> tuple[State, State]:
        return from_state(chunk[0], chunk[1], state), state

    if reverse:
        flipped = jax.tree.map(backwards, (decay, update))
        return jax.tree.map(backwards, chunks(flipped[0], flipped[1], initial, False))
    steps = jax.tree.leaves(update)[0].shape[0]
    if steps == 0:
        return update
    length = math.isqrt(steps)
    count = -(-steps // length)
    decay, update = jax.tree.map(split, (decay, update))
    first = jax.tree.map(lambda x: x[0], (decay, update))
    nothing = ones_like(first[0]), jax.tree.map(jnp.zeros_like, first[1])
    whole, (decays, updates) = jax.lax.scan(within, nothing, (decay, update))
    states = from_state(decays, updates, jax.lax.scan(between, initial, whole)[1])
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(count * length, *x.shape[2:])[:steps], states)


ALGORITHMS = {"sequential": sequential, "prefix": prefix_scan, "chunks": chunks}


def compose(early: tuple, late: tuple) -> tuple:
    """Two steps, or runs of steps, as one."""
    return multiply(late[0], early[0]), from_state(late[0], late[1], early[1])


def from_state(decay: PyTree, update: PyTree, state: State) -> PyTree:
    """``decay ⊙ state + update``."""
    return jax.tree.map(jnp.add, multiply(decay, state), update)


# ---- products of states --------------------------------------------------------------------------------------------


def multiply(a: PyTree, b: PyTree) -> PyTree:
    """The product, leaf by leaf; that of complex pairs is the complex one. A state is the same for leading axes."""
    b = jax.tree.map(lambda a, b: b.reshape((1,) * (a.ndim - b.ndim) + b.shape), a, b)

    def product(a: Any, b: Any) -> Any:
        if isinstance(a, Complex):
            return Complex(a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real)
        return a * b

    return jax.tree.map(product, a, b, is_leaf=is_complex)


def conjugate(tree: PyTree) -> PyTree:
    """The tree with the complex conjugate of its pairs, which is the transpose of a product with them."""
    return jax.tree.map(lambda a: Complex(a.real, -a.imag) if is_complex(a) else a, tree, is_leaf=is_complex)


def is_complex(value: Any) -> bool:
    return isinstance(value, Complex)


def ones_like(tree: PyTree) -> PyTree:
    """The factor that changes nothing: 1, of a complex pair 1 + 0i."""

    def one(a: Any) -> Any:
        return Complex(jnp.ones_like(a.real), jnp.zeros_like(a.imag)) if is_complex(a) else jnp.ones_like(a)

    return jax.tree.map(one, tree, is_leaf=is_complex)


def last(initial: State, states: PyTree, reverse: bool) -> State:
    """The state after all steps; the initial one where there is none."""
    at = 0 if reverse else -1
    return jax.tree.map(lambda s, after: after[at] if after.shape[0] != 0 else s, initial, states)
