"""How a JAX model is run, differentiated, trained and compiled for the benchmark."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

from benchmarks import cases
from benchmarks.cases import Case, Refused
from benchmarks.jax_models import Model, build, jaxrnn
from jaxrnn import learning

LEARNING_RATE = 1e-3


class Runner:
    """One case in one JAX library."""

    def __init__(self, library: str, case: Case) -> None:
        built = build(library, case)
        if isinstance(built, str):
            raise Refused(built)
        self.library, self.case, self.model = library, case, built
        self.wide = library == "reference"
        dtype = jnp.float64 if self.wide else jnp.dtype(case.dtype)
        self.weights = [{k: jnp.asarray(v, dtype) for k, v in part.items()} for part in cases.weights(case)]
        self.params = built.load(self.weights)
        xs = jnp.asarray(cases.inputs(case), dtype)
        self.xs = jnp.swapaxes(xs, 0, 1).copy() if built.batch_first else xs
        self.forward = jax.jit(built.apply)
        self.gradient = jax.jit(jax.grad(self.loss, (0, 1)))
        if library.endswith("-sharded"):
            split = P("batch") if built.batch_first else P(None, "batch")
            self.xs = learning.shard_batch(self.xs, learning.device_mesh(), split)
            self.params = learning.shard_batch(self.params, learning.device_mesh(), P())

    def loss(self, params: Any, xs: jax.Array) -> jax.Array:
        """Mean of the squares of all outputs."""
        ys = self.model.apply(params, xs)
        return jnp.mean(jnp.square(ys.astype(jnp.promote_types(ys.dtype, jnp.float32))))

    def call(self, measure: str) -> Callable[[], Any]:
        """One blocking call of what is timed, compiled."""
        params, xs = self.params, self.xs
        if measure == "forward":
            return lambda: jax.block_until_ready(self.forward(params, xs))
        if measure == "gradient":
            return lambda: jax.block_until_ready(self.gradient(params, xs))
        if measure == "step":
            return self._train()
        if measure == "decode":
            return self._decode()
        raise Refused(f"{measure} is not timed")

    def _train(self) -> Callable[[], None]:
        """One step of Adam; parameters and optimizer state are given back to it each time."""
        optimizer = optax.adam(LEARNING_RATE)

        def step(state: tuple, xs: jax.Array) -> tuple:
            params, opt = state
            updates, opt = optimizer.update(jax.grad(self.loss)(params, xs), opt, params)
            return optax.apply_updates(params, updates), opt

        step = jax.jit(step, donate_argnums=0)
        params = jax.tree.map(jnp.copy, self.params)
        state = params, optimizer.init(params)

        def call() -> None:
            nonlocal state
            state = jax.block_until_ready(step(state, self.xs))

        return call

    def _decode(self) -> Callable[[], jax.Array]:
        """All T steps in one compiled loop that feeds each output back; returns the outputs."""
        if self.model.step is None:
            raise Refused("decoding is compared with PyTorch alone")
        step, start = self.model.step, self.model.start

        def loop(params: Any, state: Any, x: jax.Array) -> Any:
            def body(carry: tuple, _: None) -> tuple:
                state, y = step(params, *carry)
                return (state, y), y

            return jax.lax.scan(body, (state, x), length=self.case.steps)[1]

        run = jax.jit(loop)
        return lambda: jax.block_until_ready(run(self.params, start, self.xs[0]))

    def check(self, measures: list[str]) -> dict[str, np.ndarray]:
        """What a measure computes: outputs ``[T, B, H]``, gradients by the weights of the case and by the inputs."""
        found = {}
        if "decode" in measures:
            found["decoded outputs"] = self._decode()()
        if {"forward", "gradient", "step"} & set(measures):
            found["outputs"] = self._time_first(self.forward(self.params, self.xs))
        if {"gradient", "step"} & set(measures):
            by_params, by_xs = self.gradient(self.params, self.xs)
            (by_weights,) = jax.vjp(self.model.load, self.weights)[1](by_params)
            found["d inputs"] = self._time_first(by_xs)
            for n, part in enumerate(by_weights):
                found |= {f"d {name}[{n}]": a for name, a in part.items() if name not in self.model.unlike}
        return {name: np.asarray(a, np.float64 if self.wide else np.float32) for name, a in found.items()}

    def _time_first(self, a: jax.Array) -> jax.Array:
        return jnp.swapaxes(a, 0, 1) if self.model.batch_first else a

    def compiling(self) -> dict[str, Any]:
        """Seconds to trace and compile the gradient, bytes that it needs besides its arguments and results."""
        jax.clear_caches()
        fresh = jax.jit(jax.grad(lambda params, xs: self.loss(params, xs), (0, 1)))
        began = time.perf_counter()
        compiled = fresh.lower(self.params, self.xs).compile()
        seconds = time.perf_counter() - began
        kept = residuals(self.loss, self.params, self.xs)
        return {"times": [seconds], "temporary": temporary(compiled), "residuals": kept}

    def remat(self) -> dict[str, Any]:
        """Bytes for the gradient of the final state by the parameters, as it is and rematerialised."""

        def needed(model: Model) -> int:
            assert model.final is not None
            final = model.final
            gradient = jax.grad(lambda p, xs: sum(jnp.mean(jnp.square(s)) for s in jax.tree.leaves(final(p, xs))))
            return temporary(jax.jit(gradient).lower(self.params, self.xs).compile())

        again = jaxrnn(self.case, remat=True)
        assert isinstance(again, Model)
        return {"plain": needed(self.model), "remat": needed(again)}


def temporary(compiled: Any) -> int:
    """Bytes that a compiled function allocates besides its arguments and results."""
    return int(compiled.memory_analysis().temp_size_in_bytes)


def residuals(loss: Callable, *args: Any) -> int:
    """Bytes that the forward pass leaves for the backward pass, the arguments themselves not counted."""
    jaxpr = jax.make_jaxpr(lambda *args: jax.vjp(loss, *args)[1])(*args).jaxpr
    given = {id(v) for v in [*jaxpr.invars, *jaxpr.constvars]}
    kept = {id(v): v.aval for v in jaxpr.outvars if id(v) not in given}  # each array once
    return sum(aval.size * aval.dtype.itemsize for aval in kept.values())
