"""Tell good reviews from bad ones, beside logistic regression on the bag of their words.

    python scripts/sentiment.py                          # downloads SST-2, trains a few networks, tests their mean
    python scripts/sentiment.py --data DIR               # the same from a local copy of the files
    python scripts/sentiment.py --quick                  # made-up sentences in which the order decides, no download
    python scripts/sentiment.py --sentence "the acting is superb and moving"

The strength of the penalty of the regression and the best epoch of the networks are chosen on the same dev sentences.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import time
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import above_zero, not_negative, positive
from scipy.optimize import minimize
from scipy.sparse import csr_array

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Buckets, Vocabulary, datasets
from jaxrnn.tasks import Classifier

CELLS = {"vanilla": rnn.VanillaRNN, "lstm": rnn.LSTM, "gru": rnn.GRU}
PAD, UNKNOWN = "<pad>", "<unk>"
FULL = {"width": 64, "embedding": 100, "members": 5, "dropout": 0.5, "rate": 2e-3, "epochs": 5}
QUICK = {"width": 16, "embedding": 16, "members": 2, "dropout": 0.0, "rate": 1e-2, "epochs": 12}
Splits = dict[str, list[tuple[list[str], int]]]


@rnn.constructor.hyperparameters
class Ensemble:
    """Several classifiers of one kind, each with weights of its own; their probabilities are averaged."""

    member: Classifier
    members: int

    def init(self, key: Any) -> Any:
        return jax.vmap(self.member.init)(jax.random.split(key, self.members))

    def each(self, params: Any, xs: Any, lengths: Any = None, key: Any = None) -> Any:
        """The log-probabilities that each member gives, ``[members, B, classes]``."""

        def one(told: tuple) -> Any:
            params, key = told
            return jax.nn.log_softmax(self.member.apply(params, xs, lengths=lengths, key=key))

        return jax.lax.map(one, (params, None if key is None else jax.random.split(key, self.members)))

    def apply(self, params: Any, xs: Any, lengths: Any = None) -> Any:
        """The log of the mean probabilities, ``[B, classes]``."""
        return jax.nn.logsumexp(self.each(params, xs, lengths), 0) - np.log(self.members).astype("float32")


score = jax.jit(Ensemble.apply, static_argnums=0)


def main() -> None:
    args = arguments()
    if args.sentence is None:
        train(args)
    else:
        answer(args)


def build(args: argparse.Namespace, words: int) -> Ensemble:
    encoder = rnn.Stack(
        rnn.Embedding(words, args.embedding, w_init=rnn.initializers.normal(0.1)),
        rnn.Dropout(args.dropout),
        rnn.Bidirectional(CELLS[args.cell](args.embedding, args.width)),
    )
    return Ensemble(Classifier(encoder, 2, pooling=args.pooling, dropout=args.dropout), args.members)


def train(args: argparse.Namespace) -> None:
    began = time.monotonic()
    splits = read(args)
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    words = [word for sentence, _ in splits["train"] for word in sentence]
    vocabulary = Vocabulary.of(words, least=args.least, unknown=UNKNOWN, special=(PAD, UNKNOWN))
    if len(vocabulary) == 2:
        common.refuse(f"--least: expected a number of times that some word occurs, got {args.least}")
    if args.sentence is not None:
        asked(args, vocabulary)  # what is wrong with the sentence is said before training
    out = common.run_folder(str(folder(args)))
    model = build(args, len(vocabulary))
    init_key, key = jax.random.split(jax.random.key(args.seed))
    params = model.init(init_key)
    print(model, f"{sum(p.size for p in jax.tree.leaves(params)):,} parameters", sep="\n")
    print(f"{' + '.join(f'{len(part):,}' for part in splits.values())} sentences, {len(vocabulary):,} words that occur "
          f"{args.least} times or more")  # fmt: skip

    def padded(split: str, batch: int, **options) -> Buckets:
        sentences, labels = zip(*splits[split], strict=True)
        return Buckets([vocabulary.encode(s) for s in sentences], [np.int32(n) for n in labels], batch, **options)

    batches = padded("train", args.batch, buckets=1 if args.quick else 3)
    steps = args.epochs * len(batches)
    rate = optax.warmup_cosine_decay_schedule(0.0, args.rate, len(batches) // 2, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=args.decay))

    def loss(params, carry, batch, key):
        word_key, key = jax.random.split(key)
        forgotten = jax.random.bernoulli(word_key, args.word_dropout, batch.inputs.shape)
        ids = jnp.where(forgotten, vocabulary.id(UNKNOWN), batch.inputs)
        scores = model.each(params, ids, batch.lengths, key)
        each = jax.vmap(lambda s: rnn.losses.cross_entropy(s, batch.targets, mask=batch.lengths > 0))(scores)
        return each.sum(), (carry, {})  # each member has weights of its own, and so a gradient of its own

    held = {split: padded(split, len(splits[split]), buckets=1, shuffle=False)[0] for split in ("dev", "test")}

    def evaluate(params, step):
        scores, labels = score(model, params, held["dev"].inputs, held["dev"].lengths), jnp.asarray(held["dev"].targets)
        return {"loss": rnn.losses.cross_entropy(scores, labels), "error": 1 - rnn.losses.accuracy(scores, labels)}

    learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(params, optimizer),
        batches,
        steps=steps,
        key=key,
        evaluate=evaluate,
        evaluate_every=len(batches),
        monitor="error",
        checkpoints=learning.Checkpoints(out, model, keep=1),
        metadata={"script": "sentiment", "symbols": vocabulary.symbols, "least": args.least},
        log=out / "metrics.jsonl",
        format_metrics=lambda m: (
            f"loss {m['loss'] / (args.members if 'grad_norm' in m else 1):.3f}"
            + (f", {m['error']:.1%} wrong" if "error" in m else "")
        ),
    )
    _, params, _ = learning.load_model(out)  # the best of the run
    labels = held["test"].targets
    ours = np.asarray(score(model, params, held["test"].inputs, held["test"].lengths)).argmax(-1) == labels
    each = jax.jit(model.each)(params, held["test"].inputs, held["test"].lengths)
    singles = (np.asarray(each).argmax(-1) == labels).mean(1)
    guesses, setting = bag_of_words(splits)
    bag = guesses == labels
    margin, error = mean_and_error(ours.astype(float) - bag)
    print(f"\ntest accuracy: {args.members} networks together {ours.mean():.1%}, each alone {singles.mean():.1%} "
          f"({singles.min():.1%} to {singles.max():.1%}); bag of words {bag.mean():.1%} ({setting}); "
          f"margin {100 * margin:.1f} ± {100 * error:.1f} points")  # fmt: skip
    result = {
        "script": "sentiment", "quick": args.quick, "test_sentences": len(labels), "members": args.members,
        "accuracy": round(float(ours.mean()), 4), "single_accuracy": round(float(singles.mean()), 4),
        "bag_of_words_accuracy": round(float(bag.mean()), 4), "margin": round(margin, 4),
        "margin_standard_error": round(error, 4), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    print(json.dumps(result))


def answer(args: argparse.Namespace) -> None:
    """Whether a sentence is good, by the networks in --out."""
    if not folder(args).is_dir():
        train(args)
    model, params, metadata = common.load_run("sentiment", folder(args), "symbols", "least")
    vocabulary = Vocabulary(tuple(metadata["symbols"]), UNKNOWN)
    words, unknown = asked(args, vocabulary)
    ids = vocabulary.encode(words)
    if unknown:
        print(f"words seen less than {metadata['least']} times, read as unknown: {' '.join(unknown)}")
    good = float(jnp.exp(score(model, params, jnp.asarray(ids)[:, None])[0, 1]))
    print(f"{'good' if good > 0.5 else 'bad'}, with probability {max(good, 1 - good):.1%}")
    print(json.dumps({"script": "sentiment", "sentence": " ".join(words), "good": round(good, 4)}, ensure_ascii=False))


def asked(args: argparse.Namespace, vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
    """The words of the sentence that is asked about, and those of them that are unknown."""
    words = tokens(args.sentence)
    known = set(vocabulary.symbols) - {UNKNOWN}
    unknown = [word for word in words if word not in known]
    if len(unknown) == len(words):
        common.refuse(f"--sentence: expected a word that the training sentences hold, got none in {args.sentence!r}")
    return words, unknown


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean of independent values, and its standard error."""
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))


