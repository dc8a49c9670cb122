"""Initializers of parameters: a name, or any ``f(key, shape, dtype) -> array``.

The names are mostly those of :mod:`jax.nn.initializers`. Initializers with a parameter are frozen dataclasses, so that
a model that holds one can be compared, pickled and printed.

The weights of several gates are concatenated in one matrix, but each gate is initialised separately
(:func:`per_gate`): each gate's block of an orthogonal ``w_hh`` is orthogonal, and fan-in and fan-out are those of one
gate.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters, remake
from jaxrnn.precision import wide_dtype
from jaxrnn.types import Array

__all__ = ["NAMED", "chrono", "everywhere", "identity", "normal", "orthogonal", "uniform"]

Initializer: TypeAlias = Callable[..., Array]  # (key, shape, dtype) -> array
M = TypeVar("M")


@hyperparameters
class uniform:
    """Uniform on ``[-scale, scale]``, or on ``[low, scale]``."""

    scale: float
    low: float | None = None

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return jax.random.uniform(key, shape, dtype, -self.scale if self.low is None else self.low, self.scale)


@hyperparameters
class normal:
    """Normal with mean 0 and standard deviation ``stddev``."""

    stddev: float

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.stddev * jax.random.normal(key, shape, dtype)


@hyperparameters
class orthogonal:
    """``scale`` times a random orthogonal matrix (Saxe et al. 2014): every singular value is ``scale``.

    An array of more axes is a matrix whose columns are its last axis.
    """

    scale: float = 1.0

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        wide = wide_dtype(dtype)  # the QR decomposition needs float32
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = jnp.linalg.qr(jax.random.normal(key, (max(rows, columns), min(rows, columns)), wide))
        q = self.scale * q * jnp.sign(jnp.diag(r))[None]  # uniform over orthogonal matrices
        return (q if rows >= columns else q.T).reshape(shape).astype(dtype)


@hyperparameters
class identity:
    """``scale`` times the identity, the initialisation of Le et al. (2015) for ReLU networks."""

    scale: float = 1.0

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.scale * jnp.eye(shape[0], shape[1], dtype=dtype)


@hyperparameters
class chrono:
    """Biases of a forget gate for memories of up to ``steps`` steps: ``log u``, u uniform on ``[1, steps - 1]``.

    A gate of this bias alone keeps a value for about u steps (Tallec & Ollivier 2018). It is meant for
    ``JANET(forget_bias_init=)``. The ``b_h_init`` of an LSTM is that of all of its gates: there the paper's biases are
    set after ``init``, b for the forget gate and -b for the input gate.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> cell, b = rnn.LSTM(3, 8, forget_bias=0.0), rnn.initializers.chrono(100)(jax.random.key(1), (8,), "float32")
        >>> params = cell.init(jax.random.key(0))
        >>> params = params._replace(b_h=params.b_h.at[:8].set(-b).at[8:16].set(b))  # gates i, f, o, c
    """

    steps: float

    def __post_init__(self) -> None:
        checks.number("steps", self.steps)
        if self.steps <= 2:
            checks.refuse("steps", "a number above 2", self.steps, "it is the longest memory, in steps")

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return jnp.log(jax.random.uniform(key, shape, dtype, 1, self.steps - 1))


NAMED: dict[str, Initializer] = {
    "zeros": jax.nn.initializers.zeros,
    "ones": jax.nn.initializers.ones,
    "uniform": uniform(0.05),
    "normal": normal(0.01),
    "orthogonal": orthogonal(),
    "identity": identity(),
    "glorot_uniform": jax.nn.initializers.glorot_uniform(),
    "glorot_normal": jax.nn.initializers.glorot_normal(),
    "he_uniform": jax.nn.initializers.he_uniform(),
    "he_normal": jax.nn.initializers.he_normal(),
    "lecun_uniform": jax.nn.initializers.lecun_uniform(),
    "lecun_normal": jax.nn.initializers.lecun_normal(),
}


MATRICES = [name for name in NAMED if name not in ("zeros", "ones", "uniform", "normal")]


def get(init: str | Initializer) -> Initializer:
    """Return the initializer of that name; a callable is returned unchanged."""
    return NAMED[init] if isinstance(init, str) else init


def draw(argument: str, init: str | Initializer, key: Array, shape: tuple[int, ...], dtype: str) -> Array:
    """Draw one array; ``argument`` is the name of the hyperparameter, for error messages."""
    checks.dtype_available(dtype)
    if len(shape) == 1 and (init in MATRICES or isinstance(init, (orthogonal, identity))):
        checks.refuse(argument, f"an initializer of vectors {list(shape)}", repr(init), "'zeros' or uniform(0.1)")
    try:
        array = get(init)(key, shape, jnp.dtype(dtype))
    except TypeError as error:
        checks.refuse(argument, "a function f(key, shape, dtype) that returns an array", repr(init),
                      f"it raised: {error}", TypeError)  # fmt: skip
    if jnp.shape(array) != tuple(shape):
        checks.refuse(argument, f"shape {list(shape)} from its initializer", checks.describe(array))
    return array


def per_gate(
    argument: str, init: str | Initializer, key: Array, gates: int, shape: tuple[int, ...], dtype: str
) -> Array:
    """Draw ``gates`` arrays of ``shape [..., H]`` and concatenate them: ``[..., G·H]``."""
    return jnp.concatenate([draw(argument, init, k, shape, dtype) for k in jax.random.split(key, gates)], axis=-1)


def everywhere(model: M, init: str | Initializer) -> M:
    """Return the model with ``init`` in place of every initializer in it, including those of biases.

    Published recipes often draw every parameter from one distribution (Zaremba et al. 2014: uniform
    ± 0.1). ``forget_bias`` is unchanged, and is added to the drawn bias.

    Example:
        >>> import jaxrnn as rnn
        >>> model = rnn.Stack(rnn.LSTM(8, 16, forget_bias=0.0), rnn.Linear(16, 2))
        >>> model = rnn.initializers.everywhere(model, rnn.initializers.uniform(0.1))
        >>> model.layers[1]
        Linear(16, 2, w_init=uniform(0.1), b_init=uniform(0.1))
    """
    checks.initializer("init", init, NAMED)

    def visit(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(visit, value))
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            return value
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        new = {n: init if n.endswith("_init") else visit(v) for n, v in fields.items()}
        return remake(value, **new) if new != fields else value

    return visit(model)
