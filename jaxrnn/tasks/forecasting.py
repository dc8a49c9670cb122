"""Forecasters: the distribution of the values that follow a context, one step after another or all at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks, losses
from jaxrnn.constructor import hyperparameters
from jaxrnn.data.windows import Window
from jaxrnn.decoding.generation import compile_per_model
from jaxrnn.distributions import Gaussian
from jaxrnn.layers import Linear, LinearParams
from jaxrnn.losses.values import distribution_loss
from jaxrnn.precision import widen
from jaxrnn.tasks.checks import forecasting_core, forecasting_distribution, steppable_core, window_sizes
from jaxrnn.tasks.normalization import SCALES, Normalization, of_context
from jaxrnn.tasks.pooling import last
from jaxrnn.types import Array, Params, exportable
from jaxrnn.unroll import one_step, unroll


@exportable
class ForecasterParams(NamedTuple):
    """Parameters of the core and of the readout."""

    core: Params
    readout: LinearParams


class _Forecaster:
    """Base class: hyperparameters, inputs, scale and loss. ``apply`` gives the outputs of the targets."""

    core: Any
    distribution: Any
    horizon: int
    targets: int
    covariates: int
    lags: int
    scale: str
    features: int | None
    dtype: str

    def __post_init__(self) -> None:
        for name in ("horizon", "targets"):
            checks.size(name, getattr(self, name))
        for name in ("covariates", "lags"):
            if getattr(self, name) != 0:
                checks.size(name, getattr(self, name))
        if self.lags * self.targets > self.covariates:
            checks.refuse("lags", f"{self.targets} covariates for each of {self.lags} lags, or more", self.covariates,
                          "windows.covariates counts them")  # fmt: skip
        checks.one_of("scale", self.scale, SCALES)
        forecasting_distribution("distribution", self.distribution)
        if self.scale == "instance" and getattr(self.distribution, "of_counts", False):
            checks.refuse("scale", "'window' or 'none', since the targets are counts", repr(self.scale),
                          "counts without their mean are no counts")  # fmt: skip
        object.__setattr__(self, "dtype", checks.float_dtype("dtype", self.dtype))
        name, expected = type(self).__name__, self.input_size(self.targets, self.covariates)
        forecasting_core("core", self.core, expected, f"{name}.input_size({self.targets}, {self.covariates})")
        known = getattr(self.core, "output_size", None)
        if self.features is not None:
            checks.size("features", self.features)
        if known is None and self.features is None:
            checks.refuse("features", "the width of the core's outputs", "None", f"{self.core!r} has no output_size")
        if None not in (known, self.features) and known != self.features:
            checks.refuse("features", f"{known}, the output size of the core", self.features, "leave it out")

    @staticmethod
    def input_size(targets: int = 1, covariates: int = 0) -> int:
        """The input size of the core: values, whether each is observed, and covariates; ``windows.input_size``."""
        return 2 * targets + covariates

    @property
    def width(self) -> int:
        """Features of an output of the core."""
        return self.features or self.core.output_size

    @property
    def readout(self) -> Linear:
        raise NotImplementedError

    def init(self, key: Array) -> ForecasterParams:
        """Draw the parameters of core and readout."""
        core, readout = jax.random.split(key)
        return ForecasterParams(self.core.init(core), self.readout.init(readout))

    def _prepare(self, params: ForecasterParams, window: Window) -> tuple[ForecasterParams, Window, Normalization]:
        """Parameters, the window with 0 where nothing is observed, and the normalization by its context."""
        params = checks.parameters(self, params)
        window_sizes("window", window, self.targets, self.covariates, self.horizon)
        window = Window._make(jax.tree.map(jnp.asarray, window))
        values = jnp.where(window.observed, window.values, 0)
        window = window._replace(values=values, targets=jnp.where(window.targets_observed, window.targets, 0))
        return params, window, of_context(self.scale, values, jnp.asarray(window.observed))

    def _inputs(self, values: Any, observed: Any, covariates: Any, norm: Normalization) -> Array:
        """``[..., 2 D + K]``: values, whether they are observed, covariates."""
        values = jnp.where(observed, norm.apply(values), 0)
        flags, covariates = observed.astype(values.dtype), self._normalized(covariates, norm).astype(values.dtype)
        return jnp.concatenate([values, flags, covariates], -1)

    def _normalized(self, covariates: Any, norm: Normalization) -> Array:
        """Covariates, of which the last ones are lagged values."""
        if not self.lags:
            return covariates
        known, lagged = jnp.split(covariates, [self.covariates - self.lags * self.targets], -1)
        return jnp.concatenate([known, norm.apply(lagged)], -1)

    def _loss(self, outputs: Array, targets: Any, observed: Any, norm: Normalization) -> tuple[Array, dict]:
        targets = norm.centre(targets)
        value = distribution_loss(self.distribution, outputs, targets, scale=norm.scale, mask=observed)
        return value, {"count": losses.count(targets.shape[:-1], mask=observed)}


@hyperparameters
class Forecaster(_Forecaster):
    r"""Autoregressive forecaster: each step gives the distribution of the next value.

    .. math::
        s_t, h_t &= \mathrm{core}(s_{t-1}, [y_t, m_t, x_{t+1}]) \\
        y_{t+1} &\sim p(\,\cdot\,; h_t w + b)

    with values y (0 where missing), flags m (1 where observed) and covariates x that are known in advance. In training
    the true values are the inputs, in a forecast the samples are: a path of samples is one possible future.

    Args:
        core: a cell or layer that can be stepped; its input size is ``windows.input_size``, which is
            ``input_size(targets, covariates)``.
        distribution: of a value, of :mod:`jaxrnn.distributions`.
        horizon, targets, covariates, lags: the sizes of the windows, ``**windows.sizes``: h, the steps of a forecast;
            D, the values of a step; K, what is known of a step in advance; and how many lags are among that.
        scale: how the values of each window are normalized by its context, for many series of different size or for one
            with a trend. ``"window"`` divides by the mean absolute value, of values that are mostly above 0 (Windows
            with ``scaling="mean"`` or ``"none"``). ``"instance"`` subtracts the mean and divides by the standard
            deviation (Kim et al. 2022). ``"none"`` leaves them.
        features: width of the core's outputs, for a core without an ``output_size``.
        dtype: dtype of the readout; the core has its own.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range; the core takes another number of
            inputs, or cannot be stepped.

    Example:
        >>> import jax, numpy as np, jaxrnn as rnn
        >>> series = rnn.data.Series(np.sin(np.arange(100.0)))
        >>> train, validation, test = rnn.data.Windows.split(series, context=20, horizon=5, batch=8)
        >>> model = rnn.tasks.Forecaster(rnn.LSTM(train.input_size, 16), **train.sizes)
        >>> params = model.init(jax.random.key(0))
        >>> window = train.latest()  # after training with model.loss
        >>> samples = model.forecast(params, window, key=jax.random.key(1), samples=10)  # [S, h, B, D]
        >>> train.scaling.undo(samples, window.series).shape
        (10, 5, 1, 1)

    Source: Salinas et al. (2020), "DeepAR: probabilistic forecasting with autoregressive recurrent networks",
    International Journal of Forecasting 36; Kim et al. (2022), "Reversible instance normalization for accurate
    time-series forecasting against distribution shift", ICLR.
    """

    core: Any
    distribution: Any = Gaussian()
    _: dataclasses.KW_ONLY
    horizon: int
    targets: int = 1
    covariates: int = 0
    lags: int = 0
    scale: str = "none"
    features: int | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        steppable_core("core", self.core)

    @property
    def readout(self) -> Linear:
        """From the core's output to the outputs of the D distributions."""
        return Linear(self.width, self.targets * self.distribution.size, dtype=self.dtype)

    def apply(self, params: ForecasterParams, window: Window, key: Array | None = None) -> Array:
        """Teacher forcing over context and horizon: output t belongs to the distribution of value t + 1.

        Args:
            params: parameters from :meth:`init`.
            window: of :class:`~jaxrnn.data.Windows`.
            key: random key for dropout; without one there is no dropout.

        Returns:
            ``[L + h - 1, B, D · size]``.
        """
        return self._teacher_forced(params, window, key)[0]

    def loss(self, params: ForecasterParams, window: Window, key: Array | None = None) -> tuple[Array, dict]:
        r"""Mean loss of all observed values after the first step, for :func:`jaxrnn.learning.train_step`.

        .. math:: L = -\frac{1}{N} \sum_{t, b} \log p(y_{t+1, b}; o_{tb})

        Returns:
            The value and ``{"count": N}``.
        """
        outputs, values, observed, norm = self._teacher_forced(params, window, key)
        return self._loss(outputs, values[1:], observed[1:], norm)

    def forecast(self, params: ForecasterParams, window: Window, *, key: Array, samples: int = 100) -> Array:
        """Sample paths of the h steps after the context, each value given those before it.

        Args:
            params: parameters from :meth:`init`.
            window: its context and covariates; the targets are not read.
            key: random key.
            samples: S, the number of paths.

        Returns:
            ``[S, h, B, D]``, on the scale of the window: ``scaling.undo(samples, window.series)``.
        """
        _check_sampling(key, samples)
        return _sample_paths(self, params, window, key, samples=samples)

    def predict(self, params: ForecasterParams, window: Window, key: Array | None = None) -> Array:
        """Point forecasts ``[h, B, D]``: each mean is the next input; for :func:`jaxrnn.learning.evaluate`."""
        return _mean_path(self, params, window)

    def _teacher_forced(self, params: ForecasterParams, window: Window, key: Array | None) -> tuple:
        params, window, norm = self._prepare(params, window)
        values = jnp.concatenate([window.values, window.targets])
        observed = jnp.concatenate([window.observed, window.targets_observed])
        xs = self._inputs(values[:-1], observed[:-1], window.covariates[1:], norm)
        _, ys = unroll(self.core, params.core, xs, key=key)
        return self._read(params, ys), values, observed, norm

    def _read(self, params: ForecasterParams, ys: Array) -> Array:
        self.readout.check_input("outputs of core", ys)
        return self.readout.apply(params.readout, ys)


