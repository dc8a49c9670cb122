"""Vanishing and exploding gradients in one figure: what reaches back through which cell, and what clipping does.

    python scripts/vanishing.py

Left: how strongly the last output still follows the input k steps earlier, before any training. Middle and right: the
exploding vanilla network learns to name the first symbol of a sequence, with and without clipping, over five seeds.
Prints the numbers, and what measuring the flow costs beside a plain gradient.
"""

from __future__ import annotations

import argparse
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.gradients import gain, gradient_flow, lyapunov_spectrum
from jaxrnn.initializers import orthogonal

INPUTS, UNITS, STEPS, BATCH = 8, 64, 100, 16
CELLS: dict[str, Any] = {
    "vanilla, ‖w_hh‖ = 0.9": rnn.VanillaRNN(INPUTS, UNITS, w_hh_init=orthogonal(0.9)),
    "vanilla, ‖w_hh‖ = 1.5": rnn.VanillaRNN(INPUTS, UNITS, w_hh_init=orthogonal(1.5)),
    "ReLU, w_hh = identity": rnn.VanillaRNN(INPUTS, UNITS, activation="relu", w_hh_init="identity"),
    "GRU": rnn.GRU(INPUTS, UNITS),
    "LSTM, forget bias 0": rnn.LSTM(INPUTS, UNITS, forget_bias=0.0),
    "LSTM, forget bias 1": rnn.LSTM(INPUTS, UNITS, forget_bias=1.0),
}
CLIP, RATE, UPDATES, SEEDS, LENGTH, SYMBOLS = 1.0, 0.1, 300, 5, 50, 4
CHANCE = float(np.log(SYMBOLS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/vanishing", help="folder of the picture")
    out = pathlib.Path(parser.parse_args().out)
    began = time.monotonic()

    curves = by_lag()
    losses, norms = clipping()  # [settings, seeds, updates]
    for name, loss, norm in zip(("clipped", "not clipped"), losses, norms):
        solved = (loss[:, -20:].mean(1) < 0.1 * CHANCE).sum()
        print(f"{name}: learnt by {solved} of {SEEDS} seeds; largest gradient norm {norm.max():.3g}")
    print(cost())
    out.mkdir(parents=True, exist_ok=True)
    draw(curves, losses, norms, out / "vanishing.png")
    print(f"{out / 'vanishing.png'} is drawn; {time.monotonic() - began:.0f} s")


def by_lag() -> dict[str, np.ndarray]:
    """∂h_n/∂x_{n-k} of every cell over a batch of noise, ``[T, B]``, relative to k = 0."""
    xs = 0.1 * jax.random.normal(jax.random.key(1), (STEPS, BATCH, INPUTS))
    curves = {}
    print("what is left of ∂h_n/∂x_n after k steps   k = 10        50        99   largest Lyapunov exponent")
    for name, cell in CELLS.items():
        params = cell.init(jax.random.key(0))
        norms = jax.jit(lambda params, cell=cell: gain(cell, params, xs).by_input)(params)
        curves[name] = np.asarray(norms / norms[-1])
        left = "".join(f"{np.median(curves[name][-1 - k]):>10.2g}" for k in (10, 50, 99))
        exponent = lyapunov_spectrum(cell, params, xs[:, 0], exponents=1)[0]
        print(f"{name:<36}{left}{exponent:>14.3f}", flush=True)
    return curves


def clipping() -> tuple[np.ndarray, np.ndarray]:
    """Loss and gradient norm of every update, clipped and not, all seeds in one compiled program."""
    model = rnn.Stack(rnn.VanillaRNN(SYMBOLS, 32, w_hh_init=orthogonal(1.5)), rnn.Linear(32, SYMBOLS))

    def batch(key):
        keys = jax.random.split(key)
        first = jax.random.randint(keys[0], (BATCH,), 0, SYMBOLS)
        noise = 0.1 * jax.random.normal(keys[1], (LENGTH, BATCH, SYMBOLS))
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
        keys = jax.random.split(key, UPDATES)
        _, metrics = jax.lax.scan(lambda state, key: step(state, batch(key), key), start, keys)
        return metrics["loss"], metrics["grad_norm"]

    runs = jax.vmap(jax.vmap(train, (None, 0)), (0, None))
    losses, norms = jax.jit(runs)(jnp.array([CLIP, jnp.inf]), jnp.arange(SEEDS))
    return np.asarray(losses), np.asarray(norms)


def cost() -> str:
    """The time of the flow over that of a plain gradient, both compiled, their minima over interleaved rounds."""
    cell, xs = rnn.LSTM(128, 128), jnp.ones((100, 32, 128))
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
    plain, flow = (1e3 * min(times[name][1:]) for name in ("plain", "flow"))  # the first round compiles
    return f"LSTM, B 32, T 100, H 128: gradient {plain:.1f} ms, gradient flow {flow:.1f} ms, {flow / plain:.2f} times"


def draw(curves: dict[str, np.ndarray], losses: np.ndarray, norms: np.ndarray, path: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    rnn.plots.flow_by_lag(curves, left, quantity="‖∂hₙ/∂xₙ₋ₖ‖ relative to k = 0")
    left.axhline(1, color="black", lw=0.8)
    left.set_title("Before training: what reaches back k steps")
    updates = np.arange(1, UPDATES + 1)
    styles = [("clipped at norm 1", rnn.plots.BLUE, "-"), ("not clipped", rnn.plots.RED, "--")]
    for axes, values in ((middle, losses), (right, norms)):
        for (name, colour, dashes), runs in zip(styles, values):
            for seed, run in enumerate(runs):
                axes.plot(updates, run, color=colour, ls=dashes, lw=0.9, alpha=0.7, label=None if seed else name)
        axes.set(yscale="log", xlabel="update", xlim=(0, UPDATES))
        axes.grid(alpha=0.3)
    middle.axhline(CHANCE, color="black", lw=0.8, ls=":", label="guessing, log 4")
    middle.set_ylabel("cross entropy [nats]")
    middle.set_title(f"Vanilla, ‖w_hh‖ = 1.5: name the first of {LENGTH} inputs")
    right.axhline(CLIP, color="black", lw=0.8, ls=":", label="largest norm let through")
    right.set_ylabel("gradient norm before clipping")
    right.set_title(f"The same runs, {SEEDS} seeds each")
    for axes in (middle, right):
        axes.legend(fontsize="small")
    left.legend(fontsize="small", loc="lower left")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
