"""Scaling of real-valued series, fitted on the training part."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks, stored
from jaxrnn.data.series import Series, as_list, label

KINDS = ("standard", "minmax", "mean", "none")


@stored.storable
@dataclasses.dataclass(frozen=True, eq=False)
class Scaling:
    r"""An affine map of the values of series, and its inverse.

    .. math:: \mathrm{apply}(x) = \frac{f(x) - \mathrm{offset}}{\mathrm{scale}}, \qquad f(x) = x \text{ or } \log x

    :meth:`fit` makes one. Covariates are scaled too, by ``feature_offset`` and ``feature_scale``.

    Args:
        kind: ``"standard"`` (mean 0, standard deviation 1), ``"minmax"`` (from 0 to 1), ``"mean"`` (divided by the mean
            absolute value) or ``"none"``.
        offset, scale: ``[1, D]``, or ``[n, D]`` with one row for each series.
        feature_offset, feature_scale: ``[K']``, of what is known in advance.
        log: whether the logarithm of the values is scaled.

    Example:
        >>> import numpy as np
        >>> from jaxrnn.data import Scaling, Series
        >>> scaling = Scaling.fit(Series([1.0, np.nan, 3.0]))
        >>> scaling.apply(np.array([[1.0], [5.0]])).tolist()  # mean 2, standard deviation 1
        [[-1.0], [3.0]]
        >>> scaling.undo(np.array([[-1.0], [3.0]])).tolist()
        [[1.0], [5.0]]
    """

    kind: str
    offset: np.ndarray
    scale: np.ndarray
    feature_offset: np.ndarray
    feature_scale: np.ndarray
    log: bool = False

    @classmethod
    def fit(
        cls, series: Series | Sequence[Series], kind: str = "standard", *, per_series: bool = False, log: bool = False
    ) -> Scaling:
        """Fit to series: to their training part, or what comes later is known too early.

        A value that never changes is divided by 1. Covariates are standardised over all series, unless the kind is
        ``"none"``.

        Args:
            series: one or several; missing values are passed over.
            kind: see above.
            per_series: each series has its own offset and scale; one without a value takes that of all together.
            log: scale the logarithm; all values are then above 0.

        Raises:
            TypeError, ValueError: an argument is of the wrong kind, or a value is not above 0 with ``log``.
        """
        series = as_list("series", series)
        checks.one_of("kind", kind, KINDS)
        checks.flag("per_series", per_series)
        checks.flag("log", log)
        if log:
            check_positive(series)
        values = [np.log(one.values) if log else one.values for one in series]
        everything = offset, scale = _fit(kind, np.concatenate(values))
        if per_series:
            fitted = [_fit(kind, one) if np.isfinite(one).any(0).all() else everything for one in values]
            offset, scale = np.stack([o for o, _ in fitted]), np.stack([s for _, s in fitted])
        features = _fit("none" if kind == "none" else "standard", np.concatenate([one.features() for one in series]))
        return cls(kind, np.atleast_2d(offset), np.atleast_2d(scale), *features, log=log)

    @property
    def per_series(self) -> bool:
        """Whether each series has its own row."""
        return len(self.offset) > 1

    def apply(self, values: Any, series: Any = None) -> Any:
        """Scale values ``[..., D]``, NumPy or JAX.

        Args:
            values: ``[..., D]``, or ``[..., B, D]`` with B series; any leading axes, such as those of samples.
            series: the number of a series, or ``[B]`` of them, as ``window.series``; for a scaling of each series.
        """
        values, offset, scale = self._rows(values, series)
        numpy = jnp if isinstance(values, jax.Array) else np
        return (((numpy.log(values) if self.log else values) - offset) / scale).astype(offset.dtype)

    def undo(self, values: Any, series: Any = None) -> Any:
        """The inverse of :meth:`apply`, with the same arguments: forecasts in the units of the series."""
        values, offset, scale = self._rows(values, series)
        numpy = jnp if isinstance(values, jax.Array) else np
        values = values * scale + offset
        return (numpy.exp(values) if self.log else values).astype(offset.dtype)

    def apply_features(self, features: np.ndarray) -> np.ndarray:
        """Scale ``[..., K']``, what is known in advance: :meth:`Series.features`."""
        return (features - self.feature_offset) / self.feature_scale

    def _rows(self, values: Any, series: Any) -> tuple[Any, Any, Any]:
        """The values as floating numbers; offset and scale in their dtype and number of axes."""
        width = self.offset.shape[1]
        values = values if isinstance(values, jax.Array) else np.asarray(values)
        if not jnp.issubdtype(values.dtype, jnp.floating):
            values = values.astype(float)
        shape = values.shape
        if not shape or shape[-1] != width:
            checks.refuse("values", f"[..., {width}], the features of the series last", checks.describe(values),
                          "values[..., None] adds the axis of a single feature")  # fmt: skip
        if self.per_series and series is None:
            checks.refuse("series", f"numbers in [0, {len(self.offset)}), each series has its own scaling", None,
                          "window.series holds them", TypeError)  # fmt: skip
        index = 0 if not self.per_series else series
        if not isinstance(index, jax.Array):
            index = np.asarray(index)
            if index.size and not (index.min() >= 0 and index.max() < len(self.offset)):
                checks.refuse("series", f"numbers in [0, {len(self.offset)}), as many as were fitted",
                              f"{index.min()} to {index.max()}", "fit a scaling on them")  # fmt: skip
        traced = isinstance(values, jax.Array) or isinstance(index, jax.Array)

        def rows(table: np.ndarray) -> Any:
            found = (jnp.asarray(table, values.dtype) if traced else table.astype(values.dtype))[index]
            return found.reshape((1,) * (len(shape) - found.ndim) + found.shape)

        return values, rows(self.offset), rows(self.scale)


def check_positive(series: Sequence[Series]) -> None:
    """Values above 0, as their logarithm needs."""
    for n, one in enumerate(series):
        wrong = (one.values <= 0).any(1)
        if wrong.any():
            row = int(wrong.argmax())
            checks.refuse(f"{label(series, n)}.values[{row}]", "values above 0, with log=True", one.values[row],
                          "log=False, or add a number to all values, as log(1 + x) does")  # fmt: skip


def _fit(kind: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offset and scale of each column of ``[N, D]``, NaN passed over; 0 and 1 for a column without a value."""
    columns = [column[~np.isnan(column)] for column in values.T]

    def each(statistic: Any, empty: float) -> np.ndarray:
        return np.array([statistic(column) if column.size else empty for column in columns], np.float64)

    zeros, ones = np.zeros(len(columns)), np.ones(len(columns))
    offset, scale = {
        "standard": lambda: (each(np.mean, 0.0), each(_deviation, 1.0)),
        "minmax": lambda: (each(np.min, 0.0), each(np.ptp, 1.0)),
        "mean": lambda: (zeros, each(lambda column: np.abs(column).mean(), 1.0)),
        "none": lambda: (zeros, ones),
    }[kind]()
    return offset, np.where(scale > 0, scale, 1.0)


def _deviation(column: np.ndarray) -> float:
    """Standard deviation; 0 where it is no more than the rounding of the mean of equal values."""
    deviation = float(column.std())
    return deviation if deviation > 1e-12 * float(np.abs(column).max()) else 0.0
