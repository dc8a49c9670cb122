"""Parallel in time: nonlinear recurrences by Newton's method."""
