"""Plots: drawn data, labels and legends, refusals; matplotlib is imported at the first call."""

import json
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figures import agg_backend, drawn, legend, matplotlib  # noqa: F401  (a fixture)

import jaxrnn as rnn
from jaxrnn import plots
from jaxrnn.gradients import FixedPoints, GateStatistics, Landscape


def statistics(closed, open_, time_constant=None):
    return GateStatistics(*(jnp.full(4, value) for value in (closed, open_, 0.5)), time_constant)


def some_points():
    """A stable point, a saddle, and a point with two unstable directions, in three dimensions."""
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    values = np.array([[0.5, 0.2, 0.1], [1.5, 0.2, 0.1], [1.5, -1.2, 0.1]]) + 0j
    return FixedPoints(points, points, np.zeros(3), np.zeros((3, 3, 3)), values, np.array([True, False, False]))


TRAJECTORIES = np.random.default_rng(0).normal(size=(6, 5, 3)) * np.array([3.0, 1.0, 0.1])
CALLS = {
    "flow_by_lag": lambda **axes: plots.flow_by_lag({"LSTM": jnp.ones(5)}, **axes),
    "singular_values": lambda **axes: plots.singular_values(jnp.ones((5, 3)), **axes),
    "gate_saturation": lambda **axes: plots.gate_saturation({"z": statistics(0.1, 0.2)}, **axes),
    "loss_curve": lambda **axes: plots.loss_curve({"loss": jnp.ones(5)}, **axes),
    "history": lambda **axes: plots.history({"loss": jnp.ones(5)}, **axes),
    "eigenvalues": lambda **axes: plots.eigenvalues(jnp.array([0.5, 1j]), **axes),
    "fixed_points": lambda **axes: plots.fixed_points(some_points(), TRAJECTORIES, **axes),
    "trajectories": lambda **axes: plots.trajectories(TRAJECTORIES, **axes),
    "connectivity": lambda **axes: plots.connectivity(np.eye(4), **axes),
    "loss_landscape": lambda **axes: plots.loss_landscape(Landscape(np.arange(3) - 1, np.ones((3, 3))), **axes),
    "activations": lambda **axes: plots.activations("abc", np.ones((3, 2)), **axes),
    "saliency": lambda **axes: plots.saliency("abc", np.ones(3), **axes),
    "attention": lambda **axes: plots.attention("abc", "de", np.ones((2, 3)) / 3, **axes),
}


@pytest.mark.parametrize("name", CALLS)
def test_axes(name):
    """A new figure, or the given axes, which are returned; both axes have labels."""
    axes = drawn(CALLS[name]())
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    own = matplotlib.pyplot.subplots()[1]
    assert CALLS[name](axes=own) is own
    assert len(matplotlib.pyplot.get_fignums()) == 2


def test_flow_by_lag():
    """Time is reversed, from lag 0; of a batch the median with a band is drawn; zeros are not."""
    curves = {"one": jnp.array([0.0, 0.25, 0.5, 1.0]), "batch": jnp.array([[0.1, 0.3, 0.2], [1, 3, 2]])}
    axes = drawn(plots.flow_by_lag(curves, quantity="‖dL/dh‖"))
    one, batch = axes.lines
    np.testing.assert_allclose(one.get_xydata(), [[0, 1], [1, 0.5], [2, 0.25], [3, np.nan]])
    np.testing.assert_allclose(batch.get_ydata(), [2, 0.2], rtol=1e-6)
    np.testing.assert_allclose(sorted(set(axes.collections[0].get_paths()[0].vertices[:, 1])), [0.1, 0.3, 1, 3])
    assert (axes.get_yscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "lag k [steps]", "‖dL/dh‖")
    assert legend(axes) == ["one", "batch"]
    axes = drawn(plots.flow_by_lag({"one step": [1.0], "none": [0.0], "lost": [[jnp.nan, jnp.inf]]}))
    assert axes.lines[0].get_marker() == "o"
    assert legend(axes) == ["one step", *(f"{name} (0 or not finite throughout)" for name in ("none", "lost"))]
    lines = plots.flow_by_lag({name: [1] for name in "abcdef"}).lines
    assert len({line.get_color() for line in lines}) == 6
    assert len({line.get_linestyle() for line in lines}) > 1


