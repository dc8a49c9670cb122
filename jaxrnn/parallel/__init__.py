"""Parallel in time: recurrences that are linear in their state, and Newton's method for the others."""

from jaxrnn.parallel.linear import linear_recurrence
from jaxrnn.parallel.newton import Newton, newton, unroll_nonlinear
from jaxrnn.parallel.unrolled import unroll_linear

__all__ = ["Newton", "linear_recurrence", "newton", "unroll_linear", "unroll_nonlinear"]
