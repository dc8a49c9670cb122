"""Forecast a time series h steps ahead; the baselines are the value one season ago and the last value.

    python scripts/forecast.py                                            # the chaotic Mackey-Glass series
    python scripts/forecast.py --quick                                    # fewer steps
    python scripts/forecast.py --data DIR --series monthly-sunspots       # DIR has the CSV files

After a context of L values the network predicts the next h values at once. The inputs of a step are its value and the
values one season before the targets; the readout has them as inputs, too. The series is split in time: 60 % for
training, 20 % for validation, which chooses the best parameters, and 20 % for the test, which is forecast from each of
its steps. Mean and standard deviation are those of the training part. For a series with a trend the network predicts
log x(t) - log x(t - season).
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import time
from typing import Any, NamedTuple

import common
import jax
import numpy as np
import optax
from common import CELLS, above_zero, not_negative, positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import datasets


class Series(NamedTuple):
    """A series and its forecasts."""

    season: int  # steps
    horizon: int  # h
    context: int  # L
    unit: str
    step: str
    trend: bool = False  # the targets are then log ratios to the season before

    @property
    def lag(self) -> int:
        """Whole seasons, at least a horizon long."""
        return -(-self.horizon // self.season) * self.season


SERIES = {
    "mackey-glass": Series(50, 50, 100, "x", "time"),
    "airline-passengers": Series(12, 12, 12, "thousands of passengers", "month", trend=True),
    "daily-min-temperatures": Series(365, 14, 60, "°C", "day"),
    "monthly-sunspots": Series(132, 24, 132, "sunspot number", "month"),
}


class Windows(NamedTuple):
    """Contexts and targets."""

    inputs: np.ndarray  # [L, B, 1 + h], scaled: the value, and those one season before the targets
    targets: np.ndarray  # [L, B, h], scaled: the next h values of each step
    origins: np.ndarray  # [B], the last step of each context


def main() -> None:
    args = arguments()
    common.require("matplotlib")
    began = time.monotonic()
    how = SERIES[args.series]
    values = mackey_glass() if args.series == "mackey-glass" else datasets.time_series(args.series, args.data).values
    skipped = how.lag if how.trend else 0
    signal = np.log(values[skipped:] / values[:-skipped]) if how.trend else values
    ends = [int(len(signal) * part) for part in (0.6, 0.8, 1.0)]
    mean, scale = signal[: ends[0]].mean(), signal[: ends[0]].std()
    training, held_out, test = (windows((signal - mean) / scale, how, a, b) for a, b in zip((0, *ends[:2]), ends))
    model = rnn.Stack(
        rnn.Residual(CELLS[args.cell](1 + how.horizon, args.units), "concat"),
        rnn.Linear(1 + how.horizon + args.units, how.horizon),
    )
    print(f"{args.series}: {len(values):,} values, season {how.season}, forecasts of {how.horizon} steps "
          f"from a context of {how.context}\n{model}")  # fmt: skip
    params, best_step = train(model, training, held_out, args)

    steps = (test.origins + skipped)[:, None] + np.arange(1, how.horizon + 1)  # [B, h], of the targets
    truth, ago = values[steps], values[steps - how.lag]
    network = mean + scale * np.asarray(predict(model, params, test.inputs))
    forecasts = {
        args.cell: ago * np.exp(network) if how.trend else network,
        "a season ago": ago,
        "last value": np.repeat(values[steps[:, :1] - 1], how.horizon, axis=1),
    }
    errors = {name: ((forecast - truth) ** 2).mean(0) for name, forecast in forecasts.items()}  # [h]
    print(f"\nmean squared error of {len(truth):,} forecasts of {how.horizon} values [({how.unit})²]")
    for name, e in errors.items():
        print(f"  {name:14} {e.mean():10.5g}   at step 1 {e[0]:10.5g}   at step {how.horizon} {e[-1]:10.5g}")
    totals = {name: float(f"{error.mean():.5g}") for name, error in errors.items()}
    won = totals[args.cell] < min(totals["a season ago"], totals["last value"])
    print(f"the network {'wins' if won else 'does not win'}; its best step was {best_step:,}")
    draw(values, steps, forecasts, errors, how, args)
    print(json.dumps({"script": "forecast", "series": args.series, "horizon": how.horizon, "mse": totals, "wins": won,
                      "seconds": round(time.monotonic() - began, 1)}))  # fmt: skip


def windows(scaled: np.ndarray, how: Series, start: int, end: int) -> Windows:
    """Every context whose next h values lie in [start, end); the context itself may begin before start."""
    following = np.lib.stride_tricks.sliding_window_view(scaled, how.horizon)  # row s: the values s … s + h - 1
    origins = np.arange(max(start - 1, how.context - 2 + how.lag), end - how.horizon)
    if len(origins) < 1:
        need = how.context + how.lag + how.horizon
        raise ValueError(f"series: expected parts of more than {need} values, got {end - start}")
    steps = origins + np.arange(1 - how.context, 1)[:, None]  # [L, B]
    inputs = np.concatenate([scaled[steps, None], following[steps + 1 - how.lag]], -1)
    return Windows(inputs.astype(np.float32), following[steps + 1].astype(np.float32), origins)


@functools.partial(jax.jit, static_argnames="model")
def predict(model: rnn.Stack, params: Any, inputs: jax.Array) -> jax.Array:
    """Forecasts ``[B, h]`` at the end of each context."""
    return rnn.unroll(model, params, inputs)[1][-1]


class Shuffled:
    """Batches of random windows; batch n depends on the seed and n alone."""

    def __init__(self, windows: Windows, batch: int, seed: int) -> None:
        self.windows, self.batch, self.seed = windows, batch, seed

    def __getitem__(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        some = np.random.default_rng([self.seed, n]).integers(len(self.windows.origins), size=self.batch)
        return self.windows.inputs[:, some], self.windows.targets[:, some]


def train(model: rnn.Stack, training: Windows, held_out: Windows, args: argparse.Namespace) -> tuple[Any, int]:
    """The parameters with the smallest validation error, and their step."""
    best, best_params = float("inf"), None

    def loss(params, carry, batch, key):
        inputs, targets = batch
        _, ys = rnn.unroll(model, params, inputs)
        return rnn.losses.squared_error(ys, targets), (carry, {})

    def evaluate(params, step):
        nonlocal best, best_params
        error = float(((predict(model, params, held_out.inputs) - held_out.targets[-1]) ** 2).mean())
        if error < best:
            best, best_params = error, jax.device_get(params)
        return {"loss": error}

    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.cosine_decay_schedule(args.rate, args.steps), weight_decay=args.decay),
    )
    init_key, key = jax.random.split(jax.random.key(args.seed))
    end = learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(model.init(init_key), optimizer),
        Shuffled(training, args.batch, args.seed),
        steps=args.steps,
        key=key,
        mesh=args.mesh,
        steps_per_execution=5,
        evaluate=evaluate,
        evaluate_every=max(args.steps // 40, 1),
        patience=10,
        format_metrics=lambda m: f"scaled error {m['loss']:.5f}",
    )
    if end.best_step is None:
        raise ValueError(f"error of the held-out windows: expected a finite one, got none up to step {end.state.step}; "
                         "a smaller --rate may help")  # fmt: skip
    return best_params, end.best_step


def mackey_glass(count: int = 3000, delay: int = 17, seed: int = 0) -> np.ndarray:
    """The solution of x' = 0.2 x(t - 17) / (1 + x(t - 17)¹⁰) - 0.1 x at whole times, by steps of 0.1."""
    per, x = 10, [1.2 + 0.05 * np.random.default_rng(seed).normal()]
    for n in range((count + 500) * per):
        past = x[n - delay * per] if n >= delay * per else 0.0
        x.append(x[-1] + (0.2 * past / (1 + past**10) - 0.1 * x[-1]) / per)
    return np.array(x[500 * per :: per][:count])


