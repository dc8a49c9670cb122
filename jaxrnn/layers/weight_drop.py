"""Dropout of words, and of weights: wrappers that act in training, where there is a key."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import checks
from jaxrnn.constructor import hyperparameters
from jaxrnn.layers.clock import Clock, ClockedWrapper, ClockState, clocks, over_axes, row_keys, split
from jaxrnn.layers.pointwise import Embedding
from jaxrnn.layers.wrappers import Wrapper
from jaxrnn.types import Array, Params, PyTree, ScanOptions, State
from jaxrnn.unroll import one_step, over_time


@hyperparameters
class WordDropout(ClockedWrapper):
    r"""An embedding that drops words: each type of word with one probability, for a whole sequence.

    .. math:: y_t = m_{x_t} \, w_{x_t}

    where m of a word is 0 with probability ``rate`` and otherwise ``1 / (1 - rate)``; all its occurrences in a sequence
    are dropped together. Its mask is drawn from the key of the sequence, folded with the id. Without a key it is the
    embedding.

    Args:
        embedding: an :class:`~jaxrnn.Embedding`.
        rate: the probability that a word is dropped, in [0, 1).

    Raises:
        TypeError, ValueError: it is not an Embedding; the rate is out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.Stack(rnn.WordDropout(rnn.Embedding(65, 8), 0.1), rnn.LSTM(8, 16), rnn.Linear(16, 65))
        >>> params = model.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(model, params, jnp.zeros((7, 2), int), key=jax.random.key(1))
        >>> ys.shape
        (7, 2, 65)

    Source: Gal & Ghahramani (2016), "A theoretically grounded application of dropout in recurrent neural networks".
    """

    embedding: Embedding
    rate: float

    def __post_init__(self) -> None:
        checks.instance("embedding", self.embedding, Embedding, "VariationalDropout drops features of vectors")
        checks.fraction("rate", self.rate)

    @property
    def cell(self) -> Embedding:
        return self.embedding

    def step(
        self, params: Params, state: ClockState, x: Array, *, key: Array | None = None
    ) -> tuple[ClockState, Array]:
        """One step; with the key of an unroll it drops the words that it does."""
        new, y = super().step(params, state, x)
        return new, self._drop(key, Clock(state[1], state[2], jnp.shape(x)), x, y)

    def over_time(
        self, params: Params, state: ClockState, xs: Array, options: ScanOptions, key: Array | None
    ) -> tuple[ClockState, Array, PyTree | None]:
        final, ys, states = super().over_time(params, state, xs, options, None)
        return final, self._drop(key, clocks(state, options, xs.shape[0])[0], xs, ys), states

    def _drop(self, key: Array | None, clock: Clock, x: Array, y: Array) -> Array:
        if key is None or self.rate == 0:
            return y
        start = clock.start + jnp.zeros_like(x, jnp.int32)  # of each id, split over devices as the ids are
        keys = row_keys(split(key)[0], start, clock.batch)
        fold_in, bernoulli = jax.random.fold_in, jax.random.bernoulli
        dropped = over_axes(x.ndim, lambda key, word: bernoulli(fold_in(key, word), self.rate))(keys, x)
        return jnp.where(dropped[..., None], 0, y / (1 - self.rate))


@hyperparameters
class WeightDrop(Wrapper):
    r"""A layer some of whose weights are dropped: DropConnect of the recurrent weights, one mask for a whole unroll.

    .. math:: (s_t, y_t) = \mathrm{step}(θ \text{ with } w_{hh} ⊙ m, \; s_{t-1}, x_t)

    where m is 0 with probability ``rate`` and otherwise ``1 / (1 - rate)``, the same for all steps and all sequences of
    the batch, and for all unrolls with the same key. Parameters and state are those of the layer, and so is the
    derivative rule. Without a key it is the layer.

    Args:
        layer: a cell, or a layer with the parameters of one.
        rate: the probability that a weight is dropped, in [0, 1).
        names: the parameters that are dropped: fields of its named tuple, or keys of its dict.

    Raises:
        TypeError, ValueError: the layer has no array of that name; the rate is out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn as rnn
        >>> model = rnn.WeightDrop(rnn.LSTM(3, 5), 0.5)
        >>> params = model.init(jax.random.key(0))
        >>> final, ys = rnn.unroll(model, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))
        >>> ys.shape
        (7, 2, 5)

    Source: Merity, Keskar & Socher (2018), "Regularizing and optimizing LSTM language models"; DropConnect: Wan et al.
    (2013).
    """

    layer: Any
    rate: float
    _: dataclasses.KW_ONLY
    names: tuple[str, ...] = ("w_hh",)

    def __post_init__(self) -> None:
        checks.layer("layer", self.layer)
        checks.fraction("rate", self.rate)
        params = by_name(jax.eval_shape(self.layer.init, jax.random.key(0)))
        known = [name for name, p in params.items() if hasattr(p, "shape")]
        if not known:
            checks.refuse("layer", "a cell with named parameters", repr(self.layer), "wrap each cell in it", TypeError)
        checks.instance("names", self.names, tuple, 'a tuple of names, such as ("w_hh",)')
        if not self.names:
            checks.refuse("names", "one parameter at least", "none", f"of {', '.join(known)}")
        for name in self.names:
            if name not in known:
                checks.refuse("names", f"some of {', '.join(map(repr, known))}", repr(name),
                              f'names=("{known[0]}",) drops another; a layer around a cell: wrap the cell')  # fmt: skip

    @property
    def adapted(self) -> Any:
        return self.layer

    def step(self, params: Params, state: State, x: PyTree, *, key: Array | None = None) -> tuple[State, PyTree]:
        """One step; with the key of an unroll it has the weights of it."""
        params, key = self._drop(params, key)
        return one_step(self.layer, params, state, x, key)

    def over_time(
        self, params: Params, state: State, xs: PyTree, options: ScanOptions, key: Array | None
    ) -> tuple[State, PyTree, PyTree | None]:
        params, key = self._drop(params, key)
        return over_time(self.layer, params, state, xs, options, key)

    def _drop(self, params: Params, key: Array | None) -> tuple[Params, Array | None]:
        """The parameters with masks, and the key of the layer."""
        mask_key, layer_key = split(key)
        if key is None or self.rate == 0:
            return params, layer_key
        keys = jax.random.split(mask_key, len(self.names))
        weights = {name: by_name(params)[name] for name in self.names}
        dropped = {
            name: jnp.where(jax.random.bernoulli(key, self.rate, w.shape), 0, w / (1 - self.rate))
            for key, (name, w) in zip(keys, weights.items(), strict=True)
        }
        return params | dropped if isinstance(params, dict) else params._replace(**dropped), layer_key


def by_name(params: Params) -> dict[str, Array]:
    """The parameters in a named tuple or a dict, by name; none in anything else."""
    return params if isinstance(params, dict) else getattr(params, "_asdict", dict)()
