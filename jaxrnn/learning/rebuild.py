"""A model from its printed call, with classes and functions of the user's own from the modules that they are in."""

from __future__ import annotations

import functools
import importlib
import os
import re
from typing import Any

from jaxrnn.checks import refuse
from jaxrnn.constructor import find_custom_objects, from_repr, registered_class


def constructor_call(model: Any) -> str:
    """The constructor call of a model; an address says nothing about it."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(model))


def class_modules(model: Any) -> dict[str, list[str] | None]:
    """Module and qualified name of each class and function in a model that is not of jaxrnn, by its printed name."""
    return {
        name: None if thing is None else [str(thing.__module__), getattr(thing, "__qualname__", thing.__name__)]
        for name, thing in find_custom_objects(model).items()
    }


def rebuild_model(call: str, own: dict[str, list[str] | None], folder: os.PathLike) -> Any:
    """The model that prints as ``call``; refuses where a part of it cannot be had, and names the part.

    The modules of ``own`` are imported. Of them only classes with a method ``init``, which draws the parameters of a
    model, are called, with literals and models as arguments; functions are not called here.
    """
    if " object>" in call:
        refuse("model", f"the model, since {call} in {folder} does not print as its constructor call", "None",
               f"load_model({str(folder)!r}, model={_written(call)}), or make its class a dataclass")  # fmt: skip
    try:
        model = from_repr(call, {name: _imported(name, home) for name, home in own.items()})
        if constructor_call(model) == call:
            return model
        reason: Exception = ValueError(f"it is {constructor_call(model)} today")
    except (TypeError, ValueError, LookupError) as error:
        reason = error
    refuse("model", f"the model, since {call} in {folder} cannot be rebuilt: {reason}", "None",
           f"load_model({str(folder)!r}, model={_written(call)})")  # fmt: skip


def _imported(name: str, home: list[str] | None) -> Any:
    """The class or function that a model was made with."""
    if home is None:
        raise LookupError(f"several things print as {name}")
    module, qualname = home
    place, known = f"{qualname} of {module}", registered_class(name)
    if known is not None and [known.__module__, known.__qualname__] == home:
        return known
    if module == "__main__" or "<" in qualname:
        raise LookupError(f"{place} cannot be imported, as it is not at the top of a module with a name")
    try:
        thing = functools.reduce(getattr, qualname.split("."), importlib.import_module(module))
    except Exception as error:  # whatever the module does on import
        raise LookupError(f"{place} cannot be imported ({type(error).__name__}: {error})") from error
    if isinstance(thing, type) and not callable(getattr(thing, "init", None)):
        raise LookupError(f"{place} is not called, as it has no method init, as models have")
    return thing


def _written(call: str) -> str:
    """A printed call as somebody would write it: an object without a printed call as its class, to be filled in."""
    return re.sub(r"<?(?:[\w.]*\.)?(?:<locals>\.)?(\w+) object>", r"\1(...)", re.sub(r"[\w.]*<locals>\.", "", call))
