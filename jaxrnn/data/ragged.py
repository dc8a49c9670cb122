"""Sequences of unequal length, padded to one of a few lengths, so that few shapes are ever compiled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxrnn import checks
from jaxrnn.data.checks import bucket_lengths, is_aligned
from jaxrnn.types import exportable


@exportable
class PaddedBatch(NamedTuple):
    """A batch of B sequences, padded at the end with 0; a length of 0 marks a place that holds no sequence.

    ``lengths=lengths`` keeps such places out of the loss of targets that are sequences, ``mask=lengths > 0`` out of
    that of labels.
    """

    inputs: np.ndarray  # [T, B, ...]
    targets: np.ndarray  # [T, B, ...] where targets are sequences, [B, ...] where they are labels
    lengths: np.ndarray  # int32 [B]


class Buckets:
    """Ragged sequences as shuffled batches of at most ``buckets`` shapes.

    Every sequence is padded to the smallest of a few lengths that holds it. Batches are counted from the start of
    training, ``batches[n]``; every epoch of ``len(batches)`` has an order of its own that follows from the seed, so the
    number alone says where in the data a run stands. The last batch of a bucket is filled up with sequences of length
    0, which :func:`~jaxrnn.unroll` and the losses pass over.

    Args:
        inputs: N arrays ``[T_n, ...]``.
        targets: N arrays ``[T_n, ...]``, or N labels: numbers or arrays of one shape.
        batch: B.
        aligned: whether targets are sequences, one target a step of their input, or labels. None: they are labels where
            all have one shape, and sequences where each is as long as its input. Where both hold, as for vectors of 3
            beside inputs of 3 steps each, it must be said.
        buckets: how many lengths at the most; they are quantiles of those that occur.
        lengths: the lengths themselves, in place of ``buckets``.
        shuffle: whether epochs are shuffled; otherwise short buckets come first, each in the order given.
        seed: of the shuffling.

    Raises:
        TypeError, ValueError: there is no sequence with a step, numbers of inputs and targets differ, shapes do not fit
            each other, targets may be taken both ways, or a sequence fits no length.

    Example:
        >>> import numpy as np
        >>> from jaxrnn.data import Buckets
        >>> words = [np.ones(n, int) for n in (1, 2, 3, 9, 10)]
        >>> batches = Buckets(words, [0, 1, 0, 1, 0], batch=2, buckets=2, shuffle=False)
        >>> batches.lengths, len(batches)
        ((3, 10), 3)
        >>> batches[1].inputs.shape, batches[1].lengths  # one place is left over
        ((3, 2), array([3, 0], dtype=int32))
    """

    def __init__(
        self,
        inputs: Sequence[np.ndarray],
        targets: Sequence,
        batch: int,
        *,
        aligned: bool | None = None,
        buckets: int = 4,
        lengths: Sequence[int] | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        checks.size("batch", batch)
        checks.size("buckets", buckets)
        checks.flag("shuffle", shuffle)
        if not len(inputs) or len(inputs) != len(targets):
            checks.refuse("targets", f"one for each of the {len(inputs)} inputs, at least one", len(targets))
        self.inputs = _alike("inputs", inputs, 1)
        self.aligned = is_aligned(self.inputs, targets, aligned)
        self.targets = _alike("targets", targets, 1 if self.aligned else 0)
        sizes = np.array([len(x) for x in self.inputs])
        if lengths is None:
            quantiles = np.quantile(sizes, np.arange(1, buckets + 1) / buckets, method="inverted_cdf")
            lengths = [int(size) for size in quantiles]
        bucket_lengths("lengths", lengths)
        self.lengths = tuple(sorted(set(map(int, lengths))))
        if sizes.max() > self.lengths[-1]:
            checks.refuse("lengths", f"one of at least {sizes.max()}, the longest sequence", self.lengths)
        self.batch, self.shuffle, self.seed = batch, shuffle, seed
        bucket = np.searchsorted(self.lengths, sizes)
        self._members = [np.flatnonzero(bucket == b) for b in range(len(self.lengths))]
        self._order: tuple[int, list] = (-1, [])

    def __len__(self) -> int:
        """Batches of one epoch."""
        return sum(-(-len(members) // self.batch) for members in self._members)

    def __iter__(self) -> Iterator[PaddedBatch]:
        """The batches of the first epoch; numbers, ``batches[n]``, go on for ever."""
        return (self[n] for n in range(len(self)))

    def __getitem__(self, n: int) -> PaddedBatch:
        epoch, place = divmod(n, len(self))
        if self._order[0] != epoch:
            self._order = (epoch, self._epoch(epoch))
        bucket, members = self._order[1][place]
        steps = self.lengths[bucket]
        inputs = self._pad([self.inputs[m] for m in members], steps)
        targets = [self.targets[m] for m in members]
        lengths = np.zeros(self.batch, np.int32)
        lengths[: len(members)] = [len(self.inputs[m]) for m in members]
        if self.aligned:
            return PaddedBatch(inputs, self._pad(targets, steps), lengths)
        labels = np.zeros((self.batch, *targets[0].shape), targets[0].dtype)
        labels[: len(members)] = targets
        return PaddedBatch(inputs, labels, lengths)

    def _pad(self, arrays: list[np.ndarray], steps: int) -> np.ndarray:
        padded = np.zeros((steps, self.batch, *arrays[0].shape[1:]), arrays[0].dtype)
        for b, array in enumerate(arrays):
            padded[: len(array), b] = array
        return padded

    def _epoch(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """The batches of an epoch: bucket, and who is in it."""
        draw = np.random.default_rng([self.seed, epoch])
        batches = []
        for bucket, members in enumerate(self._members):
            members = draw.permutation(members) if self.shuffle else members
            batches += [(bucket, members[i : i + self.batch]) for i in range(0, len(members), self.batch)]
        return [batches[i] for i in draw.permutation(len(batches))] if self.shuffle else batches


def _alike(argument: str, values: Sequence, axes: int) -> list[np.ndarray]:
    """Arrays of one dtype that holds them all, and of one shape behind the first axes, which are time.

    An empty list says nothing of either: it takes them from the others.
    """
    arrays = [np.asarray(value) for value in values]
    full = [array for array in arrays if array.size]
    if not full:
        checks.refuse(argument, "one at least that is not empty", f"{len(arrays)} empty ones")
    shapes = {array.shape[axes:] for array in arrays if axes == 0 or array.shape != (0,)}
    if min(array.ndim for array in arrays) < axes or len(shapes) > 1:
        expected = (
            "arrays [T_n, ...], alike behind the first axis" if axes else "labels of one shape, or a target a step"
        )
        checks.refuse(argument, expected, f"shapes {sorted({array.shape for array in arrays})[:4]}")
    dtype = np.result_type(*{array.dtype for array in full})
    each = full[0].shape[axes:]
    return [array.reshape(array.shape[:axes] + each).astype(dtype, copy=False) for array in arrays]
