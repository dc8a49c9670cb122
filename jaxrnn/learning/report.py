"""What a run tells while it goes: a bar on a terminal, plain lines elsewhere, every number in a file."""

from __future__ import annotations

import json
import math
import os
import pathlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrnn import checks

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

MetricsFormatter = Callable[[dict[str, float]], str]
SECONDS_BETWEEN_LINES = 10.0
QUIET = ("finite", "count")  # in the file alone: they say nothing of how well a run goes


def default_format(metrics: dict[str, float]) -> str:
    """Every metric and its value, short."""
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name not in QUIET)


class Report:
    """Metrics to the screen, to a JSON-lines file and to TensorBoard.

    Args:
        first: the step the run starts from; lines of later steps in the file, left by a killed run, are dropped.
        steps: the step it ends at.
        log: the JSON-lines file: one object a step, and one an evaluation under ``"evaluation"``.
        resume: whether the file may hold lines already.
        tensorboard: folder for TensorBoard; needs the package tensorboardX.
        format_metrics: metrics to the words shown.
        show: whether to print at all.
    """

    def __init__(self, first: int, steps: int, *, log: str | os.PathLike | None, resume: bool,
                 tensorboard: str | os.PathLike | None, format_metrics: MetricsFormatter, show: bool) -> None:  # fmt: skip
        from rich.console import Console  # here, for a quick import of the library

        self.steps, self.format_metrics, self.show = steps, format_metrics, show
        self.console = Console(highlight=False, emoji=False, soft_wrap=True)
        self.first, self.start, self.last_line = first, time.monotonic(), time.monotonic()
        self.done = first
        self.file = None if log is None else _reopen(pathlib.Path(log), first, resume)
        self.board = None if tensorboard is None else _board(tensorboard)
        self.bar: Progress | None = None
        if show and self.console.is_terminal:
            self.bar = _bar(self.console)
            self.task = self.bar.add_task("", total=steps, completed=first, rate="", words="")

    def __enter__(self) -> Report:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()
        for sink in (self.file, self.board):
            if sink:
                sink.close()

    def call(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        """Tell the metrics ``[K]`` of the K steps that end at ``step``."""
        count = len(metrics["loss"])
        for k in range(count):
            self._write(step - count + k + 1, {name: values[k] for name, values in metrics.items()})
        self.done = step
        if not self.show:
            return
        words = self.format_metrics({name: float(np.mean(values)) for name, values in metrics.items()})
        rate = (step - self.first) / max(time.monotonic() - self.start, 1e-9)
        if self.bar:
            self.bar.update(self.task, completed=step, rate=f"{rate:.1f} steps/s", words=words)
        elif time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES or step == self.steps:
            self.last_line = time.monotonic()
            left = (self.steps - step) / rate
            self.print(
                f"step {step}/{self.steps}  {words}  {rate:.1f} steps/s  {int(left // 60)}:{int(left % 60):02} left"
            )

    def evaluation(self, step: int, result: dict[str, Any], best: bool) -> None:
        """Tell an evaluation: its numbers in one line, its texts below."""
        numbers = {name: float(v) for name, v in result.items() if not isinstance(v, str)}
        self._write(step, {"evaluation": numbers})
        self.print(
            f"step {step}/{self.steps}  evaluation: {self.format_metrics(numbers)}"
            + ("  (best so far)" if best else "")
        )
        for text in (v for v in result.values() if isinstance(v, str)):
            self.print(text)

    def flush(self) -> None:
        """Hand the lines told so far to the system, where a kill of this process cannot take them."""
        if self.file:
            self.file.flush()

    def print(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        if self.show:
            self.console.print(text, markup=False)

    def _write(self, step: int, entry: dict[str, Any]) -> None:
        plain = _plain(entry)
        if self.file:
            self.file.write(json.dumps({"step": step, **plain}) + "\n")
        if self.board:
            for name, value in plain.get("evaluation", plain).items():
                prefix = "evaluation/" if "evaluation" in plain else "train/"
                self.board.add_scalar(prefix + name, math.nan if value is None else value, step)


def _bar(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate, words = (TextColumn(f"{{task.fields[{name}]}}") for name in ("rate", "words"))
    return Progress(BarColumn(20), MofNCompleteColumn(), rate, TimeRemainingColumn(), words, console=console)


def _plain(value: Any) -> Any:
    """A number as JSON has it: what is not finite becomes null."""
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    number = np.asarray(value)
    if number.dtype == bool:
        return bool(number)
    return float(number) if np.isfinite(number) else None


def _reopen(path: pathlib.Path, first: int, resume: bool) -> Any:
    """Open the file behind the line of step ``first``; a run that starts anew needs a new file."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    if lines and first == 0 and not resume:
        checks.refuse("log", "a new file", f"{path} with {len(lines)} lines", "resume the run or name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = []
    for line in lines:
        try:
            if json.loads(line)["step"] > first:
                break
        except ValueError:  # half a line, of a run that was killed while it wrote
            break
        kept.append(line + "\n")
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text("".join(kept), "utf-8")
    os.replace(draft, path)  # at once: a kill leaves the old file or the new one
    return path.open("a", buffering=1 << 16, encoding="utf-8")


def _board(folder: str | os.PathLike) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ImportError("tensorboard: writing its files needs tensorboardX; pip install tensorboardX") from None
    return SummaryWriter(str(folder))
