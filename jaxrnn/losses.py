"""Losses over sequences: a mean over the steps that count, never over padding.

Arrays are time-major, ``[T, ...]``. ``lengths [...]`` or a ``mask [T, ...]`` selects the steps that count. The mean has
to be chosen by name, since published recipes differ in it:

========================  =====================================================================================
``mean="step"``           :math:`Σ ℓ_{tb} / N`, N the number of steps that count: every step has the same weight
``mean="sequence"``       the mean over the steps of each sequence, then over sequences: every sequence weighs the same
``mean="time_sum"``       the sum over time, then the mean over sequences (Zaremba et al. 2014)
========================  =====================================================================================

A sequence without a step that counts is padding of the batch, and is not counted in the divisor of a mean.
:func:`count` returns that divisor; it is the weight of a batch when the losses of several batches are averaged.

Where each sequence has one label, ``[B]``, the fillers of an incomplete batch have the label 0 and would count:
``mask=lengths > 0`` leaves them out. :func:`jaxrnn.data.targets_and_mask` gives the mask of a batch in either case.

Labels outside of the vocabulary, such as the -100 that PyTorch ignores, are refused. ``mask=labels != -100`` excludes
them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrnn import checks
from jaxrnn.precision import widen
from jaxrnn.scan import sequence_mask, where
from jaxrnn.types import Array

MEANS = ("step", "sequence", "time_sum")


def reduce(losses: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step") -> Array:
    """Reduce the losses of single steps ``[T, ...]`` to a scalar by the named mean; 0 if no step counts."""
    mask = _step_mask(tuple(losses.shape), lengths, mask)
    losses = _widen(_zero_padding(mask, losses))
    divisor = count(losses.shape, mask=mask, mean=mean)
    if mean == "sequence":
        steps = losses.shape[0] if mask is None else mask.sum(0)
        losses = losses.sum(0) / jnp.maximum(steps, 1).astype(losses.dtype)
    return losses.sum() / jnp.maximum(divisor, 1).astype(losses.dtype)


def count(
    shape: tuple[int, ...], *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    r"""Number of steps or sequences that a mean is over: the weight of a batch among several.

    .. math:: L = \frac{\sum_i n_i L_i}{\sum_i n_i}

    is the loss of several batches i together, n_i this number. :func:`jaxrnn.learning.mean_loss` weights batches by it
    if the loss reports it as the metric ``"count"``.

    Args:
        shape: ``(T, ...)``, that of the labels.
        lengths: ``[...]`` ints, the number of steps of each sequence.
        mask: ``[T, ...]`` bools, in place of lengths.
        mean: for ``"step"`` the result is the number of steps that count, for ``"sequence"`` and ``"time_sum"`` the
            number of sequences with at least one step that counts.

    Returns:
        An integer array of shape ``[]``.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> lengths = jnp.array([2, 0, 5])
        >>> [int(rnn.losses.count((7, 3), lengths=lengths, mean=mean)) for mean in ("step", "sequence")]
        [7, 2]
    """
    checks.one_of("mean", mean, MEANS)
    mask = _step_mask(tuple(shape), lengths, mask)
    mask = jnp.ones(shape, bool) if mask is None else mask
    return mask.sum() if mean == "step" else mask.any(0).sum()


def _step_mask(shape: tuple[int, ...], lengths: Array | None, mask: Array | None) -> Array | None:
    """The steps that count, bool ``[T, ...]``; None: all."""
    if lengths is not None and mask is not None:
        checks.refuse("mask", "lengths or mask", "both", "mask the steps past the end yourself")
    if lengths is not None:
        checks.lengths(lengths, shape[0], shape[1:])
        return sequence_mask(shape[0], lengths)
    if mask is not None:
        checks.mask("mask", mask, shape)
        return jnp.asarray(mask)
    return None


def _zero_padding(mask: Array | None, x: Array) -> Array:
    """Set masked steps to 0, so that nothing in them, not even NaN, reaches the value or the gradient."""
    x = jnp.asarray(x)
    return x if mask is None else where(mask, x)


def _widen(x: Array) -> Array:
    """Convert to 32 bits or more; ``[T, ..., V]`` may have more labels than a narrow integer type can represent."""
    narrow_integer = jnp.issubdtype(x.dtype, jnp.integer) and x.dtype.itemsize < 4
    return x.astype(jnp.int32) if narrow_integer else widen(x)


def _is_label(labels: Array, logits: Array) -> Array:
    return (labels >= 0) & (labels < logits.shape[-1])


def _nan_unless(valid: Array, losses: Array) -> Array:
    """NaN for invalid targets: under ``jit`` their values are unknown and cannot be refused."""
    return jnp.where(valid, losses, jnp.nan)


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
    mask = _step_mask(tuple(labels.shape), lengths, mask)
    logits, labels = _widen(_zero_padding(mask, logits)), _widen(_zero_padding(mask, labels))
    _check_label_values("labels", labels, logits.shape[-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if label_smoothing:
        uniform = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    return reduce(_nan_unless(_is_label(labels, logits), losses), mask=mask, mean=mean)


def squared_error(
    outputs: Array, targets: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    r"""Mean squared error: the mean over the features of a step, then over steps.

    .. math:: ℓ_t = \frac{1}{q} \sum_j (o_{tj} - y_{tj})^2

    Args:
        outputs: ``[T, ..., q]``.
        targets: the same shape.
        lengths, mask, mean: see :func:`cross_entropy`.

    Returns:
        A scalar.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> float(rnn.losses.squared_error(jnp.zeros((7, 2, 3)), jnp.full((7, 2, 3), 2.0)))
        4.0
    """
    _check_same_shape("targets", targets, "outputs", outputs)
    mask = _step_mask(tuple(outputs.shape[:-1]), lengths, mask)
    outputs, targets = _widen(_zero_padding(mask, outputs)), _widen(_zero_padding(mask, targets))
    return reduce(jnp.mean((outputs - targets) ** 2, -1), mask=mask, mean=mean)


def bernoulli(
    logits: Array, targets: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    r"""Binary cross entropy of 0/1 vectors, in nats: the sum over the features of a step, the mean over steps.

    .. math:: ℓ_t = -\sum_j y_{tj} \log σ(o_{tj}) + (1 - y_{tj}) \log (1 - σ(o_{tj}))

    Args:
        logits: ``[T, ..., q]``.
        targets: the same shape, floating, 0, 1 or probabilities between. Other values in steps that count are refused;
            under ``jit`` the loss is NaN.
        lengths, mask, mean: see :func:`cross_entropy`.

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
    _check_same_shape("targets", targets, "logits", logits)
    mask = _step_mask(tuple(logits.shape[:-1]), lengths, mask)
    logits, targets = _widen(_zero_padding(mask, logits)), _widen(_zero_padding(mask, targets))
    _check_probabilities("targets", targets)
    losses = optax.sigmoid_binary_cross_entropy(logits, targets)
    return reduce(_nan_unless((targets >= 0) & (targets <= 1), losses).sum(-1), mask=mask, mean=mean)


