"""Checks of what tasks are given. Wording and form are those of jaxrnn.checks."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxrnn.checks import describe, known_number, refuse


def context_width(argument: str, cell: Any, size: int) -> None:
    """A cell whose inputs hold a context of that size, and something beside it."""
    takes = getattr(cell, "input_size", None)
    if takes is not None and takes <= size:
        refuse(argument, f"input size above {size}, that of the context", takes, "it takes the input and the context")


def attention(argument: str, value: Any) -> None:
    """A hashable object with sizes, parameters and the three methods of an attention."""
    names = ("memory_size", "query_size", "init", "source", "attend")
    missing = [name for name in names if not hasattr(value, name)]
    if missing or isinstance(value, type):
        refuse(argument, "an attention", describe(value), "AdditiveAttention(memory_size, query_size, size)", TypeError)


def token_sequence(argument: str, value: Any) -> None:
    """Token ids [T + 1, ...], of which each but the last is fed and each but the first is predicted."""
    if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jnp.integer):
        refuse(argument, "integer token ids [T + 1, ...]", describe(value), "jnp.asarray(ids, dtype=int)", TypeError)
    if value.ndim == 0 or (isinstance(value.shape[0], int) and len(value) < 2):  # it may be symbolic
        refuse(argument, "at least 2 tokens, the one to start with and one to write", describe(value), "time first")


def token_batch(argument: str, value: Any, batch: tuple[int, ...]) -> None:
    """Token ids [T + 1, ...] of as many sentences as there are inputs."""
    if tuple(value.shape[1:]) != batch:
        refuse(argument, f"shape [{', '.join(map(str, ('T + 1', *batch)))}], the batch axes of xs", describe(value),
               "a sentence for each input")  # fmt: skip


def probability(argument: str, value: Any) -> None:
    """A number in [0, 1]."""
    value = known_number(argument, value)
    if value is not None and not 0 <= value <= 1:
        refuse(argument, "a number in [0, 1]", value, "1 feeds the right tokens always")
