"""Tables of time series: which column is what, rows in the order of time, and regular steps."""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxrnn import checks
from jaxrnn.data.calendars import (
    US,
    Frequency,
    could_be_swapped,
    day_first,
    find_frequency,
    parse_times,
    swapped,
)
from jaxrnn.data.cells import Cells, numbers, read_cells, share_of_numbers
from jaxrnn.data.series import Series

TIME_NAMES = re.compile(
    r"(date|time|datetime|timestamp|ds|day|week|month|quarter|year|hour|period|datum|zeit|jahr|monat|tag|fecha|epoch|"
    r"date[ _]?time|time[ _]?stamp|unix[ _]?time|t|step|index)", re.IGNORECASE
)  # fmt: skip
CALENDAR_WORDS = {name for names in (calendar.month_name, calendar.month_abbr, calendar.day_name, calendar.day_abbr)
                  for name in names}  # fmt: skip


class Table(NamedTuple):
    """Series of regular steps, and how they were read.

    ``times(n, steps)`` are the times of a series, also past its end.
    """

    series: list[Series]
    frequency: Frequency
    origins: list[Any]  # the time of step 0 of each series
    columns: dict[str, Any]  # "target", "time", "group", "covariates", "static", "unused"
    notes: list[str]  # what was found out and done
    dayfirst: bool | None = None  # whether 01/02 was read as the first of February; None where it does not matter
    utc: bool = False  # whether the times had offsets, and are now in UTC

    def times(self, n: int, steps: np.ndarray) -> np.ndarray:
        """The times of these steps of series n: ``datetime64[us]``, or numbers."""
        return self.frequency.times(self.origins[n], np.asarray(steps))


def read_table(
    table: Any,
    *,
    target: str | Sequence[str],
    time: str | Literal[False] | None = None,
    group: str | None = None,
    covariates: Sequence[str] = (),
    static: Sequence[str] = (),
    dayfirst: bool | None = None,
) -> Table:
    r"""Read series from a CSV file or a data frame.

    The rows are put in the order of time. The step is the commonest distance between times: a number of seconds, of
    months or business days, or a difference of numbers; a step without a row has missing values. Rows after the last
    value of the target tell the covariates of the future.

    A file may be separated by commas, semicolons, tabs or bars, in UTF-8, UTF-16 or Windows-1252, with a decimal point
    or comma and groups of thousands. Empty cells and words such as NA are missing values. An index of times of a data
    frame of pandas is a column of times.

    Args:
        table: path of a CSV file with a line of names, or a data frame of pandas or polars.
        target: column of the values, or several columns.
        time: column of the times; None finds it by name and content, False takes the rows of each group as they are.
        group: column that tells which series a row belongs to.
        covariates: columns of numbers that are known in advance. A missing one is that of the step before.
        static: columns that are the same in all rows of a group: numbers, or words, which become indicators 0 and 1.
        dayfirst: whether 01/02/2024 is the first of February; None takes the reading with the fewest missing steps.

    Returns:
        A :class:`Table`, whose ``notes`` say what was found out.

    Raises:
        ValueError, TypeError, OSError: the table cannot be read, a column is not there, a cell is not a number or a
            time, a time occurs twice, or the steps are not regular. A row has the number that a spreadsheet shows.

    Example:
        >>> import pathlib, tempfile
        >>> from jaxrnn.data import read_table
        >>> path = pathlib.Path(tempfile.mkdtemp(), "sales.csv")
        >>> _ = path.write_text("month;sales\n2024-01;1,5\n2024-02;2,5\n2024-04;3\n")
        >>> table = read_table(path, target="sales")
        >>> table.series[0].values.T
        array([[1.5, 2.5, nan, 3. ]])
        >>> str(table.frequency), table.times(0, [4])[0].item().date().isoformat()
        ('month', '2024-05-01')
    """
    if dayfirst is not None and not isinstance(dayfirst, bool):
        checks.refuse("dayfirst", "True, False or None", checks.describe(dayfirst), error=TypeError)
    cells = read_cells(table)
    notes = list(cells.notes)
    targets, known, fixed = (_names(cells, argument, value) for argument, value in
                             (("target", target), ("covariates", covariates), ("static", static)))  # fmt: skip
    if not targets:
        checks.refuse("target", "the name of a column", "none", f"the columns are {', '.join(cells.columns)}")
    group = None if group is None else cells.check_name("group", group)
    taken = [*targets, *known, *fixed, *([] if group is None else [group])]
    found = _time_column(cells, time, taken)
    taken += [] if found is None else [found]
    if twice := [name for n, name in enumerate(taken) if name in taken[:n]]:
        checks.refuse("columns", "each in one place", f"{twice[0]!r} in two", "name it once")

    clock, how, utc = _times(cells, found, dayfirst, notes)
    values = _matrix(cells, "target", targets, notes)
    given = _matrix(cells, "covariates", known, notes)
    constant = _static(cells, fixed, group)
    key = np.zeros(len(cells.rows)) if group is None else cells.columns[group]
    labels = list(dict.fromkeys(key.tolist()))
    if "" in labels:
        checks.refuse(f"row {cells.rows[(key == '').argmax()]}, column {group}", "a group", "an empty cell",
                      "fill it in, or delete the row")  # fmt: skip
    rows = [np.flatnonzero(key == label) for label in labels]
    if found is None:
        for of in rows:
            clock[of] = np.arange(1.0, len(of) + 1)  # the rows of one group may be between those of another
    rows = [of[np.argsort(clock[of], kind="stable")] for of in rows]
    rows = _without_copies(cells, clock, rows, taken, notes)
    if any((np.diff(of) < 0).any() for of in rows):
        notes.append("the rows were not in the order of time and were sorted")
    frequency = find_frequency([clock[of] for of in rows]) or Frequency("number", 1.0)

    series, origins, count = [], [], 0
    for label, of in zip(labels, rows, strict=True):
        name = None if group is None else f"{label:g}" if isinstance(label, float) else str(label)
        steps = _steps(cells, clock, of, frequency, found, name)
        one, first = _series(name, steps, values[of], given[of], constant[of[0]], notes)
        series.append(one)
        count += steps[-1] + 1
        origins.append(frequency.times(clock[of[0]], np.array([first]))[0])
    if count > 2 * len(np.concatenate(rows)):
        notes.insert(
            0, f"more than half of the steps have no row: is {frequency} the step, are the times read rightly?"
        )
    roles = {"target": targets, "time": found, "group": group, "covariates": known, "static": fixed,
             "unused": [name for name in cells.columns if name not in taken]}  # fmt: skip
    return Table(series, frequency, origins, roles, notes, day_first(how), utc)


