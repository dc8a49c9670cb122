"""Linear-chain conditional random field: the tags of a sequence, chosen together.

One recursion over time does all of it, in two semirings: with (log Σ exp, +) it is the log partition function, with
(max, +) the best sequence of tags. What else is needed is a gradient of the former.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters
from jaxrnn.losses.reduction import reduce_sequences
from jaxrnn.precision import broadcast, widen
from jaxrnn.scan import sequence_mask, where
from jaxrnn.tasks import checks as task_checks
from jaxrnn.types import Array, exportable


@exportable
class CRFParams(NamedTuple):
    """``transitions [K, K]`` from the tag of a row to that of a column, ``start [K]``, ``end [K]``."""

    transitions: Array
    start: Array
    end: Array


@exportable
class Path(NamedTuple):
    """The best tags of sequences, and their scores."""

    tags: Array  # int32 [T, ...], 0 in the padding
    score: Array  # [...] s(y); minus the log partition function it is the log probability


@hyperparameters
class CRF:
    r"""Linear-chain conditional random field over sequences of K tags.

    .. math:: s(y) = a_{y_1} + \sum_{t=1}^n s_t(y_t) + \sum_{t=2}^n A_{y_{t-1} y_t} + b_{y_n}, \qquad
              p(y) = e^{s(y)} / Z, \quad Z = \sum_{y'} e^{s(y')}

    with the scores :math:`s_t` of a network and the parameters A (``transitions``), a (``start``) and b (``end``),
    which are 0 at first: a softmax of each step. Scores are ``[T, ..., K]``; sums are in float32 or better. A sequence
    of length 0 has s = log Z = 0.

    Args:
        tags: K.
        forbidden: pairs ``(before, after)`` of tags that never follow one another; None is the start, or the end:
            ``((0, 2), (None, 2))``. :func:`jaxrnn.data.forbidden_transitions` makes them for BIO and BIOES tags.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> names = ("O", "B-place", "I-place")
        >>> crf = rnn.tasks.CRF(3, forbidden=rnn.data.forbidden_transitions(names))
        >>> params = crf.init(jax.random.key(0))
        >>> scores = jnp.array([[1.0, 0, 0], [0, 1, 2], [0, 0, 1]])  # the best tag of each step: O I-place I-place
        >>> [names[tag] for tag in crf.decode(params, scores).tags]
        ['O', 'B-place', 'I-place']
        >>> crf.marginals(params, scores).sum(-1).round(3).tolist()
        [1.0, 1.0, 1.0]

    Source: Lafferty, McCallum & Pereira (2001), "Conditional random fields"; over a recurrent network: Huang, Xu & Yu
    (2015), "Bidirectional LSTM-CRF models for sequence tagging"; Lample et al. (2016), "Neural architectures for named
    entity recognition".
    """

    tags: int
    _: dataclasses.KW_ONLY
    forbidden: tuple[tuple[int | None, int | None], ...] = ()
    dtype: str = "float32"

    def __post_init__(self) -> None:
        checks.size("tags", self.tags)
        object.__setattr__(self, "forbidden", task_checks.tag_pairs("forbidden", self.forbidden, self.tags))
        object.__setattr__(self, "dtype", checks.float_dtype("dtype", self.dtype))

    def init(self, key: Array) -> CRFParams:
        """Parameters of 0; the key is not used."""
        K = self.tags
        return CRFParams(jnp.zeros((K, K), self.dtype), jnp.zeros(K, self.dtype), jnp.zeros(K, self.dtype))

    # ---- the distribution ----

    def score(self, params: CRFParams, scores: Array, tags: Array, *, lengths: Array | None = None) -> Array:
        """The score ``s(y) [...]`` of tags ``[T, ...]``; -∞ if a transition is forbidden. Arguments as below."""
        A, start, end, scores, mask = self._prepare(params, scores, lengths)
        task_checks.tags("tags", tags, tuple(scores.shape[:-1]))
        tags = where(mask, jnp.asarray(tags))
        task_checks.tag_values("tags", tags, self.tags)
        first, last = tags[0], jnp.take_along_axis(tags, jnp.maximum(mask.sum(0) - 1, 0)[None], 0)[0]
        moves = where(mask[1:], A[tags[:-1], tags[1:]]).sum(0)
        emitted = where(mask, jnp.take_along_axis(scores, tags[..., None], -1)[..., 0]).sum(0)
        total = where(mask[0], start[first] + emitted + moves + end[last])
        return jnp.where(((tags >= 0) & (tags < self.tags)).all(0), total, jnp.nan)  # unknown under jit

    def log_partition(self, params: CRFParams, scores: Array, *, lengths: Array | None = None) -> Array:
        r"""The log partition function ``log Z [...]``, by the forward recursion.

        .. math:: α_1 = a + s_1, \qquad α_t(j) = s_t(j) + \log \sum_i e^{α_{t-1}(i) + A_{ij}}, \qquad
                  \log Z = \log \sum_j e^{α_n(j) + b_j}
        """
        α, _, mask = self._forward(params, scores, lengths, lambda terms: (log_sum_exp(terms, -2), ()))
        return where(mask[0], log_sum_exp(α, -1))

    def log_likelihood(self, params: CRFParams, scores: Array, tags: Array, *, lengths: Array | None = None) -> Array:
        r"""The log probability of tags.

        .. math:: \log p(y) = s(y) - \log Z

        Args:
            params: parameters from :meth:`init`.
            scores: ``[T, ..., K]``, T at least 1.
            tags: ``[T, ...]`` ints in [0, K). Other values before the end are refused; under ``jit`` the result is NaN.
            lengths: ``[...]`` ints, the number of steps before the padding, which may hold anything.

        Returns:
            ``[...]``; -∞ for tags with a forbidden transition.

        Raises:
            TypeError, ValueError: shapes or kinds do not fit.
        """
        score = self.score(params, scores, tags, lengths=lengths)
        return score - self.log_partition(params, scores, lengths=lengths)

    def loss(
        self, params: CRFParams, scores: Array, tags: Array, *, lengths: Array | None = None, mean: str = "step"
    ) -> Array:
        """The negative log likelihood in nats, a scalar; ``mean`` as in :mod:`jaxrnn.losses`."""
        losses = -self.log_likelihood(params, scores, tags, lengths=lengths)
        steps = jnp.full(losses.shape, scores.shape[0], jnp.int32) if lengths is None else jnp.asarray(lengths)
        return reduce_sequences(losses, steps, steps > 0, mean)

    def marginals(self, params: CRFParams, scores: Array, *, lengths: Array | None = None) -> Array:
        r"""The probability of each tag at each step, ``[T, ..., K]``, 0 in the padding.

        .. math:: p(y_t = j) = \frac{\partial \log Z}{\partial s_t(j)}

        Back-propagation through the forward recursion is the backward one of forward-backward: no second recursion is
        written here. Likewise the gradient by the transitions is the expected number of each of them.
        """
        scores = widen(jnp.asarray(scores))
        return jax.grad(lambda scores: self.log_partition(params, scores, lengths=lengths).sum())(scores)

    def decode(self, params: CRFParams, scores: Array, *, lengths: Array | None = None) -> Path:
        r"""The most probable sequences of tags, by the Viterbi algorithm; arguments of :meth:`log_likelihood`.

        .. math:: δ_t(j) = s_t(j) + \max_i (δ_{t-1}(i) + A_{ij}), \qquad y_{t-1} = \arg\max_i (δ_{t-1}(i) + A_{i y_t})

        Of equal ones the first is taken.

        Returns:
            :class:`Path`: ``(tags, score)``.
        """
        δ, parents, mask = self._forward(params, scores, lengths, lambda terms: (terms.max(-2), terms.argmax(-2)))
        own = jnp.broadcast_to(jnp.arange(self.tags, dtype=parents.dtype), parents.shape)
        parents = jnp.where(mask[1:, ..., None], parents, own)  # the tag goes through the padding unchanged

        def back(tag: Array, parents: Array) -> tuple[Array, Array]:
            before = jnp.take_along_axis(parents, tag[..., None], -1)[..., 0]
            return before, before

        last = δ.argmax(-1)
        _, tags = jax.lax.scan(back, last, parents, reverse=True)
        tags = jnp.concatenate([tags, last[None]]).astype(jnp.int32)
        return Path(where(mask, tags), where(mask[0], δ.max(-1)))

    # ---- the recursion ----

    def _forward(
        self, params: CRFParams, scores: Array, lengths: Array | None, combine: Callable[[Array], tuple[Array, Any]]
    ) -> tuple[Array, Any, Array]:
        """``α_t(j) = s_t(j) + ⊕_i (α_{t-1}(i) + A_ij)`` with ``⊕`` over the axis -2 of ``[..., K, K]``.

        Returns ``α_n + b [..., K]``, what ``combine`` returned besides for t = 2, …, T, and the mask ``[T, ...]``.
        """
        A, start, end, scores, mask = self._prepare(params, scores, lengths)
        A = broadcast(A, (*scores.shape[1:], self.tags))

        @jax.checkpoint  # the [..., K, K] terms of a step are computed again for its gradient, not kept
        def step(α: Array, x: tuple[Array, Array]) -> tuple[Array, Any]:
            s, counts = x
            combined, trace = combine(α[..., :, None] + A)
            return where(counts, s + combined, α), trace

        α, traces = jax.lax.scan(step, broadcast(start, scores.shape[1:]) + scores[0], (scores[1:], mask[1:]))
        return α + broadcast(end, α.shape), traces, mask

    def _prepare(self, params: CRFParams, scores: Any, lengths: Array | None) -> tuple[Array, ...]:
        """Transitions, start and end with -∞ where forbidden, the scores with 0 in the padding, and the mask."""
        task_checks.tag_scores("scores", scores, self.tags)
        steps, *batch, K = scores.shape
        mask = jnp.ones((steps, *batch), bool)
        if lengths is not None:
            checks.lengths(lengths, steps, tuple(batch))
            mask = sequence_mask(steps, jnp.asarray(lengths))
        scores = where(mask, widen(jnp.asarray(scores)))
        allowed = np.ones((K + 1, K + 1), bool)  # the last row: from the start; the last column: to the end
        for before, after in self.forbidden:
            allowed[K if before is None else before, K if after is None else after] = False
        tables = checks.parameters(self, params)
        may = allowed[:K, :K], allowed[K, :K], allowed[:K, K]
        A, start, end = (
            jnp.where(m, widen(p).astype(scores.dtype), -jnp.inf) for p, m in zip(tables, may, strict=True)
        )
        return A, start, end, scores, mask


def log_sum_exp(x: Array, axis: int) -> Array:
    """``log Σ exp(x)``; -∞ with a gradient of 0, not NaN, where all are -∞."""
    largest = jax.lax.stop_gradient(x.max(axis, keepdims=True))
    largest = jnp.where(jnp.isinf(largest), 0, largest)
    total = jnp.exp(x - largest).sum(axis)
    none = total == 0
    return jnp.where(none, -jnp.inf, jnp.log(jnp.where(none, 1, total)) + largest.squeeze(axis))
