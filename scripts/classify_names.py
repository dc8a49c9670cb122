"""Classify the language of a surname by its letters; the baseline is naive Bayes on trigrams.

    python scripts/classify_names.py                     # downloads 18 languages, trains, draws a confusion matrix
    python scripts/classify_names.py --data DIR          # the same from a local copy of the files
    python scripts/classify_names.py --quick             # names of four invented languages, no download
    python scripts/classify_names.py --name Satoshi      # prints probabilities; trains first if there is no model
    python scripts/classify_names.py --name Satoshi --language Japanese

Each pair of a name and a language is one example, and no name is in two of the training, validation and test sets. The
smoothing and the n-gram sizes of naive Bayes are chosen on the same validation names.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import CELLS, above_zero, not_negative, positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Buckets, Vocabulary, datasets
from jaxrnn.tasks import Classifier

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class Names(NamedTuple):
    """Names and the indices of their languages."""

    names: list[str]
    labels: np.ndarray  # int32 [N]


def main() -> None:
    args = arguments()
    if args.name is None:
        train(args)
    else:
        predict(args)


def train(args: argparse.Namespace) -> argparse.Namespace:
    """Train, test and save; return the arguments, which change if the download fails."""
    began = time.monotonic()
    common.require("matplotlib")
    args, names = load_names(args)
    languages, splits = split(names, args.seed)
    training, validation, testing = splits
    vocabulary = Vocabulary.of("".join(training.names), unknown=UNKNOWN)
    if args.name is not None:
        check_name(args, languages, vocabulary)  # before training
    print(f"{len(languages)}{' invented' * args.quick} languages, "
          f"{' + '.join(f'{len(part.names):,}' for part in splits)} names, {len(vocabulary)} letters")  # fmt: skip

    out = common.run_folder(args.out)
    encoder = rnn.Stack(
        rnn.Embedding(len(vocabulary), args.embedding),
        rnn.Dropout(args.dropout / 2),
        rnn.Bidirectional(CELLS[args.cell](args.embedding, args.width)),
    )
    model = Classifier(encoder, len(languages), pooling=args.pooling, dropout=args.dropout)
    init_key, key = jax.random.split(jax.random.key(args.seed))
    params = model.init(init_key)
    common.print_model(model, params)

    def padded(part: Names, batch: int, **options) -> Buckets:
        return Buckets([encode(name, vocabulary) for name in part.names], list(part.labels), batch, **options)

    batches = padded(training, args.batch, buckets=1 if args.quick else 2)
    steps = args.epochs * len(batches)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.cosine_decay_schedule(args.rate, steps), weight_decay=args.decay),
    )

    held_out, tested = (padded(part, len(part.names), buckets=1, shuffle=False)[0] for part in (validation, testing))
    classify = jax.jit(lambda params, batch: model.apply(params, batch.inputs, lengths=batch.lengths))

    def evaluate(params):
        logits, labels = classify(params, held_out), jnp.asarray(held_out.targets)
        return {"loss": rnn.losses.cross_entropy(logits, labels), "accuracy": rnn.losses.accuracy(logits, labels)}

    end = learning.fit(
        learning.train_step(learning.classification_loss(model), optimizer),
        learning.train_state(params, optimizer),
        batches,
        epochs=args.epochs,
        key=key,
        mesh=args.mesh,
        evaluate=evaluate,
        evaluate_every=2 * len(batches),
        checkpoints=learning.Checkpoints(out, model, keep=1),
        metadata={"script": "classify_names", "vocabulary": vocabulary, "languages": languages},
        log=out / "metrics.jsonl",
    )
    network = np.asarray(classify(end.best_params, tested)).argmax(-1)
    bayes, setting = naive_bayes(training, validation, testing, len(languages))

    confusion, confusion_bayes = (
        confusion_matrix(testing.labels, labels, len(languages)) for labels in (network, bayes)
    )
    print(f"\nlanguage        names  network  naive Bayes ({setting})")
    for n, language in enumerate(languages):
        count = confusion[n].sum()
        print(f"{language:<12} {count:>8} {recall(confusion, n):>8.0%} {recall(confusion_bayes, n):>12.0%}")
    draw(confusion, languages, out / "confusion.png")
    margin, error = common.mean_and_error((network == testing.labels).astype(float) - (bayes == testing.labels))
    result = {
        "script": "classify_names", "quick": args.quick, "languages": len(languages), "test_names": len(testing.names),
        "accuracy": accuracy(confusion), "macro_accuracy": macro_accuracy(confusion),
        "naive_bayes_accuracy": accuracy(confusion_bayes),
        "naive_bayes_macro_accuracy": macro_accuracy(confusion_bayes),
        "margin": round(margin, 4), "margin_standard_error": round(error, 4),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    print(f"\nnetwork {result['accuracy']:.1%} (mean over languages {result['macro_accuracy']:.1%}), "
          f"naive Bayes {result['naive_bayes_accuracy']:.1%} ({result['naive_bayes_macro_accuracy']:.1%}), "
          f"margin {100 * margin:.1f} ± {100 * error:.1f} points")  # fmt: skip
    if args.quick:
        print("the languages are invented; without --quick, surnames of 18 languages are downloaded")
    print(json.dumps(result))
    return args


def predict(args: argparse.Namespace) -> None:
    """Print the most probable languages of a name by the model in --out."""
    if not pathlib.Path(args.out).is_dir():
        args = train(args)
    model, params, metadata = common.load_run("classify_names", args.out, "vocabulary", "languages")
    languages, vocabulary = metadata["languages"], metadata["vocabulary"]
    name, ids = check_name(args, languages, vocabulary)
    if unknown := unknown_letters(name, vocabulary):
        print(f"letters that no training name has, replaced by the unknown letter: {' '.join(unknown)}")
    probabilities = np.asarray(jax.nn.softmax(model.apply(params, jnp.asarray(ids))), float)
    for n in np.argsort(-probabilities)[:5]:
        print(f"{languages[n]:<12} {probabilities[n]:>6.1%}  {'█' * round(40 * probabilities[n])}")
    if args.language:
        print(f"{name} is {args.language} with probability {probabilities[languages.index(args.language)]:.2%}")
    result = {"script": "classify_names", "name": name, "language": languages[int(probabilities.argmax())],
              "probabilities": dict(zip(languages, probabilities.round(5).tolist()))}  # fmt: skip
    print(json.dumps(result, ensure_ascii=False))


def check_name(args: argparse.Namespace, languages: Sequence[str], vocabulary: Vocabulary) -> tuple[str, np.ndarray]:
    """The --name and the ids of its letters; refuse it if it has no known letter, and an unknown --language."""
    name = " ".join(args.name.split())
    if args.language not in (None, *languages):
        common.refuse(f"--language: expected one of {', '.join(languages)}, got {args.language!r}")
    if len(unknown_letters(name, vocabulary)) == len(set(normalize(name))):
        known = "".join(symbol for symbol in vocabulary.symbols if symbol != UNKNOWN)[:60]
        common.refuse(f"--name: expected letters such as {known}, got none of them in {name!r}")
    return name, encode(name, vocabulary)


def unknown_letters(name: str, vocabulary: Vocabulary) -> list[str]:
    """The letters of a name that no training name has, each once."""
    ids = encode(name, vocabulary)
    return sorted({letter for letter, i in zip(normalize(name), ids) if i == vocabulary.id(UNKNOWN)})


# ---- names -------------------------------------------------------------------------------------------------------


def normalize(name: str) -> str:
    """Lower case, each letter with its accents one character."""
    return unicodedata.normalize("NFC", name.lower())


def encode(name: str, vocabulary: Vocabulary) -> np.ndarray:
    """Ids of the letters of a name; an unknown letter is replaced by the one without accents."""
    letters = (c if c in vocabulary.symbols else unicodedata.normalize("NFKD", c)[0] for c in normalize(name))
    return vocabulary.encode("".join(letters))


def load_names(args: argparse.Namespace) -> tuple[argparse.Namespace, dict[str, list[str]]]:
    """Names by language: the data set, or invented ones with --quick and where the download fails."""
    args, names = common.load_data(args, datasets.names, arguments)
    return args, names or invented_names(np.random.default_rng(args.seed))


def invented_names(draw: np.random.Generator, count: int = 400) -> dict[str, list[str]]:
    """Names of four invented languages.

    Two have letters of their own. In the others the vowels of a word are of one class, or of two classes in turn: no
    trigram has two vowels, so only a memory of the first vowel separates these two.
    """
    classes = ("ao", "ei")

    def closed(alternate: int) -> str:
        kind, syllables = draw.integers(2), ""
        for n in range(draw.integers(2, 4)):
            vowel = classes[(kind + alternate * n) % 2][draw.integers(2)]
            syllables += pick("bdgklmnrst") + vowel + pick("lmnrst")
        return syllables

    def pick(letters: str) -> str:
        return letters[draw.integers(len(letters))]

    makers = {
        "Agreeing": lambda: closed(0),
        "Alternating": lambda: closed(1),
        "Opening": lambda: "".join(pick("hklmpw") + pick("aeiou") for _ in range(draw.integers(2, 5))),
        "Hissing": lambda: "s" + pick("ptk") + pick("aeiou") + pick("rl") + pick("sz") + pick(("ov", "ek", "in")),  # type: ignore[arg-type]
    }
    return {language: [make().capitalize() for _ in range(count)] for language, make in makers.items()}


def split(names: dict[str, list[str]], seed: int) -> tuple[list[str], tuple[Names, Names, Names]]:
    """Languages, and 70, 15 and 15 % of the names for training, validation and test; a name is in one set only."""
    languages = sorted(names)
    pairs = sorted({(normalize(name), n) for n, language in enumerate(languages) for name in names[language]})
    distinct = sorted({name for name, _ in pairs})
    order = np.random.default_rng(seed).permutation(len(distinct))
    part = dict(zip(distinct, np.searchsorted([70, 85], 100 * order / len(distinct), side="right")))

    def of(which: int) -> Names:
        chosen = [(name, n) for name, n in pairs if part[name] == which]
        return Names([name for name, _ in chosen], np.array([n for _, n in chosen], np.int32))

    return languages, (of(0), of(1), of(2))


# ---- baseline ------------------------------------------------------------------------------------------------------


def naive_bayes(training: Names, validation: Names, testing: Names, classes: int) -> tuple[np.ndarray, str]:
    """Predictions of naive Bayes for the test names, and its setting: the best one on the validation names.

    log P(language) + Σ log P(gram | language) over the trigrams of the name between boundary marks, or over its 1-, 2-
    and 3-grams; P(gram | language) is a relative frequency, with ``smoothing`` added to every count.
    """
    best = (-1.0, np.zeros(0), "")
    for sizes in ((3,), (1, 2, 3)):
        vocabulary = Vocabulary(tuple(sorted({gram for name in training.names for gram in grams(name, sizes)})))
        counts, held_out, tested = (count_grams(s.names, sizes, vocabulary) for s in (training, validation, testing))
        by_class = np.stack([counts[training.labels == n].sum(0) for n in range(classes)])
        prior = np.log(np.bincount(training.labels, minlength=classes) / len(training.labels))
        for smoothing in (0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0):
            smoothed = by_class + smoothing
            log_likelihood = np.log(smoothed / smoothed.sum(1, keepdims=True)).T
            hit_rate = ((held_out @ log_likelihood + prior).argmax(1) == validation.labels).mean()
            if hit_rate > best[0]:
                setting = f"grams of {' '.join(map(str, sizes))} letters, smoothing {smoothing}"
                best = (hit_rate, (tested @ log_likelihood + prior).argmax(1), setting)
    return best[1:]


def grams(name: str, sizes: tuple[int, ...]) -> list[str]:
    return [f"^^{name}$$"[i : i + n] for n in sizes for i in range(3 - n, len(name) + 2)]


def count_grams(names: list[str], sizes: tuple[int, ...], vocabulary: Vocabulary) -> np.ndarray:
    """Counts of each gram of the vocabulary in each name, ``[N, grams]``."""
    known, counts = set(vocabulary.symbols), np.zeros((len(names), len(vocabulary)), np.float32)
    for row, name in zip(counts, names, strict=True):
        np.add.at(row, vocabulary.encode([gram for gram in grams(name, sizes) if gram in known]), 1)
    return counts


# ---- results -----------------------------------------------------------------------------------------------------


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Number of names of each language (rows) classified as each language (columns)."""
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def recall(confusion: np.ndarray, n: int) -> float:
    return float(confusion[n, n] / max(confusion[n].sum(), 1))


