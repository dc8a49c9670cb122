"""Decoding of CTC: from the probabilities of each step to labels without blanks and repetitions."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.decoding.checks import at_most
from jaxrnn.decoding.generation import log_softmax
from jaxrnn.decoding.largest import largest
from jaxrnn.losses.checks import ctc_logits
from jaxrnn.scan import sequence_mask, where
from jaxrnn.types import Array, exportable


@exportable
class Labels(NamedTuple):
    """Decoded labels, time first; after ``lengths`` they are the blank."""

    labels: Array  # int32 [T, ...], of a beam search [T, n, ...], the best first
    lengths: Array  # int32 [...], [n, ...]
    log_probabilities: Array  # [...], [n, ...]


def ctc_greedy(logits: Array, *, lengths: Array | None = None, blank: int = 0) -> Labels:
    r"""Best path decoding: the labels of the most probable alignment.

    .. math:: y = B(π), \qquad π_t = \arg\max_v o_{tv}

    B removes repeated labels, then blanks. The labels of the best alignment need not be the most probable ones, which
    :func:`ctc_beam_search` looks for.

    Args:
        logits: ``[T, ..., V]``.
        lengths: ``[...]`` ints, the number of steps before the padding.
        blank: the id of the blank, as in :func:`jaxrnn.losses.ctc`.

    Returns:
        :class:`Labels`; the log probabilities are those of the alignments.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> path = jnp.array([0, 3, 3, 0, 3, 2])
        >>> labels, length, _ = rnn.decoding.ctc_greedy(jax.nn.one_hot(path, 4))
        >>> labels[:length].tolist()
        [3, 3, 2]

    Source: Graves et al. (2006), "Connectionist temporal classification", section 3.2.
    """
    log_probs, mask = _prepare(logits, lengths, blank)
    path = jnp.where(mask, log_probs.argmax(-1), blank).astype(jnp.int32)
    before = jnp.concatenate([jnp.full_like(path[:1], blank), path[:-1]])
    kept = (path != blank) & (path != before)
    order = jnp.argsort(~kept, axis=0, stable=True)  # those that are kept come first, in their order
    labels = jnp.take_along_axis(jnp.where(kept, path, blank), order, 0)
    return Labels(labels, kept.sum(0, dtype=jnp.int32), where(mask, log_probs.max(-1)).sum(0))


class Prefixes(NamedTuple):
    """The K best prefixes after some steps; an empty entry has log probabilities of -∞."""

    labels: Array  # [K, T]
    length: Array  # [K]
    last: Array  # [K] the last label, the blank for the empty prefix
    p_blank: Array  # [K] log probability of the alignments that end with a blank
    p_label: Array  # [K] and of those that end with the last label


def ctc_beam_search(
    logits: Array, *, width: int, lengths: Array | None = None, blank: int = 0, n_best: int = 1
) -> Labels:
    r"""Prefix beam search: the most probable labels, over all their alignments, with K prefixes at every step.

    .. math:: p_t(y) = p_t^-(y) + p_t^+(y)

    A prefix y has the probability of its alignments that end with a blank (−) and with its last label (+). At each step
    it stays as it is, by a blank or by its last label again, or grows by a label; equal prefixes are added up. With a
    width above the number of prefixes the result is exact, else the probabilities are lower bounds.

    Args:
        logits, lengths, blank: as in :func:`ctc_greedy`.
        width: K.
        n_best: n, the number of sequences to return, at most K.

    Returns:
        :class:`Labels` ``[T, n, ...]``. If there are fewer than n, the remaining entries have probability 0.

    Raises:
        TypeError, ValueError: shapes or kinds do not fit, an argument is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> logits = jnp.log(jnp.array([[0.6, 0.4], [0.6, 0.4]]))  # best path: twice the blank, 0.36
        >>> found = rnn.decoding.ctc_beam_search(logits, width=4)
        >>> found.labels[:1, 0].tolist(), round(float(jnp.exp(found.log_probabilities[0])), 2)
        ([1], 0.64)

    Source: Graves (2012), "Supervised sequence labelling with recurrent neural networks", section 7.5.2; Hannun et al.
    (2014), "First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs".
    """
    log_probs, mask = _prepare(logits, lengths, blank)
    checks.size("width", width)
    at_most("n_best", n_best, width, "the width of the beam")
    steps, *batch, V = log_probs.shape
    search = partial(_search, width=width, blank=blank)
    found = jax.vmap(search, (1, 1))(log_probs.reshape(steps, -1, V), mask.reshape(steps, -1))
    total = jnp.logaddexp(found.p_blank, found.p_label)

    def beam_first(x: Array) -> Array:
        """``[B, K, ...]`` as ``[..., n, *batch]``."""
        return jnp.moveaxis(x[:, :n_best], 0, -1).reshape(n_best, *x.shape[2:], *batch)

    return Labels(jnp.moveaxis(beam_first(found.labels), 1, 0), beam_first(found.length), beam_first(total))


def _search(log_probs: Array, mask: Array, *, width: int, blank: int) -> Prefixes:
    """Of one sequence ``[T, V]``."""
    steps, V = log_probs.shape
    places = jnp.arange(steps, dtype=jnp.int32)[None]
    ids = jnp.arange(V, dtype=jnp.int32)[None]

    def step(beam: Prefixes, x: tuple[Array, Array]) -> tuple[Prefixes, None]:
        log_p, counts = x
        total = jnp.logaddexp(beam.p_blank, beam.p_label)
        p_blank = total + log_p[blank]
        p_label = beam.p_label + log_p[beam.last]
        again = ids == beam.last[:, None]  # a repeated label has a blank before it
        grown = jnp.where(again, beam.p_blank[:, None], total[:, None]) + log_p[None]  # [K, V]
        grown = jnp.where(ids == blank, -jnp.inf, grown)

        # is prefix j of the beam prefix k with one label more? then they are one
        end = places == beam.length[:, None]  # [K, T] where prefix k grows
        same = (beam.labels[:, None] == beam.labels[None]) | end[:, None]
        child = same.all(-1) & (beam.length[:, None] + 1 == beam.length[None]) & (total > -jnp.inf)[None]  # [K, K]
        p_label = jnp.logaddexp(p_label, jnp.where(child, grown[:, beam.last], -jnp.inf).max(0))
        grown = jnp.where((child[:, :, None] & again[None]).any(1), -jnp.inf, grown)

        candidates = jnp.concatenate([jnp.logaddexp(p_blank, p_label)[:, None], grown], 1).reshape(-1)
        best, chosen = largest(candidates, width)
        k, label = chosen // (V + 1), chosen % (V + 1) - 1  # -1: the prefix as it was
        grows = label >= 0
        new = Prefixes(
            jnp.where(grows[:, None] & end[k], label[:, None], beam.labels[k]),
            beam.length[k] + grows.astype(jnp.int32),
            jnp.where(grows, label, beam.last[k]),
            jnp.where(grows, -jnp.inf, p_blank[k]),
            jnp.where(grows, best, p_label[k]),
        )
        return jax.tree.map(lambda old, new: jnp.where(counts, new, old), beam, new), None

    none = jnp.zeros(width, jnp.int32)
    dead = jnp.full(width, -jnp.inf, log_probs.dtype)
    start = Prefixes(jnp.full((width, steps), blank, jnp.int32), none, none + blank, dead.at[0].set(0), dead)
    return jax.lax.scan(step, start, (log_probs, mask))[0]


def _prepare(logits: Any, lengths: Array | None, blank: int) -> tuple[Array, Array]:
    """Log probabilities ``[T, ..., V]``, and the mask ``[T, ...]``."""
    ctc_logits("logits", logits, blank)
    steps, *batch, _ = logits.shape
    mask = jnp.ones((steps, *batch), bool)
    if lengths is not None:
        checks.lengths(lengths, steps, tuple(batch))
        mask = sequence_mask(steps, jnp.asarray(lengths))
    return log_softmax(where(mask, jnp.asarray(logits))), mask
