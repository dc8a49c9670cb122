"""Whether smaller or larger is better, by the name of a metric."""

from __future__ import annotations

import re

from jaxrnn import checks
from jaxrnn.metrics.metric import Mode

SMALLER = (
    "loss", "error", "nats", "cross_entropy", "perplexity", "bits", "bits_per_byte", "squared_error", "mse", "rmse",
    "mae", "mape", "smape", "quantile_loss", "crps", "interval_score",
)  # fmt: skip
AVERAGES = ("", "_macro", "_micro", "_weighted")
LARGER = ("accuracy", "top_k_accuracy", *(s + a for s in ("f1", "precision", "recall") for a in AVERAGES))
DIRECTIONS: dict[str, Mode] = {**dict.fromkeys(SMALLER, "min"), **dict.fromkeys(LARGER, "max")}


def direction(name: str) -> Mode | None:
    """Return ``"min"`` or ``"max"`` for a name of :data:`DIRECTIONS`, also with words before it; None if unknown.

    Words are separated by anything but letters and digits. Names that begin with ``neg`` are unknown: scikit-learn
    maximises ``neg_mean_squared_error``, others minimise a ``negative_log_likelihood``.

    Args:
        name: the name under which a number is reported.

    Raises:
        TypeError: the name is not a text.

    Example:
        >>> from jaxrnn import metrics
        >>> [metrics.direction(name) for name in ("validation_accuracy", "dev/loss", "test loss", "seconds")]
        ['max', 'min', 'min', None]
    """
    if not isinstance(name, str):
        checks.refuse("name", "a text", checks.describe(name), error=TypeError)
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    if not words or words[0] in ("neg", "negative"):
        return None
    ends = ("_".join(words[n:]) for n in range(len(words)))  # the longest first
    return next((DIRECTIONS[end] for end in ends if end in DIRECTIONS), None)
