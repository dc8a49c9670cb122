"""Long short-term memory, with peepholes and with a coupled input and forget gate."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn import checks, initializers
from jaxrnn.cells import common
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.precision import broadcast_rows
from jaxrnn.types import Array, PyTree, Recurrence, exportable


@exportable
class LSTMState(NamedTuple):
    """Output ``h [..., H]`` and cell state ``c [..., H]``."""

    h: Array
    c: Array


@exportable
class LSTMParams(NamedTuple):
    """``w_xh [I, G·H]``, ``w_hh [H, G·H]``, ``b_h [G·H]`` or None, ``peepholes [P, H]`` or None.

    Gates lie in the order i, f, o, c̃ (coupled: f, o, c̃), peephole rows in the order i, f, o.
    """

    w_xh: Array
    w_hh: Array
    b_h: Array | None
    peepholes: Array | None


class LSTMGates(NamedTuple):
    """What a step computes on its way, each ``[..., H]``; ``i`` is None when coupled, as it is ``1 - f``."""

    i: Array | None
    f: Array
    o: Array
    candidate: Array


@hyperparameters
class LSTM:
    r"""Long short-term memory: a cell state that gates write to, keep and read.

    .. math::
        i, f, o &= σ([x_t, h_{t-1}] w_* + b_*) \\
        \tilde c &= \tanh([x_t, h_{t-1}] w_{\tilde c} + b_{\tilde c}) \\
        c_t &= f ⊙ c_{t-1} + i ⊙ \tilde c \\
        h_t &= o ⊙ \tanh(c_t)

    With *peepholes* a gate also sees the cell state through an elementwise weight: i and f see ``c_{t-1}``, o sees
    ``c_t``, or ``c_{t-1}`` with ``output_peephole="previous"``. With *coupled* gates ``i = 1 - f``, and there are no
    weights for i. The state is ``LSTMState(h, c)``, each ``[..., H]``; the output is ``h_t``.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the units of the state.
        peepholes: the gates that see the cell state, any subset of ``"ifo"`` (coupled: of ``"fo"``).
        output_peephole: which cell state the output gate sees, ``"current"`` or ``"previous"``.
        coupled: whether the input gate is ``1 - f``.
        forget_bias: added to the forget gate's part of ``b_h`` when it is drawn, never at run time; above 0 the cell
            starts out remembering.
        use_bias: whether there is a ``b_h``.
        w_xh_init, w_hh_init, b_h_init, peepholes_init: initializers, by name or callable, gate by gate.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range, ``"i"`` is asked a peephole
            while coupled.

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
    peepholes: Gers & Schmidhuber (2000); coupled gates: Greff et al. (2017), "LSTM: a search space odyssey".
    """

    input_size: int
    hidden_size: int
    _: dataclasses.KW_ONLY
    peepholes: str = ""
    output_peephole: str = "current"
    coupled: bool = False
    forget_bias: float = 1.0
    use_bias: bool = True
    w_xh_init: str | Initializer = "glorot_uniform"
    w_hh_init: str | Initializer = "orthogonal"
    b_h_init: str | Initializer = "zeros"
    peepholes_init: str | Initializer = "zeros"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        common.check_hyperparameters(self)
        checks.flag("coupled", self.coupled)
        checks.one_of("output_peephole", self.output_peephole, ("current", "previous"))
        checks.number("forget_bias", self.forget_bias)
        checks.initializer("peepholes_init", self.peepholes_init, initializers.NAMED)
        object.__setattr__(self, "peepholes", checks.peepholes(self.peepholes, self.coupled))

    @property
    def output_size(self) -> int:
        return self.hidden_size

    @property
    def blocks(self) -> int:
        return 3 if self.coupled else 4

    def init(self, key: Array) -> LSTMParams:
        """Draw ``w_xh [I, G·H]``, ``w_hh [H, G·H]``, ``b_h [G·H]`` and ``peepholes [P, H]``."""
        keys = jax.random.split(key, 4)
        w_xh, w_hh, b_h = common.init_weights(self, keys[:3], self.blocks)
        peepholes = None
        if b_h is not None:
            first = 0 if self.coupled else self.hidden_size
            b_h = b_h.at[first : first + self.hidden_size].add(self.forget_bias)
        if self.peepholes:
            shape = (len(self.peepholes), self.hidden_size)
            peepholes = initializers.draw("peepholes_init", self.peepholes_init, keys[3], shape, self.dtype)
        return LSTMParams(w_xh, w_hh, b_h, peepholes)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> LSTMState:
        """``h_0 = c_0 = 0``, each of shape ``[*batch_shape, H]``."""
        return LSTMState(common.zero_state(self, batch_shape), common.zero_state(self, batch_shape))

    def check_input(self, argument: str, x: Array) -> None:
        """Refuse an input whose last axis is not I."""
        checks.features(argument, x, self.input_size, "LSTM")

    def step(self, params: LSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        """One step: ``x [..., I]`` and ``(h, c)`` to the next ``(h, c)`` and the output, which is ``h``."""
        params, state = checks.step_arguments(self, params, state, x)
        z, affine = common.precomputed_projection(params, x, self._sizes)
        new, _ = self._equations(params, state, affine(z, state.h))
        return new, new.h

    def gates(self, params: LSTMParams, state: LSTMState, x: Array) -> dict[str, Array]:
        """The gates i, f, o of one step, each ``[..., H]``, and ``keep``: the share of the state that stays, f."""
        z, affine = common.precomputed_projection(params, x, self._sizes)
        _, (i, f, o, _) = self._equations(params, state, affine(z, state.h))
        return {"i": 1 - f if i is None else i, "f": f, "o": o, "keep": f}

    def _equations(self, params: LSTMParams, state: LSTMState, z: common.Blocks) -> tuple[LSTMState, LSTMGates]:
        """The equations above, from ``(h_{t-1}, c_{t-1})`` and ``z = x w_xh + h w_hh + b_h``: gates, then candidate."""
        c, (*z_gates, z_c) = state.c, z
        names, p = "fo" if self.coupled else "ifo", self._peepholes(params)
        plain = (
            () if p else common.split_gates(sigmoid(z_gates[0]), self._each[1:])
        )  # side by side: one sigmoid for all

        def gate(name: str, cell: Array) -> Array:
            n = names.index(name)
            if plain:
                return plain[n]
            return sigmoid(z_gates[n] + broadcast_rows(p[name], cell) * cell if name in p else z_gates[n])

        f = gate("f", c)
        i = None if self.coupled else gate("i", c)
        candidate = tanh(z_c)
        c_new = f * c + (1 - f if i is None else i) * candidate
        o = gate("o", c_new if self.output_peephole == "current" else c)
        h_new = o * tanh(c_new)
        return LSTMState(h_new, c_new), LSTMGates(i, f, o, candidate)

    @property
    def _sizes(self) -> tuple[int, ...]:
        """Of the blocks: gates that see no cell state together, others one by one; then the candidate."""
        return self._each if self.peepholes else ((self.blocks - 1) * self.hidden_size, self.hidden_size)

    @property
    def _each(self) -> tuple[int, ...]:
        """Of the gates and the candidate, one by one."""
        return (self.hidden_size,) * self.blocks

    def _peepholes(self, params: LSTMParams) -> dict[str, Array]:
        """The peephole weights ``[H]`` by the gate's name."""
        return dict(zip(self.peepholes, () if params.peepholes is None else params.peepholes, strict=True))

    # ---- the differential, for jaxrnn.bptt ----

    def precompute_projection(self, rows: int) -> bool:
        """Measured on a CPU, see :func:`jaxrnn.cells.common.precompute_projection`.

        ==================  ======  =======  =======  ========  ========  ========  ========  ========
        ..                  1 × 32  1 × 128  16 × 32  32 × 128  20 × 200  64 × 256  32 × 512  8 × 1024
        ==================  ======  =======  =======  ========  ========  ========  ========  ========
        joined with h          1.1      1.4      1.0      0.75       1.1       1.1       1.0       2.2
        ==================  ======  =======  =======  ========  ========  ========  ========  ========

        With 128 units it took 0.7 times as long at 24 and at 128 rows too, with 200 units 0.85 to 1.0 times.
        """
        return rows <= 20 or self.hidden_size >= 256

    def recurrence(self, params: LSTMParams, xs: Array) -> tuple[PyTree, Recurrence]:
        """The step, with its gates."""
        form = common.precomputed_projection if common.precompute_projection(self, xs) else common.fused_projection
        zs, affine = form(params, xs, self._sizes)
        return zs, lambda state, z: self._equations(params, state, affine(z, state.h))

    def output(self, state: LSTMState, gates: LSTMGates) -> Array:
        """``h``."""
        return state.h

    def differential(
        self, params: LSTMParams, dparams: LSTMParams, xs: Array, dxs: Array | None,
        before: LSTMState, after: LSTMState, gates: LSTMGates,
    ) -> tuple[PyTree, Recurrence]:  # fmt: skip
        """``v = dx w_xh + x dw_xh + db_h + h_{t-1} dw_hh``, and ``c dp`` for a gate with a peephole p."""
        v = common.projection_tangent(params, dparams, xs, dxs) + common.weight_tangent(before.h, dparams.w_hh)
        if self.peepholes:
            parts = dict(zip("foc" if self.coupled else "ifoc", common.split_gates(v, self._each), strict=True))
            for name, dp in self._peepholes(dparams).items():
                c = after.c if name == "o" and self.output_peephole == "current" else before.c
                parts[name] += broadcast_rows(dp, c) * c
            v = jnp.concatenate(list(parts.values()), -1)
        matmul_w_hh = common.matmul_by(params.w_hh)
        return (before.c, after.c, gates, v), lambda ds, at: self._tangent(params, matmul_w_hh, ds, *at)

    def _tangent(
        self, params: LSTMParams, matmul_w_hh: Any, ds: LSTMState, c_before: Array, c: Array, gates: LSTMGates, v: Array
    ) -> tuple[LSTMState, Array]:
        """The differential of the equations, line by line."""
        i, f, o, candidate = gates
        *dz_i, dz_f, dz_o, dz_c = common.split_gates(v + matmul_w_hh(ds.h), self._each)
        p = self._peepholes(params)

        def gate(name: str, value: Array, dz: Array, dcell: Array) -> Array:
            return value * (1 - value) * (dz + broadcast_rows(p[name], dcell) * dcell if name in p else dz)

        df = gate("f", f, dz_f, ds.c)
        i, di = (1 - f, -df) if i is None else (i, gate("i", i, dz_i[0], ds.c))
        dc = f * ds.c + c_before * df + i * (1 - candidate**2) * dz_c + candidate * di
        do = gate("o", o, dz_o, dc if self.output_peephole == "current" else ds.c)
        tanh_c = tanh(c)
        dh = o * (1 - tanh_c**2) * dc + tanh_c * do
        return LSTMState(dh, dc), dh
