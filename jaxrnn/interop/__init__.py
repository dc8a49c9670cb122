"""Other libraries' layouts to ours and back: exact, or refused with the reason. Nothing heavy is imported here."""

from jaxrnn.interop import torch

__all__ = ["torch"]
