r"""Layer normalization: its equation and its tangent.

.. math::
    \mathrm{LN}(u) = α ⊙ \hat u + β, \qquad
    \hat u = \frac{u - μ}{\sqrt{σ^2 + ε}}, \qquad
    μ = \frac{1}{D} \sum_{i=1}^{D} u_i, \qquad σ^2 = \frac{1}{D} \sum_{i=1}^{D} (u_i - μ)^2

The mean of a product ``h w`` is subtracted from w, once for a whole scan (:func:`centred_weights`); a step is left with
the variance, ``mean(u²)``. So the functions below but for :func:`centred` take a ``u`` of mean 0.

The gain α starts at 1, the bias β at 0. ``EPSILON`` is ε; the paper has none, and the projection of an initial state of
0 has no variance. Mean and variance of numbers of 16 bits are computed in float32.

Without layer norm a cell has None in place of :class:`LayerNormParams`: then LN is the identity.

Source: Ba, Kiros & Hinton (2016), "Layer normalization", arXiv:1607.06450.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.precision import add_bias, broadcast_rows, widen
from jaxrnn.types import Array, exportable

EPSILON = 1e-5


@exportable
class LayerNormParams(NamedTuple):
    """``gain [D]``, and ``bias [D]`` or None."""

    gain: Array
    bias: Array | None


@exportable
class ProjectionNorms(NamedTuple):
    """The layer norms of the projections ``x w_xh [G·H]`` and ``h w_hh [G·H]``; None: no norm."""

    x: LayerNormParams | None = None
    h: LayerNormParams | None = None


class Standardized(NamedTuple):
    """``û [..., D]``, of mean 0 and variance 1, and ``1/√(σ² + ε)``, ``[..., 1]`` (of several blocks ``[..., D]``)."""

    values: Array
    scale: Array


def init_layer_norm(size: int, dtype: str, *, use_bias: bool = True) -> LayerNormParams:
    """Gains of 1 and biases of 0."""
    checks.dtype_available(dtype)
    return LayerNormParams(jnp.ones(size, dtype), jnp.zeros(size, dtype) if use_bias else None)


def centred(u: Array, sizes: tuple[int, ...] = ()) -> Array:
    """``u - μ``, of ``u [..., D]`` or of each of its blocks of ``sizes``."""
    wide = widen(u)
    return (wide - _mean(wide, sizes)).astype(u.dtype)


def centred_weights(params: Any, sizes: tuple[int, ...] = ()) -> Any:
    """With layer norm, the parameters with the rows of ``w_xh`` and ``w_hh`` centred, as then is a product with them.

    For the mean of ``h w`` is the product of h and the means of the rows of w.
    """
    if params.layer_norm is None:
        return params
    return params._replace(w_xh=centred(params.w_xh, sizes), w_hh=centred(params.w_hh, sizes))


def layer_norm(
    norm: LayerNormParams | None, u: Array, sizes: tuple[int, ...] = ()
) -> tuple[Array, Standardized | None]:
    """LN of a centred ``u [..., D]`` or of its blocks, and û for the tangent; u and None where the norm is None."""
    if norm is None:
        return u, None
    û = standardized(u, sizes)
    return affine(norm, û), û


def standardized(u: Array, sizes: tuple[int, ...] = ()) -> Standardized:
    """``û`` of a centred u, and its scale."""
    wide = widen(u)
    scale = jax.lax.rsqrt(_mean(wide**2, sizes) + EPSILON)
    return Standardized((wide * scale).astype(u.dtype), scale.astype(u.dtype))


def affine(norm: LayerNormParams, u: Standardized) -> Array:
    """``α ⊙ û + β``; of ``dα, dβ`` it is the tangent of LN along its parameters."""
    return add_bias(broadcast_rows(norm.gain, u.values) * u.values, norm.bias)


def along_input(norm: LayerNormParams | None, u: Standardized | None, du: Array, sizes: tuple[int, ...] = ()) -> Array:
    """The tangent of LN along its input, for a centred ``du``; without norm ``du``.

    It is ``α ⊙ (du - û ⊙ mean(û ⊙ du)) / √(σ² + ε)``.
    """
    if norm is None or u is None:
        return du
    wide, values = widen(du), widen(u.values)
    projected = wide - values * _mean(values * wide, sizes)
    return broadcast_rows(norm.gain, du) * (u.scale * projected.astype(du.dtype))


def tangent(
    norm: LayerNormParams | None, dnorm: LayerNormParams | None, u: Standardized | None, du: Array,
    sizes: tuple[int, ...] = (),
) -> Array:  # fmt: skip
    """The tangent of LN along its parameters and its input; without norm ``du``."""
    return du if dnorm is None or u is None else along_input(norm, u, du, sizes) + affine(dnorm, u)


def _mean(u: Array, sizes: tuple[int, ...]) -> Array:
    """The mean over the last axis, or over each of its blocks, in the place of all of its entries."""
    if len(sizes) < 2:
        return u.mean(-1, keepdims=True)
    blocks = jax.lax.split(u, sizes, axis=u.ndim - 1)
    return jnp.concatenate([jnp.broadcast_to(b.mean(-1, keepdims=True), b.shape) for b in blocks], -1)
