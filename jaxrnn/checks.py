"""Checks of arguments, and the form of every error message.

A message names the argument, what was expected, what was given and a likely fix. Shapes, dtypes and tree structures
are static, so they are checked under ``jit`` too; values only where they are concrete.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.constructor import is_immutable
from jaxrnn.types import Array, Params, PyTree, State, input_ndim


def refuse(argument: str, expected: str, got: Any, fix: str = "", error: type[Exception] = ValueError) -> NoReturn:
    """Raise ``error`` with a message in the common form: argument: expected ..., got ...; fix."""
    raise error(f"{argument}: expected {expected}, got {got}" + (f"; {fix}" if fix else ""))


def describe(x: Any) -> str:
    """An array as its dtype and shape, anything else as its type and value."""
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{x.dtype}{list(x.shape)}"
    if isinstance(x, (tuple, list, dict)):
        return f"{type(x).__name__} of {len(x)}"
    return "None" if x is None else f"{type(x).__name__} {str(x)[:60]}"


def is_concrete(x: Any) -> bool:
    """Whether the values are available, that is not traced."""
    return not isinstance(x, jax.core.Tracer)


# ---- hyperparameters ---------------------------------------------------------------------------------------------


def size(argument: str, value: Any) -> None:
    """A positive int."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        refuse(argument, "a positive int", describe(value), error=TypeError)
    if value <= 0:
        refuse(argument, "a positive int", value)


def sizes(argument: str, value: Any) -> tuple[int, ...]:
    """A shape, positive ints; returns a tuple."""
    if not isinstance(value, (tuple, list)):
        refuse(argument, "a tuple of sizes such as (64, 64, 1)", describe(value), error=TypeError)
    for index, entry in enumerate(value):
        size(f"{argument}[{index}]", entry)
    return tuple(map(int, value))


def flag(argument: str, value: Any) -> None:
    """True or False."""
    if not is_concrete(value):
        refuse(argument, "True or False", describe(value), f'jax.jit(..., static_argnames="{argument}")', TypeError)
    if not isinstance(value, bool):
        refuse(argument, "True or False", describe(value), error=TypeError)


def number(argument: str, value: Any) -> None:
    """A finite real number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        refuse(argument, "a number", describe(value), error=TypeError)
    if not np.isfinite(value):
        refuse(argument, "a finite number", value)


def known_number(argument: str, value: Any, fix: str = "") -> Any:
    """A single number; returns it as a Python number, or None where it is traced."""
    if getattr(value, "shape", ()) != ():
        refuse(argument, "a single number", describe(value), fix)
    if not is_concrete(value):
        return None
    value = np.asarray(value).item() if hasattr(value, "dtype") else value  # jax would trace a comparison under jit
    number(argument, value)
    return value


def fraction(argument: str, value: Any, fix: str = "it is the share that is dropped, not kept") -> None:
    """A number in [0, 1)."""
    number(argument, value)
    if not 0 <= value < 1:
        refuse(argument, "a number in [0, 1)", value, fix)


def one_of(argument: str, value: Any, options: Collection[str], also: str = "") -> None:
    """One of several names."""
    names = "one of " + ", ".join(map(repr, options)) + also
    if not isinstance(value, str):
        refuse(argument, names, describe(value), error=TypeError)
    if value not in options:
        refuse(argument, names, repr(value))


def function_or_name(argument: str, value: Any, names: Mapping[str, Any]) -> None:
    """A callable, or the name of one."""
    if not callable(value):
        one_of(argument, value, names, also=" or a callable")


def initializer(argument: str, value: Any, names: Mapping[str, Any]) -> None:
    """A callable ``f(key, shape, dtype)`` or the name of one."""
    function_or_name(argument, value, names)
    if isinstance(value, type):
        refuse(argument, "an initializer", f"the class {value.__name__}", f"call it: {value.__name__}(...)", TypeError)


def float_dtype(argument: str, value: Any) -> str:
    """A floating dtype; returns its name."""
    if value is None:
        refuse(argument, "a floating dtype such as 'float32' or 'bfloat16'", None, error=TypeError)
    try:
        name = jnp.dtype(value).name
    except TypeError:
        refuse(argument, "a dtype", repr(value), error=TypeError)
    if not jnp.issubdtype(name, jnp.floating):
        refuse(argument, "a floating dtype such as 'float32' or 'bfloat16'", name, error=TypeError)
    return name


def dtype_available(name: str) -> None:
    """float64 only where 64-bit numbers are enabled."""
    if name == "float64" and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        refuse("dtype", "float32 while 64-bit is off", name, "jax.config.update('jax_enable_x64', True) switches it on")


def hashable_function(argument: str, value: Any) -> None:
    """A function by which compiled programs are kept."""
    if not callable(value):
        refuse(argument, "a function", describe(value), error=TypeError)
    try:
        hash(value)
    except TypeError:
        fix = "a dataclass with __call__ needs frozen=True"
        refuse(argument, "a hashable function", describe(value), fix, TypeError)


def instance(argument: str, value: Any, kind: type, fix: str) -> None:
    """An object of one class."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        refuse(argument, f"{article} {kind.__name__}", tree_summary(value), fix, TypeError)


