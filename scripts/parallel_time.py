"""Linear recurrences over time: step after step, in chunks, and by prefix scan; forward and gradient.

Times are in milliseconds, the least of several, all ways in turn. The last column is the gradient by autodiff of the
step, relative to that of the recurrence, both step after step.

    python scripts/parallel_time.py [--quick] [--steps 1000 10000 100000]
"""

from __future__ import annotations

import argparse
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn as rnn
from jaxrnn.parallel import linear, unrolled

SHAPES = ((1, 64), (16, 128))  # B, H


def programs(cell: Any, params: Any, xs: jax.Array) -> dict:
    """The compiled outputs and gradients of a cell, with each algorithm whatever the backend, and by autodiff."""

    def outputs(params: Any, xs: jax.Array, derivative: str = "rule") -> jax.Array:
        return rnn.unroll(cell, params, xs, derivative=derivative)[1]

    def gradient(params: Any, xs: jax.Array, derivative: str = "rule") -> Any:
        return jax.grad(lambda params: jnp.square(outputs(params, xs, derivative)).sum())(params)

    compiled: dict = {}
    for name in linear.ALGORITHMS:
        unrolled.choose_algorithm = functools.partial(lambda name, *_: name, name)
        jax.clear_caches()
        compiled |= {(f, name): jax.jit(f).lower(params, xs).compile() for f in (outputs, gradient)}
    by_autodiff = functools.partial(gradient, derivative="autodiff")
    compiled[gradient, "autodiff"] = jax.jit(by_autodiff).lower(params, xs).compile()
    return dict(sorted(compiled.items(), key=lambda entry: entry[0][0] is gradient))


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
    parser.add_argument("--quick", action="store_true", help="one shape only")
    options = parser.parse_args()
    names = list(linear.ALGORITHMS)
    header = f"{', forward | '.join(names)}, forward | {', gradient | '.join(names)}, gradient"
    print(f"| cell | T | B × H | {header} | autodiff |")
    print("|---|---:|---:|" + "---:|" * (2 * len(names) + 1))
    for make in (rnn.MinGRU, rnn.LRU):
        for steps in options.steps:
            for batch, units in SHAPES[: 1 if options.quick else None]:
                if steps * batch * units > 2**25:  # of memory
                    continue
                cell = make(units, units)
                params, xs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (steps, batch, units))
                *times, autodiff = milliseconds(programs(cell, params, xs), (params, xs), options.repeats).values()
                cells = " | ".join(f"{t:.2g}" if t < 10 else f"{t:.0f}" for t in times)
                ratio = autodiff / times[len(names) + names.index("sequential")]
                row = f"{type(cell).__name__} | {steps:,} | {batch} × {units} | {cells} | {ratio:.1f} ×"
                print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
