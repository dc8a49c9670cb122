"""Numbers of 16 bits: sums of many terms are in float32, and so are the parameters of mixed precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contract import assert_identical
from zoo import VARIANTS, ZOO, H, V, inputs, random_params

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.precision import broadcast, cast

KEY = jax.random.key(0)
T, B = 128, 32  # 4096 rows
SUMMED = ["b", "b_h", "b_hh", "peepholes"]  # their gradients are sums over all rows


def named(tree):
    """Arrays by the name of their field."""
    return [(path[-1], np.asarray(x, np.float32)) for path, x in jax.tree_util.tree_leaves_with_path(tree)]


def assert_near(narrow, wide):
    """Gradients in bfloat16 against float32: sums over all rows within 3 %, all others within 6 %."""
    for (name, a), (_, b) in zip(named(narrow), named(wide), strict=True):
        limit = 0.03 if getattr(name, "name", None) in SUMMED else 0.06
        assert np.linalg.norm(a - b) <= limit * np.linalg.norm(b), name


def summed(ys, seed=3):
    """A weighted sum with positive weights, so that the terms of a gradient do not cancel."""
    rng = np.random.default_rng(seed)
    return sum((y.astype(jnp.float32) * rng.uniform(0.5, 1.5, y.shape).astype(np.float32)).sum() for y in
               jax.tree.leaves(ys))  # fmt: skip


@functools.cache
def gradient_in_float32(name):
    return gradient(name, "float32")


def gradient(name, dtype, **options):
    model = ZOO[name].build(dtype)
    params = cast(random_params(ZOO[name].build("bfloat16")), dtype)
    params = jax.tree.map(lambda p: p * jnp.asarray(0.5, p.dtype), params)
    xs = cast(inputs(model, T, (B,), dtype="bfloat16"), dtype)
    return jax.jit(jax.grad(lambda params: summed(rnn.unroll(model, params, xs, **options)[1])))(params)


CASES = [
    *[(name, {}) for name in ("lstm-peephole-ifo", "gru-after", "tied", "user")],
    ("vanilla-tanh", {"remat": True}),
    ("gru", {"derivative": "autodiff"}),
    ("user", {"derivative": "linearized"}),
]
MORE = [("vanilla-tanh", {"derivative": "linearized"}), ("user", {"remat": 8})]
MORE += [(name, {}) for name in ZOO if jax.tree.leaves(jax.eval_shape(ZOO[name].build("float32").init, KEY))]
CANCELLING = ("user-in-stack", "activation")  # their gradients are differences of equal numbers
MORE = [case for case in MORE if case not in CASES and case[0] not in (*CANCELLING, *VARIANTS)]


@pytest.mark.parametrize(
    ("name", "options"), [*CASES, *[pytest.param(*case, marks=pytest.mark.slow) for case in MORE]], ids=str
)
def test_gradients_in_bfloat16(name, options):
    assert_near(gradient(name, "bfloat16", **options), gradient_in_float32(name))


@pytest.mark.parametrize(
    "options", [{}, {"derivative": "linearized"}, {"derivative": "autodiff"}, {"remat": 5}], ids=str
)
def test_equal_terms_are_all_counted(options):
    """Each of 4096 rows adds 1."""
    cell = rnn.VanillaRNN(1, 1, w_xh_init="zeros", w_hh_init="zeros", dtype="bfloat16")
    xs = jnp.zeros((T, B, 1), jnp.bfloat16)

    def loss(params):
        return rnn.unroll(cell, params, xs, **options)[1].astype(jnp.float32).sum()

    assert jax.jit(jax.grad(loss))(cell.init(KEY)).b_h == T * B


class Shift:
    """A user's cell with one scalar parameter and scalar inputs."""

    input_ndim = 0

    def init(self, key):
        return jnp.zeros((), jnp.bfloat16)

    def initial_state(self, batch_shape=()):
        return jnp.zeros(batch_shape, jnp.bfloat16)

    def step(self, shift, state, x):
        return state, x + shift


@pytest.mark.parametrize("derivative", ["autodiff", "linearized"])
@pytest.mark.parametrize("shape", [(T * B,), (T, B), (1, T * B)], ids=str)
def test_equal_terms_of_a_user_cell(shape, derivative):
    """Sums over time, over the batch, over both."""
    xs = jnp.zeros(shape, jnp.bfloat16)

    def loss(shift):
        return rnn.unroll(Shift(), shift, xs, derivative=derivative)[1].astype(jnp.float32).sum()

    assert jax.jit(jax.grad(loss))(Shift().init(KEY)) == T * B


def test_one_token_many_times():
    """The gradient of its vector is the sum over all of its uses."""
    layer = rnn.Embedding(2, 1, dtype="bfloat16")
    ids = jnp.zeros((1000,), int)

    def loss(params):
        return rnn.unroll(layer, params, ids)[1].astype(jnp.float32).sum()

    assert jax.jit(jax.grad(loss))(layer.init(KEY)).w[:, 0].tolist() == [1000, 0]


