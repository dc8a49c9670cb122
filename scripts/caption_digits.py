"""Caption images of one to five handwritten digits: "three seven one".

    python scripts/caption_digits.py            # about 2 minutes
    python scripts/caption_digits.py --quick    # half a minute, less exact

One to many: a convolutional network encodes the image as one vector, from which a GRU generates the caption. The digits
are the scans that come with scikit-learn; those of the test images are in no training image. A plot of images with
their captions goes to ``--out``; the last line printed is the result as JSON.
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
from jax.sharding import PartitionSpec

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Vocabulary

MOST, SLOT = 5, 10  # digits of an image, pixels for each; a scan is 8 x 8 with values of 0 to 16
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = Vocabulary((*NAMES, "<start>", "<end>"))
START, END = WORDS.id("<start>"), WORDS.id("<end>")
TEST = 2000  # test images
Scans = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ImageEncoder:
    """Two convolutions, the second with one output a digit, and a dense layer: ``[..., 10, 50]`` to ``[..., size]``."""

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
    """Convolve ``[B, height, width, channels]``."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=layout)


def build(size: int, units: int) -> rnn.tasks.Captioner:
    cell = rnn.tasks.ContextCell(rnn.GRU(16 + size, units), size)  # the image vector is an input of every step
    decoder = rnn.Stack(rnn.Embedding(len(WORDS), 16), cell, rnn.Dropout(0.1), rnn.Linear(units + size, len(WORDS)))
    return rnn.tasks.Captioner(ImageEncoder(size), decoder)


