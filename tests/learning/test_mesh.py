"""One program, one result: devices and processes change where a run is computed, not what."""

import json

import cluster
import jax
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrnn import learning
from jaxrnn.learning import mesh as mesh_module


def ends(results):
    """What the processes said, after a run that succeeded in all of them."""
    for status, _, output, _ in results:
        assert status == 0, output
    return [said for _, said, _, _ in results]


def assert_same(a, b, tolerance):
    assert (a["step"], a["stopped"]) == (b["step"], b["stopped"])
    np.testing.assert_allclose(a["numbers"], b["numbers"], rtol=0, atol=tolerance * np.abs(b["numbers"]).max())


# ---- in one process ----


def test_several_devices():
    """Dropout, unequal lengths, clipping, a carry; replicated parameters, and sharded ones, which stay so."""
    cases = [{"mesh": 0}, {"mesh": 8}, {"specs": "first axis"}, {"specs": "readout"}]
    (said,) = ends(cluster.run("one_process", devices=8, cases=[{"steps": 20, **case} for case in cases]))
    alone, replicated, first_axis, readout = said
    for other in (replicated, first_axis, readout):
        assert_same(other, alone, 1e-5)
    assert alone["parts"] == {"w": [8, 12], "b": [12], "moment of w": [8, 12], "carry": [8, 8]}
    assert replicated["parts"] == {"w": [8, 12], "b": [12], "moment of w": [8, 12], "carry": [1, 8]}
    assert first_axis["parts"] == {"w": [1, 12], "b": [12], "moment of w": [1, 12], "carry": [1, 8]}
    assert readout["parts"] == {"w": [8, 6], "b": [6], "moment of w": [8, 6], "carry": [2, 8]}


@pytest.mark.slow
@pytest.mark.parametrize(("x64", "tolerance"), [(False, 1e-4), (True, 1e-10)], ids=["float32", "float64"])
def test_one_to_eight_devices(x64, tolerance):
    """200 steps on 1, 2, 4 and 8 devices."""
    cases = [{"steps": 200, "mesh": n} for n in (0, 1, 2, 4, 8)]
    (said,) = ends(cluster.run("one_process", devices=8, cases=cases, x64=x64))
    for other in said[1:]:
        assert_same(other, said[0], tolerance)


def test_cores_after_the_start_of_jax():
    """Only the number that is in use already is accepted."""
    count = len(jax.devices("cpu"))
    assert learning.use_cores(count) == count
    with pytest.raises(
        RuntimeError, match=f"use_cores: expected a call before JAX .* CPU device.* instead of {count + 1}"
    ):
        learning.use_cores(count + 1)
    with pytest.raises(ValueError, match="n: expected a positive int, got 0"):
        learning.use_cores(0)


def test_mesh_of_devices():
    """All, the first n, or a list."""
    every = jax.devices()
    for devices, expected in ((None, every), (1, every[:1]), (every[:1], every[:1]), (np.array(every), every)):
        mesh = learning.device_mesh(devices)
        assert mesh.axis_names == ("batch",)
        assert mesh.devices.tolist() == expected
    with pytest.raises(ValueError, match=rf"devices: expected at most {len(every)}.*use_cores"):
        learning.device_mesh(len(every) + 1)
    for wrong in ("cpu", True, [], [0]):
        with pytest.raises(TypeError, match=r"devices: expected devices, such as jax.devices\(\)"):
            learning.device_mesh(wrong)


# ---- where arrays lie ----


def placement(**options):
    abstract = jax.sharding.AbstractMesh((2, 4), ("model", "batch"))
    found = object.__new__(mesh_module.Placement)
    for name, value in ({"mesh": abstract, "batch_spec": None, "local_batches": False} | options).items():
        object.__setattr__(found, name, value)
    return found


