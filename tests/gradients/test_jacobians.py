"""Jacobians, their products, spectra and Lyapunov exponents: against formulas, autodiff and NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_width import N, T, case, linear
from zoo import Average, random_params, random_state

import jaxrnn as rnn
from jaxrnn.gradients import (
    lyapunov_spectrum,
    product_singular_values,
    spectral_radius,
    step_jacobian,
    trajectory_jacobians,
)

DERIVATIVES = {
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "relu": lambda z: (z > 0).astype(float),
    "sigmoid": lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
}


def sequence(steps=T, seed=2):
    """Inputs without batch axes, in float64."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=(steps, N)), "float64")


def vector(state):
    """The floating numbers of a state, concatenated."""
    return jnp.concatenate([s.ravel() for s in jax.tree.leaves(state) if jnp.issubdtype(s.dtype, jnp.inexact)])


# ---- one step ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", DERIVATIVES)
def test_vanilla_step_is_the_formula(activation, x64):
    """J = diag(f'(z)) w_hhᵀ."""
    cell = rnn.VanillaRNN(N, N, activation=activation, dtype="float64")
    params, h, x = random_params(cell), random_state(cell, ()), sequence()[0]
    z = np.asarray(h @ params.w_hh + x @ params.w_xh + params.b_h)
    expected = np.diag(DERIVATIVES[activation](z)) @ np.asarray(params.w_hh).T
    np.testing.assert_allclose(step_jacobian(cell, params, h, x), expected, atol=1e-12)


def test_lstm_step_without_recurrent_weights(x64):
    """With w_hh = 0: ∂c/∂c = diag(f), ∂h/∂c = diag(o f tanh'(c)), and the derivatives by h are 0."""
    cell = rnn.LSTM(N, N, dtype="float64")
    params, state, x = random_params(cell), random_state(cell, ()), sequence()[0]
    params = params._replace(w_hh=jnp.zeros_like(params.w_hh))
    gates, (new, _) = cell.gates(params, state, x), cell.step(params, state, x)
    f, o, slope = (np.asarray(a) for a in (gates["f"], gates["o"], 1 - jnp.tanh(new.c) ** 2))
    zero = np.zeros((N, N))
    expected = np.block([[zero, np.diag(o * slope * f)], [zero, np.diag(f)]])
    np.testing.assert_allclose(step_jacobian(cell, params, state, x), expected, atol=1e-12)


def test_counters_are_left_out(x64):
    """A user's cell with an integer in its state has the Jacobian of its floating numbers: J = diag(1 - a)."""
    cell = Average(N, "float64")
    params = random_params(cell)
    expected = np.diag(1 - np.asarray(jax.nn.sigmoid(params["rate"])))
    np.testing.assert_allclose(step_jacobian(cell, params, cell.initial_state(), sequence()[0]), expected, atol=1e-12)
    exponents = lyapunov_spectrum(cell, params, sequence(20))
    np.testing.assert_allclose(exponents.sum(), np.log(np.diag(expected)).sum(), atol=1e-12)  # log of |det J|


# ---- many steps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LSTM", "user"])
def test_products_are_derivatives_over_many_steps(name, x64):
    """J_T ⋯ J_1 is the derivative of the last state by the first, by reverse mode over a Python loop."""
    model, params, _ = case(name)
    xs, start = sequence(), random_state(model, ())
    jacobians = trajectory_jacobians(model, params, xs, start)

    def last(floating):
        leaves = [floating.get(n, leaf) for n, leaf in enumerate(jax.tree.leaves(start))]
        state = jax.tree.unflatten(jax.tree.structure(start), leaves)
        for x in xs:
            state, _ = model.step(params, state, x)
        return vector(state)

    floating = {n: s for n, s in enumerate(jax.tree.leaves(start)) if jnp.issubdtype(s.dtype, jnp.inexact)}
    expected = np.concatenate(list(jax.jit(jax.jacrev(last))(floating).values()), -1)
    np.testing.assert_allclose(np.linalg.multi_dot(jacobians[::-1]), expected, atol=1e-12)