def _path(model: Forecaster, params: ForecasterParams, window: Window, choose: Callable) -> Callable[[Array], Array]:
    """Encode the context once; returns the function from keys ``[h]`` to a path ``[h, B, D]``.

    ``choose(key, outputs, scale)`` gives the next value.
    """
    params, window, norm = model._prepare(params, window)
    context = window.values.shape[0]
    xs = model._inputs(window.values, window.observed, window.covariates[1 : context + 1], norm)
    state, ys = unroll(model.core, params.core, xs)
    first, dtype = model._read(params, ys[-1]), window.values.dtype

    def step(carry: tuple, inputs: tuple) -> tuple[tuple, Array]:
        state, value = carry
        key, covariates = inputs
        x = model._inputs(value, jnp.ones_like(value, bool), covariates, norm)
        state, y = one_step(model.core, params.core, state, x, None)
        value = norm.uncentre(choose(key, model._read(params, y), norm.scale)).astype(dtype)
        return (state, value), value

    def path(keys: Array) -> Array:
        value = norm.uncentre(choose(keys[0], first, norm.scale)).astype(dtype)
        _, rest = jax.lax.scan(step, (state, value), (keys[1:], window.covariates[context + 1 :]))
        return jnp.concatenate([value[None], rest])

    return path


@compile_per_model("samples")
def _sample_paths(model: Forecaster, params: ForecasterParams, window: Window, key: Array, *, samples: int) -> Array:
    keys = jax.vmap(lambda key: jax.random.split(key, model.horizon))(jax.random.split(key, samples))
    return jax.vmap(_path(model, params, window, model.distribution.sample))(keys)


