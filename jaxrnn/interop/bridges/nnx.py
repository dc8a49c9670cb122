"""A model of jaxrnn as a module of Flax nnx."""

from __future__ import annotations

from typing import Any

from flax import nnx

from jaxrnn import checks
from jaxrnn.interop.bridges import sequences
from jaxrnn.types import Array, Params, PyTree, State


class Weights(nnx.Module):
    """Arrays as parameters: attributes by the names in nested dicts."""

    def __init__(self, nested: dict) -> None:
        for name, x in nested.items():
            setattr(self, name, Weights(x) if isinstance(x, dict) else nnx.Param(x))


class Module(nnx.Module):
    """A model of jaxrnn as a module of Flax nnx, called as nnx.RNN is: batch-first.

    Each array of its parameters is an ``nnx.Param`` in ``weights``, under the names of layers and fields:
    ``module.weights.layers_1.forward.w_xh``. So nnx.Optimizer, filters, nnx.jit, nnx.grad and checkpoints see them.

    Args:
        model: a cell or a layer, or a :class:`~jaxrnn.tasks.Classifier`; your own too.
        params: its parameters, for instance trained ones, which are copied; by default they are drawn.
        rngs: the streams ``params``, where ``params`` are not given, and ``dropout``, where the model has dropout or
            layers of your own; or one stream for both.
        time_major: whether inputs and outputs are ``[T, ..., I]``, not ``[..., T, I]``.
        return_carry: whether a call returns ``(carry, outputs)``.

    Raises:
        TypeError: the model cannot be called on a sequence, or is not hashable; there are neither ``params`` nor
            ``rngs``; a call lacks ``rngs`` for dropout.
        ValueError: ``rngs`` has no such stream; the parameters are not those of the model.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> from flax import nnx
        >>> model = rnn.Stack(rnn.Embedding(65, 8), rnn.Bidirectional(rnn.LSTM(8, 16)), rnn.Linear(32, 2))
        >>> module = rnn.interop.nnx.Module(model, rngs=nnx.Rngs(0))
        >>> module.weights.layers_1.backward.w_hh.shape
        (16, 64)
        >>> module.params[1][1].w_hh.shape  # parameters of jaxrnn
        (16, 64)
        >>> module(jnp.zeros((4, 7), int), seq_lengths=jnp.array([7, 5, 3, 2])).shape  # [B, T]
        (4, 7, 2)
    """

    def __init__(
        self,
        model: Any,
        params: Params | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        time_major: bool = False,
        return_carry: bool = False,
    ) -> None:
        sequences.check_model(model)
        if params is None:
            checks.required("rngs", rngs, "Module(model, rngs=nnx.Rngs(0)) draws parameters, params= gives them")
            params = model.init(_stream(rngs, "params")())
        self.model = model
        self.weights = Weights(sequences.nest(model, params))
        self.time_major = time_major
        self.return_carry = return_carry
        self.deterministic = False
        drops = rngs is not None and sequences.draws(model)
        self.rngs = _stream(rngs, "dropout").fork() if drops else None

    @property
    def params(self) -> Params:
        """The parameters as those of the model, for :func:`~jaxrnn.unroll` and all else in jaxrnn."""
        return sequences.unnest(self.model, nnx.to_pure_dict(nnx.state(self.weights)))

    def __call__(
        self,
        inputs: PyTree,
        *,
        initial_carry: State | None = None,
        seq_lengths: Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ) -> Any:
        """Unroll the model.

        Args:
            inputs: ``[..., T, I]`` (token ids: ``[..., T]``), with ``time_major`` ``[T, ..., I]``.
            initial_carry: the state before the first step, a state of jaxrnn, by default the initial one; of an
                LSTM ``(h, c)``, not ``(c, h)`` as in Flax.
            seq_lengths: ``[...]`` ints; outputs after them are 0.
            return_carry: whether to return the final state too, by default as in the constructor.
            time_major: whether time is the first axis, by default as in the constructor.
            deterministic: whether dropout is off, by default as ``module.train()`` or ``module.eval()`` said last.
            rngs: the random numbers of dropout, by default those of the constructor.

        Returns:
            Outputs ``[..., T, H]``, or ``(carry, outputs)``. Those of a Classifier are logits ``[..., classes]``.
        """
        time_major = self.time_major if time_major is None else time_major
        return_carry = self.return_carry if return_carry is None else return_carry
        key = None
        if not (self.deterministic if deterministic is None else deterministic) and sequences.draws(self.model):
            rngs = self.rngs if rngs is None else rngs
            checks.required("rngs", rngs, "dropout draws from them; module.eval() switches it off")
            key = _stream(rngs, "dropout")()
        final, outputs = sequences.call(self.model, self.params, inputs, initial_carry, seq_lengths, key, time_major)
        return (final, outputs) if return_carry else outputs

    def set_view(self, deterministic: bool | None = None) -> None:
        """The options of ``nnx.view``."""
        if deterministic is not None:
            self.deterministic = deterministic


def _stream(rngs: Any, name: str) -> nnx.RngStream:
    """The stream of random keys of that name, or the one that there is."""
    if isinstance(rngs, nnx.RngStream):
        return rngs
    checks.instance("rngs", rngs, nnx.Rngs, "nnx.Rngs(0) makes one")
    try:
        return rngs[name]
    except KeyError:
        checks.refuse("rngs", f"a stream {name!r}", f"only {', '.join(rngs)}", f"nnx.Rngs(0, {name}=1) has it")
