"""Vanishing and exploding gradients in one figure: what reaches back through which cell, and what clipping does.

    python scripts/vanishing.py            # half a minute
    python scripts/vanishing.py --quick    # a few seconds, too small to mean much

Left: how strongly the last output still follows the input k steps earlier, before any training. Middle and right: the
exploding vanilla network learns to name the first symbol of a sequence, with and without clipping, over several seeds.
Prints the numbers, and what measuring the flow costs beside a plain gradient.
"""

from __future__ import annotations

import argparse
import pathlib
import time
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.gradients import gradient_flow, lyapunov_spectrum, sensitivity
from jaxrnn.initializers import orthogonal

INPUTS, SYMBOLS, BATCH, CLIP, RATE = 8, 4, 16, 1.0, 0.1
CHANCE = float(np.log(SYMBOLS))


class Size(NamedTuple):
    cells: int = 6  # the first of them
    units: int = 64
    lags: int = 100
    warm_up: int = 50  # steps before them, so that no state starts at 0, where tanh is steepest
    seeds: int = 5
    updates: int = 300
    length: int = 50  # of the sequences learnt
    cost: tuple[int, int, int] = (100, 32, 128)  # T, B, H


QUICK = Size(cells=2, units=16, lags=20, warm_up=5, seeds=2, updates=20, length=10, cost=(10, 4, 16))


