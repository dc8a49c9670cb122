"""Pictures of one to five scanned digits in, the spelled-out sentence out: "three seven one".

    python scripts/caption_digits.py            # about 2 minutes
    python scripts/caption_digits.py --quick    # half a minute, less exact

One to many: a convolutional network codes the picture into one vector, a GRU writes the sentence from it. The digits
are the scans that scikit-learn carries; those in the pictures of the test occur in no picture of the training. A sheet
of pictures with their captions goes to ``--out``; the last line printed is the result as JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib
import time

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import above_zero, positive

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Vocabulary

MOST, SLOT = 5, 10  # digits of a picture, pixels for each; a scan is 8 x 8 with values of 0 to 16
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = Vocabulary((*NAMES, "<start>", "<end>"))
START, END = WORDS.id("<start>"), WORDS.id("<end>")
TEST = 2000  # unseen pictures


@dataclasses.dataclass(frozen=True)
class PictureNet:
    """Two convolutions, the second seeing a digit at a time, a layer on top: ``[..., 10, 50]`` to ``[..., size]``."""

    output_size: int
    channels: tuple[int, int] = (32, 96)

    input_ndim = 2

    def init(self, key):
        he, keys = jax.nn.initializers.he_normal(), jax.random.split(key, 3)
        first, second = self.channels
        kernels = he(keys[0], (4, 4, 1, first)), he(keys[1], (SLOT // 2, SLOT // 2, first, second))
        return *kernels, he(keys[2], (MOST * second, self.output_size))

    def initial_state(self, batch_shape=()):
        return ()

    def step(self, params, state, x):
        first, second, w = params
        batch, x = x.shape[:-2], x.reshape(-1, *x.shape[-2:], 1)  # [B, 10, 50, 1]
        x = jax.nn.relu(convolve(x, first, 2))  # [B, 5, 25, first]
        x = jax.nn.relu(convolve(x, second, SLOT // 2))  # [B, 1, 5, second]
        return (), jnp.tanh(x.reshape(*batch, -1) @ w)


def convolve(x, kernel, stride: int):
    """``[B, height, width, channels]``, every so many pixels."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=layout)


def build(size: int, units: int) -> rnn.tasks.Captioner:
    cell = rnn.tasks.ContextCell(rnn.GRU(16 + size, units), size)  # it sees the vector at every step
    decoder = rnn.Stack(rnn.Embedding(len(WORDS), 16), cell, rnn.Dropout(0.1), rnn.Linear(units + size, len(WORDS)))
    return rnn.tasks.Captioner(PictureNet(size), decoder)


