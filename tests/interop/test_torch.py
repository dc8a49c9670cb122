"""Against PyTorch: the same weights give the same values and gradients; models without a counterpart are refused."""

import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import few

import jaxrnn as rnn
from jaxrnn.interop.torch import from_module, from_state, from_state_dict, to_state, to_state_dict

torch = pytest.importorskip("torch")
nn = torch.nn
torch.set_num_threads(1)

T, B, IN, H = 6, 3, 4, 5
LENGTHS = [4, 6, 1]
MODULES = {
    "tanh": lambda *sizes, **kw: nn.RNN(*sizes, nonlinearity="tanh", **kw),
    "relu": lambda *sizes, **kw: nn.RNN(*sizes, nonlinearity="relu", **kw),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}
each_kind = pytest.mark.parametrize("kind", MODULES)
few_kinds = pytest.mark.parametrize("kind", few(list(MODULES), ["gru"]))
each_depth = pytest.mark.parametrize("layers", [1, 2, 3])
each_direction = pytest.mark.parametrize("bidirectional", [False, True], ids=["one-direction", "bidirectional"])
each_bias = pytest.mark.parametrize("bias", [False, True], ids=["no-bias", "bias"])


def make(kind, layers=1, bidirectional=False, bias=True, dtype=torch.float32, **kw):
    torch.manual_seed(0)
    module = MODULES[kind](IN, H, layers, bidirectional=bidirectional, bias=bias, dtype=dtype, **kw)
    for p in module.parameters():
        nn.init.normal_(p, std=0.3)
    return module


def cell(kind, input_size=IN, **kw):
    cells = {"lstm": rnn.LSTM, "gru": rnn.GRU}
    if kind in cells:
        return cells[kind](input_size, H, **({"reset_after": True} if kind == "gru" else {}), **kw)
    return rnn.VanillaRNN(input_size, H, activation=kind, **kw)


def deep(kind, layers, bidirectional, **kw):
    """A jaxrnn model in the form that from_state_dict returns."""
    widths = [IN] + [H * (1 + bidirectional)] * (layers - 1)
    parts = [rnn.Bidirectional(cell(kind, w, **kw)) if bidirectional else cell(kind, w, **kw) for w in widths]
    return rnn.Stack(*parts) if layers > 1 else parts[0]


def data(kind, module, dtype="float32"):
    """Inputs, initial state in PyTorch's layout, and weights of the outputs and final states in the loss."""
    rng = np.random.default_rng(0)
    D = 2 if module.bidirectional else 1
    ends = [(D * module.num_layers, B, H)] * (2 if kind == "lstm" else 1)
    xs, *h = (rng.normal(size=shape).astype(dtype) for shape in ((T, B, IN), *ends))
    weights = [rng.normal(0, 0.3, shape).astype(dtype) for shape in ((T, B, D * H), *ends)]
    return xs, h, weights


class Run(NamedTuple):
    """Values and gradients to be compared: arrays by name."""

    values: dict
    gradients: dict


def run_torch(kind, module, xs, h, weights, lengths):
    xs, *h = (torch.tensor(a, requires_grad=True) for a in (xs, *h))
    state = tuple(h) if kind == "lstm" else h[0]
    if lengths:
        packed = nn.utils.rnn.pack_padded_sequence(xs, torch.tensor(lengths), enforce_sorted=False)
        ys, final = module(packed, state)
        ys, _ = nn.utils.rnn.pad_packed_sequence(ys, total_length=T)
    else:
        ys, final = module(xs, state)
    outputs = [ys, *(final if kind == "lstm" else [final])]
    sum((y * torch.tensor(w)).sum() for y, w in zip(outputs, weights, strict=True)).backward()
    gradients = {name: p.grad for name, p in module.named_parameters()}
    gradients |= {"xs": xs.grad} | {f"h[{i}]": part.grad for i, part in enumerate(h)}
    return Run({f"outputs[{i}]": y.detach() for i, y in enumerate(outputs)}, gradients)


