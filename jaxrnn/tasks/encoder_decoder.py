"""Encoder-decoder models: from a sequence (translation) or a single input (captions) to a sequence of tokens.

Target sequences are ``tokens [T + 1, ...]``, with their first and last tokens (BOS and EOS): all but the last are the
inputs of the decoder, all but the first its targets.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks, losses
from jaxrnn.constructor import hyperparameters
from jaxrnn.decoding.checks import token_model, vocabulary_fits
from jaxrnn.layers import Linear
from jaxrnn.precision import cast_like, widen
from jaxrnn.scan import sequence_mask, where
from jaxrnn.tasks import checks as task_checks
from jaxrnn.tasks.context import EncoderOutput, attention_weights, has_attention, with_context
from jaxrnn.tasks.vectors import concatenate_state, float_leaves, given_leaves, split_state, state_size
from jaxrnn.types import Array, Params, PyTree, State, exportable
from jaxrnn.unroll import one_step, sequence_shape, unroll


@exportable
class EncoderDecoderParams(NamedTuple):
    """Parameters of the encoder, of the bridge (``()`` without one) and of the decoder."""

    encoder: Params
    bridge: Params
    decoder: Params


class ConditionalGenerator:
    """Base class of :class:`EncoderDecoder` and :class:`Captioner`, which add ``encoding_size`` and ``encode``."""

    encoder: Any
    decoder: Any
    bridge: bool

    def __post_init__(self) -> None:
        checks.layer("encoder", self.encoder)
        checks.layer("decoder", self.decoder)
        checks.flag("bridge", self.bridge)
        token_model("decoder", self.decoder)
        vocabulary_fits("decoder", self.decoder, getattr(self.decoder, "output_size", None) or 0)
        encoded, needed = self.encoding_size, self._given_size
        if not self.bridge and needed not in (0, encoded):
            checks.refuse("bridge", f"True, or {needed} features from the encoder, the size of the decoder's state",
                          f"False and {encoded}", "the bridge maps one to the other")  # fmt: skip

    @property
    def encoding_size(self) -> int:
        """C, the features of the encoded vector."""
        raise NotImplementedError

    def encode(
        self, params: EncoderDecoderParams, xs: PyTree, *, lengths: Array | None = None, key: Array | None = None
    ) -> EncoderOutput:
        """Encode the input."""
        raise NotImplementedError

    def init(self, key: Array) -> EncoderDecoderParams:
        """Draw the parameters of all parts."""
        keys = jax.random.split(key, 3)
        bridge = self._bridge.init(keys[1]) if self._has_bridge else ()
        return EncoderDecoderParams(self.encoder.init(keys[0]), bridge, self.decoder.init(keys[2]))

    @property
    def _given_size(self) -> int:
        """Features of the decoder's state that the encoder gives: all that is not learned."""
        return sum(leaf.size for leaf in given_leaves(self.decoder.initial_state()))

    @property
    def _has_bridge(self) -> bool:
        return self.bridge and self._given_size > 0

    @property
    def _bridge(self) -> Linear:
        dtypes = [leaf.dtype.name for leaf in given_leaves(self.decoder.initial_state())]
        return Linear(self.encoding_size, self._given_size, dtype=dtypes[0])

    def start_decoder(
        self, params: EncoderDecoderParams, xs: PyTree, *, lengths: Array | None = None, key: Array | None = None
    ) -> tuple[Params, State]:
        r"""Encode an input; returns the decoder's parameters and initial state for it.

        .. math:: s_0 = \tanh(v w + b)

        The bridge maps the encoded vector v to the initial state; without a bridge the state is v. The states of a
        :class:`~jaxrnn.LearnedState` in the decoder are left to it.

        Args:
            params: the parameters of all parts.
            xs: the input.
            lengths: ``[...]`` ints, of input sequences.
            key: random key for dropout.

        Returns:
            ``(params, state)`` for ``decoder``, for ``rnn.unroll`` and :mod:`jaxrnn.decoding`.
        """
        encoded = self.encode(params, xs, lengths=lengths, key=key)
        v = encoded.vector
        if self._has_bridge:
            v = jnp.tanh(self._bridge.apply(params.bridge, v))
        return with_context(self.decoder, params.decoder, encoded), split_state(
            v, self.decoder.initial_state(v.shape[:-1])
        )

    def logits(
        self,
        params: EncoderDecoderParams,
        xs: PyTree,
        tokens: Array,
        *,
        lengths: Array | None = None,
        token_lengths: Array | None = None,
        teacher_forcing: float | Array = 1.0,
        key: Array | None = None,
    ) -> Array:
        r"""Logits of every target token, given the input and the tokens before it.

        .. math:: s_t, o_t = \mathrm{decoder}(s_{t-1}, x_t), \qquad
            x_t = y_{t-1} \text{ with probability } p, \text{ else } \arg\max_v o_{t-1,v}

        Args:
            params: the parameters of all parts.
            xs: the input.
            tokens: ``[T + 1, ...]`` ints, the target sequences with their first and last tokens.
            lengths: ``[...]`` ints, of input sequences.
            token_lengths: ``[...]`` ints, of the target sequences, including first and last token.
            teacher_forcing: p, the probability of feeding the target token, drawn for every token independently. 1 is
                teacher forcing, between 0 and 1 scheduled sampling; at 0 the model is fed the first token and then its
                own predictions.
            key: random key for dropout and scheduled sampling.

        Returns:
            Logits ``[T, ..., V]``, entry t for token t + 1; 0 in the padding.

        Raises:
            TypeError, ValueError: arguments do not fit each other; a key is missing.

        Source: Williams & Zipser (1989), teacher forcing; Bengio et al. (2015), "Scheduled sampling for sequence
        prediction with recurrent neural networks".
        """
        task_checks.token_sequence("tokens", tokens)
        task_checks.probability("teacher_forcing", teacher_forcing)
        encoder_key, key = (None, None) if key is None else jax.random.split(key)
        decoder_params, state = self.start_decoder(params, xs, lengths=lengths, key=encoder_key)
        inputs, target_lengths = self._decoder_inputs(state, tokens, token_lengths)
        if isinstance(teacher_forcing, (int, float)) and teacher_forcing == 1:
            return unroll(self.decoder, decoder_params, inputs, state, lengths=target_lengths, key=key)[1]
        if not (isinstance(teacher_forcing, (int, float)) and teacher_forcing == 0):
            checks.required("key", key, "scheduled sampling is random; teacher_forcing 0 and 1 need no key")

        wide_params = widen(decoder_params)  # the gradient is a sum over all steps

        def body(carry: tuple, x: tuple) -> tuple[tuple, Array]:
            state, predicted = carry
            target, key = x
            sampling_key, key = (None, None) if key is None else jax.random.split(key)
            forced = predicted < 0  # the first step
            if sampling_key is not None:
                forced |= jax.random.bernoulli(sampling_key, teacher_forcing, target.shape)
            step_params = cast_like(wide_params, decoder_params)
            state, logits = one_step(self.decoder, step_params, state, jnp.where(forced, target, predicted), key)
            return (state, jnp.argmax(logits, -1).astype(jnp.int32)), logits

        keys = None if key is None else jax.random.split(key, inputs.shape[0])
        _, logits = jax.lax.scan(body, (state, jnp.full_like(inputs[0], -1)), (inputs, keys))
        return logits if target_lengths is None else where(sequence_mask(inputs.shape[0], target_lengths), logits)

    def _decoder_inputs(self, state: State, tokens: Array, token_lengths: Array | None) -> tuple[Array, Array | None]:
        """All tokens but the last, 0 in the padding, and their number for each sequence."""
        unbatched, leaf = float_leaves(self.decoder.initial_state())[0], float_leaves(state)[0]
        task_checks.token_batch("tokens", tokens, tuple(leaf.shape[: leaf.ndim - unbatched.ndim]))
        inputs, target_lengths = jnp.asarray(tokens, jnp.int32)[:-1], number_of_targets(tokens, token_lengths)
        if target_lengths is not None:
            inputs = where(sequence_mask(inputs.shape[0], target_lengths), inputs)
        checks.input_of(self.decoder, "tokens", inputs)
        return inputs, target_lengths

    def loss(
        self,
        params: EncoderDecoderParams,
        xs: PyTree,
        tokens: Array,
        *,
        lengths: Array | None = None,
        token_lengths: Array | None = None,
        teacher_forcing: float | Array = 1.0,
        key: Array | None = None,
        mean: str = "step",
        label_smoothing: float = 0.0,
    ) -> Array:
        r"""Cross entropy of the target sequences, in nats, without their padding.

        .. math:: L = -\frac{1}{N} \sum_t \log \mathrm{softmax}(o_t)_{y_t}

        Arguments are those of :meth:`logits` and of :func:`~jaxrnn.losses.cross_entropy`.
        """
        logits = self.logits(
            params, xs, tokens, lengths=lengths, token_lengths=token_lengths, teacher_forcing=teacher_forcing, key=key
        )
        targets, target_lengths = jnp.asarray(tokens)[1:], number_of_targets(tokens, token_lengths)
        if target_lengths is not None:
            targets = where(sequence_mask(targets.shape[0], target_lengths), targets)
        checks.token_ids("tokens", targets, logits.shape[-1])
        return losses.cross_entropy(logits, targets, lengths=target_lengths, mean=mean, label_smoothing=label_smoothing)


