"""Long short-term memory, with peepholes, coupled gates, layer norm, a recurrent projection and clipping."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn import checks, initializers
from jaxrnn.cells import common
from jaxrnn.cells.normalization import (
    LayerNormParams,
    Standardized,
    affine,
    along_input,
    centred,
    centred_weights,
    init_layer_norm,
    layer_norm,
    tangent,
)
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.precision import broadcast_rows
from jaxrnn.types import Array, Mask, PyTree, Recurrence, exportable, unmasked


@exportable
class LSTMState(NamedTuple):
    """Output ``h [..., H]``, or ``[..., P]`` with a projection, and cell state ``c [..., H]``."""

    h: Array
    c: Array


@exportable
class LSTMNorms(NamedTuple):
    """The layer norms of ``x w_xh [G·H]``, of ``h w_hh [G·H]`` and of ``c [H]``; None: no norm."""

    x: LayerNormParams | None = None
    h: LayerNormParams | None = None
    c: LayerNormParams | None = None


@exportable
class LSTMParams(NamedTuple):
    """``w_xh [I, G·H]``, ``w_hh [H, G·H]``, ``b_h [G·H]`` or None, ``peepholes`` (a row ``[H]`` each) or None.

    The order of the gates is i, f, o, c̃ (coupled: f, o, c̃), that of the rows of ``peepholes`` i, f, o. With a
    projection ``w_hr [H, P]``, and ``w_hh [P, G·H]``.
    """

    w_xh: Array
    w_hh: Array
    b_h: Array | None
    peepholes: Array | None
    w_hr: Array | None = None
    layer_norm: LSTMNorms | None = None


class LSTMGates(NamedTuple):
    """Intermediate values of a step, each ``[..., H]``; ``i`` is None when coupled, as it is ``1 - f``.

    With layer norm ``hw`` is the standardized ``h_{t-1} w_hh``.
    """

    i: Array | None
    f: Array
    o: Array
    candidate: Array
    hw: Any = None


class LSTMTangents(NamedTuple):
    """The tangents along parameters and inputs: of z ``[T, ..., G·H]``, of ``LN(c)`` and of the projected h."""

    z: Array
    c: Any  # None without layer norm
    h: Array | None


@hyperparameters
class LSTM:
    r"""Long short-term memory: a cell state with an input, a forget and an output gate.

    .. math::
        i, f, o &= σ([x_t, h_{t-1}] w_* + b_*) \\
        \tilde c &= \tanh([x_t, h_{t-1}] w_{\tilde c} + b_{\tilde c}) \\
        c_t &= f ⊙ c_{t-1} + i ⊙ \tilde c \\
        h_t &= o ⊙ \tanh(c_t)

    With *peepholes* a gate has the cell state as an input too, with elementwise weights: i and f ``c_{t-1}``, o
    ``c_t``, or ``c_{t-1}`` with ``output_peephole="previous"``. With *coupled* gates ``i = 1 - f``, and there are no
    weights for i. With a *projection* :math:`h_t = (o ⊙ \tanh(c_t)) w_{hr}` has P units, fewer than c, and so fewer
    weights. With *layer norm* (:mod:`jaxrnn.cells.normalization`) all gates and :math:`\tilde c` together are
    :math:`\mathrm{LN}(x_t w_{xh}) + \mathrm{LN}(h_{t-1} w_{hh}) + b`, each norm over the G·H of its product, and
    :math:`h_t = o ⊙ \tanh(\mathrm{LN}(c_t))`; the state c, the peepholes and a projection see no norm. The state is
    ``LSTMState(h, c)``, ``[..., H]`` each (h: ``[..., P]``); the output is ``h_t``.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of units.
        peepholes: the gates with a peephole connection, any subset of ``"ifo"`` (coupled: of ``"fo"``).
        output_peephole: the cell state that the output gate reads, ``"current"`` or ``"previous"``.
        coupled: whether the input gate is ``1 - f``.
        forget_bias: added to the forget gate's part of ``b_h`` by ``init``, never at run time; above 0 the forget gate
            is initially open.
        use_bias: whether there is a ``b_h``.
        layer_norm: whether both projections and, in the output, the cell state are normalized; ``params.layer_norm``
            are the gains and biases, initially 1 and 0.
        projection_size: P, the units of ``h`` and of the output; None: H, without projection.
        cell_clip: ``c_t`` is clipped to ± this value, before the output gate sees it.
        projection_clip: the projected ``h_t`` is clipped to ± this value. Where it is clipped the gradient is 0.
        w_xh_init, w_hh_init, b_h_init, peepholes_init, w_hr_init: initializers, by name or callable, gate by gate.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range, ``peepholes`` holds ``"i"`` although
            the gates are coupled, or there is a ``projection_clip`` without a projection.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.LSTM(3, 5, peepholes="fo", coupled=True)
        >>> params = cell.init(jax.random.key(0))
        >>> params.w_xh.shape, params.peepholes.shape
        ((3, 15), (2, 5))
        >>> final, ys = rnn.unroll(cell, params, jnp.ones((7, 2, 3)))  # [T, B, I]
        >>> ys.shape, final.c.shape
        ((7, 2, 5), (2, 5))

    Source: Hochreiter & Schmidhuber (1997), Neural Computation 9; forget gate: Gers, Schmidhuber & Cummins (2000);
    peepholes: Gers & Schmidhuber (2000); coupled gates: Greff et al. (2017), "LSTM: a search space odyssey"; layer
    norm: Ba et al. (2016), the supplement; projection: Sak, Senior & Beaufays (2014), "Long short-term memory recurrent
    neural network architectures for large scale acoustic modeling"; the clips are ``cell_clip`` and ``proj_clip`` of
    TensorFlow's LSTMCell.
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    peepholes: str = ""
    output_peephole: str = "current"
    coupled: bool = False
    forget_bias: float = 1.0
    use_bias: bool = True
    layer_norm: bool = False
    projection_size: int | None = None
    cell_clip: float | None = None
    projection_clip: float | None = None
    w_xh_init: str | Initializer = "glorot_uniform"
    w_hh_init: str | Initializer = "orthogonal"
    b_h_init: str | Initializer = "zeros"
    peepholes_init: str | Initializer = "zeros"
    w_hr_init: str | Initializer = "glorot_uniform"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.flag("coupled", self.coupled)
        checks.one_of("output_peephole", self.output_peephole, ("current", "previous"))
        checks.number("forget_bias", self.forget_bias)
        checks.initializer("peepholes_init", self.peepholes_init, initializers.NAMED)
        checks.initializer("w_hr_init", self.w_hr_init, initializers.NAMED)
        checks.flag("layer_norm", self.layer_norm)
        check_projection(self)
        object.__setattr__(self, "peepholes", checked_peepholes(self.peepholes, self.coupled))
        if self.output_peephole == "previous" and "o" not in self.peepholes:
            checks.refuse("output_peephole", "'current' without a peephole of o", "'previous'", 'peepholes="ifo"')

    @property
    def output_size(self) -> int:
        return self.projection_size or self.hidden_size

    @property
    def num_gates(self) -> int:
        return 3 if self.coupled else 4

    def init(self, key: Array) -> LSTMParams:
        """Draw ``w_xh [I, G·H]``, ``w_hh [H, G·H]``, ``b_h [G·H]``, ``peepholes`` and ``w_hr [H, P]``; gains are 1."""
        keys = jax.random.split(key, 4)
        w_xh, w_hh, b_h = common.init_weights(self, keys[:3], self.num_gates, fed_back=self.output_size)
        peepholes = w_hr = norms = None
        if b_h is not None:
            first = 0 if self.coupled else self.hidden_size
            b_h = b_h.at[first : first + self.hidden_size].add(self.forget_bias)
        if self.peepholes:
            shape = (len(self.peepholes), self.hidden_size)
            peepholes = initializers.draw("peepholes_init", self.peepholes_init, keys[3], shape, self.dtype)
        if self.projection_size:
            shape, key = (self.hidden_size, self.projection_size), jax.random.fold_in(key, 4)
            w_hr = initializers.draw("w_hr_init", self.w_hr_init, key, shape, self.dtype)
        if self.layer_norm:
            sizes = (self.num_gates * self.hidden_size,) * 2 + (self.hidden_size,)
            norms = LSTMNorms(*(init_layer_norm(size, self.dtype) for size in sizes))
        return LSTMParams(w_xh, w_hh, b_h, peepholes, w_hr, norms)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> LSTMState:
        """``h_0 = c_0 = 0``, each of shape ``[*batch_shape, H]`` (h with a projection: ``[*batch_shape, P]``)."""
        return LSTMState(common.zero_state(self, batch_shape, self.output_size), common.zero_state(self, batch_shape))

    def check_input(self, argument: str, x: Array) -> None:
        """Raise an error for inputs whose last axis is not I."""
        checks.features(argument, x, self.input_size, "LSTM")

    def step(self, params: LSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        """One step: ``x [..., I]`` and ``(h, c)`` to the next ``(h, c)`` and the output, which is ``h``."""
        return self.masked_step(params, state, x)

    def masked_step(
        self, params: LSTMParams, state: LSTMState, x: Array, *, recurrent: Mask = unmasked, candidate: Mask = unmasked
    ) -> tuple[LSTMState, Array]:
        """One step with ``recurrent(h)`` in the products and ``candidate(c̃)`` in the update, for dropout."""
        params, state = checks.step_arguments(self, params, state, x)
        params = centred_weights(params)
        x_blocks, preactivations = common.precomputed_projection(params, x, self._block_sizes, _norms(params))
        new, _ = self._equations(params, state, *preactivations(x_blocks, recurrent(state.h)), candidate)
        return new, new.h

    def mask_state(self, state: LSTMState, mask: Array) -> LSTMState:
        """``(h ⊙ mask, c)``: h enters the equations by products alone."""
        return state._replace(h=state.h * mask)

    def gates(self, params: LSTMParams, state: LSTMState, x: Array) -> dict[str, Array]:
        """The gates i, f, o of one step, each ``[..., H]``, and ``keep``: the fraction of the state that is kept, f."""
        params = centred_weights(params)
        x_blocks, preactivations = common.precomputed_projection(params, x, self._block_sizes, _norms(params))
        _, (i, f, o, *_) = self._equations(params, state, *preactivations(x_blocks, state.h))
        return {"i": 1 - f if i is None else i, "f": f, "o": o, "keep": f}

    def _equations(
        self, params: LSTMParams, state: LSTMState, z: tuple[Array, ...], hw: Any, mask: Mask = unmasked
    ) -> tuple[LSTMState, LSTMGates]:
        """The equations above, from ``h_{t-1}, c_{t-1}`` and the pre-activations ``z = x w_xh + h w_hh + b_h``.

        ``hw``, with layer norm the standardized ``h w_hh``, is kept with the gates.
        """
        c, (*z_gates, z_c) = state.c, z
        gate = self._gate(params, z_gates)
        f = gate("f", c)
        i = None if self.coupled else gate("i", c)
        candidate = mask(tanh(z_c))
        c_new = clipped(self.cell_clip, f * c + (1 - f if i is None else i) * candidate)
        o = gate("o", c_new if self.output_peephole == "current" else c)
        h_new = o * tanh(self._normalized(params, c_new)[0])
        if params.w_hr is not None:
            h_new = clipped(self.projection_clip, h_new @ params.w_hr)
        return LSTMState(h_new, c_new), LSTMGates(i, f, o, candidate, hw)

    def _normalized(self, params: LSTMParams, c: Array) -> tuple[Array, Standardized | None]:
        """``LN(c)`` and ĉ; c and None without layer norm."""
        return layer_norm(_norms(params).c, centred(c) if self.layer_norm else c)

    def _gate(self, params: LSTMParams, z_gates: list[Array]) -> Callable[[str, Array], Array]:
        """``gate(name, c) = σ(z + p ⊙ c)``, where p is the peephole of the gate, if it has one."""
        names = "fo" if self.coupled else "ifo"
        if not self.peepholes:  # one sigmoid for all gates
            values = dict(zip(names, common.split_gates(sigmoid(z_gates[0]), self._gate_sizes[1:]), strict=True))
            return lambda name, c: values[name]
        z, p = dict(zip(names, z_gates, strict=True)), self._peepholes(params)
        return lambda name, c: sigmoid(z[name] + broadcast_rows(p[name], c) * c if name in p else z[name])

    @property
    def _gate_sizes(self) -> tuple[int, ...]:
        return (self.hidden_size,) * self.num_gates

    @property
    def _block_sizes(self) -> tuple[int, ...]:
        """Of the blocks of the pre-activations: without peepholes all gates in one, then the candidate."""
        return self._gate_sizes if self.peepholes else ((self.num_gates - 1) * self.hidden_size, self.hidden_size)

    def _peepholes(self, params: LSTMParams) -> dict[str, Array]:
        """The peephole weights ``[H]`` by the name of the gate."""
        return dict(zip(self.peepholes, () if params.peepholes is None else params.peepholes, strict=True))

    # ---- the differential, for jaxrnn.bptt ----

    def precompute_projection(self, rows: int) -> bool:
        """Whether it is faster on a CPU, measured as :func:`jaxrnn.cells.common.should_precompute` describes.

        ==================  ======  =======  =======  ========  ========  ========  ========  ========
        ..                  1 × 32  1 × 128  16 × 32  32 × 128  20 × 200  64 × 256  32 × 512  8 × 1024
        ==================  ======  =======  =======  ========  ========  ========  ========  ========
        fused projection       1.1      1.4      1.0      0.75       1.1       1.1       1.0       2.2
        ==================  ======  =======  =======  ========  ========  ========  ========  ========

        With 128 units it took 0.7 times as long at 24 and at 128 rows too, with 200 units 0.85 to 1.0 times.
        """
        return rows <= 20 or self.hidden_size >= 256

    def recurrence(self, params: LSTMParams, xs: Array) -> tuple[PyTree, Recurrence]:
        """The step; its residuals are the gates."""
        params = centred_weights(params)
        if self.layer_norm or common.should_precompute(self, xs):  # each projection has a norm of its own
            zs, preactivations = common.precomputed_projection(params, xs, self._block_sizes, _norms(params))
        else:
            zs, preactivations = common.fused_projection(params, xs, self._block_sizes)
        return zs, lambda state, z: self._equations(params, state, *preactivations(z, state.h))

    def output(self, state: LSTMState, gates: LSTMGates) -> Array:
        """``h``."""
        return state.h

    def differential(
        self, params: LSTMParams, dparams: LSTMParams, xs: Array, dxs: Array | None,
        before: LSTMState, after: LSTMState, gates: LSTMGates,
    ) -> tuple[PyTree, Recurrence]:  # fmt: skip
        """``v = dx w_xh + x dw_xh + db_h + h_{t-1} dw_hh``, plus ``c ⊙ dp`` for a gate with a peephole p."""
        params, dparams = centred_weights(params), centred_weights(dparams)
        norms, dnorms = _norms(params), _norms(dparams)
        v = common.input_projection_tangent(params, dparams, xs, dxs, norms.x, dnorms.x)
        v = v + tangent(norms.h, dnorms.h, gates.hw, common.weight_tangent(before.h, dparams.w_hh))
        if self.peepholes:
            names = "foc" if self.coupled else "ifoc"
            v_gates = dict(zip(names, common.split_gates(v, self._gate_sizes), strict=True))
            for name, dp in self._peepholes(dparams).items():
                c = after.c if name == "o" and self.output_peephole == "current" else before.c
                v_gates[name] += broadcast_rows(dp, c) * c
            v = jnp.concatenate(list(v_gates.values()), -1)
        n, ĉ = self._normalized(params, after.c)
        v_c = None if dnorms.c is None or ĉ is None else affine(dnorms.c, ĉ)
        v_h = None if dparams.w_hr is None else common.weight_tangent(gates.o * tanh(n), dparams.w_hr)
        h: Any = None if self.projection_clip is None else after.h
        vs = before.c, LSTMState(h, after.c), gates, LSTMTangents(v, v_c, v_h), ĉ
        matmuls = [None if w is None else common.right_matmul(w) for w in (params.w_hh, params.w_hr)]
        return vs, lambda ds, inputs: self._tangent(params, matmuls, ds, *inputs)

    def _tangent(
        self, params: LSTMParams, matmuls: Any, ds: LSTMState, c_before: Array, after: LSTMState, gates: LSTMGates,
        v: LSTMTangents, ĉ: Standardized | None,
    ) -> tuple[LSTMState, Array]:  # fmt: skip
        """The differential of the equations, line by line; ``ĉ`` is the standardized ``c_t``."""
        (i, f, o, candidate, hw), c = gates, after.c
        (matmul_w_hh, matmul_w_hr), norms = matmuls, _norms(params)
        dz = v.z + along_input(norms.h, hw, matmul_w_hh(ds.h))
        *dz_i, dz_f, dz_o, dz_c = common.split_gates(dz, self._gate_sizes)
        p = self._peepholes(params)

        def dgate(name: str, gate: Array, dz: Array, dc: Array) -> Array:
            return gate * (1 - gate) * (dz + broadcast_rows(p[name], dc) * dc if name in p else dz)

        df = dgate("f", f, dz_f, ds.c)
        i, di = (1 - f, -df) if i is None else (i, dgate("i", i, dz_i[0], ds.c))
        dc = f * ds.c + c_before * df + i * (1 - candidate**2) * dz_c + candidate * di
        dc = clipped_tangent(self.cell_clip, c, dc)
        do = dgate("o", o, dz_o, dc if self.output_peephole == "current" else ds.c)
        if norms.c is None or ĉ is None:
            n, dn = c, dc
        else:
            n, dn = affine(norms.c, ĉ), along_input(norms.c, ĉ, centred(dc)) + v.c
        tanh_c = tanh(n)
        dh = o * (1 - tanh_c**2) * dn + tanh_c * do
        if v.h is not None:
            dh = clipped_tangent(self.projection_clip, after.h, matmul_w_hr(dh) + v.h)
        return LSTMState(dh, dc), dh


def _norms(params: LSTMParams) -> LSTMNorms:
    """The layer norms, None for each without them."""
    return params.layer_norm or LSTMNorms()


def clipped(bound: float | None, x: Array) -> Array:
    """``x`` in ``[-bound, bound]``; None: ``x``."""
    return x if bound is None else jax.lax.clamp(jnp.asarray(-bound, x.dtype), x, jnp.asarray(bound, x.dtype))


def clipped_tangent(bound: float | None, clipped: Array, dx: Array) -> Array:
    """The tangent of :func:`clipped`, from its value: 0 at the bound."""
    return dx if bound is None else jnp.where(jnp.abs(clipped) < bound, dx, jnp.zeros_like(dx))


def check_projection(cell: LSTM) -> None:
    """Check the size of a projection and the bounds of both clips."""
    if cell.projection_size is not None:
        checks.size("projection_size", cell.projection_size)
    for name in ("cell_clip", "projection_clip"):
        if (bound := getattr(cell, name)) is not None:
            checks.number(name, bound)
            if bound <= 0:
                checks.refuse(name, "a positive number or None", bound)
    if (bound := cell.projection_clip) is not None and cell.projection_size is None:
        checks.refuse("projection_clip", "None without projection_size", bound, "cell_clip clips the cell state")


def checked_peepholes(value: Any, coupled: bool) -> str:
    """A subset of the gates i, f, o; returns it in that order."""
    if not isinstance(value, str):
        checks.refuse("peepholes", "a string of gate letters out of 'ifo'", checks.describe(value), error=TypeError)
    if set(value) - set("ifo") or len(set(value)) < len(value):
        expected = "each of the letters 'i', 'f', 'o' at most once"
        checks.refuse("peepholes", expected, repr(value), "'' is none, 'ifo' all")
    if coupled and "i" in value:
        checks.refuse("peepholes", "a subset of 'fo' with coupled=True", repr(value),
               "the input gate is 1 - f there and has no weights of its own")  # fmt: skip
    return "".join(gate for gate in "ifo" if gate in value)
