"""Plots of trials: what is drawn, and refusals."""

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


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("TypeError trials: expected what data.trials gives, got …", lambda: plots.trial(jnp.ones((4, 2, 3)))),
        ("ValueError number: expected one of the 2 trials, from 0, got 2", lambda: plots.trial(TRIALS, 2)),
        ("ValueError names: expected 3, one for each input, got 1", lambda: plots.trial(TRIALS, names=("fixation",))),
        ("TypeError choices: expected bools by name, a dict, got …", lambda: plots.psychometric(LEVELS, LEVELS)),
        ("ValueError choices['network']: expected shape [2], that of levels, got …",
         lambda: plots.psychometric(LEVELS[:2], CHOICES)),
    ],
)  # fmt: skip
def test_refusals(message, call):
    """Exact messages."""
    refuses(message, call)
