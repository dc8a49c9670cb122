"""Time of a training step on 1, 2, ... devices of this machine, and what many devices would gain, on paper.

    python scripts/scaling.py                  # five models, about five minutes
    python scripts/scaling.py --predict        # the predictions alone, at once
    python scripts/scaling.py --device gpu     # the GPUs of this machine

Strong scaling divides a fixed batch over the devices, weak scaling gives each device a batch of its own. Every number
of devices has a process of its own, on a CPU with a core a device; they are timed in turns, in several rounds, while
the others wait, and must agree on loss and gradient to 1e-5. One device may also use all cores, as it does without
further settings. The predictions are those of scripts/benchmarks/cost_model.py. Results, tables and a plot are saved in
``--out``.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import tempfile
from typing import Any

import common
from benchmarks import cost_model, driver
from common import above_zero, positive

KINDS = {"strong": "batch divided", "weak": "batch a device"}
ALL_CORES = "all cores"  # one device as it is without further settings
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000")  # Okabe and Ito: told apart by colour-blind readers
MARKERS = "osD^v"


def main() -> None:
    args = arguments()
    out = pathlib.Path(args.out)
    if not args.predict:
        common.require("matplotlib")
    out.mkdir(parents=True, exist_ok=True)
    predicted = cost_model.report()
    text = predicted if args.predict else measured(args, out) + "\n" + predicted
    (out / "scaling.md").write_text(text + "\n")
    print(text, f"{out / 'scaling.md'} is written", sep="\n")


def measured(args: argparse.Namespace, out: pathlib.Path) -> str:
    """Time all models, save each result at once, and return the table."""
    counts = sorted({2**k for k in range(args.devices.bit_length())} | {args.devices})
    processes = {str(n): worker(n, n, args.device) for n in counts}
    if args.device == "cpu" and args.devices > 1:
        processes[ALL_CORES] = worker(1, driver.cores(), args.device)
    records = []
    with driver.running(processes) as (alive, said), (out / "results.jsonl").open("w") as file:
        if "1" not in alive:
            common.refuse("--device: expected a device that JAX can use, got none")
        header = driver.machine(args.device, False, said) | {"budget": args.budget, "rounds": args.rounds}
        print(json.dumps({"run": header}), file=file, flush=True)
        for net in args.models:
            record = measure(net, alive, args.budget, args.rounds)
            records.append(record)
            print(json.dumps(record), file=file, flush=True)
    draw(records, out / "scaling.png")
    return table(header, records)


def worker(devices: int, cores: int, device: str) -> driver.Process:
    """The process of one number of devices."""
    return driver.Process("benchmarks.scaling", [devices, cores, device], driver.platform_of(device))


def measure(net: cost_model.Network, processes: dict[str, driver.Process], budget: float, rounds: int) -> dict:
    """The step of one model on every number of devices: compiled one after another, timed in turns."""
    record: dict[str, Any] = {"model": net.name, "network": net._asdict(), "devices": {}}
    found = record["devices"]
    with tempfile.TemporaryDirectory() as folder:
        for name, process in processes.items():
            n = 1 if name == ALL_CORES else int(name)
            batches = {"strong": net.batch, "weak": n * net.batch}
            if net.batch % n:
                batches.pop("strong")
            found[name] = process.ask("prepare", net=list(net), measures=batches, save=f"{folder}/{name}.npz")
            if "strong" in found[name]:
                found[name]["check"] = driver.compare(
                    f"{folder}/{name}.npz", f"{folder}/1.npz", driver.TOLERANCE["float32"]
                )
    for kind in KINDS:
        ready = [name for name in processes if kind in found[name]]
        timed, _ = driver.in_turns(ready, processes, kind, budget, rounds)
        for name, answer in timed.items():
            found[name][kind] |= answer
        shown = ", ".join(f"{name}: {min(a['times']) * 1e3:.4g}" for name, a in timed.items() if "times" in a)
        print(f"{net.name}, {KINDS[kind]}: {shown} ms", flush=True)
    for process in processes.values():
        process.ask("drop")
    return record


# ---- report ----------------------------------------------------------------------------------------------------------


def seconds(record: dict, name: str, kind: str) -> float | None:
    """The least time of a step, if it was measured and its results were right."""
    entry = record["devices"].get(name, {})
    times = entry.get(kind, {}).get("times")
    return min(times) if times and entry.get("check", {}).get("ok", True) else None


def speed_up(record: dict, name: str, kind: str) -> float | None:
    """Sequences a second over those of one device on one core."""
    alone, here = seconds(record, "1", kind), seconds(record, name, kind)
    if alone is None or here is None:
        return None
    batches = {n: record["devices"][n][kind]["batch"] for n in ("1", name)}
    return alone / here * batches[name] / batches["1"]


def table(header: dict, records: list[dict]) -> str:
    """Every time, speed-up (sequences a second over those of one device) and efficiency (speed-up a device)."""
    versions = ", ".join(f"{name} {version}" for name, version in header["libraries"]["1"].items() if name != "device")
    lines = [
        "## Measured", "",
        f"{header['date']}, {header['cpu']}, {header['cores']} cores, {header['libraries']['1']['device']}; "
        f"{versions}. Milliseconds of a training step, minimum and median.", "",
        "| model | devices | all-reduced, MB | batch divided: ms | median | speed-up | efficiency | "
        "batch a device: ms | median | efficiency |", "|---" + "|---:" * 9 + "|",
    ]  # fmt: skip
    for record in records:
        for name, entry in record["devices"].items():
            devices = 1 if name == ALL_CORES else int(name)
            reduced = entry.get("weak", {}).get("all_reduced", 0) / 1e6
            cells = [record["model"], f"1 on {ALL_CORES}" if name == ALL_CORES else name, f"{reduced:.2f}"]
            for kind in KINDS:
                gain = speed_up(record, name, kind)
                if gain is None:
                    wrong = not entry.get("check", {}).get("ok", True)
                    state = "FAILED" if wrong else "ERROR" if "error" in {**entry, **entry.get(kind, {})} else "n/a"
                    cells += [state, "", "", ""] if kind == "strong" else [state, "", ""]
                    continue
                times = entry[kind]["times"]
                cells += [f"{min(times) * 1e3:.4g}", f"{statistics.median(times) * 1e3:.4g}"]
                cells += [f"{gain:.2f}"] * (kind == "strong") + [f"{gain / devices:.0%}"]
            lines.append("| " + " | ".join(cells) + " |")
    inside = sum(e[k]["collectives_in_loops"] for r in records for e in r["devices"].values() for k in KINDS if k in e)
    return "\n".join([*lines, "", f"Collectives inside a loop over time: {inside}.", ""])


def draw(records: list[dict], path: pathlib.Path) -> None:
    """Speed-up with the batch divided, efficiency with a batch a device, over the number of devices."""
    figure, (left, right) = common.subplots(1, 2, figsize=(9, 4.2))
    counts = [int(name) for name in records[0]["devices"] if name != ALL_CORES]
    for record, colour, marker in zip(records, COLOURS, MARKERS, strict=False):
        for axes, kind in ((left, "strong"), (right, "weak")):
            gains = [(n, gain) for n in counts if (gain := speed_up(record, str(n), kind)) is not None]
            points = [(n, gain if kind == "strong" else 100 * gain / n) for n, gain in gains]
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, label=record["model"])
    left.plot(counts, counts, "--", color="0.5", label="ideal")
    right.axhline(100, linestyle="--", color="0.5", label="ideal")
    left.set(title="strong scaling: batch divided", ylabel="speed-up over one device [times]", ylim=(0, None))
    right.set(title="weak scaling: batch a device", ylabel="efficiency [%]", ylim=(0, None))
    for axes in (left, right):
        axes.set(xlabel="devices", xscale="log", xticks=counts, xticklabels=counts)
        axes.minorticks_off()
        axes.grid(alpha=0.25)
    left.legend(fontsize=8)
    common.save_plot(figure, path)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    by_name = {net.name: net for net in cost_model.MEASURED}

    def models(text: str) -> list[cost_model.Network]:
        for name in text.split(","):
            if name not in by_name:
                raise argparse.ArgumentTypeError(f"expected some of {', '.join(by_name)}, got {name!r}")
        return [by_name[name] for name in text.split(",")]

    parser = common.Parser(__doc__, "runs/scaling", "the first model, quickly timed", plots=True,
                           worker_devices=driver.cores())  # fmt: skip
    add = parser.add_argument
    add("--models", type=models, help=f"some of {', '.join(by_name)} (default: all, with --quick the first)")
    add("--predict", action="store_true", help="the predictions alone, no measurement")
    add("--device", choices=["cpu", "gpu"], default="cpu", help="kind of the devices")
    add("--budget", type=above_zero, default=2.0, quick=0.3, help="seconds of timed calls a measure and process")
    add("--rounds", type=positive, default=7, quick=3, help="turns of every process")
    args = parser.parse_args()
    args.models = args.models or list(cost_model.MEASURED)[: 1 if args.quick else None]
    return args


if __name__ == "__main__":
    common.run(main)
