"""Strips of digits agree with their labels, edits are counted right, and the script runs."""

import difflib
import functools
import json

import numpy as np
import pytest

pytest.importorskip("sklearn")


@pytest.fixture
def script(load_script):
    return load_script("read_digits")


@pytest.mark.slow
def test_runs(run_script, tmp_path):
    """To the last line and the plot."""
    printed = run_script("read_digits", "--steps", 2, "--batch", 4, "--units", 4, "--width", 2)
    result = json.loads(printed.splitlines()[-1])
    assert (result["script"], result["steps"]) == ("read_digits", 2)
    assert result["digit_error"] > 0.5
    assert (tmp_path / "runs/read_digits/read_digits.png").stat().st_size > 20_000


def test_strips_agree_with_their_labels(script):
    """Whole scans from left to right, gaps of up to 4 columns, nothing after the length."""
    scans = np.stack([np.full((8, 8), digit + 1.0) for digit in range(10)])
    made = script.strips(scans, np.arange(10), 200, np.random.default_rng(0))
    assert set(made.target_lengths) == set(range(script.LEAST, script.MOST + 1))
    for n, (length, many) in enumerate(zip(made.lengths, made.target_lengths, strict=True)):
        columns = made.inputs[:, n]
        values = columns.max(-1)
        digits = [int(value) - 1 for value in values if value]
        assert digits == [digit for digit in made.targets[:many, n] for _ in range(8)]
        assert np.all(columns.sum(-1) == 8 * values)
        assert values[length - 1] > 0
        assert not values[length:].any()
        assert 0 <= length - 8 * many <= 4 * many
        assert not made.targets[many:, n].any()


def test_edits(script):
    """The definition, by recursion; at least the difference of the lengths, at most what difflib finds."""

    @functools.cache
    def plain(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(plain(a[1:], b) + 1, plain(a, b[1:]) + 1, plain(a[1:], b[1:]) + (a[0] != b[0]))

    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = (rng.integers(0, 3, rng.integers(0, 7)).tolist() for _ in range(2))
        assert script.edits(a, b) == plain(tuple(a), tuple(b))
        codes = difflib.SequenceMatcher(None, a, b, False).get_opcodes()
        assert script.edits(a, b) <= sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in codes if tag != "equal")
