"""What several scripts need: the numbers and folders of a command line, the user's text, and how a refusal is told.

A script refuses what it cannot use before it computes anything: in one line on stderr, with exit code 2, as argparse
does. The functions that make numbers and folders are types for argparse.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn


def refuse(message: object) -> NoReturn:
    """End with exit code 2 and one line."""
    line = str(message).replace("\n", " ")
    print(f"{pathlib.Path(sys.argv[0]).name}: error: {line}", file=sys.stderr)
    sys.exit(2)


def run(main: Callable[[], None]) -> None:
    """Call the main function of a script, and tell in one line what was wrong with its input, or with its training."""
    from jaxrnn.learning import NonFiniteError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a letter that the terminal lacks must not end a run
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except NonFiniteError as error:
        sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {error}")
    except (ValueError, FileNotFoundError, PermissionError, ImportError) as error:
        refuse(error)


def needs(*modules: str) -> None:
    """Refuse to start without a module that is used only at the end, such as that which draws."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            refuse(f"{module}: expected it to be installed, got no such module; pip install {module}")


# ---- numbers and folders of the command line -------------------------------------------------------------------------


def _number(kind: Callable[[str], Any], expected: str, holds: Callable[[Any], bool]) -> Callable[[str], Any]:
    """A type for argparse: the numbers for which ``holds`` is true."""

    def convert(text: str) -> Any:
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if not holds(number):  # no comparison holds for NaN
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text}")
        return number

    return convert


positive = _number(int, "a whole number above 0", lambda n: n > 0)
seed = _number(int, "a whole number from 0 to 2147483647", lambda n: 0 <= n < 2**31)  # jit takes no larger one
above_zero = _number(float, "a number above 0", lambda x: 0 < x < math.inf)
norm = _number(float, "a number above 0", lambda x: x > 0)  # inf: nothing is clipped
not_negative = _number(float, "a number of at least 0", lambda x: 0 <= x < math.inf)
share = _number(float, "a share of at least 0 and below 1", lambda x: 0 <= x < 1)
probability = _number(float, "a probability between 0 and 1", lambda x: 0 <= x <= 1)


def folder(text: str) -> str:
    """A folder that is there or can be made."""
    return _folder(text)[0]


def picture_folder(text: str) -> str:
    """The same, and it can be written to: what is drawn at the end of a run is not lost."""
    text, there = _folder(text)
    if not os.access(there, os.W_OK):
        raise argparse.ArgumentTypeError(f"expected a folder that can be written to, got {there}")
    return text


def _folder(text: str) -> tuple[str, pathlib.Path]:
    """The text, and the innermost folder of its path that is there."""
    path = pathlib.Path(text)
    there = next(place for place in (path, *path.parents) if os.path.exists(place))
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder, got the file {there}")
    return text, there


# ---- texts -----------------------------------------------------------------------------------------------------------


def read_text(option: str, path: str | os.PathLike) -> str:
    """A UTF-8 text of the user's, with or without a byte order mark, with any kind of line ends."""
    try:
        text = pathlib.Path(path).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"the byte 0x{error.object[error.start]:02x} at place {error.start:,}"
        refuse(f"{option}: expected a text in UTF-8, got {byte} of {path}; save it as UTF-8, or convert it with iconv")
    except OSError as error:
        refuse(f"{option}: expected a text file, got {os.fspath(path)!r}: {error.strerror}")
    if not text.strip():
        refuse(f"{option}: expected a text, got the empty file {path}")
    return text


def fingerprint(*texts: str) -> str:
    """What tells texts from others, to be stored with a run and compared when it goes on."""
    sums = hashlib.sha256()
    for text in texts:
        sums.update(hashlib.sha256(text.encode()).digest())
    return f"{sum(map(len, texts)):,} characters, SHA-256 {sums.hexdigest()[:16]}"


def known(option: str, symbols: Iterable[str], vocabulary: Any) -> None:
    """Refuse a symbol that the vocabulary does not have."""
    strange = next((symbol for symbol in symbols if symbol not in vocabulary.symbols), None)
    if strange is not None:
        some = " ".join(symbol for symbol in vocabulary.symbols if symbol.isprintable() and symbol != " ")
        more = f"{some[:100]} …" if len(some) > 100 else some
        refuse(f"{option}: expected only symbols that were learnt, got {strange!r}; they are {more}")


# ---- runs ------------------------------------------------------------------------------------------------------------


def run_folder(out: str, *, resume: bool = False) -> pathlib.Path:
    """The folder of a run: with the run to go on with, or empty, an earlier run in it being set aside."""
    from jaxrnn import learning

    if resume and not learning.Checkpoints(out, None).steps():
        refuse(f"--resume: expected a run with checkpoints in --out, got none in {out!r}; without --resume one begins")
    here = pathlib.Path.cwd()
    if not resume and pathlib.Path(out).resolve() in (here, *here.parents):
        refuse(f"--out: expected a folder of the run's own, got {out!r}, in which this program was started")
    return learning.run_folder(out, resume=resume)


def load_run(script: str, out: str | os.PathLike, *names: str) -> tuple[Any, Any, dict[str, Any]]:
    """Model, parameters and facts of a run of this script; the facts of these names are among them."""
    from jaxrnn import learning

    model, params, metadata = learning.load_model(out)
    if metadata.get("script", script) != script or not metadata.keys() >= set(names):
        refuse(f"--out: expected a run of {script}.py, got one of {metadata.get('script', 'another script')} in {out}")
    return model, params, metadata


def draw_loss(folder: pathlib.Path, clip: float, symbol: str, title: str) -> None:
    """Draw the loss of every step, the validation losses, and where clipping acted, to ``loss.png``."""
    import matplotlib

    from jaxrnn import plots

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    plots.loss_curve(folder / "metrics.jsonl", axes, clip=clip, quantity=f"cross entropy [nats a {symbol}]")
    axes.set_title(title)
    figure.savefig(folder / "loss.png", dpi=150)
