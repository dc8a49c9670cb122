"""Conversion of Equinox's modules to models and parameters, and back: exact, or refused; and a model as a module.

Equinox has cells for one step of one sequence, and no module that scans, so users write their own. What converts are
its parts, in order: ``from_module([module.embedding, module.cell, module.readout])``.

=====================================  =============================================================================
Equinox                                jaxrnn
=====================================  =============================================================================
eqx.nn.LSTMCell(I, H)                  LSTM(I, H)
eqx.nn.GRUCell(I, H)                   GRU(I, H, reset_after=True), update gate z as 1 - z
eqx.nn.Linear(I, O)                    Linear(I, O)
eqx.nn.Embedding(V, E)                 Embedding(V, E)
eqx.nn.Dropout(p)                      Dropout(p), in training where :func:`~jaxrnn.unroll` gets a key
eqx.nn.Identity()                      Dropout(0.0)
eqx.nn.Lambda(jax.nn.relu)             Activation("relu")
eqx.nn.Sequential, a list or tuple     Stack of the parts
=====================================  =============================================================================

:class:`Module` is any model of jaxrnn as an ``eqx.Module``.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.cells import GRU, LSTM, LSTMState
from jaxrnn.interop import layouts
from jaxrnn.interop.arrays import one_dtype, parameters, shape, to_numpy
from jaxrnn.interop.checks import class_name, counterpart, library, one_each
from jaxrnn.interop.functions import from_function, to_function
from jaxrnn.interop.layouts import Layout, Weights
from jaxrnn.interop.structure import batch_shape, cells, from_parts_of_cells, parts_of_cells
from jaxrnn.layers import Activation, Bidirectional, Dropout, Embedding, EmbeddingParams, Linear, LinearParams, Stack
from jaxrnn.types import Params, State

__all__ = ["Module", "from_module", "from_state", "to_module", "to_state"]  # noqa: F822, the first by __getattr__

LAYOUTS = {
    LSTM: Layout("LSTMCell", "ifco", "", {"peepholes": ("",), "coupled": (False,)},
                 "eqx.nn.LSTMCell has neither peepholes nor coupled gates"),
    GRU: Layout("GRUCell", "rzh", "z", {"reset_after": (True,)},
                "eqx.nn.GRUCell resets after the product, and the two forms do not convert into each other"),
}  # fmt: skip

FIELDS = {  # the arrays of a module; the biases are None without use_bias
    LSTM: ("weight_ih", "weight_hh", "bias"),
    GRU: ("weight_ih", "weight_hh", "bias", "bias_n"),
    Linear: ("weight", "bias"),
    Embedding: ("weight",),
}

NO_SCAN = "Equinox has no module that scans: convert both directions by themselves, or use equinox.Module(model)"


def __getattr__(name: str) -> Any:
    if name != "Module":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _equinox()
    from jaxrnn.interop.bridges.equinox import Module

    return Module


# ---- Equinox to jaxrnn -------------------------------------------------------------------------------------------


def from_module(module: Any) -> tuple[Any, Params]:
    """Convert a module of ``equinox.nn``, or a sequence of them, to a model and its parameters.

    Args:
        module: one of the table above; of a module of your own its parts, in the order in which they are applied.

    Returns:
        ``(model, params)``. The module acts on one step of one sequence, the model on ``[T, ..., I]``. Whether dropout
        acts is no part of it: ``inference`` there, a key or none here.

    Raises:
        ImportError: Equinox is not installed.
        TypeError: the module is of another class.
        ValueError: a size is ``"scalar"``, or arrays are of another shape than the sizes say.

    Example:
        .. code-block:: python

            keys = jax.random.split(jax.random.key(0))
            parts = [eqx.nn.GRUCell(3, 5, key=keys[0]), eqx.nn.Linear(5, 2, key=keys[1])]
            model, params = rnn.interop.equinox.from_module(parts)
            model  # Stack(GRU(3, 5, reset_after=True), Linear(5, 2))
    """
    return _read(_equinox(), "module", module)


def from_state(model: Any, state: Any) -> State:
    """Convert states of Equinox's cells to a state of the model.

    Args:
        model: of :func:`from_module`, or any model of LSTM and GRU cells.
        state: of one cell ``(h, c)`` or ``h``; of several a sequence of these, in order, forward before backward.

    Returns:
        A state for :func:`~jaxrnn.unroll`.

    Raises:
        TypeError, ValueError: a cell has no counterpart, or the state is not one of the model.

    Example:
        .. code-block:: python

            h, c = cell(x, (h, c))
            final, ys = rnn.unroll(model, params, xs, rnn.interop.equinox.from_state(model, (h, c)))
    """
    kinds = _kinds(model)
    parts = [state] if type(model) in LAYOUTS else state
    one_each("state", parts, len(kinds), "cell")
    converted = [LSTMState(*part) if kind is LSTM else part for kind, part in zip(kinds, parts, strict=True)]
    return checks.state_like("state", model, from_parts_of_cells(model, iter(converted)), batch_shape(model, state))


def _read(eqx: Any, place: str, module: Any) -> tuple[Any, Params]:
    """The layer of a module and its parameters."""
    nn = eqx.nn
    if type(module) in (list, tuple, nn.Sequential):
        layers = ".layers" if type(module) is nn.Sequential else ""
        parts = [_read(eqx, f"{place}{layers}[{index}]", part) for index, part in enumerate(module)]
        return Stack(*(layer for layer, _ in parts)), tuple(params for _, params in parts)
    if type(module) is nn.Identity:
        return Dropout(0.0), ()
    if type(module) is nn.Dropout:
        checks.fraction(f"{place}.p", checks.known_number(f"{place}.p", module.p))
        return Dropout(float(module.p)), ()
    if type(module) is nn.Lambda:
        return from_function(f"{place}.fn", module.fn), ()
    if type(module) is nn.LSTMCell:
        return _read_cell(LSTM, place, module)
    if type(module) is nn.GRUCell:
        return _read_cell(GRU, place, module)
    if type(module) is nn.Linear:
        return _read_linear(place, module)
    if type(module) is nn.Embedding:
        (w,) = _arrays(place, module, Embedding, [(module.num_embeddings, module.embedding_size)])
        return Embedding(*w.shape, dtype=w.dtype.name), EmbeddingParams(jnp.array(w))
    _refuse_module(eqx, place, module)


def _read_cell(kind: Any, place: str, module: Any) -> tuple[Any, Params]:
    layout, I, H = LAYOUTS[kind], module.input_size, module.hidden_size  # noqa: E741
    G = len(layout.gates)
    arrays = _arrays(place, module, kind, [(G * H, I), (G * H, H), (G * H,), (H,)])
    w_ih, w_hh, *bias = arrays
    options = {name: values[0] for name, values in layout.options.items()}
    cell = kind(I, H, **options, use_bias=bool(bias), dtype=w_ih.dtype.name)
    biases = [layout.ours(bias[0]), *map(layouts.state_bias, bias[1:])] if bias else []
    return cell, layouts.to_params(cell, Weights(layout.ours(w_ih.T), layout.ours(w_hh.T), *biases))


def _read_linear(place: str, module: Any) -> tuple[Linear, Params]:
    sizes = (module.in_features, module.out_features)
    if "scalar" in sizes:
        checks.refuse(place, "numbers of features", f"in_features={sizes[0]!r}, out_features={sizes[1]!r}",
                      "a size of 1 keeps the axis of features, which every layer here has")  # fmt: skip
    w, *b = _arrays(place, module, Linear, [sizes[::-1], sizes[1:]])
    linear = Linear(*sizes, use_bias=bool(b), dtype=w.dtype.name)
    return linear, LinearParams(jnp.array(w.T), jnp.array(b[0]) if b else None)


def _arrays(place: str, module: Any, kind: Any, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """The arrays in ``FIELDS`` of a module, without the biases that it does not have."""
    names = FIELDS[kind] if getattr(module, "use_bias", True) else [f for f in FIELDS[kind] if "bias" not in f]
    arrays = [to_numpy(f"{place}.{name}", getattr(module, name)) for name in names]
    for name, array, expected in zip(names, arrays, shapes, strict=False):
        shape(f"{place}.{name}", array, expected)
    one_dtype(place, arrays, "give all its arrays one dtype")
    return arrays


def _refuse_module(eqx: Any, place: str, module: Any) -> NoReturn:
    """A module without counterpart; of a user's own, its parts are named."""
    fix = "jaxrnn has no counterpart of it"
    if type(module) is eqx.nn.MLP and getattr(module, "scan", False):  # older versions have no such option
        fix = "make it with scan=False, which has the same layers one by one"
    elif isinstance(module, eqx.Module):
        parts = ", ".join(_parts(eqx, place, module))
        order = "" if type(module) is eqx.nn.MLP else " in the order in which its __call__ applies them"
        fix = f"pass its parts{order}: [{parts}]" if parts else fix
    elif callable(module):
        fix = "eqx.nn.Lambda(function) is the module of a function"
    checks.refuse(place, "an LSTMCell, GRUCell, Linear, Embedding, Dropout, Identity, Lambda or Sequential of "
                  "eqx.nn, or a sequence of them", class_name(module), fix, TypeError)  # fmt: skip


