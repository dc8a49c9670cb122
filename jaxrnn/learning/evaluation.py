"""Metrics of a model over all batches of a source."""

from __future__ import annotations

import collections
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrnn import checks
from jaxrnn.data.counted import targets_and_mask
from jaxrnn.learning import processes
from jaxrnn.learning.mesh import Layout, Placement
from jaxrnn.learning.sources import Reader, as_arrays, is_indexed
from jaxrnn.metrics.metric import Metric, merge, result
from jaxrnn.types import Array, Params, PyTree, State

PENDING = 8  # batches on their way: the host prepares the next ones; XLA on a CPU has threads for about 30


def evaluate(
    predict: Callable,
    params: Params,
    batches: Any,
    metrics: Sequence[Metric] | Mapping[str, Metric],
    *,
    carry: State | None = None,
    mesh: jax.sharding.Mesh | None = None,
    batch_spec: PyTree = None,
    targets: Callable[[PyTree], tuple[PyTree, Array | None]] = targets_and_mask,
    steps: int | None = None,
    key: Array | None = None,
) -> dict[str, float | np.ndarray]:
    r"""Evaluate a model on all batches of a source: every target that counts has the same weight.

    .. math:: m = \mathrm{value}\Bigl(\sum_n \mathrm{sums}(\mathrm{predict}(θ, b_n), y(b_n), \mathrm{mask}(b_n))\Bigr)

    The sums of one batch are computed on the devices in one compiled call, and added up over batches in float64 and
    int64 on the host. The call is compiled once for each shape of a batch, also if ``evaluate`` is called again with
    the same ``predict``, ``targets`` and equal metrics; a new lambda in each call is compiled in each call.

    Args:
        predict: ``predict(params, batch)`` returns what the metrics call outputs; with ``carry``
            ``predict(params, carry, batch)`` returns ``(carry, outputs)``.
        params: the parameters.
        batches: one epoch of a source with ``len(batches)`` and ``batches[n]``, such as
            :class:`~jaxrnn.data.Buckets`, :class:`~jaxrnn.data.Streams` or a list; or anything that iterates, such as a
            data loader. The last batch may be smaller than the others, on a mesh if its devices divide it.
        metrics: metrics of :mod:`jaxrnn.metrics`, or a dict from the names to report them by.
        carry: the recurrent state before the first batch, where batches follow one another.
        mesh: devices to split each batch over, of :func:`device_mesh`. The result is the same up to rounding, and the
            same number on every process.
        batch_spec: see :func:`fit`.
        targets: ``targets(batch)`` returns the targets and a mask over their leading axes, or None where all count.
        steps: the number of batches, by default one epoch.
        key: random key for a model that samples, such as a forecaster: batch n gets ``predict(..., key=key_n)`` with
            ``fold_in(key, n)``. None, no dropout, for all others.

    Returns:
        A dict from the name of each metric to its value: a float, or a NumPy array where it is one; NaN where no target
        counts.

    Raises:
        TypeError, ValueError: there is no batch, such as in a generator that was used before; two metrics have one
            name; ``predict`` has other arguments, or its outputs do not fit a metric, which a note names; a batch
            cannot be split evenly over the mesh.

    Example:
        >>> import jax, jaxrnn as rnn, numpy as np
        >>> from jaxrnn import learning, metrics
        >>> from jaxrnn.data import Buckets
        >>> model = rnn.Stack(rnn.Embedding(5, 4), rnn.GRU(4, 8), rnn.Linear(8, 5))
        >>> words = [np.arange(n) % 5 for n in (3, 4, 9)]
        >>> def predict(params, batch):
        ...     return rnn.unroll(model, params, batch.inputs, lengths=batch.lengths)[1]
        >>> batches = Buckets(words, words, batch=2, buckets=1)
        >>> params = model.init(jax.random.key(0))
        >>> sorted(learning.evaluate(predict, params, batches, [metrics.accuracy, metrics.perplexity]))
        ['accuracy', 'perplexity']
    """
    named = _named(metrics)
    checks.hashable_function("predict", predict)
    checks.hashable_function("targets", targets)
    if steps is not None:
        checks.size("steps", steps)
    checks.random_key("key", key)
    _check_arguments(predict, carry is not None, key is not None)
    placement = Placement(mesh, batch_spec)
    source, count = _source(batches, steps)
    if jax.process_count() > 1:
        processes.check_same({"metrics": list(named), "steps, or the number of batches": count})
    params, carry = placement.model(params, carry)
    compiled = _compiled(predict, tuple(named.values()), targets, placement.layout(carry))
    key = None if key is None else placement.key(key)

    pending: collections.deque[PyTree] = collections.deque()
    totals: Any = None
    n = -1
    for n, batch in enumerate(source):
        batch = batch if mesh is None else placement.batch(batch)
        carry, sums = compiled(params, carry, batch, key, np.int32(n))  # asynchronous: returns at once
        pending.append(sums)
        if len(pending) > PENDING:
            totals = merge(totals, pending.popleft())
    for sums in pending:
        totals = merge(totals, sums)
    _check_some(batches, n + 1)
    return {name: result(metric, total) for (name, metric), total in zip(named.items(), totals, strict=True)}


