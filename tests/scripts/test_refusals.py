"""Invalid input is refused at the start: one line, exit code 2, nothing trained, no run folder renamed."""

import argparse
import collections
import importlib.util
import io
import os
import sys

import jax
import pytest

import jaxrnn as rnn
from jaxrnn import learning

TEXTS = {
    "good": ("abcd efgh\n" * 1000).encode(),
    "empty": b"",
    "blank": b" \n\n\t",
    "bom alone": b"\xef\xbb\xbf",
    "short": b"a few words\n" * 9,
    "latin-1": "ein schöner Tag\n".encode("latin-1") * 1000,
    "utf-16": ("abcd efgh\n" * 1000).encode("utf-16"),
}
READERS = ["char_lm --text", "char_rnn --data", "word_lm --data"]
DRAWING = ["adding", "caption_digits", "fill_in_the_blank", "forecast", "temporal_order", "vanishing", "benchmark"]
SAVING = ["char_lm", "classify_names", "polyphonic_music", "sentiment", "translate", "word_lm --data FILE"]


@pytest.fixture(autouse=True)
def texts(monkeypatch, tmp_path):
    """The texts as files; whatever starts to train fails."""

    def train(*args, **options):
        raise AssertionError("it trains")

    for name in ("fit", "train_step", "train_state"):
        monkeypatch.setattr(learning, name, train)
    for name, content in TEXTS.items():
        (tmp_path / name).write_bytes(content)