def scans(seed: int) -> tuple[tuple, tuple]:
    """Scans ``[N, 8, 8]`` in [0, 1] and their digits, for training and for the test: a fifth of them."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("the scanned digits come with scikit-learn; pip install scikit-learn") from None
    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    images, digits = found.images[order].astype(np.float32) / 16, found.target[order]
    cut = len(digits) * 4 // 5
    return (images[:cut], digits[:cut]), (images[cut:], digits[cut:])


def pictures(images, digits, count: int, draw: np.random.Generator, *, tries: int = 1) -> dict[str, np.ndarray]:
    """Pictures, their captions ``tokens [7, count]`` from <start> to <end>, and the lengths of these.

    Digits stand side by side from the left, each shifted by up to 2 pixels down and to the right. Their number is the
    largest of so many drawn from 1 to 5.
    """
    canvas = np.zeros((count, SLOT, MOST * SLOT), np.float32)
    tokens = np.zeros((MOST + 2, count), np.int32)
    tokens[0] = START
    numbers = draw.integers(1, MOST + 1, (tries, count)).max(0)
    for n, many in enumerate(numbers):
        which = draw.integers(0, len(digits), many)
        for place, (at, (top, left)) in enumerate(zip(which, draw.integers(0, SLOT - 7, (many, 2)))):
            canvas[n, top : top + 8, SLOT * place + left : SLOT * place + left + 8] = images[at]
        tokens[1 : many + 1, n] = digits[which]
        tokens[many + 1, n] = END
    return {"pictures": canvas, "tokens": tokens, "lengths": (numbers + 2).astype(np.int32)}


class Fresh:
    """Batches of pictures that never come twice; number n follows from the seed and n alone.

    Long captions are harder to learn, so there are more of them than in the test.
    """

    def __init__(self, images: np.ndarray, digits: np.ndarray, batch: int, seed: int) -> None:
        self.images, self.digits, self.batch, self.seed = images, digits, batch, seed

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        return pictures(self.images, self.digits, self.batch, np.random.default_rng([self.seed, n]), tries=2)


@functools.partial(jax.jit, static_argnums=0)
def write(model: rnn.tasks.Captioner, params, canvas):
    """Captions ``[6, B]``, <end> after their ends."""
    start = model.start_decoder(params, canvas)
    first = jnp.full(len(canvas), START, jnp.int32)
    return rnn.decoding.greedy(model.decoder, *start, first, steps=MOST + 1, eos=END).tokens


def sentence(ids) -> str:
    """The words before <end>."""
    words = WORDS.decode(np.asarray(ids))
    return " ".join(words[: words.index("<end>")] if "<end>" in words else words)


def main() -> None:
    args = arguments()
    common.needs("matplotlib")
    began = time.monotonic()
    seen, unseen = scans(args.seed)
    model = build(args.size, args.units)
    init_key, key = jax.random.split(jax.random.key(args.seed))
    params = model.init(init_key)
    print(model, f"{sum(p.size for p in jax.tree.leaves(params)):,} parameters", sep="\n")
    print(f"{len(seen[1]):,} scans to learn from, {len(unseen[1])} for the test; {TEST:,} pictures of these")

    def loss(params, carry, batch, key):
        told = batch["pictures"], batch["tokens"]
        return model.loss(params, *told, token_lengths=batch["lengths"], key=key), ((), {})

    test = pictures(unseen[0], unseen[1], TEST, np.random.default_rng(args.seed + 1))
    right = [sentence(tokens) for tokens in test["tokens"][1:].T]

    def captions(params) -> list[str]:
        return [sentence(ids) for ids in np.asarray(write(model, params, test["pictures"])).T]

    def evaluate(params, step):
        wrong = np.mean([a != b for a, b in zip(captions(params), right)])
        return {"loss": wrong}

    rate = optax.cosine_decay_schedule(args.rate, args.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    end = learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(params, optimizer),
        Fresh(seen[0], seen[1], args.batch, args.seed),
        steps=args.steps,
        key=key,
        evaluate=evaluate,
        evaluate_every=max(args.steps // 5, 1),
        format_metrics=lambda m: (
            f"loss {m['loss']:.4f}" if "grad_norm" in m else f"{m['loss']:.2%} of unseen captions wrong"
        ),
    )
    written = captions(end.state.params)
    exact = [a == b for a, b in zip(written, right)]
    counts = np.array([len(text.split()) for text in right])
    for many in range(1, MOST + 1):
        print(f"{many} digits: {np.mean(np.array(exact)[counts == many]):.2%} exact")
    path = pathlib.Path(args.out) / "captions.png"
    draw_sheet(test["pictures"], written, right, path)
    result = {"script": "caption_digits", "exact": float(np.mean(exact)), "pictures": TEST, "steps": args.steps,
              "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    print(f"{np.mean(exact):.2%} of {TEST:,} captions of unseen pictures are exact; {path} is drawn")
    print(json.dumps(result))


def draw_sheet(canvas: np.ndarray, written: list[str], right: list[str], path: pathlib.Path) -> None:
    """Pictures with their captions: a row of wrong ones, if there are any, below those that come first."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    wrong = [n for n in range(len(right)) if written[n] != right[n]][:8]
    shown = [n for n in range(len(right)) if n not in wrong][: 24 - len(wrong)] + wrong
    figure, rows = plt.subplots(6, 4, figsize=(12, 7), layout="constrained")
    for n, axes in zip(shown, rows.flat):
        fine = written[n] == right[n]
        axes.imshow(canvas[n], cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        text = f"✓ {written[n]}" if fine else f"✗ {written[n]}\n(right: {right[n]})"
        axes.set_title(text, fontsize=9, color="black" if fine else rnn.plots.RED)
    share = np.mean([a == b for a, b in zip(written, right)])
    figure.suptitle(f"Unseen pictures and the captions written: {share:.1%} of {len(right):,} exact, wrong ones last")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--steps", type=positive, default=3500, help="optimizer steps")
    add("--batch", type=positive, default=64, help="pictures of a step")
    add("--size", type=positive, default=256, help="features of the vector that codes a picture")
    add("--units", type=positive, default=128, help="units of the GRU")
    add("--rate", type=above_zero, default=2e-3, help="learning rate of Adam at the start; it falls to 0 as a cosine")
    add("--seed", type=common.seed, default=0)
    add("--out", type=common.picture_folder, default="runs/caption_digits", help="folder of the picture")
    add("--quick", action="store_true", help="600 steps")
    args = parser.parse_args()
    args.steps = 600 if args.quick else args.steps
    return args


if __name__ == "__main__":
    common.run(main)
