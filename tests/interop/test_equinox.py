"""Against Equinox: the same modules give the same values and gradients; those without a counterpart are refused."""

import inspect
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses
from versions import enable_x64
from zoo import few, random_params, random_state

import jaxrnn as rnn
from jaxrnn.interop.equinox import from_module, from_state, to_module, to_state

eqx = pytest.importorskip("equinox")
nn = eqx.nn

T, B, I, H, V = 6, 3, 3, 4, 7  # noqa: E741
LENGTHS = jnp.array([4, 6, 1])
KEY = jax.random.PRNGKey(0)
CELLS = (nn.LSTMCell, nn.GRUCell)


def drawn(kind, *arguments, dtype="float32", **options):
    """A module with random arrays, biases too; nothing is compiled."""
    module = eqx.filter_eval_shape(lambda key: kind(*arguments, key=key, **options), KEY)
    rng = np.random.default_rng(len(jax.tree.leaves(module)))
    fill = lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape), dtype) if hasattr(leaf, "shape") else leaf  # noqa: E731
    return jax.tree.map(fill, module)


def scan(cell, xs):
    """Outputs and states ``[T, ...]`` of a cell over one sequence, written as users of Equinox do."""
    zeros = jnp.zeros(cell.hidden_size, xs.dtype)

    def step(state, x):
        state = cell(x, state)
        return state, (state[0] if isinstance(state, tuple) else state, state)

    return jax.lax.scan(step, (zeros, zeros) if isinstance(cell, nn.LSTMCell) else zeros, xs)[1]


def apply(parts, xs, length):
    """Outputs and final states of parts in order, for one sequence; a pair of cells runs in both directions."""
    steps = jnp.arange(T)
    backwards = (length - 1 - steps) % T  # its own inverse before the end
    finals = []
    for part in parts:
        if isinstance(part, CELLS):
            xs, states = scan(part, xs)
            finals += [jax.tree.map(lambda s: s[length - 1], states)]
        elif isinstance(part, dict):
            xs, states = zip(scan(part["forward"], xs), scan(part["backward"], xs[backwards]), strict=True)
            xs = jnp.concatenate([xs[0], xs[1][backwards]], -1)
            finals += jax.tree.map(lambda s: s[length - 1], list(states))
        elif not isinstance(part, nn.Dropout):
            xs = jax.vmap(part)(xs)
    return jnp.where((steps < length)[:, None], xs, 0), tuple(finals)


def weighted(ys, state):
    """A scalar that depends on every output and state, and each in another way."""
    leaves = [ys, *jax.tree.leaves(state)]
    return sum((leaf * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape).astype(leaf.dtype)).sum() for leaf in leaves)


def run_equinox(parts, xs, lengths, gradients=True):
    trained, rest = eqx.partition(parts, eqx.is_inexact_array)

    def loss(trained):
        apply_all = lambda x, n: apply(eqx.combine(trained, rest), x, n)  # noqa: E731
        ys, finals = jax.vmap(apply_all, in_axes=(1, 0), out_axes=(1, 0))(xs, lengths)
        return weighted(ys, finals), (ys, finals)

    values, gradients = values_and_gradients(loss, trained, gradients)
    return values, eqx.combine(gradients, rest)


def run_jaxrnn(model, params, xs, lengths, gradients=True):
    def loss(params):
        final, ys = rnn.unroll(model, params, xs, lengths=lengths)
        return weighted(ys, to_state(model, final)), (ys, to_state(model, final))

    return values_and_gradients(loss, params, gradients)


def values_and_gradients(loss, params, gradients):
    """Values alone, with gradients of 0, compile in a third of the time."""
    if not gradients:
        return jax.jit(loss)(params)[1], jax.tree.map(np.zeros_like, params)
    (_, values), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return values, gradients


def arrays(modules):
    return jax.tree.leaves(eqx.filter(modules, eqx.is_inexact_array))


def gradients_of(model, gradients):
    """Gradients in Equinox's layout: two biases that are summed have the same one."""

    def once(part):
        if not isinstance(part, rnn.GRUParams) or part.b_hh is None:
            return part
        return part._replace(b_hh=jnp.where(np.arange(part.b_hh.size) < 2 * len(part.w_hh), 0, part.b_hh))

    return arrays(to_module(model, jax.tree.map(once, gradients, is_leaf=lambda p: isinstance(p, rnn.GRUParams))))


