"""Error messages of the constructors of models."""

import jax
import jax.numpy as jnp
import pytest
from broken_cells import Holding, NoStep, Unhashable
from refusals import refuses
from versions import enable_x64

import jaxrnn as rnn

I, H, V = 3, 4, 7  # noqa: E741
KEY = jax.random.key(0)
GRU, EMBEDDING = rnn.GRU(I, H), rnn.Embedding(V, I)
STACK = rnn.Stack(GRU, rnn.Linear(H, 2))
INITIALIZERS = {  # by the name of the argument
    "w_xh_init": lambda init: rnn.GRU(I, H, w_xh_init=init),
    "w_hh_init": lambda init: rnn.VanillaRNN(I, H, w_hh_init=init),
    "b_h_init": lambda init: rnn.LSTM(I, H, b_h_init=init),
    "peepholes_init": lambda init: rnn.LSTM(I, H, peepholes_init=init),
    "forget_bias_init": lambda init: rnn.JANET(I, H, forget_bias_init=init),
    "w_hr_init": lambda init: rnn.LSTM(I, H, w_hr_init=init),
    "peepholes_init ": lambda init: rnn.ConvLSTM((4, 1), H, 3, peepholes_init=init),
    "w_decay_x_init": lambda init: rnn.GRUD(I, H, w_decay_x_init=init),
    "w_decay_h_init": lambda init: rnn.GRUD(I, H, w_decay_h_init=init),
    "b_decay_init": lambda init: rnn.GRUD(I, H, b_decay_init=init),
    "w_init": lambda init: rnn.Embedding(V, I, w_init=init),
    "w_init ": lambda init: rnn.Linear(V, I, w_init=init),
    "b_init": lambda init: rnn.Linear(I, H, b_init=init),
    "b_init ": lambda init: rnn.Tied(EMBEDDING, rnn.GRU(I, I), b_init=init),
    "init": lambda init: rnn.initializers.everywhere(GRU, init),
}

