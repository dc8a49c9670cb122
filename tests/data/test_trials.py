"""Trials of neuroscience: each in plain Python against the docstring, epochs of fixed and of drawn length."""

import functools
import itertools
import math

import jax
import numpy as np
import pytest
from refusals import refuses

from jaxrnn.data import trials

B, KEY = 300, jax.random.key(3)
TASKS = {
    "decision": functools.partial(trials.decision, noise=0.1),
    "decision, drawn": functools.partial(trials.decision, fixation=(100, 400), stimulus=(200, 1000)),
    "context_decision": trials.context_decision,
    "delayed_comparison": functools.partial(trials.delayed_comparison, delay=(300, 500), noise=0.01),
    "delayed_match": functools.partial(trials.delayed_match, delay=(100, 300), stimuli=3),
    "delayed_response": functools.partial(trials.delayed_response, noise=0.01),
}
FAST = ("delayed_match",)
NAMES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in TASKS]


@functools.cache
def compiled(name):
    """A task as a function of the key."""
    return jax.jit(lambda key: TASKS[name](key, B))


@functools.cache
def made(name):
    """A batch of a task, as NumPy arrays."""
    return jax.tree.map(np.asarray, compiled(name)(KEY))


def assert_mean(values, expected, errors=5):
    """The mean of independent values is the expected one, up to 5 standard errors."""
    values = np.asarray(values, float)
    assert abs(values.mean() - expected) < errors * max(values.std(), 1e-3) / math.sqrt(values.size)


def steps_of(batch, epoch, b):
    """The steps of an epoch of trial b."""
    return range(*batch.epochs[epoch][:, b])


@pytest.mark.parametrize("name", NAMES)
def test_the_face(name):
    """Epochs follow one another without a gap; fixation ends where the response begins, which the mask leaves out."""
    batch = made(name)
    steps = len(batch.times)
    assert batch.inputs.shape[:2] == batch.targets.shape[:2] == batch.mask.shape == (steps, B)
    np.testing.assert_allclose(np.diff(batch.times), 20, rtol=1e-5)
    for b in range(B):
        bounds = [batch.epochs[epoch][:, b].tolist() for epoch in batch.epochs]
        assert bounds[0][0] == 0
        assert bounds[-1][1] == steps
        assert all(one[1] == two[0] and one[0] < one[1] for one, two in itertools.pairwise(bounds))
        start = batch.epochs["response"][0, b]
        assert batch.inputs[:, b, 0].tolist() == [1] * start + [0] * (steps - start)
        assert not batch.targets[:start, b].any()
        assert (batch.targets[start:, b] == batch.targets[-1, b]).all()
        assert [t for t in range(steps) if not batch.mask[t, b]] == [start]
    for epoch in batch.epochs:
        during = np.asarray(batch.during(epoch))
        assert all(np.flatnonzero(during[:, b]).tolist() == list(steps_of(batch, epoch, b)) for b in range(B))
    for values in batch.conditions.values():
        assert values.shape == (B,)
    if "choice" in batch.conditions:
        assert (batch.targets[-1] == batch.conditions["choice"]).all()
        assert_mean(batch.conditions["choice"], 1.5)


@pytest.mark.parametrize("name", NAMES)
def test_the_key_determines_the_batch(name):
    """The same key gives the same batch, another key another one."""
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, compiled(name)(KEY)), made(name))
    assert (np.asarray(compiled(name)(jax.random.key(4)).inputs) != made(name).inputs).any()


@pytest.mark.parametrize("name", NAMES[:2])
def test_decision(name):
    """Means and noise of the evidence, nothing outside of the stimulus; the larger one is to be chosen."""
    batch = made(name)
    c, choice, deviation = (
        batch.conditions["coherence"],
        batch.conditions["choice"],
        (0.1 if name == "decision" else 0.15),
    )
    assert set(np.abs(c)) == set(np.float32(trials.COHERENCES))
    assert (choice[c != 0] == np.where(c > 0, 1, 2)[c != 0]).all()
    assert_mean(c, 0)
    shown = np.asarray(batch.during("stimulus"))
    assert not batch.inputs[~shown][:, 1:].any()
    noise = (batch.inputs[..., 1:] - np.stack([1 + c, 1 - c], -1) / 2)[shown]
    assert_mean(noise, 0)
    assert noise.std() == pytest.approx(deviation / math.sqrt(0.02), rel=0.02)
    lengths = shown.sum(0)
    assert (lengths.min(), lengths.max()) == ((60, 60) if name == "decision" else (10, 50))


@pytest.mark.slow
@pytest.mark.parametrize("dt", [10.0, 50.0])
def test_an_ideal_observer(dt):
    """Its accuracy is that of the docstring, whatever the length of a step."""
    batch = trials.decision(KEY, 2000, dt=dt, stimulus=800, coherences=(0.2,), noise=0.2)
    summed = np.asarray((batch.inputs[..., 1] - batch.inputs[..., 2]).sum(0))
    right = np.where(summed > 0, 1, 2) == batch.conditions["choice"]
    assert_mean(right, (1 + math.erf(math.sqrt(0.8) * 0.2 / (2 * 0.2))) / 2)
    batch = trials.context_decision(KEY, 2000, dt=dt, coherences=(0.1,), noise=0.1)
    relevant = np.where(batch.conditions["context"] == 0, *np.asarray(batch.inputs[..., 1:3].sum(0)).T)
    right = np.where(relevant > 0, 1, 2) == batch.conditions["choice"]
    assert_mean(right, (1 + math.erf(math.sqrt(0.8) * 0.1 / (math.sqrt(2) * 0.1))) / 2)


