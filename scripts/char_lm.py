"""Train a character-level language model and sample text from it.

    python scripts/char_lm.py                       # the prose of Python's language reference, about a minute
    python scripts/char_lm.py --text FILE           # any UTF-8 text
    python scripts/char_lm.py --sample 500 --temperature 0.7 --prompt "The "

Checkpoints, the metrics of every step and the loss curve go to ``--out``; ``--resume`` continues a run on the same text
with the same settings.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import textwrap
import time

import common
import jax
import optax
from common import CELLS, above_zero, not_negative, positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Streams, Vocabulary, python_reference


def main() -> None:
    args = arguments()
    if args.sample is None:
        train(args)
    else:
        model, params, metadata = common.load_run("char_lm", args.out, "symbols")
        vocabulary = Vocabulary(tuple(metadata["symbols"]))
        common.check_symbols("--prompt", args.prompt, vocabulary)
        print(write(model, params, vocabulary, args.sample, args))


def train(args: argparse.Namespace) -> None:
    began = time.monotonic()
    common.require("matplotlib")
    text = python_reference() if args.text is None else common.read_text("--text", args.text)
    vocabulary = Vocabulary.of(text)
    ids = vocabulary.encode(text)
    if len(ids) // 10 <= args.batch * args.length:
        least = 10 * args.batch * args.length + 10
        common.refuse(f"--text: expected at least {least:,} characters for --batch {args.batch} --length {args.length},"
                      f" got {len(ids):,}; a longer text, or a smaller --batch or --length")  # fmt: skip
    common.check_symbols("--prompt", args.prompt, vocabulary)
    out = common.run_folder(args.out, resume=args.resume)
    cut = len(ids) - len(ids) // 10  # the last tenth is for validation
    streams, held_out = (Streams(part, args.batch, args.length) for part in (ids[:cut], ids[cut:]))

    widths = [args.embedding] + [args.width] * args.layers
    layers = [
        part for a, b in itertools.pairwise(widths) for part in (CELLS[args.cell](a, b), rnn.Dropout(args.dropout))
    ]
    model = rnn.Stack(rnn.Embedding(len(vocabulary), args.embedding), *layers, rnn.Linear(args.width, len(vocabulary)))
    init_key, key = jax.random.split(jax.random.key(args.seed))
    params = model.init(init_key)
    common.print_model(model, params)
    epochs = args.steps / len(streams)
    print(f"{len(ids):,} characters, {len(vocabulary)} symbols; {args.steps} steps are {epochs:.1f} epochs")

    loss = learning.stream_loss(model)
    rate = optax.cosine_decay_schedule(args.rate, args.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(args.clip), optax.adam(rate))
    start = model.initial_state((args.batch,))
    chunks = learning.shard_batch(held_out.epoch(), args.mesh, stacked=True)
    validate = jax.jit(lambda params, chunks: learning.mean_loss(loss, params, start, chunks)[1])

    def evaluate(params, step):
        sample = write(model, params, vocabulary, args.sample_length, args)
        lines = [textwrap.fill(line, 100) for line in sample.splitlines()]
        return {"loss": validate(params, chunks), "sample": "\n".join(["-" * 80, *lines, "-" * 80])}

    metadata = {"script": "char_lm", "text": common.fingerprint(text), "symbols": vocabulary.symbols}
    metadata |= {name: getattr(args, name) for name in ("length", "batch", "rate", "clip", "seed")}
    end = learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(params, optimizer, carry=start),
        streams,
        steps=args.steps,
        key=key,
        mesh=args.mesh,
        evaluate=evaluate,
        evaluate_every=args.evaluate_every or max(args.steps // 5, 1),
        checkpoints=learning.Checkpoints(out, model),
        metadata=metadata,
        log=out / "metrics.jsonl",
        resume=args.resume,
        format_metrics=lambda m: f"loss {m['loss']:.3f} nats = {m['loss'] / math.log(2):.3f} bits a character",
    )
    common.draw_loss(out, args.clip, "character", "Character language model")
    best = "no evaluation had a finite loss"
    if end.best is not None:
        best = f"best validation loss {end.best:.3f} nats a character at step {end.best_step}"
    print(f"{best}; {time.monotonic() - began:.0f} s in all")
    print(f"model, metrics and {out / 'loss.png'} are saved; python scripts/char_lm.py --sample 500 --out {args.out}")


def write(model, params, vocabulary: Vocabulary, length: int, args: argparse.Namespace) -> str:
    """The prompt and its continuation by the model; without a prompt, a new paragraph."""
    prompt = vocabulary.encode(args.prompt or ("\n\n" if "\n" in vocabulary.symbols else vocabulary.symbols[0]))
    return args.prompt + "".join(vocabulary.decode(_write(model, params, prompt, length, args.temperature, args.seed)))


@functools.partial(jax.jit, static_argnames=("model", "length"))
def _write(model, params, prompt, length, temperature, seed):
    state, _ = rnn.unroll(model, params, prompt[:-1])
    key = jax.random.key(seed)
    return rnn.decoding.sample(model, params, state, prompt[-1], steps=length, key=key, temperature=temperature)[1]


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/char_lm", "a small model and few steps: 10 seconds")
    add = parser.add_argument
    add("--text", metavar="FILE", help="UTF-8 text to learn (default: the prose of Python's language reference)")
    add("--cell", choices=CELLS, default="lstm", help="cell of each layer")
    add("--layers", type=positive, default=1, help="recurrent layers")
    add("--width", type=positive, default=256, quick=128, help="hidden size of a layer")
    add("--embedding", type=positive, default=64, help="embedding size of a character")
    add("--dropout", type=common.rate, default=0.0, help="dropout rate above each layer")
    add("--length", type=positive, default=64, help="characters of a chunk, over which the gradient is propagated")
    add("--batch", type=positive, default=32, help="streams read in parallel")
    add("--steps", type=positive, default=1200, quick=400, help="optimizer steps")
    add("--rate", type=above_zero, default=3e-3, help="initial learning rate of Adam, with cosine decay to 0")
    add("--clip", type=common.norm, default=1.0, help="largest norm of the gradient")
    add("--evaluate-every", type=positive, metavar="STEPS", help="default: a fifth of all steps")
    add("--resume", action="store_true", help="continue the run in --out")
    add("--sample", type=positive, metavar="N", help="sample N characters from the model in --out instead of training")
    add("--sample-length", type=positive, default=300, metavar="N", help="characters sampled at each evaluation")
    add("--temperature", type=not_negative, default=0.5, help="temperature of sampling; 0 is greedy")
    add("--prompt", default="", help="text to continue (default: the start of a paragraph)")
    return parser.parse_args()


if __name__ == "__main__":
    common.run(main)