def run_jaxrnn(kind, module, xs, h, weights, lengths):
    model, params = from_module(module)
    pair_or_array = lambda parts: parts if kind == "lstm" else parts[0]  # noqa: E731
    state, w_final = (from_state(model, pair_or_array(parts)) for parts in (h, weights[1:]))
    w_ys = weights[0]

    def loss(params, xs, state):
        final, ys = rnn.unroll(model, params, xs, state, lengths=None if lengths is None else jnp.array(lengths))
        terms = jax.tree.map(lambda y, w: (y * w).sum(), (ys, final), (w_ys, w_final))
        return sum(jax.tree.leaves(terms)), (final, ys)

    value_and_grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    (_, (final, ys)), (d_params, d_xs, d_state) = value_and_grad(params, jnp.array(xs), state)
    as_list = lambda state: state if kind == "lstm" else [state]  # noqa: E731
    gradients = to_state_dict(model, d_params)
    if kind != "gru":  # the gradients of the two summed biases are equal
        biases = {name: g for name, g in gradients.items() if name.startswith("bias_ih")}
        gradients |= {name.replace("_ih", "_hh"): g for name, g in biases.items()}
    gradients |= {"xs": d_xs}
    gradients |= {f"h[{i}]": part for i, part in enumerate(as_list(to_state(model, d_state)))}
    outputs = [ys, *as_list(to_state(model, final))]
    return Run({f"outputs[{i}]": y for i, y in enumerate(outputs)}, gradients)


def check_against_torch(kind, module, tolerance, dtype="float32", lengths=None):
    xs, h, weights = data(kind, module, dtype)
    ours = run_jaxrnn(kind, module, xs, h, weights, lengths)
    theirs = run_torch(kind, module, xs, h, weights, lengths)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert str(np.asarray(a[name]).dtype) == dtype
            np.testing.assert_allclose(np.asarray(a[name]), b[name].numpy(), rtol=0, atol=tolerance, err_msg=name)


# ---- values and gradients ----------------------------------------------------------------------------------------


SHAPE = (3, True, True)  # layers, bias, bidirectional
OTHERS = [
    (1, False, False),
    (1, True, False),
    (1, False, True),
    (2, False, False),
    (1, True, True),
    (2, False, True),
    (3, True, False),
]


@few_kinds
@pytest.mark.parametrize(
    ("layers", "bias", "bidirectional"), [SHAPE, *(pytest.param(*shape, marks=pytest.mark.slow) for shape in OTHERS)]
)
def test_values_and_gradients(kind, layers, bidirectional, bias):
    check_against_torch(kind, make(kind, layers, bidirectional, bias), 1e-5)


@few_kinds
@pytest.mark.parametrize("bidirectional", [pytest.param(False, marks=pytest.mark.slow), True])
def test_values_and_gradients_with_lengths(kind, bidirectional, optimised):
    check_against_torch(kind, make(kind, 2, bidirectional), 1e-5, lengths=LENGTHS)


@pytest.mark.slow  # a whole model is compared in test_torch_modules.py
@each_kind
def test_values_and_gradients_in_float64(kind, x64):
    check_against_torch(kind, make(kind, 2, True, dtype=torch.float64), 1e-10, "float64", LENGTHS)


@pytest.mark.parametrize(
    "torch_cell",
    [
        nn.RNNCell(IN, H, nonlinearity="relu"),
        nn.RNNCell(IN, H, bias=False),
        nn.LSTMCell(IN, H),
        nn.GRUCell(IN, H),
    ],
    ids=str,
)
def test_cells(torch_cell):
    model, params = from_module(torch_cell)
    x, *h = (torch.randn(B, n, generator=torch.Generator().manual_seed(0)) for n in (IN, H, H))
    pair = isinstance(torch_cell, nn.LSTMCell)
    with torch.no_grad():
        expected = torch_cell(x, tuple(h) if pair else h[0])
    state = from_state(model, [part[None] for part in h] if pair else h[0][None])
    state, y = model.step(params, state, jnp.array(x.numpy()))
    for ours, theirs in zip(*((state, expected) if pair else ([state], [expected])), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)
    np.testing.assert_array_equal(y, jax.tree.leaves(state)[0])


# ---- round trips -------------------------------------------------------------------------------------------------


@each_kind
@each_depth
@each_direction
@each_bias
def test_torch_to_jaxrnn_to_torch(kind, layers, bidirectional, bias):
    before = make(kind, layers, bidirectional, bias).state_dict()
    module = MODULES[kind](IN, H, layers, bidirectional=bidirectional, bias=bias)
    nonlinearity = kind if kind in ("tanh", "relu") else "tanh"
    after = to_state_dict(*from_state_dict(before, nonlinearity=nonlinearity))
    module.load_state_dict(after)  # strict: the names and shapes are PyTorch's
    assert list(after) == list(before)
    for name in before:
        other = name.replace("_ih", "_hh")
        if kind == "gru" or name.startswith("weight"):
            assert torch.equal(after[name], before[name]), name
        elif name.startswith("bias_ih"):
            assert torch.equal(after[name], before[name] + before[other]), name
            assert not after[other].any()


