"""A decision between two alternatives by a leaky rate network: its psychometric curve (Song, Yang & Wang 2016).

    python scripts/decision.py                       # 3 seeds
    python scripts/decision.py --quick               # a smaller network, one seed
    python scripts/decision.py --cells leaky gru --seeds 5 --resume

A trial begins with fixation; then two noisy inputs are shown, whose means differ by the coherence; after the signal to
fixate is gone the network chooses the larger one. Noise is drawn at every step, in the inputs and in the network, so a
good network sums its evidence over time. An observer without noise that sums all of it is the best there can be: the
plot shows it beside the network's choices. A step is 20 ms; the leaky network has time constants of 100 ms, α = 0.2.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import pathlib
import time
from typing import Any

import common
import jax
import numpy as np
import optax
import repeated
from common import above_zero, positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import trials
from jaxrnn.types import Array

COHERENCES = (0.0, 0.032, 0.064, 0.128, 0.256, 0.512)
LEVELS = [-c for c in COHERENCES[:0:-1]] + list(COHERENCES)  # towards choice 2, and towards choice 1
FIXATE, CLASSES, BATCH = 0, 3, 1000  # the class of waiting; classes; trials tested at a time
DT = 20.0  # ms a step
CELLS = ["leaky", *common.CELLS]


def main() -> None:
    args = arguments()
    common.require("matplotlib")
    began = time.monotonic()
    results = repeated.runs(args, "cells", lambda kind, seed: train(kind, seed, args))
    ideal = [ideal_observer(c, args) for c in COHERENCES[1:]]
    print(
        f"\n{'coherence':>10}{'ideal':>9}" + "".join(f"{kind:>17}" for kind in args.cells) + "   % of choices correct"
    )
    for n, c in enumerate(COHERENCES[1:]):
        row = (repeated.mean_and_spread([100 * accuracy(run)[n] for run in results[kind]], 1) for kind in args.cells)
        print(f"{c:>10.1%}{100 * ideal[n]:>9.1f}" + "".join(f"{text:>17}" for text in row))
    for kind, runs in results.items():
        held = repeated.mean_and_spread([100 * run["fixation held"] for run in runs], 1)
        print(f"{kind}: waits until the signal in {held} % of trials")
    draw(results, args)
    print(json.dumps({
        "script": "decision", "unit": "share of correct choices", "seeds": args.seeds, "coherences": COHERENCES[1:],
        "accuracy": {kind: np.mean([accuracy(run) for run in runs], 0).round(4).tolist()
                     for kind, runs in results.items()},
        "ideal": np.round(ideal, 4).tolist(), "seconds": round(time.monotonic() - began, 1),
    }))  # fmt: skip


def build(kind: str, args: argparse.Namespace) -> rnn.Stack:
    """A recurrent layer, and a logit for waiting and for each choice."""
    if kind == "leaky":
        cell = rnn.LeakyRNN(3, args.units, alpha=args.alpha, noise=args.noise)
    else:
        cell = common.CELLS[kind](3, args.units)
    return rnn.Stack(cell, rnn.Linear(args.units, CLASSES))


def draw_trials(key: Array, batch: int, args: argparse.Namespace) -> trials.Trials:
    """New trials, with noise of standard deviation 1 in each input at each step."""
    fifth = args.length // 5 * DT
    return trials.decision(key, batch, dt=DT, fixation=fifth, stimulus=3 * fifth, response=fifth, coherences=COHERENCES,
                           noise=(DT / 1000) ** 0.5)  # fmt: skip


def train(kind: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train a network; return its choices in new trials, by level of coherence."""
    began = time.monotonic()
    model = build(kind, args)
    init_key, data_key, key, test_key = jax.random.split(jax.random.key(seed), 4)

    def loss(params, carry, batch, key):
        _, logits = rnn.unroll(model, params, batch.inputs, key=key)
        return rnn.losses.cross_entropy(logits, batch.targets, mask=batch.mask), (carry, {})

    rate = optax.cosine_decay_schedule(args.rate, args.steps)  # at a constant one, the bias of the choices wanders
    optimizer = optax.chain(optax.clip_by_global_norm(args.clip), optax.adam(rate))
    step = learning.train_step(loss, optimizer)

    @functools.partial(jax.jit, donate_argnums=0)
    def advance(state):
        def body(state, _):
            trials_key = jax.random.fold_in(data_key, state.step)  # not of key, from which the noise is drawn
            state, metrics = step(state, draw_trials(trials_key, args.batch, args), key)
            return state, metrics["loss"]

        return jax.lax.scan(body, state, length=args.steps // 20)

    state = learning.train_state(model.init(init_key), optimizer)
    for _ in range(20):
        state, losses = advance(state)
        print(f"{kind:8} seed {seed}  step {int(state.step):>6,}  loss {float(losses.mean()):.4f}"
              f"  {time.monotonic() - began:4.0f} s", flush=True)  # fmt: skip

    def answer(key):
        trials_key, network_key = jax.random.split(key)
        batch = draw_trials(trials_key, BATCH, args)
        _, logits = rnn.unroll(model, state.params, batch.inputs, key=network_key)
        waits = (logits.argmax(-1) == FIXATE) | (batch.targets != FIXATE)
        return batch.conditions["coherence"], logits[-1, :, 1] > logits[-1, :, 2], waits.all(0)

    keys = jax.random.split(test_key, -(-args.trials // BATCH))
    coherence, first, waits = (np.asarray(x).ravel() for x in jax.jit(functools.partial(jax.lax.map, answer))(keys))
    levels = [level == coherence for level in np.array(LEVELS, np.float32)]
    return {
        "trials": [int(at.sum()) for at in levels],
        "choice 1": [int(first[at].sum()) for at in levels],
        "fixation held": float(waits.mean()),
        "seconds": round(time.monotonic() - began, 1),
    }


def shares(run: dict[str, Any]) -> np.ndarray:
    """Of the trials of each level of coherence, the share of choice 1."""
    return np.array(run["choice 1"]) / run["trials"]


def accuracy(run: dict[str, Any]) -> np.ndarray:
    """Share of correct choices for each size of the coherence above 0."""
    towards_2, towards_1 = np.split(np.delete(shares(run), len(COHERENCES) - 1), 2)
    return (towards_1 + 1 - towards_2[::-1]) / 2


def ideal_observer(coherence: float, args: argparse.Namespace) -> float:
    """Probability of choice 1 by the sign of the summed difference of n pairs of inputs: Φ(√n c / √2)."""
    shown = 3 * (args.length // 5)
    return (1 + math.erf(shown**0.5 * coherence / 2)) / 2


def draw(results: dict[str, list[dict[str, Any]]], args: argparse.Namespace) -> None:
    """Plot the share of choice 1 over the coherence, with the standard error over all trials and over the seeds."""
    figure, axes = common.subplots(figsize=(6.4, 4.4))
    fine = np.linspace(-COHERENCES[-1], COHERENCES[-1], 400)
    axes.plot(100 * fine, [100 * ideal_observer(c, args) for c in fine], color="black", lw=1, label="ideal observer")
    for (kind, runs), colour in zip(results.items(), rnn.plots.COLOURS):
        chosen, tried = np.sum([run["choice 1"] for run in runs], 0), np.sum([run["trials"] for run in runs], 0)
        share = chosen / tried
        error = np.sqrt(share * (1 - share) / tried)  # of independent trials
        if len(runs) > 1:
            error = np.maximum(error, np.std([shares(run) for run in runs], 0, ddof=1) / len(runs) ** 0.5)
        axes.errorbar(100 * np.array(LEVELS), 100 * share, 100 * error, fmt="o", ms=4, capsize=3, color=colour,
                      label=f"{kind}, {len(runs)} × {int(tried.mean()) // len(runs):,} trials a point")  # fmt: skip
    axes.axhline(50, color="black", lw=0.6, ls=":")
    axes.axvline(0, color="black", lw=0.6, ls=":")
    axes.set(xlabel="coherence, towards choice 1 [%]", ylabel="choice 1 [% of trials]", ylim=(-3, 103))
    axes.set_title(f"Psychometric curve, {3 * (args.length // 5)} steps of evidence, {args.units} units")
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    common.save_plot(figure, pathlib.Path(args.out) / "psychometric.png")


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/decision", "a small network and few steps", plots=True, batch=None)
    add = parser.add_argument
    add("--cells", nargs="+", choices=CELLS, default=["leaky"], help=f"cells to train, of {', '.join(CELLS)}")
    add("--length", type=positive, default=100, quick=50, help="steps of a trial, a multiple of 5")
    add("--units", type=positive, default=64, quick=32, help="hidden size")
    add("--alpha", type=above_zero, default=0.2, help="time step over time constant of the leaky network")
    add("--noise", type=common.not_negative, default=0.05, help="noise of the leaky network")
    add("--batch", type=positive, default=64, help="trials of an optimizer step")
    add("--rate", type=above_zero, default=2e-3, help="initial learning rate of Adam, with cosine decay to 0")
    add("--clip", type=common.norm, default=1.0, help="largest norm of the gradient")
    add("--steps", type=positive, default=2000, quick=400, help="optimizer steps")
    add("--trials", type=positive, default=22_000, quick=5000, help="new trials of the curve")
    repeated.add_options(parser, seeds=3)
    args = parser.parse_args()
    if args.length % 5 or args.length < 10:
        parser.error(f"--length: expected a multiple of 5 of at least 10, got {args.length}")
    if args.steps < 20:
        parser.error(f"--steps: expected at least 20, got {args.steps}")
    return args


if __name__ == "__main__":
    common.run(main)
