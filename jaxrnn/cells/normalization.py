r"""Layer normalization: its equation and its tangent.

.. math::
    \mathrm{LN}(u) = α ⊙ \hat u + β, \qquad
    \hat u = \frac{u - μ}{\sqrt{σ^2 + ε}}, \qquad
    μ = \frac{1}{D} \sum_{i=1}^{D} u_i, \qquad σ^2 = \frac{1}{D} \sum_{i=1}^{D} (u_i - μ)^2

The gain α starts at 1, the bias β at 0. ``EPSILON`` is ε; the paper has none, and the projection of an initial state of
0 has no variance. Mean and variance of numbers of 16 bits are computed in float32.

Without layer norm a cell has None in place of :class:`LayerNormParams`: then LN is the identity.

Source: Ba, Kiros & Hinton (2016), "Layer normalization", arXiv:1607.06450.
"""

from __future__ import annotations

from typing import NamedTuple

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


def layer_norm(norm: LayerNormParams | None, u: Array, sizes: tuple[int, ...] = ()) -> Array:
    """LN of ``u [..., D]``, or of each of its blocks of ``sizes``; ``u`` itself where the norm is None."""
    return u if norm is None else affine(norm, standardized(u, sizes))


def standardized(u: Array, sizes: tuple[int, ...] = ()) -> Standardized:
    """``û`` and its scale."""
    wide = widen(u)
    centred = wide - _mean(wide, sizes)
    scale = jax.lax.rsqrt(_mean(centred**2, sizes) + EPSILON)
    return Standardized((centred * scale).astype(u.dtype), scale.astype(u.dtype))


def affine(norm: LayerNormParams, u: Standardized) -> Array:
    """``α ⊙ û + β``; of ``dα, dβ`` it is the tangent of LN along its parameters."""
    return add_bias(broadcast_rows(norm.gain, u.values) * u.values, norm.bias)


def along_input(norm: LayerNormParams | None, u: Standardized | None, du: Array, sizes: tuple[int, ...] = ()) -> Array:
    """The tangent of LN along its input; without norm ``du``.

    It is ``α ⊙ (du - mean(du) - û ⊙ mean(û ⊙ du)) / √(σ² + ε)``.
    """
    if norm is None or u is None:
        return du
    wide, values = widen(du), widen(u.values)
    projected = wide - _mean(wide, sizes) - values * _mean(values * wide, sizes)
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