@each_kind
@each_depth
@each_direction
@each_bias
def test_jaxrnn_to_torch_to_jaxrnn(kind, layers, bidirectional, bias):
    model = deep(kind, layers, bidirectional, use_bias=bias, b_h_init="normal")
    params = model.init(jax.random.key(0))
    module = MODULES[kind](IN, H, layers, bidirectional=bidirectional, bias=bias)
    module.load_state_dict(to_state_dict(model, params))
    again, params_again = from_module(module)
    assert again == deep(
        kind, layers, bidirectional, use_bias=bias
    )  # without the initializers, which a state dict does not contain
    jax.tree.map(np.testing.assert_array_equal, params_again, params)


@each_kind
@each_direction
def test_state_round_trip(kind, bidirectional):
    model = deep(kind, 3, bidirectional)
    leaves, tree = jax.tree.flatten(model.initial_state((B,)))
    state = jax.tree.unflatten(tree, list(jax.random.normal(jax.random.key(0), (len(leaves), B, H))))
    hidden = to_state(model, state)
    h_n = hidden[0] if kind == "lstm" else hidden
    assert h_n.shape == (3 * (1 + bidirectional), B, H)
    jax.tree.map(np.testing.assert_array_equal, from_state(model, hidden), state)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_dtype_is_kept(kind, dtype):
    before = make(kind, 2, dtype=getattr(torch, dtype)).state_dict()
    model, params = from_state_dict(before)
    assert {x.dtype.name for x in jax.tree.leaves((params, model.initial_state()))} == {dtype}
    after = to_state_dict(model, params)
    for name in before:
        assert after[name].dtype == before[name].dtype
        assert (kind == "lstm" and name.startswith("bias")) or torch.equal(after[name], before[name])


def test_float64_is_kept(x64):
    _, params = from_module(make("gru", dtype=torch.float64))
    assert {x.dtype.name for x in jax.tree.leaves(params)} == {"float64"}


def test_conversion_copies():
    module = make("tanh", bias=False)
    model, params = from_module(module)
    before = np.array(params.w_xh)
    state_dict = to_state_dict(model, params)
    with torch.no_grad():
        module.weight_ih_l0.zero_()
        state_dict["weight_ih_l0"].zero_()
    np.testing.assert_array_equal(params.w_xh, before)


# ---- the converted model -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("tanh", {}, rnn.VanillaRNN(IN, H)),
        ("relu", {"bias": False}, rnn.VanillaRNN(IN, H, activation="relu", use_bias=False)),
        ("lstm", {"bidirectional": True}, rnn.Bidirectional(rnn.LSTM(IN, H))),
        ("lstm", {"layers": 2, "dropout": 0.5}, rnn.Stack(rnn.LSTM(IN, H), rnn.Dropout(0.5), rnn.LSTM(H, H))),
        ("gru", {"layers": 2, "batch_first": True},
         rnn.Stack(rnn.GRU(IN, H, reset_after=True), rnn.GRU(H, H, reset_after=True))),
    ],
)  # fmt: skip
def test_model(kind, settings, expected):
    assert from_module(make(kind, **settings))[0] == expected


def test_dropout_is_ignored_in_state_dicts():
    model = rnn.Stack(rnn.LSTM(IN, H), rnn.Dropout(0.5), rnn.LSTM(H, H))
    params = model.init(jax.random.key(0))
    module = nn.LSTM(IN, H, 2, dropout=0.5)
    module.load_state_dict(to_state_dict(model, params))
    again, params_again = from_module(module)
    assert again == model
    jax.tree.map(np.testing.assert_array_equal, params_again, params)
    state = model.initial_state((B,))
    jax.tree.map(np.testing.assert_array_equal, from_state(model, to_state(model, state)), state)


def test_nested_stacks_are_one_module():
    model = rnn.Stack(rnn.Stack(rnn.LSTM(IN, H)), rnn.Stack(rnn.Dropout(0.1), rnn.LSTM(H, H)))
    params = model.init(jax.random.key(0))
    flat = rnn.Stack(rnn.LSTM(IN, H), rnn.LSTM(H, H))
    expected = to_state_dict(flat, (params[0][0], params[1][1]))
    state_dict = to_state_dict(model, params)
    assert all(torch.equal(state_dict[name], expected[name]) for name in expected)


