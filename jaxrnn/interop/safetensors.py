"""A model, its parameters and what inference needs beside them, in one safetensors file.

The file holds the parameters under readable names, ``"1.w_xh"`` for ``w_xh`` of the second layer, so that any reader
of the format finds them. Its header holds texts: the version of jaxrnn, the constructor call of the model, where the
user's classes in it are defined, the metadata, and a SHA-256 sum of all this.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks, stored
from jaxrnn.interop.checks import class_name, library
from jaxrnn.rebuild import (
    check_call,
    check_shapes,
    class_modules,
    constructor_call,
    explain_newer,
    rebuild_model,
    shapes_of,
    this_version,
    with_saved_dtypes,
)
from jaxrnn.types import Params

__all__ = ["load", "save"]


def save(path: str | os.PathLike, model: Any, params: Params, *, metadata: dict[str, Any] | None = None) -> None:
    """Write a model, its parameters and metadata to one file, which :func:`load` reads.

    It is written under another name and renamed when it is whole, so a file of that name is never a part of one.

    Args:
        path: the file, ``"tagger.safetensors"`` for instance; replaced if it exists.
        model: the model, with a method ``init``.
        params: its parameters, in any dtypes, on any devices of this process.
        metadata: what inference needs beside them: texts, numbers, small arrays, vocabularies, tokenizers, scalers,
            and lists, tuples and dicts of them with keys that are strings. They are read as they were, except that
            tuples are lists then, and scalars of NumPy and JAX numbers of Python.

    Raises:
        ImportError: the package safetensors is not installed.
        FileNotFoundError, IsADirectoryError: the path is in no folder, or a folder.
        TypeError: an entry of the metadata or an array cannot be stored, or the parameters are not those of the model,
            or traced.
        ValueError: the parameters have other shapes than those of the model, or are spread over several processes.

    Example:
        .. code-block:: python

            rnn.interop.safetensors.save("tagger.safetensors", model, params, metadata={"words": words, "tags": tags})
            model, params, metadata = rnn.interop.safetensors.load("tagger.safetensors")
    """
    numpy = library("safetensors.numpy", "safetensors", "'jaxrnn[safetensors]'")
    path = _checked(path)
    if not path.parent.is_dir():
        checks.refuse("path", "a file in a folder that exists", path, f"make {path.parent}", FileNotFoundError)
    if isinstance(model, type) or not callable(getattr(model, "init", None)):
        checks.refuse("model", "a model with a method init", class_name(model), error=TypeError)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict):
        checks.refuse("metadata", "a dict", checks.describe(metadata), 'metadata={"words": words}', TypeError)
    arrays = _arrays(checks.parameters(model, params))
    texts = stored.encode("metadata", metadata)
    _check_keys("metadata", metadata)
    content = {
        "jaxrnn": this_version(),
        "model": constructor_call(model),
        "parts": json.dumps(class_modules(model)),
        "metadata": json.dumps(texts, ensure_ascii=False),
    }
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        numpy.save_file(arrays, draft, metadata=content | {"sha256": _sum(content, arrays)})
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def load(path: str | os.PathLike, *, model: Any = None) -> tuple[Any, Params, dict[str, Any]]:
    """Read a model, its parameters and metadata from a file.

    User-defined classes and functions of a model are stored by module and name. Loading imports these modules, which
    runs their code. Then only classes with a method ``init`` are called, with the literals of the printed call; nothing
    else is evaluated, and nothing is unpickled. Pass ``model=`` for a file that you do not trust: then nothing is
    imported, and a vocabulary whose ``split`` is a function of a module that has not been imported is refused.

    Args:
        path: the file.
        model: the model, for a file that jaxrnn did not write, or if it cannot be rebuilt because it contains a class
            or function that cannot be imported. The arrays of the file must be exactly its parameters, by name, and
            if jaxrnn wrote the file, the model must print as the one that was saved.

    Returns:
        ``(model, params, metadata)``. The parameters have the dtypes in which they were saved, and are on the default
        device; ``jax.device_put(params, sharding)`` spreads them. The metadata are as they were, vocabularies as
        objects, tuples as lists; of a file that jaxrnn did not write they are its texts.

    Raises:
        ImportError: the package safetensors is not installed.
        FileNotFoundError, IsADirectoryError: there is no such file, or it is a folder.
        ValueError: the file is damaged, or not of jaxrnn and ``model`` is None; the arrays are not the parameters of
            the model, or it is another one than was saved; the model cannot be rebuilt; float64 is disabled in jax.

    Example:
        .. code-block:: python

            model, params, metadata = rnn.interop.safetensors.load("tagger.safetensors")
            final, ys = rnn.unroll(model, params, metadata["words"].encode("a great film"))
    """
    path = _checked(path)
    if not path.exists():
        checks.refuse("path", "a file that exists", path, error=FileNotFoundError)
    arrays, content = _read(path)
    names, may_import = ", ".join(map(repr, arrays)), model is None
    own = "jaxrnn" in content
    if not own and model is None:
        checks.refuse("model", f"the model, as jaxrnn did not write {path}", "None",
                      f"load(path, model=...), whose parameters are called as the arrays there: {names}")  # fmt: skip
    with explain_newer(content):
        if model is None:
            model = rebuild_model(content["model"], json.loads(content["parts"]), path, "load")
        like = jax.eval_shape(model.init, jax.random.key(0))
        saved = {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}
        like = with_saved_dtypes(like, saved, _name)
        check_shapes(f"{path}: ", shapes_of(like, _name), saved, f"the file holds {names}")
        if own:
            check_call(path, content["model"], model, "pass that model, or none if its classes can be imported")
        metadata = stored.decode("metadata", json.loads(content["metadata"]), may_import=may_import) if own else content
    params = jax.tree_util.tree_map_with_path(lambda leaf_path, _: jnp.array(arrays[_name(leaf_path)]), like)
    return model, checks.parameters(model, params), metadata


def _checked(path: Any) -> pathlib.Path:
    """A path that is no folder."""
    if not isinstance(path, (str, os.PathLike)):
        checks.refuse("path", "the path of a file", checks.describe(path), '"tagger.safetensors"', TypeError)
    path = pathlib.Path(path)
    if path.is_dir():
        checks.refuse("path", "a file", f"the folder {path}", f"{str(path / 'model.safetensors')!r}", IsADirectoryError)
    return path


def _check_keys(place: str, value: Any) -> None:
    """Refuse the keys that would come back as strings."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                checks.refuse(place, "keys that are strings", f"the key {checks.describe(key)}", "str(key)", TypeError)
    elif dataclasses.is_dataclass(value):
        value = vars(value)
    else:
        value = dict(enumerate(value)) if isinstance(value, (list, tuple)) else {}
    for key, part in value.items():
        _check_keys(f"{place}[{key!r}]", part)


