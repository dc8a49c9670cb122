"""Regularizers of recurrent networks against a NumPy loop with the very masks, drawn as the documentation says."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import plain_loop
import pytest
import zoo
from contract import LENGTHS, RESETS, assert_close, assert_identical, floats, weighted
from refusals import refuses
from zoo import B, H, I, T, V, inputs, random_params

import jaxrnn as rnn

pytestmark = pytest.mark.usefixtures("x64")

KEY, RATE = jax.random.key(7), 0.4
fold_in, split, bernoulli = jax.random.fold_in, jax.random.split, jax.random.bernoulli


def lstm(**options):
    return zoo.lstm("float64", **options)


def gru(**options):
    return zoo.gru("float64", **options)


def of_candidate(cell):
    return lambda: rnn.RecurrentDropout(cell("float64"), RATE)


def of_state(cell):
    return lambda: rnn.VariationalDropout(cell("float64"), state=RATE)


CELLS = {  # each with a mask of its candidate, and with one of its state
    "vanilla-norm": partial(zoo.vanilla, layer_norm=True),
    "lstm-options": partial(zoo.lstm, **zoo.ALL_OPTIONS),
    "lstm-previous": partial(zoo.lstm, peepholes="ifo", output_peephole="previous", cell_clip=0.5),
    "gru-norm": partial(zoo.gru, layer_norm=True),
    "gru-norm-after": partial(zoo.gru, layer_norm=True, reset_after=True),
    "mgu": zoo.mgu,
    "mgu-keep-after": partial(zoo.mgu, reset="keep", reset_after=True),
    "janet": zoo.janet,
    "mlstm": zoo.mlstm,
    "mlstm-outside": partial(zoo.mlstm, output_gate="outside"),
    "slstm": partial(zoo.slstm, heads=2),
    "indrnn": partial(zoo.indrnn, activation="tanh", recurrent_max=0.5),
    "gru_d": zoo.gru_d,
    "conv": lambda dtype: zoo.conv(dtype, 3, 2, 1, peepholes=True),
}
WRAPPERS = {
    "zoneout-lstm": lambda: rnn.Zoneout(lstm(peepholes="ifo"), (0.3, 0.5)),
    "zoneout-gru": lambda: rnn.Zoneout(gru(), RATE),
    "recurrent-lstm": lambda: rnn.RecurrentDropout(lstm(), RATE),
    "recurrent-lstm-coupled": lambda: rnn.RecurrentDropout(lstm(coupled=True), RATE, per="sequence"),
    "recurrent-gru": lambda: rnn.RecurrentDropout(gru(), RATE),
    "recurrent-vanilla": lambda: rnn.RecurrentDropout(zoo.vanilla("float64"), RATE),
    "recurrent-leaky": lambda: rnn.RecurrentDropout(zoo.leaky("float64"), RATE),
    "variational-lstm": lambda: rnn.VariationalDropout(lstm(peepholes="ifo"), inputs=0.3, state=RATE),
    "variational-gru": lambda: rnn.VariationalDropout(gru(), inputs=0.3, state=RATE),
    "variational-gru-after": lambda: rnn.VariationalDropout(gru(reset_after=True), state=RATE),
    "variational-vanilla": lambda: rnn.VariationalDropout(zoo.vanilla("float64"), inputs=0.3, state=RATE),
    "variational-leaky": lambda: rnn.VariationalDropout(zoo.leaky("float64"), state=RATE),
    **{f"recurrent-{name}": of_candidate(cell) for name, cell in CELLS.items()},
    **{f"variational-{name}": of_state(cell) for name, cell in CELLS.items()},
}
FAST = ["zoneout-lstm", "recurrent-gru", "variational-gru"]
NESTED = {
    "nested": lambda: rnn.Zoneout(rnn.VariationalDropout(rnn.RecurrentDropout(lstm(), 0.2), state=0.3), 0.2),
    "nested-noise": lambda: rnn.VariationalDropout(rnn.Zoneout(zoo.leaky("float64", noise=0.2), 0.2), state=0.3),
    "weight-drop": lambda: rnn.WeightDrop(lstm(), RATE),
    "zoneout-of-weight-drop": lambda: rnn.Zoneout(rnn.WeightDrop(lstm(), RATE), 0.3),
}


# ---- one sequence after another, with the masks ---------------------------------------------------------------------


def drop(key, rate, shape):
    """0 with probability ``rate``, else 1 / (1 - rate)."""
    return np.where(bernoulli(key, rate, shape), 0, 1 / (1 - rate))


def loop(model, params, xs, *, lengths=None, resets=None, reverse=False):
    """``(final, ys)`` of a wrapper of a cell with ``KEY``, one sequence after another."""
    params, xs, cell = jax.tree.map(np.asarray, params), np.asarray(xs), model.cell
    step, kind = plain_loop.CELLS[type(cell).__name__][0], type(model).__name__
    key, grid = split(KEY)[0], getattr(cell, "grid", ())
    finals, all_ys = [], []
    for row in range(xs.shape[1]):
        (inner, time, start), ys = plain_loop.initial(model), np.zeros((xs.shape[0], *grid, cell.output_size))
        order = range(xs.shape[0] if lengths is None else lengths[row])[:: -1 if reverse else 1]
        for t in order:
            if resets is not None and resets[t, row]:
                inner, start = plain_loop.initial(cell), time
            each, whole = (fold_in(fold_in(key, at), row) for at in (time, start))
            x, m_h, m_c = xs[t, row], 1.0, 1.0
            if kind == "RecurrentDropout":
                m_c = drop(each if model.per == "step" else whole, model.rate, (*grid, cell.hidden_size))
            if kind == "VariationalDropout":
                input_key, state_key = split(key)
                whole_x, whole_h = (fold_in(fold_in(k, start), row) for k in (split(input_key, 1)[0], state_key))
                x = x * drop(whole_x, model.inputs, x.shape) if model.inputs else x
                m_h = drop(whole_h, model.state, jax.tree.leaves(inner)[0].shape)
            new, y = step(cell, params, inner, x, m_h, m_c)
            if kind == "Zoneout":
                (new, tree), old = jax.tree.flatten(new), jax.tree.leaves(inner)
                rates = model.rate if isinstance(model.rate, tuple) else (model.rate,) * len(new)
                keys = split(key, len(new))
                keep = [
                    bernoulli(fold_in(fold_in(k, time), row), r, s.shape)
                    for k, r, s in zip(keys, rates, old, strict=True)
                ]
                new = [np.where(k, a, b) for k, a, b in zip(keep, old, new, strict=True)]
                new, y = jax.tree.unflatten(tree, new), new[0]
            inner, time = new, time + 1
            ys[t] = y
        finals.append((inner, time, start))
        all_ys.append(ys)
    return plain_loop.stack_batch(finals, (xs.shape[1],), 0), np.stack(all_ys, 1)


def made(name):
    model = {**WRAPPERS, **NESTED}[name]()
    return model, random_params(model), inputs(model)


@pytest.mark.parametrize(
    ("name", "case"),
    zoo.few([(n, c) for n in WRAPPERS for c in ("plain", "everything")], [(n, "everything") for n in FAST]),
)
def test_values_are_those_of_the_masks(name, case):
    """Values with a key, with lengths, resets and reverse."""
    model, params, xs = made(name)
    kwargs = {"lengths": LENGTHS, "resets": RESETS, "reverse": True} if case == "everything" else {}
    with jax.disable_jit(case == "plain"):
        got = rnn.unroll(model, params, xs, key=KEY, **kwargs)
    assert_close(got, loop(model, params, xs, **kwargs))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*WRAPPERS, *NESTED])
def test_the_rule_is_that_of_autodiff(name):
    """Gradients by the rule, linearized and rematerialised, are those of autodiff of the scan."""
    model, params, xs = made(name)

    def loss(params, xs, **options):
        kwargs = {"lengths": LENGTHS, "resets": RESETS, "key": KEY}
        results = floats(rnn.unroll(model, params, xs, **kwargs, **options))
        return weighted(list(map(jnp.sin, results)))

    def gradient(**options):
        return jax.jit(jax.grad(lambda at: loss(*at, **options)))((params, xs))

    expected = gradient(derivative="autodiff")
    assert_close(gradient(), expected)
    if name != "variational-lstm":
        assert_close(gradient(derivative="linearized"), expected)
        assert_close(gradient(remat=2), expected)


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", [*[*WRAPPERS][::4], *[name for name in NESTED if name != "nested-noise"]])
def test_chunks_and_steps_have_the_masks_of_one_unroll(name, reverse):
    """The clock is carried, so that chunks with the same key, and single steps, give the results of the whole."""
    model, params, xs = made(name)
    with jax.disable_jit():
        whole = rnn.unroll(model, params, xs, resets=RESETS, reverse=reverse, key=KEY)
        state, ys = None, []
        for part in (slice(2), slice(2, T))[:: -1 if reverse else 1]:
            kwargs = {"resets": RESETS[part], "reverse": reverse, "key": KEY}
            state, chunk = rnn.unroll(model, params, xs[part], state, **kwargs)
            ys.append(chunk)
        assert_close((state, jnp.concatenate(ys[:: -1 if reverse else 1])), whole)
        if not reverse:
            state, ys = model.initial_state((B,)), []
            for x in xs:
                state, y = model.step(params, state, x, key=KEY)
                ys.append(y)
            assert_close((state, jnp.stack(ys)), rnn.unroll(model, params, xs, key=KEY))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in [*WRAPPERS, "weight-drop"] if "zoneout" not in name])
def test_without_a_key_it_is_the_cell(name):
    """Values and gradients bit for bit; zoneout at rate 0 too."""
    model, params, xs = made(name)
    cell = model.layer

    def value_and_gradient(model):
        return jax.jit(jax.value_and_grad(lambda p: weighted(rnn.unroll(model, p, xs, resets=RESETS)[1])))(params)

    assert_identical(value_and_gradient(model), value_and_gradient(cell))
    alone = rnn.unroll(cell, params, xs, key=split(KEY)[1])[1]
    assert_identical(rnn.unroll(rnn.Zoneout(cell, 0.0), params, xs, key=KEY)[1], alone)


@pytest.mark.slow
def test_masks_have_their_rates():
    """Shares of zeros within four standard errors; masks of rows, steps and sequences differ as they should."""
    many, ones = 400, jnp.ones((6, 400, I))
    ys = np.asarray(rnn.unroll(rnn.VariationalDropout(zoo.Average(I, "float64"), inputs=RATE), ({"rate": jnp.zeros(I)}),
                               ones, key=KEY)[0].state["mean"])  # fmt: skip
    seen = ys > 0.5  # inputs of 0 draw the mean of an untouched unit below its start
    assert abs(seen.mean() - (1 - RATE)) < 4 * np.sqrt(RATE * (1 - RATE) / seen.size)
    words = rnn.WordDropout(zoo.embedding("float64"), RATE)
    ids = jnp.asarray(np.random.default_rng(0).integers(0, V, (6, many)), jnp.int32)
    _, ys = rnn.unroll(words, rnn.layers.EmbeddingParams(jnp.ones((V, I))), ids, key=KEY)
    dropped = np.asarray(ys)[..., 0] == 0
    assert set(np.unique(ys)) == {0.0, 1 / (1 - RATE)}
    for word in range(V):  # all occurrences in a sequence together
        there = np.asarray(ids) == word
        per_row = [set(dropped[there[:, row], row]) for row in range(many)]
        assert max(map(len, per_row)) == 1
        share = np.mean([True in kinds for kinds in per_row if kinds])
        assert abs(share - RATE) < 4 * np.sqrt(RATE * (1 - RATE) / (many / 2))
    key = fold_in(fold_in(fold_in(split(KEY)[0], 0), 3), int(ids[2, 3]))
    assert dropped[2, 3] == bool(bernoulli(key, RATE))


def test_weight_drop_has_one_mask():
    """The mask of ``w_hh`` follows from the key alone."""
    model, params, xs = made("weight-drop")
    mask = bernoulli(split(split(KEY)[0], 1)[0], RATE, params.w_hh.shape)
    dropped = params._replace(w_hh=jnp.where(mask, 0, params.w_hh / (1 - RATE)))
    with jax.disable_jit():
        assert_close(rnn.unroll(model, params, xs, key=KEY), rnn.unroll(model.layer, dropped, xs))


def test_activation_losses():
    """The equations of the paper, with lengths."""
    ys = np.random.default_rng(0).normal(size=(T, B, H))
    mask = np.arange(T)[:, None] < LENGTHS
    expected = 2 * (ys**2).mean(-1)[mask].mean()
    assert_close(rnn.losses.activation_regularization(ys, 2.0, lengths=LENGTHS), expected)
    expected = 3 * ((ys[1:] - ys[:-1]) ** 2).mean(-1)[mask[1:]].mean()
    assert_close(rnn.losses.temporal_activation_regularization(ys, 3.0, lengths=LENGTHS), expected)
    assert_close(rnn.losses.temporal_activation_regularization(ys, 3.0), 3 * ((ys[1:] - ys[:-1]) ** 2).mean())


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A user's cell that is compiled, with a loop in its step; the second output is its state."""

    def init(self, key):
        return {}

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, I), "float64")

    @partial(jax.jit, static_argnums=0)
    def step(self, params, h, x):
        h = jax.lax.fori_loop(0, 3, lambda _, h: jnp.tanh(h + x), h)
        return h, {"other": 2 * h, "state": h}


