"""The extra arguments that optax' optimizers get, and the dtypes in which they work."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib
from runs import KEY, Noise, same_bits, small_loss, small_params, small_state
from zoo import few

from jaxrnn import learning
from jaxrnn.learning.update import rescale
from jaxrnn.precision import widen

PLATEAU = optax.chain(optax.adam(0.1), contrib.reduce_on_plateau(patience=1, factor=0.5, cooldown=1))
NORMALIZED = optax.chain(contrib.normalize(), optax.sgd(0.1))
BACKTRACKING = optax.scale_by_backtracking_linesearch(5)
OPTIMIZERS = {  # and the extra arguments that a user-written loop passes
    "plateau": (PLATEAU, ("value",)),
    "polyak": (optax.polyak_sgd(), ("value",)),
    "lbfgs": (optax.lbfgs(memory_size=2), ("value", "grad", "value_fn")),
    "hutchinson": (optax.chain(contrib.hutchinson_estimator_diag_hessian(), optax.sgd(0.1)), ("obj_fn",)),
    "opaque sam": (contrib.sam(optax.sgd(0.1), NORMALIZED, opaque_mode=True), ("grad_fn",)),
    "sam in a chain": (optax.chain(optax.clip(0.1), contrib.sam(optax.sgd(0.1), NORMALIZED)), ()),
    "accumulated": (optax.MultiSteps(optax.polyak_sgd(), 2), ("value",)),
    "schedule-free": (contrib.schedule_free_sgd(0.1), ()),
}
MORE = {
    "momo": (contrib.momo(0.5), ("value",)),
    "momo adam": (contrib.momo_adam(0.1), ("value",)),
    "backtracking": (
        optax.chain(optax.clip_by_global_norm(0.1), optax.lbfgs(memory_size=2, linesearch=BACKTRACKING)),
        ("value", "grad", "value_fn"),
    ),
    "sophia": (contrib.sophia(0.1, update_interval=2), ("obj_fn",)),
    "injected": (optax.inject_hyperparams(optax.polyak_sgd)(max_learning_rate=0.5), ("value",)),
    "partition": (optax.partition({0: optax.polyak_sgd(), 1: optax.sgd(0.1)}, {"w": 0, "w_hh": 1}), ("value",)),
}


def by_hand(optimizer, names, params, carry, opt_state, batch, key):
    """One step as in the documentation of optax."""

    def value_fn(p):
        return small_loss(p, carry, batch, key)[0]

    (value, (after, _)), grad = jax.value_and_grad(small_loss, has_aux=True)(params, carry, batch, key)
    args = {
        "value": value,
        "grad": grad,
        "value_fn": value_fn,
        "obj_fn": value_fn,
        "grad_fn": lambda p, i: jax.grad(value_fn)(p),
    }
    updates, opt_state = optimizer.update(grad, opt_state, params, **{name: args[name] for name in names})
    return optax.apply_updates(params, updates), after, opt_state


@pytest.mark.parametrize("name", few([*OPTIMIZERS, *MORE], ["plateau", "accumulated", "schedule-free"]))
def test_an_optimizer_gets_its_extra_arguments(name):
    """Four steps of fit, two per compiled call, equal four by hand: parameters and optimizer state."""
    optimizer, names = (OPTIMIZERS | MORE)[name]
    start = small_state(optimizer)
    step = learning.train_step(small_loss, optimizer)
    end = learning.fit(step, start, Noise(), steps=4, key=KEY, steps_per_execution=2, verbose=False).state
    state, one = (start.params, start.carry, start.opt_state), jax.jit(by_hand, static_argnums=(0, 1))
    with jax.numpy_dtype_promotion("standard"):
        for n in range(4):
            state = one(optimizer, names, *state, Noise()[n], jax.random.fold_in(KEY, n))
    assert jax.tree.structure((end.params, end.carry, end.opt_state)) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves((end.params, end.carry, end.opt_state)), jax.tree.leaves(state), strict=True):
        if jnp.issubdtype(a.dtype, jnp.floating):  # two programs: their rounding may differ
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        else:
            assert same_bits(a, b)
    assert int(end.skipped) == 0
    assert not same_bits(end.params, start.params)


def test_reduce_on_plateau_ignores_skipped_batches():
    """Neither the learning rate nor its counters change: NaN is not a plateau."""
    step = jax.jit(learning.train_step(small_loss, PLATEAU))
    state, _ = step(small_state(PLATEAU), Noise()[0], KEY)
    before = state
    for _ in range(5):
        state, metrics = step(state, np.full((2, 3), np.nan, "float32"), KEY)
        assert not metrics["finite"]
    assert same_bits(state.opt_state, before.opt_state)
    plateau = state.opt_state[1]
    assert (int(plateau.plateau_count), float(plateau.scale)) == (0, 1.0)


def test_reduce_on_plateau_halves_the_rate():
    """If the loss does not decrease: after a patience of 2 the updates are half as large."""
    optimizer = optax.chain(optax.sgd(1.0), contrib.reduce_on_plateau(patience=2, factor=0.5))
    state = learning.train_state(jnp.zeros(1), optimizer)
    step = learning.train_step(lambda p, c, b, k: (jnp.sum(p * b) - jnp.sum(p * b) + 3.0, (c, {})), optimizer)
    state, _ = learning.scan_steps(step)(state, np.ones((6, 1), "float32"), KEY)
    assert float(state.opt_state[1].scale) == 0.25


def test_lookahead_trains_the_fast_parameters():
    """The loss gets the fast ones; the slow ones follow every second step; both equal those by hand."""
    optimizer = optax.lookahead(optax.sgd(0.1), 2, 0.5)
    params = optax.LookaheadParams.init_synced(small_params())
    state = learning.train_state(params, optimizer, jnp.zeros((2, 3)))
    end = learning.fit(
        learning.train_step(small_loss, optimizer), state, Noise(), steps=3, key=KEY, verbose=False
    ).state
    carry, opt_state = state.carry, state.opt_state
    for n in range(3):
        grad, (carry, _) = jax.grad(small_loss, has_aux=True)(
            params.fast, carry, Noise()[n], jax.random.fold_in(KEY, n)
        )
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(grad, opt_state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), end.params, params)
    assert np.abs(end.params.fast["w"] - end.params.slow["w"]).max() > 1e-4


@pytest.mark.parametrize(
    ("optimizer", "kind", "words"),
    [
        (contrib.differentially_private_aggregate(1.0, 0.1, key=KEY), ValueError,
         r"optimizer: updates: expected shape \[3, 3\], got .*dpsgd"),
        (optax.lookahead(optax.sgd(0.1), 2, 0.5), TypeError, r"optimizer: .* got 'dict' .*LookaheadParams.init_synced"),
        (optax.GradientTransformationExtraArgs(lambda p: (), lambda g, s, p, *, curvature, **_: (g, s)), TypeError,
         r"optimizer: expected .* no further arguments but value, grad, value_fn, obj_fn, grad_fn, got .*'curvature'"),
        (0.1, TypeError, r"optimizer: expected a transformation of optax, got float 0.1; optax.adam\(1e-3\), for "),
    ],
)  # fmt: skip
def test_unsupported_optimizers_are_refused(optimizer, kind, words):
    """The message names what is not supported."""
    with pytest.raises(kind, match=words):
        learning.train_step(small_loss, optimizer)(small_state(optimizer), Noise()[0], KEY)


def test_the_state_of_another_optimizer_is_refused():
    """At the first step."""
    for one, other in ((optax.adam(0.1), optax.sgd(0.1)), (optax.sgd(0.1), optax.adam(0.1))):
        words = r"^state.opt_state: expected that of the optimizer of the step: .*, got .*; train_state\("
        with pytest.raises(ValueError, match=words):
            learning.train_step(small_loss, one)(small_state(other), Noise()[0], KEY)


# ---- 16-bit dtypes -------------------------------------------------------------------------------------------------


def linear_loss(scale):
    """A loss whose gradient is ``scale`` times the batch."""
    return lambda params, carry, batch, key: (jnp.sum(params * batch) * jnp.asarray(scale, params.dtype), (carry, {}))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("entry", [300.0, 6e4])
def test_a_large_norm_in_16_bits(dtype, entry):
    """Above 65504 in float16: the batch is not skipped, its norm is right, clipping gives a vector of length 1."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))
    params, batch = jnp.zeros(400, dtype), np.full(400, entry, dtype)
    state, metrics = learning.train_step(linear_loss(1), optimizer)(learning.train_state(params, optimizer), batch, KEY)
    assert metrics["finite"]
    np.testing.assert_allclose(metrics["grad_norm"], float(batch[0]) * 20, rtol=1e-5)
    assert state.params.dtype == dtype
    np.testing.assert_allclose(np.asarray(state.params, "float32"), -1 / 20, rtol=4e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_adam_in_16_bits(dtype):
    """Gradients whose square is 0 or infinite in 16 bits: steps have the learning rate; the state is float32."""
    optimizer = optax.adam(0.125)
    state = learning.train_state(jnp.zeros(2, dtype), optimizer)
    step = learning.scan_steps(learning.train_step(linear_loss(1), optimizer))
    state, _ = step(state, np.asarray([[1e-4, 3e4]] * 2, dtype), KEY)
    np.testing.assert_allclose(np.asarray(state.params, "float32"), [-0.25, -0.25], rtol=1e-2)
    assert {leaf.dtype for leaf in jax.tree.leaves((state.opt_state[0].mu, state.opt_state[0].nu))} == {
        np.dtype("float32")
    }
    assert state.params.dtype == dtype


def test_a_16_bit_optimizer_state_keeps_its_dtype():
    """If the user initialized it in 16 bits."""
    optimizer, params = optax.adam(0.1), jnp.zeros(2, "bfloat16")
    state = learning.train_state(params, optimizer)._replace(opt_state=optimizer.init(params))
    after, _ = learning.scan_steps(learning.train_step(linear_loss(1), optimizer))(
        state, np.ones((2, 2), "bfloat16"), KEY
    )
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)


