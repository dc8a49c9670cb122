r"""Real-time recurrent learning: the exact gradient, forward in time, in memory independent of T.

.. math:: \frac{ds_t}{dθ} = \frac{∂s_t}{∂s_{t-1}} \frac{ds_{t-1}}{dθ} + \frac{∂s_t}{∂θ}, \qquad
    \frac{dℓ_t}{dθ} = \frac{∂ℓ_t}{∂s_{t-1}} \frac{ds_{t-1}}{dθ} + \frac{∂ℓ_t}{∂θ}

The influence matrix ds/dθ has S × P entries for S numbers of state and P parameters, so it suits small models, for
online learning and as an independent check of backpropagation.

Source: Williams & Zipser (1989), "A learning algorithm for continually running fully recurrent neural networks",
Neural Computation 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.compat import ravel
from jaxrnn.gradients import checks as gradient_checks
from jaxrnn.gradients.jacobians import flatten
from jaxrnn.precision import cast_like, wide_dtype, widen
from jaxrnn.types import Array, Params, PyTree, State
from jaxrnn.unroll import default_state, sequence_shape

StepLoss = Callable[[PyTree, PyTree], Array]


class Influence(NamedTuple):
    """The carry of RTRL: the state, and its derivative with respect to all parameters, ``[S, P]``."""

    state: State
    derivative: Array


def initial_influence(params: Params, state: State) -> Influence:
    """The influence before the first step, zeros ``[S, P]``: the first state does not depend on the parameters."""
    flat_params, flat_state = ravel(params)[0], flatten(state)[0]
    return Influence(state, jnp.zeros((flat_state.size, flat_params.size), wide_dtype(flat_state.dtype)))


def online_step(
    model: Any, params: Params, influence: Influence, x: PyTree, target: PyTree, loss: StepLoss
) -> tuple[Influence, tuple[Array, Params]]:
    """One step of RTRL: the next influence, and the loss of the step with its exact gradient.

    Args:
        model: a cell, or a stack that can be stepped.
        params: its parameters; in online learning they may change between steps.
        influence: of :func:`initial_influence`, or of the step before.
        x: one input, with the state's batch axes or none.
        target: target of the output.
        loss: ``loss(y, target) -> number``.

    Returns:
        ``(influence, (loss, gradient))``, the gradient in the structure of the parameters.

    Raises:
        TypeError, ValueError: an argument does not fit the model or another argument.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> from jaxrnn.gradients import online
        >>> cell = rnn.GRU(3, 5)
        >>> params = cell.init(jax.random.key(0))
        >>> influence = online.initial_influence(params, cell.initial_state())
        >>> squared = lambda y, target: ((y - target) ** 2).sum()
        >>> x, target = jnp.ones(3), jnp.ones(5)
        >>> influence, (value, gradient) = online.online_step(cell, params, influence, x, target, squared)
        >>> gradient.w_hh.shape
        (5, 15)
    """
    checks.model("model", model)
    gradient_checks.loss_function(loss, "loss(y, target)")
    checks.instance("influence", influence, Influence, "initial_influence(params, state) makes one")
    theta, unravel_params = ravel(checks.parameters(model, params))
    s, unflatten = flatten(influence.state)
    gradient_checks.derivative(influence.derivative, (s.size, theta.size))

    def step(s: Array, theta: Array) -> tuple[tuple[Array, Array], State]:
        state, y = model.step(unravel_params(theta), unflatten(s), x)
        return (flatten(state)[0], gradient_checks.loss_value(loss(y, target))), state

    (_, value), jvp, state = jax.linearize(step, s, theta, has_aux=True)
    through_state = jax.vmap(lambda ds: jvp(ds.astype(s.dtype), jnp.zeros_like(theta)), 1, (1, 0))
    direct, _ = jax.jacrev(lambda theta: step(s, theta), has_aux=True)(theta)
    derivative, gradient = map(jnp.add, widen(through_state(influence.derivative)), widen(direct))
    return Influence(state, derivative), (value, unravel_params(gradient.astype(theta.dtype)))


def rtrl(
    model: Any, params: Params, xs: PyTree, targets: PyTree, loss: StepLoss, state: State | None = None
) -> tuple[State, tuple[Array, Params]]:
    r"""The gradient of a summed loss, :math:`\sum_t ℓ(y_t, \text{target}_t)`, by real-time recurrent learning.

    Args:
        model: a cell, or a stack that can be stepped.
        params: its parameters.
        xs: ``[T, ..., I]``.
        targets: ``[T, ...]``, targets of the outputs.
        loss: ``loss(y, target) -> number`` of one step.
        state: the state before the first step.

    Returns:
        ``(final, (loss, gradient))``, the gradient in the structure of the parameters.

    Raises:
        TypeError, ValueError: an argument does not fit the model; the numbers of targets and inputs differ.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.GRU(3, 5)
        >>> params, xs = cell.init(jax.random.key(0)), jnp.ones((7, 3))
        >>> squared = lambda y, target: ((y - target) ** 2).sum()
        >>> final, (value, gradient) = rnn.gradients.rtrl(cell, params, xs, jnp.ones((7, 5)), squared)
        >>> bptt = jax.grad(lambda p: squared(rnn.unroll(cell, p, xs)[1], 1.0))(params)
        >>> bool(jnp.allclose(gradient.w_hh, bptt.w_hh, atol=1e-5))
        True
    """
    checks.model("model", model)
    params = checks.parameters(model, params)
    checks.sequence("xs", model, xs)
    checks.input_of(model, "xs", xs)
    steps, batch = sequence_shape(model, xs)
    for leaf in jax.tree.leaves(targets):
        if not hasattr(leaf, "shape") or leaf.shape[:1] != (steps,):
            checks.refuse("targets", f"a first axis of {steps}, the steps of xs", checks.describe(leaf))
    state = default_state(model, params, xs) if state is None else checks.state_like("state", model, state, batch)
    start = initial_influence(params, state)

    def body(carry: tuple, inputs: tuple[PyTree, PyTree]) -> tuple[tuple, None]:
        influence, total, sums = carry
        x, target = inputs
        influence, (value, gradient) = online_step(model, params, influence, x, target, loss)
        return (influence, total + widen(value), jax.tree.map(jnp.add, sums, widen(gradient))), None

    zeros = widen(jax.tree.map(jnp.zeros_like, params))
    x, target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (xs, targets))
    like = jax.eval_shape(lambda x, target: online_step(model, params, start, x, target, loss)[1][0], x, target)
    carry = start, jnp.zeros((), wide_dtype(like.dtype)), zeros
    (influence, total, sums), _ = jax.lax.scan(body, carry, (xs, targets))
    return influence.state, (total, cast_like(sums, params))
