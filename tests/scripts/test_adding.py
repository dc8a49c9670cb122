"""The adding problem at a length that is learnt at once."""

import json


def test_a_short_one_is_learnt(run_script, tmp_path):
    """A GRU adds two numbers of four; the run ends at the first error below --enough."""
    args = ["--cells", "gru", "--length", 4, "--units", 16, "--rate", 1e-2, "--steps", 2000, "--steps-per-call", 100]
    printed = run_script("adding", *args, "--enough", 0.1)
    result = json.loads(printed.splitlines()[-1])
    assert result["error"]["gru"] < 0.1 < result["chance"]
    assert result["steps"]["gru"] < 2000
    tests = [line for line in printed.splitlines() if line.startswith("gru      seed 0  step")]
    assert len(tests) == result["steps"]["gru"] // 100
    assert (tmp_path / "runs/adding/adding.png").stat().st_size > 10_000


def test_refusals(refused):
    """One line: one of a single step, an unknown cell."""
    assert refused("adding", "--length", 1) == "--length: expected at least 2 steps, for two marks, got 1"
    assert "'rnn'" in refused("adding", "--cells", "rnn")
