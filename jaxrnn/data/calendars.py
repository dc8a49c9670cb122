"""Times that are written as text, and the regular steps between them."""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import Any

import numpy as np

DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y",
         "%Y/%m/%d", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%d-%b-%y")  # fmt: skip
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
MONTHS = ("%b %Y", "%B %Y", "%b-%Y", "%b-%y", "%m/%Y", "%m.%Y", "%YM%m", "%Y/%m")
FORMATS = [*MONTHS, *(date + clock for date in DATES for clock in CLOCKS)]
ISO = re.compile(r"\d{4}-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?)?(Z|[+-]\d\d:?\d\d)?")
QUARTER = re.compile(r"(\d{4})[ -]?Q([1-4])", re.IGNORECASE)
MINUTE, HOUR, DAY, WEEK = 60, 3600, 86400, 604800
US = 1_000_000
MONTH = np.timedelta64(1, "M")


def _iso(text: str) -> np.datetime64 | None:
    if not ISO.fullmatch(text):
        return None
    try:
        time = datetime.datetime.fromisoformat(text + "-01" if len(text) == 7 else text)
    except ValueError:
        return None
    if time.tzinfo is not None:
        time = time.astimezone(datetime.UTC).replace(tzinfo=None)
    return np.datetime64(time, "us")


def _quarter(text: str) -> np.datetime64 | None:
    found = QUARTER.fullmatch(text)
    return np.datetime64(f"{found[1]}-{3 * int(found[2]) - 2:02}", "us") if found else None


def _reader(how: str) -> Any:
    """A function from a text to a time, or None."""

    def read(text: str) -> np.datetime64 | None:
        try:
            return np.datetime64(datetime.datetime.strptime(text, how), "us")
        except ValueError:
            return None

    return read


def day_first(how: str) -> bool | None:
    """Whether a format has the day before the month, both as numbers; None if it leaves no doubt."""
    return how.startswith("%d") if re.match(r"(%d.%m|%m.%d)", how) else None


def swapped(how: str) -> str:
    """The format with day and month in each other's place."""
    return how.replace("%d", "%D").replace("%m", "%d").replace("%D", "%m")


def could_be_swapped(column: np.ndarray, how: str) -> bool:
    """Whether all texts could also be read with day and month in each other's place, as other times."""
    if day_first(how) is None:
        return False
    texts = {text for text in column if text}
    one, other = _reader(how), _reader(swapped(how))
    return all(other(text) is not None for text in texts) and any(one(text) != other(text) for text in texts)


def parse_times(column: np.ndarray, dayfirst: bool | None = None) -> tuple[np.ndarray, str]:
    """Texts as ``datetime64[us]``, NaT where one is not read, and the format, ``""`` for ISO 8601.

    Of the formats that fit the most texts the one is taken with the fewest missing steps, then with the fewest
    different distances: 01/02/2024 in a monthly series is the first of February. ``dayfirst`` forces the order of day
    and month.
    """
    texts = list(dict.fromkeys(text for text in column if text))
    some = [texts[n] for n in np.linspace(0, len(texts) - 1, min(len(texts), 300)).astype(int)] if texts else []
    best: tuple[tuple[float, float], str, Any] = ((0.0, 0.0), "", _iso)
    formats = FORMATS if dayfirst is None else _ordered(dayfirst)
    for name, read in [("", _iso), ("%Y-Qn", _quarter), *((how, _reader(how)) for how in formats)]:
        if some and name and read(some[0]) is None and read(some[-1]) is None:
            continue
        times = [time for time in map(read, some) if time is not None]
        distances = len(set(np.diff(np.array(times[:100], "datetime64[us]")))) if times else 0
        if times and (score := (len(times), -distances)) > best[0]:
            best = score, name, read
    _, name, read = best
    if dayfirst is None and swapped(name) in FORMATS and day_first(name) is not None:
        name = min(name, swapped(name), key=lambda how: _irregularity(texts[:20_000], _reader(how)))
        read = _reader(name)
    known = {text: read(text) for text in texts}
    return np.array([known.get(text) or np.datetime64("NaT", "us") for text in column], "datetime64[us]"), name


def _ordered(dayfirst: bool) -> list[str]:
    """The formats, with day and month as is said."""
    right = (how if day_first(how) in (None, dayfirst) else swapped(how) for how in FORMATS)
    return list(dict.fromkeys(right))


def _irregularity(texts: list[str], read: Any) -> tuple[int, int, int]:
    """Texts that are not read; steps without a time and times between steps; the number of different distances."""
    known = [time for time in map(read, texts) if time is not None]
    times = np.unique(np.array(known, "datetime64[us]"))
    frequency = find_frequency([times])
    if frequency is None:
        return len(texts) - len(known), 0, 0
    steps = frequency.steps(times, times[0])
    whole = np.unique(np.floor(steps))
    missing = int(whole[-1]) + 1 - len(whole) + int((np.abs(steps - np.round(steps)) > 1e-6).sum())
    return len(texts) - len(known), missing, len(np.unique(np.diff(times)))


