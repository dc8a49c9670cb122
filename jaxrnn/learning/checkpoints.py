"""Checkpoints: written atomically, verified when read, refused for another model or optimizer.

A checkpoint is a folder ``step-…``. Orbax writes its arrays under a temporary name. When the list of the SHA-256 sums
of all its files is written too, one rename gives the folder its final name. So a killed process leaves no partial
checkpoint, and a damaged one is detected. Of several processes each writes its own part of the arrays; process 0 writes
the rest when all are done.
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
import optax

from jaxrnn import checks
from jaxrnn.learning import checks as learning_checks
from jaxrnn.learning import processes
from jaxrnn.learning.metadata import as_objects, decode_key, encode_key
from jaxrnn.learning.provenance import as_json
from jaxrnn.learning.step import TrainState
from jaxrnn.rebuild import (
    check_call,
    check_shapes,
    class_modules,
    constructor_call,
    explain_newer,
    is_call_of,
    rebuild_model,
    shapes_of,
    this_version,
    with_saved_dtypes,
)
from jaxrnn.types import Array, Params, PyTree

METADATA, CHECKSUMS = "metadata.json", "sha256.json"
RESERVED = (
    "model",
    "parts",
    "step",
    "best",
    "key",
    "params",
    "training",
    "jaxrnn",
)  # names that each checkpoint writes itself
OTHER = "the run had another model or optimizer"


class Checkpoint(NamedTuple):
    """A checkpoint that was read: the train state, the random key of the run, and the metadata."""

    state: TrainState
    key: Array
    metadata: dict[str, Any]

    def __repr__(self) -> str:
        key, metadata = checks.describe(self.key), ", ".join(self.metadata)
        return f"Checkpoint(state={self.state!r}, key={key}, metadata: {metadata})"


class Checkpoints:
    """The checkpoints of one run, in one folder.

    Args:
        folder: their folder; created when the first is saved.
        model: the model that is trained. Its printed constructor call is stored, so that :func:`load_model` needs
            only the folder.
        keep: how many of the newest checkpoints are kept, in addition to the best one.

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
        learning_checks.writable_folder("folder", folder)
        self.folder = pathlib.Path(folder).absolute()
        self.model, self.keep = model, keep

    def __repr__(self) -> str:
        return f"Checkpoints({str(self.folder)!r}, keep={self.keep}, steps={self.steps()})"

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints in the folder, damaged ones included, in ascending order."""
        return _steps(self.folder)

    def save(
        self, state: TrainState, key: Array, metadata: dict[str, Any] | None = None, *, best: bool = False
    ) -> pathlib.Path:
        """Write a checkpoint of the state, optionally marked as the best, and delete those that are too old.

        With several processes all of them call it, and see the same folder.

        Args:
            state: the train state.
            key: the random key of the run.
            metadata: further entries to store, what inference needs above all: texts, numbers, small arrays,
                vocabularies, tokenizers, and lists, tuples and dicts of them. They are read as they were, except that
                tuples are lists then, the keys of dicts strings, and scalars of NumPy and JAX numbers of Python.
            best: whether this is the best model so far.

        Returns:
            The checkpoint's folder.

        Raises:
            ValueError: an entry of ``metadata`` has a name that the checkpoint uses itself.
            TypeError: an entry of ``metadata`` cannot be stored.
        """
        checks.free_names("metadata", metadata or {}, RESERVED)
        metadata = as_json("metadata", metadata or {})
        step, training = int(state.step), state._replace(params=())
        final, draft = _step_folder(self.folder, step), self.folder / f"draft-{step}"
        if processes.is_main():
            _remove_drafts(self.folder)  # left by a process that was killed while saving
        processes.wait_for_all("no drafts")
        with _checkpointer() as checkpointer:
            checkpointer.save(draft / "params", (state.params,))  # Orbax takes no single array
            checkpointer.wait_until_finished()
            checkpointer.save(draft / "training", training)
        if processes.is_main():
            self._finish(draft, final, {**metadata, **self._own_metadata(state, training, key, best)})
        processes.wait_for_all("saved")
        return final

    def _own_metadata(self, state: TrainState, training: TrainState, key: Array, best: bool) -> dict[str, Any]:
        """The entries of the metadata that are named in ``RESERVED``."""
        return {
            "model": constructor_call(self.model),
            "parts": class_modules(self.model),
            "step": int(state.step),
            "best": best,
            "key": encode_key(key),
            "params": shapes_of(state.params),
            "training": shapes_of(training),
            "jaxrnn": this_version(),
        }

    def _finish(self, draft: pathlib.Path, final: pathlib.Path, metadata: dict[str, Any]) -> None:
        """Give a draft, whose arrays are written, its metadata, its checksums and its name; delete old checkpoints."""
        (draft / METADATA).write_text(json.dumps(metadata, ensure_ascii=False), "utf-8")
        (draft / CHECKSUMS).write_text(json.dumps(_checksums(draft)))
        if final.exists():
            final.rename(draft.with_name(f"{draft.name}-replaced"))
        draft.rename(final)
        so_far = [s for s in self.steps() if s <= metadata["step"]]  # later ones are damaged: restore skipped them
        best_so_far = [s for s in so_far if _was_best(_step_folder(self.folder, s))]
        _remove_drafts(self.folder)
        for old in {*so_far[: -self.keep]} - {*best_so_far[-1:]}:
            shutil.rmtree(_step_folder(self.folder, old))

    def restore(self, like: TrainState) -> Checkpoint | None:
        """Read the newest intact checkpoint, with a warning for each damaged one that is skipped.

        Args:
            like: a train state of this model and optimizer, for instance the initial one. The checkpoint must have
                its structure, shapes and dtypes; the arrays get its shardings, whatever they were when saved.

        Returns:
            The checkpoint, or None if there is none.

        Raises:
            ValueError: the checkpoint is of another model or optimizer; the message says what differs.
        """
        step = next(_intact_steps(self.folder), None)
        if step is None:
            return None
        folder = _step_folder(self.folder, step)
        content = _read_metadata(folder)
        training = like._replace(params=())
        with explain_newer(content):
            if not is_call_of(content["model"], self.model):
                checks.refuse(str(folder), f"a checkpoint of {constructor_call(self.model)}", content["model"],
                              "resume with the model it was made with, or start in another folder")  # fmt: skip
            check_shapes(f"{folder}: params", shapes_of(like.params), content["params"], OTHER)
            check_shapes(f"{folder}: training", shapes_of(training), content["training"], OTHER)
            metadata = as_objects(content)
        with _checkpointer() as checkpointer:
            (params,) = checkpointer.restore(folder / "params", (like.params,))
            training = checkpointer.restore(folder / "training", training)
        return Checkpoint(training._replace(params=params), decode_key(metadata["key"]), metadata)

    def restore_params(self, step: int, like: Params) -> Params | None:
        """Read the parameters of one checkpoint, with the shardings of ``like``; None, with a warning, if damaged."""
        folder = _step_folder(self.folder, step)
        damage = _damage(folder)
        if damage:
            warnings.warn(f"the best checkpoint {folder} is damaged ({damage}); the best is sought anew", stacklevel=3)
            return None
        with _checkpointer() as checkpointer:
            (params,) = checkpointer.restore(folder / "params", (like,))
        return params


def load_model(folder: str | os.PathLike, which: str | int = "best", *, model: Any = None) -> tuple[Any, Params, dict]:
    """Rebuild a model and its parameters from the checkpoints of a run.

    Args:
        folder: the folder of the run.
        which: ``"best"`` (the newest if none is marked as the best), ``"last"``, or a step.
        model: the model, if it cannot be rebuilt from the checkpoint because it contains a class or function that
            cannot be imported: one of ``__main__``, of a notebook, or defined inside a function. It must print as the
            one of the run.

    Returns:
        ``(model, params, metadata)``. The parameters have the dtypes in which they were saved; with
        ``optax.lookahead`` they are the slow ones. The metadata hold all that was stored beside them, vocabularies,
        tokenizers and arrays as objects, among the entries that checkpoints have themselves: ``step``, ``best``,
        ``key``, ``model``, ``parts``, ``params``, ``training``, ``jaxrnn``, and those of ``fit``.

    User-defined classes and functions are stored by module and name. Loading imports these modules, which runs their
    code. Then only classes with a method ``init`` are called, with the literals of the printed call; nothing else is
    evaluated. Pass ``model=`` for a checkpoint that you do not trust: then nothing is imported, and a vocabulary whose
    ``split`` is a function of a module that has not been imported is refused.

    Raises:
        FileNotFoundError: there is no intact checkpoint in the folder.
        ValueError: the requested step is missing or damaged, the parameters are of another model, or a part of the
            model cannot be imported; the message names the part and its module. The metadata hold an object of a
            class that is not known here. If a newer version of jaxrnn wrote the checkpoint, the message says so.

    Example:
        >>> import jax, jaxrnn as rnn, optax, tempfile
        >>> from jaxrnn import learning
        >>> from jaxrnn.data import Vocabulary
        >>> words = Vocabulary.of(["a great film", "a dull one"], split="words", unknown="<unk>")
        >>> labels = Vocabulary(("bad", "good"))  # the names of the classes
        >>> model = rnn.tasks.Classifier(rnn.Stack(rnn.Embedding(len(words), 4), rnn.GRU(4, 8)), len(labels))
        >>> state, folder = learning.train_state(model.init(jax.random.key(0)), optax.sgd(0.1)), tempfile.mkdtemp()
        >>> checkpoints = learning.Checkpoints(folder, model)
        >>> _ = checkpoints.save(state, jax.random.key(1), {"words": words, "labels": labels})

        The folder is all that inference needs:

        >>> model, params, metadata = learning.load_model(folder)
        >>> model
        Classifier(Stack(Embedding(6, 4), GRU(4, 8)), 2)
        >>> scores = model.apply(params, metadata["words"].encode("a great day"))
        >>> metadata["labels"].decode([int(scores.argmax())])[0] in ("bad", "good")
        True
    """
    folder = pathlib.Path(folder).absolute()
    if isinstance(which, str):
        checks.one_of("which", which, ("best", "last"))
    intact = list(_intact_steps(folder))
    if not intact:
        raise FileNotFoundError(f"folder: expected a run with checkpoints, got none in {folder}; train first")
    if isinstance(which, str):
        best = [step for step in intact if _was_best(_step_folder(folder, step))]
        step = (best or intact)[0] if which == "best" else intact[0]
    else:
        step = which
    if step not in intact:
        checks.refuse("which", f"the step of an intact checkpoint in {folder}: {intact}", which,
                      'which="last" takes the newest')  # fmt: skip
    run, folder = folder, _step_folder(folder, step)
    content, may_import = _read_metadata(folder), model is None
    with explain_newer(content):
        model = rebuild_model(content["model"], content.get("parts", {}), run, "load_model") if model is None else model
        like = jax.eval_shape(model.init, jax.random.key(0))
        lookahead = any(name.startswith(".slow") for name in content["params"].keys() - shapes_of(like).keys())
        like = with_saved_dtypes(optax.LookaheadParams(like, like) if lookahead else like, content["params"])
        check_shapes(f"{folder}: params", shapes_of(like), content["params"], OTHER)
        check_call(folder, content["model"], model, "pass the model of the run")
        metadata = as_objects(content, may_import=may_import)
    with _checkpointer(alone=True) as checkpointer:
        (params,) = checkpointer.restore(folder / "params", (_on_first_device(like),))
    return model, params.slow if lookahead else params, metadata


def run_folder(folder: str | os.PathLike, *, resume: bool = False) -> pathlib.Path:
    """Return a folder for a run, empty unless it is resumed; a folder that is not empty is renamed to ``folder.1``, ….

    Args:
        folder: the folder; created if it does not exist.
        resume: whether the run goes on with what the folder holds.

    Example:
        >>> import pathlib, tempfile
        >>> from jaxrnn import learning
        >>> learning.run_folder(pathlib.Path(tempfile.mkdtemp()) / "runs" / "lm").name
        'lm'
    """
    folder = pathlib.Path(folder)
    if processes.is_main() and not resume and folder.is_dir() and any(folder.iterdir()):
        renamed = next(p for n in itertools.count(1) if not (p := folder.with_name(f"{folder.name}.{n}")).exists())
        folder.rename(renamed)
        print(f"the earlier run in {folder} was renamed to {renamed}")
    folder.mkdir(parents=True, exist_ok=True)
    processes.wait_for_all("run folder")
    return folder


def _checkpointer(*, alone: bool = False) -> Any:
    """Orbax' checkpointer, called by all processes, or by this one alone.

    Imported on first use: the import takes half as long as that of JAX.
    """
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax logs every save
    if not alone or jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    process = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process-{process}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=options)


def _on_first_device(like: PyTree) -> PyTree:
    """The same shapes, to be restored to the first device of this process, whatever their sharding was when saved."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like)


