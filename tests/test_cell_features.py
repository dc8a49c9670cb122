"""Every cell, alone and regularised, with every feature that needs its derivatives, its gates or its whole program.

The contract tests compare values and gradients with a plain loop; these compare what is made of them. A cell is one
program a test, as most of the time is that of compilation.
"""

import functools
import json
import os
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from collectives import collectives
from contract import arguments, assert_close, assert_identical, floats, make, weighted
from jax import export
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from zoo import STEPPING, ZOO, B, T, few, filled, input_shape, inputs, random_state

import jaxrnn as rnn
from jaxrnn.gradients import gate_statistics, gradient_flow, rtrl, sensitivity
from jaxrnn.types import is_layer, takes_key

mpl.use("Agg")

WRAPPED = ["zoneout", "recurrent-dropout", "variational-dropout", "weight-drop", "user-in-learned-state", "clockwork"]
CELLS = [name for name in STEPPING if not is_layer(ZOO[name].build("float32"))]
NAMES = [*CELLS, *WRAPPED]
KINDS = [*{type(ZOO[name].build("float32")): name for name in reversed(NAMES)}.values()][::-1]  # without options
GATED = [name for name in CELLS if hasattr(ZOO[name].build("float32"), "gates")]
KEYED = [name for name in NAMES if takes_key(ZOO[name].build("float32"))]
HIDDEN = ["user-in-learned-state", "clockwork"]  # layers that handle the states of their cells
DEVICES = 2  # that the batch is split over
SINGLE = 1e-4  # of gradients in float32


@pytest.mark.parametrize("name", few(KINDS, []))
def test_every_derivative(name, x64):
    """Forward and reverse mode, Hessian products and an ensemble, by autodiff and by the linearised step.

    The rules of the cells are compared with autodiff in test_bptt.
    """
    model, params = make(name)
    kwargs = arguments(model, "everything")
    xs, at = inputs(model), (params, kwargs.pop("state"))
    is_float = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(at)]

    def join(values):
        """Parameters and state, with these floating numbers."""
        values = iter(values)
        leaves, structure = jax.tree.flatten(at)
        return jax.tree.unflatten(structure, [next(values) if f else x for f, x in zip(is_float, leaves, strict=True)])

    point = floats(at)
    along, across = filled(point, 7), filled(point, 8)

    def derivatives(derivative):
        def loss(values):
            params, state = join(values)
            results = rnn.unroll(model, params, xs, state, derivative=derivative, **kwargs)
            return weighted([jnp.sin(leaf) for leaf in floats(results)])

        gradient = jax.grad(loss)
        members = jax.tree.map(lambda a, b: jnp.stack([a, a + b]), point, across)
        slope, product = (jax.jvp(f, (point,), (along,))[1] for f in (loss, gradient))
        return gradient(point), slope, product, jax.vmap(gradient)(members)

    got, expected = jax.jit(lambda: tuple(map(derivatives, ("linearized", "autodiff"))))()
    assert_close(got, expected)
    gradient, slope, product, members = expected
    assert_close(slope, sum(jnp.vdot(g, a) for g, a in zip(gradient, along, strict=True)), 1e-9)
    assert_close([leaf[0] for leaf in members], gradient)
    assert float(max(jnp.abs(leaf).max() for leaf in product)) > 0


@pytest.mark.parametrize("name", few(KINDS, []))
def test_online(name, x64):
    """Real-time recurrent learning has the gradient of backpropagation through time."""
    model, params = make(name)
    xs, state = inputs(model), random_state(model)
    target = jnp.ones(T)

    def squared(y, target):
        return jnp.sum((y - target) ** 2)

    @jax.jit
    def both(params):
        def loss(params):
            final, ys = rnn.unroll(model, params, xs, state)
            return squared(ys, 1.0), final

        return rtrl(model, params, xs, target, squared, state), jax.value_and_grad(loss, has_aux=True)(params)

    got, ((value, final), gradient) = both(params)
    assert_close(got, (final, (value, gradient)), 1e-9)


@pytest.mark.parametrize("name", few([name for name in KINDS if name not in HIDDEN], []))
def test_flow(name):
    """The gradient's norm at every state, and the sensitivity to every state and input: finite and not 0."""
    model, params = make(name, "float32")
    xs = inputs(model, dtype="float32")
    flow = gradient_flow(model, params, xs, lambda final, ys: weighted((final, ys)))
    got = sensitivity(model, params, xs)
    like = rnn.trajectory(model, params, xs)
    for norms in (flow, got.by_state):
        assert {leaf.shape for leaf in jax.tree.leaves(norms)} == {(T, B)}
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(norms))
    assert len(jax.tree.leaves(flow)) in (len(jax.tree.leaves(like)), len(floats(like)))
    assert max(float(leaf.max()) for leaf in jax.tree.leaves(flow)) > 0
    assert got.by_input.shape == (T, B)
    assert np.isfinite(got.by_input).all()
    assert float(got.by_input[-1].max()) > 0


