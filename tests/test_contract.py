"""Properties of all models, alone and in any combination.

Values are compared in float64 with :mod:`plain_loop`. Tests ``op by op`` do not compile a model, which is fast enough
to test every model in every case; tests of compiled models add what depends on compilation.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import plain_loop
import pytest
import zoo
from contract import (
    ALL,
    CASES,
    KINDS,
    LENGTHS,
    MASK,
    RESETS,
    SLOPE,
    arguments,
    assert_close,
    assert_identical,
    floats,
    make,
    slope,
    weighted,
)
from jax.test_util import check_grads
from zoo import STEPPING, ZOO, B, T, few, inputs, random_params, random_state, reads_ids

import jaxrnn as rnn
from jaxrnn.scan import where

pytestmark = pytest.mark.usefixtures("x64")


# with other equations
OTHERS = ["lstm-coupled", "lstm-options", "lstm-peephole-previous", "gru", "bidirectional-product"]
OTHERS += ["learned-state", "zoneout", "mgu", "lru"]


def fast(names, slow=lambda name: name not in KINDS):
    """The models of a test: one of each kind, the others are run only by ``pytest -m slow``."""
    return [pytest.param(name, marks=[pytest.mark.slow] * slow(name)) for name in names]


# ---- shapes and dtypes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("name", fast(ALL))
def test_shapes_and_dtypes(name, dtype):
    """Parameters, outputs and states have the model's dtype; states have the shapes of the equations."""
    model = ZOO[name].build(dtype)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} <= {dtype}

    zeros = jax.tree.leaves(plain_loop.initial(model))
    state_shapes = [np.shape(zero) for zero in zeros]
    state_dtypes = [{bool: "bool", int: "int32"}.get(type(zero), dtype) for zero in zeros]
    first = jax.eval_shape(lambda: model.initial_state((B,)))
    xs = inputs(model, dtype=dtype)
    final, ys = jax.eval_shape(functools.partial(rnn.unroll, model), params, xs)
    states = jax.eval_shape(functools.partial(rnn.trajectory, model), params, xs)
    for tree, axes in [(first, (B,)), (final, (B,)), (states, (T, B))]:
        assert [leaf.shape for leaf in jax.tree.leaves(tree)] == [(*axes, *shape) for shape in state_shapes]
        assert [leaf.dtype.name for leaf in jax.tree.leaves(tree)] == state_dtypes
        assert jax.tree.structure(tree) == jax.tree.structure(first)
    grid = xs.shape[2:-1] if name.startswith("conv") and "flatten" not in name else ()
    grid = getattr(model, "grid", grid)  # the spatial axes of an output
    assert [y.shape for y in jax.tree.leaves(ys)] == [(T, B, *grid, width) for width in zoo.widths(ZOO[name])]
    assert {y.dtype.name for y in jax.tree.leaves(ys)} == {dtype}


@pytest.mark.parametrize(
    "name", few(KINDS, ["lstm-peephole-ifo", "gru-after", "embedding", "bidirectional-of-stack", "user"])
)
def test_values_in_bfloat16(name):
    """Values in bfloat16 are those in float64, to its precision."""
    dtype, tolerance = "bfloat16", 5e-2
    model, params = make(name, dtype)
    xs = inputs(model, dtype=dtype)
    final, ys = rnn.unroll(model, params, xs, lengths=LENGTHS)
    assert {leaf.dtype.name for leaf in (*floats(ys), *floats(final))} == {dtype}
    assert_close((final, ys), plain_loop.unroll(model, params, xs, lengths=LENGTHS)[:2], tolerance)


# ---- values --------------------------------------------------------------------------------------------------------


def cases_of(name):
    """Every kind is tested with no arguments and with all of them; a few models are tested with each of them."""
    if name in ("lstm-peephole-ifo", "stack-mixed", "bidirectional-of-stack", "user"):
        return CASES
    return ["plain", "forwards", "everything"] if name in KINDS else ["plain"] * (name not in zoo.VARIANTS)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, marks=[pytest.mark.slow] * (case not in cases_of(name)))
        for name in ALL
        for case in CASES
    ],
)
def test_equals_plain_loop_op_by_op(name, case):
    """Final state, outputs and all states are those of the plain loop, in every case."""
    model, params = make(name)
    xs, kwargs = inputs(model), arguments(model, case)
    with jax.disable_jit():
        final, ys = rnn.unroll(model, params, xs, **kwargs)
        states = rnn.trajectory(model, params, xs, **kwargs)
    if "lengths" in kwargs:  # states in the padding are tested elsewhere
        states = where(jnp.asarray(MASK), states)
    assert_close((final, ys, states), plain_loop.unroll(model, params, xs, **kwargs))


