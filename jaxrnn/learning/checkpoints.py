"""Checkpoints that survive a kill: written whole or not at all, verified when read, refused where they do not fit.

A checkpoint is a folder ``step-…`` that Orbax fills under another name; it gets its own by one rename, when a list of
the SHA-256 sums of all its files lies in it. So none is ever half-written, and a damaged one is known as such.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxrnn import checks
from jaxrnn.learning.rebuild import class_modules, constructor_call, rebuild_model
from jaxrnn.learning.step import TrainState
from jaxrnn.types import Array, Params, PyTree

METADATA, CHECKSUMS = "metadata.json", "sha256.json"
RESERVED = ("model", "parts", "step", "best", "key", "params", "training")  # what a checkpoint says of itself


class Checkpoint(NamedTuple):
    """What a checkpoint gives back: the run's state, its random key, and the facts stored beside them."""

    state: TrainState
    key: Array
    metadata: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in one folder.

    Args:
        folder: where they lie; made when the first is saved.
        model: the model that is trained. Its printed constructor call is stored, so that :func:`load_model` needs the
            folder alone.
        keep: how many of the newest are kept, beside the best.

    Example:
        >>> import jax, jaxrnn as rnn, optax, tempfile
        >>> from jaxrnn import learning
        >>> model = rnn.GRU(3, 8)
        >>> state = learning.train_state(model.init(jax.random.key(0)), optax.adam(1e-3))
        >>> checkpoints = learning.Checkpoints(tempfile.mkdtemp(), model)
        >>> folder = checkpoints.save(state, jax.random.key(1), {"corpus": "a text"})
        >>> checkpoints.restore(state).metadata["corpus"]
        'a text'
        >>> again, params, metadata = learning.load_model(checkpoints.folder)
        >>> again == model
        True
    """

    def __init__(self, folder: str | os.PathLike, model: Any, *, keep: int = 3) -> None:
        checks.size("keep", keep)
        self.folder = pathlib.Path(folder).absolute()
        self.model, self.keep = model, keep

    def steps(self) -> list[int]:
        """Steps of the checkpoints in the folder, damaged ones included, in order."""
        return _steps(self.folder)

    def save(
        self, state: TrainState, key: Array, metadata: dict[str, Any] | None = None, *, best: bool = False
    ) -> pathlib.Path:
        """Write a checkpoint of this step, mark it the best if asked to, and drop what is too old.

        Args:
            state: all that the run carries.
            key: the run's random key.
            metadata: further things to keep, anything JSON can hold.
            best: whether this is the best model so far.

        Returns:
            The checkpoint's folder.

        Raises:
            ValueError: a fact has a name that a checkpoint uses itself.
        """
        checks.free_names("metadata", metadata or {}, RESERVED)
        step, training = int(state.step), state._replace(params=())
        final, draft = _place(self.folder, step), self.folder / f"draft-{step}"
        _clear(self.folder)  # what a run left that was killed while it saved
        with _orbax() as orbax:
            orbax.save(draft / "params", state.params)
            orbax.wait_until_finished()
            orbax.save(draft / "training", training)
        told = {"model": constructor_call(self.model), "parts": class_modules(self.model), "step": step, "best": best,
                "key": encode_key(key), "params": _shapes_of(state.params), "training": _shapes_of(training)}  # fmt: skip
        (draft / METADATA).write_text(json.dumps({**(metadata or {}), **told}, ensure_ascii=False), "utf-8")
        (draft / CHECKSUMS).write_text(json.dumps(_checksums(draft)))
        if final.exists():
            final.rename(self.folder / f"draft-{step}-replaced")
        draft.rename(final)
        so_far = [s for s in self.steps() if s <= step]  # later ones are damaged, and were passed over
        best_so_far = [s for s in so_far if _was_best(_place(self.folder, s))]
        _clear(self.folder)
        for stale in {*so_far[: -self.keep]} - {*best_so_far[-1:]}:
            shutil.rmtree(_place(self.folder, stale))
        return final

    def restore(self, like: TrainState) -> Checkpoint | None:
        """Read the newest checkpoint that is whole, warning of damaged ones passed over; None if there is none.

        Args:
            like: a state of the run, fresh for instance, whose structure the checkpoint must have.

        Raises:
            ValueError: the checkpoint is of another model or optimizer; says what differs.
        """
        step = next(_intact_checkpoint(self.folder), None)
        if step is None:
            return None
        folder = _place(self.folder, step)
        metadata = _read_metadata(folder)
        if metadata["model"] != constructor_call(self.model):
            checks.refuse(str(folder), f"a checkpoint of {constructor_call(self.model)}", metadata["model"],
                          "resume with the model it was made with, or start in another folder")  # fmt: skip
        training = like._replace(params=())
        _same(folder, "params", _shapes_of(like.params), metadata["params"])
        _same(folder, "training", _shapes_of(training), metadata["training"])
        with _orbax() as orbax:
            params = orbax.restore(folder / "params", like.params)
            training = orbax.restore(folder / "training", training)
        return Checkpoint(training._replace(params=params), _decode_key(metadata["key"]), metadata)


def load_model(folder: str | os.PathLike, which: str | int = "best", *, model: Any = None) -> tuple[Any, Params, dict]:
    """Rebuild a model and its parameters from the checkpoints of a run.

    Args:
        folder: the folder of the run.
        which: ``"best"`` (the newest where none was marked), ``"last"``, or a step.
        model: in place of the one that is stored, for one with parts that cannot be imported: a class or a function
            of ``__main__``, of a notebook or inside of a function.

    Returns:
        ``(model, params, metadata)``: the parameters in the dtypes in which they were saved, of ``optax.lookahead`` the
        slow ones.

    Classes and functions of your own are stored by module and name. Those modules are imported, which runs them; then
    classes with a method ``init`` are called with the literals of the printed call, and nothing else is evaluated. Give
    ``model=`` for a checkpoint that you do not trust: then nothing is imported.

    Raises:
        FileNotFoundError: there is no whole checkpoint in the folder.
        ValueError: the step asked for is not there or damaged, the model is another than the one given, or a part of it
            cannot be imported; says which, and of which module.
    """
    folder = pathlib.Path(folder).absolute()
    if isinstance(which, str):
        checks.one_of("which", which, ("best", "last"))
    whole = list(_intact_checkpoint(folder))
    if not whole:
        raise FileNotFoundError(f"folder: expected a run with checkpoints, got none in {folder}; train first")
    if isinstance(which, str):
        best = [step for step in whole if _was_best(_place(folder, step))]
        step = (best or whole)[0] if which == "best" else whole[0]
    else:
        step = which
    if step not in whole:
        checks.refuse("which", f"the step of a whole checkpoint in {folder}: {whole}", which,
                      'which="last" takes the newest')  # fmt: skip
    place = _place(folder, step)
    metadata = _read_metadata(place)
    model = rebuild_model(metadata["model"], metadata.get("parts", {}), place) if model is None else model
    like = jax.eval_shape(model.init, jax.random.key(0))
    precomputed_projection = any(
        name.startswith(".slow") for name in metadata["params"].keys() - _shapes_of(like).keys()
    )
    like = _as_saved(optax.LookaheadParams(like, like) if precomputed_projection else like, metadata["params"])
    _same(place, "params", _shapes_of(like), metadata["params"])
    with _orbax() as orbax:
        params = orbax.restore(place / "params", _here(like))
    return model, params.slow if precomputed_projection else params, metadata


def run_folder(folder: str | os.PathLike, *, resume: bool = False) -> pathlib.Path:
    """Return the folder for a run, empty unless resumed; an earlier run there is set aside as ``folder.1``, …."""
    folder = pathlib.Path(folder)
    if not resume and folder.is_dir() and any(folder.iterdir()):
        aside = next(p for n in itertools.count(1) if not (p := folder.with_name(f"{folder.name}.{n}")).exists())
        folder.rename(aside)
        print(f"the run in {folder} was set aside as {aside}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _orbax() -> Any:
    """What writes and reads arrays; imported when it is needed, which takes half as long as to import JAX."""
    import orbax.checkpoint

    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax narrates every save
    return orbax.checkpoint.StandardCheckpointer()


def _here(like: PyTree) -> PyTree:
    """The same shapes, to be read to this machine's first device, wherever they were written."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like)


