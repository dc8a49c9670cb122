"""Networks around a forecaster: values relative to their context, and an ensemble."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.data import Window


@dataclasses.dataclass(frozen=True)
class Relative:
    """A forecaster of values relative to the end of their context, which follows a level it was never trained on.

    .. math:: x' = (x - l) / s

    l is the last value, or the mean if it is missing, and s the standard deviation of the context plus ``floor``. The
    last ``lags`` covariates are values, too, of earlier steps.
    """

    forecaster: Any
    lags: int = 0
    floor: float = 0.05

    def init(self, key: jax.Array) -> Any:
        """Parameters of the forecaster."""
        return self.forecaster.init(key)

    def loss(self, params: Any, window: Window, key: jax.Array | None = None) -> Any:
        """The loss of the forecaster, per relative value."""
        return self.forecaster.loss(params, self.relative(window)[0], key)

    def forecast(self, params: Any, window: Window, **options: Any) -> jax.Array:
        """Samples ``[S, h, B, 1]``."""
        window, level, spread = self.relative(window)
        return self.forecaster.forecast(params, window, **options) * spread[None, None] + level[None, None]

    def relative(self, window: Window) -> tuple[Window, jax.Array, jax.Array]:
        """The window in relative values, l and s ``[B, 1]``."""
        seen, values, covariates = jnp.asarray(window.observed), jnp.asarray(window.values), window.covariates
        count = jnp.maximum(seen.sum(0), 1).astype(values.dtype)
        mean = jnp.where(seen, values, 0).sum(0) / count
        spread = jnp.sqrt(jnp.where(seen, (values - mean[None]) ** 2, 0).sum(0) / count) + self.floor
        level = jnp.where(seen[-1], values[-1], mean)

        def scaled(x: Any) -> jax.Array:
            return (jnp.asarray(x) - level[None]) / spread[None]

        known = covariates.shape[-1] - self.lags
        return (
            window._replace(
                values=jnp.where(seen, scaled(values), 0),
                targets=jnp.where(window.targets_observed, scaled(window.targets), 0),
                covariates=jnp.concatenate([covariates[..., :known], scaled(covariates[..., known:])], -1),
            ),
            level,
            spread,
        )


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Several forecasters with parameters of their own, whose samples are put together."""

    forecaster: Any
    members: int

    def init(self, key: jax.Array) -> Any:
        """Parameters with a first axis of members."""
        return jax.vmap(self.forecaster.init)(jax.random.split(key, self.members))

    def loss(self, params: Any, window: Window, key: jax.Array | None = None) -> tuple[jax.Array, dict]:
        """The sum of the losses, so that each member learns as if alone."""

        def one(member: Any) -> jax.Array:
            loss = self.forecaster.loss(member, window, key)
            return loss[0] if isinstance(loss, tuple) else loss

        return jax.vmap(one)(params).sum(), {}

    def forecast(self, params: Any, window: Window, *, key: jax.Array, samples: int) -> jax.Array:
        """Samples ``[S, h, B, 1]``, of each member the same number."""
        each = -(-samples // self.members)
        keys = jax.random.split(key, self.members)
        drawn = jax.vmap(lambda p, k: self.forecaster.forecast(p, window, key=k, samples=each))(params, keys)
        return drawn.reshape(-1, *drawn.shape[2:])
