"""A file of ONNX: its nodes in order, its constants, and what follows from constants alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxrnn.checks import refuse
from jaxrnn.interop.checks import library

RECURRENT = ("RNN", "GRU", "LSTM")


class File:
    """A model of ONNX."""

    def __init__(self, proto_or_path: Any) -> None:
        self.onnx = library("onnx", "ONNX", "'jaxrnn[onnx]'")
        proto = proto_or_path
        if isinstance(proto, (str, os.PathLike)):
            proto = self._load(os.fspath(proto))
        if not isinstance(proto, self.onnx.ModelProto):
            refuse("proto_or_path", "an onnx.ModelProto or the path of a file", type(proto).__name__,
                   "onnx.load_from_string reads bytes; an ONNXProgram of PyTorch has model_proto",
                   TypeError)  # fmt: skip
        if not proto.graph.output:
            refuse("proto_or_path", "a graph with outputs", "none")
        if proto.functions:
            proto = self.onnx.inliner.inline_local_functions(proto)
        self.graph = proto.graph
        self.opsets = {entry.domain: entry.version for entry in proto.opset_import}

    def _load(self, path: str) -> Any:
        try:
            return self.onnx.load(path)
        except OSError:
            raise
        except Exception as error:  # of protobuf, or of the check of external data
            refuse("proto_or_path", "a file of ONNX", f"{path!r}, {type(error).__name__}: {error}")

    @property
    def opset(self) -> int:
        return self.opsets.get("", 1)

    @property
    def recurrent(self) -> dict[str, Any]:
        """The recurrent operators by name."""
        return {name_of(node): node for node in self.nodes() if node.op_type in RECURRENT}

    @property
    def alone(self) -> str:
        """The way out of most refusals."""
        names = [*map(repr, self.recurrent)]
        here = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        return f"nodes=[...] gives recurrent operators alone, here {here}" if names else ""

    def initializers(self) -> Iterator[tuple[str, np.ndarray]]:
        """The constants by name, those of the graphs inside If and Loop too."""
        inner = [g for node in self.nodes() for g in self.graphs_in(node)]
        for tensor in (tensor for graph in (self.graph, *inner) for tensor in graph.initializer):
            if self.onnx.external_data_helper.uses_external_data(tensor):
                refuse(f"initializer {tensor.name!r}", "its data", "a reference to another file",
                       "from_model(path) reads the files beside it")  # fmt: skip
            yield tensor.name, self.onnx.numpy_helper.to_array(tensor)

    def inputs(self) -> Iterator[tuple[str, list[int | str] | None, np.dtype]]:
        """The inputs of the graph: name, sizes of axes (a name or "" for an open one), dtype."""
        constants = {tensor.name for tensor in self.graph.initializer}
        for info in self.graph.input:
            if info.name not in constants:
                kind = info.type.tensor_type
                shape = [dim.dim_value or dim.dim_param for dim in kind.shape.dim] if kind.HasField("shape") else None
                yield info.name, shape, self.onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type or 1)

    def attributes(self, node: Any) -> dict[str, Any]:
        """The attributes of a node; texts are strings."""
        found = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        return {name: _text(value) for name, value in found.items()}

    def evaluate(self, node: Any, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs of a node that has these inputs."""
        reference = library("onnx.reference", "ONNX", "'jaxrnn[onnx]'")
        try:
            return reference.ReferenceEvaluator(node, opsets=self.opsets).run(None, dict(inputs))
        except Exception as error:  # of whatever the node does
            refuse(place_of(node), "an operator for any sizes that the graph leaves open",
                   f"{type(error).__name__}: {error}", self.alone)  # fmt: skip

    def nodes(self, graph: Any = None) -> Iterator[Any]:
        """All nodes, those of the graphs inside If and Loop too."""
        for node in (graph or self.graph).node:
            yield node
            for inner in self.graphs_in(node):
                yield from self.nodes(inner)

    def graphs_in(self, node: Any) -> list[Any]:
        """The graphs that are attributes of a node."""
        return [a.g for a in node.attribute if a.type == self.onnx.AttributeProto.GRAPH]

    def needed(self, names: set[str]) -> list[Any]:
        """The nodes that these values depend on, in order."""
        names, found = names - {""}, []
        for node in reversed(list(self.nodes())):
            if names & set(node.output):
                names |= set(node.input) - {""}
                found.append(node)
        return found[::-1]


def name_of(node: Any) -> str:
    """The name of a node, or that of its first output that has one."""
    return node.name or next(filter(None, node.output))


def place_of(node: Any) -> str:
    """The node, for messages."""
    return f"node {name_of(node)!r}"


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(entry) for entry in value]
    return value.decode() if isinstance(value, bytes) else value
