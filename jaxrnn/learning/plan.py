"""When a run ends, evaluates and saves, and how its steps are grouped into compiled calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jaxrnn import checks
from jaxrnn.learning.sources import Reader
from jaxrnn.types import PyTree


class Plan(NamedTuple):
    """The steps of a run."""

    steps: int  # the last step
    epoch: int | None  # the steps of an epoch, if the run is counted in epochs
    steps_per_execution: int
    evaluate_every: int | None
    save_every: int | None

    @classmethod
    def of(
        cls,
        reader: Reader,
        steps: int | None,
        epochs: int | None,
        steps_per_execution: int,
        evaluate: Callable | None,
        evaluate_every: int | str | None,
        save_every: int | str | None,
    ) -> Plan:
        """That of the arguments of ``fit``."""
        last = reader.end(steps, epochs)
        if epochs is not None and evaluate is not None and evaluate_every is None:
            evaluate_every = "epoch"
        every = []
        for name, value in (("evaluate_every", evaluate_every), ("save_every", save_every)):
            if isinstance(value, str):
                checks.one_of(name, value, ("epoch",), also=" or a positive int")
                value = reader.epoch(name)
            if value is not None:
                checks.size(name, value)
            every.append(value)
        epoch = None if epochs is None else reader.epoch_length
        return cls(last, epoch, steps_per_execution, *every)

    def evaluates_at(self, done: int) -> bool:
        """Whether there is an evaluation after this step, apart from that at the end."""
        return self.evaluate_every is not None and done % self.evaluate_every == 0

    def saves_at(self, done: int) -> bool:
        """Whether there is a checkpoint after this step without an evaluation."""
        return self.save_every is not None and done % self.save_every == 0

    def next_group(self, reader: Reader, done: int) -> list[PyTree]:
        """The next ``steps_per_execution`` batches; a single batch before an evaluation, a save or another shape.

        It depends on ``done`` alone, so a resumed run groups its steps like an uninterrupted one.
        """
        if done >= self.steps:
            return []
        every = [n for n in (self.evaluate_every, self.save_every) if n]
        pause = max((done - done % n for n in every), default=0)  # groups are counted from the last pause
        until = min([self.steps, *(done - done % n + n for n in every)])
        whole = (done - pause) % self.steps_per_execution == 0 and until - done >= self.steps_per_execution
        return reader.group(done, self.steps_per_execution if whole else 1)
