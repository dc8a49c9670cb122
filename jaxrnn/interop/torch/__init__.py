"""Models and parameters from PyTorch and to PyTorch: exact, or refused with the reason.

==============================  ==================================================================================
nn.RNN, nn.LSTM, nn.GRU         :class:`~jaxrnn.VanillaRNN`, :class:`~jaxrnn.LSTM`, ``GRU(reset_after=True)``; several
                                layers in a :class:`~jaxrnn.Stack` with :class:`~jaxrnn.Dropout` between them, two
                                directions in a concatenating :class:`~jaxrnn.Bidirectional`
nn.Embedding, nn.Linear         :class:`~jaxrnn.Embedding`, :class:`~jaxrnn.Linear`
nn.Dropout, nn.Tanh, …          :class:`~jaxrnn.Dropout`, :class:`~jaxrnn.Activation`
nn.Sequential, a list of these  :class:`~jaxrnn.Stack`
==============================  ==================================================================================

In the other direction a stack that is not one nn.LSTM becomes a ``Sequential`` of this module, an nn.Sequential that
carries the states of its recurrent parts.
"""

from typing import Any

from jaxrnn.interop.torch.modules import from_module, to_module
from jaxrnn.interop.torch.state_dicts import LAYOUTS, from_state_dict, to_state_dict, torch_library
from jaxrnn.interop.torch.states import from_state, to_state

__all__ = [
    "LAYOUTS",
    "Sequential",
    "from_module",
    "from_state",
    "from_state_dict",
    "to_module",
    "to_state",
    "to_state_dict",
]

state_from_torch, state_to_torch = from_state, to_state  # their older names


def __getattr__(name: str) -> Any:
    if name == "Sequential":
        torch_library()
        from jaxrnn.interop.bridges.torch import Sequential

        return Sequential
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
