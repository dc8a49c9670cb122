"""Distributions against scipy.stats in float64; gradients numerically, samples by their moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from refusals import refuses
from scipy import stats

import jaxrnn as rnn
from jaxrnn.distributions import Gaussian, Mixture, NegativeBinomial, Point, Quantiles, StudentT

LEVELS = (0.01, 0.3, 0.5, 0.975)
SCALE = 3.0
D = 2  # targets of a step


def positive(x):
    return np.logaddexp(0, x) + 1e-4


def mixture(logits, location, raw, ν):
    """A mixture of three normal distributions with the methods of scipy.stats."""
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    parts = stats.norm(ν * location, ν * positive(raw))

    class Of:
        def logpdf(self, y):
            return np.log((weights * parts.pdf(y[..., None])).sum(-1))

        def cdf(self, y):
            return (weights * parts.cdf(y[..., None])).sum(-1)

        def mean(self):
            return (weights * parts.mean()).sum(-1)

        def var(self):
            return (weights * (parts.var() + parts.mean() ** 2)).sum(-1) - self.mean() ** 2

    return Of()


def counts(o, ν):
    mean, α = ν * positive(o[..., 0]), positive(o[..., 1]) / ν**0.5
    return stats.nbinom(1 / α, 1 / (1 + α * mean))


REFERENCES = {  # outputs [..., D, size] and scale to a distribution of scipy
    Gaussian(): lambda o, ν: stats.norm(ν * o[..., 0], ν * positive(o[..., 1])),
    StudentT(): lambda o, ν: stats.t(2 + positive(o[..., 2]), ν * o[..., 0], ν * positive(o[..., 1])),
    Mixture(3): lambda o, ν: mixture(o[..., :3], o[..., 3:6], o[..., 6:], ν),
    NegativeBinomial(): counts,
}
EVERY = [*REFERENCES, Quantiles((0.1, 0.5, 0.9)), Point(), Point("absolute"), Point("huber")]


def draw(distribution, dtype="float64"):
    """Outputs ``[4, 3, D · size]`` and targets ``[4, 3, D]``."""
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(0, 2, (4, 3, D * distribution.size)), rng.normal(0, 4, (4, 3, D))
    targets = np.floor(abs(targets)) if isinstance(distribution, NegativeBinomial) else targets
    return jnp.asarray(outputs, dtype), jnp.asarray(targets, dtype)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("scale", [pytest.param(None, marks=pytest.mark.slow), SCALE])
@pytest.mark.parametrize("distribution", REFERENCES, ids=str)
def test_likelihood_cdf_and_quantiles(distribution, scale):
    """As scipy has them, for the distribution itself and that of ν y; a quantile is where the cdf has its level."""
    outputs, targets = draw(distribution)
    ν = None if scale is None else jnp.asarray(scale)
    reference = REFERENCES[distribution](np.asarray(outputs).reshape(4, 3, D, -1), scale or 1)

    @jax.jit
    def everything(outputs, targets):
        quantiles = distribution.quantile(outputs, LEVELS, ν)
        nll = distribution.negative_log_likelihood(outputs, targets, ν)
        cdf = distribution.cdf(outputs, targets + 0.25, ν)
        return nll, cdf, distribution.mean(outputs, ν), quantiles, distribution.cdf(outputs, quantiles[1], ν)

    nll, cdf, mean, quantiles, level = everything(outputs, targets)
    log_p = reference.logpmf if isinstance(distribution, NegativeBinomial) else reference.logpdf
    np.testing.assert_allclose(nll, -log_p(np.asarray(targets)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(cdf, reference.cdf(np.asarray(targets) + 0.25), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mean, reference.mean(), rtol=1e-12)
    if hasattr(reference, "ppf"):
        for τ, quantile in zip(LEVELS, quantiles, strict=True):
            np.testing.assert_allclose(quantile, reference.ppf(τ), rtol=1e-8)  # as exact as betainc of JAX 0.7
    if not isinstance(distribution, NegativeBinomial):
        np.testing.assert_allclose(level, LEVELS[1], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("distribution", REFERENCES, ids=str)
def test_gradient_and_samples(distribution):
    """The gradient of the loss numerically; mean and variance of samples within five standard errors."""
    outputs, targets = (x[0, 0] for x in draw(distribution))
    loss = jax.jit(lambda o: distribution.loss(o, targets, jnp.asarray(SCALE)).sum())
    check_grads(loss, (outputs,), order=1, modes=["rev"], rtol=1e-5)
    outputs = outputs.at[2 : 3 * distribution.size : 3].set(9.0) if isinstance(distribution, StudentT) else outputs
    reference = REFERENCES[distribution](np.asarray(outputs).reshape(D, -1), 1)
    count = 20_000
    rows = jnp.broadcast_to(outputs[None], (count, *outputs.shape))
    samples = np.asarray(jax.jit(distribution.sample)(jax.random.key(0), rows))
    assert samples.shape == (count, D)
    assert (abs(samples.mean(0) - reference.mean()) < 5 * samples.std(0) / count**0.5).all()
    squared = (samples - reference.mean()) ** 2
    assert (abs(squared.mean(0) - reference.var()) < 5 * squared.std(0) / count**0.5).all()


@pytest.mark.slow
@pytest.mark.parametrize("distribution", EVERY, ids=str)
def test_finite_at_the_extremes(distribution):
    """No output of a network makes loss or gradient infinite or NaN, in float32; 16 bits are computed in 32."""
    sizes = [-80.0, -5.0, 0.0, 80.0]
    grid = np.stack(np.meshgrid(*[sizes] * min(distribution.size, 3)), -1).reshape(-1, min(distribution.size, 3))
    outputs = jnp.asarray(np.tile(grid, distribution.size // grid.shape[1]), jnp.float32)
    for target in (0.0, 1.0, 1000.0):
        targets = jnp.full((len(outputs), 1), target)
        value, slope = jax.jit(jax.value_and_grad(lambda o, y: distribution.loss(o, y).sum()))(outputs, targets)
        assert np.isfinite(value)
        assert np.isfinite(slope).all()
    rounded, loss = outputs[:3].astype(jnp.bfloat16), jax.jit(distribution.loss)
    narrow = loss(rounded, targets[:3])
    assert narrow.dtype == jnp.float32
    np.testing.assert_array_equal(narrow, loss(rounded.astype(jnp.float32), targets[:3]))


def test_large_counts_in_float32():
    """The likelihood has no difference of large logarithms: nearly Poisson or not, means up to 10⁵."""
    loss = jax.jit(NegativeBinomial().loss)
    for raw in (-12.0, -5.0, 3.0):
        outputs = np.array([[10.0, raw], [1000.0, raw], [1e5, raw]])
        targets = np.array([[12.0], [950.0], [1.001e5]])
        got = loss(jnp.asarray(outputs, jnp.float32), jnp.asarray(targets, jnp.float32))
        α = positive(outputs[:, 1])
        expected = -stats.nbinom.logpmf(targets[:, 0], 1 / α, 1 / (1 + α * positive(outputs[:, 0])))
        np.testing.assert_allclose(got[:, 0], expected, rtol=1e-4)


def test_what_is_no_count_has_no_loss():
    """Negative or broken numbers of things are NaN, as labels outside of the vocabulary are."""
    targets = jnp.array([[-1.0], [0.5], [2.0]])
    loss = jax.jit(NegativeBinomial().loss)(jnp.zeros((3, 2)), targets)
    assert np.isnan(loss[:, 0]).tolist() == [True, True, False]


def test_quantiles_are_interpolated():
    """Mean, samples and levels between are those of one distribution; crossed outputs are sorted."""
    distribution = Quantiles([0.1, 0.5, 0.9])
    levels, count = np.linspace(0.1, 0.9, 9), 20_000

    @jax.jit
    def everything(outputs, scale):
        rows = jnp.broadcast_to(outputs[None], (count, 3))
        samples = distribution.sample(jax.random.key(0), rows, scale)
        return distribution.quantile(outputs, levels, scale), distribution.mean(outputs, scale), samples

    quantiles, mean, samples = everything(jnp.array([3.0, 1.0, 2.0]), jnp.array([2.0]))
    np.testing.assert_allclose(quantiles[:, 0], 2 * np.interp(levels, [0.1, 0.5, 0.9], [1, 2, 3]), rtol=1e-6)
    every = 2 * np.interp((np.arange(count) + 0.5) / count, [0.1, 0.5, 0.9], [1, 2, 3])
    np.testing.assert_allclose(mean[0], every.mean(), rtol=1e-5)
    np.testing.assert_allclose(np.quantile(samples, [0.05, 0.3, 0.7, 0.95]), [2, 3, 5, 6], atol=0.05)
    single, output = Quantiles(0.5), jnp.array([4.0])
    assert single.quantile(output, 0.5).tolist() == single.mean(output).tolist() == [4.0]


def test_the_pinball_loss_is_smallest_at_the_quantile():
    """Of the empirical distribution of many targets; the median for the absolute error, the mean for the squared."""
    targets = jnp.asarray(np.random.default_rng(0).gamma(2, size=(1001, 1)))
    candidates, level = np.linspace(0, 6, 601), 0.8

    def best(distribution):
        losses = jax.jit(jax.vmap(lambda c: distribution.loss(jnp.broadcast_to(c, targets.shape), targets).mean()))
        return candidates[np.argmin(losses(jnp.asarray(candidates)))]

    assert abs(best(Quantiles(level)) - np.quantile(targets, level)) < 0.02
    assert abs(best(Point("absolute")) - np.median(targets)) < 0.02
    assert abs(best(Point("squared")) - np.mean(targets)) < 0.02


def test_is_its_constructor_call():
    """Prints, compares, hashes and is rebuilt, as every model does."""
    for distribution in EVERY:
        again = rnn.from_repr(repr(distribution))
        assert again == distribution
        assert hash(again) == hash(distribution)
    assert repr(Quantiles([0.1, 0.9])) == "Quantiles((0.1, 0.9))"
    assert repr(Mixture(5)) == "Mixture(5)"


REFUSED = {
    "ValueError components: expected a positive int, got 0": lambda: Mixture(0),
    "ValueError levels: expected increasing numbers in (0, 1), got (0.5, 0.1); …": lambda: Quantiles((0.5, 0.1)),
    "ValueError levels: expected increasing numbers in (0, 1), got 1.0; …": lambda: Gaussian().quantile(
        jnp.ones(2), 1.0
    ),
    "TypeError levels: expected a number…got str a": lambda: Quantiles("a"),
    "ValueError levels: expected levels from 0.1 to 0.9…got 0.95; …": lambda: Quantiles((0.1, 0.9)).quantile(
        jnp.ones(2), 0.95
    ),
    "ValueError error: expected one of 'squared', 'absolute', 'huber', got 'cubic'": lambda: Point("cubic"),
    "ValueError outputs: expected floating numbers [..., D · 2], 2 a target of Gaussian(), got float32[3]; …": lambda: (
        Gaussian().mean(jnp.ones(3))
    ),
    "ValueError outputs: expected shape [4, 2], 2 for each of the targets [4, 1], got float32[4, 3]; …": lambda: (
        Gaussian().loss(jnp.ones((4, 3)), jnp.ones((4, 1)))
    ),
    "TypeError targets: expected floating numbers, got int32[1]; …": lambda: Gaussian().loss(
        jnp.ones(2), jnp.ones(1, int)
    ),
    "TypeError distribution: expected one with a likelihood, got Point(); …": lambda: Point().negative_log_likelihood(
        jnp.ones(1), jnp.ones(1)
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refuses(text):
    """Errors name the argument and what fits."""
    refuses(text, REFUSED[text])
