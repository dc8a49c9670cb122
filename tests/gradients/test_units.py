"""The search for units: a planted unit is found; scores against loops."""

import numpy as np
import pytest
from refusals import refuses

import jaxrnn as rnn
from jaxrnn.data import annotations
from jaxrnn.gradients import find_units

TEXT = 'He said "yes", she "no (or so)".\nThen "perhaps".\n' * 8
STATES = np.random.default_rng(0).normal(size=(len(TEXT), 12))


@pytest.mark.parametrize("sign", [1, -1])
def test_planted_units(sign):
    """A unit that knows whether a quotation is open, and one that counts the line, among units of noise."""
    quoted, position = annotations.inside_quotes(TEXT), annotations.line_position(TEXT)
    states = STATES.copy()
    states[:, 7] = sign * np.tanh(4 * quoted - 2 + 0.1 * STATES[:, 7])
    states[:, 3] = sign * (0.1 * position + 0.1 * STATES[:, 3])
    found = find_units(states, quoted)
    assert (found.order[0], found.score[7], found.auc[7]) == (7, 1, sign > 0)
    assert found.score[found.order[1]] < 0.5
    assert sorted(found.order) == list(range(12))
    found = find_units(states, position)
    assert found.order[0] == 3
    assert found.auc is None
    assert sign * found.correlation[3] > 0.98


def test_area_under_the_curve():
    """It is the probability of a pair in the right order, ties half; correlations are those of NumPy."""
    states, feature = np.round(STATES[:60, :4], 1), STATES[:60, 5] > 0.5  # with ties
    found = find_units(states.reshape(20, 3, 4), feature.reshape(20, 3))
    for n, unit in enumerate(states.T):
        pairs = [(a > b) + 0.5 * (a == b) for a in unit[feature] for b in unit[~feature]]
        np.testing.assert_allclose(found.auc[n], np.mean(pairs), rtol=1e-12)
        np.testing.assert_allclose(found.correlation[n], np.corrcoef(unit, feature)[0, 1], rtol=1e-12)
    np.testing.assert_allclose(found.score, np.abs(2 * found.auc - 1))


def test_a_unit_that_never_changes():
    """It tells nothing."""
    found = find_units(np.ones((4, 2), "float32"), np.array([0, 1, 1, 0], bool))
    assert (found.score == 0).all()
    assert (found.correlation == 0).all()
    assert (found.auc == 0.5).all()


def test_refusals():
    """The message names the argument."""
    state = rnn.LSTM(1, 1).initial_state((5,))
    for message, call in [
        ("TypeError states: expected one array, got LSTMState(h, c); .h or .c is one",
         lambda: find_units(state, np.ones(5))),
        ("ValueError feature: expected one number a step of the states, shape [5], got float64[4]…",
         lambda: find_units(np.ones((5, 2)), np.ones(4))),
        ("ValueError feature: expected two values at least, got True at every step",
         lambda: find_units(np.ones((5, 2)), np.ones(5, bool))),
        ("ValueError states: expected finite numbers, got 1 that are not",
         lambda: find_units(np.array([[1.0], [np.nan]]), np.arange(2))),
        ("TypeError feature: expected bools or numbers, got <U1[2]",
         lambda: find_units(np.ones((2, 1)), np.array(["a", "b"]))),
    ]:  # fmt: skip
        refuses(message, call)
