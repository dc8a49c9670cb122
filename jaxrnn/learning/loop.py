"""The loop: batches in, metrics out, and the device never waits for the host."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.learning import checks as learning_checks
from jaxrnn.learning.checkpoints import RESERVED, Checkpoints, encode_key
from jaxrnn.learning.provenance import as_json, check_origin, fingerprint
from jaxrnn.learning.report import MetricsFormatter, Report, default_format
from jaxrnn.learning.step import Step, TrainState, scan_steps
from jaxrnn.types import Array, Params, PyTree

RESERVED_BY_FIT = ("progress", "origin")  # what fit adds to the facts of a checkpoint


class Batches(Protocol):
    """The data of a run: batch number n, counted from the start of training. The number is the data position."""

    def __getitem__(self, n: int, /) -> PyTree: ...


class Fit(NamedTuple):
    """How a run ended."""

    state: TrainState
    stopped: str  # "finished", "early" (no better evaluation for too long) or "interrupted"
    best: float | None  # the smallest value of the monitored metric
    best_step: int | None
    seconds: float  # of this call
    shapes: int  # different batch shapes, each compiled once


class NonFiniteError(RuntimeError):
    """Loss or gradient were not finite too many times in a row."""


def fit(
    step: Step,
    state: TrainState,
    batches: Batches,
    *,
    steps: int,
    key: Array,
    steps_per_execution: int = 10,
    evaluate: Callable[[Params, int], dict[str, Any]] | None = None,
    evaluate_every: int | None = None,
    monitor: str = "loss",
    patience: int | None = None,
    checkpoints: Checkpoints | None = None,
    save_every: int | None = None,
    resume: bool | Literal["anyway"] = False,
    metadata: dict[str, Any] | None = None,
    log: str | os.PathLike | None = None,
    tensorboard: str | os.PathLike | None = None,
    format_metrics: MetricsFormatter = default_format,
    show: bool = True,
    max_nonfinite: int = 20,
) -> Fit:
    """Train: several optimizer steps a compiled call, the next batches prepared while the device computes.

    The same arguments give the same run, bit for bit, on one machine, whether it was killed and resumed or not. Ctrl-C
    ends the call under way, saves and returns; a second one ends at once.

    Args:
        step: what :func:`train_step` makes.
        state: what :func:`train_state` makes.
        batches: ``batches[n]`` is batch n, a pytree of NumPy arrays.
        steps: the step to end at, counted from the start of training.
        key: random key of the run; step n uses ``fold_in(key, n)``.
        steps_per_execution: steps in one compiled call.
        evaluate: ``evaluate(params, step)`` returns numbers to report, and texts to print.
        evaluate_every: steps between evaluations; there is one at the end in any case.
        monitor: the number of ``evaluate`` that says how good a model is, the smaller the better.
        patience: stop after this many evaluations without a better one.
        checkpoints: where to save: at each evaluation, at the end and at Ctrl-C; the best is kept.
        save_every: steps between further checkpoints.
        resume: go on from the newest whole checkpoint, or start where there is none. ``metadata``, ``key`` and the data
            (its first batch, and how many there are where the source goes round) must be those that the run was made
            from; ``"anyway"`` goes on with others, which count from there on. All else may change: ``steps``,
            evaluation, patience, saving, reports.
        metadata: stored with each checkpoint, see :meth:`Checkpoints.save`, and compared when the run is resumed: what
            the run depends on, such as the vocabulary, a learning rate, or the SHA-256 sum of all the data.
        log: JSON-lines file for the metrics of every step.
        tensorboard: folder for TensorBoard files; needs tensorboardX.
        format_metrics: metrics to the words shown on the screen.
        show: whether to print anything.
        max_nonfinite: batches in a row without a finite loss and gradient that end the run.

    Returns:
        The state and how the run ended.

    Raises:
        NonFiniteError: too many batches in a row had no finite loss or gradient; names the last checkpoint.
        ValueError: the folder holds another run, ``resume=True`` or another folder helps; the run to be resumed was
            made from other things, both named; there are fewer batches than steps.
    """
    for name, value in (("steps", steps), ("steps_per_execution", steps_per_execution), ("max_nonfinite", max_nonfinite)):
        checks.size(name, value)
    for name, optional in (("evaluate_every", evaluate_every), ("save_every", save_every), ("patience", patience)):
        if optional is not None:
            checks.size(name, optional)
    checks.required("key", key, "jax.random.key(0) makes one")
    learning_checks.train_state("state", state, TrainState)
    learning_checks.batch_source("batches", batches)
    checks.random_key("key", key)
    if isinstance(resume, str):
        checks.one_of("resume", resume, ("anyway",), also=", True or False")
    learning_checks.needs("resume", resume, "checkpoints", checkpoints)
    learning_checks.needs("patience", patience, "evaluate", evaluate)
    learning_checks.needs("evaluate_every", evaluate_every, "evaluate", evaluate)
    learning_checks.enough_batches(batches, steps)
    checks.free_names("metadata", metadata or {}, (*RESERVED, *RESERVED_BY_FIT))
    metadata = as_json("metadata", metadata or {})
    run, origin = _Progress(), {} if checkpoints is None else fingerprint(batches, steps)
    if checkpoints is not None and checkpoints.steps():
        if not resume:
            checks.refuse("checkpoints", "a folder without checkpoints", f"{checkpoints.folder} with some",
                          "resume=True goes on with them")  # fmt: skip
        found = checkpoints.restore(state)
        if found is not None:
            stored, state, run = found.metadata, found.state, _Progress(**found.metadata.get("progress", {}))
            if "origin" not in stored:  # of a loop of one's own
                key = found.key
            elif resume != "anyway":
                of_the_run = {
                    name: value for name, value in stored.items() if name not in (*RESERVED, *RESERVED_BY_FIT)
                }
                then = {"metadata": of_the_run, "key": stored["key"], **stored["origin"]}
                check_origin(checkpoints.folder, then, {"metadata": metadata, "key": encode_key(key), **origin})
    state = jax.tree.map(jnp.copy, state)  # the caller's stays valid: the loop donates its own
    compiled = _compiled(step)
    first, begun, bad = int(state.step), time.monotonic(), int(state.skipped_in_a_row)
    stopped = "early" if patience is not None and run.worse >= patience else "finished"
    shapes: set[str] = set()

    with (
        Report(
            first,
            steps,
            log=log,
            resume=bool(resume),
            tensorboard=tensorboard,
            format_metrics=format_metrics,
            show=show,
        ) as report,
        _ctrl_c() as asked,
    ):

        def record(done: int, metrics: PyTree) -> None:
            """Read the metrics of a call, which waits for it, and stop a run that has gone bad."""
            nonlocal bad
            values = jax.device_get(metrics)
            report.call(done, values)
            for n, fine in enumerate(values["finite"], done + 1 - len(values["finite"])):
                bad = 0 if fine else bad + 1
                if bad >= max_nonfinite:
                    raise NonFiniteError(
                        f"loss and gradient: expected finite numbers, got {bad} batches in a row without, "
                        f"up to step {n}; {_last_good(checkpoints)}; a smaller learning rate or clipping may help"
                    )

        def save(best: bool) -> None:
            if checkpoints is not None:
                report.flush()  # the lines up to a step are in the file before its checkpoint is
                checkpoints.save(state, key, {**metadata, "progress": run._asdict(), "origin": origin}, best=best)

        if first >= steps:
            report.print(f"nothing to do: the run stands at step {first}, steps={steps}")
        done, waiting, group = (
            first,
            None,
            _group(batches, first, steps, steps_per_execution, evaluate_every, save_every),
        )
        while done < steps and not asked.is_set() and stopped != "early":
            shapes.add(str(jax.tree.map(np.shape, group)))
            state, metrics = compiled(state, group, key)  # returns at once
            done += len(jax.tree.leaves(group)[0])
            group = _group(
                batches, done, steps, steps_per_execution, evaluate_every, save_every
            )  # while the device computes
            if waiting is not None:
                record(*waiting)
            waiting = (done, metrics)
            at_end, better = done == steps, False
            judge = evaluate if at_end or _due(done, evaluate_every) else None
            if not (judge or at_end or _due(done, save_every)):
                continue
            record(*waiting)
            waiting = None
            if judge is not None:
                result = judge(state.params, done)
                learning_checks.numbers("evaluate", result)
                checks.one_of("monitor", monitor, result)
                judged = float(result[monitor])
                better = judged < (math.inf if run.best is None else run.best)  # NaN is never better
                run = _Progress(judged, done, 0) if better else run._replace(worse=run.worse + 1)
                report.evaluation(done, result, better)
                if patience is not None and run.worse >= patience:
                    stopped = "early"
            save(best=better)
        if asked.is_set() and stopped != "early" and done < steps:
            stopped = "interrupted"
            if waiting is not None:  # else this step is saved already
                record(*waiting)
                save(best=False)
            report.print(f"interrupted at step {done}" + ("; saved, resume goes on from here" if checkpoints else ""))
        if len(shapes) > 1:
            report.print(f"{len(shapes)} shapes of batches were compiled")
        jax.block_until_ready(state)
    return Fit(state, stopped, run.best, run.best_step, time.monotonic() - begun, len(shapes))


@functools.lru_cache(maxsize=8)
def _compiled(step: Step) -> Step:
    """The steps of a group as one program; a further call of ``fit`` with the same step uses it again."""
    return jax.jit(scan_steps(step), donate_argnums=0)


class _Progress(NamedTuple):
    """What early stopping knows."""

    best: float | None = None
    best_step: int | None = None
    worse: int = 0


def _last_good(checkpoints: Checkpoints | None) -> str:
    if checkpoints is None or not checkpoints.steps():
        return "there is no checkpoint"
    return f"the last good checkpoint is that of step {checkpoints.steps()[-1]} in {checkpoints.folder}"


def _due(done: int, every: int | None) -> bool:
    return every is not None and done % every == 0


def _group(batches: Batches, done: int, steps: int, steps_per_execution: int, *borders: int | None) -> PyTree:
    """The next ``steps_per_execution`` batches with a leading axis, or the next one where a border or another shape is nearer.

    What it returns depends on ``done`` alone, so a resumed run groups its steps as an undisturbed one.
    """
    if done >= steps:
        return None
    nearest = min([steps - done] + [every - done % every for every in borders if every is not None])
    if done % steps_per_execution == 0 and nearest >= steps_per_execution:
        group = [learning_checks.batch(batches, n, steps) for n in range(done, done + steps_per_execution)]
        shapes = [jax.tree.map(np.shape, batch) for batch in group]
        if all(shape == shapes[0] for shape in shapes):
            return jax.tree.map(lambda *leaves: np.stack(leaves), *group)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], learning_checks.batch(batches, done, steps))


@contextlib.contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Ctrl-C sets an event instead of raising; the second one raises."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def handle(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
