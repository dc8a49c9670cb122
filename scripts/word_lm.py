"""The word language models of Zaremba, Sutskever & Vinyals (2014), small, medium and large.

    python scripts/word_lm.py --data DIR                  # DIR has ptb.train.txt, ptb.valid.txt, ptb.test.txt
    python scripts/word_lm.py --data FILE --epochs 3      # any text: the last two twentieths are validation and test
    python scripts/word_lm.py --quick                     # the prose of Python's language reference

Every epoch prints the validation perplexity, the end also the published ones, which are those of Penn Treebank.
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
from jaxrnn.data import Chunk, Streams, Vocabulary, python_reference

BATCH = 20


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One column of the paper's section 4.1; every parameter starts uniform on ±scale, the forget bias is 0."""

    width: int
    steps: int
    dropout: float
    scale: float
    epochs: int
    full_epochs: int  # epochs at learning rate 1, before it is divided in every epoch
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
    """Perplexity of a text read as ``batch`` streams; with one stream, the last incomplete chunk is included."""
    loss = learning.stream_loss(model)
    streams = Streams(ids, batch, steps)
    carry, nats = _mean_loss(loss, params, model.initial_state((batch,)), streams.epoch())
    done = len(streams) * steps
    rest = len(ids) - 1 - done
    if batch == 1 and rest:
        tail = Chunk(ids[done:-1, None], ids[done + 1 :, None], np.asarray(False), None)
        last = jax.jit(loss)(params, carry, tail, None)[0]
        nats = (nats * done + last * rest) / (done + rest)
    return math.exp(nats)


_mean_loss = jax.jit(learning.mean_loss, static_argnums=0)


def main() -> None:
    args = arguments()
    recipe = RECIPES[args.size]
    texts = split(python_reference().split()) if args.quick else read(pathlib.Path(args.data))
    check_lengths(texts, recipe.steps, args)
    vocabulary = Vocabulary.of(texts[0], most=10_000, unknown="<unk>")
    train, valid, test = map(vocabulary.encode, texts)
    streams = Streams(train, BATCH, recipe.steps)
    out = common.run_folder(args.out, resume=args.resume)
    model, loss, optimizer = build(recipe, len(vocabulary), len(streams))
    init_key, key = jax.random.split(jax.random.key(args.seed))
    params = model.init(init_key)
    common.print_model(model, params)
    print(f"{len(vocabulary):,} words, {len(train):,} + {len(valid):,} + {len(test):,} tokens, "
          f"{len(streams)} steps an epoch")  # fmt: skip

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
        mesh=args.mesh,
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
    return split(words(path))


def split(text: list[str]) -> list[list[str]]:
    """18, 1 and 1 twentieths of a text."""
    a, b = len(text) * 18 // 20, len(text) * 19 // 20
    return [text[:a], text[a:b], text[b:]]


def words(file: pathlib.Path) -> list[str]:
    """The words of a file."""
    return common.read_text("--data", file).replace("\n", " <eos> ").split()


def check_lengths(texts: list[list[str]], steps: int, args: argparse.Namespace) -> None:
    """Refuse texts shorter than a chunk: training and validation are read as BATCH streams, the test as one."""
    for name, text, batch in zip(("training", "validation", "test"), texts, (BATCH, BATCH, 1)):
        if len(text) <= batch * steps:
            common.refuse(f"--data: expected more than {batch * steps:,} words of {name} text for --size {args.size}, "
                          f"{batch} x {steps} a chunk, got {len(text):,}; a text in one file needs "
                          f"{20 * (BATCH * steps + 1):,} words in all")  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/word_lm", "two epochs of a text that needs no download", data_free=True,
                           batch=BATCH)  # fmt: skip
    add = parser.add_argument
    add("--data", metavar="PATH", help="folder with the Penn Treebank files, or a text file")
    add("--size", choices=RECIPES, default="small", help="the model of the paper")
    add("--epochs", type=positive, quick=2, help="epochs to train (default: those of the paper, with --quick 2)")
    add("--resume", action="store_true", help="continue the run in --out")
    args = parser.parse_args()
    if args.data is None and not args.quick:
        parser.error("--data: expected a folder or a text file, got none; --quick needs none")
    return args


if __name__ == "__main__":
    common.run(main)
