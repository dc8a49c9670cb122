"""A model of jaxrnn as a module of Equinox."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.interop.structure import has_dropout
from jaxrnn.types import Array, Params, PyTree, State
from jaxrnn.unroll import one_step, unroll


class Module(eqx.Module):
    """A cell or layer, a user's own too, as an ``eqx.Module`` whose leaves are its parameters.

    Equinox's filters, optimizers, serialisation and ``eqx.tree_at`` see the parameters. The state is an argument and is
    returned, and dropout acts unless ``inference``, which ``eqx.nn.inference_mode`` sets.

    Args:
        model: a cell or layer.
        params: its parameters; without them ``key`` draws new ones.
        key: random key for new parameters.
        inference: whether dropout is off.

    Raises:
        TypeError: the model is not a hashable cell or layer; there is neither ``params`` nor ``key``, or there are
            both.
        ValueError: the parameters are not those of the model.

    Example:
        .. code-block:: python

            model = rnn.Stack(rnn.Embedding(65, 8), rnn.LSTM(8, 16), rnn.Dropout(0.2), rnn.Linear(16, 65))
            module = rnn.interop.equinox.Module(model, key=jax.random.key(0))
            final, logits = module(ids, key=jax.random.key(1))  # ids [T, B], logits [T, B, 65]
            module = eqx.nn.inference_mode(module)
            final, logits = eqx.filter_jit(module)(more_ids, final)
            model, params = module.model, module.params  # back to jaxrnn
    """

    model: Any = eqx.field(static=True)
    params: Params
    inference: bool

    def __init__(
        self, model: Any, params: Params | None = None, *, key: Array | None = None, inference: bool = False
    ) -> None:
        checks.layer("model", model)
        checks.flag("inference", inference)
        checks.random_key("key", key)
        if (params is None) == (key is None):
            checks.refuse("key", "a random key that draws params, or params=, and not both",
                          "neither" if key is None else "both", error=TypeError)  # fmt: skip
        params = model.init(key) if params is None else checks.parameters(model, params)
        self.model, self.params, self.inference = model, jax.tree.map(jnp.asarray, params), inference

    def __call__(
        self,
        xs: PyTree,
        state: State | None = None,
        *,
        key: Array | None = None,
        lengths: Array | None = None,
        resets: Array | None = None,
        reverse: bool = False,
    ) -> tuple[State, PyTree]:
        """Apply the model over a sequence, as :func:`~jaxrnn.unroll` does.

        Args:
            xs: ``[T, ..., I]`` (token ids: ``[T, ...]``), time first; one sequence, as under ``eqx.filter_vmap``, or a
                batch.
            state: the state before the first step.
            key: random key for dropout; of no effect with ``inference``.
            lengths, resets, reverse: those of :func:`~jaxrnn.unroll`.

        Returns:
            ``(final, ys)``.

        Raises:
            TypeError, ValueError: there is dropout, no ``inference`` and no key; an argument does not fit the model.
        """
        return unroll(self.model, self.params, xs, state, lengths=lengths, resets=resets, reverse=reverse,
                      key=self._dropout_key(key))  # fmt: skip

    def step(self, x: PyTree, state: State, *, key: Array | None = None) -> tuple[State, PyTree]:
        """One step: ``x [..., I]`` and a state to the next state and the output."""
        return one_step(self.model, self.params, state, x, self._dropout_key(key))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """The state before the first step."""
        return self.model.initial_state(batch_shape)

    def _dropout_key(self, key: Array | None) -> Array | None:
        if key is None and not self.inference and has_dropout(self.model):
            checks.refuse("key", "a random key, for dropout", "None",
                          "eqx.nn.inference_mode(module) switches dropout off", TypeError)  # fmt: skip
        return None if self.inference else key
