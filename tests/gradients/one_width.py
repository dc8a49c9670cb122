"""Models with layers of one width, so that they share compiled functions."""

import jax
import jax.numpy as jnp
import numpy as np
from zoo import Average, random_params, reads_ids, softsign

import jaxrnn as rnn

N, T, B = 4, 5, 3  # features of all layers, steps, sequences
D = {"dtype": "float64"}
LENGTHS = np.array([T, 2, 0])
RESETS = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 1], [0, 1, 0]], bool)  # [T, B]
MASK = np.arange(T)[:, None] < LENGTHS


def vanilla(**options):
    return rnn.VanillaRNN(N, N, **D, **options)


def lstm(**options):
    return rnn.LSTM(N, N, **D, **options)


def gru(**options):
    return rnn.GRU(N, N, **D, **options)


FAMILIES = {  # every option of every cell, stacked
    "every vanilla": rnn.Stack(
        vanilla(),
        vanilla(activation="relu"),
        vanilla(activation="sigmoid"),
        vanilla(activation=softsign),
        vanilla(use_bias=False),
    ),
    "every LSTM": rnn.Stack(
        lstm(),
        lstm(peepholes="ifo"),
        lstm(peepholes="io", output_peephole="previous"),
        lstm(peepholes="fo", coupled=True),
        lstm(use_bias=False),
    ),
    "every GRU": rnn.Stack(gru(), gru(use_bias=False), gru(reset_after=True), gru(reset_after=True, use_bias=False)),
}
MODELS = {
    "vanilla": vanilla(),
    "LSTM": lstm(peepholes="ifo"),
    "GRU": gru(),
    "stack": rnn.Stack(vanilla(), rnn.Dropout(0.5), lstm(), gru(), rnn.Linear(N, N, **D)),
    "both directions": rnn.Bidirectional(lstm(), vanilla(), merge="both"),
    "deep both directions": rnn.Stack(
        rnn.Embedding(N, N, **D), rnn.Bidirectional(rnn.Stack(gru(), vanilla()), merge="sum"), rnn.Bidirectional(gru())
    ),
    "residual": rnn.Stack(rnn.Residual(gru()), rnn.Residual(lstm(), "concat")),
    "tied": rnn.Tied(rnn.Embedding(N, N, **D), rnn.Stack(gru(), lstm())),
    "user": rnn.Stack(Average(N, "float64"), gru()),
}


def identity(z):
    """No activation."""
    return z


def linear(scale, dtype="float32"):
    """A linear network with ``w_hh = scale · Q``, Q orthogonal, and its parameters."""
    cell = rnn.VanillaRNN(N, N, activation=identity, use_bias=False, dtype=dtype)
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(N, N)))
    return cell, random_params(cell)._replace(w_hh=jnp.asarray(scale * q, dtype))


def case(name):
    """A model, random parameters and inputs ``[T, B, N]`` or token ids ``[T, B]``."""
    model, rng = (MODELS | FAMILIES)[name], np.random.default_rng(2)
    ids = rng.integers(0, N, (T, B)).astype("int32")
    return model, random_params(model), jnp.asarray(ids if reads_ids(model) else rng.normal(size=(T, B, N)))


def assert_close(got, expected, rtol=0, atol=1e-10):
    """Equal leaf by leaf, shapes included."""
    got, expected = jax.tree.leaves(got), jax.tree.leaves(expected)
    assert [np.shape(leaf) for leaf in got] == [np.shape(leaf) for leaf in expected]
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
