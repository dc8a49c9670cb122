"""The metadata of a checkpoint when it is read: objects again, and the random key."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import stored
from jaxrnn.types import Array


def as_objects(content: dict[str, Any], *, may_import: bool = False) -> dict[str, Any]:
    """The metadata of a checkpoint from its JSON; checkpoints that name no version have none but JSON."""
    return stored.decode("metadata", content, may_import=may_import) if "jaxrnn" in content else content


def encode_key(key: Array) -> dict[str, Any]:
    """A random key as JSON; the implementation of an old-style (uint32) key is None."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    numbers = jax.random.key_data(key) if typed else key
    return {"implementation": str(jax.random.key_impl(key)) if typed else None, "numbers": np.asarray(numbers).tolist()}


def decode_key(key: dict[str, Any]) -> Array:
    """The random key of its JSON."""
    numbers = jnp.asarray(np.array(key["numbers"], np.uint32))
    return numbers if key["implementation"] is None else jax.random.wrap_key_data(numbers, impl=key["implementation"])