def close(a, b, tolerance, dtype):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype == dtype
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance)


def same(a, b):
    """Whether two trees are equal to the bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs
    )


# ---- values and gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradients", few([False, True], [False]))
def test_everything_at_once(gradients):
    """Embedding, both directions, a stack on them and a readout, on sequences of unequal length."""
    below = [drawn(nn.Embedding, V, I)]
    both = {"forward": drawn(nn.LSTMCell, I, H), "backward": drawn(nn.GRUCell, I, 2)}
    above = [
        nn.Dropout(0.5),
        drawn(nn.GRUCell, H + 2, H, use_bias=False),
        drawn(nn.LSTMCell, H, 3),
        nn.Lambda(jnp.tanh),
    ]
    above += [drawn(nn.Linear, 3, 2)]
    xs = jnp.asarray(np.random.default_rng(1).integers(0, V, (T, B)))
    theirs, d_parts = run_equinox([*below, both, *above], xs, LENGTHS, gradients)

    (embedding, p_embedding), (top, p_top) = from_module(below), from_module(above)
    (forward, p_forward), (backward, p_backward) = from_module(both["forward"]), from_module(both["backward"])
    model = rnn.Stack(embedding, rnn.Bidirectional(forward, backward), top)
    ours, d_params = run_jaxrnn(model, (p_embedding, (p_forward, p_backward), p_top), xs, LENGTHS, gradients)
    close(ours, theirs, 1e-5, "float32")
    parts = zip((embedding, forward, backward, top), (d_params[0], *d_params[1], d_params[2]), strict=True)
    theirs = [d_parts[:1], d_parts[1]["forward"], d_parts[1]["backward"], d_parts[2:]]
    close([a for part in parts for a in gradients_of(*part)], arrays(theirs), 1e-5, "float32")
    assert repr(top) == "Stack(Dropout(0.5), GRU(6, 4, reset_after=True, use_bias=False), LSTM(4, 3), " \
                        "Activation('tanh'), Linear(3, 2))"  # fmt: skip


PARTS = {
    "lstm": lambda dtype: drawn(nn.LSTMCell, H, H, dtype=dtype),
    "lstm-no-bias": lambda dtype: drawn(nn.LSTMCell, H, H, use_bias=False, dtype=dtype),
    "gru": lambda dtype: drawn(nn.GRUCell, H, H, dtype=dtype),
    "gru-no-bias": lambda dtype: drawn(nn.GRUCell, H, H, use_bias=False, dtype=dtype),
    "linear": lambda dtype: drawn(nn.Linear, H, H, dtype=dtype),
    "linear-no-bias": lambda dtype: drawn(nn.Linear, H, H, use_bias=False, dtype=dtype),
    "identity": lambda dtype: nn.Identity(),
    "softmax": lambda dtype: nn.Lambda(jax.nn.softmax),
    "gelu": lambda dtype: nn.Lambda(jax.nn.gelu),
    "sequential": lambda dtype: nn.Sequential([drawn(nn.Linear, H, H, dtype=dtype), nn.Lambda(jax.nn.relu)]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    names=st.lists(st.sampled_from(list(PARTS)), min_size=1, max_size=4),
    lengths=st.lists(st.integers(1, T), min_size=B, max_size=B),
)
def test_sequences_of_parts(dtype, tolerance, names, lengths):
    with enable_x64(dtype == "float64"):
        parts, lengths = [PARTS[name](dtype) for name in names], jnp.array(lengths)
        xs = jnp.asarray(np.random.default_rng(1).normal(size=(T, B, H)), dtype)
        theirs, gradients = run_equinox(parts, xs, lengths)
        model, params = from_module(parts)
        ours, d_params = run_jaxrnn(model, params, xs, lengths)
        close(ours, theirs, tolerance, dtype)
        close(gradients_of(model, d_params), arrays(gradients), tolerance, dtype)
        assert same(arrays(to_module(model, params)), arrays(parts))
        assert same(from_module(to_module(model, params)), (model, params))


# ---- round trips -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", few(["float32", "float16", "bfloat16", "float64"], ["bfloat16"]))
def test_round_trip(dtype):
    with enable_x64(dtype == "float64"):
        model = rnn.Stack(
            rnn.Embedding(V, I, dtype=dtype),
            rnn.LSTM(I, H, dtype=dtype),
            rnn.Dropout(0.3),
            rnn.Stack(rnn.LSTM(H, H, use_bias=False, dtype=dtype), rnn.GRU(H, 2, reset_after=True, dtype=dtype)),
            rnn.Stack(rnn.Linear(2, 5, dtype=dtype), rnn.Activation("relu"), rnn.Linear(5, 2, dtype=dtype)),
        )
        params = random_params(model)
        gru = params[3][1]
        gru = gru._replace(b_hh=gru.b_hh.at[:4].set(0))  # the biases of z and r of the state, which Equinox has not
        params = (*params[:3], (params[3][0], gru), params[4])
        modules = to_module(model, params)
        assert [type(m).__name__ for m in modules] == ["Embedding", "LSTMCell", "Dropout", "tuple", "Sequential"]
        again = from_module(modules)
        assert again[0] == model
        assert same(again[1], params)


def test_two_biases_of_a_gate_are_summed():
    model = rnn.GRU(I, H, reset_after=True)
    params = random_params(model)
    cell = to_module(model, params)
    x, h = np.full(I, 0.5, "float32"), np.full(H, 0.5, "float32")
    np.testing.assert_allclose(cell(x, h), model.step(params, h, x)[0], rtol=0, atol=1e-6)
    assert not from_module(cell)[1].b_hh[: 2 * H].any()


def test_states():
    model = rnn.Stack(rnn.Linear(I, I), rnn.Bidirectional(rnn.LSTM(I, H)), rnn.GRU(2 * H, 2, reset_after=True))
    state = random_state(model, (B,))
    converted = to_state(model, state)
    assert [type(part) for part in converted[:2]] == [tuple, tuple]
    assert same(list(converted), [tuple(state[1][0]), tuple(state[1][1]), state[2]])
    assert same(from_state(model, converted), state)
    cell = rnn.LSTM(I, H)
    assert same(from_state(cell, to_state(cell, state[1][0])), state[1][0])
    assert to_state(rnn.Linear(2, 2), ()) == ()


# ---- refusals ----------------------------------------------------------------------------------------------------


class Own(eqx.Module):
    """A user's module."""

    width: int
    embedding: nn.Embedding
    cell: nn.LSTMCell
    heads: list
    act: object = jax.nn.relu
    dtype: object = jnp.float32  # callable, but no part

    def __call__(self, x):
        return x