def model(argument: str, value: Any) -> None:
    """A cell or a layer: an instance, not a class, with the three methods."""
    fix = "a cell is any object with these three methods"
    if isinstance(value, type):
        name = value.__name__
        refuse(argument, "a cell or layer", f"the class {name}", f"make one: {name}(...)", TypeError)
    missing = [name for name in ("init", "initial_state", "step") if not callable(getattr(value, name, None))]
    if missing:
        refuse(argument, "a cell or layer with init, initial_state and step",
               f"{type(value).__name__} without {', '.join(missing)}", fix, TypeError)  # fmt: skip


def layer(argument: str, value: Any) -> None:
    """A hashable cell or layer, so that a model composed of it is hashable."""
    model(argument, value)
    try:
        hash(value)
    except TypeError:
        refuse(argument, "a hashable cell or layer", f"unhashable {type(value).__name__}",
               "declare it with @dataclass(frozen=True); arrays belong into its parameters", TypeError)  # fmt: skip


# ---- arguments of a call -----------------------------------------------------------------------------------------


def features(argument: str, x: Any, width: int, owner: str) -> None:
    """A floating array whose last axis is the input size."""
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        refuse(argument, "an array", describe(x), "jnp.asarray makes one", TypeError)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        refuse(argument, f"real floating numbers for {owner}", describe(x),
               "token ids go through rnn.Embedding or jax.nn.one_hot; other integers through .astype(float)",
               TypeError)  # fmt: skip
    if x.ndim == 0 or x.shape[-1] != width:
        refuse(argument, f"last axis {width} ({owner}.input_size)", describe(x), "the features go last")


def last_axes(argument: str, x: Any, shape: tuple[int, ...], owner: str) -> None:
    """An array whose last axes have this shape."""
    array(argument, x, owner)
    if x.shape[max(x.ndim - len(shape), 0) :] != shape:
        refuse(argument, f"last axes {list(shape)} ({owner}.input_shape)", describe(x), "spatial axes, then channels")


def integers(argument: str, value: Any, expected: str, fix: str) -> None:
    """An integer array."""
    if not hasattr(value, "shape") or not jnp.issubdtype(value.dtype, jnp.integer):
        refuse(argument, expected, describe(value), fix, TypeError)


def token_ids(argument: str, ids: Any, vocabulary: int) -> None:
    """Integers in [0, vocabulary)."""
    integers(argument, ids, "integer token ids for Embedding", "jnp.asarray(ids, dtype=int)")
    within(argument, ids, 0, vocabulary - 1, f"token ids in [0, {vocabulary})",
            "the vocabulary is too small or the padding id is not in it; lengths= hides padding")  # fmt: skip


def required(argument: str, value: Any, fix: str) -> None:
    """Anything but None."""
    if value is None:
        refuse(argument, "a value", "None", fix, TypeError)


def random_key(argument: str, key: Any) -> None:
    """A random key of jax, typed or raw, or None."""
    typed = hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0
    raw = hasattr(key, "dtype") and key.dtype == jnp.uint32 and key.ndim == 1
    if key is not None and not typed and not raw:
        refuse(argument, "a random key", describe(key), "jax.random.key(0) makes one", TypeError)


def parameters(model: Any, params: Params) -> Params:
    """Parameters with the structure and shapes that ``model.init`` returns, in any floating dtypes."""
    expected = (_shapes if is_immutable(model) else _shapes.__wrapped__)(model)
    return same_tree("params", expected, params, f"parameters of {model!r} come from model.init(key)")


@functools.lru_cache(maxsize=512)
def _shapes(model: Any) -> PyTree:
    return jax.eval_shape(model.init, jax.random.key(0))


