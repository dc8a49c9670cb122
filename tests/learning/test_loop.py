"""fit: bit for bit the same run after crashes and Ctrl-C, evaluation, early stopping, logs and printed output."""

import contextlib
import functools
import io
import json
import math
import os
import re
import signal
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console
from runs import KEY, Noise, bits, language, more, same_bits, small_loss, small_params, small_state

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.learning import Checkpoints, NonFiniteError, fit, load_model, report

OPTIMIZER = optax.chain(optax.clip_by_global_norm(0.3), optax.adam(0.05))
STEP = learning.train_step(small_loss, OPTIMIZER)
MODEL = rnn.GRU(3, 3)  # any model: checkpoints store its constructor call


def run(folder=None, batches=None, steps=23, state=None, **options):
    """A short run; with a folder it saves checkpoints and a log there."""
    if folder is not None:
        options = {"checkpoints": Checkpoints(folder, MODEL), "log": folder / "log.jsonl", **options}
    batches = Noise() if batches is None else batches
    state = small_state(OPTIMIZER) if state is None else state
    return fit(
        STEP, state, batches, **{"steps": steps, "key": KEY, "steps_per_execution": 4, "verbose": False, **options}
    )


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def judge(params, step):
    """An evaluation that returns a number and a text."""
    return {"loss": jnp.abs(params["w"]).sum(), "text": f"at {step}"}


class CrashError(Exception):
    """Raised to end a run."""


class Failing(Noise):
    """Batches; number n raises an error."""

    def __init__(self, n, bad=()):
        super().__init__(bad)
        self.n = n

    def __getitem__(self, n):
        if n == self.n:
            raise CrashError
        return super().__getitem__(n)


# ---- the same run --------------------------------------------------------------------------------------------------


def test_a_run_is_a_loop_over_single_steps():
    """Step n gets batch n and the key folded with n; the state at the end is the same, bit for bit."""
    state = small_state(OPTIMIZER)
    one = jax.jit(STEP)
    for n in range(23):
        state, _ = one(state, Noise()[n], jax.random.fold_in(KEY, n))
    end = run()
    assert same_bits(end.state, state)
    assert (end.stopped, end.best, end.best_step) == ("finished", None, None)
    assert end.seconds > 0


@pytest.mark.parametrize("steps_per_execution", [1, 3, 10])
def test_grouping_changes_no_bit(steps_per_execution, tmp_path):
    """For any steps_per_execution, also if evaluations and saves split the groups."""
    reference = run().state
    assert same_bits(run(steps_per_execution=steps_per_execution).state, reference)
    assert same_bits(
        run(tmp_path, steps_per_execution=steps_per_execution, evaluate=judge, evaluate_every=5, save_every=7).state,
        reference,
    )


def test_grouping_changes_no_bit_of_a_real_model(optimized):
    """A language model with dropout and carried state, more than one epoch: groups of 3 equal 18 single steps."""
    model, loss, optimizer, streams = language()
    assert len(streams) < 18
    step = learning.train_step(loss, optimizer)
    state = start = learning.train_state(model.init(KEY), optimizer, model.initial_state((2,)))
    one = jax.jit(step)
    for n in range(18):
        state, _ = one(state, streams[n], jax.random.fold_in(KEY, n))
    assert same_bits(fit(step, start, streams, steps=18, key=KEY, steps_per_execution=3, verbose=False).state, state)
    assert not same_bits(state.carry, start.carry)


def test_the_key_determines_the_run():
    """The same key gives the same run, another key another one."""
    assert same_bits(run().state, run().state)
    assert not same_bits(run(key=jax.random.key(8)).state, run().state)


def test_the_callers_state_is_not_donated():
    """The loop donates a copy."""
    state = small_state(OPTIMIZER)
    before = bits(state)
    run(state=state)
    assert bits(state) == before
    assert same_bits(run(state=state).state, run().state)


def test_only_the_batches_of_the_run_are_read():
    """Each one, in order; none after the last step."""
    batches = Noise()
    run(batches=batches, steps=11)
    assert batches.read == list(range(11))  # each once, whatever the groups
    batches = Noise()
    run(batches=batches, steps=12)
    assert batches.read == list(range(12))  # each once, if all groups are full


