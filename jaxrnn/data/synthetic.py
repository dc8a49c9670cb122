"""Synthetic benchmark tasks: each call draws a new batch from a random key, also inside ``jit``.

================== ============================== ================================ ===========================
task               to be remembered               kind of problem                  score without memory
================== ============================== ================================ ===========================
``adding``         two numbers                    many to one, a number            squared error 1/6
``temporal_order`` two symbols and their order    many to one, 4 classes           accuracy 1/4, log 4 nats
``copying``        a string                       aligned, a symbol per step       accuracy 1/8, log 8 nats
``sine``           period and phase of a wave     aligned, a number per step       squared error 1/2
``flip_flop``      the sign of the last pulse     aligned, ± 1 in each channel     squared error below 1
``dyck``           the innermost open bracket     aligned, a bracket kind per step accuracy 1/k, log k nats
================== ============================== ================================ ===========================

Sizes are Python ints: ``jax.jit(adding, static_argnums=(1, 2))``, or a function that closes over them. Tasks of
neuroscience, in epochs of milliseconds: :mod:`jaxrnn.data.trials`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.types import Array


class Batch(NamedTuple):
    """Sequences with one target each."""

    inputs: Array  # [T, B, I]
    targets: Array  # [B, q] numbers, or [B] classes


class Aligned(NamedTuple):
    """Sequences with a target for each step; the mask selects the steps that count."""

    inputs: Array  # [T, B, I], or [T, B] ids
    targets: Array  # [T, B, q] numbers, or [T, B] classes
    mask: Array  # bool [T, B]: which steps count


def adding(key: Array, batch: int, steps: int) -> Batch:
    r"""Draw a batch of the adding problem: the target is the sum of the two marked numbers.

    Inputs ``[T, B, 2]``: a number uniform on [0, 1), and a mark, 1 at two steps of the sequence and 0 elsewhere.
    Targets ``[B, 1]``: the sum of the two marked numbers. The constant prediction 1, the mean, has the squared error
    :math:`2/12 = 1/6`.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> inputs, targets = rnn.data.synthetic.adding(jax.random.key(0), batch=4, steps=50)
        >>> inputs.shape, targets.shape
        ((50, 4, 2), (4, 1))

    Source: Hochreiter & Schmidhuber (1997), Neural Computation 9; with marks at any two steps: Bai, Kolter &
    Koltun (2018).
    """
    _check(key, batch=batch, steps=steps)
    if steps < 2:
        checks.refuse("steps", "at least 2, for two marks", steps)
    value_key, mark_key = jax.random.split(key)
    values = jax.random.uniform(value_key, (steps, batch))
    order = jnp.argsort(jax.random.uniform(mark_key, (steps, batch)), axis=0)
    marks = (order < 2).astype(values.dtype)  # ranks 0 and 1 are at two steps drawn without replacement
    return Batch(jnp.stack([values, marks], -1), (values * marks).sum(0)[:, None])


def temporal_order(key: Array, batch: int, steps: int) -> Batch:
    """Draw a batch of the temporal order problem: classify the two marked symbols and their order.

    Inputs ``[T, B, 6]``, one-hot: A or B (0, 1) at one step in [0.1 T, 0.2 T) and at one in [0.5 T, 0.6 T), and c, d,
    e or f (2 to 5) elsewhere. Targets ``[B]``: AA, AB, BA or BB (0 to 3). Guessing has the accuracy 1/4.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> inputs, targets = rnn.data.synthetic.temporal_order(jax.random.key(0), batch=4, steps=50)
        >>> inputs.shape, targets.shape
        ((50, 4, 6), (4,))

    Source: Hochreiter & Schmidhuber (1997), task 6a, in the form of Pascanu, Mikolov & Bengio (2013).
    """
    _check(key, batch=batch, steps=steps)
    tenth = steps // 10
    if not tenth:
        checks.refuse("steps", "at least 10, for two tenths to hold a mark", steps)
    keys = jax.random.split(key, 3)
    mark_steps = jnp.array([[tenth], [5 * tenth]]) + jax.random.randint(keys[0], (2, batch), 0, tenth)
    marks = jax.random.randint(keys[1], (2, batch), 0, 2)
    symbols = jax.random.randint(keys[2], (steps, batch), 2, 6)
    symbols = symbols.at[mark_steps, jnp.arange(batch)].set(marks)
    return Batch(jax.nn.one_hot(symbols, 6), 2 * marks[0] + marks[1])


def copying(key: Array, batch: int, steps: int, *, symbols: int = 8, length: int = 10) -> Aligned:
    """Draw a batch of the copying problem: repeat a string after a delay.

    Inputs ``[T, B]`` ids: ``length`` symbols (1 to ``symbols``), blanks (0), the start signal (``symbols + 1``), and
    blanks again while the string is to be repeated. The start signal comes ``steps`` steps after the last symbol of
    the string, and T is ``steps + 2 · length``. Targets ``[T, B]``: blanks, then the string; the mask selects the
    steps of the string. Without memory the accuracy is 1 / ``symbols``, the loss log ``symbols`` nats.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> task = rnn.data.synthetic.copying(jax.random.key(0), batch=1, steps=4, length=3)
        >>> task.inputs[:, 0].tolist(), task.targets[:, 0].tolist()
        ([6, 1, 1, 0, 0, 0, 9, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 6, 1, 1])

    Source: Hochreiter & Schmidhuber (1997), in the form of Arjovsky, Shah & Bengio (2016), "Unitary evolution
    recurrent neural networks".
    """
    _check(key, batch=batch, steps=steps, symbols=symbols, length=length)
    string = jax.random.randint(key, (length, batch), 1, symbols + 1)
    inputs = jnp.zeros((steps + 2 * length, batch), string.dtype)
    targets, counts = inputs.at[-length:].set(string), jnp.arange(len(inputs)) >= steps + length
    inputs = inputs.at[:length].set(string).at[length + steps - 1].set(symbols + 1)
    return Aligned(inputs, targets, jnp.broadcast_to(counts[:, None], inputs.shape))


def sine(key: Array, batch: int, steps: int, *, shortest: float = 10.0, longest: float = 50.0) -> Aligned:
    r"""Draw a batch of sine waves: predict the next value.

    .. math:: x_t = \sin(ω t + φ), \qquad x_{t+1} = 2 \cos(ω) \, x_t - x_{t-1}

    Inputs and targets ``[T, B, 1]``: the wave, and the same one step later. Each wave has a phase uniform on the circle
    and a period uniform between ``shortest`` and ``longest`` steps. The mask excludes the first two steps, from which
    the rest follows exactly. The constant prediction 0 has the squared error 1/2.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> rnn.data.synthetic.sine(jax.random.key(0), batch=4, steps=50).inputs.shape
        (50, 4, 1)

    Source: Yule (1927), "On a method of investigating periodicities in disturbed series", for the recurrence.
    """
    _check(key, batch=batch, steps=steps)
    checks.number("shortest", shortest)
    checks.number("longest", longest)
    if not 2 < shortest <= longest:
        checks.refuse("shortest", f"a period above 2 steps, at most longest = {longest}", shortest)
    period_key, phase_key = jax.random.split(key)
    period = jax.random.uniform(period_key, (batch,), minval=shortest, maxval=longest)
    phase = jax.random.uniform(phase_key, (batch,), maxval=2 * jnp.pi)
    times = jnp.arange(steps + 1.0)[:, None]
    wave = jnp.sin(2 * jnp.pi * times / period[None] + phase[None])[..., None]
    counts = jnp.broadcast_to(jnp.arange(steps)[:, None] >= 2, (steps, batch))
    return Aligned(wave[:-1], wave[1:], counts)


def flip_flop(key: Array, batch: int, steps: int, *, channels: int = 3, rate: float = 0.1) -> Aligned:
    r"""Draw a batch of the flip-flop problem: output the sign of the last pulse, in several channels at once.

    Inputs ``[T, B, channels]``: a pulse +1 or -1 with probability ``rate`` at each step, else 0. Targets of the same
    shape: the last pulse so far, 0 before the first. The constant prediction 0 has the squared error
    :math:`1 - \frac{1}{T} \sum_{t=1}^{T} (1 - \mathrm{rate})^t`; repeating the input has that minus ``rate``.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> task = rnn.data.synthetic.flip_flop(jax.random.key(0), batch=4, steps=50)
        >>> task.inputs.shape, task.targets.shape
        ((50, 4, 3), (50, 4, 3))

    Source: Sussillo & Barak (2013), "Opening the black box", Neural Computation 25.
    """
    _check(key, batch=batch, steps=steps, channels=channels)
    checks.fraction("rate", rate, "the probability of a pulse")
    pulse_key, sign_key = jax.random.split(key)
    shape = (steps, batch, channels)
    pulses = jnp.where(jax.random.bernoulli(pulse_key, rate, shape), jax.random.rademacher(sign_key, shape), 0)
    time = jnp.arange(steps).reshape(-1, 1, 1)
    latest = jax.lax.cummax(jnp.where(pulses != 0, time, -1), axis=0)  # step of the last pulse, -1: none yet
    held = jnp.take_along_axis(
        pulses, jnp.maximum(latest, 0), axis=0
    )  # before the first pulse the input at step 0 is 0
    return Aligned(pulses.astype(float), held.astype(float), jnp.ones(shape[:-1], bool))


def dyck(key: Array, batch: int, steps: int, *, kinds: int = 2, depth: int = 4) -> Aligned:
    """Draw a batch of balanced brackets: output the kind of the innermost open one.

    Inputs ``[T, B]`` ids: words of balanced brackets, at most ``depth`` of them open at a time; ``j < kinds`` opens a
    bracket of kind j, ``kinds + j`` closes it. Where a bracket may open and one may close, either comes with
    probability 1/2; kinds are uniform. Targets ``[T, B]``: the kind of the innermost bracket that is open after the
    step, ``kinds`` if none is. The mask selects the steps that close a bracket within another, where the input does not
    determine the target: guessing has the accuracy 1 / ``kinds``.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> task = rnn.data.synthetic.dyck(jax.random.key(1), batch=1, steps=10)
        >>> "".join("([)]"[i] for i in task.inputs[:, 0])
        '(()([])[])'

    Source: Chomsky & Schützenberger (1963); bounded depth: Hewitt et al. (2020), "RNNs can generate bounded
    hierarchical languages with optimal memory".
    """
    _check(key, batch=batch, steps=steps, kinds=kinds, depth=depth)
    if steps % 2:
        checks.refuse("steps", "an even number, as brackets come in pairs", steps)
    coin_key, kind_key = jax.random.split(key)
    coins = jax.random.bernoulli(coin_key, 0.5, (steps, batch))
    drawn = jax.random.randint(kind_key, (steps, batch), 0, kinds)
    left = jnp.arange(steps - 1, -1, -1)  # steps after this one

    def step(state: tuple[Array, Array], inputs: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], tuple]:
        stack, open_ = state  # kinds [B, depth + 1], number of open brackets [B]
        coin, kind, left = inputs
        opens = (open_ == 0) | (coin & (open_ < depth) & (open_ < left))
        rows = jnp.arange(batch)
        closed = stack[rows, open_ - 1]
        stack = stack.at[rows, open_].set(jnp.where(opens, kind, stack[rows, open_]))
        open_ = jnp.where(opens, open_ + 1, open_ - 1)
        top = jnp.where(open_ > 0, stack[rows, open_ - 1], kinds)
        return (stack, open_), (jnp.where(opens, kind, kinds + closed), top, ~opens & (open_ > 0))

    start = jnp.zeros((batch, depth + 1), drawn.dtype), jnp.zeros(batch, drawn.dtype)
    _, (words, tops, counts) = jax.lax.scan(step, start, (coins, drawn, left))
    return Aligned(words, tops, counts)


def _check(key: Array, **sizes: int) -> None:
    checks.required("key", key, "jax.random.key(0) makes one")
    checks.random_key("key", key)
    for name, value in sizes.items():
        checks.size(name, value)
