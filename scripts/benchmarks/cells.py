"""The gradient of every cell that declares its differential: the rule against autodiff of the same scan.

    cd scripts && python -m benchmarks.cells --shapes 16x32,32x128,64x256 --rounds 30

Gradient with respect to parameters and inputs, inputs as wide as the state. Both are timed in turns; the ratio, how
many times as long autodiff takes, is of the minima over the rounds. ``--forward`` times the projection of the inputs in
the step against the projection before the scan (``precompute_projection``) instead.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import jax

import jaxrnn as rnn

CELLS: dict[str, Callable[[int], Any]] = {
    "LSTM": lambda n: rnn.LSTM(n, n),
    "LSTM, layer norm": lambda n: rnn.LSTM(n, n, layer_norm=True),
    "LSTM, projection": lambda n: rnn.LSTM(n, n, projection_size=n // 2),
    "LSTM, both clips": lambda n: rnn.LSTM(n, n, projection_size=n // 2, cell_clip=3.0, projection_clip=1.0),
    "GRU, layer norm": lambda n: rnn.GRU(n, n, layer_norm=True),
    "GRU, reset after, layer norm": lambda n: rnn.GRU(n, n, reset_after=True, layer_norm=True),
    "vanilla, layer norm": lambda n: rnn.VanillaRNN(n, n, layer_norm=True),
    "MGU": lambda n: rnn.MGU(n, n),
    "MGU, reset after": lambda n: rnn.MGU(n, n, reset_after=True),
    "JANET": lambda n: rnn.JANET(n, n),
    "multiplicative LSTM": lambda n: rnn.MultiplicativeLSTM(n, n),
    "IndRNN": lambda n: rnn.IndRNN(n, n),
    "leaky": lambda n: rnn.LeakyRNN(n, n),
    "convolutional LSTM": lambda n: rnn.ConvLSTM((8, 8, n // 8), n // 8, 3),
}


def gradients(cell: Any) -> list[Callable]:
    """By the rule and by autodiff."""

    def gradient(derivative: str) -> Callable:
        def loss(params: Any, xs: jax.Array) -> jax.Array:
            return (rnn.unroll(cell, params, xs, derivative=derivative)[1] ** 2).mean()

        return jax.jit(jax.grad(loss, argnums=(0, 1)))

    return [gradient("rule"), gradient("autodiff")]


def forwards(cell: Any) -> list[Callable]:
    """With the projection before the scan and in the step."""

    def forward(precompute: bool) -> Callable:
        class Same(type(cell)):  # type: ignore[misc]
            def precompute_projection(self, rows: int) -> bool:
                return precompute

            differential = type(cell).differential

        same = object.__new__(Same)
        same.__dict__.update(vars(cell))
        return jax.jit(lambda params, xs: rnn.unroll(same, params, xs)[1])

    return [forward(True), forward(False)]


def minima(calls: list[Callable], rounds: int) -> list[float]:
    """The least time of each, in ms, all called in turns."""
    times = [float("inf")] * len(calls)
    for n in range(rounds + 1):
        for i, call in enumerate(calls):
            began = time.perf_counter()
            jax.block_until_ready(call())
            if n:  # the first round compiles
                times[i] = min(times[i], (time.perf_counter() - began) * 1e3)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", help="names, separated by semicolons; by default all")
    parser.add_argument("--shapes", default="16x32,32x128,64x256", help="batch x units")
    parser.add_argument("--steps", type=int, default=64, help="T")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--forward", action="store_true", help="compare both places of the input projection")
    args = parser.parse_args()
    for name in args.cells.split(";") if args.cells else CELLS:
        for shape in args.shapes.split(","):
            batch, units = map(int, shape.split("x"))
            cell = CELLS[name](units)
            params = cell.init(jax.random.key(0))
            features = getattr(cell, "input_shape", (units,))
            xs = jax.random.normal(jax.random.key(1), (args.steps, batch, *features))
            compared = forwards(cell) if args.forward else gradients(cell)
            first, second = minima([functools.partial(f, params, xs) for f in compared], args.rounds)
            print(f"{name}, {shape}: {first:.2f} ms, {second / first:.2f}", flush=True)


if __name__ == "__main__":
    main()
