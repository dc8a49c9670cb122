"""Whole models against PyTorch: embeddings, dropout, activations and readouts around recurrent layers, and states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import filled, random_params, random_state, softsign

import jaxrnn as rnn
from jaxrnn.interop.structure import layers
from jaxrnn.interop.torch import from_module, from_state, functions, to_module, to_state
from jaxrnn.interop.torch.state_dicts import runs

torch = pytest.importorskip("torch")
nn = torch.nn
prune = pytest.importorskip("torch.nn.utils.prune")
torch.set_num_threads(1)

T, B, V, IN, H = 5, 3, 7, 4, 6
LENGTHS = np.array([3, 5, 1])


def rich(dtype="float32"):
    """Every layer that PyTorch has: modules of two layers, of one, in one and in two directions."""
    kw = {"dtype": dtype}
    return rnn.Stack(
        rnn.Embedding(V, IN, **kw),
        rnn.Bidirectional(rnn.LSTM(IN, H, **kw)),
        rnn.Dropout(0.25),
        rnn.Bidirectional(rnn.LSTM(2 * H, H, **kw)),
        rnn.Dropout(0.5),
        rnn.GRU(2 * H, H, reset_after=True, use_bias=False, **kw),
        rnn.Linear(H, IN, use_bias=False, **kw),
        rnn.Activation("relu"),
        rnn.VanillaRNN(IN, H, activation="relu", **kw),
        rnn.VanillaRNN(H, H, activation="relu", **kw),
        rnn.Linear(H, V, **kw),
        rnn.Activation("log_softmax"),
    )


def tensors(tree):
    """Arrays as tensors of their own, tensors as they are; ready for gradients."""
    if isinstance(tree, (tuple, list)):
        return tuple(map(tensors, tree))
    return torch.tensor(np.asarray(tree)).requires_grad_()


def leaves(tree):
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, (tuple, list)) else [tree]


def check_against_torch(model, dtype, tolerance, lengths=None, seed=0):
    """Outputs, final states and all gradients, of the same weights, inputs and initial states."""
    rng = np.random.default_rng(seed)
    params, state = random_params(model, seed), random_state(model, (B,), seed)
    ids = type(model.layers[0]) is rnn.Embedding
    xs = rng.integers(0, V, (T, B)) if ids else rng.normal(size=(T, B, IN)).astype(dtype)
    module = to_module(model, params).eval()

    h, xs_torch = tensors(to_state(model, state)), torch.tensor(xs) if ids else tensors(xs)
    pack, unpack = nn.utils.rnn.pack_padded_sequence, nn.utils.rnn.pad_packed_sequence
    if lengths is None:
        ys_torch, end_torch = module(xs_torch, h)
    else:
        ys_torch, end_torch = module(pack(xs_torch, torch.tensor(lengths), enforce_sorted=False), h)
        ys_torch, _ = unpack(ys_torch, total_length=T)
    w_ys = rng.normal(size=ys_torch.shape).astype(dtype)
    w_end = filled(jax.eval_shape(lambda: state), seed + 1)
    terms = zip(leaves((ys_torch, end_torch)), leaves((torch.tensor(w_ys), to_state(model, w_end))), strict=True)
    sum((a * w).sum() for a, w in terms).backward()

    def loss(params, state, xs):
        end, ys = rnn.unroll(model, params, xs, state, lengths=None if lengths is None else jnp.array(lengths))
        terms = jax.tree.map(lambda a, w: (a * w).sum(), (ys, end), (w_ys, w_end))
        return sum(jax.tree.leaves(terms)), (ys, end)

    differentiate = jax.jit(jax.value_and_grad(loss, argnums=(0, 1) if ids else (0, 1, 2), has_aux=True))
    (_, (ys, end)), (d_params, d_state, *d_xs) = differentiate(params, state, xs.astype("int32") if ids else xs)

    def same(ours, theirs, name):
        assert ours.dtype == theirs.dtype == getattr(torch, dtype)
        np.testing.assert_allclose(ours.detach(), theirs.detach(), rtol=tolerance, atol=tolerance, err_msg=name)

    same(torch.tensor(np.asarray(ys)), ys_torch, "ys")
    for n, (a, b) in enumerate(zip(leaves(to_state(model, end)), leaves(end_torch), strict=True)):
        same(a, b, f"final states, {n}")
    for n, (a, b) in enumerate(zip(leaves(to_state(model, d_state)), leaves(h), strict=True)):
        same(a, b.grad, f"gradient of initial states, {n}")
    for d in d_xs:
        same(torch.tensor(np.asarray(d)), xs_torch.grad, "gradient of the inputs")
    gradients = to_module(model, d_params).state_dict()
    for name, p in module.named_parameters():
        owner, _, own = name.rpartition(".")
        if own.startswith("bias_hh") and not isinstance(module.get_submodule(owner), nn.GRU):
            name = name.replace("bias_hh", "bias_ih")  # the gradients of the two summed biases are equal
        same(gradients[name], p.grad, name)


# ---- values and gradients ----------------------------------------------------------------------------------------


def test_a_whole_model_in_float64(x64):
    check_against_torch(rich("float64"), "float64", 1e-10, LENGTHS)


@st.composite
def stacks(draw):
    """Recurrent layers of all kinds, in one or two directions, with all kinds of layers around them."""
    layers, width = [], IN
    if draw(st.booleans()):
        layers.append(rnn.Embedding(V, IN))
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from([rnn.VanillaRNN, rnn.LSTM, rnn.GRU]))
        options = {rnn.VanillaRNN: {"activation": draw(st.sampled_from(["tanh", "relu"]))}, rnn.LSTM: {},
                   rnn.GRU: {"reset_after": True}}[kind]  # fmt: skip
        size, bias = draw(st.sampled_from([3, H])), draw(st.booleans())
        both, dropout = draw(st.booleans()), draw(st.sampled_from([None, 0.1]))
        for _ in range(draw(st.integers(1, 2))):
            cell = kind(width, size, use_bias=bias, **options)
            layers += [rnn.Bidirectional(cell) if both else cell] + ([rnn.Dropout(dropout)] if dropout else [])
            width = (1 + both) * size
    if draw(st.booleans()):
        layers += [rnn.Linear(width, V, use_bias=draw(st.booleans())), rnn.Activation(draw(st.sampled_from(FUNCTIONS)))]
    return rnn.Stack(*layers)


FUNCTIONS = ["tanh", "relu", "sigmoid", "softmax", "log_softmax", jax.nn.silu, jax.nn.gelu, jax.nn.identity]


@pytest.mark.slow
@settings(max_examples=14, deadline=None, derandomize=True, database=None)
@given(stacks(), st.sampled_from([None, LENGTHS]))
def test_any_stack(model, lengths):
    if len(runs(model)) == 1:
        model = rnn.Stack(*model.layers, rnn.Dropout(0.3))  # a lone nn.LSTM gives no tuple of states: see test_torch.py
    check_against_torch(model, "float32", 1e-5, lengths)


def check_round_trips(model):
    """Ours to theirs to ours, and theirs to ours to theirs: equal to the bit."""
    params, state = random_params(model), random_state(model)
    before = torch.random.get_rng_state()
    module = to_module(model, params)
    assert torch.equal(torch.random.get_rng_state(), before)  # no random weights were drawn
    again, params_again = from_module(module)
    assert again == (model if len(model.layers) > 1 else model.layers[0])
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(params_again), jax.tree.leaves(params))
    jax.tree.map(np.testing.assert_array_equal, from_state(model, to_state(model, state)), state)
    module_again = to_module(again, params_again)
    assert repr(module_again) == repr(module)
    for name, tensor in module.state_dict().items():
        assert tensor.dtype == getattr(torch, jax.tree.leaves(params)[0].dtype.name)
        assert torch.equal(tensor, module_again.state_dict()[name]), name


@pytest.mark.parametrize(
    "dtype", ["bfloat16", *(pytest.param(d, marks=pytest.mark.slow) for d in ("float16", "float32"))]
)
def test_round_trips(dtype):
    check_round_trips(rich(dtype))


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(stacks())
def test_round_trips_of_any_stack(model):
    check_round_trips(model)


FUNCTION_MODULES = [getattr(nn, name)(**options) for name, _, options in functions.FUNCTIONS]
FUNCTION_MODULES += [nn.ELU(0.5), nn.LeakyReLU(), nn.LeakyReLU(-0.25), nn.Softplus(), nn.Softplus(2.0, 3.0)]


@pytest.mark.slow
@pytest.mark.parametrize("module", FUNCTION_MODULES, ids=repr)
def test_functions(module, x64):
    """Values and gradients, at kinks too, and the way back."""
    model, params = from_module(module)
    assert (rnn.from_repr(repr(model)), params) == (model, ())
    assert repr(to_module(model, params)) == repr(module)
    xs = np.concatenate([np.linspace(-30, 30, 601), [0, -0.0, 1e-9, 3, -3, 6, -6, 1]])[:, None] * np.array([1.0, 0.5])
    weights = np.random.default_rng(0).normal(size=xs.shape)
    xs_torch = tensors(xs)
    ys_torch = module(xs_torch)
    (ys_torch * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(model.apply((), jnp.array(xs)), ys_torch.detach(), atol=1e-12)
    gradient = jax.grad(lambda xs: (model.apply((), xs) * weights).sum())(jnp.array(xs))
    np.testing.assert_allclose(gradient, xs_torch.grad, atol=1e-12)


# ---- the module --------------------------------------------------------------------------------------------------


def test_layers_are_one_module_where_possible():
    model = rich()
    module = to_module(model, random_params(model))
    assert type(module) is rnn.interop.torch.Sequential
    assert str(module[1]) == "LSTM(4, 6, num_layers=2, dropout=0.25, bidirectional=True)"
    assert str(module[6]) == "RNN(4, 6, num_layers=2)"
    assert [type(part).__name__ for part in module] == [
        "Embedding", "LSTM", "Dropout", "GRU", "Linear", "ReLU", "RNN", "Linear", "LogSoftmax"]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (rnn.GRU(IN, H, reset_after=True), nn.GRU),
        (rnn.Stack(rnn.LSTM(IN, H), rnn.Stack(rnn.Dropout(0.5), rnn.LSTM(H, H))), nn.LSTM),
        (rnn.Linear(IN, 2), nn.Linear),
        (rnn.Dropout(0.5), nn.Dropout),
        (rnn.Activation("tanh"), nn.Tanh),
    ],
    ids=repr,
)
def test_a_model_of_one_module_is_that_module(model, expected):
    module = to_module(model, random_params(model))
    assert type(module) is expected
    assert [layer for _, layer in layers("", from_module(module)[0])] == [layer for _, layer in layers("", model)]


@pytest.mark.parametrize(
    ("between", "modules"),
    [([], 1), ([0.1, 0.1], 1), ([0.1, 0.2], 3), ([0.1, None], 2), ([None, 0.1], 3), ([0.0, 0.0], 1)],
)
def test_dropout_of_one_rate_is_in_one_module(between, modules):
    rates = between or [None, None]
    deep = [rnn.LSTM(H, H)]
    for rate in rates:
        deep += ([] if rate is None else [rnn.Dropout(rate)]) + [rnn.LSTM(H, H)]
    module = to_module(rnn.Stack(*deep), random_params(rnn.Stack(*deep)))
    assert (1 if isinstance(module, nn.LSTM) else len(module)) == modules


def test_dropout_acts_in_training_only():
    model = rich()
    module, ids = to_module(model, random_params(model)), torch.zeros(T, B, dtype=int)
    a, b = (module(ids)[0] for _ in range(2))
    assert not torch.equal(a, b)
    module.eval()
    a, b = (module(ids)[0] for _ in range(2))
    assert torch.equal(a, b)


def test_states_carry_over():
    model = rnn.Stack(
        rnn.LSTM(IN, H), rnn.Linear(H, H), rnn.GRU(H, H, reset_after=True), rnn.GRU(H, H, reset_after=True)
    )
    module = to_module(model, random_params(model))
    xs = torch.randn(T, B, IN, generator=torch.Generator().manual_seed(0))
    whole, end = module(xs)
    first, states = module(xs[:2])
    second, states = module(xs[2:], states)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(states, end)
    with pytest.raises(ValueError, match="state: expected 2 states, one a recurrent part, got 1"):
        module(xs, states[:1])


# ---- a class of one's own ----------------------------------------------------------------------------------------


class Tagger(nn.Module):
    """As users write them: batch-first, packed, its parts in another order than they are applied in."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(2 * H, IN), nn.Identity(), nn.Sequential(nn.Tanh(), nn.Linear(IN, 3)))
        self.embedding = nn.Embedding(V, IN)
        self.drop = nn.Dropout(0.5)
        self.rnns = nn.ModuleList([nn.LSTM(IN, H, 2, dropout=0.1, bidirectional=True, batch_first=True)])

    def forward(self, ids, lengths):
        embedded = self.drop(self.embedding(ids))
        packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        ys, _ = nn.utils.rnn.pad_packed_sequence(self.rnns[0](packed)[0], batch_first=True, total_length=T)
        return self.head(ys)


