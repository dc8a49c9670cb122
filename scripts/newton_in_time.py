"""Newton's method in time against the scan: iterations, residual and time of the forward pass.

    python scripts/newton_in_time.py [--quick] [--steps 100 1000 10000] [--units 4 16 64]

``gain`` multiplies the recurrent weights: 1 is the initialization, larger ones are like training, up to chaos.
"""

import argparse
import itertools
import time

import jax
import jax.numpy as jnp

import jaxrnn as rnn

CELLS = [(rnn.VanillaRNN, (1.0, 1.5, 3.0)), (rnn.GRU, (1.0, 3.0)), (rnn.LSTM, (1.0, 3.0))]


LARGEST = 3e8  # T S³: larger cases are left out


def seconds(functions, *args, repeats: int = 5) -> list[float]:
    """The shortest time of each function, all in turn, after a call that compiles."""
    best = [float("inf")] * len(functions)
    for _ in range(repeats + 1):
        for n, function in enumerate(functions):
            began = time.perf_counter()
            jax.block_until_ready(function(*args))
            best[n] = min(best[n], time.perf_counter() - began)
    return best


def row(cell, gain: float, steps: int, batch: int, jacobian: str) -> str:
    key = jax.random.key(0)
    params = cell.init(key)
    params = params._replace(w_hh=gain * params.w_hh)
    xs = jax.random.normal(key, (steps, batch, cell.input_size))
    newton = jax.jit(lambda params, xs: rnn.parallel.newton(cell, params, xs, jacobian=jacobian))
    scan = jax.jit(lambda params, xs: rnn.unroll(cell, params, xs, parallel="sequential"))
    found, (_, ys) = newton(params, xs), scan(params, xs)
    error = float(jnp.abs(found.ys - ys).max())
    of_newton, of_scan = seconds((newton, scan), params, xs)
    return (
        f"| {type(cell).__name__} | {gain:g} | {cell.hidden_size} | {steps:,} | {jacobian} | {int(found.iterations)} | "
        f"{float(found.residual):.0e} | {error:.0e} | {1e3 * of_scan:.2f} | {of_newton / of_scan:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--units", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--jacobian", nargs="+", default=["full", "diagonal"])
    parser.add_argument("--quick", action="store_true", help="gain 1 and full Jacobians only")
    args = parser.parse_args()
    print(f"backend {jax.default_backend()}, batch {args.batch}; at most 100 iterations\n")
    print("| cell | gain | H | T | Jacobian | iterations | residual | error | scan, ms | Newton / scan |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for make, gains in CELLS:
        for gain, units, steps in itertools.product(gains[: 1 if args.quick else None], args.units, args.steps):
            cell = make(3, units)
            size = sum(s.size for s in jax.tree.leaves(cell.initial_state()))
            for jacobian in args.jacobian[: 1 if args.quick else None]:
                if steps * size**3 <= LARGEST:
                    print(row(cell, gain, steps, args.batch, jacobian), flush=True)


if __name__ == "__main__":
    main()
