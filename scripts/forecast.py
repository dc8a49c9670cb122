"""Forecast time series of a file of your own, or public ones, with intervals; the baseline is the season before.

    python scripts/forecast.py                                            # the chaotic Mackey-Glass series
    python scripts/forecast.py --quick                                    # fewer steps
    python scripts/forecast.py --csv sales.csv --target sales             # a file of your own
    python scripts/forecast.py --csv sales.csv --target sales --time month --group shop --horizon 12
    python scripts/forecast.py --csv sales.csv --resume                   # more rows: forecasts without training
    python scripts/forecast.py --data DIR --series monthly-sunspots       # DIR has the CSV files

What is not given is found out, and said: the column of the times, their steps, the season, the horizon, whether the
logarithm is forecast. Cells may be empty. Times with an offset become those of UTC, with a Z. Covariates are columns
that are known in advance: the rows after the end of the target tell those of the forecasts.

The network, an ensemble of several, reads a context and gives distributions of the next h values: of all at once
(direct) or of one after another (recursive). It sees values (level), values relative to the end of the context
(relative), or differences to the season before (seasonal). Of all these the one is taken that has the smallest
continuous ranked probability score (CRPS) in the validation part. Each series is split in time: 60 % for training, 20 %
for validation, 20 % for the test. For the forecasts of the test, and for those beyond the end, the network is trained
anew with all values before, for as many steps as were the best.

MASE and CRPS are divided by the mean absolute difference to the season before. --out has predictions.csv, the plots,
and the checkpoint for --resume.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from typing import Any

import common
import jax
import numpy as np
import optax
from common import CELLS, above_zero, not_negative, positive
from forecasting import classical, drawing, network, problems, tables
from forecasting.network import Network, Settings
from forecasting.problems import Problem

from jaxrnn import learning
from jaxrnn.data import Table

COUNT = 200  # forecasts of the test, at most about
NAMES = {
    "level": "values",
    "relative": "values relative to the context",
    "seasonal": "differences to the season before",
}


def main() -> None:
    args = arguments()
    common.require("matplotlib")
    began = time.monotonic()
    saved = load(args) if args.resume else None
    result: dict[str, Any] = {}
    problem, table = read(args, None if saved is None else saved[1]["problem"])
    if table is not None:
        tables.say(problem, table)
    print(
        f"  forecasts   of {tables.steps(problem.horizon)}, season {problem.season}" + ", of logarithms" * problem.log
    )
    if saved is not None:
        found, out = saved[0], pathlib.Path(args.out)
    else:
        check_lengths(args, problem)
        out = common.run_folder(args.out)
        found, result = evaluate(problem, table, args, out)
        found = network.refit(problem, found, [len(one) for one in problem.series], mesh=args.mesh)
        save(out, found, problem, table)

    ahead = network.windows(problem, found.settings, found.scaling).latest()
    samples, origins = network.forecast(problem, found, [ahead])
    tables.write(out / "predictions.csv", problem, table, samples, origins)
    common.save_plot(drawing.ahead(problem, table, samples, origins), out / "forecast.png")
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({"script": "forecast", "series": problem.name, "horizon": problem.horizon, **result,
                      "seconds": seconds}))  # fmt: skip


def read(args: argparse.Namespace, run: dict[str, Any] | None) -> tuple[Problem, Table | None]:
    """The series of the file, or the public ones."""
    if args.csv is not None:
        return tables.read(args, run)
    problem = problems.problem(args.series, args.data)
    print(f"{problem.name}: {len(problem.series[0]):,} values")
    return problem._replace(season=args.season or problem.season, horizon=args.horizon or problem.horizon), None


def split(problem: Problem) -> tuple[list[int], list[int], list[int]]:
    """The ends of the training part, the validation part and the test of each series."""
    lengths = [len(one) for one in problem.series]
    parts = [max(problem.horizon, int(0.2 * length)) for length in lengths]
    until = [length - part for length, part in zip(lengths, parts)]
    return [end - part for end, part in zip(until, parts)], until, lengths


def check_lengths(args: argparse.Namespace, problem: Problem) -> None:
    """Refuse a season or a context that leaves no step of the training part to forecast."""
    training = max(split(problem)[0])
    for option in ("season", "context"):
        given, most = getattr(args, option), training - problem.horizon
        if given is not None and given > most:
            raise ValueError(f"--{option}: expected at most {tables.steps(most)}, a training part of {training:,} less "
                             f"a horizon of {problem.horizon}, got {given:,}")  # fmt: skip


def evaluate(
    problem: Problem, table: Table | None, args: argparse.Namespace, out: pathlib.Path
) -> tuple[Network, dict[str, Any]]:
    """The network of the best representation, and its measures in the test beside those of the season before."""
    ends, until, lengths = split(problem)
    settings = Settings(
        cell=args.cell, units=args.units, context=args.context, members=args.members, steps=args.steps,
        batch=args.batch, rate=args.rate, decay=args.decay, seed=args.seed,
    )  # fmt: skip
    tried = []
    for method in network.METHODS if args.method == "best" else (args.method,):
        for kind in network.REPRESENTATIONS if args.representation == "best" else (args.representation,):
            chosen = settings._replace(method=method, representation=kind)
            one = network.train(problem, chosen, ends, until, mesh=args.mesh)
            tried.append(one)
            print(f"{method:10}{NAMES[kind]:33} validation CRPS {one.score:.4f}, best at step {one.step:,}, "
                  f"{one.seconds:.0f} s", flush=True)  # fmt: skip
    best = min(tried, key=lambda one: (np.isnan(one.score), one.score))
    if len(tried) > 1:
        print(f"the smallest: {best.settings.method}, {NAMES[best.settings.representation]}")
    common.print_model(best.model, best.params)

    tested = network.refit(problem, best, until, mesh=args.mesh)
    windows = network.windows(problem, tested.settings, tested.scaling, start=until, shuffle=False,
                              stride=network.stride(problem, until, lengths, COUNT))  # fmt: skip
    samples, origins = network.forecast(problem, tested, windows)
    naive = classical.seasonal_naive(problem.series, origins, problem.season, problem.horizon, until)
    forecasts = {"network": samples, "seasonal naive": naive}
    scores = {name: network.score(problem, drawn, origins, until) for name, drawn in forecasts.items()}
    print(f"\ntest: {len(origins.starts):,} forecasts of {tables.steps(problem.horizon)}\n"
          f"{'':16}{'MASE':>8}{'CRPS':>8}{'within 80 %':>14}{'within 95 %':>14}")  # fmt: skip
    for name, score in scores.items():
        print(f"{name:16}{score['mase']:8.3f}{score['crps']:8.3f}{score['cover80']:14.1%}{score['cover95']:14.1%}")
    wins = scores["network"]["crps"] < scores["seasonal naive"]["crps"]
    print(f"the network {'wins' if wins else 'does not win'}, by CRPS")
    common.save_plot(drawing.test(problem, table, forecasts, origins, until), out / "test.png")
    measures = {measure: {name: finite(score[measure]) for name, score in scores.items()}
                for measure in scores["network"]}  # fmt: skip
    return best, {
        "method": best.settings.method,
        "representation": best.settings.representation,
        **measures,
        "wins": wins,
    }


def finite(number: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return round(number, 4) if np.isfinite(number) else None


# ---- the run folder --------------------------------------------------------------------------------------------------


def save(out: pathlib.Path, found: Network, problem: Problem, table: Table | None) -> None:
    """A checkpoint with all that a later forecast needs."""
    metadata = {"script": "forecast", "settings": found.settings._asdict(), "scaling": found.scaling,
                "best_step": found.step,
                "problem": {**problem._asdict(), "series": [one.name for one in problem.series],
                            "static_size": problem.series[0].static.size},
                "columns": None if table is None else {**table.columns, "dayfirst": table.dayfirst}}  # fmt: skip
    state = learning.train_state(found.params, optax.identity())
    learning.Checkpoints(out, found.model).save(state, jax.random.key(found.settings.seed), metadata, best=True)
    print(f"{out} has the checkpoint, for --resume")


def load(args: argparse.Namespace) -> tuple[Network, dict[str, Any]]:
    """The network of a run, and its metadata; the columns, horizon and season become those of the run."""
    model, params, metadata = common.load_run("forecast", args.out, "settings", "scaling", "problem", "columns")
    columns, problem = metadata["columns"], metadata["problem"]
    if columns is None:
        common.refuse(f"--resume: expected a run with --csv in --out, got one of --series {problem['name']}")
    for option in ("target", "time", "group", "covariates", "static", "dayfirst", "horizon", "season"):
        was = (columns | problem).get(option)
        was = was[0] if option == "target" else "none" if was is None and option == "time" else was
        given = getattr(args, option)
        if given not in (None, [], was):
            common.refuse(f"--{option}: expected {was}, as in the run that is resumed, got {given}; leave it out")
        setattr(args, option, was)
    found = Network(model, params, metadata["scaling"], Settings(**metadata["settings"]), np.nan,
                    metadata["best_step"], 0.0)  # fmt: skip
    return found, metadata


# ---- the command line ------------------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/forecast", "few steps, of --csv or the Mackey-Glass series", plots=True,
                           data_free=True)  # fmt: skip
    add = parser.add_argument
    add("--csv", metavar="FILE", help="a table of your own")
    add("--target", metavar="COLUMN", help="what is forecast (default: the only column of numbers)")
    add("--time", metavar="COLUMN", help="column of the times, or none (default: found by name and content)")
    add("--group", metavar="COLUMN", help="column that tells the series apart (default: one series)")
    add("--covariates", metavar="COLUMN", nargs="+", help="columns of numbers that are known in advance")
    add("--static", metavar="COLUMN", nargs="+", help="columns that never change within a group")
    add("--dayfirst", action=argparse.BooleanOptionalAction, help="whether 01/02/2024 is the first of February "
        "(default: the reading with the fewest missing steps)")  # fmt: skip
    add("--horizon", type=positive, metavar="N", help="steps to forecast (default: by the steps of the times)")
    add("--season", type=positive, metavar="N", help="steps of a season (default: found in the training part)")
    add(
        "--resume",
        action="store_true",
        default=None,
        help="forecast --csv with the network of the run in --out, without training",
    )
    add("--series", choices=problems.KNOWN, default="mackey-glass", help="a public series")
    add("--data", metavar="DIR", help="folder with the CSV files of --series (default: downloaded once)")
    usual = Settings()._asdict() | {"method": "best", "representation": "best"}

    quick = {"representation": "relative", "method": "direct", "members": 2, "steps": 120}

    def setting(name: str, text: str, **options: Any) -> None:
        """An option whose default may depend on the series."""
        special = "".join(f", {series} {found[name]}" for series, found in problems.SETTINGS.items() if name in found)
        special += f", with --quick {quick[name]}" if name in quick else ""
        add(f"--{name}", help=f"{text} (default: {usual[name]}{special})", **options)

    setting("representation", "what the network sees", choices=["best", *network.REPRESENTATIONS])
    setting("method", "all steps at once, or one after another", choices=["best", *network.METHODS])
    setting("cell", "the cell", choices=CELLS)
    setting("units", "hidden size", type=positive)
    add("--context", type=positive, metavar="N", help="steps that the network reads (default: two seasons)")
    setting("members", "networks, whose forecasts are put together", type=positive)
    setting("steps", "optimizer steps, at most", type=positive)
    add("--batch", type=positive, default=usual["batch"], help="contexts of an optimizer step")
    setting("rate", "initial learning rate of Adam, with cosine decay to 0", type=above_zero)
    setting("decay", "weight decay", type=not_negative)
    args = parser.parse_args()
    args.covariates, args.static = args.covariates or [], args.static or []
    special = problems.SETTINGS.get(args.series, {}) if args.csv is None else {}
    defaults: dict[str, Any] = usual | special | (quick if args.quick else {})
    for name in ("representation", "method", "cell", "units", "members", "steps", "rate", "decay"):
        if getattr(args, name) is None:
            setattr(args, name, defaults[name])
    if args.csv is None:
        for option in ("target", "time", "group", "covariates", "static", "dayfirst", "resume"):
            if getattr(args, option) not in (None, []):
                parser.error(f"--{option}: expected it with --csv FILE, got none")
    if args.csv is not None and args.data is not None:
        parser.error("--data: expected it with --series, got --csv")
    if args.data is not None and args.series == "mackey-glass":
        parser.error("--data: expected a --series that is read from a file, got mackey-glass, which is computed")
    if args.quick and args.series != "mackey-glass":
        parser.error(f"--series: expected mackey-glass with --quick, which needs no download, got {args.series}")
    return args


if __name__ == "__main__":
    common.run(main)
