"""Forecasters against plain loops in float64; missing values, many devices, and a series that is learned."""

import dataclasses
import functools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contract import assert_close, assert_identical
from refusals import refuses
from zoo import random_params

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Series, Window, Windows
from jaxrnn.distributions import Gaussian, NegativeBinomial, Point, Quantiles, StudentT
from jaxrnn.tasks import DirectForecaster, Forecaster

L, h, B, D, K, S = 4, 3, 2, 2, 3, 5
KINDS = [*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("none", "window")), "instance"]  # of scale
LAGS = {"lags": 1, "covariates": K + D}  # the last D covariates are lagged values


@dataclasses.dataclass(frozen=True)
class Plain:
    """A user's own cell: three methods, no ``output_size``."""

    input_size: int
    hidden_size: int

    def init(self, key):
        return jax.random.normal(key, (self.input_size + self.hidden_size, self.hidden_size)) / 2

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, self.hidden_size))

    def step(self, w, state, x):
        state = jnp.tanh(jnp.concatenate([x, state], -1) @ w)
        return state, state


def make_window(seed=0, dtype="float64", missing=np.nan):
    """A window with missing values, the first steps of entry 1 before its start; all of them are ``missing``."""
    rng = np.random.default_rng(seed)
    values, observed = rng.normal(3, 2, (L + h, B, D)), rng.random((L + h, B, D)) < 0.7
    observed[:2, 1] = False
    values[~observed] = missing
    covariates = rng.normal(size=(L + h, B, K + D))
    arrays = (values[:L], observed[:L], covariates, values[L:], observed[L:])
    arrays = [a.astype(dtype) if a.dtype == float else a for a in arrays]
    return Window(*arrays, np.arange(B, dtype=np.int32), np.full(B, L, np.int32))


def make(kind, core=None, **options):
    """A forecaster in float64 and random parameters for it."""
    core = rnn.GRU(2 * D + K + D, 4, dtype="float64") if core is None else core
    options = LAGS | {"targets": D, "horizon": h, "dtype": "float64"} | options
    model = kind(core, **options)
    return model, random_params(model)


def plain_inputs(window, scale):
    """Values (0 where missing), flags and covariates of every step; shift and scale of each entry."""
    values = np.concatenate([window.values, window.targets])
    observed = np.concatenate([window.observed, window.targets_observed])
    values = np.where(observed, values, 0)
    shift, ν = np.zeros((B, D)), np.ones((B, D))
    for b in range(B):
        for d in range(D):
            seen = values[:L, b, d][observed[:L, b, d]]
            if scale == "window" and len(seen):
                ν[b, d] = sum(abs(seen)) / len(seen)
            if scale == "instance":
                shift[b, d] = sum(seen) / max(len(seen), 1)
                ν[b, d] = np.sqrt(seen.var() + 1e-5) if len(seen) > 1 else 1
    covariates = np.concatenate([window.covariates[..., :K], (window.covariates[..., K:] - shift) / ν], -1)
    return values, observed, covariates, shift, ν


def plain_steps(model, params, shift, ν, values, observed, covariates):
    """Step through the context; yields the state and the outputs of the distribution of the next value."""
    state = model.core.initial_state((B,))
    for t in range(L + h - 1):
        value = np.where(observed[t], (values[t] - shift) / ν, 0)
        x = np.concatenate([value, observed[t], covariates[t + 1]], -1)
        state, y = model.core.step(params.core, state, jnp.asarray(x))
        yield state, y @ params.readout.w + params.readout.b[None]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("scale", KINDS)
