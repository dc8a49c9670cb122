"""The training loop: prepares batches while the device computes, evaluates, saves, resumes, stops early."""

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
from jaxrnn.learning import processes
from jaxrnn.learning.checkpoints import RESERVED, Checkpoints, encode_key
from jaxrnn.learning.mesh import Layout, Placement
from jaxrnn.learning.provenance import as_json, check_origin, digest, fingerprint
from jaxrnn.learning.report import MetricsFormatter, Report, default_format
from jaxrnn.learning.step import Step, TrainState, scan_steps
from jaxrnn.types import Array, Params, PyTree

RESERVED_BY_FIT = ("progress", "origin")  # what fit adds to the metadata of a checkpoint


class Batches(Protocol):
    """The data of a run: ``batches[n]`` is batch n, counted from the start of training."""

    def __getitem__(self, n: int, /) -> PyTree: ...


class Fit(NamedTuple):
    """The result of :func:`fit`: the last train state, and how the run ended."""

    state: TrainState
    stopped: str  # "finished", "early" (no better evaluation for ``patience`` evaluations) or "interrupted" (Ctrl-C)
    best: float | None  # the smallest value of the monitored metric
    best_step: int | None
    seconds: float  # of this call
    shapes: int  # different batch shapes, each compiled once

    def __repr__(self) -> str:
        best = "None" if self.best is None else f"{self.best:.4g} at step {self.best_step}"
        seconds = f"{self.seconds:.0f}" if self.seconds >= 10 else f"{self.seconds:.2g}"
        return f"Fit(stopped={self.stopped!r}, best={best}, {seconds} s, state={self.state!r})"


class NonFiniteError(RuntimeError):
    """Loss or gradient were not finite for too many batches in a row."""