def test_the_parts_of_a_class():
    module = Tagger().eval()
    model, params = from_module([module.embedding, module.drop, module.rnns, module.head])
    lstm = rnn.Bidirectional(rnn.LSTM(IN, H))
    assert model == rnn.Stack(
        rnn.Embedding(V, IN), rnn.Dropout(0.5), lstm, rnn.Dropout(0.1), rnn.Bidirectional(rnn.LSTM(2 * H, H)),
        rnn.Linear(2 * H, IN), rnn.Activation(jax.nn.identity), rnn.Activation("tanh"), rnn.Linear(IN, 3))  # fmt: skip
    ids = np.random.default_rng(0).integers(0, V, (B, T))
    with torch.no_grad():
        expected = module(torch.tensor(ids), torch.tensor(LENGTHS)).numpy()
    final, ys = rnn.unroll(model, params, jnp.array(ids.T, "int32"), lengths=jnp.array(LENGTHS))
    for n, length in enumerate(LENGTHS):
        np.testing.assert_allclose(ys[:length, n], expected[n, :length], atol=1e-6)
    assert len(final) == len(model.layers)


def test_weights_are_copies():
    model = rnn.Stack(rnn.Embedding(V, IN), rnn.Linear(IN, V))
    params = random_params(model)
    module = to_module(model, params)
    again = from_module(module)[1]
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(params))


