"""The default run of Karpathy's char-rnn (2015), and the same run in PyTorch to compare with.

    python scripts/char_rnn.py --data input.txt --epochs 10            # jaxrnn
    python scripts/char_rnn.py --data input.txt --epochs 10 --torch    # PyTorch, from the same weights
    python scripts/char_rnn.py --quick                                 # Python's language reference

2 x 128 LSTM on one-hot characters, 50 streams, chunks of 50, RMSProp (decay 0.95, rate 2e-3, times 0.97 after every
epoch from the 10th on), each entry of the time-summed gradient clipped to +-5, weights uniform +-0.08, forget bias 1,
carried state. The last 5 % of every stream is for validation. Each epoch prints both losses in nats and the time of a
step, which go to ``--out`` as JSON lines, too.
"""

from __future__ import annotations

import json
import pathlib
import time

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Streams, Vocabulary, python_reference

BATCH, STEPS, WIDTH, LAYERS = 50, 50, 128, 2
RATE, DECAY, EPSILON, CLIP = 2e-3, 0.95, 1e-8, 5.0
RATE_DECAY, LAST_FULL_EPOCH = 0.97, 10


def main() -> None:
    parser = common.Parser(__doc__, "runs/char_rnn", "few epochs of a text that needs no download", data_free=True,
                           batch=BATCH, processes=False)  # fmt: skip
    parser.add_argument("--data", metavar="FILE", help="tiny Shakespeare, or any UTF-8 text")
    parser.add_argument("--epochs", type=positive, default=50, quick=5, help="epochs to train")
    parser.add_argument("--torch", action="store_true", help="run it in PyTorch instead")
    args = parser.parse_args()
    if args.data is None and not args.quick:
        parser.error("--data: expected a text file, got none; --quick needs none")
    if args.torch:
        common.require("torch")
    text = python_reference() if args.quick else common.read_text("--data", args.data)
    if len(text) <= 2 * BATCH * STEPS:
        common.refuse(f"--data: expected more than {2 * BATCH * STEPS:,} characters, one chunk of {STEPS} steps of "
                      f"{BATCH} streams to train and one to validate, got {len(text):,}")  # fmt: skip
    vocabulary = Vocabulary.of(text)
    whole = Streams(vocabulary.encode(text), BATCH, STEPS)
    train, held_out = whole.split(int(0.95 * len(whole)))
    print(f"{len(text):,} characters, {len(vocabulary)} symbols, {len(train)} + {len(held_out)} batches")
    sizes = [len(vocabulary)] + [WIDTH] * LAYERS
    cells = [rnn.LSTM(takes, gives) for takes, gives in zip(sizes, sizes[1:])]  # noqa: RUF007
    model = rnn.Stack(rnn.Stack(*cells), rnn.Linear(WIDTH, len(vocabulary)))
    model = rnn.initializers.everywhere(model, rnn.initializers.uniform(0.08))
    params = model.init(jax.random.key(args.seed))
    epochs = (run_torch if args.torch else run_jaxrnn)(model, params, train, held_out, args.mesh)
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "metrics.jsonl").open("w") as log:
        for epoch in range(1, args.epochs + 1):
            began = time.perf_counter()
            training = next(epochs)
            ms = (time.perf_counter() - began) / len(train) * 1e3
            validation = next(epochs)
            print(f"epoch {epoch}  training {training:.4f}  validation {validation:.4f} nats  {ms:.1f} ms a step",
                  flush=True)  # fmt: skip
            line = {"epoch": epoch, "training": training, "validation": validation, "ms_per_step": ms}
            print(json.dumps(line), file=log, flush=True)


def run_jaxrnn(model, params, train, held_out, mesh):
    """Yield, for each epoch, the mean training loss and the validation loss."""
    one_hot = jax.nn.one_hot

    def loss(params, carry, chunk, key):
        carry = jax.tree.map(lambda s: jnp.where(chunk.first, 0, s), carry)
        carry, logits = rnn.unroll(model, params, one_hot(chunk.inputs, model.output_size), carry)
        summed = rnn.losses.cross_entropy(logits, chunk.targets, mean="time_sum")
        return summed, (jax.lax.stop_gradient(carry), {"nats": summed / STEPS})

    def rate(step):
        return RATE * RATE_DECAY ** jnp.maximum(step // len(train) + 1 - LAST_FULL_EPOCH, 0)

    optimizer = optax.chain(optax.clip(CLIP), optax.rmsprop(rate, DECAY, EPSILON, eps_in_sqrt=False))
    step = learning.train_step(loss, optimizer)
    epoch = jax.jit(learning.scan_steps(step), donate_argnums=0)
    start = model.initial_state((BATCH,))
    validate = jax.jit(lambda params, chunks: learning.mean_loss(loss, params, start, chunks)[1] / STEPS)
    state = learning.shard_state(learning.train_state(params, optimizer, carry=start), mesh)
    chunks, test = (learning.shard_batch(part.epoch(), mesh, stacked=True) for part in (train, held_out))
    while True:
        state, metrics = epoch(state, chunks, jax.random.key(0))
        yield float(metrics["nats"].mean())
        yield float(validate(state.params, test))


def run_torch(model, params, train, held_out, mesh):
    """The same in PyTorch. Its second bias is fixed at 0, so that both runs have the same parameters."""
    import torch

    core, readout = torch.nn.LSTM(model.output_size, WIDTH, LAYERS), torch.nn.Linear(WIDTH, model.output_size)
    core.load_state_dict(rnn.interop.torch.to_state_dict(model.layers[0], params[0]))
    with torch.no_grad():
        readout.weight.copy_(torch.tensor(np.asarray(params[1].w).T))
        readout.bias.copy_(torch.tensor(np.asarray(params[1].b)))
    for name, weight in core.named_parameters():
        weight.requires_grad_(not name.startswith("bias_hh"))
    weights = [w for w in [*core.parameters(), *readout.parameters()] if w.requires_grad]
    optimizer = torch.optim.RMSprop(weights, RATE, alpha=DECAY, eps=EPSILON)
    zeros = tuple(torch.zeros(LAYERS, BATCH, WIDTH) for _ in "hc")

    def forward(chunk, carry):
        inputs = torch.nn.functional.one_hot(torch.from_numpy(chunk.inputs).long(), model.output_size).float()
        ys, carry = core(inputs, zeros if chunk.first else carry)
        targets = torch.from_numpy(chunk.targets).long().flatten()
        return torch.nn.functional.cross_entropy(readout(ys).flatten(0, 1), targets), tuple(s.detach() for s in carry)

    step = 0
    while True:
        total, carry = 0.0, zeros
        for n in range(len(train)):
            optimizer.param_groups[0]["lr"] = RATE * RATE_DECAY ** max(step // len(train) + 1 - LAST_FULL_EPOCH, 0)
            loss, carry = forward(train[n], carry)
            optimizer.zero_grad()
            (loss * STEPS).backward()
            torch.nn.utils.clip_grad_value_(weights, CLIP)
            optimizer.step()
            total, step = total + loss.item(), step + 1
        yield total / len(train)
        total, carry = 0.0, zeros
        with torch.no_grad():
            for n in range(len(held_out)):
                loss, carry = forward(held_out[n], carry)
                total += loss.item()
        yield total / len(held_out)


if __name__ == "__main__":
    common.run(main)
