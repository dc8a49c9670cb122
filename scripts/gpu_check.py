"""Check and time the library on one GPU, in at most ten minutes.

    python scripts/gpu_check.py                          # one NVIDIA GPU
    python scripts/gpu_check.py --device cpu --quick     # every part in small, under three minutes, without a GPU

Parts, in this order: the tests of cells and derivative rules; forward and backward beside cuDNN, Flax and PyTorch;
memory of the gradient; the effect of ``jax.lax.scan(unroll=...)`` and of a loop as one CUDA graph; generation of one
sequence. Each part is a process with a time limit of its own and saves its results in ``--out`` as it goes, so that
nothing is lost when it is cut off. Libraries that are not installed are left out. ``--report`` makes the table again
from what is in ``--out``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import common
from benchmarks import driver, report

ROOT = pathlib.Path(__file__).parent.parent
TESTS = ("tests/test_bptt.py", "tests/test_contract.py", "tests/test_remat.py", "tests/test_precision.py")
PEERS = "jaxrnn,flax,flax-optimized,nnx,torch,cudnn"
UNITS = {"forward": "ms", "gradient": "ms", "decode": "µs a step"}
SIZES = {
    "compile": {"residuals": "kept for backward, MB", "temporary": "temporary of the gradient, MB"},
    "remat": {"plain": "gradient of the final state, MB", "remat": "the same with remat, MB"},
}
ALIKE = {"flax": "Flax", "flax-optimized": "Flax", "nnx": "Flax"}  # one column, the fastest of them


class Part(NamedTuple):
    """One process: its name, seconds that it may take, and its command."""

    name: str
    limit: int
    command: list[str]


def main() -> None:
    args = arguments()
    common.require("matplotlib")  # the benchmark draws
    out = pathlib.Path(args.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    if args.device == "cpu":
        print("cudnn is left out: it needs a GPU")
    if not args.report:
        for part in parts(args.device, args.quick, out):
            print(f"{part.name}: {run(part, args.device, out)}", flush=True)
    text = table(out)
    (out / "table.md").write_text(text + "\n")
    print(text, f"{out / 'table.md'} is written", sep="\n")


def parts(device: str, quick: bool, out: pathlib.Path) -> Iterator[Part]:
    """What is run, in this order; in small with ``quick``. All limits together are under ten minutes."""
    names = PEERS if device == "gpu" else PEERS.removesuffix(",cudnn")
    ours = "jaxrnn,jaxrnn-unroll4,jaxrnn-unroll16" + ",jaxrnn-graph" * (device == "gpu")
    shapes, wide = ("16x32,32x128,64x256,32x512,64x1024", "64x256") if not quick else ("4x8", "4x8")
    both, T, long = "forward,gradient", *(("16", "32") if quick else ("128", "1000"))

    def benchmark(name: str, limit: int, libraries: str, *options: str) -> Part:
        timing = ["--budget", "0.05", "--rounds", "2"] if quick else ["--budget", "0.2", "--rounds", "3"]
        program = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "--device", device]
        return Part(name, limit, [*program, "--libraries", libraries, *options, *timing, "--out", str(out / name)])

    chosen = [f"{TESTS[0]}", "-k", "lstm"] if quick else [*TESTS]
    workers = (
        []
        if quick or importlib.util.find_spec("xdist") is None
        else ["-n", str(min(8, driver.cores())), "--dist", "load"]
    )
    yield Part("tests", 170, [sys.executable, "-u", "-m", "pytest", "-v", "--color=no", "--tb=short", "-p",
                              "no:cacheprovider", *workers, *chosen])  # fmt: skip
    yield benchmark("lstm-float32", 110, names, "--cells", "lstm", "--shapes", shapes, "--steps", T, "--measures", both)
    yield benchmark("lstm-bfloat16", 60, names, "--cells", "lstm", "--shapes", shapes, "--steps", T, "--measures", both,
                    "--dtypes", "bfloat16")  # fmt: skip
    yield benchmark("gru", 70, names, "--cells", "gru-after", "--shapes", shapes, "--steps", T, "--measures", both,
                    "--dtypes", "float32" if quick else "float32,bfloat16")  # fmt: skip
    yield benchmark("memory", 40, names.replace(",torch", ""), "--cells", "lstm", "--shapes", wide, "--steps",
                    T if quick else "128,1024", "--measures", "compile,remat")  # fmt: skip
    yield benchmark("unroll", 80, ours, "--cells", "lstm" if quick else "lstm,gru", "--shapes",
                    "4x8" if quick else "16x32,64x256,32x512", "--steps", T, "--measures", both)  # fmt: skip
    yield benchmark("decode", 40, "jaxrnn,torch" + ",jaxrnn-graph" * (device == "gpu"), "--cells", "lstm,gru-after",
                    "--shapes", "1x8" if quick else "1x128,1x512", "--steps", long, "--measures", "decode")  # fmt: skip


def run(part: Part, device: str, out: pathlib.Path) -> str:
    """Run a part with its output in a file; past its limit end it and all that it has started."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | driver.platform_of(device)
    env["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"  # float32 is float32: tolerances of tests and checks are not TF32's
    began = time.monotonic()
    with (out / f"{part.name}.log").open("w") as log:
        print("$", *part.command, file=log, flush=True)
        process = subprocess.Popen(
            part.command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            ended = f"ended with {process.wait(part.limit)}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            ended = "cut off"
    return f"{ended} after {time.monotonic() - began:.0f} of at most {part.limit} s"


# ---- the table -------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One line of the table."""

    part: str
    case: str
    measure: str
    values: dict[str, str]  # by library


def table(out: pathlib.Path) -> str:
    """All results that are there, in one Markdown table named after the card, and the tests that failed."""
    rows: list[Row] = []
    wrong: list[str] = []
    absent: dict[str, str] = {}
    card = versions = "no results"
    for path in sorted(out.glob("*/results.jsonl"), key=lambda path: path.stat().st_mtime):
        try:
            header, records = report.read(path)
        except ValueError:
            continue  # cut off before its first result
        said = header["libraries"]
        ours = said["jaxrnn"]
        card = ours.get("device", header["device"])
        versions = ", ".join(f"{name} {ours[name]}" for name in ("python", "jax", "jaxlib") if name in ours)
        versions += f", torch {said['torch']['torch']}" if "torch" in said.get("torch", {}) else ""
        absent |= {name: e.get("missing") or e["error"] for name, e in said.items() if {"missing", "error"} & e.keys()}
        wrong += [f"- {path.parent.name}: {text}" for text in report.failures(records)]
        rows += [row for record in records for row in rows_of(path.parent.name, record)]
    columns = list(dict.fromkeys(library for row in rows for library in row.values))
    lines = [f"# {card}", "", f"{versions}. Least time of a call; *wrong*: off by more than the tolerance.", ""]
    lines += ["| part | case | measure | " + " | ".join(columns) + " |", "|---|---|---" + "|---:" * len(columns) + "|"]
    for row in rows:
        cells = (row.values.get(library, "") for library in columns)
        lines.append(f"| {row.part} | {row.case} | {row.measure} | {' | '.join(cells)} |")
    lines += ["", *(f"- {name} is left out: {why}" for name, why in absent.items()), *wrong]
    return "\n".join([*lines, "", *tests(out / "tests.log")])


def tests(log: pathlib.Path) -> list[str]:
    """How many tests passed, and those that failed, as far as they came."""
    if not log.exists():
        return ["Tests: not run."]
    found = dict.fromkeys(("PASSED", "FAILED", "ERROR", "SKIPPED"), 0)
    failed = {}
    for line in log.read_text(errors="replace").splitlines():
        # "tests/a.py::test[x] PASSED [ 3%]", with several processes "[gw0] [ 3%] PASSED tests/a.py::test[x]"
        outcome = re.search(r"^(?:\[gw\d+\] \[ *\d+%\] (\w+) (tests\S+.*)|(tests\S+::.*) (\w+) +\[ *\d+%\])$", line)
        if outcome:
            state, test = (outcome[1], outcome[2]) if outcome[1] else (outcome[4], outcome[3])
            found[state] = found.get(state, 0) + 1
            if state in ("FAILED", "ERROR"):
                failed[test] = state
    counted = ", ".join(f"{n} {state.lower()}" for state, n in found.items() if n) or "none ended"
    return [f"Tests: {counted}.", *(f"- {state} {test}" for test, state in failed.items())]


def rows_of(part: str, record: dict) -> Iterator[Row]:
    """The lines of one case."""
    case = report.name(record["case"])
    for measure, unit in UNITS.items():
        values: dict[str, tuple[bool, float, str]] = {}
        for library, entry in record["libraries"].items():
            if "times" not in entry.get(measure, {}):
                continue
            each = min(entry[measure]["times"])
            each *= 1e3 if unit == "ms" else 1e6 / record["case"]["steps"]
            wrong = not entry.get("check", {}).get("ok", True)
            found = wrong, each, f"{each:.4g}" + " *wrong*" * wrong
            column = ALIKE.get(library, library)
            values[column] = min(values.get(column, found), found)  # of several the fastest that is right
        if values:
            yield Row(part, case, f"{measure}, {unit}", {column: found[-1] for column, found in values.items()})
    for measure, sizes in SIZES.items():
        for size, words in sizes.items():
            there = {library: entry[measure][size] for library, entry in record["libraries"].items()
                     if size in entry.get(measure, {})}  # fmt: skip
            least: dict[str, float] = {}
            for library, value in there.items():
                column = ALIKE.get(library, library)
                least[column] = min(value, least.get(column, value))
            if least:
                yield Row(part, case, words, {column: f"{value / 1e6:.2f}" for column, value in least.items()})


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = common.Parser(__doc__, "runs/gpu_check", "every part in small", plots=True, worker_devices=1)
    parser.add_argument("--device", choices=["cpu", "gpu"], default="gpu", help="where everything runs")
    parser.add_argument("--report", action="store_true", help="the table of the results in --out, no run")
    return parser.parse_args()


if __name__ == "__main__":
    common.run(main)