HYPERPARAMETERS = {
    "ValueError input_size: expected a positive int, got 0": lambda: rnn.LSTM(0, H),
    "ValueError hidden_size: expected a positive int, got -1": lambda: rnn.LSTM(I, -1),
    "TypeError input_size: expected a positive int, got float 3.0": lambda: rnn.GRU(3.0, H),
    "TypeError hidden_size: expected a positive int, got str 4": lambda: rnn.GRU(I, "4"),
    "TypeError hidden_size: expected a positive int, got None": lambda: rnn.GRU(I, None),
    "TypeError input_size: expected a positive int, got bool True": lambda: rnn.VanillaRNN(True, H),
    "ValueError output_size: expected a positive int, got 0": lambda: rnn.Linear(I, 0),
    "ValueError input_size: expected a positive int, got -3": lambda: rnn.Linear(-I, 1),
    "ValueError vocabulary_size: expected a positive int, got 0": lambda: rnn.Embedding(0, 1),
    "TypeError output_size: expected a positive int, got float 1.5": lambda: rnn.Embedding(V, 1.5),
    "TypeError use_bias: expected True or False, got int 1": lambda: rnn.LSTM(I, H, use_bias=1),
    "TypeError coupled: expected True or False, got str yes": lambda: rnn.LSTM(I, H, coupled="yes"),
    "TypeError layer_norm: expected True or False, got int 1": lambda: rnn.LSTM(I, H, layer_norm=1),
    "TypeError layer_norm: expected True or False, got None": lambda: rnn.GRU(I, H, layer_norm=None),
    "TypeError layer_norm: expected True or False, got str yes": lambda: rnn.VanillaRNN(I, H, layer_norm="yes"),
    "ValueError projection_size: expected a positive int, got 0": lambda: rnn.LSTM(I, H, projection_size=0),
    "TypeError projection_size: expected a positive int, got bool True": lambda: rnn.LSTM(I, H, projection_size=True),
    "ValueError cell_clip: expected a positive number or None, got 0": lambda: rnn.LSTM(I, H, cell_clip=0),
    "TypeError cell_clip: expected a number, got str 1": lambda: rnn.LSTM(I, H, cell_clip="1"),
    "ValueError projection_clip: expected a positive number or None, got -1": lambda: rnn.LSTM(
        I, H, projection_size=2, projection_clip=-1
    ),
    "ValueError projection_clip: expected None without projection_size, got 3.0; cell_clip…": lambda: rnn.LSTM(
        I, H, projection_clip=3.0
    ),
    "ValueError r_min, r_max: expected 0 ≤ r_min < r_max ≤ 1, got 0.9, 0.5": lambda: rnn.LRU(
        I, H, r_min=0.9, r_max=0.5
    ),
    "ValueError max_phase: expected a phase over 0, up to 2π, got 7.0": lambda: rnn.LRU(I, H, max_phase=7.0),
    "TypeError positive: expected True or False, got int 1": lambda: rnn.MinGRU(I, H, positive=1),
    "TypeError peepholes: expected True or False, got str fo": lambda: rnn.SRU(I, H, peepholes="fo"),
    "TypeError reset_after: expected True or False, got int 0": lambda: rnn.GRU(I, H, reset_after=0),
    "TypeError use_bias: expected True or False, got None": lambda: rnn.Linear(I, H, use_bias=None),
    "TypeError use_bias: expected True or False, got str no": lambda: rnn.Tied(EMBEDDING, rnn.GRU(I, I), use_bias="no"),
    "TypeError forget_bias: expected a number, got str 1": lambda: rnn.LSTM(I, H, forget_bias="1"),
    "TypeError forget_bias: expected a number, got bool True": lambda: rnn.LSTM(I, H, forget_bias=True),
    "ValueError forget_bias: expected a finite number, got nan": lambda: rnn.LSTM(I, H, forget_bias=float("nan")),
    "ValueError forget_bias: expected a finite number, got inf": lambda: rnn.LSTM(I, H, forget_bias=float("inf")),
    "ValueError reset: expected one of 'update', 'keep', 'none', got 'f'": lambda: rnn.MGU(I, H, reset="f"),
    "TypeError reset_after: expected True or False, got str no": lambda: rnn.MGU(I, H, reset_after="no"),
    "TypeError beta: expected a number, got None": lambda: rnn.JANET(I, H, beta=None),
    "ValueError steps: expected a number above 2, got 2; it is the longest memory, in steps": lambda: (
        rnn.initializers.chrono(2)
    ),
    "TypeError steps: expected a number, got str 9": lambda: rnn.initializers.chrono("9"),
    "ValueError output_gate: expected one of 'inside', 'outside', got 'in'": lambda: rnn.MultiplicativeLSTM(
        I, H, output_gate="in"
    ),
    "TypeError forget_bias: expected a number, got None": lambda: rnn.MultiplicativeLSTM(I, H, forget_bias=None),
    "ValueError heads: expected a divisor of hidden_size 4, got 3; heads are of one size": lambda: rnn.SLSTM(
        I, H, heads=3
    ),
    "ValueError heads: expected a positive int, got 0": lambda: rnn.SLSTM(I, H, heads=0),
    "ValueError forget: expected one of 'sigmoid', 'exponential', got 'exp'": lambda: rnn.SLSTM(I, H, forget="exp"),
    "TypeError forget_bias: expected a number, got str 2": lambda: rnn.SLSTM(I, H, forget_bias="2"),
    "ValueError rate: expected a number in [0, 1), got 1.0; …dropped, not kept": lambda: rnn.Dropout(1.0),
    "ValueError rate: expected a number in [0, 1), got -0.1; …dropped, not kept": lambda: rnn.Dropout(-0.1),
    "TypeError rate: expected a number, got str half": lambda: rnn.Dropout("half"),
    "ValueError peepholes: expected …'i', 'f', 'o'…, got 'x'; '' is none, 'ifo' all": lambda: rnn.LSTM(
        I, H, peepholes="x"
    ),
    "ValueError peepholes: expected …'i', 'f', 'o' at most once, got 'ifoc'; '' is none, 'ifo' all": lambda: rnn.LSTM(
        I, H, peepholes="ifoc"
    ),
    "ValueError peepholes: expected …at most once, got 'ff'; '' is none, 'ifo' all": lambda: rnn.LSTM(
        I, H, peepholes="ff"
    ),
    "TypeError peepholes: expected …gate letters…, got bool True": lambda: rnn.LSTM(I, H, peepholes=True),
    "TypeError peepholes: expected …gate letters…, got None": lambda: rnn.LSTM(I, H, peepholes=None),
    "ValueError peepholes: expected a subset of 'fo' with coupled=True, got 'io'; …1 - f…": lambda: rnn.LSTM(
        I, H, peepholes="io", coupled=True
    ),
    "ValueError input_size: expected 2 D or 2 D + 1, at least 2, got 1; an input is D values…": lambda: rnn.GRUD(1, H),
    "ValueError layers[1]: expected a layer of 2 input axes, … layers[0], got 1 in GRU(2, 3); Flatten…": lambda: (
        rnn.Stack(rnn.ConvLSTM((4, 1), 2, 3), rnn.GRU(2, 3))
    ),
    "ValueError layers[1]: expected input shape (2, 2), the output shape of layers[0], got (4, 2) in …": lambda: (
        rnn.Stack(rnn.ConvLSTM((4, 1), 2, 3, strides=2), rnn.ConvLSTM((4, 2), 2, 3))
    ),
    "ValueError encoder: expected one whose outputs are vectors, got outputs of 2 axes from …": lambda: (
        rnn.tasks.Classifier(rnn.ConvLSTM((4, 1), 2, 3), 3)
    ),
    "TypeError body: expected one that can be stepped, got Bidirectional(…": lambda: rnn.tasks.ActorCritic(
        rnn.Bidirectional(rnn.GRU(2, 3)), 4
    ),
    "ValueError names: expected one parameter at least, got none; …": lambda: rnn.WeightDrop(
        rnn.GRU(2, 3), 0.1, names=()
    ),
    "TypeError input_shape: expected a tuple of sizes such as (64, 64, 1), got int 4": lambda: rnn.ConvLSTM(4, H, 3),
    "ValueError input_shape: expected 1 to 3 spatial axes and the channels, got (4,); …": lambda: rnn.ConvLSTM(
        (4,), H, 3
    ),
    "ValueError input_shape[1]: expected a positive int, got 0": lambda: rnn.ConvLSTM((4, 0), H, 3),
    "ValueError strides: expected an int, or 1, one for each spatial axis, got (1, 1)": lambda: rnn.ConvLSTM(
        (4, 1), H, 3, strides=(1, 1)
    ),
    "ValueError kernel_shape[1]: expected a positive int, got 0": lambda: rnn.ConvLSTM((4, 4, 1), H, (3, 0)),
    "ValueError padding: expected one of 'SAME', 'VALID', got 'same'": lambda: rnn.ConvLSTM(
        (4, 1), H, 3, padding="same"
    ),
    'ValueError kernel_shape: expected a kernel within the input [4], got 5; padding="SAME" lets…': lambda: (
        rnn.ConvLSTM((4, 1), H, 5, padding="VALID")
    ),
    "TypeError peepholes: expected True or False, got str ifo": lambda: rnn.ConvLSTM((4, 1), H, 3, peepholes="ifo"),
    "ValueError output_peephole: expected one of 'current', 'previous', got 'now'": lambda: rnn.LSTM(
        I, H, output_peephole="now"
    ),
    "ValueError output_peephole: expected 'current' without a peephole of o, got 'previous'; …ifo…": lambda: rnn.LSTM(
        I, H, peepholes="if", output_peephole="previous"
    ),
    "TypeError w_hh_init: expected a function f(key, shape, dtype) that returns an array, got <func…; it raised: …": (
        lambda: rnn.GRU(I, H, w_hh_init=lambda shape: jnp.ones(shape)).init(jax.random.key(0))
    ),
    "ValueError b_init: expected shape [4] from its initializer, got float 0.5": lambda: rnn.Linear(
        I, H, b_init=lambda key, shape, dtype: 0.5
    ).init(jax.random.key(0)),
    "TypeError input_shape: expected a tuple of sizes…, got int 8": lambda: rnn.Flatten(8),
    "ValueError input_shape[0]: expected a positive int, got 0": lambda: rnn.Flatten((0, 2)),
    "ValueError x: expected last axes [3, 2] (Flatten.input_shape), got float32[5, 2, 3]; …": lambda: rnn.Flatten(
        (3, 2)
    ).step((), (), jnp.ones((5, 2, 3))),
    "ValueError layers[1]: expected input size 6, the output size of layers[0], got 5 in GRU(5, 4)": lambda: rnn.Stack(
        rnn.Flatten((3, 2)), rnn.GRU(5, H)
    ),
    "TypeError output_peephole: expected one of 'current', 'previous', got int 1": lambda: rnn.LSTM(
        I, H, output_peephole=1
    ),
    "ValueError activation: expected one of 'tanh', 'relu', 'sigmoid' or a callable, got 'gelu'": lambda: (
        rnn.VanillaRNN(I, H, activation="gelu")
    ),
    "TypeError activation: expected …or a callable, got None": lambda: rnn.VanillaRNN(I, H, activation=None),
    "ValueError activation: expected one of …or a callable, got 'gelu'": lambda: rnn.IndRNN(I, H, activation="gelu"),
    "ValueError recurrent_max: expected a number above 0, got 0; None sets no bound": lambda: rnn.IndRNN(
        I, H, recurrent_max=0
    ),
    "TypeError recurrent_max: expected a number, got str 1": lambda: rnn.IndRNN(I, H, recurrent_max="1"),
    "TypeError dtype: expected a dtype, got 'float31'": lambda: rnn.LSTM(I, H, dtype="float31"),
    "TypeError dtype: expected a floating dtype such as 'float32'…, got int32": lambda: rnn.LSTM(I, H, dtype="int32"),
    "TypeError dtype: expected a floating dtype…, got bool": lambda: rnn.Embedding(V, I, dtype=bool),
    "TypeError dtype: expected a floating dtype…, got complex64": lambda: rnn.Linear(I, H, dtype="complex64"),
}