def fit(
    step: Step,
    state: TrainState,
    batches: Batches,
    *,
    steps: int,
    key: Array,
    mesh: jax.sharding.Mesh | None = None,
    batch_spec: PyTree = None,
    local_batches: bool = False,
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
    verbose: bool = True,
    max_nonfinite: int = 20,
) -> Fit:
    """Train a model: several optimizer steps in one compiled call, while the host prepares the next batches.

    On one machine the same arguments give the same run bit for bit, also if it is killed and resumed. Ctrl-C finishes
    the current compiled call, saves and returns; a second Ctrl-C stops at once.

    With a mesh each batch is split over its devices, and the run is the same up to rounding: loss, gradient and
    clipping are those of the whole batch. Parameters and optimizer state are copied to every device, unless their
    arrays are already sharded by axes of the mesh (``jax.device_put(params, shardings)`` before :func:`train_state`):
    those stay so. With several processes (``jax.distributed``) all call ``fit`` with the same arguments; process 0
    prints, logs and decides, and all write the checkpoints, in a folder that all of them see.

    Args:
        step: the train step, of :func:`train_step`.
        state: the train state, of :func:`train_state`.
        batches: ``batches[n]`` is batch n, a pytree of arrays, of NumPy or on devices.
        steps: the step to end at, counted from the start of training.
        key: random key of the run; step n uses ``fold_in(key, n)``.
        mesh: devices to train on, of :func:`device_mesh`, or a mesh of your own: its axis ``"batch"``, or its first,
            splits the batches and axis 0 of the carry.
        batch_spec: a ``jax.sharding.PartitionSpec`` for every leaf of a batch, or a tree prefix of them, where None is
            the default: ``[T, B, ...]`` is split along axis 1, ``[B]`` along axis 0.
        local_batches: whether ``batches[n]`` holds only this process's part of batch n, of the same shape on each; by
            default it is the whole batch on every process. Numbers without axes must be the same on every process.
            The first batch is compared between the processes, later ones are not.
        steps_per_execution: optimizer steps in one compiled call.
        evaluate: ``evaluate(params, step)`` returns a dict of numbers to report and texts to print; called on all
            processes.
        evaluate_every: steps between evaluations; there is always one at the end.
        monitor: the number returned by ``evaluate`` that is minimized; it decides which model is the best.
        patience: stop after this many evaluations without a better one.
        checkpoints: where to save: at each evaluation, at the end and at Ctrl-C; the best is kept.
        save_every: steps between further checkpoints.
        resume: continue from the newest intact checkpoint, or start if there is none. ``metadata``, ``key`` and the
            data (the first batch, and the number of batches if the source repeats) must be those of the run;
            ``"anyway"`` continues with others, which are stored from then on. Everything else may change: ``steps``,
            evaluation, patience, saving, reports.
        metadata: stored with each checkpoint, see :meth:`Checkpoints.save`, and compared when the run is resumed: what
            the run depends on, such as the vocabulary, a learning rate, or the SHA-256 sum of all the data.
        log: JSON-lines file for the metrics of every step.
        tensorboard: folder for TensorBoard files; needs tensorboardX.
        format_metrics: a function from metrics to the text that is printed.
        verbose: whether to print: a progress bar on a terminal, a line that updates in place in a notebook, a line
            each 10 s elsewhere; and each evaluation.
        max_nonfinite: end the run after this many batches in a row whose loss or gradient is not finite.

    Returns:
        The train state, and how the run ended.

    Raises:
        NonFiniteError: loss or gradient were not finite for ``max_nonfinite`` batches in a row; names the last
            checkpoint.
        ValueError: the folder holds another run (use ``resume=True`` or another folder); the run to be resumed had
            another key, metadata or data, both are named; there are fewer batches than steps; a batch cannot be split
            evenly over the mesh, or an argument is not the same on every process.

    Example:
        >>> import jax, jaxrnn as rnn, numpy as np, optax
        >>> from jaxrnn import learning
        >>> from jaxrnn.data import Streams
        >>> model = rnn.Stack(rnn.Embedding(5, 3), rnn.GRU(3, 4), rnn.Linear(4, 5))
        >>> step = learning.train_step(learning.stream_loss(model), optax.adam(0.1))
        >>> params, carry = model.init(jax.random.key(0)), model.initial_state((2,))
        >>> state = learning.train_state(params, optax.adam(0.1), carry)
        >>> streams = Streams(np.arange(100) % 5, batch=2, steps=8)
        >>> learning.fit(step, state, streams, steps=20, key=jax.random.key(1), verbose=False)  # doctest: +ELLIPSIS
        Fit(stopped='finished', best=None, ... s, state=TrainState(step=20, parameters=136, skipped=0))
    """
    sizes = {"steps": steps, "steps_per_execution": steps_per_execution, "max_nonfinite": max_nonfinite}
    for name, value in sizes.items():
        checks.size(name, value)
    for name, optional in (("evaluate_every", evaluate_every), ("save_every", save_every), ("patience", patience)):
        if optional is not None:
            checks.size(name, optional)
    checks.required("key", key, "jax.random.key(0) makes one")
    checks.instance("state", state, TrainState, "train_state(params, optimizer) makes one")
    learning_checks.batch_source("batches", batches)
    checks.random_key("key", key)
    checks.flag("verbose", verbose)
    if isinstance(resume, str):
        checks.one_of("resume", resume, ("anyway",), also=", True or False")
    learning_checks.needs("resume", resume, "checkpoints", checkpoints)
    learning_checks.needs("patience", patience, "evaluate", evaluate)
    learning_checks.needs("evaluate_every", evaluate_every, "evaluate", evaluate)
    learning_checks.enough_batches(batches, steps)
    checks.free_names("metadata", metadata or {}, (*RESERVED, *RESERVED_BY_FIT))
    metadata = as_json("metadata", metadata or {})
    placement, many = Placement(mesh, batch_spec, local_batches), jax.process_count() > 1
    origin = fingerprint(batches, steps) if (checkpoints is not None or many) and not local_batches else {}
    if many:
        numbers = (steps, steps_per_execution, evaluate_every, save_every, patience, max_nonfinite)
        saved = None if checkpoints is None else [str(checkpoints.folder), checkpoints.steps()]
        processes.check_same({"steps, …, max_nonfinite": numbers, "key": encode_key(key), "metadata": metadata,
                              "checkpoints": saved, "state": digest(state), **origin})  # fmt: skip
    state, progress = placement.state(state), _Progress()  # a copy: the compiled call donates it
    if checkpoints is not None and checkpoints.steps():
        state, key, progress = _restore(checkpoints, state, key, metadata, origin, resume)
    compiled = _compiled(step, placement.layout(state))
    first, start_time, nonfinite_in_a_row = int(state.step), time.monotonic(), int(state.skipped_in_a_row)
    stopped = "early" if patience is not None and progress.wait >= patience else "finished"
    shapes: set[str] = set()
    agreed_to_stop, main = False, processes.is_main()

    with (
        processes.explain_loss_of_a_process(),
        Report(
            first,
            steps,
            log=log if main else None,
            resume=bool(resume),
            tensorboard=tensorboard if main else None,
            format_metrics=format_metrics,
            verbose=verbose and main,
        ) as report,
        _ctrl_c() as ctrl_c,
    ):

        def interrupted() -> bool:
            """Whether to stop; of several processes, all in the same step."""
            return agreed_to_stop if many else ctrl_c.is_set()

        def record(done: int, metrics: PyTree, any_ctrl_c: Array | None) -> None:
            """Wait for the metrics of a compiled call, report them, and end a run that is no longer finite."""
            nonlocal nonfinite_in_a_row, agreed_to_stop
            values, any_ctrl_c = jax.device_get((metrics, any_ctrl_c))
            agreed_to_stop |= bool(any_ctrl_c)
            report.metrics(done, values)
            for n, finite in enumerate(values["finite"], done + 1 - len(values["finite"])):
                nonfinite_in_a_row = 0 if finite else nonfinite_in_a_row + 1
                if nonfinite_in_a_row >= max_nonfinite:
                    raise NonFiniteError(
                        f"loss and gradient: expected finite numbers, got {nonfinite_in_a_row} batches in a row "
                        f"without, up to step {n}; {_last_checkpoint(checkpoints)}; "
                        "a smaller learning rate or clipping may help"
                    )

        def save(best: bool) -> None:
            if checkpoints is not None:
                report.flush()  # the log holds all lines up to this step before the checkpoint exists
                checkpoints.save(state, key, {**metadata, "progress": progress._asdict(), "origin": origin}, best=best)

        if first >= steps:
            report.print(f"nothing to do: the run is at step {first}, steps={steps}")

        def next_group(done: int) -> PyTree:
            group = _next_group(batches, steps, steps_per_execution, evaluate_every, save_every, done)
            return placement.stacked(group) if group else None

        def flag() -> Array | None:
            """Whether this process was interrupted, for the others."""
            return placement.flag(ctrl_c.is_set()) if many else None

        placed_key = placement.key(key)
        done, pending, group = first, None, next_group(first)
        while done < steps and not interrupted() and stopped != "early":
            shapes.add(str(jax.tree.map(np.shape, group)))
            # asynchronous: returns at once
            state, metrics, any_ctrl_c = compiled(state, group, placed_key, flag())
            done += len(jax.tree.leaves(group)[0])
            group = next_group(done)  # while the device computes
            if pending is not None:
                record(*pending)
            pending = (done, metrics, any_ctrl_c)
            at_end, better = done == steps, False
            evaluate_now = evaluate if at_end or _due(done, evaluate_every) else None
            if not (evaluate_now or at_end or _due(done, save_every)):
                continue
            record(*pending)
            pending = None
            if evaluate_now is not None:
                result = evaluate_now(state.params, done)
                learning_checks.evaluation_result("evaluate", result)
                checks.one_of("monitor", monitor, result)
                monitored = processes.from_main(float(result[monitor]))
                better = monitored < (math.inf if progress.best is None else progress.best)  # NaN is never better
                progress = _Progress(monitored, done, 0) if better else progress._replace(wait=progress.wait + 1)
                report.evaluation(done, result, better)
                if patience is not None and progress.wait >= patience:
                    stopped = "early"
            save(best=better)
        if interrupted() and stopped != "early" and done < steps:
            stopped = "interrupted"
            if pending is not None:  # otherwise this step is saved already
                record(*pending)
                save(best=False)
            report.print(f"interrupted at step {done}" + ("; saved, resume continues from here" if checkpoints else ""))
        if len(shapes) > 1:
            report.print(f"{len(shapes)} batch shapes were compiled")
        jax.block_until_ready(state)
    return Fit(state, stopped, progress.best, progress.best_step, time.monotonic() - start_time, len(shapes))


