"""Reference implementation of the equations of the library, as plain Python loops.

NumPy in float64, one sequence at a time, one step at a time, each sequence cut at its own length. No code of the
library is called; only the hyperparameters of the models are read.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": sigmoid,
    "softsign": lambda z: z / (1 + np.abs(z)),
}
FUNCTIONS = {**ACTIVATIONS, "softmax": lambda x: np.exp(x) / np.exp(x).sum()}
MERGES = {
    "concat": lambda a, b: np.concatenate([a, b]),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: 0.5 * (a + b),
    "product": lambda a, b: a * b,
    "both": lambda a, b: (a, b),
}

# ---- one step of one sequence: (model, params, state, x) -> (state, y) ---------------------------------------------


def vanilla(model: Any, params: Any, h: np.ndarray, x: np.ndarray) -> tuple:
    z = h @ params.w_hh + x @ params.w_xh
    if model.use_bias:
        z = z + params.b_h
    f = model.activation if isinstance(model.activation, str) else model.activation.__name__
    h = ACTIVATIONS[f](z)
    return h, h


def lstm(model: Any, params: Any, state: tuple, x: np.ndarray) -> tuple:
    h, c = state
    H = model.hidden_size
    z = np.concatenate([x, h]) @ np.concatenate([params.w_xh, params.w_hh])
    if model.use_bias:
        z = z + params.b_h
    gates = ["f", "o", "c"] if model.coupled else ["i", "f", "o", "c"]
    z = {gate: z[n * H : (n + 1) * H] for n, gate in enumerate(gates)}
    weight = {gate: np.zeros(H) for gate in "ifo"}
    for row, gate in enumerate(gate for gate in "ifo" if gate in model.peepholes):
        weight[gate] = params.peepholes[row]
    f = sigmoid(z["f"] + weight["f"] * c)
    i = 1 - f if model.coupled else sigmoid(z["i"] + weight["i"] * c)
    c_new = f * c + i * np.tanh(z["c"])
    seen = {"current": c_new, "previous": c}[model.output_peephole]
    o = sigmoid(z["o"] + weight["o"] * seen)
    h_new = o * np.tanh(c_new)
    return (h_new, c_new), h_new


def gru(model: Any, params: Any, h: np.ndarray, x: np.ndarray) -> tuple:
    H = model.hidden_size
    w_xz, w_xr, w_xh = (params.w_xh[:, n * H : (n + 1) * H] for n in range(3))
    w_hz, w_hr, w_hh = (params.w_hh[:, n * H : (n + 1) * H] for n in range(3))
    b_z, b_r, b_h = np.reshape(params.b_h, (3, H)) if model.use_bias else np.zeros((3, H))
    two = model.use_bias and model.reset_after
    bb_z, bb_r, bb_h = np.reshape(params.b_hh, (3, H)) if two else np.zeros((3, H))
    z = sigmoid(x @ w_xz + h @ w_hz + b_z + bb_z)
    r = sigmoid(x @ w_xr + h @ w_hr + b_r + bb_r)
    if model.reset_after:
        candidate = np.tanh(x @ w_xh + b_h + r * (h @ w_hh + bb_h))
    else:
        candidate = np.tanh(x @ w_xh + (r * h) @ w_hh + b_h)
    h = (1 - z) * h + z * candidate
    return h, h


def indrnn(model: Any, params: Any, h: np.ndarray, x: np.ndarray) -> tuple:
    bound = np.inf if model.recurrent_max is None else model.recurrent_max
    u = np.minimum(np.maximum(params.w_hh, -bound), bound)
    z = x @ params.w_xh + u * h
    if model.use_bias:
        z = z + params.b_h
    f = model.activation if isinstance(model.activation, str) else model.activation.__name__
    h = ACTIVATIONS[f](z)
    return h, h


def linear(model: Any, params: Any, state: tuple, x: np.ndarray) -> tuple:
    return (), x @ params.w + (params.b if model.use_bias else 0)


def embedding(model: Any, params: Any, state: tuple, x: np.ndarray) -> tuple:
    return (), params.w[x]


def dropout(model: Any, params: Any, state: tuple, x: np.ndarray) -> tuple:
    return (), x


def activation(model: Any, params: Any, state: tuple, x: np.ndarray) -> tuple:
    return (), FUNCTIONS[model.function](x)


def average(model: Any, params: Any, state: dict, x: np.ndarray) -> tuple:
    a = sigmoid(params["rate"])
    mean = (1 - a) * state["mean"] + a * x
    return {"mean": mean, "steps": state["steps"] + 1}, x - mean


def no_state(model: Any) -> tuple:
    return ()


CELLS = {  # step, and the initial state of a sequence
    "VanillaRNN": (vanilla, lambda model: np.zeros(model.hidden_size)),
    "LSTM": (lstm, lambda model: (np.zeros(model.hidden_size), np.zeros(model.hidden_size))),
    "GRU": (gru, lambda model: np.zeros(model.hidden_size)),
    "IndRNN": (indrnn, lambda model: np.zeros(model.hidden_size)),
    "Average": (average, lambda model: {"mean": np.full(model.size, 0.5), "steps": 0}),
    "Linear": (linear, no_state),
    "Embedding": (embedding, no_state),
    "Dropout": (dropout, no_state),
    "Activation": (activation, no_state),
}

# ---- all steps of one sequence, in the order of the scan ----------------------------------------------------------


def initial(model: Any) -> Any:
    """The initial state of one sequence."""
    kind = type(model).__name__
    if kind == "Stack":
        return tuple(initial(layer) for layer in model.layers)
    if kind == "Bidirectional":
        return initial(model.forward), initial(model.backward or model.forward)
    if kind in ("Residual", "Tied", "MixedPrecision", "Reverse"):
        return initial(model.layer)
    return CELLS[kind][1](model)


def unroll_sequence(model: Any, params: Any, state: Any, xs: list, resets: list) -> tuple[Any, list, list]:
    """Return the final state, the outputs and the states; ``resets[k]`` acts before the k-th step of the scan."""
    kind = type(model).__name__
    if kind == "Stack":
        finals, all_states = [], []
        for layer, p, s in zip(model.layers, params, state, strict=True):
            final, xs, states = unroll_sequence(layer, p, s, xs, resets)
            finals.append(final)
            all_states.append(states)
        return tuple(finals), xs, list(zip(*all_states, strict=True))
    if kind == "Residual":
        final, ys, states = unroll_sequence(model.layer, params, state, xs, resets)
        return final, [MERGES[model.merge](x, y) for x, y in zip(xs, ys, strict=True)], states
    if kind == "MixedPrecision":  # tested with the same dtype inside
        return unroll_sequence(model.layer, params, state, xs, resets)
    if kind == "Tied":
        w = params.embedding.w
        final, ys, states = unroll_sequence(model.layer, params.layer, state, [w[x] for x in xs], resets)
        return final, [w @ y + (params.b if model.use_bias else 0) for y in ys], states
    if kind == "Bidirectional":
        # A reset before step k is a boundary between k - 1 and k. Backwards, step k comes first, then k - 1.
        boundaries = ([False, *resets[:0:-1]])[: len(resets)]
        final, ys, states = unroll_sequence(model.forward, params[0], state[0], xs, resets)
        back, ys_back, states_back = unroll_sequence(
            model.backward or model.forward, params[1], state[1], xs[::-1], boundaries
        )
        ys = [MERGES[model.merge](y, y_back) for y, y_back in zip(ys, ys_back[::-1], strict=True)]
        return (final, back), ys, list(zip(states, states_back[::-1], strict=True))
    if kind == "Reverse":
        boundaries = ([False, *resets[:0:-1]])[: len(resets)]
        final, ys, states = unroll_sequence(model.layer, params, state, xs[::-1], boundaries)
        return final, ys[::-1], states[::-1]
    step, start = CELLS[kind]
    ys, states = [], []
    for x, reset in zip(xs, resets, strict=True):
        state, y = step(model, params, start(model) if reset else state, x)
        ys.append(y)
        states.append(state)
    return state, ys, states


# ---- a batch of sequences ------------------------------------------------------------------------------------------


def unroll(
    model: Any, params: Any, xs: Any, state: Any = None, *, lengths: Any = None, resets: Any = None, reverse=False
) -> tuple[Any, Any, Any]:
    """Return ``(final, ys, states)`` for ``xs [T, ..., I]``; past its length, a sequence's ys and states are 0."""
    params, state, xs = jax.tree.map(to_float64, params), unnamed(state), to_float64(xs)
    ids = np.issubdtype(xs.dtype, np.integer)
    steps, batch = xs.shape[0], xs.shape[1:] if ids else xs.shape[1:-1]
    lengths = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    resets = np.zeros((steps, *batch), bool) if resets is None else np.asarray(resets)
    finals, all_ys, all_states = [], [], []
    for place in np.ndindex(batch):
        start = initial(model) if state is None else jax.tree.map(lambda s, at=place: s[at], state)
        order = range(lengths[place])[:: -1 if reverse else 1]
        x, boundaries = [xs[t, *place] for t in order], [bool(resets[t, *place]) for t in order]
        final, ys, states = unroll_sequence(model, params, start, x, boundaries)
        finals.append(final)
        all_ys.append(padded(ys[:: -1 if reverse else 1], steps))
        all_states.append(padded(states[:: -1 if reverse else 1], steps))
    return (
        stack_batch(finals, batch, 0),
        stack_batch(all_ys, batch, 1),
        stack_batch(all_states, batch, 1),
    )


