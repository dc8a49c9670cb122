"""Where the batches of a run come from: what ``fit`` takes as ``batches``, and a reader that reads each once."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np

from jaxrnn.checks import describe, refuse, size
from jaxrnn.types import PyTree

OURS = "data.Buckets, data.Streams and data.Windows make batches of arrays"
MOST = 2**31  # steps of a run; a source that says it is longer repeats for ever
SEEDED = ("sampler", "batch_sampler", "dataset")  # parts of a data loader that may have a set_epoch of their own


class Reader:
    """Reads the batches of a run one after another, each once, and keeps what it read ahead.

    A batch is a pytree of arrays, each of its own memory; arrays of other libraries (anything with ``__array__`` or
    DLPack, such as tensors of PyTorch) become arrays of NumPy. Batches come from one of

    - an object whose ``batches[n]`` is batch n for any n: the position in the data is a number, a run resumes at once;
    - a list, tuple, deque or array of batches, which repeats if a run is measured in epochs;
    - an object to iterate over again and again, each time one epoch: a data loader. A resumed run reads up to its
      position, so that random states inside it are those of an uninterrupted run. With a method ``set_epoch(epoch)``,
      of its own or of its ``sampler``, ``batch_sampler`` or ``dataset``, the order of an epoch follows from its number:
      it is called before each, and whole epochs are skipped unread if ``len`` is known;
    - an iterator or generator: one pass. A resumed run skips by reading.

    A resumed run gets the batches of an uninterrupted one if the source gives the same ones in each process:
    ``torch.utils.data.DataLoader(shuffle=True)`` does not, as it draws from a global generator. With
    ``sampler=DistributedSampler(dataset, num_replicas=1, rank=0, seed=0)`` it does.

    Args:
        batches: see above.

    Raises:
        TypeError, ValueError: it gives no batches, or examples where batches are expected.

    Example:
        >>> import numpy as np
        >>> from jaxrnn.learning.sources import Reader
        >>> reader = Reader(np.full((7, 2), n) for n in range(5))
        >>> int(reader.first[0, 0])  # read, and kept
        0
        >>> [int(batch[0, 0]) for batch in reader.group(done=0, count=4)]
        [0, 1, 2, 3]
    """

    def __init__(self, batches: Any) -> None:
        check_source(batches)
        self._batches, self.is_list = batches, is_plain_sequence(batches)
        self._repeats = not self.is_list
        self._indexed, self.epoch_length = is_indexed(batches), _length(batches)
        self._one_pass = not self._indexed and hasattr(batches, "__next__")
        self._ahead: dict[int, PyTree] = {}  # batches that were read and not given yet, by number
        self._iterator: Iterator | None = None
        self._next = 0  # number of the batch that the iterator gives next
        self._steps: int | None = None  # of the run
        self._checked = False

    def end(self, steps: int | None, epochs: int | None) -> int:
        """The step to end at, of which exactly one measure is given; refuses a list that is too short for it."""
        if (steps is None) == (epochs is None):
            refuse("steps", "steps= or epochs=, one of both", "neither" if steps is None else "both")
        if epochs is not None:
            size("epochs", epochs)
            steps, self._repeats = epochs * self.epoch("epochs"), True
        assert steps is not None
        size("steps", steps)
        if not self._repeats and (count := len(self._batches)) < steps:
            refuse("batches", f"one for each of steps={steps}", _name(self._batches),
                   f"epochs={-(-steps // count)} repeats them, or steps={count}")  # fmt: skip
        self._steps = int(steps)
        return self._steps

    def epoch(self, argument: str) -> int:
        """The batches of an epoch, which ``argument`` requires to be known."""
        if self.epoch_length is None:
            fix = "steps=, or list(...) of it" if self._one_pass else "steps=, or give it a __len__"
            refuse(argument, "batches of a known number, len(batches)", _name(self._batches), fix)
        return self.epoch_length

    @property
    def first(self) -> PyTree:
        """Batch 0, to be asked for before any group; it is kept for the first group."""
        return self._peek(0)

    def group(self, done: int, count: int) -> list[PyTree]:
        """The next ``count`` batches if all have one shape, else the next one alone.

        Args:
            done: the number of the first batch; never smaller than in the call before.
            count: the number of batches.
        """
        self._ahead = {n: batch for n, batch in self._ahead.items() if n >= done}
        shapes = [jax.tree.map(np.shape, self._peek(n)) for n in range(done, done + count)]
        if any(shape != shapes[0] for shape in shapes):
            count = 1
        return [self._ahead.pop(n) for n in range(done, done + count)]

    def _peek(self, n: int) -> PyTree:
        """Batch n, kept until a group takes it."""
        if n not in self._ahead:
            batch = self._by_index(n) if self._indexed else self._by_iteration(n)
            if not self._checked:
                check_batch(f"batches[{n}]", batch)
                self._checked = True
            self._ahead[n] = as_arrays(batch)
        return self._ahead[n]

    def _by_index(self, n: int) -> PyTree:
        try:
            return self._batches[n % len(self._batches) if self.is_list and self._repeats else n]
        except (IndexError, KeyError) as error:
            count = f" of {self.epoch_length}" if self.epoch_length else ""
            self._too_few(f"{type(error).__name__} from batches[{n}] of {type(self._batches).__name__}{count}",
                          "a source that repeats: data.Streams, data.Buckets, or a class whose __getitem__ takes n "
                          "modulo the number of batches", error)  # fmt: skip

    def _by_iteration(self, n: int) -> PyTree:
        if self._iterator is None:
            self._iterator = iter(self._batches) if self._one_pass else self._epochs(0)
        if n < self._next:
            raise RuntimeError(f"Reader: batch {n} was asked for after batch {self._next - 1}")
        if self.epoch_length and _with_set_epoch(self._batches):
            epoch = n // self.epoch_length
            if epoch > self._next // self.epoch_length:
                self._iterator, self._next = self._epochs(epoch), epoch * self.epoch_length
        for _ in range(self._next, n):
            self._skip()
        return self._skip()

    def _skip(self) -> PyTree:
        assert self._iterator is not None
        try:
            batch = next(self._iterator)
        except StopIteration:
            again = "an object with __iter__, which starts anew in each epoch, or list(...) of it with epochs="
            self._too_few(f"{_name(self._batches)} that ended after {self._next}", again)
        self._next += 1
        return batch

    def _epochs(self, first: int) -> Iterator[PyTree]:
        """The batches of all epochs from the first one on."""
        for epoch in itertools.count(first):
            for part in _with_set_epoch(self._batches):
                part.set_epoch(epoch)
            count = 0
            for batch in self._batches:
                count += 1
                yield batch
            if not count:
                refuse("batches", f"some in each epoch, also in epoch {epoch}", f"none from {_name(self._batches)}",
                       "its __iter__ must start anew each time" if epoch else "it is empty")  # fmt: skip
            if self.epoch_length not in (None, count):
                got = f"{count} from {type(self._batches).__name__}"
                refuse("batches", f"len(batches) = {self.epoch_length} in epoch {epoch}", got,
                       "correct its __len__, or iterate in a class without")  # fmt: skip

    def _too_few(self, got: str, fix: str, cause: Exception | None = None) -> NoReturn:
        """A source that ends before the run does."""
        steps = "each step" if self._steps is None else f"each of steps={self._steps}"
        try:
            refuse("batches", f"one for {steps}", got, f"fewer steps, or {fix}")
        except ValueError as error:
            raise error from cause


def as_arrays(batch: PyTree) -> PyTree:
    """A batch with its leaves as arrays of NumPy or JAX."""
    return jax.tree_util.tree_map_with_path(_host_array, batch)


def is_plain_sequence(batches: Any) -> bool:
    """Whether a source is a plain list, tuple, deque or array, which does not repeat after its last batch."""
    return type(batches) in (list, tuple, deque) or _is_array(batches)


def is_indexed(batches: Any) -> bool:
    """Whether ``batches[n]`` is batch n. Iterable data sets may inherit a ``__getitem__`` that only raises."""
    return hasattr(batches, "__getitem__") and not _is_a(batches, "torch", "IterableDataset")


def check_source(batches: Any) -> None:
    """Refuse what gives no batches; the message names the way to them."""
    kind, name = type(batches), type(batches).__name__

    def no(expected: str, fix: str, error: type[Exception] = TypeError) -> NoReturn:
        refuse("batches", expected, name if not hasattr(batches, "_fields") else f"a single {name}", fix, error)

    if hasattr(batches, "_fields"):  # a named tuple: one batch
        no("a source of batches", "[batch] with epochs= repeats a single one")
    if _is_a(batches, "datasets", "DatasetDict", "IterableDatasetDict"):
        no("a source of batches", 'one split of it, dataset["train"]')
    if isinstance(batches, (Mapping, str, bytes)):
        no("a source of batches", "a list of batches; each may be a dict")
    if kind.__module__.split(".")[0] in ("pandas", "polars", "pyarrow"):
        no("a source of batches", OURS)
    if kind is type or (callable(batches) and not hasattr(batches, "__iter__") and not is_indexed(batches)):
        no("a source of batches", f"call it: {getattr(batches, '__name__', name)}(...)")
    if _is_a(batches, "datasets", "Dataset"):
        no("batches, not examples", 'dataset.with_format("numpy").iter(batch_size=...) for one epoch, '
           'dataset.with_format("numpy").to_iterable_dataset().batch(...) for several')  # fmt: skip
    if _is_a(batches, "torch", "Dataset") and not _is_a(batches, "torch", "IterableDataset"):
        no("batches, not examples", "torch.utils.data.DataLoader(dataset, batch_size=...), where None is for a dataset "
           "that gives batches")  # fmt: skip
    if _is_a(batches, "grain", "MapDataset") and not _is_batched(batches):
        no("batches, not examples", "dataset.batch(...), or dataset.to_iter_dataset() if it gives batches")
    if not hasattr(batches, "__iter__") and not is_indexed(batches):
        no("an object that gives batch n as batches[n], or batches to iterate over", OURS)
    if _is_inputs_and_targets(batches):
        refuse("batches", "a source of batches", f"{name} of two arrays, {', '.join(map(describe, batches))}",
               "data.Buckets(inputs, targets, batch=...) makes batches of inputs and targets; two batches are a list",
               TypeError)  # fmt: skip
    if is_plain_sequence(batches) and not len(batches):
        no("batches, one at least", "an empty source trains nothing", ValueError)


def check_batch(name: str, batch: PyTree) -> None:
    """Refuse what is not a pytree of arrays, and a list of examples; names the leaf.

    An example alone is not refused: a model takes sequences without batch axes too.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch, is_leaf=_is_list_of_numbers):
        where = name + jax.tree_util.keystr(path)
        if isinstance(leaf, list):
            refuse(where, "an array", f"list of {len(leaf)}",
                   'np.asarray(...) of it; of a Hugging Face dataset, .with_format("numpy")', TypeError)  # fmt: skip
        array = _host_array(path, leaf, name)
        if isinstance(array, np.ndarray) and array.dtype.kind in "OSU":
            _no_array(where, leaf)
    leaves = jax.tree.leaves(batch)
    if not leaves:
        refuse(name, "a pytree of arrays", describe(batch), "a loss without data takes a number, such as n", TypeError)
    if isinstance(batch, list) and _are_examples(batch):
        refuse(name, "a batch: arrays [T, B, ...], [B, ...] for labels", f"list of {len(batch)} examples",
               "data.Buckets(inputs, targets, batch=...) makes batches; np.stack(..., axis=1) one of equal "
               "lengths")  # fmt: skip


