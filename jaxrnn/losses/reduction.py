"""The mean over the steps that count, and over the observed values of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.precision import widen
from jaxrnn.scan import sequence_mask, where
from jaxrnn.types import Array

MEANS = ("step", "sequence", "time_sum")


def reduce(losses: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step") -> Array:
    """Reduce the losses of single steps ``[T, ...]`` to a scalar by the named mean; 0 if no step counts."""
    mask = step_mask(tuple(losses.shape), lengths, mask)
    losses = widen_losses(zero_padding(mask, losses))
    divisor = count(losses.shape, mask=mask, mean=mean)
    if mean == "sequence":
        steps = losses.shape[0] if mask is None else mask.sum(0)
        losses = losses.sum(0) / jnp.maximum(steps, 1).astype(losses.dtype)
    return losses.sum() / jnp.maximum(divisor, 1).astype(losses.dtype)


def reduce_sequences(losses: Array, steps: Array, counted: Array, mean: str) -> Array:
    """Reduce the losses of whole sequences ``[...]`` as :func:`reduce` would reduce those of their ``steps [...]``."""
    checks.one_of("mean", mean, MEANS)
    losses, steps = jnp.where(counted, losses, 0), jnp.where(counted, steps, 0)
    if mean == "sequence":
        losses = losses / jnp.maximum(steps, 1).astype(losses.dtype)
    divisor = steps.sum() if mean == "step" else counted.sum()
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
        mask: ``[T, ...]`` bools, in place of lengths; or ``[T, ..., q]``: a step counts if one of its values does.
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
    mask = _any_feature(tuple(shape), mask)
    mask = step_mask(tuple(shape), lengths, mask)
    mask = jnp.ones(shape, bool) if mask is None else mask
    return mask.sum() if mean == "step" else mask.any(0).sum()


def reduce_features(
    loss: Callable[[Array, Array], Array],
    outputs: Array,
    targets: Array,
    lengths: Array | None,
    mask: Array | None,
    mean: str,
    over: str = "mean",
) -> Array:
    """Reduce ``loss(outputs, targets) [T, ..., q]``: over the observed features of each step, then over steps.

    Args:
        loss: of single values.
        outputs: ``[T, ..., q · size]``, ``size`` of them for each target.
        targets: ``[T, ..., q]``.
        lengths, mask, mean: those of the loss; the mask may be ``[T, ..., q]``.
        over: the ``"mean"`` or the ``"sum"`` over the features of a step.
    """
    shape = tuple(targets.shape)
    if mask is None or getattr(mask, "ndim", 0) < len(shape):
        mask = step_mask(shape[:-1], lengths, mask)
        losses = loss(widen_losses(zero_padding(mask, outputs)), widen_losses(zero_padding(mask, targets)))
        return reduce(losses.mean(-1) if over == "mean" else losses.sum(-1), mask=mask, mean=mean)
    mask = step_mask(shape, lengths, mask)
    size = outputs.shape[-1] // shape[-1]
    outputs = zero_padding(mask if size == 1 else jnp.repeat(mask, size, -1), outputs)
    losses = zero_padding(mask, loss(widen_losses(outputs), widen_losses(zero_padding(mask, targets)))).sum(-1)
    if over == "mean":
        losses = losses / jnp.maximum(mask.sum(-1), 1).astype(losses.dtype)
    return reduce(losses, mask=mask.any(-1), mean=mean)


def _any_feature(shape: tuple[int, ...], mask: Array | None) -> Array | None:
    """A mask of values ``[T, ..., q]`` as the steps ``[T, ...]`` with any of them."""
    if mask is None or getattr(mask, "ndim", 0) <= len(shape):
        return mask
    checks.mask("mask", mask, (*shape, mask.shape[-1]))
    return jnp.asarray(mask).any(-1)


def step_mask(shape: tuple[int, ...], lengths: Array | None, mask: Array | None) -> Any:
    """What counts, bool of the given shape; None: all."""
    if lengths is not None and mask is not None:
        checks.refuse("mask", "lengths or mask", "both", "mask the steps past the end yourself")
    if lengths is not None:
        checks.lengths(lengths, shape[0], shape[1:])
        return sequence_mask(shape[0], lengths)
    if mask is not None:
        checks.mask("mask", mask, shape)
        return jnp.asarray(mask)
    return None


def zero_padding(mask: Array | None, x: Array) -> Array:
    """Set masked steps to 0, so that nothing in them, not even NaN, reaches the value or the gradient."""
    x = jnp.asarray(x)
    return x if mask is None else where(mask, x)


def widen_losses(x: Array) -> Array:
    """Convert to 32 bits or more; ``[T, ..., V]`` may have more labels than a narrow integer type can represent."""
    narrow_integer = jnp.issubdtype(x.dtype, jnp.integer) and x.dtype.itemsize < 4
    return x.astype(jnp.int32) if narrow_integer else widen(x)


def nan_unless(valid: Array, losses: Array) -> Array:
    """NaN for invalid targets: under ``jit`` their values are unknown and cannot be refused."""
    return jnp.where(valid, losses, jnp.nan)
