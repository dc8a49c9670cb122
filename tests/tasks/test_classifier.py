"""Classifiers: every pooling with several kinds of encoder, and training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contract import assert_close, assert_identical
from refusals import refuses
from zoo import ZOO, B, H, I, T, inputs, random_params

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Buckets
from jaxrnn.tasks import Classifier, pooling
from jaxrnn.tasks.classifier import POOLINGS

CLASSES = 4
LENGTHS = np.array([T, 2, 0])
KINDS = ["lstm", "stack-embedding", "bidirectional-of-stack", "user-in-bidirectional"]


def make(name, how, dtype="float64", **options):
    """A classifier over a model of the zoo, with ``features`` for a model without an ``output_size``."""
    encoder, width = ZOO[name].build(dtype), ZOO[name].width
    options |= {} if getattr(encoder, "output_size", None) else {"features": width}
    model = Classifier(encoder, CLASSES, pooling=how, attention_size=3, dtype=dtype, **options)
    return model, random_params(model)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("how", POOLINGS)
def test_encode_pool_read(name, how):
    """Logits are the readout of the pooled outputs; those of a sequence of length 0 are the bias."""
    model, params = make(name, how)
    xs = inputs(model.encoder)
    logits = model.apply(params, xs, lengths=LENGTHS)
    _, ys = rnn.unroll(model.encoder, params.encoder, xs, lengths=LENGTHS)
    vector = {
        "last": lambda: pooling.last(model.encoder, params.encoder, xs, lengths=LENGTHS),
        "mean": lambda: pooling.mean(ys, LENGTHS),
        "max": lambda: pooling.maximum(ys, LENGTHS),
        "attention": lambda: model.attention.apply(params.pooling, ys, LENGTHS),
    }[how]()
    assert vector.shape == (B, model.width)
    assert_close(logits, vector @ params.readout.w + params.readout.b[None])
    assert_close(logits[2], params.readout.b)
    assert_close(logits[1], model.apply(params, xs[:2, 1]))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("how", POOLINGS)
def test_input_mask(how):
    """A sequence with holes has the logits of the sequence without them, whatever ids are in the holes."""
    model, params = make("stack-embedding", how)
    ids = np.array(inputs(model.encoder))
    mask = np.array([[0, 1, 1], [1, 1, 0], [0, 1, 0], [1, 0, 1], [1, 1, 0]], bool)
    got = model.apply(params, np.where(mask, ids, -1), input_mask=mask)
    for b in range(B):
        assert_close(got[b], model.apply(params, ids[mask[:, b], b]))


@pytest.mark.parametrize("how", ["mean"])
def test_dropout_needs_a_key(how):
    """The same key drops the same features, another key other ones; without a key there is no dropout."""
    model, params = make("gru", how, "float32", dropout=0.5)
    xs = inputs(model.encoder, dtype="float32")
    keyed = [model.apply(params, xs, key=jax.random.key(n)) for n in (0, 0, 1)]
    assert_identical(keyed[0], keyed[1])
    assert np.abs(keyed[0] - keyed[2]).max() > 1e-3
    plain = Classifier(model.encoder, CLASSES, pooling=how, attention_size=3)
    assert_identical(model.apply(params, xs), plain.apply(params, xs))
    vector = model.encode(params, xs)
    dropped = jax.vmap(lambda key: model.apply(params, xs, key=key))(jax.random.split(jax.random.key(2), 2000))
    expected = vector @ params.readout.w + params.readout.b[None]
    error = dropped.std(0) / 2000**0.5
    assert (np.abs(dropped.mean(0) - expected) < 5 * error).all()  # scaled so that the mean is unchanged


def test_is_its_constructor_call():
    """repr, equality, hash and from_repr, as of every model."""
    model = Classifier(rnn.Stack(rnn.Embedding(7, 3), rnn.GRU(3, 4)), CLASSES, pooling="attention", dropout=0.5)
    assert repr(model) == ("Classifier(Stack(Embedding(7, 3), GRU(3, 4)), 4, pooling='attention', dropout=0.5)")
    assert rnn.from_repr(repr(model)) == model
    assert hash(rnn.from_repr(repr(model))) == hash(model)
    shape = jax.eval_shape(model.init, jax.random.key(0))
    logits = jax.eval_shape(jax.jit(type(model).apply), model, shape, jnp.zeros((T, B), int))  # an argument of jit
    assert logits.shape == (B, CLASSES)


def test_learns_to_remember_the_first_token():
    """The label is the first of up to 8 random tokens; the sequences are padded in buckets."""
    draw = np.random.default_rng(0)
    sequences = [draw.integers(0, 3, draw.integers(2, 9)) for _ in range(96)]
    labels = [int(ids[0]) for ids in sequences]
    batches = Buckets(sequences, labels, 32, buckets=1)
    model = Classifier(rnn.Stack(rnn.Embedding(3, 8), rnn.GRU(8, 8)), 3)
    optimizer = optax.adam(2e-2)

    def loss(params, carry, batch, key):
        logits = model.apply(params, batch.inputs, lengths=batch.lengths, key=key)
        mask = batch.lengths > 0
        return rnn.losses.cross_entropy(logits, batch.targets, mask=mask), (carry, {})

    step = jax.jit(learning.scan_steps(learning.train_step(loss, optimizer)))
    state = learning.train_state(model.init(jax.random.key(0)), optimizer)
    many = jax.tree.map(lambda *leaves: np.stack(leaves), *(batches[n] for n in range(60)))
    _, metrics = step(state, many, jax.random.key(1))
    assert (
        metrics["loss"][-3:].mean() < 0.5 < 1 < metrics["loss"][:3].mean()
    )  # log 3 by guessing; of 12 seeds 0.11 at most


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("TypeError encoder: expected a cell or layer, got the class GRU; make one: GRU(...)",
         lambda: Classifier(rnn.GRU, 2)),
        ("ValueError classes: expected a positive int, got 0", lambda: Classifier(rnn.GRU(I, H), 0)),
        ("ValueError pooling: expected one of 'last', 'mean', 'max', 'attention', got 'sum'",
         lambda: Classifier(rnn.GRU(I, H), 2, pooling="sum")),
        ("ValueError dropout: expected a number in [0, 1), got 1; it is the share that is dropped, not kept",
         lambda: Classifier(rnn.GRU(I, H), 2, dropout=1)),
        ("ValueError features: expected 4, the output size of encoder, got 5; leave it out",
         lambda: Classifier(rnn.GRU(I, H), 2, features=5)),
        ("ValueError features: expected the width of the encoder's outputs, got None; "
         "Average(size=3, dtype='float32') has no output_size, so features=N says it",
         lambda: Classifier(ZOO["user"].build("float32"), 2)),
        ("ValueError outputs of encoder: expected last axis 5 (Linear.input_size), got float32[3, 3]; …",
         lambda: wrong_width().apply(wrong_width().init(jax.random.key(0)), jnp.ones((T, B, I)))),
        ("ValueError lengths: expected shape [3], the batch axes of the inputs, got int64[2]; one length a sequence",
         lambda: make("gru", "mean", "float32")[0].apply(make("gru", "mean", "float32")[1], jnp.ones((T, B, I)),
                                                         lengths=np.array([1, 2]))),
    ],
)  # fmt: skip
def test_refusals(message, call):
    """The whole message."""
    refuses(message, call)


def wrong_width():
    """A classifier with ``features`` that are not the width of its encoder."""
    return Classifier(ZOO["user"].build("float32"), 2, features=5)
