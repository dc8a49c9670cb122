"""A graph of ONNX under construction: values, nodes and initializers."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import keystr

from jaxrnn import checks
from jaxrnn.types import PyTree

Shape = tuple[Any, ...]  # of ints and symbolic dimensions


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor of the graph. It is a leaf of trees: of parameters, of states, of inputs."""

    name: str
    shape: Shape
    dtype: np.dtype


class Node(NamedTuple):
    """An operator applied to values; an input or output that is not used has the name ``""``."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


class Body(NamedTuple):
    """The graph in a node, the step of a Scan for instance. It sees the values of the graph around it."""

    nodes: list[Node]
    inputs: list[Value]
    outputs: list[Value]


@dataclasses.dataclass
class Store:
    """What a graph and the bodies in it share."""

    initializers: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    names: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    axes: dict[str, tuple[Value, int]] = dataclasses.field(default_factory=dict)  # where symbolic sizes are read
    sizes: dict[str, Node] = dataclasses.field(default_factory=dict)  # the nodes that read them, before all others

    def name(self, wanted: str) -> str:
        """A name that no other value has."""
        self.names[wanted] += 1
        return wanted if self.names[wanted] == 1 else self.name(f"{wanted}_{self.names[wanted] - 1}")


@dataclasses.dataclass(frozen=True)
class Graph:
    """Nodes are appended to it, with names that start with ``place``, a path such as ``model.layers[1]``."""

    store: Store
    nodes: list[Node]
    place: str

    def at(self, place: str) -> Graph:
        """The same graph; the next nodes are called after ``place``."""
        return dataclasses.replace(self, place=place)

    def body(self) -> Graph:
        """A new graph inside this one."""
        return dataclasses.replace(self, nodes=[])

    def value(self, name: str, shape: Shape, dtype: Any) -> Value:
        """A new value, which a node or the caller of the graph will give."""
        return Value(self.store.name(name), tuple(shape), np.dtype(dtype))

    def like(self, name: str, other: Any) -> Value:
        """A new value with the shape and dtype of another."""
        return self.value(name, other.shape, other.dtype)

    def add_many(self, operator: str, inputs: Sequence[Value | None], outputs: Any, **attributes: Any) -> list[Value]:
        """Append a node; ``outputs`` have a shape and a dtype each."""
        values = [self.like(f"{self.place}/{operator}", output) for output in outputs]
        names = ["" if value is None else value.name for value in inputs]
        while names and not names[-1]:
            names.pop()
        self.nodes.append(Node(operator, names, [value.name for value in values], attributes))
        return values

    def add(
        self, operator: str, inputs: Sequence[Value | None], shape: Iterable, dtype: Any, **attributes: Any
    ) -> Value:
        """Append a node with one output."""
        return self.add_many(operator, inputs, [Value("", tuple(shape), np.dtype(dtype))], **attributes)[0]

    def initializer(self, name: str, array: np.ndarray) -> Value:
        """A constant of this name; only those that some node reads are written."""
        value = self.value(name, array.shape, array.dtype)
        self.store.initializers[value.name] = array
        return value

    def constant(self, values: Any, dtype: Any) -> Value:
        """A constant without a name of its own; equal ones are stored once."""
        array = np.asarray(values, dtype)
        for name, known in self.store.initializers.items():
            same = (known.dtype, known.shape) == (array.dtype, array.shape) and name.startswith("constant")
            if same and known.tobytes() == array.tobytes():
                return Value(name, array.shape, array.dtype)
        return self.initializer("constant", array)

    def size(self, dimension: Any) -> Value:
        """A symbolic dimension as an int64 vector of one entry."""
        name = str(dimension)
        if name not in self.store.axes:
            known = " and ".join(self.store.axes)
            checks.refuse(self.place, f"axes whose size is a number, {known}", name, "ONNX has no place for others")
        value, axis = self.store.axes[name]
        output = f"size of {name}"
        self.store.sizes[name] = Node("Shape", [value.name], [output], {"start": axis, "end": axis + 1})
        return Value(output, (1,), np.dtype(np.int64))

    def shape(self, shape: Shape) -> Value:
        """A shape as an int64 vector."""
        if all(isinstance(n, int) for n in shape):
            return self.constant(shape, np.int64)
        parts = [self.constant([n], np.int64) if isinstance(n, int) else self.size(n) for n in shape]
        return parts[0] if len(parts) == 1 else self.add("Concat", parts, (len(parts),), np.int64, axis=0)

    def expand(self, value: Value, shape: Shape) -> Value:
        """A value broadcast to a shape."""
        if value.shape == tuple(shape):
            return value
        return self.add("Expand", [value, self.shape(shape)], shape, value.dtype)

    def returned(self, values: Sequence[Value], names: Sequence[str]) -> list[Value]:
        """The values as outputs of the graph, with these names."""
        return [self._returned(value, self.store.name(name)) for value, name in zip(values, names, strict=True)]

    def _returned(self, value: Value, name: str) -> Value:
        self.nodes.append(Node("Identity", [value.name], [name], {}))
        return dataclasses.replace(value, name=name)


def by_name(root: str, tree: PyTree) -> dict[str, Any]:
    """The leaves of a tree by their paths, ``root.1.h``."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {".".join(filter(None, [root, keystr(path, simple=True, separator=".")])): leaf for path, leaf in leaves}


def named(root: str, tree: PyTree, make: Callable[[str, Any], Value]) -> PyTree:
    """The tree of ``make(name, leaf)``, with the names of :func:`by_name`."""
    leaves = [make(name, leaf) for name, leaf in by_name(root, tree).items()]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)