class Subclass(nn.LSTMCell):
    """It may compute anything else."""


class Stateful(nn.StatefulLayer):
    """Like eqx.nn.BatchNorm it takes and returns a state."""

    def __call__(self, x, state):
        return x, state


def normalised(x):
    return x / jnp.linalg.norm(x)


EMBEDDING, LSTM, LINEAR = drawn(nn.Embedding, V, I), drawn(nn.LSTMCell, I, H), drawn(nn.Linear, H, 2)
KNOWN = "expected an LSTMCell, GRUCell, Linear, Embedding, Dropout, Identity, Lambda or Sequential of eqx.nn, or a …"
REFUSED = {
    f"TypeError module: {KNOWN}, got Own; pass its parts in the order in which its __call__ applies them: "
    "[module.embedding, module.cell, module.heads[0], eqx.nn.Lambda(module.act)]": Own(3, EMBEDDING, LSTM, [LINEAR]),
    f"TypeError module: {KNOWN}, got Subclass; jaxrnn has no counterpart of it": drawn(Subclass, I, H),
    f"TypeError module: {KNOWN}, got LayerNorm; jaxrnn has no counterpart of it": nn.LayerNorm(3),
    f"TypeError module[1]: {KNOWN}, got Stateful; jaxrnn has no counterpart of it": [LSTM, Stateful()],
    f"TypeError module.layers[0]: {KNOWN}, got the class LSTMCell; …": nn.Sequential([nn.LSTMCell]),
    f"TypeError module[0]: {KNOWN}, got custom_jvp; eqx.nn.Lambda(function) is the module of a function": [jax.nn.relu],
    "ValueError module: expected numbers of features, got in_features='scalar', out_features=3; a size of 1 keeps …":
        drawn(nn.Linear, "scalar", 3),
    "ValueError module: expected numbers of features, got in_features=3, out_features='scalar'; …":
        drawn(nn.Linear, 3, "scalar"),
    "ValueError module.fn: expected a function of each vector of features by itself, …, got function …normalised…":
        nn.Lambda(normalised),
    "ValueError module.p: expected a number in [0, 1), got 1.0; …": nn.Dropout(1.0),
    "TypeError module.weight_ih: expected a tensor or an array, got None":
        eqx.filter(LSTM, eqx.is_inexact_array, inverse=True),
    "ValueError module.bias: expected shape [16], got float32[4]":
        eqx.tree_at(lambda m: m.bias, LSTM, jnp.ones(4)),
    "ValueError module: expected one dtype, got bfloat16 and float32; give all its arrays one dtype":
        eqx.tree_at(lambda m: m.bias, LSTM, jnp.ones(16, "bfloat16")),
}  # fmt: skip
if "scan" in inspect.signature(nn.MLP).parameters:
    scanned = drawn(nn.MLP, 3, 2, 4, 2, scan=True)
    REFUSED[f"TypeError module: {KNOWN}, got MLP; make it with scan=False, which …"] = scanned


