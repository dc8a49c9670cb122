"""Conditional random fields against all sequences of tags, and against forward-backward as a plain loop."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contract import assert_close, assert_identical
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from refusals import refuses
from versions import enable_x64

import jaxrnn as rnn
from jaxrnn import learning, metrics
from jaxrnn.data import Buckets, forbidden_transitions
from jaxrnn.tasks import CRF, Tagger
from jaxrnn.tasks.crf import CRFParams

T, B, K = 4, 3, 3
LENGTHS = np.array([T, 2, 0])
FORBIDDEN = ((0, 2), (None, 2), (1, None), (2, 2))
MEANS = rnn.losses.MEANS
RULES = {"free": (), "forbidden": FORBIDDEN}


def draw(seed=0, steps=T, batch=(B,), K=K):
    """Parameters and scores in float64."""
    rng = np.random.default_rng(seed)
    params = CRFParams(*(jnp.asarray(rng.normal(0, 2, shape)) for shape in ((K, K), K, K)))
    return params, jnp.asarray(rng.normal(0, 2, (steps, *batch, K)))


def every_path(params, scores, forbidden):
    """All sequences of tags with their scores by the definition, -inf if forbidden; scores ``[n, K]``."""
    A, start, end = (np.array(p) for p in params)
    scores = np.asarray(scores)
    found = {}
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        pairs = list(itertools.pairwise((None, *path, None)))
        total = start[path[0]] + end[path[-1]] + sum(s[y] for s, y in zip(scores, path, strict=True))
        total += sum(A[a, b] for a, b in pairs[1:-1])
        found[path] = -np.inf if set(pairs) & set(forbidden) else total
    return found


def of_all(found, K):
    """Log Z, the marginals, and the best path with its score."""
    totals = np.array(list(found.values()))
    log_z = totals.max() + np.log(np.exp(totals - totals.max()).sum())
    p = np.exp(totals - log_z)
    steps = len(next(iter(found)))
    marginals = np.zeros((steps, K))
    for path, weight in zip(found, p, strict=True):
        marginals[range(steps), path] += weight
    return log_z, marginals, max(found, key=found.get), totals.max()


@jax.jit
def compute(crf, params, scores, lengths):
    """In one program."""
    return (
        crf.log_partition(params, scores, lengths=lengths), crf.marginals(params, scores, lengths=lengths),
        crf.decode(params, scores, lengths=lengths),
    )  # fmt: skip


def check_against_all(crf, params, scores, lengths):
    """Every sequence of a batch against all of its paths."""
    log_z, marginals, (tags, score) = jax.tree.map(np.asarray, compute(crf, params, scores, lengths))
    for b, n in enumerate(lengths):
        if n == 0:
            assert log_z[b] == score[b] == 0
        else:
            expected = of_all(every_path(params, scores[:n, b], crf.forbidden), crf.tags)
            assert_close(log_z[b], expected[0])
            assert_close(marginals[:n, b], expected[1])
            assert tuple(tags[:n, b]) == expected[2]
            assert_close(score[b], expected[3])
        assert not np.any(marginals[n:, b])
        assert not np.any(tags[n:, b])


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.sampled_from([(1, 1, ()), (T, K, ()), (T, K, FORBIDDEN), (5, 4, ((3, 3), (None, 1), (2, None), (0, 1)))]),
       st.integers(0, 2**16), st.data())  # fmt: skip
def test_all_paths(shape, seed, data):
    """The partition function, marginals, Viterbi path and score, for any lengths."""
    steps, K, forbidden = shape
    lengths = np.array(data.draw(st.tuples(*[st.integers(0, steps)] * B)))
    with enable_x64(True):
        params, scores = draw(seed, steps, (B,), K)
        check_against_all(CRF(K, forbidden=forbidden, dtype="float64"), params, scores, lengths)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rules", [pytest.param("free", marks=pytest.mark.slow), "forbidden"])
def test_probabilities(rules):
    """Those of all sequences of tags, which sum to 1; 0 of those with a forbidden transition."""
    crf, (params, scores) = CRF(K, forbidden=RULES[rules], dtype="float64"), draw()
    found = every_path(params, scores[:, 0], crf.forbidden)
    paths, totals = np.array(list(found)).T, np.array(list(found.values()))
    each = jnp.broadcast_to(scores[:, :1], (T, len(found), K))
    log_p, score = jax.jit(lambda y: (crf.log_likelihood(params, each, y), crf.score(params, each, y)))(paths)
    assert_close(np.exp(log_p).sum(), 1.0)
    assert_close(np.exp(log_p), np.exp(totals - of_all(found, K)[0]))
    assert_close(score, totals)


def plain_marginals(params, scores):
    """Forward-backward in probabilities, step after step."""
    A, start, end = (np.exp(np.asarray(p)) for p in params)
    psi = np.exp(np.asarray(scores))
    alpha, beta = [start * psi[0]], [end]
    for s in psi[1:]:
        alpha.append(s * (alpha[-1] @ A))
    for s in psi[:0:-1]:
        beta.append(A @ (s * beta[-1]))
    joint = np.array(alpha) * np.array(beta[::-1])
    return joint / joint.sum(-1, keepdims=True)


@pytest.mark.usefixtures("x64")
def test_marginals_are_those_of_forward_backward():
    """The gradient of log Z is what the two recursions compute, here over 30 steps."""
    params, scores = draw(3, 30, ())
    assert_close(jax.jit(CRF.marginals)(CRF(K, dtype="float64"), params, scores), plain_marginals(params, scores))


@pytest.mark.usefixtures("x64")
def test_gradient_is_observed_less_expected():
    """By a transition: how often it occurs, less how often it is expected."""
    crf, (params, scores) = CRF(K, forbidden=FORBIDDEN[:2], dtype="float64"), draw()
    tags = np.array([1, 2, 1, 0])
    gradient = jax.jit(jax.grad(crf.log_likelihood))(params, scores[:, 0], tags).transitions
    found = every_path(params, scores[:, 0], crf.forbidden)
    log_z = of_all(found, K)[0]
    expected = np.zeros((K, K))
    np.add.at(expected, (tags[:-1], tags[1:]), 1)
    for path, total in found.items():
        np.add.at(expected, (path[:-1], path[1:]), -np.exp(total - log_z))
    assert_close(gradient, expected)
    assert gradient[0, 2] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gradient_numerically():
    """In all modes, second order, with forbidden transitions and lengths."""
    crf, (params, scores) = CRF(K, forbidden=FORBIDDEN[:2], dtype="float64"), draw()
    tags = jnp.broadcast_to(jnp.array([1, 2, 1, 0])[:, None], (T, B))

    @jax.jit
    def total(params, scores):
        return crf.log_likelihood(params, scores, tags, lengths=LENGTHS).sum()

    check_grads(total, (params, scores), order=2, modes=["fwd", "rev"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rules", [pytest.param("free", marks=pytest.mark.slow), "forbidden"])
def test_padding_changes_no_bit(rules):
    """NaN scores and tags that are none in the padding: the same value, and gradients of exactly 0."""
    with enable_x64(True):
        params, scores = jax.tree.map(lambda x: x.astype(jnp.float32), draw())
    crf, mask = CRF(K, forbidden=RULES[rules]), np.arange(T)[:, None] < LENGTHS
    tags = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]])
    dirty = jnp.where(mask[..., None], scores, jnp.nan), np.where(mask, tags, -100)
    loss = jax.jit(jax.value_and_grad(lambda p, s, y: crf.loss(p, s, y, lengths=LENGTHS), argnums=(0, 1)))
    clean, got = loss(params, scores, tags), loss(params, *dirty)
    assert_identical(got, clean)
    assert not np.any(np.asarray(got[1][1])[~mask])
    assert np.all(np.isfinite(got[0]))
    assert_identical(*(compute(crf, params, s, LENGTHS) for s in (dirty[0], scores)))


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_means():
    """Over steps, over the steps of each sequence, and over sequences; fillers do not count."""
    crf, (params, scores) = CRF(K, dtype="float64"), draw()
    tags = np.ones((T, B), int)
    all_means = jax.jit(lambda p: {mean: crf.loss(p, scores, tags, lengths=LENGTHS, mean=mean) for mean in MEANS})
    nats = -np.asarray(crf.log_likelihood(params, scores, tags, lengths=LENGTHS))
    expected = {"step": nats.sum() / 6, "sequence": (nats[0] / 4 + nats[1] / 2) / 2, "time_sum": nats.sum() / 2}
    assert_close(all_means(params), expected)
    softmax = {mean: rnn.losses.cross_entropy(scores, tags, lengths=LENGTHS, mean=mean) for mean in MEANS}
    assert_close(all_means(crf.init(jax.random.key(0))), softmax)  # without transitions


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_batch_axes_jit_and_vmap():
    """None, one, two; a model is an argument of jit; scores in bfloat16 are summed in float32."""
    crf, (params, scores) = CRF(K, forbidden=FORBIDDEN, dtype="float64"), draw(1, T, (2, 3))
    tags = np.zeros((T, 2, 3), int)
    for method, args in (
        (CRF.log_partition, (scores,)), (CRF.log_likelihood, (scores, tags)), (CRF.marginals, (scores,)),
        (CRF.decode, (scores,)),
    ):  # fmt: skip
        got, one = jax.jit(method)(crf, params, *args), jax.jit(method)(crf, params, *(x[:, 1, 2] for x in args))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(one), strict=True):
            assert_close(a[:, 1, 2] if b.ndim else a[1, 2], b)
    mapped = jax.jit(jax.vmap(lambda s: crf.decode(params, s), in_axes=1, out_axes=-1))(scores[:, 0])
    assert_identical(mapped, jax.jit(crf.decode)(params, scores[:, 0]))
    narrow = CRF(K).log_partition(CRF(K).init(jax.random.key(0)), scores.astype(jnp.bfloat16))
    assert narrow.dtype == jnp.float32


def test_paths_are_of_the_scheme():
    """The best path of any scores is well-formed in BIO and in BIOES, also where T is 1."""
    for scheme, names in (("bio", ("O", "B-x", "I-x", "B-y", "I-y")), ("bioes", ("I-x", "S-x", "O", "B-x", "E-x"))):
        crf = CRF(5, forbidden=forbidden_transitions(names, scheme))
        scores = 5 * jax.random.normal(jax.random.key(0), (6, 50, 5))
        for steps in (1, 6):
            tags = np.asarray(jax.jit(crf.decode)(crf.init(jax.random.key(0)), scores[:steps]).tags)
            for b in range(50):
                words = [names[tag] for tag in tags[:, b]]
                strict = rnn.data.spans(words, scheme)
                assert strict == rnn.data.spans(words)
                assert sum(span.stop - span.start for span in strict) == sum(word != "O" for word in words)


def test_no_path_at_all():
    """Log Z is -∞; the gradient is no NaN."""
    crf = CRF(2, forbidden=((None, 0), (None, 1)))
    value, gradient = jax.jit(jax.value_and_grad(crf.log_partition))(crf.init(jax.random.key(0)), jnp.ones((3, 2)))
    assert value == -np.inf
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(gradient))


def test_is_its_constructor_call():
    """repr, equality, hash and from_repr, as of every model."""
    model = Tagger(rnn.Bidirectional(rnn.GRU(3, 4)), CRF(3, forbidden=[(0, np.int64(2)), (None, 2)]))
    assert repr(model) == "Tagger(Bidirectional(GRU(3, 4)), CRF(3, forbidden=((0, 2), (None, 2))))"
    assert rnn.from_repr(repr(model)) == model
    assert hash(rnn.from_repr(repr(model))) == hash(model)


@pytest.mark.slow
def test_tagger_composes():
    """Scores are those of encoder and readout; the rest is the CRF's."""
    model = Tagger(rnn.Stack(rnn.Embedding(5, 4), rnn.Dropout(0.5)), CRF(K))
    params = model.init(jax.random.key(0))
    ids, tags = np.ones((T, B), int), np.zeros((T, B), int)
    _, ys = rnn.unroll(model.encoder, params.encoder, ids, lengths=LENGTHS)
    scores = rnn.unroll(model.readout, params.readout, ys)[1]
    for method, more in (("loss", (tags,)), ("decode", ()), ("marginals", ())):
        of_tagger, of_crf = (jax.jit(getattr(m, method)) for m in (model, model.crf))
        assert_identical(
            of_tagger(params, ids, *more, lengths=LENGTHS), of_crf(params.crf, scores, *more, lengths=LENGTHS)
        )
    keyed = model.loss(params, ids, tags, lengths=LENGTHS, key=jax.random.key(1))
    assert abs(keyed - model.loss(params, ids, tags, lengths=LENGTHS)) > 1e-4
    wide = Tagger(rnn.GRU(4, 3), CRF(K), features=3)
    assert wide.readout == rnn.Linear(3, K)


