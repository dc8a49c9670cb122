"""The same small programs are compiled many times: use a compilation cache, and compile without optimizations."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def compilation_cache(tmp_path_factory):
    """A compilation cache for this test run."""
    yield from jax_options(
        jax_compilation_cache_dir=str(tmp_path_factory.mktemp("compiled")),
        jax_persistent_cache_min_compile_time_secs=0.0,
        jax_persistent_cache_min_entry_size_bytes=-1,
        jax_disable_most_optimizations=True,
    )


@pytest.fixture
def optimized():
    """Compile with the default optimizations."""
    yield from jax_options(jax_disable_most_optimizations=False)


def jax_options(**options):
    """Set options of jax, and restore them."""
    before = {name: jax.config.values[name] for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
