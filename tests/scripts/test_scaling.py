"""scaling.py: the equations of its predictions beside numbers worked out by hand, and its report and a short run."""

import json
import math
import pathlib
import sys

import jax
import pytest

SCRIPTS = pathlib.Path(__file__).parent.parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))
import scaling  # noqa: E402
from benchmarks import cost_model  # noqa: E402
from benchmarks import scaling as worker  # noqa: E402
from benchmarks.cost_model import Cluster, Device, Link, Network  # noqa: E402

sys.path.remove(str(SCRIPTS))

TINY = Network("tiny", "lstm", batch=8, steps=10, embedding=3, hidden=5, vocabulary=7)
UNIT = Device("unit", rate=1e6, step_latency=1e-3, memory=1e9, cache=1e9)


@pytest.mark.parametrize("net", [*cost_model.MEASURED, cost_model.LARGE], ids=lambda net: net.name)
def test_parameters(net):
    """As many as the model of the library has."""
    shapes = jax.eval_shape(worker.build(net).init, jax.random.key(0))
    assert net.parameters == sum(math.prod(a.shape) for a in jax.tree.leaves(shapes))


def test_flops():
    """Of a time step and sequence: 2 H G H = 200, 2 I G H = 120, 2 H V = 70; three times as many with backward."""
    assert cost_model.recurrent_flops(TINY, 8) == 8 * 200
    assert cost_model.parallel_flops(TINY, 8) == 10 * 8 * (3 * 120 + 3 * 70 + 200)
    assert cost_model.step_flops(TINY, 8) == 3 * 10 * 8 * (200 + 120 + 70)
    deep = TINY._replace(layers=2, directions=2)  # inputs of 3 and of 10, two directions of each
    assert cost_model.step_flops(deep, 1) == 3 * 10 * (4 * 200 + 2 * 120 + 2 * 400 + 140)


def test_a_time_step_is_its_longest_part():
    assert cost_model.time_step(TINY, 1, UNIT) == 1e-3  # 0.2 ms of arithmetic
    assert cost_model.time_step(TINY, 8, UNIT) == pytest.approx(1.6e-3)  # 1600 FLOPs
    slow = UNIT._replace(memory=1e5, cache=100)  # w_hh, 4 * 5 * 20 bytes, is read each time
    assert cost_model.time_step(TINY, 1, slow) == pytest.approx(4e-3)


def test_compute():
    """2 scans of 10 steps of 1.6 ms, the rest at full rate, and 28 bytes a parameter for Adam."""
    parameters = 7 * 3 + (3 + 5 + 1) * 20 + 6 * 7
    expected = 20 * 1.6e-3 + 10 * 8 * 770 / 1e6 + 28 * parameters / 1e9
    assert cost_model.compute(TINY, 8, UNIT) == pytest.approx(expected)


def test_all_reduce():
    ring, both = Link(1e9, 1e-6, tree=False), Link(1e9, 1e-6, tree=True)
    assert cost_model.all_reduce(1e6, 1, ring) == 0
    assert cost_model.all_reduce(1e6, 4, ring) == pytest.approx(1.5e-3 + 6e-6)
    assert cost_model.all_reduce(1e6, 4, both) == pytest.approx(1.5e-3 + 6e-6)  # the ring sends less
    assert cost_model.all_reduce(8, 64, both) == pytest.approx(12e-6, rel=1e-2)  # the tree has fewer messages
    hosts = Cluster("", UNIT, 4, within=ring, between=ring._replace(bandwidth=1e8))
    assert hosts.all_reduce(1e6, 4) == cost_model.all_reduce(1e6, 4, ring)
    assert hosts.all_reduce(1e6, 8) == pytest.approx(1.5e-3 + 6e-6 + 0.25e6 / 1e8 + 2e-6)  # a fourth to one other host


def test_efficiency():
    """Where every step waits for latency, a divided batch gains nothing; a batch a device gains all but the sending."""
    free = Link(math.inf, 0.0, tree=False)
    cluster = Cluster("", Device("", math.inf, 1e-3, math.inf, math.inf), 1, free, free)
    assert cost_model.strong(TINY, 8, cluster).efficiency == pytest.approx(1 / 8)
    assert cost_model.weak(TINY, 8, cluster).efficiency == 1
    quick = cluster._replace(device=cluster.device._replace(rate=1e6, step_latency=0.0))
    assert cost_model.strong(TINY, 8, quick).efficiency == pytest.approx(1)  # arithmetic alone divides