def _parts(eqx: Any, place: str, module: Any) -> list[str]:
    """The parts of a module as expressions: modules, and functions as modules."""
    if type(module) is eqx.nn.MLP:
        hidden = [(f"{place}.layers[{n}]", f"eqx.nn.Lambda({place}.activation)") for n in range(module.depth)]
        final = [f"eqx.nn.Lambda({place}.final_activation)"] if hidden else []
        return [*(part for pair in hidden for part in pair), f"{place}.layers[{module.depth}]", *final]

    def expressions(place: str, value: Any) -> list[str]:
        if isinstance(value, (list, tuple)):
            return [part for n, item in enumerate(value) for part in expressions(f"{place}[{n}]", item)]
        if isinstance(value, eqx.Module):
            return [place]
        return [f"eqx.nn.Lambda({place})"] if callable(value) and not isinstance(value, type) else []

    fields = [field.name for field in dataclasses.fields(module)]
    return [part for name in fields for part in expressions(f"{place}.{name}", getattr(module, name))]


# ---- jaxrnn to Equinox -------------------------------------------------------------------------------------------


def to_module(model: Any, params: Params) -> Any:
    """Convert a model and its parameters to modules of ``equinox.nn``.

    The biases of the update and the reset gate of a GRU are summed, since eqx.nn.GRUCell has one of each: exact up to
    one rounding.

    Args:
        model: LSTM (no peepholes, not coupled), GRU (``reset_after=True``), Linear, Embedding, Activation or Dropout,
            or a Stack of these.
        params: its parameters.

    Returns:
        The module of the table above. A Stack becomes an ``eqx.nn.Sequential``, or a tuple of its parts in order if one
        of them is a cell: Equinox has no module that scans. :class:`Module` is the whole model as one module.

    Raises:
        ImportError: Equinox is not installed.
        TypeError: a part of the model has no counterpart.
        ValueError: a hyperparameter has none, or the parameters are not those of the model.

    Example:
        .. code-block:: python

            model = rnn.Stack(rnn.LSTM(3, 5), rnn.Linear(5, 2))
            cell, readout = rnn.interop.equinox.to_module(model, params)
            h, c = cell(x, (h, c))  # x: [I]
            y = readout(h)
    """
    checks.model("model", model)
    return _write(_equinox(), "model", model, parameters(model, params))


