"""The word language models of Zaremba, Sutskever & Vinyals (2014), small, medium and large.

    python scripts/word_lm.py --data DIR                  # DIR holds ptb.train.txt, ptb.valid.txt, ptb.test.txt
    python scripts/word_lm.py --data FILE --epochs 3      # any text: its last two twentieths validate and test

Every epoch prints perplexities; at the end they stand beside the published ones, which are those of Penn Treebank.
The gradient is that of the cross entropy summed over time and averaged over the batch; its global norm is clipped.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
import time

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Chunk, Streams, Vocabulary

BATCH = 20


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One column of the paper's section 4.1; every parameter starts uniform on ±scale, the forget bias is 0."""

    width: int
    steps: int
    dropout: float
    scale: float
    epochs: int
    full_epochs: int  # epochs at learning rate 1, after which it is divided every epoch
    divisor: float
    clip: float
    published: str


RECIPES = {
    "small": Recipe(200, 20, 0.0, 0.1, 13, 4, 2.0, 5.0, "120.7 valid, 114.5 test"),
    "medium": Recipe(650, 35, 0.5, 0.05, 39, 6, 1.2, 5.0, "86.2 valid, 82.7 test"),
    "large": Recipe(1500, 35, 0.65, 0.04, 55, 14, 1.15, 10.0, "82.2 valid, 78.4 test"),
}


def build(recipe: Recipe, words: int, steps_per_epoch: int):
    """The model, its loss on a chunk, and the optimizer."""
    model = rnn.Stack(
        rnn.Embedding(words, recipe.width),
        rnn.Dropout(recipe.dropout),
        rnn.LSTM(recipe.width, recipe.width, forget_bias=0.0),
        rnn.Dropout(recipe.dropout),
        rnn.LSTM(recipe.width, recipe.width, forget_bias=0.0),
        rnn.Dropout(recipe.dropout),
        rnn.Linear(recipe.width, words),
    )
    model = rnn.initializers.everywhere(model, rnn.initializers.uniform(recipe.scale))

    def rate(step):
        return recipe.divisor ** -jnp.maximum(step // steps_per_epoch + 1.0 - recipe.full_epochs, 0.0)

    optimizer = optax.chain(optax.clip_by_global_norm(recipe.clip), optax.sgd(rate))
    return model, learning.stream_loss(model, mean="time_sum"), optimizer


def perplexity(model, params, ids: np.ndarray, batch: int, steps: int) -> float:
    """Perplexity of a text read as ``batch`` streams; of one stream every word counts, the last few as well."""
    loss = learning.stream_loss(model)
    streams = Streams(ids, batch, steps)
    carry, nats = _mean_loss(loss, params, model.initial_state((batch,)), streams.epoch())
    seen = len(streams) * steps
    left = len(ids) - 1 - seen
    if batch == 1 and left:
        tail = Chunk(ids[seen:-1, None], ids[seen + 1 :, None], np.asarray(False), None)
        last = jax.jit(loss)(params, carry, tail, None)[0]
        nats = (nats * seen + last * left) / (seen + left)
    return math.exp(nats)


_mean_loss = jax.jit(learning.mean_loss, static_argnums=0)


def main() -> None:
    args = arguments()
    recipe = RECIPES[args.size]
    texts = read(pathlib.Path(args.data))
    check_lengths(texts, recipe.steps, args)
    vocabulary = Vocabulary.of(texts[0], most=10_000, unknown="<unk>")
    train, valid, test = map(vocabulary.encode, texts)
    streams = Streams(train, BATCH, recipe.steps)
    out = common.run_folder(args.out, resume=args.resume)
    model, loss, optimizer = build(recipe, len(vocabulary), len(streams))
    init_key, key = jax.random.split(jax.random.key(args.seed))
    params = model.init(init_key)
    print(f"{model}\n{sum(p.size for p in jax.tree.leaves(params)):,} parameters; {len(vocabulary):,} words, "
          f"{len(train):,} + {len(valid):,} + {len(test):,} tokens, {len(streams)} steps an epoch")  # fmt: skip

    def evaluate(params, step):
        return {"loss": math.log(perplexity(model, params, valid, BATCH, recipe.steps))}

    epochs = args.epochs or recipe.epochs
    began = time.monotonic()
    end = learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(params, optimizer, carry=model.initial_state((BATCH,))),
        streams,
        steps=epochs * len(streams),
        key=key,
        evaluate=evaluate,
        evaluate_every=len(streams),
        checkpoints=learning.Checkpoints(out, model, keep=1),
        metadata={
            "script": "word_lm",
            "text": common.fingerprint(*map(" ".join, texts)),
            "symbols": vocabulary.symbols,
            "unknown": vocabulary.unknown,
            "size": args.size,
            "seed": args.seed,
        },
        log=out / "metrics.jsonl",
        resume=args.resume,
        format_metrics=lambda m: f"perplexity {math.exp(m['loss'] / (recipe.steps if 'grad_norm' in m else 1)):.2f}",
    )
    speed = int(end.state.step) * BATCH * recipe.steps / (time.monotonic() - began)
    measured = [perplexity(model, end.state.params, train[: len(valid)], BATCH, recipe.steps),
                perplexity(model, end.state.params, valid, 1, recipe.steps),
                perplexity(model, end.state.params, test, 1, recipe.steps)]  # fmt: skip
    print("perplexity: {:.2f} train (first part), {:.2f} valid, {:.2f} test".format(*measured))
    print(f"published on Penn Treebank, {RECIPES[args.size].epochs} epochs: {recipe.published}")
    print(f"{epochs} epochs, {speed:,.0f} tokens a second, validation included")


def read(path: pathlib.Path) -> list[list[str]]:
    """Words of the training, validation and test text; the end of a line is the word <eos>."""
    if path.is_dir():
        files = [path / f"ptb.{part}.txt" for part in ("train", "valid", "test")]
        missing = [file.name for file in files if not file.exists()]
        if missing:
            common.refuse(f"--data: expected {', '.join(file.name for file in files)} in {path}, got no {missing[0]}")
        return [words(file) for file in files]
    if not path.exists():
        common.refuse(f"--data: expected a folder with the Penn Treebank files or a text file, got no {path}")
    found = words(path)
    a, b = len(found) * 18 // 20, len(found) * 19 // 20
    return [found[:a], found[a:b], found[b:]]


def words(file: pathlib.Path) -> list[str]:
    """The words of a file."""
    return common.read_text("--data", file).replace("\n", " <eos> ").split()


def check_lengths(texts: list[list[str]], steps: int, args: argparse.Namespace) -> None:
    """Training and validation are read as BATCH streams in chunks of some steps, the test as one stream."""
    for name, text, batch in zip(("training", "validation", "test"), texts, (BATCH, BATCH, 1)):
        if len(text) <= batch * steps:
            common.refuse(f"--data: expected more than {batch * steps:,} words of {name} text for --size {args.size}, "
                          f"{batch} x {steps} a chunk, got {len(text):,}; a text in one file needs "
                          f"{20 * (BATCH * steps + 1):,} words in all")  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="PATH", help="folder with the ptb files, or a text file")
    parser.add_argument("--size", choices=RECIPES, default="small")
    parser.add_argument("--epochs", type=positive, help="default: those of the paper")
    parser.add_argument("--seed", type=common.seed, default=0)
    parser.add_argument("--out", type=common.folder, default="runs/word_lm", help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    return parser.parse_args()


if __name__ == "__main__":
    common.run(main)
