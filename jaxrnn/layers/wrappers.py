"""Layers that wrap a layer: residual connections, the reversed direction, and a readout tied to the embedding."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple, NoReturn

import jax

from jaxrnn import checks, initializers
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.layers.bidirectional import MERGES, backward_options, merged_size, refuse_step
from jaxrnn.layers.pointwise import Embedding, EmbeddingParams
from jaxrnn.layers.stack import consecutive_sizes
from jaxrnn.precision import add_bias
from jaxrnn.scan import where
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State, exportable, input_ndim
from jaxrnn.unroll import one_step, over_time


class Wrapper:
    """A layer around one layer, whose parameters, state, inputs and sizes it has unless it overrides them.

    A subclass is a dataclass with a field ``layer``, and has ``step`` and ``over_time``.
    """

    layer: Any

    @property
    def input_ndim(self) -> int:
        return input_ndim(self.layer)

    @property
    def input_size(self) -> int | None:
        return getattr(self.layer, "input_size", None)

    @property
    def output_size(self) -> int | None:
        return getattr(self.layer, "output_size", None)

    @property
    def vocabulary_size(self) -> int | None:
        return getattr(self.layer, "vocabulary_size", None)

    @property
    def preserves_size(self) -> bool:
        return getattr(self.layer, "preserves_size", False)

    def init(self, key: Array) -> Params:
        """Draw the parameters of the layer."""
        return self.layer.init(key)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """The initial state of the layer."""
        return self.layer.initial_state(batch_shape)

    def check_input(self, argument: str, x: Any) -> None:
        """Raise an error for inputs that the layer cannot take."""
        checks.input_of(self.layer, argument, x)


def named_state(state: Any, kind: type) -> Any:
    """The state of a layer that adds something to that of its part; a plain tuple of as many is accepted."""
    if type(state) is tuple and len(state) == len(kind._fields):  # type: ignore[attr-defined]
        return kind(*state)
    checks.instance("state", state, kind, "model.initial_state(batch) makes one")
    return state


@hyperparameters
class Residual(Wrapper):
    """A layer with a residual connection.

    .. math:: y_t = x_t + F(x)_t

    or, with ``merge="concat"``, the input concatenated with the output: ``y_t = [x_t, F(x)_t]``. Parameters and state
    are those of the layer.

    Args:
        layer: a cell or layer.
        merge: ``"sum"`` or ``"concat"``.

    Raises:
        TypeError: the layer is not a hashable cell or layer.
        ValueError: input and output sizes differ and cannot be added.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.GRU(3, 8), rnn.Residual(rnn.GRU(8, 8)), rnn.Residual(rnn.GRU(8, 8)))
        >>> final, ys = rnn.unroll(model, model.init(jax.random.key(0)), jnp.ones((7, 2, 3)))
        >>> ys.shape
        (7, 2, 8)

    Source: He et al. (2016), "Deep residual learning"; in recurrent networks Wu et al. (2016), arXiv:1609.08144.
    """

    layer: Any
    merge: str = "sum"

    def __post_init__(self) -> None:
        checks.layer("layer", self.layer)
        checks.one_of("merge", self.merge, ("sum", "concat"))
        input_size, output_size = self.input_size, super().output_size
        if self.merge == "sum" and None not in (input_size, output_size) and input_size != output_size:
            checks.refuse(
                "layer",
                f"output size {input_size}, its input size, to be added",
                output_size,
                'merge="concat" takes any',
            )

    @property
    def output_size(self) -> int | None:
        return merged_size(self.merge, self.input_size, super().output_size)

    @property
    def preserves_size(self) -> bool:
        return self.merge == "sum" and super().preserves_size

    def step(self, params: Params, state: State, x: Array, *, key: Array | None = None) -> tuple[State, Array]:
        """One step of the layer, merged with its input."""
        state, y = one_step(self.layer, params, state, x, key)
        return state, self._merge(x, y)

    def over_time(
        self, params: Params, state: State, xs: Array, options: ScanOptions, key: Array | None
    ) -> tuple[State, Array, PyTree | None]:
        final, ys, states = over_time(self.layer, params, state, xs, options, key)
        return final, self._merge(xs, ys), states

    def _merge(self, x: Array, y: Array) -> Array:
        checks.array("layer", y, "Residual, out of its layer")
        if self.merge == "sum" and x.shape != y.shape:
            checks.refuse("layer", f"outputs like its inputs, {checks.describe(x)}", checks.describe(y))
        return MERGES[self.merge](x, y)


@hyperparameters
class Reverse(Wrapper):
    r"""A layer from the last step to the first; its outputs stay in the order of the inputs.

    .. math:: (s_t, y_t) = \mathrm{step}(θ, s_{t+1}, x_t), \qquad t = T … 1

    It is the backward direction of :class:`~jaxrnn.Bidirectional` alone: with ``lengths`` each sequence starts at its
    own end. Parameters and state are those of the layer. A whole model in reverse is ``unroll(..., reverse=True)``.

    Args:
        layer: a cell or layer.

    Raises:
        TypeError: the layer is not a hashable cell or layer; ``step`` is called, as it needs the future inputs.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.GRU(3, 5), rnn.Reverse(rnn.GRU(5, 5)))  # alternating directions
        >>> final, ys = rnn.unroll(model, model.init(jax.random.key(0)), jnp.ones((7, 2, 3)))
        >>> ys.shape
        (7, 2, 5)
    """

    layer: Any

    sees_future: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.layer("layer", self.layer)

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> NoReturn:
        """Raises TypeError: it needs the future inputs."""
        refuse_step("Reverse")

    def over_time(
        self, params: Params, state: State, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[State, PyTree, PyTree | None]:
        return over_time(self.layer, params, state, xs, backward_options(options), key)


@exportable
class TiedParams(NamedTuple):
    """The embedding's ``w [V, size]``, the layer's parameters, and the readout's ``b [V]`` or None."""

    embedding: EmbeddingParams
    layer: Params
    b: Array | None


