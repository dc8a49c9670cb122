"""Recipes with optax: what each of them does to the parameters, against a plain loop or a formula."""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import KEY, more, same_bits

import jaxrnn as rnn
from jaxrnn import learning

MODEL = rnn.Stack(rnn.VanillaRNN(2, 3), rnn.Linear(3, 2))
STEPS = 8
XS = np.random.default_rng(0).normal(size=(STEPS, 4, 4, 2)).astype("float32")  # batches [T, B, I]


def loss(params, carry, batch, key):
    """The next input is predicted."""
    _, ys = rnn.unroll(MODEL, params, batch[:-1])
    return jnp.mean((ys - batch[1:]) ** 2), (carry, {})


GRADIENT = jax.jit(jax.grad(lambda params, xs: loss(params, (), xs, None)[0]))


def start(optimizer):
    return learning.train_state(MODEL.init(KEY), optimizer)


def run(optimizer, state=None, batches=XS, loss=loss):
    """The state after all batches, and the metrics of each step."""
    steps = learning.scan_steps(learning.train_step(loss, optimizer))
    return jax.jit(steps)(start(optimizer) if state is None else state, batches, KEY)


def trajectory(optimizer, batches=XS):
    """The parameters before training and after each step, by a plain loop."""
    params = MODEL.init(KEY)
    opt_state, update = optimizer.init(params), jax.jit(optimizer.update)
    result = [params]
    for xs in batches:
        with jax.numpy_dtype_promotion("standard"):  # as train_step has it
            updates, opt_state = update(GRADIENT(params, xs), opt_state, params)
        params = optax.apply_updates(params, updates)
        result.append(params)
    return result


def close(a, b, tolerance=1e-6):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def differ(a, b):
    """Whether all leaves differ."""
    return all(not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_learning_rate_range():
    """The loss grows where the rate of the schedule exceeds the one that the curvature allows, and not before."""
    curvature = 10.0
    rates = optax.exponential_decay(1e-3, transition_steps=40, decay_rate=1e3)  # from 0.001 to 1

    def quadratic(params, carry, batch, key):
        return 0.5 * curvature * params**2, (carry, {})

    optimizer = optax.sgd(rates)
    state = learning.train_state(jnp.float32(1.0), optimizer)
    _, metrics = run(optimizer, state, np.zeros((41, 1)), quadratic)
    rate = np.asarray(rates(np.arange(40)))
    np.testing.assert_allclose(rate[[0, -1]], [1e-3, 1e3 ** (39 / 40) * 1e-3], rtol=1e-5)
    growing = np.diff(metrics["loss"]) > 0
    np.testing.assert_array_equal(growing, rate > 2 / curvature)
    assert growing.any()


@pytest.mark.slow
@pytest.mark.parametrize("inner", [optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.1)), *more(optax.sgd(0.3))])
def test_gradient_accumulation(inner, x64):
    """Four batches give the step of one that holds all their sequences."""
    takes = inspect.signature(optax.MultiSteps.__init__).parameters
    in_double = {"accumulator_dtype": "float64"} if "accumulator_dtype" in takes else {}
    optimizer = optax.MultiSteps(inner, every_k_schedule=4, **in_double)
    batches = jnp.asarray(XS, "float64")
    big = jnp.swapaxes(batches.reshape(2, 4, 4, 4, 2), 1, 2).reshape(2, 4, 16, 2)  # all sequences along the batch axis
    double = jax.tree.map(lambda p: p.astype("float64"), MODEL.init(KEY))
    state, _ = run(optimizer, learning.train_state(double, optimizer), batches)
    expected, _ = run(inner, learning.train_state(double, inner), big)
    close(state.params, expected.params, 1e-12)
    assert differ(state.params, double)


class Average(NamedTuple):
    """The state of :func:`averaging`."""

    count: Any
    average: Any  # of the parameters


