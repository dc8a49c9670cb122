"""Sources of batches: each batch is read once, a resumed run gets the same groups, other objects are refused."""

from collections import UserDict, deque, namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from jaxrnn.data import Buckets, Streams
from jaxrnn.learning.sources import Reader

BATCH = np.arange(6.0).reshape(3, 2)


def numbered(n, rows=2):
    """Batch n, which can be told from the others."""
    return {"n": np.full((rows, 2), n)}


def number(batch):
    return int(batch["n"][0, 0])


class Indexed:
    """Gives ``batches[n]`` for any n, and records what is read."""

    def __init__(self, rows=lambda n: 2):
        self.rows, self.read = rows, []

    def __getitem__(self, n):
        self.read.append(n)
        return numbered(n, self.rows(n))


class Loader:
    """Epochs of ``size`` batches in an order drawn from a generator inside, as shuffling loaders have it."""

    def __init__(self, size=7):
        self.size, self.rng, self.read = size, np.random.default_rng(3), 0

    def __len__(self):
        return self.size

    def __iter__(self):
        for n in self.rng.permutation(self.size):
            self.read += 1
            yield numbered(n)


class Unsized(Loader):
    """A loader that raises where its length is asked for, as one over an iterable data set does."""

    def __len__(self):
        raise TypeError


class ByEpoch(Loader):
    """A loader whose order follows from the number of the epoch, also if epochs are left out."""

    def set_epoch(self, epoch):
        self.rng = np.random.default_rng([3, epoch])


class BySampler(Loader):
    """The same, where the sampler has the method."""

    @property
    def sampler(self):
        return self

    def set_epoch(self, epoch):
        self.rng = np.random.default_rng([3, epoch])


SOURCES = {
    "indexed": Indexed,
    "list": lambda: [numbered(n) for n in range(40)],
    "deque": lambda: deque(numbered(n) for n in range(40)),
    "generator": lambda: (numbered(n) for n in range(40)),
    "loader": Loader,
    "unsized": Unsized,
    "by epoch": ByEpoch,
    "by sampler": BySampler,
}


