"""The weights of an nn.RNN, nn.LSTM or nn.GRU as parameters, and back; and which layers are one such module.

Both libraries concatenate the gates of a cell in one matrix, ``weight_ih [G·H, I]`` in PyTorch and ``w_xh [I, G·H]`` in
jaxrnn. The order and signs of gates are in ``LAYOUTS``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.cells import GRU, LSTM, VanillaRNN
from jaxrnn.interop.arrays import one_dtype, parameters, shape, to_numpy
from jaxrnn.interop.checks import counterpart, library
from jaxrnn.interop.layouts import Layout, Weights, from_params, to_params
from jaxrnn.interop.structure import from_parts_of_cells, layers, parts_of_cells, parts_of_layers
from jaxrnn.layers import Bidirectional, Dropout, Stack
from jaxrnn.types import Params

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of one cell; here w_xh, w_hh and one or two biases
PROJECTION = "weight_hr"  # of an nn.LSTM with proj_size; here w_hr
LAYOUTS = {
    VanillaRNN: Layout("nn.RNN", "h", "", {"activation": ("tanh", "relu")}, "nn.RNN has these two, by name"),
    LSTM: Layout("nn.LSTM", "ifco", "", {"peepholes": ("",), "coupled": (False,)},
                 "nn.LSTM has neither peepholes nor coupled gates", ("projection_size",)),
    GRU: Layout("nn.GRU", "rzh", "z", {"reset_after": (True,)},
                "nn.GRU resets after the product, and the two forms do not convert into each other"),
}  # fmt: skip

Run = list[tuple[str, Any]]  # consecutive layers with their paths
ONE_SETTING = "a PyTorch module has one setting for all its layers"


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
        ValueError: names are missing or unknown, shapes or dtypes do not match, float64 is disabled in jax.

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

    first = next(iter(weights.values()))
    options |= {"use_bias": "bias_ih" in first, "dtype": first["weight_ih"].dtype.name}
    if PROJECTION in first:
        options["projection_size"] = len(first[PROJECTION])
    cells = [kind(width, hidden_size, **options) for width in widths]
    deep = [Bidirectional(cell) if directions == 2 else cell for cell in cells]
    if dropout:
        deep = [part for layer in deep for part in (Dropout(dropout), layer)][1:]
    model = Stack(*deep) if len(cells) > 1 else deep[0]
    converted = [_from_arrays(cells[0], arrays) for arrays in weights.values()]
    return model, from_parts_of_cells(model, iter(converted))


def _read(state_dict: Mapping[str, Any], prefix: str) -> tuple[dict[str, dict[str, np.ndarray]], int]:
    """The arrays of each layer and direction, by suffix and by name without it, and the number of directions."""
    if not isinstance(state_dict, Mapping):
        checks.refuse(
            "state_dict", "tensors by name", type(state_dict).__name__, "from_module takes a module", TypeError
        )
    found = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    matches = [m for name in found if (m := re.fullmatch("(weight|bias)_[ih]h(_l([0-9]+)(_reverse)?)?", name))]
    depth = max((int(m[3]) + 1 for m in matches if m[3]), default=1)
    directions = 2 if any(m[4] for m in matches) else 1
    suffixes = [""] if "weight_hh" in found else _suffixes(depth, directions)  # "": an nn.LSTMCell or the like
    names: tuple[str, ...] = NAMES if any(m[1] == "bias" for m in matches) else NAMES[:2]
    names += (PROJECTION,) if any(name.startswith(PROJECTION) for name in found) else ()
    expected = [name + suffix for suffix in suffixes for name in names]
    missing = [f"none called {prefix + name!r}" for name in expected if name not in found]
    unknown = [f"{prefix + name!r} besides" for name in found if name not in expected]
    if missing or unknown:
        modules = sorted({m[1] for name in state_dict if (m := re.fullmatch("(.*)weight_hh(_l0)?", name)) and m[1]})
        checks.refuse(
            "state_dict", "exactly the weights, and both biases or none, of every layer and direction",
            ", ".join(missing[:1] + unknown[:1]), f"prefix= picks one of {modules}" if modules else "",
        )  # fmt: skip
    arrays = {name: to_numpy(prefix + name, found[name]) for name in expected}
    one_dtype("state_dict", arrays.values(), "module.to(dtype) makes it one")
    return {suffix: {name: arrays[name + suffix] for name in names} for suffix in suffixes}, directions


def _sizes(weights: dict[str, dict[str, np.ndarray]], directions: int, prefix: str) -> tuple[Any, list[int], int]:
    """The class, the input size of each layer and the hidden size; refuses arrays of other shapes."""
    suffix, first = next(iter(weights.items()))
    kinds = {len(layout.gates): kind for kind, layout in LAYOUTS.items() if PROJECTION not in first or kind is LSTM}
    for name, w in first.items():
        if name.startswith("weight") and (w.ndim != 2 or not w.size):
            checks.refuse(prefix + name + suffix, "a matrix", checks.describe(w))
    rows, outputs = first["weight_hh"].shape
    H = first[PROJECTION].shape[1] if PROJECTION in first else outputs
    if rows not in [gates * H for gates in kinds]:
        expected = "H columns and H, 3H or 4H rows: an nn.RNN, nn.GRU or nn.LSTM"
        if PROJECTION in first:
            expected = f"{4 * H} rows, four times the columns of {PROJECTION}: an nn.LSTM"
        checks.refuse(prefix + "weight_hh" + suffix, expected, checks.describe(first["weight_hh"]))
    widths = [first["weight_ih"].shape[1]] + [directions * outputs] * (len(weights) // directions - 1)
    for index, (suffix, arrays) in enumerate(weights.items()):
        shapes = {
            "weight_ih": (rows, widths[index // directions]),
            "weight_hh": (rows, outputs),
            PROJECTION: (outputs, H),
        }
        for name, array in arrays.items():
            shape(prefix + name + suffix, array, shapes.get(name, (rows,)))
    return kinds[rows // H], widths, H


def _from_arrays(cell: Any, arrays: dict[str, np.ndarray]) -> Params:
    """The parameters of a cell, from its arrays by name."""
    layout = LAYOUTS[type(cell)]
    params = to_params(cell, Weights(*[layout.ours(arrays[name].T) for name in NAMES if name in arrays]))
    return params._replace(w_hr=jnp.array(arrays[PROJECTION].T)) if PROJECTION in arrays else params


# ---- jaxrnn to PyTorch -------------------------------------------------------------------------------------------


def to_state_dict(model: Any, params: Params) -> dict[str, Any]:
    """Convert parameters to the state dict of an nn.RNN, nn.LSTM or nn.GRU.

    The bias of a VanillaRNN or an LSTM becomes ``bias_ih``, and ``bias_hh`` is 0. For an nn.LSTMCell or another cell
    remove ``_l0`` from the names.

    Args:
        model: VanillaRNN (tanh or relu), LSTM (no peepholes, not coupled; a projection is ``proj_size``) or GRU
            (``reset_after=True``) cells, one a layer or a concatenating Bidirectional of them, all of one kind and
            size; several in a Stack. Dropout between them is ignored, since a state dict has none: pass ``dropout=`` to
            nn.LSTM. :func:`~jaxrnn.interop.torch.to_module` takes more.
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
    checks.model("model", model)
    run = list(layers("model", model))
    cells_of(run)
    return state_dict_of(run, parts_of_layers(model, parameters(model, params)))


