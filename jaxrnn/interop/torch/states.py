"""States of models and hidden states of PyTorch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.cells import LSTM, LSTMState
from jaxrnn.interop.arrays import concrete, one_dtype, to_numpy
from jaxrnn.interop.structure import batch_shape, from_parts_of_cells, parts_of_cells
from jaxrnn.interop.torch.state_dicts import cells_of, runs, to_tensor
from jaxrnn.layers.pointwise import Pointwise
from jaxrnn.types import State


def from_state(model: Any, state: Any) -> State:
    """Convert hidden states ``h_n``, or ``(h_n, c_n)`` of an LSTM, to a state of the model.

    Args:
        model: the model, as :func:`~jaxrnn.interop.torch.to_module` takes it.
        state: tensors or arrays ``[layers·directions, ..., H]``, by layer, then by direction; a tuple of such states,
            one a recurrent module, if the model becomes a ``Sequential`` there.

    Returns:
        A state for :func:`~jaxrnn.unroll`, each array ``[..., H]``.

    Raises:
        TypeError: it is not an array or, for an LSTM, not a pair of arrays.
        ValueError: the model has no counterpart in PyTorch, a shape does not match it, or dtypes differ.

    Example:
        >>> import numpy as np, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.LSTM(3, 5), rnn.LSTM(5, 5))
        >>> h_n = c_n = np.zeros((2, 7, 5), "float32")
        >>> state = rnn.interop.torch.from_state(model, (h_n, c_n))
        >>> len(state), state[1].c.shape
        (2, (7, 5))
    """
    modules, alone = _recurrent(model)
    if not alone and (not isinstance(state, (tuple, list)) or len(state) != len(modules)):
        checks.refuse("state", f"a tuple of {len(modules)}, one state a recurrent module", checks.tree_summary(state),
                      error=TypeError)  # fmt: skip
    names = ["state"] if alone else [f"state[{n}]" for n in range(len(modules))]
    hidden = list(map(_hidden, names, modules, [state] if alone else state))
    if arrays := [array for of_module in hidden for array in of_module]:
        one_dtype("state", arrays, "cast all to that of the parameters")
    parts = [_cell_state(arrays) for of_module in hidden for arrays in zip(*of_module, strict=True)]
    batch = hidden[0][0].shape[1:-1] if hidden else ()
    return checks.state_like("state", model, from_parts_of_cells(model, iter(parts)), batch)


def to_state(model: Any, state: State) -> Any:
    """Convert a state of the model to hidden states ``h_n``, or ``(h_n, c_n)`` of an LSTM.

    Args:
        model: the model, as :func:`~jaxrnn.interop.torch.to_module` takes it.
        state: its state, each array ``[..., H]``.

    Returns:
        Tensors ``[layers·directions, ..., H]``, by layer, then by direction; a tuple of such states, one a recurrent
        module, if the model becomes a ``Sequential`` there.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError, ValueError: the model has no counterpart in PyTorch, or the state is not one of the model.

    Example:
        .. code-block:: python

            final, ys = rnn.unroll(model, params, xs)
            ys, (h_n, c_n) = module(more_xs, rnn.interop.torch.to_state(model, final))
    """
    modules, alone = _recurrent(model)
    state = checks.state_like("state", model, state, batch_shape(model, concrete("state", state)))
    parts = iter(parts_of_cells(model, state))
    hidden = []
    for cells in modules:
        arrays = [jax.tree.leaves(next(parts)) for _ in cells]  # [h] or [h, c] of each cell
        tensors = [to_tensor(np.stack(list(map(np.asarray, of_cells)))) for of_cells in zip(*arrays, strict=True)]
        hidden.append(tuple(tensors) if type(cells[0]) is LSTM else tensors[0])
    return hidden[0] if alone else tuple(hidden)


def _recurrent(model: Any) -> tuple[list[list[Any]], bool]:
    """The cells of each recurrent module that the model becomes, and whether it is that module alone."""
    modules = runs(model)
    recurrent = [cells_of(run)[0] for run in modules if not isinstance(run[0][1], Pointwise)]
    return recurrent, len(modules) == len(recurrent) == 1


def _hidden(argument: str, cells: list[Any], state: Any) -> list[np.ndarray]:
    """``[h_n]``, or ``[h_n, c_n]`` of an LSTM."""
    pair = type(cells[0]) is LSTM
    if pair != isinstance(state, (tuple, list)) or (pair and len(state) != 2):
        checks.refuse(argument, "(h_n, c_n)" if pair else "h_n alone", type(state).__name__, error=TypeError)
    arrays = [to_numpy(argument, part) for part in (state if pair else [state])]
    for array in arrays:
        if array.ndim < 2 or len(array) != len(cells):
            axes = f"[{len(cells)}, ..., {cells[0].hidden_size}], layers and directions first"
            checks.refuse(argument, axes, checks.describe(array),
                          "the state of an nn.LSTMCell lacks that axis: h[None]")  # fmt: skip
    return arrays


def _cell_state(arrays: tuple[np.ndarray, ...]) -> Any:
    """h, or h and c of an LSTM, as a state of its cell."""
    return LSTMState(*map(jnp.array, arrays)) if len(arrays) == 2 else jnp.array(arrays[0])
