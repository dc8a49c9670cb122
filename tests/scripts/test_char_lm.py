"""The character model from the command line: a run to its end, and samples."""

import json
import pathlib
import re
import shutil
import socket
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


def start(folder, *args):
    """Start the script in a process."""
    words = [sys.executable, SCRIPTS / "char_lm.py", "--text", "text.txt", *SMALL, *args]
    return subprocess.Popen(
        list(map(str, words)), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run_processes(folder, count, *args):
    """Run the script in processes; what they print."""
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
    places = [("--coordinator", address, "--processes", count, "--process-id", n) for n in range(count)]
    started = [start(folder, *args, *(place if count > 1 else ())) for place in places]
    outputs = [process.communicate(timeout=200) for process in started]
    for process, (_, errors) in zip(started, outputs, strict=True):
        assert process.returncode == 0, errors
    return ["".join(line for line in out.splitlines(True) if "[Gloo]" not in line) for out, _ in outputs]


def losses(folder):
    lines = map(json.loads, (folder / "runs/char_lm/metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "grad_norm" in line]


@pytest.mark.slow
def test_devices_and_processes(tmp_path):
    """The batch is split over devices and processes, a run resumed on others; the losses agree, process 0 prints."""
    (tmp_path / "text.txt").write_text("abcd " * 100)
    run_processes(tmp_path, 1, "--devices", 1, "--steps", 4)
    alone = losses(tmp_path)
    run_processes(tmp_path, 1, "--devices", 2, "--steps", 4)
    assert losses(tmp_path) == pytest.approx(alone, rel=1e-5)
    printed, nothing = run_processes(tmp_path, 2, "--steps", 4)
    assert "best validation loss" in printed
    assert nothing == ""
    assert losses(tmp_path) == pytest.approx(alone, rel=1e-5)
    for step in (3, 4):  # as if the run had been killed after step 2
        shutil.rmtree(tmp_path / f"runs/char_lm/step-{step:09}")
    run_processes(tmp_path, 1, "--devices", 2, "--steps", 4, "--resume")
    assert losses(tmp_path) == pytest.approx(alone, rel=1e-5)


@pytest.mark.slow
def test_no_cluster(tmp_path):
    """Where JAX cannot find the other processes by itself."""
    (tmp_path / "text.txt").write_text("abcd " * 100)
    process = start(tmp_path, "--coordinator", "auto")
    _, errors = process.communicate()
    assert process.returncode == 2
    assert errors.startswith("char_lm.py: error: --coordinator: expected HOST:PORT outside of SLURM, Kubernetes")


def test_evaluations_that_are_all_nan(run_script, tmp_path, monkeypatch):
    """There is no best one, and the run is saved and drawn all the same."""
    (tmp_path / "text.txt").write_text("abcd " * 100)
    monkeypatch.setattr(learning, "mean_loss", lambda *args: (None, jnp.asarray(jnp.nan)))
    printed = run_script("char_lm", "--text", "text.txt", *SMALL)
    assert "no evaluation had a finite loss; " in printed
    assert (tmp_path / "runs/char_lm/loss.png").exists()
