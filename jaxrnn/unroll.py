"""How time is scanned: state, lengths, resets, direction. The only place where a cell meets time.

A layer walks time by itself (:meth:`~jaxrnn.types.Layer.over_time`) and comes back here for its parts;
a cell is scanned by :func:`scan`.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.constructor import is_immutable
from jaxrnn.types import Array, Params, PyTree, State, Time, input_ndim, is_layer


def unroll(
    model: Any,
    params: Params,
    xs: PyTree,
    state: State | None = None,
    *,
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    key: Array | None = None,
    remat: int | bool = False,
) -> tuple[State, PyTree]:
    r"""Run a cell or a layer over a sequence.

    .. math:: (s_t, y_t) = \mathrm{step}(θ, s_{t-1}, x_t), \qquad t = 1 … T

    Args:
        model: a cell or a layer.
        params: its parameters, of the structure that ``model.init`` gives.
        xs: ``[T, ..., I]`` (token ids: ``[T, ...]``), time first, any batch axes or none.
        state: the state before the first step, by default ``model.initial_state`` in the dtype of parameters and
            inputs. Carry the final state of one chunk into the next to walk a long sequence.
        lengths: ``[...]`` ints. Steps from ``lengths`` on are padding: outputs there are 0, the state stops, inputs get
            gradient 0, whatever they hold; in reverse each sequence starts at its own end.
        resets: ``[T, ...]`` bools. Before step t the state returns to ``model.initial_state``: a new episode or
            document starts. In :class:`~jaxrnn.Bidirectional` the backward direction starts anew at the same borders.
        reverse: walk from the last step to the first. Outputs stay in the order of the inputs.
        key: random key for dropout; without one the pass is deterministic.
        remat: exact back-propagation in less memory: only the states between chunks of so many steps are kept, the
            rest is computed again when the gradient needs it. True takes chunks of √T steps, the least memory.

    Returns:
        ``(final, ys)``: the state after the last step, and the outputs ``[T, ..., H]``.

    Raises:
        TypeError, ValueError: an argument does not fit the model or another argument.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.GRU(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)), lengths=jnp.array([7, 4]))
        >>> ys.shape, float(jnp.abs(ys[4:, 1]).sum())
        ((7, 2, 5), 0.0)
    """
    final, ys, _ = _walk(model, params, xs, state, lengths, resets, key, reverse, remat, keep_states=False)
    return final, ys


def trajectory(
    model: Any,
    params: Params,
    xs: PyTree,
    state: State | None = None,
    *,
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    key: Array | None = None,
    remat: int | bool = False,
) -> State:
    """Return the state after every step: the state's structure, each leaf with a leading ``[T, ...]``.

    Arguments are those of :func:`unroll`. A stack gives a tuple of one trajectory a layer, a bidirectional layer a
    pair. Entry t is the state after step t has been taken, in the order of the inputs.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.LSTM(3, 5)
        >>> states = rnn.trajectory(cell, cell.init(jax.random.key(0)), jnp.ones((7, 2, 3)))
        >>> states.c.shape
        (7, 2, 5)
    """
    return _walk(model, params, xs, state, lengths, resets, key, reverse, remat, keep_states=True)[2]


def _walk(
    model: Any, params: Params, xs: PyTree, state: State | None, lengths: Array | None, resets: Array | None,
    key: Array | None, reverse: bool, remat: int | bool, *, keep_states: bool,
) -> tuple[State, PyTree, PyTree]:  # fmt: skip
    """Check the arguments and run, compiled once for each immutable model."""
    checks.model("model", model)
    params = checks.parameters(model, params)
    checks.sequence("xs", model, xs)
    steps, batch = extent(model, xs)
    state = state if state is None else checks.state_like("state", model, state, batch)
    shown = xs
    if lengths is not None:
        checks.lengths(lengths, steps, batch)
        shown = jax.tree.map(lambda x: _hide_padding(x, lengths), xs)
    checks.input_of(model, "xs", shown)
    if resets is not None:
        checks.resets(resets, steps, batch)
    checks.flag("reverse", reverse)
    checks.random_key("key", key)
    chunk = checks.chunk("remat", remat, steps)
    run = _compiled if is_immutable(model) else _run
    return run(model, params, xs, state, lengths, resets, key, reverse=reverse, keep_states=keep_states, chunk=chunk)


def _run(
    model: Any, params: Params, xs: PyTree, state: State | None, lengths: Array | None, resets: Array | None,
    key: Array | None, *, reverse: bool, keep_states: bool, chunk: int | None,
) -> tuple[State, PyTree, PyTree]:  # fmt: skip
    steps, _ = extent(model, xs)
    alive = None
    if lengths is not None:
        alive = before_end(steps, lengths)
        xs = where(alive, xs)  # whatever the padding holds, even NaN, stays out of values and gradients
        resets = resets if resets is None else resets & alive  # past its end a sequence has no borders
    if state is None:
        state = first_state(model, params, xs)
    return over_time(model, params, state, xs, Time(alive, resets, reverse, keep_states, chunk), key)


_compiled = jax.jit(_run, static_argnames=("model", "reverse", "keep_states", "chunk"), inline=True)


def _hide_padding(ids: Array, lengths: Array) -> Array | np.ndarray:
    """Token ids with 0 in the padding, where any id may stand; other inputs are no matter of their values."""
    known = checks.is_concrete(ids) and checks.is_concrete(lengths)
    if not known or not jnp.issubdtype(ids.dtype, jnp.integer) or ids.ndim != 1 + lengths.ndim:
        return ids
    alive = np.arange(len(ids)).reshape(-1, *[1] * lengths.ndim) < np.asarray(lengths)
    return np.where(alive, np.asarray(ids), 0)


def over_time(
    model: Any, params: Params, state: State, xs: PyTree, time: Time, key: Array | None
) -> tuple[State, PyTree, PyTree | None]:
    """Run one part of a model: a layer walks by itself, a cell is scanned. For layers; users call :func:`unroll`."""
    if is_layer(model):
        return model.over_time(params, state, xs, time, key)
    return scan(model, params, state, xs, time)


def one_step(model: Any, params: Params, state: State, x: PyTree, key: Array | None) -> tuple[State, PyTree]:
    """Take one step of one part of a model; only a layer can use the key."""
    return model.step(params, state, x, key=key) if is_layer(model) else model.step(params, state, x)


def scan(cell: Any, params: Params, state: State, xs: PyTree, time: Time) -> tuple[State, PyTree, PyTree | None]:
    """Run a cell through :func:`jax.lax.scan`: the one scan over time in the library."""
    first = None
    for mask in (time.alive, time.resets):
        if mask is not None:
            checks.batched(state, mask.shape[1:])
    if time.resets is not None:
        first = in_dtype_of(state, cell.initial_state(time.resets.shape[1:]))

    def body(state: State, inputs: tuple) -> tuple[State, tuple]:
        x, alive, reset = inputs
        new, y = cell.step(params, state if reset is None else where(reset, first, state), x)
        new = jax.tree.map(lambda old, new: new.astype(old.dtype), state, checks.next_state(state, new))
        if alive is not None:
            new, y = where(alive, new, state), where(alive, y)
        return new, (y, new if time.keep_states else None)

    state = _fixed_point(cell.step, params, state, xs)
    final, (ys, states) = _scan(body, state, (xs, time.alive, time.resets), time.reverse, time.chunk)
    return final, ys, states


def _scan(body: Any, state: State, inputs: PyTree, reverse: bool, chunk: int | None) -> tuple[State, PyTree]:
    """:func:`jax.lax.scan`, or the same in chunks of which autodiff keeps only the state at their borders."""
    if chunk is None:
        return jax.lax.scan(body, state, inputs, reverse=reverse)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def run(state: State, part: PyTree) -> tuple[State, PyTree]:
        return jax.lax.scan(body, state, part, reverse=reverse)

    whole = len(jax.tree.leaves(inputs)[0]) // chunk * chunk  # what is left over is a shorter chunk at the end
    head = jax.tree.map(lambda x: x[:whole].reshape(-1, chunk, *x.shape[1:]), inputs)
    tail = jax.tree.map(lambda x: x[whole:], inputs)
    if reverse:
        state, tail = run(state, tail)
        state, head = jax.lax.scan(run, state, head, reverse=True)
    else:
        state, head = jax.lax.scan(run, state, head)
        state, tail = run(state, tail)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a.reshape(-1, *b.shape[1:]), b]), head, tail)


def before_end(steps: int, lengths: Array) -> Array:
    """Which steps lie before their sequence's end, ``[T, ...]`` bools from lengths ``[...]``."""
    return jnp.arange(steps, dtype=jnp.int32).reshape(-1, *[1] * lengths.ndim) < lengths.astype(jnp.int32)


