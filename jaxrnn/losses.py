"""Losses of sequences: the mean over what counts, never over padding.

Arrays are time-major, ``[T, ...]``. What counts is said by ``lengths [...]`` or by a ``mask [T, ...]``, and the mean
is named, since published recipes differ in it:

========================  =====================================================================================
``mean="step"``           :math:`Σ ℓ_{tb} / N`, N the number of steps that count: every step weighs the same
``mean="sequence"``       the mean over each sequence's own steps, then over sequences: every sequence weighs the same
``mean="time_sum"``       the sum over time, then the mean over sequences (Zaremba et al. 2014)
========================  =====================================================================================

A sequence of which no step counts is none: it only fills up the batch, and no mean is divided by it. What a mean is
divided by is :func:`count`; by it, losses of several batches are brought to that of all of them.

Labels outside of the vocabulary, such as the -100 that PyTorch ignores, are passed over where ``mask=labels != -100``
says so, and refused otherwise.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxrnn import checks
from jaxrnn.precision import widen
from jaxrnn.scan import sequence_mask, where
from jaxrnn.types import Array

MEANS = ("step", "sequence", "time_sum")


def reduce(losses: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step") -> Array:
    """Bring losses of single steps ``[T, ...]`` to one number, by the named mean; 0 where nothing counts."""
    counts = _counts(tuple(losses.shape), lengths, mask)
    losses = _wide(_clean(counts, losses))
    number = count(losses.shape, mask=counts, mean=mean)
    if mean == "sequence":
        steps = losses.shape[0] if counts is None else counts.sum(0)
        losses = losses.sum(0) / jnp.maximum(steps, 1).astype(losses.dtype)
    return losses.sum() / jnp.maximum(number, 1).astype(losses.dtype)


def count(
    shape: tuple[int, ...], *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    r"""How many steps or sequences a mean is over: what a batch weighs beside others.

    .. math:: L = \frac{\sum_i n_i L_i}{\sum_i n_i}

    is the loss of several batches i together, n_i this number. A loss that reports it as ``"count"`` is weighed so by
    :func:`jaxrnn.learning.mean_loss`.

    Args:
        shape: ``(T, ...)``, that of the labels.
        lengths: ``[...]`` ints, steps that count of each sequence.
        mask: ``[T, ...]`` bools, in place of lengths.
        mean: the mean. Of ``"step"`` it is the number of steps that count, of ``"sequence"`` and ``"time_sum"`` that of
            the sequences of which a step counts.

    Returns:
        An int, as an array.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> lengths = jnp.array([2, 0, 5])
        >>> [int(rnn.losses.count((7, 3), lengths=lengths, mean=mean)) for mean in ("step", "sequence")]
        [7, 2]
    """
    checks.one_of("mean", mean, MEANS)
    counts = _counts(tuple(shape), lengths, mask)
    counts = jnp.ones(shape, bool) if counts is None else counts
    return counts.sum() if mean == "step" else counts.any(0).sum()


def _counts(shape: tuple[int, ...], lengths: Array | None, mask: Array | None) -> Array | None:
    """Which steps count, bool ``[T, ...]``; None: all."""
    if lengths is not None and mask is not None:
        checks.refuse("mask", "lengths or mask", "both", "mask the steps past the end yourself")
    if lengths is not None:
        checks.lengths(lengths, shape[0], shape[1:])
        return sequence_mask(shape[0], lengths)
    if mask is not None:
        checks.mask("mask", mask, shape)
        return jnp.asarray(mask)
    return None


def _clean(counts: Array | None, x: Array) -> Array:
    """0 where nothing counts, so that whatever stands there, even NaN, stays out of value and gradient."""
    x = jnp.asarray(x)
    return x if counts is None else where(counts, x)


def _wide(x: Array) -> Array:
    """In 32 bits or better; ``[T, ..., V]`` may have more labels than a narrow integer holds."""
    narrow_integer = jnp.issubdtype(x.dtype, jnp.integer) and x.dtype.itemsize < 4
    return x.astype(jnp.int32) if narrow_integer else widen(x)


def _is_label(labels: Array, logits: Array) -> Array:
    return (labels >= 0) & (labels < logits.shape[-1])


def _nan_unless(right: Array, losses: Array) -> Array:
    """NaN where the targets are wrong, which shows under ``jit``, where their values cannot be refused."""
    return jnp.where(right, losses, jnp.nan)


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
    checks.label_values("labels", labels, logits.shape[-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if label_smoothing:
        uniform = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    return reduce(_nan_unless(_is_label(labels, logits), losses), mask=counts, mean=mean)


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
    checks.same_shape("targets", targets, "outputs", outputs)
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
        targets: the same shape, 0 or 1 (or a probability between), floating; others are treated as wrong labels are.
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
    checks.same_shape("targets", targets, "logits", logits)
    counts = _counts(tuple(logits.shape[:-1]), lengths, mask)
    logits, targets = _wide(_clean(counts, logits)), _wide(_clean(counts, targets))
    checks.probabilities("targets", targets)
    losses = optax.sigmoid_binary_cross_entropy(logits, targets)
    return reduce(_nan_unless((targets >= 0) & (targets <= 1), losses).sum(-1), mask=counts, mean=mean)


def accuracy(
    logits: Array, labels: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    """Share of steps whose likeliest label is the right one; arguments of :func:`cross_entropy`."""
    checks.labels("labels", labels, tuple(logits.shape[:-1]))
    counts = _counts(tuple(labels.shape), lengths, mask)
    labels, likeliest = _wide(_clean(counts, labels)), jnp.argmax(logits, -1)
    checks.label_values("labels", labels, logits.shape[-1])
    hits = (likeliest == labels.astype(likeliest.dtype)).astype(jnp.float32)
    return reduce(_nan_unless(_is_label(labels, logits), hits), mask=counts, mean=mean)


def perplexity(nats: Array) -> Array:
    """``exp(L)`` of a cross entropy in nats a step: how many equally likely tokens it is worth."""
    return jnp.exp(nats)


def bits(nats: Array) -> Array:
    """``L / log 2``: nats a symbol to bits a symbol."""
    return nats / jnp.log(2.0).astype(jnp.asarray(nats).dtype)