# ---- folders and files -------------------------------------------------------------------------------------------


def _place(folder: pathlib.Path, step: int) -> pathlib.Path:
    return folder / f"step-{step:09d}"


def _clear(folder: pathlib.Path) -> None:
    for draft in folder.glob("draft-*"):
        shutil.rmtree(draft)


def _steps(folder: pathlib.Path) -> list[int]:
    return sorted(int(found[1]) for p in folder.glob("step-*") if (found := re.fullmatch(r"step-(\d+)", p.name)))


def _intact_checkpoint(folder: pathlib.Path) -> Iterator[int]:
    """The steps whose checkpoints are whole, the newest first; warns of each that is not."""
    for step in reversed(_steps(folder)):
        damage = _damage(_place(folder, step))
        if damage:
            warnings.warn(f"checkpoint {_place(folder, step)} is damaged ({damage}) and passed over", stacklevel=3)
        else:
            yield step


def _was_best(folder: pathlib.Path) -> bool:
    """Whether it was the best so far when it was saved; the newest of these is the best."""
    try:
        return _read_metadata(folder)["best"]
    except (OSError, ValueError, KeyError):  # damaged
        return False


def _damage(folder: pathlib.Path) -> str:
    """What is wrong with the files of a checkpoint, or nothing."""
    try:
        expected = json.loads((folder / CHECKSUMS).read_text())
    except (OSError, ValueError):
        return f"{CHECKSUMS} is missing or unreadable"
    found = _checksums(folder)
    wrong = [name for name in sorted(expected | found) if expected.get(name) != found.get(name)]
    return f"{wrong[0]} has changed" if wrong else ""