def extent(model: Any, xs: PyTree) -> tuple[int, tuple[int, ...]]:
    """Number of steps T and batch shape of a sequence for this model."""
    shape = jax.tree.leaves(xs)[0].shape
    return shape[0], tuple(shape[1 : len(shape) - input_ndim(model)])


def first_state(model: Any, params: Params, xs: PyTree) -> State:
    """The state that a walk starts from by default: the model's own, in the dtype of parameters and inputs."""
    return in_dtype_of((params, xs), model.initial_state(extent(model, xs)[1]))


def where(mask: Array, tree: PyTree, other: PyTree = None) -> PyTree:
    """``tree`` where the mask ``[...]`` holds, else ``other`` or 0; leaves are ``[..., *features]``."""

    def select(a: Array, b: Any) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    if other is None:
        return jax.tree.map(lambda a: select(a, jnp.zeros((), a.dtype)), tree)
    return jax.tree.map(select, tree, other)


def in_dtype_of(trees: PyTree, state: State) -> State:
    """The state in the floating dtype of other arrays; its integers, complex numbers and bools as they are."""
    dtypes = [x.dtype for x in jax.tree.leaves(trees) if jnp.issubdtype(x.dtype, jnp.floating)]
    dtype = jnp.result_type(*dtypes) if dtypes else jnp.float32

    def cast(x: Array) -> Array:
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(cast, state)


def _fixed_point(step: Any, params: Params, state: State, xs: PyTree) -> State:
    """The state in the dtype that a step gives it back in, so that it can be carried."""
    x = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
    after, _ = checks.pair("step", jax.eval_shape(step, params, state, x))
    after = checks.next_state(state, after)
    return jax.tree.map(lambda old, new: old.astype(jnp.promote_types(old.dtype, new.dtype)), state, after)
