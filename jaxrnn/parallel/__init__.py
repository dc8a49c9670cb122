"""Parallel in time: recurrences that are linear in their state."""

from jaxrnn.parallel.linear import linear_recurrence
from jaxrnn.parallel.unrolled import refuse_scan, unroll_linear

__all__ = ["linear_recurrence", "refuse_scan", "unroll_linear"]