def test_explicit_backward_cell():
    model = rnn.Bidirectional(rnn.LSTM(IN, H), rnn.LSTM(IN, H, forget_bias=0.0))
    nn.LSTM(IN, H, bidirectional=True).load_state_dict(to_state_dict(model, model.init(jax.random.key(0))))


def test_prefix_selects_one_module():
    module = nn.ModuleDict({"encoder": nn.ModuleDict({"rnn": make("gru", 2)}), "head": nn.Linear(H, 2)})
    model, params = from_state_dict(module.state_dict(), prefix="encoder.rnn.")
    expected_model, expected = from_module(make("gru", 2))
    assert model == expected_model
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_values_may_be_numpy_arrays():
    module = make("lstm")
    arrays = {name: value.numpy() for name, value in module.state_dict().items()}
    jax.tree.map(np.testing.assert_array_equal, from_state_dict(arrays), from_module(module))


# ---- refusals ----------------------------------------------------------------------------------------------------


class UserCell:
    """A user-defined cell with the methods of VanillaRNN."""

    init, initial_state, step, input_size = rnn.VanillaRNN.init, rnn.VanillaRNN.initial_state, rnn.VanillaRNN.step, IN


class OwnLSTM(rnn.LSTM):
    """A subclass, whose step may be different."""


LSTM, GRU, RNN = rnn.LSTM(IN, H), rnn.GRU(IN, H, reset_after=True), rnn.VanillaRNN(IN, H)
MODELS = {
    "peepholes": (rnn.LSTM(IN, H, peepholes="o"), ValueError, r"model\.peepholes: expected '', got 'o'; nn.LSTM has"),
    "coupled": (rnn.LSTM(IN, H, coupled=True), ValueError, r"model\.coupled: expected False, got True; nn.LSTM has"),
    "reset before": (rnn.GRU(IN, H), ValueError, r"model\.reset_after: expected True, got False; nn.GRU resets after"),
    "sigmoid": (rnn.VanillaRNN(IN, H, activation="sigmoid"), ValueError,
                r"model\.activation: expected 'tanh' or 'relu', got 'sigmoid'"),
    "callable": (rnn.VanillaRNN(IN, H, activation=jnp.tanh), ValueError, r"model\.activation: .* by name"),
    "kinds": (rnn.Stack(LSTM, rnn.VanillaRNN(H, H)), TypeError,
              r"model\.layers\[1\]: expected LSTM, the kind of model\.layers\[0\], got VanillaRNN\(5, 5\)"),
    "hidden sizes": (rnn.Stack(LSTM, rnn.LSTM(H, 7)), ValueError,
                     r"model\.layers\[1\]\.hidden_size: expected 5, that of model\.layers\[0\], got 7"),
    "biases": (rnn.Stack(LSTM, rnn.LSTM(H, H, use_bias=False)), ValueError,
               r"model\.layers\[1\]\.use_bias: expected True"),
    "activations": (rnn.Stack(RNN, rnn.VanillaRNN(H, H, activation="relu")), ValueError,
                    r"model\.layers\[1\]\.activation: expected 'tanh', that of"),
    "directions": (rnn.Stack(rnn.Bidirectional(LSTM), rnn.LSTM(2 * H, H)), ValueError,
                   r"model\.layers\[1\]: expected as many directions as model\.layers\[0\]"),
    "backward kind": (rnn.Bidirectional(LSTM, GRU), TypeError,
                      r"model\.backward: expected LSTM, the kind of model\.forward, got GRU"),
    "backward size": (rnn.Bidirectional(LSTM, rnn.LSTM(IN, 7)), ValueError, r"model\.backward\.hidden_size: exp"),
    "deep in one direction": (rnn.Bidirectional(rnn.Stack(LSTM, rnn.LSTM(H, H))), TypeError, r"model\.forward: "),
    "merge": (rnn.Bidirectional(LSTM, merge="sum"), ValueError, r"model\.merge: expected 'concat', got 'sum'"),
    "linear": (rnn.Stack(LSTM, rnn.Linear(H, 2)), TypeError, r"model\.layers\[1\]: expected a VanillaRNN, LSTM or GRU"),
    "embedding": (rnn.Stack(rnn.Embedding(9, IN), LSTM), TypeError, r"model\.layers\[0\]: .* got Embedding\(9, 4\)"),
    "residual": (rnn.Residual(rnn.LSTM(H, H)), TypeError, r"model: expected a VanillaRNN, LSTM or GRU.*Residual"),
    "tied": (rnn.Tied(rnn.Embedding(9, H), rnn.LSTM(H, H)), TypeError, r"model: expected .*, got Tied"),
    "user cell": (UserCell(), TypeError, r"model: expected .*UserCell"),
    "subclass": (OwnLSTM(IN, H), TypeError, r"model: expected .* OwnLSTM"),
    "no model": ("LSTM", TypeError, r"model: expected a cell or layer"),
    "dropout below": (rnn.Stack(rnn.Dropout(0.1), LSTM), ValueError, r"model\.layers\[0\]: expected dropout only"),
    "dropout above": (rnn.Stack(LSTM, rnn.Dropout(0.1)), ValueError, r"model\.layers\[1\]: expected dropout only"),
}  # fmt: skip


