"""The layers of a Keras model in order, if it is one chain; around some of them the input may be added again."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import jax

from jaxrnn.checks import refuse, tree_summary
from jaxrnn.interop.keras.tables import ONE_DIRECTION, RESIDUALS

METHODS = ("call", "compute_mask", "get_initial_state", "inner_loop")  # that may be set on one instance
JOINS = ("Any", "Concatenate", "ExpandDims", "LogicalOr")  # operations that make one mask where layers are merged


class Residual(NamedTuple):
    """Layers whose input is merged with their output."""

    merge: str
    chain: list[tuple[str, Any]]


def chain(keras: Any, place: str, module: Any) -> list[tuple[str, Any]]:
    """The layers that a module applies one after another, with their paths; nested models are flattened."""
    if type(module) is keras.Sequential:
        found = [(f"{place}.layers[{index}]", layer) for index, layer in enumerate(module.layers)]
    elif type(module).__name__ == "Functional" and isinstance(module, keras.Model):
        for name in ("inputs", "outputs"):
            if len(getattr(module, name)) != 1:
                _refuse_graph(f"{place}.{name}", f"{len(getattr(module, name))} tensors")
        masks: list[tuple[str, Any]] = []
        found = _between(keras, place, module.inputs[0], module.outputs[0], masks)
        _check_masks(keras, found, masks)
    else:
        return [] if type(module) is keras.layers.InputLayer else [(place, module)]
    check_methods(place, module)
    return _flattened(keras, found)


def check_methods(place: str, layer: Any) -> None:
    """A model, layer or cell computes as its class does."""
    for name in METHODS:
        if name in vars(layer):
            refuse(f"{place}.{name}", f"the method of {type(layer).__name__}", "another one, set on the instance",
                   "write it as a cell or layer of jaxrnn", TypeError)  # fmt: skip


def _flattened(keras: Any, steps: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [step for place, layer in steps for step in chain(keras, place, layer)]


def kind(keras: Any, layer: Any) -> str:
    """The class of a layer by its name in keras.layers; "" of others, such as a subclass, whose call may differ."""
    name = type(layer).__name__
    return name if getattr(keras.layers, name, None) is type(layer) else ""


def flat(steps: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The layers of a chain, those within residual connections included."""
    for place, layer in steps:
        if isinstance(layer, Residual):
            yield from flat(layer.chain)
        else:
            yield place, layer


def parts(place: str, layer: Any) -> Iterator[tuple[str, Any]]:
    """A layer, and the layers and cells inside of it, with their paths."""
    yield place, layer
    for name in ("forward_layer", "backward_layer", "cell", "layer"):
        if hasattr(part := getattr(layer, name, None), "dtype_policy"):  # a cell may be any object
            yield from parts(f"{place}.{name}", part)
    for index, cell in enumerate(getattr(layer, "cells", ())):
        yield from parts(f"{place}.cells[{index}]", cell)


