"""What a checkpoint stores beside its arrays, as plain JSON: texts, numbers, small arrays, vocabularies.

:func:`encode` makes JSON of a value, :func:`decode` the value of JSON. An object becomes a dict with the name of its
class, ``{"__class__": "Vocabulary", "symbols": [...]}``. A class takes part if it is a frozen dataclass marked with
:func:`storable`. Reading calls these classes with what was stored, and nothing else; it imports a module only for a
function that is a field of such an object, and only if it may.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.constructor import is_library_class

C = TypeVar("C")
CLASS, ARRAY, FUNCTION = "__class__", "numpy.ndarray", "function"
_CLASSES: dict[str, type] = {}  # the storable classes, by stored name


def storable(cls: type[C]) -> type[C]:
    """Mark a frozen dataclass: checkpoints store its objects in their metadata and give them back.

    Its fields hold what a checkpoint stores, or functions that can be imported. A tuple stays a tuple there, a list
    becomes one. A class of this library is stored by its name, another one by module and name; its module must have
    been imported before a checkpoint with such an object is read.

    Args:
        cls: the class.

    Returns:
        The class itself.

    Raises:
        TypeError: the class is not a frozen dataclass.

    Example:
        >>> import dataclasses, numpy as np
        >>> from jaxrnn import stored
        >>> @stored.storable
        ... @dataclasses.dataclass(frozen=True)
        ... class Units:
        ...     names: tuple[str, ...]
        ...     factors: np.ndarray
        >>> value = stored.encode("units", Units(("m", "s"), np.ones(2, "float32")))
        >>> stored.decode("units", value)
        Units(names=('m', 's'), factors=array([1., 1.], dtype=float32))
    """
    parameters = vars(cls).get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        checks.refuse("cls", "a frozen dataclass", cls.__qualname__,
                      "@storable comes above @dataclasses.dataclass(frozen=True)", TypeError)  # fmt: skip
    _CLASSES[_class_name(cls)] = cls
    return cls


def _class_name(cls: type) -> str:
    return cls.__name__ if is_library_class(cls) else f"{cls.__module__}.{cls.__qualname__}"


# ---- to JSON -----------------------------------------------------------------------------------------------------


def encode(argument: str, value: Any) -> Any:
    """The JSON of a value: dicts with keys that are strings, lists, strings, numbers, True, False, None.

    What is JSON already, that of an object included, stays as it is.

    Args:
        argument: the name of the value, for error messages.
        value: None, bools, numbers, strings, arrays and storable objects, and lists, tuples and dicts of them. Scalars
            of NumPy and JAX become numbers of Python, tuples lists, the keys of dicts strings.

    Raises:
        TypeError: the value holds something else; the message names it and what can be stored.
        ValueError: a function is a field of an object and cannot be imported.
    """
    try:
        return json.loads(json.dumps(_encode(argument, value)))
    except RecursionError:
        checks.refuse(argument, "a value of finite depth", "one that contains itself")


def _encode(path: str, value: Any, *, is_field: bool = False) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if _is_scalar(value):
        return value.item()
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _encode_array(path, value)
    if isinstance(value, (list, tuple)):
        return [_encode(f"{path}[{n}]", item, is_field=is_field) for n, item in enumerate(value)]
    if isinstance(value, dict):
        _check_keys(path, value)
        return {name: _encode(f"{path}[{name!r}]", item, is_field=is_field) for name, item in value.items()}
    if _class_name(type(value)) in _CLASSES:  # by name: a cell of a notebook that ran again made another class
        return {CLASS: _class_name(type(value))} | {
            field.name: _encode(f"{path}[{field.name!r}]", getattr(value, field.name), is_field=True)
            for field in dataclasses.fields(value)
            if field.init and not (field.default is None and getattr(value, field.name) is None)
        }
    if is_field and callable(value):
        return {CLASS: FUNCTION, "name": _function_name(path, value)}
    _refuse_value(path, value)


def _is_scalar(value: Any) -> bool:
    """A number or bool of NumPy or JAX that Python's numbers can hold; an array of NumPy without axes is none."""
    is_scalar = isinstance(value, np.generic) or (isinstance(value, jax.Array) and value.ndim == 0)
    return is_scalar and _is_numeric(value.dtype)


def _is_numeric(dtype: Any) -> bool:
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds) and dtype.itemsize <= 8


