"""A cell around a cell, whose inputs carry what acts on each step: a random key, or masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxrnn.types import Array, Params, PyTree, Recurrence, State, keyed_step


@dataclasses.dataclass(frozen=True)
class Adaptor:
    """Base of cells whose inputs are pairs ``(x, extra)``, x being the input of the cell ``adapted``.

    A subclass has a ``step``, and a ``recurrence`` and a ``differential`` made of those of the cell: it is
    differentiated by them where the cell declares a differential, and by autodiff where it does not.
    """

    adapted: Any

    def init(self, key: Array) -> Params:
        return self.adapted.init(key)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        return self.adapted.initial_state(batch_shape)

    def gates(self, params: Params, state: State, x: tuple) -> dict[str, Array]:
        """The gates of the cell; none where it has none."""
        return self.adapted.gates(params, state, x[0]) if hasattr(self.adapted, "gates") else {}

    def output(self, state: State, residuals: PyTree) -> PyTree:
        return self.adapted.output(state, residuals)


@dataclasses.dataclass(frozen=True)
class KeyedCell(Adaptor):
    """A cell with noise, whose inputs are pairs ``(x, key)``."""

    def step(self, params: Params, state: State, x: tuple) -> tuple[State, PyTree]:
        return keyed_step(self.adapted, x[1])(params, state, x[0])

    def recurrence(self, params: Params, xs: tuple) -> tuple[PyTree, Recurrence]:
        return self.adapted.recurrence(params, xs[0], keys=xs[1])

    def differential(
        self, params: Params, dparams: Params, xs: tuple, dxs: tuple | None, before: State, after: State, res: PyTree
    ) -> tuple[PyTree, Recurrence]:
        return self.adapted.differential(params, dparams, xs[0], first(dxs), before, after, res)


def first(pair: tuple | None) -> Any:
    """The tangent of x out of that of ``(x, extra)``."""
    return None if pair is None else pair[0]


def replace_state(
    step: Callable[[State, PyTree], tuple[State, PyTree]], state: State, x: PyTree, change: Callable[[State], State]
) -> tuple[State, PyTree]:
    """A step whose new state is changed; an output that is an array of the new state is changed with it."""
    new, y = step(state, x)
    changed = change(new)
    leaves, (outputs, tree) = jax.tree.leaves(changed), jax.tree.flatten(y)
    places = places_in_state(step, state, x)
    replaced = [y if n is None else leaves[n] for y, n in zip(outputs, places, strict=True)]
    return changed, jax.tree.unflatten(tree, replaced)


def places_in_state(step: Callable[[State, PyTree], tuple[State, PyTree]], state: State, x: PyTree) -> list[int | None]:
    """Of each array of the output, which array of the new state it is; None: another."""
    found: list[int | None] = []

    def trace(state: State, x: PyTree) -> None:
        new, y = jax.tree.map(id, step(state, x))
        places = {leaf: n for n, leaf in enumerate(jax.tree.leaves(new))}
        found.extend(map(places.get, jax.tree.leaves(y)))

    with jax.disable_jit():  # a compiled step hides that its output is an array of its state
        jax.eval_shape(trace, state, x)
    return found


def replace_output(y: PyTree, state: State, changed: State) -> PyTree:
    """The output, with each array that is one of the state replaced by that of the changed one."""
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(changed), strict=True)
    replacement = {id(old): new for old, new in pairs}
    return jax.tree.map(lambda leaf: replacement.get(id(leaf), leaf), y)