@pytest.mark.slow
def test_zoneout_of_an_output_that_is_the_state():
    """It is zoned out too, in a tree of outputs and of a compiled step; the loop is not unrolled."""
    model = rnn.Zoneout(Compiled(), 0.5)
    xs = inputs(model)
    states, ys = rnn.trajectory(model, {}, xs, key=KEY).state, rnn.unroll(model, {}, xs, key=KEY)[1]
    assert_identical(ys["state"], states)
    assert (np.asarray(ys["other"]) != 2 * np.asarray(states)).any()
    program = str(jax.make_jaxpr(lambda xs: rnn.unroll(model, {}, xs, key=KEY))(xs))
    assert program.count(" tanh ") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zoneout-lstm", "variational-gru", "nested"])
def test_analysis(name):
    """Gradient flow, gate statistics and truncation see the cell with its masks."""
    model, params, xs = made(name)

    def loss(final, ys):
        return ys.sum()

    flow = rnn.gradients.gradient_flow(model, params, xs, loss, key=KEY)
    assert all(leaf.shape == (T, B) and (leaf > 0).any() for leaf in jax.tree.leaves(flow))
    parts = rnn.gradients.temporal_components(model, params, xs, loss, key=KEY)
    exact = jax.grad(lambda p: loss(*rnn.unroll(model, p, xs, key=KEY)))(params)
    assert_close([leaf.sum(0) for leaf in jax.tree.leaves(parts)], jax.tree.leaves(exact))
    assert float(rnn.gradients.truncation_error(model, params, xs, loss, every=T, key=KEY)) == 0
    gates = rnn.gradients.gate_statistics(model, params, xs, key=KEY).state
    assert "keep" in (gates.state.state if name == "nested" else gates)
    assert rnn.from_repr(repr(model)) == model


