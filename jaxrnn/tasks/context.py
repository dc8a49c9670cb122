"""Cells conditioned on an encoder's output: on a context vector at every step, or by attention on a memory.

The encoder's output is known only at run time. It is part of the parameters, constant over the steps, so that such a
cell is unrolled and decoded like any other: ``params.context`` and ``params.memory`` are None until
:func:`with_context` sets them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.bptt import unroll_cell
from jaxrnn.compat import typed_sharding
from jaxrnn.constructor import hyperparameters
from jaxrnn.layers import Clockwork, Highway, LearnedState, MixedPrecision, Residual, SkipStack, Stack, Tied
from jaxrnn.precision import broadcast, cast
from jaxrnn.scan import where
from jaxrnn.tasks import checks as task_checks
from jaxrnn.tasks.attention import AttentionMemory
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State, exportable
from jaxrnn.unroll import one_step, over_time, unroll


@exportable
class EncoderOutput(NamedTuple):
    """The encoded input of a decoder."""

    vector: Array  # [..., C] the whole input
    memory: Array | None = None  # [S, ..., E] one vector a step, for sequences
    lengths: Array | None = None  # [...] of the memory


def with_context(model: Any, params: Params, encoded: EncoderOutput) -> Params:
    """The parameters of a decoder, with the encoder's output set in each layer with a context or a memory."""
    if isinstance(model, (ContextCell, AttentionCell)):
        return model.with_context(params, encoded)
    if isinstance(model, LearnedState) and model.context_size is not None:
        params = model.with_context(params, encoded.vector)
    if isinstance(model, (Stack, SkipStack)):
        return tuple(with_context(layer, p, encoded) for layer, p in zip(model.layers, params, strict=True))
    if isinstance(model, (Residual, MixedPrecision, Clockwork)):
        return with_context(model.layer, params, encoded)
    if isinstance(model, (Tied, LearnedState, Highway)):
        return params._replace(layer=with_context(model.layer, params.layer, encoded))
    return params


@exportable
class ContextCellParams(NamedTuple):
    """Parameters of the cell, and the context ``[..., C]``, set at run time."""

    cell: Params
    context: Array | None = None

    @property
    def runtime_fields(self) -> tuple[str]:
        """The fields that ``init`` leaves None."""
        return ("context",)


@hyperparameters
class ContextCell:
    r"""A cell whose input at every step is concatenated with the same context vector.

    .. math:: s_t, h_t = \mathrm{cell}(s_{t-1}, [x_t, c]), \qquad y_t = [h_t, c]

    The state is that of the cell. ``Residual(ContextCell(...), "concat")`` adds the input to the output.

    Args:
        cell: a cell or layer with the input size I + C.
        context_size: C, the features of the vector.

    Raises:
        TypeError, ValueError: ``cell`` is not a cell, or sizes do not fit.

    Example:
        >>> import jaxrnn as rnn
        >>> cell = rnn.tasks.ContextCell(rnn.GRU(8 + 32, 16), 32)
        >>> decoder = rnn.Stack(rnn.Embedding(10, 8), cell, rnn.Linear(16 + 32, 10))

    Source: Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder".
    """

    cell: Any
    context_size: int

    def __post_init__(self) -> None:
        checks.layer("cell", self.cell)
        checks.size("context_size", self.context_size)
        task_checks.context_width("cell", self.cell, self.context_size)

    @property
    def input_size(self) -> int | None:
        return size_difference(getattr(self.cell, "input_size", None), self.context_size)

    @property
    def output_size(self) -> int | None:
        return size_difference(getattr(self.cell, "output_size", None), -self.context_size)

    def init(self, key: Array) -> ContextCellParams:
        """Draw the parameters of the cell."""
        return ContextCellParams(self.cell.init(key))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """The initial state of the cell."""
        return self.cell.initial_state(batch_shape)

    def with_context(self, params: ContextCellParams, encoded: EncoderOutput) -> ContextCellParams:
        """Set the context vector."""
        checks.features("context", encoded.vector, self.context_size, "ContextCell")
        return params._replace(context=encoded.vector)

    def step(
        self, params: ContextCellParams, state: State, x: Array, *, key: Array | None = None
    ) -> tuple[State, Array]:
        """One step: ``x [..., I]`` to the next state and ``[h, c]``."""
        c = runtime_value("params.context", params.context)
        state, h = one_step(self.cell, params.cell, state, join(x, c), key)
        return state, join(h, c)

    def over_time(
        self, params: ContextCellParams, state: State, xs: Array, options: ScanOptions, key: Array | None
    ) -> tuple[State, Array, PyTree | None]:
        c = runtime_value("params.context", params.context)
        final, hs, states = over_time(self.cell, params.cell, state, join(xs, c), options, key)
        ys = join(hs, c)
        return final, ys if options.mask is None else where(options.mask, ys), states


@exportable
class AttentionCellParams(NamedTuple):
    """Parameters of the cell and of the attention, and the memory, set at run time."""

    cell: Params
    attention: Params
    memory: AttentionMemory | None = None

    @property
    def runtime_fields(self) -> tuple[str]:
        """The fields that ``init`` leaves None."""
        return ("memory",)


@exportable
class AttentionCellState(NamedTuple):
    """The state of the cell, and the last context ``[..., E]``."""

    cell: State
    context: Array


