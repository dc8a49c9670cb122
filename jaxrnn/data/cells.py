"""Tables as columns of text, with the rows numbered as a spreadsheet numbers them, and text as numbers."""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrnn import checks

MISSING = {"", "na", "n/a", "#n/a", "nan", "nat", "null", "none", "-", "--", "?", ".", "missing", "<na>"}
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SPACES = "[ \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}'’]"
NOT_TEXT = {b"PK": "a spreadsheet or an archive", b"\x1f\x8b": "a compressed file", b"PAR1": "a Parquet file",
            b"\xd0\xcf\x11\xe0": "an old spreadsheet"}  # fmt: skip

# A number with its decimal mark, perhaps with thousands in groups of three
NUMBERS = {
    ".": re.compile(rf"[+-]?(\d+|\d{{1,3}}(,\d{{3}})+|\d{{1,3}}({SPACES}\d{{3}})+)?(\.\d*)?([eE][+-]?\d+)?"),
    ",": re.compile(rf"[+-]?(\d+|\d{{1,3}}(\.\d{{3}})+|\d{{1,3}}({SPACES}\d{{3}})+)?(,\d*)?([eE][+-]?\d+)?"),
}


class Cells(NamedTuple):
    """Columns of equal length: stripped text, where ``""`` is a missing cell, or numbers or times of a data frame."""

    columns: dict[str, np.ndarray]
    rows: np.ndarray  # the number of each row in the file: the header is row 1
    notes: list[str]  # what was found out about the file

    def check_name(self, argument: str, name: Any) -> str:
        """A name of a column."""
        if not isinstance(name, str):
            checks.refuse(argument, "the name of a column", checks.describe(name), error=TypeError)
        if name not in self.columns:
            folded = {column.casefold(): column for column in self.columns}
            near = difflib.get_close_matches(name.casefold(), folded, 2)
            shown = ", ".join(folded[n] for n in near) if near else ", ".join(itertools.islice(self.columns, 12))
            checks.refuse(argument, "the name of a column", repr(name),
                          f"did you mean {shown}?" if near else f"the columns are {shown}")  # fmt: skip
        return name


def read_cells(table: Any) -> Cells:
    """The cells of a CSV file, or of a data frame of pandas or polars."""
    if isinstance(table, (str, os.PathLike)):
        return _read_file(pathlib.Path(table))
    if not hasattr(table, "columns") or not hasattr(table, "__getitem__"):
        checks.refuse("table", "the path of a CSV file, or a data frame", checks.describe(table), error=TypeError)
    columns: dict[str, np.ndarray] = {}
    series = {str(name): table[name] for name in table.columns}
    index: Any = getattr(table, "index", None)
    index = index.to_timestamp() if hasattr(index, "to_timestamp") else index  # periods
    if hasattr(index, "to_pydatetime"):  # times of pandas
        free = (name for name in (index.name, "time", "index") if name is not None and str(name) not in series)
        series = {str(next(free, "times of the index")): index} | series
    for name, column in series.items():
        values = np.asarray(column.to_numpy())
        if values.dtype.kind == "M" and getattr(getattr(column, "dtype", None), "time_zone", None):  # of polars, in UTC
            texts = np.datetime_as_string(values.astype("datetime64[us]")).tolist()
            columns[name] = _text("" if text == "NaT" else f"{text}Z" for text in texts)
        elif values.dtype.kind == "M":
            columns[name] = values.astype("datetime64[us]")
        elif values.dtype.kind in "iuf":
            columns[name] = values.astype(float)
        else:
            columns[name] = _text(["" if _is_none(value) else str(value) for value in values])
    count = len(next(iter(columns.values()), ()))
    if not count:
        checks.refuse("table", "rows", f"none, of the columns {', '.join(columns) or 'none'}")
    return Cells(columns, np.arange(2, count + 2), [])


def _is_none(value: Any) -> bool:
    return value is None or value != value or str(value) == "<NA>"


def _text(values: Iterable[str]) -> np.ndarray:
    stripped = (str(value).strip() for value in values)
    return np.array(["" if value.casefold() in MISSING else value for value in stripped], dtype=object)


def _read_file(path: pathlib.Path) -> Cells:
    text, notes = _decode(path)
    lines = text.splitlines(keepends=True)
    separator = ""
    if stated := re.match(r'"?sep=(.)"?\s*$', lines[0] if lines else "", re.IGNORECASE):  # a line that Excel writes
        separator = stated[1]
    first = 1 if stated else 0  # rows before the header
    if not "".join(lines[first:]).strip():
        checks.refuse(str(path), "a table with a line of names", "an empty file")
    separator = separator or _separator(lines)
    if separator != ",":
        notes.append(f"the cells are separated by {SEPARATORS.get(separator, separator)}s")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        records = [
            (row, record)
            for row, record in enumerate(reader, 1)
            if row > first and any(cell.strip() for cell in record)
        ]
    except csv.Error as error:
        checks.refuse(f"line {reader.line_num}", "cells, with a closing quote after each opening one", error)
    (at, names), *records = records
    names = [name.strip() or f"column {n}" for n, name in enumerate(names, 1)]
    _check_header(path, at, names)
    if not records:
        checks.refuse(str(path), "rows below the names", f"none below {', '.join(names)}")
    for row, record in records:
        if any(cell.strip() for cell in record[len(names) :]):
            checks.refuse(f"row {row}", f"{len(names)} cells, as in the line of names",
                          f"{len(record)}: {separator.join(record)[:60]}",
                          "put a cell that holds the separator in quotes")  # fmt: skip
    rows = [
        record + [""] * (len(names) - len(record)) for _, record in records
    ]  # empty cells at the end may be left out
    columns = {name: _text(row[n] for row in rows) for n, name in enumerate(names)}
    return Cells(columns, np.array([row for row, _ in records]), notes)


