"""How a script is run by the tests."""

import importlib
import pathlib
import runpy
import sys

import pytest

SCRIPTS = pathlib.Path(__file__).parent.parent.parent / "scripts"


@pytest.fixture
def run_script(monkeypatch, tmp_path, capsys):
    """Run a script as a program in an empty folder; return its output. A refusal is a SystemExit."""
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXRNN_DATA", str(tmp_path / "cache"))

    def run(name, *args):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(run_script, capsys):
    """Run a script that refuses its arguments with exit code 2; return the error line."""

    def run(name, *args):
        with pytest.raises(SystemExit) as end:
            run_script(name, *args)
        *usage, line = capsys.readouterr().err.splitlines()
        assert end.value.code == 2, line
        assert not usage or usage[0].startswith(f"usage: {name}.py"), usage
        start = f"{name}.py: error: "
        assert line.startswith(start), line
        return line.removeprefix(start)

    return run


@pytest.fixture
def load_script(monkeypatch):
    """Import a script as a module."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module
