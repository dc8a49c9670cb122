"""What layer norm and dropout in time do for a character model that overfits.

    python scripts/regularization.py                                   # 60,000 characters, 3 seeds
    python scripts/regularization.py --quick                           # fewer and narrower
    python scripts/regularization.py --text FILE --models plain zoneout --seeds 5 --resume

One LSTM learns little text for many epochs, plain and with one thing added: layer norm (Ba et al. 2016), zoneout
(Krueger et al. 2017), variational dropout (Gal & Ghahramani 2016), recurrent dropout (Semeniuta et al. 2016) or
DropConnect on the recurrent weights (Merity et al. 2018). The learning rate is constant and the same for all. The last
tenth of the text is for validation. Two questions: how many steps does the training loss need to fall below --target,
and how low does the validation loss get?
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import common
import jax
import numpy as np
import optax
import repeated
from common import above_zero, positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Streams, Vocabulary, python_reference

MODELS: dict[str, Callable[[rnn.LSTM], Any]] = {  # the recurrent layer, from a plain LSTM
    "plain": lambda lstm: lstm,
    "layer-norm": lambda lstm: rnn.LSTM(lstm.input_size, lstm.hidden_size, layer_norm=True),
    "zoneout": lambda lstm: rnn.Zoneout(lstm, (0.05, 0.5)),
    "variational": lambda lstm: rnn.VariationalDropout(lstm, inputs=0.25, state=0.25),
    "recurrent-dropout": lambda lstm: rnn.RecurrentDropout(lstm, 0.25),
    "weight-drop": lambda lstm: rnn.WeightDrop(lstm, 0.5),
}


def main() -> None:
    args = arguments()
    common.require("matplotlib")
    began = time.monotonic()
    text = (python_reference() if args.text is None else common.read_text("--text", args.text))[: args.characters]
    args.text = common.fingerprint(text)
    least = 10 * (args.batch * args.length + 1)
    if len(text) < least:
        common.refuse(f"--characters: expected at least {least:,} for --batch {args.batch} --length {args.length}, "
                      f"got a text of {len(text):,}")  # fmt: skip
    results = repeated.runs(args, "models", lambda name, seed: train(name, seed, text, args))
    best = {name: [min(run["valid"]) for run in runs] for name, runs in results.items()}
    last = {name: [run["train"][-1] for run in runs] for name, runs in results.items()}
    reached = {name: [first_below(run, args.target) for run in runs] for name, runs in results.items()}
    print(f"\n{'':18}{'best validation':>18}{'last training':>18}   training loss below {args.target:g} at step")
    for name in args.models:
        steps = ", ".join("never" if n is None else f"{n:,}" for n in reached[name])
        print(
            f"{name:18}{repeated.mean_and_spread(best[name]):>18}{repeated.mean_and_spread(last[name]):>18}   {steps}"
        )
    draw(results, args)
    print(json.dumps({
        "script": "regularization", "unit": "nats a character", "seeds": args.seeds, "valid": best, "train": last,
        "target": args.target, "steps": reached, "seconds": round(time.monotonic() - began, 1),
    }))  # fmt: skip


def train(name: str, seed: int, text: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train one model; return the training loss between evaluations and the validation loss at each."""
    began = time.monotonic()
    vocabulary = Vocabulary.of(text)
    ids = vocabulary.encode(text)
    cut = len(ids) - len(ids) // 10
    streams, held_out = (Streams(part, args.batch, args.length) for part in (ids[:cut], ids[cut:]))
    layer = MODELS[name](rnn.LSTM(args.embedding, args.units))
    model = rnn.Stack(rnn.Embedding(len(vocabulary), args.embedding), layer, rnn.Linear(args.units, len(vocabulary)))
    init_key, key = jax.random.split(jax.random.key(seed))
    params, start = model.init(init_key), model.initial_state((args.batch,))
    loss, chunks = learning.stream_loss(model), held_out.epoch()
    optimizer = optax.chain(optax.clip_by_global_norm(args.clip), optax.adam(args.rate))
    end = learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(params, optimizer, carry=start),
        streams,
        steps=args.steps,
        key=key,
        mesh=args.mesh,
        evaluate=jax.jit(lambda params: {"loss": learning.mean_loss(loss, params, start, chunks)[1]}),
        evaluate_every=args.evaluate_every,
        verbose=False,
    )
    done = end.evaluations["step"].tolist()
    training = [float(part.mean()) for part in np.split(end.history["loss"], done[:-1])]
    valid = end.evaluations["loss"].tolist()
    seconds = time.monotonic() - began
    print(f"{name:18} seed {seed}  best validation loss {min(valid):.3f}  training loss {training[-1]:.3f}"
          f"  {seconds:4.0f} s", flush=True)  # fmt: skip
    return {"step": done, "train": training, "valid": valid, "seconds": seconds}


def first_below(run: dict[str, Any], target: float) -> int | None:
    """The first evaluation before which the mean training loss was below the target; None: never."""
    return next((step for step, loss in zip(run["step"], run["train"]) if loss < target), None)


def draw(results: dict[str, list[dict[str, Any]]], args: argparse.Namespace) -> None:
    """Plot both losses over the steps: the mean of the seeds, and from the lowest to the highest."""
    figure, panels = common.subplots(1, 2, figsize=(10, 4.4), sharex=True)
    for axes, which, title in zip(panels, ("train", "valid"), ("Training", "Validation")):
        for (name, runs), colour in zip(results.items(), rnn.plots.COLOURS):
            repeated.draw_band(axes, runs[0]["step"], [run[which] for run in runs], color=colour, label=name)
        axes.set(xlabel=f"optimizer step of {args.batch} × {args.length} characters",
                 ylabel="cross entropy [nats a character]", title=title)  # fmt: skip
        axes.grid(alpha=0.3)
    panels[0].axhline(args.target, color="black", lw=0.8, ls=":")
    lowest = min(min(run["valid"]) for runs in results.values() for run in runs)
    panels[1].set_ylim(lowest - 0.05, lowest + 1)
    panels[0].legend()
    figure.suptitle(f"{args.characters:,} characters, LSTM of {args.units} units, {args.seeds} seeds")
    common.save_plot(figure, pathlib.Path(args.out) / "regularization.png")


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/regularization", "little text, a narrow model", plots=True, processes=False)
    add = parser.add_argument
    add("--text", metavar="FILE", help="UTF-8 text to learn (default: the prose of Python's language reference)")
    add("--characters", type=positive, default=60_000, quick=20_000, help="characters of it that are used")
    add("--models", nargs="+", choices=MODELS, default=list(MODELS), help=f"models to train, of {', '.join(MODELS)}")
    add("--units", type=positive, default=256, quick=64, help="units of the LSTM")
    add("--embedding", type=positive, default=32, help="embedding size of a character")
    add("--length", type=positive, default=64, help="characters of a chunk, over which the gradient is propagated")
    add("--batch", type=positive, default=16, help="streams read in parallel")
    add("--steps", type=positive, default=1200, quick=200, help="optimizer steps")
    add("--rate", type=above_zero, default=3e-3, help="learning rate of Adam")
    add("--clip", type=common.norm, default=1.0, help="largest norm of the gradient")
    add("--evaluate-every", type=positive, default=40, help="steps between evaluations")
    add("--target", type=above_zero, default=1.8, quick=2.4, help="training loss that is timed, in nats a character")
    repeated.add_options(parser, seeds=3)
    return parser.parse_args()


if __name__ == "__main__":
    common.run(main)
