"""Programs exported for symbolic T and B, serialised, and called with plain arrays."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import assert_close, make
from jax import export
from zoo import VARIANTS, ZOO, H, I, V, few, input_shape, inputs, random_params, reads_ids

import jaxrnn as rnn

KEY = jax.random.key(0)
SIZES = [(5, 3), (7, 1)]  # T, B
CLOSE = 1e-5  # float32


def any_size(shape, dtype=jnp.float32):
    """The shape of an array with symbolic axes, ``"T, B, 3"``."""
    return jax.ShapeDtypeStruct(export.symbolic_shape(shape, scope=SCOPE), dtype)


SCOPE = export.SymbolicScope()


def exported(f, *arguments):
    """A function that was exported, serialised and deserialised."""
    return export.deserialize(export.export(jax.jit(f))(*arguments).serialize()).call


def some_lengths(steps, batch):
    return jnp.asarray(np.resize([steps, steps // 2, 0], batch), jnp.int32)


@pytest.mark.parametrize("name", few([name for name in ZOO if name not in VARIANTS], ["stack-mixed"]))
def test_any_time_and_batch(name):
    """The results of the library at every size, with and without lengths."""
    model, params = make(name, "float32")
    features = "".join(f", {size}" for size in input_shape(model))
    xs = any_size("T, B", jnp.int32) if reads_ids(model) else any_size(f"T, B{features}")

    def both(xs, lengths):
        whole, masked = rnn.unroll(model, params, xs), rnn.unroll(model, params, xs, lengths=lengths)
        return jax.tree.leaves((whole, masked))

    call = exported(both, xs, any_size("B", jnp.int32))
    for steps, batch in SIZES:
        xs, lengths = inputs(model, steps, (batch,), dtype="float32"), some_lengths(steps, batch)
        assert_close(call(xs, lengths), jax.jit(both)(xs, lengths), CLOSE)


def test_parameters_and_states_by_name():
    """Parameters and states are arguments and results, as named tuples."""
    model = rnn.Stack(
        rnn.Embedding(V, H), rnn.LSTM(H, H, peepholes="ifo"), rnn.GRU(H, H, reset_after=True), rnn.Linear(H, V)
    )
    params = random_params(model)
    state = jax.tree.map(lambda x: any_size(f"B, {x.shape[-1]}"), model.initial_state())

    def serve(params, state, ids):
        return rnn.unroll(model, params, ids, state)

    call = exported(serve, params, state, any_size("T, B", jnp.int32))
    ids = inputs(model, 6, (2,))
    between, first = call(params, model.initial_state((2,)), ids[:4])
    _, rest = call(params, between, ids[4:])
    assert isinstance(between[1], rnn.LSTMState)
    assert_close(jnp.concatenate([first, rest]), rnn.unroll(model, params, ids)[1], CLOSE)


@pytest.mark.slow
def test_gradients():
    """The gradient of a loss with lengths, by the derivative rule, for any size."""
    model = rnn.Stack(rnn.LSTM(I, H), rnn.Linear(H, V))
    params = random_params(model)

    def gradient(params, xs, labels, lengths):
        def loss(params):
            return rnn.losses.cross_entropy(rnn.unroll(model, params, xs, lengths=lengths)[1], labels, lengths=lengths)

        return jax.tree.leaves(jax.jit(jax.grad(loss))(params))

    call = exported(gradient, params, any_size(f"T, B, {I}"), any_size("T, B", jnp.int32), any_size("B", jnp.int32))
    for steps, batch in SIZES:
        xs, labels = jnp.ones((steps, batch, I)), jnp.ones((steps, batch), jnp.int32)
        arguments = params, xs, labels, some_lengths(steps, batch)
        assert_close(call(*arguments), gradient(*arguments), CLOSE)


def test_remat_needs_known_steps():
    cell = rnn.GRU(I, H)
    with pytest.raises(ValueError, match="remat: expected False where the number of steps is symbolic, got"):
        exported(lambda xs: rnn.unroll(cell, cell.init(KEY), xs, remat=True)[1], any_size(f"T, B, {I}"))


@pytest.mark.slow
def test_tasks():
    """Classifiers with every pooling; an encoder and decoder that generates."""
    encoder = rnn.Stack(rnn.Embedding(V, H), rnn.Bidirectional(rnn.GRU(H, H)))
    models = [rnn.tasks.Classifier(encoder, 3, pooling=pooling) for pooling in ("last", "mean", "max", "attention")]
    classifiers = [(model, random_params(model)) for model in models]
    attention = rnn.tasks.AdditiveAttention(2 * H, H, 3)
    decoder = rnn.Stack(
        rnn.Embedding(V, H), rnn.tasks.AttentionCell(rnn.GRU(3 * H, H), attention), rnn.Linear(3 * H, V)
    )
    translator = rnn.tasks.EncoderDecoder(encoder, decoder)
    weights = random_params(translator)

    def serve(ids, lengths, tokens):
        logits = [model.apply(params, ids, lengths=lengths) for model, params in classifiers]
        start = translator.start_decoder(weights, ids, lengths=lengths)
        first = jnp.ones(ids.shape[1], jnp.int32)
        greedy = rnn.decoding.greedy(decoder, *start, first, steps=4, eos=2)
        sampled = rnn.decoding.sample(decoder, *start, first, steps=4, key=KEY, top_k=3)[1]
        forced = translator.logits(weights, ids, tokens, lengths=lengths, token_lengths=lengths)
        return logits, greedy.tokens, sampled, forced

    call = exported(serve, any_size("T, B", jnp.int32), any_size("B", jnp.int32), any_size("S + 1, B", jnp.int32))
    for steps, batch in SIZES:
        ids = inputs(encoder, steps, (batch,))
        arguments = ids, some_lengths(steps, batch), ids
        assert_close(call(*arguments), jax.jit(serve)(*arguments), CLOSE)


SERVER = """
import json, sys
import numpy as np
from jax import export

sys.modules["jaxrnn"] = None  # it cannot be imported here
call = export.deserialize(open(sys.argv[1], "rb").read()).call
xs = np.asarray(json.loads(sys.argv[2]), np.float32)
print(json.dumps(np.asarray(call(xs, np.asarray(json.loads(sys.argv[3]), np.int32))).tolist()))
"""


def test_served_without_the_library(tmp_path):
    """A process without jaxrnn gives the same results."""
    model = rnn.Stack(rnn.Bidirectional(rnn.LSTM(I, H)), rnn.Linear(2 * H, 2))
    params, xs, lengths = random_params(model), inputs(model, 4, (2,), dtype="float32"), np.array([4, 2])

    def serve(xs, lengths):
        return rnn.unroll(model, params, xs, lengths=lengths)[1]

    program = export.export(jax.jit(serve))(any_size(f"T, B, {I}"), any_size("B", jnp.int32))
    (tmp_path / "tagger.bin").write_bytes(program.serialize())
    (tmp_path / "serve.py").write_text(SERVER)
    args = [tmp_path / "serve.py", tmp_path / "tagger.bin", json.dumps(np.asarray(xs).tolist()), json.dumps([4, 2])]
    answer = subprocess.run([sys.executable, *args], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert_close(np.asarray(json.loads(answer.stdout)), serve(xs, lengths), CLOSE)
