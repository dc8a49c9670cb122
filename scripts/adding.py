"""The adding problem of Hochreiter & Schmidhuber (1997): a long-term dependency on two inputs.

    python scripts/adding.py                      # T 200: vanilla, LSTM and GRU in turn
    python scripts/adding.py --quick              # T 50
    python scripts/adding.py --length 600 --cells gru --steps 20000
    python scripts/adding.py --length 1000 --cells lru lstm --seeds 3        # EFFECTS.md

The input of each of T steps is a number from [0, 1) and a marker. Two steps are marked, and after the last step the
network predicts the sum of their numbers. Predicting always 1 has a mean squared error of 1/6. Sequences are drawn
inside the compiled program, so none is seen twice. A run ends once its error on new sequences is below --enough.
The independently recurrent network has two layers, as its units mix in the next layer only, and its recurrent weights
are bounded by 2^(1/T) (Li et al. 2018). The linear recurrent unit reads a layer of ReLUs, as it is linear itself; its
eigenvalues start with time constants from T / 4 to 4 T (Orvieto et al. 2023).
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
from common import above_zero, not_negative, positive
from jax.sharding import PartitionSpec

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import synthetic

CELLS = [*common.CELLS, "indrnn", "lru"]
CHANCE, TEST = 1 / 6, 2000  # the variance of the sum; sequences of an evaluation
SPEC = synthetic.Batch(None, PartitionSpec("batch"))  # type: ignore[arg-type]  # the targets are [B, 1]


def main() -> None:
    args = arguments()
    common.require("matplotlib")
    began = time.monotonic()
    curves = repeated.runs(args, "cells", lambda kind, seed: train(kind, seed, args))
    lowest = {kind: [min(errors) for _, errors, _ in runs] for kind, runs in curves.items()}
    steps = {kind: [done[-1] for done, _, _ in runs] for kind, runs in curves.items()}
    solved = {kind: sum(error < args.enough for error in errors) for kind, errors in lowest.items()}
    for kind in args.cells:
        print(f"{kind:8} solved {solved[kind]} of {args.seeds}: "
              f"lowest errors {', '.join(f'{error:.2e}' for error in lowest[kind])} "
              f"in {', '.join(f'{n:,}' for n in steps[kind])} steps")  # fmt: skip
    print(f"chance is {CHANCE:.3f}")
    draw(curves, args)
    print(json.dumps({
        "script": "adding", "length": args.length, "unit": "lowest mean squared error on new sequences",
        "error": {kind: float(f"{np.median(errors):.3g}") for kind, errors in lowest.items()},
        "chance": round(CHANCE, 4), "solved": solved, "seeds": args.seeds,
        "steps": {kind: int(np.median(done)) for kind, done in steps.items()},
        "seconds": round(time.monotonic() - began, 1),
    }))  # fmt: skip


def build(kind: str, units: int, length: int) -> rnn.Stack:
    """The recurrent layers."""
    if kind == "lru":
        slow = rnn.LRU(
            units, units, r_min=math.exp(-4 / length), r_max=math.exp(-0.25 / length), max_phase=math.pi / length
        )
        return rnn.Stack(rnn.Linear(2, units), rnn.Activation("relu"), slow)
    if kind != "indrnn":
        return rnn.Stack(common.CELLS[kind](2, units))
    largest = 2 ** (1 / length)
    last = rnn.initializers.uniform(largest, low=0.5 ** (1 / length))  # it is read after all steps
    lower = rnn.IndRNN(2, units, recurrent_max=largest)
    return rnn.Stack(lower, rnn.IndRNN(units, units, recurrent_max=largest, w_hh_init=last))


def train(kind: str, seed: int, args: argparse.Namespace) -> tuple[list[int], list[float], float]:
    """Train one network; return the steps and the error on new sequences after each compiled call, and the seconds."""
    began = time.monotonic()
    model, readout = build(kind, args.units, args.length), rnn.Linear(args.units, 1)
    model_key, readout_key, key, test_key = jax.random.split(jax.random.key(seed), 4)

    def error(params, batch):
        xs, sums = batch
        _, hs = rnn.unroll(model, params[0], xs)
        return ((readout.apply(params[1], hs[-1]) - sums) ** 2).mean()

    def loss(params, carry, batch, key):
        return error(params, batch), (carry, {})

    rate = optax.cosine_decay_schedule(args.rate, args.steps) if args.decay else args.rate
    optimizer = optax.chain(optax.clip_by_global_norm(args.clip), optax.adam(rate))
    step = learning.train_step(loss, optimizer)
    state = learning.train_state((model.init(model_key), readout.init(readout_key)), optimizer)
    state = learning.shard_state(state, args.mesh)

    @functools.partial(jax.jit, donate_argnums=0)
    def advance(state):
        def body(state, _):
            batch = synthetic.adding(jax.random.fold_in(key, state.step), args.batch, args.length)
            batch = learning.shard_batch(batch, args.mesh, SPEC)
            return step(state, batch, key)[0], None

        return jax.lax.scan(body, state, length=args.steps_per_call)[0]

    @jax.jit
    def evaluate(state):
        return error(state.params, synthetic.adding(jax.random.fold_in(test_key, state.step), TEST, args.length))

    done: list[int] = []
    errors: list[float] = []
    while not errors or (done[-1] < args.steps and errors[-1] >= args.enough):
        state = advance(state)
        done.append(int(state.step))
        errors.append(float(evaluate(state)))
        print(f"{kind:8} seed {seed}  step {done[-1]:>6,}  error {errors[-1]:.2e}  {time.monotonic() - began:4.0f} s",
              flush=True)  # fmt: skip
    return done, errors, time.monotonic() - began


def draw(curves: dict[str, Any], args: argparse.Namespace) -> None:
    """Plot the error of every network over its steps."""
    figure, axes = common.subplots(figsize=(6.4, 4.2))
    for (kind, runs), colour in zip(curves.items(), rnn.plots.COLOURS):
        for n, (done, errors, _) in enumerate(runs):
            axes.plot(done, errors, "o-", ms=3, color=colour, label=None if n else kind)
    axes.axhline(CHANCE, color="black", lw=0.8, ls=":", label="always 1")
    axes.set(yscale="log", xlabel=f"optimizer step of {args.batch} sequences", ylabel="mean squared error")
    axes.set_title(f"Adding problem, T {args.length}, {args.units} units")
    axes.grid(alpha=0.3)
    axes.legend()
    common.save_plot(figure, pathlib.Path(args.out) / "adding.png")


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/adding", "short sequences and few steps", plots=True, processes=False)
    add = parser.add_argument
    add("--length", type=positive, default=200, quick=50, help="sequence length T")
    add("--cells", nargs="+", choices=CELLS, default=list(common.CELLS), help=f"cells to train, of {', '.join(CELLS)}")
    add("--units", type=positive, default=64, help="hidden size")
    add("--batch", type=positive, default=32, help="sequences of an optimizer step")
    add("--rate", type=above_zero, default=3e-3, help="learning rate of Adam")
    add("--decay", action="store_true", help="cosine decay of the rate to 0 over --steps")
    add("--clip", type=common.norm, default=1.0, help="largest norm of the gradient")
    add("--steps", type=positive, default=8000, quick=2000, help="most optimizer steps")
    add("--steps-per-call", type=positive, default=250, help="optimizer steps between evaluations")
    add("--enough", type=not_negative, default=5e-4, help="mean squared error that ends a run")
    repeated.add_options(parser, seeds=1)
    args = parser.parse_args()
    if args.length < 2:
        parser.error(f"--length: expected at least 2 steps, for two marks, got {args.length}")
    return args


if __name__ == "__main__":
    common.run(main)