def to_state(model: Any, state: State) -> Any:
    """Convert a state of the model to states of Equinox's cells.

    Args:
        model: any model of LSTM and GRU cells.
        state: its state.

    Returns:
        ``(h, c)`` or ``h`` of one cell; for any other model a tuple of these, in order, forward before backward.

    Raises:
        TypeError, ValueError: a cell has no counterpart, or the state is not one of the model.

    Example:
        .. code-block:: python

            final, ys = rnn.unroll(model, params, xs)
            h, c = cell(x, rnn.interop.equinox.to_state(model, final))
    """
    kinds = _kinds(model)
    state = checks.state_like("state", model, state, batch_shape(model, state))
    parts = parts_of_cells(model, state)
    converted = tuple(tuple(part) if kind is LSTM else part for kind, part in zip(kinds, parts, strict=True))
    return converted[0] if type(model) in LAYOUTS else converted


def _write(eqx: Any, place: str, layer: Any, params: Params) -> Any:
    """The module of a layer."""
    nn = eqx.nn
    if type(layer) is Stack:
        pairs = enumerate(zip(layer.layers, params, strict=True))
        parts = tuple(_write(eqx, f"{place}.layers[{index}]", *pair) for index, pair in pairs)
        steps = any(type(part) in (tuple, nn.LSTMCell, nn.GRUCell) for part in parts)  # nn.Sequential cannot call them
        return parts if steps else nn.Sequential(parts)
    if type(layer) is Dropout:
        return nn.Dropout(layer.rate)
    if type(layer) is Activation:
        return nn.Lambda(to_function(layer.function))
    if type(layer) is Embedding:
        return nn.Embedding(weight=jnp.array(params.w))
    if type(layer) is Linear:
        arrays = [params.w.T] if params.b is None else [params.w.T, params.b]
        return _filled(eqx, nn.Linear, arrays, layer.input_size, layer.output_size, layer.use_bias)
    layout = counterpart(place, layer, LAYOUTS, "Equinox", NO_SCAN if type(layer) is Bidirectional else "")
    weights: Any = layouts.from_params(params)
    arrays = [layout.theirs(weights.w_xh).T, layout.theirs(weights.w_hh).T]
    if layer.use_bias and type(layer) is GRU:
        b, b_n = layouts.candidate_bias(weights)  # type: ignore[misc]
        arrays += [layout.theirs(b), b_n]
    elif layer.use_bias:
        arrays += [layout.theirs(weights.b_x)]
    return _filled(eqx, getattr(nn, layout.name), arrays, layer.input_size, layer.hidden_size, layer.use_bias)


def _filled(eqx: Any, kind: Any, arrays: list[Any], *arguments: Any) -> Any:
    """A module with these arrays in place of those that its constructor would draw, which are not computed."""
    empty = eqx.filter_eval_shape(kind, *arguments, key=jax.random.key(0))
    return jax.tree.unflatten(jax.tree.structure(empty), [jnp.array(a) for a in arrays])


# ---- common to both ----------------------------------------------------------------------------------------------


def _equinox() -> Any:
    return library("equinox", "Equinox", "'jaxrnn[equinox]'")


def _kinds(model: Any) -> list[type]:
    """The kinds of the cells of a model, in order."""
    checks.model("model", model)
    pairs = list(cells("model", model))
    for place, cell in pairs:
        counterpart(place, cell, LAYOUTS, "Equinox")
    return [type(cell) for _, cell in pairs]
