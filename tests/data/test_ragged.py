"""Buckets: every sequence once an epoch, few shapes, an order that depends only on seed and batch number."""

import jax
import numpy as np
import optax
import pytest

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Buckets, Pairs

SIZES = [3, 1, 8, 5, 5, 2, 9, 4, 7, 6, 1]


def sequences(width=2):
    """Different sequences of the lengths above."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(size, width)).astype(np.float32) for size in SIZES]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch", [1, 3, 20])
def test_every_sequence_once_an_epoch(batch, shuffle):
    """Up to its length each entry is a sequence and its target; the padding is 0."""
    inputs = sequences()
    batches = Buckets(inputs, [x[:, 0] for x in inputs], batch, buckets=3, shuffle=shuffle)
    for epoch in range(2):
        seen = []
        for n in range(len(batches)):
            padded = batches[epoch * len(batches) + n]
            for b, length in enumerate(padded.lengths):
                assert not padded.inputs[length:, b].any()
                if length:
                    x = padded.inputs[:length, b]
                    seen.append(next(i for i, y in enumerate(inputs) if np.array_equal(x, y)))
                    np.testing.assert_array_equal(padded.targets[:length, b], x[:, 0])
        assert sorted(seen) == list(range(len(SIZES)))


def test_each_sequence_is_in_the_smallest_bucket():
    """There are as many shapes as buckets, and each sequence is padded to the smallest length possible."""
    inputs = sequences()
    batches = Buckets(inputs, list(range(len(SIZES))), 2, lengths=[4, 6, 9])
    shapes = {batches[n].inputs.shape for n in range(len(batches))}
    assert shapes == {(4, 2, 2), (6, 2, 2), (9, 2, 2)}
    for n in range(len(batches)):
        steps = len(batches[n].inputs)
        for length, label in zip(batches[n].lengths, batches[n].targets, strict=True):
            assert length == 0 or length == SIZES[label]
            assert length == 0 or steps == min(s for s in (4, 6, 9) if s >= length)


def test_iteration_is_one_epoch():
    """While batches[n] takes any n."""
    batches = Buckets(sequences(), list(range(len(SIZES))), 2)
    assert [batch.targets.tolist() for batch in batches] == [batches[n].targets.tolist() for n in range(len(batches))]
    batches[3 * len(batches)]


def test_batches_depend_on_number_and_seed():
    """Batch n is the same in any order of access; epochs and seeds differ."""
    inputs, labels = sequences(), list(range(len(SIZES)))
    one, other = (Buckets(inputs, labels, 2, seed=1) for _ in "ab")
    for n in (7, 0, 13, 3):
        np.testing.assert_array_equal(one[n].targets, other[n].targets)
    order = [[batches[n].targets.tolist() for n in range(start, start + len(one))]
             for batches, start in ((one, 0), (one, len(one)), (Buckets(inputs, labels, 2, seed=2), 0))]  # fmt: skip
    assert order[0] != order[1]
    assert order[0] != order[2]


def test_padding_of_the_batch_is_ignored():
    """Loss and gradient of a padded batch are those of its sequences."""
    inputs = sequences()[:1]
    model = rnn.Stack(rnn.GRU(2, 3), rnn.Linear(3, 2))
    params = model.init(jax.random.key(0))

    def loss(params, batch):
        _, ys = rnn.unroll(model, params, batch.inputs, lengths=batch.lengths)
        return rnn.losses.squared_error(ys, batch.targets, lengths=batch.lengths)

    full, alone = (Buckets(inputs, inputs, batch, aligned=True)[0] for batch in (4, 1))
    for a, b in zip(
        *(jax.tree.leaves(jax.jit(jax.value_and_grad(loss))(params, batch)) for batch in (full, alone)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-7)


def test_fit_compiles_each_shape_once(capsys):
    """The loop returns and prints the number of shapes, and compiles no others."""
    inputs = sequences()
    model, traces = rnn.GRU(2, 3), []

    def loss(params, carry, batch, key):
        traces.append(batch.inputs.shape)
        _, ys = rnn.unroll(model, params, batch.inputs, lengths=batch.lengths)
        return rnn.losses.squared_error(ys, ys * 0, lengths=batch.lengths), ((), {})

    batches = Buckets(inputs, list(range(len(SIZES))), 2, buckets=3)
    optimizer = optax.sgd(0.1)
    state = learning.train_state(model.init(jax.random.key(0)), optimizer)
    step = learning.train_step(loss, optimizer)
    end = learning.fit(step, state, batches, steps=4 * len(batches), key=jax.random.key(1), steps_per_execution=1)
    assert end.shapes == len(set(traces)) == 3
    assert "3 batch shapes were compiled" in capsys.readouterr().out


def test_repr():
    """Sizes in one line, no arrays."""
    batches = Buckets(sequences(), list(range(len(SIZES))), 2, lengths=[4, 6, 9])
    assert repr(batches) == f"Buckets(11 sequences, batch=2, lengths=(4, 6, 9), {len(batches)} batches)"


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("targets: expected one for each of the 11 inputs, at least one, got 1", lambda: Buckets(sequences(), [1], 2)),
        ("targets: expected one for each of the 0 inputs, at least one, got 0", lambda: Buckets([], [], 2)),
        ("lengths: expected one of at least 9", lambda: Buckets(sequences(), range(11), 2, lengths=[3])),
        ("lengths: expected ints of at least 0, got -3", lambda: Buckets([np.ones(2)], [1], 2, lengths=[-3, 4])),
        ("lengths: expected one length at least, got none; b", lambda: Buckets([np.ones(2)], [1], 2, lengths=[])),
        ("lengths: expected ints of at least 0, got float 4.5", lambda: Buckets([np.ones(2)], [1], 2, lengths=[4.5])),
        ("lengths: expected ints, lengths of buckets, got int 4", lambda: Buckets([np.ones(2)], [1], 2, lengths=4)),
        ("batch: expected a positive int, got 0", lambda: Buckets(sequences(), range(11), 0)),
        ("inputs: expected arrays .T_n, ....", lambda: Buckets([np.ones((2, 3)), np.ones((2, 1))], [0, 1], 2)),
        ("inputs: expected arrays .T_n, ....", lambda: Buckets([1, 2], [0, 1], 2)),
        ("inputs: expected one at least that is not empty, got 2 empty ones", lambda: Buckets([[], []], [0, 1], 2)),
        ("aligned: expected True or False, got str no", lambda: Buckets([np.ones(2)], [1], 2, aligned="no")),
        (
            r"targets: expected a target for each of the 3 steps of inputs\[1\], since aligned=True, got shape \[2\]",
            lambda: Buckets([np.ones(2), np.ones(3)], [np.ones(2), np.ones(2)], 2, aligned=True),
        ),
        ("targets: expected labels of one shape", lambda: Buckets([np.ones(4), np.ones(3)], [np.ones(5), 1], 2)),
    ],
)
def test_refusals(message, call):
    """The message names the argument."""
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_aligned():
    """A target as long as its sequence may be a label or one target per step: aligned= is required if both fit."""
    inputs, labels = [np.full(3, n) for n in range(3)], np.eye(3, dtype=int)
    with pytest.raises(
        ValueError,
        match="aligned: expected True or False, since all inputs have 3 steps and all targe"
        r"ts the shape \[3\], got None; aligned=True: a target for each step; aligned=False: a label",
    ):
        Buckets(inputs, labels, 4)
    kwargs = {"batch": 4, "shuffle": False}
    batch = Buckets(inputs, labels, aligned=False, **kwargs)[0]
    assert batch.targets.tolist() == [*labels.tolist(), [0, 0, 0]]  # one entry is padding
    assert (
        Buckets(inputs, labels[[2, 0, 1]], aligned=True, **kwargs)[0].targets.T[:3].tolist()
        == labels[[2, 0, 1]].tolist()
    )
    ragged = [np.arange(n) for n in (3, 1, 2)]
    assert Buckets(ragged, ragged, buckets=1, **kwargs)[0].targets.shape == (3, 4)  # aligned= is not required
    assert Buckets(ragged, labels, buckets=1, **kwargs)[0].targets.shape == (4, 3)
    assert Buckets(inputs, [0, 1, 2], **kwargs)[0].targets.shape == (4,)


def test_empty_sequences_take_dtype_and_shape_of_the_others():
    """An empty list among token ids is an array of ints, one among frames has their number of features."""
    ids = [[], [3, 1], np.zeros(0), [2]]
    batch = Buckets(ids, ids, 4, buckets=1, shuffle=False)[0]
    assert np.issubdtype(batch.inputs.dtype, np.integer)
    assert np.issubdtype(batch.targets.dtype, np.integer)
    assert batch.inputs.T.tolist() == [[0, 0], [3, 1], [0, 0], [2, 0]]
    assert batch.lengths.tolist() == [0, 2, 0, 1]
    frames = Buckets([[], np.ones((2, 3), np.float32)], [0, 1], 2, buckets=1)[0].inputs
    assert (frames.dtype, frames.shape) == (np.float32, (2, 2, 3))


def test_one_dtype_for_all():
    """Values are not truncated to the dtype of the first sequence, label or target."""
    batch = Buckets([np.array([1, 2]), np.array([0.25, 0.5])], [1, 2.5], 2, buckets=1, shuffle=False)[0]
    assert batch.inputs.T.tolist() == [[1, 2], [0.25, 0.5]]
    assert batch.targets.tolist() == [1, 2.5]
    narrow = Buckets([np.array([1], np.int8), np.array([300])], ["a", "longer"], 2, buckets=1, shuffle=False)[0]
    assert narrow.inputs.tolist() == [[1, 300]]
    assert narrow.targets.tolist() == ["a", "longer"]


# ---- pairs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
def test_pairs_hold_every_pair_once_an_epoch(shuffle):
    """Each with its own target and its own lengths, zeros behind them, fillers of length 0; in an order of its own."""
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(1, 9, a), rng.integers(1, 9, b)) for a, b in rng.integers(0, 8, (11, 2))]
    source = Pairs(*zip(*pairs, strict=True), 3, buckets=3, shuffle=shuffle)
    orders = []
    for epoch in (0, 1):
        found = []
        for n in range(epoch * len(source), (epoch + 1) * len(source)):
            inputs, targets, lengths, ends = source[n]
            assert len(inputs) in source.lengths
            assert (inputs.shape[1], targets.shape[1]) == (3, 3)
            for b in range(3):
                found.append((inputs[: lengths[b], b].tolist(), targets[: ends[b], b].tolist()))
                assert not inputs[lengths[b] :, b].any()
                assert not targets[ends[b] :, b].any()
        orders.append(found)
        fillers = 3 * len(source) - len(pairs)
        expected = [(a.tolist(), b.tolist()) for a, b in pairs] + [([], [])] * fillers
        assert sorted(found) == sorted(expected)
    assert (orders[0] == orders[1]) != shuffle


def test_pairs_are_refused_by_number():
    """As many targets as inputs."""
    with pytest.raises(ValueError, match=r"^targets: expected one for each of the 2 inputs, got 1$"):
        Pairs([np.ones(2, int)] * 2, [np.ones(2, int)], 2)