def test_learns_what_no_step_shows():
    """Tags alternate after the first symbol, which alone is seen: only transitions carry it on without a state."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, 64)
    sequences = [np.array([1 + i, *[0] * 4]) for i in first]
    tags = [(i + np.arange(5)) % 2 for i in first]
    batches = Buckets(sequences, tags, 32, buckets=1, aligned=True)
    model = Tagger(rnn.Embedding(3, 4), CRF(2))
    optimizer = optax.adam(0.1)
    step = learning.train_step(learning.crf_loss(model), optimizer)
    state = learning.train_state(model.init(jax.random.key(0)), optimizer)
    end = learning.fit(step, state, batches, steps=40, key=jax.random.key(1), verbose=False)
    named = metrics.span_f1(("O", "B-x"))
    found = learning.evaluate(learning.crf_outputs(model), end.state.params, batches, [metrics.accuracy, named])
    assert found == {"accuracy": 1.0, "span_f1_micro": 1.0}


def test_refusals():
    """The whole message."""
    crf = CRF(K)
    params, scores, tags = crf.init(jax.random.key(0)), jnp.zeros((T, B, K)), np.zeros((T, B), int)
    refuses("ValueError tags: expected a positive int, got 0", lambda: CRF(0))
    for pair in ((0, 3), (None, None), (0,), 5, (0, "a"), (-1, 0)):
        refuses(f"ValueError forbidden: expected pairs (before, after) of tags from 0 to 2, one of which may be None, "
                f"got {pair!r}; data.forbidden_transitions(names) makes them",
                lambda pair=pair: CRF(K, forbidden=(pair,)))  # fmt: skip
    refuses("ValueError forbidden: …, got 7; …", lambda: CRF(K, forbidden=7))
    refuses("TypeError scores: expected floating scores [T, ..., 3], got int32[4, 3]; …",
            lambda: crf.log_partition(params, jnp.zeros((T, K), jnp.int32)))  # fmt: skip
    refuses("ValueError scores: expected [T, ..., 3], a score of each tag, got float32[4, 2]; …",
            lambda: crf.decode(params, jnp.zeros((T, 2))))  # fmt: skip
    refuses("ValueError scores: expected at least one step, got float32[0, 3]; …",
            lambda: crf.marginals(params, jnp.zeros((0, K))))  # fmt: skip
    refuses("TypeError tags: expected integer tags [4, 3], got float32[4, 3]; argmax(-1) undoes one-hot",
            lambda: crf.log_likelihood(params, scores, jnp.zeros((T, B))))  # fmt: skip
    refuses("ValueError tags: expected shape [4, 3], that of the scores without their last axis, got int64[4]",
            lambda: crf.log_likelihood(params, scores, tags[:, 0]))  # fmt: skip
    refuses("ValueError tags: expected tags in [0, 3), got values from 3 to 3; lengths= passes over the padding",
            lambda: crf.log_likelihood(params, scores, tags + 3))  # fmt: skip
    refuses("ValueError lengths: expected values in [0, 4], …",
            lambda: crf.log_partition(params, scores, lengths=np.array([1, 2, 5])))  # fmt: skip
    refuses(
        "ValueError mean: expected one of 'step', …",
        lambda: jax.eval_shape(lambda s: crf.loss(params, s, tags, mean="all"), scores),
    )
    refuses("ValueError params.start: expected shape [3], …",
            lambda: crf.log_partition(params._replace(start=jnp.zeros(2)), scores))  # fmt: skip
    refuses("TypeError crf: expected a CRF, got int 3; tasks.CRF(tags) is one", lambda: Tagger(rnn.GRU(2, 3), 3))
    refuses("ValueError features: expected 3, the output size of encoder, got 4; leave it out",
            lambda: Tagger(rnn.GRU(2, 3), crf, features=4))  # fmt: skip
    assert np.isnan(jax.jit(crf.log_likelihood)(params, scores, tags + 3)).all()  # unknown there
