"""Tell the language of a surname by its letters, beside a naive Bayes classifier of its trigrams.

    python scripts/classify_names.py                     # downloads 18 languages, trains, draws a confusion matrix
    python scripts/classify_names.py --data DIR          # the same from a local copy of the files
    python scripts/classify_names.py --quick             # names of four invented languages, no download
    python scripts/classify_names.py --name Satoshi      # answers with probabilities; trains first if it must
    python scripts/classify_names.py --name Satoshi --language Japanese

Every pair of a name and a language counts once, and no name is in two of the parts that train, choose and test. The
smoothing of naive Bayes, and whether shorter grams help it, are chosen on the same validation names.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import above_zero, not_negative, positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Buckets, Vocabulary, datasets
from jaxrnn.tasks import Classifier

CELLS = {"vanilla": rnn.VanillaRNN, "lstm": rnn.LSTM, "gru": rnn.GRU}
FULL = {"width": 128, "embedding": 32, "pooling": "attention", "dropout": 0.5, "rate": 3e-3, "epochs": 16}
QUICK = {"width": 32, "embedding": 16, "pooling": "last", "dropout": 0.0, "rate": 1e-2, "epochs": 8}
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class Names(NamedTuple):
    """Names and their languages, as numbers."""

    names: list[str]
    labels: np.ndarray  # int32 [N]


def main() -> None:
    args = arguments()
    if args.name is None:
        train(args)
    else:
        answer(args)


def train(args: argparse.Namespace) -> None:
    began = time.monotonic()
    common.needs("matplotlib")
    names = read(args)
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    languages, parts = split(names, args.seed)
    fitting, choosing, testing = parts
    vocabulary = Vocabulary.of("".join(fitting.names), unknown=UNKNOWN)
    if args.name is not None:
        asked(args, languages, vocabulary)  # what is wrong with the name is said before training
    print(f"{len(languages)} languages, {' + '.join(f'{len(part.names):,}' for part in parts)} names, "
          f"{len(vocabulary)} letters")  # fmt: skip

    out = common.run_folder(str(folder(args)))
    encoder = rnn.Stack(
        rnn.Embedding(len(vocabulary), args.embedding),
        rnn.Dropout(args.dropout / 2),
        rnn.Bidirectional(CELLS[args.cell](args.embedding, args.width)),
    )
    model = Classifier(encoder, len(languages), pooling=args.pooling, dropout=args.dropout)
    init_key, key = jax.random.split(jax.random.key(args.seed))
    params = model.init(init_key)
    print(model, f"{sum(p.size for p in jax.tree.leaves(params)):,} parameters", sep="\n")

    def padded(part: Names, batch: int, **options) -> Buckets:
        return Buckets([spell(name, vocabulary) for name in part.names], list(part.labels), batch, **options)

    batches = padded(fitting, args.batch, buckets=1 if args.quick else 2)
    steps = args.epochs * len(batches)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.cosine_decay_schedule(args.rate, steps), weight_decay=args.decay),
    )

    def loss(params, carry, batch, key):
        logits = model.apply(params, batch.inputs, lengths=batch.lengths, key=key)
        return rnn.losses.cross_entropy(logits, batch.targets, mask=batch.lengths > 0), (carry, {})

    chosen, tested = (padded(part, len(part.names), buckets=1, shuffle=False)[0] for part in (choosing, testing))
    score = jax.jit(lambda params, batch: model.apply(params, batch.inputs, lengths=batch.lengths))

    def evaluate(params, step):
        logits, labels = score(params, chosen), jnp.asarray(chosen.targets)
        return {"loss": rnn.losses.cross_entropy(logits, labels), "accuracy": rnn.losses.accuracy(logits, labels)}

    learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(params, optimizer),
        batches,
        steps=steps,
        key=key,
        evaluate=evaluate,
        evaluate_every=2 * len(batches),
        checkpoints=learning.Checkpoints(out, model, keep=1),
        metadata={"script": "classify_names", "symbols": vocabulary.symbols, "languages": languages},
        log=out / "metrics.jsonl",
    )
    model, params, _ = learning.load_model(out)  # the best of the run
    ours = np.asarray(score(params, tested)).argmax(-1)
    bayes, setting = naive_bayes(fitting, choosing, testing, len(languages))

    confusion, confusion_bayes = (confused(testing.labels, guess, len(languages)) for guess in (ours, bayes))
    print(f"\nlanguage        names  network  naive Bayes ({setting})")
    for n, language in enumerate(languages):
        count = confusion[n].sum()
        print(f"{language:<12} {count:>8} {rate(confusion, n):>8.0%} {rate(confusion_bayes, n):>12.0%}")
    draw(confusion, languages, out / "confusion.png")
    hits = (ours == testing.labels).astype(float) - (bayes == testing.labels)
    result = {
        "script": "classify_names", "quick": args.quick, "languages": len(languages), "test_names": len(testing.names),
        "accuracy": accuracy(confusion), "macro_accuracy": macro(confusion),
        "naive_bayes_accuracy": accuracy(confusion_bayes), "naive_bayes_macro_accuracy": macro(confusion_bayes),
        "margin": round(float(hits.mean()), 4), "margin_standard_error": round(float(hits.std() / len(hits) ** 0.5), 4),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    print(f"\nnetwork {result['accuracy']:.1%} (mean over languages {result['macro_accuracy']:.1%}), "
          f"naive Bayes {result['naive_bayes_accuracy']:.1%} ({result['naive_bayes_macro_accuracy']:.1%}), "
          f"margin {100 * result['margin']:.1f} ± {100 * result['margin_standard_error']:.1f} points; "
          f"{out / 'confusion.png'} is drawn")  # fmt: skip
    print(json.dumps(result))


def answer(args: argparse.Namespace) -> None:
    """Which languages a name may be of, by the model in --out."""
    if not folder(args).is_dir():
        train(args)
    model, params, metadata = common.load_run("classify_names", folder(args), "symbols", "languages")
    languages, vocabulary = metadata["languages"], Vocabulary(tuple(metadata["symbols"]), UNKNOWN)
    name, ids = asked(args, languages, vocabulary)
    if strange := unknown_letters(name, vocabulary):
        print(f"letters that no name of the training data has, read as unknown: {' '.join(strange)}")
    shares = np.asarray(jax.nn.softmax(model.apply(params, jnp.asarray(ids))), float)
    for n in np.argsort(-shares)[:5]:
        print(f"{languages[n]:<12} {shares[n]:>6.1%}  {'█' * round(40 * shares[n])}")
    if args.language:
        print(f"{name} is {args.language} with probability {shares[languages.index(args.language)]:.2%}")
    result = {"script": "classify_names", "name": name, "language": languages[int(shares.argmax())],
              "probabilities": dict(zip(languages, shares.round(5).tolist()))}  # fmt: skip
    print(json.dumps(result, ensure_ascii=False))


def asked(args: argparse.Namespace, languages: Sequence[str], vocabulary: Vocabulary) -> tuple[str, np.ndarray]:
    """The name that is asked about, and the ids of its letters."""
    name = " ".join(args.name.split())
    if args.language not in (None, *languages):
        common.refuse(f"--language: expected one of {', '.join(languages)}, got {args.language!r}")
    if len(unknown_letters(name, vocabulary)) == len(set(small(name))):
        some = "".join(symbol for symbol in vocabulary.symbols if symbol != UNKNOWN)[:60]
        common.refuse(f"--name: expected letters such as {some}, got none of them in {name!r}")
    return name, spell(name, vocabulary)


def unknown_letters(name: str, vocabulary: Vocabulary) -> list[str]:
    """The letters of a name that no name of the training data has, each once."""
    ids = spell(name, vocabulary)
    return sorted({letter for letter, i in zip(small(name), ids) if i == vocabulary.id(UNKNOWN)})


def folder(args: argparse.Namespace) -> pathlib.Path:
    """Where the run lies."""
    return pathlib.Path(args.out or "runs/classify_names" + ("_quick" if args.quick else ""))


# ---- names -------------------------------------------------------------------------------------------------------


def small(name: str) -> str:
    """Small letters, each with its accents one character."""
    return unicodedata.normalize("NFC", name.lower())


def lowered(name: str, vocabulary: Vocabulary) -> str:
    """Small letters; one that is not known loses its accents."""
    return "".join(c if c in vocabulary.symbols else unicodedata.normalize("NFKD", c)[0] for c in small(name))


def spell(name: str, vocabulary: Vocabulary) -> np.ndarray:
    """The ids of a name's letters."""
    return vocabulary.encode(lowered(name, vocabulary))


