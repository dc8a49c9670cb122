"""A model of jaxrnn as a module of Equinox."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.interop.bridges import sequences
from jaxrnn.tasks import Classifier
from jaxrnn.types import Array, Params, PyTree, State
from jaxrnn.unroll import one_step, unroll


class Module(eqx.Module):
    """A cell or layer, a user's own too, as an ``eqx.Module`` whose leaves are its parameters.

    Equinox's filters, optimizers, serialisation and ``eqx.tree_at`` see the parameters. The state is an argument and is
    returned, and dropout acts unless ``inference``, which ``eqx.nn.inference_mode`` sets.

    Args:
        model: a cell or layer, or a :class:`~jaxrnn.tasks.Classifier`.
        params: its parameters, which are copied; without them ``key`` draws new ones.
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
        sequences.check_model(model)
        checks.flag("inference", inference)
        checks.random_key("key", key)
        if (params is None) == (key is None):
            checks.refuse("key", "a random key that draws params, or params=, and not both",
                          "neither" if key is None else "both", error=TypeError)  # fmt: skip
        params = model.init(key) if params is None else checks.parameters(model, params)
        self.model, self.params, self.inference = model, jax.tree.map(jnp.array, params), inference

    def __call__(
        self,
        xs: PyTree,
        state: State | None = None,
        *,
        key: Array | None = None,
        lengths: Array | None = None,
        resets: Array | None = None,
        reverse: bool = False,
    ) -> Any:
        """Apply the model over a sequence, as :func:`~jaxrnn.unroll` does.

        Args:
            xs: ``[T, ..., I]`` (token ids: ``[T, ...]``), time first; one sequence, as under ``eqx.filter_vmap``, or a
                batch.
            state: the state before the first step.
            key: random key for dropout; of no effect with ``inference``.
            lengths, resets, reverse: those of :func:`~jaxrnn.unroll`.

        Returns:
            ``(final, ys)``; of a Classifier the logits ``[..., classes]``.

        Raises:
            TypeError, ValueError: there is dropout, or a layer of your own which may have it, no ``inference`` and no
                key; an argument does not fit the model.
        """
        if isinstance(self.model, Classifier):
            for name, value in {"state": state, "resets": resets, "reverse": reverse or None}.items():
                if value is not None:
                    checks.refuse(name, "nothing", checks.describe(value), "a Classifier takes whole sequences")
            return self.model.apply(self.params, xs, lengths=lengths, key=self._dropout_key(key))
        return unroll(self.model, self.params, xs, state, lengths=lengths, resets=resets, reverse=reverse,
                      key=self._dropout_key(key))  # fmt: skip

    def step(self, x: PyTree, state: State, *, key: Array | None = None) -> tuple[State, PyTree]:
        """One step: ``x [..., I]`` and a state to the next state and the output."""
        checks.model("model", self.model)
        return one_step(self.model, self.params, state, x, self._dropout_key(key))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """The state before the first step."""
        checks.model("model", self.model)
        return self.model.initial_state(batch_shape)

    def _dropout_key(self, key: Array | None) -> Array | None:
        if key is None and not self.inference and sequences.draws(self.model):
            checks.refuse("key", "a random key, for dropout", "None",
                          "eqx.nn.inference_mode(module) switches dropout off", TypeError)  # fmt: skip
        return None if self.inference else key
