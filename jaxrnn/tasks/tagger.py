"""Many to many, one tag a step: a conditional random field over a network."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters
from jaxrnn.layers import Linear, LinearParams
from jaxrnn.tasks import checks as task_checks
from jaxrnn.tasks.crf import CRF, CRFParams, Path
from jaxrnn.types import Array, Params, PyTree, exportable
from jaxrnn.unroll import unroll


@exportable
class TaggerParams(NamedTuple):
    """Parameters of the encoder, of the readout and of the conditional random field."""

    encoder: Params
    readout: LinearParams
    crf: CRFParams


@hyperparameters
class Tagger:
    r"""A tagger whose tags are chosen together, by a conditional random field over the scores of a network.

    .. math:: s_t = h_t w + b, \qquad p(y | x) = \mathrm{CRF}(s_1, …, s_n)

    Without one, each tag for itself, a tagger is ``Stack(encoder, Linear(H, K))`` with
    :func:`~jaxrnn.learning.tagging_loss`.

    Args:
        encoder: a cell or layer, mostly bidirectional; dropout belongs into it.
        crf: a :class:`CRF`; ``CRF(K)`` for K tags.
        features: width of the encoder's outputs, for an encoder without an ``output_size``.
        dtype: dtype of the readout; encoder and CRF have their own.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range; the width is not known, or differs.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> encoder = rnn.Stack(rnn.Embedding(65, 8), rnn.Bidirectional(rnn.LSTM(8, 16)))
        >>> model = rnn.tasks.Tagger(encoder, rnn.tasks.CRF(5))
        >>> params = model.init(jax.random.key(0))
        >>> xs, lengths = jnp.zeros((7, 2), int), jnp.array([7, 4])
        >>> tags, score = model.decode(params, xs, lengths=lengths)
        >>> tags.shape, score.shape
        ((7, 2), (2,))
        >>> loss = model.loss(params, xs, tags, lengths=lengths)

    Source: Huang, Xu & Yu (2015), "Bidirectional LSTM-CRF models for sequence tagging".
    """

    encoder: Any
    crf: CRF
    _: dataclasses.KW_ONLY
    features: int | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        checks.layer("encoder", self.encoder)
        checks.instance("crf", self.crf, CRF, "tasks.CRF(tags) is one")
        object.__setattr__(self, "dtype", checks.float_dtype("dtype", self.dtype))
        task_checks.encoder_width("features", self.features, self.encoder)

    @property
    def readout(self) -> Linear:
        return Linear(self.features or self.encoder.output_size, self.crf.tags, dtype=self.dtype)

    def init(self, key: Array) -> TaggerParams:
        """Draw the parameters of encoder, readout and CRF."""
        keys = jax.random.split(key, 3)
        return TaggerParams(self.encoder.init(keys[0]), self.readout.init(keys[1]), self.crf.init(keys[2]))

    def scores(
        self, params: TaggerParams, xs: PyTree, *, lengths: Array | None = None, key: Array | None = None
    ) -> Array:
        """The scores ``s [T, ..., K]`` of the tags at each step, for the methods of :attr:`crf`."""
        params = checks.parameters(self, params)
        _, ys = unroll(self.encoder, params.encoder, xs, lengths=lengths, key=key)
        self.readout.check_input("outputs of encoder", ys)
        return self.readout.apply(params.readout, ys)

    def loss(
        self,
        params: TaggerParams,
        xs: PyTree,
        tags: Array,
        *,
        lengths: Array | None = None,
        key: Array | None = None,
        mean: str = "step",
    ) -> Array:
        r"""Compute the negative log likelihood of the right tags, in nats.

        .. math:: L = -\frac{1}{N} \sum_b \log p(y_b | x_b), \quad N \text{ steps, if } \mathtt{mean="step"}

        Args:
            params: parameters from :meth:`init`.
            xs: ``[T, ..., I]`` (token ids: ``[T, ...]``).
            tags: ``[T, ...]`` ints.
            lengths: ``[...]`` ints, the number of steps before the padding.
            key: random key for dropout; without one there is no dropout.
            mean: ``"step"``, ``"sequence"`` or ``"time_sum"``, as in :mod:`jaxrnn.losses`.

        Returns:
            A scalar.
        """
        scores = self.scores(params, xs, lengths=lengths, key=key)
        return self.crf.loss(params.crf, scores, tags, lengths=lengths, mean=mean)

    def decode(self, params: TaggerParams, xs: PyTree, *, lengths: Array | None = None) -> Path:
        """The most probable tags ``[T, ...]``, and their score ``[...]``."""
        return self.crf.decode(params.crf, self.scores(params, xs, lengths=lengths), lengths=lengths)

    def marginals(self, params: TaggerParams, xs: PyTree, *, lengths: Array | None = None) -> Array:
        """The probability of each tag at each step, ``[T, ..., K]``."""
        return self.crf.marginals(params.crf, self.scores(params, xs, lengths=lengths), lengths=lengths)
