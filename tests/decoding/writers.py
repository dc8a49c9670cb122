"""Models that write, and all that they could write: what the tests of decoding share."""

import dataclasses
import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn as rnn

V, B = 6, 3


@dataclasses.dataclass(frozen=True)
class Counter:
    """A user's own model over token ids: its state counts the tokens, its scores prefer the count modulo V."""

    input_ndim: ClassVar[int] = 0

    def init(self, key):
        return {"sharpness": jnp.asarray(3.0)}

    def initial_state(self, batch_shape=()):
        return {"n": jnp.zeros(batch_shape, jnp.int32)}

    def step(self, params, state, token):
        n = state["n"] + 1 + token.astype(jnp.int32)
        return {"n": n}, params["sharpness"] * jax.nn.one_hot(n % V, V)


def lstm(size=V, dtype="float32"):
    return rnn.Stack(
        rnn.Embedding(size, 4, dtype=dtype), rnn.LSTM(4, 5, dtype=dtype), rnn.Dropout(0.5),
        rnn.Linear(5, size, use_bias=False, dtype=dtype),
    )  # fmt: skip


def tied():
    return rnn.Tied(rnn.Embedding(V, 4), rnn.Stack(rnn.GRU(4, 5, reset_after=True), rnn.VanillaRNN(5, 4)))


MODELS = {"user": Counter, "lstm": lstm, "tied": tied}


@dataclasses.dataclass(frozen=True)
class Narrow:
    """A language model that may go on with the next few tokens only, or eos: -∞ for the rest."""

    input_ndim: ClassVar[int] = 0

    size: int
    branches: int
    eos: int | None = None

    @property
    def model(self):
        return lstm(self.size)

    def init(self, key):
        return self.model.init(key)

    def initial_state(self, batch_shape=()):
        return self.model.initial_state(batch_shape)

    def step(self, params, state, token):
        state, scores = self.model.step(params, state, token)
        tokens = jnp.broadcast_to(jnp.arange(self.size), scores.shape)
        distance = (tokens - token[..., None].astype(jnp.int32)) % self.size
        allowed = (distance > 0) & (distance <= self.branches)
        if self.eos is not None:
            allowed |= tokens == self.eos
        return state, jnp.where(allowed, scores, -jnp.inf)


def start_decoder(model, batch=(B,), scale=1.5):
    """Parameters that prefer some tokens, a state that is not the first one, and a token."""
    rng = np.random.default_rng(0)

    def fill(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return jnp.asarray(rng.integers(0, V, leaf.shape), leaf.dtype)
        return jnp.asarray(rng.normal(0, scale, leaf.shape), leaf.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0)), jax.eval_shape(lambda: model.initial_state(batch))
    return *jax.tree.map(fill, shapes), jnp.asarray(rng.integers(0, V, batch), jnp.int32)


def log_softmax(scores):
    """By NumPy in float64."""
    scores = np.asarray(scores, np.float64)
    scores = scores - scores.max(-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def forced(model, params, state, token, tokens):
    """Log probabilities of tokens [T, ...] by ``unroll``."""
    _, scores = rnn.unroll(model, params, jnp.concatenate([token[None], tokens[:-1]]), state)
    return np.take_along_axis(log_softmax(scores), np.asarray(tokens)[..., None], -1)[..., 0]


def everything(model, params, state, token, *, size, steps, eos=None, alpha=0.0):
    """All sequences that one start may go on with, the best score first: ``[(score, tokens)]``.

    Each is scored in one teacher-forced pass over all of them as a batch.
    """
    tokens = np.array(list(itertools.product(range(size), repeat=steps)), np.int32).T  # [steps, V^steps]
    many = tokens.shape[1:]
    state = jax.tree.map(lambda x: jnp.broadcast_to(x, many + x.shape), state)
    each = forced(model, params, state, jnp.broadcast_to(token, many), jnp.asarray(tokens))
    found = {}
    for written, logs in zip(tokens.T.tolist(), each.T):
        length = written.index(eos) + 1 if eos in written else steps
        found[tuple(written[:length])] = logs[:length].sum() / length**alpha
    return sorted(((score, written) for written, score in found.items() if score > -np.inf), reverse=True)


def row(tree, index):
    """One sequence out of a batch."""
    return jax.tree.map(lambda x: x[index], tree)
