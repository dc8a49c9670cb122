"""What the scripts share: the command line and its checks, devices, texts, run folders, plots.

A script refuses what it cannot use before it computes anything: in one line on stderr, with exit code 2, as argparse
does.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import inspect
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
from jaxrnn.learning.mesh import available_cores
from jaxrnn.learning.processes import is_main

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
    except jax.errors.JaxRuntimeError as error:
        if not jax.distributed.is_initialized():
            raise
        line = "; ".join([str(error).partition("\n")[0], *getattr(error, "__notes__", ())[:1]])
        print(f"{pathlib.Path(sys.argv[0]).name}: {line}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)  # without the usual goodbye, for which the others would have to be there


def require(*modules: str) -> None:
    """Refuse to start without a module that is used only at the end, such as matplotlib."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            refuse(f"{module}: expected it to be installed, got no such module; pip install {module}")


# ---- the command line ------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """A command line with ``--seed``, ``--out``, ``--quick`` and the devices, whose help shows every default.

    Args:
        description: docstring of the script.
        out: default of ``--out``.
        quick: help of ``--quick``.
        quick_out: default of ``--out`` with ``--quick``, if it is another one.
        plots: whether ``--out`` must be writable from the start, because a plot is saved there at the end.
        data_free: whether ``--quick`` makes its own data, and so refuses ``--data``.
        batch: the batch that is split over the devices of ``args.mesh``: an option, or a constant number; None: none
            is, and there is no ``--devices``.
        processes: whether the script can run in several processes.
        worker_devices: default of ``--devices`` if not this process but its workers use them, so that JAX does not
            start here.
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
        batch: str | int | None = "--batch",
        processes: bool = True,
        worker_devices: int | None = None,
    ) -> None:
        self.quick_defaults: dict[str, Any] = {}
        self.data_free, self.batch = data_free, None if worker_devices else batch
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        self.add_argument("--quick", action="store_true", help=quick)
        self.add_argument("--seed", type=seed, default=0, help="random seed")
        self.add_argument("--out", type=writable_folder if plots else folder, default=out, quick=quick_out,
                          metavar="DIR", help="output folder")  # fmt: skip
        self.set_defaults(coordinator=None, processes=None, process_id=None)
        if worker_devices is not None:
            self.add_argument("--devices", type=positive, default=worker_devices, metavar="N",
                              help="devices to compute on; on a CPU, N devices are made of its cores")  # fmt: skip
        if self.batch is None:
            return
        self.add_argument("--devices", type=positive, metavar="N",
                          help="devices of this process, over which each batch is split; on a CPU, N are made of its "
                          "cores (default: all, as many as divide the batch)")  # fmt: skip
        if processes:
            self.add_argument("--coordinator", type=address, metavar="HOST:PORT",
                              help="train in several processes, all started with this address, at which process 0 "
                              "listens; auto in SLURM, Kubernetes and Open MPI")  # fmt: skip
            self.add_argument("--processes", type=positive, metavar="N", help="number of processes")
            self.add_argument("--process-id", type=number_of_process, metavar="I", help="which this is, from 0")

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
        if self.batch is not None:
            self._check_processes(parsed)
            parsed.mesh = start(parsed, self.batch)
        return parsed

    def _check_processes(self, parsed: argparse.Namespace) -> None:
        """Refuse options of several processes that do not go together."""
        coordinator, processes, process_id = parsed.coordinator, parsed.processes, parsed.process_id
        for option, value in (("--processes", processes), ("--process-id", process_id)):
            if coordinator is None and value is not None:
                self.error(f"{option}: expected it with --coordinator HOST:PORT, the address of process 0, got none")
            if coordinator not in (None, "auto") and value is None:
                self.error(f"{option}: expected a number with --coordinator {coordinator}, got none")
        if processes is not None and process_id is not None and process_id >= processes:
            self.error(f"--process-id: expected a number below --processes {processes}, got {process_id}")


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
number_of_process = _number(int, "a whole number of at least 0", lambda n: n >= 0)
seed = _number(int, "a whole number from 0 to 2147483647", lambda n: 0 <= n < 2**31)  # an int32 for jit
finite = _number(float, "a finite number", math.isfinite)
above_zero = _number(float, "a number above 0", lambda x: 0 < x < math.inf)
norm = _number(float, "a number above 0", lambda x: x > 0)  # inf: no clipping
not_negative = _number(float, "a number of at least 0", lambda x: 0 <= x < math.inf)
rate = _number(float, "a share of at least 0 and below 1", lambda x: 0 <= x < 1)
probability = _number(float, "a probability between 0 and 1", lambda x: 0 <= x <= 1)


