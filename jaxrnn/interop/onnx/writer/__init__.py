"""A model as a graph of ONNX.

======================  ============================================================================================
:mod:`.model`           ``to_model``: inputs, outputs and metadata
:mod:`.layers`          layers, each as its ``over_time`` has it; :mod:`.pooling` a classifier
:mod:`.recurrent`       a cell: an RNN, GRU or LSTM, or a Scan of its step
:mod:`.tracing`         a function of JAX as nodes, by the table of :mod:`.primitives`
                        (those of :mod:`.elementwise` element by element)
:mod:`.graph`           values, nodes, initializers
======================  ============================================================================================
"""

from jaxrnn.interop.onnx.writer.model import to_model

__all__ = ["to_model"]
