"""The error messages of decoding, word for word."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from language_models import B, Counter, V
from refusals import refuses

import jaxrnn as rnn
from jaxrnn.decoding import beam_search, filter_logits, greedy, log_probabilities, sample, sample_token, stream

MODEL = rnn.Stack(rnn.Embedding(V, 4), rnn.GRU(4, 4), rnn.Linear(4, V))


def kwargs(change, model=MODEL, batch=(B,)):
    """The arguments that all decoding methods share, one of them changed."""
    state = jax.tree.map(jnp.zeros_like, jax.eval_shape(lambda: model.initial_state(batch)))
    params = jax.tree.map(jnp.zeros_like, jax.eval_shape(model.init, jax.random.key(0)))
    start = {"model": model, "params": params, "state": state, "token": jnp.zeros(batch, jnp.int32), "steps": 2}
    return {**start, **change}


@dataclasses.dataclass(frozen=True)
class Wrong(Counter):
    """A user's model whose step returns something else than logits."""

    output: object = None

    __hash__ = Counter.__hash__

    def step(self, params, state, token):
        return state, self.output


COMMON = [
    ({"model": rnn.LSTM}, "TypeError model: expected a cell or layer, got the class LSTM; make one: LSTM(...)"),
    ({"model": 3}, "TypeError model: expected a cell or layer with init, initial_state and step, got int without "
                   "init, initial_state, step; a cell is any object with these three methods"),
    ({"steps": 0}, "ValueError steps: expected a positive int, got 0"),
    ({"steps": -3}, "ValueError steps: expected a positive int, got -3"),
    ({"steps": 2.5}, "TypeError steps: expected a positive int, got float 2.5"),
    ({"token": jnp.zeros(B)}, "TypeError token: expected integer token ids [...], got float32[3]; "
                              "jnp.asarray(ids, dtype=int)"),
    ({"token": True}, "TypeError token: expected integer token ids [...], got bool True; jnp.asarray(ids, dtype=int)"),
    ({"token": "a"}, "TypeError token: expected integer token ids [...], got str a; jnp.asarray(ids, dtype=int)"),
    ({"token": jnp.full(B, V)}, "ValueError token: expected token ids in [0, 6), got values from 6 to 6; …"),
    ({"token": jnp.zeros((B, V), int)}, "ValueError state[1]: expected shape [3, 6, 4], got float32[3, 4]; "
                                        "model.initial_state((3, 6)) makes one for inputs of batch shape (3, 6)"),
    ({"token": 0}, "ValueError state[1]: expected shape [4], got float32[3, 4]; model.initial_state(()) makes one …"),
    ({"state": ()}, "TypeError state: expected tuple of 3, got tuple of 0; …"),
    ({"eos": V}, "ValueError eos: expected a token in [0, 6), got 6; the token that ends a sequence is one of the "
                 "model's"),
    ({"eos": -1}, "ValueError eos: expected a token in [0, 6), got -1; …"),
    ({"eos": "."}, "TypeError eos: expected an int, one token of the vocabulary, got str ."),
    ({"eos": True}, "TypeError eos: expected an int, one token of the vocabulary, got bool True"),
]  # fmt: skip


@pytest.mark.parametrize("decode", [greedy, sample, beam_search])
def test_common(decode):
    """All decoding methods raise the same messages."""
    own = {"greedy": {}, "sample": {"key": jax.random.key(0)}, "beam_search": {"width": 2}}[decode.__name__]
    for change, words in COMMON:
        refuses(words, lambda change=change: decode(**kwargs(change | own)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": -0.5}, "ValueError temperature: expected a number of at least 0, got -0.5; "
                                "0 takes the most likely token, 1 samples the model's distribution"),
        ({"temperature": "hot"}, "TypeError temperature: expected a number, got str hot"),
        ({"temperature": np.nan}, "ValueError temperature: expected a finite number, got nan"),
        ({"temperature": jnp.ones(B)}, "ValueError temperature: expected a single number, got float32[3]; "
                                       "jax.vmap takes one for each sequence"),
        ({"key": None}, "TypeError key: expected a value, got None; jax.random.key(0) makes one"),
        ({"key": 7}, "TypeError key: expected a random key, got int 7; jax.random.key(0) makes one"),
        ({"top_k": V + 1}, "ValueError top_k: expected at most 6, got 7; 6 is the size of the vocabulary"),
        ({"top_k": 0}, "ValueError top_k: expected a positive int, got 0"),
        ({"top_k": 2.0}, "TypeError top_k: expected a positive int, got float 2.0"),
        ({"top_p": 0.0}, "ValueError top_p: expected a number in (0, 1], got 0.0; it is the probability to keep; "
                         "1 keeps all"),
        ({"top_p": 1.1}, "ValueError top_p: expected a number in (0, 1], got 1.1; …"),
        ({"top_p": np.nan}, "ValueError top_p: expected a finite number, got nan"),
        ({"top_p": jnp.ones(2)}, "ValueError top_p: expected a single number, got float32[2]; …"),
        ({"top_p": "0.9"}, "TypeError top_p: expected a number, got str 0.9"),
    ],
)  # fmt: skip
def test_sampling_arguments(change, words):
    """By ``sample``, and by ``stream`` before its first token is requested."""
    key = {"key": jax.random.key(0)}
    refuses(words, lambda: sample(**kwargs(key | change)))
    refuses(words, lambda: stream(**kwargs(key | change, batch=())))


