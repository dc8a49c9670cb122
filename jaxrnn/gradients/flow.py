r"""How the gradient flows back through time.

.. math:: \frac{∂h_n}{∂x_1} = \frac{∂h_n}{∂h_{n-1}} ⋯ \frac{∂h_2}{∂h_1} \frac{∂h_1}{∂x_1}

A gradient with respect to a state in the middle of a walk is had by adding a push of 0 to that state and
differentiating with respect to the push. :class:`Pushed` does so for one cell, in the same scan as ever, and any model
is rebuilt with it in place of its cells; so one backward pass gives the whole flow, in memory linear in T.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import optax

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters, replace_cells
from jaxrnn.types import Array, Params, PyTree, State, Time, input_ndim
from jaxrnn.unroll import extent, first_state, scan, unroll


class PushedState(NamedTuple):
    """The state before the first step, and what is added at each step, ``[T, ...]``."""

    state: State
    push: PyTree


@hyperparameters
class Pushed:
    """A cell, as a layer, whose new state or whose parameters are pushed at every step."""

    cell: Any
    steps: int
    what: str  # "state" or "params"

    @property
    def input_ndim(self) -> int:
        return input_ndim(self.cell)

    def init(self, key: Array) -> Params:
        return self.cell.init(key)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> PushedState:
        state = self.cell.initial_state(batch_shape)
        like = state if self.what == "state" else jax.eval_shape(self.cell.init, jax.random.key(0))
        return PushedState(state, jax.tree.map(lambda a: jnp.zeros((self.steps, *a.shape), a.dtype), like))

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> NoReturn:
        """Refused: a push belongs to a step of a whole sequence."""
        checks.refuse("Pushed.step", "a whole sequence", "one step", error=TypeError)

    def over_time(
        self, params: Params, state: PushedState, xs: PyTree, time: Time, key: Array | None
    ) -> tuple[PushedState, PyTree, PyTree | None]:
        final, ys, states = scan(_PushedCell(self.cell, self.what), params, state.state, (xs, state.push), time)
        return PushedState(final, state.push), ys, states


@dataclasses.dataclass(frozen=True)
class _PushedCell:
    """The same as the scan sees it: its input is the pair (input, push)."""

    cell: Any
    what: str

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        return self.cell.initial_state(batch_shape)

    def step(self, params: Params, state: State, x: PyTree) -> tuple[State, PyTree]:
        x, push = x
        if self.what == "params":
            return self.cell.step(_add(params, push), state, x)
        new, y = self.cell.step(params, state, x)
        moved = _add(new, push)
        for part, other in zip(jax.tree.leaves(new), jax.tree.leaves(moved), strict=True):
            y = other if y is part else y  # an output that is a part of the state moves with it
        return moved, y


def _add(tree: PyTree, push: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), tree, push)


def _pushed(model: Any, params: Params, xs: PyTree, state: State | None, what: str = "state") -> tuple[Any, State]:
    """The model with every cell pushed, and its state with pushes of 0."""
    checks.model("model", model)
    checks.sequence("xs", model, xs)
    steps, batch = extent(model, xs)
    if state is None:
        state = first_state(model, params, xs)
    probe = replace_cells(model, lambda cell: Pushed(cell, steps, what))
    blank = probe.initial_state(batch)
    slots, tree = jax.tree.flatten(blank, is_leaf=_is_slot)
    filled = [slot._replace(state=s) for slot, s in zip(slots, tree.flatten_up_to(state))]  # type: ignore[attr-defined]
    return probe, jax.tree.unflatten(tree, filled)


def _is_slot(value: Any) -> bool:
    return isinstance(value, PushedState)


def _pushes(slots: PyTree) -> PyTree:
    return jax.tree.map(lambda slot: slot.push, slots, is_leaf=_is_slot)


def _finals(slots: PyTree) -> PyTree:
    return jax.tree.map(lambda slot: slot.state, slots, is_leaf=_is_slot)


def _squares(gradient: Array, axes: int) -> Array:
    """Sum of squares behind the first axes; 0 for what has no gradient, such as a counter."""
    if gradient.dtype == jax.dtypes.float0:
        return jnp.zeros(gradient.shape[:axes])
    return jnp.sum(jnp.abs(gradient.reshape(*gradient.shape[:axes], -1)) ** 2, -1)


def gradient_flow(
    model: Any,
    params: Params,
    xs: PyTree,
    loss: Callable[[State, PyTree], Array],
    state: State | None = None,
    **walk: Any,
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
        of directions, h and c of an LSTM apart. For a cell of your own the gradient through a step's own output counts
        only where that output is a part of the new state.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(3, 5, w_hh_init=rnn.initializers.orthogonal(0.5))
        >>> xs = jnp.zeros((20, 2, 3))
        >>> flow = rnn.gradients.gradient_flow(cell, cell.init(jax.random.key(0)), xs, lambda final, ys: final.sum())
        >>> flow.shape, bool(flow[0].max() < 1e-4 < flow[-1].min())
        ((20, 2), True)

    Source: Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks".
    """
    probe, start = _pushed(model, params, xs, state)
    _, batch = extent(model, xs)

    def measured(slots: State) -> Array:
        final, ys = unroll(probe, params, xs, slots, **walk)
        return loss(_finals(final), ys)

    gradient = _pushes(jax.grad(measured, allow_int=True)(start))
    return jax.tree.map(lambda g: jnp.sqrt(_squares(g, 1 + len(batch))), gradient)


class Gain(NamedTuple):
    """How strongly one output follows earlier states and inputs; each ``[T, ...]``."""

    by_state: State
    by_input: PyTree