SEVERAL = ("kinds", "hidden sizes", "biases", "activations", "directions", "linear", "embedding", "dropout below",
           "dropout above")  # not one module: to_module makes several, each with its state  # fmt: skip


@pytest.mark.parametrize("convert", [to_state_dict, to_state, from_state])
@pytest.mark.parametrize("name", MODELS)
def test_model_refused(convert, name):
    model, error, message = MODELS[name]
    if name in SEVERAL and convert is not to_state_dict:
        message, error = "state: expected", (TypeError, ValueError)
    with pytest.raises(error, match=message):
        convert(model, None)


def test_parameters_refused():
    with pytest.raises(ValueError, match=r"params\.w_xh: expected shape \[4, 20\], got float32\[3, 20\]"):
        to_state_dict(LSTM, rnn.LSTM(3, H).init(jax.random.key(0)))
    with pytest.raises(TypeError, match=r"params: expected LSTMParams"):
        to_state_dict(LSTM, make("lstm").state_dict())


STATE_DICT = make("lstm", 2).state_dict()


def without(*names):
    return {name: value for name, value in STATE_DICT.items() if name not in names}


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


STATE_DICTS = {
    "no weight": (without("weight_hh_l1"), {}, ValueError, r"got none called 'weight_hh_l1'"),
    "no layer": ({n: v for n, v in STATE_DICT.items() if "_l1" in n}, {}, ValueError, r"none called 'weight_ih_l0'"),
    "no bias in one layer": (without("bias_ih_l1", "bias_hh_l1"), {}, ValueError,
                             r"both biases or none, .* got none called 'bias_ih_l1'"),
    "one bias": (without("bias_hh_l0"), {}, ValueError, r"got none called 'bias_hh_l0'"),
    "one direction in one layer": (STATE_DICT | {"weight_ih_l0_reverse": zeros(20, IN)}, {}, ValueError,
                                   r"got none called 'weight_hh_l0_reverse'"),
    "other modules": (nn.ModuleDict({"rnn": nn.GRU(IN, H), "head": nn.Linear(H, 2)}).state_dict(), {}, ValueError,
                      r"none called 'weight_ih_l0', 'rnn\.weight_ih_l0' besides; prefix= picks one of \['rnn\.'\]"),
    "other names": (STATE_DICT | {"weight": zeros(2, 2)}, {}, ValueError, r"got 'weight' besides"),
    "wrong prefix": ({"rnn." + n: v for n, v in STATE_DICT.items()}, {"prefix": "rnn"}, ValueError,
                     r"'rnn\.weight_ih_l0' besides; prefix= picks one of \['rnn\.'\]"),
    "empty": ({}, {}, ValueError, r"none called 'weight_ih_l0'$"),
    "a module": (nn.LSTM(IN, H), {}, TypeError, r"state_dict: expected tensors by name, got LSTM; from_module takes"),
    "gates": ({"weight_ih_l0": zeros(10, IN), "weight_hh_l0": zeros(10, H)}, {}, ValueError,
              r"weight_hh_l0: expected H columns and H, 3H or 4H rows.*, got float32\[10, 5\]"),
    "no matrix": ({"weight_ih_l0": zeros(20), "weight_hh_l0": zeros(20, H)}, {}, ValueError,
                  r"weight_ih_l0: expected a matrix"),
    "rows": (STATE_DICT | {"weight_ih_l0": zeros(15, IN)}, {}, ValueError, r"weight_ih_l0: expected shape \[20, 4\]"),
    "width": (STATE_DICT | {"weight_ih_l1": zeros(20, IN)}, {}, ValueError, r"weight_ih_l1: expected shape \[20, 5\]"),
    "bias shape": (STATE_DICT | {"bias_hh_l1": zeros(19)}, {}, ValueError, r"bias_hh_l1: expected shape \[20\]"),
    "two dtypes": (STATE_DICT | {"bias_hh_l1": zeros(20, dtype=torch.float16)}, {}, ValueError,
                   r"state_dict: expected one dtype, got float16 and float32"),
    "integers": ({n: v.to(torch.int32) for n, v in STATE_DICT.items()}, {}, TypeError, r"weight_ih_l0: .* got int32"),
    "no array": (STATE_DICT | {"bias_ih_l0": "zeros"}, {}, TypeError, r"bias_ih_l0: expected a tensor or an array"),
    "float64": (make("lstm", dtype=torch.float64).state_dict(), {}, ValueError, r"float64; .*jax_enable_x64"),
    "dropout": (STATE_DICT, {"dropout": 1.0}, ValueError, r"dropout: expected a number in \[0, 1\), got 1\.0"),
    "nonlinearity": (STATE_DICT, {"nonlinearity": "sigmoid"}, ValueError, r"nonlinearity: expected one of 'tanh', 're"),
    "nonlinearity of an LSTM": (STATE_DICT, {"nonlinearity": "relu"}, ValueError, r"nonlinearity: .* an nn\.LSTM"),
}  # fmt: skip