def translator(dtype):
    attention = rnn.tasks.AdditiveAttention(2 * H, H, 3, dtype=dtype)
    cell = rnn.tasks.AttentionCell(rnn.GRU(H + 2 * H, H, dtype=dtype), attention)
    embed = functools.partial(rnn.Embedding, w_init=rnn.initializers.normal(0.5), dtype=dtype)
    decoder = rnn.Stack(embed(V, H), cell, rnn.Linear(3 * H, V, dtype=dtype))
    encoder = rnn.Stack(embed(V, H), rnn.Bidirectional(rnn.GRU(H, H, dtype=dtype)))
    return rnn.tasks.EncoderDecoder(encoder, decoder)


def assert_near_as_a_whole(narrow, wide):
    a, b = (np.concatenate([x.ravel() for _, x in named(tree)]) for tree in (narrow, wide))
    assert np.linalg.norm(a - b) <= 0.06 * np.linalg.norm(b)


@pytest.mark.slow
@pytest.mark.parametrize("teacher_forcing", [1.0, jnp.float32(1.0)], ids=["unroll", "loop"])
def test_encoder_decoder(teacher_forcing):
    """Attention over a memory, in ``unroll`` and in the loop of scheduled sampling."""
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, V, (5, 64)), np.tile(rng.integers(0, V, (40, 1)), (1, 64))
    params = translator("bfloat16").init(KEY)

    def loss(dtype, params):
        logits = translator(dtype).logits(params, source, target, teacher_forcing=teacher_forcing, key=KEY)
        return summed(jax.nn.log_softmax(logits.astype(jnp.float32))[..., 0])

    assert_near_as_a_whole(
        *(jax.jit(jax.grad(functools.partial(loss, d)))(cast(params, d)) for d in ("bfloat16", "float32"))
    )


def test_attention_pooling():
    """The weights are a softmax over 4096 steps; the gradient of their parameters is a sum over all steps."""
    rng = np.random.default_rng(0)
    ys = jnp.asarray(rng.normal(1, 1, (T * B, 1, H)), jnp.bfloat16)
    params = cast(rnn.tasks.AttentionPooling(H, 3).init(KEY), jnp.bfloat16)

    def loss(dtype, params):
        pool = rnn.tasks.AttentionPooling(H, 3, dtype=dtype)
        return summed(pool.apply(params, cast(ys, dtype)))

    assert_near_as_a_whole(
        *(jax.jit(jax.grad(functools.partial(loss, d)))(cast(params, d)) for d in ("bfloat16", "float32"))
    )


def test_mean_pooling_in_float16():
    """The sum of the outputs and their number may exceed the range of float16."""
    mean = rnn.tasks.pooling.mean
    assert mean(jnp.full((5000, 1, 1), 20.0, jnp.float16)).tolist() == [[20.0]]
    assert mean(jnp.ones((70000, 1, 1), jnp.float16), jnp.array([70000])).tolist() == [[1.0]]


def test_forward_mode_learning_in_bfloat16():
    """RTRL sums the gradients of all steps."""
    cell = rnn.VanillaRNN(1, 1, w_xh_init="zeros", w_hh_init="zeros", dtype="bfloat16")
    xs, targets = jnp.zeros((1000, 1), jnp.bfloat16), jnp.zeros((1000, 1), jnp.bfloat16)
    _, (_, gradient) = rnn.gradients.rtrl(cell, cell.init(KEY), xs, targets, lambda y, target: (y - target).sum())
    assert gradient.b_h == 1000


def test_float32_programs_are_unchanged():
    """No cast in float32."""
    model = ZOO["stack-mixed"].build("float32")
    params, xs = random_params(model), inputs(model, dtype="float32")
    gradient = jax.grad(lambda params: rnn.unroll(model, params, xs)[1].sum())
    assert "f32" in (program := str(jax.make_jaxpr(gradient)(params)))
    assert not {"bf16", "f16"} & {word.split("[")[0].split(":")[-1] for word in program.split()}
    assert str(jax.make_jaxpr(lambda x: broadcast(x, (2, 3)))(xs[0, 0])).count("convert") == 0


# ---- mixed precision ----------------------------------------------------------------------------------------------


def language_model():
    return rnn.Stack(rnn.Embedding(V, H), rnn.LSTM(H, H), rnn.Dropout(0.5), rnn.Linear(H, V))


