"""Kill a training run at random times, resume it each time, and compare its end with that of an undisturbed run.

    python scripts/kill_test.py                     # 20 kills, about 2 minutes
    python scripts/kill_test.py --quick             # 3 kills
    python scripts/kill_test.py --kills 100 --seed 1
    python scripts/kill_test.py --processes 2       # a run of several processes

A tiny character model saves every other step, so that kills (by SIGKILL) occur during start-up, training and saving.
Parameters, optimizer state, carried state and the log must be equal, bit for bit. Of several processes one or all are
killed; the rest must end by themselves within a minute, before all are started again.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import random
import socket
import subprocess
import sys
import time
from typing import Any

import common
from common import positive

SAVE_EVERY, STEPS_PER_KILL, BATCH = 2, 8, 4
MOST_SECONDS = 60  # in which the rest of the processes must end
TIMEOUTS = {"heartbeat_timeout_seconds": 10, "shutdown_timeout_seconds": 10, "initialization_timeout": 30}


def main() -> None:
    args = arguments()
    if args.child:
        train(pathlib.Path(args.child), args)
        return
    began = time.monotonic()
    steps = STEPS_PER_KILL * (args.kills + 2)
    out = common.run_folder(args.out)
    startup, period = run_undisturbed(out / "undisturbed", steps, args)
    kills = run_disturbed(out / "killed", steps, args, startup, period)
    differences = compare(out / "undisturbed", out / "killed")
    counts = ", ".join(f"{kills.count(phase)} {phase}" for phase in ("in start-up", "in training", "in a save"))
    verdict = "identical to an undisturbed run, bit for bit"
    if differences:
        verdict = f"DIFFERENT in {len(differences)} places, first {differences[0]}"
    print(f"{len(kills)} kills ({counts}), {steps} steps, {time.monotonic() - began:.0f} s: {verdict}")
    sys.exit(bool(differences))


def start(folder: pathlib.Path, steps: int, args: argparse.Namespace) -> list[subprocess.Popen]:
    """Start the processes of the run; what they print goes to a file beside its folder."""
    options: dict[str, Any] = {"--child": folder, "--steps": steps, "--seed": args.seed}
    if args.devices is not None:
        options["--devices"] = args.devices
    output = folder.with_suffix(".log")
    if args.processes == 1:
        return [start_process(options, output)]
    with socket.create_server(("localhost", 0)) as server:  # a port that is free
        options |= {"--coordinator": f"localhost:{server.getsockname()[1]}", "--processes": args.processes}
    return [start_process(options | {"--process-id": n}, output) for n in range(args.processes)]


def start_process(options: dict[str, Any], output: pathlib.Path) -> subprocess.Popen:
    words = [str(word) for item in options.items() for word in item]
    with output.open("a") as file:
        return subprocess.Popen([sys.executable, __file__, *words], stdout=file, stderr=subprocess.STDOUT)


def running(run: list[subprocess.Popen]) -> bool:
    return all(process.poll() is None for process in run)


def newest(folder: pathlib.Path) -> int:
    """The step of the newest checkpoint, 0 for none."""
    return max((int(p.name.removeprefix("step-")) for p in folder.glob("step-*")), default=0)


def drafts(folder: pathlib.Path) -> set[tuple[pathlib.Path, int]]:
    """Unfinished checkpoints, each with its inode: one is being written, those of killed runs remain."""
    found = set()
    for path in folder.glob("draft-*"):
        with contextlib.suppress(FileNotFoundError):  # finished since
            found.add((path, path.stat().st_ino))
    return found


def run_undisturbed(folder: pathlib.Path, steps: int, args: argparse.Namespace) -> tuple[float, float]:
    """Run to the end; return the seconds to the first checkpoint, and between checkpoints."""
    began, run = time.monotonic(), start(folder, steps, args)
    first = None
    while running(run):
        time.sleep(0.002)
        if first is None and newest(folder):
            first = time.monotonic()
    wait(run)
    assert first is not None
    return first - began, (time.monotonic() - first) / (steps / SAVE_EVERY)


def run_disturbed(
    folder: pathlib.Path, steps: int, args: argparse.Namespace, startup: float, period: float
) -> list[str]:
    """Kill the run during start-up, during saves and at any time; then let it end. Return the phase of each kill."""
    chance, kills = random.Random(args.seed), args.kills
    last = steps - 4 * SAVE_EVERY  # the run must not end before the last kill
    targets = iter(sorted(chance.uniform(0, last) for _ in range(kills)))
    aims = ["a save", "any time", "start-up", "any time", "a save"] * kills
    phases = []
    for aim in chance.sample(aims[:kills], kills):
        before, old, target, run = newest(folder), drafts(folder), next(targets), start(folder, steps, args)
        while aim != "start-up" and not before < newest(folder) >= target and running(run):
            time.sleep(0.001)
        while aim == "a save" and not drafts(folder) - old and running(run):
            time.sleep(0.001)
        until = time.monotonic() + chance.uniform(
            0, {"start-up": startup, "any time": period, "a save": period / 2}[aim]
        )
        while time.monotonic() < until and not (aim == "start-up" and newest(folder) > before):
            time.sleep(0.001)  # a start-up that was quicker than the first one is over
        victims = chance.choice([run, [chance.choice(run)]])
        for process in victims:
            process.kill()
        if 0 in [process.wait() for process in victims]:
            sys.exit(f"the run ended before it was killed ({aim}, from {before}, target {target}); try another --seed")
        saving = drafts(folder) - old
        phases.append("in a save" if saving else "in training" if newest(folder) > before else "in start-up")
        await_the_rest(run)
    wait(start(folder, steps, args))
    return phases


def wait(run: list[subprocess.Popen]) -> None:
    """Wait for a run that is not killed."""
    for process in run:
        if process.wait() != 0:
            sys.exit(f"the run failed with exit status {process.returncode}; its output is in --out")


def await_the_rest(run: list[subprocess.Popen]) -> None:
    """The processes that were not killed must end by themselves."""
    until = time.monotonic() + MOST_SECONDS
    for n, process in enumerate(run):
        try:
            process.wait(max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            for left in run:
                left.kill()
            sys.exit(f"process {n} did not end within {MOST_SECONDS} s after another was killed")


def compare(undisturbed: pathlib.Path, killed: pathlib.Path) -> list[str]:
    """Names of the arrays that differ between the ends of two runs, and of the log."""
    import numpy as np

    a, b = np.load(undisturbed / "end.npz"), np.load(killed / "end.npz")
    differences = [name for name in sorted({*a.files, *b.files})
                   if name not in a or name not in b or a[name].tobytes() != b[name].tobytes()]  # fmt: skip
    return differences + ["the log"] * ((undisturbed / "log.jsonl").read_text() != (killed / "log.jsonl").read_text())


def train(folder: pathlib.Path, args: argparse.Namespace) -> None:
    """A run with all kinds of state: Adam, a schedule, dropout, carried LSTM states, evaluations."""
    import jax
    import numpy as np
    import optax
    from jax.sharding import NamedSharding, PartitionSpec

    import jaxrnn as rnn
    from jaxrnn import learning
    from jaxrnn.data import Streams, Vocabulary, python_reference
    from jaxrnn.learning.processes import is_main

    mesh = common.start(args, BATCH, **TIMEOUTS)
    text = python_reference()[:3000]
    vocabulary = Vocabulary.of(text)
    streams = Streams(vocabulary.encode(text), batch=BATCH, steps=8)
    model = rnn.Stack(
        rnn.Embedding(len(vocabulary), 8),
        rnn.LSTM(8, 16, w_hh_init="glorot_uniform"),
        rnn.Dropout(0.2),
        rnn.Linear(16, len(vocabulary)),
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.03, args.steps)))
    init_key, key = jax.random.split(jax.random.key(args.seed))
    end = learning.fit(
        learning.train_step(learning.stream_loss(model), optimizer),
        learning.train_state(jax.jit(model.init)(init_key), optimizer, carry=model.initial_state((BATCH,))),
        streams,
        steps=args.steps,
        key=key,
        mesh=mesh,
        steps_per_execution=SAVE_EVERY,
        evaluate=lambda params, step: {"loss": jax.numpy.abs(params[3].w).max()},
        evaluate_every=3 * SAVE_EVERY,
        checkpoints=learning.Checkpoints(folder, model),
        save_every=SAVE_EVERY,
        resume=True,
        log=folder / "log.jsonl",
        verbose=False,
    )
    best = learning.load_model(folder)[1:]
    whole = jax.jit(lambda state: state, out_shardings=NamedSharding(mesh, PartitionSpec()))(end.state)
    tree = {"state": whole, "best": best[0], "best step": best[1]["step"]}
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    arrays: dict[str, Any] = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    if is_main():
        np.savez(folder / "end.npz", **arrays)


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/kill_test", "few kills", batch=None)
    parser.add_argument("--kills", type=positive, default=20, quick=3, help="number of kills")
    parser.add_argument("--devices", type=positive, metavar="N",
                        help="devices of a process (default: its cores, as many as divide the batch)")  # fmt: skip
    parser.add_argument("--processes", type=positive, default=1, metavar="N", help="processes of the run")
    parser.add_argument("--coordinator", help=argparse.SUPPRESS)
    parser.add_argument("--process-id", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    common.run(main)
