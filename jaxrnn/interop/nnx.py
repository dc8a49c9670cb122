"""Modules of Flax nnx to models and parameters, and back: exact, or refused. The table is in jaxrnn.interop.flax.

``Module(model, rngs=...)`` is a model of jaxrnn as a module of nnx.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flax import nnx

from jaxrnn import checks
from jaxrnn.cells import GRU, LSTM, VanillaRNN
from jaxrnn.interop.arrays import parameters
from jaxrnn.interop.bridges.nnx import Module
from jaxrnn.interop.flax.family import Family, Names
from jaxrnn.interop.flax.states import from_state, to_state
from jaxrnn.types import Params

__all__ = ["Module", "from_module", "from_state", "to_module", "to_state"]


class NNX(Family):
    """Modules of nnx hold their parameters, know their input sizes, and draw from ``rngs``."""

    nn = nnx
    dense = nnx.Linear
    bridge = Module
    cells: ClassVar = {
        nnx.SimpleCell: Names(VanillaRNN, ("dense_i",), ("dense_h",), ("dense_i",)),
        nnx.OptimizedLSTMCell: Names(LSTM, ("dense_i",), ("dense_h",), ("dense_h",)),
        nnx.LSTMCell: Names(LSTM, ("ii", "if_", "ig", "io"), ("hi", "hf", "hg", "ho"), ("hi", "hf", "hg", "ho")),
        nnx.GRUCell: Names(GRU, ("dense_i",), ("dense_h",), ("dense_i",)),
    }

    def __init__(self, rngs: nnx.Rngs | None = None) -> None:
        super().__init__()
        self.rngs = nnx.Rngs(0) if rngs is None else rngs

    def layers(self, place: str, module: Any, params: Mapping) -> list[tuple[str, Any, Mapping]]:
        trees = params.get("layers", {})
        return [(f"layers[{n}]", layer, trees.get(n, {})) for n, layer in enumerate(module.layers)]

    def parts(self, place: str, module: Any, params: Mapping) -> str:
        lists = {name: part for name, part in vars(module).items() if isinstance(part, Sequence)}
        names = [
            f"{place}.{name}"
            for name, part in vars(module).items()
            if name not in lists and isinstance(part, nnx.Module)
        ]
        names += [f"*{place}.{name}" for name, parts in lists.items() if any(isinstance(p, nnx.Module) for p in parts)]
        if not names:
            return "what its call computes cannot be read"
        return f"from_module(nnx.Sequential({', '.join(names)})) converts its parts: give them in the order of its call"

    def make(self, kind: type, input_size: int, size: int, dtype: Any, **options: Any) -> Any:
        if kind in self.cells:
            options["recurrent_kernel_init"] = nnx.initializers.zeros  # the default cannot draw in 16 bits
        if kind is nnx.SimpleCell:
            options["dtype"] = None  # that of the parameters, and not float32
        return nnx.eval_shape(lambda: kind(input_size, size, param_dtype=dtype, rngs=nnx.Rngs(0), **options))

    def make_dropout(self, rate: float) -> nnx.Dropout:
        return nnx.Dropout(rate, rngs=self.rngs)

    def make_sequential(self, layers: tuple, trees: tuple[dict, ...]) -> tuple[nnx.Sequential, dict]:
        return nnx.Sequential(*layers), {"layers": {n: tree for n, tree in enumerate(trees) if tree}}


def from_module(module: Any) -> tuple[Any, Params]:
    """Convert a module of nnx to a model and its parameters.

    Args:
        module: an nnx.RNN, nnx.Bidirectional, nnx.Embed, nnx.Linear, nnx.Dropout, a cell, a :class:`Module`, or an
            nnx.Sequential of them and of activation functions; not a subclass, which may compute something else.

    Returns:
        ``(model, params)`` in the dtype of the module's parameters. The model is time-major, ``[T, B, I]``, whatever
        the module; a final carry is always part of what :func:`~jaxrnn.unroll` returns, and dropout acts if it has a
        key, so ``return_carry`` and ``deterministic`` have no counterpart. The final carry of a sequence of length 0 is
        its initial one; in nnx that of the last step.

    Raises:
        TypeError: a part of the module has no counterpart.
        ValueError: an option has none, for instance another ``gate_fn``, or ``reverse`` without ``keep_order``.

    Example:
        >>> import jaxrnn as rnn
        >>> from flax import nnx
        >>> module = nnx.RNN(nnx.GRUCell(3, 5, rngs=nnx.Rngs(0)))  # [B, T, 3]
        >>> model, params = rnn.interop.nnx.from_module(module)
        >>> model  # its inputs are [T, B, 3]
        GRU(3, 5, reset_after=True)

        Gradients are converted as the module with them in place of its parameters:

        .. code-block:: python

            gradients = nnx.grad(loss)(module)  # an nnx.State
            graph, _, rest = nnx.split(module, nnx.Param, ...)
            _, gradients = rnn.interop.nnx.from_module(nnx.merge(graph, gradients, rest))
    """
    if not isinstance(module, nnx.Module):
        checks.refuse("module", "a module of nnx", checks.describe(module), error=TypeError)
    return NNX().from_layer("module", module, nnx.to_pure_dict(nnx.state(module, nnx.Param)))


def to_module(model: Any, params: Params, *, rngs: nnx.Rngs | None = None) -> Any:
    """Convert a model and its parameters to a module of nnx, the inverse of :func:`from_module`.

    Args:
        model: an Embedding, Linear, Dropout or Activation, a VanillaRNN, an LSTM without peepholes or coupled gates, a
            GRU with ``reset_after``, a Reverse or a Bidirectional of such a cell, or a Stack of these.
        params: its parameters. An nnx.GRUCell has one bias: the biases of a GRU are summed, but that of the state in
            the candidate must be 0.
        rngs: the random numbers of dropout, by default ``nnx.Rngs(0)``.

    Returns:
        An nnx.RNN, nnx.Sequential or another module. It is batch-first, ``[B, T, I]``; ``time_major=True`` in a call of
        an nnx.RNN or nnx.Bidirectional makes it time-major.

    Raises:
        TypeError: a part of the model has no counterpart.
        ValueError: a hyperparameter or a bias has none, or the parameters are not those of the model.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> layers = rnn.Bidirectional(rnn.LSTM(8, 16)), rnn.Activation("relu"), rnn.Linear(32, 2)
        >>> model = rnn.Stack(rnn.Embedding(65, 8), *layers)
        >>> module = rnn.interop.nnx.to_module(model, model.init(jax.random.key(0)))
        >>> [getattr(layer, "__name__", None) or type(layer).__name__ for layer in module.layers]
        ['Embed', 'Bidirectional', 'relu', 'Linear']
    """
    checks.model("model", model)
    module, tree = NNX(rngs).to_layer("model", model, parameters(model, params))
    if not isinstance(module, nnx.Module):
        checks.refuse("model", "a Stack around an Activation", repr(model), "nnx has functions in a Sequential only")
    nnx.update(module, tree)
    return module
