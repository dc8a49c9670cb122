"""How a script is run by the tests."""

import importlib
import pathlib
import runpy
import sys

import pytest

SCRIPTS = pathlib.Path(__file__).parent.parent.parent / "scripts"


@pytest.fixture
def run_script(monkeypatch, tmp_path, capsys):
    """Run a script as a program in an empty folder; returns what it printed. A refusal is a SystemExit."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXRNN_DATA", str(tmp_path / "cache"))

    def run(name, *told):
        monkeypatch.setattr(sys, "argv", [name, *map(str, told)])
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def load_script(monkeypatch):
    """Import a script as a module."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module
