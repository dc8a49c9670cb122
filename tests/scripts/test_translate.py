"""Translation: dates and their ISO format, the run, one sentence, refusals."""

import datetime
import json
import re

import numpy as np
import pytest

import jaxrnn as rnn

SMALL = ["--pairs", 100, "--batch", 16, "--buckets", 1]


@pytest.fixture
def script(load_script):
    return load_script("translate")


def read(text, months):
    """Parse a date."""
    text = re.sub(r"^\w+day,? |^(mon|tue|wed|thu|fri|sat|sun) |the |of |,", "", text)
    if "/" in text:
        return datetime.date(*map(int, text.split("/")))
    if "." in text:
        return datetime.date(*map(int, reversed(text.split("."))))
    parts = re.sub(r"(\d)(st|nd|rd|th)", r"\1", text.replace("-", " ")).split()
    (month,) = (n for n, name in enumerate(months, 1) for part in parts if part in (name, name[:3]))
    day, year = sorted(int(part) for part in parts if part.isdigit())
    return datetime.date(year, month, day)


def test_forms_mean_their_date(script, load_script):
    """Every format of some dates is parsed back."""
    for day in np.random.default_rng(0).integers(script.FIRST, script.LAST + 1, 100):
        date = datetime.date.fromordinal(int(day))
        forms = script.forms(date)
        assert len(set(forms)) == len(forms)
        assert [read(form, load_script("dates").MONTHS) for form in forms] == [date] * len(forms)
    for day, form in (
        (1, "the 1st of"),
        (2, "the 2nd of"),
        (3, "the 3rd of"),
        (11, "the 11th of"),
        (22, "the 22nd of"),
    ):
        assert f"{form} march, 1998" in script.forms(datetime.date(1998, 3, day))
    assert "thursday, 12 march 1998" in script.forms(datetime.date(1998, 3, 12))


def test_dates_of_the_test_are_not_trained_on(script):
    """In any format; and every letter of a date is in the vocabulary."""
    task = script.dates(3000, 400, seed=0)
    train, valid, test = ({"".join(b) for _, b in pairs} for pairs in task[1:4])
    assert (len(valid), len(test)) == (400, 400)
    assert not train & valid
    assert not (train | valid) & test
    task.source.encode("".join(script.forms(datetime.date(1999, 12, 31))))


@pytest.mark.slow
def test_runs_and_answers(run_script, refused, tmp_path):
    """To the last line, and with a sentence; what cannot be a date is refused."""
    result = json.loads(run_script("translate", *SMALL, "--steps", 2).splitlines()[-1])
    assert (result["task"], result["steps"], result["attention"]) == ("dates", 2, "additive")
    assert result["exact_greedy"] < 0.1
    assert result["tokens_per_second"] > 0
    for name in ("attention", "loss"):
        assert (tmp_path / f"runs/translate_dates/{name}.png").stat().st_size > 10_000
    answer = run_script("translate", "--sentence", "3 march 1998").strip()
    assert set(answer) <= set("0123456789-<>padstr")
    assert refused("translate", "--sentence", " ") == "--sentence: expected at least one word, got an empty sentence"
    words = "--sentence: expected only symbols of the training text, got '§'; they are "
    assert refused("translate", "--sentence", "§ 3 march").startswith(words)


@pytest.mark.slow
def test_a_run_that_has_ended(run_script):
    """Resumed, it has nothing left to do and gives the same test results."""
    first, again = (
        json.loads(run_script("translate", *SMALL, "--steps", 2, *more).splitlines()[-1]) for more in ([], ["--resume"])
    )
    assert again.pop("tokens_per_second") == 0 < first.pop("tokens_per_second")
    assert again | {"seconds": 0} == first | {"seconds": 0}


@pytest.mark.slow
def test_multi30k(run_script, monkeypatch, script, tmp_path):
    """The published model on a few sentences: its size, BLEU, perplexities."""
    pytest.importorskip("sacrebleu")
    pairs = [("Ein Hund läuft .", "A dog runs ."), ("Ein Hund läuft heute .", "A dog runs today .")] * 2
    monkeypatch.setattr(rnn.data.datasets, "multi30k", lambda folder: dict.fromkeys(("train", "val", "test"), pairs))
    args = ["--data", tmp_path, "--steps", 1, "--batch", 2, "--width", 2, "--buckets", 1]
    result = json.loads(run_script("translate", *args).splitlines()[-1])
    assert (result["task"], result["attention"]) == ("multi30k", "none")
    assert result["perplexity_free"] == pytest.approx(9, abs=0.5)  # words, <unk> and three more, all alike
    assert 0 <= result["bleu_beam"] <= 100
    assert script.bleu(["a dog runs ."], ["a dog runs ."]) == pytest.approx(100)


def test_published_size(script):
    """With the vocabularies of the tutorial the model has its 14,219,781 parameters."""
    import jax

    source, target = (rnn.data.Vocabulary(tuple(map(str, range(n)))) for n in (7853, 5893))
    model = script.build(script.Task("multi30k", [], [], [], source, target, " "), "none")
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(p.size for p in jax.tree.leaves(shapes)) == 14_219_781


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data", "nowhere"], "folder: expected the files of multi30k in a folder, got 'nowhere', w"),
        (
            ["--data", ""],
            "folder: expected the files of multi30k in a folder, got '', which is none; http",
        ),
        (["--data", "."], "folder: expected the files of multi30k in ., got no train.de.gz; http"),
        (["--sentence", "3 march", "--out", "nowhere"], "folder: expected a run with checkpoints, got none in "),
    ],
)
def test_refusals(refused, args, words):
    """One line, before anything is trained."""
    assert refused("translate", *args).startswith(words)
