"""What the bridges share: a model called on batch-first sequences, and its parameters as nested dicts of arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import is_library_class, parts
from jaxrnn.layers import Bidirectional, Dropout, Stack
from jaxrnn.layers.wrappers import Wrapper
from jaxrnn.tasks import Classifier
from jaxrnn.types import Array, Params, PyTree, State, input_ndim, is_layer
from jaxrnn.unroll import unroll


def check_model(model: Any) -> None:
    """A hashable cell or layer, or a Classifier."""
    if not isinstance(model, Classifier):
        checks.layer("model", model)


def draws(model: Any) -> bool:
    """Whether a pass in training may draw random numbers: for dropout, or in a layer of a user."""
    return any(
        (isinstance(part, Dropout) and part.rate > 0)
        or (isinstance(part, Classifier) and part.dropout > 0)
        or (is_layer(part) and not is_library_class(type(part)))
        for part in parts(model)
    )


def call(
    model: Any, params: Params, inputs: PyTree, state: State | None, lengths: Array | None, key: Array | None,
    time_major: bool,
) -> tuple[State, PyTree]:  # fmt: skip
    """Unroll a model over ``[..., T, I]``; the outputs of a Classifier have no time and leave no state."""
    classifier = isinstance(model, Classifier)
    encoder = model.encoder if classifier else model
    checks.sequence("inputs", encoder, inputs)
    time_axis = 0 if time_major else jax.tree.leaves(inputs)[0].ndim - 1 - input_ndim(encoder)
    xs = jax.tree.map(lambda x: jnp.moveaxis(x, time_axis, 0), inputs)
    if classifier:
        if state is not None:
            checks.refuse("initial_carry", "None", checks.describe(state), "a Classifier keeps no state")
        return (), model.apply(params, xs, lengths=lengths, key=key)
    final, ys = unroll(model, params, xs, state, lengths=lengths, key=key)
    return final, jax.tree.map(lambda y: jnp.moveaxis(y, 0, time_axis), ys)


# ---- parameters as nested dicts ----------------------------------------------------------------------------------


def nest(model: Any, params: Params, leaf: Callable[[Any], Any] = jnp.asarray) -> dict:
    """Parameters as nested dicts: ``{"layers_0": {"w_xh": ...}, "layers_1": {"forward": {"w_xh": ...}}}``."""
    nested: dict = {}
    params = checks.parameters(model, params)
    for path, x in zip(_paths(model)[0], jax.tree.leaves(params), strict=True):
        *above, last = path
        functools.reduce(lambda tree, name: tree.setdefault(name, {}), above, nested)[last] = leaf(x)
    return nested


def unnest(model: Any, nested: Any) -> Params:
    """The inverse of :func:`nest`."""
    paths, structure = _paths(model)
    return jax.tree.unflatten(
        structure, [functools.reduce(lambda tree, name: tree[name], path, nested) for path in paths]
    )


@functools.lru_cache(maxsize=512)
def _paths(model: Any) -> tuple[list[tuple[str, ...]], Any]:
    """The names that lead to each array of the parameters, and their tree structure."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(jax.eval_shape(model.init, jax.random.key(0)))
    return [_names(model, path) or ("value",) for path, _ in leaves], structure


def _names(model: Any, path: tuple) -> tuple[str, ...]:
    """A path in the parameters of a model, by the names of its layers."""
    if isinstance(model, Wrapper):
        return _names(model.layer, path)
    if not path:
        return ()
    if isinstance(model, Stack):
        return f"layers_{path[0].idx}", *_names(model.layers[path[0].idx], path[1:])
    if isinstance(model, Bidirectional):
        return ("forward", "backward")[path[0].idx], *_names(model.directions[path[0].idx], path[1:])
    name = jax.tree_util.keystr(path[:1]).strip("[].'\"")
    below = getattr(model, name, None)
    return name, *_names(below, path[1:])
