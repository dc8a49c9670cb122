"""Linear recurrences in parallel: equal to the scan, with every argument and every derivative."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from contract import RESETS, arguments, assert_close, make, weighted
from jax import export
from jax.sharding import PartitionSpec
from refusals import refuses
from test_bptt import first_order, second_order
from zoo import ZOO, B, T, few, inputs

import jaxrnn as rnn
from jaxrnn.parallel import linear, linear_recurrence, unrolled
from jaxrnn.types import Complex, is_linear

LINEAR = [name for name in ZOO if is_linear(ZOO[name].build("float32"))]


def losses(model, kwargs):
    """A loss of ``(params, state, xs)``: by prefix scan, step after step, and by autodiff of the scanned step."""

    def loss(options, at):
        params, state, xs = at
        return weighted(jax.tree.map(jnp.sin, rnn.unroll(model, params, xs, state, **options, **kwargs)))

    options = {"parallel": "scan"}, {"parallel": "sequential"}, {"derivative": "autodiff"}
    return [functools.partial(loss, option) for option in options]


def compare(name, case, derivatives):
    model, params = make(name)
    kwargs = {k: v for k, v in arguments(model, case).items() if k != "state"}
    at = params, zoo.random_state(model), inputs(model)
    along, across = zoo.filled(at, 7), zoo.filled(at, 8)
    *got, expected = (jax.jit(functools.partial(derivatives, f))(at, along, across) for f in losses(model, kwargs))
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(expected))
    for result in got:
        assert_close(result, expected)


@pytest.mark.parametrize(
    ("name", "case"),
    few([(name, case) for name in LINEAR for case in ("plain", "everything")], [("mingru", "plain")]),
)
def test_first_order(name, case, x64):
    """Reverse and forward mode, with masks, resets, a state and reverse."""
    compare(name, case, first_order)


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR)
def test_second_order(name, x64):
    """Every pair of modes, with all arguments."""
    compare(name, "everything", second_order)


@pytest.mark.parametrize("reverse", few([False, True], [True]))
@pytest.mark.parametrize("steps", few([0, 1, 2, 3, 16, 17, 211], [17]))
@pytest.mark.parametrize("algorithm", few([name for name in linear.ALGORITHMS if name != "sequential"], ["chunks"]))
@pytest.mark.parametrize("pair", few([False, True], [True]))
def test_every_algorithm(pair, algorithm, steps, reverse, x64):
    """States of odd, even and no steps are those of a loop in NumPy, real or complex, in both directions."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(steps, B, 2)) + 1j * pair * rng.normal(size=(steps, B, 2)) for _ in range(2))
    s = initial = rng.normal(size=(B, 2)) + 1j * pair
    expected = np.zeros_like(b)
    for t in range(steps)[:: -1 if reverse else 1]:
        expected[t] = s = 0.5 * a[t] * s + b[t]

    def split(z):
        return Complex(jnp.asarray(z.real), jnp.asarray(z.imag)) if pair else jnp.asarray(z.real)

    got = linear_recurrence(split(0.5 * a), split(b), split(initial), reverse=reverse, algorithm=algorithm)
    assert_close(got, split(expected))


@pytest.mark.slow
@pytest.mark.parametrize("only", ["decay", "update", "initial", "real"])
def test_derivatives_of_one_argument(only, x64):
    """Gradient and Hessian, reverse over reverse too, with respect to one argument or a part of one."""
    rng = np.random.default_rng(0)
    tree = {
        name: Complex(*jnp.asarray(rng.normal(0, 0.5, (2, *shape))))
        for name, shape in {"decay": (5, 2), "update": (5, 2), "initial": (2,)}.items()
    }
    chosen = tree["update"].real if only == "real" else tree[only]

    def loss(run, value):
        changed = {"update": tree["update"]._replace(real=value)} if only == "real" else {only: value}
        states = run(**tree | changed, reverse=False)
        return jnp.sin(states.real[3]).sum() + states.imag.sum()

    plain = functools.partial(loss, linear.sequential)
    for derive in (jax.grad, jax.hessian, lambda f: jax.jacrev(jax.grad(f)), jax.jacfwd):
        expected = jax.jit(derive(plain))(chosen)
        for algorithm in linear.ALGORITHMS:
            f = functools.partial(loss, functools.partial(linear_recurrence, algorithm=algorithm))
            assert_close(jax.jit(derive(f))(chosen), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR)