@hyperparameters
class EncoderDecoder(ConditionalGenerator):
    r"""Sequence to sequence, of another length.

    .. math::
        e_1 … e_S, s_S &= \mathrm{encoder}(x_1 … x_S) \\
        s_0 &= \tanh(s_S w + b) \\
        s_t, o_t &= \mathrm{decoder}(s_{t-1}, y_{t-1}, e)

    The encoder is any cell or layer, also a deep or bidirectional one. All arrays of its final state, concatenated, are
    the encoded vector. The decoder is any model from token ids to logits that can be stepped. The encoded vector is its
    initial state, mapped by the bridge, and an input of every step of a :class:`ContextCell` among its layers; an
    :class:`AttentionCell` attends to the encoder's outputs.

    Args:
        encoder: from the inputs to vectors.
        decoder: from token ids to logits.
        bridge: whether a layer of tanh units maps the encoded vector to the decoder's initial state; otherwise it is
            that state, and the sizes must be equal.

    Raises:
        TypeError, ValueError: a part is not a cell or layer, or sizes do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> encoder = rnn.Stack(rnn.Embedding(30, 8), rnn.Bidirectional(rnn.GRU(8, 16)))
        >>> attention = rnn.tasks.AdditiveAttention(memory_size=32, query_size=16, size=16)
        >>> cell = rnn.tasks.AttentionCell(rnn.GRU(8 + 32, 16), attention)
        >>> decoder = rnn.Stack(rnn.Embedding(10, 8), cell, rnn.Linear(16 + 32, 10))
        >>> model = rnn.tasks.EncoderDecoder(encoder, decoder)
        >>> params = model.init(jax.random.key(0))
        >>> source, lengths = jnp.zeros((7, 2), int), jnp.array([7, 4])
        >>> target, target_lengths = jnp.ones((5, 2), int), jnp.array([3, 5])
        >>> loss = model.loss(params, source, target, lengths=lengths, token_lengths=target_lengths)
        >>> start = model.start_decoder(params, source, lengths=lengths)
        >>> beams = rnn.decoding.beam_search(decoder, *start, jnp.ones(2, int), steps=6, width=3, eos=2)

    Source: Sutskever, Vinyals & Le (2014), "Sequence to sequence learning with neural networks"; Cho et al. (2014),
    "Learning phrase representations using RNN encoder-decoder".
    """

    encoder: Any
    decoder: Any
    _: dataclasses.KW_ONLY
    bridge: bool = True

    @property
    def encoding_size(self) -> int:
        return state_size(self.encoder.initial_state())

    def encode(
        self, params: EncoderDecoderParams, xs: PyTree, *, lengths: Array | None = None, key: Array | None = None
    ) -> EncoderOutput:
        """Unroll the encoder over ``xs [S, ..., I]``: its final state and its outputs."""
        final, memory = unroll(self.encoder, params.encoder, xs, lengths=lengths, key=key)
        return EncoderOutput(concatenate_state(final, sequence_shape(self.encoder, xs)[1]), memory, lengths)

    def alignment(
        self,
        params: EncoderDecoderParams,
        xs: PyTree,
        tokens: Array,
        *,
        lengths: Array | None = None,
        token_lengths: Array | None = None,
    ) -> Array:
        """The attention weights of every target token, ``[T, S, ...]``; 0 in the padding of inputs and targets.

        Arguments are those of :meth:`logits`.

        Raises:
            ValueError: the decoder has no :class:`AttentionCell`.
        """
        task_checks.token_sequence("tokens", tokens)
        if not has_attention(self.decoder):
            checks.refuse(
                "decoder", "an AttentionCell among its layers", repr(self.decoder), "it has no attention weights"
            )
        decoder_params, state = self.start_decoder(params, xs, lengths=lengths)
        inputs, target_lengths = self._decoder_inputs(state, tokens, token_lengths)
        weights = attention_weights(self.decoder, decoder_params, inputs, state)
        if target_lengths is None:
            return weights
        mask = sequence_mask(inputs.shape[0], target_lengths)
        return where(jnp.broadcast_to(mask[:, None], weights.shape), weights)


