"""Plots of trajectories, recurrent weights and loss landscapes: drawn data, labels, refusals."""

import jax.numpy as jnp
import numpy as np
from figures import agg_backend, drawn, legend, matplotlib  # noqa: F401  (a fixture)
from refusals import refuses

import jaxrnn as rnn
from jaxrnn import plots
from jaxrnn.gradients import Landscape, principal_components

STATES = np.random.default_rng(0).normal(size=(6, 5, 3)) * np.array([3.0, 1.0, 0.1])
LENGTHS = np.array([6, 4, 1, 0, 6])


def offsets(axes):
    """The points of each scatter."""
    return [np.asarray(dots.get_offsets()) for dots in axes.collections]


def test_trajectories_in_time():
    """In the plane of the principal components, coloured by the step, with start and end."""
    axes = drawn(plots.trajectories(STATES))
    projected = principal_components(STATES).project(STATES)
    np.testing.assert_allclose(axes.lines[2].get_xydata(), projected[:, 2])
    points, start, end = offsets(axes)
    np.testing.assert_allclose(points, projected.reshape(-1, 2))
    np.testing.assert_allclose(axes.collections[0].get_array(), np.repeat(np.arange(6), 5))
    np.testing.assert_allclose(start, projected[0])
    np.testing.assert_allclose(end, projected[-1])
    assert axes.figure.axes[1].get_ylabel() == "step"
    assert legend(axes) == ["start", "end"]
    assert axes.get_xlabel().startswith("principal component 1 (")


def test_trajectories_with_lengths():
    """They end where they end, and what comes after has no part in the components."""
    padded = np.where(np.arange(6)[:, None, None] < LENGTHS[:, None], STATES, 1e3)
    axes = drawn(plots.trajectories(padded, lengths=LENGTHS))
    visited = np.arange(6)[:, None] < LENGTHS
    projected = principal_components(STATES[visited]).project(STATES)
    for line, path, length in zip(axes.lines, projected.transpose(1, 0, 2), LENGTHS):
        np.testing.assert_allclose(line.get_xydata(), path[:length], atol=1e-9)
    np.testing.assert_allclose(offsets(axes)[2], projected[[5, 3, 0, 5], [0, 1, 2, 4]], atol=1e-9)


def test_labels():
    """A colour and an entry in the legend for each; many numbers share a scale."""
    axes = drawn(plots.trajectories(STATES, labels=["b", "a", "b", "a", "b"]))
    colours = [line.get_color() for line in axes.lines[2:7]]
    assert colours == [plots.COLOURS[n] for n in (1, 0, 1, 0, 1)]
    assert legend(axes) == ["a", "b", "start", "end"]
    many = np.concatenate([STATES, STATES + 1], 1)
    axes = drawn(plots.trajectories(many, labels=np.arange(10) / 10, quantity="coherence"))
    assert legend(axes) == ["start", "end"]
    assert axes.figure.axes[1].get_ylabel() == "coherence"
    assert axes.figure.axes[1].get_ylim() == (0, 0.9)


def test_three_dimensions():
    """In space, also of given axes; the components may be those of other states."""
    other = principal_components(STATES[:, :2])
    axes = drawn(plots.trajectories(STATES, dimensions=3, components=other))
    np.testing.assert_allclose(np.stack(axes.lines[1].get_data_3d(), -1), other.project(STATES, 3)[:, 1])
    own = matplotlib.pyplot.subplots(subplot_kw={"projection": "3d"})[1]
    assert plots.trajectories(STATES[:, 0], own, dimensions=3) is own
    axes = drawn(plots.trajectories(STATES, dimensions=3, labels=np.arange(5)))
    assert len(legend(axes)) == 7


def test_states_of_a_cell():
    """H and c of an LSTM are one state."""
    state = rnn.LSTM(1, 3).initial_state((6, 5))
    pair = type(state)(jnp.asarray(STATES), jnp.asarray(STATES[::-1]))
    both = np.concatenate([STATES, STATES[::-1]], -1)
    np.testing.assert_allclose(
        plots.trajectories(pair).lines[0].get_xydata(), principal_components(both).project(both)[:, 0], rtol=1e-4
    )


