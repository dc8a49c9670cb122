"""Coloured texts as HTML, and plots with tokens on their axes: values drawn, escapes, refusals."""

import itertools
import re
from xml.etree import ElementTree

import jax.numpy as jnp
import numpy as np
import pytest
from figures import agg_backend, drawn, legend, matplotlib  # noqa: F401  (a fixture)
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from jaxrnn import plots
from jaxrnn.gradients import Units
from jaxrnn.plots.drawing import visible

WORDS = ["a", "very", "<b>", "dull", "$film$"]


def spans(page):
    """The coloured tokens of a text: their background, colour and number."""
    root = ElementTree.fromstring(f"<div>{page._repr_html_()}</div>")
    found = root.findall("./figure/div/span")
    styles = [dict(part.split(":") for part in span.get("style").split(";")) for span in found]
    return [(span.text, style["background"], style["color"], span.get("title")) for span, style in zip(found, styles)]


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_colours_of_a_text():
    """Blue, white and red, linear in the number; one token, one number; ink that can be read."""
    page = plots.text("abcd", np.array([-2.0, 0, 1, 2]), quantity="c of unit 3")
    text, colour, ink, number = zip(*spans(page))
    assert text == tuple("abcd")
    assert colour[0].upper() == plots.BLUE
    assert colour[1] == "#ffffff"
    assert colour[3].upper() == plots.RED
    halfway = (255 + np.array([0xD5, 0x5E, 0x00])) / 2
    np.testing.assert_allclose(list(bytes.fromhex(colour[2][1:])), halfway, atol=0.5)
    assert ink == ("rgb(255,255,255)", *["rgb(0,0,0)"] * 3)
    assert number == ("-2", "0", "1", "2")
    legend = ElementTree.fromstring(page.html).find("figcaption")
    assert "".join(legend.itertext()) == "c of unit 3: −22"
    assert f"linear-gradient(to right,{plots.BLUE},#FFFFFF,{plots.RED})" in page.html
    assert repr(page) == "<coloured text: c of unit 3>"


def test_scales():
    """One side where all numbers are there; with a limit both, and full colours beyond it."""
    assert [s[1] for s in spans(plots.text("ab", [0.0, 3]))] == ["#ffffff", plots.RED.lower()]
    assert [s[1] for s in spans(plots.text("ab", [0.0, -3]))] == ["#ffffff", plots.BLUE.lower()]
    gates = spans(plots.text("abc", [0.0, 0.5, 1.5], centre=0.5, limit=0.5))
    assert [s[1] for s in gates] == [plots.BLUE.lower(), "#ffffff", plots.RED.lower()]
    assert {s[1] for s in spans(plots.text("ab", [0, 0]))} == {"#ffffff"}


def contrast(colour, ink):
    """The contrast ratio of the guidelines for accessible pages (WCAG)."""

    def luminance(rgb):
        c = np.array(rgb) / 255
        return np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([luminance(list(bytes.fromhex(colour[1:]))), luminance([int(ink[4:].split(",")[0])] * 3)])
    return (high + 0.05) / (low + 0.05)


def test_every_colour_can_be_read():
    """The contrast of ink and ground is 4.5 or more."""
    for _, colour, ink, _ in spans(plots.text("a" * 101, np.linspace(-1, 1, 101))):
        assert contrast(colour, ink) >= 4.5


def test_white_space_can_be_seen():
    """Marks for spaces, ends of lines and tabs; lines break there; words are separated."""
    page = plots.text("a \n\t\x00", np.arange(5))
    assert [s[0] for s in spans(page)] == ["a", "·", "↵", "⇥", "␀"]
    assert re.search("·</span><wbr/>", page.html)
    assert re.search("↵</span>\n", page.html)
    assert "</span> <span" in plots.text(WORDS, np.arange(5)).html
    assert "</span>|<span" in plots.text(WORDS, np.arange(5), between="|").html
    assert "</span> <span" not in plots.text("a b", np.arange(3)).html


def test_signs_that_cannot_be_seen():
    """Controls of the direction of writing, empty tokens, halves of characters; the page can be saved."""
    hidden = ["\u202e", "\u2066a", "\u200f", "\u2028", "\x85", "\u200b", "", "\ud83d", "a"]
    page = plots.text(hidden, np.arange(9), quantity="half \ud83d")
    assert [s[0] for s in spans(page)] == [
        "‹202E›", "‹2066›a", "‹200F›", "‹2028›", "‹0085›", "‹200B›", "∅", "\ufffd", "a"
    ]  # fmt: skip


