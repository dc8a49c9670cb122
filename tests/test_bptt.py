"""The derivative rule against autodiff of the scan: equal for every cell, option and kind of derivative."""

import functools
import time

import jax
import jax.numpy as jnp
import pytest
import zoo
from contract import arguments, assert_close, make, weighted
from jax.test_util import check_grads
from versions import EXPLICIT_GRADIENTS, set_mesh
from zoo import ZOO, B, I, few, inputs

import jaxrnn as rnn
from jaxrnn import bptt
from jaxrnn.cells import common
from jaxrnn.types import has_differential

CELLS = [name for name, entry in ZOO.items() if has_differential(entry.build("float32"))]
BASES = [name for name in CELLS if name not in zoo.VARIANTS or name == "lstm-options"]
FEW = ["vanilla-tanh", "lstm-peephole-ifo", "gru"]  # the rest: pytest -m slow
CLOSE = 1e-10


def losses(model, kwargs):
    """One loss of ``(params, state, xs)``, differentiated by the rule and by autodiff."""

    def loss(derivative, at):
        params, state, xs = at
        results = rnn.unroll(model, params, xs, state, derivative=derivative, **kwargs)
        return weighted(jax.tree.map(jnp.sin, results))

    rule = "rule" if has_differential(model) else "linearized"
    return functools.partial(loss, rule), functools.partial(loss, "autodiff")


def first_order(loss, at, along, across):
    """Backward, forward, and backward for an ensemble of two."""
    two = jax.tree.map(lambda a, b: jnp.stack([a, a + b]), at, across)
    return jax.grad(loss)(at), jax.jvp(loss, (at,), (along,))[1], jax.vmap(jax.grad(loss))(two)


def second_order(loss, at, along, across):
    """Forward over reverse, reverse over reverse, forward over forward, and the first of an ensemble."""
    gradient = jax.grad(loss)

    def hessian_along(along):
        return jax.jvp(gradient, (at,), (along,))[1]

    def slope(at):
        return jax.jvp(loss, (at,), (along,))[1]

    two = jax.tree.map(lambda a, b: jnp.stack([a, b]), along, across)
    return (
        jax.vmap(hessian_along)(two),
        jax.grad(lambda at: weighted(gradient(at)))(at),
        jax.jvp(slope, (at,), (across,))[1],
    )


def compare(name, case, derivatives):
    model, params = (Leaky(I, 4, dtype="float64"), None) if name == "linearized" else make(name)
    if params is None:
        params = zoo.random_params(model)
    assert has_differential(model) == (name != "linearized")
    kwargs = {k: v for k, v in arguments(model, case).items() if k != "state"}
    at = params, zoo.random_state(model), inputs(model)
    along, across = zoo.filled(at, 7), zoo.filled(at, 8)
    got, expected = (jax.jit(functools.partial(derivatives, f))(at, along, across) for f in losses(model, kwargs))
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(expected))
    assert_close(got, expected, CLOSE)


@pytest.mark.parametrize(
    ("name", "case"),
    few(
        [(name, case) for name in CELLS for case in ("plain", "everything")],
        [("vanilla-tanh", "everything"), ("lstm-peephole-ifo", "everything"), ("gru", "plain")],
    ),
)
def test_first_order(name, case, x64):
    """Reverse and forward mode, with masks, resets, a state and reverse."""
    compare(name, case, first_order)


@pytest.mark.parametrize("name", few(["linearized", *BASES], ["lstm-peephole-ifo"]))
def test_second_order(name, x64):
    """Every pair of modes, with all arguments."""
    compare(name, "everything", second_order)


# Shapes at which a CPU computes the input projection in the step, and before the scan in chunks with a remainder
IN_STEP = {"lstm": (zoo.lstm, 21, 4, 3), "gru": (zoo.gru, 65, 128, 3), "gru-after": (zoo.gru, 65, 128, 3)}
IN_CHUNKS = {"lstm": (zoo.lstm, 20, 64, 211), "gru": (zoo.gru, 64, 128, 45), "vanilla": (zoo.vanilla, 64, 256, 70)}
FORMS = [(*shape, {"reset_after": True} if name == "gru-after" else {}) for name, shape in IN_STEP.items()]
FORMS += [(*shape, {}) for shape in IN_CHUNKS.values()]
FORMS = [pytest.param(*form, marks=[pytest.mark.slow] * (form[0] is not zoo.lstm or form[3] > 100)) for form in FORMS]


