"""Models and parameters to and from other libraries: exact, or refused with the reason.

Each submodule is imported when it is first used, and with it the other library only when a function needs it.

==================  ==============================================================================================
torch, keras        ``from_module(module) -> (model, params)`` and ``to_module(model, params) -> module``
nnx, equinox        the same, and ``Module(model, ...)``, a model of jaxrnn as a module there; ``keras.Layer(model)``
linen, haiku        ``from_params(module, params) -> (model, params)`` and ``to_params(model, params)``
onnx                ``from_model(proto_or_path) -> (model, params)`` and ``to_model(model, params) -> ModelProto``
safetensors         ``save(path, model, params)`` and ``load(path)``
==================  ==============================================================================================

The layouts of weights are compared in :mod:`jaxrnn.interop.layouts`.
"""

import importlib
from typing import Any

__all__ = ["equinox", "haiku", "keras", "linen", "nnx", "onnx", "safetensors", "torch"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"jaxrnn.interop.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
