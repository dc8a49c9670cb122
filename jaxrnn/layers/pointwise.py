"""Layers without state: the same function at every step. Their state is ``()``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks, initializers
from jaxrnn.activations import FUNCTIONS
from jaxrnn.compat import typed_sharding
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.precision import add_bias, matmul, widen
from jaxrnn.scan import where
from jaxrnn.types import Array, Params, PyTree, ScanOptions, exportable


class Pointwise:
    """Base of layers without state: ``apply(params, x, key)`` for all steps at once, and 0 in the padding."""

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> tuple[()]:
        """No state: ``()``."""
        return ()

    def apply(self, params: Any, x: Array, key: Array | None = None) -> Array:
        raise NotImplementedError

    def check_input(self, argument: str, x: Any) -> None:
        """Raise an error for inputs that the layer cannot take."""

    def step(self, params: Any, state: tuple[()], x: Array, *, key: Array | None = None) -> tuple[tuple[()], Array]:
        """One step: the empty state and the output."""
        self.check_input("x", x)
        return (), self.apply(params, x, key)

    def over_time(
        self, params: Params, state: tuple[()], xs: Array, options: ScanOptions, key: Array | None
    ) -> tuple[tuple[()], Array, PyTree | None]:
        self.check_input("xs", xs)
        ys = self.apply(params, xs, key)
        return (), ys if options.mask is None else where(options.mask, ys), () if options.return_states else None


@exportable
class LinearParams(NamedTuple):
    """``w [in, out]``, ``b [out]`` or None."""

    w: Array
    b: Array | None


@hyperparameters
class Linear(Pointwise):
    """The readout: an affine map of each output.

    .. math:: o_t = h_t w + b

    Args:
        input_size: number of input features.
        output_size: number of output features.
        use_bias: whether there is a ``b``.
        w_init, b_init: initializers, by name or callable.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> layer = rnn.Linear(5, 2)
        >>> _, ys = rnn.unroll(layer, layer.init(jax.random.key(0)), jnp.ones((7, 3, 5)))
        >>> ys.shape
        (7, 3, 2)
    """

    input_size: int
    output_size: int
    _: dataclasses.KW_ONLY
    use_bias: bool = True
    w_init: str | Initializer = "glorot_uniform"
    b_init: str | Initializer = "zeros"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        checks.size("input_size", self.input_size)
        checks.size("output_size", self.output_size)
        checks.flag("use_bias", self.use_bias)
        checks.initializer("w_init", self.w_init, initializers.NAMED)
        checks.initializer("b_init", self.b_init, initializers.NAMED)
        object.__setattr__(self, "dtype", checks.float_dtype("dtype", self.dtype))

    def init(self, key: Array) -> LinearParams:
        """Draw ``w [in, out]`` and ``b [out]``."""
        w_key, b_key = jax.random.split(key)
        w = initializers.draw("w_init", self.w_init, w_key, (self.input_size, self.output_size), self.dtype)
        b = initializers.draw("b_init", self.b_init, b_key, (self.output_size,), self.dtype) if self.use_bias else None
        return LinearParams(w, b)

    def check_input(self, argument: str, x: Any) -> None:
        """Raise an error for inputs whose last axis is not ``input_size``."""
        checks.features(argument, x, self.input_size, "Linear")

    def apply(self, params: LinearParams, x: Array, key: Array | None = None) -> Array:
        """``x w + b``."""
        return add_bias(matmul(x, params.w), params.b)


@exportable
class EmbeddingParams(NamedTuple):
    """``w [V, size]``."""

    w: Array


@hyperparameters
class Embedding(Pointwise):
    """A vector for each token: ``ids [...]`` to rows ``ids`` of ``w``, ``[..., size]``.

    Ids outside of the vocabulary raise an error where they are concrete; under ``jit`` their vector is NaN. To share
    ``w`` with the readout see :class:`~jaxrnn.Tied`.

    Args:
        vocabulary_size: V, the number of tokens.
        output_size: features of a token's vector.
        w_init: initializer, by name or callable; by default normal with standard deviation 1.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> layer = rnn.Embedding(65, 8)
        >>> _, ys = rnn.unroll(layer, layer.init(jax.random.key(0)), jnp.zeros((7, 3), int))  # [T, B]
        >>> ys.shape
        (7, 3, 8)
    """

    vocabulary_size: int
    output_size: int
    _: dataclasses.KW_ONLY
    w_init: str | Initializer = initializers.normal(1.0)
    dtype: str = "float32"

    input_ndim: ClassVar[int] = 0

    def __post_init__(self) -> None:
        checks.size("vocabulary_size", self.vocabulary_size)
        checks.size("output_size", self.output_size)
        checks.initializer("w_init", self.w_init, initializers.NAMED)
        object.__setattr__(self, "dtype", checks.float_dtype("dtype", self.dtype))

    def init(self, key: Array) -> EmbeddingParams:
        """Draw ``w [V, size]``."""
        return EmbeddingParams(
            initializers.draw("w_init", self.w_init, key, (self.vocabulary_size, self.output_size), self.dtype)
        )

    def check_input(self, argument: str, x: Any) -> None:
        """Raise an error for anything but token ids of this vocabulary."""
        checks.token_ids(argument, x, self.vocabulary_size)

    def apply(self, params: EmbeddingParams, x: Array, key: Array | None = None) -> Array:
        """Rows ``x`` of ``w``."""
        w = widen(jnp.asarray(params.w))  # the gradient of a row is a sum over its tokens
        y = w.at[x].get(
            mode="fill", fill_value=jnp.nan, wrap_negative_indices=False, out_sharding=typed_sharding(x, None)
        )
        return y.astype(params.w.dtype)

    def attend(self, params: EmbeddingParams, h: Array) -> Array:
        """The tied readout ``h wᵀ``: ``[..., size]`` to logits ``[..., V]``."""
        return matmul(h, params.w.T)


@hyperparameters
class Activation(Pointwise):
    """A function of each output, between a readout and what follows it.

    .. math:: y_t = f(x_t)

    Args:
        function: ``"tanh"``, ``"relu"``, ``"sigmoid"``, or over the features ``"softmax"`` or ``"log_softmax"``; or any
            callable that keeps the shape.

    Raises:
        TypeError, ValueError: it is neither one of these names nor a hashable callable.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.GRU(3, 8), rnn.Linear(8, 8), rnn.Activation("relu"), rnn.Linear(8, 2))
        >>> final, ys = rnn.unroll(model, model.init(jax.random.key(0)), jnp.ones((7, 2, 3)))
        >>> ys.shape
        (7, 2, 2)
    """

    function: str | Callable[[Array], Array]

    preserves_size: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.function_or_name("function", self.function, FUNCTIONS)
        if callable(self.function):
            checks.hashable_function("function", self.function)

    def init(self, key: Array) -> tuple[()]:
        """No parameters: ``()``."""
        return ()

    def check_input(self, argument: str, x: Any) -> None:
        """Raise an error for anything but an array."""
        checks.array(argument, x, "Activation")

    def apply(self, params: tuple[()], x: Array, key: Array | None = None) -> Array:
        """``f(x)``."""
        return (self.function if callable(self.function) else FUNCTIONS[self.function])(x)


@hyperparameters
class Flatten(Pointwise):
    """All axes of an output in one, between a :class:`~jaxrnn.ConvLSTM` and layers of vectors.

    Args:
        input_shape: of one input, such as the ``output_shape`` of the layer below.

    Raises:
        TypeError, ValueError: it is not a tuple of positive ints.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> images = rnn.ConvLSTM((8, 8, 1), 4, kernel_shape=3, strides=2)
        >>> model = rnn.Stack(images, rnn.Flatten(images.output_shape), rnn.GRU(64, 8))
        >>> final, ys = rnn.unroll(model, model.init(jax.random.key(0)), jnp.ones((7, 2, 8, 8, 1)))
        >>> ys.shape
        (7, 2, 8)
    """

    input_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", checks.sizes("input_shape", self.input_shape))

    @property
    def input_ndim(self) -> int:
        return len(self.input_shape)

    @property
    def input_size(self) -> int:
        return self.input_shape[-1]

    @property
    def output_size(self) -> int:
        return math.prod(self.input_shape)

    def init(self, key: Array) -> tuple[()]:
        """No parameters: ``()``."""
        return ()

    def check_input(self, argument: str, x: Any) -> None:
        """Raise an error for inputs whose last axes are not ``input_shape``."""
        checks.last_axes(argument, x, self.input_shape, "Flatten")

    def apply(self, params: tuple[()], x: Array, key: Array | None = None) -> Array:
        """``[..., *input_shape]`` to ``[..., output_size]``."""
        return x.reshape(*x.shape[: x.ndim - self.input_ndim], self.output_size)


@hyperparameters
class Dropout(Pointwise):
    """Set each feature to 0 with probability ``rate`` and scale the rest by ``1 / (1 - rate)``.

    It is active only with a key: ``unroll(..., key=key)`` for training, no key for evaluation. Between layers, not on
    the recurrent connections, it is the dropout of Zaremba et al. (2014).

    Args:
        rate: the probability that a feature is dropped, in [0, 1).

    Raises:
        TypeError, ValueError: the rate is not a number in [0, 1).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.GRU(3, 4), rnn.Dropout(0.5), rnn.GRU(4, 4))
        >>> params = model.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(model, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))

    Source: Srivastava et al. (2014), "Dropout", JMLR 15.
    """

    rate: float

    preserves_size: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.fraction("rate", self.rate)

    def init(self, key: Array) -> tuple[()]:
        """No parameters: ``()``."""
        return ()

    def check_input(self, argument: str, x: Any) -> None:
        """Raise an error for anything but an array."""
        checks.array(argument, x, "Dropout")

    def apply(self, params: tuple[()], x: Array, key: Array | None = None) -> Array:
        """``x ⊙ m / (1 - rate)`` with a random mask m; ``x`` without a key."""
        if key is None or self.rate == 0:
            return x
        mask = jax.random.bernoulli(key, 1 - self.rate, x.shape)
        return jnp.where(mask, x / (1 - self.rate), 0)