@functools.lru_cache(maxsize=32)
def _compiled(predict: Callable, metrics: tuple[Metric, ...], targets: Callable, layout: Layout | None) -> Callable:
    """The jitted sums of one batch; cached, so that a second evaluation does not compile it again."""

    def sums(
        params: Params, carry: State | None, batch: PyTree, key: Array | None, n: Array
    ) -> tuple[State | None, tuple[PyTree, ...]]:
        keys = {} if key is None else {"key": jax.random.fold_in(key, n)}
        if carry is None:
            outputs = predict(params, batch, **keys)
        else:
            carry, outputs = _pair(carry, predict(params, carry, batch, **keys))
        return carry, _sums(metrics, outputs, *_targets(targets(batch)))

    # The sums, those of the whole batch, are on every device of every process; the carry stays where it is
    return jax.jit(sums, out_shardings=None if layout is None else (layout.state, layout.replicated))


def _sums(metrics: tuple[Metric, ...], outputs: PyTree, targets: PyTree, mask: Array | None) -> tuple[PyTree, ...]:
    """The sums of each metric."""
    every = []
    for metric in metrics:
        try:
            every.append(metric.sums(outputs, targets, mask))
        except (TypeError, ValueError) as error:
            error.add_note(f"in metric {metric.name!r}; outputs are those of predict, targets and mask of targets=")
            raise
    return tuple(every)


def _source(batches: Any, steps: int | None) -> tuple[Iterator[PyTree], int | None]:
    """The batches of an evaluation, and their number where it is known."""
    if hasattr(batches, "_fields"):  # a named tuple
        checks.refuse(
            "batches", "a source of batches", checks.tree_summary(batches), "[batch] for a single one", TypeError
        )
    reader = Reader(batches)
    count = reader.epoch_length if steps is None else int(steps)
    if count is not None:
        return (reader.group(n, 1)[0] for n in range(count)), count
    if is_indexed(batches):
        checks.refuse("steps", f"the number of batches, as {type(batches).__name__} has no length", None, "steps=10")
    return map(as_arrays, batches), None


def _check_some(batches: Any, n: int) -> None:
    """At least one batch was evaluated."""
    if n == 0:
        used = "; a generator gives its batches once: list(...) of it, or a class with __len__ and __getitem__"
        checks.refuse(
            "batches",
            "at least one batch",
            f"none from {type(batches).__name__}",
            f"it is empty, or was used before{used}" if isinstance(batches, Iterator) else "it is empty",
        )


def _named(metrics: Any) -> dict[str, Metric]:
    """The metrics by the names that they are reported by."""
    if isinstance(metrics, Mapping):
        named = list(metrics.items())
    elif isinstance(metrics, (list, tuple)):
        named = [(getattr(metric, "name", None), metric) for metric in metrics]
    else:
        fix = f"[{metrics.name}]" if isinstance(metrics, Metric) else "[metrics.accuracy]"
        checks.refuse(
            "metrics", "a list of metrics, or a dict from names to them", checks.describe(metrics), fix, TypeError
        )
    if not named:
        checks.refuse("metrics", "at least one", "none", "[metrics.accuracy]")
    for n, (_, metric) in enumerate(named):
        fix = "jaxrnn.metrics has ready ones, such as metrics.accuracy"
        if callable(metric) and not isinstance(metric, Metric):
            fix = f"call it with its arguments: metrics.{getattr(metric, '__name__', 'f1')}(...)"
        checks.instance(f"metrics[{n}]", metric, Metric, fix)
    names = [name for name, _ in named]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        checks.refuse("metrics", "a different name for each", f"{twice[0]!r} {names.count(twice[0])} times",
                      f'a dict gives them names: {{"{twice[0]}": ..., "another {twice[0]}": ...}}')  # fmt: skip
    return dict(named)


# ---- checks of functions ----


def _check_arguments(predict: Callable, carried: bool, keyed: bool) -> None:
    """``predict`` can be called with the arguments that it will get."""
    names = ["params", *["carry"] * carried, "batch"]
    try:
        signature = inspect.signature(predict)
    except (TypeError, ValueError):  # a function of C has none
        return
    try:
        signature.bind(*names, **{"key": None} if keyed else {})
    except TypeError:
        fix = ("carry= is for predict(params, carry, batch), key= for those that take key" if carried or keyed
               else "carry= gives the recurrent state to predict(params, carry, batch)")  # fmt: skip
        takes_key = "key" in signature.parameters and not keyed
        fix = "key=jax.random.key(0), as predict takes a key" if takes_key else fix
        expected = f"predict({', '.join(names + ['key=None'] * keyed)})"
        checks.refuse("predict", f"a function that takes {expected}", f"predict{signature}", fix, TypeError)


def _pair(carry: State, value: Any) -> tuple[State, PyTree]:
    """What a predict with a carry returned: (carry, outputs)."""
    if not isinstance(value, tuple) or len(value) != 2:
        checks.refuse("predict", "(carry, outputs) from it, as there is a carry", checks.tree_summary(value),
                      "return carry, outputs; carry=None if batches do not follow one another", TypeError)  # fmt: skip
    fix = "carry= is the state before the first batch, of the same batch size"
    return checks.same_tree("carry returned by predict", carry, value[0], fix), value[1]


def _targets(value: Any) -> tuple[PyTree, Array | None]:
    """What ``targets`` returned: (targets, mask)."""
    if not isinstance(value, tuple) or len(value) != 2:
        checks.refuse("targets", "(targets, mask) from it", checks.tree_summary(value),
                      "return targets, None where all count", TypeError)  # fmt: skip
    return value
