"""Runs the workers in turns and writes down what they say, case by case."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

import numpy as np

from benchmarks.cases import TIMED, Job

JAX_PEERS = ("flax", "flax-optimized", "nnx", "haiku", "keras", "equinox")
LIBRARIES = ("jaxrnn", "jaxrnn-autodiff", *JAX_PEERS, "torch")
UNROLLED = {"jaxrnn-unroll4": 4, "jaxrnn-unroll16": 16}  # jax.lax.scan(unroll=...)
SHARDED = tuple(f"{name}-sharded" for name in ("jaxrnn", *JAX_PEERS))  # the batch split over devices
VARIANTS = (*SHARDED, "jaxrnn-folded", *UNROLLED, "jaxrnn-graph", "cudnn")  # only when asked for
TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-2, "tf32": 5e-3}
FOLDED = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000000"
GRAPH = "--xla_gpu_enable_command_buffer=+WHILE"  # a loop becomes one CUDA graph
COMPILATIONS = 3
REST = 0.02  # seconds after a turn of PyTorch, whose threads spin for a few milliseconds before they sleep
FEWEST, ENOUGH, MOST = 5, 20, 100  # timed calls of a slow, an ordinary and a quick case


class Process:
    """A worker process, restarted when it dies; ``module`` is run with these arguments and this environment."""

    def __init__(self, module: str, args: Iterable[object], env: dict[str, str]) -> None:
        scripts = str(pathlib.Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, [scripts, os.environ.get("PYTHONPATH")]))
        self.env = os.environ | {"PYTHONPATH": path, "JAX_ENABLE_COMPILATION_CACHE": "0"} | env
        self.command = [sys.executable, "-m", module, *map(str, args)]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process

    def start(self) -> None:
        """Start the process."""
        self.process = subprocess.Popen(
            self.command, env=self.env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors
        )

    def send(self, do: str, **request: Any) -> None:
        """Ask, without waiting."""
        with contextlib.suppress(BrokenPipeError):
            pipe(self.process.stdin).write(json.dumps({"do": do, **request}) + "\n")
            pipe(self.process.stdin).flush()

    def read(self) -> dict[str, Any]:
        """The answer."""
        line = pipe(self.process.stdout).readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().strip().splitlines()[-1:]
        self.start()
        return {"error": f"the process ended with {code}: {' '.join(said)}"}

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Ask and wait."""
        self.send(do, **request)
        return self.read()

    def cpu(self) -> float:
        """Seconds of processor time so far, where the system tells (Linux), else 0."""
        try:
            fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process."""
        pipe(self.process.stdin).close()
        self.process.wait()
        pipe(self.process.stdout).close()
        self.errors.close()


def pipe(stream: Any) -> TextIO:
    """A pipe that is known to be there."""
    assert stream is not None
    return stream


def cores() -> int:
    """Cores that may be used."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def library_process(library: str, device: str, tf32: bool, devices: int) -> Process:
    """The worker of one library."""
    flags = os.environ.get("XLA_FLAGS", "")
    env = {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "2"} | platform_of(
        "cpu" if library == "reference" else device
    )
    if "JAX_PLATFORMS" not in env and not tf32:
        env["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
    own = {
        "jaxrnn-folded": FOLDED,
        "jaxrnn-graph": GRAPH,
        **dict.fromkeys(SHARDED, f"--xla_force_host_platform_device_count={devices}"),
    }
    if library == "reference":
        env["JAX_ENABLE_X64"] = "1"
    if library in own:
        env["XLA_FLAGS"] = f"{flags} {own[library]}".strip()
    return Process("benchmarks.worker", [library, device, *["tf32"] * tf32], env)


def platform_of(device: str) -> dict[str, str]:
    """The environment of a JAX process on a device; on a GPU several of them share its memory."""
    return {"JAX_PLATFORMS": "cpu"} if device == "cpu" else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


@contextlib.contextmanager
def running(processes: dict[str, Process]) -> Iterator[tuple[dict[str, Process], dict[str, Any]]]:
    """The processes by name, those that can work, and what each said of itself."""
    started: dict[str, Process] = {}
    try:
        for name, process in processes.items():
            process.start()
            started[name] = process
            process.send("hello")
        said = {name: process.read() for name, process in started.items()}
        for name, answer in said.items():
            for problem in ("missing", "error"):
                if problem in answer:
                    print(f"{name} is left out: {answer[problem]}", flush=True)
                    started.pop(name).close()
        yield started, said
    finally:
        for process in started.values():
            process.close()


def workers(libraries: Iterable[str], device: str, tf32: bool, devices: int) -> Any:
    """Worker processes of the libraries that are installed, the reference among them, and what each said of itself."""
    return running({name: library_process(name, device, tf32, devices) for name in [*libraries, "reference"]})


def machine(device: str, tf32: bool, libraries: dict[str, Any]) -> dict[str, Any]:
    """What a result depends on besides the code: machine, versions, flags."""
    model = platform.processor()
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": model, "cores": cores(), "system": platform.platform(), "device": device, "tf32": tf32,
        "libraries": libraries,
    }  # fmt: skip


