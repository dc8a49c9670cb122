"""Which evaluation is the best: a metric with its direction, further ones for ties, and early stopping."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxrnn import checks, metrics

MODES = ("min", "max")


@dataclasses.dataclass(frozen=True)
class Monitor:
    """The numbers of an evaluation that decide which model is the best; of two that tie in one, the next decides."""

    names: tuple[str, ...]
    modes: tuple[str, ...]  # "min" or "max" for each

    @classmethod
    def of(cls, names: str | Sequence[str], modes: str | Sequence[str] | None) -> Monitor:
        """The arguments ``monitor`` and ``mode`` of ``fit``; a ready metric knows its direction."""
        names = (names,) if isinstance(names, str) else tuple(names)
        if not names or not all(isinstance(name, str) for name in names):
            checks.refuse("monitor", 'a name in what evaluate returns, or several: ("error", "loss")',
                          f"{names!r}", error=TypeError)  # fmt: skip
        given: Sequence[str | None] = (modes,) if isinstance(modes, str) else modes or (None,) * len(names)
        if len(given) != len(names):
            checks.refuse("mode", f"one for each of monitor={names!r}", f"{modes!r}")
        for mode in given:
            if mode is not None:
                checks.one_of("mode", mode, MODES)
        known = [mode or metrics.direction(name) for name, mode in zip(names, given, strict=True)]
        for name, mode in zip(names, known, strict=True):
            if mode is None:
                near = difflib.get_close_matches(name, metrics.DIRECTIONS, 1)
                meant = f"; or is {near[0]!r} meant?" if near else ""
                checks.refuse("mode", f"'min' or 'max' for monitor={name!r}, whose direction is not known", None,
                              f"mode='max' if larger is better{meant}")  # fmt: skip
        return cls(names, tuple(mode for mode in known if mode))

    def __str__(self) -> str:
        superlative = {"min": "smallest", "max": "largest"}
        parts = [f"{superlative[mode]} {name}" for name, mode in zip(self.names, self.modes, strict=True)]
        return ", then ".join(parts)

    @classmethod
    def default(cls, result: dict[str, Any]) -> Monitor:
        """That of an evaluation where none is asked for: ``"loss"``, else the first number of a known direction."""
        numbers = [name for name, value in result.items() if not isinstance(value, str)]
        known = [name for name in numbers if metrics.direction(name)]
        return cls.of("loss" if "loss" in numbers else (known or numbers)[0], None)

    def values(self, result: dict[str, Any]) -> list[float]:
        """The monitored numbers of an evaluation."""
        for name in self.names:
            checks.one_of("monitor", name, result)
            if isinstance(result[name], str):
                checks.refuse("monitor", "a number in what evaluate returns", f"{name!r}, a text")
        return [float(result[name]) for name in self.names]

    def is_better(self, new: list[float], old: list[float] | None) -> bool:
        """Whether an evaluation is better than another, None standing for the worst; NaN is never better."""

        def loss(values: list[float] | None) -> list[float]:
            if values is None:
                return [math.inf] * len(self.names)
            signed = [x if mode == "min" else -x for x, mode in zip(values, self.modes, strict=True)]
            return [math.inf if math.isnan(x) else x for x in signed]

        return loss(new)[0] < math.inf and loss(new) < loss(old)


class Progress(NamedTuple):
    """The state of early stopping, stored with each checkpoint."""

    best: float | None = None  # of the first monitored metric
    best_step: int | None = None
    wait: int = 0  # evaluations since the best one
    values: list[float] | None = None  # all monitored metrics of the best evaluation
    monitor: str | None = None

    @classmethod
    def of(cls, stored: dict[str, Any], monitor: Monitor | None) -> Progress:
        """That of a checkpoint; a new one if another metric was monitored there, whose best says nothing here."""
        progress = cls(**stored)
        if progress.values is None and progress.best is not None:  # of a version with one metric, that was minimized
            progress = progress._replace(values=[progress.best])
        return cls() if monitor is not None and progress._is_of_another(monitor) else progress

    def _is_of_another(self, monitor: Monitor) -> bool:
        count = len(monitor.names) if self.values is None else len(self.values)
        return self.monitor not in (None, str(monitor)) or count != len(monitor.names)

    def after(self, monitor: Monitor, values: list[float], step: int) -> tuple[Progress, bool]:
        """The progress after an evaluation, and whether it is the best so far."""
        if self._is_of_another(monitor):
            self = Progress()
        if monitor.is_better(values, self.values):
            return Progress(values[0], step, 0, values, str(monitor)), True
        return self._replace(wait=self.wait + 1), False
