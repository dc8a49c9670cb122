"""Models as their constructor calls: frozen, comparable, hashable, picklable, and printed as that call.

:func:`hyperparameters` makes such a class; :func:`from_repr` rebuilds a model from its printed form.
"""

from __future__ import annotations

import ast
import dataclasses
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

C = TypeVar("C")
_CLASSES: dict[str, Callable] = {}  # the classes that from_repr may call, by printed name
_JAX_MODULES = {module.__name__: module for module in (jax.nn, jnp, jax.lax, jax.nn.initializers)}


@dataclass_transform(frozen_default=True)
def hyperparameters(cls: type[C]) -> type[C]:
    """Make a frozen dataclass that prints as its constructor call and may be passed to ``jax.jit``."""
    cls = dataclasses.dataclass(frozen=True, repr=False)(cls)
    cls.__repr__ = _constructor_call  # type: ignore[method-assign]
    if is_library_class(cls) or cls.__name__ not in _CLASSES:  # a user's class may have the same name
        _CLASSES[cls.__name__] = cls
    return jax.tree_util.register_static(cls)


def registered_class(name: str) -> Any:
    """The class of that name that :func:`hyperparameters` has made in this process, or None."""
    return _CLASSES.get(name)


def _constructor_call(model: Any) -> str:
    """The shortest constructor call that makes a model."""
    arguments = []
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if field.metadata.get("star"):  # a field filled from *args
            arguments += [_format_value(v) for v in value]
        elif field.default is dataclasses.MISSING and not field.kw_only:
            arguments.append(_format_value(value))
        elif value != field.default:
            arguments.append(f"{field.name}={_format_value(value)}")
    return f"{type(model).__name__}({', '.join(arguments)})"


def remake(model: Any, **fields: Any) -> Any:
    """Return the model with other values for some of its fields."""
    values = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)} | fields
    star = [values.pop(f.name) for f in dataclasses.fields(model) if f.metadata.get("star")]
    return type(model)(*(value for entries in star for value in entries), **values)


def replace_cells(model: Any, new: Callable[[Any], Any]) -> Any:
    """Return the model with ``new(cell)`` in place of every cell in it; the structure of the parameters is the same.

    A layer with an attribute ``is_cell`` that is True, such as a cell with a learned initial state, is one.
    """
    if not hasattr(model, "over_time") or getattr(model, "is_cell", False):
        return new(model)
    if not dataclasses.is_dataclass(model):
        return model

    def visit(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(visit, value))
        return replace_cells(value, new) if hasattr(value, "initial_state") else value

    fields = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
    changed = {name: visit(value) for name, value in fields.items()}
    return remake(model, **changed) if changed != fields else model


def _format_value(value: Any) -> str:
    if isinstance(value, np.generic):
        return repr(value.item())
    if not _is_function(value):
        return repr(value)
    name: str = value.__name__
    for module_name, module in _JAX_MODULES.items():  # its public module, not that of its source in this version of jax
        if getattr(module, name, None) is value:
            return f"{module_name}.{name}"
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else name


def _is_function(value: Any) -> bool:
    return callable(value) and hasattr(value, "__name__") and not dataclasses.is_dataclass(value)


def is_library_class(value: Any) -> bool:
    """Whether a class is defined in this library."""
    return value.__module__.split(".")[0] == __name__.split(".")[0]


def find_custom_objects(model: Any) -> dict[str, Any]:
    """The user's classes and functions in a model, by printed name; None where several have the same name."""
    found: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        found[name] = value if found.get(name, value) is value else None

    for part in parts(model):
        if _is_function(part):
            add(_format_value(part), part)
        else:
            text, cls = repr(part), type(part)
            add(text.partition("(")[0] if "(" in text else cls.__qualname__, cls)
    return {name: value for name, value in found.items() if not _is_builtin(name, value)}


def named_functions(model: Any) -> dict[str, str]:
    """How each function in a model prints in a dataclass, and the name that :func:`from_repr` knows it by."""
    return {repr(part): _format_value(part) for part in parts(model) if _is_function(part)}


def parts(model: Any) -> Iterator[Any]:
    """The functions and models that a model is made of, itself included."""
    if isinstance(model, (tuple, list)):
        for item in model:
            yield from parts(item)
    elif _is_function(model):
        yield model
    elif dataclasses.is_dataclass(model) or hasattr(model, "initial_state"):
        yield model
        for attribute in getattr(model, "__dict__", {}).values():
            yield from parts(attribute)


def _is_builtin(name: str, value: Any) -> bool:
    """Whether it is a class of this library, or a function of jax that prints as ``name``."""
    return is_library_class(value) if isinstance(value, type) else value is not None and value is _jax_function(name)


def _jax_function(printed: str) -> Any:
    """The function of jax with that printed name, or None."""
    module, _, name = printed.rpartition(".")
    return getattr(_JAX_MODULES.get(module), name, None)


def from_repr(text: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Rebuild a model from its printed form, without evaluating anything else.

    Args:
        text: the result of ``repr(model)``. It may hold classes of this library, functions of ``jax.nn``, ``jax.numpy``
            and ``jax.lax``, and literals.
        custom_objects: further classes and functions that it may hold, by printed name.

    Raises:
        ValueError: the text holds anything else, for instance a user's class that is not in ``custom_objects``.

    Example:
        >>> import jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(65, 128), rnn.LSTM(128, 256), rnn.Linear(256, 65))
        >>> rnn.from_repr(repr(model)) == model
        True
    """
    known = _CLASSES | dict(custom_objects or {})

    def build(node: ast.expr) -> Any:
        name = ast.unparse(node.func if isinstance(node, ast.Call) else node)
        if isinstance(node, ast.Call) and isinstance(known.get(name), type):
            kwargs = {str(k.arg): build(k.value) for k in node.keywords}
            return known[name](*map(build, node.args), **kwargs)
        if isinstance(node, (ast.Name, ast.Attribute)) and _is_function(known.get(name, _jax_function(name))):
            return known.get(name, _jax_function(name))  # a function is named, never called
        if isinstance(node, (ast.Tuple, ast.List)):
            return (tuple if isinstance(node, ast.Tuple) else list)(map(build, node.elts))
        if name.lstrip("-") in ("inf", "nan"):
            return float(name)
        try:
            return ast.literal_eval(node)
        except ValueError:
            raise ValueError(
                f"text: expected constructor calls of {', '.join(sorted(known))} and literals, "
                f"got {ast.unparse(node)!r}; pass what a name stands for, from_repr(text, {{name: class}}), or build "
                "the model in Python"
            ) from None

    if not isinstance(text, str):
        raise TypeError(f"text: expected the result of repr(model), got {type(text).__name__} {text}")
    try:
        return build(ast.parse(text, mode="eval").body)
    except SyntaxError:
        raise ValueError(f"text: expected the result of repr(model), got {text!r}") from None


def is_immutable(value: Any) -> bool:
    """Whether a value can never change, so that a function compiled for it may be reused."""
    if isinstance(value, tuple):
        return all(map(is_immutable, value))
    declared = vars(type(value)).get("__dataclass_params__")  # of the class itself, not of a base
    if declared is not None:
        fields = dataclasses.fields(value)
        hidden = getattr(value, "__dict__", {}).keys() - {f.name for f in fields if f.compare}  # not compared
        return declared.frozen and not hidden and all(is_immutable(getattr(value, f.name)) for f in fields)
    plain = (str, int, float, complex, bytes, type(None), type, types.FunctionType, types.BuiltinFunctionType)
    return isinstance(value, plain) or (callable(value) and hasattr(value, "__wrapped__"))
