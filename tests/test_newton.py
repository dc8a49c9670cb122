"""Newton's method in time against the scan: values, derivatives, and where it does not converge."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from contract import arguments, assert_close, floats, make, weighted
from refusals import refuses
from zoo import VARIANTS, ZOO, B, I, few, inputs

import jaxrnn as rnn
from jaxrnn.parallel.affine import affine_scan, damped_affine_scan
from jaxrnn.parallel.equations import residual

INTEGERS = [name for name in ZOO if name.startswith("user")]  # a count of the steps in the state
MODELS = [name for name in ZOO if name not in (*INTEGERS, *VARIANTS)]


class MinimalGatedUnit:
    """A user's own cell with two arrays in its state: h, and a trace of it."""

    def init(self, key):
        return jax.random.normal(key, (2, I + 4, 4), "float64")

    def initial_state(self, batch_shape=()):
        return {"h": jnp.full((*batch_shape, 4), 0.1), "trace": jnp.zeros((*batch_shape, 2, 2))}

    def step(self, params, state, x):
        w_f, w = params
        h = state["h"]
        f = jax.nn.sigmoid(jnp.concatenate([x, h], -1) @ w_f)
        h = (1 - f) * h + f * jnp.tanh(jnp.concatenate([x, f * h], -1) @ w)
        trace = 0.5 * state["trace"] + jnp.sin(h.reshape(*h.shape[:-1], 2, 2))
        return {"h": h, "trace": trace}, trace[..., 0, :]


def both(model, case, at, parallel):
    """A function of parameters, state and inputs: in parallel, and step after step."""
    kwargs = {k: v for k, v in arguments(model, case).items() if k != "state"}

    def f(how, at):
        params, state, xs = at
        return rnn.unroll(model, params, xs, state, parallel=how, **kwargs)

    return functools.partial(f, parallel), functools.partial(f, "sequential")


def compare(model, params, case, parallel, derivatives):
    at = params, zoo.random_state(model), inputs(model)
    along = zoo.filled(at, 7)
    results = []
    for f in both(model, case, at, parallel):
        loss = lambda at, f=f: weighted(list(map(jnp.sin, floats(f(at)))))  # noqa: E731
        results.append(jax.jit(functools.partial(derivatives, f, loss))(at, along))
    assert_close(*results)


def first_order(f, loss, at, along):
    return f(at), jax.grad(loss, allow_int=True)(at)[0]


def all_derivatives(f, loss, at, along):
    """Reverse and forward mode, an ensemble, and second derivatives in three ways."""
    gradient = jax.grad(loss)
    two = jax.tree.map(lambda a, b: jnp.stack([a, a + b]), at, along)
    return (
        f(at),
        gradient(at),
        jax.jvp(loss, (at,), (along,))[1],
        jax.vmap(gradient)(two),
        jax.jvp(gradient, (at,), (along,))[1],
        jax.grad(lambda at: weighted(gradient(at)))(at),
    )


@pytest.mark.parametrize(
    ("name", "case", "parallel"),
    few(
        [(name, "everything", "newton") for name in MODELS]
        + [(name, "plain", "newton") for name in ("gru", "stack-mixed", "bidirectional-of-stack")]
        + [(name, "everything", "scan") for name in ("vanilla-tanh", "lstm-peephole-ifo", "gru", "sru-peepholes")],
        [("vanilla-tanh", "everything", "newton")],
    ),
)
def test_equal_to_the_scan(name, case, parallel, x64):
    """Values and the gradient of the parameters of every model."""
    compare(*make(name), case, parallel, first_order)


@pytest.mark.parametrize("parallel", ["newton", "scan"])
@pytest.mark.parametrize("name", ["vanilla-tanh", "lstm-peephole-ifo", "gru", "user"])
@pytest.mark.slow
def test_derivatives(name, parallel, x64):
    """Every mode and order, with masks, resets, a state and reverse; also of a user's cell."""
    model = MinimalGatedUnit() if name == "user" else make(name)[0]
    compare(model, zoo.random_params(model), "everything", parallel, all_derivatives)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"jacobian": "diagonal"}, {"damping": 0.02}, {"jacobian": "diagonal", "damping": 0.02}]
)
@pytest.mark.parametrize("case", ["plain", "everything"])
def test_every_form(options, case, x64):
    """Full, diagonal and damped forms find the same states; the report is of them."""
    model, params = make("lstm-peephole-ifo")
    xs, kwargs = inputs(model), arguments(model, case)
    found = rnn.parallel.newton(model, params, xs, kwargs.pop("state", None), **options, **kwargs)
    kwargs = arguments(model, case)
    assert_close(found[:2], rnn.unroll(model, params, xs, **kwargs))
    assert_close(found.states, rnn.trajectory(model, params, xs, **kwargs))
    assert float(found.residual) < 1e-13
    assert (int(found.iterations) <= zoo.T) or options


@pytest.mark.slow
def test_residual(x64):
    """It is the largest error of a step from the state before, relative to numbers above 1."""
    assert float(residual(jnp.array([1.0, 5.0]), jnp.array([0.5, 4.0]))) == 0.5
    model, params = make("vanilla-tanh")
    xs = inputs(model, steps=30)
    found = rnn.parallel.newton(model, params, xs, max_iterations=2, tolerance=1e-9)
    assert int(found.iterations) == 2
    assert float(found.residual) > 1e-9
    converged = rnn.parallel.newton(model, params, xs, tolerance=1e-9)
    assert float(converged.residual) <= 1e-9 < float(found.residual)
    with pytest.raises(AssertionError):
        assert_close(found.ys, converged.ys, 1e-9)