MODELS = {
    "ValueError layers: expected at least one cell or layer, got none; Stack(LSTM(…": lambda: rnn.Stack(),
    "TypeError layers[1]: expected a cell or layer, got the class LSTM; make one: LSTM(...)": lambda: rnn.Stack(
        GRU, rnn.LSTM
    ),
    "TypeError layers[0]: expected …init, initial_state and step, got list without init…": lambda: rnn.Stack([GRU]),
    "TypeError layers[1]: expected …init, initial_state and step, got NoStep without step; …": lambda: rnn.Stack(
        GRU, NoStep()
    ),
    "TypeError layers[0]: expected a hashable cell or layer, got unhashable…@dataclass(frozen=True)…": (
        lambda: rnn.Stack(Unhashable())
    ),
    "ValueError layers[2]: expected input size 4, the output size of layers[0], got 5 in GRU(5, 4)": lambda: rnn.Stack(
        GRU, rnn.Dropout(0.5), rnn.GRU(H + 1, H)
    ),
    "ValueError layers[1]: expected input size 8…, got 4 in…": lambda: rnn.Stack(
        rnn.Bidirectional(GRU), rnn.Linear(H, 2)
    ),
    "ValueError layers[1]: expected input size 3…, got 4 in Linear(4, 2)": lambda: rnn.Stack(
        EMBEDDING, rnn.Linear(H, 2)
    ),
    "ValueError layers[1]: expected input size 2…, got 3 in GRU(3, 4)": lambda: rnn.Stack(STACK, GRU),
    "ValueError layers[1]: expected input size 4…, got 3 in Stack(GRU(3, 4)…": lambda: rnn.Stack(GRU, STACK),
    "ValueError layers[1]: expected input size 7…, got 3 in GRU(3, 4)": lambda: rnn.Stack(
        rnn.Residual(GRU, "concat"), GRU
    ),
    "TypeError forward: expected a cell or layer, got the class LSTM; make one: LSTM(...)": lambda: rnn.Bidirectional(
        rnn.LSTM
    ),
    "TypeError backward: expected a cell or layer…, got str without init…": lambda: rnn.Bidirectional(GRU, "sum"),
    "TypeError forward: expected a hashable cell or layer, got unhashable Unhashable; …": lambda: rnn.Bidirectional(
        Unhashable()
    ),
    "ValueError merge: expected one of 'concat', 'sum', 'mean'…, got 'add'": lambda: rnn.Bidirectional(
        GRU, merge="add"
    ),
    "TypeError merge: expected one of 'concat'…, got ufunc…": lambda: rnn.Bidirectional(GRU, merge=jnp.add),
    "ValueError backward: expected input size 3, that of forward, got 4; …the same inputs": lambda: rnn.Bidirectional(
        GRU, rnn.GRU(I + 1, H)
    ),
    'ValueError layer: expected output size 3, its input size…, got 4; merge="concat" takes any': lambda: rnn.Residual(
        GRU
    ),
    "ValueError merge: expected one of 'sum', 'concat', got 'product'": lambda: rnn.Residual(GRU, "product"),
    "TypeError layer: expected …init, initial_state and step, got NoStep without step; …": lambda: rnn.Residual(
        NoStep()
    ),
    "TypeError embedding: expected an Embedding, got Linear Linear(7, 3)": lambda: rnn.Tied(rnn.Linear(V, I), GRU),
    "ValueError layers[1]: expected input size 3…, got 4 in GRU(4, 3)": lambda: rnn.Tied(EMBEDDING, rnn.GRU(H, I)),
    "ValueError layer: expected output size 3, that of the embedding, got 4; …the embedding's own matrix": lambda: (
        rnn.Tied(EMBEDDING, GRU)
    ),
    "ValueError text: expected constructor calls of …Bidirectional, …, got 'Average(3)'; …in Python": lambda: (
        rnn.from_repr("Stack(Average(3))")
    ),
    "ValueError text: expected …and literals, got \"__import__('os')\"; …": lambda: rnn.from_repr("__import__('os')"),
    "ValueError text: expected …, got 'zoo.softsign'; …": lambda: rnn.from_repr(
        "VanillaRNN(3, 4, activation=zoo.softsign)"
    ),
    "ValueError text: expected …and literals, got 'rnn.LSTM(3, 4)'; …": lambda: rnn.from_repr("rnn.LSTM(3, 4)"),
}


