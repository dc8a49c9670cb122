r"""Trials of neuroscience: tasks that animals and leaky rate networks are trained on, in epochs of milliseconds.

====================== ================================== ============================ ==========================
task                   to be remembered                   a trial's epochs             score without memory
====================== ================================== ============================ ==========================
``decision``           the sum of noisy evidence          fixation, stimulus, response 1/2 of the choices right
``context_decision``   that of one of two, by context     fixation, stimulus, response 1/2 of the choices right
``delayed_comparison`` a frequency                        fixation, first, delay, ...  1/2 of the choices right
``delayed_match``      which stimulus was shown           fixation, sample, delay, ... 1/2 of the choices right
``delayed_response``   a direction                        fixation, cue, delay, ...    squared error 1/2
====================== ================================== ============================ ==========================

Each call draws a new batch of :class:`Trials` from a random key, also inside ``jit``, all in one face: inputs, targets,
a mask of the steps that count, and for each trial its conditions and epochs, by name. Times are in ms, dt is the length
of a step, Δt. The duration of an epoch is a number, or ``(shortest, longest)``, from which each trial draws its own;
the last epoch goes on to the end of the batch.

The first input is the fixation signal: 1 until the response, then 0. Choices are classes: 0, to wait, until the
response, then 1 or 2; the mask leaves out the first step of the response. The noise of an input at a step has the
standard deviation :math:`σ / \sqrt{Δt}`, Δt in seconds: its mean over a second has the deviation σ, whatever Δt is.

Tasks of the package neurogym (``pip install neurogym``) in the same face, padded where trials differ in length::

    def neurogym_trials(name, batch, dt=20, **options):  # such as "DelayComparison-v0"
        environment = gymnasium.make(name, dt=dt, **options).unwrapped
        rows = []
        for _ in range(batch):
            conditions = environment.new_trial()
            epochs = {name: (first, environment.end_ind[name]) for name, first in environment.start_ind.items()}
            rows.append((conditions, epochs, environment.ob, environment.gt, np.ones(len(environment.gt), bool)))
        conditions, epochs, *sequences = zip(*rows)
        inputs, targets, mask = (pad_sequences(s) for s in sequences)
        conditions, epochs = ({name: np.array([row[name] for row in rows]).T for name in rows[0]}
                              for rows in (conditions, epochs))
        return Trials(inputs, targets, mask, conditions, OrderedDict(epochs), dt * np.arange(len(mask)))

    def pad_sequences(rows):
        padded = np.zeros((max(map(len, rows)), len(rows), *rows[0].shape[1:]), rows[0].dtype)
        for n, row in enumerate(rows):
            padded[: len(row), n] = row
        return padded
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.types import Array, exportable

Duration: TypeAlias = float | tuple[float, float]
COHERENCES = (0.0, 0.032, 0.064, 0.128, 0.256, 0.512)


@exportable
class Trials(NamedTuple):
    """A batch of trials."""

    inputs: Array  # [T, B, I]
    targets: Array  # [T, B] classes, or [T, B, q] numbers
    mask: Array  # bool [T, B]: which steps count
    conditions: dict[str, Array]  # by name [B]: what distinguishes the trials
    epochs: OrderedDict[str, Array]  # by name, in order, int [2, B]: the first step, and the one after the last
    times: Array  # [T], in ms, the start of each step

    def during(self, epoch: str) -> Array:
        """Bools ``[T, B]``: the steps in an epoch."""
        checks.one_of("epoch", epoch, self.epochs)
        return _during(self.epochs[epoch], len(self.times))


def decision(
    key: Array,
    batch: int,
    *,
    dt: float = 20.0,
    fixation: Duration = 400.0,
    stimulus: Duration = 1200.0,
    response: Duration = 400.0,
    coherences: tuple[float, ...] = COHERENCES,
    noise: float = 0.15,
) -> Trials:
    r"""Draw trials of a decision between two alternatives: which of two noisy inputs is larger on average?

    .. math:: x_{t,1} = (1 + c) / 2 + σ ξ_{t,1} / \sqrt{Δt}, \qquad x_{t,2} = (1 - c) / 2 + σ ξ_{t,2} / \sqrt{Δt}

    Inputs ``[T, B, 3]``: the fixation signal, and the two inputs above while the stimulus lasts. Targets ``[T, B]``: 0,
    then 1 or 2, the larger one. The coherence c has a random sign and one of the sizes ``coherences``; where it is 0
    the choice is drawn. An ideal observer, which sums the difference of the inputs over the stimulus of s seconds, is
    right with probability :math:`Φ(\sqrt{s} |c| / (\sqrt 2 σ))`. Conditions: ``coherence``, above 0 for choice 1, and
    ``choice``.

    Args:
        key: a random key.
        batch: B, the number of trials.
        dt: Δt, the length of a step in ms.
        fixation, stimulus, response: durations in ms, or pairs of the shortest and the longest.
        coherences: the sizes of c, in [0, 1].
        noise: σ, the standard deviation of the mean of an input over a second.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> trials = rnn.data.trials.decision(jax.random.key(0), batch=64)
        >>> trials.inputs.shape, sorted(trials.conditions), trials.epochs["stimulus"][:, 0].tolist()
        ((100, 64, 3), ['choice', 'coherence'], [20, 80])

    Source: Newsome, Britten & Movshon (1989), "Neuronal correlates of a perceptual decision"; as a task of recurrent
    networks: Song, Yang & Wang (2016), PLOS Computational Biology 12.
    """
    epochs, times = _epochs(key, batch, dt, fixation=fixation, stimulus=stimulus, response=response)
    size_key, sign_key, noise_key = jax.random.split(key, 3)
    c, sign = _coherence(size_key, sign_key, batch, coherences)
    means = jnp.stack([1 + c, 1 - c], -1)[None] / 2
    shown = _during(epochs["stimulus"], len(times))[..., None]
    evidence = jnp.where(shown, means + _noise(noise_key, (len(times), batch, 2), noise, dt), 0)
    choice = jnp.where(sign > 0, 1, 2)
    return _choices(evidence, choice, {"coherence": c, "choice": choice}, epochs, times)


def context_decision(
    key: Array,
    batch: int,
    *,
    dt: float = 20.0,
    fixation: Duration = 400.0,
    stimulus: Duration = 800.0,
    response: Duration = 400.0,
    coherences: tuple[float, ...] = (0.1, 0.2, 0.4),
    noise: float = 0.1,
) -> Trials:
    r"""Draw trials of a decision that depends on context: of two noisy signals one counts, and a cue says which.

    .. math:: x_{t,k} = c_k + σ ξ_{t,k} / \sqrt{Δt}, \qquad k = \text{motion, colour}

    Inputs ``[T, B, 5]``: the fixation signal, motion and colour as above while the stimulus lasts, and the context,
    one-hot, throughout the trial. Targets ``[T, B]``: 0, then 1 or 2, for a relevant coherence above or below 0. The
    signs of the coherences are independent, so whoever confuses the contexts is right in 1/2 of the trials. An ideal
    observer is right with probability :math:`Φ(\sqrt{s} |c| / σ)` after a stimulus of s seconds. Conditions:
    ``motion`` and ``colour``, the coherences, ``context`` (0: motion counts, 1: colour) and ``choice``.

    Args:
        key, batch, dt, fixation, stimulus, response, coherences, noise: see :func:`decision`.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> trials = rnn.data.trials.context_decision(jax.random.key(0), batch=64)
        >>> trials.inputs.shape, sorted(trials.conditions)
        ((80, 64, 5), ['choice', 'colour', 'context', 'motion'])

    Source: Mante, Sussillo, Shenoy & Newsome (2013), "Context-dependent computation by recurrent dynamics in prefrontal
    cortex", Nature 503.
    """
    epochs, times = _epochs(key, batch, dt, fixation=fixation, stimulus=stimulus, response=response)
    size_keys, sign_keys, (noise_key, context_key) = jax.random.split(key, (3, 2))
    (motion, _), (colour, _) = (_coherence(*keys, batch, coherences) for keys in zip(size_keys, sign_keys))
    context = jax.random.randint(context_key, (batch,), 0, 2)
    shown = _during(epochs["stimulus"], len(times))[..., None]
    means = jnp.stack([motion, colour], -1)[None]
    evidence = jnp.where(shown, means + _noise(noise_key, (len(times), batch, 2), noise, dt), 0)
    cue = jnp.broadcast_to(jax.nn.one_hot(context, 2, dtype=evidence.dtype)[None], evidence.shape)
    choice = jnp.where(jnp.where(context == 0, motion, colour) > 0, 1, 2)
    conditions = {"motion": motion, "colour": colour, "context": context, "choice": choice}
    return _choices(jnp.concatenate([evidence, cue], -1), choice, conditions, epochs, times)


def delayed_comparison(
    key: Array,
    batch: int,
    *,
    dt: float = 20.0,
    fixation: Duration = 200.0,
    first: Duration = 500.0,
    delay: Duration = 3000.0,
    second: Duration = 500.0,
    response: Duration = 400.0,
    frequencies: tuple[float, ...] = (10.0, 14.0, 18.0, 22.0, 26.0, 30.0, 34.0),
    difference: float = 8.0,
    noise: float = 0.0,
) -> Trials:
    r"""Draw trials of a comparison across a delay: which of two vibrations had the higher frequency?

    .. math:: x_t = f / f_{max} + σ ξ_t / \sqrt{Δt}

    Inputs ``[T, B, 2]``: the fixation signal, and x in the epochs ``first`` and ``second``, with frequencies that
    differ by ``difference``. Targets ``[T, B]``: 0, then 1 or 2, which was higher. Conditions: ``first`` and
    ``second``, the frequencies, and ``choice``. The second frequency alone decides only at the ends of their range.

    Args:
        key, batch, dt, noise: see :func:`decision`.
        fixation, first, delay, second, response: durations in ms, or pairs of the shortest and the longest.
        frequencies: those of either stimulus, in Hz.
        difference: between the two of a trial, in Hz.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> trials = rnn.data.trials.delayed_comparison(jax.random.key(0), batch=64, delay=(1000, 3000))
        >>> trials.inputs.shape, list(trials.epochs)
        ((230, 64, 2), ['fixation', 'first', 'delay', 'second', 'response'])

    Source: Romo, Brody, Hernández & Lemus (1999), "Neuronal correlates of parametric working memory in the prefrontal
    cortex", Nature 399.
    """
    pairs = [(f, g) for f in frequencies for g in frequencies if abs(abs(f - g) - difference) < 1e-6]
    if not pairs or difference <= 0 or min(frequencies) <= 0:
        checks.refuse("frequencies", f"positive ones, two of them {difference} Hz apart", frequencies)
    epochs, times = _epochs(
        key, batch, dt, fixation=fixation, first=first, delay=delay, second=second, response=response
    )
    pair_key, noise_key = jax.random.split(key)
    f1, f2 = jax.random.choice(pair_key, jnp.array(pairs, float), (batch,)).T
    shown = {name: _during(epochs[name], len(times)) for name in ("first", "second")}
    vibration = jnp.where(shown["first"], f1[None], f2[None]) / max(frequencies)
    vibration = vibration + _noise(noise_key, vibration.shape, noise, dt)
    stimulus = jnp.where(shown["first"] | shown["second"], vibration, 0)[..., None]
    choice = jnp.where(f1 > f2, 1, 2)
    return _choices(stimulus, choice, {"first": f1, "second": f2, "choice": choice}, epochs, times)


def delayed_match(
    key: Array,
    batch: int,
    *,
    dt: float = 20.0,
    fixation: Duration = 200.0,
    sample: Duration = 300.0,
    delay: Duration = 1000.0,
    test: Duration = 300.0,
    response: Duration = 400.0,
    stimuli: int = 4,
    noise: float = 0.0,
) -> Trials:
    """Draw trials of a delayed match to sample: is the second stimulus the same as the first?

    Inputs ``[T, B, 1 + stimuli]``: the fixation signal, and the stimulus, one-hot, in the epochs ``sample`` and
    ``test``. Targets ``[T, B]``: 0, then 1 for a match, which half of the trials are, or 2. Conditions: ``sample`` and
    ``test``, numbers of stimuli from 0, and ``choice``.

    Args:
        key, batch, dt, noise: see :func:`decision`.
        fixation, sample, delay, test, response: durations in ms, or pairs of the shortest and the longest.
        stimuli: the number of different stimuli, at least 2.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> trials = rnn.data.trials.delayed_match(jax.random.key(0), batch=64)
        >>> trials.inputs.shape, trials.during("delay").sum(0)[0].item()
        ((110, 64, 5), 50)

    Source: Miyashita & Chang (1988), "Neuronal correlate of pictorial short-term memory in the primate temporal
    cortex", Nature 331; Miller, Erickson & Desimone (1996), Journal of Neuroscience 16.
    """
    checks.size("stimuli", stimuli)
    if stimuli < 2:
        checks.refuse("stimuli", "at least 2, a match and another", stimuli)
    epochs, times = _epochs(key, batch, dt, fixation=fixation, sample=sample, delay=delay, test=test, response=response)
    sample_key, match_key, other_key, noise_key = jax.random.split(key, 4)
    shown_first = jax.random.randint(sample_key, (batch,), 0, stimuli)
    match = jax.random.bernoulli(match_key, 0.5, (batch,))
    other = (shown_first + jax.random.randint(other_key, (batch,), 1, stimuli)) % stimuli
    shown_second = jnp.where(match, shown_first, other)
    in_sample, in_test = (_during(epochs[name], len(times))[..., None] for name in ("sample", "test"))
    one, two = (jax.nn.one_hot(shown, stimuli, dtype=float)[None] for shown in (shown_first, shown_second))
    picture = jnp.where(in_sample, one, two) + _noise(noise_key, (len(times), batch, stimuli), noise, dt)
    choice = jnp.where(match, 1, 2)
    conditions = {"sample": shown_first, "test": shown_second, "choice": choice}
    return _choices(jnp.where(in_sample | in_test, picture, 0), choice, conditions, epochs, times)


def delayed_response(
    key: Array,
    batch: int,
    *,
    dt: float = 20.0,
    fixation: Duration = 200.0,
    cue: Duration = 300.0,
    delay: Duration = 1000.0,
    response: Duration = 400.0,
    directions: int = 8,
    noise: float = 0.0,
) -> Trials:
    r"""Draw trials of a delayed response: point to where a cue was, when the fixation signal has gone.

    .. math:: x_t = (\cos θ, \sin θ) + σ ξ_t / \sqrt{Δt}, \qquad y_t = (\cos θ, \sin θ)

    Inputs ``[T, B, 3]``: the fixation signal, and x while the cue lasts. Targets ``[T, B, 2]``: 0, then y. Conditions:
    ``direction``, a number from 0, and ``angle``, θ = 2 π direction / ``directions``. The constant prediction 0 has the
    squared error 1/2 in the response.

    Args:
        key, batch, dt, noise: see :func:`decision`.
        fixation, cue, delay, response: durations in ms, or pairs of the shortest and the longest.
        directions: the number of directions.

    Example:
        >>> import jax, jaxrnn as rnn
        >>> trials = rnn.data.trials.delayed_response(jax.random.key(0), batch=64)
        >>> trials.inputs.shape, trials.targets.shape
        ((95, 64, 3), (95, 64, 2))

    Source: Funahashi, Bruce & Goldman-Rakic (1989), "Mnemonic coding of visual space in the monkey's dorsolateral
    prefrontal cortex", Journal of Neurophysiology 61.
    """
    checks.size("directions", directions)
    epochs, times = _epochs(key, batch, dt, fixation=fixation, cue=cue, delay=delay, response=response)
    direction_key, noise_key = jax.random.split(key)
    direction = jax.random.randint(direction_key, (batch,), 0, directions)
    angle = 2 * math.pi / directions * direction.astype(float)
    place = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)[None]
    shown = _during(epochs["cue"], len(times))[..., None]
    stimulus = jnp.where(shown, place + _noise(noise_key, (len(times), batch, 2), noise, dt), 0)
    conditions = {"direction": direction, "angle": angle}
    responds = _during(epochs["response"], len(times))[..., None]
    trials = _choices(stimulus, jnp.zeros_like(direction), conditions, epochs, times)
    return trials._replace(targets=jnp.where(responds, place, 0))


# ---- what the tasks share ----


def _epochs(key: Array, batch: int, dt: float, **durations: Duration) -> tuple[OrderedDict[str, Array], Array]:
    """First step and step after the last of each epoch, int ``[2, B]``, and the times ``[T]`` of the steps."""
    checks.required("key", key, "jax.random.key(0) makes one")
    checks.random_key("key", key)
    checks.size("batch", batch)
    checks.number("dt", dt)
    if dt <= 0:
        checks.refuse("dt", "a number of ms above 0", dt)
    epochs: OrderedDict[str, Array] = OrderedDict()  # whose order jit keeps
    end, steps = jnp.zeros(batch, int), 0
    for n, (name, duration) in enumerate(durations.items()):
        shortest, longest = _steps(name, duration, dt)
        drawn = jax.random.randint(jax.random.fold_in(key, n), (batch,), shortest, longest + 1)
        epochs[name] = jnp.stack([end, end + drawn])
        end, steps = end + drawn, steps + longest
    epochs[name] = epochs[name].at[1].set(steps)  # the last one fills up the rest
    return epochs, dt * jnp.arange(steps, dtype=float)


def _steps(name: str, duration: Duration, dt: float) -> tuple[int, int]:
    """The shortest and the longest duration in steps, at least 1."""
    pair = duration if isinstance(duration, tuple) else (duration, duration)
    if len(pair) != 2:
        checks.refuse(name, "ms, or (shortest, longest)", duration)
    for value in pair:
        checks.number(name, value)
    if not dt <= pair[0] <= pair[1]:
        checks.refuse(name, f"ms, at least a step of {dt}, or (shortest, longest)", duration)
    return round(pair[0] / dt), round(pair[1] / dt)


def _during(epoch: Array, steps: int) -> Array:
    """Bools ``[T, B]``: the steps in an epoch."""
    time = jnp.arange(steps)[:, None]
    return (time >= epoch[0][None]) & (time < epoch[1][None])


def _coherence(size_key: Array, sign_key: Array, batch: int, coherences: tuple[float, ...]) -> tuple[Array, Array]:
    """Coherences ``[B]`` of random sizes and signs, and the signs."""
    if not coherences or not all(0 <= c <= 1 for c in coherences):
        checks.refuse("coherences", "numbers in [0, 1]", coherences)
    sign = jax.random.rademacher(sign_key, (batch,)).astype(float)
    return sign * jax.random.choice(size_key, jnp.array(coherences, float), (batch,)), sign


def _noise(key: Array, shape: tuple[int, ...], noise: float, dt: float) -> Array:
    """White noise in steps of dt ms, whose mean over a second has the standard deviation ``noise``."""
    checks.number("noise", noise)
    if noise < 0:
        checks.refuse("noise", "a number of at least 0", noise, "it is a standard deviation")
    return noise / (dt / 1000) ** 0.5 * jax.random.normal(key, shape)


def _choices(
    stimuli: Array, choice: Array, conditions: dict[str, Array], epochs: OrderedDict[str, Array], times: Array
) -> Trials:
    """Trials with the fixation signal before the stimuli ``[T, B, ...]``, and a choice in the response."""
    responds = _during(epochs["response"], len(times))
    inputs = jnp.concatenate([(~responds)[..., None].astype(stimuli.dtype), stimuli], -1)
    counts = jnp.arange(len(times))[:, None] != epochs["response"][:1]
    return Trials(inputs, jnp.where(responds, choice[None], 0), counts, conditions, epochs, times)
