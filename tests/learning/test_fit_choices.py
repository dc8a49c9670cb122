"""fit: which model is the best, epochs, metrics as arrays and to a callback, losses of every form."""

import functools
import inspect
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refuses
from runs import KEY, Noise, bits, same_bits, small_loss, small_state

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Buckets
from jaxrnn.learning import Checkpoints, fit
from jaxrnn.learning.objectives import with_carry

OPTIMIZER = optax.adam(0.05)
STEP = learning.train_step(small_loss, OPTIMIZER)
MODEL = rnn.GRU(3, 3)


def run(folder=None, batches=None, **options):
    """A short run."""
    if folder is not None:
        options = {"checkpoints": Checkpoints(folder, MODEL, keep=1), **options}
    batches = Noise() if batches is None else batches
    options = {"key": KEY, "steps_per_execution": 4, "verbose": False, **options}
    if "epochs" not in options:
        options.setdefault("steps", 15)
    return fit(STEP, small_state(OPTIMIZER), batches, **options)


class Epochs(Noise):
    """A source with epochs of 5 batches, each in an order of its own."""

    def __len__(self):
        return 5

    def __getitem__(self, n):
        epoch, place = divmod(n, 5)
        return super().__getitem__(int(np.random.default_rng(epoch).permutation(5)[place]))