def _encode_array(path: str, value: Any) -> dict[str, Any]:
    """Dtype, shape and values; those of a 16-bit or 32-bit float are exact as numbers of Python."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        checks.refuse(path, "an array of numbers", checks.describe(value), "store jax.random.key_data(key)", TypeError)
    array = np.asarray(value)
    dtype, kind = array.dtype, array.dtype.kind
    if kind == "U":
        name, values = dtype.str[1:], array
    elif kind == "M":
        name, values = dtype.name, array.astype(str)
    elif kind == "m":
        name, values = dtype.name, array.astype(np.int64)
    elif kind == "c" and dtype.itemsize <= 16:
        name, values = dtype.name, np.stack([array.real, array.imag], -1)
    elif _is_numeric(dtype):
        name, values = dtype.name, array.astype(np.float64) if jnp.issubdtype(dtype, jnp.floating) else array
    else:
        fix = ".astype(str) of an array of objects, .astype('float64') of wider numbers"
        checks.refuse(path, "an array of numbers, bools, strings or dates", checks.describe(array), fix, TypeError)
    return {CLASS: ARRAY, "dtype": name, "shape": list(array.shape), "values": values.tolist()}


def _check_keys(path: str, value: dict) -> None:
    """Keys that JSON can hold; the name of a class only where this is the JSON of an object."""
    for key in value:
        if key is not None and not isinstance(key, (str, int, float, bool)):
            checks.refuse(path, "keys that are strings", f"the key {checks.describe(key)}", "str(key)", TypeError)
    if len(json.loads(json.dumps(dict.fromkeys(value)))) < len(value):
        checks.refuse(path, "keys that differ as strings", ", ".join(map(repr, value)))
    if CLASS in value and value[CLASS] not in (ARRAY, FUNCTION, *_CLASSES):
        checks.refuse(path, f"keys other than {CLASS!r}, which marks stored objects", repr(value[CLASS]),
                      "give it another name")  # fmt: skip


def _function_name(path: str, function: Callable) -> str:
    """``"module:qualified.name"`` of a function that can be imported by it; refuses others."""
    home = getattr(function, "__objclass__", function)  # of a method such as str.split
    name = f"{getattr(home, '__module__', '')}:{getattr(function, '__qualname__', '')}"
    fix = "define it at the top level of a module of your own and import it from there"
    if name.startswith(("__main__:", ":")) or "<" in name or name.endswith(":"):
        checks.refuse(path, "a function that another program can import", repr(function), fix)
    try:
        found = _import(name)
    except (ImportError, AttributeError):
        found = None
    if found is not function and found != function:
        checks.refuse(path, "a function that another program can import", f"{function!r}, which is not {name}", fix)
    return name


def _import(name: str) -> Any:
    module, _, qualname = name.partition(":")
    return functools.reduce(getattr, qualname.split("."), importlib.import_module(module))


def _refuse_value(path: str, value: Any) -> NoReturn:
    if isinstance(value, (set, frozenset)):
        fix = "sorted(...) makes a list"
    elif hasattr(value, "__fspath__"):
        fix = "str(...) of the path"
    elif isinstance(value, type) or callable(value):
        fix = "store its name as a text"
    elif dataclasses.is_dataclass(value):
        fix = "dataclasses.asdict(...), or mark its class, a frozen dataclass, with jaxrnn.stored.storable"
    else:
        fix = "store the texts, numbers and arrays that it is made of"
    known = ", ".join(sorted(_CLASSES))
    checks.refuse(path, "what a checkpoint can store: None, bools, numbers, strings, arrays, lists, tuples, dicts"
                  + (f" and objects of {known}" if known else ""),
                  f"the class {value.__qualname__}" if isinstance(value, type) else checks.describe(value),
                  fix, TypeError)  # fmt: skip


# ---- from JSON ---------------------------------------------------------------------------------------------------


def decode(argument: str, value: Any, *, may_import: bool = False) -> Any:
    """The value of JSON that :func:`encode` made.

    Args:
        argument: the name of the value, for error messages.
        value: the JSON.
        may_import: whether the module of a function may be imported, which runs its code; otherwise it must have been.

    Raises:
        ValueError: a class or function is not known here, or its fields are others than those that were stored.
    """
    return _decode(argument, value, may_import, list)


def _decode(path: str, value: Any, may_import: bool, sequence: type) -> Any:
    if isinstance(value, list):
        return sequence(_decode(f"{path}[{n}]", item, may_import, sequence) for n, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    name = value.get(CLASS)
    if name is None:
        return {key: _decode(f"{path}[{key!r}]", item, may_import, sequence) for key, item in value.items()}
    content = {key: item for key, item in value.items() if key != CLASS}
    try:
        if name == ARRAY:
            return _decode_array(**content)
        if name == FUNCTION:
            return _decode_function(path, may_import, **content)
        cls = _CLASSES.get(name)
        if cls is None:
            _refuse_class(path, name)
        fields = {key: _decode(f"{path}[{key!r}]", item, may_import, tuple) for key, item in content.items()}
        return cls(**fields)
    except TypeError as error:
        raise ValueError(f"{path}: expected a stored {name}, got other fields ({error}); "
                         "it was stored by another version of its class") from error  # fmt: skip


def _decode_array(dtype: str, shape: list[int], values: Any) -> np.ndarray:
    kind = jnp.dtype(dtype)  # knows bfloat16
    if kind.kind == "c":
        pairs, array = np.array(values, np.float64).reshape(*shape, 2), np.empty(shape, kind)
        array.real, array.imag = pairs[..., 0], pairs[..., 1]
        return array
    return np.array(values, np.float64 if jnp.issubdtype(kind, jnp.floating) else kind).astype(kind).reshape(shape)


def _decode_function(path: str, may_import: bool, name: str) -> Callable:
    module = name.partition(":")[0]
    fix = f"import {module} before reading"
    if not may_import and module not in sys.modules:
        checks.refuse(path, "a function of a module that was imported", name, f"{fix}, if you trust the file")
    try:
        function = _import(name)
    except Exception as error:  # a module may raise anything on import
        raise ValueError(f"{path}: expected a function that can be imported, got {name} ({type(error).__name__}: "
                         f"{error}); put its module on the path") from error  # fmt: skip
    if not callable(function):
        checks.refuse(path, "a function", f"{name}, which is {checks.describe(function)}")
    return function


def _refuse_class(path: str, name: Any) -> NoReturn:
    module = str(name).rpartition(".")[0]
    checks.refuse(path, f"an object of one of the classes {', '.join(sorted(_CLASSES))}", f"one of the class {name}",
                  f"import {module} before reading" if module else "a newer version of jaxrnn may know it")  # fmt: skip
