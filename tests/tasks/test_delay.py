"""DelayCell against a Python loop over the cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import assert_close
from refusals import refuses
from zoo import ZOO, B, T, inputs, random_params

import jaxrnn as rnn
from jaxrnn.tasks import DelayCell

LENGTHS = np.array([T, 2, 0])
RESETS = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]], bool)  # [T, B]
CELLS = ["vanilla-tanh", "lstm-peephole-ifo", "gru-after", "stack-deep", "user"]


def by_hand(cell, params, xs):
    """``y_t = h_{t-1}`` of one sequence ``[T, I]``."""
    state, y, ys = cell.initial_state(), np.zeros(cell.output_size), []
    for x in xs:
        ys.append(y)
        state, y = cell.step(params, state, x)
    return np.array(ys).reshape(-1, cell.output_size)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", CELLS[:-1])
def test_both_directions(name):
    """``[→h_{t-1}, ←h_{t+1}]`` within the length of each sequence, 0 in the padding."""
    cell = ZOO[name].build("float64")
    both = rnn.Bidirectional(DelayCell(cell))
    params, xs = random_params(both), inputs(cell)
    _, ys = rnn.unroll(both, params, xs, lengths=LENGTHS)
    for b, n in enumerate(LENGTHS):
        forward, backward = (by_hand(cell, p, x) for p, x in zip(params, (xs[:n, b], xs[:n, b][::-1]), strict=True))
        assert_close(ys[:n, b], np.concatenate([forward, backward[::-1]], -1))
        assert not ys[n:, b].any()


@pytest.mark.usefixtures("x64")
def test_resets_and_carried_state():
    """The first output after a reset is 0; a chunk continues from the final state of the one before."""
    cell = ZOO["gru"].build("float64")
    delayed, params, xs = DelayCell(cell), random_params(cell), inputs(cell)
    _, ys = rnn.unroll(delayed, params, xs, resets=RESETS)
    middle, first = rnn.unroll(delayed, params, xs[:2], resets=RESETS[:2])
    _, second = rnn.unroll(delayed, params, xs[2:], middle, resets=RESETS[2:])
    assert_close(jnp.concatenate([first, second]), ys)
    for b in range(B):
        starts = sorted({0, *np.flatnonzero(RESETS[:, b])})
        pieces = [by_hand(cell, params, piece) for piece in np.split(np.asarray(xs[:, b]), starts[1:])]
        assert_close(ys[:, b], np.concatenate(pieces))


@pytest.mark.usefixtures("x64")
def test_the_output_does_not_depend_on_the_input_of_its_step():
    """Another input at step t changes the outputs of all steps but t, which stays equal bit for bit."""
    model = rnn.Stack(
        rnn.Bidirectional(DelayCell(ZOO["lstm"].build("float64")), DelayCell(ZOO["gru"].build("float64")))
    )
    xs = np.repeat(np.asarray(inputs(model, batch=(1,))), 1 + T, axis=1)
    xs[np.arange(T), np.arange(T)] += 1  # column t has another input at step t, the last column has none
    _, ys = rnn.unroll(model, random_params(model), jnp.asarray(xs))
    changed = (ys[:, :T] != ys[:, T:]).any(-1)
    np.testing.assert_array_equal(changed, ~np.eye(T, dtype=bool))


def test_refusals():
    refuses("TypeError cell: expected a cell or layer, got the class GRU; …", lambda: DelayCell(rnn.GRU))
    refuses(
        "TypeError cell: expected a cell with an output_size, …, got …; …",
        lambda: DelayCell(ZOO["user"].build("float32")),
    )
    refuses(
        "ValueError …: expected last axis 3 …, got …",
        lambda: rnn.unroll(DelayCell(rnn.GRU(3, 4)), rnn.GRU(3, 4).init(jax.random.key(0)), jnp.ones((5, 2))),
    )
