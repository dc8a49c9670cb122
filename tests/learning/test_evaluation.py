"""Evaluation is exact over all batches, on any number of devices; what cannot be evaluated is refused."""

import functools

import cluster
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refuses

from jaxrnn import data, learning, metrics
from jaxrnn.learning import evaluate, evaluation

PARAMS = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
METRICS = [metrics.accuracy, metrics.cross_entropy, metrics.confusion(3)]


def predict(params, batch):
    """Logits of each step."""
    return jnp.asarray(batch.inputs) @ params


def of_sequence(params, batch):
    """Logits of a sequence: those of its first step."""
    return predict(params, batch)[0]


class Tensor:
    """An array of another library."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __array__(self, dtype=None, copy=None):
        return self.array


def of_stream(params, carry, batch):
    """Logits of the sums of all ids up to now."""
    sums = carry[None] + jnp.cumsum(batch.inputs, 0)
    return sums[-1], jax.nn.one_hot(sums % 3, 3) * params[0][None, None]


def sequences(sizes=(1, 2, 3, 3, 4, 1, 2)):
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(n, 2)).astype(np.float32) for n in sizes]
    return inputs, [rng.integers(0, 3, n) for n in sizes]


def plain(logits, labels):
    """The three metrics, in float64."""
    logits, confusion = np.asarray(logits, float), np.zeros((3, 3), int)
    for row, label in zip(logits, labels, strict=True):
        confusion[label, row.argmax()] += 1
    nats = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(labels)), labels]
    return {"accuracy": confusion.trace() / len(labels), "cross_entropy": nats.mean(), "confusion": confusion}


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("mesh", [None, 1], ids=["", "mesh"])
@pytest.mark.parametrize("labels", [True, False], ids=["labels", "sequences"])
def test_every_target_has_the_same_weight(labels, mesh):
    """Padding and fillers have none; the values are those of a plain loop over the data."""
    inputs, targets = sequences()
    targets = [y[0] for y in targets] if labels else targets
    batches = data.Buckets(inputs, targets, 3, lengths=[4], aligned=not labels)
    mesh = None if mesh is None else learning.device_mesh(mesh)
    got = evaluate(of_sequence if labels else predict, PARAMS, batches, METRICS, mesh=mesh)
    firsts = np.stack([x[0] for x in inputs]) if labels else np.concatenate(inputs)
    assert_same(got, plain(firsts @ PARAMS, np.hstack(targets)))
    assert {type(value) for name, value in got.items() if name != "confusion"} == {float}
    assert got["confusion"].dtype == np.int64


@pytest.mark.parametrize("mesh", [None, 1], ids=["", "mesh"])
def test_carry(mesh):
    """It goes from batch to batch, more of them than may be on their way at once; others follow after an epoch."""
    ids = np.random.default_rng(0).integers(0, 3, 2 * 5 * 40 + 1)
    streams = data.Streams(ids, batch=2, steps=5)
    mesh = None if mesh is None else learning.device_mesh(mesh)
    carry, n = jnp.zeros(2, jnp.int32), len(streams)
    got = evaluate(of_stream, PARAMS, streams, METRICS, carry=carry, mesh=mesh)
    sums = np.concatenate([np.cumsum(ids[:-1].reshape(2, -1)[b]) for b in range(2)])
    logits = np.eye(3)[sums % 3] * PARAMS[0]
    assert_same(got, plain(logits, ids[1:]))
    more = evaluate(of_stream, PARAMS, streams, METRICS[2:], carry=carry, steps=n + 1)
    assert more["confusion"].sum() == 10 * (n + 1)
    assert carry.tolist() == [0, 0]


def test_sources():
    """A list, a generator, an endless one, of which no batch is lost; a class without a length."""
    inputs, targets = sequences((2, 2, 2, 2))
    batches = list(data.Buckets(inputs, targets, 2, aligned=True, shuffle=False))
    whole = evaluate(predict, PARAMS, batches, METRICS)
    half = evaluate(predict, PARAMS, batches[:1], METRICS)
    assert_same(evaluate(predict, PARAMS, (batch for batch in batches), METRICS), whole)
    assert_same(evaluate(predict, PARAMS, iter(batches), METRICS, steps=2), whole)
    rest = iter(batches)
    assert_same(evaluate(predict, PARAMS, rest, METRICS, steps=1), half)
    assert len(list(rest)) == 1

    class Loader:
        def __iter__(self):
            return (batch._replace(inputs=Tensor(batch.inputs)) for batch in batches)

    assert_same(evaluate(predict, PARAMS, Loader(), METRICS), whole)

    class Endless:
        def __getitem__(self, n):
            return batches[n % 2]

    assert_same(evaluate(predict, PARAMS, Endless(), METRICS, steps=4), whole | {"confusion": 2 * whole["confusion"]})
    refuses("ValueError steps: expected the number of batches, as Endless …", lambda: evaluate(
        predict, PARAMS, Endless(), METRICS))  # fmt: skip


def test_compiled_once_for_each_shape():
    """Also in a second evaluation, with equal metrics."""
    traced = []

    def counted(params, batch):
        traced.append(np.shape(batch.inputs))
        return predict(params, batch)

    inputs, targets = sequences()
    batches = data.Buckets(inputs, targets, 2, lengths=[2, 4], aligned=True)
    for _ in range(2):
        evaluate(counted, PARAMS, batches, [metrics.top_k(2), metrics.f1(3)])
    assert sorted(traced) == [(2, 2, 2), (4, 2, 2)]


def test_few_batches_on_their_way(monkeypatch):
    """Never more than XLA has threads for, and the host does not wait for each."""
    on_their_way = [0]

    def compiled(params, carry, batch, key, n):
        on_their_way.append(on_their_way[-1] + 1)
        return carry, [{"sum": 1.0, "count": 1}]

    def merge(total, sums):
        on_their_way.append(on_their_way[-1] - 1)
        return metrics.merge(total, sums)

    monkeypatch.setattr(evaluation, "_compiled", lambda *_: compiled)
    monkeypatch.setattr(evaluation, "merge", merge)
    assert evaluate(predict, PARAMS, [np.zeros(1)] * 100, [metrics.mse]) == {"mse": 1}
    assert 1 < max(on_their_way) < 30
    assert (on_their_way[-1], len(on_their_way)) == (0, 201)


def test_names_targets_and_keys():
    """A dict names metrics; a rule of one's own; a key for each batch, the same in each evaluation."""

    def noise(params, batch, key=None):
        return jax.random.normal(key, batch.shape)

    def targets(batch):
        return jnp.zeros_like(batch), None

    def run(seed, steps):
        batches = [np.zeros(1, np.float32)] * steps
        return evaluate(noise, {}, batches, {"energy": metrics.mse}, targets=targets, key=jax.random.key(seed))[
            "energy"
        ]

    keys = [jax.random.fold_in(jax.random.key(3), n) for n in range(2)]
    np.testing.assert_allclose(run(3, 2), np.mean([jax.random.normal(key, (1,)) ** 2 for key in keys]), rtol=1e-6)
    assert run(3, 2) == run(3, 2) != run(4, 2)


