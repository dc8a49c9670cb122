"""Date formats: the source language of scripts/translate.py."""

from __future__ import annotations

import datetime

MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
          "november", "december")  # fmt: skip
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FIRST, LAST = datetime.date(1900, 1, 1).toordinal(), datetime.date(2099, 12, 31).toordinal()


def forms(date: datetime.date) -> list[str]:
    """Unambiguous formats of a date."""
    y, m, d = date.year, date.month, date.day
    month, day = MONTHS[m - 1], DAYS[date.weekday()]
    nth = f"{d}{'th' if 10 < d < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(d % 10, 'th')}"
    return [f"{d} {month} {y}", f"{month} {d}, {y}", f"the {nth} of {month}, {y}", f"{month[:3]} {nth} {y}",
            f"{day}, {d} {month} {y}", f"{d}.{m}.{y}", f"{y}/{m:02}/{d:02}", f"{d}-{month[:3]}-{y}",
            f"{day[:3]} {nth} {month[:3]} {y}"]  # fmt: skip
