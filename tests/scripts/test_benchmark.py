"""scripts/benchmark.py: its arithmetic, every library's weights, and a tiny run through real processes."""

import json
import math
import pathlib
import re
import sys

import jax
import numpy as np
import pytest
from versions import enable_x64

SCRIPTS = pathlib.Path(__file__).parent.parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))
import benchmark  # noqa: E402
from benchmarks import cases, driver, report  # noqa: E402
from benchmarks.cases import Case  # noqa: E402

sys.path.remove(str(SCRIPTS))

CLOSE = 1e-5


@pytest.fixture(autouse=True)
def as_others_write():
    """Other libraries add ``[H]`` to ``[B, H]``."""
    with jax.numpy_rank_promotion("allow"):
        yield


TINY = {"batch": 2, "steps": 3, "inputs": 4, "hidden": 5}


# ---- arithmetic --------------------------------------------------------------------------------------------------


def record(cell="lstm", steps=128, wrong=(), **times):
    """What a run writes of one case, from milliseconds by measure and library (``-`` written ``_``)."""
    libraries: dict = {}
    for word, milliseconds in times.items():
        measure, _, library = word.partition("_")
        entry = libraries.setdefault(library.replace("_", "-"), {"check": {"error": 0.0, "of": "outputs", "ok": True}})
        entry[measure] = {"inner": 1, "times": [milliseconds / 1e3, 2 * milliseconds / 1e3]}
    for library in wrong:
        libraries[library]["check"] = {"error": 0.5, "of": "outputs", "ok": False}
    case = {"cell": cell, "batch": 16, "steps": steps, "inputs": 32, "hidden": 32, "dtype": "float32"}
    return {"key": f"{cell} {steps}", "case": case, "libraries": libraries}


def by_start(records):
    """The goals by the beginning of their line."""
    return {goal.where.split(" / ")[0] + "/" + goal.where.rpartition(" / ")[2]: goal for goal in report.goals(records)}


def test_ratios_take_the_fastest_peer_and_its_minimum():
    one = record(gradient_jaxrnn=2, gradient_flax=8, gradient_haiku=3, gradient_torch=1)
    assert [r for _, r in report.ratios([one], "gradient", driver.JAX_PEERS)] == [1.5]
    assert [r for _, r in report.ratios([one], "gradient", ["torch"])] == [0.5]
    assert [r for _, r in report.ratios([one], "gradient", ["flax"], of=max)] == [4]
    assert report.ratios([one], "forward", driver.JAX_PEERS) == []


def test_a_goal_needs_its_mean_and_its_least():
    fast = record("lstm", gradient_jaxrnn=1, gradient_flax=4)
    even = record("gru", gradient_jaxrnn=1, gradient_flax=1)
    goal = by_start([fast, even])["forward and backward/fastest JAX library"]
    assert goal.reached is False  # the mean is 2 and the least 1, below 1.1
    assert "2.00× over 2 cases, least 1.00× (gru" in goal.measured
    assert by_start([fast])["forward and backward/fastest JAX library"].reached
    assert by_start([fast])["forward/fastest JAX library"].reached is None


def test_wrong_results_are_shown_and_count_for_nothing(tmp_path):
    wrong = record(wrong=["haiku"], gradient_jaxrnn=2, gradient_flax=6, gradient_haiku=1)
    assert [r for _, r in report.ratios([wrong], "gradient", driver.JAX_PEERS)] == [3]
    assert report.failures([wrong]) == ["lstm 16×32 T=128: haiku FAILED, outputs is off by 5.0e-01"]
    assert "| 3.00 | FAILED | 3.00 |" in "\n".join(report.table([wrong], "gradient"))
    ours = record(wrong=["jaxrnn"], gradient_jaxrnn=2, gradient_flax=6)
    assert report.ratios([ours], "gradient", driver.JAX_PEERS) == []


def test_growth_with_time():
    steady = [record(steps=T, gradient_jaxrnn=T / 1000) for T in (1000, 100_000)]
    assert by_start(steady)["forward and backward: time a step, T = 1e3 to 1e5/"
                            "forward and backward: time a step, T = 1e3 to 1e5"].reached  # fmt: skip
    quadratic = [record(steps=T, gradient_jaxrnn=T**2 / 1e6) for T in (1000, 2000)]
    assert [goal.reached for goal in report.goals(quadratic) if "T = 1e3" in goal.where] == [False, None, None]
    assert math.isclose(report.growth([10, 1000], [3, 30]), 0.5)


def test_geometric_mean():
    assert math.isclose(report.geometric_mean([0.5, 8]), 2)


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [(1e-3, 100), (0.02, 50), (0.1, 20), (1.0, 5)],  # many, what a second holds, twenty, as few as five
)
def test_timed_calls(seconds, calls):
    assert 5 * driver.how_many(seconds, budget=1.0, rounds=5) == calls


def test_relative_error():
    assert driver.relative_error(np.array([1.0, -4.2]), np.array([1.0, -4.0])) == pytest.approx(0.05)
    assert driver.relative_error(np.zeros(2), np.ones(3)) == math.inf
    assert driver.relative_error(np.array([np.nan]), np.ones(1)) == math.inf