def accuracy(confusion: np.ndarray) -> float:
    return round(float(np.trace(confusion) / confusion.sum()), 4)


def macro_accuracy(confusion: np.ndarray) -> float:
    """Mean recall over languages: every language has the same weight."""
    return round(float(np.mean([recall(confusion, n) for n in range(len(confusion)) if confusion[n].any()])), 4)


def draw(confusion: np.ndarray, languages: list[str], path: pathlib.Path) -> None:
    """Plot the confusion matrix, each row in per cent of the language's names."""
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    figure, axes = common.subplots(figsize=(8.4, 7.2))
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    names = [f"{language} ({count})" for language, count in zip(languages, confusion.sum(1))]
    axes.set_xticks(range(len(languages)), languages, rotation=60, ha="right")
    axes.set_yticks(range(len(languages)), names)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.01:
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7,
                      color="white" if share > 0.5 else "black")  # fmt: skip
    axes.set(xlabel="predicted language", ylabel="language of the name (test names)")
    axes.set_title(f"Test names: {np.trace(confusion) / confusion.sum():.1%} correct")
    figure.colorbar(image, label="share of the language's names [%]", shrink=0.8)
    common.save_plot(figure, path)


def arguments(*more: str) -> argparse.Namespace:
    """The command line, and ``more`` arguments."""
    parser = common.Parser(__doc__, "runs/classify_names", "names of four invented languages, a small model",
                           quick_out="runs/classify_names_quick", data_free=True)  # fmt: skip
    add = parser.add_argument
    add("--name", help="predict the language of this name instead of training")
    add("--language", help="with --name: print the probability of this language")
    add("--data", metavar="DIR", help="folder with Arabic.txt … Vietnamese.txt (default: downloaded once)")
    add("--cell", choices=CELLS, default="gru", help="cell of each direction")
    add("--width", type=positive, default=128, quick=32, help="hidden size of each direction")
    add("--embedding", type=positive, default=32, quick=16, help="embedding size of a letter")
    add("--pooling", choices=("last", "mean", "max", "attention"), default="attention", quick="last",
        help="pooling over time")  # fmt: skip
    add("--dropout", type=common.rate, default=0.5, quick=0.0,
        help="dropout rate before the readout, half of it above the embedding")  # fmt: skip
    add("--decay", type=not_negative, default=1e-2, help="weight decay")
    add("--rate", type=above_zero, default=3e-3, quick=1e-2,
        help="initial learning rate of Adam, with cosine decay to 0")  # fmt: skip
    add("--batch", type=positive, default=64, help="names of an optimizer step")
    add("--epochs", type=positive, default=16, quick=8, help="epochs to train")
    args = parser.parse_args([*sys.argv[1:], *more])
    if args.language is not None and args.name is None:
        parser.error("--language: expected a --name to go with it")
    if args.name is not None and not any(map(str.isalpha, args.name)):
        parser.error(f"--name: expected a name with at least one letter, got {args.name!r}")
    return args


if __name__ == "__main__":
    common.run(main)
