"""Gradients through time: how they flow, vanish and explode, in any model, trained or not."""

from jaxrnn.gradients.fixed_points import FixedPoints, fixed_points
from jaxrnn.gradients.flow import Sensitivity, gradient_flow, sensitivity, temporal_components, truncation_error
from jaxrnn.gradients.gates import GateStatistics, gate_statistics
from jaxrnn.gradients.jacobians import (
    lyapunov_spectrum,
    product_singular_values,
    spectral_radius,
    step_jacobian,
    trajectory_jacobians,
)
from jaxrnn.gradients.online import Influence, initial_influence, online_step, rtrl

__all__ = [
    "FixedPoints",
    "GateStatistics",
    "Influence",
    "Sensitivity",
    "fixed_points",
    "gate_statistics",
    "gradient_flow",
    "initial_influence",
    "lyapunov_spectrum",
    "online_step",
    "product_singular_values",
    "rtrl",
    "sensitivity",
    "spectral_radius",
    "step_jacobian",
    "temporal_components",
    "trajectory_jacobians",
    "truncation_error",
]