def groups(reader, steps, count, first=0):
    """The first number and the numbers of each group of a run from ``first`` on, in full groups where that goes."""
    done, result = first, []
    while done < steps:
        group = reader.group(done, count if done % count == 0 and done + count <= steps else 1)
        result.append((done, [number(batch) for batch in group]))
        done += len(group)
    return result


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.integers(1, 2), min_size=40, max_size=40),
    equal=st.integers(1, 9),
    counts=st.lists(st.integers(1, 6), min_size=40, max_size=40),
    resume=st.integers(0, 40),
)
def test_groups(rows, equal, counts, resume):
    """As many as asked for if they have one shape, else one; each is read once; a resumed run gets the same ones."""

    def shape(n):
        return rows[n // equal % 40]

    def read(source, done):
        reader, given = Reader(source), {}
        while done < 40:
            given[done] = [number(batch) for batch in reader.group(done, counts[done])]
            done += len(given[done])
        return given

    source = Indexed(shape)
    given = read(source, 0)
    for done, group in given.items():
        whole = range(done, done + counts[done])
        assert group == (list(whole) if len({shape(n) for n in whole}) == 1 else [done])
    assert source.read == list(range(len(source.read)))
    first = sorted(given)[resume % len(given)]
    assert read(Indexed(shape), first) == {done: group for done, group in given.items() if done >= first}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("first", [0, 4, 8, 28])
def test_a_resumed_run_gets_the_same_batches(name, first):
    """Also if batch 0 is looked at before, as its fingerprint needs it, and in an epoch that began in between."""
    reader = Reader(SOURCES[name]())
    expected = groups(reader, 40, 4)
    assert [number for _, group in groups(Reader(SOURCES[name]()), 40, 40) for number in group] == [
        number for _, group in expected for number in group
    ]
    resumed = Reader(SOURCES[name]())
    assert number(resumed.first) == number(resumed.first) == expected[0][1][0]
    assert groups(resumed, 40, 4, first=first) == expected[first // 4 :]


def test_whole_epochs_are_skipped_unread():
    """If their order follows from their number; one that a generator inside draws is read through."""
    for source, read in ((Loader(), 32), (ByEpoch(), 4 + 1), (BySampler(), 4 + 1)):
        reader = Reader(source)
        assert number(reader.first) in range(7)
        reader.group(28, 4)  # epoch 4 begins with batch 28
        assert source.read == read


def test_epochs():
    """Lists repeat in runs measured in epochs; where the length of an epoch is not known, they are refused."""
    reader = Reader([numbered(n) for n in range(3)])
    assert reader.end(None, 3) == 9
    assert [n for _, group in groups(reader, 9, 4) for n in group] == [0, 1, 2] * 3
    streams = Streams(np.arange(65) % 5, 2, 4)
    assert Reader(streams).end(None, 2) == 2 * len(streams) == 16
    assert Reader(Indexed()).end(7, None) == 7
    unknown = "ValueError epochs: expected batches of a known number, len(batches), got "
    refuses(f"{unknown}generator; steps=, or list(...) of it", lambda: Reader(iter_of(3)).end(None, 1))
    refuses(f"{unknown}Indexed; steps=, or give it a __len__", lambda: Reader(Indexed()).end(None, 1))
    one = "ValueError steps: expected steps= or epochs=, one of both, got "
    refuses(one + "neither", lambda: Reader(Indexed()).end(None, None))
    refuses(one + "both", lambda: Reader(Indexed()).end(1, 1))


def iter_of(count):
    return (numbered(n) for n in range(count))


class Once:
    """An object whose second iteration is empty."""

    def __init__(self):
        self.batches = iter_of(3)

    def __iter__(self):
        return self.batches


class Short(Loader):
    """A loader of fewer batches than its length."""

    def __len__(self):
        return self.size + 1


def run(source, steps=20):
    reader = Reader(source)
    groups(reader, reader.end(steps, None), 4)


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("expected one for each of steps=20, got list of 3; epochs=7 repeats them, or steps=3",
         lambda: run([numbered(n) for n in range(3)])),
        ("expected one for each of steps=2, got ndarray of 1; …", lambda: run(BATCH[None], 2)),
        ("expected one for each of steps=20, got generator that ended after 9; fewer steps, or an object with "
         "__iter__, …", lambda: run(iter_of(9))),
        ("expected one for each of steps=20, got IndexError from batches[5] of Finite of 5; fewer steps, or a source "
         "that repeats: …", lambda: run(Finite())),
        ("expected some in each epoch, also in epoch 1, got none from Once; its __iter__ must start anew each time",
         lambda: run(Once())),
        ("expected some in each epoch, also in epoch 0, got none from Loader of 0; it is empty",
         lambda: run(Loader(0))),
        ("expected len(batches) = 8 in epoch 0, got 7 from Short; correct its __len__, …", lambda: run(Short())),
    ],
)  # fmt: skip
def test_sources_that_end(words, call):
    """The message says how many batches there were."""
    refuses(f"ValueError batches: {words}", call)


class Finite:
    """Five batches that do not repeat."""

    def __len__(self):
        return 5

    def __getitem__(self, n):
        return [numbered(k) for k in range(5)][n]


Pair = namedtuple("Pair", "inputs targets")


@pytest.mark.parametrize(
    ("words", "batches"),
    [
        ("a source of batches, got dict; a list of batches; each may be a dict", {"x": BATCH}),
        ("a source of batches, got str; …", "text.txt"),
        ("a source of batches, got a single Pair; [batch] with epochs= repeats a single one", Pair(BATCH, BATCH)),
        ("a source of batches, got tuple of two arrays, float64[3, 2], float64[3, 2]; data.Buckets(inputs, targets, "
         "batch=...) makes batches …", (BATCH, BATCH)),
        ("a source of batches, got list of two arrays, float64[3, 2], int32[3]; …", [BATCH, np.zeros(3, "int32")]),
        ("a source of batches, got function; call it: iter_of(...)", iter_of),
        ("a source of batches, got type; call it: Loader(...)", Loader),
        ("an object that gives batch n as batches[n], or batches to iterate over, got int; data.Buckets, …", 3),
        ("an object that gives batch n as batches[n], or batches to iterate over, got NoneType; …", None),
    ],
)  # fmt: skip
def test_what_gives_no_batches(words, batches):
    """The message names the way to batches."""
    refuses(f"TypeError batches: expected {words}", lambda: Reader(batches))


