"""Numbers that are not finite: said at once, with the array in which they are first; too many of them end a run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.learning.update import trained_params
from jaxrnn.types import Params, PyTree


class NonFiniteError(RuntimeError):
    """Loss or gradient were not finite for too many batches in a row."""


class Watch:
    """Counts the batches that a run skips, and says so: the first with its cause, then the 2nd, 4th, 8th, ….

    Args:
        params: the parameters, whose names are those of the gradient.
        in_a_row: batches skipped up to here without a good one in between.
        most: how many in a row end the run.
        say: prints a line.
        warn: whether this process warns.
    """

    def __init__(self, params: Params, in_a_row: int, most: int, say: Callable[[str], None], warn: bool) -> None:
        paths = jax.tree_util.tree_flatten_with_path(trained_params(params))[0]
        self.names = [f"params{jax.tree_util.keystr(path)}" for path, _ in paths]
        self.in_a_row, self.most, self.say, self.warn = in_a_row, most, say, warn
        self.seen, self.skipped = 0, 0

    def before(self, n: int, batch: PyTree) -> None:
        """Warn if batch n, the first of the run, holds numbers that are not finite."""
        found = nonfinite_leaf(n, batch)
        if found and self.warn:
            warnings.warn(f"{found}; if no mask or length excludes them, the batch will be skipped", stacklevel=4)

    def after(self, done: int, values: dict[str, np.ndarray], batches: Sequence[PyTree], checkpoints: Any) -> None:
        """Report the skipped ones among the batches that end at step ``done``.

        Raises:
            NonFiniteError: too many in a row.
        """
        start = done - len(values["finite"])
        self.seen += len(values["finite"])
        for k, finite in enumerate(values["finite"]):
            self.in_a_row = 0 if finite else self.in_a_row + 1
            if finite:
                continue
            self.skipped += 1
            step, cause = start + k + 1, ""
            if self.skipped == 1 or self.in_a_row >= self.most:
                cause = self._cause(start + k, values["loss"][k], values["nonfinite_leaf"][k], batches[k])
            if self.in_a_row >= self.most:
                raise NonFiniteError(
                    f"loss and gradient: expected finite numbers, got {self.in_a_row} batches in a row without, up to "
                    f"step {step}: {cause}; {_last(checkpoints)}; a smaller learning rate or clipping may help"
                )
            if self.skipped == 1 and self.warn:
                warnings.warn(f"step {step}: the batch is skipped, {cause}", stacklevel=4)
            elif self.skipped & (self.skipped - 1) == 0:
                self.say(f"step {step}: the batch is skipped, {self.skipped} so far")

    def at_end(self) -> None:
        """Say how many were skipped; warn if all were."""
        if self.skipped == self.seen > 0 and self.warn:
            warnings.warn(f"all {self.seen} batches were skipped, nothing was trained", stacklevel=3)
        if self.skipped > 1:
            self.say(f"{self.skipped} of {self.seen} batches were skipped, as loss or gradient were not finite")

    def _cause(self, n: int, loss: Any, leaf: Any, batch: PyTree) -> str:
        """What was not finite: the loss or the gradient, and where that comes from."""
        if np.isfinite(loss):
            what = f"its gradient is not finite, first in {self.names[leaf]}"
        else:
            what = f"its loss is {float(loss)}"
        unknown = "all numbers of the batch are finite; labels, ids or counts out of their range have a loss of NaN"
        return f"{what}; {nonfinite_leaf(n, batch) or (unknown if np.isnan(loss) else unknown.partition(';')[0])}"


def nonfinite_leaf(n: int, batch: PyTree) -> str:
    """The first array of batch n with a number that is not finite, and where it is; empty if there is none."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            continue  # of several processes
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            continue
        array = np.asarray(leaf)
        bad = ~np.isfinite(array.astype(np.promote_types(array.dtype, np.float32)))
        if bad.any():
            place = [int(i) for i in np.argwhere(bad)[0]]
            name = f"batches[{n}]{jax.tree_util.keystr(path)}"
            return f"{name} has {bad.sum():,} of {bad.size:,} numbers that are not finite, the first at {place}"
    return ""


def _last(checkpoints: Any) -> str:
    if checkpoints is None or not checkpoints.steps():
        return "there is no checkpoint"
    return f"the last good checkpoint is that of step {checkpoints.steps()[-1]} in {checkpoints.folder}"
