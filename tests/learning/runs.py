"""Common to the tests of learning: bitwise comparison of trees, a small problem with a carried state, a real model."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Streams

KEY = jax.random.key(7)


def more(*cases):
    """Further cases, for ``pytest -m slow``."""
    return [pytest.param(case, marks=pytest.mark.slow) for case in cases]


def bits(tree):
    """Dtype, shape and bytes of every array by path; -0, NaN and random keys as they are stored."""

    def one(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()

    return {jax.tree_util.keystr(path): one(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def same_bits(a, b):
    """Whether two trees have the same structure and the same bits."""
    return jax.tree.structure(a) == jax.tree.structure(b) and bits(a) == bits(b)


def small_loss(params, carry, batch, key):
    """A recurrence of one step per batch: cheap to compile, with carry, noise and metrics."""
    noise = 0.0 if key is None else 0.1 * jax.random.normal(key, carry.shape)
    h = jnp.tanh(carry @ params["w_hh"] + batch @ params["w"] + noise)
    return jnp.mean((h - 0.3) ** 2), (jax.lax.stop_gradient(h), {"size": jnp.abs(h).max()})


def small_params():
    rng = np.random.default_rng(0)
    return {name: jnp.asarray(rng.normal(size=(3, 3)), "float32") for name in ("w", "w_hh")}


def small_state(optimizer):
    return learning.train_state(small_params(), optimizer, jnp.zeros((2, 3)))


class Noise:
    """An endless source of random batches, some of them not finite; records which are read."""

    def __init__(self, bad=(), rows=lambda n: 2):
        self.bad, self.rows, self.read = bad, rows, []

    def __getitem__(self, n):
        self.read.append(n)
        batch = np.random.default_rng(n).normal(size=(self.rows(n), 3)).astype("float32")
        return np.where(n in self.bad, np.float32(np.nan), batch)


def language():
    """A small language model, its loss, its optimizer and its streams."""
    model = rnn.Stack(rnn.Embedding(5, 3), rnn.VanillaRNN(3, 4), rnn.Dropout(0.3), rnn.Linear(4, 5))
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(optax.cosine_decay_schedule(0.05, 20)))
    streams = Streams(np.random.default_rng(0).integers(0, 5, 65), 2, 4)
    return model, learning.stream_loss(model), optimizer, streams
