"""The training loop: prepares batches while the device computes, evaluates, saves, resumes, stops early."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.learning import checks as learning_checks
from jaxrnn.learning import processes
from jaxrnn.learning.checkpoints import RESERVED, Checkpoints, encode_key
from jaxrnn.learning.logs import open_logs
from jaxrnn.learning.mesh import Layout, Placement
from jaxrnn.learning.monitor import Monitor, Progress
from jaxrnn.learning.nonfinite import Watch
from jaxrnn.learning.plan import Plan
from jaxrnn.learning.provenance import as_json, check_origin, digest, fingerprint
from jaxrnn.learning.report import MetricsFormatter, Report, default_format
from jaxrnn.learning.sources import Reader
from jaxrnn.learning.step import Step, TrainState, scan_steps
from jaxrnn.types import Array, Params, PyTree

RESERVED_BY_FIT = ("progress", "origin")  # what fit adds to the metadata of a checkpoint


class Fit(NamedTuple):
    """The result of :func:`fit`."""

    state: TrainState  # the last; after an early stop with the best parameters
    stopped: str  # "finished", "early" (no better evaluation for ``patience`` evaluations) or "interrupted" (Ctrl-C)
    best: float | None  # the monitored number of the best evaluation
    best_step: int | None
    seconds: float  # of this call
    shapes: int  # different batch shapes, each compiled once
    best_params: Params  # those of the best evaluation; the last ones if there is none
    # "step" and each number, one entry for each step and each evaluation: of this call, of the whole run with ``log=``
    history: dict[str, np.ndarray]
    evaluations: dict[str, np.ndarray]

    def __repr__(self) -> str:
        best = "None" if self.best is None else f"{self.best:.4g} at step {self.best_step}"
        seconds = f"{self.seconds:.0f}" if self.seconds >= 10 else f"{self.seconds:.2g}"
        return f"Fit(stopped={self.stopped!r}, best={best}, {seconds} s, state={self.state!r})"


def fit(
    step: Step,
    state: TrainState,
    batches: Any,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    key: Array,
    mesh: jax.sharding.Mesh | None = None,
    batch_spec: PyTree = None,
    local_batches: bool = False,
    steps_per_execution: int = 10,
    evaluate: Callable[..., dict[str, Any]] | None = None,
    evaluate_every: int | Literal["epoch"] | None = None,
    monitor: str | Sequence[str] | None = None,
    mode: str | Sequence[str] | None = None,
    patience: int | None = None,
    checkpoints: Checkpoints | None = None,
    save_every: int | Literal["epoch"] | None = None,
    resume: bool | Literal["anyway"] = False,
    metadata: dict[str, Any] | None = None,
    log: str | os.PathLike | None = None,
    tensorboard: str | os.PathLike | None = None,
    callback: Callable[[int, dict[str, float]], Any] | None = None,
    format_metrics: MetricsFormatter = default_format,
    verbose: bool = True,
    live_plot: bool = False,
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
        batches: a source of batches, pytrees of arrays, of NumPy or on devices: an object whose ``batches[n]`` is batch
            n, counted from the start of training, as those of :mod:`jaxrnn.data`; a list of batches; an iterator; or
            anything that yields the batches of an epoch each time that it is iterated over, such as a PyTorch
            ``DataLoader``.
        steps: the step to end at, counted from the start of training.
        epochs: the epoch to end at, instead of ``steps``, for a source with a length; the run then evaluates at the end
            of each epoch, and reports epochs.
        key: random key of the run; step n uses ``fold_in(key, n)``.
        mesh: devices to train on, of :func:`device_mesh`, or a mesh of your own: its axis ``"batch"``, or its first,
            splits the batches and axis 0 of the carry.
        batch_spec: a ``jax.sharding.PartitionSpec`` for every leaf of a batch, or a tree prefix of them, where None is
            the default: ``[T, B, ...]`` is split along axis 1, ``[B]`` along axis 0.
        local_batches: whether ``batches[n]`` holds only this process's part of batch n, of the same shape on each; by
            default it is the whole batch on every process. Numbers without axes must be the same on every process.
            The first batch is compared between the processes, later ones are not.
        steps_per_execution: optimizer steps in one compiled call.
        evaluate: ``evaluate(params)`` or ``evaluate(params, step)`` returns a dict of numbers to report and texts to
            print; called on all processes. :func:`evaluate` makes the numbers.
        evaluate_every: steps between evaluations, or ``"epoch"``; there is always one at the end.
        monitor: the number returned by ``evaluate`` that decides which model is the best; of several, the second
            decides where the first ties. By default ``"loss"``, else the first number whose direction is known.
        mode: ``"min"`` or ``"max"``, for each if there are several; a ready metric (:mod:`jaxrnn.metrics`) and a loss
            know theirs.
        patience: stop early, after this many evaluations without a better one, and return to the best parameters.
        checkpoints: where to save: at each evaluation, at the end and at Ctrl-C; the best is kept.
        save_every: steps between further checkpoints, or ``"epoch"``.
        resume: continue from the newest intact checkpoint, or start if there is none. ``metadata``, ``key`` and the
            data (the first batch, and the number of batches if the source repeats) must be those of the run;
            ``"anyway"`` continues with others, which are stored from then on. Everything else may change: ``steps``,
            evaluation, patience, saving, reports.
        metadata: stored with each checkpoint, see :meth:`Checkpoints.save`, and compared when the run is resumed: what
            inference needs, such as the vocabulary and the names of the labels, and what else the run depends on, such
            as a learning rate, or the SHA-256 sum of all the data.
        log: JSON-lines file for the metrics of every step.
        tensorboard: folder for TensorBoard files; needs tensorboardX.
        callback: ``callback(step, metrics)``, called after every step and evaluation with numbers named
            ``"train/loss"``, ``"evaluation/loss"``, …, for loggers such as Weights & Biases or MLflow.
        format_metrics: a function from metrics to the text that is printed.
        verbose: whether to print: a progress bar on a terminal, a line that updates in place in a notebook, a line
            each 10 s elsewhere; and each evaluation.
        live_plot: in a notebook, whether to draw the metrics while they come; needs matplotlib.
        max_nonfinite: end the run after this many batches in a row whose loss or gradient is not finite. Such batches
            are skipped; a warning names the first, and the array in which it is not finite.

    Returns:
        The train state, the best parameters, the metrics as arrays, and how the run ended.

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
    learning_checks.numbers_of_a_run(steps_per_execution, max_nonfinite, patience, verbose, live_plot, resume)
    checks.required("key", key, "jax.random.key(0) makes one")
    checks.random_key("key", key)
    checks.instance("state", state, TrainState, "train_state(params, optimizer) makes one")
    reader = Reader(batches)
    plan = Plan.of(reader, steps, epochs, steps_per_execution, evaluate, evaluate_every, save_every)
    of_evaluations = {"evaluate_every": evaluate_every, "patience": patience, "monitor": monitor, "mode": mode}
    for name, value in of_evaluations.items():
        learning_checks.needs(name, value, "evaluate", evaluate)
    learning_checks.needs("resume", resume, "checkpoints", checkpoints)
    learning_checks.needs("save_every", save_every, "checkpoints", checkpoints)
    learning_checks.needs("mode", mode, "monitor", monitor)
    if checkpoints is not None:
        checks.instance("checkpoints", checkpoints, Checkpoints, "learning.Checkpoints(folder, model)")
    if callback is not None:
        learning_checks.callback(callback)
    evaluate = None if evaluate is None else learning_checks.evaluation(evaluate)
    monitored = None if monitor is None else Monitor.of(monitor, mode)
    checks.free_names("metadata", metadata or {}, (*RESERVED, *RESERVED_BY_FIT))
    metadata = as_json("metadata", metadata or {})
    placement, many = Placement(mesh, batch_spec, local_batches), jax.process_count() > 1
    origin = fingerprint(reader) if (checkpoints is not None or many) and not local_batches else {}
    if many:
        numbers = (plan, patience, max_nonfinite, str(monitored))
        saved = None if checkpoints is None else [str(checkpoints.folder), checkpoints.steps()]
        processes.check_same({"steps, …, max_nonfinite": numbers, "key": encode_key(key), "metadata": metadata,
                              "checkpoints": saved, "state": digest(state), **origin})  # fmt: skip
    state, progress, best_params = placement.state(state), Progress(), None  # a copy: the compiled call donates it
    if checkpoints is not None and checkpoints.steps():
        state, key, progress, best_params = _restore(checkpoints, state, key, metadata, origin, resume, monitored)
    compiled = _compiled(step, placement.layout(state))
    first, start_time = int(state.step), time.monotonic()
    stopped = "early" if patience is not None and progress.wait >= patience else "finished"
    shapes: set[str] = set()  # of the batches of one compiled call
    kinds: set[str] = set()  # of a batch
    agreed_to_stop, main = False, processes.is_main()
    history, logs = open_logs(log if main else None, tensorboard if main else None, callback if main else None,
                          first, bool(resume))  # fmt: skip

    with (
        processes.explain_loss_of_a_process(),
        Report(
            first,
            plan.steps,
            epoch=plan.epoch,
            logs=logs,
            format_metrics=format_metrics,
            verbose=verbose and main,
            live_plot=live_plot,
            history=history,
        ) as report,
        _ctrl_c() as ctrl_c,
    ):
        watch = Watch(state.params, int(state.skipped_in_a_row), max_nonfinite, report.print, main)

        def interrupted() -> bool:
            """Whether to stop; of several processes, all in the same step."""
            return agreed_to_stop if many else ctrl_c.is_set()

        def record(done: int, group: Sequence[PyTree], metrics: PyTree, any_ctrl_c: Array | None) -> None:
            """Wait for the metrics of a compiled call, report them, and end a run that is no longer finite."""
            nonlocal agreed_to_stop
            values, any_ctrl_c = jax.device_get((metrics, any_ctrl_c))
            agreed_to_stop |= bool(any_ctrl_c)
            report.metrics(done, {name: value for name, value in values.items() if name != "nonfinite_leaf"})
            watch.after(done, values, group, checkpoints)

        def save(best: bool) -> None:
            if checkpoints is not None:
                report.flush()  # the log holds all lines up to this step before the checkpoint exists
                checkpoints.save(state, key, {**metadata, "progress": progress._asdict(), "origin": origin}, best=best)

        if first >= plan.steps:
            report.print(f"nothing to do: the run is at step {first}, steps={plan.steps}")

        def flag() -> Array | None:
            """Whether this process was interrupted, for the others."""
            return placement.flag(ctrl_c.is_set()) if many else None

        def next_group(done: int) -> tuple[Sequence[PyTree], PyTree]:
            group = plan.next_group(reader, done)
            return group, placement.stacked(group) if group else None

        placed_key = placement.key(key)
        done, pending, (group, placed) = first, None, next_group(first)
        if group:
            watch.before(first, group[0])
        while done < plan.steps and not interrupted() and stopped != "early":
            shapes.add(str(jax.tree.map(np.shape, placed)))
            kinds.add(str(jax.tree.map(np.shape, group[0])))
            with _name_the_batch(done):  # asynchronous: returns at once
                state, metrics, any_ctrl_c = compiled(state, placed, placed_key, flag())
            done += len(group)
            now = (done, group, metrics, any_ctrl_c)
            group, placed = next_group(done)  # while the device computes
            if pending is not None:
                record(*pending)
            pending = now
            at_end, better = done == plan.steps, False
            evaluate_now = evaluate if at_end or plan.evaluates_at(done) else None
            if not (evaluate_now or at_end or plan.saves_at(done)):
                continue
            record(*pending)
            pending = None
            if evaluate_now is not None:
                result = evaluate_now(state.params, done)
                learning_checks.evaluation_result("evaluate", result)
                monitored = monitored or Monitor.default(result)
                values = [processes.from_main(value) for value in monitored.values(result)]
                progress, better = progress.after(monitored, values, done)
                if better:
                    best_params = _copy(state.params)
                report.evaluation(done, result, str(monitored) if better else "")
                if patience is not None and progress.wait >= patience:
                    stopped = "early"
            save(best=better)
        if interrupted() and stopped != "early" and done < plan.steps:
            stopped = "interrupted"
            if pending is not None:  # otherwise this step is saved already
                record(*pending)
                save(best=False)
            report.print(f"interrupted at step {done}" + ("; saved, resume continues from here" if checkpoints else ""))
        if len(kinds) > 1:
            report.print(f"{len(shapes)} batch shapes were compiled")
        watch.at_end()
        jax.block_until_ready(state)
        if stopped == "early" and progress.best is None and main:
            warnings.warn(f"no evaluation was a finite number ({monitored}): the parameters are the last", stacklevel=2)
        elif stopped == "early" and best_params is not None:
            report.print(f"stopped at step {done}, back to the parameters of step {progress.best_step}: {monitored}")
            state = state._replace(params=_copy(best_params))
    best_params = state.params if best_params is None else best_params
    return Fit(state, stopped, progress.best, progress.best_step, time.monotonic() - start_time, len(shapes),
               best_params, history.steps(), history.evaluations())  # fmt: skip


def _restore(
    checkpoints: Checkpoints,
    state: TrainState,
    key: Array,
    metadata: dict,
    origin: dict,
    resume: bool | str,
    monitor: Monitor | None,
) -> tuple[TrainState, Array, Progress, Params | None]:
    """State, key, progress and best parameters of the newest intact checkpoint, which must be of the same run.

    Those given if there is none.
    """
    if not resume:
        checks.refuse("checkpoints", "a folder without checkpoints", f"{checkpoints.folder} with some",
                      "resume=True continues with them")  # fmt: skip
    restored = checkpoints.restore(state)
    if restored is None:
        return state, key, Progress(), None
    stored = restored.metadata
    if "origin" not in stored:  # saved by a user's own training loop
        key = restored.key
    elif resume != "anyway":
        user_metadata = {k: v for k, v in stored.items() if k not in (*RESERVED, *RESERVED_BY_FIT)}
        stored_origin = {"metadata": user_metadata, "key": stored["key"], **stored["origin"]}
        check_origin(checkpoints.folder, stored_origin, {"metadata": metadata, "key": encode_key(key), **origin})
    progress = Progress.of(stored.get("progress", {}), monitor)
    best = None if progress.best_step is None else checkpoints.restore_params(progress.best_step, state.params)
    return restored.state, key, progress if best is not None else Progress(), best


@contextlib.contextmanager
def _name_the_batch(n: int) -> Iterator[None]:
    """Add the number of the batch to an error of the loss."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the train step, from batches[{n}] on")
        raise


@jax.jit
def _copy(params: Params) -> Params:
    """A copy that stays when the original is donated."""
    return jax.tree.map(jnp.copy, params)


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
