"""Plots of trials: what is drawn, and refusals."""

import itertools
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest
from figures import agg_backend, matplotlib  # noqa: F401  (a fixture)
from refusals import refuses

from jaxrnn import plots
from jaxrnn.data.trials import Trials

EPOCHS = OrderedDict(fixation=jnp.array([[0, 0], [1, 2]]), response=jnp.array([[1, 2], [4, 4]]))
TRIALS = Trials(jnp.arange(24.0).reshape(4, 2, 3), jnp.zeros((4, 2), int), jnp.ones((4, 2), bool), {}, EPOCHS,
                20 * jnp.arange(4.0))  # fmt: skip
LEVELS = np.array([-1, -1, 0, 0, 1, 1, 1, 1])
CHOICES = {"network": np.array([0, 0, 0, 1, 1, 1, 1, 0], bool)}


def test_trial():
    """Each input is a line in proportion to its values; epochs begin at the dotted lines of this trial."""
    own = matplotlib.pyplot.subplots()[1]
    axes = plots.trial(TRIALS, 1, own, names=("fixation", "left", "right"))
    axes.figure.canvas.draw()
    assert axes is own
    drawn = np.array([np.asarray(steps.get_data().values) for steps in axes.patches])
    values = np.asarray(TRIALS.inputs)[:, 1].T
    np.testing.assert_allclose((drawn + np.arange(3)[:, None]) * 2.4 * values.max(), values, atol=1e-4)
    assert [line.get_xdata()[0] for line in axes.lines] == [0, 40]
    assert [text.get_text() for text in axes.texts] == ["fixation", "response"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fixation", "left", "right"]
    assert (axes.get_xlabel(), axes.get_xlim()) == ("time [ms]", (0, 80))


def test_names_of_short_epochs():
    """Those that do not fit are in up to three rows above the axes; the next one is left out."""
    bounds = np.array([[0, 1, 2, 3, 4, 50], [1, 2, 3, 4, 50, 99]])
    names = ["fixation", "stimulus", "delay", "probe", "response", "break"]
    epochs = {name: bounds[:, n : n + 1] for n, name in enumerate(names)}
    trials = TRIALS._replace(inputs=jnp.ones((100, 1, 3)), epochs=epochs, times=20 * np.arange(100.0))
    axes = plots.trial(trials)
    axes.figure.canvas.draw()
    assert [text.get_text() for text in axes.texts] == ["fixation", "stimulus", "delay", "response", "break"]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(box.width for box in boxes)
    assert boxes[0].y0 == boxes[-1].y0 < boxes[1].y0 < boxes[2].y0


def test_psychometric():
    """Shares and standard errors of each level, by hand."""
    axes = plots.psychometric(LEVELS, CHOICES, quantity="coherence of motion")
    axes.figure.canvas.draw()
    line, _, (bars,) = axes.containers[0]
    np.testing.assert_allclose(line.get_xydata(), [[-1, 0], [0, 50], [1, 75]])
    lengths = [np.diff(segment[:, 1])[0] for segment in bars.get_segments()]
    np.testing.assert_allclose(lengths, [0, 200 * (0.25 / 2) ** 0.5, 200 * (0.1875 / 4) ** 0.5])
    assert axes.get_xlabel() == "coherence of motion"
    own = matplotlib.pyplot.subplots()[1]
    assert plots.psychometric({"network": LEVELS}, CHOICES, own) is own
    integers = plots.psychometric(LEVELS, {"network": jnp.asarray(CHOICES["network"], int)})
    np.testing.assert_allclose(integers.lines[0].get_ydata(), [0, 50, 75])


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("TypeError trials: expected what data.trials gives, got …", lambda: plots.trial(jnp.ones((4, 2, 3)))),
        ("ValueError number: expected one of the 2 trials, from 0, got 2", lambda: plots.trial(TRIALS, 2)),
        ("ValueError names: expected 3, one for each input, got 1", lambda: plots.trial(TRIALS, names=("fixation",))),
        ("TypeError choices: expected bools by name, a dict, got …", lambda: plots.psychometric(LEVELS, LEVELS)),
        ("ValueError choices['network']: expected shape [2], that of levels, got …",
         lambda: plots.psychometric(LEVELS[:2], CHOICES)),
        ("ValueError choices['a']: expected bools, choice == 1, got numbers of 1 to 2",
         lambda: plots.psychometric(LEVELS, {"a": 2 - CHOICES["network"]})),
        ("TypeError choices['a']: expected bools, choice == 1, got float64[8]",
         lambda: plots.psychometric(LEVELS, {"a": CHOICES["network"] * 1.0})),
    ],
)  # fmt: skip
def test_refusals(message, call):
    """Exact messages."""
    refuses(message, call)
