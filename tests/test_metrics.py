"""Metrics against scikit-learn and plain NumPy, for any split into batches, with NaN where nothing counts."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses
from versions import enable_x64

from jaxrnn import metrics

T, B, V, S, K = 3, 4, 4, 5, 3  # steps, sequences and classes of a batch, samples, batches
LEVELS = (0.1, 0.5, 0.8)
AVERAGES = ("macro", "micro", "weighted", None)
trying = settings(max_examples=12, deadline=None, derandomize=True, database=None)

LABELS = [metrics.cross_entropy, metrics.bits, metrics.perplexity, metrics.accuracy, metrics.top_k(2)]
COUNTS = [metrics.accuracy, metrics.confusion(V)]
SCORES = [make(V, average) for make in (metrics.f1, metrics.precision, metrics.recall) for average in AVERAGES]
NUMBERS = [metrics.mse, metrics.squared_error, metrics.rmse, metrics.mae, metrics.mape, metrics.smape]
SAMPLES = [metrics.crps, metrics.coverage(0.8), metrics.interval_score(0.8)]
LOSS = metrics.quantile_loss(LEVELS)
EVERY = [*LABELS, *COUNTS[1:], *SCORES, *NUMBERS, LOSS, *SAMPLES]


@jax.jit
def all_sums(logits, labels, outputs, targets, quantiles, samples, mask):
    """The sums of all metrics, compiled once."""
    of = {}
    for group, args in (
        ([*LABELS, *COUNTS, *SCORES], (logits, labels)), (NUMBERS, (outputs, targets)), ([LOSS], (quantiles, targets)),
        (SAMPLES, (samples, targets)),
    ):  # fmt: skip
        of |= {metric: metric.sums(*args, mask) for metric in group}
    of["decided"] = [metric.sums(jnp.argmax(logits, -1), labels, mask) for metric in COUNTS]
    return [of[metric] for metric in EVERY], of["decided"]


def draw(seed):
    """Batches of arrays, with NaN and labels that are no classes wherever the mask is False."""
    rng, batches = np.random.default_rng(seed), []
    share = rng.choice([0.0, 0.3, 1.0], K, p=[0.2, 0.6, 0.2])
    share[rng.integers(K)] = 0.9
    for n in range(K):
        mask = rng.random((T, B)) < share[n]
        logits = rng.normal(0, 3, (T, B, V))
        if rng.random() < 0.5:
            logits = np.round(logits)  # ties
        outputs, targets = np.round(rng.normal(0, 2, (2, T, B)), rng.integers(2))  # 0 is among them
        arrays = [logits, outputs, targets, rng.normal(size=(T, B, 3))]
        arrays = [np.where(mask.reshape(T, B, *[1] * (x.ndim - 2)), x, np.nan) for x in arrays]
        samples = np.round(rng.normal(0, 2, (S, T, B)), 1) + 0.013  # no quantile is a target up to rounding
        samples = np.where(mask, samples, np.nan)
        labels = np.where(mask, rng.integers(0, rng.integers(1, V + 1), (T, B)), rng.choice([-100, V]))
        batches.append((arrays[0], labels, *arrays[1:], samples, mask))
    return batches


def flat(batches):
    """What counts in all batches, one axis."""
    masks = [batch[-1] for batch in batches]
    *rest, samples = zip(*(batch[:-1] for batch in batches), strict=True)
    arrays = [np.concatenate([x[mask] for x, mask in zip(xs, masks, strict=True)]) for xs in rest]
    return *arrays, np.concatenate([x[:, mask] for x, mask in zip(samples, masks, strict=True)], 1)


def expected(logits, labels, outputs, targets, quantiles, samples):
    """Every value by scikit-learn, or by its definition in NumPy."""
    sk = pytest.importorskip("sklearn.metrics")
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    predicted, every = logits.argmax(-1), np.arange(V)
    nats = sk.log_loss(labels, p, labels=every)
    best = [(np.argsort(-row, kind="stable")[:2] == label).any() for row, label in zip(logits, labels, strict=True)]
    occurs = np.union1d(labels, predicted)
    scores = [
        score(labels, predicted, average=average, labels=every if average is None else occurs, zero_division=0)
        for score in (sk.f1_score, sk.precision_score, sk.recall_score)
        for average in AVERAGES
    ]
    mse = sk.mean_squared_error(targets, outputs)
    size = np.abs(outputs) + np.abs(targets)
    smape = np.mean([2 * abs(o - y) / s if s else 0 for o, y, s in zip(outputs, targets, size, strict=True)])
    losses = [sk.mean_pinball_loss(targets, quantiles[:, q], alpha=level) for q, level in enumerate(LEVELS)]
    pairs = [np.abs(samples[i] - samples[j]) for i in range(S) for j in range(S) if i != j]
    crps = np.mean(np.abs(samples - targets).mean(0) - np.mean(pairs, 0) / 2)
    low, high = np.quantile(samples, [0.1, 0.9], axis=0)
    outside = np.where(targets < low, low - targets, np.where(targets > high, targets - high, 0))
    return [
        nats, nats / np.log(2), np.exp(nats), sk.accuracy_score(labels, predicted), np.mean(best),
        sk.confusion_matrix(labels, predicted, labels=every), *scores,
        mse, mse, mse**0.5, sk.mean_absolute_error(targets, outputs),
        sk.mean_absolute_percentage_error(targets, outputs), smape, np.mean(losses),
        crps, np.mean((low <= targets) & (targets <= high)), np.mean(high - low + 2 / 0.2 * outside),
    ]  # fmt: skip


@trying
@given(st.integers(0, 2**16))
def test_any_split_into_batches(seed):
    """The values are those of what counts, all together; so neither the split nor what does not count matters."""
    batches = draw(seed)
    totals, decided = [None] * len(EVERY), [None] * len(COUNTS)
    with enable_x64(True):
        for batch in batches:
            sums, of_labels = all_sums(*batch)
            totals = [metrics.merge(total, new) for total, new in zip(totals, sums, strict=True)]
            decided = [metrics.merge(total, new) for total, new in zip(decided, of_labels, strict=True)]
    values = [metric.value(total) for metric, total in zip(EVERY, totals, strict=True)]
    for metric, value, right in zip(EVERY, values, expected(*flat(batches)), strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-12, atol=1e-13, err_msg=str(metric))
    of_logits = dict(zip(EVERY, values, strict=True))
    for metric, total in zip(COUNTS, decided, strict=True):
        np.testing.assert_array_equal(metric.value(total), of_logits[metric])


def test_nothing_counts():
    """NaN, and a confusion matrix of 0."""
    *arrays, _ = draw(0)[0]
    with enable_x64(True):
        sums, _ = all_sums(*arrays, np.zeros((T, B), bool))
    for metric, new in zip(EVERY, sums, strict=True):
        value = metric.value(metrics.merge(None, new))
        assert not np.any(value) if metric.name == "confusion" else np.all(np.isnan(value)), metric


def test_a_prediction_that_is_nan():
    """Makes every value NaN, and is not counted as the class that argmax returns."""
    logits, _, outputs, targets, quantiles, samples, mask = draw(0)[0]
    mask[0, 0], targets[0, 0] = True, 1
    for array in (logits, outputs, quantiles):
        array[0, 0] = 0
    for entry in (logits[0, 0, 1:2], outputs[0, 0:1], quantiles[0, 0, 1:2], samples[:1, 0, 0]):
        entry[:] = np.nan
    with enable_x64(True):
        sums, _ = all_sums(logits, np.ones((T, B), int), outputs, targets, quantiles, samples, mask)
    for metric, new in zip(EVERY, sums, strict=True):
        assert np.all(np.isnan(metric.value(metrics.merge(None, new)))), metric


def test_narrow_and_large_numbers():
    """Sums are in float32 or wider; the total loses nothing over many batches; labels do not fit into int8."""
    errors, zeros = jnp.ones(1000, jnp.bfloat16), jnp.zeros(1000, jnp.bfloat16)
    assert metrics.mae(errors, zeros) == 1
    total = {"sum": np.float64(2**60), "count": np.int64(2**60)}
    assert int(metrics.merge(total, {"sum": np.float32(0), "count": np.int32(1)})["count"]) == 2**60 + 1
    assert metrics.merge({"sum": np.float64(2**25)}, {"sum": np.float32(1)})["sum"] == 2**25 + 1
    assert metrics.accuracy(jax.nn.one_hot(jnp.array([200]), 300), jnp.array([200], jnp.uint8)) == 1
    large = {"sum": np.float64(1000.0), "count": np.int64(1)}
    assert metrics.perplexity.value(large) == np.inf
    shifted = metrics.crps(jnp.array([[3e6], [3e6 + 1]]), jnp.array([3e6]))
    assert shifted == 0  # 1/2 - 1/2


BYTES = [len(symbol.encode()) for symbol in ("a", "ß", "the ", "", "語")]  # 1, 2, 4, 0 and 3
byte_sums = jax.jit(metrics.bits_per_byte(BYTES).sums)


@trying
@given(st.integers(0, 2**16))
def test_bits_per_byte(seed):
    """The nats of all targets over the bytes of the text, given for each token or in all; a mask leaves out both."""
    rng, total, nats, size = np.random.default_rng(seed), None, 0.0, 0
    for _ in range(2):
        logits, labels, mask = rng.normal(0, 2, (T, B, 5)), rng.integers(0, 5, (T, B)), rng.random((T, B)) < 0.8
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        nats -= np.take_along_axis(log_p, labels[..., None], -1)[mask].sum()
        size += sum(BYTES[label] for label in labels[mask])
        dirty = np.where(mask[..., None], logits, np.nan), np.where(mask, labels, -100)
        with enable_x64(True):
            total = metrics.merge(total, byte_sums(*dirty, mask))
    np.testing.assert_allclose(metrics.bits_per_byte(BYTES).value(total), nats / np.log(2) / size, rtol=1e-12)
    np.testing.assert_allclose(metrics.bits_per_byte(size).value(total), nats / np.log(2) / size, rtol=1e-12)
    assert metrics.direction("test/bits_per_byte") == metrics.bits_per_byte(size).mode == "min"


def test_mask_over_leading_axes():
    """One of the sequences covers all numbers of their targets."""
    outputs, targets, mask = jnp.ones((3, 2)), jnp.zeros((3, 2)), jnp.array([True, False, True])
    assert metrics.mse(outputs.at[1].set(9.0), targets, mask) == 1
    assert metrics.mse.sums(outputs, targets, mask)["count"] == 4
    assert metrics.mae(outputs[..., None], targets, mask) == 1  # of a readout of one number


def test_equal_hashable_and_picklable():
    """So that an evaluation with an equal metric is not compiled again, and metrics may cross processes."""
    assert metrics.f1(3) == metrics.f1(3) != metrics.f1(4)
    assert metrics.quantile_loss([0.5]) == metrics.quantile_loss((0.5,))
    for metric in EVERY:
        assert pickle.loads(pickle.dumps(metric)) == metric
        assert len({metric, pickle.loads(pickle.dumps(metric))}) == 1
    assert len(set(EVERY)) == len(EVERY)


def test_directions():
    """Every ready metric, and words before a name."""
    for metric in EVERY:
        assert metrics.direction(metric.name) == metric.mode, metric
        assert metrics.direction(f"validation_{metric.name}") == metric.mode, metric
    for name in ("loss", "error", "nats", "dev/loss", "test loss", "Validation-Loss", "train.error"):
        assert metrics.direction(name) == "min"
    for name in ("validation_accuracy", "top_5_accuracy", "dev/f1", "f1_macro"):
        assert metrics.direction(name) == "max"
    for name in ("", "seconds", "floss", "loss_scale", "neg_mean_squared_error", "count"):
        assert metrics.direction(name) is None
    assert set(metrics.DIRECTIONS.values()) == {"min", "max"}


def test_refusals():
    """Bad arguments, and arrays that do not fit; those of shapes under jit as well."""
    ones, labels = jnp.ones((2, 3)), jnp.zeros(2, int)
    for make in (lambda: metrics.top_k(0), lambda: metrics.confusion(0), lambda: metrics.f1(0)):
        refuses("ValueError …: expected a positive int, got 0", make)
    refuses("ValueError average: expected one of 'macro', …or None, got 'binary'…", lambda: metrics.f1(2, "binary"))
    for sizes in (0, -1, [0, 0], []):
        refuses("ValueError utf8_bytes: …", lambda sizes=sizes: metrics.bits_per_byte(sizes))
    for sizes in (1.5, [1.9, 1.9], "ab", [[1]]):
        refuses(
            "TypeError utf8_bytes: expected one int, or V of them, got …",
            lambda sizes=sizes: metrics.bits_per_byte(sizes),
        )
    refuses("ValueError utf8_bytes: expected 3 numbers, one for each logit, got 2; 0 for tokens without text",
            lambda: metrics.bits_per_byte([1, 1])(ones, labels))  # fmt: skip
    refuses("TypeError levels: …", lambda: metrics.quantile_loss(0.5))
    refuses("ValueError levels: expected a number between 0 and 1, got 1; …", lambda: metrics.quantile_loss([1]))
    refuses("ValueError level: …", lambda: metrics.coverage(95))
    refuses("ValueError level: …", lambda: metrics.interval_score(0))
    refuses("ValueError k: expected at most 3, …", lambda: metrics.top_k(4)(ones, labels))
    refuses("ValueError outputs: expected shape [3, 'V'], …, got float32[2, 3]; …",
            lambda: metrics.accuracy(ones, jnp.zeros(3, int)))  # fmt: skip
    refuses("ValueError outputs: …, got int32[2]; …", lambda: metrics.accuracy(labels, jnp.zeros(3, int)))
    refuses("TypeError targets: expected integer labels [2], got float32[2]; …",
            lambda: metrics.cross_entropy(ones, jnp.zeros(2)))  # fmt: skip
    refuses("ValueError outputs: expected logits of 5 classes …", lambda: metrics.f1(5)(ones, labels))
    for metric in (metrics.cross_entropy, metrics.accuracy, metrics.top_k(1), metrics.f1(3), metrics.confusion(3)):
        refuses("ValueError targets: expected labels, …, got 1 others; …", lambda m=metric: m(ones, jnp.array([0, 3])))
    refuses("ValueError targets: …, got 1 others; …", lambda: metrics.f1(2)(jnp.array([0, 2]), labels))
    refuses("ValueError outputs: expected shape [2], …, got float32[2, 3]; …", lambda: metrics.mse(ones, jnp.ones(2)))
    refuses("TypeError outputs: expected an array …, got tuple of 2; …", lambda: metrics.mse((ones, ones), ones))
    refuses("ValueError outputs: expected shape [2, 1], …", lambda: metrics.quantile_loss([0.5])(ones, jnp.ones(2)))
    refuses("ValueError outputs: expected samples ['S', 2] …", lambda: metrics.crps(ones, jnp.ones(2)))
    refuses("ValueError outputs: expected at least 2 samples …", lambda: metrics.crps(ones[:1], jnp.ones(3)))
    refuses("ValueError mask: expected leading axes …", lambda: metrics.mse(ones, ones, jnp.ones(3, bool)))
    refuses("TypeError mask: expected bools, …", lambda: metrics.mse(ones, ones, jnp.ones(2)))
    refuses("TypeError name: …", lambda: metrics.Metric("", "min", len, len))
    refuses("ValueError mode: expected one of 'min', 'max' or None, …", lambda: metrics.Metric("a", "up", len, len))
    refuses("TypeError sums: expected a function, …", lambda: metrics.Metric("a", "min", 1, len))
    refuses("TypeError name: …", lambda: metrics.direction(1))
    refuses("TypeError outputs: expected arrays outside of jit, …", lambda: jax.jit(metrics.mse)(ones, ones))
