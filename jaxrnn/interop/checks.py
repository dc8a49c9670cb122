"""Checks of models to be converted. The form of messages is that of jaxrnn.checks."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from jaxrnn.checks import refuse, tree_summary
from jaxrnn.interop.layouts import Layout


def library(module: str, name: str, install: str) -> Any:
    """Import another library; ``install`` is what pip installs, an extra for instance."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = getattr(error, "name", None) in (None, module.partition(".")[0])
        got = "no such module" if missing else f"{type(error).__name__}: {error}"
        refuse(module, f"{name} to be installed", got, f"pip install {install}", ImportError)


def counterpart(place: str, cell: Any, layouts: Mapping[type, Layout], library: str, fix: str = "") -> Layout:
    """The layout of a cell that the other library has, with its options; refuses others with the reason."""
    layout = layouts.get(type(cell))
    if layout is None:
        kinds = " or ".join(", ".join(kind.__name__ for kind in layouts).rsplit(", ", 1))
        refuse(
            place,
            f"{'an' if kinds.startswith('L') else 'a'} {kinds}",
            repr(cell),
            fix or f"{library} has no counterpart of it",
            TypeError,
        )
    for name, values, reason in layout.lacking(cell):
        refuse(f"{place}.{name}", " or ".join(map(repr, values)), repr(getattr(cell, name)), reason)
    return layout


def class_name(value: Any) -> str:
    """The name of the class of an object, for messages; of a class that it is one."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def one_each(argument: str, value: Any, count: int, part: str) -> None:
    """A tuple or list with one entry for each of the parts of a model."""
    if not isinstance(value, (tuple, list)) or len(value) != count:
        refuse(argument, f"tuple of {count}, one entry a {part}", tree_summary(value), error=TypeError)