def test_mixed_precision_is_a_cast():
    """Values are those of the model in bfloat16; parameters, gradients, states and outputs are in float32."""
    layer = language_model()
    model, ids = rnn.MixedPrecision(layer), jnp.arange(12).reshape(6, 2) % V
    params, lengths = model.init(KEY), np.array([6, 3])
    final, ys = rnn.unroll(model, params, ids, lengths=lengths, key=KEY)
    narrow_final, narrow_ys = rnn.unroll(layer, cast(params, "bfloat16"), ids, lengths=lengths, key=KEY)
    assert_identical(ys, cast(narrow_ys, "float32"))
    assert_identical(final, cast(narrow_final, "float32"))
    gradient = jax.jit(jax.grad(lambda params: rnn.unroll(model, params, ids)[1].sum()))(params)
    assert {x.dtype.name for x in jax.tree.leaves((gradient, final, ys, rnn.trajectory(model, params, ids)))} == {
        "float32"
    }
    assert (rnn.MixedPrecision(layer, output_dtype="bfloat16").step(params, final, ids[0])[1]).dtype == jnp.bfloat16


def test_mixed_precision_takes_small_steps():
    """An update of 1e-4 to a weight of 1 is rounded to 0 in bfloat16, and not in float32."""
    batch = {"x": jnp.ones((3, 2, 4)), "y": jnp.ones((3, 2, 4))}

    def after_one_step(model, params):
        def loss(params, carry, batch, key):
            ys = rnn.unroll(model, params, cast(batch["x"], params.w.dtype))[1]
            return rnn.losses.squared_error(ys, cast(batch["y"], ys.dtype)), ((), {})

        optimizer = optax.sgd(1e-4)
        state = learning.train_state(params, optimizer)
        return jax.jit(learning.train_step(loss, optimizer))(state, batch, KEY)[0].params

    def linear(dtype):
        return rnn.Linear(4, 4, w_init="ones", use_bias=False, dtype=dtype)

    narrow, mixed = linear("bfloat16"), rnn.MixedPrecision(linear("float32"))
    assert (after_one_step(narrow, narrow.init(KEY)).w == 1).all()
    moved = after_one_step(mixed, mixed.init(KEY)).w
    assert moved.dtype == jnp.float32
    np.testing.assert_allclose(moved, 1 - 1e-4 * 2 * 3 / 4, atol=1e-6)


@pytest.mark.slow
def test_mixed_precision_anywhere(tmp_path):
    """Stream loss, checkpoints, classifiers, attention and decoding accept it as any other layer."""
    model = rnn.MixedPrecision(language_model())
    optimizer = optax.adam(1e-3)
    state = learning.train_state(model.init(KEY), optimizer, carry=model.initial_state((2,)))
    streams = rnn.data.Streams(np.arange(40) % V, batch=2, steps=4)
    step = learning.train_step(learning.stream_loss(model), optimizer)
    checkpoints = learning.Checkpoints(tmp_path, model)
    end = learning.fit(step, state, streams, steps=2, key=KEY, checkpoints=checkpoints, verbose=False)
    again, params, _ = learning.load_model(tmp_path)
    assert again == model
    assert_identical(params, end.state.params)
    sampled = rnn.decoding.greedy(model, params, model.initial_state((2,)), jnp.zeros(2, int), steps=3)
    assert sampled.log_probabilities.dtype == jnp.float32

    both = rnn.MixedPrecision(rnn.Stack(rnn.Embedding(V, H), rnn.Bidirectional(rnn.GRU(H, H))))
    classifier, ids = rnn.tasks.Classifier(both, 3), jnp.ones((5, 2), int)
    params = classifier.init(KEY)
    lengths = np.array([5, 2])
    end = rnn.tasks.pooling.last(both.layer, cast(params.encoder, "bfloat16"), ids, lengths=lengths)
    assert_identical(classifier.encode(params, ids, lengths=lengths), cast(end, "float32"))

    readout = rnn.MixedPrecision(rnn.Stack(rnn.Dropout(0.5), rnn.MixedPrecision(rnn.Linear(2 * H, 2))))
    tagger = rnn.Stack(*both.layer.layers, readout)  # pointwise layers after both directions
    params = tagger.init(KEY)
    end = rnn.tasks.pooling.last(both.layer, params[:2], ids, lengths=lengths)
    logits = rnn.tasks.pooling.last(tagger, params, ids, lengths=lengths)
    np.testing.assert_allclose(logits, end @ params[2][1].w + params[2][1].b[None], atol=0.02)

    plain = translator("float32")
    writer = rnn.tasks.EncoderDecoder(rnn.MixedPrecision(plain.encoder), rnn.MixedPrecision(plain.decoder))
    params = writer.init(KEY)
    alignment = writer.alignment(params, ids, ids)
    np.testing.assert_allclose(alignment, plain.alignment(params, ids, ids), atol=0.02)
    assert alignment.dtype == jnp.float32


def test_mixed_precision_refuses():
    with pytest.raises(TypeError, match="layer: expected a cell or layer"):
        rnn.MixedPrecision(rnn.LSTM)
    with pytest.raises(TypeError, match="compute_dtype: expected a floating dtype"):
        rnn.MixedPrecision(rnn.LSTM(2, 3), "int8")
