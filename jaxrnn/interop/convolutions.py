"""The convolutional LSTM of other libraries: a convolution of the input, one of the state, and the order of gates."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrnn.cells import ConvLSTM, ConvLSTMParams
from jaxrnn.interop.arrays import one_dtype, shape
from jaxrnn.interop.layouts import Layout, add_to_gate

TWO_BIASES = {"peepholes": (False,), "strides": (1,), "padding": ("SAME",), "dilation": (1,), "use_bias": (True,)}


class Convolutions(NamedTuple):
    """Kernels ``[*kernel, C, 4H]`` and ``[*kernel, H, 4H]`` and biases ``[4H]``, in the order of gates of a library."""

    w_x: np.ndarray
    b_x: np.ndarray | None
    w_h: np.ndarray
    b_h: np.ndarray | None = None


def to_model(
    place: str, arrays: Convolutions, layout: Layout, spatial: tuple[int, ...], adds: float = 0.0, **options: Any
) -> tuple[ConvLSTM, ConvLSTMParams]:
    """The cell and its parameters; ``adds`` is what the library adds to the forget gate in every step."""
    *kernel, C, gates = arrays.w_x.shape
    H = gates // 4
    expected = Convolutions(arrays.w_x.shape, (4 * H,), (*kernel, H, 4 * H), (4 * H,))  # type: ignore[arg-type]
    given = {name: array for name, array in arrays._asdict().items() if array is not None}
    for name, array in given.items():
        shape(f"{place}: {name}", array, getattr(expected, name))
    dtype = one_dtype(place, given.values(), "cast them to one dtype")
    zeros = np.zeros(4 * H, dtype)
    b_x, b_h = (zeros if b is None else layout.ours(b) for b in (arrays.b_x, arrays.b_h))
    use_bias = bool(adds) or arrays.b_x is not None
    cell = ConvLSTM((*spatial, C), H, tuple(kernel), use_bias=use_bias, dtype=dtype, **options)
    b = jnp.array(b_x + add_to_gate(b_h, "f", adds)) if use_bias else None
    w_xh, w_hh = jnp.array(layout.ours(arrays.w_x)), jnp.array(layout.ours(arrays.w_h))
    return cell, ConvLSTMParams(w_xh, w_hh, b, None)


def from_params(params: ConvLSTMParams, layout: Layout, adds: float = 0.0) -> Convolutions:
    """The inverse of :func:`to_model`. What the library adds is taken off in ``b_h``, which ``b_x`` leaves exact."""
    w_x, w_h = layout.theirs(np.asarray(params.w_xh)), layout.theirs(np.asarray(params.w_hh))
    b_x = None if params.b_h is None else layout.theirs(np.asarray(params.b_h))
    b_h = layout.theirs(add_to_gate(np.zeros(w_h.shape[-1:], w_h.dtype), "f", -adds)) if adds else None
    return Convolutions(w_x, b_x, w_h, b_h)
