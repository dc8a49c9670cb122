"""Landscapes of a loss that is known everywhere; norms of the random directions."""

import jax
import jax.numpy as jnp
import numpy as np
from refusals import refuses

import jaxrnn as rnn
from jaxrnn.gradients import loss_landscape, random_direction

PARAMS = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "b": jnp.array([5.0, 6.0]), "n": jnp.array(7)}


def loss(params):
    """A bowl, of which the two directions have different steepness."""
    return (params["w"] ** 2).sum() + params["b"][0] ** 2


def direction(**values):
    return {name: jnp.asarray(values.get(name, jnp.zeros_like(a)), a.dtype) for name, a in PARAMS.items()}


def test_values():
    """The loss at every step, in the order of the two directions."""
    along_w, along_b = direction(w=jnp.eye(2)), direction(b=jnp.array([1, 0]))
    steps = np.array([-2.0, -1, 0, 1, 2])
    of_w = (1 + steps) ** 2 + 4 + 9 + (4 + steps) ** 2
    curve = loss_landscape(loss, PARAMS, along_w, radius=2, points=5)
    np.testing.assert_allclose(curve.steps, steps)
    np.testing.assert_allclose(curve.losses, of_w + 25, rtol=1e-6)
    plane = loss_landscape(loss, PARAMS, along_w, along_b, radius=2, points=5)
    np.testing.assert_allclose(plane.losses, of_w[:, None] + (5 + steps) ** 2, rtol=1e-6)


def test_between_two_networks():
    """Along their difference step 0 is the one and step 1 the other."""
    model = rnn.Stack(rnn.GRU(2, 3), rnn.Linear(3, 1))
    a, b = (model.init(jax.random.key(n)) for n in range(2))
    value = jax.jit(lambda params: (rnn.unroll(model, params, jnp.ones((4, 2)))[1] ** 2).sum())
    found = loss_landscape(value, a, jax.tree.map(jnp.subtract, b, a), points=3)
    np.testing.assert_allclose(found.losses[1:], [value(a), value(b)], rtol=1e-5)


def test_random_direction():
    """Each filter has the norm of that of the parameters; vectors and integers stay."""
    drawn = random_direction(jax.random.key(0), PARAMS)
    np.testing.assert_allclose(np.linalg.norm(drawn["w"], axis=0), np.linalg.norm(PARAMS["w"], axis=0), rtol=1e-6)
    assert not drawn["b"].any()
    assert drawn["n"] == 0
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 4), "bfloat16")  # of a convolution
    drawn = random_direction(jax.random.key(0), kernel)
    assert drawn.dtype == kernel.dtype
    norms = [np.linalg.norm(np.asarray(w, float).reshape(6, 4), axis=0) for w in (drawn, kernel)]
    np.testing.assert_allclose(*norms, rtol=0.02)
    other = random_direction(jax.random.key(1), PARAMS)["w"]
    assert not np.allclose(other, random_direction(jax.random.key(0), PARAMS)["w"])


def test_a_filter_of_zeros():
    """It stays 0, and nothing is NaN."""
    assert not random_direction(jax.random.key(0), jnp.zeros((3, 2))).any()


def test_refusals():
    """The message names the argument."""
    for message, call in [
        ("TypeError loss: expected a function loss(params) -> number, got int 3",
         lambda: loss_landscape(3, PARAMS, direction())),
        ("ValueError directions: expected one or two, got 0; random_direction(key, params) draws one",
         lambda: loss_landscape(loss, PARAMS)),
        ("ValueError radius: expected a number above 0, got -1",
         lambda: loss_landscape(loss, PARAMS, direction(), radius=-1)),
        ("ValueError directions[1]…: expected shape [2, 2], got float32[2]…",
         lambda: loss_landscape(lambda p: p[0].sum(), (jnp.ones((2, 2)),), (jnp.ones((2, 2)),), (jnp.ones(2),))),
        ("ValueError loss: expected one number from it, got float32[2, 2]…",
         lambda: loss_landscape(lambda p: p["w"], PARAMS, direction())),
    ]:  # fmt: skip
        refuses(message, call)
