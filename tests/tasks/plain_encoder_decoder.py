"""Reference encoder-decoder in NumPy, float64: one sequence at a time, one step at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import plain_loop


def score(attention: Any, params: Any, h: np.ndarray, e: np.ndarray) -> float:
    """The score of a query for one step of a memory."""
    match type(attention).__name__:
        case "AdditiveAttention":
            return sum(params.v * np.tanh(h @ params.w_q + e @ params.w_k))
        case "GeneralAttention":
            return sum(h[i] * e[j] * params.w[j, i] for i in range(len(h)) for j in range(len(e)))
    return sum(a * b for a, b in zip(h, e, strict=True))


def attend(attention: Any, params: Any, h: np.ndarray, memory: list) -> tuple[np.ndarray, list]:
    """The context, and the weight of each step of the memory."""
    exponentials = [np.exp(score(attention, params, h, e)) for e in memory]
    weights = [a / sum(exponentials) for a in exponentials]
    return sum((a * e for a, e in zip(weights, memory, strict=True)), np.zeros(attention.memory_size)), weights


def flat(state: Any) -> list:
    """The numbers of a state in a flat list."""
    return [x for part in state for x in flat(part)] if isinstance(state, tuple) else list(np.ravel(state))


def unflatten(like: Any, numbers: list) -> Any:
    """A state of the same structure, from the numbers of the list, which is consumed."""
    if isinstance(like, tuple):
        return tuple(unflatten(part, numbers) for part in like)
    return np.array([numbers.pop(0) for _ in range(np.size(like))])


def initial(model: Any) -> Any:
    """The initial state of one sequence, zeros."""
    match type(model).__name__:
        case "Stack":
            return tuple(map(initial, model.layers))
        case "Residual" | "Tied":
            return initial(model.layer)
        case "ContextCell":
            return initial(model.cell)
        case "AttentionCell":
            return initial(model.cell), np.zeros(model.attention.memory_size)
    return plain_loop.initial(model)


def step(model: Any, params: Any, state: Any, x: Any, vector: np.ndarray, memory: list, alignment: list) -> tuple:
    """One step of a decoder; the attention weights are appended to ``alignment``."""
    args = vector, memory, alignment
    match type(model).__name__:
        case "Stack":
            states = []
            for layer, p, s in zip(model.layers, params, state, strict=True):
                s, x = step(layer, p, s, x, *args)
                states.append(s)
            return tuple(states), x
        case "Residual":
            state, y = step(model.layer, params, state, x, *args)
            return state, np.concatenate([x, y])
        case "Tied":
            state, y = step(model.layer, params.layer, state, params.embedding.w[x], *args)
            return state, params.embedding.w @ y + params.b
        case "ContextCell":
            state, h = step(model.cell, params.cell, state, np.concatenate([x, vector]), *args)
            return state, np.concatenate([h, vector])
        case "AttentionCell":
            cell, context = state
            cell, h = step(model.cell, params.cell, cell, np.concatenate([x, context]), *args)
            context, weights = attend(model.attention, params.attention, h, memory)
            alignment.append(weights)
            return (cell, context), np.concatenate([h, context])
    state, (y,), _ = plain_loop.unroll_sequence(model, params, state, [x], [False])
    return state, y


def logits(model: Any, params: Any, xs: list, tokens: list, forced: bool = True) -> tuple[list, list]:
    """Logits of all tokens but the first, and attention weights; ``xs`` is a sequence, or the input of a captioner."""
    if type(model).__name__ == "Captioner":
        _, (vector,), _ = plain_loop.unroll_sequence(model.encoder, params.encoder, (), [xs], [False])
        memory: list = []
    else:
        zeros = plain_loop.initial(model.encoder)
        final, memory, _ = plain_loop.unroll_sequence(model.encoder, params.encoder, zeros, xs, [False] * len(xs))
        vector = np.array(flat(final))
    start = np.tanh(vector @ params.bridge.w + params.bridge.b) if model.bridge else vector
    state, outputs, alignment = unflatten(initial(model.decoder), list(start)), [], []  # type: ignore[var-annotated]
    for t in range(len(tokens) - 1):
        token = tokens[t] if forced or t == 0 else int(np.argmax(outputs[-1]))
        state, o = step(model.decoder, params.decoder, state, token, vector, memory, alignment)
        outputs.append(o)
    return outputs, alignment
