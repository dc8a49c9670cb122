"""Which truncation gives the exact gradient, and which an approximation. All in float64."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import KEY
from versions import enable_x64

import jaxrnn as rnn
from jaxrnn.data import Streams
from jaxrnn.learning import mean_loss, stream_loss, truncated_unroll

pytestmark = pytest.mark.usefixtures("x64")

T, B, V = 8, 2, 5
EXACT = 1e-12


def random(tree, seed=0):
    """Normal numbers of deviation 0.8 in the shapes of a tree: states that remember for a few steps."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.8, s.shape)), tree)


GLOROT = {"w_hh_init": "glorot_uniform", "dtype": "float64"}
MODEL = rnn.Stack(
    rnn.Embedding(V, 2, dtype="float64"), rnn.VanillaRNN(2, 3, **GLOROT), rnn.Linear(3, V, dtype="float64")
)


def make():
    """Parameters of the model, and a text that is T steps of B streams."""
    return random(jax.eval_shape(MODEL.init, KEY)), np.random.default_rng(0).integers(0, V, B * T + 1)


def rows(ids):
    """Inputs and targets ``[T, B]`` of the text, without Streams."""
    return ids[:-1].reshape(B, T).T, ids[1:].reshape(B, T).T


def by_hand(params, ids, k1, k2):
    """The loss of every step, from a constant state k2 - k1 steps before its chunk."""
    embedding, cell, readout = params
    xs, ys = rows(ids)

    def step(h, x):
        return jnp.tanh(embedding.w[x] @ cell.w_xh + h @ cell.w_hh + cell.b_h[None])

    states = [jnp.zeros((B, 3))]
    for x in xs:
        states.append(jax.lax.stop_gradient(step(states[-1], x)))
    total = 0.0
    for chunk in range(0, T, k1):
        begin = max(chunk - (k2 - k1), 0)
        h = states[begin]
        for t in range(begin, chunk + k1):
            h = step(h, xs[t])
            if t >= chunk:
                total -= jax.nn.log_softmax(h @ readout.w + readout.b[None])[np.arange(B), ys[t]].sum() / (T * B)
    return total


def by_stream_loss(params, ids, k1, k2):
    """The same by Streams, stream_loss and mean_loss."""
    streams = Streams(ids, B, k1, back=k2)
    assert len(streams) == T // k1
    return mean_loss(stream_loss(MODEL), params, MODEL.initial_state((B,)), streams.epoch())[1]


def exact(params, ids):
    """Full back-propagation through time."""
    xs, ys = rows(ids)
    return rnn.losses.cross_entropy(rnn.unroll(MODEL, params, jnp.asarray(xs))[1], ys)


def gradient(loss, *ks):
    """Value and gradient; only the loop in Python is not compiled."""
    params, ids = make()
    both = jax.value_and_grad(lambda params: loss(params, ids, *ks))
    return both(params) if loss is by_hand else jax.jit(both)(params)


def distance(a, b):
    """The relative difference of two gradients in the norm."""
    flat = [jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)]) for tree in (a, b)]
    return float(jnp.linalg.norm(flat[0] - flat[1]) / jnp.linalg.norm(flat[1]))


@pytest.fixture(scope="module")
def full():
    """Value and gradient of full back-propagation."""
    with enable_x64(True):
        return gradient(exact)


@pytest.mark.parametrize(("k1", "k2", "equal"), [
    (2, 7, False),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in  # (1, 8): from every step back to the start
      [(1, 8, True), (4, 4, False), (8, 8, True), (4, 8, True), (4, 7, False), (1, 4, False)]),
])  # fmt: skip
def test_which_truncation_is_the_exact_gradient(k1, k2, equal, full):
    """All have the exact value, and the gradient of a loop that stops it at the same steps.

    The gradient is exact only if every window reaches back to the start of the sequence.
    """
    value, grads = gradient(by_stream_loss, k1, k2)
    expected, expected_grads = gradient(by_hand, k1, k2)
    assert abs(value - full[0]) < EXACT
    assert abs(value - expected) < EXACT
    assert distance(grads, expected_grads) < EXACT
    error = distance(grads, full[1])
    assert error < EXACT if equal else error > 1e-4


