"""A trainable initial state."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks, initializers
from jaxrnn.compat import typed_sharding
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.layers.wrappers import Wrapper
from jaxrnn.precision import broadcast, cast_like
from jaxrnn.scan import where
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State, exportable, is_layer, units
from jaxrnn.unroll import one_step, over_time


@exportable
class LearnedStateParams(NamedTuple):
    """Parameters of the layer, its initial state, and how that depends on a context ``[..., C]``, set at run time.

    ``state`` is the state of one sequence, without batch axes, and ``w`` has a leading axis C; both have None in place
    of what is no unit.
    """

    layer: Params
    state: State
    w: State | None = None
    context: Array | None = None

    @property
    def runtime_fields(self) -> tuple[str]:
        """The fields that ``init`` leaves None."""
        return ("context",)


@exportable
class FreshState(NamedTuple):
    """The state of the layer, and ``fresh [...]`` bools: True before the first step, where the learned one is taken."""

    state: State
    fresh: Array


@hyperparameters
class LearnedState(Wrapper):
    r"""A layer whose initial state is a parameter.

    .. math:: s_0 = b \qquad \text{or, with a context } c \text{ of the sequence,} \qquad s_0 = b + c\,w

    It is the state of a new sequence everywhere: in ``unroll``, after ``resets``, in decoding and in training on
    streams. As ``initial_state`` takes no parameters, its states are marked as fresh, and the next step or unroll
    replaces fresh states by the learned one. A state that is passed on is used as it is. What is no unit, such as a
    count of steps or the normaliser of an sLSTM, starts as it does in the layer.

    A context is set by ``params = layer.with_context(params, context)``; in the decoder of
    :class:`~jaxrnn.tasks.EncoderDecoder` and :class:`~jaxrnn.tasks.Captioner` it is the encoded vector, in place of
    their bridge.

    Args:
        layer: a cell or layer, possibly deep or bidirectional.
        context_size: C, the features of the context; None for no context.
        state_init: initializer of b, by name or callable; None takes the initial state of the layer.
        w_init: initializer of w.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range; the context is not set.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.LearnedState(rnn.LSTM(3, 5)), rnn.Linear(5, 2))
        >>> params, xs = model.init(jax.random.key(0)), jnp.ones((7, 4, 3))
        >>> gradient = jax.grad(lambda params: rnn.unroll(model, params, xs)[1].sum())(params)
        >>> gradient[0].state.c.shape, bool(jnp.abs(gradient[0].state.c).min() > 0)
        ((5,), True)

    Source: Hinton (2013), "Recurrent neural networks", Coursera lecture 7b; as a function of a context Cho et al.
    (2014), "Learning phrase representations using RNN encoder-decoder".
    """

    layer: Any
    _: dataclasses.KW_ONLY
    context_size: int | None = None
    state_init: str | Initializer | None = None
    w_init: str | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        checks.layer("layer", self.layer)
        if self.context_size is not None:
            checks.size("context_size", self.context_size)
        if self.state_init is not None:
            checks.initializer("state_init", self.state_init, initializers.NAMED)
        checks.initializer("w_init", self.w_init, initializers.NAMED)

    def init(self, key: Array) -> LearnedStateParams:
        """Draw the parameters of the layer, the state b and, with a context, w."""
        layer_key, state_key, w_key = jax.random.split(key, 3)
        initial = self.layer.initial_state()
        state = jax.tree.map(lambda s, is_unit: s if is_unit else None, initial, units(initial))
        leaves, structure = jax.tree.flatten(state)

        def draw(argument: str, init: Any, key: Array, *axes: int) -> State:
            keys = jax.random.split(key, max(len(leaves), 1))
            shapes = [(*axes, *leaf.shape) for leaf in leaves]
            drawn = [initializers.draw(argument, init, *args) for args in zip(keys, shapes, (s.dtype for s in leaves))]
            return jax.tree.unflatten(structure, drawn)

        if self.state_init is not None:
            state = draw("state_init", self.state_init, state_key)
        w = None if self.context_size is None else draw("w_init", self.w_init, w_key, self.context_size)
        return LearnedStateParams(self.layer.init(layer_key), state, w)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> FreshState:
        """The initial state of the layer, marked as fresh."""
        return FreshState(self.layer.initial_state(batch_shape), jnp.ones(batch_shape, bool))

    def with_context(self, params: LearnedStateParams, context: Array) -> LearnedStateParams:
        """Set the context ``[..., C]``."""
        if self.context_size is None:
            checks.refuse("context_size", "the features of the context", "None", "LearnedState(..., context_size=C)")
        checks.features("context", context, self.context_size, "LearnedState")
        return params._replace(context=context)

    def step(
        self, params: LearnedStateParams, state: FreshState, x: PyTree, *, key: Array | None = None
    ) -> tuple[FreshState, PyTree]:
        """One step of the layer, from the learned state where ``state`` is fresh."""
        checks.instance("state", state, FreshState, "model.initial_state(batch) makes one")
        after, y = one_step(self.layer, params.layer, self._before(params, state), x, key)
        return FreshState(after, jnp.zeros_like(state.fresh)), y

    @property
    def is_cell(self) -> bool:
        """Whether it is a cell with another initial state, whose gates and states are looked into like a cell's."""
        return not is_layer(self.layer)

    @property
    def handles_states(self) -> bool:
        """Whether it makes states of the cells in it."""
        return not self.is_cell

    def gates(self, params: LearnedStateParams, state: FreshState, x: PyTree) -> dict[str, Array]:
        """The gates of the cell, by name; none of a layer or a cell without gates."""
        gates = getattr(self.layer, "gates", None)
        return {} if gates is None else gates(params.layer, self._before(params, state), x)

    def over_time(
        self, params: LearnedStateParams, state: FreshState, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[FreshState, PyTree, PyTree | None]:
        before, options = self._before(params, state), options._replace(initial=self._start(params, state))
        final, ys, states = over_time(self.layer, params.layer, before, xs, options, key)
        mask = options.mask
        if mask is None:
            mask = jnp.ones((jax.tree.leaves(xs)[0].shape[0], *state.fresh.shape), bool)

        def marked(after: State, started: Array) -> FreshState:
            """A sequence stays fresh until its first step that is not masked."""
            fresh = state.fresh & ~started
            return FreshState(where(fresh, cast_like(state.state, after), after), fresh)

        if options.return_states:
            started = jax.lax.cummax(mask.astype(jnp.int32), reverse=options.reverse) > 0  # [T, ...]
            states = jax.vmap(marked)(states, started)
        return marked(final, mask.any(0)), ys, states

    def _before(self, params: LearnedStateParams, state: FreshState) -> State:
        """The state before a step: the learned one where ``state`` is fresh."""
        return where(state.fresh, self._start(params, state), state.state)

    def _start(self, params: LearnedStateParams, state: FreshState) -> State:
        """The learned state, in the batch shape and the dtypes of ``state``."""
        learned = params.state
        if self.context_size is not None:
            checks.required("params.context", params.context, "params = layer.with_context(params, context) sets it")
            batch, rows = state.fresh.shape, params.context.shape[:-1]  # type: ignore[union-attr]
            if batch[len(batch) - len(rows) :] != rows:  # more axes first, such as beams, share a context
                checks.refuse("context", f"shape {[*batch, self.context_size]}, a vector for each sequence",
                              checks.describe(params.context))  # fmt: skip
            learned = jax.tree.map(lambda w, b: _affine(params.context, w, b), params.w, learned)

        def take(initial: Array, learned: Array | None, like: Array) -> Array:
            learned = initial if learned is None else learned
            return broadcast(learned, like.shape, typed_sharding(like)).astype(like.dtype)

        return jax.tree.map(take, self.layer.initial_state(state.fresh.shape), learned, state.state)


def _affine(context: Any, w: Array, b: Array) -> Array:
    """``c w + b``, ``[..., *features]``."""
    s = jnp.tensordot(context, w, 1)
    return s + broadcast(b, s.shape)
