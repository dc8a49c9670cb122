"""A user's cell, an object with three methods and no base class, has every feature of the library."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from zoo import few

import jaxrnn as rnn

T, B, I, H = 6, 3, 2, 4  # noqa: E741
KEY = jax.random.key(0)
LENGTHS = np.array([6, 4, 1])
MASK = np.arange(T)[:, None] < LENGTHS
CLOSE = 1e-5  # float32


@pytest.fixture(autouse=True)
def as_users_write():
    """A user's cell may add ``[H]`` to ``[B, H]``."""
    with jax.numpy_rank_promotion("allow"):
        yield


class GatedParams(NamedTuple):
    w: jax.Array
    b: jax.Array


@dataclasses.dataclass(frozen=True)
class Gated:
    """A minimal gated unit, with one gate."""

    input_size: int
    output_size: int

    def init(self, key):
        shape = (self.input_size + self.output_size, 2 * self.output_size)
        return GatedParams(jax.random.normal(key, shape) / np.sqrt(shape[0]), jnp.zeros(shape[1]))

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, self.output_size))

    def step(self, params, h, x):
        f, candidate = jnp.split(jnp.concatenate([x, h], -1) @ params.w + params.b, 2, axis=-1)
        f = jax.nn.sigmoid(f)
        h = (1 - f) * h + f * jnp.tanh(candidate)
        return h, h


class Counter:
    """A plain class, not a dataclass, with a mutable attribute and a state of integers."""

    def __init__(self, stride=1):
        self.stride = stride

    def init(self, key):
        return []

    def initial_state(self, batch_shape=()):
        return jnp.zeros(batch_shape, jnp.int32)

    def step(self, params, count, x):
        count = count + self.stride
        return count, count[..., None].astype(x.dtype) * jnp.ones_like(x)


class Pair(NamedTuple):
    """A cell that is a named tuple; its inputs and outputs are trees, its parameters a dict."""

    size: int

    def init(self, key):
        return {"left": jnp.full(self.size, 0.5), "right": jnp.full(self.size, 2.0)}

    def initial_state(self, batch_shape=()):
        return {"sum": jnp.zeros((*batch_shape, self.size))}

    def step(self, params, state, x):
        total = state["sum"] + params["left"] * x["left"] + params["right"] * x["right"]
        return {"sum": total}, {"sum": total, "last": x["left"]}


@dataclasses.dataclass(frozen=True)
class ImageCell:
    """A cell whose single input has two axes."""

    input_ndim = 2

    def init(self, key):
        return {"rate": jnp.asarray(0.5)}

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, 2, 3))

    def step(self, params, state, x):
        state = (1 - params["rate"]) * state + params["rate"] * x
        return state, state


def random(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def plain_loop(cell, params, xs, state):
    """Final state and outputs of a Python loop."""
    ys = []
    for x in xs:
        state, y = cell.step(params, state, x)
        ys.append(y)
    return state, jnp.stack(ys)


def assert_close(got, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=CLOSE), got, expected)


@pytest.mark.parametrize("frozen", [True, False])
def test_unroll(frozen):
    """``unroll`` equals a loop over ``step``, for frozen and mutable cells."""
    cell = Gated(I, H)
    if not frozen:
        cell = type("Ordinary", (), {name: getattr(cell, name) for name in ("init", "initial_state", "step")})()
    params, xs = cell.init(KEY), random(T, B, I)
    assert_close(rnn.unroll(cell, params, xs), plain_loop(cell, params, xs, cell.initial_state((B,))))
    final, ys = rnn.unroll(cell, params, xs, reverse=True)
    expected, flipped = plain_loop(cell, params, xs[::-1], cell.initial_state((B,)))
    assert_close((final, ys), (expected, flipped[::-1]))
    jitted = jax.jit(lambda params, xs: rnn.unroll(cell, params, xs))
    assert_close(jitted(params, xs), rnn.unroll(cell, params, xs))


