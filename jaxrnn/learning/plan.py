"""When a run ends, evaluates and saves, and how its steps are grouped into compiled calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

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
        if (steps is None) == (epochs is None):
            given = "neither" if steps is None else f"steps={steps!r} and epochs={epochs!r}"
            checks.refuse("steps", "steps= or epochs=", given, "epochs= counts in the length of the source")
        if steps is not None:
            checks.size("steps", steps)
        epoch = None
        if epochs is not None:
            checks.size("epochs", epochs)
            epoch = reader.length("epochs")
            steps = epochs * epoch
        assert steps is not None
        reader.check_steps(steps, repeat=epochs is not None)
        if evaluate is None and evaluate_every is not None:
            checks.refuse("evaluate", f"a value, which evaluate_every={evaluate_every!r} requires", None,
                          "give evaluate= or leave evaluate_every out")  # fmt: skip
        if epochs is not None and evaluate is not None and evaluate_every is None:
            evaluate_every = "epoch"
        every = []
        for name, value in (("evaluate_every", evaluate_every), ("save_every", save_every)):
            if isinstance(value, str):
                checks.one_of(name, value, ("epoch",), also=" or a positive int")
                value = reader.length(name)
            if value is not None:
                checks.size(name, value)
            every.append(value)
        return cls(steps, epoch, steps_per_execution, *every)

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
        size = self.steps_per_execution
        if (done - pause) % size == 0 and until - done >= size:
            group = [reader[n] for n in range(done, done + size)]
            shapes = [jax.tree.map(np.shape, batch) for batch in group]
            if all(shape == shapes[0] for shape in shapes):
                return group
        return [reader[done]]
