"""Losses of sequences: the mean over what counts, never over padding.

Arrays are time-major, ``[T, ...]``. What counts is said by ``lengths [...]`` or by a ``mask [T, ...]``, and the mean
is named, since published recipes differ in it:

========================  =====================================================================================
``mean="step"``           :math:`Σ ℓ_{tb} / N`, N the number of steps that count: every step weighs the same
``mean="sequence"``       the mean over each sequence's own steps, then over sequences: every sequence weighs the same
``mean="time_sum"``       the sum over time, then the mean over sequences (Zaremba et al. 2014)
========================  =====================================================================================
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxrnn import checks
from jaxrnn.types import Array
from jaxrnn.walk import before_end, where

MEANS = ("step", "sequence", "time_sum")


def reduce(losses: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step") -> Array:
    """Bring losses of single steps ``[T, ...]`` to one number, by the named mean; 0 where nothing counts."""
    checks.one_of("mean", mean, MEANS)
    counts = _counts(tuple(losses.shape), lengths, mask)
    losses = _clean(counts, losses)
    if counts is None:
        counts = jnp.ones(losses.shape, bool)
    if mean == "time_sum":
        return losses.sum() / max(counts[:1].size, 1)
    if mean == "sequence":
        steps = counts.sum(0)
        each = losses.sum(0) / jnp.maximum(steps, 1).astype(losses.dtype)
        return each.sum() / jnp.maximum((steps > 0).sum(), 1).astype(losses.dtype)
    return losses.sum() / jnp.maximum(counts.sum(), 1).astype(losses.dtype)


def _counts(shape: tuple[int, ...], lengths: Array | None, mask: Array | None) -> Array | None:
    """Which steps count, bool ``[T, ...]``; None: all."""
    if lengths is not None and mask is not None:
        checks.refuse("mask", "lengths or mask", "both", "mask the steps past the end yourself")
    if lengths is not None:
        checks.lengths(lengths, shape[0], shape[1:])
        return before_end(shape[0], lengths)
    if mask is not None:
        checks.mask("mask", mask, shape)
        return jnp.asarray(mask)
    return None


def _clean(counts: Array | None, x: Array) -> Array:
    """0 where nothing counts, so that whatever stands there, even NaN, stays out of value and gradient."""
    x = jnp.asarray(x)
    return x if counts is None else where(counts, x)


def _wide(x: Array) -> Array:
    """In 32 bits or better."""
    wide = jnp.int32 if jnp.issubdtype(x.dtype, jnp.integer) else jnp.float32
    return x if x.dtype.itemsize >= 4 else x.astype(wide)


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
        logits: ``[T, ..., V]`` scores; computed in float32 or better.
        labels: ``[T, ...]`` ints in [0, V); another one that counts is refused, under ``jit`` it makes the loss NaN.
        lengths: ``[...]`` ints, steps that count of each sequence.
        mask: ``[T, ...]`` bools, in place of lengths.
        mean: the normalisation, see the module.
        label_smoothing: share of the probability spread over all labels, in [0, 1).

    Returns:
        A number.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> loss = rnn.losses.cross_entropy(jnp.zeros((7, 2, 4)), jnp.zeros((7, 2), int))
        >>> round(float(loss), 4)  # log 4
        1.3863
    """
    checks.labels("labels", labels, tuple(logits.shape[:-1]))
    checks.fraction("label_smoothing", label_smoothing, "0.1 leaves 0.9 to the right label")
    counts = _counts(tuple(labels.shape), lengths, mask)
    logits, labels = _wide(_clean(counts, logits)), _wide(_clean(counts, labels))
    checks.token_ids("labels", labels, logits.shape[-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    losses = jnp.where((labels >= 0) & (labels < logits.shape[-1]), losses, jnp.nan)
    if label_smoothing:
        uniform = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    return reduce(losses, mask=counts, mean=mean)


def squared_error(
    outputs: Array, targets: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    r"""Mean squared error; within a step the mean over features.

    .. math:: ℓ_t = \frac{1}{q} \sum_j (o_{tj} - y_{tj})^2

    Args:
        outputs: ``[T, ..., q]``.
        targets: the same shape.
        lengths, mask, mean: see :func:`cross_entropy`.

    Returns:
        A number.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> float(rnn.losses.squared_error(jnp.zeros((7, 2, 3)), jnp.full((7, 2, 3), 2.0)))
        4.0
    """
    checks.alike("targets", targets, "outputs", outputs)
    counts = _counts(tuple(outputs.shape[:-1]), lengths, mask)
    outputs, targets = _wide(_clean(counts, outputs)), _wide(_clean(counts, targets))
    return reduce(jnp.mean((outputs - targets) ** 2, -1), mask=counts, mean=mean)


def bernoulli(
    logits: Array, targets: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    r"""Negative log likelihood of 0/1 vectors, in nats; within a step the sum over features.

    .. math:: ℓ_t = -\sum_j y_{tj} \log σ(o_{tj}) + (1 - y_{tj}) \log (1 - σ(o_{tj}))

    Args:
        logits: ``[T, ..., q]``.
        targets: the same shape, 0 or 1 (or a probability between), floating.
        lengths, mask, mean: see :func:`cross_entropy`.

    Returns:
        A number.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> loss = rnn.losses.bernoulli(jnp.zeros((7, 2, 4)), jnp.ones((7, 2, 4)))
        >>> round(float(loss), 4)  # 4 log 2
        2.7726
    """
    checks.alike("targets", targets, "logits", logits)
    counts = _counts(tuple(logits.shape[:-1]), lengths, mask)
    losses = optax.sigmoid_binary_cross_entropy(_wide(_clean(counts, logits)), _clean(counts, targets))
    return reduce(losses.sum(-1), mask=counts, mean=mean)


def accuracy(
    logits: Array, labels: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    """Share of steps whose likeliest label is the right one; arguments of :func:`cross_entropy`."""
    checks.labels("labels", labels, tuple(logits.shape[:-1]))
    likeliest = jnp.argmax(logits, -1)
    hits = (likeliest == labels.astype(likeliest.dtype)).astype(jnp.float32)
    return reduce(hits, lengths=lengths, mask=mask, mean=mean)


def perplexity(nats: Array) -> Array:
    """``exp(L)`` of a cross entropy in nats a step: how many equally likely tokens it is worth."""
    return jnp.exp(nats)


def bits(nats: Array) -> Array:
    """``L / log 2``: nats a symbol to bits a symbol."""
    return nats / jnp.log(2.0).astype(jnp.asarray(nats).dtype)
