"""Against Keras: the same weights give the same values and gradients; a Layer trains as learning.fit does."""

import subprocess
import sys

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from refusals import refuses
from versions import enable_x64
from zoo import Average, few, random_params, random_state

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.activations import Gelu
from jaxrnn.interop import keras as interop
from jaxrnn.interop.keras.tables import FUNCTIONS, OVER_FEATURES

keras = pytest.importorskip("keras")
dtypes = pytest.importorskip("keras.src.backend.common.dtypes")
layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # from get_weights

B, T, V, IN, H = 3, 6, 9, 4, 5
LENGTHS = [6, 2, 4]
MASK = np.arange(T) < np.array(LENGTHS)[:, None]


@pytest.fixture(autouse=True)
def as_keras_expects():
    """Keras relies on promotion; jaxrnn is called within :func:`strict`."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


ORTHOGONAL = keras.initializers.Orthogonal.__call__


@pytest.fixture(autouse=True, scope="module")
def zeros():
    """Initial weights of Keras are 0, as they are overwritten: to draw them takes a compiled program for each shape."""
    draw = lambda self, shape, dtype=None, **_: jnp.asarray(np.zeros(shape, dtype))  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        for name in ("Orthogonal", "VarianceScaling", "RandomUniform", "Zeros", "Ones"):
            patch.setattr(getattr(keras.initializers, name), "__call__", draw)
        yield
    keras.backend.clear_session()


@pytest.fixture
def in_float64():
    """Keras computes in float64 too: on the JAX backend its promotion gives float32, that of tanh for instance."""
    with enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
        yield


def strict(function, *args, **kwargs):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        return function(*args, **kwargs)


def filled(module, seed=0):
    """Random weights in a built module."""
    rng = np.random.default_rng(seed)
    module.set_weights([rng.normal(0, 0.5, w.shape).astype(w.dtype) for w in module.get_weights()])
    return module


def sequential(*parts, ids=False, dtype="float32"):
    keras.config.set_dtype_policy(dtype)
    inputs = keras.Input((None,), dtype="int32") if ids else keras.Input((None, IN), dtype=dtype)
    made = keras.Sequential([inputs, *[part() for part in parts]])
    keras.config.set_dtype_policy("float32")
    return filled(made)


def data(module):
    """Inputs of unequal length, padded as masks of Keras have it: ids by 0, vectors by zeros."""
    rng = np.random.default_rng(1)
    if len(module.inputs[0].shape) == 2:
        return rng.integers(1, V, (B, T)) * MASK
    return (rng.normal(size=(B, T, IN)) * MASK[..., None]).astype(module.inputs[0].dtype)


def differentiate(loss, params, xs, gradients):
    """Outputs, and the gradients of the loss of parameters and of floating inputs, or none."""
    if not gradients:
        return jax.tree.leaves(jax.jit(loss)(params, xs)[1]), []
    argnums = (0, 1) if xs.dtype.kind == "f" else (0,)
    (_, ys), found = jax.jit(jax.value_and_grad(loss, argnums, has_aux=True))(params, xs)
    return jax.tree.leaves(ys), [*found]


def weighted(ys, weights):
    return sum((y * w).sum() for y, w in zip(jax.tree.leaves(ys), weights, strict=True))


def by_keras(module, xs, weights, gradients):
    others = [v.value for v in module.non_trainable_variables]

    def loss(trainable, xs):
        ys, _ = module.stateless_call([*trainable], others, xs)
        return weighted(ys, weights), ys

    ys, found = differentiate(loss, [v.value for v in module.trainable_variables], jnp.array(xs), gradients)
    return ys, [leaf for tree in found for leaf in jax.tree.leaves(tree)]


def by_jaxrnn(module, xs, weights, gradients, masked, pooled=False):
    model, params = interop.from_module(module, lengths=masked)
    lengths = interop.lengths(module, xs) if masked else None
    swap = lambda tree: jax.tree.map(lambda y: y.swapaxes(0, 1), tree)  # noqa: E731

    def loss(params, xs):
        if isinstance(model, rnn.tasks.Classifier):
            ys = model.apply(params, swap(xs), lengths=lengths)
        elif pooled:
            ys = rnn.tasks.pooling.last(model, params, swap(xs), lengths=lengths)
        else:
            ys = swap(rnn.unroll(model, params, swap(xs), lengths=lengths)[1])
        return weighted(ys, weights), ys

    ys, found = strict(differentiate, loss, params, jnp.array(xs), gradients)
    return ys, [*interop.to_module(model, found[0]).get_weights(), *found[1:]] if gradients else []


def check(module, tolerance=1e-5, masked=False, gradients=True, **options):
    """Values and gradients of all weights and inputs are those of Keras, at valid steps."""
    xs, rng = data(module), np.random.default_rng(2)
    shapes = [(B, *[T] * (len(y.shape) == 3), y.shape[-1]) for y in module.outputs]
    keep = [MASK[..., None] if masked and len(shape) == 3 else 1.0 for shape in shapes]
    weights = [(rng.normal(size=s) * k).astype(module.outputs[0].dtype) for s, k in zip(shapes, keep, strict=True)]
    theirs = by_keras(module, xs, weights, gradients)
    ours = by_jaxrnn(module, xs, weights, gradients, masked, **options)
    for a, b, k in zip(theirs[0], ours[0], keep, strict=True):
        np.testing.assert_allclose(a * k, b * k, rtol=0, atol=tolerance)
        assert a.dtype == b.dtype
    assert len(theirs[1]) == len(ours[1])
    for a, b in zip(theirs[1], ours[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def round_trips(model, params, **options):
    """To Keras and back: the same model, and parameters equal to the bit."""
    again, params_again = interop.from_module(interop.to_module(model, params), **options)
    assert again == model
    jax.tree.map(np.testing.assert_array_equal, params_again, params)
    assert [x.dtype for x in jax.tree.leaves(params_again)] == [x.dtype for x in jax.tree.leaves(params)]


# ---- values and gradients ----------------------------------------------------------------------------------------


def rich(dtype="float32"):
    """A functional model with a mask that crosses most features."""
    ids = keras.Input((None,), dtype="int32")
    options = {"return_sequences": True, "dtype": dtype}
    x = layers.Embedding(V, IN, mask_zero=True, dtype=dtype)(ids)
    x = layers.Bidirectional(layers.LSTM(H, **options), merge_mode="ave", dtype=dtype)(x)
    x = layers.Add(dtype=dtype)([layers.GRU(H, **options)(x), x])
    x = layers.Dropout(0.3, dtype=dtype)(x)
    x = layers.Bidirectional(layers.GRU(H, reset_after=False, dtype=dtype), dtype=dtype)(x)
    x = layers.Dense(4, activation="tanh", dtype=dtype)(x)
    return filled(keras.Model(ids, layers.Dense(3, dtype=dtype)(layers.Dropout(0.2, dtype=dtype)(x))))


RICH = rnn.tasks.Classifier(
    rnn.Stack(
        rnn.Embedding(V, IN),
        rnn.Bidirectional(rnn.LSTM(IN, H), merge="mean"),
        rnn.Residual(rnn.GRU(H, H, reset_after=True)),
        rnn.Dropout(0.3),
        rnn.Bidirectional(rnn.GRU(H, H)),
        rnn.Linear(2 * H, 4),
        rnn.Activation("tanh"),
    ),
    3,
    dropout=0.2,
)


def test_rich_model():
    module = rich()
    model, params = interop.from_module(module, lengths=True)
    assert model == RICH
    np.testing.assert_array_equal(interop.lengths(module, data(module)), LENGTHS)
    round_trips(model, params)
    check(module, masked=True, gradients=False)


@pytest.mark.slow
def test_gradients_of_the_rich_model(in_float64):
    check(rich("float64"), 1e-10, masked=True)


@pytest.mark.slow
def test_functional_model_in_a_file(tmp_path):
    rich().save(tmp_path / "rich.keras")
    module = keras.models.load_model(tmp_path / "rich.keras")
    assert interop.from_module(module, lengths=True)[0] == RICH
    check(module, masked=True)


def rnn_layer(*cells, **options):
    return lambda: layers.RNN([cell() for cell in cells], **options)


def lstm(**options):
    return lambda: layers.LSTM(H, **({"return_sequences": True} | options))


def gru(**options):
    return lambda: layers.GRU(H, **({"return_sequences": True} | options))


def simple(**options):
    return lambda: layers.SimpleRNN(H, **({"return_sequences": True} | options))


def both(layer, backward=None, **options):
    return lambda: layers.Bidirectional(layer(), backward_layer=backward and backward(), **options)


def dense(*args, **options):
    return lambda: layers.Dense(*args, **options)


masking = layers.Masking
CELLS = [layers.LSTMCell, layers.SimpleRNNCell, layers.GRUCell]
CELLS = [lambda kind=kind, n=n: kind(n) for kind, n in zip(CELLS, (3, 4, 5), strict=True)]
MODULES = {  # layers, and whether there is a mask
    "lstm": ([masking, lstm(use_bias=False), lstm(unit_forget_bias=False)], True),
    "gru": ([masking, gru(reset_after=False, use_bias=False), gru(use_bias=False), gru(reset_after=False)], True),
    "simple": ([simple(activation="sigmoid"), simple(activation="silu", use_bias=False), simple(activation=None)],
               False),
    "stacked cells": ([masking, rnn_layer(*CELLS, return_sequences=True)], True),
    "both of stacked cells": ([both(rnn_layer(*CELLS, return_sequences=True))], False),
    "sum": ([masking, both(gru(), merge_mode="sum")], True),
    "mul": ([masking, both(simple(), merge_mode="mul")], True),
    "pair": ([masking, both(lstm(), merge_mode=None)], True),
    "unlike directions": ([both(lstm(), gru(go_backwards=True, reset_after=False))], False),
    "time distributed": ([lambda: layers.TimeDistributed(layers.Dense(2, activation="elu")), gru(unroll=False)], False),
    "pointwise": ([dense(3, use_bias=False), layers.ReLU, layers.Softmax, dense(2, activation="softmax")], False),
    "classifier": ([masking, gru(), lstm(return_sequences=False), dense(2)], True),
    "classifier in reverse": ([masking, lstm(), gru(return_sequences=False, go_backwards=True), dense(2)], True),
    "classifier of stacked cells": ([masking, rnn_layer(*CELLS), dense(3, "relu"), dense(2)], True),
    "regression": ([both(simple(return_sequences=False), merge_mode="mul"), dense(1)], False),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_values_and_gradients(name, in_float64):
    parts, masked = MODULES[name]
    module = sequential(*parts, dtype="float64")
    check(module, 1e-10, masked)
    round_trips(*interop.from_module(module, lengths=masked))


recurrent = st.one_of(
    st.builds(lstm, use_bias=st.booleans(), unroll=st.just(False)),
    st.builds(gru, use_bias=st.booleans(), reset_after=st.booleans()),
    st.builds(simple, use_bias=st.booleans(), activation=st.sampled_from(["tanh", "relu", "softplus"])),
)
deep = st.lists(
    st.one_of(
        recurrent,
        st.builds(both, recurrent, merge_mode=st.sampled_from(["concat", "sum", "ave", "mul"])),
        st.builds(dense, st.integers(2, 4), activation=st.sampled_from([None, "tanh", "softmax"])),
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.slow
@given(parts=deep, ids=st.booleans(), masked=st.booleans(), last=st.booleans())
@settings(max_examples=6, deadline=None, derandomize=True)
def test_any_chain(parts, ids, masked, last):
    below = [lambda: layers.Embedding(V, IN, mask_zero=masked)] if ids else [masking] if masked else []
    above = [lstm(return_sequences=False), dense(2)] if last else []
    module = sequential(*below, *parts, *above, ids=ids)
    check(module, masked=masked)
    round_trips(*interop.from_module(module, lengths=masked))


@pytest.mark.slow
def test_activations():
    xs = jnp.linspace(-4, 4, 60).reshape(2, 3, 10)
    for name, function in (FUNCTIONS | OVER_FEATURES).items():
        layer = layers.Activation(name)
        expected = layer(xs)
        if name != "linear":
            model, params = interop.from_module(layer)
            assert model == rnn.Activation(function)
            np.testing.assert_allclose(rnn.unroll(model, params, xs)[1], expected, rtol=1e-6, atol=1e-6)
            np.testing.assert_array_equal(interop.to_module(model, params)(xs), expected)


LAST = {"return_sequences": False}


@pytest.mark.slow
@pytest.mark.parametrize(
    "last", [lstm(**LAST), both(gru(**LAST)), both(lstm(**LAST), merge_mode=None), rnn_layer(*CELLS)]
)
def test_last_output_without_readout(last):
    check(sequential(masking, gru(), last), masked=True, pooled=True)


@pytest.mark.slow
def test_logits():
    for parts in (
        [gru(), dense(3, activation="softmax")],
        [gru(return_sequences=False), dense(1, activation="sigmoid")],
    ):
        module = sequential(*parts)
        model, params = interop.from_module(module, logits=True)
        xs = jnp.array(data(module).swapaxes(0, 1))
        classifier = isinstance(model, rnn.tasks.Classifier)
        logits = model.apply(params, xs) if classifier else rnn.unroll(model, params, xs)[1].swapaxes(0, 1)
        expected = module(data(module))
        np.testing.assert_allclose((jax.nn.sigmoid if classifier else jax.nn.softmax)(logits), expected, atol=1e-6)


# ---- files, states, dtypes ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
def test_files(suffix, tmp_path):
    parts = [lambda: layers.Embedding(V, IN, mask_zero=True), both(lstm()), gru(return_sequences=False), dense(2)]
    path, module = tmp_path / f"model{suffix}", sequential(*parts, ids=True)
    if suffix == ".weights.h5":
        module.save_weights(path)
        loaded = sequential(*parts, ids=True)
        filled(loaded, seed=5).load_weights(path)
    else:
        module.save(path)
        loaded = keras.models.load_model(path)
    (model, params), (expected, weights) = (interop.from_module(m, lengths=True) for m in (loaded, module))
    assert model == expected
    jax.tree.map(np.testing.assert_array_equal, params, weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", [lstm(), gru(), both(lstm()), both(simple()), rnn_layer(*CELLS, return_sequences=True),
             both(rnn_layer(*CELLS, return_sequences=True))]
)  # fmt: skip
def test_states(part):
    layer = part()
    layer.return_state = True
    for name in ("forward_layer", "backward_layer"):
        if hasattr(layer, name):
            getattr(layer, name).return_state = True
    layer.build((None, None, IN))
    filled(layer)
    model, params = interop.from_module(layer)
    xs = np.random.default_rng(1).normal(size=(B, T, IN)).astype("float32")
    state = random_state(model, (B,))
    ys, *states = layer(xs, initial_state=interop.to_state(model, state))
    final, ours = rnn.unroll(model, params, jnp.array(xs.swapaxes(0, 1)), state)
    np.testing.assert_allclose(ours.swapaxes(0, 1), ys, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), interop.from_state(model, states), final)
    again = interop.from_state(model, interop.to_state(model, state))
    jax.tree.map(np.testing.assert_array_equal, again, state)
    assert jax.tree.structure(again) == jax.tree.structure(state)


def test_state_of_a_stack():
    model = rnn.Stack(rnn.Linear(2, IN), rnn.Bidirectional(rnn.LSTM(IN, H)), rnn.GRU(2 * H, H))
    state = random_state(model, (B,))
    lists = interop.to_state(model, state)
    assert [[x.shape for x in part] for part in lists] == [[(B, H)] * 4, [(B, H)]]
    jax.tree.map(np.testing.assert_array_equal, interop.from_state(model, lists), state)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtype_is_kept(dtype, monkeypatch):
    monkeypatch.setattr(keras.initializers.Orthogonal, "__call__", ORTHOGONAL)  # which has no 16 bits
    with enable_x64(dtype == "float64"):
        model = rnn.Stack(rnn.Embedding(V, IN, dtype=dtype), rnn.Dropout(0.1), rnn.LSTM(IN, H, dtype=dtype),
                          rnn.Activation("relu"), rnn.Linear(H, 2, dtype=dtype))  # fmt: skip
        params = random_params(model)
        assert interop.to_module(model, params)(np.ones((B, T), "int32")).dtype == dtype
        round_trips(model, params)


WRITTEN = {
    "cells": rnn.Stack(rnn.LSTM(IN, H, use_bias=False), rnn.GRU(H, 3), rnn.VanillaRNN(3, 2, activation=jax.nn.selu)),
    "one layer": rnn.GRU(IN, H, reset_after=True),
    "stack of one": rnn.Linear(IN, 2, use_bias=False),
    "directions": rnn.Bidirectional(rnn.Stack(rnn.LSTM(IN, 3), rnn.GRU(3, H)), rnn.VanillaRNN(IN, H), "both"),
    "residual": rnn.Residual(rnn.Stack(rnn.Bidirectional(rnn.GRU(IN, 2)), rnn.Activation("softmax"))),
    "concatenated": rnn.Stack(rnn.Residual(rnn.VanillaRNN(IN, 2, activation="relu"), "concat"), rnn.GRU(IN + 2, 2)),
    "dropout": rnn.Dropout(0.5),
    "classifier": rnn.tasks.Classifier(rnn.Stack(rnn.LSTM(IN, H), rnn.Reverse(rnn.GRU(H, 2))), 3),
    "residuals of a classifier": rnn.tasks.Classifier(
        rnn.Stack(
            rnn.Residual(rnn.LSTM(IN, IN)),
            rnn.GRU(IN, H),
            rnn.Residual(rnn.Stack(rnn.Linear(H, 2), rnn.Dropout(0.1)), "concat"),
            rnn.Residual(rnn.Activation(Gelu())),
        ),
        3,
        dropout=0.1,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("model", WRITTEN.values(), ids=WRITTEN)
def test_jaxrnn_to_keras_to_jaxrnn(model):
    params = random_params(model)
    round_trips(model, params)
    xs = np.random.default_rng(1).normal(size=(B, T, IN)).astype("float32")
    ys = interop.to_module(model, params)(xs)
    time_major = jnp.array(xs.swapaxes(0, 1))
    if isinstance(model, rnn.tasks.Classifier):
        ours = model.apply(params, time_major)
    else:
        ours = jax.tree.map(lambda y: y.swapaxes(0, 1), rnn.unroll(model, params, time_major)[1])
    assert jax.tree.map(jnp.shape, tuple(ours)) == jax.tree.map(jnp.shape, tuple(ys))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), tuple(ours), tuple(ys))


def above_the_last_output(layer, output=0):
    """Residual connections around recurrent layers, and around a Dense above the last output."""
    x = keras.Input((None, IN))
    y = layers.Add()([x, layers.GRU(IN, return_sequences=True)(x)])
    y = layer(y)[output] if layer.return_state else layer(y)
    y = layers.Concatenate()([y, layers.Dense(2, activation="gelu")(y)])
    return filled(keras.Model(x, layers.Dense(3)(y)))


@pytest.mark.slow
@pytest.mark.parametrize("output", [0, 1])
@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_h_is_the_last_output(kind, output):
    module = above_the_last_output(kind(H, return_state=True), output)
    check(module, gradients=False)
    round_trips(*interop.from_module(module))


@pytest.mark.slow
@pytest.mark.parametrize("training", [None, False])
def test_dropout_of_a_call_with_training_false_follows_the_model(training):
    """Keras records None as False, and replaces it by the training of the model."""
    part = keras.Sequential([keras.Input((None, IN)), layers.Dropout(0.9)])
    module = graph(lambda x: layers.Dropout(0.9)(part(x, training=training), training=training))
    xs = np.ones((B, T, IN), "float32")
    assert (np.asarray(module(xs, training=True)) == 0).any()
    np.testing.assert_array_equal(module(xs), xs)
    assert interop.from_module(module)[0] == rnn.Stack(rnn.Dropout(0.9), rnn.Dropout(0.9))


@pytest.mark.slow
def test_last_output_of_length_0():
    module = sequential(masking, lstm(return_sequences=False), dense(2), dense(3))
    model, params = interop.from_module(module, lengths=True)
    xs = np.zeros((B, T, IN), "float32")
    ours = model.apply(params, jnp.array(xs.swapaxes(0, 1)), lengths=jnp.zeros(B, "int32"))
    b, w, c = (weights for weights in module.get_weights()[-3:])
    np.testing.assert_allclose(module(xs), np.tile(b @ w + c, (B, 1)), atol=1e-6)
    np.testing.assert_allclose(ours, np.tile(c, (B, 1)), atol=1e-6)


@pytest.mark.slow
def test_options_of_training_are_left_out_for_inference():
    module = sequential(lstm(dropout=0.2, kernel_regularizer="l2"), dense(2, bias_constraint="non_neg"))
    module.trainable = False
    model, _ = interop.from_module(module, inference=True)
    assert model == rnn.Stack(rnn.LSTM(IN, H), rnn.Linear(H, 2))


@pytest.mark.slow
def test_mask_may_follow_pointwise_layers():
    module = sequential(dense(IN, activation="relu"), masking, gru())
    xs = np.ones((2, T, IN), "float32") * np.array([[[1.0]], [[-1.0]]], "float32")
    module.layers[0].set_weights([np.eye(IN, dtype="float32"), np.zeros(IN, "float32")])
    np.testing.assert_array_equal(interop.lengths(module, xs), [T, 0])


# ---- refusals ----------------------------------------------------------------------------------------------------


class OwnLSTM(layers.LSTM):
    """A subclass, whose call may be different."""


class OwnCell:
    """A cell that is no layer."""

    state_size = 2

    def call(self, inputs, states):
        return inputs, states


def built(layer, shape=(None, None, IN)):
    layer.build(shape)
    return layer


def graph(function, shape=(None, IN)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, function(inputs))


def shared():
    layer = layers.GRU(IN, return_sequences=True)
    return graph(lambda x: layer(layer(x)))


def quantized():
    layer = built(layers.Dense(2))
    layer.quantize("int8")
    return layer


def lora():
    layer = built(layers.Dense(2))
    layer.enable_lora(1)
    return layer


def patched(module, part=None):
    """A module of which one part has a call of its own."""
    (part or module).call = lambda x, *_, **__: x
    return module


TRAINING = "it acts in training only, and jaxrnn has no counterpart: from_module(module, inference=True)"
READ = {
    "subclass": (lambda: built(OwnLSTM(H)), "TypeError module: expected one of LSTM, GRU, … got OwnLSTM; keras.Model"),
    "another layer": (lambda: sequential(gru(), layers.LayerNormalization),
                      "TypeError module.layers[1]: expected one of …, got LayerNormalization…"),
    "a path": (lambda: "a.keras", "TypeError module: expected one of …, got str; keras.models.load_model('a.keras') …"),
    "a list": (lambda: [layers.LSTM(2)], "TypeError module: expected …, got list; keras.Sequential([...]) makes a …"),
    "a class": (lambda: layers.LSTM, "TypeError module: expected …, got the class LSTM; make one: LSTM(...)"),
    "no layer": (lambda: 3, "TypeError module: expected one of …, got int; keras.Model(input, output) selects…"),
    "other call": (lambda: patched(built(layers.LSTM(H))),
                   "TypeError module.call: expected the method of LSTM, got another one, set on the instance; write…"),
    "other call of a cell": (lambda: patched(layer := built(layers.RNN(layers.GRUCell(2))), layer.cell),
                             "TypeError module.cell.call: expected the method of GRUCell, got another one, …"),
    "other call of a model": (lambda: patched(sequential(gru())),
                              "TypeError module.call: expected the method of Sequential, got another one, …"),
    "a cell of one's own": (lambda: built(layers.RNN(OwnCell())),
                            "TypeError module.cell: expected one of SimpleRNNCell, …, got OwnCell; write it as a …"),
    "not built": (lambda: layers.LSTM(H), "ValueError module: expected a built layer, got lstm… without weights;…"),
    "not built model": (lambda: keras.Sequential([layers.LSTM(H)]), "ValueError module.layers[0]: expected a built …"),
    "empty": (lambda: sequential(), "TypeError module: expected at least one layer, got a model without layers"),
    "stateful": (lambda: built(layers.GRU(H, stateful=True), (B, None, IN)),
                 "ValueError module.stateful: expected False, got True; pass the state instead…"),
    "recurrent activation": (lambda: built(layers.LSTM(H, recurrent_activation="hard_sigmoid")),
                             "ValueError module.cell.recurrent_activation: expected 'sigmoid', got hard_sigmoid;…"),
    "activation": (lambda: built(layers.GRU(H, activation="relu")),
                   "ValueError module.cell.activation: expected 'tanh', got relu; the cell has no other"),
    "activation of SimpleRNN": (lambda: built(layers.SimpleRNN(H, activation="softmax")),
                                "ValueError module.cell.activation: expected 'tanh' or …, got softmax…"),
    "unknown activation": (lambda: built(layers.Dense(2, activation="leaky_relu")),
                           "ValueError module.activation: expected 'tanh' or …, got leaky_relu; rnn.Activation and …"),
    "function": (lambda: layers.Activation(lambda x: x * 2), "ValueError module.activation: …, got <lambda>…"),
    "dropout": (lambda: built(layers.LSTM(H, dropout=0.1)),
                f"ValueError module.dropout: expected 0, got 0.1; {TRAINING}"),
    "recurrent dropout": (lambda: built(layers.Bidirectional(layers.GRU(H, recurrent_dropout=0.1))),
                          f"ValueError module.forward_layer.recurrent_dropout: expected 0, got 0.1; {TRAINING}"),
    "regularizer": (lambda: built(layers.LSTM(H, kernel_regularizer="l2")),
                    f"ValueError module.kernel_regularizer: expected None, got <…L2…>; {TRAINING}"),
    "constraint": (lambda: built(layers.TimeDistributed(layers.Dense(2, kernel_constraint="non_neg"))),
                   f"ValueError module.layer.kernel_constraint: expected None, got <…>; {TRAINING}"),
    "activity": (lambda: built(layers.GRU(H, activity_regularizer="l1")),
                 f"ValueError module.activity_regularizer: expected None, got <…>; {TRAINING}"),
    "frozen": (lambda: built(layers.GRU(H, trainable=False)),
               f"ValueError module.trainable: expected True, got False; {TRAINING}"),
    "noise shape": (lambda: layers.Dropout(0.1, noise_shape=(None, 1, None)),
                    "ValueError module.noise_shape: expected None, got (None, 1, None)…"),
    "backwards": (lambda: built(layers.LSTM(H, return_sequences=True, go_backwards=True)),
                  "ValueError module.go_backwards: expected False, got True with return_sequences=True; … reversed …"),
    "exchanged": (lambda: built(layers.Bidirectional(layers.LSTM(H, go_backwards=True), backward_layer=layers.LSTM(H))),
                  "ValueError module.forward_layer.go_backwards: expected False, got True; exchange the two layers…"),
    "zero output": (lambda: built(layers.LSTM(H, zero_output_for_mask=True)),
                    "ValueError module.zero_output_for_mask: expected False, got True; …"),
    "mixed": (lambda: built(layers.LSTM(H, dtype="mixed_bfloat16")),
              "ValueError module.dtype_policy: expected one dtype …, got mixed_bfloat16; …rnn.MixedPrecision(model)"),
    "dtypes": (lambda: sequential(gru(), lambda: layers.GRU(2, dtype="float16")),
               "ValueError module.layers[1].dtype: expected float32, that of module.layers[0], got float16…"),
    "quantized": (quantized, "ValueError module.quantization_mode: expected None, got 'int8'; …"),
    "lora": (lora, "ValueError module.lora_enabled: expected False, got True; …"),
    "convolution": (lambda: built(layers.TimeDistributed(layers.LayerNormalization())),
                    "TypeError module.layer: expected one of Dense, …, got LayerNormalization"),
    "relu": (lambda: layers.ReLU(6.0), "ValueError module.max_value: expected None, got 6.0…"),
    "softmax": (lambda: layers.Softmax(axis=1), "ValueError module.axis: expected -1, the features, got 1"),
    "direction": (lambda: built(layers.Bidirectional(layers.LSTM(H), backward_layer=OwnLSTM(H, go_backwards=True))),
                  "TypeError module.backward_layer: expected one of LSTM, …, got OwnLSTM"),
    "mask": (lambda: sequential(masking, gru()),
             "ValueError module.layers[0]: expected no mask, got Masking or mask_zero=True; from_module(module, len…"),
    "softmax classifier": (lambda: sequential(gru(return_sequences=False), dense(2, activation="softmax")),
                           "ValueError module: expected logits, got Activation('softmax') above the last output; …"),
    "readout without bias": (lambda: sequential(gru(return_sequences=False), dense(2, use_bias=False)),
                             "ValueError module: expected a last Dense with use_bias=True, got use_bias=False; …"),
    "shared": (shared, "ValueError module.get_layer('…'): expected a layer of its own, got the layer …once more;…"),
    "two inputs": (lambda: keras.Model([keras.Input((3,)), y := keras.Input((3,))], y),
                   "TypeError module.inputs: expected one chain of layers, …, got 2 tensors; …"),
    "other merges": (lambda: graph(lambda x: layers.Multiply()([x, layers.GRU(IN, return_sequences=True)(x)])),
                     "TypeError module.get_layer('…'): expected one chain of layers, …, got a Multiply of 2 tensors…"),
    "an array": (lambda: graph(lambda x: layers.Add()([x, np.ones((1, T, IN), "float32")])),
                 "TypeError module.get_layer('…'): expected one chain …, got Add of an array, float32[1, 6, 4]; …"),
    "unrelated": (lambda: graph(lambda x: layers.Add()([layers.Dense(2)(x), layers.Dense(2)(x)])),
                  "TypeError …, got tensors of which none is computed from the other; …"),
    "other order": (lambda: graph(lambda x: layers.Concatenate()([layers.Dense(2)(x), x])),
                    "ValueError module.get_layer('…'): expected [x, F(x)], …, got [F(x), x]; exchange the order, …"),
    "other axis": (lambda: graph(lambda x: layers.Concatenate(axis=1)([x, layers.Dense(IN)(x)])),
                   "ValueError module.get_layer('…').axis: expected -1, the features, got 1; …"),
    "an operation": (lambda: graph(lambda x: 2 * layers.GRU(2)(x)), "TypeError …: expected one of …, got Multiply…"),
    "always dropout": (lambda: graph(lambda x: layers.Dropout(0.1)(x, training=True)),
                       "ValueError …: expected a layer that follows the model's training, got … training=True; …"),
    "initial state": (lambda: graph(lambda x: layers.GRU(2)(x, initial_state=keras.ops.ones((1, 2)))),
                      "ValueError module.get_layer('…').initial_state: expected None, got float32[1, 2]; a state is …"),
    "positional state": (lambda: graph(lambda x: layers.GRU(2)(x, keras.ops.ones((1, 2)))),
                         "ValueError …initial_state: expected None, got float32[1, 2]; …rnn.unroll(model, params, xs…"),
    "states": (lambda: graph(lambda x: both(lstm())()(x, initial_state=[np.ones((1, H), "float32")] * 4)),
               "ValueError …initial_state: expected None, got list of 4; …"),
    "state of the graph": (lambda: graph(lambda x: layers.GRU(IN)(x, initial_state=layers.GRU(IN)(x))),
                           "ValueError …initial_state: expected None, got float32[None, 4]; …"),
    "mask of arrays": (lambda: graph(lambda x: layers.GRU(2)(x, mask=np.ones((1, T), bool))),
                       "ValueError …: expected the mask of a Masking layer …, got another mask; …"),
    "layers above c": (lambda: graph(lambda x: layers.Dense(2)(lstm(return_state=True)()(x)[2])),
                       "ValueError module.get_layer('…'): expected its first output, got output 2 of 3, a state; …"),
    "h of all steps": (lambda: graph(lambda x: layers.Dense(2)(lstm(return_state=True)()(x)[1])),
                       "ValueError …, got output 1 of 3, a state; …h alone is … return_sequences=False"),
    "h of stacked cells": (lambda: graph(lambda x: layers.Dense(2)(rnn_layer(*CELLS, return_state=True)()(x)[1][0])),
                           "ValueError …, got output 1 of …, a state; …"),
    "h of one direction": (lambda: graph(lambda x: both(gru(return_sequences=False, return_state=True))()(x)[1]),
                           "ValueError …, got output 1 of 3, a state; …"),
    "a direction": (lambda: graph(lambda x: layers.Dense(2)(both(gru(), merge_mode=None)()(x)[0])),
                    "ValueError …, got output 0 of 2, one direction; …both directions of merge_mode=None as one …"),
    "a direction of a Sequential": (lambda: graph(lambda x: sequential(both(gru(), merge_mode=None))(x)[1]),
                                    "ValueError …, got output 1 of 2, of a model; …"),
    "residual of the last": (lambda: graph(lambda x: layers.Add()([x, layers.GRU(IN)(x)]), (1, IN)),
                             "ValueError …: expected an input and an output of all steps, got the last output …"),
}  # fmt: skip


@pytest.mark.parametrize("name", few([*READ], ["subclass", "recurrent dropout"]))
def test_module_refused(name):
    make, message = READ[name]
    refuses(message if message.endswith("…") else f"{message}…", lambda: interop.from_module(make()))


def other_mask():
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(V, IN, mask_zero=True)(ids)
    return keras.Model(ids, layers.GRU(2)(x, mask=keras.ops.not_equal(ids, 3)))


MASKED = {
    "late": (lambda: sequential(gru(), masking, gru()),
             "ValueError module.layers[1]: expected one mask, made below the first recurrent layer, got 1 made in …"),
    "two": (lambda: sequential(masking, masking, gru()), "ValueError module.layers[1]: expected one mask, …, got 2 …"),
    "softmax": (lambda: sequential(masking, layers.Softmax), "ValueError module.layers[1]: expected no Softmax layer…"),
    "another": (other_mask, "ValueError module.get_layer('…'): expected the mask of a Masking layer …, got another…"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MASKED)
def test_mask_refused(name):
    make, message = MASKED[name]
    refuses(message, lambda: interop.from_module(make(), lengths=True))


@pytest.mark.slow
def test_lengths_refused():
    module = sequential(lambda: layers.Embedding(V, IN, mask_zero=True), gru(), ids=True)
    refuses("ValueError inputs: expected padding at the end only, got masked steps before …; jaxrnn takes lengths…",
            lambda: interop.lengths(module, np.array([[1, 0, 2]])))  # fmt: skip
    refuses("ValueError module: expected a Masking layer or an Embedding with mask_zero=True, got no mask of …",
            lambda: interop.lengths(sequential(gru()), np.zeros((1, 2, IN))))  # fmt: skip
    refuses("TypeError lengths: expected True or False, got …", lambda: interop.from_module(module, lengths=[3]))


class MyLSTM(rnn.LSTM):
    """A subclass, whose step may be different."""


NOT_WRITTEN = {
    "peepholes": (rnn.LSTM(IN, H, peepholes="o"), "ValueError model.peepholes: expected '', got 'o'; keras.layers.…"),
    "coupled": (rnn.Stack(rnn.LSTM(IN, H, coupled=True), rnn.Linear(H, 2)),
                "ValueError model.layers[0].coupled: expected False, got True; keras.layers.LSTM has neither …"),
    "activation": (rnn.VanillaRNN(IN, H, activation=jnp.sin), "ValueError model.activation: expected 'tanh' or …"),
    "function": (rnn.Activation(jnp.sin), "ValueError model.function: expected 'tanh' or …, got …; Keras has no …"),
    "subclass": (MyLSTM(IN, H), "TypeError model: expected …GRU or ConvLSTM, got MyLSTM(4, 5); Keras …"),
    "user": (Average(IN), "TypeError model: expected …GRU or ConvLSTM, got Average(…; Keras has no …"),
    "tied": (rnn.Tied(rnn.Embedding(V, H), rnn.GRU(H, H)), "TypeError model: expected a …, got Tied(…"),
    "mixed": (rnn.MixedPrecision(rnn.GRU(IN, H)), "TypeError model: expected a …, got MixedPrecision(…"),
    "reverse": (rnn.Reverse(rnn.GRU(IN, H)), "TypeError model: expected a layer of Keras, got Reverse(…; go_back…"),
    "deep direction": (rnn.Bidirectional(rnn.Stack(rnn.GRU(IN, H), rnn.Linear(H, H))),
                       "TypeError model.forward.layers[1]: expected …GRU or ConvLSTM, got Linear(5, 5); …"),
    "pooling": (rnn.tasks.Classifier(rnn.GRU(IN, H), 2, pooling="mean"),
                "ValueError model.pooling: expected 'last', got 'mean'; convert model.encoder and model.readout"),
    "class": (rnn.GRU, "TypeError model: expected a cell or layer, got the class GRU; make one: GRU(...)"),
    "class of a task": (rnn.tasks.Classifier, "TypeError model: expected …, got the class Classifier; make one: …"),
    "residual of the last": (rnn.tasks.Classifier(rnn.Stack(rnn.GRU(IN, H), rnn.Residual(rnn.GRU(H, H))), 2),
                             "ValueError model.encoder.layers[1]: expected a last recurrent layer without …"),
    "no recurrence": (rnn.tasks.Classifier(rnn.Linear(IN, H), 2), "ValueError model.encoder: expected a recurrent …"),
}  # fmt: skip


@pytest.mark.parametrize("name", few([*NOT_WRITTEN], ["peepholes"]))
def test_model_refused(name):
    model, message = NOT_WRITTEN[name]
    refuses(message, lambda: interop.to_module(model, () if isinstance(model, type) else random_params(model)))
    if name in ("peepholes", "user"):
        refuses(message, lambda: interop.to_state(model, model.initial_state((B,))))


@pytest.mark.slow
def test_parameters_and_states_refused():
    cell = rnn.LSTM(IN, H)
    refuses("ValueError params.w_xh: expected shape [4, 20], got float32[3, 20]…",
            lambda: interop.to_module(cell, rnn.LSTM(3, H).init(jax.random.key(0))))  # fmt: skip
    params = random_params(cell)
    refuses("ValueError params: expected one dtype, got float16 and float32; …",
            lambda: interop.to_module(cell, params._replace(b_h=params.b_h.astype("float16"))))  # fmt: skip
    refuses("ValueError state: expected 2 arrays [B, H] in lists, got 1 arrays; [h, c] of an LSTM, …",
            lambda: interop.from_state(cell, [np.zeros((B, H), "float32")]))  # fmt: skip
    refuses("ValueError state.c: expected shape [3, 5], got float32[3, 4]…",
            lambda: interop.from_state(cell, [np.zeros((B, n), "float32") for n in (H, 4)]))  # fmt: skip
    refuses("TypeError state: expected LSTMState(h, c), got …", lambda: interop.to_state(cell, jnp.zeros((B, H))))


# ---- a model as a layer of Keras ---------------------------------------------------------------------------------


def bridge(*args, **options):
    return interop.Layer(*args, **options)


def test_layer():
    model = rnn.Stack(rnn.Embedding(V, IN), rnn.Bidirectional(rnn.LSTM(IN, H)), rnn.Dropout(0.5))
    params = random_params(model)
    layer = bridge(model, params=params, return_sequences=True, return_state=True, name="rnn")
    jax.tree.map(np.testing.assert_array_equal, layer.params, params)
    assert [v.path for v in layer.weights][:2] == ["rnn/0.w", "rnn/1.0.w_xh"]
    ids = np.random.default_rng(0).integers(1, V, (B, T))
    ys, *states = layer(ids, mask=MASK)
    final, expected = strict(rnn.unroll, model, params, jnp.array(ids.T), lengths=jnp.array(LENGTHS))
    np.testing.assert_array_equal(ys, expected.swapaxes(0, 1))
    jax.tree.map(np.testing.assert_array_equal, states, jax.tree.leaves(final))
    assert layer.compute_output_shape((None, T)) == ((None, T, 2 * H), *[(None, H)] * 4)


@pytest.mark.slow
def test_layer_takes_states_and_masks_of_keras():
    model, last = rnn.LSTM(IN, H), rnn.Bidirectional(rnn.GRU(H, 2))
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(V, IN, mask_zero=True)(ids)
    encoder = bridge(model, return_sequences=True, return_state=True, seed=1)
    x, h, c = encoder(x)
    pooled = bridge(last)(x)
    decoder = bridge(model, seed=2)
    module = keras.Model(ids, [x, pooled, decoder(layers.Embedding(V, IN)(ids), initial_state=[h, c])])
    tokens = np.random.default_rng(0).integers(1, V, (B, T)) * MASK
    got = module(tokens)
    one, two = (layer for layer in module.layers if isinstance(layer, layers.Embedding))
    embed = lambda layer: jnp.array(layer.get_weights()[0])[tokens.T]  # noqa: E731
    state, ys = rnn.unroll(model, encoder.params, embed(one), lengths=jnp.array(LENGTHS))
    np.testing.assert_allclose(got[0], ys.swapaxes(0, 1), atol=1e-6)
    bidirectional = next(layer for layer in module.layers if getattr(layer, "model", None) == last)
    y = rnn.tasks.pooling.last(last, bidirectional.params, ys, lengths=jnp.array(LENGTHS))
    np.testing.assert_allclose(got[1], y, atol=1e-6)
    state, ys = rnn.unroll(model, decoder.params, embed(two), state)
    np.testing.assert_allclose(got[2], ys[-1], atol=1e-6)
    np.testing.assert_allclose(bridge(model, params=encoder.params)(embed(one).swapaxes(0, 1), mask=MASK),
                               got[0][jnp.arange(B), jnp.array(LENGTHS) - 1], atol=1e-6)  # fmt: skip


@pytest.mark.slow
def test_dropout_follows_training():
    model = rnn.Stack(rnn.Dropout(0.5), rnn.GRU(IN, H))
    layer = bridge(model, seed=3, return_sequences=True)
    xs = np.ones((B, T, IN), "float32")
    _, expected = rnn.unroll(model, layer.params, jnp.array(xs.swapaxes(0, 1)))
    np.testing.assert_array_equal(layer(xs), expected.swapaxes(0, 1))
    first, second = layer(xs, training=True), layer(xs, training=True)
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(bridge(model, seed=3, return_sequences=True)(xs, training=True), first)


@pytest.mark.slow
def test_own_cell_in_a_file(tmp_path, capsys):
    module = keras.Sequential(
        [keras.Input((None, IN)), bridge(rnn.Stack(Average(IN), rnn.GRU(IN, H))), layers.Dense(2)]
    )
    module.summary()
    assert "Layer" in capsys.readouterr().out
    xs = np.random.default_rng(0).normal(size=(B, T, IN)).astype("float32")
    module.compile("sgd", "mse")
    module.fit(xs, np.zeros((B, 2)), verbose=0)
    module.save(tmp_path / "own.keras")
    loaded = keras.models.load_model(tmp_path / "own.keras")
    assert loaded.layers[0].model == module.layers[0].model
    np.testing.assert_array_equal(loaded(xs), module(xs))
    config = loaded.layers[0].get_config()
    config["model"]["modules"] = {"Average": ["no_such_module", "Average"]}
    refuses("ValueError config: expected the constructor call of a model, got Stack(Average(…no_such_module…; make …",
            lambda: interop.Layer.from_config(config))  # fmt: skip
    _, *states = bridge(Average(IN), return_state=True)(xs)
    assert [x.shape for x in states] == [(B, IN), (B,)]


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_layer_trains_as_fit(masked, optimised):
    """50 steps of Keras and of learning.fit from the same weights: the same losses."""
    model = rnn.Stack(rnn.Bidirectional(rnn.LSTM(IN, H)), rnn.GRU(2 * H, H), rnn.Linear(H, 2))
    params, rng = random_params(model), np.random.default_rng(0)
    xs = (rng.normal(size=(B, T, IN)) * (MASK[..., None] if masked else 1)).astype("float32")
    targets = rng.normal(size=(B, T, 2)).astype("float32")
    module = keras.Sequential([keras.Input((None, IN)), *([masking()] if masked else []),
                               bridge(model, params=params, return_sequences=True)])  # fmt: skip
    module.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    theirs = module.fit(xs, targets, batch_size=B, epochs=50, verbose=0).history["loss"]

    def loss(params, batch):
        lengths = jnp.array(LENGTHS) if masked else None
        _, ys = rnn.unroll(model, params, batch[0], lengths=lengths)
        return rnn.losses.squared_error(ys, batch[1], lengths=lengths)

    optimizer = optax.sgd(0.1, momentum=0.9)
    step, state = learning.train_step(loss, optimizer), learning.train_state(params, optimizer)
    batch = (xs.swapaxes(0, 1), targets.swapaxes(0, 1))
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        end = learning.fit(step, state, [batch], epochs=50, key=jax.random.key(0), verbose=False)
    assert theirs[-1] < theirs[0] / 2
    np.testing.assert_allclose(end.history["loss"], theirs, rtol=1e-5)
    trained = module.layers[-1].params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), trained, end.state.params)


@pytest.mark.slow
def test_layer_refused():
    xs, late = np.ones((1, 3, IN), "float32"), np.array([[True, False, True]])
    future = rnn.Bidirectional(rnn.GRU(IN, H))
    refuses("TypeError model: expected a cell or layer…, got str…", lambda: bridge("LSTM"))
    refuses(
        "ValueError params…: expected shape …", lambda: bridge(rnn.GRU(IN, H), params=random_params(rnn.GRU(IN, 2)))
    )
    refuses("TypeError return_state: expected True or False, got …", lambda: bridge(rnn.GRU(IN, H), return_state=1))
    refuses("ValueError mask: expected padding at the end only, got masked steps …",
            lambda: bridge(rnn.GRU(IN, H)).call(xs, mask=late))  # fmt: skip
    refuses("ValueError initial_state: expected a list of 2 arrays, got 1; return_state=True returns it…",
            lambda: bridge(rnn.LSTM(IN, H)).call(xs, [jnp.zeros((1, H))]))  # fmt: skip
    refuses("ValueError return_state: expected return_sequences=True with it, …, got False; …",
            lambda: bridge(future, return_state=True))  # fmt: skip
    refuses("ValueError initial_state: expected return_sequences=True with it, …, got False; …",
            lambda: bridge(future).call(xs, [jnp.zeros((1, H))] * 2))  # fmt: skip
    ids = rnn.Embedding(V, IN)
    refuses('TypeError sequences: expected token ids …, got float32[1, 3]; keras.Input(shape, dtype="int32")…',
            lambda: bridge(ids).call(jnp.ones((1, 3))))  # fmt: skip
    refuses("ValueError dtype: expected float32, that of the parameters, got float16; rnn.MixedPrecision(model) …",
            lambda: bridge(rnn.GRU(IN, H), dtype="float16"))  # fmt: skip
    refuses("ValueError dtype: expected bfloat16, that of the parameters, got mixed_bfloat16; …",
            lambda: bridge(rnn.GRU(IN, H, dtype="bfloat16"), dtype="mixed_bfloat16"))  # fmt: skip
    refuses("TypeError go_backwards: expected no such option, got True; rnn.Reverse(layer) …",
            lambda: bridge(rnn.GRU(IN, H), go_backwards=True))  # fmt: skip
    refuses("TypeError stateful: expected …; pass initial_state=…", lambda: bridge(rnn.GRU(IN, H), stateful=True))
    refuses("TypeError merge_mode: …; rnn.Bidirectional(…", lambda: bridge(rnn.GRU(IN, H), merge_mode="sum"))
    refuses("ValueError sequences: expected last axis 4 (GRU.input_size), got float32[1, 3, 9]; …",
            lambda: bridge(rnn.GRU(IN, H)).call(jnp.ones((1, 3, 9))))  # fmt: skip
    refuses("ValueError mask: expected shape [1, 3], got bool[1, 2]",
            lambda: bridge(rnn.GRU(IN, H)).call(xs, mask=late[:, :2]))  # fmt: skip
    refuses("ValueError initial_state.h: expected shape [1, 5], got float32[1, 2]; …",
            lambda: bridge(rnn.LSTM(IN, H)).call(xs, [jnp.zeros((1, 2))] * 2))  # fmt: skip
    classifier = rnn.tasks.Classifier(rnn.GRU(IN, H), 2)
    refuses("ValueError return_sequences: expected False, got True; a Classifier has one output …",
            lambda: bridge(classifier, return_sequences=True))  # fmt: skip
    refuses("ValueError initial_state: expected None, got list of 1; a Classifier keeps no state",
            lambda: bridge(classifier).call(xs, [jnp.zeros((1, H))]))  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("sequences", [False, True])
def test_traced_mask_that_is_no_prefix(sequences):
    """Where its values are not known, a mask that leaves out other steps than the last gives NaN, not numbers."""
    module = keras.Sequential([keras.Input((None, IN)), masking(), bridge(rnn.LSTM(IN, H), return_sequences=sequences)])
    xs = np.ones((B, T, IN), "float32") * MASK[..., None]
    xs[1] = np.roll(xs[1], 1, 0)  # padding at the start
    ys = module.predict(xs, verbose=0)
    assert np.isnan(ys[1]).all()
    assert np.isfinite(ys[[0, 2]]).all()


@pytest.mark.slow
def test_mixed_policies():
    xs, model = np.ones((B, T, IN), "float32"), rnn.GRU(IN, H)
    layer = bridge(model, random_params(model), dtype="mixed_bfloat16")
    assert (layer.weights[0].dtype, layer(xs).dtype, layer.compute_dtype) == ("float32", jnp.bfloat16, "bfloat16")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert bridge(model).compute_dtype == "bfloat16"
        assert bridge(rnn.GRU(IN, H, dtype="float16")).compute_dtype == "float16"
        module = keras.Sequential([keras.Input((T, IN)), bridge(model)])
        assert module.predict(xs, verbose=0).shape == (B, H)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.slow
def test_layer_of_a_classifier(tmp_path):
    model = rnn.tasks.Classifier(rnn.Stack(rnn.Embedding(V, IN), rnn.Bidirectional(rnn.GRU(IN, H))), 3, dropout=0.5)
    module = keras.Sequential([keras.Input((None,), dtype="int32"), bridge(model)])
    assert module.output_shape == (None, 3)
    ids = np.random.default_rng(0).integers(0, V, (B, T))
    expected = strict(model.apply, module.layers[0].params, jnp.array(ids.T))
    np.testing.assert_allclose(module(ids), expected, atol=1e-6)
    module.save(tmp_path / "classifier.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "classifier.keras")(ids), expected, atol=1e-6)


# ---- Keras is no dependency --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_import_does_not_import_keras():
    code = "import sys, jaxrnn, jaxrnn.interop.keras; sys.exit('keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_keras(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    for call in (lambda: interop.from_module(None), lambda: interop.Layer, lambda: interop.lengths(None, None)):
        with pytest.raises(ImportError, match=r"keras: .* pip install 'jaxrnn\[keras\]', and set KERAS_BACKEND=jax"):
            call()


def test_layer_needs_the_backend(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(
        ImportError, match=r"keras.backend.backend\(\): expected 'jax', got 'torch'; .*KERAS_BACKEND=jax"
    ):
        _ = interop.Layer
    with pytest.raises(AttributeError, match="no attribute 'layer'"):
        _ = interop.layer
