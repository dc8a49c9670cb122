r"""Metrics: sums over the targets that count, added up over batches, and the value of the total.

Targets ``y`` have the axes ``[...]``, n of them count. A mask over their leading axes tells which
(:func:`jaxrnn.data.targets_and_mask`); what it leaves out may hold anything, NaN included.

======================  ====  ==================================================================  ======================
metric                  best  value                                                               outputs
======================  ====  ==================================================================  ======================
``cross_entropy``       min   :math:`L = -\frac1n \sum \log\mathrm{softmax}(o)_y`, nats           logits ``[..., V]``
``bits``                min   :math:`L / \log 2`                                                  logits ``[..., V]``
:func:`bits_per_byte`   min   :math:`n L / (\log 2 · \mathrm{bytes})`, of the text in UTF-8       logits ``[..., V]``
``perplexity``          min   :math:`e^L`                                                         logits ``[..., V]``
``accuracy``            max   :math:`\frac1n \sum [\arg\max o = y]`                               logits, or labels [1]_
:func:`top_k`           max   share of the targets among the k best                               logits ``[..., V]``
:func:`f1`              max   :math:`2PR / (P + R)`                                               logits, or labels [1]_
:func:`precision`       max   P: of what is predicted as a class, the right share                 logits, or labels [1]_
:func:`recall`          max   R: of a class, the share that is found                              logits, or labels [1]_
:func:`span_f1`         max   F1 of spans such as named entities; also ``span_precision``, …      logits, or labels [1]_
:func:`confusion`       –     counts ``[C, C]``: rows targets, columns predictions                logits, or labels [1]_
``mse``                 min   :math:`\frac1n \sum (o - y)^2`; also named ``squared_error``        ``[...]`` [5]_
``rmse``                min   :math:`\sqrt{\mathrm{mse}}`                                         ``[...]`` [5]_
``mae``                 min   :math:`\frac1n \sum |o - y|`                                        ``[...]`` [5]_
``mape``                min   :math:`\frac1n \sum |o - y| / \max(|y|, ε)`, a fraction [2]_        ``[...]`` [5]_
``smape``               min   :math:`\frac1n \sum 2|o - y| / (|o| + |y|)`, from 0 to 2 [3]_       ``[...]`` [5]_
:func:`quantile_loss`   min   pinball loss, the mean over levels                                  ``[..., Q]``
``crps``                min   :math:`\frac1n \sum (E|X - y| - \frac12 E|X - X'|)` [4]_            samples ``[S, ...]``
:func:`coverage`        –     share of the targets in the central interval                        samples ``[S, ...]``
:func:`interval_score`  min   width of the central interval and what the targets lie outside      samples ``[S, ...]``
======================  ====  ==================================================================  ======================

.. [1] Logits ``[..., V]``, of which the first largest one is the prediction; or predicted labels ``[...]``, ints.
.. [2] ε is the spacing of float64 numbers at 1, as in scikit-learn.
.. [3] 0 where both are 0. Makridakis et al. (2020), "The M4 competition", which takes it times 100.
.. [4] Continuous ranked probability score, by the fair estimator from S ≥ 2 samples, unbiased for any S:
   :math:`E|X - X'| ≈ \sum_{i≠j} |x_i - x_j| / (S (S - 1))`, computed by sorting. Gneiting & Raftery (2007), "Strictly
   proper scoring rules, prediction, and estimation"; Ferro (2014), "Fair scores for ensemble forecasts".
.. [5] Also ``[..., 1]``, the output of a readout of one number.

The value is NaN if nothing counts, or if an output that counts is NaN. A label that is no class is refused.
"""

from jaxrnn.metrics.classification import (
    accuracy,
    bits,
    bits_per_byte,
    confusion,
    cross_entropy,
    f1,
    perplexity,
    precision,
    recall,
    top_k,
)
from jaxrnn.metrics.directions import DIRECTIONS, direction
from jaxrnn.metrics.metric import Metric, merge
from jaxrnn.metrics.regression import mae, mape, mse, quantile_loss, rmse, smape, squared_error
from jaxrnn.metrics.samples import coverage, crps, interval_score
from jaxrnn.metrics.spans import span_f1, span_precision, span_recall

__all__ = [
    "DIRECTIONS",
    "Metric",
    "accuracy",
    "bits",
    "bits_per_byte",
    "confusion",
    "coverage",
    "cross_entropy",
    "crps",
    "direction",
    "f1",
    "interval_score",
    "mae",
    "mape",
    "merge",
    "mse",
    "perplexity",
    "precision",
    "quantile_loss",
    "recall",
    "rmse",
    "smape",
    "span_f1",
    "span_precision",
    "span_recall",
    "squared_error",
    "top_k",
]