def state_like(argument: str, model: Any, state: State, batch: tuple[int, ...]) -> State:
    """A state with the structure and shapes that ``model.initial_state(batch)`` returns."""
    expected = jax.eval_shape(lambda: model.initial_state(batch))
    return same_tree(
        argument, expected, state, f"model.initial_state({batch}) makes one for inputs of batch shape {batch}"
    )


def same_tree(argument: str, expected: PyTree, got: PyTree, fix: str) -> PyTree:
    """A tree of the expected structure and leaf shapes; the message names the first leaf that differs.

    Plain tuples and lists are accepted for named tuples: ``(h, c)`` is the state of an LSTM; last fields of None may be
    left out. Fields listed in ``runtime_fields`` may hold anything. Returns the tree in the expected structure.
    """
    if isinstance(expected, tuple):
        fields = getattr(expected, "_fields", None)
        if fields and type(got) in (tuple, list) and all(e is None for e in expected[len(got) :]):
            got = (*got, *expected[len(got) :])
        other_type = getattr(got, "_fields", fields) != fields
        if not isinstance(got, (tuple, list)) or len(got) != len(expected) or other_type:
            refuse(argument, tree_summary(expected), tree_summary(got), fix, TypeError)
        paths = [f".{name}" for name in fields] if fields else [f"[{i}]" for i in range(len(expected))]
        runtime = [f".{name}" for name in getattr(expected, "runtime_fields", ())]
        entries = [
            g if path in runtime else same_tree(argument + path, e, g, fix)
            for path, e, g in zip(paths, expected, got, strict=True)
        ]
        return type(expected)(*entries) if fields else tuple(entries)
    if jax.tree.structure(expected) != jax.tree.structure(got):  # type: ignore[operator]
        refuse(argument, tree_summary(expected), tree_summary(got), fix, TypeError)
    for e, g in zip(jax.tree.leaves(expected), jax.tree.leaves(got), strict=True):
        if tuple(e.shape) != tuple(jnp.shape(g)):
            refuse(argument, f"shape {list(e.shape)}", describe(g), fix)
        if jnp.issubdtype(e.dtype, jnp.floating) and not jnp.issubdtype(jnp.result_type(g), jnp.inexact):
            refuse(argument, "floating numbers", describe(g), fix, TypeError)
    return got


def tree_summary(tree: PyTree) -> str:
    """A tuple as its type and fields or length, anything else as :func:`describe` has it."""
    if isinstance(tree, (tuple, list)):
        fields = getattr(tree, "_fields", None)
        return f"{type(tree).__name__}({', '.join(fields)})" if fields else f"{type(tree).__name__} of {len(tree)}"
    return describe(tree)


def sequence(argument: str, model: Any, xs: PyTree, time_axis: int = 0) -> None:
    """Inputs with the number of axes that the model needs, time-major ``[T, ..., I]`` or, before those of one, last."""
    rank = input_ndim(model) + 1
    axes = {1: "[T, ...]", 2: "[T, ..., I]"}.get(rank, f"[T, ..., {rank - 1} axes of one input]")
    axes = axes if time_axis == 0 else axes.replace("[T, ...", "[..., T")
    for leaf in jax.tree.leaves(xs) or [xs]:
        if not hasattr(leaf, "shape"):
            refuse(argument, f"an array {axes}", describe(xs), "jnp.asarray makes one", TypeError)
        if leaf.ndim < rank:
            refuse(argument, f"{axes}, {rank} axes or more", describe(leaf), "one step alone goes through model.step")


def input_of(model: Any, argument: str, x: PyTree) -> None:
    """The model's own check of its inputs, where it has a ``check_input``."""
    if hasattr(model, "check_input"):
        model.check_input(argument, x)


def resets(value: Any, steps: int, batch: tuple[int, ...]) -> None:
    """Bools of shape [T, ...]."""
    expected = f"bool{[steps, *batch]}, [T, ...]"
    if not hasattr(value, "shape") or value.dtype != jnp.bool_:
        refuse("resets", expected, describe(value), "resets[t] is True where a new sequence starts", TypeError)
    if tuple(value.shape) != (steps, *batch):
        refuse("resets", expected, describe(value), "jnp.broadcast_to spreads one row over the batch")


