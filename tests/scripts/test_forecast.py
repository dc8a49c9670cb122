"""Forecasts: measures are those of the definitions, no part knows a later one, and a file of one's own is explained."""

import csv
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.data import Series, Windows


@pytest.fixture
def parts(load_script):
    """The modules behind the script."""
    names = "classical", "measures", "models", "network", "problems", "tables"
    return SimpleNamespace(**{name: load_script(f"forecasting.{name}") for name in names})


# ---- measures --------------------------------------------------------------------------------------------------------


def test_measures(parts):
    """Loops over the definitions; missing values do not count."""
    rng = np.random.default_rng(0)
    samples, truth, scale = rng.normal(size=(40, 3, 5)), rng.normal(size=(3, 5)), np.array([1.0, 2.0, np.nan])
    truth[0, 2] = np.nan
    found = parts.measures.measure(samples, truth, scale)
    errors, scores, inside = [], [], []
    for n, step in np.ndindex(2, 5):
        x, y = samples[:, n, step], truth[n, step]
        if not np.isnan(y):
            errors.append(abs(np.median(x) - y) / scale[n])
            scores.append((np.abs(x - y).mean() - np.abs(x[:, None] - x).mean() / 2) / scale[n])
            low, high = np.quantile(x, [0.1, 0.9])
            inside.append(low <= y <= high)
    assert found["mase"] == pytest.approx(np.mean(errors))
    assert found["crps"] == pytest.approx(np.mean(scores))
    assert found["cover80"] == pytest.approx(np.mean(inside))
    assert found["cover80"] <= found["cover95"]


def test_scale_of_mase(parts):
    """Up to the end of the training part; of one step where no season fits or all are the same; else 1."""
    series = Series([1.0, 5, 2, np.nan, 4, 100])
    assert parts.measures.seasonal_scale(series, 2, 5) == np.mean([1, 2])
    assert parts.measures.seasonal_scale(series, 9, 3) == np.mean([4, 3])
    assert parts.measures.seasonal_scale(Series(np.ones(9)), 2, 9) == 1
    assert parts.measures.seasonal_scale(Series(np.tile([1.0, 2, 4], 3)), 3, 9) == np.mean([1, 2, 3, 1, 2, 3, 1, 2])
    wave = Series(7 + np.sin(np.arange(48) * np.pi / 6))  # the same seasons up to rounding
    assert parts.measures.seasonal_scale(wave, 12, 48) > 0.1


def test_measures_of_equal_seasons(parts):
    """A series without any noise is measured as others are."""
    values = np.tile([1.0, 2, 4], 9)
    problem = parts.problems.Problem("", [Series(values)], season=3, horizon=3)
    origins = parts.measures.Origins(np.zeros(2, int), np.array([18, 21]))
    found = parts.network.score(problem, np.stack([origins.truth(problem.series, 3)] * 9), origins, [18])
    assert found == {"mase": 0, "crps": 0, "cover80": 1, "cover95": 1}


