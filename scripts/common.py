"""What the scripts share: the command line and its checks, devices, texts, run folders, plots.

A script refuses what it cannot use before it computes anything: in one line on stderr, with exit code 2, as argparse
does.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import io
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

import jaxrnn as rnn
from jaxrnn import learning

CELLS = {"vanilla": rnn.VanillaRNN, "lstm": rnn.LSTM, "gru": rnn.GRU}


def refuse(message: object) -> NoReturn:
    """End with exit code 2 and one line."""
    line = str(message).replace("\n", " ")
    print(f"{pathlib.Path(sys.argv[0]).name}: error: {line}", file=sys.stderr)
    sys.exit(2)


def run(main: Callable[[], None]) -> None:
    """Call the main function of a script; an error of its input or of its training becomes one line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a character that the terminal lacks must not end a run
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except learning.NonFiniteError as error:
        sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {error}")
    except (ValueError, OSError, ImportError) as error:
        refuse(error)


def require(*modules: str) -> None:
    """Refuse to start without a module that is used only at the end, such as matplotlib."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            refuse(f"{module}: expected it to be installed, got no such module; pip install {module}")


# ---- the command line ------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """A command line with ``--seed``, ``--out``, ``--devices`` and ``--quick``, whose help shows every default.

    Args:
        description: docstring of the script.
        out: default of ``--out``.
        quick: help of ``--quick``.
        quick_out: default of ``--out`` with ``--quick``, if it is another one.
        plots: whether ``--out`` must be writable from the start, because a plot is saved there at the end.
        data_free: whether ``--quick`` makes its own data, and so refuses ``--data``.
        worker_devices: default of ``--devices`` if not this process but its workers use them.
    """

    def __init__(
        self,
        description: str | None,
        out: str,
        quick: str,
        *,
        quick_out: str | None = None,
        plots: bool = False,
        data_free: bool = False,
        worker_devices: int | None = None,
    ) -> None:
        self.quick_defaults: dict[str, Any] = {}
        self.data_free, self.worker_devices = data_free, worker_devices
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        self.add_argument("--quick", action="store_true", help=quick)
        self.add_argument("--seed", type=seed, default=0, help="random seed")
        self.add_argument("--out", type=writable_folder if plots else folder, default=out, quick=quick_out,
                          metavar="DIR", help="output folder")  # fmt: skip
        self.add_argument("--devices", type=positive, default=worker_devices or 1, metavar="N",
                          help="devices to compute on; on a CPU, N devices are made of its cores")  # fmt: skip

    def add_argument(self, *names: str, quick: Any = None, **options: Any) -> argparse.Action:
        """Add an option; ``quick`` is its default with ``--quick``. The defaults become part of the help."""
        default = options.get("default")
        if default not in (None, "", argparse.SUPPRESS):
            shown = " ".join(default) if isinstance(default, list) else default
            options["help"] += f" (default: {shown}{'' if quick is None else f', with --quick {quick}'})"
        action = super().add_argument(*names, **options)
        if quick is not None:
            self.quick_defaults[action.dest] = quick
        return action

    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        args = sys.argv[1:] if args is None else args
        if "--quick" in args:
            self.set_defaults(**self.quick_defaults)
        parsed = super().parse_args(args, namespace)
        if parsed.quick and self.data_free and parsed.data is not None:
            self.error(f"--data: expected it without --quick, which makes its own data, got {parsed.data}")
        if self.worker_devices is None:
            if parsed.devices > 1 and getattr(parsed, "resume", False):
                self.error(f"--devices: expected 1 with --resume, got {parsed.devices}")
            use_devices(parsed.devices)
        return parsed


def _number(kind: Callable[[str], Any], expected: str, valid: Callable[[Any], bool]) -> Callable[[str], Any]:
    """A type for argparse: the numbers for which ``valid`` is true."""

    def convert(text: str) -> Any:
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if not valid(number):  # every comparison with NaN is false
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text}")
        return number

    return convert


positive = _number(int, "a whole number above 0", lambda n: n > 0)
seed = _number(int, "a whole number from 0 to 2147483647", lambda n: 0 <= n < 2**31)  # an int32 for jit
above_zero = _number(float, "a number above 0", lambda x: 0 < x < math.inf)
norm = _number(float, "a number above 0", lambda x: x > 0)  # inf: no clipping
not_negative = _number(float, "a number of at least 0", lambda x: 0 <= x < math.inf)
rate = _number(float, "a share of at least 0 and below 1", lambda x: 0 <= x < 1)
probability = _number(float, "a probability between 0 and 1", lambda x: 0 <= x <= 1)


def folder(text: str) -> str:
    """A type for argparse: a folder that exists or can be made."""
    parent = _existing_parent(text)
    if not parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder, got the file {parent}")
    return text


def writable_folder(text: str) -> str:
    """A type for argparse: a folder in which files can be written."""
    parent = _existing_parent(folder(text))
    if not os.access(parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"expected a folder that can be written to, got {parent}")
    return text


def _existing_parent(text: str) -> pathlib.Path:
    """The path itself, or the innermost of its parents that exists."""
    path = pathlib.Path(text)
    return next(place for place in (path, *path.parents) if os.path.exists(place))


# ---- devices ---------------------------------------------------------------------------------------------------------


def use_devices(count: int) -> None:
    """Make ``count`` devices available; call it before JAX computes anything."""
    if count > 1:
        with contextlib.suppress(RuntimeError):  # JAX has started already
            jax.config.update("jax_num_cpu_devices", count)  # no effect on the devices of other platforms
        if jax.device_count() < count:
            refuse(f"--devices: expected at most {jax.device_count()}, the devices of this machine, got {count}")


def split_batch(loss: Callable, batch_size: int, devices: int) -> Callable:
    """The loss of :func:`jaxrnn.learning.train_step` with each batch split over the devices along its batch axis."""
    if devices == 1:
        return loss
    if batch_size % devices:
        refuse(f"--batch: expected a multiple of --devices {devices}, got {batch_size}")
    mesh = jax.sharding.Mesh(jax.devices()[:devices], ("batch",))

    def split(array: Any) -> jax.Array:
        axis = next((axis for axis in (1, 0) if axis < array.ndim and array.shape[axis] == batch_size), None)
        spec = jax.sharding.PartitionSpec(*() if axis is None else (None,) * axis + ("batch",))
        return jax.lax.with_sharding_constraint(array, jax.sharding.NamedSharding(mesh, spec))

    return lambda params, carry, batch, key: loss(params, carry, jax.tree.map(split, batch), key)


# ---- texts -----------------------------------------------------------------------------------------------------------


def read_text(option: str, path: str | os.PathLike) -> str:
    """Read a UTF-8 text, with or without a byte order mark, with any line endings."""
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
    """Size and hash of texts, stored with a run and compared when it is resumed."""
    total = hashlib.sha256()
    for text in texts:
        total.update(hashlib.sha256(text.encode()).digest())
    return f"{sum(map(len, texts)):,} characters, SHA-256 {total.hexdigest()[:16]}"


def check_symbols(option: str, symbols: Iterable[str], vocabulary: Any) -> None:
    """Refuse a symbol that the vocabulary does not have."""
    unknown = next((symbol for symbol in symbols if symbol not in vocabulary.symbols), None)
    if unknown is not None:
        known = " ".join(symbol for symbol in vocabulary.symbols if symbol.isprintable() and symbol != " ")
        known = f"{known[:100]} …" if len(known) > 100 else known
        refuse(f"{option}: expected only symbols of the training text, got {unknown!r}; they are {known}")


# ---- runs ------------------------------------------------------------------------------------------------------------


def load_data(args: argparse.Namespace, load: Callable, arguments: Callable) -> tuple[argparse.Namespace, Any]:
    """The arguments and ``load(args.data)``, or None with --quick; if a download fails, continue as with --quick."""
    if args.quick:
        return args, None
    try:
        return args, load(args.data)
    except (FileNotFoundError, ImportError) as error:
        if args.data is not None:
            raise
        print(f"{error}\ncontinuing with invented data, as with --quick")
        return arguments("--quick"), None


def print_model(model: Any, params: Any) -> None:
    """Print the constructor call of a model and its number of parameters."""
    print(model, f"{sum(p.size for p in jax.tree.leaves(params)):,} parameters", sep="\n")


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean of independent values, and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def run_folder(out: str, *, resume: bool = False) -> pathlib.Path:
    """The folder of a run: that of the run to resume, or an empty one; an earlier run in it is renamed."""
    if resume and not learning.Checkpoints(out, None).steps():
        refuse(f"--resume: expected a run with checkpoints in --out, got none in {out!r}; without --resume one begins")
    here = pathlib.Path.cwd()
    if not resume and pathlib.Path(out).resolve() in (here, *here.parents):
        refuse(f"--out: expected a folder of the run's own, got {out!r}, in which this program was started")
    return learning.run_folder(out, resume=resume)


def load_run(script: str, out: str | os.PathLike, *names: str) -> tuple[Any, Any, dict[str, Any]]:
    """Model, parameters and metadata of a run of this script; the metadata has these names."""
    model, params, metadata = learning.load_model(out)
    if metadata.get("script", script) != script or not metadata.keys() >= set(names):
        refuse(f"--out: expected a run of {script}.py, got one of {metadata.get('script', 'another script')} in {out}")
    return model, params, metadata


# ---- plots -----------------------------------------------------------------------------------------------------------


def subplots(*args: Any, **options: Any) -> tuple[Any, Any]:
    """``matplotlib.pyplot.subplots`` without a display."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(*args, layout="constrained", **options)


def save_plot(figure: Any, path: pathlib.Path, **options: Any) -> None:
    """Save a figure, close it, and print where it is."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, **{"dpi": 150} | options)
    plt.close(figure)
    print(f"{path} is drawn")


def draw_loss(folder: pathlib.Path, clip: float, symbol: str, title: str) -> None:
    """Plot the loss of every step, the validation losses, and where clipping acted, to ``loss.png``."""
    figure, axes = subplots(figsize=(7, 4.5))
    rnn.plots.loss_curve(folder / "metrics.jsonl", axes, clip=clip, quantity=f"cross entropy [nats a {symbol}]")
    axes.set_title(title)
    save_plot(figure, folder / "loss.png")
