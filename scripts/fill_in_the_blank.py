"""Fill in the blank: predict a hidden word or character from both sides, from the left alone and from the right alone.

    python scripts/fill_in_the_blank.py                     # sentences made here, and the prose of Python's reference
    python scripts/fill_in_the_blank.py --quick             # fewer steps
    python scripts/fill_in_the_blank.py --sentence "I am ___ thirsty, and I can drink a big bottle."

At every step t a model guesses the symbol there, which it does not see: forwards it has read the symbols before t,
backwards those after t. The models of one direction are wider, so that all three have about the same number of
parameters. What the bidirectional model is better by is stated with its standard error, over pairs of answers to the
same blank. Words are hidden anywhere in the sentence, characters in the middle of a window.
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
from common import above_zero, positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Buckets, PaddedBatch, Vocabulary, python_reference
from jaxrnn.tasks import DelayCell

CELLS = {"vanilla": rnn.VanillaRNN, "lstm": rnn.LSTM, "gru": rnn.GRU}
SIDES = ("both", "left", "right")
CHAPTER = ("I am ___.", "I am ___ hungry.", "I am ___ hungry, and I can eat a big meal.")
CHOICES, RIGHT = ("happy", "not", "very"), ("happy", "not", "very")  # what can stand there, what must
BLANK = "___"


def main() -> None:
    args = arguments()
    common.needs("matplotlib")
    began = time.monotonic()
    sentences = grammar()
    vocabulary = Vocabulary.of(itertools.chain.from_iterable(map(words, sentences)))
    told = [args.sentence] if args.sentence else CHAPTER
    for sentence in told:
        ask(vocabulary, sentence)  # what is wrong with it is said before training
    text = python_reference()
    symbols = Vocabulary.of(text)
    ids = symbols.encode(text)
    cut = len(ids) * 9 // 10
    if len(ids) - cut < args.window + args.stride:
        common.refuse(f"--window, --stride: expected two windows or more in the {len(ids) - cut:,} characters of the "
                      f"test, got a window of {args.window:,} and a stride of {args.stride:,}")  # fmt: skip
    held_out = {sentence.replace(BLANK, word) for sentence, word in zip(CHAPTER, RIGHT)}
    held_out |= set(np.random.default_rng(args.seed).choice(sentences, len(sentences) // 5, replace=False).tolist())
    test = [vocabulary.encode(words(sentence)) for sentence in sentences if sentence in held_out]
    rest = [vocabulary.encode(words(sentence)) for sentence in sentences if sentence not in held_out]
    print(f"words: {len(sentences):,} sentences of {len(vocabulary)} words, {len(test):,} of them for the test")
    models = train(rest, len(vocabulary), args.word_width, args.word_steps, args)
    by_word = compare(models, test, everywhere=True)
    guesses = {sentence: guess(models, vocabulary, sentence) for sentence in told}

    print(f"\ncharacters: {len(ids):,} of the text, {len(symbols)} different, the last tenth for the test")
    windows = np.lib.stride_tricks.sliding_window_view(ids[cut:], args.window)[:: args.stride]
    pieces = np.split(ids[:cut], range(args.window, cut, args.window))
    models = train(pieces, len(symbols), args.width, args.steps, args)
    by_character = compare(models, list(windows), everywhere=False)

    for sentence, shares in guesses.items():
        show(sentence, shares)
    out = pathlib.Path(args.out) / "fill_in_the_blank.png"
    draw(guesses, {"words": by_word, "characters": by_character}, out)
    print(f"{out} is drawn")
    right = [max(CHOICES, key=guesses[s]["both"].__getitem__) for s in told] if not args.sentence else None
    print(json.dumps({
        "script": "fill_in_the_blank", "words": by_word, "characters": by_character,
        "chapter": right and f"{sum(a == b for a, b in zip(right, RIGHT))} of {len(RIGHT)} right",
        "seconds": round(time.monotonic() - began, 1),
    }))  # fmt: skip


# ---- models ---------------------------------------------------------------------------------------------------------


def build(cell: Any, side: str, symbols: int, width: int, embedding: int = 32) -> rnn.Stack:
    """Scores for the symbol at every step, of which the model sees what comes before, after, or both."""
    one = DelayCell(cell(embedding, width))
    recurrent, features = (rnn.Bidirectional(one), 2 * width) if side == "both" else (one, width)
    return rnn.Stack(rnn.Embedding(symbols, embedding), recurrent, rnn.Linear(features, symbols))


def count(model: rnn.Stack) -> int:
    """Parameters of a model."""
    return sum(p.size for p in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0))))


def as_large(cell: Any, side: str, symbols: int, width: int) -> rnn.Stack:
    """The model of a side with as many parameters as the bidirectional one, or the fewest more."""
    if side == "both":
        return build(cell, side, symbols, width)
    goal, widths = count(build(cell, "both", symbols, width)), range(width, 3 * width)
    least = bisect.bisect_left(widths, goal, key=lambda w: count(build(cell, side, symbols, w)))
    return build(cell, side, symbols, widths[least])


def scores(model: rnn.Stack, params: Any, side: str, batch: PaddedBatch) -> jax.Array:
    """``[T, B, V]``."""
    return rnn.unroll(model, params, batch.inputs, lengths=jnp.asarray(batch.lengths), reverse=side == "right")[1]


def train(pieces: Sequence[np.ndarray], symbols: int, width: int, steps: int, args: argparse.Namespace) -> dict:
    """The trained model of each side: ``{side: (model, params)}``."""
    batches = Buckets(pieces, pieces, args.batch, aligned=True, buckets=1, seed=args.seed)
    rate = optax.cosine_decay_schedule(args.rate, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    trained = {}
    for side in SIDES:
        began = time.monotonic()
        model = as_large(CELLS[args.cell], side, symbols, width)

        def loss(params, carry, batch, key, model=model, side=side):
            guesses = scores(model, params, side, batch)
            return rnn.losses.cross_entropy(guesses, batch.targets, lengths=batch.lengths), (carry, {})

        init_key, key = jax.random.split(jax.random.key(args.seed))
        end = learning.fit(
            learning.train_step(loss, optimizer),
            learning.train_state(model.init(init_key), optimizer),
            batches,
            steps=steps,
            key=key,
            verbose=False,
        )
        trained[side] = model, end.state.params
        print(f"{side:6} {count(model):>8,} parameters, {steps:,} steps, {time.monotonic() - began:.0f} s", flush=True)
    return trained


# ---- answers --------------------------------------------------------------------------------------------------------


def compare(models: dict, pieces: Sequence[np.ndarray], *, everywhere: bool) -> dict[str, Any]:
    """Share of right guesses of each model, at every step or in the middle, and what two sides are better by."""
    batch = Buckets(pieces, pieces, len(pieces), aligned=True, buckets=1, shuffle=False)[0]
    steps = np.arange(len(batch.inputs))[:, None]
    asked = steps < batch.lengths if everywhere else np.broadcast_to(steps == len(steps) // 2, batch.inputs.shape)
    hits = {}
    for side, (model, params) in models.items():
        guesses = np.asarray(jax.jit(functools.partial(likeliest, model, side))(params, batch))
        hits[side] = (guesses == batch.targets)[asked].astype(float)
    better = max(SIDES[1:], key=lambda side: hits[side].mean())
    margins = hits["both"] - hits[better]
    result: dict[str, Any] = {side: round(float(hit.mean()), 4) for side, hit in hits.items()}
    result |= {"blanks": int(asked.sum()), "better side": better, "margin": round(float(margins.mean()), 4),
               "standard error": round(float(margins.std(ddof=1) / len(margins) ** 0.5), 4)}  # fmt: skip
    shares = ", ".join(f"{side} {result[side]:.1%}" for side in SIDES)
    print(f"right: {shares}; both sides beat the better one by "
          f"{result['margin']:.1%} ± {result['standard error']:.1%} of {result['blanks']:,} blanks")  # fmt: skip
    return result


def likeliest(model: rnn.Stack, side: str, params: Any, batch: PaddedBatch) -> jax.Array:
    return scores(model, params, side, batch).argmax(-1)


def ask(vocabulary: Vocabulary, sentence: str) -> tuple[np.ndarray, int]:
    """The ids of a sentence, and where its blank is."""
    split = words(sentence)
    if split.count(BLANK) != 1:
        raise ValueError(f"--sentence: expected one blank {BLANK}, got {split.count(BLANK)} in {sentence!r}")
    place = split.index(BLANK)
    split[place] = CHOICES[0]  # any word: no model sees it
    strange = [word for word in split if word not in vocabulary.symbols]
    if strange:
        raise ValueError(f"--sentence: expected words of the made-up sentences, got {strange[0]!r}; "
                         f"they are {' '.join(vocabulary.symbols)}")  # fmt: skip
    return vocabulary.encode(split), place


def guess(models: dict, vocabulary: Vocabulary, sentence: str) -> dict[str, dict[str, float]]:
    """What each model holds of the words for the blank of a sentence: its probability of every word."""
    ids, place = ask(vocabulary, sentence)
    batch = PaddedBatch(ids, ids, np.array(len(ids), np.int32))
    shares = {}
    for side, (model, params) in models.items():
        probabilities = jax.nn.softmax(scores(model, params, side, batch)[place])
        shares[side] = dict(zip(vocabulary.symbols, map(float, probabilities)))
    return shares


def show(sentence: str, shares: dict[str, dict[str, float]]) -> None:
    print(f"\n{sentence}")
    for side, probabilities in shares.items():
        best = sorted(probabilities, key=probabilities.__getitem__, reverse=True)[:4]
        print(f"  {side:6} " + ", ".join(f"{word} {probabilities[word]:.1%}" for word in best))


# ---- sentences ------------------------------------------------------------------------------------------------------

SUBJECTS = {"I": "am", "you": "are", "we": "are", "they": "are", "she": "is", "he": "is", "Ann": "is", "Tom": "is"}
TIMES = ("", " today", " now", " again", " tonight")
NEEDS = {  # for very and for not: what made one so, and what one can do then
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
    """Sentences like the chapter's: what follows a blank decides it, or what comes before, and the verb its subject."""
    sentences = []
    for who, be in SUBJECTS.items():
        sentences += [f"{who} {be} happy{when}." for when in TIMES]
        for need, degrees in NEEDS.items():
            sentences += [f"{who} {be} not {need}{when}." for when in TIMES]
            for degree, (causes, doings) in degrees.items():
                sentences += [f"{who} {cause}, so {who} {be} {degree} {need}." for cause in causes]
                sentences += [f"{who} {be} {degree} {need}, and {other} can {doing}."
                              for other in SUBJECTS for doing in doings]  # fmt: skip
    return sentences