def cells(units: int) -> dict[str, Any]:
    """The cells of the figure, by name."""
    return {
        "vanilla, ‖w_hh‖ = 0.9": rnn.VanillaRNN(INPUTS, units, w_hh_init=orthogonal(0.9)),
        "vanilla, ‖w_hh‖ = 1.5": rnn.VanillaRNN(INPUTS, units, w_hh_init=orthogonal(1.5)),
        "ReLU, w_hh = identity": rnn.VanillaRNN(INPUTS, units, activation="relu", w_hh_init="identity"),
        "GRU": rnn.GRU(INPUTS, units),
        "LSTM, forget bias 0": rnn.LSTM(INPUTS, units, forget_bias=0.0),
        "LSTM, forget bias 1": rnn.LSTM(INPUTS, units, forget_bias=1.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=common.picture_folder, default="runs/vanishing", help="folder of the picture")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    args = parser.parse_args()
    common.needs("matplotlib")
    size, out, began = QUICK if args.quick else Size(), pathlib.Path(args.out), time.monotonic()

    curves = by_lag(size)
    losses, norms = clipping(size)  # [settings, seeds, updates]
    print(f"\nvanilla, ‖w_hh‖ = 1.5, names the first of {size.length} inputs; {size.updates} updates")
    for name, loss, norm in zip(("clipped", "not clipped"), losses, norms):
        solved = (loss[:, -20:].mean(1) < 0.1 * CHANCE).sum()
        print(f"{name:<11}  learnt by {solved} of {size.seeds} seeds; largest gradient norm {norm.max():.3g}")
    print(f"\n{cost(*size.cost)}")
    out.mkdir(parents=True, exist_ok=True)
    draw(curves, losses, norms, size, out / "vanishing.png")
    print(f"{out / 'vanishing.png'} is drawn; {time.monotonic() - began:.0f} s in all")


def by_lag(size: Size) -> dict[str, np.ndarray]:
    """∂h_n/∂x_{n-k} of every cell over a batch of noise, ``[lags, B]``, relative to k = 0."""
    xs = 0.1 * jax.random.normal(jax.random.key(1), (size.warm_up + size.lags, BATCH, INPUTS))
    lags, curves = (size.lags // 10, size.lags // 2, size.lags - 1), {}
    heads = "".join(f"{f'k = {lag}':>10}" for lag in lags)
    print(f"{'what is left of ∂h_n/∂x_n after':<32}{heads}   largest Lyapunov exponent")
    for name, cell in list(cells(size.units).items())[: size.cells]:
        params = cell.init(jax.random.key(0))
        norms = jax.jit(lambda params, cell=cell: sensitivity(cell, params, xs).by_input)(params)
        curves[name] = np.asarray(norms / norms[-1:])[-size.lags :]
        left = "".join(f"{np.median(curves[name][-1 - lag]):>10.2g}" for lag in lags)
        exponent = lyapunov_spectrum(cell, params, xs[:, 0], exponents=1)[0]
        print(f"{name:<32}{left}{exponent:>28.3f}", flush=True)
    return curves


def clipping(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Loss and gradient norm of every update, clipped and not, all seeds in one compiled program."""
    model = rnn.Stack(rnn.VanillaRNN(SYMBOLS, 32, w_hh_init=orthogonal(1.5)), rnn.Linear(32, SYMBOLS))

    def batch(key):
        keys = jax.random.split(key)
        first = jax.random.randint(keys[0], (BATCH,), 0, SYMBOLS)
        noise = 0.1 * jax.random.normal(keys[1], (size.length, BATCH, SYMBOLS))
        return noise.at[0].set(jax.nn.one_hot(first, SYMBOLS)), first

    def loss(params, carry, batch, key):
        xs, first = batch
        _, scores = rnn.unroll(model, params, xs)
        return rnn.losses.cross_entropy(scores[-1], first), (carry, {})

    def train(clip, seed):
        optimizer = optax.chain(optax.clip_by_global_norm(clip), optax.sgd(RATE))
        step = learning.train_step(loss, optimizer)
        start_key, key = jax.random.split(jax.random.key(seed))
        start = learning.train_state(model.init(start_key), optimizer)
        keys = jax.random.split(key, size.updates)
        _, metrics = jax.lax.scan(lambda state, key: step(state, batch(key), key), start, keys)
        return metrics["loss"], metrics["grad_norm"]

    runs = jax.vmap(jax.vmap(train, (None, 0)), (0, None))
    losses, norms = jax.jit(runs)(jnp.array([CLIP, jnp.inf]), jnp.arange(size.seeds))
    return np.asarray(losses), np.asarray(norms)


def cost(steps: int, batch: int, units: int) -> str:
    """The time of the flow over that of a plain gradient, both compiled, their minima over interleaved rounds."""
    cell, xs = rnn.LSTM(units, units), jnp.ones((steps, batch, units))
    params = cell.init(jax.random.key(0))

    def loss(final, ys):
        return jnp.sum(ys**2)

    functions = {
        "plain": jax.jit(jax.grad(lambda params, xs: loss(*rnn.unroll(cell, params, xs)))),
        "flow": jax.jit(lambda params, xs: gradient_flow(cell, params, xs, loss)),
    }
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(16):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function(params, xs))
            times[name].append(time.perf_counter() - start)
    plain, flow = (1e3 * min(times[name][1:]) for name in functions)  # the first round compiles
    return (
        f"LSTM, T {steps}, B {batch}, H {units}: gradient {plain:.1f} ms, gradient flow {flow:.1f} ms, "
        f"{flow / plain:.2f} times"
    )


def draw(curves: dict[str, np.ndarray], losses: np.ndarray, norms: np.ndarray, size: Size, path: pathlib.Path) -> None:
    """Three pictures side by side: the flow by lag, and loss and gradient norm of the runs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
    rnn.plots.flow_by_lag(curves, left, quantity="‖∂hₙ/∂xₙ₋ₖ‖ relative to k = 0")
    left.axhline(1, color="black", lw=0.8)
    left.set_title("Before training: what is left of an input after k steps", fontsize="medium")
    left.legend(fontsize="small", loc="lower left")
    updates = np.arange(1, size.updates + 1)
    styles = [(f"clipped at norm {CLIP:g}", rnn.plots.BLUE, "-"), ("not clipped", rnn.plots.RED, "--")]
    for axes, values in ((middle, losses), (right, norms)):
        for (name, colour, dashes), runs in zip(styles, values):
            for seed, run in enumerate(runs):
                label = None if seed else f"{name}, {size.seeds} seeds"
                axes.plot(updates, run, color=colour, ls=dashes, lw=0.9, alpha=0.7, label=label)
        axes.set(yscale="log", xlabel="update", xlim=(0, size.updates))
        axes.grid(alpha=0.3)
    middle.axhline(CHANCE, color="black", lw=1, ls=":", label=f"guessing, log {SYMBOLS}")
    middle.set_ylabel("cross entropy [nats]")
    middle.set_title(f"Learning to name the first of {size.length} inputs, vanilla, ‖w_hh‖ = 1.5", fontsize="medium")
    right.axhline(CLIP, color="black", lw=1, ls=":", label="largest norm that clipping lets through")
    right.set_ylabel("gradient norm before clipping")
    right.set_title("Gradients of the same runs", fontsize="medium")
    middle.legend(fontsize="small", loc="lower left")
    right.legend(fontsize="small", loc="upper right")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    common.run(main)
