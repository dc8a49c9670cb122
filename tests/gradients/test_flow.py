"""Gradient flow against a perturbed Python loop, dense Jacobians, theory and a loop over chunks."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import perturbed_loop
import pytest
import zoo
from jax.flatten_util import ravel_pytree
from one_width import FAMILIES, LENGTHS, MASK, MODELS, RESETS, B, N, T, assert_close, case, linear
from zoo import few

import jaxrnn as rnn
from jaxrnn.gradients import gradient_flow, sensitivity, temporal_components, truncation_error

KEY = jax.random.key(0)


def unroll_options(model, kind):
    """Keyword arguments of unroll."""
    state = zoo.random_state(model)
    return {
        "plain": {},
        "forward": {"lengths": LENGTHS, "resets": RESETS & MASK},
        "all": {"state": state, "lengths": LENGTHS, "resets": RESETS & MASK, "reverse": True},
    }[kind]


def loss(final, ys):
    """A scalar that depends on every floating entry of the final state and the outputs, on each in another way."""
    leaves = [leaf for leaf in jax.tree.leaves((final, ys)) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return sum(jnp.sum(jnp.sin(leaf + jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape))) for leaf in leaves)


# ---- the flow of a loss --------------------------------------------------------------------------------------------


IN_OTHERS = [
    "vanilla",
    "LSTM",
    "GRU",
    "both directions",
    "deep both directions",
    "residual",
]  # covered by the models that contain them


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(pytest.param(name, "all", marks=[pytest.mark.slow] * (name in IN_OTHERS)) for name in MODELS),
        *(pytest.param(name, "plain", marks=pytest.mark.slow) for name in MODELS),
        ("both directions", "forward"),
        pytest.param("stack", "forward", marks=pytest.mark.slow),
    ],
)
def test_flow_is_that_of_a_perturbed_loop(name, kind, x64):
    """Every layer, direction and array of a state, with all options of unroll."""
    model, params, xs = case(name)
    options = unroll_options(model, kind)
    flow = gradient_flow(model, params, xs, loss, **options)
    assert jax.tree.structure(flow) == jax.tree.structure(rnn.trajectory(model, params, xs))
    assert_close(flow, perturbed_loop.flow(model, params, xs, loss, **options))


@pytest.mark.slow
def test_flow_compiled(x64):
    """The flow is the same when compiled and rematerialised."""
    model, params, xs = case("both directions")
    options = unroll_options(model, "all")
    flow = gradient_flow(model, params, xs, loss, remat=2, **options)
    with jax.disable_jit():
        assert_close(flow, perturbed_loop.flow(model, params, xs, loss, **options))


def test_flow_by_hand(x64):
    """Independent units, h_t = h_{t-1} / 2 + x_t, and L the sum of h_T: dL/dh_t = 2^(t - T) for each of four."""
    cell, params = linear(0.5, "float64")
    params, xs = params._replace(w_hh=0.5 * jnp.eye(N)), jnp.ones((T, B, N))
    flow = functools.partial(gradient_flow, cell, params, xs, lambda final, ys: final.sum())
    powers = 2.0 * 0.5 ** np.arange(T)[::-1, None] * np.ones(B)
    assert_close(flow(), powers)
    assert_close(flow(reverse=True), powers[::-1])
    up_to_the_end = np.array([[0.125, 0.5, 0], [0.25, 1, 0], [0.5, 2, 0], [1, 0, 0], [2, 0, 0]])
    assert_close(flow(lengths=jnp.array([5, 3, 0])), up_to_the_end)
    after_the_reset = np.where(np.arange(T)[:, None] < [2, 0, 4], 0, powers)
    resets = jnp.zeros((T, B), bool).at[2, 0].set(True).at[4, 2].set(True)
    assert_close(flow(resets=resets), after_the_reset)


def test_lstm_without_the_output(x64):
    """The loss depends on h only: there is no later step that the last c could affect."""
    flow = gradient_flow(*case("LSTM"), lambda final, ys: final.h.sum())
    assert not flow.c[-1].any()
    assert (flow.c[:-1] > 0).all()
    np.testing.assert_allclose(flow.h[-1], N**0.5)


def test_norms_neither_underflow_nor_overflow():
    """A norm of 1e-30 is not 0, and one of 1e30 is finite: numbers are scaled before they are squared."""
    xs = jnp.zeros((101, N))
    for scale in (0.5, 2.0):
        cell, params = linear(scale)
        flow = gradient_flow(cell, params, xs, lambda final, ys: final[0])
        np.testing.assert_allclose(flow, scale ** np.arange(100.0, -1, -1), rtol=1e-4)
        np.testing.assert_allclose(sensitivity(cell, params, xs).by_state, scale ** np.arange(100.0, -1, -1), rtol=1e-4)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A user's cell with a compiled step."""

    size: int

    def init(self, key):
        return jax.random.normal(key, (self.size, self.size))

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, self.size))

    @functools.partial(jax.jit, static_argnums=0)
    def step(self, params, h, x):
        h = jnp.tanh(h @ params + x)
        return h, h


