"""scripts/vanishing.py with --quick, and the picture of the gradient flow."""

import pathlib
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")
SCRIPTS = pathlib.Path(__file__).parent.parent.parent / "scripts"


@pytest.mark.slow
def test_quick(monkeypatch, tmp_path, capsys):
    """Its numbers agree with those of the full run: norms vanish and explode, and only the clipped runs learn."""
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setattr(sys, "argv", ["vanishing.py", "--quick", "--out", str(tmp_path)])
    import vanishing

    vanishing.main()
    lines = capsys.readouterr().out.splitlines()
    below, above = (next(line for line in lines if line.startswith(f"vanilla, ‖w_hh‖ = {a}")) for a in (0.9, 1.5))
    left, exponents = zip(*(map(float, line.split()[-2:]) for line in (below, above)), strict=True)
    assert left[0] < 0.5 < 1 < left[1]  # after 49 steps
    assert exponents[0] < np.log(0.9) + 1e-3 < 0 < exponents[1]
    assert "clipped      learned by 3 of 3 seeds" in "\n".join(lines)
    assert "not clipped  learned by 0 of 3 seeds" in "\n".join(lines)
    assert "gradient flow" in "\n".join(lines)
    assert (tmp_path / "vanishing.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(sys, "argv", ["vanishing.py", "--quick", "--picture", str(tmp_path / "flow.svg")])
    vanishing.main()
    assert 10_000 < (tmp_path / "flow.svg").stat().st_size < 60_000
