"""Encoder and decoder written out once more: NumPy in float64, one sentence at a time, one step at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import plain_loop


def score(attention: Any, params: Any, h: np.ndarray, e: np.ndarray) -> float:
    """How well a query fits one step of a memory."""
    match type(attention).__name__:
        case "AdditiveAttention":
            return sum(params.v * np.tanh(h @ params.w_q + e @ params.w_k))
        case "GeneralAttention":
            return sum(h[i] * e[j] * params.w[j, i] for i in range(len(h)) for j in range(len(e)))
    return sum(a * b for a, b in zip(h, e, strict=True))


def attend(attention: Any, params: Any, h: np.ndarray, memory: list) -> tuple[np.ndarray, list]:
    """The context, and a weight for each step of the memory."""
    each = [np.exp(score(attention, params, h, e)) for e in memory]
    weights = [a / sum(each) for a in each]
    return sum((a * e for a, e in zip(weights, memory, strict=True)), np.zeros(attention.memory_size)), weights


def flat(state: Any) -> list:
    """The numbers of a state in order."""
    return [x for part in state for x in flat(part)] if isinstance(state, tuple) else list(np.ravel(state))


def filled(like: Any, numbers: list) -> Any:
    """A state of that form, from numbers that are taken off the list."""
    if isinstance(like, tuple):
        return tuple(filled(part, numbers) for part in like)
    return np.array([numbers.pop(0) for _ in range(np.size(like))])


def initial(model: Any) -> Any:
    """The state that one sentence starts with, in zeros."""
    match type(model).__name__:
        case "Stack":
            return tuple(map(initial, model.layers))
        case "Residual" | "Tied":
            return initial(model.layer)
        case "Conditioned":
            return initial(model.cell)
        case "Attending":
            return initial(model.cell), np.zeros(model.attention.memory_size)
    return plain_loop.initial(model)


def step(model: Any, params: Any, state: Any, x: Any, vector: np.ndarray, memory: list, looked: list) -> tuple:
    """One step of a decoder; the weights of attention are added to ``looked``."""
    args = vector, memory, looked
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
        case "Conditioned":
            state, h = step(model.cell, params.cell, state, np.concatenate([x, vector]), *args)
            return state, np.concatenate([h, vector])
        case "Attending":
            cell, context = state
            cell, h = step(model.cell, params.cell, cell, np.concatenate([x, context]), *args)
            context, weights = attend(model.attention, params.attention, h, memory)
            looked.append(weights)
            return (cell, context), np.concatenate([h, context])
    state, (y,), _ = plain_loop.unroll_sequence(model, params, state, [x], [False])
    return state, y


def scores(model: Any, params: Any, xs: list, tokens: list, taught: bool = True) -> tuple[list, list]:
    """Scores of all tokens but the first, and weights; ``xs`` is a sequence, or the one thing of a captioner."""
    if type(model).__name__ == "Captioner":
        _, (vector,), _ = plain_loop.unroll_sequence(model.encoder, params.encoder, (), [xs], [False])
        memory: list = []
    else:
        start = plain_loop.initial(model.encoder)
        final, memory, _ = plain_loop.unroll_sequence(model.encoder, params.encoder, start, xs, [False] * len(xs))
        vector = np.array(flat(final))
    coded = np.tanh(vector @ params.bridge.w + params.bridge.b) if model.bridge else vector
    state, each, looked = filled(initial(model.decoder), list(coded)), [], []  # type: ignore[var-annotated]
    for t in range(len(tokens) - 1):
        token = tokens[t] if taught or t == 0 else int(np.argmax(each[-1]))
        state, o = step(model.decoder, params.decoder, state, token, vector, memory, looked)
        each.append(o)
    return each, looked
