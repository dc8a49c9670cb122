"""Statistics of gates against a plain loop over steps, sequences and units."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_width import LENGTHS, RESETS, B, D, N, T
from zoo import few, random_params, random_state

import jaxrnn as rnn
from jaxrnn.gradients import gate_statistics

GATED = [
    rnn.LSTM(N, N, **D),
    rnn.LSTM(N, N, peepholes="ifo", **D),
    rnn.LSTM(N, N, peepholes="fo", coupled=True, **D),
    rnn.GRU(N, N, **D),
    rnn.GRU(N, N, reset_after=True, **D),
    rnn.MGU(N, N, reset="keep", **D),
    rnn.JANET(N, N, **D),
    rnn.MultiplicativeLSTM(N, N, **D),
    rnn.SLSTM(N, N, **D),
]
XS = np.random.default_rng(2).normal(size=(T, B, N))


def by_hand(cell, params, xs, state=None, *, lengths=None, resets=None, reverse=False, margin=0.1):
    """Saturation, means and time constants, one gate of one unit at one step at a time."""
    recorded = {}
    for b in range(B):
        start = cell.initial_state() if state is None else jax.tree.map(lambda s, b=b: s[b], state)
        order = list(range(T if lengths is None else lengths[b]))
        for t in order[::-1] if reverse else order:
            start = cell.initial_state() if resets is not None and resets[t, b] else start
            for name, gate in cell.gates(params, start, xs[t, b]).items():
                recorded.setdefault(name, []).append(np.asarray(gate))
            start, _ = cell.step(params, start, xs[t, b])
    statistics = {}
    for name, gates in recorded.items():
        closed, opened, mean, logs = np.zeros((4, N))
        for gate in gates:
            for unit in range(N):
                closed[unit] += gate[unit] < margin
                opened[unit] += gate[unit] > 1 - margin
                mean[unit] += gate[unit]
                logs[unit] += np.log(gate[unit]) if name == "keep" else 0
        n = len(gates)
        statistics[name] = (closed / n, opened / n, mean / n, -n / logs if name == "keep" else None)
    return statistics


def assert_close(got, expected):
    assert sorted(got) == sorted(expected)
    for name, statistics in got.items():
        for a, b in zip(statistics, expected[name], strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize("cell", few(GATED, [GATED[1], GATED[4]]), ids=repr)
def test_statistics_are_those_of_a_loop(cell, x64):
    """Every gate of every gated cell, with all options of unroll; padding does not count."""
    params, xs = random_params(cell), 3 * XS
    assert_close(gate_statistics(cell, params, xs, margin=0.3), by_hand(cell, params, xs, margin=0.3))
    options = {"lengths": LENGTHS, "resets": RESETS, "reverse": True}
    state = random_state(cell)
    assert_close(gate_statistics(cell, params, xs, state, **options), by_hand(cell, params, xs, state, **options))


def test_models(x64):
    """A model has the statistics of its cells, layer by layer; cells without gates have none."""
    both = rnn.Bidirectional(rnn.LSTM(N, N, **D), rnn.GRU(N, N, **D), merge="sum")
    model = rnn.Stack(rnn.Embedding(N, N, **D), both, rnn.VanillaRNN(N, N, **D), rnn.Linear(N, N, **D))
    tokens = np.zeros((T, B), int)
    embedding, (forward, backward), vanilla, readout = gate_statistics(model, random_params(model), tokens)
    assert (embedding, vanilla, readout) == ((), {}, ())
    assert sorted(forward) == ["f", "i", "keep", "o"]
    assert sorted(backward) == ["keep", "r", "z"]
    assert forward["f"].mean.shape == backward["z"].closed.shape == (N,)


def test_gates_at_every_step(x64):
    """They are those of a loop over the steps, by name, for each cell of a model."""
    model = rnn.Stack(rnn.GRU(N, N, **D), rnn.VanillaRNN(N, N, **D))
    params, state = random_params(model), random_state(model)
    found, nothing = rnn.gradients.gates(model, params, XS, state)
    assert nothing == {}
    h = state[0]
    for t, x in enumerate(XS):
        for name, gate in model.layers[0].gates(params[0], h, x).items():
            np.testing.assert_allclose(found[name][t], gate, rtol=1e-12)
        h, _ = model.layers[0].step(params[0], h, x)
    assert sorted(found) == ["keep", "r", "z"]


def with_forget_bias(bias):
    """An LSTM whose parameters are 0 except for its forget bias."""
    cell = rnn.LSTM(N, N, **D)
    zeros = jax.tree.map(jnp.zeros_like, random_params(cell))
    return cell, zeros._replace(b_h=zeros.b_h.at[N : 2 * N].set(bias))


def test_time_constant(x64):
    """With a constant gate f it is -1 / log f steps; infinite for f = 1, 0 for f = 0."""
    for bias, time_constant in [(2.0, -1 / np.log(1 / (1 + np.exp(-2)))), (0.0, 1 / np.log(2)), (100.0, np.inf)]:
        statistics = gate_statistics(*with_forget_bias(bias), jnp.zeros((T, B, N)))
        np.testing.assert_allclose(statistics["keep"].time_constant, np.full(N, time_constant), rtol=1e-5)
        assert statistics["f"].time_constant is None
    statistics = gate_statistics(*with_forget_bias(-800.0), jnp.zeros((T, B, N)))
    assert (statistics["keep"].time_constant == 0).all()
    assert (statistics["f"].closed == 1).all()


def test_keep_is_the_factor_on_the_previous_state(x64):
    """It is ∂c_t/∂c_{t-1} = f of an LSTM and ∂h_t/∂h_{t-1} = 1 - z of a GRU without recurrent weights."""
    for cell in (GATED[0], GATED[3]):
        params = random_params(cell)
        params = params._replace(w_hh=jnp.zeros_like(params.w_hh))
        state, x = random_state(cell, ()), XS[0, 0]
        jacobian = rnn.gradients.step_jacobian(cell, params, state, x)[-N:, -N:]
        np.testing.assert_allclose(np.diag(jacobian), cell.gates(params, state, x)["keep"], atol=1e-12)


@dataclasses.dataclass(frozen=True)
class Leaky:
    """A user's cell with a method ``gates``."""

    def init(self, key):
        return {"rate": jnp.asarray(0.5)}

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, N))

    def gates(self, params, h, x):
        keep = jax.nn.sigmoid(params["rate"] + h)
        return {"keep": keep}

    def step(self, params, h, x):
        keep = self.gates(params, h, x)["keep"]
        h = keep * h + (1 - keep) * x
        return h, h