# ---- refusals ----------------------------------------------------------------------------------------------------


class OwnLinear(nn.Linear):
    """A subclass, whose forward may be different."""


def hooked(register, module=None):
    module = nn.Linear(IN, IN) if module is None else module
    getattr(module, register)(lambda *args: None)
    return module


def patched():
    module = nn.GRU(IN, H)
    module.forward = lambda xs: xs
    return module


def tied():
    embedding, head = nn.Embedding(V, IN), nn.Linear(IN, V)
    head.weight = embedding.weight
    return [embedding, nn.LSTM(IN, IN), head]


LINEAR = nn.Linear(IN, IN)
MODULES = {
    "a class": (Tagger(), TypeError, r"module: expected .*, got Tagger; from_module\(\[module\.head, "
                r"module\.embedding, module\.drop, module\.rnns\]\) converts its parts: give them in "),
    "a class in a list": ([nn.ModuleDict({"a": LINEAR})], TypeError, r"module\[0\]: expected .*got ModuleDict"),
    "a subclass": (OwnLinear(IN, 2), TypeError, r"got OwnLinear; the forward of a class of your own may be different"),
    "flatten": (nn.Sequential(LINEAR, nn.Flatten()), TypeError, r"module\[1\]: .*got Flatten; jaxrnn has no counterp"),
    "hardshrink": (nn.Hardshrink(), TypeError, r"got Hardshrink; rnn\.Activation\(function\) takes any: convert the p"),
    "a wrapper": (nn.DataParallel(LINEAR), TypeError, r"got DataParallel; .*from_module\(module\.module\)"),
    "lazy": (nn.LazyLinear(3), ValueError, r"got _infer_parameters; call the lazy module once: its sizes"),
    "state dict": (LINEAR.state_dict(), TypeError, r"got OrderedDict; from_state_dict\(state_dict\) converts"),
    "empty state dict": ({}, TypeError, r"got dict; from_state_dict"),
    "parametrized": (nn.utils.parametrizations.spectral_norm(nn.Linear(IN, 2)), TypeError,
                     r"got ParametrizedLinear; .*remove_parametrizations\(module, 'weight'\) gives plain weights"),
    "pruned": ([prune.l1_unstructured(nn.Linear(IN, 2), "bias", 0.5)], ValueError,
               r"module\[0\]\._forward_pre_hooks: expected no hooks, got .*prune\.remove\(module\[0\], 'bias'\)"),
    "pre-hook": (hooked("register_forward_pre_hook"), ValueError,
                 r"module\._forward_pre_hooks: expected no hooks, got <lambda>; .*\._forward_pre_hooks\.clear\(\)"),
    "hook": ([hooked("register_forward_hook")], ValueError, r"module\[0\]\._forward_hooks: expected no hooks, got <l"),
    "hook of a sequence": (hooked("register_forward_hook", nn.Sequential(LINEAR)), ValueError, r"module\._forward_hoo"),
    "backward hook": (hooked("register_full_backward_hook"), ValueError,
                      r"module\._backward_hooks: expected no hooks, .*from_module\(module, inference=True\)"),
    "patched": (patched(), ValueError, r"module\.forward: expected that of GRU, got another.*; .*del module\.forward"),
    "meta": (nn.LSTM(IN, H, device="meta"), ValueError,
             r"module\.weight_ih_l0: expected concrete arrays, got torch\.float32\[24, 4\] without values; only"),
    "no module": ([LINEAR, torch.tanh], TypeError, r"module\[1\]: expected .*, got builtin_function_or_method"),
    "empty": ([], ValueError, r"layers: expected at least one cell or layer"),
    "padding_idx": (nn.Embedding(V, IN, padding_idx=0), ValueError,
                    r"module\.padding_idx: expected None, got 0; .*set module\.padding_idx = None.*inference=True"),
    "max_norm": (nn.Embedding(V, IN, max_norm=1.0), ValueError, r"module\.max_norm: expected None, got 1\.0; it chang"),
    "scaled": (nn.Embedding(V, IN, scale_grad_by_freq=True), ValueError, r"module\.scale_grad_by_freq: expected False"),
    "sparse": (nn.Embedding(V, IN, sparse=True), ValueError, r"module\.sparse: expected False, got True; .*no sparse"),
    "softmax": (nn.Softmax(dim=0), ValueError, r"module\.dim: expected -1, got 0; module\.dim = -1 is the same where"),
    "celu": (nn.CELU(0.5), ValueError, r"module\.alpha: expected 1\.0, got 0\.5; rnn\.Activation\(function\) takes"),
    "all dropped": ([LINEAR, nn.Dropout(1.0)], ValueError, r"module\[1\]\.p: expected a number in \[0, 1\), got 1\.0"),
    "normalized": (nn.utils.spectral_norm(nn.Linear(IN, 2)), ValueError,
                   r"module\._forward_pre_hooks: .*got SpectralNorm; .*\.remove_spectral_norm\(module, 'weight'\)"),
    "tied": (tied(), ValueError, r"module\[2\]\.weight: expected weights of its own, got those of "
             r"module\[0\]\.weight; rnn\.Tied"),
    "twice": ([LINEAR, nn.Tanh(), LINEAR], ValueError, r"module\[2\]\.weight: expected weights of its own, got those"),
    "sizes": ([LINEAR, nn.LSTM(3, H)], ValueError, r"layers\[1\]: expected input size 4, the output size of la"),
}  # fmt: skip


