"""Fill in the blank: predict a masked word or character from both sides, from the left and from the right context.

    python scripts/fill_in_the_blank.py                     # generated sentences, and the prose of Python's reference
    python scripts/fill_in_the_blank.py --quick             # fewer steps
    python scripts/fill_in_the_blank.py --sentence "I am ___ thirsty, and I can drink a big bottle."

At every step t a model predicts the symbol at t from the symbols before t, those after t, or both. The models of one
direction are wider, so that all three have about the same number of parameters. The margin of the bidirectional model
is printed with its standard error over pairs of predictions for the same blank. Words are masked anywhere in a
sentence, characters in the middle of a window.
"""

from __future__ import annotations

import argparse
import bisect
import functools
import itertools
import json
import pathlib
import re
import textwrap
import time
from collections.abc import Sequence
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import CELLS, above_zero, positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Buckets, PaddedBatch, Vocabulary, python_reference
from jaxrnn.tasks import DelayCell

SIDES = ("both", "left", "right")
CHAPTER = ("I am ___.", "I am ___ hungry.", "I am ___ hungry, and I can eat a big meal.")
CHOICES = ANSWERS = ("happy", "not", "very")  # candidates for each blank; the answers of the three
BLANK = "___"


def main() -> None:
    args = arguments()
    common.require("matplotlib")
    began = time.monotonic()
    sentences = grammar()
    vocabulary = Vocabulary.of(itertools.chain.from_iterable(map(words, sentences)))
    asked = [args.sentence] if args.sentence else CHAPTER
    for sentence in asked:
        encode(vocabulary, sentence)  # refuse it before training
    text = python_reference()
    symbols = Vocabulary.of(text)
    ids = symbols.encode(text)
    cut = len(ids) * 9 // 10
    if len(ids) - cut < args.window + args.stride:
        common.refuse(f"--window, --stride: expected two windows or more in the {len(ids) - cut:,} characters of the "
                      f"test, got a window of {args.window:,} and a stride of {args.stride:,}")  # fmt: skip
    held_out = {sentence.replace(BLANK, word) for sentence, word in zip(CHAPTER, ANSWERS)}
    held_out |= set(np.random.default_rng(args.seed).choice(sentences, len(sentences) // 5, replace=False).tolist())
    test = [vocabulary.encode(words(sentence)) for sentence in sentences if sentence in held_out]
    training = [vocabulary.encode(words(sentence)) for sentence in sentences if sentence not in held_out]
    print(f"words: {len(sentences):,} sentences of {len(vocabulary)} words, {len(test):,} of them for the test")
    models = train(training, len(vocabulary), args.word_width, args.word_steps, args)
    by_word = compare(models, test, everywhere=True)
    predictions = {sentence: predict(models, vocabulary, sentence) for sentence in asked}

    print(f"\ncharacters: {len(ids):,} of the text, {len(symbols)} different, the last tenth for the test")
    windows = np.lib.stride_tricks.sliding_window_view(ids[cut:], args.window)[:: args.stride]
    pieces = np.split(ids[:cut], range(args.window, cut, args.window))
    models = train(pieces, len(symbols), args.width, args.steps, args)
    by_character = compare(models, list(windows), everywhere=False)

    for sentence, probabilities in predictions.items():
        show(sentence, probabilities)
    draw(predictions, {"words": by_word, "characters": by_character}, pathlib.Path(args.out) / "fill_in_the_blank.png")
    best = [max(CHOICES, key=predictions[s]["both"].__getitem__) for s in asked] if not args.sentence else None
    print(json.dumps({
        "script": "fill_in_the_blank", "words": by_word, "characters": by_character,
        "chapter": best and f"{sum(a == b for a, b in zip(best, ANSWERS))} of {len(ANSWERS)} correct",
        "seconds": round(time.monotonic() - began, 1),
    }))  # fmt: skip


# ---- models ---------------------------------------------------------------------------------------------------------


def build(cell: Any, side: str, symbols: int, width: int, embedding: int = 32) -> rnn.Stack:
    """Logits of the symbol at every step from the symbols before it, after it, or both."""
    delayed = DelayCell(cell(embedding, width))
    recurrent, features = (rnn.Bidirectional(delayed), 2 * width) if side == "both" else (delayed, width)
    return rnn.Stack(rnn.Embedding(symbols, embedding), recurrent, rnn.Linear(features, symbols))


def count(model: rnn.Stack) -> int:
    """Number of parameters."""
    return sum(p.size for p in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0))))


def build_matched(cell: Any, side: str, symbols: int, width: int) -> rnn.Stack:
    """The smallest model of a side with at least as many parameters as the bidirectional one."""
    if side == "both":
        return build(cell, side, symbols, width)
    goal, widths = count(build(cell, "both", symbols, width)), range(width, 3 * width)
    least = bisect.bisect_left(widths, goal, key=lambda w: count(build(cell, side, symbols, w)))
    return build(cell, side, symbols, widths[least])