def accuracy(
    logits: Array, labels: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    """Fraction of steps whose most likely label is the target; arguments of :func:`cross_entropy`."""
    _check_labels("labels", labels, tuple(logits.shape[:-1]))
    mask = _step_mask(tuple(labels.shape), lengths, mask)
    labels, predicted = _widen(_zero_padding(mask, labels)), jnp.argmax(logits, -1)
    _check_label_values("labels", labels, logits.shape[-1])
    correct = (predicted == labels.astype(predicted.dtype)).astype(jnp.float32)
    return reduce(_nan_unless(_is_label(labels, logits), correct), mask=mask, mean=mean)


def perplexity(nats: Array) -> Array:
    """Perplexity ``exp(L)`` of a cross entropy in nats a step."""
    return jnp.exp(nats)


def bits(nats: Array) -> Array:
    """Convert nats a symbol to bits a symbol: ``L / log 2``."""
    return nats / jnp.log(2.0).astype(jnp.asarray(nats).dtype)


# ---- checks ----


def _check_labels(argument: str, value: Any, shape: tuple[int, ...]) -> None:
    """Integers of the given shape."""
    checks.integers(argument, value, f"integer labels {list(shape)}", "argmax(-1) undoes one-hot")
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


def _check_same_shape(argument: str, value: Any, other: str, like: Any) -> None:
    """A floating array with the shape of another."""
    if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jnp.floating):
        checks.refuse(
            argument,
            f"floating numbers like {other} {checks.describe(like)}",
            checks.describe(value),
            ".astype(float)",
            TypeError,
        )
    if tuple(value.shape) != tuple(like.shape):
        checks.refuse(argument, f"shape {list(like.shape)}, that of {other}", checks.describe(value))
