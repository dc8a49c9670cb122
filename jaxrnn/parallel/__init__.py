"""Parallel in time: nonlinear recurrences by Newton's method."""

from jaxrnn.parallel.newton import Newton, newton, unroll_nonlinear

__all__ = ["Newton", "newton", "unroll_nonlinear"]