@pytest.mark.parametrize("empty", [[], (), deque(), np.zeros((0, 3))])
def test_empty_sources(empty):
    """They train nothing."""
    name = type(empty).__name__
    refuses(f"ValueError batches: expected batches, one at least, got {name}; …", lambda: Reader(empty))


@pytest.mark.parametrize(
    ("words", "batch"),
    [
        ("TypeError batches[0]['x']: expected an array, got list of 2; np.asarray(...) of it; of a Hugging Face "
         'dataset, .with_format("numpy")', {"x": [[1, 2], [3, 4]]}),
        ("TypeError batches[0][1]: expected an array, got list of 2; …", (BATCH, ["a", "b"])),
        ("TypeError batches[0]['x']: expected an array of numbers, got str a cat; data.Vocabulary.of(sentences) has …",
         {"x": "a cat"}),
        ("TypeError batches[0]: expected an array of numbers, got <U1[1]; …", np.array(["a"])),
        ("TypeError batches[0]['x']: expected an array of numbers, got object[1]; …", {"x": np.array([None])}),
        ("TypeError batches[0]: expected an array of numbers, got UserDict; … dict(...) of a mapping", UserDict(x=1)),
        ("TypeError batches[0]: expected a pytree of arrays, got None; …", None),
        ("ValueError batches[0]: expected a batch: arrays [T, B, ...], [B, ...] for labels, got list of 2 examples; "
         "data.Buckets(…", [(BATCH, 0), (BATCH, 1)]),
        ("ValueError batches[0]: expected a batch: …, got list of 2 examples; …", [{"x": BATCH}, {"x": BATCH[1:]}]),
    ],
)  # fmt: skip
def test_what_is_no_batch(words, batch):
    """The message names the leaf."""
    refuses(words, lambda: Reader([batch] * 3).group(0, 1))


@pytest.mark.parametrize(
    "batch",
    [
        (BATCH, 3), 7, [BATCH, BATCH[0]], [[BATCH, BATCH], [BATCH, BATCH]], Pair(BATCH, None), {"x": BATCH, "w": 0.5},
        jnp.ones(3), [BATCH, 2],
    ],
)  # fmt: skip
def test_what_is_a_batch(batch):
    """Sequences without batch axes, numbers, what loaders collate: arrays are passed on as they are."""
    (given,) = Reader([batch] * 3).group(0, 1)
    assert jax.tree.structure(given) == jax.tree.structure(batch)
    assert all(a is b for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(batch), strict=True))


def test_the_library_s_own_sources():
    """Buckets and streams go on in the next epoch with another order, or the same."""
    words = [np.ones(n, int) for n in (1, 2, 3, 9, 10)]
    buckets = Buckets(words, [0, 1, 0, 1, 0], batch=2, buckets=2)
    read = [batch for n in range(9) for batch in Reader(buckets).group(n, 1)]
    for n, batch in enumerate(read):
        for a, b in zip(batch, buckets[n], strict=True):
            np.testing.assert_array_equal(a, b)


# ---- other libraries ---------------------------------------------------------------------------------------------


def examples(torch):
    """Twelve sequences [T, I] and labels as a map-style data set of PyTorch."""

    class Examples(torch.utils.data.Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, n):
            return torch.full((5, 2), float(n)), n

    return Examples()