def test_recursion_is_that_of_a_plain_loop(scale):
    """Teacher forcing, loss, paths with the same keys and the path of means, one step of one path at a time."""
    distribution = StudentT() if scale == "none" else Gaussian()
    model, params = make(Forecaster, distribution=distribution, scale=scale)
    window, key = make_window(), jax.random.key(0)
    values, observed, covariates, shift, ν = plain_inputs(window, scale)
    steps = list(plain_steps(model, params, shift, ν, values, observed, covariates))
    outputs = np.stack([o for _, o in steps])
    assert_close(model.apply(params, window), outputs)

    losses = distribution.loss(jnp.asarray(outputs), jnp.asarray(values[1:] - shift), jnp.asarray(ν))
    means = [
        losses[t][b][observed[t + 1][b]].mean() for t in range(L + h - 1) for b in range(B) if observed[t + 1][b].any()
    ]
    value, metrics = model.loss(params, window)
    assert_close(value, np.mean(means))
    assert metrics["count"] == len(means)

    def path(choose):
        state, o = steps[L - 1]
        for t in range(h):
            value = choose(t, o) + shift
            yield value
            if t < h - 1:
                x = np.concatenate([(value - shift) / ν, np.ones((B, D)), covariates[L + t + 1]], -1)
                state, y = model.core.step(params.core, state, jnp.asarray(x))
                o = y @ params.readout.w + params.readout.b[None]

    paths = model.forecast(params, window, key=key, samples=S)
    assert paths.shape == (S, h, B, D)
    for s, path_key in enumerate(jax.random.split(key, S)):
        keys = jax.random.split(path_key, h)
        one = path(lambda t, o: distribution.sample(keys[t], o, jnp.asarray(ν)))  # noqa: B023
        assert_close(paths[s], np.stack(list(one)))
    assert_close(model.predict(params, window), np.stack(list(path(lambda t, o: distribution.mean(o, jnp.asarray(ν))))))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("scale", KINDS)
def test_direct_is_a_readout_of_the_last_output(scale):
    """And of the covariates of the horizon; samples and quantiles are those of the distribution."""
    model, params = make(DirectForecaster, scale=scale)
    window, key = make_window(), jax.random.key(0)
    values, observed, covariates, shift, ν = plain_inputs(window, scale)
    xs = jnp.asarray(
        np.concatenate([np.where(observed[:L], (values[:L] - shift) / ν, 0), observed[:L], covariates[:L]], -1)
    )
    last = rnn.unroll(model.core, params.core, xs)[1][-1]
    expected = np.zeros((h, B, D * 2))
    for b in range(B):
        flat = np.concatenate([last[b], *covariates[L:, b]])
        expected[:, b] = (flat @ params.readout.w + params.readout.b).reshape(h, D * 2)
    assert_close(model.apply(params, window), expected)
    outputs, ν = jnp.asarray(expected), jnp.asarray(ν)
    losses, mask = model.distribution.loss(outputs, jnp.asarray(values[L:] - shift), ν), observed[L:]
    means = [losses[t][b][mask[t, b]].mean() for t in range(h) for b in range(B) if mask[t, b].any()]
    value, metrics = model.loss(params, window)
    assert_close((value, metrics["count"]), (np.mean(means), len(means)))
    quantiles = np.asarray(model.distribution.quantile(outputs, (0.1, 0.9), ν))
    assert_close(model.quantile(params, window, (0.1, 0.9)), quantiles + shift)
    assert_close(model.predict(params, window), shift + np.asarray(model.distribution.mean(outputs, ν)))
    samples = [shift + np.asarray(model.distribution.sample(k, outputs, ν)) for k in jax.random.split(key, S)]
    assert_close(model.forecast(params, window, key=key, samples=S), np.stack(samples))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", [Forecaster, DirectForecaster])
def test_what_is_not_observed_changes_nothing(kind):
    """NaN, or any number, where nothing is observed: the same loss and gradient, all finite; a filler counts nowhere.

    A forecast does not read the targets.
    """
    model, params = make(kind, scale="instance")
    slopes = jax.jit(jax.value_and_grad(lambda params, window: model.loss(params, window)[0]))
    windows = [make_window(missing=missing) for missing in (np.nan, 0.0, 1e30)]
    results = [slopes(params, window) for window in windows]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results[0]))
    assert_identical(results[0], results[1])
    assert_identical(results[0], results[2])
    filled = Window._make(np.concatenate([a, np.zeros_like(a)], min(1, a.ndim - 1)) for a in windows[0])
    for leaf, expected in zip(*map(jax.tree.leaves, (slopes(params, filled), results[0])), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-10, atol=1e-10)  # the sums over B have another order
    wrong = windows[0]._replace(targets=np.full((h, B, D), 1e9), targets_observed=np.ones((h, B, D), bool))
    forecast = functools.partial(model.forecast, params, key=jax.random.key(0), samples=2)
    assert_identical(forecast(wrong), forecast(windows[0]))