def test_the_matrix_is_whole():
    whole = cases.matrix(cases.CELLS, cases.SHAPES, [35, 128, 500], ["16", "H"], ("gradient",))
    assert len({job.key for job in whole}) == 7 * 8 * 3 * 2
    keys = [job.key for job in cases.full()]
    assert len(set(keys)) == len(keys)  # no case is measured twice the same


def test_bfloat16_weights_are_bfloat16_numbers():
    (part,) = cases.weights(Case("lstm", **TINY, dtype="bfloat16"))
    for array in part.values():
        np.testing.assert_array_equal(array, array.astype(jax.numpy.bfloat16).astype(np.float32))


# ---- the libraries -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference():
    """Outputs and gradients of the equations in float64, by cell."""
    from benchmarks.jax_runner import Runner

    found: dict = {}

    def of(cell):
        if cell not in found:
            with enable_x64(True):
                found[cell] = Runner("reference", Case(cell, **TINY)).check(["gradient"])
        return found[cell]

    return of


@pytest.mark.filterwarnings("ignore")  # what other libraries deprecate
@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "cells"),
    [
        ("jaxrnn", "vanilla lstm-peephole gru gru-after lstm-bidirectional"),
        ("flax", "vanilla gru-after lstm-bidirectional"),
        ("nnx", "vanilla gru-after lstm-bidirectional"),
        ("haiku", "gru lstm-bidirectional"),
        ("keras", "gru gru-after lstm-bidirectional"),
        ("equinox", "gru-after lstm-bidirectional"),
        ("torch", "vanilla gru-after lstm-bidirectional"),
    ],
)
def test_weights_mean_the_same(library, cells, reference, monkeypatch):
    """Outputs and all gradients of every library, brought back to our weights, are those of the equations."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    pytest.importorskip({"nnx": "flax"}.get(library, library))
    with jax.numpy_dtype_promotion("standard"):
        for cell in cells.split():
            found = runner(library, Case(cell, **TINY)).check(["gradient"])
            expected = reference(cell)
            assert found.keys() == expected.keys() - ({"d b_hh[0]"} if library == "nnx" else set())
            for name, array in found.items():
                assert driver.relative_error(array, expected[name]) < CLOSE, (cell, name)


def runner(library, case):
    """The case in one library, in this process."""
    if library == "torch":
        from benchmarks.torch_runner import Runner

        return Runner(case, "cpu")
    from benchmarks.jax_runner import Runner

    return Runner(library, case)


@pytest.mark.parametrize("cell", ["lstm-peephole", "gru"])
def test_what_a_library_lacks_is_said(cell):
    with pytest.raises(cases.Refused, match=r"peephole|resets after"):
        runner("flax", Case(cell, **TINY))


# ---- a run -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run(tmp_path, monkeypatch, capsys):
    """Two libraries and the reference in processes of their own, one case; then resumed."""
    command = ["benchmark.py", "--libraries", "jaxrnn,flax", "--cells", "lstm", "--shapes", "1x3", "--steps", "4"]
    command += ["--measures", "gradient,decode,compile", "--budget", "0.001", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path)])
    monkeypatch.setattr(driver, "COMPILATIONS", 1)
    benchmark.main()
    run, (found,) = report.read(tmp_path / "results.jsonl")
    assert run["libraries"]["flax"]["jax"] == jax.__version__
    ours, theirs = found["libraries"]["jaxrnn"], found["libraries"]["flax"]
    for entry in (ours, theirs):
        assert entry["check"]["ok"]
        assert entry["check"]["error"] < CLOSE
        assert min(entry["gradient"]["times"]) > 0
        assert entry["gradient"]["inner"] > 1  # so quick that several calls make a timed one
        assert entry["compile"]["residuals"] > 0
    assert "decode" in ours
    assert "decode" not in theirs
    assert "| lstm 1×3 T=4 |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "ratios.png").stat().st_size > 10_000

    before = (tmp_path / "results.jsonl").read_text()
    other = json.dumps({"run": run | {"cpu": "another"}})
    (tmp_path / "results.jsonl").write_text(other + "\n" + before.split("\n", 1)[1])
    with pytest.raises(SystemExit, match="2"):
        benchmark.resumed(tmp_path / "results.jsonl", run)
    message = f"error: --resume: expected the same cpu as there, another, got {run['cpu']}; leave it out"
    assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        benchmark.resumed(tmp_path / "results.jsonl", run | {"cpu": "another", "rounds": 3})
    assert "--resume: expected the same rounds as there, 2, got 3" in capsys.readouterr().err
    (tmp_path / "results.jsonl").write_text(before + '{"key": "cut off in the mid')
    assert benchmark.resumed(tmp_path / "results.jsonl", run) == {found["key"]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--cells lstm,grus", "expected some of vanilla, .*got 'grus'"),
        ("--shapes 32", "expected shapes BxH such as 32x128, got '32'"),
        ("--steps 0", "expected whole numbers above 0, got '0'"),
        ("--budget 0", "expected a number above 0, got 0"),
    ],
)
def test_refusals(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *words.split()])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert re.search(message, capsys.readouterr().err)