def draw(
    values: np.ndarray, steps: np.ndarray, forecasts: dict[str, np.ndarray], errors: dict[str, np.ndarray],
    how: Series, args: argparse.Namespace,
) -> None:  # fmt: skip
    """Left: forecasts and the truth, one after another. Right: error by horizon."""
    figure, (left, right) = common.subplots(1, 2, figsize=(12, 4), width_ratios=(2.2, 1))
    shown = range(0, min(len(steps), 8 * how.horizon), how.horizon)  # forecasts that do not overlap
    span = np.arange(steps[0, 0] - how.horizon, steps[shown[-1], -1] + 1)
    left.plot(span, values[span], color="black", lw=2.6, label="truth")
    for (name, forecast), colour, dash in zip(forecasts.items(), rnn.plots.COLOURS, ("-", "--")):  # not the last value
        for n in shown:
            left.plot(steps[n], forecast[n], dash, color=colour, lw=1.3, label=None if n else name)
    for n in shown:
        left.axvline(steps[n, 0] - 0.5, color=rnn.plots.GREY, lw=0.6, ls=":")
    left.set(xlabel=f"{how.step}, from the start of the series", ylabel=how.unit,
             title=f"{args.series}: forecasts of {how.horizon} steps, each from a dotted line")  # fmt: skip
    for (name, error), colour, style in zip(errors.items(), rnn.plots.COLOURS, rnn.plots.DASHES):
        right.plot(np.arange(1, how.horizon + 1), error, color=colour, ls=style, label=name)
    right.set(xlabel="steps ahead", ylabel=f"mean squared error [({how.unit})²]", yscale="log")
    right.set_title(f"{len(steps):,} forecasts")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    common.save_plot(figure, pathlib.Path(args.out) / f"{args.series}.png")


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/forecast", "few steps on the Mackey-Glass series", plots=True, data_free=True)
    add = parser.add_argument
    add("--series", choices=SERIES, default="mackey-glass", help="the series")
    add("--data", metavar="DIR", help="folder with the CSV files (default: downloaded once)")
    add("--cell", choices=CELLS, default="gru", help="the cell")
    add("--units", type=positive, default=64, help="hidden size")
    add("--steps", type=positive, default=1000, quick=300, help="optimizer steps")
    add("--batch", type=positive, default=32, help="contexts of an optimizer step")
    add("--rate", type=above_zero, default=3e-3, help="initial learning rate of Adam, with cosine decay to 0")
    add("--decay", type=not_negative, default=1e-3, help="weight decay")
    args = parser.parse_args()
    if args.data is not None and args.series == "mackey-glass":
        parser.error("--data: expected a --series that is read from a file, got mackey-glass, which is computed")
    if args.quick and args.series != "mackey-glass":
        parser.error(f"--series: expected mackey-glass with --quick, which needs no download, got {args.series}")
    return args


if __name__ == "__main__":
    common.run(main)
