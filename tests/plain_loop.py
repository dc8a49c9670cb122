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
    "concat": lambda a, b: np.concatenate([a, b], -1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: 0.5 * (a + b),
    "product": lambda a, b: a * b,
    "both": lambda a, b: (a, b),
}

# ---- one step of one sequence: (model, params, state, x) -> (state, y) ---------------------------------------------
# Masks of dropout: m_h multiplies h where it enters a product, m_c the candidate.


def layer_norm(u: np.ndarray, norm: Any, part: slice = slice(None)) -> np.ndarray:
    """Of the part of gain and bias that belongs to u."""
    u = (u - u.mean()) / np.sqrt(u.var() + 1e-5)
    return norm.gain[part] * u + (0 if norm.bias is None else norm.bias[part])


def vanilla(model: Any, params: Any, h: np.ndarray, x: np.ndarray, m_h: Any = 1, m_c: Any = 1) -> tuple:
    z = (m_h * h) @ params.w_hh + x @ params.w_xh
    if model.layer_norm:
        z = layer_norm(z, params.layer_norm)
    elif model.use_bias:
        z = z + params.b_h
    f = model.activation if isinstance(model.activation, str) else model.activation.__name__
    h = m_c * ACTIVATIONS[f](z)
    return h, h


def leaky(model: Any, params: Any, h: np.ndarray, x: np.ndarray, m_h: Any = 1, m_c: Any = 1) -> tuple:
    a = (m_h * h) @ params.w_hh + x @ params.w_xh + (params.b_h if model.use_bias else 0)
    f = model.activation if isinstance(model.activation, str) else model.activation.__name__
    h = (1 - model.alpha) * h + model.alpha * m_c * ACTIVATIONS[f](a)
    return h, h


def lstm(model: Any, params: Any, state: tuple, x: np.ndarray, m_h: Any = 1, m_c: Any = 1) -> tuple:
    h, c = state
    h, H = m_h * h, model.hidden_size
    z = np.concatenate([x, h]) @ np.concatenate([params.w_xh, params.w_hh])
    norms = params.layer_norm
    if model.layer_norm:
        z = layer_norm(x @ params.w_xh, norms.x) + layer_norm(h @ params.w_hh, norms.h)
    if model.use_bias:
        z = z + params.b_h
    gates = ["f", "o", "c"] if model.coupled else ["i", "f", "o", "c"]
    z = {gate: z[n * H : (n + 1) * H] for n, gate in enumerate(gates)}
    weight = {gate: np.zeros(H) for gate in "ifo"}
    for row, gate in enumerate(gate for gate in "ifo" if gate in model.peepholes):
        weight[gate] = params.peepholes[row]
    f = sigmoid(z["f"] + weight["f"] * c)
    i = 1 - f if model.coupled else sigmoid(z["i"] + weight["i"] * c)
    c_new = f * c + i * m_c * np.tanh(z["c"])
    if model.cell_clip is not None:
        c_new = np.clip(c_new, -model.cell_clip, model.cell_clip)
    seen = {"current": c_new, "previous": c}[model.output_peephole]
    o = sigmoid(z["o"] + weight["o"] * seen)
    h_new = o * np.tanh(layer_norm(c_new, norms.c) if model.layer_norm else c_new)
    if model.projection_size is not None:
        h_new = h_new @ params.w_hr
        if model.projection_clip is not None:
            h_new = np.clip(h_new, -model.projection_clip, model.projection_clip)
    return (h_new, c_new), h_new


def gru(model: Any, params: Any, h: np.ndarray, x: np.ndarray, m_h: Any = 1, m_c: Any = 1) -> tuple:
    H = model.hidden_size
    w_xz, w_xr, w_xh = (params.w_xh[:, n * H : (n + 1) * H] for n in range(3))
    w_hz, w_hr, w_hh = (params.w_hh[:, n * H : (n + 1) * H] for n in range(3))
    b_z, b_r, b_h = np.reshape(params.b_h, (3, H)) if model.use_bias else np.zeros((3, H))
    two = model.use_bias and model.reset_after
    bb_z, bb_r, bb_h = np.reshape(params.b_hh, (3, H)) if two else np.zeros((3, H))
    read = m_h * h
    x_zr, h_zr = np.concatenate([x @ w_xz, x @ w_xr]), np.concatenate([read @ w_hz, read @ w_hr])
    x_c, normed = x @ w_xh, lambda u: u
    if model.layer_norm:
        norms, zr, c = params.layer_norm, slice(2 * H), slice(2 * H, None)
        x_zr, h_zr, x_c = layer_norm(x_zr, norms.x, zr), layer_norm(h_zr, norms.h, zr), layer_norm(x_c, norms.x, c)
        normed = lambda u: layer_norm(u, norms.h, c)  # noqa: E731
    z = sigmoid(x_zr[:H] + h_zr[:H] + b_z + bb_z)
    r = sigmoid(x_zr[H:] + h_zr[H:] + b_r + bb_r)
    if model.reset_after:
        candidate = np.tanh(x_c + b_h + r * (normed(read @ w_hh) + bb_h))
    else:
        candidate = np.tanh(x_c + normed((r * read) @ w_hh) + b_h)
    h = (1 - z) * h + z * m_c * candidate
    return h, h