def test_specs_of_a_batch():
    """Axis 1 of what has time first, axis 0 of what has not; or what the user says, as a tree prefix."""
    batch = {"x": np.zeros((7, 4, 3)), "lengths": np.zeros(4), "step": np.zeros(()), "pair": (np.zeros((4, 2)),) * 2}

    def specs(batch_spec=None, stacked=False):
        arrays = jax.tree.map(lambda x: np.stack([x]), batch) if stacked else batch
        return jax.tree.unflatten(jax.tree.structure(batch), placement(batch_spec=batch_spec)._specs(arrays, stacked))

    default = {"x": P(None, "batch"), "lengths": P("batch"), "step": P(), "pair": (P(None, "batch"),) * 2}
    assert specs() == default
    given = {"x": None, "lengths": None, "step": None, "pair": P("batch")}
    assert specs(given) == default | {"pair": (P("batch"),) * 2}
    assert specs(given, stacked=True)["pair"][0] == P(None, "batch")
    assert specs(stacked=True) == {"x": P(None, None, "batch"), "lengths": P(None, "batch"), "step": P(None),
                                   "pair": (P(None, None, "batch"),) * 2}  # fmt: skip
    with pytest.raises(ValueError, match="batch_spec: expected a tree prefix of a batch"):
        specs({"x": None})


def test_a_batch_that_does_not_divide():
    """The message has the numbers and what to do."""
    message = (
        r"batches\[n\]\['x'\]: expected axis 1 a multiple of 4, .* got 30: \[7, 30\]; 28 or 32 of them, device_mesh"
    )
    with pytest.raises(ValueError, match=message):
        placement().batch({"x": np.zeros((7, 30))})
    with pytest.raises(ValueError, match=message):
        placement().batch({"x": np.zeros((5, 7, 30))}, stacked=True)
    with pytest.raises(ValueError, match=r"axis 0 a multiple of 4, .* got 3: \[3\]; 4 of them"):
        placement().batch(np.zeros(3))
    with pytest.raises(ValueError, match="batch_spec: expected at most 1 axes"):
        placement(batch_spec=P(None, "batch")).batch(np.zeros(8))


def test_refused_placements():
    """Arguments that need a mesh, specs of other axes."""
    mesh = learning.device_mesh(1)
    for options in ({"batch_spec": P("batch")}, {"local_batches": True}):
        with pytest.raises(ValueError, match="mesh: expected a mesh, which"):
            mesh_module.Placement(None, **options)
    with pytest.raises(TypeError, match="mesh: expected"):
        mesh_module.Placement(2)
    with pytest.raises(ValueError, match="batch_spec: expected"):
        mesh_module.Placement(mesh, P("data"))
    with pytest.raises(TypeError, match="batch_spec: expected"):
        mesh_module.Placement(mesh, "batch")


def test_shard_batch():
    """Public: one batch or stacked ones; arrays on devices are not taken to the host."""
    mesh = learning.device_mesh(1)
    xs, lengths = learning.shard_batch((np.ones((7, 4, 3)), jax.numpy.ones(4)), mesh)
    assert (xs.sharding, lengths.sharding) == (NamedSharding(mesh, P(None, "batch")), NamedSharding(mesh, P("batch")))
    stacked = learning.shard_batch(np.ones((2, 7, 4, 3)), mesh, stacked=True)
    assert stacked.sharding == NamedSharding(mesh, P(None, None, "batch"))
    with jax.transfer_guard_device_to_host("disallow"):
        mesh_module.Placement(None).stacked([xs, xs])


def test_shard_state():
    """Public: a copy, the carry split."""
    mesh = learning.device_mesh(1)
    state = learning.train_state({"w": jax.numpy.ones(3)}, optax.adam(0.1), jax.numpy.zeros((4, 2)))
    placed = learning.shard_state(state, mesh)
    assert placed.carry.sharding == NamedSharding(mesh, P("batch"))
    assert placed.params["w"].sharding == NamedSharding(mesh, P())
    jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)(placed)
    assert state.params["w"].tolist() == [1, 1, 1]  # still there
    with pytest.raises(TypeError, match="state: expected"):
        learning.shard_state({"w": 1}, mesh)


# ---- in several processes ----


@pytest.mark.slow
def test_two_processes(tmp_path):
    """The same run; process 0 prints and logs, both write the checkpoints; it goes on with one process."""
    alone, folder = tmp_path / "alone", tmp_path / "two"
    ((first,),) = ends(cluster.run("train", steps=30, folder=str(alone)))
    results = cluster.run("train", processes=2, steps=20, folder=str(folder))
    (main,), (other,) = ends(results)
    assert main["numbers"] == other["numbers"]
    assert ["evaluation" in output for _, _, output, _ in results] == [True, False]
    ((resumed,),) = ends(cluster.run("train", devices=2, steps=30, folder=str(folder), resume=True))
    assert_same(resumed, first, 1e-5)
    logs = [[json.loads(line) for line in (f / "log.jsonl").read_text().splitlines()] for f in (alone, folder)]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(2, 1), (2, 2), (4, 1)])
