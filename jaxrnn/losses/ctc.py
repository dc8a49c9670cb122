"""Connectionist temporal classification: the loss of labels that are not aligned with the steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrnn import checks
from jaxrnn.losses import checks as loss_checks
from jaxrnn.losses.reduction import nan_unless, reduce_sequences, widen_losses, zero_padding
from jaxrnn.scan import sequence_mask
from jaxrnn.types import Array


def ctc(
    logits: Array,
    labels: Array,
    *,
    lengths: Array | None = None,
    label_lengths: Array | None = None,
    blank: int = 0,
    mean: str = "step",
) -> Array:
    r"""CTC loss: the negative log probability of the labels, over all their alignments with the steps, in nats.

    .. math:: ℓ = -\log \sum_{π : B(π) = y} \prod_{t=1}^T \mathrm{softmax}(o_t)_{π_t}

    An alignment π has a label or the blank at each step. B removes repeated labels, then blanks: ``-aab`` and ``a--b``
    become ``ab``, and ``a-ab`` becomes ``aab``. The sum is computed by :func:`optax.ctc_loss`.

    Args:
        logits: ``[T, ..., V]``, one of the V the blank; the loss is computed in float32 or better.
        labels: ``[S, ...]`` ints in [0, V), none of them the blank.
        lengths: ``[...]`` ints, the number of steps of each sequence; one of 0 does not count.
        label_lengths: ``[...]`` ints, the number of labels of each sequence.
        blank: the id of the blank.
        mean: a mean over labels, in place of the steps of the table of the module: ``"step"`` divides the sum by the
            number of all labels, ``"sequence"`` each loss by its number of labels (as PyTorch's ``"mean"``),
            ``"time_sum"`` is the mean over sequences.

    Returns:
        A scalar.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit; a label is out of range or the blank (under ``jit`` the loss
            is NaN); labels need more steps than there are, one each and one between equal neighbours (under ``jit`` it
            is +∞, and its gradient 0).

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> logits, labels = jnp.zeros((3, 1, 2)), jnp.array([[1]])  # 6 of the 8 alignments: all but 000 and 101
        >>> round(float(jnp.exp(-rnn.losses.ctc(logits, labels))), 4)
        0.75

    Source: Graves, Fernández, Gomez & Schmidhuber (2006), "Connectionist temporal classification: labelling unsegmented
    sequence data with recurrent neural networks".
    """
    loss_checks.ctc_logits("logits", logits, blank)
    steps, batch, V = logits.shape[0], tuple(logits.shape[1:-1]), logits.shape[-1]
    loss_checks.ctc_labels("labels", labels, batch)
    most = labels.shape[0]
    inputs: Any = np.full(batch, steps) if lengths is None else lengths
    outputs: Any = np.full(batch, most) if label_lengths is None else label_lengths
    checks.lengths(inputs, steps, batch)
    checks.lengths(outputs, most, batch, "label_lengths")
    loss_checks.ctc_values(labels, inputs, outputs, blank, V)
    lengths, label_lengths = (jnp.asarray(n).astype(jnp.int32) for n in (inputs, outputs))
    mask, label_mask = sequence_mask(steps, lengths), sequence_mask(most, label_lengths)
    logits, labels = widen_losses(zero_padding(mask, logits)), widen_losses(zero_padding(label_mask, labels))

    def batch_first(x: Array) -> Array:
        """``[T, ..., features]`` as ``[B, T, features]``."""
        return jnp.moveaxis(x.reshape(x.shape[0], -1, *x.shape[len(batch) + 1 :]), 0, 1)

    paddings = [1 - batch_first(m).astype(logits.dtype) for m in (mask, label_mask)]
    with jax.numpy_dtype_promotion("standard"):
        losses = optax.ctc_loss(batch_first(logits), paddings[0], batch_first(labels), paddings[1], blank_id=blank)
    losses = losses.reshape(batch).astype(logits.dtype)
    valid = (labels >= 0) & (labels < V) & (labels != blank) | ~label_mask
    losses = jnp.where(loss_checks.least_steps(labels, label_mask) <= lengths, losses, jnp.inf)
    return reduce_sequences(nan_unless(valid.all(0), losses), label_lengths, lengths > 0, mean)