@pytest.mark.parametrize("name", few(GATED, ["mgu"]))
def test_gates(name):
    """Statistics of every gate of every unit, in a plot too; of "keep" the time constants."""
    model, params = make(name, "float32")
    gates = gate_statistics(model, params, inputs(model, dtype="float32"))
    assert "keep" in gates
    for gate in gates.values():
        assert np.isfinite(gate.mean).all()
        assert float(gate.mean.min()) >= 0
        assert float(gate.mean.max()) <= 1
        assert (gate.closed + gate.open <= 1).all()
    assert float(gates["keep"].time_constant.min()) > 0
    axes = rnn.plots.gate_saturation(gates)
    plt.close(axes.figure)
    drawn = [label.get_text() for label in axes.get_yticklabels()]
    assert drawn == [gate for gate in gates if gate != "keep"] or drawn == ["keep"]


@pytest.mark.parametrize("name", few(NAMES, ["mgu"]))
def test_pickle(name):
    """A model, its parameters and its states come back as they were."""
    model, params = make(name, "float32")
    if "callable" not in name:  # of a test module, which is found by its name only
        assert pickle.loads(pickle.dumps(model)) == model
    for tree in (params, model.initial_state((B,))):
        assert_identical(pickle.loads(pickle.dumps(jax.tree.map(np.asarray, tree))), jax.tree.map(np.asarray, tree))


@pytest.mark.parametrize("name", few(KINDS, []))
def test_exported_gradient(name):
    """The gradient of a loss is exported for any batch, with noise where the cell has it."""
    model, params = make(name, "float32")
    key = jax.random.key(3) if name in KEYED else None

    def gradient(params, xs, lengths):
        def loss(params):
            return weighted_mean(rnn.unroll(model, params, xs, lengths=lengths, key=key))

        return jax.tree.leaves(jax.value_and_grad(loss)(params))

    scope = export.SymbolicScope()
    shape = export.symbolic_shape(f"T, B, {', '.join(map(str, input_shape(model)))}", scope=scope)
    lengths = jax.ShapeDtypeStruct(export.symbolic_shape("B", scope=scope), jnp.int32)
    program = export.export(jax.jit(gradient))(params, jax.ShapeDtypeStruct(shape, jnp.float32), lengths)
    call = export.deserialize(program.serialize()).call
    xs, lengths = inputs(model, 4, (2,), dtype="float32"), jnp.array([4, 2], jnp.int32)
    assert_close(call(params, xs, lengths), jax.jit(gradient)(params, xs, lengths), SINGLE)


def weighted_mean(tree):
    """A number of arrays of any, even symbolic, shape."""
    return sum(jnp.mean(jnp.sin(leaf)) for leaf in floats(tree))


# ---- a batch that is split over devices: run by this file as a program, as devices are made at the start ------------


def split(name):
    """The distance of gradients from those of the whole batch, and where devices exchange what."""
    model, params = make(name, "float32")
    xs, lengths = inputs(model, T, (2 * DEVICES,), dtype="float32"), jnp.array([T, 2, 0, 4])
    key = jax.random.key(3) if name in KEYED else None

    def loss(params, xs, lengths):
        return weighted_mean(rnn.unroll(model, params, xs, lengths=lengths, key=key))

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    expected = gradient(params, xs, lengths)
    mesh = jax.make_mesh((DEVICES,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    whole, rows, column = (NamedSharding(mesh, P(*axes)) for axes in ((), (None, "batch"), ("batch",)))
    placed = jax.device_put(params, whole), jax.device_put(xs, rows), jax.device_put(lengths, column)
    program = gradient.lower(*placed).compile()
    pairs = zip(jax.tree.leaves(program(*placed)), jax.tree.leaves(expected), strict=True)
    distance = max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)
    return {"distance": distance, "kinds": sorted({c.kind for c in collectives(program.as_text())})}


@functools.cache
def reports():
    """What :func:`split` returns for each cell, in a process with several devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    path = os.pathsep.join([os.getcwd(), *filter(None, sys.path)])
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", few(KINDS, []))
def test_split_batch(name):
    """The gradients are those of the whole batch, and only they are exchanged, and summed."""
    report = reports()[name]
    assert report["distance"] < SINGLE
    gathered = ["all-gather"] * name.startswith("conv")  # images, for the gradients of kernels
    assert report["kinds"] == [*gathered, "all-reduce"]


if __name__ == "__main__":
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    print(json.dumps({name: split(name) for name in KINDS}))