def test_trajectory_jacobians_are_those_of_steps(x64):
    """Entry t is the Jacobian of step t at the state before it, by default the initial state."""
    cell, params, _ = case("GRU")
    xs = sequence()
    states = rnn.trajectory(cell, params, xs)
    jacobians = trajectory_jacobians(cell, params, xs)
    for t, before in [(0, cell.initial_state()), (3, states[2])]:
        np.testing.assert_allclose(jacobians[t], step_jacobian(cell, params, before, xs[t]), atol=1e-12)


def test_singular_values_are_those_of_numpy(x64):
    """By lag, from the last step backwards."""
    cell, params, _ = case("LSTM")
    jacobians = trajectory_jacobians(cell, params, sequence())
    got = product_singular_values(jacobians)
    product = np.eye(2 * N)
    for lag in range(T):
        product = product @ np.asarray(jacobians[T - 1 - lag])
        np.testing.assert_allclose(got[lag], np.linalg.svd(product)[1], atol=1e-12)


def test_spectral_radius():
    """The largest absolute eigenvalue: of a rotation, of a matrix with a larger norm, of a batch."""
    rotation = jnp.array([[0.0, -0.7], [0.7, 0.0]])
    sheared = jnp.array([[0.5, 100.0], [0.0, -0.6]])
    np.testing.assert_allclose(spectral_radius(rotation), 0.7, rtol=1e-6)
    np.testing.assert_allclose(spectral_radius(jnp.stack([rotation, sheared])), [0.7, 0.6], rtol=1e-5)


# ---- Lyapunov exponents --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_exponents_of_a_linear_network(scale):
    """w_hh = a Q: every exponent is log a."""
    exponents = lyapunov_spectrum(*linear(scale), jnp.ones((50, N)))
    np.testing.assert_allclose(exponents, np.full(N, np.log(scale)), atol=1e-4)


def test_exponents_are_those_of_numpy(x64):
    """By successive QR decompositions of the Jacobians; fewer exponents are the largest ones."""
    cell, params, _ = case("GRU")
    xs = sequence(500)
    jacobians = np.asarray(trajectory_jacobians(cell, params, xs))
    q, logs = np.eye(N), []
    for jacobian in jacobians:
        q, r = np.linalg.qr(jacobian @ q)
        logs.append(np.log(np.abs(np.diag(r))))
    exponents = lyapunov_spectrum(cell, params, xs)
    np.testing.assert_allclose(exponents, np.mean(logs, 0), atol=0.01)
    np.testing.assert_allclose(exponents.sum(), np.linalg.slogdet(jacobians)[1].mean(), atol=1e-10)
    np.testing.assert_allclose(lyapunov_spectrum(cell, params, xs, exponents=2), exponents[:2], atol=1e-10)


def test_exponents_of_independent_units():
    """The logarithms of their growth factors, the largest first; that of a factor of 0 is far below."""
    cell = rnn.VanillaRNN(N, N, activation="relu", use_bias=False)
    params = random_params(cell)._replace(w_hh=jnp.asarray(np.diag([0.0, 0.5, 2.0, 1.0]), "float32"))
    exponents = lyapunov_spectrum(cell, params, jnp.zeros((100, N)), jnp.ones(N))
    np.testing.assert_allclose(exponents[:3], np.log([2.0, 1.0, 0.5]), atol=0.05)
    assert exponents[3] < -10


def test_largest_exponent_is_the_rate_of_divergence(x64):
    """In a chaotic network, two states at a distance of 1e-9 diverge at the rate of the largest exponent."""
    cell = rnn.VanillaRNN(N, 40, dtype="float64")
    params, xs = random_params(cell), 0.1 * sequence(150)
    start = rnn.unroll(cell, params, xs)[0]
    exponent = lyapunov_spectrum(cell, params, xs, start, exponents=1)[0]
    one = rnn.trajectory(cell, params, xs, start)
    other = rnn.trajectory(cell, params, xs, start + 1e-9)
    distance = np.log(np.linalg.norm(one - other, axis=-1))
    near = distance < np.log(1e-3)  # in the linear regime
    slope = np.polyfit(np.arange(near.sum()), distance[near], 1)[0]
    assert exponent > 0.1
    assert slope == pytest.approx(float(exponent), rel=0.3)


