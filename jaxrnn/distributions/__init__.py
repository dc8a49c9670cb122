r"""Distributions of real values and counts, given by the outputs of a network.

A distribution holds hyperparameters only. Its ``size`` is the number of outputs for each target: ``outputs [..., D ·
size]`` of a readout hold those of D targets one after another. The targets of a step are independent of each other,
given the outputs.

All methods take ``scale``, by default 1: a number ν for each target, ``[..., D]`` or with fewer leading axes. The
distribution is then that of ν y, and for counts that with the mean ν μ (Salinas et al. 2020). Networks whose inputs are
divided by ν need it.

A user's own distribution is any hashable object with ``size``, ``loss``, ``sample``, ``mean`` and ``quantile``.
"""

from jaxrnn.distributions.base import Distribution
from jaxrnn.distributions.counts import NegativeBinomial
from jaxrnn.distributions.free import Point, Quantiles
from jaxrnn.distributions.real import Gaussian, Mixture, StudentT

__all__ = ["Distribution", "Gaussian", "Mixture", "NegativeBinomial", "Point", "Quantiles", "StudentT"]