@pytest.mark.parametrize("kind", [Forecaster, DirectForecaster])
def test_is_its_constructor_call(kind):
    """Prints and is rebuilt as every model, and may be an argument of jit."""
    model = kind(rnn.LSTM(5, 4), Quantiles((0.1, 0.9)), horizon=2, covariates=3, scale="window")
    assert repr(model) == (
        f"{kind.__name__}(LSTM(5, 4), distribution=Quantiles((0.1, 0.9)), horizon=2, covariates=3, scale='window')"
    )
    assert rnn.from_repr(repr(model)) == model
    assert hash(rnn.from_repr(repr(model))) == hash(model)
    assert kind.input_size(1, 3) == 5


def test_cores_of_many_kinds():
    """Users' cells, bidirectional and residual ones; float32 windows as they come from the source."""
    series = Series(np.sin(np.arange(30.0)), covariates=np.arange(34.0))
    train, _, test = Windows.split(series, context=4, horizon=3, batch=2, lags=(3,))
    sizes = train.sizes
    assert sizes == {"horizon": 3, "targets": 1, "covariates": 2, "lags": 1}
    cell = Plain(train.input_size, 3)  # of 4
    models = [
        Forecaster(cell, features=3, **sizes),
        DirectForecaster(rnn.Bidirectional(rnn.GRU(4, 3)), Quantiles(0.5), **sizes),
        DirectForecaster(rnn.Residual(rnn.GRU(4, 3), "concat"), Point("huber"), **sizes),
    ]
    for model in models:
        params = jax.eval_shape(model.init, jax.random.key(0))
        assert jax.eval_shape(model.loss, params, test[0])[0].dtype == jnp.float32
        shape = jax.eval_shape(
            functools.partial(model.forecast, samples=7), params, train.latest(), key=jax.random.key(0)
        )
        assert (shape.shape, shape.dtype) == ((7, 3, 1, 1), jnp.float32)


def fitted(model, train, steps, rate=1e-2):
    """Parameters after some steps of Adam."""

    def loss(params, carry, batch, key):
        value, metrics = model.loss(params, batch, key)
        return value, (carry, metrics)

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    step = learning.train_step(loss, optimizer)
    state = learning.train_state(model.init(jax.random.key(0)), optimizer)
    return learning.fit(step, state, train, steps=steps, key=jax.random.key(1), verbose=False).state.params


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("kind", [Forecaster, DirectForecaster])
def test_learns_a_noisy_sine(kind):
    """Better than the value a season ago, whose error has the noise twice; intervals hold about what they say."""
    rng, season = np.random.default_rng(0), 12
    values = 50 + 10 * np.sin(2 * np.pi * np.arange(600) / season) + rng.normal(0, 2, 600)
    values[rng.random(600) < 0.05] = np.nan
    train, _, test = Windows.split(Series(values), context=24, horizon=6, batch=32)
    model = kind(rnn.GRU(train.input_size, 16), horizon=6)
    params = fitted(model, train, 400)
    errors, naive, inside = [], [], []
    forecast = jax.jit(functools.partial(model.forecast, samples=200))
    for window in test:
        samples = test.scaling.undo(np.asarray(forecast(params, window, key=jax.random.key(2))), window.series)
        truth, mask = test.scaling.undo(window.targets, window.series), window.targets_observed
        ago, known = test.scaling.undo(window.values[-12:-6], window.series), window.observed[-12:-6]
        errors.append(((np.median(samples, 0) - truth) ** 2)[mask & known])
        naive.append(((ago - truth) ** 2)[mask & known])
        low, high = np.quantile(samples, [0.1, 0.9], axis=0)
        inside.append(((low <= truth) & (truth <= high))[mask])
    error, naive = np.concatenate(errors).mean(), np.concatenate(naive).mean()
    assert error < 0.75 * naive  # noise alone: half of it
    assert 0.65 < np.concatenate(inside).mean() < 0.92


