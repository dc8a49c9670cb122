"""The cells of a model in order, layer by layer, forward before backward, with their parameters or states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.layers import Bidirectional, Residual, Reverse, Stack
from jaxrnn.layers.pointwise import Pointwise
from jaxrnn.types import PyTree


def layers(place: str, model: Any) -> Iterator[tuple[str, Any]]:
    """The layers of a stack, nested stacks included, with their paths; any other model is one layer."""
    if type(model) is not Stack:
        yield place, model
    else:
        for index, layer in enumerate(model.layers):
            yield from layers(f"{place}.layers[{index}]", layer)


def parts_of_layers(model: Any, tree: PyTree) -> list[Any]:
    """The parts of parameters or of a state that belong to the layers, in the order of :func:`layers`."""
    if type(model) is not Stack:
        return [tree]
    return [part for layer, parts in zip(model.layers, tree, strict=True) for part in parts_of_layers(layer, parts)]


def cells(place: str, model: Any) -> Iterator[tuple[str, Any]]:
    """The cells of a model with their paths: what is not a stack, a wrapper or a layer without state."""
    if type(model) is Stack:
        for index, layer in enumerate(model.layers):
            yield from cells(f"{place}.layers[{index}]", layer)
    elif type(model) is Bidirectional:
        for name, layer in zip(("forward", "backward"), model.directions, strict=True):
            yield from cells(f"{place}.{name}", layer)
    elif type(model) in (Reverse, Residual):
        yield from cells(f"{place}.layer", model.layer)
    elif not isinstance(model, Pointwise):
        yield place, model


def parts_of_cells(model: Any, tree: PyTree) -> list[Any]:
    """The parts of parameters or of a state that belong to cells, in the order of :func:`cells`."""
    if type(model) is Stack:
        return [part for layer, parts in zip(model.layers, tree, strict=True) for part in parts_of_cells(layer, parts)]
    if type(model) is Bidirectional:
        return [p for layer, parts in zip(model.directions, tree, strict=True) for p in parts_of_cells(layer, parts)]
    if type(model) in (Reverse, Residual):
        return parts_of_cells(model.layer, tree)
    return [] if isinstance(model, Pointwise) else [tree]


def from_parts_of_cells(model: Any, parts: Iterator[Any]) -> PyTree:
    """The inverse of :func:`parts_of_cells`, for a state: ``()`` for layers without one."""
    if type(model) is Stack:
        return tuple(from_parts_of_cells(layer, parts) for layer in model.layers)
    if type(model) is Bidirectional:
        forward, backward = model.directions
        return from_parts_of_cells(forward, parts), from_parts_of_cells(backward, parts)
    if type(model) in (Reverse, Residual):
        return from_parts_of_cells(model.layer, parts)
    return () if isinstance(model, Pointwise) else next(parts)


def batch_shape(model: Any, state: PyTree) -> tuple[int, ...]:
    """The batch axes of the state of a model, ``()`` of one without arrays."""
    leaves, own = jax.tree.leaves(state), jax.tree.leaves(jax.eval_shape(model.initial_state))
    return jnp.shape(leaves[0])[: jnp.ndim(leaves[0]) - own[0].ndim] if leaves and own else ()