@hyperparameters
class Tied:
    r"""A layer between an embedding and a readout with tied weights.

    .. math:: o_t = F(w_{x})_t \, w^\top + b

    The inputs are token ids, the outputs logits over the vocabulary. The state is that of the layer.

    Args:
        embedding: the embedding whose ``w`` is also the weight of the readout; it needs small values there, such as
            ``w_init=uniform(0.1)``.
        layer: a cell or layer whose inputs and outputs have the size of the embedding.
        use_bias: whether the readout has a bias.
        b_init: its initializer, by name or callable.

    Raises:
        TypeError, ValueError: an argument is of the wrong type, or sizes differ.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Tied(rnn.Embedding(65, 8), rnn.Stack(rnn.LSTM(8, 16), rnn.LSTM(16, 8)))
        >>> final, logits = rnn.unroll(model, model.init(jax.random.key(0)), jnp.zeros((7, 2), int))
        >>> logits.shape
        (7, 2, 65)

    Source: Press & Wolf (2017), "Using the output embedding to improve language models".
    """

    embedding: Embedding
    layer: Any
    _: dataclasses.KW_ONLY
    use_bias: bool = True
    b_init: str | Initializer = "zeros"

    input_ndim: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not isinstance(self.embedding, Embedding):
            checks.refuse("embedding", "an Embedding", checks.describe(self.embedding), error=TypeError)
        checks.layer("layer", self.layer)
        consecutive_sizes((self.embedding, self.layer))
        output_size = getattr(self.layer, "output_size", None)
        if output_size not in (None, self.embedding.output_size):
            checks.refuse("layer", f"output size {self.embedding.output_size}, that of the embedding", output_size,
                          "the readout is the embedding's own matrix")  # fmt: skip
        checks.flag("use_bias", self.use_bias)
        checks.initializer("b_init", self.b_init, initializers.NAMED)

    @property
    def vocabulary_size(self) -> int:
        return self.embedding.vocabulary_size

    @property
    def output_size(self) -> int:
        return self.embedding.vocabulary_size

    def init(self, key: Array) -> TiedParams:
        """Draw the embedding, the layer and ``b [V]``."""
        keys = jax.random.split(key, 3)
        b = None
        if self.use_bias:
            b = initializers.draw("b_init", self.b_init, keys[2], (self.output_size,), self.embedding.dtype)
        return TiedParams(self.embedding.init(keys[0]), self.layer.init(keys[1]), b)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """The initial state of the layer."""
        return self.layer.initial_state(batch_shape)

    def check_input(self, argument: str, x: Any) -> None:
        """Raise an error for anything but token ids."""
        self.embedding.check_input(argument, x)

    def step(self, params: TiedParams, state: State, x: Array, *, key: Array | None = None) -> tuple[State, Array]:
        """One step: ids ``[...]`` to logits ``[..., V]``."""
        self.check_input("x", x)
        state, y = one_step(self.layer, params.layer, state, self.embedding.apply(params.embedding, x), key)
        return state, self._readout(params, y)

    def over_time(
        self, params: TiedParams, state: State, xs: Array, options: ScanOptions, key: Array | None
    ) -> tuple[State, Array, PyTree | None]:
        vectors = self.embedding.apply(params.embedding, xs)
        final, ys, states = over_time(self.layer, params.layer, state, vectors, options, key)
        logits = self._readout(params, ys)
        return final, logits if options.mask is None else where(options.mask, logits), states

    def _readout(self, params: TiedParams, h: Array) -> Array:
        return add_bias(self.embedding.attend(params.embedding, h), params.b)