# ---- what an object is -------------------------------------------------------------------------------------------


def _is_a(value: Any, package: str, *names: str) -> bool:
    """Whether the class of an object derives from one of those of a package, which is not imported for that."""
    return any(c.__module__.split(".")[0] == package and c.__name__ in names for c in type(value).__mro__)


def _is_batched(dataset: Any) -> bool:
    """Whether a data set of Grain, or one that it is made of, is a batched one."""
    parents = getattr(dataset, "parents", ())
    return "Batch" in type(dataset).__name__ or any(map(_is_batched, parents))


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_inputs_and_targets(batches: Any) -> bool:
    """Two arrays: as a tuple always, as a list if they cannot be two batches of one run."""
    if type(batches) not in (tuple, list) or len(batches) != 2 or not all(map(_is_array, batches)):
        return False
    (first, second) = ((len(a.shape), str(a.dtype)) for a in batches)
    return type(batches) is tuple or first != second


def _is_list_of_numbers(value: Any) -> bool:
    """Whether a list is an array written as lists."""
    return isinstance(value, list) and bool(value) and all(
        isinstance(entry, (int, float, complex, str)) or _is_list_of_numbers(entry) for entry in value
    )  # fmt: skip


def _are_examples(batch: list) -> bool:
    """Whether a list holds examples, as far as that can be told: of unequal shapes, or with numbers as labels."""
    if not batch or not all(isinstance(entry, (tuple, list, dict)) for entry in batch):
        return False
    if len({jax.tree.structure(entry) for entry in batch}) > 1:
        return False
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(entry)] for entry in batch]
    return () in shapes[0] or any(shape != shapes[0] for shape in shapes)


