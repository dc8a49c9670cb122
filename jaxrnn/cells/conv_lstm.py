"""The convolutional LSTM: an LSTM on a grid, whose products are convolutions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn import checks, initializers
from jaxrnn.cells import common
from jaxrnn.cells.lstm import LSTMState
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.precision import add_bias, broadcast_rows
from jaxrnn.types import Array, Mask, PyTree, Recurrence, exportable, unmasked


@exportable
class ConvLSTMParams(NamedTuple):
    """``w_xh [*kernel, C, 4H]``, ``w_hh [*kernel, H, 4H]``, ``b_h [4H]``, ``peepholes [3, *grid, H]``; i, f, o, c̃."""

    w_xh: Array
    w_hh: Array
    b_h: Array | None
    peepholes: Array | None


class ConvLSTMGates(NamedTuple):
    """Intermediate values of a step, each ``[..., *grid, H]``."""

    i: Array
    f: Array
    o: Array
    candidate: Array


@hyperparameters
class ConvLSTM:
    r"""The convolutional LSTM, for sequences of images, signals or volumes: 1 to 3 spatial axes, channels last.

    .. math::
        i &= σ(x_t * w_{xi} + h_{t-1} * w_{hi} + p_i ⊙ c_{t-1} + b_i) \\
        f &= σ(x_t * w_{xf} + h_{t-1} * w_{hf} + p_f ⊙ c_{t-1} + b_f) \\
        c_t &= f ⊙ c_{t-1} + i ⊙ \tanh(x_t * w_{x\tilde c} + h_{t-1} * w_{h\tilde c} + b_{\tilde c}) \\
        o &= σ(x_t * w_{xo} + h_{t-1} * w_{ho} + p_o ⊙ c_t + b_o) \\
        h_t &= o ⊙ \tanh(c_t)

    ``*`` is a convolution (a cross-correlation, as in all libraries). That of the input may have strides, dilation or
    no padding, and its output is the *grid* of the state; that of the state keeps the grid. The state is
    ``LSTMState(h, c)``, each ``[..., *grid, H]``; the output is ``h_t``. A ``Linear`` above it acts at each place;
    between it and layers of vectors goes ``Flatten(cell.output_shape)``.

    With the batch split over devices XLA gathers the images and states of all rows for the gradients of the kernels.

    Args:
        input_shape: of one input, ``(*spatial, C)``: ``(64, 64, 1)`` for grey images of 64 × 64.
        hidden_size: H, the channels of the state.
        kernel_shape: of both convolutions, an int for the same along all axes.
        strides: of the convolution of the input, an int or one for each spatial axis.
        padding: of the convolution of the input, ``"SAME"`` or ``"VALID"``.
        dilation: of the convolution of the input, an int or one for each spatial axis.
        peepholes: whether the gates see the cell state; the weights p differ from place to place.
        forget_bias: added to the forget gate's part of ``b_h`` by ``init``, never at run time.
        use_bias: whether there is a ``b_h``.
        w_xh_init, w_hh_init, b_h_init, peepholes_init: initializers, by name or callable, gate by gate.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.ConvLSTM((8, 8, 1), 4, kernel_shape=3)
        >>> params = cell.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 8, 8, 1)))  # [T, B, *spatial, C]
        >>> ys.shape, final.c.shape
        ((7, 2, 8, 8, 4), (2, 8, 8, 4))

    Source: Shi et al. (2015), "Convolutional LSTM network: a machine learning approach for precipitation nowcasting".
    """

    input_shape: tuple[int, ...]
    hidden_size: int
    kernel_shape: int | tuple[int, ...]
    _: dataclasses.KW_ONLY
    strides: int | tuple[int, ...] = 1
    padding: str = "SAME"
    dilation: int | tuple[int, ...] = 1
    peepholes: bool = False
    forget_bias: float = 1.0
    use_bias: bool = True
    w_xh_init: str | Initializer = "glorot_uniform"
    w_hh_init: str | Initializer = "orthogonal"
    b_h_init: str | Initializer = "zeros"
    peepholes_init: str | Initializer = "zeros"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", _checked_shape(self.input_shape))
        common.check_hyperparameters(self)
        for name in ("kernel_shape", "strides", "dilation"):
            object.__setattr__(self, name, _along_axes(name, getattr(self, name), self.input_ndim - 1))
        checks.one_of("padding", self.padding, ("SAME", "VALID"))
        checks.flag("peepholes", self.peepholes)
        checks.number("forget_bias", self.forget_bias)
        checks.initializer("peepholes_init", self.peepholes_init, initializers.NAMED)
        if min(self.grid) < 1:
            checks.refuse("kernel_shape", f"a kernel within the input {list(self.input_shape[:-1])}",
                          self.kernel_shape, 'padding="SAME" lets it reach over the edge')  # fmt: skip

    @property
    def input_ndim(self) -> int:
        return len(self.input_shape)

    @property
    def input_size(self) -> int:
        return self.input_shape[-1]

    @property
    def output_size(self) -> int:
        return self.hidden_size

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of one output, ``(*grid, H)``."""
        return *self.grid, self.hidden_size

    @property
    def grid(self) -> tuple[int, ...]:
        """The spatial axes of the state: those of the input after its convolution."""
        along = zip(self.input_shape, *map(self._each, (self.kernel_shape, self.strides, self.dilation)), strict=False)
        cut = self.padding == "VALID"  # the last places, at which the kernel would reach over the edge
        return tuple(-(-(size - cut * (k - 1) * dilation) // stride) for size, k, stride, dilation in along)

    def _each(self, value: int | tuple[int, ...]) -> tuple[int, ...]:
        """One number for each spatial axis."""
        return value if isinstance(value, tuple) else (value,) * (self.input_ndim - 1)

    def init(self, key: Array) -> ConvLSTMParams:
        """Draw ``w_xh [*kernel, C, 4H]``, ``w_hh [*kernel, H, 4H]``, ``b_h [4H]`` and ``peepholes [3, *grid, H]``."""
        H, keys = self.hidden_size, jax.random.split(key, 4)
        w_xh, w_hh, b_h = common.init_weights(self, keys[:3], 4, kernel=self._each(self.kernel_shape))
        if b_h is not None:
            b_h = b_h.at[H : 2 * H].add(self.forget_bias)
        peepholes = None
        if self.peepholes:
            shape = (3, *self.grid, H)
            peepholes = initializers.draw("peepholes_init", self.peepholes_init, keys[3], shape, self.dtype)
        return ConvLSTMParams(w_xh, w_hh, b_h, peepholes)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> LSTMState:
        """``h_0 = c_0 = 0``, each of shape ``[*batch_shape, *grid, H]``."""
        zeros = common.zero_state(self, (*batch_shape, *self.grid))
        return LSTMState(zeros, zeros)

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axes are not ``input_shape``."""
        checks.features(argument, x, self.input_size, "ConvLSTM")
        checks.last_axes(argument, x, self.input_shape, "ConvLSTM")

    def step(self, params: ConvLSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        """One step: ``x [..., *spatial, C]`` and ``(h, c)`` to the next ``(h, c)`` and the output, which is ``h``."""
        return self.masked_step(params, state, x)

    def masked_step(
        self, params: ConvLSTMParams, state: LSTMState, x: Array, *,
        recurrent: Mask = unmasked, candidate: Mask = unmasked,
    ) -> tuple[LSTMState, Array]:  # fmt: skip
        """One step with ``recurrent(h)`` in the convolution and ``candidate(c̃)`` in the update, for dropout."""
        params, state = checks.step_arguments(self, params, state, x)
        z_x = self._input_convolution(params, x)
        new, _ = self._equations(params, state._replace(h=recurrent(state.h)), z_x, candidate)
        return new, new.h

    def mask_state(self, state: LSTMState, mask: Array) -> LSTMState:
        """``(h ⊙ mask, c)``: h enters the equations by a convolution alone."""
        return state._replace(h=state.h * mask)

    def gates(self, params: ConvLSTMParams, state: LSTMState, x: Array) -> dict[str, Array]:
        """The gates i, f, o of one step, each ``[..., *grid, H]``, and ``keep``: the fraction that is kept, f."""
        _, (i, f, o, _) = self._equations(params, state, self._input_convolution(params, x))
        return {"i": i, "f": f, "o": o, "keep": f}

    def _equations(
        self, params: ConvLSTMParams, state: LSTMState, z_x: Array, mask: Mask = unmasked
    ) -> tuple[LSTMState, ConvLSTMGates]:
        """The equations above, from ``h_{t-1}, c_{t-1}`` and the convolution of the input, ``x * w_xh + b_h``."""
        h, c = state
        z_i, z_f, z_o, z_c = common.split_gates(z_x + convolve(h, params.w_hh), self._gate_sizes)
        peep = self._peepholes(params)
        i = sigmoid(z_i + peep("i", c))
        f = sigmoid(z_f + peep("f", c))
        candidate = mask(tanh(z_c))
        c = f * c + i * candidate
        o = sigmoid(z_o + peep("o", c))
        return LSTMState(o * tanh(c), c), ConvLSTMGates(i, f, o, candidate)

    def _peepholes(self, params: ConvLSTMParams) -> Callable[[str, Array], Array]:
        """``p ⊙ c`` of a gate; 0 without peepholes."""
        if params.peepholes is None:
            return lambda gate, c: jnp.zeros_like(c)
        p = dict(zip("ifo", params.peepholes, strict=True))
        return lambda gate, c: broadcast_rows(p[gate], c) * c

    def _input_convolution(self, params: ConvLSTMParams, x: Array) -> Array:
        """``x * w_xh + b_h [..., *grid, 4H]``."""
        options = self._each(self.strides), self.padding, self._each(self.dilation)
        return add_bias(convolve(x, params.w_xh, *options), params.b_h)

    @property
    def _gate_sizes(self) -> tuple[int, ...]:
        return (self.hidden_size,) * 4

    # ---- the differential, for jaxrnn.bptt ----

    def precompute_projection(self, rows: int) -> bool:
        """Never: before the scan it took 1 to 5 times as long on a CPU, of images of 16 × 16 to 32 × 32."""
        return False

    def recurrence(self, params: ConvLSTMParams, xs: Array) -> tuple[PyTree, Recurrence]:
        """The step; its residuals are the gates."""
        if common.should_precompute(self, xs):
            return self._input_convolution(params, xs), lambda state, z: self._equations(params, state, z)
        return xs, lambda state, x: self._equations(params, state, self._input_convolution(params, x))

    def output(self, state: LSTMState, gates: ConvLSTMGates) -> Array:
        """``h``."""
        return state.h

    def differential(
        self, params: ConvLSTMParams, dparams: ConvLSTMParams, xs: Array, dxs: Array | None,
        before: LSTMState, after: LSTMState, gates: ConvLSTMGates,
    ) -> tuple[PyTree, Recurrence]:  # fmt: skip
        """``v = dx * w_xh + x * dw_xh + db_h + h_{t-1} * dw_hh``, plus ``c ⊙ dp`` in the gates."""
        v = self._input_convolution(dparams, xs) + convolve(before.h, dparams.w_hh)
        if dxs is not None:
            v += self._input_convolution(params._replace(b_h=None), dxs)
        v_i, v_f, v_o, v_c = common.split_gates(v, self._gate_sizes)
        dpeep = self._peepholes(dparams)
        vs = v_i + dpeep("i", before.c), v_f + dpeep("f", before.c), v_o + dpeep("o", after.c), v_c
        return (before.c, after.c, gates, vs), lambda ds, inputs: self._tangent(params, ds, *inputs)

    def _tangent(
        self, params: ConvLSTMParams, ds: LSTMState, c_before: Array, c: Array, gates: ConvLSTMGates, v: tuple
    ) -> tuple[LSTMState, Array]:
        """The differential of the equations, line by line."""
        i, f, o, candidate = gates
        dh = common.split_gates(convolve(ds.h, params.w_hh), self._gate_sizes)
        dz_i, dz_f, dz_o, dz_c = (a + b for a, b in zip(v, dh, strict=True))
        peep = self._peepholes(params)
        di = i * (1 - i) * (dz_i + peep("i", ds.c))
        df = f * (1 - f) * (dz_f + peep("f", ds.c))
        dc = f * ds.c + c_before * df + i * (1 - candidate**2) * dz_c + candidate * di
        do = o * (1 - o) * (dz_o + peep("o", dc))
        tanh_c = tanh(c)
        dh = o * (1 - tanh_c**2) * dc + tanh_c * do
        return LSTMState(dh, dc), dh


def convolve(x: Array, w: Array, strides: Any = None, padding: str = "SAME", dilation: Any = None) -> Array:
    """``x * w``: ``x [..., *spatial, C]`` with a kernel ``w [*kernel, C, H]``; the batch axes are merged for it."""
    axes = "DHW"[-(w.ndim - 2) :]
    batch, image = x.shape[: x.ndim - len(axes) - 1], x.shape[x.ndim - len(axes) - 1 :]
    x, w = (a.astype(jnp.result_type(x, w)) for a in (x, w))  # lax does not promote
    y = jax.lax.conv_general_dilated(
        x.reshape(math.prod(batch), *image), w, strides or (1,) * len(axes), padding,
        rhs_dilation=dilation, dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )  # fmt: skip
    return y.reshape(*batch, *y.shape[1:])


def _checked_shape(value: Any) -> tuple[int, ...]:
    """``(*spatial, C)`` with one to three spatial axes."""
    value = checks.sizes("input_shape", value)
    if not 2 <= len(value) <= 4:
        checks.refuse("input_shape", "1 to 3 spatial axes and the channels", value, "channels go last")
    return value


def _along_axes(argument: str, value: Any, axes: int) -> int | tuple[int, ...]:
    """A positive int for each spatial axis; one int where they are equal."""
    if not isinstance(value, (tuple, list)):
        checks.size(argument, value)
        return int(value)
    if len(value) != axes:
        checks.refuse(argument, f"an int, or {axes}, one for each spatial axis", tuple(value))
    value = checks.sizes(argument, value)
    return value[0] if len(set(value)) == 1 else value