def mgu(model: Any, params: Any, h: np.ndarray, x: np.ndarray, m_h: Any = 1, m_c: Any = 1) -> tuple:
    (w_xf, w_xh), (w_hf, w_hh) = np.split(params.w_xh, 2, 1), np.split(params.w_hh, 2, 1)
    b_f, b_h = np.split(params.b_h, 2) if model.use_bias else (0, 0)
    read = m_h * h
    f = sigmoid(x @ w_xf + read @ w_hf + b_f)
    r = {"update": f, "keep": 1 - f, "none": np.ones_like(f)}[model.reset]
    if model.reset_after:
        candidate = np.tanh(x @ w_xh + b_h + r * (read @ w_hh + (0 if params.b_hh is None else params.b_hh)))
    else:
        candidate = np.tanh(x @ w_xh + b_h + (r * read) @ w_hh)
    h = (1 - f) * h + f * m_c * candidate
    return h, h


def janet(model: Any, params: Any, h: np.ndarray, x: np.ndarray, m_h: Any = 1, m_c: Any = 1) -> tuple:
    z = x @ params.w_xh + (m_h * h) @ params.w_hh + (params.b_h if model.use_bias else 0)
    s, z = np.split(z, 2)
    h = sigmoid(s) * h + (1 - sigmoid(s - model.beta)) * m_c * np.tanh(z)
    return h, h


def multiplicative_lstm(model: Any, params: Any, state: tuple, x: np.ndarray, m_h: Any = 1, m_c: Any = 1) -> tuple:
    h, c = state
    m = (x @ params.w_xm) * ((m_h * h) @ params.w_hm)
    i, f, o, z = np.split(x @ params.w_xh + m @ params.w_mh + (params.b_h if model.use_bias else 0), 4)
    c = sigmoid(f) * c + sigmoid(i) * m_c * np.tanh(z)
    h = np.tanh(sigmoid(o) * c) if model.output_gate == "inside" else sigmoid(o) * np.tanh(c)
    return (h, c), h


def slstm(model: Any, params: Any, state: tuple, x: np.ndarray, m_h: Any = 1, m_c: Any = 1) -> tuple:
    h, c, n, m = state
    H, N = model.hidden_size, model.heads
    w_hh = np.zeros((H, 4 * H))  # of all heads
    for head in np.split(np.arange(H), N):
        for gate in range(4):
            w_hh[np.ix_(head, gate * H + head)] = params.w_hh[:, gate * H + head]
    i, f, o, z = np.split(x @ params.w_xh + (m_h * h) @ w_hh + (params.b_h if model.use_bias else 0), 4)
    log_f = np.log(sigmoid(f)) if model.forget == "sigmoid" else f
    m_new = np.where(n == 0, i, np.maximum(log_f + m, i))
    c = np.exp(log_f + m - m_new) * c + np.exp(i - m_new) * m_c * np.tanh(z)
    n = np.exp(log_f + m - m_new) * n + np.exp(i - m_new)
    h = sigmoid(o) * c / n
    return (h, c, n, m_new), h


def gru_d(model: Any, params: Any, state: tuple, x: np.ndarray, m_h: Any = 1, m_c: Any = 1) -> tuple:
    h, last, elapsed = state
    D, H = len(last), model.hidden_size
    m = 1.0 * (x[D : 2 * D] > 0)
    delta = elapsed + (x[2 * D] if len(x) > 2 * D else 1)
    x = np.where(m == 1, x[:D], np.exp(-np.maximum(0, params.w_decay_x * delta + params.b_decay_x)) * last)
    h = np.exp(-np.maximum(0, delta @ params.w_decay_h + params.b_decay_h)) * h
    w, v, u = params.w_xh[:D], params.w_xh[D:], params.w_hh
    b = params.b_h if model.use_bias else np.zeros(3 * H)
    read, seen = m_h * h, np.split(x @ w + m @ v + b, 3)
    z = sigmoid(seen[0] + read @ u[:, :H])
    r = sigmoid(seen[1] + read @ u[:, H : 2 * H])
    h = (1 - z) * h + z * m_c * np.tanh(seen[2] + (r * read) @ u[:, 2 * H :])
    return (h, np.where(m == 1, x, last), (1 - m) * delta), h


