"""A model applied over a sequence: state, lengths, resets, direction.

A layer unrolls itself (:meth:`~jaxrnn.types.Layer.over_time`) and calls :func:`over_time` for the models in it;
a cell is scanned by :func:`jaxrnn.bptt.unroll_cell`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.bptt import unroll_cell
from jaxrnn.constructor import is_immutable
from jaxrnn.parallel.newton import positive
from jaxrnn.precision import cast, differentiable_step
from jaxrnn.scan import sequence_mask, where
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State, input_ndim, is_layer, keyed_step


def unroll(
    model: Any,
    params: Params,
    xs: PyTree,
    state: State | None = None,
    *,
    lengths: Array | None = None,
    input_mask: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    key: Array | None = None,
    remat: int | bool = False,
    derivative: str = "rule",
    parallel: str | None = None,
    tolerance: float | None = None,
) -> tuple[State, PyTree]:
    r"""Apply a cell or a layer over a sequence.

    .. math:: (s_t, y_t) = \mathrm{step}(θ, s_{t-1}, x_t), \qquad t = 1 … T

    Args:
        model: a cell or a layer.
        params: its parameters, of the structure that ``model.init`` returns.
        xs: ``[T, ..., I]`` (token ids: ``[T, ...]``), time first, any batch axes or none.
        state: the state before the first step, by default ``model.initial_state`` in the dtype of parameters and
            inputs. A long sequence may be processed in chunks: pass the final state of one to the next.
        lengths: ``[...]`` ints. Steps from ``lengths`` on are padding: outputs there are 0, the state does not change,
            and inputs get gradient 0, whatever their values; in reverse each sequence starts at its own end.
        input_mask: ``[T, ...]`` bools, True where there is an input: for missing values anywhere in a sequence, such as
            ``(xs != value).any(-1)``. At the other steps the state does not change, the output is 0 and the inputs get
            gradient 0, in every layer of the model, as in the padding; time goes on, so resets there count.
        resets: ``[T, ...]`` bools. Before step t the state is set to ``model.initial_state``: a new episode or document
            starts. In :class:`~jaxrnn.Bidirectional` the backward direction is reset at the same boundaries.
        reverse: scan from the last step to the first. Outputs stay in the order of the inputs.
        key: random key for dropout and noise; without one the pass is deterministic.
        remat: exact back-propagation in less memory: only the states between chunks of so many steps are stored, the
            rest is recomputed in the backward pass. True takes chunks of √T steps, which needs the least memory. With
            the batch split over devices the gradients of the parameters are summed over them once for each chunk.
        derivative: ``"rule"`` uses the differential that a cell declares, as most built-in ones do
            (:mod:`jaxrnn.bptt`), and autodiff for other cells; ``"autodiff"`` uses autodiff for all. ``"linearized"``
            derives the differential of any cell from its step: only states are stored, for less memory, or for speed
            where the weights are large and the batch has few rows. With the batch split over devices by its sharding,
            autodiff sums the gradients of the parameters over the devices at every step, the other two once: there
            ``"linearized"`` saves a user's cell T - 1 such sums. Inside ``jax.shard_map`` autodiff too needs one only.
        parallel: how time is computed: ``"sequential"``, step after step; ``"scan"``, by a parallel prefix scan where
            the state enters linearly, in other cells the derivative only; ``"newton"``, all steps at once by Newton's
            method. None takes the scan for linear cells on an accelerator, else step after step. For nonlinear cells
            the last two differentiate all steps at once, whatever ``derivative`` is, and take memory for a matrix a
            step; see :func:`jaxrnn.parallel.newton` for where they pay. Where Newton's method does not converge, as in
            chaotic networks, it is refused; under ``jit`` all results are NaN.
        tolerance: of ``parallel="newton"``: the largest residual of a step at which the iterations end, by default
            ten times the rounding error.

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
    final, ys, _ = _checked_unroll(
        model, params, xs, state, lengths, input_mask, resets, key, reverse, remat, derivative, parallel, tolerance,
        return_states=False,
    )  # fmt: skip
    return final, ys


def trajectory(
    model: Any,
    params: Params,
    xs: PyTree,
    state: State | None = None,
    *,
    lengths: Array | None = None,
    input_mask: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    key: Array | None = None,
    remat: int | bool = False,
    derivative: str = "rule",
    parallel: str | None = None,
    tolerance: float | None = None,
) -> State:
    """Return the state after every step: the state's structure, each leaf with a leading ``[T, ...]``.

    Arguments are those of :func:`unroll`. For a stack it is a tuple with one trajectory per layer, for a bidirectional
    layer a pair. Entry t is the state after step t, in the order of the inputs.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.LSTM(3, 5)
        >>> states = rnn.trajectory(cell, cell.init(jax.random.key(0)), jnp.ones((7, 2, 3)))
        >>> states.c.shape
        (7, 2, 5)
    """
    return _checked_unroll(
        model, params, xs, state, lengths, input_mask, resets, key, reverse, remat, derivative, parallel, tolerance,
        return_states=True,
    )[2]  # fmt: skip


