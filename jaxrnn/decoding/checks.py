"""Checks of the arguments of decoding. Messages have the form of those in jaxrnn.checks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.checks import describe, integers, is_concrete, known_number, refuse, size, tree_summary
from jaxrnn.types import Array, PyTree, input_ndim

ONE_EACH = "jax.vmap takes one for each sequence"


def token_model(argument: str, model: Any) -> None:
    """Refuse a model whose ``input_size`` shows that its inputs are vectors."""
    width = getattr(model, "input_size", None)
    if width is not None and input_ndim(model) > 0:
        refuse(argument, "one that takes token ids", f"{model!r}, which takes vectors of {width}",
               "Stack(Embedding(vocabulary_size, size), ...) starts with a vector for each token",
               TypeError)  # fmt: skip


def first_token(argument: str, value: Any) -> Array:
    """Integer token ids; returns them as an array."""
    kind = jnp.result_type(value) if hasattr(value, "dtype") or isinstance(value, (bool, int, float)) else None
    if kind is None or not jnp.issubdtype(kind, jnp.integer):
        refuse(argument, "integer token ids [...]", describe(value), "jnp.asarray(ids, dtype=int)", TypeError)
    return jnp.asarray(value, kind)


def step_logits(value: Any, ids: Array) -> int:
    """Logits ``[..., V]``, one row a token; returns V."""
    if not hasattr(value, "shape") or not jnp.issubdtype(value.dtype, jnp.floating):
        refuse("model.step", "floating logits [..., V] from it", tree_summary(value),
               "end the model with a Linear to the size of the vocabulary", TypeError)  # fmt: skip
    if value.ndim == 0 or tuple(value.shape[:-1]) != ids.shape:
        refuse("model.step", f"logits {_axes(*ids.shape, 'V')} for tokens {list(ids.shape)}",
               describe(value), "token ids have no feature axis; the state's batch is that of the token")  # fmt: skip
    if jnp.iinfo(ids.dtype).max < value.shape[-1] - 1:
        refuse("token", f"a dtype that holds ids up to {value.shape[-1] - 1}", ids.dtype, ".astype('int32')")
    return value.shape[-1]


def vocabulary_fits(argument: str, model: Any, vocabulary: int) -> None:
    """Every token that can be generated can be fed back: a ``vocabulary_size`` is at least the number of logits."""
    embedded = getattr(model, "vocabulary_size", None)
    if embedded is not None and embedded < vocabulary:
        refuse(argument, f"logits for at most {embedded} tokens, those that its Embedding holds", vocabulary,
               f"Embedding({vocabulary}, ...) holds all that it can generate")  # fmt: skip


def no_nan(**arguments: PyTree) -> None:
    """No NaN in floating arrays whose values are known: the argmax of NaN logits would always be token 0."""
    leaves = [
        (path, leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(arguments)
        if is_concrete(leaf) and jnp.size(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    ]
    with jax.ensure_compile_time_eval():  # also for constants that a function under jit closes over
        flags = jax.device_get(_has_nan([leaf for _, leaf in leaves]))
    for (path, leaf), has_nan in zip(leaves, flags, strict=True):
        if has_nan:
            name = path[0].key + jax.tree_util.keystr(path[1:])
            refuse(name, "numbers", f"NaN in {describe(leaf)}",
                   "a smaller learning rate or gradient clipping may avoid it")  # fmt: skip


@jax.jit
def _has_nan(leaves: list[Array]) -> list[Array]:
    return [jnp.isnan(leaf).astype(jnp.int8).max() for leaf in leaves]  # any() takes twice as long on CPU


def eos_token(argument: str, value: Any, vocabulary: int) -> None:
    """A token of the vocabulary, a Python int."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        refuse(argument, "an int, one token of the vocabulary", describe(value), error=TypeError)
    if not 0 <= value < vocabulary:
        refuse(argument, f"a token in [0, {vocabulary})", value, "the token that ends a sequence is one of the model's")


def continuation(argument: str, value: Any, first: Array) -> None:
    """Token ids [T, ...], T at least 1, for a first token [...]."""
    integers(argument, value, "integer token ids [T, ...]", "jnp.asarray(ids, dtype=int)")
    if value.ndim != first.ndim + 1 or value.shape[1:] != first.shape or value.shape[0] == 0:
        refuse(argument, f"shape {_axes('T', *first.shape)}, time before the axes of token",
               describe(value), "log_probabilities of one text: token [], tokens [T]")  # fmt: skip


def concrete(argument: str, value: Any, fix: str) -> None:
    """Arrays with known values, no tracers."""
    for leaf in jax.tree.leaves(value):
        if not is_concrete(leaf):
            refuse(argument, "values known outside of tracing", f"traced {describe(leaf)}", fix, TypeError)


def one_sequence(argument: str, value: Array) -> None:
    """An array of shape []."""
    if value.shape != ():
        refuse(argument, "one token, without batch axes", describe(value), "sample() takes a batch")


def temperature_range(argument: str, value: Any) -> None:
    """A number of at least 0."""
    value = known_number(argument, value, ONE_EACH)
    if value is not None and value < 0:
        refuse(
            argument,
            "a number of at least 0",
            value,
            "0 takes the most likely token, 1 samples the model's distribution",
        )


def at_most(argument: str, value: Any, limit: int, what: str) -> None:
    """A positive int up to a limit."""
    size(argument, value)
    if value > limit:
        refuse(argument, f"at most {limit}", value, f"{limit} is {what}")


def top_p_range(argument: str, value: Any) -> None:
    """A number in (0, 1]."""
    value = known_number(argument, value, ONE_EACH)
    if value is not None and not 0 < value <= 1:
        refuse(argument, "a number in (0, 1]", value, "it is the probability to keep; 1 keeps all")


def length_penalty_range(argument: str, value: Any) -> None:
    """A number of at least 0."""
    value = known_number(argument, value, ONE_EACH)
    if value is not None and value < 0:
        refuse(argument, "a number of at least 0", value, "0 ranks by log probability, 1 by its mean over a sequence")


def _axes(*sizes: Any) -> str:
    return f"[{', '.join(map(str, sizes))}]"
