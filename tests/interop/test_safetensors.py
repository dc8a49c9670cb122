"""A model, its parameters and metadata in one file: the same bits, damage and foreign files refused, no code run."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refuses
from versions import enable_x64
from zoo import ZOO, H, few, random_params

import jaxrnn as rnn
from jaxrnn import stored
from jaxrnn.data import Vocabulary
from jaxrnn.interop.safetensors import load, save

safetensors = pytest.importorskip("safetensors")
from safetensors.numpy import load_file, save_file  # noqa: E402

WORDS = Vocabulary.of(["a great film", "a dull one"], split="words", unknown="<unk>")
MODEL = rnn.tasks.Classifier(rnn.Stack(rnn.Embedding(6, 4), rnn.Bidirectional(rnn.LSTM(4, 6, peepholes="fo"))), 2)
LINEAR = rnn.Linear(4, 2), random_params(rnn.Linear(4, 2))
METADATA = {"words": WORDS, "mean": np.array([0.5, 1.5], "float32"), "rate": 0.1, "notes": ["a", None, True]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_all_comes_back(path):
    params = random_params(MODEL)
    save(path, MODEL, params, metadata=METADATA)
    model, again, metadata = load(path)
    assert model == MODEL
    same_bits(again, params)
    assert {**metadata, "mean": None} == {**METADATA, "mean": None}
    np.testing.assert_array_equal(metadata["mean"], METADATA["mean"])
    assert list(path.parent.iterdir()) == [path]


def test_any_reader_finds_the_arrays(path):
    params = random_params(MODEL)
    save(path, MODEL, params, metadata=METADATA)
    found = load_file(path)
    assert set(found) == {"encoder.0.w", "readout.w", "readout.b"} | {
        f"encoder.1.{n}.{name}" for n in (0, 1) for name in ("w_xh", "w_hh", "b_h", "peepholes")
    }
    np.testing.assert_array_equal(found["encoder.1.1.w_hh"], params.encoder[1][1].w_hh)
    with safetensors.safe_open(path, framework="numpy") as file:
        texts = file.metadata()
    assert texts["jaxrnn"] == rnn.__version__
    assert texts["model"] == repr(MODEL)
    assert json.loads(texts["metadata"])["rate"] == 0.1


REBUILT = [name for name in ZOO if "user" not in name and "callable" not in name]


@pytest.mark.parametrize("name", few(REBUILT, ["lstm-no-bias", "tied", "mixed-precision"]))
def test_every_model(name, path):
    model = ZOO[name].build("float32")
    params = random_params(model)
    save(path, model, params)
    again, loaded, metadata = load(path)
    assert again == model
    assert metadata == {}
    same_bits(loaded, params)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtypes_are_kept(dtype, path):
    model = rnn.Linear(4, 2)  # its own is float32
    params = jax.tree.map(lambda a: a.astype(dtype), random_params(model))
    save(path, model, params)
    same_bits(load(path)[1], params)


def test_float64(path, x64):
    model = rnn.GRU(3, 4, dtype="float64")
    params = random_params(model)
    save(path, model, params)
    same_bits(load(path)[1], params)
    with enable_x64(False), pytest.raises(ValueError, match=r"float64; .*jax_enable_x64"):
        load(path)


def test_arrays_of_any_layout(path):
    """The same array twice, and one whose memory is in another order."""
    w = jnp.array(np.random.default_rng(0).normal(size=(4, 4)), "float32")
    model = rnn.VanillaRNN(4, 4, use_bias=False)
    save(path, model, (w, w, None))
    same_bits(load(path)[1], type(random_params(model))(w, w, None))
    turned = np.asarray(w).T
    save(path, model, (turned, w, None))
    np.testing.assert_array_equal(load(path)[1].w_xh, turned)


@stored.storable
@dataclasses.dataclass(frozen=True)
class Table:
    """A storable class of the user."""

    table: dict


@dataclasses.dataclass(frozen=True)
class Decay:
    """A user's cell whose parameters are one array, of a class that can be imported."""

    size: int

    def init(self, key):
        return jax.random.normal(key, (self.size,))

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, self.size))

    def step(self, params, state, x):
        state = jax.nn.sigmoid(params) * state + x
        return state, state