def scores(**columns):
    """An evaluation, every 3 steps, that returns these numbers one after another; the parameters it saw by step."""
    seen = {}

    def evaluate(params, step):
        seen[step] = jax.tree.map(np.asarray, params)
        return {name: values[step // 3 - 1] for name, values in columns.items()}

    count = len(next(iter(columns.values())))
    return {"evaluate": evaluate, "evaluate_every": 3, "steps": 3 * count}, seen


def judge(params):
    """An evaluation."""
    return {"loss": 1.0}


def no_arguments():
    """An evaluation of the wrong form."""


# ---- the best ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(("patience", "stopped"), [(2, "early"), (9, "finished")])
def test_the_best_parameters_are_returned(saved, patience, stopped, tmp_path):
    """With or without a folder; after an early stop they are also those of the state, and a resumed run has them."""
    options, seen = scores(loss=(1.0, 0.5, 0.9, 0.8))
    options |= {"patience": patience}
    for resume in (False, True) if saved else (False,):
        end = run(tmp_path if saved else None, resume=resume, **options)
        assert (end.stopped, end.best, end.best_step) == (stopped, 0.5, 6)
        assert same_bits(end.best_params, seen[6])
        assert same_bits(end.state.params, seen[6 if stopped == "early" else 12])
        assert int(end.state.step) == 12


def test_without_an_evaluation_the_best_parameters_are_the_last():
    """Also if no evaluation was a number."""
    end = run()
    assert same_bits(end.best_params, end.state.params)
    options, _ = scores(loss=(math.nan, math.nan))
    with pytest.warns(UserWarning, match="^no evaluation was a finite number"):
        end = run(**options, patience=2)
    assert (end.stopped, end.best) == ("early", None)
    assert same_bits(end.best_params, end.state.params)


def test_a_lost_best_checkpoint(tmp_path):
    """Is said; the next evaluation begins anew."""
    options, _ = scores(loss=(0.1, 0.5, 0.4))
    run(tmp_path, **options | {"steps": 6})
    (tmp_path / "step-000000003" / "metadata.json").write_text("{}")
    with pytest.warns(UserWarning, match="step-000000003 is damaged .* the best is sought anew"):
        end = run(tmp_path, resume=True, **options)
    assert (end.best, end.best_step) == (0.4, 9)


@pytest.mark.parametrize(
    ("monitor", "mode", "best_step", "words"),
    [
        ("loss", None, 6, "smallest loss"),
        ("accuracy", None, 12, "largest accuracy"),
        ("dev_accuracy", "max", 3, "largest dev_accuracy"),
        ("accuracy", "min", 3, "smallest accuracy"),
        (("dev_accuracy", "loss"), ("max", None), 6, "largest dev_accuracy, then smallest loss"),
        (("dev_accuracy", "accuracy"), ("max", None), 9, "largest dev_accuracy, then largest accuracy"),
        ("other", "max", 6, "largest other"),
    ],
)
def test_direction_and_ties(monitor, mode, best_step, words, capsys):
    """A ready metric knows its direction; where one ties, the next decides; the report says which is best."""
    options, _ = scores(
        loss=(0.9, 0.2, 0.3, 0.4),
        accuracy=(0.1, 0.2, 0.3, 0.4),
        dev_accuracy=(0.8, 0.8, 0.8, 0.7),
        other=(-1.0, 3.0, 2.0, math.nan),
    )
    end = run(monitor=monitor, mode=mode, verbose=True, **options)
    assert end.best_step == best_step
    assert f"(best so far: {words})" in capsys.readouterr().out


def test_another_monitor_after_a_resume(tmp_path):
    """The best in another metric says nothing."""
    options, _ = scores(loss=(0.1, 0.5, 0.4, 0.3), accuracy=(0.9, 0.2, 0.6, 0.5))
    run(tmp_path, **options | {"steps": 6})
    end = run(tmp_path, resume=True, monitor="accuracy", **options)
    assert (end.best, end.best_step) == (0.6, 9)


@pytest.mark.parametrize(
    ("result", "best"),
    [
        ({"accuracy": 0.5, "loss": 1.5}, 1.5),
        ({"text": "a", "seconds": 3.0, "accuracy": 0.5, "cross_entropy": 1.5}, 0.5),
    ],
)
def test_without_a_monitor(result, best):
    """The loss decides, else the first number of a known direction."""
    assert run(evaluate=lambda params: result).best == best


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({}, "evaluate: expected a number at least in what it returns, got {}"),
        ({"seconds": 3.0}, "mode: expected 'min' or 'max' for monitor='seconds', whose direction is not known"),
        ({"step": 3.0}, "evaluate: expected another name than 'step'"),
        ({"loss": np.ones(3)}, "evaluate, entry 'loss': expected a number or a text, got float64[3]; str(...)"),
    ],
)
def test_what_an_evaluation_returns(result, words):
    """Numbers of other names than that of the step, one at least whose direction is known."""
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(words)}"):
        run(evaluate=lambda params: result)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"evaluate": judge, "monitor": "score"}, "mode: expected 'min' or 'max' for monitor='score', whose direction "
         "is not known, got None; mode='max' if larger is better"),
        ({"evaluate": judge, "monitor": "acuracy"}, "mode: expected 'min' or 'max' for monitor='acuracy', whose "
         "direction is not known, got None; mode='max' if larger is better; or is 'accuracy' meant?"),
        ({"evaluate": judge, "monitor": "loss", "mode": "larger"}, "mode: expected one of 'min', 'max', got 'larger'"),
        ({"monitor": "loss"}, "evaluate: expected a value, which monitor='loss' requires, got None; give evaluate= or "
         "leave monitor out"),
        ({"save_every": 2}, "checkpoints: expected a value, which save_every=2 requires, got None; give checkpoints= "
         "or leave save_every out"),
        ({"checkpoints": "folder"}, "checkpoints: expected a Checkpoints, got str folder; "
         "learning.Checkpoints(folder, model)"),
        ({"callback": no_arguments}, "callback: expected a function callback(step, metrics), got no_arguments()"),
        ({"evaluate": judge, "monitor": ("loss", "error"), "mode": "max"},
         "mode: expected one for each of monitor=('loss', 'error'), got 'max'"),
        ({"evaluate": judge, "monitor": ()}, "monitor: expected a name in what evaluate returns, or several: "
         '("error", "loss"), got ()'),
        ({"evaluate": no_arguments}, "evaluate: expected a function evaluate(params) or evaluate(params, step), got "
         "no_arguments(); functools.partial binds further arguments"),
        ({"evaluate": {"loss": 1}}, "evaluate: expected a function evaluate(params) or evaluate(params, step), got "
         "dict of 1"),
        ({"epochs": 2, "steps": 3}, "steps: expected steps= or epochs=, one of both, got both"),
        ({"batches": Noise(), "epochs": 2}, "epochs: expected batches of a known number, len(batches), got Noise; "
         "steps=, or give it a __len__"),
        ({"epochs": 0}, "epochs: expected a positive int, got 0"),
        ({"evaluate": lambda params: {}, "evaluate_every": "day"}, "evaluate_every: expected one of 'epoch' or a "
         "positive int, got 'day'"),
    ],
)  # fmt: skip
def test_refusals(options, words):
    """Before the first step."""
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(words)}$"):
        run(**{"batches": Epochs(), **options})


# ---- epochs --------------------------------------------------------------------------------------------------------


def test_epochs_are_steps(tmp_path, capsys):
    """Three epochs of five batches are fifteen steps; evaluations and saves at the end of each."""
    seen = []

    def evaluate(params):
        seen.append(bits(params))
        return {"loss": 1.0}

    end = run(tmp_path, Epochs(), epochs=3, evaluate=evaluate, save_every="epoch", verbose=True)
    assert same_bits(end.state, run(batches=Epochs()).state)
    assert end.evaluations["step"].tolist() == [5, 10, 15]
    assert len(seen) == 3
    assert "\nepoch 2/3, step 10/15  evaluation: loss 1\n" in capsys.readouterr().out


