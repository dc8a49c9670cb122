"""Long streams, cut into consecutive chunks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from jaxrnn import checks
from jaxrnn.data.checks import id_stream
from jaxrnn.types import Array, exportable


@exportable
class Chunk(NamedTuple):
    """A chunk of B streams: inputs, history first, and as targets the token after each of the last k1 inputs."""

    inputs: np.ndarray | Array  # [k2, B]
    targets: np.ndarray | Array  # [k1, B]
    first: np.ndarray | Array  # bool []: whether the streams begin with this chunk
    resets: np.ndarray | Array | None  # bool [k2, B]: where a stream or document begins; None: at most at ``first``


class Streams:
    """A long text as B parallel streams in chunks of k1 steps: the batches of a language model.

    Stream b of chunk n continues where stream b of chunk n - 1 ended, so the recurrent state may be carried over.
    ``streams[n]`` is chunk n, counted from the start of training; chunks repeat after ``len(streams)`` of them (an
    epoch), so the number n alone is the position in the data. Tokens that do not fill the last chunk are dropped.

    Args:
        ids: ``[N]`` ints, the text.
        batch: B, the number of streams.
        steps: k1, the new steps of a chunk.
        back: k2 ≥ k1, how many steps the gradient goes back: the inputs start with the last k2 - k1 inputs of the
            chunk before, their history. By default k1, no history.
        resets: ``[N]`` bools, True where a document begins; None if the text is one document.

    Raises:
        ValueError: the text is too short for one chunk, ``back`` is below ``steps``.

    Example:
        >>> import numpy as np
        >>> from jaxrnn.data import Streams
        >>> streams = Streams(np.arange(13), batch=2, steps=3)
        >>> streams[1].inputs.T
        array([[ 3,  4,  5],
               [ 9, 10, 11]])
        >>> len(streams)
        2
    """

    def __init__(
        self, ids: np.ndarray, batch: int, steps: int, *, back: int | None = None, resets: np.ndarray | None = None
    ) -> None:
        id_stream("ids", ids)
        checks.size("batch", batch)
        checks.size("steps", steps)
        if back is not None:
            checks.size("back", back)
        self.steps, self.history = steps, 0 if back is None else back - steps
        if self.history < 0:
            checks.refuse("back", f"at least steps = {steps}", back, "the gradient goes back through the chunk itself")
        length = (len(ids) - 1) // batch // steps * steps  # of one stream
        if length <= 0:  # negative if there are no tokens
            checks.refuse("ids", f"more than batch · steps = {batch} · {steps} tokens", len(ids), "use smaller ones")
        begins = np.zeros(len(ids), bool) if resets is None else np.asarray(resets)
        checks.resets(begins, len(ids), ())
        rows = np.arange(length + 1)[:, None] + length * np.arange(batch)  # [length + 1, B]
        padding = [(self.history, 0), (0, 0)]  # history before the start; a reset follows it
        self._tokens = np.pad(np.asarray(ids)[rows], padding)
        begins = begins[rows]
        begins[0] = True
        self._resets = np.pad(begins, padding) if self.history or resets is not None else None

    def __repr__(self) -> str:
        """Sizes, no arrays."""
        back = f", back={self.history + self.steps}" if self.history else ""
        batch, chunks = self._tokens.shape[1], len(self)
        tokens = batch * chunks * self.steps
        return f"Streams({tokens:,} tokens, batch={batch}, steps={self.steps}{back}, {chunks:,} chunks)"

    def __len__(self) -> int:
        """Chunks of one epoch."""
        return (len(self._tokens) - self.history - 1) // self.steps

    def __iter__(self) -> Iterator[Chunk]:
        """The chunks of one epoch, while ``streams[n]`` takes any n."""
        return (self[n] for n in range(len(self)))

    def __getitem__(self, n: int) -> Chunk:
        start = n % len(self) * self.steps
        end = start + self.history + self.steps
        targets = self._tokens[end - self.steps + 1 : end + 1]
        resets = None if self._resets is None else self._resets[start:end]
        return Chunk(self._tokens[start:end], targets, np.asarray(start == 0), resets)

    def split(self, chunks: int) -> tuple[Streams, Streams]:
        """Split every stream into its first ``chunks`` chunks and the rest, for training and validation."""
        if not 0 < chunks < len(self):
            few = "a longer text, or a smaller batch or steps, gives more chunks" if len(self) < 3 else ""
            checks.refuse("chunks", f"a number between 0 and {len(self)}, the chunks of an epoch", chunks, few)
        border = chunks * self.steps
        first, rest = copy.copy(self), copy.copy(self)
        first._tokens, rest._tokens = self._tokens[: self.history + border + 1], self._tokens[border:]
        if self._resets is not None:
            first._resets, rest._resets = self._resets[: self.history + border + 1], self._resets[border:].copy()
            rest._resets[self.history] = True
        return first, rest

    def epoch(self) -> Chunk:
        """Stack all chunks of an epoch along a leading axis, for ``lax.scan`` or :func:`~jaxrnn.learning.mean_loss`."""
        return jax.tree.map(lambda *leaves: np.stack(leaves), *self)
