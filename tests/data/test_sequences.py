"""Streams: order and contents of chunks, history, resets, splitting."""

import itertools
import re

import numpy as np
import pytest

from jaxrnn.data import Streams

SHAPES = [  # tokens, streams, k1, k2
    (13, 2, 3, None),  # fits exactly: 2 · 6 + 1
    (14, 2, 3, 3),
    (18, 2, 3, 4),
    (101, 4, 5, 8),
    (101, 4, 5, 13),  # more history than two chunks
    (101, 1, 1, 1),
    (7, 3, 2, 5),  # a single chunk
]
every_shape = pytest.mark.parametrize(("tokens", "batch", "steps", "back"), SHAPES)


def make(tokens, batch, steps, back, **options):
    """A text of distinct tokens, and its streams."""
    ids = np.random.default_rng(0).permutation(tokens)
    return ids, Streams(ids, batch, steps, back=back, **options)


@every_shape
def test_chunks_are_consecutive(tokens, batch, steps, back):
    """The new steps of all chunks, stream by stream, are the text; less than one chunk is dropped at the end."""
    ids, streams = make(tokens, batch, steps, back)
    rows = [np.concatenate([chunk.inputs[-steps:, b] for chunk in streams]) for b in range(batch)]
    targets = [np.concatenate([chunk.targets[:, b] for chunk in streams]) for b in range(batch)]
    read = np.concatenate(rows)
    np.testing.assert_array_equal(read, ids[: len(read)])
    np.testing.assert_array_equal(np.concatenate(targets), ids[1 : len(read) + 1])
    assert 0 <= tokens - 1 - len(read) < batch * steps  # less than one more chunk
    assert len(streams) * steps * batch == len(read)


@every_shape
def test_shapes_and_first(tokens, batch, steps, back):
    """Inputs have k2 steps, targets k1; ``first`` is True for the first chunk of an epoch."""
    _, streams = make(tokens, batch, steps, back)
    for n in range(2 * len(streams)):
        chunk = streams[n]
        assert chunk.inputs.shape == (back or steps, batch)
        assert chunk.targets.shape == (steps, batch)
        assert chunk.first == (n % len(streams) == 0)
        assert chunk.first.dtype == bool


@every_shape
def test_history_is_what_came_before(tokens, batch, steps, back):
    """The history is the inputs of the chunks before; the history before the start is followed by a reset."""
    _, streams = make(tokens, batch, steps, back)
    history = (back or steps) - steps
    seen = np.zeros((history, batch), int)
    for chunk in streams:
        np.testing.assert_array_equal(chunk.inputs[:history], seen)
        seen = np.concatenate([seen, chunk.inputs[history:]])[-history:] if history else seen
    if history:
        at = [n * steps + t for n, chunk in enumerate(streams) for t in np.flatnonzero(chunk.resets.any(1))]
        assert set(at) == {history}  # the first new token of the first chunk, in every window that contains it
        assert all((chunk.resets.any(1) == chunk.resets.all(1)).all() for chunk in streams)
    else:
        assert all(chunk.resets is None for chunk in streams)


@every_shape
def test_epochs_repeat(tokens, batch, steps, back):
    """Chunk n is the same in every epoch."""
    _, streams = make(tokens, batch, steps, back)
    for n in range(len(streams)):
        for ours, later in zip(streams[n], streams[n + 3 * len(streams)]):
            np.testing.assert_array_equal(ours, later)


@pytest.mark.parametrize("back", [None, 7])
def test_resets_at_the_first_token_of_documents(back):
    """Also in the history, and at the start of each stream."""
    begins = np.random.default_rng(1).random(61) < 0.2
    ids, streams = make(61, 3, 4, back, resets=begins)
    begins_at = dict(zip(ids, begins))  # tokens are distinct
    length = len(streams) * 4
    starts = set(ids[np.arange(3) * length])
    for n, chunk in enumerate(streams):
        for t, b in np.ndindex(chunk.inputs.shape):
            before_start = n * 4 + t < chunk.inputs.shape[0] - 4
            token = chunk.inputs[t, b]
            assert chunk.resets[t, b] == (not before_start and (begins_at[token] or token in starts))