def test_singular_values():
    """By lag from 1, without values below the rounding error of the largest."""
    values = jnp.array([[1.0, 0.5, 0.1], [0.9, 0.2, 1e-9]])
    axes = drawn(plots.singular_values(values))
    smallest = axes.lines[2]
    np.testing.assert_allclose(smallest.get_xydata(), [[1, 0.1], [2, np.nan]])
    assert axes.get_yscale() == "log"
    assert legend(axes) == ["largest", "median", "smallest"]
    assert legend(plots.singular_values(jnp.ones((1, 1), "bfloat16"))) == ["largest"]


def test_gate_saturation():
    """One bar per gate, which sums to 100 %; the memory of "keep" is in the title."""
    memory = jnp.array([1.0, 2.0, 2.5, 8.0, jnp.inf])
    gates = {"f": statistics(0.25, 0.5), "keep": statistics(0.25, 0.5, memory), "o": statistics(0.0, 1.0)}
    axes = drawn(plots.gate_saturation(gates))
    widths = [[bar.get_width() for bar in bars] for bars in axes.containers]
    np.testing.assert_allclose(widths, [[25, 0], [25, 0], [50, 100]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["f", "o"]
    assert axes.get_xlim() == (0, 100)
    assert axes.get_title() == "units remember 2.5 steps (median; 1 to inf)"
    assert legend(axes) == ["closed", "in between", "open"]


def test_loss_curve_of_arrays():
    """The loss; the norm on its own logarithmic axis, and a mark at each step that was clipped."""
    metrics = {"loss": jnp.arange(4.0), "grad_norm": jnp.array([0.5, 2.0, 3.0, 0.1]), "finite": jnp.ones(4)}
    axes = drawn(plots.loss_curve(metrics, clip=1.0, quantity="loss [nats]"))
    right = axes.figure.axes[-1]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("optimizer step", "loss [nats]")
    assert (right.get_yscale(), right.get_ylabel()) == ("log", "gradient norm before clipping")
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[1, 0], [2, 1], [3, 2], [4, 3]])
    marks = next(line for line in right.lines if line.get_label().startswith("clipping acted"))
    assert marks.get_xdata().tolist() == [2, 3]
    assert marks.get_label() == "clipping acted, 50% of steps"
    assert "clipped above 1" in legend(axes)


def test_loss_curve_of_a_run(tmp_path):
    """The file that ``learning.fit`` writes: steps, NaN for null, validation, the running mean of a long run."""
    steps = range(1, 201)
    lines = [{"step": n, "loss": 2.0, "grad_norm": 0.5, "finite": True} for n in steps]
    lines[9] |= {"loss": None, "grad_norm": None, "finite": False}
    lines.insert(100, {"step": 100, "evaluation": {"loss": 1.5}})
    lines.append({"step": 200, "evaluation": {"accuracy": 1.0}})
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    axes = drawn(plots.loss_curve(path))
    each, mean, validation = axes.lines
    assert each.get_xdata().tolist() == list(steps)
    assert np.isnan(each.get_ydata()).sum() == 1
    np.testing.assert_allclose(mean.get_ydata(), 2)
    assert validation.get_xydata().tolist() == [[100, 1.5]]


def a_run(steps=4, best_step=2):
    """What ``fit`` returns, as far as it is drawn: accuracy and error are shares, perplexity is not."""
    count = np.arange(1.0, steps + 1)
    training = {"step": count, "loss": 1 / count, "grad_norm": count, "finite": count > 0, "accuracy": 1 - 1 / count}
    evaluations = {"step": np.array([2.0, 4]), "loss": np.array([0.6, 0.7]), "error": np.array([0.5, np.nan]),
                   "perplexity": np.array([3.0, 2])}  # fmt: skip
    return SimpleNamespace(history=training, evaluations=evaluations, best_step=best_step)


