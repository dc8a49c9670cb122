"""What checkpoints store as JSON: the same value comes back, others are refused."""

import dataclasses
import fractions
import json
import math
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from refusals import refuses

from jaxrnn import stored
from jaxrnn.data import Vocabulary


@stored.storable
@dataclasses.dataclass(frozen=True)
class Scale:
    """A storable class with fields of every kind."""

    kind: str
    mean: np.ndarray
    names: tuple[str, ...] = ()
    inner: object = None
    function: object = None
    derived: int = dataclasses.field(init=False, default=3)


def through_json(value, **options):
    """The value that a file gives back; encoding it again gives the same JSON."""
    encoded = stored.encode("value", value)
    text = json.dumps(encoded)
    assert stored.encode("value", encoded) == encoded or "NaN" in text  # JSON stays as it is
    again = stored.decode("value", json.loads(text), **options)
    assert json.dumps(stored.encode("value", again)) == text
    return again


def same_array(a, b):
    """Dtype, shape and bits."""
    return type(a) is type(b) and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


DTYPES = ["bool", "int8", "uint64", "int64", "float16", "float32", "float64", "complex64", "complex128", "U3",
          "datetime64[D]", "datetime64[ns]", "timedelta64[h]"]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3),
                                elements={"allow_nan": False} if dtype[0] in "fc" else None)))  # fmt: skip
def test_an_array_comes_back_bit_for_bit(array):
    """Of any dtype and shape, without axes or without elements too; -0, infinity and subnormal numbers included."""
    assert same_array(through_json(array), array)


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.5, -0.0, np.inf, 3e38]).astype(jnp.bfloat16),
        np.array([1.5, -2]).astype(jnp.float8_e4m3fn),
        np.array([1, -2]).astype(jnp.int4),
        np.array([["שלום", ""]]),
        np.array(["2026-01-02", "NaT"], "datetime64[D]"),
        np.arange(6, dtype="float32").reshape(2, 3).T,
    ],
    ids=lambda array: str(array.dtype),
)
def test_other_arrays(array):
    """The 16 and 8 bits of accelerators, other scripts, a missing date, another memory order."""
    again = through_json(array)
    assert same_array(np.ascontiguousarray(again), np.ascontiguousarray(array))


def test_nan_stays_nan():
    """In an array as well as a number."""
    assert np.isnan(through_json(np.array([np.nan], "float16"))).all()
    assert math.isnan(through_json(math.nan))


def test_what_becomes_plain():
    """Tuples become lists, keys strings, scalars numbers of Python; an array of JAX one of NumPy, of its dtype."""
    value = {
        "a": (1, 2.5),
        3: None,
        "s": [np.float32(0.1), np.int8(3), np.bool_(True), jnp.float32(2), jnp.array(True)],
    }
    again = through_json(value)
    assert again == {"a": [1, 2.5], "3": None, "s": [float(np.float32(0.1)), 3, True, 2.0, True]}
    assert [type(x) for x in again["s"]] == [float, int, bool, float, bool]
    assert same_array(through_json(jnp.arange(3, dtype="int16")), np.arange(3, dtype="int16"))
    assert through_json(jnp.bfloat16(1.5)) == 1.5


SCALE = Scale("standard", np.ones((2, 1), "float32"), ("a", "b"), inner=(Vocabulary(("x",)), 2), function=str.split)


def test_an_object_comes_back():
    """With its arrays, tuples, objects and functions."""
    again = through_json({"scale": [SCALE]})["scale"][0]
    assert type(again) is Scale
    assert same_array(again.mean, SCALE.mean)
    assert (again.kind, again.names, again.inner, again.function) == ("standard", ("a", "b"), SCALE.inner, str.split)


def test_json_of_an_object():
    """It is readable, and fields that are None by default are left out."""
    assert stored.encode("value", Vocabulary(("a", "b"), "a")) == {
        "__class__": "Vocabulary", "symbols": ["a", "b"], "unknown": "a"}  # fmt: skip
    encoded = stored.encode("value", dataclasses.replace(SCALE, inner=None))
    assert encoded == {
        "__class__": "test_stored.Scale",
        "kind": "standard",
        "mean": {"__class__": "numpy.ndarray", "dtype": "float32", "shape": [2, 1], "values": [[1.0], [1.0]]},
        "names": ["a", "b"],
        "function": {"__class__": "function", "name": "builtins:str.split"},
    }


def test_a_class_that_was_defined_again():
    """As in a notebook: objects of the old class are stored, and come back as those of the new one."""
    old = SCALE
    new = stored.storable(dataclasses.make_dataclass("Scale", [("kind", str), ("mean", object), ("names", tuple),
                          ("inner", object, None), ("function", object, None)], frozen=True))  # fmt: skip
    new.__module__ = __name__
    try:
        stored.storable(new)
        assert type(stored.decode("value", stored.encode("value", old))) is new
    finally:
        stored.storable(Scale)


def test_a_module_is_imported_only_if_it_may(tmp_path, monkeypatch):
    """Reading runs no code of a module that has not been imported, unless it is allowed."""
    (tmp_path / "own_splits.py").write_text("def halves(text):\n    return [text[:1], text[1:]]\n")
    (tmp_path / "broken_splits.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    value = {"__class__": "Vocabulary", "symbols": ["a", "b"],
             "split": {"__class__": "function", "name": "own_splits:halves"}}  # fmt: skip
    refuses("ValueError v['split']: expected a function of a module that was imported, got own_splits:halves; "
            "import own_splits before reading, if you trust the file", lambda: stored.decode("v", value))  # fmt: skip
    assert "own_splits" not in sys.modules
    assert stored.decode("v", value, may_import=True).encode("ab").tolist() == [0, 1]
    assert stored.encode("v", stored.decode("v", value)) == value  # now it has been
    del sys.modules["own_splits"]
    for name, words in (
        ("nowhere:f", "(ModuleNotFoundError: …"),
        ("broken_splits:f", "(ZeroDivisionError: …"),
        ("own_splits:other", "(AttributeError: …"),
    ):
        value["split"]["name"] = name
        refuses(f"ValueError v['split']: expected a function that can be imported, got {name} {words}",
                lambda: stored.decode("v", value, may_import=True))  # fmt: skip
    value["split"]["name"] = "math:pi"
    refuses("ValueError v['split']: expected a function, got math:pi, which is float 3.14…",
            lambda: stored.decode("v", value))  # fmt: skip


