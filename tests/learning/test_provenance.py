"""A run is resumed only with the key, metadata and data it was started with."""

import re

import jax
import numpy as np
import optax
import pytest
from runs import KEY, Noise, same_bits, small_loss, small_state

import jaxrnn as rnn
from jaxrnn import learning
from jaxrnn.data import Streams
from jaxrnn.learning import Checkpoints, fit

OPTIMIZER = optax.sgd(0.05)
STEP = learning.train_step(small_loss, OPTIMIZER)
METADATA = {"symbols": ("a", "b"), "rate": 1, "deep": {"nan": float("nan"), "list": [1.5, None]}, 3: "three"}


class Shifted(Noise):
    """Other numbers in the same shapes."""

    def __init__(self, by=0, length=None):
        super().__init__()
        self.by, self.length = by, length

    def __getitem__(self, n):
        return super().__getitem__(n + self.by)


class Sized(Shifted):
    """A source that repeats after ``length`` batches."""

    def __len__(self):
        return self.length


def run(folder, batches=None, steps=4, **options):
    """A short run that saves every second step."""
    options = {"key": KEY, "metadata": METADATA, "save_every": 2, "steps_per_execution": 2, "verbose": False, **options}
    batches = Noise() if batches is None else batches
    return fit(STEP, small_state(OPTIMIZER), batches, steps=steps, checkpoints=Checkpoints(folder, rnn.GRU(3, 3)),
               **options)  # fmt: skip


OTHERS = {
    "data": (
        {"batches": Shifted(1)},
        r"batches[0]: expected 'float32[2, 3] of SHA-256 \w{16}' as in the run in {folder}, "
        r"got 'float32[2, 3] of SHA-256 \w{16}'; .*",
    ),
    "shape": (
        {"batches": Noise(rows=lambda n: 5)},
        r"batches[0]: expected 'float32[2, 3] .*, got 'float32[5, 3] .*",
    ),
    "length": ({"batches": Sized(0, 9)}, r"len(batches): expected nothing as in .*, got 9; .*"),
    "key": ({"key": jax.random.key(8)}, r"key['numbers'][1]: expected 7 as in .*, got 8; .*"),
    "generator": (
        {"key": jax.random.key(7, impl="rbg")},
        r"key['implementation']: expected 'threefry2x32' as in .*, got 'rbg'; .*",
    ),
    "symbol": (
        {"metadata": METADATA | {"symbols": "ac"}},
        r"metadata['symbols']: expected ['a', 'b'] as in .*, got 'ac'; .*",
    ),
    "symbols": (
        {"metadata": METADATA | {"symbols": ("a", "c")}},
        r"metadata['symbols'][1]: expected 'b' as in .*, got 'c'; .*",
    ),
    "missing entry": (
        {"metadata": {name: METADATA[name] for name in ("symbols", "deep", 3)}},
        r"metadata['rate']: expected 1 as in .*, got nothing; .*",
    ),
    "no metadata": ({"metadata": None}, r"metadata['symbols']: expected ['a', 'b'] as in .*, got nothing; .*"),
    "new entry": ({"metadata": METADATA | {"new": 0}}, r"metadata['new']: expected nothing as in .*, got 0; .*"),
    "deep": (
        {"metadata": METADATA | {"deep": {"nan": float("nan"), "list": [1.5, None, 2]}}},
        r"metadata['deep']['list'][2]: expected nothing as in .*, got 2; .*",
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a run of four steps."""
    folder = tmp_path_factory.mktemp("run")
    run(folder)
    return folder


@pytest.mark.parametrize("name", OTHERS)
def test_another_origin_is_refused(name, made):
    """The message names both values and the fix; nothing is written."""
    options, words = OTHERS[name]
    words = re.sub(r"[\[\]()]", r"\\\g<0>", words).replace("{folder}", re.escape(str(made)))
    before = sorted(made.iterdir())
    with pytest.raises(ValueError, match=f"^{words}$") as caught:
        run(made, steps=6, resume=True, **options)
    assert 'resume="anyway"' in str(caught.value)
    assert sorted(made.iterdir()) == before


def test_long_values_are_shown_where_they_differ(tmp_path):
    """Two long texts with the same beginning."""
    run(tmp_path, metadata={"text": 200 * "x" + "a" + 200 * "y"})
    with pytest.raises(ValueError, match=r"expected …x{20}ay{50,80}… as in .*, got …x{20}by{50,80}…;"):
        run(tmp_path, metadata={"text": 200 * "x" + "b" + 200 * "y"}, resume=True)


@pytest.mark.slow
def test_metadata_is_compared_as_json(tmp_path):
    """Tuples equal lists, keys are strings, 1 equals 1.0; options that are not part of the origin may change."""
    run(tmp_path, Sized(0, 3))
    same = {"symbols": ["a", "b"], "rate": 1.0, "deep": {"list": (1.5, None), "nan": float("nan")}, "3": "three"}
    end = run(tmp_path, Sized(0, 3), steps=7, metadata=same, resume=True, save_every=3, steps_per_execution=1,
              log=tmp_path / "log", evaluate=lambda params, step: {"loss": 1.0}, evaluate_every=2,
              patience=9)  # fmt: skip
    assert same_bits(end.state, run(tmp_path / "whole", steps=7).state)


def test_a_list_may_have_grown(tmp_path):
    """A list may be longer when the run is resumed for more steps."""
    batches = [Noise()[n] for n in range(6)]
    run(tmp_path, batches[:4])
    assert same_bits(run(tmp_path, batches, 6, resume=True).state, run(tmp_path / "whole", steps=6).state)


def test_resume_anyway(tmp_path):
    """The run continues with another origin, which is stored from then on."""
    run(tmp_path)
    other = {"batches": Shifted(5), "key": jax.random.key(8), "metadata": {"rate": 2}}
    end = run(tmp_path, steps=6, resume="anyway", **other)
    state = run(tmp_path / "whole").state
    for n in (4, 5):
        state, _ = jax.jit(STEP)(state, Shifted(5)[n], jax.random.fold_in(other["key"], n))
    assert same_bits(end.state, state)
    run(tmp_path, steps=8, resume=True, **other)
    with pytest.raises(ValueError, match=r"^metadata\['rate'\]: expected 2 as"):
        run(tmp_path, steps=8, resume=True)


def test_another_text_of_the_same_length(tmp_path):
    """The streams of a language model: same shapes, same model, other tokens."""
    model, optimizer = rnn.Stack(rnn.Embedding(5, 2), rnn.VanillaRNN(2, 2), rnn.Linear(2, 5)), optax.sgd(0.1)

    def go(seed, folder=tmp_path, **options):
        streams = Streams(np.random.default_rng(seed).integers(0, 5, 65), 2, 4)
        state = learning.train_state(model.init(KEY), optimizer, model.initial_state((2,)))
        return fit(learning.train_step(learning.stream_loss(model), optimizer), state, streams, key=KEY, verbose=False,
                   checkpoints=Checkpoints(folder, model), steps_per_execution=2, **options)  # fmt: skip

    go(0, steps=2)
    with pytest.raises(ValueError, match=r"batches\[0\].inputs: expected 'int64\[4, 2\] of SHA-256"):
        go(1, steps=4, resume=True)
    assert same_bits(go(0, steps=4, resume=True).state, go(0, tmp_path / "whole", steps=4).state)
