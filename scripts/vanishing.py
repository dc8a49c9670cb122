"""Vanishing and exploding gradients: sensitivity by lag for several cells, and the effect of gradient clipping.

    python scripts/vanishing.py                       # half a minute
    python scripts/vanishing.py --quick               # fewer seeds and lags
    python scripts/vanishing.py --picture FILE.svg    # vanilla network and LSTM side by side, for a page

Left plot: the sensitivity of the last output to the input k steps earlier, before training. Middle and right: loss and
gradient norm of a vanilla network with exploding gradients that learns to recall the first symbol of a sequence, with
and without clipping, over several seeds. The script prints the numbers, and the cost of measuring the gradient flow
relative to a plain gradient.
"""

from __future__ import annotations

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
QUANTITY = "‖∂hₙ/∂xₙ₋ₖ‖ relative to k = 0"
LABELS = {  # of the picture: text, lag, value
    "vanilla, ‖w_hh‖ = 0.9": ("‖w_hh‖ = 0.9: vanishing", 40, 5e-2),
    "vanilla, ‖w_hh‖ = 1.5": ("‖w_hh‖ = 1.5: exploding", 5, 3e2),
    "LSTM, forget bias 1": ("forget bias 1", 60, 8e-3),
    "LSTM, forget bias 3": ("forget bias 3", 60, 1e1),
}


class Size(NamedTuple):
    units: int = 64
    lags: int = 100
    warm_up: int = 50  # steps before the first lag, so that the state is not 0, where tanh is steepest
    seeds: int = 5
    updates: int = 300
    length: int = 50  # of the sequences to recall
    cost: tuple[int, int, int] = (100, 32, 128)  # T, B, H


QUICK = Size(units=32, lags=50, warm_up=20, seeds=3, updates=200, cost=(50, 16, 32))


def cells(units: int) -> dict[str, Any]:
    """The cells to compare, by name."""
    return {
        "vanilla, ‖w_hh‖ = 0.9": rnn.VanillaRNN(INPUTS, units, w_hh_init=orthogonal(0.9)),
        "vanilla, ‖w_hh‖ = 1.5": rnn.VanillaRNN(INPUTS, units, w_hh_init=orthogonal(1.5)),
        "ReLU, w_hh = identity": rnn.VanillaRNN(INPUTS, units, activation="relu", w_hh_init="identity"),
        "GRU": rnn.GRU(INPUTS, units),
        "LSTM, forget bias 0": rnn.LSTM(INPUTS, units, forget_bias=0.0),
        "LSTM, forget bias 1": rnn.LSTM(INPUTS, units, forget_bias=1.0),
        "LSTM, forget bias 3": rnn.LSTM(INPUTS, units, forget_bias=3.0),
    }


def main() -> None:
    parser = common.Parser(__doc__, "runs/vanishing", "small sizes and 3 seeds: 20 seconds", plots=True,
                           batch=None)  # fmt: skip
    parser.add_argument("--picture", metavar="FILE.svg", help="draw vanilla network and LSTM to this file alone")
    args = parser.parse_args()
    if args.picture is not None and not args.picture.endswith((".svg", ".png", ".pdf")):
        parser.error(f"--picture: expected a file name that ends with .svg, .png or .pdf, got {args.picture}")
    common.require("matplotlib")
    size, began = QUICK if args.quick else Size(), time.monotonic()
    curves = sensitivity_by_lag(size, args.seed)
    if args.picture is not None:
        draw_picture(curves, pathlib.Path(args.picture))
        return
    losses, norms = clipping(size, args.seed)  # [settings, seeds, updates]
    print(f"\nvanilla, ‖w_hh‖ = 1.5, recalls the first of {size.length} inputs; {size.updates} updates")
    for name, loss, norm in zip(("clipped", "not clipped"), losses, norms):
        solved = (loss[:, -20:].mean(1) < 0.1 * CHANCE).sum()
        print(f"{name:<11}  learned by {solved} of {size.seeds} seeds; largest gradient norm {norm.max():.3g}")
    print(f"\n{cost(*size.cost)}")
    draw(curves, losses, norms, size, pathlib.Path(args.out) / "vanishing.png")
    print(f"{time.monotonic() - began:.0f} s in all")


