"""Reports of a run: a progress bar on a terminal, one updated line in a notebook, plain lines elsewhere, log files."""

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
SECONDS_BETWEEN_UPDATES = 0.2  # of the line in a notebook
LOG_ONLY = ("finite", "count")  # metrics that are not printed by default


def default_format(metrics: dict[str, float]) -> str:
    """All metrics but ``LOG_ONLY``, with four digits."""
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name not in LOG_ONLY)


class Report:
    """Writes metrics to the screen, to a JSON-lines file and to TensorBoard.

    Args:
        first: the step the run starts from; lines of later steps in the log, left by a killed run, are removed.
        steps: the step it ends at.
        log: the JSON-lines file: one object for each step, and one with ``"evaluation"`` for each evaluation.
        resume: whether the log may hold lines already.
        tensorboard: folder for TensorBoard; needs the package tensorboardX.
        format_metrics: a function from metrics to the text that is printed.
        verbose: whether to print.
    """

    def __init__(
        self,
        first: int,
        steps: int,
        *,
        log: str | os.PathLike | None,
        resume: bool,
        tensorboard: str | os.PathLike | None,
        format_metrics: MetricsFormatter,
        verbose: bool,
    ) -> None:
        from rich.console import Console  # imported on first use, so that jaxrnn imports quickly

        self.steps, self.format_metrics, self.verbose = steps, format_metrics, verbose
        self.console = Console(highlight=False, emoji=False, soft_wrap=True)
        self.first, self.start, self.last_line = first, time.monotonic(), time.monotonic()
        self.log = None if log is None else _open_log(pathlib.Path(log), first, resume)
        self.tensorboard = None if tensorboard is None else _summary_writer(tensorboard)
        self.bar: Progress | None = None
        self.notebook_line: Any = None  # a DisplayHandle of IPython, which shows self.line
        self.line = ""
        if verbose and self.console.is_terminal and not self.console.is_jupyter:
            self.bar = _progress_bar(self.console)
            self.task = self.bar.add_task("", total=steps, completed=first, rate="", text="")

    def __enter__(self) -> Report:
        if self.bar:
            self.bar.start()
        elif self.verbose and self.console.is_jupyter and self.first < self.steps:
            from IPython.display import display

            self.notebook_line = display({"text/plain": ""}, raw=True, display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()
        if self.notebook_line:
            self._update_notebook_line()
        for file in (self.log, self.tensorboard):
            if file:
                file.close()

    def metrics(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        """Report the metrics ``[K]`` of the K steps that end at ``step``."""
        count = len(metrics["loss"])
        for k in range(count):
            self._write(step - count + k + 1, {name: values[k] for name, values in metrics.items()})
        if not self.verbose:
            return
        text = self.format_metrics({name: float(np.mean(values)) for name, values in metrics.items()})
        now = time.monotonic()
        rate = (step - self.first) / max(now - self.start, 1e-9)
        if self.bar:
            self.bar.update(self.task, completed=step, rate=f"{rate:.1f} steps/s", text=text)
            return
        left = (self.steps - step) / rate
        line = f"step {step}/{self.steps}  {text}  {rate:.1f} steps/s  {int(left // 60)}:{int(left % 60):02} left"
        if self.notebook_line:
            self.line = f"{'█' * (20 * step // self.steps):░<20}  {line}"
            if now - self.last_line > SECONDS_BETWEEN_UPDATES:
                self.last_line = now
                self._update_notebook_line()
        elif now - self.last_line > SECONDS_BETWEEN_LINES or step == self.steps:
            self.last_line = now
            self.print(line)

    def evaluation(self, step: int, result: dict[str, Any], best: bool) -> None:
        """Report an evaluation: its numbers in one line, its texts below."""
        numbers = {name: float(v) for name, v in result.items() if not isinstance(v, str)}
        self._write(step, {"evaluation": numbers})
        self.print(
            f"step {step}/{self.steps}  evaluation: {self.format_metrics(numbers)}"
            + ("  (best so far)" if best else "")
        )
        for text in (v for v in result.values() if isinstance(v, str)):
            self.print(text)

    def flush(self) -> None:
        """Write the buffered lines of the log to the file, so that they survive a kill of this process."""
        if self.log:
            self.log.flush()

    def print(self, text: str) -> None:
        """Print a line, above the progress bar if there is one."""
        if self.verbose and self.console.is_jupyter:
            print(text)  # rich would display each line as a block of HTML
        elif self.verbose:
            self.console.print(text, markup=False)

    def _update_notebook_line(self) -> None:
        self.notebook_line.update({"text/plain": self.line}, raw=True)

    def _write(self, step: int, entry: dict[str, Any]) -> None:
        entry = _to_json(entry)
        if self.log:
            self.log.write(json.dumps({"step": step, **entry}) + "\n")
        if self.tensorboard:
            for name, value in entry.get("evaluation", entry).items():
                prefix = "evaluation/" if "evaluation" in entry else "train/"
                self.tensorboard.add_scalar(prefix + name, math.nan if value is None else value, step)


def _progress_bar(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate, text = (TextColumn(f"{{task.fields[{name}]}}") for name in ("rate", "text"))
    return Progress(BarColumn(20), MofNCompleteColumn(), rate, TimeRemainingColumn(), text, console=console)


def _to_json(value: Any) -> Any:
    """Numbers as Python numbers; those that are not finite become None, null in JSON."""
    if isinstance(value, dict):
        return {name: _to_json(v) for name, v in value.items()}
    number = np.asarray(value)
    if number.dtype == bool:
        return bool(number)
    return float(number) if np.isfinite(number) else None


def _open_log(path: pathlib.Path, first: int, resume: bool) -> Any:
    """Open the log to append after the lines up to step ``first``; a run that starts at step 0 needs a new file."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    if lines and first == 0 and not resume:
        checks.refuse("log", "a new file", f"{path} with {len(lines)} lines", "resume the run or name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    if lines and first == 0:  # of a run that has no checkpoint
        path.replace(path.with_name(f"{path.name}.earlier"))
    kept = []
    for line in lines:
        try:
            if json.loads(line)["step"] > first:
                break
        except ValueError:  # a partial line, of a run that was killed while writing
            break
        kept.append(line + "\n")
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text("".join(kept), "utf-8")
    os.replace(draft, path)  # atomic: a kill leaves the old file or the new one
    return path.open("a", buffering=1 << 16, encoding="utf-8")


def _summary_writer(folder: str | os.PathLike) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ImportError("tensorboard: writing its files needs tensorboardX; pip install tensorboardX") from None
    return SummaryWriter(str(folder))
