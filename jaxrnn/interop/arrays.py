"""Arrays of other libraries as NumPy arrays, and their dtypes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.types import Params, PyTree


def to_numpy(argument: str, value: Any) -> np.ndarray:
    """A NumPy array of an array or of a tensor on any device; its floating dtype must be enabled in jax."""
    concrete(argument, value)
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        bfloat16 = str(value.dtype) == "torch.bfloat16"  # NumPy has it from jax, so .numpy() does not support it
        value = value.float().numpy().astype(jnp.bfloat16) if bfloat16 else value.numpy()
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        checks.refuse(argument, "a tensor or an array", checks.describe(value), error=TypeError)
    checks.dtype_available(checks.float_dtype(argument, value.dtype))
    return np.asarray(value)


def concrete(argument: str, tree: PyTree) -> PyTree:
    """Arrays whose values are there; another library has no use for traced ones."""
    for leaf in jax.tree.leaves(tree):
        if not checks.is_concrete(leaf):
            checks.refuse(
                argument, "concrete arrays", f"a traced {checks.describe(leaf)}", "call it outside of jax.jit"
            )
        if isinstance(leaf, jax.ShapeDtypeStruct) or getattr(leaf, "is_meta", False):
            checks.refuse(argument, "concrete arrays", f"{checks.describe(leaf)} without values",
                          "only a shape was computed: load or draw the weights")  # fmt: skip
    return tree


def parameters(model: Any, params: Params) -> Params:
    """Concrete parameters with the structure and shapes that ``model.init`` returns."""
    if isinstance(model, type):
        checks.model("model", model)  # which says to make one
    return concrete("params", checks.parameters(model, params))


def one_dtype(argument: str, arrays: Iterable[np.ndarray], fix: str) -> str:
    """The name of the dtype that all arrays have."""
    dtypes = {array.dtype.name for array in arrays}
    if len(dtypes) > 1:
        checks.refuse(argument, "one dtype", " and ".join(sorted(dtypes)), fix)
    return dtypes.pop()


def shape(argument: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    """An array of this shape."""
    if array.shape != expected:
        checks.refuse(argument, f"shape {list(expected)}", checks.describe(array))
