"""Plots of the results of :mod:`jaxrnn.gradients`, of what a network does along a text, of trials, of forecasts and of
the metrics of a run.

Each function draws into ``axes``, or into a new figure, and returns the axes: ``axes.figure.savefig("flow.png")``; a
coloured text alone is HTML, ``text(...).save("unit.html")``. Plots need matplotlib, imported at the first call: ``pip
install 'jaxrnn[scripts]'``.
"""

from jaxrnn.plots.coloured_text import Text, text
from jaxrnn.plots.drawing import BLUE, COLOURS, DASHES, GREEN, GREY, ORANGE, RED
from jaxrnn.plots.dynamics import connectivity, eigenvalues, fixed_points, trajectories
from jaxrnn.plots.forecasts import forecast
from jaxrnn.plots.gradients import flow_by_lag, gate_saturation, loss_landscape, singular_values
from jaxrnn.plots.runs import history, loss_curve
from jaxrnn.plots.tokens import activations, attention, saliency, units
from jaxrnn.plots.trials import psychometric, trial

__all__ = [
    "BLUE",
    "COLOURS",
    "DASHES",
    "GREEN",
    "GREY",
    "ORANGE",
    "RED",
    "Text",
    "activations",
    "attention",
    "connectivity",
    "eigenvalues",
    "fixed_points",
    "flow_by_lag",
    "forecast",
    "gate_saturation",
    "history",
    "loss_curve",
    "loss_landscape",
    "psychometric",
    "saliency",
    "singular_values",
    "text",
    "trajectories",
    "trial",
    "units",
]
