"""Keras 3: layers and models to models and parameters, and back; a model of jaxrnn as a layer. Exact, or refused.

=====================================================  ==========================================================
Keras                                                  jaxrnn
=====================================================  ==========================================================
``LSTM``, ``GRU``, ``SimpleRNN``; ``RNN`` of cells     ``LSTM``, ``GRU``, ``VanillaRNN``; of several: a ``Stack``
``ConvLSTM1D``, ``2D``, ``3D``, channels last           ``ConvLSTM``
``Bidirectional``, of any merge mode                   ``Bidirectional``
``Embedding``, ``Dense``, ``TimeDistributed`` of it    ``Embedding``, ``Linear`` and ``Activation``
``Dropout``, ``Activation``, ``ReLU``, ``Softmax``     ``Dropout``, ``Activation``
``Sequential``, a functional model of one chain        ``Stack``
``Add``, ``Concatenate`` of an input and its output    ``Residual``
``return_sequences=False``, then ``Dense``             ``tasks.Classifier(..., pooling="last")``
``Masking``, ``mask_zero=True``                        ``unroll(..., lengths=lengths(module, inputs))``
=====================================================  ==========================================================

The conversions read and write the weights of built layers, on any backend; :class:`Layer` is for the JAX backend. For
files use those of Keras: ``from_module(keras.models.load_model(path))``, and ``to_module(model, params).save(path)``.
On the JAX backend Keras casts parts of a float64 model to float32, tanh for instance: the values agree to 1e-6 then.
"""

from typing import Any

from jaxrnn.checks import refuse
from jaxrnn.interop.keras.reading import from_module, lengths
from jaxrnn.interop.keras.states import from_state, to_state
from jaxrnn.interop.keras.tables import keras as _keras
from jaxrnn.interop.keras.writing import to_module

__all__ = ["Layer", "from_module", "from_state", "lengths", "to_module", "to_state"]


def __getattr__(name: str) -> Any:
    if name != "Layer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if (backend := _keras().backend.backend()) != "jax":
        refuse("keras.backend.backend()", "'jax'", repr(backend),
               "a Layer computes with jax: set KERAS_BACKEND=jax before the first import of keras", ImportError,
               )  # fmt: skip
    from jaxrnn.interop.bridges.keras import Layer

    return Layer