def logits(model: rnn.Stack, params: Any, side: str, batch: PaddedBatch) -> jax.Array:
    """Logits ``[T, B, V]``."""
    return rnn.unroll(model, params, batch.inputs, lengths=jnp.asarray(batch.lengths), reverse=side == "right")[1]


def train(pieces: Sequence[np.ndarray], symbols: int, width: int, steps: int, args: argparse.Namespace) -> dict:
    """The trained model of each side: ``{side: (model, params)}``."""
    batches = Buckets(pieces, pieces, args.batch, aligned=True, buckets=1, seed=args.seed)
    rate = optax.cosine_decay_schedule(args.rate, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    trained = {}
    for side in SIDES:
        began = time.monotonic()
        model = build_matched(CELLS[args.cell], side, symbols, width)

        def loss(params, carry, batch, key, model=model, side=side):
            z = logits(model, params, side, batch)
            return rnn.losses.cross_entropy(z, batch.targets, lengths=batch.lengths), (carry, {})

        init_key, key = jax.random.split(jax.random.key(args.seed))
        end = learning.fit(
            learning.train_step(loss, optimizer),
            learning.train_state(model.init(init_key), optimizer),
            batches,
            steps=steps,
            key=key,
            mesh=args.mesh,
            verbose=False,
        )
        trained[side] = model, end.state.params
        print(f"{side:6} {count(model):>8,} parameters, {steps:,} steps, {time.monotonic() - began:.0f} s", flush=True)
    return trained


# ---- predictions ----------------------------------------------------------------------------------------------------


def compare(models: dict, pieces: Sequence[np.ndarray], *, everywhere: bool) -> dict[str, Any]:
    """Accuracy of each model, at every step or in the middle, and the margin of the bidirectional one."""
    batch = Buckets(pieces, pieces, len(pieces), aligned=True, buckets=1, shuffle=False)[0]
    steps = np.arange(len(batch.inputs))[:, None]
    masked = steps < batch.lengths if everywhere else np.broadcast_to(steps == len(steps) // 2, batch.inputs.shape)
    hits = {}
    for side, (model, params) in models.items():
        predicted = np.asarray(jax.jit(functools.partial(most_probable, model, side))(params, batch))
        hits[side] = (predicted == batch.targets)[masked].astype(float)
    better = max(SIDES[1:], key=lambda side: hits[side].mean())
    margin, error = common.mean_and_error(hits["both"] - hits[better])
    result: dict[str, Any] = {side: round(float(hit.mean()), 4) for side, hit in hits.items()}
    result |= {"blanks": int(masked.sum()), "better side": better, "margin": round(margin, 4),
               "standard error": round(error, 4)}  # fmt: skip
    shares = ", ".join(f"{side} {result[side]:.1%}" for side in SIDES)
    print(f"correct: {shares}; both sides beat the better one by "
          f"{margin:.1%} ± {error:.1%} of {result['blanks']:,} blanks")  # fmt: skip
    return result


def most_probable(model: rnn.Stack, side: str, params: Any, batch: PaddedBatch) -> jax.Array:
    return logits(model, params, side, batch).argmax(-1)


def encode(vocabulary: Vocabulary, sentence: str) -> tuple[np.ndarray, int]:
    """The ids of a sentence, and the position of its blank."""
    split = words(sentence)
    if split.count(BLANK) != 1:
        raise ValueError(f"--sentence: expected one blank {BLANK}, got {split.count(BLANK)} in {sentence!r}")
    place = split.index(BLANK)
    split[place] = CHOICES[0]  # any word: it is an input of no model
    unknown = [word for word in split if word not in vocabulary.symbols]
    if unknown:
        raise ValueError(f"--sentence: expected words of the generated sentences, got {unknown[0]!r}; "
                         f"they are {' '.join(vocabulary.symbols)}")  # fmt: skip
    return vocabulary.encode(split), place


def predict(models: dict, vocabulary: Vocabulary, sentence: str) -> dict[str, dict[str, float]]:
    """Probability of every word for the blank of a sentence, by each model."""
    ids, place = encode(vocabulary, sentence)
    batch = PaddedBatch(ids, ids, np.array(len(ids), np.int32))
    predictions = {}
    for side, (model, params) in models.items():
        probabilities = jax.nn.softmax(logits(model, params, side, batch)[place])
        predictions[side] = dict(zip(vocabulary.symbols, map(float, probabilities)))
    return predictions


def show(sentence: str, predictions: dict[str, dict[str, float]]) -> None:
    """Print the four most probable words of each model."""
    print(f"\n{sentence}")
    for side, probabilities in predictions.items():
        best = sorted(probabilities, key=probabilities.__getitem__, reverse=True)[:4]
        print(f"  {side:6} " + ", ".join(f"{word} {probabilities[word]:.1%}" for word in best))


# ---- sentences ------------------------------------------------------------------------------------------------------

SUBJECTS = {"I": "am", "you": "are", "we": "are", "they": "are", "she": "is", "he": "is", "Ann": "is", "Tom": "is"}
TIMES = ("", " today", " now", " again", " tonight")
NEEDS = {  # for "very" and for "not": causes and consequences
    "hungry": {"very": (("ate nothing",), ("eat a big meal", "eat a whole cake")),
               "not": (("ate a big meal",), ("leave the meal", "skip lunch"))},
    "thirsty": {"very": (("drank nothing",), ("drink a big bottle", "drink a whole jug")),
                "not": (("drank a big bottle",), ("leave the bottle", "pass on tea"))},
    "tired": {"very": (("worked all day",), ("sleep all day", "rest for a week")),
              "not": (("slept all day",), ("dance all night", "work all night"))},
    "strong": {"very": (("trained for years",), ("lift a big rock", "carry a whole tree")),
               "not": (("rested for years",), ("lift a pebble", "carry a feather"))},
    "rich": {"very": (("found a treasure",), ("buy a big house", "buy a whole island")),
             "not": (("lost a treasure",), ("rent a room", "buy a pencil"))},
}  # fmt: skip


def grammar() -> list[str]:
    """Sentences in which a blank depends on its left context, its right context, or both."""
    sentences = []
    for who, be in SUBJECTS.items():
        sentences += [f"{who} {be} happy{when}." for when in TIMES]
        for need, degrees in NEEDS.items():
            sentences += [f"{who} {be} not {need}{when}." for when in TIMES]
            for degree, (causes, consequences) in degrees.items():
                sentences += [f"{who} {cause}, so {who} {be} {degree} {need}." for cause in causes]
                sentences += [f"{who} {be} {degree} {need}, and {other} can {doing}."
                              for other in SUBJECTS for doing in consequences]  # fmt: skip
    return sentences


def words(sentence: str) -> list[str]:
    """Words and punctuation marks."""
    return re.findall(r"\w+|[^\w\s]", sentence)


# ---- the picture ----------------------------------------------------------------------------------------------------


def draw(predictions: dict[str, dict], results: dict[str, dict], path: pathlib.Path) -> None:
    """Left: the probabilities of the words for each blank. Right: accuracy."""
    columns = len(predictions) + 1
    figure, axes = common.subplots(1, columns, figsize=(3.1 * columns, 3.6), sharey=True)
    for ax, (sentence, probabilities) in zip(axes, predictions.items()):
        bars(ax, CHOICES, {side: [probabilities[side][word] for word in CHOICES] for side in SIDES})
        ax.set_title(textwrap.fill(sentence, 26), fontsize=10)
    axes[0].set_ylabel("probability of the word")
    bars(axes[-1], list(results), {side: [result[side] for result in results.values()] for side in SIDES})
    axes[-1].set(title="all masked symbols", ylim=(0, 1.02), ylabel="accuracy")
    axes[0].legend(title="context", loc="upper right")
    common.save_plot(figure, path)


def bars(axes: Any, names: Sequence[str], heights: dict[str, list[float]]) -> None:
    """Three bars a name, one for each model."""
    for n, ((side, height), colour) in enumerate(zip(heights.items(), rnn.plots.COLOURS)):
        axes.bar(np.arange(len(names)) + 0.27 * (n - 1), height, 0.25, color=colour, label=f"{side}")
    axes.set_xticks(range(len(names)), names)
    axes.grid(alpha=0.3, axis="y")


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/fill_in_the_blank", "a fifth of the steps", plots=True)
    add = parser.add_argument
    add("--sentence", help=f"a sentence with a blank {BLANK} and words of the generated ones, to fill in")
    add("--cell", choices=CELLS, default="gru", help="cell of each direction")
    add(
        "--width", type=positive, default=128, help="hidden size of each direction of the bidirectional character model"
    )
    add("--word-width", type=positive, default=32, help="the same of the word model")
    add("--steps", type=positive, default=500, quick=100, help="optimizer steps of each character model")
    add("--word-steps", type=positive, default=800, quick=200, help="optimizer steps of each word model")
    add("--window", type=positive, default=49, help="characters of a window, odd, the masked one in the middle")
    add("--stride", type=positive, default=10, help="characters between the masked ones of the test")
    add("--batch", type=positive, default=64, help="sentences or windows of an optimizer step")
    add("--rate", type=above_zero, default=5e-3, help="initial learning rate of Adam, with cosine decay to 0")
    args = parser.parse_args()
    if args.window % 2 == 0:
        parser.error(f"--window: expected an odd number of characters, got {args.window}")
    return args


if __name__ == "__main__":
    common.run(main)