def chunk(argument: str, value: Any, steps: int) -> int | None:
    """False, True or the number of steps in a chunk; returns that number, or None for no chunks."""
    if value is False or (value is True and steps == 0):
        return None
    if not isinstance(steps, int):
        refuse(argument, "False where the number of steps is symbolic", describe(value), "export without remat")
    if value is True:
        return max(1, round(steps**0.5))
    if isinstance(value, (int, np.integer)) and value > 0:
        return min(int(value), max(steps, 1))
    error = ValueError if isinstance(value, (int, np.integer)) else TypeError
    refuse(argument, "True, False or the steps of a chunk", describe(value), "True takes √T", error)


def mask(argument: str, value: Any, shape: tuple[int, ...]) -> None:
    """Bools of the given shape."""
    if not hasattr(value, "shape") or value.dtype != jnp.bool_ or tuple(value.shape) != shape:
        error = ValueError if getattr(value, "dtype", None) == jnp.bool_ else TypeError
        refuse(argument, f"bool{list(shape)}, [T, ...]", describe(value), "True marks a step that counts", error)


def free_names(argument: str, value: Collection[str], taken: Collection[str]) -> None:
    """Names that are not in use."""
    if clash := sorted(set(value) & set(taken)):
        refuse(argument, f"names other than {', '.join(taken)}", ", ".join(clash), "give it another name")


def within(argument: str, value: Any, low: int, high: int, expected: str, fix: str) -> None:
    """Values from low to high, where they are concrete."""
    if not is_concrete(value):
        return
    values = np.asarray(value)  # operations on a jax array, closed over under jit, would be traced
    if values.size and not (np.min(values) >= low and np.max(values) <= high):
        refuse(argument, expected, f"values from {np.min(values)} to {np.max(values)}", fix)


def lengths(value: Any, steps: int, batch: tuple[int, ...], argument: str = "lengths") -> None:
    """Integers in [0, T] with the shape of the batch."""
    integers(argument, value, f"an integer array of shape {list(batch)}", "jnp.asarray(lengths) makes one")
    if tuple(value.shape) != batch:
        refuse(argument, f"shape {list(batch)}, the batch axes of the inputs", describe(value), "one length a sequence")
    if not is_concrete(value):
        return
    value = np.asarray(value)
    if value.size and not (np.min(value) >= 0 and np.max(value) <= steps):
        refuse(argument, f"values in [0, {steps}], T = {steps}", f"{np.min(value)} to {np.max(value)}",
               "a length counts the steps before the padding")  # fmt: skip


def step_arguments(cell: Any, params: Params, state: State, x: Array) -> tuple[Params, State]:
    """The arguments of one step of a built-in cell; returns parameters and state as named tuples."""
    cell.check_input("x", x)
    return parameters(cell, params), state_like("state", cell, state, x.shape[: x.ndim - input_ndim(cell)])


def one_per_layer(argument: str, value: Any, count: int, owner: str) -> None:
    """A tuple with one entry per layer."""
    if not isinstance(value, (tuple, list)) or len(value) != count:
        refuse(argument, f"tuple of {count}, one entry a layer of {owner}", tree_summary(value), error=TypeError)


def array(argument: str, value: Any, owner: str) -> None:
    """An array, not a pair of arrays."""
    if not hasattr(value, "shape"):
        refuse(
            argument, f"an array for {owner}", tree_summary(value), 'merge="concat" joins both directions', TypeError
        )


def step_result(argument: str, value: Any) -> tuple[State, PyTree]:
    """The result of a step, (state, y)."""
    if not isinstance(value, tuple) or len(value) != 2:
        refuse(argument, "the pair (state, y) from it", tree_summary(value), "return state, y", TypeError)
    return value


def next_state(state: State, new: State) -> State:
    """The state returned by a step has the structure of its argument; returns it in that structure."""
    return same_tree("state returned by step", state, new, "a step keeps the structure and shapes of its state")


def next_carry(carry: State, new: State) -> State:
    """The carry returned by a loss has the structure of its argument; returns it in that structure."""
    return same_tree("carry returned by the loss", carry, new,
                     "train_state(params, optimizer, carry=...) takes the first one, () for none")  # fmt: skip


def batch_leading(state: State, batch: tuple[int, ...]) -> None:
    """Every leaf of a state starts with the batch axes, as lengths and resets need."""
    for leaf in jax.tree.leaves(state):
        if tuple(leaf.shape[: len(batch)]) != batch:
            refuse("state", f"arrays that start with the batch axes {list(batch)}", describe(leaf),
                   "initial_state(batch_shape) puts batch_shape first in every array")  # fmt: skip