def folder(args: argparse.Namespace) -> pathlib.Path:
    """Where the run lies."""
    return pathlib.Path(args.out or "runs/sentiment" + ("_quick" if args.quick else ""))


# ---- sentences -----------------------------------------------------------------------------------------------------


def tokens(sentence: str) -> list[str]:
    """Words in small letters as the data has them: marks apart, and so are n't and 's."""
    apart = re.sub(r"(n't|'\w+)\b", r" \1", sentence.lower().replace("’", "'"))
    return re.findall(r"n't|'\w+|[\w-]+|[^\w\s]", apart)


def read(args: argparse.Namespace) -> Splits:
    """The sentences of SST-2 where they can be had, else made-up ones."""
    if not args.quick:
        try:
            return datasets.sst2(args.data)
        except (FileNotFoundError, ImportError) as error:
            if args.data is not None:
                raise
            print(f"{error}\ngoing on with made-up sentences, as --quick does")
            args.quick = True
    draw = np.random.default_rng(args.seed)
    return {
        split: [made_up(draw) for _ in range(count)] for split, count in (("train", 800), ("dev", 200), ("test", 400))
    }


def made_up(draw: np.random.Generator) -> tuple[list[str], int]:
    """A sentence such as "the plot is dull , not funny": the same words in another order mean the contrary."""

    def pick(words: str) -> str:
        return str(draw.choice(words.split()))

    good, denied_first = int(draw.integers(2)), bool(draw.integers(2))
    words = [pick("moving funny fresh brilliant tender clever"), pick("dull stale clumsy tired shallow lifeless")]
    holds, denied = words if good else words[::-1]
    clauses = (
        ["not", denied, ",", pick("but and"), holds] if denied_first else [holds, ",", pick("and but"), "not", denied]
    )
    return ["the", pick("film plot script cast ending"), pick("is was seems"), *clauses], good


