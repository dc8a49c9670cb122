"""Regularization of the outputs of a recurrent layer: of their size, and of their change from step to step."""

from __future__ import annotations

from typing import Any

import jax

from jaxrnn import checks
from jaxrnn.losses.reduction import reduce, step_mask, widen_losses, zero_padding
from jaxrnn.types import Array


def activation_regularization(
    ys: Array, alpha: float, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    r"""Activation regularization (AR), a penalty on large outputs.

    .. math:: α \, \frac{1}{H} \sum_j (m ⊙ h_t)_j^2

    Args:
        ys: ``[T, ..., H]``, the outputs of the last recurrent layer, after its dropout m.
        alpha: α; 2 in the paper.
        lengths, mask, mean: see :func:`cross_entropy`.

    Returns:
        A scalar: the mean over features, then over steps, to be added to the loss.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> float(rnn.losses.activation_regularization(jnp.full((7, 2, 3), 2.0), 0.5))
        2.0

    Source: Merity, McCann & Socher (2017), "Revisiting activation regularization for language RNNs"; Merity, Keskar &
    Socher (2018), "Regularizing and optimizing LSTM language models".
    """
    _check("alpha", alpha, ys)
    return alpha * _mean_square(ys, lengths, mask, mean)


def temporal_activation_regularization(
    ys: Array, beta: float, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    r"""Temporal activation regularization (TAR), a penalty on outputs that change from one step to the next.

    .. math:: β \, \frac{1}{H} \sum_j (h_{t+1} - h_t)_j^2

    Args:
        ys: ``[T, ..., H]``, the outputs of the last recurrent layer, before dropout.
        beta: β; 1 in the paper.
        lengths, mask, mean: see :func:`cross_entropy`; a difference counts if both of its steps do.

    Returns:
        A scalar: the mean over features, then over the T - 1 differences, to be added to the loss.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> ys = jnp.arange(7.0)[:, None, None] * jnp.ones((7, 2, 3))
        >>> float(rnn.losses.temporal_activation_regularization(ys, 0.5))
        0.5

    Source: those of :func:`activation_regularization`.
    """
    _check("beta", beta, ys)
    counts = step_mask(tuple(ys.shape[:-1]), lengths, mask)
    ys = widen_losses(zero_padding(counts, ys))
    both = None if counts is None else counts[1:] & counts[:-1]
    return beta * _mean_square(ys[1:] - ys[:-1], None, both, mean)


def _check(argument: str, factor: float, ys: Array) -> None:
    """A factor of at least 0, or a traced one, and one array of outputs."""
    if not isinstance(factor, jax.Array):
        checks.number(argument, factor)
        if factor < 0:
            checks.refuse(argument, "a number of at least 0", factor, "it is the weight of a penalty")
    checks.array("ys", ys, f"a regularization by {argument}")


def _mean_square(x: Array, lengths: Array | None, mask: Any, mean: str) -> Array:
    mask = step_mask(tuple(x.shape[:-1]), lengths, mask)
    return reduce((widen_losses(zero_padding(mask, x)) ** 2).mean(-1), mask=mask, mean=mean)
