"""Gradients through time: how they flow, vanish and explode, in any model, trained or not; and what its states hold.

What is computed here is drawn by :mod:`jaxrnn.plots`.
"""

from jaxrnn.gradients.components import PrincipalComponents, principal_components
from jaxrnn.gradients.fixed_points import FixedPoints, fixed_points
from jaxrnn.gradients.flow import Sensitivity, gradient_flow, sensitivity, temporal_components, truncation_error
from jaxrnn.gradients.gates import GateStatistics, gate_statistics, gates
from jaxrnn.gradients.jacobians import (
    lyapunov_spectrum,
    product_singular_values,
    spectral_radius,
    step_jacobian,
    trajectory_jacobians,
)
from jaxrnn.gradients.landscape import Landscape, loss_landscape, random_direction
from jaxrnn.gradients.online import Influence, initial_influence, online_step, rtrl
from jaxrnn.gradients.saliency import Saliency, saliency
from jaxrnn.gradients.units import Units, find_units

__all__ = [
    "FixedPoints",
    "GateStatistics",
    "Influence",
    "Landscape",
    "PrincipalComponents",
    "Saliency",
    "Sensitivity",
    "Units",
    "find_units",
    "fixed_points",
    "gate_statistics",
    "gates",
    "gradient_flow",
    "initial_influence",
    "loss_landscape",
    "lyapunov_spectrum",
    "online_step",
    "principal_components",
    "product_singular_values",
    "random_direction",
    "rtrl",
    "saliency",
    "sensitivity",
    "spectral_radius",
    "step_jacobian",
    "temporal_components",
    "trajectory_jacobians",
    "truncation_error",
]
