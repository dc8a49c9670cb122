"""Checks of the arguments of training: loss, batches, evaluation. The form of messages is that of jaxrnn.checks."""

from __future__ import annotations

import contextlib
import inspect
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.checks import describe, flag, one_of, refuse, size, tree_summary
from jaxrnn.layers.bidirectional import sees_future
from jaxrnn.precision import widen
from jaxrnn.types import Array, Params, PyTree, State

LOOP_METRICS = ("step", "loss", "grad_norm", "finite", "nonfinite_leaf")


def loss_result(value: Any, kept: tuple[State] | None = None) -> tuple[Array, tuple[State, dict]]:
    """What a loss returned: (value, (carry, metrics)), or value or (value, metrics) if the carry is ``kept``."""
    if kept is not None:
        value, metrics = value if isinstance(value, tuple) and len(value) == 2 else (value, {})
        if not isinstance(metrics, dict) or isinstance(value, (tuple, dict, list)):
            refuse("loss", "a number, or (number, metrics), from it", tree_summary((value, metrics)),
                   "loss(params, carry, batch, key) has a carry, and returns value, (carry, metrics)",
                   TypeError)  # fmt: skip
        value = value, (*kept, metrics)
    pair = isinstance(value, tuple) and len(value) == 2
    if not pair or not isinstance(value[1], tuple) or len(value[1]) != 2 or not isinstance(value[1][1], dict):
        refuse("loss", "(value, (carry, metrics)) from it", tree_summary(value),
               "return value, (carry, {}) where there is nothing to report; loss(params, batch, key) has no carry, and "
               "returns value, or value and metrics", TypeError)  # fmt: skip
    if not _is_numeric(value[0]):
        refuse("loss", "one number from it", describe(value[0]), "return the number to minimize", TypeError)
    if jnp.shape(value[0]) != ():
        refuse("loss", "one number from it", describe(value[0]), ".mean() of it")
    for name, metric in value[1][1].items():
        if name in LOOP_METRICS:
            refuse("metrics", f"names other than {', '.join(LOOP_METRICS)}, which the step reports itself", name,
                   "give it another name")  # fmt: skip
        if name != "count" and not _is_number(metric):  # that is checked where it is used
            refuse(f"metric {name!r}", "one number", describe(metric), ".mean() of it", TypeError)
    return value


def _is_number(value: Any) -> bool:
    return _is_numeric(value) and jnp.shape(value) == ()


def _is_numeric(value: Any) -> bool:
    return isinstance(value, (int, float, np.generic, np.ndarray, jax.Array))


def writable_folder(argument: str, value: Any) -> None:
    """A path that is a folder or can become one."""
    if not isinstance(value, (str, os.PathLike)):
        refuse(argument, "a path", describe(value), "Checkpoints(folder, model)", TypeError)
    path = pathlib.Path(value).absolute()
    nearest = next(p for p in (path, *path.parents) if p.exists())
    if not nearest.is_dir():
        refuse(argument, "a folder", f"{path}, where {nearest} is a file", "name another folder")


def optimizer(argument: str, value: Any) -> None:
    """A gradient transformation."""
    if not callable(getattr(value, "init", None)) or not callable(getattr(value, "update", None)):
        refuse(argument, "a transformation of optax", describe(value), "optax.adam(1e-3), for instance", TypeError)


def optimizer_state(optimizer: Any, params: Params, opt_state: PyTree) -> None:
    """The state of this optimizer for these parameters, as far as its structure tells."""
    expected = jax.eval_shape(lambda params: optimizer.init(widen(params)), params)
    if str(jax.tree.structure(opt_state)) != str(jax.tree.structure(expected)):
        refuse("state.opt_state", f"that of the optimizer of the step: {_state_names(expected)}",
               _state_names(opt_state), "train_state(params, optimizer) makes it, with the optimizer of train_step; "
               "for optax.lookahead train_state(optax.LookaheadParams.init_synced(params), optimizer)")  # fmt: skip


def _state_names(opt_state: PyTree) -> str:
    """The names of the classes in an optimizer's state."""
    names = dict.fromkeys(re.findall(r"\w+State\b", str(jax.tree.structure(opt_state))))
    return ", ".join(name for name in names if name != "EmptyState") or "no state"


