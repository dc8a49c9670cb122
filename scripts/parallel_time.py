"""Linear recurrences over time: step after step, in chunks, and by prefix scan; forward and gradient.

Times are in milliseconds, the least of several, all ways in turn.

    python scripts/parallel_time.py --steps 1000 10000 100000
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn as rnn
from jaxrnn.parallel import linear, unrolled

SHAPES = ((1, 64), (16, 128))  # B, H


def programs(cell: Any, algorithm: str, params: Any, xs: jax.Array) -> tuple[Any, Any]:
    """The compiled outputs and gradient of a cell, with one algorithm whatever the backend."""
    unrolled.choose_algorithm = lambda parallel, decay: algorithm
    jax.clear_caches()

    def outputs(params: Any, xs: jax.Array) -> jax.Array:
        return rnn.unroll(cell, params, xs)[1]

    gradient = jax.grad(lambda params, xs: jnp.square(outputs(params, xs)).sum())
    forward, backward = (jax.jit(f).lower(params, xs).compile() for f in (outputs, gradient))
    return forward, backward


def milliseconds(functions: dict, arguments: tuple, repeats: int) -> dict:
    """The least time of each function, all in turn."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(repeats + 1):  # the first is a warm-up, never the least
        for name, function in functions.items():
            began = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            best[name] = min(best[name], time.perf_counter() - began)
    return {name: 1e3 * seconds for name, seconds in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    names = list(linear.ALGORITHMS)
    print(f"| cell | T | B × H | {' | '.join(f'{n}, forward' for n in names)} | {' | '.join(names)}, gradient |")
    print("|---|---:|---:|" + "---:|" * 2 * len(names))
    for make in (rnn.MinGRU, rnn.LRU):
        for steps in options.steps:
            for batch, units in SHAPES:
                if steps * batch * units > 2**25:  # of memory
                    continue
                cell = make(units, units)
                params, xs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (steps, batch, units))
                both = {name: programs(cell, name, params, xs) for name in names}
                functions = {(way, name): both[name][way] for way in (0, 1) for name in names}
                times = milliseconds(functions, (params, xs), options.repeats)
                cells = " | ".join(f"{t:.2g}" if t < 10 else f"{t:.0f}" for t in times.values())
                print(f"| {cell.__class__.__name__} | {steps:,} | {batch} × {units} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