def test_processes_and_devices(processes, devices):
    """200 steps, in float64."""
    ((alone,),) = ends(cluster.run("train", mesh=0, steps=200, x64=True))
    for (said,) in ends(cluster.run("train", processes=processes, devices=devices, steps=200, x64=True)):
        assert_same(said, alone, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(1, 2), (4, 1), (1, 1), (2, 1)])
def test_another_layout_after_a_checkpoint(tmp_path, processes, devices):
    """Saved by two processes, resumed on other numbers of processes and devices; the parameters may be sharded."""
    ((alone,),) = ends(cluster.run("train", mesh=0, steps=40))
    specs = {"specs": "first axis"} if processes * devices > 1 else {}
    ends(cluster.run("train", processes=2, steps=20, folder=str(tmp_path), specs="first axis"))
    options = {"steps": 40, "folder": str(tmp_path), "resume": True, **specs}
    for (said,) in ends(cluster.run("train", processes=processes, devices=devices, **options)):
        assert_same(said, alone, 1e-5)


@pytest.mark.slow
def test_parts_of_a_batch():
    """Each process reads its own rows only."""
    ((alone,),) = ends(cluster.run("train", mesh=0, steps=30))
    for (said,) in ends(cluster.run("train", processes=2, devices=2, steps=30, source={"local": True})):
        assert_same(said, alone, 1e-5)


@pytest.mark.slow
def test_processes_stop_together(tmp_path):
    """Ctrl-C at one process, and patience, whose evaluations could differ by rounding."""
    trouble = {"trouble": "interrupt", "process": 1, "at": 33}
    options = {"steps": 100_000, "folder": str(tmp_path), "source": trouble}
    (main,), (other,) = ends(cluster.run("train", processes=2, **options))
    assert (main["stopped"], main["step"]) == (other["stopped"], other["step"]) == ("interrupted", main["step"])
    assert learning.Checkpoints(tmp_path, None).steps()[-1] == main["step"] >= 30
    (main,), (other,) = ends(cluster.run("train", processes=2, steps=100_000, patience=2))
    assert (main["stopped"], main["step"]) == (other["stopped"], other["step"]) == ("early", main["step"])


@pytest.mark.slow
def test_batches_that_are_not_finite_end_all_processes():
    """With the same error."""
    options = {"steps": 100_000, "max_nonfinite": 7, "source": {"trouble": "not finite", "process": 0, "at": 20}}
    for status, _, output, _ in cluster.run("train", processes=2, **options):
        assert status != 0
        assert "NonFiniteError: loss and gradient: expected finite numbers, got 7 batches in a row" in output


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["kill", "error"])
def test_a_process_that_dies(trouble):
    """The other one ends within a minute, and says that another one died."""
    if trouble == "error" and not cluster.HAS_SHUTDOWN_TIMEOUT:
        pytest.skip("this version of JAX waits five minutes at the end of a process")
    options = {"steps": 100_000, "source": {"trouble": trouble, "process": 1, "at": 33}}
    (main, dead) = cluster.run("train", processes=2, **options)
    assert main[0] != 0
    assert dead[0] != 0
    assert abs(main[3] - dead[3]) < 60
    assert "another task died" in main[2] or "another process has ended" in main[2], main[2]
    assert trouble == "kill" or "the disk is gone" in dead[2]


@pytest.mark.slow
def test_arguments_that_differ_between_processes():
    """They would wait for each other for ever."""
    for said in ends(cluster.run("differ", processes=2)):
        key, state, mesh, checkpoints, shard_state = (answer["refused"] for answer in said)
        assert key == "key: expected the same on every process"
        assert state == shard_state == "state: expected the same on every process"
        assert mesh == "mesh: expected devices of all 2 processes"
        assert checkpoints == "checkpoints: expected the same on every process"
