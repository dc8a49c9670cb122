"""Saliency against finite differences of the vectors of the tokens, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_width import LENGTHS, B, D, N, T, gru, lstm
from refusals import refuses
from zoo import few, random_params

import jaxrnn as rnn
from jaxrnn.gradients import saliency

TOKENS = np.array(
    [[0, 3, 1], [2, 3, 1], [0, 0, 2], [3, 3, 1], [0, 1, 2]], "int32"
)  # [T, B], tokens occur several times
EMBEDDING = rnn.Embedding(N, N, **D)


def central_differences(value, vectors, step=1e-5):
    """The gradient of a function of vectors, one entry after another."""
    gradient = np.zeros_like(vectors)
    for place in np.ndindex(*vectors.shape):
        up, down = vectors.copy(), vectors.copy()
        up[place] += step
        down[place] -= step
        gradient[place] = (value(jnp.asarray(up)) - value(jnp.asarray(down))) / (2 * step)
    return gradient


def compiled(model, params, xs, output, **options):
    """One program in place of many small ones."""
    return jax.jit(lambda params, xs: saliency(model, params, xs, output, **options))(params, xs)


def assert_is_that_of(found, gradient, vectors, mask=None):
    vectors = vectors if mask is None else np.where(mask[..., None], vectors, 0)
    np.testing.assert_allclose(found.gradient, gradient, atol=1e-8)
    np.testing.assert_allclose(found.norm, np.linalg.norm(gradient, axis=-1), atol=1e-8)
    np.testing.assert_allclose(found.times_input, (gradient * vectors).sum(-1), atol=1e-8)


def chosen(final, ys):
    """An output of one step, another one for each sequence."""
    return ys[3, 0, 1] + 2.0 * ys[4, 1, 0] - ys[1, 2, 3]


BODIES = [gru(), rnn.Bidirectional(gru(), lstm(), merge="sum"), lstm(peepholes="ifo")]


@pytest.mark.parametrize("body", few(BODIES, BODIES[:1]), ids=repr)
def test_finite_differences(body, x64):
    """Of ids they are those of the vectors behind the embedding; tokens that occur twice have a gradient each."""
    model, upper = rnn.Stack(EMBEDDING, body, rnn.Linear(N, N, **D)), rnn.Stack(body, rnn.Linear(N, N, **D))
    params = random_params(model)
    vectors = np.asarray(params[0].w)[TOKENS]
    run = jax.jit(lambda vectors: chosen(*rnn.unroll(upper, params[1:], vectors)))
    found = compiled(model, params, TOKENS, chosen)
    assert_is_that_of(found, central_differences(run, vectors), vectors)
    of_vectors = compiled(upper, params[1:], jnp.asarray(vectors), chosen)
    np.testing.assert_allclose(of_vectors.gradient, found.gradient, atol=1e-12)
    assert found.norm[4, 0].astype(bool) == (body == BODIES[1])  # after the chosen output of this sequence


def test_tied(x64):
    """The readout that shares its weights with the embedding does not move."""
    model = rnn.Tied(EMBEDDING, gru())
    params = random_params(model)
    vectors = np.asarray(params.embedding.w)[TOKENS]

    @jax.jit
    def run(vectors):
        _, ys = rnn.unroll(gru(), params.layer, vectors)
        return chosen(None, ys @ params.embedding.w.T + params.b[None, None])

    assert_is_that_of(compiled(model, params, TOKENS, chosen), central_differences(run, vectors), vectors)


def test_classifier_and_padding(x64):
    """Of a classifier the output is one of its logits; 0 in the padding, whatever it holds."""
    model = rnn.tasks.Classifier(rnn.Stack(EMBEDDING, gru()), 3, pooling="mean", dtype="float64")
    params = random_params(model)
    mask = np.arange(T)[:, None] < LENGTHS
    vectors = np.asarray(params.encoder[0].w)[TOKENS]
    upper = rnn.tasks.Classifier(gru(), 3, pooling="mean", dtype="float64")
    below = params._replace(encoder=params.encoder[1])
    run = jax.jit(lambda vectors: upper.apply(below, vectors, lengths=LENGTHS)[:, 1].sum())
    padded = np.where(mask, TOKENS, 99).astype("int32")
    found = compiled(model, params, padded, lambda logits: logits[:, 1].sum(), lengths=LENGTHS)
    assert_is_that_of(found, central_differences(run, vectors), vectors, mask)
    assert not found.norm[~mask].any()
    holes = jnp.where(jnp.asarray(mask)[..., None], vectors, jnp.nan)
    again = compiled(upper, below, holes, lambda logits: logits[:, 1].sum(), lengths=LENGTHS)
    np.testing.assert_allclose(again.times_input, found.times_input, atol=1e-12)


def test_a_linear_readout_of_its_inputs(x64):
    """Gradient times input sums to the output of a linear model: it is a share of it."""
    model = rnn.Stack(EMBEDDING, rnn.Linear(N, 1, use_bias=False, **D))
    params = random_params(model)
    found = compiled(model, params, TOKENS[:, 0], lambda final, ys: ys.sum())
    np.testing.assert_allclose(found.times_input.sum(), rnn.unroll(model, params, TOKENS[:, 0])[1].sum(), rtol=1e-12)


def test_dtypes():
    """In 16 bits too; sums are in float32."""
    model = rnn.Stack(rnn.Embedding(N, N, dtype="bfloat16"), rnn.GRU(N, N, dtype="bfloat16"))
    found = jax.eval_shape(lambda p: saliency(model, p, TOKENS, lambda final, ys: ys[-1].sum()), random_params(model))
    assert (found.gradient.dtype, found.times_input.dtype, found.norm.shape) == ("bfloat16", "float32", (T, B))


def test_refusals():
    """The message names the argument."""
    model = rnn.Stack(rnn.Embedding(N, N), rnn.GRU(N, N))
    params = random_params(model)
    two = rnn.tasks.EncoderDecoder(model, rnn.Stack(rnn.Embedding(N, N), rnn.GRU(N, N), rnn.Linear(N, N)))
    for message, call in [
        ("TypeError output: expected a function output(final, ys) -> number, got int 3",
         lambda: saliency(model, params, TOKENS, 3)),
        ("ValueError output: expected one number from it, got float32[5, 3, 4]; jnp.sum…",
         lambda: saliency(model, params, TOKENS, lambda final, ys: ys)),
        ("ValueError model: expected one Embedding, for token ids, got 2 in EncoderDecoder…",
         lambda: saliency(two, random_params(two), TOKENS, lambda logits: logits.sum())),
        ("ValueError xs: expected token ids in [0, 4)…",
         lambda: saliency(model, params, TOKENS + 4, lambda final, ys: ys.sum())),
        ("ValueError xs: expected …", lambda: saliency(rnn.GRU(N, N), random_params(rnn.GRU(N, N)), TOKENS[0],
                                                       lambda final, ys: ys.sum())),
    ]:  # fmt: skip
        refuses(message, call)
