"""What every test shares: strict dtype and rank promotion, a quick compiler, and a switch to float64."""

import gc
import os

import jax
import pytest
from versions import enable_x64

# The older code generator of XLA on a CPU compiles a small program in half the time; read when the backend starts.
OLDER = "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {OLDER}".strip()
gc.set_threshold(100_000, 50, 50)  # programs are many objects that live long
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)  # most programs here run once


@pytest.fixture(scope="module")
def optimised():
    """Compile the tests of a module as users do."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def x64():
    """Run a test with 64-bit numbers switched on."""
    with enable_x64(True):
        yield
