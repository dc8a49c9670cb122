"""Wrong arguments of a training run are refused, with a message that names what is expected."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refuses

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Streams

KEY = jax.random.key(0)
MODEL = rnn.Stack(rnn.Embedding(7, 3), rnn.GRU(3, 4), rnn.Linear(4, 7))
OPTIMIZER = optax.sgd(0.1)
STREAMS = Streams(np.arange(60, dtype=np.int32) % 7, 2, 5)
STEP = learning.train_step(learning.stream_loss(MODEL), OPTIMIZER)


def state(carry):
    """The initial train state, with a given carry."""
    return learning.train_state(MODEL.init(KEY), OPTIMIZER, carry)


def fit(step=STEP, start=None, batches=STREAMS, **options):
    """A short run with one wrong argument."""
    start = state(MODEL.initial_state((2,))) if start is None else start
    return learning.fit(step, start, batches, steps=2, key=KEY, verbose=False, **options)


def plain_loss(params, carry, chunk, key):
    """A loss that does not return carry and metrics."""
    return jnp.sum(params[2].b)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (r"carry: expected tuple of 3, got tuple of 0; .*initial_state", lambda: fit(start=state(()))),
        (r"carry\[1\]: expected shape \[2, 4\], got float32\[3, 4\]",
         lambda: fit(start=state(MODEL.initial_state((3,))))),
        (r"state: expected a TrainState, got .*train_state\(", lambda: fit(start=MODEL.init(KEY))),
        (r"loss: expected \(value, \(carry, metrics\)\) from it",
         lambda: fit(learning.train_step(plain_loss, OPTIMIZER))),
        (r"batches: expected one for each of steps=2, got list of 1; epochs=2 repeats them, or steps=1",
         lambda: fit(batches=[STREAMS[0]])),
        (r"batches: expected batches, one at least, got tuple", lambda: fit(batches=())),
        (r"batches: .* got ndarray of 1", lambda: fit(batches=np.zeros((1, 2)))),
        (r"batches: expected a source of batches, got dict", lambda: fit(batches={0: STREAMS[0]})),
        (r"metadata\['rates'\]: expected what a checkpoint can store: None, .*, got set \{3\}; sorted",
         lambda: fit(metadata={"rates": {3}})),
        (r"resume: expected one of 'anyway', True or False, got 'yes'", lambda: fit(resume="yes")),
        (r"checkpoints: expected a value, which resume=True requires", lambda: fit(resume=True)),
        (r"evaluate: expected a value, which patience=2 requires", lambda: fit(patience=2)),
        (r"evaluate: expected a value, which evaluate_every=2 requires", lambda: fit(evaluate_every=2)),
        (r"evaluate: expected a dict .* from it, got float", lambda: fit(evaluate=lambda params, step: 1.0)),
        (r"evaluate, entry 'a': expected a number or a text", lambda: fit(evaluate=lambda p, step: {"a": np.ones(3)})),
        (r"folder: expected a path, got GRU", lambda: learning.Checkpoints(rnn.GRU(2, 2), "folder")),
        (r"folder: expected a folder, got .*, where .* is a file", lambda: learning.Checkpoints(__file__, None)),
        (r"ids: expected integers \[N\], got str", lambda: Streams("hello", 2, 5)),
        (r"ids: expected integers \[N\], got float64\[2, 30\]", lambda: Streams(np.zeros((2, 30)), 2, 5)),
    ],
)  # fmt: skip
def test_refusals(message, call):
    """The message names the argument, what was expected and what was given."""
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize("layer", [lambda cell: cell, lambda cell: rnn.Residual(cell, "concat"), rnn.Stack])
def test_a_bidirectional_model_is_refused_for_streams(layer):
    """It would see its targets, wherever in the model the Bidirectional layer is."""
    model = rnn.Stack(rnn.Embedding(7, 2), layer(rnn.Bidirectional(rnn.GRU(2, 3))), rnn.Dropout(0.5))
    words = f"TypeError model: expected a unidirectional model, got {model}; Bidirectional sees the inputs to come, …"
    refuses(words, lambda: learning.stream_loss(model))
    refuses(words, lambda: learning.truncated_unroll(model, (), (), jnp.zeros((4, 2), int), steps=2))


def test_a_step_returns_a_pair():
    """A user's cell whose step does not return its output."""

    class Forgetful(rnn.GRU):
        """Its step returns only the state."""

        def step(self, params, h, x):
            return h

    cell = Forgetful(3, 4)
    with pytest.raises(TypeError, match=r"step: expected the pair \(state, y\) from it"):
        rnn.unroll(cell, cell.init(KEY), jnp.ones((5, 3)))


def test_a_finished_run_prints_that_it_is_finished(tmp_path, capsys):
    """When it is resumed, no step is left."""
    checkpoints = learning.Checkpoints(tmp_path, MODEL)
    fit(checkpoints=checkpoints)
    start = state(MODEL.initial_state((2,)))
    learning.fit(STEP, start, STREAMS, steps=2, key=KEY, checkpoints=checkpoints, resume=True)
    assert "nothing to do: the run is at step 2" in capsys.readouterr().out
