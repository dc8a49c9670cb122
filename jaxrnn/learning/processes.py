"""Several processes that run one program (``jax.distributed``): who reports, and what they decide together."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxrnn import checks


def is_main() -> bool:
    """Whether this process prints, and writes logs and checkpoints: process 0."""
    return jax.process_index() == 0


def wait_for_all(place: str) -> None:
    """Wait until every process is at this place of the program."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)


def from_main(value: float) -> float:
    """The value that process 0 has, so that all decide alike."""
    if jax.process_count() == 1:
        return value
    bits = np.array(value, np.float64).reshape(1).view(np.uint32)  # float64 itself may be disabled
    return float(np.asarray(multihost_utils.broadcast_one_to_all(bits)).view(np.float64)[0])


def check_same(values: dict[str, Any]) -> None:
    """Refuse arguments that differ between the processes, named in ``values``: they would wait for each other."""
    if jax.process_count() == 1:
        return
    texts = [json.dumps(value, sort_keys=True) for value in values.values()]
    digests = [np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.uint32) for text in texts]
    everywhere = np.asarray(multihost_utils.process_allgather(np.stack(digests)))  # [process, value, 2]
    for n, (name, text) in enumerate(zip(values, texts, strict=True)):
        different = (everywhere[:, n] != everywhere[0, n]).any(-1)
        if different.any():
            process = int(different.argmax())
            checks.refuse(name, "the same on every process",
                          f"{text[:80]} on process {jax.process_index()}, and different ones on 0 and {process}",
                          "all run the same program with the same seed, batches and folder; "
                          "local_batches=True for sources that hold a part of each batch")  # fmt: skip


@contextlib.contextmanager
def explain_loss_of_a_process() -> Iterator[None]:
    """Add to an error of the devices that another process may have ended."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if jax.process_count() > 1 and (isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)):
            error.add_note(
                f"process {jax.process_index()} of {jax.process_count()}: if another process has ended, its output "
                "tells why, and the batches of all must have the same shapes; start all of them again with resume=True"
            )
        raise
