"""Initializers: by name or callable, gate by gate, in every dtype."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from versions import enable_x64

import jaxrnn as rnn
from jaxrnn import initializers
from jaxrnn.initializers import NAMED, everywhere

I, H = 3, 16  # noqa: E741
KEY = jax.random.key(0)
GATED = {
    "vanilla": (rnn.VanillaRNN(I, H), 1),
    "lstm": (rnn.LSTM(I, H, peepholes="ifo", peepholes_init="normal"), 4),
    "lstm-coupled": (rnn.LSTM(I, H, peepholes="fo", coupled=True, peepholes_init="normal"), 3),
    "gru": (rnn.GRU(I, H), 3),
    "gru-after": (rnn.GRU(I, H, reset_after=True), 3),
    "mgu": (rnn.MGU(I, H), 2),
    "janet": (rnn.JANET(I, H), 2),
    "slstm": (rnn.SLSTM(I, H), 4),
}


def gates(w, count):
    """The blocks of ``[..., G·H]``."""
    return np.split(np.asarray(w, np.float64), count, axis=-1)


@pytest.mark.parametrize("name", GATED)
def test_shapes_of_parameters(name):
    """``w_xh [I, G·H]``, ``w_hh [H, G·H]``, ``b_h [G·H]``, ``b_hh`` only with reset_after, ``peepholes [P, H]``."""
    cell, G = GATED[name]
    params = cell.init(KEY)
    shapes = {field: leaf.shape for field, leaf in params._asdict().items() if leaf is not None}
    expected = {"w_xh": (I, G * H), "w_hh": (H, G * H), "b_h": (G * H,)}
    if name in ("lstm", "lstm-coupled"):
        expected["peepholes"] = (len(cell.peepholes), H)
    if name == "gru-after":
        expected["b_hh"] = (G * H,)
    assert shapes == expected


def test_absent_parameters_are_none():
    """Absent biases and peepholes are None, not zeros."""
    assert rnn.VanillaRNN(I, H, use_bias=False).init(KEY).b_h is None
    assert {*rnn.LSTM(I, H, use_bias=False).init(KEY)[2:]} == {None}
    assert rnn.GRU(I, H).init(KEY).b_hh is None
    assert {*rnn.GRU(I, H, use_bias=False, reset_after=True).init(KEY)[2:]} == {None}
    assert rnn.Linear(I, H, use_bias=False).init(KEY).b is None
    assert rnn.Dropout(0.5).init(KEY) == ()


@pytest.mark.parametrize("name", GATED)
def test_recurrent_weights_are_orthogonal_gate_by_gate(name):
    """By default the block of ``w_hh`` of each gate is orthogonal; the matrix of several gates is not."""
    cell, G = GATED[name]
    w_hh = cell.init(KEY).w_hh
    for block in gates(w_hh, G):
        np.testing.assert_allclose(block.T @ block, np.eye(H), atol=1e-5)
    fused = np.asarray(w_hh)
    assert np.allclose(fused @ fused.T, np.eye(H), atol=1e-5) == (G == 1)


@pytest.mark.parametrize("name", GATED)
def test_gates_are_drawn_independently(name):
    """No two gates and no two arrays have equal values."""
    cell, G = GATED[name]
    cell = everywhere(cell, initializers.normal(1.0))
    params = cell.init(KEY)
    draws = [gate.ravel() for w in params[:3] if w is not None for gate in gates(w, G)]
    draws += [np.asarray(row, np.float64) for extra in params[3:] if extra is not None for row in extra.reshape(-1, H)]
    numbers = np.concatenate(draws)
    assert len(np.unique(numbers)) == len(numbers)


def test_fans_count_one_gate():
    """The Glorot bound is √(6 / (I + H)), not that of the matrix of four gates; the largest values are close to it."""
    w_xh = np.asarray(rnn.LSTM(I, H).init(KEY).w_xh)
    bound, fused = np.sqrt(6 / (I + H)), np.sqrt(6 / (I + 4 * H))
    assert fused < 0.95 * bound < np.abs(w_xh).max() <= bound


@pytest.mark.parametrize("name", ["lstm", "gru-after"])
def test_a_key_fixes_the_values(name):
    """The same key gives the same weights, eager or jitted; another key gives others."""
    cell, _ = GATED[name]
    params = cell.init(KEY)
    for again in (cell.init(KEY), jax.jit(cell.init)(KEY)):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), again, params)
    other = cell.init(jax.random.key(1))
    assert not np.allclose(other.w_xh, params.w_xh)
    assert not np.allclose(other.w_hh, params.w_hh)


def test_values_of_a_key_do_not_change():
    """Recorded values: a change here changes the results of every published seed."""
    w_xh = np.asarray(rnn.LSTM(2, 2).init(KEY).w_xh)
    np.testing.assert_allclose(w_xh[0, ::3], [-0.53222525, -0.38215083, 0.3258759], rtol=1e-5)


def test_layers_of_a_model_are_drawn_independently():
    """Equal cells in a stack, in two directions or in nested stacks get different weights."""
    cell = rnn.GRU(H, H)
    model = rnn.Stack(cell, cell, rnn.Stack(cell, cell), rnn.Bidirectional(cell))
    leaves = [params.w_xh for params in jax.tree.leaves(model.init(KEY), is_leaf=lambda p: hasattr(p, "w_xh"))]
    firsts = {float(w[0, 0]) for w in leaves}
    assert len(leaves) == len(firsts) == 6
    tied = rnn.Tied(rnn.Embedding(H, H, w_init="normal"), rnn.Linear(H, H, w_init="normal"), b_init="normal").init(KEY)
    assert len({float(w.ravel()[0]) for w in jax.tree.leaves(tied) if w.any()}) == 3


# ---- named initializers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "float32") for name in NAMED]
    + [(name, dtype) for name in ("zeros", "uniform", "orthogonal", "identity") for dtype in ("bfloat16", "float64")],
)
def test_names(name, dtype):
    """Every name gives a matrix of the right shape and dtype, the same as its callable."""
    with enable_x64(dtype == "float64"):
        layer, same = rnn.Linear(I, H, w_init=name, dtype=dtype), rnn.Linear(I, H, w_init=NAMED[name], dtype=dtype)
        w = layer.init(KEY).w
        assert (w.shape, w.dtype.name) == ((I, H), dtype)
        np.testing.assert_array_equal(w, same.init(KEY).w)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_default_cells_in_every_dtype(dtype):
    """The default initializers work in every floating dtype."""
    with enable_x64(dtype == "float64"):
        params = rnn.LSTM(I, H, dtype=dtype).init(KEY)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {dtype}


@pytest.mark.parametrize(
    ("init", "check"),
    [
        ("zeros", lambda w: (w == 0).all()),
        ("ones", lambda w: (w == 1).all()),
        ("uniform", lambda w: 0.9 * 0.05 < abs(w).max() <= 0.05 and w.min() < -0.9 * 0.05),
        (initializers.uniform(0.3), lambda w: 0.9 * 0.3 < abs(w).max() <= 0.3 and w.min() < -0.9 * 0.3),
        ("normal", lambda w: abs(w.std() - 0.01) < 0.001 and abs(w.mean()) < 0.001),
        (initializers.normal(2.0), lambda w: abs(w.std() - 2) < 0.2 and abs(w.mean()) < 0.2),
        ("identity", lambda w: (w == np.eye(30)).all()),
        (initializers.identity(0.1), lambda w: np.allclose(w, 0.1 * np.eye(30))),
        ("orthogonal", lambda w: np.allclose(w @ w.T, np.eye(30), atol=1e-5)),
        (initializers.orthogonal(3.0), lambda w: np.allclose(w @ w.T, 9 * np.eye(30), atol=1e-4)),
        ("glorot_uniform", lambda w: 0.9 * np.sqrt(0.1) < abs(w).max() <= np.sqrt(0.1)),
        ("he_uniform", lambda w: 0.9 * np.sqrt(0.2) < abs(w).max() <= np.sqrt(0.2)),
        ("lecun_uniform", lambda w: 0.9 * np.sqrt(0.1) < abs(w).max() <= np.sqrt(0.1)),
        ("glorot_normal", lambda w: abs(w.std() - np.sqrt(1 / 30)) < 0.015),
        ("he_normal", lambda w: abs(w.std() - np.sqrt(2 / 30)) < 0.02),
        ("lecun_normal", lambda w: abs(w.std() - np.sqrt(1 / 30)) < 0.015),
    ],
    ids=lambda value: "check" if isinstance(value, types.FunctionType) else str(value),
)
def test_distributions(init, check):
    """Ranges, standard deviations and matrices are those of the name, for 30 × 30 weights."""
    assert check(np.asarray(rnn.Linear(30, 30, w_init=init).init(KEY).w))


def test_identity_in_every_gate():
    """``w_hh_init="identity"`` makes the block of each gate an identity."""
    for name, (_, G) in GATED.items():
        kind = type(GATED[name][0])
        options = {"coupled": True} if name == "lstm-coupled" else {}
        for block in gates(kind(I, H, w_hh_init="identity", **options).init(KEY).w_hh, G):
            np.testing.assert_array_equal(block, np.eye(H))


def test_callables():
    """Any ``f(key, shape, dtype)`` is an initializer, called once per gate with the shape of that gate."""
    asked = []

    def ramp(key, shape, dtype):
        asked.append((shape, jnp.dtype(dtype).name))
        return jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)

    params = rnn.GRU(I, H, w_xh_init=ramp, dtype="float32").init(KEY)
    assert asked == [((I, H), "float32")] * 3
    for block in gates(params.w_xh, 3):
        np.testing.assert_array_equal(block, np.arange(I * H).reshape(I, H))


# ---- biases and peepholes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("coupled", "expected"), [(False, [0, 2.5, 0, 0]), (True, [2.5, 0, 0])])
def test_forget_bias(coupled, expected):
    """``forget_bias`` is in the block of the forget gate in ``b_h``: second of i, f, o, c̃; first of f, o, c̃."""
    b_h = rnn.LSTM(I, H, coupled=coupled, forget_bias=2.5).init(KEY).b_h
    np.testing.assert_array_equal(b_h, np.repeat(expected, H))


def test_forget_bias_is_added_to_what_is_drawn():
    """It is added to the drawn bias, by default 1, and has no effect without a bias."""
    drawn = rnn.LSTM(I, H, forget_bias=0.0, b_h_init="normal").init(KEY).b_h
    shifted = rnn.LSTM(I, H, b_h_init="normal").init(KEY).b_h
    np.testing.assert_allclose(shifted - drawn, np.repeat([0, 1, 0, 0], H), atol=1e-6)
    assert drawn.any()
    assert rnn.LSTM(I, H, use_bias=False, forget_bias=2.5).init(KEY).b_h is None


def test_forget_bias_acts_through_the_bias_only():
    """At run time only ``b_h`` has an effect, not the hyperparameter."""
    one, other = rnn.LSTM(I, H, forget_bias=0.0), rnn.LSTM(I, H, forget_bias=5.0)
    params, xs = one.init(KEY), jnp.ones((3, I))
    np.testing.assert_array_equal(rnn.unroll(one, params, xs)[1], rnn.unroll(other, params, xs)[1])


@pytest.mark.parametrize("letters", ["i", "f", "o", "if", "fo", "ifo"])
def test_peephole_rows(letters):
    """One row per gate, drawn by ``peepholes_init``, 0 by default; the order of the letters has no effect."""
    cell = rnn.LSTM(I, H, peepholes=letters, peepholes_init="normal")
    rows = cell.init(KEY).peepholes
    assert rows.shape == (len(letters), H)
    assert (np.asarray(rows) != 0).all()
    assert not rnn.LSTM(I, H, peepholes=letters).init(KEY).peepholes.any()
    assert rnn.LSTM(I, H, peepholes=letters[::-1], peepholes_init="normal") == cell


# ---- everywhere ----------------------------------------------------------------------------------------------------


def test_everywhere():
    """One initializer for every parameter of a nested model, biases and peepholes too; nothing else changes."""
    inner = rnn.Bidirectional(rnn.LSTM(I, H, peepholes="ifo", forget_bias=0.0))
    model = rnn.Stack(
        rnn.Embedding(7, I), inner, rnn.Dropout(0.5), rnn.Residual(rnn.GRU(2 * H, 2 * H, reset_after=True))
    )
    model = rnn.Stack(model, rnn.Linear(2 * H, 2))
    drawn = everywhere(model, initializers.uniform(0.1))
    leaves = jax.tree.leaves(drawn.init(KEY))
    numbers = np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])
    assert len(leaves) == len(jax.tree.leaves(model.init(KEY)))
    assert 0.095 < np.abs(numbers).max() <= 0.1
    assert all(len(np.unique(leaf)) > 0.9 * leaf.size for leaf in leaves), "every array is drawn"
    assert jax.tree.map(jnp.shape, drawn.init(KEY)) == jax.tree.map(jnp.shape, model.init(KEY))
    assert rnn.from_repr(repr(drawn)) == drawn
    assert everywhere(drawn, initializers.uniform(0.1)) == drawn


def test_everywhere_in_tied_weights():
    """The bias of the readout is initialised too."""
    model = everywhere(rnn.Tied(rnn.Embedding(7, I), rnn.GRU(I, I)), "ones")
    assert all((np.asarray(leaf) == 1).all() for leaf in jax.tree.leaves(model.init(KEY)))


def test_everywhere_leaves_the_forget_bias():
    """The forget bias is added to the drawn bias, as before."""
    b_h = everywhere(rnn.LSTM(I, H, forget_bias=3.0), "zeros").init(KEY).b_h
    np.testing.assert_array_equal(b_h, np.repeat([0, 3, 0, 0], H))


def test_uniform_from_a_lower_end():
    """Symmetric about 0, or from ``low`` on, as the recurrent weights of an IndRNN are by default."""
    symmetric, above = (np.asarray(initializers.uniform(0.5, low)(KEY, (1000,), "float32")) for low in (None, 0.25))
    assert -0.5 <= symmetric.min() < -0.4 < 0.4 < symmetric.max() <= 0.5
    assert 0.25 <= above.min() < 0.3 < 0.45 < above.max() <= 0.5
    u = np.asarray(rnn.IndRNN(I, 1000).init(KEY).w_hh)
    assert u.shape == (1000,)
    assert 0 <= u.min() < 0.1 < 0.9 < u.max() <= 1