@pytest.mark.parametrize("script", READERS)
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("empty", "expected a text, got the empty file empty"),
        ("blank", "expected a text, got the empty file blank"),
        ("bom alone", "expected a text, got the empty file bom alone"),
        ("latin-1", "expected a text in UTF-8, got the byte 0xf6 at place 7 of latin-1; save it as UTF-8"),
        ("utf-16", "expected a text in UTF-8, got the byte 0xff at place 0 of utf-16"),
        ("short", "expected "),
        ("nowhere", "expected a "),
        (".", "expected "),
    ],
)
def test_texts(refused, script, file, words):
    """Every script that reads a text of the user explains what is wrong with it."""
    name, option = script.split()
    assert refused(name, option, file).startswith(f"{option}: {words}")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("char_lm --text nowhere", "--text: expected a text file, got 'nowhere': No such file or directory"),
        ("char_lm --text .", "--text: expected a text file, got '.': Is a directory"),
        ("char_rnn --data short", "--data: expected more than 5,000 characters, one chunk of 50 steps of 50 streams to "
                                  "train and one to validate, got 108"),
        ("word_lm --data nowhere", "--data: expected a folder with the Penn Treebank files or a text file, got no n"),
        ("word_lm --data .", "--data: expected ptb.train.txt, ptb.valid.txt, ptb.test.txt in ., got no ptb.train.txt"),
        ("word_lm --data good", "--data: expected more than 400 words of validation text for --size small, 20 x 20 a "
                                "chunk, got 150; a text in one file needs 8,020 words in all"),
        ("word_lm --data good --size large", "--data: expected more than 700 words of validation text for --size"),
        ("char_lm --text good --batch 100 --length 100", "--text: expected at least 100,010 characters for --batch 100 "
         "--length 100, got 10,000; a longer text, or a smaller --batch or --length"),
        ("char_lm --text good --batch 4 --prompt abcx", "--prompt: expected only symbols of the training text, got "
         "'x'; they are a b c d e f g h"),
        ("char_lm --text good --batch 4 --resume", "--resume: expected a run with checkpoints in --out, got none in "
         "'runs/char_lm'; without --resume one begins"),
        ("char_lm --text good --batch 4 --out .", "--out: expected a folder of the run's own, got '.', in which"),
        ("char_lm --text good --batch 4 --out ..", "--out: expected a folder of the run's own, got '..', in which"),
        ("char_lm --sample 5 --prompt ab", "folder: expected a run with checkpoints, got none in "),
        ("classify_names --quick --data good", "--data: expected it without --quick, which makes its own data, got g"),
        ("sentiment --quick --data good", "--data: expected it without --quick"),
        ("translate --quick --data good", "--data: expected it without --quick"),
        ("polyphonic_music --quick --data good", "--data: expected it without --quick"),
        ("forecast --quick --data good", "--data: expected it without --quick"),
        ("forecast --quick --series monthly-sunspots", "--series: expected mackey-glass with --quick"),
        ("char_rnn --quick --data good", "--data: expected it without --quick"),
        ("word_lm --quick --data good", "--data: expected it without --quick"),
        ("word_lm", "--data: expected a folder or a text file, got none; --quick needs none"),
        ("char_rnn", "--data: expected a text file, got none; --quick needs none"),
        ("char_lm --devices 3", "--devices: expected a number that divides --batch 32 evenly, got 3; --devices 2 or "
                                "--batch 30 or 33"),
        ("char_lm --devices 9 --batch 4", "--devices: expected a number that divides --batch 4 evenly, got 9; "
                                          "--devices 4 or --batch 9"),
        ("word_lm --quick --devices 3", "--devices: expected a number that divides the batch, 20, evenly, got 3; "
                                        "--devices 2"),
        ("char_lm --coordinator h:1 --processes 3 --process-id 0 --devices 1", "--devices: expected a number that "
         "divides --batch 32 evenly, got 1 in each of 3 processes; --batch 30 or 33"),
        ("char_lm --processes 2", "--processes: expected it with --coordinator HOST:PORT, the address of process 0"),
        ("char_lm --process-id 0", "--process-id: expected it with --coordinator HOST:PORT"),
        ("char_lm --coordinator h:1 --process-id 0", "--processes: expected a number with --coordinator h:1, got none"),
        ("char_lm --coordinator h:1 --processes 2", "--process-id: expected a number with --coordinator h:1, got none"),
        ("char_lm --coordinator h:1 --processes 2 --process-id 2", "--process-id: expected a number below --processes"),
        ("char_lm --coordinator h", "argument --coordinator: expected auto or HOST:PORT, such as 10.0.0.1:1234, got h"),
        ("char_lm --coordinator h:0", "argument --coordinator: expected auto or HOST:PORT"),
        ("benchmark --quick --full", "--quick, --full, --report: expected one of them, got several"),
        ("classify_names --quick --out .", "--out: expected a folder of the run's own, got '.', in which"),
        ("classify_names --quick --name 123", "--name: expected a name with at least one letter, got '123'"),
        ("classify_names --quick --name яя", "--name: expected letters such as "),
        ("classify_names --quick --name Helo --language Klingon", "--language: expected one of Agreeing, Alternating"),
        ("classify_names --language Czech", "--language: expected a --name to go with it"),
        ("sentiment --quick --sentence zebra", "--sentence: expected a word that the training sentences hold"),
        ("sentiment --quick --sentence ...", "--sentence: expected a word that the training sentences hold"),
        ("sentiment --quick --least 10000", "--least: expected a number of times that some word occurs, got 10000"),
        ("translate --resume --pairs 9", "--resume: expected a run with checkpoints in --out, got none in 'runs"),
        ("translate --data good", "folder: expected the files of multi30k in a folder, got 'good', which is none"),
        ("translate --sentence 1.1.1999", "folder: expected a run with checkpoints, got none in "),
        ("polyphonic_music --quick --compose 9", "folder: expected a run with checkpoints, got none in "),
        ("polyphonic_music --data good", "folder: expected the files of jsb_chorales in a folder, got 'good', which"),
        ("forecast --series monthly-sunspots --data good", "folder: expected the files of time_series in a folder"),
        ("fill_in_the_blank --window 99999", "--window, --stride: expected two windows or more in the "),
        ("fill_in_the_blank --stride 99999", "--window, --stride: expected two windows or more in the "),
        ("adding --length 1", "--length: expected at least 2 steps, for two marks, got 1"),
        ("temporal_order --length 9", "--length: expected at least 10 symbols, got 9"),
        ("benchmark --report", "--report: expected the results of an earlier run in --out, got no runs/benchm"),
        ("benchmark --resume", "--resume: expected the results of an earlier run in --out, got no runs/benchm"),
    ],
)  # fmt: skip
def test_refused_at_the_start(refused, tmp_path, args, words):
    """The message names the option; no run folder is made."""
    assert refused(*args.split()).startswith(words)
    assert {path.name for path in tmp_path.iterdir()} <= {*TEXTS, "runs"}
    assert not [path for path in tmp_path.rglob("runs/*") if path.suffix or any(path.iterdir())]


