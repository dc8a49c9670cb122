"""Slower time scales: a layer that takes one step in every k."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters
from jaxrnn.layers.wrappers import Wrapper, named_state
from jaxrnn.precision import cast_like
from jaxrnn.scan import where
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State, exportable
from jaxrnn.unroll import one_step, over_time, sequence_shape


@exportable
class ClockworkState(NamedTuple):
    """The state of the layer, its last output ``[..., H]``, and the steps since the start of the sequence ``[...]``."""

    layer: State
    y: Array
    steps: Array


@hyperparameters
class Clockwork(Wrapper):
    r"""A layer that takes a step in the first of every k steps; in between its state and its output are held.

    .. math:: (s_t, y_t) = \begin{cases} \mathrm{step}(θ, s_{t-1}, x_t) & t \bmod k = 0 \\
        (s_{t-1}, y_{t-1}) & \text{otherwise} \end{cases}

    Time t is 0 at the start of a sequence and after a reset, and is part of the state, so that chunks agree with the
    whole. Parameters are those of the layer. Without resets only every k-th step is computed, for 1/k of the work.

    A hierarchy of time scales is a :class:`~jaxrnn.Stack` with slower layers above. A clockwork network, in which
    faster modules read slower ones and the output has them all, is a :class:`~jaxrnn.SkipStack` from slow to fast.

    Args:
        layer: a cell or layer with an ``output_size``.
        period: k.

    Raises:
        TypeError, ValueError: the layer is not a hashable cell or layer or has no output size; the period is not a
            positive int.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.SkipStack(rnn.Clockwork(rnn.GRU(3, 5), 8), rnn.Clockwork(rnn.GRU(3 + 5, 5), 2))
        >>> final, ys = rnn.unroll(model, model.init(jax.random.key(0)), jnp.ones((7, 2, 3)))
        >>> ys.shape, final[1].steps.tolist()
        ((7, 2, 10), [7, 7])

    Source: Koutník, Greff, Gomez & Schmidhuber (2014), "A clockwork RNN".
    """

    layer: Any
    period: int

    handles_states: ClassVar[bool] = True  # of the layer: they are held

    def __post_init__(self) -> None:
        checks.layer("layer", self.layer)
        checks.size("period", self.period)
        if self.output_size is None:
            checks.refuse("layer", "a cell or layer with an output_size, to hold its output", repr(self.layer),
                          "give it this attribute", TypeError)  # fmt: skip

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> ClockworkState:
        """The initial state of the layer, the output 0, and 0 steps."""
        state = self.layer.initial_state(batch_shape)
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        grid = getattr(self.layer, "grid", ())  # of an output that is an image
        y = jnp.zeros((*batch_shape, *grid, self.output_size), *dtypes[:1])
        return ClockworkState(state, y, jnp.zeros(batch_shape, jnp.int32))

    def step(
        self, params: Params, state: ClockworkState, x: PyTree, *, key: Array | None = None
    ) -> tuple[ClockworkState, Array]:
        """One step of the layer, or none."""
        before, y, steps = named_state(state, ClockworkState)
        after = one_step(self.layer, params, before, x, key)
        new, y = where(steps % self.period == 0, cast_like(after, (before, y)), (before, y))
        return ClockworkState(new, y, steps + 1), y

    def over_time(
        self, params: Params, state: ClockworkState, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[ClockworkState, Array, PyTree | None]:
        length, batch = sequence_shape(self.layer, xs)
        mask = jnp.ones((length, *batch), bool) if options.mask is None else options.mask
        time, steps = _count(state.steps, mask, options)
        active = mask & (time % self.period == 0)
        inner = options.part("layer")._replace(mask=active)
        place = jnp.broadcast_to(jnp.arange(length).reshape(-1, *[1] * len(batch)), active.shape)
        if options.resets is None:  # only active steps are computed
            place = jnp.cumsum(active, 0) - 1
            order = jnp.argsort(~active, axis=0, stable=True)[: -(-length // self.period)]
            xs = jax.tree.map(lambda x: _take(x, order), xs)
            inner = inner._replace(mask=_take(active, order), chunk=options.chunk and -(-options.chunk // self.period))
        final, ys, states = over_time(self.layer, params, state.layer, xs, inner, key)

        def hold(before: PyTree, after: PyTree) -> PyTree:
            """At each step what was after the last active one, ``[T, ...]``."""
            return jax.tree.map(lambda b, a: _hold(b, a, active, place, options.reverse), before, after)

        y = hold(state.y, ys)
        ys = y if options.mask is None else where(mask, y)
        trajectory = ClockworkState(hold(state.layer, states), y, steps) if options.return_states else None
        return (
            ClockworkState(final, *(_last(b, a, options) for b, a in ((state.y, y), (state.steps, steps)))),
            ys,
            trajectory,
        )


def _count(start: Array, mask: Array, options: ScanOptions) -> tuple[Array, Array]:
    """The steps since the start of the sequence or the last reset, before and after each step, ``[T, ...]``."""
    one = mask.astype(start.dtype)
    total = jax.lax.cumsum(one, reverse=options.reverse)
    since = jnp.broadcast_to(-start[None], mask.shape)
    if options.resets is not None:
        since = jax.lax.cummax(jnp.where(options.resets, total - one, since), reverse=options.reverse)
    return total - one - since, total - since


def _take(x: Array, order: Array) -> Array:
    return jnp.take_along_axis(x, order.reshape(order.shape + (1,) * (x.ndim - order.ndim)), 0)


def _hold(before: Array, after: Array, active: Array, place: Array, reverse: bool) -> Array:
    """Entries ``place`` of ``after`` at active steps ``[T, ...]``, held from one to the next, at first ``before``."""
    before = before[None].astype(after.dtype)
    if reverse:
        held = jax.lax.cummin(jnp.where(active, place, after.shape[0]), reverse=True)
        return _take(jnp.concatenate([after, before]), held)
    held = jax.lax.cummax(jnp.where(active, place, -1))
    return _take(jnp.concatenate([before, after]), held + 1)


def _last(before: Array, after: Array, options: ScanOptions) -> Array:
    """The last entry in the order of the scan; ``before`` if there is none."""
    if after.shape[0] == 0:
        return before
    return after[0 if options.reverse else -1]