@pytest.mark.parametrize(("module", "error", "message"), MODULES.values(), ids=MODULES)
def test_module_refused(module, error, message):
    with pytest.raises(error, match=message):
        from_module(module)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch deprecates two of these
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.utils.weight_norm(nn.LSTM(IN, H), "weight_hh_l0"), r"remove_weight_norm\(module, 'weight_hh_l0'\)"),
        (lambda: torch.jit.script(nn.Linear(IN, H)), r"got RecursiveScriptModule; pass the module that was scripted"),
        (lambda: torch.compile(nn.Linear(IN, H)), r"got OptimizedModule; .*from_module\(module\._orig_mod\)"),
    ],
)
def test_compiled_and_older_forms_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        from_module(make())


def test_inference_leaves_out_what_acts_in_training():
    embedding = nn.Embedding(V, IN, padding_idx=0, scale_grad_by_freq=True, sparse=True)
    head = hooked("register_full_backward_hook")
    model, params = from_module([embedding, head], inference=True)
    ids = torch.tensor([[0, 3]])
    _, ys = rnn.unroll(model, params, jnp.array(ids.numpy(), "int32"))
    np.testing.assert_allclose(ys, head(embedding(ids)).detach(), atol=1e-6)
    with pytest.raises(ValueError, match=r"module\.max_norm: expected None, got 1\.0"):
        from_module(nn.Embedding(V, IN, max_norm=1.0), inference=True)


