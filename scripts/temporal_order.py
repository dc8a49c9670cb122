"""The temporal order task of Pascanu et al. (2013): a vanilla network with and without clipped gradients.

    python scripts/temporal_order.py                     # T 50, 5 seeds, with and without clipping
    python scripts/temporal_order.py --quick             # T 20, 3 seeds
    python scripts/temporal_order.py --length 100 --updates 300000 --seeds 3

A sequence of T symbols has two relevant ones, each A or B, one in [0.1 T, 0.2 T) and one in [0.5 T, 0.6 T); the others
are drawn from c, d, e, f. After the last symbol the network classifies the sequence as AA, AB, BA or BB. A run has
succeeded once less than 1 % of 10,000 new sequences are wrong. All runs are one compiled program; the two of a seed
start from the same weights and are trained on the same sequences.
"""

from __future__ import annotations

import argparse
import functools
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

SYMBOLS, CLASSES = 6, 4
TEST, ENOUGH = 10_000, 0.01  # new sequences, and the share of them that may be wrong
SMALL = rnn.initializers.normal(0.1)
COLOURS = {"clipped": rnn.plots.BLUE, "not clipped": rnn.plots.RED}


def main() -> None:
    args = arguments()
    common.require("matplotlib")
    began = time.monotonic()
    model = rnn.Stack(
        rnn.VanillaRNN(SYMBOLS, args.units, w_xh_init=SMALL, w_hh_init=SMALL),
        rnn.Linear(args.units, CLASSES, w_init=SMALL),
    )
    every = max(args.updates // 25, 1)
    clips = jnp.array([args.clip, jnp.inf])
    keys = jax.random.split(jax.random.key(args.seed), args.seeds)
    states = each_run(lambda clip, key: learning.train_state(model.init(key), optimizer(clip, args.rate)))(clips, keys)
    advance = jax.jit(each_run(functools.partial(train, model, args, every)), donate_argnums=2)
    evaluate = jax.jit(each_run(functools.partial(test_error, model, args.length)))

    done, errors, norms = [], [], []  # the last two [evaluations, settings, seeds]
    for updates in range(every, args.updates + 1, every):
        states, norm = advance(clips, keys, states)
        done.append(updates)
        norms.append(np.asarray(norm))
        errors.append(np.asarray(evaluate(clips, keys, states)))
        solved = (np.array(errors) < ENOUGH).any(0).sum(-1)
        words = (f"{name} {n}" for name, n in zip(COLOURS, solved))
        print(f"{updates:>8,} updates, {time.monotonic() - began:4.0f} s, solved of {args.seeds}: {', '.join(words)}",
              flush=True)  # fmt: skip

    print("\nsetting      seed  solved after  error at best  error at end  largest gradient norm")
    for setting, name in enumerate(COLOURS):
        for seed in range(args.seeds):
            error = np.array(errors)[:, setting, seed]
            at = f"{done[int(np.argmax(error < ENOUGH))]:,}" if (error < ENOUGH).any() else "never"
            norm = np.array(norms)[:, setting, seed].max()
            print(f"{name:<12} {seed:>4} {at:>13} {error.min():>14.2%} {error[-1]:>13.2%} {norm:>22.4g}")
    rates = ", ".join(f"{name} {n} of {args.seeds}" for name, n in zip(COLOURS, solved))
    print(f"\nT {args.length}, {done[-1]:,} updates, solved: {rates}; {time.monotonic() - began:.0f} s")
    draw_errors(done, np.array(errors), args)


def each_run(function: Any) -> Any:
    """Vectorise ``f(clip, key, *state)`` over settings and seeds: ``[S]``, ``[N]`` and ``[S, N, ...]``."""

    def over(clips, keys, *states):
        seeds = jax.vmap(function, (None, 0, *(0 for _ in states)))
        return jax.vmap(seeds, (0, None, *(0 for _ in states)))(clips, keys, *states)

    return over


def optimizer(clip, rate: float) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(clip), optax.sgd(rate))


