"""Rebuild a model from its printed constructor call; user-defined classes and functions are imported."""

from __future__ import annotations

import ast
import functools
import importlib
import os
import re
from typing import Any

from jaxrnn.checks import refuse
from jaxrnn.constructor import find_custom_objects, from_repr, named_functions, registered_class


def constructor_call(model: Any) -> str:
    """The printed constructor call of a model: functions by their names, numbers of NumPy as those of Python."""
    call = repr(model)
    for printed, name in named_functions(model).items():
        call = call.replace(printed, name)
    call = re.sub(r"\bnp\.(?:u?int|float)\d+\(([-+.\w]+)\)|\bnp\.(True|False)_", r"\1\2", call)
    return _without_addresses(call)


def is_call_of(call: str, model: Any) -> bool:
    """Whether a stored constructor call is that of the model; earlier versions stored what the model prints."""
    return call in (constructor_call(model), _without_addresses(repr(model)))


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)


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
    as_code = f"load_model({str(folder)!r}, model={_as_code(call)})"
    try:
        if " object>" not in call:
            known = {name: _import(name, origin) for name, origin in modules.items()}
            ast.parse(call, mode="eval")
            model = _build(call, known)
            if is_call_of(call, model):
                return model
            raise ValueError(f"it is {constructor_call(model)} today")
    except SyntaxError:  # of the printed call
        pass
    except (TypeError, ValueError, LookupError) as error:
        refuse("model", f"the model, since {call} in {folder} cannot be rebuilt: {error}", "None", as_code)
    refuse("model", f"the model, since {call} in {folder} does not print as its constructor call", "None",
           f"{as_code}, or make its class a dataclass of literals, models and functions of modules (no partial)",
           )  # fmt: skip


def _build(call: str, known: dict[str, Any]) -> Any:
    try:
        return from_repr(call, known)
    except TypeError as error:  # of a constructor
        raise TypeError(f"a class has other arguments today ({error})") from error


def _import(name: str, origin: list[str] | None) -> Any:
    """The class or function of that module and qualified name."""
    if origin is None:
        raise LookupError(f"several things print as {name}")
    module, qualname = origin
    full_name, known = f"{qualname} of {module}", registered_class(name)
    if known is not None and [known.__module__, known.__qualname__] == origin:
        return known
    if module == "__main__" or "<" in qualname:
        place = ("is a lambda" if "<lambda>" in qualname else "was defined inside a function" if "<" in qualname
                 else "was defined in the program or notebook that trained it, not in a module")  # fmt: skip
        raise LookupError(f"{full_name} cannot be imported, as it {place}")
    try:
        part = functools.reduce(getattr, qualname.split("."), importlib.import_module(module))
    except Exception as error:  # a module may raise anything on import
        hint = "; is its folder on sys.path?" if isinstance(error, ModuleNotFoundError) else ""
        raise LookupError(f"{full_name} cannot be imported ({type(error).__name__}: {error}{hint})") from error
    if isinstance(part, type) and not callable(getattr(part, "init", None)):
        raise LookupError(f"{full_name} is not called, as it has no method init, as models have")
    return part


def _as_code(call: str) -> str:
    """A printed call as Python code; an object that does not print as a call becomes ``Class(...)``, others ``...``."""
    call = re.sub(r"<?(?:[\w.]*\.)?(?:<locals>\.)?(\w+) object>", r"\1(...)", re.sub(r"[\w.]*<locals>\.", "", call))
    call = re.sub(r"(?:[\w.]*<(?:[^<>]|<[^<>]*>)*>)+", "...", call)  # lambdas, and functions that print as such
    return call.replace("__main__.", "")