@pytest.mark.parametrize("name", KINDS)
def test_equals_plain_loop_compiled(name):
    """Compiled, values are the same; ``test_gradients_and_padding`` compiles the fullest case of every model."""
    model, params = make(name)
    xs = inputs(model)
    assert_close(rnn.unroll(model, params, xs), plain_loop.unroll(model, params, xs)[:2])


@pytest.mark.parametrize(
    ("name", "batch"),
    few([(name, batch) for name in KINDS for batch in ((), (2, 2))], [(name, (2, 2)) for name in KINDS]),
)
def test_any_batch_axes(name, batch):
    """No batch axis, or several."""
    model, params = make(name)
    rng = np.random.default_rng(7)
    xs, state = inputs(model, batch=batch), random_state(model, batch)
    lengths = np.asarray(rng.integers(0, T + 1, batch))
    mask = np.arange(T).reshape(T, *[1] * len(batch)) < lengths
    kwargs = {"state": state, "lengths": lengths, "resets": (rng.random((T, *batch)) < 0.4) & mask}
    got = rnn.unroll(model, params, xs, **kwargs)
    assert_close(got, plain_loop.unroll(model, params, xs, **kwargs)[:2])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", fast(ALL))
def test_a_single_step(name, reverse):
    """T = 1."""
    model, params = make(name)
    kwargs = {"state": random_state(model), "lengths": np.array([1, 0, 1]), "resets": RESETS[:1], "reverse": reverse}
    xs = inputs(model, steps=1)
    with jax.disable_jit():
        plain, full = rnn.unroll(model, params, xs), rnn.unroll(model, params, xs, **kwargs)
    assert_close(plain, plain_loop.unroll(model, params, xs)[:2])
    assert_close(full, plain_loop.unroll(model, params, xs, **kwargs)[:2])


@pytest.mark.parametrize("name", KINDS)
def test_no_step(name):
    """T = 0: no outputs; the final state is the argument or the initial state."""
    model, params = make(name)
    state, xs = random_state(model), inputs(model, steps=0)
    final, ys = rnn.unroll(model, params, xs, state, resets=RESETS[:0], lengths=LENGTHS * 0)
    fresh, _ = rnn.unroll(model, params, xs)
    assert_identical(final, state)
    assert_identical(fresh, model.initial_state((B,)))
    assert [y.shape for y in jax.tree.leaves(ys)] == [(0, B, width) for width in zoo.widths(ZOO[name])]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", fast(ALL))
def test_lengths_of_zero(name, reverse):
    """Only padding: the state is unchanged, the outputs are 0."""
    model, params = make(name)
    state, xs = random_state(model), inputs(model)
    with jax.disable_jit():
        final, ys = rnn.unroll(model, params, xs, state, lengths=LENGTHS * 0, reverse=reverse)
        fresh, _ = rnn.unroll(model, params, xs, lengths=LENGTHS * 0, reverse=reverse)
    assert_identical(final, state)
    assert_identical(fresh, model.initial_state((B,)))
    assert all((np.asarray(y) == 0).all() for y in jax.tree.leaves(ys))


# ---- states --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", fast(STEPPING))
def test_trajectory_ends_in_the_final_state(name, reverse):
    """The last entry of the scan is the final state; forwards, the state is constant in the padding."""
    model, params = make(name)
    xs, kwargs = inputs(model), {"state": random_state(model), "lengths": LENGTHS, "reverse": reverse}
    with jax.disable_jit():
        final, _ = rnn.unroll(model, params, xs, **kwargs)
        states = rnn.trajectory(model, params, xs, **kwargs)
    assert_identical(jax.tree.map(lambda s: s[0 if reverse else -1], states), final)
    stopped = 2  # LENGTHS[1]
    if not reverse:
        assert_identical(
            jax.tree.map(lambda s: s[stopped:, 1], states), jax.tree.map(lambda s: s[stopped - 1 : -1, 1], states)
        )


@pytest.mark.parametrize("name", ["lstm-peephole-ifo", "stack-mixed", "bidirectional-of-stack"])
def test_trajectory_compiled(name):
    """Compiled, the states are the same."""
    model, params = make(name)
    xs, kwargs = inputs(model), {"state": random_state(model), "resets": RESETS}
    assert_close(rnn.trajectory(model, params, xs, **kwargs), plain_loop.unroll(model, params, xs, **kwargs)[2])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", fast(STEPPING))
