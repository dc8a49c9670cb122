"""Layer norm, projection and clips of the built-in cells, in every combination, against loops in PyTorch."""

import functools

import jax
import jax.numpy as jnp
import pytest
import zoo
from contract import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import B, H, I, few

import jaxrnn as rnn
from jaxrnn.cells.normalization import EPSILON, LayerNormParams, centred, layer_norm
from jaxrnn.interop import linen, nnx
from jaxrnn.interop.haiku import to_params as to_haiku

torch = pytest.importorskip("torch")
T = 5


def norm(u, params, part=slice(None)):
    bias = None if params.bias is None else params.bias[part]
    return torch.nn.functional.layer_norm(u, u.shape[-1:], params.gain[part], bias, EPSILON)


def vanilla(cell, p, h, x):
    a = x @ p.w_xh + h @ p.w_hh
    a = norm(a, p.layer_norm) if cell.layer_norm else a + (p.b_h if cell.use_bias else 0)
    h = {"tanh": torch.tanh, "relu": torch.relu}[cell.activation](a)
    return h, h


def gru(cell, p, h, x):
    """The reset after the product is the GRU of Ba et al."""
    gates, candidate, plain = slice(0, 2 * H), slice(2 * H, 3 * H), lambda u, *_: u
    n, x_norm, h_norm = (norm, p.layer_norm.x, p.layer_norm.h) if cell.layer_norm else (plain, None, None)
    b, bb = (0 if b is None else b.split((2 * H, H)) for b in (p.b_h, p.b_hh))
    b, bb = b or (0, 0), bb or (0, 0)
    zr = n(x @ p.w_xh[:, gates], x_norm, gates) + n(h @ p.w_hh[:, gates], h_norm, gates) + b[0] + bb[0]
    z, r = torch.sigmoid(zr).chunk(2, -1)
    x_c, w = n(x @ p.w_xh[:, candidate], x_norm, candidate) + b[1], p.w_hh[:, candidate]
    h_c = r * (n(h @ w, h_norm, candidate) + bb[1]) if cell.reset_after else n((r * h) @ w, h_norm, candidate)
    h = (1 - z) * h + z * torch.tanh(x_c + h_c)
    return h, h


def lstm(cell, p, state, x):
    """The order of TensorFlow's LSTMCell: clip c, then the output gate, then the projection, then clip h."""
    h, c = state
    x_part, h_part = x @ p.w_xh, h @ p.w_hh
    if cell.layer_norm:
        x_part, h_part = norm(x_part, p.layer_norm.x), norm(h_part, p.layer_norm.h)
    z = dict(zip("foc" if cell.coupled else "ifoc", (x_part + h_part + (p.b_h if cell.use_bias else 0)).split(H, -1)))
    peephole = {name: p.peepholes[row] for row, name in enumerate(cell.peepholes)}
    f = torch.sigmoid(z["f"] + peephole.get("f", 0) * c)
    i = 1 - f if cell.coupled else torch.sigmoid(z["i"] + peephole.get("i", 0) * c)
    new = f * c + i * torch.tanh(z["c"])
    if cell.cell_clip is not None:
        new = new.clamp(-cell.cell_clip, cell.cell_clip)
    o = torch.sigmoid(z["o"] + peephole.get("o", 0) * (new if cell.output_peephole == "current" else c))
    h = o * torch.tanh(norm(new, p.layer_norm.c) if cell.layer_norm else new)
    if cell.projection_size is not None:
        h = h @ p.w_hr
        if cell.projection_clip is not None:
            h = h.clamp(-cell.projection_clip, cell.projection_clip)
    return (h, new), h


STEPS = {rnn.VanillaRNN: vanilla, rnn.GRU: gru, rnn.LSTM: lstm}


def run_torch(cell, at):
    """Outputs, final state, and the gradients of the weighted sum of their sines."""
    leaves, treedef = jax.tree.flatten(at)
    tensors = [torch.tensor(leaf.tolist(), dtype=torch.float64, requires_grad=True) for leaf in leaves]
    params, state, xs = jax.tree.unflatten(treedef, tensors)
    ys = []
    for x in xs:
        state, y = STEPS[type(cell)](cell, params, state, x)
        ys.append(y)
    results = [*(state if isinstance(state, tuple) else (state,)), torch.stack(ys)]
    (sum(torch.sin(part).sum() for part in results)).backward()
    return [part.detach() for part in results], [tensor.grad for tensor in tensors]


