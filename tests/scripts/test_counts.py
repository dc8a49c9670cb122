"""Scripts refuse numbers out of range before anything is read or trained."""

import pytest

COUNTS = [
    "adding --length -5",
    "adding --steps-per-call 0",
    "caption_digits --batch 0",
    "char_lm --steps 0",
    "char_lm --steps 1.5",
    "char_lm --steps many",
    "char_rnn --data FILE --epochs 0",
    "classify_names --epochs 0",
    "classify_names --quick --batch -1",
    "decision --trials 0",
    "fill_in_the_blank --word-steps 0",
    "fill_in_the_blank --stride 0",
    "forecast --steps 0",
    "kill_test --kills 0",
    "kill_test --devices 0",
    "kill_test --processes 0",
    "char_lm --processes 0",
    "loop_cost --rounds 0",
    "polyphonic_music --quick --batch 0",
    "polyphonic_music --quick --units 0",
    "polyphonic_music --quick --compose 0",
    "read_digits --width 0",
    "regularization --characters 0",
    "regularization --seeds 0",
    "sentiment --epochs 0",
    "sentiment --quick --members 0",
    "t_maze --length 0",
    "tagger --seeds 0",
    "temporal_order --updates 0",
    "translate --epochs 0",
    "word_lm --data FILE --epochs 0",
]
OTHERS = {
    "a number above 0": [
        "adding --rate 0",
        "adding --clip nan",
        "benchmark --budget 0",
        "caption_digits --rate -1",
        "char_lm --rate inf",
        "char_lm --clip 0",
        "classify_names --rate 0",
        "fill_in_the_blank --rate nan",
        "forecast --rate 0",
        "polyphonic_music --temperature 0",
        "polyphonic_music --clip -1",
        "sentiment --rate x",
        "t_maze --rate 0",
        "temporal_order --rate nan",
        "translate --rate 0",
        "translate --minutes -1",
    ],
    "a number of at least 0": [
        "adding --enough nan",
        "char_lm --temperature -1",
        "classify_names --decay -1",
        "forecast --decay inf",
        "sentiment --decay nan",
    ],
    "a finite number": ["polyphonic_music --forget-bias nan"],
    "a share of at least 0 and below 1": [
        "char_lm --dropout 1",
        "classify_names --dropout 1.5",
        "polyphonic_music --dropout -0.1",
        "sentiment --dropout 1",
        "sentiment --word-dropout 2",
    ],
    "a whole number of at least 0": ["char_lm --process-id -1"],
    "a probability between 0 and 1": ["translate --teacher-forcing 1.5"],
    "a whole number from 0 to 2147483647": [
        f"{script} --seed {seed}"
        for script, seed in [
            ("adding", -1),
            ("caption_digits", -1),
            ("char_lm", 2**31),  # it would end the run where the first sample is drawn
            ("char_rnn --data FILE", -1),
            ("classify_names", -1),
            ("fill_in_the_blank", -1),
            ("forecast", -1),
            ("kill_test", -1),
            ("loop_cost", -1),
            ("polyphonic_music", 2**31),
            ("sentiment", -1),
            ("temporal_order", 10**20),
            ("translate", 0.5),
            ("word_lm --data FILE", 10**20),
        ]
    ],
}


@pytest.mark.parametrize(
    ("words", "expected"),
    [(words, "a whole number above 0") for words in COUNTS]
    + [(words, expected) for expected, cases in OTHERS.items() for words in cases],
)
def test_refused(refused, words, expected):
    """One line that names the option."""
    name, *args = words.split()
    assert refused(name, *args) == f"argument {args[-2]}: expected {expected}, got {args[-1]}"


def test_nothing_is_clipped(run_script, tmp_path, load_script):
    """An infinite norm is allowed."""
    assert load_script("common").norm("inf") == float("inf")
