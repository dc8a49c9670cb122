"""Checks of the arguments of tasks. Messages have the form of those in jaxrnn.checks."""

from __future__ import annotations

from typing import Any

from jaxrnn.checks import describe, integers, known_number, layer, refuse, tree_summary
from jaxrnn.data.windows import Window
from jaxrnn.layers.bidirectional import sees_future
from jaxrnn.types import input_ndim


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