def test_nothing_counts():
    """NaN, without a warning."""
    inputs, targets = sequences((2, 2))
    (batch,) = data.Buckets(inputs, targets, 2, aligned=True)
    (value,) = evaluate(predict, PARAMS, [batch._replace(lengths=np.zeros(2, np.int32))], METRICS[:1]).values()
    assert np.isnan(value)


def test_refusals():
    """Sources without batches, names twice, functions and outputs that do not fit."""
    inputs, targets = sequences((2, 2))
    (batch,) = batches = list(data.Buckets(inputs, targets, 2, aligned=True))
    run = functools.partial(evaluate, predict, PARAMS)
    used = (batch for batch in batches)
    run(used, METRICS)
    again = "it is empty, or was used before; a generator gives its batches once: list(...) of it, …"
    refuses(
        f"ValueError batches: expected at least one batch, got none from generator; {again}", lambda: run(used, METRICS)
    )
    refuses("ValueError batches: expected batches, one at least, got list; …", lambda: run([], METRICS))
    refuses(
        "ValueError batches: expected one for each step, got list_iterator that ended after 1; …",
        lambda: run(iter(batches), METRICS, steps=2),
    )
    refuses("ValueError batches: …, got IndexError …", lambda: run(batches, METRICS, steps=2))
    refuses("TypeError batches: …, got PaddedBatch(…; [batch] for a single one", lambda: run(batch, METRICS))
    refuses("TypeError batches: …, got dict; …", lambda: run({"x": 1}, METRICS))
    refuses("TypeError batches: …", lambda: run(3, METRICS))
    refuses("ValueError metrics: …, got 'mse' 2 times; a dict …", lambda: run(batches, [metrics.mse, metrics.mse]))
    refuses("TypeError metrics: …; [mse]", lambda: run(batches, metrics.mse))
    refuses("ValueError metrics: expected at least one, …", lambda: run(batches, []))
    refuses("TypeError metrics[0]: expected a Metric, …", lambda: run(batches, [len]))
    refuses("ValueError steps: …", lambda: run(batches, METRICS, steps=0))
    refuses("TypeError key: …", lambda: run(batches, METRICS, key=1))
    refuses("TypeError predict: expected a function that takes predict(params, batch, key=None), …",
            lambda: run(batches, METRICS, key=jax.random.key(0)))  # fmt: skip
    refuses("TypeError predict: expected … predict(params, carry, batch), got predict(params, batch); …",
            lambda: run(batches, METRICS, carry=()))  # fmt: skip
    refuses("TypeError predict: … got predict(params, carry, batch); carry= gives …",
            lambda: evaluate(of_stream, PARAMS, batches, METRICS))  # fmt: skip
    refuses("TypeError predict: expected a function, …", lambda: evaluate(1, PARAMS, batches, METRICS))
    refuses("TypeError predict: expected (carry, outputs) …",
            lambda: evaluate(lambda p, c, b: p, PARAMS, batches, METRICS, carry=()))  # fmt: skip
    refuses("TypeError carry returned by predict: …",
            lambda: evaluate(lambda p, c, b: (1, p), PARAMS, batches, METRICS, carry=()))  # fmt: skip
    refuses("TypeError targets: expected (targets, mask) …", lambda: run(batches, METRICS, targets=lambda b: b.targets))
    refuses("TypeError batch: …; targets= …", lambda: evaluate(lambda p, b: p, PARAMS, [{"x": 1}], METRICS))
    refuses(
        "ValueError mesh: expected a mesh, …", lambda: run(batches, METRICS, batch_spec=jax.sharding.PartitionSpec())
    )


