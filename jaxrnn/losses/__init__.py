"""Losses over sequences: a mean over the steps that count, never over padding.

Arrays are time-major, ``[T, ...]``. ``lengths [...]`` or a ``mask [T, ...]`` selects the steps that count. The mean has
to be chosen by name, since published recipes differ in it:

========================  =====================================================================================
``mean="step"``           :math:`Σ ℓ_{tb} / N`, N the number of steps that count: every step has the same weight
``mean="sequence"``       the mean over the steps of each sequence, then over sequences: every sequence weighs the same
``mean="time_sum"``       the sum over time, then the mean over sequences (Zaremba et al. 2014)
========================  =====================================================================================

A sequence without a step that counts is padding of the batch, and is not counted in the divisor of a mean.
:func:`count` returns that divisor; it is the weight of a batch when the losses of several batches are averaged.

Where each sequence has one label, ``[B]``, the fillers of an incomplete batch have the label 0 and would count:
``mask=lengths > 0`` leaves them out. :func:`jaxrnn.data.targets_and_mask` gives the mask of a batch in either case.

Labels outside of the vocabulary, such as the -100 that PyTorch ignores, are refused. ``mask=labels != -100`` excludes
them.

A mask ``[T, ..., q]`` selects single values of vectors, where some are missing: the loss of a step is then that of its
observed values.
"""

from jaxrnn.losses.activations import activation_regularization, temporal_activation_regularization
from jaxrnn.losses.ctc import ctc
from jaxrnn.losses.labels import accuracy, bernoulli, bits, cross_entropy, perplexity
from jaxrnn.losses.reduction import MEANS, count, reduce
from jaxrnn.losses.returns import discounted_returns, generalized_advantages
from jaxrnn.losses.values import absolute_error, huber, negative_log_likelihood, quantile, squared_error

__all__ = [
    "MEANS",
    "absolute_error",
    "accuracy",
    "activation_regularization",
    "bernoulli",
    "bits",
    "count",
    "cross_entropy",
    "ctc",
    "discounted_returns",
    "generalized_advantages",
    "huber",
    "negative_log_likelihood",
    "perplexity",
    "quantile",
    "reduce",
    "squared_error",
    "temporal_activation_regularization",
]