def test_history_of_a_run():
    """A panel for the loss, for shares, for each other metric; points of the evaluations, the best one marked."""
    axes = drawn(plots.history(a_run(), quantity="loss [nats]"))
    loss, shares, perplexity, norm = axes.figure.axes
    labels = [panel.get_ylabel() for panel in axes.figure.axes]
    assert labels == ["loss [nats]", "", "perplexity", "gradient norm"]
    assert legend(loss) == ["training, each step", "evaluation", "best, step 2"]
    assert legend(shares) == ["accuracy", "error"]
    assert norm.get_yscale() == "log"
    by_label = {line.get_label(): line for line in loss.lines}
    np.testing.assert_allclose(
        by_label["training, each step"].get_xydata(), [[1, 1], [2, 1 / 2], [3, 1 / 3], [4, 1 / 4]]
    )
    np.testing.assert_allclose(by_label["evaluation"].get_xydata(), [[2, 0.6], [4, 0.7]])
    stars = [line.get_xydata().tolist() for line in loss.lines if line.get_marker() == "*"]
    assert [[2.0, 0.6]] in stars
    assert any(line.get_xydata().tolist() == [[2, 0.5]] for line in shares.lines if line.get_marker() == "o")
    assert perplexity.get_xlim() == loss.get_xlim()
    assert "best, step 2" not in legend(plots.history(a_run(best_step=None)))


def test_history_in_a_figure():
    """The same figure takes a growing run, and has room for its panels; names choose metrics; axes take the loss."""
    figure = matplotlib.pyplot.figure(figsize=(7, 3))
    for steps in (1, 4, 200, 5000):
        run = a_run(steps)
        axes = drawn(plots.history((run.history, run.evaluations if steps > 1 else {}), figure=figure))
        assert axes.figure is figure
        assert len(figure.axes) == (3 if steps == 1 else 4)
    assert figure.get_figheight() > 6
    mean = next(line for line in axes.lines if line.get_label() == "training, running mean")
    assert 1000 < len(mean.get_xdata()) <= 2000
    assert mean.get_xdata()[-1] == 5000
    np.testing.assert_allclose(mean.get_ydata()[-1], np.mean(1 / np.arange(4901.0, 5001)))
    chosen = plots.history(a_run(), metrics=["error", "grad_norm"])
    assert [panel.get_ylabel() for panel in chosen.figure.axes] == ["error", "gradient norm"]
    shares = drawn(plots.history(a_run(), metrics=["error", "accuracy"]))
    legends = [artist for artist in shares.get_children() if isinstance(artist, matplotlib.legend.Legend)]
    assert [len(entry.get_texts()) for entry in legends] == [2, 3]
    own = matplotlib.pyplot.subplots()[1]
    assert plots.history(a_run(), own) is own
    assert len(own.figure.axes) == 1


def test_a_log_is_drawn_like_the_run(tmp_path):
    """But for the best step, which the log does not say; a loss curve takes what ``fit`` returned, too."""
    run = a_run(best_step=None)
    lines = [{"step": n + 1, **{k: float(v[n]) for k, v in run.history.items() if k != "step"}} for n in range(4)]
    evaluations = run.evaluations
    lines += [{"step": 2, "evaluation": {k: v[0] for k, v in evaluations.items() if k != "step"}},
              {"step": 4, "evaluation": {"loss": 0.7, "error": None, "perplexity": 2}}]  # fmt: skip
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for draw in (plots.history, plots.loss_curve):
        a, b = (
            [[line.get_xydata().tolist() for line in panel.lines] for panel in draw(run).figure.axes]
            for run in (tmp_path / "log.jsonl", run)
        )
        assert a == b


def test_eigenvalues():
    """Equal aspect, the unit circle, numbers inside and outside of it; the legend is below the axes."""
    axes = drawn(plots.eigenvalues(np.array([[0.5, 0.5j], [2, 1]])))
    assert axes.get_aspect() == 1
    assert legend(axes) == ["unit circle", "decays (2)", "grows or stays (2)"]
    np.testing.assert_allclose(np.hypot(*axes.lines[0].get_xydata().T), 1)
    np.testing.assert_allclose(axes.lines[2].get_xydata(), [[2, 0], [1, 0]])
    assert axes.get_legend().get_window_extent().y1 < axes.get_window_extent().y0


