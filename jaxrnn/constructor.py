"""A model is its constructor call: frozen, comparable, hashable, picklable, and printed as that call.

:func:`hyperparameters` makes a class so; :func:`from_repr` reads the printed form back.
"""

from __future__ import annotations

import ast
import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

C = TypeVar("C")
_CLASSES: dict[str, Callable] = {}  # what from_call may call, by the name it is printed under
_OF_JAX = {
    module.__name__: module for module in (jax.nn, jnp, jax.lax, jax.nn.initializers)
}  # functions to be read back


@dataclass_transform(frozen_default=True)
def hyperparameters(cls: type[C]) -> type[C]:
    """Make a frozen dataclass that prints as its constructor call and may be passed to ``jax.jit``."""
    cls = dataclasses.dataclass(frozen=True, repr=False)(cls)
    cls.__repr__ = call  # type: ignore[method-assign]
    if is_ours(cls) or cls.__name__ not in _CLASSES:  # one of the user's own may have the name of one of these
        _CLASSES[cls.__name__] = cls
    return jax.tree_util.register_static(cls)


def declared(name: str) -> Any:
    """The class of that name that :func:`hyperparameters` has made in this process, or None."""
    return _CLASSES.get(name)


def call(model: Any) -> str:
    """Print an instance as the shortest constructor call that makes it."""
    words = []
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if field.metadata.get("star"):  # a field filled from *args
            words += [_word(v) for v in value]
        elif field.default is dataclasses.MISSING and not field.kw_only:
            words.append(_word(value))
        elif value != field.default:
            words.append(f"{field.name}={_word(value)}")
    return f"{type(model).__name__}({', '.join(words)})"


def remake(model: Any, **fields: Any) -> Any:
    """Return the model with other values in some of its fields."""
    values = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)} | fields
    star = [values.pop(f.name) for f in dataclasses.fields(model) if f.metadata.get("star")]
    return type(model)(*(part for parts in star for part in parts), **values)


def replace_cells(model: Any, new: Callable[[Any], Any]) -> Any:
    """Return the model with ``new(cell)`` in place of every cell in it; parameters and their structure stay."""
    if not hasattr(model, "over_time"):
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


def _word(value: Any) -> str:
    if isinstance(value, np.generic):
        return repr(value.item())
    if not _is_function(value):
        return repr(value)
    word: str = value.__name__
    for name, module in _OF_JAX.items():  # where it is public, not where its source lies in this version of jax
        if getattr(module, word, None) is value:
            return f"{name}.{word}"
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else word


def _is_function(value: Any) -> bool:
    return callable(value) and hasattr(value, "__name__") and not dataclasses.is_dataclass(value)


def is_ours(value: Any) -> bool:
    """Whether a class is one of this library."""
    return value.__module__.split(".")[0] == __name__.split(".")[0]


def parts(model: Any) -> dict[str, Any]:
    """The user's own classes and functions in a model, by the names they are printed under.

    A name that stands for several things stands for None.
    """
    found: dict[str, Any] = {}

    def note(name: str, thing: Any) -> None:
        found[name] = thing if found.get(name, thing) is thing else None

    def visit(value: Any) -> None:
        if isinstance(value, (tuple, list)):
            for part in value:
                visit(part)
        elif _is_function(value):
            note(_word(value), value)
        elif dataclasses.is_dataclass(value) or hasattr(value, "initial_state"):
            constructor_call, kind = repr(value), type(value)
            note(constructor_call.partition("(")[0] if "(" in constructor_call else kind.__qualname__, kind)
            for part in getattr(value, "__dict__", {}).values():
                visit(part)

    visit(model)
    return {name: thing for name, thing in found.items() if not _is_known(name, thing)}


def _is_known(name: str, thing: Any) -> bool:
    """Whether it is a class of this library, or a function of jax that prints as ``name``."""
    return is_ours(thing) if isinstance(thing, type) else thing is not None and thing is _of_jax(name)


def _of_jax(name: str) -> Any:
    """The function of jax that is printed so, or None."""
    module, _, word = name.rpartition(".")
    return getattr(_OF_JAX.get(module), word, None)


def from_repr(text: str, own: Mapping[str, Any] | None = None) -> Any:
    """Rebuild a model from its printed form, without evaluating anything else.

    Args:
        text: what ``repr(model)`` gave. Classes of this library, functions of ``jax.nn``, ``jax.numpy`` and
            ``jax.lax``, and literals may stand in it.
        own: further classes and functions that may stand in it, by the names that they are printed under.

    Raises:
        ValueError: the text holds anything else, a user's own class or function that is not in ``own`` for instance.

    Example:
        >>> import jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(65, 128), rnn.LSTM(128, 256), rnn.Linear(256, 65))
        >>> rnn.from_repr(repr(model)) == model
        True
    """
    own = _CLASSES | dict(own or {})

    def build(node: ast.expr) -> Any:
        name = ast.unparse(node.func if isinstance(node, ast.Call) else node)
        if isinstance(node, ast.Call) and isinstance(own.get(name), type):
            kwargs = {str(k.arg): build(k.value) for k in node.keywords}
            return own[name](*map(build, node.args), **kwargs)
        if isinstance(node, (ast.Name, ast.Attribute)) and _is_function(own.get(name, _of_jax(name))):
            return own.get(name, _of_jax(name))  # a function is named, never called
        try:
            return ast.literal_eval(node)
        except ValueError:
            raise ValueError(
                f"text: expected constructor calls of {', '.join(sorted(own))} and literals, "
                f"got {ast.unparse(node)!r}; say what a name stands for, from_call(text, {{name: class}}), or build a "
                "model with parts of your own in Python"
            ) from None

    if not isinstance(text, str):
        raise TypeError(f"text: expected what repr(model) gave, got {type(text).__name__} {text}")
    try:
        return build(ast.parse(text, mode="eval").body)
    except SyntaxError:
        raise ValueError(f"text: expected what repr(model) gave, got {text!r}") from None


def is_immutable(value: Any) -> bool:
    """Whether a value can never change, so that a compiled function may be kept for it."""
    if isinstance(value, tuple):
        return all(map(is_immutable, value))
    declared = vars(type(value)).get("__dataclass_params__")  # of the class itself, not inherited
    if declared is not None:
        fields = dataclasses.fields(value)
        hidden = getattr(value, "__dict__", {}).keys() - {f.name for f in fields if f.compare}  # from equality
        return declared.frozen and not hidden and all(is_immutable(getattr(value, f.name)) for f in fields)
    plain = (str, int, float, complex, bytes, type(None), type, types.FunctionType, types.BuiltinFunctionType)
    return isinstance(value, plain) or (callable(value) and hasattr(value, "__wrapped__"))