def _decode(path: pathlib.Path) -> tuple[str, list[str]]:
    """The text of a file and what was noticed."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, os.listdir(path.parent) if path.parent.is_dir() else [], 1)
        checks.refuse(str(path), "a CSV file", "no such file", f"did you mean {near[0]}?" if near else
                      f"the folder here is {pathlib.Path.cwd()}", FileNotFoundError)  # fmt: skip
    except OSError as error:
        checks.refuse(str(path), "a CSV file", error.strerror, error=type(error))
    for start, kind in NOT_TEXT.items():
        if content.startswith(start):
            checks.refuse(str(path), "a CSV file", kind, "save the table as CSV, or pass a data frame to read_table")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace"), ["the file is in UTF-16"]
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace"), ["the file is not in UTF-8 and was read as Windows-1252"]


def _separator(lines: Sequence[str]) -> str:
    """The one that the line of names has most often, outside of quotes, and that the next lines have as often."""

    def count(line: str, separator: str) -> int:
        return re.sub(r'"[^"]*"', "", line).count(separator)

    header, *rest = [line for line in lines if line.strip()][:21]
    found = [separator for separator in SEPARATORS if count(header, separator)]
    alike = {one: sum(count(line, one) == count(header, one) for line in rest) for one in found}
    return max(found, key=lambda one: (alike[one], count(header, one)), default=",")


def _check_header(path: pathlib.Path, row: int, names: list[str]) -> None:
    """A line of different names, not of numbers."""
    if all(is_number(name) or re.match(r"column \d+$", name) or re.match(r"\d{4}-\d\d", name) for name in names):
        checks.refuse(str(path), "the names of the columns in the first line", ", ".join(names)[:60],
                      "add a line such as time,value")  # fmt: skip
    twice = [name for n, name in enumerate(names) if name in names[:n]]
    if twice:
        checks.refuse(f"row {row}", "different names of columns", f"{twice[0]!r} twice", "rename one of them")


# ---- numbers ---------------------------------------------------------------------------------------------------------


def is_number(text: str) -> bool:
    """Whether a text is a number, with either decimal mark."""
    return any(_matches(pattern, text) for pattern in NUMBERS.values())


def _matches(pattern: re.Pattern, text: str) -> bool:
    return bool(pattern.fullmatch(text)) and any(character.isdigit() for character in text)


def share_of_numbers(column: np.ndarray) -> float:
    """The share of the cells of a column, apart from the missing ones, that are numbers."""
    if column.dtype.kind == "f":
        return 1.0
    cells = [cell for cell in column if cell != ""] if column.dtype == object else []
    return sum(map(is_number, cells)) / len(cells) if cells else 0.0


def numbers(argument: str, name: str, cells: Cells) -> tuple[np.ndarray, str]:
    """A column as float64, NaN where a cell is missing, and what was noticed about how the numbers are written.

    Of the two decimal marks the one is taken with which all cells are numbers; if both do, the point, since then either
    no cell has a mark, or every comma is followed by three digits, as between thousands.
    """
    column = cells.columns[name]
    if column.dtype.kind == "f":
        values, note = column, ""
    else:
        if column.dtype.kind == "M" or not share_of_numbers(column):
            example = next((str(cell) for cell in column if str(cell)), None)
            others = [other for other in cells.columns if share_of_numbers(cells.columns[other]) == 1]
            checks.refuse(argument, "a column of numbers", f"{name!r}, with " + (f"{example!r}" if example else
                          "empty cells alone"), f"columns of numbers: {', '.join(others) or 'none'}")  # fmt: skip
        mark = max(".,", key=lambda mark: sum(_matches(NUMBERS[mark], cell) for cell in column))
        values = np.full(len(column), np.nan)
        for n, cell in enumerate(column):
            if cell == "":
                continue
            if not _matches(NUMBERS[mark], cell):
                other = ", as the other cells are written with a decimal comma" if mark == "," else ""
                checks.refuse(f"row {cells.rows[n]}, column {name}", f"a number{other}", repr(cell),
                              "correct it, or empty the cell if the value is missing")  # fmt: skip
            values[n] = float(re.sub(rf"{SPACES}|{re.escape('.' if mark == ',' else ',')}", "", cell).replace(",", "."))
        grouped = any(re.search(rf"\d({SPACES}|{re.escape('.' if mark == ',' else ',')})\d", cell) for cell in column)
        note = " and ".join(["a decimal comma"] * (mark == ",") + ["thousands in groups"] * grouped)
    if np.isinf(values).any():
        n = int(np.isinf(values).argmax())
        checks.refuse(f"row {cells.rows[n]}, column {name}", "a finite number", repr(column[n]),
                      "empty the cell if the value is missing")  # fmt: skip
    return values, note