def to_float64(x: Any) -> np.ndarray:
    """As a NumPy array, in float64 unless it is of integers."""
    x = np.asarray(x)
    return x if np.issubdtype(x.dtype, np.integer) else x.astype(np.float64)


def unnamed(state: Any) -> Any:
    """The state in NumPy, with plain tuples for named ones."""
    return tuple(map(unnamed, state)) if isinstance(state, tuple) else jax.tree.map(to_float64, state)


def padded(entries: list, steps: int) -> Any:
    """Arrays ``[T, ...]`` of the entries of one sequence, 0 from its end on; None if it has no step."""
    if not entries:
        return None
    empty = jax.tree.map(np.zeros_like, entries[0])
    return jax.tree.map(lambda *leaves: np.stack(leaves), *entries, *[empty] * (steps - len(entries)))


def stack_batch(trees: list, batch: tuple[int, ...], axis: int) -> Any:
    """Stack the trees of all sequences, with the batch axes at ``axis``."""
    like = next(tree for tree in trees if tree is not None)
    trees = [jax.tree.map(np.zeros_like, like) if tree is None else tree for tree in trees]

    def join(*leaves: Any) -> np.ndarray:
        together = np.stack(leaves, axis)
        return together.reshape((*together.shape[:axis], *batch, *together.shape[axis + 1 :]))

    return jax.tree.map(join, *trees)
