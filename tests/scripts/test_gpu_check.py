"""gpu_check.py: its table of what is there, its time limits, and a run in small on a CPU."""

import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

SCRIPTS = pathlib.Path(__file__).parent.parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))
import gpu_check  # noqa: E402
from benchmarks import cases, jax_models  # noqa: E402
from benchmarks.cases import Case  # noqa: E402

sys.path.remove(str(SCRIPTS))


@pytest.mark.parametrize(("device", "quick"), [("gpu", False), ("cpu", True)])
def test_parts(device, quick, tmp_path):
    """All limits together are under ten minutes; every command is understood."""
    parts = list(gpu_check.parts(device, quick, tmp_path))
    assert sum(part.limit for part in parts) < 580
    assert any("cudnn" in part.command[5] for part in parts[1:]) == (device == "gpu")


def test_a_part_is_cut_off(tmp_path):
    """What it wrote before is kept."""
    code = "import time; print('began'); time.sleep(60)"
    said = gpu_check.run(gpu_check.Part("slow", 1, [sys.executable, "-c", code]), "cpu", tmp_path)
    assert said == "cut off after 1 of at most 1 s"
    assert (tmp_path / "slow.log").read_text().endswith("began\n")


@pytest.mark.parametrize("processes", [False, True], ids=["one process", "several"])
def test_counted_tests(tmp_path, processes):
    """Those that ended before the cut, and the names of those that failed."""
    lines = [("PASSED", "tests/a.py::test_x[lstm 1]", 3), ("FAILED", "tests/b.py::test_y", 9)]
    log = [f"[gw0] [ {n}%] {state} {test}" if processes else f"{test} {state}   [  {n}%]" for state, test, n in lines]
    (tmp_path / "log").write_text("\n".join(["== test session starts", *log, "tests/b.py::test_z"]))
    assert gpu_check.tests(tmp_path / "log") == ["Tests: 1 passed, 1 failed.", "- FAILED tests/b.py::test_y"]


def test_a_table_of_what_is_there(tmp_path):
    """Results of a run that was cut off, and of one that had none."""
    for name in ("lstm", "unroll"):
        (tmp_path / name).mkdir()
    (tmp_path / "unroll" / "results.jsonl").touch()
    (tmp_path / "lstm" / "results.jsonl").write_text(
        '{"run": {"device": "gpu", "libraries": {"jaxrnn": {"device": "Card"}, "torch": {"missing": "no"}}}}\n'
        '{"case": {"cell": "lstm", "batch": 1, "hidden": 2, "steps": 4, "inputs": 2, "dtype": "float32"}, "libraries": '
        '{"jaxrnn": {"forward": {"times": [0.002, 0.001]}}, "flax": {"forward": {"times": [0.003]}}, '
        '"nnx": {"check": {"ok": false, "of": "outputs", "error": 1}, "forward": {"times": [0.001]}}}}\n{"case": {"ce'
    )
    text = gpu_check.table(tmp_path)
    assert text.startswith("# Card\n")
    assert "| lstm | lstm 1×2 T=4 | forward, ms | 1 | 3 |" in text
    assert "- torch is left out: no\n- lstm: lstm 1×2 T=4: nnx FAILED" in text
    assert text.endswith("Tests: not run.")


@pytest.mark.slow
def test_every_loop_is_unrolled():
    """Forward and backward, also after a trace of the library's own loops; the values are the same."""
    case = Case("lstm", batch=2, steps=6, inputs=3, hidden=3)
    xs = jnp.asarray(cases.inputs(case))
    weights = [{k: jnp.asarray(a) for k, a in part.items()} for part in cases.weights(case)]

    def unrolls_and_gradient(library):
        model = jax_models.BUILD[library](case)
        gradient = jax.grad(lambda p: jnp.sum(jnp.square(model.apply(p, xs))))
        params = model.load(weights)
        return re.findall(r"\bunroll=(\d+)", str(jax.make_jaxpr(gradient)(params))), jax.tree.leaves(gradient(params))

    plain, expected = unrolls_and_gradient("jaxrnn")
    unrolled, found = unrolls_and_gradient("jaxrnn-unroll4")
    assert set(plain) == {"1"}
    assert unrolled == ["4"] * len(plain)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_weights_of_cudnn():
    """In the one array that cuDNN takes, by JAX's own reference for it, which needs no GPU."""
    rnn = pytest.importorskip("jax.experimental.rnn")
    case = Case("lstm-bidirectional", batch=2, steps=3, inputs=4, hidden=5)
    weights = [{k: jnp.asarray(a) for k, a in part.items()} for part in cases.weights(case)]
    xs = jnp.asarray(cases.inputs(case))
    flat = jax_models.cudnn_weights(case, weights)
    sizes = {"input_size": 4, "hidden_size": 5, "num_layers": 1, "bidirectional": True}
    unpacked = rnn.unpack_lstm_weights(flat, *sizes.values())
    zero, lengths = jnp.zeros((2, 2, 5)), jnp.full((2,), 3, jnp.int32)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        ys, *_ = rnn.lstm_ref(jnp.swapaxes(xs, 0, 1), zero, zero, *unpacked, lengths, dropout=0.0, **sizes)
        model = jax_models.reference(case)
        expected = model.apply(weights, xs)
    np.testing.assert_allclose(jnp.swapaxes(ys, 0, 1), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_run_in_small(run_script, tmp_path):
    words = run_script("gpu_check", "--device", "cpu", "--quick", "--out", tmp_path / "run")
    assert "cudnn is left out: it needs a GPU" in words
    parts = [part.name for part in gpu_check.parts("cpu", True, tmp_path)]
    assert [line.partition(":")[0] for line in words.splitlines()[1 : len(parts) + 1]] == parts
    assert words.count(": ended with 0 after") == len(parts)
    assert "| jaxrnn-unroll16 |" in words
    assert " passed." in words