def averaging(step_size):
    """The last part of a chain: average ← average + step_size(n) · (parameters after step n - average)."""

    def init(params):
        return Average(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(updates, state, params):
        after = optax.apply_updates(params, updates)
        average = optax.incremental_update(after, state.average, step_size(state.count))
        return updates, Average(state.count + 1, average)

    return optax.GradientTransformation(init, update)


@pytest.mark.slow
def test_averages_of_parameters():
    """An exponential moving average, one that starts as a running mean, and that of the last steps (SWA)."""
    optimizer = optax.adam(0.05)
    path = trajectory(optimizer)
    moving = running = path[0]
    for n, params in enumerate(path[1:]):
        moving = jax.tree.map(lambda a, p: 0.9 * a + 0.1 * p, moving, params)
        rate = max(0.2, 1 / (n + 1))
        running = jax.tree.map(lambda a, p, rate=rate: (1 - rate) * a + rate * p, running, params)
    last = jax.tree.map(lambda *leaves: sum(leaves) / 5, *path[4:])  # after steps 4, ..., 8
    sizes = lambda n: 0.1, lambda n: jnp.maximum(0.2, 1 / (n + 1)), lambda n: 1 / jnp.maximum(n - 3 + 1, 1)
    state, _ = run(optax.chain(optimizer, *map(averaging, sizes)))
    close(state.params, path[-1], 1e-5)
    for part, expected in zip(state.opt_state[1:], (moving, running, last), strict=True):
        close(part.average, expected, 1e-5)
        assert differ(state.params, part.average)


def test_a_skipped_batch_leaves_the_average():
    """One that is not finite counts nowhere."""
    optimizer = optax.chain(optax.sgd(0.1), averaging(lambda n: 0.5))
    batches = XS.copy()
    batches[3] = np.nan
    state, _ = run(optimizer, batches=batches)
    clean, _ = run(optimizer, batches=np.delete(XS, 3, axis=0))
    assert int(state.skipped) == 1
    assert same_bits(state.opt_state, clean.opt_state)
    assert same_bits(optax.tree_utils.tree_get(state.opt_state, "average"), state.opt_state[1].average)


def test_frozen_layers_and_rates_by_layer():
    """The parameters of a stack are a tuple, and so are the labels; a frozen layer keeps its bits."""
    before = MODEL.init(KEY)
    frozen, _ = run(
        optax.partition({"frozen": optax.set_to_zero(), "trained": optax.adam(0.05)}, ("frozen", "trained"))
    )
    assert same_bits(frozen.params[0], before[0])
    assert differ(frozen.params[1], before[1])
    rates = optax.partition({"slow": optax.sgd(0.01), "fast": optax.sgd(0.1)}, ("slow", "fast"))
    both, _ = run(rates, batches=XS[:1])
    slow, fast = (
        jax.tree.map(lambda p, g, rate=rate: p - rate * g, before, GRADIENT(before, XS[0])) for rate in (0.01, 0.1)
    )
    close(both.params, (slow[0], fast[1]))
    assert differ(slow, fast)


def test_labels_by_path():
    """Another rate for the recurrent matrices, wherever they are."""

    def labels(params):
        def label(path, leaf):
            return "recurrent" if getattr(path[-1], "name", None) == "w_hh" else "other"

        return jax.tree_util.tree_map_with_path(label, params)

    optimizer = optax.partition({"recurrent": optax.set_to_zero(), "other": optax.sgd(0.1)}, labels)
    state, _ = run(optimizer)
    before, after = MODEL.init(KEY), state.params
    assert same_bits(after[0].w_hh, before[0].w_hh)
    assert differ((after[0].w_xh, after[0].b_h, after[1]), (before[0].w_xh, before[0].b_h, before[1]))


def test_weight_decay_of_matrices():
    """Where the gradient is 0, matrices shrink by 1 - rate · decay in each step, and biases stay."""

    def nothing(params, carry, batch, key):
        return 0.0 * sum(jnp.sum(p) for p in jax.tree.leaves(params)), (carry, {})

    def matrices(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    optimizer = optax.adamw(0.1, weight_decay=0.5, mask=matrices)
    before = jax.tree.map(lambda p: p + 1.0, MODEL.init(KEY))
    state, _ = run(optimizer, learning.train_state(before, optimizer), loss=nothing)
    for new, old in zip(jax.tree.leaves(state.params), jax.tree.leaves(before), strict=True):
        np.testing.assert_allclose(new, old * ((1 - 0.1 * 0.5) ** STEPS if old.ndim > 1 else 1), rtol=1e-5)


@pytest.mark.slow
def test_gradient_noise():
    """Its variance in step t = 1, 2, ... is η / t^γ."""
    noise = optax.add_noise(0.3, 0.55, 7)
    state = noise.init(jnp.zeros(40_000))
    for t in (1, 2, 3):
        with jax.numpy_dtype_promotion("standard"):
            drawn, state = noise.update(jnp.zeros(40_000), state)
        np.testing.assert_allclose(np.var(drawn), 0.3 / t**0.55, rtol=0.05)
        assert abs(np.mean(drawn)) < 0.02
    state, _ = run(optax.chain(noise, optax.sgd(0.1)))
    assert differ(state.params, trajectory(optax.sgd(0.1))[-1])


def test_warm_restarts():
    """Cosines that start anew after 4 steps, 8 more, 16 more."""
    lengths = [4, 8, 16]
    rates = optax.join_schedules([optax.cosine_decay_schedule(0.1, n) for n in lengths], list(np.cumsum(lengths)[:-1]))
    expected = np.concatenate([0.05 * (1 + np.cos(np.pi * np.arange(n) / n)) for n in lengths])
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose([rates(n) for n in range(28)], expected, atol=1e-7)
    close(run(optax.sgd(rates))[0].params, trajectory(optax.sgd(rates))[-1], 1e-5)


def test_lookahead():
    """Every third step the slow weights go half of the way to the fast ones, which go on from there."""
    optimizer = optax.lookahead(optax.sgd(0.3), sync_period=3, slow_step_size=0.5)
    pair = optax.LookaheadParams.init_synced(jax.tree.map(jnp.copy, MODEL.init(KEY)))
    state, _ = run(optimizer, learning.train_state(pair, optimizer))
    fast = slow = MODEL.init(KEY)
    for n, xs in enumerate(XS, 1):
        fast = jax.tree.map(lambda p, g: p - 0.3 * g, fast, GRADIENT(fast, xs))
        if n % 3 == 0:
            fast = slow = jax.tree.map(lambda s, f: s + 0.5 * (f - s), slow, fast)
    close(state.params.fast, fast, 1e-5)
    close(state.params.slow, slow, 1e-5)
    assert differ(fast, slow)
