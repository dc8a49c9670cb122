"""Modules of PyTorch as models with parameters, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.cells import LSTM, VanillaRNN
from jaxrnn.interop.arrays import one_dtype, parameters, to_numpy
from jaxrnn.interop.structure import layers, parts_of_layers
from jaxrnn.interop.torch.checks import check_embedding, check_own_weights, check_plain, refuse_module
from jaxrnn.interop.torch.functions import NAMES, from_function, to_function
from jaxrnn.interop.torch.state_dicts import (
    LAYOUTS,
    Run,
    cells_of,
    from_state_dict,
    runs,
    state_dict_of,
    to_tensor,
    torch_library,
)
from jaxrnn.layers import Activation, Bidirectional, Dropout, Embedding, EmbeddingParams, Linear, LinearParams, Stack
from jaxrnn.types import Params

RECURRENT = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")


# ---- PyTorch to jaxrnn -------------------------------------------------------------------------------------------


def from_module(module: Any, *, inference: bool = False) -> tuple[Any, Params]:
    """Convert a module, or several in order, to a model and its parameters.

    ==================================  ==============================================================
    ``ys, h = module(xs)``              ``final, ys = rnn.unroll(model, params, xs)``
    ``batch_first=True``                ``xs.swapaxes(0, 1)``: a model is time-major, ``[T, B, I]``
    ``pack_padded_sequence(xs, n)``     ``rnn.unroll(..., lengths=n)``: in any order, 0 in the padding
    ``module.train()``                  ``rnn.unroll(..., key=key)``: dropout acts
    ``p.requires_grad``                 not converted: the optimizer decides what is trained
    ==================================  ==============================================================

    Args:
        module: an nn.RNN, nn.LSTM or nn.GRU or one of their cells; an nn.Embedding, nn.Linear or nn.Dropout; an
            activation that :class:`~jaxrnn.Activation` has too; or an nn.Sequential, nn.ModuleList, list or tuple of
            these, nested or not, each applied to the outputs of the one before. Of a class of your own, whose
            ``forward`` cannot be read, pass its parts in that order: ``[m.embedding, m.lstm, m.head]``.
        inference: whether options that act in training only are left out: ``padding_idx`` and other gradients of an
            nn.Embedding, backward hooks.

    Returns:
        ``(model, params)``, a flat :class:`~jaxrnn.Stack` if there are several parts or layers. The two biases of
        nn.RNN and nn.LSTM are summed.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError: a module is of another class, or of a subclass, whose ``forward`` may be different.
        ValueError: an option has no counterpart (``padding_idx``, …), a module has hooks or a patched
            ``forward``, sizes do not follow from each other, or two parts share their weights.

    Example:
        .. code-block:: python

            module = torch.nn.LSTM(3, 5, num_layers=2, batch_first=True)
            model, params = rnn.interop.torch.from_module(module)  # Stack(LSTM(3, 5), LSTM(5, 5))
            final, ys = rnn.unroll(model, params, xs, lengths=lengths)  # xs: [T, B, 3]
    """
    checks.flag("inference", inference)
    parts = list(_parts("module", module, inference))
    converted = [_from_part(place, part, inference) for place, part in parts]
    check_own_weights(parts)
    if len(parts) == 1 and parts[0][1] is module:
        return converted[0]
    deep = [layer for model, _ in converted for _, layer in layers("", model)]
    return Stack(*deep), tuple(part for model, params in converted for part in parts_of_layers(model, params))


def _parts(place: str, module: Any, inference: bool) -> Iterator[tuple[str, Any]]:
    """The modules of a sequence, of nested ones too, in order, with their paths; any other module is one part."""
    nn = torch_library().nn
    from jaxrnn.interop.bridges.torch import Sequential

    if type(module) in (list, tuple, nn.Sequential, nn.ModuleList, Sequential):
        if isinstance(module, nn.Module):
            check_plain(place, module, inference)
        for index, part in enumerate(module):
            yield from _parts(f"{place}[{index}]", part, inference)
    else:
        yield place, module


def _from_part(place: str, module: Any, inference: bool) -> tuple[Any, Params]:
    """The layer, or the stack of a deep recurrent module, and its parameters."""
    name = type(module).__name__
    if type(module) is not getattr(torch_library().nn, name, None):
        refuse_module(place, module)
    check_plain(place, module, inference)
    if name in RECURRENT:
        return from_state_dict(
            module.state_dict(prefix=f"{place}."),
            nonlinearity=getattr(module, "nonlinearity", "tanh"),
            dropout=getattr(module, "dropout", 0.0),
            prefix=f"{place}.",
        )
    if name == "Embedding":
        check_embedding(place, module, inference)
        w, _ = _weights(place, module)
        return Embedding(*w.shape, dtype=w.dtype.name), EmbeddingParams(jnp.array(w))
    if name == "Linear":
        w, b = _weights(place, module)
        layer = Linear(*w.T.shape, use_bias=b is not None, dtype=w.dtype.name)
        return layer, LinearParams(jnp.array(w.T), None if b is None else jnp.array(b))
    if name == "Dropout":
        checks.fraction(f"{place}.p", module.p)
        return Dropout(module.p), ()
    if name in NAMES:
        return from_function(place, module), ()
    refuse_module(place, module)


def _weights(place: str, module: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """The arrays ``weight`` and ``bias`` of a module; None is no bias."""
    arrays = {name: to_numpy(f"{place}.{name}", value) for name, value in module.state_dict().items()}
    if arrays.keys() - {"bias"} != {"weight"}:
        checks.refuse(place, "weight and bias", ", ".join(sorted(arrays)), "jaxrnn has no other parameters of it")
    return arrays["weight"], arrays.get("bias")


# ---- jaxrnn to PyTorch -------------------------------------------------------------------------------------------


def to_module(model: Any, params: Params) -> Any:
    """Convert a model and its parameters to a module of PyTorch.

    Consecutive layers that one nn.RNN, nn.LSTM or nn.GRU can hold become one: recurrent layers of the same kind, hidden
    size and options, and dropout of one rate between them. The bias of a VanillaRNN or an LSTM becomes ``bias_ih``, and
    ``bias_hh`` is 0; training moves both.

    Args:
        model: layers that have a counterpart, see :mod:`jaxrnn.interop.torch`, one or a Stack of them.
        params: its parameters, all of one dtype.

    Returns:
        A module in training mode, time-major as is PyTorch's default. If one holds the whole model, that one; else a
        ``rnn.interop.torch.Sequential`` with ``ys, states = module(xs, states)``: ``states`` is a tuple with the state
        of each recurrent part, as of :func:`~jaxrnn.interop.torch.to_state`, or None. It takes a PackedSequence too.
        :func:`from_module` gives the model back without initializers, and nested stacks as one.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError: a layer has no counterpart; the message names it.
        ValueError: an option of a layer has none, or the parameters are not those of the model.

    Example:
        .. code-block:: python

            model = rnn.Stack(rnn.Embedding(65, 8), rnn.LSTM(8, 16), rnn.LSTM(16, 16), rnn.Linear(16, 65))
            params = model.init(jax.random.key(0))
            module = rnn.interop.torch.to_module(model, params)  # Sequential(Embedding, LSTM(num_layers=2), Linear)
            logits, ((h_n, c_n),) = module(torch.zeros(7, 3, dtype=int))  # [T, B, 65]
    """
    modules = runs(model)
    params = parameters(model, params)
    if leaves := jax.tree.leaves(params):
        one_dtype("params", leaves, "modules of PyTorch promote none: cast all to one")
    parts = iter(parts_of_layers(model, params))
    converted = [_to_part(run, [next(parts) for _ in run]) for run in modules]
    if len(converted) == 1:
        return converted[0]
    from jaxrnn.interop.bridges.torch import Sequential

    return Sequential(*converted)


def _to_part(run: Run, params: list[Params]) -> Any:
    """The module that consecutive layers are together."""
    nn = torch_library().nn
    place, layer = run[0]
    if type(layer) is Embedding:
        return _filled(nn.Embedding, {"weight": to_tensor(params[0].w)}, layer.vocabulary_size, layer.output_size)
    if type(layer) is Linear:
        weights = {"weight": params[0].w.T} | ({"bias": params[0].b} if layer.use_bias else {})
        tensors = {name: to_tensor(array) for name, array in weights.items()}
        return _filled(nn.Linear, tensors, layer.input_size, layer.output_size, bias=layer.use_bias)
    if type(layer) is Dropout:
        return nn.Dropout(layer.rate)
    if type(layer) is Activation:
        return to_function(place, layer)
    if type(layer) is not Bidirectional and type(layer) not in LAYOUTS:
        checks.refuse(place, "a VanillaRNN, LSTM or GRU, a Bidirectional of them, an Embedding, Linear, Dropout or "
                      "Activation, or a Stack of these", repr(layer), "PyTorch has no such module",
                      TypeError)  # fmt: skip
    cells, directions = cells_of(run)
    cell = cells[0]
    return _filled(
        getattr(nn, LAYOUTS[type(cell)].name.removeprefix("nn.")),
        state_dict_of(run, params),
        cell.input_size,
        cell.hidden_size,
        len(cells) // directions,
        bias=cell.use_bias,
        bidirectional=directions == 2,
        dropout=next((other.rate for _, other in run if type(other) is Dropout), 0.0),
        **({"nonlinearity": cell.activation} if type(cell) is VanillaRNN else {}),
        **({"proj_size": cell.projection_size or 0} if type(cell) is LSTM else {}),
    )


def _filled(kind: Callable, tensors: dict[str, Any], *sizes: int, **options: Any) -> Any:
    """A module with these weights. It draws no random ones: on PyTorch's "meta" device nothing is computed."""
    module = kind(*sizes, **options, device="meta")
    module.load_state_dict(tensors, assign=True)
    return module
