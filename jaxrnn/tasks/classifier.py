"""Many to one: sequence classification."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters
from jaxrnn.layers import Dropout, Linear, LinearParams
from jaxrnn.tasks import checks as task_checks
from jaxrnn.tasks.pooling import AttentionPooling, last, maximum, mean
from jaxrnn.types import Array, Params, PyTree, exportable
from jaxrnn.unroll import unroll

POOLINGS = ("last", "mean", "max", "attention")


@exportable
class ClassifierParams(NamedTuple):
    """Parameters of the encoder, of the pooling (``()`` if it has none) and of the readout."""

    encoder: Params
    pooling: Any
    readout: LinearParams


@hyperparameters
class Classifier:
    r"""Encode a sequence into one vector, and map it to the logits of the classes.

    .. math:: o = \mathrm{pool}(h_1, …, h_n) \, w + b

    Args:
        encoder: a cell or layer; it may be bidirectional.
        classes: number of classes.
        pooling: how the outputs are reduced to one vector: ``"last"`` (the last output of each sequence), ``"mean"``,
            ``"max"`` or ``"attention"``, see :mod:`jaxrnn.tasks.pooling`.
        dropout: dropout rate of the vector, applied if :meth:`apply` has a key.
        attention_size: hidden units of ``pooling="attention"``.
        features: width of the encoder's outputs, for an encoder without an ``output_size``.
        dtype: dtype of pooling and readout; the encoder has its own.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range; the width is not known, or differs.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> encoder = rnn.Stack(rnn.Embedding(65, 8), rnn.Bidirectional(rnn.GRU(8, 16)))
        >>> model = rnn.tasks.Classifier(encoder, 18, pooling="attention", dropout=0.5)
        >>> params = model.init(jax.random.key(0))
        >>> logits = model.apply(params, jnp.zeros((7, 2), int), lengths=jnp.array([7, 4]))
        >>> logits.shape
        (2, 18)
        >>> loss = rnn.losses.cross_entropy(logits, jnp.array([3, 17]))
    """

    encoder: Any
    classes: int
    _: dataclasses.KW_ONLY
    pooling: str = "last"
    dropout: float = 0.0
    attention_size: int = 64
    features: int | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        checks.layer("encoder", self.encoder)
        checks.size("classes", self.classes)
        checks.one_of("pooling", self.pooling, POOLINGS)
        checks.fraction("dropout", self.dropout)
        checks.size("attention_size", self.attention_size)
        object.__setattr__(self, "dtype", checks.float_dtype("dtype", self.dtype))
        task_checks.encoder_width("features", self.features, self.encoder)

    @property
    def width(self) -> int:
        """Features of the vector that a sequence is encoded into."""
        return self.features or self.encoder.output_size

    @property
    def attention(self) -> AttentionPooling:
        """The attention pooling, for its weights: ``model.attention.weights(params.pooling, ys, lengths)``."""
        return AttentionPooling(self.width, self.attention_size, dtype=self.dtype)

    @property
    def readout(self) -> Linear:
        return Linear(self.width, self.classes, dtype=self.dtype)

    def init(self, key: Array) -> ClassifierParams:
        """Draw the parameters of encoder, pooling and readout."""
        keys = jax.random.split(key, 3)
        pooling = self.attention.init(keys[1]) if self.pooling == "attention" else ()
        return ClassifierParams(self.encoder.init(keys[0]), pooling, self.readout.init(keys[2]))

    def encode(
        self,
        params: ClassifierParams,
        xs: PyTree,
        *,
        lengths: Array | None = None,
        input_mask: Array | None = None,
        key: Array | None = None,
    ) -> Array:
        """Encode sequences ``[T, ..., I]`` as vectors ``[..., width]``; 0 for one without steps."""
        params = checks.parameters(self, params)
        if self.pooling == "last":
            return last(self.encoder, params.encoder, xs, lengths=lengths, input_mask=input_mask, key=key)
        _, ys = unroll(self.encoder, params.encoder, xs, lengths=lengths, input_mask=input_mask, key=key)
        if self.pooling == "attention":
            return self.attention.apply(params.pooling, ys, lengths, input_mask)
        return {"mean": mean, "max": maximum}[self.pooling](ys, lengths, input_mask)

    def apply(
        self,
        params: ClassifierParams,
        xs: PyTree,
        *,
        lengths: Array | None = None,
        input_mask: Array | None = None,
        key: Array | None = None,
    ) -> Array:
        """Compute the logits of the classes.

        Args:
            params: parameters from :meth:`init`.
            xs: ``[T, ..., I]`` (token ids: ``[T, ...]``).
            lengths: ``[...]`` ints, the number of steps before the padding.
            input_mask: ``[T, ...]`` bools, True where there is an input, as in :func:`~jaxrnn.unroll`; the other steps
                are not pooled.
            key: random key for dropout; without one there is no dropout.

        Returns:
            Logits ``[..., classes]``; those of a sequence without steps are the bias of the readout.
        """
        keys = (None, None) if key is None else jax.random.split(key)
        vector = self.encode(params, xs, lengths=lengths, input_mask=input_mask, key=keys[0])
        self.readout.check_input("outputs of encoder", vector)
        return self.readout.apply(params.readout, Dropout(self.dropout).apply((), vector, keys[1]))
