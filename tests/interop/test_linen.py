"""Against Flax linen: the same weights give the same values and gradients; what has no counterpart is refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState
from flax_reference import (
    IN,
    LENGTHS,
    B,
    H,
    T,
    V,
    check,
    fitted,
    inputs,
    same,
    same_bits,
    training_data,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refuses
from zoo import ZOO, few, filled, random_params, random_state
from zoo import inputs as zoo_inputs

import jaxrnn as rnn
from jaxrnn.interop.linen import Module, from_params, from_state, to_module, to_params, to_state

CELLS = {
    "simple": nn.SimpleCell,
    "lstm": nn.LSTMCell,
    "optimized": nn.OptimizedLSTMCell,
    "gru": nn.GRUCell,
}


def cell(kind, dtype=jnp.float32, **options):
    zeros = nn.initializers.zeros  # the default cannot draw in 16 bits
    return CELLS[kind](H, param_dtype=dtype, recurrent_kernel_init=zeros, **options)


def both(kind, other, dtype=jnp.float32, **options):
    return nn.Bidirectional(nn.RNN(cell(kind, dtype)), nn.RNN(cell(other, dtype)), **options)


def rich(dtype=jnp.float32):
    """Every kind of cell and layer in one module."""
    return nn.Sequential(
        [
            nn.Embed(V, IN, param_dtype=dtype),
            both("gru", "lstm", dtype),
            nn.Sequential([nn.tanh, nn.Dropout(0.5, deterministic=True)]),
            nn.RNN(cell("simple", dtype, activation_fn=nn.relu), reverse=True, keep_order=True),
            both("optimized", "simple", dtype, merge_fn=jnp.add),
            nn.Dense(2, param_dtype=dtype, name="ignored by Flax"),
            nn.gelu,
        ]
    )


def drawn(module, xs):
    """Random parameters, biases too."""
    return filled(jax.eval_shape(module.init, jax.random.key(0), xs))["params"]


def run(layer, params, xs, lengths=None):
    """The outputs of a module, all recurrent layers in which get the lengths."""
    if not isinstance(layer, nn.Module):
        return layer(xs)
    if isinstance(layer, nn.Sequential):
        for n, below in enumerate(layer.layers):
            xs = run(below, params.get(f"layers_{n}", {}), xs, lengths)
        return xs
    options = {"seq_lengths": lengths} if isinstance(layer, (nn.RNN, nn.Bidirectional)) else {}
    return layer.apply({"params": params}, xs, **options)


def check_module(module, params, tolerance=1e-5, lengths=LENGTHS, call=run):
    model, converted = from_params(module, {"params": params})
    return check(
        model, converted, lambda params, xs: call(module, params, xs, lengths), params,
        lambda gradients: from_params(module, gradients)[1], tolerance, lengths,
    )  # fmt: skip


# ---- values and gradients ----------------------------------------------------------------------------------------


def test_values_and_gradients():
    module = nn.Sequential([nn.Embed(V, IN), both("gru", "lstm"), nn.tanh, nn.Dense(2)])
    check_module(module, drawn(module, jnp.zeros((B, T), jnp.int32)))


@pytest.mark.slow
def test_values_and_gradients_of_all_kinds(x64):
    module = rich("float64")
    params = drawn(module, jnp.zeros((B, T), jnp.int32))
    check_module(module, params, 1e-10)
    assert str(from_params(module, params)[0]).replace(", dtype='float64'", "") == (
        "Stack(Embedding(7, 3), Bidirectional(GRU(3, 4, reset_after=True), backward=LSTM(3, 4)), "
        "Stack(Activation('tanh'), Dropout(0.5)), Reverse(VanillaRNN(8, 4, activation='relu')), "
        "Bidirectional(LSTM(4, 4), backward=VanillaRNN(4, 4), merge='sum'), Linear(4, 2), Activation(jax.nn.gelu))"
    )


@pytest.mark.slow
@settings(max_examples=8, deadline=None, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    kind=st.sampled_from(list(CELLS)),
    options=st.fixed_dictionaries({"time_major": st.booleans(), "return_carry": st.booleans()}),
    direction=st.sampled_from(["forward", "reverse", jnp.add, jnp.multiply, rnn.layers.bidirectional.MERGES["mean"]]),
    lengths=st.sampled_from([None, LENGTHS]),
)
def test_options(kind, options, direction, lengths, x64):
    if callable(direction):
        module = both(kind, "gru", jnp.float64, merge_fn=direction, **options)
    else:
        module = nn.RNN(cell(kind, jnp.float64), reverse=direction == "reverse", keep_order=True, **options)

    def call(module, params, xs, lengths):
        swap = lambda a: jnp.swapaxes(a, 0, 1) if options["time_major"] else a  # noqa: E731
        ys = module.apply({"params": params}, swap(xs), seq_lengths=lengths)
        return swap(ys[1] if options["return_carry"] else ys)

    check_module(module, drawn(module, jnp.zeros((B, B, IN))), 1e-10, lengths, call)


@pytest.mark.slow
def test_carries():
    module = both("lstm", "gru", return_carry=True)
    params = drawn(module, jnp.zeros((B, T, IN)))
    model, converted = from_params(module, params)
    xs, carry = inputs(model), to_state(model, random_state(model))
    expected, _ = jax.jit(module.apply)({"params": params}, xs, initial_carry=carry, seq_lengths=LENGTHS)
    state = from_state(model, carry)
    final, _ = rnn.unroll(model, converted, jnp.swapaxes(xs, 0, 1), state, lengths=jnp.asarray(LENGTHS))
    same(to_state(model, final), expected, 1e-5)


# ---- round trips -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_linen_to_jaxrnn_to_linen():
    module = rich(jnp.bfloat16)
    params = drawn(module, jnp.zeros((B, T), jnp.int32))
    model, converted = from_params(module, params)
    again = to_params(model, converted)
    assert from_params(to_module(model), again)[0] == model
    same_bits(again, params)


@pytest.mark.parametrize("merge", few(["concat", "sum", "mean", "product", "both"], ["mean"]))
def test_jaxrnn_to_linen_to_jaxrnn(merge):
    model = rnn.Bidirectional(rnn.LSTM(IN, H, dtype="float16"), merge=merge)
    params = random_params(model)
    again, converted = from_params(to_module(model), to_params(model, params))
    assert again == model
    same_bits(converted, params)


@pytest.mark.slow
def test_dropout():
    model = rnn.Stack(rnn.Linear(IN, H), rnn.Stack(rnn.Dropout(0.5)), rnn.VanillaRNN(H, H))
    params, xs = random_params(model), jnp.ones((B, T, IN))
    variables = {"params": to_params(model, params)}
    _, ys = rnn.unroll(model, params, xs.swapaxes(0, 1))
    same(to_module(model).apply(variables, xs), ys.swapaxes(0, 1), 1e-6)
    first, second = [
        to_module(model, deterministic=False).apply(variables, xs, rngs={"dropout": jax.random.key(seed)})
        for seed in (0, 1)
    ]
    assert jnp.abs(first - second).max() > 0.01


def test_the_biases_of_a_gru_are_summed_but_for_the_candidate():
    model = rnn.GRU(IN, H, reset_after=True)
    params = random_params(model)
    converted = to_params(model, params)["cell"]
    z, r, h = np.split(np.asarray(params.b_h), 3)
    z_state, r_state, h_state = np.split(np.asarray(params.b_hh), 3)
    biases = {"iz": -(z + z_state), "ir": r + r_state, "in": h, "hn": h_state}
    same_bits({name: dense["bias"] for name, dense in converted.items() if "bias" in dense}, biases)


@pytest.mark.slow
@pytest.mark.parametrize("reset_gate", [True, False])
def test_the_minimal_gated_unit(reset_gate, x64):
    """Its f is 1 - f of jaxrnn; the same values, gradients and parameters both ways."""
    module = nn.RNN(nn.MGUCell(H, param_dtype="float64", reset_gate=reset_gate))
    params = drawn(module, jnp.zeros((B, T, IN)))
    check_module(module, params, 1e-10)
    model, converted = from_params(module, params)
    options = {"reset": "keep", "reset_after": True} if reset_gate else {"reset": "none"}
    assert model == rnn.MGU(IN, H, **options, dtype="float64")
    same_bits(to_params(model, converted), params)
    assert to_module(model).cell.reset_gate == reset_gate
    state = random_state(model)
    same_bits(from_state(model, to_state(model, state)), state)


MGU_REASON = "the f of MGUCell both keeps and resets the state, and it always has a bias"
NO_MODULE = {
    f"ValueError model.reset: expected 'keep' or 'none', got 'update'; {MGU_REASON}": rnn.MGU(IN, H),
    f"ValueError model.use_bias: expected True, got False; {MGU_REASON}": rnn.MGU(IN, H, reset="none", use_bias=False),
    "ValueError model.reset_after: expected True with reset='keep', got False; …": rnn.MGU(IN, H, reset="keep"),
    "TypeError model: expected a VanillaRNN, …, got JANET(3, 4); linen has no counterpart of it": rnn.JANET(IN, H),
    "TypeError model: …, got MultiplicativeLSTM(3, 4); linen has …": rnn.MultiplicativeLSTM(IN, H),
    "TypeError model: …, got SLSTM(3, 4); linen has no counterpart of it": rnn.SLSTM(IN, H),
}


@pytest.mark.parametrize("text", NO_MODULE)
def test_gated_cells_without_a_counterpart(text):
    refuses(text, lambda: to_module(NO_MODULE[text]))


@pytest.mark.slow
def test_cells_alone_and_boxed_parameters():
    init = nn.with_partitioning(nn.initializers.ones, (None, "model"))
    dense = nn.Dense(2, kernel_init=init)
    variables = dense.init(jax.random.key(0), jnp.zeros((1, IN)))
    model, params = from_params(dense, variables)
    assert model == rnn.Linear(IN, 2)
    assert params.w.shape == (IN, 2)
    assert from_params(cell("lstm"), parameters("lstm")["cell"])[0] == rnn.LSTM(IN, H)


def with_params(model):
    return model, random_params(model)


# ---- refusals ----------------------------------------------------------------------------------------------------


class OwnRNN(nn.RNN):
    pass


def flip(x):
    return x[:, ::-1]


def parameters(kind="gru", **changes):
    """Parameters of an RNN, some of them exchanged or, with None, missing."""
    model = rnn.GRU(IN, H, reset_after=True) if kind == "gru" else rnn.LSTM(IN, H)
    changed = to_params(*with_params(model))["cell"] | changes
    return {"cell": {name: part for name, part in changed.items() if part is not None}}


class Own(nn.Module):
    pass


RNN = nn.RNN(nn.GRUCell(H))
FROM = {
    "not a module": (3, {}, "TypeError module: expected a module of linen, got int 3"),
    "not parameters": (nn.Dense(3), 3, "TypeError params: expected parameters by name, got int 3"),
    "kind": (
        nn.BatchNorm(),
        {},
        "TypeError module: expected a layer, or a cell among …, got BatchNorm; jaxrnn has no counterpart of it",
    ),
    "MGU": (
        nn.RNN(nn.MGUCell(H, reset_gate=False)),
        {"cell": {"hn": {"bias": np.zeros(4)}}},
        "ValueError module.cell: expected parameters 'if.kernel', …, got none called 'if.kernel'",
    ),
    "subclass": (
        OwnRNN(cell("gru")),
        parameters(),
        "TypeError module: expected a layer, or …, got OwnRNN; from_params(part, params[name]) …",
    ),
    "gate_fn": (
        nn.RNN(cell("gru", gate_fn=nn.hard_sigmoid)),
        parameters(),
        "ValueError module.cell.gate_fn: expected sigmoid, got hard_sigmoid; jaxrnn has no counterpart of it",
    ),
    "activation_fn": (
        nn.RNN(cell("gru", activation_fn=nn.relu)),
        parameters(),
        "ValueError module.cell.activation_fn: expected tanh, got relu; jaxrnn has no other there",
    ),
    "carry_init": (
        nn.RNN(cell("gru", carry_init=nn.initializers.ones)),
        parameters(),
        "ValueError module.cell.carry_init: expected None, got ones; jaxrnn has no counterpart of it",
    ),
    "variable_axes": (
        nn.RNN(cell("gru"), variable_axes={"params": 0}),
        parameters(),
        "ValueError module.variable_axes: expected {}, got …; jaxrnn has no counterpart of it",
    ),
    "keep_order": (
        nn.RNN(cell("gru"), reverse=True),
        parameters(),
        "ValueError module.keep_order: expected True with reverse=True, got False; outputs of jaxrnn stay …",
    ),
    "function": (
        nn.Sequential([flip]),
        {},
        "ValueError module.layers_0: expected a function of each vector …, got …; convert …",
    ),
    "missing": (
        nn.RNN(cell("gru")),
        parameters(hn=None),
        "ValueError module.cell: expected parameters 'ir.kernel', …, got none called 'hn.kernel'",
    ),
    "unknown": (
        nn.RNN(cell("gru")),
        parameters(ho={"bias": np.zeros(4)}),
        "ValueError module.cell: expected parameters …, got 'ho.bias' besides",
    ),
    "names of another cell": (
        nn.RNN(cell("gru")),
        parameters("lstm"),
        "ValueError module.cell: expected parameters …, got none called 'ir.kernel'",
    ),
    "unknown layer": (
        nn.Sequential([nn.relu]),
        {"layers_1": {}},
        "ValueError module: expected one of 'layers_0', got 'layers_1'",
    ),
    "missing layer": (
        nn.Sequential([nn.RNN(cell("gru"))]),
        {},
        "ValueError module.layers_0: expected parameters 'cell', got none called 'cell'",
    ),
    "used twice": (
        nn.Sequential([RNN, nn.tanh, RNN]),
        {"layers_0": parameters()},
        "ValueError module.layers_2: expected parameters 'cell', got none called 'cell'; it shares those of module.…",
    ),
    "own": (
        Own(),
        {"GRUCell_0": {}, "Dense_0": {}},
        "TypeError module: expected …, got Own; from_params(part, params[name]) converts a part of it; it has the "
        "parameters 'Dense_0', 'GRUCell_0'",
    ),
    "shape": (
        nn.RNN(nn.GRUCell(H + 1)),
        parameters(),
        "ValueError module.cell.ir.kernel: expected shape [3, 5], got float32[3, 4]",
    ),
    "dtypes": (
        nn.RNN(cell("gru")),
        parameters(hr={"kernel": np.zeros((H, H), "float16")}),
        "ValueError module.cell: expected one dtype, got float16 and float32; cast the parameters",
    ),
}


@pytest.mark.parametrize("name", FROM)
def test_refused_modules(name):
    module, params, message = FROM[name]
    refuses(message, lambda: from_params(module, params))


def test_refused_models():
    coupled = rnn.Stack(rnn.LSTM(3, 3, coupled=True))
    message = "ValueError model.layers[0].coupled: expected False, got True; the LSTM of Flax always …"
    refuses(message, lambda: to_module(coupled))
    refuses(message, lambda: to_params(*with_params(coupled)))
    linear = rnn.Linear(3, 2)
    refuses("ValueError params: expected concrete arrays, got a traced float32[…]; call it outside of jax.jit",
            lambda: jax.jit(lambda params: to_params(linear, params))(random_params(linear)))  # fmt: skip
    refuses("TypeError deterministic: expected True or False, got None",
            lambda: to_module(rnn.Dropout(0.5), deterministic=None))  # fmt: skip
    refuses("ValueError model: expected a Stack around an Activation, got …; linen has functions in …",
            lambda: to_module(rnn.Activation("relu")))  # fmt: skip


# ---- the bridge --------------------------------------------------------------------------------------------------


def tagger(rate):
    return rnn.Stack(rnn.Embedding(V, IN), rnn.Bidirectional(rnn.LSTM(IN, H)), rnn.Dropout(rate), rnn.Linear(2 * H, 2))


def test_bridge():
    model = tagger(0.5)
    params = random_params(model)
    module = Module(model)
    xs, lengths = inputs(model), jnp.asarray(LENGTHS)
    variables = {"params": to_params(module, params)}
    shapes = jax.eval_shape(lambda key: module.init(key, xs, deterministic=True), jax.random.key(0))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    assert variables["params"]["weights"]["layers_1"]["backward"]["w_hh"].shape == (H, 4 * H)
    assert from_params(module, variables)[0] == model
    same_bits(from_params(module, variables)[1], params)

    @jax.jit
    def apply(variables, xs, key):
        without = module.apply(variables, xs, seq_lengths=lengths, deterministic=True, return_carry=True)
        return without, module.apply(variables, xs, deterministic=False, rngs={"dropout": key})

    (outputs, first), (_, second) = [apply(variables, xs, jax.random.key(seed)) for seed in (0, 1)]
    expected, ys = rnn.unroll(model, params, xs.T, lengths=lengths)
    same(outputs, (expected, ys.swapaxes(0, 1)), 1e-6)
    assert jnp.abs(first - outputs[1]).max() > 0.1  # dropout acts
    assert jnp.abs(first - second).max() > 0.1  # anew with each key


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_bridge_of_every_model(name):
    model = ZOO[name].build("float32")
    params = random_params(model)
    module = Module(model, time_major=True, deterministic=True)
    variables = {"params": to_params(module, params)}
    xs, state = zoo_inputs(model, dtype="float32"), random_state(model, (3,))
    same_bits(from_params(module, variables)[1], params)
    outputs = module.apply(variables, xs, initial_carry=state, return_carry=True)
    same(outputs, rnn.unroll(model, params, xs, state), 1e-6)


@pytest.mark.slow
def test_bridge_inside_other_modules():
    model = rnn.Stack(rnn.LSTM(IN, H), rnn.Dropout(0.5), rnn.Linear(H, IN))

    class Deep(nn.Module):
        """Two blocks of the same model with weights of their own, by nn.scan, under nn.jit, and a readout."""

        @nn.compact
        def __call__(self, xs):
            block = nn.jit(Module)(model, deterministic=False, name="block")
            scanned = nn.scan(
                lambda module, xs, _: (module(xs), None),
                variable_axes={"params": 0}, split_rngs={"params": True, "dropout": True}, length=2,
            )  # fmt: skip
            return nn.Dense(2)(scanned(block, xs, None)[0])

    module, xs = Deep(), jnp.ones((B, T, IN))
    variables = module.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, xs)
    weights = variables["params"]["block"]["weights"]
    assert weights["layers_0"]["w_hh"].shape == (2, H, 4 * H)
    assert jnp.abs(weights["layers_0"]["w_hh"][0] - weights["layers_0"]["w_hh"][1]).max() > 0
    ys = [module.apply(variables, xs, rngs={"dropout": jax.random.key(n)}) for n in (0, 0, 1)]
    same(ys[0], ys[1], 0)
    assert jnp.abs(ys[0] - ys[2]).max() > 0
    nested = nn.Sequential([Module(rnn.GRU(IN, H)), nn.Dense(2)])
    variables = nested.init(jax.random.key(0), xs)
    assert from_params(nested, variables)[0] == rnn.Stack(rnn.GRU(IN, H), rnn.Linear(H, 2))


@pytest.mark.slow
def test_bridge_of_a_classifier():
    model = rnn.tasks.Classifier(rnn.GRU(IN, H), 2, pooling="attention", dropout=0.5)
    module, xs = Module(model, deterministic=True), inputs(model.encoder)
    variables = module.init(jax.random.key(0), xs)
    expected = model.apply(from_params(module, variables)[1], xs.swapaxes(0, 1), lengths=jnp.asarray(LENGTHS))
    same(module.apply(variables, xs, seq_lengths=jnp.asarray(LENGTHS)), expected, 1e-6)


def test_refused_bridges():
    refuses("TypeError model: expected a cell or layer with init, initial_state and step, got int without …",
            lambda: Module(3))  # fmt: skip
    refuses("TypeError params: expected GRUParams(…), got tuple of 0; …", lambda: to_params(Module(rnn.GRU(3, 4)), ()))


def test_parameters_that_do_not_fit():
    module, xs = Module(rnn.Stack(rnn.Bidirectional(rnn.GRU(IN, H)), rnn.Linear(2 * H, 2))), jnp.ones((B, T, IN))
    params = to_params(module, random_params(module.model))
    layer = params["weights"]["layers_0"]
    del layer["forward"]["w_hh"]
    refuses("ValueError weights.layers_0.forward.w_hh: expected an array of shape [4, 12], got None; …",
            lambda: module.apply({"params": params}, xs))  # fmt: skip
    layer["forward"]["w_hh"] = jnp.ones(3)
    refuses("ValueError weights.layers_0.forward.w_hh: expected an array of shape [4, 12], got float32[3]; …",
            lambda: module.apply({"params": params}, xs))  # fmt: skip


@pytest.fixture
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        yield


@pytest.mark.slow
def test_bridge_trains_as_fit_does(standard_promotion):
    model = tagger(0.0)
    params = random_params(model)
    data = training_data(model)
    module = Module(model)
    state = TrainState.create(apply_fn=module.apply, params=to_params(module, params), tx=optax.adam(0.01))

    @jax.jit
    def train_step(state, batch):
        def loss(params):
            logits = state.apply_fn({"params": params}, batch["xs"].T, seq_lengths=batch["lengths"])
            return rnn.losses.cross_entropy(logits.swapaxes(0, 1), batch["targets"], lengths=batch["lengths"])

        value, gradients = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradients), value

    losses = []
    for batch in data:
        state, value = train_step(state, batch)
        losses.append(float(value))
    expected, trained = fitted(model, params, data)
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-5)
    assert losses[-1] < losses[0] - 0.1
    same(from_params(module, state.params)[1], trained, 1e-4)
