"""A model as a module of Equinox: its filters, serialisation, switches and training."""

import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refuses
from zoo import STEPPING, ZOO, Average, B, H, I, T, V, few, inputs, random_params, random_state

import jaxrnn as rnn
from jaxrnn.unroll import one_step

eqx = pytest.importorskip("equinox")
Module = rnn.interop.equinox.Module

KEY = jax.random.PRNGKey(0)
LENGTHS = np.array([3, T, 1])
TAGGER = rnn.Stack(rnn.Embedding(V, I), rnn.Bidirectional(rnn.LSTM(I, H)), rnn.Dropout(0.5), rnn.Linear(2 * H, 2))
PARAMS = random_params(TAGGER)


def same(a, b):
    """Whether two trees are equal to the bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(np.array_equal(x, y) for x, y in pairs)


def test_parameters_are_leaves():
    module = Module(TAGGER, PARAMS)
    arrays, rest = eqx.partition(module, eqx.is_inexact_array)
    assert same(jax.tree.leaves(arrays), jax.tree.leaves(PARAMS))
    assert same(eqx.combine(arrays, rest), module)
    assert module.model == TAGGER
    assert isinstance(module.params[1][0], rnn.LSTMParams)
    assert re.search(r"LSTMParams\(\s*w_xh=f32\[3,16\],\s*w_hh=f32\[4,16\],\s*b_h=f32\[16\],", repr(module))

    changed = eqx.tree_at(lambda m: m.params[3].b, module, jnp.ones(2))
    assert same(changed.params[:3], PARAMS[:3])
    assert changed.params[3].b.tolist() == [1, 1]

    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, module)
    file.seek(0)
    assert same(eqx.tree_deserialise_leaves(file, Module(TAGGER, jax.tree.map(np.zeros_like, PARAMS))), module)


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5), a, b)


def test_values_and_gradients():
    """Those of unroll, through Equinox's own transformations, dropout and padding included."""
    ids, lengths, key = inputs(TAGGER), jnp.array(LENGTHS), jax.random.PRNGKey(1)

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def theirs(module):
        final, ys = module(ids, lengths=lengths, key=key)
        return (ys**2).sum(), (final, ys)

    def ours(params):
        final, ys = rnn.unroll(TAGGER, params, ids, lengths=lengths, key=key)
        return (ys**2).sum(), (final, ys)

    values, gradient = theirs(Module(TAGGER, PARAMS))
    close((values, gradient.params), jax.jit(jax.value_and_grad(ours, has_aux=True))(PARAMS))


@pytest.mark.slow
def test_one_sequence_at_a_time():
    """The habit of Equinox: filter_vmap over sequences gives what a batch gives."""
    ids, lengths = inputs(TAGGER), jnp.array(LENGTHS)
    module = eqx.nn.inference_mode(Module(TAGGER, PARAMS))
    one = lambda x, n: module(x, lengths=n)  # noqa: E731
    final, ys = eqx.filter_jit(eqx.filter_vmap(one, in_axes=(1, 0), out_axes=(0, 1)))(ids, lengths)
    close((final, ys), eqx.filter_jit(module)(ids, lengths=lengths, key=KEY))


def test_dropout_follows_inference():
    module = Module(TAGGER, PARAMS)
    refuses("TypeError key: expected a random key, for dropout, got None; eqx.nn.inference_mode(module) switches …",
            lambda: module(inputs(TAGGER)))  # fmt: skip
    assert eqx.nn.inference_mode(module).inference
    assert not eqx.nn.inference_mode(eqx.nn.inference_mode(module), False).inference
    inside = eqx.nn.Sequential([eqx.nn.Dropout(), module])
    assert eqx.nn.inference_mode(inside).layers[1].inference
    nested = rnn.Residual(rnn.Stack(rnn.GRU(I, I), rnn.MixedPrecision(rnn.Dropout(0.1))))
    refuses("TypeError key: …", lambda: Module(nested, random_params(nested))(inputs(nested, dtype="float32")))


class OwnLayer(Average):
    """A layer of a user, which may draw random numbers."""

    def over_time(self, params, state, xs, options, key):
        return rnn.unroll(Average(self.size), params, xs, state)


def test_own_layers_may_have_dropout():
    module, xs = Module(OwnLayer(I), key=KEY), jnp.ones((T, B, I))
    refuses("TypeError key: expected a random key, for dropout, got None; …", lambda: module(xs))
    assert Module(Average(I), key=KEY)(xs)[1].shape == (T, B, I)  # a cell takes no key


