"""Which element of which tensor: how reshapes and transposes are understood whatever they are called.

Each tensor that a layer gives has a number for each of its elements, its *label*, in the order of an array
``[rows, F]``, where a row is one step of one sequence. Operators that only move elements (Transpose, Reshape, Slice,
Concat, …) run on labels as they are. A layer then reads from the labels of its input what the file did to it:
nothing, or time and batch exchanged, or the features of two directions side by side.

Sizes that the file leaves open are prime numbers here; a graph is walked through with several sets of them.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from jaxrnn.interop.onnx.reader.chains import Chain, merge
from jaxrnn.layers import Bidirectional, Reverse

ZERO = -1  # the label of a 0


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """The result of a chain; the labels of its elements are ``first``, ``first + 1``, …"""

    chain: Chain
    first: int
    rows: int
    features: int | None  # None for an input, which may be ids or vectors
    is_state: bool = False  # a final state, as an operator gives it
    outputs: Tensor | None = None  # of one step alone, with the same values as that state
    is_mask: bool = False

    @property
    def end(self) -> int:
        return self.first + self.rows * (self.features or 1)


class Labels:
    """All tensors of a graph by their labels."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.merged: dict[tuple, Tensor] = {}

    def new(self, chain: Chain, rows: int, features: int | None, **kind: Any) -> Tensor:
        """A tensor with labels of its own."""
        first = self.tensors[-1].end if self.tensors else 0
        self.tensors.append(Tensor(chain, first, rows, features, **kind))
        return self.tensors[-1]

    def of(self, labels: np.ndarray) -> list[Tensor]:
        """The tensors that hold these labels, in the order of the tensors."""
        ends = [tensor.end for tensor in self.tensors]
        counts = np.bincount(np.searchsorted(ends, labels[labels != ZERO], "right"))
        return [self.tensors[n] for n in np.flatnonzero(counts)]

    def read(self, labels: np.ndarray) -> tuple[Tensor, np.ndarray] | None:
        """The tensor ``[rows, F]`` whose features are the last axis, and the rows ``[...]`` that were taken of it.

        Features of several tensors side by side are those of a merged one. None: the labels are no such thing.
        """
        flat, parts = labels.reshape(-1, labels.shape[-1]), []
        column = 0
        while column < flat.shape[1]:
            if flat[0, column] == ZERO:
                return None
            tensor = self.of(flat[0, column])[0]
            F = tensor.features or _run(flat[0, column:], tensor)
            block = flat[:, column : column + F] - tensor.first
            rows = block[:, 0] // F
            count = (tensor.end - tensor.first) // F
            if rows.min() < 0 or rows.max() >= count or not np.array_equal(block, rows[:, None] * F + np.arange(F)):
                return None
            tensor = tensor.outputs or dataclasses.replace(tensor, rows=count, features=F)
            parts.append(self._of_last_step(tensor, rows))
            column += F
        while len(parts) > 1:
            known = [n for n in range(len(parts) - 1) if _key(parts[n], parts[n + 1], "concat") in self.merged]
            n = known[0] if known else len(parts) - 2
            both = self.merge(parts[n], parts[n + 1], "concat")
            if both is None:
                return None
            parts[n : n + 2] = [both]
        tensor, rows = parts[0]
        return tensor, rows.reshape(labels.shape[:-1])

    def merge(
        self, a: tuple[Tensor, np.ndarray], b: tuple[Tensor, np.ndarray], how: str
    ) -> tuple[Tensor, np.ndarray] | None:
        """Two tensors, of which the same rows were taken, as one."""
        (first, rows), (second, others) = a, b
        key = _key(a, b, how)
        one, two = first.chain.scan, second.chain.scan
        if one is None and two is not None and second.chain.final == "":  # rows of an input to rows [T, B]
            if not np.array_equal(two.rows.ravel()[others], rows):
                return None
        elif two is None and one is not None and first.chain.final == "":
            if not np.array_equal(one.rows.ravel()[rows], others):
                return None
            others = rows
        elif not np.array_equal(rows, others) or first.chain.final != second.chain.final:
            return None
        if one is not None and two is not None and not (np.array_equal(one.rows, two.rows) and one[1:] == two[1:]):
            return None
        if key not in self.merged:
            chain = merge(first.chain, second.chain, how)
            F = (first.features or 0) + (second.features or 0) if how == "concat" else second.features
            if chain is None:
                return None
            self.merged[key] = self.new(chain, second.rows if two is not None else first.rows, F)
        return self.merged[key], others

    def other_step(self, labels: np.ndarray) -> tuple[str, str] | None:
        """What one step alone is, if it is not the last one of a layer, and why it is no output; else None."""
        for tensor in self.of(labels):
            chain, scan = tensor.chain, tensor.chain.scan
            if chain.final or scan is None or len(scan.rows) == 1:
                continue
            T, B = scan.rows.shape
            held = labels[(labels >= tensor.first) & (labels < tensor.end)] - tensor.first
            steps = np.unique(held // (tensor.features or 1) // B)
            if len(steps) > 1:
                continue
            if scan.lengths is not None:
                return "one step whatever the lengths", f"h_n is of the last step before {scan.lengths!r}"
            if steps[0] == T - 1 and isinstance(chain.top, (Bidirectional, Reverse)):
                return "the last step of the backward direction", (
                    "it has seen one input only there; h_n is meant, or the outputs of that direction at step 0"
                )
            if chain.last_step is None and not isinstance(chain.top, Bidirectional):
                return f"one step of {chain.top!r}", "the direction inside of it ends at another step"
            if chain.last_step is None or steps[0] != chain.last_step % T:
                return "another step", "a Classifier reads the last one, in reverse the first one"
        return None

    def _of_last_step(self, tensor: Tensor, rows: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Rows ``[T, B]`` that are all of the last step as rows of a tensor ``[B, F]``."""
        chain, scan = tensor.chain, tensor.chain.scan
        if chain.final or scan is None or scan.lengths is not None or chain.last_step is None:
            return tensor, rows
        T, B = scan.rows.shape
        if T == 1 or not (rows // B == chain.last_step % T).all():
            return tensor, rows
        key = (tensor.first, "last")
        if key not in self.merged:
            self.merged[key] = self.new(dataclasses.replace(chain, final="h"), B, tensor.features)
        return self.merged[key], rows % B


def _key(a: tuple[Tensor, Any], b: tuple[Tensor, Any], how: str) -> tuple:
    return a[0].first, b[0].first, how


def _run(labels: np.ndarray, tensor: Tensor) -> int:
    """How many labels of one tensor follow each other: the features of an input."""
    steps = (labels != labels[0] + np.arange(len(labels))) | (labels >= tensor.end)
    return int(steps.argmax()) or len(labels)


def in_order(rows: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether rows are all those of an array of this shape, in its order, or with its two axes exchanged."""
    one = rows.squeeze()
    if rows.size != math.prod(shape):
        return False
    grid = np.arange(rows.size).reshape(shape).squeeze()
    ordered = all((np.diff(one, axis=axis) > 0).all() for axis in range(one.ndim))
    return ordered and (grid.ndim != 2 or one.ndim != 2 or any(np.array_equal(one, a) for a in (grid, grid.T)))


def take(tensor: Tensor, rows: np.ndarray) -> np.ndarray:
    """The labels ``[..., F]`` of rows of a tensor."""
    F = tensor.features or 1
    return tensor.first + rows[..., None] * F + np.arange(F)
