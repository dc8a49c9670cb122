"""The character model from the command line: a run to its end, good or bad, and what it writes."""

import re

import jax.numpy as jnp

from jaxrnn import learning

SMALL = ["--width", 4, "--embedding", 3, "--length", 4, "--batch", 2, "--steps", 2, "--sample-length", 3]


def test_runs_and_writes(run_script, refused, tmp_path):
    """To the last line; then it goes on from a prompt."""
    (tmp_path / "text.txt").write_text("abcd " * 100)
    args = run_script("char_lm", "--text", "text.txt", *SMALL)
    assert "best validation loss 1." in args
    assert (tmp_path / "runs/char_lm/loss.png").stat().st_size > 10_000
    written = run_script("char_lm", "--sample", 5, "--prompt", "ab").strip("\n")
    assert written.startswith("ab")
    assert len(written) == 7
    (tmp_path / "other.txt").write_text("abdc " * 100)
    args = refused("char_lm", "--text", "other.txt", *SMALL, "--resume")
    assert re.match(r"facts\['text'\]: expected '500 characters, SHA.* as in the run in .*, got '500 char.*, SHA", args)
    args = refused("char_lm", "--text", "text.txt", *SMALL, "--rate", 1, "--resume")
    assert args.startswith("facts['rate']: expected 0.003 as in the run in ")
    assert "nothing to do" in run_script("char_lm", "--text", "text.txt", *SMALL, "--resume")


def test_evaluations_that_are_all_nan(run_script, tmp_path, monkeypatch):
    """There is no best one, and the run is saved and drawn all the same."""
    (tmp_path / "text.txt").write_text("abcd " * 100)
    monkeypatch.setattr(learning, "mean_loss", lambda *args: (None, jnp.asarray(jnp.nan)))
    args = run_script("char_lm", "--text", "text.txt", *SMALL)
    assert "no evaluation had a finite loss; " in args
    assert (tmp_path / "runs/char_lm/loss.png").exists()
