"""Checkpoints: restored bit for bit, damage is detected, another model or optimizer is refused."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import KEY, bits, more, same_bits
from versions import enable_x64

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.learning import Checkpoints, load_model, run_folder

MODEL = rnn.GRU(2, 3)


def filled(tree, seed):
    """Random numbers in the shapes and dtypes of a tree, among them -0, NaN, infinity and a subnormal number."""
    rng = np.random.default_rng(seed)

    def fill(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(seed), x.shape)
        if jnp.issubdtype(x.dtype, jnp.integer):
            return jnp.asarray(rng.integers(0, 2**31 - 1, x.shape), x.dtype)
        numbers = rng.normal(size=x.shape).astype("float32")
        numbers.flat[:4] = [-0.0, np.nan, 1e-45, -np.inf][: numbers.size]
        return jnp.asarray(numbers, x.dtype)

    return jax.tree.map(fill, tree)


def state_of(model=MODEL, optimizer=optax.adam(0.1), carry=(), step=0, seed=0):  # noqa: B008
    shapes = jax.eval_shape(lambda: learning.train_state(model.init(KEY), optimizer, carry))
    return filled(shapes, seed)._replace(step=jnp.asarray(step, jnp.int32))


def saved(folder, *steps, best=(), keep=9, model=MODEL, **options):
    """A checkpoint of each of these steps, with random numbers of that seed."""
    checkpoints = Checkpoints(folder, model, keep=keep)
    for step in steps:
        checkpoints.save(state_of(model, step=step, seed=step, **options), KEY, best=step in best)
    return checkpoints


def restored_step(checkpoints):
    """The step that is restored, after a check of every bit."""
    found = checkpoints.restore(state_of())
    assert same_bits(found.state, state_of(step=int(found.state.step), seed=int(found.state.step)))
    return int(found.state.step)


# ---- restored bit for bit ------------------------------------------------------------------------------------------

DEEP = rnn.Stack(rnn.Embedding(5, 2), rnn.LSTM(2, 3, peepholes="f"), rnn.Dropout(0.1), rnn.GRU(3, 3), rnn.Linear(3, 5))
STATES = {
    "no carry": (MODEL, optax.sgd(0.1), ()),
    "lstm stack": (DEEP, optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1)), DEEP.initial_state((2,))),
    "accumulation": (MODEL, optax.MultiSteps(optax.adam(0.1), 3), MODEL.initial_state()),
    "a key in the optimizer": (MODEL, optax.chain(optax.add_noise(0.1, 0.5, KEY), optax.sgd(0.1)), ()),
    "bfloat16": (rnn.LSTM(2, 3, dtype="bfloat16"), optax.adam(0.1), rnn.LSTM(2, 3, dtype="bfloat16").initial_state()),
    "schedule": (MODEL, optax.inject_hyperparams(optax.sgd)(optax.linear_schedule(1.0, 0.0, 5)), ()),
}


@pytest.mark.parametrize("name", STATES)
def test_the_state_is_restored_bit_for_bit(name, tmp_path):
    """Parameters, optimizer state, carry, counters; also NaN, -0 and a subnormal number."""
    model, optimizer, carry = STATES[name]
    checkpoints = Checkpoints(tmp_path, model)
    state = state_of(model, optimizer, carry, step=3, seed=1)
    checkpoints.save(state, KEY)
    found = checkpoints.restore(state_of(model, optimizer, carry, seed=2))
    assert same_bits(found.state, state)
    assert type(found.state) is type(state)


KEYS = {
    "typed": KEY,
    "old style": jax.random.key_data(KEY),
    "another generator": jax.random.key(3, impl="rbg"),
    "several": jax.random.split(KEY, (2, 3)),
}


@pytest.mark.parametrize("name", KEYS)
def test_the_random_key_is_restored(name, tmp_path):
    """Typed or raw; it draws the same numbers."""
    checkpoints = Checkpoints(tmp_path, MODEL)
    checkpoints.save(state_of(), KEYS[name])
    key = checkpoints.restore(state_of()).key
    assert key.dtype == KEYS[name].dtype
    assert same_bits(key, KEYS[name])
    if key.shape == ():
        assert same_bits(jax.random.normal(key, 3), jax.random.normal(KEYS[name], 3))


def test_metadata_is_restored(tmp_path):
    """Anything JSON can hold, in addition to the entries of the checkpoint itself."""
    metadata = {"symbols": ["א", "ב", "\n", "😀"], "rate": 0.1, "none": None, "deep": {"a": [1, 2]}}
    checkpoints = Checkpoints(tmp_path, MODEL)
    folder = checkpoints.save(state_of(step=4), KEY, metadata)
    for found in (checkpoints.restore(state_of()).metadata, load_model(tmp_path)[2]):
        assert {name: found[name] for name in metadata} == metadata
        assert (found["step"], found["model"]) == (4, "GRU(2, 3)")
    assert folder == tmp_path / "step-000000004"


def test_repr_of_a_checkpoint(tmp_path):
    """One line, no arrays."""
    checkpoints = Checkpoints(tmp_path, MODEL)
    checkpoints.save(state_of(step=4)._replace(skipped=jnp.array(2)), KEY, {"symbols": list("abc")})
    assert repr(checkpoints.restore(state_of())) == (
        "Checkpoint(state=TrainState(step=4, parameters=54, skipped=2), key=key<fry>[], metadata: symbols, model, "
        "parts, step, best, key, params, training, jaxrnn)"
    )


# ---- which checkpoints are kept, which is loaded -------------------------------------------------------------------


def test_the_newest_are_kept_and_the_best(tmp_path):
    """The newest two and the best so far; the previous best is deleted."""
    checkpoints, kept = Checkpoints(tmp_path, MODEL, keep=2), {}
    for step in range(1, 9):
        checkpoints.save(state_of(step=step, seed=step), KEY, best=step in (1, 3, 7))
        kept[step] = checkpoints.steps()
    assert kept == {1: [1], 2: [1, 2], 3: [2, 3], 4: [3, 4], 5: [3, 4, 5], 6: [3, 5, 6], 7: [6, 7], 8: [7, 8]}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000007", "step-000000008"]


@pytest.mark.parametrize(
    ("best", "which", "step"),
    [((2, 3), "best", 3), ((), "best", 5), ((2,), "last", 5), ((2,), 4, 4), ((5,), 2, 2), ((2,), "best", 2)],
)
def test_load_model(best, which, step, tmp_path):
    """The model, rebuilt from its printed call, and the parameters of the requested checkpoint."""
    saved(tmp_path, 2, 3, 4, 5, best=best)
    model, params, metadata = load_model(tmp_path, which)
    assert model == MODEL
    assert metadata["step"] == step
    assert same_bits(params, state_of(seed=step).params)
    assert type(params) is rnn.GRUParams


TWO_DEVICES = """
import sys
import jax, jaxrnn as rnn, optax
from jaxrnn import learning
from jax.sharding import Mesh, NamedSharding, PartitionSpec
model = rnn.GRU(2, 3)
params = jax.tree.map(jax.numpy.ones_like, model.init(jax.random.key(0)))
params = jax.device_put(params, NamedSharding(Mesh(jax.devices(), "d"), PartitionSpec()))
assert len(params.w_hh.devices()) == 2
learning.Checkpoints(sys.argv[1], model).save(learning.train_state(params, optax.sgd(1.0)), jax.random.key(0))
"""


@pytest.mark.slow
def test_load_model_that_was_trained_on_two_devices(tmp_path):
    """It is restored to the first device."""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    subprocess.run([sys.executable, "-c", TWO_DEVICES, str(tmp_path)], env=environment, check=True)
    _, params, _ = load_model(tmp_path)
    assert same_bits(params, jax.tree.map(jnp.ones_like, MODEL.init(KEY)))
    assert params.w_hh.devices() == {jax.devices()[0]}


def test_saving_a_step_again_replaces_it(tmp_path):
    """The second one is restored; no other files are left."""
    checkpoints = saved(tmp_path, 1, 2)
    again = state_of(step=2, seed=5)
    checkpoints.save(again, KEY)
    assert same_bits(checkpoints.restore(state_of()).state, again)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000001", "step-000000002"]


def test_without_checkpoints(tmp_path):
    """Nothing to restore; loading is refused. The folder need not exist."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert Checkpoints(folder, MODEL).restore(state_of()) is None
        assert Checkpoints(folder, MODEL).steps() == []
        for which in ("best", "last", 3):
            with pytest.raises(
                FileNotFoundError, match=r"expected a run with checkpoints, got none in .*; train first"
            ):
                load_model(folder, which)


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (rnn.GRU(2, 4), "expected a checkpoint of GRU(2, 4), got GRU(2, 3); "
                        "resume with the model it was made with, or start in another folder"),
        (rnn.GRU(2, 3, reset_after=True), "expected a checkpoint of GRU(2, 3, reset_after=True), got GRU(2, 3); "),
        (rnn.LSTM(2, 3), "expected a checkpoint of LSTM(2, 3), got GRU(2, 3); "),
    ],
)  # fmt: skip
def test_another_model_is_refused(other, words, tmp_path):
    """The message names both models and the folder."""
    saved(tmp_path, 3)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'step-000000003'}: {words}")):
        Checkpoints(tmp_path, other).restore(state_of(other))