def test_epochs_after_a_resume(tmp_path):
    """The order of each epoch, and the end, are those of the uninterrupted run."""
    run(tmp_path, Epochs(), steps=7)
    assert same_bits(run(tmp_path, Epochs(), epochs=4, resume=True).state, run(batches=Epochs(), epochs=4).state)


# ---- metrics -------------------------------------------------------------------------------------------------------


def test_history_of_a_resumed_run(tmp_path):
    """With a log file it is that of the whole run."""
    options = {"log": tmp_path / "log", "evaluate": judge, "evaluate_every": 3}
    run(tmp_path, steps=4, **options)
    end = run(tmp_path, steps=9, resume=True, **options)
    whole = run(steps=9, evaluate=judge, evaluate_every=3)
    assert list(end.history) == list(whole.history)
    for name, values in whole.history.items():
        np.testing.assert_array_equal(end.history[name], values)
    assert end.evaluations["step"].tolist() == [3, 4, 6, 9]


def test_history_and_callback():
    """One entry a step and an evaluation, in arrays and calls alike; NaN where an evaluation lacks a number."""
    calls = []

    def evaluate(params, step):
        return {"loss": step / 2} | ({"extra": 1.0} if step == 6 else {})

    end = run(steps=6, evaluate=evaluate, evaluate_every=3, callback=lambda *call: calls.append(call))
    assert end.history["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert sorted(end.history) == ["finite", "grad_norm", "loss", "size", "step"]
    np.testing.assert_array_equal(end.evaluations["extra"], [np.nan, 1.0])
    assert [step for step, _ in calls] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert calls[3] == (3, {"evaluation/loss": 1.5})
    assert calls[0][1]["train/loss"] == float(end.history["loss"][0])
    assert all(type(value) is float for _, numbers in calls for value in numbers.values())


# ---- batches that are not finite -----------------------------------------------------------------------------------


def test_the_leaf_of_the_gradient_is_named():
    """A loss whose value is finite and whose gradient is not, at the second step."""

    def loss(params, batch):
        bad = batch["x"].sum() > 5
        zero = jnp.where(bad, 0.0, 1.0) * params["w"][0, 0] ** 2
        return jnp.sum(params["v"] ** 2) + jnp.sqrt(zero) * 0

    params = {"v": jnp.ones(2), "w": jnp.ones((1, 1))}
    state, step = learning.train_state(params, OPTIMIZER), learning.train_step(loss, OPTIMIZER)
    batches = [{"x": np.ones(3, "float32") * n} for n in range(1, 4)]
    with pytest.warns(UserWarning, match="skipped") as caught:
        fit(step, state, batches, steps=3, key=KEY, verbose=False)
    assert [str(warning.message) for warning in caught] == [
        "step 2: the batch is skipped, its gradient is not finite, first in params['w']; all numbers of the batch are "
        "finite"
    ]


# ---- losses of every form ------------------------------------------------------------------------------------------


def value_of(params, batch):
    return jnp.sum(params * batch)


class Callable:
    """A loss that is an object."""

    def __call__(self, params, batch):
        return value_of(params, batch)


@pytest.mark.parametrize(
    "loss",
    [
        value_of,
        Callable(),
        Callable().__call__,
        jax.jit(value_of),
        lambda params, batch: (value_of(params, batch), {}),
        lambda params, batch, key: value_of(params, batch),
        lambda params, batch, rng: value_of(params, batch),
        lambda params, batch, key=None: value_of(params, batch),
        lambda params, batch, scale=1.0: value_of(params, batch) * scale,
        lambda params, batch, *, key: value_of(params, batch),
        functools.partial(lambda params, batch, key, scale: value_of(params, batch) * scale, scale=1.0),
        lambda params, carry, batch: (value_of(params, batch), (carry, {})),
        lambda params, carry, batch, key: (value_of(params, batch), (carry, {})),
        lambda params, state, batch, rng: (value_of(params, batch), (state, {})),
        lambda params, carry, batch, *, key=None: (value_of(params, batch), (carry, {})),
        lambda *args: (value_of(args[0], args[2]), (args[1], {})),
    ],
)
def test_forms_of_a_loss(loss):
    """Each gets parameters, batch, carry and key where it wants them."""
    value, (carry, metrics) = with_carry(loss)(jnp.ones(2), "carry", jnp.arange(2.0), KEY)
    assert (float(value), carry, metrics) == (1.0, "carry", {})
    if "batch" in inspect.signature(loss).parameters and "rng" not in inspect.signature(loss).parameters:
        mean = learning.mean_loss(loss, jnp.ones(2), (), jnp.ones((3, 2)))[1]
        assert float(mean) == 2.0


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda params: 0.0, "got <lambda>(params); functools.partial binds"),
        (lambda a, b, c, d, e: 0.0, "got <lambda>(a, b, c, d, e);"),
        (lambda params, batch, *, scale: 0.0, "got <lambda>(params, batch, *, scale);"),
        (3.0, "got float 3.0"),
    ],
)
def test_a_loss_of_another_form_is_refused(loss, words):
    """When the step is made; the message shows the forms."""
    forms = (
        "loss: expected a function loss(params, batch), loss(params, batch, key) or loss(params, carry, batch, key), "
    )
    with pytest.raises(TypeError, match=f"^{re.escape(forms + words)}"):
        learning.train_step(loss, OPTIMIZER)


