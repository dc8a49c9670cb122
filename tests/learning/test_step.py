"""One optimizer step against optax by hand; batches that are not finite; scanned steps; mean_loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import KEY, Noise, bits, same_bits, small_loss, small_params, small_state

import jaxrnn as rnn
from jaxrnn import learning

OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "clipped adam": optax.chain(optax.clip_by_global_norm(0.05), optax.adam(0.1)),
    "elementwise": optax.chain(optax.clip(0.01), optax.sgd(0.1, momentum=0.9)),
    "schedule": optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, 6)),
    "accumulation": optax.MultiSteps(optax.adam(0.1), 2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_is_optax_by_hand(name):
    """Gradient, update, apply, bit for bit; carry and metrics of the loss are returned."""
    optimizer = OPTIMIZERS[name]
    step = learning.train_step(small_loss, optimizer)
    state = small_state(optimizer)
    params, opt_state, carry = small_params(), optimizer.init(small_params()), jnp.zeros((2, 3))
    for n in range(4):
        batch, key = Noise()[n], jax.random.fold_in(KEY, n)
        (value, (carry_after, reported)), grads = jax.value_and_grad(small_loss, has_aux=True)(
            params, carry, batch, key
        )
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(grads, opt_state, params)
        params, carry = optax.apply_updates(params, updates), carry_after
        state, metrics = step(state, batch, key)
        assert same_bits(state[:3], (params, opt_state, carry))
        assert state[3:] == (n + 1, 0, 0)
        assert sorted(metrics) == ["finite", "grad_norm", "loss", "nonfinite_leaf", "size"]
        assert same_bits((metrics["loss"], metrics["size"]), (value, reported["size"]))
        assert metrics["finite"]
        norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in grads.values()))
        np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-6)  # before clipping


@pytest.mark.parametrize("part", [0.01, 0.9999, 1.0001, 100.0])
def test_global_norm_clipping(part, x64):
    """If ‖g‖ > c then g ← c g / ‖g‖, else g is unchanged; the reported norm is that before clipping."""
    params = {"a": jnp.array([3.0, -4.0]), "b": jnp.array([[12.0]])}  # equal to their gradient, of norm 13

    def loss(params, carry, batch, key):
        return sum(jnp.sum(p**2) for p in params.values()) / 2, (carry, {})

    optimizer = optax.chain(optax.clip_by_global_norm(13 * part), optax.sgd(1.0))
    state, metrics = learning.train_step(loss, optimizer)(learning.train_state(params, optimizer), (), KEY)
    for name, g in params.items():
        np.testing.assert_allclose(state.params[name], g - (13 * part * g / 13 if part < 1 else g), atol=1e-13)
    np.testing.assert_allclose(metrics["grad_norm"], 13, rtol=1e-14)


def test_elementwise_clipping(x64):
    """Each entry is clipped separately, by optax."""
    params = {"a": jnp.array([3.0, -4.0, 0.5])}
    optimizer = optax.chain(optax.clip(1.0), optax.sgd(1.0))
    step = learning.train_step(lambda p, c, b, k: (jnp.sum(p["a"] ** 2) / 2, (c, {})), optimizer)
    state, _ = step(learning.train_state(params, optimizer), (), KEY)
    np.testing.assert_array_equal(state.params["a"], [2.0, -3.0, 0.0])


# ---- the averaged form of the recurrent gradient -------------------------------------------------------------------

MODELS = {  # and the number of their w_hh
    "cell": (rnn.GRU(3, 3, reset_after=True), 1),
    "nested stacks": (rnn.Stack(rnn.LSTM(3, 3), rnn.Stack(rnn.GRU(3, 3), rnn.Stack(rnn.VanillaRNN(3, 3)))), 3),
    "bidirectional": (rnn.Bidirectional(rnn.Stack(rnn.LSTM(3, 2, peepholes="ifo"), rnn.GRU(2, 2))), 4),
    "wrapped": (rnn.Tied(rnn.Embedding(5, 3), rnn.Residual(rnn.LSTM(3, 3))), 1),
    "none": (rnn.Linear(3, 3), 0),
}


@pytest.mark.parametrize("name", MODELS)
def test_average_divides_exactly_the_recurrent_weights(name):
    """Every w_hh by n - 1, bit for bit; other parameters, such as b_hh and peepholes, are unchanged."""
    model, count = MODELS[name]
    average = learning.average_recurrent_gradient(7)
    shapes = jax.eval_shape(model.init, KEY)
    gradient = jax.tree.map(lambda s: jax.random.normal(KEY, s.shape), shapes)
    averaged, _ = average.update(gradient, average.init(gradient))
    assert jax.tree.structure(averaged) == jax.tree.structure(gradient)
    before, after = bits(gradient), bits(averaged)
    recurrent = [place for place in before if place.endswith(".w_hh")]
    assert len(recurrent) == count
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        place = jax.tree_util.keystr(path)
        assert after[place] == (bits(leaf / 6)[""] if place in recurrent else before[place])


def test_average_finds_w_hh_in_a_dict():
    """A user-defined cell may have its parameters in a dict."""
    average = learning.average_recurrent_gradient(3)
    update = {"cell": {"w_hh": jnp.ones(2), "w_xh": jnp.ones(2)}}
    averaged, _ = average.update(update, average.init(update))
    np.testing.assert_array_equal(averaged["cell"]["w_hh"], [0.5, 0.5])
    np.testing.assert_array_equal(averaged["cell"]["w_xh"], [1, 1])


@pytest.mark.slow
def test_the_gradient_is_the_sum_over_the_copies_of_w_hh(x64):
    """With a copy of w_hh for each step: the sum of their gradients, of which n - 1 are not 0."""
    cell = rnn.VanillaRNN(2, 3, w_hh_init="glorot_uniform", dtype="float64")
    params, n = cell.init(KEY), 5
    xs = jax.random.normal(KEY, (n, 4, 2))

    def with_copies(copies):
        h = cell.initial_state((4,))
        for w_hh, x in zip(copies, xs):
            h, y = cell.step(params._replace(w_hh=w_hh), h, x)
        return jnp.sum(y**2)

    def loss(params, carry, batch, key):
        return jnp.sum(rnn.unroll(cell, params, batch)[1][-1] ** 2), (carry, {})

    each = jax.grad(with_copies)(jnp.stack([params.w_hh] * n))
    assert not each[0].any()  # the first step has no state before it
    assert all(np.abs(each[1:]).max((1, 2)) > 1e-4)
    for chain, expected in (
        (optax.identity(), each.sum(0)),
        (learning.average_recurrent_gradient(n), each[1:].mean(0)),
    ):
        optimizer = optax.chain(chain, optax.sgd(1.0))
        state, _ = learning.train_step(loss, optimizer)(learning.train_state(params, optimizer), xs, KEY)
        np.testing.assert_allclose(params.w_hh - state.params.w_hh, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("steps", "kind"), [(1, ValueError), (0, ValueError), (2.0, TypeError)])
def test_average_needs_two_steps(steps, kind):
    """The message names the argument."""
    with pytest.raises(kind, match=r"^steps: expected "):
        learning.average_recurrent_gradient(steps)


# ---- batches that are not finite -----------------------------------------------------------------------------------


def nonfinite_loss(where):
    """A loss that is not finite for a batch of NaN: its value, its gradient, or both."""

    def loss(params, carry, batch, key):
        value, (carry, metrics) = small_loss(params, carry, jnp.nan_to_num(batch), key)
        bad = jnp.isnan(batch).any()
        if where == "value":
            value = value + jnp.where(bad, jnp.inf, 0.0)
        elif where == "gradient":
            value = value + jnp.sqrt(jnp.where(bad, 0.0, 1.0) * params["w"][0, 0] ** 2)  # 0, of infinite slope
        else:
            value, carry = jnp.where(bad, jnp.nan, 1.0) * value, jnp.where(bad, jnp.nan, carry)
        return value, (carry, metrics)

    return loss


@pytest.mark.parametrize(
    ("name", "where"),
    [*((name, "both") for name in OPTIMIZERS), ("clipped adam", "value"), ("clipped adam", "gradient")],
)
def test_a_nonfinite_batch_is_skipped_and_counted(name, where):
    """Parameters, optimizer state and carry keep their bits; the next finite batch resets skipped_in_a_row."""
    optimizer = OPTIMIZERS[name]
    step = jax.jit(learning.train_step(nonfinite_loss(where), optimizer))
    state, _ = step(small_state(optimizer), Noise()[0], KEY)
    before, counts = state, []
    for batch in (np.full((2, 3), np.nan, "float32"),) * 3:
        state, metrics = step(state, batch, KEY)
        assert not metrics["finite"]
        assert same_bits(state[:3], before[:3])
        counts.append([int(n) for n in state[3:]])
    assert counts == [[2, 1, 1], [3, 2, 2], [4, 3, 3]]  # step, skipped, skipped_in_a_row
    state, metrics = step(state, Noise()[1], KEY)
    assert metrics["finite"]
    undisturbed, _ = step(before, Noise()[1], KEY)
    assert same_bits(state[:3], undisturbed[:3])
    assert not same_bits(state.carry, before.carry)
    assert [int(n) for n in state[3:]] == [5, 3, 0]


def test_a_schedule_does_not_count_skipped_batches():
    """The learning rate is that of the number of updates."""
    optimizer = optax.sgd(lambda count: jnp.where(count == 0, 1.0, 0.01))
    step = learning.train_step(lambda p, c, b, k: (jnp.sum(p * b), (c, {})), optimizer)
    state = learning.train_state(jnp.ones(1), optimizer)
    seen = []
    for x in (np.nan, 1.0, np.nan, 1.0):
        state, _ = step(state, np.full(1, x, "float32"), KEY)
        seen.append(float(state.params[0]))
    np.testing.assert_allclose(seen, [1, 0, 0, -0.01], atol=1e-7)


# ---- scanned steps, accumulation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [(), (1, 2)])
def test_scan_steps_equals_single_steps(bad):
    """Bit for bit, with the key folded with the step and stacked metrics; also with batches that are not finite."""
    optimizer = OPTIMIZERS["clipped adam"]
    one = learning.train_step(small_loss, optimizer)
    single, together = jax.jit(one), jax.jit(learning.scan_steps(one))
    state, each = small_state(optimizer), []
    for n in range(5):
        state, metrics = single(state, Noise(bad)[n], jax.random.fold_in(KEY, n))
        each.append(metrics)
    at_once, metrics = together(small_state(optimizer), np.stack([Noise(bad)[n] for n in range(5)]), KEY)
    assert same_bits(at_once, state)
    assert same_bits(metrics, jax.tree.map(lambda *m: jnp.stack(m), *each))
    assert int(state.skipped) == len(bad)


def test_accumulation_is_one_step_with_the_mean_gradient():
    """optax.MultiSteps: three batches change no parameter, the fourth makes an update with the mean gradient."""
    optimizer = optax.MultiSteps(optax.sgd(1.0), 4)
    params = jnp.array([1.0, -2.0])
    batches = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
    step = learning.scan_steps(learning.train_step(lambda p, c, b, k: (jnp.sum(p**2 * b), (c, {})), optimizer))
    state = learning.train_state(params, optimizer)
    expected = np.asarray(params)
    for n in range(2):
        before = state
        state, _ = step(state, batches[4 * n : 4 * n + 3], KEY)
        assert same_bits(state.params, before.params)
        state, _ = step(state, batches[4 * n + 3 :][:1], KEY)
        expected = expected - 2 * expected * batches[4 * n : 4 * n + 4].mean(0)
        np.testing.assert_allclose(state.params, expected, rtol=1e-5)


def test_mean_loss_carries_the_state(x64):
    """The mean over batches, each from the state of the one before, with key None."""
    params = jax.tree.map(lambda p: p.astype("float64"), small_params())
    batches = np.random.default_rng(0).normal(size=(4, 2, 3))
    carry, values = jnp.zeros((2, 3)), []
    for batch in batches:
        value, (carry, _) = small_loss(params, carry, batch, None)
        values.append(float(value))
    final, mean = learning.mean_loss(small_loss, params, jnp.zeros((2, 3)), batches)
    np.testing.assert_allclose(mean, np.mean(values), rtol=1e-12)
    np.testing.assert_allclose(final, carry, rtol=1e-12)


def test_mean_loss_weighs_by_the_count(x64):
    """Of batches with unequal counts it is the mean over all steps; a batch with count 0 is ignored, even if NaN."""
    values = np.random.default_rng(0).normal(size=(4, 7))
    mask = np.arange(7) < np.array([7, 1, 0, 3])[:, None]

    def loss(params, carry, batch, key):
        value, counts = batch
        count = counts.sum()
        return jnp.where(counts, value, 0).sum() / count.astype(value.dtype), (carry + 1, {"count": count})

    steps, mean = learning.mean_loss(loss, None, jnp.array(0), (values, mask))
    np.testing.assert_allclose(mean, values[mask].mean(), rtol=1e-12)
    assert steps == 4
    assert learning.mean_loss(loss, None, 0, (values[:2], mask[2:3].repeat(2, 0)))[1] == 0


def test_mean_loss_in_bfloat16_is_summed_in_float32():
    """1000 batches: one loss is 2, the others are 1."""
    values = jnp.ones(1000, "bfloat16").at[0].set(2)
    assert learning.mean_loss(lambda p, c, b, k: (b, (c, {})), None, (), values)[1] == np.float32(1.001)


def test_a_state_may_be_donated():
    """It shares no array with the caller's parameters, and has no array twice."""
    params, carry = small_params(), jnp.zeros((2, 3))
    optimizer = OPTIMIZERS["clipped adam"]
    state = learning.train_state(params, optimizer, carry)
    step = jax.jit(learning.train_step(small_loss, optimizer), donate_argnums=0)
    for n in range(2):
        state, _ = step(state, Noise()[n], KEY)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((params, carry)))


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [jnp.ones(3), "many"])
def test_a_count_is_one_number(count):
    """The message names it; also if a loss returns something else than (value, (carry, metrics))."""
    with pytest.raises(ValueError, match='"count" reported by the loss: expected one number, that of the steps'):
        learning.mean_loss(lambda p, c, b, k: (b, (c, {"count": count})), None, (), jnp.ones(2))
    with pytest.raises(TypeError, match=r"loss: expected \(value, \(carry, metrics\)\) from it"):
        learning.mean_loss(lambda p, c, b, k: b, None, (), jnp.ones(2))


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            {"finite": 0.0},
            "metrics: expected names other than step, loss, grad_norm, finite, nonfinite_leaf, which the step reports",
        ),
        ({"each": jnp.ones(3)}, r"metric 'each': expected one number, got float32\[3\]; .mean\(\) of it"),
    ],
)
def test_metrics_are_numbers_of_other_names(metrics, message):
    """The loop's own metrics cannot be replaced, and an array is no metric."""
    with pytest.raises((TypeError, ValueError), match=message):
        learning.mean_loss(lambda p, c, b, k: (b, (c, metrics)), None, (), jnp.ones(2))


