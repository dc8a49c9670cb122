"""A model is rebuilt from its folder alone, with user-defined classes if their module can be imported."""

import functools
import importlib
import json
import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import KEY, same_bits

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.learning import Checkpoints, load_model

CELLS = '''
import dataclasses, jax, jax.numpy as jnp
import jaxrnn as rnn

def bent(z):
    return z / (1 + abs(z))

@dataclasses.dataclass(frozen=True)
class Average:
    """A user-defined cell."""
    size: int
    inner: object = None

    def init(self, key):
        return {"rate": jax.random.normal(key, (self.size,))}

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, self.size))

    def step(self, params, state, x):
        state = state + jnp.broadcast_to(params["rate"], x.shape) * (x - state)
        return state, state

@dataclasses.dataclass(frozen=True)
class Several(Average):
    """A user's model of models, functions and numbers."""
    parts: tuple = ()
    activation: object = jnp.tanh
    limit: float = float("inf")

class Outer:
    @dataclasses.dataclass(frozen=True)
    class Inner(Average):
        """A nested class."""

class Forgetful(rnn.GRU):
    """It inherits its repr."""

class GRU(Average):
    """It has the name of a cell of jaxrnn."""

class Plain(Average):
    """It does not print as a call."""
    __repr__ = object.__repr__

@dataclasses.dataclass(frozen=True)
class Sharp:
    """A callable class without the methods of a cell."""
    slope: float

    def __call__(self, z):
        return jnp.tanh(self.slope * z)
'''


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """A user-defined module."""
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "cells.py").write_text(CELLS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("my_package.cells")
    forget()


def local():
    """A function that no other program can import."""

    def inner(z):
        return z

    return inner


def forget():
    """Unload the module, as in another process."""
    for name in [name for name in sys.modules if name.split(".")[0] == "my_package"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def saved(folder, model):
    """Save one checkpoint of a model; returns its parameters."""
    params = model.init(KEY)
    Checkpoints(folder, model).save(learning.train_state(params, optax.sgd(0.1)), KEY)
    return params


MODELS = {
    "cell": lambda m: rnn.Stack(m.Average(2), rnn.GRU(2, 3)),
    "nested": lambda m: rnn.Residual(m.Outer.Inner(2, rnn.GRU(2, 3))),
    "subclass": lambda m: rnn.Stack(m.Forgetful(2, 3, reset_after=True)),
    "a name of jaxrnn": lambda m: m.GRU(4),
    "function": lambda m: rnn.VanillaRNN(2, 3, activation=m.bent),
    "a dataclass of all kinds": lambda m: rnn.Residual(
        m.Several(np.int64(2), parts=(m.Average(2), (m.Several(1, activation=m.bent), -jnp.inf)))
    ),
    "function of jax": lambda m: rnn.VanillaRNN(2, 3, activation=jax.nn.gelu),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_rebuilt(name, cells, tmp_path):
    """In another process, with the class of the module that is imported there."""
    model = MODELS[name](cells)
    params, xs = saved(tmp_path / "run", model), jnp.ones((3, 2, getattr(model, "size", 2)))
    forget()
    again, loaded, _ = load_model(tmp_path / "run")
    printed = [re.sub(r" at 0x.*?>", "", repr(m)).replace("np.int64(2)", "2") for m in (again, model)]
    assert printed[0] == printed[1]
    assert same_bits(loaded, params)
    assert same_bits(rnn.unroll(again, loaded, xs)[1], rnn.unroll(model, params, xs)[1])
    assert ("my_package.cells" in sys.modules) == (name != "function of jax")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda m: rnn.Stack(m.Average(2), m.Plain(2)),
         r"since Stack\(Average\(size=2, inner=None\), <my_package.cells.Plain object>\) in .* does not print as its "
         r"constructor call, .*model=Stack\(Average\(size=2, inner=None\), Plain\(...\)\)\), or make its class a data"),
        (lambda m: rnn.VanillaRNN(2, 3, activation=functools.partial(jnp.clip, min=-1, max=1)),
         r"does not print as its constructor call, .*model=VanillaRNN\(2, 3, activation=functools.partial\(\.\.\., "
         r"min=-1, max=1\)\)\), or make its class a dataclass of literals, models and functions of .* \(no partial\)$"),
        (lambda m: rnn.Stack(m.Several(2, activation=lambda z: z)),
         r"<lambda>.* cannot be imported, as it is a lambda, got None; .*activation=\.\.\., limit=inf\)\)\)$"),
        (lambda m: m.Several(2, activation=local()),
         r"local.<locals>.inner of test_rebuild cannot be imported, as it was defined inside a function, got None; .*"
         r"activation=inner, limit=inf"),
        (lambda m: rnn.VanillaRNN(2, 3, activation=m.Sharp(2.0)),
         r"Sharp of my_package.cells is not called, as it has no method init, as models have, got None; "
         r"load_model\('.*', model=VanillaRNN\(2, 3, activation=Sharp\(slope=2.0\)\)\)$"),
        (lambda m: rnn.Stack(m.GRU(2), rnn.GRU(2, 3)), "cannot be rebuilt: several things print as GRU, got None; "),
    ],
)  # fmt: skip
def test_a_part_that_cannot_be_rebuilt_is_named(build, words, cells, tmp_path):
    """With its module, and the call of load_model to use."""
    model = build(cells)
    params = saved(tmp_path / "run", model)
    with pytest.raises(ValueError, match=words):
        load_model(tmp_path / "run")
    assert same_bits(load_model(tmp_path / "run", model=model)[1], params)