# ---- folders and files -------------------------------------------------------------------------------------------


def _step_folder(folder: pathlib.Path, step: int) -> pathlib.Path:
    return folder / f"step-{step:09d}"


def _remove_drafts(folder: pathlib.Path) -> None:
    for draft in folder.glob("draft-*"):
        shutil.rmtree(draft)


def _steps(folder: pathlib.Path) -> list[int]:
    return sorted(int(found[1]) for p in folder.glob("step-*") if (found := re.fullmatch(r"step-(\d+)", p.name)))


def _intact_steps(folder: pathlib.Path) -> Iterator[int]:
    """The steps of intact checkpoints, the newest first; warns of each that is damaged."""
    for step in reversed(_steps(folder)):
        damage = _damage(_step_folder(folder, step))
        if damage:
            warnings.warn(f"checkpoint {_step_folder(folder, step)} is damaged ({damage}) and skipped", stacklevel=3)
        else:
            yield step


def _was_best(folder: pathlib.Path) -> bool:
    """Whether the checkpoint was the best so far when it was saved; the newest of these is the best of all."""
    try:
        return _read_metadata(folder)["best"]
    except (OSError, ValueError, KeyError):  # damaged
        return False


def _damage(folder: pathlib.Path) -> str:
    """What is wrong with the files of a checkpoint; empty if nothing is."""
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
    """The JSON of the metadata, without objects."""
    return json.loads((folder / METADATA).read_text("utf-8"))
