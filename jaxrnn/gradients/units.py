r"""Search for interpretable units: which unit tells whether a quotation is open, or how long the line is?

The area under the curve of a unit, for a feature that is true or false, is the probability that its state is higher at
a step with the feature than at one without; ties count half:

.. math:: \mathrm{AUC} = P(s_t > s_u) + \tfrac{1}{2} P(s_t = s_u), \qquad f_t = 1, \; f_u = 0
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from jaxrnn import checks


class Units(NamedTuple):
    """How well each of H units tells a feature."""

    order: np.ndarray  # [H], the units from the best to the worst
    score: np.ndarray  # [H], in [0, 1]: |2 AUC - 1| of a feature that is true or false, else |correlation|
    correlation: np.ndarray  # [H], in [-1, 1]; 0 of a unit that never changes
    auc: np.ndarray | None  # [H], in [0, 1]; None for a feature of numbers


def find_units(states: ArrayLike, feature: ArrayLike) -> Units:
    """Score every unit by how well its state alone tells a feature of the sequence.

    Of many units the best one has a score above 0 by chance: choose it on one text, and report its score on another.

    Args:
        states: ``[T, ..., H]``, of :func:`~jaxrnn.trajectory`, or gates; of an LSTM ``states.h`` or ``states.c``.
        feature: ``[T, ...]``, bools or numbers, as those of :mod:`jaxrnn.data.annotations`.

    Returns:
        :class:`Units`.

    Raises:
        TypeError, ValueError: the shapes do not fit, numbers are not finite, or the feature is the same at every step.

    Example:
        >>> import numpy as np, jaxrnn as rnn
        >>> quoted = rnn.data.annotations.inside_quotes('say "yes" or "no"')
        >>> states = np.random.default_rng(0).normal(size=(len(quoted), 8))
        >>> states[:, 5] -= 9 * quoted
        >>> found = rnn.gradients.find_units(states, quoted)
        >>> int(found.order[0]), float(found.auc[5])
        (5, 0.0)

    Source: Karpathy, Johnson & Fei-Fei (2015), "Visualizing and understanding recurrent networks", arXiv:1506.02078.
    """
    given, f = _array("states", states), _array("feature", feature)
    if given.ndim < 2 or f.shape != given.shape[:-1]:
        checks.refuse("feature", f"one number a step of the states, shape {list(given.shape[:-1])}",
                      checks.describe(f), "states have one axis more, the units")  # fmt: skip
    s, f, truth = given.reshape(-1, given.shape[-1]).astype(float), f.ravel(), f.dtype == bool
    for name, values in (("states", s), ("feature", f)):
        if not np.isfinite(values).all():
            checks.refuse(name, "finite numbers", f"{(~np.isfinite(values)).sum()} that are not")
    if not f.size or (f == f[0]).all():
        checks.refuse("feature", "two values at least", f"{f[0]} at every step" if f.size else "no step")
    centred, deviation = s - s.mean(0), f - f.mean()
    spread = np.linalg.norm(centred, axis=0) * np.linalg.norm(deviation)
    correlation = np.divide(deviation @ centred, spread, out=np.zeros(s.shape[1]), where=spread > 0)
    auc, score = None, np.abs(correlation)
    if truth:
        auc = np.array([_auc(unit[f], np.sort(unit[~f])) for unit in s.T])
        score = np.abs(2 * auc - 1)
    return Units(np.argsort(-score, kind="stable"), score, correlation, auc)


def _auc(with_feature: np.ndarray, without: np.ndarray) -> float:
    """How often a number is above one of those without the feature, which are sorted."""
    below, up_to = (np.searchsorted(without, with_feature, side) for side in ("left", "right"))
    return float(np.mean(below + up_to) / (2 * len(without)))


def _array(argument: str, value: Any) -> np.ndarray:
    """Bools or real numbers as an array."""
    if isinstance(value, tuple):
        fields = " or ".join(f".{name}" for name in getattr(value, "_fields", ()))
        checks.refuse(
            argument, "one array", checks.tree_summary(value), f"{fields} is one" if fields else "", TypeError
        )
    array = np.asarray(value)
    if array.dtype == bool:
        return array
    try:
        return array.astype(float, casting="same_kind")
    except TypeError:
        checks.refuse(argument, "bools or numbers", checks.describe(array), error=TypeError)
