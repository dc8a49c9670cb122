"""Chains of layers, from an input of the graph to a tensor; where two of them meet they become one layer."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrnn.layers import Bidirectional, Embedding, Linear, LinearParams, Residual, Reverse, Stack, Tied, TiedParams
from jaxrnn.layers.pointwise import Pointwise
from jaxrnn.tasks.pooling import has_last, is_pointwise
from jaxrnn.types import Params


@dataclasses.dataclass(frozen=True, eq=False)  # one layer of the file is itself, whatever its values
class Layer:
    """A layer and its parameters."""

    model: Any
    params: Params


class Scan(NamedTuple):
    """What the recurrent operators of a chain share: the rows ``[T, B]`` of its input, and the input of lengths."""

    rows: np.ndarray
    lengths: str | None


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """The layers between an input of the graph and a tensor ``[T, B, F]``, or ``[B, F]`` if it is of one step."""

    source: str  # the name of the input
    layers: tuple[Layer, ...] = ()
    scan: Scan | None = None  # None before the first recurrent operator
    final: str = ""  # "h" or "c" of the last step alone

    def then(self, model: Any, params: Params, **changes: Any) -> Chain:
        """The chain with one layer more."""
        return dataclasses.replace(self, layers=(*self.layers, Layer(model, params)), **changes)

    def instead(self, model: Any, params: Params) -> Chain:
        """The chain with another last layer."""
        return dataclasses.replace(self, layers=self.layers[:-1]).then(model, params)

    @property
    def dtype(self) -> str | None:
        """The dtype of the parameters nearest to the end."""
        leaves = [leaf for layer in self.layers for leaf in jax.tree.leaves(layer.params)]
        return leaves[-1].dtype.name if leaves else None

    @property
    def top(self) -> Any:
        """The topmost recurrent layer; None without any."""
        return next((one.model for one in reversed(self.layers) if not is_pointwise(one.model)), None)

    @property
    def last_step(self) -> int | None:
        """Where the last step of the topmost recurrent layer is in time: -1, or 0 in reverse; None if undefined."""
        if self.top is None or isinstance(self.top, Bidirectional) or not has_last(self.top):
            return None
        return 0 if isinstance(self.top, Reverse) else -1


def merge(a: Chain, b: Chain, how: str) -> Chain | None:
    """Two chains as one: a residual connection if ``b`` goes on where ``a`` ends, else two directions."""
    n = next((n for n, (x, y) in enumerate(zip(a.layers, b.layers, strict=False)) if x is not y),
             min(len(a.layers), len(b.layers)))  # fmt: skip
    one, two = a.layers[n:], b.layers[n:]
    if how == "sum" and not two:
        b, one, two = a, two, one
    if not two or a.source != b.source:
        return None
    merged, second = dataclasses.replace(b, layers=b.layers[:n]), model_of(two)
    if not one:
        return merged.then(Residual(second.model, how), second.params) if how in ("sum", "concat") else None
    both = directions(model_of(one), second, how)
    return merged.then(both.model, both.params)


def directions(first: Layer, second: Layer, how: str = "concat") -> Layer:
    """Two layers with the same inputs as one; the second one is backward in a Bidirectional."""
    backward = mirrored(second.model)
    model = Bidirectional(first.model, None if backward == first.model else backward, how)
    return Layer(model, (first.params, second.params))


def model_of(layers: tuple[Layer, ...]) -> Layer:
    """Several layers as one, a stack."""
    if len(layers) == 1:
        return layers[0]
    return Layer(Stack(*(one.model for one in layers)), tuple(one.params for one in layers))


def mirrored(model: Any) -> Any:
    """The model that does in the other direction of time what this one does; it has the same parameters."""
    if isinstance(model, Pointwise):
        return model
    if isinstance(model, Reverse):
        return model.layer
    if isinstance(model, Stack):
        return Stack(*map(mirrored, model.layers))
    if isinstance(model, Residual):
        return Residual(mirrored(model.layer), model.merge)
    if isinstance(model, Bidirectional):
        forward, backward = map(mirrored, model.directions)
        return Bidirectional(forward, None if backward == forward else backward, model.merge)
    return Reverse(model)


def tied(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The layers, those from an embedding to a readout that has the same weights as one ``Tied``."""
    tops = [n for n, one in enumerate(layers) if n > 1 and isinstance(one.model, Linear)]
    if not tops or not isinstance(layers[0].model, Embedding):
        return layers
    embedding, inner, readout = layers[0], model_of(layers[1 : tops[-1]]), layers[tops[-1]]
    if not np.array_equal(embedding.params.w.T, readout.params.w):
        return layers
    model = Tied(embedding.model, inner.model, use_bias=readout.model.use_bias)
    return (Layer(model, TiedParams(embedding.params, inner.params, readout.params.b)), *layers[tops[-1] + 1 :])


def with_bias(chain: Chain, b: Any) -> Chain | None:
    """The chain with the bias ``b [out]`` in its last layer, if that is a readout without one."""
    last = chain.layers[-1] if chain.layers else None
    if last is None or not isinstance(last.model, Linear) or last.model.use_bias:
        return None
    return chain.instead(dataclasses.replace(last.model, use_bias=True), LinearParams(last.params.w, b))
