"""How a gradient moves the parameters: in float32 at least, by any optimizer of optax, with all that it asks for."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import optax

from jaxrnn import checks
from jaxrnn.precision import cast_like, is_narrow, widen
from jaxrnn.types import Array, Params, PyTree

FURTHER = ("value", "grad", "value_fn", "obj_fn", "grad_fn")  # what transformations may ask for, by optax's names


def measured(grads: PyTree) -> tuple[PyTree, Array, Array]:
    r"""Gradients fit to be squared, their global norm, and whether all of them are finite.

    .. math:: ‖g‖ = u \sqrt{\sum_i (g_i / u)^2}, \quad u = \max_i |g_i|, \qquad
        g ← g · \min(1, c / ‖g‖), \quad c = \tfrac{1}{2}\sqrt{\text{largest number}}

    An ordinary gradient keeps every bit. One whose square overflows keeps its direction, so that clipping by the
    global norm is right (it would make 0 of it), and Adam's second moment does not become infinite for ever.
    """
    leaves = jax.tree.leaves(grads)
    if not leaves:
        return grads, jnp.zeros(()), jnp.asarray(True)
    numbers = min((jnp.finfo(g.dtype) for g in leaves), key=lambda info: float(info.max))
    largest = functools.reduce(jnp.maximum, [jnp.max(jnp.abs(g), initial=0) for g in leaves])
    unit = jnp.clip(largest, float(numbers.tiny), 1 / (16 * float(numbers.tiny)))  # 1 / u is an ordinary number
    relative = optax.tree.norm(jax.tree.map(lambda g: g / unit, grads))
    shrink = jnp.minimum(1, float(numbers.max) ** 0.5 / 2 / unit / relative)
    return jax.tree.map(lambda g: g * shrink.astype(g.dtype), grads), unit * relative, jnp.isfinite(largest)


def update(
    optimizer: optax.GradientTransformation,
    grads: PyTree,
    opt_state: PyTree,
    params: Params,
    value: Array,
    value_fn: Callable[[Params], Array],
) -> tuple[Params, PyTree]:
    """Return the next parameters and the next state of the optimizer, each in the dtypes they had.

    Args:
        optimizer: of optax.
        grads: the gradient, in float32 at least.
        opt_state: the optimizer's state.
        params: the parameters.
        value: the loss, for ``reduce_on_plateau``, ``polyak_sgd``, ``momo``.
        value_fn: the loss as a function of the parameters alone, for line searches (``lbfgs``), ``sophia``, ``sam``.
    """

    def of_wide(moved: Params, obj_fn: Any = None, grad_fn: Any = None) -> Array:
        """The loss; a line search hands on to it all that it was given and does not need."""
        return widen(value_fn(cast_like(moved, params)))

    further = dict(
        zip(FURTHER, (widen(value), grads, of_wide, of_wide, lambda p, _: jax.grad(of_wide)(p)), strict=True)
    )
    start = widen(params)
    updates, after = _asked(optimizer, further)(grads, opt_state, start)
    checks.same_tree("optimizer: updates", params, updates,
                     "one that takes a gradient of another structure or shape is not supported, such as "
                     "optax.contrib.dpsgd, which wants one for each sequence")  # fmt: skip
    return optax.apply_updates(params, updates), jax.tree.map(
        lambda new, old: new.astype(old.dtype) if is_narrow(old) else new, after, opt_state
    )


def _asked(optimizer: optax.GradientTransformation, further: dict[str, Any]) -> Callable:
    """The optimizer's update with those of the further arguments that it takes; refuses it where it wants others."""
    takes = inspect.signature(optimizer.update).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        further = {name: value for name, value in further.items() if name in takes}

    def update(grads: PyTree, opt_state: PyTree, params: Params) -> tuple[PyTree, PyTree]:
        try:
            return optimizer.update(grads, opt_state, params, **further)
        except (AttributeError, TypeError, ValueError) as error:
            stranger = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if stranger and stranger[1] in further:  # a part of a chain that, unlike optax's, takes no others
                del further[stranger[1]]
                return update(grads, opt_state, params)
            refuse_optimizer(error)

    return update


def refuse_optimizer(reason: Exception) -> NoReturn:
    """An optimizer that fails on what ``train_step`` can give it."""
    try:
        checks.refuse("optimizer", "one that takes gradients and parameters of one structure, its state from "
                      f"train_state(params, optimizer), and no further arguments but {', '.join(FURTHER)}", reason,
                      "bind others in a transformation of your own; optax.lookahead wants "
                      "train_state(optax.LookaheadParams.init_synced(params), optimizer)", TypeError)  # fmt: skip
    except TypeError as error:
        raise error from reason


def in_training(params: Params) -> Params:
    """The parameters that the loss is given: of ``optax.lookahead`` the fast ones."""
    return params.fast if isinstance(params, optax.LookaheadParams) else params
