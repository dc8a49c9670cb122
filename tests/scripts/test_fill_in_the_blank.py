"""Fill in the blank: the comparison of models, their sizes, and the sentences."""

import json

import jax
import numpy as np
import pytest

from jaxrnn.data import Vocabulary

SMALL = ["--word-width", 8, "--word-steps", 2, "--width", 8, "--steps", 2, "--stride", 1000, "--batch", 8]
SMALL += ["--cell", "vanilla"]


@pytest.fixture
def script(load_script):
    return load_script("fill_in_the_blank")


@pytest.mark.slow
def test_runs(run_script, tmp_path):
    """To the last line, with a given sentence."""
    printed = run_script("fill_in_the_blank", *SMALL, "--sentence", "Ann is ___ thirsty.")
    result = json.loads(printed.splitlines()[-1])
    assert result["words"]["blanks"] > 1000
    assert result["characters"]["blanks"] > 20
    assert result["chapter"] is None
    assert "Ann is ___ thirsty." in printed
    assert (tmp_path / "runs/fill_in_the_blank/fill_in_the_blank.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--sentence", "I am happy."], "--sentence: expected one blank ___, got 0 in 'I am happy.'"),
        (["--sentence", "___ am ___."], "--sentence: expected one blank ___, got 2"),
        (["--sentence", "I am ___ furious."], "--sentence: expected words of the generated sentences, got 'furious'"),
    ],
)
def test_refusals(refused, args, words):
    """One line, before anything is trained."""
    assert refused("fill_in_the_blank", *args).startswith(words)


def test_sizes(script):
    """The models of one side have no fewer parameters than that of both, and at most 2 % more."""
    for kind, cell in script.CELLS.items():
        sizes = [script.count(script.build_matched(cell, side, 76, 32)) for side in script.SIDES]
        assert sizes[0] <= sizes[1] == sizes[2] < 1.02 * sizes[0], kind


def test_sentences(script):
    """The chapter's three sentences with their answers are in the grammar; no sentence occurs twice."""
    sentences = script.grammar()
    assert len(sentences) == len(set(sentences))
    for sentence, word in zip(script.CHAPTER, script.ANSWERS, strict=True):
        assert sentence.replace("___", word) in sentences
        for wrong in set(script.CHOICES) - {word}:
            assert sentence.replace("___", wrong) not in sentences


def test_margin(script, monkeypatch, capsys):
    """Accuracy, margin and its standard error, computed by hand from given predictions."""
    pieces = [np.array([1, 2, 3]), np.array([4, 5])]
    given = {"both": [[1, 4], [2, 5], [3, 9]], "left": [[1, 4], [0, 0], [0, 0]], "right": [[0, 0], [0, 5], [3, 0]]}
    monkeypatch.setattr(script, "most_probable", lambda model, side, params, batch: np.array(given[side]))
    result = script.compare(dict.fromkeys(given, (None, ())), pieces, everywhere=True)
    assert (result["both"], result["left"], result["right"]) == (1, 0.4, 0.4)
    assert (result["blanks"], result["better side"], result["margin"]) == (5, "left", 0.6)
    differences = np.array([0, 0, 1, 1, 1])  # of the five symbols, in the order 1 4 2 5 3
    assert result["standard error"] == pytest.approx(np.sqrt(np.var(differences, ddof=1) / 5), abs=1e-4)
    middle = script.compare(dict.fromkeys(given, (None, ())), [pieces[0], pieces[0]], everywhere=False)
    assert (middle["blanks"], middle["left"]) == (2, 0)
    assert "5 blanks" in capsys.readouterr().out


def test_the_word_in_the_blank_is_no_input(script, monkeypatch):
    """The predictions do not depend on the word in place of the blank."""
    vocabulary = Vocabulary.of(w for sentence in script.grammar() for w in script.words(sentence))
    models = {}
    for side in script.SIDES:
        model = script.build(script.CELLS["gru"], side, len(vocabulary), 6)
        models[side] = model, model.init(jax.random.key(0))
    answers = []
    for word in ("happy", "meal"):
        monkeypatch.setattr(script, "CHOICES", (word,))
        answers.append(script.predict(models, vocabulary, "I am ___ hungry."))
    assert answers[0] == answers[1]
    assert all(sum(shares.values()) == pytest.approx(1, abs=1e-5) for shares in answers[0].values())