def test_compiled_step_whose_output_is_its_state():
    """The gradient through the output of a step is included, although ``jit`` returns two arrays."""
    cell, xs = Compiled(N), jnp.ones((T, N))
    params = zoo.random_params(cell)
    plain = rnn.VanillaRNN(N, N, use_bias=False)
    expected = gradient_flow(plain, rnn.VanillaParams(jnp.eye(N), params, None), xs, loss)
    assert_close(gradient_flow(cell, params, xs, loss), expected, atol=1e-6)


def test_one_trace():
    """A step is traced a few times for any sequence length, and not again for the same shapes."""
    calls = []

    class Counting(zoo.Average):
        def step(self, params, state, x):
            calls.append(1)
            return super().step(params, state, x)

    cell = dataclasses.dataclass(frozen=True)(Counting)(N)
    params = zoo.random_params(cell)
    counts = []
    for steps in (5, 5, 50):
        calls.clear()
        gradient_flow(cell, params, jnp.ones((steps, B, N)), loss)
        counts.append(len(calls))
    assert counts[0] == counts[2] <= 4
    assert counts[1] == 0


def test_memory_is_linear_in_the_steps():
    """Twice the steps, twice the memory: no array of size T × H × H or T × T."""
    hidden = 64
    cell = rnn.LSTM(N, hidden)
    params = zoo.random_params(cell)
    flow = jax.jit(lambda params, xs: gradient_flow(cell, params, xs, lambda final, ys: ys.sum()))

    def memory(steps):
        compiled = flow.lower(params, jnp.ones((steps, N))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    short, longer, longest = map(memory, (100, 200, 400))
    assert longest - longer == pytest.approx(2 * (longer - short), rel=0.05)
    assert (longest - longer) / 200 < 4 * 32 * hidden  # bytes a step: a few dozen vectors of H, not a matrix


# ---- sensitivity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 0.9, 1.1])
def test_sensitivity_of_a_linear_network(scale):
    """w_hh = a Q: every singular value is a^k after k steps."""
    by_state, by_input = sensitivity(*linear(scale), jnp.ones((31, 2, N)))
    powers = scale ** np.arange(30.0, -1, -1)[:, None] * np.ones(2)
    np.testing.assert_allclose(by_state, powers, rtol=1e-5)
    assert by_input.shape == (31, 2)


@pytest.mark.parametrize(("name", "at"), few([("both directions", 2), ("user", -1), ("LSTM", 2)], [("user", -1)]))
def test_sensitivity_is_that_of_dense_jacobians(name, at, x64):
    """The norm is that of the whole matrix; a pair of outputs is concatenated."""
    model, params, xs = case(name)
    assert_close(sensitivity(model, params, xs, at=at), perturbed_loop.sensitivity(model, params, xs, at))


@pytest.mark.parametrize("options", [{"lengths": LENGTHS}, {"resets": RESETS, "reverse": True}])
def test_sensitivity_with_options(options, x64):
    """No gradient into the padding or across a reset."""
    model, params, xs = case("GRU")
    assert_close(
        sensitivity(model, params, xs, at=1, **options), perturbed_loop.sensitivity(model, params, xs, 1, **options)
    )


def test_sensitivity_of_token_ids(x64):
    """There is no derivative by ids; that by a counter in a state is 0."""
    model = rnn.Stack(rnn.Embedding(N, N, dtype="float64"), zoo.Average(N, "float64"))
    by_state, by_input = sensitivity(model, zoo.random_params(model), case("tied")[2])
    assert by_input is None
    assert not by_state[1]["steps"].any()
    assert by_state[1]["mean"].shape == (T, B)


# ---- temporal components -------------------------------------------------------------------------------------------


def of_cells(model, tree):
    """The entries of cells in a tree with the structure of the parameters."""
    if isinstance(model, rnn.Stack):
        return [of_cells(layer, part) for layer, part in zip(model.layers, tree, strict=True)]
    if isinstance(model, rnn.Bidirectional):
        return [of_cells(layer, part) for layer, part in zip(model.directions, tree, strict=True)]
    if isinstance(model, (rnn.Residual, rnn.Tied)):
        return of_cells(model.layer, tree.layer if isinstance(model, rnn.Tied) else tree)
    return tree if not hasattr(model, "apply") else ()


@pytest.mark.parametrize(
    ("name", "kind"),
    few(
        [(name, "plain") for name in FAMILIES]
        + [(name, "all") for name in ("stack", "user", "both directions", "residual", "tied")],
        [("user", "all")],
    ),
)
def test_components_add_up_to_the_gradient(name, kind, x64):
    """For every cell and option; in stacks and both directions, with all options of unroll."""
    model, params, xs = case(name)
    options = unroll_options(model, kind)

    @jax.jit
    def both(params):
        whole = jax.grad(lambda params: loss(*rnn.unroll(model, params, xs, **options)))(params)
        return whole, temporal_components(model, params, xs, loss, **options)

    whole, components = both(params)
    assert all(leaf.shape[0] == len(xs) for leaf in jax.tree.leaves(components))
    assert_close(jax.tree.map(lambda leaf: leaf.sum(0), components), of_cells(model, whole))


def test_components_in_float32():
    """The same in float32: each of the two is within 1.4e-6 of the largest entry from its value in float64."""
    model, xs = rnn.LSTM(N, N, peepholes="ifo"), jax.random.normal(KEY, (T, B, N))
    params = zoo.random_params(model)
    whole = jax.jit(jax.grad(lambda params: loss(*rnn.unroll(model, params, xs))))(params)
    components = temporal_components(model, params, xs, loss)
    for component, g in zip(jax.tree.leaves(components), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(component.sum(0), g, atol=3e-6 * jnp.abs(g).max())


def test_single_components(x64):
    """The component of a step is the gradient with respect to a separate copy of the parameters for that step."""
    cell, params, xs = case("GRU")
    components = temporal_components(cell, params, xs, loss)

    def with_copy(at, copy):
        state, ys = cell.initial_state((B,)), []
        for t, x in enumerate(xs):
            state, y = cell.step(copy if t == at else params, state, x)
            ys.append(y)
        return loss(state, jnp.stack(ys))

    for at in (0, 3):
        assert_close(
            jax.tree.map(lambda leaf, at=at: leaf[at], components),
            jax.jit(jax.grad(functools.partial(with_copy, at)))(params),
        )


# ---- truncation ----------------------------------------------------------------------------------------------------


def chunked_loss(model, params, xs, every):
    """The loss of a model unrolled chunk by chunk, with ``stop_gradient`` in between."""
    state, ys = model.initial_state((B,)), []
    for start in range(0, len(xs), every):
        state, y = rnn.unroll(model, params, xs[start : start + every], jax.lax.stop_gradient(state))
        ys.append(y)
    return loss(state, jax.tree.map(lambda *y: jnp.concatenate(y), *ys))


def test_truncation_is_that_of_chunks(x64):
    """The relative error of the gradient of a loop over chunks of two steps, the last of one."""
    model, params, xs = case("GRU")

    @jax.jit
    def both(params):
        whole = jax.grad(lambda params: loss(*rnn.unroll(model, params, xs)))(params)
        truncated = jax.grad(lambda params: chunked_loss(model, params, xs, 2))(params)
        return truncation_error(model, params, xs, loss, every=2), ravel_pytree(whole)[0], ravel_pytree(truncated)[0]

    error, whole, truncated = both(params)
    assert error > 0.01
    np.testing.assert_allclose(error, jnp.linalg.norm(whole - truncated) / jnp.linalg.norm(whole), rtol=1e-9)


@pytest.mark.slow
def test_truncation_of_nothing(x64):
    """The error is 0 for chunks as long as the sequence, for chunks that end at resets, and for a gradient of 0."""
    model, params, xs = case("GRU")
    error = functools.partial(truncation_error, model, params, xs)
    for every in (T, T + 3):
        assert error(loss, every=every) < 1e-14
    resets = jnp.zeros((T, B), bool).at[2].set(True).at[4].set(True)
    assert error(loss, every=2, resets=resets) < 1e-14  # rounding of two programs; the error above is > 0.01
    assert error(lambda final, ys: jnp.zeros(()), every=1) == 0


def test_truncation_in_both_directions(x64):
    """Each direction is truncated after every k of its steps."""
    cell, _, xs = case("GRU")
    model = rnn.Bidirectional(cell, merge="both")
    params = zoo.random_params(model)
    backward = truncation_error(model, params, xs, lambda final, ys: jnp.sum(ys[1] ** 2), every=2)
    alone = truncation_error(cell, params[1], xs[::-1], lambda final, ys: jnp.sum(ys**2), every=2)
    np.testing.assert_allclose(backward, alone, rtol=1e-9)


# ---- error messages ------------------------------------------------------------------------------------------------


class Hidden:
    """A user's layer that is not a dataclass, with its own state."""

    def __init__(self):
        self.cell = rnn.GRU(N, N)

    def init(self, key):
        return self.cell.init(key)

    def initial_state(self, batch_shape=()):
        return self.cell.initial_state(batch_shape)

    def step(self, params, state, x, *, key=None):
        return self.cell.step(params, state, x)

    def over_time(self, params, state, xs, options, key):
        return rnn.unroll(self.cell, params, xs, state)


def test_layers_that_handle_states():
    """They hold or make the states of their cells, in whose place others are put here: refused by name."""
    xs = jnp.ones((T, B, N))
    for layer in (rnn.Clockwork(rnn.GRU(N, N), 2), rnn.LearnedState(rnn.Stack(rnn.GRU(N, N), rnn.LSTM(N, N)))):
        model = rnn.Stack(rnn.Linear(N, N), layer)
        params = zoo.random_params(model)
        for function in (
            functools.partial(gradient_flow, loss=loss),
            functools.partial(truncation_error, loss=loss, every=2),
            sensitivity,
            rnn.gradients.gate_statistics,
        ):
            with pytest.raises(TypeError, match=f"model: expected layers that leave .* got {type(layer).__name__}"):
                function(model, params, xs)


def test_refusals():
    """Every message names the argument."""
    cell, xs = rnn.GRU(N, N), jnp.ones((T, B, N))
    params = zoo.random_params(cell)
    functions = [
        functools.partial(gradient_flow, loss=loss),
        functools.partial(temporal_components, loss=loss),
        functools.partial(truncation_error, loss=loss, every=2),
        sensitivity,
    ]
    for function in functions:
        for error, words, arguments in [
            (TypeError, "model: expected a cell or layer, got the class GRU", (rnn.GRU, params, xs)),
            (TypeError, "params: expected .*parameters of GRU.4, 4. come from", (cell, params[:2], xs)),
            (ValueError, r"xs: expected last axis 4 \(GRU.input_size\)", (cell, params, xs[..., :2])),
            (ValueError, r"state: expected shape \[3, 4\]", (cell, params, xs, jnp.zeros((B, 7)))),
        ]:
            with pytest.raises(error, match=words):
                function(*arguments[:3], **({"state": arguments[3]} if len(arguments) > 3 else {}))
        with pytest.raises(ValueError, match="lengths: expected shape"):
            function(cell, params, xs, lengths=jnp.ones(2, int))
    for wrong, error, words in [
        (None, TypeError, r"loss: expected a function loss\(final, ys\) -> number, got None"),
        (lambda final, ys: ys, ValueError, r"loss: expected one number from it, got float32\[5, 3, 4\]; .*jnp.mean"),
        (lambda final, ys: (ys.sum(), {}), TypeError, "loss: expected one number from it, got tuple of 2"),
        (lambda final, ys: ys.argmax(), TypeError, r"loss: expected a floating number from it, got int32\[\]"),
    ]:
        for function in (gradient_flow, temporal_components, functools.partial(truncation_error, every=2)):
            with pytest.raises(error, match=words):
                function(cell, params, xs, wrong)
    with pytest.raises(ValueError, match=r"xs: expected at least one step, got float32\[0, 3, 4\]"):
        sensitivity(cell, params, xs[:0])
    for at in (T, -T - 1, 1.0, True):
        with pytest.raises(ValueError, match=rf"at: expected an int in \[-5, 5\), T = 5, got {at}"):
            sensitivity(cell, params, xs, at=at)
    with pytest.raises(ValueError, match="every: expected a positive int, got 0"):
        truncation_error(cell, params, xs, loss, every=0)
    with pytest.raises(TypeError, match="model: expected cells, and layers that hold their cells in the fields"):
        gradient_flow(Hidden(), params, xs, loss)
    with pytest.raises(TypeError, match="every: expected a positive int"):
        truncation_error(cell, params, xs, loss, every=1.5)