@pytest.mark.parametrize(
    ("optimizer", "carry", "words"),
    [
        (optax.sgd(0.1), (), "training.opt_state[0].count: expected nothing there, got int32[]"),
        (optax.sgd(0.1, momentum=0.9), (), "training.opt_state[0].trace.w_xh: expected float32[2, 9], got nothing"),
        (optax.MultiSteps(optax.adam(0.1), 2), (), "training.opt_state.mini_step: expected int32[], got nothing"),
        (optax.adam(0.1), jnp.zeros((2, 3)), "training.carry: expected float32[2, 3], got nothing"),
    ],
)
def test_another_optimizer_or_carry_is_refused(optimizer, carry, words, tmp_path):
    """The message names the first array that differs."""
    saved(tmp_path, 3)
    message = f"{tmp_path / 'step-000000003'}: {words}; the run had another model or optimizer"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Checkpoints(tmp_path, MODEL).restore(state_of(MODEL, optimizer, carry))


def test_another_dtype_is_refused(tmp_path):
    """Other dtypes are refused even if the printed call is the same."""
    saved(tmp_path, 3)
    half = state_of()._replace(params=jax.tree.map(lambda p: p.astype("bfloat16"), state_of().params))
    with pytest.raises(ValueError, match=re.escape("params.w_xh: expected bfloat16[2, 9], got float32[2, 9]")):
        Checkpoints(tmp_path, MODEL).restore(half)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda f: Checkpoints(f, MODEL, keep=0), ValueError, "keep: expected a positive int, got 0"),
        (lambda f: Checkpoints(f, MODEL).save(state_of(), KEY, {"step": 1, "best": 2, "a": 3}), ValueError,
         "metadata: expected names other than model, parts, step, best, key, params, training, jaxrnn, got best, step; "
         "give it another name"),
        (lambda f: load_model(f, "newest"), ValueError, "which: expected one of 'best', 'last', got 'newest'"),
        (lambda f: load_model(f, 7), ValueError,
         "which: expected the step of an intact checkpoint in {folder}: [5, 3], got 7; "
         'which="last" takes the newest'),
    ],
)  # fmt: skip
def test_refusals(call, kind, words, tmp_path):
    """Exact messages."""
    saved(tmp_path, 3, 5)
    with pytest.raises(kind, match=f"^{re.escape(words.replace('{folder}', str(tmp_path)))}$"):
        call(tmp_path)


