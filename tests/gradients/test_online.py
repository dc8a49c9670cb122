"""Real-time recurrent learning against backpropagation through time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from one_width import FAMILIES, B, N, T, assert_close, case
from zoo import few

import jaxrnn as rnn
from jaxrnn.gradients import initial_influence, online_step, rtrl


def squared(y, target):
    return jnp.sum((y - target) ** 2)


@pytest.mark.parametrize("name", few([*FAMILIES, "tied", "user"], ["every LSTM", "tied"]))
def test_rtrl_is_bptt(name, x64):
    """Loss, gradient and final state are equal, for every cell and option, in stacks and with an embedding."""
    model, params, xs = case(name)
    state, targets = zoo.random_state(model), jnp.ones((T, B, N))

    def loss(params):
        final, ys = rnn.unroll(model, params, xs, state)
        return squared(ys, targets), final

    @jax.jit
    def both(params):
        bptt = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return rtrl(model, params, xs, targets, squared, state), bptt

    got, ((value, final), gradient) = both(params)
    assert jax.tree.structure(got) == jax.tree.structure((final, (value, gradient)))
    assert_close(got, (final, (value, gradient)))


def test_rtrl_without_batch(x64):
    """One sequence, from the initial state."""
    cell, params, xs = case("vanilla")
    xs = xs[:, 0]
    targets = jnp.ones((T, N))
    value, gradient = jax.jit(jax.value_and_grad(lambda p: squared(rnn.unroll(cell, p, xs)[1], targets)))(params)
    assert_close(rtrl(cell, params, xs, targets, squared)[1], (value, gradient))


def test_each_step_has_the_gradient_of_its_own_loss(x64):
    """Step t returns dℓ_t/dθ, the gradient through all earlier steps included."""
    cell, params, xs = case("GRU")
    targets = jnp.ones((T, B, N))
    influence = initial_influence(params, cell.initial_state((B,)))
    step = jax.jit(lambda influence, x, target: online_step(cell, params, influence, x, target, squared))
    expected = jax.jit(jax.jacrev(lambda p: jnp.sum((rnn.unroll(cell, p, xs)[1] - targets) ** 2, (1, 2))))(
        params
    )  # leaves [T, ...]
    for t in range(T):
        influence, (_, gradient) = step(influence, xs[t], targets[t])
        assert_close(gradient, jax.tree.map(lambda g, t=t: g[t], expected))


def test_influence_is_the_derivative_of_the_state(x64):
    """ds_T/dθ, ``[S, P]``, against reverse mode; a counter is carried without a derivative."""
    _, _, xs = case("GRU")
    cell, targets = zoo.Average(N, "float64"), jnp.ones((T, B, N))
    params = zoo.random_params(cell)
    influence = initial_influence(params, cell.initial_state((B,)))
    step = jax.jit(lambda influence, x, target: online_step(cell, params, influence, x, target, squared)[0])
    for x, target in zip(xs, targets, strict=True):
        influence = step(influence, x, target)
    expected = jax.jit(jax.jacrev(lambda p: rnn.unroll(cell, p, xs)[0]["mean"]))(params)["rate"]
    np.testing.assert_allclose(influence.derivative, expected.reshape(B * N, N), atol=1e-10)
    assert influence.state["steps"].tolist() == [T] * B


def test_online_learning():
    """With an update at every step, a model learns to output the previous input."""
    model = rnn.Stack(rnn.VanillaRNN(1, 8), rnn.Linear(8, 1))
    xs = jnp.asarray(np.random.default_rng(0).choice([-1.0, 1.0], size=(1500, 1)), jnp.float32)
    targets = jnp.concatenate([jnp.zeros((1, 1)), xs[:-1]])
    params = model.init(jax.random.key(0))

    def learn(carry, step):
        params, influence = carry
        influence, (value, gradient) = online_step(model, params, influence, *step, squared)
        return (jax.tree.map(lambda p, g: p - 0.01 * g, params, gradient), influence), value

    start = params, initial_influence(params, model.initial_state())
    _, values = jax.jit(lambda start: jax.lax.scan(learn, start, (xs, targets)))(start)
    assert values[:50].mean() > 10 * values[-50:].mean()


def test_memory_does_not_grow_with_the_steps():
    """Four times the steps, the same memory; that of backpropagation grows."""
    cell = rnn.GRU(N, N)
    params = zoo.random_params(cell)

    def by_rtrl(params, xs, targets):
        return rtrl(cell, params, xs, targets, squared)[1][1]

    def by_bptt(params, xs, targets):
        return jax.jit(jax.grad(lambda params: squared(rnn.unroll(cell, params, xs)[1], targets)))(params)

    def memory(gradient, steps):
        lowered = jax.jit(gradient).lower(params, jnp.ones((steps, N)), jnp.ones((steps, N)))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert memory(by_rtrl, 400) == memory(by_rtrl, 100)
    assert memory(by_bptt, 400) > 3 * memory(by_bptt, 100)


def test_refusals():
    """Every message names the argument."""
    cell = rnn.GRU(N, N)
    params, xs, targets = zoo.random_params(cell), jnp.ones((T, N)), jnp.ones((T, N))
    with pytest.raises(TypeError, match="model: expected a cell or layer, got the class GRU"):
        rtrl(rnn.GRU, params, xs, targets, squared)
    with pytest.raises(TypeError, match="params: expected GRUParams"):
        rtrl(cell, params[:2], xs, targets, squared)
    with pytest.raises(ValueError, match=r"xs: expected last axis 4"):
        rtrl(cell, params, xs[:, :2], targets, squared)
    with pytest.raises(ValueError, match=r"state: expected shape \[4\]"):
        rtrl(cell, params, xs, targets, squared, jnp.zeros(7))
    with pytest.raises(ValueError, match="targets: expected a first axis of 5, the steps of xs, got"):
        rtrl(cell, params, xs, targets[:3], squared)
    with pytest.raises(TypeError, match=r"loss: expected a function loss\(y, target\) -> number, got None"):
        rtrl(cell, params, xs, targets, None)
    with pytest.raises(ValueError, match=r"loss: expected one number from it, got float32\[4\]; jnp.sum or jnp.mean"):
        rtrl(cell, params, xs, targets, jnp.subtract)
    final, (value, gradient) = rtrl(cell, params, xs[:0], targets[:0], squared)
    assert not value
    assert not any(g.any() for g in jax.tree.leaves((final, gradient)))
    influence = initial_influence(params, cell.initial_state())
    for error, words, arguments in [
        (TypeError, "model: expected a cell or layer, got the class GRU", (rnn.GRU, params, influence)),
        (TypeError, "params: expected GRUParams", (cell, params[:2], influence)),
        (TypeError, "influence: expected an Influence, got float32.*initial_infl", (cell, params, influence.state)),
        (ValueError, r"influence.derivative: expected shape \[4, 108\]", (cell, params, influence._replace(
            derivative=influence.derivative[:, 1:]))),
    ]:  # fmt: skip
        with pytest.raises(error, match=words):
            online_step(*arguments, xs[0], targets[0], squared)