@hyperparameters
class AttentionCell:
    r"""A cell that attends to a memory after every step; the context is an input of the next step.

    .. math::
        s_t, h_t &= \mathrm{cell}(s_{t-1}, [x_t, c_{t-1}]) \\
        c_t &= \sum_s α_{ts} e_s, \qquad α_t = \mathrm{softmax}_s\, \mathrm{score}(h_t, e_s) \\
        y_t &= [h_t, c_t]

    Bahdanau et al. compute :math:`s_t` from the context :math:`c_{t-1}`, Luong et al. the output from :math:`c_t`.
    ``Residual(AttentionCell(...), "concat")`` adds the input to the output.

    It is differentiated by autodiff: with the batch split over devices by its sharding, the gradients of the parameters
    of cell and attention are summed over the devices at every step.

    Args:
        cell: a cell or layer with the input size I + E, E the features of the memory.
        attention: for example :class:`AdditiveAttention`.

    Raises:
        TypeError, ValueError: a part is of the wrong kind, or sizes do not fit.

    Example:
        >>> import jaxrnn as rnn
        >>> attention = rnn.tasks.AdditiveAttention(memory_size=32, query_size=16, size=16)
        >>> cell = rnn.tasks.AttentionCell(rnn.GRU(8 + 32, 16), attention)
        >>> decoder = rnn.Stack(rnn.Embedding(10, 8), cell, rnn.Linear(16 + 32, 10))

    Source: Bahdanau, Cho & Bengio (2015), "Neural machine translation by jointly learning to align and translate";
    Luong, Pham & Manning (2015), "Effective approaches to attention-based neural machine translation".
    """

    cell: Any
    attention: Any

    def __post_init__(self) -> None:
        checks.layer("cell", self.cell)
        task_checks.attention("attention", self.attention)
        task_checks.context_width("cell", self.cell, self.attention.memory_size)
        size = getattr(self.cell, "output_size", None)
        if size not in (None, self.attention.query_size):
            checks.refuse("attention", f"query_size {size}, the output size of the cell", self.attention.query_size)

    @property
    def input_size(self) -> int | None:
        return size_difference(getattr(self.cell, "input_size", None), self.attention.memory_size)

    @property
    def output_size(self) -> int:
        return self.attention.query_size + self.attention.memory_size

    def init(self, key: Array) -> AttentionCellParams:
        """Draw the parameters of the cell and of the attention."""
        cell_key, attention_key = jax.random.split(key)
        return AttentionCellParams(self.cell.init(cell_key), self.attention.init(attention_key))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> AttentionCellState:
        """The initial state of the cell, and the context 0."""
        state = self.cell.initial_state(batch_shape)
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return AttentionCellState(state, jnp.zeros((*batch_shape, self.attention.memory_size), *dtypes[:1]))

    def with_context(self, params: AttentionCellParams, encoded: EncoderOutput) -> AttentionCellParams:
        """Prepare the memory for the attention and set it."""
        checks.required("memory", encoded.memory, "a vector alone has no steps to attend to; ContextCell takes it")
        memory = self.attention.prepare(params.attention, encoded.memory, encoded.lengths)
        return params._replace(memory=memory)

    def step(
        self, params: AttentionCellParams, state: AttentionCellState, x: Array, *, key: Array | None = None
    ) -> tuple[AttentionCellState, Array]:
        """One step: ``x [..., I]`` to the next state and ``[h_t, c_t]``."""
        memory = runtime_value("params.memory", params.memory)
        cell, h = one_step(self.cell, params.cell, state.cell, join(x, state.context), key)
        context, _ = self.attention.attend(params.attention, h, memory)
        return AttentionCellState(cell, context), join(h, context)

    def over_time(
        self, params: AttentionCellParams, state: AttentionCellState, xs: Array, options: ScanOptions, key: Array | None
    ) -> tuple[AttentionCellState, Array, PyTree | None]:
        return unroll_cell(self, params, state, xs, options, key)

    def weights(self, params: AttentionCellParams, ys: Array) -> Array:
        """The attention weights α ``[T, S, ...]`` behind the outputs ``ys [T, ..., H + E]``."""
        hs = ys[..., : self.attention.query_size]
        return jnp.moveaxis(self.attention.attend(params.attention, hs, params.memory)[1], 0, 1)


def has_attention(model: Any) -> bool:
    """Whether an :class:`AttentionCell` is in a decoder."""
    inside = getattr(model, "layers", None) or (getattr(model, "layer", None),)
    return isinstance(model, AttentionCell) or any(has_attention(layer) for layer in inside if layer is not None)


def attention_weights(model: Any, params: Params, xs: Array, state: State) -> Array:
    """The weights ``[T, S, ...]`` of the first :class:`AttentionCell` of a decoder with the inputs ``xs``."""
    if isinstance(model, Stack):
        for layer, p, s in zip(model.layers, params, state, strict=True):
            if has_attention(layer):
                return attention_weights(layer, p, xs, s)
            _, xs = unroll(layer, p, xs, s)
    if isinstance(model, Residual):
        return attention_weights(model.layer, params, xs, state)
    if isinstance(model, MixedPrecision):
        return cast(attention_weights(model.layer, *model.narrow(params, xs, state)), model.output_dtype)
    if isinstance(model, Tied):
        return attention_weights(model.layer, params.layer, model.embedding.apply(params.embedding, xs), state)
    return model.weights(params, unroll(model, params, xs, state)[1])


def runtime_value(argument: str, value: Any) -> Any:
    """A field of the parameters that :func:`with_context` has set."""
    checks.required(argument, value, "start_decoder of EncoderDecoder and Captioner returns parameters with it")
    return value


def join(x: Array, context: Array) -> Array:
    """``[x, c]``, the context broadcast over the further leading axes of x."""
    return jnp.concatenate([x, broadcast(context, (*x.shape[:-1], context.shape[-1]), typed_sharding(x))], -1)


def size_difference(a: int | None, b: int) -> int | None:
    return None if a is None else a - b