@pytest.mark.parametrize("text", REFUSED)
def test_modules_without_counterpart(text):
    refuses(text, lambda: from_module(REFUSED[text]))


@pytest.mark.parametrize("depth", [0, 2])
def test_parts_of_an_mlp(depth):
    """The list that the refusal names is the module."""
    module = drawn(nn.MLP, 3, 2, 4, depth, activation=jax.nn.tanh)
    with pytest.raises(TypeError, match="got MLP; pass its parts: ") as refusal:
        from_module(module)
    parts = eval(str(refusal.value).partition("pass its parts: ")[2], {"module": module, "eqx": eqx})
    model, params = from_module(parts)
    xs = jnp.array(np.random.default_rng(0).normal(size=(T, 3)), "float32")
    np.testing.assert_allclose(rnn.unroll(model, params, xs)[1], jax.vmap(module)(xs), atol=1e-6)


MODELS = {
    "ValueError model.peepholes: expected '', got 'o'; eqx.nn.LSTMCell has neither peepholes nor coupled gates":
        rnn.LSTM(I, H, peepholes="o"),
    "ValueError model.coupled: expected False, got True; …": rnn.LSTM(I, H, coupled=True),
    "ValueError model.reset_after: expected True, got False; eqx.nn.GRUCell resets after …, and the two forms do not …":
        rnn.GRU(I, H),
    "TypeError model: expected an LSTM or GRU, got VanillaRNN(3, 4); Equinox has no counterpart of it":
        rnn.VanillaRNN(I, H),
    "TypeError model.layers[1]: …, got Bidirectional(LSTM(3, 4)); Equinox has no module that scans: convert both …":
        rnn.Stack(rnn.Linear(I, I), rnn.Bidirectional(rnn.LSTM(I, H))),
    "TypeError model: …, got Residual(LSTM(3, 3)); Equinox has no counterpart of it": rnn.Residual(rnn.LSTM(I, I)),
}  # fmt: skip


@pytest.mark.parametrize("text", MODELS)
def test_models_without_counterpart(text):
    refuses(text, lambda: to_module(MODELS[text], random_params(MODELS[text])))


def test_a_state_of_another_model():
    model = rnn.Stack(rnn.LSTM(I, H), rnn.LSTM(H, H))
    one = jnp.ones(H)
    refuses("TypeError state: expected tuple of 2, one entry a cell, got tuple of 1",
            lambda: from_state(model, ((one, one),)))  # fmt: skip
    refuses("ValueError state.h: expected shape [4], got float32[3]; …",
            lambda: from_state(model.layers[0], (one[:3], one[:3])))  # fmt: skip
    refuses("TypeError model: expected an LSTM or GRU, got VanillaRNN(3, 4); …",
            lambda: from_state(rnn.VanillaRNN(I, H), one))  # fmt: skip


def test_without_equinox(monkeypatch):
    monkeypatch.setitem(sys.modules, "equinox", None)
    for use in (lambda: from_module(LSTM), lambda: rnn.interop.equinox.Module):
        with pytest.raises(ImportError, match=r"equinox: expected Equinox to be .* pip install 'jaxrnn\[equinox\]'"):
            use()