def test_every_argument(name, x64):
    """In parallel with chunks of remat, resets and lengths: values, states, gradients, and no NaN from the padding."""
    model, params = make(name)
    kwargs = arguments(model, "everything")
    xs = inputs(model)
    dirty = jnp.where(jnp.arange(len(xs))[:, None, None] < kwargs["lengths"][None, :, None], xs, jnp.nan)

    def run(xs, **options):
        loss = lambda params, xs: weighted(rnn.unroll(model, params, xs, **kwargs, **options))  # noqa: E731
        states = rnn.trajectory(model, params, xs, **kwargs, **options)
        return rnn.unroll(model, params, xs, **kwargs, **options), states, jax.grad(loss, (0, 1))(params, xs)

    expected = run(xs, parallel="sequential")
    for options in ({}, {"remat": 2}, {"remat": True}):
        assert_close(run(dirty, parallel="scan", **options), expected)


@pytest.mark.parametrize("name", few(LINEAR, ["mingru"]))
def test_a_reset_where_there_is_no_input(name, x64):
    """A sequence that begins with a missing step begins anew there, in every way to compute it."""
    model, params = make(name)
    xs, t = inputs(model), 2
    here = jnp.zeros(xs.shape[:2], bool).at[t].set(True)
    _, expected = rnn.unroll(model, params, xs[t + 1 :])
    with jax.disable_jit():
        for options in ({}, {"parallel": "scan"}, {"derivative": "autodiff"}):
            _, ys = rnn.unroll(model, params, xs, resets=here, input_mask=~here, **options)
            assert_close(ys[t + 1 :], expected)


@pytest.mark.slow
def test_layers_pass_the_option_on(x64):
    """Through stacks, both directions and wrappers: the program has no loop over all steps."""
    cells = rnn.LRU(3, 4, dtype="float64"), rnn.MinGRU(4, 4, dtype="float64"), rnn.SRU(8, 4, dtype="float64")
    model = rnn.Stack(cells[0], rnn.Bidirectional(rnn.Residual(cells[1])), rnn.Reverse(cells[2]))
    params, xs = zoo.random_params(model), inputs(model)

    def gradient(parallel):
        return jax.grad(lambda params: weighted(rnn.unroll(model, params, xs, parallel=parallel)))

    assert_close(gradient("scan")(params), gradient("sequential")(params))
    assert f"length={T}" not in str(jax.make_jaxpr(gradient("scan"))(params))
    assert f"length={T}" in str(jax.make_jaxpr(gradient("sequential"))(params))


@pytest.mark.slow
def test_residuals_are_decays_and_states():
    """The gradient stores nothing of the tree of the prefix scan: no more than the sequential form."""
    model, params = make("mingru", "float32")

    def stored(steps, parallel):
        xs = inputs(model, steps=steps, dtype="float32")
        return zoo.count(jax.vjp(lambda p: rnn.unroll(model, p, xs, parallel=parallel)[1], params)[1])

    assert stored(64, "scan") == stored(64, "sequential")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lru", "mingru"])