@pytest.mark.parametrize(
    "loss",
    [
        lambda params, batch: (params.sum(), ((), {})),
        lambda params, batch: {"loss": params.sum()},
        lambda params, batch: (params.sum(), params.sum(), {}),
        lambda params, batch, key: [params.sum(), {}],
    ],
)
def test_what_a_loss_without_carry_returns(loss):
    """A number, or a number and a dict."""
    with pytest.raises(
        TypeError, match=r"^loss: expected a number, or \(number, metrics\), from it, got .*; loss\(para"
    ):
        with_carry(loss)(jnp.ones(2), (), None, KEY)


# ---- ready losses --------------------------------------------------------------------------------------------------

rng = np.random.default_rng(0)
SEQUENCES = [rng.normal(size=(n, 2)).astype("float32") for n in (2, 4, 4)]


def batches(targets, **options):
    """A batch of three sequences, one of two with a filler."""
    return list(Buckets(SEQUENCES, targets, 2, buckets=1, shuffle=False, **options))


def weighted(loss, params, batches):
    """The mean over batches by count, and the counts."""
    results = [loss(params, batch, None) for batch in batches]
    counts = [int(metrics["count"]) for _, metrics in results]
    return sum(n * value for (value, _), n in zip(results, counts, strict=True)) / sum(counts), counts


@pytest.mark.slow  # README trains with these two
def test_classification_and_regression_loss():
    """The mean over the sequences, computed one by one, without the filler."""
    model = rnn.tasks.Classifier(rnn.VanillaRNN(2, 3), 4)
    params = model.init(KEY)
    logits = [model.apply(params, x[:, None])[0] for x in SEQUENCES]
    value, counts = weighted(learning.classification_loss(model), params, batches([1, 3, 0]))
    expected = np.mean([-jax.nn.log_softmax(z)[y] for z, y in zip(logits, [1, 3, 0], strict=True)])
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert counts == [2, 1]
    targets = rng.normal(size=(3, 4)).astype("float32")
    value, counts = weighted(learning.regression_loss(model), params, batches(list(targets)))
    np.testing.assert_allclose(value, np.mean((np.stack(logits) - targets) ** 2), rtol=1e-5)
    assert counts == [2, 1]
    one = rnn.tasks.Classifier(rnn.VanillaRNN(2, 3), 1)
    value, _ = weighted(learning.regression_loss(one), one.init(KEY), batches([0.5, 1.0, 2.0]))
    assert value.shape == ()


@pytest.mark.slow
def test_tagging_loss():
    """The mean over all steps of all sequences."""
    model = rnn.Stack(rnn.Bidirectional(rnn.VanillaRNN(2, 3)), rnn.Linear(6, 4))
    params, tags = model.init(KEY), [rng.integers(0, 4, len(x)) for x in SEQUENCES]
    value, counts = weighted(learning.tagging_loss(model), params, batches(tags, aligned=True))
    each = [-jax.nn.log_softmax(rnn.unroll(model, params, x)[1])[np.arange(len(x)), y] for x, y in zip(SEQUENCES, tags)]
    np.testing.assert_allclose(value, np.concatenate(each).mean(), rtol=1e-5)
    assert counts == [6, 4]