def gain(model: Any, params: Params, xs: PyTree, state: State | None = None, *, at: int = -1, **walk: Any) -> Gain:
    r"""Size of the derivative of one output with respect to every state and every input.

    .. math:: \left\| ∂y_n / ∂h_t \right\|_F / \sqrt q, \qquad \left\| ∂y_n / ∂x_t \right\|_F / \sqrt q

    the root mean square of the singular values; a linear network with :math:`w_{hh} = a Q`, Q orthogonal, has
    :math:`a^{n-t}`. Computed one output feature after another, in memory linear in T.

    Args:
        model: a cell, layer or whole model with outputs ``[T, ..., q]``.
        params: its parameters.
        xs: ``[T, ..., I]`` inputs.
        state: the state before the first step.
        at: n, which output; by default the last.
        **walk: ``lengths``, ``resets``, ``reverse``, ``key``, ``remat`` of :func:`~jaxrnn.unroll`.

    Returns:
        ``(by_state, by_input)``, indexed by time: lag k of the last output is entry ``[-1 - k]``. ``by_state`` is in
        the structure of :func:`~jaxrnn.trajectory`; ``by_input`` is None for token ids.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(5, 5, activation=lambda z: z, w_hh_init=rnn.initializers.orthogonal(0.5))
        >>> by_state, _ = rnn.gradients.gain(cell, cell.init(jax.random.key(0)), jnp.ones((20, 5)))
        >>> [round(float(by_state[-1 - lag]), 4) for lag in (0, 1, 2)]
        [1.0, 0.5, 0.25]
    """
    probe, start = _pushed(model, params, xs, state)
    _, batch = extent(model, xs)
    smooth = all(jnp.issubdtype(x.dtype, jnp.inexact) for x in jax.tree.leaves(xs))

    def output(slots: State, inputs: PyTree) -> Array:
        return unroll(probe, params, inputs if smooth else xs, slots, **walk)[1][at]  # [..., q]

    y, pull = jax.vjp(output, start, xs if smooth else 0.0)
    features = y.shape[-1]

    def add(total: PyTree, feature: Array) -> tuple[PyTree, None]:
        slots, inputs = pull(jnp.broadcast_to(jax.nn.one_hot(feature, features, dtype=y.dtype), y.shape))
        new = (_pushes(slots), inputs if smooth else None)
        return jax.tree.map(lambda s, g: s + _squares(g, 1 + len(batch)), total, new), None

    shapes = jax.eval_shape(lambda: pull(y))
    nothing = (_pushes(shapes[0]), shapes[1] if smooth else None)
    nothing = jax.tree.map(lambda g: jnp.zeros(g.shape[: 1 + len(batch)], y.dtype), nothing)
    total, _ = jax.lax.scan(add, nothing, jnp.arange(features))
    return Gain(*jax.tree.map(lambda s: jnp.sqrt(s / features), total))


def gradient_parts(
    model: Any,
    params: Params,
    xs: PyTree,
    loss: Callable[[State, PyTree], Array],
    state: State | None = None,
    **walk: Any,
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
        >>> parts = rnn.gradients.gradient_parts(
        ...     cell, cell.init(jax.random.key(0)), jnp.ones((7, 2, 3)), lambda final, ys: ys.sum())
        >>> parts.w_hh.shape
        (7, 5, 15)
    """
    probe, start = _pushed(model, params, xs, state, "params")

    def measured(slots: State) -> Array:
        final, ys = unroll(probe, params, xs, slots, **walk)
        return loss(_finals(final), ys)

    return _pushes(jax.grad(measured, allow_int=True)(start))


@hyperparameters
class Cut:
    """A cell, as a layer, whose gradient does not pass from one chunk of steps to the one before."""

    cell: Any
    every: int

    @property
    def input_ndim(self) -> int:
        return input_ndim(self.cell)

    def init(self, key: Array) -> Params:
        return self.cell.init(key)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        return self.cell.initial_state(batch_shape)

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> tuple[State, PyTree]:
        """One step, the pair (input, whether the gradient is cut before it) as input."""
        x, cut = x
        state = jax.tree.map(lambda s: jnp.where(cut, jax.lax.stop_gradient(s), s), state)
        return self.cell.step(params, state, x)

    def over_time(
        self, params: Params, state: State, xs: PyTree, time: Time, key: Array | None
    ) -> tuple[State, PyTree, PyTree | None]:
        steps, _ = extent(self.cell, xs)
        walked = jnp.arange(steps)[::-1] if time.reverse else jnp.arange(steps)
        return scan(self, params, state, (xs, walked % self.every == 0), time)


def truncation_error(
    model: Any,
    params: Params,
    xs: PyTree,
    loss: Callable[[State, PyTree], Array],
    state: State | None = None,
    *,
    every: int,
    **walk: Any,
) -> Array:
    r"""Share of the gradient that truncated BPTT with chunks of k steps drops.

    .. math:: \|g - g_k\| / \|g\|

    Args:
        every: k; the others are those of :func:`gradient_flow`.

    Returns:
        A number: 0 where truncation changes nothing, 1 where it drops as much as there is.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell, xs = rnn.GRU(3, 5), jnp.ones((20, 2, 3))
        >>> share = rnn.gradients.truncation_error(
        ...     cell, cell.init(jax.random.key(0)), xs, lambda final, ys: final.sum(), every=20)
        >>> float(share)
        0.0
    """
    checks.size("every", every)
    cut = replace_cells(model, lambda cell: Cut(cell, every))

    def gradient(of: Any) -> PyTree:
        return jax.grad(lambda params: loss(*unroll(of, params, xs, state, **walk)))(params)

    exact = gradient(model)
    return optax.tree.norm(jax.tree.map(jnp.subtract, exact, gradient(cut))) / optax.tree.norm(exact)
