"""The metadata of checkpoints: objects come back, runs are resumed with them, other versions are named."""

import dataclasses
import json

import numpy as np
import optax
import pytest
from runs import KEY, Noise, same_bits, small_loss, small_state

import jaxrnn as rnn
from jaxrnn import learning, stored
from jaxrnn.data import Tokenizer, Vocabulary
from jaxrnn.learning import Checkpoints, fit, load_model

MODEL = rnn.GRU(2, 3)
OPTIMIZER = optax.sgd(0.05)
STEP = learning.train_step(small_loss, OPTIMIZER)
WORDS = Vocabulary.of(["a great film", "a dull one"], split="words", unknown="<unk>", special=("<pad>",))
PIECES = Tokenizer('{"model": {"type": "BPE", "vocab": {"a": 0}, "unk_token": "a"}}')
METADATA = {
    "words": WORDS,
    "pieces": PIECES,
    "labels": ["bad", "good"],
    "mean": np.array([[0.1, -2.0]], "float32"),
    "rate": np.float32(0.5),
    "deep": {"list": [Vocabulary(("x",), split=str.split), None]},
}


def state():
    return learning.train_state(MODEL.init(KEY), optax.sgd(0.1))


@pytest.fixture
def folder(tmp_path):
    """The folder of a run with one checkpoint."""
    Checkpoints(tmp_path, MODEL).save(state(), KEY, METADATA)
    return tmp_path


def rewrite(folder, **entries):
    """Change entries of the stored metadata, None removes one; the sums fit."""
    path = folder / "step-000000000" / "metadata.json"
    content = json.loads(path.read_text("utf-8")) | entries
    path.write_text(json.dumps({name: entry for name, entry in content.items() if entry is not None}))
    path.with_name("sha256.json").write_text(json.dumps(learning.checkpoints._checksums(path.parent)))


def test_objects_come_back(folder):
    """From both readers; the file is JSON that one can read."""
    for found in (Checkpoints(folder, MODEL).restore(state()).metadata, load_model(folder)[2]):
        assert {name: found[name] for name in ("words", "pieces", "labels", "rate", "deep")} == {
            name: METADATA[name] for name in ("words", "pieces", "labels", "rate", "deep")}  # fmt: skip
        assert found["words"].encode("a great one!").tolist() == WORDS.encode("a great one!").tolist()
        assert same_bits(found["mean"], METADATA["mean"])
        assert isinstance(found["mean"], np.ndarray)
        assert found["jaxrnn"] == rnn.__version__
    content = json.loads((folder / "step-000000000" / "metadata.json").read_text("utf-8"))
    assert content["words"]["symbols"] == list(WORDS.symbols)
    assert content["mean"]["values"] == [[float(np.float32(0.1)), -2.0]]


def test_what_cannot_be_stored_is_refused_before_anything_is_written(tmp_path):
    """The message names the entry."""
    with pytest.raises(TypeError, match=r"^metadata\['a'\]\[0\]: expected what a checkpoint can store: .*, got object"):
        Checkpoints(tmp_path, MODEL).save(state(), KEY, {"a": [object()]})
    assert list(tmp_path.iterdir()) == []


def run(folder, metadata, steps=2, **options):
    return fit(STEP, small_state(OPTIMIZER), Noise(), steps=steps, key=KEY, metadata=metadata, verbose=False,
               steps_per_execution=2, checkpoints=Checkpoints(folder, MODEL), **options)  # fmt: skip


def test_a_run_with_objects_is_resumed(tmp_path):
    """With equal objects, the same bits; other ones are refused by name, and nothing is written."""
    run(tmp_path, METADATA)
    other = Vocabulary((*WORDS.symbols[:3], "zebra", *WORDS.symbols[4:]), "<unk>", "words")
    for changes, words in (
        (
            {"words": other},
            rf"metadata\['words'\]\['symbols'\]\[3\]: expected '{WORDS.symbols[3]}' as in .*, got 'zebra'",
        ),
        (
            {"words": dataclasses.replace(WORDS, split="characters")},
            r"metadata\['words'\]\['split'\]: expected 'words' as",
        ),
        (
            {"words": list(WORDS.symbols)},
            r"metadata\['words'\]: expected \{'__class__': 'Vocabulary', .* got \['<pad>'",
        ),
        ({"mean": METADATA["mean"] * 2}, r"metadata\['mean'\]\['values'\]\[0\]\[0\]: expected 0.1.* as in .*, got 0.2"),
        ({"mean": METADATA["mean"].astype("float64")}, r"metadata\['mean'\]\['dtype'\]: expected 'float32' as"),
        ({"pieces": Tokenizer("{}")}, r"metadata\['pieces'\]\['definition'\]: expected .*as in .*, got '\{\}'"),
    ):
        with pytest.raises(ValueError, match=f"^{words}"):
            run(tmp_path, METADATA | changes, 4, resume=True)
    assert Checkpoints(tmp_path, MODEL).steps() == [2]
    again = METADATA | {"words": Vocabulary(WORDS.symbols, "<unk>", "words"), "rate": 0.5, "mean": +METADATA["mean"]}
    end = run(tmp_path, again, 4, resume=True)
    assert same_bits(end.state, run(tmp_path / "whole", METADATA, 4).state)