def test_save(tmp_path):
    """As UTF-8, whatever is in it."""
    page = plots.text(["\ud83d", "ä", "貓"], np.arange(3), quantity="half \ud83d")
    page.save(tmp_path / "a.HTML")
    assert "half ?" in (tmp_path / "a.HTML").read_text("utf-8")
    assert "貓" in (tmp_path / "a.HTML").read_text("utf-8")
    refuses("ValueError path: expected a path that ends with .html, got x.png", lambda: page.save("x.png"))


CHARACTERS = st.characters(codec="utf-8", exclude_characters="\ufffe\uffff")  # which XML does not have


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(CHARACTERS, max_size=5), min_size=1, max_size=5))
def test_any_text_is_escaped(tokens):
    """The page is well-formed whatever the tokens are, and shows them."""
    page = plots.text(tokens, np.arange(len(tokens)), quantity="<&quantity>")
    assert [span[0] or "" for span in spans(page)] == [visible(token) for token in tokens]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page.html)


def test_files(tmp_path):
    """The page is a document with its text in it; several rows have a figure each."""
    page = plots.text("ä<", {"i": [0, 1], "f & o": [1, 0]})
    page.save(tmp_path / "gates.html")
    read = (tmp_path / "gates.html").read_text("utf-8")
    assert read == str(page)
    assert read.startswith("<!DOCTYPE html>\n<html")
    root = ElementTree.fromstring(read.partition("\n")[2])
    assert root.find("head/title").text == "i, f & o"
    assert [f.find("figcaption").text for f in root.iter("figure")] == ["i: ", "f & o: "]
    assert [s.text for s in root.findall("body/figure/div/span")] == ["ä", "<"] * 2


def test_activations():
    """One row a unit, one column a token; the text is on the axis, whatever it holds."""
    values = np.random.default_rng(0).normal(size=(5, 3))
    axes = drawn(plots.activations(WORDS, jnp.asarray(values)))
    image = axes.images[0]
    np.testing.assert_allclose(image.get_array(), values.T, rtol=1e-6)
    reach = np.abs(values).max()
    np.testing.assert_allclose(image.get_clim(), (-reach, reach), rtol=1e-6)
    assert labels(axes.xaxis) == WORDS
    axes = drawn(
        plots.activations("a b\n", {"i": np.ones(4), "f": np.zeros(4)}, centre=0.5, limit=0.5, quantity="gate")
    )
    assert labels(axes.xaxis) == ["a", "·", "b", "↵"]
    assert labels(axes.yaxis) == ["i", "f"]
    assert axes.images[0].get_clim() == (0, 1)
    assert axes.figure.axes[1].get_ylabel() == "gate"
    assert drawn(plots.activations(None, values)).get_xlabel() == "step"


def test_labels_do_not_overlap():
    """Of 150 characters, and of 40 words."""
    for tokens in ("the quick brown fox " * 7, ["elephants"] * 40):
        axes = drawn(plots.activations(tokens, np.ones((len(tokens), 3))))
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert all(a.x1 <= b.x0 + 0.5 for a, b in itertools.pairwise(boxes))


def test_long_tokens():
    """They are shortened, and a new figure has room for them; a given one has its own size."""
    tokens = ["a", "x" * 200, "b"]
    for axes in (
        plots.activations(tokens, np.ones((3, 1))),
        plots.saliency(tokens, np.ones(3)),
        plots.attention(tokens, tokens, np.ones((3, 3))),
    ):
        drawn(axes)
        for axis in (axes.xaxis, axes.yaxis) if axes.get_xlabel() == "source" else (axes.xaxis,):
            assert labels(axis) == ["a", "x" * 23 + "…", "b"]
            boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
            assert min(box.y0 for box in boxes) >= 0
            assert min(box.x0 for box in boxes) >= 0
            assert max(box.y1 for box in boxes) <= axes.figure.bbox.y1
        assert axes.get_window_extent().height > 50


def test_too_many_tokens():
    """Numbers, where tokens would be too small to be read."""
    many = "the quick brown fox " * 25
    assert drawn(plots.saliency(many, np.ones(500))).get_xlabel() == "token number"
    axes = drawn(plots.activations(["word"] * 300, np.ones((300, 2))))
    assert axes.get_xlabel() == "token number"
    assert [int(label.replace("−", "-")) for label in labels(axes.xaxis)] == axes.get_xticks().tolist()
    assert len(axes.get_xticks()) < 20
    axes = drawn(plots.attention(many, "ab", np.ones((2, 500))))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("source, token number", "target")
    assert drawn(plots.activations("ab", np.ones((2, 2)))).get_xlabel() == "text"