def address(text: str) -> str:
    """A type for argparse: HOST:PORT or auto."""
    host, _, port = text.rpartition(":")
    if text != "auto" and not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise argparse.ArgumentTypeError(f"expected auto or HOST:PORT, such as 10.0.0.1:1234, got {text}")
    return text


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


# ---- devices and processes -------------------------------------------------------------------------------------------


def start(args: argparse.Namespace, batch: str | int, **timeouts: int) -> jax.sharding.Mesh:
    """Start JAX in one or several processes; the mesh of the devices that a batch is split over.

    Processes other than 0 no longer print. ``timeouts`` are those of ``jax.distributed.initialize``, in seconds.
    """
    size = batch if isinstance(batch, int) else getattr(args, batch.removeprefix("--"))
    name = f"{batch} {size}" if isinstance(batch, str) else f"the batch, {size},"
    if args.devices is not None:
        check_split(name, size, args.devices, args.processes or 1)  # before so many are made
    if args.coordinator is not None and not jax.distributed.is_initialized():
        connect(args, timeouts)
    with contextlib.suppress(RuntimeError):  # JAX has started already
        learning.use_cores(args.devices or share_of_cores(args))
    of_process: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        of_process.setdefault(device.process_index, []).append(device)
    processes, available = len(of_process), min(map(len, of_process.values()))
    devices = args.devices or max((n for n in range(1, available + 1) if size % (n * processes) == 0), default=1)
    if devices > available:
        refuse(f"--devices: expected at most {available}, as many as JAX has here, got {devices}")
    check_split(name, size, devices, processes)
    if not is_main():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return learning.device_mesh([device for found in of_process.values() for device in found[:devices]])


def connect(args: argparse.Namespace, timeouts: dict[str, Any]) -> None:
    """Connect the processes of a run; one that is lost ends all within about half a minute."""
    timeouts = {"heartbeat_timeout_seconds": 30, "shutdown_timeout_seconds": 30} | timeouts
    known = inspect.signature(jax.distributed.initialize).parameters  # JAX 0.7 has no timeout of the shutdown
    try:
        jax.distributed.initialize(
            None if args.coordinator == "auto" else args.coordinator,
            args.processes,
            args.process_id,
            **{name: seconds for name, seconds in timeouts.items() if name in known},
        )
    except ValueError as error:
        refuse(f"--coordinator: expected HOST:PORT outside of SLURM, Kubernetes and Open MPI, got auto: {error}")


def share_of_cores(args: argparse.Namespace) -> int:
    """The cores of this process: all, or its share if the coordinator's address says that all are on one machine."""
    alone = (args.coordinator or "").rpartition(":")[0] not in ("localhost", "127.0.0.1", "[::1]")
    return max(1, available_cores() // (1 if alone else args.processes))


def check_split(name: str, batch: int, devices: int, processes: int) -> None:
    """Refuse devices that cannot share a batch evenly."""
    parts = devices * processes
    if batch % parts:
        got = f"{devices} in each of {processes} processes" if processes > 1 else f"{devices}"
        below = batch // parts * parts
        fixes = [f"--devices {n}" for n in range(devices - 1, 0, -1) if batch % (n * processes) == 0][:1]
        if name.startswith("--"):
            fixes.append(f"--batch {below} or {below + parts}" if below else f"--batch {parts}")
        fix = " or ".join(fixes) or "fewer --processes"
        refuse(f"--devices: expected a number that divides {name} evenly, got {got}; {fix}")


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
    """Save a figure, close it, and print where it is; of several processes, one does."""
    import matplotlib.pyplot as plt

    if is_main():
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, **{"dpi": 150} | options)
    plt.close(figure)
    print(f"{path} is drawn")


def draw_loss(folder: pathlib.Path, clip: float, symbol: str, title: str) -> None:
    """Plot the loss of every step, the validation losses, and where clipping acted, to ``loss.png``."""
    if not is_main():
        return  # the metrics are those of process 0, which may be writing them
    figure, axes = subplots(figsize=(7, 4.5))
    rnn.plots.loss_curve(folder / "metrics.jsonl", axes, clip=clip, quantity=f"cross entropy [nats a {symbol}]")
    axes.set_title(title)
    save_plot(figure, folder / "loss.png")
