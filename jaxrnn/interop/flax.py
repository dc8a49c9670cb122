"""What :mod:`jaxrnn.interop.nnx` and :mod:`jaxrnn.interop.linen` share: the modules of Flax and the layers of jaxrnn.

================================================  ===========================================
Flax                                              jaxrnn
================================================  ===========================================
``RNN(cell)``                                     the cell
``RNN(cell, reverse=True, keep_order=True)``      ``Reverse(cell)``
``Bidirectional(RNN(a), RNN(b), merge_fn=...)``   ``Bidirectional(a, b, merge)``
``LSTMCell``, ``OptimizedLSTMCell``               ``LSTM``, which becomes the optimized one
``GRUCell``                                       ``GRU(..., reset_after=True)``
``SimpleCell``                                    ``VanillaRNN``
``Embed``, ``Linear`` or ``Dense``, ``Dropout``   ``Embedding``, ``Linear``, ``Dropout``
``Sequential``, and a function in it              ``Stack``, ``Activation``
================================================  ===========================================

A carry of an LSTM is ``(c, h)``, a state ``LSTMState(h, c)``. Flax is batch-first, ``[B, T, I]``, where a module is not
``time_major``; jaxrnn is time-major. In the padding after ``seq_lengths`` outputs of Flax have no meaning, those of
jaxrnn are 0.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
from flax.nnx.nn import dtypes as nnx_dtypes
from flax.traverse_util import flatten_dict

from jaxrnn import checks
from jaxrnn.cells import GRU, LSTM, LSTMState, VanillaRNN
from jaxrnn.cells.vanilla import ACTIVATIONS as ELEMENTWISE
from jaxrnn.interop import layouts
from jaxrnn.interop.arrays import one_dtype, shape, to_numpy
from jaxrnn.interop.bridges.sequences import unnest
from jaxrnn.interop.checks import counterpart
from jaxrnn.interop.layouts import Layout, Weights
from jaxrnn.interop.structure import cells, from_parts_of_cells, parts_of_cells
from jaxrnn.layers import Activation, Bidirectional, Dropout, Embedding, Linear, Reverse, Stack
from jaxrnn.layers.bidirectional import MERGES
from jaxrnn.layers.pointwise import FUNCTIONS, EmbeddingParams, LinearParams
from jaxrnn.types import Params, State

LAYOUTS = {
    VanillaRNN: Layout("SimpleCell", "h", "", {"use_bias": (True,)},
                       "SimpleCell always has a bias, and one of 0 is the same function"),
    LSTM: Layout("OptimizedLSTMCell", "ifco", "", {"peepholes": ("",), "coupled": (False,), "use_bias": (True,)},
                 "the LSTM of Flax always has a bias, and neither peepholes nor coupled gates"),
    GRU: Layout("GRUCell", "rzh", "z", {"reset_after": (True,), "use_bias": (True,)},
                "GRUCell always has a bias and resets after the product, and the two forms do not convert into each "
                "other"),
}  # fmt: skip

NEUTRAL: dict[str, tuple] = {  # options of modules without a counterpart here, and their values without effect
    "gate_fn": (jax.nn.sigmoid,),
    "carry_init": (None, jax.nn.initializers.zeros),
    "residual": (False,),
    "broadcast_dims": ((),),
    "precision": (None,),
    "preferred_element_type": (None,),
    "dot_general": (None, jax.lax.dot_general),
    "dot_general_cls": (None,),
    "promote_dtype": (flax.linen.dtypes.promote_dtype, nnx_dtypes.promote_dtype),
    "state_axes": (flax.nnx.StateAxes({...: flax.nnx.Carry}),),
    "broadcast_rngs": (None,),
    "variable_axes": ({},),
    "variable_broadcast": ("params",),
    "variable_carry": (False,),
    "split_rngs": ({"params": False},),
}

ELEMENTWISE_NAMES = {function: name for name, function in ELEMENTWISE.items()}
ACTIVATIONS: dict[Callable, Any] = {function: name for name, function in FUNCTIONS.items()} | {
    function: function  # further functions of each output alone
    for function in (
        jax.nn.celu, jax.nn.elu, jax.nn.gelu, jax.nn.hard_sigmoid, jax.nn.hard_swish, jax.nn.hard_tanh,
        jax.nn.leaky_relu, jax.nn.log_sigmoid, jax.nn.relu6, jax.nn.selu, jax.nn.silu, jax.nn.soft_sign,
        jax.nn.softplus,
    )
}  # fmt: skip

MERGE_FUNCTIONS = MERGES | {"concat": flax.nnx.Bidirectional.merge_fn, "sum": jnp.add, "product": jnp.multiply}
MERGE_NAMES: dict[Callable, str] = {
    **{function: name for name, function in (*MERGES.items(), *MERGE_FUNCTIONS.items())},
    flax.linen.Bidirectional.merge_fn: "concat",
    jax.lax.add: "sum",
    operator.add: "sum",
    jax.lax.mul: "product",
    operator.mul: "product",
}


class Names(NamedTuple):
    """The linear maps in a cell of Flax, of the inputs and of the state: one for each gate, or one for all."""

    cell: type  # of jaxrnn
    x: tuple[str, ...]
    h: tuple[str, ...]
    biased: tuple[str, ...]  # those of them with a bias


class Family:
    """The conversion of modules, with their parameters as nested dicts. What differs is said by nnx and by linen."""

    nn: Any  # flax.nnx or flax.linen
    dense: type  # the linear map
    bridge: type
    cells: Mapping[type, Names]

    def child(self, module: Any, attribute: str) -> str:
        """The name of the parameters of the module in an attribute."""
        return attribute

    def layers(self, place: str, module: Any, params: Mapping) -> list[tuple[str, Any, Mapping]]:
        """The name, module and parameters of each layer of a Sequential."""
        raise NotImplementedError

    def make(self, kind: type, input_size: int, size: int, dtype: Any, **options: Any) -> Any:
        """A cell, a linear map or an embedding."""
        raise NotImplementedError

    def make_dropout(self, rate: float) -> Any:
        """A Dropout."""
        raise NotImplementedError

    def make_sequential(self, layers: tuple, trees: tuple[dict, ...]) -> tuple[Any, dict]:
        """A Sequential, and the parameters of its layers as one dict."""
        raise NotImplementedError

    # ---- Flax to jaxrnn ----

    def from_layer(self, place: str, module: Any, params: Mapping) -> tuple[Any, Params]:
        """The layer that a module is, and its parameters."""
        nn, kind = self.nn, type(module)
        if not isinstance(module, nn.Module) and callable(module):
            return Activation(known(place, module, ACTIVATIONS, "others might mix steps or sequences")), ()
        check_options(place, module)
        if kind is self.bridge:
            return module.model, unnest(module.model, take(place, params, ("weights",))["weights"])
        if kind is nn.Sequential:
            return self._from_sequential(place, module, params)
        if kind is nn.Bidirectional:
            return self._from_bidirectional(place, module, params)
        if kind is nn.RNN:
            cell, weights = self._from_rnn(place, module, params)
            if module.reverse and not module.keep_order:
                checks.refuse(f"{place}.keep_order", "True with reverse=True", "False",
                              "outputs of jaxrnn stay in the order of the inputs")  # fmt: skip
            return Reverse(cell) if module.reverse else cell, weights
        if kind is nn.Embed:
            w = read(place, module, params, "embedding")["embedding"]
            shape(f"{place}.embedding", w, (module.num_embeddings, module.features))
            return Embedding(*w.shape, dtype=w.dtype.name), EmbeddingParams(jnp.array(w))
        if kind is self.dense:
            arrays = read(place, module, params, *(("kernel", "bias") if module.use_bias else ("kernel",)))
            w, b = arrays["kernel"], arrays.get("bias")
            shape(f"{place}.kernel", w, (*w.shape[:1], features(module)))
            layer = Linear(*w.shape, use_bias=module.use_bias, dtype=w.dtype.name)
            return layer, LinearParams(jnp.array(w), None if b is None else jnp.array(b))
        if kind is nn.Dropout:
            take(place, params, ())
            return Dropout(module.rate), ()
        return self._from_cell(place, module, params)

    def _from_sequential(self, place: str, module: Any, params: Mapping) -> tuple[Stack, tuple]:
        layers = self.layers(place, module, params)
        if len(times_major(module)) > 1:
            checks.refuse(f"{place}.time_major", "the same in all layers", "True and False")
        for name, layer, _ in layers[:-1]:
            if getattr(layer, "return_carry", False):
                checks.refuse(f"{place}.{name}.return_carry", "False below another layer", "True")
        models, weights = zip(*[self.from_layer(f"{place}.{name}", *rest) for name, *rest in layers], strict=True)
        return Stack(*models), weights

    def _from_bidirectional(self, place: str, module: Any, params: Mapping) -> tuple[Bidirectional, tuple]:
        merge = known(f"{place}.merge_fn", module.merge_fn, MERGE_NAMES, "jnp.add is a sum, jnp.multiply a product")
        rnns = {self.child(module, name): getattr(module, name) for name in ("forward_rnn", "backward_rnn")}
        params = take(place, params, tuple(rnns))
        (forward, w_forward), (backward, w_backward) = [
            self._from_rnn(f"{place}.{name}", rnn, params[name]) for name, rnn in rnns.items()
        ]
        return Bidirectional(forward, None if backward == forward else backward, merge), (w_forward, w_backward)

    def _from_rnn(self, place: str, module: Any, params: Mapping) -> tuple[Any, Params]:
        """The cell of an RNN, whatever its direction."""
        if type(module) is not self.nn.RNN:
            checks.refuse(place, "an RNN", type(module).__name__, error=TypeError)
        check_options(place, module)
        name = self.child(module, "cell")
        return self._from_cell(f"{place}.{name}", module.cell, take(place, params, (name,))[name])

    def _from_cell(self, place: str, module: Any, params: Mapping) -> tuple[Any, Params]:
        if type(module) not in self.cells:
            kinds = ", ".join(kind.__name__ for kind in self.cells)
            checks.refuse(place, f"a layer, or a cell among {kinds}", type(module).__name__,
                          "jaxrnn has no counterpart of it", TypeError)  # fmt: skip
        check_options(place, module)
        names = self.cells[type(module)]
        options: dict[str, Any] = {}
        if names.cell is VanillaRNN:
            options["activation"] = ELEMENTWISE_NAMES.get(module.activation_fn, module.activation_fn)
        else:
            known(f"{place}.activation_fn", module.activation_fn, {jnp.tanh: "tanh"}, "jaxrnn has no other there")
        if names.cell is GRU:
            options["reset_after"] = True

        kernels = {name: f"{name}.kernel" for name in (*names.x, *names.h)}
        arrays = read(place, module, params, *kernels.values(), *[f"{name}.bias" for name in names.biased])
        I, H = len(arrays[kernels[names.x[0]]]), features(module)  # noqa: E741
        gates = len(LAYOUTS[names.cell].gates)

        def join(group: tuple[str, ...], rows: int) -> tuple[np.ndarray, np.ndarray]:
            """The kernels and the biases of all gates, missing ones 0."""
            width = gates * H // len(group)
            zeros = np.zeros(width, arrays[kernels[group[0]]].dtype)
            biases = [arrays.get(f"{name}.bias", zeros) for name in group]
            for name, bias in zip(group, biases, strict=True):
                shape(f"{place}.{name}.kernel", arrays[kernels[name]], (rows, width))
                shape(f"{place}.{name}.bias", bias, (width,))
            return np.concatenate([arrays[kernels[name]] for name in group], -1), np.concatenate(biases)

        (w_x, b_x), (w_h, b_h) = join(names.x, I), join(names.h, H)
        cell = names.cell(I, H, dtype=w_x.dtype.name, **options)
        weights = Weights(*map(LAYOUTS[names.cell].ours, (w_x, w_h, b_x, b_h)))
        return cell, layouts.to_params(cell, weights)

    # ---- jaxrnn to Flax ----

    def to_layer(self, place: str, model: Any, params: Params) -> tuple[Any, dict]:
        """The module that a layer is, and its parameters."""
        kind = type(model)
        if kind is Stack:
            pairs = [
                self.to_layer(f"{place}.layers[{n}]", *pair)
                for n, pair in enumerate(zip(model.layers, params, strict=True))
            ]
            return self.make_sequential(*zip(*pairs, strict=True))
        if kind is Bidirectional:
            (forward, w_forward), (backward, w_backward) = [
                self._to_rnn(f"{place}.{name}", cell, part)
                for name, cell, part in zip(("forward", "backward"), model.directions, params, strict=True)
            ]
            module = self.nn.Bidirectional(forward, backward, merge_fn=MERGE_FUNCTIONS[model.merge])
            return module, {"forward_rnn": w_forward, "backward_rnn": w_backward}
        if kind is Reverse:
            return self._to_rnn(f"{place}.layer", model.layer, params, reverse=True, keep_order=True)
        if kind is Embedding:
            module = self.make(self.nn.Embed, model.vocabulary_size, model.output_size, params.w.dtype)
            return module, {"embedding": jnp.array(params.w)}
        if kind is Linear:
            module = self.make(self.dense, model.input_size, model.output_size, params.w.dtype, use_bias=model.use_bias)
            return module, {"kernel": jnp.array(params.w)} | ({"bias": jnp.array(params.b)} if model.use_bias else {})
        if kind is Dropout:
            return self.make_dropout(model.rate), {}
        if kind is Activation:
            return function(model.function), {}
        return self._to_rnn(place, model, params)

    def _to_rnn(self, place: str, cell: Any, params: Any, **options: bool) -> tuple[Any, dict]:
        module, weights = self._to_cell(place, cell, params)
        return self.nn.RNN(module, **options), {"cell": weights}

    def _to_cell(self, place: str, cell: Any, params: Any) -> tuple[Any, dict]:
        layout = counterpart(place, cell, LAYOUTS, "Flax")
        kind = getattr(self.nn, layout.name)
        names, weights = self.cells[kind], layouts.from_params(params)
        b: Any = layouts.one_bias(weights)
        rest = np.zeros_like(b)
        if type(cell) is GRU:
            b, rest[-cell.hidden_size :] = layouts.candidate_bias(weights)  # type: ignore[misc]
        b_x, b_h = (b, rest) if names.x[0] in names.biased else (rest, b)

        tree: dict[str, dict] = {}
        for group, w, b in ((names.x, weights.w_xh, b_x), (names.h, weights.w_hh, b_h)):
            blocks = zip(*(np.split(layout.theirs(a), len(group), -1) for a in (w, b)), strict=True)
            for name, (kernel, bias) in zip(group, blocks, strict=True):
                tree[name] = {"kernel": jnp.array(kernel)}
                if name in names.biased:
                    tree[name]["bias"] = jnp.array(bias)
                elif bias.any():
                    checks.refuse(f"{place}: params.b_hh", "0 for the candidate", f"up to {np.abs(bias).max():.3g}",
                                  f"{self.nn.__name__}.{layout.name} has no bias there; linen's has one")  # fmt: skip
        options: dict[str, Any] = {}
        if type(cell) is VanillaRNN:
            options["activation_fn"] = function(cell.activation)
        return self.make(kind, cell.input_size, cell.hidden_size, params.w_xh.dtype, **options), tree


# ---- what a module states ----------------------------------------------------------------------------------------


def check_options(place: str, module: Any) -> None:
    """Options that jaxrnn does not have are without effect."""
    for name, values in NEUTRAL.items():
        value = getattr(module, name, values[0])
        if value not in values:
            checks.refuse(f"{place}.{name}", describe(values[0]), describe(value), "jaxrnn has no counterpart of it")


def known(place: str, given: Callable, names: Mapping[Callable, Any], why: str) -> Any:
    """What a function stands for; functions are compared by identity."""
    for candidate, name in names.items():
        if candidate is given:
            return name
    kinds = ", ".join(dict.fromkeys(map(describe, names)))
    checks.refuse(place, f"one of {kinds}", describe(given), why)


def function(named: str | Callable) -> Callable:
    """The function of an Activation or a VanillaRNN."""
    return named if callable(named) else FUNCTIONS[named]


def describe(value: Any) -> str:
    """A function by its name."""
    return getattr(value, "__name__", None) or repr(value)


def times_major(module: Any) -> set[bool]:
    """The values of ``time_major`` in a module and, in a Sequential, its layers."""
    if isinstance(getattr(module, "layers", None), Iterable):
        return set().union(*map(times_major, module.layers))
    return {module.time_major} if hasattr(module, "time_major") else set()


def features(module: Any) -> int:
    """The size of the outputs of a module."""
    return next(
        getattr(module, name) for name in ("hidden_features", "out_features", "features") if hasattr(module, name)
    )


def take(place: str, params: Any, names: tuple[str, ...]) -> Mapping:
    """Parameters with exactly these names."""
    if not isinstance(params, Mapping):
        checks.refuse(place, "parameters by name", checks.describe(params), error=TypeError)
    missing = [f"none called {name!r}" for name in names if name not in params]
    unknown = [f"{name!r} besides" for name in params if name not in names]
    if missing or unknown:
        fix = "a module used twice shares its parameters, layers of jaxrnn do not" if missing else ""
        checks.refuse(place, f"parameters {', '.join(map(repr, names)) or 'of no name'}", (missing + unknown)[0], fix)
    return params


def read(place: str, module: Any, params: Any, *names: str) -> dict[str, np.ndarray]:
    """The arrays of exactly these names, ``"hi.kernel"`` for instance, of one dtype, in which the module computes."""
    params = take(place, flatten_dict(params, sep="."), names)
    arrays = {name: to_numpy(f"{place}.{name}", params[name]) for name in names}
    dtype = one_dtype(place, arrays.values(), "cast the parameters")
    if module.dtype is not None and jnp.dtype(module.dtype) != dtype:
        checks.refuse(f"{place}.dtype", f"None or {dtype}, that of the parameters", jnp.dtype(module.dtype).name,
                      "rnn.MixedPrecision computes in another one")  # fmt: skip
    return arrays


# ---- states ------------------------------------------------------------------------------------------------------


def from_state(model: Any, state: Any) -> State:
    """Convert carries of nnx or linen to a state of the model: ``(c, h)`` of an LSTM to ``LSTMState(h, c)``.

    Args:
        model: a model that has a counterpart in Flax.
        state: the carry of an ``RNN``, the pair of a ``Bidirectional``, or for a Stack a tuple with one entry for each
            layer, ``()`` for those without one; arrays ``[..., H]``.

    Returns:
        A state for :func:`~jaxrnn.unroll`.

    Raises:
        TypeError, ValueError: the model has no counterpart, or these are not carries of it.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.LSTM(3, 5), rnn.Linear(5, 2))
        >>> c, h = jnp.zeros((7, 5)), jnp.ones((7, 5))
        >>> state = rnn.interop.nnx.from_state(model, ((c, h), ()))
        >>> state[0].h is h
        True
    """
    leaves = jax.tree.leaves(state)
    batch = jnp.shape(leaves[0])[:-1] if leaves else ()
    expected = jax.eval_shape(lambda: to_state(model, model.initial_state(batch)))
    state = checks.same_tree("state", expected, state, "(c, h) is the carry of an LSTM, () that of a layer without one")
    parts = zip(cells("model", model), parts_of_cells(model, state), strict=True)
    return from_parts_of_cells(
        model, iter([LSTMState(*part[::-1]) if type(cell) is LSTM else part for (_, cell), part in parts])
    )


def to_state(model: Any, state: State) -> Any:
    """Convert a state of the model to carries of nnx or linen: the inverse of :func:`from_state`.

    Args:
        model: a model that has a counterpart in Flax.
        state: its state, arrays ``[..., H]``.

    Returns:
        The ``initial_carry`` of an ``RNN`` or a ``Bidirectional``; for a Stack a tuple with one for each layer.

    Raises:
        TypeError, ValueError: the model has no counterpart, or it is not a state of the model.

    Example:
        >>> import jaxrnn as rnn
        >>> cell = rnn.LSTM(3, 5)
        >>> c, h = rnn.interop.nnx.to_state(cell, cell.initial_state((7,)))
        >>> c.shape
        (7, 5)
    """
    leaves = jax.tree.leaves(state)
    state = checks.state_like("state", model, state, jnp.shape(leaves[0])[:-1] if leaves else ())
    parts = []
    for (place, cell), part in zip(cells("model", model), parts_of_cells(model, state), strict=True):
        counterpart(place, cell, LAYOUTS, "Flax")
        parts.append(tuple(part[::-1]) if type(cell) is LSTM else part)
    return from_parts_of_cells(model, iter(parts))