def sensitivity_by_lag(size: Size, seed: int) -> dict[str, np.ndarray]:
    """‖∂h_n/∂x_{n-k}‖ of every cell over a batch of noise, ``[lags, B]``, relative to k = 0."""
    params_key, xs_key = jax.random.split(jax.random.key(seed))
    xs = 0.1 * jax.random.normal(xs_key, (size.warm_up + size.lags, BATCH, INPUTS))
    lags, curves = (size.lags // 10, size.lags // 2, size.lags - 1), {}
    columns = "".join(f"{f'k = {lag}':>10}" for lag in lags)
    print(f"{'‖∂h_n/∂x_(n-k)‖ / ‖∂h_n/∂x_n‖':<32}{columns}   largest Lyapunov exponent")
    for name, cell in cells(size.units).items():
        params = cell.init(params_key)
        norms = jax.jit(lambda params, cell=cell: sensitivity(cell, params, xs).by_input)(params)
        curves[name] = np.asarray(norms / norms[-1:])[-size.lags :]
        values = "".join(f"{np.median(curves[name][-1 - lag]):>10.2g}" for lag in lags)
        exponent = lyapunov_spectrum(cell, params, xs[:, 0], exponents=1)[0]
        print(f"{name:<32}{values}{exponent:>28.3f}", flush=True)
    return curves


def clipping(size: Size, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Loss and gradient norm of every update, with and without clipping, all seeds in one compiled program."""
    model = rnn.Stack(rnn.VanillaRNN(SYMBOLS, 32, w_hh_init=orthogonal(1.5)), rnn.Linear(32, SYMBOLS))

    def batch(key):
        keys = jax.random.split(key)
        first = jax.random.randint(keys[0], (BATCH,), 0, SYMBOLS)
        noise = 0.1 * jax.random.normal(keys[1], (size.length, BATCH, SYMBOLS))
        return noise.at[0].set(jax.nn.one_hot(first, SYMBOLS)), first

    def loss(params, carry, batch, key):
        xs, first = batch
        _, logits = rnn.unroll(model, params, xs)
        return rnn.losses.cross_entropy(logits[-1], first), (carry, {})

    def train(clip, seed):
        optimizer = optax.chain(optax.clip_by_global_norm(clip), optax.sgd(RATE))
        step = learning.train_step(loss, optimizer)
        start_key, key = jax.random.split(jax.random.key(seed))
        start = learning.train_state(model.init(start_key), optimizer)
        keys = jax.random.split(key, size.updates)
        _, metrics = jax.lax.scan(lambda state, key: step(state, batch(key), key), start, keys)
        return metrics["loss"], metrics["grad_norm"]

    runs = jax.vmap(jax.vmap(train, (None, 0)), (0, None))
    losses, norms = jax.jit(runs)(jnp.array([CLIP, jnp.inf]), seed + jnp.arange(size.seeds))
    return np.asarray(losses), np.asarray(norms)


def cost(steps: int, batch: int, units: int) -> str:
    """Time of the gradient flow and of a plain gradient, both compiled: minima over interleaved rounds."""
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
    """Three plots side by side: sensitivity by lag, and loss and gradient norm of the runs."""
    figure, (left, middle, right) = common.subplots(1, 3, figsize=(16, 5))
    rnn.plots.flow_by_lag(curves, left, quantity=QUANTITY)
    left.axhline(1, color="black", lw=0.8)
    left.set_title("Before training: sensitivity to the input k steps earlier", fontsize="medium")
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
    middle.axhline(CHANCE, color="black", lw=1, ls=":", label=f"chance, log {SYMBOLS}")
    middle.set_ylabel("cross entropy [nats]")
    middle.set_title(f"Recalling the first of {size.length} inputs, vanilla, ‖w_hh‖ = 1.5", fontsize="medium")
    right.axhline(CLIP, color="black", lw=1, ls=":", label="largest norm after clipping")
    right.set_ylabel("gradient norm before clipping")
    right.set_title("Gradients of the same runs", fontsize="medium")
    middle.legend(fontsize="small", loc="lower left")
    right.legend(fontsize="small", loc="upper right")
    common.save_plot(figure, path, dpi=130)


def draw_picture(curves: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """Vanilla network and LSTM side by side, without a background and in colours for light and dark pages."""
    import matplotlib

    ink, blue, orange = "#7d858e", "#2f8fd8", "#e0701a"
    matplotlib.rcParams.update({
        "text.color": ink, "axes.labelcolor": ink, "axes.edgecolor": ink, "xtick.color": ink, "ytick.color": ink,
        "font.size": 11, "svg.hashsalt": "gradient flow", "svg.fonttype": "none",
    })  # fmt: skip
    figure, panels = common.subplots(1, 2, figsize=(8.4, 3.4), sharey=True)
    for axes, cell, title in zip(panels, ("vanilla", "LSTM"), ("Vanilla network", "LSTM")):
        for name, colour in zip((name for name in LABELS if name.startswith(cell)), (blue, orange)):
            curve, (label, lag, value) = curves[name][::-2], LABELS[name]  # [lags / 2, B]
            lags = 2 * np.arange(len(curve))
            axes.plot(lags, np.median(curve, 1), color=colour, lw=2.5)
            axes.fill_between(lags, curve.min(1), curve.max(1), color=colour, alpha=0.25, lw=0)
            axes.text(lag, value, label, color=colour, weight="bold")
        axes.axhline(1, color=ink, lw=0.8, ls=":")
        axes.set(yscale="log", xlabel="lag k [time steps]", xlim=(0, lags[-1]))
        axes.set_title(title, weight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, color=ink)
    panels[0].set_ylabel(QUANTITY)
    common.save_plot(figure, path, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    common.run(main)
