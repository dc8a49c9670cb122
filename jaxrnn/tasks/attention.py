"""Attention: a weighted mean of a memory, with weights computed from a query.

What is the same at every step, such as the keys, is computed once for each sequence (:meth:`Attention.prepare`). Axes:
``S`` the steps of the memory, ``E`` its features, ``H`` those of the query, ``A`` those of a key.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks, initializers
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.precision import broadcast, matmul, widen
from jaxrnn.scan import sequence_mask, where
from jaxrnn.types import Array, exportable


@exportable
class AttentionMemory(NamedTuple):
    """A memory with its keys, computed once and attended to at every step."""

    values: Array  # [S, ..., E], 0 in the padding
    keys: Array  # [S, ..., A]
    mask: Array | None  # [S, ...] bool, False in the padding; None: no padding


class Attention:
    r"""Base class of the attentions; a subclass adds ``init``, ``keys`` and ``scores``.

    .. math:: α_s = \mathrm{softmax}_s\, \mathrm{score}(h, e_s), \qquad c = \sum_s α_s e_s
    """

    memory_size: int
    query_size: int

    def keys(self, params: Any, memory: Array) -> Array:
        """The keys ``[S, ..., A]`` of a memory ``[S, ..., E]``."""
        raise NotImplementedError

    def scores(self, params: Any, query: Array, keys: Array) -> Array:
        """The scores ``[S, ...]`` of a query ``[..., H]`` and keys ``[S, ..., A]``."""
        raise NotImplementedError

    def prepare(self, params: Any, memory: Array, lengths: Array | None = None) -> AttentionMemory:
        """Compute the keys of a memory.

        Args:
            params: the parameters of the attention.
            memory: ``[S, ..., E]``, an encoder's outputs.
            lengths: ``[...]`` ints. Later steps are padding: weight and gradient are 0, whatever they hold.

        Returns:
            :class:`AttentionMemory`, the argument of :meth:`attend`.
        """
        checks.features("memory", memory, self.memory_size, type(self).__name__)
        mask, memory = None, jnp.asarray(memory)
        if lengths is not None:
            checks.lengths(lengths, memory.shape[0], memory.shape[1:-1])
            mask = sequence_mask(memory.shape[0], jnp.asarray(lengths))
            memory = where(mask, memory)
        return AttentionMemory(memory, self.keys(params, memory), mask)

    def attend(self, params: Any, query: Array, memory: AttentionMemory) -> tuple[Array, Array]:
        """Return the context ``[..., E]`` of a query ``[..., H]``, and the weights ``[S, ...]``, which sum to 1.

        The query may have further axes before those of the memory, for a beam or for time; the memory is broadcast over
        them and not copied. For a memory of length 0, weights and context are 0.
        """
        checks.features("query", query, self.query_size, type(self).__name__)
        scores = widen(self.scores(params, query, memory.keys))  # a softmax is a sum over S
        if memory.mask is None:
            weights = jax.nn.softmax(scores, axis=0)
        else:
            mask = expand_batch_axes(memory.mask, scores.ndim)
            lowest = jnp.finfo(scores.dtype).min
            weights = jnp.where(mask, jax.nn.softmax(jnp.where(mask, scores, lowest), axis=0), 0)
        weights = weights.astype(query.dtype)
        return jnp.einsum("s...,s...e->...e", weights, memory.values), weights


def expand_batch_axes(memory: Array, ndim: int) -> Array:
    """Insert axes of size 1 after the first of ``[S, ...]``, up to ``ndim`` axes."""
    return jnp.expand_dims(memory, tuple(range(1, 1 + ndim - memory.ndim)))


@exportable
class AdditiveParams(NamedTuple):
    """``w_q [H, A]``, ``w_k [E, A]``, ``v [A]``."""

    w_q: Array
    w_k: Array
    v: Array


@hyperparameters
class AdditiveAttention(Attention):
    r"""Additive attention.

    .. math:: \mathrm{score}(h, e_s) = \tanh(h w_q + e_s w_k) \cdot v

    Args:
        memory_size: E, the features of the memory.
        query_size: H, the features of the query.
        size: A, the units of the hidden layer.
        w_init: initializer of ``w_q`` and ``w_k``, by name or callable.
        v_init: initializer of ``v``.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> attention = rnn.tasks.AdditiveAttention(6, 5, 4)
        >>> params = attention.init(jax.random.key(0))
        >>> memory = attention.prepare(params, jnp.ones((7, 2, 6)), lengths=jnp.array([7, 3]))
        >>> context, weights = attention.attend(params, jnp.ones((2, 5)), memory)
        >>> context.shape, weights.shape, float(weights[3:, 1].sum())
        ((2, 6), (7, 2), 0.0)

    Source: Bahdanau, Cho & Bengio (2015), "Neural machine translation by jointly learning to align and translate".
    """

    memory_size: int
    query_size: int
    size: int
    _: dataclasses.KW_ONLY
    w_init: str | Initializer = "glorot_uniform"
    v_init: str | Initializer = "uniform"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_hyperparameters(self, "memory_size", "query_size", "size")
        checks.initializer("v_init", self.v_init, initializers.NAMED)

    def init(self, key: Array) -> AdditiveParams:
        """Draw ``w_q [H, A]``, ``w_k [E, A]`` and ``v [A]``."""
        keys = jax.random.split(key, 3)
        return AdditiveParams(
            initializers.draw("w_init", self.w_init, keys[0], (self.query_size, self.size), self.dtype),
            initializers.draw("w_init", self.w_init, keys[1], (self.memory_size, self.size), self.dtype),
            initializers.draw("v_init", self.v_init, keys[2], (self.size,), self.dtype),
        )

    def keys(self, params: AdditiveParams, memory: Array) -> Array:
        """``e w_k``."""
        return matmul(memory, params.w_k)

    def scores(self, params: AdditiveParams, query: Array, keys: Array) -> Array:
        """``tanh(h w_q + e w_k) · v``."""
        q, keys = matmul(query, params.w_q), expand_batch_axes(keys, query.ndim + 1)
        shape = (keys.shape[0], *q.shape)
        return jnp.tanh(broadcast(q, shape) + broadcast(keys, shape)) @ params.v


@hyperparameters
class DotAttention(Attention):
    r"""Dot-product attention; it has no parameters.

    .. math:: \mathrm{score}(h, e_s) = h \cdot e_s

    Args:
        size: E = H, the features of memory and query.

    Raises:
        TypeError, ValueError: the size is not a positive int.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> attention = rnn.tasks.DotAttention(5)
        >>> context, weights = attention.attend((), jnp.ones(5), attention.prepare((), jnp.ones((4, 5))))
        >>> weights.tolist()
        [0.25, 0.25, 0.25, 0.25]

    Source: Luong, Pham & Manning (2015), "Effective approaches to attention-based neural machine translation".
    """

    size: int

    def __post_init__(self) -> None:
        checks.size("size", self.size)

    @property
    def memory_size(self) -> int:  # type: ignore[override]
        return self.size

    @property
    def query_size(self) -> int:  # type: ignore[override]
        return self.size

    def init(self, key: Array) -> tuple[()]:
        """No parameters: ``()``."""
        return ()

    def keys(self, params: tuple[()], memory: Array) -> Array:
        """The memory itself."""
        return memory

    def scores(self, params: tuple[()], query: Array, keys: Array) -> Array:
        """``h · e``."""
        return jnp.einsum("...a,s...a->s...", query, keys)


@exportable
class GeneralParams(NamedTuple):
    """``w [E, H]``."""

    w: Array


@hyperparameters
class GeneralAttention(Attention):
    r"""General attention: a bilinear form.

    .. math:: \mathrm{score}(h, e_s) = h \cdot (e_s w)

    Args:
        memory_size: E, the features of the memory.
        query_size: H, the features of the query.
        w_init: initializer, by name or callable.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> attention = rnn.tasks.GeneralAttention(6, 5)
        >>> params = attention.init(jax.random.key(0))
        >>> context, weights = attention.attend(params, jnp.ones(5), attention.prepare(params, jnp.ones((4, 6))))
        >>> weights.tolist()
        [0.25, 0.25, 0.25, 0.25]

    Source: Luong, Pham & Manning (2015), "Effective approaches to attention-based neural machine translation".
    """

    memory_size: int
    query_size: int
    _: dataclasses.KW_ONLY
    w_init: str | Initializer = "glorot_uniform"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_hyperparameters(self, "memory_size", "query_size")

    def init(self, key: Array) -> GeneralParams:
        """Draw ``w [E, H]``."""
        shape = (self.memory_size, self.query_size)
        return GeneralParams(initializers.draw("w_init", self.w_init, key, shape, self.dtype))

    def keys(self, params: GeneralParams, memory: Array) -> Array:
        """``e w``."""
        return matmul(memory, params.w)

    def scores(self, params: GeneralParams, query: Array, keys: Array) -> Array:
        """``h · (e w)``."""
        return jnp.einsum("...a,s...a->s...", query, keys)


def check_hyperparameters(attention: Any, *sizes: str) -> None:
    """Checks shared by the attentions with parameters; replaces the dtype by its name."""
    for name in sizes:
        checks.size(name, getattr(attention, name))
    checks.initializer("w_init", attention.w_init, initializers.NAMED)
    object.__setattr__(attention, "dtype", checks.float_dtype("dtype", attention.dtype))
