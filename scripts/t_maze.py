"""What memory buys: a sign at the start of a corridor says where to turn at its end (Bakker 2002).

    python scripts/t_maze.py                          # LSTM, GRU and a memoryless network, 5 seeds each
    python scripts/t_maze.py --quick                  # a shorter corridor, one seed
    python scripts/t_maze.py --cells lstm --length 30 --updates 2000

Agents learn by advantage actor-critic: in each update they act for some steps in many mazes at once, and episodes
follow one another; where a new one starts, ``resets`` empty the memory of the network. Without memory half of the turns
are right, a return of 1.95 at most; the largest is 4. Chance is an agent that moves at random.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import common
import jax
import jax.numpy as jnp
import optax
import repeated
from common import above_zero, positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data.environments import TMaze
from jaxrnn.tasks import ActorCritic

MEMORYLESS, BEST, POINTS = 1.95, 4.0, 50  # returns; points of a curve
CELLS = [*common.CELLS, "memoryless"]


def main() -> None:
    args = arguments()
    common.require("matplotlib")
    began = time.monotonic()
    learners = {kind: learner(kind, args) for kind in args.cells}  # compiled once for all seeds
    results = repeated.runs(args, "cells", lambda kind, seed: train(kind, seed, *learners[kind]))
    by_chance = chance(args)
    print(f"\nreturn of an episode, the largest is {BEST:g}; by chance {by_chance:.2f}")
    for kind, runs in results.items():
        final = repeated.mean_and_spread([run["return"][-1] for run in runs], 2)
        right = repeated.mean_and_spread([100 * run["right"][-1] for run in runs], 1)
        print(f"{kind:>12} {final:>14}   turns right in {right} % of episodes")
    draw(results, by_chance, args)
    print(json.dumps({
        "script": "t_maze", "unit": "return of an episode", "seeds": args.seeds, "chance": round(by_chance, 3),
        "return": {kind: [round(run["return"][-1], 3) for run in runs] for kind, runs in results.items()},
        "seconds": round(time.monotonic() - began, 1),
    }))  # fmt: skip


def build(kind: str, args: argparse.Namespace) -> ActorCritic:
    """An agent with a recurrent body, or with one that sees the last observation only."""
    if kind == "memoryless":
        body: Any = rnn.Stack(rnn.Linear(TMaze.observation_size, args.units), rnn.Activation("tanh"))
    else:
        body = common.CELLS[kind](TMaze.observation_size, args.units)
    return ActorCritic(body, TMaze.actions)


def learner(kind: str, args: argparse.Namespace) -> tuple[Callable, Callable]:
    """``begin(key)``, the state of training at its start, and ``advance(state, key)`` by a part of the updates."""
    agent, maze = build(kind, args), TMaze(args.length)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(args.rate))

    def loss(params, moment, batch, key):
        moment, experience = agent.rollout(params, maze, moment, steps=args.steps, key=key)
        value, metrics = agent.loss(params, experience, discount=args.discount, entropy_weight=args.entropy)
        right = (experience.rewards == BEST).astype(float).mean()
        return value, (moment, metrics | {"right": right})

    def begin(key):
        init_key, start_key = jax.random.split(key)
        start = agent.start(maze, batch=args.batch, key=start_key)
        return learning.train_state(agent.init(init_key), optimizer, carry=start)

    steps = learning.scan_steps(learning.train_step(loss, optimizer))
    return begin, jax.jit(lambda state, key: steps(state, jnp.zeros(args.updates // POINTS), key))  # of empty batches


def train(kind: str, seed: int, begin: Callable, advance: Callable) -> dict[str, list[float]]:
    """Train an agent; return the mean return of an episode and the share of right turns, over training."""
    began = time.monotonic()
    start_key, key = jax.random.split(jax.random.key(seed))
    curves: dict[str, list[float]] = {"update": [], "return": [], "right": []}
    state = begin(start_key)
    for point in range(1, POINTS + 1):
        state, metrics = advance(state, key)
        reward, right, episodes = (float(metrics[name].sum()) for name in ("reward", "right", "episodes"))
        curves["update"].append(int(state.step))
        curves["return"].append(reward / max(episodes, 1e-9))
        curves["right"].append(right / max(episodes, 1e-9))
        if point % 10 == 0:
            print(f"{kind:>10} seed {seed}  update {int(state.step):>6,}  return {curves['return'][-1]:6.2f}"
                  f"  {time.monotonic() - began:4.0f} s", flush=True)  # fmt: skip
    return curves


def chance(args: argparse.Namespace) -> float:
    """The mean return of an episode of an agent that moves at random."""
    agent, maze, key = build("memoryless", args), TMaze(args.length), jax.random.key(args.seed)
    params = jax.tree.map(jnp.zeros_like, agent.init(key))
    _, experience = agent.rollout(params, maze, agent.start(maze, batch=500, key=key), steps=4000, key=key)
    return float(experience.rewards.sum() / experience.dones.sum().astype(float))


def draw(results: dict[str, list[dict[str, Any]]], by_chance: float, args: argparse.Namespace) -> None:
    """Plot the return over training: the mean of the seeds, and from the lowest to the highest."""
    figure, axes = common.subplots(figsize=(6.4, 4.2))
    for (kind, runs), colour in zip(results.items(), rnn.plots.COLOURS):
        name = kind if kind == "memoryless" else kind.upper()
        repeated.draw_band(axes, runs[0]["update"], [run["return"] for run in runs], color=colour,
                           label=f"{name}, {len(runs)} seeds" if len(runs) > 1 else name)  # fmt: skip
    for level, name, dashes in ((BEST, "largest", "-"), (MEMORYLESS, "largest without memory", "--"),
                                (by_chance, "chance", ":")):  # fmt: skip
        axes.axhline(level, color="black", lw=0.8, ls=dashes, label=f"{name}: {level:.2f}")
    axes.set(xlabel=f"update, each of {args.batch} × {args.steps} steps", ylabel="return of an episode",
             xlim=(0, args.updates), ylim=(min(by_chance, 0) - 0.5, BEST + 0.3))  # fmt: skip
    axes.set_title(f"T-maze, {args.length} steps to the junction", fontsize="medium")
    axes.legend(fontsize="small", loc="center right")
    axes.grid(alpha=0.3)
    common.save_plot(figure, pathlib.Path(args.out) / "t_maze.png")


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/t_maze", "a short corridor, few updates", plots=True, batch=None)
    add = parser.add_argument
    add("--cells", nargs="+", choices=CELLS, default=["lstm", "gru", "memoryless"], help=f"of {', '.join(CELLS)}")
    add("--length", type=positive, default=10, quick=4, help="steps from the start to the junction")
    add("--units", type=positive, default=32, help="hidden size")
    add("--batch", type=positive, default=64, help="mazes at a time")
    add("--steps", type=positive, default=32, help="steps in each maze of an update")
    add("--updates", type=positive, default=600, quick=200, help=f"optimizer steps, at least {POINTS}")
    add("--rate", type=above_zero, default=3e-3, help="learning rate of Adam")
    add("--discount", type=common.probability, default=0.98, help="γ, by which later rewards count less")
    add("--entropy", type=common.not_negative, default=0.02, help="weight of the entropy of the policy")
    repeated.add_options(parser, seeds=5)
    args = parser.parse_args()
    if args.updates < POINTS:
        parser.error(f"--updates: expected at least {POINTS}, got {args.updates}")
    return args


if __name__ == "__main__":
    common.run(main)
