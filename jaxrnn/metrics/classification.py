"""Metrics of labels: cross entropy and its relatives, accuracy, and what follows from the counts of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import optax

from jaxrnn import checks
from jaxrnn.metrics.metric import Bound, Metric, check_labels, mean, reals, select, spread, sum_and_count
from jaxrnn.types import Array

Average = Literal["macro", "micro", "weighted"]

# ---- cross entropy ----


def _nats(logits: Array, labels: Array, mask: Array | None) -> dict[str, Array]:
    logits, labels, counted, invalid = _logits_and_labels(logits, labels, mask)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return {**sum_and_count(nats, counted), "invalid": invalid}


def _bits(sums: dict[str, Any]) -> float:
    return mean(sums) / float(np.log(2))


def _perplexity(sums: dict[str, Any]) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(mean(sums)))


cross_entropy = Metric("cross_entropy", "min", _nats, mean)
bits = Metric("bits", "min", _nats, _bits)
perplexity = Metric("perplexity", "min", _nats, _perplexity)


def bits_per_byte(utf8_bytes: int | Sequence[int]) -> Metric:
    r"""Bits per byte of a language model, which compares models with any tokenizers.

    .. math:: \frac{-\sum_i \log \mathrm{softmax}(o_i)_{y_i}}{\log 2 \cdot \text{bytes of the text in UTF-8}}

    Args:
        utf8_bytes: the bytes of each token of the vocabulary, V ints, of which those of the targets are added up;
            ``[len(symbol.encode()) for symbol in vocabulary.symbols]``, with 0 for tokens that are no text. Or one int,
            the bytes of the whole text, for tokens that are no pieces of it; the metric is then that of all batches of
            this text, not of one. Outputs are logits ``[..., V]``, targets ``[...]``.

    Raises:
        TypeError, ValueError: negative numbers, or other than V (when it is used).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn import metrics
        >>> round(metrics.bits_per_byte([1, 2])(jnp.zeros((3, 2)), jnp.array([1, 0, 0])), 4)  # 3 bits for 4 bytes
        0.75

    Source: Gao et al. (2020), "The Pile", section 3.1.
    """
    numbers = np.asarray(utf8_bytes)
    if (numbers.size and numbers.dtype.kind not in "iu") or numbers.ndim > 1:
        checks.refuse("utf8_bytes", "one int, or V of them", checks.describe(utf8_bytes),
                      "[len(symbol.encode()) for symbol in vocabulary.symbols]", TypeError)  # fmt: skip
    single, sizes = numbers.ndim == 0, tuple(numbers.reshape(-1).tolist())
    if not sizes or min(sizes) < 0 or not max(sizes):
        checks.refuse("utf8_bytes", "numbers of at least 0, not all of them 0", checks.describe(utf8_bytes))
    sums = Bound.of(_nats_and_bytes, sizes=None if single else sizes)
    return Metric("bits_per_byte", "min", sums, Bound.of(_bits_per_byte, total=sizes[0] if single else None))


def _nats_and_bytes(
    logits: Array, labels: Array, mask: Array | None, sizes: tuple[int, ...] | None
) -> dict[str, Array]:
    sums = _nats(logits, labels, mask)
    if sizes is None:
        return sums
    if logits.shape[-1] != len(sizes):
        checks.refuse(
            "utf8_bytes", f"{logits.shape[-1]} numbers, one for each logit", len(sizes), "0 for tokens without text"
        )
    _, labels, counted, _ = _logits_and_labels(logits, labels, mask)
    return {**sums, "bytes": select(counted, jnp.asarray(sizes, jnp.int32)[labels]).sum()}


def _bits_per_byte(sums: dict[str, Any], total: int | None) -> float:
    size = sums["bytes"] if total is None else total
    return mean(sums) * int(sums["count"]) / (float(np.log(2)) * int(size)) if size else float("nan")


# ---- accuracy ----


def _correct(outputs: Array, labels: Array, mask: Array | None) -> dict[str, Array]:
    predicted, labels, counted, wrong = predicted_and_labels(outputs, labels, mask, None)
    return {**sum_and_count((predicted == labels).astype(jnp.int32), counted), **wrong}


def _among_best(logits: Array, labels: Array, mask: Array | None, k: int) -> dict[str, Array]:
    logits, labels, counted, invalid = _logits_and_labels(logits, labels, mask)
    classes = logits.shape[-1]
    if k > classes:
        checks.refuse("k", f"at most {classes}, the classes of the outputs", k)
    own = jnp.take_along_axis(logits, labels[..., None], -1)
    # Of equal logits the first is the best, as in argmax
    earlier = jnp.arange(classes, dtype=labels.dtype).reshape((1,) * labels.ndim + (-1,)) < labels[..., None]
    better = (logits > own) | ((logits == own) & earlier)
    nan = jnp.isnan(logits).any(-1) & counted
    hits = (better.sum(-1) < k).astype(jnp.int32)
    return {**sum_and_count(hits, counted), "invalid": invalid, "nan": nan.sum()}


accuracy = Metric("accuracy", "max", _correct, mean)


def top_k(k: int) -> Metric:
    r"""Share of the targets that are among the k most likely labels; of equal logits the first is the most likely.

    .. math:: \frac{1}{n} \sum_i [\,|\{j : o_{ij} > o_{iy_i}\}| < k\,]

    Args:
        k: how many of the best count; outputs are logits ``[..., V]``, targets ``[...]`` ints.

    Raises:
        TypeError, ValueError: k is not an int above 0, or more than V (when it is used).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn import metrics
        >>> metrics.top_k(2)(jnp.array([[1.0, 3, 2], [1, 3, 2]]), jnp.array([2, 0]))
        0.5
    """
    checks.size("k", k)
    return Metric(f"top_{k}_accuracy", "max", Bound.of(_among_best, k=int(k)), mean)


# ---- counts of each class ----


def confusion(classes: int) -> Metric:
    r"""Confusion matrix: an int array ``[C, C]``, a row for each target class, a column for each predicted one.

    .. math:: n_{cd} = |\{i : y_i = c, \hat y_i = d\}|

    Args:
        classes: C. Outputs are logits ``[..., C]``, the largest of which is the prediction, or predicted labels
            ``[...]``, ints.

    Raises:
        TypeError, ValueError: ``classes`` is not an int above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn import metrics
        >>> metrics.confusion(2)(jnp.array([0, 1, 1]), jnp.array([0, 0, 1]))
        array([[1, 1],
               [0, 1]])
    """
    checks.size("classes", classes)
    return Metric("confusion", None, Bound.of(_matrix, classes=int(classes)), _matrix_value)


def precision(classes: int, average: Average | None = "macro") -> Metric:
    r"""Precision: of the predictions of a class, the share that is right; see :func:`f1` for the averages.

    .. math:: P_c = \frac{n_{cc}}{\sum_d n_{dc}}
    """
    return _score("precision", classes, average)


def recall(classes: int, average: Average | None = "macro") -> Metric:
    r"""Recall: of the targets of a class, the share that is found; see :func:`f1` for the averages.

    .. math:: R_c = \frac{n_{cc}}{\sum_d n_{cd}}
    """
    return _score("recall", classes, average)


def f1(classes: int, average: Average | None = "macro") -> Metric:
    r"""F1 score: the harmonic mean of precision and recall.

    .. math:: F_c = \frac{2 P_c R_c}{P_c + R_c} = \frac{2 n_{cc}}{\sum_d n_{cd} + \sum_d n_{dc}}

    with the counts :math:`n` of :func:`confusion`; 0 where a divisor is 0.

    Args:
        classes: C; outputs as in :func:`confusion`.
        average: ``"macro"``, the mean over the classes that occur among targets or predictions; ``"weighted"``, each
            weighted by its number of targets; ``"micro"``, that of all counts together, which is the accuracy; None,
            an array ``[C]`` with a number for each class.

    Raises:
        TypeError, ValueError: ``classes`` is not an int above 0, or another average.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn import metrics
        >>> round(metrics.f1(2)(jnp.array([0, 1, 1]), jnp.array([0, 0, 1])), 4)
        0.6667

    Source: van Rijsbergen (1979), "Information retrieval"; averages as in scikit-learn.
    """
    return _score("f1", classes, average)


def _score(name: str, classes: int, average: Average | None) -> Metric:
    checks.size("classes", classes)
    if average is not None:
        checks.one_of("average", average, ("macro", "micro", "weighted"), also=" or None")
    full = name if average is None else f"{name}_{average}"
    return Metric(
        full, "max", Bound.of(_counts, classes=int(classes)), Bound.of(score_value, name=name, average=average)
    )


def _matrix(outputs: Array, labels: Array, mask: Array | None, classes: int) -> dict[str, Array]:
    predicted, labels, counted, wrong = predicted_and_labels(outputs, labels, mask, classes)
    matrix = jnp.zeros((classes, classes), jnp.int32).at[labels, predicted].add(counted.astype(jnp.int32))
    return {"matrix": matrix, **wrong}


def _matrix_value(sums: dict[str, Any]) -> np.ndarray:
    check_labels(sums)
    return np.full(sums["matrix"].shape, np.nan) if sums["nan"] else sums["matrix"]


def _counts(outputs: Array, labels: Array, mask: Array | None, classes: int) -> dict[str, Array]:
    """The diagonal, the column sums and the row sums of the confusion matrix."""
    predicted, labels, counted, wrong = predicted_and_labels(outputs, labels, mask, classes)

    def of_each_class(index: Array, which: Array) -> Array:
        return jnp.zeros(classes, jnp.int32).at[index].add(which.astype(jnp.int32))

    right = of_each_class(labels, counted & (labels == predicted))
    return {
        "right": right,
        "predicted": of_each_class(predicted, counted),
        "actual": of_each_class(labels, counted),
        **wrong,
    }


def score_value(sums: dict[str, Any], name: str, average: Average | None) -> Any:
    check_labels(sums)
    right, predicted, actual = sums["right"], sums["predicted"], sums["actual"]
    if sums["nan"] or not sums.get("count", actual.sum()):
        return np.nan if average else np.full(actual.shape, np.nan)
    if average == "micro":
        right, predicted, actual = right.sum(), predicted.sum(), actual.sum()
    double_right, divisor = {
        "precision": (right, predicted), "recall": (right, actual), "f1": (2 * right, predicted + actual)
    }[name]  # fmt: skip
    scores = double_right / np.maximum(divisor, 1)
    if average in ("macro", "weighted"):
        weights = actual if average == "weighted" else predicted + actual > 0
        return (weights * scores).sum() / max(weights.sum(), 1)
    return scores


# ---- checks ----


def _labels(labels: Any, shape: tuple[int, ...], what: str) -> Array:
    """Integers of the given shape, in 32 bits or more."""
    checks.integers("targets", labels, f"integer labels {list(shape)}", "argmax(-1) undoes one-hot")
    if tuple(labels.shape) != shape:
        checks.refuse("outputs", f"shape {[*labels.shape, 'V']}, that of the targets and the logits of a label", what,
                      "predict returns an output for each target")  # fmt: skip
    labels = jnp.asarray(labels)
    return labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels


def _logits_and_labels(logits: Any, labels: Any, mask: Array | None) -> tuple[Array, Array, Array, Array]:
    """Logits ``[..., V]``, labels ``[...]`` in [0, V), the mask of this shape, and how many labels were no classes."""
    logits = _floats(logits)
    labels = _labels(labels, tuple(logits.shape[:-1]), checks.describe(logits))
    counted = spread(mask, labels.shape)
    is_label = (labels >= 0) & (labels < logits.shape[-1])
    return logits, select(is_label & counted, labels), counted, (counted & ~is_label).sum()


def _floats(logits: Any) -> Array:
    (logits,) = reals(outputs=logits)
    if logits.ndim == 0:
        checks.refuse(
            "outputs", "logits [..., V]", checks.describe(logits), "predict returns an output for each target"
        )
    return logits


def predicted_and_labels(
    outputs: Any, labels: Any, mask: Array | None, classes: int | None
) -> tuple[Array, Array, Array, dict[str, Array]]:
    """Predicted and target labels ``[...]``, the mask of this shape, and how many are wrong kinds of numbers."""
    if hasattr(outputs, "dtype") and jnp.issubdtype(outputs.dtype, jnp.integer):
        predicted, unknown = _labels(outputs, tuple(outputs.shape), ""), jnp.zeros(outputs.shape, bool)
        labels = _labels(labels, tuple(outputs.shape), checks.describe(outputs))
    else:
        logits = _floats(outputs)
        if classes not in (None, logits.shape[-1]):
            checks.refuse("outputs", f"logits of {classes} classes along the last axis", checks.describe(logits),
                          "classes= is the number of logits")  # fmt: skip
        labels, classes = _labels(labels, tuple(logits.shape[:-1]), checks.describe(logits)), logits.shape[-1]
        predicted, unknown = jnp.argmax(logits, -1), jnp.isnan(logits).any(-1)
    counted = spread(mask, labels.shape)
    predicted = predicted.astype(labels.dtype)
    fits = (labels >= 0) & (predicted >= 0)
    if classes is not None:
        fits = fits & (labels < classes) & (predicted < classes)
    wrong = {"invalid": (counted & ~fits).sum(), "nan": (counted & unknown).sum()}
    use = counted & fits
    return select(use, predicted), select(use, labels), counted, wrong