def test_the_error_falls_as_the_gradient_goes_further_back(full):
    """With k1 = 2: it is large at k2 = 2, decreases, and is 0 at k2 = T."""
    errors = [distance(gradient(by_hand, 2, k2)[1], full[1]) for k2 in range(2, T + 1, 2)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.05
    assert errors[-1] < EXACT < 1e-4 < errors[-2]


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize(("k1", "k2"), [(4, 4), (4, 6), (2, 7)])
def test_chunks_with_history_equal_one_unroll(k1, k2, documents):
    """With constant parameters: every output and the carried state are those of one unroll over the whole text."""
    params, ids = make()
    begins = np.random.default_rng(3).random(len(ids)) < 0.25 if documents else None
    streams = Streams(ids, B, k1, back=k2, resets=begins)
    resets = None if begins is None else jnp.asarray(begins[:-1].reshape(B, T).T).at[0].set(True)
    _, expected = rnn.unroll(MODEL, params, jnp.asarray(rows(ids)[0]), resets=resets)
    states = rnn.trajectory(MODEL, params, jnp.asarray(rows(ids)[0]), resets=resets)
    carry = random(MODEL.initial_state((B,)), seed=9)  # as if carried over from the epoch before
    if k1 == k2 and not documents:
        carry = MODEL.initial_state((B,))  # without resets stream_loss does this
    for n, chunk in enumerate(streams):
        resets = None if chunk.resets is None else jnp.asarray(chunk.resets)
        carry, ys = truncated_unroll(MODEL, params, carry, jnp.asarray(chunk.inputs), steps=k1, resets=resets)
        np.testing.assert_allclose(ys, expected[n * k1 : (n + 1) * k1], rtol=0, atol=EXACT)
        last = (n + 1) * k1 - 1 - (k2 - k1)  # the carried state is the one before the next window
        if last >= 0:
            np.testing.assert_allclose(carry[1], states[1][last], rtol=0, atol=EXACT)


class Sum:
    """A user-defined cell: the running sum of its inputs, from the initial state 1."""

    input_ndim = 0

    def init(self, key):
        return {"w": jnp.ones(())}

    def initial_state(self, batch_shape=()):
        return jnp.ones(batch_shape)

    def step(self, params, state, x):
        state = state + params["w"] * x.astype(float)
        return state, state[..., None]


@pytest.mark.parametrize("back", [3, 5])
def test_an_epoch_begins_with_the_initial_state(back):
    """The carry of the last chunk does not leak into the first of the next epoch, for any cell."""
    ids = np.arange(1, 2 * 6 + 2)
    streams = Streams(ids, 2, 3, back=back)
    loss = stream_loss(Sum(), lambda ys, targets: ys.sum())
    sums, carry = [], jnp.zeros(2)
    for n in range(4):
        value, (carry, metrics) = loss({"w": jnp.ones(())}, carry, streams[n], None)
        assert metrics == {"count": 6}  # targets of the chunk
        sums.append(float(value))
    each = [1 + np.cumsum(row) for row in ids[:-1].reshape(2, 6)]
    expected = [sum(row[:3].sum() for row in each), sum(row[3:].sum() for row in each)]
    assert sums == expected * 2


def test_the_gradient_is_stopped_at_both_ends():
    """None to the state before the window, none from the state after it; the outputs depend on the weights."""
    xs, params = jnp.arange(1.0, 6.0), {"w": jnp.ones(())}

    def run(params, carry):
        after, ys = truncated_unroll(Sum(), params, carry, xs, steps=2)
        return after, ys.sum()

    (by_params, by_carry), (w, carry) = jax.jacobian(run, (0, 1))(params, jnp.ones(()))
    assert (float(by_params["w"]), float(by_carry), float(carry)) == (0, 0, 0)
    assert float(w["w"]) == sum(range(1, 5)) + sum(range(1, 6))


def test_options_are_passed_to_the_loss_function():
    """It gets as many outputs as there are targets."""
    params, ids = make()
    chunk = Streams(ids, B, 4, back=6)[1]
    seen = {}

    def loss_fn(outputs, targets, **options):
        seen.update(options, shape=outputs.shape, targets=targets.shape)
        return outputs.sum()

    _, (_, metrics) = stream_loss(MODEL, loss_fn, mean="time_sum")(params, MODEL.initial_state((B,)), chunk, None)
    assert seen == {"mean": "time_sum", "shape": (4, B, V), "targets": (4, B)}
    assert metrics == {"count": B}


def test_dropout_key():
    """The same key gives the same mask; no key, no dropout; history and new steps have different masks."""
    model = rnn.Stack(rnn.Embedding(V, 2, dtype="float64"), rnn.Dropout(0.5))
    params = random(jax.eval_shape(model.init, KEY))
    xs = jnp.zeros((6, B), int)

    def run(key):
        return truncated_unroll(model, params, model.initial_state((B,)), xs, steps=3, key=key)[1]

    np.testing.assert_array_equal(run(KEY), run(KEY))
    assert (run(KEY) != run(jax.random.key(8))).any()
    np.testing.assert_array_equal(run(None), jnp.broadcast_to(params[0].w[0], (3, B, 2)))
    assert set(np.unique(run(KEY) / params[0].w[0, None, None])) == {0, 2}


@pytest.mark.parametrize(
    ("steps", "kind", "words"),
    [
        (5, ValueError, "steps: expected at most 4, the length of xs, got 5; k1 new steps are the last of k2"),
        (0, ValueError, "steps: expected a positive int, got 0"),
        (2.0, TypeError, "steps: expected a positive int, got float 2.0"),
    ],
)
def test_refusals(steps, kind, words):
    """Exact messages."""
    with pytest.raises(kind, match=f"^{re.escape(words)}$"):
        truncated_unroll(Sum(), {"w": jnp.ones(())}, jnp.ones(B), jnp.ones((4, B)), steps=steps)


# ---- exact gradients with rematerialised chunks --------------------------------------------------------------------

STEPS, LENGTHS = 11, np.array([11, 4, 0])
RESETS = np.random.default_rng(1).random((STEPS, 3)) < 0.3
CASES = {
    "reverse": (rnn.GRU(2, 3, **GLOROT), {"lengths": LENGTHS, "resets": RESETS, "reverse": True}),
    "bidirectional": (rnn.Bidirectional(rnn.VanillaRNN(2, 3, **GLOROT)), {"lengths": LENGTHS, "resets": RESETS}),
}


@functools.cache
def remat_run(case, remat):
    """A loss of everything that ``unroll`` returns, and its gradient by parameters, inputs and initial state."""
    model, kwargs = CASES[case]
    params = random(jax.eval_shape(model.init, KEY))
    xs, state = random(jnp.zeros((STEPS, 3, 2)), 1), random(model.initial_state((3,)), 2)

    def loss(params, xs, state):
        final, ys = rnn.unroll(model, params, xs, state, remat=remat, **kwargs)
        weighted = jnp.cos(ys + jnp.arange(STEPS * 1.0)[:, None, None])  # different for each output
        return weighted.sum() + sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves(final))

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(params, xs, state)


FURTHER = [("reverse", 1), ("reverse", 2), ("reverse", 7), ("bidirectional", 3)]


@pytest.mark.parametrize(
    ("case", "remat"),
    [
        *[("reverse", True), ("bidirectional", 1)],
        *[pytest.param(case, remat, marks=pytest.mark.slow) for case, remat in [("reverse", 3), *FURTHER]],
    ],
)
def test_rematerialised_chunks_are_exact(case, remat):
    """Value and gradients are those without chunks; no chunk length but 1 divides T = 11."""
    ours, plain = remat_run(case, remat), remat_run(case, False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=EXACT), ours, plain)
    assert all(leaf.any() for leaf in jax.tree.leaves(plain))  # not all 0


def test_rematerialised_chunks_take_less_memory(optimized):
    """The compiled gradient of 400 steps needs less than a third of the temporary memory."""
    cell = rnn.VanillaRNN(2, 16, **GLOROT)
    params, xs = random(jax.eval_shape(cell.init, KEY)), jnp.zeros((400, 8, 2))

    def temporary_bytes(remat):
        loss = jax.jit(jax.grad(lambda params: rnn.unroll(cell, params, xs, remat=remat)[0].sum()))
        return loss.lower(params).compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(True) < temporary_bytes(False) / 3
