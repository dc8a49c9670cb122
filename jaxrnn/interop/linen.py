"""Modules of Flax linen with their parameters to models, and back: exact, or refused. See jaxrnn.interop.flax.

``Module(model)`` is a model of jaxrnn as a module of linen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np
from flax import linen as nn

from jaxrnn import checks
from jaxrnn.cells import GRU, LSTM, MGU, ConvLSTM, VanillaRNN
from jaxrnn.interop import convolutions
from jaxrnn.interop.arrays import parameters
from jaxrnn.interop.bridges.linen import Module
from jaxrnn.interop.bridges.sequences import nest
from jaxrnn.interop.flax.family import LAYOUTS, Family, Names
from jaxrnn.interop.flax.states import from_state, to_state
from jaxrnn.types import Params

__all__ = ["Module", "from_params", "from_state", "to_module", "to_params", "to_state"]


LSTM_NAMES = Names(LSTM, ("ii", "if", "ig", "io"), ("hi", "hf", "hg", "ho"), ("hi", "hf", "hg", "ho"))


class Linen(Family):
    """Modules of linen hold options only; their parameters lie apart, under the names of attributes."""

    nn = nn
    dense = nn.Dense
    bridge = Module
    cells: ClassVar = {
        nn.SimpleCell: Names(VanillaRNN, ("i",), ("h",), ("i",)),
        nn.LSTMCell: LSTM_NAMES,
        nn.OptimizedLSTMCell: LSTM_NAMES,
        nn.GRUCell: Names(GRU, ("ir", "iz", "in"), ("hr", "hz", "hn"), ("ir", "iz", "in", "hn")),
        nn.MGUCell: Names(MGU, ("if", "in"), ("hf", "hn"), ("if", "in", "hn")),
    }

    def __init__(self, deterministic: bool = True, spatial_shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.deterministic, self.spatial_shape = deterministic, spatial_shape

    def layers(self, place: str, module: Any, params: Mapping) -> list[tuple[str, Any, Mapping]]:
        named = {f"layers_{n}": layer for n, layer in enumerate(module.layers)}  # whatever name= they have
        for name in params:
            checks.one_of(place, name, named)
        return [(name, layer, params.get(name, {})) for name, layer in named.items()]

    def parts(self, place: str, module: Any, params: Mapping) -> str:
        names = ", ".join(map(repr, params)) or "of no name"
        return f"from_params(part, params[name]) converts a part of it; it has the parameters {names}"

    def from_convolution(self, place: str, module: Any, params: Mapping) -> tuple[ConvLSTM, Params] | None:
        if type(module) is not nn.ConvLSTMCell:
            return None
        self.check(place, module)
        axes = len(module.kernel_size)
        if module.padding != "SAME" or any(stride != 1 for stride in module.strides or ()):
            checks.refuse(f"{place}.padding, strides", "'SAME' and 1", f"{module.padding!r} and {module.strides}",
                          "the output would not have the shape of the state")  # fmt: skip
        if self.spatial_shape is None or len(self.spatial_shape) != axes:
            checks.refuse("spatial_shape", f"the {axes} spatial axes of the inputs of {place}", self.spatial_shape,
                          "a ConvLSTMCell does not know them")  # fmt: skip
        names = [f"{of}.{name}" for of in ("ih", "hh") for name in ("kernel", "bias") if name == "kernel" or
                 module.use_bias]  # fmt: skip
        found = self.read(place, module, params, *names)
        arrays = [found.get(f"{of}.{name}") for of in ("ih", "hh") for name in ("kernel", "bias")]
        given = convolutions.Convolutions(*arrays)  # type: ignore[arg-type]
        return convolutions.to_model(place, given, LAYOUTS[ConvLSTM], self.spatial_shape, adds=1)

    def make(self, kind: type, input_size: int, size: int, dtype: Any, **options: Any) -> Any:
        sizes = (input_size, size) if kind is nn.Embed else (size,)
        return kind(*sizes, param_dtype=dtype, **options)

    def make_dropout(self, rate: float) -> nn.Dropout:
        return nn.Dropout(rate, deterministic=self.deterministic)

    def make_sequential(self, layers: tuple, trees: tuple[dict, ...]) -> tuple[nn.Sequential, dict]:
        return nn.Sequential(layers), {f"layers_{n}": tree for n, tree in enumerate(trees) if tree}


def from_params(
    module: Any, params: Mapping[str, Any], *, spatial_shape: tuple[int, ...] | None = None
) -> tuple[Any, Params]:
    """Convert a module of linen and its parameters to a model and its parameters.

    Args:
        module: an nn.RNN, nn.Bidirectional, nn.Embed, nn.Dense, nn.Dropout, a cell, a :class:`Module`, or an
            nn.Sequential of them and of activation functions; not a subclass, which may compute something else.
        params: its parameters, or variables: a dict with them as ``"params"``. A tree of the same structure, such as
            gradients, is converted too. A module of your own is converted part by part: ``nn.RNN(nn.GRUCell(5))`` in
            its ``__call__`` has the parameters ``{"cell": params["GRUCell_0"]}``.
        spatial_shape: of the inputs of an nn.ConvLSTMCell, without batch and channels; the module does not know it.
            Gradients of it do not convert: it adds 1 to its forget gate, and has two biases.

    Returns:
        ``(model, params)`` in the dtype of the parameters. The model is time-major, ``[T, B, I]``, whatever the module;
        a final carry is always part of what :func:`~jaxrnn.unroll` returns, and dropout acts if it has a key, so
        ``return_carry`` and ``deterministic`` have no counterpart. The final carry of a sequence of length 0 is its
        initial one; in linen that of the last step.

    Raises:
        TypeError: a part of the module has no counterpart.
        ValueError: an option has none, or names or shapes of parameters are not those of the module.

    Example:
        .. code-block:: python

            module = nn.RNN(nn.GRUCell(5))
            variables = module.init(jax.random.key(0), jnp.ones((2, 7, 3)))  # [B, T, 3]
            model, params = rnn.interop.linen.from_params(module, variables)  # GRU(3, 5, reset_after=True)
            final, ys = rnn.unroll(model, params, jnp.ones((7, 2, 3)))  # [T, B, 3]
    """
    if not isinstance(module, nn.Module):
        checks.refuse("module", "a module of linen", checks.describe(module), error=TypeError)
    if not isinstance(params, Mapping):
        checks.refuse("params", "parameters by name", checks.describe(params), error=TypeError)
    return Linen(spatial_shape=spatial_shape).from_layer("module", module, nn.unbox(params.get("params", params)))


def to_params(model: Any, params: Params) -> dict[str, Any]:
    """Convert parameters of a model to those of the module of linen that :func:`to_module` returns.

    Args:
        model: what :func:`to_module` takes; or a :class:`Module`, for the parameters of that bridge.
        params: the parameters of the model, or a tree of the same structure, such as gradients.

    Returns:
        The nested dict of parameters: ``module.apply({"params": ...}, xs)``.

    Raises:
        TypeError: a part of the model has no counterpart.
        ValueError: a hyperparameter has none, or the parameters are not those of the model.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> model = rnn.LSTM(3, 5)
        >>> params = rnn.interop.linen.to_params(model, model.init(jax.random.key(0)))
        >>> params["cell"]["hf"]["bias"].shape
        (5,)
    """
    if type(model) is Module:
        return {"weights": nest(model.model, params)}
    checks.model("model", model)
    return Linen().to_layer("model", model, parameters(model, params))[1]


def to_module(model: Any, *, deterministic: bool = True) -> nn.Module:
    """Convert a model to a module of linen, whose parameters :func:`to_params` gives.

    Args:
        model: an Embedding, Linear, Dropout or Activation, a VanillaRNN, an LSTM without peepholes or coupled gates, a
            GRU with ``reset_after``, an MGU with ``reset="keep", reset_after=True`` or ``reset="none"``, a ConvLSTM
            without peepholes, strides and dilation, a Reverse or a Bidirectional of such a cell, or a Stack of these.
        deterministic: whether dropout is off, in the constructor of every nn.Dropout: an nn.Sequential cannot pass it
            to some of its layers. For training, ``deterministic=False`` and ``rngs={"dropout": key}`` in ``apply``.

    Returns:
        An nn.RNN, nn.Sequential or another module. It is batch-first, ``[B, T, I]``.

    Raises:
        TypeError, ValueError: a part of the model or a hyperparameter has no counterpart.

    Example:
        .. code-block:: python

            model = rnn.Stack(rnn.Embedding(65, 8), rnn.Bidirectional(rnn.LSTM(8, 16)), rnn.Linear(32, 2))
            module = rnn.interop.linen.to_module(model)
            params = rnn.interop.linen.to_params(model, model.init(jax.random.key(0)))
            logits = module.apply({"params": params}, tokens)  # [B, T] to [B, T, 2]
    """
    checks.model("model", model)
    checks.flag("deterministic", deterministic)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    module, _ = Linen(deterministic).to_layer(
        "model", model, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    )
    if not isinstance(module, nn.Module):
        checks.refuse("model", "a Stack around an Activation", repr(model), "linen has functions in a Sequential only")
    return module