@pytest.mark.slow
def test_context_decision():
    """Context says which of two independent coherences counts."""
    batch = made("context_decision")
    motion, colour, context, choice = (batch.conditions[name] for name in ("motion", "colour", "context", "choice"))
    assert (batch.inputs[..., 3] == (context == 0)).all()
    assert (batch.inputs[..., 4] == (context == 1)).all()
    for b in range(B):
        assert choice[b] == (1 if (motion, colour)[context[b]][b] > 0 else 2)
    assert_mean(context, 1 / 2)
    assert_mean(np.sign(motion * colour), 0)
    shown = np.asarray(batch.during("stimulus"))
    assert not batch.inputs[~shown][:, 1:3].any()
    assert_mean((batch.inputs[..., 1:3] - np.stack([motion, colour], -1))[shown], 0)


@pytest.mark.slow
def test_delayed_comparison():
    """Two frequencies 8 Hz apart; the one that is higher is to be named."""
    batch = made("delayed_comparison")
    for b in range(B):
        f, g = batch.conditions["first"][b], batch.conditions["second"][b]
        assert abs(f - g) == 8
        assert batch.conditions["choice"][b] == (1 if f > g else 2)
        for epoch, level in (("fixation", 0), ("first", f / 34), ("delay", 0), ("second", g / 34), ("response", 0)):
            inputs = batch.inputs[steps_of(batch, epoch, b), b, 1]
            assert inputs.mean() == pytest.approx(level, abs=0.08 * bool(level))
    assert {len(steps_of(batch, "delay", b)) for b in range(B)} == set(range(15, 26))


def test_delayed_match():
    """Half of the pairs match; the stimuli are shown in their epochs only."""
    batch = made("delayed_match")
    sample, test = batch.conditions["sample"], batch.conditions["test"]
    assert (batch.conditions["choice"] == np.where(sample == test, 1, 2)).all()
    assert set(zip(sample.tolist(), test.tolist())) == {(a, b) for a in range(3) for b in range(3)}
    for b in range(B):
        for epoch in batch.epochs:
            shown = {"sample": np.eye(3)[sample[b]], "test": np.eye(3)[test[b]]}.get(epoch, np.zeros(3))
            assert (batch.inputs[steps_of(batch, epoch, b), b, 1:] == shown).all()


@pytest.mark.slow
def test_delayed_response():
    """The cue is on the circle, and so is the response."""
    batch = made("delayed_response")
    angle = 2 * np.pi * batch.conditions["direction"] / 8
    place = np.stack([np.cos(angle), np.sin(angle)], -1)
    np.testing.assert_allclose(batch.conditions["angle"], angle, rtol=1e-6)
    np.testing.assert_allclose(batch.targets[-1], place, atol=1e-6)
    np.testing.assert_allclose(batch.inputs[10:25, :, 1:].mean(0), place, atol=0.1)
    assert not batch.inputs[:10, :, 1:].any()
    assert not batch.inputs[25:, :, 1:].any()
    assert (batch.targets[-1] ** 2).mean() == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("ValueError batch: expected a positive int, got 0", lambda: trials.decision(KEY, 0)),
        ("TypeError key: expected a value, got None; jax.random.key(0) makes one", lambda: trials.decision(None, 2)),
        ("TypeError key: expected a random key, got int 0; jax.random.key(0) makes one", lambda: trials.decision(0, 2)),
        ("ValueError dt: expected a number of ms above 0, got 0", lambda: trials.decision(KEY, 2, dt=0)),
        ("ValueError delay: expected ms, at least a step of 20.0, or (shortest, longest), got 5",
         lambda: trials.delayed_match(KEY, 2, delay=5)),
        ("ValueError stimulus: expected ms, at least a step of 20.0, or (shortest, longest), got (300, 200)",
         lambda: trials.decision(KEY, 2, stimulus=(300, 200))),
        ("ValueError stimulus: expected ms, or (shortest, longest), got (300,)",
         lambda: trials.decision(KEY, 2, stimulus=(300,))),
        ("ValueError coherences: expected numbers in [0, 1], got (0.5, 2.0)",
         lambda: trials.decision(KEY, 2, coherences=(0.5, 2.0))),
        ("TypeError noise: expected a number, got str 1", lambda: trials.decision(KEY, 2, noise="1")),
        ("ValueError noise: expected a number of at least 0, got -1; it is a standard deviation",
         lambda: trials.delayed_response(KEY, 2, noise=-1)),
        ("ValueError frequencies: expected positive ones, two of them 8.0 Hz apart, got (1.0, 2.0)",
         lambda: trials.delayed_comparison(KEY, 2, frequencies=(1.0, 2.0))),
        ("ValueError stimuli: expected at least 2, a match and another, got 1",
         lambda: trials.delayed_match(KEY, 2, stimuli=1)),
        ("ValueError directions: expected a positive int, got 0",
         lambda: trials.delayed_response(KEY, 2, directions=0)),
        ("ValueError epoch: expected one of 'fixation', 'sample', 'delay', 'test', 'response', got 'stimulus'",
         lambda: made("delayed_match").during("stimulus")),
    ],
)  # fmt: skip
def test_refusals(message, call):
    """Exact messages."""
    refuses(message, call)
