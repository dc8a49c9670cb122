"""Checks of the arguments of tasks. Messages have the form of those in jaxrnn.checks."""

from __future__ import annotations

from typing import Any

from jaxrnn.checks import describe, integers, known_number, refuse


def context_width(argument: str, cell: Any, size: int) -> None:
    """A cell whose inputs are wider than the context that is concatenated to them."""
    takes = getattr(cell, "input_size", None)
    if takes is not None and takes <= size:
        refuse(argument, f"input size above {size}, that of the context", takes, "it takes the input and the context")


def attention(argument: str, value: Any) -> None:
    """An object with the sizes and methods of an attention."""
    names = ("memory_size", "query_size", "init", "prepare", "attend")
    missing = [name for name in names if not hasattr(value, name)]
    if missing or isinstance(value, type):
        refuse(argument, "an attention", describe(value), "AdditiveAttention(memory_size, query_size, size)", TypeError)


def token_sequence(argument: str, value: Any) -> None:
    """Token ids [T + 1, ...], T at least 1: all but the last are inputs, all but the first are targets."""
    integers(argument, value, "integer token ids [T + 1, ...]", "jnp.asarray(ids, dtype=int)")
    if value.ndim == 0 or (isinstance(value.shape[0], int) and len(value) < 2):  # it may be symbolic
        refuse(argument, "at least 2 tokens, a first input and a target", describe(value), "time first")


def token_batch(argument: str, value: Any, batch: tuple[int, ...]) -> None:
    """Token ids [T + 1, ...] with the batch axes of the inputs."""
    if tuple(value.shape[1:]) != batch:
        refuse(argument, f"shape [{', '.join(map(str, ('T + 1', *batch)))}], the batch axes of xs", describe(value),
               "one sequence for each input")  # fmt: skip


def probability(argument: str, value: Any) -> None:
    """A number in [0, 1]."""
    value = known_number(argument, value)
    if value is not None and not 0 <= value <= 1:
        refuse(argument, "a number in [0, 1]", value, "1 always feeds the target tokens")