def read(args: argparse.Namespace) -> dict[str, list[str]]:
    """Names by language: the real ones where they can be had, else invented ones."""
    if not args.quick:
        try:
            return datasets.names(args.data)
        except (FileNotFoundError, ImportError) as error:
            if args.data is not None:
                raise
            print(f"{error}\ngoing on with invented names, as --quick does")
            args.quick = True
    return invented(np.random.default_rng(args.seed))


def invented(draw: np.random.Generator, count: int = 400) -> dict[str, list[str]]:
    """Four languages. Two are told by their sounds; the vowels of the others agree, or take turns, across the word.

    Trigrams never hold two vowels of these two, so that only a memory of the first vowel tells one from the other.
    """
    classes = ("ao", "ei")

    def closed(turn: int) -> str:
        kind, syllables = draw.integers(2), ""
        for n in range(draw.integers(2, 4)):
            vowel = classes[(kind + turn * n) % 2][draw.integers(2)]
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
    """Languages, and 70, 15 and 15 of a hundred names to train, choose and test; each name is in one part alone."""
    languages = sorted(names)
    pairs = sorted({(small(name), n) for n, language in enumerate(languages) for name in names[language]})
    distinct = sorted({name for name, _ in pairs})
    order = np.random.default_rng(seed).permutation(len(distinct))
    part = dict(zip(distinct, np.searchsorted([70, 85], 100 * order / len(distinct), side="right")))

    def of(which: int) -> Names:
        chosen = [(name, n) for name, n in pairs if part[name] == which]
        return Names([name for name, _ in chosen], np.array([n for _, n in chosen], np.int32))

    return languages, (of(0), of(1), of(2))