def convolution(x: np.ndarray, w: np.ndarray, strides: Any = 1, padding: str = "SAME", dilation: Any = 1) -> np.ndarray:
    """One image ``[*spatial, C]``: at each place the sum over the kernel ``[*kernel, C, H]``, 0 outside."""
    axes = w.ndim - 2
    size, kernel = np.array(x.shape[:axes]), np.array(w.shape[:axes])
    strides, dilation = np.broadcast_to(strides, axes), np.broadcast_to(dilation, axes)
    reach = (kernel - 1) * dilation + 1
    places = -(-size // strides) if padding == "SAME" else (size - reach) // strides + 1
    before = np.maximum((places - 1) * strides + reach - size, 0) // 2 if padding == "SAME" else 0 * size
    y = np.zeros((*places, w.shape[-1]))
    for place in np.ndindex(*places):
        for tap in np.ndindex(*kernel):
            at = place * strides - before + tap * dilation
            if (at >= 0).all() and (at < size).all():
                y[place] += x[tuple(at)] @ w[tap]
    return y


def conv_lstm(model: Any, params: Any, state: tuple, x: np.ndarray, m_h: Any = 1, m_c: Any = 1) -> tuple:
    h, c = state
    z = convolution(x, params.w_xh, model.strides, model.padding, model.dilation) + convolution(m_h * h, params.w_hh)
    if model.use_bias:
        z = z + params.b_h
    z_i, z_f, z_o, z_c = np.split(z, 4, axis=-1)
    p_i, p_f, p_o = params.peepholes if model.peepholes else (0, 0, 0)
    i, f = sigmoid(z_i + p_i * c), sigmoid(z_f + p_f * c)
    c = f * c + i * m_c * np.tanh(z_c)
    h = sigmoid(z_o + p_o * c) * np.tanh(c)
    return (h, c), h


def sru(model: Any, params: Any, c: np.ndarray, x: np.ndarray) -> tuple:
    H = model.hidden_size
    w_c, w_f, w_r, *w_s = (params.w_xh[:, n : n + H] for n in range(0, params.w_xh.shape[1], H))
    b_f, b_r = np.reshape(params.b_h, (2, H)) if model.use_bias else np.zeros((2, H))
    v_f, v_r = params.peepholes if model.peepholes else np.zeros((2, H))
    f = sigmoid(x @ w_f + v_f * c + b_f)
    r = sigmoid(x @ w_r + v_r * c + b_r)
    c = f * c + (1 - f) * (x @ w_c)
    skip = x @ w_s[0] if w_s else x
    return c, r * c + (1 - r) * skip * np.sqrt(1 + 2 * np.exp(model.highway_bias))


def positive(a: np.ndarray) -> np.ndarray:
    return np.array([a_k + 0.5 if a_k >= 0 else sigmoid(a_k) for a_k in a])


def mingru(model: Any, params: Any, h: np.ndarray, x: np.ndarray) -> tuple:
    a = x @ params.w_xh + (params.b_h if model.use_bias else 0)
    z, candidate = sigmoid(a[: model.hidden_size]), a[model.hidden_size :]
    h = (1 - z) * h + z * (positive(candidate) if model.positive else candidate)
    return h, h


def minlstm(model: Any, params: Any, h: np.ndarray, x: np.ndarray) -> tuple:
    a_f, a_i, candidate = np.reshape(x @ params.w_xh + (params.b_h if model.use_bias else 0), (3, model.hidden_size))
    f, i = sigmoid(a_f), sigmoid(a_i)
    h = f / (f + i) * h + i / (f + i) * (positive(candidate) if model.positive else candidate)
    return h, h


def lru(model: Any, params: Any, h: tuple, x: np.ndarray) -> tuple:
    H = model.hidden_size
    eigenvalues = np.exp(-np.exp(params.nu) + 1j * np.exp(params.theta))
    w_in = params.w_xh[:, :H] + 1j * params.w_xh[:, H:]
    w_out = params.w_hy[:H] + 1j * params.w_hy[H:]
    new = eigenvalues * (h[0] + 1j * h[1]) + np.exp(params.gamma) * (x @ w_in)
    return (new.real, new.imag), (new @ w_out).real + x @ params.w_xy


def indrnn(model: Any, params: Any, h: np.ndarray, x: np.ndarray, m_h: Any = 1, m_c: Any = 1) -> tuple:
    bound = np.inf if model.recurrent_max is None else model.recurrent_max
    u = np.minimum(np.maximum(params.w_hh, -bound), bound)
    z = x @ params.w_xh + u * m_h * h
    if model.use_bias:
        z = z + params.b_h
    f = model.activation if isinstance(model.activation, str) else model.activation.__name__
    h = m_c * ACTIVATIONS[f](z)
    return h, h


def linear(model: Any, params: Any, state: tuple, x: np.ndarray) -> tuple:
    return (), x @ params.w + (params.b if model.use_bias else 0)


def embedding(model: Any, params: Any, state: tuple, x: np.ndarray) -> tuple:
    return (), params.w[x]


def dropout(model: Any, params: Any, state: tuple, x: np.ndarray) -> tuple:
    return (), x


def flatten(model: Any, params: Any, state: tuple, x: np.ndarray) -> tuple:
    return (), np.array(list(x.flat))


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
    "LeakyRNN": (leaky, lambda model: np.zeros(model.hidden_size)),
    "LSTM": (lstm, lambda model: (np.zeros(model.projection_size or model.hidden_size), np.zeros(model.hidden_size))),
    "GRU": (gru, lambda model: np.zeros(model.hidden_size)),
    "MGU": (mgu, lambda model: np.zeros(model.hidden_size)),
    "JANET": (janet, lambda model: np.zeros(model.hidden_size)),
    "MultiplicativeLSTM": (multiplicative_lstm, lambda model: (np.zeros(model.hidden_size),) * 2),
    "SLSTM": (slstm, lambda model: (np.zeros(model.hidden_size),) * 4),
    "GRUD": (gru_d, lambda model: tuple(map(np.zeros, (model.hidden_size, *[model.input_size // 2] * 2)))),
    "ConvLSTM": (conv_lstm, lambda model: (np.zeros((*model.grid, model.hidden_size)),) * 2),
    "SRU": (sru, lambda model: np.zeros(model.hidden_size)),
    "MinGRU": (mingru, lambda model: np.zeros(model.hidden_size)),
    "MinLSTM": (minlstm, lambda model: np.zeros(model.hidden_size)),
    "LRU": (lru, lambda model: (np.zeros(model.hidden_size), np.zeros(model.hidden_size))),
    "IndRNN": (indrnn, lambda model: np.zeros(model.hidden_size)),
    "Average": (average, lambda model: {"mean": np.full(model.size, 0.5), "steps": 0}),
    "Linear": (linear, no_state),
    "Embedding": (embedding, no_state),
    "Dropout": (dropout, no_state),
    "Flatten": (flatten, no_state),
    "Activation": (activation, no_state),
}

CLOCKED = ("Zoneout", "RecurrentDropout", "VariationalDropout", "WordDropout")


def clocked(model: Any, params: Any, state: tuple, xs: list, resets: list) -> tuple[Any, list, list]:
    """All steps without a key: the cell, except for zoneout, and the clock."""
    ys, states = [], []
    inner, time, start = state
    for x, reset in zip(xs, resets, strict=True):
        inner, start = (initial(model.cell), time) if reset else (inner, start)
        new, y = CELLS[type(model.cell).__name__][0](model.cell, params, inner, x)
        if type(model).__name__ == "Zoneout":
            rates = model.rate if isinstance(model.rate, tuple) else (model.rate,) * len(jax.tree.leaves(new))
            rates = jax.tree.unflatten(jax.tree.structure(new), rates)
            new = jax.tree.map(lambda rate, old, new: rate * old + (1 - rate) * new, rates, inner, new)
            y = jax.tree.leaves(new)[0]
        inner, time = new, time + 1
        ys.append(y)
        states.append((inner, time, start))
    return (inner, time, start), ys, states


# ---- all steps of one sequence, in the order of the scan ----------------------------------------------------------


def initial(model: Any) -> Any:
    """The initial state of one sequence."""
    kind = type(model).__name__
    if kind == "Stack":
        return tuple(initial(layer) for layer in model.layers)
    if kind == "SkipStack":
        return tuple(initial(layer) for layer in model.layers)
    if kind == "LearnedState":
        return initial(model.layer), True
    if kind == "Highway":
        return initial(model.layer)
    if kind == "Clockwork":
        return initial(model.layer), np.zeros(model.output_size), 0
    if kind == "Bidirectional":
        return initial(model.forward), initial(model.backward or model.forward)
    if kind in ("Residual", "Tied", "MixedPrecision", "Reverse"):
        return initial(model.layer)
    if kind in CLOCKED:
        return initial(model.cell), 0, 0
    if kind == "WeightDrop":
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
    if kind in CLOCKED:
        return clocked(model, params, state, xs, resets)
    if kind == "WeightDrop":
        return unroll_sequence(model.layer, params, state, xs, resets)
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
    if kind == "SkipStack":
        hs, finals, all_states = [], [], []
        for n, layer in enumerate(model.layers):
            seen = [np.concatenate([x, h]) for x, h in zip(xs, hs[-1], strict=True)] if n else xs
            final, h, states = unroll_sequence(layer, params[n], state[n], seen, resets)
            finals.append(final)
            hs.append(h)
            all_states.append(states)
        ys = hs[-1] if model.outputs == "last" else [np.concatenate(h) for h in zip(*hs, strict=True)]
        return tuple(finals), ys, list(zip(*all_states, strict=True))
    if kind == "Highway":
        final, ys, states = unroll_sequence(model.layer, params.layer, state, xs, resets)
        ts = [sigmoid(x @ params.w_t + params.b_t) for x in xs]
        return final, [t * y + (1 - t) * x for t, x, y in zip(ts, xs, ys, strict=True)], states
    if kind in ("LearnedState", "Clockwork"):
        step = {"LearnedState": learned_state, "Clockwork": clockwork}[kind]
        return unroll_by_steps(step, initial, model, params, state, xs, resets)
    return unroll_by_steps(*CELLS[kind], model, params, state, xs, resets)


def unroll_by_steps(step: Any, start: Any, model: Any, params: Any, state: Any, xs: list, resets: list) -> tuple:
    """One step after the other; after a reset from ``start(model)``."""
    ys, states = [], []
    for x, reset in zip(xs, resets, strict=True):
        state, y = step(model, params, start(model) if reset else state, x)
        ys.append(y)
        states.append(state)
    return state, ys, states


def one_step(layer: Any, params: Any, state: Any, x: np.ndarray) -> tuple:
    state, [y], _ = unroll_sequence(layer, params, state, [x], [False])
    return state, y


def learned_state(model: Any, params: Any, state: tuple, x: np.ndarray) -> tuple:
    inner, fresh = state
    if fresh:
        inner = start_of(model, params)
    inner, y = one_step(model.layer, params.layer, inner, x)
    return (inner, False), y


def start_of(model: Any, params: Any) -> Any:
    """The learned state of one sequence; integers are those of the layer."""
    if model.context_size is None:
        weights = params.state
    else:
        weights = jax.tree.map(lambda w, b: np.tensordot(params.context, w, 1) + b, params.w, params.state)
    initial_leaves, structure = jax.tree.flatten(initial(model.layer))
    learned = iter(jax.tree.leaves(weights))
    return jax.tree.unflatten(structure, [s if isinstance(s, int) else next(learned) for s in initial_leaves])


def clockwork(model: Any, params: Any, state: tuple, x: np.ndarray) -> tuple:
    inner, y, steps = state
    if steps % model.period == 0:
        inner, y = one_step(model.layer, params, inner, x)
    return (inner, y, steps + 1), y


# ---- a batch of sequences ------------------------------------------------------------------------------------------


def unroll(
    model: Any, params: Any, xs: Any, state: Any = None, *, lengths: Any = None, resets: Any = None, reverse=False
) -> tuple[Any, Any, Any]:
    """Return ``(final, ys, states)`` for ``xs [T, ..., I]``; past its length, a sequence's ys and states are 0."""
    params, state, xs = jax.tree.map(to_float64, params), unnamed(state), to_float64(xs)
    ids = np.issubdtype(xs.dtype, np.integer)
    steps, batch = xs.shape[0], xs.shape[1 : xs.ndim - (0 if ids else getattr(model, "input_ndim", 1))]
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
    """As a NumPy array, in float64 unless it is of integers or bools."""
    x = np.asarray(x)
    return x if x.dtype == bool or np.issubdtype(x.dtype, np.integer) else x.astype(np.float64)


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