def test_fixed_points():
    """In the plane of the first two principal components, for states of one or several arrays; markers by stability."""
    axes = drawn(plots.fixed_points(some_points(), TRAJECTORIES))
    assert legend(axes) == [
        "trajectories",
        "stable (1)",
        "one unstable direction (1)",
        "several unstable directions (1)",
    ]
    centred = (TRAJECTORIES - TRAJECTORIES.mean((0, 1))).reshape(-1, 3)
    share = np.linalg.eigvalsh(centred.T @ centred)[::-1]
    assert axes.get_xlabel() == f"principal component 1 ({share[0] / share.sum():.0%} of the variance)"
    assert axes.get_ylabel() == f"principal component 2 ({share[1] / share.sum():.0%} of the variance)"
    assert len(axes.lines) == 5 + 3
    state = rnn.LSTM(1, 1).initial_state((6, 5))
    pairs = type(state)(*(jnp.asarray(TRAJECTORIES[..., n : n + 1]) for n in range(2)))
    cut = some_points()._replace(points=some_points().points[:, :2])
    lines = drawn(plots.fixed_points(cut, pairs)).lines
    np.testing.assert_allclose(
        np.ptp(lines[0].get_xdata()), np.ptp(TRAJECTORIES[:, 0, :2] @ np.linalg.svd(centred[:, :2])[2][0]), rtol=0.05
    )


def test_refusals(tmp_path):
    """The message names the argument."""
    with pytest.raises(ValueError, match=r"values: expected \[T, S\].*got float32\[3\]"):
        plots.singular_values(jnp.ones(3))
    with pytest.raises(ValueError, match="statistics: expected those of a cell with gates, got none"):
        plots.gate_saturation({})
    with pytest.raises(
        ValueError, match="metrics: expected a path, or arrays by name with a loss among them, got step"
    ):
        plots.loss_curve({"step": [1]})
    with pytest.raises(ValueError, match=r"metrics\['grad_norm'\]: expected as many numbers"):
        plots.loss_curve({"loss": [1, 2], "grad_norm": [1]})
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="metrics: expected lines with a loss"):
        plots.loss_curve(tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match=r"trajectories: expected states \[T, ..., 3\], .* got float64\[6, 5, 2\]"):
        plots.fixed_points(some_points(), TRAJECTORIES[..., :2])
    one = some_points()._replace(points=np.zeros((3, 1)))
    with pytest.raises(ValueError, match="found: expected points of two numbers or more, for a plane"):
        plots.fixed_points(one, TRAJECTORIES[..., :1])
    with pytest.raises(ValueError, match="values: expected finite numbers, got 2 that are not, of 3"):
        plots.eigenvalues([1.0, jnp.nan, jnp.inf])
    with pytest.raises(ValueError, match=r"curves\['a'\]: expected an array, norms \[T, ...\], got float64\[0\]"):
        plots.flow_by_lag({"a": []})
    (tmp_path / "broken.jsonl").write_text('{"loss": 1}\n{"lo')
    with pytest.raises(ValueError, match=r"metrics: expected lines of JSON, as learning.fit writes them, got .*broken"):
        plots.loss_curve(tmp_path / "broken.jsonl")
    with pytest.raises(
        FileNotFoundError, match=r"^metrics: expected a file that learning.fit wrote, got .*none.jsonl: "
    ):
        plots.loss_curve(tmp_path / "none.jsonl")
    (tmp_path / "other.jsonl").write_text("3\n[1]\n")
    with pytest.raises(ValueError, match="metrics: expected lines with a loss"):
        plots.loss_curve(tmp_path / "other.jsonl")