def test_lengths_and_resets():
    """Each sequence is processed up to its length; a reset restores the initial state."""
    cell, xs = Gated(I, H), random(T, B, I)
    params = cell.init(KEY)
    final, ys = rnn.unroll(cell, params, xs, lengths=LENGTHS)
    for b, length in enumerate(LENGTHS):
        alone = plain_loop(cell, params, xs[:length, b], cell.initial_state())
        assert_close((final[b], ys[:length, b]), alone)
        assert not ys[length:, b].any()
    resets = jnp.zeros((T, B), bool).at[3].set(True)
    halves = [plain_loop(cell, params, half, cell.initial_state((B,))) for half in (xs[:3], xs[3:])]
    final, ys = rnn.unroll(cell, params, xs, resets=resets)
    assert_close((final, ys), (halves[1][0], jnp.concatenate([halves[0][1], halves[1][1]])))


def test_counting():
    """A cell that counts steps: lengths, resets, direction."""
    cell, xs = Counter(), jnp.zeros((T, B, 1))
    steps = np.arange(1, T + 1)[:, None]
    resets = jnp.zeros((T, B), bool).at[2, 0].set(True).at[5, 1].set(True)
    reset_counts = np.array([[1, 2, 1, 2, 3, 4], [1, 2, 3, 4, 5, 1], [1, 2, 3, 4, 5, 6]]).T

    def counts(**kwargs):
        final, ys = rnn.unroll(cell, [], xs, **kwargs)
        assert final.dtype == jnp.int32
        return final.tolist(), np.asarray(ys[..., 0])

    for got, final, expected in [
        (counts(), [T] * B, steps + np.zeros(B)),
        (counts(state=jnp.array([10, 20, 30])), [16, 26, 36], steps + np.array([10, 20, 30])),
        (counts(lengths=LENGTHS), [6, 4, 1], np.where(MASK, steps, 0)),
        (counts(reverse=True), [T] * B, steps[::-1] + np.zeros(B)),
        (counts(lengths=LENGTHS, reverse=True), [6, 4, 1], np.where(MASK, LENGTHS - steps + 1, 0)),
        (counts(resets=resets), [4, 1, 6], reset_counts),
        (
            counts(resets=resets, reverse=True),
            [3, 6, 6],
            np.array([[3, 2, 1, 3, 2, 1], [6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]]).T,
        ),
    ]:
        assert got[0] == final
        np.testing.assert_array_equal(got[1], expected)


def test_mutable_cells():
    """The attributes of a cell that is not frozen are read at every call, not cached."""
    cell, xs = Counter(), jnp.zeros((T, 1))
    assert rnn.unroll(cell, [], xs)[0] == T
    cell.stride = 3
    assert rnn.unroll(cell, [], xs)[0] == 3 * T
    stack = rnn.Stack(cell, rnn.Residual(cell))
    assert rnn.unroll(stack, ([], []), xs)[0] == (3 * T, 3 * T)
    cell.stride = 4
    assert rnn.unroll(stack, ([], []), xs)[0] == (4 * T, 4 * T)


@pytest.mark.parametrize("hidden", ["not compared", "not a field"])
def test_equal_models_with_other_hidden_attributes(hidden):
    """Cells that are equal but differ in an attribute do not share a compiled function."""
    if hidden == "not compared":
        cls = dataclasses.make_dataclass(
            "Scaled", [("stride", int, dataclasses.field(compare=False))], bases=(Counter,), frozen=True
        )
    else:
        frozen = dataclasses.make_dataclass("Frozen", [], frozen=True)
        step = {name: getattr(Counter, name) for name in ("init", "initial_state", "step")}
        cls = type("Scaled", (frozen,), {"__init__": lambda self, stride: vars(self).update(stride=stride), **step})
    finals = [rnn.unroll(cls(stride), [], jnp.zeros((T, 1)))[0] for stride in (1, 3)]
    assert finals == [T, 3 * T]


def test_trees_in_and_out():
    """Inputs, outputs, states and parameters may be any trees; lengths and resets apply to every leaf."""
    cell, xs = Pair(I), {"left": random(T, B, I), "right": jnp.ones((T, B, I))}
    params = cell.init(KEY)
    resets = jnp.zeros((T, B), bool).at[1].set(True)
    final, ys = rnn.unroll(cell, params, xs, lengths=LENGTHS, resets=resets)
    steps = 0.5 * xs["left"] + 2.0
    sums = jnp.concatenate([steps[:1], jnp.cumsum(steps[1:], axis=0)])
    assert_close(ys["sum"], jnp.where(MASK[..., None], sums, 0))
    assert_close(ys["last"], jnp.where(MASK[..., None], xs["left"], 0))
    assert_close(final["sum"], sums[LENGTHS - 1, np.arange(B)])