def test_connectivity():
    """The weights from row to column, white at 0, and the eigenvalues beside; units in a given order."""
    w = np.array([[0.5, -2.0, 0.0], [0.1, 0.2, 0.3], [0.0, 1.0, 0.4]])
    axes = drawn(plots.connectivity(w))
    weights, right = axes.figure.axes[:2]
    assert weights is axes
    image = axes.images[0]
    np.testing.assert_allclose(image.get_array(), w)
    assert image.get_clim() == (-2, 2)
    assert image.to_rgba(0.0)[:3] == (1, 1, 1)
    assert matplotlib.colors.to_hex(image.to_rgba(2.0)) == plots.RED.lower()
    values = np.concatenate([line.get_xydata() for line in right.lines[1:]])
    eigenvalues = np.linalg.eigvals(w)
    np.testing.assert_allclose(sorted(values[:, 0]), sorted(eigenvalues.real), atol=1e-12)
    axes = drawn(plots.connectivity(w, order=[2, 0, 1]))
    np.testing.assert_allclose(axes.images[0].get_array(), w[[2, 0, 1]][:, [2, 0, 1]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "0", "1"]
    own = matplotlib.pyplot.subplots()[1]
    assert plots.connectivity(jnp.zeros((2, 2)), own) is own
    assert len(own.figure.axes) == 2  # with its colours


def test_clusters():
    """Units of one block, shuffled, are side by side again."""
    rng = np.random.default_rng(0)
    block = rng.permutation(np.repeat([0, 1, 2], 5))
    strength = np.array([[1.0, -1, 0], [0, 1, -1], [1, 0, 1]])
    w = strength[np.ix_(block, block)] + 0.1 * rng.normal(size=(15, 15))
    axes = drawn(plots.connectivity(w, order="clusters"))
    order = [int(label.get_text()) for label in axes.get_yticklabels()]
    assert sorted(order) == list(range(15))
    assert np.sum(np.diff(block[order]) != 0) == 2


def test_loss_landscape():
    """A curve, or contours with the first step along the horizontal axis; a gap where the loss is not finite."""
    steps = np.linspace(-1, 1, 5)
    axes = drawn(plots.loss_landscape(Landscape(steps, np.array([3.0, 1, 0, 1, np.inf])), quantity="loss [nats]"))
    np.testing.assert_allclose(axes.lines[0].get_xdata(), steps)
    assert np.ma.getmaskarray(axes.lines[0].get_ydata()).tolist() == [False] * 4 + [True]
    assert axes.get_ylabel() == "loss [nats]"
    plane = np.exp(3 * steps)[:, None] + np.zeros(5)
    for losses, logarithmic in ((plane, True), (plane + 10, False)):
        axes = drawn(plots.loss_landscape(Landscape(steps, losses)))
        contours = axes.collections[0]
        assert isinstance(contours.norm, matplotlib.colors.LogNorm) == logarithmic
        edge = np.concatenate([path.vertices for path in contours.get_paths()[-2:] if len(path.vertices)])
        assert edge[:, 0].min() > 0.5  # the largest losses are at the right
        assert axes.lines[0].get_xydata().tolist() == [[0, 0]]
    drawn(plots.loss_landscape(Landscape(steps, np.ones((5, 5)))))
    plane[0, 0] = np.nan
    drawn(plots.loss_landscape(Landscape(steps, plane)))


def test_refusals():
    """The message names the argument."""
    flat = matplotlib.pyplot.subplots()[1]
    for message, call in [
        ("ValueError states: expected [T, ..., H] with H of 2 or more, got float64[6, 1]",
         lambda: plots.trajectories(STATES[:, 0, :1])),
        ("ValueError states: expected states [T, ..., H], got tuple of 0…", lambda: plots.trajectories(())),
        ("ValueError dimensions: expected 2 or 3, got 4", lambda: plots.trajectories(STATES, dimensions=4)),
        ("ValueError labels: expected one a sequence, shape [5], got <U1[2]",
         lambda: plots.trajectories(STATES, labels=["a", "b"])),
        ("ValueError lengths: expected one a sequence, shape [5], got int64[6]",
         lambda: plots.trajectories(STATES, lengths=np.ones(6, int))),
        ("ValueError axes: expected axes of 3 dimensions, got others; plt.subplots…",
         lambda: plots.trajectories(STATES, flat, dimensions=3)),
        ("ValueError w: expected a square matrix [H, H], got float64[4, 12]; w_hh of a gated cell…",
         lambda: plots.connectivity(np.ones((4, 12)))),
        ("ValueError w: expected finite numbers, got 1 that are not, of 1", lambda: plots.connectivity([[np.nan]])),
        ("ValueError order: expected each of the units 0 to 1 once, got int64[2]",
         lambda: plots.connectivity(np.eye(2), order=[0, 0])),
        ("ValueError order: expected one of 'clusters' or the units in order, got 'size'",
         lambda: plots.connectivity(np.eye(2), order="size")),
        ("TypeError found: expected what gradients.loss_landscape gives, got float64[3]",
         lambda: plots.loss_landscape(np.ones(3))),
        ("ValueError found: expected finite losses, got none; a smaller radius…",
         lambda: plots.loss_landscape(Landscape(np.ones(1), np.full(1, np.nan)))),
    ]:  # fmt: skip
        refuses(message, call)