# ---- the linear control --------------------------------------------------------------------------------------------


def naive_bayes(fitting: Names, choosing: Names, testing: Names, classes: int) -> tuple[np.ndarray, str]:
    """The guesses of naive Bayes on the test names, and its setting: what did best on the validation names.

    log P(language) + Σ log P(gram | language) over the trigrams of the name between two borders, or over its single
    letters and pairs too; P(gram | language) is counted, with ``smoothing`` added to every count.
    """
    best = (-1.0, np.zeros(0), "")
    for sizes in ((3,), (1, 2, 3)):
        vocabulary = Vocabulary.of([gram for name in fitting.names for gram in grams(name, sizes)])
        counts, seen, tested = (count_grams(part.names, sizes, vocabulary) for part in (fitting, choosing, testing))
        by_class = np.stack([counts[fitting.labels == n].sum(0) for n in range(classes)])
        prior = np.log(np.bincount(fitting.labels, minlength=classes) / len(fitting.labels))
        for smoothing in (0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0):
            smooth = by_class + smoothing
            likely = np.log(smooth / smooth.sum(1, keepdims=True)).T
            hits = ((seen @ likely + prior).argmax(1) == choosing.labels).mean()
            if hits > best[0]:
                setting = f"grams of {' '.join(map(str, sizes))} letters, smoothing {smoothing}"
                best = (hits, (tested @ likely + prior).argmax(1), setting)
    return best[1:]


