"""Options of the LSTM: the gradient by the rule against autodiff and against the same cell written in other libraries.

    cd scripts && python -m benchmarks.options --shapes 16x32,32x128,64x256 --rounds 30

No library of JAX has an LSTM with layer norm, nor one with a projection. With the norms of Flax and of Haiku the first
is a dozen lines, which are here. All have the same weights, and their gradients must agree. They are timed in turns: a
time is the minimum over the rounds, a ratio is the time divided by that of jaxrnn.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn as rnn
from benchmarks.cells import minima
from jaxrnn.cells.normalization import EPSILON


def equations(norms: list, c: jax.Array, x: Any, h: Any, b: Any) -> tuple:
    """The LSTM of Ba et al., from both products and the norms of these and of c: the new c and h."""
    norm_x, norm_h, norm_c = norms
    i, f, o, candidate = jnp.split(norm_x(x) + norm_h(h) + b, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(candidate)
    return c, jax.nn.sigmoid(o) * jnp.tanh(norm_c(c))


class FlaxCell(nn.RNNCellBase):
    """In linen."""

    features: int

    @nn.compact
    def __call__(self, carry: tuple, x: jax.Array) -> tuple:
        norms = [nn.LayerNorm(epsilon=EPSILON, name=f"norm_{name}") for name in "xhc"]
        products = [nn.Dense(4 * self.features, use_bias=False, name=name) for name in "xh"]
        b = self.param("b", nn.initializers.zeros, (4 * self.features,))
        c, h = equations(norms, carry[0], products[0](x), products[1](carry[1]), b)
        return (c, h), h

    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> tuple:
        zeros = jnp.zeros((*input_shape[:-1], self.features))
        return zeros, zeros

    @property
    def num_feature_axes(self) -> int:
        return 1


class HaikuCore(hk.RNNCore):
    """In Haiku."""

    def __init__(self, features: int):
        super().__init__(name="core")
        self.features = features

    def __call__(self, x: jax.Array, state: tuple) -> tuple:
        norms = [hk.LayerNorm(-1, True, True, eps=EPSILON, name=f"norm_{name}") for name in "xhc"]
        products = [hk.Linear(4 * self.features, with_bias=False, name=name) for name in "xh"]
        b = hk.get_parameter("b", (4 * self.features,), init=jnp.zeros)
        c, h = equations(norms, state[0], products[0](x), products[1](state[1]), b)
        return h, (c, h)

    def initial_state(self, batch_size: int | None) -> tuple:
        zeros = jnp.zeros((batch_size or 1, self.features))
        return zeros, zeros


def flax(units: int, p: Any) -> tuple[Callable, Any]:
    """``apply(params, xs)`` and the parameters, from those of jaxrnn."""
    norms = {f"norm_{name}": {"scale": n.gain, "bias": n.bias} for name, n in p.layer_norm._asdict().items()}
    cell = {"x": {"kernel": p.w_xh}, "h": {"kernel": p.w_hh}, "b": p.b_h, **norms}
    return nn.RNN(FlaxCell(units), time_major=True).apply, {"params": {"cell": cell}}


def haiku(units: int, p: Any) -> tuple[Callable, Any]:
    """Likewise."""
    norms = {f"core/norm_{name}": {"scale": n.gain, "offset": n.bias} for name, n in p.layer_norm._asdict().items()}
    params = {"core": {"b": p.b_h}, "core/x": {"w": p.w_xh}, "core/h": {"w": p.w_hh}, **norms}

    def forward(xs: jax.Array) -> jax.Array:
        core = HaikuCore(units)
        return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

    apply = hk.transform(forward).apply
    return lambda params, xs: apply(params, None, xs), params


def models(units: int) -> dict[str, dict[str, tuple[Callable, Any]]]:
    """By option, then by library: ``apply(params, xs)`` and its parameters; jaxrnn is the first."""
    found: dict[str, dict[str, tuple[Callable, Any]]] = {}
    cells = {
        "layer_norm": rnn.LSTM(units, units, layer_norm=True),
        "projection_size": rnn.LSTM(units, units, projection_size=units // 2),
        "cell_clip": rnn.LSTM(units, units, cell_clip=3.0),
    }
    for option, cell in cells.items():
        params = cell.init(jax.random.key(0))
        runs = {name: functools.partial(outputs, cell, name) for name in ("rule", "autodiff")}
        found[option] = {f"jaxrnn ({name})": (run, params) for name, run in runs.items()}
        if option == "layer_norm":
            found[option] |= {"Flax": flax(units, params), "Haiku": haiku(units, params)}
    return found


def outputs(cell: Any, derivative: str, params: Any, xs: jax.Array) -> jax.Array:
    return rnn.unroll(cell, params, xs, derivative=derivative)[1]


def gradient(apply: Callable) -> Callable:
    return jax.jit(jax.grad(lambda params, xs: (apply(params, xs) ** 2).mean()))


def size(gradients: Any) -> float:
    """A number that must be the same for all: the norm of the gradient."""
    return float(jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradients))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="16x32,32x128,64x256", help="batch x units")
    parser.add_argument("--steps", type=int, default=128, help="T")
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    for shape in args.shapes.split(","):
        batch, units = map(int, shape.split("x"))
        xs = jax.random.normal(jax.random.key(1), (args.steps, batch, units))
        for option, libraries in models(units).items():
            calls = {name: functools.partial(gradient(apply), p, xs) for name, (apply, p) in libraries.items()}
            sizes = [size(call()) for call in calls.values()]
            np.testing.assert_allclose(sizes, sizes[0], rtol=1e-3)  # of a small h a norm multiplies the rounding
            times = dict(zip(calls, minima(list(calls.values()), args.rounds), strict=True))
            ours = times["jaxrnn (rule)"]
            ratios = ", ".join(f"{name} {ms / ours:.2f}" for name, ms in list(times.items())[1:])
            print(f"{shape} {option}: {ours:.2f} ms; {ratios}", flush=True)


if __name__ == "__main__":
    main()