def _between(keras: Any, place: str, start: Any, end: Any, masks: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The layers from one tensor of a functional model to another; the masks that are passed to them are added."""
    steps: list[tuple[str, Any]] = []
    while end is not start:
        layer, node = _origin(end)
        path = f"{place}.get_layer({layer.name!r})"
        _check_output(keras, path, layer, len(node.outputs), end._keras_history.tensor_index)
        inputs, given = _inputs_and_masks(keras, path, layer, node)
        masks += [(path, mask) for mask in given]
        merge = RESIDUALS.get(kind(keras, layer))
        if len(inputs) == 1:
            steps.append((path, layer))
            end = inputs[0]
        elif merge and len(inputs) == 2:
            end, inner = _input_and_output(path, merge, *inputs)
            if getattr(layer, "axis", -1) not in (-1, len(end.shape) - 1):
                refuse(f"{path}.axis", "-1, the features", layer.axis, "jaxrnn concatenates features")
            steps.append((path, Residual(merge, _flattened(keras, _between(keras, place, end, inner, masks)))))
        else:
            _refuse_graph(path, f"a {type(layer).__name__} of {len(inputs)} tensors")
    return steps[::-1]


def _inputs_and_masks(keras: Any, path: str, layer: Any, node: Any) -> tuple[list[Any], list[Any]]:
    """The tensors that a layer is called with, and the masks; what else it is given must have no effect."""
    if not isinstance(layer, keras.layers.Layer):  # an operation
        return node.input_tensors, []
    call = inspect.signature(type(layer).call).bind(layer, *node.arguments.args, **node.arguments.kwargs)
    _, (_, inputs), *others = call.arguments.items()
    for name, value in others:
        if name == "training":  # False is recorded for None too, and the training of the model replaces it
            if value is not None and value is not False:
                refuse(path, "a layer that follows the model's training", f"a call with training={value!r}",
                       "rnn.unroll(..., key=key) makes dropout act")  # fmt: skip
        elif name != "mask" and value is not None:
            refuse(f"{path}.{name}", "None", tree_summary(value), "a state is an argument of the whole model: "
                   "rnn.unroll(model, params, xs, state)")  # fmt: skip
    tensors = jax.tree.leaves(inputs)
    for x in tensors:
        if not isinstance(x, keras.KerasTensor):
            _refuse_graph(path, f"{type(layer).__name__} of an array, {tree_summary(x)}")
    return tensors, jax.tree.leaves(call.arguments.get("mask"))


def _check_output(keras: Any, path: str, layer: Any, count: int, index: int) -> None:
    """The only output, or that before the states; or h where it is the same, as the last output of one direction."""
    name = kind(keras, layer)
    pair = name == "Bidirectional" and layer.merge_mode is None
    before_states = index == 0 and name in (*ONE_DIRECTION, "Bidirectional") and not pair
    same = index == 1 and name in ("LSTM", "GRU", "SimpleRNN") and not layer.return_sequences
    if count > 1 and not before_states and not same:
        what = "one direction" if pair and index < 2 else "a state" if name else "of a model"
        refuse(path, "its first output", f"output {index} of {count}, {what}",
               "rnn.unroll returns the final state, and both directions of merge_mode=None as one output; h alone is "
               "the output of a layer with return_sequences=False")  # fmt: skip


def _input_and_output(path: str, merge: str, a: Any, b: Any) -> tuple[Any, Any]:
    """Which of two merged tensors is computed from the other: ``(x, F(x))``."""
    for x, y in ((a, b), (b, a)):
        if any(x is tensor for node in _nodes(y) for tensor in node.input_tensors):
            if merge == "concat" and x is b:
                refuse(path, "[x, F(x)], the input first", "[F(x), x]",
                       "exchange the order, and the rows of the weights above")  # fmt: skip
            return x, y
    _refuse_graph(path, "tensors of which none is computed from the other")


def mask_value(keras: Any, layer: Any) -> Any:
    """The value of masked inputs of a layer that makes a mask; None of other layers."""
    return layer.mask_value if kind(keras, layer) == "Masking" else 0 if getattr(layer, "mask_zero", False) else None


def _check_masks(keras: Any, steps: list[tuple[str, Any]], masks: list[tuple[str, Any]]) -> None:
    """Masks are explicit arguments in a graph: those that a layer of the chain makes, ``x != value``, not others."""
    made = [
        (node.input_tensors[0], mask_value(keras, layer))
        for _, layer in flat(steps)
        if mask_value(keras, layer) is not None
        for node in layer._inbound_nodes
    ]
    for path, mask in masks:
        if not isinstance(mask, keras.KerasTensor):
            _refuse_mask(path)
        for node in _nodes(mask, through=JOINS):
            x, value = node.arguments.args if _name(node) == "NotEqual" else (None, None)
            own = any(x is y and value == other for y, other in made)
            if not own and _name(node) not in (*JOINS, "ZerosLike"):
                _refuse_mask(path)


def _nodes(tensor: Any, through: tuple[str, ...] = ()) -> list[Any]:
    """The calls that a tensor is computed from; with ``through`` none before a call of another operation."""
    found: dict[int, Any] = {}
    tensors = [tensor]
    while tensors:
        _, node = _origin(tensors.pop())
        if id(node) not in found:
            found[id(node)] = node
            tensors += node.input_tensors if not through or _name(node) in through else []
    return list(found.values())


def _name(node: Any) -> str:
    return type(node.operation).__name__


def _origin(tensor: Any) -> tuple[Any, Any]:
    """The layer that made a symbolic tensor, and the node of that call."""
    layer, index, _ = tensor._keras_history
    return layer, layer._inbound_nodes[index]


def _refuse_mask(place: str) -> NoReturn:
    refuse(place, "the mask of a Masking layer or an Embedding below it", "another mask",
           "jaxrnn takes lengths= for the whole model")  # fmt: skip


def _refuse_graph(place: str, got: str) -> NoReturn:
    refuse(place, "one chain of layers, or Add or Concatenate of the input and the output of some of them", got,
           "keras.Model(input, output) selects a chain", TypeError)  # fmt: skip
