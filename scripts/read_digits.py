"""Read strings of handwritten digits, column by column, without saying where each digit is: CTC.

    python scripts/read_digits.py            # about 3 minutes
    python scripts/read_digits.py --quick    # half a minute, less exact

Many to many, not aligned: a bidirectional GRU reads the columns of a strip of two to eight scanned digits with random
gaps. Its targets are the digits alone; connectionist temporal classification (CTC) adds up all alignments of them with
the columns. The scans come with scikit-learn; those of the test strips are in no training strip. A plot of strips and
of what the network says at each column goes to ``--out``; the last line printed is the result as JSON.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import time

import common
import jax
import numpy as np
import optax
from caption_digits import load_scans
from common import above_zero, positive

import jaxrnn as rnn
from jaxrnn import decoding, learning
from jaxrnn.data import PairBatch

LEAST, MOST, HEIGHT, STEPS = 2, 8, 10, 96  # fewest and most digits of a strip, its rows and columns; a scan is 8 x 8
BLANK = 10  # the eleventh output, after the digits
TEST = 1000  # test strips


def strips(scans: np.ndarray, digits: np.ndarray, count: int, draw: np.random.Generator) -> PairBatch:
    """Strips ``[96, count, 10]``, column by column, their digits ``[8, count]``, and both lengths.

    Each digit is shifted down by up to 2 pixels, and up to 4 empty columns are between two digits and before the first.
    """
    columns = np.zeros((STEPS, count, HEIGHT), np.float32)
    labels, lengths = np.zeros((MOST, count), np.int32), np.zeros(count, np.int32)
    numbers = draw.integers(LEAST, MOST + 1, count).astype(np.int32)
    for n, many in enumerate(numbers):
        which, tops, gaps = draw.integers(0, len(digits), many), draw.integers(0, 3, many), draw.integers(0, 5, many)
        place = 0
        for at, top, gap in zip(which, tops, gaps):
            place += gap
            columns[place : place + 8, n, top : top + 8] = scans[at].T
            place += 8
        labels[:many, n], lengths[n] = digits[which], place
    return PairBatch(columns, labels, lengths, numbers)


class RandomStrips:
    """Batches of new random strips; batch n depends on the seed and n alone."""

    def __init__(self, scans: np.ndarray, digits: np.ndarray, batch: int, seed: int) -> None:
        self.scans, self.digits, self.batch, self.seed = scans, digits, batch, seed

    def __getitem__(self, n: int) -> PairBatch:
        return strips(self.scans, self.digits, self.batch, np.random.default_rng([self.seed, n]))


@functools.partial(jax.jit, static_argnums=(0, 3))
def read(model: rnn.Stack, params, batch, width: int) -> decoding.Labels:
    """The digits by the best path, or by a beam search if there is a width."""
    _, logits = rnn.unroll(model, params, batch.inputs, lengths=batch.lengths)
    if width == 0:
        return decoding.ctc_greedy(logits, lengths=batch.lengths, blank=BLANK)
    return jax.tree.map(
        lambda x: x[..., 0, :], decoding.ctc_beam_search(logits, width=width, lengths=batch.lengths, blank=BLANK)
    )


def edits(a: list[int], b: list[int]) -> int:
    """The least number of insertions, deletions and replacements that make one list of the other (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def texts(labels, lengths) -> list[list[int]]:
    return [list(map(int, column[:n])) for column, n in zip(np.asarray(labels).T, np.asarray(lengths))]


def main() -> None:
    args = arguments()
    common.require("matplotlib")
    began = time.monotonic()
    training, testing = load_scans(args.seed)
    model = rnn.Stack(
        rnn.Bidirectional(rnn.GRU(HEIGHT, args.units)),
        rnn.Dropout(0.2),
        rnn.Bidirectional(rnn.GRU(2 * args.units, args.units)),
        rnn.Linear(2 * args.units, BLANK + 1),
    )
    init_key, key = jax.random.split(jax.random.key(args.seed))
    params = model.init(init_key)
    common.print_model(model, params)
    test = strips(*testing, TEST, np.random.default_rng(args.seed + 1))
    references = texts(test.targets, test.target_lengths)

    def errors(params, width: int) -> tuple[float, float]:
        """Edits for each digit, and the share of strips with an error."""
        found = read(model, params, test, width)
        wrong = [edits(a, b) for a, b in zip(texts(found.labels, found.lengths), references)]
        return sum(wrong) / sum(map(len, references)), float(np.mean([n > 0 for n in wrong]))

    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(args.rate, args.steps))
    )
    end = learning.fit(
        learning.train_step(learning.ctc_loss(model, blank=BLANK), optimizer),
        learning.train_state(params, optimizer),
        RandomStrips(*training, args.batch, args.seed),
        steps=args.steps,
        key=key,
        mesh=args.mesh,
        evaluate=lambda params: {"error": errors(params, 0)[0]},
        evaluate_every=max(args.steps // 5, 1),
    )
    params = end.state.params
    (best_path, _), (beam, wrong) = errors(params, 0), errors(params, args.width)
    print(f"{beam:.2%} of the digits of {TEST:,} test strips are wrong (best path: {best_path:.2%}); "
          f"{1 - wrong:.1%} of the strips are exact")  # fmt: skip
    draw_strips(model, params, test, pathlib.Path(args.out) / "read_digits.png")
    result = {"script": "read_digits", "digit_error": beam, "digit_error_best_path": best_path, "exact": 1 - wrong,
              "strips": TEST, "steps": args.steps, "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    print(json.dumps(result))


def draw_strips(model: rnn.Stack, params, test, path: pathlib.Path) -> None:
    """Three strips, and below each the probabilities of digits and blank at its columns."""
    batch = jax.tree.map(lambda x: x[..., :3, :] if x.ndim == 3 else x[..., :3], test)
    _, logits = rnn.unroll(model, params, batch.inputs, lengths=batch.lengths)
    found = read(model, params, batch, 0)
    figure, panels = common.subplots(6, 1, figsize=(10, 8), sharex=True, height_ratios=[1, 1.6] * 3)
    for n, (text, right) in enumerate(
        zip(texts(found.labels, found.lengths), texts(batch.targets, batch.target_lengths))
    ):
        strip, axes = panels[2 * n : 2 * n + 2]
        strip.imshow(batch.inputs[:, n].T, cmap="gray_r", aspect="auto")
        strip.set_yticks([])
        strip.set_title(f"read: {''.join(map(str, text))}, right: {''.join(map(str, right))}", loc="left", fontsize=10)
        length = batch.lengths[n]
        p = np.asarray(jax.nn.softmax(logits[:length, n]))
        axes.plot(p[:, BLANK], color="0.6", lw=1, label="blank")
        axes.plot(p[:, :BLANK].max(-1), color=rnn.plots.BLUE, lw=1.5, label="most probable digit")
        axes.set(ylim=(0, 1.15), xlim=(-0.5, batch.lengths.max() - 0.5), ylabel="probability")
        for at in np.flatnonzero(p.argmax(-1) != BLANK):
            if at == 0 or p[at].argmax() != p[at - 1].argmax():
                axes.text(at, 1.02, str(p[at].argmax()), ha="center", fontsize=9, color=rnn.plots.BLUE)
    panels[1].legend(loc="center right", fontsize=8)
    panels[-1].set_xlabel("column")
    common.save_plot(figure, path)


def arguments() -> argparse.Namespace:
    parser = common.Parser(__doc__, "runs/read_digits", "few steps: half a minute", plots=True)
    add = parser.add_argument
    add("--steps", type=positive, default=800, quick=200, help="optimizer steps")
    add("--batch", type=positive, default=32, help="strips of an optimizer step")
    add("--units", type=positive, default=64, help="hidden size of each direction of the GRUs")
    add("--width", type=positive, default=8, help="prefixes of the beam search")
    add("--rate", type=above_zero, default=4e-3, help="initial learning rate of Adam, with cosine decay to 0")
    return parser.parse_args()


if __name__ == "__main__":
    common.run(main)