def _checked_unroll(
    model: Any, params: Params, xs: PyTree, state: State | None, lengths: Array | None, input_mask: Array | None,
    resets: Array | None, key: Array | None, reverse: bool, remat: int | bool, derivative: str, parallel: str | None,
    tolerance: float | None, *, return_states: bool,
) -> tuple[State, PyTree, PyTree]:  # fmt: skip
    """Check the arguments and unroll, compiled once for each immutable model."""
    checks.model("model", model)
    params = checks.parameters(model, params)
    checks.sequence("xs", model, xs)
    steps, batch = sequence_shape(model, xs)
    state = state if state is None else checks.state_like("state", model, state, batch)
    if lengths is not None:
        checks.lengths(lengths, steps, batch)
    if input_mask is not None:
        checks.mask("input_mask", input_mask, (steps, *batch))
    checks.input_of(model, "xs", jax.tree.map(lambda x: hide_padding(x, lengths, input_mask), xs))
    if resets is not None:
        checks.resets(resets, steps, batch)
    checks.flag("reverse", reverse)
    checks.random_key("key", key)
    chunk = checks.chunk("remat", remat, steps)
    checks.one_of("derivative", derivative, ("rule", "linearized", "autodiff"))
    if parallel is not None:
        checks.one_of("parallel", parallel, ("sequential", "scan", "newton"), also=" or None")
    if tolerance is not None:
        positive("tolerance", tolerance)
        if parallel != "newton":
            checks.refuse("tolerance", 'None without parallel="newton"', tolerance, "only Newton's method iterates")
    compiled = is_immutable(model) and parallel != "newton"  # which is refused where it does not converge
    return (_jit_unroll if compiled else _unroll)(
        model, params, xs, state, lengths, input_mask, resets, key,
        reverse=reverse, return_states=return_states, chunk=chunk, derivative=derivative, parallel=parallel,
        tolerance=tolerance,
    )  # fmt: skip


def _unroll(
    model: Any, params: Params, xs: PyTree, state: State | None, lengths: Array | None, input_mask: Array | None,
    resets: Array | None, key: Array | None, *, reverse: bool, return_states: bool, chunk: int | None, derivative: str,
    parallel: str | None, tolerance: float | None,
) -> tuple[State, PyTree, PyTree]:  # fmt: skip
    steps, _ = sequence_shape(model, xs)
    mask = None
    if lengths is not None:
        mask = sequence_mask(steps, lengths)
        resets = resets if resets is None else resets & mask  # no resets in the padding
    if input_mask is not None:
        mask = jnp.asarray(input_mask) if mask is None else input_mask & mask
    if mask is not None:
        xs = where(mask, xs)  # what is masked, even NaN, changes no value and no gradient
    if state is None:
        state = default_state(model, params, xs)
    options = ScanOptions(
        mask, resets, reverse, return_states, chunk, derivative, parallel=parallel, tolerance=tolerance
    )
    return over_time(model, params, state, xs, options, key)


_STATIC = ("model", "reverse", "return_states", "chunk", "derivative", "parallel", "tolerance")
_jit_unroll = jax.jit(_unroll, static_argnames=_STATIC, inline=True)


def hide_padding(ids: Array, lengths: Array | None, input_mask: Array | None = None) -> Array | np.ndarray:
    """Token ids with 0 in the padding and where masked, where any value is allowed; other inputs unchanged."""
    masks = [mask for mask in (lengths, input_mask) if mask is not None]
    if not masks or not all(map(checks.is_concrete, (ids, *masks))) or not jnp.issubdtype(ids.dtype, jnp.integer):
        return ids
    mask = np.ones(ids.shape, bool) if input_mask is None else np.asarray(input_mask)
    if lengths is not None:
        mask = mask & (np.arange(len(ids)).reshape(-1, *[1] * lengths.ndim) < np.asarray(lengths))
    return np.where(mask, np.asarray(ids), 0) if mask.shape == ids.shape else ids


def over_time(
    model: Any, params: Params, state: State, xs: PyTree, options: ScanOptions, key: Array | None
) -> tuple[State, PyTree, PyTree | None]:
    """Unroll a model inside a layer: a layer unrolls itself, a cell is scanned. Users call :func:`unroll`."""
    if is_layer(model):
        return model.over_time(params, state, xs, options, key)
    return unroll_cell(model, params, state, xs, options, key)


def one_step(model: Any, params: Params, state: State, x: PyTree, key: Array | None) -> tuple[State, PyTree]:
    """Take one step of a model inside a layer; layers and cells with noise use the key."""
    if is_layer(model):
        return model.step(params, state, x, key=key)
    return differentiable_step(keyed_step(model, key), params)(state, x)


def sequence_shape(model: Any, xs: PyTree) -> tuple[int, tuple[int, ...]]:
    """Number of steps T and batch shape of the inputs ``xs`` of a model."""
    shape = jax.tree.leaves(xs)[0].shape
    return shape[0], tuple(shape[1 : len(shape) - input_ndim(model)])


def default_state(model: Any, params: Params, xs: PyTree) -> State:
    """The initial state of the model, in the dtype of parameters and inputs."""
    return cast_state((params, xs), model.initial_state(sequence_shape(model, xs)[1]))


def cast_state(trees: PyTree, state: State) -> State:
    """The state in the floating dtype of ``trees``; integers, complex numbers and bools are unchanged."""
    dtypes = [x.dtype for x in jax.tree.leaves(trees) if jnp.issubdtype(x.dtype, jnp.floating)]
    with jax.numpy_dtype_promotion("standard"):  # a cell that casts may mix dtypes
        return cast(state, jnp.result_type(*dtypes) if dtypes else jnp.float32)
