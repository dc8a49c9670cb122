"""Principal components against the eigenvectors of the covariance."""

import jax.numpy as jnp
import numpy as np
from refusals import refuses

import jaxrnn as rnn
from jaxrnn.gradients import principal_components

STATES = np.random.default_rng(0).normal(size=(6, 5, 3)) @ np.diag([0.1, 3.0, 1.0])


def test_eigenvectors_of_the_covariance():
    """Directions and shares are theirs; the projection has uncorrelated coordinates of those variances."""
    found = principal_components(jnp.asarray(STATES, "float32"))
    values, vectors = np.linalg.eigh(np.cov(STATES.reshape(-1, 3).T))
    np.testing.assert_allclose(found.share, values[::-1] / values.sum(), atol=1e-6)
    np.testing.assert_allclose(np.abs(found.directions @ vectors[:, ::-1]), np.eye(3), atol=1e-4)
    assert (np.take_along_axis(found.directions, np.abs(found.directions).argmax(1)[:, None], 1) > 0).all()
    projected = found.project(STATES, 3)
    assert projected.shape == (6, 5, 3)
    np.testing.assert_allclose(np.cov(projected.reshape(-1, 3).T), np.diag(values[::-1]), atol=1e-4)


def test_states_of_several_arrays():
    """H and c side by side, without counters."""
    state = type(rnn.LSTM(1, 1).initial_state())(jnp.asarray(STATES[..., :1]), jnp.asarray(STATES[..., 1:]))
    found = principal_components((state, jnp.zeros((6, 5), int)))
    np.testing.assert_allclose(found.share, principal_components(STATES).share, atol=1e-6)
    constant = principal_components(np.ones((4, 2)))
    assert (constant.share == 0).all()


def test_refusals():
    """The message names the argument."""
    found = principal_components(STATES)
    for message, call in [
        ("ValueError states: expected states [..., H], got tuple of 0…", lambda: principal_components(())),
        ("ValueError states: expected states [..., H], got float64[0, 3]…",
         lambda: principal_components(np.zeros((0, 3)))),
        ("ValueError states: expected finite numbers, got 3 that are not",
         lambda: principal_components(np.full((1, 3), np.nan))),
        ("TypeError states: expected states [..., H], got str text…", lambda: principal_components("text")),
        ("ValueError states: expected states [..., 3], got float64[6, 5, 2]…", lambda: found.project(STATES[..., 1:])),
    ]:  # fmt: skip
        refuses(message, call)
