"""Pooling: the outputs of a sequence reduced to one vector, of the steps that count; 0 for one without any."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks, initializers
from jaxrnn.constructor import hyperparameters
from jaxrnn.layers import Bidirectional, MixedPrecision, Residual, Reverse, Stack
from jaxrnn.layers.bidirectional import MERGES, sees_future
from jaxrnn.layers.pointwise import Pointwise
from jaxrnn.precision import broadcast_rows, matmul, widen
from jaxrnn.scan import sequence_mask, where
from jaxrnn.types import Array, Params, exportable
from jaxrnn.unroll import unroll

__all__ = ["AttentionPooling", "AttentionPoolingParams", "last", "maximum", "mean"]

NEVER = -(2**31)  # as int32, before every step in either order


def last(
    model: Any,
    params: Params,
    xs: Array,
    *,
    lengths: Array | None = None,
    input_mask: Array | None = None,
    reverse: bool = False,
    key: Array | None = None,
) -> Array:
    r"""Unroll a model and return its last output of each sequence.

    .. math:: y = h_n, \qquad y = [\overrightarrow{h}_n, \overleftarrow{h}_1] \text{ in both directions}

    The output of a built-in cell is its hidden state, so this is the final hidden state: h of an LSTM, not c. For a
    bidirectional layer the last outputs of both directions are merged as it merges its outputs. In a stack that holds
    one, this applies to its topmost recurrent layer, and the pointwise layers above it (dropout, a readout) follow.

    Args:
        model: a cell or layer.
        params: its parameters.
        xs: ``[T, ..., I]`` (token ids: ``[T, ...]``).
        lengths: ``[...]`` ints, as in :func:`~jaxrnn.unroll`.
        input_mask: ``[T, ...]`` bools, as there: the last output is that of the last step with an input.
        reverse: unroll from the last step to the first; the last output is then that of the first step.
        key: random key for dropout.

    Returns:
        ``[..., H]``.

    Raises:
        TypeError: a bidirectional layer is inside another layer than a stack, a residual connection for instance.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Bidirectional(rnn.LSTM(3, 5))
        >>> params = model.init(jax.random.key(0))
        >>> rnn.tasks.pooling.last(model, params, jnp.ones((7, 2, 3)), lengths=jnp.array([7, 4])).shape
        (2, 10)
    """
    if isinstance(model, Bidirectional):
        params = checks.parameters(model, params)
        keys = (None, None) if key is None else jax.random.split(key)
        outputs = [
            last(layer, p, xs, lengths=lengths, input_mask=input_mask, reverse=reverse ^ backward, key=k)
            for layer, p, k, backward in zip(model.directions, params, keys, (False, True), strict=True)
        ]
        return MERGES[model.merge](*outputs)
    if isinstance(model, Reverse):
        return last(model.layer, params, xs, lengths=lengths, input_mask=input_mask, reverse=not reverse, key=key)
    if isinstance(model, MixedPrecision):
        y = last(
            model.layer, *model.narrow(params, xs), lengths=lengths, input_mask=input_mask, reverse=reverse, key=key
        )
        return y.astype(model.output_dtype)
    if isinstance(model, Stack) and sees_future(model):
        params = checks.parameters(model, params)
        top = max(n for n, layer in enumerate(model.layers) if not is_pointwise(layer))
        below_key, top_key, above_key = (None,) * 3 if key is None else jax.random.split(key, 3)
        below, above = Stack(*model.layers[:top]) if top else None, model.layers[top + 1 :]
        if below is not None:
            _, xs = unroll(
                below, params[:top], xs, lengths=lengths, input_mask=input_mask, reverse=reverse, key=below_key
            )
        y = last(
            model.layers[top], params[top], xs, lengths=lengths, input_mask=input_mask, reverse=reverse, key=top_key
        )
        return unroll(Stack(*above), params[top + 1 :], y[None], key=above_key)[1][0] if above else y
    if sees_future(model):
        checks.refuse("model", "a Bidirectional at the top of a Stack", repr(model),
                      'the last outputs of its directions are not defined; pooling="mean" needs none',
                      TypeError)  # fmt: skip
    _, ys = unroll(model, params, xs, lengths=lengths, input_mask=input_mask, reverse=reverse, key=key)
    return last_output(ys, lengths, input_mask, reverse=reverse)


def last_output(
    ys: Array, lengths: Array | None = None, input_mask: Array | None = None, *, reverse: bool = False
) -> Array:
    """The output of the last step that was scanned, ``[..., H]`` of ``[T, ..., H]``; 0 for a sequence without any."""
    mask = _counted(ys, lengths, input_mask)
    steps = jnp.arange(ys.shape[0], dtype=jnp.int32).reshape(-1, *[1] * (mask.ndim - 1))
    if input_mask is None:
        n = jnp.full(ys.shape[1:-1], ys.shape[0], jnp.int32) if lengths is None else jnp.asarray(lengths, jnp.int32)
        last_step = jnp.where(n > 0, 0, -1) if reverse else n - 1
    else:
        order = jnp.where(mask, -steps if reverse else steps, NEVER).max(0, initial=NEVER)
        last_step = -order if reverse else order
    return where(steps == last_step[None], ys).sum(0)


def is_pointwise(layer: Any) -> bool:
    """Whether a layer maps each step by itself, without a state."""
    if isinstance(layer, Stack):
        return all(map(is_pointwise, layer.layers))
    if isinstance(layer, (MixedPrecision, Residual, Reverse)):
        return is_pointwise(layer.layer)
    return isinstance(layer, Pointwise)


def has_last(model: Any) -> bool:
    """Whether :func:`last` is defined: no bidirectional or reversed layer is inside another layer than a stack."""
    if isinstance(model, Bidirectional):
        return all(map(has_last, model.directions))
    if isinstance(model, (Reverse, MixedPrecision)):
        return has_last(model.layer)
    if isinstance(model, Stack) and sees_future(model):
        return has_last(next(layer for layer in reversed(model.layers) if not is_pointwise(layer)))
    return not sees_future(model)


def mean(ys: Array, lengths: Array | None = None, input_mask: Array | None = None) -> Array:
    r"""The mean of outputs ``[T, ..., H]`` over the steps of each sequence, ``[..., H]``.

    .. math:: y = \frac{1}{n} \sum_{t=1}^{n} h_t

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> float(rnn.tasks.pooling.mean(jnp.array([[1.0], [3.0], [9.0]]), jnp.array(2))[0])
        2.0
    """
    mask = _counted(ys, lengths, input_mask)
    total = widen(where(mask, ys)).sum(0)
    return (total / jnp.maximum(mask.sum(0), 1).astype(total.dtype)[..., None]).astype(ys.dtype)


def maximum(ys: Array, lengths: Array | None = None, input_mask: Array | None = None) -> Array:
    r"""The maximum of outputs ``[T, ..., H]`` over the steps of each sequence, feature by feature, ``[..., H]``.

    .. math:: y_j = \max_{t \le n} h_{tj}

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> float(rnn.tasks.pooling.maximum(jnp.array([[-1.0], [-3.0], [9.0]]), jnp.array(2))[0])
        -1.0
    """
    mask = _counted(ys, lengths, input_mask)
    return where(mask.any(0), jnp.where(mask[..., None], ys, -jnp.inf).max(0, initial=-jnp.inf))


@exportable
class AttentionPoolingParams(NamedTuple):
    """``w [H, A]``, ``b [A]``, ``v [A]``."""

    w: Array
    b: Array
    v: Array


@hyperparameters
class AttentionPooling:
    r"""Attention pooling: a mean with learned weights, the softmax of a score of each step.

    .. math:: α_t = \mathrm{softmax}_{t \le n}(\tanh(h_t w + b) \cdot v), \qquad y = \sum_t α_t h_t

    Args:
        input_size: H, the features of an output.
        attention_size: A, the hidden units of the score.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> pool = rnn.tasks.AttentionPooling(5, 4)
        >>> params = pool.init(jax.random.key(0))
        >>> ys = jnp.ones((7, 2, 5))
        >>> pool.apply(params, ys, jnp.array([7, 4])).shape
        (2, 5)
        >>> pool.weights(params, ys, jnp.array([7, 4]))[:, 1].round(2).tolist()
        [0.25, 0.25, 0.25, 0.25, 0.0, 0.0, 0.0]

    Source: Yang et al. (2016), "Hierarchical attention networks for document classification".
    """

    input_size: int
    attention_size: int
    _: dataclasses.KW_ONLY
    dtype: str = "float32"

    def __post_init__(self) -> None:
        checks.size("input_size", self.input_size)
        checks.size("attention_size", self.attention_size)
        object.__setattr__(self, "dtype", checks.float_dtype("dtype", self.dtype))

    def init(self, key: Array) -> AttentionPoolingParams:
        """Draw ``w [H, A]`` and ``v [A]``; ``b [A]`` is 0."""
        w_key, v_key = jax.random.split(key)
        glorot, size = initializers.NAMED["glorot_uniform"], self.attention_size
        w = initializers.draw("w_init", glorot, w_key, (self.input_size, size), self.dtype)
        v = initializers.draw("v_init", glorot, v_key, (size, 1), self.dtype)[:, 0]
        return AttentionPoolingParams(w, jnp.zeros(size, self.dtype), v)

    def weights(
        self, params: AttentionPoolingParams, ys: Array, lengths: Array | None = None, input_mask: Array | None = None
    ) -> Array:
        """The weights ``α [T, ...]``: they sum to 1 over the steps of each sequence, and are 0 where there is none."""
        checks.features("ys", ys, self.input_size, "AttentionPooling")
        params, mask = checks.parameters(self, params), _counted(ys, lengths, input_mask)
        z = matmul(where(mask, ys), params.w)
        scores = widen(jnp.tanh(z + broadcast_rows(params.b, z)) @ params.v)  # [T, ...]; a softmax is a sum over T
        largest = jax.lax.stop_gradient(jnp.where(mask, scores, -jnp.inf).max(0, initial=-jnp.inf))
        exponentials = where(mask, jnp.exp(scores - jnp.where(mask.any(0), largest, 0)[None]))
        return (exponentials / jnp.where(mask.any(0), exponentials.sum(0), 1)[None]).astype(ys.dtype)

    def apply(
        self, params: AttentionPoolingParams, ys: Array, lengths: Array | None = None, input_mask: Array | None = None
    ) -> Array:
        """The weighted mean ``[..., H]`` of outputs ``[T, ..., H]``."""
        weights = self.weights(params, ys, lengths, input_mask)
        terms = weights[..., None] * where(_counted(ys, lengths, input_mask), ys)
        return widen(terms).sum(0).astype(ys.dtype)


def _counted(ys: Any, lengths: Array | None, input_mask: Array | None) -> Array:
    """The steps of outputs ``[T, ..., H]`` that count, bools ``[T, ...]``; by default all."""
    checks.array("ys", ys, "pooling")
    if ys.ndim < 2:
        checks.refuse("ys", "outputs [T, ..., H], 2 axes or more", checks.describe(ys))
    mask = jnp.ones(ys.shape[:-1], bool)
    if lengths is not None:
        checks.lengths(lengths, ys.shape[0], tuple(ys.shape[1:-1]))
        mask = sequence_mask(ys.shape[0], jnp.asarray(lengths))
    if input_mask is not None:
        checks.mask("input_mask", input_mask, tuple(ys.shape[:-1]))
        mask &= input_mask
    return mask
