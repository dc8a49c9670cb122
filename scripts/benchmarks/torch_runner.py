"""PyTorch's nn.LSTM, nn.GRU and nn.RNN under the same measures, in a process without JAX."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import cases, layouts
from benchmarks.cases import Case, Refused

LEARNING_RATE = 1e-3
MISSING = {"lstm-peephole": "no peepholes", "gru": "its GRU resets after the product"}
KINDS = {"vanilla": "RNN", "lstm": "LSTM", "gru-after": "GRU"}


def threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Runner:
    """One case in PyTorch."""

    def __init__(self, case: Case, device: str) -> None:
        if case.kind in MISSING:
            raise Refused(MISSING[case.kind])
        self.case, self.device = case, device
        self.dtype = getattr(torch, case.dtype)
        self.weights = [{k: self._tensor(v).requires_grad_() for k, v in part.items()} for part in cases.weights(case)]
        self.loaded = [layouts.torch(case.kind, part, lambda parts: torch.cat(parts, -1)) for part in self.weights]
        self.module = getattr(torch.nn, KINDS[case.kind])(
            case.inputs, case.hidden, num_layers=case.layers, bidirectional=case.directions == 2,
            device=device, dtype=self.dtype,
        )  # fmt: skip
        self.params = list(self.module.parameters())  # by layer, then by direction, as the weights
        with torch.no_grad():
            for param, value in zip(self.params, itertools.chain(*self.loaded), strict=True):
                param.copy_(value)
        self.xs = self._tensor(cases.inputs(case))

    def _tensor(self, a: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(a).to(self.device, self.dtype)

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def loss(self, xs: torch.Tensor) -> torch.Tensor:
        """Mean of the squares of all outputs."""
        return self.module(xs)[0].float().square().mean()

    def gradient(self) -> tuple[torch.Tensor, ...]:
        """By the inputs, then by the module's own parameters."""
        xs = self.xs.detach().requires_grad_()
        return torch.autograd.grad(self.loss(xs), [xs, *self.params])

    def call(self, measure: str) -> Callable[[], Any]:
        """One blocking call of what is timed."""

        def forward() -> None:
            with torch.inference_mode():
                self.module(self.xs)
            self._wait()

        def gradient() -> None:
            self.gradient()
            self._wait()

        if measure == "step":
            return self._train()
        if measure == "decode":
            return self._decode()
        return {"forward": forward, "gradient": gradient}[measure]

    def _train(self) -> Callable[[], None]:
        optimizer = torch.optim.Adam(self.params, LEARNING_RATE, fused=True)  # its fastest form

        def call() -> None:
            optimizer.zero_grad()
            self.loss(self.xs).backward()
            optimizer.step()
            self._wait()

        return call

    def _decode(self) -> Callable[[], list[torch.Tensor]]:
        """A Python loop over nn.LSTMCell or the like that feeds each output back; returns the outputs."""
        if len(self.loaded) > 1:
            raise Refused("one layer and one direction are decoded")
        cell = getattr(torch.nn, KINDS[self.case.kind] + "Cell")
        cell = cell(self.case.inputs, self.case.hidden, device=self.device, dtype=self.dtype)
        with torch.no_grad():
            for param, value in zip(cell.parameters(), self.loaded[0], strict=True):
                param.copy_(value)
        pair = self.case.kind == "lstm"

        @torch.inference_mode()
        def call() -> list[torch.Tensor]:
            x, state, ys = self.xs[0], None, []
            for _ in range(self.case.steps):
                state = cell(x, state)
                x = state[0] if pair else state
                ys.append(x)
            self._wait()
            return ys

        return call

    def check(self, measures: list[str]) -> dict[str, np.ndarray]:
        """What a measure computes: outputs ``[T, B, H]``, gradients by the weights of the case and by the inputs."""
        found = {}
        if "decode" in measures:
            found["decoded outputs"] = torch.stack(self._decode()())
        if {"forward", "gradient", "step"} & set(measures):
            with torch.no_grad():
                found["outputs"] = self.module(self.xs)[0]
        if {"gradient", "step"} & set(measures):
            found["d inputs"], *by_params = self.gradient()
            leaves = [a for part in self.weights for a in part.values()]
            names = [f"d {name}[{n}]" for n, part in enumerate(self.weights) for name in part]
            pulled = torch.autograd.grad([*itertools.chain(*self.loaded)], leaves, by_params)
            found |= dict(zip(names, pulled, strict=True))
        return {name: a.float().cpu().numpy() for name, a in found.items()}
