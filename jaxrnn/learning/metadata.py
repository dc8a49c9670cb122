"""The metadata of a checkpoint when it is read: objects again, and a word on the version that wrote it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import stored
from jaxrnn.types import Array


def this_version() -> str:
    """The version of this library."""
    from jaxrnn import __version__  # defined after the import of this module

    return __version__


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


@contextlib.contextmanager
def explain_newer(content: dict[str, Any]) -> Iterator[None]:
    """Add to an error that a newer version wrote the checkpoint, if one did."""
    try:
        yield
    except (ValueError, TypeError, LookupError) as error:
        version = content.get("jaxrnn")
        if not isinstance(version, str) or _numbers(version) <= _numbers(this_version()):
            raise
        message = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{message}; the checkpoint was written by jaxrnn {version}, which is newer than this one, "
                   f"{this_version()}: upgrade to read it") from error  # fmt: skip


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a release: 1.2 of ``"1.2rc1"``."""
    return tuple(map(int, re.findall(r"\d+", re.split(r"[^\d.]", version, maxsplit=1)[0])))
