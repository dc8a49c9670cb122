"""A walk through the nodes of a graph, in order: each value is a constant, or labels of what layers give."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from jaxrnn.checks import refuse
from jaxrnn.interop.onnx.reader.chains import Chain
from jaxrnn.interop.onnx.reader.graph import RECURRENT, File, place_of
from jaxrnn.interop.onnx.reader.labels import Labels, Tensor, take


class Constant(NamedTuple):
    """A value that no input of the graph changes, or only the sizes of inputs."""

    array: np.ndarray
    sized: bool = False


class Moved(NamedTuple):
    """Elements of tensors, by their labels."""

    labels: np.ndarray


class Arithmetic(NamedTuple):
    """What is computed from integers of an input and from constants."""

    source: str


Value = Constant | Moved | Arithmetic | None  # None: an input of a node that is not given
ON_INTEGERS = ("Gather", "Where", "Less", "Greater", "Cast", *RECURRENT)  # operators that take ids or lengths
MOVES = (
    "Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "GatherElements",
    "GatherND", "Split", "Concat", "Expand", "Tile", "ReverseSequence",
)  # fmt: skip
NO_BOUND = 2**31 - 1  # from here on, the end of a slice is the end of the axis


class Walk:
    """The values of a graph by name, and the operators that give them; axes of open sizes have the given ones."""

    def __init__(
        self, file: File, weights: Mapping[str, np.ndarray], operators: dict[str, Callable], sizes: Iterator[int]
    ) -> None:
        self.file, self.operators = file, operators
        self.weights, self.labels = weights, Labels()
        self.dtypes: dict[str, np.dtype] = {}  # of the inputs
        self.nodes: list[Any] = []  # those that have been passed
        self.masks: set[str] = set()  # the inputs of lengths by which outputs are 0 in the padding
        self.values: dict[str, Value] = {"": None}
        self.values |= {name: Constant(array) for name, array in file.initializers()}
        self.sizes: dict[str, int] = {}  # of open axes
        self.bound = 0  # the largest number that such a size meets
        for name, shape, dtype in file.inputs():
            self.dtypes[name] = dtype
            if name in weights:
                self.values[name] = Constant(np.asarray(weights[name]))
            elif shape is not None:
                self.values[name] = self._input(name, shape, sizes)
        if unknown := sorted(set(weights) - set(self.dtypes)):
            refuse("weights", f"names of inputs of the graph, {', '.join(self.dtypes)}", ", ".join(unknown))

    def _input(self, name: str, shape: list[int | str], sizes: Iterator[int]) -> Moved:
        """An input of the graph; an open size is the same wherever its name is."""
        axes = []
        for axis, size in enumerate(shape):
            if not isinstance(size, int):
                key = size or f"{name}.{axis}"
                size = self.sizes[key] if key in self.sizes else self.sizes.setdefault(key, next(sizes))
            axes.append(size)
        count = int(np.prod(axes))
        tensor = self.labels.new(Chain(name), count, 1 if np.issubdtype(self.dtypes[name], np.integer) else None)
        return Moved(tensor.first + np.arange(count).reshape(axes))

    def run(self, nodes: list[Any]) -> None:
        """Pass nodes in order."""
        for node in nodes:
            inputs = [self.value(node, name) for name in node.input]
            self.bound = max(self.bound, self._bound(node, inputs))
            outputs = self.step(node, inputs)
            self.values.update((name, value) for name, value in zip(node.output, outputs, strict=False) if name)
            self.nodes.append(node)

    def _bound(self, node: Any, inputs: list[Value]) -> int:
        """The largest constant of a slice of what is no constant, or of what is computed from sizes."""
        constants = [value.array for value in inputs if isinstance(value, Constant) and not value.sized]
        sized = any(isinstance(value, Constant) and value.sized for value in inputs)
        if node.op_type == "Slice" and (sized or isinstance(inputs[0], Moved)):
            attributes = self.file.attributes(node)
            constants += [np.array(attributes[name]) for name in ("starts", "ends") if name in attributes]
        elif node.op_type in MOVES or not sized:
            return 0
        numbers = np.abs(np.concatenate([[0.0], *(array.ravel().astype(float) for array in constants)]))
        return math.ceil(numbers[numbers < NO_BOUND].max())

    def value(self, node: Any, name: str) -> Value:
        """The value of that name."""
        if name not in self.values:
            refuse(f"input {name!r}", "a shape", "none", f"the exporter gives it; {self.file.alone}")
        return self.values[name]

    def step(self, node: Any, inputs: list[Value]) -> list[Value]:
        """The outputs of a node."""
        if node.domain not in ("", "ai.onnx"):
            self.refuse(node, f"{node.domain}.{node.op_type}")
        moved = [value for value in inputs if isinstance(value, Moved)]
        operator = self.operators.get(node.op_type)
        if all(value is None or isinstance(value, Constant) for value in inputs) and node.op_type not in RECURRENT:
            return self.constants(node, inputs)
        if operator is not None and node.op_type not in ON_INTEGERS and any(map(self.ids, inputs)):
            return self.arithmetic(node, inputs)
        if operator is not None and (outputs := operator(self, node, inputs)) is not None:
            return outputs
        if any(isinstance(value, Arithmetic) for value in inputs):
            return self.arithmetic(node, inputs)
        if node.op_type in ("Shape", "Size"):
            return self.constants(node, inputs)
        if node.op_type in MOVES and not (node.op_type == "Concat" and len(moved) < len(inputs)):
            return [Moved(array) for array in self.file.evaluate(node, _arrays(node, inputs))]
        return self.arithmetic(node, inputs)

    def constants(self, node: Any, inputs: list[Value]) -> list[Value]:
        """The outputs of a node of constants, or of the shape of anything."""
        if self.file.graphs_in(node):
            self.refuse(node, node.op_type)
        sized = any(not isinstance(value, Constant) or value.sized for value in inputs if value is not None)
        return [Constant(np.asarray(array), sized) for array in self.file.evaluate(node, _arrays(node, inputs))]

    def arithmetic(self, node: Any, inputs: list[Value]) -> list[Value]:
        """The outputs of any other operator on integers of one input; refuses one on anything else."""
        sources = {self.ids(value) for value in inputs if not (value is None or isinstance(value, Constant))}
        source = sources.pop() if len(sources) == 1 else None
        if source is None:
            self.refuse(node, node.op_type)
        return [Arithmetic(source)] * len(node.output)

    def ids(self, value: Value) -> str | None:
        """The input whose integers a value is, or is computed from."""
        if not isinstance(value, Moved):
            return value.source if isinstance(value, Arithmetic) else None
        found = self.labels.of(value.labels)
        if len(found) != 1 or found[0].chain.layers or found[0].is_mask or found[0].features != 1:
            return None
        return found[0].chain.source

    def whole(self, source: str) -> np.ndarray:
        """The labels of an input."""
        value = self.values[source]
        assert isinstance(value, Moved)
        return value.labels

    def computed(self, name: str, source: str, integers: Any) -> np.ndarray:
        """What an arithmetic value is if its input holds these integers."""
        known = {source: np.broadcast_to(integers, self.whole(source).shape).astype(self.dtypes[source])}
        for node in self.nodes:
            if any(self.ids(self.values.get(n)) == source for n in node.output):
                constants = {n: value.array for n in node.input if isinstance(value := self.values[n], Constant)}
                arrays = constants | {n: known[n] for n in node.input if n in known}
                known.update(zip(node.output, self.file.evaluate(node, arrays), strict=False))
        return known[name]

    # ---- for operators -------------------------------------------------------------------------------------------

    def refuse(self, node: Any, got: str, expected: str = "", fix: str = "") -> NoReturn:
        """Refuse a node by its name."""
        expected = expected or "an operator that is a layer of jaxrnn, or moves elements"
        refuse(place_of(node), expected, got, fix or self.file.alone)

    def read(self, node: Any, value: Value) -> tuple[Tensor, np.ndarray]:
        """The tensor whose features are the last axis of a value, and its rows."""
        if isinstance(value, Moved) and (reason := self.labels.other_step(value.labels)):
            self.refuse(node, reason[0], "all steps of a layer, or the last one of each direction", reason[1])
        found = self.labels.read(value.labels) if isinstance(value, Moved) and value.labels.ndim else None
        if found is None:
            got = "a constant" if isinstance(value, Constant) else "parts of it, or of several in another order"
            self.refuse(node, got, "the outputs of a layer, features last")
        if found[0].chain.final == "c" or found[0].is_mask:
            self.refuse(node, "cell states c" if found[0].chain.final else "a mask", "the outputs of a layer")
        return found

    def array(self, node: Any, value: Value, what: str) -> np.ndarray:
        """A constant that does not depend on the sizes of inputs."""
        if not isinstance(value, Constant) or value.sized:
            got = "a value that is computed" if not isinstance(value, Constant) else "one that depends on the sizes"
            self.refuse(node, got, f"constant {what}", "weights={name: array} gives arrays to inputs of the graph")
        return value.array

    def layer(self, node: Any, value: Value, model: Any) -> list[Value]:
        """The outputs of a pointwise layer without parameters."""
        tensor, rows = self.read(node, value)
        return self.give(tensor, rows, tensor.chain.then(model, ()), tensor.features)

    def give(self, tensor: Tensor, rows: np.ndarray, chain: Chain, features: int | None) -> list[Value]:
        """The same rows of a chain that goes on from that of a tensor."""
        return [Moved(take(self.labels.new(chain, tensor.rows, features), rows))]


def primes(above: int) -> Iterator[int]:
    """The prime numbers above a number, the sizes of open axes."""
    return (n for n in itertools.count(above + 1) if all(n % d for d in range(2, math.isqrt(n) + 1)))


def _arrays(node: Any, inputs: list[Value]) -> dict[str, np.ndarray]:
    """Constants, and labels, by name."""
    arrays = {}
    for name, value in zip(node.input, inputs, strict=True):
        if isinstance(value, Constant):
            arrays[name] = value.array
        elif isinstance(value, Moved):
            arrays[name] = value.labels
    return arrays