@pytest.mark.parametrize(("make", "batch", "units", "steps", "options"), FORMS)
def test_every_form_of_a_step(make, batch, units, steps, options, x64):
    """Every form of a step has the same value, gradient and second derivative."""
    model = make("float64", units=units, **options)
    params = jax.tree.map(lambda p: p / units**0.5, zoo.random_params(model))
    xs = zoo.filled(jnp.zeros((steps, batch, I)), 3)
    kwargs = {"lengths": jnp.arange(batch) % steps + 1, "reverse": batch % 2 == 0}
    at = params, zoo.random_state(model, (batch,)), xs
    got, expected = (
        jax.jit(lambda f=f: (f(at), jax.jvp(jax.grad(f), (at,), (zoo.filled(at, 7),))))() for f in losses(model, kwargs)
    )
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))  # 1e5, of sums over 4,480 rows
    assert_close(got, expected, max(CLOSE, 1e-14 * largest))  # float64 rounds each term by 1e-16 of it
    assert (common.should_precompute(model, xs), bptt.projection_chunk(model, params, xs) is None) == (
        steps > 3,
        steps == 3,
    )


# ---- where the rule does not hold, autodiff is used ----------------------------------------------------------------


class Leaky(rnn.GRU):
    """A cell that inherits a differential and changes the step."""

    def step(self, params, state, x):
        new, _ = super().step(params, state, x)
        new = 0.9 * state + 0.1 * new
        return new, new


def test_a_subclass_is_differentiated_by_autodiff(x64):
    """The step of the subclass is used, and its own derivative."""
    cell = Leaky(I, 4, dtype="float64")
    params, xs = zoo.random_params(cell), inputs(cell)
    assert not has_differential(cell)

    def plain(params):
        h, hs = cell.initial_state((B,)), []
        for x in xs:
            h, _ = cell.step(params, h, x)
            hs.append(h)
        return weighted(jnp.stack(hs))

    def unrolled(params):
        return weighted(rnn.unroll(cell, params, xs)[1])

    assert_close(jax.jit(jax.value_and_grad(unrolled))(params), jax.jit(jax.value_and_grad(plain))(params))


def test_an_activation_that_mixes_units(x64):
    """A callable activation is differentiated correctly even if it is not elementwise."""
    cell = rnn.VanillaRNN(I, 4, activation=jax.nn.softmax, dtype="float64")
    at = zoo.random_params(cell), zoo.random_state(cell), inputs(cell)
    by_rule, by_autodiff = losses(cell, {})
    assert_close(jax.jit(jax.grad(by_rule))(at), jax.jit(jax.grad(by_autodiff))(at))


def test_mixed_dtypes_promote_as_the_step_does():
    """Parameters in bfloat16 and inputs in float32: the same values, gradients and dtypes."""
    cell = rnn.GRU(I, 4, dtype="bfloat16")
    at = zoo.random_params(cell), zoo.random_state(cell), inputs(cell, dtype="float32")
    with jax.numpy_dtype_promotion("standard"):
        got, expected = (jax.jit(jax.grad(f))(at) for f in losses(cell, {}))
    assert [a.dtype for a in jax.tree.leaves(got)] == [b.dtype for b in jax.tree.leaves(expected)]
    assert_close(got, expected)


