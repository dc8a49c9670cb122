"""Attention against a plain loop; padding, beams and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import plain_encoder_decoder
import pytest
from contract import assert_close
from refusals import refuses
from zoo import random_params

from jaxrnn import GRU
from jaxrnn.tasks import AdditiveAttention, AttentionCell, DotAttention, GeneralAttention

S, B, K, E, H, A = 5, 3, 2, 4, 3, 6
LENGTHS = np.array([S, 2, 0])
MASK = np.arange(S)[:, None] < LENGTHS
KINDS = {
    "additive": lambda dtype: AdditiveAttention(E, H, A, dtype=dtype),
    "general": lambda dtype: GeneralAttention(E, H, dtype=dtype),
    "dot": lambda dtype: DotAttention(H),
}


def make(name, dtype="float64"):
    """An attention, random parameters, a memory and a beam of queries."""
    attention, rng = KINDS[name](dtype), np.random.default_rng(0)
    memory = jnp.asarray(rng.normal(size=(S, B, attention.memory_size)), dtype)
    return attention, random_params(attention), memory, jnp.asarray(rng.normal(size=(K, B, H)), dtype)


@pytest.mark.parametrize("name", KINDS)
def test_is_the_plain_loop(name, x64):
    """Context and weights of every query, without padding; 0 for a sequence of length 0."""
    attention, params, memory, queries = make(name)
    context, weights = attention.attend(params, queries, attention.prepare(params, memory, LENGTHS))
    for k, b in np.ndindex(K, B):
        expected, expected_weights = plain_encoder_decoder.attend(
            attention, params, queries[k, b], list(memory[: LENGTHS[b], b])
        )
        assert_close(context[k, b], expected)
        assert_close(weights[:, k, b], np.array(expected_weights + [0.0] * (S - LENGTHS[b])))
    assert_close(weights.sum(0), np.broadcast_to(LENGTHS > 0, (K, B)))


@pytest.mark.parametrize("name", KINDS)
def test_without_batch_or_lengths(name, x64):
    """One query and one memory without padding give the same as in a batch; so do queries for several steps."""
    attention, params, memory, queries = make(name)
    whole, _ = attention.attend(params, queries, attention.prepare(params, memory))
    prepared = attention.prepare(params, memory[:, 1])
    assert_close(attention.attend(params, queries[0, 1], prepared)[0], whole[0, 1])
    assert_close(attention.attend(params, queries[:, 1], prepared)[0], whole[:, 1])


@pytest.mark.parametrize("name", KINDS)
def test_padding_stays_out(name, x64):
    """NaN in the padding changes neither values nor gradients; its gradient is exactly 0."""
    attention, params, memory, queries = make(name)

    def loss(params, memory):
        context, _ = attention.attend(params, queries, attention.prepare(params, memory, LENGTHS))
        return (context**2).sum()

    with_nan = jnp.where(MASK[..., None], memory, jnp.nan)
    assert loss(params, with_nan) == loss(params, memory)
    by_params, by_memory = jax.jit(jax.grad(loss, (0, 1)))(params, with_nan)
    assert np.all((np.abs(by_memory) > 0) == MASK[..., None])
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(by_params))


@pytest.mark.parametrize("name", ["dot", "general"])
def test_beams_share_the_memory(name):
    """No array of a step is as large as a copy of the memory for each sequence of the beam."""
    attention, params, memory, queries = make(name, "float32")
    beams = jnp.tile(queries, (10, 1, 1))
    jaxpr = jax.make_jaxpr(attention.attend)(params, beams, attention.prepare(params, memory, LENGTHS))
    sizes = [v.aval.size for line in jaxpr.eqns for v in line.outvars]
    assert max(sizes) < len(beams) * memory.size
    compiled = jax.jit(attention.attend).lower(params, beams, attention.prepare(params, memory, LENGTHS)).compile()
    assert f"[{S},{len(beams)},{B},{attention.memory_size}]" not in compiled.as_text()


def test_saturated_scores_stay_finite():
    """Scores of ±10⁶ select one step, with and without padding."""
    attention = DotAttention(H)
    memory = jnp.asarray([[1e3] * H, [-1e3] * H, [0.0] * H])
    for lengths, expected in ((None, [0, 1, 0]), (jnp.asarray(1), [1, 0, 0])):
        _, weights = attention.attend((), jnp.full(H, -1e3), attention.prepare((), memory, lengths))
        np.testing.assert_array_equal(weights, expected)


DOT, QUERY, MEMORY = DotAttention(H), jnp.ones((B, H)), jnp.ones((S, B, H))
CALLS = {
    "ValueError memory: expected last axis 3 (DotAttention.input_size), got float32[5, 3, 4]; …": lambda: DOT.prepare(
        (), jnp.ones((S, B, E))
    ),
    "ValueError query: expected last axis 3…, got float32[3, 4]; …": lambda: DOT.attend(
        (), jnp.ones((B, E)), DOT.prepare((), MEMORY)
    ),
    "ValueError lengths: expected values in [0, 5]…, got 6 to 6; …": lambda: DOT.prepare((), MEMORY, np.full(B, 6)),
    "ValueError lengths: expected shape [3]…, got int64[2]; …": lambda: DOT.prepare((), MEMORY, np.array([1, 2])),
    "ValueError size: expected a positive int, got 0": lambda: AdditiveAttention(E, H, 0),
    "ValueError w_init: expected one of …, got 'glorot'": lambda: GeneralAttention(E, H, w_init="glorot"),
    "ValueError attention: expected query_size 4, the output size of the cell, got 3": lambda: AttentionCell(
        GRU(2 + H, 4), DOT
    ),
    "ValueError cell: expected input size above 3, that of the context, got 3; …": lambda: AttentionCell(
        GRU(H, H), DOT
    ),
    "TypeError attention: expected an attention, got str dot; …": lambda: AttentionCell(GRU(2 + H, H), "dot"),
}


@pytest.mark.parametrize("message", CALLS)
def test_refusals(message):
    refuses(message, CALLS[message])
