"""Checks of the arguments of gradient analysis. Messages have the form of those in jaxrnn.checks."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.checks import describe, refuse, tree_summary
from jaxrnn.precision import widen
from jaxrnn.types import Array, PyTree, input_ndim


def loss_function(value: Any, call: str, argument: str = "loss") -> None:
    """A function that returns a number."""
    if not callable(value):
        refuse(argument, f"a function {call} -> number", tree_summary(value), error=TypeError)


def loss_value(value: Any, argument: str = "loss") -> Array:
    """The value returned by a loss: one floating number."""
    if len(jax.tree.leaves(value)) != 1 or isinstance(value, (tuple, list, dict)):
        refuse(argument, "one number from it", tree_summary(value), "return the number alone", TypeError)
    if jnp.shape(value) != ():
        refuse(argument, "one number from it", describe(value), "jnp.sum or jnp.mean makes one")
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        refuse(argument, "a floating number from it", describe(value), "an integer has no gradient", TypeError)
    return jnp.asarray(value)


def at_least_one_step(steps: int, xs: PyTree) -> None:
    """At least one step."""
    if steps == 0:
        refuse("xs", "at least one step", describe(xs))


def leaves_states_to_cells(model: Any) -> None:
    """No layer that handles the states of the cells in it: others are put in their place."""
    if getattr(model, "handles_states", False):
        refuse("model", "layers that leave the states to their cells", repr(model), "a Clockwork holds them between "
               "its steps; a LearnedState may be around each cell, not around a layer", TypeError)  # fmt: skip
    values = [getattr(model, f.name) for f in dataclasses.fields(model)] if dataclasses.is_dataclass(model) else []
    for value in values:
        for part in value if isinstance(value, tuple) else (value,):
            if hasattr(part, "initial_state"):
                leaves_states_to_cells(part)


def one_input(model: Any, x: PyTree) -> None:
    """The input of one step, without batch axes."""
    if any(jnp.ndim(leaf) > input_ndim(model) for leaf in jax.tree.leaves(x) if hasattr(leaf, "shape")):
        refuse("x", "one input, without time or batch axes", describe(x), "jax.vmap takes one after another")


def square(argument: str, value: Any, axes: int | None = None) -> Array:
    """Square matrices of floating numbers; returns them in float32 or better, for linear algebra."""
    shape = "[..., S, S]" if axes is None else "[T, S, S]"
    if not hasattr(value, "shape") or not jnp.issubdtype(value.dtype, jnp.inexact):
        refuse(argument, f"an array of square matrices, {shape}", tree_summary(value), error=TypeError)
    if value.ndim < 2 or axes not in (None, value.ndim) or not value.shape[-1] == value.shape[-2] > 0:
        fix = "w_hh of a gated cell holds one square matrix a gate: jnp.split(w_hh, gates, -1)"
        refuse(argument, f"square matrices, {shape}", describe(value), fix if argument == "w" else "")
    return widen(jnp.asarray(value))


def derivative(value: Array, shape: tuple[int, int]) -> None:
    """The derivative of every number of the state with respect to every parameter, [S, P]."""
    if value.shape != shape:
        refuse("influence.derivative", f"shape {list(shape)}, numbers of the state by parameters", describe(value),
               "initial_influence(params, state) makes one for these parameters")  # fmt: skip


def gates(value: Any) -> dict[str, Array]:
    """The value returned by a cell's method ``gates``: arrays by name."""
    if not isinstance(value, dict):
        refuse("gates", "a dict of arrays by gate name from it", tree_summary(value), error=TypeError)
    return value
