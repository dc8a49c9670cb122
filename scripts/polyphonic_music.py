"""Polyphonic music: predict the next frame of a chorale from the previous ones, then compose one.

    python scripts/polyphonic_music.py --data DIR            # JSB_Chorales.mat in DIR: vanilla, LSTM and GRU in turn
    python scripts/polyphonic_music.py --quick               # invented chord progressions, no download
    python scripts/polyphonic_music.py --cells lstm lstm-peepholes lstm-coupled --seeds 3     # Greff et al. (2017)
    python scripts/polyphonic_music.py --compose 96 --cells lstm        # one more chorale by a model in --out

A frame is a binary vector of the 88 keys of a piano that sound during a quarter note. The model predicts a probability
for each key of the next frame; the loss is the negative log likelihood, summed over the keys, in nats a frame. Two
layers of 200 units, dropout 0.2, global norm clipped at 1, forget bias 10 for the LSTM, Adam with cosine decay. The
epoch that is best on the validation pieces counts. Published: Bai, Kolter & Koltun (2018), table 1. A composed chorale
is saved as a MIDI file and plotted as a piano roll.

Greff et al. (2017) compared variants of the LSTM: it is about as good without peepholes, and with coupled gates.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import time
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
import repeated
from common import above_zero, positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Buckets, PaddedBatch, datasets
from jaxrnn.learning.processes import is_main

KEYS, LOWEST = 88, 21  # of a piano; the MIDI note of key 0
CELLS: dict[str, Any] = {
    "vanilla": rnn.VanillaRNN,
    "lstm": functools.partial(rnn.LSTM, forget_bias=10.0),
    "gru": rnn.GRU,
    "lstm-peepholes": functools.partial(rnn.LSTM, forget_bias=10.0, peepholes="ifo"),
    "lstm-coupled": functools.partial(rnn.LSTM, forget_bias=1.0, peepholes="fo", coupled=True),
}
PUBLISHED = {"vanilla": 8.91, "lstm": 8.45, "gru": 8.43}
# Of 1e-3 to 1e-2, the best on the validation pieces
RATES = {"vanilla": 2e-3, "lstm": 2e-3, "gru": 1e-3, "lstm-peepholes": 2e-3, "lstm-coupled": 2e-3}
QUARTER, VOICES = 480, 4  # MIDI ticks; keys of a composed frame


def main() -> None:
    args = arguments()
    common.require("mido", "matplotlib")
    out = pathlib.Path(args.out)
    composers = {kind: load_composer(out / kind) for kind in args.cells} if args.compose is not None else {}
    pieces = progressions(args.seed) if args.quick else datasets.jsb_chorales(args.data)
    for kind, (model, params) in composers.items():
        write_chorale(model, params, args.compose, out / kind, pieces, args)
    if composers:
        return
    began = time.monotonic()
    frames = ", ".join(f"{len(rolls)} pieces of {sum(map(len, rolls)):,} frames" for rolls in pieces.values())
    print(f"train, valid, test: {frames}")
    floor = unigram(pieces["train"], pieces["test"])
    print(f"baseline, the frequency of each key: {floor:.3f} nats a frame")

    measured = repeated.runs(args, "cells", lambda kind, seed: train(kind, seed, pieces, args))
    columns = {"test": 3, "valid": 3, "train": 3, "epoch": 0, "seconds": 0}
    print(f"\n{'':15}" + "".join(f"{name:>16}" for name in columns) + f"{'published':>11}")
    for kind, runs in measured.items():
        cells = (repeated.mean_and_spread([m[name] for m in runs], digits) for name, digits in columns.items())
        published = "" if args.quick else PUBLISHED.get(kind, "")
        print(f"{kind:15}" + "".join(f"{cell:>16}" for cell in cells) + f"{published:>11}")
    best = min(measured, key=lambda kind: measured[kind][-1]["valid"])  # of the last seed, whose models are in --out
    write_chorale(*load_composer(out / best), 88, out / best, pieces, args)
    print(json.dumps({
        "script": "polyphonic_music", "data": "chord progressions" if args.quick else "JSB chorales",
        "unit": "nats a frame", "seeds": args.seeds,
        "test": {kind: round(float(np.mean([m["test"] for m in runs])), 4) for kind, runs in measured.items()},
        "published": None if args.quick else PUBLISHED, "unigram": round(floor, 4),
        "seconds": round(time.monotonic() - began, 1),
    }))  # fmt: skip


def build(kind: str, units: int, dropout: float, forget_bias: float | None = None) -> rnn.Stack:
    """Two recurrent layers, dropout above each, and a logit for every key."""
    cell, drop = CELLS[kind], rnn.Dropout(dropout)
    if forget_bias is not None and kind.startswith("lstm"):
        cell = functools.partial(cell, forget_bias=forget_bias)
    return rnn.Stack(cell(KEYS, units), drop, cell(units, units), drop, rnn.Linear(units, KEYS))


def negative_log_likelihood(
    model: rnn.Stack, params: Any, batch: PaddedBatch, key: jax.Array | None = None
) -> jax.Array:
    """Nats a frame over a batch of pieces."""
    frames, targets = (jnp.asarray(a, jnp.float32) for a in batch[:2])
    lengths = jnp.asarray(batch.lengths)
    _, logits = rnn.unroll(model, params, frames, lengths=lengths, key=key)
    return rnn.losses.bernoulli(logits, targets, lengths=lengths)


def batches(rolls: list[np.ndarray], batch: int, **options: Any) -> Buckets:
    """Inputs are pieces without their last frame, targets without their first."""
    return Buckets([roll[:-1] for roll in rolls], [roll[1:] for roll in rolls], batch, aligned=True, **options)


def train(kind: str, seed: int, pieces: dict[str, list[np.ndarray]], args: argparse.Namespace) -> dict[str, float]:
    """Train one model; return the losses of its best epoch."""
    began = time.monotonic()
    out = common.run_folder(f"{args.out}/{kind}")
    model = build(kind, args.units, args.dropout, args.forget_bias)
    init_key, key = jax.random.split(jax.random.key(seed))
    params = model.init(init_key)
    train_batches = batches(pieces["train"], args.batch, buckets=args.buckets, seed=seed)
    whole = {split: batches(rolls, len(rolls), buckets=1, shuffle=False)[0] for split, rolls in pieces.items()}
    evaluate = jax.jit(functools.partial(negative_log_likelihood, model))
    steps = args.epochs * len(train_batches)
    rate = optax.cosine_decay_schedule(args.rate or RATES[kind], steps)
    print()
    common.print_model(model, params)

    def loss(params, batch, key):
        return negative_log_likelihood(model, params, batch, key)

    optimizer = optax.chain(optax.clip_by_global_norm(args.clip), optax.adam(rate))
    end = learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(params, optimizer),
        train_batches,
        epochs=args.epochs,
        key=key,
        mesh=args.mesh,
        evaluate=lambda params: {"loss": evaluate(params, whole["valid"])},
        patience=args.patience,
        checkpoints=learning.Checkpoints(out, model, keep=1),
        metadata={"script": "polyphonic_music"},
        log=out / "metrics.jsonl",
        format_metrics=lambda m: f"{m['loss']:.3f} nats a frame",
    )
    return {
        **{split: float(evaluate(end.best_params, batch)) for split, batch in whole.items()},
        "epoch": (end.best_step or 0) / len(train_batches),
        "seconds": time.monotonic() - began,
    }


def unigram(train: list[np.ndarray], test: list[np.ndarray]) -> float:
    """Nats a frame if each key has the probability of its frequency in the training pieces, plus half a count."""
    counts, frames = sum(roll.sum(0, dtype=float) for roll in train), sum(map(len, train))
    p = (counts + 0.5) / (frames + 1)
    targets = np.concatenate([roll[1:] for roll in test])
    return float(-(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum(-1).mean())


# ---- composing -----------------------------------------------------------------------------------------------------


def load_composer(folder: pathlib.Path) -> tuple[Any, Any]:
    """Model and parameters of a run."""
    model, params, _ = common.load_run("polyphonic_music", folder)
    return model, params


def write_chorale(
    model: rnn.Stack, params: Any, count: int, folder: pathlib.Path, pieces: dict[str, list[np.ndarray]],
    args: argparse.Namespace,
) -> None:  # fmt: skip
    """Continue the first frames of a test piece: a MIDI file and a plot."""
    start = pieces["test"][args.piece % len(pieces["test"])][: args.start]
    roll = compose(model, params, start, count, args.temperature, args.seed)
    if is_main():
        save_midi(roll, folder / "chorale.mid")
    draw(roll, len(start), folder / "chorale.png", f"composed by {folder.name}, temperature {args.temperature:g}")
    print(f"{folder / 'chorale.mid'} has {count} frames after the first {len(start)} of a test piece")


@functools.partial(jax.jit, static_argnames=("model", "steps"))
def compose(model: rnn.Stack, params: Any, start: jax.Array, steps: int, temperature: float, seed: int) -> jax.Array:
    """Continue ``start [S, 88]``: ``[S + steps, 88]``.

    Independent keys make poor chords, so every frame has VOICES keys, sampled without replacement in proportion to
    ``exp(logit / temperature)`` (Gumbel top-k).
    """
    start = jnp.asarray(start, jnp.float32)
    state, _ = rnn.unroll(model, params, start[:-1])

    def body(carry, key):
        state, frame = carry
        state, logits = model.step(params, state, frame)
        _, keys = jax.lax.top_k(logits / temperature + jax.random.gumbel(key, logits.shape), VOICES)
        frame = jnp.zeros(KEYS).at[keys].set(1)
        return (state, frame), frame

    _, frames = jax.lax.scan(body, (state, start[-1]), jax.random.split(jax.random.key(seed), steps))
    return jnp.concatenate([start, frames])


def save_midi(roll: np.ndarray, path: pathlib.Path, quarters_a_minute: float = 80) -> None:
    """Write a piano roll ``[T, 88]`` as a MIDI file; a key in successive frames is one long note."""
    import mido

    track, now = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(quarters_a_minute))]), 0
    for t, changes in enumerate(np.diff(np.pad(np.asarray(roll, int), ((1, 1), (0, 0))), axis=0)):
        for kind, change in (("note_off", -1), ("note_on", 1)):
            for key in np.flatnonzero(changes == change):
                track.append(mido.Message(kind, note=LOWEST + int(key), velocity=64, time=(t - now) * QUARTER))
                now = t
    mido.MidiFile(ticks_per_beat=QUARTER, tracks=[track]).save(path)


def draw(roll: np.ndarray, start: int, path: pathlib.Path, title: str) -> None:
    """Plot a piano roll; the first ``start`` frames, which were given, are grey."""
    roll = np.asarray(roll)
    figure, axes = common.subplots(figsize=(10, 3.8))
    for part, colour in ((slice(0, start), rnn.plots.GREY), (slice(start, None), rnn.plots.BLUE)):
        t, key = np.nonzero(roll[part])
        axes.barh(LOWEST + key, 1, 0.9, left=t + part.start, color=colour)
    axes.axvline(start, color="black", lw=0.8, ls=":")
    axes.set(xlabel="frame [quarter notes]", ylabel="MIDI note (60 is middle C)", xlim=(0, len(roll)), title=title)
    axes.grid(alpha=0.3)
    common.save_plot(figure, path)


# ---- invented music -------------------------------------------------------------------------------------------------

FOLLOWS = {
    "I": ("IV", "V", "vi", "ii"),
    "ii": ("V",),
    "IV": ("V", "I", "ii"),
    "V": ("I", "I", "vi"),
    "vi": ("ii", "IV"),
}
ROOTS = {"I": 0, "ii": 2, "IV": 5, "V": 7, "vi": 9}


def progressions(seed: int, count: int = 96) -> dict[str, list[np.ndarray]]:
    """Invented pieces in four voices: chords of a random major key, each two quarter notes long, from I to I."""
    draw = np.random.default_rng(seed)
    rolls = [progression(draw) for _ in range(count)]
    a, b = count * 2 // 3, count * 5 // 6
    return {"train": rolls[:a], "valid": rolls[a:b], "test": rolls[b:]}


def progression(draw: np.random.Generator) -> np.ndarray:
    tonic, chord, roll = int(draw.integers(12)), "I", []
    for left in range(int(draw.integers(8, 16)), -1, -1):
        chord = "I" if left == 0 else chord
        root = tonic + ROOTS[chord]
        triad = root + np.array([0, 3 if chord.islower() else 4, 7])
        frame = np.zeros(KEYS, np.uint8)
        frame[[36 - LOWEST + root % 12, *(60 - LOWEST + triad % 12)]] = 1  # the bass has the root
        roll += [frame, frame]
        chord = str(draw.choice(FOLLOWS[chord]))
    return np.array(roll)


def arguments() -> argparse.Namespace:
    parser = common.Parser(
        __doc__, "runs/polyphonic_music", "invented chord progressions, small models", data_free=True
    )
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder with JSB_Chorales.mat (default: downloaded once)")
    add("--cells", nargs="+", choices=CELLS, default=list(PUBLISHED),
        help=f"cells to train, of {', '.join(CELLS)}")  # fmt: skip
    add("--units", type=positive, default=200, quick=128, help="hidden size of each layer")
    add("--forget-bias", type=common.finite,
        help="forget bias of an LSTM at the start (default: 10; with coupled gates 1)")  # fmt: skip
    add("--dropout", type=common.rate, default=0.2, help="dropout rate above each layer")
    add("--epochs", type=positive, default=100, quick=30, help="most epochs")
    add("--patience", type=positive, default=15, help="epochs without a better validation loss that end a run")
    add("--batch", type=positive, default=8, help="pieces of an optimizer step")
    add("--buckets", type=positive, default=4, quick=1, help="lengths to which pieces are padded")
    shown = ", ".join(f"{kind} {rate:g}" for kind, rate in RATES.items())
    add("--rate", type=above_zero, quick=2e-2,
        help=f"initial learning rate of Adam, cosine decay to 0 (default: {shown}, with --quick 0.02)")  # fmt: skip
    add("--clip", type=common.norm, default=1.0, help="largest norm of the gradient")
    add("--compose", type=positive, metavar="N", help="compose N quarter notes by the models in --out; no training")
    add("--temperature", type=above_zero, default=0.7, help="temperature of sampling")
    add("--piece", type=int, default=0, help="number of the test piece whose first frames are continued")
    add("--start", type=positive, default=8, help="how many of its frames, in quarter notes")
    repeated.add_options(parser, seeds=1)
    args = parser.parse_args()
    if args.start < 2:
        parser.error(f"--start: expected at least 2 frames, got {args.start}")
    return args


if __name__ == "__main__":
    common.run(main)
