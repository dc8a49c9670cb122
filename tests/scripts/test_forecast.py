"""Forecasts: no input is from the future, the splits do not overlap, and the errors are those of the definition."""

import itertools
import json
import sys

import numpy as np
import pytest


@pytest.fixture
def script(load_script):
    return load_script("forecast")


@pytest.mark.parametrize("how", [(5, 3, 4), (2, 3, 4), (3, 3, 1)])
def test_windows(script, how):
    """With values equal to their times: inputs at t are t and whole seasons before the targets, none later than t."""
    how = script.Series(*how, unit="", step="")
    start, end = 20, 40
    inputs, targets, origins = script.windows(np.arange(100.0), how, start, end)
    assert inputs.shape == (how.context, len(origins), 1 + how.horizon)
    now, ago = inputs[..., :1], inputs[..., 1:]
    np.testing.assert_array_equal(now[-1, :, 0], origins)
    np.testing.assert_array_equal(targets, now + np.arange(1, how.horizon + 1))
    assert (ago <= now).all()
    assert ((targets - ago) % how.season == 0).all()
    assert ((targets - ago) < how.season + how.horizon).all()  # and no season more than need be
    assert (targets[-1].min(), targets[-1].max()) == (start, end - 1)


def test_parts(script):
    """The targets of training, validation and test are different values, in this order."""
    how = script.Series(5, 3, 4, "", "")
    parts = [script.windows(np.arange(100.0), how, a, b).targets for a, b in ((0, 60), (60, 80), (80, 100))]
    for before, after in itertools.pairwise(parts):
        assert before.max() < after[-1].min()


@pytest.fixture
def forecast(script, monkeypatch, tmp_path, capsys):
    """Forecast a series in place of the Mackey-Glass one; return the output."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["forecast", "--units", "4", "--steps", "10"])

    def run(values):
        monkeypatch.setattr(script, "mackey_glass", lambda: values)
        script.main()
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_the_last_part_changes_nothing_before_it(script, forecast, tmp_path):
    """Not even through mean and scale. The errors of the simple forecasts are those of a loop."""
    series = script.mackey_glass(600)
    other = np.where(np.arange(600) < 480, series, 9 * series)
    printed = [forecast(values).splitlines() for values in (series, other)]
    evaluations = [[line for line in lines if "evaluation" in line] for lines in printed]
    assert len(evaluations[0]) == 10
    assert evaluations[0] == evaluations[1]
    for values, lines in zip((series, other), printed, strict=True):
        mse = json.loads(lines[-1])["mse"]
        ago, last = [], []
        for now in range(479, 550):
            for target in range(now + 1, now + 51):
                ago.append((values[target] - values[target - 50]) ** 2)
                last.append((values[target] - values[now]) ** 2)
        assert target == 599
        assert mse["a season ago"] == pytest.approx(np.mean(ago), rel=1e-4)
        assert mse["last value"] == pytest.approx(np.mean(last), rel=1e-4)
    assert (tmp_path / "runs/forecast/mackey-glass.png").stat().st_size > 10_000


def test_series(script):
    """The solution is smooth and within its known range."""
    series = script.mackey_glass(400)
    assert 0.2 < series.min() < series.max() < 1.5
    assert np.abs(np.diff(series)).max() < 0.12


def test_evaluations_that_are_all_nan(script, forecast, monkeypatch):
    """There is no network to forecast with."""
    monkeypatch.setattr(script, "predict", lambda model, params, inputs: np.full(inputs.shape[1:2], np.nan)[:, None])
    with pytest.raises(
        ValueError, match=r"^error of the held-out windows: expected a finite one, got none up to step 10"
    ):
        forecast(np.sin(np.arange(600.0)))


def test_refusals(forecast, refused, tmp_path):
    """One line each, with the address of the data."""
    with pytest.raises(ValueError, match="series: expected parts of more than 200 values, got 60"):
        forecast(np.sin(np.arange(100.0)))
    for content, words in [(None, "no monthly-sunspots.csv"), ("Month,Sunspots", "SHA-256")]:
        if content is not None:
            (tmp_path / "monthly-sunspots.csv").write_text(content)
        error = refused("forecast", "--data", tmp_path, "--series", "monthly-sunspots")
        assert words in error
        assert "https://raw.githubusercontent.com/jbrownlee/Datasets/master/monthly-sunspots.csv" in error
    assert "invalid choice: 'weather'" in refused("forecast", "--series", "weather")