# ---- models with user-defined parts --------------------------------------------------------------------------------


USER_DEFINED = {  # and the messages
    "lambda": (rnn.VanillaRNN(2, 3, activation=lambda z: z / (1 + abs(z))), "<lambda> of test_checkpoints cannot be "),
    "initializer": (
        rnn.Linear(2, 3, w_init=jax.nn.initializers.constant(2.0)),
        "constant.<locals>.init of jax._src.nn.initializers cannot be imported",
    ),
}


@pytest.mark.parametrize("name", USER_DEFINED)
def test_a_model_that_cannot_be_rebuilt(name, tmp_path):
    """Restored like any other; loaded with model=, which the message suggests."""
    model, words = USER_DEFINED[name]
    checkpoints = saved(tmp_path, 3, model=model)
    assert same_bits(checkpoints.restore(state_of(model)).state, state_of(model, step=3, seed=3))
    again, params, _ = load_model(tmp_path, model=model)
    assert again is model
    assert same_bits(params, state_of(model, seed=3).params)
    with pytest.raises(
        ValueError, match=f"^model: expected the model, since .* cannot be rebuilt: .*{words}.*, model="
    ):
        load_model(tmp_path)
    with pytest.raises(ValueError, match=r"params.*expected .*, got .*; the run had another model"):
        load_model(tmp_path, model=rnn.LSTM(2, 3))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_parameters_are_loaded_in_the_dtype_in_which_they_were_saved(dtype, tmp_path):
    """Also if they were cast to 16 bits; a run in another dtype is refused, with the fix."""
    state = state_of(step=3, seed=1)
    state = state._replace(params=jax.tree.map(lambda p: p.astype(dtype), state.params))
    Checkpoints(tmp_path, MODEL).save(state, KEY)
    model, params, _ = load_model(tmp_path)
    assert model == MODEL
    assert same_bits(params, state.params)
    assert same_bits(load_model(tmp_path, model=MODEL)[1], state.params)
    assert same_bits(Checkpoints(tmp_path, MODEL).restore(state).state, state)
    words = rf"expected float32.*, got {dtype}.*; the run had another .*cast: \.astype\('{dtype}'\)"
    with pytest.raises(ValueError, match=words):
        Checkpoints(tmp_path, MODEL).restore(state_of())
    with pytest.raises(ValueError, match=r"params.w_xh: expected .*\[2, 12\], got .*\[2, 9\]; the run had"):
        load_model(tmp_path, model=rnn.GRU(2, 4))
    with pytest.raises(
        ValueError, match=r"model: expected .*, as stored in .*, got Reverse.*; pass the model of the run"
    ):
        load_model(tmp_path, model=rnn.Reverse(MODEL))


