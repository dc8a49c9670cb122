"""Losses against plain loops in NumPy, one step of one sequence at a time."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxrnn import losses
from jaxrnn.distributions import Gaussian

T, B, V, Q = 5, 4, 6, 3
MEANS = ["step", "sequence", "time_sum"]
REAL = ["squared_error", "absolute_error", "huber", "quantile", "likelihood", "bernoulli"]  # of q values a step
KINDS = ["cross_entropy", "smoothed", *REAL, "accuracy"]
LENGTHS = np.array([5, 2, 0, 3])
# not a prefix of the steps
MASK = np.array([[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 1]], bool)
COUNTS = {  # keyword arguments, and the steps that count
    "all": ({}, np.ones((T, B), bool)),
    "lengths": ({"lengths": LENGTHS}, np.arange(T)[:, None] < LENGTHS),
    "mask": ({"mask": MASK}, MASK),
    "none": ({"lengths": np.zeros(B, int)}, np.zeros((T, B), bool)),
    "none by mask": ({"mask": np.zeros((T, B), bool)}, np.zeros((T, B), bool)),
}


def make(kind, dtype="float64"):
    """A loss, its two arrays, and the loss of one step in NumPy."""
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(0, 3, (T, B, V)), rng.integers(0, V, (T, B))
    outputs, targets = rng.normal(0, 2, (2, T, B, Q))
    bits = rng.integers(0, 2, (T, B, Q)).astype(float)

    def log_softmax(o):
        return o - np.log(np.exp(o).sum())

    def smoothed(o, y):
        q = np.full(V, 0.3 / V)  # the definition: 1 - 0.3 for the label, the rest is uniform over all labels
        q[y] += 1 - 0.3
        return -(q * log_softmax(o)).sum()

    levels = (0.1, 0.7)
    pairs, spread = rng.normal(0, 2, (2, T, B, 2 * Q))

    def pinball(o, y):
        errors = [(y[j] - o[2 * j + n], level) for j in range(Q) for n, level in enumerate(levels)]
        return sum(max(level * e, (level - 1) * e) for e, level in errors) / (2 * Q)

    def gaussian(o, y):
        scales = [np.log1p(np.exp(o[2 * j + 1])) + 1e-4 for j in range(Q)]
        return -sum(stats.norm.logpdf(y[j], o[2 * j], scales[j]) for j in range(Q)) / Q

    def huber(e):
        return e**2 / 2 if abs(e) < 0.7 else 0.7 * (abs(e) - 0.35)

    loss, a, b, plain = {
        "cross_entropy": (losses.cross_entropy, logits, labels, lambda o, y: -log_softmax(o)[y]),
        "smoothed": (
            lambda o, y, **k: losses.cross_entropy(o, y, label_smoothing=0.3, **k), logits, labels, smoothed
        ),
        "squared_error": (losses.squared_error, outputs, targets, lambda o, y: sum((o - y) ** 2) / Q),
        "absolute_error": (losses.absolute_error, outputs, targets, lambda o, y: sum(abs(o - y)) / Q),
        "huber": (
            functools.partial(losses.huber, delta=0.7), outputs, targets, lambda o, y: sum(map(huber, o - y)) / Q
        ),
        "quantile": (lambda o, y, **k: losses.quantile(o, y, levels, **k), pairs, targets, pinball),
        "likelihood": (
            functools.partial(losses.negative_log_likelihood, Gaussian()), spread, targets, gaussian
        ),
        "bernoulli": (losses.bernoulli, outputs, bits, lambda o, y: -np.log(1 / (1 + np.exp(o * (1 - 2 * y)))).sum()),
        "accuracy": (losses.accuracy, logits, labels, lambda o, y: float(max(range(V), key=lambda v: o[v]) == y)),
    }[kind]  # fmt: skip
    b = jnp.asarray(b) if b.dtype == int else jnp.asarray(b, dtype)
    return loss, jnp.asarray(a, dtype), b, plain


def by_hand(plain, a, b, mask, mean):
    """The three means, as defined in the module."""
    step_losses = [[plain(a[t, n], b[t, n]) for t in range(T) if mask[t, n]] for n in range(B)]
    if mean == "step":
        return sum(map(sum, step_losses)) / max(sum(map(len, step_losses)), 1)
    if mean == "sequence":
        means = [sum(steps) / len(steps) for steps in step_losses if steps]
        return sum(means) / max(len(means), 1)
    return sum(map(sum, step_losses)) / max(sum(map(bool, step_losses)), 1)


@pytest.mark.parametrize("counting", COUNTS)
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("kind", KINDS)
def test_value_is_that_of_a_plain_loop(kind, mean, counting, x64):
    """Every loss and mean, with lengths, a mask or neither; 0 if no step counts."""
    loss, a, b, plain = make(kind)
    kwargs, mask = COUNTS[counting]
    expected = by_hand(plain, np.asarray(a), np.asarray(b), mask, mean)
    if counting.startswith("none"):
        assert expected == 0
    # accuracy is computed in float32
    np.testing.assert_allclose(loss(a, b, mean=mean, **kwargs), expected, rtol=1e-6 if kind == "accuracy" else 1e-12)


@pytest.mark.parametrize("mean", MEANS)
def test_gradient_of_cross_entropy_is_known(mean, x64):
    """Softmax minus one-hot, times the weight of a step in the mean."""
    loss, logits, labels, _ = make("cross_entropy")
    mask = COUNTS["lengths"][1]
    weight = {"step": 1 / LENGTHS.sum(), "sequence": 1 / 3 / np.maximum(LENGTHS, 1), "time_sum": 1 / 3}[mean]
    expected = (jax.nn.softmax(logits) - jax.nn.one_hot(labels, V, dtype="float64")) * (mask * weight)[..., None]
    gradient = jax.grad(loss)(logits, labels, lengths=LENGTHS, mean=mean)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("counting", ["lengths", "mask"])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_bit(kind, counting):
    """NaN outputs and invalid labels in the padding change neither value nor gradient; its gradient is 0."""
    loss, a, b, _ = make(kind, "float32")
    kwargs, mask = COUNTS[counting]
    feature_mask = mask.reshape(T, B, 1)
    invalid = jnp.asarray(-100 if jnp.issubdtype(b.dtype, jnp.integer) else np.nan, b.dtype)
    dirty = jnp.where(feature_mask, a, np.nan), jnp.where(mask if b.ndim == 2 else feature_mask, b, invalid)
    for mean in MEANS:
        value_and_grad = jax.value_and_grad(lambda a, b, mean=mean: loss(a, b, mean=mean, **kwargs))
        (value, gradient), (clean, gradient_clean) = value_and_grad(*dirty), value_and_grad(a, b)
        assert value == clean
        np.testing.assert_array_equal(gradient, gradient_clean)
        assert not np.any(gradient, where=~feature_mask)


@pytest.mark.parametrize("kind", REAL)
def test_missing_values(kind, x64):
    """A mask of single values: a step has the mean (Bernoulli: the sum) of those observed; NaN elsewhere is nothing."""
    loss, a, b, _ = make(kind)
    observed = np.random.default_rng(3).random((T, B, Q)) < 0.4
    size, rows = a.shape[-1] // Q, T * B * Q
    single = np.asarray(jax.vmap(loss)(a.reshape(rows, 1, 1, size), b.reshape(rows, 1, 1, 1))).reshape(T, B, Q)

    def of_step(losses, observed):
        return sum(losses[observed]) / (1 if kind == "bernoulli" else observed.sum())

    dirty = jnp.where(np.repeat(observed, size, -1), a, np.nan), jnp.where(observed, b, np.nan)
    for mean in MEANS:
        expected = by_hand(of_step, single, observed, observed.any(-1), mean)
        value, gradient = jax.value_and_grad(loss)(*dirty, mask=observed, mean=mean)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_array_equal(gradient != 0, np.repeat(observed, size, -1))
    assert losses.count((T, B), mask=observed) == observed.any(-1).sum() < T * B


@pytest.mark.parametrize("kind", KINDS)
def test_empty_sequences_have_no_gradient(kind):
    """All sequences of length 0, all outputs NaN: value 0, gradient 0."""
    loss, a, b, _ = make(kind, "float32")
    value, gradient = jax.value_and_grad(loss)(jnp.full_like(a, jnp.nan), b, lengths=jnp.zeros(B, int))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("shape", [(0, B), (T, 0)], ids=["no steps", "no sequences"])
@pytest.mark.parametrize("mean", MEANS)
def test_empty_arrays_give_0(shape, mean):
    """Without steps or sequences nothing is divided by 0."""
    assert losses.cross_entropy(jnp.zeros((*shape, V)), jnp.zeros(shape, int), mean=mean) == 0


@pytest.mark.slow
def test_batch_axes_may_be_absent_or_many():
    """No batch axis is equal to a batch of 1, two batch axes to one of their product."""
    loss, a, b, _ = make("cross_entropy", "float32")
    mean = "sequence"
    kwargs = {"lengths": jnp.asarray(LENGTHS), "mean": mean}
    folded = loss(a.reshape(T, 2, 2, V), b.reshape(T, 2, 2), lengths=jnp.asarray(LENGTHS).reshape(2, 2), mean=mean)
    np.testing.assert_allclose(folded, loss(a, b, **kwargs), rtol=1e-6)
    single = loss(a[:, 1], b[:, 1], lengths=jnp.asarray(2), mean=mean)
    np.testing.assert_allclose(single, loss(a[:, 1:2], b[:, 1:2], lengths=jnp.array([2]), mean=mean), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_computed_in_float32(kind):
    """The loss of bfloat16 inputs is that of the same numbers in float32."""
    loss, a, b, _ = make(kind, "bfloat16")
    value = loss(a, b, lengths=LENGTHS)
    wide = b if jnp.issubdtype(b.dtype, jnp.integer) else b.astype("float32")
    assert value.dtype == "float32"
    assert value == loss(a.astype("float32"), wide, lengths=LENGTHS)


def test_half_precision_counts_beyond_256():
    """A mean over 1001 steps in bfloat16, which cannot represent 1001."""
    outputs = jnp.ones((1001, 1, 1), "bfloat16")
    assert losses.squared_error(outputs, jnp.zeros_like(outputs)) == 1


def test_labels_of_few_bits():
    """All 256 labels in uint8."""
    logits, labels = jnp.eye(256)[:, None] * 9, jnp.arange(256, dtype="uint8")[:, None]
    assert losses.accuracy(logits, labels) == 1
    assert losses.cross_entropy(logits, labels) == losses.cross_entropy(logits, labels.astype(int))


@pytest.mark.parametrize(
    ("kind", "wrong", "words"),
    [
        *((kind, label, f"labels: expected labels in [0, {V}), got values from {min(label, 0)} to {max(label, V - 1)}; "
           "mask=labels != -100 passes over those of -100")
          for kind in ("cross_entropy", "accuracy") for label in (-100, V)),
        ("bernoulli", -100.0, "targets: expected 0, 1 or probabilities between, got values from -100.0 to 1.0; "
         "mask= or lengths= passes over steps without one"),
    ],
)  # fmt: skip
def test_invalid_targets(kind, wrong, words):
    """Refused if their values are known; under jit the loss is NaN; a mask excludes them."""
    loss, a, b, _ = make(kind, "float32")
    invalid = b.at[1, 1].set(wrong)
    with pytest.raises(ValueError, match=re.escape(words)):
        loss(a, invalid)
    assert np.isnan(jax.jit(loss)(a, invalid))
    mask = jnp.ones((T, B), bool).at[1, 1].set(False)
    assert loss(a, invalid, mask=mask) == loss(a, b, mask=mask)
    assert np.isfinite(jax.jit(loss)(a, invalid, lengths=jnp.array([5, 1, 5, 5])))


def test_padding_sequences_are_not_counted():
    """Sequences of length 0, or without a True in the mask, do not count in the mean, with any batch axes."""
    for batch, lengths, expected in (((4,), [2, 0, 0, 0], 2), ((2, 2), [[3, 0], [0, 2]], 2.5), ((), 2, 2), ((), 0, 0)):
        logits, labels, lengths = jnp.zeros((3, *batch, 5)), jnp.zeros((3, *batch), int), jnp.asarray(lengths)
        mask = jnp.arange(3).reshape(3, *[1] * len(batch)) < lengths[None]
        for kwargs in ({"lengths": lengths}, {"mask": mask}):
            found = [losses.cross_entropy(logits, labels, mean=mean, **kwargs) / jnp.log(5.0) for mean in MEANS]
            np.testing.assert_allclose(found, [expected > 0, expected > 0, expected], rtol=1e-6)
            number = int((np.asarray(lengths) > 0).sum())
            counts = [int(losses.count(labels.shape, mean=mean, **kwargs)) for mean in MEANS]
            assert counts == [int(np.sum(lengths)), number, number]


@pytest.mark.parametrize("mean", MEANS)
def test_mean_over_batches_weighted_by_count(mean):
    """The losses of parts of a batch, weighted by ``count``, give the loss of the whole batch."""
    loss, a, b, _ = make("cross_entropy", "float32")
    whole, total, weights = loss(a, b, lengths=LENGTHS, mean=mean), 0.0, 0
    for part in (slice(0, 1), slice(1, 3), slice(3, 4)):
        kwargs = {"lengths": LENGTHS[part], "mean": mean}
        weight = int(losses.count(b[:, part].shape, **kwargs))
        total, weights = total + weight * float(loss(a[:, part], b[:, part], **kwargs)), weights + weight
    np.testing.assert_allclose(total / weights, whole, rtol=1e-6)
    assert losses.count((0, B), mean=mean) == 0
    assert losses.count((T, B), mean=mean) == (T * B if mean == "step" else B)


def test_perplexity_and_bits():
    """Four equally likely symbols: perplexity 4, 2 bits."""
    nats = losses.cross_entropy(jnp.zeros((T, B, 4)), jnp.zeros((T, B), int))
    np.testing.assert_allclose(losses.perplexity(nats), 4, rtol=1e-6)
    np.testing.assert_allclose(losses.bits(nats), 2, rtol=1e-6)
    assert losses.bits(jnp.log(8.0)).dtype == "float32"
    np.testing.assert_allclose(losses.bits(1.0), 1.442695, rtol=1e-6)  # a Python number


F, Y = jnp.zeros((T, B, V)), jnp.zeros((T, B), int)
REFUSED = {
    "one-hot labels": (
        lambda: losses.cross_entropy(F, F), TypeError,
        "labels: expected integer labels [5, 4], got float32[5, 4, 6]; argmax(-1) undoes one-hot"),
    "label shape": (
        lambda: losses.cross_entropy(F, Y[:3]), ValueError,
        "labels: expected shape [5, 4], that of the logits without their last axis, got int32[3, 4]"),
    "accuracy labels": (
        lambda: losses.accuracy(F, Y / 2), TypeError,
        "labels: expected integer labels [5, 4], got float32[5, 4]; .astype(int)"),
    "smoothing": (
        lambda: losses.cross_entropy(F, Y, label_smoothing=1.0), ValueError,
        "label_smoothing: expected a number in [0, 1), got 1.0; 0.1 leaves 0.9 to the right label"),
    "smoothing kind": (
        lambda: losses.cross_entropy(F, Y, label_smoothing="0.1"), TypeError,
        "label_smoothing: expected a number, got str 0.1"),
    "mean": (
        lambda: losses.cross_entropy(F, Y, mean="batch"), ValueError,
        "mean: expected one of 'step', 'sequence', 'time_sum', got 'batch'"),
    "lengths and mask": (
        lambda: losses.cross_entropy(F, Y, lengths=jnp.ones(B, int), mask=Y == 0), ValueError,
        "mask: expected lengths or mask, got both; mask the steps past the end yourself"),
    "too long": (
        lambda: losses.squared_error(F, F, lengths=jnp.array([1, 2, 3, 6])), ValueError,
        "lengths: expected values in [0, 5], T = 5, got 1 to 6; a length counts the steps before the padding"),
    "length shape": (
        lambda: losses.bernoulli(F, F, lengths=jnp.ones(T, int)), ValueError,
        "lengths: expected shape [4], the batch axes of the inputs, got int32[5]; one length a sequence"),
    "length kind": (
        lambda: losses.accuracy(F, Y, lengths=jnp.ones(B)), TypeError,
        "lengths: expected an integer array of shape [4], got float32[4]; jnp.asarray(lengths) makes one"),
    "mask kind": (
        lambda: losses.cross_entropy(F, Y, mask=Y), TypeError,
        "mask: expected bool[5, 4], [T, ...], got int32[5, 4]; True marks a step that counts"),
    "mask shape": (
        lambda: losses.squared_error(F, F, mask=(Y == 0).T), ValueError,
        "mask: expected bool[5, 4], [T, ...], got bool[4, 5]; True marks a step that counts"),
    "target kind": (
        lambda: losses.squared_error(F, F.astype(int)), TypeError,
        "targets: expected floating numbers like outputs float32[5, 4, 6], got int32[5, 4, 6]; .astype(float)"),
    "mask of values": (
        lambda: losses.squared_error(F, F, mask=jnp.ones((T, B, 1), bool)), ValueError,
        "mask: expected bool[5, 4, 6], [T, ...], got bool[5, 4, 1]; True marks a step that counts"),
    "delta": (
        lambda: losses.huber(F, F, delta=0), ValueError, "delta: expected a number above 0, got 0"),
    "level": (
        lambda: losses.quantile(F, F, 90), ValueError,
        "levels: expected increasing numbers in (0, 1), got 90; (0.1, 0.5, 0.9) is a median and an interval of 80 %"),
    "outputs of quantiles": (
        lambda: losses.quantile(F, F, (0.1, 0.9)), ValueError,
        "outputs: expected shape [5, 4, 12], 2 for each of the targets [5, 4, 6], got float32[5, 4, 6]; "
        "a readout Linear(hidden, targets * size) makes them"),
    "distribution": (
        lambda: losses.negative_log_likelihood("normal", F, F), TypeError,
        "distribution: expected one with a negative_log_likelihood, got str normal; distributions.Gaussian() has one"),
    "target shape": (
        lambda: losses.bernoulli(F, F[..., :1]), ValueError,
        "targets: expected shape [5, 4, 6], that of logits, got float32[5, 4, 1]"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_argument_expected_got_and_fix(case):
    """The whole message."""
    call, kind, words = REFUSED[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == words
