"""The metadata of a checkpoint when it is read: objects again, and a word on the version that wrote it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from jaxrnn import stored


def this_version() -> str:
    """The version of this library."""
    from jaxrnn import __version__  # defined after the import of this module

    return __version__


def as_objects(content: dict[str, Any], *, may_import: bool = False) -> dict[str, Any]:
    """The metadata of a checkpoint from its JSON; checkpoints that name no version have none but JSON."""
    return stored.decode("metadata", content, may_import=may_import) if "jaxrnn" in content else content


@contextlib.contextmanager
def explain_newer(content: dict[str, Any]) -> Iterator[None]:
    """Add to an error that a newer version wrote the checkpoint, if one did."""
    try:
        yield
    except (ValueError, TypeError, LookupError) as error:
        version = content.get("jaxrnn")
        if not isinstance(version, str) or _numbers(version) <= _numbers(this_version()):
            raise
        message = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{message}; the checkpoint was written by jaxrnn {version}, which is newer than this one, "
                   f"{this_version()}: upgrade to read it") from error  # fmt: skip


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a release: 1.2 of ``"1.2rc1"``."""
    return tuple(map(int, re.findall(r"\d+", re.split(r"[^\d.]", version, maxsplit=1)[0])))
