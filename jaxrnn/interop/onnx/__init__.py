"""Models to and from ONNX: the operators RNN, GRU and LSTM, never an unrolled graph.

``from_model(proto_or_path) -> (model, params)`` and ``to_model(model, params) -> onnx.ModelProto``. The arrays of the
operators are compared with the parameters of cells in :mod:`jaxrnn.interop.onnx.operators`.
"""

from jaxrnn.interop.onnx.reader import from_model
from jaxrnn.interop.onnx.writer import to_model

__all__ = ["from_model", "to_model"]
