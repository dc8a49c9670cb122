r"""The flow of the gradient back through time.

.. math:: \frac{∂h_n}{∂x_1} = \frac{∂h_n}{∂h_{n-1}} ⋯ \frac{∂h_2}{∂h_1} \frac{∂h_1}{∂x_1}

The gradient with respect to an intermediate state is that with respect to a perturbation of 0 which is added to the
state. :class:`PerturbedLayer` adds one at every step of a cell, within the scan, and replaces every cell of a model. So
one backward pass gives the gradients with respect to all states, in memory linear in T.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrnn import checks
from jaxrnn.adaptor import replace_state
from jaxrnn.bptt import unroll_cell
from jaxrnn.constructor import replace_cells
from jaxrnn.gradients import checks as gradient_checks
from jaxrnn.gradients.wrapper import CellWrapper
from jaxrnn.precision import widen
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State, keyed_step
from jaxrnn.unroll import default_state, sequence_shape, unroll


class PerturbedState(NamedTuple):
    """The state before the first step, and the perturbation of each step, ``[T, ...]``."""

    state: State
    perturbation: PyTree


@dataclasses.dataclass(frozen=True)
class PerturbedLayer(CellWrapper):
    """A cell as a layer whose new state or whose parameters are perturbed at every step."""

    steps: int
    target: str  # "state" or "params"

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> PerturbedState:
        state = self.cell.initial_state(batch_shape)
        like = state if self.target == "state" else jax.eval_shape(self.cell.init, jax.random.key(0))
        return PerturbedState(state, jax.tree.map(lambda a: jnp.zeros((self.steps, *a.shape), a.dtype), like))

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> NoReturn:
        """Refused: perturbations are those of a whole sequence."""
        checks.refuse("PerturbedLayer.step", "a whole sequence", "one step", error=TypeError)

    def over_time(
        self, params: Params, state: PerturbedState, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[PerturbedState, PyTree, PyTree | None]:
        final, ys, states = unroll_cell(
            _PerturbedCell(self.cell, self.target), params, state.state, (xs, state.perturbation), options, key
        )
        return PerturbedState(final, state.perturbation), ys, states


@dataclasses.dataclass(frozen=True)
class _PerturbedCell:
    """The cell of the scan: its inputs are pairs ``(x, perturbation)``."""

    adapted: Any
    target: str

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        return self.adapted.initial_state(batch_shape)

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> tuple[State, PyTree]:
        x, perturbation = x
        step = keyed_step(self.adapted, key)
        if self.target == "params":
            return step(_add(params, perturbation), state, x)
        return replace_state(functools.partial(step, params), state, x, lambda new: _add(new, perturbation))


def _add(tree: PyTree, perturbation: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), tree, perturbation)


def _perturbed(model: Any, params: Params, xs: PyTree, state: State | None, target: str) -> tuple[Any, State]:
    """The model with every cell perturbed, and its state with perturbations of 0."""
    checks.model("model", model)
    gradient_checks.leaves_states_to_cells(model)
    checks.parameters(model, params)
    checks.sequence("xs", model, xs)
    steps, batch = sequence_shape(model, xs)
    state = default_state(model, params, xs) if state is None else checks.state_like("state", model, state, batch)
    perturbed = replace_cells(model, lambda cell: PerturbedLayer(cell, steps, target))
    zeros, tree = jax.tree.flatten(perturbed.initial_state(batch), is_leaf=_is_perturbed)
    if not all(_is_perturbed(zero) or jnp.issubdtype(zero.dtype, jnp.integer) for zero in zeros):
        checks.refuse("model", "cells, and layers that hold their cells in the fields of a frozen dataclass",
                      repr(model), "a layer with its own state hides it", TypeError)  # fmt: skip
    starts = [  # integers are the clock of a layer
        zero._replace(state=s) if isinstance(zero, PerturbedState) else s
        for zero, s in zip(zeros, tree.flatten_up_to(state))  # type: ignore[attr-defined]
    ]
    return perturbed, jax.tree.unflatten(tree, starts)


def _is_perturbed(value: Any) -> bool:
    return isinstance(value, PerturbedState)


def _perturbations(states: PyTree) -> PyTree:
    return jax.tree.map(lambda s: s.perturbation if _is_perturbed(s) else None, states, is_leaf=_is_perturbed)


def _unperturbed(states: PyTree) -> PyTree:
    return jax.tree.map(lambda s: s.state if _is_perturbed(s) else s, states, is_leaf=_is_perturbed)


def feature_norm(gradient: Array, axes: int) -> Array:
    """Norm over all axes after the first ``axes``, without under- or overflow; 0 for integers, without a gradient."""
    if gradient.dtype == jax.dtypes.float0:
        return jnp.zeros(gradient.shape[:axes])
    features = tuple(range(axes, gradient.ndim))
    sizes = widen(jnp.abs(gradient))
    largest = sizes.max(features, keepdims=True, initial=0)
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale.squeeze(features) * jnp.sqrt(jnp.sum((sizes / scale) ** 2, features))


def gradient_flow(
    model: Any,
    params: Params,
    xs: PyTree,
    loss: Callable[[State, PyTree], Array],
    state: State | None = None,
    **options: Any,
) -> State:
    r"""Norm of the gradient of a loss with respect to the states of every step.

    .. math:: \left\| \frac{∂L}{∂h_t} \right\|, \qquad t = 1 … T

    Args:
        model: a cell, layer or whole model.
        params: its parameters.
        xs: ``[T, ..., I]`` inputs.
        loss: ``loss(final, ys) -> number``, of what :func:`~jaxrnn.unroll` returns.
        state: the state before the first step.
        **options: ``lengths``, ``resets``, ``reverse``, ``key``, ``remat`` of :func:`~jaxrnn.unroll`.

    Returns:
        Norms over the features, ``[T, ...]``, in the structure of :func:`~jaxrnn.trajectory`: a tuple of layers, a pair
        of directions, separate norms for h and c of an LSTM. They are gradients with respect to the new state of a
        step: h_t affects the loss through the output and the later steps, c_t through the later steps only. In a custom
        cell the gradient through the output of step t is included if the output is an array of the new state, not if it
        is computed from one.

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
    return jax.tree.map(lambda g: feature_norm(g, 1 + len(batch)), gradient)