def test_a_loss_is_one_number():
    with pytest.raises(ValueError, match=r"loss: expected one number from it, got float32\[3\]"):
        learning.mean_loss(lambda p, c, b, k: (b, (c, {})), None, (), jnp.ones((2, 3)))


FIX = "; train_state(params, optimizer, carry=...) takes the first one, () for none"
CARRIES = {
    "forgotten": ((), jnp.zeros(3), TypeError, "carry returned by the loss: expected tuple of 0, got float32[3]"),
    "not returned": (jnp.zeros(3), (), TypeError, "carry returned by the loss: expected float32[3], got tuple of 0"),
    "shape": (
        jnp.zeros((2, 3)), jnp.zeros((3, 3)), ValueError,
        "carry returned by the loss: expected shape [2, 3], got float32[3, 3]"),
    "inner shape": (
        rnn.LSTM(2, 3).initial_state((2,)), rnn.LSTM(2, 3).initial_state((4,)), ValueError,
        "carry returned by the loss.h: expected shape [2, 3], got float32[4, 3]"),
    "one layer less": (
        (jnp.zeros(3), ()), (jnp.zeros(3),), TypeError,
        "carry returned by the loss: expected tuple of 2, got tuple of 1"),
}  # fmt: skip


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("case", CARRIES)
def test_a_carry_of_another_structure_is_refused(case, jit):
    """Exact messages, also under jit."""
    first, returned, kind, words = CARRIES[case]
    step = learning.train_step(lambda p, c, b, k: (jnp.sum(p), (returned, {})), optax.sgd(0.1))
    with pytest.raises(kind) as caught:
        (jax.jit(step) if jit else step)(learning.train_state(jnp.ones(2), optax.sgd(0.1), first), (), KEY)
    assert str(caught.value) == words + FIX
