"""Deep networks: layers applied one after another, with or without skip connections."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters
from jaxrnn.layers.bidirectional import merged_size
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State, input_ndim
from jaxrnn.unroll import one_step, over_time


class Layers:
    """Several layers, whose parameters and states are tuples with one entry per layer.

    A subclass is a dataclass with a field ``layers``, and has ``output_size``, ``step`` and ``over_time``.
    """

    layers: tuple

    @property
    def input_ndim(self) -> int:
        return input_ndim(self._sized[0]) if self._sized else 1

    @property
    def input_size(self) -> int | None:
        return getattr(self._sized[0], "input_size", None) if self._sized else None

    @property
    def vocabulary_size(self) -> int | None:
        return getattr(self._sized[0], "vocabulary_size", None) if self._sized else None

    @property
    def _sized(self) -> list:
        """The layers that have sizes: all but those like dropout."""
        return [layer for layer in self.layers if not getattr(layer, "preserves_size", False)]

    def init(self, key: Array) -> tuple:
        """Draw the parameters of every layer."""
        keys = jax.random.split(key, len(self.layers))
        return tuple(layer.init(k) for layer, k in zip(self.layers, keys, strict=True))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> tuple:
        """The initial state of every layer."""
        return tuple(layer.initial_state(batch_shape) for layer in self.layers)

    def check_input(self, argument: str, x: Any) -> None:
        """Raise an error for inputs that the first layer cannot take."""
        checks.input_of(self.layers[0], argument, x)

    def _keys(self, key: Array | None) -> Any:
        return [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))


@hyperparameters
class Stack(Layers):
    r"""A stack of layers: the outputs of each are the inputs of the next.

    .. math:: H_t^{(l)} = φ_l(H_t^{(l-1)} w_{xh}^{(l)} + H_{t-1}^{(l)} w_{hh}^{(l)} + b_h^{(l)}), \qquad H_t^{(0)} = x_t

    for vanilla layers; each layer may be any cell or layer. Parameters and state are tuples with one entry per layer.

    Args:
        *layers: cells and layers, the first one takes the inputs.

    Raises:
        TypeError: one of them is not a hashable cell or layer.
        ValueError: the input size of a layer is not the output size of the layer below; there is no layer.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.Embedding(65, 8), rnn.LSTM(8, 16), rnn.LSTM(16, 16), rnn.Linear(16, 65))
        >>> params = model.init(jax.random.key(0))
        >>> final, logits = rnn.unroll(model, params, jnp.zeros((7, 2), int))  # [T, B]
        >>> logits.shape, len(final)
        ((7, 2, 65), 4)
        >>> state, logits = model.step(params, final, jnp.zeros((2,), int))  # one step more

    Source: Graves, Mohamed & Hinton (2013), "Speech recognition with deep recurrent neural networks".
    """

    layers: tuple = dataclasses.field(metadata={"star": True})

    def __init__(self, *layers: Any) -> None:
        check_layers(layers, "Stack(LSTM(8, 16), Linear(16, 2))")
        consecutive_sizes(layers)
        object.__setattr__(self, "layers", layers)

    @property
    def output_size(self) -> int | None:
        return getattr(self._sized[-1], "output_size", None) if self._sized else None

    def step(self, params: tuple, state: tuple, x: PyTree, *, key: Array | None = None) -> tuple[tuple, PyTree]:
        """One step through all layers: ``x [..., I]`` to the next state and the top layer's output."""
        checks.one_per_layer("params", params, len(self.layers), "Stack")
        checks.one_per_layer("state", state, len(self.layers), "Stack")
        states = []
        for layer, p, s, k in zip(self.layers, params, state, self._keys(key), strict=True):
            s, x = one_step(layer, p, s, x, k)
            states.append(s)
        return tuple(states), x

    def over_time(
        self, params: Params, state: State, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[tuple, PyTree, PyTree | None]:
        finals, trajectories = [], []
        for n, (layer, p, s, k) in enumerate(zip(self.layers, params, state, self._keys(key), strict=True)):
            final, xs, states = over_time(layer, p, s, xs, options.part(n), k)
            finals.append(final)
            trajectories.append(states)
        return tuple(finals), xs, tuple(trajectories) if options.return_states else None


@hyperparameters
class SkipStack(Layers):
    r"""A stack with skip connections: every layer sees the input, and the output has the outputs of all layers.

    .. math::
        h_t^{(1)} = F_1(x)_t, \qquad h_t^{(l)} = F_l([x, h^{(l-1)}])_t, \qquad y_t = [h_t^{(1)}, …, h_t^{(L)}]

    Parameters and state are tuples with one entry per layer. Dropout goes into a :class:`Stack` with its layer.

    Args:
        *layers: cells and layers; the input size of each after the first is that of the input plus the output size of
            the layer below.
        outputs: ``"all"``, or ``"last"`` for the output of the top layer alone.

    Raises:
        TypeError: one of them is not a hashable cell or layer.
        ValueError: sizes do not fit; there is no layer.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> deep = rnn.SkipStack(rnn.LSTM(3, 8), rnn.LSTM(3 + 8, 8), rnn.LSTM(3 + 8, 8))
        >>> model = rnn.Stack(deep, rnn.Linear(3 * 8, 2))
        >>> final, ys = rnn.unroll(model, model.init(jax.random.key(0)), jnp.ones((7, 2, 3)))
        >>> ys.shape
        (7, 2, 2)

    Source: Graves (2013), "Generating sequences with recurrent neural networks", section 2.
    """

    layers: tuple = dataclasses.field(metadata={"star": True})
    outputs: str = "all"

    def __init__(self, *layers: Any, outputs: str = "all") -> None:
        check_layers(layers, "SkipStack(LSTM(3, 8), LSTM(3 + 8, 8))")
        checks.one_of("outputs", outputs, ("all", "last"))
        if input_ndim(layers[0]) == 0:
            checks.refuse("layers[0]", "a layer of vectors, which each layer can have too", repr(layers[0]),
                          "Stack(Embedding(...), SkipStack(...))")  # fmt: skip
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "outputs", outputs)
        for index, (below, above) in enumerate(itertools.pairwise(layers), 1):
            needed = merged_size("concat", self.input_size, getattr(below, "output_size", None))
            input_size = getattr(above, "input_size", None)
            if None not in (needed, input_size) and needed != input_size:
                checks.refuse(f"layers[{index}]", f"input size {needed}, that of the input and of the layer below",
                              f"{input_size} in {above!r}")  # fmt: skip

    @property
    def output_size(self) -> int | None:
        sizes = [getattr(layer, "output_size", None) for layer in self.layers]
        return sizes[-1] if self.outputs == "last" else None if None in sizes else sum(sizes)  # type: ignore[arg-type]

    def step(self, params: tuple, state: tuple, x: Array, *, key: Array | None = None) -> tuple[tuple, Array]:
        """One step through all layers."""
        checks.one_per_layer("params", params, len(self.layers), "SkipStack")
        checks.one_per_layer("state", state, len(self.layers), "SkipStack")
        states: list[State] = []
        hs: list[Array] = []
        for layer, p, s, k in zip(self.layers, params, state, self._keys(key), strict=True):
            s, h = one_step(layer, p, s, _join([x, *hs[-1:]]), k)
            states.append(s)
            hs.append(h)
        return tuple(states), self._output(hs)

    def over_time(
        self, params: Params, state: State, xs: Array, options: ScanOptions, key: Array | None
    ) -> tuple[tuple, Array, PyTree | None]:
        finals: list[State] = []
        trajectories: list[PyTree] = []
        hs: list[Array] = []
        for n, (layer, p, s, k) in enumerate(zip(self.layers, params, state, self._keys(key), strict=True)):
            final, h, states = over_time(layer, p, s, _join([xs, *hs[-1:]]), options.part(n), k)
            finals.append(final)
            trajectories.append(states)
            hs.append(h)
        return tuple(finals), self._output(hs), tuple(trajectories) if options.return_states else None

    def _output(self, hs: list[Array]) -> Array:
        return _join(hs) if self.outputs == "all" else hs[-1]


