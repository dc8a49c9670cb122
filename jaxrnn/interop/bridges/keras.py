"""A model of jaxrnn as a layer of Keras, on the JAX backend."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import keras

from jaxrnn import checks
from jaxrnn.interop.keras.tables import prefix_lengths
from jaxrnn.layers.bidirectional import sees_future
from jaxrnn.rebuild import class_modules, constructor_call, model_of_call
from jaxrnn.tasks.pooling import last
from jaxrnn.types import Array, Params, PyTree, State, input_ndim
from jaxrnn.unroll import unroll


@keras.saving.register_keras_serializable(package="jaxrnn")
class Layer(keras.layers.Layer):
    """A cell or layer of jaxrnn, a user's own included, as a recurrent layer of Keras.

    The weights are variables of Keras, named by their path in the parameters (``0.w_xh``), in optimizers, summaries
    and files. As in Keras inputs are batch-first, and ``training`` switches dropout. A mask, of Masking or
    ``mask_zero``, must leave out the end of sequences only; the outputs there are 0.

    Args:
        model: a cell or layer. A file holds it as its constructor call, so the module of a class or function of your
            own must be importable when it is loaded.
        params: its parameters, in its own structure; by default those of ``model.init``.
        return_sequences: whether the output is that of all steps, or, as in Keras by default, the last one.
        return_state: whether the final state follows: ``(y, *states)``, the arrays of the state of jaxrnn in order,
            such as h and c of an LSTM.
        seed: an int, of initial weights and dropout.
        **options: ``name``, ``trainable`` and ``dtype`` of a layer of Keras.

    Call arguments:
        sequences: ``[B, T, I]``, or token ids ``[B, T]`` as integers.
        initial_state: the list of arrays that ``return_state=True`` returns.
        mask: bools ``[B, T]``; Keras passes it on.
        training: whether dropout acts.

    Raises:
        TypeError, ValueError: the model is not a cell or layer, or the parameters are not its; a call has a mask that
            is no prefix, or another state; the last output of a model that sees the future does not go with states.

    Example:
        .. code-block:: python

            model = rnn.Stack(rnn.Bidirectional(rnn.LSTM(8, 16)), rnn.Dropout(0.5), rnn.GRU(32, 16))
            module = keras.Sequential([keras.Input((None, 8)), rnn.interop.keras.Layer(model), keras.layers.Dense(3)])
            module.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            module.fit(xs, labels)  # xs: [B, T, 8]
            params = module.layers[0].params  # of jaxrnn
            module.save("module.keras")  # to load it, use rnn.interop.keras.Layer before
    """

    def __init__(
        self,
        model: Any,
        *,
        params: Params | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        checks.layer("model", model)
        checks.flag("return_sequences", return_sequences)
        checks.flag("return_state", return_state)
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        if params is not None:
            params = checks.parameters(model, params)
            shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, params))
        named, structure = jax.tree_util.tree_flatten_with_path(shapes)
        floating = [leaf.dtype.name for _, leaf in named if jnp.issubdtype(leaf.dtype, jnp.floating)]
        super().__init__(**({"dtype": floating[0] if floating else None} | options))
        self.model, self.return_sequences, self.return_state = model, return_sequences, return_state
        self._structure, self.supports_masking = structure, True
        if return_state:
            self._check_last_output("return_state")
        self.seed_generator = keras.random.SeedGenerator(seed)
        if params is None:
            params = model.init(jax.random.wrap_key_data(self.seed_generator.next(), impl="threefry2x32"))
        self._leaves = [
            self.add_weight(
                name=jax.tree_util.keystr(path, simple=True, separator=".") or "params",
                shape=leaf.shape,
                dtype=leaf.dtype.name,
                initializer=lambda shape, dtype, value=value: jnp.array(value),  # a copy: fit donates the arrays
                trainable=jnp.issubdtype(leaf.dtype, jnp.floating),
            )
            for (path, leaf), value in zip(named, jax.tree.leaves(params), strict=True)
        ]
        self._build_at_init()

    @property
    def params(self) -> Params:
        """A copy of the parameters of the model, as jaxrnn has them."""
        return jax.tree.map(jnp.array, self._params())

    def _params(self) -> Params:
        return jax.tree.unflatten(self._structure, [variable.value for variable in self._leaves])

    def call(
        self, sequences: PyTree, initial_state: Any = None, mask: Array | None = None, training: bool = False
    ) -> Any:
        xs = jax.tree.map(lambda x: x.swapaxes(0, 1), sequences)
        lengths = None if mask is None else prefix_lengths("mask", mask)
        batch = jax.tree.leaves(sequences)[0].shape[:1]
        state = None if initial_state is None else self._state(initial_state, batch)
        key = jax.random.wrap_key_data(self.seed_generator.next(), impl="threefry2x32") if training else None
        y, final = self._outputs(self._params(), xs, state, lengths, key)
        return (y, *jax.tree.leaves(final)) if self.return_state else y

    def _outputs(
        self, params: Params, xs: PyTree, state: State | None, lengths: Array | None, key: Array | None
    ) -> tuple[PyTree, State]:
        """The outputs ``[B, T, ...]``, or the last ones ``[B, ...]``, and the final state."""
        if not self.return_sequences and sees_future(self.model):
            return last(self.model, params, xs, lengths=lengths, key=key), None
        final, ys = unroll(self.model, params, xs, state, lengths=lengths, key=key)
        if self.return_sequences:
            return jax.tree.map(lambda y: y.swapaxes(0, 1), ys), final
        if lengths is None:
            return jax.tree.map(lambda y: y[-1], ys), final
        rows = jnp.arange(len(lengths))  # step -1 of a sequence of length 0 is padding: 0
        return jax.tree.map(lambda y: y[lengths - 1, rows], ys), final

    def _state(self, arrays: Any, batch: tuple[int, ...]) -> State:
        """The state of jaxrnn that has these arrays."""
        self._check_last_output("initial_state")
        expected, structure = jax.tree.flatten(self.model.initial_state(batch))
        leaves = jax.tree.leaves(arrays)
        if len(leaves) != len(expected):
            checks.refuse("initial_state", f"a list of {len(expected)} arrays", len(leaves),
                          "return_state=True returns it after the output")  # fmt: skip
        return checks.state_like("initial_state", self.model, jax.tree.unflatten(structure, leaves), batch)

    def _check_last_output(self, argument: str) -> None:
        if not self.return_sequences and sees_future(self.model):
            checks.refuse(argument, "return_sequences=True with it, as the model sees the future", "False",
                          "the last outputs of both directions belong to different steps")  # fmt: skip

    def compute_output_shape(self, sequences_shape: tuple, initial_state_shape: Any = None) -> Any:
        """The shape of the output, and of the states where they are returned."""
        batch, steps, *rest = sequences_shape
        ids = input_ndim(self.model) == 0
        xs = jax.ShapeDtypeStruct((steps or 1, batch or 1, *rest), jnp.int32 if ids else self.compute_dtype)
        shapes = jax.eval_shape(lambda params, xs: self._outputs(params, xs, None, None, None), self._params(), xs)
        axes = (batch, steps) if self.return_sequences else (batch,)
        y = jax.tree.map(lambda leaf: (*axes, *leaf.shape[len(axes) :]), shapes[0])
        return (y, *[(batch, *leaf.shape[1:]) for leaf in jax.tree.leaves(shapes[1])]) if self.return_state else y

    def compute_mask(self, sequences: Any, mask: Any = None) -> Any:
        """The mask of the outputs: that of the inputs for all steps, none for the last output and for states."""
        mask = mask if self.return_sequences else None
        states = len(jax.tree.leaves(self.model.initial_state(()))) if self.return_state else 0
        return (mask, *[None] * states) if states else mask

    def get_config(self) -> dict[str, Any]:
        """The model as its constructor call, and the modules of classes and functions that are not of jaxrnn."""
        model = {"call": constructor_call(self.model), "modules": class_modules(self.model)}
        options = {name: getattr(self, name) for name in ("return_sequences", "return_state")}
        return super().get_config() | options | {"model": model, "seed": self.seed_generator.get_config()["seed"]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        """The layer of a config, with new weights."""
        call, modules = config["model"]["call"], config["model"]["modules"]
        try:
            model = model_of_call(call, modules)
        except (SyntaxError, TypeError, ValueError, LookupError) as error:
            checks.refuse("config", "the constructor call of a model", f"{call}, and {error}",
                          "make the module of its class importable, or make the Layer anew and load_weights",
                          )  # fmt: skip
        return cls(**config | {"model": model})
