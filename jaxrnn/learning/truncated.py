"""Truncated back-propagation through time: the state is carried from chunk to chunk, the gradient is stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks, losses
from jaxrnn.data.sequences import Chunk
from jaxrnn.learning.checks import unidirectional
from jaxrnn.learning.objectives import CarryLoss, Metrics
from jaxrnn.scan import where
from jaxrnn.types import Array, Params, PyTree, State
from jaxrnn.unroll import sequence_shape, unroll

LossFunction = Callable[..., Array]


def truncated_unroll(
    model: Any,
    params: Params,
    carry: State,
    xs: PyTree,
    *,
    steps: int,
    resets: Array | None = None,
    key: Array | None = None,
) -> tuple[State, PyTree]:
    r"""Unroll a model over one chunk of truncated BPTT(k2, k1): k1 new steps, whose gradient goes back k2 steps.

    .. math:: s_t = \mathrm{step}(s_{t-1}, x_t), \quad t = t_0 - (k_2 - k_1) … t_0 + k_1, \qquad
        s \text{ before the window is a constant}

    Args:
        model: a cell or layer without :class:`~jaxrnn.Bidirectional` parts.
        params: its parameters.
        carry: the state before the window.
        xs: ``[k2, ...]`` inputs; the first k2 - k1 are those of the previous window and are processed again.
        steps: k1.
        resets: ``[k2, ...]`` bools, see :func:`~jaxrnn.unroll`.
        key: random key for dropout.

    Returns:
        ``(carry, ys)``: the state before the next window, with stopped gradient, and the outputs of the k1 new steps.

    Raises:
        TypeError: a part of the model is :class:`~jaxrnn.Bidirectional`, whose backward direction would have to start
            at the end of the stream.
        ValueError: k1 is larger than k2.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> cell = rnn.GRU(3, 5)
        >>> params, carry = cell.init(jax.random.key(0)), cell.initial_state((2,))
        >>> carry, ys = rnn.learning.truncated_unroll(cell, params, carry, jnp.ones((10, 2, 3)), steps=4)
        >>> ys.shape
        (4, 2, 5)

    Source: Williams & Peng (1990), "An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories", Neural Computation 2.
    """
    unidirectional("model", model)
    checks.size("steps", steps)
    length = len(jax.tree.leaves(xs)[0])
    if steps > length:
        checks.refuse("steps", f"at most {length}, the length of xs", steps, "k1 new steps are the last of k2")
    carry = jax.lax.stop_gradient(carry)
    keys = (None, None) if key is None else jax.random.split(key)

    def unroll_part(part: slice, state: State, key: Array | None) -> tuple[State, PyTree]:
        part_resets = None if resets is None else resets[part]
        return unroll(model, params, jax.tree.map(lambda x: x[part], xs), state, resets=part_resets, key=key)

    next_carry, ys = unroll_part(slice(0, steps), carry, keys[0])  # the next window starts k1 steps after this one
    if steps < length:
        _, rest = unroll_part(slice(steps, None), next_carry, keys[1])
        ys = jax.tree.map(lambda a, b: jnp.concatenate([a, b])[-steps:], ys, rest)
    return jax.lax.stop_gradient(next_carry), ys


def stream_loss(model: Any, loss_fn: LossFunction = losses.cross_entropy, **options: Any) -> CarryLoss:
    """Make a loss on chunks of long streams, by truncated BPTT with carried state, for :func:`train_step`.

    Args:
        model: a model from the chunk's inputs to the predictions (such as logits) that ``loss_fn`` takes.
        loss_fn: ``loss_fn(outputs, targets, **options) -> number``, of :mod:`jaxrnn.losses` for instance.
        **options: passed to ``loss_fn``; ``lengths``, ``mask`` and ``mean`` select what counts, as in
            :mod:`jaxrnn.losses`.

    Returns:
        ``loss(params, carry, chunk, key) -> (value, (carry, {"count": n}))`` for :func:`train_step`, where chunk is a
        :class:`~jaxrnn.data.Chunk` and n, for :func:`mean_loss`, is the :func:`~jaxrnn.losses.count` of its targets.
        The gradient goes back over the length of its inputs.

    Raises:
        TypeError: a part of the model is :class:`~jaxrnn.Bidirectional`, which would see its own targets.

    Example:
        >>> import jax, jaxrnn as rnn, numpy as np
        >>> model = rnn.Stack(rnn.Embedding(5, 3), rnn.GRU(3, 4), rnn.Linear(4, 5))
        >>> loss = rnn.learning.stream_loss(model)
        >>> chunk = rnn.data.Streams(np.arange(100) % 5, batch=2, steps=8)[0]
        >>> value, (carry, metrics) = loss(model.init(jax.random.key(0)), model.initial_state((2,)), chunk, None)
        >>> value.shape, int(metrics["count"])
        ((), 16)
    """
    unidirectional("model", model)
    count_options = {name: options[name] for name in ("lengths", "mask", "mean") if name in options}

    def loss(params: Params, carry: State, chunk: Chunk, key: Array | None) -> tuple[Array, tuple[State, Metrics]]:
        batch = sequence_shape(model, chunk.inputs)[1]
        carry = checks.state_like("carry", model, carry, batch)
        steps, resets = len(chunk.targets), chunk.resets if chunk.resets is None else jnp.asarray(chunk.resets)
        if resets is None:
            carry = where(jnp.broadcast_to(chunk.first, batch), model.initial_state(batch), carry)
        carry, ys = truncated_unroll(model, params, carry, chunk.inputs, steps=steps, resets=resets, key=key)
        count = losses.count((steps, *batch), **count_options)
        return loss_fn(ys, chunk.targets, **options), (carry, {"count": count})

    return loss
