"""The same small programs are compiled over and over here: keep them, and do not polish them."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def compiled_once(tmp_path_factory):
    """A compilation cache of this run."""
    yield from switched(
        jax_compilation_cache_dir=str(tmp_path_factory.mktemp("compiled")),
        jax_persistent_cache_min_compile_time_secs=0.0,
        jax_persistent_cache_min_entry_size_bytes=-1,
        jax_disable_most_optimizations=True,
    )


@pytest.fixture
def optimized():
    """Compile as users do."""
    yield from switched(jax_disable_most_optimizations=False)


def switched(**options):
    """Options of jax, and back."""
    before = {name: jax.config.values[name] for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
