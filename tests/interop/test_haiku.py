"""Against Haiku: the same parameters give the same values and gradients; modules without a counterpart are refused."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses
from versions import enable_x64
from zoo import few, random_params

import jaxrnn as rnn
from jaxrnn.interop.haiku import from_params, from_state, to_module, to_params, to_state
from jaxrnn.interop.layouts import add_to_gate, split

hk = pytest.importorskip("haiku")

T, B, I, H, V = 6, 3, 3, 4, 7  # noqa: E741
LENGTHS = jnp.array([4, 6, 1])


def rich():
    """Every kind of module that converts."""
    above = hk.Sequential([hk.Linear(5, with_bias=False), jnp.tanh])
    deep = hk.DeepRNN([hk.IdentityCore(), hk.GRU(H)])
    return hk.DeepRNN(
        [hk.Embed(V, I), hk.LSTM(5), jax.nn.relu, above, hk.VanillaRNN(3), deep, hk.LSTM(2), hk.Linear(2)]
    )


RICH = rnn.Stack(
    rnn.Embedding(V, I),
    rnn.LSTM(I, 5),
    rnn.Activation("relu"),
    rnn.Linear(5, 5, use_bias=False),
    rnn.Activation("tanh"),
    rnn.VanillaRNN(5, 3, activation="relu"),
    rnn.Stack(rnn.Dropout(0.0), rnn.GRU(3, H)),
    rnn.LSTM(H, 2),
    rnn.Linear(2, 2),
)


def drawn(make, xs, dtype="float32"):
    """Random parameters of a function of modules, biases too."""
    run = hk.transform(lambda xs: dynamic(make(), xs))
    shapes = jax.eval_shape(run.init, jax.random.key(0), xs)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape), dtype), shapes)


def inputs(ids=False, dtype="float32"):
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.integers(0, V, (T, B)) if ids else rng.normal(size=(T, B, I)).astype(dtype))


def dynamic(core, xs, state=None):
    """Outputs and the states after every step."""
    state = core.initial_state(B) if state is None else state
    state = jax.tree.map(lambda s: s.astype(jax.tree.leaves(xs)[0].dtype) if xs.ndim == 3 else s, state)
    return hk.dynamic_unroll(core, xs, state, return_all_states=True)


def weighted(ys, state):
    """A scalar that depends on every output and state, and each in another way."""
    leaves = [ys, *jax.tree.leaves(state)]
    return sum((leaf * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape).astype(leaf.dtype)).sum() for leaf in leaves)


def run_haiku(make, params, xs, lengths, gradients):
    run = hk.transform(lambda xs: dynamic(make(), xs))

    def loss(params, xs):
        ys, states = run.apply(params, None, xs)
        within = jnp.arange(T)[:, None] < lengths[None]
        ys = jnp.where(within[..., None], ys, 0)
        final = jax.tree.map(lambda s: s[lengths - 1, jnp.arange(B)], states)
        return weighted(ys, final), (ys, final)

    return values_and_gradients(loss, params, xs, gradients)


def run_jaxrnn(model, params, xs, lengths, gradients):
    def loss(params, xs):
        final, ys = rnn.unroll(model, params, xs, lengths=lengths)
        return weighted(ys, final), (ys, final)

    return values_and_gradients(loss, params, xs, gradients)


def values_and_gradients(loss, params, xs, gradients):
    """Of the parameters, and of inputs that are no ids; values alone compile in a third of the time."""
    if not gradients:
        return jax.jit(loss)(params, xs)[1], ()
    inputs = (0, 1) if jnp.issubdtype(xs.dtype, jnp.floating) else (0,)
    (_, values), gradients = jax.jit(jax.value_and_grad(loss, inputs, has_aux=True))(params, xs)
    return values, gradients


def linear_part(model, gradients):
    """Gradients in Haiku's layout: what ``to_params`` adds to a forget bias is no part of them."""
    converted = to_params(model, gradients, rounding=True)
    constant = to_params(model, jax.tree.map(jnp.zeros_like, gradients))
    return jax.tree.map(jnp.subtract, converted, constant)


def compare(make, xs, tolerance, dtype="float32", lengths=LENGTHS, gradients=True):
    params = drawn(make, xs, dtype)
    model, converted = from_params(make, params)
    theirs, d_theirs = run_haiku(make, params, xs, lengths, gradients)
    (ys, final), d_ours = run_jaxrnn(model, converted, xs, lengths, gradients)
    if gradients:
        d_params = linear_part(model, d_ours[0])
        for name, entries in d_theirs[0].items():  # the second bias of a VanillaRNN has the gradient of the first
            if missing := entries.keys() - d_params[name].keys():
                d_params[name] |= {entry: d_params[name.removesuffix("_1")][entry] for entry in missing}
        d_ours = (d_params, *d_ours[1:])
    ours, theirs = (ys, to_state(model, final), d_ours), (*theirs, d_theirs)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
    return model, converted