DEVICES = """
import jax, numpy as np, jaxrnn as rnn
from jaxrnn import learning
learning.use_cores(2)
windows = rnn.data.Windows(rnn.data.Series(np.sin(np.arange(40.0))), context=6, horizon=3, batch=4)
mesh = learning.device_mesh()
for kind in (rnn.tasks.Forecaster, rnn.tasks.DirectForecaster):
    model = kind(rnn.LSTM(windows.input_size, 5), horizon=3)
    params, key = model.init(jax.random.key(0)), jax.random.key(1)
    def results(window):
        samples = model.forecast(params, window, key=key, samples=4)
        return model.loss(params, window)[0], samples, model.predict(params, window)
    whole, split = jax.jit(results)(windows[0]), jax.jit(results)(learning.shard_batch(windows[0], mesh))
    assert split[1].sharding.num_devices == 2, split[1].sharding
    for a, b in zip(whole, split):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
print("equal")
"""


@pytest.mark.slow
def test_two_devices_give_the_same():
    """A window that is split along B."""
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(rnn.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", DEVICES], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["equal"], done.stderr


def forecaster(core=None, *args, kind=Forecaster, horizon=3, **options):
    return lambda: kind(rnn.GRU(2, 4) if core is None else core, *args, horizon=horizon, **options)


def call(method, window=None, **options):
    model = Forecaster(rnn.GRU(2, 4), horizon=2)
    series = Series(np.arange(9.0))
    window = Windows(series, context=4, horizon=2, batch=1)[0] if window is None else window
    return lambda: getattr(model, method)(jax.eval_shape(model.init, jax.random.key(0)), window, **options)


REFUSED = {
    "ValueError core: expected input size 5 = Forecaster.input_size(1, 3), got 2; …": forecaster(covariates=3),
    "TypeError core: expected one that can be stepped, got Bidirectional(GRU(2, 4)); …": forecaster(
        rnn.Bidirectional(rnn.GRU(2, 4))
    ),
    "ValueError core: expected input size 2…": forecaster(rnn.Embedding(2, 3)),
    "TypeError distribution: expected a distribution, got …; …": forecaster(None, Gaussian),
    "ValueError horizon: expected a positive int, got 0": forecaster(horizon=0),
    "ValueError lags: expected 1 covariates for each of 2 lags, or more, got 1; …": forecaster(lags=2, covariates=1),
    "ValueError scale: expected one of 'none', 'window', 'instance', got 'mean'": forecaster(scale="mean"),
    "ValueError scale: expected 'window' or 'none', since the targets are counts, got 'instance'; …": forecaster(
        None, NegativeBinomial(), scale="instance"
    ),
    "ValueError features: expected 4, the output size of the core, got 5; …": forecaster(features=5),
    "ValueError features: expected the width of the core's outputs, got None; …": forecaster(Plain(2, 3)),
    "TypeError window: expected a Window, got float64[4, 1, 1]; …": call("loss", np.ones((4, 1, 1))),
    "ValueError window.targets: expected shape [2, 1, 1], horizon and targets…got float32[3, 1, 1]; …": call(
        "loss", Windows(Series(np.arange(9.0)), context=4, horizon=3, batch=1)[0]
    ),
    "ValueError window.covariates: expected shape [6, 1, 0], covariates…got float32[6, 1, 1]; …": call(
        "predict", Windows(Series(np.arange(9.0)), context=4, horizon=2, batch=1, lags=(2,))[0]
    ),
    "TypeError key: expected a value, got None; …": call("forecast", key=None),
    "ValueError samples: expected a positive int, got 0": call("forecast", key=jax.random.key(0), samples=0),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refuses(text):
    """Errors name the argument and what fits."""
    refuses(text, REFUSED[text])