def test_seasonal_naive(parts):
    """The median is the value whole seasons ago, and the quantiles are those of a normal distribution."""
    values = np.random.default_rng(0).normal(size=60)
    origins = parts.measures.Origins(np.zeros(3, int), np.array([40, 45, 52]))
    drawn = parts.classical.seasonal_naive([Series(values)], origins, 3, 8, [40])
    deviation = np.sqrt(np.mean([(values[t] - values[t - 3]) ** 2 for t in range(3, 40)]))
    for k, start in enumerate(origins.starts):
        for step in range(8):
            back = step + 1
            while back % 3 or back < step + 1:
                back += 1
            np.testing.assert_allclose(np.median(drawn[:, k, step]), values[start + step - back])
            spread = drawn[:, k, step].std() / np.std(np.sort(drawn[:, k, 0]))
            np.testing.assert_allclose(spread, np.sqrt(back // 3))
    levels = parts.measures.LEVELS
    one = np.interp(0.8413447, levels, drawn[:, 0, 0]) - np.median(drawn[:, 0, 0])
    assert one == pytest.approx(deviation, rel=1e-3)


# ---- what the network sees -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("kind", ["level", "relative", "seasonal"])
def test_represented_and_restored(parts, kind, log):
    """A perfect forecast of what is seen is a perfect forecast of the values, whatever comes before is missing."""
    values = np.random.default_rng(0).uniform(1, 2, 50)
    problem = parts.problems.Problem("", [Series(values), Series(values[::-1])], season=4, horizon=6, log=log)
    seen = parts.network.represented(problem, kind)
    origins = parts.measures.Origins(np.array([0, 1, 1]), np.array([20, 30, 44]))
    perfect = origins.truth(seen, 6)[None]
    back = parts.network.restored(problem, kind, perfect, origins)
    np.testing.assert_allclose(back[0], origins.truth(problem.series, 6), rtol=1e-12)
    assert np.isnan(seen[0].values[:8]).all() == (kind == "seasonal")


def test_a_missing_season_before(parts):
    """Its place is taken by the mean of the others."""
    values = np.arange(20.0)
    values[10] = np.nan
    problem = parts.problems.Problem("", [Series(values)], season=4, horizon=3)
    origins = parts.measures.Origins(np.array([0]), np.array([13]))
    assert parts.network.restored(problem, "seasonal", np.zeros((1, 1, 3)), origins).tolist() == [[[9, 10, 11]]]


class Last:
    """A forecaster of the last value, whose loss is the sum of all that it sees."""

    def init(self, key):
        return jax.random.normal(key)

    def loss(self, params, window, key=None):
        return params * (window.values.sum() + window.covariates.sum()) + window.targets.sum(), {}

    def forecast(self, params, window, *, key, samples):
        last = window.values[-1] + params + window.covariates[-1, :, -1:]
        return jnp.broadcast_to(last, (samples, len(window.targets), *last.shape))


def test_relative(parts):
    """Other units give the same loss, and forecasts in these units."""
    values = np.random.default_rng(0).normal(size=40)
    values[[7, 19]] = np.nan
    found = []
    for a, b in ((1.0, 0.0), (3.0, 100.0)):
        windows = Windows(Series(a * values + b), context=6, horizon=2, batch=5, lags=(4,), start=10, shuffle=False)
        window = windows[0]._replace(covariates=np.where(windows[0].covariates == 0, b, windows[0].covariates))
        model = parts.models.Relative(Last(), lags=1, floor=0.0)
        drawn = model.forecast(jnp.float32(0.5), window, key=jax.random.key(0), samples=3)
        found.append((model.loss(jnp.float32(0.5), window)[0], (drawn - b) / a))
    np.testing.assert_allclose(*(loss for loss, _ in found), rtol=2e-3)
    np.testing.assert_allclose(*(drawn for _, drawn in found), rtol=2e-3, atol=2e-3)


def test_ensemble(parts):
    """Members have first parameters of their own; the loss is their sum, and each draws the same number of samples."""
    window = Windows(Series(np.arange(20.0)), context=6, horizon=2, batch=5, lags=(4,))[0]
    model = parts.models.Ensemble(Last(), 3)
    params = model.init(jax.random.key(0))
    assert len(set(params.tolist())) == 3
    losses = [Last().loss(one, window)[0] for one in params]
    np.testing.assert_allclose(model.loss(params, window)[0], sum(losses), rtol=1e-6)
    drawn = model.forecast(params, window, key=jax.random.key(0), samples=6)
    each = [Last().forecast(one, window, key=None, samples=2) for one in params]
    np.testing.assert_allclose(drawn, np.concatenate(each))


def test_what_is_guessed(parts):
    """The season of the training part, and logarithms where the spread grows with the level."""
    steps, noise = np.arange(240), np.random.default_rng(0).normal(size=240)
    wave = np.sin(2 * np.pi * steps / 12)
    cases = [
        (10 + wave + 0.1 * noise, (12,), 12, False),
        (10 + wave + 0.1 * noise, (), 12, False),
        (10 + np.cumsum(noise), (12,), 1, False),
        (np.exp(0.02 * steps) * (2 + wave), (12,), 12, True),
        (wave - 0.02 * steps, (7, 12), 12, False),
    ]
    for values, candidates, season, log in cases:
        series = [Series(values)]
        assert parts.problems.find_season(series, candidates, 12) == season
        if values.min() > 0 and season == 12:
            assert parts.problems.is_multiplicative(series, season) == log
    assert not parts.problems.is_multiplicative([Series(cases[3][0] - 3)], 12)


def test_no_logarithm_of_zero(parts):
    """Not even of one that comes after the training part."""
    steps = np.arange(240)
    values = np.exp(0.02 * steps) * (2 + np.sin(2 * np.pi * steps / 12))
    assert parts.problems.is_multiplicative([Series(values)], 12)
    values[230] = 0
    assert not parts.problems.is_multiplicative([Series(values)], 12)


def test_mackey_glass(parts):
    """The solution is smooth and within its known range."""
    series = parts.problems.mackey_glass(400)
    assert 0.2 < series.min() < series.max() < 1.5
    assert np.abs(np.diff(series)).max() < 0.12


def test_origins_of_the_table(parts, load_script):
    """They are those of the windows, so that every method forecasts the same values."""
    values = np.random.default_rng(0).normal(size=(2, 40))
    values[0, 33:38] = np.nan
    problem = parts.problems.Problem("", [Series(values[0]), Series(values[1, :37])], season=4, horizon=3)
    windows = Windows(problem.series, context=5, horizon=3, batch=4, start=[30, 28], stride=2, shuffle=False)
    found = load_script("forecast_table").every(problem, [30, 28], 2)
    real = [window.targets_observed.any((0, 2)) for window in windows]
    for name, numbers in (("series", found.numbers), ("start", found.starts)):
        expected = [getattr(window, name)[some] for window, some in zip(windows, real, strict=True)]
        np.testing.assert_array_equal(numbers, np.concatenate(expected))


# ---- the script ------------------------------------------------------------------------------------------------------


def shops(rows, *, missing=True):
    """Monthly sales of two shops with trend and season, some cells and rows missing, in the order of time."""
    rng, lines = np.random.default_rng(0), []
    for n in range(rows):
        for shop, level in (("north", 120), ("south", 60)):
            sales = level * (1 + 0.004 * n) * (1 + 0.3 * np.sin(n * np.pi / 6)) + rng.normal()
            gap = rng.random()
            if shop == "north" or n >= 12:
                cell = "" if missing and gap < 0.04 else f"{sales:.2f}".replace(".", ",")
                lines += [f"01.{n % 12 + 1:02}.{2014 + n // 12};{shop};{cell}"] * (not missing or gap < 0.97)
    return "\n".join(["month;shop;sales", *lines, ""])


QUICK = "--quick", "--units", 4, "--steps", 20, "--context", 12


@pytest.mark.slow
def test_a_file(run_script, tmp_path):
    """Two groups, missing cells, decimal commas: forecasts of the next months, the same again and when resumed."""
    path = tmp_path / "sales.csv"
    path.write_text(shops(96))
    args = "forecast", "--csv", path, "--group", "shop"
    printed = run_script(*args, *QUICK, "--out", "a")
    for words in (
        "sales.csv: 2 series of 84 to 96 steps",
        "target      sales",
        "steps: month, 2014-01-01 to 2021-12-01",
        "shop: north, south",
        "decimal comma",
        "values are missing",
        "of 12 steps, season 12",
    ):
        assert words in printed
    result = json.loads(printed.splitlines()[-1])
    assert result["script"] == "forecast"
    assert all(0 < result[measure][name] < 10 for measure in ("mase", "crps") for name in result["mase"])
    with (tmp_path / "a/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["time"] for row in rows] == [f"2022-{n:02}-01" for n in range(1, 13)] * 2
    assert [row["group"] for row in rows] == ["north"] * 12 + ["south"] * 12
    for row in rows:
        low, middle, high = (float(row[name]) for name in ("q0.025", "q0.5", "q0.975"))
        assert low < middle < high
        assert {"north": 60, "south": 30}[row["group"]] < middle < {"north": 400, "south": 200}[row["group"]]
    for name in ("forecast.png", "test.png"):
        assert (tmp_path / "a" / name).stat().st_size > 10_000

    first = (tmp_path / "a/predictions.csv").read_bytes()
    run_script(*args, *QUICK, "--out", "b")
    assert (tmp_path / "b/predictions.csv").read_bytes() == first
    run_script(*args[:3], "--resume", "--out", "a")
    assert (tmp_path / "a/predictions.csv").read_bytes() == first

    path.write_text(shops(97, missing=False))
    printed = run_script(*args[:3], "--resume", "--out", "a")
    with (tmp_path / "a/predictions.csv").open() as file:
        assert next(csv.DictReader(file))["time"] == "2022-02-01"
    assert "validation" not in printed
    grown = shops(97, missing=False).splitlines()
    grown += [line.replace("north", "west") for line in grown[1:] if "north" in line]
    path.write_text("\n".join(grown))
    again = run_script(*args[:3], "--resume", "--out", "a")
    assert "LEFT OUT    west, not among the groups of the run" in again
    assert again.partition("forecasts")[2].rpartition('"seconds"')[0] == printed.partition("forecasts")[2].rpartition(
        '"seconds"')[0]  # fmt: skip
    path.write_text(shops(96).replace("south", "west"))
    with pytest.raises(SystemExit):
        run_script(*args[:3], "--resume", "--out", "a")


@pytest.mark.slow
def test_the_last_part_changes_nothing_before_it(run_script, tmp_path):
    """Not even through scaling, season or logarithms: the validation of both files is the same."""
    table = list(csv.reader(shops(60, missing=False).splitlines(), delimiter=";"))
    found = []
    for factor in (1, 9):
        late = [[*row[:2], f"{factor * float(row[2].replace(',', '.')):.1f}".replace(".", ",")] for row in table[-16:]]
        (tmp_path / "sales.csv").write_text("\n".join(map(";".join, [*table[:-16], *late])))
        printed = run_script("forecast", "--csv", "sales.csv", "--group", "shop", *QUICK, "--horizon", 4)
        lines = [line.rpartition(",")[0] for line in printed.splitlines() if "CRPS" in line or "season" in line]
        found.append(lines[:2])
    assert "validation CRPS" in found[0][1]
    assert found[0] == found[1]


@pytest.mark.slow
def test_covariates(run_script, tmp_path):
    """Rows after the end of the target tell those of the forecasts."""
    lines = ["year,y,price"] + [f"{1950 + n},{n % 5 + n % 3 if n < 60 else ''},{n % 3}" for n in range(64)]
    (tmp_path / "years.csv").write_text("\n".join(lines))
    printed = run_script("forecast", "--csv", "years.csv", "--target", "y", "--covariates", "price", "--horizon", 4,
                         "--method", "recursive", *QUICK)  # fmt: skip
    assert "covariates  price" in printed
    with (tmp_path / "runs/forecast/predictions.csv").open() as file:
        assert [row["time"] for row in csv.DictReader(file)] == ["2010", "2011", "2012", "2013"]


@pytest.mark.slow
def test_quick(run_script, tmp_path):
    """The series that needs no file."""
    result = json.loads(run_script("forecast", "--quick", "--steps", 40, "--units", 8).splitlines()[-1])
    assert (result["series"], result["horizon"]) == ("mackey-glass", 50)
    assert (tmp_path / "runs/forecast/test.png").stat().st_size > 10_000


@pytest.mark.slow
def test_table(run_script, tmp_path):
    """It continues where it was stopped, and reports without measuring."""
    pytest.importorskip("statsmodels")
    args = "forecast_table", "--quick", "--seeds", 1, "--steps", 10
    path = tmp_path / "runs/forecast_table_quick/results.jsonl"
    table = run_script(*args)
    lines = path.read_text().splitlines(keepends=True)
    assert [json.loads(line)["method"] for line in lines][-2:] == ["direct", "recursive"]
    path.write_text("".join(lines[:-1]))
    again = run_script(*args)
    assert again.partition("\nMASE")[2] == table.partition("\nMASE")[2] == run_script(*args, "--report").partition(
        "\nMASE")[2]  # fmt: skip


def test_refusals(refused, tmp_path):
    """One line each, before anything is trained."""
    (tmp_path / "sales.csv").write_text(shops(36, missing=False))
    future = "--covariates: expected their values in 6 rows after the end of north, where the target is empty, got 0"
    for args, words in [
        ("--csv sale.csv", "sale.csv: expected a CSV file, got no such file; did you mean sales.csv?"),
        ("--csv sales.csv --target sale", "target: expected the name of a column, got 'sale'; did you mean sales?"),
        ("--csv sales.csv --target shop", "target: expected a column of numbers, got 'shop', with 'north'"),
        ("--csv sales.csv", "rows 14 and 15: expected different times in one series, got 2015-01-01 twice; the col"),
        ("--csv sales.csv --group shop --horizon 12", "--horizon: expected series of at least 40 steps for a horizon "
         "of 12, got 36; --horizon 10 is possible"),
        ("--csv long.csv --season 1000", "--season: expected at most 230 steps, a training part of 240 less a horizon "
         "of 10, got 1,000"),
        ("--csv long.csv --context 1000", "--context: expected at most 230 steps, a training part of 240 less"),
        ("--csv none.csv --target y --group g", "--horizon: expected series of at least 7 steps for a horizon of 1, "
         "got 2; a longer table"),
        ("--csv two.csv --group shop --target sales --covariates price --horizon 6", future),
        ("--csv two.csv --group shop", "--target: expected the name of the column to forecast, got none; columns of "
         "numbers: sales, price"),
        ("--csv same.csv", "--target: expected values that change, got 5 in all rows; name another column"),
        ("--csv sales.csv --resume", "folder: expected a run with checkpoints, got none in "),
        ("--target sales", "--target: expected it with --csv FILE, got none"),
        ("--resume", "--resume: expected it with --csv FILE, got none"),
        ("--csv sales.csv --data .", "--data: expected it with --series, got --csv"),
    ]:  # fmt: skip
        (tmp_path / "long.csv").write_text("y\n" + "".join(f"{n % 7}\n" for n in range(400)))
        (tmp_path / "none.csv").write_text("g,y\na,1\na,2\n")
        (tmp_path / "same.csv").write_text("y\n" + "5\n" * 60)
        priced = [f"{line};{n or 'price'}" for n, line in enumerate(shops(36, missing=False).splitlines())]
        (tmp_path / "two.csv").write_text("\n".join(priced).replace("0;price", "price"))
        assert refused("forecast", *args.split()).startswith(words)
    assert not (tmp_path / "runs").exists()
    for content, words in [(None, "no monthly-sunspots.csv"), ("Month,Sunspots", "SHA-256")]:
        if content is not None:
            (tmp_path / "monthly-sunspots.csv").write_text(content)
        error = refused("forecast", "--data", tmp_path, "--series", "monthly-sunspots")
        assert words in error
        assert "https://raw.githubusercontent.com/jbrownlee/Datasets/master/monthly-sunspots.csv" in error
    assert "invalid choice: 'weather'" in refused("forecast", "--series", "weather")
    assert refused("forecast_table", "--report").startswith("--report: expected the results of an earlier run in --out")
