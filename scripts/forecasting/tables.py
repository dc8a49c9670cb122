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
from jaxrnn.data.tables import TIME_NAMES, show

LEVELS = (0.025, 0.1, 0.5, 0.9, 0.975)


def read(args: argparse.Namespace) -> tuple[Problem, Table]:
    """The series of ``--csv``, without those that are too short, and their season and horizon."""
    table = read_table(
        args.csv,
        target=args.target or guess_target(args),
        time=False if args.time == "none" else args.time,
        group=args.group,
        covariates=args.covariates,
        static=args.static,
    )
    horizon = args.horizon or min(table.frequency.horizon(), max(max(map(len, table.series)) // 8, 1))
    table = without_short(table, 3 * horizon + 4, horizon)
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
        log=is_multiplicative(table.series, season),
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


def without_short(table: Table, least: int, horizon: int) -> Table:
    """The table without series that have fewer rows than training, validation and test need."""
    kept = [n for n, one in enumerate(table.series) if len(one) >= least]
    short = [str(one.name) for one in table.series if len(one) < least]
    if not kept:
        longest = max(map(len, table.series))
        fix = f"--horizon {(longest - 4) // 3} is possible" if longest > 6 else "a longer table"
        raise ValueError(
            f"--horizon: expected series of at least {least} steps for a horizon of {horizon}, got {longest}; {fix}"
        )
    notes = table.notes + [f"left out, with fewer than {least} steps: {shortened(short)}"] * bool(short)
    return table._replace(series=[table.series[n] for n in kept], origins=[table.origins[n] for n in kept], notes=notes)


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
    steps = f"{lengths[0]:,}" + (f" to {lengths[-1]:,}" if len(lengths) > 1 else "")
    print(f"{problem.name}: {count:,} series of {steps} steps")
    print(f"  target      {problem.unit}")
    if columns["time"]:
        start, end = (show(table.times(0, np.array([n]))[0]) for n in (0, len(first) - 1))
        print(f"  time        {columns['time']}, steps: {table.frequency}, {start} to {end}" + ", the first" *
              (count > 1))  # fmt: skip
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
        for k, (n, start) in enumerate(zip(origins.numbers, origins.starts)):
            for step, time in enumerate(times(table, n, start + np.arange(problem.horizon))):
                numbers = [samples[:, k, step].mean(), *quantiles[:, k, step]]
                name = [problem.series[n].name] if grouped else []
                out.writerow([*name, show(time), *(f"{number:.6g}" for number in numbers)])
    print(f"{path} is written")


def times(table: Table | None, n: int, steps: np.ndarray) -> Any:
    """The times of steps of a series, or the numbers of the steps from 1."""
    return table.times(n, steps) if table is not None else steps + 1.0
