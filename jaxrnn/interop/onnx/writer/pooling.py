"""A classifier as nodes: the pooling of its encoder's outputs, and its readout."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.interop.onnx.writer.graph import Graph, Value
from jaxrnn.interop.onnx.writer.layers import apply, check_precision, directions, merged, over_time
from jaxrnn.interop.onnx.writer.recurrent import Options
from jaxrnn.interop.onnx.writer.tracing import traced
from jaxrnn.layers import Bidirectional, MixedPrecision, Reverse, Stack
from jaxrnn.layers.bidirectional import sees_future
from jaxrnn.tasks import Classifier
from jaxrnn.tasks.pooling import is_pointwise, last_output, maximum, mean
from jaxrnn.types import PyTree


def logits(graph: Graph, model: Classifier, params: Any, xs: Value, options: Options) -> Value:
    """The logits of the classes, ``[B, classes]``."""
    encoder, pooling = graph.at(f"{graph.place}.encoder"), graph.at(f"{graph.place}.{model.pooling}")
    if model.pooling == "last":
        vector = _last(encoder, model.encoder, params.encoder, xs, options)
    else:
        _, ys = over_time(encoder, model.encoder, params.encoder, None, xs, options)
        if model.pooling == "attention":
            vector = traced(pooling, model.attention.apply, params.pooling, ys, options.lengths)
        else:
            vector = traced(pooling, {"mean": mean, "max": maximum}[model.pooling], ys, options.lengths)
    return apply(graph.at(f"{graph.place}.readout"), model.readout, params.readout, vector)


def _last(graph: Graph, model: Any, params: PyTree, xs: Value, options: Options) -> Value:
    """The last output of each sequence, as :func:`jaxrnn.tasks.pooling.last` has it."""
    if type(model) is Bidirectional and not any(map(sees_future, model.directions)):
        _, (a, b) = directions(graph, model, params, None, xs, options)
        return merged(graph, model.merge, _pick(graph, a, options), _pick(graph, b, _reversed(options)))
    if type(model) is Reverse:
        return _last(graph.at(f"{graph.place}.layer"), model.layer, params, xs, _reversed(options))
    if type(model) is MixedPrecision:
        check_precision(graph, model, options)
        return _last(graph.at(f"{graph.place}.layer"), model.layer, params, xs, options)
    if type(model) is Stack and sees_future(model):
        top = max(n for n, layer in enumerate(model.layers) if not is_pointwise(layer))
        above = options._replace(lengths=None, mask=None)  # one step for each sequence
        for index, (layer, p) in enumerate(zip(model.layers, params, strict=True)):
            here = graph.at(f"{graph.place}.layers[{index}]")
            if index == top:
                xs = traced(here, lambda y: y[None], _last(here, layer, p, xs, options))
            else:
                _, xs = over_time(here, layer, p, None, xs, options if index < top else above)
        return traced(graph, lambda ys: jnp.squeeze(ys, 0), xs)
    if sees_future(model):
        checks.refuse(graph.place, "a Bidirectional of cells at the top of a Stack", repr(model),
                      'the last outputs of its directions are not defined; pooling="mean" needs none',
                      TypeError)  # fmt: skip
    _, ys = over_time(graph, model, params, None, xs, options)
    return _pick(graph, ys, options)


def _reversed(options: Options) -> Options:
    return options._replace(reverse=not options.reverse)


def _pick(graph: Graph, ys: Value, options: Options) -> Value:
    return traced(graph, lambda ys, n: last_output(ys, n, reverse=options.reverse), ys, options.lengths)
