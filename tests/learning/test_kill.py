"""The kill test, with a few kills."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "kill_test.py"


@pytest.mark.slow
def test_killed_and_resumed_is_undisturbed(tmp_path):
    """Few kills here; `python scripts/kill_test.py` makes twenty."""
    quick = {  # to compile, not to run
        **os.environ,
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, SCRIPT, "--kills", "3"]
    done = subprocess.run(command, capture_output=True, text=True, env=quick)
    verdict = r"3 kills \(.*\), 40 steps, \d+ s: identical to an undisturbed run, bit for bit\n"
    assert re.fullmatch(verdict, done.stdout), done.stdout + done.stderr
    assert done.returncode == 0
