"""What the bridges share: a model called on batch-first sequences, and its parameters as nested dicts of arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import is_library_class, parts
from jaxrnn.layers import Bidirectional, Dropout
from jaxrnn.layers.stack import Layers
from jaxrnn.layers.wrappers import Wrapper
from jaxrnn.tasks import Classifier
from jaxrnn.types import Array, Params, PyTree, State, input_ndim, is_layer
from jaxrnn.unroll import hide_padding, sequence_shape, unroll


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
    names = ("inputs", "initial_carry", "seq_lengths")
    time_axis = 0 if time_major else -1 - input_ndim(encoder(model))
    xs = time_first(model, inputs, time_axis, state, lengths, names)
    if isinstance(model, Classifier):
        return (), model.apply(params, xs, lengths=lengths, key=key)
    final, ys = unroll(model, params, xs, state, lengths=lengths, key=key)
    axis = jax.tree.leaves(inputs)[0].ndim + time_axis if time_axis else 0
    return final, jax.tree.map(lambda y: jnp.moveaxis(y, 0, axis), ys)


def encoder(model: Any) -> Any:
    """The part of a model that has inputs and a state: the model itself, but the encoder of a Classifier."""
    return model.encoder if isinstance(model, Classifier) else model


def time_first(
    model: Any, inputs: PyTree, time_axis: int, state: State | None, lengths: Array | None, names: tuple[str, str, str]
) -> PyTree:
    """The inputs with time first. Errors have the names of inputs, state and lengths, and shapes as they were given."""
    cell, (of_inputs, of_state, of_lengths) = encoder(model), names
    checks.sequence(of_inputs, cell, inputs, time_axis)
    jax.eval_shape(lambda x: checks.input_of(cell, of_inputs, x), inputs)  # shapes and dtypes
    xs = jax.tree.map(lambda x: jnp.moveaxis(x, time_axis, 0), inputs)
    steps, batch = sequence_shape(cell, xs)
    if state is not None:
        if isinstance(model, Classifier):
            checks.refuse(of_state, "None", checks.describe(state), "a Classifier keeps no state")
        checks.state_like(of_state, cell, state, batch)
    seen = xs
    if lengths is not None:
        checks.lengths(lengths, steps, batch, of_lengths)
        seen = jax.tree.map(lambda x: hide_padding(x, lengths), xs)
    checks.input_of(cell, of_inputs, seen)  # values
    return xs


# ---- parameters as nested dicts ----------------------------------------------------------------------------------


def nest(model: Any, params: Params, leaf: Callable[[Any], Any] = jnp.array) -> dict:
    """Copies of parameters as nested dicts: ``{"layers_0": {"w_xh": ...}, "layers_1": {"forward": {"w_xh": ...}}}``."""
    nested: dict = {}
    params = checks.parameters(model, params)
    for path, x in zip(_paths(model)[0], jax.tree.leaves(params), strict=True):
        *above, last = path
        functools.reduce(lambda tree, name: tree.setdefault(name, {}), above, nested)[last] = leaf(x)
    return nested


def unnest(model: Any, nested: Any) -> Params:
    """The inverse of :func:`nest`; an array that is missing, or of another shape, is refused by its name."""
    paths, shapes = _paths(model)
    leaves = [_array(nested, path, x.shape) for path, x in zip(paths, jax.tree.leaves(shapes), strict=True)]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _array(nested: Any, path: tuple[str, ...], shape: tuple[int, ...]) -> Any:
    x = nested
    for name in path:
        x = x[name] if isinstance(x, Mapping) and name in x else None
    if x is None or jnp.shape(x) != shape:
        checks.refuse(".".join(("weights", *path)), f"an array of shape {list(shape)}", checks.describe(x),
                      "the parameters are those of another model")  # fmt: skip
    return x


@functools.lru_cache(maxsize=512)
def _paths(model: Any) -> tuple[list[tuple[str, ...]], Any]:
    """The names that lead to each array of the parameters, and the shapes of these in their tree."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return [_names(model, path) or ("value",) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)], shapes


def _names(model: Any, path: tuple) -> tuple[str, ...]:
    """A path in the parameters of a model, by the names of its layers."""
    if isinstance(model, Wrapper) and type(model).init is Wrapper.init:  # without parameters of its own
        return _names(model.layer, path)
    if not path:
        return ()
    if isinstance(model, Layers):
        return f"layers_{path[0].idx}", *_names(model.layers[path[0].idx], path[1:])
    if isinstance(model, Bidirectional):
        return ("forward", "backward")[path[0].idx], *_names(model.directions[path[0].idx], path[1:])
    name = jax.tree_util.keystr(path[:1], simple=True)
    below = getattr(model, name, None)
    return name, *_names(below, path[1:])