LOOP: list = []
LOOP.append(LOOP)
CAN = (
    "expected what a checkpoint can store: None, bools, numbers, strings, arrays, lists, tuples, dicts and objects of …"
)


@dataclasses.dataclass
class Unmarked:
    """Not storable."""


@pytest.mark.parametrize(
    ("message", "value"),
    [
        (f"TypeError m['a'][1]: {CAN}, got set {{2}}; sorted(...) makes a list", [1, {2}]),
        (f"TypeError m['a']: {CAN}, got PosixPath a; str(...) of the path", pathlib.PurePosixPath("a")),
        (f"TypeError m['a']: {CAN}, got function <function …; store its name as a text", refuses),
        (f"TypeError m['a']: {CAN}, got the class Vocabulary; store its name as a text", Vocabulary),
        (f"TypeError m['a']: {CAN}, got Unmarked …; dataclasses.asdict(...), or mark its class, a frozen dataclass, "
         "with jaxrnn.stored.storable", Unmarked()),
        (f"TypeError m['a']: {CAN}, got Fraction 1/2; store the texts, numbers and arrays that it is made of",
         fractions.Fraction(1, 2)),
        ("TypeError m['a']: expected keys that are strings, got the key tuple of 2; str(key)", {(1, 2): 3}),
        ("ValueError m['a']: expected keys that differ as strings, got 0, '0'", {0: 1, "0": 2}),
        ("ValueError m['a']: expected keys other than '__class__', which marks stored objects, got 'mine'; …",
         {"__class__": "mine"}),
        ("TypeError m['a']: expected an array of numbers, bools, strings or dates, got object[1]; .astype(str) of …",
         np.array([None])),
        ("TypeError m['a']: expected an array of numbers, bools, strings or dates, got |S1[1]; …", np.array([b"a"])),
        ("ValueError m['a']…: expected a value of finite depth, got one that contains itself", LOOP),
        ("TypeError m['a']['names'][0]: expected …", Scale("", np.ones(1), ({1},))),
        ("ValueError m['a']['function']: expected a function that another program can import, got <function "
         "…<lambda>…; define it at the top level of a module of your own and import it from there",
         Scale("", np.ones(1), function=lambda x: x)),
        ("ValueError m['a']['function']: expected a function that another program can import, got functools.partial…",
         Scale("", np.ones(1), function=__import__("functools").partial(int))),
    ],
    ids=range(15),
)  # fmt: skip
def test_refused_to_store(message, value):
    """The place, what can be stored, and the fix."""
    message = message.replace("m['a']…", "m").replace("PosixPath", type(value).__name__)
    refuses(message, lambda: stored.encode("m", {"a": value}))


def test_a_random_key_is_refused():
    """It has no numbers; its data do."""
    refuses("TypeError key: expected an array of numbers, got key<fry>[]; store jax.random.key_data(key)",
            lambda: stored.encode("key", jax.random.key(0)))  # fmt: skip


def test_functions_of_main_are_refused(monkeypatch):
    """Another program has another __main__; so is one that is not what its name says."""
    monkeypatch.setattr(through_json, "__module__", "__main__")
    refuses("ValueError v['split']: expected a function that another program can import, got <function through_json…",
            lambda: stored.encode("v", Vocabulary(("a",), split=through_json)))  # fmt: skip
    monkeypatch.setattr(through_json, "__module__", "json")
    refuses("ValueError v['split']: …which is not json:through_json; …",
            lambda: stored.encode("v", Vocabulary(("a",), split=through_json)))  # fmt: skip


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ("ValueError m[0]: expected an object of one of the classes …Vocabulary…, got one of the class Cloud; a newer "
         "version of jaxrnn may know it", {"__class__": "Cloud", "x": 1}),
        ("ValueError m[0]: expected …, got one of the class mine.Cloud; import mine before reading",
         {"__class__": "mine.Cloud", "x": 1}),
        ("ValueError m[0]: expected a stored Vocabulary, got other fields (…'size'…); it was stored by another version "
         "of its class", {"__class__": "Vocabulary", "symbols": ["a"], "size": 1}),
        ("ValueError m[0]: expected a stored Vocabulary, got other fields (…'symbols'); …",
         {"__class__": "Vocabulary"}),
        ("ValueError m[0]: expected a stored numpy.ndarray, got other fields (…", {"__class__": "numpy.ndarray"}),
    ],
)  # fmt: skip
def test_refused_to_read(message, value):
    """The class, and what may help."""
    refuses(message, lambda: stored.decode("m", [value]))


def test_only_frozen_dataclasses_are_storable():
    """Others may change, or have no fields."""
    for cls in (Unmarked, dict, type("Sub", (Scale,), {})):
        refuses(f"TypeError cls: expected a frozen dataclass, got {cls.__qualname__}; @storable comes above "
                "@dataclasses.dataclass(frozen=True)", lambda cls=cls: stored.storable(cls))  # fmt: skip
