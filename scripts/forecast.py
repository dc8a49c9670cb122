"""Forecast a time series h steps ahead, beside the value a season ago and the last value.

    python scripts/forecast.py                                            # the chaotic series of Mackey and Glass
    python scripts/forecast.py --data DIR --series monthly-sunspots       # DIR holds the CSV files

After a context of L values the network tells the h values that follow it all at once. It sees, beside the value of
each step, the values a season before those to be told, and its readout sees them too, so that it may start from
them. The series is cut in time: the network learns from the first part, the epoch that is best on the second is
kept, and the third is forecast from each of its steps. Mean and standard deviation are those of the first part. Of a
series that grows the network tells log x(t) - log x(t - season).
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
from common import above_zero, not_negative, positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import datasets


class Series(NamedTuple):
    """How a series is forecast."""

    season: int  # steps
    horizon: int  # h
    context: int  # L
    unit: str
    step: str
    grows: bool = False  # the network then tells by what factor the season before is passed

    @property
    def lag(self) -> int:
        """As many whole seasons as lie between a value and the forecast that may start from it."""
        return -(-self.horizon // self.season) * self.season


SERIES = {
    "mackey-glass": Series(50, 50, 100, "x", "time"),
    "airline-passengers": Series(12, 12, 12, "thousands of passengers", "month", grows=True),
    "daily-min-temperatures": Series(365, 14, 60, "°C", "day"),
    "monthly-sunspots": Series(132, 24, 132, "sunspot number", "month"),
}
CELLS = {"vanilla": rnn.VanillaRNN, "lstm": rnn.LSTM, "gru": rnn.GRU}


class Windows(NamedTuple):
    """Contexts of the network and what follows them."""

    inputs: np.ndarray  # [L, B, 1 + h], scaled: the value, and those a season before the ones to be told
    targets: np.ndarray  # [L, B, h], scaled: what follows each step
    origins: np.ndarray  # [B], the last step of each context


def main() -> None:
    args = arguments()
    common.needs("matplotlib")
    began = time.monotonic()
    how = SERIES[args.series]
    values = mackey_glass() if args.series == "mackey-glass" else datasets.time_series(args.series, args.data).values
    skipped = how.lag if how.grows else 0
    told = np.log(values[skipped:] / values[:-skipped]) if how.grows else values
    ends = [int(len(told) * share) for share in (0.6, 0.8, 1.0)]
    mean, scale = told[: ends[0]].mean(), told[: ends[0]].std()
    known, held_out, test = (windows((told - mean) / scale, how, a, b) for a, b in zip((0, *ends[:2]), ends))
    model = rnn.Stack(
        rnn.Residual(CELLS[args.cell](1 + how.horizon, args.units), "concat"),
        rnn.Linear(1 + how.horizon + args.units, how.horizon),
    )
    print(f"{args.series}: {len(values):,} values, season {how.season}, forecasts of {how.horizon} steps "
          f"from a context of {how.context}\n{model}")  # fmt: skip
    params, best_step = train(model, known, held_out, args)

    ahead = (test.origins + skipped)[:, None] + np.arange(1, how.horizon + 1)  # [B, h]
    truth, ago = values[ahead], values[ahead - how.lag]
    network = mean + scale * np.asarray(predict(model, params, test.inputs))
    forecasts = {
        args.cell: ago * np.exp(network) if how.grows else network,
        "a season ago": ago,
        "last value": np.repeat(values[ahead[:, :1] - 1], how.horizon, axis=1),
    }
    errors = {name: ((forecast - truth) ** 2).mean(0) for name, forecast in forecasts.items()}  # [h]
    print(f"\nmean squared error of {len(truth):,} forecasts of {how.horizon} values [({how.unit})²]")
    for name, e in errors.items():
        print(f"  {name:14} {e.mean():10.5g}   at step 1 {e[0]:10.5g}   at step {how.horizon} {e[-1]:10.5g}")
    totals = {name: float(f"{error.mean():.5g}") for name, error in errors.items()}
    won = totals[args.cell] < min(totals["a season ago"], totals["last value"])
    print(f"the network {'wins' if won else 'does not win'}; its best step was {best_step:,}")
    path = pathlib.Path(args.out) / f"{args.series}.png"
    draw(values, ahead, forecasts, errors, how, args, path)
    print(f"{path} is drawn")
    print(json.dumps({"script": "forecast", "series": args.series, "horizon": how.horizon, "mse": totals, "wins": won,
                      "seconds": round(time.monotonic() - began, 1)}))  # fmt: skip


def windows(scaled: np.ndarray, how: Series, start: int, end: int) -> Windows:
    """Every context whose h following values lie in [start, end); the context itself may reach back before start."""
    told = np.lib.stride_tricks.sliding_window_view(scaled, how.horizon)  # row s: the values s … s + h - 1
    origins = np.arange(max(start - 1, how.context - 2 + how.lag), end - how.horizon)
    if len(origins) < 1:
        need = how.context + how.lag + how.horizon
        raise ValueError(f"series: expected parts of more than {need} values, got {end - start}")
    steps = origins + np.arange(1 - how.context, 1)[:, None]  # [L, B]
    inputs = np.concatenate([scaled[steps, None], told[steps + 1 - how.lag]], -1)
    return Windows(inputs.astype(np.float32), told[steps + 1].astype(np.float32), origins)


@functools.partial(jax.jit, static_argnames="model")
def predict(model: rnn.Stack, params: Any, inputs: jax.Array) -> jax.Array:
    """The forecasts ``[B, h]`` at the end of each context."""
    return rnn.unroll(model, params, inputs)[1][-1]


class Shuffled:
    """Batch n: some windows, drawn by chance that follows from the seed and n."""

    def __init__(self, windows: Windows, batch: int, seed: int) -> None:
        self.windows, self.batch, self.seed = windows, batch, seed

    def __getitem__(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        some = np.random.default_rng([self.seed, n]).integers(len(self.windows.origins), size=self.batch)
        return self.windows.inputs[:, some], self.windows.targets[:, some]


def train(model: rnn.Stack, known: Windows, held_out: Windows, args: argparse.Namespace) -> tuple[Any, int]:
    """The parameters that are best on the held-out windows, and at which step."""
    best, kept = float("inf"), None

    def loss(params, carry, batch, key):
        inputs, targets = batch
        _, ys = rnn.unroll(model, params, inputs)
        return rnn.losses.squared_error(ys, targets), (carry, {})

    def evaluate(params, step):
        nonlocal best, kept
        error = float(((predict(model, params, held_out.inputs) - held_out.targets[-1]) ** 2).mean())
        if error < best:
            best, kept = error, jax.device_get(params)
        return {"loss": error}

    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.cosine_decay_schedule(args.rate, args.steps), weight_decay=args.decay),
    )
    init_key, key = jax.random.split(jax.random.key(args.seed))
    end = learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(model.init(init_key), optimizer),
        Shuffled(known, args.batch, args.seed),
        steps=args.steps,
        key=key,
        steps_per_execution=5,
        evaluate=evaluate,
        evaluate_every=max(args.steps // 40, 1),
        patience=10,
        format_metrics=lambda m: f"scaled error {m['loss']:.5f}",
    )
    if end.best_step is None:
        raise ValueError(f"error of the held-out windows: expected a finite one, got none up to step {end.state.step}; "
                         "a smaller --rate may help")  # fmt: skip
    return kept, end.best_step


def mackey_glass(count: int = 3000, delay: int = 17, seed: int = 0) -> np.ndarray:
    """The solution of x' = 0.2 x(t - 17) / (1 + x(t - 17)¹⁰) - 0.1 x at whole times, by steps of 0.1."""
    per, x = 10, [1.2 + 0.05 * np.random.default_rng(seed).normal()]
    for n in range((count + 500) * per):
        past = x[n - delay * per] if n >= delay * per else 0.0
        x.append(x[-1] + (0.2 * past / (1 + past**10) - 0.1 * x[-1]) / per)
    return np.array(x[500 * per :: per][:count])