def test_a_checkpoint_without_a_version_is_read_as_it_is(folder):
    """Those before versions were stored hold no objects; what looks like one stays a dict."""
    old = {"__class__": "mine", "a": [1]}
    rewrite(folder, jaxrnn=None, words=old)
    for found in (Checkpoints(folder, MODEL).restore(state()).metadata, load_model(folder)[2]):
        assert found["words"] == old
        assert "jaxrnn" not in found


NEWER = r"; it was written by jaxrnn 99\.1\.0, which is newer than this one, [\d.]+: upgrade to read it$"


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"model": "Cloud(2, 3)", "parts": {}}, r"^model: expected the model, since Cloud\(2, 3\) in .*"),
        (
            {"words": {"__class__": "Cloud", "x": 1}},
            r"^metadata\['words'\]: expected .*, got one of the class Cloud; .*",
        ),
        (
            {"words": {"__class__": "Vocabulary", "x": 1}},
            r"^metadata\['words'\]: expected a stored Vocabulary, got other.*",
        ),
        ({"params": {".w": "float32[2]"}}, r"params\.w_xh: expected float32\[2, 9\], got nothing; .*"),
        ({"params": None}, r"^no entry 'params'"),
    ],
)
def test_a_newer_version_is_named(entries, words, folder):
    """Where the checkpoint cannot be read; otherwise, and for this version, there is no such word."""
    rewrite(folder, jaxrnn="99.1.0")
    assert load_model(folder)[0] == MODEL
    rewrite(folder, jaxrnn="99.1.0", **entries)
    with pytest.raises(ValueError, match=words + NEWER):
        load_model(folder)
    if "model" not in entries:
        with pytest.raises(ValueError, match=words + NEWER):
            Checkpoints(folder, MODEL).restore(state())
    rewrite(folder, jaxrnn=rnn.__version__ + "rc1")
    with pytest.raises((ValueError, KeyError)) as caught:
        load_model(folder)
    assert "newer than" not in str(caught.value)


def test_nothing_is_imported_for_a_model_that_is_given(folder, tmp_path, monkeypatch):
    """A vocabulary with a function of a module that has not been imported is refused then."""
    home = tmp_path / "modules"
    home.mkdir()
    (home / "my_splits.py").write_text("def halves(text):\n    return [text[:1], text[1:]]\n")
    monkeypatch.syspath_prepend(home)
    split = {"__class__": "function", "name": "my_splits:halves"}
    rewrite(folder, words={"__class__": "Vocabulary", "symbols": ["a", "b"], "split": split})
    for call in (lambda: load_model(folder, model=MODEL), lambda: Checkpoints(folder, MODEL).restore(state())):
        with pytest.raises(ValueError, match=r"^metadata\['words'\]\['split'\]: .*import my_splits before reading"):
            call()
    assert load_model(folder)[2]["words"].encode("ab").tolist() == [0, 1]
    assert load_model(folder, model=MODEL)[2]["words"].encode("ab").tolist() == [0, 1]


def test_an_object_of_a_class_of_your_own(tmp_path):
    """Marked as storable; labels may be a vocabulary, with white space in a name."""

    @stored.storable
    @dataclasses.dataclass(frozen=True)
    class Units:
        names: tuple[str, ...]
        factor: float

    labels = Vocabulary(("New York", "Paris"))
    Checkpoints(tmp_path, MODEL).save(state(), KEY, {"units": Units(("m", "s"), 2.0), "labels": labels})
    metadata = load_model(tmp_path)[2]
    assert metadata["units"] == Units(("m", "s"), 2.0)
    assert metadata["labels"].decode(metadata["labels"].encode(["Paris"])) == ["Paris"]
