"""A graph of ONNX as a model.

======================  ============================================================================================
:mod:`.model`           ``from_model``: what the outputs of the graph are
:mod:`.walk`            the nodes in order: constants are evaluated, moved elements are followed by their labels
:mod:`.layers`          the operators that are layers
:mod:`.recurrent`       RNN, GRU and LSTM in their place; :mod:`.cells` their attributes and weights
:mod:`.labels`          labels of elements, and what a layer reads from them
:mod:`.chains`          layers one after another, and what becomes of two of them that meet
:mod:`.graph`           the file
======================  ============================================================================================
"""

from jaxrnn.interop.onnx.reader.model import from_model

__all__ = ["from_model"]