def words(sentence: str) -> list[str]:
    """Words and punctuation marks."""
    return re.findall(r"\w+|[^\w\s]", sentence)


# ---- the picture ----------------------------------------------------------------------------------------------------


def draw(guesses: dict[str, dict], results: dict[str, dict], path: pathlib.Path) -> None:
    """Left: what each model holds of the words of the chapter. Right: how often each is right."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    count = len(guesses)
    figure, axes = plt.subplots(1, count + 1, figsize=(3.1 * (count + 1), 3.6), layout="constrained", sharey=True)
    for ax, (sentence, shares) in zip(axes, guesses.items()):
        bars(ax, CHOICES, {side: [shares[side][word] for word in CHOICES] for side in SIDES})
        ax.set_title(textwrap.fill(sentence, 26), fontsize=10)
    axes[0].set_ylabel("probability of the word")
    bars(axes[-1], list(results), {side: [result[side] for result in results.values()] for side in SIDES})
    axes[-1].set(title="right of all hidden ones", ylim=(0, 1.02), ylabel="share right")
    axes[0].legend(title="the model sees", loc="upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def bars(axes: Any, names: Sequence[str], heights: dict[str, list[float]]) -> None:
    """Three bars a name, one for each model."""
    for n, ((side, height), colour) in enumerate(zip(heights.items(), rnn.plots.COLOURS)):
        axes.bar(np.arange(len(names)) + 0.27 * (n - 1), height, 0.25, color=colour, label=f"{side}")
    axes.set_xticks(range(len(names)), names)
    axes.grid(alpha=0.3, axis="y")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--quick", action="store_true", help="a fifth of the steps")
    add("--sentence", help=f"a sentence with a blank {BLANK} and words of the made-up ones, in place of the chapter's")
    add("--cell", choices=CELLS, default="gru")
    add("--width", type=positive, default=128, help="units of each direction of the bidirectional model of characters")
    add("--word-width", type=positive, default=32, help="the same of the model of words")
    add("--steps", type=positive, default=500, help="optimizer steps of each model of characters")
    add("--word-steps", type=positive, default=800, help="the same of each model of words")
    add(
        "--window",
        type=positive,
        default=49,
        help="characters of a window, odd: as many on each side of the hidden one",
    )
    add("--stride", type=positive, default=10, help="characters from one hidden one of the test to the next")
    add("--batch", type=positive, default=64, help="sentences or windows")
    add("--rate", type=above_zero, default=5e-3, help="learning rate of Adam at the start; it falls to 0 as a cosine")
    add("--seed", type=common.seed, default=0)
    add("--out", type=common.picture_folder, default="runs/fill_in_the_blank", help="folder of the picture")
    args = parser.parse_args()
    if args.window % 2 == 0:
        parser.error(f"--window: expected an odd number of characters, got {args.window}")
    if args.quick:
        args.steps, args.word_steps = max(args.steps // 5, 1), max(args.word_steps // 4, 1)
    return args


if __name__ == "__main__":
    common.run(main)
