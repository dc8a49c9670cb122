"""Runs that are repeated with several seeds: their options, their records in ``--out``, the mean and the spread.

Every finished run is one line of ``runs.jsonl`` in ``--out``; with ``--resume`` it is read back instead of repeated.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import common
import numpy as np

from jaxrnn.learning.processes import is_main

IRRELEVANT = {"out", "seed", "seeds", "resume", "quick", "devices", "mesh", "coordinator", "processes", "process_id"}


def add_options(parser: common.Parser, seeds: int, quick: int = 1) -> None:
    """Add ``--seeds`` and ``--resume``."""
    parser.add_argument("--seeds", type=common.positive, default=seeds, quick=quick, help="runs, from --seed on")
    parser.add_argument("--resume", action="store_true", help="do not repeat the finished runs in --out")


def runs(args: argparse.Namespace, option: str, run: Callable[[str, int], Any]) -> dict[str, list[Any]]:
    """The results of ``run(name, seed)``, which are JSON, one for each seed, by the names that ``option`` lists.

    With another value of any other option it is another run.
    """
    names, record = getattr(args, option), pathlib.Path(args.out) / "runs.jsonl"
    settings = {name: value for name, value in vars(args).items() if name not in IRRELEVANT | {option}}
    lines = record.read_text().splitlines() if args.resume and record.exists() else []
    found = {(line["name"], line["seed"]): line["result"]
             for line in map(json.loads, lines) if line["settings"] == settings}  # fmt: skip
    if is_main():
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text("".join(f"{line}\n" for line in lines))
    for seed in range(args.seed, args.seed + args.seeds):
        for name in names:
            if (name, seed) not in found:
                found[name, seed] = run(name, seed)
                line = {"name": name, "seed": seed, "settings": settings, "result": found[name, seed]}
                if is_main():
                    with record.open("a") as file:
                        print(json.dumps(line), file=file)
    return {name: [found[name, args.seed + n] for n in range(args.seeds)] for name in names}


def mean_and_spread(values: Sequence[float], digits: int = 3) -> str:
    """The mean of the runs and their standard deviation, as text; of one run its value."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def draw_band(axes: Any, x: Sequence[float], curves: Sequence[Sequence[float]], **options: Any) -> None:
    """Draw the mean of curves ``[seeds][points]``, and from the lowest to the highest."""
    (line,) = axes.plot(x, np.mean(curves, 0), **options)
    axes.fill_between(x, np.min(curves, 0), np.max(curves, 0), color=line.get_color(), alpha=0.2, lw=0)