def draw(
    values: np.ndarray, ahead: np.ndarray, forecasts: dict[str, np.ndarray], errors: dict[str, np.ndarray],
    how: Series, args: argparse.Namespace, path: pathlib.Path,
) -> None:  # fmt: skip
    """Left: forecasts beside the truth, one after another. Right: the error by how far ahead it is."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4), width_ratios=(2.2, 1), layout="constrained")
    shown = range(0, min(len(ahead), 8 * how.horizon), how.horizon)  # forecasts that do not overlap
    span = np.arange(ahead[0, 0] - how.horizon, ahead[shown[-1], -1] + 1)
    left.plot(span, values[span], color="black", lw=2.6, label="truth")
    for (name, forecast), colour, dash in zip(forecasts.items(), rnn.plots.COLOURS, ("-", "--")):  # not the last value
        for n in shown:
            left.plot(ahead[n], forecast[n], dash, color=colour, lw=1.3, label=None if n else name)
    for n in shown:
        left.axvline(ahead[n, 0] - 0.5, color=rnn.plots.GREY, lw=0.6, ls=":")
    left.set(xlabel=f"{how.step}, from the start of the series", ylabel=how.unit,
             title=f"{args.series}: forecasts of {how.horizon} steps, each from a dotted line")  # fmt: skip
    for (name, error), colour, style in zip(errors.items(), rnn.plots.COLOURS, rnn.plots.DASHES):
        right.plot(np.arange(1, how.horizon + 1), error, color=colour, ls=style, label=name)
    right.set(xlabel="steps ahead", ylabel=f"mean squared error [({how.unit})²]", yscale="log")
    right.set_title(f"{len(ahead):,} forecasts")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--series", choices=SERIES, default="mackey-glass")
    add("--data", metavar="DIR", help="folder with the CSV files; by default they are downloaded")
    add("--cell", choices=CELLS, default="gru")
    add("--units", type=positive, default=64)
    add("--steps", type=positive, default=1000, help="optimizer steps")
    add("--batch", type=positive, default=32, help="contexts")
    add("--rate", type=above_zero, default=3e-3, help="learning rate of Adam at the start; it falls to 0 as a cosine")
    add("--decay", type=not_negative, default=1e-3, help="weight decay")
    add("--seed", type=common.seed, default=0)
    add("--out", type=common.picture_folder, default="runs/forecast", help="folder of the picture")
    return parser.parse_args()


if __name__ == "__main__":
    common.run(main)