def test_chunks_equal_one_unroll(name, reverse):
    """A long sequence may be processed in chunks, each from the final state of the one before."""
    model, params = make(name)
    xs, cut = inputs(model), 2
    with jax.disable_jit():
        whole = rnn.unroll(model, params, xs, reverse=reverse)
        chunks = [xs[:cut], xs[cut:]]
        state, ys = None, []
        for chunk in reversed(chunks) if reverse else chunks:
            state, chunk_ys = rnn.unroll(model, params, chunk, state, reverse=reverse)
            ys.append(chunk_ys)
    assert_close((state, jnp.concatenate(ys[::-1] if reverse else ys)), whole)


@pytest.mark.parametrize("name", fast(STEPPING))
def test_steps_equal_unroll(name):
    """Single steps, as in decoding, give the results of ``unroll``."""
    model, params = make(name)
    xs, state, ys = inputs(model), random_state(model), []
    expected = plain_loop.unroll(model, params, xs, state)[:2]
    for x in xs:
        state, y = model.step(params, state, x)
        ys.append(y)
    assert_close((state, jnp.stack(ys)), expected)
    assert jax.tree.structure(state) == jax.tree.structure(model.initial_state((B,)))


@pytest.mark.parametrize("name", [name for name in KINDS if name in STEPPING])
def test_parameters_may_be_numpy(name):
    """NumPy parameters are accepted by ``step`` and ``unroll``."""
    model, params = make(name)
    plain, xs, state = jax.tree.map(np.asarray, params), inputs(model), random_state(model)
    assert_close(rnn.unroll(model, plain, xs), rnn.unroll(model, params, xs))
    assert_close(model.step(plain, state, xs[0]), model.step(params, state, xs[0]))


# ---- transformations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_model_is_an_argument_of_jit(name):
    """``jax.jit(rnn.unroll)`` takes library models as arguments; a user's class must be static."""
    model, params = make(name)
    xs, lengths = inputs(model), jnp.asarray(LENGTHS)
    jitted = jax.jit(rnn.unroll, static_argnums=0 if name == "user" else ())
    expected = plain_loop.unroll(model, params, xs, lengths=lengths)[:2]
    assert_close(jitted(model, params, xs, lengths=lengths), expected)


@pytest.mark.parametrize("name", [name for name in ALL if name != "user"])
def test_library_models_are_empty_trees(name):
    """A model is a pytree without leaves, and is restored from it."""
    model, _ = make(name)
    leaves, structure = jax.tree.flatten(model)
    assert leaves == []
    assert jax.tree.unflatten(structure, leaves) == model


@pytest.mark.parametrize(
    "name", ["lstm-peephole-ifo", "gru-after", "embedding", "bidirectional-both", "tied", "user-in-stack"]
)
def test_ensemble_by_vmap(name):
    """``vmap`` over parameters gives the result of each member."""
    model = ZOO[name].build("float64")
    members = [random_params(model, seed) for seed in (0, 10)]
    xs, kwargs = inputs(model), arguments(model, "everything")
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    final, ys = jax.jit(jax.vmap(lambda params: rnn.unroll(model, params, xs, **kwargs)))(stacked)
    for index, params in enumerate(members):
        one = jax.tree.map(lambda leaf, at=index: leaf[at], (final, ys))
        assert_close(one, plain_loop.unroll(model, params, xs, **kwargs)[:2])


@pytest.mark.parametrize(
    "name",
    few(["vanilla-tanh", "lstm-peephole-ifo", "gru-after", "stack-embedding", "user"], ["lstm-peephole-ifo", "user"]),
)
def test_check_grads(name):
    """Forward and reverse derivatives agree with each other and with finite differences."""
    model, params = make(name)
    xs = inputs(model)
    unroll = jax.jit(lambda p, x: floats(rnn.unroll(model, p, x)))
    if reads_ids(model):
        check_grads(lambda p: unroll(p, xs), (params,), order=1, modes=("fwd", "rev"))
    else:
        check_grads(unroll, (params, xs), order=1, modes=("fwd", "rev"))


@pytest.mark.parametrize(
    "name",
    few(["bidirectional-of-stack", "residual-concat", "tied", "user-in-stack"], ["bidirectional-of-stack", "tied"]),
)
def test_forward_mode(name):
    """``jvp`` agrees with finite differences of the plain loop, with lengths, resets and reverse."""
    model, params = make(name)
    xs, kwargs, direction = inputs(model), arguments(model, "everything"), random_params(model, seed=6)

    def loss(params):
        return weighted(rnn.unroll(model, params, xs, **kwargs))

    def slow_loss(params):
        return weighted(plain_loop.unroll(model, params, xs, **kwargs)[:2])

    value, along = jax.jit(lambda params, direction: jax.jvp(loss, (params,), (direction,)))(params, direction)
    assert_close((value, along), (slow_loss(params), slope(slow_loss, params, direction)), SLOPE)


