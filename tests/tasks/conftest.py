"""Many small programs are compiled here and each runs once: the compiler need not try hard."""

import jax
import pytest

collect_ignore = ["conftest.py"]  # it holds no tests


@pytest.fixture(autouse=True, scope="package")
def quick_compiler():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
