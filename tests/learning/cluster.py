"""Training runs in processes of their own, each with several CPU devices: ``python cluster.py FUNCTION OPTIONS``.

The functions below are what the processes run; :func:`run` starts them.
"""

import inspect
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Streams

VOCABULARY, BATCH = 12, 8
# How long a process that fails waits for the others; before JAX 0.8 it is five minutes.
HAS_SHUTDOWN_TIMEOUT = "shutdown_timeout_seconds" in inspect.signature(jax.distributed.initialize).parameters
SHUTDOWN_TIMEOUT = {"shutdown_timeout_seconds": 10} if HAS_SHUTDOWN_TIMEOUT else {}


def run(function, *, processes=1, devices=1, timeout=150, **options):
    """Start ``function(**options)`` in processes of so many devices each, and wait for all of them.

    Returns:
        For each process its exit status, its lines of JSON, the rest of its output, and when it ended.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    source = pathlib.Path(__file__)
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(source.parents[1]), *filter(None, sys.path)])
    if jax.config.jax_compilation_cache_dir and processes == 1:
        environment["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    started = []
    for process in range(processes):
        settings = {"function": function, "process": process, "processes": processes, "devices": devices, "port": port}
        command = [sys.executable, str(source), json.dumps(settings), json.dumps(options)]
        started.append(subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT))  # fmt: skip
    try:
        ended, until = {}, time.monotonic() + timeout
        while len(ended) < processes and time.monotonic() < until:
            ended |= {n: time.monotonic() for n, p in enumerate(started) if n not in ended and p.poll() is not None}
            time.sleep(0.02)
        assert len(ended) == processes, f"processes {[n for n in range(processes) if n not in ended]} run on for ever"
    finally:
        for child in started:
            child.kill()
        outputs = [child.communicate()[0] for child in started]
    results = []
    for n, (child, output) in enumerate(zip(started, outputs, strict=True)):
        lines = output.splitlines()
        values = [json.loads(line[2:]) for line in lines if line.startswith("> ")]
        rest = "\n".join(line for line in lines if not line.startswith("> "))
        results.append((child.returncode, values, rest, ended[n]))
    return results


def say(**values):
    """Give values to the process that started this one."""
    print(">", json.dumps(values), flush=True)


# ---- what the processes run ----


class Source:
    """Chunks of streams, in which each sequence ends somewhere else, and a factor of the loss.

    Args:
        local: whether a batch holds only the rows of this process.
        trouble: what happens when process ``process`` reads batch ``at``: ``"error"``, ``"interrupt"``, ``"kill"``; or
            ``"not finite"`` from there on.
    """

    def __init__(self, *, local=False, trouble="", process=1, at=0):
        self.streams = Streams(np.random.default_rng(0).integers(0, VOCABULARY, 2000), BATCH, steps=6)
        self.trouble, self.at, self.here = trouble, at, jax.process_index() == process
        rows = BATCH // jax.process_count() if local else BATCH
        self.rows = slice(rows * jax.process_index(), rows * (jax.process_index() + 1)) if local else slice(None)

    def __getitem__(self, n):
        if n == self.at and self.here:
            if self.trouble == "error":
                raise OSError("the disk is gone")
            if self.trouble in ("interrupt", "kill"):
                os.kill(os.getpid(), signal.SIGINT if self.trouble == "interrupt" else signal.SIGKILL)
        chunk, lengths = self.streams[n], np.random.default_rng(n).integers(0, 7, BATCH)
        factor = np.float32(np.nan if self.trouble == "not finite" and n >= self.at else 1)
        return chunk.inputs[:, self.rows], chunk.targets[:, self.rows], lengths[self.rows], factor


def language_model():
    """A model with dropout, and the mean loss over the steps of all sequences, of which some are empty."""
    model = rnn.Stack(rnn.Embedding(VOCABULARY, 3), rnn.GRU(3, 8), rnn.Dropout(0.3), rnn.Linear(8, VOCABULARY))

    def loss(params, carry, batch, key):
        inputs, targets, lengths, factor = batch
        final, logits = rnn.unroll(model, params, inputs, carry, lengths=lengths, key=key)
        value = rnn.losses.cross_entropy(logits, targets, lengths=lengths)
        return value * factor.astype(value.dtype), (jax.lax.stop_gradient(final), {})

    return model, loss


def train(*, steps, mesh=None, specs=None, folder=None, source=None, **options):
    """A run of ``fit`` over all devices, the first ``mesh`` of them, or without a mesh (0); says how it ended."""
    model, loss = language_model()
    source = source or {}
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.01))
    dtype = "float64" if jax.config.jax_enable_x64 else "float32"
    params = jax.tree.map(lambda x: x.astype(dtype), model.init(jax.random.key(0)))
    carry = jax.tree.map(lambda x: x.astype(dtype), model.initial_state((BATCH,)))
    devices = None if mesh == 0 else learning.device_mesh(mesh)
    if specs is not None:
        devices, params = shard(params, specs)

    def evaluate(params, step):
        start = model.initial_state((4,)), jnp.zeros(4, jnp.int32)
        tokens = rnn.decoding.sample(model, params, *start, steps=5, key=jax.random.key(3))[1]
        return {"loss": abs(params[1].w_hh).sum(), "sample": str(np.asarray(tokens).tolist())}

    end = learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(params, optimizer, carry),
        Source(**source),
        steps=steps,
        key=jax.random.key(1),
        mesh=devices,
        local_batches=source.get("local", False),
        steps_per_execution=5,
        checkpoints=None if folder is None else learning.Checkpoints(folder, model),
        log=None if folder is None else pathlib.Path(folder) / "log.jsonl",
        evaluate=evaluate,
        **{"evaluate_every": 10} | options,
    )
    everywhere = learning.device_mesh() if devices is None else devices
    gather = jax.jit(lambda tree: tree, out_shardings=NamedSharding(everywhere, P()))
    params = end.state.params if devices is None else gather(end.state.params)
    numbers = np.concatenate([np.ravel(x).astype("float64") for x in jax.tree.leaves(params)])
    arrays = {"w": end.state.params[3].w, "b": end.state.params[3].b, "moment of w": end.state.opt_state[1][0].mu[3].w}
    arrays |= {"carry": end.state.carry[1]}
    say(
        step=int(end.state.step), stopped=end.stopped, best=end.best, numbers=numbers.tolist(),
        parts={name: list(x.addressable_shards[0].data.shape) for name, x in arrays.items()},
    )  # fmt: skip


def evaluate(*, mesh=None, carried=False):
    """An evaluation of 100 batches of sequences that end at different steps, some empty; says its values."""
    model, _ = language_model()
    dtype = "float64" if jax.config.jax_enable_x64 else "float32"
    params, carry = (
        jax.tree.map(lambda x: x.astype(dtype), tree)
        for tree in (model.init(jax.random.key(0)), model.initial_state((BATCH,)))
    )

    def targets(batch):
        return batch[1], jnp.arange(6)[:, None] < batch[2][None]

    def predict(params, carry, batch):
        return rnn.unroll(model, params, batch[0], carry, lengths=batch[2])

    def stateless(params, batch):
        return predict(params, None, batch)[1]

    every = rnn.metrics
    values = learning.evaluate(
        predict if carried else stateless,
        params,
        Source(),
        [every.cross_entropy, every.accuracy, every.top_k(3), every.f1(VOCABULARY), every.confusion(VOCABULARY)],
        carry=carry if carried else None,
        mesh=None if mesh == 0 else learning.device_mesh(mesh),
        targets=targets,
        steps=100,
    )
    say(**{name: np.asarray(value).tolist() for name, value in values.items()})


def evaluations(*, cases):
    """Several of them in this process."""
    for case in cases:
        evaluate(**case)


def differ():
    """Arguments that are not the same on each process, or leave one out; says how each is refused."""
    model, loss = language_model()
    optimizer, here = optax.sgd(0.1), jax.process_index()

    def state(seed):
        return learning.train_state(model.init(jax.random.key(seed)), optimizer, model.initial_state((BATCH,)))

    def fit(seed=0, key=0, devices=None, **options):
        mesh = learning.device_mesh(devices)
        learning.fit(learning.train_step(loss, optimizer), state(seed), Source(), steps=5, key=jax.random.key(key),
                     mesh=mesh, **options)  # fmt: skip

    for call in (
        lambda: fit(key=here),
        lambda: fit(seed=here),
        lambda: fit(devices=jax.local_devices()),
        lambda: fit(checkpoints=learning.Checkpoints(f"/nowhere/{here}", model)),
        lambda: learning.shard_state(state(here), learning.device_mesh()),
    ):
        try:
            call()
        except ValueError as error:
            say(refused=str(error).partition(", got")[0])
        else:
            say(refused="nothing")


def shard(params, specs):
    """A mesh, and parameters sharded over it: all by their first axis, or those of the readout by its vocabulary."""
    if specs == "first axis":
        mesh = learning.device_mesh()
        spec = jax.tree.map(lambda x: P("batch") if len(x) % mesh.size == 0 else P(), params)
    else:
        mesh = Mesh(np.array(jax.devices()).reshape(-1, 2), ("data", "model"))
        spec = jax.tree.map(lambda x: P(), params)
        spec = (*spec[:3], spec[3]._replace(w=P(None, "model"), b=P("model")))
    is_spec = lambda x: isinstance(x, P)  # noqa: E731
    return mesh, jax.device_put(params, jax.tree.map(lambda s: NamedSharding(mesh, s), spec, is_leaf=is_spec))


def one_process(*, cases):
    """Several runs in this process."""
    for case in cases:
        train(**case)


if __name__ == "__main__":
    settings, options = map(json.loads, sys.argv[1:])
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_enable_x64", options.pop("x64", False))
    learning.use_cores(settings["devices"])
    if settings["processes"] > 1:
        jax.distributed.initialize(
            f"localhost:{settings['port']}", settings["processes"], settings["process"], heartbeat_timeout_seconds=10,
            **SHUTDOWN_TIMEOUT,
        )  # fmt: skip
    globals()[settings["function"]](**options)
