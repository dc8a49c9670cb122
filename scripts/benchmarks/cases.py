"""What is measured: cases, their weights and inputs, and which of them make up a run.

Only NumPy is needed here, so that every worker makes the same arrays by itself.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

GATES = {"vanilla": "h", "lstm": "ifoc", "lstm-peephole": "ifoc", "gru": "zrh", "gru-after": "zrh"}
CELLS = (*GATES, "lstm-deep", "lstm-bidirectional")
SHAPES = ((1, 32), (1, 128), (16, 32), (32, 128), (20, 200), (64, 256), (32, 512), (8, 1024))  # (B, H)
LAYERS = 4  # of lstm-deep
TIMED = ("forward", "gradient", "step")
DTYPES = ("float32", "bfloat16")
Weights = list[dict[str, np.ndarray]]  # one entry a cell: by layer, then by direction


class Refused(Exception):  # noqa: N818  it is an answer, not an error
    """A library has no such model, or no such measure; the message says why."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One model at one shape: B sequences of T steps of I features, H units."""

    cell: str
    batch: int
    steps: int
    inputs: int
    hidden: int
    dtype: str = "float32"
    seed: int = 0  # of weights and inputs

    def __str__(self) -> str:
        seed = f" seed={self.seed}" if self.seed else ""
        return f"{self.cell} B={self.batch} T={self.steps} I={self.inputs} H={self.hidden} {self.dtype}{seed}"

    @property
    def kind(self) -> str:
        """The cell that the model is made of."""
        return "lstm" if self.cell in ("lstm-deep", "lstm-bidirectional") else self.cell

    @property
    def layers(self) -> int:
        return LAYERS if self.cell == "lstm-deep" else 1

    @property
    def directions(self) -> int:
        return 2 if self.cell == "lstm-bidirectional" else 1

    @property
    def output(self) -> int:
        return self.directions * self.hidden


@dataclasses.dataclass(frozen=True)
class Job:
    """A case, what is measured of it, and of which libraries; None: of all."""

    case: Case
    measures: tuple[str, ...]
    libraries: tuple[str, ...] | None = None

    @property
    def key(self) -> str:
        return f"{self.case} {','.join(self.measures)} {','.join(self.libraries or ())}"


def weights(case: Case) -> Weights:
    """Parameters of each cell, uniform on ±1/√H: ``w_xh [I, G·H]``, ``w_hh [H, G·H]``, ``b_h [G·H]``.

    A GRU with the reset after the product has ``b_hh [3H]`` as well, an LSTM with peepholes ``peepholes [3, H]``.
    """
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    H = case.hidden
    wide = len(GATES[case.kind]) * H

    def draw(*shape: int) -> np.ndarray:
        return _rounded(rng.uniform(-1, 1, shape) / np.sqrt(H), case.dtype)

    parts = []
    for layer in range(case.layers):
        for _ in range(case.directions):
            part = {"w_xh": draw(H if layer else case.inputs, wide), "w_hh": draw(H, wide), "b_h": draw(wide)}
            if case.kind == "gru-after":
                part["b_hh"] = draw(wide)
                part["b_hh"][2 * H :] = 0  # Flax nnx has no bias there
            if case.kind == "lstm-peephole":
                part["peepholes"] = draw(3, H)
            parts.append(part)
    return parts


def inputs(case: Case) -> np.ndarray:
    """Standard normal inputs ``[T, B, I]``."""
    rng = np.random.default_rng(zlib.crc32(f"inputs of {case}".encode()))
    return _rounded(rng.normal(size=(case.steps, case.batch, case.inputs)), case.dtype)


def _rounded(a: np.ndarray, dtype: str) -> np.ndarray:
    """As float32, each number one that the dtype has."""
    a = a.astype(np.float32)
    if dtype == "bfloat16":
        bits = a.view(np.uint32)
        a = ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return a


# ---- selections --------------------------------------------------------------------------------------------------


def matrix(
    cells: Iterable[str], shapes: Iterable[tuple[int, int]], steps: Iterable[int], inputs: Sequence[str],
    measures: tuple[str, ...], dtypes: Iterable[str] = ("float32",),
) -> list[Job]:  # fmt: skip
    """Every combination; an input size is a number or ``"H"``, as wide as the state. Cheap ones come first."""
    found = {
        Case(cell, B, T, H if size == "H" else int(size), H, dtype)
        for B, H in shapes for T in steps for size in inputs for cell in cells for dtype in dtypes
    }  # fmt: skip
    return [Job(case, measures) for case in sorted(found, key=lambda c: (_cost(c), CELLS.index(c.cell)))]


def _cost(case: Case) -> int:
    return case.steps * case.batch * case.hidden * (case.inputs + case.hidden)


def decoding(cells: Iterable[str], sizes: Iterable[int], steps: int = 1000) -> list[Job]:
    """Batch 1, each output the next input."""
    return [Job(Case(cell, 1, steps, H, H), ("decode",)) for cell in cells for H in sizes]


def compiling(shapes: Iterable[tuple[int, int]], steps: Iterable[int]) -> list[Job]:
    """Compile time and memory of the gradient of an LSTM, and how they grow with T."""
    return [Job(Case("lstm", B, T, H, H), ("compile",)) for B, H in shapes for T in steps]


def long(steps: Iterable[int] = (1_000, 10_000, 100_000)) -> list[Job]:
    """Time of one small LSTM of jaxrnn as T grows."""
    return [Job(Case("lstm", 1, T, 32, 32), ("forward", "gradient"), ("jaxrnn",)) for T in steps]


def rematerialised(steps: Iterable[int] = (256, 1024, 4096, 16384)) -> list[Job]:
    """Memory of the gradient of a final state, with and without ``remat``, as T grows."""
    return [Job(Case("lstm", 16, T, 32, 32), ("remat",), ("jaxrnn",)) for T in steps]


def quick() -> list[Job]:
    """A handful for two minutes: each kind of measure once or twice."""
    jobs = matrix(("vanilla", "lstm", "gru", "gru-after"), [(16, 32)], [128], ["H"], ("forward", "gradient"))
    jobs += matrix(["lstm"], [(32, 128)], [128], ["H"], TIMED)
    return jobs + decoding(["lstm"], [32]) + compiling([(32, 128)], [128]) + rematerialised((256, 4096))


def standard() -> list[Job]:
    """All cells and shapes at T = 128 and I = H, and every other measure at a few places."""
    timed = matrix(CELLS, SHAPES, [128], ["H"], ("forward", "gradient"))
    timed += matrix(["lstm"], [(16, 32), (32, 128)], [35, 500], ["16", "H"], ("forward", "gradient"))
    return timed + _others()


def full() -> list[Job]:
    """The whole matrix."""
    return matrix(CELLS, SHAPES, [35, 128, 500], ["16", "H"], ("forward", "gradient")) + _others()


def _others() -> list[Job]:
    jobs = matrix(["lstm", "gru-after"], [(16, 32), (32, 128), (20, 200)], [128], ["H"], ("step",))
    jobs += decoding(["vanilla", "lstm", "gru-after"], [32, 128])
    jobs += compiling([(16, 32), (32, 128)], [128, 500]) + compiling([(20, 200)], [128])
    return jobs + compiling([(1, 32)], [1_000, 100_000]) + long() + rematerialised()
