"""Every block of the page for those who come from another library runs, and both sides give the same numbers."""

import pathlib
import re

import jax
import numpy as np
import pytest

import jaxrnn

PAGE = pathlib.Path(jaxrnn.__file__).with_name("interop") / "MIGRATING.md"
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the other libraries
@pytest.mark.parametrize(("section", "library"), [("PyTorch", "torch"), ("Keras", "keras"), ("Flax", "flax")])
def test_both_sides_agree(section, library, capsys):
    pytest.importorskip(library)
    compared = []
    namespace: dict = {"np": np}
    exec(re.findall(r"```python\n(def same.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[0], namespace)
    same = namespace["same"]
    namespace["same"] = lambda ours, theirs: (same(ours, theirs), compared.append(ours))
    blocks = re.findall(r"```python\n(.*?)```", SECTIONS[section], re.DOTALL)
    for block in blocks:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as users have it
            exec(block, namespace)
        printed = capsys.readouterr().out.splitlines()
        for answer in re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE):
            assert answer in printed
    assert len(compared) >= 2
    assert set(SECTIONS) == {"PyTorch", "Keras", "Flax"}
