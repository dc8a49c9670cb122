"""Recurrent networks as forecasters: how values are represented, training, forecasts from any origin."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from common import CELLS

from forecasting.measures import Origins, measure, seasonal_scale
from forecasting.models import Ensemble, Relative
from forecasting.problems import Problem, lag
from jaxrnn import distributions, learning, tasks
from jaxrnn.data import Scaling, Series, Window, Windows

METHODS = ("direct", "recursive")
REPRESENTATIONS = ("level", "relative", "seasonal")


class Settings(NamedTuple):
    """What a network is, and how it is trained."""

    representation: str = "relative"
    method: str = "direct"  # or "recursive"
    cell: str = "gru"
    units: int = 32
    context: int | None = None  # None chooses it
    members: int = 5
    steps: int = 600
    batch: int = 32
    rate: float = 3e-3
    decay: float = 1e-3
    seed: int = 0
    samples: int = 200


class Network(NamedTuple):
    """A trained network with all that its forecasts need."""

    model: Any
    params: Any
    scaling: Scaling
    settings: Settings
    score: float  # the CRPS of the validation part, over the seasonal scale; NaN without one
    step: int  # the best one
    seconds: float


# ---- how values are represented --------------------------------------------------------------------------------------


def represented(problem: Problem, kind: str) -> list[Series]:
    """The series that the network sees, row by row: values or logarithms, or their differences to the season before."""
    found, back = [], lag(problem.season, problem.horizon)
    for one in problem.series:
        values = np.log(one.values) if problem.log else one.values
        if kind == "seasonal":
            values = values - np.concatenate([np.full_like(values[:back], np.nan), values])[: len(values)]
        covariates = one.covariates if one.covariates.shape[1] else None
        found.append(Series(values, covariates=covariates, static=one.static, name=one.name))
    return found


def restored(problem: Problem, kind: str, forecasts: np.ndarray, origins: Origins) -> np.ndarray:
    """Forecasts ``[S, n, h]`` of what :func:`represented` gives, as values of the series."""
    if kind == "seasonal":
        back = lag(problem.season, problem.horizon)
        ago = Origins(origins.numbers, origins.starts - back).truth(problem.series, problem.horizon)
        base = np.stack([_carried(row, problem.series[n].values[:start, 0]) for row, n, start in
                         zip(ago, origins.numbers, origins.starts)])  # fmt: skip
        forecasts = forecasts + (np.log(base) if problem.log else base)
    return np.exp(forecasts) if problem.log else forecasts


def _carried(row: np.ndarray, before: np.ndarray) -> np.ndarray:
    """A row whose missing values are the mean of the others, or of those before."""
    known = row[~np.isnan(row)] if not np.isnan(row).all() else before[~np.isnan(before)]
    return np.where(np.isnan(row), known.mean(), row)


# ---- training --------------------------------------------------------------------------------------------------------


def context(problem: Problem, longest: int) -> int:
    """Two seasons, or three horizons if a season is long; at most a third of the longest training part."""
    likely = 2 * problem.season if problem.season <= 60 else 3 * problem.horizon
    return int(np.clip(max(likely, problem.horizon, 10), 2, max(longest // 3, 2)))


def train(
    problem: Problem, settings: Settings, ends: Sequence[int], until: Sequence[int], *, mesh: Any = None,
    quiet: bool = True,
) -> Network:  # fmt: skip
    """Train with targets before ``ends``; those from there until ``until`` choose the best step."""
    settings = settings._replace(context=settings.context or context(problem, max(ends)))
    scaling = fit_scaling(problem, settings, ends)
    training = windows(problem, settings, scaling, end=ends, seed=settings.seed)
    validation = windows(problem, settings, scaling, start=ends, end=until, shuffle=False,
                         stride=stride(problem, ends, until, 400))  # fmt: skip
    model, held_out = network(settings, training), list(validation)
    error = jax.jit(lambda params, window: model.loss(params, window)[0] / settings.members)

    def evaluate(params: Any, step: int) -> dict[str, float]:
        return {"loss": float(np.mean([error(params, window) for window in held_out]))}

    end = run(model, settings, training, settings.steps, mesh, evaluate=evaluate,
              evaluate_every=evaluation_interval(settings), patience=10, verbose=not quiet,
              format_metrics=lambda m: f"negative log likelihood {m['loss']:.4f}")  # fmt: skip
    if end.best_step is None:
        raise ValueError(f"loss of the held-out windows: expected a finite one, got none up to step {end.state.step}; "
                         "a smaller --rate may help")  # fmt: skip
    found = Network(model, jax.device_get(end.best_params), scaling, settings, np.nan, end.best_step, end.seconds)
    return found._replace(score=score(problem, *forecast(problem, found, validation), ends)["crps"])


def refit(problem: Problem, found: Network, until: Sequence[int], *, mesh: Any = None, quiet: bool = True) -> Network:
    """The network trained anew with all targets before ``until``, for as many steps as were the best."""
    scaling = fit_scaling(problem, found.settings, until)
    training = windows(problem, found.settings, scaling, end=until, seed=found.settings.seed)
    end = run(found.model, found.settings, training, found.step, mesh, verbose=not quiet)
    return found._replace(params=jax.device_get(end.state.params), scaling=scaling,
                          seconds=found.seconds + end.seconds)  # fmt: skip


def run(model: Ensemble, settings: Settings, training: Windows, steps: int, mesh: Any, **options: Any) -> learning.Fit:
    """Train up to a step."""
    init_key, key = jax.random.split(jax.random.key(settings.seed))
    step, optimizer = training_of(model, settings.steps, settings.rate, settings.decay)
    return learning.fit(
        step,
        learning.train_state(initial(model)(init_key), optimizer),
        training,
        steps=steps,
        key=key,
        mesh=mesh,
        steps_per_execution=evaluation_interval(settings),
        **options,
    )


@functools.lru_cache(maxsize=4)  # the same step again is not compiled again
def training_of(model: Ensemble, steps: int, rate: float, decay: float) -> tuple[Any, optax.GradientTransformation]:
    """The train step, and Adam, whose rate falls to 0 at ``steps``."""
    optimizer = optax.chain(
        optax.clip_by_global_norm(model.members**0.5),
        optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=decay),
    )
    return learning.train_step(model.loss, optimizer), optimizer


@functools.lru_cache(maxsize=4)
def initial(model: Ensemble) -> Any:
    """``init``, compiled."""
    return jax.jit(model.init)


@functools.lru_cache(maxsize=4)
def drawing(model: Ensemble, samples: int) -> Any:
    """``draw(params, window, key)``, compiled."""
    return jax.jit(lambda params, window, key: model.forecast(params, window, key=key, samples=samples))


def evaluation_interval(settings: Settings) -> int:
    """Steps from one evaluation to the next."""
    return max(settings.steps // 40, 1)


def fit_scaling(problem: Problem, settings: Settings, ends: Sequence[int]) -> Scaling:
    """Mean and standard deviation of each represented series before its end."""
    series = represented(problem, settings.representation)
    return Scaling.fit([one.until(end) for one, end in zip(series, ends)], per_series=len(series) > 1)


def network(settings: Settings, training: Windows) -> Ensemble:
    """The network for such windows."""
    make: Any = dict(zip(METHODS, (tasks.DirectForecaster, tasks.Forecaster)))[settings.method]
    core = CELLS[settings.cell](training.input_size, settings.units)
    forecaster = make(core, distributions.Gaussian(), **training.sizes)
    relative = settings.representation != "level"
    return Ensemble(Relative(forecaster, len(training.lags)) if relative else forecaster, settings.members)


def windows(problem: Problem, settings: Settings, scaling: Scaling, **options: Any) -> Windows:
    """Windows of the represented series, with the value of the season before as a covariate."""
    assert settings.context is not None
    return Windows(represented(problem, settings.representation), context=settings.context, horizon=problem.horizon,
                   batch=settings.batch, scaling=scaling, lags=(lag(problem.season, problem.horizon),),
                   **options)  # fmt: skip


def stride(problem: Problem, starts: Sequence[int], ends: Sequence[int], count: int) -> int:
    """Steps between windows so that there are about ``count`` at most."""
    many = sum(max(end - start - problem.horizon + 1, 0) for start, end in zip(starts, ends))
    return max(-(-many // count), 1)


# ---- forecasts -------------------------------------------------------------------------------------------------------


def forecast(problem: Problem, found: Network, windows: Sequence[Window] | Windows) -> tuple[np.ndarray, Origins]:
    """Samples ``[S, n, h]`` for the windows that are not fillers, and from where they are made."""
    draw = drawing(found.model, found.settings.samples)
    samples, numbers, starts = [], [], []
    for n, window in enumerate(windows):
        real = window.observed.any((0, 2)) | window.targets_observed.any((0, 2))
        drawn = np.asarray(draw(found.params, window, jax.random.key(n)))
        values = found.scaling.undo(drawn, window.series if found.scaling.per_series else None)
        samples.append(values[:, :, real, 0].swapaxes(1, 2))
        numbers.append(window.series[real])
        starts.append(window.start[real])
    origins = Origins(np.concatenate(numbers), np.concatenate(starts))
    return restored(problem, found.settings.representation, np.concatenate(samples, 1), origins), origins


def score(problem: Problem, samples: np.ndarray, origins: Origins, ends: Sequence[int]) -> dict[str, float]:
    """Measures of forecasts; the seasonal scale is that of the part up to ``ends``."""
    scale = np.array([seasonal_scale(one, problem.season, end) for one, end in zip(problem.series, ends)])
    return measure(samples, origins.truth(problem.series, problem.horizon), scale[origins.numbers])