def _restore(
    checkpoints: Checkpoints, state: TrainState, key: Array, metadata: dict, origin: dict, resume: bool | str
) -> tuple[TrainState, Array, _Progress]:
    """State, key and progress of the newest intact checkpoint, which must be of the same run; else those given."""
    if not resume:
        checks.refuse("checkpoints", "a folder without checkpoints", f"{checkpoints.folder} with some",
                      "resume=True continues with them")  # fmt: skip
    restored = checkpoints.restore(state)
    if restored is None:
        return state, key, _Progress()
    stored = restored.metadata
    if "origin" not in stored:  # saved by a user's own training loop
        key = restored.key
    elif resume != "anyway":
        user_metadata = {k: v for k, v in stored.items() if k not in (*RESERVED, *RESERVED_BY_FIT)}
        stored_origin = {"metadata": user_metadata, "key": stored["key"], **stored["origin"]}
        check_origin(checkpoints.folder, stored_origin, {"metadata": metadata, "key": encode_key(key), **origin})
    return restored.state, key, _Progress(**stored.get("progress", {}))


@functools.lru_cache(maxsize=8)
def _compiled(step: Step, layout: Layout | None) -> Callable:
    """The jitted scan over a step; cached, so that a second ``fit`` with the same step does not compile it again.

    It also returns whether any process was interrupted by Ctrl-C. That is a sum over devices, which must come after
    those of the steps on every device: each blocks a thread of a CPU, and in different orders they wait for each other.
    """
    scan = scan_steps(step)

    def steps(
        state: TrainState, batches: PyTree, key: Array, ctrl_c: Array | None
    ) -> tuple[TrainState, PyTree, Array | None]:
        state, metrics = scan(state, batches, key)
        return state, metrics, None if ctrl_c is None else jnp.any(ctrl_c & (state.step >= 0))

    out_shardings = None if layout is None else (layout.state, layout.replicated, layout.replicated)
    return jax.jit(steps, donate_argnums=0, out_shardings=out_shardings)


