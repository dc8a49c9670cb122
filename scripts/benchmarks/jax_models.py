"""The model of a case as each JAX library builds it, in its own idiom.

Each function returns a :class:`Model`, or a line that says why the library has no such model.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks import layouts
from benchmarks.cases import Case
from benchmarks.driver import UNROLLED


class Model(NamedTuple):
    """A model as a pure function, and the way from the weights of a case to its parameters."""

    apply: Callable[[Any, jax.Array], jax.Array]  # params, xs -> ys
    load: Callable[[list[dict[str, jax.Array]]], Any]
    batch_first: bool = False  # xs is [B, T, I], not [T, B, I]
    step: Callable | None = None  # params, state, x [B, I] -> state, y, for decoding
    start: Any = None  # its first state
    final: Callable[[Any, jax.Array], Any] | None = None  # params, xs -> the state after the last step
    unlike: tuple[str, ...] = ()  # parameters of the case that this library cannot train


NO_PEEPHOLES = "no peepholes"
ONLY_AFTER = "its GRU resets after the product"
ONLY_BEFORE = "its GRU resets before the product"


def cat(parts: list) -> jax.Array:
    """Concatenate along the last axis."""
    return jnp.concatenate(parts, axis=-1)


def loader(layout: Callable, case: Case) -> Callable[[list], list]:
    """Every cell's parameters in one library's layout."""
    return lambda weights: [layout(case.kind, part, cat) for part in weights]


def widths(case: Case) -> list[int]:
    """Input size of each layer."""
    return [case.inputs] + [case.hidden] * (case.layers - 1)


# ---- jaxrnn ------------------------------------------------------------------------------------------------------


def jaxrnn(case: Case, derivative: str | None = None, remat: bool = False) -> Model | str:
    """``rnn.unroll``; the derivative is the library's choice unless one is named."""
    import jaxrnn as rnn

    kinds: dict[str, Callable] = {
        "vanilla": rnn.VanillaRNN,
        "lstm": rnn.LSTM,
        "lstm-peephole": lambda *sizes, **options: rnn.LSTM(*sizes, peepholes="ifo", **options),
        "gru": rnn.GRU,
        "gru-after": lambda *sizes, **options: rnn.GRU(*sizes, reset_after=True, **options),
    }
    cells = [kinds[case.kind](width, case.hidden, dtype=case.dtype) for width in widths(case)]
    model: Any = cells[0]
    if case.directions == 2:
        model = rnn.Bidirectional(model)
    elif case.layers > 1:
        model = rnn.Stack(*cells)
    params = type(jax.eval_shape(cells[0].init, jax.random.key(0)))
    options: dict[str, Any] = {"remat": remat}
    if derivative and "derivative" in inspect.signature(rnn.unroll).parameters:
        options["derivative"] = derivative

    def load(weights: list) -> Any:
        parts = tuple(params(*[part.get(name) for name in params._fields]) for part in weights)
        return parts if len(parts) > 1 else parts[0]

    return Model(
        apply=lambda p, xs: rnn.unroll(model, p, xs, **options)[1],
        load=load,
        step=None if case.directions == 2 else model.step,
        start=model.initial_state((case.batch,)),
        final=lambda p, xs: rnn.unroll(model, p, xs, **options)[0],
    )


def jaxrnn_autodiff(case: Case) -> Model | str:
    """``rnn.unroll`` with plain autodiff, where the library has a rule of its own."""
    return jaxrnn(case, "autodiff")


def jaxrnn_unrolled(case: Case, unroll: int) -> Model | str:
    """``jaxrnn`` with ``unroll`` steps in each iteration of its loops, forward and backward.

    The library has no such option: while its model is traced, ``jax.lax.scan`` is replaced. It must be traced anew.
    """
    model = jaxrnn(case)
    assert isinstance(model, Model)
    jax.clear_caches()
    scan = functools.partial(jax.lax.scan, unroll=unroll)

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        with mock.patch.object(jax.lax, "scan", scan):
            return model.apply(params, xs)

    return model._replace(apply=apply)


# ---- Flax --------------------------------------------------------------------------------------------------------


