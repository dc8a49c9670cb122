"""Metrics of real numbers: errors of point predictions and of quantiles. Each number has the same weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.metrics.metric import Bound, Metric, mean, reals, spread, sum_and_count
from jaxrnn.types import Array

# ---- point predictions: outputs and targets of one shape ----


def _mean_of(outputs: Array, targets: Array, mask: Array | None, error: Callable) -> dict[str, Array]:
    outputs, targets = reals(outputs=outputs, targets=targets)
    if outputs.shape == (*targets.shape, 1):  # a readout of one number
        outputs = outputs[..., 0]
    if outputs.shape != targets.shape:
        checks.refuse("outputs", f"shape {list(targets.shape)}, that of the targets", checks.describe(outputs),
                      "predict returns an output for each target")  # fmt: skip
    counted = spread(mask, targets.shape)
    return sum_and_count(error(outputs, targets), counted)


def _squared(o: Array, y: Array) -> Array:
    return (o - y) ** 2


def _absolute(o: Array, y: Array) -> Array:
    return jnp.abs(o - y)


def _relative(o: Array, y: Array) -> Array:
    return jnp.abs(o - y) / jnp.maximum(jnp.abs(y), float(np.finfo(np.float64).eps))


def _symmetric(o: Array, y: Array) -> Array:
    size = jnp.abs(o) + jnp.abs(y)
    return 2 * jnp.abs(o - y) / jnp.where(size == 0, jnp.ones_like(size), size)


def _root(sums: dict[str, Any]) -> float:
    return math.sqrt(mean(sums))


mse = Metric("mse", "min", Bound.of(_mean_of, error=_squared), mean)
squared_error = Metric("squared_error", "min", mse.sums, mean)
rmse = Metric("rmse", "min", mse.sums, _root)
mae = Metric("mae", "min", Bound.of(_mean_of, error=_absolute), mean)
mape = Metric("mape", "min", Bound.of(_mean_of, error=_relative), mean)
smape = Metric("smape", "min", Bound.of(_mean_of, error=_symmetric), mean)

# ---- quantiles ----


def quantile_loss(levels: Sequence[float]) -> Metric:
    r"""Quantile loss (pinball loss): the mean over targets and levels.

    .. math:: ℓ_τ = \max(τ (y - q_τ), (τ - 1)(y - q_τ))

    GluonTS takes twice this number.

    Args:
        levels: Q levels τ, each between 0 and 1. Outputs are quantiles ``[..., Q]``, targets ``[...]``.

    Raises:
        TypeError, ValueError: levels that are no numbers between 0 and 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn import metrics
        >>> round(metrics.quantile_loss([0.1, 0.9])(jnp.array([[0.0, 2.0]]), jnp.array([1.0])), 4)
        0.1

    Source: Koenker & Bassett (1978), "Regression quantiles".
    """
    if isinstance(levels, (str, int, float)) or not hasattr(levels, "__len__") or not len(levels):
        checks.refuse("levels", "levels between 0 and 1, such as (0.1, 0.5, 0.9)", checks.describe(levels),
                      error=TypeError)  # fmt: skip
    for level in levels:
        between_0_and_1("levels", level)
    return Metric("quantile_loss", "min", Bound.of(_pinball, levels=tuple(map(float, levels))), mean)


def _pinball(outputs: Array, targets: Array, mask: Array | None, levels: tuple[float, ...]) -> dict[str, Array]:
    outputs, targets = reals(outputs=outputs, targets=targets)
    if outputs.shape != (*targets.shape, len(levels)):
        checks.refuse("outputs", f"shape {[*targets.shape, len(levels)]}, a quantile of each target for each of "
                      f"{len(levels)} levels", checks.describe(outputs), "the levels go last")  # fmt: skip
    counted = jnp.broadcast_to(spread(mask, targets.shape)[..., None], outputs.shape)
    error = targets[..., None] - outputs
    level = jnp.broadcast_to(jnp.asarray(levels, error.dtype), error.shape)
    return sum_and_count(jnp.maximum(level * error, (level - 1) * error), counted)


def between_0_and_1(argument: str, value: Any) -> None:
    checks.number(argument, value)
    if not 0 < value < 1:
        checks.refuse(argument, "a number between 0 and 1", value, "0.9 is 90 %")