def _with_set_epoch(batches: Any) -> list[Any]:
    """The source, and the parts of a data loader, that have a ``set_epoch``."""
    parts = [batches, *(getattr(batches, name, None) for name in SEEDED)]
    return [part for part in parts if callable(getattr(part, "set_epoch", None))]


def _length(batches: Any) -> int | None:
    """The batches of one epoch, if they are known and fewer than infinitely many."""
    try:
        length = len(batches)
    except (TypeError, NotImplementedError):  # also a loader over an iterable data set has a __len__
        return None
    return length if length < MOST else None  # Grain's .repeat()


def _name(batches: Any) -> str:
    length = _length(batches)
    return type(batches).__name__ + ("" if length is None else f" of {length}")


def _host_array(path: tuple, leaf: Any, name: str = "batches[n]") -> Any:
    """A leaf of a batch; one of another library as an array of NumPy."""
    if isinstance(leaf, (np.ndarray, jax.Array, np.generic, int, float, complex)):
        return leaf
    where = name + jax.tree_util.keystr(path)
    if not _is_array(leaf) or not (hasattr(leaf, "__array__") or hasattr(leaf, "__dlpack__")):
        _no_array(where, leaf)
    try:
        return np.asarray(leaf)
    except (TypeError, RuntimeError) as error:
        if "bfloat16" in str(leaf.dtype):  # NumPy has no name for it, JAX has
            return np.asarray(jax.dlpack.from_dlpack(leaf))
        refuse(where, "an array", f"{type(leaf).__name__}: {error}", error=TypeError)


def _no_array(where: str, leaf: Any) -> NoReturn:
    fix = "np.asarray(...), or dict(...) of a mapping"
    if isinstance(leaf, str) or getattr(leaf, "dtype", np.dtype(int)).kind == "U":
        fix = "data.Vocabulary.of(sentences) has encode(text), data.Vocabulary(names) encode(labels)"
    refuse(where, "an array of numbers", describe(leaf) if not hasattr(leaf, "keys") else type(leaf).__name__, fix,
           TypeError)  # fmt: skip
