"""The T-maze: a short run, its record, chance, invalid input."""

import argparse
import json

import pytest

SMALL = ["--length", 1, "--units", 4, "--batch", 8, "--steps", 8, "--updates", 50]


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "memoryless"])
def test_a_short_run(cell, run_script, tmp_path):
    """It trains and plots; with --resume it only reads back."""
    printed = run_script("t_maze", "--cells", cell, *SMALL, "--seeds", 2)
    result = json.loads(printed.splitlines()[-1])
    assert len(result["return"][cell]) == 2
    assert (tmp_path / "runs/t_maze/t_maze.png").stat().st_size > 10_000
    for line in (tmp_path / "runs/t_maze/runs.jsonl").read_text().splitlines():
        curves = json.loads(line)["result"]
        assert curves["update"] == list(range(1, 51))
        assert all(0 <= right <= 1 for right in curves["right"])
    again = run_script("t_maze", "--cells", cell, *SMALL, "--seeds", 2, "--resume")
    assert json.loads(again.splitlines()[-1])["return"] == result["return"]


@pytest.mark.slow
def test_chance(load_script):
    """In the shortest corridor: moves into walls before the end by hand, from the linear equations of the walk."""
    script = load_script("t_maze")
    # W(start) = 3/4 (-0.1 + W(start)) + 1/4 W(end);  W(end) = 1/2 (4 - 0.1) / 2 + 1/4 (-0.1 + W(end)) + 1/4 W(start)
    # W(end) = W(start) + 0.3, so 3/4 (W + 0.3) = 0.975 - 0.025 + W / 4
    expected = (0.95 - 0.225) / 0.5
    args = argparse.Namespace(length=1, units=4, seed=0)
    assert script.chance(args) == pytest.approx(expected, abs=0.02)


def test_refusals(refused):
    """One line each."""
    assert refused("t_maze", "--updates", 49) == "--updates: expected at least 50, got 49"