def test_other_writing_systems(monkeypatch):
    """A character that the fixed-width font does not have is drawn in the fonts of the user."""
    axes = drawn(plots.activations("אב", np.ones((2, 1))))  # which only the other font of matplotlib has
    monkeypatch.setitem(matplotlib.rcParams, "font.family", ["Noto Sans", "sans-serif"])
    axes = plots.saliency(["貓", "a"], np.ones(2))
    assert axes.get_xticklabels()[0].get_fontfamily() == ["monospace", "Noto Sans", "sans-serif"]


def test_saliency():
    """A bar a token, in the colour of its sign."""
    axes = drawn(plots.saliency(WORDS, [0.0, 1, -2, 3, 0.5]))
    heights = {round(bar.get_x() + 0.4): bar.get_height() for bars in axes.containers for bar in bars}
    assert heights == {1: 1, 2: -2, 3: 3, 4: 0.5}
    assert legend(axes) == ["raises the output", "lowers the output"]
    assert labels(axes.xaxis) == WORDS
    assert drawn(plots.saliency("ab", [1, 2], quantity="norm")).get_legend() is None


def test_attention():
    """Weights with the target down and the source across."""
    weights = np.array([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]])
    axes = drawn(plots.attention(["das", "Haus", "."], ["house", "$"], weights))
    np.testing.assert_allclose(axes.images[0].get_array(), weights)
    assert labels(axes.xaxis) == ["das", "Haus", "."]
    assert labels(axes.yaxis) == ["house", "$"]
    assert axes.images[0].get_clim() == (0, 0.7)
    assert axes.figure.axes[1].get_ylabel() == "attention weight"


@pytest.mark.parametrize(("auc", "middle"), [(np.array([0.9, 0.2, 0.5]), 0.5), (None, 0)])
def test_units(auc, middle):
    """The best units first, from the middle of the scale."""
    correlation = np.array([0.8, -0.6, 0.0])
    numbers = correlation if auc is None else auc
    axes = drawn(plots.units(Units(np.array([0, 1, 2]), np.abs(correlation), correlation, auc), most=2))
    assert labels(axes.yaxis) == ["unit 0", "unit 1"]
    bars = axes.containers[0]
    np.testing.assert_allclose([bar.get_x() + bar.get_width() for bar in bars], numbers[:2])
    np.testing.assert_allclose([bar.get_x() for bar in bars], middle)
    assert [note.get_text() for note in axes.texts] == [f"{n:.2f}" for n in numbers[:2]]


def test_refusals():
    """The message names the argument."""
    for message, call in [
        ("ValueError values: expected numbers [2], one a token, got float64[3]", lambda: plots.text("ab", np.ones(3))),
        ("ValueError values['h']: expected numbers [2], one a token, got float64[2, 1]",
         lambda: plots.text("ab", {"h": np.ones((2, 1))})),
        ("TypeError tokens: expected a string, or a list of them, got list of 2; vocabulary.decode(ids)…",
         lambda: plots.text([3, 4], np.ones(2))),
        ("TypeError tokens: expected a string, or a list of them, got int32[2]…",
         lambda: plots.saliency(jnp.arange(2), np.ones(2))),
        ("ValueError tokens: expected one token at least, got none", lambda: plots.text("", [])),
        ("ValueError values: expected finite numbers, got 1 that are not, of 1", lambda: plots.text("a", [np.nan])),
        ("ValueError limit: expected a number above 0, got 0; it is…", lambda: plots.text("a", [1.0], limit=0)),
        ("TypeError centre: expected a number, got str 0", lambda: plots.text("a", [1.0], centre="0")),
        ("TypeError between: expected a string or None, got int 1", lambda: plots.text("a", [1.0], between=1)),
        ("ValueError values: expected numbers [2, H], a row a token, got float64[2, 3, 4]; of a batch…",
         lambda: plots.activations("ab", np.ones((2, 3, 4)))),
        ("ValueError values: expected numbers [T, H], a row a token, got float64[2]…",
         lambda: plots.activations(None, np.ones(2))),
        ("ValueError values: expected one row of numbers at least, got none", lambda: plots.text("ab", {})),
        ("ValueError values: expected one row at least, got none", lambda: plots.activations("ab", {})),
        ("ValueError values: expected rows [T] of one length, got float64[2], float64[3]",
         lambda: plots.activations("ab", {"i": np.ones(2), "f": np.ones(3)})),
        ("ValueError weights: expected [1, 2], target by source, got float64[2, 1]; of a batch…",
         lambda: plots.attention("ab", "c", np.ones((2, 1)))),
        ("TypeError found: expected what gradients.find_units gives, got float64[2]",
         lambda: plots.units(np.ones(2))),
        ("ValueError most: expected a positive int, got 0",
         lambda: plots.units(Units(np.arange(2), np.ones(2), np.ones(2), None), most=0)),
    ]:  # fmt: skip
        refuses(message, call)
