"""Sequences of unequal length, and pairs of them, padded to a few bucket lengths, so that few shapes are compiled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.data.checks import bucket_lengths, is_aligned
from jaxrnn.types import Array, exportable


@exportable
class PaddedBatch(NamedTuple):
    """A batch of B sequences, padded at the end with 0; an entry of length 0 is a filler of an incomplete batch.

    A filler has inputs and a target of 0, a target like any other: a mean over the batch would count it.
    :func:`~jaxrnn.data.targets_and_mask` gives the targets and which of them count, for the ``mask=`` of a loss: the
    steps before the end if targets are sequences, ``lengths > 0`` if they are labels.
    """

    inputs: np.ndarray  # [T, B, ...]
    targets: np.ndarray  # [T, B, ...] if targets are sequences, [B, ...] if they are labels
    lengths: np.ndarray  # int32 [B]


class Buckets:
    """Shuffled batches of sequences of unequal length, of at most ``buckets`` shapes.

    Each sequence is padded to the smallest of a few lengths that holds it. ``batches[n]`` is batch n, counted from the
    start of training. Each epoch of ``len(batches)`` batches has its own order, which follows from the seed, so the
    number n alone is the position in the data. The last batch of a bucket is filled up with sequences of length 0,
    whose labels are 0. :func:`~jaxrnn.unroll` ignores such fillers; losses and metrics do so with the mask of
    :func:`~jaxrnn.data.targets_and_mask`, and would count their labels without it.

    Args:
        inputs: N arrays ``[T_n, ...]``.
        targets: N arrays ``[T_n, ...]``, or N labels: numbers or arrays of one shape.
        batch: B.
        aligned: True if targets are sequences, with one target for each step of their input; False if they are labels.
            None infers it: sequences if each target is as long as its input, otherwise labels. It is required if
            the shapes allow both, for instance targets ``[3]`` of inputs that all have 3 steps.
        buckets: the largest number of bucket lengths; they are quantiles of the sequence lengths.
        lengths: the bucket lengths themselves, instead of ``buckets``.
        shuffle: whether epochs are shuffled; otherwise short buckets come first, each in the order of ``inputs``.
        seed: seed of the shuffling.

    Raises:
        TypeError, ValueError: all sequences are empty, numbers of inputs and targets differ, shapes do not match,
            ``aligned`` is required, a sequence is longer than all bucket lengths, or labels ``[B, ...]`` of a bucket of
            B steps would have the shape of sequences.

    Example:
        >>> import numpy as np
        >>> from jaxrnn.data import Buckets
        >>> words = [np.ones(n, int) for n in (1, 2, 3, 9, 10)]
        >>> batches = Buckets(words, [0, 1, 0, 1, 0], batch=2, buckets=2, shuffle=False)
        >>> batches.lengths, len(batches)
        ((3, 10), 3)
        >>> batches[1].inputs.shape, batches[1].lengths  # one entry is padding
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
        self.inputs = _same_dtype("inputs", inputs, 1)
        self.aligned = is_aligned(self.inputs, targets, aligned)
        self.targets = _same_dtype("targets", targets, 1 if self.aligned else 0)
        sizes = np.array([len(x) for x in self.inputs])
        if lengths is None:
            quantiles = np.quantile(sizes, np.arange(1, buckets + 1) / buckets, method="inverted_cdf")
            lengths = [int(size) for size in quantiles]
        bucket_lengths("lengths", lengths)
        self.lengths = tuple(sorted(set(map(int, lengths))))
        if sizes.max() > self.lengths[-1]:
            checks.refuse("lengths", f"one of at least {sizes.max()}, the longest sequence", self.lengths)
        if not self.aligned and self.targets[0].shape[:1] == (batch,) and batch in self.lengths:
            checks.refuse("batch", f"another size than {batch}, as {batch} labels {list(self.targets[0].shape)} for "
                          f"inputs of {batch} steps have the shape of targets for each step", batch,
                          "another batch or other lengths=")  # fmt: skip
        self.batch, self.shuffle, self.seed = batch, shuffle, seed
        bucket = np.searchsorted(self.lengths, sizes)
        self._members = [np.flatnonzero(bucket == b) for b in range(len(self.lengths))]
        self._order: tuple[int, list] = (-1, [])

    def __repr__(self) -> str:
        """Sizes, no arrays."""
        sizes = f"{len(self.inputs):,} sequences, batch={self.batch}, lengths={self.lengths}"
        return f"Buckets({sizes}, {len(self):,} batches)"

    def __len__(self) -> int:
        """Batches of one epoch."""
        return sum(-(-len(members) // self.batch) for members in self._members)

    def __iter__(self) -> Iterator[PaddedBatch]:
        """The batches of the first epoch, while ``batches[n]`` takes any n."""
        return (self[n] for n in range(len(self)))

    def __getitem__(self, n: int) -> PaddedBatch:
        epoch, position = divmod(n, len(self))
        if self._order[0] != epoch:
            self._order = (epoch, self._epoch(epoch))
        bucket, members = self._order[1][position]
        steps = self.lengths[bucket]
        inputs = _pad([self.inputs[m] for m in members], steps, self.batch)
        targets = [self.targets[m] for m in members]
        lengths = np.zeros(self.batch, np.int32)
        lengths[: len(members)] = [len(self.inputs[m]) for m in members]
        if self.aligned:
            return PaddedBatch(inputs, _pad(targets, steps, self.batch), lengths)
        labels = np.zeros((self.batch, *targets[0].shape), targets[0].dtype)
        labels[: len(members)] = targets
        return PaddedBatch(inputs, labels, lengths)

    def _epoch(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """The batches of an epoch: bucket, and indices of its sequences."""
        rng = np.random.default_rng([self.seed, epoch])
        batches = []
        for bucket, members in enumerate(self._members):
            members = rng.permutation(members) if self.shuffle else members
            batches += [(bucket, members[i : i + self.batch]) for i in range(0, len(members), self.batch)]
        return [batches[i] for i in rng.permutation(len(batches))] if self.shuffle else batches


@exportable
class PairBatch(NamedTuple):
    """A batch of B pairs of sequences, each padded at the end with 0; lengths of 0 are padding of the batch axis."""

    inputs: np.ndarray  # [S, B, ...]
    targets: np.ndarray  # [T, B, ...]
    lengths: np.ndarray  # int32 [B], of the inputs
    target_lengths: np.ndarray  # int32 [B]

    def targets_and_mask(self) -> tuple[Array, Array]:
        """The tokens ``[T - 1, B]`` to predict, all but the first of each target, and which of them count."""
        targets = jnp.asarray(self.targets)[1:]
        return targets, jnp.arange(len(targets))[:, None] < jnp.asarray(self.target_lengths)[None] - 1


class Pairs:
    """Shuffled batches of pairs of sequences, such as sentences and their translations, of at most ``buckets`` shapes.

    Pairs are put into buckets by the length of the input, as in :class:`Buckets`; the targets of a bucket are padded to
    its longest. ``pairs[n]`` is batch n, counted from the start of training.

    Args:
        inputs: N arrays ``[S_n, ...]``.
        targets: N arrays ``[T_n, ...]``; for an :class:`~jaxrnn.tasks.EncoderDecoder` with a first token that starts
            and a last one that ends them.
        batch, buckets, lengths, shuffle, seed: see :class:`Buckets`; ``lengths`` are those of the inputs.

    Raises:
        TypeError, ValueError: numbers of inputs and targets differ, all are empty, shapes do not match.

    Example:
        >>> import numpy as np
        >>> from jaxrnn.data import Pairs
        >>> pairs = Pairs([np.ones(n, int) for n in (2, 3, 9)], [np.ones(n, int) for n in (4, 2, 5)], 2, buckets=2)
        >>> pairs
        Pairs(3 pairs, batch=2, lengths=(3, 9), 2 batches)
        >>> sorted((batch.inputs.shape, batch.targets.shape) for batch in pairs)
        [((3, 2), (4, 2)), ((9, 2), (5, 2))]
    """

    def __init__(
        self,
        inputs: Sequence[np.ndarray],
        targets: Sequence[np.ndarray],
        batch: int,
        *,
        buckets: int = 4,
        lengths: Sequence[int] | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        if len(inputs) != len(targets):
            checks.refuse("targets", f"one for each of the {len(inputs)} inputs", len(targets))
        numbers = np.arange(1, len(inputs) + 1)  # 0 is a filler
        self._inputs = Buckets(inputs, list(numbers), batch, aligned=False, buckets=buckets, lengths=lengths,
                               shuffle=shuffle, seed=seed)  # fmt: skip
        self.targets = _same_dtype("targets", targets, 1)
        self.lengths, self.batch = self._inputs.lengths, batch
        self._longest = dict.fromkeys(self.lengths, 0)
        for x, y in zip(self._inputs.inputs, self.targets, strict=True):
            bucket = next(length for length in self.lengths if length >= len(x))
            self._longest[bucket] = max(self._longest[bucket], len(y))

    def __repr__(self) -> str:
        """Sizes, no arrays."""
        sizes = f"{len(self.targets):,} pairs, batch={self.batch}, lengths={self.lengths}"
        return f"Pairs({sizes}, {len(self):,} batches)"

    def __len__(self) -> int:
        """Batches of one epoch."""
        return len(self._inputs)

    def __iter__(self) -> Iterator[PairBatch]:
        """The batches of the first epoch, while ``pairs[n]`` takes any n."""
        return (self[n] for n in range(len(self)))

    def __getitem__(self, n: int) -> PairBatch:
        inputs, numbers, lengths = self._inputs[n]
        targets = [self.targets[number - 1] for number in numbers if number]
        target_lengths = np.zeros(self.batch, np.int32)
        target_lengths[: len(targets)] = [len(target) for target in targets]
        return PairBatch(inputs, _pad(targets, self._longest[len(inputs)], self.batch), lengths, target_lengths)


def _pad(arrays: list[np.ndarray], steps: int, batch: int) -> np.ndarray:
    """Arrays ``[T_n, ...]`` as one, ``[steps, batch, ...]``, with 0 after the end of each."""
    padded = np.zeros((steps, batch, *arrays[0].shape[1:]), arrays[0].dtype)
    for b, array in enumerate(arrays):
        padded[: len(array), b] = array
    return padded


def _same_dtype(argument: str, values: Sequence, axes: int) -> list[np.ndarray]:
    """Arrays of one dtype that can represent all values, and of one shape after the first ``axes`` axes (time).

    An empty list takes dtype and shape from the others.
    """
    arrays = [np.asarray(value) for value in values]
    text = next((array for array in arrays if array.dtype.kind in "SU"), None)
    if text is not None and argument == "inputs":
        checks.refuse(argument, "numbers", f"texts such as {str(text.flat[0])[:30]!r}",
                      "data.Vocabulary.of(sentences, split='words') has encode(sentence)", TypeError)  # fmt: skip
    nonempty = [array for array in arrays if array.size]
    if not nonempty:
        checks.refuse(argument, "one at least that is not empty", f"{len(arrays)} empty ones")
    shapes = {array.shape[axes:] for array in arrays if axes == 0 or array.shape != (0,)}
    if min(array.ndim for array in arrays) < axes or len(shapes) > 1:
        expected = (
            "arrays [T_n, ...], alike behind the first axis" if axes else "labels of one shape, or a target a step"
        )
        fix = "Buckets takes labels, one a sequence" if argument == "targets" and axes else ""
        checks.refuse(argument, expected, f"shapes {sorted({array.shape for array in arrays})[:4]}", fix)
    dtype = np.result_type(*{array.dtype for array in nonempty})
    trailing = nonempty[0].shape[axes:]
    return [array.reshape(array.shape[:axes] + trailing).astype(dtype, copy=False) for array in arrays]
