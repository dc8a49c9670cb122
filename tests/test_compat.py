"""The code for older versions of JAX gives the same results on newer ones."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import compat


def test_linear_by_its_differential(monkeypatch):
    """A linear scan replaced by its differential has the same values and the same transpose."""
    monkeypatch.setattr(compat, "SCANS_ARE_TRANSPOSED", False)
    w, s, vs = jnp.array([0.5, 2.0]), jnp.array([1.0, 3.0]), jnp.arange(6.0).reshape(3, 2)

    def recurrence(w, s, vs):
        return jax.lax.scan(lambda s, v: (w * s + v, w * s - v), s, vs)

    expected, pull = jax.vjp(lambda s, vs: recurrence(w, s, vs), s, vs)
    got = compat.linear_map(recurrence)(w, s, vs)
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    transposed = jax.linear_transpose(lambda s, vs: compat.linear_map(recurrence)(w, s, vs), s, vs)
    jax.tree.map(np.testing.assert_allclose, transposed(expected), pull(expected))


def test_no_varying_axes_outside_of_a_mesh():
    """Outside of ``shard_map`` an array varies over no mesh axis, and is returned unchanged."""
    x = jnp.ones(3)
    assert compat.mesh_axes(x) == frozenset()
    assert compat.pvary(x, frozenset()) is x


def test_ravel():
    """A tree without leaves is an empty vector."""
    vector, back = compat.ravel({"a": ()})
    assert vector.shape == (0,)
    assert back(vector) == {"a": ()}
    vector, back = compat.ravel((jnp.ones(2), jnp.zeros((1, 1))))
    assert vector.tolist() == [1, 1, 0]
    jax.tree.map(np.testing.assert_array_equal, back(vector), (jnp.ones(2), jnp.zeros((1, 1))))