def test_long_sequences_in_float32(name, x64, monkeypatch):
    """After 100,000 steps the error of either algorithm is a few roundings of the largest state."""
    model = rnn.LRU(3, 4, r_min=0.99, r_max=0.99999) if name == "lru" else rnn.MinGRU(3, 4)
    params = model.init(jax.random.key(0))
    exact_model = rnn.from_repr(repr(model).replace(")", ", dtype='float64')"))
    xs = inputs(model, steps=100_000, batch=(), dtype="float32")
    exact, xs_exact = jax.tree.map(lambda p: p.astype("float64"), (params, xs))
    expected = np.asarray(rnn.unroll(exact_model, exact, xs_exact)[1])
    for algorithm in linear.ALGORITHMS:
        monkeypatch.setattr(unrolled, "choose_algorithm", lambda parallel, decay, name=algorithm: name)
        jax.clear_caches()
        got = np.asarray(rnn.unroll(model, params, xs)[1])
        error = np.abs(got - expected).max() / np.abs(expected).max()
        print(name, algorithm, error)
        assert error < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_choice(backend, monkeypatch):
    """None is a loop on a CPU, a prefix scan on an accelerator."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    chosen = [unrolled.choose_algorithm(parallel, jnp.ones((5, 2))) for parallel in (None, "sequential", "scan")]
    parallel = {"cpu": "chunks", "gpu": "prefix"}[backend]
    assert chosen == ["sequential" if backend == "cpu" else "prefix", "sequential", parallel]


# ---- with the rest of the library: linear cells, and others by Newton's method -------------------------------------

CROSSED = {
    "learned state": lambda: rnn.LearnedState(rnn.MinGRU(3, 4, dtype="float64")),
    "learned state of a context": lambda: rnn.LearnedState(rnn.GRU(3, 4, dtype="float64"), context_size=2),
    "noise": lambda: rnn.LearnedState(rnn.LeakyRNN(3, 4, noise=0.3, dtype="float64")),
    "zoneout": lambda: rnn.Zoneout(rnn.MinGRU(3, 4, dtype="float64"), 0.3),
    "variational dropout": lambda: rnn.VariationalDropout(rnn.LSTM(3, 4, dtype="float64"), inputs=0.3, state=0.3),
    "weight drop": lambda: rnn.WeightDrop(rnn.GRU(3, 4, dtype="float64"), 0.3),
    "zoneout of a convolution": lambda: rnn.Zoneout(zoo.conv("float64", 4, 1), 0.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CROSSED)
def test_crossed(name, x64):
    """Wrappers, a learned state and noise, with a mask of inputs, resets and chunks: all equal to the scan."""
    model = CROSSED[name]()
    params, xs = zoo.random_params(model), inputs(model)
    if getattr(model, "context_size", None):
        params = model.with_context(params, jnp.ones((B, 2)))
    arguments = {"input_mask": np.arange(T * B).reshape(T, B) % 3 > 0, "resets": RESETS, "key": jax.random.key(1)}

    @functools.partial(jax.jit, static_argnames=("parallel", "remat"))
    def run(params, xs, parallel, remat=False):
        def loss(params, xs):
            result = rnn.unroll(model, params, xs, parallel=parallel, remat=remat, **arguments)
            return weighted(jax.tree.map(jnp.sin, result[1])), result

        return jax.grad(loss, (0, 1), has_aux=True)(params, xs)

    expected = run(params, xs, "sequential")
    for parallel, remat in (("scan", False), ("newton", 2)):
        assert_close(run(params, xs, parallel, remat), expected)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["scan", "newton"])
@pytest.mark.parametrize("name", ["lru", "mingru", "gru", "sru-peepholes"])
def test_in_shard_map(name, parallel, x64):
    """Values and gradients of a batch that is split over devices."""
    if name not in LINEAR and jax.__version_info__ < (0, 10):
        pytest.skip("older JAX types the tangents in shard_map otherwise")
    model, params = make(name)
    split, whole = PartitionSpec(None, "devices"), PartitionSpec()
    mesh = jax.make_mesh((1,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))

    def run(parallel):
        return lambda params, xs: rnn.unroll(model, params, xs, parallel=parallel)[1]

    def results(f):
        loss = lambda *at: jnp.sin(f(*at)).sum()  # noqa: E731
        at = params, inputs(model)
        return jax.jit(f)(*at), jax.jit(jax.grad(loss, (0, 1)))(*at)

    mapped = jax.shard_map(run(parallel), mesh=mesh, in_specs=(whole, split), out_specs=split)
    assert_close(results(mapped), results(run("sequential")))


@pytest.mark.slow
def test_exported_for_any_number_of_steps():
    """A linear recurrence is sequential there; Newton's method is refused."""
    steps, batch = export.symbolic_shape("T, B")
    like = jax.ShapeDtypeStruct((steps, batch, 3), "float32")

    def exported(name):
        model, params = make(name, "float32")
        return export.export(jax.jit(lambda xs: rnn.unroll(model, params, xs, parallel="scan")[1]))(like)

    for name in ("lru", "mingru"):
        model, params = make(name, "float32")
        xs = inputs(model, dtype="float32")
        assert_close(exported(name).call(xs), rnn.unroll(model, params, xs)[1], 1e-6)
    refuses(
        "ValueError parallel: expected 'sequential' in a program exported for any number of steps, got 'scan' for …",
        lambda: exported("gru"),
    )