def measure(
    job: Job, processes: dict[str, Process], *, budget: float, rounds: int, tolerance: float,
    place: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Everything about one case: every library's results compared, then timed in turns."""
    wanted = [name for name in processes if name != "reference" and (not job.libraries or name in job.libraries)]
    record: dict[str, Any] = {"key": job.key, "case": dataclasses.asdict(job.case), "libraries": {}}
    found: dict[str, dict[str, Any]] = record["libraries"]
    with tempfile.TemporaryDirectory() as folder:
        compiled_only = not {*TIMED, "decode"} & set(job.measures)
        names = wanted if compiled_only else ["reference", *wanted]
        answers: dict[str, Any] = {}
        for n in range(0, len(names), cores()):  # compiling is not timed here: as many at once as there are cores
            group = names[n : n + cores()]
            for name in group:
                saved = f"{folder}/{name}.npz"
                processes[name].send(
                    "prepare", case=record["case"], measures=[m for m in job.measures if concerns(m, name)], save=saved
                )
            answers |= {name: processes[name].read() for name in group}
        truth = answers.pop("reference", {})
        if "error" in truth:
            raise RuntimeError(f"the reference failed on {job.case}: {truth['error']}")
        for name, answer in answers.items():
            found[name] = {key: answer[key] for key in ("absent", "error", "missing") if key in answer}
            if answer.get("saved"):
                found[name]["check"] = compare(f"{folder}/{name}.npz", f"{folder}/reference.npz", tolerance)
    alive = [name for name in wanted if not found[name].keys() & {"absent", "error", "missing"}]
    for what in job.measures:
        ready = [name for name in alive if concerns(what, name)]
        if what in ("compile", "remat"):
            timed = _inspected(ready, processes, what)
        else:
            timed, record[f"idle {what}"] = in_turns(ready, processes, what, budget, rounds)
        for name, answer in timed.items():
            found[name][what] = answer
        print(place, line(record, what), flush=True)
    for name in names:
        processes[name].ask("drop")
    return record


def concerns(measure: str, library: str) -> bool:
    """Whether a library is asked for a measure: decoding is compared with PyTorch, which compiles nothing."""
    ours = library.startswith("jaxrnn")
    asked = {"decode": ours or library in ("torch", "reference"), "remat": ours, "compile": library != "torch"}
    return asked.get(measure, True)


def _inspected(names: list[str], processes: dict[str, Process], what: str) -> dict[str, Any]:
    """What needs no runs; compiled several times in turns."""
    found: dict[str, Any] = {}
    for _ in range(COMPILATIONS if what == "compile" else 1):
        for name in names:
            answer = processes[name].ask("inspect", measure=what)
            earlier = found.get(name, {}).get("times", [])
            found[name] = answer | ({"times": earlier + answer["times"]} if "times" in answer else {})
    return found


def in_turns(
    names: list[str], processes: dict[str, Process], what: str, budget: float, rounds: int
) -> tuple[dict[str, Any], float]:
    """Time all in rounds, each round in another order; also the share of a core that the waiting ones used."""
    found: dict[str, Any] = {}
    calls: dict[str, int] = {}
    for name in names:
        answer = processes[name].ask("calibrate", measure=what)
        found[name] = answer
        if "seconds" in answer:
            calls[name] = how_many(answer.pop("seconds") * answer["inner"], budget, rounds)
            answer["times"] = []
    waiting = elapsed = 0.0
    for n in range(rounds):
        order = [name for name in found if name in calls]
        order = order[n % max(1, len(order)) :] + order[: n % max(1, len(order))]
        for name in order:
            others = [process for other, process in processes.items() if other != name]
            before, began = sum(p.cpu() for p in others), time.monotonic()
            answer = processes[name].ask("time", measure=what, calls=calls[name])
            if name == "torch":
                time.sleep(REST)
            elapsed += time.monotonic() - began
            waiting += sum(p.cpu() for p in others) - before
            if "times" in answer:
                found[name]["times"] += answer["times"]
            else:
                found[name] = answer
                calls.pop(name)
    return found, waiting / elapsed if elapsed else 0.0


def how_many(seconds: float, budget: float, rounds: int) -> int:
    """Timed calls a round, of a call that takes so long.

    The budget of seconds is for all rounds. Twenty calls may take three times as much, and five must be.
    """
    total = min(MOST, max(FEWEST, min(ENOUGH, 3 * budget / seconds), budget / seconds))
    return max(1, round(total / rounds))


def compare(found: str, reference: str, tolerance: float) -> dict[str, Any]:
    """The largest error of any array, relative to the largest entry of the reference."""
    with np.load(found) as ours, np.load(reference) as theirs:
        errors = {name: relative_error(ours[name], theirs[name]) for name in ours.files}
    worst = max(errors, key=lambda name: errors[name])
    return {"error": errors[worst], "of": worst, "ok": bool(errors[worst] <= tolerance)}


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """Largest |a - b| over largest |b|; infinite for other shapes and for numbers that are not finite."""
    if a.shape != b.shape or not np.isfinite(a).all():
        return float("inf")
    return float(np.abs(a - b).max() / np.abs(b).max())


def line(record: dict[str, Any], what: str) -> str:
    """One line of progress."""
    words = []
    for name, entry in record["libraries"].items():
        state = entry.get(what, entry)
        if "times" in state:
            failed = "" if entry.get("check", {}).get("ok", True) else " FAILED"
            words.append(f"{name} {min(state['times']) * 1e3:.4g}{failed}")
        elif "error" in state:
            words.append(f"{name} ERROR {state['error']}")
        elif what == "remat" and "remat" in state:
            words.append(f"{name} {state['plain'] / 1e6:.2f} MB, rematerialised {state['remat'] / 1e6:.2f} MB")
    case = record["case"]
    title = f"{case['cell']} {case['batch']}x{case['hidden']} T={case['steps']} I={case['inputs']} {case['dtype']}"
    return f"{title} {what}: {', '.join(words)}" + (" ms" if what != "remat" else "")
