"""Files of one's own as problems of forecasts: groups of a run, what is said, times of the forecasts."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture
def parts(load_script):
    """The modules behind the script."""
    return SimpleNamespace(**{name: load_script(f"forecasting.{name}") for name in ("measures", "tables")})


@pytest.fixture
def read(parts, tmp_path):
    """Read a table as the script does."""

    def run(content, run=None, **options):
        (tmp_path / "y.csv").write_text(content)
        usual = dict.fromkeys(("time", "group", "dayfirst", "horizon", "season"))
        given = {**usual, "csv": tmp_path / "y.csv", "target": "y", "covariates": [], "static": []} | options
        return parts.tables.read(SimpleNamespace(**given), run)

    return run


def months(groups, count):
    """Rows of months with a value of each group."""
    return [
        f"{2014 + n // 12}-{n % 12 + 1:02}-01,{name},{level + n % 5}" for n in range(count) for name, level in groups
    ]


def test_groups_of_a_run(read):
    """They are in the order of the run; others are left out, and a value that has no logarithm is named."""
    lines = ["date,shop,y", *months([("a", 10), ("new", 20), ("b", 30)], 40)]
    run = {"series": ["b", "a"], "log": True, "static_size": 0}
    problem, table = read("\n".join(lines), run, group="shop", horizon=4)
    assert [one.name for one in problem.series] == ["b", "a"]
    assert [one.values[0, 0] for one in problem.series] == [30, 10]
    assert problem.log
    assert table.columns["left out"] == ["new, not among the groups of the run"]
    zero = "\n".join([*lines, "2017-05-01,new,0", "2017-05-01,a,0"])
    with pytest.raises(ValueError, match=r"group a, date 2017-05-01, column y: expected a value above 0, .* got 0; "):
        read(zero, run, group="shop", horizon=4)
    assert not read(zero, run | {"log": False}, group="shop", horizon=4)[0].log
    with pytest.raises(ValueError, match="--csv: expected the groups of the run, b, c, got no c; train without"):
        read("\n".join(lines), run | {"series": ["b", "c"]}, group="shop", horizon=4)
    kinds = "\n".join([f"{lines[0]},kind", *(f"{line},{line.split(',')[1]}" for line in lines[1:])])
    with pytest.raises(ValueError, match="--static: expected the words of the run, 2 indicators and numbers, got 3; "):
        read(kinds, run | {"static_size": 2}, group="shop", static=["kind"], horizon=4)


def test_what_is_said(parts, read, capsys):
    """A group that is left out, and one that ends early, are named; a single step is no plural."""
    lines = ["date,shop,y", *months([("a", 10), ("b", 30)], 40), *months([("c", 0)], 30), *months([("d", 0)], 3)]
    parts.tables.say(*read("\n".join(lines), group="shop", horizon=1))
    printed = capsys.readouterr().out.splitlines()
    assert printed[1] == "  LEFT OUT    d, with fewer than 7 steps"
    assert "  time        date, steps: month, 2014-01-01 to 2017-04-01 in the first group, a" in printed
    assert "  ends early  c (2016-06-01); the others end with 2017-04-01" in printed
    assert [parts.tables.steps(n) for n in (1, 1000)] == ["1 step", "1,000 steps"]
    with pytest.raises(ValueError, match=r"--group: expected .* got 20 groups of at most 2 steps; .* than y"):
        read("\n".join(["date,y,z", *(f"{line},1" for line in [f"{2000 + n},{n % 20}" for n in range(40)])]),
             group="y", target="z")  # fmt: skip


@pytest.mark.parametrize(("offset", "expected"), [
    ("", ["2024-01-03 00:00", "2024-01-03 01:00"]),
    ("+01:00", ["2024-01-02 23:00Z", "2024-01-03 00:00Z"]),
])  # fmt: skip
def test_times_of_the_forecasts(parts, read, tmp_path, offset, expected):
    """They are written in one format, and with their zone if the table has one."""
    lines = [f"2024-01-{1 + n // 24:02} {n % 24:02}:00{offset},{n % 7}" for n in range(48)]
    problem, table = read("\n".join(["time,y", *lines]), horizon=2)
    origins = parts.measures.Origins(np.zeros(1, int), np.array([48]))
    parts.tables.write(tmp_path / "out.csv", problem, table, np.zeros((3, 1, 2)), origins)
    with (tmp_path / "out.csv").open() as file:
        assert [row["time"] for row in csv.DictReader(file)] == expected


def test_axes_of_the_test(parts, read, load_script):
    """Its panel of a series has dates, that of the errors whole steps."""
    pytest.importorskip("matplotlib")
    problem, table = read(
        "\n".join(["date,y", *(line.replace(",a", "") for line in months([("a", 1)], 40))]), horizon=3
    )
    origins = parts.measures.Origins(np.zeros(2, int), np.array([32, 35]))
    drawn = {name: np.zeros((5, 2, 3)) for name in ("network", "seasonal naive")}
    figure = load_script("forecasting.drawing").test(problem, table, drawn, origins, [32])
    panel, errors = figure.axes
    assert str(panel.lines[0].get_xdata()[0])[:10] == "2016-06-01"
    assert str(panel.lines[3].get_xdata()[0])[:10] == "2016-08-16"
    assert all(tick == round(tick) for tick in errors.get_xticks())