def test_a_class_of_the_user(path):
    model = rnn.Stack(Decay(3), rnn.Linear(3, 2))
    params = random_params(model)
    save(path, model, params)
    again, loaded, _ = load(path)
    assert again == model
    same_bits(loaded, params)
    assert set(load_file(path)) == {"0", "1.w", "1.b"}
    save(path, Decay(3), params[0])
    assert set(load_file(path)) == {"params"}
    same_bits(load(path)[1], params[0])


def test_a_class_that_cannot_be_imported(path):
    local = dataclasses.dataclass(frozen=True)(type("Local", (Decay,), {"__qualname__": "test.<locals>.Local"}))
    model = local(3)
    save(path, model, jnp.ones(3))
    with pytest.raises(ValueError, match=r"Local .*cannot be imported, .*; load\('.*', model=Local\(size=3\)\)"):
        load(path)
    assert load(path, model=model)[0] is model


PROGRAM = """
import sys, jax, numpy as np, jaxrnn as rnn
model, params, metadata = rnn.interop.safetensors.load(sys.argv[1])
print(metadata["words"].encode("a great film"))
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("x",))
split = lambda a: jax.device_put(a, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x")))
params = jax.tree.map(split, params)
assert not jax.tree.leaves(params)[0].is_fully_replicated
rnn.interop.safetensors.save(sys.argv[2], model, params, metadata=metadata)
"""


@pytest.mark.slow
def test_another_process(path):
    """It has imported jaxrnn alone, and splits the arrays over two devices."""
    params, second = random_params(MODEL), path.with_name("second")
    save(path, MODEL, params, metadata=METADATA)
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM, path, second], env=environment, check=True, capture_output=True
    )
    assert out.stdout.decode().strip() == str(WORDS.encode("a great film"))
    same_bits(load(second)[1], params)


# ---- files of others ---------------------------------------------------------------------------------------------


def test_a_file_of_others(path):
    model = rnn.Linear(4, 2)
    params = random_params(model)
    save_file({"w": np.asarray(params.w), "b": np.asarray(params.b)}, path, metadata={"format": "np"})
    with pytest.raises(ValueError, match=r"model: expected the model, as jaxrnn did not write .*, got None; "
                       r"load\(path, model=\.\.\.\), .* called as the arrays there: 'b', 'w'$"):  # fmt: skip
        load(path)
    again, loaded, metadata = load(path, model=model)
    assert again is model
    assert metadata == {"format": "np"}
    same_bits(loaded, params)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (rnn.Linear(4, 3), r"safetensors: w: expected float32\[4, 3\], got float32\[4, 2\]; the file holds 'b', 'w'"),
        (rnn.Linear(4, 2, use_bias=False), r"safetensors: b: expected nothing there, got float32\[2\]; the file holds"),
        (rnn.GRU(4, 2), r"safetensors: w_xh: expected float32\[4, 6\], got nothing; the file holds 'b', 'w'"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("own", [True, False])
def test_another_model_is_refused(model, message, own, path):
    params = random_params(rnn.Linear(4, 2))
    if own:
        save(path, rnn.Linear(4, 2), params)
    else:
        save_file({"w": np.asarray(params.w), "b": np.asarray(params.b)}, path)
    with pytest.raises(ValueError, match=message):
        load(path, model=model)


@pytest.mark.parametrize(
    ("model", "other"),
    [
        (rnn.VanillaRNN(2, 3, activation="relu"), rnn.VanillaRNN(2, 3)),
        (rnn.LSTM(2, 3, peepholes="i"), rnn.LSTM(2, 3, peepholes="o")),
    ],
    ids=repr,
)
def test_another_model_of_the_same_shapes_is_refused(model, other, path):
    save(path, model, random_params(model))
    assert load(path, model=model)[0] is model
    refuses(f"ValueError model: expected {model!r}, as stored in {path}, got {other!r}; pass that model, or none if …; "
            "a class of your own must print as it did", lambda: load(path, model=other))  # fmt: skip


def test_integers_are_no_parameters(path):
    save_file({"w": np.ones((4, 2), "int32"), "b": np.ones(2, "float32")}, path)
    with pytest.raises(TypeError, match=r"params\.w: expected floating numbers, got int32\[4, 2\]"):
        load(path, model=rnn.Linear(4, 2))


# ---- damage ------------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(path):
    save(path, MODEL, random_params(MODEL), metadata=METADATA)
    whole = path.read_bytes()

    def write(change):
        path.write_bytes(change(whole))
        return path

    return write


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:4],
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: data + b"more",
        lambda data: flip(data, 0),
        lambda data: b"\x80\x04pickled",
    ],
    ids=["empty", "length", "header", "end", "longer", "bit of the length", "another format"],
)
def test_what_is_no_whole_file(change, damaged):
    with pytest.raises(
        ValueError, match=r"model\.safetensors: expected a whole safetensors file, got .*; it is damaged"
    ):
        load(damaged(change))


