"""One library in one process: reads requests from standard input, answers on standard output, a line of JSON each.

Started by :mod:`benchmarks.driver`; between its turns it waits for a line and uses no processor time.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import json
import math
import os
import platform
import sys
import time
import traceback
from typing import Any

import numpy as np

from benchmarks.cases import Case, Refused

SHORTEST = 1e-3  # seconds of a timed call; quicker functions are called several times in it
SLOW = 0.2  # seconds of a call that warm caches make no difference to
PACKAGES = {
    "jaxrnn": ["jaxrnn"], "flax": ["flax"], "nnx": ["flax"], "haiku": ["dm-haiku"], "keras": ["keras"],
    "equinox": ["equinox"], "torch": ["torch"],
}  # fmt: skip


class Worker:
    """What the process holds: the library, and the case it works on."""

    def __init__(self, library: str, device: str) -> None:
        self.library, self.device = library, device
        self.runner: Any = None
        self.calls: dict[str, Any] = {}
        self.inner: dict[str, int] = {}
        self.slow: dict[str, bool] = {}

    def hello(self) -> dict[str, Any]:
        """Import the library and say what runs here."""
        os.environ.setdefault("KERAS_BACKEND", "jax")
        packages = PACKAGES.get(self.library.split("-")[0], [])
        for package in packages:
            importlib.import_module({"dm-haiku": "haiku"}.get(package, package))
        found: dict[str, Any] = {"python": platform.python_version(), "numpy": np.__version__}
        flags = ("XLA_FLAGS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "JAX_DEFAULT_MATMUL_PRECISION")
        found["flags"] = {name: os.environ[name] for name in flags if name in os.environ}
        if self.library == "torch":
            import torch

            from benchmarks.torch_runner import threads

            torch.set_num_threads(threads())
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = "tf32" in sys.argv
            found["threads"] = torch.get_num_threads()
            found["device"] = torch.cuda.get_device_name() if self.device == "gpu" else "cpu"
        else:
            import jax

            from benchmarks import jax_runner  # noqa: F401  so that a missing package is found now

            found["device"] = str(jax.devices()[0].device_kind)
            found["devices"] = jax.device_count()
            packages = [*packages, "jax", "jaxlib"]
        return found | {package: importlib.metadata.version(package) for package in packages}

    def prepare(self, case: dict, measures: list[str], save: str) -> dict[str, Any]:
        """Build the model, compile and run what will be timed, and save its results for the comparison."""
        self.drop()
        if self.library == "torch":
            from benchmarks import torch_runner

            self.runner = torch_runner.Runner(Case(**case), "cuda" if self.device == "gpu" else "cpu")
        else:
            from benchmarks import jax_runner

            self.runner = jax_runner.Runner(self.library, Case(**case))
        found = self.runner.check(measures)
        if found:
            np.savez(save, **found)
        if self.library != "reference":
            self.calls = {m: self.runner.call(m) for m in measures if m not in ("compile", "remat")}
            for measure in self.calls.keys() - {"forward", "gradient"}:  # those the check has run
                self.calls[measure]()
        return {"saved": bool(found)}

    def calibrate(self, measure: str) -> dict[str, Any]:
        """Seconds of one call, and how many of them make a timed call."""
        self.inner[measure] = 1
        (seconds,) = self._timed(measure, 1, warm=False)
        if seconds < SLOW:
            seconds = min(self._timed(measure, 2))
        self.slow[measure] = seconds >= SLOW
        if seconds < SHORTEST:
            self.inner[measure] = math.ceil(SHORTEST / seconds)
            seconds = min(self._timed(measure, 3))
        return {"seconds": seconds, "inner": self.inner[measure]}

    def time(self, measure: str, calls: int) -> dict[str, Any]:
        """Time some calls."""
        return {"times": self._timed(measure, calls, warm=not self.slow[measure])}

    def _timed(self, measure: str, calls: int, warm: bool = True) -> list[float]:
        call, inner = self.calls[measure], self.inner[measure]
        if warm:
            call()  # caches are warm again after the others' turns
        found = []
        gc.disable()
        for _ in range(calls):
            began = time.perf_counter()
            for _ in range(inner):
                call()
            found.append((time.perf_counter() - began) / inner)
        gc.enable()
        return found

    def inspect(self, measure: str) -> dict[str, Any]:
        """What is measured without running: compile time and memory."""
        return self.runner.compiling() if measure == "compile" else self.runner.remat()

    def drop(self) -> dict[str, Any]:
        """Forget the case."""
        self.runner = None
        self.calls, self.inner = {}, {}
        if "jax" in sys.modules:
            sys.modules["jax"].clear_caches()
        gc.collect()
        return {}


def serve(worker: Any) -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Refused as reason:
            answer = {"absent": str(reason)}
        except ImportError as error:
            answer = {"missing": str(error)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(Worker(*sys.argv[1:3]))
