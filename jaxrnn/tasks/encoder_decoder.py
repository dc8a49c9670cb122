"""Something in, a sentence out: of a sequence (translation) or of one thing (captions).

A sentence is ``tokens [T + 1, ...]``, from the token that starts it to the one that ends it: all but the last are fed,
all but the first are predicted.
"""

from __future__ import annotations

import dataclasses
import math
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
from jaxrnn.types import Array, Params, PyTree, State, exportable
from jaxrnn.unroll import one_step, sequence_shape, unroll


@exportable
class EncoderDecoderParams(NamedTuple):
    """Those of the encoder, of the bridge or (), and of the decoder."""

    encoder: Params
    bridge: Params
    decoder: Params


class ConditionalGenerator:
    """What :class:`EncoderDecoder` and :class:`Captioner` share; each codes its input in a way of its own."""

    encoder: Any
    decoder: Any
    bridge: bool

    def __post_init__(self) -> None:
        checks.layer("encoder", self.encoder)
        checks.layer("decoder", self.decoder)
        checks.flag("bridge", self.bridge)
        token_model("decoder", self.decoder)
        vocabulary_fits("decoder", self.decoder, getattr(self.decoder, "output_size", None) or 0)
        coded, needed = self.encoding_size, state_size(self.decoder.initial_state())
        if not self.bridge and coded != needed:
            checks.refuse("bridge", f"True, or {needed} features coded by the encoder, one for each of the decoder's "
                          "state", f"False and {coded}", "the bridge maps one to the other")  # fmt: skip

    @property
    def encoding_size(self) -> int:
        """C, the features of the coded vector."""
        raise NotImplementedError

    def encode(
        self, params: EncoderDecoderParams, xs: PyTree, *, lengths: Array | None = None, key: Array | None = None
    ) -> EncoderOutput:
        """Code the input."""
        raise NotImplementedError

    def init(self, key: Array) -> EncoderDecoderParams:
        """Draw the parameters of all parts."""
        keys = jax.random.split(key, 3)
        bridge = self._bridge.init(keys[1]) if self.bridge else ()
        return EncoderDecoderParams(self.encoder.init(keys[0]), bridge, self.decoder.init(keys[2]))

    @property
    def _bridge(self) -> Linear:
        dtypes = [leaf.dtype.name for leaf in floats(self.decoder.initial_state())]
        return Linear(self.encoding_size, state_size(self.decoder.initial_state()), dtype=dtypes[0])

    def start_decoder(
        self, params: EncoderDecoderParams, xs: PyTree, *, lengths: Array | None = None, key: Array | None = None
    ) -> tuple[Params, State]:
        r"""Code an input and get the decoder ready to write about it.

        .. math:: s_0 = \tanh(v w + b)

        The state is made of the coded vector v by the bridge; without a bridge it is v.

        Args:
            params: the parameters of all parts.
            xs: the input.
            lengths: ``[...]`` ints, of the inputs where they are sequences.
            key: random key for dropout.

        Returns:
            ``(params, state)`` for ``decoder``: with a first token they are all that ``rnn.unroll`` and
            :mod:`jaxrnn.decoding` take.
        """
        encoded = self.encode(params, xs, lengths=lengths, key=key)
        v = encoded.vector
        if self.bridge:
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
        r"""Score every token of a sentence, given the input and the tokens before it.

        .. math:: s_t, o_t = \mathrm{decoder}(s_{t-1}, x_t), \qquad
            x_t = y_{t-1} \text{ with probability } p, \text{ else } \arg\max_v o_{t-1,v}

        Args:
            params: the parameters of all parts.
            xs: the input.
            tokens: ``[T + 1, ...]`` ints, the sentences with their first and last tokens.
            lengths: ``[...]`` ints, of the inputs where they are sequences.
            token_lengths: ``[...]`` ints, of the sentences, first and last token counted.
            teacher_forcing: p, for every token by itself. 1 is teacher forcing; at 0 only the first token is given, and the
                model goes on from what it wrote itself.
            key: random key for dropout and for the choices of scheduled sampling.

        Returns:
            ``[T, ..., V]``, entry t for token t + 1; 0 past the end.

        Raises:
            TypeError, ValueError: arguments do not fit each other; a key is missing.

        Source: Williams & Zipser (1989), teacher forcing; Bengio et al. (2015), "Scheduled sampling for sequence
        prediction with recurrent neural networks".
        """
        task_checks.token_sequence("tokens", tokens)
        task_checks.probability("teacher_forcing", teacher_forcing)
        begin_key, key = (None, None) if key is None else jax.random.split(key)
        decoder_params, state = self.start_decoder(params, xs, lengths=lengths, key=begin_key)
        fed, ends = self._fed(state, tokens, token_lengths)
        if isinstance(teacher_forcing, (int, float)) and teacher_forcing == 1:
            return unroll(self.decoder, decoder_params, fed, state, lengths=ends, key=key)[1]
        if not (isinstance(teacher_forcing, (int, float)) and teacher_forcing == 0):
            checks.required("key", key, "tokens are chosen by chance; teaching 0 and 1 need none")

        wide = widen(decoder_params)  # over the steps the gradient is a sum

        def body(carry: tuple, inputs: tuple) -> tuple[tuple, Array]:
            state, own = carry
            narrow = cast_like(wide, decoder_params)
            right, key = inputs
            coin, key = (None, None) if key is None else jax.random.split(key)
            first = own < 0  # nothing is written yet
            taught = first if coin is None else first | jax.random.bernoulli(coin, teacher_forcing, right.shape)
            state, logits = one_step(self.decoder, narrow, state, jnp.where(taught, right, own), key)
            return (state, jnp.argmax(logits, -1).astype(jnp.int32)), logits

        keys = None if key is None else jax.random.split(key, fed.shape[0])
        _, logits = jax.lax.scan(body, (state, jnp.full_like(fed[0], -1)), (fed, keys))
        return logits if ends is None else where(sequence_mask(fed.shape[0], ends), logits)

    def _fed(self, state: State, tokens: Array, token_lengths: Array | None) -> tuple[Array, Array | None]:
        """All tokens but the last, with 0 past the ends, and how many of each sentence are predicted."""
        like, first = floats(self.decoder.initial_state())[0], floats(state)[0]
        task_checks.token_batch("tokens", tokens, tuple(first.shape[: first.ndim - like.ndim]))
        fed, ends = jnp.asarray(tokens, jnp.int32)[:-1], predictions(tokens, token_lengths)
        fed = fed if ends is None else where(sequence_mask(fed.shape[0], ends), fed)
        checks.input_of(self.decoder, "tokens", fed)
        return fed, ends

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
        r"""Cross entropy of the sentences, in nats; nothing past their ends counts.

        .. math:: L = -\frac{1}{N} \sum_t \log \mathrm{softmax}(o_t)_{y_t}

        Arguments are those of :meth:`logits` and of :func:`~jaxrnn.losses.cross_entropy`.
        """
        logits = self.logits(
            params, xs, tokens, lengths=lengths, token_lengths=token_lengths, teacher_forcing=teacher_forcing, key=key
        )
        right, ends = jnp.asarray(tokens)[1:], predictions(tokens, token_lengths)
        right = right if ends is None else where(sequence_mask(right.shape[0], ends), right)
        checks.token_ids("tokens", right, logits.shape[-1])
        return losses.cross_entropy(logits, right, lengths=ends, mean=mean, label_smoothing=label_smoothing)


