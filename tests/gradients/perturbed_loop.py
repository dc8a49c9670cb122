"""Any model as a Python loop, with a perturbation added to every state of every step."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn as rnn


def unroll_one(model, params, state, xs, resets, perturbations):
    """Final state and outputs of one sequence, in the order of computation; ``resets[k]``: reset before step k."""
    if isinstance(model, rnn.Stack):
        finals = []
        for n, (layer, p, s) in enumerate(zip(model.layers, params, state, strict=True)):
            final, xs = unroll_one(layer, p, s, xs, resets, [p[n] for p in perturbations])
            finals.append(final)
        return tuple(finals), xs
    if isinstance(model, rnn.Residual):
        final, ys = unroll_one(model.layer, params, state, xs, resets, perturbations)
        join = {"sum": jnp.add, "concat": lambda x, y: jnp.concatenate([x, y])}[model.merge]
        return final, [join(x, y) for x, y in zip(xs, ys, strict=True)]
    if isinstance(model, rnn.Tied):
        w = params.embedding.w
        final, ys = unroll_one(model.layer, params.layer, state, [w[x] for x in xs], resets, perturbations)
        return final, [w @ y + (params.b if model.use_bias else 0) for y in ys]
    if isinstance(model, rnn.Bidirectional):
        forward, backward = model.forward, model.backward or model.forward
        resets_back = ([False, *resets[:0:-1]])[: len(resets)]
        final, ys = unroll_one(forward, params[0], state[0], xs, resets, [p for p, _ in perturbations])
        final_back, ys_back = unroll_one(
            backward, params[1], state[1], xs[::-1], resets_back, [p for _, p in perturbations[::-1]]
        )
        join = {
            "concat": lambda a, b: jnp.concatenate([a, b]),
            "sum": lambda a, b: a + b,
            "mean": lambda a, b: (a + b) / 2,
            "product": lambda a, b: a * b,
            "both": lambda a, b: (a, b),
        }[model.merge]
        return (final, final_back), [join(a, b) for a, b in zip(ys, ys_back[::-1], strict=True)]
    if isinstance(model, rnn.Reverse):
        resets_back = ([False, *resets[:0:-1]])[: len(resets)]
        final, ys = unroll_one(model.layer, params, state, xs[::-1], resets_back, perturbations[::-1])
        return final, ys[::-1]
    if hasattr(model, "apply"):
        return (), [model.apply(params, x) for x in xs]
    ys = []
    for x, reset, perturbation in zip(xs, resets, perturbations, strict=True):
        state, y = model.step(params, model.initial_state() if reset else state, x)
        state = jax.tree.map(jnp.add, state, perturbation)
        if isinstance(model, rnn.LSTM):
            y = state.h
        elif isinstance(model, (rnn.GRU, rnn.VanillaRNN)):
            y = state
        ys.append(y)  # of a user's cell: the output of its step
    return state, ys


def unroll(model, params, xs, perturbations, state=None, *, lengths=None, resets=None, reverse=False):
    """Final states and outputs of a batch ``[T, B, ...]``, outputs 0 in the padding."""
    steps, batch = xs.shape[:2]
    direction = slice(None, None, -1 if reverse else 1)
    finals, outputs = [], []
    for b in range(batch):
        order = range(steps if lengths is None else int(lengths[b]))[direction]
        start = model.initial_state() if state is None else jax.tree.map(lambda s, b=b: s[b], state)
        own_resets = [resets is not None and bool(resets[t, b]) for t in order]
        own_xs, own_perturbations = [xs[t, b] for t in order], [perturbations[b][t] for t in order]
        final, ys = unroll_one(model, params, start, own_xs, own_resets, own_perturbations)
        finals.append(final)
        outputs.append(ys[direction])
    empty = jax.tree.map(jnp.zeros_like, next(ys[0] for ys in outputs if ys))
    padded = [ys + [empty] * (steps - len(ys)) for ys in outputs]
    columns = [jax.tree.map(lambda *y: jnp.stack(y), *ys) for ys in padded]
    finals = jax.tree.map(lambda *s: jnp.stack(s), *finals)
    return finals, jax.tree.map(lambda *y: jnp.stack(y, 1), *columns)


def flow(model, params, xs, loss, state=None, **options):
    """Norms ``[T, B]`` of the gradient of the loss with respect to every perturbation; 0 for integers."""

    def perturbed_loss(perturbations):
        return loss(*unroll(model, params, xs, perturbations, state, **options))

    return norms(jax.jit(jax.grad(perturbed_loss, allow_int=True))(zeros(model, xs)))


def sensitivity(model, params, xs, at, **options):
    """Norms ``[T, B]`` of the Jacobians of one output, over √q, with respect to every perturbation and every input."""

    def output(perturbations, xs):
        _, ys = unroll(model, params, xs, perturbations, **options)
        return jnp.concatenate([y[at] for y in jax.tree.leaves(ys)], -1)  # [B, q]

    jacobians = jax.jit(jax.jacrev(output, argnums=(0, 1), allow_int=True))
    by_perturbation, by_input = jacobians(zeros(model, xs), xs)  # leaves [B, q, ...]
    root = by_input.shape[1] ** 0.5
    by_input = np.stack([np.linalg.norm(by_input[b, :, :, b], axis=(0, 2)) for b in range(len(by_input))], 1)
    return jax.tree.map(lambda n: n / root, norms(by_perturbation)), by_input / root


def zeros(model, xs):
    """Perturbations of 0; entry ``[b][t]`` for the state of sequence b after step t."""
    steps, batch = xs.shape[:2]
    zero = jax.tree.map(jnp.zeros_like, model.initial_state())
    return [[jax.tree.map(jnp.copy, zero) for _ in range(steps)] for _ in range(batch)]


def norms(derivatives):
    """One array ``[T, B]`` for each part of a state, from derivatives with respect to perturbations."""

    def norm(*leaves):
        sizes = [0 if leaf.dtype == jax.dtypes.float0 else np.linalg.norm(np.asarray(leaf).ravel()) for leaf in leaves]
        return np.array(sizes, float).reshape(len(derivatives), -1).T

    return jax.tree.map(norm, *(derivative for row in derivatives for derivative in row))
