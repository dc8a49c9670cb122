"""Checks of models to be converted. The form of messages is that of jaxrnn.checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxrnn.checks import refuse

ONE_SETTING = "a PyTorch module has one setting for all its layers"


def counterpart(place: str, cell: Any, first_place: str, first: Any, layouts: Mapping[type, Any]) -> None:
    """A cell that PyTorch has, with the same kind and options as the first one of the model."""
    if type(cell) not in layouts:
        refuse(place, "a VanillaRNN, LSTM or GRU, a Bidirectional of them, or a Stack of these", repr(cell),
                      "a recurrent module of PyTorch holds nothing else: convert other parts by themselves",
                      TypeError)  # fmt: skip
    if type(cell) is not type(first):
        refuse(place, f"{type(first).__name__}, the kind of {first_place}", repr(cell), ONE_SETTING, TypeError)
    layout = layouts[type(cell)]
    for name, values in layout.options.items():
        value = getattr(cell, name)
        if value not in values:
            refuse(f"{place}.{name}", " or ".join(map(repr, values)), repr(value), layout.reason)
    for name in ("hidden_size", "use_bias", *layout.options):
        value, expected = getattr(cell, name), getattr(first, name)
        if value != expected:
            refuse(f"{place}.{name}", f"{expected!r}, that of {first_place}", repr(value), ONE_SETTING)
