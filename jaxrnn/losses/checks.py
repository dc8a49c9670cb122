"""Checks of the arguments of losses and distributions. Messages have the form of those in jaxrnn.checks."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn.checks import describe, integers, is_concrete, number, refuse, within


def same_shape(argument: str, value: Any, other: str, like: Any) -> None:
    """A floating array with the shape of another."""
    if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jnp.floating):
        refuse(
            argument,
            f"floating numbers like {other} {describe(like)}",
            describe(value),
            ".astype(float)",
            TypeError,
        )
    if tuple(value.shape) != tuple(like.shape):
        single = (*value.shape, 1) == tuple(like.shape)
        fix = f"{argument}[..., None] adds the axis of a single output" if single else ""
        refuse(argument, f"shape {list(like.shape)}, that of {other}", describe(value), fix)


def levels(argument: str, value: Any) -> tuple[float, ...]:
    """A number in (0, 1), or increasing ones; returns a tuple of floats."""
    single = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    try:
        found = [value] if single else list(value)
    except TypeError:
        refuse(argument, "a number in (0, 1), or several", describe(value), error=TypeError)
    for level in found:
        number(argument, level)
    if not found or not all(a < b for a, b in zip([0, *found], [*found, 1], strict=True)):
        refuse(argument, "increasing numbers in (0, 1)", value, "(0.1, 0.5, 0.9) is a median and an interval of 80 %")
    return tuple(float(level) for level in found)


def outputs_and_targets(outputs: Any, targets: Any, size: int) -> None:
    """Floating targets ``[T, ..., q]``, and ``size`` outputs for each of them."""
    for name, value in (("outputs", outputs), ("targets", targets)):
        if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jnp.floating):
            refuse(name, "floating numbers", describe(value), ".astype(float)", TypeError)
    if targets.ndim == 0:
        refuse("targets", "[T, ..., q]", describe(targets), "targets[..., None] adds the axis of features")
    expected = (*targets.shape[:-1], targets.shape[-1] * size)
    if tuple(outputs.shape) != expected:
        refuse("outputs", f"shape {list(expected)}, {size} for each of the targets {list(targets.shape)}",
               describe(outputs), "a readout Linear(hidden, targets * size) makes them")  # fmt: skip


# ---- CTC ----


def ctc_logits(argument: str, logits: Any, blank: Any) -> None:
    """Floating logits ``[T, ..., V]``, T above 0, and the id of the blank, a Python int in [0, V)."""
    if not hasattr(logits, "dtype") or not jnp.issubdtype(logits.dtype, jnp.floating):
        refuse(argument, "floating numbers [T, ..., V]", describe(logits), ".astype(float)", TypeError)
    if logits.ndim < 2 or not logits.shape[0]:
        refuse(argument, "[T, ..., V], at least one step", describe(logits), "time goes first")
    if isinstance(blank, bool) or not isinstance(blank, (int, np.integer)):
        refuse("blank", "an int, the id of the blank", describe(blank), error=TypeError)
    if not 0 <= blank < logits.shape[-1]:
        refuse("blank", f"an id in [0, {logits.shape[-1]})", blank, "the blank is one of the V")


def ctc_labels(argument: str, labels: Any, batch: tuple[int, ...]) -> None:
    """Integer labels ``[S, ...]``, S above 0."""
    axes = ", ".join(map(str, ("S", *batch)))
    integers(argument, labels, f"integer labels [{axes}]", "jnp.asarray(labels, dtype=int)")
    if tuple(labels.shape[1:]) != batch or labels.ndim == 0 or not labels.shape[0]:
        refuse(argument, f"[{axes}], the batch axes of the logits, S above 0", describe(labels),
               "label_lengths= says where the padding starts")  # fmt: skip


def ctc_values(labels: Any, lengths: Any, label_lengths: Any, blank: int, vocabulary: int) -> None:
    """Labels in [0, V) that are not the blank and fit into the steps, where all values are known."""
    if not all(map(is_concrete, (labels, lengths, label_lengths))):
        return
    labels, lengths = np.asarray(labels), np.asarray(lengths)
    counted = np.arange(len(labels)).reshape(-1, *[1] * lengths.ndim) < np.asarray(label_lengths)[None]
    within("labels", labels[counted], 0, vocabulary - 1, f"labels in [0, {vocabulary})",
           "label_lengths= passes over the padding")  # fmt: skip
    if (labels[counted] == blank).any():
        refuse("labels", f"labels other than the blank, {blank}", "the blank", "blank= chooses another id")
    needed = least_steps(labels, counted)
    if (needed > lengths).any():
        n = np.argmax(needed > lengths)  # of the flat batch
        refuse("labels", f"at most {lengths.flat[n]} steps for them, the length of the sequence", int(needed.flat[n]),
               "equal neighbours need a blank between them; fewer labels, or more steps")  # fmt: skip


def least_steps(labels: Any, counted: Any) -> Any:
    """The steps that labels ``[S, ...]`` need: one each, and a blank between equal neighbours."""
    again = (labels[1:] == labels[:-1]) & counted[1:]
    return counted.sum(0, dtype=np.int32) + again.sum(0, dtype=np.int32)
