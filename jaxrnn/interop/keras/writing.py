"""jaxrnn to Keras."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxrnn import checks
from jaxrnn.cells import GRU, ConvLSTM, VanillaRNN
from jaxrnn.interop import convolutions
from jaxrnn.interop.arrays import one_dtype, parameters
from jaxrnn.interop.checks import counterpart
from jaxrnn.interop.keras.tables import FUNCTIONS, LAYOUTS, MERGES, OVER_FEATURES, RESIDUALS, keras
from jaxrnn.interop.layouts import from_params
from jaxrnn.interop.structure import layers, parts_of_layers
from jaxrnn.layers import Activation, Bidirectional, Dropout, Embedding, Linear, Residual, Reverse, Stack
from jaxrnn.tasks.classifier import Classifier
from jaxrnn.tasks.pooling import is_pointwise
from jaxrnn.types import Params, input_ndim


def to_module(model: Any, params: Params) -> Any:
    """Convert a model and its parameters to a layer of Keras, or for a stack to a Sequential model.

    Recurrent layers have ``return_sequences=True``; those of a :class:`~jaxrnn.tasks.Classifier` give the last output.
    Keras is batch-first, ``[B, T, I]``, jaxrnn time-major: the outputs are ``module(xs.swapaxes(0, 1))``.

    Args:
        model: VanillaRNN, LSTM (no peepholes, not coupled), GRU and ConvLSTM (no peepholes) cells, Bidirectional of
            them or of stacks of them, Embedding, Linear, Dropout, Activation and Residual layers, a Stack of these, or
            a Classifier of it with ``pooling="last"``.
        params: its parameters, or a tree of the same structure, such as gradients; of one dtype, which the layers get.

    Returns:
        A layer or a ``keras.Sequential``, built, with the weights set. In its padding a mask of Keras repeats the last
        output, where lengths of jaxrnn give 0.

    Raises:
        ImportError: Keras is not installed.
        TypeError: a part of the model has no counterpart.
        ValueError: a hyperparameter has none, such as a residual connection around the last recurrent layer of a
            Classifier; the parameters are not those of the model.

    Example:
        .. code-block:: python

            model = rnn.tasks.Classifier(rnn.Stack(rnn.Embedding(65, 8), rnn.Bidirectional(rnn.LSTM(8, 16))), 3)
            module = rnn.interop.keras.to_module(model, model.init(jax.random.key(0)))
            module.summary()  # Embedding, Bidirectional, Dense
            module.save("classifier.keras")
    """
    library = keras()
    params = parameters(model, params)
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    dtype = one_dtype("params", arrays, "one module has one: jax.tree.map casts them") if arrays else None
    write = _Writer(library, dtype)
    if type(model) is Classifier:
        return write.classifier(model, params)
    return write.model("model", model, params)


class _Writer:
    """Makes built layers, all of one dtype."""

    def __init__(self, library: Any, dtype: str | None, axes: tuple[None, ...] = (None,)) -> None:
        self.keras, self.layers, self.dtype = library, library.layers, dtype
        self.axes = axes  # of inputs between batch and features: time, or none above the last output

    def model(self, place: str, model: Any, params: Params) -> Any:
        """A layer, or a Sequential model of the layers of a stack."""
        if type(model) is not Stack:
            return self.layer(place, model, params)
        parts = zip(layers(place, model), parts_of_layers(model, params), strict=True)
        return self.sequential(model, [self.layer(*named, part) for named, part in parts])

    def classifier(self, model: Classifier, params: Any) -> Any:
        """The layers of the encoder, of which the last recurrent one gives its last output, and a Dense."""
        if model.pooling != "last":
            checks.refuse("model.pooling", "'last'", repr(model.pooling), "convert model.encoder and model.readout")
        named = list(layers("model.encoder", model.encoder))
        top = max((n for n, (_, layer) in enumerate(named) if not is_pointwise(layer)), default=None)
        if top is None:
            checks.refuse("model.encoder", "a recurrent layer", repr(model.encoder), "it has no last output in Keras")
        if type(named[top][1]) is Residual:
            checks.refuse(named[top][0], "a last recurrent layer without a residual connection", repr(named[top][1]),
                          "Keras adds all steps, and has no layer for the last one: convert model.encoder")  # fmt: skip
        above = _Writer(self.keras, self.dtype, axes=())
        parts = parts_of_layers(model.encoder, params.encoder)
        made = [
            (self if n <= top else above).layer(place, layer, part, return_sequences=n != top)
            for n, ((place, layer), part) in enumerate(zip(named, parts, strict=True))
        ]
        made += [self.layers.Dropout(model.dropout, dtype=self.dtype)] if model.dropout else []
        return self.sequential(model.encoder, [*made, above.layer("model.readout", model.readout, params.readout)])

    def sequential(self, model: Any, made: list[Any]) -> Any:
        """A Sequential model with the inputs of a model of jaxrnn."""
        return self.keras.Sequential([self.input(model), *made])

    def input(self, model: Any) -> Any:
        if input_ndim(model) == 0:
            return self.keras.Input(self.axes, dtype="int32")
        image = getattr(first(model), "input_shape", (getattr(model, "input_size", None),))
        return self.keras.Input((*self.axes, *image), dtype=self.dtype)

    def layer(self, place: str, model: Any, params: Any, return_sequences: bool = True) -> Any:
        """A built layer with its weights."""
        if type(model) is Residual:
            return self.residual(place, model, params)
        if type(model) is Embedding:
            made = self.layers.Embedding(model.vocabulary_size, model.output_size, dtype=self.dtype)
            return self.with_weights(made, (None, *self.axes), params)
        if type(model) is Linear:
            made = self.layers.Dense(model.output_size, use_bias=model.use_bias, dtype=self.dtype)
            return self.with_weights(made, (None, *self.axes, model.input_size), params)
        if type(model) is Dropout:
            return self.layers.Dropout(model.rate, dtype=self.dtype)
        if type(model) is Activation:
            return self.layers.Activation(
                _name(f"{place}.function", model.function, FUNCTIONS | OVER_FEATURES), dtype=self.dtype
            )
        return self.recurrent(place, model, params, return_sequences)

    def with_weights(self, made: Any, shape: tuple[int | None, ...], params: Any) -> Any:
        """Build a layer, and set its weights: the arrays of Embedding and Linear are in the order of Keras."""
        made.build(shape)
        made.set_weights([np.asarray(leaf) for leaf in jax.tree.leaves(params)])
        return made

    def residual(self, place: str, model: Residual, params: Any) -> Any:
        """A functional model: the input merged with the output of the layers."""
        x = self.input(model)
        merge = next(name for name, merge in RESIDUALS.items() if merge == model.merge)
        y = self.model(f"{place}.layer", model.layer, params)(x)
        return self.keras.Model(x, getattr(self.layers, merge)(dtype=self.dtype)([x, y]))

    # ---- recurrent layers ----

    def recurrent(self, place: str, model: Any, params: Any, return_sequences: bool) -> Any:
        """A cell as the layer of that name, both directions as Bidirectional."""
        options = {"return_sequences": return_sequences, "dtype": self.dtype}
        if type(model) is Reverse:
            if return_sequences:
                checks.refuse(place, "a layer of Keras", repr(model), "go_backwards=True returns the outputs in "
                              "reversed time: only as the last recurrent layer of a Classifier it is the same",
                              TypeError)  # fmt: skip
            place, model, options["go_backwards"] = f"{place}.layer", model.layer, True
        if type(model) is not Bidirectional:
            made, arrays = self.direction(place, model, params, options)
        else:
            (forward, arrays), (backward, more) = (
                self.direction(f"{place}.{name}", cell, part, options | {"go_backwards": name == "backward"})
                for name, cell, part in zip(("forward", "backward"), model.directions, params, strict=True)
            )
            mode = next(mode for mode, merge in MERGES.items() if merge == model.merge)
            made = self.layers.Bidirectional(forward, merge_mode=mode, backward_layer=backward, dtype=self.dtype)
            arrays = arrays + more
        made.build((None, None, *getattr(first(model), "input_shape", (model.input_size,))))
        made.set_weights(arrays)
        return made

    def direction(self, place: str, model: Any, params: Any, options: dict[str, Any]) -> tuple[Any, list[np.ndarray]]:
        """A recurrent layer in one direction, to be built, and its weights; a stack is an RNN of several cells."""
        named, parts = list(layers(place, model)), parts_of_layers(model, params)
        found = [counterpart(path, cell, LAYOUTS, "Keras") for path, cell in named]
        arrays = [array for (_, cell), part in zip(named, parts, strict=True) for array in _arrays(cell, part)]
        if type(model) is not Stack:
            name = found[0].name + (f"{model.input_ndim - 1}D" if type(model) is ConvLSTM else "")
            return getattr(self.layers, name)(**self.options(*named[0]), **options), arrays
        cells = [
            getattr(self.layers, f"{layout.name}Cell")(**self.options(path, cell), dtype=self.dtype)
            for layout, (path, cell) in zip(found, named, strict=True)
        ]
        return self.layers.RNN(self.layers.StackedRNNCells(cells, dtype=self.dtype), **options), arrays

    def options(self, place: str, cell: Any) -> dict[str, Any]:
        """The arguments of a layer or cell of Keras that are hyperparameters of a cell."""
        if type(cell) is ConvLSTM:
            return {"filters": cell.hidden_size, "kernel_size": cell.kernel_shape, "strides": cell.strides,
                    "padding": cell.padding, "dilation_rate": cell.dilation, "use_bias": cell.use_bias}  # fmt: skip
        options = {"units": cell.hidden_size, "use_bias": cell.use_bias}
        if type(cell) is VanillaRNN:
            options["activation"] = _name(f"{place}.activation", cell.activation, FUNCTIONS)
        if type(cell) is GRU:
            options["reset_after"] = cell.reset_after
        if self.dtype in ("float16", "bfloat16"):  # in which Keras cannot draw orthogonal matrices
            options["recurrent_initializer"] = "glorot_uniform"
        return options


def _arrays(cell: Any, params: Any) -> list[np.ndarray]:
    """Kernel, recurrent kernel and bias: two rows for a GRU that resets after the product."""
    if type(cell) is ConvLSTM:
        w_x, b_x, w_h, _ = convolutions.from_params(params, LAYOUTS[ConvLSTM])
        return [array for array in (w_x, w_h, b_x) if array is not None]
    layout, weights = LAYOUTS[type(cell)], from_params(params)
    arrays = [layout.theirs(array) for array in weights if array is not None]
    return arrays[:2] + ([np.stack(arrays[2:])] if len(arrays) == 4 else arrays[2:])


def first(model: Any) -> Any:
    """The first layer with sizes of a stack, or of one direction: what the shape of the inputs is read from."""
    layers = [layer for layer in getattr(model, "layers", ()) if not getattr(layer, "preserves_size", False)]
    inner = layers or [getattr(model, "forward", None) or getattr(model, "layer", None)]
    return model if inner[0] is None else first(inner[0])


def _name(place: str, function: Any, known: dict[str, Any]) -> str:
    """The name in keras.activations of a function."""
    names = {ours: name for name, ours in known.items()}
    if function not in names:
        checks.refuse(place, " or ".join(map(repr, known)), repr(function), "Keras has no counterpart of it by name")
    return names[function]
