"""The reader of tables: every way to write the same series gives the same; a fault is named by its row and column."""

import datetime
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from jaxrnn.data import read_table
from jaxrnn.data.calendars import DAY, Frequency, find_frequency, parse_times
from jaxrnn.data.tables import show, show_all


@pytest.fixture
def read(tmp_path):
    """Read the target y of a file with this content."""

    def run(content, **options):
        path = tmp_path / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, **({"target": "y"} | options))

    return run


PLAIN = "date,y\n2024-01-01,1.5\n2024-01-02,-2000\n2024-01-04,3.25\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\n\n"),
        PLAIN.replace("\n", ",\n"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace(",", " , "),
        '"date","y"\n"2024-01-01","1.5"\n"2024-01-02","-2,000"\n"2024-01-04","3.25"\n',
        "sep=;\ndate;y\n2024-01-01;1,5\n2024-01-02;-2.000\n2024-01-04;3,25\n",
        "date;y\n01.01.2024;1,5\n02.01.2024;-2 000\n04.01.2024;3,25\n",
        "date,y\n01-Jan-2024,1.5\n02-Jan-2024,-2e3\n04-Jan-2024,+3.25\n",
        "date,y\n2024-01-04,3.25\n2024-01-01,1.5\n2024-01-02,-2000\n",
        "date,y\n2024-01-01,1.5\n2024-01-02,-2000\n2024-01-03,NA\n2024-01-04,3.25\n",
        "date,y\n2023-12-31,\n2024-01-01,1.5\n2024-01-02,-2000\n2024-01-02,-2000\n2024-01-04,3.25\n2024-01-05,\n",
        "note,date,y\na,2024-01-01T00:00:00Z,1.5\nb,2024-01-02T00:00:00Z,-2000\nc,2024-01-04T01:00:00+01:00,3.25\n",
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.replace("date", "T\xe4g").encode("latin-1"),
    ],
)
def test_the_same_series(read, content):
    """The missing day is a missing value."""
    table = read(content)
    np.testing.assert_array_equal(table.series[0].values[:, 0], [1.5, -2000, np.nan, 3.25])
    assert str(table.frequency) == "day"
    assert [show(time) for time in table.times(0, [0, 3, 4])] == ["2024-01-01", "2024-01-04", "2024-01-05"]


@pytest.mark.parametrize(
    ("times", "name", "after"),
    [
        (["2024-01-31", "2024-02-29", "2024-03-31"], "month, at its end", "2024-04-30"),
        (["2023-11-30", "2023-12-31", "2024-01-31"], "month, at its end", "2024-02-29"),
        (["2024-01-15", "2024-02-15", "2024-04-15"], "month", "2024-05-15"),
        (["01/02/2024", "01/03/2024", "01/04/2024"], "day", "2024-01-05"),
        (["01/02/2024", "02/02/2024", "03/02/2024"], "day", "2024-02-04"),
        (["01/11/2023", "01/12/2023", "01/01/2024"], "month", "2024-02-01"),
        (["Jan 2024", "Feb 2024", "Apr 2024"], "month", "2024-05-01"),
        (["2024Q1", "2024Q2", "2024-Q3"], "quarter", "2024-10-01"),
        (["2020-12-31", "2021-12-31", "2022-12-31"], "year", "2023-12-31"),
        (["2024-01-01", "2024-01-08", "2024-01-22"], "week", "2024-01-29"),
        (["2024-01-05", "2024-01-08", "2024-01-09", "2024-01-10", "2024-01-11", "2024-01-12"], "business day",
         "2024-01-15"),
        (["2024-01-01 22:00", "2024-01-01 23:00", "2024-01-02 00:00"], "hour", "2024-01-02 01:00"),
        (["2024-01-01 22:00", "2024-01-01 22:15"], "15 minutes", "2024-01-01 22:30"),
        (["1/2/2024 11:30 PM", "1/3/2024 11:30 PM", "1/4/2024 11:30 PM"], "day", "2024-01-05 23:30"),
        (["1700000000", "1700003600", "1700007200"], "hour", "2023-11-15 01:13:20"),
        (["1700000000000", "1700003600000"], "hour", "2023-11-15 00:13:20"),
        (["1990", "1992", "1996"], "2", "1998"),
    ],
)  # fmt: skip
def test_times(read, times, name, after):
    """The step is found, and the times go on by it."""
    table = read("time,y\n" + "".join(f"{time},1\n" for time in times))
    assert str(table.frequency) == name
    assert show(table.times(0, [len(table.series[0])])[0]) == after


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([("s", 3600), ("s", DAY), ("month", 1), ("month", 3), ("month end", 1), ("business day", 1),
                        ("number", 0.5)]), st.integers(0, 20000), st.sets(st.integers(1, 400), min_size=3))  # fmt: skip
