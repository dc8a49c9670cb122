"""Keras to jaxrnn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.cells import GRU, LSTM, ConvLSTM, VanillaRNN
from jaxrnn.interop import convolutions
from jaxrnn.interop.arrays import to_numpy
from jaxrnn.interop.keras import graph
from jaxrnn.interop.keras.checks import check_layers, check_mask
from jaxrnn.interop.keras.tables import (
    CONVOLUTIONS,
    FUNCTIONS,
    LAYOUTS,
    MERGES,
    ONE_DIRECTION,
    OVER_FEATURES,
    keras,
    prefix_lengths,
)
from jaxrnn.interop.layouts import Weights, to_params
from jaxrnn.layers import (
    Activation,
    Bidirectional,
    Dropout,
    Embedding,
    EmbeddingParams,
    Linear,
    LinearParams,
    Residual,
    Reverse,
    Stack,
)
from jaxrnn.tasks.classifier import Classifier, ClassifierParams
from jaxrnn.types import Array, Params

CELLS: dict[str, Any] = {"SimpleRNNCell": VanillaRNN, "LSTMCell": LSTM, "GRUCell": GRU}
LOGITS = tuple(map(Activation, ("softmax", "log_softmax", "sigmoid")))  # what makes them probabilities


class Part(NamedTuple):
    """A layer and its parameters; ``pooled`` if it gives its last output only."""

    model: Any
    params: Params
    pooled: bool = False


def from_module(
    module: Any, *, lengths: bool = False, logits: bool = False, inference: bool = False
) -> tuple[Any, Params]:
    """Convert a layer or a model of Keras to a model and its parameters.

    Sequential and functional models of one chain of layers convert, of any depth, and residual connections in them. A
    recurrent layer with ``return_sequences=False``, the layers above it and a last Dense are a
    :class:`~jaxrnn.tasks.Classifier`. Without that Dense the output of the module is
    ``rnn.tasks.pooling.last(model, params, xs)`` where ``rnn.unroll`` gives the outputs of all steps.

    Keras is batch-first, ``[B, T, I]``, jaxrnn time-major: the inputs are ``xs.swapaxes(0, 1)``. Final states, of
    ``return_state=True``, are those that ``rnn.unroll`` returns, and it takes the initial one: :func:`from_state`,
    :func:`to_state`. Layers above a state, and a state given within a functional model, are refused.

    A sequence of length 0 has the last output 0, in jaxrnn that of the whole encoder, in Keras that of the recurrent
    layer: a Dense between this and the readout adds its bias there.

    Args:
        module: a layer, a cell or a model, built; not of a subclass, whose ``call`` may be different.
        lengths: whether the caller passes ``lengths=`` to the model in place of the mask that the module makes by
            Masking or ``mask_zero``; :func:`lengths` computes them. In the padding Keras repeats the last output of a
            recurrent layer, and jaxrnn has 0.
        logits: whether a last softmax or sigmoid is left out, as losses of jaxrnn take logits; a
            :class:`~jaxrnn.tasks.Classifier` has none.
        inference: whether options that act in training only are left out: dropout within cells, regularizers,
            constraints, frozen weights.

    Returns:
        ``(model, params)``; the parameters have the dtype of the module.

    Raises:
        ImportError: Keras is not installed.
        TypeError: a layer has no counterpart, or the layers are not one chain.
        ValueError: an option of a layer has none.

    Example:
        .. code-block:: python

            module = keras.models.load_model("tagger.keras")  # Embedding, Bidirectional(LSTM), TimeDistributed(Dense)
            model, params = rnn.interop.keras.from_module(module, lengths=True)
            lengths = rnn.interop.keras.lengths(module, ids)
            _, ys = rnn.unroll(model, params, ids.T, lengths=lengths)  # [T, B, classes]
    """
    library = keras()
    for name, value in {"lengths": lengths, "logits": logits, "inference": inference}.items():
        checks.flag(name, value)
    steps = graph.chain(library, "module", module)
    layers = list(graph.flat(steps))
    check_layers(library, layers, READERS, inference)
    check_mask(library, steps, lengths)
    return _assemble(_read_chain(library, steps), logits)


def lengths(module: Any, inputs: Any) -> Array:
    """The lengths of sequences, by the mask that a module makes of its inputs.

    Args:
        module: with one Masking layer, or an Embedding with ``mask_zero=True``.
        inputs: those of the module, ``[B, T, I]`` or token ids ``[B, T]``.

    Returns:
        ints ``[B]``, for ``rnn.unroll(..., lengths=...)``.

    Raises:
        ImportError: Keras is not installed.
        ValueError: the module makes no mask, or the mask leaves out steps before the last one.

    Example:
        .. code-block:: python

            module = keras.Sequential([keras.layers.Embedding(9, 4, mask_zero=True), keras.layers.LSTM(5)])
            rnn.interop.keras.lengths(module, np.array([[3, 8, 0], [2, 0, 0]]))  # [2, 1]
    """
    library = keras()
    steps = graph.chain(library, "module", module)
    index = check_mask(library, steps, True)
    if index is None:
        checks.refuse("module", "a Masking layer or an Embedding with mask_zero=True",
                      f"no mask of a {type(module).__name__}", "all its sequences have length T")  # fmt: skip
    x = library.ops.convert_to_tensor(inputs)
    for _, layer in steps[:index]:
        x = layer(x)
    mask = library.ops.convert_to_numpy(steps[index][1].compute_mask(x))
    return jnp.asarray(prefix_lengths("inputs", mask))


# ---- models ------------------------------------------------------------------------------------------------------


def _assemble(parts: list[Part], logits: bool) -> tuple[Any, Params]:
    """One model of the parts: a layer, a stack, or a classifier."""
    if logits and parts and parts[-1].model in LOGITS:
        parts = parts[:-1]
    if not parts:
        checks.refuse("module", "at least one layer", "a model without layers", error=TypeError)
    if not any(part.pooled for part in parts):
        return _stack(parts)
    if parts[-1].model in LOGITS:
        checks.refuse("module", "logits", f"{parts[-1].model!r} above the last output",
                      "a Classifier gives logits: from_module(module, logits=True) leaves it out")  # fmt: skip
    *below, top = parts
    if type(top.model) is not Linear:
        return _stack(parts)
    if not top.model.use_bias:
        checks.refuse("module", "a last Dense with use_bias=True", "use_bias=False",
                      "the readout of a Classifier has a bias: give the Dense one of zeros")  # fmt: skip
    rate = 0.0
    if type(below[-1].model) is Dropout:
        rate = below.pop().model.rate
    encoder, params = _stack(below)
    model = Classifier(encoder, top.model.output_size, dropout=rate, dtype=top.model.dtype)
    return model, ClassifierParams(params, (), top.params)


def _stack(parts: list[Part]) -> tuple[Any, Params]:
    """The only part, or a stack of several."""
    if len(parts) == 1:
        return parts[0].model, parts[0].params
    return Stack(*[part.model for part in parts]), tuple(part.params for part in parts)


def _read_chain(library: Any, steps: list[tuple[str, Any]]) -> list[Part]:
    found: list[Part] = []
    for place, layer in steps:
        if isinstance(layer, graph.Residual):
            inner = _read_chain(library, layer.chain)
            if any(part.pooled for part in inner):
                checks.refuse(place, "an input and an output of all steps", "the last output of a recurrent layer")
            model, params = _stack(inner)
            found.append(Part(Residual(model, layer.merge), params))
        else:
            found += READERS[graph.kind(library, layer)](library, place, layer)
    return found


# ---- layers ------------------------------------------------------------------------------------------------------


def _recurrent(library: Any, place: str, layer: Any) -> list[Part]:
    """An RNN, LSTM, GRU or SimpleRNN: its cells one after another."""
    found = _cells_of(library, place, layer)
    if layer.go_backwards:
        if layer.return_sequences:
            checks.refuse(f"{place}.go_backwards", "False", "True with return_sequences=True",
                          "Keras returns the outputs in reversed time: Bidirectional(layer, merge_mode=None) has both "
                          "directions in the order of the inputs, as rnn.Reverse has them")  # fmt: skip
        model, params = _stack(found)
        found = [Part(Reverse(model), params)]
    return [*found[:-1], found[-1]._replace(pooled=not layer.return_sequences)]


def _cells_of(library: Any, place: str, layer: Any) -> list[Part]:
    """The cells of an RNN, LSTM, GRU or SimpleRNN."""
    if layer.zero_output_for_mask and not layer.return_sequences:
        checks.refuse(f"{place}.zero_output_for_mask", "False", "True",
                      "the last output of a padded sequence is 0 then, in jaxrnn that of its last step")  # fmt: skip
    if graph.kind(library, layer) in CONVOLUTIONS:
        return [_convolution(library, f"{place}.cell", layer.cell)]
    return _cells(library, f"{place}.cell", layer.cell)


def _convolution(library: Any, place: str, cell: Any) -> Part:
    """The cell of a ConvLSTM1D, 2D or 3D."""
    _function(library, f"{place}.activation", cell.activation, ["tanh"])
    _function(library, f"{place}.recurrent_activation", cell.recurrent_activation, ["sigmoid"])
    if cell.data_format != "channels_last":
        checks.refuse(f"{place}.data_format", "'channels_last'", repr(cell.data_format), "transpose the images")
    w_x, w_h, *bias = _weights(library, cell)
    arrays = convolutions.Convolutions(w_x, bias[0] if bias else None, w_h)
    options = {"strides": cell.strides, "dilation": cell.dilation_rate, "padding": cell.padding.upper()}
    return Part(*convolutions.to_model(place, arrays, LAYOUTS[ConvLSTM], cell.spatial_dims, **options))


def _cells(library: Any, place: str, cell: Any) -> list[Part]:
    """A cell of Keras, or several in StackedRNNCells."""
    name = graph.kind(library, cell)
    if name == "StackedRNNCells":
        return [part for n, one in enumerate(cell.cells) for part in _cells(library, f"{place}.cells[{n}]", one)]
    if name not in CELLS:
        kinds = ", ".join(CELLS)
        checks.refuse(place, f"one of {kinds}, or StackedRNNCells of them", type(cell).__name__,
                      "write it as a cell of jaxrnn: init, initial_state and step", TypeError)  # fmt: skip
    kind = CELLS[name]
    kernel, recurrent, *bias = _weights(library, cell)
    options: dict[str, Any] = {"use_bias": cell.use_bias, "dtype": kernel.dtype.name}
    if kind is VanillaRNN:
        options["activation"] = _function(library, f"{place}.activation", cell.activation, FUNCTIONS)
    else:
        _function(library, f"{place}.activation", cell.activation, ["tanh"])
        _function(library, f"{place}.recurrent_activation", cell.recurrent_activation, ["sigmoid"])
    if kind is GRU:
        options["reset_after"] = cell.reset_after
    layout, model = LAYOUTS[kind], kind(kernel.shape[0], cell.units, **options)
    biases = [layout.ours(b) for a in bias for b in a.reshape(-1, kernel.shape[1])]  # of a GRU [2, 3H], or [G·H]
    return [Part(model, to_params(model, Weights(layout.ours(kernel), layout.ours(recurrent), *biases)))]


def _bidirectional(library: Any, place: str, layer: Any) -> list[Part]:
    directions = []
    for name, backwards in (("forward_layer", False), ("backward_layer", True)):
        path, inner = f"{place}.{name}", getattr(layer, name)
        if graph.kind(library, inner) not in ONE_DIRECTION:
            checks.refuse(path, f"one of {', '.join(ONE_DIRECTION)}", type(inner).__name__, error=TypeError)
        if inner.go_backwards != backwards:
            checks.refuse(f"{path}.go_backwards", str(backwards), str(inner.go_backwards),
                          "exchange the two layers, and their outputs")  # fmt: skip
        directions.append(Part(*_stack(_cells_of(library, path, inner))))
    forward, backward = directions
    other = None if backward.model == forward.model else backward.model
    model = Bidirectional(forward.model, other, MERGES[layer.merge_mode])
    return [Part(model, (forward.params, backward.params), not layer.forward_layer.return_sequences)]


def _embedding(library: Any, place: str, layer: Any) -> list[Part]:
    (w,) = _weights(library, layer)
    return [Part(Embedding(*w.shape, dtype=w.dtype.name), EmbeddingParams(jnp.array(w)))]


def _dense(library: Any, place: str, layer: Any) -> list[Part]:
    w, *b = _weights(library, layer)
    model = Linear(*w.shape, use_bias=layer.use_bias, dtype=w.dtype.name)
    linear = Part(model, LinearParams(jnp.array(w), jnp.array(b[0]) if b else None))
    return [linear, *_activation(library, place, layer)]


def _activation(library: Any, place: str, layer: Any) -> list[Part]:
    """The activation of a layer; none for the identity."""
    function = _function(library, f"{place}.activation", layer.activation, FUNCTIONS | OVER_FEATURES)
    return [] if function is FUNCTIONS["linear"] else [Part(Activation(function), ())]


def _relu(library: Any, place: str, layer: Any) -> list[Part]:
    for name, neutral in (("max_value", None), ("negative_slope", 0), ("threshold", 0)):
        if (value := getattr(layer, name)) != neutral:
            checks.refuse(f"{place}.{name}", repr(neutral), repr(value), "rnn.Activation takes any function")
    return [Part(Activation("relu"), ())]


def _softmax(library: Any, place: str, layer: Any) -> list[Part]:
    if layer.axis != -1:
        checks.refuse(f"{place}.axis", "-1, the features", repr(layer.axis))
    return [Part(Activation("softmax"), ())]


def _time_distributed(library: Any, place: str, layer: Any) -> list[Part]:
    name = graph.kind(library, layer.layer)
    if name not in POINTWISE:
        checks.refuse(f"{place}.layer", f"one of {', '.join(POINTWISE)}", type(layer.layer).__name__, error=TypeError)
    return POINTWISE[name](library, f"{place}.layer", layer.layer)


def _weights(library: Any, layer: Any) -> list[np.ndarray]:
    """The weights of a layer as arrays of its dtype: on some backends NumPy gets bfloat16 as float32."""
    arrays = [library.ops.convert_to_numpy(variable.value) for variable in layer.weights]
    return [to_numpy(layer.name, array).astype(jnp.dtype(layer.variable_dtype)) for array in arrays]


def _function(library: Any, place: str, function: Any, known: Any) -> Any:
    """What jaxrnn calls a function of keras.activations; refuses those that are not among the known names."""
    name = getattr(function, "__name__", repr(function))
    if name not in known or getattr(library.activations, name, None) is not function:
        of_any = isinstance(known, dict)
        fix = "rnn.Activation and rnn.VanillaRNN take any function" if of_any else "the cell has no other"
        checks.refuse(place, " or ".join(map(repr, known)), name, fix)
    return known[name] if isinstance(known, dict) else name


POINTWISE: dict[str, Callable[[Any, str, Any], list[Part]]] = {
    "Dense": _dense,
    "Activation": _activation,
    "ReLU": _relu,
    "Softmax": _softmax,
    "Dropout": lambda library, place, layer: [Part(Dropout(layer.rate), ())],
}
READERS: dict[str, Callable[[Any, str, Any], list[Part]]] = {
    **dict.fromkeys(ONE_DIRECTION, _recurrent),
    **dict.fromkeys((*CELLS, "StackedRNNCells"), _cells),
    "Bidirectional": _bidirectional,
    "Embedding": _embedding,
    "Masking": lambda library, place, layer: [],
    "TimeDistributed": _time_distributed,
    **POINTWISE,
}