def grams(name: str, sizes: tuple[int, ...]) -> list[str]:
    return [f"^^{name}$$"[i : i + n] for n in sizes for i in range(3 - n, len(name) + 2)]


def count_grams(names: list[str], sizes: tuple[int, ...], vocabulary: Vocabulary) -> np.ndarray:
    """How often each gram of the vocabulary is in each name, ``[N, grams]``."""
    known, counts = set(vocabulary.symbols), np.zeros((len(names), len(vocabulary)), np.float32)
    for row, name in zip(counts, names, strict=True):
        np.add.at(row, vocabulary.encode([gram for gram in grams(name, sizes) if gram in known]), 1)
    return counts


# ---- results -----------------------------------------------------------------------------------------------------


def confused(labels: np.ndarray, guesses: np.ndarray, classes: int) -> np.ndarray:
    """How many names of each language (rows) were taken for which (columns)."""
    return np.bincount(labels * classes + guesses, minlength=classes**2).reshape(classes, classes)


def rate(confusion: np.ndarray, n: int) -> float:
    return float(confusion[n, n] / max(confusion[n].sum(), 1))


def accuracy(confusion: np.ndarray) -> float:
    return round(float(np.trace(confusion) / confusion.sum()), 4)


def macro(confusion: np.ndarray) -> float:
    """The mean over languages of the share that is right, so that every language weighs the same."""
    return round(float(np.mean([rate(confusion, n) for n in range(len(confusion)) if confusion[n].any()])), 4)


def draw(confusion: np.ndarray, languages: list[str], path: pathlib.Path) -> None:
    """The confusion matrix, each row as shares of the language's names."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(8.4, 7.2), layout="constrained")
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    names = [f"{language} ({count})" for language, count in zip(languages, confusion.sum(1))]
    axes.set_xticks(range(len(languages)), languages, rotation=60, ha="right")
    axes.set_yticks(range(len(languages)), names)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.01:
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7,
                      color="white" if share > 0.5 else "black")  # fmt: skip
    axes.set(xlabel="language the network says", ylabel="language of the name (test names)")
    axes.set_title(f"Unseen names: {np.trace(confusion) / confusion.sum():.1%} right")
    figure.colorbar(image, label="share of the language's names [%]", shrink=0.8)
    figure.savefig(path, dpi=150)


def told(name: str) -> str:
    """The default of an argument, for its help."""
    return f"default: {FULL[name]}, with --quick {QUICK[name]}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--name", help="a name to tell the language of")
    add("--language", help="with --name: how probable this language is")
    add("--data", metavar="DIR", help="folder with Arabic.txt … Vietnamese.txt; default: downloaded once")
    add("--quick", action="store_true", help="names of four invented languages, a few seconds")
    add("--cell", choices=CELLS, default="gru")
    add("--width", type=positive, help=f"units of each direction, {told('width')}")
    add("--embedding", type=positive, help=f"features of a letter, {told('embedding')}")
    add("--pooling", choices=("last", "mean", "max", "attention"), help=told("pooling"))
    add(
        "--dropout",
        type=common.share,
        help=f"share dropped before the readout, half of it above the letters, {told('dropout')}",
    )
    add("--decay", type=not_negative, default=1e-2, help="weight decay")
    add("--rate", type=above_zero, help=f"learning rate of Adam at the start; it falls to 0, {told('rate')}")
    add("--batch", type=positive, default=64)
    add("--epochs", type=positive, help=told("epochs"))
    add("--seed", type=common.seed, default=0)
    add(
        "--out",
        type=common.folder,
        help="folder of the run; default: runs/classify_names, with --quick runs/classify_names_quick",
    )
    args = parser.parse_args()
    if args.language is not None and args.name is None:
        parser.error("--language: expected a --name to go with it")
    if args.name is not None and not any(map(str.isalpha, args.name)):
        parser.error(f"--name: expected a name with at least one letter, got {args.name!r}")
    return args


if __name__ == "__main__":
    common.run(main)
