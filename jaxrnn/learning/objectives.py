"""Losses: the forms in which they may be written, and ready ones for the usual models, to use or to copy.

=============================================  =======================================================================
form                                           returns
=============================================  =======================================================================
``loss(params, batch)``                        ``value``, or ``(value, metrics)``: the number to minimize, and a dict
                                               of further numbers to report
``loss(params, batch, key)``                   the same; ``key`` is the random key of the step, None in evaluation
``loss(params, carry, batch, key)``            ``(value, (carry, metrics))``: ``carry`` is the recurrent state between
                                               batches that follow one another
=============================================  =======================================================================

A metric ``"count"`` is the weight of a batch where several are averaged: the number of steps or sequences that the
value is the mean over. Batches are :class:`~jaxrnn.data.PaddedBatch` or anything with the same attributes, a dict of
them, or a pair ``(inputs, targets)``. Fillers of an incomplete batch, which have length 0, count nowhere. Where a batch
has no lengths, as those of :mod:`~jaxrnn.data.synthetic`, its sequences are whole; of one with a ``mask [T, B]`` the
steps count that it selects.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp

from jaxrnn import losses
from jaxrnn.checks import describe, refuse, tree_summary
from jaxrnn.data.counted import field
from jaxrnn.learning import checks as learning_checks
from jaxrnn.types import Array, Params, PyTree, State
from jaxrnn.unroll import unroll

Metrics: TypeAlias = dict[str, Array]
Loss: TypeAlias = Callable[..., Any]  # one of the forms above
CarryLoss: TypeAlias = Callable[[Params, State, PyTree, Array | None], tuple[Array, tuple[State, Metrics]]]
Predict: TypeAlias = Callable[..., PyTree]  # predict(params, batch, key=None) -> outputs

FORMS = "loss(params, batch), loss(params, batch, key) or loss(params, carry, batch, key)"


def with_carry(loss: Loss) -> CarryLoss:
    """A loss of any form as ``loss(params, carry, batch, key) -> (value, (carry, metrics))``."""
    takes = _arguments(loss)

    def call(params: Params, carry: State, batch: PyTree, key: Array | None) -> tuple[Array, tuple[State, Metrics]]:
        given = {"params": params, "carry": carry, "batch": batch, "key": key}
        by_name = {"key": key} if "key=" in takes else {}
        value = loss(*(given[name] for name in takes if name != "key="), **by_name)
        return learning_checks.loss_result(value, None if "carry" in takes else (carry,))

    return call


def _arguments(loss: Loss) -> tuple[str, ...]:
    """The arguments of a loss in its order; ``"key="`` is passed by name.

    A parameter named ``key`` is the key, wherever it stands; otherwise the number of parameters decides.
    """
    if not callable(loss):
        refuse("loss", f"a function {FORMS}", describe(loss), error=TypeError)
    try:
        parameters = inspect.signature(loss).parameters.values()
    except ValueError:  # a function without a signature
        return "params", "carry", "batch", "key"
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return "params", "carry", "batch", "key"
    key = ("key=",) if any(p.name == "key" for p in parameters) else ()
    others = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD and p.name != "key"]
    number, named_carry = len(others), len(others) > 1 and others[1].name == "carry"
    if all(p.kind is not p.KEYWORD_ONLY for p in others):
        if number == 2 and not named_carry:
            return ("params", "batch", *key)
        if number == 3 and (key or named_carry):
            return ("params", "carry", "batch", *key)
        if number == 3:
            return "params", "batch", "key"
        if number == 4 and not key:
            return "params", "carry", "batch", "key"
    name = getattr(loss, "__name__", type(loss).__name__)
    refuse("loss", f"a function {FORMS}", f"{name}{inspect.signature(loss)}",
           "functools.partial binds further arguments", TypeError)  # fmt: skip


# ---- what counts in a batch ------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """What the ready losses read of a batch."""

    inputs: PyTree
    targets: PyTree = None
    lengths: Array | None = None  # [B]; None: all sequences are whole
    mask: Array | None = None  # [T, B]
    target_lengths: Array | None = None  # [B]

    @property
    def steps(self) -> dict[str, Any]:
        """The steps that count, as a loss takes them: by their mask if the batch has one, otherwise by lengths."""
        return {"lengths": self.lengths} if self.mask is None else {"mask": self.mask}

    def are_sequences(self, outputs: Array) -> Array:
        """Bools ``[B]``: which are sequences, and not the fillers of an incomplete batch."""
        return jnp.ones(outputs.shape[0], bool) if self.lengths is None else self.lengths > 0


def parts(batch: PyTree, *needed: str) -> Parts:
    """The parts of a batch by their names, or of a pair ``(inputs, targets)``; some must be there."""
    if type(batch) in (tuple, list) and len(batch) == 2:
        found = Parts(*batch)
    else:
        found = Parts(*(field(batch, name) for name in Parts._fields))
    for name in needed:
        if getattr(found, name) is None:
            pairs = "target_lengths" in needed
            refuse("batch", f"something with {', '.join(needed)}" + ", or a pair (inputs, targets)" * (not pairs),
                   tree_summary(batch), f"data.{'Pairs' if pairs else 'Buckets'} makes such batches",
                   TypeError)  # fmt: skip
    return found


# ---- outputs of a model for a batch ----------------------------------------------------------------------------------


def sequence_outputs(model: Any) -> Predict:
    """Make ``predict(params, batch, key=None)``: one output a sequence, ``[B, ...]``, for :func:`evaluate`.

    Args:
        model: with ``apply(params, xs, lengths=, key=)``, such as :class:`~jaxrnn.tasks.Classifier`.
    """
    learning_checks.sequence_model(model)

    def predict(params: Params, batch: PyTree, key: Array | None = None) -> PyTree:
        batch = parts(batch, "inputs")
        return model.apply(params, batch.inputs, lengths=batch.lengths, key=key)

    return predict


def step_outputs(model: Any) -> Predict:
    """Make ``predict(params, batch, key=None)``: one output a step, ``[T, B, ...]``, for :func:`evaluate`.

    Args:
        model: a cell or layer.
    """

    def predict(params: Params, batch: PyTree, key: Array | None = None) -> PyTree:
        batch = parts(batch, "inputs")
        return unroll(model, params, batch.inputs, lengths=batch.lengths, key=key)[1]

    return predict


def translation_outputs(model: Any) -> Predict:
    """Make ``predict(params, batch, key=None)``: logits ``[T - 1, B, V]`` of target tokens, each fed the one before.

    Args:
        model: an :class:`~jaxrnn.tasks.EncoderDecoder`; batches are those of :class:`~jaxrnn.data.Pairs`.
    """

    def predict(params: Params, batch: PyTree, key: Array | None = None) -> PyTree:
        batch = parts(batch, "inputs", "targets", "target_lengths")
        return model.logits(
            params, batch.inputs, batch.targets, lengths=batch.lengths, token_lengths=batch.target_lengths, key=key
        )

    return predict


def crf_outputs(model: Any) -> Predict:
    """Make ``predict(params, batch, key=None)``: the most probable tags ``[T, B]``, for :func:`evaluate`.

    Args:
        model: a :class:`~jaxrnn.tasks.Tagger`.
    """

    def predict(params: Params, batch: PyTree, key: Array | None = None) -> PyTree:
        batch = parts(batch, "inputs")
        return model.decode(params, batch.inputs, lengths=batch.lengths).tags

    return predict


# ---- ready losses ----------------------------------------------------------------------------------------------------


def classification_loss(model: Any, loss_fn: Callable[..., Array] = losses.cross_entropy, **options: Any) -> Loss:
    r"""Make the loss of a sequence classifier: the mean cross entropy of the labels ``[B]``.

    .. math:: L = -\frac{1}{N} \sum_b \log \mathrm{softmax}(o_b)_{y_b}, \quad N \text{ sequences that are no fillers}

    Args:
        model: with ``apply(params, xs, lengths=, key=) -> logits [B, classes]``, such as
            :class:`~jaxrnn.tasks.Classifier`.
        loss_fn: ``loss_fn(outputs, targets, mask=, **options)``, of :mod:`jaxrnn.losses` for instance.
        **options: passed to ``loss_fn``, such as ``label_smoothing=0.1``.

    Returns:
        ``loss(params, batch, key)`` for :func:`train_step`; batches are those of :class:`~jaxrnn.data.Buckets`.

    Example:
        >>> import jax, jaxrnn as rnn, numpy as np, optax
        >>> from jaxrnn import learning
        >>> batches = rnn.data.Buckets([np.ones((n, 2), "float32") for n in (3, 5)], [0, 1], batch=2, buckets=1)
        >>> model = rnn.tasks.Classifier(rnn.GRU(2, 4), 2)
        >>> step = learning.train_step(learning.classification_loss(model), optax.sgd(0.1))
        >>> state = learning.train_state(model.init(jax.random.key(0)), optax.sgd(0.1))
        >>> learning.fit(step, state, batches, epochs=3, key=jax.random.key(1), verbose=False).state
        TrainState(step=3, parameters=94, skipped=0)
    """
    learning_checks.sequence_model(model)

    def loss(params: Params, batch: PyTree, key: Array | None) -> tuple[Array, Metrics]:
        batch = parts(batch, "inputs", "targets")
        outputs = model.apply(params, batch.inputs, lengths=batch.lengths, key=key)  # [B, classes]
        counts = batch.are_sequences(outputs)
        return loss_fn(outputs, batch.targets, mask=counts, **options), {"count": counts.sum()}

    return loss


def regression_loss(model: Any, loss_fn: Callable[..., Array] = losses.squared_error, **options: Any) -> Loss:
    r"""Make the loss of a model from sequences to numbers: the mean squared error of the targets ``[B]`` or ``[B, q]``.

    .. math:: L = \frac{1}{N q} \sum_b ‖o_b - y_b‖², \quad N \text{ sequences that are no fillers}

    For numbers a step, ``[T, B, q]``: ``tagging_loss(model, losses.squared_error)``.

    Args:
        model: as in :func:`classification_loss`; ``Classifier(encoder, q)`` has q outputs.
        loss_fn, options: as there.
    """
    learning_checks.sequence_model(model)

    def loss(params: Params, batch: PyTree, key: Array | None) -> tuple[Array, Metrics]:
        batch = parts(batch, "inputs", "targets")
        outputs = model.apply(params, batch.inputs, lengths=batch.lengths, key=key)  # [B, q]
        counts = batch.are_sequences(outputs)
        targets = jnp.asarray(batch.targets, outputs.dtype)
        targets = targets[..., None] if targets.shape == outputs.shape[:-1] and outputs.shape[-1] == 1 else targets
        return loss_fn(outputs, targets, mask=counts, **options), {"count": counts.sum()}

    return loss


def tagging_loss(model: Any, loss_fn: Callable[..., Array] = losses.cross_entropy, **options: Any) -> Loss:
    r"""Make the loss of a model with a target a step, ``[T, B]``: the mean cross entropy of all steps but the padding.

    .. math:: L = -\frac{1}{N} \sum_{t, b} \log \mathrm{softmax}(o_{tb})_{y_{tb}}

    It is also that of a language model of single sentences, whose targets are the inputs one step later; of one on a
    long text it is :func:`stream_loss`.

    Args:
        model: a cell or layer from inputs to logits ``[T, B, classes]``.
        loss_fn: ``loss_fn(outputs, targets, lengths=, **options)``, of :mod:`jaxrnn.losses` for instance; of batches
            with a mask ``mask=`` in place of lengths.
        **options: passed to ``loss_fn``.
    """

    def loss(params: Params, batch: PyTree, key: Array | None) -> tuple[Array, Metrics]:
        batch = parts(batch, "inputs", "targets")
        _, outputs = unroll(model, params, batch.inputs, lengths=batch.lengths, key=key)  # [T, B, classes]
        value = loss_fn(outputs, batch.targets, **batch.steps, **options)
        return value, {"count": losses.count(outputs.shape[:2], **batch.steps)}

    return loss


def translation_loss(model: Any, **options: Any) -> Loss:
    r"""Make the loss of sequence to sequence: the mean cross entropy of the target tokens, each fed the one before.

    .. math:: L = -\frac{1}{N} \sum_{t, b} \log \mathrm{softmax}(o_{tb})_{y_{t+1, b}}

    Args:
        model: an :class:`~jaxrnn.tasks.EncoderDecoder`.
        **options: of its method ``loss``, such as ``teacher_forcing`` and ``label_smoothing``.

    Returns:
        ``loss(params, batch, key)`` for :func:`train_step`; batches are those of :class:`~jaxrnn.data.Pairs`.
    """

    def loss(params: Params, batch: PyTree, key: Array | None) -> tuple[Array, Metrics]:
        batch = parts(batch, "inputs", "targets", "target_lengths")
        value = model.loss(params, batch.inputs, batch.targets, lengths=batch.lengths,
                           token_lengths=batch.target_lengths, key=key, **options)  # fmt: skip
        return value, {"count": jnp.maximum(batch.target_lengths - 1, 0).sum()}

    return loss


def crf_loss(model: Any, **options: Any) -> Loss:
    r"""Make the loss of a tagger whose tags ``[T, B]`` are chosen together: their mean negative log likelihood.

    .. math:: L = -\frac{1}{N} \sum_b \log p(y_b | x_b), \quad N \text{ steps but the padding}

    Args:
        model: a :class:`~jaxrnn.tasks.Tagger`.
        **options: of its method ``loss``; ``mean``.

    Returns:
        ``loss(params, batch, key)`` for :func:`train_step`; batches are those of :class:`~jaxrnn.data.Buckets`.
    """

    def loss(params: Params, batch: PyTree, key: Array | None) -> tuple[Array, Metrics]:
        batch = parts(batch, "inputs", "targets")
        if batch.mask is not None:
            refuse("batch", "lengths, as tags are chosen together", "a mask of steps", "tagging_loss takes one")
        value = model.loss(params, batch.inputs, batch.targets, lengths=batch.lengths, key=key, **options)
        count = losses.count(batch.targets.shape, lengths=batch.lengths, mean=options.get("mean", "step"))
        return value, {"count": count}

    return loss


def ctc_loss(model: Any, blank: int = 0) -> Loss:
    r"""Make the CTC loss of a model whose target labels ``[S, B]`` are not aligned with the steps: the mean of a label.

    .. math:: L = -\frac{1}{N} \sum_b \log p(y_b | o_b), \quad N \text{ labels}

    Args:
        model: a cell or layer from inputs to logits ``[T, B, V]``, one of the V the blank.
        blank: the id of the blank.

    Returns:
        ``loss(params, batch, key)`` for :func:`train_step`; batches are those of :class:`~jaxrnn.data.Pairs`.
    """

    def loss(params: Params, batch: PyTree, key: Array | None) -> tuple[Array, Metrics]:
        batch = parts(batch, "inputs", "targets", "target_lengths")
        _, logits = unroll(model, params, batch.inputs, lengths=batch.lengths, key=key)
        value = losses.ctc(
            logits, batch.targets, lengths=batch.lengths, label_lengths=batch.target_lengths, blank=blank
        )
        return value, {"count": batch.target_lengths.sum()}

    return loss
