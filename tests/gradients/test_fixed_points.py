"""Fixed points of models with known ones, and of a flip-flop that stores two bits."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import H, I

import jaxrnn as rnn
from jaxrnn.gradients import fixed_points

KEY = jax.random.key(0)
TOLERANCE = 1e-8


def random_states(count, size, scale=1.0):
    """Initial states of the search."""
    return jnp.asarray(np.random.default_rng(0).uniform(-scale, scale, (count, size)), "float32")


def test_known_points():
    """H ← tanh(2 h) of two units: 0 and ± 0.9575, stable if no unit is at 0."""
    cell = rnn.VanillaRNN(1, 2, w_hh_init=rnn.initializers.identity(2.0))
    found = fixed_points(cell, cell.init(KEY), jnp.zeros(1), random_states(200, 2))
    one = 0.95750402407
    assert np.tanh(2 * one) == pytest.approx(one, abs=1e-9)
    expected = {(a, b) for a in (-one, 0.0, one) for b in (-one, 0.0, one)}
    assert {tuple(one * round(p / one) for p in point) for point in found.points.tolist()} == expected
    assert len(found.points) == 9
    assert min(np.abs(found.points[:, None] - np.array(sorted(expected))).max(-1).min(0)) < 1e-6
    np.testing.assert_array_equal(found.stable, (np.abs(found.points) > 0.5).all(1))
    slopes = np.sort(2 * (1 - found.points**2), -1)[:, ::-1]  # J = diag(2 (1 - h²))
    np.testing.assert_allclose(found.eigenvalues, slopes, atol=1e-4)
    np.testing.assert_allclose(found.jacobians[:, [0, 1], [0, 1]], 2 * (1 - found.points**2), atol=1e-5)
    assert (np.diff(found.speeds) >= 0).all()
    assert (found.speeds < TOLERANCE).all()
    assert found.eigenvalues.dtype == complex or np.iscomplexobj(found.eigenvalues)


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_one_point(scale):
    """H ← h w_hh + b has the single fixed point (I - w_hh)⁻¹ b, stable or not."""
    cell = rnn.VanillaRNN(1, 4, activation=lambda z: z, w_hh_init=rnn.initializers.orthogonal(scale))
    params = cell.init(KEY)._replace(b_h=jnp.arange(4.0))
    found = fixed_points(cell, params, jnp.zeros(1), random_states(20, 4, 3.0))
    expected = np.linalg.solve(np.eye(4) - params.w_hh.T, np.arange(4.0))
    assert found.points.shape == (1, 4)
    np.testing.assert_allclose(found.points[0], expected, rtol=1e-4, atol=1e-5)
    assert found.stable.tolist() == [scale < 1]
    np.testing.assert_allclose(np.abs(found.eigenvalues), scale, rtol=1e-4)


def test_no_point():
    """H ← h + 1 has none: empty arrays of the right shapes."""
    cell = rnn.VanillaRNN(1, 3, activation=lambda z: z, w_hh_init="identity", b_h_init="ones")
    found = fixed_points(cell, cell.init(KEY), jnp.zeros(1), random_states(5, 3), steps=20)
    shapes = [np.shape(part) for part in found]
    assert shapes == [(0, 3), (0, 3), (0,), (0, 3, 3), (0, 3), (0,)]


def test_line_of_points():
    """With h ← h every state is a fixed point; those at least min_distance apart are returned."""
    cell = rnn.VanillaRNN(1, 2, activation=lambda z: z, w_hh_init="identity")
    found = fixed_points(cell, cell.init(KEY), jnp.zeros(1), random_states(30, 2), steps=5, min_distance=0.05)
    distance = np.linalg.norm(found.points[:, None] - found.points, axis=-1) + np.eye(len(found.points))
    assert 10 < len(found.points) <= 30
    assert distance.min() >= 0.05


def test_state_of_several_parts():
    """Fixed points of an LSTM are states (h, c) that a step does not change."""
    cell = rnn.LSTM(I, H)
    params, x = cell.init(KEY), jnp.ones(I)
    states = jax.tree.map(lambda s: s + random_states(10, H), cell.initial_state((10,)))
    found = fixed_points(cell, params, x, states)
    assert len(found.points) >= 1
    new, _ = jax.vmap(lambda state: cell.step(params, state, x))(found.states)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), new, found.states)
    np.testing.assert_allclose(found.points, np.concatenate([found.states.h, found.states.c], -1))


def test_two_bits():
    """A flip-flop stores two bits in four stable fixed points, with saddle points between them and in the centre."""
    cell = rnn.GRU(2, 2)
    params = cell.init(KEY)  # without input the gates are 1/2 and the units independent: h ← (h + tanh(2 h)) / 2
    params = params._replace(w_hh=jnp.concatenate([jnp.zeros((2, 4)), 4 * jnp.eye(2)], -1))
    found = fixed_points(cell, params, jnp.zeros(2), random_states(200, 2))
    assert (found.speeds < TOLERANCE).all()
    bits = np.round(found.points).astype(int)
    np.testing.assert_allclose(found.points, 0.957504 * bits, atol=1e-4)
    assert sorted(map(tuple, bits.tolist())) == sorted(itertools.product((-1, 0, 1), repeat=2))
    unstable = (np.abs(found.eigenvalues) > 1).sum(-1)
    np.testing.assert_array_equal(unstable, (bits == 0).sum(-1))  # a saddle between two stable points
    np.testing.assert_array_equal(found.stable, bits.all(-1))


def test_refusals():
    """Every message names the argument."""
    cell = rnn.VanillaRNN(1, 2)
    params, states = cell.init(KEY), random_states(5, 2)
    search = functools.partial(fixed_points, cell, params, jnp.zeros(1))
    for name, value, error in [
        ("steps", 0, ValueError),
        ("steps", 1.5, TypeError),
        ("tolerance", -1e-8, ValueError),
        ("min_distance", "near", TypeError),
        ("min_distance", float("nan"), ValueError),
    ]:
        with pytest.raises(error, match=f"{name}: expected"):
            search(states, **{name: value})
    with pytest.raises(ValueError, match=r"initial_states: expected shape \[5, 2\], got float32\[5, 3\]"):
        search(random_states(5, 3))
    for wrong in (jnp.zeros((0, 2)), jnp.zeros(()), None, ()):
        with pytest.raises(ValueError, match="initial_states: expected states with a leading axis"):
            search(wrong)
    with pytest.raises(ValueError, match=r"x: expected one input, without time or batch axes, got float32\[5, 1\]"):
        fixed_points(cell, params, jnp.zeros((5, 1)), states)
    with pytest.raises(TypeError, match="cell: expected a cell or layer"):
        fixed_points(rnn.VanillaRNN, params, jnp.zeros(1), states)
