"""The train step: a pure function of (state, batch, key), made of a loss and an optax optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxrnn import checks
from jaxrnn.learning import checks as learning_checks
from jaxrnn.learning.objectives import Loss, Metrics, with_carry
from jaxrnn.learning.update import rescale, trained_params, update
from jaxrnn.precision import widen
from jaxrnn.types import Array, Params, PyTree, State, exportable

Step: TypeAlias = Callable[["TrainState", PyTree, Array], tuple["TrainState", Metrics]]


@exportable
class TrainState(NamedTuple):
    """The state of training, as one pytree."""

    params: Params
    opt_state: PyTree
    carry: State  # the recurrent state after the last batch; () if batches do not follow one another
    step: Array  # int32: batches seen, including skipped ones; also the position in the data
    skipped: Array  # int32: batches whose loss or gradient was not finite
    skipped_in_a_row: Array  # int32: of these, those since the last finite batch

    def __repr__(self) -> str:
        parameters = sum(getattr(leaf, "size", 1) for leaf in jax.tree.leaves(self.params))
        step, skipped = (_int_or_description(value) for value in (self.step, self.skipped))
        return f"TrainState(step={step}, parameters={parameters:,}, skipped={skipped})"


def _int_or_description(value: Any) -> int | str:
    """A number if it can be read; dtype and shape of an array that is traced, deleted, abstract or not a scalar."""
    try:
        return int(value)
    except (RuntimeError, TypeError, ValueError):
        return checks.describe(value)


def train_state(params: Params, optimizer: optax.GradientTransformation, carry: State = ()) -> TrainState:
    """Return the train state before the first step.

    For parameters in bfloat16 or float16 the optimizer's state is float32: in 16 bits moments and small updates would
    be lost to rounding.

    Args:
        params: the parameters, of ``model.init``.
        optimizer: any of optax.
        carry: the recurrent state before the first batch; ``()`` if batches do not follow one another.

    Raises:
        TypeError: the optimizer is not a gradient transformation.

    Example:
        >>> import jax, jaxrnn as rnn, optax
        >>> model = rnn.GRU(3, 8)
        >>> rnn.learning.train_state(model.init(jax.random.key(0)), optax.adam(1e-3))
        TrainState(step=0, parameters=288, skipped=0)
    """
    learning_checks.optimizer("optimizer", optimizer)
    state = TrainState(params, optimizer.init(widen(params)), carry, *(jnp.zeros((), jnp.int32) for _ in range(3)))
    return jax.tree.map(jnp.copy, state)  # copies, no array twice, so that the state may be donated


def train_step(loss: Loss, optimizer: optax.GradientTransformation) -> Step:
    r"""Make the function of one optimizer step.

    .. math:: θ ← θ + \mathrm{update}(∇_θ L(θ))

    Clipping and schedules belong to the optimizer, for instance
    ``optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))``. A batch whose loss or gradient is not finite
    is skipped and counted: parameters, optimizer state and carry stay as they were.

    The optimizer works in float32 or wider: for a model in bfloat16 or float16 it gets gradient and parameters in
    float32, so that norms and second moments do not overflow; the parameters keep their dtype. A gradient whose
    square overflows float32 is scaled down, in its direction, until its square does not.

    The optimizer gets the extra arguments that it asks for, also inside ``optax.chain``: ``value`` and ``grad``, the
    loss and its gradient (``optax.contrib.reduce_on_plateau``, ``optax.polyak_sgd``, ``optax.contrib.momo``), and
    ``value_fn``, the loss on this batch as a function of the parameters (``optax.lbfgs`` and its line searches, which
    run the model several times a step; ``optax.contrib.sophia`` and ``sam`` in its opaque mode). An optimizer that
    needs any other argument is refused; the message names the argument.

    Some optimizers train other parameters than those for inference; ``fit`` evaluates and saves those being trained.
    For the schedule-free optimizers ``optax.contrib.schedule_free_eval_params(state.opt_state, state.params)`` gives
    the parameters for inference. ``optax.lookahead`` trains ``optax.LookaheadParams.init_synced(params)``: the loss
    gets ``fast``; ``slow`` are for inference, and ``load_model`` returns them.

    Args:
        loss: the value to minimize, and numbers to report: ``loss(params, batch)`` or ``loss(params, batch, key)``
            returns ``value`` or ``(value, metrics)``; ``loss(params, carry, batch, key) -> (value, (carry, metrics))``
            also carries the recurrent state from batch to batch. A metric ``"count"`` is the weight of the batch in
            :func:`mean_loss`. Ready ones: :mod:`jaxrnn.learning.objectives`.
        optimizer: any of optax, the one of :func:`train_state`.

    Returns:
        ``step(state, batch, key) -> (state, metrics)``, a pure function. The metrics are ``loss``, ``grad_norm``
        (global, before clipping), ``finite``, ``nonfinite_leaf`` (the first leaf of the gradient that is not finite, -1
        if all are) and those of the loss.

    Raises:
        TypeError, ValueError: the loss takes or returns something else; the optimizer needs an argument that is not
            supported, such as a gradient for each sequence (``optax.contrib.dpsgd``), or the state is that of another
            optimizer.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn, optax
        >>> from jaxrnn import learning
        >>> model = rnn.Stack(rnn.GRU(3, 8), rnn.Linear(8, 1))
        >>> def loss(params, carry, batch, key):
        ...     carry, ys = rnn.unroll(model, params, batch["x"], carry)
        ...     return rnn.losses.squared_error(ys, batch["y"]), (jax.lax.stop_gradient(carry), {})
        >>> optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
        >>> params = model.init(jax.random.key(0))
        >>> state = learning.train_state(params, optimizer, carry=model.initial_state((4,)))
        >>> step = jax.jit(learning.train_step(loss, optimizer))
        >>> batch = {"x": jnp.ones((7, 4, 3)), "y": jnp.ones((7, 4, 1))}
        >>> state, metrics = step(state, batch, jax.random.key(1))
        >>> int(state.step), sorted(metrics)
        (1, ['finite', 'grad_norm', 'loss', 'nonfinite_leaf'])
    """
    learning_checks.optimizer("optimizer", optimizer)
    loss = with_carry(loss)

    def step(state: TrainState, batch: PyTree, key: Array) -> tuple[TrainState, Metrics]:
        learning_checks.optimizer_state(optimizer, state.params, state.opt_state)
        value_and_grad = jax.value_and_grad(loss, has_aux=True)
        (value, (carry, metrics)), grads = value_and_grad(trained_params(state.params), state.carry, batch, key)

        def value_fn(params: Params) -> Array:
            return loss(trained_params(params), state.carry, batch, key)[0]

        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes; the loss keeps the user's own setting
            grads, norm, finite_leaves = rescale(widen(grads))
            params, opt_state = update(optimizer, grads, state.opt_state, state.params, value, value_fn)
        all_finite = finite_leaves.all()
        finite = jnp.isfinite(value) & all_finite

        def if_finite(new: PyTree, old: PyTree) -> PyTree:
            return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

        after = TrainState(
            params=if_finite(params, state.params),
            opt_state=if_finite(opt_state, state.opt_state),
            carry=if_finite(checks.next_carry(state.carry, carry), state.carry),
            step=state.step + 1,
            skipped=state.skipped + jnp.where(finite, 0, 1),
            skipped_in_a_row=jnp.where(finite, 0, state.skipped_in_a_row + 1),
        )
        first = jnp.where(all_finite, -1, jnp.argmin(finite_leaves)) if finite_leaves.size else jnp.asarray(-1)
        return after, {"loss": value, "grad_norm": norm, "finite": finite, "nonfinite_leaf": first, **metrics}

    return step


def scan_steps(step: Step) -> Step:
    """Scan a train step over K batches: batches and metrics have a leading axis K.

    The key of each step is ``jax.random.fold_in(key, state.step)``, so that a run does not depend on how its steps are
    grouped. Data that are drawn at random need a key of their own (``jax.random.split``), or they and the masks of
    dropout come from the same numbers.

    Args:
        step: of :func:`train_step`.

    Returns:
        ``steps(state, batches, key) -> (state, metrics)``.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn, optax
        >>> model = rnn.Linear(2, 1)
        >>> def loss(params, carry, batch, key):
        ...     return jnp.mean(rnn.unroll(model, params, batch)[1] ** 2), ((), {})
        >>> steps = rnn.learning.scan_steps(rnn.learning.train_step(loss, optax.sgd(0.1)))
        >>> state = rnn.learning.train_state(model.init(jax.random.key(0)), optax.sgd(0.1))
        >>> state, metrics = steps(state, jnp.ones((5, 7, 4, 2)), jax.random.key(1))  # 5 batches [7, 4, 2]
        >>> state, metrics["loss"].shape
        (TrainState(step=5, parameters=3, skipped=0), (5,))
    """

    def steps(state: TrainState, batches: PyTree, key: Array) -> tuple[TrainState, Metrics]:
        def body(state: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
            return step(state, batch, jax.random.fold_in(key, state.step))

        return jax.lax.scan(body, state, batches)

    return steps


def mean_loss(loss: Loss, params: Params, carry: State, batches: PyTree) -> tuple[State, Array]:
    r"""Return the mean of a loss over batches with a leading axis, carrying the state, without dropout.

    .. math:: L = \frac{\sum_i n_i L_i}{\sum_i n_i}

    A batch has the weight n_i that its loss returns as the metric ``"count"``: the number of steps or sequences that
    the loss is the mean over, see :func:`jaxrnn.losses.count`. Then each step has the same weight, whatever its batch.
    Without ``"count"`` each batch has the same weight, which is right if all are equally full. A batch whose count
    is 0 is ignored.

    Args:
        loss: see :func:`train_step`; its key is None.
        params: the parameters.
        carry: the state before the first batch, ``()`` for none.
        batches: their leaves have a leading axis.

    Returns:
        ``(carry, mean)``: the state after the last batch, and the mean in float32 or wider; 0 if all counts are 0.

    Raises:
        TypeError, ValueError: the loss returns something else, or its count is not one number.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn
        >>> def loss(params, carry, batch, key):
        ...     errors, lengths = batch
        ...     value = rnn.losses.squared_error(errors, 0 * errors, lengths=lengths)
        ...     return value, (carry, {"count": rnn.losses.count(errors.shape[:-1], lengths=lengths)})
        >>> errors = jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1) * jnp.ones((2, 7, 2, 1))
        >>> _, mean = rnn.learning.mean_loss(loss, None, (), (errors, jnp.array([[1, 2], [6, 0]])))
        >>> round(float(mean), 4)  # three steps of 1, six of 9
        6.3333
    """
    loss = with_carry(loss)

    def body(carry: State, batch: PyTree) -> tuple[State, tuple[Array, Array]]:
        value, (carry, metrics) = loss(params, carry, batch, None)
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.promote_types(jnp.result_type(value), jnp.float32)
        return carry, (jnp.asarray(value, dtype), learning_checks.batch_count(metrics).astype(dtype))

    carry, (values, counts) = jax.lax.scan(body, carry, batches)
    total = counts.sum()
    return carry, jnp.where(counts == 0, 0, counts * values).sum() / jnp.where(total == 0, 1, total)


def average_recurrent_gradient(steps: int) -> optax.GradientTransformation:
    r"""Average the recurrent gradient over the steps of a sequence, not sum it: the first part of an optax chain.

    .. math:: \frac{∂L}{∂w_{hh}} = \frac{1}{n-1} \sum_t \frac{∂L}{∂w_{hh}(t)}

    The derivative is the sum, which every optimizer gets without this transformation. Only the gradients of
    parameters named ``w_hh`` are scaled.

    Args:
        steps: n, the steps of a sequence or chunk, at least 2.

    Raises:
        TypeError, ValueError: ``steps`` is not an int of at least 2.

    Example:
        >>> import jax.numpy as jnp, jaxrnn as rnn, optax
        >>> optimizer = optax.chain(rnn.learning.average_recurrent_gradient(11), optax.sgd(1.0))
        >>> grads = {"w_xh": jnp.ones(1), "w_hh": jnp.ones(1)}
        >>> updates, _ = optimizer.update(grads, optimizer.init(grads))
        >>> {name: round(float(update[0]), 4) for name, update in updates.items()}
        {'w_hh': -0.1, 'w_xh': -1.0}
    """
    checks.size("steps", steps)
    if steps < 2:
        checks.refuse("steps", "at least 2, to divide by steps - 1", steps)

    def scale(path: tuple, update: Array) -> Array:
        names = [getattr(entry, "name", getattr(entry, "key", None)) for entry in path]  # of a named tuple, of a dict
        return update / (steps - 1) if "w_hh" in names else update

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates))
