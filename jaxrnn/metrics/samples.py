"""Metrics of predicted distributions that are given as samples: outputs ``[S, ...]``, targets ``[...]``."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.metrics.metric import Bound, Metric, mean, reals, spread, sum_and_count
from jaxrnn.metrics.regression import between_0_and_1
from jaxrnn.types import Array


def _crps(samples: Array, targets: Array, mask: Array | None) -> dict[str, Array]:
    """The fair estimator, by sorted samples: Σ_{i<j} (x_(j) - x_(i)) = Σ_i (2i - S - 1) x_(i), i from 1 to S."""
    samples, targets, counted = _samples_and_targets(samples, targets, mask)
    S = len(samples)
    if S < 2:
        checks.refuse("outputs", "at least 2 samples [S, ...] of a target", checks.describe(samples),
                      "mae is for one prediction")  # fmt: skip
    deviations = samples - targets[None]  # the spread does not depend on the origin: this one loses the fewest digits
    factors = (2 * jnp.arange(1, S + 1) - S - 1).astype(samples.dtype).reshape((S,) + (1,) * targets.ndim)
    spread_of_samples = (factors * jnp.sort(deviations, 0)).sum(0) / (S * (S - 1))
    return sum_and_count(jnp.abs(deviations).mean(0) - spread_of_samples, counted)


crps = Metric("crps", "min", _crps, mean)


def coverage(level: float) -> Metric:
    r"""Share of the targets in the central interval of the samples; near ``level`` where the samples are calibrated.

    .. math:: \frac{1}{n} \sum_i [\,q_{(1-p)/2} ≤ y_i ≤ q_{(1+p)/2}\,]

    with the level p and quantiles q of the samples, linear between two of them. Neither smaller nor larger is better.

    Args:
        level: p, between 0 and 1. Outputs are samples ``[S, ...]``, targets ``[...]``.

    Raises:
        TypeError, ValueError: the level is no number between 0 and 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn import metrics
        >>> samples = jnp.stack([jnp.arange(11.0)] * 2, 1)
        >>> metrics.coverage(0.8)(samples, jnp.array([1.5, 9.5]))
        0.5
    """
    between_0_and_1("level", level)
    return Metric("coverage", None, Bound.of(_covered, level=float(level)), mean)


def interval_score(level: float) -> Metric:
    r"""Interval score (Winkler score) of the central interval ``[l, u]`` of the samples.

    .. math:: (u - l) + \frac{2}{α} \bigl(\max(l - y, 0) + \max(y - u, 0)\bigr), \quad α = 1 - p

    Args:
        level: p, between 0 and 1; outputs and quantiles as in :func:`coverage`.

    Raises:
        TypeError, ValueError: the level is no number between 0 and 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn import metrics
        >>> round(metrics.interval_score(0.8)(jnp.arange(11.0)[:, None], jnp.array([9.5])), 4)  # 8 + 10 · 0.5
        13.0

    Source: Winkler (1972); Gneiting & Raftery (2007), "Strictly proper scoring rules, prediction, and estimation".
    """
    between_0_and_1("level", level)
    return Metric("interval_score", "min", Bound.of(_interval_score, level=float(level)), mean)


def _covered(samples: Array, targets: Array, mask: Array | None, level: float) -> dict[str, Array]:
    low, high, targets, counted = _interval(samples, targets, mask, level)
    nan = jnp.isnan(low) | jnp.isnan(high) | jnp.isnan(targets)
    inside = ((low <= targets) & (targets <= high)).astype(jnp.int32)
    return {**sum_and_count(inside, counted), "nan": (nan & counted).sum()}


def _interval_score(samples: Array, targets: Array, mask: Array | None, level: float) -> dict[str, Array]:
    low, high, targets, counted = _interval(samples, targets, mask, level)
    outside = jnp.maximum(low - targets, 0) + jnp.maximum(targets - high, 0)
    return sum_and_count(high - low + 2 / (1 - level) * outside, counted)


def _interval(samples: Array, targets: Array, mask: Array | None, level: float) -> tuple[Array, Array, Array, Array]:
    samples, targets, counted = _samples_and_targets(samples, targets, mask)
    low, high = jnp.quantile(samples, jnp.asarray([(1 - level) / 2, (1 + level) / 2], samples.dtype), axis=0)
    return low, high, targets, counted


def _samples_and_targets(samples: Any, targets: Any, mask: Array | None) -> tuple[Array, Array, Array]:
    samples, targets = reals(outputs=samples, targets=targets)
    if samples.ndim == 0 or samples.shape[1:] != targets.shape or not len(samples):
        checks.refuse("outputs", f"samples {['S', *targets.shape]} of the targets", checks.describe(samples),
                      "the samples go first")  # fmt: skip
    return samples, targets, spread(mask, targets.shape)
