"""Parallel in time: recurrences that are linear in their state."""

from jaxrnn.parallel.linear import linear_recurrence

__all__ = ["linear_recurrence"]