@pytest.mark.parametrize("size", [1e25, 3e38])
def test_a_finite_gradient_whose_square_overflows(size):
    """The batch is not skipped; the clipped gradient keeps its direction; Adam's moments stay finite."""
    clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))
    batch = np.asarray([0.6, -0.8], "float32") * np.float32(size)
    state, metrics = learning.train_step(linear_loss(1), clipped)(
        learning.train_state(jnp.zeros(2), clipped), batch, KEY
    )
    assert metrics["finite"]
    np.testing.assert_allclose(metrics["grad_norm"], size, rtol=1e-5)
    np.testing.assert_allclose(state.params, [-0.6, 0.8], rtol=1e-5)
    adam = optax.adam(0.1, b2=0.5)
    batches = np.stack([batch, *np.ones((200, 2), "float32")])
    state, _ = learning.scan_steps(learning.train_step(linear_loss(1), adam))(
        learning.train_state(jnp.zeros(2), adam), batches, KEY
    )
    assert np.isfinite(jax.tree.leaves(state.opt_state)[2]).all()
    np.testing.assert_allclose(state.opt_state[0].nu, 1, rtol=1e-3)


def test_rescale(x64):
    """An ordinary gradient keeps every bit; tiny ones have a norm; NaN and infinity are not finite."""
    for grads, norm in (
        ({"a": jnp.asarray([3.0, 4.0], "float32"), "b": jnp.zeros((0, 2), "float32")}, 5.0),
        (jnp.asarray([3e-30, -4e-30], "float32"), 5e-30),
        (jnp.asarray([3e100, 4e100]), 5e100),
        (jnp.zeros(3, "float32"), 0.0),
        ((jnp.asarray([3.0], "float32"), jnp.asarray([4.0])), 5.0),
        ((), 0.0),
    ):
        with jax.numpy_dtype_promotion("standard"):
            after, size, finite = rescale(grads)
        assert same_bits(after, grads)
        np.testing.assert_allclose(size, norm, rtol=1e-6)
        assert finite.all()
        assert len(finite) == len(jax.tree.leaves(grads))
    for bad in (np.nan, np.inf, -np.inf):
        assert rescale((jnp.ones(2), jnp.asarray([1.0, bad]), jnp.ones(2)))[2].tolist() == [True, False, True]
    assert widen((1.0, 2)) == (1.0, 2)
    assert widen({"a": jnp.ones(1, "int8"), "b": jnp.ones(1, "float16"), "k": KEY})["b"].dtype == "float32"


def test_schedule_free_eval_params():
    """They are computed from the final state, and differ from the trained parameters."""
    optimizer = contrib.schedule_free_sgd(0.1)
    end = learning.fit(learning.train_step(small_loss, optimizer), small_state(optimizer), Noise(), steps=4, key=KEY,
                       verbose=False).state  # fmt: skip
    use = contrib.schedule_free_eval_params(end.opt_state, end.params)
    assert jax.tree.structure(use) == jax.tree.structure(end.params)
    assert np.abs(use["w"] - end.params["w"]).max() > 1e-4
