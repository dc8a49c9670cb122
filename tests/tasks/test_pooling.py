"""Pooling against NumPy, sequence by sequence: padding never counts, a sequence of length 0 gives 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import CLOSE, assert_close, weighted
from refusals import refuses
from zoo import ZOO, B, H, I, T, few, inputs, random_params

import jaxrnn as rnn
from jaxrnn.tasks import AttentionPooling, pooling

LENGTHS = np.array([T, 2, 0])
ATTENTION = AttentionPooling(H, 2, dtype="float64")
POOLS = {  # a function of (ys, lengths), and the same of one sequence without padding
    "mean": (pooling.mean, lambda ys: ys.mean(0)),
    "max": (pooling.maximum, lambda ys: ys.max(0)),
    "attention": (
        lambda ys, *masks: ATTENTION.apply(random_params(ATTENTION), ys, *masks),
        lambda ys: attention(ys, *map(np.asarray, random_params(ATTENTION))),
    ),
}
every_pool = pytest.mark.parametrize("name", POOLS)
pytestmark = pytest.mark.usefixtures("x64")


def attention(ys, w, b, v):
    """The equations, one step after another."""
    weights = [np.exp(np.tanh(y @ w + b) @ v) for y in ys]
    return sum(weight * y for weight, y in zip(weights, ys, strict=True)) / sum(weights)


def outputs(batch=(B,), seed=0):
    """Random outputs; one feature is always negative, so that a 0 from the padding would be its maximum."""
    ys = np.random.default_rng(seed).normal(size=(T, *batch, H))
    ys[..., 0] = -np.abs(ys[..., 0])
    return ys


@every_pool
def test_as_each_sequence_alone(name):
    """Each sequence without its padding, pooled by NumPy; a sequence of length 0 gives 0."""
    pool, reference = POOLS[name]
    ys = outputs()
    expected = [reference(ys[:n, b]) if n else np.zeros(H) for b, n in enumerate(LENGTHS)]
    assert_close(pool(jnp.asarray(ys), LENGTHS), np.stack(expected))


@every_pool
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_any_batch_axes_and_no_lengths(name, batch):
    """Without lengths every step counts; the axes between time and features are batch axes."""
    pool, reference = POOLS[name]
    ys = outputs(batch)
    expected = [reference(ys.reshape(T, -1, H)[:, n]) for n in range(max(int(np.prod(batch)), 1))]
    assert_close(pool(jnp.asarray(ys)), np.reshape(expected, (*batch, H)))


@every_pool
def test_padding_stays_out(name):
    """NaN in the padding changes neither value nor gradient; its gradient is 0."""
    pool, _ = POOLS[name]
    ys = outputs()
    with_nan = np.where(np.arange(T)[:, None, None] < LENGTHS[:, None], ys, np.nan)
    value, grad = jax.jit(jax.value_and_grad(lambda ys: weighted(pool(ys, LENGTHS))))(jnp.asarray(ys))
    value_nan, grad_nan = jax.jit(jax.value_and_grad(lambda ys: weighted(pool(ys, LENGTHS))))(jnp.asarray(with_nan))
    assert value == value_nan
    np.testing.assert_array_equal(grad, grad_nan)
    assert not grad[2:, 1].any()
    assert not grad[:, 2].any()
    assert grad[:, 0].any()


@every_pool
def test_no_steps_at_all(name):
    """T = 0 gives 0."""
    assert_close(POOLS[name][0](jnp.zeros((0, B, H))), np.zeros((B, H)))


HOLES = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 1]], bool)  # [T, B]


@every_pool
def test_masked_steps_stay_out(name):
    """Pooled are the steps with an input before the end of the sequence."""
    pool, reference = POOLS[name]
    ys = outputs()
    expected = [reference(ys[:n, b][HOLES[:n, b]]) if n else np.zeros(H) for b, n in enumerate(LENGTHS)]
    assert_close(pool(jnp.asarray(ys), LENGTHS, HOLES), np.stack(expected))


@pytest.mark.parametrize("name", few(["lstm", "bidirectional-of-stack"], ["lstm"]))
def test_last_output_before_masked_steps(name):
    """It is that of the sequence without its masked steps, in both directions."""
    model = ZOO[name].build("float64")
    params, xs = random_params(model), inputs(model)
    got = pooling.last(model, params, xs, input_mask=HOLES)
    for b in range(B):
        assert_close(got[b], pooling.last(model, params, xs[HOLES[:, b], b]))


def test_attention_weights():
    """They are positive and sum to 1 over the steps of a sequence; in the padding they are 0."""
    weights = np.asarray(ATTENTION.weights(random_params(ATTENTION), jnp.asarray(outputs()), LENGTHS))
    mask = np.arange(T)[:, None] < LENGTHS
    assert (weights[mask] > 0).all()
    assert not weights[~mask].any()
    assert_close(weights.sum(0), np.array([1, 1, 0]))
    huge = ATTENTION.weights(random_params(ATTENTION)._replace(v=jnp.full(2, 1e4)), jnp.asarray(outputs()), LENGTHS)
    assert np.isfinite(huge).all()  # scores beyond the range of exp


# ---- the last output ---------------------------------------------------------------------------------------------


def alone(model, params, xs):
    """The last output of one sequence, unrolled alone, without padding."""
    if isinstance(model, rnn.Bidirectional):
        last = [alone(layer, p, x) for layer, p, x in zip(model.directions, params, (xs, xs[::-1]), strict=True)]
        return np.asarray(rnn.layers.bidirectional.MERGES[model.merge](*last))
    if isinstance(model, rnn.Reverse):
        return alone(model.layer, params, xs[::-1])
    return np.asarray(rnn.unroll(model, params, xs)[1][-1])


NAMES = ["user", "reverse", "residual-concat", "tied", "bidirectional-of-stack"]
MORE = ["lstm-peephole-ifo", "bidirectional-unlike", "gru-after", "bidirectional-concat", "user-in-bidirectional"]


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_last_is_that_of_each_sequence_alone(name):
    """In each direction, the last output is that of the sequence without its padding."""
    model = ZOO[name].build("float64")
    params, xs = random_params(model), inputs(model)
    expected = [alone(model, params, xs[:n, b]) if n else np.zeros(ZOO[name].width) for b, n in enumerate(LENGTHS)]
    assert_close(pooling.last(model, params, xs, lengths=LENGTHS), np.stack(expected))


@pytest.mark.parametrize("cell", [rnn.VanillaRNN, rnn.LSTM, rnn.GRU])
@pytest.mark.parametrize("reverse", [False, True])
def test_last_is_the_hidden_state(cell, reverse):
    """For a built-in cell it is the final h; for an LSTM not c."""
    model = cell(I, H, dtype="float64")
    params, xs = random_params(model), inputs(model)
    final, _ = rnn.unroll(model, params, xs, lengths=LENGTHS, reverse=reverse)
    assert_close(pooling.last(model, params, xs, lengths=LENGTHS, reverse=reverse), getattr(final, "h", final))


@pytest.mark.slow
def test_last_of_a_deep_tagger():
    """The last outputs of the topmost bidirectional layer; layers below are unrolled, layers above follow."""
    below, top = (
        rnn.Bidirectional(rnn.GRU(I, H, dtype="float64")),
        rnn.Bidirectional(rnn.LSTM(2 * H, H, dtype="float64")),
    )
    readout = rnn.Linear(2 * H, 2, dtype="float64")
    model = rnn.Stack(below, rnn.Dropout(0.5), top, rnn.Dropout(0.5), readout)
    params, xs = random_params(model), inputs(model)
    _, hidden = rnn.unroll(below, params[0], xs, lengths=LENGTHS)
    last = pooling.last(top, params[2], hidden, lengths=LENGTHS)
    assert_close(pooling.last(model, params, xs, lengths=LENGTHS), readout.apply(params[4], last))
    dropped = [pooling.last(model, params, xs[:1], key=jax.random.key(n)) for n in (0, 0, 1)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert np.abs(dropped[0] - dropped[2]).max() > CLOSE


def test_last_ignores_padding():
    """NaN in the padding changes nothing; its gradient is 0."""
    model = ZOO["bidirectional-concat"].build("float64")
    params, xs = random_params(model), inputs(model)
    with_nan = jnp.where((np.arange(T)[:, None] < LENGTHS)[..., None], xs, jnp.nan)
    loss = jax.value_and_grad(lambda xs: weighted(pooling.last(model, params, xs, lengths=LENGTHS)))
    (value, grad), (value_nan, grad_nan) = loss(xs), loss(with_nan)
    assert value == value_nan
    np.testing.assert_array_equal(grad, grad_nan)
    assert not grad[2:, 1].any()
    assert grad[:2, 1].any()


def refused_last(model):
    """A call for a model whose last output is not defined."""
    return lambda: pooling.last(model, model.init(jax.random.key(0)), jnp.ones((T, B, I)))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("TypeError model: expected a Bidirectional at the top of a Stack, got Residual(…; the last outputs of its "
         'directions are not defined; pooling="mean" needs none',
         refused_last(rnn.Residual(rnn.Bidirectional(rnn.GRU(I, I), merge="sum")))),
        ("TypeError ys: expected an array for pooling, got tuple of 2; merge=\"concat\" joins both directions",
         lambda: pooling.mean((jnp.ones((T, B, H)), jnp.ones((T, B, H))))),
        ("ValueError ys: expected outputs [T, ..., H], 2 axes or more, got float64[5]",
         lambda: pooling.mean(jnp.ones(T))),
        ("ValueError lengths: expected shape [3], the batch axes of the inputs, got int64[2]; one length a sequence",
         lambda: pooling.maximum(jnp.ones((T, B, H)), np.array([1, 2]))),
        ("ValueError lengths: expected values in [0, 5], T = 5, got 6 to 6; …",
         lambda: pooling.mean(jnp.ones((T, B, H)), np.array([6, 6, 6]))),
        ("ValueError ys: expected last axis 4 (AttentionPooling.input_size), got float64[5, 3, 3]; …",
         lambda: ATTENTION.apply(random_params(ATTENTION), jnp.ones((T, B, 3)))),
        ("ValueError attention_size: expected a positive int, got 0", lambda: AttentionPooling(H, 0)),
    ],
)  # fmt: skip
def test_refusals(message, call):
    """The whole message."""
    refuses(message, call)


@pytest.mark.slow
def test_has_last_says_where_last_is_defined():
    cell = rnn.VanillaRNN(I, I)
    both = rnn.Bidirectional(cell, merge="sum")
    residual, tail = rnn.Residual(rnn.Reverse(cell)), rnn.Dropout(0.5)
    xs = jax.ShapeDtypeStruct((T, B, I), jnp.float32)
    defined = [cell, both, rnn.Reverse(cell), rnn.Residual(cell), rnn.Stack(both, tail), rnn.Stack(residual, cell)]
    undefined = [residual, rnn.Residual(both), rnn.Stack(residual, tail), rnn.Bidirectional(residual, cell, "sum")]
    for model in (*defined, *undefined):
        params = jax.eval_shape(model.init, jax.random.key(0))
        assert pooling.has_last(model) == (model in defined)
        if model in defined:
            assert jax.eval_shape(lambda p, x, model=model: pooling.last(model, p, x), params, xs).shape == (B, I)
        else:
            with pytest.raises(TypeError, match="a Bidirectional at the top of a Stack"):
                jax.eval_shape(lambda p, x, model=model: pooling.last(model, p, x), params, xs)
