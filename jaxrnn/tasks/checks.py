"""Checks of the arguments of tasks. Messages have the form of those in jaxrnn.checks."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxrnn.checks import describe, integers, known_number, layer, refuse, size, tree_summary, within
from jaxrnn.data.windows import Window
from jaxrnn.layers.bidirectional import sees_future
from jaxrnn.layers.stack import output_ndim
from jaxrnn.types import input_ndim


def context_width(argument: str, cell: Any, size: int) -> None:
    """A cell whose inputs are wider than the context that is concatenated to them."""
    takes = getattr(cell, "input_size", None)
    if takes is not None and takes <= size:
        refuse(argument, f"input size above {size}, that of the context", takes, "it takes the input and the context")


def encoder_width(argument: str, features: Any, encoder: Any) -> None:
    """The width of the encoder's outputs: its ``output_size``, or the argument where it has none."""
    if (axes := output_ndim(encoder)) > 1:
        refuse("encoder", "one whose outputs are vectors", f"outputs of {axes} axes from {encoder!r}",
               "Stack(cell, Flatten(cell.output_shape))")  # fmt: skip
    known = getattr(encoder, "output_size", None)
    if features is not None:
        size(argument, features)
        if known not in (None, features):
            refuse(argument, f"{known}, the output size of encoder", features, "leave it out")
    elif known is None:
        refuse(argument, "the width of the encoder's outputs", "None",
               f"{encoder!r} has no output_size, so features=N says it")  # fmt: skip


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


def forecasting_core(
    argument: str, core: Any, inputs: int | None = None, call: str = "", stepped: bool = False
) -> None:
    """A cell or layer of vectors of the given size."""
    layer(argument, core)
    takes = getattr(core, "input_size", None)
    if takes not in (None, inputs) or input_ndim(core) != 1:
        refuse(argument, f"input size {inputs} = {call}", takes,
               "a value, whether it is observed, and covariates; windows.input_size is that number")  # fmt: skip


def steppable_core(argument: str, core: Any) -> None:
    """A core that needs no future inputs."""
    if sees_future(core):
        refuse(argument, "one that can be stepped", repr(core), "DirectForecaster takes bidirectional ones", TypeError)


def forecasting_distribution(argument: str, value: Any) -> None:
    """An object with the size and methods of a distribution."""
    missing = [name for name in ("size", "loss", "sample", "mean", "quantile") if not hasattr(value, name)]
    if missing or isinstance(value, type):
        refuse(argument, "a distribution", describe(value), "distributions.Gaussian() is one", TypeError)


def window_sizes(argument: str, window: Any, targets: int, covariates: int, horizon: int) -> None:
    """A window of the sizes of a forecaster."""
    if getattr(window, "_fields", None) != Window._fields:
        refuse(argument, "a Window", tree_summary(window), "data.Windows(series, ...)[0] is one", TypeError)
    if window.values.ndim < 2 or not window.values.shape[0]:
        refuse(f"{argument}.values", "[L, ..., D], at least one step", describe(window.values))
    context, *batch, _ = window.values.shape
    for name, shape, attribute in (
        ("targets", (horizon, *batch, targets), "horizon and targets"),
        ("values", (context, *batch, targets), "targets"),
        ("covariates", (context + horizon, *batch, covariates), "covariates"),
    ):
        got = getattr(window, name)
        if tuple(got.shape) != shape:
            refuse(f"{argument}.{name}", f"shape {list(shape)}, {attribute} of the forecaster", describe(got),
                   "Forecaster(core, **windows.sizes) has the sizes of its windows")  # fmt: skip


# ---- tags ----


def tag_pairs(argument: str, value: Any, tags: int) -> tuple[tuple[int | None, int | None], ...]:
    """Pairs of tags, None being the start or the end; returns tuples of Python ints."""
    pairs = value if isinstance(value, (tuple, list)) else [value]
    for pair in pairs:
        known = isinstance(pair, (tuple, list)) and [i is None or i in range(tags) for i in pair] == [True, True]
        if not known or pair[0] is pair[1] is None:
            refuse(argument, f"pairs (before, after) of tags from 0 to {tags - 1}, one of which may be None",
                   repr(pair)[:60], "data.forbidden_transitions(names) makes them")  # fmt: skip
    return tuple((None if i is None else int(i), None if j is None else int(j)) for i, j in pairs)


def tag_scores(argument: str, value: Any, tags: int) -> None:
    """Floating scores [T, ..., K] of at least one step."""
    if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jnp.floating):
        refuse(argument, f"floating scores [T, ..., {tags}]", describe(value), "a Linear layer makes them", TypeError)
    if value.ndim < 2 or value.shape[-1] != tags:
        refuse(argument, f"[T, ..., {tags}], a score of each tag", describe(value), "the tags go last, time first")
    if isinstance(value.shape[0], int) and not value.shape[0]:
        refuse(argument, "at least one step", describe(value), "lengths of 0 are allowed")


def tags(argument: str, value: Any, shape: tuple[int, ...]) -> None:
    """Integer tags of the given shape."""
    integers(argument, value, f"integer tags {list(shape)}", "argmax(-1) undoes one-hot")
    if tuple(value.shape) != shape:
        refuse(argument, f"shape {list(shape)}, that of the scores without their last axis", describe(value))


def tag_values(argument: str, value: Any, count: int) -> None:
    """Tags in [0, K)."""
    within(argument, value, 0, count - 1, f"tags in [0, {count})", "lengths= passes over the padding")