@pytest.mark.slow
def test_classifier():
    model = rnn.tasks.Classifier(rnn.GRU(I, H), 2, dropout=0.5)
    module, xs, key = Module(model, key=KEY), jnp.ones((T, B, I)), jax.random.PRNGKey(1)
    lengths = jnp.array(LENGTHS)
    close(module(xs, lengths=lengths, key=key), model.apply(module.params, xs, lengths=lengths, key=key))
    refuses("TypeError key: expected a random key, for dropout, got None; …", lambda: module(xs))
    refuses("ValueError state: expected nothing, got float32[3, 4]; a Classifier takes whole sequences",
            lambda: module(xs, jnp.zeros((B, H)), key=key))  # fmt: skip
    refuses("ValueError reverse: expected nothing, got bool True; …", lambda: module(xs, key=key, reverse=True))
    refuses(
        "TypeError model: expected …, got Classifier without initial_state, step; …", lambda: module.step(xs[0], ())
    )
    refuses("TypeError model: expected …", module.initial_state)


def test_parameters_are_copied():
    params = rnn.layers.LinearParams(jnp.ones((1, 1)), jnp.ones(1))
    module = Module(rnn.Linear(1, 1), params)
    jax.tree.map(lambda x: x.delete(), module.params)  # as donation does
    assert params.w.sum() == 1


def test_refusals():
    refuses("TypeError key: expected a random key that draws params, or params=, and not both, got neither",
            lambda: Module(TAGGER))  # fmt: skip
    refuses("TypeError key: expected …, got both", lambda: Module(TAGGER, PARAMS, key=KEY))
    refuses("TypeError model: expected a cell or layer, got the class GRU; …", lambda: Module(rnn.GRU, key=KEY))
    refuses("TypeError params: expected tuple of 4, got tuple of 3; …", lambda: Module(TAGGER, PARAMS[:3]))
    refuses("TypeError inference: expected True or False, got int 1", lambda: Module(TAGGER, PARAMS, inference=1))


@pytest.mark.parametrize("name", few(list(ZOO), ["user"]))
def test_any_model(name):
    model = ZOO[name].build("float32")
    xs, state, key = inputs(model, dtype="float32"), random_state(model), jax.random.PRNGKey(2)
    module = Module(model, key=KEY)
    assert same(module.params, model.init(KEY))
    lengths = jnp.array(LENGTHS)
    result = eqx.filter_jit(module)(xs, state, lengths=lengths, key=key)
    assert same(result, jax.jit(lambda p: rnn.unroll(model, p, xs, state, lengths=lengths, key=key))(module.params))
    if name in STEPPING:
        assert same(module.step(xs[0], state, key=key), one_step(model, module.params, state, xs[0], key))
    assert same(module.initial_state((B,)), model.initial_state((B,)))


@pytest.mark.slow
def test_it_trains_like_fit():
    """50 steps of Equinox's own training loop end at the loss of learning.fit, dropout and padding included."""
    model, optimizer, key = TAGGER, optax.adam(1e-2), jax.random.PRNGKey(3)
    rng = np.random.default_rng(0)
    batches = [
        {"x": rng.integers(0, V, (T, B)), "y": rng.integers(0, 2, (T, B)), "lengths": rng.integers(1, T + 1, B)}
        for _ in range(50)
    ]

    def cross_entropy(logits, batch):
        return rnn.losses.cross_entropy(logits, batch["y"], lengths=batch["lengths"])

    def loss(params, batch, key):
        return cross_entropy(rnn.unroll(model, params, batch["x"], lengths=batch["lengths"], key=key)[1], batch)

    step = rnn.learning.train_step(loss, optimizer)
    state = rnn.learning.train_state(PARAMS, optimizer)
    end = rnn.learning.fit(step, state, batches, epochs=1, key=key, verbose=False)

    @eqx.filter_jit
    def update(module, opt_state, batch, key):
        @eqx.filter_value_and_grad
        def value_and_grad(module):
            return cross_entropy(module(batch["x"], lengths=batch["lengths"], key=key)[1], batch)

        value, gradient = value_and_grad(module)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            updates, opt_state = optimizer.update(gradient, opt_state, eqx.filter(module, eqx.is_inexact_array))
        return eqx.apply_updates(module, updates), opt_state, value

    module = Module(model, PARAMS)
    opt_state = optimizer.init(eqx.filter(module, eqx.is_inexact_array))
    for n, batch in enumerate(batches):
        batch = jax.tree.map(jnp.asarray, batch)
        module, opt_state, value = update(module, opt_state, batch, jax.random.fold_in(key, n))
    close(value, end.history["loss"][-1])
    close(module.params, end.state.params)
