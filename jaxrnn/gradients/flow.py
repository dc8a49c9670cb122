r"""How the gradient flows back through time.

.. math:: \frac{∂h_n}{∂x_1} = \frac{∂h_n}{∂h_{n-1}} ⋯ \frac{∂h_2}{∂h_1} \frac{∂h_1}{∂x_1}

A gradient with respect to a state in the middle of a walk is had by adding a push of 0 to that state and
differentiating with respect to the push. :class:`PerturbedLayer` does so for one cell, in the same scan as ever, and any model
is rebuilt with it in place of its cells; so one backward pass gives the whole flow, in memory linear in T.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrnn import checks
from jaxrnn.bptt import unroll_cell
from jaxrnn.constructor import replace_cells
from jaxrnn.gradients import checks as gradient_checks
from jaxrnn.gradients.wrapper import CellWrapper
from jaxrnn.precision import widen
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State
from jaxrnn.unroll import default_state, sequence_shape, unroll


class PerturbedState(NamedTuple):
    """The state before the first step, and what is added at each step, ``[T, ...]``."""

    state: State
    push: PyTree


@dataclasses.dataclass(frozen=True)
class PerturbedLayer(CellWrapper):
    """A cell, as a layer, whose new state or whose parameters are pushed at every step."""

    steps: int
    what: str  # "state" or "params"

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> PerturbedState:
        state = self.cell.initial_state(batch_shape)
        like = state if self.what == "state" else jax.eval_shape(self.cell.init, jax.random.key(0))
        return PerturbedState(state, jax.tree.map(lambda a: jnp.zeros((self.steps, *a.shape), a.dtype), like))

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> NoReturn:
        """Refused: a push belongs to a step of a whole sequence."""
        checks.refuse("Pushed.step", "a whole sequence", "one step", error=TypeError)

    def over_time(
        self, params: Params, state: PerturbedState, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[PerturbedState, PyTree, PyTree | None]:
        final, ys, states = unroll_cell(
            _PerturbedCell(self.cell, self.what), params, state.state, (xs, state.push), options
        )
        return PerturbedState(final, state.push), ys, states


@dataclasses.dataclass(frozen=True)
class _PerturbedCell:
    """The same as the scan sees it: its input is the pair (input, push)."""

    cell: Any
    what: str

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        return self.cell.initial_state(batch_shape)

    def step(self, params: Params, state: State, x: PyTree) -> tuple[State, PyTree]:
        x, push = x
        if self.what == "params":
            return self.cell.step(_add(params, push), state, x)
        with jax.disable_jit():  # a compiled step would hide that its output is a part of its state
            new, y = self.cell.step(params, state, x)
        moved = _add(new, push)
        for part, other in zip(jax.tree.leaves(new), jax.tree.leaves(moved), strict=True):
            y = other if y is part else y  # an output that is a part of the state moves with it
        return moved, y


def _add(tree: PyTree, push: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), tree, push)


def _perturbed(model: Any, params: Params, xs: PyTree, state: State | None, what: str) -> tuple[Any, State]:
    """The model with every cell pushed, and its state with pushes of 0."""
    checks.model("model", model)
    checks.parameters(model, params)
    checks.sequence("xs", model, xs)
    steps, batch = sequence_shape(model, xs)
    state = default_state(model, params, xs) if state is None else checks.state_like("state", model, state, batch)
    probe = replace_cells(model, lambda cell: PerturbedLayer(cell, steps, what))
    slots, tree = jax.tree.flatten(probe.initial_state(batch), is_leaf=_is_perturbed)
    if not all(map(_is_perturbed, slots)):
        checks.refuse("model", "cells, and layers that hold their cells in the fields of a frozen dataclass",
                      repr(model), "a layer with a state of its own hides it", TypeError)  # fmt: skip
    filled = [slot._replace(state=s) for slot, s in zip(slots, tree.flatten_up_to(state))]  # type: ignore[attr-defined]
    return probe, jax.tree.unflatten(tree, filled)


def _is_perturbed(value: Any) -> bool:
    return isinstance(value, PerturbedState)


def _perturbations(slots: PyTree) -> PyTree:
    return jax.tree.map(lambda slot: slot.push, slots, is_leaf=_is_perturbed)


def _final_states(slots: PyTree) -> PyTree:
    return jax.tree.map(lambda slot: slot.state, slots, is_leaf=_is_perturbed)


def _norm(gradient: Array, axes: int) -> Array:
    """Norm behind the first axes, of tiny and huge numbers too; 0 for what has no gradient, such as a counter."""
    if gradient.dtype == jax.dtypes.float0:
        return jnp.zeros(gradient.shape[:axes])
    behind = tuple(range(axes, gradient.ndim))
    sizes = widen(jnp.abs(gradient))
    largest = sizes.max(behind, keepdims=True, initial=0)
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale.squeeze(behind) * jnp.sqrt(jnp.sum((sizes / scale) ** 2, behind))


def gradient_flow(
    model: Any,
    params: Params,
    xs: PyTree,
    loss: Callable[[State, PyTree], Array],
    state: State | None = None,
    **options: Any,
) -> State:
    r"""Norm of the gradient of a loss with respect to every state of every step.

    .. math:: \left\| \frac{∂L}{∂h_t} \right\|, \qquad t = 1 … T

    Args:
        model: a cell, layer or whole model.
        params: its parameters.
        xs: ``[T, ..., I]`` inputs.
        loss: ``loss(final, ys) -> number``, of what :func:`~jaxrnn.unroll` returns.
        state: the state before the first step.
        **walk: ``lengths``, ``resets``, ``reverse``, ``key``, ``remat`` of :func:`~jaxrnn.unroll`.

    Returns:
        Norms over the features, ``[T, ...]``, in the structure of :func:`~jaxrnn.trajectory`: a tuple of layers, a pair
        of directions, h and c of an LSTM apart. The state is meant as it leaves its step: h_t acts through the output
        and the steps to come, c_t through the steps to come alone. In a cell of your own, too, the output of step t
        counts where it is a part of the new state, not where it is computed from it.

    Raises:
        TypeError, ValueError: an argument does not fit the model or another argument.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(3, 5, w_hh_init=rnn.initializers.orthogonal(0.5))
        >>> xs = jnp.zeros((20, 2, 3))
        >>> flow = rnn.gradients.gradient_flow(cell, cell.init(jax.random.key(0)), xs, lambda final, ys: final.sum())
        >>> flow.shape, bool(flow[0].max() < 1e-4 < flow[-1].min())
        ((20, 2), True)

    Source: Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks".
    """
    gradient = _perturbation_gradient(model, params, xs, loss, state, "state", options)
    _, batch = sequence_shape(model, xs)
    return jax.tree.map(lambda g: _norm(g, 1 + len(batch)), gradient)


def _perturbation_gradient(
    model: Any, params: Params, xs: PyTree, loss: Callable, state: State | None, what: str, options: dict[str, Any]
) -> PyTree:
    """The gradient of the loss with respect to every push."""
    gradient_checks.loss_function(loss, "loss(final, ys)")
    probe, start = _perturbed(model, params, xs, state, what)

    def measured(slots: State) -> Array:
        final, ys = unroll(probe, params, xs, slots, **options)
        return gradient_checks.loss_value(loss(_final_states(final), ys))

    return _perturbations(jax.grad(measured, allow_int=True)(start))


class Sensitivity(NamedTuple):
    """How strongly one output follows earlier states and inputs; each ``[T, ...]``."""

    by_state: State
    by_input: PyTree


def sensitivity(
    model: Any, params: Params, xs: PyTree, state: State | None = None, *, at: int = -1, **options: Any
) -> Sensitivity:
    r"""Size of the derivative of one output with respect to every state and every input.

    .. math:: \left\| ∂y_n / ∂h_t \right\|_F / \sqrt q, \qquad \left\| ∂y_n / ∂x_t \right\|_F / \sqrt q

    the root mean square of the singular values, q of them; a linear network with :math:`w_{hh} = a Q`, Q orthogonal,
    has :math:`a^{n-t}`. Computed one output feature after another, in memory linear in T.

    Args:
        model: a cell, layer or whole model with outputs ``[T, ..., q]``; of a pair of outputs all features count.
        params: its parameters.
        xs: ``[T, ..., I]`` inputs.
        state: the state before the first step.
        at: n, which output; by default the last. Past the end of a sequence (``lengths``) outputs are 0 and follow
            nothing.
        **walk: ``lengths``, ``resets``, ``reverse``, ``key``, ``remat`` of :func:`~jaxrnn.unroll`.

    Returns:
        ``(by_state, by_input)``, indexed by time: lag k of the last output is entry ``[-1 - k]``. ``by_state`` is in
        the structure of :func:`~jaxrnn.trajectory`; ``by_input`` is None for token ids.

    Raises:
        TypeError, ValueError: there is no output n; an argument does not fit the model or another argument.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(5, 5, activation=lambda z: z, w_hh_init=rnn.initializers.orthogonal(0.5))
        >>> by_state, _ = rnn.gradients.sensitivity(cell, cell.init(jax.random.key(0)), jnp.ones((20, 5)))
        >>> [round(float(by_state[-1 - lag]), 4) for lag in (0, 1, 2)]
        [1.0, 0.5, 0.25]
    """
    probe, start = _perturbed(model, params, xs, state, "state")
    steps, batch = sequence_shape(model, xs)
    gradient_checks.at_least_one_step(steps, xs)
    if isinstance(at, bool) or not isinstance(at, (int, np.integer)) or not -steps <= at < steps:
        checks.refuse("at", f"an int in [-{steps}, {steps}), T = {steps}", at)
    smooth = all(jnp.issubdtype(x.dtype, jnp.inexact) for x in jax.tree.leaves(xs))

    def output(slots: State, inputs: PyTree) -> Array:
        _, ys = unroll(probe, params, inputs if smooth else xs, slots, **options)
        return jnp.concatenate([y[at] for y in jax.tree.leaves(ys)], -1)  # [..., q]

    y, pull = jax.vjp(output, start, xs if smooth else 0.0)
    features = y.shape[-1]

    def norms(feature: Array) -> PyTree:
        slots, inputs = pull(jnp.broadcast_to(jax.nn.one_hot(feature, features, dtype=y.dtype), y.shape))
        return jax.tree.map(lambda g: _norm(g, 1 + len(batch)), (_perturbations(slots), inputs if smooth else None))

    def add(total: PyTree, feature: Array) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.hypot, total, norms(feature)), None

    total, _ = jax.lax.scan(add, norms(jnp.asarray(0)), jnp.arange(1, features))
    return Sensitivity(*jax.tree.map(lambda n: n / features**0.5, total))


def temporal_components(
    model: Any,
    params: Params,
    xs: PyTree,
    loss: Callable[[State, PyTree], Array],
    state: State | None = None,
    **options: Any,
) -> PyTree:
    r"""The part of the gradient that each step's copy of the cells' parameters contributes.

    .. math:: \frac{∂L}{∂w_{hh}} = \sum_t \frac{∂L}{∂w_{hh}(t)}

    Arguments are those of :func:`gradient_flow`.

    Returns:
        For every cell its parameters with a leading axis, ``[T, ...]``, in the structure of :func:`~jaxrnn.trajectory`;
        layers that are no cells have none. Their sum over T is the gradient. Memory is T times that of the parameters.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.GRU(3, 5)
        >>> parts = rnn.gradients.temporal_components(
        ...     cell, cell.init(jax.random.key(0)), jnp.ones((7, 2, 3)), lambda final, ys: ys.sum())
        >>> parts.w_hh.shape
        (7, 5, 15)
    """
    return _perturbation_gradient(model, params, xs, loss, state, "params", options)


@dataclasses.dataclass(frozen=True)
class Cut(CellWrapper):
    """A cell, as a layer, whose gradient does not pass from one chunk of steps to the one before."""

    every: int

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> tuple[State, PyTree]:
        """One step, the pair (input, whether the gradient is cut before it) as input."""
        x, cut = x
        state = jax.tree.map(lambda s: jnp.where(cut, jax.lax.stop_gradient(s), s), state)
        return self.cell.step(params, state, x)

    def over_time(
        self, params: Params, state: State, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[State, PyTree, PyTree | None]:
        steps, _ = sequence_shape(self.cell, xs)
        walked = jnp.arange(steps)[::-1] if options.reverse else jnp.arange(steps)
        return unroll_cell(self, params, state, (xs, walked % self.every == 0), options)


def truncation_error(
    model: Any,
    params: Params,
    xs: PyTree,
    loss: Callable[[State, PyTree], Array],
    state: State | None = None,
    *,
    every: int,
    **options: Any,
) -> Array:
    r"""Share of the gradient that truncated BPTT with chunks of k steps drops.

    .. math:: \|g - g_k\| / \|g\|

    Args:
        every: k; the others are those of :func:`gradient_flow`.

    Returns:
        A number: 0 where truncation changes nothing, near 1 where little is left.

    Raises:
        TypeError, ValueError: ``every`` is no positive int; an argument does not fit the model or another argument.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell, xs = rnn.GRU(3, 5), jnp.ones((20, 2, 3))
        >>> share = rnn.gradients.truncation_error(
        ...     cell, cell.init(jax.random.key(0)), xs, lambda final, ys: final.sum(), every=20)
        >>> float(share)
        0.0
    """
    gradient_checks.loss_function(loss, "loss(final, ys)")
    checks.size("every", every)
    cut = replace_cells(model, lambda cell: Cut(cell, every))
    options = {
        "derivative": "autodiff"
    } | options  # one way for both, so that nothing dropped is a difference of exactly 0

    def gradient(of: Any) -> PyTree:
        return jax.grad(lambda params: gradient_checks.loss_value(loss(*unroll(of, params, xs, state, **options))))(
            params
        )

    exact = gradient(model)
    with jax.numpy_dtype_promotion("standard"):  # optax adds up the squares of all dtypes
        whole, dropped = map(optax.tree.norm, (exact, jax.tree.map(jnp.subtract, exact, gradient(cut))))
    return dropped / jnp.where(whole > 0, whole, 1)
