"""Gradients through time: how they flow, vanish and explode, in any model, trained or not."""

from jaxrnn.gradients.fixed_points import FixedPoints, fixed_points
from jaxrnn.gradients.flow import Gain, gain, gradient_flow, gradient_parts, truncation_error
from jaxrnn.gradients.gates import GateStatistics, gate_statistics
from jaxrnn.gradients.jacobians import (
    lyapunov_spectrum,
    product_singular_values,
    spectral_radius,
    step_jacobian,
    trajectory_jacobians,
)
from jaxrnn.gradients.online import Influence, first_influence, online_step, rtrl

__all__ = [
    "FixedPoints",
    "Gain",
    "GateStatistics",
    "Influence",
    "first_influence",
    "fixed_points",
    "gain",
    "gate_statistics",
    "gradient_flow",
    "gradient_parts",
    "lyapunov_spectrum",
    "online_step",
    "product_singular_values",
    "rtrl",
    "spectral_radius",
    "step_jacobian",
    "trajectory_jacobians",
    "truncation_error",
]
