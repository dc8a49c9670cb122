"""One number of devices in one process: ``python -m benchmarks.scaling DEVICES CORES PLATFORM``, of scaling.py.

The step is the one that ``learning.fit`` runs: ``learning.train_step`` with the batch split over the devices and the
parameters on each of them.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.cost_model import Network
from benchmarks.worker import Worker, serve

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}


def build(net: Network) -> Any:
    """The model of the library."""
    import jaxrnn as rnn

    kind = {"lstm": rnn.LSTM, "gru": rnn.GRU}[net.cell]
    cells = [kind(width, net.hidden) for width in net.widths]
    layers = [rnn.Bidirectional(cell) if net.directions == 2 else cell for cell in cells]
    readout = rnn.Linear(net.directions * net.hidden, net.vocabulary)
    return rnn.Stack(rnn.Embedding(net.vocabulary, net.embedding), *layers, readout)


def compiled_step(net: Network, batch: int, devices: int) -> tuple[Any, tuple]:
    """The train step for a global batch, compiled, and its state, batch and key."""
    import jax
    import optax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    import jaxrnn as rnn
    from jaxrnn import learning

    model = build(net)

    def loss(params: Any, carry: Any, batch: tuple, key: Any) -> tuple:
        ids, targets = batch
        return rnn.losses.cross_entropy(rnn.unroll(model, params, ids)[1], targets), ((), {})

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    mesh = Mesh(np.array(jax.devices()[:devices]), ("batch",))
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(None, "batch"))
    state = jax.device_put(learning.train_state(model.init(jax.random.key(0)), optimizer), everywhere)
    ids = np.random.default_rng(0).integers(net.vocabulary, size=(net.steps + 1, batch), dtype=np.int32)
    chunk = jax.device_put((ids[:-1], ids[1:]), split)
    key = jax.device_put(jax.random.key(1), everywhere)
    step = jax.jit(learning.train_step(loss, optimizer), donate_argnums=0, out_shardings=everywhere)
    return step.lower(state, chunk, key).compile(), (state, chunk, key)


def all_reduced(program: str) -> tuple[int, int]:
    """Bytes that all all-reduces of a compiled program sum, and the number of collectives inside its loops."""
    computations = re.split(r"\n(?=[%\w][^\n]*\{\n)", program)
    bodies = set(re.findall(r"body=(%[\w.-]+)", program))
    total = inside = 0
    for computation in computations:
        name = re.match(r"(?:ENTRY )?(%[\w.-]+)", computation)
        for line in computation.splitlines():
            found = re.search(r" = (.+?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)"
                              r"(?:-start)?\(", line)  # fmt: skip
            if found:
                inside += name is not None and name[1] in bodies
                total += nbytes(found[1]) * (found[2] == "all-reduce")
    return total, inside


def nbytes(shapes: str) -> int:
    """Bytes of an array or a tuple of arrays, as XLA writes their shapes."""
    return sum(
        BYTES[dtype] * math.prod(int(n) for n in sizes.split(",") if n)
        for dtype, sizes in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shapes)
    )


class Sharded(Worker):
    """The train step on some devices."""

    def __init__(self, devices: int, cores: int, platform: str) -> None:
        super().__init__("jaxrnn", platform)
        self.devices, self.cores = devices, cores

    def hello(self) -> dict[str, Any]:
        """Make the devices and say what they are."""
        if self.device == "cpu" and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: self.cores])
        import jax

        jax.config.update("jax_num_cpu_devices", self.devices)
        if jax.device_count() < self.devices:
            return {"missing": f"there are {jax.device_count()} devices"}
        packages = ("jaxrnn", "jax", "jaxlib")
        kind = jax.devices()[0].device_kind
        return {"device": kind, **{name: importlib.metadata.version(name) for name in packages}}

    def prepare(self, net: list, measures: dict[str, int], save: str) -> dict[str, Any]:  # type: ignore[override]
        """Compile a step for each measure, which has a global batch; save loss and gradient of the first step."""
        self.drop()
        found: dict[str, Any] = {}
        for measure, batch in measures.items():
            program, args = compiled_step(Network(*net), batch, self.devices)
            total, inside = all_reduced(program.as_text())
            found[measure] = {"batch": batch, "all_reduced": total, "collectives_in_loops": inside}
            self.calls[measure], after_one = repeated(program, args)
            if measure == "strong":
                np.savez(save, **after_one)
        return found


def repeated(program: Any, args: tuple) -> tuple[Callable[[], None], dict[str, Any]]:
    """A blocking call of the next step; loss and moments of the first step, which is taken here."""
    import jax
    import optax

    state, *rest = args
    state, metrics = program(state, *rest)
    moments = jax.tree.leaves(optax.tree_utils.tree_get(state.opt_state, "mu"))  # clipped gradient, times 1 - beta1
    first = {"loss": np.asarray(metrics["loss"])} | {f"gradient {n}": np.asarray(m) for n, m in enumerate(moments)}

    def call() -> None:
        nonlocal state
        state = jax.block_until_ready(program(state, *rest)[0])

    return call, first


if __name__ == "__main__":
    serve(Sharded(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