def test_traced_parameters_refused():
    model = rnn.Linear(IN, 2)
    with pytest.raises(
        ValueError, match=r"params: expected concrete arrays, got a traced float32\[.*; call it outside of"
    ):
        jax.jit(lambda params: to_module(model, params))(random_params(model))
    with pytest.raises(
        ValueError, match=r"state: expected concrete arrays, got a traced float32\[6\]; call it outside"
    ):
        jax.jit(lambda state: to_state(LSTM, state))(LSTM.initial_state())


def test_float64_refused():
    with pytest.raises(ValueError, match=r"float64; .*jax_enable_x64"):
        from_module([nn.Linear(IN, 2, dtype=torch.float64)])


LSTM = rnn.LSTM(IN, H)
MODELS = {
    "residual": (rnn.Stack(LSTM, rnn.Residual(rnn.LSTM(H, H))), TypeError,
                 r"model\.layers\[1\]: expected a VanillaRNN, .*, got Residual\(.*; PyTorch has no such module"),
    "reverse": (rnn.Reverse(LSTM), TypeError, r"model: expected .*, got Reverse\(LSTM\(4, 6\)\)"),
    "tied": (rnn.Tied(rnn.Embedding(V, IN), rnn.LSTM(IN, IN)), TypeError, r"model: expected .*, got Tied"),
    "merge": (rnn.Stack(rnn.Bidirectional(LSTM, merge="sum"), rnn.Linear(H, 2)), ValueError,
              r"model\.layers\[0\]\.merge: expected 'concat', got 'sum'; PyTorch has no other merge"),
    "unlike": (rnn.Stack(rnn.Bidirectional(LSTM, rnn.VanillaRNN(IN, H)), rnn.Linear(2 * H, 2)), TypeError,
               r"model\.layers\[0\]\.backward: expected LSTM, the kind of model\.layers\[0\]\.forward, got Vanilla"),
    "reset before": (rnn.Stack(rnn.GRU(IN, H), rnn.Linear(H, 2)), ValueError,
                     r"model\.layers\[0\]\.reset_after: expected True, got False"),
    "peepholes": (rnn.Stack(rnn.Linear(IN, IN), rnn.LSTM(IN, H, peepholes="o")), ValueError,
                  r"model\.layers\[1\]\.peepholes: expected '', got 'o'; nn\.LSTM has neither"),
    "function": (rnn.Stack(LSTM, rnn.Activation(softsign)), ValueError,
                 r"model\.layers\[1\]\.function: expected one of 'tanh', .*jax\.nn\.silu.*, got zoo\.softsign"),
    "task": (rnn.tasks.Classifier(LSTM, 2), TypeError, r"model: expected a cell or layer"),
}  # fmt: skip