@pytest.mark.slow
def test_linear_recurrences(x64):
    """The affine recurrence, and its damped form against dense least squares."""
    rng = np.random.default_rng(0)
    T, S, damping = 5, 2, 0.3
    A, b = rng.normal(size=(T, S, S)), rng.normal(size=(T, S))
    steps = np.eye(T * S)
    for t in range(1, T):
        steps[t * S : (t + 1) * S, (t - 1) * S : t * S] = -A[t]
    assert_close(affine_scan(jnp.array(A), jnp.array(b)).ravel(), np.linalg.solve(steps, b.ravel()))
    damped = np.linalg.solve(steps.T @ steps + damping * np.eye(T * S), steps.T @ b.ravel())
    assert_close(damped_affine_scan(jnp.array(A), jnp.array(b), damping).ravel(), damped)


@pytest.mark.parametrize("steps", [0, 1, 40])
@pytest.mark.slow
def test_remat_and_any_length(steps, x64):
    """Chunks are solved one after another; 0 and 1 steps."""
    model, params = make("gru")
    xs = inputs(model, steps=steps)
    expected = rnn.unroll(model, params, xs)
    assert_close(rnn.unroll(model, params, xs, parallel="newton"), expected)
    assert_close(rnn.unroll(model, params, xs, parallel="newton", remat=True), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.slow
def test_other_dtypes(dtype):
    """Iterations in float32 or better; results in the dtype of the scan."""
    model = rnn.Stack(rnn.LSTM(I, 4, dtype=dtype), rnn.GRU(4, 4, dtype=dtype))
    params, xs = model.init(jax.random.key(0)), inputs(model, steps=50, dtype=dtype)
    got, expected = (rnn.unroll(model, params, xs, parallel=how) for how in ("newton", None))
    assert [x.dtype for x in jax.tree.leaves(got)] == [x.dtype for x in jax.tree.leaves(expected)]
    assert_close(got, expected, 1e-5 if dtype == "float32" else 0.03)


# ---- where it does not converge ------------------------------------------------------------------------------------


def vanilla(gain, units=16, steps=200):
    """A network with random weights, chaotic for a gain much above 1, and inputs for it."""
    cell = rnn.VanillaRNN(I, units)
    params, key = cell.init(jax.random.key(0)), jax.random.key(1)
    w_hh = gain / units**0.5 * jax.random.normal(key, (units, units))
    return cell, params._replace(w_hh=w_hh), 0.1 * jax.random.normal(key, (steps, B, I))


@pytest.mark.slow
def test_a_contractive_network_takes_few_iterations():
    """Whatever the number of steps."""
    for steps in (50, 2000):
        assert int(rnn.parallel.newton(*vanilla(0.7, steps=steps)).iterations) <= 6


@pytest.mark.slow
def test_a_chaotic_network_is_refused():
    """With its exponent; under jit everything is NaN; the report says it."""
    cell, params, xs = vanilla(3.0)
    largest = rnn.gradients.lyapunov_spectrum(cell, params, xs[:, 0], exponents=1)[0]
    assert largest > 0.05
    message = "ValueError parallel: expected 'newton' … Lyapunov exponent of about 0.…; above 0, where …"
    refuses(message, lambda: rnn.unroll(cell, params, xs, parallel="newton"))
    loss = lambda params: rnn.unroll(cell, params, xs, parallel="newton")[1].sum()  # noqa: E731
    refuses(message, lambda: jax.grad(loss)(params))
    assert all(jnp.isnan(x).all() for x in jax.tree.leaves(jax.jit(jax.value_and_grad(loss))(params)))
    found = rnn.parallel.newton(cell, params, xs)
    assert int(found.iterations) == 100
    assert float(found.residual) > 1e-3
    every = rnn.parallel.newton(cell, params, xs, max_iterations=2 * len(xs))  # one state more after each
    assert float(every.residual) < 1e-5


def test_refusals():
    """Arguments that do not fit."""
    cell = rnn.GRU(I, 4)
    params, xs = cell.init(jax.random.key(0)), jnp.ones((2, I))
    newton = functools.partial(rnn.parallel.newton, cell, params, xs)
    cell, params, xs = vanilla(0.5)
    refuses("ValueError xs: expected finite numbers, for parallel='newton', got …",
            lambda: rnn.unroll(cell, params, xs.at[1].set(jnp.nan), parallel="newton"))  # fmt: skip
    refuses("ValueError damping: expected a number above 0, got 0", lambda: newton(damping=0))
    refuses("ValueError tolerance: expected a number above 0, got -1", lambda: newton(tolerance=-1))
    refuses("ValueError jacobian: expected one of 'full', 'diagonal', got 'none'", lambda: newton(jacobian="none"))
    refuses("ValueError max_iterations: expected a positive int, got 0", lambda: newton(max_iterations=0))
    stack = rnn.Stack(cell)
    refuses("TypeError cell: expected a cell, got …; a layer: rnn.unroll(…)",
            lambda: rnn.parallel.newton(stack, (params,), xs))  # fmt: skip
    refuses("ValueError tolerance: expected a number above 0, got 0…",
            lambda: rnn.unroll(cell, params, xs, parallel="newton", tolerance=0.0))  # fmt: skip
    user = zoo.Average(I)
    refuses("TypeError state: expected floating numbers only, got …",
            lambda: rnn.unroll(user, user.init(jax.random.key(0)), xs, parallel="newton"))  # fmt: skip