def _names(cells: Cells, argument: str, value: Any) -> list[str]:
    return [cells.check_name(argument, name) for name in ([value] if isinstance(value, str) else value)]


def _matrix(cells: Cells, argument: str, names: list[str], notes: list[str]) -> np.ndarray:
    """Columns of numbers, ``[rows, columns]``."""
    matrix = np.zeros((len(cells.rows), len(names)))
    for n, name in enumerate(names):
        matrix[:, n], how = numbers(argument, name, cells)
        notes += [f"the numbers of {name} have {how}"] * bool(how)
    return matrix


# ---- time ------------------------------------------------------------------------------------------------------------


def _time_column(cells: Cells, time: str | bool | None, taken: list[str]) -> str | None:
    """The column of the times: as given, else the first of a name of times, else the first of times as text."""
    if time is False:
        return None
    if time is not None:
        return cells.check_name("time", time)
    free = [name for name in cells.columns if name not in taken]
    readable = [name for name in free if cells.columns[name].dtype.kind == "M" or _share_of_times(cells, name) > 0.5]
    named = [name for name in free if TIME_NAMES.fullmatch(name)]
    counting = [name for name in named if name not in readable and share_of_numbers(cells.columns[name]) == 1]
    return next(iter([*(n for n in readable if n in named), *readable, *counting]), None)


def _share_of_times(cells: Cells, name: str) -> float:
    column = cells.columns[name]
    if column.dtype != object or share_of_numbers(column) == 1:
        return 0.0
    some = [cell for cell in column if cell][:50]
    return float(np.mean(~np.isnat(parse_times(np.array(some, object))[0]))) if some else 0.0


