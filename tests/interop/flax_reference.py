"""The comparison of a model with a module of Flax: outputs, and gradients with respect to parameters and inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn as rnn
from jaxrnn.cells import GRUParams
from jaxrnn.types import input_ndim

T, B, IN, H, V = 5, 3, 3, 4, 7
LENGTHS = np.array([4, 5, 1])


def inputs(model, dtype="float32"):
    """Batch-first inputs."""
    rng = np.random.default_rng(0)
    if input_ndim(model) == 0:
        return jnp.asarray(rng.integers(0, V, (B, T)), jnp.int32)
    return jnp.asarray(rng.normal(size=(B, T, IN)), dtype)


def same(ours, theirs, tolerance):
    """Trees that differ by at most the tolerance; returns the largest difference."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    errors = [0.0]
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
        errors.append(float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)), initial=0)))
    return max(errors)


def same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def without_summed_biases(params, candidate):
    """Without the biases that Flax has only as part of a sum: b_hh, but for the candidate in linen."""

    def clear(part):
        if not isinstance(part, GRUParams):
            return part
        return part._replace(b_hh=part.b_hh[2 * H :] if candidate else None)

    return jax.tree.map(clear, params, is_leaf=lambda part: isinstance(part, GRUParams))


def check(model, params, theirs, their_params, to_ours, tolerance=1e-5, lengths=LENGTHS, candidate=True):
    """``theirs(their_params, xs) -> ys``, and ``to_ours(gradients) -> gradients`` like ``params``."""
    xs = inputs(model, jax.tree.leaves(params)[0].dtype)
    floating = jnp.issubdtype(xs.dtype, jnp.floating)
    valid = np.ones((B, T), bool) if lengths is None else np.arange(T) < lengths[:, None]

    def ours(params, xs):
        swapped = jnp.swapaxes(xs, 0, 1)
        _, ys = rnn.unroll(model, params, swapped, lengths=None if lengths is None else jnp.asarray(lengths))
        return jax.tree.map(lambda y: jnp.swapaxes(y, 0, 1), ys)

    def loss(f):
        def weighted(params, xs):
            ys = jax.tree.map(lambda y: jnp.where(valid[..., None], y, jnp.zeros_like(y)), f(params, xs))
            return sum(jnp.sum(jnp.sin(3 * y)) for y in jax.tree.leaves(ys)), ys

        return jax.jit(jax.value_and_grad(weighted, argnums=(0, 1) if floating else (0,), has_aux=True))

    (_, ys), (gradients, *d_xs) = loss(ours)(params, xs)
    (_, their_ys), (their_gradients, *their_d_xs) = loss(theirs)(their_params, xs)
    clear = lambda tree: without_summed_biases(tree, candidate)  # noqa: E731
    return (
        same(ys, their_ys, tolerance),
        same([clear(gradients), d_xs], [clear(to_ours(their_gradients)), their_d_xs], tolerance),
    )


def training_data(model, steps=50):
    """The same batch of sequences again and again, time-major, with their lengths."""
    rng = np.random.default_rng(1)
    targets = jnp.asarray(rng.integers(0, 2, (T, B)), jnp.int32)
    return [{"xs": inputs(model).T, "targets": targets, "lengths": jnp.asarray(LENGTHS, jnp.int32)}] * steps


def fitted(model, params, data):
    """The losses and the final parameters of ``learning.fit`` with Adam."""

    def loss(params, batch, key):
        _, logits = rnn.unroll(model, params, batch["xs"], lengths=batch["lengths"])
        return rnn.losses.cross_entropy(logits, batch["targets"], lengths=batch["lengths"])

    step = rnn.learning.train_step(loss, optax.adam(0.01))
    state = rnn.learning.train_state(params, optax.adam(0.01))
    end = rnn.learning.fit(step, state, iter(data), steps=len(data), key=jax.random.key(0), verbose=False)
    return end.history["loss"], end.state.params
