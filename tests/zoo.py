"""The models that every contract test crosses: all kinds of cell and layer, and a user's own cell."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as rnn
from jaxrnn.cells import SLSTMState
from jaxrnn.layers.clock import ClockState
from jaxrnn.types import input_ndim

I, H, V = 3, 4, 7  # noqa: E741  features of an input, units of a state, tokens
T, B = 5, 3
STDDEV = 0.7  # of random parameters: gates neither linear nor saturated


def softsign(x: jax.Array) -> jax.Array:
    """An activation that has no name in the library."""
    return x / (1 + jnp.abs(x))


@dataclasses.dataclass(frozen=True)
class Average:
    """A user's own cell: three methods, no base class.

    ``m_t = m_{t-1} + σ(rate) ⊙ (x_t - m_{t-1})``, ``y_t = x_t - m_t``, and a count of the steps. Its initial
    state is not 0, its state holds an integer, its output is not its state.
    """

    size: int
    dtype: str = "float32"

    START = 0.5

    def init(self, key: jax.Array) -> dict:
        return {"rate": jax.random.normal(key, (self.size,), self.dtype)}

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> dict:
        mean = jnp.full((*batch_shape, self.size), self.START, self.dtype)
        return {"mean": mean, "steps": jnp.zeros(batch_shape, jnp.int32)}

    def step(self, params: dict, state: dict, x: jax.Array) -> tuple[dict, jax.Array]:
        rate = jnp.broadcast_to(jax.nn.sigmoid(params["rate"]), x.shape)
        mean = state["mean"] + rate * (x - state["mean"])
        return {"mean": mean, "steps": state["steps"] + 1}, x - mean


class Entry(NamedTuple):
    """A model of the zoo and its properties."""

    build: Callable[[str], Any]  # from a dtype
    width: int | tuple[int, int]  # features of an output; a pair for merge="both"
    sees: str  # the inputs that an output depends on: "now", "past", "future" or "all"


def vanilla(dtype: str, takes: int = I, units: int = H, **options: Any) -> rnn.VanillaRNN:
    return rnn.VanillaRNN(takes, units, dtype=dtype, **options)


def lstm(dtype: str, takes: int = I, units: int = H, **options: Any) -> rnn.LSTM:
    return rnn.LSTM(takes, units, dtype=dtype, **options)


def gru(dtype: str, takes: int = I, units: int = H, **options: Any) -> rnn.GRU:
    return rnn.GRU(takes, units, dtype=dtype, **options)


def leaky(dtype: str, takes: int = I, units: int = H, **options: Any) -> rnn.LeakyRNN:
    return rnn.LeakyRNN(takes, units, dtype=dtype, **options)


def mgu(dtype: str, takes: int = I, units: int = H, **options: Any) -> rnn.MGU:
    return rnn.MGU(takes, units, dtype=dtype, **options)


def janet(dtype: str, takes: int = I, units: int = H, **options: Any) -> rnn.JANET:
    return rnn.JANET(takes, units, dtype=dtype, **options)


def mlstm(dtype: str, takes: int = I, units: int = H, **options: Any) -> rnn.MultiplicativeLSTM:
    return rnn.MultiplicativeLSTM(takes, units, dtype=dtype, **options)


def slstm(dtype: str, takes: int = I, units: int = H, **options: Any) -> rnn.SLSTM:
    return rnn.SLSTM(takes, units, dtype=dtype, **options)


def indrnn(dtype: str, **options: Any) -> rnn.IndRNN:
    return rnn.IndRNN(I, H, dtype=dtype, **options)


def linear(dtype: str, takes: int = I, gives: int = H, **options: Any) -> rnn.Linear:
    return rnn.Linear(takes, gives, dtype=dtype, **options)


def embedding(dtype: str, size: int = I) -> rnn.Embedding:
    return rnn.Embedding(V, size, dtype=dtype)


def gru_d(dtype: str, takes: int = I, units: int = H, **options: Any) -> rnn.GRUD:
    return rnn.GRUD(takes, units, dtype=dtype, **options)


def conv(dtype: str, *shape: int, kernel: Any = 3, **options: Any) -> rnn.ConvLSTM:
    """A convolutional LSTM of inputs of this shape."""
    return rnn.ConvLSTM(shape, 2, kernel, dtype=dtype, **options)


def mixed(dtype: str) -> rnn.Stack:
    """Every kind of cell in one stack, with dropout and a readout."""
    peephole = lstm(dtype, H, 5, peepholes="ifo")
    return rnn.Stack(vanilla(dtype), rnn.Dropout(0.5), peephole, gru(dtype, 5, H), linear(dtype, H, 2))


def tagger(dtype: str) -> rnn.Stack:
    """Two bidirectional layers, one above the other."""
    below, above = rnn.Bidirectional(lstm(dtype)), rnn.Bidirectional(gru(dtype, 2 * H, H), merge="sum")
    return rnn.Stack(embedding(dtype), below, above, linear(dtype, H, 2))


def recurrent_stack(dtype: str) -> rnn.Stack:
    """A state that holds an integer, states of two arrays, and a layer without state."""
    return rnn.Stack(Average(I, dtype), lstm(dtype), linear(dtype, H, H))


def clockwork(dtype: str) -> rnn.SkipStack:
    """A module that is slow, and a fast one that reads it."""
    return rnn.SkipStack(rnn.Clockwork(gru(dtype), 2), lstm(dtype, I + H, H))


ALL_OPTIONS = {"layer_norm": True, "projection_size": 2, "cell_clip": 0.8, "projection_clip": 0.5}  # of an LSTM

ZOO: dict[str, Entry] = {
    "vanilla-tanh": Entry(vanilla, H, "past"),
    "vanilla-relu": Entry(lambda d: vanilla(d, activation="relu"), H, "past"),
    "vanilla-sigmoid": Entry(lambda d: vanilla(d, activation="sigmoid"), H, "past"),
    "vanilla-callable": Entry(lambda d: vanilla(d, activation=softsign), H, "past"),
    "vanilla-no-bias": Entry(lambda d: vanilla(d, use_bias=False), H, "past"),
    "vanilla-norm": Entry(lambda d: vanilla(d, layer_norm=True), H, "past"),
    "vanilla-norm-callable": Entry(lambda d: vanilla(d, layer_norm=True, activation=softsign), H, "past"),
    "lstm": Entry(lstm, H, "past"),
    "lstm-peephole-i": Entry(lambda d: lstm(d, peepholes="i"), H, "past"),
    "lstm-peephole-o": Entry(lambda d: lstm(d, peepholes="o"), H, "past"),
    "lstm-peephole-fo": Entry(lambda d: lstm(d, peepholes="fo"), H, "past"),
    "lstm-peephole-ifo": Entry(lambda d: lstm(d, peepholes="ifo"), H, "past"),
    "lstm-peephole-previous": Entry(lambda d: lstm(d, peepholes="ifo", output_peephole="previous"), H, "past"),
    "lstm-coupled": Entry(lambda d: lstm(d, coupled=True), H, "past"),
    "lstm-coupled-peephole-fo": Entry(lambda d: lstm(d, coupled=True, peepholes="fo"), H, "past"),
    "lstm-no-bias": Entry(lambda d: lstm(d, peepholes="f", use_bias=False), H, "past"),
    "lstm-norm": Entry(lambda d: lstm(d, layer_norm=True), H, "past"),
    "lstm-norm-coupled-peephole-fo": Entry(lambda d: lstm(d, layer_norm=True, coupled=True, peepholes="fo"), H, "past"),
    "lstm-projection": Entry(lambda d: lstm(d, projection_size=2), 2, "past"),
    "lstm-clip": Entry(lambda d: lstm(d, cell_clip=0.5, peepholes="o", use_bias=False), H, "past"),
    "lstm-options": Entry(lambda d: lstm(d, peepholes="ifo", **ALL_OPTIONS), 2, "past"),
    "gru": Entry(gru, H, "past"),
    "gru-no-bias": Entry(lambda d: gru(d, use_bias=False), H, "past"),
    "gru-after": Entry(lambda d: gru(d, reset_after=True), H, "past"),
    "gru-after-no-bias": Entry(lambda d: gru(d, reset_after=True, use_bias=False), H, "past"),
    "leaky": Entry(leaky, H, "past"),
    "leaky-callable": Entry(lambda d: leaky(d, alpha=0.7, noise=0.1, activation=softsign), H, "past"),
    "mgu": Entry(mgu, H, "past"),
    "mgu-keep": Entry(lambda d: mgu(d, reset="keep"), H, "past"),
    "mgu-after": Entry(lambda d: mgu(d, reset_after=True), H, "past"),
    "mgu-keep-after": Entry(lambda d: mgu(d, reset="keep", reset_after=True), H, "past"),
    "mgu-none": Entry(lambda d: mgu(d, reset="none"), H, "past"),
    "mgu-none-after": Entry(lambda d: mgu(d, reset="none", reset_after=True), H, "past"),
    "mgu-no-bias": Entry(lambda d: mgu(d, reset_after=True, use_bias=False), H, "past"),
    "janet": Entry(janet, H, "past"),
    "janet-beta": Entry(lambda d: janet(d, beta=0.0), H, "past"),
    "janet-no-bias": Entry(lambda d: janet(d, use_bias=False), H, "past"),
    "mlstm": Entry(mlstm, H, "past"),
    "mlstm-outside": Entry(lambda d: mlstm(d, output_gate="outside"), H, "past"),
    "mlstm-no-bias": Entry(lambda d: mlstm(d, use_bias=False), H, "past"),
    "slstm": Entry(slstm, H, "past"),
    "slstm-heads": Entry(lambda d: slstm(d, heads=2), H, "past"),
    "slstm-exponential": Entry(lambda d: slstm(d, forget="exponential"), H, "past"),
    "slstm-no-bias": Entry(lambda d: slstm(d, use_bias=False, heads=4), H, "past"),
    "gru-norm": Entry(lambda d: gru(d, layer_norm=True), H, "past"),
    "gru-norm-after": Entry(lambda d: gru(d, layer_norm=True, reset_after=True), H, "past"),
    "gru-norm-no-bias": Entry(lambda d: gru(d, layer_norm=True, reset_after=True, use_bias=False), H, "past"),
    "gru_d": Entry(gru_d, H, "past"),
    "gru_d-no-bias": Entry(lambda d: gru_d(d, use_bias=False), H, "past"),
    "gru_d-stack": Entry(lambda d: rnn.Stack(gru_d(d), linear(d, H, 2)), 2, "past"),
    "conv": Entry(lambda d: conv(d, 4, 1), 2, "past"),
    "conv-2d": Entry(lambda d: conv(d, 3, 4, 2, kernel=(2, 3)), 2, "past"),
    "conv-3d": Entry(lambda d: conv(d, 2, 2, 3, 1, kernel=2), 2, "past"),
    "conv-peepholes": Entry(lambda d: conv(d, 3, 2, 1, peepholes=True), 2, "past"),
    "conv-no-bias": Entry(lambda d: conv(d, 4, 1, use_bias=False), 2, "past"),
    "conv-strided": Entry(lambda d: conv(d, 5, 4, 1, strides=(2, 1), peepholes=True), 2, "past"),
    "conv-valid": Entry(lambda d: conv(d, 5, 2, padding="VALID", strides=2), 2, "past"),
    "conv-dilated": Entry(lambda d: conv(d, 5, 1, padding="VALID", dilation=2), 2, "past"),
    "conv-stack": Entry(lambda d: rnn.Stack(conv(d, 4, 1), conv(d, 4, 2), linear(d, 2, 3)), 3, "past"),
    "conv-flatten": Entry(lambda d: rnn.Stack(conv(d, 4, 1), rnn.Flatten((4, 2)), gru(d, 8, H)), H, "past"),
    "conv-bidirectional": Entry(lambda d: rnn.Bidirectional(conv(d, 4, 1)), 4, "all"),
    "sru": Entry(lambda d: rnn.SRU(I, H, highway_bias=-0.5, dtype=d), H, "past"),
    "sru-no-projection": Entry(lambda d: rnn.SRU(I, I, dtype=d), I, "past"),
    "sru-peepholes": Entry(lambda d: rnn.SRU(I, H, peepholes=True, dtype=d), H, "past"),
    "sru-no-bias": Entry(lambda d: rnn.SRU(I, H, use_bias=False, dtype=d), H, "past"),
    "mingru": Entry(lambda d: rnn.MinGRU(I, H, dtype=d), H, "past"),
    "mingru-positive": Entry(lambda d: rnn.MinGRU(I, H, positive=True, use_bias=False, dtype=d), H, "past"),
    "minlstm": Entry(lambda d: rnn.MinLSTM(I, H, dtype=d), H, "past"),
    "minlstm-positive": Entry(lambda d: rnn.MinLSTM(I, H, positive=True, dtype=d), H, "past"),
    "lru": Entry(lambda d: rnn.LRU(I, H, dtype=d), H, "past"),
    "indrnn": Entry(indrnn, H, "past"),
    "indrnn-bounded": Entry(lambda d: indrnn(d, activation="tanh", recurrent_max=0.5), H, "past"),
    "indrnn-callable": Entry(lambda d: indrnn(d, activation=softsign), H, "past"),
    "indrnn-no-bias": Entry(lambda d: indrnn(d, use_bias=False), H, "past"),
    "linear": Entry(linear, H, "now"),
    "linear-no-bias": Entry(lambda d: linear(d, use_bias=False), H, "now"),
    "embedding": Entry(embedding, I, "now"),
    "dropout": Entry(lambda d: rnn.Dropout(0.5), I, "now"),
    "stack-deep": Entry(lambda d: rnn.Stack(lstm(d), lstm(d, H, H)), H, "past"),
    "stack-mixed": Entry(mixed, 2, "past"),
    "stack-embedding": Entry(lambda d: rnn.Stack(embedding(d), gru(d), linear(d, H, V)), V, "past"),
    "bidirectional-concat": Entry(lambda d: rnn.Bidirectional(gru(d)), 2 * H, "all"),
    "bidirectional-sum": Entry(lambda d: rnn.Bidirectional(gru(d), merge="sum"), H, "all"),
    "bidirectional-mean": Entry(lambda d: rnn.Bidirectional(gru(d), merge="mean"), H, "all"),
    "bidirectional-product": Entry(lambda d: rnn.Bidirectional(gru(d), merge="product"), H, "all"),
    "bidirectional-both": Entry(lambda d: rnn.Bidirectional(gru(d), merge="both"), (H, H), "all"),
    "bidirectional-unlike": Entry(lambda d: rnn.Bidirectional(lstm(d), vanilla(d, I, 2)), H + 2, "all"),
    "bidirectional-of-stack": Entry(lambda d: rnn.Bidirectional(rnn.Stack(lstm(d), gru(d, H, 2))), 4, "all"),
    "stack-of-bidirectional": Entry(tagger, 2, "all"),
    "reverse": Entry(lambda d: rnn.Reverse(gru(d)), H, "future"),
    "activation": Entry(lambda d: rnn.Stack(linear(d), rnn.Activation("softmax")), H, "now"),
    "residual-sum": Entry(lambda d: rnn.Residual(gru(d, I, I)), I, "past"),
    "residual-concat": Entry(lambda d: rnn.Residual(lstm(d), "concat"), I + H, "past"),
    "tied": Entry(lambda d: rnn.Tied(embedding(d), rnn.Stack(gru(d), lstm(d, H, I))), V, "past"),
    "tied-no-bias": Entry(lambda d: rnn.Tied(embedding(d), gru(d, I, I), use_bias=False), V, "past"),
    "zoneout": Entry(lambda d: rnn.Zoneout(lstm(d, peepholes="ifo"), (0.1, 0.4)), H, "past"),
    "recurrent-dropout": Entry(lambda d: rnn.RecurrentDropout(gru(d), 0.3), H, "past"),
    "variational-dropout": Entry(lambda d: rnn.VariationalDropout(lstm(d), inputs=0.2, state=0.3), H, "past"),
    "word-dropout": Entry(lambda d: rnn.WordDropout(embedding(d), 0.3), I, "now"),
    "weight-drop": Entry(lambda d: rnn.WeightDrop(lstm(d), 0.5), H, "past"),
    "mixed-precision": Entry(lambda d: rnn.MixedPrecision(rnn.Stack(gru(d), linear(d, H)), d, d), H, "past"),
    "user-in-learned-state": Entry(lambda d: rnn.LearnedState(recurrent_stack(d)), H, "past"),
    "learned-state": Entry(lambda d: rnn.Bidirectional(rnn.LearnedState(gru(d))), 2 * H, "all"),
    "highway": Entry(lambda d: rnn.Highway(lstm(d, I, I), dtype=d), I, "past"),
    "skip-stack": Entry(lambda d: rnn.SkipStack(lstm(d), gru(d, I + H, H), lstm(d, I + H, 2)), 2 * H + 2, "past"),
    "skip-stack-last": Entry(lambda d: rnn.SkipStack(gru(d), gru(d, I + H, 2), outputs="last"), 2, "past"),
    "clockwork": Entry(clockwork, 2 * H, "past"),
    "user": Entry(lambda d: Average(I, d), I, "past"),
    "user-in-stack": Entry(lambda d: rnn.Stack(Average(I, d), gru(d), Average(H, d)), H, "past"),
    "user-in-bidirectional": Entry(lambda d: rnn.Bidirectional(Average(I, d)), 2 * I, "all"),
}

# cells for which ONNX has no operator, by the start of their names
RARE = ("mgu", "janet", "mlstm", "slstm", "gru_d", "sru", "mingru", "minlstm", "lru", "indrnn", "leaky")

# models with layers that are not written as nodes of ONNX
UNWRITTEN = [name for name in ZOO if name.startswith("conv") or "learned-state" in name or "skip-stack" in name]
UNWRITTEN += ["zoneout", "recurrent-dropout", "variational-dropout", "word-dropout", "weight-drop"]
UNWRITTEN += ["highway", "clockwork"]

# entries of an option of a cell that is there without it; the costlier tests leave them out
OPTIONS = [name for name in ZOO if {"norm", "projection", "clip", "options"} & {*name.split("-")}]
VARIANTS = [*OPTIONS, *(name for name in ZOO if "-" in name and name.startswith((*RARE, "conv")))]

STEPPING = [name for name, entry in ZOO.items() if entry.sees in ("now", "past")]  # models that have a step


def few(cases: list, fast: list) -> list:
    """The cases of a test; those that are not in ``fast`` are run only by ``pytest -m slow``."""
    return [
        pytest.param(*(c if isinstance(c, tuple) else (c,)), marks=[] if c in fast else [pytest.mark.slow])
        for c in cases
    ]


def reads_ids(model: Any) -> bool:
    """Whether the model takes token ids, not vectors."""
    return input_ndim(model) == 0


def filled(tree: Any, seed: int = 0) -> Any:
    """Random nonzero values in the shapes and dtypes of a tree."""
    rng = np.random.default_rng(seed)

    def fill(leaf: Any) -> jax.Array:
        if leaf.dtype == jnp.bool_:
            return jnp.asarray(rng.integers(0, 2, leaf.shape), bool)
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return jnp.asarray(rng.integers(1, V, leaf.shape), leaf.dtype)
        return jnp.asarray(rng.normal(0, STDDEV, leaf.shape), leaf.dtype)

    return jax.tree.map(fill, tree)


def random_params(model: Any, seed: int = 0) -> Any:
    """Random parameters, including biases and peepholes."""
    return filled(jax.eval_shape(model.init, jax.random.key(0)), seed)


def random_state(model: Any, batch: tuple[int, ...] = (B,), seed: int = 1) -> Any:
    """A random state that steps lead to: an sLSTM's normaliser is at least 1, a clock is not before its start."""

    def reachable(state: Any) -> Any:
        if isinstance(state, SLSTMState):
            return state._replace(n=1 + jnp.abs(state.n))
        if isinstance(state, ClockState):
            inner = jax.tree.map(reachable, state.state, is_leaf=is_special)
            return ClockState(inner, jnp.maximum(state.time, state.start), jnp.minimum(state.time, state.start))
        return state

    def is_special(state: Any) -> bool:
        return isinstance(state, (SLSTMState, ClockState))

    state = filled(jax.eval_shape(lambda: model.initial_state(batch)), seed)
    return jax.tree.map(reachable, state, is_leaf=is_special)


def inputs(
    model: Any, steps: int = T, batch: tuple[int, ...] = (B,), seed: int = 2, dtype: str = "float64"
) -> jax.Array:
    """Random inputs: vectors ``[T, ..., I]``, token ids ``[T, ...]`` or images of the shape that the model takes."""
    rng = np.random.default_rng(seed)
    if reads_ids(model):
        return jnp.asarray(rng.integers(0, V, (steps, *batch)), jnp.int32)
    return jnp.asarray(rng.normal(size=(steps, *batch, *input_shape(model))), dtype)


def input_shape(model: Any) -> tuple[int, ...]:
    """The shape of one input that is not a token id: that of the first part of a model which has one."""
    parts = getattr(model, "layers", None) or [getattr(model, "forward", None) or getattr(model, "layer", None)]
    return getattr(model, "input_shape", (I,) if parts[0] is None else input_shape(parts[0]))


def widths(entry: Entry) -> list[int]:
    """Number of features of each array of an output."""
    return [entry.width] if isinstance(entry.width, int) else list(entry.width)


def count(tree: Any) -> int:
    """Number of array elements in a tree."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
