"""The walk of any model once more as a Python loop, a push of its own added to every state of every step."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn as rnn


def walk(model, params, state, xs, borders, pushes):
    """Final state and outputs of one sequence, in the order they are walked; ``borders[k]``: reset before step k."""
    if isinstance(model, rnn.Stack):
        finals = []
        for n, (layer, p, s) in enumerate(zip(model.layers, params, state, strict=True)):
            final, xs = walk(layer, p, s, xs, borders, [push[n] for push in pushes])
            finals.append(final)
        return tuple(finals), xs
    if isinstance(model, rnn.Residual):
        final, ys = walk(model.layer, params, state, xs, borders, pushes)
        join = {"sum": jnp.add, "concat": lambda x, y: jnp.concatenate([x, y])}[model.merge]
        return final, [join(x, y) for x, y in zip(xs, ys, strict=True)]
    if isinstance(model, rnn.Tied):
        w = params.embedding.w
        final, ys = walk(model.layer, params.layer, state, [w[x] for x in xs], borders, pushes)
        return final, [w @ y + (params.b if model.use_bias else 0) for y in ys]
    if isinstance(model, rnn.Bidirectional):
        there, back = model.forward, model.backward or model.forward
        backward_options = ([False, *borders[:0:-1]])[: len(borders)]
        final, ys = walk(there, params[0], state[0], xs, borders, [p for p, _ in pushes])
        final_back, ys_back = walk(back, params[1], state[1], xs[::-1], backward_options, [p for _, p in pushes[::-1]])
        join = {
            "concat": lambda a, b: jnp.concatenate([a, b]),
            "sum": lambda a, b: a + b,
            "mean": lambda a, b: (a + b) / 2,
            "product": lambda a, b: a * b,
            "both": lambda a, b: (a, b),
        }[model.merge]
        return (final, final_back), [join(a, b) for a, b in zip(ys, ys_back[::-1], strict=True)]
    if hasattr(model, "apply"):
        return (), [model.apply(params, x) for x in xs]
    ys = []
    for x, border, push in zip(xs, borders, pushes, strict=True):
        state, y = model.step(params, model.initial_state() if border else state, x)
        state = jax.tree.map(jnp.add, state, push)
        if isinstance(model, rnn.LSTM):
            y = state.h
        elif isinstance(model, (rnn.GRU, rnn.VanillaRNN)):
            y = state
        ys.append(y)  # of a user's cell as the step gave it
    return state, ys


def unroll(model, params, xs, pushes, state=None, *, lengths=None, resets=None, reverse=False):
    """Final states and outputs of a batch ``[T, B, ...]``, outputs past the end 0."""
    steps, batch = xs.shape[:2]
    way = slice(None, None, -1 if reverse else 1)
    finals, outputs = [], []
    for b in range(batch):
        order = range(steps if lengths is None else int(lengths[b]))[way]
        start = model.initial_state() if state is None else jax.tree.map(lambda s, b=b: s[b], state)
        borders = [resets is not None and bool(resets[t, b]) for t in order]
        final, ys = walk(model, params, start, [xs[t, b] for t in order], borders, [pushes[b][t] for t in order])
        finals.append(final)
        outputs.append(ys[way])
    empty = jax.tree.map(jnp.zeros_like, next(ys[0] for ys in outputs if ys))
    padded = [ys + [empty] * (steps - len(ys)) for ys in outputs]
    columns = [jax.tree.map(lambda *y: jnp.stack(y), *ys) for ys in padded]
    finals = jax.tree.map(lambda *s: jnp.stack(s), *finals)
    return finals, jax.tree.map(lambda *y: jnp.stack(y, 1), *columns)


def flow(model, params, xs, loss, state=None, **walk):
    """Norms ``[T, B]`` of the gradient of the loss with respect to every push; 0 for integers."""

    def pushed(pushes):
        return loss(*unroll(model, params, xs, pushes, state, **walk))

    return norms(jax.jit(jax.grad(pushed, allow_int=True))(zeros(model, xs)))


def sensitivity(model, params, xs, at, **walk):
    """Norms ``[T, B]`` of whole Jacobians of one output, over √q, with respect to every push and every input."""

    def output(pushes, xs):
        _, ys = unroll(model, params, xs, pushes, **walk)
        return jnp.concatenate([y[at] for y in jax.tree.leaves(ys)], -1)  # [B, q]

    jacobians = jax.jit(jax.jacrev(output, argnums=(0, 1), allow_int=True))
    by_push, by_input = jacobians(zeros(model, xs), xs)  # leaves [B, q, ...]
    root = by_input.shape[1] ** 0.5
    by_input = np.stack([np.linalg.norm(by_input[b, :, :, b], axis=(0, 2)) for b in range(len(by_input))], 1)
    return jax.tree.map(lambda n: n / root, norms(by_push)), by_input / root


def zeros(model, xs):
    """Pushes of 0, ``pushes[b][t]`` for the state of sequence b after step t."""
    steps, batch = xs.shape[:2]
    none = jax.tree.map(jnp.zeros_like, model.initial_state())
    return [[jax.tree.map(jnp.copy, none) for _ in range(steps)] for _ in range(batch)]


def norms(derivatives):
    """One array ``[T, B]`` for each part of a state, from derivatives with respect to pushes."""

    def norm(*leaves):
        sizes = [0 if leaf.dtype == jax.dtypes.float0 else np.linalg.norm(np.asarray(leaf).ravel()) for leaf in leaves]
        return np.array(sizes, float).reshape(len(derivatives), -1).T

    return jax.tree.map(norm, *(derivative for row in derivatives for derivative in row))
