"""States: Keras has a list of arrays for each recurrent layer, jaxrnn a tree for the model."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.interop.arrays import to_numpy
from jaxrnn.interop.checks import counterpart
from jaxrnn.interop.keras.tables import LAYOUTS, keras
from jaxrnn.interop.structure import batch_shape, cells
from jaxrnn.layers import Bidirectional, Residual, Reverse, Stack
from jaxrnn.layers.pointwise import Pointwise
from jaxrnn.types import State


def from_state(model: Any, state: Any) -> State:
    """Convert states of Keras to a state of the model.

    Args:
        model: of :func:`from_module`, or any model that :func:`to_module` takes; of a Classifier its encoder.
        state: ``[h]``, or ``[h, c]`` of an LSTM, each ``[B, H]``; of Bidirectional the arrays of the forward layer,
            then of the backward layer; of a stack a list with such a list for each recurrent layer.

    Returns:
        A state for :func:`~jaxrnn.unroll`, each array ``[B, H]``.

    Raises:
        TypeError, ValueError: the model has no counterpart in Keras, or the state does not match it.

    Example:
        >>> import numpy as np, jaxrnn as rnn
        >>> h, c = np.zeros((2, 5)), np.zeros((2, 5))
        >>> state = rnn.interop.keras.from_state(rnn.LSTM(3, 5), [h.astype("float32"), c.astype("float32")])
        >>> state.c.shape
        (2, 5)
    """
    _check(model)
    arrays = [jnp.array(to_numpy("state", leaf)) for leaf in _leaves(state)]
    leaves, structure = jax.tree.flatten(model.initial_state())
    if len(arrays) != len(leaves) or not arrays or arrays[0].ndim == 0:
        checks.refuse("state", f"{len(leaves)} arrays [B, H] in lists", f"{len(arrays)} arrays",
                      "[h, c] of an LSTM, [h] of another layer, a list of these for a stack")  # fmt: skip
    return checks.state_like("state", model, jax.tree.unflatten(structure, arrays), arrays[0].shape[:-1])


def to_state(model: Any, state: State) -> list[Any]:
    """Convert a state of the model to states of Keras, for ``layer(xs, initial_state=...)``.

    Args:
        model: any model that :func:`to_module` takes; of a Classifier its encoder.
        state: its state, each array ``[B, H]``.

    Returns:
        Tensors as :func:`from_state` takes them: ``[h, c]``, or a list for each recurrent layer of a stack.

    Raises:
        ImportError: Keras is not installed.
        TypeError, ValueError: the model has no counterpart in Keras, or the state is not one of the model.

    Example:
        .. code-block:: python

            model, params = rnn.interop.keras.from_module(layer)  # keras.layers.LSTM(5)
            final, ys = rnn.unroll(model, params, xs)
            y = layer(more, initial_state=rnn.interop.keras.to_state(model, final))
    """
    _check(model)
    state = checks.state_like("state", model, state, batch_shape(model, state))
    return _lists(keras().ops.convert_to_tensor, model, state)


def _lists(convert: Any, model: Any, state: State) -> list[Any]:
    if type(model) is Stack:
        pairs = zip(model.layers, state, strict=True)
        return [_lists(convert, layer, part) for layer, part in pairs if not isinstance(layer, Pointwise)]
    if type(model) is Bidirectional:
        return [array for pair in zip(model.directions, state, strict=True) for array in _lists(convert, *pair)]
    if type(model) in (Residual, Reverse):
        return _lists(convert, model.layer, state)
    return [convert(leaf) for leaf in jax.tree.leaves(state)]


def _leaves(state: Any) -> list[Any]:
    """The tensors in nested lists, in order."""
    return [leaf for part in state for leaf in _leaves(part)] if isinstance(state, (list, tuple)) else [state]


def _check(model: Any) -> None:
    """Cells that Keras has."""
    checks.model("model", model)
    for place, cell in cells("model", model):
        counterpart(place, cell, LAYOUTS, "Keras")