@pytest.mark.parametrize("text", [*HYPERPARAMETERS, *MODELS])
def test_refusals(text):
    """The message of each wrong argument."""
    refuses(text, {**HYPERPARAMETERS, **MODELS}[text])


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers(name):
    """An unknown name, a number, a class instead of an instance."""
    build, argument = INITIALIZERS[name], name.strip()
    refuses(
        f"ValueError {argument}: expected one of 'zeros', …, 'lecun_normal' or a callable, got 'g'", lambda: build("g")
    )
    refuses(f"TypeError {argument}: expected one of 'zeros', … or a callable, got float 0.1", lambda: build(0.1))
    text = f"TypeError {argument}: expected an initializer, got the class uniform; call it: uniform(...)"
    refuses(text, lambda: build(rnn.initializers.uniform))


@pytest.mark.parametrize("merge", ["sum", "mean", "product"])
def test_merges_of_unlike_directions(merge):
    """Outputs of different sizes can only be concatenated."""
    text = f'ValueError backward: expected output size 4, that of forward, to {merge}, got 5; merge="concat" takes any'
    refuses(text, lambda: rnn.Bidirectional(GRU, rnn.GRU(I, H + 1), merge))
    assert rnn.Bidirectional(GRU, rnn.GRU(I, H + 1)).output_size == 2 * H + 1