def test_float64_must_be_enabled(tmp_path, x64):
    """Parameters cast to float64 are not silently narrowed."""
    state = state_of(step=3)
    state = state._replace(params=jax.tree.map(lambda p: p.astype("float64"), state.params))
    Checkpoints(tmp_path, MODEL).save(state, KEY)
    assert same_bits(load_model(tmp_path)[1], state.params)
    with (
        enable_x64(False),
        pytest.raises(ValueError, match="expected float32 while 64-bit is off, got"),
    ):
        load_model(tmp_path)


def test_the_slow_parameters_of_lookahead_are_loaded(tmp_path):
    """They are those for inference."""
    optimizer = optax.lookahead(optax.sgd(0.1), 2, 0.5)
    params = optax.LookaheadParams(MODEL.init(KEY), filled(MODEL.init(KEY), 3))
    Checkpoints(tmp_path, MODEL).save(learning.train_state(params, optimizer), KEY)
    assert same_bits(load_model(tmp_path)[1], params.slow)


def test_memory_addresses_are_ignored(tmp_path):
    """A function object of another process prints another address, but the model is the same."""

    class Softsign:
        def __call__(self, z):
            return z / (1 + abs(z))

    a, b = (rnn.VanillaRNN(2, 3, activation=Softsign()) for _ in range(2))
    assert " at 0x" in repr(a) != repr(b)
    saved(tmp_path, 3, model=a)
    assert Checkpoints(tmp_path, b).restore(state_of(b)).state.step == 3


# ---- damage --------------------------------------------------------------------------------------------------------