def test_a_module_that_is_gone_is_named(cells, tmp_path):
    """Also one whose import fails, that no longer has the class, or has a different one of that name."""
    saved(tmp_path / "run", cells.Average(2))
    place, shorter = tmp_path / "my_package" / "cells.py", "lambda self: f'Average({self.size})'"
    for text, words in (
        (None, r"cells cannot be imported \(ModuleNotFoundError: No module named .*; is its folder on sys.path\?\)"),
        ("1 / 0", r"Average of my_package.cells cannot be imported \(ZeroDivisionError"),
        ("Mean = 1", r"Average of my_package.cells cannot be imported \(AttributeError"),
        (CELLS.replace("size: int", "width: int"), r"a class has other arguments today \(.*'size'"),
        (CELLS.replace("    size: int", f"    size: int\n    __repr__ = {shorter}"), r"it is Average\(2\) today"),
    ):
        place.unlink() if text is None else place.write_text(text)
        for cache in (tmp_path / "my_package").glob("__pycache__/*"):
            cache.unlink()
        forget()
        with pytest.raises(ValueError, match=words + r".*; load_model\(.*model=Average\(size=2, inner=None\)\)$"):
            load_model(tmp_path / "run")


def test_a_class_of_main_is_refused(monkeypatch, cells, tmp_path):
    """Another script has another __main__, which may have another class of that name."""
    monkeypatch.setattr(cells.Average, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Average", cells.Average, raising=False)
    saved(tmp_path / "run", cells.Average(8))
    with pytest.raises(
        ValueError,
        match=r"Average of __main__ cannot be imported, as it was defined in the program or notebook that trained it, "
        r"not in a module, got None; load_model\(.*, model=Average\(size=8, inner=None\)\)$",
    ):
        load_model(tmp_path / "run")


def test_the_call_that_earlier_versions_stored(cells, tmp_path, monkeypatch):
    """Functions as a dataclass prints them: such a run is resumed; loaded with model=."""
    model = cells.Several(2, activation=cells.bent)
    with monkeypatch.context() as earlier:
        earlier.setattr(learning.checkpoints, "constructor_call", lambda m: re.sub(" at 0x[0-9a-f]+", "", repr(m)))
        params = saved(tmp_path, model)
    state = learning.train_state(params, optax.sgd(0.1))
    assert same_bits(Checkpoints(tmp_path, model).restore(state).state.params, params)
    with pytest.raises(ValueError, match=r"activation=<function bent>.* does not print .*activation=\.\.\., limit=inf"):
        load_model(tmp_path)
    assert same_bits(load_model(tmp_path, model=model)[1], params)
    with pytest.raises(ValueError, match=r"expected a checkpoint of .*jax.nn.tanh.*, got .*bent"):
        Checkpoints(tmp_path, cells.Several(2)).restore(state)


@pytest.mark.parametrize(
    ("call", "home"),
    [
        ("Popen(['touch', 'HERE'])", ["subprocess", "Popen"]),
        ("system('touch HERE')", ["os", "system"]),
        ("GRU(system('touch HERE'), 3)", ["os", "system"]),
        ("os.system('touch HERE')", None),
        ("jax.numpy.save('HERE', 1)", None),
    ],
)
def test_nothing_else_is_called(call, home, tmp_path):
    """A malicious checkpoint: neither a class without a method init nor a function is called."""
    saved(tmp_path / "run", rnn.GRU(2, 3))
    metadata = tmp_path / "run" / "step-000000000" / "metadata.json"
    content = json.loads(metadata.read_text())
    here = tmp_path / "here"
    content["model"], name = call.replace("HERE", str(here)), re.search(r"(\w+)\((?=[\['])", call)[1]
    content["parts"] = {} if home is None else {name: home}
    metadata.write_text(json.dumps(content))
    sums = metadata.with_name("sha256.json")
    sums.write_text(json.dumps(learning.checkpoints._checksums(metadata.parent)))
    with pytest.raises(ValueError, match="cannot be rebuilt"):
        load_model(tmp_path / "run")
    assert not list(tmp_path.glob("here*"))


def test_a_checkpoint_without_modules_is_read(tmp_path, monkeypatch):
    """A model of jaxrnn needs none."""
    monkeypatch.setattr(learning.checkpoints, "class_modules", lambda model: {})
    saved(tmp_path, rnn.GRU(2, 3))
    assert load_model(tmp_path)[0] == rnn.GRU(2, 3)


def test_from_repr_takes_user_defined_names():
    """A function of jax prints under its public name and needs none."""
    own = types.SimpleNamespace(step=lambda z: z)
    own.step.__module__, own.step.__qualname__ = "mine", "step"
    model = rnn.VanillaRNN(2, 3, activation=own.step)
    assert rnn.from_repr(repr(model), {"mine.step": own.step}) == model
    for function, name in ((jnp.sin, "jax.numpy.sin"), (jax.nn.silu, "jax.nn.silu"), (jax.lax.tanh, "jax.lax.tanh")):
        model = rnn.VanillaRNN(2, 3, activation=function)
        assert repr(model) == f"VanillaRNN(2, 3, activation={name})"
        assert rnn.from_repr(repr(model)) == model
