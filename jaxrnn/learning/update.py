"""The optimizer update: in float32 or wider, by any optimizer of optax, with the extra arguments that it asks for."""

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

EXTRA_ARGS = ("value", "grad", "value_fn", "obj_fn", "grad_fn")  # what optax' transformations may ask for


def rescale(grads: PyTree) -> tuple[PyTree, Array, Array]:
    r"""Gradients whose square does not overflow, their global norm, and which leaves are finite, ``[leaves]``.

    .. math:: ‖g‖ = u \sqrt{\sum_i (g_i / u)^2}, \quad u = \max_i |g_i|, \qquad
        g ← g · \min(1, c / ‖g‖), \quad c = \tfrac{1}{2}\sqrt{\text{largest number}}

    An ordinary gradient is unchanged, bit for bit. One whose square overflows keeps its direction: otherwise clipping
    by the global norm would turn it into 0, and Adam's second moment would stay infinite.
    """
    leaves = jax.tree.leaves(grads)
    if not leaves:
        return grads, jnp.zeros(()), jnp.ones(0, bool)
    finfo = min((jnp.finfo(g.dtype) for g in leaves), key=lambda info: float(info.max))
    largest_of_each = [jnp.max(jnp.abs(g), initial=0) for g in leaves]
    largest = functools.reduce(jnp.maximum, largest_of_each)
    unit = jnp.clip(largest, float(finfo.tiny), 1 / (16 * float(finfo.tiny)))  # 1 / u is a normal number
    relative = optax.tree.norm(jax.tree.map(lambda g: g / unit, grads))
    shrink = jnp.minimum(1, float(finfo.max) ** 0.5 / 2 / unit / relative)
    return (
        jax.tree.map(lambda g: g * shrink.astype(g.dtype), grads),
        unit * relative,
        jnp.stack([jnp.isfinite(x) for x in largest_of_each]),
    )


def update(
    optimizer: optax.GradientTransformation,
    grads: PyTree,
    opt_state: PyTree,
    params: Params,
    value: Array,
    value_fn: Callable[[Params], Array],
) -> tuple[Params, PyTree]:
    """Return the next parameters and the next optimizer state, each in its previous dtypes.

    Args:
        optimizer: of optax.
        grads: the gradient, in float32 or wider.
        opt_state: the optimizer's state.
        params: the parameters.
        value: the loss, for ``reduce_on_plateau``, ``polyak_sgd``, ``momo``.
        value_fn: the loss as a function of the parameters alone, for line searches (``lbfgs``), ``sophia``, ``sam``.
    """

    def wide_value_fn(wide_params: Params, obj_fn: Any = None, grad_fn: Any = None) -> Array:
        """The loss; a line search passes its own extra arguments on, which are ignored."""
        return widen(value_fn(cast_like(wide_params, params)))

    def grad_fn(wide_params: Params, _: Any) -> PyTree:
        return jax.grad(wide_value_fn)(wide_params)

    extra_args = dict(zip(EXTRA_ARGS, (widen(value), grads, wide_value_fn, wide_value_fn, grad_fn), strict=True))
    wide_params = widen(params)
    updates, next_state = _with_extra_args(optimizer, extra_args)(grads, opt_state, wide_params)
    checks.same_tree("optimizer: updates", params, updates,
                     "one that takes a gradient of another structure or shape is not supported, such as "
                     "optax.contrib.dpsgd, which wants one for each sequence")  # fmt: skip
    return optax.apply_updates(params, updates), jax.tree.map(
        lambda new, old: new.astype(old.dtype) if is_narrow(old) else new, next_state, opt_state
    )


def _with_extra_args(optimizer: optax.GradientTransformation, extra_args: dict[str, Any]) -> Callable:
    """The optimizer's update, called with those of the extra arguments that it takes; refused if it needs others."""
    takes = inspect.signature(optimizer.update).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        extra_args = {name: value for name, value in extra_args.items() if name in takes}

    def update(grads: PyTree, opt_state: PyTree, params: Params) -> tuple[PyTree, PyTree]:
        try:
            return optimizer.update(grads, opt_state, params, **extra_args)
        except (AttributeError, TypeError, ValueError) as error:
            unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if unexpected and unexpected[1] in extra_args:  # a part of a chain that, unlike optax', takes no others
                del extra_args[unexpected[1]]
                return update(grads, opt_state, params)
            refuse_optimizer(error)

    return update


def refuse_optimizer(reason: Exception) -> NoReturn:
    """Refuse an optimizer that fails with the arguments that ``train_step`` can pass."""
    try:
        checks.refuse("optimizer", "one that takes gradients and parameters of one structure, its state from "
                      f"train_state(params, optimizer), and no further arguments but {', '.join(EXTRA_ARGS)}", reason,
                      "bind others in a transformation of your own; optax.lookahead wants "
                      "train_state(optax.LookaheadParams.init_synced(params), optimizer)", TypeError)  # fmt: skip
    except TypeError as error:
        raise error from reason


def trained_params(params: Params) -> Params:
    """The parameters that the loss gets: with ``optax.lookahead`` the fast ones."""
    return params.fast if isinstance(params, optax.LookaheadParams) else params
