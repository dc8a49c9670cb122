"""Regularizers of recurrent networks: wrappers of a cell that act in training, where there is a key.

Which mask a step has is in :mod:`jaxrnn.layers.clock`. They nest: ``Zoneout(VariationalDropout(LSTM(8, 16)))``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.adaptor import Adaptor, first, replace_output, replace_state
from jaxrnn.constructor import hyperparameters
from jaxrnn.layers.clock import Clock, ClockedWrapper, bernoulli, check_cell, dropout_mask, innermost, unchanged
from jaxrnn.types import Array, Params, PyTree, Recurrence, State, has_differential, is_layer, units
from jaxrnn.unroll import cast_state

Change = Callable[[Any], Any]


def state_of(cell: Any, params: Params, x: PyTree, batch: tuple[int, ...]) -> State:
    """The shapes and dtypes of the state of the innermost cell."""
    return jax.eval_shape(lambda: cast_state((params, x), innermost(cell).initial_state(batch)))


def masked_shape(cell: Any, hook: str, params: Params, x: PyTree, batch: tuple[int, ...]) -> Any:
    """Shape and dtype of what the ``masked_step`` of a cell hands to one of its masks; ``x`` is that of one step."""
    seen: list[Array] = []

    def record(a: Array) -> Array:
        seen.append(a)
        return a

    state = state_of(cell, params, x, batch)
    jax.eval_shape(partial(innermost(cell).masked_step, **{hook: record}), params, state, innermost_input(cell, x))
    return jax.ShapeDtypeStruct(seen[0].shape, seen[0].dtype)


def check_maskable(owner: str, cell: Any) -> None:
    """A cell that lets masks into its equations."""
    check_cell(owner, cell)
    if not hasattr(innermost(cell), "masked_step"):
        checks.refuse("cell", f"a cell with a masked_step for {owner}", repr(cell),
                      "see jaxrnn.types.Maskable; SRU, MinGRU, MinLSTM and LRU have no product with w_hh, and so none; "
                      "Zoneout and the inputs= of VariationalDropout take any cell", TypeError)  # fmt: skip


# ---- zoneout -------------------------------------------------------------------------------------------------------


@hyperparameters
class Zoneout(ClockedWrapper):
    r"""A cell whose units keep their previous state at random.

    .. math:: s_t = m_t ⊙ s_{t-1} + (1 - m_t) ⊙ \tilde s_t, \qquad m_t \sim \mathrm{Bernoulli}(\mathrm{rate})

    where :math:`\tilde s_t` is the new state of the cell. Without a key, m is its expectation, the rate, as in the
    paper: so at evaluation it is not the cell alone. An output that is an array of the state is that of
    :math:`s_t`. What is no unit, such as a counter or the normaliser of an sLSTM, is that of the cell.

    Args:
        cell: any cell.
        rate: the probability that a unit keeps its state, in [0, 1); or one for each array of units of the state, in
            order: ``(0.05, 0.5)`` for h and c of an LSTM.

    Raises:
        TypeError, ValueError: it is not a cell; a rate is out of range, or their number is not that of the arrays.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Zoneout(rnn.LSTM(3, 5), (0.05, 0.5))
        >>> params = model.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(model, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))
        >>> ys.shape, final.state.c.shape, final.time.tolist()
        ((7, 2, 5), (2, 5), [7, 7])

    Source: Krueger et al. (2017), "Zoneout: regularizing RNNs by randomly preserving hidden activations".
    """

    cell: Any
    rate: float | tuple[float, ...]

    def __post_init__(self) -> None:
        check_cell("Zoneout", self.cell)
        for rate in self.rate if isinstance(self.rate, tuple) else (self.rate,):
            checks.fraction("rate", rate, "it is the share that keeps its state")
        count = sum(jax.tree.leaves(units(jax.eval_shape(innermost(self.cell).initial_state))))
        if isinstance(self.rate, tuple) and len(self.rate) != count:
            checks.refuse("rate", f"a number, or {count}, one for each array of units of the state", self.rate)

    def prepare(self, key: Array | None, clock: Clock, params: Params, x: PyTree) -> tuple[Change, PyTree]:
        state = state_of(self.cell, params, x, clock.batch)
        kept, leaves = jax.tree.leaves(units(state)), jax.tree.leaves(state)
        rates = self.rate if isinstance(self.rate, tuple) else (self.rate,) * sum(kept)
        keys = [None] * len(rates) if key is None else jax.random.split(key, len(rates))

        def mask(s: Any, rate: float, key: Array | None) -> Array:
            if key is None:
                return jnp.full((*clock.steps, *[1] * s.ndim), rate, s.dtype)
            return bernoulli(key, clock.time, clock.batch, rate, s.shape[len(clock.batch) :]).astype(s.dtype)

        each = iter(zip(rates, keys))
        masks = [mask(s, *next(each)) if is_unit else None for s, is_unit in zip(leaves, kept)]
        return (_ZoneoutCell, (x, masks)) if any(rates) else (unchanged, x)


@dataclasses.dataclass(frozen=True)
class _ZoneoutCell(Adaptor):
    """The cell of the scan; its inputs are ``(x, masks)``, a mask or None for each array of the state."""

    def step(self, params: Params, state: State, x: tuple, **key: Array) -> tuple[State, PyTree]:
        x, masks = x
        step = partial(self.adapted.step, params, **key)
        return replace_state(step, state, x, lambda new: mix(masks, state, new))

    def recurrence(self, params: Params, xs: tuple, **keys: Array) -> tuple[PyTree, Recurrence]:
        xs, masks = xs
        zs, recur = self.adapted.recurrence(params, xs, **keys)

        def step(state: State, inputs: tuple) -> tuple[State, tuple]:
            z, masks = inputs
            new, residuals = recur(state, z)
            return mix(masks, state, new), (new, residuals)

        return (zs, masks), step

    def output(self, state: State, residuals: tuple) -> PyTree:
        new, residuals = residuals
        return replace_output(self.adapted.output(new, residuals), new, state)

    def differential(
        self, params: Params, dparams: Params, xs: tuple, dxs: tuple | None, before: State, after: State, res: tuple
    ) -> tuple[PyTree, Recurrence]:
        (xs, masks), (new, residuals) = xs, res
        vs, tangent = self.adapted.differential(params, dparams, xs, first(dxs), before, new, residuals)

        def step(ds: State, inputs: tuple) -> tuple[State, PyTree]:
            v, masks = inputs
            dnew, dy = tangent(ds, v)
            mixed = mix(masks, ds, dnew)
            return mixed, replace_output(dy, dnew, mixed)

        return (vs, masks), step


def mix(masks: list[Array | None], old: State, new: State) -> State:
    """``m ⊙ s + (1 - m) ⊙ s̃`` for the arrays with a mask; others are those of ``new``."""
    remaining = iter(masks)

    def mixed(s: Array, s_new: Array) -> Array:
        if (m := next(remaining)) is None:
            return s_new
        m = m.astype(s_new.dtype)
        return m * s + (1 - m) * s_new

    return jax.tree.map(mixed, old, new)


# ---- dropout within a step -----------------------------------------------------------------------------------------


@hyperparameters
class RecurrentDropout(ClockedWrapper):
    r"""Dropout of what a step writes into the state, so that nothing remembered is lost.

    .. math:: c_t = f ⊙ c_{t-1} + i ⊙ (m_t ⊙ \tilde c_t)

    for an LSTM, :math:`h_t = (1 - z) ⊙ h_{t-1} + z ⊙ (m_t ⊙ \tilde h_t)` for a GRU, and :math:`h_t = m_t ⊙ f(…)` for a
    vanilla network, where m is 0 with probability ``rate`` and otherwise ``1 / (1 - rate)``. Without a key it is the
    cell. With one it is differentiated by autodiff.

    Args:
        cell: one that has products with ``w_hh``, built in or of your own: the ``masked_step`` of
            :class:`jaxrnn.types.Maskable`.
        rate: the probability that a unit is dropped, in [0, 1).
        per: ``"step"``, a new mask at every step, or ``"sequence"``.

    Raises:
        TypeError, ValueError: the cell has no ``masked_step``; an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.RecurrentDropout(rnn.GRU(3, 5), 0.25)
        >>> params = model.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(model, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))
        >>> ys.shape
        (7, 2, 5)

    Source: Semeniuta, Severyn & Barth (2016), "Recurrent dropout without memory loss".
    """

    cell: Any
    rate: float
    per: str = "step"

    def __post_init__(self) -> None:
        check_maskable("RecurrentDropout", self.cell)
        checks.fraction("rate", self.rate)
        checks.one_of("per", self.per, ("step", "sequence"))

    def prepare(self, key: Array | None, clock: Clock, params: Params, x: PyTree) -> tuple[Change, PyTree]:
        if key is None or self.rate == 0:
            return unchanged, x
        mask = masks_of("candidate", self, self.rate, key, clock, params, x, self.per)
        return with_mask(self.cell, partial(_MaskedCell, hook="candidate"), x, mask)


@hyperparameters
class VariationalDropout(ClockedWrapper):
    r"""Dropout with one mask for all steps of a sequence: of the inputs, and of the state where it enters a product.

    .. math:: (s_t, y_t) = \mathrm{step}(x_t ⊙ m_x, \; h_{t-1} ⊙ m_h)

    where a mask is 0 with probability ``inputs`` or ``state``, and otherwise ``1 / (1 - p)``; every gate sees the same
    one. Where h is also carried on, as in a GRU, it is carried without the mask. A reset draws new masks. Without a key
    it is the cell. The derivative rule is kept where h enters by products alone (vanilla and independent networks, the
    LSTM, multiplicative or convolutional too); others are differentiated by autodiff if ``state`` is above 0.
    Whole words are dropped by :class:`~jaxrnn.WordDropout`.

    Args:
        cell: any cell; with ``state`` one that has products with ``w_hh``, built in or of your own: the ``masked_step``
            of :class:`jaxrnn.types.Maskable`.
        inputs: the probability that a feature of the input is dropped, in [0, 1).
        state: the probability that a unit of h is dropped.

    Raises:
        TypeError, ValueError: the cell takes token ids, or has no ``masked_step``; a probability is out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.VariationalDropout(rnn.LSTM(3, 5), inputs=0.2, state=0.3)
        >>> params = model.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(model, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))
        >>> ys.shape
        (7, 2, 5)

    Source: Gal & Ghahramani (2016), "A theoretically grounded application of dropout in recurrent neural networks".
    """

    cell: Any
    _: dataclasses.KW_ONLY
    inputs: float = 0.0
    state: float = 0.0

    def __post_init__(self) -> None:
        checks.fraction("inputs", self.inputs)
        checks.fraction("state", self.state)
        (check_maskable if self.state else check_cell)("VariationalDropout", self.cell)
        if self.inputs and self.input_ndim == 0:
            checks.refuse("inputs", "0 for a cell of token ids", self.inputs, "rnn.WordDropout drops words")
        if self.inputs and not getattr(innermost(self.cell), "takes_values_only", True):
            checks.refuse(
                "inputs", f"0 for {innermost(self.cell)!r}", self.inputs, "its inputs hold flags and times too"
            )

    def prepare(self, key: Array | None, clock: Clock, params: Params, x: PyTree) -> tuple[Change, PyTree]:
        if key is None:
            return unchanged, x
        input_key, state_key = jax.random.split(key)
        if self.state:
            mask = masks_of("recurrent", self, self.state, state_key, clock, params, x, "sequence")
        if self.inputs:
            x = change_input(self.cell, x, partial(self._drop_inputs, input_key, clock))
        if not self.state:
            return unchanged, x

        def change(cell: Any) -> Adaptor:
            keeps_rule = hasattr(cell, "mask_state") and has_differential(cell)
            return (_MaskedStateCell if keeps_rule else _MaskedCell)(cell, "recurrent")

        return with_mask(self.cell, change, x, mask)

    def _drop_inputs(self, key: Array, clock: Clock, x: PyTree) -> PyTree:
        leaves, tree = jax.tree.flatten(x)
        keys = jax.random.split(key, len(leaves))
        return jax.tree.unflatten(tree, [self._drop(k, clock, leaf) for k, leaf in zip(keys, leaves, strict=True)])

    def _drop(self, key: Array, clock: Clock, x: Array) -> Array:
        """The inputs times their mask; integers are not dropped."""
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return x * dropout_mask(key, clock.start, clock.batch, self.inputs, x.shape[clock.time.ndim :], x.dtype)


def with_mask(cell: Any, masked: Change, x: PyTree, mask: Array) -> tuple[Change, PyTree]:
    """The change of the innermost cell, within those that other wrappers have added, and the inputs with the mask."""

    def change(cell: Any) -> Any:
        return dataclasses.replace(cell, adapted=change(cell.adapted)) if hasattr(cell, "adapted") else masked(cell)

    return change, change_input(cell, x, lambda x: (x, mask))


def innermost_input(cell: Any, x: PyTree) -> PyTree:
    """The inputs of the innermost cell, without the masks that other wrappers have added."""
    if not hasattr(cell, "adapted"):
        return x
    return innermost_input(cell.adapted, x if is_layer(cell) else x[0])


def change_input(cell: Any, x: PyTree, change: Change) -> PyTree:
    """The inputs with those of the innermost cell changed, and the masks that other wrappers have added."""
    if not hasattr(cell, "adapted"):
        return change(x)
    if is_layer(cell):
        return change_input(cell.adapted, x, change)
    return change_input(cell.adapted, x[0], change), x[1]


def masks_of(
    hook: str, wrapper: ClockedWrapper, rate: float, key: Array, clock: Clock, params: Params, x: PyTree, per: str
) -> Array:
    """Masks of what a cell hands to one of the functions of its ``masked_step``, for one step or for all."""
    lead = len(clock.steps)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[lead:], x.dtype), x)
    like = masked_shape(wrapper.cell, hook, params, one, clock.batch)
    times = clock.time if per == "step" else clock.start
    mask = dropout_mask(key, times, clock.batch, rate, like.shape[len(clock.batch) :], like.dtype)
    return jnp.broadcast_to(mask, (*clock.steps, *like.shape))


@dataclasses.dataclass(frozen=True)
class _MaskedCell(Adaptor):
    """The cell of the scan, with inputs ``(x, mask)``: the mask multiplies what the cell hands to ``hook``."""

    hook: str

    def step(self, params: Params, state: State, x: tuple, **key: Array) -> tuple[State, PyTree]:
        return self.masked_step(params, state, x, **key)

    def masked_step(self, params: Params, state: State, x: tuple, **masks: Any) -> tuple[State, PyTree]:
        x, mask = x
        masks[self.hook] = lambda a: a * mask.astype(a.dtype)
        return self.adapted.masked_step(params, state, x, **masks)


class _MaskedStateCell(_MaskedCell):
    """The same where h enters by products alone: the step and its differential read ``h ⊙ m`` in place of h."""

    def recurrence(self, params: Params, xs: tuple, **keys: Array) -> tuple[PyTree, Recurrence]:
        xs, mask = xs
        zs, recur = self.adapted.recurrence(params, xs, **keys)
        return (zs, mask), lambda state, inputs: recur(self.adapted.mask_state(state, inputs[1]), inputs[0])

    def differential(
        self, params: Params, dparams: Params, xs: tuple, dxs: tuple | None, before: State, after: State, res: PyTree
    ) -> tuple[PyTree, Recurrence]:
        xs, mask = xs
        before = self.adapted.mask_state(before, mask)
        vs, tangent = self.adapted.differential(params, dparams, xs, first(dxs), before, after, res)
        return (vs, mask), lambda ds, inputs: tangent(self.adapted.mask_state(ds, inputs[1]), inputs[0])