@pytest.mark.parametrize("back", [None, 8])
def test_epoch_stacks_all_chunks(back):
    """One leading axis, chunk by chunk."""
    _, streams = make(101, 4, 5, back)
    epoch = streams.epoch()
    for n, chunk in enumerate(streams):
        for stacked, single in zip(epoch, chunk):
            if single is not None:
                np.testing.assert_array_equal(stacked[n], single)
    assert len(epoch.inputs) == len(streams)
    assert (epoch.resets is None) == (back is None)


def test_iteration_is_one_epoch():
    """While streams[n] takes any n."""
    _, streams = make(13, 2, 3, None)
    assert len(list(itertools.islice(streams, 100))) == len(streams) == 2


def test_repr():
    """Sizes in one line, no arrays; also those of a part."""
    _, streams = make(10_001, 4, 5, None)
    assert repr(streams) == "Streams(10,000 tokens, batch=4, steps=5, 500 chunks)"
    assert repr(make(101, 4, 5, 8)[1].split(3)[1]) == "Streams(40 tokens, batch=4, steps=5, back=8, 2 chunks)"


@pytest.mark.parametrize("back", [None, 8])
def test_split(back):
    """The two parts have the chunks of the whole; each begins its streams anew."""
    _, streams = make(101, 4, 5, back)
    first, rest = streams.split(3)
    assert (len(first), len(rest)) == (3, len(streams) - 3)
    for part, offset in ((first, 0), (rest, 3)):
        for n, chunk in enumerate(part):
            whole = streams[n + offset]
            np.testing.assert_array_equal(chunk.inputs, whole.inputs)
            np.testing.assert_array_equal(chunk.targets, whole.targets)
            assert chunk.first == (n == 0)
            if back is not None and n == 0:
                assert chunk.resets[3].all()  # history = 3: the first new step
    if back is not None:
        assert not streams[3].resets.any()  # the original is unchanged


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: Streams(np.arange(12), 2, 6), ValueError,
         "ids: expected more than batch · steps = 2 · 6 tokens, got 12; use smaller ones"),
        (lambda: Streams(np.zeros(0, int), 1, 1), ValueError,
         "ids: expected more than batch · steps = 1 · 1 tokens, got 0; use smaller ones"),
        (lambda: Streams(np.zeros(0, int), 2, 6), ValueError,
         "ids: expected more than batch · steps = 2 · 6 tokens, got 0; use smaller ones"),
        (lambda: Streams(np.arange(99), 2, 6, back=5), ValueError,
         "back: expected at least steps = 6, got 5; the gradient goes back through the chunk itself"),
        (lambda: Streams(np.arange(99), 2, 6, back=7.0), TypeError, "back: expected a positive int, got float 7.0"),
        (lambda: Streams(np.arange(99), 0, 6), ValueError, "batch: expected a positive int, got 0"),
        (lambda: Streams(np.arange(99), 2, True), TypeError, "steps: expected a positive int, got bool True"),
        (lambda: Streams(np.arange(99), 2, 6, resets=np.zeros(98, bool)), ValueError,
         "resets: expected bool[99], [T, ...], got bool[98]; jnp.broadcast_to spreads one row over the batch"),
        (lambda: Streams(np.arange(99), 2, 6, resets=np.zeros(99)), TypeError,
         "resets: expected bool[99], [T, ...], got float64[99]; resets[t] is True where a new sequence starts"),
        (lambda: Streams(np.arange(99), 2, 6).split(8), ValueError,
         "chunks: expected a number between 0 and 8, the chunks of an epoch, got 8"),
        (lambda: Streams(np.arange(13), 2, 6).split(1), ValueError,
         "chunks: expected a number between 0 and 1, the chunks of an epoch, got 1; "
         "a longer text, or a smaller batch or steps, gives more chunks"),
    ],
)  # fmt: skip
def test_refusals(call, kind, words):
    """Exact messages."""
    with pytest.raises(kind, match=f"^{re.escape(words)}$"):
        call()


def test_one_token_more_is_enough():
    """The limit of the refusal above."""
    assert len(Streams(np.arange(13), 2, 6)) == 1
