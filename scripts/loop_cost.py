"""Overhead of the training loop: time of a step in ``learning.fit`` relative to the bare compiled step.

    python scripts/loop_cost.py
    python scripts/loop_cost.py --quick    # fewer rounds

The model is the default of scripts/char_lm.py. Rounds of both alternate in one process. The loop reads batches from the
host and writes the metrics of every step to a file in ``--out``; the bare step does neither.
"""

from __future__ import annotations

import math
import statistics
import time

import common
import jax
import optax
from common import positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Streams, Vocabulary, python_reference

EMBEDDING = 64


def main() -> None:
    parser = common.Parser(__doc__, "runs/loop_cost", "few rounds of few steps", plots=True, processes=False)
    parser.add_argument("--batch", type=positive, default=32, help="streams read in parallel")
    parser.add_argument("--width", type=positive, default=256, help="hidden size")
    parser.add_argument("--length", type=positive, default=64, help="characters of a chunk")
    parser.add_argument("--rounds", type=positive, default=10, quick=5, help="rounds of each")
    parser.add_argument("--steps", type=positive, default=50, quick=20, help="optimizer steps of a round")
    args = parser.parse_args()

    text = python_reference()
    vocabulary = Vocabulary.of(text)
    streams = Streams(vocabulary.encode(text), args.batch, args.length)
    symbols = len(vocabulary)
    model = rnn.Stack(
        rnn.Embedding(symbols, EMBEDDING), rnn.LSTM(EMBEDDING, args.width), rnn.Linear(args.width, symbols)
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    step = learning.train_step(learning.stream_loss(model), optimizer)
    key = jax.random.key(args.seed)
    start = learning.train_state(model.init(key), optimizer, carry=model.initial_state((args.batch,)))

    ready = [learning.shard_batch(streams[n], args.mesh) for n in range(args.steps)]
    bare_step = jax.jit(step, donate_argnums=0)
    bare_state, _ = bare_step(learning.shard_state(start, args.mesh), ready[0], key)

    def bare() -> float:
        """Seconds of a plain Python loop over the compiled step, with batches on the device."""
        nonlocal bare_state
        began = time.perf_counter()
        for n, batch in enumerate(ready):
            bare_state, _ = bare_step(bare_state, batch, key)
            if n % 10 == 9:  # with more than 32 calls on their way, JAX hangs on several CPU devices
                jax.block_until_ready(bare_state)
        jax.block_until_ready(bare_state)
        return time.perf_counter() - began

    bare()
    pairs: list[tuple[float, float]] = []
    since = math.nan

    def evaluate(params, step):
        """Called by the loop after every round; runs a round of the bare step, so that both alternate."""
        nonlocal since
        in_loop = time.perf_counter() - since
        pairs.append((in_loop, bare()))
        since = time.perf_counter()
        return {"loss": 0.0}

    out = common.run_folder(args.out)
    learning.fit(step, start, streams, steps=(args.rounds + 1) * args.steps, key=key, mesh=args.mesh,
                 evaluate=evaluate, evaluate_every=args.steps, log=out / "metrics.jsonl", verbose=False)  # fmt: skip
    loop_times, bare_times = zip(*pairs[1:])  # the first round compiles
    bare_ms, loop_ms = (min(times) * 1e3 / args.steps for times in (bare_times, loop_times))
    print(f"{args.mesh.size} devices: bare step {bare_ms:.2f} ms, in the loop {loop_ms:.2f} ms, minima")
    median = statistics.median(a / b for a, b in pairs[1:])
    print(f"ratio {min(loop_times) / min(bare_times):.3f} of the minima, {median:.3f} median of {args.rounds} pairs")


if __name__ == "__main__":
    common.run(main)
