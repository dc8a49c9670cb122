"""A cell over a sequence: one of ONNX's recurrent operators, or a Scan of its step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.cells import VanillaRNN
from jaxrnn.compat import InconclusiveDimensionOperation
from jaxrnn.interop.onnx.operators import LAYOUTS, operator, to_arrays
from jaxrnn.interop.onnx.writer.graph import Body, Graph, Value, by_name, named
from jaxrnn.interop.onnx.writer.tracing import traced
from jaxrnn.precision import cast
from jaxrnn.scan import where
from jaxrnn.types import PyTree


class Options(NamedTuple):
    """How a sequence is scanned, and in which dtype; the same for every cell of a model."""

    lengths: Value | None  # [B]
    mask: Value | None  # [T, B]: False in the padding
    reverse: bool
    dtype: np.dtype  # of parameters and floating values
    convert: bool  # whether parts of other dtypes are computed in this one


def is_native(cell: Any, options: Options) -> bool:
    """Whether ONNX has an operator for the cell, and ONNX Runtime computes it: it does in float32 only."""
    layout = LAYOUTS.get(type(cell))
    return layout is not None and not [*layout.lacking(cell)] and options.dtype == np.float32


def share_an_operator(cells: Sequence[Any], options: Options) -> bool:
    """Whether two cells are the two directions of one operator: they may differ in activations and peepholes."""
    a, b = cells
    if not (is_native(a, options) and is_native(b, options)) or options.reverse:
        return False
    return operator(a) == operator(b) and (a.hidden_size, a.use_bias) == (b.hidden_size, b.use_bias)


def over_time(
    graph: Graph, cell: Any, params: PyTree, state: PyTree | None, xs: Value, options: Options
) -> tuple[PyTree, PyTree]:
    """The final state, or None without a state, and the outputs."""
    if is_native(cell, options):
        (final,), (ys,) = native(graph, [cell], [params], [state], xs, options)
        return final, ys
    return _scan(graph, cell, params, state, xs, options)


# ---- the operators -----------------------------------------------------------------------------------------------


def native(
    graph: Graph, cells: Sequence[Any], params: Sequence[PyTree], states: Sequence[PyTree | None], xs: Value,
    options: Options,
) -> tuple[list[PyTree], list[Value]]:  # fmt: skip
    """One RNN, GRU or LSTM for a cell, or for two in both directions: their final states and their outputs."""
    name, attributes = operator(cells[0])
    (steps, batch), H, D = xs.shape[:2], cells[0].hidden_size, len(cells)
    attributes |= {"hidden_size": H, "direction": ("reverse" if options.reverse else "forward", "bidirectional")[D - 1]}
    if type(cells[0]) is VanillaRNN:
        attributes["activations"] = [cell.activation.capitalize() for cell in cells]

    leaves = [jax.tree.leaves(state) for state in states]  # [h] or [h, c] of each cell
    h, c = [*(traced(graph, _stack, *parts) for parts in zip(*leaves, strict=True)), None, None][:2]
    W, R, B, P = _weights(graph, cells, params)
    Y, last = Value("", (steps, D, batch, H), options.dtype), Value("", (D, batch, H), options.dtype)
    if name == "LSTM":
        Y, *final = graph.add_many(name, [xs, W, R, B, options.lengths, h, c, P], [Y, last, last], **attributes)
    else:
        Y, *final = graph.add_many(name, [xs, W, R, B, options.lengths, h], [Y, last], **attributes)

    def direction(index: int, axis: int, a: Value) -> Value:
        return traced(graph, lambda a: jax.lax.index_in_dim(a, index, axis, keepdims=False), a)

    def final_state(index: int, state: PyTree | None) -> PyTree | None:
        parts = [] if state is None else [direction(index, 0, a) for a in final]
        return _where_not_empty(graph, options, jax.tree.unflatten(jax.tree.structure(state), parts), state)

    return [final_state(n, state) for n, state in enumerate(states)], [direction(n, 1, Y) for n in range(D)]


def _stack(*parts: Any) -> Any:
    return jnp.stack(parts)


def _weights(graph: Graph, cells: Sequence[Any], params: Sequence[PyTree]) -> list[Value | None]:
    """W, R, B and P of all directions, called after the parameters that they come from."""
    arrays = [
        to_arrays(cell, jax.tree.map(lambda value: graph.store.initializers[value.name], p))
        for cell, p in zip(cells, params, strict=True)
    ]
    path = jax.tree.leaves(params)[0].name  # params.1.w_xh, or params.1.0.w_xh in the first of two directions
    prefix = path.rsplit(".", len(cells))[0]
    found: list[Value | None] = []
    for name, parts in zip("WRBP", zip(*arrays, strict=True), strict=True):
        known = [part for part in parts if part is not None]
        whole = [np.zeros_like(known[0]) if part is None else part for part in parts] if known else []
        found.append(graph.initializer(f"{prefix}.{name}", np.stack(whole)) if whole else None)
    return found


def _where_not_empty(graph: Graph, options: Options, final: PyTree, initial: PyTree) -> PyTree:
    """The final state; of an empty sequence it is the initial one here, and not defined in ONNX."""
    if options.lengths is None:
        return final
    return traced(graph, lambda n, new, old: where(n > 0, new, old), options.lengths, final, initial)


# ---- any other cell ----------------------------------------------------------------------------------------------


def _scan(
    graph: Graph, cell: Any, params: PyTree, state: PyTree | None, xs: Value, options: Options
) -> tuple[PyTree, PyTree]:
    """A Scan whose body is the step of the cell, with the state held and the output 0 where the mask is False."""
    steps, batch = xs.shape[:2]
    before = state
    if state is None:
        before = traced(graph, lambda: cast(cell.initial_state((batch,)), options.dtype))
    scanned = {"x": xs} if options.mask is None else {"x": xs, "mask": options.mask}

    def step(params: PyTree, state: PyTree, x: Any, mask: Any = None) -> tuple[PyTree, PyTree]:
        new, y = checks.step_result(graph.place, cell.step(params, state, x))
        new = checks.next_state(state, new)
        return (new, y) if mask is None else (where(mask, new, state), where(mask, y))

    body = graph.at(f"{graph.place} ({type(cell).__name__})").body()
    old = named(f"{body.place}/state", before, body.like)
    now = [body.value(f"{body.place}/{name}", a.shape[1:], a.dtype) for name, a in scanned.items()]
    try:
        new, y = traced(body, step, params, old, *now)
    except (jax.errors.JAXTypeError, InconclusiveDimensionOperation) as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        checks.refuse(body.place, "a step that JAX can trace for a batch of any size", reason, error=TypeError)

    results = by_name(f"{body.place}/new", new) | by_name(f"{body.place}/y", y)
    each, direction = jax.tree.leaves(y), int(options.reverse)
    values = graph.add_many(
        "Scan",
        [*jax.tree.leaves(before), *scanned.values()],
        [*jax.tree.leaves(new), *(Value("", (steps, *a.shape), a.dtype) for a in each)],
        body=Body(body.nodes, [*jax.tree.leaves(old), *now], body.returned(list(results.values()), list(results))),
        num_scan_inputs=len(scanned),
        scan_input_directions=[direction] * len(scanned),
        scan_output_directions=[direction] * len(each),
    )
    final, ys = jax.tree.unflatten(jax.tree.structure((new, y)), values)
    return None if state is None else final, ys