def load_scans(seed: int) -> tuple[Scans, Scans]:
    """Scans ``[N, 8, 8]`` in [0, 1] and their digits: four fifths for training, a fifth for the test."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("the scanned digits come with scikit-learn; pip install scikit-learn") from None
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    images, digits = data.images[order].astype(np.float32) / 16, data.target[order]
    cut = len(digits) * 4 // 5
    return (images[:cut], digits[:cut]), (images[cut:], digits[cut:])


def make_images(scans, digits, count: int, draw: np.random.Generator, *, tries: int = 1) -> dict[str, np.ndarray]:
    """Images, their captions ``tokens [7, count]`` from <start> to <end>, and the caption lengths.

    The digits are side by side, each shifted by up to 2 pixels down and to the right. Their number is the largest of
    ``tries`` random numbers from 1 to 5.
    """
    canvas = np.zeros((count, SLOT, MOST * SLOT), np.float32)
    tokens = np.zeros((MOST + 2, count), np.int32)
    tokens[0] = START
    numbers = draw.integers(1, MOST + 1, (tries, count)).max(0)
    for n, many in enumerate(numbers):
        which = draw.integers(0, len(digits), many)
        for place, (at, (top, left)) in enumerate(zip(which, draw.integers(0, SLOT - 7, (many, 2)))):
            canvas[n, top : top + 8, SLOT * place + left : SLOT * place + left + 8] = scans[at]
        tokens[1 : many + 1, n] = digits[which]
        tokens[many + 1, n] = END
    return {"images": canvas, "tokens": tokens, "lengths": (numbers + 2).astype(np.int32)}


class RandomImages:
    """Batches of new random images; batch n depends on the seed and n alone.

    Long captions are harder to learn, so they are more frequent than in the test.
    """

    def __init__(self, scans: np.ndarray, digits: np.ndarray, batch: int, seed: int) -> None:
        self.scans, self.digits, self.batch, self.seed = scans, digits, batch, seed

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        return make_images(self.scans, self.digits, self.batch, np.random.default_rng([self.seed, n]), tries=2)


@functools.partial(jax.jit, static_argnums=0)
def write(model: rnn.tasks.Captioner, params, canvas):
    """Captions ``[6, B]``, padded with <end>."""
    start = model.start_decoder(params, canvas)
    first = jnp.full(len(canvas), START, jnp.int32)
    return rnn.decoding.greedy(model.decoder, *start, first, steps=MOST + 1, eos=END).tokens


def sentence(ids) -> str:
    """Words before <end>."""
    words = WORDS.decode(np.asarray(ids))
    return " ".join(words[: words.index("<end>")] if "<end>" in words else words)


def main() -> None:
    args = arguments()
    common.require("matplotlib")
    began = time.monotonic()
    training, testing = load_scans(args.seed)
    model = build(args.size, args.units)
    init_key, key = jax.random.split(jax.random.key(args.seed))
    params = model.init(init_key)
    common.print_model(model, params)
    print(f"{len(training[1]):,} scans for training, {len(testing[1])} for {TEST:,} test images")

    def loss(params, carry, batch, key):
        images, tokens, lengths = batch["images"], batch["tokens"], batch["lengths"]
        return model.loss(params, images, tokens, token_lengths=lengths, key=key), ((), {})

    test = make_images(*testing, TEST, np.random.default_rng(args.seed + 1))
    references = [sentence(tokens) for tokens in test["tokens"][1:].T]

    def captions(params) -> list[str]:
        return [sentence(ids) for ids in np.asarray(write(model, params, test["images"])).T]

    def evaluate(params, step):
        return {"loss": np.mean([a != b for a, b in zip(captions(params), references)])}

    rate = optax.cosine_decay_schedule(args.rate, args.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    end = learning.fit(
        learning.train_step(loss, optimizer),
        learning.train_state(params, optimizer),
        RandomImages(*training, args.batch, args.seed),
        steps=args.steps,
        key=key,
        mesh=args.mesh,
        batch_spec={"images": PartitionSpec("batch"), "tokens": None, "lengths": None},
        evaluate=evaluate,
        evaluate_every=max(args.steps // 5, 1),
        format_metrics=lambda m: (
            f"loss {m['loss']:.4f}" if "grad_norm" in m else f"{m['loss']:.2%} of test captions wrong"
        ),
    )
    written = captions(end.state.params)
    exact = np.array([a == b for a, b in zip(written, references)])
    counts = np.array([len(text.split()) for text in references])
    for many in range(1, MOST + 1):
        print(f"{many} digits: {exact[counts == many].mean():.2%} exact")
    draw_sheet(test["images"], written, references, pathlib.Path(args.out) / "captions.png")
    result = {"script": "caption_digits", "exact": float(exact.mean()), "images": TEST, "steps": args.steps,
              "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    print(f"{exact.mean():.2%} of {TEST:,} captions of test images are exact")
    print(json.dumps(result))


def draw_sheet(images: np.ndarray, written: list[str], references: list[str], path: pathlib.Path) -> None:
    """Plot the first images with their captions, and up to eight with wrong captions below."""
    wrong = [n for n in range(len(references)) if written[n] != references[n]][:8]
    shown = [n for n in range(len(references)) if n not in wrong][: 24 - len(wrong)] + wrong
    figure, rows = common.subplots(6, 4, figsize=(12, 7))
    for n, axes in zip(shown, rows.flat):
        correct = written[n] == references[n]
        axes.imshow(images[n], cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        text = f"✓ {written[n]}" if correct else f"✗ {written[n]}\n(correct: {references[n]})"
        axes.set_title(text, fontsize=9, color="black" if correct else rnn.plots.RED)
    exact = np.mean([a == b for a, b in zip(written, references)])
    figure.suptitle(f"Test images and their captions: {exact:.1%} of {len(references):,} exact, wrong ones last")
    common.save_plot(figure, path, dpi=120)


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/caption_digits", "few steps: half a minute", plots=True)
    add = parser.add_argument
    add("--steps", type=positive, default=3500, quick=600, help="optimizer steps")
    add("--batch", type=positive, default=64, help="images of an optimizer step")
    add("--size", type=positive, default=256, help="size of the image vector")
    add("--units", type=positive, default=128, help="hidden size of the GRU")
    add("--rate", type=above_zero, default=2e-3, help="initial learning rate of Adam, with cosine decay to 0")
    return parser.parse_args()


if __name__ == "__main__":
    common.run(main)
