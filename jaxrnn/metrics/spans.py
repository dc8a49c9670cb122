"""Metrics of spans, such as named entities, that are given as one tag a step: right is what is right as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.data.tags import LETTERS, split_tags
from jaxrnn.metrics.classification import Average, predicted_and_labels, score_value
from jaxrnn.metrics.metric import Bound, Metric
from jaxrnn.types import Array


def span_f1(tags: Sequence[str], average: Average | None = "micro", scheme: str | None = None) -> Metric:
    r"""F1 score of spans: those with the right start, end and kind, among those predicted and those in the targets.

    .. math:: F = \frac{2 |S ∩ \hat S|}{|S| + |\hat S|}

    Of a sequence of tags :func:`jaxrnn.data.spans` has the spans. Steps that do not count are outside of all spans.

    Args:
        tags: the names of the V tags in the order of their ids, such as ``("O", "B-person", "I-person")``. Outputs are
            logits ``[T, ..., V]``, or predicted tags ``[T, ...]``, ints; targets ``[T, ...]``.
        average: over the kinds of spans, as in :func:`f1`; None: an array, the kinds in the order of their first tags.
        scheme: None counts spans as the CoNLL evaluation does; ``"bio"`` and ``"bioes"`` only well-formed ones.

    Raises:
        TypeError, ValueError: a tag that is no tag of the scheme; another average or scheme.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn import metrics
        >>> targets, predicted = jnp.array([1, 2, 0, 1]), jnp.array([1, 2, 0, 0])  # one of two spans is found
        >>> round(metrics.span_f1(("O", "B-person", "I-person"))(predicted, targets), 4)
        0.6667

    Source: Tjong Kim Sang & De Meulder (2003), "Introduction to the CoNLL-2003 shared task".
    """
    return _score("f1", tags, average, scheme)


def span_precision(tags: Sequence[str], average: Average | None = "micro", scheme: str | None = None) -> Metric:
    """Precision of spans: of those predicted, the share that is right; arguments of :func:`span_f1`."""
    return _score("precision", tags, average, scheme)


def span_recall(tags: Sequence[str], average: Average | None = "micro", scheme: str | None = None) -> Metric:
    """Recall of spans: of those in the targets, the share that is found; arguments of :func:`span_f1`."""
    return _score("recall", tags, average, scheme)


def _score(name: str, tags: Sequence[str], average: Average | None, scheme: str | None) -> Metric:
    split_tags("tags", tags, scheme)
    if average is not None:
        checks.one_of("average", average, ("macro", "micro", "weighted"), also=" or None")
    full = f"span_{name}" if average is None else f"span_{name}_{average}"
    sums = Bound.of(_counts, tags=tuple(tags), scheme=scheme)
    return Metric(full, "max", sums, Bound.of(score_value, name=name, average=average))


def _counts(
    outputs: Array, targets: Array, mask: Array | None, tags: tuple[str, ...], scheme: str | None
) -> dict[str, Array]:
    """For each kind the spans that are right, those predicted, and those of the targets."""
    predicted, targets, counted, wrong = predicted_and_labels(outputs, targets, mask, len(tags))
    found, start, stop = _spans(predicted, counted, tags, scheme)
    actual, start_of_target, stop_of_target = _spans(targets, counted, tags, scheme)
    right = start & start_of_target & (found == actual) & (stop == stop_of_target)
    kinds = max(len({kind for _, kind in split_tags("tags", tags)} - {""}), 1)

    def of_each_kind(kind: Array, which: Array) -> Array:
        return jnp.zeros(kinds, jnp.int32).at[kind].add(which.astype(jnp.int32))

    return {
        "right": of_each_kind(actual, right),
        "predicted": of_each_kind(found, start),
        "actual": of_each_kind(actual, start_of_target),
        "count": counted.sum(),
        **wrong,
    }


def _spans(ids: Array, counted: Array, tags: tuple[str, ...], scheme: str | None) -> tuple[Array, Array, Array]:
    """Of each step its kind, whether a span starts there, and the last step of that span, all ``[T, ...]``."""
    letters, kinds = zip(*split_tags("tags", tags), strict=True)
    number = {kind: n for n, kind in enumerate(dict.fromkeys(kind for kind in kinds if kind))}
    kind = jnp.asarray([number.get(kind, 0) for kind in kinds], jnp.int32)[ids]

    def has(some: str) -> Array:
        return jnp.asarray(np.isin(letters, [*some]))[ids] & counted

    links = has("BI")[:-1] & has("IE")[1:] & (kind[:-1] == kind[1:])  # a step continues the step before
    edge = jnp.zeros((1, *ids.shape[1:]), bool)
    start = has(LETTERS["bioes"][1:]) & ~jnp.concatenate([edge, links])
    ends = ~jnp.concatenate([links, edge])
    steps = jnp.arange(len(ids), dtype=jnp.int32).reshape(-1, *[1] * (ids.ndim - 1))
    stop = jax.lax.cummin(jnp.where(ends, steps, len(ids)), axis=0, reverse=True)
    if scheme is not None:
        start &= has("BS")
    if scheme == "bioes":
        start &= jnp.take_along_axis(has("ES"), stop, 0)
    return kind, start, stop