@pytest.mark.parametrize("model", [rnn.LSTM(I, H, dtype="float64"), rnn.Embedding(V, I, dtype="float64")], ids=repr)
def test_float64_must_be_enabled(model):
    """The message names the setting; with it there is no error."""
    text = (
        "ValueError dtype: expected float32 while 64-bit is off, got float64; …'jax_enable_x64', True) switches it on"
    )
    refuses(text, lambda: model.init(KEY))
    with enable_x64(True):
        assert jax.tree.leaves(model.init(KEY))[0].dtype == jnp.float64


def test_float64_states_must_be_enabled():
    """A state is not silently cast to float32."""
    cell = rnn.LSTM(I, H, dtype="float64")
    refuses("ValueError dtype: expected float32 while 64-bit is off, got float64; …", cell.initial_state)


FURTHER = {
    "ValueError text: expected …": lambda: rnn.from_repr("LSTM(3,"),
    "TypeError text: expected …, got int 3…": lambda: rnn.from_repr(3),
    "ValueError text: expected constructor calls of …Bidirectional, …": lambda: rnn.from_repr("Mine()"),
    "TypeError dtype: expected …, got None…": lambda: rnn.GRU(I, H, dtype=None),
    "ValueError b_h_init: … 'identity'…": lambda: rnn.GRU(I, H, b_h_init="identity").init(KEY),
    "ValueError b_h_init: … 'orthogonal'…": lambda: rnn.GRU(I, H, b_h_init="orthogonal").init(KEY),
    "ValueError b_h_init: … 'glorot_uniform'…": lambda: rnn.GRU(I, H, b_h_init="glorot_uniform").init(KEY),
    "ValueError w_hh_init: expected shape [4, 4]…": lambda: rnn.GRU(I, H, w_hh_init=lambda *_: jnp.ones(7)).init(KEY),
    "TypeError layers[0]: …; …arrays…": lambda: rnn.Stack(Holding(jnp.ones(I))),
}


@pytest.mark.parametrize("text", FURTHER)
def test_further_refusals(text):
    """The message of each mistake."""
    refuses(text, FURTHER[text])
