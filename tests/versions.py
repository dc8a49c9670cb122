"""Names and features that differ between the supported versions of JAX."""

import jax

if hasattr(jax, "enable_x64"):  # from 0.8 on
    enable_x64 = jax.enable_x64
else:
    from jax.experimental import enable_x64  # noqa: F401

set_mesh = jax.set_mesh if hasattr(jax, "set_mesh") else jax.sharding.use_mesh  # from 0.7.1 on

# The gradient of ``x @ w`` with x sharded over an explicit mesh: JAX 0.10.0 and before raise an error, in any program.
EXPLICIT_GRADIENTS = jax.__version_info__ >= (0, 10, 1)
