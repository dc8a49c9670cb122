"""Plots of the results of :mod:`jaxrnn.gradients` and of the metrics of a run.

Each function draws into ``axes``, or into a new figure, and returns the axes: ``axes.figure.savefig("flow.png")``.
Plots need matplotlib, imported at the first call: ``pip install 'jaxrnn[scripts]'``.
"""

from jaxrnn.plots.drawing import BLUE, COLOURS, DASHES, GREEN, GREY, ORANGE, RED
from jaxrnn.plots.gradients import eigenvalues, fixed_points, flow_by_lag, gate_saturation, singular_values
from jaxrnn.plots.runs import history, loss_curve

__all__ = [
    "BLUE",
    "COLOURS",
    "DASHES",
    "GREEN",
    "GREY",
    "ORANGE",
    "RED",
    "eigenvalues",
    "fixed_points",
    "flow_by_lag",
    "gate_saturation",
    "history",
    "loss_curve",
    "singular_values",
]
