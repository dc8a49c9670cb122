"""What every test shares: strict dtype and rank promotion, a quick compiler, and a switch to float64."""

import jax
import pytest
from versions import enable_x64

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
