"""scripts/kill_test.py with a few kills."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "kill_test.py"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_and_resumed_run_is_identical(tmp_path, processes):
    """By default the script kills twenty times. Of two processes one may be killed, then the other ends by itself."""
    quick = {  # compile quickly
        **os.environ,
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, SCRIPT, "--kills", "3", "--processes", str(processes), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=quick)
    expected = r"3 kills \(.*\), 40 steps, \d+ s: identical to an undisturbed run, bit for bit\n"
    assert re.fullmatch(expected, done.stdout), done.stdout + done.stderr
    assert done.returncode == 0
