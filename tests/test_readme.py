"""Every Python block of the README runs, one after another in one namespace."""

import inspect
import os
import pathlib
import re
import socket
import subprocess
import sys

import jax
import pytest

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text("utf-8")


def test_the_blocks_run(tmp_path, monkeypatch, capsys):
    """The code of the README runs, and shapes are those of its comments."""
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for block in blocks:
        exec(block, namespace)
        printed = capsys.readouterr().out.splitlines()
        for answer in re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE):
            assert answer in printed
    assert len(blocks) >= 5
    assert namespace["ys"].shape == (20, 4, 16)
    assert namespace["states"].c.shape == (20, 4, 16)
    assert namespace["logits"].shape == (20, 4, 5)
    assert namespace["end"].stopped == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_the_file_for_laptop_and_cluster(tmp_path, processes):
    """It runs as it is, and in two processes with the line for launchers that JAX does not detect."""
    (program,) = re.findall(r"```py\n(# train.py\n.*?)```", README, re.DOTALL)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    started = []
    for process in range(processes):
        file = tmp_path / f"train{process}.py"
        by_hand = f'.initialize("{address}", num_processes={processes}, process_id={process}, '
        program_here = program.replace(".initialize(", by_hand)
        if "shutdown_timeout_seconds" not in inspect.signature(jax.distributed.initialize).parameters:
            program_here = program_here.replace(", shutdown_timeout_seconds=30", "")
        file.write_text(program_here)
        environment = os.environ | {"SLURM_NTASKS": str(processes)}
        started.append(subprocess.Popen([sys.executable, file], cwd=tmp_path, env=environment, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT))  # fmt: skip
    outputs = [child.communicate(timeout=200)[0] for child in started]
    assert [child.returncode for child in started] == [0] * processes, outputs
    assert "step 100/100" in outputs[0]
    assert all("step" not in output for output in outputs[1:])
    assert (tmp_path / "run" / "step-000000100").is_dir()


def test_short_programs_are_short():
    """Each kind of problem takes at most 15 lines from raw data to a prediction."""
    section = README.partition("## From raw data to an answer")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    lines = [[line for line in block.splitlines() if line and "import" not in line] for block in blocks]
    assert len(blocks) == 5
    assert max(map(len, lines)) <= 15
    assert all("fit(" in block and "print(" in block for block in blocks)
