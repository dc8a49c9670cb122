"""Tagger: the sentences and their tags, and the script runs."""

import json
import re

import numpy as np
import pytest

from jaxrnn.data import spans


@pytest.fixture
def script(load_script):
    return load_script("tagger")


@pytest.mark.slow
def test_runs(run_script, tmp_path):
    """To the last line and the plot."""
    size = ["--sentences", 8, "--test", 8, "--batch", 4, "--units", 4, "--steps", 2]
    result = json.loads(run_script("tagger", *size, "--seeds", 2).splitlines()[-1])
    assert len(result["seeds"]) == 2
    assert set(result["f1"]) == {"each by itself", "CRF"}
    assert all(0 <= score < 0.6 for score in result["f1"].values())
    assert (tmp_path / "runs/tagger/tagger.png").stat().st_size > 10_000


def test_sentences_and_their_tags(script):
    """The tagged names are well-formed spans; without them a sentence is one of the forms."""
    letters, tags = script.sentences(60, np.random.default_rng(0))
    forms = {re.sub("{.*?}", "_", form) for form in script.FORMS}
    for ids, tag_ids in zip(letters, tags, strict=True):
        text, names = script.LETTERS.text(ids), script.TAGS.decode(tag_ids)
        found = spans(names, "bio")
        assert sum(span.stop - span.start for span in found) == sum(name != "O" for name in names)
        kinds = [span.kind for span in found]
        for span in reversed(found):
            assert re.fullmatch("[a-z]+n( [a-z]+n)?", text[span.start : span.stop])
            text = f"{text[: span.start]}_{text[span.stop :]}"
        assert text in forms
        assert kinds in [re.findall("{(.*?)}", form) for form in script.FORMS]


def test_no_transition_is_forbidden_that_occurs(script):
    """The CRF gives every sentence a probability."""
    _, tags = script.sentences(60, np.random.default_rng(1))
    pairs = {pair for row in tags for pair in zip([None, *row.tolist()], [*row.tolist(), None], strict=True)}
    assert not pairs & set(script.build(4)["CRF"].crf.forbidden)
