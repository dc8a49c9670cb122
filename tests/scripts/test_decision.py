"""A decision between two alternatives: the ideal observer, a short run, its record, invalid input."""

import argparse
import json

import jax
import numpy as np
import pytest

SMALL = ["--length", 10, "--units", 4, "--batch", 2, "--steps", 20, "--trials", 1000]


@pytest.fixture
def script(load_script):
    return load_script("decision")


@pytest.mark.slow
def test_the_ideal_observer(script):
    """Its formula is the accuracy of the sign of the summed difference."""
    batch = script.draw_trials(jax.random.key(0), 20_000, argparse.Namespace(length=50))
    summed = (batch.inputs[..., 1] - batch.inputs[..., 2]).sum(0)
    coherence = np.asarray(batch.conditions["coherence"])
    right = ((np.asarray(summed) > 0) == (coherence > 0))[np.abs(coherence) == np.float32(0.256)]
    assert right.mean() == pytest.approx(script.ideal_observer(0.256, argparse.Namespace(length=50)), abs=0.02)


def test_accuracy(script):
    """Of both signs of a coherence; by hand."""
    run = {"choice 1": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "trials": [10] * 11}
    np.testing.assert_allclose(script.accuracy(run), [0.6, 0.7, 0.8, 0.9, 1.0])
    run = {"choice 1": [0, 0, 0, 0, 0, 5, 6, 7, 8, 9, 10], "trials": [10] * 11}
    np.testing.assert_allclose(script.accuracy(run), [0.8, 0.85, 0.9, 0.95, 1.0])


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru", "leaky"])
def test_a_short_run(cell, run_script, tmp_path):
    """It trains, tests every trial and plots; with --resume it only reads back."""
    printed = run_script("decision", "--cells", cell, *SMALL, "--seeds", 2)
    result = json.loads(printed.splitlines()[-1])
    assert len(result["accuracy"][cell]) == 5
    assert result["ideal"] == sorted(result["ideal"])
    assert (tmp_path / "runs/decision/psychometric.png").stat().st_size > 10_000
    for line in (tmp_path / "runs/decision/runs.jsonl").read_text().splitlines():
        assert sum(json.loads(line)["result"]["trials"]) == 1000
    again = run_script("decision", "--cells", cell, *SMALL, "--seeds", 2, "--resume")
    assert "step" not in again.splitlines()[0]
    assert json.loads(again.splitlines()[-1])["accuracy"] == result["accuracy"]


def test_refusals(refused):
    """One line each."""
    assert refused("decision", "--length", 12) == "--length: expected a multiple of 5 of at least 10, got 12"
    assert refused("decision", "--steps", 19) == "--steps: expected at least 20, got 19"
