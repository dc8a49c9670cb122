"""Plots on dark grounds, in figures of the user, one above another, and of few points."""

from types import SimpleNamespace

import numpy as np
import pytest
from figures import agg_backend, drawn, legend, matplotlib, plain_axes  # noqa: F401  (a fixture)
from refusals import refuses

from jaxrnn import plots
from jaxrnn.data.trials import Trials
from jaxrnn.gradients import FixedPoints, Landscape

STATES = np.random.default_rng(0).normal(size=(6, 5, 3)) * np.array([3.0, 1.0, 0.1])
TIMES = np.arange(4.0)
TRIALS = Trials(
    np.ones((4, 1, 6)), np.zeros((4, 1), int), np.ones((4, 1), bool), {}, {"all": np.array([[0], [3]])}, TIMES
)
RUN = SimpleNamespace(
    history={"loss": np.array([3.0, 2, 1])}, evaluations={"step": [1, 3], "loss": [3, 2]}, best_step=3
)
CURVES = {name: np.ones((4, 3)) * n for n, name in enumerate("abcdef", 1)}


def found(count=3):
    """A stable point, a saddle, and one with two unstable directions."""
    values = np.array([[0.5, 0.2, 0.1], [1.5, 0.2, 0.1], [1.5, -1.2, 0.1]])[:count] + 0j
    return FixedPoints(np.eye(3)[:count], np.eye(3)[:count], np.zeros(count), np.zeros((count, 3, 3)), values,
                       np.zeros(count, bool))  # fmt: skip


CALLS = {
    "flow_by_lag": lambda axes=None: plots.flow_by_lag(CURVES, axes),
    "singular_values": lambda axes=None: plots.singular_values(np.exp(-np.arange(8.0).reshape(2, 4)), axes),
    "loss_landscape": lambda axes=None: plots.loss_landscape(Landscape(TIMES, TIMES), axes),
    "loss_curve": lambda axes=None: plots.loss_curve(RUN, axes),
    "history": lambda axes=None: plots.history(RUN, axes),
    "eigenvalues": lambda axes=None: plots.eigenvalues([0.5, 1j], axes),
    "fixed_points": lambda axes=None: plots.fixed_points(found(), STATES, axes),
    "trajectories": lambda axes=None: plots.trajectories(STATES, axes, labels=list("abcde")),
    "steps": lambda axes=None: plots.trajectories(STATES, axes),
    "forecast": lambda axes=None: plots.forecast(STATES[..., 0], None, axes, before=TIMES, truth=np.ones(5)),
    "trial": lambda axes=None: plots.trial(TRIALS, 0, axes),
    "psychometric": lambda axes=None: plots.psychometric([0, 1], {"a": np.array([True, False])}, axes),
}