@pytest.mark.parametrize("name", ["gru-after", pytest.param("lstm-peephole-ifo", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_half_precision(name, x64):
    """In bfloat16 the error of the gradient by the rule is at most about that of autodiff."""
    model, params = make(name)
    at = params, zoo.random_state(model), inputs(model)
    exact = jnp.concatenate([x.ravel() for x in jax.tree.leaves(jax.jit(jax.grad(losses(model, {})[0]))(at))])
    half = make(name, "bfloat16")[0]
    errors = []
    for loss in losses(half, {}):
        gradient = jax.jit(jax.grad(loss))(jax.tree.map(lambda x: x.astype("bfloat16"), at))
        flat = jnp.concatenate([x.astype("float64").ravel() for x in jax.tree.leaves(gradient)])
        errors.append(float(jnp.linalg.norm(flat - exact) / jnp.linalg.norm(exact)))
    assert errors[0] < max(1.2 * errors[1], 0.01)
    assert errors[0] < 0.05


@pytest.mark.parametrize("name", few(BASES, ["vanilla-tanh"]))
@pytest.mark.slow
def test_numerical_gradients(name, x64):
    """To second order in both modes, at a length at which finite differences are accurate enough."""
    model, params = make(name)
    xs = inputs(model)[:3, :1]

    @jax.jit
    def f(params, xs):
        return rnn.unroll(model, params, xs)[1]

    check_grads(f, (params, xs), order=2, modes=["fwd", "rev"], rtol=1e-5)


# ---- what it costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "residuals"), [("vanilla-tanh", 1), ("lstm", 6), ("lstm-coupled", 5), ("gru", 4)])
def test_memory(name, residuals):
    """Residuals of each step are states and gates: h; h, c, i, f, o, c̃; h, z, r, h̃; and nothing else of size T."""
    model, params = make(name, "float32")

    def numbers(steps):
        xs = inputs(model, steps=steps, dtype="float32")
        _, pull = jax.vjp(lambda p: rnn.unroll(model, p, xs)[1], params)
        return zoo.count(pull) - xs.size

    assert numbers(20) - numbers(10) == 10 * B * residuals * zoo.H


def count_equations(jaxpr):
    """Number of operations of a program, those in loops counted once."""
    inner = [p for eqn in jaxpr.eqns for p in jax.tree.leaves(list(eqn.params.values()), is_leaf=is_jaxpr)]
    return len(jaxpr.eqns) + sum(count_equations(getattr(p, "jaxpr", p)) for p in inner if is_jaxpr(p))


def is_jaxpr(value):
    return hasattr(getattr(value, "jaxpr", value), "eqns")


@pytest.mark.parametrize("name", ["lstm-peephole-ifo", "gru", "bidirectional-concat", "user"])
def test_programs_do_not_grow_with_the_sequence(name):
    """The program does not depend on T, so compile time is constant."""
    model, params = make(name, "float32")

    def size(steps):
        xs = jax.ShapeDtypeStruct((steps, B, I), "float32")
        gradient = jax.grad(lambda params, xs: weighted_sum(rnn.unroll(model, params, xs)[1]))
        return count_equations(jax.make_jaxpr(gradient)(params, xs).jaxpr)

    def weighted_sum(ys):
        return sum(jnp.sum(y**2) for y in jax.tree.leaves(ys))

    size(1)  # some functions of JAX are traced at the first call only
    assert size(100) == size(10_000) > 20


def test_the_number_of_traces_does_not_depend_on_the_length():
    """The step is traced as often for a long sequence as for a short one."""
    counts = {}
    for steps in (5, 500):
        cell = Counting(I, 4)
        xs = jnp.ones((steps, B, I))
        jax.jit(jax.grad(lambda p, cell=cell, xs=xs: rnn.unroll(cell, p, xs)[1].sum()))(cell.init(jax.random.key(0)))
        counts[steps] = len(cell.calls)
    assert counts[5] == counts[500] > 0


class Counting:
    """A user's cell that counts its calls."""

    def __init__(self, inputs, units):
        self.cell, self.calls = rnn.GRU(inputs, units), []
        self.init, self.initial_state = self.cell.init, self.cell.initial_state

    def step(self, params, state, x):
        self.calls.append(x.shape)
        return self.cell.step(params, state, x)


def test_time_is_linear_in_the_length():
    """Guards against compilers whose loops take time quadratic in T: 400 times as long for 20 times the steps."""
    cell = rnn.LSTM(2, 4)
    gradient = jax.jit(jax.grad(lambda params, xs: rnn.unroll(cell, params, xs)[1].sum()))
    params = cell.init(jax.random.key(0))

    def seconds(steps):
        xs = jnp.ones((steps, 1, 2))
        jax.block_until_ready(gradient(params, xs))
        times = []
        for _ in range(5):
            began = time.perf_counter()
            jax.block_until_ready(gradient(params, xs))
            times.append(time.perf_counter() - began)
        return min(times)

    assert seconds(40_000) < 120 * seconds(2_000)


def test_final_state_alone_takes_no_memory():
    """Unused outputs are not stored."""
    cell = rnn.LSTM(2, 64)
    params = cell.init(jax.random.key(0))

    def temporary(steps):
        xs = jax.ShapeDtypeStruct((steps, 20, 2), "float32")
        compiled = jax.jit(lambda params, xs: rnn.unroll(cell, params, xs)[0]).lower(params, xs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(4000) < temporary(400) + 4000 * 4  # the outputs of one unit of one sequence would take as much


@pytest.mark.parametrize("name", FEW)
def test_a_mesh_of_one_device(name):
    """With shardings as part of types: outputs outside of the context of the mesh, the gradient inside of it."""
    model, params = make(name, "float32")
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Explicit,))
    xs = inputs(model, dtype="float32")
    sharded_arguments = jax.device_put(xs, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "batch")))

    def loss(params, xs):
        return (rnn.unroll(model, params, xs)[1] ** 2).sum()

    assert_close(rnn.unroll(model, params, sharded_arguments)[1], rnn.unroll(model, params, xs)[1], 1e-6)
    if not EXPLICIT_GRADIENTS:
        pytest.skip("this JAX refuses the gradient of any product with such inputs")
    with set_mesh(mesh):
        got = jax.jit(jax.grad(loss))(params, sharded_arguments)
    assert_close(got, jax.jit(jax.grad(loss))(params, xs), 1e-5)
