"""Long short-term memory, with peepholes and with a coupled input and forget gate."""

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
from jaxrnn.constructor import hyperparameters
from jaxrnn.initializers import Initializer
from jaxrnn.precision import broadcast_rows
from jaxrnn.types import Array, Mask, PyTree, Recurrence, exportable, unmasked


@exportable
class LSTMState(NamedTuple):
    """Output ``h [..., H]`` and cell state ``c [..., H]``."""

    h: Array
    c: Array


@exportable
class LSTMParams(NamedTuple):
    """``w_xh [I, G·H]``, ``w_hh [H, G·H]``, ``b_h [G·H]`` or None, ``peepholes [P, H]`` or None.

    The order of the gates is i, f, o, c̃ (coupled: f, o, c̃), that of the rows of ``peepholes`` i, f, o.
    """

    w_xh: Array
    w_hh: Array
    b_h: Array | None
    peepholes: Array | None


class LSTMGates(NamedTuple):
    """Intermediate values of a step, each ``[..., H]``; ``i`` is None when coupled, as it is ``1 - f``."""

    i: Array | None
    f: Array
    o: Array
    candidate: Array


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
    weights for i. The state is ``LSTMState(h, c)``, each ``[..., H]``; the output is ``h_t``.

    Args:
        input_size: I, the features of one input.
        hidden_size: H, the number of units.
        peepholes: the gates with a peephole connection, any subset of ``"ifo"`` (coupled: of ``"fo"``).
        output_peephole: the cell state that the output gate reads, ``"current"`` or ``"previous"``.
        coupled: whether the input gate is ``1 - f``.
        forget_bias: added to the forget gate's part of ``b_h`` by ``init``, never at run time; above 0 the forget gate
            is initially open.
        use_bias: whether there is a ``b_h``.
        w_xh_init, w_hh_init, b_h_init, peepholes_init: initializers, by name or callable, gate by gate.
        dtype: dtype of parameters and initial state.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range, or ``peepholes`` holds ``"i"`` although
            the gates are coupled.

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
        object.__setattr__(self, "peepholes", checked_peepholes(self.peepholes, self.coupled))

    @property
    def output_size(self) -> int:
        return self.hidden_size

    @property
    def num_gates(self) -> int:
        return 3 if self.coupled else 4

    def init(self, key: Array) -> LSTMParams:
        """Draw ``w_xh [I, G·H]``, ``w_hh [H, G·H]``, ``b_h [G·H]`` and ``peepholes [P, H]``."""
        keys = jax.random.split(key, 4)
        w_xh, w_hh, b_h = common.init_weights(self, keys[:3], self.num_gates)
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
        x_blocks, preactivations = common.precomputed_projection(params, x, self._block_sizes)
        new, _ = self._equations(params, state, preactivations(x_blocks, recurrent(state.h)), candidate)
        return new, new.h

    def mask_state(self, state: LSTMState, mask: Array) -> LSTMState:
        """``(h ⊙ mask, c)``: h enters the equations by products alone."""
        return state._replace(h=state.h * mask)

    def gates(self, params: LSTMParams, state: LSTMState, x: Array) -> dict[str, Array]:
        """The gates i, f, o of one step, each ``[..., H]``, and ``keep``: the fraction of the state that is kept, f."""
        x_blocks, preactivations = common.precomputed_projection(params, x, self._block_sizes)
        _, (i, f, o, _) = self._equations(params, state, preactivations(x_blocks, state.h))
        return {"i": 1 - f if i is None else i, "f": f, "o": o, "keep": f}

    def _equations(
        self, params: LSTMParams, state: LSTMState, z: tuple[Array, ...], mask: Mask = unmasked
    ) -> tuple[LSTMState, LSTMGates]:
        """The equations above, from ``h_{t-1}, c_{t-1}`` and the pre-activations ``z = x w_xh + h w_hh + b_h``."""
        c, (*z_gates, z_c) = state.c, z
        gate = self._gate(params, z_gates)
        f = gate("f", c)
        i = None if self.coupled else gate("i", c)
        candidate = mask(tanh(z_c))
        c_new = f * c + (1 - f if i is None else i) * candidate
        o = gate("o", c_new if self.output_peephole == "current" else c)
        h_new = o * tanh(c_new)
        return LSTMState(h_new, c_new), LSTMGates(i, f, o, candidate)

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
        projection = common.precomputed_projection if common.should_precompute(self, xs) else common.fused_projection
        zs, preactivations = projection(params, xs, self._block_sizes)
        return zs, lambda state, z: self._equations(params, state, preactivations(z, state.h))

    def output(self, state: LSTMState, gates: LSTMGates) -> Array:
        """``h``."""
        return state.h

    def differential(
        self, params: LSTMParams, dparams: LSTMParams, xs: Array, dxs: Array | None,
        before: LSTMState, after: LSTMState, gates: LSTMGates,
    ) -> tuple[PyTree, Recurrence]:  # fmt: skip
        """``v = dx w_xh + x dw_xh + db_h + h_{t-1} dw_hh``, plus ``c ⊙ dp`` for a gate with a peephole p."""
        v = common.input_projection_tangent(params, dparams, xs, dxs) + common.weight_tangent(before.h, dparams.w_hh)
        if self.peepholes:
            names = "foc" if self.coupled else "ifoc"
            v_gates = dict(zip(names, common.split_gates(v, self._gate_sizes), strict=True))
            for name, dp in self._peepholes(dparams).items():
                c = after.c if name == "o" and self.output_peephole == "current" else before.c
                v_gates[name] += broadcast_rows(dp, c) * c
            v = jnp.concatenate(list(v_gates.values()), -1)
        matmul_w_hh = common.right_matmul(params.w_hh)
        return (before.c, after.c, gates, v), lambda ds, inputs: self._tangent(params, matmul_w_hh, ds, *inputs)

    def _tangent(
        self, params: LSTMParams, matmul_w_hh: Any, ds: LSTMState, c_before: Array, c: Array, gates: LSTMGates, v: Array
    ) -> tuple[LSTMState, Array]:
        """The differential of the equations, line by line."""
        i, f, o, candidate = gates
        *dz_i, dz_f, dz_o, dz_c = common.split_gates(v + matmul_w_hh(ds.h), self._gate_sizes)
        p = self._peepholes(params)

        def dgate(name: str, gate: Array, dz: Array, dc: Array) -> Array:
            return gate * (1 - gate) * (dz + broadcast_rows(p[name], dc) * dc if name in p else dz)

        df = dgate("f", f, dz_f, ds.c)
        i, di = (1 - f, -df) if i is None else (i, dgate("i", i, dz_i[0], ds.c))
        dc = f * ds.c + c_before * df + i * (1 - candidate**2) * dz_c + candidate * di
        do = dgate("o", o, dz_o, dc if self.output_peephole == "current" else ds.c)
        tanh_c = tanh(c)
        dh = o * (1 - tanh_c**2) * dc + tanh_c * do
        return LSTMState(dh, dc), dh


def checked_peepholes(value: Any, coupled: bool) -> str:
    """A subset of the gates i, f, o; returns it in that order."""
    if not isinstance(value, str):
        checks.refuse("peepholes", "a string of gate letters out of 'ifo'", checks.describe(value), error=TypeError)
    if set(value) - set("ifo") or len(set(value)) < len(value):
        checks.refuse(
            "peepholes", "each of the letters 'i', 'f', 'o' at most once", repr(value), "'' is none, 'ifo' all"
        )
    if coupled and "i" in value:
        checks.refuse("peepholes", "a subset of 'fo' with coupled=True", repr(value),
               "the input gate is 1 - f there and has no weights of its own")  # fmt: skip
    return "".join(gate for gate in "ifo" if gate in value)
