"""A model of jaxrnn as a layer of Keras, on the JAX backend."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import keras

from jaxrnn import checks
from jaxrnn.interop.bridges import sequences as shared
from jaxrnn.interop.keras.tables import prefix_lengths, prefixes
from jaxrnn.layers.bidirectional import sees_future
from jaxrnn.rebuild import class_modules, constructor_call, model_of_call
from jaxrnn.tasks import Classifier
from jaxrnn.tasks.pooling import last
from jaxrnn.types import Array, Params, PyTree, State, input_ndim
from jaxrnn.unroll import unroll

ELSEWHERE = {  # options of the recurrent layers of Keras: what has their place here
    "go_backwards": "rnn.Reverse(layer) is that direction, with outputs in the order of the inputs",
    "reverse": "rnn.Reverse(layer) is that direction, with outputs in the order of the inputs",
    "stateful": "pass initial_state=, which return_state=True returns, to the next call",
    "merge_mode": "rnn.Bidirectional(layer, merge=...) has it",
    "backward_layer": "rnn.Bidirectional(layer, backward) has it",
    "dropout": "rnn.Dropout is a layer of a rnn.Stack",
}


@keras.saving.register_keras_serializable(package="jaxrnn")
class Layer(keras.layers.Layer):
    """A cell or layer of jaxrnn, a user's own included, as a recurrent layer of Keras.

    The weights are variables of Keras, named by their path in the parameters (``0.w_xh``), in optimizers, summaries
    and files. As in Keras inputs are batch-first, and ``training`` switches dropout. A mask, of Masking or
    ``mask_zero``, must leave out the end of sequences only; the outputs there are 0. Any other mask is an error or, in
    a compiled program such as that of ``fit`` and ``predict``, makes outputs and states of its sequence NaN.

    Args:
        model: a cell or layer, or a :class:`~jaxrnn.tasks.Classifier`, whose output is ``[B, classes]``. A file holds
            it as its constructor call, so the module of a class or function of your own must be importable when it is
            loaded.
        params: its parameters, in its own structure, which are copied; by default those of ``model.init``.
        return_sequences: whether the output is that of all steps, or, as in Keras by default, the last one.
        return_state: whether the final state follows: ``(y, *states)``, the arrays of the state of jaxrnn in order,
            such as h and c of an LSTM.
        seed: an int, of initial weights and dropout.
        **options: ``name``, ``trainable`` and ``dtype`` of a layer of Keras. The dtype of variables is that of the
            parameters; with ``"mixed_bfloat16"``, here or as the global policy, the layer computes in bfloat16.

    Call arguments:
        sequences: ``[B, T, I]``, or token ids ``[B, T]`` as integers: ``keras.Input((None,), dtype="int32")``.
        initial_state: the list of arrays that ``return_state=True`` returns.
        mask: bools ``[B, T]``; Keras passes it on.
        training: whether dropout acts.

    Raises:
        TypeError, ValueError: the model is not a cell or layer, or the parameters or the dtype are not its; a call has
            a mask that is no prefix, or another state; the last output of a model that sees the future does not go
            with states.

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
        params: Params | None = None,
        *,
        return_sequences: bool = False,
        return_state: bool = False,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        shared.check_model(model)
        for name in ELSEWHERE.keys() & options.keys():
            checks.refuse(name, "no such option", options[name], ELSEWHERE[name], TypeError)
        checks.flag("return_sequences", return_sequences)
        checks.flag("return_state", return_state)
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        if params is not None:
            params = checks.parameters(model, params)
            shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, params))
        named, structure = jax.tree_util.tree_flatten_with_path(shapes)
        floating = [leaf.dtype.name for _, leaf in named if jnp.issubdtype(leaf.dtype, jnp.floating)]
        dtype = floating[0] if floating else None
        policy = keras.config.dtype_policy()
        super().__init__(**({"dtype": policy if policy.variable_dtype == dtype else dtype} | options))
        if dtype not in (None, self.variable_dtype):
            checks.refuse("dtype", f"{dtype}, that of the parameters", self.dtype_policy.name,
                          "rnn.MixedPrecision(model) computes in 16 bits; dtype= of a cell is that of its parameters",
                          )  # fmt: skip
        self.model, self.return_sequences, self.return_state = model, return_sequences, return_state
        self._structure, self.supports_masking = structure, True
        if return_state:
            self._check_last_output("return_state")
        if isinstance(model, Classifier):
            for name in ("return_sequences", "return_state"):
                if getattr(self, name):
                    checks.refuse(name, "False", "True", "a Classifier has one output for a sequence, and no state")
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
        first = jax.tree.leaves(sequences)[0]
        if input_ndim(shared.encoder(self.model)) == 0 and jnp.issubdtype(first.dtype, jnp.floating):
            checks.refuse("sequences", "token ids as integers", checks.describe(first),
                          'keras.Input(shape, dtype="int32") keeps them integers', TypeError)  # fmt: skip
        lengths = None
        if mask is not None:
            if mask.shape != first.shape[:2]:
                checks.refuse("mask", f"shape {list(first.shape[:2])}", checks.describe(mask))
            lengths = prefix_lengths("mask", mask)
        state = None if initial_state is None else self._state(initial_state, first.shape[:1])
        xs = shared.time_first(self.model, sequences, 1, None, lengths, ("sequences", "initial_state", "mask"))
        key = jax.random.wrap_key_data(self.seed_generator.next(), impl="threefry2x32") if training else None
        y, final = self._outputs(self._params(), xs, state, lengths, key)
        if mask is not None and not checks.is_concrete(mask):
            y, final = _nan_unless(prefixes(mask), (y, final))
        return (y, *jax.tree.leaves(final)) if self.return_state else y

    def _outputs(
        self, params: Params, xs: PyTree, state: State | None, lengths: Array | None, key: Array | None
    ) -> tuple[PyTree, State]:
        """The outputs ``[B, T, ...]``, or the last ones ``[B, ...]``, and the final state."""
        if isinstance(self.model, Classifier):
            return self.model.apply(params, xs, lengths=lengths, key=key), None
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
        if isinstance(self.model, Classifier):
            checks.refuse("initial_state", "None", checks.describe(arrays), "a Classifier keeps no state")
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
        ids = input_ndim(shared.encoder(self.model)) == 0
        xs = jax.ShapeDtypeStruct((steps or 1, batch or 1, *rest), jnp.int32 if ids else self.variable_dtype)
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


def _nan_unless(valid: Array, tree: PyTree) -> PyTree:
    """Floating arrays ``[B, ...]`` with NaN in the rows that are not valid."""

    def rows(x: Array) -> Array:
        return jnp.where(valid.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.array(jnp.nan, x.dtype))

    return jax.tree.map(lambda x: rows(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x, tree)
