"""What a run prints: a progress bar on a terminal, one updated line in a notebook, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrnn.learning.logs import History, Log

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

MetricsFormatter = Callable[[dict[str, float]], str]
SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_UPDATES = 0.2  # of the line in a notebook
SECONDS_BETWEEN_PLOTS = 2.0
LOG_ONLY = ("finite", "count")  # metrics that are not printed by default


def default_format(metrics: dict[str, float]) -> str:
    """All metrics but ``LOG_ONLY``, with four digits."""
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name not in LOG_ONLY)


class Report:
    """Prints the metrics of a run, and passes them on to its logs.

    Args:
        first: the step the run starts from.
        steps: the step it ends at.
        epoch: the steps of an epoch if the run is counted in epochs.
        logs: where the metrics go.
        format_metrics: a function from metrics to the text that is printed.
        verbose: whether to print.
        live_plot: in a notebook, whether to draw ``history`` and update the picture.
        history: one of ``logs``.
    """

    def __init__(
        self,
        first: int,
        steps: int,
        *,
        epoch: int | None = None,
        logs: Sequence[Log] = (),
        format_metrics: MetricsFormatter = default_format,
        verbose: bool = True,
        live_plot: bool = False,
        history: History | None = None,
    ) -> None:
        from rich.console import Console  # imported on first use, so that jaxrnn imports quickly

        self.steps, self.epoch, self.logs = steps, epoch, logs
        self.format_metrics, self.verbose = format_metrics, verbose
        self.console = Console(highlight=False, emoji=False, soft_wrap=True)
        self.first, self.start, self.last_line = first, time.monotonic(), time.monotonic()
        self.bar: Progress | None = None
        self.notebook_line: Any = None  # a DisplayHandle of IPython, which shows self.line
        self.line = ""
        notebook = self.console.is_jupyter
        self.plot = LivePlot(history) if live_plot and verbose and notebook and history is not None else None
        if live_plot and not notebook:
            self.print("live_plot: there is no notebook to draw in; plots.history(end) draws the run at its end")
        if verbose and self.console.is_terminal and not notebook:
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
        if self.plot:
            self.plot.close()
        for log in self.logs:
            log.close()

    def position(self, step: int) -> str:
        """``step 40/100``; with epochs ``epoch 2/5, step 40/100``, the epoch counted when it begins."""
        if not self.epoch:
            return f"step {step}/{self.steps}"
        return f"epoch {-(-step // self.epoch)}/{self.steps // self.epoch}, step {step}/{self.steps}"

    def metrics(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        """Report the metrics ``[K]`` of the K steps that end at ``step``."""
        count = len(metrics["loss"])
        for k in range(count):
            of_step = {name: values[k] for name, values in metrics.items()}
            for log in self.logs:
                log.step(step - count + k + 1, of_step)
        if self.plot:
            self.plot.update(SECONDS_BETWEEN_PLOTS)
        if not self.verbose:
            return
        text = self.format_metrics({name: float(np.mean(values)) for name, values in metrics.items()})
        now = time.monotonic()
        rate = (step - self.first) / max(now - self.start, 1e-9)
        if self.bar:
            if self.epoch:
                text = f"{self.position(step).partition(',')[0]}  {text}"
            self.bar.update(self.task, completed=step, rate=f"{rate:.1f} steps/s", text=text)
            return
        left = (self.steps - step) / rate
        line = f"{self.position(step)}  {text}  {rate:.1f} steps/s  {int(left // 60)}:{int(left % 60):02} left"
        if self.notebook_line:
            self.line = f"{'█' * (20 * step // self.steps):░<20}  {line}"
            if now - self.last_line > SECONDS_BETWEEN_UPDATES:
                self.last_line = now
                self._update_notebook_line()
        elif now - self.last_line > SECONDS_BETWEEN_LINES or step == self.steps:
            self.last_line = now
            self.print(line)

    def evaluation(self, step: int, result: dict[str, Any], best: str) -> None:
        """Report an evaluation: its numbers in one line, its texts below; ``best`` says in what it is the best."""
        numbers = {name: float(v) for name, v in result.items() if not isinstance(v, str)}
        for log in self.logs:
            log.evaluation(step, numbers)
        if self.plot:
            self.plot.update()
        best = f"  (best so far: {best})" if best else ""
        self.print(f"{self.position(step)}  evaluation: {self.format_metrics(numbers)}{best}")
        for text in (v for v in result.values() if isinstance(v, str)):
            self.print(text)

    def flush(self) -> None:
        """Bring what the logs hold in memory to their files."""
        for log in self.logs:
            log.flush()

    def print(self, text: str) -> None:
        """Print a line, above the progress bar if there is one."""
        if self.verbose and self.console.is_jupyter:
            print(text)  # rich would display each line as a block of HTML
        elif self.verbose:
            self.console.print(text, markup=False)

    def _update_notebook_line(self) -> None:
        self.notebook_line.update({"text/plain": self.line}, raw=True)


class LivePlot:
    """A picture of the metrics in a notebook, drawn anew at intervals."""

    def __init__(self, history: History) -> None:
        import matplotlib.pyplot as plt
        from IPython.display import display

        self.history, self.plt = history, plt
        self.figure = plt.figure(figsize=(7, 4), layout="constrained")
        self.handle = display(self.figure, display_id=True)
        self.last = time.monotonic()

    def update(self, seconds: float = 0.0) -> None:
        """Draw, unless the last time was less than so many seconds ago."""
        if time.monotonic() - self.last < seconds:
            return
        from jaxrnn import plots

        plots.history((self.history.steps(), self.history.evaluations()), figure=self.figure)
        self.handle.update(self.figure)
        self.last = time.monotonic()

    def close(self) -> None:
        self.update()
        self.plt.close(self.figure)  # or the notebook shows it a second time


def _progress_bar(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate, text = (TextColumn(f"{{task.fields[{name}]}}") for name in ("rate", "text"))
    return Progress(BarColumn(20), MofNCompleteColumn(), rate, TimeRemainingColumn(), text, console=console)
