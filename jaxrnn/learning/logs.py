"""Where the metrics of a run go: a JSON-lines file, TensorBoard, a function of the user, arrays in memory."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from jaxrnn import checks

Numbers = dict[str, Any]  # numbers by name


class Log(Protocol):
    """A receiver of metrics: of every step in order, and of every evaluation."""

    def step(self, step: int, metrics: Numbers) -> None: ...

    def evaluation(self, step: int, result: Numbers) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class History:
    """The metrics as arrays."""

    def __init__(self, lines: Iterable[Numbers] = ()) -> None:
        """``lines`` are those of an earlier part of the run, of :class:`JsonLines`."""
        self._steps: list[Numbers] = []
        self._evaluations: list[Numbers] = []
        for line in lines:
            numbers, rows = line, self._steps
            if "evaluation" in line:
                numbers, rows = {"step": line["step"], **line["evaluation"]}, self._evaluations
            rows.append({name: math.nan if value is None else value for name, value in numbers.items()})

    def step(self, step: int, metrics: Numbers) -> None:
        self._steps.append({"step": step, **metrics})

    def evaluation(self, step: int, result: Numbers) -> None:
        self._evaluations.append({"step": step, **result})

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def steps(self) -> dict[str, np.ndarray]:
        """``"step"`` and each metric, one entry a step."""
        return _columns(self._steps)

    def evaluations(self) -> dict[str, np.ndarray]:
        """``"step"`` and each number, one entry an evaluation; NaN where one is missing."""
        return _columns(self._evaluations)


def _columns(rows: list[Numbers]) -> dict[str, np.ndarray]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, math.nan) for row in rows]) for name in names}


class JsonLines:
    """A file with one JSON object for each step, and one with ``"evaluation"`` for each evaluation.

    Args:
        path: the file.
        first: the step that the run starts from; lines of later steps, left by a killed run, are removed.
        resume: whether the file may hold lines already.
    """

    def __init__(self, path: str | os.PathLike, first: int, resume: bool) -> None:
        self.kept, self._file = _open_log(pathlib.Path(path), first, resume)

    def step(self, step: int, metrics: Numbers) -> None:
        self._write(step, metrics)

    def evaluation(self, step: int, result: Numbers) -> None:
        self._write(step, {"evaluation": result})

    def _write(self, step: int, entry: Numbers) -> None:
        self._file.write(json.dumps({"step": step, **_to_json(entry)}) + "\n")

    def flush(self) -> None:
        """Write the buffered lines to the file, so that they survive a kill of this process."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Callback:
    """A function ``callback(step, metrics)``, called for every step and every evaluation.

    The names are ``"train/loss"``, ``"evaluation/loss"``, …, the values Python floats.
    """

    def __init__(self, callback: Callable[[int, dict[str, float]], Any]) -> None:
        self._call = callback

    def step(self, step: int, metrics: Numbers) -> None:
        self._call(step, {f"train/{name}": float(value) for name, value in metrics.items()})

    def evaluation(self, step: int, result: Numbers) -> None:
        self._call(step, {f"evaluation/{name}": float(value) for name, value in result.items()})

    def flush(self) -> None: ...

    def close(self) -> None: ...


class TensorBoard(Callback):
    """Files for TensorBoard, written by tensorboardX."""

    def __init__(self, folder: str | os.PathLike) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            message = "tensorboard: writing its files needs tensorboardX; pip install tensorboardX"
            raise ImportError(message) from None
        self._writer = SummaryWriter(str(folder))
        super().__init__(self._add)

    def _add(self, step: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


def open_logs(
    log: str | os.PathLike | None,
    tensorboard: str | os.PathLike | None,
    callback: Callable[[int, dict[str, float]], Any] | None,
    first: int,
    resume: bool,
) -> tuple[History, list[Log]]:
    """The metrics in memory, from the first step on if there is a file of them, and all logs."""
    logs: list[Log] = []
    earlier: Sequence[dict[str, Any]] = ()
    if log is not None:
        file = JsonLines(log, first, resume)
        logs, earlier = [file], file.kept
    if tensorboard is not None:
        logs.append(TensorBoard(tensorboard))
    if callback is not None:
        logs.append(Callback(callback))
    history = History(earlier)
    return history, [history, *logs]


def _to_json(value: Any) -> Any:
    """Numbers as Python numbers; those that are not finite become None, null in JSON."""
    if isinstance(value, dict):
        return {name: _to_json(v) for name, v in value.items()}
    number = np.asarray(value)
    if number.dtype == bool:
        return bool(number)
    return float(number) if np.isfinite(number) else None


def _open_log(path: pathlib.Path, first: int, resume: bool) -> tuple[list[Numbers], Any]:
    """The lines up to step ``first``, and the file, open to append; a run that starts at step 0 needs a new one."""
    if path.is_dir():
        checks.refuse("log", "a file", f"the folder {path}", f"{str(path / 'metrics.jsonl')!r} is one")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    if lines and first == 0 and not resume:
        checks.refuse("log", "a new file", f"{path} with {len(lines)} lines", "resume the run or name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    if lines and first == 0:  # of a run that has no checkpoint
        path.replace(path.with_name(f"{path.name}.earlier"))
    kept: list[Numbers] = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # a partial line, of a run that was killed while writing
            break
        if entry["step"] > first:
            break
        kept.append(entry)
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text("".join(f"{line}\n" for line in lines[: len(kept)]), "utf-8")
    os.replace(draft, path)  # atomic: a kill leaves the old file or the new one
    return kept, path.open("a", buffering=1 << 16, encoding="utf-8")