def files(folder):
    """The files of the checkpoint, one of each kind: data files have random names."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        kind = str(path.relative_to(folder))
        found.setdefault(re.sub(r"[0-9a-f]{32}", "…", kind), path)
    return found


def skipped(folder):
    return pytest.warns(UserWarning, match=rf"^checkpoint {folder} is damaged \(.*\) and skipped$")


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


DAMAGE = {
    "one bit": lambda path: flip(path, 12345),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "deleted": lambda path: path.unlink(),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n "),
}


@pytest.mark.parametrize("how", ["one bit", "deleted", *more("truncated", "longer")])
def test_damage_to_any_file_is_detected(how, tmp_path):
    """Of each kind; the warning names the checkpoint, the one before is restored; repaired, it is the newest again."""
    checkpoints = saved(tmp_path, 1, 2)
    kinds = files(tmp_path / "step-000000002")
    assert {"metadata.json", "sha256.json", "params/manifest.ocdbt", "params/d/…", "training/d/…"} <= set(kinds)
    for kind, path in kinds.items():
        intact = path.read_bytes()
        DAMAGE[how](path)
        if kind == "sha256.json" and how == "longer":
            assert restored_step(checkpoints) == 2  # white space after the list of sums does not change it
        else:
            with skipped(path.parents[len(pathlib.Path(kind).parts) - 1]):
                assert restored_step(checkpoints) == 1
        path.write_bytes(intact)
    assert restored_step(checkpoints) == 2


def test_damage_to_the_list_of_sums_is_detected(tmp_path):
    """For any flipped bit of it the checkpoint is skipped."""
    checkpoints = saved(tmp_path, 1, 2)
    sums = tmp_path / "step-000000002" / "sha256.json"
    size = 8 * len(sums.read_bytes())
    for bit in np.random.default_rng(0).integers(0, size, 10):
        flip(sums, bit)
        with skipped(tmp_path / "step-000000002"):
            assert restored_step(checkpoints) == 1
        flip(sums, bit)
    assert restored_step(checkpoints) == 2


def test_an_additional_file_is_damage(tmp_path):
    """The list of sums covers all files."""
    checkpoints = saved(tmp_path, 1, 2)
    (tmp_path / "step-000000002" / "params" / "other").write_text("?")
    with skipped(tmp_path / "step-000000002"):
        assert restored_step(checkpoints) == 1


def test_all_damaged(tmp_path):
    """As if there were none, with a warning for each."""
    checkpoints = saved(tmp_path, 1, 2, best=(1,))
    for step in (1, 2):
        flip(tmp_path / f"step-{step:09d}" / "metadata.json", 99)
    with skipped(tmp_path / "step-000000002"), skipped(tmp_path / "step-000000001"):
        assert checkpoints.restore(state_of()) is None
    with (
        skipped(tmp_path / "step-000000002"),
        skipped(tmp_path / "step-000000001"),
        pytest.raises(FileNotFoundError, match="got none in"),
    ):
        load_model(tmp_path)


@pytest.mark.parametrize(("best", "expected"), [((2, 3), 2), ((3,), 4)])
def test_a_damaged_best_checkpoint(best, expected, tmp_path):
    """The best before it is loaded, or the newest if there is none; requested by its step it is refused."""
    saved(tmp_path, 2, 3, 4, best=best)
    flip(next((tmp_path / "step-000000003" / "params" / "d").iterdir()), 321)
    for which, step in (("best", expected), ("last", 4), (2, 2)):
        with skipped(tmp_path / "step-000000003"):
            assert load_model(tmp_path, which)[2]["step"] == step
    with skipped(tmp_path / "step-000000003"), pytest.raises(ValueError, match=r": \[4, 2\], got 3; "):
        load_model(tmp_path, 3)


def test_a_run_continues_before_a_damaged_newest_checkpoint(tmp_path):
    """Its checkpoints and the best are kept, even with keep=1, until the damaged one is saved again."""
    checkpoints = saved(tmp_path, 10, 20, best=(10, 20), keep=2)
    flip(tmp_path / "step-000000020" / "metadata.json", 100)
    checkpoints = Checkpoints(tmp_path, MODEL, keep=1)
    for step in (12, 14):
        checkpoints.save(state_of(step=step, seed=step), KEY)
        assert step in checkpoints.steps()
    with skipped(tmp_path / "step-000000020"):
        assert restored_step(checkpoints) == 14
    with skipped(tmp_path / "step-000000020"):
        assert load_model(tmp_path)[2]["step"] == 10
    checkpoints.save(state_of(step=20, seed=20), KEY, best=True)
    assert restored_step(checkpoints) == 20
    assert checkpoints.steps() == [20]


# ---- kills ---------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Simulates SIGKILL."""


def kill_at(monkeypatch, calls, name, nth):
    """Raise Killed at the nth call of a function."""
    count = iter(range(nth, -1, -1))
    original = getattr(calls, name)

    def dying(*args, **kwargs):
        if next(count) == 1:
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(calls, name, dying)


