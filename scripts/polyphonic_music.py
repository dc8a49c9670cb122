"""Polyphonic music: predict the next frame of a chorale from all before it, then compose one.

    python scripts/polyphonic_music.py --data DIR            # JSB_Chorales.mat in DIR: vanilla, LSTM and GRU in turn
    python scripts/polyphonic_music.py --quick               # chord progressions made here, nothing to download
    python scripts/polyphonic_music.py --compose 96 --cells lstm        # one more chorale by a model in --out

A frame says which of the 88 keys of a piano sound during a quarter note. The model gives every key of the next frame
a probability; its loss is the negative log likelihood, summed over the keys, in nats a frame. Two layers of 200 units,
dropout 0.2, global norm clipped at 1, forget bias 10 for the LSTM; the rate of Adam falls as a cosine, and the epoch
that is best on the validation pieces counts. Published: Bai, Kolter & Koltun (2018), table 1. A composed chorale
is written as a MIDI file and drawn as a piano roll.
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
from common import above_zero, positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Buckets, PaddedBatch, datasets

KEYS, LOWEST = 88, 21  # of a piano; the MIDI note of key 0
CELLS: dict[str, Any] = {
    "vanilla": rnn.VanillaRNN,
    "lstm": functools.partial(rnn.LSTM, forget_bias=10.0),
    "gru": rnn.GRU,
}
PUBLISHED = {"vanilla": 8.91, "lstm": 8.45, "gru": 8.43}
RATES = {"vanilla": 2e-3, "lstm": 2e-3, "gru": 1e-3}  # of 1e-3 to 1e-2 those that are best on the validation pieces
QUARTER, VOICES = 480, 4  # MIDI ticks; keys that sound at a time in what is composed


def main() -> None:
    args = arguments()
    common.needs("mido", "matplotlib")
    out = pathlib.Path(args.out)
    if args.compose_only:
        for kind in args.cells:
            common.load_run("polyphonic_music", out / kind)  # a run that is missing is said before the first is used
    pieces = progressions(args.seed) if args.quick else datasets.jsb_chorales(args.data)
    if args.compose_only:
        for kind in args.cells:
            write_chorale(out / kind, pieces, args)
        return
    began = time.monotonic()
    frames = ", ".join(f"{len(rolls)} pieces of {sum(map(len, rolls)):,} frames" for rolls in pieces.values())
    print(f"train, valid, test: {frames}")
    floor = unigram(pieces["train"], pieces["test"])
    print(f"each key by its frequency alone: {floor:.3f} nats a frame")

    measured = {kind: train(kind, pieces, args) for kind in args.cells}
    print(f"\n{'':9}{'test':>7}{'valid':>8}{'train':>8}{'published':>11}{'best epoch':>12}{'seconds':>9}")
    for kind, m in measured.items():
        published = "" if args.quick else PUBLISHED[kind]
        print(f"{kind:9}{m['test']:7.3f}{m['valid']:8.3f}{m['train']:8.3f}{published:>11}"
              f"{m['epoch']:12.0f}{m['seconds']:9.0f}")  # fmt: skip
    best = min(measured, key=lambda kind: measured[kind]["valid"])
    write_chorale(out / best, pieces, args)
    print(json.dumps({
        "script": "polyphonic_music", "data": "chord progressions" if args.quick else "JSB chorales",
        "unit": "nats a frame", "test": {kind: round(m["test"], 4) for kind, m in measured.items()},
        "published": None if args.quick else PUBLISHED, "unigram": round(floor, 4),
        "seconds": round(time.monotonic() - began, 1),
    }))  # fmt: skip


def build(kind: str, units: int, dropout: float) -> rnn.Stack:
    """Two recurrent layers, dropout above each, and a score for every key."""
    cell, drop = CELLS[kind], rnn.Dropout(dropout)
    return rnn.Stack(cell(KEYS, units), drop, cell(units, units), drop, rnn.Linear(units, KEYS))


def score(model: rnn.Stack, params: Any, batch: PaddedBatch, key: jax.Array | None = None) -> jax.Array:
    """Nats a frame of a batch of pieces."""
    frames, following = (jnp.asarray(a, jnp.float32) for a in batch[:2])
    lengths = jnp.asarray(batch.lengths)
    _, logits = rnn.unroll(model, params, frames, lengths=lengths, key=key)
    return rnn.losses.bernoulli(logits, following, lengths=lengths)


def batches(rolls: list[np.ndarray], batch: int, **options: Any) -> Buckets:
    """Pieces without their last frame, and without their first."""
    return Buckets([roll[:-1] for roll in rolls], [roll[1:] for roll in rolls], batch, aligned=True, **options)


def train(kind: str, pieces: dict[str, list[np.ndarray]], args: argparse.Namespace) -> dict[str, float]:
    """Train one model; the measures of its best epoch."""
    began = time.monotonic()
    out = common.run_folder(f"{args.out}/{kind}")
    model = build(kind, args.units, args.dropout)
    init_key, key = jax.random.split(jax.random.key(args.seed))
    params = model.init(init_key)
    train_batches = batches(pieces["train"], args.batch, buckets=args.buckets, seed=args.seed)
    whole = {split: batches(rolls, len(rolls), buckets=1, shuffle=False)[0] for split, rolls in pieces.items()}
    judge = jax.jit(functools.partial(score, model))
    steps = args.epochs * len(train_batches)
    rate = optax.cosine_decay_schedule(args.rate or RATES[kind], steps)
    print(f"\n{model}\n{sum(p.size for p in jax.tree.leaves(params)):,} parameters, {steps:,} steps")

    def loss(params, carry, batch, key):
        return score(model, params, batch, key), (carry, {})

    optimizer = optax.chain(optax.clip_by_global_norm(args.clip), optax.adam(rate))
    end = learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(params, optimizer),
        train_batches,
        steps=steps,
        key=key,
        evaluate=lambda params, step: {"loss": judge(params, whole["valid"])},
        evaluate_every=len(train_batches),
        patience=args.patience,
        checkpoints=learning.Checkpoints(out, model, keep=1),
        metadata={"script": "polyphonic_music"},
        log=out / "metrics.jsonl",
        format_metrics=lambda m: f"{m['loss']:.3f} nats a frame",
    )
    _, params, _ = learning.load_model(out)
    return {
        **{split: float(judge(params, batch)) for split, batch in whole.items()},
        "epoch": (end.best_step or 0) / len(train_batches),
        "seconds": time.monotonic() - began,
    }


def unigram(train: list[np.ndarray], test: list[np.ndarray]) -> float:
    """Nats a frame where every key has its frequency in the training pieces, a keyless one half a count."""
    counts, frames = sum(roll.sum(0, dtype=float) for roll in train), sum(map(len, train))
    p = (counts + 0.5) / (frames + 1)
    following = np.concatenate([roll[1:] for roll in test])
    return float(-(following * np.log(p) + (1 - following) * np.log(1 - p)).sum(-1).mean())


# ---- composing -----------------------------------------------------------------------------------------------------


def write_chorale(folder: pathlib.Path, pieces: dict[str, list[np.ndarray]], args: argparse.Namespace) -> None:
    """Let the model of a folder go on from the first frames of a test piece: a MIDI file and a picture."""
    model, params, _ = learning.load_model(folder)
    start = pieces["test"][args.piece % len(pieces["test"])][: args.start]
    roll = compose(model, params, start, args.compose, args.temperature, args.seed)
    midi, picture = folder / "chorale.mid", folder / "chorale.png"
    save_midi(roll, midi)
    draw(roll, len(start), picture, f"composed by {folder.name}, temperature {args.temperature:g}")
    print(f"{midi} and {picture} hold {args.compose} frames that follow {len(start)} of a test piece")


@functools.partial(jax.jit, static_argnames=("model", "steps"))
def compose(model: rnn.Stack, params: Any, start: jax.Array, steps: int, temperature: float, seed: int) -> jax.Array:
    """Go on after ``start [S, 88]``: ``[S + steps, 88]``.

    Drawn each by itself, keys make poor chords; so every frame has VOICES of them, drawn in proportion to the odds that
    the model gives them, ``exp(o_t / τ)``, none twice (the largest of scores with Gumbel noise).
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
    """Write a piano roll ``[T, 88]`` as a MIDI file; a key that goes on sounding is one long note."""
    import mido

    track, now = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(quarters_a_minute))]), 0
    for t, changes in enumerate(np.diff(np.pad(np.asarray(roll, int), ((1, 1), (0, 0))), axis=0)):
        for kind, change in (("note_off", -1), ("note_on", 1)):
            for key in np.flatnonzero(changes == change):
                track.append(mido.Message(kind, note=LOWEST + int(key), velocity=64, time=(t - now) * QUARTER))
                now = t
    mido.MidiFile(ticks_per_beat=QUARTER, tracks=[track]).save(path)


