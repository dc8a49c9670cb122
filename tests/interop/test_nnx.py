"""Against Flax nnx: the same weights give the same values and gradients; what has no counterpart is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax_reference import IN, LENGTHS, H, V, check, fitted, inputs, same, same_bits, training_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refuses
from zoo import ZOO, Average, few, random_params, random_state
from zoo import inputs as zoo_inputs

import jaxrnn as rnn
from jaxrnn.interop.nnx import Module, from_module, from_state, to_module, to_state

ZEROS = nnx.initializers.zeros  # compiles faster than the defaults
CELLS = {
    "simple": nnx.SimpleCell,
    "lstm": nnx.LSTMCell,
    "optimized": nnx.OptimizedLSTMCell,
    "gru": nnx.GRUCell,
}


def filled(module, seed=0):
    """The module with random parameters, biases too."""
    rng = np.random.default_rng(seed)
    draw = lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype)  # noqa: E731
    nnx.update(module, jax.tree.map(draw, nnx.to_pure_dict(nnx.state(module, nnx.Param))))
    return module


def cell(kind, takes=IN, **options):
    if kind == "simple":
        options["dtype"] = options.get("param_dtype", jnp.float32)
    return CELLS[kind](takes, H, kernel_init=ZEROS, recurrent_kernel_init=ZEROS, rngs=nnx.Rngs(0), **options)


def both(kind, other, takes=IN, dtype=jnp.float32, **options):
    rnns = [nnx.RNN(cell(k, takes, param_dtype=dtype)) for k in (kind, other)]
    return nnx.Bidirectional(*rnns, **options)


def rich(dtype=jnp.float32):
    """Every kind of cell and layer in one module."""
    rngs = nnx.Rngs(0)
    return filled(
        nnx.Sequential(
            nnx.Embed(V, IN, param_dtype=dtype, embedding_init=ZEROS, rngs=rngs),
            both("gru", "lstm", dtype=dtype),
            nnx.Sequential(nnx.tanh, nnx.Dropout(0.5, deterministic=True, rngs=rngs)),
            nnx.RNN(cell("simple", 2 * H, activation_fn=nnx.relu, param_dtype=dtype), reverse=True, keep_order=True),
            both("optimized", "simple", H, dtype=dtype, merge_fn=jnp.add),
            nnx.Linear(H, 2, param_dtype=dtype, kernel_init=ZEROS, rngs=rngs),
            nnx.gelu,
        )
    )


def run(layer, xs, lengths=None):
    """The outputs of a module, all recurrent layers in which get the lengths."""
    if isinstance(layer, nnx.Sequential):
        for below in layer.layers:
            xs = run(below, xs, lengths)
        return xs
    return layer(xs, seq_lengths=lengths) if isinstance(layer, (nnx.RNN, nnx.Bidirectional)) else layer(xs)


def copy(state):
    """Other variables, which a trace may change."""
    return jax.tree.map(lambda x: x, state)


def check_module(module, tolerance=1e-5, lengths=LENGTHS, call=run):
    graph, state, rest = nnx.split(module, nnx.Param, ...)
    model, params = from_module(module)
    return check(
        model, params, lambda state, xs: call(nnx.merge(graph, state, copy(rest)), xs, lengths), state,
        lambda gradients: from_module(nnx.merge(graph, gradients, rest))[1], tolerance, lengths, candidate=False,
    )  # fmt: skip


# ---- values and gradients ----------------------------------------------------------------------------------------


def test_values_and_gradients():
    embed = nnx.Embed(V, IN, embedding_init=ZEROS, rngs=nnx.Rngs(0))
    linear = nnx.Linear(2 * H, 2, kernel_init=ZEROS, rngs=nnx.Rngs(0))
    check_module(filled(nnx.Sequential(embed, both("gru", "lstm"), nnx.tanh, linear)))


@pytest.mark.slow
def test_values_and_gradients_of_all_kinds(x64):
    module = rich("float64")
    check_module(module, 1e-10)
    assert str(from_module(module)[0]).replace(", dtype='float64'", "") == (
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
    float64 = {"param_dtype": jnp.float64}
    if callable(direction):
        module = both(kind, "gru", dtype=jnp.float64, merge_fn=direction, **options)
    else:
        module = nnx.RNN(cell(kind, **float64), reverse=direction == "reverse", keep_order=True, **options)

    def call(module, xs, lengths):
        ys = module(jnp.swapaxes(xs, 0, 1) if options["time_major"] else xs, seq_lengths=lengths)
        ys = ys[1] if options["return_carry"] else ys
        return jnp.swapaxes(ys, 0, 1) if options["time_major"] else ys

    check_module(filled(module), 1e-10, lengths, call)


@pytest.mark.slow
def test_carries():
    module = filled(both("lstm", "gru", return_carry=True))
    model, params = from_module(module)
    xs, carry = inputs(model), to_state(model, random_state(model))
    expected, _ = module(xs, initial_carry=carry, seq_lengths=LENGTHS)
    state = from_state(model, carry)
    final, _ = rnn.unroll(model, params, jnp.swapaxes(xs, 0, 1), state, lengths=jnp.asarray(LENGTHS))
    same(to_state(model, final), expected, 1e-5)
    same_bits(to_state(model, from_state(model, expected)), expected)
    stack = rnn.Stack(rnn.LSTM(IN, H), rnn.Dropout(0.1))
    state = random_state(stack)
    assert to_state(stack, state) == ((state[0].c, state[0].h), ())
    same_bits(from_state(stack, to_state(stack, state)), state)


# ---- round trips -------------------------------------------------------------------------------------------------


def test_nnx_to_jaxrnn_to_nnx():
    module = rich(jnp.bfloat16)
    model, params = from_module(module)
    again = to_module(model, params)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in module.layers]
    assert from_module(again)[0] == model
    same_bits(from_module(again)[1], params)
    for n in (0, 3, 5):  # an nnx.LSTMCell becomes an optimized one
        same_bits(*(nnx.to_pure_dict(nnx.state(m.layers[n], nnx.Param)) for m in (again, module)))


@pytest.mark.parametrize("merge", few(["concat", "sum", "mean", "product", "both"], ["mean"]))
def test_jaxrnn_to_nnx_to_jaxrnn(merge):
    model = rnn.Bidirectional(rnn.LSTM(IN, H, dtype="float16"), merge=merge)
    params = random_params(model)
    again, converted = from_module(to_module(model, params))
    assert again == model
    same_bits(converted, params)


@pytest.mark.slow
def test_cells_and_dropout_alone():
    for kind in CELLS:
        assert from_module(nnx.RNN(cell(kind)))[0] == from_module(cell(kind))[0]
    module = to_module(rnn.Stack(rnn.Dropout(0.5)), ((),), rngs=nnx.Rngs(dropout=1))
    assert module.layers[0].rngs is not None
    assert from_module(module)[0] == rnn.Stack(rnn.Dropout(0.5))


# ---- refusals ----------------------------------------------------------------------------------------------------


class OwnRNN(nnx.RNN):
    pass


def twice():
    layer = nnx.RNN(cell("gru"))
    return nnx.Sequential(layer, layer)


def twice_the_cell():
    shared = cell("gru", H)
    return nnx.Sequential(nnx.RNN(shared), nnx.RNN(shared))


class Own(nnx.Module):
    def __init__(self):
        self.size, self.embed = IN, nnx.Embed(V, IN, embedding_init=ZEROS, rngs=nnx.Rngs(0))
        self.rnns = getattr(nnx, "List", list)([nnx.RNN(cell("gru"))])


def setting(module, **attributes):
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def flip(x):
    return x[:, ::-1]


FROM = {
    "not a module": (lambda: 3, "TypeError module: expected a module of nnx, got int 3"),
    "kind": (
        lambda: nnx.BatchNorm(3, rngs=nnx.Rngs(0)),
        "TypeError module: expected a layer, or a cell among …, got BatchNorm; jaxrnn has no counterpart of it",
    ),
    "subclass": (
        lambda: OwnRNN(cell("gru")),
        "TypeError module: expected a layer, or …, got OwnRNN; from_module(nnx.Sequential(module.cell)) converts …",
    ),
    "own": (
        Own,
        "TypeError module: expected …, got Own; from_module(nnx.Sequential(module.embed, *module.rnns)) converts its "
        "parts: give them in the order of its call",
    ),
    "cell": (lambda: nnx.RNN(nnx.RNN(cell("gru"))), "TypeError module.cell: expected …, got RNN; jaxrnn has no …"),
    "gate_fn": (
        lambda: nnx.RNN(cell("lstm", gate_fn=nnx.hard_sigmoid)),
        "ValueError module.cell.gate_fn: expected sigmoid, got hard_sigmoid; jaxrnn has no counterpart of it",
    ),
    "activation_fn": (
        lambda: cell("gru", activation_fn=nnx.relu),
        "ValueError module.activation_fn: expected tanh, got relu; jaxrnn has no other there",
    ),
    "carry_init": (
        lambda: setting(cell("gru"), carry_init=nnx.initializers.ones),
        "ValueError module.carry_init: expected None, got ones; jaxrnn has no …",
    ),
    "residual": (lambda: cell("simple", residual=True), "ValueError module.residual: expected False, got True; …"),
    "dtype": (
        lambda: cell("gru", dtype=jnp.bfloat16),
        "ValueError module.dtype: expected None or float32, that of the parameters, got bfloat16; rnn.Mixed…",
    ),
    "keep_order": (
        lambda: nnx.RNN(cell("gru"), reverse=True),
        "ValueError module.keep_order: expected True with reverse=True, got False; outputs of jaxrnn stay …",
    ),
    "merge_fn": (
        lambda: both("gru", "gru", merge_fn=jnp.maximum),
        "ValueError module.merge_fn: expected the concatenation of Flax, jnp.add or jnp.multiply, got maximum; …",
    ),
    "direction": (
        lambda: nnx.Bidirectional(nnx.Sequential(), nnx.RNN(cell("gru"))),
        "ValueError module: expected parameters 'forward_rnn', 'backward_rnn', got none called 'forward_rnn'",
    ),
    "directions": (
        lambda: nnx.Bidirectional(both("gru", "gru"), nnx.RNN(cell("gru"))),
        "TypeError module.forward_rnn: expected an RNN, got Bidirectional",
    ),
    "function": (
        lambda: nnx.Sequential(flip),
        "ValueError module.layers[0]: expected a function of each vector …, got …; convert …",
    ),
    "empty": (nnx.Sequential, "ValueError layers: expected at least one cell or layer, got none; …"),
    "precision": (
        lambda: nnx.Linear(3, 2, precision="highest", rngs=nnx.Rngs(0)),
        "ValueError module.precision: expected None, got 'highest'; …",
    ),
    "broadcast_dims": (
        lambda: nnx.Dropout(0.5, broadcast_dims=(0,)),
        "ValueError module.broadcast_dims: expected (), got (0,); …",
    ),
    "time_major": (
        lambda: nnx.Sequential(nnx.RNN(cell("gru")), nnx.RNN(cell("gru", H), time_major=True)),
        "ValueError module.time_major: expected the same in all layers, got True and False",
    ),
    "return_carry": (
        lambda: nnx.Sequential(nnx.RNN(cell("gru"), return_carry=True), nnx.relu),
        "ValueError module.layers[0].return_carry: expected False below another layer, got True",
    ),
    "state_axes": (
        lambda: nnx.RNN(cell("gru"), state_axes={nnx.Param: 0}),
        "ValueError module.state_axes: expected {…, got …; jaxrnn has no counterpart of it",
    ),
    "used twice": (
        twice,
        "ValueError module.layers[1]: expected parameters 'cell', got none called 'cell'; it shares those of "
        "module.layers[0], layers of jaxrnn do not",
    ),
    "cell used twice": (
        twice_the_cell,
        "ValueError module.layers[1]: expected parameters 'cell', got none called 'cell'; it shares those of "
        "module.layers[0].cell, layers of jaxrnn do not",
    ),
    "only shapes": (
        lambda: nnx.eval_shape(lambda: cell("gru")),
        "ValueError module.dense_i.kernel: expected concrete arrays, got float32[3, 12] without values; only a …",
    ),
}


@pytest.mark.parametrize("name", FROM)
def test_refused_modules(name):
    build, message = FROM[name]
    module = build()
    refuses(message, lambda: from_module(module))


TO = {
    "kind": (
        rnn.Residual(rnn.GRU(3, 3)),
        "TypeError model: expected a VanillaRNN, LSTM or GRU, got Residual(GRU(3, 3)); nnx has no counterpart of it",
    ),
    "deep": (
        rnn.Reverse(rnn.Stack(rnn.LSTM(3, 3))),
        "TypeError model.layer: expected a VanillaRNN, LSTM or GRU, got Stack(LSTM(3, 3)); nnx has no …",
    ),
    "peepholes": (
        rnn.Stack(rnn.LSTM(3, 3, peepholes="f")),
        "ValueError model.layers[0].peepholes: expected '', got 'f'; the LSTM of Flax always has a bias, and neither …",
    ),
    "reset": (
        rnn.Bidirectional(rnn.GRU(3, 3)),
        "ValueError model.forward.reset_after: expected True, got False; GRUCell always has a bias and resets after …",
    ),
    "bias": (
        rnn.VanillaRNN(3, 3, use_bias=False),
        "ValueError model.use_bias: expected True, got False; SimpleCell always has a bias, and one of 0 …",
    ),
    "bias of the state": (
        rnn.GRU(3, 3, reset_after=True),
        "ValueError model: params.b_hh: expected 0 for the candidate, got up to …; flax.nnx.GRUCell has no …",
    ),
    "MGU": (rnn.MGU(3, 4), "TypeError model: expected a VanillaRNN, LSTM or GRU, got MGU(3, 4); nnx has no …"),
    "function": (
        rnn.Activation("relu"),
        "ValueError model: expected a Stack around an Activation, got Activation('relu'); nnx has functions in …",
    ),
}


@pytest.mark.parametrize("name", TO)
def test_refused_models(name):
    model, message = TO[name]
    params = random_params(model)
    refuses(message, lambda: to_module(model, params))


def test_refused_states():
    model = rnn.LSTM(3, 4)
    refuses(
        "TypeError state: expected tuple of 2, got float32[2, 4]; (c, h) is the carry of an LSTM, …",
        lambda: from_state(model, np.zeros((2, 4), "float32")),
    )
    refuses(
        "TypeError model: expected a VanillaRNN, LSTM, GRU, MGU or ConvLSTM, got Average(…; Flax has no counterpart …",
        lambda: to_state(Average(3), random_state(Average(3))),
    )


def test_traced_parameters_refused():
    model = rnn.Linear(3, 2)
    refuses("ValueError params: expected concrete arrays, got a traced float32[…]; call it outside of jax.jit",
            lambda: jax.jit(lambda params: to_module(model, params))(random_params(model)))  # fmt: skip


@pytest.mark.slow
def test_gradients():
    model = rnn.Stack(rnn.Linear(IN, IN), rnn.Dropout(0.0), rnn.Linear(IN, 2))
    params = random_params(model)
    xs = jnp.ones((2, 3, IN))
    gradients = nnx.grad(lambda module: (module(xs) ** 2).sum())(to_module(model, params))
    graph, _, rest = nnx.split(to_module(model, params), nnx.Param, ...)
    again, gradients = from_module(nnx.merge(graph, gradients, rest))
    assert again == model
    same(gradients, jax.grad(lambda params: (rnn.unroll(model, params, xs)[1] ** 2).sum())(params), 1e-5)


# ---- the bridge --------------------------------------------------------------------------------------------------


def tagger(rate):
    return rnn.Stack(rnn.Embedding(V, IN), rnn.Bidirectional(rnn.LSTM(IN, H)), rnn.Dropout(rate), rnn.Linear(2 * H, 2))


def test_bridge():
    model = tagger(0.5)
    params = random_params(model)
    module = Module(model, params, rngs=nnx.Rngs(dropout=1))
    xs = inputs(model)
    same_bits(module.params, params)
    same_bits(from_module(module)[1], params)
    names = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(module, nnx.Param))]
    assert names == [
        "weights.layers_0.w",
        *[f"weights.layers_1.{way}.{w}" for way in ("backward", "forward") for w in ("b_h", "w_hh", "w_xh")],
        "weights.layers_3.b",
        "weights.layers_3.w",
    ]
    assert "w_xh" in repr(module)

    @nnx.jit(static_argnames="return_carry")
    def call(module, xs, return_carry=False):
        return module(xs, seq_lengths=jnp.asarray(LENGTHS), return_carry=return_carry)

    expected, ys = rnn.unroll(model, params, xs.T, lengths=jnp.asarray(LENGTHS))
    module.eval()
    carry, outputs = call(module, xs, return_carry=True)
    same((carry, outputs), (expected, ys.swapaxes(0, 1)), 1e-6)
    module.train()
    first, second = call(module, xs), call(module, xs)
    assert jnp.abs(first - outputs).max() > 0.1  # dropout acts
    assert jnp.abs(first - second).max() > 0.1  # anew in each call
    if hasattr(nnx, "view"):  # from Flax 0.12 on
        assert nnx.view(module, deterministic=True).deterministic


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ZOO if name != "bidirectional-unlike"])
def test_bridge_of_every_model(name):
    model = ZOO[name].build("float32")
    params = random_params(model)
    module = Module(model, params)
    module.eval()
    xs = zoo_inputs(model, dtype="float32")
    same_bits(module.params, params)
    state = random_state(model, (3,))
    expected = rnn.unroll(model, params, xs, state)
    same(module(xs, time_major=True, initial_carry=state, return_carry=True), expected, 1e-6)
    graph, weights = nnx.split(Module(model, params, return_carry=True, time_major=True))
    same(nnx.merge(graph, weights).params, params, 0)


@pytest.mark.slow
def test_bridge_in_a_sequential():
    module = nnx.Sequential(Module(rnn.GRU(IN, H), rngs=nnx.Rngs(0)), nnx.Linear(H, 2, rngs=nnx.Rngs(1)))
    model, params = from_module(module)
    assert model == rnn.Stack(rnn.GRU(IN, H), rnn.Linear(H, 2))
    assert params[0].w_hh is not None


@pytest.mark.slow
def test_bridge_of_a_classifier():
    model = rnn.tasks.Classifier(rnn.GRU(IN, H), 2, pooling="attention", dropout=0.5)
    module = Module(model, rngs=nnx.Rngs(0))
    xs = inputs(model.encoder)
    expected = model.apply(module.params, xs.swapaxes(0, 1), lengths=jnp.asarray(LENGTHS))
    same(module(xs, seq_lengths=jnp.asarray(LENGTHS), deterministic=True), expected, 1e-6)
    assert jnp.abs(module(xs) - module(xs)).max() > 0
    refuses("ValueError initial_carry: expected None, got …; a Classifier keeps no state",
            lambda: module(xs, initial_carry=jnp.zeros(3)))  # fmt: skip


def test_refused_bridges():
    refuses("TypeError rngs: expected …, got …; Module(model, rngs=nnx.Rngs(0)) draws …", lambda: Module(rnn.GRU(3, 4)))
    refuses("TypeError model: expected a cell or layer with init, initial_state and step, got int without …",
            lambda: Module(3, rngs=nnx.Rngs(0)))  # fmt: skip
    refuses("TypeError params: expected GRUParams(…), got tuple of 0; …", lambda: Module(rnn.GRU(3, 4), ()))


def test_streams():
    model, params = rnn.Dropout(0.5), ()
    xs, wants = jnp.ones((2, 3, IN)), "expected a stream 'dropout', got only params; nnx.Rngs(0, dropout=1) has it"
    refuses(f"ValueError rngs: {wants}", lambda: Module(model, rngs=nnx.Rngs(params=0)))
    refuses("ValueError rngs: expected a stream 'params', got only dropout; …",
            lambda: Module(model, rngs=nnx.Rngs(dropout=0)))  # fmt: skip
    refuses("TypeError rngs: expected a Rngs, got int 0; nnx.Rngs(0) makes one", lambda: Module(model, rngs=0))
    assert (Module(model, rngs=nnx.Rngs(0).default)(xs) == 0).any()
    module = Module(model, params)
    refuses("TypeError rngs: expected a value, got None; dropout draws from them; module.eval() …", lambda: module(xs))
    refuses(f"ValueError rngs: {wants}", lambda: module(xs, rngs=nnx.Rngs(params=0)))
    assert (module(xs, rngs=nnx.Rngs(0)) == 0).any()
    assert (module(xs, deterministic=True) == 1).all()


def test_parameters_are_copied():
    params = rnn.layers.LinearParams(jnp.ones((IN, 1)), jnp.ones(1))
    module = Module(rnn.Linear(IN, 1), params)
    jax.tree.map(lambda x: x.delete(), nnx.to_pure_dict(nnx.state(module)))  # as donation does
    assert params.w.sum() == IN


class Named(Average):
    """A cell whose parameters have names that differ in punctuation."""

    def init(self, key):
        return {"a": jnp.array(0.0), "a'": jnp.array(1.0)}


def test_names_are_unique():
    module = Module(Named(IN), rngs=nnx.Rngs(0))
    assert module.params == {"a": 0, "a'": 1}


CALLS = {
    "TypeError inputs: expected an array [..., T, I], got int 3; …": {"inputs": 3},
    f"ValueError inputs: expected [..., T, I], 2 axes or more, got float32[{IN}]; …": {"inputs": jnp.ones(IN)},
    f"ValueError inputs: expected last axis {IN} (LSTM.input_size), got float32[2, 5, 9]; …":
        {"inputs": jnp.ones((2, 5, 9))},
    "TypeError initial_carry: expected LSTMState(h, c), got float32[2]; …": {"initial_carry": jnp.ones(2)},
    f"ValueError initial_carry.c: expected shape [2, {H}], got float32[2, 9]; …":
        {"initial_carry": (jnp.ones((2, H)), jnp.ones((2, 9)))},
    "ValueError seq_lengths: expected shape [2], the batch axes of the inputs, got int32[3]; …":
        {"seq_lengths": np.ones(3, "int32")},
    "ValueError seq_lengths: expected values in [0, 5], T = 5, got 6 to 6; …": {"seq_lengths": np.array([6, 6])},
}  # fmt: skip


@pytest.mark.parametrize("text", CALLS)
@pytest.mark.slow
def test_errors_name_what_was_given(text):
    module = Module(rnn.LSTM(IN, H), rngs=nnx.Rngs(0))
    arguments = {"inputs": jnp.ones((2, 5, IN))} | CALLS[text]
    refuses(text, lambda: module(arguments.pop("inputs"), **arguments))


def test_token_ids_are_checked_under_their_name():
    module, ids = Module(rnn.Embedding(V, IN), rngs=nnx.Rngs(0)), jnp.array([[1, 2, V]])
    refuses(f"ValueError inputs: expected token ids in [0, {V}), got values from 1 to {V}; …", lambda: module(ids))
    assert module(ids, seq_lengths=jnp.array([2])).shape == (1, 3, IN)  # padding may be anything


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Orbax has its own
def test_bridge_in_a_checkpoint(tmp_path):
    checkpoint = pytest.importorskip("orbax.checkpoint")
    module, other = (Module(tagger(0.5), rngs=nnx.Rngs(seed)) for seed in (0, 1))
    with checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", nnx.to_pure_dict(nnx.state(module, nnx.Param)))
        checkpointer.wait_until_finished()
        nnx.update(other, checkpointer.restore(tmp_path / "state"))
    same_bits(other.params, module.params)


@pytest.fixture
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        yield


@pytest.mark.slow
def test_bridge_trains_as_fit_does(standard_promotion):
    model = tagger(0.0)
    params = random_params(model)
    data = training_data(model)
    module = Module(model, params)
    optimizer = nnx.Optimizer(module, optax.adam(0.01), wrt=nnx.Param)

    @nnx.jit
    def train_step(module, optimizer, batch):
        def loss(module):
            logits = module(batch["xs"].T, seq_lengths=batch["lengths"])
            return rnn.losses.cross_entropy(logits.swapaxes(0, 1), batch["targets"], lengths=batch["lengths"])

        value, gradients = nnx.value_and_grad(loss)(module)
        optimizer.update(module, gradients)
        return value

    losses = [float(train_step(module, optimizer, batch)) for batch in data]
    expected, trained = fitted(model, params, data)
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-5)
    assert losses[-1] < losses[0] - 0.1
    same(module.params, trained, 1e-4)