@pytest.mark.parametrize("name", fast(ALL, slow=lambda name: name not in [*KINDS, *OTHERS]))
def test_gradients_and_padding(name):
    """The gradient is that of the plain loop; padding, even NaN, changes no value and no gradient.

    With lengths, resets, a state and reverse.
    """
    model, params = make(name)
    ids, xs, kwargs = reads_ids(model), inputs(model), arguments(model, "everything")
    reverse = kwargs.pop("reverse")

    def loss(params, xs, kwargs):
        final, ys = rnn.unroll(model, params, xs, reverse=reverse, **kwargs)
        return weighted((final, ys)), (final, ys)

    run = jax.jit(jax.value_and_grad(loss, argnums=0 if ids else (0, 1), has_aux=True))
    padding = ~MASK.reshape(T, B, *[1] * (xs.ndim - 2))
    dirty = jnp.where(padding, (xs + 1) % zoo.V if ids else jnp.nan, xs)
    (value, (final, ys)), gradients = run(params, xs, kwargs)
    assert_identical(run(params, dirty, kwargs), ((value, (final, ys)), gradients))
    assert_close((final, ys), plain_loop.unroll(model, params, xs, reverse=reverse, **kwargs)[:2])
    for y in jax.tree.leaves(ys):
        assert (np.asarray(y)[~MASK] == 0).all()
    if not ids:
        assert (np.asarray(gradients[1])[~MASK] == 0).all()

    def slow_loss(point):
        final, ys, _ = plain_loop.unroll(model, *((point, xs) if ids else point), reverse=reverse, **kwargs)
        return weighted((final, ys))

    point = params if ids else (params, xs)
    for seed in (3, 4):
        direction = zoo.filled(point, seed)
        dot = sum((a * b).sum() for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(direction), strict=True))
        assert abs(slope(slow_loss, point, direction) - dot) < SLOPE


@pytest.mark.parametrize("name", fast(ALL))
def test_resets_in_the_padding_change_nothing(name):
    """Resets past the end of a sequence are ignored."""
    model, params = make(name)
    xs, state = inputs(model), random_state(model)
    with jax.disable_jit():
        for reverse in (False, True):
            kwargs = {"lengths": LENGTHS, "reverse": reverse}
            got = rnn.unroll(model, params, xs, state, resets=~MASK, **kwargs)
            assert_identical(got, rnn.unroll(model, params, xs, state, resets=MASK & ~MASK, **kwargs))


# ---- causality -----------------------------------------------------------------------------------------------------


def influence(model, params, xs, steps, **kwargs):
    """Which inputs the outputs at ``steps`` depend on: ``[T]`` bools."""

    def chosen(xs):
        return weighted(jax.tree.map(lambda y: y[steps], rnn.unroll(model, params, xs, **kwargs)[1]))

    with jax.disable_jit():
        if not reads_ids(model):
            return np.asarray(jax.grad(chosen)(xs)).reshape(T, -1).any(axis=1)
        other = (xs + 1) % zoo.V
        here = np.arange(T)[:, None]
        return np.array([chosen(jnp.where(here == t, other, xs)) != chosen(xs) for t in range(T)])


@pytest.mark.parametrize("name", fast(ALL))
def test_outputs_see_what_they_should(name):
    """Outputs depend on no future input, of a bidirectional model on all inputs, of a pointwise layer on one input."""
    model, params = make(name)
    xs, t = inputs(model), 2
    here = np.arange(T)
    sees = {"now": here == t, "past": here <= t, "future": here >= t, "all": here >= 0}[ZOO[name].sees]
    np.testing.assert_array_equal(influence(model, params, xs, t), sees)


@pytest.mark.parametrize("name", [name for name in KINDS if ZOO[name].sees == "past"])
def test_reversed_outputs_see_the_future_only(name):
    """In reverse, outputs depend on no past input."""
    model, params = make(name)
    t = 2
    np.testing.assert_array_equal(influence(model, params, inputs(model), t, reverse=True), np.arange(T) >= t)


@pytest.mark.parametrize("name", KINDS)
def test_nothing_crosses_a_reset(name):
    """With a reset at t, steps before t and steps from t on are independent, in both directions."""
    model, params = make(name)
    xs, t = inputs(model), 3
    resets = np.broadcast_to(np.arange(T)[:, None] == t, (T, B))
    after = influence(model, params, xs, slice(t, None), resets=resets)
    np.testing.assert_array_equal(after, np.arange(T) >= t)
    if ZOO[name].sees in ("future", "all"):
        before = influence(model, params, xs, slice(t), resets=resets)
        np.testing.assert_array_equal(before, np.arange(T) < t)
