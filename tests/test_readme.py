"""Every Python block of the README runs, one after another in one namespace."""

import pathlib
import re

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text("utf-8")


def test_the_blocks_run(tmp_path, monkeypatch, capsys):
    """The code of the README runs, and shapes are those of its comments."""
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for block in blocks:
        exec(block, namespace)
    assert len(blocks) >= 5
    assert namespace["ys"].shape == (20, 4, 16)
    assert namespace["states"].c.shape == (20, 4, 16)
    assert namespace["logits"].shape == (20, 4, 5)
    assert namespace["end"].stopped == "finished"