def same(a, b):
    """Whether two trees are equal to the bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs
    )


# ---- values and gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradients", few([False, True], [False]))
def test_everything_at_once(gradients):
    model, params = compare(rich, inputs(ids=True), 1e-5, gradients=gradients)
    assert model == RICH
    again = from_params(to_module(model), to_params(model, params))  # biases out of Haiku go back exactly
    assert again[0] == model
    assert same(again[1], params)


PARTS = {
    "lstm": lambda: hk.LSTM(H),
    "gru": lambda: hk.GRU(H),
    "vanilla": lambda: hk.VanillaRNN(H),
    "vanilla-one-bias": lambda: hk.VanillaRNN(H, double_bias=False),
    "linear": lambda: hk.Linear(H),
    "linear-no-bias": lambda: hk.Linear(H, with_bias=False),
    "tanh": lambda: jnp.tanh,
    "gelu": lambda: jax.nn.gelu,
    "softmax": lambda: jax.nn.softmax,
    "identity": hk.IdentityCore,
    "deep": lambda: hk.DeepRNN([hk.LSTM(2), jax.nn.sigmoid, hk.GRU(H)]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    names=st.lists(st.sampled_from(list(PARTS)), min_size=1, max_size=4),
    lengths=st.lists(st.integers(1, T), min_size=B, max_size=B),
)
def test_stacks(dtype, tolerance, names, lengths):
    with enable_x64(dtype == "float64"):

        def make():
            return hk.DeepRNN([PARTS[name]() for name in names])

        model, params = compare(make, inputs(dtype=dtype), tolerance, dtype, jnp.array(lengths))
        assert same(from_params(to_module(model), to_params(model, params)), (model, params))


@pytest.mark.slow
def test_both_directions():
    """Haiku has no module for both: two cores, one in reverse, and their joint outputs."""
    xs = inputs()

    def both(xs):
        forward, backward, readout = hk.LSTM(H), hk.GRU(H), hk.BatchApply(hk.Linear(2))
        a, end = hk.dynamic_unroll(forward, xs, forward.initial_state(B))
        b, start = hk.dynamic_unroll(backward, xs, backward.initial_state(B), reverse=True)
        return readout(jnp.concatenate([a, b], -1)), (end, start)

    run = hk.transform(both)
    params = run.init(jax.random.key(0), xs)
    ys, states = run.apply(params, None, xs)
    makes = [lambda: hk.LSTM(H), lambda: hk.GRU(H), lambda: hk.BatchApply(hk.Linear(2))]
    names = ["lstm", "gru", "linear"]
    of = [{m: e for m, e in params.items() if m.startswith(name)} for name in names]
    (forward, p), (backward, q), (readout, r) = map(from_params, makes, of)
    model = rnn.Stack(rnn.Bidirectional(forward, backward), readout)
    final, ys_ours = rnn.unroll(model, ((p, q), r), xs)
    np.testing.assert_allclose(ys_ours, ys, rtol=0, atol=1e-5)
    ours = to_state(forward, final[0][0]), to_state(backward, final[0][1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), ours, states)


@pytest.mark.slow
def test_a_core_and_what_follows_it():
    """A list of modules is a stack; BatchApply is for whole sequences, where layers here need none."""
    xs = inputs()

    def parts():
        return [hk.DeepRNN([hk.GRU(H), jax.nn.relu]), hk.BatchApply(hk.Linear(2))]

    def net(xs):
        core, readout = parts()
        ys, state = hk.dynamic_unroll(core, xs, core.initial_state(B))
        return readout(ys), state

    class Net(hk.Module):
        def __call__(self, xs):
            return net(xs)

    run = hk.transform(lambda xs: Net()(xs))
    params = run.init(jax.random.key(0), xs)
    ys, state = run.apply(params, None, xs)
    model, converted = from_params(parts, params, name="net")
    assert model == rnn.Stack(rnn.Stack(rnn.GRU(I, H), rnn.Activation("relu")), rnn.Linear(H, 2))
    final, ours = rnn.unroll(model, converted, xs)
    np.testing.assert_allclose(ours, ys, rtol=0, atol=1e-5)
    np.testing.assert_allclose(to_state(model, final)[0][0], state[0], rtol=0, atol=1e-5)


# ---- round trips -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", few(["float32", "float16", "bfloat16", "float64"], ["bfloat16"]))
def test_round_trip(dtype):
    with enable_x64(dtype == "float64"):
        model = rnn.Stack(rnn.LSTM(I, H, dtype=dtype), rnn.GRU(H, 2, dtype=dtype), rnn.Linear(2, 2, dtype=dtype))
        params = random_params(model)
        b = params[0].b_h.at[H : 2 * H].set(jnp.asarray([0.5, 0.6, 1.7, 2], dtype))
        params = (params[0]._replace(b_h=b), *params[1:])
        haiku = to_params(model, params, name="net/~")
        assert list(haiku) == ["net/~/lstm/linear", "net/~/gru", "net/~/linear"]
        again = from_params(to_module(model), haiku, name="net/~")
        assert again[0] == model
        assert same(again[1], params)


def test_forget_biases_in_every_float16():
    """Those from 0.5 to 2 and those that came from Haiku go back exactly; the others are refused, or rounded."""
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    with np.errstate(all="ignore"):
        values = values[np.isfinite(values) & np.isfinite(values + np.float16(1)) & np.isfinite(values - np.float16(1))]
        b = np.concatenate([values] * 4)  # i, f, o, c̃
        from_haiku = split(add_to_gate(b, "f", 1), "ifoc")["f"]
        exact = split(add_to_gate(add_to_gate(b, "f", -1), "f", 1), "ifoc")["f"] == values
    assert exact[(values >= 0.5) & (values <= 2)].all()
    assert exact[np.isin(values, from_haiku) & (abs(values) < 2**11)].all()  # the digits of a float16
    assert not exact[values == np.float16(0.1)].any()


def test_a_forget_bias_that_would_be_rounded():
    model = rnn.LSTM(1, 2)
    params = rnn.LSTMParams(*(np.zeros(shape, "float32") for shape in ((1, 8), (2, 8), 8)), None)
    params.b_h[2:4] = 0.1, 0.25
    refuses("ValueError b_h of model: expected forget biases b with (b - 1) + 1 == b, as all from 0.5 to 2 are, "
            "got 0.1…; hk.LSTM adds 1, …; rounding=True rounds it", lambda: to_params(model, params))  # fmt: skip
    _, again = from_params(to_module(model), to_params(model, params, rounding=True))
    np.testing.assert_allclose(again.b_h, params.b_h, rtol=0, atol=2**-25)  # half a unit in the last place of -0.9
    assert again.b_h[2] != params.b_h[2]


def test_states():
    state = jax.tree.map(lambda s: s + 1, RICH.initial_state((B,)))
    haiku = to_state(RICH, state)
    assert [type(part).__name__ for part in haiku] == ["LSTMState", "ArrayImpl", "tuple", "LSTMState"]
    assert len(haiku[2]) == 2  # that of hk.IdentityCore is ()
    assert same(from_state(RICH, haiku), state)
    assert from_state(rnn.Linear(2, 2), ()) == ()


# ---- refusals ----------------------------------------------------------------------------------------------------


KNOWN = "expected an hk.DeepRNN, …hk.Embed, hk.Conv1DLSTM, hk.Conv2DLSTM, hk.Conv3DLSTM or a function"
VECTOR = "expected a function of each vector of features by itself, of any size, which it keeps"
MODULES = {
    f"TypeError module: {KNOWN}, got _DeepRNN; deep_rnn_with_skip_connections returns the outputs of all layers, …":
        lambda: hk.deep_rnn_with_skip_connections([hk.LSTM(H)]),
    f"TypeError module: {KNOWN}, got ResetCore; …: convert its core, then rnn.unroll(..., resets=should_reset)":
        lambda: hk.ResetCore(hk.LSTM(H)),
    f"TypeError module: {KNOWN}, got Subclass; jaxrnn has no counterpart of it": lambda: Subclass(H),
    f"TypeError module.layers[0]: {KNOWN}, got BatchApply; …give the modules in order, lambda: [core, BatchApply(f)]":
        lambda: hk.DeepRNN([hk.BatchApply(hk.Linear(3))]),
    f"TypeError module[0]: {KNOWN}, got BatchApply; …": lambda: [hk.BatchApply(hk.Linear(3), num_dims=3)],
    f"TypeError module.layers[0]: {KNOWN}, got Flatten; jaxrnn has no…": lambda: hk.DeepRNN([hk.Flatten()]),
    f"TypeError module.layers[0]: {KNOWN}, got the class LSTM; jaxrnn has no…": lambda: hk.DeepRNN([hk.LSTM]),
    f"TypeError module: {KNOWN}, got NoneType; jaxrnn has no…": lambda: None,
    "TypeError module: expected a function that makes the module, such as lambda: hk.LSTM(5), got int 3": 3,
    f"ValueError module.layers[0]: {VECTOR}, got function …, which raises ValueError: `hk.next_rng_key` must…":
        lambda: hk.DeepRNN([lambda x: hk.dropout(hk.next_rng_key(), 0.5, x)]),
    f"ValueError module.layers[0]: {VECTOR}, got function …mixes…; convert the parts around it, and apply it between…":
        lambda: hk.DeepRNN([mixes_rows]),
    f"ValueError module.layers[0]: {VECTOR}, got function …": lambda: hk.DeepRNN([lambda x: x[..., :1]]),
    "ValueError params['gru']['w_i']: expected an array, got none; there are params['lstm/linear']['w'], …":
        lambda: hk.GRU(H),
    "ValueError params['lstm/linear']['w']: expected shape [7, 20], got float32[7, 16]": lambda: hk.LSTM(H + 1),
    "ValueError params['lstm/linear']['w']: expected a module that is used once, got it twice; layers here …":
        lambda: [core := hk.LSTM(H), core],
    "ValueError params: expected only those of the modules, got params['lstm/linear']['w'] besides; "
    "hk.data_structures.filter takes those of one module": lambda: hk.IdentityCore(),
}  # fmt: skip


def lstm_params(**changes):
    return {"lstm/linear": {"w": jnp.ones((I + H, 4 * H)), "b": jnp.ones(4 * H)} | changes}


class Subclass(hk.LSTM):
    """It may compute anything else."""


def mixes_rows(x):
    return x - jnp.broadcast_to(x.mean(0), x.shape)


@pytest.mark.parametrize("text", MODULES)
def test_modules_without_counterpart(text):
    refuses(text, lambda: from_params(MODULES[text], lstm_params()))


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("ValueError params['lstm/linear']['w']: expected an array, got none; there are …; name='net/~' reads…",
         {"net/~/lstm/linear": lstm_params()["lstm/linear"]}),
        ("ValueError params['lstm/linear']['w']: expected an array, got none; there are no others", {}),
        ("TypeError params: expected arrays by module and name, as hk.transform(...).init returns them, got dict of 1",
         {"lstm/linear": jnp.ones(3)}),
        ("TypeError params['lstm/linear']['b']: expected a tensor or an array, got None", lstm_params(b=None)),
        ("ValueError params['lstm/linear']['w']: expected a matrix, got float32[7]", lstm_params(w=jnp.ones(7))),
        ("ValueError params of 'lstm': expected one dtype, got bfloat16 and float32; cast them to one dtype",
         lstm_params(b=jnp.ones(16, "bfloat16"))),
        ("ValueError params: expected only those of the modules, got params['lstm/linear']['c'] besides; …",
         lstm_params(c=jnp.ones(1))),
    ],
)  # fmt: skip
def test_parameters_of_another_module(text, params):
    refuses(text, lambda: from_params(lambda: hk.LSTM(H), params))


MODELS = {
    "ValueError model.activation: expected 'relu', got 'tanh'; hk.VanillaRNN has relu and a bias": rnn.VanillaRNN(I, H),
    "ValueError model.reset_after: expected False, got True; …the two forms do not convert into each other":
        rnn.GRU(I, H, reset_after=True),
    "ValueError model.peepholes: expected '', got 'o'; hk.LSTM has a bias, and neither peepholes nor coupled gates":
        rnn.LSTM(I, H, peepholes="o"),
    "ValueError model.use_bias: expected True, got False; hk.LSTM has a bias, …": rnn.LSTM(I, H, use_bias=False),
    "TypeError model.layers[1]: expected …GRU or ConvLSTM, got Dropout(0.5); hk.dropout is a function with a "
    "key: Dropout(0.0) in its place converts, to hk.IdentityCore()": rnn.Stack(rnn.GRU(I, H), rnn.Dropout(0.5)),
    "TypeError model: expected …, got Bidirectional(GRU(3, 4)); Haiku has none: convert both directions, one for "
    "hk.dynamic_unroll(..., reverse=True)": rnn.Bidirectional(rnn.GRU(I, H)),
    "TypeError model: expected …, got Residual(GRU(3, 3)); Haiku has no counterpart of it": rnn.Residual(rnn.GRU(I, I)),
}  # fmt: skip


@pytest.mark.parametrize("text", MODELS)
def test_models_without_counterpart(text):
    model = MODELS[text]
    refuses(text, lambda: to_module(model))
    refuses(text, lambda: to_params(model, random_params(model)))
    refuses(text, lambda: to_state(model, model.initial_state()))


def test_a_state_of_another_model():
    refuses("TypeError state: expected tuple of 4, one entry a core, got tuple of 0",
            lambda: from_state(RICH, ()))  # fmt: skip
    refuses("ValueError state.h: expected shape [4], got float32[3]; model.initial_state(()) makes one …",
            lambda: from_state(rnn.LSTM(I, H), hk.LSTMState(jnp.ones(3), jnp.ones(3))))  # fmt: skip


def test_without_haiku(monkeypatch):
    monkeypatch.setitem(sys.modules, "haiku", None)
    with pytest.raises(ImportError, match=r"haiku: expected Haiku to be installed, .* pip install 'jaxrnn\[haiku\]'"):
        to_module(rnn.GRU(I, H))
