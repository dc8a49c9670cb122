"""Which targets count: the rule for each type of batch, also under jit; what is refused."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refuses

from jaxrnn.data import Buckets, Chunk, PaddedBatch, Streams, targets_and_mask

LENGTHS = np.array([3, 0, 1])


class Custom(NamedTuple):
    """A batch with a rule of its own."""

    values: np.ndarray

    def targets_and_mask(self):
        """Positive ones."""
        return self.values, self.values > 0


def mask_of(batch, **options):
    mask = targets_and_mask(batch, **options)[1]
    return None if mask is None else np.asarray(mask).astype(int).tolist()


def test_labels_and_sequences():
    """Labels count where the sequence is not empty, targets a step before its end."""
    labels = PaddedBatch(np.zeros((4, 3, 2)), np.zeros(3, int), LENGTHS)
    assert mask_of(labels) == mask_of(labels._replace(targets=np.zeros((3, 4)))) == [1, 0, 1]
    steps = [[1, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]]
    sequences = PaddedBatch(np.zeros((4, 3)), np.zeros((4, 3), int), LENGTHS)
    assert mask_of(sequences) == mask_of(sequences._replace(targets=np.zeros((4, 3, 2)))) == steps
    assert mask_of(sequences._replace(inputs={"x": np.zeros((4, 3))})) == steps


def test_as_many_steps_as_sequences():
    """Labels that are numbers or vectors of another size are no sequences; where both fit, they are sequences."""
    batch = PaddedBatch(np.zeros((3, 3)), np.zeros(3), LENGTHS)
    assert mask_of(batch) == mask_of(batch._replace(targets=np.zeros((3, 2)))) == [1, 0, 1]
    assert mask_of(batch._replace(inputs=np.zeros((4, 3)), targets=np.zeros((3, 3)))) == [1, 0, 1]
    both = batch._replace(targets=np.zeros((3, 3)))
    assert mask_of(both) == mask_of(both, aligned=True) == [[1, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert mask_of(both, aligned=False) == [1, 0, 1]


@pytest.mark.parametrize("aligned", [True, False])
def test_buckets_count_each_target_once(aligned):
    """Those that count in an epoch are those of the data, for buckets of as many steps as sequences, too."""
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(n, 2)) for n in (1, 2, 3, 3, 4, 4, 4, 2, 3, 1, 1)]
    targets = [np.arange(len(x)) + 10.0 * n for n, x in enumerate(inputs)] if aligned else list(range(1, 12))
    batches = Buckets(inputs, targets, batch=3, lengths=[2, 3, 4], aligned=aligned)
    found = [np.asarray(y)[np.asarray(mask)] for y, mask in map(targets_and_mask, batches)]
    np.testing.assert_array_equal(
        np.sort(np.concatenate(found)), np.sort(np.concatenate([np.ravel(y) for y in targets]))
    )


def test_other_batches():
    """A chunk, a pair, a dict, a batch with a rule of its own."""
    chunk = Streams(np.arange(13), batch=2, steps=3, back=5)[0]
    targets, mask = targets_and_mask(chunk)
    assert (targets is chunk.targets, mask.tolist()) == (True, [[True, True]] * 3)
    y, mask = np.ones((3, 4)), LENGTHS > 0
    assert targets_and_mask((1, y))[0] is targets_and_mask([1, y])[0] is targets_and_mask({"targets": y})[0] is y
    assert mask_of((1, y)) is mask_of({"targets": y}) is None
    assert mask_of({"targets": y, "mask": mask}) == mask_of({"targets": y, "lengths": LENGTHS}) == [1, 0, 1]
    assert mask_of(Custom(np.array([1, -1]))) == [1, 0]


def test_traced():
    """Under jit lengths are unknown."""
    batch = PaddedBatch(np.zeros((4, 3)), np.zeros((4, 3), int), LENGTHS)
    np.testing.assert_array_equal(jax.jit(lambda b: targets_and_mask(b)[1])(batch), targets_and_mask(batch)[1])


def test_refusals():
    """Each names what to pass instead."""
    zeros, lengths = np.zeros, LENGTHS
    refuses("TypeError batch: expected a Chunk, …, got float64[3]; targets= takes…", lambda: targets_and_mask(zeros(3)))
    refuses("TypeError batch: …, got dict of 1 with x; targets= …", lambda: targets_and_mask({"x": 1}))
    refuses("TypeError batch: …", lambda: targets_and_mask(Custom))
    refuses("TypeError batch: …, got tuple of 3; …", lambda: targets_and_mask((1, 2, 3)))
    refuses("TypeError mask: expected bools, …", lambda: targets_and_mask({"targets": zeros(3), "mask": lengths}))
    refuses("ValueError mask: expected leading axes …[3], got bool[2]; …",
            lambda: targets_and_mask({"targets": zeros(3), "mask": zeros(2, bool)}))  # fmt: skip
    refuses("TypeError lengths: …", lambda: targets_and_mask({"targets": zeros(3), "lengths": zeros(3)}))
    refuses("TypeError targets: expected one array, …",
            lambda: targets_and_mask({"targets": (zeros(3),) * 2, "lengths": lengths}))  # fmt: skip
    batch = PaddedBatch(zeros((4, 3)), zeros(2), lengths)
    refuses("ValueError targets: expected leading axes [4, 3, ...], one a step or [3], labels, got [2]; …",
            lambda: targets_and_mask(batch))  # fmt: skip
    refuses("ValueError targets: expected leading axes [4, 3, ...], one a step, got [3]; …",
            lambda: targets_and_mask(batch._replace(targets=zeros(3)), aligned=True))  # fmt: skip
    refuses("ValueError targets: expected leading axes [3], labels, got [4, 3]; …",
            lambda: targets_and_mask(batch._replace(targets=zeros((4, 3))), aligned=False))  # fmt: skip
    refuses("ValueError aligned: expected True or False …, got None; …",
            lambda: targets_and_mask({"targets": zeros((3, 3)), "lengths": lengths}))  # fmt: skip
    refuses("TypeError aligned: …", lambda: targets_and_mask(batch, aligned=1))


def test_buckets_whose_labels_look_like_sequences():
    """Vectors of B numbers in a bucket of B steps."""
    inputs, labels = [np.zeros((n, 2)) for n in (3, 4, 5)], [np.zeros(3)] * 3
    refuses("ValueError batch: expected another size than 3, …", lambda: Buckets(inputs, labels, 3, aligned=False))
    Buckets(inputs, labels, 3, aligned=False, lengths=[5])
    Buckets(inputs, labels, 2, aligned=False)


def test_chunk_type():
    """Chunks made by hand, of arrays on devices."""
    assert mask_of(Chunk(jnp.zeros((5, 2), int), jnp.zeros((3, 2), int), jnp.asarray(True), None)) == [[1, 1]] * 3
