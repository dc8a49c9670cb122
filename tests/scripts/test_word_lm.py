"""The small word language model of scripts/word_lm.py and the same model in PyTorch on the same weights."""

import pathlib

import jax
import numpy as np
import pytest

from jaxrnn import interop, learning
from jaxrnn.data import Streams, Vocabulary, python_reference

torch = pytest.importorskip("torch")
BATCHES, CLOSE = 12, 1e-4
SCRIPTS = pathlib.Path(__file__).parent.parent.parent / "scripts"


def twin(model, params, streams, recipe, batch):
    """Loss (summed over time) and gradient norm of every batch, by PyTorch alone."""
    embedding, _, first, _, second, _, readout = params
    core = torch.nn.LSTM(recipe.width, recipe.width, 2)
    stack = type(model)(model.layers[2], model.layers[4])
    core.load_state_dict(interop.torch.to_state_dict(stack, (first, second)))
    for name, weight in core.named_parameters():  # one bias, as here
        weight.requires_grad_(not name.startswith("bias_hh"))
    w_in, w_out, b_out = (torch.tensor(np.asarray(a), requires_grad=True) for a in (embedding.w, readout.w, readout.b))
    weights = [w_in, w_out, b_out, *(w for w in core.parameters() if w.requires_grad)]
    carry = tuple(torch.zeros(2, batch, recipe.width) for _ in "hc")
    for n in range(BATCHES):
        chunk = streams[n]
        ys, carry = core(w_in[torch.from_numpy(chunk.inputs).long()], carry)
        carry = tuple(s.detach() for s in carry)
        targets = torch.from_numpy(chunk.targets).long()
        logits = (ys @ w_out + b_out).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum") / batch
        grads = torch.autograd.grad(loss, weights)
        norm = torch.sqrt(sum((g**2).sum() for g in grads))
        yield loss.item(), norm.item()
        with torch.no_grad():
            for weight, grad in zip(weights, grads, strict=True):
                weight -= grad * torch.clamp(recipe.clip / norm, max=1.0)  # c g / ‖g‖ where ‖g‖ > c


@pytest.mark.slow
def test_batches_of_the_small_model(monkeypatch):
    """Loss and gradient norm agree batch by batch, the gradient being clipped and applied in between."""
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(SCRIPTS)
    import word_lm

    recipe = word_lm.RECIPES["small"]
    words = python_reference().split()[:30_000]
    vocabulary = Vocabulary.of(words, most=2000, unknown="<unk>")
    streams = Streams(vocabulary.encode(words), word_lm.BATCH, recipe.steps)
    model, loss, optimizer = word_lm.build(recipe, len(vocabulary), len(streams))
    params = model.init(jax.random.key(0))
    state = learning.train_state(params, optimizer, carry=model.initial_state((word_lm.BATCH,)))
    step = jax.jit(learning.train_step(loss, optimizer))
    clipped = 0
    for n, (value, norm) in enumerate(twin(model, params, streams, recipe, word_lm.BATCH)):
        state, metrics = step(state, streams[n], jax.random.key(1))
        np.testing.assert_allclose(metrics["loss"], value, rtol=CLOSE)
        np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=CLOSE)
        clipped += norm > recipe.clip
    assert clipped > 0  # so that clipping has been compared as well
