"""Losses of real values: squared, absolute, Huber and quantile errors, negative log likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import optax

from jaxrnn import checks
from jaxrnn.losses import checks as loss_checks
from jaxrnn.losses.reduction import reduce_features
from jaxrnn.types import Array


def squared_error(
    outputs: Array, targets: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    r"""Mean squared error: the mean over the features of a step, then over steps.

    .. math:: ℓ_t = \frac{1}{q} \sum_j (o_{tj} - y_{tj})^2

    Args:
        outputs: ``[T, ..., q]``.
        targets: the same shape.
        lengths, mean: see :func:`cross_entropy`.
        mask: ``[T, ...]`` bools, True for steps that count; or ``[T, ..., q]``, False for missing values: the mean of a
            step is then over those observed.

    Returns:
        A scalar.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> float(rnn.losses.squared_error(jnp.zeros((7, 2, 3)), jnp.full((7, 2, 3), 2.0)))
        4.0
    """
    loss_checks.same_shape("targets", targets, "outputs", outputs)
    return reduce_features(lambda o, y: (o - y) ** 2, outputs, targets, lengths, mask, mean)


def absolute_error(
    outputs: Array, targets: Array, *, lengths: Array | None = None, mask: Array | None = None, mean: str = "step"
) -> Array:
    r"""Mean absolute error, which the median minimises; arguments of :func:`squared_error`.

    .. math:: ℓ_t = \frac{1}{q} \sum_j |o_{tj} - y_{tj}|

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> float(rnn.losses.absolute_error(jnp.zeros((7, 2, 3)), jnp.full((7, 2, 3), -2.0)))
        2.0
    """
    loss_checks.same_shape("targets", targets, "outputs", outputs)
    return reduce_features(lambda o, y: jnp.abs(o - y), outputs, targets, lengths, mask, mean)


def huber(
    outputs: Array,
    targets: Array,
    *,
    delta: float = 1.0,
    lengths: Array | None = None,
    mask: Array | None = None,
    mean: str = "step",
) -> Array:
    r"""Huber loss: quadratic for small errors, linear for large ones, so that outliers weigh less.

    .. math:: ℓ(e) = \tfrac{1}{2} e^2 \text{ if } |e| ≤ δ, \text{ else } δ (|e| - \tfrac{1}{2} δ)

    Args:
        outputs, targets: ``[T, ..., q]``.
        delta: δ, the error from which on the loss is linear.
        lengths, mask, mean: see :func:`squared_error`.

    Returns:
        A scalar: the mean over the features of a step, then over steps.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit; ``delta`` is not above 0.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> float(rnn.losses.huber(jnp.zeros((7, 2, 3)), jnp.full((7, 2, 3), 3.0)))
        2.5

    Source: Huber (1964), "Robust estimation of a location parameter", Annals of Mathematical Statistics 35.
    """
    loss_checks.same_shape("targets", targets, "outputs", outputs)
    checks.number("delta", delta)
    if delta <= 0:
        checks.refuse("delta", "a number above 0", delta)
    return reduce_features(lambda o, y: optax.huber_loss(o, y, delta=delta), outputs, targets, lengths, mask, mean)


def quantile(
    outputs: Array,
    targets: Array,
    levels: float | Sequence[float],
    *,
    lengths: Array | None = None,
    mask: Array | None = None,
    mean: str = "step",
) -> Array:
    r"""Quantile loss, also called pinball loss: an output that minimises it is the quantile of its level.

    .. math:: ℓ(y, o) = \max(τ (y - o), (τ - 1) (y - o))

    Args:
        outputs: ``[T, ..., q]``, or ``[T, ..., q · Q]`` for Q levels; those of a target lie side by side.
        targets: ``[T, ..., q]``.
        levels: τ, a number in (0, 1), or Q of them.
        lengths, mask, mean: see :func:`squared_error`.

    Returns:
        A scalar: the mean over levels, over the features of a step, then over steps.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit; a level is not in (0, 1).

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> loss = rnn.losses.quantile(jnp.zeros((7, 2, 1)), jnp.ones((7, 2, 1)), 0.9)
        >>> round(float(loss), 4)
        0.9

    Source: Koenker & Bassett (1978), "Regression quantiles", Econometrica 46.
    """
    levels = loss_checks.levels("levels", levels)
    loss_checks.outputs_and_targets(outputs, targets, len(levels))
    return reduce_features(lambda o, y: pinball(o, y, levels), outputs, targets, lengths, mask, mean)


def pinball(outputs: Array, targets: Array, levels: tuple[float, ...]) -> Array:
    """The quantile loss of each target ``[..., q]``, the mean over the levels of ``outputs [..., q · Q]``."""
    outputs = outputs.reshape(*targets.shape, len(levels))
    error = targets[..., None].astype(outputs.dtype) - outputs
    level = jnp.broadcast_to(jnp.asarray(levels, outputs.dtype), error.shape)
    return jnp.maximum(level * error, (level - 1) * error).mean(-1)


def negative_log_likelihood(
    distribution: Any,
    outputs: Array,
    targets: Array,
    *,
    scale: Array | None = None,
    lengths: Array | None = None,
    mask: Array | None = None,
    mean: str = "step",
) -> Array:
    r"""Negative log likelihood of real values or counts, in nats: the mean over features, then over steps.

    .. math:: ℓ_t = -\frac{1}{q} \sum_j \log p(y_{tj} | o_{tj})

    Args:
        distribution: of :mod:`jaxrnn.distributions`, such as ``Gaussian()``.
        outputs: ``[T, ..., q · size]``, the ``distribution.size`` parameters of a target side by side.
        targets: ``[T, ..., q]``.
        scale: see :mod:`jaxrnn.distributions`.
        lengths, mask, mean: see :func:`squared_error`.

    Returns:
        A scalar.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> outputs, targets = jnp.zeros((7, 2, 2)), jnp.zeros((7, 2, 1))
        >>> loss = rnn.losses.negative_log_likelihood(rnn.distributions.Gaussian(), outputs, targets)
        >>> round(float(loss), 2)  # log (softplus(0) √(2 π))
        0.55
    """
    if not hasattr(distribution, "negative_log_likelihood"):
        checks.refuse("distribution", "one with a negative_log_likelihood", checks.describe(distribution),
                      "distributions.Gaussian() has one", TypeError)  # fmt: skip
    return _expected(distribution, distribution.negative_log_likelihood, outputs, targets, scale, lengths, mask, mean)


def distribution_loss(
    distribution: Any,
    outputs: Array,
    targets: Array,
    *,
    scale: Array | None = None,
    lengths: Array | None = None,
    mask: Array | None = None,
    mean: str = "step",
) -> Array:
    """The loss of any distribution; arguments of :func:`negative_log_likelihood`, which it is where there is one."""
    return _expected(distribution, distribution.loss, outputs, targets, scale, lengths, mask, mean)


def _expected(
    distribution: Any,
    loss: Any,
    outputs: Array,
    targets: Array,
    scale: Array | None,
    lengths: Any,
    mask: Any,
    mean: str,
) -> Array:
    loss_checks.outputs_and_targets(outputs, targets, distribution.size)
    return reduce_features(lambda o, y: loss(o, y, scale), outputs, targets, lengths, mask, mean)