def flax(case: Case, lstm: str = "LSTMCell") -> Model | str:
    """Flax linen: nn.RNN over nn.LSTMCell, nn.GRUCell or nn.SimpleCell."""
    from flax import linen as nn

    if case.kind in ("lstm-peephole", "gru"):
        return NO_PEEPHOLES if case.kind == "lstm-peephole" else ONLY_AFTER
    cell = {"lstm": getattr(nn, lstm), "gru-after": nn.GRUCell, "vanilla": nn.SimpleCell}[case.kind]

    def layer(**options: Any) -> Any:
        return nn.RNN(cell(case.hidden, param_dtype=jnp.dtype(case.dtype)), time_major=True, **options)

    if case.directions == 2:
        model: Any = nn.Bidirectional(layer(), layer(), time_major=True)
        names = ["forward_rnn", "backward_rnn"]
    elif case.layers > 1:
        model = nn.Sequential([layer() for _ in range(case.layers)])
        names = [f"layers_{n}" for n in range(case.layers)]
    else:
        model, names = layer(), [""]

    def load(weights: list) -> Any:
        parts = {name: {"cell": p} for name, p in zip(names, loader(layouts.linen, case)(weights), strict=True)}
        return {"params": parts.get("", parts)}

    return Model(model.apply, load)


def flax_optimized(case: Case) -> Model | str:
    """Flax linen with nn.OptimizedLSTMCell."""
    if case.kind != "lstm":
        return "only its LSTM has this form"
    return flax(case, "OptimizedLSTMCell")


def nnx(case: Case) -> Model | str:
    """Flax nnx: nnx.RNN over nnx.OptimizedLSTMCell, nnx.GRUCell or nnx.SimpleCell, split and merged."""
    from flax import nnx

    if case.kind in ("lstm-peephole", "gru"):
        return NO_PEEPHOLES if case.kind == "lstm-peephole" else ONLY_AFTER
    kinds = {"lstm": nnx.OptimizedLSTMCell, "gru-after": nnx.GRUCell, "vanilla": nnx.SimpleCell}
    rngs = nnx.Rngs(0)

    def layer(width: int) -> Any:
        cell = kinds[case.kind](width, case.hidden, param_dtype=jnp.dtype(case.dtype), rngs=rngs)
        return nnx.RNN(cell, time_major=True)

    layers = [layer(width) for width in widths(case) for _ in range(case.directions)]
    if case.directions == 2:
        model: Any = nnx.Bidirectional(layers[0], layers[1], time_major=True)
    else:
        model = nnx.Sequential(*layers) if case.layers > 1 else layers[0]
    parts: Any = nnx.split(model, nnx.Param, ...)
    graph, empty, rest = parts
    names = ["forward_rnn", "backward_rnn"] if case.directions == 2 else list(range(case.layers))

    def load(weights: list) -> Any:
        parts = dict(zip(names, loader(layouts.nnx, case)(weights), strict=True))

        def find(path: tuple, _: jax.Array) -> jax.Array:
            keys = [entry.key for entry in path if hasattr(entry, "key")]  # ..., layer, "cell", dense, array
            dense, array = keys[keys.index("cell") + 1 :]
            return parts[next((key for key in keys if key in parts), 0)][dense][array]

        return jax.tree_util.tree_map_with_path(find, empty)

    unlike = ("b_hh",) if case.kind == "gru-after" else ()  # no bias inside its reset

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, jax.tree.map(jnp.asarray, rest))(xs)  # rest anew, for it belongs to a trace

    return Model(apply, load, unlike=unlike)


# ---- others ------------------------------------------------------------------------------------------------------


