"""A table of one's own as a problem: what is guessed, what is said about it, and the table of forecasts."""

from __future__ import annotations

import argparse
import csv
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from forecasting.measures import Origins
from forecasting.problems import Problem, find_season, is_multiplicative
from jaxrnn.data import Table, read_table
from jaxrnn.data.cells import read_cells, share_of_numbers
from jaxrnn.data.tables import TIME_NAMES, show, show_all

LEVELS = (0.025, 0.1, 0.5, 0.9, 0.975)


def read(args: argparse.Namespace, run: dict[str, Any] | None = None) -> tuple[Problem, Table]:
    """The series of ``--csv``, without those that are too short, and their season and horizon; or those of a run."""
    table = read_table(
        args.csv,
        target=args.target or guess_target(args),
        time=False if args.time == "none" else args.time,
        group=args.group,
        covariates=args.covariates,
        static=args.static,
        dayfirst=args.dayfirst,
    )
    if run is not None:
        table = of_run(table, run)
    horizon = args.horizon or min(table.frequency.horizon(), max(max(map(len, table.series)) // 8, 1))
    table = without_short(table, 3 * horizon + 4, horizon, args.horizon is not None)
    if args.covariates:
        check_future(table, horizon)
    if all(len(np.unique(one.values[~np.isnan(one.values)])) == 1 for one in table.series):
        value = table.series[0].values[0, 0]
        raise ValueError(f"--target: expected values that change, got {value:g} in all rows; name another column")
    season = args.season or find_season(table.series, table.frequency.seasons(), horizon)
    return Problem(
        pathlib.Path(args.csv).name,
        table.series,
        season,
        horizon,
        unit=table.columns["target"][0],
        step=str(table.frequency) if table.columns["time"] and table.frequency.unit != "number" else "row",
        log=is_multiplicative(table.series, season) if run is None else run["log"],
    ), table


def guess_target(args: argparse.Namespace) -> str:
    """The only column of numbers that is not something else."""
    columns = read_cells(args.csv).columns
    taken = [args.time, args.group, *args.covariates, *args.static]
    likely = [name for name, column in columns.items() if share_of_numbers(column) > 0.5 and name not in taken and
              not TIME_NAMES.fullmatch(name)]  # fmt: skip
    if len(likely) != 1:
        found = ", ".join(likely) or f"none among {', '.join(columns)}"
        raise ValueError(
            f"--target: expected the name of the column to forecast, got none; columns of numbers: {found}"
        )
    return likely[0]


def of_run(table: Table, run: dict[str, Any]) -> Table:
    """The series that a run has, in its order; of logarithms they have to be positive."""
    names = [one.name for one in table.series]
    if lost := [str(name) for name in run["series"] if name not in names]:
        raise ValueError(f"--csv: expected the groups of the run, {shortened([str(name) for name in run['series']])}, "
                         f"got no {lost[0]}; train without --resume")  # fmt: skip
    other = [str(name) for name in names if name not in run["series"]]
    table = chosen(table, [names.index(name) for name in run["series"]], other, "not among the groups of the run")
    if table.series[0].static.size != run["static_size"]:
        raise ValueError(f"--static: expected the words of the run, {run['static_size']} indicators and numbers, got "
                         f"{table.series[0].static.size}; train without --resume")  # fmt: skip
    for n, one in enumerate(table.series):
        low = np.flatnonzero(one.values[:, 0] <= 0)
        if run["log"] and len(low):
            where = f"group {one.name}, " * (one.name is not None)
            at = show(table.times(n, low[:1])[0])
            raise ValueError(f"{where}{table.columns['time'] or 'row'} {at}, column {table.columns['target'][0]}: "
                             "expected a value above 0, as the network forecasts logarithms, got "
                             f"{one.values[low[0], 0]:g}; train without --resume")  # fmt: skip
    return table


def chosen(table: Table, kept: Sequence[int], others: Sequence[str], why: str) -> Table:
    """The table with some of its series, which says which it leaves out."""
    left_out = table.columns.get("left out", []) + [f"{shortened(others)}, {why}"] * bool(others)
    return table._replace(series=[table.series[n] for n in kept], origins=[table.origins[n] for n in kept],
                          columns={**table.columns, "left out": left_out})  # fmt: skip


def steps(count: int) -> str:
    """A number of steps in words."""
    return f"{count:,} step" + "s" * (count != 1)


def without_short(table: Table, least: int, horizon: int, given: bool = True) -> Table:
    """The table without series that have fewer rows than training, validation and test need."""
    kept = [n for n, one in enumerate(table.series) if len(one) >= least]
    short = [str(one.name) for one in table.series if len(one) < least]
    if not kept:
        longest = max(map(len, table.series))
        fix = f"--horizon {(longest - 4) // 3} is possible" if longest > 6 else "a longer table"
        if len(table.series) > 1 and (longest <= 6 or not given or len(table.series) > longest):
            raise ValueError(
                f"--group: expected series of at least {least} steps for a horizon of {horizon}, got "
                f"{len(table.series):,} groups of at most {steps(longest)}; name another column than "
                f"{table.columns['group']}, or {fix}"
            )
        raise ValueError(
            f"--horizon: expected series of at least {least} steps for a horizon of {horizon}, got {longest}; {fix}"
        )
    return chosen(table, kept, short, f"with fewer than {least} steps")


def check_future(table: Table, horizon: int) -> None:
    """Refuse covariates that do not reach to the end of the forecasts."""
    for one in table.series:
        future = len(one.covariates) - len(one)
        if future < horizon:
            where = f" of {one.name}" if one.name else ""
            raise ValueError(f"--covariates: expected their values in {horizon} rows after the end{where}, where the "
                             f"target is empty, got {future}; add the rows, or leave out --covariates")  # fmt: skip


def shortened(names: Sequence[str]) -> str:
    """A list of which only the beginning is printed."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def say(problem: Problem, table: Table) -> None:
    """Print what each column was taken for, and what was guessed."""
    columns, first, count = table.columns, table.series[0], len(table.series)
    lengths = sorted({len(one) for one in table.series})
    print(f"{problem.name}: {count:,} series of " + (f"{lengths[0]:,} to " if len(lengths) > 1 else "") +
          steps(lengths[-1]))  # fmt: skip
    for names in columns.get("left out", []):
        print(f"  LEFT OUT    {names}")
    print(f"  target      {problem.unit}")
    if columns["time"]:
        start, end = (show(table.times(0, np.array([n]))[0]) for n in (0, len(first) - 1))
        print(f"  time        {columns['time']}, steps: {table.frequency}, {start} to {end}" +
              f" in the first group, {first.name}" * (count > 1))  # fmt: skip
        ends = [table.times(n, np.array([len(one) - 1]))[0] for n, one in enumerate(table.series)]
        if early := [f"{one.name} ({show(at)})" for one, at in zip(table.series, ends) if at < max(ends)]:
            print(f"  ends early  {shortened(early)}; the others end with {show(max(ends))}")
    else:
        print("  time        none, the rows are taken as they are")
    for role in ("group", "covariates", "static", "unused"):
        if columns[role]:
            names = [columns[role]] if role == "group" else columns[role]
            groups = f": {shortened([str(one.name) for one in table.series])}" if role == "group" else ""
            print(f"  {role:11} {shortened(names)}{groups}")
    for note in table.notes[:12]:
        print(f"  note        {note}")
    if len(table.notes) > 12:
        print(f"  note        and {len(table.notes) - 12} more of this kind")


def write(path: pathlib.Path, problem: Problem, table: Table | None, samples: np.ndarray, origins: Origins) -> None:
    """Write a row for each forecast value: group, time, mean and quantiles."""
    quantiles = np.quantile(samples, LEVELS, axis=0)
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        grouped = len(problem.series) > 1 or (table is not None and table.columns["group"] is not None)
        out.writerow([*(["group"] if grouped else []), "time", "mean", *(f"q{level:g}" for level in LEVELS)])
        like = np.concatenate([times(table, n, np.arange(len(one))) for n, one in enumerate(problem.series)])
        for k, (n, start) in enumerate(zip(origins.numbers, origins.starts)):
            at = times(table, n, start + np.arange(problem.horizon))
            for step, time in enumerate(show_all(at, like=like, utc=table is not None and table.utc)):
                numbers = [samples[:, k, step].mean(), *quantiles[:, k, step]]
                name = [problem.series[n].name] if grouped else []
                out.writerow([*name, time, *(f"{number:.6g}" for number in numbers)])
    print(f"{path} is written")


def times(table: Table | None, n: int, steps: np.ndarray) -> Any:
    """The times of steps of a series, or the numbers of the steps from 1."""
    return table.times(n, steps) if table is not None else steps + 1.0