def _perturbation_gradient(
    model: Any, params: Params, xs: PyTree, loss: Callable, state: State | None, target: str, options: dict[str, Any]
) -> PyTree:
    """The gradient of the loss with respect to every perturbation."""
    gradient_checks.loss_function(loss, "loss(final, ys)")
    perturbed, start = _perturbed(model, params, xs, state, target)

    def perturbed_loss(start: State) -> Array:
        final, ys = unroll(perturbed, params, xs, start, **options)
        return gradient_checks.loss_value(loss(_unperturbed(final), ys))

    return _perturbations(jax.grad(perturbed_loss, allow_int=True)(start))


class Sensitivity(NamedTuple):
    """Sensitivity of one output to earlier states and inputs; each ``[T, ...]``."""

    by_state: State
    by_input: PyTree


def sensitivity(
    model: Any, params: Params, xs: PyTree, state: State | None = None, *, at: int = -1, **options: Any
) -> Sensitivity:
    r"""Norm of the derivative of one output with respect to every state and every input.

    .. math:: \left\| ∂y_n / ∂h_t \right\|_F / \sqrt q, \qquad \left\| ∂y_n / ∂x_t \right\|_F / \sqrt q

    the root mean square of the q singular values. For a linear network with :math:`w_{hh} = a Q`, Q orthogonal, it is
    :math:`a^{n-t}`. It is computed one output feature after another, in memory linear in T.

    Args:
        model: a cell, layer or whole model with outputs ``[T, ..., q]``; a pair of outputs is concatenated.
        params: its parameters.
        xs: ``[T, ..., I]`` inputs.
        state: the state before the first step.
        at: n, the step of the output; by default the last. In the padding (``lengths``) outputs are 0, and so are
            their derivatives.
        **options: ``lengths``, ``resets``, ``reverse``, ``key``, ``remat`` of :func:`~jaxrnn.unroll`.

    Returns:
        ``(by_state, by_input)``, time first: lag k of the last output is entry ``[-1 - k]``. ``by_state`` is in
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
    perturbed, start = _perturbed(model, params, xs, state, "state")
    steps, batch = sequence_shape(model, xs)
    gradient_checks.at_least_one_step(steps, xs)
    if isinstance(at, bool) or not isinstance(at, (int, np.integer)) or not -steps <= at < steps:
        checks.refuse("at", f"an int in [-{steps}, {steps}), T = {steps}", at)
    differentiable = all(jnp.issubdtype(x.dtype, jnp.inexact) for x in jax.tree.leaves(xs))

    def output(start: State, inputs: PyTree) -> Array:
        _, ys = unroll(perturbed, params, inputs if differentiable else xs, start, **options)
        return jnp.concatenate([y[at] for y in jax.tree.leaves(ys)], -1)  # [..., q]

    y, vjp = jax.vjp(output, start, xs if differentiable else 0.0)
    features = y.shape[-1]

    def norms(feature: Array) -> PyTree:
        states, inputs = vjp(jnp.broadcast_to(jax.nn.one_hot(feature, features, dtype=y.dtype), y.shape))
        gradients = _perturbations(states), inputs if differentiable else None
        return jax.tree.map(lambda g: feature_norm(g, 1 + len(batch)), gradients)

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
    r"""Temporal components of the gradient: the contribution of each step's use of the cells' parameters.

    .. math:: \frac{∂L}{∂w_{hh}} = \sum_t \frac{∂L}{∂w_{hh}(t)}

    Arguments are those of :func:`gradient_flow`.

    Returns:
        For every cell its parameters with a leading axis, ``[T, ...]``, in the structure of :func:`~jaxrnn.trajectory`;
        other layers have none. Their sum over T is the gradient. Memory is T times that of the parameters.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.GRU(3, 5)
        >>> components = rnn.gradients.temporal_components(
        ...     cell, cell.init(jax.random.key(0)), jnp.ones((7, 2, 3)), lambda final, ys: ys.sum())
        >>> components.w_hh.shape
        (7, 5, 15)

    Source: Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks".
    """
    return _perturbation_gradient(model, params, xs, loss, state, "params", options)


@dataclasses.dataclass(frozen=True)
class TruncatedCell(CellWrapper):
    """A cell as a layer whose gradient does not pass from one chunk of steps to the previous one."""

    every: int

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> tuple[State, PyTree]:
        """One step; ``x`` is the pair of the input and a bool: whether the gradient stops before the step."""
        x, stop = x
        state = jax.tree.map(lambda s: jnp.where(stop, jax.lax.stop_gradient(s), s), state)
        return keyed_step(self.cell, key)(params, state, x)

    def over_time(
        self, params: Params, state: State, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[State, PyTree, PyTree | None]:
        steps, _ = sequence_shape(self.cell, xs)
        order = jnp.arange(steps)[::-1] if options.reverse else jnp.arange(steps)
        return unroll_cell(self, params, state, (xs, order % self.every == 0), options, key)


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
    r"""Relative error of the gradient of truncated BPTT with chunks of k steps.

    .. math:: \|g - g_k\| / \|g\|

    Args:
        every: k; other arguments are those of :func:`gradient_flow`.

    Returns:
        A scalar: 0 if truncation does not change the gradient.

    Raises:
        TypeError, ValueError: ``every`` is not a positive int; an argument does not fit the model or another argument.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell, xs = rnn.GRU(3, 5), jnp.ones((20, 2, 3))
        >>> error = rnn.gradients.truncation_error(
        ...     cell, cell.init(jax.random.key(0)), xs, lambda final, ys: final.sum(), every=20)
        >>> float(error)
        0.0
    """
    gradient_checks.loss_function(loss, "loss(final, ys)")
    checks.size("every", every)
    checks.model("model", model)
    gradient_checks.leaves_states_to_cells(model)
    truncated = replace_cells(model, lambda cell: TruncatedCell(cell, every))
    options = {"derivative": "autodiff"} | options  # the same rule for both gradients

    def gradient(model: Any) -> PyTree:
        def value(params: Params) -> Array:
            return gradient_checks.loss_value(loss(*unroll(model, params, xs, state, **options)))

        return jax.grad(value)(params)

    exact = gradient(model)
    with jax.numpy_dtype_promotion("standard"):  # optax sums the squares of leaves of different dtypes
        norm, error = map(optax.tree.norm, (exact, jax.tree.map(jnp.subtract, exact, gradient(truncated))))
    return error / jnp.where(norm > 0, norm, 1)
