"""The synthetic tasks, each sequence checked in plain Python against the docstring."""

import functools
import math

import jax
import numpy as np
import pytest
from refusals import refuses

from jaxrnn.data import synthetic

B, T = 400, 40
KEY = jax.random.key(3)
TASKS = {
    "adding": synthetic.adding,
    "temporal_order": synthetic.temporal_order,
    "copying": synthetic.copying,
    "sine": synthetic.sine,
    "flip_flop": synthetic.flip_flop,
    "dyck": functools.partial(synthetic.dyck, kinds=3, depth=4),
}


@functools.cache
def compiled(name):
    """A task as a function of the key."""
    return jax.jit(lambda key: TASKS[name](key, B, T))


@functools.cache
def made(name):
    """A batch of a task, as NumPy arrays."""
    return jax.tree.map(np.asarray, compiled(name)(KEY))


def assert_mean(values, expected, errors=5):
    """The mean of independent values is the expected one, up to 5 standard errors."""
    values = np.asarray(values, float)
    assert abs(values.mean() - expected) < errors * max(values.std(), 1e-3) / math.sqrt(len(values))


@pytest.mark.parametrize("name", TASKS)
def test_the_key_determines_the_batch(name):
    """The same key gives the same batch, another key another one."""
    for one, other in zip(compiled(name)(KEY), made(name), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (np.asarray(compiled(name)(jax.random.key(4)).inputs) != made(name).inputs).any()


def test_adding():
    """Two marks per sequence, uniform over pairs of steps; the target is the sum; predicting 1 costs 1/6."""
    inputs, targets = made("adding")
    assert inputs.shape == (T, B, 2)
    mark_steps = []
    for b in range(B):
        marked = [t for t in range(T) if inputs[t, b, 1]]
        assert len(marked) == 2
        assert set(inputs[:, b, 1]) == {0, 1}
        assert targets[b, 0] == pytest.approx(sum(inputs[t, b, 0] for t in marked), abs=1e-6)
        mark_steps += marked
    assert ((inputs[..., 0] >= 0) & (inputs[..., 0] < 1)).all()
    assert_mean(inputs[..., 0].ravel(), 1 / 2)
    assert_mean(mark_steps, (T - 1) / 2)
    assert set(mark_steps) == set(range(T))
    assert_mean((targets[:, 0] - 1) ** 2, 1 / 6)


@pytest.mark.parametrize("steps", [10, 40, 57])
def test_temporal_order(steps):
    """One mark in each of the two tenths, distractors elsewhere; the class is their symbols in order."""
    inputs, targets = (np.asarray(x) for x in synthetic.temporal_order(KEY, B, steps))
    assert (inputs.sum(-1) == 1).all()
    symbols = inputs.argmax(-1)
    for b in range(B):
        marked = [t for t in range(steps) if symbols[t, b] < 2]
        assert len(marked) == 2
        assert steps // 10 <= marked[0] < 2 * (steps // 10)
        assert 5 * (steps // 10) <= marked[1] < 6 * (steps // 10)
        assert targets[b] == ["AA", "AB", "BA", "BB"].index("".join("AB"[symbols[t, b]] for t in marked))
    for n in range(4):
        assert_mean(targets == n, 1 / 4)
    assert set(symbols.ravel()) == set(range(6))


@pytest.mark.parametrize(("steps", "symbols", "length"), [(T, 8, 10), (1, 2, 3), (5, 1, 1)])
def test_copying(steps, symbols, length):
    """The string, a delay, the start signal, and the string again, which the mask selects."""
    task = synthetic.copying(KEY, B, steps, symbols=symbols, length=length)
    inputs, targets, mask = (np.asarray(x) for x in task)
    for b in range(B):
        string = inputs[:length, b].tolist()
        assert all(1 <= symbol <= symbols for symbol in string)
        assert inputs[:, b].tolist() == [*string, *[0] * (steps - 1), symbols + 1, *[0] * length]
        assert targets[:, b].tolist() == [*[0] * (steps + length), *string]
        assert mask[:, b].tolist() == [*[False] * (steps + length), *[True] * length]
    for symbol in range(1, symbols + 1):
        assert_mean((inputs[:length] == symbol).ravel(), 1 / symbols)


def test_sine():
    """Each step follows from the two before it by the recurrence; predicting 0 costs 1/2."""
    inputs, targets, mask = made("sine")
    np.testing.assert_array_equal(inputs[1:], targets[:-1])
    assert mask.tolist() == [[t >= 2] * B for t in range(T)]
    x = np.concatenate([inputs, targets[-1:]])[..., 0].astype(float)
    periods = []
    for b in range(B):
        centre, neighbours = x[1:-1, b], x[2:, b] + x[:-2, b]
        cosine = (centre @ neighbours) / (centre @ centre) / 2
        np.testing.assert_allclose(neighbours, 2 * cosine * centre, atol=2e-5)
        periods.append(2 * math.pi / math.acos(cosine))
    assert 10 - 0.01 < min(periods) < max(periods) < 50 + 0.1
    assert_mean(periods, 30)
    assert_mean((targets**2).mean((0, 2)), 1 / 2)


@pytest.mark.parametrize(("channels", "rate"), [(3, 0.1), (1, 0.5), (2, 0.0)])
def test_flip_flop(channels, rate):
    """Each channel holds its last pulse; the costs of 0 and of repeating the input are those of the docstring."""
    task = synthetic.flip_flop(KEY, B, T, channels=channels, rate=rate)
    inputs, targets, mask = (np.asarray(x) for x in task)
    assert mask.all()
    assert set(inputs.ravel()) <= {-1.0, 0.0, 1.0}
    for b, c in np.ndindex(B, channels):
        held = 0.0
        for t in range(T):
            held = inputs[t, b, c] or held
            assert targets[t, b, c] == held
    assert_mean((inputs != 0).mean((0, 2)), rate)
    assert_mean(inputs.mean((0, 2)), 0)
    zero = 1 - sum((1 - rate) ** t for t in range(1, T + 1)) / T
    assert_mean((targets**2).mean((0, 2)), zero)
    assert_mean(((targets - inputs) ** 2).mean((0, 2)), zero - rate)


@pytest.mark.parametrize(("kinds", "depth", "steps"), [(3, 4, T), (2, 1, 6), (1, 2, 2), (2, 9, 8)])
def test_dyck(kinds, depth, steps):
    """Parsed with a stack: every bracket closes the innermost open one, and all are closed at the end."""
    words, targets, mask = (np.asarray(x) for x in synthetic.dyck(KEY, B, steps, kinds=kinds, depth=depth))
    deepest, innermost = 0, []
    for b in range(B):
        stack = []
        for t, symbol in enumerate(words[:, b]):
            if symbol < kinds:
                stack.append(symbol)
            else:
                assert stack.pop() == symbol - kinds
            deepest = max(deepest, len(stack))
            assert targets[t, b] == (stack[-1] if stack else kinds)
            assert mask[t, b] == (symbol >= kinds and bool(stack))
        assert not stack
        innermost += targets[mask[:, b], b].tolist()
    assert deepest == min(depth, steps // 2)
    for kind in range(kinds if innermost else 0):
        assert_mean([kind == n for n in innermost], 1 / kinds)


def test_dyck_draws_every_word():
    """Of length 6 with one kind there are 5 words, 4 of them no deeper than 2."""
    for depth, count in ((3, 5), (2, 4), (1, 1)):
        words = np.asarray(synthetic.dyck(KEY, B, 6, kinds=1, depth=depth).inputs)
        assert len({tuple(word) for word in words.T}) == count


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("ValueError batch: expected a positive int, got 0", lambda: synthetic.adding(KEY, 0, 5)),
        ("TypeError steps: expected a positive int, got float 5.0", lambda: synthetic.sine(KEY, 2, 5.0)),
        ("ValueError steps: expected at least 2, for two marks, got 1", lambda: synthetic.adding(KEY, 2, 1)),
        ("ValueError steps: expected at least 10, for two tenths to hold a mark, got 9",
         lambda: synthetic.temporal_order(KEY, 2, 9)),
        ("ValueError shortest: expected a period above 2 steps, at most longest = 50.0, got 2",
         lambda: synthetic.sine(KEY, 2, 5, shortest=2)),
        ("ValueError shortest: expected a period above 2 steps, at most longest = 5.0, got 10.0",
         lambda: synthetic.sine(KEY, 2, 5, longest=5.0)),
        ("ValueError rate: expected a number in [0, 1), got 1; the probability of a pulse",
         lambda: synthetic.flip_flop(KEY, 2, 5, rate=1)),
        ("ValueError steps: expected an even number, as brackets come in pairs, got 5",
         lambda: synthetic.dyck(KEY, 2, 5)),
        ("ValueError length: expected a positive int, got 0", lambda: synthetic.copying(KEY, 2, 5, length=0)),
    ],
)  # fmt: skip
def test_refusals(message, call):
    """Exact messages."""
    refuses(message, call)


@pytest.mark.parametrize("name", TASKS)
def test_a_key_is_required(name):
    """An int or None is refused."""
    words = "TypeError key: expected a %s, got %s; jax.random.key(0) makes one"
    refuses(words % ("random key", "int 0"), lambda: TASKS[name](0, 2, 10))
    refuses(words % ("value", "None"), lambda: TASKS[name](None, 2, 10))
