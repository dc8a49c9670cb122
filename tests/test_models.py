"""Models as values: equality, hash, pickle, repr, and one compilation."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from contract import ALL, LENGTHS
from zoo import ZOO, I, T, inputs, random_params, random_state

import jaxrnn as rnn


@pytest.mark.parametrize("name", ALL)
def test_pickle_equality_hash(name):
    """Copies of a model are equal and have the same hash; a model is immutable."""
    model, again = ZOO[name].build("float32"), ZOO[name].build("float32")
    for twin in (again, pickle.loads(pickle.dumps(model))):
        assert twin == model
        assert hash(twin) == hash(model)
        assert repr(twin) == repr(model)
    field = dataclasses.fields(model)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(model, field, None)


def test_models_differ():
    """No two models of the zoo are equal or have the same repr; the dtype is part of both."""
    models = [entry.build(dtype) for entry in ZOO.values() for dtype in ("float32", "bfloat16")]
    without_dtype = 1  # Dropout
    assert len(set(models)) == len(models) - without_dtype
    assert len(set(map(repr, models))) == len(models) - without_dtype


@pytest.mark.parametrize("name", ALL)
def test_repr_is_the_constructor_call(name):
    """``from_repr`` rebuilds a model of library classes, ``eval`` one with user's classes."""
    model = ZOO[name].build("bfloat16")
    if "user" in name or "callable" in name:
        assert eval(repr(model), {**vars(rnn), **vars(zoo), "zoo": zoo}) == model
        with pytest.raises(ValueError, match="text: expected constructor calls"):
            rnn.from_repr(repr(model))
    else:
        assert rnn.from_repr(repr(model)) == model


@pytest.mark.parametrize(
    "model",
    [rnn.LSTM(np.int64(I), np.int32(4)), rnn.Dropout(np.float64(0.5)), rnn.LSTM(I, 4, forget_bias=np.float32(0.5))],
    ids=["size", "rate", "forget_bias"],
)
def test_repr_of_numpy_numbers(model):
    """A size or a rate may be a NumPy scalar."""
    assert rnn.from_repr(repr(model)) == model


def test_repr_is_short():
    """Defaults are omitted."""
    assert repr(rnn.LSTM(3, 4)) == "LSTM(3, 4)"
    assert repr(rnn.LSTM(3, 4, peepholes="of", coupled=True)) == "LSTM(3, 4, peepholes='fo', coupled=True)"
    assert repr(rnn.Stack(rnn.GRU(3, 4), rnn.Dropout(0.5))) == "Stack(GRU(3, 4), Dropout(0.5))"
    assert repr(rnn.Bidirectional(rnn.GRU(3, 4), merge="sum")) == "Bidirectional(GRU(3, 4), merge='sum')"
    assert repr(rnn.Linear(3, 4, w_init=rnn.initializers.uniform(0.1))) == "Linear(3, 4, w_init=uniform(0.1))"


# ---- compilation ---------------------------------------------------------------------------------------------------

traces: list[tuple] = []  # one entry for each trace of a step


@dataclasses.dataclass(frozen=True)
class Counting:
    """A cell that records its traces."""

    def init(self, key):
        return jnp.ones(())

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, I))

    def step(self, params, state, x):
        traces.append(x.shape)
        state = state + params * x
        return state, state


def counting(x):
    """An activation that records its traces."""
    traces.append(x.shape)
    return jnp.tanh(x)


COUNTED = {
    "alone": Counting,
    "in a stack": lambda: rnn.Stack(Counting(), rnn.GRU(I, 4, dtype="float64")),
    "in both directions": lambda: rnn.Bidirectional(Counting()),
    "residual": lambda: rnn.Residual(Counting()),
    "activation": lambda: rnn.VanillaRNN(I, I, activation=counting, dtype="float64"),
}


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.usefixtures("x64")
def test_two_calls_one_trace(kind, jitted):
    """An equal model with inputs, states and lengths of equal shapes is not traced again."""
    unroll = jax.jit(rnn.unroll, static_argnums=0) if jitted else rnn.unroll
    model = COUNTED[kind]()
    params, state = random_params(model), random_state(model)
    steps = T + 2 if jitted else T  # not the shape that the other case has compiled
    traces.clear()
    first, _ = unroll(model, params, inputs(model, steps), state, lengths=jnp.asarray(LENGTHS))
    seen = len(traces)
    assert seen > 0
    unroll(
        COUNTED[kind](),
        random_params(model, 8),
        inputs(model, steps, seed=9),
        first,
        lengths=jnp.asarray(LENGTHS[::-1]),
    )
    assert len(traces) == seen
    unroll(model, params, inputs(model, steps + 1), state, lengths=jnp.asarray(LENGTHS))
    assert len(traces) > seen, "another T is another program"


def test_sizes_of_wrappers():
    """A wrapper has the sizes of its layer; a concatenated input doubles any size."""
    dropout, embedding = rnn.Dropout(0.5), rnn.Embedding(7, I)
    assert rnn.Stack(rnn.Residual(dropout), rnn.GRU(I, 4)).input_size == I
    assert rnn.Stack(rnn.Residual(dropout, "concat"), rnn.GRU(I, 4)).input_size is None
    assert rnn.Stack(rnn.MixedPrecision(embedding), rnn.GRU(I, 4)).vocabulary_size == 7
    assert rnn.MixedPrecision(embedding).input_ndim == 0


def test_parameters_print_in_a_few_lines():
    """Large arrays by dtype and shape, small ones in full."""
    model = rnn.Stack(rnn.Embedding(65, 32), rnn.LSTM(32, 64), rnn.Linear(64, 65))
    text = repr(model.init(jax.random.key(0)))
    assert "LSTMParams(w_xh=float32[32, 256], w_hh=float32[64, 256], b_h=float32[256], peepholes=None)" in text
    assert "\n" not in text
    assert len(text) < 300
    assert repr(rnn.LSTMState(jnp.zeros(2), jnp.ones(2))).count("[") == 2
