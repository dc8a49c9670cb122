"""The two classifiers from the command line, on their invented data and with invalid input."""

import json
import math
import pathlib
import re
import sys

import numpy as np
import pytest

SCRIPTS = pathlib.Path(__file__).parent.parent.parent / "scripts"


@pytest.fixture
def script(monkeypatch, tmp_path, capsys):
    """Run a script in an empty folder; return its output."""
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXRNN_DATA", str(tmp_path / "cache"))

    def run(name, *args):
        monkeypatch.setattr(sys, "argv", [name, *args])
        __import__(name).main()
        return capsys.readouterr().out

    return run


def last_line(printed):
    """The results of a script."""
    return json.loads(printed.splitlines()[-1])


@pytest.mark.slow
def test_names(script, refused, tmp_path):
    """The network, unlike trigrams, learns vowels that depend on each other; it classifies a name."""
    printed = script("classify_names", "--quick")
    result = last_line(printed)
    assert result["languages"] == 4
    assert "4 invented languages" in printed
    assert result["naive_bayes_accuracy"] < 0.8 < result["accuracy"]  # two of four languages are the same to trigrams
    assert (tmp_path / "runs/classify_names_quick/confusion.png").stat().st_size > 10_000
    answer = script("classify_names", "--quick", "--name", "  HÉLO ", "--language", "Opening")
    assert last_line(answer)["name"] == "HÉLO"
    assert last_line(answer)["language"] == "Opening"
    assert sum(last_line(answer)["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert "HÉLO is Opening with probability" in answer
    assert "replaced by the unknown letter: я ё\n" in script("classify_names", "--quick", "--name", "HelяЁ")
    for args, words in [
        (["--name", ""], "--name: expected a name with at least one letter, got ''"),
        (["--name", "123"], "--name: expected a name with at least one letter, got '123'"),
        (["--name", "яя"], "--name: expected letters such as [a-z]+, got none of them in 'яя'"),
        (
            ["--name", "Helo", "--language", "Klingon"],
            "--language: expected one of Agreeing, Alternating, Hissing, Ope",
        ),
    ]:
        assert re.match(words, refused("classify_names", "--quick", *args))


def test_naive_bayes_is_its_formula(script):
    """The predictions are those of sums of logarithms, gram by gram, at the chosen setting."""
    import classify_names as names

    draw = np.random.default_rng(0)
    some = ["".join(draw.choice(list("abc"), draw.integers(1, 6))) for _ in range(90)]
    labels = draw.integers(0, 3, 90).astype(np.int32)
    parts = [names.Names(some[n::3], labels[n::3]) for n in range(3)]
    guesses, setting = names.naive_bayes(*parts, 3)
    *sizes, smoothing = map(float, re.findall(r"[\d.]+", setting))
    sizes = tuple(map(int, sizes))
    own = [[name for name, label in zip(*parts[0], strict=True) if label == n] for n in range(3)]
    seen = [[gram for name in of for gram in names.grams(name, sizes)] for of in own]
    known = {gram for of in seen for gram in of}

    def score(name, n):
        prior = math.log(len(own[n]) / len(parts[0].names))
        total = len(seen[n]) + smoothing * len(known)
        shares = [(seen[n].count(gram) + smoothing) / total for gram in names.grams(name, sizes) if gram in known]
        return prior + sum(map(math.log, shares))

    assert guesses.tolist() == [int(np.argmax([score(name, n) for n in range(3)])) for name in parts[2].names]


def test_grams_scores_and_parts(script):
    """By hand: n-grams, scores, and the split."""
    import classify_names as names

    assert names.grams("ab", (3,)) == ["^^a", "^ab", "ab$", "b$$"]
    assert names.grams("ab", (1, 2)) == ["a", "b", "^a", "ab", "b$"]
    confusion = names.confusion_matrix(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2)
    assert confusion.tolist() == [[2, 1], [0, 1]]
    assert names.accuracy(confusion) == 0.75
    assert names.macro_accuracy(confusion) == round((2 / 3 + 1) / 2, 4)
    data = {"one": ["A", "b", "B", *map(str, range(100))], "two": ["a", "c"]}
    languages, parts = names.split(data, seed=0)
    assert languages == ["one", "two"]
    pairs = [(name, n) for part in parts for name, n in zip(part.names, part.labels, strict=True)]
    assert len(pairs) == len(set(pairs)) == 104  # B and b are one
    assert sum(len(set(part.names)) for part in parts) == len({name for name, _ in pairs})  # each name in one part


@pytest.mark.slow
def test_sentiment(script, refused):
    """Word order decides: the bag of words is at chance, the network is not; it classifies a sentence."""
    result = last_line(script("sentiment", "--quick", "--members", "1"))
    assert 0.35 < result["bag_of_words_accuracy"] < 0.65
    assert result["accuracy"] > 0.75
    for sentence, good in [("The plot is dull, not funny", False), ("the plot is NOT dull, but funny ", True)]:
        answer = script("sentiment", "--quick", "--sentence", sentence)
        assert (last_line(answer)["positive"] > 0.5) == good
    assert "replaced by <unk>: zebra" in script("sentiment", "--quick", "--sentence", "the plot is zebra, not funny")
    for sentence, words in [
        ("  ", "--sentence: expected a sentence with at least one word, got '  '"),
        ("zebra", "--sentence: expected a word that the training sentences hold, got none in 'zebra'"),
    ]:
        assert refused("sentiment", "--quick", "--sentence", sentence).startswith(words)


def test_words_as_the_data_has_them(script):
    """Lower case; punctuation, n't and 's are tokens."""
    import sentiment

    assert sentiment.tokens("It isn't Bob’s BEST-ever film!") == [
        "it", "is", "n't", "bob", "'s", "best-ever", "film", "!",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["classify_names", "sentiment"])
def test_a_folder_without_the_data(script, name):
    """The file that is missing, and its address."""
    with pytest.raises(FileNotFoundError, match=r"^folder: expected the files of .* in \., got no .*; https://raw"):
        script(name, "--data", ".")


@pytest.mark.parametrize("name", ["classify_names", "sentiment"])
def test_offline(script, name, monkeypatch, capsys):
    """Without data and without a connection the script prints the address, and continues with invented data."""
    import jaxrnn as rnn

    def offline(*args, **options):
        raise FileNotFoundError("names: expected x from https://host/x, got no answer")

    module = __import__(name)
    monkeypatch.setattr(rnn.data.datasets, "fetch", offline)
    monkeypatch.setattr(sys, "argv", [name])
    load = module.load_names if name == "classify_names" else module.load_sentences
    args, data = load(module.arguments())
    assert data
    assert args.quick
    assert args.out == f"runs/{name}_quick"
    assert "https://host/x, got no answer\ncontinuing with invented" in capsys.readouterr().out
