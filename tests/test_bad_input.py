"""Error messages of calls: the argument, what was expected, what was given, and a likely fix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from broken_cells import Growing, NoStep, Reshaping, Unbatched, Widening
from refusals import refuses

import jaxrnn as rnn

T, B, I, H, V = 5, 2, 3, 4, 7  # noqa: E741
KEY = jax.random.key(0)
XS = jnp.ones((T, B, I))
IDS = jnp.zeros((T, B), jnp.int32)
GRU, LSTM, EMBEDDING = rnn.GRU(I, H), rnn.LSTM(I, H), rnn.Embedding(V, I)
STACK, BOTH = rnn.Stack(GRU, rnn.Linear(H, 2)), rnn.Bidirectional(rnn.GRU(I, I), merge="both")
PARAMS = {model: model.init(KEY) for model in (GRU, LSTM, EMBEDDING, STACK, rnn.GRU(I, 9))}


def unroll(model=GRU, params=None, xs=XS, *args, **kwargs):
    """``rnn.unroll`` with valid defaults for all arguments."""
    return rnn.unroll(model, PARAMS[model] if params is None else params, xs, *args, **kwargs)


CALLS = {
    "TypeError params: expected GRUParams(w_xh, w_hh, b_h, b_hh, layer_norm), got tuple of 0; …GRU(3, 4)…": lambda: (
        unroll(params=())
    ),
    "TypeError params: expected GRUParams…, got LSTMParams…model.init(key)": lambda: unroll(params=PARAMS[LSTM]),
    "ValueError params.w_xh: expected shape [3, 12], got float32[3, 27]; …GRU(3, 4)…model.init(key)": lambda: unroll(
        params=PARAMS[rnn.GRU(I, 9)]
    ),
    "TypeError params.b_h: expected None, got float32[12]; …": lambda: unroll(
        rnn.GRU(I, H, use_bias=False), PARAMS[GRU]
    ),
    "TypeError params: expected tuple of 2, got tuple of 1; …model.init(key)": lambda: unroll(STACK, PARAMS[STACK][:1]),
    "ValueError params[1].w: expected shape [4, 2], got float32[4, 3]; …": lambda: unroll(
        STACK, (PARAMS[STACK][0], rnn.Linear(H, 3).init(KEY))
    ),
    "TypeError model: expected a cell or layer, got the class LSTM; make one: LSTM(...)": lambda: rnn.unroll(
        rnn.LSTM, (), XS
    ),
    "TypeError model: expected …init, initial_state and step, got NoStep without step; …": lambda: unroll(NoStep(), ()),
    "TypeError model: expected a cell or layer…, got GRUParams without init, initial_state, step; …": lambda: unroll(
        PARAMS[GRU], GRU
    ),
    "ValueError xs: expected last axis 3 (GRU.input_size), got float32[5, 2, 4]; …": lambda: unroll(
        xs=jnp.ones((T, B, I + 1))
    ),
    "ValueError xs: expected [T, ..., I], 2 axes or more, got float32[3]; …model.step": lambda: unroll(xs=jnp.ones(I)),
    "TypeError xs: expected an array [T, ..., I], got list of 1; jnp.asarray makes one": lambda: unroll(
        xs=[[1.0, 2.0, 3.0]]
    ),
    "TypeError xs: expected an array [T, ..., I], got None; jnp.asarray makes one": lambda: unroll(xs=None),
    "ValueError xs: expected [T, ..., I], 2 axes or more, got float32[3]; …": lambda: unroll(xs=[XS[0, 0], XS[0, 1]]),
    "TypeError xs: expected real floating numbers for GRU, got int32[5, 2, 3]; …rnn.Embedding…": lambda: unroll(
        xs=jnp.ones((T, B, I), int)
    ),
    "TypeError xs: expected real floating numbers for GRU, got complex64[5, 2, 3]; …": lambda: unroll(
        xs=jnp.ones((T, B, I), "complex64")
    ),
    "TypeError xs: expected real floating numbers for GRU, got bool[5, 2, 3]; …rnn.Embedding…": lambda: unroll(
        xs=XS > 0
    ),
    "ValueError xs: expected last axis 3 (GRU.input_size), got float32[5, 2, 2]; …": lambda: unroll(
        STACK, xs=XS[..., :2]
    ),
    "ValueError xs: expected last axis 3 (Linear.input_size), got float32[5, 2, 2]; …": lambda: rnn.unroll(
        rnn.Linear(I, 2), rnn.Linear(I, 2).init(KEY), XS[..., :2]
    ),
    "TypeError xs: expected integer token ids for Embedding, got float32[5, 2, 3]; …": lambda: unroll(EMBEDDING, xs=XS),
    "TypeError xs: expected integer token ids…, got bool[5, 2]; …dtype=int…": lambda: unroll(EMBEDDING, xs=IDS > 0),
    "ValueError xs: expected [T, ...], 1 axes or more, got int32[]; …": lambda: unroll(EMBEDDING, xs=jnp.asarray(3)),
    "ValueError xs: expected token ids in [0, 7), got values from 7 to 7; …": lambda: unroll(EMBEDDING, xs=IDS + V),
    "ValueError xs: expected token ids in [0, 7), got values from -1 to -1; …lengths=…": lambda: unroll(
        EMBEDDING, xs=IDS - 1
    ),
    "TypeError state: expected LSTMState(h, c), got float32[2, 4]; …initial_state((2,))…": lambda: unroll(
        LSTM, None, XS, jnp.zeros((B, H))
    ),
    "ValueError state: expected shape [2, 4], got float32[4]; model.initial_state((2,)) makes one…": lambda: unroll(
        GRU, None, XS, jnp.zeros(H)
    ),
    "ValueError state.h: expected shape [2, 4], got float32[3, 4]; …": lambda: unroll(
        LSTM, None, XS, LSTM.initial_state((B + 1,))
    ),
    "TypeError state: expected tuple of 2, got float32[2, 4]; …": lambda: unroll(STACK, None, XS, jnp.zeros((B, H))),
    "TypeError state[1]: expected tuple of 0, got float32[]; …": lambda: unroll(
        STACK, None, XS, (jnp.zeros((B, H)), jnp.zeros(()))
    ),
    "ValueError state.h: expected shape [2, 4], got float32[3, 16]; …": lambda: unroll(
        LSTM, None, XS, PARAMS[LSTM][:2]
    ),
    "TypeError lengths: expected an integer array of shape [2], got list of 2; …asarray…": lambda: unroll(
        lengths=[5, 4]
    ),
    "TypeError lengths: expected an integer array of shape [2], got int 3; jnp.asarray…": lambda: unroll(lengths=3),
    "TypeError lengths: expected an integer array…, got float32[2]; jnp.asarray…": lambda: unroll(lengths=jnp.ones(B)),
    "TypeError lengths: expected an integer array…, got bool[2]; …": lambda: unroll(lengths=jnp.ones(B, bool)),
    "ValueError lengths: expected shape [2], the batch axes of the inputs, got int32[5]; …": lambda: unroll(
        lengths=jnp.ones(T, int)
    ),
    "ValueError lengths: expected shape [2]…, got int32[]; one length a sequence": lambda: unroll(
        lengths=jnp.asarray(3)
    ),
    "ValueError lengths: expected shape []…, got int32[1]; …": lambda: unroll(xs=XS[:, 0], lengths=jnp.ones(1, int)),
    "ValueError lengths: expected values in [0, 5], T = 5, got 1 to 6; …before the padding": lambda: unroll(
        lengths=jnp.array([1, 6])
    ),
    "ValueError lengths: expected values in [0, 5], T = 5, got -1 to 5; …": lambda: unroll(lengths=np.array([-1, 5])),
    "TypeError resets: expected bool[5, 2], [T, ...], got float32[5, 2]; …a new sequence starts": lambda: unroll(
        resets=jnp.zeros((T, B))
    ),
    "TypeError resets: expected bool[5, 2], [T, ...], got list…a new sequence starts": lambda: unroll(
        resets=[True] * T
    ),
    "ValueError resets: expected bool[5, 2], [T, ...], got bool[5]; jnp.broadcast_to…": lambda: unroll(
        resets=jnp.zeros(T, bool)
    ),
    "ValueError resets: expected bool[5, 2], [T, ...], got bool[2, 5]; …": lambda: unroll(
        resets=jnp.zeros((B, T), bool)
    ),
    "TypeError reverse: expected True or False, got int 1": lambda: unroll(reverse=1),
    "TypeError reverse: expected True or False, got str yes": lambda: unroll(reverse="yes"),
    "TypeError key: expected a random key, got int 0; jax.random.key(0) makes one": lambda: unroll(key=0),
    "TypeError key: expected a random key, got key<fry>[3]; jax.random.key(0) makes one": lambda: unroll(
        key=jax.random.split(jax.random.key(0), 3)
    ),
    "TypeError key: expected a random key, got float32[2]; jax.random.key(0) makes one": lambda: unroll(
        key=jnp.zeros(2)
    ),
    "ValueError remat: expected True, False or the steps of a chunk, got int 0; True takes √T": lambda: unroll(remat=0),
    "ValueError remat: expected True, False or the steps of a chunk, got int -2; True takes √T": lambda: unroll(
        remat=-2
    ),
    "TypeError remat: expected True, False or the steps of a chunk, got float 2.0; True takes √T": lambda: unroll(
        remat=2.0
    ),
    "TypeError remat: expected True, False or the steps of a chunk, got None; True takes √T": lambda: unroll(
        remat=None
    ),
}

STEPS = {
    "ValueError x: expected last axis 3…, got float32[2, 2]; …": lambda: GRU.step(
        PARAMS[GRU], jnp.zeros((B, H)), XS[0, :, :2]
    ),
    "ValueError x: expected last axis 3…, got float32[]; …": lambda: GRU.step(
        PARAMS[GRU], jnp.zeros((B, H)), jnp.ones(())
    ),
    "TypeError x: expected an array, got list of 1; …asarray…": lambda: GRU.step(PARAMS[GRU], jnp.zeros((B, H)), [1.0]),
    "ValueError state: expected shape [2, 4], got float32[4]; …": lambda: GRU.step(PARAMS[GRU], jnp.zeros(H), XS[0]),
    "TypeError state: expected LSTMState(h, c), got float32[2, 4]; …": lambda: LSTM.step(
        PARAMS[LSTM], jnp.zeros((B, H)), XS[0]
    ),
    "TypeError x: expected real floating numbers for Linear, got bool[2, 3]; …": lambda: rnn.Linear(I, 2).step(
        (), (), XS[0] > 0
    ),
    "ValueError x: expected token ids in [0, 7), got values from 7 to 7; …": lambda: EMBEDDING.step(
        PARAMS[EMBEDDING], (), IDS[0] + V
    ),
    "TypeError x: expected integer token ids…, got float32[2, 3]; …": lambda: rnn.Tied(EMBEDDING, rnn.GRU(I, I)).step(
        None, jnp.zeros((B, I)), XS[0]
    ),
}

OWN_CELLS = {
    "ValueError state returned by step: expected shape [2, 3], got float32[2, 6]; a step keeps…": lambda: unroll(
        Growing(), ()
    ),
    "TypeError state returned by step: expected float32[2, 3], got tuple of 2; …keeps the structure…": lambda: unroll(
        Reshaping(), ()
    ),
    "ValueError state returned by step: expected shape [2, 3], got float32[2, 6]; …": lambda: unroll(
        rnn.Stack(Growing()), ((),)
    ),
    "ValueError state: expected …the batch axes [2], got float32[]; initial_state(batch_shape) puts…": lambda: unroll(
        Unbatched(), (), lengths=jnp.array([5, 2])
    ),
    "ValueError state: expected arrays that start with the batch axes [2], got float32[]; …": lambda: unroll(
        rnn.Bidirectional(Unbatched()), ((), ()), resets=jnp.zeros((T, B), bool)
    ),
    "ValueError layer: expected outputs like its inputs, float32[5, 2, 3], got float32[5, 2, 6]": lambda: unroll(
        rnn.Residual(Widening()), ()
    ),
}


@pytest.mark.parametrize("text", [*CALLS, *STEPS, *OWN_CELLS])
def test_refusals(text):
    """The message of each wrong argument."""
    refuses(text, {**CALLS, **STEPS, **OWN_CELLS}[text])


@pytest.mark.parametrize(
    "model", [rnn.Bidirectional(LSTM), rnn.Residual(LSTM, "concat"), rnn.Stack(rnn.Stack(LSTM))], ids=repr
)
def test_layers_check_features(model):
    """The cell in a layer checks its inputs."""
    text = "ValueError xs: expected last axis 3 (LSTM.input_size), got float32[5, 2, 2]; the features go last"
    refuses(text, lambda: rnn.unroll(model, model.init(KEY), XS[..., :2]))


@pytest.mark.parametrize(
    "model", [rnn.Tied(EMBEDDING, rnn.GRU(I, I)), rnn.Stack(EMBEDDING, GRU), rnn.Bidirectional(EMBEDDING)], ids=repr
)
def test_layers_check_ids(model):
    """And so does an embedding in a layer."""
    text = "ValueError xs: expected token ids in [0, 7), got values from 7 to 7; …"
    refuses(text, lambda: rnn.unroll(model, model.init(KEY), IDS + V))


@pytest.mark.parametrize("model", [rnn.Bidirectional(GRU), rnn.Stack(rnn.Bidirectional(GRU))], ids=repr)
def test_bidirectional_models_have_no_step(model):
    """The backward direction needs the future inputs."""
    text = "TypeError Bidirectional.step: expected a whole sequence, through rnn.unroll, got one step; …"
    refuses(text, lambda: model.step(model.init(KEY), model.initial_state((B,)), XS[0]))


FURTHER = {
    "TypeError layer: …": lambda: rnn.unroll(rnn.Residual(BOTH), BOTH.init(KEY), XS),
    "TypeError x…": lambda: rnn.unroll(rnn.Stack(BOTH, rnn.Dropout(0.5)), (BOTH.init(KEY), ()), XS, key=KEY),
    "TypeError state: expected tuple of 2, …": lambda: STACK.step(PARAMS[STACK], (jnp.zeros((B, H)),), XS[0]),
    "TypeError params: expected tuple of 2, …": lambda: STACK.step((), STACK.initial_state((B,)), XS[0]),
    "TypeError params: expected GRUParams…, got LSTM…": lambda: GRU.step(PARAMS[LSTM], jnp.zeros((B, H)), XS[0]),
    "ValueError params.…": lambda: GRU.step(PARAMS[rnn.GRU(I, 9)], jnp.zeros((B, H)), XS[0]),
    "TypeError state: expected floating numbers…": lambda: unroll(GRU, None, XS, jnp.zeros((B, H), int)),
    "TypeError xs: expected an array, got list…": lambda: unroll(xs=[XS]),
    "TypeError reverse: …static…": lambda: jax.jit(rnn.unroll)(GRU, PARAMS[GRU], XS, reverse=True),
}


@pytest.mark.parametrize("text", FURTHER)
def test_further_refusals(text):
    """The message of each mistake."""
    refuses(text, FURTHER[text])


# ---- behaviour under jit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [[1, T + 1], [-1, T]])
def test_lengths_are_not_refused_under_jit(lengths):
    """Traced values are not checked: too long is T, negative is 0."""
    got = jax.jit(lambda n: unroll(lengths=n))(jnp.array(lengths))
    expected = unroll(lengths=jnp.clip(jnp.array(lengths), 0, T))
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_shapes_are_refused_under_jit():
    """Shapes and dtypes are static."""
    refuses("ValueError lengths: …int32[5]…", lambda: jax.jit(lambda n: unroll(lengths=n))(jnp.zeros(T, int)))
    refuses("TypeError resets: …float32[5, 2]…", lambda: jax.jit(lambda r: unroll(resets=r))(jnp.zeros((T, B))))
    refuses("ValueError xs: …float32[5, 2, 2]…", lambda: jax.jit(lambda x: unroll(xs=x))(XS[..., :2]))
    refuses("TypeError params: …LSTMParams…", lambda: jax.jit(lambda p: unroll(params=p))(PARAMS[LSTM]))
    refuses("TypeError reverse: …bool[]…", lambda: jax.jit(rnn.unroll)(GRU, PARAMS[GRU], XS, reverse=True))


@pytest.mark.parametrize("unknown_id", [-1, V, V + 100])
def test_unknown_ids_are_nan_under_jit(unknown_id):
    """Traced ids outside of the vocabulary give NaN, and change no other row."""
    ids = IDS.at[1, 0].set(unknown_id)
    _, ys = jax.jit(lambda ids: unroll(EMBEDDING, xs=ids))(ids)
    unknown = np.zeros((T, B), bool)
    unknown[1, 0] = True
    np.testing.assert_array_equal(np.isnan(ys).all(-1), unknown)
    np.testing.assert_array_equal(np.isnan(ys).any(-1), unknown)


def test_lengths_may_be_closed_over():
    """Lengths may be constants of a jitted function."""
    lengths = jnp.array([1, T])
    got = jax.jit(lambda p: unroll(params=p, lengths=lengths))(PARAMS[GRU])
    jax.tree.map(np.testing.assert_array_equal, got, unroll(lengths=lengths))


def test_ids_may_be_closed_over():
    """Token ids may be constants of a jitted function."""
    got = jax.jit(lambda p: unroll(EMBEDDING, p, IDS))(PARAMS[EMBEDDING])
    jax.tree.map(np.testing.assert_array_equal, got, unroll(EMBEDDING, xs=IDS))


def test_lengths_hide_unknown_ids():
    """The padding may hold any id."""
    mask = np.arange(T)[:, None] < np.array([2, T])
    got = unroll(EMBEDDING, xs=jnp.where(mask, IDS, -1), lengths=jnp.array([2, T]))
    jax.tree.map(np.testing.assert_array_equal, got, unroll(EMBEDDING, xs=IDS, lengths=jnp.array([2, T])))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint32"])
def test_lengths_of_any_integer_dtype(dtype):
    """Lengths may have any integer dtype."""
    got = unroll(lengths=jnp.array([2, T], dtype))
    jax.tree.map(np.testing.assert_array_equal, got, unroll(lengths=jnp.array([2, T])))


def test_plain_tuples_stand_for_named_ones():
    """``(h, c)`` is accepted as the state of an LSTM, and a named tuple is returned."""
    state = (jnp.ones((B, H)), jnp.ones((B, H)))
    final, _ = unroll(LSTM, None, XS, state)
    assert isinstance(final, rnn.LSTMState)
    unroll(LSTM, tuple(PARAMS[LSTM]))


def test_unknown_sizes_are_not_checked():
    """A cell without attributes for its sizes is accepted anywhere."""
    model = rnn.Stack(GRU, Widening(), rnn.Linear(2 * H, 2))
    params = (PARAMS[GRU], (), rnn.Linear(2 * H, 2).init(KEY))
    state = (jnp.zeros((B, H)), jnp.zeros((B, I)), ())
    assert rnn.unroll(model, params, XS, state)[1].shape == (T, B, 2)
