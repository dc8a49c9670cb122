"""Settings of all tests: strict dtype and rank promotion, fast compilation, and a fixture for float64."""

import gc
import itertools
import os
import pathlib
import sys

import jax
import pytest
from versions import enable_x64

# The older code generator of XLA on a CPU compiles a small program in half the time; read when the backend starts.
OLDER = "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {OLDER}".strip()
os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported
gc.set_threshold(100_000, 50, 50)  # compiled programs are many long-lived objects
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)  # most programs run once


MAPPINGS = pathlib.Path("/proc/self/maps")  # on Linux
finished = itertools.count(1)


class CleanUp:
    """After each test, also after the doctests of the library, which a hook of this file alone does not see."""

    @staticmethod
    def pytest_runtest_teardown():
        """Close all figures, and forget the compiled programs in time.

        A program is several mappings of memory, and the 65,531st ends the process.
        """
        if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
            pyplot.close("all")
        if next(finished) % 50 == 0 and MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > 40_000:
            jax.clear_caches()
            gc.collect()


def pytest_configure(config):
    """Register what is done after each test."""
    config.pluginmanager.register(CleanUp())


LONG = ("test_mesh", "test_kill", "test_sharding", "test_readme", "test_contract", "test_flow", "test_gpu_check")


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that no process waits for another at the end."""
    items.sort(key=lambda item: (*LONG, item.path.stem).index(item.path.stem))


@pytest.fixture
def optimised():
    """Compile with all optimisations, as users do."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def x64():
    """Run a test with 64-bit numbers enabled."""
    with enable_x64(True):
        yield
