"""Fixed points of models that have known ones, and of one that has learnt to keep two bits."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from zoo import H, I

import jaxrnn as rnn
from jaxrnn.gradients import fixed_points

KEY = jax.random.key(0)
SLOW = 1e-8


def around(count, size, scale=1.0):
    """States to start from."""
    return jnp.asarray(np.random.default_rng(0).uniform(-scale, scale, (count, size)), "float32")


def test_known_points():
    """Where h ← tanh(2 h), of two units: 0 and ± 0.9575, stable where no unit is at 0."""
    cell = rnn.VanillaRNN(1, 2, w_hh_init=rnn.initializers.identity(2.0))
    found = fixed_points(cell, cell.init(KEY), jnp.zeros(1), around(200, 2))
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
    assert (found.speeds < SLOW).all()
    assert found.eigenvalues.dtype == complex or np.iscomplexobj(found.eigenvalues)


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_one_point(scale):
    """Where h ← h w_hh + b, (I - w_hh)⁻¹ b alone is fixed, stable or not."""
    cell = rnn.VanillaRNN(1, 4, activation=lambda z: z, w_hh_init=rnn.initializers.orthogonal(scale))
    params = cell.init(KEY)._replace(b_h=jnp.arange(4.0))
    found = fixed_points(cell, params, jnp.zeros(1), around(20, 4, 3.0))
    expected = np.linalg.solve(np.eye(4) - params.w_hh.T, np.arange(4.0))
    assert found.points.shape == (1, 4)
    np.testing.assert_allclose(found.points[0], expected, rtol=1e-4, atol=1e-5)
    assert found.stable.tolist() == [scale < 1]
    np.testing.assert_allclose(np.abs(found.eigenvalues), scale, rtol=1e-4)


def test_no_point():
    """Where h ← h + 1, there is none: empty arrays of the right shapes."""
    cell = rnn.VanillaRNN(1, 3, activation=lambda z: z, w_hh_init="identity", b_h_init="ones")
    found = fixed_points(cell, cell.init(KEY), jnp.zeros(1), around(5, 3), steps=20)
    shapes = [np.shape(part) for part in found]
    assert shapes == [(0, 3), (0, 3), (0,), (0, 3, 3), (0, 3), (0,)]


def test_line_of_points():
    """Where h ← h, every state is a fixed point, and all that lie apart are kept."""
    cell = rnn.VanillaRNN(1, 2, activation=lambda z: z, w_hh_init="identity")
    found = fixed_points(cell, cell.init(KEY), jnp.zeros(1), around(30, 2), steps=5, apart=0.05)
    distance = np.linalg.norm(found.points[:, None] - found.points, axis=-1) + np.eye(len(found.points))
    assert 10 < len(found.points) <= 30
    assert distance.min() >= 0.05


def test_state_of_several_parts():
    """An LSTM's points are pairs (h, c), each a state that a step leaves where it is."""
    cell = rnn.LSTM(I, H)
    params, x = cell.init(KEY), jnp.ones(I)
    starts = jax.tree.map(lambda s: s + around(10, H), cell.initial_state((10,)))
    found = fixed_points(cell, params, x, starts)
    assert len(found.points) >= 1
    new, _ = jax.vmap(lambda state: cell.step(params, state, x))(found.states)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), new, found.states)
    np.testing.assert_allclose(found.points, np.concatenate([found.states.h, found.states.c], -1))


def flip_flop(key, steps=40, batch=64):
    """Pulses of ± 1 on two channels, and the last pulse of each: inputs and targets ``[T, B, 2]``."""
    keys = jax.random.split(key)
    there = jax.random.bernoulli(keys[0], 0.15, (steps, batch, 2)).at[0].set(True)
    pulses = jnp.where(there, jax.random.rademacher(keys[1], there.shape, jnp.float32), 0)
    _, held = jax.lax.scan(lambda h, p: (jnp.where(p == 0, h, p),) * 2, jnp.zeros((batch, 2)), pulses)
    return pulses, held


def test_two_bits():
    """A trained flip-flop keeps its four memories at stable fixed points, with one between any two and one amid all."""
    model = rnn.Stack(rnn.GRU(2, 16), rnn.Linear(16, 2))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01))

    def loss(params, key):
        pulses, held = flip_flop(key)
        return rnn.losses.squared_error(rnn.unroll(model, params, pulses)[1], held)

    @jax.jit
    def train():
        def body(carry, key):
            params, memory = carry
            value, gradient = jax.value_and_grad(loss)(params, key)
            with jax.numpy_dtype_promotion("standard"):
                updates, memory = optimizer.update(gradient, memory)
            return (optax.apply_updates(params, updates), memory), value

        params = model.init(KEY)
        (params, _), values = jax.lax.scan(body, (params, optimizer.init(params)), jax.random.split(KEY, 400))
        return params, values, rnn.trajectory(model.layers[0], params[0], flip_flop(jax.random.key(1))[0])

    params, values, states = train()
    assert values[-1] < 0.01
    cell, readout = model.layers
    some, others = np.asarray(states).reshape(-1, 16)[
        np.random.default_rng(0).integers(0, states[..., 0].size, (2, 64))
    ]
    found = fixed_points(cell, params[0], jnp.zeros(2), (some + others) / 2)  # also what lies between the memories
    assert (found.speeds < SLOW).all()
    bits = np.round(readout.apply(params[1], found.states)).astype(int)
    assert sorted(map(tuple, bits.tolist())) == sorted(itertools.product((-1, 0, 1), repeat=2))
    ways_out = (np.abs(found.eigenvalues) > 1).sum(-1)
    np.testing.assert_array_equal(ways_out, (bits == 0).sum(-1))  # a saddle on the way from each memory to the next
    np.testing.assert_array_equal(found.stable, bits.all(-1))


def test_refusals():
    """Every message names the argument."""
    cell = rnn.VanillaRNN(1, 2)
    params, starts = cell.init(KEY), around(5, 2)
    search = functools.partial(fixed_points, cell, params, jnp.zeros(1))
    for name, value, error in [
        ("steps", 0, ValueError),
        ("steps", 1.5, TypeError),
        ("slow", -1e-8, ValueError),
        ("apart", "near", TypeError),
        ("apart", float("nan"), ValueError),
    ]:
        with pytest.raises(error, match=f"{name}: expected"):
            search(starts, **{name: value})
    with pytest.raises(ValueError, match=r"starts: expected shape \[5, 2\], got float32\[5, 3\]"):
        search(around(5, 3))
    for wrong in (jnp.zeros((0, 2)), jnp.zeros(()), None, ()):
        with pytest.raises(ValueError, match="starts: expected states with a leading axis"):
            search(wrong)
    with pytest.raises(ValueError, match=r"x: expected one input, without time or batch axes, got float32\[5, 1\]"):
        fixed_points(cell, params, jnp.zeros((5, 1)), starts)
    with pytest.raises(TypeError, match="cell: expected a cell or layer"):
        fixed_points(rnn.VanillaRNN, params, jnp.zeros(1), starts)