def _times(cells: Cells, name: str | None, dayfirst: bool | None, notes: list[str]) -> tuple[np.ndarray, str, bool]:
    """The time of each row, ``datetime64[us]`` or numbers; the format of texts; whether they had offsets."""
    how, utc = "", False
    if name is None:
        return np.arange(1.0, len(cells.rows) + 1), how, utc
    column = cells.columns[name]
    if column.dtype == object and share_of_numbers(column) == 1 and not _written_dates(column):
        column = numbers("time", name, cells)[0]
    if column.dtype == object:
        texts = column
        column, how = parse_times(texts, dayfirst)
        if day_first(how) is not None:
            doubt = f"; they could also be {swapped(how)}, which dayfirst decides" * could_be_swapped(texts, how)
            notes.append(f"the times are written as {how}, where %d is a day and %m a month{doubt}")
        utc = any(re.search(r"\d(Z|[+-]\d\d:?\d\d)$", text) for text in texts if len(text) > 11)
        notes += ["the times are in UTC"] * utc
        fix = f"correct it; the other times are written as {how}" if how else "times are written as 2024-12-31 or " \
            "2024-12-31 23:59; without a column of times the rows are taken as they are"  # fmt: skip
    elif column.dtype.kind == "f":
        texts, fix = column, "a row needs its time; delete it"
        for low, unit in ((1e9, "seconds"), (1e12, "milliseconds")):
            if ((texts >= low) & (texts < 3 * low)).all():
                notes.append(f"the times are {unit} since 1970")
                column = (texts * (US * 1e9 / low)).astype("datetime64[us]")
    else:
        texts, fix = column, "a row needs its time; delete it"
    wrong = np.isnat(column) if column.dtype.kind == "M" else np.isnan(column)
    if wrong.any():
        n = int(wrong.argmax())
        got = "an empty cell" if str(texts[n]) in ("", "NaT", "nan") else repr(str(texts[n]))
        checks.refuse(f"row {cells.rows[n]}, column {name}", "a time", got, fix)
    return column, how, utc


def _written_dates(column: np.ndarray) -> bool:
    """Numbers such as 31.12, which are read as numbers; 01.2024 is a month."""
    return all(re.fullmatch(r"\d\d[./]\d{4}", cell) for cell in column if cell)


def _without_copies(
    cells: Cells, clock: np.ndarray, rows: list[np.ndarray], taken: list[str], notes: list[str]
) -> list[np.ndarray]:
    """The rows without those that repeat another one; rows of one time that differ are refused."""
    kept, copies = [], 0
    for of in rows:
        same = np.flatnonzero(clock[of][1:] == clock[of][:-1])
        for n in same:
            before, row = of[n], of[n + 1]
            if any(str(cells.columns[name][before]) != str(cells.columns[name][row]) for name in taken):
                fix = "merge or delete one of them, or name the column of the group"
                if apart := _tells_apart(cells, before, row, taken):
                    fix = f"the column {apart} would tell them apart, as that of the groups"
                checks.refuse(f"rows {cells.rows[before]} and {cells.rows[row]}", "different times in one series",
                              f"{show(clock[row])} twice", fix)  # fmt: skip
        kept.append(np.delete(of, same + 1))
        copies += len(same)
    notes += [f"{copies} row{'s' * (copies > 1)} that repeat{'s' * (copies == 1)} another one left out"] * bool(copies)
    return kept


def _tells_apart(cells: Cells, row: int, other: int, taken: list[str]) -> str | None:
    """A column of few different words, which are no times, that differs between two rows."""
    for name, column in cells.columns.items():
        if name in taken or column.dtype != object or column[row] == column[other] or TIME_NAMES.fullmatch(name):
            continue
        words = set(column.tolist()) - {""}
        if len(words) < len(column) / 2 and not share_of_numbers(column) and not words <= CALENDAR_WORDS and not (
            _share_of_times(cells, name)
        ):  # fmt: skip
            return name
    return None


def show(time: Any) -> str:
    """A time as short as it can be written."""
    return show_all(np.array([time]))[0]


def show_all(times: np.ndarray, *, like: np.ndarray | None = None, utc: bool = False) -> list[str]:
    """Times in one format, as short as all of them, and those they are to be ``like``, can be written."""
    if times.dtype.kind != "M":
        return [f"{time:g}" for time in times]
    every = (times if like is None else np.concatenate([times, like])).astype("datetime64[us]")
    units = ("us", "s", "m") if utc else ("us", "s", "m", "D")
    unit: Any = [unit for unit in units if (every.astype(f"datetime64[{unit}]") == every).all()][-1]
    texts = np.datetime_as_string(times.astype("datetime64[us]"), unit=unit, casting="unsafe").tolist()
    return [text.replace("T", " ") + "Z" * utc for text in texts]


