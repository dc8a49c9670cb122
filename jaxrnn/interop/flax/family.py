"""Modules of nnx and linen as layers of jaxrnn, and back. The table is in :mod:`jaxrnn.interop.flax`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from jaxrnn import checks
from jaxrnn.cells import GRU, LSTM, MGU, ConvLSTM, VanillaRNN
from jaxrnn.interop import convolutions, layouts
from jaxrnn.interop.arrays import one_dtype, shape, to_numpy
from jaxrnn.interop.bridges.sequences import unnest
from jaxrnn.interop.checks import counterpart
from jaxrnn.interop.flax.options import (
    ELEMENTWISE_NAMES,
    MERGE_FUNCTIONS,
    MERGE_NAMES,
    check_options,
    features,
    known,
    times_major,
)
from jaxrnn.interop.functions import from_function, to_function
from jaxrnn.interop.layouts import Layout, Weights
from jaxrnn.layers import Activation, Bidirectional, Dropout, Embedding, Linear, Reverse, Stack
from jaxrnn.layers.pointwise import EmbeddingParams, LinearParams
from jaxrnn.types import Params

LAYOUTS = {
    VanillaRNN: Layout("SimpleCell", "h", "", {"use_bias": (True,)},
                       "SimpleCell always has a bias, and one of 0 is the same function"),
    LSTM: Layout("OptimizedLSTMCell", "ifco", "", {"peepholes": ("",), "coupled": (False,), "use_bias": (True,)},
                 "the LSTM of Flax always has a bias, and neither peepholes nor coupled gates"),
    GRU: Layout("GRUCell", "rzh", "z", {"reset_after": (True,), "use_bias": (True,)},
                "GRUCell always has a bias and resets after the product, and the two forms do not convert into each "
                "other"),
    MGU: Layout("MGUCell", "zh", "z", {"reset": ("keep", "none"), "use_bias": (True,)},
                "the f of MGUCell both keeps and resets the state, and it always has a bias"),
    ConvLSTM: Layout("ConvLSTMCell", "icfo", "", convolutions.TWO_BIASES,
                     "ConvLSTMCell has a bias, no peepholes, and the same kind of convolution for input and state"),
}  # fmt: skip


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
    cells: ClassVar[Mapping[type, Names]]

    def __init__(self) -> None:
        self.places: dict[int, str] = {}  # of the modules that were read

    def parts(self, place: str, module: Any, params: Mapping) -> str:
        """How a module of a user's own is converted part by part."""
        raise NotImplementedError

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
            return from_function(place, module), ()
        self.check(place, module)
        if kind is self.bridge:
            return module.model, unnest(module.model, self.take(place, module, params, ("weights",))["weights"])
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
            w = self.read(place, module, params, "embedding")["embedding"]
            shape(f"{place}.embedding", w, (module.num_embeddings, module.features))
            return Embedding(*w.shape, dtype=w.dtype.name), EmbeddingParams(jnp.array(w))
        if kind is self.dense:
            arrays = self.read(place, module, params, *(("kernel", "bias") if module.use_bias else ("kernel",)))
            w, b = arrays["kernel"], arrays.get("bias")
            shape(f"{place}.kernel", w, (*w.shape[:1], features(module)))
            layer = Linear(*w.shape, use_bias=module.use_bias, dtype=w.dtype.name)
            return layer, LinearParams(jnp.array(w), None if b is None else jnp.array(b))
        if kind is nn.Dropout:
            self.take(place, module, params, ())
            return Dropout(module.rate), ()
        return self._from_cell(place, module, params)

    def _from_sequential(self, place: str, module: Any, params: Mapping) -> tuple[Stack, tuple]:
        layers = self.layers(place, module, params)
        if len(times_major(module)) > 1:
            checks.refuse(f"{place}.time_major", "the same in all layers", "True and False")
        for name, layer, _ in layers[:-1]:
            if getattr(layer, "return_carry", False):
                checks.refuse(f"{place}.{name}.return_carry", "False below another layer", "True")
        pairs = [self.from_layer(f"{place}.{name}", *rest) for name, *rest in layers]
        return Stack(*[model for model, _ in pairs]), tuple(weights for _, weights in pairs)

    def _from_bidirectional(self, place: str, module: Any, params: Mapping) -> tuple[Bidirectional, tuple]:
        merge = known(
            f"{place}.merge_fn",
            module.merge_fn,
            MERGE_NAMES,
            "the concatenation of Flax, jnp.add or jnp.multiply",
            "functions are compared by identity",
        )
        names = ("forward_rnn", "backward_rnn")
        params = self.take(place, module, params, names)
        (forward, w_forward), (backward, w_backward) = [
            self._from_rnn(f"{place}.{name}", getattr(module, name), params[name]) for name in names
        ]
        return Bidirectional(forward, None if backward == forward else backward, merge), (w_forward, w_backward)

    def _from_rnn(self, place: str, module: Any, params: Mapping) -> tuple[Any, Params]:
        """The cell of an RNN, whatever its direction."""
        if type(module) is not self.nn.RNN:
            checks.refuse(place, "an RNN", type(module).__name__, error=TypeError)
        self.check(place, module)
        return self._from_cell(f"{place}.cell", module.cell, self.take(place, module, params, ("cell",))["cell"])

    def from_convolution(self, place: str, module: Any, params: Mapping) -> tuple[ConvLSTM, Params] | None:
        """The cell of a convolutional LSTM, or None of another module."""
        return None

    def _from_cell(self, place: str, module: Any, params: Mapping) -> tuple[Any, Params]:
        if (found := self.from_convolution(place, module, params)) is not None:
            return found
        if type(module) not in self.cells:
            kinds = ", ".join(kind.__name__ for kind in self.cells)
            checks.refuse(place, f"a layer, or a cell among {kinds}", type(module).__name__,
                          "jaxrnn has no counterpart of it" if type(module).__module__.startswith("flax.") else
                          self.parts(place, module, params), TypeError)  # fmt: skip
        self.check(place, module)
        names = self.cells[type(module)]
        options: dict[str, Any] = {}
        if names.cell is VanillaRNN:
            options["activation"] = ELEMENTWISE_NAMES.get(module.activation_fn, module.activation_fn)
        else:
            known(
                f"{place}.activation_fn", module.activation_fn, {jnp.tanh: "tanh"}, "tanh", "jaxrnn has no other there"
            )
        if names.cell is GRU:
            options["reset_after"] = True
        if names.cell is MGU:
            options = {"reset": "keep", "reset_after": True} if module.reset_gate else {"reset": "none"}
            names = names if module.reset_gate else names._replace(biased=names.x)

        kernels = {name: f"{name}.kernel" for name in (*names.x, *names.h)}
        arrays = self.read(place, module, params, *kernels.values(), *[f"{name}.bias" for name in names.biased])
        I, H = len(arrays[kernels[names.x[0]]]), features(module)  # noqa: E741
        layout = LAYOUTS[names.cell]
        gates = len(layout.gates)

        def join(group: tuple[str, ...], rows: int) -> tuple[np.ndarray, np.ndarray | None]:
            """The kernel and the bias of all gates; without a bias it is 0 for one gate, None for all."""
            width = gates * H // len(group)
            for name in group:
                shape(f"{place}.{kernels[name]}", arrays[kernels[name]], (rows, width))
                if name in names.biased:
                    shape(f"{place}.{name}.bias", arrays[f"{name}.bias"], (width,))
            w = np.concatenate([arrays[kernels[name]] for name in group], -1)
            biases = [arrays.get(f"{name}.bias", np.zeros(width, w.dtype)) for name in group]
            return layout.ours(w), layout.ours(np.concatenate(biases)) if {*group} & {*names.biased} else None

        (w_x, b_x), (w_h, b_h) = join(names.x, I), join(names.h, H)
        cell = names.cell(I, H, dtype=w_x.dtype.name, **options)
        return cell, layouts.to_params(cell, Weights(w_x, w_h, b_x, b_h))

    # ---- parameters of a module ----

    def check(self, place: str, module: Any) -> None:
        """A module with options that jaxrnn has."""
        check_options(place, module)
        self.places.setdefault(id(module), place)

    def take(self, place: str, module: Any, params: Any, names: tuple[str, ...]) -> Mapping:
        """Parameters with exactly these names."""
        if not isinstance(params, Mapping):
            checks.refuse(place, "parameters by name", checks.describe(params), error=TypeError)
        missing = [f"none called {name!r}" for name in names if name not in params]
        unknown = [f"{name!r} besides" for name in params if name not in names]
        if missing or unknown:
            owners = [self.places.get(id(part)) for part in (module, *(getattr(module, name, None) for name in names))]
            shared = [owner for owner in owners if owner not in (None, place)]
            fix = f"it shares those of {shared[0]}, layers of jaxrnn do not" if missing and shared else ""
            checks.refuse(
                place, f"parameters {', '.join(map(repr, names)) or 'of no name'}", (missing + unknown)[0], fix
            )
        return params

    def read(self, place: str, module: Any, params: Any, *names: str) -> dict[str, np.ndarray]:
        """The arrays of exactly these names, ``"hi.kernel"`` say, of the dtype that the module computes in."""
        params = self.take(place, module, flatten_dict(params, sep="."), names)
        arrays = {name: to_numpy(f"{place}.{name}", params[name]) for name in names}
        dtype = one_dtype(place, arrays.values(), "cast the parameters")
        if module.dtype is not None and jnp.dtype(module.dtype) != dtype:
            checks.refuse(f"{place}.dtype", f"None or {dtype}, that of the parameters", jnp.dtype(module.dtype).name,
                          "rnn.MixedPrecision computes in another one")  # fmt: skip
        return arrays

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
            return to_function(model.function), {}
        return self._to_rnn(place, model, params)

    def _to_rnn(self, place: str, cell: Any, params: Any, **options: bool) -> tuple[Any, dict]:
        module, weights = self._to_cell(place, cell, params)
        return self.nn.RNN(module, **options), {"cell": weights}

    def _to_cell(self, place: str, cell: Any, params: Any) -> tuple[Any, dict]:
        known = {kind: layout for kind, layout in LAYOUTS.items() if hasattr(self.nn, layout.name)}
        fix = "linen has a ConvLSTMCell, nnx has none" if type(cell) is ConvLSTM else ""
        layout = counterpart(place, cell, known, self.nn.__name__.removeprefix("flax."), fix)
        kind = getattr(self.nn, layout.name)
        if type(cell) is ConvLSTM:
            arrays = convolutions.from_params(params, layout, adds=1)
            maps = {name: {"kernel": jnp.array(w), "bias": jnp.array(b)}
                    for name, w, b in (("ih", *arrays[:2]), ("hh", *arrays[2:]))}  # fmt: skip
            kernel = jnp.shape(params.w_xh)[:-2]
            return self.make(kind, cell.input_size, cell.hidden_size, params.w_xh.dtype, kernel_size=kernel), maps
        names, weights = self.cells[kind], layouts.from_params(params)
        options: dict[str, Any] = {}
        if type(cell) is VanillaRNN:
            options["activation_fn"] = to_function(cell.activation)
        if type(cell) is MGU:
            options["reset_gate"] = cell.reset != "none"
            names = names if options["reset_gate"] else names._replace(biased=names.x)
            if options["reset_gate"] and not cell.reset_after:
                checks.refuse(f"{place}.reset_after", "True with reset='keep'", "False",
                              "MGUCell resets after the product, and the two forms do not convert")  # fmt: skip
        b: Any = layouts.one_bias(weights)
        rest = np.zeros_like(b)
        if type(cell) in (GRU, MGU):
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
        return self.make(kind, cell.input_size, cell.hidden_size, params.w_xh.dtype, **options), tree
