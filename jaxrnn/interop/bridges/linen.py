"""A model of jaxrnn as a module of Flax linen."""

from __future__ import annotations

from typing import Any

from flax import linen as nn

from jaxrnn.interop.bridges import sequences
from jaxrnn.types import Array, PyTree, State


class Module(nn.Module):
    """A model of jaxrnn as a module of Flax linen, called as nn.RNN is: batch-first.

    Its parameters are nested dicts in ``weights``, by the names of layers and fields:
    ``variables["params"]["weights"]["layers_1"]["forward"]["w_xh"]``. From and to those of the model they are converted
    by ``from_params(module, variables)`` and ``to_params(module, params)``.

    Args:
        model: a cell or a layer, or a :class:`~jaxrnn.tasks.Classifier`; your own too.
        time_major: whether inputs and outputs are ``[T, ..., I]``, not ``[..., T, I]``.
        return_carry: whether a call returns ``(carry, outputs)``.
        deterministic: whether dropout is off; here or in the call, as of nn.Dropout. A model without dropout, and
            without layers of your own, needs neither.

    Raises:
        TypeError: the model cannot be called on a sequence, or is not hashable.

    Example:
        .. code-block:: python

            model = rnn.Stack(rnn.Embedding(65, 8), rnn.Bidirectional(rnn.LSTM(8, 16)), rnn.Linear(32, 2))
            module = rnn.interop.linen.Module(model)
            variables = module.init(jax.random.key(0), tokens)  # [B, T]
            logits = module.apply(variables, tokens, seq_lengths=lengths)  # [B, T, 2]
            _, params = rnn.interop.linen.from_params(module, variables)  # parameters of jaxrnn
    """

    model: Any
    time_major: bool = False
    return_carry: bool = False
    deterministic: bool | None = None

    def __post_init__(self) -> None:
        sequences.check_model(self.model)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        inputs: PyTree,
        *,
        initial_carry: State | None = None,
        seq_lengths: Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        deterministic: bool | None = None,
    ) -> Any:
        """Unroll the model; dropout draws from the stream ``"dropout"``.

        Args:
            inputs: ``[..., T, I]`` (token ids: ``[..., T]``), with ``time_major`` ``[T, ..., I]``.
            initial_carry: the state before the first step, a state of jaxrnn, by default the initial one; of an
                LSTM ``(h, c)``, not ``(c, h)`` as in Flax.
            seq_lengths: ``[...]`` ints; outputs after them are 0.
            return_carry: whether to return the final state too, by default as in the constructor.
            time_major: whether time is the first axis, by default as in the constructor.
            deterministic: whether dropout is off, unless the constructor says it.

        Returns:
            Outputs ``[..., T, H]``, or ``(carry, outputs)``. Those of a Classifier are logits ``[..., classes]``.

        Raises:
            TypeError, ValueError: an argument does not fit the model; a parameter is missing or of another shape.
        """
        time_major = self.time_major if time_major is None else time_major
        return_carry = self.return_carry if return_carry is None else return_carry
        if self.has_variable("params", "weights"):
            sequences.unnest(self.model, nn.unbox(self.get_variable("params", "weights")))  # or an error with its name
        weights = self.param("weights", lambda key: sequences.nest(self.model, self.model.init(key)))
        key = None
        if sequences.draws(self.model) and not nn.merge_param("deterministic", self.deterministic, deterministic):
            key = self.make_rng("dropout")
        final, outputs = sequences.call(
            self.model, sequences.unnest(self.model, weights), inputs, initial_carry, seq_lengths, key, time_major
        )
        return (final, outputs) if return_carry else outputs