# ---- the linear control --------------------------------------------------------------------------------------------


def bag_of_words(splits: Splits) -> tuple[np.ndarray, str]:
    r"""What logistic regression on the words of a test sentence says, and the penalty that did best on dev.

    Minimises Σ -log P(label | words) + penalty/2 ‖w‖² over all training sentences, to convergence, by L-BFGS.
    """
    vocabulary = Vocabulary.of(
        [w for words, _ in splits["train"] for w in words], unknown=UNKNOWN, special=(PAD, UNKNOWN)
    )
    strange = vocabulary.id(UNKNOWN)

    def bag(split: str) -> csr_array:
        """1 where a sentence has a word, ``[N, words]``; the place of the padding is always 1, for the bias."""
        sets = [{0, *vocabulary.encode(words).tolist()} - {strange} for words, _ in splits[split]]
        places = np.array([(row, column) for row, columns in enumerate(sets) for column in columns]).T
        return csr_array((np.ones(places.shape[1]), places), (len(sets), len(vocabulary)))

    bags = {split: bag(split) for split in splits}
    labels = np.array([label for _, label in splits["train"]])

    def fit(penalty: float) -> np.ndarray:
        def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
            z, shrunk = bags["train"] @ weights, np.append(0, weights[1:])
            slope = bags["train"].T @ (1 / (1 + np.exp(-z)) - labels) + penalty * shrunk
            return (np.logaddexp(0, z) - labels * z).sum() + penalty / 2 * shrunk @ shrunk, slope

        options = {"maxiter": 100, "gtol": 1e-2}
        return minimize(cost, np.zeros(len(vocabulary)), jac=True, method="L-BFGS-B", options=options).x

    def guesses(weights: np.ndarray, split: str) -> np.ndarray:
        return (bags[split] @ weights > 0).astype(int)

    dev = [label for _, label in splits["dev"]]
    fitted = {penalty: fit(penalty) for penalty in (0.1, 0.3, 1.0, 3.0, 10.0)}
    best = max(fitted, key=lambda penalty: (guesses(fitted[penalty], "dev") == dev).mean())
    return guesses(fitted[best], "test"), f"penalty {best:g}"


def told(name: str) -> str:
    """The default of an argument, for its help."""
    return f"default: {FULL[name]:g}, with --quick {QUICK[name]:g}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--sentence", help="a sentence to judge")
    add("--data", metavar="DIR", help="folder with stsa.binary.train, .dev and .test; default: downloaded once")
    add("--quick", action="store_true", help="made-up sentences in which the order decides, a few seconds")
    add("--cell", choices=CELLS, default="lstm")
    add("--width", type=positive, help=f"units of each direction, {told('width')}")
    add("--embedding", type=positive, help=f"features of a word, {told('embedding')}")
    add("--pooling", default="max", choices=("last", "mean", "max", "attention"))
    add("--least", type=positive, default=2, help="how often a word must occur to be known")
    add("--members", type=positive, help=f"networks whose probabilities are averaged, {told('members')}")
    add(
        "--dropout",
        type=common.share,
        help=f"share dropped of words' features and before the readout, {told('dropout')}",
    )
    add("--word-dropout", type=common.share, default=0.1, help="share of words read as unknown in training")
    add("--decay", type=not_negative, default=1e-2, help="weight decay")
    add("--rate", type=above_zero, help=f"learning rate of Adam at its highest; it falls to 0, {told('rate')}")
    add("--batch", type=positive, default=50)
    add("--epochs", type=positive, help=told("epochs"))
    add("--seed", type=common.seed, default=0)
    add(
        "--out",
        type=common.folder,
        help="folder of the run; default: runs/sentiment, with --quick runs/sentiment_quick",
    )
    args = parser.parse_args()
    if args.sentence is not None and not tokens(args.sentence):
        parser.error(f"--sentence: expected a sentence with at least one word, got {args.sentence!r}")
    return args


if __name__ == "__main__":
    common.run(main)