@dataclasses.dataclass(frozen=True)
class Frequency:
    """Regular steps of time.

    ``unit`` is ``"s"`` (seconds), ``"month"``, ``"month end"``, ``"business day"``, or ``"number"`` for times that are
    numbers, such as years or the number of a row; ``size`` is that of a step in these units.
    """

    unit: str
    size: float

    def __str__(self) -> str:
        for unit, length, name in (("s", WEEK, "week"), ("s", DAY, "day"), ("s", HOUR, "hour"), ("s", MINUTE, "minute"),
                                   ("s", 1, "second"),
                                   ("month", 12, "year"), ("month", 3, "quarter"), ("month", 1, "month")):  # fmt: skip
            if self.unit.split()[0] == unit and self.size % length == 0:
                many = self.size / length
                return (name if many == 1 else f"{many:g} {name}s") + (
                    ", at its end" if self.unit[-3:] == "end" else ""
                )
        names = {"s": "seconds", "business day": "business day", "number": ""}
        return names[self.unit] if self.unit == "business day" else f"{self.size:g} {names[self.unit]}".strip()

    def steps(self, times: np.ndarray, origin: Any) -> np.ndarray:
        """The number of steps from the origin to each time; not whole where a time is between two steps."""
        if self.unit == "number":
            return (times - origin) / self.size
        if self.unit.startswith("month"):
            months = times.astype("datetime64[M]").astype(int) - np.datetime64(origin, "M").astype(int)
            return months / self.size + 0.5 * (self.day(times) != self.day(np.array([origin]))[0])
        if self.unit == "business day":
            days = times.astype("datetime64[D]")
            return np.busday_count(np.datetime64(origin, "D"), days) + 0.5 * ~np.is_busday(days)
        return (times - np.datetime64(origin, "us")).astype(float) / (US * self.size)

    def day(self, times: np.ndarray) -> np.ndarray:
        """The time within its month: since its start, or, with month ends, until the start of the next."""
        months = times.astype("datetime64[M]")
        since = months + MONTH - times if self.unit == "month end" else times - months
        return since.astype(float)

    def times(self, origin: Any, steps: np.ndarray) -> np.ndarray:
        """The times so many whole steps from the origin; of one that :meth:`steps` has given."""
        if self.unit == "number":
            return origin + steps * self.size
        start = np.datetime64(origin, "us")
        if self.unit.startswith("month"):
            month = np.datetime64(origin, "M") + (MONTH if self.unit == "month end" else 0 * MONTH)
            later = month + (steps * int(self.size)).astype("timedelta64[M]")
            return later.astype("datetime64[us]") + (start - month)
        if self.unit == "business day":
            days = np.busday_offset(np.datetime64(origin, "D"), steps.astype(int))
            return days.astype("datetime64[us]") + (start - np.datetime64(origin, "D"))
        return start + (steps * self.size * US).astype("timedelta64[us]")

    def seasons(self) -> tuple[int, ...]:
        """The lengths in steps of the cycles of a calendar that a series may follow; the likeliest first."""
        if self.unit.startswith("month"):
            return (int(12 // self.size),) if 12 % self.size == 0 and self.size < 12 else ()
        if self.unit == "business day":
            return (5, 260)
        cycles = (DAY, WEEK, 365 * DAY) if self.size < DAY else (WEEK, 365 * DAY)
        cycles = (HOUR, *cycles) if self.size < HOUR else cycles
        lengths = (round(cycle / self.size) for cycle in cycles if self.unit == "s")
        return tuple(length for length in lengths if 2 <= length <= 2000)

    def horizon(self) -> int:
        """A customary number of steps to forecast."""
        if self.unit.startswith("month"):
            return {1: 12, 3: 8, 12: 6}.get(int(self.size), 12)
        return {"s": {WEEK: 13, DAY: 14, HOUR: 24}.get(int(self.size), 24)}.get(self.unit, 10)


def find_frequency(groups: list[np.ndarray]) -> Frequency | None:
    """The commonest step between the sorted times of all groups; None if no two times differ."""
    times = np.concatenate(groups)
    steps = np.concatenate([np.diff(np.unique(group)) for group in groups])
    if not len(steps):
        return None
    if times.dtype.kind == "f":
        sizes, counts = np.unique(np.round(steps, 9), return_counts=True)
        return Frequency("number", float(sizes[counts.argmax()]))
    seconds, counts = np.unique(steps.astype(float) / US, return_counts=True)
    common = float(seconds[counts.argmax()])
    for unit in ("month", "month end"):
        if common > 27 * DAY and len(np.unique(Frequency(unit, 1).day(times))) == 1:
            months = np.concatenate([np.diff(np.unique(group.astype("datetime64[M]"))).astype(int) for group in groups])
            sizes, counts = np.unique(months, return_counts=True)
            return Frequency(unit, int(sizes[counts.argmax()]))
    if common == DAY and len(steps) > 4 and (seconds == 3 * DAY).any() and np.is_busday(times.astype("M8[D]")).all():
        return Frequency("business day", 1)
    return Frequency("s", int(common) if common == int(common) else common)
