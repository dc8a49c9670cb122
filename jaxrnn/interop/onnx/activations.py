"""The activation functions of ONNX by their names there."""

from __future__ import annotations

from typing import Any

import jax

from jaxrnn.activations import Affine, Elu, HardSigmoid, LeakyRelu, ScaledTanh, ThresholdedRelu

NAMES: dict[str, Any] = {  # of ONNX, and what they are here
    "Tanh": "tanh",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Softsign": jax.nn.soft_sign,
    "Softplus": jax.nn.softplus,
}
SCALED = {kind.__name__: kind for kind in (Affine, LeakyRelu, ThresholdedRelu, ScaledTanh, HardSigmoid, Elu)}