def test_torch():
    """Tensors become arrays; an order by epoch and sampler is resumed; a data set of examples is refused."""
    torch = pytest.importorskip("torch")
    data = torch.utils.data

    def loader():
        sampler = data.DistributedSampler(examples(torch), num_replicas=1, rank=0, seed=1)
        return data.DataLoader(sampler.dataset, batch_size=4, sampler=sampler)

    def labels(reader, first=0):
        return [reader.group(n, 1)[0][1].tolist() for n in range(first, 9)]

    reader = Reader(loader())
    assert (reader.epoch_length, reader.end(None, 3)) == (3, 9)
    inputs, first_labels = reader.first
    assert isinstance(inputs, np.ndarray)
    assert inputs.shape == (4, 5, 2)
    np.testing.assert_array_equal(inputs[:, 0, 0], first_labels)
    all_labels = labels(reader)
    assert all(sorted(np.concatenate(all_labels[n : n + 3])) == list(range(12)) for n in (0, 3, 6))
    assert all_labels[:3] != all_labels[3:6]
    assert labels(Reader(loader()), 7) == all_labels[7:]
    half = [{"x": torch.ones(3, 2, dtype=torch.bfloat16).T, "mask": torch.ones(2, dtype=torch.bool)}]
    (batch,) = Reader(half).group(0, 1)
    assert (batch["x"].dtype.name, batch["x"].shape, batch["mask"].dtype.name) == ("bfloat16", (2, 3), "bool")
    refuses("TypeError batches: expected batches, not examples, got Examples; torch.utils.data.DataLoader(dataset, "
            "batch_size=...), …", lambda: Reader(examples(torch)))  # fmt: skip
    grad = [torch.ones(3, requires_grad=True)]
    refuses("TypeError batches[0]: expected an array, got Tensor: …detach…", lambda: Reader(grad).group(0, 1))


def test_torch_streams():
    """A loader over an iterable data set has a length that raises; it is an epoch in each iteration."""
    torch = pytest.importorskip("torch")

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(torch.arange(6))

    reader = Reader(torch.utils.data.DataLoader(Stream(), batch_size=2))
    assert reader.epoch_length is None
    assert [reader.group(n, 1)[0].tolist() for n in range(5)] == [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]]
    assert Reader(Stream()).group(0, 2) == [0, 1]


def test_grain():
    """A data set of batches is indexed at any n; one of examples is refused; loaders and iterators are read."""
    grain = pytest.importorskip("grain")
    examples = grain.MapDataset.source([np.full((5, 2), n) for n in range(6)]).shuffle(seed=1)
    batched = examples.batch(2, batch_fn=lambda xs: np.stack(xs, 1))
    reader = Reader(batched)
    assert (reader.epoch_length, reader.first.shape) == (3, (5, 2, 2))
    for source in (batched.repeat(), batched.map(lambda x: x)):
        for n in (0, 4):
            np.testing.assert_array_equal(Reader(source).group(n, 1)[0], batched[n])
    assert Reader(batched.repeat()).epoch_length is None
    refuses("TypeError batches: expected batches, not examples, got ShuffleMapDataset; dataset.batch(...), …",
            lambda: Reader(examples))  # fmt: skip
    for iterated in (batched.to_iter_dataset(), iter(batched.to_iter_dataset())):
        np.testing.assert_array_equal(Reader(iterated).group(1, 1)[0], batched[1])


def test_hugging_face():
    """Batches that are iterated, of a shuffled data set too; a data set of examples and lists are refused."""
    datasets = pytest.importorskip("datasets")
    examples = datasets.Dataset.from_dict({"x": [[n, n + 1] for n in range(6)], "y": list(range(6))})
    arrays = examples.with_format("numpy")
    assert Reader(arrays.iter(batch_size=2)).first["x"].tolist() == [[0, 1], [1, 2]]
    refuses('TypeError batches: expected batches, not examples, got Dataset; dataset.with_format("numpy")…',
            lambda: Reader(arrays))  # fmt: skip
    refuses("TypeError batches: expected a source of batches, got DatasetDict; one split of it, …",
            lambda: Reader(datasets.DatasetDict(train=arrays)))  # fmt: skip
    refuses("TypeError batches[0]['x']: expected an array, got list of 2; …",
            lambda: Reader(examples.iter(batch_size=2)).first)  # fmt: skip

    def labels(first=0):
        reader = Reader(arrays.to_iterable_dataset().shuffle(seed=1).batch(2))
        return [reader.group(n, 1)[0]["y"].tolist() for n in range(first, 9)]

    everything = labels()
    assert all(sorted(np.concatenate(everything[n : n + 3])) == list(range(6)) for n in (0, 3, 6))
    assert everything[:3] != everything[3:6]
    assert labels(7) == everything[7:]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_tables(library):
    """Their columns are no batches."""
    table = pytest.importorskip(library).DataFrame({"x": [1.0, 2.0]})
    refuses("TypeError batches: expected a source of batches, got DataFrame; data.Buckets, …", lambda: Reader(table))
