"""The figure of scripts/vanishing.py, drawn small."""

import pathlib
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")
SCRIPTS = pathlib.Path(__file__).parent.parent.parent / "scripts"


@pytest.mark.slow
def test_quick(monkeypatch, tmp_path, capsys):
    """It runs, tells the story in numbers and draws it."""
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setattr(sys, "argv", ["vanishing.py", "--quick", "--out", str(tmp_path)])
    import vanishing

    vanishing.main()
    lines = capsys.readouterr().out.splitlines()
    below, above = (next(line for line in lines if line.startswith(f"vanilla, ‖w_hh‖ = {a}")) for a in (0.9, 1.5))
    left, exponents = zip(*(map(float, line.split()[-2:]) for line in (below, above)), strict=True)
    assert left[0] < 0.5 < 1 < left[1]  # after 19 steps
    assert exponents[0] < np.log(0.9) + 1e-3 < 0 < exponents[1]
    assert sum("learnt by" in line for line in lines) == 2
    assert "gradient flow" in lines[-2]
    assert (tmp_path / "vanishing.png").read_bytes().startswith(b"\x89PNG")