def sequences(key, length: int, count: int):
    """One-hot sequences ``[T, count, 6]`` and their classes ``[count]``."""
    keys = jax.random.split(key, 3)
    tenth = length // 10
    places = jnp.array([[tenth], [5 * tenth]]) + jax.random.randint(keys[0], (2, count), 0, tenth)
    marks = jax.random.randint(keys[1], (2, count), 0, 2)
    symbols = jax.random.randint(keys[2], (length, count), 2, SYMBOLS)
    symbols = symbols.at[places, jnp.arange(count)].set(marks)
    return jax.nn.one_hot(symbols, SYMBOLS), 2 * marks[0] + marks[1]


def classify(model: rnn.Stack, params, xs):
    """Logits after the last symbol, ``[B, 4]``."""
    cell, readout = model.layers
    final, _ = rnn.unroll(cell, params[0], xs)
    return readout.apply(params[1], final)


def train(model: rnn.Stack, args: argparse.Namespace, updates: int, clip, key, state):
    """Some updates of one run; return its state and the largest gradient norm."""

    def loss(params, carry, batch, key):
        xs, classes = batch
        return rnn.losses.cross_entropy(classify(model, params, xs), classes), (carry, {})

    step = learning.train_step(loss, optimizer(clip, args.rate))

    def body(state, _):
        batch = sequences(jax.random.fold_in(key, state.step), args.length, args.batch)
        state, metrics = step(state, batch, key)
        return state, metrics["grad_norm"]

    state, norms = jax.lax.scan(body, state, length=updates)
    return state, norms.max()


def test_error(model: rnn.Stack, length: int, clip, key, state):
    """Share of 10,000 new sequences that are classified wrongly."""
    xs, classes = sequences(jax.random.fold_in(key, -1 - state.step), length, TEST)
    return (classify(model, state.params, xs).argmax(-1) != classes).mean()


def draw_errors(updates: list[int], errors: np.ndarray, args: argparse.Namespace) -> None:
    """Plot the error of every run over its updates."""
    figure, axes = common.subplots(figsize=(7, 4.2))
    for setting, (name, colour) in enumerate(COLOURS.items()):
        for seed, error in enumerate(errors[:, setting].T):
            axes.plot(updates, np.maximum(error, 1 / TEST), "-" if setting == 0 else "--", color=colour, lw=1.3,
                      alpha=0.8, label=None if seed else f"{name}, {args.seeds} seeds")  # fmt: skip
    axes.axhline(1 - 1 / CLASSES, color="black", lw=0.8, zorder=1, label="chance")
    axes.axhline(ENOUGH, color="black", lw=0.8, ls=":", label="success: below 1 % (0 is drawn as 0.01)")
    axes.set(yscale="log", xlabel="update", ylabel=f"error on {TEST:,} new sequences [%]", xlim=(0, updates[-1]))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
    axes.set_title(f"Temporal order, T {args.length}, vanilla network of {args.units} tanh units")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    common.save_plot(figure, pathlib.Path(args.out) / "temporal_order.png")


def arguments() -> argparse.Namespace:
    parser = common.Parser(
        __doc__, "runs/temporal_order", "short sequences, a high learning rate, few seeds", plots=True, batch=None
    )
    add = parser.add_argument
    add("--length", type=positive, default=50, quick=20, help="sequence length T, at least 10")
    add("--updates", type=positive, default=100_000, quick=3000, help="optimizer steps of a run")
    add("--seeds", type=positive, default=5, quick=3, help="runs with and without clipping")
    add("--units", type=positive, default=50, help="hidden size")
    add("--batch", type=positive, default=20, help="sequences of an optimizer step")
    add("--rate", type=above_zero, default=0.01, quick=0.2, help="learning rate of stochastic gradient descent")
    add("--clip", type=common.norm, default=1.0, help="largest norm of the gradient in the runs with clipping")
    args = parser.parse_args()
    if args.length < 10:
        parser.error(f"--length: expected at least 10 symbols, got {args.length}")
    return args


if __name__ == "__main__":
    common.run(main)
