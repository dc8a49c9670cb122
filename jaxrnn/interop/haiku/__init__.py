"""Conversion of Haiku's modules and their parameters to models and parameters, and back: exact, or refused.

A module of Haiku exists only inside ``hk.transform``, so it is given as the function that makes it, and its parameters
lie apart, by its name: ``{"lstm/linear": {"w": [I + H, 4H], "b": [4H]}}``. The order of gates is in
:mod:`jaxrnn.interop.haiku.arrays`.

================================  ==================================================================================
Haiku                             jaxrnn
================================  ==================================================================================
hk.LSTM(H)                        LSTM(I, H): it adds 1 to the forget gate in every step, which is in ``b_h`` here
hk.GRU(H)                         GRU(I, H)
hk.VanillaRNN(H)                  VanillaRNN(I, H, activation="relu"); a second bias is added to the first
hk.Conv2DLSTM(shape, H, k)        ``ConvLSTM((*shape, C), H, k)``, the 1 as in an LSTM; 1 to 3 axes
hk.Linear(O), hk.Embed(V, E)      Linear(I, O), Embedding(V, E)
hk.DeepRNN(layers)                Stack of the layers; those of an hk.Sequential in it are its own
jax.nn.relu and other functions   Activation("relu")
hk.IdentityCore()                 Dropout(0.0)
================================  ==================================================================================

``hk.dynamic_unroll`` is time-major unless told otherwise, as :func:`~jaxrnn.unroll` is, and returns ``(ys, state)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.cells import GRU, LSTM, ConvLSTM, LSTMState, VanillaRNN
from jaxrnn.interop.arrays import parameters
from jaxrnn.interop.checks import class_name, counterpart, library, one_each
from jaxrnn.interop.functions import from_function, to_function
from jaxrnn.interop.haiku import arrays as arrays_of
from jaxrnn.interop.haiku.arrays import ENTRIES, LAYOUTS
from jaxrnn.interop.structure import batch_shape, layers, parts_of_layers
from jaxrnn.layers import Activation, Bidirectional, Dropout, Embedding, Linear, Stack
from jaxrnn.types import Params, State

__all__ = ["from_params", "from_state", "to_module", "to_params", "to_state"]

FIXES = {
    "_DeepRNN": "deep_rnn_with_skip_connections returns the outputs of all layers, which no layer here does",
    "ResetCore": "resets are an argument here: convert its core, then rnn.unroll(..., resets=should_reset)",
    "BatchApply": "a layer needs none here: outside of a core give the modules in order, lambda: [core, BatchApply(f)]",
    Bidirectional: "Haiku has none: convert both directions, one for hk.dynamic_unroll(..., reverse=True)",
    Dropout: "hk.dropout is a function with a key: Dropout(0.0) in its place converts, to hk.IdentityCore()",
}


# ---- Haiku to jaxrnn ---------------------------------------------------------------------------------------------


def from_params(module: Callable[[], Any], params: Mapping[str, Any], *, name: str = "") -> tuple[Any, Params]:
    """Convert parameters of Haiku to a model and its parameters.

    ``b_h`` of an LSTM is ``b + 1`` in the forget gate, and that of a VanillaRNN the sum of both biases: exact up to one
    rounding.

    Args:
        module: the function that makes the module, or a list of modules that follow one another, such as a core and an
            ``hk.BatchApply(hk.Linear(2))`` of its outputs. It is called once, in a transform of its own.
        params: parameters by the names of these modules, of ``hk.transform(...).init``.
        name: of the module around them, if any: ``"net"`` reads only ``"net/lstm/linear"`` and the like; modules made
            in its ``__init__`` are in ``"net/~"``.

    Returns:
        ``(model, params)``; each layer has the dtype of its parameters.

    Raises:
        ImportError: Haiku is not installed.
        TypeError: a module or function has no counterpart, or ``module`` makes none.
        ValueError: parameters are missing, left over or of another shape; a module is used twice.

    Example:
        .. code-block:: python

            make = lambda: hk.DeepRNN([hk.Embed(65, 8), hk.LSTM(16), hk.Linear(65)])
            model, params = rnn.interop.haiku.from_params(make, haiku_params)
            model  # Stack(Embedding(65, 8), LSTM(8, 16), Linear(16, 65))
    """
    hk = _haiku()
    made, arrays = _make(hk, module), arrays_of.flat(params, name)
    if isinstance(made, (list, tuple)):
        parts = [_read(hk, f"module[{i}]", _applied(hk, part), arrays) for i, part in enumerate(made)]
        model, converted = Stack(*(model for model, _ in parts)), tuple(params for _, params in parts)
    else:
        model, converted = _read(hk, "module", _applied(hk, made), arrays)
    if besides := [arrays_of.place_of(path) for path, array in arrays.items() if array is not arrays_of.TAKEN]:
        checks.refuse("params", "only those of the modules", f"{besides[0]} besides",
                      "hk.data_structures.filter takes those of one module")  # fmt: skip
    return model, converted


def from_state(model: Any, state: Any) -> State:
    """Convert a state of Haiku to a state of the model.

    Args:
        model: of :func:`from_params`, or any model that :func:`to_params` takes.
        state: of ``core.initial_state`` or ``hk.dynamic_unroll``: an ``hk.LSTMState(hidden, cell)``, an array, or of a
            DeepRNN a tuple with one entry per core.

    Returns:
        A state for :func:`~jaxrnn.unroll`, with an entry for every layer.

    Raises:
        TypeError, ValueError: the model has no counterpart in Haiku, or the state is not one of it.

    Example:
        .. code-block:: python

            ys, state = hk.dynamic_unroll(core, xs, core.initial_state(4))
            final, ys = rnn.unroll(model, params, more_xs, rnn.interop.haiku.from_state(model, state))
    """
    to_module(model)

    def convert(layer: Any, state: Any) -> State:
        if type(layer) is Stack:
            one_each("state", state, sum(map(_is_core, layer.layers)), "core")
            entries = iter(state)
            return tuple(convert(part, next(entries)) if _is_core(part) else () for part in layer.layers)
        return LSTMState(*state) if type(layer) in (LSTM, ConvLSTM) else state

    return checks.state_like("state", model, convert(model, state), batch_shape(model, state))


def _read(hk: Any, place: str, module: Any, arrays: dict[str, Any]) -> tuple[Any, Params]:
    """The layer of a module and its parameters, which are taken from ``arrays``."""
    kinds = {hk.VanillaRNN: VanillaRNN, hk.LSTM: LSTM, hk.GRU: GRU, hk.Linear: Linear, hk.Embed: Embedding}
    kinds |= dict.fromkeys((hk.Conv1DLSTM, hk.Conv2DLSTM, hk.Conv3DLSTM), ConvLSTM)
    if type(module) in (hk.DeepRNN, hk.Sequential):
        parts = [_read(hk, *part, arrays) for part in _layers(hk, place, module)]
        return Stack(*(model for model, _ in parts)), tuple(params for _, params in parts)
    if type(module) is hk.IdentityCore:
        return Dropout(0.0), ()
    if type(module) in kinds:
        return arrays_of.read(kinds[type(module)], module, arrays)
    if isinstance(module, (type, hk.Module, hk.BatchApply)) or not callable(module):
        checks.refuse(place, f"an hk.DeepRNN, hk.IdentityCore, {', '.join(f'hk.{k.__name__}' for k in kinds)} or a "
                      "function", class_name(module),
                      FIXES.get(type(module).__name__, "jaxrnn has no counterpart of it"), TypeError)  # fmt: skip
    return from_function(place, module), ()


# ---- jaxrnn to Haiku ---------------------------------------------------------------------------------------------


def to_module(model: Any) -> Callable[[], Any]:
    """Convert a model to the function that makes its module.

    Args:
        model: VanillaRNN (relu), LSTM (no peepholes, not coupled) or GRU (``reset_after=False``) cells, all with a
            bias, ConvLSTM (no peepholes, strides or dilation), Linear, Embedding, Activation or Dropout(0.0), or a
            Stack of these, which becomes an hk.DeepRNN.

    Returns:
        The function, to be called inside of ``hk.transform``.

    Raises:
        ImportError: Haiku is not installed.
        TypeError: a part of the model has no counterpart.
        ValueError: a hyperparameter has none.

    Example:
        .. code-block:: python

            model = rnn.Stack(rnn.GRU(3, 5), rnn.Linear(5, 2))
            make = rnn.interop.haiku.to_module(model)
            run = hk.transform(lambda xs, state: hk.dynamic_unroll(make(), xs, state))
            state = rnn.interop.haiku.to_state(model, model.initial_state((4,)))
            ys, state = run.apply(rnn.interop.haiku.to_params(model, params), None, xs, state)
    """
    checks.model("model", model)
    hk = _haiku()

    def make() -> Any:
        return _to_module(hk, "model", model)

    _make(hk, make)  # refuses what has no counterpart
    return make


def to_params(model: Any, params: Params, *, name: str = "", rounding: bool = False) -> dict[str, dict[str, jax.Array]]:
    """Convert parameters to those of the module that :func:`to_module` makes.

    An hk.LSTM adds 1 to its forget gate in every step, so of a forget bias b it has ``b - 1``. That is exact, and
    ``(b - 1) + 1 == b``, for every b from 0.5 to 2 (Sterbenz's lemma), and from -255 to 255 for every b that came from
    Haiku, but not for all others: 0.1 - 1 takes more digits than 0.1 has.

    Args:
        model: a model that :func:`to_module` takes.
        params: its parameters.
        name: of the module around it, as in :func:`from_params`.
        rounding: whether to round ``b - 1`` where it is not exact, by at most half a unit in its last place; else such
            a bias is refused.

    Returns:
        Arrays by module and name, in the dtypes of the parameters, under the names that Haiku gives to these modules.

    Raises:
        ImportError: Haiku is not installed.
        TypeError, ValueError: the model has no counterpart, or the parameters are not those of the model; a forget bias
            would be rounded.

    Example:
        .. code-block:: python

            model = rnn.LSTM(3, 5)
            rnn.interop.haiku.to_params(model, model.init(key))  # {"lstm/linear": {"w": ..., "b": ...}}
    """
    checks.flag("rounding", rounding)
    hk = _haiku()
    modules = _leaves(hk, _make(hk, to_module(model)))
    parts = parts_of_layers(model, parameters(model, params))
    converted: dict[str, dict[str, jax.Array]] = {}
    for (place, layer), part, module in zip(layers("model", model), parts, modules, strict=True):
        if type(layer) in ENTRIES:
            names = arrays_of.paths(type(layer), module)
            for path, array in zip(names, arrays_of.write(place, layer, part, rounding), strict=True):
                key, _, entry = f"{name}/{path}".removeprefix("/").rpartition("/")
                converted.setdefault(key, {})[entry] = jnp.array(array)
    return converted


def to_state(model: Any, state: State) -> Any:
    """Convert a state of the model to a state of Haiku.

    Args:
        model: a model that :func:`to_module` takes.
        state: its state, with at most one batch axis.

    Returns:
        An ``hk.LSTMState(hidden, cell)``, an array, or for a Stack a tuple with one entry per core.

    Raises:
        ImportError: Haiku is not installed.
        TypeError, ValueError: the model has no counterpart, or the state is not one of the model.

    Example:
        .. code-block:: python

            final, ys = rnn.unroll(model, params, xs)
            ys, state = hk.dynamic_unroll(core, more_xs, rnn.interop.haiku.to_state(model, final))
    """
    to_module(model)
    hk = _haiku()

    def convert(layer: Any, state: State) -> Any:
        if type(layer) is Stack:
            return tuple(convert(p, s) for p, s in zip(layer.layers, state, strict=True) if _is_core(p))
        return hk.LSTMState(*state) if type(layer) in (LSTM, ConvLSTM) else state

    return convert(model, checks.state_like("state", model, state, batch_shape(model, state)))


def _to_module(hk: Any, place: str, layer: Any) -> Any:
    """The module of a layer; called inside of a transform."""
    if type(layer) is Stack:
        return hk.DeepRNN([_to_module(hk, f"{place}.layers[{i}]", part) for i, part in enumerate(layer.layers)])
    if type(layer) is Linear:
        return hk.Linear(layer.output_size, with_bias=layer.use_bias)
    if type(layer) is Embedding:
        return hk.Embed(layer.vocabulary_size, layer.output_size)
    if type(layer) is Activation:
        return to_function(layer.function)
    if type(layer) is Dropout and layer.rate == 0:
        return hk.IdentityCore()
    counterpart(place, layer, LAYOUTS, "Haiku", FIXES.get(type(layer), ""))
    if type(layer) is VanillaRNN:
        return hk.VanillaRNN(layer.hidden_size, double_bias=False)
    if type(layer) is ConvLSTM:
        make = (hk.Conv1DLSTM, hk.Conv2DLSTM, hk.Conv3DLSTM)[layer.input_ndim - 2]
        return make(layer.input_shape[:-1], layer.hidden_size, layer.kernel_shape)
    return {LSTM: hk.LSTM, GRU: hk.GRU}[type(layer)](layer.hidden_size)


# ---- modules, their names and arrays -----------------------------------------------------------------------------


def _haiku() -> Any:
    return library("haiku", "Haiku", "'jaxrnn[haiku]'")


def _make(hk: Any, function: Callable[[], Any]) -> Any:
    """What a function of modules returns, alone in a transform: their names are those of their parameters."""
    if not callable(function) or isinstance(function, (type, hk.Module)):
        checks.refuse("module", "a function that makes the module, such as lambda: hk.LSTM(5)",
                      checks.describe(function), error=TypeError)  # fmt: skip
    made: list[Any] = []
    hk.transform(lambda: made.append(function())).init(None)
    return made[0]


def _applied(hk: Any, module: Any) -> Any:
    """The module that an hk.BatchApply of a whole sequence applies to every step; other modules are their own."""
    return module._f if type(module) is hk.BatchApply and module.num_dims <= 2 else module


def _layers(hk: Any, place: str, module: Any) -> Iterator[tuple[str, Any]]:
    """The layers of an hk.DeepRNN with their paths; those of an hk.Sequential in it are its own, as it has no state."""
    for index, layer in enumerate(module.layers):
        path = f"{place}.layers[{index}]"
        yield from _layers(hk, path, layer) if type(layer) is hk.Sequential else [(path, layer)]


def _leaves(hk: Any, module: Any) -> list[Any]:
    """The modules in an hk.DeepRNN in order, nested ones included; any other module is alone."""
    return [leaf for m in module.layers for leaf in _leaves(hk, m)] if type(module) is hk.DeepRNN else [module]


def _is_core(layer: Any) -> bool:
    """Whether the layer of a stack has a state in Haiku: an empty one for hk.IdentityCore."""
    return type(layer) in (Stack, Dropout, *LAYOUTS)