@hyperparameters
class EncoderDecoder(ConditionalGenerator):
    r"""A sequence in, a sequence of another length out.

    .. math::
        e_1 … e_S, s_S &= \mathrm{encoder}(x_1 … x_S) \\
        s_0 &= \tanh(s_S w + b) \\
        s_t, o_t &= \mathrm{decoder}(s_{t-1}, y_{t-1}, e)

    The encoder is any cell or layer, of several layers, bidirectional. All arrays of its final state side by side
    are the coded vector. The decoder is any model from token ids to logits that can be stepped. What is coded reaches
    it in its initial state, at every step if one of its layers is :class:`ContextCell`, and by attention if one is
    :class:`AttentionCell`.

    Args:
        encoder: from the inputs to vectors.
        decoder: from token ids to logits.
        bridge: whether a layer of tanh units maps the coded vector to the decoder's initial state; otherwise it is
            that state, and the sizes must be the same.

    Raises:
        TypeError, ValueError: a part is no cell or layer, or sizes do not fit.

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
        >>> written = rnn.decoding.beam_search(decoder, *start, jnp.ones(2, int), steps=6, width=3, eos=2)

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
        """Walk the encoder over ``xs [S, ..., I]``: its final state and its outputs."""
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
        """Where the decoder looked for each token it scored: weights ``[T, S, ...]``, 0 past either end.

        Arguments are those of :meth:`logits`.

        Raises:
            ValueError: the decoder has no :class:`AttentionCell`.
        """
        task_checks.token_sequence("tokens", tokens)
        if not has_attention(self.decoder):
            checks.refuse(
                "decoder", "an Attending among its layers", repr(self.decoder), "without one it looks nowhere"
            )
        decoder_params, state = self.start_decoder(params, xs, lengths=lengths)
        fed, ends = self._fed(state, tokens, token_lengths)
        weights = attention_weights(self.decoder, decoder_params, fed, state)
        if weights is None:
            checks.refuse(
                "decoder", "an Attending among its layers", repr(self.decoder), "without one it looks nowhere"
            )
        if ends is None:
            return weights
        return where(jnp.broadcast_to(sequence_mask(fed.shape[0], ends)[:, None], weights.shape), weights)


@hyperparameters
class Captioner(ConditionalGenerator):
    r"""One thing in, a sequence out.

    .. math:: v = \mathrm{encoder}(x), \quad s_0 = \tanh(v w + b), \quad s_t, o_t = \mathrm{decoder}(s_{t-1}, y_{t-1})

    Args:
        encoder: from one input to its vector: a layer without memory, such as ``Linear``, or any object with ``init``,
            ``initial_state``, ``step`` and ``output_size``.
        decoder: from token ids to logits. The vector reaches it in its initial state, and at every step if one of its
            layers is :class:`ContextCell`.
        bridge: whether a layer of tanh units maps the vector to the decoder's initial state; otherwise it is that
            state, and the sizes must be the same.

    Raises:
        TypeError, ValueError: a part is no cell or layer, or sizes do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> decoder = rnn.Stack(rnn.Embedding(10, 8), rnn.GRU(8, 16), rnn.Linear(16, 10))
        >>> model = rnn.tasks.Captioner(rnn.Linear(40, 32), decoder)
        >>> params = model.init(jax.random.key(0))
        >>> start = model.start_decoder(params, jnp.ones((2, 40)))
        >>> written = rnn.decoding.greedy(decoder, *start, jnp.zeros(2, int), steps=6, eos=1)
        >>> written.tokens.shape
        (6, 2)

    Source: Vinyals et al. (2015), "Show and tell: a neural image caption generator".
    """

    encoder: Any
    decoder: Any
    _: dataclasses.KW_ONLY
    bridge: bool = True

    def __post_init__(self) -> None:
        if getattr(self.encoder, "output_size", None) is None:
            checks.refuse("encoder", "a layer that says its output_size", repr(self.encoder),
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
            checks.refuse("lengths", "None", checks.describe(lengths), "one thing has no length; EncoderDecoder reads "
                          "sequences")  # fmt: skip
        checks.input_of(self.encoder, "xs", xs)
        batch = sequence_shape(self.encoder, jax.tree.map(lambda x: jnp.asarray(x)[None], xs))[1]
        _, vector = one_step(self.encoder, params.encoder, self.encoder.initial_state(batch), xs, key)
        return EncoderOutput(vector)


def predictions(tokens: Array, token_lengths: Array | None) -> Array | None:
    """How many tokens of each sentence are predicted: all but the first."""
    if token_lengths is None:
        return None
    checks.lengths(token_lengths, tokens.shape[0], tokens.shape[1:], "token_lengths")
    return jnp.maximum(jnp.asarray(token_lengths), 1) - 1


def floats(state: State) -> list[Array]:
    """The floating arrays of a state."""
    return [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def state_size(state: State) -> int:
    """Features of a state without batch axes."""
    return sum(leaf.size for leaf in floats(state))


def concatenate_state(state: State, batch: tuple[int, ...]) -> Array:
    """The floating arrays of a state ``[..., *features]`` as one ``[..., C]``."""
    return jnp.concatenate([leaf.reshape(*batch, -1) for leaf in floats(state)], -1)


def split_state(vector: Array, like: State) -> State:
    """A vector ``[..., C]`` as the floating arrays of a state; :func:`concatenate_state` undone."""
    leaves, structure = jax.tree.flatten(like)
    batch, done, new = vector.shape[:-1], 0, []
    for leaf in leaves:
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            size = math.prod(leaf.shape[len(batch) :])
            leaf, done = vector[..., done : done + size].reshape(leaf.shape), done + size
        new.append(leaf)
    return jax.tree.unflatten(structure, new)
