"""Plots of state space: trajectories, fixed points, eigenvalues and recurrent weights."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.typing import ArrayLike

from jaxrnn import checks
from jaxrnn.gradients.components import PrincipalComponents, principal_components, state_vectors
from jaxrnn.plots.drawing import (
    BLUE,
    COLOURS,
    GREY,
    ORANGE,
    RED,
    as_finite,
    as_numbers,
    colours,
    dots,
    finish,
    ink,
    new_axes,
    paper,
    scale_of,
    viridis,
    whole,
)
from jaxrnn.types import State

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxrnn.gradients import FixedPoints


def eigenvalues(values: ArrayLike, axes: Axes | None = None) -> Axes:
    """Plot eigenvalues in the complex plane: inside the unit circle a direction decays, outside it grows.

    Args:
        values: complex numbers of any shape: of ``w_hh``, of a Jacobian, of fixed points.
        axes: the axes to draw into; by default a new figure.

    Raises:
        TypeError, ValueError: the values are not numbers, or not finite.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> params = rnn.VanillaRNN(3, 50).init(jax.random.key(0))
        >>> axes = rnn.plots.eigenvalues(jnp.linalg.eigvals(params.w_hh))
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('real part', 'imaginary part')
    """
    numbers = as_numbers("values", values, "eigenvalues", complex).ravel()
    if not np.isfinite(numbers).all():
        checks.refuse("values", "finite numbers", f"{(~np.isfinite(numbers)).sum()} that are not, of {numbers.size}")
    axes = new_axes(axes, (4.8, 5.2))
    angle = np.linspace(0, 2 * np.pi, 400)
    axes.plot(np.cos(angle), np.sin(angle), color=GREY, lw=1, label="unit circle")
    for inside, marker, colour, name in ((True, "o", BLUE, "decays"), (False, "^", RED, "grows or stays")):
        some = numbers[(np.abs(numbers) < 1) == inside]
        axes.plot(some.real, some.imag, marker, color=colour, ms=5, alpha=0.7, label=f"{name} ({len(some)})")
    axes.set(xlabel="real part", ylabel="imaginary part")
    axes.set_aspect("equal", "datalim")
    axes.locator_params(nbins=6)
    return finish(axes, below=3)


def connectivity(
    w: ArrayLike, axes: Axes | None = None, *, order: str | ArrayLike | None = None, quantity: str = "weight"
) -> Axes:
    """Plot recurrent weights as a map, blue below 0 and red above, and beside it their eigenvalues.

    Args:
        w: ``[H, H]``, such as ``w_hh``: ``w[i, j]`` goes from unit i to unit j.
        axes: the axes to draw the map into, alone; by default both panels in a new figure, ``axes.figure.axes``.
        order: the units in the order to be drawn, ``[H]``, or ``"clusters"``, which puts units with similar weights
            side by side (hierarchical clustering with optimal ordering of the leaves).
        quantity: what the weights are, label of the colours.

    Returns:
        The axes of the map.

    Raises:
        TypeError, ValueError: the weights are not finite or not square; the order is not one of the units.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> params = rnn.VanillaRNN(3, 20).init(jax.random.key(0))
        >>> axes = rnn.plots.connectivity(params.w_hh, order="clusters")
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('to unit', 'from unit')

    Source: Bar-Joseph, Gifford & Jaakkola (2001), "Fast optimal leaf ordering for hierarchical clustering".
    """
    matrix = as_finite("w", w, "a square matrix [H, H]")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        checks.refuse("w", "a square matrix [H, H]", checks.describe(matrix),
                      "w_hh of a gated cell holds one a gate: jnp.split(w_hh, gates, -1)")  # fmt: skip
    units = _order(matrix, order)
    if axes is None:
        axes = new_axes(None, (10.4, 4.8))
        figure = axes.get_figure(root=True)
        assert figure is not None
        figure.clear()
        axes, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
        eigenvalues(np.linalg.eigvals(matrix), right)
    axes = new_axes(axes)
    sorted_matrix = matrix[np.ix_(units, units)]
    image = axes.imshow(
        sorted_matrix, interpolation="nearest", **scale_of(matrix, 0.0, np.abs(matrix).max() or 1).options
    )
    axes.figure.colorbar(image, ax=axes, label=quantity, shrink=0.8)
    axes.set(xlabel="to unit", ylabel="from unit")
    if order is None:
        whole(axes.xaxis)
        whole(axes.yaxis)
    else:
        every = -(-len(units) // 25)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(range(0, len(units), every), units[::every], fontsize="x-small")
        axes.tick_params(axis="x", rotation=90)
    return axes


def _order(matrix: np.ndarray, order: Any) -> np.ndarray:
    """The units in the order to be drawn."""
    count = len(matrix)
    if order is None or count < 2:
        return np.arange(count)
    if isinstance(order, str):
        checks.one_of("order", order, ("clusters",), also=" or the units in order")
        from scipy.cluster.hierarchy import leaves_list, linkage

        return leaves_list(linkage(np.hstack([matrix, matrix.T]), "ward", optimal_ordering=True))
    units = np.asarray(order)
    if sorted(units.ravel().tolist()) != list(range(count)):
        checks.refuse("order", f"each of the units 0 to {count - 1} once", checks.describe(units))
    return units


def fixed_points(found: FixedPoints, trajectories: State, axes: Axes | None = None) -> Axes:
    """Plot fixed points and trajectories in the first two principal components of the trajectories.

    Where no fixed point was found there are the trajectories alone.

    Args:
        found: of :func:`~jaxrnn.gradients.fixed_points`.
        trajectories: states ``[T, ..., H]`` of :func:`~jaxrnn.trajectory`.
        axes: the axes to draw into; by default a new figure.

    Raises:
        TypeError, ValueError: the trajectories are of another model, or states have a single component.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.VanillaRNN(2, 8, w_hh_init=rnn.initializers.orthogonal(1.2))
        >>> params, xs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (30, 5, 2))
        >>> states = rnn.trajectory(cell, params, xs)
        >>> found = rnn.gradients.fixed_points(cell, params, jnp.zeros(2), states[-1])
        >>> axes = rnn.plots.fixed_points(found, states)
    """
    if not hasattr(found, "points"):
        checks.refuse("found", "what gradients.fixed_points gives", checks.tree_summary(found), error=TypeError)
    size = np.shape(found.points)[-1]
    states = state_vectors("trajectories", trajectories, f"states [T, ..., {size}], those of the fixed points", size)
    if states.ndim < 2:
        checks.refuse("trajectories", f"states [T, ..., {size}]", checks.describe(states))
    if size < 2:
        checks.refuse("found", "points of two numbers or more, for a plane", "points of 1 number")
    axes = new_axes(axes, (5.6, 5.2))
    components = principal_components(states)
    projected = components.project(states.reshape(len(states), -1, size))
    for n in range(projected.shape[1]):
        axes.plot(*projected[:, n].T, color=GREY, lw=0.8, alpha=0.6, zorder=1, **dots(projected[:, n]),
                  label=None if n else "trajectories")  # fmt: skip
    unstable = (np.abs(found.eigenvalues) >= 1).sum(-1)  # number of unstable directions of each point
    for some, marker, colour, name in (
        (unstable == 0, "o", BLUE, "stable"),
        (unstable == 1, "X", RED, "one unstable direction"),
        (unstable > 1, "^", ORANGE, "several unstable directions"),
    ):
        if some.any():
            points = components.project(np.asarray(found.points)[some])
            axes.plot(*points.T, marker, color=colour, ms=9, mec=ink(axes), label=f"{name} ({some.sum()})")
    if not unstable.size:
        axes.plot([], [], " ", label="no fixed point was found")
    _label_components(axes, components, 2)
    finish(axes, below=2)
    legend = axes.get_legend()
    assert legend is not None
    legend.get_lines()[0].set(alpha=1, lw=1.5)
    return axes


def trajectories(
    states: State,
    axes: Axes | None = None,
    *,
    labels: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    dimensions: int = 2,
    components: PrincipalComponents | None = None,
    quantity: str = "label",
) -> Axes:
    """Plot trajectories of hidden states in their first principal components, from ○ to ■.

    Colours are time, or the labels of the sequences.

    Args:
        states: ``[T, ..., H]`` of :func:`~jaxrnn.trajectory`; h and c of an LSTM are concatenated.
        axes: the axes to draw into, three-dimensional ones (``projection="3d"``) for three dimensions; by default a new
            figure.
        labels: one a sequence, of the batch shape: a class, or a condition. More than 7 different numbers are drawn on
            a scale.
        lengths: ints of the batch shape: where each sequence ends.
        dimensions: 2 or 3.
        components: those of other states, of :func:`~jaxrnn.gradients.principal_components`, so that pictures can be
            compared.
        quantity: what the labels are, the title of the legend.

    Raises:
        TypeError, ValueError: they are no finite states; labels or lengths are not one a sequence.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> cell = rnn.GRU(2, 8)
        >>> xs = jax.random.normal(jax.random.key(1), (30, 4, 2))
        >>> states = rnn.trajectory(cell, cell.init(jax.random.key(0)), xs)
        >>> axes = rnn.plots.trajectories(states, labels=["left", "left", "right", "right"])
        >>> axes = rnn.plots.trajectories(states, dimensions=3)
    """
    vectors = state_vectors("states", states, "states [T, ..., H]")
    if dimensions not in (2, 3):
        checks.refuse("dimensions", "2 or 3", dimensions)
    if vectors.ndim < 2 or vectors.shape[-1] < dimensions:
        checks.refuse("states", f"[T, ..., H] with H of {dimensions} or more", checks.describe(vectors))
    steps, batch = len(vectors), vectors.shape[1:-1]
    vectors = vectors.reshape(steps, -1, vectors.shape[-1])
    ends = np.full(vectors.shape[1], steps) if lengths is None else _lengths(lengths, steps, batch)
    named = None if labels is None else _one_each("labels", labels, batch)
    visited = np.arange(steps)[:, None] < ends
    components = principal_components(vectors[visited]) if components is None else components
    space = _space(axes, dimensions)
    points = components.project(vectors, dimensions)
    shades, legend = _colours(space, named, quantity) if named is not None else ([GREY] * len(ends), [])
    for n, end in enumerate(ends):
        space.plot(*points[:end, n].T, color=shades[n], lw=0.9, alpha=0.7, zorder=1)
    if named is None:
        step = np.broadcast_to(np.arange(steps)[:, None], visited.shape)[visited]
        dots = space.scatter(*points[visited].T, c=step, cmap=viridis(space), s=9, zorder=2)
        _colour_bar(space, dots, "step")
    some = ends > 0
    for at, marker, name in ((np.zeros_like(ends), "o", "start"), (ends - 1, "s", "end")):
        faces = [paper(space) if name == "start" else colour for colour in shades]
        space.scatter(*points[at[some], np.flatnonzero(some)].T, marker=marker, edgecolors=ink(space), s=28, zorder=3,
                      c=[face for face, shown in zip(faces, some) if shown])  # fmt: skip
        fill = paper(space) if name == "start" else GREY
        legend += space.plot([], [], marker, mfc=fill, mec=ink(space), label=name)
    _label_components(space, components, dimensions)
    return finish(space, legend, below=4 if dimensions == 2 else 0)


def _space(axes: Axes | None, dimensions: int) -> Any:
    """The axes of a plane or of space."""
    new = axes is None
    axes = new_axes(axes, (5.8, 5.2) if dimensions == 2 else (6.6, 5.2))
    if dimensions == 3 and new:
        figure = axes.get_figure(root=True)
        assert figure is not None
        figure.clear()
        space: Any = figure.add_subplot(projection="3d", computed_zorder=False)
        space.set_box_aspect(None, zoom=0.88)
        space.xaxis.labelpad, space.yaxis.labelpad, space.zaxis.labelpad = 12, 16, 14
        return space
    if hasattr(axes, "get_zlim") != (dimensions == 3):
        checks.refuse("axes", f"axes of {dimensions} dimensions", "others", 'plt.subplots(subplot_kw={"projection": '
                      '"3d"}) makes those of 3')  # fmt: skip
    return axes


def _one_each(argument: str, value: Any, batch: tuple[int, ...]) -> np.ndarray:
    """One entry for each sequence, ``[B]``."""
    try:
        array = np.asarray(value)
    except ValueError:
        checks.refuse(argument, f"one a sequence, shape {list(batch)}", checks.tree_summary(value))
    if array.shape != batch:
        checks.refuse(argument, f"one a sequence, shape {list(batch)}", checks.describe(array))
    return array.ravel()


def _lengths(value: Any, steps: int, batch: tuple[int, ...]) -> np.ndarray:
    """Where each sequence ends, ``[B]``."""
    ends, expected = _one_each("lengths", value, batch), f"ints of 0 to {steps}, one above 0 at least"
    if ends.dtype.kind not in "iuf":
        checks.refuse("lengths", expected, checks.describe(ends), error=TypeError)
    if not ((ends >= 0) & (ends <= steps) & (ends % 1 == 0)).all() or not ends.any():
        checks.refuse("lengths", expected, f"numbers of {ends.min()} to {ends.max()}")
    return ends.astype(int)


def _kinds(labels: np.ndarray) -> list[Any]:
    """The different labels in order."""
    try:
        missing = sum(label is None or bool(label != label) for label in labels.tolist())
        kinds = [] if missing else np.unique(labels).tolist()
    except TypeError:
        different = sorted({type(label).__name__ for label in labels.tolist()})
        checks.refuse("labels", "all numbers or all strings", " and ".join(different), error=TypeError)
    if missing:
        checks.refuse("labels", "a label for each sequence", f"{missing} of {len(labels)} that are None or NaN")
    return kinds


def _colours(axes: Any, labels: np.ndarray, quantity: str) -> tuple[list[Any], list[Any]]:
    """A colour for each sequence, and the entries of the legend; many numbers get a scale instead."""
    kinds = _kinds(labels)
    if len(kinds) > len(COLOURS) and np.issubdtype(labels.dtype, np.number):
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        scale = ScalarMappable(Normalize(kinds[0], kinds[-1]), viridis(axes))
        _colour_bar(axes, scale, quantity)
        return [scale.to_rgba(label) for label in labels.tolist()], []
    by_label = dict(zip(kinds, itertools.cycle(colours(axes))))
    lines = [axes.plot([], [], color=colour, label=str(kind))[0] for kind, colour in by_label.items()]
    return [by_label[label] for label in labels.tolist()], lines


def _colour_bar(axes: Any, drawn: Any, label: str) -> None:
    """A scale at the right, beside the labels of the third axis if there is one."""
    axes.figure.colorbar(drawn, ax=axes, label=label, shrink=0.8, pad=0.1 if hasattr(axes, "get_zlim") else 0.02)


def _label_components(axes: Any, components: PrincipalComponents, dimensions: int) -> None:
    for n, name in enumerate("xyz"[:dimensions]):
        share = f"({components.share[n]:.0%} of the variance)"
        label = f"principal component {n + 1} {share}" if dimensions == 2 else f"component {n + 1}\n{share}"
        axes.set(**{f"{name}label": label})