def draw(roll: np.ndarray, start: int, path: pathlib.Path, title: str) -> None:
    """The piano roll; what the model was given is paler."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    roll = np.asarray(roll)
    figure, axes = plt.subplots(figsize=(10, 3.8), layout="constrained")
    for part, colour in ((slice(0, start), rnn.plots.GREY), (slice(start, None), rnn.plots.BLUE)):
        t, key = np.nonzero(roll[part])
        axes.barh(LOWEST + key, 1, 0.9, left=t + part.start, color=colour)
    axes.axvline(start, color="black", lw=0.8, ls=":")
    axes.set(xlabel="frame [quarter notes]", ylabel="MIDI note (60 is middle C)", xlim=(0, len(roll)), title=title)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


# ---- music to learn without a download ------------------------------------------------------------------------------

FOLLOWS = {
    "I": ("IV", "V", "vi", "ii"),
    "ii": ("V",),
    "IV": ("V", "I", "ii"),
    "V": ("I", "I", "vi"),
    "vi": ("ii", "IV"),
}
ROOTS = {"I": 0, "ii": 2, "IV": 5, "V": 7, "vi": 9}


def progressions(seed: int, count: int = 96) -> dict[str, list[np.ndarray]]:
    """Made-up pieces in four voices: chords of a random major key, each held for two quarters, from I to I."""
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder with JSB_Chorales.mat; by default it is downloaded")
    add("--quick", action="store_true", help="learn made-up chord progressions instead, quickly, with 64 units")
    add("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    add("--units", type=positive, help="of each layer; default 200")
    add("--dropout", type=common.share, default=0.2, help="share dropped above each layer")
    add("--epochs", type=positive, help="most epochs; default 100")
    add("--patience", type=positive, default=15, help="epochs without a better one on validation pieces that end a run")
    add("--batch", type=positive, default=8, help="pieces")
    add("--buckets", type=positive, help="lengths that pieces are padded to; default 4")
    add("--rate", type=above_zero, help="learning rate of Adam at the start; default: the best of each cell")
    add("--clip", type=common.norm, default=1.0, help="largest norm of the gradient")
    add("--seed", type=common.seed, default=0)
    add("--out", type=common.folder, default="runs/polyphonic_music", help="folder of the runs")
    add("--compose", type=positive, metavar="N", help="quarter notes to compose; given, nothing is trained")
    add("--temperature", type=above_zero, default=0.7, help="below 1 the likely becomes likelier; above 0")
    add("--piece", type=int, default=0, help="the test piece whose first frames start the composition")
    add("--start", type=positive, default=8, help="how many of its frames, in quarter notes")
    args = parser.parse_args()
    args.compose_only = args.compose is not None
    chosen: dict[str, Any] = {"compose": 88, "units": 200, "epochs": 100, "buckets": 4, "rate": None}
    if args.quick:
        chosen |= {"units": 64, "epochs": 25, "buckets": 1, "rate": 1e-2}
    for name, value in chosen.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.start < 2:
        parser.error(f"--start: expected at least 2 frames, got {args.start}")
    return args


if __name__ == "__main__":
    common.run(main)