@pytest.mark.parametrize(
    ("where", "nth", "newest"),
    [
        ((learning.checkpoints, "shapes_of"), 1, 2),  # the arrays are written
        ((learning.checkpoints, "_checksums"), 1, 2),  # the metadata are written
        ((pathlib.Path, "rename"), 1, 2),  # all files are written
        ((learning.checkpoints, "_remove_drafts"), 2, 3),  # it has its final name
        ((shutil, "rmtree"), 1, 3),  # before old checkpoints are deleted
    ],
)
def test_a_kill_while_saving(where, nth, newest, monkeypatch, tmp_path):
    """It leaves the previous checkpoint or the new one; the next save removes all else."""
    checkpoints = saved(tmp_path, 1, 2, keep=2)
    kill_at(monkeypatch, *where, nth)
    with pytest.raises(Killed):
        checkpoints.save(state_of(step=3, seed=3), KEY, best=True)
    monkeypatch.undo()
    assert restored_step(checkpoints) == newest
    assert load_model(tmp_path)[2]["step"] == newest
    checkpoints.save(state_of(step=4, seed=4), KEY)
    assert restored_step(checkpoints) == 4
    assert [p.name for p in tmp_path.glob("draft-*")] == []
    assert len(checkpoints.steps()) == 2


@pytest.mark.parametrize("nth", [1, 2])
def test_a_kill_while_replacing(nth, monkeypatch, tmp_path):
    """Between the two renames this step is missing; the checkpoint before it is restored."""
    checkpoints = saved(tmp_path, 1, 2)
    kill_at(monkeypatch, pathlib.Path, "rename", nth)
    with pytest.raises(Killed):
        checkpoints.save(state_of(step=2, seed=2), KEY)
    monkeypatch.undo()
    assert restored_step(checkpoints) == {1: 2, 2: 1}[nth]


def test_drafts_are_ignored_and_cleaned(tmp_path):
    """Even a complete one, and one of another step."""
    checkpoints = saved(tmp_path, 1)
    shutil.copytree(tmp_path / "step-000000001", tmp_path / "draft-9")
    (tmp_path / "draft-2" / "params.orbax-checkpoint-tmp").mkdir(parents=True)
    assert checkpoints.steps() == [1]
    assert restored_step(checkpoints) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model(tmp_path, "last")[2]["step"] == 1
    checkpoints.save(state_of(step=2, seed=2), KEY)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000001", "step-000000002"]


def test_a_partially_deleted_checkpoint(tmp_path):
    """After a kill while an old checkpoint was deleted the newest is restored without a warning."""
    checkpoints = saved(tmp_path, 1, 2)
    shutil.rmtree(tmp_path / "step-000000001" / "params")
    (tmp_path / "step-000000001" / "metadata.json").unlink()
    assert restored_step(checkpoints) == 2
    checkpoints = Checkpoints(tmp_path, MODEL, keep=1)
    checkpoints.save(state_of(step=3, seed=3), KEY)
    assert checkpoints.steps() == [3]


# ---- the folder of a run -------------------------------------------------------------------------------------------


def test_run_folder_renames_an_earlier_run(tmp_path, capsys):
    """To the next free number, which is printed; an empty folder or a resumed run stays."""
    out = tmp_path / "runs" / "a"
    assert run_folder(out) == out
    assert run_folder(str(out)) == out
    assert capsys.readouterr().out == ""
    for n in (1, 2):
        (out / "note").write_text(str(n))
        assert run_folder(out, resume=True) == out
        assert (out / "note").read_text() == str(n)
        assert run_folder(out) == out
        assert list(out.iterdir()) == []
        assert (tmp_path / "runs" / f"a.{n}" / "note").read_text() == str(n)
        assert capsys.readouterr().out == f"the earlier run in {out} was renamed to {out}.{n}\n"


def test_metadata_json(tmp_path):
    """A JSON file with the model as text, and dtype and shape of every array."""
    saved(tmp_path, 3)
    metadata = json.loads((tmp_path / "step-000000003" / "metadata.json").read_text())
    assert metadata["model"] == "GRU(2, 3)"
    assert metadata["params"] == {".w_xh": "float32[2, 9]", ".w_hh": "float32[3, 9]", ".b_h": "float32[9]"}
    assert metadata["training"][".opt_state[0].count"] == "int32[]"
    assert bits(state_of().params).keys() == metadata["params"].keys()


def test_parameters_that_are_one_array(tmp_path):
    """A user's cell may have a single array as its parameters."""
    state = learning.train_state(jnp.arange(3.0), optax.sgd(0.1))
    checkpoints = Checkpoints(tmp_path, None)
    checkpoints.save(state, KEY)
    assert checkpoints.restore(state).state.params.tolist() == [0, 1, 2]
    assert "steps=[0]" in repr(checkpoints)