class Scaled:
    """A cell whose parameters and initial state are Python numbers."""

    def init(self, key):
        return {"rate": 0.5}

    def initial_state(self, batch_shape=()):
        return 0.0

    def step(self, params, state, x):
        state = state + params["rate"] * x.mean()
        return state, state


@pytest.mark.xfail(reason="a Python number has no dtype", strict=True, raises=AttributeError)
@pytest.mark.parametrize("frozen", [True, False])
def test_python_numbers(frozen):
    """Python numbers as parameters and as a state."""
    cell = dataclasses.dataclass(frozen=True)(Scaled)() if frozen else Scaled()
    final, ys = rnn.unroll(cell, cell.init(KEY), jnp.ones((T, 1)))
    assert final == T / 2
    np.testing.assert_array_equal(ys, np.arange(1, T + 1) / 2)


class Unit(Gated):
    """A cell that normalises its input, which is not defined at 0."""

    def step(self, params, h, x):
        return Gated.step(self, params, h, x / jnp.linalg.norm(x, axis=-1, keepdims=True))


def deep(cell):
    return rnn.Stack(cell, Unit(H, H))


@pytest.mark.parametrize(
    ("wrap", "derivative"),
    few([(rnn.Stack, "autodiff"), (deep, "linearized"), (rnn.Bidirectional, "autodiff")], [(rnn.Stack, "autodiff")]),
)
def test_padding_of_cells_that_cannot_take_zeros(wrap, derivative):
    """Padding and empty sequences have no gradient, even where the step is not defined at 0."""
    model, xs = wrap(Unit(I, H)), random(T, B, I)
    params = model.init(KEY)
    resets = jnp.zeros((T, B), bool).at[1, 0].set(True)

    def loss(params, xs, lengths, resets):
        return (rnn.unroll(model, params, xs, lengths=lengths, resets=resets, derivative=derivative)[1] ** 2).sum()

    with jax.debug_nans(True):  # nor in intermediate values
        dparams, dxs = jax.jit(jax.grad(loss, (0, 1)))(params, xs, np.array([6, 2, 0]), resets)
    alone = jax.jit(jax.grad(loss))
    each = [alone(params, xs[:n, b : b + 1], None, resets[:n, b : b + 1]) for b, n in enumerate((6, 2))]
    assert_close(dparams, jax.tree.map(jnp.add, *each))
    assert not np.asarray(dxs)[2:, 1].any()
    assert not np.asarray(dxs)[:, 2].any()


class Noisy:
    """A cell with a random key in its state."""

    def init(self, key):
        return jnp.ones(())

    def initial_state(self, batch_shape=()):
        return {"key": jax.random.key(1), "h": jnp.zeros(batch_shape)}

    def step(self, params, state, x):
        key, now = jax.random.split(state["key"])
        h = state["h"] + params * x.sum(-1) + jax.random.normal(now, state["h"].shape, x.dtype)
        return {"key": key, "h": h}, h


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_random_key_in_the_state(dtype):
    xs = jnp.ones((T, B, I), dtype)
    gradient = jax.grad(lambda params: rnn.unroll(Noisy(), params, xs)[1].astype(jnp.float32).sum())
    assert gradient(jnp.ones((), dtype)) == sum(range(1, T + 1)) * B * I


class Wide:
    """A cell in mixed precision: inputs in bfloat16, parameters and state in float32."""

    def init(self, key):
        return {"rate": jnp.full((), 0.5, jnp.float32)}

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, I), jnp.float32)

    def step(self, params, state, x):
        state = state + params["rate"] * x.astype(jnp.float32)
        return state, state.astype(x.dtype)


def test_mixed_precision():
    """A cell that casts may mix dtypes, also under strict promotion."""
    xs = jnp.ones((T, B, I), jnp.bfloat16)
    final, ys = rnn.unroll(Wide(), Wide().init(KEY), xs)
    assert (final.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)


