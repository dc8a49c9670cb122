"""Which targets of a batch count: not the padding of sequences, and not the fillers of an incomplete batch."""

from __future__ import annotations

from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.data.sequences import Chunk
from jaxrnn.scan import sequence_mask
from jaxrnn.types import Array, PyTree


def targets_and_mask(batch: PyTree, *, aligned: bool | None = None) -> tuple[PyTree, Array | None]:
    """Return the targets of a batch and which of them count.

    ============================================================  =====================================================
    batch                                                         targets that count
    ============================================================  =====================================================
    has a method ``targets_and_mask()``                           as it says
    :class:`~jaxrnn.data.Chunk`                                   all
    ``targets`` and ``mask`` (fields, or keys of a dict)          ``mask``
    ``lengths`` and ``targets [T, B, ...]``, one a step           the steps before the end: ``t < lengths``
    ``lengths`` and ``targets [B, ...]``, labels                  those of sequences that are not empty: ``lengths > 0``
    ``targets`` alone, or a pair ``(inputs, targets)``            all
    ============================================================  =====================================================

    :class:`~jaxrnn.data.PaddedBatch` has lengths. Its targets are one a step if they begin with the axes ``[T, B]`` of
    the inputs. Labels could do so too where they are vectors of B numbers and T = B; ``aligned=False`` says that
    they are labels, ``functools.partial(targets_and_mask, aligned=False)`` says it to a function that asks for this
    one. :class:`~jaxrnn.data.Buckets` refuses such a choice of B and bucket lengths.

    Args:
        batch: one batch; its arrays may be traced.
        aligned: True if there is a target for each step, False if they are labels; None decides by the shapes.

    Returns:
        ``(targets, mask)``: bools over the leading axes of the targets, ``[T, B]`` or ``[B]``; None if all count and
        the batch does not tell which axes those are.

    Raises:
        TypeError, ValueError: another type of batch, or shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> from jaxrnn.data import PaddedBatch, targets_and_mask
        >>> labels, mask = targets_and_mask(PaddedBatch(np.ones((5, 3)), np.array([1, 4, 0]), np.array([5, 2, 0])))
        >>> mask.tolist()  # the last sequence is empty: a filler
        [True, True, False]
        >>> targets, mask = targets_and_mask(PaddedBatch(np.ones((3, 2)), np.ones((3, 2)), np.array([3, 1])))
        >>> mask.T.tolist()
        [[True, True, True], [True, False, False]]
    """
    if aligned is not None:
        checks.flag("aligned", aligned)
    if not isinstance(batch, type) and callable(getattr(batch, "targets_and_mask", None)):
        return batch.targets_and_mask()
    if isinstance(batch, Chunk):
        return batch.targets, jnp.ones(np.shape(batch.targets), bool)
    if type(batch) in (tuple, list) and len(batch) == 2:
        return batch[1], None
    targets, lengths, mask, inputs = (field(batch, name) for name in ("targets", "lengths", "mask", "inputs"))
    if targets is None:
        _unknown(batch)
    if mask is not None:
        _check_leading("mask", mask, targets)
        return targets, mask
    if lengths is None:
        return targets, None
    checks.integers("lengths", lengths, "integers [B]", "jnp.asarray(lengths) makes them")
    _check_array("targets", targets)
    if _is_aligned(tuple(np.shape(targets)), tuple(np.shape(lengths)), inputs, aligned):
        return targets, sequence_mask(np.shape(targets)[0], jnp.asarray(lengths))
    return targets, jnp.asarray(lengths) > 0


def field(batch: Any, name: str) -> Any:
    """A field of a named tuple or dataclass, an entry of a dict; None if there is none."""
    return batch.get(name) if isinstance(batch, dict) else getattr(batch, name, None)


def _is_aligned(targets: tuple[int, ...], lengths: tuple[int, ...], inputs: PyTree, aligned: bool | None) -> bool:
    """Whether targets of this shape are one a step, ``[T, *lengths, ...]``, or labels ``[*lengths, ...]``."""
    axes = len(lengths)
    a_step = targets[1 : axes + 1] == lengths and len(targets) > axes
    labels = targets[:axes] == lengths
    leaves = jax.tree.leaves(inputs)
    steps = np.shape(leaves[0])[0] if leaves and np.ndim(leaves[0]) else None  # T
    if steps is not None:
        a_step = a_step and targets[0] == steps
    fits = {True: a_step, False: labels, None: a_step or labels}
    if not fits[aligned]:
        T = "T" if steps is None else steps
        shapes = {True: f"[{', '.join(map(str, (T, *lengths)))}, ...], one a step", False: f"{[*lengths]}, labels"}
        expected = " or ".join(shapes.values()) if aligned is None else shapes[aligned]
        checks.refuse("targets", f"leading axes {expected}", list(targets), "as many as there are lengths")
    if aligned is None and a_step and labels and steps is None:
        checks.refuse("aligned", f"True or False for targets {list(targets)} and lengths {list(lengths)}", None,
                      "functools.partial(targets_and_mask, aligned=True): one a step; False: labels; or give the batch "
                      "its inputs")  # fmt: skip
    return a_step if aligned is None else aligned


def _check_array(argument: str, value: Any) -> None:
    if not hasattr(value, "shape"):
        checks.refuse(argument, "one array, as the batch has lengths", checks.tree_summary(value),
                      "targets= takes a function from a batch to (targets, mask)", TypeError)  # fmt: skip


def _check_leading(argument: str, mask: Any, targets: PyTree) -> None:
    """Bools over the leading axes of the targets."""
    for leaf in jax.tree.leaves(targets):
        if getattr(mask, "dtype", None) != jnp.bool_:
            checks.refuse(argument, "bools", checks.describe(mask), "True marks a target that counts", TypeError)
        if tuple(np.shape(leaf)[: mask.ndim]) != tuple(mask.shape):
            checks.refuse(argument, f"leading axes of the targets {list(np.shape(leaf))}", checks.describe(mask),
                          "one bool for each target")  # fmt: skip


def _unknown(batch: Any) -> NoReturn:
    names = f" with {', '.join(map(str, batch))}" if isinstance(batch, dict) else ""
    checks.refuse(
        "batch", "a Chunk, PaddedBatch or Window, a pair (inputs, targets), or something with targets",
        checks.tree_summary(batch) + names,
        "targets= takes a function from a batch to (targets, mask), such as lambda batch: (batch[2], batch[1] > 0)",
        TypeError,
    )  # fmt: skip