@pytest.mark.parametrize(("model", "error", "message"), MODELS.values(), ids=MODELS)
def test_model_refused(model, error, message):
    with pytest.raises(error, match=message):
        to_module(model, random_params(model))


def test_two_dtypes_refused():
    model = rnn.Stack(LSTM, rnn.Linear(H, 2, dtype="bfloat16"))
    with pytest.raises(ValueError, match=r"params: expected one dtype, got bfloat16 and float32; .*cast all to one"):
        to_module(model, random_params(model))


MIXED = rnn.Stack(rnn.Embedding(V, IN), LSTM, rnn.GRU(H, H, reset_after=True), rnn.Linear(H, 2))


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ((torch.zeros(1, B, H),), TypeError, r"state: expected a tuple of 2, one state a recurrent module, got"),
        (torch.zeros(1, B, H), TypeError, r"state: expected a tuple of 2, .*got torch\.float32\[1, 3, 6\]"),
        ((torch.zeros(1, B, H), torch.zeros(1, B, H)), TypeError, r"state\[0\]: expected \(h_n, c_n\), got Tensor"),
        (((torch.zeros(1, B, H),) * 2, torch.zeros(2, B, H)), ValueError, r"state\[1\]: expected \[1, \.\.\., 6\]"),
        (((torch.zeros(1, B, H),) * 2, torch.zeros(1, 2, H)), ValueError, r"state\[2\]: expected shape \[3, 6\]"),
        (((torch.zeros(1, B, H), torch.zeros(1, B, H, dtype=torch.float16)), torch.zeros(1, B, H)), ValueError,
         r"state: expected one dtype, got float16 and float32; cast all to that of the parameters"),
    ],
)  # fmt: skip
def test_state_refused(state, error, message):
    with pytest.raises(error, match=message):
        from_state(MIXED, state)


def test_a_model_without_state_has_none():
    model = rnn.Stack(rnn.Linear(IN, IN), rnn.Activation("tanh"))
    assert to_state(model, model.initial_state()) == ()
    assert from_state(model, ()) == ((), ())