def _steps(
    cells: Cells, clock: np.ndarray, of: np.ndarray, frequency: Frequency, time: str | None, name: str | None
) -> np.ndarray:
    """The number of each row in steps since the first."""
    steps = frequency.steps(clock[of], clock[of[0]])
    whole = np.round(steps)
    off = np.abs(steps - whole) > 1e-6
    where = "" if name is None else f" of {name}"
    article = "" if str(frequency)[0].isdigit() else "a "
    fix = "bring the times to regular steps (df.resample of pandas), or take the rows as they are, without times"
    if off.any():
        n = int(off.argmax())
        checks.refuse(f"row {cells.rows[of[n]]}, column {time}",
                      f"steps of {article}{frequency}, the commonest one{where}",
                      f"{show(clock[of[n]])} after {show(clock[of[n - 1]])}", fix)  # fmt: skip
    if whole[-1] >= 20 * len(of) + 1000:
        checks.refuse(f"column {time}", f"steps of {article}{frequency}, the commonest one{where}",
                      f"{len(of):,} rows in {whole[-1] + 1:,.0f} steps", fix)  # fmt: skip
    return whole.astype(int)


# ---- one series ------------------------------------------------------------------------------------------------------


def _series(
    name: str | None, steps: np.ndarray, values: np.ndarray, given: np.ndarray, static: np.ndarray, notes: list[str]
) -> tuple[Series, int]:
    """A series of regular steps from its first to its last value, and the number of its first step."""
    where = "" if name is None else f"{name}: "
    observed = np.flatnonzero(~np.isnan(values).all(1))
    if not len(observed):
        checks.refuse(f"group {name}" if name else "target", "numbers", "empty cells alone", "delete its rows")
    first, last = steps[observed[[0, -1]]]
    full = np.full((steps[-1] + 1, values.shape[1]), np.nan)
    full[steps] = values
    full = full[first : last + 1]
    covariates = np.full((steps[-1] + 1, given.shape[1]), np.nan)
    covariates[steps] = given
    covariates = covariates[first:]
    missing = np.isnan(covariates)
    if missing.any():
        latest = np.maximum.accumulate(np.where(missing, -1, np.arange(len(covariates))[:, None]), 0)
        if (latest < 0).any():
            checks.refuse(f"group {name}, covariates" if name else "covariates", "a number in the first row",
                          "an empty cell", "fill it in")  # fmt: skip
        covariates = np.take_along_axis(covariates, latest, 0)
        notes.append(f"{where}{int(missing.sum()):,} missing covariates are taken from the step before")
    gaps, empty = (
        last - first + 1 - len(np.unique(steps[(steps >= first) & (steps <= last)])),
        int(np.isnan(full).sum()),
    )
    if empty:
        notes.append(f"{where}{empty:,} of {full.size:,} values are missing" +
                     (f", {gaps:,} of them for want of a row" if gaps else ""))  # fmt: skip
    return Series(full, covariates=covariates if given.shape[1] else None, static=static if len(static) else None,
                  name=name), int(first)  # fmt: skip


def _static(cells: Cells, names: list[str], group: str | None) -> np.ndarray:
    """The static columns of each row as numbers; words become indicators."""
    parts = [np.zeros((len(cells.rows), 0))]
    for name in names:
        column = cells.columns[name]
        if group is not None:
            of = cells.columns[group]
            for label in dict.fromkeys(of.tolist()):
                if len(different := list(dict.fromkeys(column[of == label].tolist()))) > 1:
                    checks.refuse("static", f"a column with one value a group, got {name!r}",
                                  f"{different[0]} and {different[1]} in {label}",
                                  "what changes is a covariate")  # fmt: skip
        if share_of_numbers(column) == 1:
            parts.append(numbers("static", name, cells)[0][:, None])
        else:
            parts.append((column[:, None] == np.array(sorted(set(column.tolist())), object)).astype(float))
    return np.concatenate(parts, 1)
