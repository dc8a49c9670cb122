"""Conversion of PyTorch's nn.RNN, nn.LSTM and nn.GRU to models and parameters, and back: exact, or refused.

Both libraries concatenate the gates of a cell in one matrix, ``weight_ih [G·H, I]`` in PyTorch and ``w_xh [I, G·H]`` in
jaxrnn. The other differences, order and signs of gates and the number of biases, are in ``LAYOUTS``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.cells import GRU, LSTM, GRUParams, LSTMParams, LSTMState, VanillaParams, VanillaRNN
from jaxrnn.interop.checks import ONE_SETTING, counterpart
from jaxrnn.layers import Bidirectional, Dropout, Stack
from jaxrnn.types import Params, PyTree, State

NAMES = (
    "weight_ih",
    "weight_hh",
    "bias_ih",
    "bias_hh",
)  # of one cell in PyTorch; in jaxrnn w_xh, w_hh and one or two biases


class Layout(NamedTuple):
    """The layout of the parameters of one kind of cell in both libraries."""

    name: str  # of the PyTorch module
    params: Any
    gates: str  # in the order of jaxrnn
    torch_gates: str  # the same gates in the order of PyTorch
    negated: str  # gates that are 1 minus those of the other library: σ(-a) = 1 - σ(a), so their weights change sign
    sums_biases: bool  # b_h is bias_ih + bias_hh; otherwise b_h is bias_ih and b_hh is bias_hh
    options: dict[str, tuple]  # hyperparameters, and their values that PyTorch supports
    reason: str


LAYOUTS = {
    VanillaRNN: Layout("nn.RNN", VanillaParams, "h", "h", "", True, {"activation": ("tanh", "relu")},
                       "nn.RNN has these two, by name"),
    LSTM: Layout("nn.LSTM", LSTMParams, "ifoc", "ifco", "", True, {"peepholes": ("",), "coupled": (False,)},
                 "nn.LSTM has neither peepholes nor coupled gates"),
    GRU: Layout("nn.GRU", GRUParams, "zrh", "rzh", "z", False, {"reset_after": (True,)},
                "nn.GRU resets after the product, and the two forms do not convert into each other"),
}  # fmt: skip


# ---- PyTorch to jaxrnn -------------------------------------------------------------------------------------------


def from_state_dict(
    state_dict: Mapping[str, Any], *, nonlinearity: str = "tanh", dropout: float = 0.0, prefix: str = ""
) -> tuple[Any, Params]:
    """Convert the state dict of an nn.RNN, nn.LSTM or nn.GRU, or of their cells, to a model and its parameters.

    Kind, sizes, depth, directions and biases follow from names and shapes. The two biases of nn.RNN and nn.LSTM are
    summed, those of nn.GRU stay separate. PyTorch is not required: values may be NumPy arrays.

    Args:
        state_dict: tensors or arrays by name, all of one floating dtype, which becomes the model's.
        nonlinearity: ``"tanh"`` or ``"relu"``, that of an nn.RNN; a state dict does not contain it.
        dropout: the rate between layers, not in a state dict either; without effect for one layer, as in PyTorch.
        prefix: only names with this prefix are read: ``"encoder.rnn."`` selects that part of a larger model.

    Returns:
        ``(model, params)``. The model is a cell, in a :class:`~jaxrnn.Bidirectional` if it has two directions, in a
        :class:`~jaxrnn.Stack` if there are several layers. It is time-major, ``[T, ..., I]``: transpose the inputs of
        a module with ``batch_first=True``.

    Raises:
        TypeError: the argument or a value in it is of the wrong kind.
        ValueError: names are missing or unknown, there is a projection (``proj_size``), shapes or dtypes do not match,
            float64 is disabled in jax.

    Example:
        >>> import numpy as np, jaxrnn as rnn
        >>> weights = {"weight_ih_l0": np.ones((20, 3), "float32"), "weight_hh_l0": np.ones((20, 5), "float32")}
        >>> model, params = rnn.interop.torch.from_state_dict(weights)
        >>> model, params.w_xh.shape
        (LSTM(3, 5, use_bias=False), (3, 20))
    """
    checks.one_of("nonlinearity", nonlinearity, LAYOUTS[VanillaRNN].options["activation"])
    checks.fraction("dropout", dropout)
    weights, directions = _read(state_dict, prefix)
    kind, widths, hidden_size = _sizes(weights, directions, prefix)
    options = {name: values[0] for name, values in LAYOUTS[kind].options.items()}
    if kind is VanillaRNN:
        options["activation"] = nonlinearity
    elif nonlinearity != "tanh":
        checks.refuse("nonlinearity", f"'tanh', the only one of an {LAYOUTS[kind].name}", repr(nonlinearity))

    w_ih, _, *biases = next(iter(weights.values()))
    options |= {"use_bias": bool(biases), "dtype": w_ih.dtype.name}
    cells = [kind(width, hidden_size, **options) for width in widths]
    layers = [Bidirectional(cell) if directions == 2 else cell for cell in cells]
    if dropout:
        layers = [part for layer in layers for part in (Dropout(dropout), layer)][1:]
    model = Stack(*layers) if len(cells) > 1 else layers[0]
    return model, _unflatten(model, iter([_from_arrays(LAYOUTS[kind], arrays) for arrays in weights.values()]))


def from_module(module: Any) -> tuple[Any, Params]:
    """Convert an nn.RNN, nn.LSTM or nn.GRU, or one of their cells, to a model and its parameters.

    Args:
        module: the module; not of a subclass, whose ``forward`` may be different.

    Returns:
        ``(model, params)``, as of :func:`from_state_dict`, with the module's nonlinearity and dropout. jaxrnn is
        time-major: for a module with ``batch_first=True`` transpose the inputs; the parameters are the same.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError: the module is of another class.
        ValueError: :func:`from_state_dict` refuses it, for instance because of a projection.

    Example:
        .. code-block:: python

            module = torch.nn.LSTM(3, 5, num_layers=2, batch_first=True)
            model, params = rnn.interop.torch.from_module(module)  # Stack(LSTM(3, 5), LSTM(5, 5))
            final, ys = rnn.unroll(model, params, xs)  # xs: [T, B, 3]
    """
    nn = _torch().nn
    if type(module) not in (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell):
        checks.refuse("module", "an nn.RNN, nn.LSTM or nn.GRU or one of their cells", type(module).__name__,
                      "from_state_dict(module.state_dict(), prefix=...) selects one in a larger module",
                      TypeError)  # fmt: skip
    return from_state_dict(
        module.state_dict(),
        nonlinearity=getattr(module, "nonlinearity", "tanh"),
        dropout=getattr(module, "dropout", 0.0),
    )


def state_from_torch(model: Any, state: Any) -> State:
    """Convert hidden states ``h_n``, or ``(h_n, c_n)`` of an LSTM, to a state of the model.

    Args:
        model: of :func:`from_state_dict`, or any model that :func:`to_state_dict` takes.
        state: tensors or arrays ``[layers·directions, ..., H]``, by layer, then by direction.

    Returns:
        A state for :func:`~jaxrnn.unroll`, each array ``[..., H]``.

    Raises:
        TypeError: it is not an array or, for an LSTM, not a pair of arrays.
        ValueError: the model has no counterpart in PyTorch, or a shape does not match it.

    Example:
        >>> import numpy as np, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.LSTM(3, 5), rnn.LSTM(5, 5))
        >>> h_n = c_n = np.zeros((2, 7, 5), "float32")
        >>> state = rnn.interop.torch.state_from_torch(model, (h_n, c_n))
        >>> len(state), state[1].c.shape
        (2, (7, 5))
    """
    cells, _ = _cells(model)
    pair = type(cells[0]) is LSTM
    if pair != isinstance(state, (tuple, list)) or (pair and len(state) != 2):
        checks.refuse("state", "(h_n, c_n)" if pair else "h_n alone", type(state).__name__, error=TypeError)
    arrays = [_to_numpy("state", part) for part in (state if pair else [state])]
    for array in arrays:
        if array.ndim < 2 or len(array) != len(cells):
            axes = f"[{len(cells)}, ..., {cells[0].hidden_size}], layers and directions first"
            checks.refuse("state", axes, checks.describe(array), "the state of an nn.LSTMCell lacks that axis: h[None]")
    parts = [LSTMState(*map(jnp.array, hc)) if pair else jnp.array(hc[0]) for hc in zip(*arrays, strict=True)]
    return checks.state_like("state", model, _unflatten(model, iter(parts)), arrays[0].shape[1:-1])


def _read(state_dict: Mapping[str, Any], prefix: str) -> tuple[dict[str, list[np.ndarray]], int]:
    """The arrays of each layer and direction in the order of ``NAMES``, by suffix, and the number of directions."""
    if not isinstance(state_dict, Mapping):
        checks.refuse(
            "state_dict", "tensors by name", type(state_dict).__name__, "from_module takes a module", TypeError
        )
    found = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    for name in found:
        if name.startswith("weight_hr"):
            checks.refuse("state_dict", "no projection", repr(prefix + name), "jaxrnn has no counterpart of proj_size")

    matches = [m for name in found if (m := re.fullmatch("(weight|bias)_[ih]h(_l([0-9]+)(_reverse)?)?", name))]
    depth = max((int(m[3]) + 1 for m in matches if m[3]), default=1)
    directions = 2 if any(m[4] for m in matches) else 1
    suffixes = [""] if "weight_hh" in found else _suffixes(depth, directions)  # "": an nn.LSTMCell or the like
    names = NAMES if any(m[1] == "bias" for m in matches) else NAMES[:2]
    expected = [name + suffix for suffix in suffixes for name in names]
    missing = [f"none called {prefix + name!r}" for name in expected if name not in found]
    unknown = [f"{prefix + name!r} besides" for name in found if name not in expected]
    if missing or unknown:
        modules = sorted({m[1] for name in state_dict if (m := re.fullmatch("(.*)weight_hh(_l0)?", name)) and m[1]})
        checks.refuse(
            "state_dict", "exactly the weights, and both biases or none, of every layer and direction",
            ", ".join(missing[:1] + unknown[:1]), f"prefix= picks one of {modules}" if modules else "",
        )  # fmt: skip
    arrays = {name: _to_numpy(prefix + name, found[name]) for name in expected}
    dtypes = {array.dtype.name for array in arrays.values()}
    if len(dtypes) > 1:
        checks.refuse("state_dict", "one dtype", " and ".join(sorted(dtypes)), "module.to(dtype) makes it one")
    return {suffix: [arrays[name + suffix] for name in names] for suffix in suffixes}, directions


def _sizes(weights: dict[str, list[np.ndarray]], directions: int, prefix: str) -> tuple[Any, list[int], int]:
    """The class, the input size of each layer and the hidden size; refuses arrays of other shapes."""
    first, (w_ih, w_hh, *_) = next(iter(weights.items()))
    kinds = {len(layout.gates): kind for kind, layout in LAYOUTS.items()}
    for name, w in zip(NAMES, (w_ih, w_hh), strict=False):
        if w.ndim != 2 or not w.size:
            checks.refuse(prefix + name + first, "a matrix", checks.describe(w))
    rows, H = w_hh.shape
    if rows not in [gates * H for gates in kinds]:
        checks.refuse(prefix + "weight_hh" + first, "H columns and H, 3H or 4H rows: an nn.RNN, nn.GRU or nn.LSTM",
                      checks.describe(w_hh))  # fmt: skip
    widths = [w_ih.shape[1]] + [directions * H] * (len(weights) // directions - 1)
    for index, (suffix, arrays) in enumerate(weights.items()):
        shapes = ((rows, widths[index // directions]), (rows, H), (rows,), (rows,))
        for name, array, shape in zip(NAMES, arrays, shapes, strict=False):
            if array.shape != shape:
                checks.refuse(prefix + name + suffix, f"shape {list(shape)}", checks.describe(array))
    return kinds[rows // H], widths, H


def _from_arrays(layout: Layout, arrays: list[np.ndarray]) -> Any:
    """The parameters of one cell, from its arrays in the order of ``NAMES``; missing ones are None."""
    w_ih, w_hh, *biases = arrays
    if layout.sums_biases and biases:
        biases = [np.add(*biases)]
    reordered = [_reorder_gates(a, layout.torch_gates, layout.gates, layout.negated) for a in (w_ih, w_hh, *biases)]
    missing = [None] * (len(layout.params._fields) - len(reordered))
    return layout.params(*[jnp.array(a.T) for a in reordered], *missing)


# ---- jaxrnn to PyTorch -------------------------------------------------------------------------------------------


def to_state_dict(model: Any, params: Params) -> dict[str, Any]:
    """Convert parameters to the state dict of an nn.RNN, nn.LSTM or nn.GRU.

    The bias of a VanillaRNN or an LSTM becomes ``bias_ih``, and ``bias_hh`` is 0. For an nn.LSTMCell or another cell
    remove ``_l0`` from the names.

    Args:
        model: VanillaRNN (tanh or relu), LSTM (no peepholes, not coupled) or GRU (``reset_after=True``) cells, one a
            layer or a concatenating Bidirectional of them, all of one kind and hidden size; several in a Stack.
            Dropout between them is ignored, since a state dict has none: pass ``dropout=`` to nn.LSTM.
        params: its parameters, or a tree of the same structure, such as gradients.

    Returns:
        Tensors by name, in the dtypes of the parameters, for ``module.load_state_dict``. Construct an nn.RNN with the
        model's activation as its ``nonlinearity``.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError: a part of the model has no counterpart, or kinds are mixed.
        ValueError: a hyperparameter has none, layers differ, or the parameters are not those of the model.

    Example:
        .. code-block:: python

            model = rnn.Stack(rnn.LSTM(3, 5), rnn.LSTM(5, 5))
            params = model.init(jax.random.key(0))
            module = torch.nn.LSTM(3, 5, num_layers=2)
            module.load_state_dict(rnn.interop.torch.to_state_dict(model, params))
    """
    cells, directions = _cells(model)
    parts = _flatten(model, checks.parameters(model, params))
    torch = _torch()
    return {
        name + suffix: _to_tensor(torch, array)
        for suffix, part in zip(_suffixes(len(cells) // directions, directions), parts, strict=True)
        for name, array in zip(NAMES, _to_arrays(LAYOUTS[type(cells[0])], part), strict=False)
    }


def state_to_torch(model: Any, state: State) -> Any:
    """Convert a state of the model to hidden states ``h_n``, or ``(h_n, c_n)`` of an LSTM.

    Args:
        model: a model that :func:`to_state_dict` takes.
        state: its state, each array ``[..., H]``.

    Returns:
        Tensors ``[layers·directions, ..., H]``, by layer, then by direction.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError, ValueError: the model has no counterpart in PyTorch, or the state is not one of the model.

    Example:
        .. code-block:: python

            final, ys = rnn.unroll(model, params, xs)
            ys, (h_n, c_n) = module(more_xs, rnn.interop.torch.state_to_torch(model, final))
    """
    cells, _ = _cells(model)
    leaves = jax.tree.leaves(state)
    state = checks.state_like("state", model, state, jnp.shape(leaves[0])[:-1] if leaves else ())
    torch = _torch()
    parts = [jax.tree.leaves(part) for part in _flatten(model, state)]  # [h] or [h, c] of each cell
    tensors = [_to_tensor(torch, np.stack([np.asarray(a) for a in arrays])) for arrays in zip(*parts, strict=True)]
    return tuple(tensors) if type(cells[0]) is LSTM else tensors[0]


def _to_arrays(layout: Layout, params: Any) -> list[np.ndarray]:
    """The arrays of one cell in the order of ``NAMES``, from its parameters: the inverse of :func:`_from_arrays`."""
    arrays = [_reorder_gates(np.asarray(a).T, layout.gates, layout.torch_gates, layout.negated)
              for a in params if a is not None]  # fmt: skip
    if layout.sums_biases and len(arrays) == 3:
        arrays.append(np.zeros_like(arrays[2]))
    return arrays


def _cells(model: Any) -> tuple[list[Any], int]:
    """The cells, layer by layer, forward before backward, and the number of directions; refuses what PyTorch lacks."""
    checks.model("model", model)
    layers = list(_layers("model", model))
    for place, layer in (layers[0], layers[-1]):
        if type(layer) is Dropout:
            checks.refuse(place, "dropout only between two recurrent layers", repr(layer), "nn.Dropout goes there")
    layers = [(place, layer) for place, layer in layers if type(layer) is not Dropout]
    first_place, first = layers[0]
    cells: list[tuple[str, Any]] = []
    for place, layer in layers:
        bidirectional = type(layer) is Bidirectional
        if bidirectional and layer.merge != "concat":
            checks.refuse(f"{place}.merge", "'concat'", repr(layer.merge), "PyTorch has no other merge")
        places = (f"{place}.forward", f"{place}.backward") if bidirectional else (place,)
        cells += zip(places, layer.directions if bidirectional else (layer,), strict=True)
    for place, cell in cells:
        counterpart(place, cell, *cells[0], LAYOUTS)
    for place, layer in layers:
        if type(layer) is not type(first):
            checks.refuse(place, f"as many directions as {first_place} has, {first!r}", repr(layer), ONE_SETTING)
    return [cell for _, cell in cells], len(cells) // len(layers)


# ---- both directions ---------------------------------------------------------------------------------------------


def _suffixes(depth: int, directions: int) -> list[str]:
    """The suffix of the names of each cell: by layer, then by direction."""
    return [f"_l{layer}{reverse}" for layer in range(depth) for reverse in ("", "_reverse")[:directions]]


def _reorder_gates(a: np.ndarray, source: str, target: str, negated: str) -> np.ndarray:
    """Rows ``[G·H, ...]`` reordered from one order of gates to another; rows of ``negated`` gates change sign."""
    gates = dict(zip(source, np.split(a, len(source)), strict=True))
    return np.concatenate([-gates[gate] if gate in negated else gates[gate] for gate in target])


def _layers(place: str, model: Any) -> Iterator[tuple[str, Any]]:
    """The layers of a stack, nested stacks included, with their paths; any other model is one layer."""
    if type(model) is not Stack:
        yield place, model
    else:
        for index, layer in enumerate(model.layers):
            yield from _layers(f"{place}.layers[{index}]", layer)


def _flatten(model: Any, tree: PyTree) -> list[Any]:
    """The parts of parameters or of a state that belong to cells, in the order of :func:`_cells`."""
    if type(model) is Stack:
        return [part for layer, parts in zip(model.layers, tree, strict=True) for part in _flatten(layer, parts)]
    if type(model) is Bidirectional:
        return list(tree)
    return [] if type(model) is Dropout else [tree]


def _unflatten(model: Any, parts: Iterator[Any]) -> PyTree:
    """The inverse of :func:`_flatten`: the parts of cells in the structure of the model."""
    if type(model) is Stack:
        return tuple(_unflatten(layer, parts) for layer in model.layers)
    if type(model) is Bidirectional:
        return next(parts), next(parts)
    return () if type(model) is Dropout else next(parts)


# ---- arrays ------------------------------------------------------------------------------------------------------


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        checks.refuse("torch", "PyTorch to be installed", "no such module", "pip install torch", ImportError)
    return torch


def _to_numpy(argument: str, value: Any) -> np.ndarray:
    """A NumPy array of an array or of a tensor on any device; its floating dtype must be enabled in jax."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        bfloat16 = str(value.dtype) == "torch.bfloat16"  # NumPy has it from jax, so .numpy() does not support it
        value = value.float().numpy().astype(jnp.bfloat16) if bfloat16 else value.numpy()
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        checks.refuse(argument, "a tensor or an array", checks.describe(value), error=TypeError)
    checks.dtype_available(checks.float_dtype(argument, value.dtype))
    return np.asarray(value)


def _to_tensor(torch: Any, array: np.ndarray) -> Any:
    """A tensor with its own memory, in the array's dtype."""
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C"))