def haiku(case: Case) -> Model | str:
    """Haiku: hk.LSTM or hk.GRU in hk.dynamic_unroll."""
    import haiku as hk

    if case.kind not in ("lstm", "gru"):
        reasons = {"lstm-peephole": NO_PEEPHOLES, "gru-after": ONLY_BEFORE, "vanilla": "its hk.VanillaRNN is a ReLU"}
        return reasons[case.kind]
    kind = {"lstm": hk.LSTM, "gru": hk.GRU}[case.kind]

    def run(xs: jax.Array) -> jax.Array:
        if case.directions == 2:
            cores = [kind(case.hidden, name="forward"), kind(case.hidden, name="backward")]
            both = [
                hk.dynamic_unroll(core, xs, core.initial_state(case.batch), reverse=reverse)[0]
                for core, reverse in zip(cores, (False, True), strict=True)
            ]
            return jnp.concatenate(both, axis=-1)
        cores = [kind(case.hidden, name=f"layer_{n}") for n in range(case.layers)]
        core = hk.DeepRNN(cores) if case.layers > 1 else cores[0]
        return hk.dynamic_unroll(core, xs, core.initial_state(case.batch))[0]

    model: Any = hk.without_apply_rng(hk.transform(run))
    names = ["forward", "backward"] if case.directions == 2 else [f"layer_{n}" for n in range(case.layers)]
    inner = "/linear" if case.kind == "lstm" else ""

    def load(weights: list) -> Any:
        parts = loader(layouts.haiku, case)(weights)
        return {name + inner: part for name, part in zip(names, parts, strict=True)}

    return Model(model.apply, load)


