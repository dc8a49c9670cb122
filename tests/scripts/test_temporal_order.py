"""The task of scripts/temporal_order.py, and a run of it that is much too short."""

import pathlib
import sys

import jax
import numpy as np
import pytest

pytest.importorskip("matplotlib")
SCRIPTS = pathlib.Path(__file__).parent.parent.parent / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import temporal_order

    return temporal_order


def test_sequences(script):
    """Two relevant symbols, each in its tenth, and their class."""
    xs, classes = script.sequences(jax.random.key(0), 20, 200)
    for symbols, kind in zip(np.asarray(xs).argmax(-1).T, classes, strict=True):
        first, second = np.flatnonzero(symbols < 2)
        assert 2 <= first < 4
        assert 10 <= second < 12
        assert kind == ["AA", "AB", "BA", "BB"].index("AB"[symbols[first]] + "AB"[symbols[second]])
    assert {*np.asarray(classes).tolist()} == {0, 1, 2, 3}


@pytest.mark.slow
def test_a_short_run(script, monkeypatch, tmp_path, capsys):
    """It trains, evaluates and plots."""
    monkeypatch.setattr(script, "TEST", 100)
    words = ["--length=10", "--updates=4", "--seeds=2", "--units=4", "--batch=2", "--out"]
    monkeypatch.setattr(sys, "argv", ["temporal_order.py", *words, str(tmp_path)])
    script.main()
    assert "T 10, 4 updates, solved: clipped 0 of 2, not clipped 0 of 2" in capsys.readouterr().out
    assert (tmp_path / "temporal_order.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("words", ["--length 9", "--seeds 0", "--clip -1", "--rate nan"])
def test_refusals(words, refused):
    """One line that names the option."""
    assert f"{words.split()[0]}: expected" in refused("temporal_order", *words.split())