@pytest.mark.parametrize("script", [*DRAWING, *SAVING])
@pytest.mark.parametrize("out", ["good", "good/run"])
def test_out_is_a_file(refused, script, out):
    """It cannot be a folder, and nothing in it can."""
    assert refused(*script.split(), "--out", out) == "argument --out: expected a folder, got the file good"


@pytest.mark.parametrize("script", DRAWING)
def test_out_cannot_be_written_to(refused, monkeypatch, script):
    """The picture of a long run would be lost."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    error = refused(script, "--out", "new/folder")
    assert error == "argument --out: expected a folder that can be written to, got ."


@pytest.mark.parametrize("script", [*DRAWING, *(script for script in SAVING[:-1] if script != "sentiment")])
def test_nothing_to_draw_with(refused, monkeypatch, script):
    """Modules that are used at the end are looked for at the start."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else name)
    error = refused(script, *(["--quick"] if script == "benchmark" else []))
    assert error == "matplotlib: expected it to be installed, got no such module; pip install matplotlib"


@pytest.mark.parametrize(
    ("args", "module"),
    [("translate --data .", "sacrebleu"), ("polyphonic_music", "mido"), ("char_rnn --data good --torch", "torch")],
)
def test_a_module_is_missing(refused, monkeypatch, args, module):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else name)
    assert refused(*args.split()).startswith(f"{module}: expected it to be installed")


def test_results_that_are_none(refused, tmp_path):
    """A benchmark that was stopped before it had written anything."""
    (tmp_path / "results.jsonl").touch()
    assert refused("benchmark", "--report", "--out", ".").startswith("results: expected those of a run of benchmark.py")


def test_a_run_of_a_script(monkeypatch, refused, tmp_path):
    """A run is used by its own script alone, and a prompt is of its symbols."""
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    import optax

    model = rnn.Stack(rnn.Embedding(3, 2), rnn.Linear(2, 3))
    state = learning.train_state(model.init(jax.random.key(0)), optax.sgd(1.0))
    save = learning.Checkpoints(tmp_path / "run", model).save
    save(state, jax.random.key(0), {"symbols": ["\n", "a", "b"]})
    args = "--out", tmp_path / "run"
    strange = "--prompt: expected only symbols of the training text, got 'c'; they are a b"
    assert refused("char_lm", "--sample", 5, "--prompt", "abc", *args) == strange
    words = "--out: expected a run of translate.py, got one of another script in"
    assert refused("translate", "--sentence", "a", *args).startswith(words)
    save(state, jax.random.key(0), {"script": "word_lm", "symbols": ["\n", "a", "b"]})
    assert refused("char_lm", "--sample", 5, *args).startswith(
        "--out: expected a run of char_lm.py, got one of word_lm"
    )


