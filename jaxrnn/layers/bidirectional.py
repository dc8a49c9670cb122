"""Bidirectional networks: a forward and a reversed scan, merged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State, input_ndim
from jaxrnn.unroll import over_time

MERGES: dict[str, Callable[[Array, Array], Any]] = {
    "concat": lambda a, b: jnp.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) / 2,
    "product": lambda a, b: a * b,
    "both": lambda a, b: (a, b),
}


def merged_size(merge: str, a: int | None, b: int | None) -> int | None:
    """Number of features after a merge; None where it is unknown or the output is a pair."""
    if merge == "both" or a is None or b is None:
        return None
    return a + b if merge == "concat" else a


@hyperparameters
class Bidirectional:
    r"""Two networks with separate weights, one forward and one backward in time.

    .. math:: H_t = [\overrightarrow{H}_t, \overleftarrow{H}_t]

    Each output depends on the whole sequence. With ``lengths`` the backward direction starts at each sequence's own
    end; with ``resets`` both directions are reset at the same boundaries. Parameters and state are pairs
    ``(forward, backward)``.

    Args:
        forward: a cell or layer, possibly deep.
        backward: a cell or layer for the other direction; by default ``forward``, with separate weights.
        merge: how the two outputs are combined: ``"concat"`` (2H features), ``"sum"``, ``"mean"``, ``"product"``, or
            ``"both"`` for the pair.

    Raises:
        TypeError: ``forward`` or ``backward`` is not a hashable cell or layer; ``step`` is called, as the backward
            direction needs the future inputs.
        ValueError: the sizes of the directions do not match each other or the merge; inputs hold the time since the
            step before (:class:`~jaxrnn.GRUD`).

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> tagger = rnn.Stack(rnn.Bidirectional(rnn.LSTM(3, 5)), rnn.Linear(10, 4))
        >>> params = tagger.init(jax.random.key(0))
        >>> final, logits = rnn.unroll(tagger, params, jnp.ones((7, 2, 3)), lengths=jnp.array([7, 4]))
        >>> logits.shape
        (7, 2, 4)

    Source: Schuster & Paliwal (1997), "Bidirectional recurrent neural networks".
    """

    forward: Any
    backward: Any = None
    merge: str = "concat"

    sees_future: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.layer("forward", self.forward)
        if self.backward is not None:
            checks.layer("backward", self.backward)
        checks.one_of("merge", self.merge, MERGES)
        if contains(self.directions[1], "reads_intervals"):
            checks.refuse("backward", "a layer whose inputs do not hold the time since the step before",
                          repr(self.directions[1]), "from the other side that is the time until the step after: leave "
                          "it out, or use two unrolls")  # fmt: skip
        a, b = (getattr(layer, "output_size", None) for layer in self.directions)
        if self.merge in ("sum", "mean", "product") and None not in (a, b) and a != b:
            checks.refuse(
                "backward", f"output size {a}, that of forward, to {self.merge}", b, 'merge="concat" takes any'
            )
        a, b = (getattr(layer, "input_size", None) for layer in self.directions)
        if None not in (a, b) and a != b:
            checks.refuse("backward", f"input size {a}, that of forward", b, "both directions see the same inputs")

    @property
    def directions(self) -> tuple[Any, Any]:
        return self.forward, self.forward if self.backward is None else self.backward

    @property
    def input_ndim(self) -> int:
        return input_ndim(self.forward)

    @property
    def input_size(self) -> int | None:
        return getattr(self.forward, "input_size", None)

    @property
    def output_size(self) -> int | None:
        return merged_size(self.merge, *(getattr(layer, "output_size", None) for layer in self.directions))

    def init(self, key: Array) -> tuple[Params, Params]:
        """Draw the parameters of both directions."""
        forward, backward = self.directions
        forward_key, backward_key = jax.random.split(key)
        return forward.init(forward_key), backward.init(backward_key)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> tuple[State, State]:
        """The initial states of both directions."""
        forward, backward = self.directions
        return forward.initial_state(batch_shape), backward.initial_state(batch_shape)

    def check_input(self, argument: str, x: Any) -> None:
        """Raise an error for inputs that either direction cannot take."""
        for layer in self.directions:
            checks.input_of(layer, argument, x)

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> NoReturn:
        """Raises TypeError: the backward direction needs the future inputs."""
        refuse_step("Bidirectional")

    def over_time(
        self, params: Params, state: State, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[tuple, PyTree, PyTree | None]:
        keys = (None, None) if key is None else jax.random.split(key)
        forward, backward = self.directions
        final, ys, states = over_time(forward, params[0], state[0], xs, options.part(0), keys[0])
        final_back, ys_back, states_back = over_time(
            backward, params[1], state[1], xs, backward_options(options.part(1)), keys[1]
        )
        trajectories = (states, states_back) if options.return_states else None
        return (final, final_back), MERGES[self.merge](ys, ys_back), trajectories


def refuse_step(layer: str) -> NoReturn:
    """A layer with a backward direction cannot take one step."""
    checks.refuse(f"{layer}.step", "a whole sequence, through rnn.unroll", "one step",
                  "the backward direction starts at the end; a model that decodes step by step needs forward "
                  "cells only", TypeError)  # fmt: skip


def backward_options(options: ScanOptions) -> ScanOptions:
    """The same scan in the other direction.

    A reset before step t is a boundary between step t and the step scanned before it. In the other direction the step
    scanned after that boundary is the latter, so the resets move by one step; the first step needs none. Nor does a
    step after which all are masked: there is no boundary after the last one.
    """
    resets, mask = options.resets, options.mask
    if resets is not None:
        none = jnp.zeros_like(resets[:1])
        resets = jnp.concatenate([none, resets[:-1]] if options.reverse else [resets[1:], none])
        if mask is not None:
            resets &= jax.lax.cummax(mask.astype(jnp.int32), reverse=options.reverse) > 0
    return options._replace(resets=resets, reverse=not options.reverse)


def sees_future(model: Any) -> bool:
    """Whether a model, or one of a tuple, contains a bidirectional or a reversed layer, as far as attributes show."""
    return contains(model, "sees_future")


def contains(model: Any, attribute: str) -> bool:
    """Whether this attribute of a model, of one of a tuple, or of a part of it is True."""
    parts = model if isinstance(model, tuple) else ()
    if dataclasses.is_dataclass(model) and not isinstance(model, type):
        parts = tuple(getattr(model, field.name) for field in dataclasses.fields(model))
    elif hasattr(model, "over_time") and not isinstance(model, type):
        parts = tuple(vars(model).values())
    return getattr(model, attribute, False) is True or any(contains(part, attribute) for part in parts)