def batch_count(metrics: dict) -> Array:
    """The metric ``"count"`` of a loss, one number; 1 if it returns none."""
    value = metrics.get("count", 1)
    number = isinstance(value, (int, float)) or (hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.number))
    if not number or jnp.shape(value) != ():
        refuse('"count" reported by the loss', "one number, that of the steps or sequences that its mean is over",
               describe(value), "report other numbers by another name")  # fmt: skip
    return jnp.asarray(value)


def unidirectional(argument: str, value: Any) -> None:
    """A model without a :class:`~jaxrnn.Bidirectional` part, as far as its parts are fields of dataclasses."""
    if sees_future(value):
        refuse(argument, "a unidirectional model", repr(value),
               "Bidirectional sees the inputs to come, which are the targets of a stream; only forward cells can carry "
               "their state from chunk to chunk", TypeError)  # fmt: skip


def needs(argument: str, value: Any, other: str, other_value: Any) -> None:
    """An argument that requires another one."""
    if value not in (None, False) and other_value is None:
        refuse(other, f"a value, which {argument}={value!r} requires", None, f"give {other}= or leave {argument} out")


def numbers_of_a_run(
    steps_per_execution: Any, max_nonfinite: Any, patience: Any, verbose: Any, live_plot: Any, resume: Any
) -> None:
    """The simple arguments of ``fit``."""
    size("steps_per_execution", steps_per_execution)
    size("max_nonfinite", max_nonfinite)
    if patience is not None:
        size("patience", patience)
    flag("verbose", verbose)
    flag("live_plot", live_plot)
    if isinstance(resume, str):
        one_of("resume", resume, ("anyway",), also=", True or False")


def callback(value: Any) -> None:
    """A function of step and metrics."""
    expected = "a function callback(step, metrics)"
    if not callable(value):
        refuse("callback", expected, describe(value), error=TypeError)
    with contextlib.suppress(ValueError):  # a function without a signature
        signature = inspect.signature(value)
        try:
            signature.bind(0, {})
        except TypeError:
            name = getattr(value, "__name__", type(value).__name__)
            refuse("callback", expected, f"{name}{signature}", error=TypeError)


def sequence_model(model: Any) -> None:
    """A model from sequences to one output each."""
    if not callable(getattr(model, "apply", None)) or hasattr(model, "initial_state"):
        refuse("model", "one with apply(params, xs, lengths=, key=), one output a sequence", repr(model),
               "tasks.Classifier(encoder, classes) is one; tagging_loss is for an output a step",
               TypeError)  # fmt: skip


def evaluation(evaluate: Any) -> Callable[[Params, int], dict[str, Any]]:
    """An evaluation ``evaluate(params)`` or ``evaluate(params, step)``, as the latter."""
    forms = "a function evaluate(params) or evaluate(params, step)"
    if not callable(evaluate):
        refuse("evaluate", forms, describe(evaluate), error=TypeError)
    try:
        signature = inspect.signature(evaluate)
    except ValueError:  # a function without a signature
        return evaluate
    for arguments in (("params", 0), ("params",)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return evaluate if len(arguments) == 2 else lambda params, step: evaluate(params)
    name = getattr(evaluate, "__name__", type(evaluate).__name__)
    refuse("evaluate", forms, f"{name}{signature}", "functools.partial binds further arguments", TypeError)


def evaluation_result(argument: str, value: Any) -> None:
    """What an evaluation returned: a dict."""
    if not isinstance(value, dict):
        refuse(argument, "a dict of numbers and texts from it", describe(value), 'return {"loss": value}', TypeError)
    for name, entry in value.items():
        if name == "step":
            refuse(argument, "another name than 'step', the number of the step", repr(name), "give it another name")
        if not isinstance(entry, str) and not _is_number(entry):
            refuse(f"{argument}, entry {name!r}", "a number or a text", describe(entry),
                   "str(...) of an array is a text, .mean() of it a number", TypeError)  # fmt: skip
    if not any(_is_number(entry) for entry in value.values()):
        refuse(argument, "a number at least in what it returns", f"{value}"[:60], 'return {"loss": value}')