@pytest.mark.parametrize(
    ("args", "changes"),
    [
        ("char_lm --text good --batch 4 --length 9 --width 4", "text --text other, batch --batch 5, length --length 8, "
         "rate --rate 1, clip --clip 2, seed --seed 1"),
        ("word_lm --data good", "text --data other, seed --seed 1, size --size medium"),
        ("translate --pairs 9 --batch 9", "pairs --pairs 8, teacher_forcing --teacher-forcing 0.5, batch --batch 8, "
         "buckets --buckets 1, rate --rate 1, seed --seed 1"),
    ],
)  # fmt: skip
def test_metadata_of_a_run(run_script, monkeypatch, tmp_path, args, changes):
    """Options that change a run are in its metadata, which fit compares when the run is resumed."""
    (tmp_path / "good").write_text("abcd efgh\n" * 6000)
    (tmp_path / "other").write_text("abcd egfh\n" * 6000)
    found = []

    def fit(*args, metadata, resume, **options):
        found.append(metadata)
        raise ValueError("enough")

    monkeypatch.setattr(learning, "fit", fit)
    for name in ("train_step", "train_state"):
        monkeypatch.setattr(learning, name, lambda *args, **options: None)
    for kind in (rnn.Stack, rnn.tasks.EncoderDecoder):
        monkeypatch.setattr(kind, "init", lambda model, key: ())
    monkeypatch.setattr(jax, "eval_shape", lambda *args: None)
    changed = dict(change.split(maxsplit=1) for change in changes.split(", "))
    for change in ("", *changed.values()):
        with pytest.raises(SystemExit):
            run_script(*args.split(), *change.split())
    for name, metadata in zip(changed, found[1:], strict=True):
        assert metadata[name] != found[0][name]
        assert metadata["script"] == args.split()[0]


@pytest.fixture
def common(load_script):
    return load_script("common")


def test_a_text_as_it_was_saved(common, tmp_path):
    """A byte order mark and the line ends of other systems are not part of it."""
    (tmp_path / "text").write_bytes("\ufeffgrün\r\nrot\rblau\n".encode())
    assert common.read_text("--text", tmp_path / "text") == "grün\nrot\nblau\n"


def test_devices_that_are_not_there(refused):
    """JAX has started, so that no more can be made."""
    more = 2 * jax.device_count()
    error = refused("char_lm", "--devices", more, "--batch", more)
    assert error == f"--devices: expected at most {more // 2}, as many as JAX has here, got {more}"


@pytest.mark.parametrize(
    ("batch", "cores", "processes", "devices"), [(32, 6, 1, 4), (20, 64, 1, 20), (7, 4, 1, 1), (24, 4, 4, 3)]
)
def test_devices_by_default(common, monkeypatch, batch, cores, processes, devices):
    """As many as divide the batch, in every process the same number."""
    Device = collections.namedtuple("Device", "process_index number")
    # The last process has a device less.
    found = [Device(p, n) for p in range(processes) for n in range(cores - (p == processes - 1 > 0))]
    monkeypatch.setattr(jax, "devices", lambda: found)
    monkeypatch.setattr(learning, "use_cores", lambda n: n)
    monkeypatch.setattr(learning, "device_mesh", lambda devices: devices)
    args = argparse.Namespace(batch=batch, devices=None, coordinator=None, processes=None)
    assert common.start(args, "--batch") == [device for device in found if device.number < devices]


def test_fingerprint(common):
    """It depends on the content and on where the texts are cut."""
    same, other = common.fingerprint("ab", "c"), common.fingerprint("a", "bc")
    assert same == common.fingerprint("ab", "c") != other
    assert same.startswith("3 characters, SHA-256 ")


def test_a_terminal_without_letters(common, monkeypatch):
    """A letter that cannot be shown is replaced; it does not end a run."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "ascii"))
    common.run(lambda: print("3 → 4", flush=True))
    assert shown.getvalue().strip() == b"3 ? 4"


def test_training_that_diverged(common, monkeypatch):
    """One line too, but no fault of the command line: exit code 1."""

    def main():
        raise learning.NonFiniteError("loss and gradient: expected finite numbers")

    monkeypatch.setattr(sys, "argv", ["some/char_lm.py"])
    with pytest.raises(SystemExit, match=r"^char_lm.py: loss and gradient: expected finite numbers$"):
        common.run(main)