def test_bfloat16():
    """Spectra of bfloat16 Jacobians are computed in float32."""
    cell, params = linear(0.5)
    narrow = jax.tree.map(lambda a: a.astype("bfloat16"), params)
    xs = jnp.zeros((20, N), "bfloat16")
    np.testing.assert_allclose(lyapunov_spectrum(cell, narrow, xs), np.full(N, np.log(0.5)), atol=0.02)
    np.testing.assert_allclose(spectral_radius(narrow.w_hh), 0.5, rtol=0.02)
    jacobians = trajectory_jacobians(cell, narrow, xs)
    assert jacobians.dtype == "bfloat16"
    np.testing.assert_allclose(product_singular_values(jacobians[:3])[:, 0], [0.5, 0.25, 0.125], rtol=0.03)


# ---- error messages ------------------------------------------------------------------------------------------------


def test_refusals():
    """Every message names the argument."""
    cell = rnn.LSTM(N, N)
    params, xs, state = random_params(cell), jnp.ones((T, N)), cell.initial_state()
    with pytest.raises(ValueError, match=r"state.h: expected shape \[4\], got float32\[2, 4\]"):
        step_jacobian(cell, params, cell.initial_state((2,)), xs[0])
    with pytest.raises(TypeError, match="state: expected LSTMState"):
        step_jacobian(cell, params, state.h, xs[0])
    with pytest.raises(TypeError, match="cell: expected a cell or layer"):
        step_jacobian(rnn.LSTM, params, state, xs[0])
    for function in (trajectory_jacobians, lyapunov_spectrum):
        with pytest.raises(ValueError, match=r"xs: expected one sequence, without batch axes, got .*jax.vmap"):
            function(cell, params, jnp.ones((T, 2, N)))
        with pytest.raises(ValueError, match=r"xs: expected last axis 4 \(LSTM.input_size\)"):
            function(cell, params, jnp.ones((T, 2)))
        with pytest.raises(TypeError, match="state: expected LSTMState"):
            function(cell, params, xs, state.h)
        with pytest.raises(TypeError, match="cell: expected a cell or layer"):
            function("LSTM", params, xs)
    spectrum = functools.partial(lyapunov_spectrum, cell, params, xs)
    with pytest.raises(ValueError, match="exponents: expected a positive int, got 0"):
        spectrum(exponents=0)
    with pytest.raises(ValueError, match="exponents: expected at most 8, the numbers of a state, got 9"):
        spectrum(exponents=9)
    with pytest.raises(ValueError, match=r"x: expected one input, without time or batch axes, got float32\[5, 4\]"):
        step_jacobian(cell, params, state, xs)
    with pytest.raises(ValueError, match=r"xs: expected at least one step, got float32\[0, 4\]"):
        lyapunov_spectrum(cell, params, xs[:0])
    assert trajectory_jacobians(cell, params, xs[:0]).shape == (0, 8, 8)
    with pytest.raises(TypeError, match="cell: expected a cell with a state of floating numbers, got Linear"):
        lyapunov_spectrum(rnn.Linear(N, N), random_params(rnn.Linear(N, N)), xs)
    for wrong in (params, None, [[1.0]], np.eye(2, dtype=int)):
        with pytest.raises(TypeError, match=r"w: expected an array of square matrices, \[..., S, S\], got"):
            spectral_radius(wrong)
    with pytest.raises(ValueError, match=r"w: expected square matrices, .*got float32\[4, 16\]; .*jnp.split"):
        spectral_radius(params.w_hh)
    with pytest.raises(ValueError, match=r"jacobians: expected square matrices, \[T, S, S\], got float32\[4, 4\]"):
        product_singular_values(jnp.eye(4))
    with pytest.raises(
        ValueError, match=r"jacobians: expected square matrices, \[T, S, S\], got float32\[5, 2, 4, 4\]"
    ):
        product_singular_values(jnp.ones((T, 2, 4, 4)))
    both = rnn.Bidirectional(rnn.GRU(N, N))
    with pytest.raises(TypeError, match=r"Bidirectional.step: expected a whole sequence"):
        trajectory_jacobians(both, random_params(both), xs)
