"""What every test shares: strict dtype promotion, and a switch to float64."""

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def x64():
    """Run a test with 64-bit numbers switched on."""
    with jax.enable_x64(True):
        yield
