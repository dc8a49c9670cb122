"""Rematerialisation: the same values and gradients from less memory."""

import jax
import plain_loop
import pytest
import zoo
from contract import RESETS, arguments, assert_close, make, weighted
from zoo import T, few, inputs, random_state

import jaxrnn as rnn

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("remat", [True, 1, 2, T, T + 1])
def test_remat_in_chunks_of_any_size(remat, reverse):
    """Chunks that divide T, leave a remainder, or are longer than the sequence: the values are the same."""
    model, params = make("lstm-peephole-ifo")
    xs, kwargs = inputs(model), {**arguments(model, "everything"), "reverse": reverse}
    final, ys = rnn.unroll(model, params, xs, remat=remat, **kwargs)
    assert_close((final, ys), plain_loop.unroll(model, params, xs, **kwargs)[:2])


@pytest.mark.parametrize("name", ["embedding", "bidirectional-of-stack", "user-in-stack"])
def test_remat_changes_no_value(name):
    """Final state, outputs and trajectory of composed models."""
    model, params = make(name)
    xs, kwargs = inputs(model), {"resets": RESETS}
    final, ys = rnn.unroll(model, params, xs, remat=2, **kwargs)
    states = rnn.trajectory(model, params, xs, remat=2, **kwargs)
    assert_close((final, ys, states), plain_loop.unroll(model, params, xs, **kwargs))


@pytest.mark.parametrize("remat", [True, 2])
def test_remat_of_an_empty_batch(remat):
    """An empty batch raises no error."""
    model, params = make("lstm")
    xs = inputs(model)[:, :0]
    assert rnn.unroll(model, params, xs, remat=remat)[1].shape == (T, 0, zoo.H)


@pytest.mark.parametrize("name", few(["lstm-peephole-ifo", "bidirectional-both"], ["bidirectional-both"]))
def test_remat_changes_no_gradient(name):
    """The gradient is exact, with lengths, resets and direction."""
    model, params = make(name)
    kwargs = arguments(model, "everything")

    def loss(params, xs, remat):
        return weighted(rnn.unroll(model, params, xs, remat=remat, **kwargs))

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)
    assert_close(gradient(params, inputs(model), 2), gradient(params, inputs(model), False))


def test_remat_stores_less():
    """With remat the residuals are one state per chunk, for √T chunks; without it several per step."""

    def residuals(steps, remat):
        model, params = make("lstm")
        xs = inputs(model, steps=steps)
        _, pull = jax.vjp(lambda p: rnn.unroll(model, p, xs, remat=remat)[0], params)
        return zoo.count(pull) - xs.size

    state = zoo.count(random_state(make("lstm")[0]))
    assert residuals(256, True) - residuals(16, True) == (16 - 4) * state
    assert residuals(256, False) - residuals(16, False) > (256 - 16) * state
