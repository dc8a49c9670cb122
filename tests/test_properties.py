"""Properties that hold for any T, batch, lengths, resets and direction, tested with random ones."""

import jax
import jax.numpy as jnp
import numpy as np
import plain_loop
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zoo import ZOO, inputs, random_params, random_state, reads_ids

import jaxrnn as rnn

pytestmark = pytest.mark.usefixtures("x64")

CLOSE = 1e-10  # in float64
EXAMPLES = 6
MODELS = ["lstm-peephole-ifo", "stack-embedding", "bidirectional-of-stack", "user-in-stack"]
trying = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # x64 is the same for all examples
)


@st.composite
def cases(draw, models=MODELS, steps=(1, 4)):
    """A model, its parameters, inputs, and any of: state, lengths, resets, direction."""
    model = ZOO[draw(st.sampled_from(models))].build("float64")
    T, B = draw(st.sampled_from(steps)), draw(st.sampled_from([1, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    kwargs = {"reverse": draw(st.booleans())}
    if draw(st.booleans()):
        kwargs["lengths"] = rng.integers(0, T + 1, B)
    if draw(st.booleans()):
        kwargs["resets"] = rng.random((T, B)) < draw(st.sampled_from([0.1, 0.5, 1.0]))
    if draw(st.booleans()):
        kwargs["state"] = random_state(model, (B,), seed=int(rng.integers(99)))
    return (
        model,
        random_params(model, seed=int(rng.integers(99))),
        inputs(model, T, (B,), seed=int(rng.integers(99))),
        kwargs,
    )


def assert_close(got, expected):
    got, expected = jax.tree.leaves(got), jax.tree.leaves(expected)
    assert [leaf.shape for leaf in got] == [leaf.shape for leaf in expected]
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=CLOSE)


def within_lengths(xs, lengths):
    """Each sequence flipped within its own length ``[B]``; the padding is unchanged."""
    t = np.arange(len(xs))[:, None]
    return xs[np.where(t < lengths, lengths - 1 - t, t), np.arange(len(lengths))]


@trying
@given(cases())
def test_unroll_equals_the_plain_loop(case):
    """Final state and outputs are those of the plain loop."""
    model, params, xs, kwargs = case
    if "lengths" in kwargs and not kwargs["lengths"].any():
        kwargs["lengths"][0] = 1  # the plain loop needs one step for the shape of an output
    assert_close(rnn.unroll(model, params, xs, **kwargs), plain_loop.unroll(model, params, xs, **kwargs)[:2])


@pytest.mark.slow
@trying
@given(cases())
def test_reverse_is_flipping(case):
    """``reverse`` equals flipping the sequences, each within its own length."""
    model, params, xs, kwargs = case
    T, B = xs.shape[:2]
    lengths = kwargs.get("lengths", np.full(B, T))
    kwargs["reverse"] = False
    flipped = {**kwargs, "reverse": True}
    if "resets" in kwargs:
        flipped["resets"] = within_lengths(kwargs["resets"], lengths)
    final, ys = rnn.unroll(model, params, within_lengths(xs, lengths), **flipped)
    ys = jax.tree.map(lambda y: within_lengths(y, lengths), ys)
    assert_close((final, ys), rnn.unroll(model, params, xs, **kwargs))


@pytest.mark.slow
@settings(trying, max_examples=5)
@given(
    st.sampled_from(MODELS),
    st.lists(st.lists(st.sampled_from([1, 3]), min_size=1, max_size=2), min_size=2, max_size=2),
    st.booleans(),
)
def test_packed_documents_equal_documents_alone(name, packs, reverse):
    """Documents concatenated in one row, with a reset at the start of each, are independent."""
    model = ZOO[name].build("float64")
    params = random_params(model)
    T, B = 6, len(packs)  # one shape for all
    xs, lengths = inputs(model, T, (B,)), np.array(list(map(sum, packs)))
    if reverse:  # backwards, a document starts at its last step
        starts = [np.cumsum(pack) - 1 for pack in packs]
    else:
        starts = [np.cumsum(pack) - pack for pack in packs]
    resets = np.zeros((T, B), bool)
    for b, start in enumerate(starts):
        resets[start, b] = True
    _, ys = rnn.unroll(model, params, xs, lengths=lengths, resets=resets, reverse=reverse)
    for b, pack in enumerate(packs):
        for end, length in zip(np.cumsum(pack), pack, strict=True):
            own = slice(end - length, end)
            alone = rnn.unroll(model, params, xs[own, b], reverse=reverse)[1]
            assert_close(jax.tree.map(lambda y, own=own, b=b: y[own, b], ys), alone)


@pytest.mark.slow
@trying
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_a_batch_changes_nothing(case, random):
    """A permutation of the batch permutes the results."""
    model, params, xs, kwargs = case
    B = xs.shape[1]
    order = np.array(random.sample(range(B), B))
    shuffled = dict(kwargs)
    for argument, axis in (("lengths", 0), ("resets", 1), ("state", 0)):
        if argument in kwargs:
            shuffled[argument] = jax.tree.map(lambda a, axis=axis: jnp.take(a, order, axis), kwargs[argument])
    final, ys = rnn.unroll(model, params, xs, **kwargs)
    expected = jax.tree.map(lambda s: s[order], final), jax.tree.map(lambda y: y[:, order], ys)
    assert_close(rnn.unroll(model, params, xs[:, order], **shuffled), expected)


@trying
@given(cases(), st.integers(1, 2))
def test_more_padding_changes_nothing(case, more):
    """Additional padding, whatever its values, adds zeros to the outputs and changes nothing else."""
    model, params, xs, kwargs = case
    T, B = xs.shape[:2]
    kwargs["lengths"] = kwargs.get("lengths", np.full(B, T))
    padding = np.full((more, *xs.shape[1:]), 1 if reads_ids(model) else np.nan, xs.dtype)
    longer = dict(kwargs)
    if "resets" in kwargs:
        longer["resets"] = np.concatenate([kwargs["resets"], np.ones((more, B), bool)])
    final, ys = rnn.unroll(model, params, xs, **kwargs)
    ys = jax.tree.map(lambda y: np.concatenate([y, np.zeros((more, *y.shape[1:]))]), ys)
    assert_close(rnn.unroll(model, params, np.concatenate([xs, padding]), **longer), (final, ys))
