r"""Saliency of the inputs: how an output would change with the vector of each token.

.. math:: g_t = \frac{∂o}{∂e_t}, \qquad \|g_t\|, \qquad g_t \cdot e_t

The vector :math:`e_t` of a token is a row of the embedding, which other steps may have too. So every token of the text
is given a row of its own, :class:`OwnRows`, and the gradient of these rows is taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import parts, remake
from jaxrnn.gradients import checks as gradient_checks
from jaxrnn.gradients.flow import feature_norm
from jaxrnn.layers import Embedding
from jaxrnn.layers.pointwise import EmbeddingParams
from jaxrnn.precision import widen
from jaxrnn.types import Array, Params, State, input_ndim
from jaxrnn.unroll import hide_padding, unroll


@dataclasses.dataclass(frozen=True)
class OwnRows(Embedding):
    """An embedding of one text: ``w [V + N, E]``, token n reads row V + n, and a tied readout the first V."""

    tokens: int = dataclasses.field(default=0, kw_only=True)  # N

    def init(self, key: Array) -> EmbeddingParams:
        """Rows for the vocabulary and for the text."""
        return EmbeddingParams(jnp.zeros((self.vocabulary_size + self.tokens, self.output_size), self.dtype))

    def check_input(self, argument: str, x: Any) -> None:
        """Places in the text are not ids."""

    def apply(self, params: EmbeddingParams, x: Array, key: Array | None = None) -> Array:
        """Row V + x."""
        return super().apply(params, x + self.vocabulary_size)

    def attend(self, params: EmbeddingParams, h: Array) -> Array:
        """The readout of the vocabulary."""
        return super().attend(EmbeddingParams(params.w[: self.vocabulary_size]), h)


def _with_own_rows(part: Any, tokens: int) -> Any:
    """A model with :class:`OwnRows` in place of its embedding."""
    if isinstance(part, Embedding):
        return OwnRows(part.vocabulary_size, part.output_size, dtype=part.dtype, tokens=tokens)
    if isinstance(part, tuple):
        return tuple(_with_own_rows(entry, tokens) for entry in part)
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return part
    fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    changed = {name: _with_own_rows(value, tokens) for name, value in fields.items()}
    return remake(part, **changed) if changed != fields else part


def _is_embedding(params: Any) -> bool:
    return isinstance(params, EmbeddingParams)


class Saliency(NamedTuple):
    """The gradient of an output with respect to the vector of each step."""

    gradient: Array  # [T, ..., E], ∂o/∂e_t
    norm: Array  # [T, ...], how much the output can change
    times_input: Array  # [T, ...], g_t · e_t: what the token adds to the output, to first order


def saliency(
    model: Any,
    params: Params,
    xs: Array,
    output: Callable[..., Array],
    state: State | None = None,
    **options: Any,
) -> Saliency:
    r"""Gradient of a chosen output with respect to the embedding of each token, or to each input vector.

    .. math:: g_t = \frac{∂o}{∂e_t}

    Args:
        model: a cell, layer or whole model, with one embedding at most; or a :class:`~jaxrnn.tasks.Classifier`.
        params: its parameters.
        xs: token ids ``[T, ...]`` or vectors ``[T, ..., E]``.
        output: the chosen output, ``output(final, ys) -> number`` of what :func:`~jaxrnn.unroll` returns, such as the
            logit of one class at one step; of a classifier ``output(logits) -> number``. A sum over a batch gives each
            sequence its own saliency.
        state: the state before the first step.
        **options: ``lengths``, ``input_mask``, ``key`` and others of :func:`~jaxrnn.unroll` or of the classifier.

    Returns:
        :class:`Saliency`; 0 in the padding.

    Raises:
        TypeError, ValueError: the model reads ids and has not one embedding; an argument does not fit the model.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(65, 8), rnn.GRU(8, 16), rnn.Linear(16, 65))
        >>> tokens = jnp.arange(7)
        >>> found = rnn.gradients.saliency(model, model.init(jax.random.key(0)), tokens, lambda final, ys: ys[3, 5])
        >>> found.gradient.shape, (found.norm > 0).tolist()  # the logits of step 3 see the tokens up to it
        ((7, 8), [True, True, True, True, False, False, False])

    Source: Simonyan, Vedaldi & Zisserman (2014), "Deep inside convolutional networks"; Li et al. (2016), "Visualizing
    and understanding neural models in NLP"; gradient times input: Shrikumar et al. (2017), arXiv:1605.01713.
    """
    gradient_checks.loss_function(output, "output(final, ys)", "output")
    reader, params = getattr(model, "encoder", model), checks.parameters(model, params)
    checks.sequence("xs", reader, xs)
    checks.array("xs", xs, "the inputs")
    checks.input_of(reader, "xs", hide_padding(xs, options.get("lengths"), options.get("input_mask")))
    vectors, features = jnp.asarray(xs), input_ndim(reader)
    is_text = jnp.issubdtype(vectors.dtype, jnp.integer)
    if is_text:
        tables = list(filter(_is_embedding, jax.tree.leaves(params, is_leaf=_is_embedding)))
        read = _with_own_rows(model, xs.size)
        if not len(tables) == sum(isinstance(part, OwnRows) for part in parts(read)) == 1:
            checks.refuse("model", "one Embedding, for token ids", f"{len(tables)} in {model!r}")
        vectors, features = jnp.take(tables[0].w, vectors, 0, mode="clip"), 1  # in the padding ids may be anything

    if not hasattr(model, "initial_state") and not callable(getattr(model, "apply", None)):
        checks.refuse("model", "a cell or layer, or one with apply(params, xs)", repr(model),
                      "of a Tagger Stack(encoder, readout)", TypeError)  # fmt: skip

    def value(vectors: Array) -> Array:
        if not is_text:
            return of_inputs(model, params, vectors)
        rows = vectors.reshape(-1, vectors.shape[-1])
        own = jax.tree.map(lambda p: EmbeddingParams(jnp.concatenate([p.w, rows])) if _is_embedding(p) else p,
                           params, is_leaf=_is_embedding)  # fmt: skip
        return of_inputs(read, own, jnp.arange(xs.size).reshape(xs.shape))

    def of_inputs(model: Any, params: Params, inputs: Array) -> Array:
        if hasattr(model, "initial_state"):
            return gradient_checks.loss_value(output(*unroll(model, params, inputs, state, **options)), "output")
        return gradient_checks.loss_value(output(model.apply(params, inputs, **options)), "output")

    g, axes = jax.grad(value)(vectors), vectors.ndim - features
    product = jnp.where(g == 0, 0, g * vectors)  # what is masked may be NaN
    return Saliency(g, feature_norm(g, axes), widen(product).sum(tuple(range(axes, g.ndim))))
