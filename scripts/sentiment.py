"""Classify reviews as positive or negative; the baseline is logistic regression on a bag of words.

    python scripts/sentiment.py                          # downloads SST-2, trains and tests an ensemble of networks
    python scripts/sentiment.py --data DIR               # the same from a local copy of the files
    python scripts/sentiment.py --quick                  # invented sentences in which word order decides, no download
    python scripts/sentiment.py --sentence "the acting is superb and moving"

The penalty of the regression and the best epoch of the networks are chosen on the same dev sentences.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import sys
import time
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import CELLS, above_zero, not_negative, positive
from scipy.optimize import minimize
from scipy.sparse import csr_array

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Buckets, Vocabulary, datasets
from jaxrnn.tasks import Classifier

PAD, UNKNOWN = "<pad>", "<unk>"
Splits = dict[str, list[tuple[list[str], int]]]


@rnn.constructor.hyperparameters
class Ensemble:
    """An ensemble of classifiers with separate weights, whose probabilities are averaged."""

    member: Classifier
    members: int

    def init(self, key: Any) -> Any:
        return jax.vmap(self.member.init)(jax.random.split(key, self.members))

    def each(self, params: Any, xs: Any, lengths: Any = None, key: Any = None) -> Any:
        """Log-probabilities of each member, ``[members, B, classes]``."""

        def one(params_and_key: tuple) -> Any:
            params, key = params_and_key
            return jax.nn.log_softmax(self.member.apply(params, xs, lengths=lengths, key=key))

        return jax.lax.map(one, (params, None if key is None else jax.random.split(key, self.members)))

    def apply(self, params: Any, xs: Any, lengths: Any = None) -> Any:
        """Log of the mean probabilities, ``[B, classes]``."""
        return jax.nn.logsumexp(self.each(params, xs, lengths), 0) - np.log(self.members).astype("float32")


classify = jax.jit(Ensemble.apply, static_argnums=0)


def main() -> None:
    args = arguments()
    if args.sentence is None:
        train(args)
    else:
        predict(args)


def build(args: argparse.Namespace, words: int) -> Ensemble:
    encoder = rnn.Stack(
        rnn.Embedding(words, args.embedding, w_init=rnn.initializers.normal(0.1)),
        rnn.Dropout(args.dropout),
        rnn.Bidirectional(CELLS[args.cell](args.embedding, args.width)),
    )
    return Ensemble(Classifier(encoder, 2, pooling=args.pooling, dropout=args.dropout), args.members)


def train(args: argparse.Namespace) -> argparse.Namespace:
    """Train, test and save; return the arguments, which change if the download fails."""
    began = time.monotonic()
    args, splits = load_sentences(args)
    words = [word for sentence, _ in splits["train"] for word in sentence]
    vocabulary = Vocabulary.of(words, least=args.least, unknown=UNKNOWN, special=(PAD, UNKNOWN))
    if len(vocabulary) == 2:
        common.refuse(f"--least: expected a number of times that some word occurs, got {args.least}")
    if args.sentence is not None:
        check_sentence(args, vocabulary)  # before training
    out = common.run_folder(args.out)
    model = build(args, len(vocabulary))
    init_key, key = jax.random.split(jax.random.key(args.seed))
    params = model.init(init_key)
    common.print_model(model, params)
    print(f"{' + '.join(f'{len(part):,}' for part in splits.values())}{' invented' * args.quick} sentences, "
          f"{len(vocabulary):,} words that occur {args.least} times or more")  # fmt: skip

    def padded(split: str, batch: int, **options) -> Buckets:
        sentences, labels = zip(*splits[split], strict=True)
        return Buckets([vocabulary.encode(s) for s in sentences], [np.int32(n) for n in labels], batch, **options)

    batches = padded("train", args.batch, buckets=1 if args.quick else 3)
    steps = args.epochs * len(batches)
    rate = optax.warmup_cosine_decay_schedule(0.0, args.rate, len(batches) // 2, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=args.decay))

    def loss(params, batch, key):
        word_key, key = jax.random.split(key)
        dropped = jax.random.bernoulli(word_key, args.word_dropout, batch.inputs.shape)
        ids = jnp.where(dropped, vocabulary.id(UNKNOWN), batch.inputs)
        logits = model.each(params, ids, batch.lengths, key)
        each = jax.vmap(lambda z: rnn.losses.cross_entropy(z, batch.targets, mask=batch.lengths > 0))(logits)
        return each.sum()  # the members share no weights, so each has the gradient of its own loss

    held_out = {split: padded(split, len(splits[split]), buckets=1, shuffle=False)[0] for split in ("dev", "test")}

    def evaluate(params):
        dev = held_out["dev"]
        logits, labels = classify(model, params, dev.inputs, dev.lengths), jnp.asarray(dev.targets)
        return {"loss": rnn.losses.cross_entropy(logits, labels), "error": 1 - rnn.losses.accuracy(logits, labels)}

    end = learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(params, optimizer),
        batches,
        epochs=args.epochs,
        key=key,
        mesh=args.mesh,
        evaluate=evaluate,
        monitor=("error", "loss"),
        checkpoints=learning.Checkpoints(out, model, keep=1),
        metadata={"script": "sentiment", "vocabulary": vocabulary, "least": args.least},
        log=out / "metrics.jsonl",
        format_metrics=lambda m: (
            f"loss {m['loss'] / (args.members if 'grad_norm' in m else 1):.3f}"
            + (f", {m['error']:.1%} wrong" if "error" in m else "")
        ),
    )
    params, test = end.best_params, held_out["test"]
    labels = test.targets
    ensemble = np.asarray(classify(model, params, test.inputs, test.lengths)).argmax(-1) == labels
    each = jax.jit(model.each)(params, test.inputs, test.lengths)
    singles = (np.asarray(each).argmax(-1) == labels).mean(1)
    predictions, setting = bag_of_words(splits)
    bag = predictions == labels
    margin, error = common.mean_and_error(ensemble.astype(float) - bag)
    print(f"\ntest accuracy: ensemble of {args.members} networks {ensemble.mean():.1%}, one network "
          f"{singles.mean():.1%} ({singles.min():.1%} to {singles.max():.1%}); bag of words {bag.mean():.1%} "
          f"({setting}); margin {100 * margin:.1f} ± {100 * error:.1f} points")  # fmt: skip
    result = {
        "script": "sentiment", "quick": args.quick, "test_sentences": len(labels), "members": args.members,
        "accuracy": round(float(ensemble.mean()), 4), "single_accuracy": round(float(singles.mean()), 4),
        "bag_of_words_accuracy": round(float(bag.mean()), 4), "margin": round(margin, 4),
        "margin_standard_error": round(error, 4), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    if args.quick:
        print("the sentences are invented; without --quick, those of SST-2 are downloaded")
    print(json.dumps(result))
    return args


def predict(args: argparse.Namespace) -> None:
    """Print the class of a sentence by the model in --out."""
    if not pathlib.Path(args.out).is_dir():
        args = train(args)
    model, params, metadata = common.load_run("sentiment", args.out, "vocabulary", "least")
    vocabulary = metadata["vocabulary"]
    words, unknown = check_sentence(args, vocabulary)
    ids = vocabulary.encode(words)
    if unknown:
        print(f"words that occur less than {metadata['least']} times, replaced by {UNKNOWN}: {' '.join(unknown)}")
    good = float(jnp.exp(classify(model, params, jnp.asarray(ids)[:, None])[0, 1]))
    print(f"{'positive' if good > 0.5 else 'negative'}, with probability {max(good, 1 - good):.1%}")
    result = {"script": "sentiment", "sentence": " ".join(words), "positive": round(good, 4)}
    print(json.dumps(result, ensure_ascii=False))


def check_sentence(args: argparse.Namespace, vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
    """The words of --sentence, and the unknown ones; refuse it if all are unknown."""
    words = tokens(args.sentence)
    known = set(vocabulary.symbols) - {UNKNOWN}
    unknown = [word for word in words if word not in known]
    if len(unknown) == len(words):
        common.refuse(f"--sentence: expected a word that the training sentences hold, got none in {args.sentence!r}")
    return words, unknown


# ---- sentences -----------------------------------------------------------------------------------------------------


def tokens(sentence: str) -> list[str]:
    """Words in lower case as in the data: punctuation, n't and 's are tokens."""
    separated = re.sub(r"(n't|'\w+)\b", r" \1", sentence.lower().replace("’", "'"))
    return re.findall(r"n't|'\w+|[\w-]+|[^\w\s]", separated)


def load_sentences(args: argparse.Namespace) -> tuple[argparse.Namespace, Splits]:
    """The sentences of SST-2, or invented ones with --quick and where the download fails."""
    args, splits = common.load_data(args, datasets.sst2, arguments)
    draw, counts = np.random.default_rng(args.seed), {"train": 800, "dev": 200, "test": 400}
    return args, splits or {split: [invented_sentence(draw) for _ in range(n)] for split, n in counts.items()}


def invented_sentence(draw: np.random.Generator) -> tuple[list[str], int]:
    """A sentence such as "the plot is dull , not funny": the same words in another order mean the opposite."""

    def pick(words: str) -> str:
        return str(draw.choice(words.split()))

    label, negation_first = int(draw.integers(2)), bool(draw.integers(2))
    words = [pick("moving funny fresh brilliant tender clever"), pick("dull stale clumsy tired shallow lifeless")]
    true, false = words if label else words[::-1]
    clauses = (
        ["not", false, ",", pick("but and"), true] if negation_first else [true, ",", pick("and but"), "not", false]
    )
    return ["the", pick("film plot script cast ending"), pick("is was seems"), *clauses], label


# ---- baseline ------------------------------------------------------------------------------------------------------


def bag_of_words(splits: Splits) -> tuple[np.ndarray, str]:
    r"""Predictions of logistic regression for the test sentences, and the penalty that is best on dev.

    Minimises Σ -log P(label | words) + penalty/2 ‖w‖² over all training sentences, to convergence, by L-BFGS.
    """
    vocabulary = Vocabulary.of(
        [w for words, _ in splits["train"] for w in words], unknown=UNKNOWN, special=(PAD, UNKNOWN)
    )
    unknown = vocabulary.id(UNKNOWN)

    def bag(split: str) -> csr_array:
        """1 where a sentence has a word, ``[N, words]``; the column of the padding is always 1, for the bias."""
        sets = [{0, *vocabulary.encode(words).tolist()} - {unknown} for words, _ in splits[split]]
        places = np.array([(row, column) for row, columns in enumerate(sets) for column in columns]).T
        return csr_array((np.ones(places.shape[1]), places), (len(sets), len(vocabulary)))

    bags = {split: bag(split) for split in splits}
    labels = np.array([label for _, label in splits["train"]])

    def fit(penalty: float) -> np.ndarray:
        def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
            logits, penalized = bags["train"] @ weights, np.append(0, weights[1:])
            gradient = bags["train"].T @ (1 / (1 + np.exp(-logits)) - labels) + penalty * penalized
            return (np.logaddexp(0, logits) - labels * logits).sum() + penalty / 2 * penalized @ penalized, gradient

        options = {"maxiter": 100, "gtol": 1e-2}
        return minimize(cost, np.zeros(len(vocabulary)), jac=True, method="L-BFGS-B", options=options).x

    def predictions(weights: np.ndarray, split: str) -> np.ndarray:
        return (bags[split] @ weights > 0).astype(int)

    dev = [label for _, label in splits["dev"]]
    fitted = {penalty: fit(penalty) for penalty in (0.1, 0.3, 1.0, 3.0, 10.0)}
    best = max(fitted, key=lambda penalty: (predictions(fitted[penalty], "dev") == dev).mean())
    return predictions(fitted[best], "test"), f"penalty {best:g}"


def arguments(*more: str) -> argparse.Namespace:
    """The command line, and ``more`` arguments."""
    parser = common.Parser(__doc__, "runs/sentiment", "invented sentences in which word order decides, a small model",
                           quick_out="runs/sentiment_quick", data_free=True)  # fmt: skip
    add = parser.add_argument
    add("--sentence", help="classify this sentence instead of training")
    add("--data", metavar="DIR", help="folder with stsa.binary.train, .dev and .test (default: downloaded once)")
    add("--cell", choices=CELLS, default="lstm", help="cell of each direction")
    add("--width", type=positive, default=64, quick=16, help="hidden size of each direction")
    add("--embedding", type=positive, default=100, quick=16, help="embedding size of a word")
    add("--pooling", default="max", choices=("last", "mean", "max", "attention"), help="pooling over time")
    add("--least", type=positive, default=2, help="least number of occurrences of a known word")
    add("--members", type=positive, default=5, quick=2, help="networks of the ensemble")
    add("--dropout", type=common.rate, default=0.5, quick=0.0,
        help="dropout rate above the embedding and before the readout")  # fmt: skip
    add("--word-dropout", type=common.rate, default=0.1, help="share of words replaced by <unk> in training")
    add("--decay", type=not_negative, default=1e-2, help="weight decay")
    add("--rate", type=above_zero, default=2e-3, quick=1e-2,
        help="largest learning rate of Adam, with linear warm-up and cosine decay to 0")  # fmt: skip
    add("--batch", type=positive, default=50, help="sentences of an optimizer step")
    add("--epochs", type=positive, default=5, quick=12, help="epochs to train")
    args = parser.parse_args([*sys.argv[1:], *more])
    if args.sentence is not None and not tokens(args.sentence):
        parser.error(f"--sentence: expected a sentence with at least one word, got {args.sentence!r}")
    return args


if __name__ == "__main__":
    common.run(main)