@compile_per_model()
def _mean_path(model: Forecaster, params: ForecasterParams, window: Window) -> Array:
    def mean(_: Array, outputs: Array, scale: Array | None) -> Array:
        return model.distribution.mean(outputs, scale)

    return _path(model, params, window, mean)(jnp.zeros(model.horizon))  # without keys


@hyperparameters
class DirectForecaster(_Forecaster):
    r"""Direct forecaster: the last output of the core gives the distributions of all h steps at once.

    .. math:: o_{L+1} … o_{L+h} = [h_L, x_{L+1} … x_{L+h}] \, w + b

    with the covariates x of the horizon. No error of one step is an input of the next, quantiles are exact, and the
    core may be bidirectional. The steps are independent given the context: samples are of single steps, not paths.

    A core with a residual connection, ``Residual(cell, "concat")``, gives the readout the last value as well.

    Args:
        core: a cell or layer, whose input size is ``input_size(targets, covariates)``.
        distribution, horizon, targets, covariates, lags, scale, features, dtype: as of :class:`Forecaster`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range; the core takes another number of
            inputs.

    Example:
        >>> import jax, numpy as np, jaxrnn as rnn
        >>> series = rnn.data.Series(np.sin(np.arange(100.0)))
        >>> train, validation, test = rnn.data.Windows.split(series, context=20, horizon=5, batch=8)
        >>> distribution = rnn.distributions.Quantiles((0.1, 0.5, 0.9))
        >>> core = rnn.GRU(train.input_size, 16)
        >>> model = rnn.tasks.DirectForecaster(core, distribution, **train.sizes)
        >>> params = model.init(jax.random.key(0))
        >>> model.quantile(params, train.latest(), (0.1, 0.9)).shape  # [Q, h, B, D]
        (2, 5, 1, 1)

    Source: Wen et al. (2017), "A multi-horizon quantile recurrent forecaster"; the readout of all steps at once.
    """

    core: Any
    distribution: Any = Gaussian()
    _: dataclasses.KW_ONLY
    horizon: int
    targets: int = 1
    covariates: int = 0
    lags: int = 0
    scale: str = "none"
    features: int | None = None
    dtype: str = "float32"

    @property
    def readout(self) -> Linear:
        """From the last output and the covariates of the horizon to the outputs of h · D distributions."""
        width = self.width + self.horizon * self.covariates
        return Linear(width, self.horizon * self.targets * self.distribution.size, dtype=self.dtype)

    def apply(self, params: ForecasterParams, window: Window, key: Array | None = None) -> Array:
        """The outputs ``[h, B, D · size]`` of the targets; arguments of :meth:`Forecaster.apply`."""
        return self._outputs(params, window, key)[0]

    def loss(self, params: ForecasterParams, window: Window, key: Array | None = None) -> tuple[Array, dict]:
        r"""Mean loss of the observed targets, for :func:`jaxrnn.learning.train_step`.

        .. math:: L = -\frac{1}{N} \sum_{t, b} \log p(y_{tb}; o_{tb})

        Returns:
            The value and ``{"count": N}``.
        """
        outputs, window, norm = self._outputs(params, window, key)
        return self._loss(outputs, window.targets, window.targets_observed, norm)

    def forecast(self, params: ForecasterParams, window: Window, *, key: Array, samples: int = 100) -> Array:
        """Samples ``[S, h, B, D]`` of each step on its own; arguments of :meth:`Forecaster.forecast`."""
        _check_sampling(key, samples)
        return _sample_steps(self, params, window, key, samples=samples)

    def quantile(self, params: ForecasterParams, window: Window, levels: float | Sequence[float]) -> Array:
        """Quantiles of each step on the scale of the window: ``[Q, h, B, D]``, ``[h, B, D]`` for a single level."""
        return _quantiles(self, params, window, levels=tuple(levels) if isinstance(levels, Iterable) else levels)

    def predict(self, params: ForecasterParams, window: Window, key: Array | None = None) -> Array:
        """Means ``[h, B, D]`` of the distributions, for :func:`jaxrnn.learning.evaluate`."""
        return _means(self, params, window)

    def _outputs(
        self, params: ForecasterParams, window: Window, key: Array | None
    ) -> tuple[Array, Window, Normalization]:
        params, window, norm = self._prepare(params, window)
        context, *batch, _ = window.values.shape
        xs = self._inputs(window.values, window.observed, window.covariates[:context], norm)
        vector = last(self.core, params.core, xs, key=key)  # [B, H]
        future = jnp.moveaxis(self._normalized(window.covariates[context:], norm), 0, -2)  # [B, h, K]
        future = future.reshape(*batch, self.horizon * self.covariates).astype(vector.dtype)
        inputs = jnp.concatenate([vector, future], -1)
        self.readout.check_input("outputs of core", inputs)
        outputs = widen(self.readout.apply(params.readout, inputs))
        return jnp.moveaxis(outputs.reshape(*batch, self.horizon, -1), -2, 0), window, norm


@compile_per_model("samples")
def _sample_steps(
    model: DirectForecaster, params: ForecasterParams, window: Window, key: Array, *, samples: int
) -> Array:
    outputs, _, norm = model._outputs(params, window, None)
    samples_of = jax.vmap(lambda key: model.distribution.sample(key, outputs, norm.scale))
    return norm.uncentre(samples_of(jax.random.split(key, samples)))


@compile_per_model("levels")
def _quantiles(model: DirectForecaster, params: ForecasterParams, window: Window, *, levels: Any) -> Array:
    outputs, _, norm = model._outputs(params, window, None)
    return norm.uncentre(model.distribution.quantile(outputs, levels, norm.scale))


@compile_per_model()
def _means(model: DirectForecaster, params: ForecasterParams, window: Window) -> Array:
    outputs, _, norm = model._outputs(params, window, None)
    return norm.uncentre(model.distribution.mean(outputs, norm.scale))


def _check_sampling(key: Array, samples: int) -> None:
    checks.required("key", key, "jax.random.key(0) makes one")
    checks.random_key("key", key)
    checks.size("samples", samples)
