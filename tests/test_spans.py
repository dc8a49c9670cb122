"""Spans and their F1 against seqeval, for any tags and any split into batches; tags that may follow one another."""

import functools
import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from jaxrnn import metrics
from jaxrnn.data import forbidden_transitions, spans

BIO = ("O", "B-x", "I-x", "B-y", "I-y")
BIOES = ("S-y", "O", "B-x", "I-x", "E-x", "S-x", "B-y", "I-y", "E-y")
NAMES = {"bio": BIO, "bioes": BIOES}
T, B = 7, 3
trying = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def draw(seed, names):
    """Target and predicted tags, of which some are spans that are right, and a mask."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, len(names), (T, B))
    predicted = np.where(rng.random((T, B)) < 0.8, targets, rng.integers(0, len(names), (T, B)))
    return predicted, targets, np.arange(T)[:, None] < rng.integers(0, T + 1, B)


@functools.lru_cache
def compiled(metric):
    """The sums of a metric."""
    return jax.jit(metric.sums)


def words(ids, mask, names):
    """The names of the tags of each sequence."""
    return [[names[tag] for tag in ids[mask[:, b], b]] for b in range(B)]


@trying
@given(st.integers(0, 2**16), st.sampled_from(["bio", "bioes"]), st.booleans())
def test_spans_of_a_sequence(seed, scheme, strict):
    """Those of seqeval."""
    labelling, schemes = (pytest.importorskip(f"seqeval.{name}") for name in ("metrics.sequence_labeling", "scheme"))
    names = NAMES[scheme]
    tags = [names[n] for n in np.random.default_rng(seed).integers(0, len(names), seed % 9)]
    if strict:
        found = schemes.Entities([tags], {"bio": schemes.IOB2, "bioes": schemes.IOBES}[scheme]).entities[0]
        expected = [(entity.tag, entity.start, entity.end) for entity in found]
    else:
        expected = [(kind, start, end + 1) for kind, start, end in labelling.get_entities(tags)]
    assert spans(tags, scheme if strict else None) == expected


@trying
@given(st.integers(0, 2**16), st.sampled_from(["bio", "bioes"]), st.booleans())
def test_counts(seed, scheme, strict):
    """Right, predicted and target spans of each kind are those of sets of spans, added up over batches."""
    names, strict_scheme = NAMES[scheme], scheme if strict else None
    metric, total, counts = metrics.span_f1(names, None, strict_scheme), None, np.zeros((3, 2), int)
    for part in range(2):
        predicted, targets, mask = draw(seed + part, names)
        total = metrics.merge(total, compiled(metric)(predicted, targets, mask))
        pairs = zip(words(predicted, mask, names), words(targets, mask, names), strict=True)
        for found, actual in (({*spans(a, strict_scheme)}, {*spans(b, strict_scheme)}) for a, b in pairs):
            for row, which in enumerate((found & actual, found, actual)):
                for span in which:
                    counts[row, list(dict.fromkeys(name[2:] for name in names if name != "O")).index(span.kind)] += 1
    for name, row in zip(("right", "predicted", "actual"), counts, strict=True):
        np.testing.assert_array_equal(total[name], row)
    np.testing.assert_allclose(metric.value(total), 2 * counts[0] / np.maximum(counts[1] + counts[2], 1), rtol=1e-12)


@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
@pytest.mark.parametrize("scheme", ["bio", "bioes"])
def test_scores(average, scheme):
    """All three scores of seqeval, from ids and from logits."""
    theirs = pytest.importorskip("seqeval.metrics")
    names = NAMES[scheme]
    predicted, targets, mask = draw(4, names)
    logits = np.eye(len(names), dtype="float32")[predicted]
    for metric, score in (
        (metrics.span_f1, theirs.f1_score), (metrics.span_precision, theirs.precision_score),
        (metrics.span_recall, theirs.recall_score),
    ):  # fmt: skip
        with warnings.catch_warnings(action="ignore"):
            expected = score(words(targets, mask, names), words(predicted, mask, names), average=average)
        assert 0.2 < expected < 0.9
        for outputs in (predicted, logits):
            got = metric(names, average)(jnp.asarray(outputs), jnp.asarray(targets), jnp.asarray(mask))
            assert abs(got - expected) < 1e-12


def test_edges():
    """Nothing counts: NaN; no span at all: 0; a NaN output: NaN; a span ends where a step does not count."""
    metric, zeros, none = metrics.span_f1(BIO), jnp.zeros((3, 1), int), jnp.zeros((3, 1), bool)
    assert np.isnan(metric(zeros, zeros, none))
    for average in ("micro", "macro", "weighted"):
        assert metrics.span_f1(BIO, average)(zeros, zeros) == 0
    assert np.isnan(metric(jnp.full((3, 1, 5), jnp.nan), zeros))
    assert metric(jnp.array([1, 2]), jnp.array([1, 2]), jnp.array([True, False])) == 1
    assert metric(jnp.array([1, 0]), jnp.array([1, 2])) == 0
    assert metric == metrics.span_f1(list(BIO)) != metrics.span_f1(BIO, scheme="bio")
    assert [metrics.direction(f"test/{m(BIO).name}") for m in (metrics.span_f1, metrics.span_recall)] == ["max"] * 2
    assert metrics.span_f1(("O",))(zeros, zeros) == 0


@pytest.mark.parametrize("scheme", ["bio", "bioes"])
def test_forbidden_transitions(scheme):
    """A sequence has none of them just if all of its tags but O are in well-formed spans."""
    names = NAMES[scheme]
    forbidden = set(forbidden_transitions(names, scheme))
    for ids in itertools.product(range(len(names)), repeat=3):
        tags = [names[n] for n in ids]
        covered = sum(span.stop - span.start for span in spans(tags, scheme))
        formed = covered == sum(tag != "O" for tag in tags)
        assert formed == (not forbidden & set(itertools.pairwise((None, *ids, None)))), tags


def test_refusals():
    """The whole message."""
    for tags in (["O", "X-x"], ["x"], ["B-"], ["O-x"], [3], "B"):
        refuses("ValueError tags: expected O, or one of B, I, E, S with a kind, such as B-person, got …",
                lambda tags=tags: spans(tags))  # fmt: skip
    refuses("ValueError tags: expected O, or one of B, I with a kind, such as B-person, got 'E-x'; "
            'scheme="bioes" has E and S', lambda: forbidden_transitions(["O", "E-x"]))  # fmt: skip
    refuses("ValueError scheme: expected one of 'bio', 'bioes', got 'iob1'",
            lambda: forbidden_transitions(["O"], "iob1"))  # fmt: skip
    refuses(
        "ValueError scheme: expected one of 'bio', 'bioes' or None, got 'x'", lambda: metrics.span_f1(BIO, scheme="x")
    )
    refuses("ValueError average: expected one of 'macro', …", lambda: metrics.span_f1(BIO, "binary"))
    refuses("ValueError outputs: expected logits of 5 classes …",
            lambda: metrics.span_f1(BIO)(jnp.zeros((2, 3)), jnp.zeros(2, int)))  # fmt: skip
    refuses("ValueError targets: …, got 1 others; …",
            lambda: metrics.span_f1(BIO)(jnp.array([0, 1]), jnp.array([0, 5])))  # fmt: skip