def test_outputs_that_do_not_fit():
    """A note names the metric."""
    (batch,) = data.Buckets(*sequences((2, 2)), 2, aligned=True)
    with pytest.raises(ValueError, match=r"outputs: expected logits of 4 classes") as refusal:
        evaluate(predict, PARAMS, [batch], [metrics.accuracy, metrics.f1(4)])
    assert "in metric 'f1_macro'" in refusal.value.__notes__[0]


# ---- on several devices and processes ----


def ends(results):
    for status, _, output, _ in results:
        assert status == 0, output
    return [said for _, said, _, _ in results]


def assert_close(said, alone):
    assert said.keys() == alone.keys()
    for name, value in said.items():
        np.testing.assert_allclose(value, alone[name], rtol=1e-12, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("carried", [False, True])
def test_several_devices(carried):
    """100 batches on one device, two and eight."""
    cases = [{"mesh": mesh, "carried": carried} for mesh in (0, 2, 8)]
    ((alone, *others),) = ends(cluster.run("evaluations", devices=8, cases=cases, x64=True))
    for said in others:
        assert_close(said, alone)


@pytest.mark.slow
def test_several_processes():
    """The same numbers in both."""
    ((alone,),) = ends(cluster.run("evaluate", mesh=0, x64=True))
    (first,), (second,) = ends(cluster.run("evaluate", processes=2, devices=2, x64=True))
    assert first == second
    assert_close(first, alone)


@pytest.mark.slow
def test_a_batch_that_does_not_divide():
    """The last one of a source, for instance."""
    ((status, _, output, _),) = cluster.run("evaluate", devices=3)
    assert status != 0
    assert "batches[n][0]: expected axis 1 a multiple of 3" in output
