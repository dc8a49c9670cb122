"""The character model from the command line: a run to its end, and samples."""

import json
import pathlib
import re
import subprocess
import sys

import jax.numpy as jnp
import pytest

from jaxrnn import learning

SCRIPTS = pathlib.Path(__file__).parent.parent.parent / "scripts"
SMALL = ["--width", 4, "--embedding", 3, "--length", 4, "--batch", 2, "--steps", 2, "--sample-length", 3]


def test_runs_and_writes(run_script, refused, tmp_path):
    """To the last line; then it continues a prompt."""
    (tmp_path / "text.txt").write_text("abcd " * 100)
    printed = run_script("char_lm", "--text", "text.txt", *SMALL)
    assert "best validation loss 1." in printed
    assert (tmp_path / "runs/char_lm/loss.png").stat().st_size > 10_000
    written = run_script("char_lm", "--sample", 5, "--prompt", "ab").strip("\n")
    assert written.startswith("ab")
    assert len(written) == 7
    (tmp_path / "other.txt").write_text("abdc " * 100)
    error = refused("char_lm", "--text", "other.txt", *SMALL, "--resume")
    assert re.match(
        r"metadata\['text'\]: expected '500 characters, SHA.* as in the run in .*, got '500 char.*, SHA", error
    )
    error = refused("char_lm", "--text", "text.txt", *SMALL, "--rate", 1, "--resume")
    assert error.startswith("metadata['rate']: expected 0.003 as in the run in ")
    assert "nothing to do" in run_script("char_lm", "--text", "text.txt", *SMALL, "--resume")


@pytest.mark.slow
def test_devices(tmp_path):
    """The batch is split over the devices; the losses agree."""
    (tmp_path / "text.txt").write_text("abcd " * 100)
    losses = []
    for devices in (1, 2):
        words = [sys.executable, SCRIPTS / "char_lm.py", "--text", "text.txt", *SMALL, "--devices", devices]
        subprocess.run(list(map(str, words)), check=True, cwd=tmp_path, capture_output=True)
        lines = (tmp_path / "runs/char_lm/metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines if "grad_norm" in line])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_evaluations_that_are_all_nan(run_script, tmp_path, monkeypatch):
    """There is no best one, and the run is saved and drawn all the same."""
    (tmp_path / "text.txt").write_text("abcd " * 100)
    monkeypatch.setattr(learning, "mean_loss", lambda *args: (None, jnp.asarray(jnp.nan)))
    printed = run_script("char_lm", "--text", "text.txt", *SMALL)
    assert "no evaluation had a finite loss; " in printed
    assert (tmp_path / "runs/char_lm/loss.png").exists()