def run(cell, derivative, at):
    def loss(at):
        params, state, xs = at
        final, ys = rnn.unroll(cell, params, xs, state, derivative=derivative)
        return sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves((final, ys))), (final, ys)

    (_, results), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(at)
    return jax.tree.leaves(results), jax.tree.leaves(gradients)


def point(cell, seed=0):
    """Parameters, a state and inputs."""
    params, state = zoo.random_params(cell, seed), zoo.random_state(cell, (B,), seed + 1)
    return params, state, zoo.filled(jnp.zeros((T, B, I)), seed + 2)


CELLS = {
    "vanilla": rnn.VanillaRNN(I, H, layer_norm=True, dtype="float64"),
    "vanilla-no-bias": rnn.VanillaRNN(I, H, layer_norm=True, use_bias=False, activation="relu", dtype="float64"),
    "gru": rnn.GRU(I, H, layer_norm=True, dtype="float64"),
    "gru-after": rnn.GRU(I, H, layer_norm=True, reset_after=True, dtype="float64"),
    "gru-no-bias": rnn.GRU(I, H, layer_norm=True, use_bias=False, dtype="float64"),
    "lstm": rnn.LSTM(I, H, layer_norm=True, dtype="float64"),
    "lstm-no-bias": rnn.LSTM(I, H, layer_norm=True, use_bias=False, projection_size=2, dtype="float64"),
    "lstm-clip": rnn.LSTM(I, H, cell_clip=0.4, peepholes="ifo", dtype="float64"),
    "lstm-projection-clip": rnn.LSTM(I, H, projection_size=3, projection_clip=0.3, coupled=True, dtype="float64"),
    "lstm-all": rnn.LSTM(I, H, peepholes="ifo", **zoo.ALL_OPTIONS, dtype="float64"),
    "lstm-all-coupled": rnn.LSTM(I, H, peepholes="fo", coupled=True, output_peephole="previous", **zoo.ALL_OPTIONS,
                                 dtype="float64"),
}  # fmt: skip


@pytest.mark.parametrize("name", few(list(CELLS), ["gru-after"]))
def test_values_and_gradients(name, x64):
    """The equations of the papers, by PyTorch and its autograd."""
    at = point(CELLS[name])
    assert_close(run(CELLS[name], "rule", at), run_torch(CELLS[name], at))


def test_clips_act(x64):
    """Both bounds are reached, and nothing exceeds them."""
    cell = CELLS["lstm-all"]
    states = rnn.trajectory(cell, *point(cell)[::2])
    assert jnp.abs(states.c).max() == cell.cell_clip
    assert jnp.abs(states.h).max() == cell.projection_clip


@st.composite
def cells(draw):
    """Any cell with any options."""
    flag = st.booleans()
    common = {"use_bias": draw(flag), "layer_norm": draw(flag), "dtype": "float64"}
    kind = draw(st.sampled_from(["vanilla", "gru", "lstm", "lstm", "lstm"]))
    if kind == "vanilla":
        return rnn.VanillaRNN(I, H, activation=draw(st.sampled_from(["tanh", "relu"])), **common)
    if kind == "gru":
        return rnn.GRU(I, H, reset_after=draw(flag), **common)
    coupled, size = draw(flag), draw(st.sampled_from([None, 2, H, 6]))
    peepholes = draw(st.sampled_from(["", "f", "o", "fo"] + ["ifo"] * (not coupled)))
    return rnn.LSTM(
        I, H, coupled=coupled, peepholes=peepholes, projection_size=size,
        output_peephole=draw(st.sampled_from(["current"] + ["previous"] * ("o" in peepholes))),
        cell_clip=draw(st.sampled_from([None, 0.5])), projection_clip=size and draw(st.sampled_from([None, 0.3])),
        **common,
    )  # fmt: skip


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(cell=cells(), seed=st.integers(0, 1000))
def test_any_options(cell, seed):
    """The rule, autodiff and PyTorch agree for every product of options."""
    jax.config.update("jax_enable_x64", True)
    try:
        at = point(cell, seed)
        expected = run_torch(cell, at)
        for derivative in ("rule", "autodiff"):
            assert_close(run(cell, derivative, at), expected, 1e-8)  # with ε = 1e-5 a norm multiplies by up to 300
    finally:
        jax.config.update("jax_enable_x64", False)