def _join(parts: list[Array]) -> Array:
    """Arrays concatenated along their features."""
    for part in parts:
        checks.array("layers", part, "SkipStack")
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)


def check_layers(layers: tuple, example: str) -> None:
    """At least one layer, and all of them hashable."""
    if not layers:
        checks.refuse("layers", "at least one cell or layer", "none", example)
    for index, layer in enumerate(layers):
        checks.layer(f"layers[{index}]", layer)


def consecutive_sizes(layers: tuple) -> None:
    """The input size of each layer is the output size of the layer below, where both are known; images stay images."""
    size_below, below, shape_below, axes = None, "", None, 1
    for index, layer in enumerate(layers):
        if axes > 1 and input_ndim(layer) == 1 and _has_state(layer):
            checks.refuse(f"layers[{index}]", f"a layer of {axes} input axes, those of the outputs of {below}",
                          f"1 in {layer!r}", "Flatten(cell.output_shape) between them makes vectors")  # fmt: skip
        shape, axes = getattr(layer, "input_shape", None), output_ndim(layer, axes)
        if None not in (shape, shape_below) and shape != shape_below:
            checks.refuse(f"layers[{index}]", f"input shape {shape_below}, the output shape of {below}",
                          f"{shape} in {layer!r}")  # fmt: skip
        shape_below = getattr(layer, "output_shape", shape_below if getattr(layer, "preserves_size", False) else None)
        input_size, output_size = (getattr(layer, name, None) for name in ("input_size", "output_size"))
        if input_size is not None and size_below is not None and input_size != size_below:
            checks.refuse(f"layers[{index}]", f"input size {size_below}, the output size of {below}",
                          f"{input_size} in {layer!r}")  # fmt: skip
        if output_size is not None or not getattr(layer, "preserves_size", False):
            size_below = output_size
        below = f"layers[{index}]" if output_size is not None else below


def output_ndim(model: Any, below: int = 1) -> int:
    """The axes of one output: 1 of vectors, more of images; ``below`` is that of the layer below."""
    if isinstance(model, Stack):
        for layer in model.layers:
            below = output_ndim(layer, below)
        return below
    ndim = input_ndim(model)
    return below if ndim <= 1 else ndim if _has_state(model) else 1  # Flatten has no state


def _has_state(layer: Any) -> bool:
    return bool(jax.tree.leaves(jax.eval_shape(layer.initial_state, ())))
