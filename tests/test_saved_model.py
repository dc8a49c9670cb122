"""The SavedModel of the README, loaded by TensorFlow in a process of its own."""

import pathlib
import re
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest

import jaxrnn as rnn

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text("utf-8")
LOAD = """
import sys, numpy as np, tensorflow as tf
arrays = np.load("arrays.npz")
np.save("theirs.npy", tf.saved_model.load("saved_model").serve(arrays["ids"], arrays["lengths"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("shapes", ["any", "numbers"])
def test_a_saved_model(shapes, tmp_path, monkeypatch):
    """The same outputs on a ragged batch, where this library is not imported."""
    with warnings.catch_warnings(action="ignore"):
        pytest.importorskip("tensorflow")
    (program,) = re.findall(r"```py\n(# saved_model.py\n.*?)```", README, re.DOTALL)
    if shapes == "numbers":
        program = program.replace('polymorphic_shapes=["(T, B)", "(B,)"], ', "")
        program = program.replace("[None, None]", "[6, 3]").replace("[None]", "[3]")
    model = rnn.Stack(rnn.Embedding(7, 4), rnn.Bidirectional(rnn.LSTM(4, 5)), rnn.Linear(10, 3))
    params = model.init(jax.random.key(0))
    serve = jax.jit(lambda ids, lengths: rnn.unroll(model, params, ids, lengths=lengths)[1])
    ids = np.random.default_rng(0).integers(0, 7, (6, 3)).astype(np.int32)
    lengths = np.array([6, 3, 1], np.int32)

    monkeypatch.chdir(tmp_path)
    np.savez("arrays.npz", ids=ids, lengths=lengths)
    with warnings.catch_warnings(action="ignore"):
        exec(program, {"serve": serve})
    load = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=False)
    if "failed to deserialize portable artifact" in load.stderr and shapes == "any":
        pytest.skip("this TensorFlow is too old for this JAX")
    assert load.returncode == 0, load.stderr
    np.testing.assert_allclose(np.load("theirs.npy"), serve(ids, lengths), rtol=0, atol=1e-6)