def _name(path: tuple) -> str:
    """The name of an array, ``"1.w_xh"``; parameters that are one array are called ``"params"``."""
    return jax.tree_util.keystr(path, simple=True, separator=".") or "params"


def _arrays(params: Params) -> dict[str, np.ndarray]:
    """The arrays of a tree by name, row by row in memory as safetensors writes them."""
    arrays: dict[str, np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = _name(path)
        if name in arrays:
            checks.refuse("params", "arrays with different names", f"two called {name!r}", "names without dots differ")
        if not checks.is_concrete(leaf):
            checks.refuse(name, "an array with values", f"a traced {checks.describe(leaf)}", "save outside of jit",
                          TypeError)  # fmt: skip
        if not getattr(leaf, "is_fully_addressable", True):
            checks.refuse(name, "an array of this process", f"{checks.describe(leaf)} of several",
                          "jax.experimental.multihost_utils.process_allgather(params, tiled=True)")  # fmt: skip
        array = np.asarray(leaf, order="C")
        if array.dtype.kind not in "biuf" and array.dtype != jnp.bfloat16:
            checks.refuse(name, "bools, integers, or floats of 16 bits or more", checks.describe(array),
                          error=TypeError)  # fmt: skip
        arrays[name] = array
    return arrays


def _read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file by name, and the texts of its header."""
    safetensors = library("safetensors", "safetensors", "'jaxrnn[safetensors]'")
    fix = "it is damaged or not of this format: write or copy it again"
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            content = file.metadata() or {}
    except safetensors.SafetensorError as error:
        checks.refuse(str(path), "a whole safetensors file", str(error), fix)
    expected = content.pop("sha256", None)
    if "jaxrnn" in content and _sum(content, arrays) != expected:
        checks.refuse(str(path), "the content that was saved", "another SHA-256 sum", fix)
    return arrays, content


def _sum(content: dict[str, str], arrays: dict[str, np.ndarray]) -> str:
    """The SHA-256 of texts and arrays."""
    found = hashlib.sha256(json.dumps([sorted(content.items()), sorted(arrays)]).encode())
    for name in sorted(arrays):
        found.update(arrays[name].tobytes())
    return found.hexdigest()