class _Progress(NamedTuple):
    """The state of early stopping."""

    best: float | None = None
    best_step: int | None = None
    wait: int = 0  # evaluations since the best one


def _last_checkpoint(checkpoints: Checkpoints | None) -> str:
    if checkpoints is None or not checkpoints.steps():
        return "there is no checkpoint"
    return f"the last good checkpoint is that of step {checkpoints.steps()[-1]} in {checkpoints.folder}"


def _due(done: int, every: int | None) -> bool:
    return every is not None and done % every == 0


def _next_group(
    batches: Batches,
    steps: int,
    steps_per_execution: int,
    evaluate_every: int | None,
    save_every: int | None,
    done: int,
) -> list[PyTree]:
    """The next ``steps_per_execution`` batches; a single batch before an evaluation, a save or another shape.

    It depends on ``done`` alone, so a resumed run groups its steps like an uninterrupted one.
    """
    if done >= steps:
        return []
    nearest = min([steps - done] + [every - done % every for every in (evaluate_every, save_every) if every])
    if done % steps_per_execution == 0 and nearest >= steps_per_execution:
        group = [learning_checks.batch(batches, n, steps) for n in range(done, done + steps_per_execution)]
        shapes = [jax.tree.map(np.shape, batch) for batch in group]
        if all(shape == shapes[0] for shape in shapes):
            return group
    return [learning_checks.batch(batches, done, steps)]


@contextlib.contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Ctrl-C sets an event instead of raising; the second one raises. Only the main thread can handle signals."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def handle(number: int, frame: Any) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
