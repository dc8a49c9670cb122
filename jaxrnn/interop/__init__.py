"""Conversion of parameters to and from other libraries: exact, or refused. Those are imported on first use."""

from jaxrnn.interop import torch

__all__ = ["torch"]