def keras(case: Case) -> Model | str:
    """Keras on JAX: the layer's stateless_call, batch first as Keras wants it."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras as k

    if case.kind == "lstm-peephole":
        return NO_PEEPHOLES
    options: dict[str, Any] = {"return_sequences": True, "unroll": False, "dtype": case.dtype}
    if case.kind.startswith("gru"):
        options["reset_after"] = case.kind == "gru-after"
    kind = {"vanilla": k.layers.SimpleRNN, "lstm": k.layers.LSTM}.get(case.kind, k.layers.GRU)
    layers = [kind(case.hidden, **options) for _ in range(case.layers)]
    if case.directions == 2:
        layers = [k.layers.Bidirectional(layers[0])]
    model = k.Sequential(layers) if case.layers > 1 else layers[0]
    model.build((case.batch, case.steps, case.inputs))
    rest = [v.value for v in model.non_trainable_variables]

    return Model(
        apply=lambda p, xs: model.stateless_call(p, rest, xs)[0],
        load=lambda weights: [*itertools.chain(*loader(layouts.keras, case)(weights))],
        batch_first=True,
    )


def equinox(case: Case) -> Model | str:
    """Equinox: its cells in jax.lax.scan, vmapped over the batch."""
    import equinox as eqx

    if case.kind not in ("lstm", "gru-after"):
        reasons = {"lstm-peephole": NO_PEEPHOLES, "gru": ONLY_AFTER, "vanilla": "no vanilla cell"}
        return reasons[case.kind]
    kind = eqx.nn.LSTMCell if case.kind == "lstm" else eqx.nn.GRUCell
    dtype = jnp.dtype(case.dtype)
    layers = [kind(width, case.hidden, dtype=dtype, key=jax.random.key(0)) for width in widths(case)]
    zero = jnp.zeros(case.hidden, dtype)
    state = (zero, zero) if case.kind == "lstm" else zero

    def run(cell: Any, xs: jax.Array, reverse: bool = False) -> jax.Array:
        def body(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            state = cell(x, state)
            return state, state[0] if case.kind == "lstm" else state

        return jax.lax.scan(body, state, xs, reverse=reverse)[1]

    def one(cells: list, xs: jax.Array) -> jax.Array:
        if case.directions == 2:
            return jnp.concatenate([run(cells[0], xs), run(cells[1], xs, reverse=True)], axis=-1)
        for cell in cells:
            xs = run(cell, xs)
        return xs

    def load(weights: list) -> Any:
        def fill(cell: Any, part: dict) -> Any:
            return eqx.tree_at(lambda cell: [getattr(cell, name) for name in part], cell, [*part.values()])

        parts = loader(layouts.equinox, case)(weights)
        return [fill(cell, part) for cell, part in zip(layers * case.directions, parts, strict=True)]

    return Model(jax.vmap(one, (None, 1), 1), load)


def cudnn(case: Case) -> Model | str:
    """The LSTM of cuDNN through jax.experimental.rnn; batch first."""
    from jax.experimental import rnn

    if jax.default_backend() != "gpu":
        return "needs a GPU"
    if case.kind != "lstm" or case.dtype != "float32":
        return "binds the float32 LSTM alone"
    layers = case.layers * case.directions
    zero = jnp.zeros((layers, case.batch, case.hidden), jnp.float32)
    lengths = jnp.full((case.batch,), case.steps, jnp.int32)

    def apply(w: jax.Array, xs: jax.Array) -> jax.Array:
        return rnn.lstm(
            xs, zero, zero, w, lengths, input_size=case.inputs, hidden_size=case.hidden, num_layers=case.layers,
            dropout=False, bidirectional=case.directions == 2,
        )[0]  # fmt: skip

    return Model(apply, functools.partial(cudnn_weights, case), batch_first=True)


def cudnn_weights(case: Case, weights: list) -> jax.Array:
    """One array: the matrices of all layers and directions, then their biases, in the layout of PyTorch."""
    parts = loader(layouts.torch, case)(weights)
    matrices, biases = [a for p in parts for a in p[:2]], [a for p in parts for a in p[2:]]
    return jnp.concatenate([a.ravel() for a in matrices + biases])


# ---- reference ---------------------------------------------------------------------------------------------------


def reference(case: Case) -> Model | str:
    """The equations, written out once more and differentiated by JAX; run in float64."""
    from jax.nn import sigmoid

    H = case.hidden

    def step(w: dict, state: tuple, x: jax.Array) -> tuple[tuple, jax.Array]:
        h, c = state
        z = x @ w["w_xh"] + w["b_h"]
        if case.kind == "vanilla":
            h = jnp.tanh(z + h @ w["w_hh"])
        elif case.kind.startswith("lstm"):
            i, f, o, g = jnp.split(z + h @ w["w_hh"], 4, axis=-1)
            p = w.get("peepholes", jnp.zeros((3, H), z.dtype))
            c_new = sigmoid(f + p[1] * c) * c + sigmoid(i + p[0] * c) * jnp.tanh(g)
            h, c = sigmoid(o + p[2] * c_new) * jnp.tanh(c_new), c_new
        else:
            hh = h @ w["w_hh"][:, : 2 * H] + (w["b_hh"][: 2 * H] if "b_hh" in w else 0)
            u, r = jnp.split(sigmoid(z[..., : 2 * H] + hh), 2, axis=-1)
            w_h = w["w_hh"][:, 2 * H :]
            inner = r * (h @ w_h + w["b_hh"][2 * H :]) if "b_hh" in w else (r * h) @ w_h
            h = (1 - u) * h + u * jnp.tanh(z[..., 2 * H :] + inner)
        return (h, c), h

    def run(w: dict, xs: jax.Array, reverse: bool = False) -> jax.Array:
        zero = jnp.zeros((case.batch, H), xs.dtype)
        return jax.lax.scan(lambda state, x: step(w, state, x), (zero, zero), xs, reverse=reverse)[1]

    def apply(weights: list, xs: jax.Array) -> jax.Array:
        if case.directions == 2:
            return jnp.concatenate([run(weights[0], xs), run(weights[1], xs, reverse=True)], axis=-1)
        for w in weights:
            xs = run(w, xs)
        return xs

    zeros = jnp.zeros((case.batch, H))
    single = case.layers * case.directions == 1
    return Model(
        apply,
        load=lambda weights: weights,
        step=(lambda weights, state, x: step(weights[0], state, x)) if single else None,
        start=(zeros, zeros),
    )


# Every library by the name it has on the command line.
BUILD: dict[str, Callable[[Case], Model | str]] = {
    "jaxrnn": jaxrnn,
    "jaxrnn-autodiff": jaxrnn_autodiff,
    "jaxrnn-folded": jaxrnn,
    "jaxrnn-graph": jaxrnn,
    **{name: functools.partial(jaxrnn_unrolled, unroll=unroll) for name, unroll in UNROLLED.items()},
    "flax": flax,
    "flax-optimized": flax_optimized,
    "nnx": nnx,
    "haiku": haiku,
    "keras": keras,
    "equinox": equinox,
    "cudnn": cudnn,
    "reference": reference,
}


def build(library: str, case: Case) -> Model | str:
    """The model of a library for a case, or why there is none; ``NAME-sharded`` splits the batch over devices."""
    name, devices = library.removesuffix("-sharded"), jax.device_count()
    if name != library and case.batch % devices:
        return f"batch {case.batch} does not split over {devices} devices"
    return BUILD[name](case)
