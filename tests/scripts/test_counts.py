"""Scripts refuse counts of nothing in words of their own, before anything is read or trained."""

import pytest

COUNTS = [
    "char_lm --steps 0",
    "char_rnn --data FILE --epochs 0",
    "classify_names --epochs 0",
    "classify_names --quick --batch -1",
    "fill_in_the_blank --word-steps 0",
    "fill_in_the_blank --stride 0",
    "forecast --steps 0",
    "kill_test --kills 0",
    "loop_cost --rounds 0",
    "polyphonic_music --quick --batch 0",
    "polyphonic_music --quick --units 0",
    "sentiment --epochs 0",
    "sentiment --quick --members 0",
    "temporal_order --updates 0",
    "translate --epochs 0",
    "word_lm --data FILE --epochs 0",
]


@pytest.mark.parametrize("words", COUNTS)
def test_refused(run_script, capsys, words):
    """One line that names the option."""
    with pytest.raises(SystemExit):
        run_script(*words.split())
    *_, option, count = words.split()
    told = capsys.readouterr().err
    assert f"{option}: expected a number above 0, got {count}" in told.splitlines()[-1]
