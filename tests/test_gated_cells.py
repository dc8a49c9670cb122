"""What the equations of the gated cells imply: an sLSTM without its stabiliser, and relations between cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import assert_close, weighted
from zoo import B, H, I, T, inputs, random_params

import jaxrnn as rnn

pytestmark = pytest.mark.usefixtures("x64")
FORGETS = pytest.mark.parametrize("forget", ["sigmoid", pytest.param("exponential", marks=pytest.mark.slow)])


def slstm(**options):
    return rnn.SLSTM(I, H, dtype="float64", **options)


def outputs_without_stabiliser(cell, params, xs):
    """``c_t = f c_{t-1} + i tanh(z̃)`` and ``n_t = f n_{t-1} + i``, with exponentials as they are."""
    h = c = n = jnp.zeros((xs.shape[1], H))
    ys = []
    for x in xs:
        i, f, o, z = jnp.split(x @ params.w_xh + h @ params.w_hh + params.b_h[None], 4, -1)
        i, f = jnp.exp(i), jax.nn.sigmoid(f) if cell.forget == "sigmoid" else jnp.exp(f)
        c = f * c + i * jnp.tanh(z)
        n = f * n + i
        h = jax.nn.sigmoid(o) * c / n
        ys.append(h)
    return jnp.stack(ys)


def both_gradients(cell, params, xs):
    """Outputs and their gradient, of the cell and without a stabiliser."""

    def loss(outputs):
        return jax.jit(jax.value_and_grad(lambda *at: weighted(jnp.sin(outputs(*at))), argnums=(0, 1)))(params, xs)

    return loss(lambda params, xs: rnn.unroll(cell, params, xs)[1]), loss(
        lambda params, xs: outputs_without_stabiliser(cell, params, xs)
    )


@FORGETS
def test_the_stabiliser_changes_nothing(forget):
    """Outputs and their gradients are those of the equations without it, where these do not overflow."""
    cell = slstm(forget=forget)
    assert_close(*both_gradients(cell, random_params(cell), inputs(cell)))


@pytest.mark.slow
def test_the_stabiliser_changes_nothing_at_ties():
    """At every step log f + m = ĩ, where the maximum has no derivative."""
    cell = slstm(forget="exponential")
    params = jax.tree.map(jnp.zeros_like, random_params(cell))
    params = params._replace(b_h=params.b_h.at[3 * H :].set(0.5))
    states = rnn.trajectory(cell, params, inputs(cell))
    assert (states.m == 0).all()
    assert_close(states.n[:, 0, 0], np.arange(1, T + 1))
    assert_close(*both_gradients(cell, params, inputs(cell)))


@FORGETS
def test_large_preactivations(forget):
    """The mean of tanh(z̃) is c / n: its weights are the softmax of ĩ plus the sum of log f, at ± 1000 too."""
    cell = slstm(forget=forget)
    params = random_params(cell)
    params = params._replace(w_xh=1000 * params.w_xh, w_hh=0 * params.w_hh)
    xs = inputs(cell)
    i, f, o, z = np.split(np.asarray(xs @ params.w_xh + params.b_h[None, None]), 4, -1)
    log_f = -np.logaddexp(0, -f) if forget == "sigmoid" else f
    expected = []
    for t in range(T):
        logs = np.stack([i[s] + log_f[s + 1 : t + 1].sum(0) for s in range(t + 1)])
        shares = np.exp(logs - logs.max(0))
        mean = (shares * np.tanh(z[: t + 1])).sum(0) / shares.sum(0)
        expected.append(np.asarray(jax.nn.sigmoid(o[t])) * mean)

    @jax.jit
    def run(params, xs):
        return jax.value_and_grad(lambda *at: weighted(rnn.unroll(cell, *at)), argnums=(0, 1))(params, xs)

    assert_close(rnn.unroll(cell, params, xs)[1], np.stack(expected))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run(params, xs)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_large_preactivations_in_narrow_dtypes(dtype):
    """Nothing overflows."""
    cell = rnn.SLSTM(I, H, dtype=dtype)
    params = jax.tree.map(lambda w: 1000 * w, random_params(cell))
    value, gradients = jax.value_and_grad(lambda p: weighted(rnn.unroll(cell, p, inputs(cell, dtype=dtype))))(params)
    assert all(np.isfinite(np.asarray(leaf, "float32")).all() for leaf in (value, *jax.tree.leaves(gradients)))


@pytest.mark.slow
def test_gates_of_an_slstm_are_weights_of_a_mean():
    """Of c / n: i + f = 1, and keep is its derivative by the previous one without recurrent weights; first 1."""
    cell = slstm()
    params = random_params(cell)
    params = params._replace(w_hh=0 * params.w_hh)
    x, fresh = inputs(cell)[0], cell.initial_state((B,))
    gates = cell.gates(params, fresh, x)
    assert (gates["keep"] == 1).all()
    assert (gates["i"] == 1).all()
    state, _ = cell.step(params, fresh, x)
    gates = cell.gates(params, state, 2 * x)
    assert_close(gates["i"] + gates["f"], np.ones((B, H)))

    def content(mean):
        new, _ = cell.step(params, state._replace(c=mean * state.n), 2 * x)
        return new.c / new.n

    mean = state.c / state.n
    assert_close(jax.jvp(content, (mean,), (jnp.ones_like(mean),))[1], gates["keep"])


@pytest.mark.slow
def test_heads_do_not_mix():
    """The state of a head depends on no other head."""
    cell = slstm(heads=2)
    params, x = random_params(cell), inputs(cell)[0, 0]
    state, _ = cell.step(params, cell.initial_state(), x)
    jacobian = np.asarray(jax.jacobian(lambda h: cell.step(params, state._replace(h=h), x)[1])(state.h)) != 0
    np.testing.assert_array_equal(jacobian, np.kron(np.eye(2), np.ones((2, 2))).astype(bool))


@pytest.mark.slow
def test_relations_between_cells():
    """JANET with β = 0 is an MGU without a reset; a multiplicative LSTM without m is an LSTM without w_hh."""
    xs = inputs(rnn.JANET(I, H))
    janet, mgu = rnn.JANET(I, H, beta=0.0, dtype="float64"), rnn.MGU(I, H, reset="none", dtype="float64")
    params = random_params(janet)
    flip = jnp.repeat(jnp.asarray([-1.0, 1.0]), H)  # 1 - σ(s) = σ(-s)
    flipped = rnn.cells.MGUParams(*[w * (flip if w.ndim == 1 else flip[None]) for w in params], None)
    assert_close(rnn.unroll(mgu, flipped, xs), rnn.unroll(janet, params, xs))

    mlstm = rnn.MultiplicativeLSTM(I, H, output_gate="outside", dtype="float64")
    params = random_params(mlstm)
    params = params._replace(w_xm=0 * params.w_xm)
    lstm = rnn.cells.LSTMParams(params.w_xh, 0 * params.w_mh, params.b_h, None)
    assert_close(rnn.unroll(mlstm, params, xs), rnn.unroll(rnn.LSTM(I, H, dtype="float64"), lstm, xs))


@pytest.mark.slow
def test_chrono():
    """e^b is uniform on [1, steps - 1], in the forget gate only."""
    cell = rnn.JANET(I, 4000, forget_bias_init=rnn.initializers.chrono(20), w_hh_init="zeros")
    forget, candidate = jnp.split(cell.init(jax.random.key(0)).b_h, 2)
    times = np.exp(np.asarray(forget, "float64"))
    assert (candidate == 0).all()
    np.testing.assert_allclose([times.min(), times.mean(), times.max()], [1, 10, 19], atol=0.3)
    assert rnn.from_repr(repr(cell)) == cell
