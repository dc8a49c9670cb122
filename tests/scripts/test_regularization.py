"""Regularizers of a character model: a short run, what is read off its curves, invalid input."""

import json

import pytest

SMALL = ["--characters", 400, "--units", 4, "--embedding", 3, "--length", 4, "--batch", 2, "--steps", 6]


@pytest.fixture
def script(load_script):
    return load_script("regularization")


@pytest.mark.slow
@pytest.mark.parametrize(
    "models", [["plain"], ["layer-norm", "zoneout", "variational"], ["recurrent-dropout", "weight-drop"]]
)
def test_a_short_run(models, run_script, tmp_path):
    """It trains, evaluates and plots; each loss is near that of guessing among the letters."""
    (tmp_path / "text.txt").write_text("abcd " * 100)
    args = ["--text", "text.txt", *SMALL, "--evaluate-every", 2, "--seeds", 2, "--target", 9, "--models", *models]
    result = json.loads(run_script("regularization", *args).splitlines()[-1])
    for name in models:
        assert [1 < loss < 2.5 for loss in result["valid"][name]] == [True, True]
        assert result["steps"][name] == [2, 2]
    assert (tmp_path / "runs/regularization/regularization.png").stat().st_size > 10_000


def test_first_below(script):
    """The first step with a loss below the target."""
    run = {"step": [10, 20, 30], "train": [3.0, 2.0, 2.5]}
    assert script.first_below(run, 2.6) == 20
    assert script.first_below(run, 1.0) is None


def test_refusals(refused, tmp_path):
    """One line each."""
    (tmp_path / "text.txt").write_text("abcd " * 100)
    words = "--characters: expected at least 10,250 for --batch 16 --length 64, got a text of 500"
    assert refused("regularization", "--text", "text.txt") == words
    assert "'none'" in refused("regularization", "--models", "none")
