"""What a metric is: sums of a batch, which are added up over batches, and the value of the total."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.precision import widen
from jaxrnn.types import Array, PyTree

Mode = Literal["min", "max"]


@dataclasses.dataclass(frozen=True)
class Metric:
    r"""A number, or an array, about outputs and targets, exact over any number of batches.

    .. math:: m = \mathrm{value}\Bigl(\sum_n \mathrm{sums}(o_n, y_n, \mathrm{mask}_n)\Bigr)

    It depends on the targets that count and not on how they are split into batches, as a mean over batches would.
    Called on arrays, ``metric(outputs, targets, mask)``, it is the value of these alone.

    Two metrics are equal if their parts are; :func:`jaxrnn.learning.evaluate` compiles equal ones once. So let ``sums``
    and ``value`` be functions with a name in a module, not a new lambda in each call.

    Args:
        name: the name under which it is reported.
        mode: ``"min"`` if smaller is better, ``"max"`` if larger is; None if neither.
        sums: ``sums(outputs, targets, mask)`` returns a pytree of arrays that are added up over batches. It runs under
            ``jax.jit``, and should sum in int32, float32 or wider. The mask, bools over the leading axes of the
            targets, may be None: all count.
        value: ``value(sums)`` of their total, float64 and int64 arrays of NumPy, returns a float or an array.

    Raises:
        TypeError, ValueError: a part of another kind.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxrnn.metrics import Metric
        >>> def largest(outputs, targets, mask):
        ...     return {"zeros": (outputs == 0).sum(), "all": jnp.asarray(outputs.size)}
        >>> def share(sums):
        ...     return sums["zeros"] / sums["all"]
        >>> Metric("zeros", None, largest, share)(jnp.array([0.0, 1.0]), None)
        0.5
    """

    name: str
    mode: Mode | None
    sums: Callable[[PyTree, PyTree, Array | None], PyTree]
    value: Callable[[PyTree], Any]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            checks.refuse("name", "a text", checks.describe(self.name), error=TypeError)
        if self.mode is not None:
            checks.one_of("mode", self.mode, ("min", "max"), also=" or None")
        for argument, part in (("sums", self.sums), ("value", self.value)):
            checks.hashable_function(argument, part)

    def __call__(self, outputs: PyTree, targets: PyTree, mask: Array | None = None) -> Any:
        """Value of one batch."""
        for argument, tree in (("outputs", outputs), ("targets", targets), ("mask", mask)):
            if not all(map(checks.is_concrete, jax.tree.leaves(tree))):
                checks.refuse(argument, "arrays outside of jit, as the value is a number of Python",
                              checks.tree_summary(tree), "under jit metric.sums(outputs, targets, mask)",
                              TypeError)  # fmt: skip
        return result(self, merge(None, jax.jit(self.sums)(outputs, targets, mask)))


def merge(total: PyTree | None, sums: PyTree) -> PyTree:
    """Add the sums of a batch to a total, in float64 and int64 on the host; a total of None is 0.

    Example:
        >>> from jaxrnn.metrics import mae, merge
        >>> first, second = mae.sums(np.ones(3), np.zeros(3), None), mae.sums(np.ones(1), np.full(1, 6.0), None)
        >>> mae.value(merge(merge(None, first), second))
        2.0
    """
    new = jax.tree.map(_wide, jax.device_get(sums))
    return new if total is None else jax.tree.map(np.add, total, new)


def result(metric: Metric, total: PyTree) -> float | np.ndarray:
    """The value of a total: a float, or an array where it is one."""
    value = np.asarray(metric.value(total))
    return value if value.ndim else value.item()


def _wide(x: Any) -> np.ndarray:
    x = np.asarray(x)
    return x.astype(np.int64 if np.issubdtype(x.dtype, np.integer) or x.dtype == bool else np.float64)


@dataclasses.dataclass(frozen=True)
class Bound:
    """A function with keyword arguments filled in; unlike a closure it prints, pickles and compares by them."""

    function: Callable
    arguments: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, function: Callable, **arguments: Any) -> Bound:
        return cls(function, tuple(sorted(arguments.items())))

    def __call__(self, *args: Any) -> Any:
        return self.function(*args, **dict(self.arguments))


# ---- parts of metrics ----


def spread(mask: Array | None, shape: tuple[int, ...]) -> Array:
    """Bools of the shape of the targets, from a mask over their leading axes; None: all count."""
    if mask is None:
        return jnp.ones(shape, bool)
    if getattr(mask, "dtype", None) != jnp.bool_:
        checks.refuse("mask", "bools", checks.describe(mask), "True marks a target that counts", TypeError)
    if tuple(mask.shape) != shape[: mask.ndim]:
        checks.refuse("mask", f"leading axes of the targets {list(shape)}", checks.describe(mask),
                      "data.targets_and_mask(batch) makes it of a batch")  # fmt: skip
    return jnp.broadcast_to(jnp.asarray(mask).reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape)


def select(counted: Array, x: Array) -> Array:
    """``x``, with 0 in place of what does not count, even of NaN."""
    return jnp.where(counted, x, jnp.zeros((), x.dtype))


def sum_and_count(values: Array, counted: Array) -> dict[str, Array]:
    """The sums of a mean."""
    return {"sum": select(counted, values).sum(), "count": counted.sum()}


def mean(sums: dict[str, Any]) -> float:
    """Σ / n; NaN if nothing counts, or if a prediction is NaN."""
    check_labels(sums)
    if not sums["count"] or sums.get("nan"):
        return float("nan")
    return float(sums["sum"]) / int(sums["count"])


def check_labels(sums: dict[str, Any]) -> None:
    """All labels that count are classes. Their values are unknown under ``jit``, so their number is a sum as well."""
    if sums.get("invalid"):
        checks.refuse("targets", "labels, and predicted labels, from 0 to the number of classes - 1",
                      f"{int(sums['invalid'])} others",
                      "targets=lambda batch: (batch.targets, batch.targets >= 0) masks negative ones")  # fmt: skip


def reals(**arrays: Any) -> list[Array]:
    """Arrays of real numbers, named, in the widest of their floating dtypes, float32 or wider."""
    for argument, value in arrays.items():
        kinds = (jnp.floating, jnp.integer)
        if not hasattr(value, "dtype") or not any(jnp.issubdtype(value.dtype, kind) for kind in kinds):
            checks.refuse(argument, "an array of real numbers", checks.tree_summary(value),
                          "predict, and targets= of evaluate, return one array", TypeError)  # fmt: skip
    values = [widen(jnp.asarray(value)) for value in arrays.values()]
    dtype = np.result_type(np.float32, *(value.dtype for value in values if jnp.issubdtype(value.dtype, jnp.floating)))
    return [value.astype(dtype) for value in values]