def test_where_it_stops():
    """Only latency counts: 20 ms of time steps against 2 (n - 1) ms of messages."""
    link = Link(math.inf, 1e-3, tree=False)
    cluster = Cluster("", Device("", math.inf, 1e-3, math.inf, math.inf), 1, link, link)
    assert cost_model.communication_bound(cost_model.weak, TINY, cluster) == 16  # 2 * 7 < 20 <= 2 * 15
    assert cost_model.half_efficient(cost_model.weak, TINY, cluster) == 16
    assert cost_model.communication_bound(cost_model.strong, TINY, cluster) is None  # 8 sequences
    assert cost_model.half_efficient(cost_model.strong, TINY, cluster) == 2  # 20 / 2 / (20 + 2)
    efficiency = cost_model.remedies(TINY, 16, cluster)
    assert efficiency["as it is"] == pytest.approx(20 / 50)
    assert efficiency["4 times the batch a device"] == pytest.approx(20 / 50)  # its steps take no longer
    assert efficiency["gradient accumulated over 4 batches"] == pytest.approx(80 / 110)


PROGRAM = """HloModule step

%body (p: (f32[2])) -> (f32[2]) {
  %inner = f32[2]{0} all-gather(%p), dimensions={0}
}

ENTRY %main (p: f32[2]) -> f32[2] {
  %while = (f32[2]{0}) while(%t), condition=%test, body=%body
  %all-reduce.1 = (f32[103,2]{1,0}, /*index=1*/bf16[8]{0}, f32[]) all-reduce(%a, %b, %c), to_apply=%add
  %get = f32[103,2]{1,0} get-tuple-element(%all-reduce.1), index=0
}
"""


def test_bytes_of_a_program():
    assert worker.all_reduced(PROGRAM) == (4 * 206 + 2 * 8 + 4, 1)


def entry(batch, *milliseconds, ok=True):
    """What one process says of a model."""
    kinds = {kind: {"batch": b, "times": [t / 1e3, 9.0], "all_reduced": 0, "collectives_in_loops": 0}
             for kind, b, t in zip(scaling.KINDS, batch, milliseconds, strict=True)}  # fmt: skip
    return kinds | {"check": {"ok": ok}}


def test_speed_up():
    """Sequences a second over those of one device; wrong results count for nothing."""
    record = {"model": "m", "devices": {"1": entry((8, 8), 6, 6), "2": entry((8, 16), 4, 8),
                                        "4": entry((8, 32), 1, 1, ok=False)}}  # fmt: skip
    assert scaling.speed_up(record, "2", "strong") == pytest.approx(1.5)
    assert scaling.speed_up(record, "2", "weak") == pytest.approx(1.5)
    assert scaling.speed_up(record, "4", "weak") is None
    run = {"date": "d", "cpu": "c", "cores": 2, "libraries": {"1": {"device": "cpu", "jax": "1"}}}
    words = scaling.table(run, [record])
    assert "| m | 2 | 0.00 | 4 | 4502 | 1.50 | 75% | 8 | 4504 | 75% |" in words
    assert "| m | 4 | 0.00 | FAILED |" in words


def test_predictions_alone(run_script, tmp_path):
    words = run_script("scaling", "--predict", "--out", tmp_path / "run")
    assert "### char_lm: 1 × LSTM 256, vocabulary 103, batch 32, T 64\n\n1.45 MB" in words
    assert (tmp_path / "run" / "scaling.md").read_text().strip() in words


def test_refusals(refused):
    assert refused("scaling", "--models", "transformer").startswith("argument --models: expected some of char_lm, ")
    assert refused("scaling", "--rounds", "0") == "argument --rounds: expected a whole number above 0, got 0"


@pytest.mark.slow
def test_a_run(run_script, tmp_path):
    """One and two devices agree, and what is all-reduced is the gradient and the loss, outside of every loop."""
    words = run_script("scaling", "--quick", "--devices", "2", "--budget", "0.01", "--out", tmp_path / "run")
    assert "Collectives inside a loop over time: 0." in words
    _, line = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    found = json.loads(line)["devices"]
    assert found["2"]["check"]["ok"]
    assert found["2"]["strong"]["all_reduced"] == 4 * (cost_model.CHAR_LM.parameters + 1)
    assert found["1"]["strong"]["all_reduced"] == 0
    assert min(found["2"]["weak"]["times"]) > 0
    assert (tmp_path / "run" / "scaling.png").stat().st_size > 10_000