REFUSALS = {
    "ValueError inputs: expected 0 for GRUD(6, 4), got 0.2; its inputs hold flags and times too": lambda: (
        rnn.VariationalDropout(rnn.GRUD(6, 4), inputs=0.2)
    ),
    "TypeError cell: expected a cell for Zoneout, got Stack(…; wrap each cell in it": lambda: rnn.Zoneout(
        rnn.Stack(gru()), 0.1
    ),
    "ValueError rate: expected a number in [0, 1), got 1.0; it is the share that keeps its state": lambda: rnn.Zoneout(
        gru(), 1.0
    ),
    "ValueError rate: expected a number, or 2, one for each array of units of the state, got (0.1,)": lambda: (
        rnn.Zoneout(lstm(), (0.1,))
    ),
    "TypeError cell: expected a cell with a masked_step for RecurrentDropout, got Average(…; …Zoneout…": lambda: (
        rnn.RecurrentDropout(zoo.Average(I), 0.1)
    ),
    "TypeError cell: expected a cell with a masked_step for VariationalDropout, got Average(…": lambda: (
        rnn.VariationalDropout(zoo.Average(I), state=0.1)
    ),
    "TypeError cell: expected a cell with a masked_step…, got MinGRU(…; …no product with w_hh…": lambda: (
        rnn.RecurrentDropout(rnn.MinGRU(I, H), 0.1)
    ),
    "TypeError cell: expected a cell with a masked_step…, got LRU(…; …no product with w_hh…": lambda: (
        rnn.VariationalDropout(rnn.LRU(I, H), state=0.1)
    ),
    "ValueError per: expected one of 'step', 'sequence', got 'batch'": lambda: rnn.RecurrentDropout(
        gru(), 0.1, "batch"
    ),
    "TypeError embedding: expected an Embedding, got GRU…": lambda: rnn.WordDropout(gru(), 0.1),
    "ValueError names: expected some of 'w_xh', 'w_hh', 'b_h', got 'w'; …; a layer around a cell: wrap…": lambda: (
        rnn.WeightDrop(lstm(), 0.1, names=("w",))
    ),
    "ValueError alpha: expected a number in (0, 1], got 0; …time constant": lambda: rnn.LeakyRNN(I, H, alpha=0),
    "ValueError noise: expected a number of at least 0, got -1; …": lambda: rnn.LeakyRNN(I, H, noise=-1),
}


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals(text):
    """The message of each wrong argument."""
    refuses(text, REFUSALS[text])


def test_zoneout_keeps_units_alone():
    """What a state records of the inputs, and numbers that belong together, are those of the cell."""
    model = rnn.Zoneout(rnn.GRUD(5, 4, dtype="float64"), 0.9)
    xs = jnp.array([[[1.0, 2, 1, 1, 0]], [[3.0, 0, 1, 0, 2]], [[0.0, 0, 0, 0, 5]]])
    for key in (None, jax.random.key(1)):
        state = rnn.unroll(model, model.init(jax.random.key(0)), xs, key=key)[0].state
        assert (state.last.tolist(), state.elapsed.tolist()) == ([[3, 2]], [[5, 7]])
    cell = rnn.SLSTM(2, 3, dtype="float64")
    model, xs = rnn.Zoneout(cell, 0.5), 10 * jax.random.normal(jax.random.key(2), (9, 8, 2))
    _, ys = rnn.unroll(model, model.init(jax.random.key(0)), xs, key=jax.random.key(1))
    assert jnp.abs(ys).max() <= 1  # a weighted mean, as without