@pytest.mark.parametrize(
    "where", [lambda data: len(data) - 5, lambda data: data.index(b"float32"), lambda data: data.index(b"LSTM")],
    ids=["array", "metadata", "model"],
)  # fmt: skip
def test_a_bit_that_flipped(where, damaged):
    with pytest.raises(
        ValueError, match=r"model\.safetensors: expected the content that was saved, got another SHA-256"
    ):
        load(damaged(lambda data: flip(data, where(data))))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("FileNotFoundError path: expected a file that exists, got …model.safetensors", lambda path: load(path)),
        ("IsADirectoryError path: expected a file, got the folder …; '…model.safetensors'", lambda p: load(p.parent)),
        ("TypeError path: expected the path of a file, got None; …", lambda path: load(None)),
        ("TypeError path: expected the path of a file, got None; …", lambda path: save(None, *LINEAR)),
        ("IsADirectoryError path: expected a file, got the folder …", lambda path: save(path.parent, *LINEAR)),
        ("FileNotFoundError path: expected a file in a folder that exists, got …x; make …model.safetensors",
         lambda path: save(path / "x", *LINEAR)),
        ("TypeError model: expected a model with a method init, got NoneType", lambda path: save(path, None, ())),
        ("TypeError model: expected a model with a method init, got the class GRU",
         lambda path: save(path, rnn.GRU, ())),
        ("TypeError w: expected an array with values, got a traced float32[4, 2]; save outside of jit",
         lambda path: jax.jit(lambda params: save(path, LINEAR[0], params))(LINEAR[1])),
        ("TypeError metadata: expected a dict, got list of 1; …", lambda path: save(path, *LINEAR, metadata=[1])),
        ("TypeError metadata: expected a dict, got list of 0; …", lambda path: save(path, *LINEAR, metadata=[])),
        ("TypeError metadata: expected keys that are strings, got the key int 0; str(key)",
         lambda path: save(path, *LINEAR, metadata={0: "bad"})),
        ("TypeError metadata['a'][1]: expected keys that are strings, got the key None; str(key)",
         lambda path: save(path, *LINEAR, metadata={"a": (1, {None: 2})})),
        ("TypeError metadata['s']['table']: expected keys that are strings, got the key int 1; str(key)",
         lambda path: save(path, *LINEAR, metadata={"s": Table({1: 2})})),
    ],
    ids=range(14),
)  # fmt: skip
def test_paths_and_arguments_refused(message, call, path):
    refuses(message, lambda: call(path))
    assert not list(path.parent.iterdir())


def test_a_write_that_fails_leaves_the_earlier_file(path, monkeypatch):
    save(path, MODEL, random_params(MODEL))
    before = path.read_bytes()

    def half(arrays, draft, metadata):
        pathlib.Path(draft).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", half)
    with pytest.raises(OSError, match="no space"):
        save(path, MODEL, random_params(MODEL, 1))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