def test_times_and_steps_are_inverse(how, day, steps):
    frequency, steps = Frequency(*how), np.array([0, *sorted(steps)])
    start = np.datetime64("1970-01-01", "us") + np.timedelta64(day, "D")
    if how[0] == "month":
        start = start.astype("datetime64[M]").astype("datetime64[us]") + np.timedelta64(day % 28, "D")
    if how[0] == "month end":
        start = (start.astype("datetime64[M]") + np.timedelta64(1, "M")).astype("datetime64[us]") - np.timedelta64(
            1, "D"
        )
    if how[0] == "business day":
        start = np.busday_offset(start.astype("datetime64[D]"), 0, "forward").astype("datetime64[us]")
    times = frequency.times(1.5 if how[0] == "number" else start, steps)
    assert (np.diff(times).astype(float) > 0).all()
    np.testing.assert_array_equal(frequency.steps(times, times[0]), steps)


def test_every_format():
    """What strftime writes is read, and nothing else comes of it."""
    from jaxrnn.data.calendars import FORMATS

    days = [datetime.datetime(2024, 1, 29) + datetime.timedelta(40 * n, minutes=7 * n) for n in range(9)]
    for how in FORMATS:
        written = [day.strftime(how) for day in days]
        read, found = parse_times(np.array(written, object))
        expected = np.array([datetime.datetime.strptime(text, how) for text in written], "datetime64[us]")
        assert datetime.datetime(2024, 1, 29).strftime(found) == written[0].replace("12:00 AM", "00:00") or found == how
        np.testing.assert_array_equal(read, expected, how)


def written(days, how):
    return "date,y\n" + "".join(f"{day.strftime(how)},{n}\n" for n, day in enumerate(days))


