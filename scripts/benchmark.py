"""Compare the speed of jaxrnn, Flax, Haiku, Keras, Equinox and PyTorch on the same weights, with checked results.

    python scripts/benchmark.py --quick                 # a few cases
    python scripts/benchmark.py                         # all cells and shapes at T = 128, about 25 minutes
    python scripts/benchmark.py --full                  # the whole matrix, hours
    python scripts/benchmark.py --libraries jaxrnn,flax,torch --cells lstm --shapes 32x128,20x200 --steps 100
    python scripts/benchmark.py --device gpu --dtypes float32,bfloat16

Every library runs in a separate process with the same weights and inputs; outputs and gradients must agree with a
float64 reference to 1e-5. The processes are timed in turns, in several rounds, while the others wait. A time is the
minimum of at least 20 calls of at least 1 ms (of fewer if a call takes long; all times are saved). Libraries that are
not installed are left out. Results, a table and a plot are saved in ``--out``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import time

import common
from benchmarks import cases, driver, report
from common import above_zero


def main() -> None:
    args = arguments()
    common.require("matplotlib")
    out = pathlib.Path(args.out)
    if not args.report:
        run(args, out)
    if not (out / "results.jsonl").exists():
        common.refuse(f"--report: expected the results of an earlier run in --out, got no {out / 'results.jsonl'}")
    print(report.write(out))


def run(args: argparse.Namespace, out: pathlib.Path) -> None:
    """Measure all jobs and save each result at once."""
    began = time.monotonic()
    jobs = [dataclasses.replace(job, case=dataclasses.replace(job.case, seed=args.seed)) for job in selection(args)]
    if args.resume and not (out / "results.jsonl").exists():
        common.refuse(f"--resume: expected the results of an earlier run in --out, got no {out / 'results.jsonl'}")
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.jsonl"
    with driver.workers(args.libraries, args.device, args.tf32, args.devices) as (processes, said):
        if not set(processes) - {"reference"}:
            common.refuse("--libraries: expected at least one that is installed, got none")
        header = driver.machine(args.device, args.tf32, said)
        header |= {"budget": args.budget, "rounds": args.rounds, "command": sys.argv[1:]}
        done = resumed(results, header) if args.resume else set()
        with results.open("a" if done else "w") as file:
            if not done:
                print(json.dumps({"run": header}), file=file, flush=True)
            for n, job in enumerate(jobs):
                if job.key in done:
                    continue
                tolerance = driver.TOLERANCE["tf32" if args.tf32 else job.case.dtype]
                try:
                    record = driver.measure(
                        job, processes, budget=args.budget, rounds=args.rounds, tolerance=tolerance,
                        place=f"[{n + 1}/{len(jobs)}]",
                    )  # fmt: skip
                except RuntimeError as error:
                    print(error, file=sys.stderr)
                    continue
                print(json.dumps(record), file=file, flush=True)
    print(f"{len(jobs)} cases in {(time.monotonic() - began) / 60:.1f} minutes\n")


def resumed(results: pathlib.Path, header: dict) -> set[str]:
    """Keys of the finished cases of an earlier run, which must have had the same versions, machine and settings."""
    earlier, records = report.read(results)
    for name in ("cpu", "cores", "device", "tf32", "libraries", "budget", "rounds"):
        if earlier.get(name) != header[name]:
            common.refuse(f"--resume: expected the same {name} as there, {earlier.get(name)}, got {header[name]}; "
                          "leave it out")  # fmt: skip
    return {record["key"] for record in records}


def selection(args: argparse.Namespace) -> list[cases.Job]:
    """The jobs that the command line selects."""
    if args.quick:
        return cases.quick()
    if args.full:
        return cases.full()
    if not (args.cells or args.shapes or args.steps or args.inputs or args.measures or args.dtypes):
        return cases.standard()
    return cases.matrix(
        args.cells or cases.CELLS, args.shapes or cases.SHAPES, args.steps or [128], args.inputs or ["H"],
        tuple(args.measures or ("forward", "gradient")), args.dtypes or ["float32"],
    )  # fmt: skip


def arguments() -> argparse.Namespace:
    """Read the command line."""

    def several(one):
        return lambda text: [one(word) for word in text.split(",")]

    def one_of(*allowed):
        def convert(word):
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"expected some of {', '.join(allowed)}, got {word!r}")
            return word

        return convert

    def count(word):
        if not word.isdecimal() or int(word) == 0:
            raise argparse.ArgumentTypeError(f"expected whole numbers above 0, got {word!r}")
        return int(word)

    def shape(word):
        batch, _, hidden = word.partition("x")
        if not (batch.isdecimal() and hidden.isdecimal() and int(batch) and int(hidden)):
            raise argparse.ArgumentTypeError(f"expected shapes BxH such as 32x128, got {word!r}")
        return int(batch), int(hidden)

    def width(word):
        return word if word == "H" else str(count(word))

    parser = common.Parser(__doc__, "runs/benchmark", "a few cases, quickly timed", plots=True,
                           worker_devices=driver.cores())  # fmt: skip
    add = parser.add_argument
    add("--full", action="store_true", help="the whole matrix")
    add("--report", action="store_true", help="table and plot of the results in --out, no run")
    everything = (*driver.LIBRARIES, *driver.VARIANTS)
    standard = "the standard cases, see scripts/benchmarks/cases.py"
    add("--libraries", type=several(one_of(*everything)),
        help=f"some of {', '.join(everything)} (default: {', '.join(driver.LIBRARIES)})")  # fmt: skip
    add("--cells", type=several(one_of(*cases.CELLS)), help=f"some of {', '.join(cases.CELLS)} (default: {standard})")
    add("--shapes", type=several(shape), help=f"batch and hidden sizes, such as 32x128,20x200 (default: {standard})")
    add("--steps", type=several(count), help=f"sequence lengths T, such as 35,128,500 (default: {standard})")
    add("--inputs", type=several(width), help="input sizes I: numbers, or H for the hidden size (default: H)")
    measures = (*cases.TIMED, "decode", "compile", "remat")
    add("--measures", type=several(one_of(*measures)), help=f"some of {', '.join(measures)} (default: {standard})")
    add("--dtypes", type=several(one_of(*cases.DTYPES)), help=f"some of {', '.join(cases.DTYPES)} (default: float32)")
    add("--device", choices=["cpu", "gpu"], default="cpu", help="device of all libraries")
    add("--tf32", action="store_true", help="on a GPU: TensorFloat-32 products in every library, checked to 5e-3")
    add("--budget", type=above_zero, default=0.6, quick=0.2, help="seconds of timed calls per library and measure")
    add("--rounds", type=count, default=5, quick=3, help="turns of every library")
    add("--resume", action="store_true", help="continue an interrupted run")
    args = parser.parse_args()
    if args.quick + args.full + args.report > 1:
        parser.error("--quick, --full, --report: expected one of them, got several")
    if args.libraries is None:
        args.libraries = [*driver.LIBRARIES, *(["cudnn"] if args.device == "gpu" else [])]
    return args


if __name__ == "__main__":
    common.run(main)