def test_images():
    """Inputs of several axes: the batch axes are those between time and input axes."""
    cell, xs = ImageCell(), random(T, B, 2, 3)
    params = cell.init(KEY)
    for model in (cell, rnn.Bidirectional(cell, merge="sum")):
        params = model.init(KEY)
        _, ys = rnn.unroll(model, params, xs, lengths=LENGTHS)
        alone = rnn.unroll(model, params, xs[: LENGTHS[1], 1])[1]
        assert_close(ys[: LENGTHS[1], 1], alone)


@pytest.mark.parametrize("wrap", [rnn.Residual, lambda cell: rnn.Stack(rnn.Dropout(0.5), cell)])
def test_images_in_layers(wrap):
    """A layer has the ``input_ndim`` of the cell in it."""
    model, xs = wrap(ImageCell()), random(T, B, 2, 3)
    params = model.init(KEY)
    _, ys = rnn.unroll(model, params, xs, lengths=LENGTHS)
    assert_close(ys[: LENGTHS[1], 1], rnn.unroll(model, params, xs[: LENGTHS[1], 1])[1])


def test_input_size_of_a_stack():
    """A first layer without sizes may take any size, in a nested stack as in a flat one."""

    class Twice:
        """Outputs twice as wide as its inputs, without attributes for its sizes."""

        def init(self, key):
            return ()

        def initial_state(self, batch_shape=()):
            return ()

        def step(self, params, state, x):
            return (), jnp.concatenate([x, x], -1)

    model = rnn.Stack(rnn.GRU(I, 3), rnn.Stack(Twice(), rnn.GRU(6, H)))
    assert rnn.unroll(model, model.init(KEY), random(T, B, I))[1].shape == (T, B, H)


@pytest.mark.slow
def test_in_stacks_and_both_directions():
    """User's cells and built-in ones nest in any order."""
    model = rnn.Stack(
        rnn.Bidirectional(Gated(I, H), rnn.LSTM(I, H)),
        rnn.Residual(Gated(2 * H, 2 * H)),
        Counter(),
        rnn.Linear(2 * H, 2),
    )
    params, xs = model.init(KEY), random(T, B, I)
    final, ys = rnn.unroll(model, params, xs, lengths=LENGTHS)
    assert ys.shape == (T, B, 2)
    forward, backward = params[0]
    cell, other = Gated(I, H), rnn.LSTM(I, H)
    b, n = 1, LENGTHS[1]
    there, _ = plain_loop(cell, forward, xs[:n, b], cell.initial_state())
    back, _ = plain_loop(other, backward, xs[:n, b][::-1], other.initial_state())
    assert_close(jax.tree.map(lambda s: s[b], final[0]), (there, back))
    assert final[2].tolist() == LENGTHS.tolist()


def test_known_sizes_are_checked():
    """A stack checks ``input_size`` and ``output_size`` of a user's cell."""
    with pytest.raises(ValueError, match=r"layers\[1\]: expected input size 4, the output size of layers\[0\], got 3"):
        rnn.Stack(rnn.GRU(I, H), Gated(3, H))
    with pytest.raises(ValueError, match=r"layers\[1\]: expected input size 4, .* got 3 in Linear\(3, 2\)"):
        rnn.Stack(Gated(I, H), rnn.Linear(3, 2))


@pytest.mark.parametrize("model", [Gated(I, 8), rnn.Bidirectional(Gated(I, 4))], ids=["alone", "both directions"])
def test_training(model):
    """Each small step of gradient descent lowers the loss by rate · ‖gradient‖²."""
    model = rnn.Stack(model, rnn.Linear(8, 1))
    rng = np.random.default_rng(0)
    xs = jnp.asarray(rng.normal(size=(T, 32, I)), jnp.float32)
    lengths = jnp.asarray(rng.integers(2, T + 1, 32))
    targets = (xs[0, :, :1] > 0).astype(jnp.float32)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        _, ys = rnn.unroll(model, params, xs, lengths=lengths)
        last = ys[lengths - 1, jnp.arange(32)]
        return optax.sigmoid_binary_cross_entropy(last, targets).mean()

    params, rate = model.init(KEY), 0.03
    value, gradient = loss(params)
    for _ in range(5):
        params = optax.apply_updates(params, jax.tree.map(lambda g: -rate * g, gradient))
        expected = rate * optax.tree.norm(gradient) ** 2
        before, (value, gradient) = value, loss(params)
        assert expected > 1e-4
        np.testing.assert_allclose(before - value, expected, rtol=0.1)