@pytest.mark.parametrize("how", ["%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%Y %H:%M"])
def test_day_or_month_first(read, how):
    """The reading with regular steps is taken, and said; the option forces the other one."""
    days = [datetime.datetime(2015 + n // 12, n % 12 + 1, 1) for n in range(30)]
    table = read(written(days, how))
    assert str(table.frequency) == "month"
    assert len(table.series[0]) == 30
    assert table.dayfirst == how.startswith("%d")
    other = how.replace("d", "D").replace("m", "d").replace("D", "m")
    assert table.notes == [f"the times are written as {how}, where %d is a day and %m a month; they could also be "
                           f"{other}, which dayfirst decides"]  # fmt: skip
    forced = read(written(days, how), dayfirst=not table.dayfirst)
    assert str(forced.frequency) == "day"
    assert "more than half of the steps have no row: is day the step" in forced.notes[0]
    assert (
        read(written(days, how), dayfirst=table.dayfirst).series[0].values.tolist() == table.series[0].values.tolist()
    )


def test_no_doubt_about_the_day(read):
    """A thirteenth tells them apart; a wrong reading is refused."""
    days = [datetime.datetime(2015, 1, 1) + datetime.timedelta(n) for n in range(400)]
    for how in ("%d/%m/%Y", "%m/%d/%Y"):
        table = read(written(days, how))
        assert table.notes == [f"the times are written as {how}, where %d is a day and %m a month"]
        assert len(table.series[0]) == 400
        with pytest.raises(ValueError, match=r"row .*, column date: expected a time"):
            read(written(days, how), dayfirst=not table.dayfirst)
    refuses("TypeError dayfirst: expected True, False or None, got …", lambda: read(PLAIN, dayfirst="yes"))


def test_one_format_for_all(read):
    """As short as the longest one needs; in UTC with its letter."""
    times = np.array(["2024-04-14T23:00", "2024-04-15"], "datetime64[us]")
    assert show_all(times) == ["2024-04-14 23:00", "2024-04-15 00:00"]
    assert show_all(times[1:]) == ["2024-04-15"]
    assert show_all(times[1:], like=times) == ["2024-04-15 00:00"]
    assert show_all(times[1:], utc=True) == ["2024-04-15 00:00Z"]
    assert show_all(np.array([1.0, 2.5])) == ["1", "2.5"]
    assert [read(PLAIN.replace("-02,", f"-02{end},").replace("-01,", "-01T00:00Z,")).utc for end in ("T00:00Z",)] == [
        True
    ]
    assert not read(PLAIN).utc


def test_copies_are_no_disorder(read):
    """A row that repeats an earlier one at the end of the file leaves the others in order."""
    assert read(PLAIN + "2024-01-01,1.5\n").notes[0] == "1 row that repeats another one left out"
    assert read(PLAIN + "2023-12-31,1.5\n").notes[0] == "the rows were not in the order of time and were sorted"


def test_groups(read):
    """In the order in which they come; each with its own beginning; words become indicators."""
    table = read("shop,date,y,size,kind,price\nb,2024-01-02,1,7,x,5\na,2024-01-01,3,8,z,6\nb,2024-01-03,2,7,x,\n"
                 "a,2024-01-02,4,8,z,7\na,2024-01-03,,8,z,9\n",
                 group="shop", static=["size", "kind"], covariates=["price"])  # fmt: skip
    assert [one.name for one in table.series] == ["b", "a"]
    assert [one.values.ravel().tolist() for one in table.series] == [[1, 2], [3, 4]]
    assert [one.static.tolist() for one in table.series] == [[7, 1, 0], [8, 0, 1]]
    assert [one.covariates.ravel().tolist() for one in table.series] == [[5, 5], [6, 7, 9]]
    assert [show(table.times(n, [0])[0]) for n in (0, 1)] == ["2024-01-02", "2024-01-01"]
    assert table.notes == ["b: 1 missing covariates are taken from the step before"]


def test_columns(read):
    """What is found by name, what is not used, and a table without times."""
    assert read(PLAIN).columns["time"] == "date"
    assert read(PLAIN, time=False).columns == {"target": ["y"], "time": None, "group": None, "covariates": [],
                                               "static": [], "unused": ["date"]}  # fmt: skip
    assert read("y\n3\n\n4\n").times(0, [0, 2]).tolist() == [1, 3]
    mixed = read("g,y\nb,3\na,5\na,6\nb,4\na,7\n", group="g", time=False)
    assert [one.values.ravel().tolist() for one in mixed.series] == [[3, 4], [5, 6, 7]]
    assert read("day,made,y\nMon,2024-01-01,3\nTue,2024-01-02,4\n").columns["time"] == "made"
    assert read("price,year,y\n1,2001,3\n1,2002,4\n").columns["time"] == "year"
    assert read("a,y,b\n1,2,3\n2,3,4\n", target=["b", "y"]).series[0].values.tolist() == [[3, 2], [4, 3]]


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_data_frames(kind):
    """With dates or texts, missing values and words."""
    frames = pytest.importorskip(kind)
    days = [datetime.datetime(2024, 1, n) for n in (1, 2, 3, 5)]
    for times in (days, [str(day.date()) for day in days]):
        frame = frames.DataFrame({"when": times, "y": [1, 2, None, 4], "kind": ["a", None, "b", "b"]})
        table = read_table(frame, target="y")
        np.testing.assert_array_equal(table.series[0].values[:, 0], [1, 2, np.nan, np.nan, 4])
        assert (table.columns["time"], str(table.frequency)) == ("when", "day")
    zone = datetime.timezone(datetime.timedelta(hours=1)) if kind == "pandas" else datetime.UTC
    table = read_table(
        frames.DataFrame({"when": [day.replace(tzinfo=zone) for day in days], "y": [1, 2, 3, 4]}), target="y"
    )
    assert table.utc
    assert show(table.times(0, [0])[0]) == ("2023-12-31 23:00" if kind == "pandas" else "2024-01-01")
    refuses("ValueError row 3, column kind: expected a group, got an empty cell; …",
            lambda: read_table(frame, target="y", group="kind"))  # fmt: skip


def test_index_of_times():
    """That of a pandas data frame is a column of times, whether named or not, also with zones and periods."""
    pandas = pytest.importorskip("pandas")
    for index in (pandas.date_range("2024-01-01", periods=3, name="when"),
                  pandas.date_range("2024-01-01", periods=3, tz="UTC"),
                  pandas.period_range("2024-01-01", periods=3, freq="D")):  # fmt: skip
        table = read_table(pandas.DataFrame({"y": [1, 2, 3]}, index=index), target="y")
        assert (table.columns["time"], str(table.frequency)) == (index.name or "time", "day")
        assert show(table.times(0, [3])[0]) == "2024-01-04"
        assert table.utc == (getattr(index, "tz", None) is not None)
    assert read_table(pandas.DataFrame({"y": [1, 2]}), target="y").columns["time"] is None


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "…table.csv: expected a table with a line of names, got an empty file"),
        (" \n\n", {}, "…table.csv: expected a table with a line of names, got an empty file"),
        ("date,y\n", {}, "…table.csv: expected rows below the names, got none below date, y"),
        ("1,2\n3,4\n", {}, "…table.csv: expected the names of the columns in the first line, got 1, 2; add a line …"),
        ("y,y\n1,2\n", {}, "row 1: expected different names of columns, got 'y' twice; …"),
        ("date,y\n2024-01-01,1,5\n", {}, "row 2: expected 2 cells, as in the line of names, got 3: …; put a cell …"),
        (b"PK\x03\x04", {}, "…: expected a CSV file, got a spreadsheet or an archive; save the table as CSV, …"),
        ("date,Sales\n2024-01-01,1\n", {"target": "sale"}, "target: expected the name of a column, got 'sale'; did "
         "you mean Sales?"),
        (PLAIN, {"target": "z"}, "target: expected the name of a column, got 'z'; the columns are date, y"),
        (PLAIN, {"time": "dat"}, "time: expected the name of a column, got 'dat'; did you mean date?"),
        (PLAIN, {"covariates": ["y"]}, "columns: expected each in one place, got 'y' in two; name it once"),
        (PLAIN, {"target": []}, "target: expected the name of a column, got none; …"),
        ("date,y,n\n2024-01-01,a,1\n", {}, "target: expected a column of numbers, got 'y', with 'a'; columns of "
         "numbers: n"),
        ("date,y\n2024-01-01,\n", {}, "target: expected a column of numbers, got 'y', with empty cells alone; …"),
        ("date,y\n2024-01-01,1\n\n2024-01-02,12 EUR\n", {}, "row 4, column y: expected a number, got '12 EUR'; correct "
         "it, or empty the cell if the value is missing"),
        ("date;y\n2024-01-01;1,5\n2024-01-02;1.5\n2024-01-03;2,5\n", {}, "row 3, column y: expected a number, as the "
         "other cells are written with a decimal comma, got '1.5'; …"),
        ("date,y\n2024-01-01,1e999\n", {}, "row 2, column y: expected a finite number, got '1e999'; …"),
        ("date,y\n2024-01-01,1\n2024-02-30,2\n2024-03-01,3\n", {}, "row 3, column date: expected a time, got "
         "'2024-02-30'; …"),
        ("date,y\n2024-01-01,1\n,2\n2024-03-01,3\n", {}, "row 3, column date: expected a time, got an empty cell; …"),
        ("date,y\n2024-01-01,1\n2024-01-02,2\n2024-01-02,3\n", {}, "rows 3 and 4: expected different times in one "
         "series, got 2024-01-02 twice; merge or delete one of them, or name the column of the group"),
        ("date,shop,y\n2024-01-01,a,1\n2024-01-01,b,2\n2024-01-02,a,2\n2024-01-02,b,2\n2024-01-03,a,2\n", {},
         "rows 2 and 3: … twice; the column shop would tell them apart, as that of the groups"),
        ("date,heat,month,name,y\n" + "".join(f"2024-01-0{n // 2 + 1},{n % 2},{'ab'[n % 2]},{('Jan', 'Feb')[n % 2]},"
                                               f"{n}\n" for n in range(6)), {},
         "rows 2 and 3: … twice; merge or delete one of them, or name the column of the group"),
        ("date,y\n2024-01-01 00:00,1\n2024-01-01 00:15,2\n2024-01-01 00:30,3\n2024-01-01 00:40,3\n", {}, "row 5, "
         "column date: expected steps of 15 minutes, the commonest one, got 2024-01-01 00:40 after …; …"),
        ("date,y\n2024-01-01,1\n2024-02-15,2\n2024-05-03,2\n2024-09-03,2\n", {}, "row 4, column date: expected steps "
         "of 45 days, …"),
        ("date,y\n2024-01-01 00:00:00,1\n2024-01-01 00:00:01,2\n2024-03-01 00:00:00,3\n", {}, "column date: expected "
         "steps of a second, the commonest one, got 3 rows in 5,184,001 steps; …"),
        ("shop,y\na,1\n,2\n", {"group": "shop"}, "row 3, column shop: expected a group, got an empty cell; …"),
        ("shop,y\na,1\nb,\n", {"group": "shop"}, "group b: expected numbers, got empty cells alone; …"),
        ("shop,y,k\na,1,p\na,2,q\n", {"group": "shop", "static": "k"}, "static: expected a column with one value a "
         "group, got 'k', got p and q in a; …"),
        ("y,x\n1,\n2,3\n", {"covariates": "x"}, "covariates: expected a number in the first row, got an empty cell; …"),
    ],
)  # fmt: skip
def test_refusals(read, content, options, message):
    """Row and column are those that a spreadsheet shows."""
    refuses(f"ValueError {message}", lambda: read(content, **options))


