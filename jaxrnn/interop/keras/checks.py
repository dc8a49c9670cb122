"""Checks of the layers of a Keras model: kinds, options, dtypes, masks."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from jaxrnn import checks
from jaxrnn.interop.checks import class_name
from jaxrnn.interop.keras import graph
from jaxrnn.interop.keras.tables import ONE_DIRECTION

FORWARD_ONLY = {
    "stateful": (False, "pass the state instead: rnn.unroll(model, params, xs, state)"),
    "quantization_mode": (None, "convert the model before it is quantized"),
    "lora_enabled": (False, "a model saved and loaded without LoRA has the sum as its weights"),
}  # attributes of layers, their neutral values, and what to do about others
IN_TRAINING = {
    name: (neutral, "it acts in training only, and jaxrnn has no counterpart: from_module(module, inference=True)")
    for neutral, names in (
        (0, ("dropout", "recurrent_dropout")),
        (None, ("noise_shape", "activity_regularizer")),
        (None, tuple(f"{w}_{of}" for w in ("kernel", "recurrent", "bias", "embeddings")
                     for of in ("regularizer", "constraint"))),
        (True, ("trainable",)),
    )
    for name in names
}  # fmt: skip


def check_layers(library: Any, layers: list[tuple[str, Any]], known: Collection[str], inference: bool) -> None:
    """Known layers, each used once, with one dtype, and with options that have a counterpart."""
    options = FORWARD_ONLY if inference else FORWARD_ONLY | IN_TRAINING
    seen: dict[int, str] = {}
    first: tuple[str, str] | None = None
    for place, layer in layers:
        if graph.kind(library, layer) not in known:
            names = f"one of {', '.join(known)}, or a Sequential or functional model of them"
            checks.refuse(place, names, class_name(layer), _how_to_make(layer), TypeError)
        if id(layer) in seen:
            checks.refuse(place, "a layer of its own", f"the layer {seen[id(layer)]} once more",
                          "jaxrnn has no shared weights within a Stack")  # fmt: skip
        seen[id(layer)] = place
        if not layer.built:
            checks.refuse(place, "a built layer", f"{layer.name} without weights",
                          "call the module once, or begin it with keras.Input")  # fmt: skip
        for path, part in graph.parts(place, layer):
            graph.check_methods(path, part)
            for name, (neutral, fix) in options.items():
                value = getattr(part, name, neutral)
                if value is not neutral and value != neutral:
                    checks.refuse(f"{path}.{name}", repr(neutral), repr(value), fix)
            if part.compute_dtype != part.variable_dtype:
                checks.refuse(f"{path}.dtype_policy", "one dtype of weights and computation", part.dtype_policy.name,
                              "load it in one dtype, and wrap the model: rnn.MixedPrecision(model)")  # fmt: skip
            first = first or (path, part.compute_dtype)
            if part.compute_dtype != first[1]:
                checks.refuse(f"{path}.dtype", f"{first[1]}, that of {first[0]}", part.compute_dtype,
                              "jaxrnn does not cast between layers")  # fmt: skip


def _how_to_make(value: Any) -> str:
    """What to do to have a layer or model in place of another object."""
    if isinstance(value, (str, os.PathLike)):
        return f"keras.models.load_model({str(value)!r}) reads a file"
    if isinstance(value, (list, tuple)):
        return "keras.Sequential([...]) makes a model of layers"
    if isinstance(value, type):
        return f"make one: {value.__name__}(...)"
    return "keras.Model(input, output) selects the layers that convert"


def check_mask(library: Any, steps: list[tuple[str, Any]], lengths: bool) -> int | None:
    """The index of the layer that makes the mask, or None; lengths can only stand for one mask of all recurrences."""
    found = [place for place, layer in graph.flat(steps) if graph.mask_value(library, layer) is not None]
    if not found:
        return None
    if not lengths:
        checks.refuse(found[0], "no mask", "Masking or mask_zero=True",
                      "from_module(module, lengths=True), and rnn.unroll(..., lengths=lengths(module, inputs))",
                      )  # fmt: skip
    index = next((n for n, (place, _) in enumerate(steps) if place == found[0]), len(steps))
    kinds = [graph.kind(library, layer) for _, layer in graph.flat(steps[:index])]
    if len(found) > 1 or index == len(steps) or {*ONE_DIRECTION, "Bidirectional"} & {*kinds}:
        checks.refuse(found[-1], "one mask, made below the first recurrent layer", f"{len(found)} made in {found[-1]}",
                      "lengths are those of all layers")  # fmt: skip
    for place, layer in graph.flat(steps):
        for path, part in graph.parts(place, layer):
            if graph.kind(library, part) == "Softmax":
                checks.refuse(path, "no Softmax layer in a model with a mask", "one, which applies it to the features",
                              "keras.layers.Activation('softmax') ignores it")  # fmt: skip
    return index
