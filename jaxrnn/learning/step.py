"""The train step: a pure function of (state, batch, key), made of a loss and an optax optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxrnn import checks
from jaxrnn.learning import checks as learning_checks
from jaxrnn.learning.update import in_training, measured, update
from jaxrnn.precision import widen
from jaxrnn.types import Array, Params, PyTree, State, exportable

Loss: TypeAlias = Callable[[Params, State, PyTree, Array | None], tuple[Array, tuple[State, dict[str, Array]]]]
Metrics: TypeAlias = dict[str, Array]
Step: TypeAlias = Callable[["TrainState", PyTree, Array], tuple["TrainState", Metrics]]


@exportable
class TrainState(NamedTuple):
    """All that a run carries from step to step, as one pytree."""

    params: Params
    opt_state: PyTree
    carry: State  # the recurrent state after the last batch, () where batches do not follow one another
    step: Array  # int32: batches seen, the ones skipped included; also the position in the data
    skipped: Array  # int32: batches whose loss or gradient was not finite
    skipped_in_a_row: Array  # int32: of these, the ones since the last good batch


def train_state(params: Params, optimizer: optax.GradientTransformation, carry: State = ()) -> TrainState:
    """Return the state before the first step.

    The optimizer's state is that of parameters in float32, where they have 16 bits: moments and the smallest changes
    would be lost in themselves.
    """
    learning_checks.optimizer("optimizer", optimizer)
    state = TrainState(params, optimizer.init(widen(params)), carry, *(jnp.zeros((), jnp.int32) for _ in range(3)))
    return jax.tree.map(jnp.copy, state)  # arrays of its own, each once, so that the state may be donated


def train_step(loss: Loss, optimizer: optax.GradientTransformation) -> Step:
    r"""Make the function of one optimizer step.

    .. math:: θ ← θ + \mathrm{update}(∇_θ L(θ))

    Clipping and schedules belong to the optimizer, for instance
    ``optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))``. A batch whose loss or gradient is not finite
    leaves everything as it was and is counted.

    The optimizer works in float32 at least: it is given the gradient and the parameters of a model in bfloat16 or
    float16 in float32, so that no norm and no second moment overflows; the parameters keep their dtype. A gradient
    whose square is beyond float32 is scaled down to one whose square is not, in its direction.

    What a transformation asks for further it gets, also inside of ``optax.chain``: ``value`` and ``grad``, the loss
    and its gradient (``optax.contrib.reduce_on_plateau``, ``optax.polyak_sgd``, ``optax.contrib.momo``), and
    ``value_fn``, the loss on this batch as a function of the parameters (``optax.lbfgs`` and its line searches, which
    run the model several times a step; ``optax.contrib.sophia`` and ``sam`` in its opaque mode). What wants anything
    else is refused, with what it wants.

    Some optimizers train other parameters than those to be used; ``fit`` evaluates and saves what is trained. For the
    schedule-free ones ``optax.contrib.schedule_free_eval_params(state.opt_state, state.params)`` gives those to be
    used. ``optax.lookahead`` trains ``optax.LookaheadParams.init_synced(params)``: the loss is given ``fast``;
    ``slow`` are to be used, and ``load_model`` returns them.

    Args:
        loss: ``loss(params, carry, batch, key) -> (value, (carry, metrics))``: the number to be made small, the
            recurrent state to start the next batch with (``()`` for none), and further numbers to report (``{}``);
            ``"count"`` among them says how much the batch weighs in :func:`mean_loss`.
        optimizer: any of optax, that of :func:`train_state`.

    Returns:
        ``step(state, batch, key) -> (state, metrics)``, pure. The metrics hold ``loss``, ``grad_norm`` (global, before
        clipping), ``finite`` and what the loss reports.

    Raises:
        TypeError, ValueError: the optimizer needs what cannot be given, such as a gradient for each sequence
            (``optax.contrib.dpsgd``), or the state is that of another one; says what it wanted.

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
        (1, ['finite', 'grad_norm', 'loss'])
    """
    learning_checks.optimizer("optimizer", optimizer)

    def step(state: TrainState, batch: PyTree, key: Array) -> tuple[TrainState, Metrics]:
        gradient = jax.value_and_grad(lambda *told: learning_checks.loss_result(loss(*told)), has_aux=True)
        (value, (carry, reported)), grads = gradient(in_training(state.params), state.carry, batch, key)

        def value_fn(params: Params) -> Array:
            return loss(in_training(params), state.carry, batch, key)[0]

        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes; the loss keeps the user's own setting
            grads, norm, finite = measured(widen(grads))
            params, opt_state = update(optimizer, grads, state.opt_state, state.params, value, value_fn)
        finite = jnp.isfinite(value) & finite

        def kept(new: PyTree, old: PyTree) -> PyTree:
            return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

        after = TrainState(
            params=kept(params, state.params),
            opt_state=kept(opt_state, state.opt_state),
            carry=kept(checks.next_carry(state.carry, carry), state.carry),
            step=state.step + 1,
            skipped=state.skipped + jnp.where(finite, 0, 1),
            skipped_in_a_row=jnp.where(finite, 0, state.skipped_in_a_row + 1),
        )
        return after, {"loss": value, "grad_norm": norm, "finite": finite, **reported}

    return step


def scan_steps(step: Step) -> Step:
    """Make one function of several steps: batches have a leading axis K, and so have the metrics.

    The key of each step is ``jax.random.fold_in(key, state.step)``, so that a run does not depend on how its steps are
    grouped.
    """

    def steps(state: TrainState, batches: PyTree, key: Array) -> tuple[TrainState, Metrics]:
        def body(state: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
            return step(state, batch, jax.random.fold_in(key, state.step))

        return jax.lax.scan(body, state, batches)

    return steps


def mean_loss(loss: Loss, params: Params, carry: State, batches: PyTree) -> tuple[State, Array]:
    r"""The mean of a loss over batches with a leading axis, the state carried from one to the next, without dropout.

    .. math:: L = \frac{\sum_i n_i L_i}{\sum_i n_i}

    A loss says how much its batch weighs by reporting ``"count"``, the n_i steps or sequences that it is the mean over:
    see :func:`jaxrnn.losses.count`. Then every step weighs the same, in whatever batch it is. Without it every batch
    weighs the same, which is right where all are equally full. A batch that counts nothing is passed over.

    Args:
        loss: see :func:`train_step`; its key is None.
        params: the parameters.
        carry: the state before the first batch, ``()`` for none.
        batches: their leaves have a leading axis.

    Returns:
        ``(carry, mean)``: the state after the last batch, and the mean in float32 or better; 0 where nothing counts.

    Raises:
        TypeError, ValueError: the loss gives back something else, or its count is no number.

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

    def body(carry: State, batch: PyTree) -> tuple[State, tuple[Array, Array]]:
        value, (carry, reported) = learning_checks.loss_result(loss(params, carry, batch, None))
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.promote_types(jnp.result_type(value), jnp.float32)
        return carry, (jnp.asarray(value, dtype), learning_checks.batch_count(reported).astype(dtype))

    carry, (values, counts) = jax.lax.scan(body, carry, batches)
    total = counts.sum()
    return carry, jnp.where(counts == 0, 0, counts * values).sum() / jnp.where(total == 0, 1, total)


def average_recurrent_gradient(steps: int) -> optax.GradientTransformation:
    r"""The averaged form of the recurrent gradient, as a part of an optax chain; put it first.

    .. math:: \frac{∂L}{∂w_{hh}} = \frac{1}{n-1} \sum_t \frac{∂L}{∂w_{hh}(t)}

    The derivative is the sum, which is what every optimizer gets without this; the chapter also gives the mean.

    Args:
        steps: n, the steps of a sequence or chunk, at least 2.

    Raises:
        TypeError, ValueError: ``steps`` is no int of at least 2.
    """
    checks.size("steps", steps)
    if steps < 2:
        checks.refuse("steps", "at least 2, to divide by steps - 1", steps)

    def scale(path: tuple, update: Array) -> Array:
        names = [getattr(entry, "name", getattr(entry, "key", None)) for entry in path]  # of a field, of a dict
        return update / (steps - 1) if "w_hh" in names else update

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates))