def test_ragged_batches():
    """Groups are split where shapes change; each shape is compiled once; the result is that of single steps."""

    def loss(params, carry, batch, key):
        return jnp.mean((batch @ params["w"] - 1) ** 2), (carry, {})

    def rows(n):
        return 2 + (n // 5) % 3  # 2, 3 or 4 rows, five times each

    step, batches = learning.train_step(loss, OPTIMIZER), Noise(rows=rows)
    start = learning.train_state(small_params(), OPTIMIZER)
    state, one = start, jax.jit(step)
    for n in range(30):
        state, _ = one(state, batches[n], KEY)
    end = fit(step, start, batches, steps=30, key=KEY, steps_per_execution=4, verbose=False)
    assert same_bits(end.state, state)
    # groups of 4 fit at 0, 16, 20; all else goes one by one: shapes (1, rows) and (4, 2), (4, 3), (4, 4)
    firsts = [n for n in range(0, 28, 4) if rows(n) == rows(n + 3)]
    expected = {(4, rows(n)) for n in firsts}
    expected |= {(1, rows(n)) for n in range(30) if n // 4 * 4 not in firsts}
    assert end.shapes == len(expected) <= 6


# ---- resuming ------------------------------------------------------------------------------------------------------

OPTIONS = {"evaluate": judge, "evaluate_every": 7, "save_every": 5}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """An uninterrupted run, and its log."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    end = run(folder, **OPTIONS)
    assert [line["step"] for line in lines(folder) if "loss" in line] == list(range(1, 24))
    assert [line["step"] for line in lines(folder) if "evaluation" in line] == [7, 14, 21, 23]
    return end, lines(folder)


@pytest.mark.parametrize("crashes", [[0], [3, 8, 9, 9, 16, 22], *more([6], [8], [22])])
def test_resumed_is_uninterrupted(crashes, uninterrupted, tmp_path):
    """After crashes at any step the run ends with the same state, bit for bit, the same log and the same best."""
    for n in crashes:
        with pytest.raises(CrashError):
            run(tmp_path, Failing(n), resume=True, **OPTIONS)
    end = run(tmp_path, resume=True, **OPTIONS)
    assert same_bits(end.state, uninterrupted[0].state)
    assert end[1:4] == uninterrupted[0][1:4]
    assert lines(tmp_path) == uninterrupted[1]
    assert load_model(tmp_path, model=SmallModel())[2]["step"] == end.best_step


class SmallModel:
    """A model whose parameters are those of the small problem, and that prints as the one of its run."""

    def __repr__(self):
        return "GRU(3, 3)"

    def init(self, key):
        return small_params()


def test_a_resumed_run_does_not_repeat_steps(tmp_path):
    """It starts at the newest checkpoint; the first batch is read only to be compared."""
    with pytest.raises(CrashError):
        run(tmp_path, Failing(14), save_every=5)
    batches = Noise()
    end = run(tmp_path, batches, save_every=5, resume=True)
    assert batches.read[0] == 0
    assert min(batches.read[1:]) == 10
    assert same_bits(end.state, run().state)


@pytest.mark.parametrize("damage", ["metadata.json", "sha256.json"])
def test_a_damaged_newest_checkpoint_is_skipped(damage, uninterrupted, tmp_path):
    """The run continues from the one before and ends the same."""
    with pytest.raises(CrashError):
        run(tmp_path, Failing(20), **OPTIONS)
    (tmp_path / "step-000000015" / damage).write_text("{")
    with pytest.warns(UserWarning, match="step-000000015 is damaged"):
        end = run(tmp_path, resume=True, **OPTIONS)
    assert same_bits(end.state, uninterrupted[0].state)
    assert lines(tmp_path) == uninterrupted[1]


def test_killed_before_the_first_checkpoint(uninterrupted, tmp_path):
    """A log without a checkpoint, its last line partial: the run starts from step 0 with a new log."""
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    run(tmp_path, resume=True, **OPTIONS)
    assert lines(tmp_path) == uninterrupted[1]


def test_the_log_is_ahead_of_the_checkpoint(tmp_path, monkeypatch):
    """When a checkpoint exists, the log file holds the lines of all its steps: a kill cannot lose them."""
    seen = {}
    original = Checkpoints.save

    def save(self, state, *args, **kwargs):
        seen[int(state.step)] = [line["step"] for line in lines(tmp_path)]
        return original(self, state, *args, **kwargs)

    monkeypatch.setattr(Checkpoints, "save", save)
    run(tmp_path, save_every=5, evaluate=judge, evaluate_every=10, steps=13)
    assert seen == {5: [*range(1, 6)], 10: [*range(1, 11), 10], 13: [*range(1, 11), 10, 11, 12, 13, 13]}


def test_resuming_a_finished_run(uninterrupted, tmp_path):
    """It returns the final state, reads no batch but the first and changes no file."""
    run(tmp_path, **OPTIONS)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    end = run(tmp_path, Failing(22), resume=True, **OPTIONS)
    assert same_bits(end.state, uninterrupted[0].state)
    assert end[1:4] == uninterrupted[0][1:4]
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_checkpoints_of_a_user_written_loop_can_be_resumed(tmp_path):
    """They hold no progress; evaluations are counted from there on."""
    Checkpoints(tmp_path, MODEL).save(run(steps=8).state, KEY)
    end = run(tmp_path, resume=True, evaluate=judge)
    assert same_bits(end.state, run().state)
    assert end.best_step == 23


# ---- evaluation ----------------------------------------------------------------------------------------------------


def evaluations(*values, every=3, seen=None):
    """Options of fit: an evaluation that returns these values, one after another; it records the parameters."""

    def evaluate(params, step):
        if seen is not None:
            seen[step] = jax.tree.map(np.asarray, params)
        return {"nats": values[step // every - 1]}

    return {"evaluate": evaluate, "evaluate_every": every, "monitor": "nats", "steps": every * len(values)}


@pytest.mark.parametrize(
    ("values", "patience", "stopped", "stops_at", "best", "best_step"),
    [
        ((1.0, 0.9, 0.95, 0.91, 0.1), 2, "early", 12, 0.9, 6),
        ((1.0, 0.9, 0.95, 0.91, 0.1), 3, "finished", 15, 0.1, 15),
        ((1.0, 1.0, 1.0, 0.5), 2, "early", 9, 1.0, 3),  # equal is not better
        ((math.nan, 2.0, 1.0, 3.0), None, "finished", 12, 1.0, 9),  # NaN is never the best
        ((math.nan, math.inf, 1.0), 2, "early", 6, None, None),
        ((0.5, math.nan, math.nan, 0.1), 2, "early", 9, 0.5, 3),
    ],
)
def test_early_stopping(values, patience, stopped, stops_at, best, best_step, tmp_path):
    """After ``patience`` evaluations without a better one; the best model is kept, however old."""
    seen = {}
    options = evaluations(*values, seen=seen)
    never = pytest.warns(UserWarning, match=r"^no evaluation was a finite number \(smallest nats\)")
    with never if best is None else contextlib.nullcontext():
        end = run(tmp_path, patience=patience, checkpoints=Checkpoints(tmp_path, MODEL, keep=1), **options)
    assert (int(end.state.step), end.stopped) == (stops_at, stopped)
    assert (end.best, end.best_step) == (best, best_step)
    _, params, metadata = load_model(tmp_path, model=SmallModel())
    assert metadata["step"] == (best_step or stops_at)
    assert same_bits(params, seen[metadata["step"]])


@pytest.mark.parametrize("crash", [5, 8, 10])
def test_patience_across_a_resume(crash, tmp_path):
    """The evaluations before a crash count; a run that stopped early stays stopped when it is resumed."""
    options = evaluations(1.0, 1.1, 1.2, 1.3, 0.1) | {"patience": 3}
    with pytest.raises(CrashError):
        run(tmp_path, Failing(crash), resume=True, **options)
    for _ in range(2):
        end = run(tmp_path, resume=True, **options)
        assert (int(end.state.step), end.stopped, end.best, end.best_step) == (12, "early", 1.0, 3)
    more = run(tmp_path, resume=True, **options | {"patience": 9})
    assert (int(more.state.step), more.stopped, more.best) == (15, "finished", 0.1)


@pytest.mark.parametrize("every", [None, 5, 23])
def test_there_is_an_evaluation_at_the_end(every):
    """Always, once, of the parameters that are returned."""
    seen = []

    def evaluate(params, step):
        seen.append((step, bits(params)))
        return {"loss": 1.0}

    end = run(evaluate=evaluate, evaluate_every=every)
    assert [step for step, _ in seen] == {None: [23], 5: [5, 10, 15, 20, 23], 23: [23]}[every]
    assert seen[-1][1] == bits(end.state.params)


def test_monitor_must_be_a_key_of_the_evaluation():
    """Refused at the first evaluation."""
    with pytest.raises(ValueError, match=r"^monitor: expected one of 'loss', 'text', got 'nats'$"):
        run(evaluate=judge, monitor="nats")


# ---- batches that are not finite -----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps_per_execution", [1, 4, 10])
def test_too_many_bad_batches_end_the_run(steps_per_execution, tmp_path):
    """At the third in a row, for any grouping; the message names the checkpoint to continue from."""
    first = r"^step 4: the batch is skipped, its loss is nan; batches\[3\] has 6 of 6 numbers that are not finite"
    with pytest.raises(NonFiniteError) as caught, pytest.warns(UserWarning, match=first):
        run(
            tmp_path,
            Noise(bad={3, 4, 8, 9, 10, 12}),
            steps_per_execution=steps_per_execution,
            save_every=5,
            max_nonfinite=3,
        )
    assert str(caught.value) == (
        "loss and gradient: expected finite numbers, got 3 batches in a row without, up to step 11: its loss is nan; "
        "batches[10] has 6 of 6 numbers that are not finite, the first at [0, 0]; "
        f"the last good checkpoint is that of step 10 in {tmp_path}; a smaller learning rate or clipping may help"
    )
    found = Checkpoints(tmp_path, MODEL).restore(small_state(OPTIMIZER)).state
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_scattered_bad_batches_do_not_end_the_run(capsys):
    """They are skipped, counted and said: the first in a warning, the second, fourth, … in a line."""
    with pytest.warns(UserWarning, match="^step 4: the batch is skipped") as caught:
        end = run(batches=Noise(bad={3, 4, 8, 9, 12}), max_nonfinite=3, verbose=True)
    assert len(caught) == 1
    printed = capsys.readouterr().out
    assert "step 5: the batch is skipped, 2 so far\nstep 10: the batch is skipped, 4 so far\n" in printed
    assert printed.endswith("5 of 23 batches were skipped, as loss or gradient were not finite\n")
    assert (int(end.state.step), int(end.state.skipped), int(end.state.skipped_in_a_row)) == (23, 5, 0)
    assert np.isfinite(end.state.params["w"]).all()


def test_bad_batches_before_a_resume_count(tmp_path):
    """Two before the resume, one after."""
    with pytest.raises(CrashError), pytest.warns(UserWarning, match="^step 9: the batch is skipped"):
        run(tmp_path, Failing(14, bad={8, 9}), save_every=5, max_nonfinite=3)
    words = r"got 3 batches in a row without, up to step 11: .*; the last good checkpoint"
    with pytest.raises(NonFiniteError, match=words), pytest.warns(UserWarning, match=r"^batches\[10\] has 6 of 6"):
        run(tmp_path, Noise(bad={8, 9, 10}), save_every=5, max_nonfinite=3, resume=True)


def test_nonfinite_error_without_checkpoints():
    """The message says that there is none."""
    words = r"up to step 20: its loss is nan; batches\[19\] .*; there is no checkpoint; a smaller learning rate"
    with pytest.raises(NonFiniteError, match=words), pytest.warns(UserWarning, match="not finite") as caught:
        run(batches=Noise(bad=range(99)))
    before, first = (str(warning.message) for warning in caught)
    assert before.startswith("batches[0] has 6 of 6 numbers that are not finite, the first at [0, 0]; if no mask")
    assert first.startswith("step 1: the batch is skipped, its loss is nan; batches[0] has 6 of 6")


# ---- Ctrl-C --------------------------------------------------------------------------------------------------------


class Interrupting(Noise):
    """Batches; Ctrl-C is pressed ``times`` times while batch n is read."""

    def __init__(self, n, times=1):
        super().__init__()
        self.n, self.times = n, times

    def __getitem__(self, n):
        if n == self.n:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)
        return super().__getitem__(n)


@pytest.mark.parametrize("n", [5, 22, *more(1, 6)])
def test_ctrl_c_saves_and_returns(n, uninterrupted, tmp_path, capsys):
    """The current call finishes; the resumed run ends like an uninterrupted one; the signal handler is restored."""
    before = signal.getsignal(signal.SIGINT)
    end = run(tmp_path, Interrupting(n), verbose=True, **OPTIONS)
    assert end.stopped == "interrupted"
    done = int(end.state.step)
    assert done <= n
    assert signal.getsignal(signal.SIGINT) is before
    assert f"interrupted at step {done}; saved, resume continues from here\n" in capsys.readouterr().out
    assert not done or Checkpoints(tmp_path, MODEL).steps()[-1] == done
    assert [line["step"] for line in lines(tmp_path) if "loss" in line] == list(range(1, done + 1))
    resumed = run(tmp_path, resume=True, **OPTIONS)
    assert same_bits(resumed.state, uninterrupted[0].state)
    assert lines(tmp_path) == uninterrupted[1]


def test_ctrl_c_in_an_evaluation(tmp_path):
    """The evaluation finishes, and the checkpoint is marked as the best."""

    def evaluate(params, step):
        os.kill(os.getpid(), signal.SIGINT)
        return {"loss": 1.0}

    end = run(tmp_path, evaluate=evaluate, evaluate_every=7)
    assert (end.stopped, int(end.state.step), end.best_step) == ("interrupted", 7, 7)
    assert load_model(tmp_path, model=SmallModel())[2]["best"]


def test_ctrl_c_twice_ends_at_once(tmp_path):
    """With KeyboardInterrupt; earlier checkpoints exist."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Interrupting(14, times=2), save_every=5)
    assert signal.getsignal(signal.SIGINT) is before
    assert Checkpoints(tmp_path, MODEL).steps() == [5, 10]


def test_without_checkpoints_ctrl_c_saves_nothing(capsys):
    """The message does not mention saving."""
    end = run(batches=Interrupting(6), verbose=True)
    assert end.stopped == "interrupted"
    assert capsys.readouterr().out == "interrupted at step 4\n"


def test_a_run_in_another_thread():
    """Only the main thread can set signal handlers; fit does not try."""
    ends = []
    thread = threading.Thread(target=lambda: ends.append(run()))
    thread.start()
    thread.join()
    assert same_bits(ends[0].state, run().state)


# ---- log and printed output ----------------------------------------------------------------------------------------


def test_the_log_holds_every_number(tmp_path):
    """One object per step with all metrics, one per evaluation with its numbers; NaN and infinity are null."""
    with pytest.warns(UserWarning, match="^step 2: the batch is skipped"):
        run(tmp_path, Noise(bad={1}), steps=3, evaluate=judge)
    state, one, expected = small_state(OPTIMIZER), jax.jit(STEP), []
    for n in range(3):
        state, metrics = one(state, Noise(bad={1})[n], jax.random.fold_in(KEY, n))
        kept = {name: v for name, v in metrics.items() if name not in ("finite", "nonfinite_leaf")}
        numbers = {name: float(v) if np.isfinite(v) else None for name, v in kept.items()}
        expected.append({"step": n + 1, "finite": bool(metrics["finite"]), **numbers})
    loss = float(np.abs(state.params["w"]).sum())
    assert expected[1]["loss"] is None
    *steps, evaluation = lines(tmp_path)
    assert steps == expected
    assert evaluation == {"step": 3, "evaluation": {"loss": pytest.approx(loss, rel=1e-6)}}
    json.loads((tmp_path / "log.jsonl").read_text().splitlines()[1], parse_constant=pytest.fail)  # no NaN in it


def test_plain_lines_where_there_is_no_terminal(capsys, monkeypatch):
    """One at the end, and one every few seconds; no control characters, no wrapping, no markup, no emoji."""
    text = "[bold] :smile: " + "x" * 300
    run(verbose=True, steps=8, evaluate=lambda params, step: {"loss": 0.25, "sample": text}, evaluate_every=4)
    number, metrics = r"[0-9.e+-]+", "loss {n}  size {n}  grad_norm {n}"
    last = r"step 8/8  (\w+ {n}  )+{n} steps/s  0:00 left".replace("{n}", number)
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["step 4/8  evaluation: loss 0.25  (best so far: smallest loss)", text]
    assert re.fullmatch(last, out[2])
    assert set(re.findall(r"[a-z_]+(?= [0-9])", out[2])) == set(re.findall(r"[a-z_]+(?= )", metrics)) | {"step"}
    assert out[3:] == ["step 8/8  evaluation: loss 0.25", text]
    monkeypatch.setattr(report, "SECONDS_BETWEEN_LINES", 0)
    run(verbose=True, steps=12)
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in out] == ["4/12", "8/12", "12/12"]
    assert "\x1b" not in "".join(out)


def test_format_metrics(capsys):
    """It gets the mean metrics of a compiled call, and the numbers of an evaluation."""
    run(verbose=True, steps=4, evaluate=judge, format_metrics=lambda m: "metrics " + ",".join(sorted(m)))
    step, evaluation, text = capsys.readouterr().out.splitlines()
    assert step.startswith("step 4/4  metrics finite,grad_norm,loss,size  ")
    assert evaluation == "step 4/4  evaluation: metrics loss  (best so far: smallest loss)"
    assert text == "at 4"


def test_nothing_is_printed_unless_verbose(capsys):
    """Neither steps nor evaluations."""
    run(evaluate=judge, evaluate_every=4)
    assert capsys.readouterr() == ("", "")


def test_a_progress_bar_on_a_terminal(monkeypatch):
    """With the steps, the rate, the remaining time and the metrics."""
    screen = io.StringIO()
    terminal = functools.partial(Console, file=screen, force_terminal=True, width=120)
    monkeypatch.setattr("rich.console.Console", terminal)
    run(verbose=True, steps=8, evaluate=judge)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert re.search(r"8/8 [0-9.]+ steps/s 0:00:00 .*loss", plain)
    assert "step 8/8  evaluation: loss" in plain


class FakeDisplay:
    """The part of ``IPython.display`` that is used: display() returns a handle, which updates what it shows."""

    def __init__(self):
        self.displayed, self.updates = [], []

    def display(self, data, *, display_id, raw=False):
        assert raw == isinstance(data, dict)
        assert display_id is True
        self.displayed.append(data)
        return Handle(self)


class Handle:
    """What display() returns."""

    def __init__(self, fake):
        self.fake = fake

    def update(self, data, *, raw=False):
        assert raw == isinstance(data, dict)
        self.fake.updates.append(data if raw else [len(axes.lines) for axes in data.axes])


@pytest.fixture
def notebook(monkeypatch):
    """A notebook kernel, as rich detects it; ipykernel sets FORCE_COLOR."""
    shell = type("ZMQInteractiveShell", (), {})()
    fake = FakeDisplay()
    monkeypatch.setattr("builtins.get_ipython", lambda: shell, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setitem(sys.modules, "IPython", type(sys)("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", type(sys)("IPython.display"))
    sys.modules["IPython"].get_ipython, sys.modules["IPython"].version_info = lambda: None, (9, 0)  # for matplotlib
    sys.modules["IPython.display"].display = fake.display
    return fake


def test_live_plot(notebook, monkeypatch):
    """A figure that is drawn anew with each evaluation and at the end, and closed, so that it is not shown twice."""
    plt = pytest.importorskip("matplotlib.pyplot")
    run(verbose=True, steps=8, evaluate=judge, evaluate_every=4, live_plot=True)
    (figure,) = (data for data in notebook.displayed if not isinstance(data, dict))
    drawn = [update for update in notebook.updates if not isinstance(update, dict)]
    assert len(drawn) == 3
    assert all(lines[0] > 0 for lines in drawn)
    assert not plt.fignum_exists(figure.number)


def test_live_plot_without_a_notebook(capsys):
    """Is said."""
    run(verbose=True, steps=4, live_plot=True)
    assert "live_plot: there is no notebook to draw in; plots.history(end) draws" in capsys.readouterr().out


@pytest.mark.parametrize("seconds", [0, 1000])
def test_one_line_is_updated_in_a_notebook(seconds, notebook, monkeypatch, capsys):
    """The only display shows the progress, at most each few tenths of a second; evaluations are printed as text."""
    monkeypatch.setattr(report, "SECONDS_BETWEEN_UPDATES", seconds)
    run(verbose=True, steps=16, evaluate=judge, evaluate_every=8)
    assert notebook.displayed == [{"text/plain": ""}]
    lines = [update["text/plain"] for update in notebook.updates]
    assert [line.split()[2] for line in lines] == (
        ["16/16"] if seconds else ["4/16", "8/16", "12/16", "16/16", "16/16"]
    )
    assert re.fullmatch(r"█{20}  step 16/16  .*loss .* steps/s  0:00 left", lines[-1])
    assert not any("\n" in line for line in lines)
    if not seconds:
        assert lines[0].startswith(5 * "█" + 15 * "░" + "  step 4/16")
    out, err = capsys.readouterr()
    assert [line.split("  ")[0] for line in out.splitlines()] == ["step 8/16", "at 8", "step 16/16", "at 16"]
    assert err == ""


def test_nothing_is_displayed_in_a_notebook_unless_verbose(notebook, capsys):
    """Neither a line nor text."""
    run(evaluate=judge, steps=4)
    assert (notebook.displayed, notebook.updates, capsys.readouterr().out) == ([], [], "")


# ---- what prints in a notebook or shell ----------------------------------------------------------------------------


def test_repr_of_fit_and_of_the_states():
    """A few numbers in one line, no arrays; fields and unpacking stay those of a named tuple."""
    with pytest.warns(UserWarning, match="skipped"):
        end = run(batches=Noise(bad={1}), evaluate=lambda params, step: {"loss": 1.25})
    state = "TrainState(step=23, parameters=18, skipped=1)"
    assert re.fullmatch(
        rf"Fit\(stopped='finished', best=1.25 at step 23, [\d.e-]+ s, state={re.escape(state)}\)", repr(end)
    )
    assert repr(end._replace(best=None, best_step=None, seconds=3723.4)).startswith(
        "Fit(stopped='finished', best=None, 3723 s, "
    )
    last, stopped, *_ = end
    assert (repr(last), stopped) == (state, "finished")


def test_repr_of_a_state_without_numbers():
    """Traced, abstract, donated and stacked counters print as dtype and shape."""
    state, seen = small_state(OPTIMIZER), []
    jax.jit(lambda s: seen.append(repr(s)))(state)
    assert seen == ["TrainState(step=int32[], parameters=18, skipped=int32[])"]
    assert repr(jax.eval_shape(lambda: state)) == seen[0]
    assert repr(jax.tree.map(lambda x: jnp.stack([x, x]), state)) == seen[0].replace("[]", "[2]").replace("18", "36")
    jax.tree.map(lambda x: x.delete(), state)
    assert repr(state) == seen[0]


def test_tensorboard_needs_tensorboardx(monkeypatch, tmp_path):
    """Without the package the message says what to install."""
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"^tensorboard: .* needs tensorboardX; pip install tensorboardX$"):
        run(tensorboard=tmp_path)


def test_tensorboard_gets_every_number(monkeypatch, tmp_path):
    """Those of steps under train/, those of evaluations under evaluation/."""
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            assert folder == str(tmp_path)

        def add_scalar(self, name, value, step):
            written.append((name, step))
            assert isinstance(value, (float, bool))

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, "tensorboardX", type(sys)("tensorboardX"))
    sys.modules["tensorboardX"].SummaryWriter = SummaryWriter
    with pytest.warns(UserWarning, match="skipped"):
        run(tensorboard=tmp_path, steps=2, evaluate=judge, batches=Noise(bad={1}))
    names = ["train/finite", "train/grad_norm", "train/loss", "train/size"]
    assert sorted(written[:4]) == [(name, 1) for name in names]
    assert sorted(written[4:8]) == [(name, 2) for name in names]
    assert written[8:] == [("evaluation/loss", 2), "closed"]


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"steps": 0}, ValueError, "steps: expected a positive int, got 0"),
        ({"steps": 1e3}, TypeError, "steps: expected a positive int, got float 1000.0"),
        ({"steps_per_execution": 0}, ValueError, "steps_per_execution: expected a positive int, got 0"),
        ({"max_nonfinite": -1}, ValueError, "max_nonfinite: expected a positive int, got -1"),
        ({"evaluate": judge, "evaluate_every": 0}, ValueError, "evaluate_every: expected a positive int, got 0"),
        ({"save_every": 2.5}, TypeError, "save_every: expected a positive int, got float 2.5"),
        ({"patience": True}, TypeError, "patience: expected a positive int, got bool True"),
        ({"verbose": 2}, TypeError, "verbose: expected True or False, got int 2"),
        ({"key": 3}, TypeError, "key: expected a random key, got int 3; jax.random.key(0) makes one"),
        ({"key": None}, TypeError, "key: expected a value, got None; jax.random.key(0) makes one"),
        ({"metadata": {"progress": 1}}, ValueError,
         "metadata: expected names other than model, parts, step, best, key, params, training, jaxrnn, progress, "
         "origin, got progress; give it another name"),
    ],
)  # fmt: skip
def test_refusals(options, kind, words):
    """Exact messages, before the first step."""
    with pytest.raises(kind, match=f"^{re.escape(words)}$"):
        run(batches=Failing(0), **options)