@pytest.mark.parametrize("top_k", [V + 1, 0, 2.0])
def test_top_k_of_logits(top_k):
    """The same messages for logits without a model."""
    words = {V + 1: "ValueError top_k: expected at most 6, got 7; 6 is the size of the vocabulary",
             0: "ValueError top_k: expected a positive int, got 0",
             2.0: "TypeError top_k: expected a positive int, got float 2.0"}[top_k]  # fmt: skip
    refuses(words, lambda: sample_token(jax.random.key(0), jnp.zeros((B, V)), top_k=top_k))
    refuses(words, lambda: filter_logits(jnp.zeros(V), top_k=top_k))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 0}, "ValueError width: expected a positive int, got 0"),
        ({"width": 2.0}, "TypeError width: expected a positive int, got float 2.0"),
        ({"n_best": 4}, "ValueError n_best: expected at most 3, got 4; 3 is the width of the beam"),
        ({"n_best": 0}, "ValueError n_best: expected a positive int, got 0"),
        ({"length_penalty": -0.1}, "ValueError length_penalty: expected a number of at least 0, got -0.1; 0 ranks by "
                                   "log probability, 1 by its mean over a sequence"),
        ({"length_penalty": None}, "TypeError length_penalty: expected a number, got None"),
    ],
)  # fmt: skip
def test_beam_search_arguments(change, words):
    """The arguments of beam search alone."""
    refuses(words, lambda: beam_search(**kwargs({"width": 3} | change)))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (None, "TypeError model.step: expected floating logits [..., V] from it, got None; end the model with a Linear "
               "to the size of the vocabulary"),
        (np.zeros((B, V), int), "TypeError model.step: expected floating logits [..., V] from it, got int64[3, 6]; …"),
        (np.zeros((2, V), np.float32), "ValueError model.step: expected logits [3, V] for tokens [3], "
                                       "got float32[2, 6]; …"),
        (np.zeros((B, 1, V), np.float32), "ValueError model.step: expected logits [3, V] for tokens [3], "
                                          "got float32[3, 1, 6]; …"),
    ],
)  # fmt: skip
def test_logits(output, words):
    """A model that returns no logits."""
    if isinstance(output, np.ndarray):
        output = jnp.asarray(output)
        words = words.replace("int64", "int32")
    refuses(words, lambda: greedy(**kwargs({}, Wrong(output))))


@pytest.mark.parametrize("decode", [greedy, sample, beam_search])
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (rnn.Stack(rnn.Embedding(V, 4), rnn.GRU(4, 4), rnn.Linear(4, V + 1)),
         "ValueError model: expected logits for at most 6 tokens, those that its Embedding holds, got 7; "
         "Embedding(7, ...) holds all that it can generate"),
        (rnn.Stack(rnn.Dropout(0.5), rnn.Embedding(2, V)),
         "ValueError model: expected logits for at most 2 tokens, those that its Embedding holds, got 6; …"),
        (rnn.Stack(rnn.Tied(rnn.Embedding(2, V), rnn.GRU(V, V)), rnn.Linear(2, V)),
         "ValueError model: expected logits for at most 2 tokens, those that its Embedding holds, got 6; …"),
        (rnn.Stack(rnn.GRU(V, 4), rnn.Linear(4, V)),
         "TypeError model: expected one that takes token ids, got Stack(GRU(6, 4), Linear(4, 6)), which takes vectors "
         "of 6; Stack(Embedding(vocabulary_size, size), ...) starts with a vector for each token"),
        (rnn.Stack(rnn.tasks.AttentionCell(rnn.GRU(4 + V, 4), rnn.tasks.GeneralAttention(4, 4)), rnn.Linear(8, V)),
         "TypeError model: expected one that takes token ids, got Stack(AttentionCell(…, which takes vectors of 6; …"),
    ],
)  # fmt: skip
def test_tokens_that_cannot_be_fed_back(decode, model, words):
    """Tokens beyond the embedding, whose vectors would be NaN, or any tokens of a model without an embedding."""
    own = {"greedy": {}, "sample": {"key": jax.random.key(0)}, "beam_search": {"width": 2}}[decode.__name__]
    refuses(words, lambda: decode(**kwargs(own, model)))