# ---- what cannot be saved ----------------------------------------------------------------------------------------


TREES = {
    "dots": {"a.b": np.ones(1, "float32"), "a": {"b": np.ones(1, "float32")}},
    "complex": {"a": np.ones(1, "complex64")},
    "narrow": {"a": jnp.ones(1, jnp.float8_e4m3fn)},
}


@dataclasses.dataclass(frozen=True)
class Tree(Decay):
    """A cell with unusual parameters."""

    kind: str

    def init(self, key):
        return TREES[self.kind]


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("dots", ValueError, r"params: expected arrays with different names, got two called 'a\.b'"),
        ("complex", TypeError, r"a: expected bools, integers, or floats .*, got complex64\[1\]"),
        ("narrow", TypeError, r"a: expected .*16 bits or more, got float8_e4m3fn\[1\]"),
    ],
)
def test_parameters_refused(kind, error, message, path):
    with pytest.raises(error, match=message):
        save(path, Tree(1, kind), TREES[kind])
    assert not path.exists()


def test_metadata_refused(path):
    with pytest.raises(TypeError, match=r"metadata\['x'\]: expected what a checkpoint can store"):
        save(path, MODEL, random_params(MODEL), metadata={"x": object()})


def test_other_parameters_refused(path):
    with pytest.raises(TypeError, match=r"params: expected ClassifierParams"):
        save(path, MODEL, random_params(rnn.Linear(H, 2)))


# ---- safety and versions -----------------------------------------------------------------------------------------


def rewrite(path, **texts):
    """A file that others made to look like one of jaxrnn, with a sum that is right."""
    arrays = load_file(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        content = {**file.metadata(), **texts}
    del content["sha256"]
    save_file(arrays, path, metadata=content | {"sha256": rnn.interop.safetensors._sum(content, arrays)})


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        ("Popen(['touch', 'HERE'])", {"Popen": ["subprocess", "Popen"]}),
        ("system('touch HERE')", {"system": ["os", "system"]}),
        ("os.system('touch HERE')", {}),
    ],
)
def test_nothing_else_is_called(call, parts, path, tmp_path):
    save(path, rnn.GRU(2, 3), random_params(rnn.GRU(2, 3)))
    rewrite(path, model=call.replace("HERE", str(tmp_path / "here")), parts=json.dumps(parts))
    with pytest.raises(ValueError, match="cannot be rebuilt"):
        load(path)
    assert not (tmp_path / "here").exists()


def test_nothing_is_imported_for_a_model_that_is_given(path, tmp_path, monkeypatch):
    (tmp_path / "unsafe_room.py").write_text("raise SystemExit('its code ran')")
    monkeypatch.syspath_prepend(tmp_path)
    model = rnn.GRU(2, 3)
    save(path, model, random_params(model), metadata={"words": WORDS})
    split = {"__class__": "function", "name": "unsafe_room:split"}
    texts = {"__class__": "Vocabulary", "symbols": ["a"], "unknown": None, "split": split}
    rewrite(path, parts=json.dumps({"Cell": ["unsafe_room", "Cell"]}))
    assert load(path, model=model)[0] is model
    rewrite(path, metadata=json.dumps({"words": texts}))
    with pytest.raises(
        ValueError, match=r"metadata\['words'\]\['split'\]: expected a function of a module that was imp"
    ):
        load(path, model=model)
    assert "unsafe_room" not in sys.modules


def test_a_newer_version_is_named(path):
    save(path, rnn.GRU(2, 3), random_params(rnn.GRU(2, 3)))
    rewrite(path, jaxrnn="99.1", model="Cloud(2, 3)")
    with pytest.raises(ValueError, match=r"; it was written by jaxrnn 99\.1, which is newer than this one"):
        load(path)


def test_without_safetensors(path, monkeypatch):
    save(path, MODEL, random_params(MODEL))
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (lambda: load(path), lambda: save(path, MODEL, random_params(MODEL))):
        with pytest.raises(ImportError, match=r"pip install 'jaxrnn\[safetensors\]'"):
            call()