def contrast(colour, alpha, ground):
    """The contrast ratio of the guidelines for accessible pages (WCAG) of a colour, as opaque as it is, on a ground."""
    rgba = matplotlib.colors.to_rgba(colour, alpha)
    rgb = np.array(rgba[:3]) * rgba[3] + (1 - rgba[3]) * np.array(ground)

    def luminance(rgb):
        return np.where(rgb <= 0.04, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    low, high = sorted((luminance(rgb), luminance(np.array(ground))))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("ground", [(0, 0, 0), (1, 1, 1)], ids=["black", "white"])
def test_grounds(name, ground):
    """Every line, point, text and entry of the legend can be seen on black, and on white."""
    with matplotlib.pyplot.style.context("dark_background" if ground == (0, 0, 0) else "default"):
        axes = drawn(CALLS[name]())
        entries = [] if axes.get_legend() is None else axes.get_legend().get_lines()
        for line in [*axes.lines, *entries]:
            hollow = line.get_linestyle() == "None"
            shown = line.get_markeredgecolor() if hollow else line.get_color()
            assert contrast(shown, line.get_alpha(), ground) > 1.4, line
        for stairs in axes.patches:
            assert contrast(stairs.get_edgecolor(), None, ground) > 1.4
        for text in axes.texts:
            assert contrast(text.get_color(), None, ground) > 1.4
        for dots in axes.collections:
            shown = dots.get_edgecolors() if len(dots.get_edgecolors()) else dots.get_facecolors()
            assert all(contrast(colour, None, ground) > 1.1 for colour in shown)


@pytest.mark.parametrize(("style", "ground"), [("dark_background", (0, 0, 0)), ("default", (1, 1, 1))])
def test_trajectories_are_not_faint(style, ground):
    """Nor is their entry in the legend."""
    with matplotlib.pyplot.style.context(style):
        axes = CALLS["fixed_points"]()
    for line, least in ((axes.lines[0], 2), (axes.get_legend().get_lines()[0], 4)):
        assert contrast(line.get_color(), line.get_alpha(), ground) > least


def test_the_largest_singular_value_is_seen_best():
    """On either ground."""
    for style, ground in (("dark_background", (0, 0, 0)), ("default", (1, 1, 1))):
        with matplotlib.pyplot.style.context(style):
            largest, *_, smallest = CALLS["singular_values"]().lines[4:7]
        assert contrast(largest.get_color(), None, ground) > 10 > contrast(smallest.get_color(), None, ground)


@pytest.mark.parametrize("name", CALLS)
def test_legends_are_inside_of_a_plain_figure(name):
    """Where a layout makes room they are where they were."""
    axes = drawn(CALLS[name](matplotlib.pyplot.subplots(1, 2, figsize=(9, 4))[1][1]))
    if axes.get_legend() is not None:
        box, frame = axes.get_legend().get_window_extent(), axes.get_window_extent()
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1
    own = drawn(plots.eigenvalues([0.5], matplotlib.pyplot.subplots(layout="tight")[1]))
    assert own.get_legend().get_window_extent().y1 < own.get_window_extent().y0


def test_panels_of_a_plain_figure():
    """The legend of several shares is inside, too."""
    metrics = {"loss": [1.0, 2], "accuracy": [0.1, 0.2], "f1": [0.3, 0.4]}
    axes = drawn(plots.history(metrics, figure=matplotlib.pyplot.figure()))
    for panel in axes.figure.axes:
        box = panel.get_legend().get_window_extent() if panel.get_legend() else panel.get_window_extent()
        assert panel.get_window_extent().x1 >= box.x1


def test_a_second_call_continues_the_colours():
    """Of all that take several curves by name, and of a second run."""
    axes = plain_axes()
    for name in "abc":
        plots.flow_by_lag({name: np.ones(4)}, axes)
    assert [line.get_color() for line in axes.lines] == list(plots.COLOURS[:3])
    assert [line.get_linestyle() for line in axes.lines] == list(plots.DASHES[:3])
    axes = plain_axes()
    for name in "ab":
        plots.psychometric([0, 1], {name: np.array([True, False])}, axes)
    assert [bars[0].get_color() for bars in axes.containers] == list(plots.COLOURS[:2])
    axes = plain_axes()
    for _ in range(2):
        plots.history(RUN, axes)
    training = [line.get_color() for line in axes.lines if line.get_label() == "training, each step"]
    assert training == list(plots.COLOURS[:2])


def test_points_without_neighbours():
    """No line shows them: markers do."""
    for values, alone in (([1, np.nan, 2], [0, 2]), ([1, 2, np.nan, 3, np.nan], [3]), ([1, 2, np.nan], None)):
        line = drawn(plots.loss_curve({"loss": values, "grad_norm": values})).lines[0]
        assert line.get_markevery() == alone
        assert line.get_marker() == ("" if alone is None else "o")
    many = np.where(np.arange(200) % 2, np.nan, 1.0)
    assert drawn(plots.history({"loss": many})).lines[0].get_markevery() == list(range(0, 200, 2))
    curve = plots.flow_by_lag({"a": [1.0, 0, 1]}).lines[0]
    assert curve.get_markevery() == [0, 2]
    assert plots.forecast(STATES[..., 0], before=[1, np.nan, 2, 3]).lines[1].get_markevery() == [0]


def test_ticks_at_integers():
    """Of units and steps, also of a single one."""
    activations, weights = plots.activations(None, np.ones((1, 1))), plots.connectivity(np.ones((1, 1)))
    for axes in (activations, weights, plots.flow_by_lag({"a": np.ones(3)}), plots.loss_curve({"loss": [1]})):
        drawn(axes)
        axis = [axes.xaxis, axes.yaxis] if axes.images else [axes.xaxis]
        ticks = np.concatenate([one.get_majorticklocs() for one in axis])
        np.testing.assert_array_equal(ticks, np.round(ticks))


def test_no_fixed_point():
    """The trajectories alone, and words in the legend."""
    axes = drawn(plots.fixed_points(found(0), STATES))
    assert legend(axes) == ["trajectories", "no fixed point was found"]
    assert len(axes.lines) == 5 + 1


def test_panels_of_shares():
    """Known ones between 0 and 1; numbers of another kind that happen to be there have their own panel."""
    metrics = {"loss": [1.0], "token_accuracy": [0.5], "bits_per_byte": [0.9], "F1": [0.2], "recall_in_percent": [80.0],
               "coverage": [0.7], "squared_error": [0.1], "grad_norm": [1.0]}  # fmt: skip
    axes = drawn(plots.history(metrics))
    labels = [panel.get_ylabel() for panel in axes.figure.axes]
    assert labels == ["loss", "", "bits_per_byte", "recall_in_percent", "squared_error", "gradient norm"]
    assert legend(axes.figure.axes[1]) == ["token_accuracy", "F1", "coverage"]


def test_refusals():
    """Labels and lengths that cannot be are named."""
    for message, call in [
        ("ValueError labels: expected a label for each sequence, got 1 of 5 that are None or NaN",
         lambda: plots.trajectories(STATES, labels=[0, 1, np.nan, 0, 1])),
        ("ValueError labels: expected a label for each sequence, got 2 of 5 that are None or NaN",
         lambda: plots.trajectories(STATES, labels=[None, "a", "b", None, "a"])),
        ("TypeError labels: expected all numbers or all strings, got int and str",
         lambda: plots.trajectories(STATES, labels=np.array([1, "a", "b", 2, "a"], object))),
        ("ValueError labels: expected one a sequence, shape [5], got …",
         lambda: plots.trajectories(STATES, labels=[[1], [1, 2], 3, 4, 5])),
        ("ValueError lengths: expected ints of 0 to 6, one above 0 at least, got numbers of 0 to 0",
         lambda: plots.trajectories(STATES, lengths=np.zeros(5, int))),
        ("ValueError lengths: expected ints of 0 to 6, …, got numbers of 1 to 7",
         lambda: plots.trajectories(STATES, lengths=np.array([1, 2, 3, 4, 7]))),
        ("ValueError lengths: expected ints of 0 to 6, …",
         lambda: plots.trajectories(STATES, lengths=[1, 2, 3, 4, np.nan])),
        ("TypeError lengths: expected ints of 0 to 6, …, got <U1[5]",
         lambda: plots.trajectories(STATES, lengths=list("abcde"))),
    ]:  # fmt: skip
        refuses(message, call)