def test_an_embedding_may_be_larger_than_the_logits():
    """The token that starts a text need not be one that can be generated."""
    model = rnn.Stack(rnn.Embedding(V + 1, 4), rnn.GRU(4, 4), rnn.Linear(4, V))
    assert (greedy(**kwargs({"token": jnp.full(B, V)}, model)).tokens < V).all()


@pytest.mark.parametrize("decode", [greedy, sample, beam_search])
def test_nan(decode):
    """Found in parameters and states with known values: also constants under jit, but not its arguments."""
    own = {"greedy": {}, "sample": {"key": jax.random.key(0)}, "beam_search": {"width": 2}}[decode.__name__]
    valid = kwargs(own)
    embedding, gru, linear = valid["params"]
    params = embedding, gru, linear._replace(w=linear.w.at[0, 0].set(jnp.nan))
    state = (), valid["state"][1].at[0, 0].set(jnp.nan), ()
    words = "ValueError params[2].w: expected numbers, got NaN in float32[4, 6]; a smaller …"
    refuses(words, lambda: decode(**valid | {"params": params}))
    refuses(words, lambda: jax.jit(lambda state: decode(**valid | {"params": params, "state": state}))(valid["state"]))
    refuses(
        "ValueError state[1]: expected numbers, got NaN in float32[3, 4]; …", lambda: decode(**valid | {"state": state})
    )
    jax.jit(lambda params: decode(**valid | {"params": params}))(params)


def test_narrow_token_dtype():
    """A dtype too narrow for the vocabulary."""
    model = rnn.Embedding(3, 300)
    refuses("ValueError token: expected a dtype that holds ids up to 299, got uint8; .astype('int32')",
            lambda: greedy(**kwargs({"token": jnp.zeros(B, jnp.uint8)}, model)))  # fmt: skip


def test_a_stream_is_one_sequence_outside_of_jit():
    """The message names the alternative."""
    key = {"key": jax.random.key(0)}
    refuses("ValueError token: expected one token, without batch axes, got int32[3]; sample() takes a batch",
            lambda: stream(**kwargs(key)))  # fmt: skip
    refuses("TypeError params: expected values known outside of tracing, got traced …; sample() is the loop for "
            "inside of jax.jit",
            lambda: jax.jit(lambda params: next(stream(**kwargs(key | {"params": params}, batch=()))))(
                kwargs({})["params"]
            ))  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens": jnp.zeros((4, B))}, "TypeError tokens: expected integer token ids [T, ...], got float32[4, 3]; …"),
        ({"tokens": jnp.zeros((4, 2), int)}, "ValueError tokens: expected shape [T, 3], time before the axes of token, "
                                             "got int32[4, 2]; …"),
        ({"tokens": jnp.zeros((0, B), int)}, "ValueError tokens: expected shape [T, 3], …, got int32[0, 3]; …"),
        ({"tokens": jnp.full((4, B), V)}, "ValueError tokens: expected token ids in [0, 6), got values from 6 to 6; …"),
        ({"lengths": jnp.array([1, 2, 5])}, "ValueError lengths: expected values in [0, 4], T = 4, got 1 to 5; …"),
        ({"token": 0}, "ValueError state[1]: expected shape [4], got float32[3, 4]; …"),
    ],
)  # fmt: skip
def test_given_text(change, words):
    """Tokens or lengths that do not fit the other arguments."""
    arguments = kwargs({"tokens": jnp.zeros((4, B), int)} | change)
    arguments.pop("steps")
    refuses(words, lambda: log_probabilities(**arguments))


@pytest.mark.parametrize("decode", [greedy, sample, beam_search])
def test_bidirectional_models_cannot_generate(decode):
    """The message gives the reason."""
    model = rnn.Stack(rnn.Embedding(V, 4), rnn.Bidirectional(rnn.GRU(4, 4)), rnn.Linear(8, V))
    own = {"greedy": {}, "sample": {"key": jax.random.key(0)}, "beam_search": {"width": 2}}[decode.__name__]
    refuses("TypeError Bidirectional.step: …; the backward direction starts at the end; a model that decodes step by "
            "step needs forward cells only", lambda: decode(**kwargs(own, model)))  # fmt: skip