def test_what_is_no_table(tmp_path):
    (tmp_path / "sales.csv").touch()
    refuses("FileNotFoundError …sale.csv: expected a CSV file, got no such file; did you mean sales.csv?",
            lambda: read_table(tmp_path / "sale.csv", target="y"))  # fmt: skip
    refuses("IsADirectoryError …: expected a CSV file, got Is a directory", lambda: read_table(tmp_path, target="y"))
    refuses("TypeError table: expected the path of a CSV file, or a data frame, got int 3",
            lambda: read_table(3, target="y"))  # fmt: skip
    refuses("TypeError target: expected the name of a column, got int 3",
            lambda: read_table(_Frame(), target=[3]))  # fmt: skip


class _Frame:
    """The least that is taken for a data frame."""

    columns = ("y",)

    def __getitem__(self, name):
        return self

    def to_numpy(self):
        return np.ones(2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.text(string.printable, max_size=8), min_size=1, max_size=4), max_size=6))
def test_any_file(tmp_path_factory, rows):
    """Whatever a file holds, it is read or refused with a message."""
    path = tmp_path_factory.mktemp("any") / "any.csv"
    path.write_text("time,y\n" + "\n".join(",".join(row) for row in rows))
    error = ""
    try:
        read_table(path, target="y")
    except (ValueError, TypeError) as refusal:
        error = str(refusal)
    assert not error or ": expected " in error


def test_steps_of_one_row():
    """One time alone has none."""
    assert find_frequency([np.array([1.0])]) is None
