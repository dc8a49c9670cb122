"""Losses of labels: cross entropy, Bernoulli, accuracy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrnn import checks
from jaxrnn.losses import checks as loss_checks
from jaxrnn.losses.reduction import (
    nan_unless,
    reduce,
    reduce_features,
    step_mask,
    widen_losses,
    zero_padding,
)
from jaxrnn.types import Array


def cross_entropy(
    logits: Array,
    labels: Array,
    *,
    lengths: Array | None = None,
    mask: Array | None = None,
    mean: str = "step",
    label_smoothing: float = 0.0,
) -> Array:
    r"""Cross entropy of integer labels, in nats.

    .. math:: ℓ_t = -\log \mathrm{softmax}(o_t)_{y_t}

    Args:
        logits: ``[T, ..., V]``; the loss is computed in float32 or better.
        labels: ``[T, ...]`` ints in [0, V). Other values in steps that count are refused; under ``jit`` the loss is
            NaN.
        lengths: ``[...]`` ints, the number of steps of each sequence.
        mask: ``[T, ...]`` bools, in place of lengths: True for steps that count.
        mean: ``"step"``, ``"sequence"`` or ``"time_sum"``, see the table of the module.
        label_smoothing: probability mass spread uniformly over all labels, in [0, 1).

    Returns:
        A scalar.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> loss = rnn.losses.cross_entropy(jnp.zeros((7, 2, 4)), jnp.zeros((7, 2), int))
        >>> round(float(loss), 4)  # log 4
        1.3863
    """
    _check_labels("labels", labels, tuple(logits.shape[:-1]))
    checks.fraction("label_smoothing", label_smoothing, "0.1 leaves 0.9 to the right label")
    mask = step_mask(tuple(labels.shape), lengths, mask)
    logits, labels = widen_losses(zero_padding(mask, logits)), widen_losses(zero_padding(mask, labels))
    _check_label_values("labels", labels, logits.shape[-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if label_smoothing:
        uniform = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    return reduce(nan_unless(_is_label(labels, logits), losses), mask=mask, mean=mean)


def bernoulli(
    logits: Array, targets: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    r"""Binary cross entropy of 0/1 vectors, in nats: the sum over the features of a step, the mean over steps.

    .. math:: ℓ_t = -\sum_j y_{tj} \log σ(o_{tj}) + (1 - y_{tj}) \log (1 - σ(o_{tj}))

    Args:
        logits: ``[T, ..., q]``.
        targets: the same shape, floating, 0, 1 or probabilities between. Other values in steps that count are refused;
            under ``jit`` the loss is NaN.
        lengths, mask, mean: see :func:`cross_entropy`; the mask may be ``[T, ..., q]``, False for missing values.

    Returns:
        A scalar.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> loss = rnn.losses.bernoulli(jnp.zeros((7, 2, 4)), jnp.ones((7, 2, 4)))
        >>> round(float(loss), 4)  # 4 log 2
        2.7726
    """
    loss_checks.same_shape("targets", targets, "logits", logits)

    def loss(logits: Array, targets: Array) -> Array:
        _check_probabilities("targets", targets)
        losses = optax.sigmoid_binary_cross_entropy(logits, targets)
        return nan_unless((targets >= 0) & (targets <= 1), losses)

    return reduce_features(loss, logits, targets, lengths, mask, mean, over="sum")


def accuracy(
    logits: Array, labels: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    """Fraction of steps whose most likely label is the target; arguments of :func:`cross_entropy`."""
    _check_labels("labels", labels, tuple(logits.shape[:-1]))
    mask = step_mask(tuple(labels.shape), lengths, mask)
    labels, predicted = widen_losses(zero_padding(mask, labels)), jnp.argmax(logits, -1)
    _check_label_values("labels", labels, logits.shape[-1])
    correct = (predicted == labels.astype(predicted.dtype)).astype(jnp.float32)
    return reduce(nan_unless(_is_label(labels, logits), correct), mask=mask, mean=mean)


def perplexity(nats: Array) -> Array:
    """Perplexity ``exp(L)`` of a cross entropy in nats a step."""
    return jnp.exp(nats)


def bits(nats: Array) -> Array:
    """Convert nats a symbol to bits a symbol: ``L / log 2``."""
    return nats / jnp.log(2.0).astype(jnp.asarray(nats).dtype)


# ---- checks ----


def _is_label(labels: Array, logits: Array) -> Array:
    return (labels >= 0) & (labels < logits.shape[-1])


def _check_labels(argument: str, value: Any, shape: tuple[int, ...]) -> None:
    """Integers of the given shape."""
    one_hot = len(getattr(value, "shape", ())) > len(shape)
    fix = "argmax(-1) undoes one-hot" if one_hot else ".astype(int)"
    checks.integers(argument, value, f"integer labels {list(shape)}", fix)
    if tuple(value.shape) != shape:
        checks.refuse(
            argument, f"shape {list(shape)}, that of the logits without their last axis", checks.describe(value)
        )


def _check_label_values(argument: str, value: Array, classes: int) -> None:
    """Labels in [0, V)."""
    checks.within(argument, value, 0, classes - 1, f"labels in [0, {classes})",
            f"mask={argument} != -100 passes over those of -100")  # fmt: skip


def _check_probabilities(argument: str, value: Array) -> None:
    """Numbers in [0, 1]."""
    checks.within(
        argument, value, 0, 1, "0, 1 or probabilities between", "mask= or lengths= passes over steps without one"
    )