def test_empty_values_and_wrong_shapes():
    """They are refused before matplotlib is called."""
    half = TRAJECTORIES[..., :1], TRAJECTORIES[:3, :, 1:]
    for draw, words in [
        (lambda: plots.flow_by_lag({}), "^curves: expected one curve at least, got none"),
        (lambda: plots.flow_by_lag({"a": jnp.zeros((0, 4))}), r"^curves\['a'\]: expected an array, .* float64\[0, 4\]"),
        (lambda: plots.singular_values([]), r"^values: expected an array, \[T, S\], .* got float64\[0\]"),
        (
            lambda: plots.gate_saturation({"z": jnp.ones(4)}),
            r"^statistics\['z'\]: expected those of one gate, .* float32",
        ),
        (
            lambda: plots.gate_saturation({"z": GateStatistics(*[np.ones(0)] * 3, None)}),
            r"^statistics\['z'\]: expected",
        ),
        (
            lambda: plots.loss_curve({"loss": []}),
            r"^metrics\['loss'\]: expected an array, numbers \[K\], .* float64\[0\]",
        ),
        (lambda: plots.history({"step": [1]}), "^run: expected a path, or arrays by name with a loss among them"),
        (lambda: plots.history(([1], [1])), "^run: expected a path, or arrays by name, a dict, got tuple of 2"),
        (lambda: plots.history(a_run(), metrics=["f1"]), "^metrics: expected one of 'loss', .* got 'f1'"),
        (
            lambda: plots.history(a_run(), matplotlib.pyplot.gca(), figure=matplotlib.pyplot.gcf()),
            "^figure: expected None where axes are given, got both",
        ),
        (lambda: plots.loss_curve({"loss": "low"}), r"^metrics\['loss'\]: expected an array, .* got str low"),
        (lambda: plots.loss_curve({"loss": [[1], [1, 2]]}), r"^metrics\['loss'\]: expected an array, .* got list of 2"),
        (lambda: plots.loss_curve({"loss": [[1, 2]]}), r"^metrics\['loss'\]: expected as many numbers"),
        (lambda: plots.eigenvalues([]), r"^values: expected an array, eigenvalues, got complex128\[0\]"),
        (lambda: plots.fixed_points(some_points(), half), r"^trajectories: expected states \[T, ..., 3\]"),
        (
            lambda: plots.fixed_points(some_points(), TRAJECTORIES * np.nan),
            "^trajectories: expected finite numbers, got 90",
        ),
        (lambda: plots.fixed_points(some_points(), ()), r"^trajectories: expected states \[T, ..., 3\]"),
    ]:
        with pytest.raises((TypeError, ValueError), match=words):
            draw()
    drawn(plots.singular_values(np.ones((3, 2), int)))


def test_wrong_types():
    """The message says what to pass instead."""
    flow = rnn.LSTM(1, 1).initial_state((4,))
    for draw, words in [
        (lambda: plots.flow_by_lag(jnp.ones(4)), "curves: expected norms over time by name, .* a dict, got float32"),
        (lambda: plots.flow_by_lag({"LSTM": flow}), r"curves\['LSTM'\]: expected an array.*each of .h and .c is one"),
        (lambda: plots.flow_by_lag({"LSTM": "flow"}), r"curves\['LSTM'\]: expected an array, norms .* got str flow"),
        (
            lambda: plots.gate_saturation(((), {})),
            r"statistics: expected those of one cell.* got tuple.*statistics\[n\]",
        ),
        (lambda: plots.loss_curve([1.0, 2.0]), "metrics: expected a path, or arrays by name, a dict, got list of 2"),
        (
            lambda: plots.eigenvalues(some_points()),
            "values: expected an array, eigenvalues, got FixedPoints.*eigenvalues",
        ),
        (lambda: plots.eigenvalues(None), "values: expected an array, eigenvalues, got None"),
        (
            lambda: plots.fixed_points(TRAJECTORIES, TRAJECTORIES),
            "found: expected what gradients.fixed_points gives, got float64",
        ),
        (lambda: plots.eigenvalues([1.0], np.zeros(2)), r"axes: expected Axes of matplotlib, .*axes\[0\]"),
    ]:
        with pytest.raises(TypeError, match=words):
            draw()


def test_without_matplotlib():
    """jaxrnn.plots can be imported without it; the message of a call says what to install."""
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import jaxrnn as rnn\n"
        "try: rnn.plots.flow_by_lag({'a': [1.0]})\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "rnn.plots: drawing needs matplotlib; pip install 'jaxrnn[scripts]'\n"
    program = "import sys, jaxrnn; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_results_of_gradients():
    """The plots take the results of :mod:`jaxrnn.gradients`."""
    cell, xs = rnn.LSTM(3, 4), jnp.ones((6, 2, 3))
    params = cell.init(jax.random.key(0))
    flow = rnn.gradients.gradient_flow(cell, params, xs, lambda final, ys: ys.sum())
    drawn(plots.flow_by_lag({"h": flow.h, "c": flow.c}))
    drawn(plots.gate_saturation(rnn.gradients.gate_statistics(cell, params, xs)))
