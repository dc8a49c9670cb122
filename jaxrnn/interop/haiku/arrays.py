"""The arrays of a module of Haiku and the parameters of a layer: order of gates, shapes, the bias that Haiku adds.

Arrays are found by path, ``"lstm/linear/w"``, the name of the module and that of the array.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.cells import GRU, LSTM, ConvLSTM, VanillaRNN
from jaxrnn.interop import convolutions
from jaxrnn.interop.arrays import one_dtype, shape, to_numpy
from jaxrnn.interop.layouts import Layout, Weights, add_to_gate, from_params, to_params
from jaxrnn.layers import Embedding, EmbeddingParams, Linear, LinearParams
from jaxrnn.types import Params

LAYOUTS = {
    VanillaRNN: Layout("hk.VanillaRNN", "h", "", {"activation": ("relu",), "use_bias": (True,)},
                       "hk.VanillaRNN has relu and a bias"),
    LSTM: Layout("hk.LSTM", "icfo", "", {"peepholes": ("",), "coupled": (False,), "use_bias": (True,)},
                 "hk.LSTM has a bias, and neither peepholes nor coupled gates"),
    GRU: Layout("hk.GRU", "zrh", "", {"reset_after": (False,), "use_bias": (True,)},
                "hk.GRU has a bias and resets before the product; the two forms do not convert into each other"),
    ConvLSTM: Layout("hk.Conv2DLSTM", "icfo", "", convolutions.TWO_BIASES,
                     "the ConvLSTM of Haiku has a bias, no peepholes, and the same kind of convolution for both"),
}  # fmt: skip

ENTRIES = {  # the parameters of a module, under its name; the last one is absent without a (second) bias
    VanillaRNN: ("linear/w", "linear/b", "linear_1/w", "linear_1/b"),
    LSTM: ("linear/w", "linear/b"),
    GRU: ("w_i", "w_h", "b"),
    ConvLSTM: ("input_to_hidden/w", "input_to_hidden/b", "hidden_to_hidden/w", "hidden_to_hidden/b"),
    Linear: ("w", "b"),
    Embedding: ("embeddings",),
}


def paths(kind: Any, module: Any) -> list[str]:
    """The paths ``"lstm/linear/w"`` of the parameters of a module."""
    has_last = getattr(module, "with_bias", True) and getattr(module, "double_bias", True)
    return [f"{module.module_name}/{entry}" for entry in (ENTRIES[kind] if has_last else ENTRIES[kind][:-1])]


def _shapes(kind: Any, I: int, H: int) -> tuple[tuple[int, ...], ...]:  # noqa: E741
    """The shapes of the arrays in ``ENTRIES``, of a cell or a layer with I inputs and H outputs."""
    return {
        VanillaRNN: ((I, H), (H,), (H, H), (H,)),
        LSTM: ((I + H, 4 * H), (4 * H,)),
        GRU: ((I, 3 * H), (H, 3 * H), (3 * H,)),
        Linear: ((I, H), (H,)),
        Embedding: ((I, H),),
    }[kind]


def flat(params: Any, name: str) -> dict[str, Any]:
    """Arrays by path, of the modules under one name: ``{"lstm": {"w": a}}`` as ``{"lstm/w": a}``."""
    if not isinstance(params, Mapping) or not all(isinstance(entries, Mapping) for entries in params.values()):
        checks.refuse("params", "arrays by module and name, as hk.transform(...).init returns them",
                      checks.describe(params), error=TypeError)  # fmt: skip
    prefix = f"{name}/" if name else ""
    flat = {f"{module}/{entry}": array for module, entries in params.items() for entry, array in entries.items()}
    return {path.removeprefix(prefix): array for path, array in flat.items() if path.startswith(prefix)}


TAKEN = object()  # in place of an array that a module has taken


def _take(arrays: dict[str, Any], path: str) -> np.ndarray:
    """Take an array, which no other module may take."""
    place = place_of(path)
    if path not in arrays:
        inside = [known.removesuffix(f"/{path}") for known in arrays if known.endswith(f"/{path}")]
        checks.refuse(place, "an array", f"none; there are {', '.join(map(place_of, arrays)) or 'no others'}",
                      f"name={inside[0]!r} reads those of that module" if inside else "")  # fmt: skip
    array, arrays[path] = arrays[path], TAKEN
    if array is TAKEN:
        checks.refuse(place, "a module that is used once", "it twice", "layers here do not share parameters")
    return to_numpy(place, array)


def place_of(path: str) -> str:
    """The array of a path, as it is written in messages."""
    module, _, entry = path.rpartition("/")
    return f"params[{module!r}][{entry!r}]"


# ---- the arrays of one module ------------------------------------------------------------------------------------


def read(kind: Any, module: Any, arrays: dict[str, Any]) -> tuple[Any, Params]:
    """A cell, Linear or Embedding with its parameters, from the arrays of its module."""
    names = paths(kind, module)
    found = {name: _take(arrays, name) for name in names}
    if kind is ConvLSTM:
        arrays_of = convolutions.Convolutions(*found.values())
        return convolutions.to_model(module.module_name, arrays_of, LAYOUTS[kind], module.input_shape, adds=1)
    first = found[names[0]]
    if first.ndim != 2:
        checks.refuse(place_of(names[0]), "a matrix", checks.describe(first))
    dtype = one_dtype(f"params of {module.module_name!r}", found.values(), "cast them to one dtype")
    sizes: tuple[int, ...]
    if kind is Embedding:
        sizes = (module.vocab_size, module.embed_dim)
    elif kind is Linear:
        sizes = (len(first), module.output_size)
    else:
        sizes = (len(first) - (module.hidden_size if kind is LSTM else 0), module.hidden_size)
    for name, expected in zip(names, _shapes(kind, *sizes), strict=False):
        shape(place_of(name), found[name], expected)
    if kind is Embedding:
        return Embedding(*sizes, dtype=dtype), EmbeddingParams(jnp.array(first))
    if kind is Linear:
        b = jnp.array(found[names[1]]) if module.with_bias else None
        return Linear(*sizes, use_bias=module.with_bias, dtype=dtype), LinearParams(jnp.array(first), b)
    options = {name: values[0] for name, values in LAYOUTS[kind].options.items()}
    cell = kind(*sizes, **options, dtype=dtype)
    return cell, to_params(cell, _weights(kind, list(found.values())))


def write(place: str, layer: Any, params: Params, rounding: bool) -> list[np.ndarray]:
    """The inverse of :func:`read`: the arrays of a cell, Linear or Embedding in the order of ``ENTRIES``."""
    if type(layer) in (Linear, Embedding):
        return [np.asarray(array) for array in params if array is not None]
    if type(layer) is ConvLSTM:
        return list(convolutions.from_params(params, LAYOUTS[ConvLSTM], adds=1))  # type: ignore[arg-type]
    layout, weights = LAYOUTS[type(layer)], from_params(params)
    w_xh, w_hh, b, _ = map(np.asarray, weights)
    if type(layer) is LSTM:
        b = _minus_one(f"b_h of {place}", b, rounding)
        return [layout.theirs(np.concatenate([w_xh, w_hh])), layout.theirs(b)]
    arrays = [w_xh, b, w_hh] if type(layer) is VanillaRNN else [w_xh, w_hh, b]
    return [layout.theirs(a) for a in arrays]


def _weights(kind: Any, arrays: list[np.ndarray]) -> Weights:
    """The weights of a cell, from its arrays in the order of ``ENTRIES``."""
    first, second, *rest = (LAYOUTS[kind].ours(a) for a in arrays)
    if kind is LSTM:
        H = first.shape[1] // 4
        return Weights(first[:-H], first[-H:], add_to_gate(second, "f", 1))
    if kind is VanillaRNN:
        w_hh, *b_h = rest
        return Weights(first, w_hh, second, *b_h)
    return Weights(first, second, *rest)


def _minus_one(place: str, b: np.ndarray, rounding: bool) -> np.ndarray:
    """The bias of an LSTM without the 1 that hk.LSTM adds to its forget gate; refused where it would be rounded."""
    less = add_to_gate(b, "f", -1)
    rounded = b[add_to_gate(less, "f", 1) != b]
    if rounded.size and not rounding:
        checks.refuse(
            place, "forget biases b with (b - 1) + 1 == b, as all from 0.5 to 2 are", rounded[0],
            "hk.LSTM adds 1, and b - 1 is no floating number of this dtype; rounding=True rounds it",
        )  # fmt: skip
    return less