def state_dict_of(run: Run, params: list[Params]) -> dict[str, Any]:
    """The state dict of the module that consecutive layers are, with the parameters of each."""
    cells, directions = cells_of(run)
    parts = [part for (_, layer), tree in zip(run, params, strict=True) for part in parts_of_cells(layer, tree)]
    return {
        name + suffix: to_tensor(array)
        for suffix, part in zip(_suffixes(len(cells) // directions, directions), parts, strict=True)
        for name, array in _to_arrays(LAYOUTS[type(cells[0])], part).items()
    }


def _to_arrays(layout: Layout, params: Any) -> dict[str, np.ndarray]:
    """The arrays of one cell by name, from its parameters: the inverse of :func:`_from_arrays`."""
    w_xh, w_hh, b_x, b_h = from_params(params)
    arrays = {"weight_ih": layout.theirs(w_xh).T, "weight_hh": layout.theirs(w_hh).T}
    if b_x is not None:
        arrays["bias_ih"] = layout.theirs(b_x)
        arrays["bias_hh"] = np.zeros_like(b_x) if b_h is None else layout.theirs(b_h)
    if getattr(params, "w_hr", None) is not None:
        arrays[PROJECTION] = np.asarray(params.w_hr).T
    return arrays


# ---- layers that are one module ----------------------------------------------------------------------------------


def runs(model: Any) -> list[Run]:
    """The layers of a model, those together that one module of PyTorch holds: the longest such runs.

    These are recurrent layers with the same settings, one above the other, with dropout of one rate between all of
    them or without; or any other layer by itself.
    """
    checks.model("model", model)
    left, found = list(layers("model", model)), []
    while left:
        length = max(n for n in range(1, len(left) + 1) if n == 1 or _is_one_module([layer for _, layer in left[:n]]))
        found.append(left[:length])
        left = left[length:]
    return found


def _is_one_module(deep: list[Any]) -> bool:
    """Whether these are recurrent layers with the same settings, or such layers and dropout of one rate in turns."""
    in_turns = len(deep) > 2 and type(deep[1]) is Dropout
    recurrent, between = (deep[::2], deep[1::2]) if in_turns else (deep, [])
    settings = list(map(_settings, recurrent))
    return (
        settings[0] is not None
        and all(setting == settings[0] for setting in settings)
        and all(layer == between[0] for layer in between)
        and len(between) in (0, len(recurrent) - 1)
    )


def _settings(layer: Any) -> list[tuple] | None:
    """What the layers of one module of PyTorch have in common; None of what is not recurrent there."""
    cells = layer.directions if type(layer) is Bidirectional else (layer,)
    if not all(type(cell) in LAYOUTS for cell in cells):
        return None
    return [(type(cell), *(getattr(cell, name) for name in _options(cell))) for cell in cells]


def _options(cell: Any) -> tuple[str, ...]:
    """The hyperparameters that all cells of one module share."""
    return "hidden_size", "use_bias", *LAYOUTS[type(cell)].options, *LAYOUTS[type(cell)].extras


def cells_of(run: Run) -> tuple[list[Any], int]:
    """The cells, layer by layer, forward before backward, and the number of directions; refuses what PyTorch lacks."""
    for place, layer in (run[0], run[-1]):
        if type(layer) is Dropout:
            checks.refuse(place, "dropout only between two recurrent layers", repr(layer), "nn.Dropout goes there")
    deep = [(place, layer) for place, layer in run if type(layer) is not Dropout]
    first_place, first = deep[0]
    cells: list[tuple[str, Any]] = []
    for place, layer in deep:
        bidirectional = type(layer) is Bidirectional
        if bidirectional and layer.merge != "concat":
            checks.refuse(f"{place}.merge", "'concat'", repr(layer.merge), "PyTorch has no other merge")
        places = (f"{place}.forward", f"{place}.backward") if bidirectional else (place,)
        cells += zip(places, layer.directions if bidirectional else (layer,), strict=True)
    for place, cell in cells:
        _same_settings(place, cell, *cells[0])
    for place, layer in deep:
        if type(layer) is not type(first):
            checks.refuse(place, f"as many directions as {first_place} has, {first!r}", repr(layer), ONE_SETTING)
    return [cell for _, cell in cells], len(cells) // len(deep)


def _same_settings(place: str, cell: Any, first_place: str, first: Any) -> None:
    """A cell that PyTorch has, with the same kind and options as the first one of the model."""
    if type(cell) not in LAYOUTS:
        checks.refuse(place, "a VanillaRNN, LSTM or GRU, a Bidirectional of them, or a Stack of these", repr(cell),
                      "a recurrent module of PyTorch holds nothing else: to_module makes several modules",
                      TypeError)  # fmt: skip
    if type(cell) is not type(first):
        checks.refuse(place, f"{type(first).__name__}, the kind of {first_place}", repr(cell), ONE_SETTING, TypeError)
    counterpart(place, cell, LAYOUTS, "PyTorch")
    if (size := getattr(cell, "projection_size", None)) and size >= cell.hidden_size:
        checks.refuse(f"{place}.projection_size", f"fewer than hidden_size, {cell.hidden_size}", size,
                      "an nn.LSTM has no larger proj_size")  # fmt: skip
    for name in _options(cell):
        value, expected = getattr(cell, name), getattr(first, name)
        if value != expected:
            checks.refuse(f"{place}.{name}", f"{expected!r}, that of {first_place}", repr(value), ONE_SETTING)


def _suffixes(depth: int, directions: int) -> list[str]:
    """The suffix of the names of each cell: by layer, then by direction."""
    return [f"_l{layer}{reverse}" for layer in range(depth) for reverse in ("", "_reverse")[:directions]]


# ---- arrays ------------------------------------------------------------------------------------------------------


def torch_library() -> Any:
    """PyTorch, or a clear error."""
    return library("torch", "PyTorch", "torch")


def to_tensor(array: Any) -> Any:
    """A tensor with its own memory, in the array's dtype."""
    torch, array = torch_library(), np.asarray(array)
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C"))
