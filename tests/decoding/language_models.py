"""Language models, and all sequences that they can generate: shared by the tests of decoding."""

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
    """A user's model over token ids: its state counts the tokens, its logits prefer the count modulo V."""

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
    """A language model that allows the next few token ids only, or eos: logits of -∞ for the others."""

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
        state, logits = self.model.step(params, state, token)
        tokens = jnp.broadcast_to(jnp.arange(self.size), logits.shape)
        distance = (tokens - token[..., None].astype(jnp.int32)) % self.size
        allowed = (distance > 0) & (distance <= self.branches)
        if self.eos is not None:
            allowed |= tokens == self.eos
        return state, jnp.where(allowed, logits, -jnp.inf)


def random_start(model, batch=(B,), scale=1.5):
    """Random parameters, large enough that some tokens are preferred, a random state and a random first token."""
    rng = np.random.default_rng(0)

    def fill(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return jnp.asarray(rng.integers(0, V, leaf.shape), leaf.dtype)
        return jnp.asarray(rng.normal(0, scale, leaf.shape), leaf.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0)), jax.eval_shape(lambda: model.initial_state(batch))
    return *jax.tree.map(fill, shapes), jnp.asarray(rng.integers(0, V, batch), jnp.int32)


def log_softmax(logits):
    """In NumPy, float64."""
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def teacher_forced(model, params, state, token, tokens):
    """Log probabilities of tokens [T, ...] by ``unroll``."""
    _, logits = rnn.unroll(model, params, jnp.concatenate([token[None], tokens[:-1]]), state)
    return np.take_along_axis(log_softmax(logits), np.asarray(tokens)[..., None], -1)[..., 0]


def all_sequences(model, params, state, token, *, size, steps, eos=None, alpha=0.0):
    """All sequences that can follow one start, the best score first: ``[(score, tokens)]``.

    They are scored as a batch in one teacher-forced pass.
    """
    tokens = np.array(list(itertools.product(range(size), repeat=steps)), np.int32).T  # [steps, V^steps]
    batch = tokens.shape[1:]
    state = jax.tree.map(lambda x: jnp.broadcast_to(x, batch + x.shape), state)
    log_probs = teacher_forced(model, params, state, jnp.broadcast_to(token, batch), jnp.asarray(tokens))
    scores = {}
    for sequence, each in zip(tokens.T.tolist(), log_probs.T):
        length = sequence.index(eos) + 1 if eos in sequence else steps
        scores[tuple(sequence[:length])] = each[:length].sum() / length**alpha
    return sorted(((score, sequence) for sequence, score in scores.items() if score > -np.inf), reverse=True)


def row(tree, index):
    """One sequence of a batch."""
    return jax.tree.map(lambda x: x[index], tree)
