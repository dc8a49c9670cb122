"""Compare forecasts of recurrent networks with seasonal naive ones, exponential smoothing and ARIMA on public series.

    python scripts/forecast_table.py --data DIR          # DIR has the CSV files; continues where it was stopped
    python scripts/forecast_table.py --report            # the table of what has been measured

Every method is fitted on the first 80 % of each series and forecasts from the same origins in the last 20 %, each with
all values before it and without being fitted again. The networks are those of forecast.py: an ensemble for each
representation of the values, trained on 60 %; the one with the smallest CRPS in the next 20 % is trained again on
80 %. Two series come from the web or DIR, the others from statsmodels; AutoETS and AutoARIMA need statsforecast.

MASE is the mean absolute error of the median, over that of the season before in the first 80 % (Hyndman & Koehler
2006); the CRPS is divided by the same. A network has the mean over the seeds and, after ±, their standard deviation.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
import time
from typing import Any

import common
import numpy as np
from common import positive
from forecasting import classical, network, problems
from forecasting.network import Settings
from forecasting.problems import Problem

MEASURES = {"mase": "MASE", "crps": "CRPS", "cover80": "within 80 %", "cover95": "within 95 %"}
COUNT = 60  # origins of a problem, at most about


def main() -> None:
    args = arguments()
    path = pathlib.Path(args.out) / "results.jsonl"
    if not args.report:
        path.parent.mkdir(parents=True, exist_ok=True)
        for name in args.problems:
            compare(problems.problem(name, args.data), args, path)
    found = results(path)
    if not found:
        common.refuse(f"--report: expected the results of an earlier run in --out, got no {path}")
    print(report(found))
    print(json.dumps({"script": "forecast_table", "results": len(found)}))


def compare(problem: Problem, args: argparse.Namespace, path: pathlib.Path) -> None:
    """Measure what has not been measured, one line of results each."""
    lengths = [len(one) for one in problem.series]
    ends, until = ([int(part * length) for length in lengths] for part in (0.6, 0.8))
    settings = Settings(steps=args.steps, members=args.members)
    known = {(one["problem"], one["method"], one["seed"]) for one in results(path)}
    automatic = classical.AUTOMATIC if classical.available() else ()
    methods = [("seasonal naive", 0), *((name, 0) for name in automatic),
               *((name, seed) for seed in range(args.seeds) for name in network.METHODS)]  # fmt: skip
    step = network.stride(problem, until, lengths, COUNT)
    for method, seed in methods:
        if (problem.name, method, seed) in known:
            continue
        began, more = time.monotonic(), {}
        if method in network.METHODS:
            chosen = settings._replace(method=method, seed=args.seed + seed)
            tried = [network.train(problem, chosen._replace(representation=kind), ends, until)
                     for kind in network.REPRESENTATIONS]  # fmt: skip
            best = min(tried, key=lambda one: (np.isnan(one.score), one.score))
            more = {"representation": best.settings.representation, "step": best.step, "validation": best.score}
            tested = network.refit(problem, best, until)
            windows = network.windows(problem, tested.settings, tested.scaling, start=until, shuffle=False, stride=step)
            samples, origins = network.forecast(problem, tested, windows)
        else:
            origins = every(problem, until, step)
            common_arguments = (problem.series, origins, problem.season, problem.horizon, until)
            samples = (classical.seasonal_naive(*common_arguments) if method == "seasonal naive" else
                       classical.automatic(method, *common_arguments, problem.log))  # fmt: skip
        found = network.score(problem, samples, origins, until)
        line = {"problem": problem.name, "method": method, "seed": seed, **found, **more,
                "origins": len(origins.starts), "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{problem.name}, {method}, seed {seed}: " + ", ".join(f"{name} {found[key]:.3f}" for key, name in
                                                                     MEASURES.items()), flush=True)  # fmt: skip


def every(problem: Problem, starts: list[int], step: int) -> network.Origins:
    """The origins of :class:`~jaxrnn.data.Windows`: every ``step`` steps, if a value of the horizon is known."""
    numbers, found = [], []
    for n, (one, start) in enumerate(zip(problem.series, starts)):
        for origin in range(start, len(one) - problem.horizon + 1, step):
            if np.isfinite(one.values[origin : origin + problem.horizon]).any():
                numbers.append(n)
                found.append(origin)
    return network.Origins(np.array(numbers), np.array(found))


def results(path: pathlib.Path) -> list[dict[str, Any]]:
    """What has been measured."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def report(found: list[dict[str, Any]]) -> str:
    """Tables in Markdown: a problem a row, a method a column; the networks of all seeds together."""
    chosen = found + best_networks(found)
    methods = [name for name in ("seasonal naive", *classical.AUTOMATIC, *network.METHODS, "chosen") if
               any(one["method"] == name for one in chosen)]  # fmt: skip
    lines = []
    for measure, title in MEASURES.items():
        lines += [f"\n{title}\n", "| series | " + " | ".join(methods) + " |", "|---|" + "---:|" * len(methods)]
        for problem in dict.fromkeys(one["problem"] for one in chosen):
            cells = []
            for method in methods:
                values = [one[measure] for one in chosen if (one["problem"], one["method"]) == (problem, method)]
                spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
                cells.append(f"{np.mean(values):.3f}{spread}" if values else "")
            lines.append(f"| {problem} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def best_networks(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each problem and seed the network with the smaller CRPS in the validation part, where all are measured."""
    chosen = []
    networks = [one for one in found if one["method"] in network.METHODS]
    for problem, seed in dict.fromkeys((one["problem"], one["seed"]) for one in networks):
        some = [one for one in networks if (one["problem"], one["seed"]) == (problem, seed)]
        if len(some) == len(network.METHODS):
            chosen.append({**min(some, key=lambda one: one["validation"]), "method": "chosen"})
    return chosen


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/forecast_table", "one small problem, two seeds, few steps", batch=None,
                           quick_out="runs/forecast_table_quick")  # fmt: skip
    names = list(problems.KNOWN)
    add = parser.add_argument
    add("--problems", nargs="+", choices=names, default=names[1:], quick=["el-nino"], metavar="NAME",
        help=f"of {', '.join(names)}")  # fmt: skip
    add("--data", metavar="DIR", help="folder with the CSV files (default: downloaded once)")
    add("--seeds", type=positive, default=3, quick=2, help="networks of each kind")
    add("--steps", type=positive, default=600, quick=60, help="optimizer steps, at most")
    add("--members", type=positive, default=5, quick=2, help="members of each ensemble")
    add("--report", action="store_true", help="measure nothing, print the table of the results in --out")
    args = parser.parse_args()
    if not args.report:
        needed = {"statsmodels"} if set(args.problems) & set(problems.STATSMODELS) else set()
        common.require(*needed)
        if importlib.util.find_spec("statsforecast") is None:
            print("statsforecast is not installed: without AutoETS and AutoARIMA")
    return args


if __name__ == "__main__":
    common.run(main)
