"""Rebuild a model from its printed constructor call; user-defined classes and functions are imported."""

from __future__ import annotations

import functools
import importlib
import os
import re
from typing import Any

from jaxrnn.checks import refuse
from jaxrnn.constructor import find_custom_objects, from_repr, registered_class


def constructor_call(model: Any) -> str:
    """The printed constructor call of a model, without memory addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(model))


def class_modules(model: Any) -> dict[str, list[str] | None]:
    """Module and qualified name of each class and function of a model that is not part of jaxrnn, by printed name."""
    return {
        name: None if part is None else [str(part.__module__), getattr(part, "__qualname__", part.__name__)]
        for name, part in find_custom_objects(model).items()
    }


def rebuild_model(call: str, modules: dict[str, list[str] | None], folder: os.PathLike) -> Any:
    """The model that prints as ``call``; refused, with its name, if a part of it cannot be imported.

    The modules of :func:`class_modules` are imported. Only classes with a method ``init``, as models have, are called,
    with literals and models as arguments; functions are not called here.
    """
    if " object>" in call:
        refuse("model", f"the model, since {call} in {folder} does not print as its constructor call", "None",
               f"load_model({str(folder)!r}, model={_as_code(call)}), or make its class a dataclass")  # fmt: skip
    try:
        model = from_repr(call, {name: _import(name, origin) for name, origin in modules.items()})
        if constructor_call(model) == call:
            return model
        reason: Exception = ValueError(f"it is {constructor_call(model)} today")
    except (TypeError, ValueError, LookupError) as error:
        reason = error
    refuse("model", f"the model, since {call} in {folder} cannot be rebuilt: {reason}", "None",
           f"load_model({str(folder)!r}, model={_as_code(call)})")  # fmt: skip


def _import(name: str, origin: list[str] | None) -> Any:
    """The class or function of that module and qualified name."""
    if origin is None:
        raise LookupError(f"several things print as {name}")
    module, qualname = origin
    full_name, known = f"{qualname} of {module}", registered_class(name)
    if known is not None and [known.__module__, known.__qualname__] == origin:
        return known
    if module == "__main__" or "<" in qualname:
        raise LookupError(f"{full_name} cannot be imported, as it is not at the top level of a module with a name")
    try:
        part = functools.reduce(getattr, qualname.split("."), importlib.import_module(module))
    except Exception as error:  # a module may raise anything on import
        raise LookupError(f"{full_name} cannot be imported ({type(error).__name__}: {error})") from error
    if isinstance(part, type) and not callable(getattr(part, "init", None)):
        raise LookupError(f"{full_name} is not called, as it has no method init, as models have")
    return part


def _as_code(call: str) -> str:
    """A printed call as Python code; an object that does not print as a call becomes ``Class(...)``."""
    return re.sub(r"<?(?:[\w.]*\.)?(?:<locals>\.)?(\w+) object>", r"\1(...)", re.sub(r"[\w.]*<locals>\.", "", call))
