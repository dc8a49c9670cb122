"""A stack of layers as a module of PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from jaxrnn.checks import refuse


class Sequential(torch.nn.Sequential):
    """An nn.Sequential that passes on the outputs of its nn.RNN, nn.LSTM and nn.GRU, and carries their states.

    ``ys, states = module(xs, states)``: inputs ``[T, B, I]`` (token ids ``[T, B]``) or a PackedSequence of them, and a
    tuple with one state for each recurrent part, ``h_n`` or ``(h_n, c_n)``; without states they are 0.
    """

    def forward(self, xs: Any, state: Any = None) -> tuple[Any, tuple]:
        recurrent = [part for part in self if isinstance(part, torch.nn.RNNBase)]
        states = [None] * len(recurrent) if state is None else state
        if len(states) != len(recurrent):
            refuse("state", f"{len(recurrent)} states, one a recurrent part", len(states))
        before, after = iter(states), []
        for part in self:
            if isinstance(part, torch.nn.RNNBase):
                xs, final = part(xs, next(before))
                after.append(final)
            else:
                xs = xs._replace(data=part(xs.data)) if isinstance(xs, PackedSequence) else part(xs)
        return xs, tuple(after)