@hyperparameters
class Captioner(ConditionalGenerator):
    r"""One to many: a single input to a sequence.

    .. math:: v = \mathrm{encoder}(x), \quad s_0 = \tanh(v w + b), \quad s_t, o_t = \mathrm{decoder}(s_{t-1}, y_{t-1})

    Args:
        encoder: from one input to a vector: a layer without state, such as ``Linear``, or any object with ``init``,
            ``initial_state``, ``step`` and ``output_size``.
        decoder: from token ids to logits. The vector is its initial state, mapped by the bridge, and an input of every
            step of a :class:`ContextCell` among its layers.
        bridge: whether a layer of tanh units maps the vector to the decoder's initial state; otherwise it is that
            state, and the sizes must be equal.

    Raises:
        TypeError, ValueError: a part is not a cell or layer, or sizes do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> decoder = rnn.Stack(rnn.Embedding(10, 8), rnn.GRU(8, 16), rnn.Linear(16, 10))
        >>> model = rnn.tasks.Captioner(rnn.Linear(40, 32), decoder)
        >>> params = model.init(jax.random.key(0))
        >>> start = model.start_decoder(params, jnp.ones((2, 40)))
        >>> decoded = rnn.decoding.greedy(decoder, *start, jnp.zeros(2, int), steps=6, eos=1)
        >>> decoded.tokens.shape
        (6, 2)

    Source: Vinyals et al. (2015), "Show and tell: a neural image caption generator".
    """

    encoder: Any
    decoder: Any
    _: dataclasses.KW_ONLY
    bridge: bool = True

    def __post_init__(self) -> None:
        if getattr(self.encoder, "output_size", None) is None:
            checks.refuse("encoder", "a layer with an output_size", repr(self.encoder),
                          "give it an attribute or property of that name", TypeError)  # fmt: skip
        super().__post_init__()

    @property
    def encoding_size(self) -> int:
        return self.encoder.output_size

    def encode(
        self, params: EncoderDecoderParams, xs: PyTree, *, lengths: Array | None = None, key: Array | None = None
    ) -> EncoderOutput:
        """One step of the encoder: ``xs [..., I]`` to the vector ``[..., C]``."""
        if lengths is not None:
            checks.refuse("lengths", "None", checks.describe(lengths), "a single input has no length; EncoderDecoder "
                          "reads sequences")  # fmt: skip
        checks.input_of(self.encoder, "xs", xs)
        batch = sequence_shape(self.encoder, jax.tree.map(lambda x: jnp.asarray(x)[None], xs))[1]
        _, vector = one_step(self.encoder, params.encoder, self.encoder.initial_state(batch), xs, key)
        return EncoderOutput(vector)


def number_of_targets(tokens: Array, token_lengths: Array | None) -> Array | None:
    """The number of targets of each sequence: all its tokens but the first."""
    if token_lengths is None:
        return None
    checks.lengths(token_lengths, tokens.shape[0], tokens.shape[1:], "token_lengths")
    return jnp.maximum(jnp.asarray(token_lengths), 1) - 1
