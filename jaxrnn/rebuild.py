"""A model from what was stored of it: constructor call, shapes of its parameters, version that wrote it.

User-defined classes and functions are stored by module and name, and imported.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxrnn.checks import dtype_available, refuse
from jaxrnn.constructor import find_custom_objects, from_repr, named_functions, registered_class
from jaxrnn.types import PyTree


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


def check_call(place: os.PathLike, call: str, model: Any, fix: str) -> None:
    """Refuse a model other than the one whose constructor call is stored in ``place``."""
    if not is_call_of(call, model):
        refuse("model", f"{call}, as stored in {place}", constructor_call(model),
               f"{fix}; a class of your own must print as it did")  # fmt: skip


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def class_modules(model: Any) -> dict[str, list[str] | None]:
    """Module and qualified name of each class and function of a model that is not part of jaxrnn, by printed name."""
    return {
        name: None if part is None else [str(part.__module__), getattr(part, "__qualname__", part.__name__)]
        for name, part in find_custom_objects(model).items()
    }


def rebuild_model(call: str, modules: dict[str, list[str] | None], place: os.PathLike, reader: str) -> Any:
    """The model that prints as ``call``; refused, with its name, if a part of it cannot be imported.

    ``place`` is the folder or file that holds the call, ``reader`` the function that reads it and takes a ``model``.
    """
    as_code = f"{reader}({str(place)!r}, model={_as_code(call)})"
    try:
        if " object>" not in call:
            return model_of_call(call, modules)
    except SyntaxError:  # of the printed call
        pass
    except (TypeError, ValueError, LookupError) as error:
        refuse("model", f"the model, since {call} in {place} cannot be rebuilt: {error}", "None", as_code)
    refuse("model", f"the model, since {call} in {place} does not print as its constructor call", "None",
           f"{as_code}, or make its class a dataclass of literals, models and functions of modules (no partial)",
           )  # fmt: skip


def model_of_call(call: str, modules: dict[str, list[str] | None]) -> Any:
    """The model that prints as ``call``.

    The modules of :func:`class_modules` are imported. Only classes with a method ``init``, as models have, are called,
    with literals and models as arguments; functions are not called here.

    Raises:
        SyntaxError, TypeError, ValueError, LookupError: it cannot be rebuilt.
    """
    known = {name: _import(name, origin) for name, origin in modules.items()}
    ast.parse(call, mode="eval")
    model = _build(call, known)
    if not is_call_of(call, model):
        raise ValueError(f"it is {constructor_call(model)} today")
    return model


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


# ---- shapes and dtypes -------------------------------------------------------------------------------------------


def shapes_of(tree: PyTree, name: Callable[[tuple], str] = jax.tree_util.keystr) -> dict[str, str]:
    """Dtype and shape of every array, by the name of its path in the tree."""
    return {name(path): f"{x.dtype}{list(x.shape)}" for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def with_saved_dtypes(
    like: PyTree, saved: dict[str, str], name: Callable[[tuple], str] = jax.tree_util.keystr
) -> PyTree:
    """A tree of shapes with the dtypes in which the arrays of the same names were saved."""

    def cast(path: tuple, leaf: Any) -> Any:
        dtype = saved.get(name(path), str(leaf.dtype)).partition("[")[0]
        dtype_available(dtype)
        return leaf if dtype == str(leaf.dtype) else jax.ShapeDtypeStruct(leaf.shape, jax.numpy.dtype(dtype))

    return jax.tree_util.tree_map_with_path(cast, like)


def check_shapes(place: str, expected: dict[str, str], saved: dict[str, str], fix: str) -> None:
    """Refuse arrays that differ in name, dtype or shape; names the first."""
    for name in [*expected, *saved]:
        if expected.get(name) != saved.get(name):
            want, got = expected.get(name, "nothing there"), saved.get(name, "nothing")
            only_dtype = want.partition("[")[1:] == got.partition("[")[1:] != ("", "")
            cast = f", or its parameters were cast: .astype({got.partition('[')[0]!r})" if only_dtype else ""
            refuse(f"{place}{name}", want, got, fix + cast)


# ---- versions ----------------------------------------------------------------------------------------------------


def this_version() -> str:
    """The version of this library."""
    from jaxrnn import __version__  # defined after the import of this module

    return __version__


@contextlib.contextmanager
def explain_newer(content: dict[str, Any]) -> Iterator[None]:
    """Add to an error that a newer version wrote what is read, if one did."""
    try:
        yield
    except (ValueError, TypeError, LookupError) as error:
        version = content.get("jaxrnn")
        if not isinstance(version, str) or _numbers(version) <= _numbers(this_version()):
            raise
        message = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{message}; it was written by jaxrnn {version}, which is newer than this one, "
                   f"{this_version()}: upgrade to read it") from error  # fmt: skip


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a release: 1.2 of ``"1.2rc1"``."""
    return tuple(map(int, re.findall(r"\d+", re.split(r"[^\d.]", version, maxsplit=1)[0])))
