"""Captions: images agree with their captions, training and test share no scan, and the script runs."""

import json

import numpy as np
import pytest

pytest.importorskip("sklearn")


@pytest.fixture
def script(load_script):
    return load_script("caption_digits")


@pytest.mark.slow
def test_runs(run_script, tmp_path):
    """To the last line and the plot."""
    printed = run_script("caption_digits", "--steps", 2, "--batch", 4, "--size", 8, "--units", 8)
    result = json.loads(printed.splitlines()[-1])
    assert (result["script"], result["steps"]) == ("caption_digits", 2)
    assert 0 <= result["exact"] < 0.5
    assert (tmp_path / "runs/caption_digits/captions.png").stat().st_size > 20_000


def test_images_agree_with_their_captions(script):
    """Each slot has one whole scan of the digit in the caption; the rest of the image is 0."""
    scans = np.stack([np.full((8, 8), digit + 1.0) for digit in range(10)])
    made = script.make_images(scans, np.arange(10), 200, np.random.default_rng(0))
    assert set(made["lengths"]) == {3, 4, 5, 6, 7}
    for image, tokens, length in zip(made["images"], made["tokens"].T, made["lengths"]):
        digits = [int(token) for token in tokens[1 : length - 1]]
        assert script.sentence(tokens[1:]) == " ".join(script.NAMES[digit] for digit in digits)
        slots = [image[:, n : n + script.SLOT] for n in range(0, image.shape[1], script.SLOT)]
        assert [slot.max() - 1 for slot in slots[: len(digits)]] == digits
        assert [slot.sum() for slot in slots] == [64 * (d + 1) for d in digits] + [0] * (5 - len(digits))


def test_training_and_test_share_no_scan(script):
    """A batch is a function of its number."""
    (training, labels), (test, _) = script.load_scans(0)
    assert len(training) + len(test) == 1797
    known = {scan.tobytes() for scan in training}
    assert not any(scan.tobytes() in known for scan in test)
    batches = script.RandomImages(training, labels, 3, 1)
    assert (batches[5]["images"] == batches[5]["images"]).all()
    assert (batches[5]["images"] != batches[6]["images"]).any()