@pytest.mark.parametrize(("state_dict", "options", "error", "message"), STATE_DICTS.values(), ids=STATE_DICTS)
def test_state_dict_refused(state_dict, options, error, message):
    with pytest.raises(error, match=message):
        from_state_dict(state_dict, **options)


class OwnGRU(nn.GRU):
    """A subclass, whose forward may be different."""


@pytest.mark.parametrize("module", [OwnGRU(IN, H), "LSTM", nn.LSTM])
def test_module_refused(module):
    with pytest.raises(
        TypeError, match=r"module: expected an nn.RNN, nn.LSTM or nn.GRU or one of their cells, .*, got"
    ):
        from_module(module)


@pytest.mark.parametrize(
    ("model", "state", "error", "message"),
    [
        (LSTM, zeros(1, B, H), TypeError, r"state: expected \(h_n, c_n\), got Tensor"),
        (LSTM, (zeros(1, B, H),), TypeError, r"state: expected \(h_n, c_n\), got tuple"),
        (GRU, (zeros(1, B, H), zeros(1, B, H)), TypeError, r"state: expected h_n alone, got tuple"),
        (GRU, zeros(B, H), ValueError, r"state: expected \[1, \.\.\., 5\], layers .*, got float32\[3, 5\].*h\[None\]"),
        (rnn.Bidirectional(GRU), zeros(1, B, H), ValueError, r"state: expected \[2, \.\.\., 5\]"),
        (GRU, zeros(1, B, 7), ValueError, r"state: expected shape \[3, 5\], got float32\[3, 7\]"),
        (LSTM, (zeros(1, B, H), zeros(1, 2, H)), ValueError, r"state\.c: expected shape \[3, 5\]"),
        (GRU, zeros(1, B, H, dtype=torch.float64), ValueError, "jax_enable_x64"),
        (GRU, "h", TypeError, "state: expected a tensor or an array, got str"),
    ],
)
def test_from_state_refused(model, state, error, message):
    with pytest.raises(error, match=message):
        from_state(model, state)


@pytest.mark.parametrize("state", [(), jnp.zeros((B, 7)), None])
def test_to_state_refused(state):
    with pytest.raises((TypeError, ValueError), match="state: expected"):
        to_state(GRU, state)


def test_older_names():
    assert rnn.interop.torch.state_from_torch is from_state
    assert rnn.interop.torch.state_to_torch is to_state


# ---- PyTorch is no dependency ------------------------------------------------------------------------------------


def test_import_does_not_import_torch():
    code = "import sys, jaxrnn, jaxrnn.interop.torch; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda: from_module(None),
        lambda: to_state_dict(LSTM, LSTM.init(jax.random.key(0))),
        lambda: to_state(LSTM, LSTM.initial_state((B,))),
    ],
)
def test_without_torch(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"torch: .* pip install torch"):
        call()


def test_state_dict_is_read_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    arrays = {name: np.ones((15, 5), "float32") for name in ("weight_ih_l0", "weight_hh_l0")}
    model, _ = from_state_dict(arrays)
    assert model == rnn.GRU(5, 5, reset_after=True, use_bias=False)
