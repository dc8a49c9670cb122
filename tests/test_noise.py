"""Cells with noise: a step that takes a key, of the library and of a user."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from contract import LENGTHS, RESETS, assert_close, assert_identical, weighted
from zoo import B, H, I, T, inputs, random_params

import jaxrnn as rnn

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(3)


@dataclasses.dataclass(frozen=True)
class Noisy:
    """A user's cell whose step takes a key."""

    size: int

    def init(self, key):
        return {"rate": jax.random.normal(key, (self.size,), "float64")}

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, self.size), "float64")

    def step(self, params, h, x, *, key=None):
        noise = 0.0 if key is None else jax.random.normal(key, h.shape, h.dtype)
        h = jnp.tanh(h * jnp.broadcast_to(params["rate"], h.shape) + x + noise)
        return h, h


MODELS = {
    "leaky": lambda: zoo.leaky("float64", noise=0.3),
    "leaky-callable": lambda: zoo.leaky("float64", noise=0.3, activation=zoo.softsign),
    "user": lambda: Noisy(I),
}


@pytest.mark.parametrize("name", zoo.few(list(MODELS), ["leaky", "user"]))
def test_step_t_has_its_own_key(name):
    """``fold_in(key, t)``, t the place in the inputs, in either direction; without a key there is no noise."""
    model = MODELS[name]()
    params, xs = random_params(model), inputs(model)
    state, ys = model.initial_state((B,)), []
    for t in reversed(range(T)):
        state, y = model.step(params, state, xs[t], key=jax.random.fold_in(KEY, t))
        ys.append(y)
    final, got = rnn.unroll(model, params, xs, reverse=True, key=KEY)
    assert_close((final, got), (state, jnp.stack(ys[::-1])))
    assert (np.asarray(got) != np.asarray(rnn.unroll(model, params, xs, reverse=True)[1])).any()


def test_the_noise_of_a_leaky_network():
    """``√(2/α) σ ξ`` within f: with α 1, f the identity and weights of 0 it is the output."""
    cell = rnn.LeakyRNN(I, H, alpha=1.0, noise=0.3, activation=lambda a: a, dtype="float64")
    params = jax.tree.map(jnp.zeros_like, cell.init(KEY))
    ys = rnn.unroll(cell, params, jnp.zeros((500, I)), key=KEY)[1]
    expected = [jax.random.normal(jax.random.fold_in(KEY, t), (H,), "float64") for t in range(3)]
    assert_close(ys[:3], 2**0.5 * 0.3 * jnp.stack(expected))
    assert abs(float(ys.std()) - 2**0.5 * 0.3) < 4 * 0.3 / (2 * ys.size) ** 0.5 * 2**0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_gradients(name):
    """By the rule, linearized, rematerialised and of a vmapped ensemble, as by autodiff of the scan."""
    model = MODELS[name]()
    at = random_params(model), inputs(model)

    def gradient(key=KEY, **options):
        def loss(at):
            kwargs = {"lengths": LENGTHS, "resets": RESETS, "key": key}
            return weighted(rnn.unroll(model, *at, **kwargs, **options))

        return jax.grad(loss)(at)

    def all_of(key):
        forms = [{}, {"remat": 2}, {"derivative": "linearized"}, {"derivative": "autodiff"}]
        return [gradient(key, **options) for options in forms]

    *got, expected = jax.jit(all_of)(KEY)
    for g in got:
        assert_close(g, expected)
    if name == "user":
        both = jax.vmap(gradient)(jax.random.split(KEY))
        assert_close(jax.tree.map(lambda g: g[1], both), gradient(jax.random.split(KEY)[1]))


@pytest.mark.slow
def test_layers_pass_the_key():
    """A stack, a residual connection and both directions; raw keys too."""
    cell = Noisy(I)
    xs = inputs(cell)
    for model in (rnn.Stack(cell, rnn.Linear(I, 2, dtype="float64")), rnn.Bidirectional(cell), rnn.Residual(cell)):
        params = random_params(model)
        got = rnn.unroll(model, params, xs, key=KEY)[1]
        assert (np.asarray(got) != np.asarray(rnn.unroll(model, params, xs)[1])).all()
        assert_identical(rnn.unroll(model, params, xs, key=jax.random.key_data(KEY))[1], got)


@pytest.mark.slow
def test_analysis():
    """Flow with the key; fixed points and RTRL without noise."""
    cell = MODELS["leaky"]()
    params, xs = random_params(cell), inputs(cell)
    flow = rnn.gradients.gradient_flow(cell, params, xs, lambda final, ys: ys.sum(), key=KEY)
    assert flow.shape == (T, B)
    assert (flow > 0).any()
    assert float(rnn.gradients.truncation_error(cell, params, xs, lambda f, ys: ys.sum(), every=T, key=KEY)) == 0
    small = jax.tree.map(lambda p: 0.3 * p, params)
    found = rnn.gradients.fixed_points(cell, small, xs[0, 0], rnn.trajectory(cell, small, xs)[:, 0])
    assert len(found.points) == 1
    assert found.stable.all()
    h = jnp.asarray(found.points[0])
    assert_close(h, cell.step(small, h, xs[0, 0])[0], 1e-4)