def test_user_cells():
    """A cell needs only a method ``gates``."""
    cell, xs = Leaky(), jnp.asarray(np.random.default_rng(0).normal(size=(T, B, N)), jnp.float32)
    params = cell.init(None)
    before = jnp.concatenate([jnp.zeros((1, B, N)), rnn.trajectory(cell, params, xs)[:-1]])
    keep = jax.nn.sigmoid(0.5 + before)
    got = gate_statistics(cell, params, xs)["keep"]
    np.testing.assert_allclose(got.mean, keep.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(got.time_constant, -1 / jnp.log(keep).mean((0, 1)), rtol=1e-5)


def test_refusals():
    """Every message names the argument."""
    cell = rnn.GRU(N, N)
    params, xs = random_params(cell), jnp.ones((T, B, N))
    for margin, error in [(0.5, ValueError), (-0.1, ValueError), ("0.1", TypeError)]:
        with pytest.raises(error, match="margin: expected a number"):
            gate_statistics(cell, params, xs, margin=margin)

    class Unnamed(Leaky):
        def gates(self, params, h, x):
            return h

    with pytest.raises(TypeError, match=r"gates: expected a dict of arrays by gate name from it, got float32"):
        gate_statistics(Unnamed(), {"rate": jnp.asarray(0.5)}, xs)
    with pytest.raises(TypeError, match="model: expected a cell or layer, got the class GRU"):
        gate_statistics(rnn.GRU, params, xs)
    with pytest.raises(TypeError, match=r"params: expected GRUParams.*parameters of GRU\(4, 4\) come from"):
        gate_statistics(cell, params[:2], xs)
    with pytest.raises(ValueError, match="xs: expected last axis 4"):
        gate_statistics(cell, params, xs[..., :2])
    with pytest.raises(ValueError, match="lengths: expected shape"):
        gate_statistics(cell, params, xs, lengths=jnp.ones(2, int))
    with pytest.raises(ValueError, match=r"state: expected shape \[3, 4\]"):
        gate_statistics(cell, params, xs, jnp.zeros((B, 7)))
