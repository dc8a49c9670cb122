"""CTC, the loss and its decoders, against all alignments; the loss against PyTorch too."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses
from versions import enable_x64

from jaxrnn import decoding, learning, losses
from jaxrnn.data import PairBatch

V, T = 3, 4


def draw(seed=0, steps=T, batch=(), V=V):
    """Logits in float64."""
    return np.random.default_rng(seed).normal(0, 1.5, (steps, *batch, V))


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def collapse(path, blank):
    """Without repetitions, then without blanks."""
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def every_labelling(logits, blank):
    """The probability of every sequence of labels, the sum over all of its alignments; logits ``[n, V]``."""
    p, found = np.exp(log_softmax(logits)), collections.Counter()
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        found[collapse(path, blank)] += np.prod([row[label] for row, label in zip(p, path, strict=True)])
    return found


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("blank", [0, 2])
def test_all_alignments(blank):
    """The loss of every sequence of labels that fits, one of no labels included; together they are certain."""
    logits = draw()
    found = every_labelling(logits, blank)
    labels = np.full((T, len(found)), 7)
    for n, path in enumerate(found):
        labels[: len(path), n] = path
    lengths = np.array([len(path) for path in found])
    each = jnp.broadcast_to(logits[:, None], (T, len(found), V))
    one = jax.vmap(lambda o, y, n: losses.ctc(o, y, label_lengths=n, blank=blank, mean="time_sum"), (1, 1, 0))
    got = jax.jit(one)(each, labels, lengths)
    np.testing.assert_allclose(got, -np.log(list(found.values())), rtol=0, atol=1e-10)
    assert abs(np.exp(-got).sum() - 1) < 1e-10


@jax.jit
def values_and_gradients(logits, labels, lengths, label_lengths):
    """With each mean."""
    return {
        mean: jax.value_and_grad(losses.ctc)(logits, labels, lengths=lengths, label_lengths=label_lengths, mean=mean)
        for mean in losses.MEANS
    }


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_a_batch_with_lengths(data):
    """Means, fillers, padding that holds anything, against all alignments; the gradient in the padding is 0."""
    B, most = 3, 3
    lengths = np.array([T, *data.draw(st.tuples(*[st.integers(0, T)] * 2))])
    logits = draw(data.draw(st.integers(0, 99)), batch=(B,))
    labels, label_lengths, nats = np.full((most, B), -100), np.zeros(B, int), np.zeros(B)
    for b, n in enumerate(lengths):
        found = every_labelling(logits[:n, b], 0)
        path = data.draw(st.sampled_from(sorted(path for path in found if len(path) <= most)))
        labels[: len(path), b], label_lengths[b], nats[b] = path, len(path), -np.log(found[path])
    dirty = np.where((np.arange(T)[:, None] < lengths)[..., None], logits, np.nan)
    counted = lengths > 0
    expected = {
        "step": nats.sum() / max(label_lengths.sum(), 1),
        "sequence": (nats / np.maximum(label_lengths, 1)).sum() / counted.sum(),
        "time_sum": nats.sum() / counted.sum(),
    }
    with enable_x64(True):
        found = values_and_gradients(dirty, labels, lengths, label_lengths)
        for mean, value in expected.items():
            got, gradient = found[mean]
            np.testing.assert_allclose(got, value, rtol=0, atol=1e-10)
            assert np.all(np.isfinite(gradient))
            assert not np.any(np.asarray(gradient)[np.isnan(dirty)])


@pytest.mark.parametrize("mean", ["sequence", "time_sum"])
def test_torch(mean):
    """Value and gradient of PyTorch, of which ``"sequence"`` is the default mean."""
    torch = pytest.importorskip("torch")
    rng, steps, B, most, V = np.random.default_rng(0), 20, 5, 6, 8
    logits, labels = rng.normal(0, 2, (steps, B, V)).astype("float32"), rng.integers(1, V, (most, B))
    lengths, label_lengths = np.array([20, 18, 13, 20, 15]), np.array([6, 4, 1, 5, 6])
    theirs = torch.tensor(logits, requires_grad=True)
    reduction = {"sequence": "mean", "time_sum": "sum"}[mean]
    value = torch.nn.functional.ctc_loss(
        theirs.log_softmax(-1), torch.tensor(labels.T), torch.tensor(lengths), torch.tensor(label_lengths),
        reduction=reduction,
    )  # fmt: skip
    value = value / (B if mean == "time_sum" else 1)
    value.backward()
    got, gradient = values_and_gradients(logits, labels, lengths, label_lengths)[mean]
    np.testing.assert_allclose(got, value.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_what_has_no_alignment():
    """Refused where the values are known, else +∞ with a gradient of 0; labels that are none are NaN."""
    logits, labels = jnp.zeros((3, 2, 4)), np.array([[1, 2], [1, 3], [2, 1]])
    refuses("ValueError labels: expected at most 3 steps for them, the length of the sequence, got 4; "
            "equal neighbours need a blank between them; fewer labels, or more steps",
            lambda: losses.ctc(logits, labels))  # fmt: skip
    value, gradient = jax.jit(jax.value_and_grad(losses.ctc))(logits, labels)
    assert value == np.inf
    assert not np.any(gradient[:, 0])
    assert np.any(gradient[:, 1])
    one = jax.jit(losses.ctc)
    assert all(np.isnan(one(logits, np.array([[1, wrong]]))) for wrong in (0, 4, -1))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("blank", [0, 2])
def test_decoders(blank):
    """Greedy: the labels of the best path. A wide beam: every sequence of labels and its probability, in order."""
    logits, lengths = draw(5, batch=(2, 2)), np.array([[T, 2], [1, 0]])
    width = len(every_labelling(logits[:, 0, 0], blank)) + 3
    greedy, beams = jax.jit(
        lambda logits: (
            decoding.ctc_greedy(logits, lengths=lengths, blank=blank),
            decoding.ctc_beam_search(logits, width=width, lengths=lengths, blank=blank, n_best=width),
        )
    )(logits)
    greedy, beams = jax.tree.map(np.asarray, (greedy, beams))
    for b in np.ndindex(2, 2):
        rows, most = log_softmax(logits[:, *b][: lengths[b]]), greedy.labels[:, *b]
        path = collapse(rows.argmax(-1), blank)
        assert (*most[: greedy.lengths[b]],) == path
        assert np.all(most[greedy.lengths[b] :] == blank)
        np.testing.assert_allclose(greedy.log_probabilities[b], rows.max(-1, initial=-np.inf).sum(), atol=1e-10)
        found = every_labelling(rows, blank).most_common()
        for n, (path, p) in enumerate(found):
            assert (*beams.labels[: beams.lengths[n, *b], n, *b],) == path
            np.testing.assert_allclose(beams.log_probabilities[n, *b], np.log(p), rtol=0, atol=1e-10)
        assert np.all(beams.log_probabilities[len(found) :, *b] == -np.inf)


def plain_beam_search(logits, width):
    """Prefixes in a dictionary, the blank 0."""
    beam = {(): (1.0, 0.0)}
    for p in np.exp(log_softmax(logits)):
        new = collections.defaultdict(lambda: [0.0, 0.0])
        for prefix, (blank, label) in beam.items():
            new[prefix][0] += (blank + label) * p[0]
            if prefix:
                new[prefix][1] += label * p[prefix[-1]]
            for c in range(1, len(p)):
                new[*prefix, c][1] += (blank if prefix[-1:] == (c,) else blank + label) * p[c]
        beam = dict(sorted(new.items(), key=lambda item: -sum(item[1]))[:width])
    return {prefix: sum(both) for prefix, both in beam.items()}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("width", [1, 3])
def test_a_narrow_beam(width):
    """Prefixes and probabilities of a plain search that keeps them in a dictionary; without batch axes."""
    search = jax.jit(lambda logits: decoding.ctc_beam_search(logits, width=width, n_best=width))
    for seed in range(4):
        logits = draw(seed, 12, (), 4)
        found = jax.tree.map(np.asarray, search(logits))
        for n, (path, p) in enumerate(plain_beam_search(logits, width).items()):
            assert (*found.labels[: found.lengths[n], n],) == path
            np.testing.assert_allclose(found.log_probabilities[n], np.log(p), rtol=0, atol=1e-10)


def test_ready_loss():
    """That of the logits of an unroll, weighted by its labels."""
    import jaxrnn as rnn

    model = rnn.Linear(2, 4)
    params, rng = model.init(jax.random.key(0)), np.random.default_rng(0)
    lengths, label_lengths = np.array([6, 3, 0]), np.array([2, 1, 0])
    batch = PairBatch(rng.normal(size=(6, 3, 2)).astype("float32"), rng.integers(0, 3, (2, 3)), lengths, label_lengths)

    @jax.jit
    def both(params):
        logits = rnn.unroll(model, params, batch.inputs, lengths=lengths)[1]
        return (
            learning.ctc_loss(model, blank=3)(params, batch, None),
            losses.ctc(logits, batch.targets, lengths=lengths, label_lengths=label_lengths, blank=3),
        )

    (value, reported), expected = both(params)
    assert value == expected
    assert reported == {"count": 3}


def test_refusals():
    """The whole message."""
    logits, labels = jnp.zeros((5, 2, 4)), np.ones((2, 2), int)
    refuses("TypeError logits: expected floating numbers [T, ..., V], got int32[5, 2]; .astype(float)",
            lambda: losses.ctc(jnp.zeros((5, 2), jnp.int32), labels))  # fmt: skip
    refuses("ValueError logits: expected [T, ..., V], at least one step, got float32[0, 2, 4]; time goes first",
            lambda: decoding.ctc_greedy(logits[:0]))  # fmt: skip
    refuses("TypeError blank: expected an int, the id of the blank, got str -",
            lambda: losses.ctc(logits, labels, blank="-"))  # fmt: skip
    refuses("ValueError blank: expected an id in [0, 4), got 4; the blank is one of the V",
            lambda: decoding.ctc_beam_search(logits, width=2, blank=4))  # fmt: skip
    refuses("TypeError labels: expected integer labels [S, 2], got float64[2, 2]; …",
            lambda: losses.ctc(logits, labels / 1))  # fmt: skip
    refuses("ValueError labels: expected [S, 2], the batch axes of the logits, S above 0, got int64[2]; …",
            lambda: losses.ctc(logits, labels[0]))  # fmt: skip
    refuses("ValueError labels: expected labels in [0, 4), got values from 5 to 5; …",
            lambda: losses.ctc(logits, labels + 4))  # fmt: skip
    refuses("ValueError labels: expected labels other than the blank, 1, got the blank; blank= chooses another id",
            lambda: losses.ctc(logits, labels, blank=1))  # fmt: skip
    refuses("ValueError label_lengths: expected values in [0, 2], …",
            lambda: losses.ctc(logits, labels, label_lengths=np.array([3, 1])))  # fmt: skip
    refuses("ValueError n_best: expected at most 2, got 3; …",
            lambda: decoding.ctc_beam_search(logits, width=2, n_best=3))  # fmt: skip
    refuses(
        "ValueError mean: expected one of …",
        lambda: jax.eval_shape(lambda o: losses.ctc(o, labels[:1], mean="labels"), logits),
    )
