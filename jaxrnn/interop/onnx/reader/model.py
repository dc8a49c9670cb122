"""A file of ONNX as a model of jaxrnn: what its outputs are."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.checks import describe, refuse
from jaxrnn.interop.onnx.reader.cells import directions
from jaxrnn.interop.onnx.reader.chains import Chain, merge, model_of, tied
from jaxrnn.interop.onnx.reader.chains import directions as both_directions
from jaxrnn.interop.onnx.reader.graph import File, place_of
from jaxrnn.interop.onnx.reader.labels import Tensor, in_order
from jaxrnn.interop.onnx.reader.layers import OPERATORS
from jaxrnn.interop.onnx.reader.walk import Moved, Walk, primes
from jaxrnn.layers import Linear, LinearParams
from jaxrnn.tasks import Classifier
from jaxrnn.tasks.classifier import ClassifierParams
from jaxrnn.tasks.pooling import has_last
from jaxrnn.types import Params

LARGEST = 2048  # a graph of which sizes meet larger numbers is refused
WEIGHTS = {"W": 1, "R": 2, "B": 3, "P": 7}  # inputs of an operator, by place


def from_model(
    proto_or_path: Any,
    *,
    nodes: Sequence[str] | None = None,
    weights: Mapping[str, Any] | None = None,
) -> tuple[Any, Params]:
    """Convert a model of ONNX, or its recurrent operators alone, to a model and its parameters.

    The operators RNN, GRU and LSTM become cells, with Bidirectional and Reverse for their directions. Around them
    Gather in a constant table becomes an Embedding, MatMul, Gemm and Add a Linear, elementwise functions and softmax
    an Activation, Dropout a Dropout, a sum with the inputs a Residual, and layers in a row a Stack. Whatever only moves
    elements (Transpose, Reshape, Slice, Concat and so on) is followed through the graph.

    =====================  =========================================================================================
    axes                   the model is time-major, ``[T, B, I]``, whatever the file has at its inputs and outputs
    ids                    in ``[0, V)``; where a file changes other ids, an Embedding here refuses them
    ``sequence_lens``      an input of the graph: ``lengths`` of :func:`~jaxrnn.unroll`; the padding is always 0 here
    initial, final states  inputs and outputs of the graph: ``state`` and ``final`` of :func:`~jaxrnn.unroll`
    the last step alone    with a readout above it a :class:`~jaxrnn.tasks.Classifier`
    ``activations``        any of ONNX for an RNN, also with ``clip``; the usual ones for a GRU or an LSTM
    ``input_forget``       an LSTM with coupled gates
    zeros in P             no peephole
    =====================  =========================================================================================

    Of what :func:`to_model` writes, a Classifier with mean, max or attention pooling and a Scan are not read back. The
    newer exporter of PyTorch writes some sizes of its example into the file: export with ``dynamo=False``, or give
    ``nodes``.

    Args:
        proto_or_path: an ``onnx.ModelProto``, or the path of a file, with its external data beside it.
        nodes: names of recurrent operators to be converted alone, in this order; a nameless one has the name of its
            first output. The rest of the graph may be anything.
        weights: arrays for inputs of the graph that hold weights.

    Returns:
        ``(model, params)``, in the dtype of the weights.

    Raises:
        ImportError: onnx is not installed.
        TypeError: it is not a model of ONNX, or nodes or weights are of the wrong kind.
        ValueError: a node has no counterpart, or what it does depends on sizes that the file leaves open: the message
            has its name and the reason.

    Example:
        .. code-block:: python

            torch.onnx.export(module, (xs,), "module.onnx", dynamo=False)
            model, params = rnn.interop.onnx.from_model("module.onnx")
            lstm, params = rnn.interop.onnx.from_model("module.onnx", nodes=["/lstm/LSTM"])
    """
    if weights is not None and not isinstance(weights, Mapping):
        refuse("weights", "arrays by the names of inputs, {name: array}", describe(weights), error=TypeError)
    if isinstance(nodes, str) or not isinstance(nodes, (Sequence, type(None))):
        refuse("nodes", "a list of names", describe(nodes), f"nodes=[{nodes!r}]", TypeError)
    file = File(proto_or_path)
    arrays = {name: np.asarray(array) for name, array in (weights or {}).items()}
    walk = Walk(file, arrays, OPERATORS, primes(16))
    if nodes is not None:
        return _alone(walk, list(nodes))
    needed = file.needed({output.name for output in file.graph.output})
    walk.run(needed)
    model, params = _whole(walk)
    if walk.sizes:
        _same_for_other_sizes(walk, needed, model, params)
    return model, params


def _same_for_other_sizes(walk: Walk, nodes: list[Any], model: Any, params: Params) -> None:
    """Walk again, with other sizes of open axes, and beyond all numbers that they meet, such as those of slices."""
    if walk.bound > LARGEST:
        refuse("graph", f"sizes of open axes that meet no number above {LARGEST}", walk.bound,
               f"what is beyond it is another part of the sequence; {walk.file.alone}")  # fmt: skip
    for sizes in _beyond(walk.bound):
        other = Walk(walk.file, walk.weights, OPERATORS, sizes)
        here = ", ".join(f"{name} = {size}" for name, size in other.sizes.items())
        try:
            other.run(nodes)
            found = _whole(other)
        except ValueError as error:
            raise ValueError(f"{error}; it depends on the size of the axis, here {here}") from None
        if found[0] != model or not _equal(found[1], params):
            refuse("graph", "one model for all sizes of open axes", f"another one for {here}", walk.file.alone)


def _beyond(bound: int) -> Iterator[Iterator[int]]:
    """Sets of sizes beyond a bound; beyond a large one each second axis at a time, or arrays would be huge."""
    if bound <= 32:
        yield primes(max(22, 2 * bound))
    else:
        for turn in (0, 1):
            large, small = primes(2 * bound), primes(4)
            yield (next(small if (n + turn) % 2 else large) for n in itertools.count())


def _equal(a: Params, b: Params) -> bool:
    """Whether two trees are equal to the bit."""
    same = jax.tree.structure(a) == jax.tree.structure(b)  # type: ignore[operator]
    return same and all(x.tobytes() == y.tobytes() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def _whole(walk: Walk) -> tuple[Any, Params]:
    """The model of all outputs of the graph: those of one chain, and final states."""
    outputs: dict[tuple, Chain] = {}
    states: list[Chain] = []
    for output in walk.file.graph.output:
        value = walk.values.get(output.name)
        if not isinstance(value, Moved):
            refuse(
                f"output {output.name!r}",
                "the outputs of a layer",
                "a value that does not depend on the inputs",
                walk.file.alone,
            )
        tensors = walk.labels.of(value.labels)
        if all(tensor.is_state for tensor in tensors):
            states += [tensor.chain for tensor in tensors]
        else:
            chain = _output(walk, output.name, value.labels, tensors)
            outputs[chain.layers] = chain
    return _model(walk, _one(walk, list(outputs.values()), states))


def _one(walk: Walk, outputs: list[Chain], states: list[Chain]) -> Chain:
    """The one chain of the outputs; without any, that of the topmost final states."""
    if not outputs:
        deepest = max((len(chain.layers) for chain in states), default=0)
        top = {chain.layers[-1]: chain for chain in states if len(chain.layers) == deepest}
        outputs, how = [dataclasses.replace(chain, final="") for chain in top.values()], "concat"
    else:
        how = "both"
    first, *second = outputs
    one = merge(first, second[0], how) if len(second) == 1 else first if not second else None
    if one is None:
        refuse("graph", "one output besides final states", ", ".join(o.name for o in walk.file.graph.output),
               walk.file.alone)  # fmt: skip
    if one.scan and walk.masks - {one.scan.lengths}:
        refuse("graph", "one input of lengths, that of all recurrent layers", ", ".join(walk.masks))
    return one


def _output(walk: Walk, name: str, labels: np.ndarray, tensors: list[Tensor]) -> Chain:
    """The chain of an output, all of whose steps it has."""
    expected = "all steps of all sequences in order, or the last ones, features last"
    if reason := walk.labels.other_step(labels):
        refuse(f"output {name!r}", expected, *reason)
    if len(tensors) == 1 and tensors[0].features == 1 and labels.shape[-1:] != (1,):
        labels = labels[..., None]
    found = walk.labels.read(labels) if labels.ndim else None
    if found is None and len(tensors) == 2 and 2 in labels.shape[:-1]:  # an axis of directions
        found = walk.labels.read(np.concatenate(np.moveaxis(labels, labels.shape.index(2), 0), -1))
    if found is None:
        refuse(f"output {name!r}", expected, "parts of outputs, or another order", walk.file.alone)
    tensor, rows = found
    if not tensor.chain.layers:
        refuse(f"output {name!r}", "the outputs of a layer", "an input of the graph")
    scan = None if tensor.chain.final else tensor.chain.scan
    if rows.size != tensor.rows or not in_order(rows, scan.rows.shape if scan else rows.shape):
        refuse(f"output {name!r}", expected, "some steps, or another order", walk.file.alone)
    return tensor.chain


def _model(walk: Walk, chain: Chain) -> tuple[Any, Params]:
    """The layers of a chain as a model, that of a last step as a Classifier."""
    if chain.final:
        *below, readout = chain.layers
        if not isinstance(readout.model, Linear) or not below:
            refuse("graph", "the last step, then a readout, as a Classifier has them", repr(readout.model),
                   f"a Classifier gives logits: end the graph there; {walk.file.alone}")  # fmt: skip
        encoder = model_of(tied(tuple(below)))
        if not has_last(encoder.model):
            refuse("graph", "the last step of each direction of the topmost layer", repr(encoder.model),
                   f"a direction inside another layer has none; {walk.file.alone}")  # fmt: skip
        w, b = readout.params
        model = Classifier(encoder.model, readout.model.output_size, dtype=readout.model.dtype)
        return model, ClassifierParams(encoder.params, (), LinearParams(w, jnp.zeros_like(w[0]) if b is None else b))
    whole = model_of(tied(chain.layers))
    return whole.model, whole.params


def _alone(walk: Walk, names: list[str]) -> tuple[Any, Params]:
    """The recurrent operators of these names, in their order, without what is around them."""
    known = walk.file.recurrent
    found = []
    if not names or set(names) - set(known):
        refuse("nodes", f"names of recurrent operators, {', '.join(map(repr, known)) or 'of which there are none'}",
               ", ".join(map(repr, names)) or "none")  # fmt: skip
    for name in names:
        node = known[name]
        inputs = {key: node.input[n] for key, n in WEIGHTS.items() if n < len(node.input) and node.input[n]}
        walk.run(walk.file.needed(set(inputs.values())))
        arrays = {key: walk.array(node, walk.value(node, value), key) for key, value in inputs.items()}
        first, *second = directions(place_of(node), node.op_type, walk.file.attributes(node), arrays)
        found.append(both_directions(first, second[0]) if second else first)
    whole = model_of(tuple(found))
    return whole.model, whole.params