def test_another_run_is_not_overwritten(tmp_path):
    """Neither its checkpoints nor its log, unless it is resumed."""
    run(tmp_path, steps=4)
    words = (
        f"checkpoints: expected a folder without checkpoints, got {tmp_path} with some; resume=True continues with them"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        run(tmp_path, steps=4)
    words = f"log: expected a new file, got {tmp_path / 'log.jsonl'} with 4 lines; resume the run or name another file"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        run(log=tmp_path / "log.jsonl")
    assert len(lines(tmp_path)) == 4


def test_resuming_with_another_optimizer_is_refused(tmp_path):
    """The message says what differs."""
    run(tmp_path, steps=4)
    with pytest.raises(ValueError, match=r"training.opt_state.*; the run had another model or optimizer$"):
        run(tmp_path, resume=True, state=small_state(optax.sgd(0.1)))


def test_a_log_without_checkpoints_is_not_lost(tmp_path):
    """A run that is resumed before its first checkpoint starts anew; its earlier log is renamed."""
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n')
    run(tmp_path, steps=2, resume=True)
    assert len(lines(tmp_path)) == 2
    assert (tmp_path / "log.jsonl.earlier").read_text() == '{"step": 1}\n'


class Iterated:
    """The batches of ``Noise``, to iterate over: three an epoch."""

    def __iter__(self):
        return (Noise()[n] for n in range(3))


@pytest.mark.parametrize("source", [lambda: (Noise()[n] for n in range(24)), Iterated])
def test_a_run_on_batches_to_iterate_over_is_resumed(source, tmp_path):
    """It skips the batches before, and ends bit for bit where an uninterrupted run ends."""
    end = run(batches=source(), steps=24)
    run(tmp_path, source(), steps=13)
    assert same_bits(run(tmp_path, source(), steps=24, resume=True).state, end.state)
