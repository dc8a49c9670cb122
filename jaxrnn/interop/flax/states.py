"""Carries of Flax and states of jaxrnn."""

from __future__ import annotations

from typing import Any

import jax

from jaxrnn import checks
from jaxrnn.cells import LSTM, ConvLSTM, LSTMState
from jaxrnn.interop.checks import counterpart
from jaxrnn.interop.flax.family import LAYOUTS
from jaxrnn.interop.structure import batch_shape, cells, from_parts_of_cells, parts_of_cells
from jaxrnn.types import State


def from_state(model: Any, state: Any) -> State:
    """Convert carries of nnx or linen to a state of the model: ``(c, h)`` of an LSTM to ``LSTMState(h, c)``.

    Args:
        model: a model that has a counterpart in Flax.
        state: the carry of an ``RNN``, the pair of a ``Bidirectional``, or for a Stack a tuple with one entry for each
            layer, ``()`` for those without one; arrays ``[..., H]``.

    Returns:
        A state for :func:`~jaxrnn.unroll`.

    Raises:
        TypeError, ValueError: the model has no counterpart, or these are not carries of it.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.LSTM(3, 5), rnn.Linear(5, 2))
        >>> c, h = jnp.zeros((7, 5)), jnp.ones((7, 5))
        >>> state = rnn.interop.nnx.from_state(model, ((c, h), ()))
        >>> state[0].h is h
        True
    """
    batch = batch_shape(model, state)
    expected = jax.eval_shape(lambda: to_state(model, model.initial_state(batch)))
    state = checks.same_tree("state", expected, state, "(c, h) is the carry of an LSTM, () that of a layer without one")
    parts = zip(cells("model", model), parts_of_cells(model, state), strict=True)
    return from_parts_of_cells(
        model, iter([LSTMState(*part[::-1]) if type(cell) in (LSTM, ConvLSTM) else part for (_, cell), part in parts])
    )


def to_state(model: Any, state: State) -> Any:
    """Convert a state of the model to carries of nnx or linen: the inverse of :func:`from_state`.

    Args:
        model: a model that has a counterpart in Flax.
        state: its state, arrays ``[..., H]``.

    Returns:
        The ``initial_carry`` of an ``RNN`` or a ``Bidirectional``; for a Stack a tuple with one for each layer.

    Raises:
        TypeError, ValueError: the model has no counterpart, or it is not a state of the model.

    Example:
        >>> import jaxrnn as rnn
        >>> cell = rnn.LSTM(3, 5)
        >>> c, h = rnn.interop.nnx.to_state(cell, cell.initial_state((7,)))
        >>> c.shape
        (7, 5)
    """
    state = checks.state_like("state", model, state, batch_shape(model, state))
    parts = []
    for (place, cell), part in zip(cells("model", model), parts_of_cells(model, state), strict=True):
        counterpart(place, cell, LAYOUTS, "Flax")
        parts.append(tuple(part[::-1]) if type(cell) in (LSTM, ConvLSTM) else part)
    return from_parts_of_cells(model, iter(parts))
