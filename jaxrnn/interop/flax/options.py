"""What modules of Flax state besides their parameters: options and functions, and their counterparts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
from flax.nnx.nn import dtypes as nnx_dtypes

from jaxrnn import checks
from jaxrnn.cells.vanilla import ACTIVATIONS as ELEMENTWISE
from jaxrnn.layers.bidirectional import MERGES

NEUTRAL: dict[str, tuple] = {  # options of modules without a counterpart here, and their values without effect
    "gate_fn": (jax.nn.sigmoid,),
    "carry_init": (None, jax.nn.initializers.zeros),
    "residual": (False,),
    "broadcast_dims": ((),),
    "precision": (None,),
    "preferred_element_type": (None,),
    "dot_general": (None, jax.lax.dot_general),
    "dot_general_cls": (None,),
    "promote_dtype": (flax.linen.dtypes.promote_dtype, nnx_dtypes.promote_dtype),
    "state_axes": ({...: flax.nnx.Carry}, flax.nnx.StateAxes({...: flax.nnx.Carry})),  # type: ignore[arg-type]
    "broadcast_rngs": (None,),
    "variable_axes": ({},),
    "variable_broadcast": ("params",),
    "variable_carry": (False,),
    "split_rngs": ({"params": False},),
}

ELEMENTWISE_NAMES = {function: name for name, function in ELEMENTWISE.items()}
MERGE_FUNCTIONS = MERGES | {"concat": flax.nnx.Bidirectional.merge_fn, "sum": jnp.add, "product": jnp.multiply}
MERGE_NAMES: dict[Callable, str] = {
    **{function: name for name, function in (*MERGES.items(), *MERGE_FUNCTIONS.items())},
    flax.linen.Bidirectional.merge_fn: "concat",
    jax.lax.add: "sum",
    operator.add: "sum",
    jax.lax.mul: "product",
    operator.mul: "product",
}


def check_options(place: str, module: Any) -> None:
    """Options that jaxrnn does not have are without effect."""
    for name, values in NEUTRAL.items():
        value = getattr(module, name, values[0])
        if value not in values:
            checks.refuse(f"{place}.{name}", describe(values[0]), describe(value), "jaxrnn has no counterpart of it")


def known(place: str, given: Callable, names: Mapping[Callable, Any], expected: str, why: str) -> Any:
    """What a function stands for; functions are compared by identity."""
    for candidate, name in names.items():
        if candidate is given:
            return name
    checks.refuse(place, expected, describe(given), why)


def describe(value: Any) -> str:
    """A function by its name."""
    name = getattr(value, "__name__", None) or repr(value)
    return "a lambda" if name == "<lambda>" else name


def times_major(module: Any) -> set[bool]:
    """The values of ``time_major`` in a module and, in a Sequential, its layers."""
    if isinstance(getattr(module, "layers", None), Iterable):
        return set().union(*map(times_major, module.layers))
    return {module.time_major} if hasattr(module, "time_major") else set()


def features(module: Any) -> int:
    """The size of the outputs of a module."""
    return next(
        getattr(module, name) for name in ("hidden_features", "out_features", "features") if hasattr(module, name)
    )