def test_batches_without_lengths():
    """Those drawn from a key: whole sequences, of which a mask selects the steps that count."""
    model = rnn.tasks.Classifier(rnn.VanillaRNN(6, 3), 4)
    params, batch = model.init(KEY), rnn.data.synthetic.temporal_order(KEY, 3, 20)
    value, count = weighted(learning.classification_loss(model), params, [batch])
    logits = model.apply(params, batch.inputs)
    np.testing.assert_allclose(
        value, optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch.targets).mean()
    )
    assert count == [3]
    assert learning.evaluate(learning.sequence_outputs(model), params, [batch], [rnn.metrics.accuracy])
    tagger = rnn.Stack(rnn.VanillaRNN(3, 3), rnn.Linear(3, 3))
    params, trials = tagger.init(KEY), rnn.data.trials.decision(KEY, 3, dt=100)
    assert not trials.mask.all()
    value, count = weighted(learning.tagging_loss(tagger), params, [trials])
    logits = rnn.unroll(tagger, params, trials.inputs)[1]
    each = optax.losses.softmax_cross_entropy_with_integer_labels(logits, trials.targets)
    np.testing.assert_allclose(value, each[trials.mask].mean(), rtol=1e-6)
    assert count == [trials.mask.sum()]


def test_batches_of_other_libraries():
    """A pair or a dict is read like a batch with attributes; what cannot be is refused by name."""
    model = rnn.Stack(rnn.VanillaRNN(2, 3), rnn.Linear(3, 4))
    params, tags = model.init(KEY), [rng.integers(0, 4, len(x)) for x in SEQUENCES]
    (batch, *_), loss = batches(tags, aligned=True), learning.tagging_loss(model)
    expected, _ = loss(params, batch, None)
    assert loss(params, batch._asdict(), None)[0] == expected
    whole = (batch.inputs[:2], batch.targets[:2])
    assert (
        loss(params, whole, None)[0]
        == loss(params, batch._replace(**dict(zip(("inputs", "targets"), whole)), lengths=None), None)[0]
    )
    for wanted, call in [
        ("TypeError batch: expected something with inputs, targets, or a pair (inputs, targets), got …; …Buckets…",
         lambda: loss(params, batch.inputs, None)),
        ("TypeError batch: expected something with inputs, targets, target_lengths, got PaddedBatch…; …Pairs…",
         lambda: learning.ctc_loss(model)(params, batch, None)),
    ]:  # fmt: skip
        refuses(wanted, call)


def test_a_stream_of_numbers():
    """Targets of a stream may be numbers, whose last axis is no batch axis."""
    model = rnn.Stack(rnn.VanillaRNN(2, 3), rnn.Linear(3, 2))
    params, xs = model.init(KEY), np.ones((4, 3, 2), "float32")
    chunk = rnn.data.Chunk(xs, 2 * xs, np.array(True), None)
    value, (_, metrics) = learning.stream_loss(model, rnn.losses.squared_error)(
        params, model.initial_state((3,)), chunk, None
    )
    np.testing.assert_allclose(value, ((rnn.unroll(model, params, xs)[1] - 2 * xs) ** 2).mean(), rtol=1e-6)
    assert metrics["count"] == 12


@pytest.mark.slow  # README trains with it too
def test_translation_loss():
    """The mean over all target tokens but the first of each."""
    decoder = rnn.Stack(rnn.Embedding(5, 3), rnn.VanillaRNN(3, 3), rnn.Linear(3, 5))
    model = rnn.tasks.EncoderDecoder(rnn.VanillaRNN(2, 3), decoder)
    params, targets = model.init(KEY), [rng.integers(0, 5, n) for n in (4, 2, 4)]
    pairs = list(rnn.data.Pairs(SEQUENCES, targets, 2, buckets=1, shuffle=False))
    value, counts = weighted(learning.translation_loss(model), params, pairs)
    each = [model.loss(params, x[:, None], y[:, None]) * (len(y) - 1) for x, y in zip(SEQUENCES, targets)]
    np.testing.assert_allclose(value, sum(each) / 7, rtol=1e-5)
    assert counts == [4, 3]
    targets_, mask = pairs[1].targets_and_mask()
    assert (targets_.shape, np.asarray(mask).sum(0).tolist()) == ((3, 2), [3, 0])
    np.testing.assert_array_equal(targets_[:, 0], targets[2][1:])


def test_outputs_for_a_batch():
    """The predictions that the ready losses compare with the targets."""
    batch = batches([1, 3, 0])[0]
    model = rnn.tasks.Classifier(rnn.VanillaRNN(2, 3), 4)
    params = model.init(KEY)
    logits = learning.sequence_outputs(model)(params, batch)
    assert same_bits(logits, model.apply(params, batch.inputs, lengths=batch.lengths))
    encoder = rnn.VanillaRNN(2, 3)
    ys = learning.step_outputs(encoder)(params.encoder, batch)
    assert same_bits(ys, rnn.unroll(encoder, params.encoder, batch.inputs, lengths=batch.lengths)[1])
