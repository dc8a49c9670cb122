"""Captions: pictures hold what their captions say, no scan of the test is trained on, and the script runs."""

import json

import numpy as np
import pytest

pytest.importorskip("sklearn")


@pytest.fixture
def script(load_script):
    return load_script("caption_digits")


@pytest.mark.slow
def test_runs(run_script, tmp_path):
    """To the last line, and draws its sheet."""
    constructor_call = run_script("caption_digits", "--steps", 2, "--batch", 4, "--size", 8, "--units", 8)
    result = json.loads(constructor_call.splitlines()[-1])
    assert (result["script"], result["steps"]) == ("caption_digits", 2)
    assert 0 <= result["exact"] < 0.5
    assert (tmp_path / "runs/caption_digits/captions.png").stat().st_size > 20_000


def test_pictures_hold_what_their_captions_say(script):
    """Each slot holds one scan of the digit that is spelled there, whole; behind the last there is nothing."""
    images = np.stack([np.full((8, 8), digit + 1.0) for digit in range(10)])
    made = script.pictures(images, np.arange(10), 200, np.random.default_rng(0))
    assert set(made["lengths"]) == {3, 4, 5, 6, 7}
    for picture, tokens, length in zip(made["pictures"], made["tokens"].T, made["lengths"]):
        digits = [int(token) for token in tokens[1 : length - 1]]
        assert script.token_sequence(tokens[1:]) == " ".join(script.NAMES[digit] for digit in digits)
        slots = [picture[:, n : n + script.SLOT] for n in range(0, picture.shape[1], script.SLOT)]
        assert [slot.max() - 1 for slot in slots[: len(digits)]] == digits
        assert [slot.sum() for slot in slots] == [64 * (d + 1) for d in digits] + [0] * (5 - len(digits))


def test_unseen_scans_are_unseen(script):
    """Training and test share no scan; a batch is a function of its number."""
    (seen, labels), (unseen, _) = script.scans(0)
    assert len(seen) + len(unseen) == 1797
    known = {scan.tobytes() for scan in seen}
    assert not any(scan.tobytes() in known for scan in unseen)
    fresh = script.Fresh(seen, labels, 3, 1)
    assert (fresh[5]["pictures"] == fresh[5]["pictures"]).all()
    assert (fresh[5]["pictures"] != fresh[6]["pictures"]).any()