def _checksums(folder: pathlib.Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS)
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _read_metadata(folder: pathlib.Path) -> dict[str, Any]:
    return json.loads((folder / METADATA).read_text("utf-8"))


def encode_key(key: Array) -> dict[str, Any]:
    """A random key, new style or old (without an implementation), as numbers."""
    typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    numbers = jax.random.key_data(key) if typed else key
    return {"implementation": str(jax.random.key_impl(key)) if typed else None, "numbers": np.asarray(numbers).tolist()}


def _decode_key(key: dict[str, Any]) -> Array:
    numbers = jax.numpy.asarray(np.array(key["numbers"], np.uint32))
    return numbers if key["implementation"] is None else jax.random.wrap_key_data(numbers, impl=key["implementation"])


# ---- what differs ------------------------------------------------------------------------------------------------


def _shapes_of(tree: PyTree) -> dict[str, str]:
    """Place, dtype and shape of every array."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in leaves}


def _as_saved(like: PyTree, tree_summary: dict[str, str]) -> PyTree:
    """A tree of shapes in the dtypes of an outline, where both have the same place."""

    def cast(path: tuple, leaf: Any) -> Any:
        name = tree_summary.get(jax.tree_util.keystr(path), str(leaf.dtype)).partition("[")[0]
        checks.dtype_available(name)
        return leaf if name == str(leaf.dtype) else jax.ShapeDtypeStruct(leaf.shape, jax.numpy.dtype(name))

    return jax.tree_util.tree_map_with_path(cast, like)


def _same(folder: pathlib.Path, part: str, wanted: dict[str, str], found: dict[str, str]) -> None:
    for place in [*wanted, *found]:
        here, there = wanted.get(place, "nothing there"), found.get(place, "nothing")
        if wanted.get(place) != found.get(place):
            only_dtype = here.partition("[")[1:] == there.partition("[")[1:] != ("", "")
            cast = f", or its parameters were cast: .astype({there.partition('[')[0]!r})" if only_dtype else ""
            checks.refuse(f"{folder}: {part}{place}", here, there, f"the run had another model or optimizer{cast}")
