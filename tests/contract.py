"""Shared by the contract tests: models, cases, and comparisons of results."""

import jax
import jax.numpy as jnp
import numpy as np
from zoo import ZOO, T, random_params, random_state

CLOSE = 1e-10  # in float64
EPSILON = 1e-5  # step of a finite difference
SLOPE = 1e-7  # tolerance of a finite difference
ALL = list(ZOO)
KINDS = [  # one of each kind, for tests in which compiling all would take too long
    "vanilla-tanh",
    "lstm-peephole-ifo",
    "gru-after",
    "linear",
    "embedding",
    "dropout",
    "stack-mixed",
    "bidirectional-both",
    "bidirectional-of-stack",
    "residual-concat",
    "tied",
    "user",
    "user-in-stack",
]
LENGTHS = np.array([T, 2, 0])
MASK = np.arange(T)[:, None] < LENGTHS  # [T, B]
RESETS = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 1], [0, 1, 0]], bool)  # [T, B], some past the end
CASES = ["plain", "state", "lengths", "resets", "reverse", "forwards", "everything"]


def make(name, dtype="float64"):
    """A model of the zoo and random parameters for it."""
    model = ZOO[name].build(dtype)
    return model, random_params(model)


def arguments(model, case):
    """The arguments of ``unroll`` besides model, parameters and inputs."""
    return {
        "plain": {},
        "state": {"state": random_state(model)},
        "lengths": {"lengths": LENGTHS},
        "resets": {"resets": RESETS},
        "reverse": {"reverse": True},
        "forwards": {"state": random_state(model), "lengths": LENGTHS, "resets": RESETS},
        "everything": {"state": random_state(model), "lengths": LENGTHS, "resets": RESETS, "reverse": True},
    }[case]


def assert_close(got, expected, tolerance=CLOSE):
    """Equal leaf by leaf, shapes included."""
    got, expected = jax.tree.leaves(got), jax.tree.leaves(expected)
    assert [leaf.shape for leaf in got] == [np.shape(leaf) for leaf in expected]
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=0, atol=tolerance)


def assert_identical(got, expected):
    """Equal in structure, dtype and every bit."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def floats(tree):
    """The leaves that have a gradient."""
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def weighted(tree, seed=5):
    """A scalar with another random weight for every entry of the tree."""
    rng = np.random.default_rng(seed)
    return sum((leaf * jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)).sum() for leaf in floats(tree))


def slope(f, point, direction):
    """The derivative of ``f`` in a direction, by finite differences."""
    plus, minus = (jax.tree.map(lambda x, d, s=s: x + s * EPSILON * d, point, direction) for s in (1, -1))
    return (f(plus) - f(minus)) / (2 * EPSILON)
