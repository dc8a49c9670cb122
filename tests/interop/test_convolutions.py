"""The convolutional LSTM of Flax linen, Haiku and Keras: the same values and gradients, and back to the same arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import assert_close, weighted
from refusals import refuses
from versions import enable_x64
from zoo import few, random_params

import jaxrnn as rnn

nn = pytest.importorskip("flax.linen")
hk = pytest.importorskip("haiku")
keras = pytest.importorskip("keras")
dtypes = pytest.importorskip("keras.src.backend.common.dtypes")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

T, B = 4, 2
SHAPES = {"1d": ((5, 2), 3), "2d": ((4, 3, 1), (3, 2)), "3d": ((2, 3, 2, 1), 2)}
ALL = few(list(SHAPES), [])  # each compiles four programs


@pytest.fixture(autouse=True)
def in_float64():
    """Keras computes in float64 too, and relies on promotion."""
    promotion = jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow")
    with enable_x64(True), promotion[0], promotion[1], pytest.MonkeyPatch.context() as patch:
        patch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
        yield


def made(kind, **options):
    shape, kernel = SHAPES[kind]
    cell = rnn.ConvLSTM(shape, 2, kernel, dtype="float64", **options)
    return cell, random_params(cell)


def images(cell):
    return jnp.asarray(np.random.default_rng(1).normal(size=(T, B, *cell.input_shape)))


def outputs(cell, params, xs):
    return rnn.unroll(cell, params, xs)[1]


def gradient(run, params, xs):
    """With respect to parameters and inputs."""
    return jax.jit(jax.grad(lambda params, xs: weighted(jnp.sin(run(params, xs))), argnums=(0, 1)))(params, xs)


@pytest.mark.parametrize("kind", ALL)
def test_linen(kind):
    """An nn.ConvLSTMCell in an nn.RNN."""
    cell, params = made(kind)
    xs = images(cell)
    module, theirs = rnn.interop.linen.to_module(cell), rnn.interop.linen.to_params(cell, params)

    def run(theirs, xs):
        return module.apply({"params": theirs}, xs.swapaxes(0, 1)).swapaxes(0, 1)

    assert_close(run(theirs, xs), outputs(cell, params, xs))
    ours, to_xs = gradient(lambda params, xs: outputs(cell, params, xs), params, xs)
    again, to_theirs = gradient(run, theirs, xs)
    assert_close(to_xs, to_theirs)
    ifoc = lambda a: jnp.concatenate([jnp.split(a, 4, -1)[n] for n in (0, 2, 3, 1)], -1)  # noqa: E731
    for name, w in (("ih", ours.w_xh), ("hh", ours.w_hh)):
        assert_close((ifoc(again["cell"][name]["kernel"]), ifoc(again["cell"][name]["bias"])), (w, ours.b_h))
    assert_close(rnn.interop.linen.from_params(module, theirs, spatial_shape=cell.input_shape[:-1]), (cell, params), 0)
    final, _ = rnn.unroll(cell, params, xs)
    c, h = rnn.interop.linen.to_state(cell, final)
    assert_close((h, c), final, 0)
    assert_close(rnn.interop.linen.from_state(cell, (c, h)), final, 0)


@pytest.mark.parametrize("kind", ALL)
def test_haiku(kind):
    """An hk.Conv1DLSTM, 2D or 3D in hk.dynamic_unroll."""
    cell, params = made(kind)
    xs = images(cell)
    make, theirs = rnn.interop.haiku.to_module(cell), rnn.interop.haiku.to_params(cell, params)
    state = rnn.interop.haiku.to_state(cell, cell.initial_state((B,)))
    unrolled = hk.without_apply_rng(hk.transform(lambda xs: hk.dynamic_unroll(make(), xs, state)))
    ys, last = unrolled.apply(theirs, xs)
    final, expected = rnn.unroll(cell, params, xs)
    assert_close((ys, rnn.interop.haiku.from_state(cell, last)), (expected, final))
    grads = gradient(lambda theirs, xs: unrolled.apply(theirs, xs)[0], theirs, xs)
    assert_close(grads[1], gradient(lambda params, xs: outputs(cell, params, xs), params, xs)[1])
    model, back = rnn.interop.haiku.from_params(make, theirs)
    assert model == cell
    assert_close(back, params, 0)


OPTIONS = {
    "1d": {"padding": "VALID"},
    "2d": {"strides": (2, 1)},
    "3d": {"dilation": 2, "use_bias": False},
}


@pytest.mark.parametrize("kind", ALL)
def test_keras(kind):
    """A ConvLSTM1D, 2D or 3D, with its options for the convolution of the input."""
    cell, params = made(kind, **OPTIONS[kind])
    xs = images(cell)
    layer = rnn.interop.keras.to_module(cell, params)
    assert type(layer).__name__ == f"ConvLSTM{kind.upper()}"

    def run(theirs, xs):
        ys, _ = layer.stateless_call(theirs, [v.value for v in layer.non_trainable_variables], xs.swapaxes(0, 1))
        return ys.swapaxes(0, 1)

    theirs = [variable.value for variable in layer.trainable_variables]
    assert_close(run(theirs, xs), outputs(cell, params, xs))
    ours, to_xs = gradient(lambda params, xs: outputs(cell, params, xs), params, xs)
    again, to_theirs = gradient(run, theirs, xs)
    assert_close(to_xs, to_theirs)
    expected = [v.value for v in rnn.interop.keras.to_module(cell, ours).trainable_variables]
    assert_close(again, expected)
    model, back = rnn.interop.keras.from_module(layer)
    assert model == cell
    assert_close(back, params, 0)


@pytest.mark.slow
def test_keras_models():
    """Several layers, both directions, a readout of every place; and back."""
    below = rnn.ConvLSTM((4, 3, 1), 2, 3, dtype="float64")
    first = rnn.Stack(rnn.Activation("tanh"), below)  # a layer without sizes
    params, xs = random_params(first), images(below)
    module = rnn.interop.keras.to_module(first, params)
    assert module.input_shape == (None, None, 4, 3, 1)
    assert_close(jnp.asarray(module(xs.swapaxes(0, 1))).swapaxes(0, 1), outputs(first, params, xs))
    both = rnn.Bidirectional(rnn.ConvLSTM((4, 3, 2), 2, 3, dtype="float64"))
    model = rnn.Stack(below, both, rnn.Linear(4, 2, dtype="float64"))
    params, xs = random_params(model), images(below)
    module = rnn.interop.keras.to_module(model, params)
    assert_close(jnp.asarray(module(xs.swapaxes(0, 1))).swapaxes(0, 1), outputs(model, params, xs))
    back, arrays = rnn.interop.keras.from_module(module)
    assert back == model
    assert_close(arrays, params, 0)


CELL = rnn.ConvLSTM((4, 3, 1), 2, 3)
PEEPHOLES = rnn.ConvLSTM((4, 3, 1), 2, 3, peepholes=True)
STRIDED = rnn.ConvLSTM((4, 3, 1), 2, 3, strides=2)


def module_and_params(**options):
    module = nn.RNN(nn.ConvLSTMCell(2, (3, 3), **options))
    return module, {"cell": {}}


REFUSED = {
    "ValueError model: expected inputs that are vectors or token ids, got ConvLSTM(…; its inputs have 3 axes": lambda: (
        rnn.interop.onnx.to_model(CELL, random_params(CELL))
    ),
    "TypeError model: expected a VanillaRNN, LSTM or GRU, got ConvLSTM(…; linen has a ConvLSTMCell, nnx has none": (
        lambda: rnn.interop.nnx.to_module(CELL, random_params(CELL))
    ),
    "ValueError model.peepholes: expected False, got True; ConvLSTMCell has a bias, no peepholes…": lambda: (
        rnn.interop.linen.to_module(PEEPHOLES)
    ),
    "ValueError model.strides: expected 1, got 2; ConvLSTMCell has…the same kind of convolution…": lambda: (
        rnn.interop.linen.to_module(STRIDED)
    ),
    "ValueError spatial_shape: expected the 2 spatial axes of the inputs of module.cell, got None; a ConvLSTMCell…": (
        lambda: rnn.interop.linen.from_params(*module_and_params())
    ),
    "ValueError module.cell.padding, strides: expected 'SAME' and 1, got 'VALID' and None; the output…": lambda: (
        rnn.interop.linen.from_params(*module_and_params(padding="VALID"), spatial_shape=(4, 3))
    ),
    "ValueError model.peepholes: expected False, got True; the ConvLSTM of Haiku has a bias, no peepholes…": lambda: (
        rnn.interop.haiku.to_module(PEEPHOLES)
    ),
    "ValueError model.peepholes: expected False, got True; keras.layers.ConvLSTM2D has no peepholes": lambda: (
        rnn.interop.keras.to_module(PEEPHOLES, random_params(PEEPHOLES))
    ),
    "ValueError module.cell.data_format: expected 'channels_last', got 'channels_first'; transpose the images": (
        lambda: rnn.interop.keras.from_module(channels_first())
    ),
}


def channels_first():
    layer = keras.layers.ConvLSTM2D(2, 3, data_format="channels_first", return_sequences=True)
    layer.build((None, None, 1, 4, 3))
    return layer


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_counterpart_is_refused(message):
    refuses(message, REFUSED[message])