def test_initial_values():
    """Gains of 1, biases of 0; the option leaves the draws of other parameters as they are."""
    key = jax.random.key(0)
    plain, params = rnn.LSTM(I, H).init(key), rnn.LSTM(I, H, layer_norm=True).init(key)
    assert_close(params[:3], plain[:3], 0)
    for part in (*params.layer_norm, *rnn.GRU(I, H, layer_norm=True).init(key).layer_norm):
        assert (part.gain == 1).all()
        assert (part.bias == 0).all()
    assert [part.gain.shape for part in params.layer_norm] == [(4 * H,), (4 * H,), (H,)]
    vanilla = rnn.VanillaRNN(I, H, layer_norm=True).init(key)
    assert vanilla.b_h is None
    assert vanilla.layer_norm.bias.shape == (H,)
    w_hr = rnn.LSTM(I, H, projection_size=2, w_hr_init="ones").init(key).w_hr
    assert w_hr.shape == (H, 2)
    assert (w_hr == 1).all()


def test_layer_norm_in_bfloat16():
    """Mean and variance are computed in float32: a large mean does not hide the variance."""
    u = jnp.array([256.0, 258.0, 260.0, 262.0], "bfloat16")
    params = LayerNormParams(jnp.ones(4, "bfloat16"), None)
    wide, _ = layer_norm(LayerNormParams(jnp.ones(4), None), centred(u.astype("float32")))
    assert_close(layer_norm(params, centred(u))[0], wide, 1e-2)


def test_no_variance():
    """Equal entries, as the projection of an initial state of 0 has, are 0 with a finite gradient."""
    params = LayerNormParams(jnp.ones(4), jnp.zeros(4))
    value, gradient = jax.value_and_grad(lambda u: layer_norm(params, centred(u))[0].sum())(jnp.zeros(4))
    assert value == 0
    assert jnp.isfinite(gradient).all()


def test_printed():
    """Options print only where they are set, and so do their parameters."""
    cell = rnn.LSTM(I, H, layer_norm=True, projection_size=2, cell_clip=3.0)
    assert repr(cell) == "LSTM(3, 4, layer_norm=True, projection_size=2, cell_clip=3.0)"
    assert rnn.from_repr(repr(cell)) == cell
    assert "w_hr=" in repr(cell.init(jax.random.key(0)))
    assert "w_hr" not in repr(rnn.LSTM(I, H).init(jax.random.key(0)))


REFUSING = {
    "Haiku": lambda cell, params: to_haiku(cell, params),
    "Linen": lambda cell, params: linen.to_params(cell, params),
    "NNX": lambda cell, params: nnx.to_module(cell, params),
    "Equinox": lambda cell, params: rnn.interop.equinox.to_module(cell, params),
    "Keras": lambda cell, params: rnn.interop.keras.to_module(cell, params),
    "PyTorch": lambda cell, params: rnn.interop.torch.to_module(cell, params),
}
OPTIONS = {
    "layer_norm": rnn.LSTM(I, H, layer_norm=True),
    "cell_clip": rnn.LSTM(I, H, cell_clip=1.0),
    "projection_size": rnn.LSTM(I, H, projection_size=2),
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("room", REFUSING)
def test_refused_by_other_libraries(room, option):
    """By name, with the reason; only PyTorch has the projection."""
    cell = OPTIONS[option]
    convert = functools.partial(REFUSING[room], cell, cell.init(jax.random.key(0)))
    if (room, option) == ("PyTorch", "projection_size"):
        assert convert().proj_size == 2
        return
    with pytest.raises(ValueError, match=rf"{option.strip()}: expected (False|None), got .*has no such option"):
        convert()
