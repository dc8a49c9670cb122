"""Find the names of people, places and firms in sentences, with and without a conditional random field (CRF).

    python scripts/tagger.py                     # 3 seeds, about 4 minutes
    python scripts/tagger.py --quick             # one seed, few steps
    python scripts/tagger.py --sentences 200     # the fewer sentences, the more the CRF helps

Many to many: a bidirectional LSTM reads a sentence letter by letter, and gives each letter a tag: O, or the first
(B) or a further letter (I) of a kind of name. Without a CRF each tag is chosen by itself; with one they are chosen
together, and I never follows O. The sentences are generated: names are invented syllables, those of the test are new,
and only the words around a name tell its kind. A name counts if its first letter, its last one and its kind are right
(F1 by span). A plot goes to ``--out``; the last line printed is the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import string
import time
from typing import Any

import common
import jax
import numpy as np
import optax
from common import above_zero, positive

import jaxrnn as rnn
from jaxrnn import learning, metrics
from jaxrnn.data import Buckets, Vocabulary, forbidden_transitions, spans

TAGS = Vocabulary(("O", *(f"{letter}-{kind}" for kind in ("person", "place", "firm") for letter in "BI")))
LETTERS = Vocabulary(("O", " ", ",", *string.ascii_lowercase))  # O stands for none of them
FORMS = (
    "{person} went to {place}",
    "{person} of {firm} met {person}",
    "{firm} sold {firm} to {person}",
    "in {place} it rains",
    "the boss of {firm} lives in {place}",
    "{person} and {person} left {place}",
    "from {place} to {place} by train",
    "{firm} hired {person}",
    "they say {person} owns {firm}",
    "{place} is far from {place}, says {person}",
    "{person}, born in {place}, joined {firm}",
)
SCORES = [metrics.span_f1(TAGS.symbols), metrics.span_precision(TAGS.symbols), metrics.span_recall(TAGS.symbols)]
Sentences = tuple[list[np.ndarray], list[np.ndarray]]  # ids of letters, and of their tags


def sentences(count: int, draw: np.random.Generator) -> Sentences:
    """Sentences of a random form with random names, of one word or two."""
    letters, tags = [], []
    for _ in range(count):
        text, names = "", []
        for literal, kind, *_ in string.Formatter().parse(FORMS[draw.integers(len(FORMS))]):
            text += literal
            if kind is not None:
                name = " ".join(word(draw) for _ in range(draw.integers(1, 3)))
                names.append((kind, len(text), len(name)))
                text += name
        letters.append(LETTERS.encode(text))
        tags.append(np.zeros(len(text), np.int32))
        for kind, start, length in names:
            tags[-1][start : start + length] = TAGS.id(f"I-{kind}")
            tags[-1][start] = TAGS.id(f"B-{kind}")
    return letters, tags


def word(draw: np.random.Generator) -> str:
    """One to three syllables."""
    return (
        "".join(draw.choice([*"bdfghklmnprstvw"]) + draw.choice([*"aeiou"]) for _ in range(draw.integers(1, 4))) + "n"
    )


def build(units: int) -> dict[str, Any]:
    """Two models with the same encoder, by name."""
    encoder = rnn.Stack(rnn.Embedding(len(LETTERS), 16), rnn.Bidirectional(rnn.LSTM(16, units)), rnn.Dropout(0.3))
    crf = rnn.tasks.CRF(len(TAGS), forbidden=forbidden_transitions(TAGS.symbols))
    return {
        "each by itself": rnn.Stack(encoder, rnn.Linear(2 * units, len(TAGS))),
        "CRF": rnn.tasks.Tagger(encoder, crf),
    }


def train(model: Any, batches: Buckets, test: Buckets, args: argparse.Namespace, seed: int) -> tuple[Any, dict]:
    """Train one model; its parameters and its scores on the test sentences."""
    has_crf = isinstance(model, rnn.tasks.Tagger)
    loss = learning.crf_loss(model) if has_crf else learning.tagging_loss(model)
    predict = learning.crf_outputs(model) if has_crf else learning.step_outputs(model)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(args.rate, args.steps))
    )
    init_key, key = jax.random.split(jax.random.key(seed))
    state = learning.train_state(model.init(init_key), optimizer)
    step = learning.train_step(loss, optimizer)
    end = learning.fit(step, state, batches, steps=args.steps, key=key, mesh=args.mesh)
    return end.state.params, learning.evaluate(predict, end.state.params, test, SCORES)


def probabilities(model: Any, params: Any, letters: np.ndarray) -> np.ndarray:
    """Of each tag at each letter of a sentence, ``[T, tags]``."""
    if isinstance(model, rnn.tasks.Tagger):
        return np.asarray(model.marginals(params, letters))
    return np.asarray(jax.nn.softmax(rnn.unroll(model, params, letters)[1]))


def main() -> None:
    args = arguments()
    common.require("matplotlib")
    out, began = common.run_folder(args.out), time.monotonic()
    models, results, trained = build(args.units), [], {}
    print(*models.values(), sep="\n")
    for seed in range(args.seed, args.seed + args.seeds):
        draw = np.random.default_rng(seed)
        letters, tags = sentences(args.sentences, draw)
        testing = sentences(args.test, draw)
        batches = Buckets(letters, tags, args.batch, buckets=1, seed=seed)
        test = Buckets(*testing, args.batch, buckets=1, shuffle=False)
        of_seed = {}
        for name, model in models.items():
            trained[name], found = train(model, batches, test, args, seed)
            of_seed[name] = {key.split("_")[1]: round(value, 4) for key, value in found.items()}
            words = ", ".join(f"{key} {value:.1%}" for key, value in of_seed[name].items())
            print(f"seed {seed}, {name}: {words}; {time.monotonic() - began:.0f} s", flush=True)
        results.append(of_seed)

    f1 = {name: np.array([of_seed[name]["f1"] for of_seed in results]) for name in models}
    print("F1 by span, mean of the seeds: " + ", ".join(f"{name} {scores.mean():.1%}" for name, scores in f1.items()))
    difference = f1["CRF"] - f1["each by itself"]
    if args.seeds > 1:
        print("the CRF gains {:.1%} ± {:.1%} (standard error)".format(*common.mean_and_error(difference)))
    shown = {name: probabilities(model, trained[name], testing[0][0]) for name, model in models.items()}
    draw_probabilities(shown, testing[0][0], testing[1][0], out / "tagger.png")
    means = {name: float(scores.mean()) for name, scores in f1.items()}
    result = {"script": "tagger", "sentences": args.sentences, "f1": means, "gain": float(difference.mean()),
              "seeds": results, "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    print(json.dumps(result))


def draw_probabilities(shown: dict[str, np.ndarray], letters: np.ndarray, tags: np.ndarray, path: pathlib.Path) -> None:
    """The probabilities of the tags at each letter of a sentence, one panel a model; the names are underlined."""
    figure, panels = common.subplots(len(shown), 1, figsize=(11, 5), sharex=True)
    for axes, (name, p) in zip(panels, shown.items()):
        image = axes.imshow(p.T, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        axes.set_yticks(range(len(TAGS)), TAGS.symbols)
        axes.set_title(name, loc="left")
        for _, start, stop in spans(TAGS.decode(tags)):
            axes.plot([start - 0.4, stop - 0.6], [len(TAGS) - 0.35] * 2, color=rnn.plots.RED, lw=3, clip_on=False)
    panels[-1].set_xticks(range(len(letters)), LETTERS.decode(letters))
    panels[-1].set_xlabel("letter; a red line: a name")
    figure.colorbar(image, ax=panels, label="probability of the tag")
    common.save_plot(figure, path)


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/tagger", "one seed, few steps: half a minute", plots=True)
    add = parser.add_argument
    add("--seeds", type=positive, default=3, quick=1, help="runs of each model, with other sentences and weights")
    add("--sentences", type=positive, default=400, quick=200, help="sentences to learn from")
    add("--test", type=positive, default=500, quick=200, help="test sentences")
    add("--steps", type=positive, default=200, quick=100, help="optimizer steps of each model")
    add("--batch", type=positive, default=32, help="sentences of an optimizer step")
    add("--units", type=positive, default=64, help="hidden size of each direction of the LSTM")
    add("--rate", type=above_zero, default=5e-3, help="initial learning rate of Adam, with cosine decay to 0")
    return parser.parse_args()


if __name__ == "__main__":
    common.run(main)
